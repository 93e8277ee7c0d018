"""AlberDICE: alternating stationary distribution correction estimation (Matsunaga et al., NeurIPS 2023).

Agents are updated in turn, each against its teammates' newest policies. D is the data and p_D their joint behavior. For agent i,
p_D(a_{-i}|s, a_i) is factorized in a chain over the other agents j, in the order of their indices.

    K_i    = sum_{j != i} KL( pi_j(.|o_j) || p_D(.|s, a_i, a_{<j}) ),  given the actions of the data                    (1)
    A_i    = r - alpha K_i + gamma (1 - terminal) nu_i(s') - nu_i(s)                                                    (2)
    rho_i  = min( 100, prod_{j != i} pi_j(a_j|o_j) / p_D(a_j|s, a_i, a_{<j}) )                                          (3)
    L(nu)  = alpha log E_D'[ rho_i exp( A_i / alpha ) ] + (1 - gamma) E_D' nu_i(s) + c_gp E_D |grad nu_i|^2             (4)
    L(e)   = E_{D ~ rho}[ (e_i(s, a_i) - A_i)^2 + c_cql ( log sum_a exp e_i(s, a) - E_{a ~ p_D(.|o_i)} e_i(s, a) ) ]    (5)
    L(pi)  = E_{D ~ rho} E_{a ~ pi_i}[ - e_i(s, a) + alpha log( pi_i(a|o_i) / p_D(a|o_i) ) ]                            (6)

D ~ rho is the minibatch resampled in proportion to rho; (4) is estimated on it too. D' is D and, for every termination in it, the
1 / (1 - gamma) steps that discounting leaves of an absorbing state: nu = 0, A = 0, rho = 1. Without the absorbing state the weights
exp( A / alpha ), whose mean is 1, favor policies that never terminate. The gradient penalty of nu is taken between pairs of states.
alpha decreases geometrically from `alpha` to `alpha_end`. A turn updates nu, pi, e and the models of p_D, and uses the values that
p_D had before its own step.

`count_unavailable` is what the published code does, and off by default: unavailable actions count in (5).

Deviations from the code (github.com/dematsunaga/alberdice at 4d69f0e):
 1. Every turn has its own minibatch, and the order of the agents is random. The code uses one minibatch for all agents, in fixed order.
    As in the code, p_D(a|o) is updated once per update, at the turn of agent 0.
 2. K_i is exact; the code samples 16 actions. For continuous actions, `num_samples` are sampled in the other expectations, and the KL
    of (6) is exact too.
 3. The absorbing state has a weight in (4), and nu = 0 there (nu is determined up to a constant). In the code it fills episodes up to
    the time limit, as rows of data with a flag of their own.
 4. Resampling is systematic. The pairs of states are the minibatch and its reverse; the code pairs its first half with its second
    half, shuffled.
 5. Default initialization (code: last layers of the policies and of p_D near 0). Observations and states are standardized.
 6. Gradients are clipped at norm `max_grad_norm`; the code does not clip.
 7. All data are used; for XOR the code trains on the first 16 of 100 recorded episodes.
 8. For discrete actions e has one output per action; in the code the action is an input. The last layer of nu has a bias; the code's
    has none.
Checked: losses against plain numpy (tests/algorithms/test_equations.py); with one agent rho is 1 and K 0, and the absorbing state is that
of explicit rows (tests/algorithms/test_limits.py).
"""

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch.func import grad

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.core.spaces import MASKED, Box
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean, resampling_counts
from inspo_benchmark.learning.config import UNCLIPPED, Common
from inspo_benchmark.learning.nets import AgentNet, Critic, select

LOG_MAX_RHO = math.log(100.0)
LOG_MIN_PROB = math.log(1e-10)  # added to the probabilities of p_D


