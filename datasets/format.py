"""The HDF5 format of all datasets: its only writer, its reader and its validator.

    /steps     T rows, all episodes end to end    actions rewards terminated truncated [behaviour_logp]
    /obs       T + E rows                         obs state [legal]
    /episodes  E rows (offset: E + 1)             offset return won seed

An episode of n steps has n + 1 rows in /obs: step t (of all T) in episode e has the observation t + e and leads to t + e + 1. The root's
attributes are `Dataset.meta`. HDF5's user block, before the HDF5 data, holds a checksum of all bytes after it. `legal` (available
actions) and `behaviour_logp` are names of format version 1; `dataset.PATHS` maps them to the fields of `Dataset`.

A file is checked completely before any of it is used, and need not be trusted: nothing is unpickled, nothing outside the file is read, and
a declared size is checked against the stored bytes before memory is allocated. `load` reads a whole file; `writer` and `parts` hold only a
part in memory.
"""

import hashlib
import io
import math
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5z

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.limits import MIN_LIMIT, check_size
from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.dataset import (
    FORMAT,
    PART,
    PATHS,
    RETURN,
    STATISTICS,
    VERSION,
    Dataset,
    arrays_of,
    content_sha256,
    digest_of,
    offsets,
    statistics,
    statistics_of,
)
from inspo_benchmark.datasets.validate import line, meta_problems, problems, shape_problems

CHUNK = 256 * 1024  # bytes of an HDF5 chunk: one read of a disk or of a network file system
MAX_CHUNK = 64 << 20  # bytes
CHECKSUM = 4  # bytes of a chunk's checksum, if it has one
SEAL = 512  # bytes of the user block, the smallest that HDF5 allows
DEFLATE_RATIO = 1032  # the largest compression ratio of a deflate stream
NAMES = {path: name for name, path in PATHS.items()} | {RETURN: "return"}
# What libhdf5, its filters and h5py raise over a damaged file.
DAMAGE = (OSError, LookupError, RuntimeError, ValueError, TypeError, AttributeError, ArithmeticError, MemoryError, zlib.error)


def save(d: Dataset, path: str | Path) -> None:
    """Write the file whole or not at all. UserError: data that `load` would refuse, an unwritable folder, or a full disk."""
    with writer(path, d.meta) as out:
        out.add(d)


@contextmanager
def writer(path: str | Path, meta: dict[str, Any]) -> Iterator["Writer"]:
    """Yields a `Writer` of a new file, which appears at `path` when the block ends without error. The block may still change `meta`."""
    path = Path(path)
    with atomic_write(path) as part, DeferredErrorFile(part) as file:
        with file.hdf5(userblock_size=SEAL, libver=("v110", "v110")) as f:  # since 1.10 with checksums of the file's structure
            out = Writer(path, f, meta, file.check)
            yield out
            out.finish()
        file.seek(SEAL)
        digest = hashlib.file_digest(file, "sha256")
        file.seek(0)
        file.write(_seal(digest))
        file.check()


