"""Arrays of untrusted files, by slices: name -> what has a dtype, a shape and `[a:b]`. Nothing is unpickled, nothing outside is read."""

import hashlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np

from inspo_benchmark.core.errors import UserError, printable
from inspo_benchmark.core.limits import check_size
from inspo_benchmark.datasets.format import DAMAGE, DEFLATE_RATIO, chunk_fault, is_own
from inspo_benchmark.datasets.validate import line

NUMBERS = "biuf"
MEMBERS = 10_000  # of an HDF5 file, or of an episode in one
KINDS = {"b": "bool", "i": "int", "u": "unsigned int", "f": "float"}


def check_own_files(source: Path) -> None:
    """UserError if the folder of a recording holds anything but files and folders: a link could lead to the user's own files, a pipe may
    never end."""
    with reading(source):
        for path in source.rglob("*") if source.is_dir() else ():
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise UserError(f"{path}: a link, a pipe or a device, which is not read; copy the recording's files with `cp -rL`")


@contextmanager
def reading(source: Path) -> Iterator[None]:
    """What libraries raise over a damaged file is a UserError about `source`."""
    try:
        yield
    except (*DAMAGE, EOFError, zipfile.BadZipFile) as e:
        raise UserError(f"{source}: cut short, damaged, or with pickled objects, which are never loaded ({line(e)})") from e


@contextmanager
def arrays(source: Path) -> Iterator[dict[str, Any]]:
    """Of an .npz, an .h5 / .hdf5, or a folder of .npy. What is not numbers is left out: a layout says what it misses."""
    with ExitStack() as stack:
        with reading(source):
            if not source.is_dir() and not source.is_file():
                raise UserError(f"{source}: no such file or folder")
            if source.is_dir():
                files = [p for p in sorted(source.glob("*.npy")) if p.is_file()]
                found = {p.stem: Npy(stack.enter_context(open(p, "rb")), p.name) for p in files}
            elif source.suffix == ".npz":
                found = _unpacked(source, stack)
            elif source.suffix in (".h5", ".hdf5"):
                found = stored(source, stack.enter_context(h5py.File(source, "r", locking=False)))
            else:
                raise UserError(f"{source}: neither .npz nor .h5 nor a folder of .npy files")
            size = size_of(source)
            found = {name: Guarded(source, thing, size) for name, thing in found.items()}
        yield found


def stored(source: Path, f: h5py.Group, depth: int = 4, left: list[int] | None = None) -> dict[str, h5py.Dataset]:
    """path -> array, of those that lie in the group itself and are as large as they declare. `left`: how many members may still come."""
    found, left = {}, [MEMBERS] if left is None else left
    for name in f:
        left[0] -= 1
        if left[0] < 0:
            raise UserError(f"{source}: more than {MEMBERS} arrays and groups, or a group within itself")
        if not is_own(f, name):
            continue
        thing = f[name]
        if isinstance(thing, h5py.Group) and depth:
            found |= {f"{name}/{key}": x for key, x in stored(source, thing, depth - 1, left).items()}
        elif isinstance(thing, h5py.Dataset) and not (thing.is_virtual or thing.external) and thing.dtype.kind in NUMBERS:
            if thing.id.get_storage_size() * (DEFLATE_RATIO if thing.chunks else 1) < thing.nbytes:
                raise UserError(f"{source}: {name} declares {thing.nbytes} bytes, but only {thing.id.get_storage_size()} are stored")
            found[name] = thing
    return found


def need(source: Path, x: dict[str, Any], kinds: dict[str, str], layout: str, optional: tuple[str, ...] = ()) -> None:
    """UserError unless every key is there and holds the kinds of numbers that the layout has there."""
    if missing := [key for key in kinds if key not in x and key not in optional]:
        raise UserError(f"{source}: no {', '.join(missing)}; {layout} recording has {', '.join(k for k in kinds if k not in optional)}")
    for key in kinds:
        if key in x and x[key].dtype.kind not in kinds[key]:
            kept = " or ".join(KINDS[k] for k in kinds[key])
            raise UserError(f"{source}: {key} is of type {x[key].dtype}, {layout} recording has {kept}")


def shaped(source: Path, x: dict[str, Any], expected: dict[str, tuple[int | None, ...]], by: str) -> None:
    """UserError unless every array that is there has its shape, in which None stands for any size."""
    for key, shape in expected.items():
        have = tuple(x[key].shape) if key in x else shape
        if len(have) != len(shape) or any(size not in (None, there) for size, there in zip(shape, have)):
            raise UserError(f"{source}: {key} has shape {have}, {by} asks for {str(shape).replace('None', 'any')}")


