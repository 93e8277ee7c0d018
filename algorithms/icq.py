"""ICQ-MA: implicit constraint Q-learning with decomposed critics and policies (Yang et al., NeurIPS 2021).

Values bootstrap from the actions of the data alone, with more weight on the better ones. (Where an episode is cut off, no next action is
known, and the last one is repeated; rows after a termination take part in (2), though their value is not used.) A softmax over the
batch stands for the paper's partition function Z(s). n is the number of rows in the batch; k_i(s) >= 0 with sum 1 is the mixer's
weight of agent i.

    Q_tot = sum_i k_i(s) Q_i(s, o_i, a_i)                                                                               (1)
    v     = n softmax_batch(Q_tot / beta_critic) Q_tot, by the targets;    G = TD(lambda) of v                          (2)
    L(Q)  = E_D( G - Q_tot(s, a) )^2                                                                                    (3)
    A_i   = Q_i(s, o_i, a_i) - E_{a ~ pi_i} Q_i(s, o_i, a),    w_i = n softmax_batch(A_i / beta)                        (4)
    L(pi) = - E_D[ k_i(s) w_i log pi_i(a_i|o_i) ]                                                                       (5)

The critic steps first; (4) and (5) use the critic after its step.

Three fields reproduce accidents of the published code and are off by default: `count_padding` (padding takes part in both softmaxes),
`per_timestep_critic` (the critic takes one gradient step per time step of the sequences), and `epsilon` (in training, pi_i takes a
uniformly random action with this probability, before unavailable ones are masked). `mixer = "elu"` is the mixer of ICQ in CFCQL's code,
Q_tot = ELU(Q W_1 + b_1) w_2 + V(s), where k_i(s) in (5) is the normalized W_1 w_2.

Deviations from the code (github.com/YiqinYang/ICQ at 5a4da85, and baseline_icq of github.com/thu-rllab/CFCQL at 3441019):
 1. n counts the rows of data at each time step. The code also counts padding. With `count_padding` so do we, but padding differs: in
    the code it is zeros, where pi_i is 0 (the first code) or uniform (CFCQL's); here it repeats the last row of the episode.
 2. Discrete policies mask unavailable actions before the softmax. The first code masks and renormalizes after it, which is the same.
 3. Policies do not see their last action beside the observation. The critic's outputs a(.) + v are one layer. All networks have one
    width (code: agents 64, critics 256).
 4. Targets follow with rate `tau` or are copied every `target_update_interval` updates; the code copies after 600 steps of the critic.
 5. beta_critic = 1000, from the code, makes (2) nearly SARSA(lambda). k_i stands outside the exponent, as in the code.
 6. Continuous actions: critics take them as input, and the expectation in (4) is a mean over `num_samples`.
 7. Returns of greedy and of sampled actions are both reported; the first code samples, with a share epsilon of random actions.
 8. `epsilon` is constant; in the first code it falls from 0.5 to 0.05 over the first 5,000 of 40,002 updates.
Checked: losses against plain numpy (tests/algorithms/test_equations.py); as beta goes to infinity it is BC
(tests/algorithms/test_limits.py).
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import Algorithm, batch_softmax, masked_mean, state_and_obs, td_lambda_returns
from inspo_benchmark.learning.config import Valued
from inspo_benchmark.learning.nets import AgentNet, Critic, Linear
from inspo_benchmark.learning.optim import Adam, RMSprop


class ICQMixer(nn.Module):
    """(1), or with `elu` the mixer of ICQ in CFCQL's code: q [..., N], state [..., S] -> Q_tot [...], k [..., N]."""

    def __init__(self, agents: int, state: int, embed: int, elu: bool):
        super().__init__()
        self.shape = (agents, embed)
        self.elu = elu
        self.w1 = Linear(state, agents * embed)
        self.w2 = Linear(state, embed)
        if elu:
            self.b1 = Linear(state, embed)
            self.v1 = Linear(state, embed)
            self.v2 = Linear(embed, 1)

    def forward(self, q, state):
        w1 = self.w1(state).abs().unflatten(-1, self.shape)
        w2 = self.w2(state).abs()
        k = (w1 * w2[..., None, :]).sum(-1)
        k = k / k.sum(-1, keepdim=True)
        if not self.elu:
            return (k * q).sum(-1), k  # (1)
        mixed = F.elu((q[..., None] * w1).sum(-2) + self.b1(state))
        v = self.v2(F.relu(self.v1(state)))[..., 0]
        return (mixed * w2).sum(-1) + v, k


