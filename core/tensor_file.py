"""Reads files by torch.save without torch's loader: plain values, tensors, and numpy arrays of numbers.

`torch.load(weights_only=True)` runs no code from a file. But the file can call constructors of torch and numpy with sizes of its own
choice, and compressed records are unpacked without a limit. This reader accepts only the opcodes below and the names in `find_class`, each
of which stands for a function of this module. An array or a tensor is only made if the file holds all its bytes.
"""

import io
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from math import prod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from inspo_benchmark.core.limits import limit

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # of torch before version 1.6
OPCODES = (
    "PROTO STOP MARK POP POP_MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE BINBYTES SHORT_BINBYTES "
    "EMPTY_LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_DICT SETITEM SETITEMS BINGET "
    "LONG_BINGET BINPUT LONG_BINPUT GLOBAL REDUCE BUILD BINPERSID"
)
OBJECT = 80  # bytes that an object of one opcode of one byte takes, an empty dictionary with its place in a list
ARRAYS = {np.dtype(kind).str[1:]: np.dtype(kind) for kind in "?bBhHiIqQefd"}  # "f4" -> float32
BYTE_ORDERS: dict[str, Literal["<", ">", "="]] = {"<": "<", ">": ">", "|": "="}
TENSORS = {
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}
DAMAGE = (  # exceptions that a damaged or malicious file can cause
    *(ValueError, TypeError, AttributeError, LookupError, ArithmeticError, AssertionError, RuntimeError, EOFError, MemoryError),
    *(pickle.UnpicklingError, struct.error, zipfile.BadZipFile, zlib.error),
)


def read(content: bytes) -> Any:
    """The saved object. One of the exceptions in DAMAGE: the file holds anything else."""
    return _read_archive(content) if content[:2] == b"PK" else _read_legacy(content)


