"""CFCQL: counterfactual conservative Q-learning (Shao et al., NeurIPS 2023), and MACQL, its baseline (`counterfactual = false`).

CFCQL is conservative agent by agent: it compares the actions of one agent while its teammates act as in the data, so that the penalty
does not grow with the number of agents. With discrete actions Q is a QMIX of recurrent agents; with continuous ones it is a central
critic, of which there are two.

    lse_i = log sum_a exp Q(s, (a, a_{-i})),  the sum over actions of agent i, a_{-i} from the data                     (1)
    L(Q)  = c_TD L_TD + alpha E_D[ sum_i lambda_i lse_i - Q(s, a) ],    c_TD = 1/2 discrete, 1 continuous               (2)
    L_TD  = E_D( G - Q(s, a) )^2,    G = TD(lambda) of the target networks' values                                      (3)
    lambda_i = softmax_i( lambda_temp D_i ),    D_i measures how far agent i would leave the data:                      (4)
        discrete    D_i = KL( softmax_a Q(s, (a, a_{-i})) || mu_i(.|o_i) )
        continuous  D_i = -log mu_i( pi_i(o_i) | o_i )
    discrete    agents act greedily on their Q_i; G bootstraps from the actions that the online Q_i prefer (double Q-learning)
    continuous  L(pi) = - E_D mean_i Q^1(s, (pi_i(o_i), a_{-i})) + 1e-3 sum_i |pi_i(o_i)|^2 / D;
                G bootstraps from the actions of the target policies, with noise, and from the smaller critic           (5)
    MACQL       log sum exp Q over random joint actions takes the place of sum_i lambda_i lse_i                         (6)

mu_i is cloned from the data in the first updates, the share `bc_share` of them, and stays as it is afterwards. With lambda_temp = 0, and
in MACQL, nothing depends on mu, and it is not trained. The discrete method has no sampled scores: a softmax of Q_i is no policy that it
learns.

`candidate_source` says how (1) and (6) are estimated where actions are continuous (learning/conservative.py): their MPE code has
"uniform", their HalfCheetah code "crossed", an accident; "noisy" is what it was meant to be. In "crossed" the candidates around
pi_i(o_i') also stand beside the teammates' next actions. With `count_unavailable` MACQL draws unavailable joint actions too, and each
counts as exp(0), as in their code. lambda_temp = 0 weighs agents equally, and lambda_temp < 0 is the weighting of their first version;
a temperature of 100 in their code means `lambda_weights = "argmax"`. Their discrete MACQL has alpha = 5 and num_samples = 100.

Deviations from the code (github.com/thu-rllab/CFCQL at 3441019):
 1. With continuous actions mu is a Gaussian per agent (code: a joint VAE, used with cf_weight only, where lambda is the softmax of
    -cf_tau log mu, as in (4)).
 2. Agents do not see their last action beside the observation.
 3. Inputs are standardized over the dataset, instead of by a BatchNorm in front of each network. Teammates' actions get no jitter.
 4. TD(lambda) bootstraps where the data end without a termination, also before the end of the sequence. The next action of the last
    step in "crossed" repeats the last action of the episode (code: the first one of the next episode).
 5. Continuous: the policies step at every `policy_delay`-th update, the targets follow at every update. The code takes 4 further
    critic steps per update and then moves its targets once (policy_delay = 5; `num_updates` counts the steps of the critics).
 6. The last layer of a continuous policy starts like every other layer (code: weights from U(-0.003, 0.003)).
Checked: losses against plain numpy (tests/algorithms/test_equations.py); with one agent it is CQL, with alpha = 0 it is QMIX or a
central TD3, and sums over agents equal enumerated ones (tests/algorithms/test_limits.py).
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.core.spaces import MIN_STD, Box, Discrete
from inspo_benchmark.core.types import Spec
from inspo_benchmark.learning import conservative
from inspo_benchmark.learning.algorithm import Algorithm, masked_mean, td_lambda_returns
from inspo_benchmark.learning.config import Valued
from inspo_benchmark.learning.nets import AgentNet, Linear

TARGET_STD = 0.05  # noise of the target policies' actions
SMALL = 1e-5  # added to the probabilities in (4)


class QMixer(nn.Module):
    """Q_tot = ELU(Q W1(s) + b1(s)) W2(s) + b2(s), W1, W2 >= 0: the monotone mixer of QMIX (Rashid et al. 2018)."""

    def __init__(self, spec: Spec, hidden: int, embed: int = 32):
        super().__init__()
        self.shape = (spec.num_agents, embed)
        self.w1a = Linear(spec.state_dim, hidden)
        self.w1b = Linear(hidden, spec.num_agents * embed)
        self.w2a = Linear(spec.state_dim, hidden)
        self.w2b = Linear(hidden, embed)
        self.b1 = Linear(spec.state_dim, embed)
        self.b2a = Linear(spec.state_dim, embed)
        self.b2b = Linear(embed, 1)

    def forward(self, q: Tensor, state: Tensor) -> Tensor:
        """q [B, L, .., N], state [B, L, S] -> [B, L, ..]: any number of joint actions in each state, whose weights are computed once."""
        w1 = self.w1b(F.relu(self.w1a(state))).abs().unflatten(-1, self.shape)
        w2 = self.w2b(F.relu(self.w2a(state))).abs()
        b1 = self.b1(state)[..., None, :]
        b2 = self.b2b(F.relu(self.b2a(state)))
        candidates = q.reshape(*state.shape[:-1], -1, self.shape[0])
        mixed = F.elu(candidates @ w1 + b1)
        total = (mixed @ w2[..., None])[..., 0] + b2
        return total.reshape(q.shape[:-1])


@ALGORITHMS.register("cfcql")
class CFCQL(Algorithm):
    """What both kinds of action share. Its two subclasses say what Q, D_i and the policies are."""

    paper = "CFCQL (Shao et al. 2023, NeurIPS, arXiv 2309.12696)"

    @dataclass(frozen=True)
    class Config(Valued):
        share_params: bool = True  # one network that gets the agent's index, instead of one per agent
        alpha: float = 5.0  # weight of the conservative term
        lambda_temp: float = 0.5  # inverse temperature of lambda: how much more an agent counts that would leave the data
        lambda_weights: Literal["softmax", "argmax"] = "softmax"  # lambda of (4), or all weight on the largest D_i
        counterfactual: bool = True  # false: MACQL, (6)
        td_lambda: float = 0.6  # lambda of the TD(lambda) targets, which are one-step targets with seq_len = 1
        num_samples: int = 10  # candidates in (1), if actions are continuous, of each kind where there are several, and in (6)
        candidate_source: Literal["importance", "uniform", "noisy", "crossed"] = "importance"  # how (1) is estimated from candidates
        count_unavailable: bool = False  # MACQL draws unavailable actions, which count as exp(0)
        policy_delay: int = 1  # updates per step of the continuous policies
        bc_share: float = 0.2  # share of the updates in which mu is cloned, before all others

        def __post_init__(self):
            super().__post_init__()
            if self.alpha < 0 or not 0 <= self.td_lambda <= 1:
                raise UserError("alpha must not be negative, and td_lambda must lie in [0, 1]")
            if self.num_samples < 2 or self.policy_delay < 1:
                raise UserError("num_samples must be at least 2, and policy_delay at least 1")
            if not 0 <= self.bc_share < 1:
                raise UserError("bc_share must lie in [0, 1)")
            if self.counterfactual and self.lambda_temp and not self.bc_share:
                raise UserError("lambda_temp compares policies with a model of the data, which needs updates: set bc_share above 0")
            if self.lambda_weights == "argmax" and self.lambda_temp == 0:
                raise UserError("lambda_weights=argmax: lambda_temp must not be 0; by its sign the largest or the smallest D_i counts")

    PAPER = {
        # their code, README.md (alpha, and tau for lambda_temp) and src/config/algs/cql_qmix.yaml: batches of 128 whole episodes, targets
        # copied every 25 updates, and about as many updates as 10.05e6 steps of data make, after as many in which mu is cloned
        "2s3z-*": dict(network="gru", seq_len=120, target_update_interval=25, bc_share=0.5, num_updates=3000),
        "2s3z-medium": dict(alpha=0.1, lambda_temp=0.5),
        "2s3z-medium_replay": dict(alpha=5.0, lambda_temp=0.1),
        "2s3z-expert": dict(alpha=50.0, lambda_temp=0.5),
        "2s3z-mixed": dict(alpha=0.5, lambda_temp=0.0, num_updates=1500),  # without those that clone mu, on which nothing depends
        "3s_vs_5z-*": dict(
            network="gru", seq_len=250, target_update_interval=25, bc_share=0.5, num_updates=500, alpha=50.0, lambda_temp=0.0
        ),
        "3s_vs_5z-expert": dict(lambda_temp=1.0, num_updates=1000),
        "5m_vs_6m-*": dict(
            network="gru", seq_len=70, target_update_interval=25, bc_share=0.5, num_updates=5600, alpha=50.0, lambda_temp=0.5
        ),
        "5m_vs_6m-expert": dict(lambda_weights="argmax"),
        "6h_vs_8z-*": dict(
            network="gru", seq_len=150, target_update_interval=25, bc_share=0.5, num_updates=3700, alpha=50.0, lambda_temp=1.0
        ),
        "6h_vs_8z-medium_replay": dict(lambda_temp=0.5),
        "6h_vs_8z-expert": dict(lambda_temp=0.0, num_updates=1850),
        # their code for continuous actions: 5 critic steps per step of the policies. gamma is 0.95 on HalfCheetah too: the
        # configuration's 0.99 is not handed to the constructor
        **{
            f"{task}-*": dict(
                lr=lr,
                batch_size=1024,
                gamma=0.95,
                tau=0.01,
                max_grad_norm=0.5,
                candidate_source="uniform",
                lambda_temp=0.0,
                policy_delay=5,
                bc_share=0.0,  # lambda_temp = 0: nothing depends on mu
                share_params=False,
                num_updates=num_updates,
            )
            for task, lr, num_updates in (("spread", 1e-2, 10_000), ("tag", 1e-3, 10_000), ("world", 1e-3, 25_000))
        },
        "spread-random": dict(alpha=0.5),
        "spread-medium_replay": dict(alpha=1.0),
        "spread-medium": dict(alpha=5.0),
        "spread-expert": dict(alpha=2.5),
        "tag-random": dict(alpha=0.5),
        "tag-medium_replay": dict(alpha=0.5),
        "tag-medium": dict(alpha=0.6),
        "tag-expert": dict(alpha=2.0),
        "world-random": dict(alpha=0.5),
        "world-medium_replay": dict(alpha=0.5),
        "world-medium": dict(alpha=0.32),
        "world-expert": dict(alpha=0.3),
        "halfcheetah_2x3-*": dict(
            lr=3e-4,
            hidden_dim=256,
            batch_size=256,
            gamma=0.95,
            max_grad_norm=0.5,
            lambda_temp=0.0,
            policy_delay=5,
            bc_share=0.0,
            share_params=False,
            num_updates=500_000,
        ),
        "halfcheetah_2x3-random": dict(alpha=0.1),
        "halfcheetah_2x3-medium_replay": dict(alpha=0.4),
        "halfcheetah_2x3-medium": dict(alpha=1.0),
        "halfcheetah_2x3-expert": dict(alpha=1.7),
    }

    OFFICIAL = {
        "halfcheetah_2x3-*": dict(candidate_source="crossed"),
        # both matter to MACQL alone
        **{f"{task}-*": dict(count_unavailable=True, num_samples=100) for task in ("2s3z", "3s_vs_5z", "5m_vs_6m", "6h_vs_8z")},
    }

    TUNED = {
        "smac": dict(alpha=50.0),
        # of the published settings of HalfCheetah 2x3 these four, on every MuJoCo task, with the densities where they belong
        "mujoco": dict(gamma=0.95, max_grad_norm=0.5, candidate_source="noisy", lambda_temp=0.0, bc_share=0.0),
        "hopper_*": dict(alpha=50.0),
        "ant_*": dict(alpha=50.0),
        "xor-*": dict(gamma=0.0, batch_size=64, num_updates=1000),
        "mne*": dict(gamma=0.0, num_updates=1000),
        "bridge-*": dict(batch_size=32, seq_len=5, tau=0.02, num_updates=3000),
    }

    def __new__(cls, cfg: Config, spec: Spec):
        """An instance of the subclass for the task's kind of action."""
        kinds = dict(discrete=DiscreteCFCQL, continuous=ContinuousCFCQL)
        return super().__new__(kinds[spec.space.kind])

    def stages(self):
        if not (self.cfg.counterfactual and self.cfg.lambda_temp):
            return super().stages()  # nothing depends on mu
        return self.cloned_first(self.clone, frozen="mu")

    def clone(self, s, b, d):
        s, loss_behavior = self.gradient_step(s, "mu", self.cloning_loss, b)
        return s, dict(loss_behavior=loss_behavior)

    def cloning_loss(self, on, tg, b):
        log_mu = self.space.log_prob(on.mu(b.now.obs), b.now.actions, b.now.avail)
        return -masked_mean(b.mask[..., None], log_mu)

    def counterfactual(self, q, act, a):
        """Q(s, (a_i, act_{-i})), [B, L, N, K]: each agent's candidates a [B, L, N, K(, D)] beside its teammates' actions in `act`."""
        n = self.spec.num_agents
        is_own = torch.eye(n, dtype=torch.bool, device=act.device).view(n, 1, n)
        joint = self.space.where(is_own, a.unsqueeze(4), act[:, :, None, None])
        return q(joint)

    def weighting(self, deviation):  # lambda_i, [B, L, N]
        logits = self.cfg.lambda_temp * deviation
        if self.cfg.lambda_weights == "argmax":
            return Discrete(self.spec.num_agents).encode(logits.argmax(-1))
        return logits.softmax(-1)  # (4)

    def penalty(self, f, b, u, q):  # the sum over agents in (2), or (6)
        if not self.cfg.counterfactual:
            return self.joint(f, b, u, q)
        lse, deviation = self.local(f, b, u, q)
        return (self.weighting(deviation) * lse).sum(-1)

    def critic_loss(self, on, tg, b, g, u):
        loss = 0.0
        for q in self.critics(on, b):
            data = q(b.now.actions)
            conservative_term = self.penalty(on, b, u, q) - data
            td_term = (data - g) ** 2  # (3)
            loss = loss + masked_mean(b.mask, self.td_weight * td_term + self.cfg.alpha * conservative_term)  # (2)
        return loss


