"""Exact InSPO on tabular games: what `algorithms/inspo.py` approximates with networks. The equations have the numbers of that file.

A game has S states and N agents with A_1 .. A_N actions. mu is any joint distribution in every state; policies are a list of N arrays
[S, A_i]. A one-step game is the case S = 1, gamma = 0. Everything is float64 and deterministic: orders and schedules are arguments.

Where mu(a|s) = 0, the logarithm of mu is minus infinity. Here it is LOG_ZERO, a finite number so large that
 1. for alpha > 0 an action gets probability exactly 0 if mu^i(a^i|s) = 0, or if it makes the teammates' actions impossible under mu
    (K^i has the size of LOG_ZERO) and another action does not: the update is in-sample, and payoffs where mu = 0 do not matter to
    policies that start inside the data;
 2. if every action makes the team leave the data, those with the smallest probability of it are taken: the limit of mu + epsilon.
    Between actions of the same probability of it, payoffs where mu = 0 decide;
 3. J has the size of LOG_ZERO times the probability that pi leaves the data, which updates reduce to about 1 / |LOG_ZERO| or 0.
K^i is neither defined nor needed where mu^i = 0. alpha = 0 places no constraint on the actions: 0^0 = 1 in (5).
"""

from collections.abc import Sequence
from functools import reduce
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import log_softmax

LOG_ZERO = -1e9  # alpha * |LOG_ZERO| must be far larger than all payoffs

Policies = Sequence[np.ndarray]
Refresh = Literal["sweep", "turn"]


class MarkovGame(NamedTuple):
    """A cooperative Markov game and its behavior policy."""

    reward: np.ndarray  # [S, A_1 .. A_N]
    next: np.ndarray  # [S, A_1 .. A_N, S] transition probabilities
    mu: np.ndarray  # [S, A_1 .. A_N] joint behavior policy
    gamma: float  # discount, in [0, 1)
    start: np.ndarray  # [S] distribution of the initial state


def one_step(payoff: np.ndarray, mu: np.ndarray) -> MarkovGame:
    """The game that ends after one joint action; payoff and mu are [A_1 .. A_N]."""
    payoff, mu = np.asarray(payoff, np.float64), np.asarray(mu, np.float64)
    return MarkovGame(payoff[None], np.ones((1, *payoff.shape, 1)), mu[None], 0.0, np.ones(1))


def log(p: np.ndarray) -> np.ndarray:
    return np.log(p, out=np.full_like(p, LOG_ZERO), where=p > 0)


def broadcastable(x: Policies) -> list[np.ndarray]:
    """N arrays [S, A_i] -> N arrays [S, 1 .. A_i .. 1], which broadcast against [S, A_1 .. A_N]."""
    return [np.expand_dims(y, [1 + j for j in range(len(x)) if j != i]) for i, y in enumerate(x)]


def joint(pi: Policies) -> np.ndarray:
    """prod_i pi^i(a^i|s), [S, A_1 .. A_N]."""
    return reduce(np.multiply, broadcastable(pi))


def marginal(p: np.ndarray, i: int) -> np.ndarray:
    """Agent i's marginal [S, A_i] of p [S, A_1 .. A_N]."""
    return p.sum(tuple(j for j in range(1, p.ndim) if j != i + 1))


def marginals(p: np.ndarray) -> list[np.ndarray]:
    """The marginals of all agents, N arrays [S, A_i]: the factorized policies nearest to p in forward KL, a clone of the data."""
    return [marginal(p, i) for i in range(p.ndim - 1)]


def expectation_over_teammates(x: np.ndarray, pi: Policies, i: int) -> np.ndarray:
    """E_{a^{-i} ~ pi^{-i}} x(s, a), [S, A_i], of x [S, A_1 .. A_N]."""
    others = [np.ones_like(p) if j == i else p for j, p in enumerate(pi)]
    return marginal(joint(others) * x, i)