class Writer:
    """The only writer of the format, see `writer`. It checks and appends episodes, in constant memory."""

    def __init__(self, path: Path, f: h5py.File, meta: dict[str, Any], check: Callable[[], None]):
        self.path, self.f, self.meta, self.check = path, f, meta, check
        self.episodes, self.steps, self.last = 0, 0, False
        self.logp: int | None = None  # columns of the first part's log-probabilities, 0 if they are unknown
        self.short: dict[str, list[np.ndarray]] = {"returns": [], "lengths": [], "won": [], "seed": []}  # one number per episode
        self.waiting: list[Dataset] = []  # small parts, which are written together

    def add(self, d: Dataset) -> None:
        """Append episodes. UserError: `load` would refuse them."""
        if found := problems(d, at=(self.episodes, self.steps)):
            raise UserError(f"{self.path} is not written: {_first(found)}")
        self.logp = d.behavior_logp.shape[1] if self.logp is None else self.logp
        if self.logp != d.behavior_logp.shape[1]:
            raise UserError(f"{self.path} is not written: {PATHS['behavior_logp']}: known for some of the episodes only")
        for name, x in (("returns", d.returns), ("lengths", d.lengths), ("won", d.won), ("seed", d.seed)):
            self.short[name].append(x)
        self.episodes, self.steps = self.episodes + d.episodes, self.steps + d.steps
        self.waiting.append(d)
        if sum(x.obs.nbytes for x in self.waiting) >= PART // 4:
            self._flush()

    def finish(self) -> None:
        """Write the arrays and attributes that depend on all episodes. UserError: there are none."""
        if not self.episodes:
            raise UserError(f"{self.path} is not written: there are no episodes")
        self.last = True  # arrays that do not exist yet will not grow, so their chunks need not be larger than they are
        self._flush()
        short = {name: np.concatenate(x) for name, x in self.short.items()}
        self._append(PATHS["offset"], offsets(short["lengths"]))
        self._append(PATHS["won"], short["won"])
        self._append(PATHS["seed"], short["seed"])
        self._append(RETURN, short["returns"].astype("<f4"))
        self.f.flush()
        self.check()
        meta = self.meta | statistics_of(short["returns"], short["lengths"], short["won"], self.meta["per_step"])
        self.f.attrs.update(sorted((meta | {"content_sha256": digest_of(meta["task"], _members(self.f))}).items()))

    def _flush(self) -> None:
        waiting, self.waiting = self.waiting, []
        if waiting:
            per_step = [{p: x for p, x in arrays_of(d).items() if not p.startswith("episodes/")} for d in waiting]
            for path in per_step[0]:
                parts = [x[path] for x in per_step]
                self._append(path, parts[0] if len(parts) == 1 else np.concatenate(parts))

    def _append(self, path: str, x: np.ndarray) -> None:
        append_rows(self.f, path, x, len(x) if self.last else CHUNK)
        self.check()