@ALGORITHMS.register("alberdice")
class AlberDICE(Algorithm):
    paper = "AlberDICE (Matsunaga et al. 2023, NeurIPS, arXiv 2311.02194)"

    @dataclass(frozen=True)
    class Config(Common):
        gamma: float = 0.99  # discount
        shape_rewards: bool = False  # add the change of a potential that is fitted to the data's returns, see `learning.shaping`
        alpha: float = 5.0  # weight of the KL to the data at the start
        alpha_end: float = 0.001  # weight of the KL to the data at the end
        cql_weight: float = 0.1  # weight of the conservative term of (5)
        grad_penalty: float = 0.1  # weight of the gradient penalty of (4)
        num_samples: int = 16  # sampled actions per expectation (continuous actions)
        count_unavailable: bool = False  # unavailable actions count in (5)

        def __post_init__(self):
            super().__post_init__()
            if not 0 <= self.gamma < 1 or min(self.cql_weight, self.grad_penalty) < 0:
                raise UserError("gamma must lie in [0, 1); cql_weight and grad_penalty must not be negative")
            if min(self.alpha, self.alpha_end, self.num_samples) <= 0:
                raise UserError("alpha, alpha_end and num_samples must be above 0")

    PAPER = {  # the code's settings: minibatches are 16 episodes of 50 steps and 128 of 20 steps; hours per seed
        "xor-*": dict(lr=1e-4, hidden_dim=128, batch_size=16, seq_len=50, num_updates=21_600),
        "bridge-*": dict(lr=1e-4, hidden_dim=128, batch_size=128, seq_len=20, num_updates=147_600),
    }
    OFFICIAL = {
        "xor-*": dict(count_unavailable=True, max_grad_norm=UNCLIPPED),
        "bridge-*": dict(count_unavailable=True, max_grad_norm=UNCLIPPED),
    }
    TUNED = {  # gamma = 0 where actions do not change the state
        "smac": dict(gamma=0.95, grad_penalty=1e-3, alpha=3.0, alpha_end=0.4),
        "mujoco": dict(gamma=0.95, grad_penalty=1e-3, alpha=3.0, alpha_end=0.4),
        "xor-*": dict(gamma=0.0, lr=1e-3, hidden_dim=64, batch_size=64, seq_len=1, num_updates=1000, alpha_end=0.1),
        "mne*": dict(gamma=0.0, num_updates=1000, alpha_end=0.1),
        "bridge-*": dict(
            gamma=0.9,
            grad_penalty=1e-3,
            lr=3e-3,
            hidden_dim=64,
            batch_size=128,
            seq_len=1,
            alpha=0.3,
            alpha_end=0.02,
            num_updates=3000,
        ),
    }

    def nets(self):
        c = self.cfg
        spec = self.spec
        agents = spec.num_agents
        outputs = self.space.params_dim
        given = agents + spec.state_dim + agents * self.space.action_dim
        return dict(
            pi=AgentNet(agents, spec.obs_dim, c.hidden_dim, outputs, c.share_params, c.network),
            marginal=AgentNet(agents, spec.obs_dim, c.hidden_dim, outputs, True, c.network),  # p_D(a_i|o_i)
            conditional=AgentNet(agents, given, c.hidden_dim, outputs, False),  # p_D(a_j|s, a_i, a_{<j}), weights per i
            nu=AgentNet(agents, spec.state_dim, c.hidden_dim, 1, False),
            e=Critic(self.space, agents, spec.state_dim, c.hidden_dim, False),
        )

    @property
    def turns(self):
        return self.spec.num_agents

    def noise(self):
        samples = self.cfg.num_samples
        rows = (self.cfg.batch_size, self.cfg.seq_len)
        return dict(
            own=(*rows, self.spec.num_agents, *self.space.sample_noise_shape(samples)),
            cql=(*rows, *self.space.sample_noise_shape(2 * samples)),
            resample=(),
            pair=(*rows, 1),
        )

    # the teammates -----------------------------------------------------------------------------------------------------------

    def chain(self, f, b, i):  # action parameters of p_D(a_j | s, a_i, a_{<j}) for every j, [B, L, N, P]
        agents = self.spec.num_agents
        index = torch.arange(agents, device=b.obs.device)
        known = (index == i) | (index < index[:, None])  # [j, k]: is a_k given to the model of a_j?
        actions = self.space.encode(b.now.actions)[:, :, None]  # [B, L, 1, N, A]
        given = (actions * known.to(b.obs.dtype)[..., None]).flatten(-2)  # [B, L, N, N A]
        lead = given.shape[:3]
        ids = torch.eye(agents, dtype=given.dtype, device=given.device)
        state = b.now.state[:, :, None]
        inputs = [ids.expand(*lead, agents), state.expand(*lead, -1), given]
        return f.conditional(torch.cat(inputs, -1), agent=i)

    def is_teammate(self, i, like):  # [N]
        return torch.arange(self.spec.num_agents, device=like.device) != i

    def over_teammates(self, i, x):  # sum over j != i, [B, L, N] -> [B, L]
        return torch.where(self.is_teammate(i, x), x, 0.0).sum(-1)

    def log_p(self, h, a, avail):  # log p_D, bounded from below for discrete actions
        log_p = self.space.log_prob(h, a, avail)
        if isinstance(self.space, Box):
            return log_p
        return torch.logaddexp(log_p, torch.full_like(log_p, LOG_MIN_PROB))

    def log_ratio(self, h, h_data, avail):  # a -> log pi(a) - log p_D(a) for candidates a; continuous: its mean, the KL, for each
        if isinstance(self.space, Box):
            return lambda a: self.space.kl(h, h_data, avail)[..., None]
        ok = avail[..., None, :]
        return lambda a: self.space.log_prob(h[..., None, :], a, ok) - self.log_p(h_data[..., None, :], a, ok)

    def teammates(self, f, b, i, u):  # K_i and log rho_i, [B, L] each
        avail = b.now.avail
        h = f.pi(b.now.obs)
        h_data = self.chain(f, b, i)
        k = self.over_teammates(i, self.space.expect(self.log_ratio(h, h_data, avail), h, avail, u))  # (1)
        log_pi = self.space.log_prob(h, b.now.actions, avail)
        log_data = self.log_p(h_data, b.now.actions, avail)
        log_rho = self.over_teammates(i, log_pi - log_data)  # (3)
        return k, log_rho.clamp(max=LOG_MAX_RHO)

    # losses ------------------------------------------------------------------------------------------------------------------

    def advantage(self, f, b, i, k, alpha):  # A_i, [B, L]
        nu = f.nu(b.now.state, agent=i)[..., 0]
        nu_next = f.nu(b.next.state, agent=i)[..., 0]
        return b.rewards - alpha * k + self.cfg.gamma * (1 - b.terminated) * nu_next - nu  # (2)

    def nu_loss(self, on, tg, b, i, k, log_rho, count, alpha, u):
        left = 1 - self.cfg.gamma
        steps = b.mask.flatten().sum(0)
        absorbed = (b.mask * b.terminated).flatten().sum(0) / left  # steps in the absorbing state
        size = steps + absorbed

        exponent = self.advantage(on, b, i, k, alpha) / alpha
        counted = count.clamp(min=1).log() + exponent
        log_sum = torch.where(count > 0, counted, MASKED).flatten().logsumexp(0)
        mean_rho = masked_mean(b.mask, log_rho.exp()) + 1e-10
        log_data = (steps * mean_rho).log() + log_sum - count.flatten().sum(0).log()
        log_mean = torch.logaddexp(log_data, absorbed.log()) - size.log()

        nu = on.nu(b.now.state, agent=i)[..., 0]
        mean_nu = left * (b.mask * nu).flatten().sum(0) / size
        return alpha * log_mean + mean_nu + self.cfg.grad_penalty * self.squared_slope(on, b, i, u)  # (4)

    def squared_slope(self, on, b, i, u):  # E |grad nu_i|^2 at random points between pairs of states
        mixed = u * b.now.state + (1 - u) * b.now.state.flip(0)
        both = b.mask * b.mask.flip(0)

        def total(state):
            return on.nu(state, agent=i).flatten().sum(0)

        slope = grad(total)(mixed)
        return masked_mean(both, (slope**2).sum(-1))

    def e_loss(self, on, tg, b, i, advantage, count, h_data, u):  # h_data: action parameters of p_D(a_i|o_i)
        e = partial(on.e, b.now.state, agent=i)
        avail = select(b.now.avail, 2, i)
        data = e(select(b.now.actions, 2, i).unsqueeze(2))[..., 0]
        log_sum = self.space.logsumexp(e, h_data, avail | self.cfg.count_unavailable, u["cql"])
        mean = self.space.expect(e, h_data, avail, select(u["own"], 2, i))
        loss = (data - advantage) ** 2 + self.cfg.cql_weight * (log_sum - mean)
        return masked_mean(count, loss)  # (5)

    def policy_loss(self, on, tg, b, i, count, h_data, alpha, u):
        avail = select(b.now.avail, 2, i)
        h = on.pi(select(b.now.obs, 2, i), agent=i)

        log_ratio = self.log_ratio(h, h_data, avail)

        def cost(a):
            return alpha * log_ratio(a) - on.e(b.now.state, a, agent=i)

        expected = self.space.expect(cost, h, avail, select(u["own"], 2, i))
        return masked_mean(count, expected)  # (6)

    def conditional_loss(self, on, tg, b, i):  # - sum_{j != i} log p_D(a_j | s, a_i, a_{<j})
        h_data = self.chain(on, b, i)
        log_p = self.space.log_prob(h_data, b.now.actions, b.now.avail)
        teammates = self.is_teammate(i, b.obs).to(b.mask.dtype)
        return -masked_mean(b.mask[..., None] * teammates, log_p)

    def marginal_loss(self, on, tg, b):  # - sum_i log p_D(a_i | o_i)
        h_data = on.marginal(b.now.obs)
        log_p = self.space.log_prob(h_data, b.now.actions, b.now.avail)
        return -masked_mean(b.mask[..., None], log_p)

    def update(self, s, b, d):
        c = self.cfg
        i = d.agent
        on = self.online(s)
        progress = s.step / (c.num_updates * self.turns)
        alpha = c.alpha * (c.alpha_end / c.alpha) ** progress
        k, log_rho = self.teammates(on, b, i, d.u["own"])
        count = resampling_counts(log_rho, b.mask, d.u["resample"])
        advantage = self.advantage(on, b, i, k, alpha)
        h_data = select(on.marginal(b.now.obs), 2, i)

        s, loss_nu = self.gradient_step(s, "nu", self.nu_loss, b, i, k, log_rho, count, alpha, d.u["pair"], only=i)
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b, i, count, h_data, alpha, d.u, only=i)
        s, loss_e = self.gradient_step(s, "e", self.e_loss, b, i, advantage, count, h_data, d.u, only=i)
        s, loss_conditional = self.gradient_step(s, "conditional", self.conditional_loss, b, i, only=i)
        s, loss_marginal = self.gradient_step(s, "marginal", self.marginal_loss, b, when=i == 0)
        return s, dict(
            loss_nu=loss_nu,
            loss_policy=loss_policy,
            loss_advantage=loss_e,
            loss_behavior=loss_marginal + loss_conditional,
            divergence=masked_mean(b.mask, k),
        )
