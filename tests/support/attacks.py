"""Files that a stranger may send: pickles by hand, archives by hand."""

import io
import struct
import zipfile

import torch


def text(t: str) -> bytes:
    b = t.encode()
    return b"X" + struct.pack("<I", len(b)) + b


def number(n: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", n)


def call(name: str, *args: bytes) -> bytes:
    """The pickle of a call of `module.name`."""
    return b"c" + name.replace(" ", "\n").encode() + b"\n(" + b"".join(args) + b"tR"


def archive(pickled: bytes, records: dict[str, bytes] | None = None, compression: int = zipfile.ZIP_STORED) -> bytes:
    """As torch.save writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression, compresslevel=1) as z:
        for name, content in {"data.pkl": b"\x80\x02" + pickled + b".", "byteorder": b"little", "version": b"3\n"}.items():
            z.writestr(f"archive/{name}", content)
        for key, content in (records or {}).items():
            z.writestr(f"archive/data/{key}", content)
    return out.getvalue()


def tensor(key: str, stored: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """The pickle of a tensor of a storage of `stored` floats."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu") + number(stored) + b"tQ"
    shapes = (b"(" + b"".join(map(number, x)) + b"t" for x in (size, stride))
    return call("torch._utils _rebuild_tensor_v2", storage, number(0), *shapes, b"\x89", call("collections OrderedDict"))


def saved(x: object) -> bytes:
    out = io.BytesIO()
    torch.save(x, out)
    return out.getvalue()


def doubled(times: int) -> list:
    """2 ** times numbers, in a file of some bytes each."""
    x = [0.0]
    for _ in range(times):
        x = [x, x]
    return x


def array(dtype: str, shape: tuple[int, ...], content: bytes) -> bytes:
    """The pickle of an array of numpy's."""
    latin = call("_codecs encode", text(content.decode("latin1")), text("latin1"))
    made = call("numpy.core.multiarray _reconstruct", b"cnumpy\nndarray\n", number(0) + b"\x85", text("b"))
    dtype = call("numpy dtype", text(dtype), b"\x89", b"\x88")
    return made + b"(" + number(1) + b"(" + b"".join(map(number, shape)) + b"t" + dtype + b"\x89" + latin + b"tb"


ADDRESS = struct.pack("<Q", 0x4141414141414140)
BIG = 60_000_000
TORCH_FILES = {  # what -> content of a file in which torch's loader calls what it should not, or makes much of little
    "an array of pointers": archive(
        b"]" + call("numpy ndarray", number(1) + b"\x85", text("O"), call("_codecs encode", text("A" * 8), text("latin1"))) + b"a"
    ),
    "objects of a type": archive(array("O8", (1,), ADDRESS.replace(b"\x40", b"A"))),
    "an array beyond its bytes": archive(array("f8", (BIG,), b"A" * 8)),
    "an array of negative size": archive(array("f8", (-1,), b"A" * 8)),
    "a buffer": archive(call("builtins bytearray", number(1 << 33))),
    "a call of bytes": archive(call("__builtin__ bytes", number(1 << 33))),
    "zero strides": archive(tensor("0", 1, (1 << 28,), (0,)), {"0": bytes(4)}),
    "a tensor beyond its storage": archive(tensor("0", 1, (1 << 28,), (1,)), {"0": bytes(4)}),
    "a storage beyond its record": archive(tensor("0", 1 << 28, (1 << 28,), (1,)), {"0": bytes(4)}),
    "a negative stride": archive(tensor("0", 4, (2,), (-1,)), {"0": bytes(16)}),
    "one text as bytes, many times": archive(
        b"]" + text("a" * (1 << 20)) + b"q\x010" + b"(" + 6000 * call("_codecs encode", b"h\x01", text("latin1")) + b"e"
    ),
    "another encoding": archive(call("_codecs encode", text("a"), text("uu_codec"))),
    "a compressed archive": archive(tensor("0", BIG, (BIG,), (1,)), {"0": bytes(4 * BIG)}, zipfile.ZIP_DEFLATED),
    "os.system": archive(call("os system", text("true"))),
    "no pickle": archive(b"]" * 100_000),
    "nothing": b"",
    "an empty archive": b"PK\x05\x06" + bytes(18),
}
