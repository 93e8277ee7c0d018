"""ComaDICE: stationary distribution correction with a factorized advantage (Bui et al., ICLR 2025).

The method regularizes how often the team visits states and actions, not only how it acts. The multiplier nu of the visitation constraints
takes the place of a value. Both nu and Q are sums of local terms with weights k >= 0, and all agents clone the data with one weight:

    Q_tot = sum_i k_i(s) Q_i(o_i, a_i) + b(s),    nu_tot = sum_i k_i(s) nu_i(o_i) + b(s)                                (1)
    y_i   = k_i(s) (Q_i(o_i, a_i) - nu_i(o_i)) / alpha                                                                  (2)
    L(Q)  = E_D( r + gamma (1 - terminal) nu_tot(s') - Q_tot(s, a) )^2                                                  (3)
    L(nu) = E_D[ alpha f*(y_i) + k_i(s) nu_i(o_i) ],    f*(y) = e^y - 1 below 0, y + y^2/2 above                        (4)
    L(pi) = - E_D[ W log pi_i(a_i|o_i) ],    W = mean_j w(y_j),    w(y) = f*'(y) = e^y below 0, 1 + y above             (5)

f* is the conjugate of the soft chi^2 divergence f. Target networks: nu, k and b in (3); Q and k in (5), where nu is from before its step.
The critic steps first; (4) uses it after its step.

(4) is the paper's loss of nu with Q held fixed. The paper's initial term (1 - gamma) E nu(s_0) is E_D[ nu(s) - gamma nu(s') ] under the
visitation of the data; of the two, nu(s) stays, as s' belongs to the fixed target of Q. At its minimum E[ k_i w_i | o_i ] = E[ k_i | o_i ].
Without this rewriting nothing bounds nu from above in states where no episode starts, and all weights vanish.

`nu_gradient = "code"` is the loss of the published code. There the terms that should cancel in the gradient of f* are the ones that are
kept, so that nu descends alpha f(w(y)), a distance between Q and nu that is quadratic above 0 and bounded below.
`team_weight = "joint"` is W = w( sum_j y_j ), which the paper has; the code sums local weights.

Deviations from the code (github.com/vietbt/ComaDICE at eef0f74):
 1. (4), see above; its initial term is dropped. The multipliers of normalization are 0: that of nu only shifts nu, which feeds back
    through the bootstrap, and that of the weights only scales (5).
 2. W is the mean over agents (code: the sum), so that alpha to infinity is BC. The weights of a batch are not normalized.
 3. w(y) is capped at `weight_max`, for both kinds of action. The code caps at 2, for discrete actions alone.
 4. (4) sees the critic after its step; the continuous code sees Q from before it and k from after it.
 5. Time limits are not terminations. On SMAC the code trains on returns-to-go in place of rewards, and infers terminations from states
    that do not change. On MuJoCo it divides actions by 4.
 6. Log standard deviations and means as in `core.spaces` (code: means clamped to +-9). The mixer sees the state once (code: the states
    that it has for each agent, one after the other).
Checked: losses against plain numpy (tests/algorithms/test_equations.py); fixed points of nu, OMIGA's critic and its loss of V as a part of
(4), values on XOR (tests/algorithms/test_comadice.py); BC as alpha goes to infinity (tests/algorithms/test_limits.py).
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from inspo_benchmark.algorithms.omiga import LinearMixer
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean
from inspo_benchmark.learning.config import Valued
from inspo_benchmark.learning.nets import AgentNet, Critic


def weight(y: Tensor) -> Tensor:
    """w(y), the derivative of the conjugate."""
    return torch.where(y < 0, y.clamp(max=0).exp(), 1 + y)  # (5)


def conjugate(y: Tensor) -> Tensor:
    """f*(y)."""
    return torch.where(y < 0, y.clamp(max=0).expm1(), y + y**2 / 2)  # (4)


def divergence_of_weight(y: Tensor) -> Tensor:
    """f(w(y)) = y w(y) - f*(y): 1 + (y - 1) e^y below 0, y^2/2 above."""
    return y * weight(y) - conjugate(y)


@ALGORITHMS.register("comadice")
class ComaDICE(Algorithm):
    paper = "ComaDICE (Bui et al. 2025, ICLR, arXiv 2410.01954)"

    @dataclass(frozen=True)
    class Config(Valued):
        lr: float = 5e-4  # learning rate
        max_grad_norm: float = 1.0  # largest norm of a gradient
        share_params: bool = True  # one network that gets the agent's index, instead of one per agent
        alpha: float = 10.0  # weight of the divergence from the data
        weight_max: float = 100.0  # cap of the local weights w
        mixing_dim: int = 64  # width of the mixer
        nu_gradient: Literal["paper", "code"] = "paper"  # (4), or the loss of the published code
        team_weight: Literal["mean", "joint"] = "mean"  # of local weights, or the weight of the summed local terms

        def __post_init__(self):
            super().__post_init__()
            if self.alpha <= 0 or self.mixing_dim < 1:
                raise UserError("alpha and mixing_dim must be above 0")
            if self.weight_max < 1:
                raise UserError("weight_max must be at least 1")

    PAPER = {
        # the code's main.py and run.py: 25 passes over 1e6 transitions, in minibatches of 128
        "halfcheetah_6x1-*": dict(lr=1e-4, hidden_dim=256, num_updates=195_000),
        "hopper_3x1-*": dict(lr=1e-4, hidden_dim=256, num_updates=195_000),
        "ant_2x4-*": dict(lr=1e-4, hidden_dim=256, num_updates=195_000),
        # 10 and 400 passes over 1,000 episodes
        "5m_vs_6m-*": dict(lr=1e-4, hidden_dim=256, weight_max=2.0, num_updates=2_700),
        "6h_vs_8z-*": dict(lr=1e-4, hidden_dim=256, weight_max=2.0, num_updates=109_000),
    }
    OFFICIAL = {f"{name}-*": dict(nu_gradient="code") for name in ("halfcheetah_6x1", "hopper_3x1", "ant_2x4", "5m_vs_6m", "6h_vs_8z")}
    TUNED = {  # gamma = 0 where actions do not change the state
        "smac": dict(alpha=0.1, lr=5e-4, weight_max=100.0),
        "mujoco": dict(lr=5e-4),
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
            nu=net(outputs=1),
            mix=LinearMixer(spec, c.mixing_dim),
        )

    def q(self, f, b):  # Q_i(o_i, a_i), [B, L, N]
        a = b.now.actions.unsqueeze(3)  # one candidate per agent
        return f.q(b.now.obs, a)[..., 0]

    def local(self, f, b, k, q):  # y_i and nu_i, [B, L, N] each
        nu = f.nu(b.now.obs)[..., 0]
        return k * (q - nu) / self.cfg.alpha, nu  # (2)

    def critic_loss(self, on, tg, b):
        k, bias = on.mix(b.now.state)
        k_next, bias_next = tg.mix(b.next.state)
        nu_next = self.at_next(tg.nu, b.obs)[..., 0]
        nu_tot = (k_next * nu_next).sum(-1) + bias_next  # (1)
        y = b.rewards + self.cfg.gamma * (1 - b.terminated) * nu_tot
        error = y - (k * self.q(on, b)).sum(-1) - bias  # (1): y - Q_tot
        return masked_mean(b.mask, error**2)  # (3)

    def nu_loss(self, on, tg, b, k, q):
        y, nu = self.local(on, b, k, q)
        alpha = self.cfg.alpha
        loss = alpha * divergence_of_weight(y) if self.cfg.nu_gradient == "code" else alpha * conjugate(y) + k * nu
        return masked_mean(b.mask[..., None], loss)  # (4)

    def weights(self, y):  # W, [B, L]
        joint = self.cfg.team_weight == "joint"
        w = weight(y.sum(-1, keepdim=True) if joint else y).clamp(max=self.cfg.weight_max)
        return w.mean(-1)  # (5)

    def policy_loss(self, on, tg, b, w):
        log_pi = self.space.log_prob(on.pi(b.now.obs), b.now.actions, b.now.avail)
        return -masked_mean(b.mask[..., None], w[..., None] * log_pi)  # (5)

    def update(self, s, b, d):
        tg = self.targets(s)
        y, _ = self.local(self.online(s), b, tg.mix(b.now.state)[0], self.q(tg, b))
        w = self.weights(y)
        s, loss_critic = self.gradient_step(s, "q mix", self.critic_loss, b)
        on = self.online(s)
        s, loss_nu = self.gradient_step(s, "nu", self.nu_loss, b, on.mix(b.now.state)[0], self.q(on, b))
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b, w)
        s = self.update_targets(s, "q nu mix")
        logs = dict(loss_critic=loss_critic, loss_nu=loss_nu, loss_policy=loss_policy, weight=masked_mean(b.mask, w))
        return s, logs
