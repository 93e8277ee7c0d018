"""What InSPO claims, on games small enough to be solved; then the deep method's pieces against the tables they stand for."""

import itertools
from functools import partial
from math import exp, log

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import log_softmax
from torch.utils._pytree import tree_map

from inspo_benchmark.algorithms.inspo import InSPO
from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Batch, Draw, Spec
from inspo_benchmark.envs.matrix import XOR, mne
from inspo_benchmark.learning.algorithm import resampling_counts
from inspo_benchmark.tools import exact_inspo

ATOL = 1e-10
refreshes = pytest.mark.parametrize("refresh", ["sweep", "turn"])


def simplex(rng, *shape):
    """Random distributions over the last axis, also lopsided ones."""
    return rng.dirichlet(np.full(shape[-1], 0.7), shape[:-1])


def game(rng, agents, states=1, gamma=0.0, partial=False):
    """A random game, and policies to start from. With `partial`, mu is 0 on about half of the joint actions outside of a box of
    actions that the policies start on."""
    sizes = rng.integers(2, 4, agents)
    mu = simplex(rng, states, sizes.prod()).reshape(states, *sizes) + 1e-3
    pi = [simplex(rng, states, n) for n in sizes]
    if partial:
        box = [rng.integers(1, n, states) for n in sizes]  # the first 1 .. n-1 actions
        pi = [np.arange(n) < b[:, None] for n, b in zip(sizes, box)]
        pi = [p / p.sum(1, keepdims=True) for p in pi]
        mu *= (rng.random(mu.shape) < 0.5) | (exact_inspo.joint(pi) > 0)
    mu /= mu.sum(tuple(range(1, agents + 1)), keepdims=True)
    reward = rng.normal(0, 2, mu.shape)
    move = simplex(rng, *mu.shape, states)
    return exact_inspo.MarkovGame(reward, move, mu, gamma, np.full(states, 1 / states)), pi


def temperatures(rng, partial):
    """alpha and beta of any size; sometimes one of them is 0, alpha only where mu is nowhere 0."""
    alpha, beta = 10 ** rng.uniform(-1.5, 1, 2)
    return [(alpha, beta), (alpha, 0.0), (alpha if partial else 0.0, beta)][rng.integers(3)]


def residual(game, pi, alpha, beta):
    """max |pi^i - pi^i*| over agents, states and actions. It is 0 if and only if pi is a quantal response equilibrium."""
    return max(float(np.abs(exact_inspo.best_response(game, pi, i, alpha, beta) - p).max()) for i, p in enumerate(pi))


def enumerate_joint(sizes):
    return itertools.product(*(range(n) for n in sizes))


# --- the tabular method


@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(("states", "gamma"), [(1, 0.0), (3, 0.9)])
@pytest.mark.parametrize("agents", [1, 2, 3, 4])
def test_no_step_of_an_agent_lowers_the_objective_in_any_state(agents, states, gamma, partial):
    rng = np.random.default_rng([agents, states, partial])
    gained = 0
    for _ in range(10):
        g, pi = game(rng, agents, states, gamma, partial)
        alpha, beta = temperatures(rng, partial)
        v = first = exact_inspo.evaluate(g, pi, alpha, beta)[0]
        for i in np.concatenate([rng.permutation(agents) for _ in range(4)]):
            pi[i] = exact_inspo.best_response(g, pi, i, alpha, beta)
            old, v = v, exact_inspo.evaluate(g, pi, alpha, beta)[0]
            assert (v >= old - ATOL * (1 + abs(old))).all()
            np.testing.assert_allclose(pi[i].sum(1), 1)
            assert exact_inspo.joint(pi)[g.mu == 0].sum() < 1e-8
            assert not pi[i][exact_inspo.marginal(g.mu, i) == 0].any()
        assert exact_inspo.objective(g, pi, alpha, beta) == pytest.approx(g.start @ v)
        gained += (v > first + 1e-3).all()
    assert gained >= 3  # the steps are not all idle


@refreshes
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize(("states", "gamma"), [(1, 0.0), (4, 0.9)])
@pytest.mark.parametrize("agents", [2, 3, 4])
def test_no_iteration_lowers_the_value_of_any_state(agents, states, gamma, partial, refresh):
    rng = np.random.default_rng([13, agents, states, partial])
    gained = 0
    for _ in range(10):
        g, pi = game(rng, agents, states, gamma, partial)
        alpha, beta = temperatures(rng, partial)
        v = first = exact_inspo.evaluate(g, pi, alpha, beta)[0]
        for _ in range(8):
            pi = exact_inspo.iterate(g, pi, rng.permutation(agents), alpha, beta, refresh)
            old, v = v, exact_inspo.evaluate(g, pi, alpha, beta)[0]
            assert (v >= old - ATOL * (1 + abs(old))).all()
        gained += (v > first + 1e-3).all()
    assert gained >= 3  # the iterations are not all idle


