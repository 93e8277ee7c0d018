"""Behavior policies of SMAC, whose actions have the same bits on every machine.

A policy is a network that all agents share: [obs, one-hot agent id] -> ReLU -> ReLU -> logits. Everything from observation to action,
exponential and logarithm included, is IEEE additions, multiplications and divisions in a fixed order, for one agent at a time. So an
action is the same alone and in any batch, on any number of threads and on any processor.
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
from numba import njit

from inspo_benchmark.datasets.behavior.policy import Net, Policy, read
from inspo_benchmark.envs.smac.maps import Map

kernel = njit(cache=True, nogil=True, error_model="numpy")


def uniform(map: Map) -> Policy:
    """The policy that takes all available actions equally often: all weights are 0."""
    return Policy(map.name, Net(*(np.zeros(shape, np.float32) for shape in shapes(map, 1))), steps=0)


def shapes(map: Map, hidden_dim: int) -> Net:
    """Shapes of the weights. Rows of w1: features of the observation, then agent ids."""
    h = hidden_dim
    return Net((map.obs + map.n, h), (h,), (h, h), (h,), (h, map.actions), (map.actions,))


def load(path: Path, map: Map) -> Policy:
    """A policy for this map. UserError as of `policy.read`."""
    return read(path, map.name, partial(shapes, map), "mappo")


# --- actions


def act(policy: Policy, obs: np.ndarray, avail: np.ndarray, u: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """obs [E, n, O] float32, avail [E, n, A] bool, u [E, n] uniform on [0, 1) -> actions [E, n] int64, log-probabilities [E, n].

    If u is None, the most probable available action, the first of several.
    """
    action, logp = np.empty(obs.shape[:2], np.int64), np.empty(obs.shape[:2])
    epsilon, temperature = (0.0, 0.0) if u is None else (policy.epsilon, policy.temperature)
    _act(policy.net, obs, avail, np.zeros(action.shape) if u is None else u, epsilon, temperature, action, logp)
    return action, logp


@kernel
def _act(net, obs, avail, u, epsilon, temperature, action, logp):
    h1, h2, z, p = np.empty_like(net.b1), np.empty_like(net.b2), np.empty_like(net.b3), np.empty(len(net.b3))
    nonzero = np.empty(max(obs.shape[2], len(h1)) + 1, np.int64)
    for e in range(obs.shape[0]):
        for i in range(obs.shape[1]):
            if avail[e, i].sum() == 1:  # dead agents
                action[e, i], logp[e, i] = avail[e, i].argmax(), 0.0
                continue
            for j in range(len(h1)):
                h1[j] = net.b1[j] + net.w1[obs.shape[2] + i, j]
            _add_product(obs[e, i], net.w1, h1, nonzero)
            h2[:] = net.b2
            _relu(h1)
            _add_product(h1, net.w2, h2, nonzero)
            z[:] = net.b3
            _relu(h2)
            _add_product(h2, net.w3, z, nonzero)
            action[e, i], logp[e, i] = _choose(z, avail[e, i], u[e, i], epsilon, temperature, p)


@kernel
def _add_product(x, w, y, nonzero):
    """y += x W, summed over the inputs in their order, because floating-point sums depend on it.

    Inputs that are 0 are skipped, which changes nothing; the others are added four at a time. `nonzero`: scratch space, [len(x) + 1].
    """
    count, k = 0, 0
    for i in range(len(x)):
        nonzero[count] = i
        count += x[i] != 0
    while k + 4 <= count:
        a, b, c, d = nonzero[k], nonzero[k + 1], nonzero[k + 2], nonzero[k + 3]
        xa, xb, xc, xd, wa, wb, wc, wd = x[a], x[b], x[c], x[d], w[a], w[b], w[c], w[d]
        for j in range(len(y)):
            y[j] = (((y[j] + xa * wa[j]) + xb * wb[j]) + xc * wc[j]) + xd * wd[j]
        k += 4
    while k < count:
        xa, wa = x[nonzero[k]], w[nonzero[k]]
        for j in range(len(y)):
            y[j] += xa * wa[j]
        k += 1


@kernel
def _relu(x):
    for j in range(len(x)):
        x[j] = max(x[j], np.float32(0))


@kernel
def _choose(z, avail, u, epsilon, temperature, p):
    """An action drawn with u, and its log-probability; p: scratch space for the probabilities, [len(z)].

    It is the first available action whose cumulative probability exceeds u, where p = epsilon / k + (1 - epsilon) softmax(z / temperature)
    over the k available ones.
    """
    best, count = -1, 0
    for a in range(len(z)):
        if avail[a]:
            count += 1
            if best < 0 or z[a] > z[best]:
                best = a
    total = 0.0
    for a in range(len(z)):
        if temperature > 0:
            p[a] = exp((np.float64(z[a]) - np.float64(z[best])) / temperature) if avail[a] else 0.0
        else:
            p[a] = 1.0 if a == best else 0.0
        total += p[a]
    chosen, reached = best, 0.0
    for a in range(len(z)):
        if avail[a]:
            p[a] = epsilon / count + (1 - epsilon) * (p[a] / total)
            if p[a] > 0:
                chosen = a
                reached += p[a]
                if reached > u:
                    break
    return chosen, -log(1 / p[chosen])


# --- elementary functions

LN2 = 0.6931471805599453
LN2_HI = 0.693147180369123816490  # ln 2 to 32 bits, so that k LN2_HI is exact (fdlibm's e_exp.c)
LN2_LO = 1.90821492927058770002e-10
POWERS_OF_HALF = 2.0 ** -np.arange(1023)  # exact
EXP = np.array([1 / math.factorial(i) for i in range(13, -1, -1)])  # coefficients of the Taylor series, highest power first
ARTANH = np.array([1 / i for i in range(23, 0, -2)])  # likewise


@kernel
def exp(x):
    """e^x for x <= 0, and 0 below -700. With x = r - k ln 2 and |r| <= ln 2 / 2, e^x = e^r / 2^k, where e^r is its Taylor series."""
    if x < -700:
        return 0.0
    k = int(0.5 - x / LN2)
    r = (x + k * LN2_HI) + k * LN2_LO
    y = 0.0
    for i in range(len(EXP)):
        y = y * r + EXP[i]
    return y * POWERS_OF_HALF[k]


@kernel
def log(x):
    """ln x for x >= 1. With x = m 2^k and m <= sqrt 2, ln x = ln m + k ln 2 and ln m = 2 artanh((m - 1) / (m + 1)), by its series."""
    k = 0
    while x > 1.4142135623730951:
        x, k = x / 2, k + 1
    s = (x - 1) / (x + 1)
    y = 0.0
    for i in range(len(ARTANH)):
        y = y * (s * s) + ARTANH[i]
    return 2 * s * y + k * LN2
