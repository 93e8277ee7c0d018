"""Behaviour policies: what plays the recorded episodes of StarCraft, the same actions on every machine.

A policy is a network that all agents share, [obs, one-hot agent] -> ReLU -> ReLU -> logits, with float16 weights. Everything from
observation to action is IEEE additions, multiplications and divisions in a fixed order (exponential and logarithm included), one agent
at a time, so that an action is the same alone and in any batch, on any number of threads and on any processor.
"""

import math
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numba import njit

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.datasets.behavior import SHIPPED as SHIPPED
from inspo_benchmark.envs.smac.maps import Map

VERSION = 1
WIDEST = 1024  # hidden units
DAMAGE = (OSError, ValueError, LookupError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile)  # what numpy raises over it


class Net(NamedTuple):
    """Rows of w1: observations, then agent ids. float32 arrays whose values are float16 once they were saved."""

    w1: np.ndarray  # [O + n, H]
    b1: np.ndarray  # [H]
    w2: np.ndarray  # [H, H]
    b2: np.ndarray  # [H]
    w3: np.ndarray  # [H, A]
    b3: np.ndarray  # [A]


class Policy(NamedTuple):
    map: str
    net: Net
    steps: int  # of the environment, in training
    win_rate: float  # of sampled actions, when it was saved
    mean_return: float


def uniform(map: Map) -> Policy:
    """All legal actions equally often: the network whose weights are 0."""
    return Policy(map.name, Net(*(np.zeros(shape, np.float32) for shape in shapes(map, 1))), 0, math.nan, math.nan)


def shapes(map: Map, hidden: int) -> Net:
    return Net((map.obs + map.n, hidden), (hidden,), (hidden, hidden), (hidden,), (hidden, map.actions), (map.actions,))


# --- files


def save(policy: Policy, path: Path) -> None:
    weights = {name: x.astype("<f2") for name, x in policy.net._asdict().items()}
    assert all(np.isfinite(x).all() for x in weights.values()), f"weights of {policy.map} beyond float16"
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, version=VERSION, **policy._asdict() | {"net": VERSION}, **weights)


def rounded(net: Net) -> Net:
    """What `save` keeps of the weights."""
    return Net(*(x.astype("<f2").astype(np.float32) for x in net))


def load(path: Path, map: Map) -> Policy:
    """A policy for this map. UserError: there is none, it is damaged, or it is another map's; and how to train one."""
    return read(path, map.name, partial(shapes, map), "mappo")


def read(path: Path, name: str, shapes: Callable[[int], Net], trainer: str) -> Policy:
    """A policy for the map (or scenario) of that name; `shapes`: of its weights, given the hidden units. UserError as of `load`."""
    try:
        with zipfile.ZipFile(path) as file:
            if packed := [x.filename for x in file.infolist() if x.compress_type != zipfile.ZIP_STORED]:
                raise ValueError(f"{packed[0]} is compressed")  # such a file could be of any size
        with np.load(path, allow_pickle=False) as file:
            x = {key: file[key] for key in ("version", "map", "steps", "win_rate", "mean_return", *Net._fields)}
        found = _fault(x, name, shapes)
    except FileNotFoundError:
        found = f"no such policy; there are: {', '.join(sorted(x.stem for x in path.parent.glob('*.npz'))) or 'none'}"
    except DAMAGE as e:
        found = f"cut short, damaged, or no policy ({' '.join(str(e).split())[:100]})"
    if found:
        how = f"python -m tools.behavior.{trainer} {name} --out FOLDER, then python -m tools.behavior ship {name} FOLDER"
        raise UserError(f"{path}: {found}. To train one: {how}")
    net = Net(*(x[key].astype(np.float32) for key in Net._fields))
    return Policy(name, net, int(x["steps"]), float(x["win_rate"]), float(x["mean_return"]))


def _fault(x: dict[str, np.ndarray], name: str, shapes: Callable[[int], Net]) -> str:
    """What is wrong with the arrays of a file; "" if nothing is."""
    kinds = {"version": "i", "map": "U", "steps": "i", "win_rate": "f", "mean_return": "f"}
    for key, kind in kinds.items():
        if x[key].shape or x[key].dtype.kind != kind:
            return f"{key} is not one value of kind {kind}"
    if x["version"] != VERSION:
        return f"format version {x['version']}, this program reads {VERSION}"
    if x["map"] != name:
        return f"a policy for {str(x['map'])[:40]!r}, not for {name}"
    hidden = x["b1"].shape[-1] if x["b1"].ndim else 0
    if not 1 <= hidden <= WIDEST:
        return f"{hidden} hidden units, should be 1 .. {WIDEST}"
    for key, shape in shapes(hidden)._asdict().items():
        if x[key].shape != shape or x[key].dtype != np.dtype("<f2"):
            return f"{key} is {x[key].dtype} {x[key].shape}, should be float16 {shape} on {name}"
        if not np.isfinite(x[key]).all():
            return f"NaN or infinity in {key}"
    return ""


# --- actions


