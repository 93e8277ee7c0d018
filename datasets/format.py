"""One HDF5 layout for every environment, its only writer, its reader and its validator.

    /steps     T rows, all episodes end to end    actions rewards terminated truncated [behaviour_logp]
    /obs       T + E rows                         obs state [legal]
    /episodes  E rows (offset: E + 1)             offset return won seed

An episode of n steps has n + 1 rows in /obs: step t of episode e sees row t + e and leads to row t + e + 1. The root's attributes
are `Dataset.meta`. In front of it all is HDF5's user block, with a checksum of everything behind it.
A file is checked completely before any of it is used. It may come from anywhere: nothing is unpickled, nothing outside the file is read,
and no size is believed before the bytes for it are known to be there. `load` reads a file whole; `writer` and `parts` need the memory of
a part of it only.
"""

import hashlib
import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from core.errors import UserError
from core.files import whole
from core.types import Task

FORMAT, VERSION = "offline-marl", 1
CHUNK = 256 * 1024  # bytes: one read of a disk or of a network file system
PART = 16 << 20  # bytes that are read or written at a time where a file may be larger than memory
SEAL = 512  # bytes of the user block, the least that HDF5 allows
DEFLATE_RATIO = 1032  # no deflate stream shrinks its data further than this

PATHS = {
    "obs": "obs/obs",
    "state": "obs/state",
    "legal": "obs/legal",
    "actions": "steps/actions",
    "rewards": "steps/rewards",
    "terminated": "steps/terminated",
    "truncated": "steps/truncated",
    "behaviour_logp": "steps/behaviour_logp",
    "offset": "episodes/offset",
    "won": "episodes/won",
    "seed": "episodes/seed",
}
RETURN = "episodes/return"
NAMES = {path: name for name, path in PATHS.items()} | {RETURN: "return"}
# What libhdf5, its filters and h5py raise over a damaged file.
DAMAGE = (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError)
CARD = {  # what the task says about the data
    "format": str,
    "format_version": int,
    "task": str,
    "family": str,
    "quality": str,
    "backend": str,
    "action_kind": str,
    "agents": int,
    "obs": int,
    "state": int,
    "actions": int,
    "limit": int,
    "per_step": bool,
    "reference_random": float,
    "reference_best": float,
}
PROVENANCE = {"source": str, "source_sha256": str, "behaviour": str, "notes": str}  # "" where there is nothing to say
SIZES = ("task", "action_kind", "agents", "obs", "state", "actions", "limit", "per_step")  # must be those of the task


@dataclass(frozen=True)
class Dataset:
    """E episodes, T steps, N agents, end to end. Observation rows of episode e: offset[e] + e up to and with offset[e + 1] + e."""

    obs: np.ndarray  # [T+E, N, O] float32
    state: np.ndarray  # [T+E, S] float32
    legal: np.ndarray  # [T+E, N, A] bool; Box: [T+E, N, 1], all true, not stored
    actions: np.ndarray  # [T, N] int8 (int16 from 128 actions on), or [T, N, D] float32 in [-1, 1]
    rewards: np.ndarray  # [T] float32, of the team
    terminated: np.ndarray  # [T] bool, the game was over after this step
    truncated: np.ndarray  # [T] bool, the recording stopped although the game went on (time limit)
    behaviour_logp: np.ndarray  # [T, N] float32, log-probability of each action under the policy that played; unknown: [T, 0]
    offset: np.ndarray  # [E+1] int64, first step of each episode, then T
    won: np.ndarray  # [E] int8, 1 or 0; -1 where winning has no meaning
    seed: np.ndarray  # [E] int64, what the environment was reset with; -1 where unknown
    meta: dict[str, Any]  # CARD and PROVENANCE; of a file also the statistics and `content_sha256`

    @property
    def episodes(self) -> int:
        return len(self.offset) - 1

    @property
    def steps(self) -> int:
        return len(self.rewards)

    @property
    def lengths(self) -> np.ndarray:
        """Steps of each episode [E] int64."""
        return np.diff(self.offset)

    @cached_property
    def returns(self) -> np.ndarray:
        """Sum of the rewards of each episode [E] float64, correctly rounded: the same on every machine."""
        rewards, bounds = self.rewards.tolist(), self.offset.tolist()
        return np.array([math.fsum(rewards[a:b]) for a, b in pairwise(bounds)])

    @property
    def scores(self) -> np.ndarray:
        """Returns in the task's unit [E]: where it counts per step, the mean reward."""
        return self.returns / self.lengths if self.meta["per_step"] else self.returns


