"""InSPO: in-sample sequential policy optimization (Liu et al., AAAI 2025, arXiv 2412.07639).

The authors have published no code. Public are the abstract and the algorithm box. The abstract states a maximum-entropy
behavior-regularized Markov game with reverse KL; agents updated one by one, each given its teammates' newest policies; a closed-form
in-sample update; local Q-functions learned with importance resampling; monotonic improvement; convergence to a quantal response
equilibrium. Equations (1) and (2) are this framework. Equations (3) to (7) and the networks are this project's derivation from it.

Cooperative game, joint behavior mu(a|s), which need not factorize; policies pi(a|s) = prod_i pi^i(a^i|o^i); -i are all agents but i.

    J(pi)    = E_pi sum_t gamma^t [ r - alpha log(pi/mu)(a|s) - beta log pi(a|s) ]                                      (1)
    Q        = r + gamma E V(s'),    V(s) = E_pi[ Q - alpha log(pi/mu) - beta log pi ]                                  (2)
    KL(pi || mu) = KL(pi^i || mu^i) + E_{a^i ~ pi^i} K^i(s, a^i),    K^i(s, a^i) = KL( pi^{-i}(.|s) || mu(.|s, a^i) )   (3)
    Q^i(s, a^i)  = E_{a^{-i} ~ pi^{-i}} Q(s, a)                                                                         (4)
    pi^i*(a^i|s) ~ mu^i(a^i|s)^{alpha/(alpha+beta)} exp( (Q^i - alpha K^i)(s, a^i) / (alpha+beta) )                     (5)
    w  = exp( (Q^i - alpha K^i - beta log mu^i - B(s)) / (alpha+beta) ),    B = E_{pi^i} of the first three terms,
    L(pi^i) = - E_D[ min(w, cap) log pi^i(a^i|o^i) ]                                                                    (6)
    rho^i = min( rho_max, prod_{j != i} pi^j(a^j|o^j) / mu(a^{-i}|s, a^i) )                                             (7)
    L(Q^i) = E_{D resampled ~ rho^i} ( r + gamma (1 - terminal) V^i(s') - Q^i(s, a^i) )^2,   V^i as (2) with (3), (4)

K^i is the cost of an action that clashes, according to the data, with the teammates' current policies. Without it the two optima of
the XOR data {(A,B), (B,A)} stay tied. -beta log mu^i gives more weight to actions that are rare in the data. When (5) is solved
exactly, (1) never decreases at any agent's turn; `tools/exact_inspo.py` is this tabular method.

Deviations from the algorithm box:
 1. mu is trained along with the policies. The box fits it once, before the loop.
 2. Each agent's critics are updated at its turn, on a minibatch of its own. The box computes Q once per iteration, before any agent
    is updated.
 3. Agents act by a running mean of their policies' weights where `ema_rate` < 1 (choice 7). The box returns the last policies.

Choices of this implementation, where nothing is published:
 1. mu is one masked autoregressive model: the action of agent j given the state and the actions of any set of agents, trained on
    uniformly random orders. The chain i, i+1, ..., i-1 gives mu^i and mu(a^{-i}|s, a^i) in one pass.
 2. K^i is the sum of the conditional KLs along this chain. Each is exact for discrete actions. Its predecessors in the chain are
    `num_samples` samples of pi^{-i}; with two agents there are none. Only mu is evaluated at these samples, never Q^i: the method stays
    in-sample.
 3. Q^i sees the state. Each agent has two critics, of which the smaller one counts, with Polyak targets. Policies see their own
    observation.
 4. Resampling is systematic, within the minibatch.
 5. alpha and beta are constant at first, then move linearly to `alpha_end` and `beta_end` times their value. target_kl > 0 also tunes
    alpha by dual descent until KL(pi || mu) meets it.
 6. For the first `bc_warmup` of the updates w = 1: policies start as clones of the data (alpha = infinity).
 7. The running mean covers about the last 1 / `ema_rate` updates: where alpha is small, w is noisy, and a policy oscillates between
    actions that are equally good. No loss depends on the mean.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean, resampling_counts
from inspo_benchmark.learning.config import Common
from inspo_benchmark.learning.nets import AgentNet, Critic, matmul, select, teammates_of


class Local(NamedTuple):
    """Terms of agent i that do not depend on Q, in every row of a batch: at K candidate actions, and last at the action of the data.

    The mean of x over pi^i is (p * x).sum(-1).
    """

    a: Tensor  # [B, L+1, K+1] or [B, L+1, K+1, D]: the candidates, then the data's action
    p: Tensor  # [B, L+1, K]: probabilities of the candidates
    log_pi: Tensor  # [B, L+1, K]: log pi^i
    log_mu: Tensor  # [B, L+1, K+1]: log mu^i
    k: Tensor  # [B, L+1, K+1]: K^i of (3)

    @property
    def log_ratio(self) -> Tensor:
        """K^i + log pi^i - log mu^i at the candidates [B, L+1, K]. Its mean over pi^i is KL(pi || mu), by (3)."""
        return self.k[..., :-1] + self.log_pi - self.log_mu[..., :-1]  # (3)


class Conditional(AgentNet):
    """Action parameters of mu(a^j | s, a^k for all known k): one network for every agent j and every set of known actions.

    forward(state, act, known): state [..., S], encoded actions act [..., N, A], known [..., N, N] (1 where j knows k) -> [..., N, P].
    forward(state, act, known, i, a): the agents i+1, ..., i-1 alone, who all know the encoded action a [..., A] of agent i as well
    -> [..., N-1, P]. Leading axes broadcast: many candidates a share the part of the first layer that does not depend on them.
    """

    def __init__(self, agents: int, state: int, width: int, hidden: int, outputs: int):
        super().__init__(agents, state + agents * (width + 1), hidden, outputs, share=True)
        self.inputs = state, agents * width, agents

    def forward(self, state: Tensor, act: Tensor, known: Tensor, i: int | Tensor | None = None, a: Tensor | None = None) -> Tensor:
        w_state, w_act, w_known = self.first.weight.split(self.inputs)
        w_act = w_act.unflatten(0, (len(w_known), -1))  # [N, A, H]
        given = torch.einsum("...kw,kwh->...kh", act, w_act) + w_known  # what the action of agent k adds: [..., N, H]
        from_state = matmul(state, w_state) + self.first.bias
        x = from_state[..., None, :] + self.who + known @ given
        if i is not None:
            from_a = matmul(a, select(w_act, 0, i)) + select(w_known, 0, i)
            x = x[..., teammates_of(i, len(w_known), x.device), :] + from_a[..., None, :]
        return self.last(F.relu(self.second(F.relu(x))))


class LogTemperature(nn.Module):
    """What dual descent adds to log alpha (choice 5)."""

    def __init__(self):
        super().__init__()
        self.offset = nn.Parameter(torch.zeros(1))

    def forward(self) -> Tensor:
        return self.offset[0]


def annealed(start: float, share: float, moved: Tensor) -> Tensor:
    """From `start` to start * share, linearly as `moved` goes from 0 to 1."""
    return start * (1 + (share - 1) * moved)


@ALGORITHMS.register("inspo")
class InSPO(Algorithm):
    paper = "InSPO (Liu et al. 2025, AAAI, arXiv 2412.07639)"

    @dataclass(frozen=True)
    class Config(Common):
        gamma: float = 0.99  # discount
        tau: float = 0.005  # Polyak rate of the target critics
        alpha: float = 0.1  # weight of the reverse KL to the behavior policy
        alpha_end: float = 1.0  # share of alpha left after annealing
        beta: float = 0.0  # weight of the entropy
        beta_end: float = 1.0  # share of beta left after annealing
        anneal_start: float = 0.4  # share of the updates before alpha and beta are annealed
        anneal_duration: float = 0.3  # share of the updates over which alpha and beta are annealed
        target_kl: float = 0.0  # KL(pi || mu) that alpha is tuned to meet; 0: alpha is not tuned
        ema_rate: float = 1.0  # EMA rate of the evaluation policy; 1: off
        bc_warmup: float = 0.1  # share of the updates in which policies clone the data
        weight_max: float = 100.0  # cap of the weights w
        rho_max: float = 100.0  # cap of the ratios rho
        num_samples: int = 4  # sampled actions of the teammates, and of the agent itself where actions are continuous
        sequential: bool = True  # agents in turn; false: all at once, against the teammates' old policies
        resample: bool = True  # critics on data resampled by rho; false: on the data as they are
        behavior: Literal["autoregressive", "factored"] = "autoregressive"  # mu(a^j|s, a^i, ...) or mu(a^j|s)

        def __post_init__(self):
            super().__post_init__()
            if min(self.alpha, self.alpha_end, self.beta, self.beta_end, self.target_kl) < 0:
                raise UserError("alpha, alpha_end, beta, beta_end and target_kl must not be negative")
            if min(self.alpha + self.beta, self.alpha * self.alpha_end + self.beta * self.beta_end) <= 0:
                raise UserError("alpha + beta must stay above 0 (after annealing: alpha * alpha_end + beta * beta_end)")
            if not (min(self.gamma, self.bc_warmup, self.anneal_start) >= 0 and max(self.gamma, self.bc_warmup, self.anneal_start) <= 1):
                raise UserError("gamma, bc_warmup and anneal_start must lie in [0, 1]")
            if not (0 < self.tau <= 1 and 0 < self.anneal_duration <= 1 and 0 < self.ema_rate <= 1):
                raise UserError("tau, anneal_duration and ema_rate must lie in (0, 1]")
            if self.num_samples < 1 or min(self.weight_max, self.rho_max) < 1:
                raise UserError("num_samples, weight_max and rho_max must be at least 1")

    TUNED = {  # the paper's settings are not public; gamma = 0 where actions do not change the state
        "smac": dict(gamma=0.98, tau=0.05, alpha=1.0, alpha_end=0.3, bc_warmup=0.4, num_samples=1, ema_rate=0.005),
        "mujoco": dict(alpha=1.0, alpha_end=0.3, num_samples=2, ema_rate=0.005),
        "hopper_*": dict(alpha=10.0, alpha_end=1.0, ema_rate=1.0),
        "ant_*": dict(alpha=10.0),
        "xor-*": dict(gamma=0.0, lr=1e-3, batch_size=64, num_updates=700),
        "mne*": dict(gamma=0.0, lr=3e-3, beta=5.0, beta_end=0.0, num_updates=800),
        "bridge-*": dict(lr=3e-3, batch_size=32, tau=0.02, alpha_end=0.3, num_updates=4000),
    }

    def nets(self):
        c = self.cfg
        spec = self.spec
        space = self.space
        critic = partial(Critic, space, spec.num_agents, spec.state_dim, c.hidden_dim, c.share_params)
        return dict(
            pi=AgentNet(spec.num_agents, spec.obs_dim, c.hidden_dim, space.params_dim, c.share_params, c.network),
            mu=Conditional(spec.num_agents, spec.state_dim, space.action_dim, c.hidden_dim, space.params_dim),
            q1=critic(),
            q2=critic(),
            log_alpha=LogTemperature(),
        )

    @property
    def turns(self):
        return self.spec.num_agents if self.cfg.sequential else 1

    def noise(self):
        c = self.cfg
        agents = self.spec.num_agents
        rows = (c.batch_size, c.seq_len + 1, agents)
        team_draws = c.num_samples if agents > 2 else 1  # choice 2
        return dict(
            order=(c.batch_size, c.seq_len, agents),
            team=(team_draws, *rows, *self.space.noise_shape),
            own=(*rows, *self.space.sample_noise_shape(c.num_samples)),
            resample=(),
        )

    # behavior model ----------------------------------------------------------------------------------------------------

    def mu(self, f, state, act, rank):
        """Action parameters of mu(a^j | s, a^k of all k of lower rank) for every j [..., N, P].

        state [..., S], act [..., N] or [..., N, D], rank [..., N].
        """
        return f.mu(state, self.space.encode(act), self.known(rank, state.dtype))

    def mu_of_teammates(self, f, state, act, i, a):
        """The same of the agents i+1, ..., i-1 in the chain i, i+1, ..., i-1, for K candidates a [K, ...] of agent i that replace its
        action in act: [K, ..., N-1, P]."""
        rank = self.chain(i, state)
        if self.cfg.behavior == "factored":
            teammates = teammates_of(i, self.spec.num_agents, state.device)
            h = self.mu(f, state, act, rank)[..., teammates, :]
            return h.expand(len(a), *h.shape)
        known = self.known(rank, state.dtype) * (rank > 0)  # agent i's action in act is not known
        return f.mu(state, self.space.encode(act), known, i, self.space.encode(a))

    def known(self, rank, dtype):  # [..., j, k]: 1 where mu(a^j | ...) is given a^k
        known = rank[..., None, :] < rank[..., :, None]
        if self.cfg.behavior == "factored":
            known = torch.zeros_like(known)
        return known.to(dtype)

    def chain(self, i, like):  # ranks of the agents in the order i, i+1, ..., i-1
        agents = self.spec.num_agents
        return (torch.arange(agents, device=like.device) - i) % agents

    def behavior_loss(self, on, tg, b, rank):  # - sum_j log mu(a^j | s, a^k of lower rank)
        h = self.mu(on, b.now.state, b.now.actions, rank)
        log_mu = self.space.log_prob(h, b.now.actions, b.now.avail)
        return -masked_mean(b.mask[..., None], log_mu)

    # one agent's turn --------------------------------------------------------------------------------------------------

    def local(self, f, b, i, pi, u) -> Local:
        """The terms of (2), (5) and (6) that do not depend on Q. pi: action parameters of all agents' policies [B, L+1, N, P]."""
        space = self.space
        avail = select(b.avail, 2, i)
        h = select(pi, 2, i)
        candidates, p = space.support(h, avail, select(u["own"], 2, i))
        log_pi = space.log_prob(h[..., None, :], candidates, avail[..., None, :])
        a = torch.cat([candidates, select(b.actions, 2, i).unsqueeze(2)], 2)
        nothing_known = torch.zeros_like(self.chain(i, b.obs))
        h_mu = select(self.mu(f, b.state, b.actions, nothing_known), 2, i)
        log_mu = space.log_prob(h_mu[..., None, :], a, avail[..., None, :])
        return Local(a, p, log_pi, log_mu, self.teammates_kl(f, b, i, a, pi, u))

    def teammates_kl(self, f, b, i, a, pi, u):  # K^i of (3) at agent i's actions a, [B, L+1, K+1]
        team = self.space.sample(pi, b.avail, u["team"])  # [M, B, L+1, N]
        candidates = a.movedim(2, 0)[:, None]  # [K+1, 1, B, L+1]
        h_mu = self.mu_of_teammates(f, b.state, team, i, candidates)  # [K+1, M, B, L+1, N-1, P]
        teammates = teammates_of(i, self.spec.num_agents, b.obs.device)
        h = pi[:, :, teammates]
        avail = b.avail[:, :, teammates]

        def log_ratio(a_j):  # log pi^j - log mu^j at candidate actions of each teammate j
            ok = avail[..., None, :]
            log_pi = self.space.log_prob(h[..., None, :], a_j, ok)
            log_mu = self.space.log_prob(h_mu[..., None, :], a_j, ok)
            return log_pi - log_mu

        kl = self.space.expect(log_ratio, h, avail, u["own"][:, :, teammates])
        k = kl.sum(-1).mean(1)  # (3): over the chain, mean over the M draws of the predecessors
        return k.movedim(0, -1)

    def q(self, f, b, i, a):  # Q^i(s, a^i), the smaller of two critics
        q1 = f.q1(b.state, a, agent=i)
        q2 = f.q2(b.state, a, agent=i)
        return torch.minimum(q1, q2)  # (4)

    def target(self, tg, b, i, terms, alpha, beta, others_entropy):  # y of (7), [B, L]
        q = self.q(tg, b, i, terms.a[:, :, :-1])
        value = q - alpha * terms.log_ratio - beta * terms.log_pi
        v = (terms.p * value).sum(-1) + beta * others_entropy  # (2), the value of (1) in a state
        return b.rewards + self.cfg.gamma * (1 - b.terminated) * v[:, 1:]

    def ratios(self, f, b, i, pi):  # log rho^i, [B, L]
        h_mu = self.mu(f, b.now.state, b.now.actions, self.chain(i, b.obs))
        log_pi = self.space.log_prob(pi[:, :-1], b.now.actions, b.now.avail)
        log_mu = self.space.log_prob(h_mu, b.now.actions, b.now.avail)
        is_i = torch.arange(self.spec.num_agents, device=b.obs.device) == i
        log_rho = torch.where(is_i, 0.0, log_pi - log_mu).sum(-1)
        return log_rho.clamp(max=math.log(self.cfg.rho_max))  # (7)

    def critic_loss(self, on, tg, b, i, y, count):
        a = select(b.now.actions, 2, i).unsqueeze(2)
        q1 = on.q1(b.now.state, a, agent=i)[..., 0]
        q2 = on.q2(b.now.state, a, agent=i)[..., 0]
        return masked_mean(count, (q1 - y) ** 2) + masked_mean(count, (q2 - y) ** 2)  # (7)

    def weights(self, f, b, i, terms, alpha, beta):  # w of (6), [B, L]
        value = self.q(f, b, i, terms.a) - alpha * terms.k - beta * terms.log_mu
        baseline = (terms.p * value[..., :-1]).sum(-1)  # B(s) of (6)
        advantage = value[..., -1] - baseline
        log_w = advantage[:, :-1] / (alpha + beta)  # (6)
        return log_w.clamp(max=math.log(self.cfg.weight_max)).exp()

    def policy_loss(self, on, tg, b, i, w):
        a = select(b.now.actions, 2, i)
        avail = select(b.now.avail, 2, i)
        h = on.pi(select(b.obs, 2, i), agent=i)[:, :-1]
        log_pi = self.space.log_prob(h, a, avail)
        return -masked_mean(b.mask, w * log_pi)  # (6); its minimizer is (5)

    def temperature_loss(self, on, tg, kl):  # gradient target - KL: log alpha rises while the KL is too large
        return on.log_alpha() * (self.cfg.target_kl - kl)

    def temperatures(self, s, progress):  # alpha and beta (choice 5)
        c = self.cfg
        moved = ((progress - c.anneal_start) / c.anneal_duration).clamp(0, 1)
        alpha = annealed(c.alpha, c.alpha_end, moved) * self.online(s).log_alpha().exp()
        beta = annealed(c.beta, c.beta_end, moved)
        return alpha, beta

    def entropies(self, pi, avail, u):  # of every agent's policy, [B, L+1, N]
        def log_pi(a):
            return self.space.log_prob(pi[..., None, :], a, avail[..., None, :])

        return -self.space.expect(log_pi, pi, avail, u)

    def update(self, s, b, d):
        c = self.cfg
        tg = self.targets(s)
        progress = s.step / (c.num_updates * self.turns)
        alpha, beta = self.temperatures(s, progress)

        s, loss_behavior = self.gradient_step(s, "mu", self.behavior_loss, b, d.u["order"])
        pi = self.online(s).pi(b.obs)
        entropy = self.entropies(pi, b.avail, d.u["own"])
        for i in [d.agent] if c.sequential else range(self.spec.num_agents):
            on = self.online(s)
            terms = self.local(on, b, i, pi, d.u)
            others_entropy = entropy.sum(-1) - select(entropy, 2, i)
            y = self.target(tg, b, i, terms, alpha, beta, others_entropy)
            count = b.mask
            if c.resample:
                log_rho = self.ratios(on, b, i, pi)
                count = resampling_counts(log_rho, b.mask, d.u["resample"])
            s, loss_critic = self.gradient_step(s, "q1 q2", self.critic_loss, b, i, y, count, only=i)

            w = self.weights(self.online(s), b, i, terms, alpha, beta)
            w = torch.where(progress < c.bc_warmup, 1.0, w)  # choice 6
            s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b, i, w, only=i)

            s = self.update_targets(s, "q1 q2", only=i)
            rate = 1 / (1 + s.step // self.turns)  # choice 7
            s = self.update_targets(s, "pi", only=i, tau=rate.clamp(min=c.ema_rate))

        kl = (terms.p * terms.log_ratio).sum(-1)[:, :-1]  # KL(pi || mu) of (3)
        kl = masked_mean(b.mask, kl)
        if c.target_kl > 0:
            s, _ = self.gradient_step(s, "log_alpha", self.temperature_loss, kl)
        return s, dict(loss_behavior=loss_behavior, loss_critic=loss_critic, loss_policy=loss_policy, kl=kl)

    def acting_params(self, s):
        return s.params | {"pi": s.target["pi"]}

    def action_params(self, f, obs, memory):
        return f.pi(obs, memory=memory)
