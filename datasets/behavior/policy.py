"""A behavior policy of either kind, and its file: an .npz with float16 weights."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import UserError

VERSION = 1
MAX_HIDDEN_DIM = 1024
# What numpy and zipfile raise over a damaged file.
DAMAGE = (OSError, ValueError, LookupError, EOFError, MemoryError, NotImplementedError, zipfile.BadZipFile)


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
    scenario: str  # SMAC map or MuJoCo scenario
    net: Net
    steps: int  # environment steps of its training
    win_rate: float  # of sampled actions, when it was saved; NaN where winning has no meaning
    mean_return: float  # likewise


def rounded(net: Net) -> Net:
    """The weights as `save` stores them."""
    return Net(*(x.astype("<f2").astype(np.float32) for x in net))


def save(policy: Policy, path: Path) -> None:
    """Write the file, in which the scenario is called `map` and `net` is the version again."""
    weights = {name: x.astype("<f2") for name, x in policy.net._asdict().items()}
    assert all(np.isfinite(x).all() for x in weights.values()), f"weights of {policy.scenario} beyond float16"
    about = {"steps": policy.steps, "win_rate": policy.win_rate, "mean_return": policy.mean_return}
    with atomic_write(path) as part, part.open("wb") as file:
        np.savez(file, version=VERSION, map=policy.scenario, net=VERSION, **about, **weights)


def read(path: Path, scenario: str, shapes: Callable[[int], Net], trainer: str) -> Policy:
    """A policy for this map or scenario; `shapes`: hidden units -> shapes of the weights.

    UserError: no such file, or it is damaged, or for another scenario; the message says how `trainer` trains one.
    """
    try:
        with zipfile.ZipFile(path) as file:
            if packed := [x.filename for x in file.infolist() if x.compress_type != zipfile.ZIP_STORED]:
                raise ValueError(f"{packed[0]} is compressed")  # such a file could unpack to any size
        with np.load(path, allow_pickle=False) as file:
            x = {key: file[key] for key in ("version", "map", "steps", "win_rate", "mean_return", *Net._fields)}
        fault = _fault(x, scenario, shapes)
    except FileNotFoundError:
        fault = f"no such policy; there are: {', '.join(sorted(x.stem for x in path.parent.glob('*.npz'))) or 'none'}"
    except DAMAGE as e:
        fault = f"cut short, damaged, or no policy ({' '.join(str(e).split())[:100]})"
    if fault:
        how = f"python -m tools.behavior.{trainer} {scenario} --out FOLDER, then python -m tools.behavior ship {scenario} FOLDER"
        raise UserError(f"{path}: {fault}. To train one: {how}")
    net = Net(*(x[key].astype(np.float32) for key in Net._fields))
    return Policy(scenario, net, int(x["steps"]), float(x["win_rate"]), float(x["mean_return"]))


def _fault(x: dict[str, np.ndarray], scenario: str, shapes: Callable[[int], Net]) -> str:
    """The first fault of a file's arrays; "" if there is none."""
    kinds = {"version": "i", "map": "U", "steps": "i", "win_rate": "f", "mean_return": "f"}
    for key, kind in kinds.items():
        if x[key].shape or x[key].dtype.kind != kind:
            return f"{key} is not one value of kind {kind}"
    if x["version"] != VERSION:
        return f"format version {x['version']}, this program reads {VERSION}"
    if x["map"] != scenario:
        return f"a policy for {str(x['map'])[:40]!r}, not for {scenario}"
    hidden = x["b1"].shape[-1] if x["b1"].ndim else 0
    if not 1 <= hidden <= MAX_HIDDEN_DIM:
        return f"{hidden} hidden units, should be 1 .. {MAX_HIDDEN_DIM}"
    for key, shape in shapes(hidden)._asdict().items():
        if x[key].shape != shape or x[key].dtype != np.dtype("<f2"):
            return f"{key} is {x[key].dtype} {x[key].shape}, should be float16 {shape} on {scenario}"
        if not np.isfinite(x[key]).all():
            return f"NaN or infinity in {key}"
    return ""
