"""Random changes of files, for the fuzzers. `data` is hypothesis's source of choices."""

import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st

TEXTS = [
    "",
    "../x",
    "/tmp/x",
    "x\x1b[31m",
    "a\nb",
    "\ud800",
    "\u202e",
    "=cmd|' /C calc'!A0",
    "<script>",
    "%s{0}",
    "y" * 20_000,
    "--output=x",
]
NUMBERS = [-1, 0, 1, 7, 1.5, -0.0, 1e308, 10**400, 2**63, float("nan"), float("inf")]
VALUES = st.sampled_from([None, True, *NUMBERS, *TEXTS, [], [0, 0], [[[[]]]], {}, {"x": {"y": {"z": {"w": {}}}}}])
DTYPES = ["f2", "f4", "f8", "i1", "i8", "u8", "?", "c8", "S3", ">f4"]


def changed(data: st.DataObject, path: Path, outside: Path) -> None:
    """Change a file, as a program that knows its format would do, as a failing disk would do, or as a thing that is no file."""
    known = {".json": _change_json, ".csv": _change_csv, ".npz": _change_npz, ".npy": _change_npy, ".pkl": _change_archive}
    known |= dict.fromkeys((".h5", ".hdf5"), _change_hdf5)
    how = data.draw(st.sampled_from(["content"] * 6 + ["bytes"] * 3 + ["kind"]))
    if how == "kind":
        _change_kind(data, path, outside)
    elif how == "content" and path.suffix in known:
        known[path.suffix](data, path)
    else:
        path.write_bytes(changed_bytes(data, path.read_bytes()))