def act(policy: Policy, obs: np.ndarray, avail: np.ndarray, u: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """obs [E, n, O] float32, legal [E, n, A] bool, u [E, n] uniform on [0, 1) -> actions [E, n] int64, their log-probabilities [E, n].

    Without u the most probable legal action, of several the first.
    """
    greedy = u is None
    action, logp = np.empty(obs.shape[:2], np.int64), np.empty(obs.shape[:2])
    _act(policy.net, obs, avail, np.zeros(action.shape) if greedy else u, greedy, action, logp)
    return action, logp


def uniforms(key: int, episode: np.ndarray, step: int, agents: int) -> np.ndarray:
    """[E, agents] on [0, 1), each from its own (key, episode, step, agent) alone; episode [E] int."""
    out = np.empty((len(episode), agents))
    _uniforms(np.uint64(key), episode.astype(np.uint64), np.uint64(step), out)
    return out


kernel = njit(cache=True, nogil=True, error_model="numpy")


@kernel
def _act(net, obs, avail, u, greedy, action, logp):
    h1, h2, z, p = np.empty_like(net.b1), np.empty_like(net.b2), np.empty_like(net.b3), np.empty(len(net.b3))
    some = np.empty(max(obs.shape[2], len(h1)) + 1, np.int64)
    for e in range(obs.shape[0]):
        for i in range(obs.shape[1]):
            if avail[e, i].sum() == 1:  # the dead
                action[e, i], logp[e, i] = avail[e, i].argmax(), 0.0
                continue
            for j in range(len(h1)):
                h1[j] = net.b1[j] + net.w1[obs.shape[2] + i, j]
            _add(obs[e, i], net.w1, h1, some)
            h2[:] = net.b2
            _relu(h1)
            _add(h1, net.w2, h2, some)
            z[:] = net.b3
            _relu(h2)
            _add(h2, net.w3, z, some)
            action[e, i], logp[e, i] = _choose(z, avail[e, i], u[e, i], greedy, p)


@kernel
def _add(x, w, y, some):
    """y += x W, input after input: a sum of many terms has many values in floating point, this is one of them. Four at a time, and
    those that are 0 left out, which changes nothing. `some`: room for len(x) indices and one more."""
    count, k = 0, 0
    for i in range(len(x)):
        some[count] = i
        count += x[i] != 0
    while k + 4 <= count:
        a, b, c, d = some[k], some[k + 1], some[k + 2], some[k + 3]
        xa, xb, xc, xd, wa, wb, wc, wd = x[a], x[b], x[c], x[d], w[a], w[b], w[c], w[d]
        for j in range(len(y)):
            y[j] = (((y[j] + xa * wa[j]) + xb * wb[j]) + xc * wc[j]) + xd * wd[j]
        k += 4
    while k < count:
        xa, wa = x[some[k]], w[some[k]]
        for j in range(len(y)):
            y[j] += xa * wa[j]
        k += 1


@kernel
def _relu(x):
    for j in range(len(x)):
        x[j] = max(x[j], np.float32(0))


@kernel
def _choose(z, avail, u, greedy, p):
    """The first legal action whose cumulated probability exceeds u, or the most probable one; and its log-probability."""
    best = -1
    for a in range(len(z)):
        if avail[a] and (best < 0 or z[a] > z[best]):
            best = a
    top, total = np.float64(z[best]), 0.0
    for a in range(len(z)):
        if avail[a]:
            p[a] = exp(np.float64(z[a]) - top)
            total += p[a]
    chosen = best
    if not greedy:
        reached = 0.0
        for a in range(len(z)):
            if avail[a] and p[a] > 0:
                chosen = a
                reached += p[a]
                if reached > u * total:
                    break
    return chosen, np.float64(z[chosen]) - top - log(total)


# --- elementary functions

LN2 = 0.6931471805599453
LN2_HI = 0.693147180369123816490  # its first 32 bits: k LN2_HI is exact (fdlibm's e_exp.c)
LN2_LO = 1.90821492927058770002e-10
HALVES = 2.0 ** -np.arange(1023)  # exact
EXP = np.array([1 / math.factorial(i) for i in range(13, -1, -1)])  # Taylor's series
ARTANH = np.array([1 / i for i in range(23, 0, -2)])


@kernel
def exp(x):
    """e^x for x <= 0: x = r - k ln 2 with |r| <= ln 2 / 2, e^x = e^r / 2^k, e^r by Taylor's series. 0 below -700."""
    if x < -700:
        return 0.0
    k = int(0.5 - x / LN2)
    r = (x + k * LN2_HI) + k * LN2_LO
    y = 0.0
    for i in range(len(EXP)):
        y = y * r + EXP[i]
    return y * HALVES[k]


@kernel
def log(x):
    """ln x for x >= 1: x = m 2^k with m <= sqrt 2, ln m = 2 artanh s with s = (m - 1) / (m + 1), by its series."""
    k = 0
    while x > 1.4142135623730951:
        x, k = x / 2, k + 1
    s = (x - 1) / (x + 1)
    y = 0.0
    for i in range(len(ARTANH)):
        y = y * (s * s) + ARTANH[i]
    return 2 * s * y + k * LN2


@kernel
def _mix(z):
    """splitmix64's scrambling of a 64-bit integer."""
    z += np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@kernel
def _uniforms(key, episode, step, out):
    for e in range(out.shape[0]):
        seed = _mix(_mix(_mix(key) ^ episode[e]) ^ step)
        for i in range(out.shape[1]):
            out[e, i] = np.float64(np.int64(_mix(seed ^ np.uint64(i)) >> np.uint64(11))) * 2.0**-53