class DiscreteCFCQL(CFCQL):
    """Q is a QMIX of agents that act greedily on their Q_i."""

    td_weight = 0.5  # c_TD of (2)
    stochastic = False
    acting = "q"

    def nets(self):
        c = self.cfg
        spec = self.spec
        net = partial(AgentNet, spec.num_agents, spec.obs_dim, c.hidden_dim, self.space.n, c.share_params, c.network)
        return dict(mu=net(), q=net(), mix=QMixer(spec, c.hidden_dim))

    def noise(self):
        c = self.cfg
        if c.counterfactual:
            return {}
        return dict(penalty=(c.num_samples, c.batch_size, c.seq_len, self.spec.num_agents))

    def value(self, mix, q_i, state, joint):  # Q of joint actions [B, L, .., N] -> [B, L, ..]; q_i [B, L, N, A]
        q_i = repeat_over(q_i, joint.shape[:-1])
        q_taken = q_i.gather(-1, joint[..., None])[..., 0]
        return mix(q_taken, state)

    def critics(self, f, b):  # Q in the rows b.now, as a function of joint actions
        return [partial(self.value, f.mix, f.q(b.now.obs), b.now.state)]

    def target(self, on, tg, b, u):  # G, [B, L]
        best = self.space.mode(self.at_next(on.q, b.obs), b.next.avail)  # double Q-learning
        v = self.value(tg.mix, self.at_next(tg.q, b.obs), b.next.state, best)
        return td_lambda_returns(v, b, self.cfg.gamma, self.cfg.td_lambda)  # (3)

    def local(self, f, b, u, q):  # lse_i and D_i, [B, L, N] each
        avail = b.now.avail
        mu = f.mu(b.now.obs)
        values = self.counterfactual(q, b.now.actions, self.space.all(mu))  # [B, L, N, A]
        lse = self.space.logsumexp(lambda a: values, values, avail, None)  # (1)
        p = self.space.logp(values.detach(), avail).exp() + SMALL
        p_mu = self.space.logp(mu, avail).exp() + SMALL
        terms = p * (p.log() - p_mu.log())
        deviation = torch.where(avail, terms, 0.0).sum(-1)  # (4)
        return lse, deviation

    def joint(self, f, b, u, q):  # [B, L]
        avail = b.now.avail
        drawn_from = avail | self.cfg.count_unavailable
        a = self.space.uniform(drawn_from, u["penalty"]).movedim(0, 2)  # [B, L, K, N]
        values = q(a)
        if self.cfg.count_unavailable:
            is_available = self.space.is_available(a, avail[:, :, None]).all(-1)
            values = torch.where(is_available, values, 0.0)
        return values.logsumexp(-1)  # (6)

    def update(self, s, b, d):
        g = self.target(self.online(s), self.targets(s), b, d.u)
        s, loss_critic = self.gradient_step(s, "q mix", self.critic_loss, b, g, d.u)
        s = self.update_targets(s, "q mix")
        return s, dict(loss_critic=loss_critic)

    def action_params(self, f, obs, memory):
        return f.q(obs, memory=memory)


