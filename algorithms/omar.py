"""OMAR: offline multi-agent RL with actor rectification (Pan et al., ICML 2022).

Conservative critics per agent, and actors that also imitate the best action which a zeroth-order search finds, because gradients of
such critics lead to bad local optima:

    y_i   = min_{k=1,2} TD(lam) of Q_i^k'(., pi_i'(o_i'))                                                               (1)
    L(Q)  = sum_{k=1,2} E_D[ (y_i - Q_i^k(a_i))^2 + alpha ( log sum_a exp Q_i^k(a) - Q_i^k(a_i) ) ]                     (2)
    continuous  L(pi) = - (1 - coe) E_D Q_i^1(pi_i(o_i)) + coe E_D |pi_i(o_i) - best_i|^2 / d + 1e-3 E_D |pi_i(o_i)|^2 / d
    discrete    L(pi) = - (1 - coe) E_D A_i log pi_i(a_i|o_i) + coe E_D |pi_i(.|o_i) - onehot(best_i)|^2 / n,
                A_i = Q_i^1(a_i) - E_{a ~ pi_i} Q_i^1(a)                                                                (3)

best_i: continuous: the better, by Q_i^1, of pi_i(o_i) and what a cross-entropy search from N(0, 2^2) finds; each of its `rounds` draws
`candidates` and refits the Gaussian to them, weighted by softmax(Q) (`refit = "softmax"`, their MPE) or to the `elites` best of this
and the last round (their HalfCheetah). Discrete: the best action, as the CFCQL authors ran it; with `cem` the search goes over the
actions' numbers, from N(n/2, (n/2)^2), rounded, as their first version did. The critic steps first; the actor uses what it became.

Fields for what the published code does, off by default: `sets` as in CFCQL, with "density" for HalfCheetah's subtracting the density
where its logarithm is meant. `illegal`: unavailable actions count in (2) and may be best_i. `padded`: the imitation term is averaged
over padding too, where it has no gradient, so that coe weighs less in short episodes. `stepwise`: an optimiser step of the critic per
time step. `local`: critics see o_i alone (their continuous code).

Deviations from the code (github.com/ling-pan/OMAR at 0e52ad6; discrete: baseline_omar of github.com/thu-rllab/CFCQL at 3441019):
 1. Critics see the state beside o_i, as the discrete code's; `local` is the continuous code's.
 2. Each of the two discrete critics has its own output layer (code: one for both); heads a(.) + v are one layer.
 3. Inputs are standardised over the dataset, in place of a BatchNorm in front of each network; agents share a minibatch.
 4. Policies do not see their last action beside the observation. All networks have one width (discrete code: agents 64, critics 256).
 5. TD(lam) bootstraps where data end without a termination, also before the window's end.
Checked: losses against plain numpy (tests/algorithms/test_equations.py); with coe = 0 it is its CQL base (tests/algorithms/test_limits.py).
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.core.spaces import ILLEGAL, LOG_STD, noisy_logsumexp
from inspo_benchmark.core.suites import MUJOCO
from inspo_benchmark.learning.algorithm import Algorithm, informed, mean, returns
from inspo_benchmark.learning.config import Valued
from inspo_benchmark.learning.nets import AgentNet, Critic

SIGMA, START = 0.2, 2.0  # noise of the candidates of (2), and of the search's first round
SMALL = 1e-5  # beside probabilities in (3)


@ALGORITHMS.register("omar")
class OMAR(Algorithm):
    paper = "OMAR (Pan et al. 2022, ICML, arXiv 2111.11188)"

    @dataclass(frozen=True)
    class Config(Valued):
        share: bool = True  # one network told who it is, instead of one per agent
        alpha: float = 1.0  # weight of the conservative term
        coe: float = 0.5  # share of the imitation of what the search finds
        lam: float = 0.6  # of the TD(lam) targets
        samples: int = 10  # candidates of (2) where actions are continuous
        sets: Literal["importance", "uniform", "noisy", "density"] = "importance"  # where they come from
        rounds: int = 3  # of the search
        candidates: int = 10  # of each round
        refit: Literal["softmax", "elites"] = "elites"  # what a round learns from its candidates
        elites: int = 5  # how many are the best
        cem: bool = False  # discrete actions: search over their numbers, instead of taking the best
        local: bool = False  # critics without the state
        illegal: bool = False  # unavailable actions count in (2) and may be the best
        padded: bool = False  # imitation is averaged over padding too
        stepwise: bool = False  # a critic step per time step

        def __post_init__(self):
            super().__post_init__()
            if self.alpha < 0 or not (0 <= self.coe <= 1 and 0 <= self.lam <= 1):
                raise UserError("alpha must not be negative; coe and lam must lie in [0, 1]")
            if min(self.samples, self.elites, self.candidates) < 2 or self.rounds < 1 or self.elites > self.candidates:
                raise UserError("samples and elites must be at least 2, candidates at least as many as elites, rounds at least 1")

    PAPER = {
        # their code: algorithms/maddpg.py, lines 471-495 (coe and alpha) and the defaults of main.py; gamma = .95 on all, because
        # the constructor's default is never overridden
        **{
            f"{env}-*": dict(
                lr=1e-2, batch=1024, gamma=0.95, tau=0.01, clip=0.5, share=False, local=True, sets="uniform", refit="softmax", steps=steps
            )
            for env, steps in (("spread", 2000), ("tag", 2000), ("world", 1000))
        },
        "spread-random": dict(coe=1.0, alpha=0.5, steps=6000),
        "spread-medium_replay": dict(coe=1.0, alpha=1.0),
        "spread-medium": dict(coe=1.0, alpha=5.0),
        "spread-expert": dict(coe=1.0, alpha=5.0),
        "tag-random": dict(coe=0.9, alpha=0.5),
        "tag-medium_replay": dict(coe=0.9, alpha=0.5, steps=1000),
        "tag-medium": dict(coe=0.7, alpha=5.0),
        "tag-expert": dict(coe=0.9, alpha=5.0),
        "world-random": dict(coe=1.0, alpha=0.5),
        "world-medium_replay": dict(coe=0.7, alpha=1.0),
        "world-medium": dict(coe=0.1, alpha=0.5),
        "world-expert": dict(coe=0.9, alpha=5.0),
        "halfcheetah_2x3-*": dict(
            lr=3e-4,
            hidden=256,
            batch=256,
            gamma=0.95,
            clip=0.5,
            share=False,
            local=True,
            sets="noisy",
            rounds=2,
            candidates=20,
            steps=100_000,
        ),
        "halfcheetah_2x3-random": dict(coe=1.0, alpha=1.0),
        "halfcheetah_2x3-medium_replay": dict(coe=0.9, alpha=5.0),
        "halfcheetah_2x3-medium": dict(coe=0.7, alpha=1.0),
        "halfcheetah_2x3-expert": dict(coe=0.5, alpha=5.0),
        # CFCQL's code: config/algs/baseline_omar.yaml, 128 whole episodes, copies every 25 updates
        "2s3z-*": dict(memory="gru", window=120, alpha=5.0, period=25, steps=1500),
        "3s_vs_5z-*": dict(memory="gru", window=250, alpha=5.0, period=25, steps=500),
        "5m_vs_6m-*": dict(memory="gru", window=70, alpha=5.0, period=25, steps=2800),
        "6h_vs_8z-*": dict(memory="gru", window=150, alpha=5.0, period=25, steps=1850),
        # this project's: the games are small and short
        "xor-*": dict(gamma=0.0, batch=64, steps=1000),
        "mne*": dict(gamma=0.0, steps=1000),
        "bridge-*": dict(batch=32, window=5, tau=0.02, steps=3000),
    }

    PROTOCOL = {
        # this project's: other robots than HalfCheetah 2x3 take its settings in their code; with gamma = .99 and sets = "importance"
        # greedily none was above cloning. hopper_3x1-medium_replay after 3000 updates: 43, 179, 736 with .5, 5, 50; with 5, 50
        # ant_2x4-expert 720, 966, medium_replay -423, -647
        **{glob: dict(gamma=0.95, clip=0.5, sets="noisy", local=True, rounds=2, candidates=20) for glob in MUJOCO},
        **{glob: dict(alpha=5.0, coe=0.9) for glob in ("halfcheetah_2x3_*", "halfcheetah_6x1*", "ant_2x4*")},
        "hopper_*": dict(alpha=50.0, coe=0.9),
    }

    def nets(self):
        c, n, a = self.cfg, self.spec, self.space
        seen = n.obs + (0 if c.local else n.state)
        return dict(
            pi=AgentNet(n.agents, n.obs, c.hidden, a.width, c.share, c.memory),
            q1=Critic(a, n.agents, seen, c.hidden, c.share),
            q2=Critic(a, n.agents, seen, c.hidden, c.share),
        )

    def noise(self):
        c, a = self.cfg, self.space
        rows = c.batch, c.window, self.spec.agents
        penalty = a.draws(3 * c.samples if c.sets in ("noisy", "density") else c.samples)
        numbers = a.draw or (1,)  # the search is over actions or over their numbers
        return dict(penalty=(*rows, *penalty), search=(c.rounds, *rows, c.candidates, *numbers))

    def seen(self, x):
        return x.obs if self.cfg.local else informed(x)

    def legal(self, x):
        return x.legal | self.cfg.illegal

    def act_at(self, x, legal):  # the agents' actions, of what their policies put out
        return self.space.mode(self.space.around(x, SIGMA), legal)

    def target(self, tg, b):  # (1)
        x, a = self.seen(b.next), self.act_at(self.ahead(tg.pi, b.obs), b.next.legal).unsqueeze(3)
        each = [returns(q(x, a)[..., 0], b, self.cfg.gamma, self.cfg.lam) for q in (tg.q1, tg.q2)]
        return each[0].minimum(each[1])

    def critic_loss(self, on, tg, b, y, now, ahead, u):  # (2); now and ahead: what the policies put out there
        x, act, total = self.seen(b.now), b.now.act.unsqueeze(3), 0.0
        for critic in (on.q1, on.q2):

            def q(a, critic=critic):
                return critic(x, a)

            if self.space.kind == "discrete" or self.cfg.sets == "importance":
                over = self.space.logsumexp(q, self.space.around(now, SIGMA), self.legal(b.now), u)
            elif self.cfg.sets == "uniform":
                over = q(2 * u - 1).logsumexp(-1) + self.space.d * math.log(2)
            else:
                correction = "density" if self.cfg.sets == "density" else "log"
                over = noisy_logsumexp([q] * 3, [torch.tanh(now), torch.tanh(ahead)], u, SIGMA, correction)
            data = q(act)[..., 0]
            total = total + mean(b.mask[..., None], (y - data) ** 2 + self.cfg.alpha * (over - data))
        return total

    # the search ------------------------------------------------------------------------------------------------------------

    def best(self, f, b, u):
        x, legal, now = self.seen(b.now), self.legal(b.now), f.pi(b.now.obs)

        def q(a):  # at candidates [B, L, N, K] or [B, L, N, K, D]
            value = f.q1(x, a)
            return value if self.space.kind == "continuous" else torch.where(legal.gather(-1, a), value, ILLEGAL)

        if self.space.kind == "discrete" and not self.cfg.cem:
            return self.space.best(lambda a: f.q1(x, a), now, legal, u)
        pair = torch.stack([self.act_at(now, b.now.legal), self.search(q, u)], 3)
        first, second = q(pair).unbind(3)
        return torch.where((first >= second).view(*first.shape, *[1] * len(self.space.draw)), *pair.unbind(3))

    def search(self, q, u):  # u [rounds, B, L, N, K, D], D = 1 for the numbers of discrete actions
        box, keep = self.space.kind == "continuous", self.cfg.elites
        mean_, std = (0.0, START) if box else (self.space.n / 2, self.space.n / 2)
        pool = elite = None

        def value(x):
            return q(x if box else x[..., 0].long())

        for z in torch.special.ndtri(u).unbind(0):
            x = mean_ + std * z
            x = x.clamp(-1, 1) if box else x.round().clamp(0, self.space.n - 1)
            pool = x if elite is None else torch.cat([x, elite], -2)
            if self.cfg.refit == "softmax":
                mean_ = (value(pool).softmax(-1)[..., None] * pool).sum(-2, keepdim=True)
                std = ((pool - mean_) ** 2).mean(-2, keepdim=True).sqrt()
            else:
                top = value(pool).topk(keep, -1).indices
                elite = pool.gather(-2, top[..., None].expand(*top.shape, pool.shape[-1]))
                mean_, std = elite.mean(-2, keepdim=True), elite.std(-2, keepdim=True)
        top = value(pool).argmax(-1)[..., None, None]
        found = pool.gather(-2, top.expand(*top.shape[:-1], pool.shape[-1]))[..., 0, :]
        return found if box else found[..., 0].long()

    def policy_loss(self, on, tg, b, best):  # (3)
        c, x, h = self.cfg, self.seen(b.now), on.pi(b.now.obs)
        mask = b.mask[..., None]
        if self.space.kind == "continuous":
            point = torch.tanh(h)
            gain = on.q1(x, point.unsqueeze(3))[..., 0]
            extra = 1e-3 * mean(mask[..., None], point**2)
        else:
            point, act = self.space.logp(h, b.now.legal).exp(), b.now.act[..., None]
            values = on.q1(x, self.space.all(h))
            advantage = values.gather(-1, act)[..., 0] - (point * values).sum(-1)
            gain, extra = advantage.detach() * (point.gather(-1, act)[..., 0] + SMALL).log(), 0.0
        error = (point - self.space.encode(best)) ** 2
        error = torch.where(mask[..., None] > 0, error, error.detach())  # policies of padding are constant in their code
        imitation = mean(torch.ones_like(mask[..., None]) if c.padded else mask[..., None], error)
        return c.coe * imitation - (1 - c.coe) * mean(mask, gain) + extra

    def update(self, s, b, d):
        on, tg = self.online(s), self.targets(s)
        now, ahead, y = on.pi(b.now.obs), self.ahead(on.pi, b.obs), self.target(tg, b)
        descend = self.descend_in_time if self.cfg.stepwise else self.descend
        s, q = descend(s, "q1 q2", self.critic_loss, b, y, now, ahead, d.u["penalty"])
        s, pi = self.descend(s, "pi", self.policy_loss, b, self.best(self.online(s), b, d.u["search"]))
        return self.follow(s, "q1 q2 pi"), dict(loss_critic=q, loss_policy=pi)

    def heads(self, f, obs, memory):
        x, memory = f.pi(obs, memory=memory)
        return self.space.around(x, math.exp(LOG_STD[0])), memory