def append_rows(f: h5py.File, path: str, x: np.ndarray, most: int = CHUNK) -> None:
    """Append rows to an array of `f`, which the first rows create, with chunks of about CHUNK bytes and at most `most` rows."""
    if path not in f:
        rows = max(1, min(CHUNK // max(1, x[:1].nbytes), most))
        packed = {"chunks": (rows, *x.shape[1:]), "compression": "gzip", "compression_opts": 1, "maxshape": (None, *x.shape[1:])}
        f.create_dataset(path, data=x, track_times=False, **packed if math.prod(x.shape[1:]) else {})
    else:
        array = f[path]
        array.resize(len(array) + len(x), 0)
        array[-len(x) :] = x


class DeferredErrorFile(io.FileIO):
    """A file that hides failed writes from libhdf5, which may crash over them on a full disk. `check` raises the first error."""

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
            while not self.error and done < len(data):  # a disk may accept a part of the data before it is full
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
    """Read and check a whole file. UserError: it has a fault, or is not a dataset of `task`."""
    d, found = inspect(path, task)
    if found:
        advice = f"see `python -m datasets validate {path}`; delete a damaged dataset, and build or convert it again"
        raise UserError(f"{path}: {_first(found)}; {advice}")
    return d


def inspect(path: str | Path, task: Task | None = None) -> tuple[Dataset | None, list[str]]:
    """The dataset (None if the file cannot be read) and all faults of the file, with their places. UserError: there is no such file."""
    path = Path(path)
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: a folder, a pipe or a device, not a dataset (.h5); move it away or name another path")
    if not path.is_file():
        raise UserError(f"{path}: no such file; `python -m datasets list` shows what there is")
    changed = []
    try:
        if _changed(path):
            changed = ["checksum: the file was changed after it was written"]
        with h5py.File(path, "r", locking=False) as f:
            meta = _attributes(f)
            if found := meta_problems(meta, task):
                return None, found + changed
            arrays, found = _read_arrays(f, meta)
    except DAMAGE as e:
        return None, [_damage(e)]
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


def parts(path: str | Path) -> Iterator[Dataset]:
    """The episodes of a file in order, in parts of about PART bytes. UserError: the file has a fault."""
    path = Path(path)
    meta = meta_if_unchanged(path)
    if meta is None:
        load(path)  # raises UserError
    with _reading(path):
        file = h5py.File(path, "r", locking=False)
    with file as f:
        with _reading(path):
            stored, found = _stored(f, meta)
            if found:
                raise UserError(f"{path}: {_first(found)}")
            size, row = path.stat().st_size, {name: math.prod(x.shape[1:]) * x.dtype.itemsize for name, x in stored.items()}
            check_size(path, stored["offset"].nbytes, size)
            offset = stored["offset"][:]
        for a, b in grouped(np.diff(offset), row["obs"] + row["avail"]):
            steps, rows = slice(offset[a], offset[b]), slice(offset[a] + a, offset[b] + b)
            where = {"obs": rows, "steps": steps, "episodes": slice(a, b)}
            cut = {name: where[at.partition("/")[0]] for name, at in PATHS.items()} | {"offset": slice(a, b + 1)}
            check_size(path, sum(int(x.stop - x.start) * row[name] for name, x in cut.items()), size)
            with _reading(path):
                arrays = {name: np.array(stored[name][cut[name]]) for name in PATHS}
            d = Dataset(**arrays | {"offset": arrays["offset"] - offset[a]}, meta=meta)
            if found := problems(d, at=(a, int(offset[a]))):  # whoever wrote the file could write a valid checksum
                raise UserError(f"{path}: {_first(found)}")
            yield d


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What libraries raise over a damaged file is a UserError."""
    try:
        yield
    except DAMAGE as e:
        raise UserError(f"{path}: {_damage(e)}") from None


def _damage(e: Exception) -> str:
    return f"cut short, damaged, or not an HDF5 file ({type(e).__name__}: {line(e)})"


def grouped(lengths: np.ndarray, row_bytes: int) -> Iterator[tuple[int, int]]:
    """Consecutive groups [a, b) of episodes of these lengths, of about PART bytes each, with at least one episode."""
    end = np.cumsum(lengths + 1) * max(1, row_bytes)
    a = 0
    while a < len(lengths):
        b = max(a + 1, int(np.searchsorted(end, (end[a - 1] if a else 0) + PART, side="right")))
        yield a, b
        a = b


def peek(path: str | Path) -> dict[str, Any]:
    """`meta` of a file, without reading its arrays; {} if it cannot be read, or lacks a value, or has one of another type."""
    if not Path(path).is_file():  # a pipe might never end
        return {}
    try:
        with h5py.File(path, "r", locking=False) as f:
            meta = _attributes(f)
    except DAMAGE:
        return {}
    whole = not meta_problems(meta, None) and all(type(meta.get(name)) is kind for name, kind in STATISTICS.items())
    return meta if whole else {}


def meta_if_unchanged(path: str | Path, task: Task | None = None) -> dict[str, Any] | None:
    """`meta` of a file, if its checksum holds and it is a dataset of `task`, otherwise None. The arrays are not checked."""
    try:
        if _changed(Path(path)):
            return None
    except OSError:
        return None
    meta = peek(path)
    return None if meta_problems(meta, task) else meta


def trusted_meta(path: str | Path, task: Task | None = None) -> dict[str, Any]:
    """`meta` of a file. One with the checksum that it was written with is trusted, of another everything is read and checked.
    UserError: the file has a fault."""
    return meta_if_unchanged(path, task) or load(path, task).meta


def _read_arrays(f: h5py.File, meta: dict[str, Any]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Name -> array, and the faults found. Nothing is read if `_stored` finds a fault."""
    stored, found = _stored(f, meta)
    size = Path(f.filename).stat().st_size
    check_size(Path(f.filename), sum(array.nbytes for array in stored.values()), size)
    arrays = {}
    for name, array in stored.items():
        try:
            arrays[name] = np.array(array)
        except DAMAGE as e:  # continue, to report all damaged arrays
            found.append(f"{array.name[1:]}: cannot be read ({line(e)})")
    return arrays, found


def chunk_fault(member: h5py.Dataset) -> str:
    """Why the array must not be read: HDF5 unpacks all that a chunk holds, however large the chunk should be. "": it may be read."""
    filters = member.id.get_create_plist()
    codes = [filters.get_filter(n)[0] for n in range(filters.get_nfilters())]
    if sum(code in (h5z.FILTER_DEFLATE, h5z.FILTER_LZF, h5z.FILTER_SZIP) for code in codes) > 1:
        return "compressed twice"
    if not member.chunks or h5z.FILTER_DEFLATE not in codes:
        return ""
    large: list[tuple[int, ...]] = []  # chunks that may become larger than any file may
    member.id.chunk_iter(lambda info: large.append(info.chunk_offset) if info.size * DEFLATE_RATIO > MIN_LIMIT else None)
    most = math.prod(member.chunks) * member.dtype.itemsize + CHECKSUM
    skipped = 1 << codes.index(h5z.FILTER_DEFLATE)  # bit of the filters that a chunk lacks, because it cannot be compressed
    for place in large:
        lacks, content = member.id.read_direct_chunk(place)
        if (len(content) if lacks & skipped else _unpacked_size(content, most)) > most:
            return f"a chunk of more than the {most - CHECKSUM} bytes that it declares"
    return ""


def _unpacked_size(content: bytes, most: int) -> int:
    """Bytes that a deflate stream unpacks to, in blocks; counting ends above `most`."""
    stream, size = zlib.decompressobj(), 0
    while content and size <= most:
        size += len(stream.decompress(content, 1 << 20))
        content = stream.unconsumed_tail
    return size


def _stored(f: h5py.File, meta: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Name -> array that can be read by slices, and the faults found; {} if there are any (missing arrays, wrong shapes or sizes)."""
    members, stored = _members(f), {}
    optional = {"behavior_logp"} | ({"avail"} if meta["action_kind"] == "continuous" else set())
    found = [f"{path}: missing" for path, name in NAMES.items() if name not in optional and path not in members]
    for path, member in members.items():
        if path not in NAMES:
            found.append(f"{line(path)}: unknown to format version {VERSION}")
        elif member is None or not isinstance(member, h5py.Dataset) or member.is_virtual or member.external:
            found.append(f"{path}: not an array stored in this file")
        elif member.id.get_storage_size() * (DEFLATE_RATIO if member.compression else 1) < member.nbytes:
            found.append(f"{path}: declares {member.nbytes} bytes, but only {member.id.get_storage_size()} are stored")
        elif member.chunks and math.prod(member.chunks) * member.dtype.itemsize > MAX_CHUNK:  # the least that is read
            found.append(f"{path}: chunks of {member.chunks} rows and columns")
        elif fault := chunk_fault(member):
            found.append(f"{path}: {fault}")
        else:
            stored[NAMES[path]] = member
    if found:
        return {}, found

    rows = stored["rewards"].size + stored["offset"].size - 1
    stored.setdefault("behavior_logp", np.zeros((stored["rewards"].size, 0), "<f4"))
    stored.setdefault("avail", np.broadcast_to(True, (max(rows, 0), meta["agents"], 1)))
    found = shape_problems(stored, meta)
    return ({} if found else stored), found


def _members(f: h5py.File) -> dict[str, Any]:
    """Path -> member of the root and of its groups; None for one that is not the file's own."""

    def member(group: h5py.Group, name: str) -> Any:
        return group[name] if is_own(group, name) else None

    out = {}
    for name in f:
        x = member(f, name)
        out |= {f"{name}/{key}": member(x, key) for key in x} if isinstance(x, h5py.Group) else {name: x}
    return out


def is_own(group: h5py.Group, name: str) -> bool:
    """Whether a member lies in the file itself; a soft or external link might lead out of it."""
    return isinstance(group.get(name, getlink=True), h5py.HardLink)


def _attributes(f: h5py.File) -> dict[str, Any]:
    out, left = {}, f.id.get_filesize()  # many attributes may name the same stored text
    for key in f.attrs:
        out[key] = value = attribute(f, key)
        if isinstance(value, str) and (left := left - len(value)) < 0:
            raise ValueError("attributes that are larger than the file")
    return out


def attribute(group: h5py.Group, key: str) -> Any:
    """A number or a text; None for all else, which is not read: an array may name the same stored text many times."""
    about = group.attrs.get_id(key)
    if about.shape != () or (about.dtype.kind not in "biufS" and not h5py.check_string_dtype(about.dtype)):
        return None
    value = group.attrs[key]
    return value.item() if isinstance(value, np.generic) else value


def _changed(path: Path) -> bool:
    if not path.is_file():  # a pipe might never end
        raise OSError(f"{path} is not a regular file")
    with open(path, "rb") as f:
        return f.read(SEAL) != _seal(hashlib.file_digest(f, "sha256"))


def _seal(digest: Any) -> bytes:
    """The user block, for the digest (of hashlib) of all bytes after it."""
    return f"{FORMAT} {VERSION} sha256 {digest.hexdigest()}\n".encode().ljust(SEAL, b"\0")


def _close(a: Any, b: float) -> bool:
    return type(a) is type(b) and math.isclose(a, b, rel_tol=1e-6, abs_tol=1e-9)


def _first(found: list[str]) -> str:
    return found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else "")