@refreshes
def test_both_ways_to_refresh_q_converge_to_an_equilibrium(refresh):
    rng = np.random.default_rng(17)
    for agents in (2, 3):
        for _ in range(3):
            g, pi = game(rng, agents, 4, 0.9)
            pi = exact_inspo.solve(g, pi, [rng.permutation(agents) for _ in range(150)], 0.3, 0.2, refresh)[-1]
            assert residual(g, pi, 0.3, 0.2) < 1e-6


def test_in_a_game_of_one_step_both_ways_to_refresh_q_are_one():
    rng = np.random.default_rng(19)
    g, pi = game(rng, 3)
    for p, q in zip(*(exact_inspo.solve(g, pi, [(2, 0, 1)] * 5, 0.3, 0.2, refresh)[-1] for refresh in ("sweep", "turn"))):
        np.testing.assert_array_equal(p, q)


@refreshes
@pytest.mark.parametrize("partial", [False, True])
@pytest.mark.parametrize("agents", [2, 3, 4])
def test_fixed_points_are_quantal_response_equilibria(agents, partial, refresh):
    rng = np.random.default_rng([7, agents, partial])
    for _ in range(4):
        g, pi = game(rng, agents, partial=partial)
        alpha, beta = rng.uniform(0.3, 1.5, 2)
        pi = exact_inspo.solve(g, pi, [rng.permutation(agents) for _ in range(100)], alpha, beta, refresh)[-1]
        assert residual(g, pi, alpha, beta) < 1e-8
        mu, p = g.mu[0], [x[0] for x in pi]
        for i in range(agents):  # (5) with (3) and (4), joint action by joint action
            prior = [mu.take(a, i).sum() for a in range(mu.shape[i])]
            score = [0.0] * mu.shape[i]
            for a in enumerate_joint(mu.shape):
                others = np.prod([p[j][a[j]] for j in range(agents) if j != i])
                if others > 0 and prior[a[i]] > 0:
                    inside = mu[a] > 0
                    clash = log(others * prior[a[i]] / mu[a]) if inside else np.inf
                    score[a[i]] += others * (g.reward[0][a] - alpha * clash)
            response = [m ** (alpha / (alpha + beta)) * exp(x / (alpha + beta)) if m > 0 else 0.0 for m, x in zip(prior, score)]
            np.testing.assert_allclose(p[i], np.array(response) / sum(response), atol=1e-8)


def test_a_step_is_the_maximiser():
    rng = np.random.default_rng(3)
    for agents, states, gamma in [(2, 1, 0.0), (3, 1, 0.0), (2, 2, 0.8)] * 2:
        g, pi = game(rng, agents, states, gamma)
        alpha, beta = rng.uniform(0.2, 1, 2)
        q, shape = exact_inspo.evaluate(g, pi, alpha, beta)[1], pi[0].shape

        def loss(logits, g=g, pi=pi, alpha=alpha, beta=beta, q=q, shape=shape):  # -E_pi[Q - alpha log(pi/mu) - beta log pi]
            x = np.exp(logits.reshape(shape))
            p = exact_inspo.joint([x / x.sum(1, keepdims=True), *pi[1:]])
            return -(p * (q - alpha * np.log(p / g.mu) - beta * np.log(p))).sum()

        found = minimize(loss, np.zeros(shape).ravel(), tol=1e-12)
        x = np.exp(found.x.reshape(shape))
        step = exact_inspo.best_response(g, pi, 0, alpha, beta)
        np.testing.assert_allclose(step, x / x.sum(1, keepdims=True), atol=1e-5)
        assert loss(np.log(step).ravel()) <= found.fun + 1e-12


@pytest.mark.parametrize("agents", [1, 2, 3, 4])
def test_the_chain_rule_of_the_kl(agents):
    rng = np.random.default_rng(agents)
    g, pi = game(rng, agents, 2)
    for i, s in itertools.product(range(agents), range(2)):
        whole = 0.0
        for a in enumerate_joint(g.mu.shape[1:]):
            p = np.prod([pi[j][s][a[j]] for j in range(agents)])
            whole += p * log(p / g.mu[s][a])
        own = sum(x * log(x / m) for x, m in zip(pi[i][s], exact_inspo.marginal(g.mu, i)[s]))
        assert own + pi[i][s] @ exact_inspo.local_k(g, pi, i)[s] == pytest.approx(whole, abs=ATOL)


def test_one_agent_is_behaviour_regularised_policy_iteration():
    rng = np.random.default_rng(11)
    g, (pi,) = game(rng, 1, states=4, gamma=0.9)
    alpha, beta, states, actions = 0.7, 0.4, *g.mu.shape
    path = exact_inspo.solve(g, [pi], [[0]] * 50, alpha, beta)
    for (table,) in path[1:6]:
        v = [0.0] * states
        for _ in range(400):  # 0.9^400 = 5e-19
            q = [[g.reward[s, a] + 0.9 * sum(g.next[s, a, t] * v[t] for t in range(states)) for a in range(actions)] for s in range(states)]
            v = [
                sum(
                    pi[s][a] * (q[s][a] - alpha * log(pi[s][a] / g.mu[s, a]) - beta * log(pi[s][a])) for a in range(actions) if pi[s][a] > 0
                )
                for s in range(states)
            ]
        pi = np.array(
            [[g.mu[s, a] ** (alpha / (alpha + beta)) * exp(q[s][a] / (alpha + beta)) for a in range(actions)] for s in range(states)]
        )
        pi /= pi.sum(1, keepdims=True)
        np.testing.assert_allclose(table, pi, atol=ATOL)
    v = exact_inspo.evaluate(g, path[-1], alpha, beta)[0]  # optimal: V = (alpha+beta) log sum mu^{alpha/(alpha+beta)} exp(Q/(alpha+beta))
    total = (g.mu ** (alpha / (alpha + beta)) * np.exp((g.reward + 0.9 * g.next @ v) / (alpha + beta))).sum(1)
    np.testing.assert_allclose(v, (alpha + beta) * np.log(total), atol=1e-8)


