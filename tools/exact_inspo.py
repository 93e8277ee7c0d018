"""InSPO solved exactly, in tables: what `algorithms/inspo.py` approximates. Equations are numbered as there.

A game has S states and N agents with A_1 .. A_N actions; mu is any joint distribution per state; policies are a list of N arrays
[S, A_i]. A one-step game is the case S = 1, g = 0. Everything is float64 and deterministic: orders and schedules are arguments.

Where the data hold nothing, mu(a|s) = 0, and the true logarithm is minus infinity. Here it is NEVER, a finite number so large that
 1. for alpha > 0 an action with mu^i(a^i|s) = 0 gets probability exactly 0, and so does one that clashes with the teammates (K^i is
    of the size of NEVER) while another does not: the step is in-sample, payoffs where mu = 0 do not matter;
 2. where every action makes the team leave the data, those that leave it least often are taken: the limit of mu + epsilon;
 3. J is of the size of NEVER times the probability that pi leaves the data, which steps bring down to about 1 / |NEVER| or 0.
K^i of an action with mu^i = 0 is not defined, and not needed. alpha = 0 asks nothing of the data: 0^0 = 1 in (5).
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from scipy.special import log_softmax

NEVER = -1e9  # log 0; alpha * NEVER must dwarf all payoffs

Policies = Sequence[np.ndarray]


class Game(NamedTuple):
    """A cooperative Markov game with its behaviour policy."""

    reward: np.ndarray  # [S, A_1 .. A_N]
    next: np.ndarray  # [S, A_1 .. A_N, S] probabilities of the next state
    mu: np.ndarray  # [S, A_1 .. A_N] joint behaviour policy
    gamma: float  # discount, in [0, 1)
    start: np.ndarray  # [S] distribution of the first state


def one_step(payoff: np.ndarray, mu: np.ndarray) -> Game:
    """The game that is over after one joint action: payoff and mu [A_1 .. A_N]."""
    payoff, mu = np.asarray(payoff, np.float64), np.asarray(mu, np.float64)
    return Game(payoff[None], np.ones((1, *payoff.shape, 1)), mu[None], 0.0, np.ones(1))


def log(p: np.ndarray) -> np.ndarray:
    return np.log(p, out=np.full_like(p, NEVER), where=p > 0)


def spread(x: Policies) -> list[np.ndarray]:
    """N arrays [S, A_i] -> [S, 1 .. A_i .. 1], which broadcast against [S, A_1 .. A_N]."""
    return [np.expand_dims(y, [1 + j for j in range(len(x)) if j != i]) for i, y in enumerate(x)]


def joint(pi: Policies) -> np.ndarray:
    """prod_i pi^i(a^i|s), [S, A_1 .. A_N]."""
    return reduce(np.multiply, spread(pi))


def marginal(p: np.ndarray, i: int) -> np.ndarray:
    """Agent i's marginal [S, A_i] of p [S, A_1 .. A_N]."""
    return p.sum(tuple(j for j in range(1, p.ndim) if j != i + 1))


def marginals(p: np.ndarray) -> list[np.ndarray]:
    """The marginals of all agents, N arrays [S, A_i]: the product policies nearest to p in forward KL, a clone of the data."""
    return [marginal(p, i) for i in range(p.ndim - 1)]


def teammates(x: np.ndarray, pi: Policies, i: int) -> np.ndarray:
    """E_{a^{-i} ~ pi^{-i}} x(s, a), [S, A_i], of x [S, A_1 .. A_N]."""
    others = [np.ones_like(p) if j == i else p for j, p in enumerate(pi)]
    return marginal(joint(others) * x, i)


def evaluate(game: Game, pi: Policies, alpha: float, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """V [S] and Q [S, A_1 .. A_N] of (2), by solving the linear system."""
    p, log_pi = joint(pi), sum(spread([log(x) for x in pi]))
    earned = game.reward - alpha * (log_pi - log(game.mu)) - beta * log_pi
    move = (p[..., None] * game.next).reshape(len(p), -1, len(p)).sum(1)
    v = np.linalg.solve(np.eye(len(p)) - game.gamma * move, (p * earned).reshape(len(p), -1).sum(1))
    return v, game.reward + game.gamma * game.next @ v


def objective(game: Game, pi: Policies, alpha: float, beta: float) -> float:
    """J of (1); with alpha = beta = 0 the expected discounted reward."""
    return float(game.start @ evaluate(game, pi, alpha, beta)[0])


def local_q(game: Game, pi: Policies, i: int, alpha: float, beta: float) -> np.ndarray:
    """Q^i of (4), [S, A_i]."""
    return teammates(evaluate(game, pi, alpha, beta)[1], pi, i)


def local_k(game: Game, pi: Policies, i: int) -> np.ndarray:
    """K^i of (3), [S, A_i]: KL( pi^{-i} || mu(.|s, a^i) )."""
    log_pi = sum(x for j, x in enumerate(spread([log(p) for p in pi])) if j != i)
    log_mu = log(game.mu) - spread([log(m) for m in marginals(game.mu)])[i]
    return teammates(log_pi - log_mu, pi, i)


def best(game: Game, pi: Policies, i: int, alpha: float, beta: float, clash: bool = True) -> np.ndarray:
    """pi^i* of (5), [S, A_i], given the teammates in pi. `clash = False` leaves K^i out (an ablation, not the method).

    Needs alpha + beta > 0. J never decreases when pi^i* replaces pi^i, in any state's value: Q is that of the present pi.
    """
    prefer = local_q(game, pi, i, alpha, beta) + alpha * log(marginal(game.mu, i))
    if clash:
        prefer = prefer - alpha * local_k(game, pi, i)
    return np.exp(log_softmax(prefer / (alpha + beta), axis=-1))


def iterate(
    game: Game, pi: Policies, order: Sequence[int], alpha: float, beta: float, sequential: bool = True, clash: bool = True
) -> list[np.ndarray]:
    """One iteration: (5) for every agent in `order`, against the newest teammates and a Q that knows them.

    `sequential = False`: all against the old policies, which may lower J.
    """
    new = list(pi)
    for i in order:
        new[i] = best(game, new if sequential else pi, i, alpha, beta, clash)
    return new


def solve(
    game: Game,
    pi: Policies,
    orders: Sequence[Sequence[int]],
    alpha: float | np.ndarray,
    beta: float | np.ndarray,
    sequential: bool = True,
    clash: bool = True,
) -> list[list[np.ndarray]]:
    """The T + 1 iterates from pi on, for T orders of the agents; alpha and beta are constants or schedules [T]."""
    path = [list(pi)]
    for order, a, b in zip(orders, np.broadcast_to(alpha, len(orders)), np.broadcast_to(beta, len(orders)), strict=True):
        path.append(iterate(game, path[-1], order, a, b, sequential, clash))
    return path


def anneal(first: float, last: float, steps: int, share: float = 1.0) -> np.ndarray:
    """A schedule [steps]: linear from `first` to `last` over the given share of the steps, then constant."""
    return first + (last - first) * np.minimum(np.arange(steps) / max(share * (steps - 1), 1), 1)


def residual(game: Game, pi: Policies, alpha: float, beta: float) -> float:
    """max |pi^i - pi^i*| over agents, states and actions: 0 exactly where pi is a quantal response equilibrium."""
    return max(float(np.abs(best(game, pi, i, alpha, beta) - p).max()) for i, p in enumerate(pi))