class ContinuousCFCQL(CFCQL):
    """Q is a central critic, of which there are two, and each agent has a policy without a standard deviation."""

    td_weight = 1.0  # c_TD of (2)

    def nets(self):
        c = self.cfg
        spec = self.spec
        net = partial(AgentNet, spec.num_agents, spec.obs_dim, c.hidden_dim, share=c.share_params, network=c.network)
        inputs = spec.state_dim + self.joint_space.d
        critic = partial(AgentNet, 1, inputs, c.hidden_dim, 1, share=False)
        mu = net(outputs=self.space.params_dim)
        pi = net(outputs=self.space.action_dim)
        return dict(mu=mu, pi=pi, q1=critic(), q2=critic())

    @property
    def joint_space(self):  # joint actions as those of one agent
        return Box(self.spec.num_agents * self.space.d)

    def noise(self):
        c = self.cfg
        n = self.spec.num_agents
        rows = (c.batch_size, c.seq_len)
        one = conservative.noise_shape(self.space, c.candidate_source, c.num_samples)
        joint = conservative.noise_shape(self.joint_space, c.candidate_source, c.num_samples)
        candidates = (n, *one) if c.counterfactual else joint
        return dict(penalty=(*rows, *candidates), target=(*rows, n, self.space.d))

    def value(self, critic, state, joint):  # Q of joint actions [B, L, .., N, D] -> [B, L, ..]
        state = repeat_over(state, joint.shape[:-2])
        x = torch.cat([state, joint.flatten(-2)], -1)
        return critic(x[..., None, :])[..., 0, 0]  # a network of one agent

    def critics(self, f, b):  # Q^1 and Q^2 in the rows b.now, as functions of joint actions
        return [partial(self.value, critic, b.now.state) for critic in (f.q1, f.q2)]

    def target(self, on, tg, b, u):  # G, [B, L]
        noise = TARGET_STD * torch.special.ndtri(u["target"])
        a = self.space.point(self.at_next(tg.pi, b.obs), b.next.avail)
        a = (a + noise).clamp(-1, 1)
        v1 = self.value(tg.q1, b.next.state, a)
        v2 = self.value(tg.q2, b.next.state, a)
        v = v1.minimum(v2)
        return td_lambda_returns(v, b, self.cfg.gamma, self.cfg.td_lambda)  # (3)

    def local(self, f, b, u, q):  # lse_i and D_i, [B, L, N] each
        avail = b.now.avail
        source = self.cfg.candidate_source
        m = f.pi(b.now.obs)
        m_next = self.at_next(f.pi, b.obs)
        q_now = partial(self.counterfactual, q, b.now.actions)
        q_next = partial(self.counterfactual, q, b.next.actions)
        lse = conservative.logsumexp(self.space, source, q_now, m, m_next, avail, u["penalty"], q_next)  # (1)
        mu = f.mu(b.now.obs)
        pi = self.space.point(m, avail)
        deviation = -self.space.log_prob(mu, pi, avail)  # (4)
        return lse, deviation

    def joint(self, f, b, u, q):  # [B, L]
        source = self.cfg.candidate_source
        if source == "crossed":  # an accident of CFCQL's code, not of MACQL's
            source = "noisy"
        avail = b.now.avail[..., 0, :]
        m = f.pi(b.now.obs).flatten(-2)
        m_next = self.at_next(f.pi, b.obs).flatten(-2)

        def q_flat(a):
            return q(a.unflatten(-1, (self.spec.num_agents, self.space.d)))

        return conservative.logsumexp(self.joint_space, source, q_flat, m, m_next, avail, u["penalty"])  # (6)

    def policy_loss(self, on, tg, b):
        mask = b.mask[..., None]
        pi = self.space.point(on.pi(b.now.obs), b.now.avail)
        q1, _ = self.critics(on, b)
        value = self.counterfactual(q1, b.now.actions, pi.unsqueeze(3))[..., 0]
        size = masked_mean(mask[..., None], pi**2)
        return masked_mean(mask, -value) + 1e-3 * self.spec.num_agents * size  # (5)

    def update(self, s, b, d):
        g = self.target(self.online(s), self.targets(s), b, d.u)
        s, loss_critic = self.gradient_step(s, "q1 q2", self.critic_loss, b, g, d.u)
        policy_moves = s.step % self.cfg.policy_delay == 0
        s, loss_policy = self.gradient_step(s, "pi", self.policy_loss, b, when=policy_moves)
        s = self.update_targets(s, "q1 q2 pi")
        return s, dict(loss_critic=loss_critic, loss_policy=loss_policy)

    def action_params(self, f, obs, memory):
        m, memory = f.pi(obs, memory=memory)
        return self.space.around(m, MIN_STD), memory


def repeat_over(x: Tensor, shape: torch.Size) -> Tensor:
    """x [B, L, *rest], once for each of the joint actions that `shape` [B, L, ..] counts: [B, L, .., *rest]."""
    rest = x.shape[2:]
    x = x.reshape(*shape[:2], *[1] * (len(shape) - 2), *rest)
    return x.expand(*shape, *rest)