@pytest.mark.parametrize("agents", [1, 2, 3])
def test_a_large_alpha_gives_the_behaviour_policy_where_it_factorises(agents):
    rng = np.random.default_rng(agents)
    g, pi = game(rng, agents, 2, 0.5)
    g = g._replace(mu=exact_inspo.joint(exact_inspo.marginals(g.mu)))
    for p, m in zip(exact_inspo.solve(g, pi, [range(agents)] * 20, 1e8, 1.0)[-1], exact_inspo.marginals(g.mu)):
        np.testing.assert_allclose(p, m, atol=1e-6)
    now = g._replace(gamma=0.0)  # K^i does not depend on a^i: without a future one iteration is enough, from anywhere
    for p, m in zip(exact_inspo.iterate(now, pi, range(agents), 1e8, 1.0), exact_inspo.marginals(g.mu)):
        np.testing.assert_allclose(p, m, atol=1e-6)


def test_a_large_alpha_gives_the_nearest_product_policies_otherwise():
    rng = np.random.default_rng(5)
    g, start = game(rng, 2)
    end = exact_inspo.solve(g, start, [(0, 1)] * 400, 1e8, 0.0)[-1]

    def divergence(logits):
        x = np.exp(logits)
        pi = [p / p.sum() for p in np.split(x, [start[0].shape[1]])]
        p = np.multiply.outer(*pi)
        return (p * np.log(p / g.mu[0])).sum()

    at = np.log(np.concatenate([p[0] for p in end]))
    before = divergence(np.log(np.concatenate([p[0] for p in start])))
    best = minimize(divergence, at, tol=1e-12)
    assert divergence(at) == pytest.approx(best.fun, abs=1e-9)  # a minimum of KL(pi || mu) over product policies ...
    assert 1e-3 < divergence(at) < before - 1e-3  # ... which mu is not
    assert max(abs(p - m).max() for p, m in zip(end, exact_inspo.marginals(g.mu))) > 0.05  # nor are its marginals the nearest


def test_updating_all_at_once_can_lower_the_objective():
    g = exact_inspo.one_step([[1, 0], [0, 1]], np.full((2, 2), 0.25))  # reward for agreeing
    pi = [np.array([[0.9, 0.1]]), np.array([[0.1, 0.9]])]  # each is to answer the other, and they swap
    turns = [exact_inspo.objective(g, p, 0.1, 0.1) for p in exact_inspo.solve(g, pi, [(0, 1)] * 2, 0.1, 0.1)]
    at_once = [exact_inspo.objective(g, p, 0.1, 0.1) for p in exact_inspo.solve(g, pi, [(0, 1)] * 2, 0.1, 0.1, sequential=False)]
    np.testing.assert_allclose(turns, [0.171404, 0.863010, 0.864153], atol=1e-6)
    np.testing.assert_allclose(at_once, [0.171404, -0.067266, -0.104115], atol=1e-6)


@pytest.mark.parametrize("seed", range(10))
def test_agents_that_move_at_once_circle_in_xor(seed):
    """The smallest game for it: two agents with equal policies, data of all four joint actions. Each answers what the other leaves."""
    rng = np.random.default_rng(seed)
    g, p = exact_inspo.one_step(XOR, np.full((2, 2), 0.25)), rng.uniform(0.3, 0.7)
    orders = [rng.permutation(2) for _ in range(40)]

    def returns(sequential):
        path = exact_inspo.solve(g, [np.array([[p, 1 - p]])] * 2, orders, 0.1, 0.0, sequential=sequential)
        return [exact_inspo.objective(g, pi, 0, 0) for pi in path[-10:]]

    assert min(returns(True)) > 0.999
    np.testing.assert_allclose(sorted(returns(False)), [-2] * 5 + [0] * 5, atol=1e-3)  # AA, BB, AA, ...


@pytest.mark.parametrize("step", [0.5, 0.2, 0.05])
def test_agents_that_move_at_once_by_small_steps_stay_equal_in_xor(step):
    """Policies move by a share of the way to (5) in the logarithm. Small steps do not help agents that begin with equal policies."""
    g, logits = exact_inspo.one_step(XOR, np.full((2, 2), 0.25)), np.log([[0.6, 0.4]])

    def end(sequential):
        pi = [np.exp(logits)] * 2
        for _ in range(int(20 / step)):
            old = list(pi)
            for i in range(2):
                best = exact_inspo.best_response(g, pi if sequential else old, i, 0.1, 0.0)
                pi[i] = np.exp(log_softmax((1 - step) * np.log(old[i]) + step * np.log(best), axis=-1))
        return pi, exact_inspo.objective(g, pi, 0, 0)

    assert end(True)[1] > 0.999
    pi, earned = end(False)
    np.testing.assert_array_equal(*pi)  # forever
    assert earned <= 0.25  # the most that equal policies earn: 2 p - 4 p^2 at p = 1/4


