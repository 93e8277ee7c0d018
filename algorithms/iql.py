"""MA-IQL: implicit Q-learning for every agent, with centralized critics and decentralized policies (Kostrikov et al., ICLR 2022).

This multi-agent form is a baseline of CFCQL: agents share the team's reward, critics see the state.

    L(V_i)  = E_D |expectile - 1[A_i < 0]| A_i^2,    A_i = min_k Q_i^k(s, o_i, a_i) - V_i(s, o_i)                       (1)
    L(Q_i)  = 1/2 sum_{k=1,2} E_D( r + gamma (1 - terminal) V_i(s', o_i') - Q_i^k(s, o_i, a_i) )^2                      (2)
    L(pi_i) = - E_D[ min(exp(beta A_i), 100) log pi_i(a_i|o_i) ]                                                        (3)

Q in (1) and (3) is the target network. V in (2) and A_i in (3) are from before the step of (1).

Deviations from the code (github.com/thu-rllab/CFCQL at 3441019, baseline_iql):
 1. Each of the two critics has its own output layer; in the code the second critic uses the output layer of the first.
 2. The learning rate is constant. The code's cosine schedule has a period of ten million updates, so its rate is nearly constant too.
 3. Policies do not see their last action beside the observation. All networks have one width (code: agents 64, critics 256).
Checked: losses against plain numpy (tests/algorithms/test_equations.py); beta = 0 is BC (tests/algorithms/test_limits.py).
"""

import math
from dataclasses import dataclass
from functools import partial

from torch import Tensor

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean, state_and_obs
from inspo_benchmark.learning.config import Valued
from inspo_benchmark.learning.nets import AgentNet, Critic

LOG_MAX_WEIGHT = math.log(100.0)  # cap of the exponent in (3)


def expectile_loss(x: Tensor, expectile: float) -> Tensor:
    """|expectile - 1[x < 0]| x^2, the asymmetric squared error of (1)."""
    return (expectile - (x < 0).to(x.dtype)).abs() * x**2


@ALGORITHMS.register("iql")
class IQL(Algorithm):
    paper = "MA-IQL (Kostrikov et al. 2022, ICLR, as in CFCQL's code)"

    @dataclass(frozen=True)
    class Config(Valued):
        share_params: bool = True  # one network that gets the agent's index, instead of one per agent
        expectile: float = 0.7  # expectile of the data's Q-values that V fits; near 1: their maximum
        beta: float = 3.0  # inverse temperature of the policy's weights

        def __post_init__(self):
            super().__post_init__()
            if not (0 < self.expectile < 1 and self.beta >= 0):
                raise UserError("expectile must lie in (0, 1), and beta must not be negative")

    PAPER = {  # the code's config/algs/baseline_iql.yaml: whole episodes in batches of 128
        "2s3z-*": dict(network="gru", seq_len=120, num_updates=1500),
        "3s_vs_5z-*": dict(network="gru", seq_len=250, num_updates=500),
        "5m_vs_6m-*": dict(network="gru", seq_len=70, num_updates=2800),
        "6h_vs_8z-*": dict(network="gru", seq_len=150, num_updates=1850),
    }
    TUNED = {  # gamma = 0 where actions do not change the state
        "mujoco": dict(beta=0.3),
        "xor-*": dict(gamma=0.0, batch_size=64, num_updates=1000),
        "mne*": dict(gamma=0.0, num_updates=1000),
        "bridge-*": dict(batch_size=32, tau=0.02, num_updates=3000),
    }

    def nets(self):
        c = self.cfg
        spec = self.spec
        seen = spec.state_dim + spec.obs_dim
        critic = partial(Critic, self.space, spec.num_agents, seen, c.hidden_dim, c.share_params)
        return dict(
            pi=AgentNet(spec.num_agents, spec.obs_dim, c.hidden_dim, self.space.params_dim, c.share_params, c.network),
            q1=critic(),
            q2=critic(),
            v=AgentNet(spec.num_agents, seen, c.hidden_dim, 1, c.share_params),
        )

    def q(self, f, b):  # both critics, [B, L, N] each
        x = state_and_obs(b.now)
        a = b.now.actions.unsqueeze(3)  # one candidate per agent
        return f.q1(x, a)[..., 0], f.q2(x, a)[..., 0]

    def v(self, f, x):  # V_i(s, o_i) at the rows x, [B, L, N]
        return f.v(state_and_obs(x))[..., 0]

    def value_loss(self, on, tg, b, q):
        advantage = q - self.v(on, b.now)
        loss = expectile_loss(advantage, self.cfg.expectile)
        return masked_mean(b.mask[..., None], loss)  # (1)

    def critic_loss(self, on, tg, b, v_next):
        mask = b.mask[..., None]
        live = 1 - b.terminated[..., None]
        y = b.rewards[..., None] + self.cfg.gamma * live * v_next
        q1, q2 = self.q(on, b)
        error = masked_mean(mask, (y - q1) ** 2) + masked_mean(mask, (y - q2) ** 2)
        return error / 2  # (2)

    def policy_loss(self, on, tg, b, advantage):
        log_w = self.cfg.beta * advantage
        w = log_w.clamp(max=LOG_MAX_WEIGHT).exp()
        log_pi = self.space.log_prob(on.pi(b.now.obs), b.now.actions, b.now.avail)
        return -masked_mean(b.mask[..., None], w * log_pi)  # (3)

    def update(self, s, b, d):
        on = self.online(s)
        q1, q2 = self.q(self.targets(s), b)
        q = q1.minimum(q2)
        v = self.v(on, b.now)
        v_next = self.v(on, b.next)
        s, loss_value = self.gradient_step(s, "v", self.value_loss, b, q)
        s, loss_critic = self.gradient_step(s, "q1 q2", self.critic_loss, b, v_next)
        s = self.update_targets(s, "q1 q2")
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b, q - v)
        return s, dict(loss_value=loss_value, loss_critic=loss_critic, loss_policy=loss_policy)
