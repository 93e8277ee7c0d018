"""Every loss of the baselines on a small batch against plain numpy, written down from the papers and the authors' code.

Networks are taken as they are (tests/learning/test_nets.py checks them) and asked for their outputs one by one; everything that a method
makes of these outputs is computed here a second time, in loops.
"""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, ndtri, softmax
from scipy.stats import norm
from torch.utils._pytree import tree_map

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import masked_mean, td_lambda_returns
from inspo_benchmark.learning.nets import unflatten
from support.toy import SPACES, Lab

ALGORITHMS.discover()
pytestmark = pytest.mark.usefixtures("double")
kinds = pytest.mark.parametrize("kind", list(SPACES))
memories = pytest.mark.parametrize("memory", ["mlp", "gru"])
N, A, D = 3, SPACES["discrete"].n, SPACES["continuous"].d
GAMMA = 0.9


class Case:
    """A method with lively networks, targets unlike them, and a batch with illegal actions, terminations and padding."""

    def __init__(self, algo: str, kind: str, **config):
        self.lab = Lab(algo, kind, **(dict(gamma=GAMMA) | config))
        a = self.a = self.lab.algorithm
        s, other = (tree_map(lambda x: 2 * x[0], a.init([seed])) for seed in (0, 1))
        self.s = s._replace(target=other.params, step=s.step // 2)
        (self.b, self.d), self.discrete = tree_map(lambda x: x[0], self.lab.sampler.draw(0)), kind == "discrete"
        self.on, self.tg = a.online(self.s), a.targets(self.s)
        self.n = SimpleNamespace(**{name: x.numpy() for name, x in self.b._asdict().items()})
        self.rows = [(k, t) for k, t in np.ndindex(self.b.mask.shape) if self.b.mask[k, t] > 0]
        assert 1 < len(self.rows) < self.b.mask.numel()
        assert 0 < self.n.terminated[self.n.mask > 0].mean() < 1

    def same(self, ours, theirs):
        torch.testing.assert_close(ours, torch.as_tensor(theirs), rtol=1e-10, atol=1e-10)

    def stepped(self, names, value, loss):
        """`descend` steps on this loss: its value is what is logged."""
        self.same(self.a.gradient_step(self.s, names, *loss)[1], value)

    # distributions

    def probabilities(self, h, avail):
        x = np.where(avail, np.exp(h - h.max()), 0.0)
        return x / x.sum()

    def log_prob(self, h, a, avail):
        if self.discrete:
            return np.log(self.probabilities(h, avail)[a])
        mean, std, a = h[:D], np.exp(np.clip(h[D:], -5, 2)), np.clip(a, -1 + 1e-6, 1 - 1e-6)
        return (norm.logpdf(np.arctanh(a), mean, std) - np.log(1 - a**2)).sum()

    def draw(self, h, u):
        return np.tanh(h[:D] + np.exp(np.clip(h[D:], -5, 2)) * ndtri(u))

    def kl(self, h, other):  # KL(h || other) of tanh-Gaussians, which is that of the Gaussians
        (mean, std), (mean_2, std_2) = ((x[:D], np.exp(np.clip(x[D:], -5, 2))) for x in (h, other))
        return (np.log(std_2 / std) + (std**2 + (mean - mean_2) ** 2) / (2 * std_2**2) - 0.5).sum()

    def log_probs(self, h):
        """log pi_i(a_i|o_i) of heads [B, L, N, head], at the rows of data."""
        out = np.zeros(h.shape[:3])
        for (k, t), i in itertools.product(self.rows, range(N)):
            out[k, t, i] = self.log_prob(np.asarray(h)[k, t, i], self.n.actions[k, t, i], self.n.avail[k, t, i])
        return out

    def mean(self, x):
        """Over the rows of data, and over agents if x has them."""
        return np.mean([np.mean(x[k, t]) for k, t in self.rows])

    def targets(self, v_next, lam):
        """lambda-returns as sums of n-step returns: r_t + .. + gamma^n v_{t+n}, weighted by (1 - lam) lam^(n-1), the last by lam^(n-1)."""
        g = np.zeros(v_next.shape)
        for k, t in self.rows:
            longest = next((n for n in range(1, 99) if (k, t + n) not in self.rows or self.n.terminated[k, t + n - 1]), 99)
            for n in range(1, longest + 1):
                steps = sum(GAMMA**j * self.n.rewards[k, t + j] for j in range(n))
                bootstrap = GAMMA**n * v_next[k, t + n - 1] * (1 - self.n.terminated[k, t + n - 1])
                g[k, t] += (steps + bootstrap) * lam ** (n - 1) * (1 if n == longest else 1 - lam)
        return g

    # critics and policies, one row at a time

    def value(self, critic, x, act=None):
        """Q_i(x_i, a_i) [B, L, N] of a Critic."""
        act = self.b.now.actions if act is None else act
        return critic(x, act.unsqueeze(3))[..., 0].numpy()

    def state_and_obs(self, rows=slice(None, -1)):
        state = self.b.state[:, rows, None].expand(-1, -1, N, -1)
        return torch.cat([state, self.b.obs[:, rows]], -1)

    def every(self, critic, x):
        """Q_i at all discrete actions, [B, L, N, A]."""
        return critic(x, torch.arange(A).expand(*x.shape[:-1], A)).numpy()


def test_lambda_returns():
    c = Case("iql", "discrete")
    for shape in ((8, 3), (8, 3, N)):
        v = np.random.default_rng(0).normal(size=shape)
        for lam in (0.0, 0.6, 1.0):
            ours = td_lambda_returns(torch.as_tensor(v), c.b, GAMMA, lam).numpy()
            theirs = c.targets(v, lam)
            for k, t in c.rows:
                np.testing.assert_allclose(ours[k, t], theirs[k, t], atol=1e-12)


def test_lambda_returns_are_those_of_pymarl():
    """Whole episodes that end by themselves or at the window's end: G_L = v_L (1 - sum term), G_t = lam g G_{t+1} + m_t (...)."""
    rng, length, lam = np.random.default_rng(1), 5, 0.6
    ends = np.array([5, 5, 3, 1])
    mask = (np.arange(length) < ends[:, None]).astype(float)
    term = np.zeros((4, length))
    term[[1, 2, 3], ends[1:] - 1] = 1
    rew, v = rng.normal(size=(4, length)) * mask, rng.normal(size=(4, length + 1))
    b = Case("iql", "discrete").b._replace(rewards=torch.as_tensor(rew), terminated=torch.as_tensor(term), mask=torch.as_tensor(mask))
    ours = td_lambda_returns(torch.as_tensor(v[:, 1:]), b, GAMMA, lam).numpy()
    g = v[:, -1] * (1 - term.sum(1))
    for t in reversed(range(length)):
        g = lam * GAMMA * g + mask[:, t] * (rew[:, t] + (1 - lam) * GAMMA * v[:, t + 1] * (1 - term[:, t]))
        np.testing.assert_allclose((mask * ours)[:, t], mask[:, t] * g, atol=1e-12)


# --- OMIGA


@kinds
@memories
def test_omiga(kind, memory):
    c = Case("omiga", kind, alpha=0.7, network=memory)
    now, everything = c.b.now.obs, c.b.obs
    q, q_tg = (c.value(f.q, now) for f in (c.on, c.tg))
    v, v_next = c.on.v(now)[..., 0].numpy(), c.tg.v(everything)[:, 1:, :, 0].numpy()
    w, bias, w_tg, _, w_next, bias_next = (
        x.numpy() for f, s in ((c.on, c.b.now.state), (c.tg, c.b.now.state), (c.tg, c.b.next.state)) for x in f.mix(s)
    )
    z = np.clip((w_tg * q_tg - w_tg * v) / 0.7, -10, 10)
    largest = max([-1.0] + [z[k, t].max() for k, t in c.rows])
    y = c.n.rewards + GAMMA * (1 - c.n.terminated) * ((w_next * v_next).sum(-1) + bias_next)
    c.stepped("q mix", c.mean((y - (w * q).sum(-1) - bias) ** 2), (c.a.critic_loss, c.b))
    c.stepped(
        "v",
        c.mean(np.exp(z - largest) + np.exp(-largest) * w_tg * v / 0.7),
        (c.a.value_loss, c.b, torch.as_tensor(w_tg), torch.as_tensor(q_tg)),
    )
    policy = -c.mean(np.exp(z) * c.log_probs(c.on.pi(now)))
    _, logs = c.a.update(c.s, c.b, c.d)
    c.same(logs["loss_policy"], policy)


# --- MA-IQL


@kinds
def test_iql(kind):
    c = Case("iql", kind, expectile=0.8, beta=2.0)
    x = c.state_and_obs()
    u = np.minimum(*(c.value(q, x) for q in (c.tg.q1, c.tg.q2))) - c.on.v(x)[..., 0].numpy()
    v_next = c.on.v(c.state_and_obs(slice(1, None)))[..., 0].numpy()
    y = c.n.rewards[..., None] + GAMMA * (1 - c.n.terminated[..., None]) * v_next
    _, logs = c.a.update(c.s, c.b, c.d)
    c.same(logs["loss_value"], c.mean(np.where(u < 0, 0.2, 0.8) * u**2))
    c.same(logs["loss_critic"], np.mean([c.mean((y - c.value(q, x)) ** 2) for q in (c.on.q1, c.on.q2)]))
    c.same(logs["loss_policy"], -c.mean(np.minimum(np.exp(2.0 * u), 100) * c.log_probs(c.on.pi(c.b.now.obs))))


# --- ICQ


@kinds
@pytest.mark.parametrize("config", [{}, dict(mixer="elu"), dict(count_padding=True), dict(epsilon=0.3)], ids=str)
def test_icq(kind, config):
    c = Case("icq", kind, beta=0.5, beta_critic=0.7, td_lambda=0.8, num_samples=4, **config)
    padded, epsilon = config.get("count_padding", False), config.get("epsilon", 0.0)

    def batch_softmax(x):
        out = np.zeros_like(x)
        for t in range(x.shape[1]):
            k = [k for k in range(len(x)) if padded or (k, t) in c.rows]
            if k:
                out[k, t] = len(k) * softmax(x[k, t], 0)
        return out

    def mix(f, q, state):
        total, k = f.mix(torch.as_tensor(q), state)
        p = {name.removeprefix("mix."): x for name, x in linear(c, f).items()}
        w1 = np.abs(state.numpy() @ p["w1.weight"] + p["w1.bias"]).reshape(*q.shape, -1)
        w2 = np.abs(state.numpy() @ p["w2.weight"] + p["w2.bias"])
        share = (w1 @ w2[..., None])[..., 0]
        share = share / share.sum(-1, keepdims=True)
        if "mixer" in config:
            hidden = (q[..., None, :] @ w1)[..., 0, :] + state.numpy() @ p["b1.weight"] + p["b1.bias"]
            hidden = np.where(hidden > 0, hidden, np.expm1(hidden))
            bias = np.maximum(state.numpy() @ p["v1.weight"] + p["v1.bias"], 0) @ p["v2.weight"] + p["v2.bias"]
            np.testing.assert_allclose(total, (hidden * w2).sum(-1) + bias[..., 0], atol=1e-12)
        else:
            np.testing.assert_allclose(total, (share * q).sum(-1), atol=1e-12)
        np.testing.assert_allclose(k, share, atol=1e-12)
        return total.numpy(), share

    def linear(c, f):
        return {name: x.numpy() for name, x in unflatten(c.a.modules["mix"], f._params["mix"]).items()}

    x = c.state_and_obs()
    bar, _ = mix(c.tg, c.value(c.tg.q, c.state_and_obs(slice(1, None)), c.b.next.actions), c.b.next.state)
    y = c.targets(batch_softmax(bar / 0.7) * bar, 0.8)
    total, _ = mix(c.on, c.value(c.on.q, x), c.b.now.state)
    c.stepped("q mix", c.mean((total - y) ** 2), (c.a.critic_loss, c.b, c.a.target(c.tg, c.b)))

    every = c.every(c.on.q, x) if kind == "discrete" else None
    h, q = c.on.pi(c.b.now.obs).numpy(), c.value(c.on.q, x)
    log_pi, expected = c.log_probs(h), np.zeros(q.shape)
    for k, t, i in np.ndindex(q.shape):
        if kind == "discrete":
            p = (1 - epsilon) * softmax(h[k, t, i]) + epsilon / A
            p = np.where(c.n.avail[k, t, i], p, 0) / p[c.n.avail[k, t, i]].sum()
            log_pi[k, t, i] = np.log(p[c.n.actions[k, t, i]]) if (k, t) in c.rows else 0.0  # beside padding the action may be illegal
            expected[k, t, i] = p @ every[k, t, i]
        else:
            draws = np.stack([c.draw(h[k, t, i], u) for u in c.d.u["own"][k, t, i].numpy()])
            some = x[k : k + 1, t : t + 1].expand(1, 1, N, -1)
            values = c.on.q(some, torch.as_tensor(draws).expand(1, 1, N, *draws.shape))[0, 0, i].numpy()
            expected[k, t, i] = values.mean()
    share = mix(c.on, q, c.b.now.state)[1]
    weight = share * batch_softmax((q - expected) / 0.5)
    ours = c.a.weights(c.on, c.b, c.d.u["own"])
    c.stepped("pi", -c.mean(weight * log_pi), (c.a.policy_loss, c.b, ours))


# --- CFCQL


def noisy(q, means, u, correction):
    """Three sets of candidates: q a function of (set, action)."""
    uniform, near, far = np.split(u, 3)
    values = [q(0, 2 * x - 1) + len(x) * np.log(2) for x in uniform]
    eps = [0.2 * ndtri(x) for x in (near, far)]
    density = [[norm.logpdf(e, 0, 0.2).sum() for e in x] for x in eps]
    if correction == "density":
        density = np.exp(density)
    if correction == "crossed":
        density = density[::-1]
    for k in (0, 1):
        values += [q(1 + k, np.clip(means[k] + e, -1, 1)) - p for e, p in zip(eps[k], density[k])]
    return logsumexp(values)


def importance(c, q, mean, u):
    """log of the mean of exp(q) / p: half uniform, half tanh(N(mean, .2)), given in front of the tanh."""
    half, d = len(u) // 2, u.shape[-1]
    values = [q(0, 2 * x - 1) + d * np.log(2) for x in u[:half]]
    for x in u[half:]:
        before = mean + 0.2 * ndtri(x)
        a = np.tanh(before)
        values.append(q(0, a) - (norm.logpdf(before, mean, 0.2) - np.log(1 - a**2)).sum())
    return logsumexp(values) - np.log(len(values))


class Team:
    """The team's values of joint actions, one at a time."""

    def __init__(self, c, f):
        self.c, self.f = c, f
        self.q = f.q(c.b.obs).numpy() if c.discrete else None

    def __call__(self, k, t, joint):
        state = self.c.b.state[k, t][None, None]
        if self.c.discrete:
            q = torch.as_tensor([self.q[k, t, i, joint[i]] for i in range(N)])
            return np.array([self.f.mix(q[None, None], state).item()])
        x = torch.cat([state[0, 0], torch.as_tensor(np.array(joint)).flatten()])[None, None, None]
        return np.array([self.f.q1(x).item(), self.f.q2(x).item()])


def cfcql_target(c, team):
    """G with actions that are greedy online (discrete), or the target policy's with noise."""
    v = np.zeros(c.n.mask.shape)
    for k, t in np.ndindex(v.shape):
        if c.discrete:
            q = c.on.q(c.b.obs).numpy()[k, t + 1]
            joint = [np.where(c.n.avail[k, t + 1, i], q[i], -np.inf).argmax() for i in range(N)]
        else:
            noise = 0.05 * ndtri(c.d.u["target"][k, t].numpy())
            joint = np.clip(np.tanh(c.tg.pi(c.b.obs).numpy()[k, t + 1]) + noise, -1, 1)
        v[k, t] = team(k, t + 1, joint).min()
    return c.targets(v, 0.6)


@memories
@pytest.mark.parametrize("config", [{}, dict(lambda_weights="argmax"), dict(lambda_temp=0.0), dict(lambda_temp=-2.0)], ids=str)
def test_cfcql_discrete(config, memory):
    c = Case("cfcql", "discrete", alpha=1.5, network=memory, **config)
    y, team, mu, total = cfcql_target(c, Team(c, c.tg)), Team(c, c.on), c.on.mu(c.b.now.obs).numpy(), []
    for k, t in c.rows:
        act, avail = c.n.actions[k, t], c.n.avail[k, t]
        lse, kl = np.zeros(N), np.zeros(N)
        for i in range(N):
            values = np.full(A, -1e10)
            for j in np.flatnonzero(avail[i]):
                joint = act.copy()
                joint[i] = j
                values[j] = team(k, t, joint)[0]
            lse[i] = logsumexp(values)
            p, beta = softmax(values) + 1e-5, c.probabilities(mu[k, t, i], avail[i]) + 1e-5
            kl[i] = sum(p[j] * (np.log(p[j]) - np.log(beta[j])) for j in np.flatnonzero(avail[i]))
        lam = np.eye(N)[kl.argmax()] if "lambda_weights" in config else softmax(config.get("lambda_temp", 0.5) * kl)
        q = team(k, t, act)[0]
        total.append(0.5 * (q - y[k, t]) ** 2 + 1.5 * (lam @ lse - q))
    c.same(c.a.target(c.on, c.tg, c.b, c.d.u)[tuple(zip(*c.rows))], [y[row] for row in c.rows])
    c.stepped("q mix", np.mean(total), (c.a.critic_loss, c.b, torch.as_tensor(y), c.d.u))
    c.stepped("mu", -c.mean(c.log_probs(mu)), (c.a.cloning_loss, c.b))


@pytest.mark.parametrize("illegal", [False, True])
def test_macql_discrete(illegal):
    c = Case("cfcql", "discrete", alpha=1.5, counterfactual=False, count_unavailable=illegal, num_samples=4)
    y, team, total = np.random.default_rng(0).normal(size=c.n.mask.shape), Team(c, c.on), []
    for k, t in c.rows:
        values = []
        for u in c.d.u["penalty"][:, k, t].numpy():
            choices = [np.arange(A) if illegal else np.flatnonzero(c.n.avail[k, t, i]) for i in range(N)]
            joint = [choice[int(u[i] * len(choice))] for i, choice in enumerate(choices)]
            allowed = all(c.n.avail[k, t, i, a] for i, a in enumerate(joint))
            values.append(team(k, t, joint)[0] if allowed else 0.0)
        q = team(k, t, c.n.actions[k, t])[0]
        total.append(0.5 * (q - y[k, t]) ** 2 + 1.5 * (logsumexp(values) - q))
    c.stepped("q mix", np.mean(total), (c.a.critic_loss, c.b, torch.as_tensor(y), c.d.u))


@pytest.mark.parametrize("sets", ["importance", "uniform", "noisy", "crossed"])
@pytest.mark.parametrize("counterfactual", [True, False])
def test_cfcql_continuous(sets, counterfactual):
    c = Case("cfcql", "continuous", alpha=1.5, candidate_source=sets, counterfactual=counterfactual, num_samples=4)
    y, team, u = cfcql_target(c, Team(c, c.tg)), Team(c, c.on), c.d.u["penalty"].numpy()
    x, mu, total = c.on.pi(c.b.obs).numpy(), c.on.mu(c.b.now.obs).numpy(), []
    for k, t in c.rows:
        data = team(k, t, c.n.actions[k, t])
        for critic in (0, 1):
            if counterfactual:
                lse, kl = np.zeros(N), np.zeros(N)
                for i in range(N):

                    def q(which, a, i=i, k=k, t=t, critic=critic):
                        joint = c.n.actions[k, t + 1 if (which, sets) == (2, "crossed") else t].copy()
                        joint[i] = a
                        return team(k, t, joint)[critic]

                    lse[i] = estimate(c, q, sets, x[k, t, i], x[k, t + 1, i], u[k, t, i])
                    kl[i] = -c.log_prob(mu[k, t, i], np.tanh(x[k, t, i]), None)
                over = softmax(0.5 * kl) @ lse
            else:

                def q(which, a, k=k, t=t, critic=critic):
                    return team(k, t, a.reshape(N, D))[critic]

                kind = "noisy" if sets == "crossed" else sets
                over = estimate(c, q, kind, x[k, t].ravel(), x[k, t + 1].ravel(), u[k, t])
            total.append((data[critic] - y[k, t]) ** 2 + 1.5 * (over - data[critic]))
    c.same(c.a.target(c.on, c.tg, c.b, c.d.u)[tuple(zip(*c.rows))], [y[row] for row in c.rows])
    c.stepped("q1 q2", 2 * np.mean(total), (c.a.critic_loss, c.b, torch.as_tensor(y), c.d.u))
    gain = []
    for k, t in c.rows:
        for i in range(N):
            joint = c.n.actions[k, t].copy()
            joint[i] = np.tanh(x[k, t, i])
            gain.append(team(k, t, joint)[0])
    size = sum(np.mean([np.tanh(x[k, t, i]) ** 2 for k, t in c.rows]) for i in range(N))
    c.stepped("pi", -np.mean(gain) + 1e-3 * size, (c.a.policy_loss, c.b))


def estimate(c, q, sets, now, ahead, u):
    if sets == "importance":
        return importance(c, q, now, u)
    if sets == "uniform":
        return logsumexp([q(0, 2 * x - 1) + len(x) * np.log(2) for x in u])
    return noisy(q, [np.tanh(now), np.tanh(ahead)], u, sets)


# --- OMAR


def omar(kind, **config):
    c = Case("omar", kind, **(dict(alpha=1.5, coe=0.4, search_samples=6, search_elites=3, num_samples=4, search_rounds=2) | config))
    c.x = c.b.now.obs if config.get("critic_sees_obs_only") else c.state_and_obs()

    def q(net, k, t, i, a):
        """One value of one agent."""
        some = torch.as_tensor(a).expand(1, 1, N, 1, *np.shape(a))
        return net(c.x[k : k + 1, t : t + 1], some)[0, 0, i, 0].item()

    c.q = q
    return c


@memories
@pytest.mark.parametrize("config", [{}, dict(count_unavailable=True), dict(critic_sees_obs_only=True)], ids=str)
def test_omar_critic_discrete(config, memory):
    c = omar("discrete", network=memory, **config)
    pi = c.tg.pi(c.b.obs).numpy()[:, 1:]
    greedy = np.where(c.n.avail[:, 1:], pi, -np.inf).argmax(-1)
    after = c.b.next.obs if "critic_sees_obs_only" in config else c.state_and_obs(slice(1, None))
    y = np.minimum(*(c.targets(c.value(q, after, torch.as_tensor(greedy)), 0.6) for q in (c.tg.q1, c.tg.q2)))
    total = 0.0
    for net in (c.on.q1, c.on.q2):
        every = c.every(net, c.x)
        over = logsumexp(np.where(c.n.avail[:, :-1] | ("count_unavailable" in config), every, -np.inf), -1)
        data = np.take_along_axis(every, c.n.actions[:, :-1, :, None], -1)[..., 0]
        total += c.mean((data - y) ** 2 + 1.5 * (over - data))
    _, logs = c.a.update(c.s, c.b, c.d)
    c.same(logs["loss_critic"], total)


@pytest.mark.parametrize("sets", ["importance", "uniform", "noisy", "density"])
def test_omar_critic_continuous(sets):
    c = omar("continuous", candidate_source=sets)
    pi, now, u = c.tg.pi(c.b.obs)[:, 1:].tanh(), c.on.pi(c.b.obs).numpy(), c.d.u["penalty"].numpy()
    y = np.minimum(*(c.targets(c.value(q, c.state_and_obs(slice(1, None)), pi), 0.6) for q in (c.tg.q1, c.tg.q2)))
    total = []
    for (k, t), i, net in itertools.product(c.rows, range(N), (c.on.q1, c.on.q2)):

        def q(which, a, net=net, k=k, t=t, i=i):
            return c.q(net, k, t, i, a)

        data = q(0, c.n.actions[k, t, i])
        total.append((data - y[k, t, i]) ** 2 + 1.5 * (estimate(c, q, sets, now[k, t, i], now[k, t + 1, i], u[k, t, i]) - data))
    _, logs = c.a.update(c.s, c.b, c.d)
    c.same(logs["loss_critic"], 2 * np.mean(total))


@kinds
@pytest.mark.parametrize("refit", ["softmax", "elites"])
def test_omar_search(kind, refit):
    c = omar(kind, search_refit=refit, search_discrete=True)
    ours, u = c.a.best(c.on, c.b, c.d.u).numpy(), c.d.u["search"].numpy()
    h, found = c.on.pi(c.b.now.obs).numpy(), 0
    for (k, t), i in itertools.product(c.rows, range(N)):
        avail = c.n.avail[k, t, i]

        def q(x, k=k, t=t, i=i, avail=avail):
            if kind == "continuous":
                return c.q(c.on.q1, k, t, i, x)
            return c.q(c.on.q1, k, t, i, int(x[0])) if avail[int(x[0])] else -1e9

        mean, std = (np.zeros(D), np.full(D, 2.0)) if kind == "continuous" else (np.full(1, A / 2), np.full(1, A / 2))
        elite = []
        for r in range(2):
            x = mean + std * ndtri(u[r, k, t, i])
            x = np.clip(x, -1, 1) if kind == "continuous" else np.clip(np.round(x), 0, A - 1)
            pool = [*x, *elite]
            value = np.array([q(a) for a in pool])
            if refit == "softmax":
                w = np.exp(value - value.max())
                mean = (w[:, None] * np.array(pool)).sum(0) / w.sum()
                std = np.sqrt(((np.array(pool) - mean) ** 2).mean(0))
            else:
                elite = [pool[j] for j in np.argsort(-value, kind="stable")[:3]]
                mean, std = np.mean(elite, 0), np.std(elite, 0, ddof=1)
        winner = pool[value.argmax()]
        own = np.tanh(h[k, t, i]) if kind == "continuous" else np.array([np.where(avail, h[k, t, i], -np.inf).argmax()])
        best = own if q(own) >= q(winner) else winner
        found += q(winner) > q(own)
        np.testing.assert_allclose(ours[k, t, i], best if kind == "continuous" else int(best[0]), atol=1e-10)
    assert found


@kinds
@pytest.mark.parametrize("padded", [False, True])
def test_omar_policy(kind, padded):
    c = omar(kind, count_padding=padded)
    h, best = c.on.pi(c.b.now.obs).numpy(), c.a.best(c.on, c.b, c.d.u)
    value, error = np.zeros(h.shape[:3]), np.zeros((*h.shape[:3], A if kind == "discrete" else D))
    for k, t, i in np.ndindex(value.shape):
        if kind == "continuous":
            point = np.tanh(h[k, t, i])
            value[k, t, i] = c.q(c.on.q1, k, t, i, point) - 1e-3 / 0.6 * (point**2).mean()
            error[k, t, i] = (point - best[k, t, i].numpy()) ** 2
        else:
            p, every = c.probabilities(h[k, t, i], c.n.avail[k, t, i]), [c.q(c.on.q1, k, t, i, a) for a in range(A)]
            assert best[k, t, i] == max(np.flatnonzero(c.n.avail[k, t, i]), key=lambda a: every[a])
            a = c.n.actions[k, t, i]
            value[k, t, i] = (every[a] - p @ every) * np.log(p[a] + 1e-5)
            error[k, t, i] = (p - np.eye(A)[best[k, t, i]]) ** 2
    imitation = error.mean() if padded else c.mean(error)
    c.stepped("pi", 0.4 * imitation - 0.6 * c.mean(value), (c.a.policy_loss, c.b, best))


@kinds
def test_omar_learns_nothing_from_padding(kind):
    """`padded` shrinks the gradient of the imitation by the share of data, and only that (coe = 1; continuous: but for the 1e-3)."""

    def gradient(padded):
        c = omar(kind, count_padding=padded, coe=1.0)
        best = c.a.best(c.on, c.b, c.d.u)

        def loss(pi):
            nets = c.a.online(c.s._replace(params={**c.s.params, "pi": pi}))
            point = c.a.policy_loss(nets, None, c.b, best)
            return point if c.discrete else point - 1e-3 * masked_mean(c.b.mask[..., None, None], torch.tanh(nets.pi(c.b.now.obs)) ** 2)

        return torch.func.grad(loss)(c.s.params["pi"]), c.b.mask.mean()

    (plain, share), (padded, _) = gradient(False), gradient(True)
    assert plain.abs().sum() > 0
    torch.testing.assert_close(padded, share * plain, rtol=1e-10, atol=1e-12)


# --- AlberDICE


@kinds
@pytest.mark.parametrize("i", range(N))
def test_alberdice(kind, i):
    c = Case("alberdice", kind, alpha=2.0, alpha_end=0.5, num_samples=4, share_params=False)
    agent, alpha = torch.tensor(i), 2.0 * 0.25 ** (0 / 4)
    act, avail, state, u = c.n.actions, c.n.avail, c.n.state, {k: x.numpy() for k, x in c.d.u.items()}
    pi, own = c.on.pi(c.b.now.obs).numpy(), c.on.marginal(c.b.now.obs).numpy()[:, :, i]
    k_i, log_rho, chain = np.zeros(c.n.mask.shape), np.zeros(c.n.mask.shape), []

    def floor(x):
        return np.log(np.exp(x) + 1e-10) if c.discrete else x

    for k, t in c.rows:
        for j in (j for j in range(N) if j != i):
            given = np.zeros((N, A if c.discrete else D))
            for other in {i, *range(j)}:
                given[other] = np.eye(A)[act[k, t, other]] if c.discrete else act[k, t, other]
            x = torch.as_tensor(np.concatenate([np.eye(N)[j], state[k, t], given.ravel()]))
            behaviour = c.on.conditional(x[None, None], agent=agent)[0, 0].numpy()
            h, ok = pi[k, t, j], avail[k, t, j]
            chain.append(c.log_prob(behaviour, act[k, t, j], ok))
            log_rho[k, t] += c.log_prob(h, act[k, t, j], ok) - floor(chain[-1])
            if c.discrete:
                log_p = {a: c.log_prob(h, a, ok) for a in np.flatnonzero(ok)}
                k_i[k, t] += sum(np.exp(x) * (x - floor(c.log_prob(behaviour, a, ok))) for a, x in log_p.items())
            else:
                k_i[k, t] += c.kl(h, behaviour)
    ours = c.a.teammates(c.on, c.b, agent, c.d.u["own"])
    rho = np.minimum(100, np.exp(log_rho))
    for row in c.rows:
        c.same(ours[0][row], k_i[row])
        c.same(ours[1][row].exp(), rho[row])
    c.stepped("conditional", -np.mean(chain), (c.a.conditional_loss, c.b, agent))

    nu = [c.on.nu(x, agent=agent)[..., 0].numpy() for x in (c.b.now.state, c.b.next.state)]
    e = c.n.rewards - alpha * k_i + GAMMA * (1 - c.n.terminated) * nu[1] - nu[0]
    count = np.where(c.n.mask > 0, np.random.default_rng(0).integers(0, 4, c.n.mask.shape), 0).astype(float)
    drawn = [e[row] for row in c.rows for _ in range(int(count[row]))]
    mean_rho = np.mean([rho[row] for row in c.rows]) + 1e-10
    mixed = u["pair"] * state[:, :-1] + (1 - u["pair"]) * state[::-1, :-1]
    slopes = []
    for k, t in c.rows:
        if (len(state) - 1 - k, t) in c.rows:
            x = torch.as_tensor(mixed[k, t]).requires_grad_()
            (slope,) = torch.autograd.grad(c.on.nu(x[None, None], agent=agent).sum(), x)
            slopes.append((slope**2).sum().item())
    size, absorbed = len(c.rows), sum(c.n.terminated[row] for row in c.rows) / (1 - GAMMA)
    loss = alpha * np.log((size * mean_rho * np.exp(np.array(drawn) / alpha).mean() + absorbed) / (size + absorbed))
    loss += (1 - GAMMA) * sum(nu[0][row] for row in c.rows) / (size + absorbed) + 0.1 * np.mean(slopes)
    counted, k_given, rho_given = (torch.as_tensor(x) for x in (count, k_i, log_rho.clip(max=np.log(100))))
    c.stepped("nu", loss, (c.a.nu_loss, c.b, agent, k_given, rho_given, counted, torch.tensor(alpha), c.d.u["pair"]))

    fit, cost = 0.0, 0.0
    for k, t in c.rows:
        ok = avail[k, t, i]

        def value(a, k=k, t=t):
            a = torch.as_tensor(np.array(a))
            return c.on.e(c.b.state[k, t][None, None], a.expand(1, 1, 1, *a.shape), agent=agent).item()

        if c.discrete:
            some = np.flatnonzero(ok)
            p, prior = c.probabilities(pi[k, t, i], ok), c.probabilities(own[k, t], ok)
            over, inside = logsumexp([value(a) for a in some]), sum(prior[a] * value(a) for a in some)
            now = sum(p[a] * (alpha * (np.log(p[a]) - np.log(prior[a] + 1e-10)) - value(a)) for a in some)
        else:
            half = u["cql"].shape[2] // 2
            draws = [c.draw(own[k, t], x) for x in u["cql"][k, t, half:]]
            values = [value(2 * x - 1) + D * np.log(2) for x in u["cql"][k, t, :half]]
            over = logsumexp(values + [value(a) - c.log_prob(own[k, t], a, ok) for a in draws]) - np.log(2 * half)
            inside = np.mean([value(c.draw(own[k, t], x)) for x in u["own"][k, t, i]])
            now = alpha * c.kl(pi[k, t, i], own[k, t]) - np.mean([value(c.draw(pi[k, t, i], x)) for x in u["own"][k, t, i]])
        fit += count[k, t] * ((value(act[k, t, i]) - e[k, t]) ** 2 + 0.1 * (over - inside))
        cost += count[k, t] * now
    action_params = torch.as_tensor(own)
    c.stepped("e", fit / count.sum(), (c.a.e_loss, c.b, agent, torch.as_tensor(e), counted, action_params, c.d.u))
    c.stepped("pi", cost / count.sum(), (c.a.policy_loss, c.b, agent, counted, action_params, torch.tensor(alpha), c.d.u))
    _, logs = c.a.update(c.s, c.b, c.d._replace(agent=agent))
    c.same(logs["divergence"], c.mean(k_i))


# --- ComaDICE


def soft_chi2(y):
    """w(y), f*(y) and f(w(y)), one number at a time."""
    w = np.exp(y) if y < 0 else 1 + y
    f = w * np.log(w) - w + 1 if w < 1 else (w - 1) ** 2 / 2
    return w, y * w - f, f


@kinds
@memories
@pytest.mark.parametrize("config", [{}, dict(nu_gradient="code"), dict(team_weight="joint"), dict(weight_max=1.3)], ids=str)
def test_comadice(kind, memory, config):
    c = Case("comadice", kind, alpha=0.2, network=memory, **config)
    now, everything = c.b.now.obs, c.b.obs
    q, q_tg = (c.value(f.q, now) for f in (c.on, c.tg))
    nu, nu_next = c.on.nu(now)[..., 0].numpy(), c.tg.nu(everything)[:, 1:, :, 0].numpy()
    k, bias, k_tg, _, k_next, bias_next = (
        x.numpy() for f, s in ((c.on, c.b.now.state), (c.tg, c.b.now.state), (c.tg, c.b.next.state)) for x in f.mix(s)
    )
    target = c.n.rewards + GAMMA * (1 - c.n.terminated) * ((k_next * nu_next).sum(-1) + bias_next)
    c.stepped("q mix", c.mean((target - (k * q).sum(-1) - bias) ** 2), (c.a.critic_loss, c.b))

    loss, weights = np.zeros(q.shape), np.zeros(c.n.mask.shape)
    for k_, t in c.rows:
        local = []
        for i in range(N):
            _, conjugate, divergence = soft_chi2(k[k_, t, i] * (q[k_, t, i] - nu[k_, t, i]) / 0.2)
            code = config.get("nu_gradient") == "code"
            loss[k_, t, i] = 0.2 * divergence if code else 0.2 * conjugate + k[k_, t, i] * nu[k_, t, i]
            local.append(k_tg[k_, t, i] * (q_tg[k_, t, i] - nu[k_, t, i]) / 0.2)
        joint = config.get("team_weight") == "joint"
        cap = config.get("weight_max", 100.0)
        weights[k_, t] = min(soft_chi2(sum(local))[0], cap) if joint else np.mean([min(soft_chi2(y)[0], cap) for y in local])
    assert np.ptp([weights[row] for row in c.rows]) > 1e-6
    c.stepped("nu", c.mean(loss), (c.a.nu_loss, c.b, torch.as_tensor(k), torch.as_tensor(q)))
    _, logs = c.a.update(c.s, c.b, c.d)
    c.same(logs["weight"], c.mean(weights))
    c.same(logs["loss_policy"], -c.mean(weights[..., None] * c.log_probs(c.on.pi(now))))


# --- Oryx


@kinds
@memories
@pytest.mark.parametrize("credit", ["own", "prefix"])
def test_oryx(kind, memory, credit):
    c = Case("oryx", kind, beta=0.5, beta_critic=0.7, num_samples=4, network=memory, credit=credit)
    rank = c.d.u["order"].numpy()
    encoded = np.eye(A)[c.n.actions] if c.discrete else c.n.actions

    def inputs(x):
        """x beside the actions of the earlier agents, and which agents these are, [B, L+1, N, ..]."""
        rows = []
        for k, t, j in np.ndindex(x.shape[:3]):
            known = [rank[k, i] < rank[k, j] for i in range(N)]
            told = np.concatenate([encoded[k, t, i] if known[i] else 0 * encoded[k, t, i] for i in range(N)])
            rows.append(np.concatenate([x[k, t, j], told, known]))
        return torch.as_tensor(np.array(rows).reshape(*x.shape[:3], -1))

    x_pi, x_q = inputs(c.n.obs), inputs(c.state_and_obs(slice(None)).numpy())

    def softmax_over_data(x):
        out = np.zeros_like(x)
        for t, j in np.ndindex(x.shape[1:]):
            k = [k for k in range(len(x)) if (k, t) in c.rows]
            if k:
                out[k, t, j] = len(k) * softmax(x[k, t, j])
        return out

    q_next = c.value(c.tg.q, x_q[:, 1:], c.b.next.actions)
    v = softmax_over_data(q_next / 0.7) * q_next
    y = c.n.rewards[..., None] + GAMMA * (1 - c.n.terminated[..., None]) * v
    q = c.value(c.on.q, x_q[:, :-1])
    h = c.on.pi(x_pi[:, :-1]).numpy()
    every = c.every(c.on.q, x_q[:, :-1]) if c.discrete else None
    advantage = np.zeros(q.shape)
    for k, t, j in np.ndindex(q.shape):
        if c.discrete:
            expected = c.probabilities(h[k, t, j], c.n.avail[k, t, j]) @ every[k, t, j]
        else:
            draws = torch.as_tensor(np.stack([c.draw(h[k, t, j], u) for u in c.d.u["own"][k, t, j].numpy()]))
            expected = c.on.q(x_q[k, t][None, None], draws.expand(1, 1, N, *draws.shape))[0, 0, j].mean().item()
        advantage[k, t, j] = q[k, t, j] - expected
    if credit == "prefix":
        earlier = rank[:, None, :] <= rank[:, :, None]  # [j, i]
        advantage = np.einsum("kji,kti->ktj", earlier.astype(float), advantage)
    w = softmax_over_data(advantage / 0.5)
    _, logs = c.a.update(c.s, c.b, c.d)
    c.same(logs["loss_critic"], c.mean((y - q) ** 2) / 2)
    c.same(logs["loss_policy"], -c.mean(w * c.log_probs(h)))


# --- MAC-Flow


@kinds
@memories
@pytest.mark.parametrize("config", [{}, dict(teacher="own"), dict(improvement="argmax")], ids=str)
def test_macflow(kind, memory, config):
    c = Case("macflow", kind, alpha=1.5, flow_steps=3, flow_dim=8, network=memory, **config)
    width, own = A if c.discrete else D, "teacher" in config
    encoded = np.eye(A)[c.n.actions] if c.discrete else c.n.actions
    u = {name: x.numpy() for name, x in c.d.u.items()}

    def velocity(f, k, t, x, time):
        """x [N, width], time [N, 1] or [1, 1] -> v of every agent's action."""
        if own:
            return f.flow(torch.as_tensor(np.concatenate([c.n.obs[k, t], x, time], 1))[None, None])[0, 0].numpy()
        row = np.concatenate([c.n.state[k, t], c.n.obs[k, t].ravel(), x.ravel(), time[0]])
        return f.flow(torch.as_tensor(row)[None, None, None])[0, 0, 0].numpy().reshape(N, width)

    loss = np.zeros((*c.n.mask.shape, N, width))
    for k, t in c.rows:
        z, time, a = ndtri(u["flow"][k, t]), u["time"][k, t], encoded[k, t]
        loss[k, t] = (velocity(c.on, k, t, (1 - time) * z + time * a, time) - (a - z)) ** 2
    c.stepped("flow", c.mean(loss), (c.a.flow_loss, c.b, c.d.u))

    def policies(f, obs, name):
        return f.pi(torch.cat([obs, torch.special.ndtri(c.d.u[name])], -1)).numpy()

    def q_of(f, obs, h, avail):
        """Mean of both critics at the policies' actions, [B, L, N]."""
        if not c.discrete:
            return np.mean([c.value(q, obs, torch.as_tensor(np.clip(h, -1, 1))) for q in (f.q1, f.q2)], 0)
        every = np.mean([c.every(q, obs) for q in (f.q1, f.q2)], 0)
        out = np.zeros(h.shape[:-1])
        for at in np.ndindex(out.shape):
            p = c.probabilities(h[at], avail[at])
            out[at] = every[at][p.argmax()] if "improvement" in config else p @ every[at]
        return out

    def q_tot(f):
        return [c.value(q, c.b.now.obs).sum(-1) for q in (f.q1, f.q2)]

    rows = slice(None) if memory == "gru" else slice(1, None)
    obs, avail = c.b.obs[:, rows], c.n.avail[:, rows]
    v = q_of(c.tg, obs, policies(c.on, obs, "next"), avail).sum(-1)[:, -c.n.mask.shape[1] :]
    y = c.n.rewards + GAMMA * (1 - c.n.terminated) * v
    _, logs = c.a.update(c.s, c.b, c.d)
    c.same(logs["loss_critic"], np.mean([c.mean((y - q) ** 2) for q in q_tot(c.on)]))

    goal, h = np.zeros((*c.n.mask.shape, N, width)), policies(c.on, c.b.now.obs, "policy")
    distillation = np.zeros(goal.shape[:3])
    for k, t in c.rows:
        x = ndtri(u["policy"][k, t])
        for m in range(3):
            x = x + velocity(c.on, k, t, x, np.full((N, 1), m / 3)) / 3
        goal[k, t] = x
        for i in range(N):
            ok = c.n.avail[k, t, i]
            if c.discrete:
                distillation[k, t, i] = -np.log(c.probabilities(h[k, t, i], ok)[np.where(ok, x[i], -np.inf).argmax()])
            else:
                distillation[k, t, i] = ((h[k, t, i] - np.clip(x[i], -1, 1)) ** 2).mean()
    q = q_of(c.on, c.b.now.obs, h, c.n.avail[:, :-1]).mean(-1)
    loss = 1.5 * c.mean(distillation) - c.mean(q) / c.mean(abs(q))
    z = torch.special.ndtri(c.d.u["policy"])
    ours = c.a.flow(c.on, c.b, z)
    for row in c.rows:
        c.same(ours[row], goal[row])
    c.stepped("pi", loss, (c.a.policy_loss, c.b, z, ours, c.on))
