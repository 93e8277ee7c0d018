"""InSPO: in-sample sequential policy optimization (Liu et al., AAAI 2025, arXiv 2412.07639).

The authors have published no code, and the equations of the paper's method section were not available to this project. From the
abstract: agents updated one by one on actions in the data, each given its teammates' newest policies; monotonic improvement;
convergence to a quantal response equilibrium. From summaries by others: a maximum-entropy behavior-regularized Markov game with
reverse KL, which is (1) and (2); a closed-form update; local Q-functions learned with importance resampling. From the algorithm box:
fit mu once; then in every iteration compute Q once, and update the agents in a random order, each against this Q and the newest
policies of its teammates. `stages` and `update` are this box. Equations (3) to (9) and the networks are this project's derivation.

Cooperative game, joint behavior mu(a|s), which need not factorize; policies pi(a|s) = prod_i pi^i(a^i|o^i); -i are all agents but i.

    J(pi)    = E_pi sum_t gamma^t [ r - alpha log(pi/mu)(a|s) - beta log pi(a|s) ]                                      (1)
    Q        = r + gamma E V(s'),    V(s) = E_pi[ Q - alpha log(pi/mu) - beta log pi ]                                  (2)
    KL(pi || mu) = KL(pi^i || mu^i) + E_{a^i ~ pi^i} K^i(s, a^i),    K^i(s, a^i) = KL( pi^{-i}(.|s) || mu(.|s, a^i) )   (3)
    Q^i(s, a^i)  = E_{a^{-i} ~ pi^{-i}} Q(s, a)                                                                         (4)
    pi^i*(a^i|s) ~ mu^i(a^i|s)^{alpha/(alpha+beta)} exp( (Q^i - alpha K^i)(s, a^i) / (alpha+beta) )                     (5)
    w  = exp( (Q^i - alpha K^i - beta log mu^i - B(s)) / (alpha+beta) ),    B = E_{pi^i} of the first three terms,
    L(pi^i) = - E_D[ min(w, cap) log pi^i(a^i|o^i) ]                                                                    (6)
    rho^i = min( rho_max, prod_{j != i} pi^j(a^j|o^j) / mu(a^{-i}|s, a^i) ),  mu(a^{-i}|s, a^i) = mu(a|s) / mu^i(a^i|s) (7)
    L(Q^i) = E_{D resampled ~ rho^i} ( r + gamma (1 - terminal) V^i(s') - Q^i(s, a^i) )^2,
    V^i    = E_{pi^i} Q^i - alpha KL(pi || mu) - beta E_pi log pi                                                       (8)
    sigma^2 = E_i L(Q^i)                                                                                                (9)

K^i is the cost of an action that clashes, according to the data, with the teammates' current policies. Without it the two optima of
the XOR data {(A,B), (B,A)} stay tied. -beta log mu^i gives more weight to actions that are rare in the data. When (5) is solved
exactly, V falls in no state over a sweep of all agents; `tools/exact_inspo.py` is this tabular method.

Choices of this implementation, where nothing is published:
 1. mu is one masked autoregressive model: the action of agent j given the state and the actions of any set of agents, trained on
    uniformly random orders. With no action known it gives the mu^i; along a chain of all agents, mu(a|s).
 2. The first stage, the share `bc_share` of the updates, fits mu, clones the data into the policies, and fits Q_0 by (8) without
    resampling, KL and entropy. In the second, an update is an iteration of the box on one minibatch: a gradient step for all critics, then
    one for each agent's policy in turn. With `share_params` each turn moves the one network of all agents: N steps per update. Q^i less
    its mean over pi^i, in (6), is computed once, at the start of the sweep; earlier turns may move pi^i before it is used.
 3. KL(pi || mu) and K^i are sums of conditional KLs along a chain of agents, each in closed form. The predecessors in the chain are
    `num_samples` joint samples of pi. w needs K^i at the action of the data and its mean over pi^i, which is estimated at a sampled action
    of agent i. Both use the same samples of the teammates' actions. `num_samples = 0` sums over all joint actions. The sampled K^i is
    right on average; with three or more agents w, an exponential of it, is not, and (5) minimizes (6) only as the number of samples grows.
    Only mu is evaluated at these samples. Q^i sees single actions, of the data and of pi^i: no joint action outside the data is given a
    value.
 4. Q^i and mu see the state; with `critic_sees_obs` also agent i's observation (mu: agent j's for its action), which holds for example
    its distances. mu is one joint distribution, as (3) and (7) need, if the state determines the observations. Each agent has one critic
    with a Polyak target; the targets are the Q of a sweep, in (6) as in (8), because their errors are smaller. Policies see their own
    observation.
 5. Resampling is systematic, within the minibatch. With many agents few rows have most of the weight, unless `rho_max` is small. Where
    advantages have heavy tails, few rows have most of w, unless `weight_max` is small.
 6. With `scale_by_td_error`, alpha and beta are in units of sigma, the critics' error at the end of the first stage: the root of a running
    mean of (9) over its updates. They then mean the same on every task: policies leave the data where advantages are large beside the
    errors of the critics that estimate them, and hardly where they are small. In the second stage sigma stays, and alpha is a constant as
    in (1): an error of critics whose targets hold alpha KL must not raise alpha in turn. beta is constant at first, then moves linearly to
    `beta_end` times its value.
 7. With `excess_kl`, the KL of (8) is taken less KL(pi_0 || mu)(s'), that of the clones pi_0 that begin the second stage: policies pay for
    leaving the clones. The clones are a product and mu is not, so they have a KL too, which would pay agents to go where mu is simple
    (on HalfCheetah, to stand still) or to end an episode early (on Hopper, to fall).
 8. With `shape_rewards`, a setting that all methods with critics have, rewards are shaped by values that are fitted to the data's returns
    (`learning.shaping`). This changes no advantage, and it lets the critics take late rewards into account from the first update.
 9. With `ema_rate` < 1, a setting that all methods have, agents act by a running mean of their policies' weights. The box returns the
    last policies, as the default does.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import vmap

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean, resampling_counts, running_mean_rate, state_and_obs
from inspo_benchmark.learning.config import Valued
from inspo_benchmark.learning.nets import AgentNet, Critic, matmul, replace, select

MAX_JOINT_ACTIONS = 4096  # that `num_samples = 0` sums over
SCALE_RATE = 0.01  # of the running mean of sigma^2
MIN_SCALE = 1e-6  # of sigma


class Conditional(AgentNet):
    """Action parameters of mu(a^j | s, a^k for all known k): one network for every agent j and every set of known actions.

    state [..., S], encoded actions act [..., N, A] -> [..., N, P]; leading axes broadcast. obs [..., N, O]: agent j's beside the state.
    forward(state, obs): no action is known.
    forward(state, obs, act): agent j knows those of the agents 0, ..., j-1.
    forward(state, obs, act, known): j knows that of k where known [..., j, k] is 1.
    forward(state, obs, act, i=i, a=a): j knows those of 0, ..., j-1, except i's, and all know the encoded action a [..., A] of agent i.
    The output for j = i has no meaning. Many candidates a share what does not depend on them.
    """

    def __init__(self, agents: int, state: int, obs: int, width: int, hidden: int, outputs: int):
        super().__init__(agents, state + obs + agents * (width + 1), hidden, outputs, share=True)
        self.inputs = state, obs, agents * width, agents

    def forward(
        self,
        state: Tensor,
        obs: Tensor | None,
        act: Tensor | None = None,
        known: Tensor | None = None,
        i: int | Tensor | None = None,
        a: Tensor | None = None,
    ) -> Tensor:
        w_state, w_obs, w_act, w_known = self.first.weight.split(self.inputs)
        w_act = w_act.unflatten(0, (len(w_known), -1))  # [N, A, H]
        x = (matmul(state, w_state) + self.first.bias)[..., None, :] + self.who
        if obs is not None:
            x = x + matmul(obs, w_obs)
        if act is not None:
            given = torch.einsum("...kw,kwh->...kh", act, w_act) + w_known  # what the action of agent k adds: [..., N, H]
            if known is not None:
                x = x + known @ given
            else:
                if i is not None:
                    given = torch.where(is_agent(i, given)[:, None], 0.0, given)
                x = x + (given.cumsum(-2) - given)
        if a is not None:
            x = x + (matmul(a, select(w_act, 0, i)) + select(w_known, 0, i))[..., None, :]
        return self.last(F.relu(self.second(F.relu(x))))


class Scale(nn.Module):
    """sigma^2 of (9): its parameter is that of the first stage's last update, its target the running mean."""

    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.ones(1))

    def forward(self) -> Tensor:
        return self.value[0]


