"""Published recordings -> our format. The PyMARL layout is shared by AlberDICE, CFCQL and ICQ: E padded episodes of up to L steps.

| key           | shape           |                                                                            |
| ------------- | --------------- | -------------------------------------------------------------------------- |
| state         | (E, L+1, S)     |                                                                            |
| obs           | (E, L+1, N, O)  |                                                                            |
| avail_actions | (E, L+1, N, A)  | 0 or 1                                                                     |
| actions       | (E, L+1, N, 1)  |                                                                            |
| reward        | (E, L+1, 1)     | of the team, after the action of the same row                              |
| terminated    | (E, L+1, 1)     | 1 at an episode's last step if it ended, see below                         |
| filled        | (E, L+1, 1)     | 1 for the n steps of an episode and the observation after them, n + 1 rows |

Other keys (actions_onehot, probs) say nothing new and are not read.

**Ends.** StarCraft recordings flag real ends only: an episode without a flag was truncated. AlberDICE's recordings of matrix games
and Bridge flag the time limit as well. For those families a flag on the last row that fits counts only if the state shows that the
game is over; otherwise it was the time limit, a truncation.

**Shorter limits.** Bridge was recorded with a limit of 50 and is evaluated with 20. Episodes are cut to the limit (the task's own by
default, `limit` otherwise), the cut is a truncation and the step before it keeps the reward that was recorded. Where an environment
pays nothing on the step that hits its limit, as Bridge does, only the recorded limit shows that.

**Left out.** PyMARL notes an action beside an episode's last observation. Nothing followed from it, and our format has no place for it.
"""

import hashlib
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from core.errors import UserError
from core.types import Task
from datasets.format import DAMAGE, Dataset, pack
from envs import bridge

KEYS = {"state": "f", "obs": "f", "avail_actions": "biuf", "actions": "iu", "reward": "f", "terminated": "biuf", "filled": "biuf"}  # kinds


def _never(state: np.ndarray) -> np.ndarray:
    return np.zeros(len(state), bool)


LIMIT_IS_FLAGGED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "xor": _never,
    "mne": _never,
    "bridge": bridge.home,
}  # final states: over?


def pymarl(source: str | Path, task: Task, limit: int | None = None) -> Dataset:
    """A recording (.npz, .h5, or a folder of .npy) as the data of `task`, its episodes cut to `limit` steps. Anything amiss: UserError."""
    source, spec = Path(source), task.spec
    limit = spec.limit if limit is None else limit
    if spec.space.kind != "discrete":
        raise UserError(f"{source}: PyMARL recordings have discrete actions, {task.name} has continuous ones")
    if not 1 <= limit <= spec.limit:
        raise UserError(f"limit {limit}: episodes of {task.name} have 1 .. {spec.limit} steps")
    x = _read(source)
    _check(source, x, task)

    filled = x["filled"][..., 0] != 0
    recorded = filled.sum(1) - 1
    room = filled.shape[1] - 1
    _refuse(source, (filled != (np.arange(room + 1) <= recorded[:, None])).any(1), "'filled' has holes")
    _refuse(source, recorded < 1, "there is no step")

    flags = x["terminated"][:, :room, 0] != 0
    last = np.arange(room) == recorded[:, None] - 1
    _refuse(source, (flags & ~last & filled[:, :room]).any(1), "the game goes on after 'terminated'")
    over = (flags & last).any(1)
    if task.family in LIMIT_IS_FLAGGED:
        final = x["state"][np.arange(len(recorded)), recorded]
        over &= (recorded < room) | LIMIT_IS_FLAGGED[task.family](final)

    lengths = np.minimum(recorded, limit)
    cut = int((recorded > limit).sum())
    return pack(
        task,
        lengths=lengths,
        obs=x["obs"],
        state=x["state"],
        legal=x["avail_actions"] != 0,
        actions=x["actions"][:, :room, :, 0],
        rewards=x["reward"][:, :room, 0],
        terminated=over & (recorded <= limit),
        won=np.full(len(lengths), -1),
        seed=np.full(len(lengths), -1),
        source=f"{source.name} (PyMARL layout)",
        source_sha256=_sha256(source),
        notes=f"{cut} of {len(lengths)} episodes cut to {limit} steps; the action beside each last observation is left out",
    )


def _read(source: Path) -> dict[str, np.ndarray]:
    if not source.exists():
        raise UserError(f"{source}: no such file or folder")
    try:
        if source.is_dir():
            return {key: np.load(source / f"{key}.npy", allow_pickle=False) for key in KEYS if (source / f"{key}.npy").exists()}
        if source.suffix == ".npz":
            with np.load(source, allow_pickle=False) as f:
                return {key: f[key] for key in KEYS if key in f}
        if source.suffix in (".h5", ".hdf5"):
            with h5py.File(source, "r", locking=False) as f:
                return {key: np.array(f[key]) for key in KEYS if key in f}
    except (*DAMAGE, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise UserError(
            f"{source}: cut short, damaged, or with pickled objects, which are never loaded ({' '.join(str(e).split())[:160]})"
        ) from e
    raise UserError(f"{source}: neither .npz nor .h5 nor a folder of .npy files")


def _check(source: Path, x: dict[str, np.ndarray], task: Task) -> None:
    """Keys, kinds of numbers, and sizes against each other and against the task."""
    if missing := [key for key in KEYS if key not in x]:
        raise UserError(f"{source}: no {', '.join(missing)}; a PyMARL recording has {', '.join(KEYS)}")
    spec, head = task.spec, x["filled"].shape[:2]
    for key, kinds in KEYS.items():
        tail = {
            "state": (spec.state,),
            "obs": (spec.agents, spec.obs),
            "avail_actions": (spec.agents, spec.space.width),
            "actions": (spec.agents, 1),
        }
        expected = (*head, *tail.get(key, (1,)))
        if x[key].dtype.kind not in kinds:
            raise UserError(f"{source}: {key} is of type {x[key].dtype}, which does not fit a PyMARL recording")
        if x[key].shape != expected:
            raise UserError(f"{source}: {key} has shape {x[key].shape}, {task.name} with 'filled' {x['filled'].shape} asks for {expected}")


def _refuse(source: Path, wrong: np.ndarray, what: str) -> None:
    """`wrong` [E]"""
    if wrong.any():
        raise UserError(f"{source}: {what} in episode {wrong.argmax()}, {wrong.sum()} of {len(wrong)} episodes are like that")


def _sha256(source: Path) -> str:
    """Of the file, or of the names and contents of a folder's arrays."""
    h = hashlib.sha256()
    for file in sorted(source.glob("*.npy")) if source.is_dir() else [source]:
        h.update(f"{file.name}\n".encode() * source.is_dir())
        with open(file, "rb") as f:
            while block := f.read(1 << 20):
                h.update(block)
    return h.hexdigest()