def test_a_value_of_old_teammates_protects_the_iteration_but_not_each_step():
    """With Q evaluated once per iteration J does not fall over all N steps, but it can at one of them."""
    steps, rounds = [], []
    for seed in range(200):
        g, pi = game(np.random.default_rng(seed), 2, 2, 0.9)
        stale = g._replace(reward=exact_inspo.evaluate(g, pi, 0.1, 0.1)[1], gamma=0.0)
        j = [exact_inspo.objective(g, p, 0.1, 0.1) for p in (pi, [exact_inspo.best_response(stale, pi, 0, 0.1, 0.1), pi[1]])]
        j.append(exact_inspo.objective(g, exact_inspo.iterate(stale, pi, (0, 1), 0.1, 0.1), 0.1, 0.1))
        steps.append(j[2] - j[1])
        rounds.append(j[2] - j[0])
    assert min(steps) < -0.1
    assert min(rounds) > -ATOL


def test_payoffs_that_the_data_do_not_show_do_not_matter():
    rng = np.random.default_rng(2)
    for agents in (2, 3):
        g, pi = game(rng, agents, 2, 0.9, partial=True)
        assert (g.mu == 0).any()
        lied = g._replace(reward=np.where(g.mu > 0, g.reward, 1e4))
        orders = [rng.permutation(agents) for _ in range(10)]
        for p, q in zip(exact_inspo.solve(g, pi, orders, 0.3, 0.2)[-1], exact_inspo.solve(lied, pi, orders, 0.3, 0.2)[-1]):
            np.testing.assert_allclose(p, q, atol=1e-12)


def test_unseen_payoffs_break_ties_of_policies_outside_the_data():
    """The clones of XOR's two optima leave the data half of the time, whatever agent 1 does: a payoff that no data show decides."""
    mu = np.array([[0, 0.5], [0.5, 0]])
    ends = []
    for unseen in -5.0, 0.0, 1e4:  # the payoff where both choose the first action
        g = exact_inspo.one_step([[unseen, 1], [1, -2]], mu)
        pi = exact_inspo.solve(g, exact_inspo.marginals(g.mu), [(1, 0)], 0.1, 0.0)[-1]
        ends.append(exact_inspo.joint(pi)[0].argmax())
    assert ends == [1, 2, 2]  # the optima AB and BA


def test_policies_that_start_outside_the_data_return_to_them():
    rng = np.random.default_rng(4)
    games = [game(rng, agents, partial=True)[0] for agents in (2, 3) for _ in range(15)]
    games = [g for g in games if (g.mu == 0).any()]
    assert len(games) > 20
    for g in games:
        pi = [simplex(rng, *p.shape) for p in exact_inspo.marginals(g.mu)]
        outside = [exact_inspo.joint(pi)[g.mu == 0].sum()]
        for i in list(range(len(pi))) * 3:
            pi[i] = exact_inspo.best_response(g, pi, i, 0.5, 0.5)
            outside.append(exact_inspo.joint(pi)[g.mu == 0].sum())
        assert outside[0] > 1e-3
        assert outside[-1] < 1e-8
        assert (np.diff(outside) < 1e-8).all()


def imbalanced(agents):
    payoff = mne(agents)
    mu = np.full(payoff.shape, 0.08 / (payoff.size - 1))
    mu[(1,) * agents] = 0.92
    return exact_inspo.one_step(payoff, mu)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("agents", "mixture"), [(2, 0.82), (3, 0.39)])
