"""OMIGA: implicit global-to-local value regularization (Wang et al., NeurIPS 2023).

The joint values are linear in the local ones, with weights w >= 0. The team's behavior-regularized problem then splits into one problem
per agent, which evaluates actions of the data alone; each agent learns from its weighted share of the team's advantage:

    Q_tot = sum_i w_i(s) Q_i(o_i, a_i) + b(s),    V_tot = sum_i w_i(s) V_i(o_i) + b(s)                                  (1)
    z_i   = w_i(s) (Q_i(o_i, a_i) - V_i(o_i)) / alpha, clipped to [-10, 10]                                             (2)
    L(Q)  = E_D( r + gamma (1 - terminal) V_tot(s') - Q_tot(s, a) )^2                                                   (3)
    L(V)  = e^{-M} E_D[ exp(z_i) + w_i(s) V_i(o_i) / alpha ],    M = max(-1, largest z_i of the batch)                  (4)
    L(pi) = - E_D[ exp(z_i) log pi_i(a_i|o_i) ]                                                                         (5)

Target networks: Q and w in (2); V, w and b in (3). V in (2) is online, and (4) updates it.

Deviations from the code (github.com/ZhengYinan-AIR/OMIGA at 39851c0, its SMAC branch at b0c3d13; alpha = 10 is a constant there):
 1. M and all means exclude padding. The factor e^{-M} keeps (4) finite; Adam cancels most of it.
 2. The mixer sees the state once. The code's mixer sees one copy per agent, each standardized over its own entries.
 3. Discrete policies are masked by the available actions. The code does not mask them in training; as the data's actions are available,
    the losses are defined either way, but the policies differ.
 4. Actions are clamped at 1 - 1e-6 in log pi (code: 1 - 1e-7, which is no float32 number); Gaussian means are not clamped (code: +-9).
 5. Time limits are not terminations. The SMAC branch infers terminations from states that do not change, and trains on returns-to-go in
    place of rewards, a mistake of its data loader; neither is copied.
Checked: losses against plain numpy (tests/algorithms/test_equations.py); alpha to infinity is BC (tests/algorithms/test_limits.py).
"""

from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.core.types import Spec
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean
from inspo_benchmark.learning.config import Valued
from inspo_benchmark.learning.nets import AgentNet, Critic, Linear


class LinearMixer(nn.Module):
    """The weights w >= 0 and the bias b of (1)."""

    def __init__(self, spec: Spec, hidden: int):
        super().__init__()
        self.agents = spec.num_agents
        self.body, self.head = Linear(spec.state_dim, hidden), Linear(hidden, spec.num_agents + 1)

    def forward(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """state [..., S] -> w [..., N], b [...]."""
        out = self.head(F.relu(self.body(state)))
        return out[..., : self.agents].abs(), out[..., self.agents]


@ALGORITHMS.register("omiga")
class OMIGA(Algorithm):
    paper = "OMIGA (Wang et al. 2023, NeurIPS, arXiv 2307.11620)"

    @dataclass(frozen=True)
    class Config(Valued):
        lr: float = 5e-4  # learning rate
        max_grad_norm: float = 1.0  # largest norm of a gradient
        share_params: bool = True  # one network that gets the agent's index, instead of one per agent
        alpha: float = 10.0  # weight of the behavior regularizer
        mixing_dim: int = 64  # width of the mixer

        def __post_init__(self):
            super().__post_init__()
            if self.alpha <= 0 or self.mixing_dim < 1:
                raise UserError("alpha and mixing_dim must be above 0")

    PAPER = {
        # the code's OMIGA.py and main.py: 1e6 updates of 128 transitions
        "halfcheetah_6x1-*": dict(hidden_dim=256, num_updates=1_000_000),
        "hopper_3x1-*": dict(hidden_dim=256, num_updates=1_000_000),
        "ant_2x4-*": dict(hidden_dim=256, num_updates=1_000_000),
        # its SMAC branch's run_madt_sc2.py: 55 passes over 1,000 episodes, about 15,000 updates of 128 transitions
        "5m_vs_6m-*": dict(hidden_dim=256, num_updates=15_000),
        "6h_vs_8z-*": dict(hidden_dim=256, num_updates=15_000),
    }
    TUNED = {  # gamma = 0 where actions do not change the state
        "smac": dict(alpha=0.3),
        "xor-*": dict(gamma=0.0, alpha=1.0, batch_size=64, lr=1e-3, num_updates=1000),
        "mne*": dict(gamma=0.0, alpha=1.0, lr=1e-3, num_updates=1000),
        "bridge-*": dict(alpha=1.0, batch_size=32, tau=0.02, lr=1e-3, num_updates=3000),
    }

    def nets(self):
        c = self.cfg
        spec = self.spec
        net = partial(AgentNet, spec.num_agents, spec.obs_dim, c.hidden_dim, share=c.share_params, network=c.network)
        return dict(
            pi=net(outputs=self.space.params_dim),
            q=Critic(self.space, spec.num_agents, spec.obs_dim, c.hidden_dim, c.share_params, c.network),
            v=net(outputs=1),
            mix=LinearMixer(spec, c.mixing_dim),
        )

    def q(self, f, b):  # Q_i(o_i, a_i), [B, L, N]
        a = b.now.actions.unsqueeze(3)  # one candidate per agent
        return f.q(b.now.obs, a)[..., 0]

    def value(self, on, b, w):  # w_i(s) V_i(o_i) / alpha, a term of (2) and of (4)
        v = on.v(b.now.obs)[..., 0]
        return w * v / self.cfg.alpha

    def advantage(self, w, q, value):  # z_i
        z = w * q / self.cfg.alpha - value  # (2)
        return z.clamp(-10, 10)

    def policy_loss(self, on, tg, b, z):
        log_pi = self.space.log_prob(on.pi(b.now.obs), b.now.actions, b.now.avail)
        return -masked_mean(b.mask[..., None], z.exp() * log_pi)  # (5)

    def critic_loss(self, on, tg, b):
        w, bias = on.mix(b.now.state)
        w_next, bias_next = tg.mix(b.next.state)
        v_next = self.at_next(tg.v, b.obs)[..., 0]
        v_tot = (w_next * v_next).sum(-1) + bias_next  # (1)
        y = b.rewards + self.cfg.gamma * (1 - b.terminated) * v_tot
        error = y - (w * self.q(on, b)).sum(-1) - bias  # (1): y - Q_tot
        return masked_mean(b.mask, error**2)  # (3)

    def value_loss(self, on, tg, b, w, q):
        mask = b.mask[..., None]
        value = self.value(on, b, w)
        z = self.advantage(w, q, value)
        largest = torch.where(mask > 0, z.detach(), -1.0).flatten().amax(0).clamp(min=-1)  # M
        return masked_mean(mask, (z - largest).exp() + (-largest).exp() * value)  # (4)

    def update(self, s, b, d):
        tg = self.targets(s)
        w, _ = tg.mix(b.now.state)
        q = self.q(tg, b)
        z = self.advantage(w, q, self.value(self.online(s), b, w))
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b, z)
        s, loss_critic = self.gradient_step(s, "q mix", self.critic_loss, b)
        s, loss_value = self.gradient_step(s, "v", self.value_loss, b, w, q)
        s = self.update_targets(s, "q v mix")
        return s, dict(loss_policy=loss_policy, loss_critic=loss_critic, loss_value=loss_value)
