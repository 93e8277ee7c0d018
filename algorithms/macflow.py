"""MAC-Flow: one-step policies between a flow that clones joint actions and a critic (Lee et al., ICLR 2026).

The teacher T, the policies mu_i and their imitation of the teacher are those of flow BC (`flow_bc.py`, equations 1 to 3). A critic that is
a sum over agents pulls the policies towards high values; alpha holds them at the teacher:

    Q^k_tot = sum_i Q^k_i(o_i, a_i),    k = 1, 2                                                                        (4)
    v      = 1/2 sum_k Q'^k_tot(o', mu(o', z')),    Q' the target networks                                              (5)
    L(Q)   = 1/2 sum_k E_D( r + gamma (1 - terminal) v - Q^k_tot(o, a) )^2                                              (6)
    L(up)  = - lambda E_D[ Q_avg ],    Q_avg = 1/(2N) sum_k Q^k_tot(o, mu(o, z)),    lambda = 1 / E_D|Q_avg|            (7)
    L(mu)  = alpha L(distillation) + L(up)                                                                              (8)

In (7) gradients go through the actions to mu alone, and none where an action is clipped. For discrete actions Q(o, mu(o, z)) is the mean of
Q under the softmax of mu's logits over available actions, in (5) and in (7). The critic steps first, then the teacher, then the policies.

`improvement = "argmax"` is the published code for discrete actions: Q of the best action of the logits, whose gradient is zero. The
method is then flow BC, and its critic has no influence.

Deviations from the code (github.com/DongsuLeeTech/mac-flow at 6245080; discrete: a copy, github.com/jinnessism/FlowMARL at 19c9de0),
besides those of flow BC:
 1. Q_tot is the sum over agents, and the team's reward counts once. The code averages continuous critics. It sums discrete ones with one
    copy of the reward per agent, and squares the error of both critics' mean.
 2. Discrete actions: expectations in (5) and (7), see above; the code has lambda = 1.
 3. Three steps with separate optimizers, each clipped at `max_grad_norm` (code: one Adam, no clipping). Targets follow after the step.
 4. A step bootstraps unless it terminates. The code takes the flag of the step after it.
 5. Critics have two hidden layers, as all networks here (code: four, with layer normalization).
Checked: losses against plain numpy (tests/algorithms/test_equations.py); flow BC as alpha goes to infinity, flow Q-learning for one agent,
the zero gradient of the published discrete code, and values on XOR (tests/algorithms/test_macflow.py).
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch

from inspo_benchmark.algorithms.flow_bc import FlowBC
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import masked_mean
from inspo_benchmark.learning.config import UNCLIPPED, Valued
from inspo_benchmark.learning.nets import Critic


@ALGORITHMS.register("macflow")
class MACFlow(FlowBC):
    paper = "MAC-Flow (Lee et al. 2026, ICLR, arXiv 2511.05005)"

    @dataclass(frozen=True)
    class Config(FlowBC.Config, Valued):
        gamma: float = 0.995  # discount
        lr: float = 3e-4  # learning rate
        alpha: float = 3.0  # weight of the distillation
        improvement: Literal["expected", "argmax"] = "expected"  # Q in (5) and (7) for discrete actions; argmax: the published code

        def __post_init__(self):
            super().__post_init__()
            if self.alpha < 0:
                raise UserError("alpha must not be negative")

    PAPER = {  # the codes' defaults for discrete and for continuous actions, alpha as in the README (the default for the latter is 1)
        "smac": dict(lr=3e-4, gamma=0.99, hidden_dim=256, share_params=True, batch_size=32, seq_len=20, num_updates=1_000_000),
        "mujoco": dict(lr=3e-4, hidden_dim=512, flow_dim=512, share_params=True, batch_size=32, seq_len=20, num_updates=500_000),
    }
    OFFICIAL = {  # no gradient has the norm 1e9
        "smac": dict(teacher="own", improvement="argmax", max_grad_norm=UNCLIPPED),
        "mujoco": dict(teacher="own", max_grad_norm=UNCLIPPED),
    }
    TUNED = {  # gamma = 0 where actions do not change the state
        "smac": dict(lr=1e-3, gamma=0.99, alpha=10.0),
        "mujoco": dict(lr=1e-3, flow_dim=256),
        "xor-*": dict(gamma=0.0, alpha=1.0, flow_dim=64, batch_size=64, lr=1e-3),
        "mne*": dict(gamma=0.0, alpha=1.0, flow_dim=64, lr=1e-3),
        "bridge-*": dict(gamma=0.99, alpha=1.0, flow_dim=64, batch_size=64, tau=0.02, lr=1e-3, num_updates=3000),
    }

    def nets(self):
        c = self.cfg
        critic = partial(Critic, self.space, self.spec.num_agents, self.spec.obs_dim, c.hidden_dim, c.share_params, c.network)
        return super().nets() | dict(q1=critic(), q2=critic())

    def noise(self):
        c = self.cfg
        rows = c.seq_len + 1 if c.network == "gru" else c.seq_len
        return super().noise() | dict(next=(c.batch_size, rows, self.spec.num_agents, self.space.action_dim))

    def q(self, f, obs, a):  # both critics at K candidates, [..., N, K] each
        return f.q1(obs, a), f.q2(obs, a)

    def q_of(self, f, obs, h, avail):  # mean of both critics at the actions of the policies with outputs h, [B, L, N]
        if self.space.kind == "continuous":
            a, p = h.clamp(-1, 1).unsqueeze(3), 1.0
        elif self.cfg.improvement == "argmax":
            a, p = self.space.mode(h, avail).unsqueeze(3), 1.0
        else:
            a, p = self.space.all(h), self.space.logp(h, avail).exp()
        q1, q2 = self.q(f, obs, a)
        return (p * (q1 + q2) / 2).sum(-1)

    def target(self, on, tg, b, u):  # [B, L]
        rows = b if self.cfg.network == "gru" else b.next
        h = self.pi(on, rows.obs, torch.special.ndtri(u["next"]))
        v = self.q_of(tg, rows.obs, h, rows.avail).sum(-1)  # (5)
        return b.rewards + self.cfg.gamma * (1 - b.terminated) * v[:, -b.rewards.shape[1] :]  # (6)

    def critic_loss(self, on, tg, b, y):
        errors = [y - q[..., 0].sum(-1) for q in self.q(on, b.now.obs, b.now.actions.unsqueeze(3))]  # (4)
        return (masked_mean(b.mask, errors[0] ** 2) + masked_mean(b.mask, errors[1] ** 2)) / 2  # (6)

    def improvement_loss(self, f, b, h):  # f: the networks whose critics are used
        q = self.q_of(f, b.now.obs, h, b.now.avail).mean(-1)
        size = masked_mean(b.mask, q.detach().abs()).clamp(min=1e-6)
        return -masked_mean(b.mask, q) / size  # (7)

    def policy_loss(self, on, tg, b, z, goal, f):
        h = self.pi(on, b.now.obs, z)
        distillation = masked_mean(b.mask[..., None], self.distillation(h, goal, b))
        return self.cfg.alpha * distillation + self.improvement_loss(f, b, h)  # (8)

    def update(self, s, b, d):
        y = self.target(self.online(s), self.targets(s), b, d.u)
        s, loss_critic = self.gradient_step(s, "q1 q2", self.critic_loss, b, y)
        s, loss_flow = self.gradient_step(s, "flow", self.flow_loss, b, d.u)
        f = self.online(s)
        z = torch.special.ndtri(d.u["policy"])
        goal = self.flow(f, b, z)
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b, z, goal, f)
        s = self.update_targets(s, "q1 q2")
        return s, dict(loss_critic=loss_critic, loss_flow=loss_flow, loss_policy=loss_policy)