def test_entropy_leaves_a_poor_equilibrium_and_annealing_ends_at_the_best(agents, mixture, seed):
    g, rng, steps = imbalanced(agents), np.random.default_rng(seed), 60
    orders = [rng.permutation(agents) for _ in range(steps)]

    def end(beta):
        return exact_inspo.solve(g, exact_inspo.marginals(g.mu), orders, 0.1, beta)[-1]

    for beta in (0.0, 2.0):
        assert all(p[0, 1] > 0.97 for p in end(beta))
    assert exact_inspo.objective(g, end(0.0), 0, 0) == pytest.approx(4, abs=1e-6)
    for p in end(5.0):
        assert p[0].argmax() == 0
        assert p[0, 0] == pytest.approx(mixture, abs=0.01)
    annealed = end(exact_inspo.linear_schedule(5, 0, steps, 0.5))
    assert all(p[0, 0] > 1 - 1e-9 for p in annealed)
    assert exact_inspo.objective(g, annealed, 0, 0) == pytest.approx(10, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_the_teammates_divergence_breaks_the_tie_of_xor(seed):
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(2) for _ in range(20)]
    lean = rng.choice([-1, 1]) * 1e-3
    start = [np.array([[0.5 + lean, 0.5 - lean]]), np.array([[0.5, 0.5]])]
    orders[0] = [1, 0]  # the agent that leans is seen before it moves
    known = np.ones((2, 2))  # every payoff in the data of {AB, BA} is 1: local values are flat
    data = exact_inspo.one_step(known, np.array([[0.005, 0.495], [0.495, 0.005]]))  # and a model of them that is nearly right
    true = data._replace(reward=XOR[None])

    def end(with_k):
        return exact_inspo.solve(data, start, orders, 0.1, 0.0, with_k=with_k)[-1]

    for p in end(with_k=False):
        np.testing.assert_allclose(p, 0.5, atol=1e-12)
    assert exact_inspo.objective(true, end(with_k=False), 0, 0) == pytest.approx(0, abs=1e-12)
    settled = [p[0, 0] for p in end(with_k=True)]
    assert exact_inspo.objective(true, end(with_k=True), 0, 0) > 0.95
    assert (settled[0] > 0.97) == (lean > 0)
    assert (settled[1] < 0.03) == (lean > 0)
    exactly = exact_inspo.one_step(known, np.array([[0, 0.5], [0.5, 0]]))  # with mu = 0 off the data one iteration is enough
    assert exact_inspo.objective(true, exact_inspo.iterate(exactly, start, (1, 0), 0.1, 0.0), 0, 0) == 1


def test_schedules_end_where_they_say():
    np.testing.assert_allclose(exact_inspo.linear_schedule(4, 0, 9, 0.5), [4, 3, 2, 1, 0, 0, 0, 0, 0])
    np.testing.assert_allclose(exact_inspo.linear_schedule(1, 3, 3), [1, 2, 3])


# --- the deep method against the tables


@pytest.fixture
def float64():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


A, B, L = 3, 4, 2
ALPHA, BETA, GAMMA = 0.6, 0.3, 0.9


class Deep:
    """An InSPO with random networks, a random batch, and the same in tables: one game state per row of the batch, R = B (L + 1).

    Expectations over joint actions are sums, so that deep and tabular terms are equal to rounding.
    """

    def __init__(self, agents, num_samples=0, **config):
        rng = np.random.default_rng(agents)
        cfg = dict(hidden_dim=8, batch_size=B, seq_len=L, weight_max=3.0, rho_max=2.0, gamma=GAMMA, alpha=ALPHA, beta=BETA)
        self.algo = InSPO(InSPO.Config(**cfg | dict(num_samples=num_samples) | config), Spec(agents, 2, 3, Discrete(A), L))
        state = tree_map(lambda x: x[0], self.algo.init([0]))
        noisy = {k: 3 * v for k, v in state.params.items() if k != "scale"}  # heads far from uniform
        self.state = state._replace(params={**state.params, **noisy}, target={**state.target, **{k: 0.7 * v for k, v in noisy.items()}})
        avail = rng.random((B, L + 1, agents, A)) < 0.7
        avail |= np.arange(A) == rng.integers(A, size=(B, L + 1, agents, 1))
        act = (avail * rng.random(avail.shape)).argmax(-1)
        look, see = rng.normal(size=(B, L + 1, agents, 2)), rng.normal(size=(B, L + 1, 3))
        mask = (rng.random((B, L)) < 0.8).astype(float)
        done = (rng.random((B, L)) < 0.3).astype(float)
        self.b = Batch(*map(torch.as_tensor, (look, see, avail, act, rng.normal(size=(B, L)), done, mask)))
        self.rows, self.n, self.alpha, self.beta = np.arange(B * (L + 1)), agents, ALPHA, BETA
        self.act = act.reshape(-1, agents)
        self.avail = avail.reshape(-1, agents, A)
        self.u = {name: torch.as_tensor(rng.random(shape)) for name, shape in self.algo.noise().items()}

    def nets(self, params=None):
        return self.algo.online(self.state._replace(params=params or self.state.params))

    def h(self, params=None):
        return self.nets(params).pi(self.b.obs)

    def pi(self, params=None):
        """N arrays [R, A]."""
        p = self.algo.space.logp(self.h(params), self.b.avail).exp().numpy().reshape(-1, self.n, A)
        return [p[:, j] for j in range(self.n)]

    def mu(self, i):
        """The joint that the chain of agent i and then the others in their order spells out, [R, A .. A], as a game."""
        joint = torch.cartesian_prod(*[torch.arange(A)] * self.n).view(-1, 1, 1, self.n).expand(-1, B, L + 1, -1)
        rank = torch.tensor([-1 if j == i else j for j in range(self.n)])
        h = self.algo.mu(self.nets(), self.b, joint, known=(rank < rank[:, None]).double())
        p = self.algo.space.log_prob(h, joint, self.b.avail).sum(-1).exp().numpy()
        mu = np.moveaxis(p.reshape(*[A] * self.n, -1), -1, 0)
        np.testing.assert_allclose(mu.reshape(len(mu), -1).sum(1), 1)
        return exact_inspo.MarkovGame(np.zeros_like(mu), np.zeros(0), mu, 0.0, np.zeros(0))

    def log_own(self, i):
        """log mu^i of all actions, [R, A]."""
        return exact_inspo.log(exact_inspo.marginal(self.mu(i).mu, i))

    def q(self, params, i):
        """The critic of agent i at all its actions, [R, A]."""
        every = torch.arange(A).expand(B, L + 1, self.n, A)
        seen = self.b.state[:, :, None].expand(-1, -1, self.n, -1)
        if self.algo.cfg.critic_sees_obs:
            seen = torch.cat([seen, self.b.obs], -1)
        return self.nets(params).q(seen, every)[:, :, i].numpy().reshape(-1, A)

    def divergence(self, pi):
        """KL(pi || mu), by enumeration of the joint actions, [R]."""
        mu, p = self.mu(0).mu, exact_inspo.joint(pi)
        ratio = np.log(p, out=np.zeros_like(p), where=p > 0) - np.log(mu, out=np.zeros_like(mu), where=p > 0)
        return (p * ratio).reshape(len(p), -1).sum(1)

    def value(self, q_params, i, pi):
        """V^i of (8), [R]."""
        p = exact_inspo.joint(pi)
        entropy = -(p * np.log(p, out=np.zeros_like(p), where=p > 0)).reshape(len(p), -1).sum(1)
        return (pi[i] * self.q(q_params, i)).sum(1) - self.alpha * self.divergence(pi) + self.beta * entropy

    def k(self, i, pi):
        """K^i of (3), [R, A]."""
        return np.where(self.avail[:, i], exact_inspo.local_k(self.mu(i), pi, i), 0)

    def weight(self, q_params, i, pi):
        """w of (6) at the data's actions, [R]."""
        each = self.q(q_params, i) - self.alpha * self.k(i, pi) - self.beta * self.log_own(i)
        return np.minimum(np.exp(self.advantage(each, i, pi) / (self.alpha + self.beta)), 3.0)

    def advantage(self, each, i, pi):
        """Of the data's actions [R], from a value of each action of agent i [R, A]."""
        each = np.where(self.avail[:, i], each, 0)
        return each[self.rows, self.act[:, i]] - (pi[i] * each).sum(1)

    def rho(self, i, pi):
        """rho^i of (7) at the data's actions, [R]."""
        team = np.prod([pi[j][self.rows, self.act[:, j]] for j in range(self.n) if j != i], 0)
        behavior = self.mu(0).mu[(self.rows, *self.act.T)] / np.exp(self.log_own(i))[self.rows, self.act[:, i]]
        return np.minimum(team / behavior, 2.0)

    def target(self, q_params, i, pi):
        """What the critics of agent i regress to, [B, L]."""
        v = self.steps(self.value(q_params, i, pi), slice(1, None))
        return self.b.rewards.numpy() + GAMMA * (1 - self.b.terminated.numpy()) * v

    def mean(self, x):
        """Of x [B, L], over the steps with data."""
        return (self.b.mask.numpy() * x).sum() / self.b.mask.numpy().sum()

    def steps(self, x, side=slice(None, -1)):
        """[R] -> [B, L]: the first L rows of each window, or another side of them."""
        return x.reshape(B, L + 1)[:, side]