def changed_bytes(data: st.DataObject, content: bytes) -> bytes:
    kind = data.draw(st.sampled_from(["cut", "flip", "burst", "empty", "repeat", "insert", "header"]))
    at = int(data.draw(st.floats(0, 1, exclude_max=True)) * len(content))
    x = bytearray(content)
    if kind == "cut":
        del x[at:]
    elif kind == "empty":
        x.clear()
    elif kind == "repeat":
        x[at:at] = x[at : at + data.draw(st.integers(1, 1 << 12))]
    elif kind == "insert":
        x[at:at] = data.draw(st.binary(max_size=16))
    elif kind == "header":
        at = data.draw(st.integers(0, min(400, len(x))))
        x[at : at + 2] = data.draw(st.binary(min_size=2, max_size=2))
    elif kind == "flip" and x:
        x[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        x[at : at + 16] = data.draw(st.binary(min_size=16, max_size=16))
    return bytes(x)


def changed_value(data: st.DataObject, x: Any) -> Any:
    """A JSON value of which one part was replaced, removed, added or renamed."""
    if isinstance(x, (dict, list)) and x and data.draw(st.integers(0, 5)):
        key = data.draw(st.sampled_from(sorted(x) if isinstance(x, dict) else range(len(x))))
        x = x.copy()
        kind = data.draw(st.sampled_from(["inside"] * 4 + ["remove", "add"]))
        if kind == "inside":
            x[key] = changed_value(data, x[key])
        elif kind == "remove":
            del x[key]
        elif isinstance(x, dict):
            x[data.draw(st.sampled_from([*TEXTS, "new", "seeds"]))] = data.draw(VALUES)
        else:
            x.append(data.draw(VALUES))
        return x
    return data.draw(VALUES)


def changed_array(data: st.DataObject, x: np.ndarray) -> np.ndarray:
    kind = data.draw(st.sampled_from(["value"] * 4 + ["dtype", "shape", "rows", "order", "other"]))
    if kind == "value" and x.size:
        value, y = np.float64(data.draw(st.sampled_from([-1, 2, 5, 300, 1e30, -1e38, 0.5, np.nan, np.inf]))), x.copy()
        with np.errstate(all="ignore"):
            y.flat[data.draw(st.integers(0, x.size - 1))] = value.astype(x.dtype)
        return y
    if kind == "dtype":
        with np.errstate(all="ignore"):
            return np.real(x).astype(data.draw(st.sampled_from(DTYPES)))
    if kind == "shape":
        return data.draw(st.sampled_from([x[None], x.ravel(), x.T, x[..., None], x.ravel()[:1].reshape(()) if x.size else x]))
    if kind == "rows":
        return x[: data.draw(st.integers(0, len(x)))] if x.ndim else x
    if kind == "order":
        return np.asfortranarray(x)
    return odd_array(data)


def odd_array(data: st.DataObject, smallest: int = 0) -> np.ndarray:
    """An array of any kind of numbers and any small shape."""
    shape = data.draw(st.lists(st.integers(smallest, 9), max_size=4))
    return np.full(shape, data.draw(st.integers(-1, 3))).astype(data.draw(st.sampled_from(DTYPES[:7])))


def changed_archive(data: st.DataObject, content: bytes) -> bytes:
    """A zip file in which one record was changed. Its checksums are right."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as new:
        infos = old.infolist()
        victim = data.draw(st.sampled_from([*(info for info in infos if info.filename.endswith(".pkl")), *infos]))
        for info in infos:
            record = old.read(info)
            new.writestr(info.filename, changed_bytes(data, record) if info is victim else record)
    return out.getvalue()


def _change_json(data: st.DataObject, path: Path) -> None:
    value = changed_value(data, json.loads(path.read_text()))
    depth = data.draw(st.sampled_from([0] * 20 + [100, 100_000]))
    path.write_text("[" * depth + json.dumps(value) + "]" * depth)


def _change_csv(data: st.DataObject, path: Path) -> None:
    """The rows of a result; sometimes its JSON is changed to agree."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    row = data.draw(st.integers(0, len(rows) - 1))
    kind = data.draw(st.sampled_from(["field"] * 4 + ["remove", "repeat", "longer", "shorter"]))
    if kind == "field":
        fields = ["nan", "-inf", "1e400", "3e38", '"', "0x1", "1_0", "9" * 30, "", " 1", "\x00", *TEXTS]
        rows[row][data.draw(st.integers(0, 5))] = data.draw(st.sampled_from(fields))
    elif kind == "remove":
        del rows[row]
    elif kind == "repeat":
        rows.insert(row, rows[row])
    else:
        rows[row] = rows[row] + ["1"] if kind == "longer" else rows[row][:-1]
    content = ("\n".join(map(",".join, rows)) + "\n").encode(errors="surrogatepass")
    path.write_bytes(content)


def _change_npz(data: st.DataObject, path: Path) -> None:
    if data.draw(st.booleans()):
        path.write_bytes(changed_archive(data, path.read_bytes()))
        return
    with np.load(path) as archive:
        x = dict(archive)
    name = data.draw(st.sampled_from(sorted(x)))
    if data.draw(st.integers(0, 4)):
        x[name] = changed_array(data, x[name])
    else:
        x[data.draw(st.sampled_from(["../x", "new", sorted(x)[0] + "2"]))] = x.pop(name)
    np.savez(path, **x)


def _change_npy(data: st.DataObject, path: Path) -> None:
    np.save(path, changed_array(data, np.load(path)))


def _change_archive(data: st.DataObject, path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes((changed_archive if content[:2] == b"PK" else changed_bytes)(data, content))


def _change_hdf5(data: st.DataObject, path: Path) -> None:
    with h5py.File(path, "r+") as f:
        names: list[str] = []
        f.visititems(lambda name, x: names.append(name) if isinstance(x, h5py.Dataset) else None)
        name = data.draw(st.sampled_from(sorted(names)))
        x = f[name][()]
        kind = data.draw(st.sampled_from(["array"] * 5 + ["remove", "group", "link", "outside", "attribute", "itself"]))
        if kind == "attribute":
            places = [f, *(f[key] for key in sorted(f))]
            place = data.draw(st.sampled_from(places))
            key = data.draw(st.sampled_from([*sorted(place.attrs), "new"]))
            place.attrs[key] = data.draw(st.sampled_from([-1, 1 << 40, 1.5, "x\x1b[31m", b"\xff", np.zeros(3), 1.5j]))
            return
        del f[name]
        if kind == "array":
            f[name] = changed_array(data, x)
        elif kind == "group":
            f.create_group(name)
        elif kind == "link":
            f[name] = h5py.SoftLink("/" + sorted(names)[0])
        elif kind == "outside":
            f[name] = h5py.ExternalLink("/etc/passwd", "/x")
        elif kind == "itself":
            f[name] = f["/"]


def _change_kind(data: st.DataObject, path: Path, outside: Path) -> None:
    """Not a regular file any more."""
    path.unlink()
    kind = data.draw(st.sampled_from(["gone", "pipe", "device", "out", "around", "folder"]))
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind != "gone":
        path.symlink_to({"device": "/dev/zero", "out": outside, "around": path}[kind])