def pack(
    task: Task,
    lengths: np.ndarray,  # [E] int
    obs: np.ndarray,  # [E, L+1, N, O]
    state: np.ndarray,  # [E, L+1, S]
    legal: np.ndarray,  # [E, L+1, N, A]
    actions: np.ndarray,  # [E, L, N] or [E, L, N, D]
    rewards: np.ndarray,  # [E, L]
    terminated: np.ndarray,  # [E] bool; an episode that did not terminate was truncated
    won: np.ndarray,  # [E]
    seed: np.ndarray,  # [E]
    **provenance: str,
) -> Dataset:
    """Padded episodes -> Dataset. What lies behind an episode's end is dropped. Actions out of range raise UserError."""
    step, row = (np.arange(x.shape[1]) < lengths[:, None] + more for x, more in ((actions, 0), (obs, 1)))
    return join(
        task,
        lengths,
        obs=obs[row],
        state=state[row],
        legal=legal[row],
        actions=actions[step],
        rewards=rewards[step],
        terminated=terminated,
        won=won,
        seed=seed,
        **provenance,
    )


def join(
    task: Task,
    lengths: np.ndarray,  # [E] int
    *,
    obs: np.ndarray,  # [T+E, N, O]
    state: np.ndarray,  # [T+E, S]
    legal: np.ndarray | None = None,  # [T+E, N, A]; None: everything
    actions: np.ndarray,  # [T, N] or [T, N, D]
    rewards: np.ndarray,  # [T]
    terminated: np.ndarray,  # [E] bool; an episode that did not terminate was truncated
    won: np.ndarray | int = -1,  # [E]
    seed: np.ndarray | int = -1,  # [E]
    behaviour_logp: np.ndarray | None = None,  # [T, N]; None: unknown
    **provenance: str,
) -> Dataset:
    """Episodes end to end -> Dataset, in the types of the format. Actions out of range raise UserError."""
    space, count, steps = task.spec.space, len(lengths), int(lengths.sum())
    if space.kind == "discrete" and actions.size and (actions.min() < 0 or actions.max() >= space.width):
        raise UserError(f"actions {actions.min()} .. {actions.max()} in the data; {task.name} has actions 0 .. {space.width - 1}")
    with np.errstate(over="ignore"):  # what no float32 can hold becomes infinite, and `problems` says where
        obs, state, rewards = (np.ascontiguousarray(x, "<f4") for x in (obs, state, rewards))
    ends = np.zeros((2, steps), bool)
    ends[:, np.cumsum(lengths) - 1] = terminated, ~terminated
    everything = np.broadcast_to(True, (steps + count, task.spec.agents, space.legal))
    return Dataset(
        obs=obs,
        state=state,
        legal=everything if legal is None else legal.astype(bool),
        actions=actions.astype(_action_dtype(space.kind, space.width)),
        rewards=rewards,
        terminated=ends[0],
        truncated=ends[1],
        behaviour_logp=np.zeros((steps, 0), "<f4") if behaviour_logp is None else behaviour_logp.astype("<f4"),
        offset=np.concatenate([[0], np.cumsum(lengths)]).astype("<i8"),
        won=np.broadcast_to(won, count).astype("i1"),
        seed=np.broadcast_to(seed, count).astype("<i8"),
        meta=card(task) | {key: provenance.get(key, "") for key in PROVENANCE},
    )


def joined(some: list[Dataset]) -> Dataset:
    """The episodes of all of them, with the `meta` of the first. There is at least one."""
    starts = np.cumsum([0, *(d.steps for d in some)])
    arrays = {name: np.concatenate([getattr(d, name) for d in some]) for name in PATHS if name != "offset"}
    offset = np.concatenate([[0], *(d.offset[1:] + start for d, start in zip(some, starts))]).astype("<i8")
    return Dataset(**arrays, offset=offset, meta=dict(some[0].meta))