def gains(d):
    """Q^i - beta log mu^i at the data's actions, less their means over pi^i."""
    nets, x = d.nets(), d.b.now
    q, log_mu = (d.algo.advantages(partial(of, nets, x), d.b, d.h(), d.u) for of in (d.algo.q, d.algo.log_mu))
    return q - BETA * log_mu


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(("agents", "critic_sees_obs"), [(1, False), (2, False), (3, False), (3, True)])
def test_deep_terms_equal_the_tabular_ones(agents, critic_sees_obs):
    d = Deep(agents, critic_sees_obs=critic_sees_obs)
    nets, h, pi, everyone = d.nets(), d.h(), d.pi(), range(agents)
    v, logs = d.algo.values(nets, d.algo.targets(d.state), d.b, h, ALPHA, BETA, d.u)
    assert logs["kl"].item() == pytest.approx(d.mean(d.steps(d.divergence(pi), slice(1, None))), abs=ATOL)
    log_rho, gain = d.algo.ratios(nets, d.b, h), gains(d)
    spread = 0
    for i in everyone:
        np.testing.assert_allclose(v[..., i], d.steps(d.value(d.state.target, i, pi), slice(1, None)), atol=ATOL)
        np.testing.assert_allclose(log_rho[..., i].exp(), d.steps(d.rho(i, pi)), atol=ATOL)
        k = d.k(i, pi)
        clash = k[d.rows, d.act[:, i]] - (pi[i] * k).sum(1)
        np.testing.assert_allclose(d.algo.clash(nets, d.b.now, i, h[:, :-1], d.u["team"][:, :, :-1]), d.steps(clash), atol=ATOL)
        spread = max(spread, abs(clash).max())
        w = d.algo.weights(nets, d.b, i, h, gain, ALPHA, BETA, d.u).numpy()
        np.testing.assert_allclose(w, d.steps(d.weight(d.state.params, i, pi)), atol=ATOL)
        assert (w < 2.9).any()  # not all at the cap
    assert spread > 0.5 or agents == 1  # K^i tells actions apart


