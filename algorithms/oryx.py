"""Oryx: implicit constraint Q-learning for policies that act in an order of the agents (Formanek et al., NeurIPS 2025).

The joint policy is a chain: every agent sees its own observation and the actions of the agents before it. Each factor is trained by ICQ,
with a critic that is given the same earlier actions. The order is random, one for each sequence of a minibatch. Below, a_{<j} are the
actions of the agents before j, and n is the number of rows in the batch. The method executes autoregressively: agents act one after
the other and communicate their actions. It can therefore hold correlated joint actions, which products of policies cannot.

    pi(a|o) = prod_j pi_j(a_j | o_j, a_{<j})                                                                            (1)
    v_j   = n softmax_batch(Q_j / beta_critic) Q_j,    Q_j = Q_j(s, o_j, a_{<j}, a_j) by the target network             (2)
    L(Q)  = 1/2 E_D( r + gamma (1 - terminal) v_j(s') - Q_j(s, o_j, a_{<j}, a_j) )^2                                    (3)
    A_j   = Q_j(s, o_j, a_{<j}, a_j) - E_{a ~ pi_j} Q_j(s, o_j, a_{<j}, a)                                              (4)
    w_j   = n softmax_batch(A_j / beta)                                                                                 (5)
    L(pi) = - E_D[ w_j log pi_j(a_j | o_j, a_{<j}) ]                                                                    (6)

Where an episode is cut off, no next action is known, and (2) repeats the last one; rows after a termination take part in (2), though
their value is not used. All terms are from before the update. Q_j estimates the return of the team after the first j actions of a step.
Agents act in the order of their indices. `credit = "prefix"` adds the advantages of the earlier agents to A_j in (5), as the paper's
theorem has it.

Deviations from the code (github.com/instadeepai/og-marl at f4eb8f0):
 1. The networks are those of the other methods here: a policy on o_j and a_{<j} that is feed-forward or a GRU, and a feed-forward critic
    that sees the state too. The code has one retention network over all agents and past steps, with one head for the policy and one for
    Q. Its policy sees the observations of all agents; here only actions are communicated. A GRU also remembers the earlier agents'
    actions of past steps, as in the code.
 2. Policy and critic have no weights in common, so that the relative weight of (3) and (6) plays no part.
 3. The order is drawn per sequence (code: per update). Softmaxes are over the rows of data at one time step, for each agent.
 4. Continuous actions: the critic is given a_j, and the expectation in (4) is a mean over `num_samples`. In the code the critic is not
    given a_j, so that (5) does not depend on it, and the method clones the data.
 5. Evaluation is greedy and sampled, with independent random numbers for the agents; the code samples discrete actions with one random
    key for all agents, and takes the mode of continuous ones. The last network is evaluated, not the best.
 6. Unavailable actions are masked in the expectation of (4).
 7. Sequences end with their episode. The code's go on across the end of an episode that was cut off at the time limit.
Checked: losses against plain numpy (tests/algorithms/test_equations.py); who knows whose actions, the chain as a distribution, values on
XOR, ICQ for one agent, and BC as beta goes to infinity (tests/algorithms/test_oryx.py).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import Algorithm, batch_softmax, masked_mean, state_and_obs
from inspo_benchmark.learning.config import Valued
from inspo_benchmark.learning.nets import AgentNet, Critic


@ALGORITHMS.register("oryx")
class Oryx(Algorithm):
    paper = "Oryx (Formanek et al. 2025, NeurIPS, arXiv 2505.22151)"
    execution = "autoregressive"

    @dataclass(frozen=True)
    class Config(Valued):
        share_params: bool = True  # one network that gets the agent's index, instead of one per agent
        beta: float = 0.1  # temperature of the policy's weights
        beta_critic: float = 1000.0  # temperature of the critic's weights
        credit: Literal["own", "prefix"] = "own"  # advantages in the weights: the agent's own, or those of earlier agents too
        num_samples: int = 16  # sampled actions in the expectation of (4) (continuous actions)

        def __post_init__(self):
            super().__post_init__()
            if min(self.beta, self.beta_critic, self.num_samples) <= 0:
                raise UserError("beta, beta_critic and num_samples must be above 0")

    PAPER = {  # the code's files of settings for discrete and for continuous actions
        "smac": dict(lr=3e-4, hidden_dim=128, network="gru", batch_size=64, seq_len=20, num_updates=100_000),
        "mujoco": dict(
            lr=3e-4, hidden_dim=128, network="gru", batch_size=64, seq_len=20, num_updates=100_000, beta=1.0, beta_critic=10_000.0
        ),
    }
    TUNED = {  # gamma = 0 where actions do not change the state
        "smac": dict(lr=1e-3, beta=0.3),
        "mujoco": dict(lr=1e-3, beta=10.0, beta_critic=10_000.0),
        "xor-*": dict(gamma=0.0, batch_size=64, num_updates=1000),
        "mne*": dict(gamma=0.0, num_updates=1000),
        "bridge-*": dict(batch_size=32, tau=0.02, num_updates=3000),
    }

    def nets(self):
        c = self.cfg
        spec = self.spec
        given = spec.num_agents * (self.space.action_dim + 1)  # the earlier actions, and which they are
        return dict(
            pi=AgentNet(spec.num_agents, spec.obs_dim + given, c.hidden_dim, self.space.params_dim, c.share_params, c.network),
            q=Critic(self.space, spec.num_agents, spec.state_dim + spec.obs_dim + given, c.hidden_dim, c.share_params),
        )

    def noise(self):
        c = self.cfg
        agents = self.spec.num_agents
        own = self.space.sample_noise_shape(c.num_samples)
        return dict(order=(c.batch_size, agents), own=(c.batch_size, c.seq_len, agents, *own))

    # the chain -----------------------------------------------------------------------------------------------------------------

    def known(self, rank):  # [..., j, k]: 1 where agent j is given the action of agent k, from random or fixed ranks [..., N]
        return (rank[..., None, :] < rank[..., :, None]).to(torch.get_default_dtype())

    def given(self, x, actions, known):
        """Inputs x [..., J, X] of J agents beside the actions that they know: encoded actions [..., N, A], known [..., J, N]."""
        earlier = known[..., None] * actions[..., None, :, :]
        return torch.cat([x, earlier.flatten(-2), known.expand(*earlier.shape[:-1])], -1)  # (1)

    def rows(self, b, order):
        """Inputs of the policies and of the critic at the rows of a batch, and known, [B, L+1, N, ..]."""
        known = self.known(order)[:, None]
        actions = self.space.encode(b.actions)
        return self.given(b.obs, actions, known), self.given(state_and_obs(b), actions, known), known

    # losses --------------------------------------------------------------------------------------------------------------------

    def q(self, f, x, actions):  # Q_j of the actions taken, [B, L, N]
        return f.q(x, actions.unsqueeze(3))[..., 0]

    def target(self, tg, b, x):  # [B, L, N]
        q = self.q(tg, x[:, 1:], b.next.actions)
        v = batch_softmax(q / self.cfg.beta_critic, b.mask[..., None]) * q  # (2); a next row counts where the step to it is data
        live = 1 - b.terminated[..., None]
        return b.rewards[..., None] + self.cfg.gamma * live * v  # (3)

    def critic_loss(self, on, tg, b, x, y):
        error = y - self.q(on, x[:, :-1], b.now.actions)
        return masked_mean(b.mask[..., None], error**2) / 2  # (3)

    def advantage(self, f, b, x_pi, x_q, u):  # A_j, [B, L, N]
        x_q = x_q[:, :-1]
        expected = self.space.expect(partial(f.q, x_q), f.pi(x_pi[:, :-1]), b.now.avail, u)
        return self.q(f, x_q, b.now.actions) - expected  # (4)

    def weights(self, b, advantage, known):  # w_j, [B, L, N]
        if self.cfg.credit == "prefix":
            advantage = advantage + (known * advantage[..., None, :]).sum(-1)
        return batch_softmax(advantage / self.cfg.beta, b.mask[..., None])  # (5)

    def policy_loss(self, on, tg, b, x, w):
        log_pi = self.space.log_prob(on.pi(x[:, :-1]), b.now.actions, b.now.avail)
        return -masked_mean(b.mask[..., None], w * log_pi)  # (6)

    def update(self, s, b, d):
        x_pi, x_q, known = self.rows(b, d.u["order"])
        y = self.target(self.targets(s), b, x_q)
        w = self.weights(b, self.advantage(self.online(s), b, x_pi, x_q, d.u["own"]), known)
        s, loss_critic = self.gradient_step(s, "q", self.critic_loss, b, x_q, y)
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b, x_pi, w)
        s = self.update_targets(s, "q")
        return s, dict(loss_critic=loss_critic, loss_policy=loss_policy)

    # acting --------------------------------------------------------------------------------------------------------------------

    def in_order(self, f, obs, memory, choose: Callable[[int, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """Actions of all agents, each after those of lower index, and next memories. choose(j, action parameters) -> action."""
        agents = self.spec.num_agents
        known = self.known(torch.arange(agents, device=obs.device))
        encoded = obs.new_zeros(*obs.shape[:-1], self.space.action_dim)
        actions, memories = [], []
        for j in range(agents):
            x = self.given(obs[..., j : j + 1, :], encoded, known[j : j + 1])[..., 0, :]
            h, after = f.pi(x, agent=j, memory=memory[..., j, :])  # (1)
            actions.append(choose(j, h))
            memories.append(after)
            at_j = (torch.arange(agents, device=obs.device) == j)[:, None]
            encoded = torch.where(at_j, self.space.encode(actions[-1])[..., None, :], encoded)
        return torch.stack(actions, 1), torch.stack(memories, -2)

    def act(self, f, obs, avail, memory):
        return self.in_order(f, obs, memory, lambda j, h: self.space.mode(h, avail[:, j]))

    def act_sampled(self, f, obs, avail, memory, u):
        return self.in_order(f, obs, memory, lambda j, h: self.space.sample(h, avail[:, j], u[:, j]))

    def action_params(self, f, obs, memory):
        """Those of agents who know no action yet, as the first of an order."""
        agents = self.spec.num_agents
        nothing = obs.new_zeros(agents, agents)
        return f.pi(self.given(obs, obs.new_zeros(*obs.shape[:-1], self.space.action_dim), nothing), memory=memory)