def is_agent(i: int | Tensor, like: Tensor) -> Tensor:
    """[N], true at agent i; N is the size of the axis before the last."""
    return torch.arange(like.shape[-2], device=like.device) == i


@ALGORITHMS.register("inspo")
class InSPO(Algorithm):
    paper = "InSPO (Liu et al. 2025, AAAI, arXiv 2412.07639)"

    @dataclass(frozen=True)
    class Config(Valued):
        alpha: float = 0.1  # weight of the reverse KL to the behavior policy
        beta: float = 0.0  # weight of the entropy
        shape_rewards: bool = True
        scale_by_td_error: bool = False  # alpha and beta in units of the first critics' error, instead of the rewards'
        beta_end: float = 1.0  # share of beta left after annealing
        anneal_start: float = 0.4  # share of the second stage before beta is annealed
        anneal_duration: float = 0.3  # share of the second stage over which beta is annealed
        bc_share: float = 0.2  # share of the updates in the first stage, which fits mu, the policies' clones of the data, and Q_0
        weight_max: float = 100.0  # cap of the weights w
        rho_max: float = 100.0  # cap of the ratios rho
        excess_kl: bool = False  # the KL of (8) less that of the clones
        critic_sees_obs: bool = False  # critics, and mu, see agent i's observation beside the state
        num_samples: int = 1  # joint samples of the policies, and of continuous actions in E_{pi^i}; 0: the sum over all joint actions
        refresh: Literal["sweep", "turn"] = "sweep"  # critics take a step before each sweep of the agents, or before each agent's turn
        sequential: bool = True  # agents in turn; false: all at once, against the teammates' old policies
        resample: bool = True  # critics on data resampled by rho; false: on the data as they are
        behavior: Literal["autoregressive", "factored"] = "autoregressive"  # mu(a^j|s, a^i, ...) or mu(a^j|s)

        def __post_init__(self):
            super().__post_init__()
            if min(self.alpha, self.beta, self.beta_end) < 0:
                raise UserError("alpha, beta and beta_end must not be negative")
            if min(self.alpha + self.beta, self.alpha + self.beta * self.beta_end) <= 0:
                raise UserError("alpha + beta must stay above 0 (after annealing: alpha + beta * beta_end)")
            if not (0 <= self.anneal_start <= 1 and 0 < self.bc_share < 1):
                raise UserError("anneal_start must lie in [0, 1], and bc_share in (0, 1): mu is fitted in the first stage alone")
            if not 0 < self.anneal_duration <= 1:
                raise UserError("anneal_duration must lie in (0, 1]")
            if self.beta_end != 1 and self.anneal_start + self.anneal_duration > 1 + 1e-9:
                raise UserError("anneal_start + anneal_duration must not exceed 1, or beta would not reach its end")
            if self.num_samples < 0 or min(self.weight_max, self.rho_max) < 1:
                raise UserError("num_samples must not be negative; weight_max and rho_max must be at least 1")

    TUNED = {  # the paper's settings were not available; gamma = 0 where actions do not change the state
        "smac": dict(gamma=0.98, alpha=0.5, scale_by_td_error=True, weight_max=10.0, rho_max=1.0, excess_kl=True, critic_sees_obs=True),
        "mujoco": dict(alpha=3.0, rho_max=1.0, excess_kl=True),
        "xor-*": dict(lr=3e-3, gamma=0.0, batch_size=256, num_updates=2000),
        "mne*": dict(gamma=0.0, tau=0.05, beta=5.0, beta_end=0.0, batch_size=256, num_updates=2000),
        "bridge-*": dict(lr=3e-3, tau=0.02, ema_rate=0.005, num_updates=4000),
    }

    def __init__(self, cfg, spec):
        super().__init__(cfg, spec)
        countable = isinstance(spec.space, Discrete) and spec.space.n**spec.num_agents <= MAX_JOINT_ACTIONS
        if cfg.num_samples == 0 and not countable:
            raise UserError(f"num_samples=0 needs discrete actions, and at most {MAX_JOINT_ACTIONS} joint ones; use 1 or more")

    def nets(self):
        c = self.cfg
        spec = self.spec
        space = self.space
        seen = c.critic_sees_obs * spec.obs_dim
        return dict(
            pi=AgentNet(spec.num_agents, spec.obs_dim, c.hidden_dim, space.params_dim, c.share_params, c.network),
            mu=Conditional(spec.num_agents, spec.state_dim, seen, space.action_dim, c.hidden_dim, space.params_dim),
            q=Critic(space, spec.num_agents, spec.state_dim + seen, c.hidden_dim, c.share_params),
            scale=Scale(),
        )

    def noise(self):
        c = self.cfg
        agents = self.spec.num_agents
        rows = (c.batch_size, c.seq_len + 1, agents)
        return dict(
            chain=(c.batch_size, c.seq_len, agents),
            turns=(agents,),
            team=(c.num_samples, *rows, *self.space.noise_shape),
            own=(*rows, *self.space.sample_noise_shape(max(c.num_samples, 1))),
            resample=(),
        )

    # the first stage ---------------------------------------------------------------------------------------------------

    def stages(self):
        return self.cloned_first(self.clone, frozen="mu scale")

    def clone(self, s, b, d):
        s, loss_behavior = self.gradient_step(s, "mu", self.behavior_loss, b, d.u["chain"])
        s, loss_policy = self.gradient_step(s, "pi", self.cloning_loss, b)
        if self.cfg.excess_kl:
            s = self.update_targets(s, "pi", tau=1.0)  # pi_0; it stays in the second stage
        v = self.own_values(self.targets(s), b, self.online(s).pi(b.obs), d.u)  # (8) without KL and entropy
        s, loss_critic = self.critic_step(s, b, v, b.mask[..., None])
        if self.cfg.scale_by_td_error:
            s = self.rescale(s, loss_critic)
        return s, dict(loss_behavior=loss_behavior, loss_policy=loss_policy, loss_critic=loss_critic)

    def behavior_loss(self, on, tg, b, u):  # - sum_j log mu(a^j | s, a^k of all k before j), in a random order
        x = b.now
        known = u[..., None, :] < u[..., :, None]  # [B, L, j, k]
        h = self.mu(on, x, x.actions, known=known.to(u.dtype))
        return -masked_mean(b.mask[..., None], self.space.log_prob(h, x.actions, x.avail))

    def cloning_loss(self, on, tg, b):
        log_pi = self.space.log_prob(on.pi(b.now.obs), b.now.actions, b.now.avail)
        return -masked_mean(b.mask[..., None], log_pi)

    # behavior model ----------------------------------------------------------------------------------------------------

    def mu(self, f, x, act=None, **given):  # action parameters, [..., N, P]; without act those of every mu^i; see Conditional
        obs = x.obs if self.cfg.critic_sees_obs else None
        if act is None:
            return f.mu(x.state, obs)
        act = self.space.encode(act)
        if self.cfg.behavior == "factored":
            return self.mu(f, x).expand(*act.shape[:-1], -1)
        return f.mu(x.state, obs, act, **given)

    def joint_actions(self, h, avail, u):
        """Joint actions of the policies [M, B, L, N] and their weights: M samples and 1 / M, or all joint actions and [M, B, L].

        h: action parameters [B, L, N, P].
        """
        agents = self.spec.num_agents
        if self.cfg.num_samples:
            return self.space.sample(h, avail, u), 1 / self.cfg.num_samples
        one = torch.arange(self.space.n, device=h.device)
        every = torch.cartesian_prod(*[one] * agents).view(-1, 1, 1, agents)
        a = every.expand(-1, *h.shape[:-1])
        return a, self.space.log_prob(h, a, avail).sum(-1).exp()

    def kl(self, f, x, h, u):  # KL(pi || mu), [B, L]
        a, weight = self.joint_actions(h, x.avail, u)
        h_mu = self.mu(f, x, a)  # [M, B, L, N, P]
        return (weight * self.space.kl(h, h_mu, x.avail).sum(-1)).sum(0)  # (3)

    def clash(self, f, x, i, h, u):  # K^i at the action of the data, less its mean over pi^i: [B, L]
        team, weight = self.joint_actions(h, x.avail, u)
        own = select(team, 3, i)
        a = torch.stack([select(x.actions, 2, i).expand_as(own), own])  # [2, M, B, L]
        h_mu = self.mu(f, x, team, i=i, a=self.space.encode(a))  # [2, M, B, L, N, P]
        kl = torch.where(is_agent(i, h), 0.0, self.space.kl(h, h_mu, x.avail))
        k = (weight * kl.sum(-1)).sum(1)  # (3)
        return k[0] - k[1]

    # critics -----------------------------------------------------------------------------------------------------------

    def q(self, f, row, a):  # Q^i(s, a^i) of every agent at its candidates a [B, L, N, K]
        x = state_and_obs(row) if self.cfg.critic_sees_obs else row.state[:, :, None]
        return f.q(x, a)  # (4)

    def own_values(self, tg, b, h, u):  # E_{pi^i} Q^i in the next rows, [B, L, N]
        return self.space.expect(partial(self.q, tg, b.next), h[:, 1:], b.next.avail, u["own"][:, 1:])

    def values(self, f, tg, b, h, alpha, beta, u):  # V^i, [B, L, N], and to log, KL(pi || mu), in the next rows
        x, team = b.next, u["team"][:, :, 1:]
        kl = self.kl(f, x, h[:, 1:], team)
        logs = dict(kl=masked_mean(b.mask, kl))
        if self.cfg.excess_kl:
            kl = kl - self.kl(f, x, tg.pi(b.obs)[:, 1:], team)
            logs["kl_excess"] = masked_mean(b.mask, kl)
        cost = alpha * kl
        if self.cfg.beta:
            cost = cost - beta * self.space.entropy(h[:, 1:], x.avail, u["own"][:, 1:]).sum(-1)
        return self.own_values(tg, b, h, u) - cost[..., None], logs  # (2) and (8)

    def ratios(self, f, b, h):  # log rho^i of every agent, [B, L, N]
        x = b.now
        log_pi = self.space.log_prob(h[:, :-1], x.actions, x.avail)
        log_mu = self.space.log_prob(self.mu(f, x, x.actions), x.actions, x.avail)
        own = self.space.log_prob(self.mu(f, x), x.actions, x.avail)
        log_rho = log_pi.sum(-1, keepdim=True) - log_pi - (log_mu.sum(-1, keepdim=True) - own)
        return log_rho.clamp(max=math.log(self.cfg.rho_max))  # (7)

    def critic_loss(self, on, tg, b, y, count):
        error = y - self.q(on, b.now, b.now.actions.unsqueeze(3))[..., 0]
        return masked_mean(count, error**2)  # (8)

    def critic_step(self, s, b, v, count):
        """One step of all critics: next state, loss. v: V^i in the next rows [B, L, N]; count: how often each row counts, likewise."""
        y = b.rewards[..., None] + self.cfg.gamma * (1 - b.terminated)[..., None] * v
        s, loss = self.gradient_step(s, "q", self.critic_loss, b, y, count)
        return self.update_targets(s, "q"), loss

    def rescale(self, s, loss):  # the running mean of sigma^2 takes in that of this minibatch
        s = s._replace(params=s.params | {"scale": loss.expand_as(s.params["scale"])})  # (9)
        return self.update_targets(s, "scale", tau=running_mean_rate(s.step, SCALE_RATE))

    def evaluate(self, s, b, h, u):
        """One step of all critics for the policies h [B, L+1, N, P]: next state, Q^i - beta log mu^i at the data's actions less their means
        over pi^i [B, L, N], alpha and beta, what to log."""
        on, tg, x = self.online(s), self.targets(s), b.now
        gain = self.advantages(partial(self.q, tg, x), b, h, u)
        advantage = masked_mean(b.mask[..., None], gain**2).sqrt()
        alpha, beta = self.temperatures(s)
        if self.cfg.beta:
            gain = gain - beta * self.advantages(partial(self.log_mu, on, x), b, h, u)
        v, logs = self.values(on, tg, b, h, alpha, beta, u)
        count = b.mask[..., None]
        if self.cfg.resample:
            counts = vmap(resampling_counts, in_dims=(2, None, None), out_dims=2)
            count = counts(self.ratios(on, b, h), b.mask, u["resample"])
        s, loss = self.critic_step(s, b, v, count)
        return s, gain, alpha, beta, dict(loss_critic=loss) | logs | dict(advantage=advantage)

    # policies ----------------------------------------------------------------------------------------------------------

    def advantages(self, of, b, h, u):  # of(a) at the data's actions, less its mean over pi^i: [B, L, N]
        x = b.now
        a, p = self.space.support(h[:, :-1], x.avail, u["own"][:, :-1])
        value = of(torch.cat([a, x.actions.unsqueeze(3)], 3))
        return value[..., -1] - (p * value[..., :-1]).sum(-1)

    def log_mu(self, f, x, a):  # log mu^i of every agent's candidates a [B, L, N, K]
        return self.space.log_prob(self.mu(f, x)[..., None, :], a, x.avail[..., None, :])

    def weights(self, f, b, i, h, gain, alpha, beta, u):  # w of (6), [B, L]
        gain = select(gain, 2, i)
        if self.spec.num_agents > 1 and self.cfg.behavior == "autoregressive":  # else K^i does not depend on a^i
            gain = gain - alpha * self.clash(f, b.now, i, h[:, :-1], u["team"][:, :, :-1])
        log_w = gain / (alpha + beta)  # (6)
        return log_w.clamp(max=math.log(self.cfg.weight_max)).exp()

    def policy_loss(self, on, tg, b, i, obs, w):  # obs: agent i's, [B, L+1, O]
        x = b.now
        h = on.pi(obs[:, :-1], agent=i)
        log_pi = self.space.log_prob(h, select(x.actions, 2, i), select(x.avail, 2, i))
        return -masked_mean(b.mask, w * log_pi)  # (6); its minimizer is (5), where K^i is exact

    # the second stage --------------------------------------------------------------------------------------------------

    def temperatures(self, s):  # alpha and beta (choice 6)
        c = self.cfg
        cloning, training = (stage.num_updates for stage in self.stages())
        moved = (((s.step - cloning) / training - c.anneal_start) / c.anneal_duration).clamp(0, 1)
        unit = self.targets(s).scale().sqrt().clamp(min=MIN_SCALE) if c.scale_by_td_error else 1.0
        return unit * c.alpha, unit * c.beta * (1 + (c.beta_end - 1) * moved)  # (1)

    def update(self, s, b, d):
        c = self.cfg
        agents = self.spec.num_agents
        order = d.u["turns"].argsort()
        on = self.online(s)
        h = on.pi(b.obs)
        losses = []
        for n in range(agents):
            i = order[n]
            obs = select(b.obs, 2, i)
            if n == 0 or c.refresh == "turn":
                s, gain, alpha, beta, logs = self.evaluate(s, b, h, d.u)
            w = self.weights(on, b, i, h, gain, alpha, beta, d.u)
            s, loss = self.gradient_step(s, "pi", self.policy_loss, b, i, obs, w, only=i)
            losses.append(loss)
            if c.sequential and n + 1 < agents:
                moved = self.online(s)
                h = moved.pi(b.obs) if c.share_params else replace(h, 2, i, moved.pi(obs, agent=i))

        return s, dict(loss_policy=torch.stack(losses).mean(0)) | logs