@pytest.mark.usefixtures("float64")
def test_an_excess_kl_costs_what_it_exceeds_that_of_the_clones():
    """The values are those of (8) plus alpha KL(pi_0 || mu) at each step; pi_0 are the policies at the end of the first stage."""
    d = Deep(3, excess_kl=True, num_updates=100, bc_share=0.5)
    cloned, _ = d.algo.clone(d.state, d.b, Draw(d.u, torch.tensor(0)))
    assert torch.equal(cloned.target["pi"], cloned.params["pi"])
    after, _ = d.algo.update(cloned._replace(step=torch.tensor(50)), d.b, Draw(d.u, torch.tensor(0)))
    assert torch.equal(after.target["pi"], cloned.target["pi"])
    assert not torch.equal(after.params["pi"], cloned.params["pi"])
    d.state = after
    pi, pi_0 = d.pi(), d.pi(after.target)
    kl, kl_0 = (d.steps(d.divergence(x), slice(1, None)) for x in (pi, pi_0))
    v, logs = d.algo.values(d.nets(), d.algo.targets(after), d.b, d.h(), ALPHA, BETA, d.u)
    assert logs["kl"].item() == pytest.approx(d.mean(kl), abs=ATOL)
    assert logs["kl_excess"].item() == pytest.approx(d.mean(kl - kl_0), abs=ATOL)
    assert kl_0.std() > 0.01
    for i in range(3):
        np.testing.assert_allclose(v[..., i], d.steps(d.value(after.target, i, pi), slice(1, None)) + ALPHA * kl_0, atol=ATOL)
    v, _ = d.algo.values(d.nets(), d.algo.targets(after), d.b, d.h(after.target), ALPHA, 0.0, d.u)  # without entropy, of the clones
    for i in range(3):
        np.testing.assert_allclose(v[..., i], d.steps((pi_0[i] * d.q(after.target, i)).sum(1), slice(1, None)), atol=ATOL)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("share_params", [False, True])
def test_every_turn_sees_the_newest_policies_of_all_agents(share_params, monkeypatch):
    d = Deep(3, share_params=share_params)
    seen, newest = [], [d.h()]
    weights, gradient_step = d.algo.weights, d.algo.gradient_step

    def watched_weights(f, b, i, h, *rest):
        seen.append(h)
        return weights(f, b, i, h, *rest)

    def watched_step(s, names, *rest, **kwargs):
        s, loss = gradient_step(s, names, *rest, **kwargs)
        if names == "pi":
            newest.append(d.h(s.params))
        return s, loss

    monkeypatch.setattr(d.algo, "weights", watched_weights)
    monkeypatch.setattr(d.algo, "gradient_step", watched_step)
    d.algo.update(d.state, d.b, Draw(d.u, torch.tensor(0)))
    assert len(seen) == 3
    for h, policies in zip(seen, newest):
        np.testing.assert_allclose(h, policies, atol=ATOL)
    assert all(abs(after - before).max() > 1e-4 for before, after in itertools.pairwise(newest))


@pytest.mark.usefixtures("float64")
def test_sampled_terms_are_the_exact_ones_on_average():
    """KL(pi || mu) and K^i from many joint samples against sums over all joint actions."""
    exact, sampled = Deep(3), Deep(3, num_samples=4000)
    h = exact.h()
    for term in (
        lambda d: d.algo.kl(d.nets(), d.b.now, h[:, :-1], d.u["team"][:, :, :-1]),
        lambda d: d.algo.clash(d.nets(), d.b.now, 1, h[:, :-1], d.u["team"][:, :, :-1]),
    ):
        np.testing.assert_allclose(term(sampled), term(exact), atol=0.1)
        assert term(exact).abs().max() > 0.5


@pytest.mark.usefixtures("float64")
def test_a_factored_behaviour_model_has_a_flat_k():
    d = Deep(3, behavior="factored")
    pi = d.pi()
    np.testing.assert_allclose(d.mu(1).mu, exact_inspo.joint(exact_inspo.marginals(d.mu(1).mu)), atol=ATOL)
    k = exact_inspo.local_k(d.mu(1), pi, 1)
    each = np.where(d.avail[:, 1], k, np.nan)
    np.testing.assert_allclose(np.nanmax(each, 1), np.nanmin(each, 1), atol=ATOL)
    w = d.algo.weights(d.nets(), d.b, 1, d.h(), gains(d), ALPHA, BETA, d.u)
    np.testing.assert_allclose(w, d.steps(d.weight(d.state.params, 1, pi)), atol=ATOL)


