"""OMAR: offline multi-agent RL with actor rectification (Pan et al., ICML 2022).

Every agent has conservative critics of its own. Their gradients lead actors into bad local optima, so actors also imitate the best
action that a zeroth-order search finds:

    y_i   = min_{k=1,2} G_i^k,    G_i^k = TD(lambda) of Q_i^k(., pi_i(o_i')) by the target networks                     (1)
    L(Q)  = sum_{k=1,2} E_D[ (y_i - Q_i^k(a_i))^2 + alpha ( log sum_a exp Q_i^k(a) - Q_i^k(a_i) ) ]                     (2)
    continuous  L(pi) = - (1 - coe) E_D Q_i^1(pi_i(o_i)) + coe E_D |pi_i(o_i) - best_i|^2 / D + 1e-3 E_D |pi_i(o_i)|^2 / D
    discrete    L(pi) = - (1 - coe) E_D A_i log pi_i(a_i|o_i) + coe E_D |pi_i(.|o_i) - onehot(best_i)|^2 / n,
                A_i = Q_i^1(a_i) - E_{a ~ pi_i} Q_i^1(a)                                                                (3)

best_i, continuous: the better, by Q_i^1, of pi_i(o_i) and the best candidate of a cross-entropy search, which starts from N(0, 2^2).
Each of its `search_rounds` draws `search_samples` candidates and fits the Gaussian again: to all of them, with the weights softmax(Q_i^1)
in the mean and equal weights in the deviation from it (`search_refit = "softmax"`, their MPE), or to the best `search_elites` of this and
the last round ("elites", their HalfCheetah).
best_i, discrete: the action with the largest Q_i^1, as the authors of CFCQL ran OMAR. With `search_discrete` the search goes over the
numbers of the actions instead, from N(n/2, (n/2)^2), rounded, as in their first version.

The critics step first; the actor uses the critics after their step.

These fields reproduce the published codes and are off by default. `candidate_source` says how log sum exp is estimated where actions
are continuous (learning/conservative.py). `count_unavailable`: unavailable actions count in (2) and may be best_i. `count_padding`:
the imitation term is averaged over padding too, where it has no gradient, so that coe weighs less where episodes are short.
`per_timestep_critic`: the critics take one gradient step per time step of the sequences. `critic_sees_obs_only`: critics see o_i alone.

Deviations from the code (github.com/ling-pan/OMAR at 0e52ad6; discrete: baseline_omar of github.com/thu-rllab/CFCQL at 3441019):
 1. Critics see the state beside o_i, as in the discrete code; with `critic_sees_obs_only` they do not, as in the continuous code.
 2. Each of the two discrete critics has its own output layer (code: one for both); its outputs a(.) + v are one layer.
 3. Inputs are standardized over the dataset, instead of by a BatchNorm in front of each network. Agents share a minibatch.
 4. Policies do not see their last action beside the observation. All networks have one width (discrete code: agents 64, critics 256).
 5. TD(lambda) bootstraps where the data end without a termination, also before the end of the sequence.
 6. The last layer of a continuous actor starts like every other layer (code: weights from U(-0.003, 0.003)).
 7. With `count_padding` no row of padding has a gradient. In the code the first one after a termination has: it holds the last observation.
Checked: losses against plain numpy (tests/algorithms/test_equations.py); with coe = 0 it is its CQL base
(tests/algorithms/test_limits.py).
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.core.spaces import MASKED, MIN_STD
from inspo_benchmark.learning import conservative
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean, state_and_obs, td_lambda_returns
from inspo_benchmark.learning.config import Valued
from inspo_benchmark.learning.nets import AgentNet, Critic

START_STD = 2.0  # standard deviation of the search's first round
SMALL = 1e-5  # added to the probabilities in (3)


@ALGORITHMS.register("omar")
class OMAR(Algorithm):
    paper = "OMAR (Pan et al. 2022, ICML, arXiv 2111.11188)"

    @dataclass(frozen=True)
    class Config(Valued):
        share_params: bool = True  # one network that gets the agent's index, instead of one per agent
        alpha: float = 1.0  # weight of the conservative term
        coe: float = 0.5  # weight of the imitation of best_i, against that of Q
        td_lambda: float = 0.6  # lambda of the TD(lambda) targets, which are one-step targets with seq_len = 1
        num_samples: int = 10  # candidates in (2), if actions are continuous; of each kind where there are several
        candidate_source: Literal["importance", "uniform", "noisy", "density"] = "importance"  # how (2) is estimated from candidates
        search_rounds: int = 3  # rounds of the search
        search_samples: int = 10  # candidates per round
        search_refit: Literal["softmax", "elites"] = "elites"  # which candidates the next round's Gaussian is fitted to
        search_elites: int = 5  # number of the best candidates, for "elites"
        search_discrete: bool = False  # search over the numbers of discrete actions, instead of taking the best one
        critic_sees_obs_only: bool = False  # critics do not see the state
        count_unavailable: bool = False  # unavailable actions count in (2) and may be best_i
        count_padding: bool = False  # the imitation term is averaged over padding too
        per_timestep_critic: bool = False  # one gradient step of the critics per time step

        def __post_init__(self):
            super().__post_init__()
            if self.alpha < 0 or not (0 <= self.coe <= 1 and 0 <= self.td_lambda <= 1):
                raise UserError("alpha must not be negative; coe and td_lambda must lie in [0, 1]")
            if min(self.num_samples, self.search_elites, self.search_samples) < 2:
                raise UserError("num_samples, search_samples and search_elites must be at least 2")
            if self.search_rounds < 1 or self.search_elites > self.search_samples:
                raise UserError("search_rounds must be at least 1, and search_elites at most search_samples")

    PAPER = {
        # their code: main.py (defaults) and algorithms/maddpg.py, lines 471-495 (coe and alpha). gamma is 0.95 on HalfCheetah too: the
        # configuration's 0.99 is not handed to the constructor
        **{
            f"{task}-*": dict(
                lr=1e-2,
                batch_size=1024,
                gamma=0.95,
                tau=0.01,
                max_grad_norm=0.5,
                share_params=False,
                critic_sees_obs_only=True,
                candidate_source="uniform",
                search_refit="softmax",
                num_updates=num_updates,
            )
            for task, num_updates in (("spread", 2000), ("tag", 2000), ("world", 1000))
        },
        "spread-random": dict(coe=1.0, alpha=0.5, num_updates=6000),
        "spread-medium_replay": dict(coe=1.0, alpha=1.0),
        "spread-medium": dict(coe=1.0, alpha=5.0),
        "spread-expert": dict(coe=1.0, alpha=5.0),
        "tag-random": dict(coe=0.9, alpha=0.5),
        "tag-medium_replay": dict(coe=0.9, alpha=0.5, num_updates=1000),
        "tag-medium": dict(coe=0.7, alpha=5.0),
        "tag-expert": dict(coe=0.9, alpha=5.0),
        "world-random": dict(coe=1.0, alpha=0.5),
        "world-medium_replay": dict(coe=0.7, alpha=1.0),
        "world-medium": dict(coe=0.1, alpha=0.5),
        "world-expert": dict(coe=0.9, alpha=5.0),
        "halfcheetah_2x3-*": dict(
            lr=3e-4,
            hidden_dim=256,
            batch_size=256,
            gamma=0.95,
            max_grad_norm=0.5,
            share_params=False,
            critic_sees_obs_only=True,
            search_rounds=2,
            search_samples=20,
            num_updates=100_000,
        ),
        "halfcheetah_2x3-random": dict(coe=1.0, alpha=1.0),
        "halfcheetah_2x3-medium_replay": dict(coe=0.9, alpha=5.0),
        "halfcheetah_2x3-medium": dict(coe=0.7, alpha=1.0),
        "halfcheetah_2x3-expert": dict(coe=0.5, alpha=5.0),
        # CFCQL's code, config/algs/baseline_omar.yaml: batches of 128 whole episodes
        "2s3z-*": dict(network="gru", seq_len=120, alpha=5.0, target_update_interval=25, num_updates=1500),
        "3s_vs_5z-*": dict(network="gru", seq_len=250, alpha=5.0, target_update_interval=25, num_updates=500),
        "5m_vs_6m-*": dict(network="gru", seq_len=70, alpha=5.0, target_update_interval=25, num_updates=2800),
        "6h_vs_8z-*": dict(network="gru", seq_len=150, alpha=5.0, target_update_interval=25, num_updates=1850),
    }

    OFFICIAL = {
        "halfcheetah_2x3-*": dict(candidate_source="density"),
        **{
            f"{task}-*": dict(count_unavailable=True, count_padding=True, per_timestep_critic=True)
            for task in ("2s3z", "3s_vs_5z", "5m_vs_6m", "6h_vs_8z")
        },
    }

    TUNED = {
        # the published settings of HalfCheetah 2x3 on every MuJoCo task, with the logarithm of the density
        "mujoco": dict(
            alpha=5.0,
            coe=0.9,
            gamma=0.95,
            max_grad_norm=0.5,
            candidate_source="noisy",
            critic_sees_obs_only=True,
            search_rounds=2,
            search_samples=20,
        ),
        "hopper_*": dict(alpha=50.0),
        "xor-*": dict(gamma=0.0, batch_size=64, num_updates=1000),
        "mne*": dict(gamma=0.0, num_updates=1000),
        "bridge-*": dict(batch_size=32, seq_len=5, tau=0.02, num_updates=3000),
    }

    def nets(self):
        c = self.cfg
        spec = self.spec
        inputs = spec.obs_dim if c.critic_sees_obs_only else spec.state_dim + spec.obs_dim
        critic = partial(Critic, self.space, spec.num_agents, inputs, c.hidden_dim, c.share_params)
        pi = AgentNet(spec.num_agents, spec.obs_dim, c.hidden_dim, self.space.action_dim, c.share_params, c.network)
        return dict(pi=pi, q1=critic(), q2=critic())

    def noise(self):
        c = self.cfg
        rows = (c.batch_size, c.seq_len, self.spec.num_agents)
        penalty = conservative.noise_shape(self.space, c.candidate_source, c.num_samples)
        search = (c.search_rounds, *rows, c.search_samples, self.space.coordinates_dim)
        return dict(penalty=(*rows, *penalty)) | (dict(search=search) if self.searches else {})

    @property
    def searches(self):  # else best_i is the argmax of all actions
        return self.space.kind == "continuous" or self.cfg.search_discrete

    def critic_input(self, rows):  # [B, L, N, O] or [B, L, N, S + O]
        return rows.obs if self.cfg.critic_sees_obs_only else state_and_obs(rows)

    def considered(self, avail):  # the actions that count in (2) and may be best_i
        return avail | self.cfg.count_unavailable

    def target(self, tg, b):  # y_i, [B, L, N]
        c = self.cfg
        x = self.critic_input(b.next)
        a = self.space.point(self.at_next(tg.pi, b.obs), b.next.avail).unsqueeze(3)
        g1 = td_lambda_returns(tg.q1(x, a)[..., 0], b, c.gamma, c.td_lambda)
        g2 = td_lambda_returns(tg.q2(x, a)[..., 0], b, c.gamma, c.td_lambda)
        return g1.minimum(g2)  # (1)

    def critic_loss(self, on, tg, b, y, m, m_next, u):  # m, m_next: outputs of the policies in this row and in the next
        loss_q1 = self.one_critic_loss(on.q1, b, y, m, m_next, u)
        loss_q2 = self.one_critic_loss(on.q2, b, y, m, m_next, u)
        return loss_q1 + loss_q2  # (2)

    def one_critic_loss(self, critic, b, y, m, m_next, u):
        x = self.critic_input(b.now)
        avail = self.considered(b.now.avail)
        lse = conservative.logsumexp(self.space, self.cfg.candidate_source, partial(critic, x), m, m_next, avail, u)
        q = critic(x, b.now.actions.unsqueeze(3))[..., 0]
        loss = (y - q) ** 2 + self.cfg.alpha * (lse - q)  # (2)
        return masked_mean(b.mask[..., None], loss)

    # the search ------------------------------------------------------------------------------------------------------------

    def best(self, f, b, u):  # best_i, [B, L, N] or [B, L, N, D]; u: noise by name
        x = self.critic_input(b.now)
        avail = self.considered(b.now.avail)
        m = f.pi(b.now.obs)
        if not self.searches:
            return torch.where(avail, f.q1(x, self.space.all(m)), MASKED).argmax(-1)

        def value(a):  # of candidates [B, L, N, K] or [B, L, N, K, D]
            is_available = self.space.is_available(a, avail[..., None, :])
            return torch.where(is_available, f.q1(x, a), MASKED)

        own = self.space.point(m, b.now.avail)
        found = self.search(value, u["search"])
        q_own, q_found = value(torch.stack([own, found], 3)).unbind(3)
        return self.space.where(q_own >= q_found, own, found)

    def search(self, value, u):  # the best action that the search finds; u [rounds, B, L, N, K, D], D = 1 for discrete actions
        mean, std = self.search_start()
        elite = None
        for z in torch.special.ndtri(u).unbind(0):
            pool = self.space.nearest(mean + std * z)
            if elite is not None:
                pool = torch.cat([pool, elite], -2)
            q = value(self.space.action_at(pool))
            mean, std, elite = self.refit(pool, q)
        found = take(pool, q.argmax(-1, keepdim=True))[..., 0, :]
        return self.space.action_at(found)

    def search_start(self):  # mean and standard deviation of the first round
        if self.space.kind == "discrete":
            return self.space.n / 2, self.space.n / 2
        return 0.0, START_STD

    def refit(self, pool, q):  # mean and standard deviation of the next round, and the candidates that it keeps
        if self.cfg.search_refit == "softmax":
            w = q.softmax(-1)[..., None]
            mean = (w * pool).sum(-2, keepdim=True)
            std = ((pool - mean) ** 2).mean(-2, keepdim=True).sqrt()
            return mean, std, None
        elite = take(pool, q.topk(self.cfg.search_elites, -1).indices)
        return elite.mean(-2, keepdim=True), elite.std(-2, keepdim=True), elite

    # the policies ------------------------------------------------------------------------------------------------------------

    def policy_loss(self, on, tg, b, best):
        m = on.pi(b.now.obs)
        if self.space.kind == "discrete":
            return self.discrete_policy_loss(on.q1, m, b, best)
        return self.continuous_policy_loss(on.q1, m, b, best)

    def continuous_policy_loss(self, critic, m, b, best):
        mask = b.mask[..., None]
        pi = self.space.point(m, b.now.avail)
        q = critic(self.critic_input(b.now), pi.unsqueeze(3))[..., 0]
        size = masked_mean(mask[..., None], pi**2)
        return self.rectified(masked_mean(mask, q), pi, b, best) + 1e-3 * size  # (3)

    def discrete_policy_loss(self, critic, m, b, best):
        a = b.now.actions[..., None]
        pi = self.space.logp(m, b.now.avail).exp()
        q = critic(self.critic_input(b.now), self.space.all(m))
        advantage = q.gather(-1, a)[..., 0] - (pi * q).sum(-1)  # A_i
        log_pi = (pi.gather(-1, a)[..., 0] + SMALL).log()
        gain = masked_mean(b.mask[..., None], advantage.detach() * log_pi)
        return self.rectified(gain, pi, b, best)  # (3)

    def rectified(self, gain, pi, b, best):  # - (1 - coe) gain + coe |pi - best|^2
        mask = b.mask[..., None, None]
        error = (pi - self.space.encode(best)) ** 2
        error = torch.where(mask > 0, error, error.detach())  # as in the code, whose policies are constant at padding
        imitation_mask = torch.ones_like(mask) if self.cfg.count_padding else mask
        return self.cfg.coe * masked_mean(imitation_mask, error) - (1 - self.cfg.coe) * gain

    def update(self, s, b, d):
        on = self.online(s)
        y = self.target(self.targets(s), b)
        m = on.pi(b.now.obs)
        m_next = self.at_next(on.pi, b.obs)
        critic_step = self.gradient_step_per_timestep if self.cfg.per_timestep_critic else self.gradient_step
        s, loss_critic = critic_step(s, "q1 q2", self.critic_loss, b, y, m, m_next, d.u["penalty"])
        best = self.best(self.online(s), b, d.u)
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b, best)
        s = self.update_targets(s, "q1 q2 pi")
        return s, dict(loss_critic=loss_critic, loss_policy=loss_policy)

    def action_params(self, f, obs, memory):
        m, memory = f.pi(obs, memory=memory)
        return self.space.around(m, MIN_STD), memory


def take(pool: Tensor, index: Tensor) -> Tensor:
    """The candidates [..., k, D] at `index` [..., k] of `pool` [..., K, D]."""
    return pool.gather(-2, index[..., None].expand(*index.shape, pool.shape[-1]))