def sha256(source: Path) -> str:
    """Of a file, or of the names and contents of a folder's files."""
    h = hashlib.sha256()
    for file in sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]:
        h.update(f"{file.relative_to(source)}\n".encode() * source.is_dir())
        with open(file, "rb") as f:
            while block := f.read(1 << 20):
                h.update(block)
    return h.hexdigest()


class Npy:
    """An array in an .npy file, which stays open: rows are read when they are asked for."""

    def __init__(self, file: BinaryIO, name: str):
        self.file = file
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        try:
            self.shape, self.by_columns, self.dtype = read(file)
        except Exception as e:  # a header is a Python literal: all that its parser can raise
            raise ValueError(f"{name} has a damaged header ({type(e).__name__})") from e
        self.start = file.tell()
        if self.dtype.hasobject:
            raise ValueError(f"{name} holds Python objects")
        self.ndim, self.row = len(self.shape), int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize
        stored = os.fstat(file.fileno()).st_size - self.start
        if stored < self.nbytes:
            raise ValueError(f"{name} declares {self.nbytes} bytes, but only {stored} are stored")

    @property
    def nbytes(self) -> int:
        return self.row * (self.shape[0] if self.shape else 1)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        if self.by_columns and self.ndim > 1:  # rows are scattered over the file
            return np.array(np.memmap(self.file, self.dtype, "r", self.start, self.shape, "F")[rows])
        a, b, _ = rows.indices(len(self))
        self.file.seek(self.start + a * self.row)
        content = self.file.read(max(0, b - a) * self.row)
        return np.frombuffer(content, self.dtype).reshape(max(0, b - a), *self.shape[1:])


class Guarded:
    """An array of a recording of `size` bytes, by slices: what is larger than its stored bytes may become is refused first."""

    def __init__(self, source: Path, thing: Any, size: int):
        self.source, self.thing = source, thing
        self.stored = thing.id.get_storage_size() if isinstance(thing, h5py.Dataset) else size
        self.dtype, self.shape, self.ndim = thing.dtype, tuple(thing.shape), len(thing.shape)
        if 0 in self.shape[1:]:  # such an array may declare any number of rows
            raise ValueError(f"an array of shape {self.shape} holds nothing")
        if chunks := getattr(thing, "chunks", None):  # one of them is the least that is read
            check_size(source, int(np.prod(chunks, dtype=object)) * self.dtype.itemsize, self.stored)
            if fault := chunk_fault(thing):
                raise UserError(f"{source}: {thing.name[1:]}: {fault}")

    def __len__(self) -> int:
        return len(self.thing)

    def __getitem__(self, rows: slice) -> np.ndarray:
        if self.ndim:
            row = int(np.prod(self.shape[1:], dtype=object)) * self.dtype.itemsize
            check_size(self.source, len(range(*rows.indices(self.shape[0]))) * row, self.stored)
        return self.thing[rows]


def size_of(source: Path) -> int:
    """Bytes on the disk of a file, or of a folder's files: of a sparse file those that are not holes."""
    files = [p for p in source.rglob("*") if p.is_file()] if source.is_dir() else [source]
    return sum(min(about.st_size, 512 * about.st_blocks + 512) for about in (p.stat() for p in files))


def _unpacked(source: Path, stack: ExitStack) -> dict[str, Npy]:
    """An .npz as temporary .npy files, because inside the archive there is no way to a row but through all before it. They have no names,
    so that nothing is left of them however this ends."""
    found = {}
    with zipfile.ZipFile(source) as archive:
        infos = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if packed := [info.filename for info in infos if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]:
            raise UserError(f"{source}: {printable(packed[0])} is compressed in a way that numpy does not write")
        total, free = sum(info.file_size for info in infos), shutil.disk_usage(tempfile.gettempdir()).free
        check_size(source, total, size_of(source))
        if total > free:
            raise UserError(
                f"{source}: it would be unpacked to {total} bytes in {tempfile.gettempdir()}, where {free} are free; set TMPDIR"
            )
        for info in infos:
            file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            with archive.open(info) as packed:  # reads no more than it declares
                shutil.copyfileobj(packed, file, 1 << 20)
            file.seek(0)
            found[info.filename.removesuffix(".npy")] = file
    return {name: Npy(file, f"{name}.npy") for name, file in found.items()}