@pytest.mark.usefixtures("float64")
def test_resampling_draws_in_proportion_to_rho():
    rng = np.random.default_rng(0)
    log_rho, mask = torch.as_tensor(rng.normal(0, 1, (B, L))), torch.ones(B, L)
    mask[1, 1] = mask[3, 0] = 0
    draws = 1000
    counts = [resampling_counts(log_rho, mask, torch.tensor((k + 0.5) / draws)) for k in range(draws)]
    assert {c.sum().item() for c in counts} == {B * L}
    rho = log_rho.exp() * mask
    expected = B * L * rho / rho.sum()
    np.testing.assert_allclose(torch.stack(counts).mean(0), expected, atol=2 / draws)
    assert all((abs(c - expected) < 1).all() for c in counts)  # systematic: the rounded expectation


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("refresh", ["sweep", "turn"])
@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("first", [0, 1])
def test_a_sweep_puts_the_pieces_together(first, sequential, refresh):
    """The logged losses of an update, from the tables of the networks before and after it."""
    d = Deep(2, scale_by_td_error=True, beta=4 * BETA, beta_end=0.25, num_updates=100, bc_share=0.5, sequential=sequential, refresh=refresh)
    scale = torch.full_like(d.state.target["scale"], 4.0)  # sigma = 2
    before = d.state._replace(step=torch.tensor(100), target=d.state.target | {"scale": scale})  # at the end of the annealing
    d.u["turns"] = torch.tensor([first, 1 - first]) / 2.0
    after, logs = d.algo.update(before, d.b, Draw(d.u, torch.tensor(0)))
    assert after.slots["q"].t.unique().tolist() == [2 if refresh == "turn" else 1]
    assert after.slots["pi"].t.unique().tolist() == [1]
    old, new, mask = d.pi(), d.pi(after.params), d.b.mask.numpy()
    assert abs(new[first] - old[first]).max() > 1e-4
    now = [old]  # the policies at the turns
    now.append([new[i] if i == first and sequential else old[i] for i in range(2)])
    if refresh == "turn":  # the critics of the first turn are not to be seen from outside
        np.testing.assert_allclose(logs["kl"], (mask * d.steps(d.divergence(now[1]), slice(1, None))).sum() / mask.sum(), atol=ATOL)
        return
    np.testing.assert_allclose(logs["kl"], (mask * d.steps(d.divergence(old), slice(1, None))).sum() / mask.sum(), atol=ATOL)
    d.alpha, d.beta = 2 * ALPHA, 2 * BETA
    total = 0.0
    for i in range(2):
        rho = d.steps(d.rho(i, old)) * mask
        count = resampling_counts(torch.as_tensor(np.log(np.maximum(rho, 1e-300))), d.b.mask, d.u["resample"]).numpy()
        every = d.b.now.state[:, :, None].expand(-1, -1, 2, -1), d.b.now.actions[..., None]
        error = (d.nets().q(*every)[:, :, i, 0].numpy() - d.target(before.target, i, old)) ** 2
        total += (count * error).sum() / count.sum() / 2
    assert logs["loss_critic"].item() == pytest.approx(total, abs=ATOL)
    assert after.target["scale"].item() == 4  # alpha stays
    loss = 0.0
    for pi, i in zip(now, (first, 1 - first)):
        w = d.steps(d.weight(before.target, i, pi))
        loss -= (mask * w * d.steps(np.log(old[i][d.rows, d.act[:, i]]))).sum() / mask.sum() / 2
    assert logs["loss_policy"].item() == pytest.approx(loss, abs=ATOL)


@pytest.mark.usefixtures("float64")
def test_the_first_stage_clones_the_data():
    d = Deep(2, scale_by_td_error=True, num_updates=100, bc_share=0.5)
    before = d.state._replace(step=torch.tensor(49), target=d.state.target | {"scale": torch.full_like(d.state.target["scale"], 4.0)})
    after, logs = d.algo.clone(before, d.b, Draw(d.u, torch.tensor(0)))
    moved = {name for name in after.params if not torch.equal(after.params[name], d.state.params[name])}
    assert moved == {"mu", "pi", "q", "scale"}
    mask, pi = d.b.mask.numpy(), d.pi()
    log_pi = sum(d.steps(np.log(pi[i][d.rows, d.act[:, i]])) for i in range(2)) / 2
    assert logs["loss_policy"].item() == pytest.approx(-(mask * log_pi).sum() / mask.sum(), abs=ATOL)
    chains = [np.log(d.mu(i).mu[(d.rows, *d.act.T)]) for i in range(2)]  # an order per row
    first = (d.u["chain"][..., 0] > d.u["chain"][..., 1]).numpy()
    log_mu = np.where(first, *(d.steps(x) for x in chains[::-1])) / 2
    assert logs["loss_behavior"].item() == pytest.approx(-(mask * log_mu).sum() / mask.sum(), abs=ATOL)
    cloned, errors = d.pi(after.params), []  # the clones are to have the values that their critics regress to
    for i in range(2):
        v = d.steps((cloned[i] * d.q(d.state.target, i)).sum(1), slice(1, None))
        y = d.b.rewards.numpy() + GAMMA * (1 - d.b.terminated.numpy()) * v
        errors.append((mask * (d.steps(d.q(d.state.params, i)[d.rows, d.act[:, i]]) - y) ** 2).sum() / mask.sum())
    assert logs["loss_critic"].item() == pytest.approx(np.mean(errors), abs=ATOL)
    assert after.target["scale"].item() == pytest.approx(4 + (np.mean(errors) - 4) / 50, abs=ATOL)  # sigma^2, a mean over the updates