@ALGORITHMS.register("icq")
class ICQ(Algorithm):
    paper = "ICQ-MA (Yang et al. 2021, NeurIPS, arXiv 2106.03400)"

    @dataclass(frozen=True)
    class Config(Valued):
        lr: float = 5e-4  # learning rate of the policies
        critic_lr: float = 1e-4  # learning rate of the critic and the mixer
        optimizer: Literal["adam", "rmsprop"] = "rmsprop"  # of all networks
        max_grad_norm: float = 20.0  # gradients are scaled down to this norm
        share_params: bool = True  # one network that gets the agent's index, instead of one per agent
        td_lambda: float = 0.8  # lambda of the TD(lambda) targets, which are one-step targets with seq_len = 1
        beta: float = 0.1  # temperature of the policies' weights
        beta_critic: float = 1000.0  # temperature of the targets' weights
        mixer: Literal["linear", "elu"] = "linear"  # (1), or the mixer of CFCQL's code
        mixing_dim: int = 32  # width of the mixer
        num_samples: int = 10  # samples of an agent's action in (4), if actions are continuous
        epsilon: float = 0.0  # probability of a uniformly random action inside discrete policies
        count_padding: bool = False  # padding takes part in the softmaxes
        per_timestep_critic: bool = False  # one gradient step of the critic per time step

        def __post_init__(self):
            super().__post_init__()
            if min(self.critic_lr, self.beta, self.beta_critic, self.mixing_dim, self.num_samples) <= 0:
                raise UserError("critic_lr, beta, beta_critic, mixing_dim and num_samples must be above 0")
            if not (0 <= self.td_lambda <= 1 and 0 <= self.epsilon < 1):
                raise UserError("td_lambda must lie in [0, 1] and epsilon in [0, 1)")

    PAPER = {
        # CFCQL's code, config/algs/baseline_icq.yaml: batches of 128 whole episodes
        "2s3z-*": dict(network="gru", seq_len=120, mixer="elu", max_grad_norm=10.0, target_update_interval=10, num_updates=1500),
        "3s_vs_5z-*": dict(network="gru", seq_len=250, mixer="elu", max_grad_norm=10.0, target_update_interval=3, num_updates=500),
        "5m_vs_6m-*": dict(network="gru", seq_len=70, mixer="elu", max_grad_norm=10.0, target_update_interval=10, num_updates=2800),
        "6h_vs_8z-*": dict(network="gru", seq_len=150, mixer="elu", max_grad_norm=10.0, target_update_interval=5, num_updates=1850),
        # the first code, its configuration offpg_smac: batches of 32 whole episodes
        "3s_vs_3z-*": dict(network="gru", seq_len=150, batch_size=32, num_updates=40_002),
    }

    OFFICIAL = {
        **{f"{task}-*": dict(count_padding=True, per_timestep_critic=True) for task in ("2s3z", "3s_vs_5z", "5m_vs_6m", "6h_vs_8z")},
        # lambda is hard-coded; epsilon is 0.05 after an eighth of the updates; 600 steps of the critic are about 10 updates
        "3s_vs_3z-*": dict(count_padding=True, per_timestep_critic=True, td_lambda=0.75, epsilon=0.05, target_update_interval=10),
    }

    TUNED = {
        "smac": dict(beta=1.0),
        "mujoco": dict(beta=10.0),
        "xor-*": dict(gamma=0.0, batch_size=64, optimizer="adam", lr=1e-3, critic_lr=1e-3, num_updates=1000),
        "mne*": dict(gamma=0.0, optimizer="adam", lr=1e-3, critic_lr=1e-3, num_updates=1000),
        "bridge-*": dict(batch_size=32, tau=0.02, optimizer="adam", lr=1e-3, critic_lr=1e-3, num_updates=3000),
    }

    def nets(self):
        c = self.cfg
        spec = self.spec
        pi = AgentNet(spec.num_agents, spec.obs_dim, c.hidden_dim, self.space.params_dim, c.share_params, c.network)
        q = Critic(self.space, spec.num_agents, spec.state_dim + spec.obs_dim, c.hidden_dim, c.share_params)
        mix = ICQMixer(spec.num_agents, spec.state_dim, c.mixing_dim, c.mixer == "elu")
        return dict(pi=pi, q=q, mix=mix)

    def optimizer(self, name):
        lr = self.cfg.lr if name == "pi" else self.cfg.critic_lr
        return RMSprop(lr) if self.cfg.optimizer == "rmsprop" else Adam(lr)

    def noise(self):
        c = self.cfg
        own = self.space.sample_noise_shape(c.num_samples)
        return dict(own=(c.batch_size, c.seq_len, self.spec.num_agents, *own))

    def q(self, f, rows):  # Q_i of the actions in b.now or b.next, [B, L, N]
        a = rows.actions.unsqueeze(3)  # one candidate per agent
        return f.q(state_and_obs(rows), a)[..., 0]

    def q_tot(self, f, rows):  # [B, L]
        total, _ = f.mix(self.q(f, rows), rows.state)
        return total  # (1)

    def batch_softmax(self, x, mask):  # n softmax_batch(x), at every time step
        return batch_softmax(x, torch.ones_like(mask) if self.cfg.count_padding else mask)

    def target(self, tg, b):  # G, [B, L]
        q = self.q_tot(tg, b.next)
        v = self.batch_softmax(q / self.cfg.beta_critic, b.mask) * q  # (2); a next row counts where the step to it is data
        return td_lambda_returns(v, b, self.cfg.gamma, self.cfg.td_lambda)  # (2)

    def critic_loss(self, on, tg, b, g):
        error = self.q_tot(on, b.now) - g
        return masked_mean(b.mask, error**2)  # (3)

    def policy(self, f, b):  # action parameters of the policies, [B, L, N, P]
        return self.space.mix_uniform(f.pi(b.now.obs), self.cfg.epsilon)

    def weights(self, f, b, u):  # k_i(s) w_i, [B, L, N]
        q = self.q(f, b.now)
        value = partial(f.q, state_and_obs(b.now))
        expected = self.space.expect(value, self.policy(f, b), b.now.avail, u)
        w = self.batch_softmax((q - expected) / self.cfg.beta, b.mask[..., None])  # (4)
        _, k = f.mix(q, b.now.state)
        return k * w

    def policy_loss(self, on, tg, b, weights):
        log_pi = self.space.log_prob(self.policy(on, b), b.now.actions, b.now.avail)
        return -masked_mean(b.mask[..., None], weights * log_pi)  # (5)

    def update(self, s, b, d):
        g = self.target(self.targets(s), b)
        critic_step = self.gradient_step_per_timestep if self.cfg.per_timestep_critic else self.gradient_step
        s, loss_critic = critic_step(s, "q mix", self.critic_loss, b, g)
        weights = self.weights(self.online(s), b, d.u["own"])
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b, weights)
        s = self.update_targets(s, "q mix")
        return s, dict(loss_critic=loss_critic, loss_policy=loss_policy)
