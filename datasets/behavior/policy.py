"""A behavior policy of either kind, and its file: an .npz with float16 weights."""

import io
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError
from typing import NamedTuple

import numpy as np

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.limits import read_bytes

VERSION = 2
MAX_HIDDEN_DIM = 1024
# What numpy and zipfile raise over a damaged file.
DAMAGE = (OSError, ValueError, LookupError, EOFError, MemoryError, RuntimeError, SyntaxError, TokenError, zipfile.BadZipFile)


class Net(NamedTuple):
    """Weights of input -> ReLU -> ReLU -> output, float32 with the precision of float16 once saved. One network that the agents share,
    or, with a leading axis of agents, one for each."""

    w1: np.ndarray  # [inputs, H]
    b1: np.ndarray  # [H]
    w2: np.ndarray  # [H, H]
    b2: np.ndarray  # [H]
    w3: np.ndarray  # [H, outputs]
    b3: np.ndarray  # [outputs]


class Policy(NamedTuple):
    """A network with the numbers of its training and, for datasets, the noise of its actions.

    With probability `epsilon` an action is uniform over the available ones, otherwise it is drawn from softmax(logits / `temperature`);
    temperature 0 takes the most probable action. Both are for SMAC; actions in MuJoCo are sampled from the policy.
    """

    scenario: str  # SMAC map or MuJoCo scenario
    net: Net
    steps: int  # environment steps of its training
    seed: int = 0  # of its training
    epsilon: float = 0.0
    temperature: float = 1.0
    # Evaluated when the policy was saved: with actions sampled at temperature 1, and with the most probable ones. No win rate: NaN.
    win_rate: float = math.nan
    mean_return: float = math.nan
    greedy_win_rate: float = math.nan
    greedy_return: float = math.nan


NUMBERS = {name: "i" if name in ("steps", "seed") else "f" for name in Policy._fields if name not in ("scenario", "net")}


def rounded(net: Net) -> Net:
    """The weights as `save` stores them."""
    return Net(*(x.astype("<f2").astype(np.float32) for x in net))


def save(policy: Policy, path: Path) -> None:
    """Write the file, in which the scenario is called `map`. UserError: a weight is not finite, or too large for float16."""
    weights = {name: x.astype("<f2") for name, x in policy.net._asdict().items()}
    if not all(np.isfinite(x).all() for x in weights.values()):
        raise UserError(f"weights of {policy.scenario} beyond float16: the training diverged; try another --seed")
    about = {name: getattr(policy, name) for name in NUMBERS}
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, version=VERSION, map=policy.scenario, **about, **weights)


def read(path: Path, scenario: str, shapes: Callable[[int], Net], trainer: str) -> Policy:
    """A policy for this map or scenario; `shapes`: hidden units -> shapes of the weights.

    UserError: no such file, or it is damaged, or for another scenario; the message says how `trainer` trains one.
    """
    try:
        content = io.BytesIO(read_bytes(path))
        with zipfile.ZipFile(content) as file:
            if packed := [x.filename for x in file.infolist() if x.compress_type != zipfile.ZIP_STORED]:
                raise ValueError(f"{packed[0]} is compressed")  # such a file could unpack to any size
        with np.load(content, allow_pickle=False) as file:
            x = {key: file[key] for key in ("version", "map", *NUMBERS, *Net._fields)}
        fault = _fault(x, scenario, shapes)
    except FileNotFoundError:
        fault = f"no such policy; there are: {', '.join(sorted(x.stem for x in path.parent.glob('*.npz'))) or 'none'}"
    except DAMAGE as e:
        fault = f"cut short, damaged, or no policy ({' '.join(str(e).split())[:100]})"
    if fault:
        how = f"python -m tools.behavior.{trainer} {scenario} --out FOLDER, then python -m tools.behavior ship {scenario} FOLDER"
        raise UserError(f"{path}: {fault}. To train one: {how}")
    net = Net(*(x[key].astype(np.float32) for key in Net._fields))
    return Policy(scenario, net, **{name: x[name].item() for name in NUMBERS})


def _fault(x: dict[str, np.ndarray], scenario: str, shapes: Callable[[int], Net]) -> str:
    """The first fault of a file's arrays; "" if there is none."""
    for key, kind in {"version": "i", "map": "U", **NUMBERS}.items():
        if x[key].shape or x[key].dtype.kind != kind:
            return f"{key} is not one value of kind {kind}"
    if x["version"] != VERSION:
        return f"format version {x['version']}, this program reads {VERSION}"
    if x["map"] != scenario:
        return f"a policy for {str(x['map'])[:40]!r}, not for {scenario}"
    if not (0 <= x["epsilon"] <= 1 and 0 <= x["temperature"] < math.inf):
        return f"epsilon {x['epsilon']} and temperature {x['temperature']}, should be in 0 .. 1 and not negative"
    hidden = x["b1"].shape[-1] if x["b1"].ndim else 0
    if not 1 <= hidden <= MAX_HIDDEN_DIM:
        return f"{hidden} hidden units, should be 1 .. {MAX_HIDDEN_DIM}"
    for key, shape in shapes(hidden)._asdict().items():
        if x[key].shape != shape or x[key].dtype != np.dtype("<f2"):
            return f"{key} is {x[key].dtype} {x[key].shape}, should be float16 {shape} on {scenario}"
        if not np.isfinite(x[key]).all():
            return f"NaN or infinity in {key}"
    return ""