def card(task: Task) -> dict[str, Any]:
    """The part of `meta` that follows from the task."""
    spec = task.spec
    return {
        "format": FORMAT,
        "format_version": VERSION,
        "task": task.name,
        "family": task.family,
        "quality": task.quality,
        "backend": task.backend,
        "action_kind": spec.space.kind,
        "agents": spec.agents,
        "obs": spec.obs,
        "state": spec.state,
        "actions": spec.space.width,
        "limit": spec.limit,
        "per_step": task.per_step,
        "reference_random": float(task.reference[0]),
        "reference_best": float(task.reference[1]),
    }


def statistics(d: Dataset) -> dict[str, Any]:
    """The part of `meta` that follows from the arrays. `return_*` in the task's unit, `sum_*` of the plain sums of rewards."""
    return _statistics(d.returns, d.lengths, d.won, d.meta["per_step"])


def content_sha256(d: Dataset) -> str:
    """Of the task's name and every array's (path, dtype, shape, bytes), sorted. Chunks, compression and the rest of `meta` do not count."""
    return _digest(d.meta["task"], _arrays(d))


def save(d: Dataset, path: str | Path) -> None:
    """Write the whole file or none of it. Data that `load` would refuse, an unwritable folder and a full disk raise UserError."""
    with writer(path, d.meta) as out:
        out.add(d)


@contextmanager
def writer(path: str | Path, meta: dict[str, Any]) -> Iterator["Writer"]:
    """Adds episodes to a new file at `path`, which appears when the block ends well. `meta` may be completed inside the block."""
    path = Path(path)
    with whole(path) as part, Blind(part) as file:
        with file.hdf5(userblock_size=SEAL, libver=("v110", "v110")) as f:  # from 1.10 on with checksums of the structure
            out = Writer(path, f, meta, file.check)
            yield out
            out.finish()
        file.seek(SEAL)
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
        file.seek(0)
        file.write(_seal(digest))
        file.check()