def _read_archive(content: bytes) -> Any:
    """A zip file: `<root>/data.pkl`, and a record `<root>/data/<key>` for each storage."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        infos = archive.infolist()
        if any(info.compress_type != zipfile.ZIP_STORED for info in infos):
            raise ValueError("a compressed archive, which torch does not write")
        if sum(info.file_size for info in infos) > len(content):
            raise ValueError("an archive that declares more than it holds")
        records = {info.filename.partition("/")[2]: archive.read(info) for info in infos}
    if records.get("byteorder", b"little") != b"little":
        raise ValueError("written on a machine with another order of bytes")
    storages = {name.removeprefix("data/"): record for name, record in records.items() if name.startswith("data/")}
    return _Unpickler(io.BytesIO(records["data.pkl"]), len(content), storages).load()


def _read_legacy(content: bytes) -> Any:
    """Five pickles: a magic number, a version, the machine, the saved object, the keys of the storages. Then for each storage the number of
    its elements and the elements."""
    file, size = io.BytesIO(content), len(content)
    head = [_Unpickler(file, size).load() for _ in range(3)]
    if head[:2] != [MAGIC, PROTOCOL] or head[2]["little_endian"] is not True:
        raise ValueError("not a file by torch.save")
    start, first_pass = file.tell(), _Unpickler(file, size)
    first_pass.load()  # for the types of the storages
    storages = {}
    for key in _Unpickler(file, size).load():
        (count,) = struct.unpack("<q", file.read(8))
        storages[key] = file.read(max(0, count) * first_pass.types[key].itemsize)
    file.seek(start)
    return _Unpickler(file, size, storages).load()


class _DType:
    """A numpy dtype whose description is being read."""

    def __init__(self, name: str):
        self.type = ARRAYS[name]


class _Unpickler(pickle._Unpickler):
    """`storages`: key -> bytes. None: only the types of the storages are read, and tensors are None."""

    stack: list[Any]  # two that the base class has and its stubs do not name
    pop_mark: Callable[[], list]
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in OPCODES.split(" ")
    }

    def __init__(self, file: io.BytesIO, size: int, storages: dict[str, bytes] | None = None):
        super().__init__(file)
        if OBJECT * (most := len(file.getbuffer()) - file.tell()) > limit(size):
            raise ValueError(f"{most} bytes of a pickle, which may hold more objects than fit into the memory")
        self.bytes_left, self.storages = 2 * size, storages  # twice the file's size, because an array is made from a copy of its bytes
        self.types: dict[str, torch.dtype] = {}  # of the storages
        self.tensors: dict[str, Tensor] = {}  # of the storages

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module.replace('numpy._core.', 'numpy.core.')}.{name}"
        calls = {
            "numpy.core.multiarray._reconstruct": lambda kind, shape, typecode: np.empty(0, np.uint8),  # BUILD fills it
            "numpy.core.multiarray.scalar": lambda dtype, content: self._filled(np.empty(0, np.uint8), (1, (), dtype, False, content))[()],
            "numpy.dtype": lambda name, align, copy: _DType(name),
            "_codecs.encode": self._encoded,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "collections.OrderedDict": lambda: {},
            "__builtin__.bytes": lambda: b"",
            "numpy.ndarray": _refuse_call,  # only named as an argument of _reconstruct
            **TENSORS,
        }
        if full not in calls:
            raise ValueError(f"{full[:80]} in a file that should hold numbers alone")
        return calls[full]

    def _count(self, size: int) -> None:
        """ValueError: the objects together are larger than the file."""
        self.bytes_left -= size
        if self.bytes_left < 0:
            raise ValueError("more content than the file has bytes")

    def _encoded(self, text: str, encoding: str) -> bytes:
        """Bytes, as pickles of protocol 2 store them."""
        if type(text) is not str or encoding != "latin1":
            raise ValueError(f"text as {encoding!r:.20}, not latin1")
        self._count(len(text))
        return text.encode("latin1")

    def _filled(self, x: np.ndarray, state: tuple) -> np.ndarray:
        _, shape, dtype, by_columns, content = state
        if type(content) is not bytes or not _sizes(shape) or prod(shape) * dtype.type.itemsize != len(content):
            raise ValueError("an array whose shape does not fit its bytes")
        self._count(len(content))
        x.__setstate__((1, shape, dtype.type, by_columns is True, content))  # type: ignore[arg-type]  # Python's bool
        return x

    def _tensor(self, storage: Tensor, offset: int, size: tuple, stride: tuple, *_: Any) -> Tensor | None:
        if self.storages is None:
            return None
        if not _sizes((offset,)) or not _sizes(size) or not _sizes(stride) or len(size) != len(stride):
            raise ValueError("a tensor with a malformed shape")
        end = 1 + sum((n - 1) * step for n, step in zip(size, stride)) if prod(size) else 0
        if offset + max(end, prod(size)) > len(storage):
            raise ValueError("a tensor that is larger than its storage")
        return storage.as_strided(size, stride, offset)

    def persistent_load(self, pid: Any) -> Tensor | None:
        _, dtype, key, _, count, *view = pid
        if any(view) or not isinstance(dtype, torch.dtype) or self.types.setdefault(key, dtype) != dtype:
            raise ValueError("a storage of several types")
        if self.storages is None:
            return None
        if len(content := self.storages[key]) != count * dtype.itemsize:
            raise ValueError("a storage whose size does not fit its bytes")
        if key not in self.tensors:  # the copy is aligned
            self.tensors[key] = torch.frombuffer(bytearray(content), dtype=dtype).clone() if count else torch.empty(0, dtype=dtype)
        return self.tensors[key]

    def load_build(self) -> None:
        state, x = self.stack.pop(), self.stack[-1]
        if type(x) is np.ndarray:
            self._filled(x, state)
        elif type(x) is _DType:
            x.type = x.type.newbyteorder(BYTE_ORDERS[state[1]])
        elif type(x) is not dict:  # a state_dict has an attribute with versions, which is not needed
            raise ValueError(f"a state for a {type(x).__name__}")

    def load_setitems(self) -> None:
        items = self.pop_mark()
        self._set(items)

    def load_setitem(self) -> None:
        items = [self.stack.pop(), self.stack.pop()][::-1]
        self._set(items)

    def _set(self, items: list) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):
                raise ValueError(f"a key of type {type(key).__name__}")
            if type(self.stack[-1]) is not dict:
                raise ValueError("not a dictionary")
            self.stack[-1][key] = value

    dispatch |= {pickle.BUILD[0]: load_build, pickle.SETITEM[0]: load_setitem, pickle.SETITEMS[0]: load_setitems}


def _refuse_call(*_: Any) -> None:
    raise ValueError("a call of numpy.ndarray")


def _sizes(x: Any) -> bool:
    """Whether x is a tuple of sizes."""
    return type(x) is tuple and all(type(n) is int and 0 <= n < 1 << 60 for n in x)