def evaluate(game: MarkovGame, pi: Policies, alpha: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """V [S] and Q [S, A_1 .. A_N] of (2), from the linear system for V."""
    p, log_pi = joint(pi), sum(broadcastable([log(x) for x in pi]))
    regularized = game.reward - alpha * (log_pi - log(game.mu)) - beta * log_pi
    transition = (p[..., None] * game.next).reshape(len(p), -1, len(p)).sum(1)
    v = np.linalg.solve(np.eye(len(p)) - game.gamma * transition, (p * regularized).reshape(len(p), -1).sum(1))
    return v, game.reward + game.gamma * game.next @ v


def objective(game: MarkovGame, pi: Policies, alpha: float, beta: float) -> float:
    """J of (1); for alpha = beta = 0, the expected return."""
    return float(game.start @ evaluate(game, pi, alpha, beta)[0])


def local_k(game: MarkovGame, pi: Policies, i: int) -> np.ndarray:
    """K^i of (3), [S, A_i]: KL( pi^{-i} || mu(.|s, a^i) )."""
    log_pi = sum(x for j, x in enumerate(broadcastable([log(p) for p in pi])) if j != i)
    log_mu = log(game.mu) - broadcastable([log(m) for m in marginals(game.mu)])[i]
    return expectation_over_teammates(log_pi - log_mu, pi, i)


def best_response(
    game: MarkovGame, pi: Policies, i: int, alpha: float, beta: float, q: np.ndarray | None = None, with_k: bool = True
) -> np.ndarray:
    """pi^i* of (5), [S, A_i], given the teammates' policies in pi. `with_k = False` omits K^i, as an ablation.

    alpha + beta must be positive. q [S, A_1 .. A_N] is the Q to respond to; without it, that of pi. Replacing pi^i by pi^i* raises
    E_pi[ q - alpha log(pi/mu) - beta log pi ] in every state, or leaves it as it is; with the Q of pi, so it does V.
    """
    q = evaluate(game, pi, alpha, beta)[1] if q is None else q
    logits = expectation_over_teammates(q, pi, i) + alpha * log(marginal(game.mu, i))  # (4)
    if with_k:
        logits = logits - alpha * local_k(game, pi, i)
    return np.exp(log_softmax(logits / (alpha + beta), axis=-1))


def iterate(
    game: MarkovGame,
    pi: Policies,
    order: Sequence[int],
    alpha: float,
    beta: float,
    refresh: Refresh = "sweep",
    sequential: bool = True,
    with_k: bool = True,
) -> list[np.ndarray]:
    """One iteration: (5) for every agent in `order`, against the newest policies of its teammates.

    `refresh = "sweep"`, as in the paper: Q is evaluated once, before any agent moves. V then falls in no state over the iteration.
    `refresh = "turn"`: Q is evaluated before each agent moves. V then falls in no state at any turn.
    With `sequential = False` all agents respond to the old policies, which may lower J.
    """
    new, q = list(pi), evaluate(game, pi, alpha, beta)[1]
    for i in order:
        own = None if refresh == "turn" and sequential else q
        new[i] = best_response(game, new if sequential else pi, i, alpha, beta, own, with_k)
    return new


def solve(
    game: MarkovGame,
    pi: Policies,
    orders: Sequence[Sequence[int]],
    alpha: float | np.ndarray,
    beta: float | np.ndarray,
    refresh: Refresh = "sweep",
    sequential: bool = True,
    with_k: bool = True,
) -> list[list[np.ndarray]]:
    """pi and the T iterates that follow, for T orders of the agents. alpha and beta are constants or schedules [T]."""
    path = [list(pi)]
    for order, a, b in zip(orders, np.broadcast_to(alpha, len(orders)), np.broadcast_to(beta, len(orders)), strict=True):
        path.append(iterate(game, path[-1], order, a, b, refresh, sequential, with_k))
    return path


def linear_schedule(first: float, last: float, steps: int, share: float = 1.0) -> np.ndarray:
    """A schedule [steps]: linear from `first` to `last` over a share of the steps, then constant."""
    return first + (last - first) * np.minimum(np.arange(steps) / max(share * (steps - 1), 1), 1)