class Writer:
    """The only writer of the format, see `writer`: what is added is checked and appended, in memory that does not grow with the file."""

    def __init__(self, path: Path, f: h5py.File, meta: dict[str, Any], check: Callable[[], None]):
        self.path, self.f, self.meta, self.check = path, f, meta, check
        self.episodes, self.steps, self.last = 0, 0, False
        self.short: dict[str, list[np.ndarray]] = {"returns": [], "lengths": [], "won": [], "seed": []}  # a number per episode
        self.waiting: list[Dataset] = []  # small parts, to be written together

    def add(self, d: Dataset) -> None:
        """Append episodes. UserError if `load` would refuse them."""
        if found := problems(d, at=(self.episodes, self.steps)):
            raise UserError(f"{self.path} is not written: {_first(found)}")
        for name, x in (("returns", d.returns), ("lengths", d.lengths), ("won", d.won), ("seed", d.seed)):
            self.short[name].append(x)
        self.episodes, self.steps = self.episodes + d.episodes, self.steps + d.steps
        self.waiting.append(d)
        if sum(x.obs.nbytes for x in self.waiting) >= PART // 4:
            self._flush()

    def finish(self) -> None:
        """What follows from all episodes together. UserError if there are none."""
        if not self.episodes:
            raise UserError(f"{self.path} is not written: there are no episodes")
        self.last = True  # what is not there by now will not grow: no chunk needs to be larger
        self._flush()
        short = {name: np.concatenate(x) for name, x in self.short.items()}
        self._append(PATHS["offset"], np.concatenate([[0], np.cumsum(short["lengths"])]).astype("<i8"))
        self._append(PATHS["won"], short["won"])
        self._append(PATHS["seed"], short["seed"])
        self._append(RETURN, short["returns"].astype("<f4"))
        self.f.flush()
        self.check()
        meta = self.meta | _statistics(short["returns"], short["lengths"], short["won"], self.meta["per_step"])
        self.f.attrs.update(sorted((meta | {"content_sha256": _digest(meta["task"], _things(self.f))}).items()))

    def _flush(self) -> None:
        waiting, self.waiting = self.waiting, []
        if waiting:
            per_step = [{p: x for p, x in _arrays(d).items() if not p.startswith("episodes/")} for d in waiting]
            for path in per_step[0]:
                parts = [x[path] for x in per_step]
                self._append(path, parts[0] if len(parts) == 1 else np.concatenate(parts))

    def _append(self, path: str, x: np.ndarray) -> None:
        if path not in self.f:
            rows = max(1, min(CHUNK // max(1, x[:1].nbytes), len(x) if self.last else CHUNK))
            packed = {"chunks": (rows, *x.shape[1:]), "compression": "gzip", "compression_opts": 1, "maxshape": (None, *x.shape[1:])}
            self.f.create_dataset(path, data=x, track_times=False, **packed if math.prod(x.shape[1:]) else {})
        else:
            thing = self.f[path]
            thing.resize(len(thing) + len(x), 0)
            thing[-len(x) :] = x
        self.check()


class Blind(io.FileIO):
    """A file that libhdf5 may write to on a full disk: it goes wild over a failed write, so it does not learn of it. `check` raises it."""

    @contextmanager
    def hdf5(self, **how) -> Iterator[h5py.File]:
        f = h5py.File(self, "w", **how)
        try:
            yield f
        finally:
            with suppress(*DAMAGE) if self.error else nullcontext():
                f.close()
        self.check()

    def __init__(self, path: Path):
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, data) -> int:
        data = memoryview(data).cast("B")
        try:
            done = 0
            while not self.error and done < len(data):  # a disk may take a part before it is full
                done += super().write(data[done:])
        except OSError as e:
            self.error = e
        return len(data)

    def truncate(self, size=None) -> int:
        try:
            return super().truncate(size)
        except OSError as e:
            self.error = self.error or e
            return size or 0

    def check(self) -> None:
        if self.error:
            raise self.error


def load(path: str | Path, task: Task | None = None) -> Dataset:
    """Read and check everything. A file with any fault, or (if given) of another task, raises UserError."""
    d, found = inspect(path, task)
    if found:
        raise UserError(f"{path}: {_first(found)}; see `python -m datasets validate {path}`, then delete it and build or convert it again")
    return d


def inspect(path: str | Path, task: Task | None = None) -> tuple[Dataset | None, list[str]]:
    """The dataset (None if it cannot even be read) and everything that is wrong with the file, with places. No such file: UserError."""
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file; `python -m datasets list` shows what there is")
    changed = []
    try:
        if _changed(path):
            changed = ["checksum: the bytes are not those that were written"]
        with h5py.File(path, "r", locking=False) as f:
            meta = _attributes(f)
            if found := _meta_problems(meta, task):
                return None, found + changed
            arrays, found = _read_arrays(f, meta)
    except DAMAGE as e:
        return None, [f"cut short, damaged, or not an HDF5 file ({type(e).__name__}: {line(e)})"]
    if found:
        return None, found + changed

    returns = arrays.pop("return")
    d = Dataset(**arrays, meta=meta)
    if found := problems(d):
        return d, found + changed
    if (wrong := returns != d.returns.astype("<f4")).any():
        found.append(f"{RETURN}: not the sum of the rewards in episode {wrong.argmax()}")
    found += [f"attribute {k}: {meta.get(k)}, the data say {v}" for k, v in statistics(d).items() if not _close(meta.get(k), v)]
    if meta.get("content_sha256") != (content := content_sha256(d)):
        found.append(f"attribute content_sha256: {meta.get('content_sha256')}, the data say {content}: one of them was changed")
    return d, found + changed


def violations(path: str | Path, task: Task | None = None) -> list[str]:
    """Everything that is wrong with a file, with places; empty if it is sound. A file that does not exist raises UserError."""
    return inspect(path, task)[1]


def parts(path: str | Path) -> Iterator[Dataset]:
    """The episodes of a file in order, some at a time, in memory that does not grow with the file. Any fault: UserError."""
    path = Path(path)
    meta = sealed(path)
    if meta is None:
        load(path)  # says what is wrong
    with h5py.File(path, "r", locking=False) as f:
        stored, found = _stored(f, meta)
        if found:
            raise UserError(f"{path}: {_first(found)}")
        offset = stored["offset"][:]
        for a, b in grouped(np.diff(offset), stored["obs"][:1].nbytes + stored["legal"][:1].nbytes):
            steps, rows = slice(offset[a], offset[b]), slice(offset[a] + a, offset[b] + b)
            cut = dict(zip(PATHS, (rows, rows, rows, steps, steps, steps, steps, steps, slice(a, b + 1), slice(a, b), slice(a, b))))
            arrays = {name: np.array(stored[name][cut[name]]) for name in PATHS}
            d = Dataset(**arrays | {"offset": arrays["offset"] - offset[a]}, meta=meta)
            if found := problems(d, at=(a, int(offset[a]))):  # a checksum shows that bytes are as they were written, not by whom
                raise UserError(f"{path}: {_first(found)}")
            yield d


def grouped(lengths: np.ndarray, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Episodes of these lengths in consecutive groups [a, b) of about PART bytes, at least one each."""
    end = np.cumsum(lengths + 1) * max(1, row_bytes)
    a = 0
    while a < len(lengths):
        b = max(a + 1, int(np.searchsorted(end, (end[a - 1] if a else 0) + PART, side="right")))
        yield a, b
        a = b


def peek(path: str | Path) -> dict[str, Any]:
    """`meta` of a file, unchecked, without reading its data; {} where it cannot be read."""
    try:
        with h5py.File(path, "r", locking=False) as f:
            return _attributes(f)
    except DAMAGE:
        return {}


def sealed(path: str | Path, task: Task | None = None) -> dict[str, Any] | None:
    """`meta` of a file of this task whose bytes are those that were written, without a look at its data; None if there is any doubt."""
    try:
        if _changed(Path(path)):
            return None
    except OSError:
        return None
    meta = peek(path)
    return None if _meta_problems(meta, task) else meta


def problems(d: Dataset, task: Task | None = None, at: tuple[int, int] = (0, 0)) -> list[str]:
    """What is wrong with a dataset in memory, with places. A fault that makes further checks meaningless ends the list.
    `at`: episodes and steps of the file before these."""
    return (
        _meta_problems(d.meta, task)
        or _shape_problems({name: getattr(d, name) for name in PATHS}, d.meta)
        or _offset_problems(d, at[0])
        or list(_value_problems(d, *at))
    )


def _arrays(d: Dataset) -> dict[str, np.ndarray]:
    """What is stored: path -> array."""
    neutral = {"legal": d.meta["action_kind"] == "continuous", "behaviour_logp": d.behaviour_logp.shape[1] == 0}
    return {PATHS[name]: getattr(d, name) for name in PATHS if not neutral.get(name)} | {RETURN: d.returns.astype("<f4")}


def _statistics(returns: np.ndarray, lengths: np.ndarray, won: np.ndarray, per_step: bool) -> dict[str, Any]:
    won = won[won >= 0]
    out = {"episodes": len(lengths), "steps": int(lengths.sum()), "win_rate": float(won.mean()) if len(won) else -1.0}
    for name, x in (("return", returns / lengths if per_step else returns), ("sum", returns), ("length", lengths)):
        out |= {f"{name}_{f}": float(getattr(x, f)()) for f in ("mean", "std", "min", "max")}
    return out


def _digest(task: str, arrays: dict[str, Any]) -> str:
    """`arrays`: path -> what has a dtype, a shape and slices of rows."""
    h = hashlib.sha256(f"{task}\n".encode())
    for path, x in sorted(arrays.items()):
        h.update(f"{path} {x.dtype.str} {tuple(x.shape)}\n".encode())
        step = max(1, PART // max(1, x[:1].nbytes))
        for i in range(0, len(x), step):
            h.update(np.ascontiguousarray(x[i : i + step]).data.cast("B") if x.size else b"")
    return h.hexdigest()


def _read_arrays(f: h5py.File, meta: dict[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Name -> array, once the file is known to hold all that it declares."""
    stored, found = _stored(f, meta)
    arrays = {}
    for name, thing in stored.items():
        try:
            arrays[name] = np.array(thing)
        except DAMAGE as e:  # the other arrays are still worth reading
            found.append(f"{thing.name[1:]}: cannot be read ({line(e)})")
    return arrays, found


def _stored(f: h5py.File, meta: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Name -> what can be read by slices, {} if anything is found to be missing or of a wrong shape."""
    things, stored = _things(f), {}
    optional = {"behaviour_logp"} | ({"legal"} if meta["action_kind"] == "continuous" else set())
    found = [f"{path}: missing" for path, name in NAMES.items() if name not in optional and path not in things]
    for path, thing in things.items():
        if path not in NAMES:
            found.append(f"{line(path)}: unknown to format version {VERSION}")
        elif thing is None or not isinstance(thing, h5py.Dataset) or thing.is_virtual or thing.external:
            found.append(f"{path}: not an array stored in this file")
        elif thing.id.get_storage_size() * (DEFLATE_RATIO if thing.compression else 1) < thing.nbytes:
            found.append(f"{path}: declares {thing.nbytes} bytes, but only {thing.id.get_storage_size()} are stored")
        else:
            stored[NAMES[path]] = thing
    if found:
        return {}, found

    rows = stored["rewards"].size + stored["offset"].size - 1
    stored.setdefault("behaviour_logp", np.zeros((stored["rewards"].size, 0), "<f4"))
    stored.setdefault("legal", np.broadcast_to(True, (max(rows, 0), meta["agents"], 1)))
    found = _shape_problems(stored, meta)
    return ({} if found else stored), found


def _things(f: h5py.File) -> dict[str, Any]:
    """Path -> group, array or other, of all that is in the root and in its groups; None for a link, which might lead out of the file."""

    def follow(group: h5py.Group, name: str) -> Any:
        return group[name] if isinstance(group.get(name, getlink=True), h5py.HardLink) else None

    out = {}
    for name in f:
        thing = follow(f, name)
        out |= {f"{name}/{key}": follow(thing, key) for key in thing} if isinstance(thing, h5py.Group) else {name: thing}
    return out


def _attributes(f: h5py.File) -> dict[str, Any]:
    return {key: value.item() if isinstance(value, np.generic) else value for key, value in f.attrs.items()}


def _action_dtype(kind: str, width: int) -> str:
    return "<f4" if kind == "continuous" else "|i1" if width <= 127 else "<i2"


def _meta_problems(meta: dict[str, Any], task: Task | None) -> list[str]:
    if meta.get("format") != FORMAT:
        return [f"attribute format: {meta.get('format')!r}, not {FORMAT!r}: another program's file"]
    if meta.get("format_version") != VERSION:
        return [f"attribute format_version: {meta.get('format_version')!r}, this program reads {VERSION}"]
    found = [
        f"attribute {k}: {'missing' if k not in meta else repr(meta[k])}, not of type {t.__name__}"
        for k, t in (CARD | PROVENANCE).items()
        if type(meta.get(k)) is not t
    ]
    found += [f"attribute {line(k)}: neither a line of text nor a number" for k, v in meta.items() if not _plain(k) or not _plain(v)]
    if not found:
        found += [f"attribute {k}: {meta[k]}, should be at least 1" for k in ("agents", "obs", "actions", "limit") if meta[k] < 1]
    if not found and meta["action_kind"] not in ("discrete", "continuous"):
        found.append(f"attribute action_kind: {meta['action_kind']!r}, neither 'discrete' nor 'continuous'")
    if task and not found:
        here = card(task)
        found += [f"attribute {k}: {meta[k]!r} in the data, {here[k]!r} in task {task.name}" for k in SIZES if meta[k] != here[k]]
    return found


def _shape_problems(x: dict[str, Any], meta: dict[str, Any]) -> list[str]:
    """`x`: name -> anything with a shape and a dtype."""
    t, e = math.prod(x["rewards"].shape), math.prod(x["offset"].shape) - 1
    n, width, box = meta["agents"], meta["actions"], meta["action_kind"] == "continuous"
    logp = x["behaviour_logp"].shape[-1:] == (0,)
    expected = {
        "obs": ((t + e, n, meta["obs"]), "<f4"),
        "state": ((t + e, meta["state"]), "<f4"),
        "legal": ((t + e, n, 1 if box else width), "|b1"),
        "actions": ((t, n, width) if box else (t, n), _action_dtype(meta["action_kind"], width)),
        "rewards": ((t,), "<f4"),
        "terminated": ((t,), "|b1"),
        "truncated": ((t,), "|b1"),
        "behaviour_logp": ((t, 0 if logp else n), "<f4"),
        "offset": ((e + 1,), "<i8"),
        "won": ((e,), "|i1"),
        "seed": ((e,), "<i8"),
        "return": ((e,), "<f4"),
    }
    found = [f"{'episodes' if e < 1 else 'steps'}: there are none"] * (e < 1 or t < 1)
    for name, thing in x.items():
        shape, dtype = expected[name]
        place = PATHS.get(name, RETURN)
        if thing.dtype != np.dtype(dtype):
            found.append(f"{place}: type {thing.dtype}, should be {np.dtype(dtype)}")
        if tuple(thing.shape) != shape:
            found.append(f"{place}: shape {tuple(thing.shape)}, should be {shape} for {t} steps of {e} episodes of {n} agents")
    return found


def _offset_problems(d: Dataset, first: int = 0) -> list[str]:
    place = PATHS["offset"]
    if d.offset[0] != 0 or d.offset[-1] != d.steps:
        return [f"{place}: runs from {d.offset[0]} to {d.offset[-1]}, should from 0 to {d.steps}, the number of steps"]
    return [
        f"{place}: episode {e} has {n} steps, should have 1 .. {d.meta['limit']}"
        for e, n in enumerate(d.lengths, first)
        if not 1 <= n <= d.meta["limit"]
    ]


def _value_problems(d: Dataset, first: int = 0, before: int = 0) -> Iterator[str]:
    """`first`, `before`: episodes and steps of the file before these."""
    box, last = d.meta["action_kind"] == "continuous", np.zeros(d.steps, bool)
    last[d.offset[1:] - 1] = True
    of_step = np.repeat(np.arange(d.episodes), d.lengths)
    of_row = np.repeat(np.arange(d.episodes), d.lengths + 1)
    now = np.arange(d.steps) + of_step  # rows of observation

    def bad(name: str, wrong: np.ndarray, what: str) -> Iterator[str]:
        """`wrong` [steps, rows or episodes, ...]"""
        wrong = wrong.reshape(len(wrong), -1).any(1)
        if wrong.any():
            i = int(wrong.argmax())
            kind, episodes, start = {
                "obs": ("row", of_row, before + first),
                "steps": ("step", of_step, before),
                "episodes": ("", range(d.episodes), first),
            }[PATHS[name].partition("/")[0]]
            place = f"{kind} {i + start} of the file, in " if kind else ""
            yield f"{PATHS[name]}: {what}, {wrong.sum()} times, first at {place}episode {episodes[i] + first}"

    for name in ("obs", "state", "rewards", "behaviour_logp") + ("actions",) * box:
        if not _finite(x := getattr(d, name)):
            yield from bad(name, ~np.isfinite(x), "NaN or infinity")
    yield from bad("legal", ~d.legal.any(-1), "an agent without any legal action")
    if box:
        yield from bad("actions", np.abs(d.actions) > 1, "outside [-1, 1]")
    else:
        outside = (d.actions < 0) | (d.actions >= d.meta["actions"])
        yield from bad("actions", outside, f"not one of the actions 0 .. {d.meta['actions'] - 1}")
        inside = np.where(outside, 0, d.actions).astype(np.int64)
        yield from bad(
            "actions", ~outside & ~np.take_along_axis(d.legal[now], inside[..., None], -1)[..., 0], "an action that is not legal"
        )
    yield from bad("terminated", (d.terminated | d.truncated) & ~last, "an end in the middle of an episode")
    yield from bad("terminated", (d.terminated == d.truncated) & last, "an episode's last step is not either terminated or truncated")
    yield from bad("won", ~np.isin(d.won, (-1, 0, 1)), "not -1, 0 or 1")


def _finite(x: np.ndarray) -> bool:
    """Whether the sum is finite: then all numbers are. A sum that is not may have overflown; to look at every number takes longer."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(x.sum()))


def _changed(path: Path) -> bool:
    with open(path, "rb") as f:
        return f.read(SEAL) != _seal(hashlib.file_digest(f, "sha256"))


def _seal(digest: Any) -> bytes:
    """The user block: `digest` is a hashlib object over the rest of the file."""
    return f"{FORMAT} {VERSION} sha256 {digest.hexdigest()}\n".encode().ljust(SEAL, b"\0")


def _plain(x: Any) -> bool:
    return x.isprintable() if type(x) is str else type(x) in (int, float, bool)


def _close(a: Any, b: float) -> bool:
    return type(a) is type(b) and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _first(found: list[str]) -> str:
    return found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")


def line(text: Any) -> str:
    """One printable line of whatever a damaged file or a library says."""
    return " ".join(str(text).encode("ascii", "backslashreplace").decode().split())[:160]
