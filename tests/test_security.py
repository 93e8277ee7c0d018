"""Files of strangers: whatever they hold, they are refused in one line, and nothing outside is read, written or filled."""

import hashlib
import io
import resource
import tempfile
import zipfile
import zlib
from math import prod
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from inspo_benchmark.core import limits, tensor_file
from inspo_benchmark.core.atomic_io import save_checked
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets.__main__ import main as datasets
from inspo_benchmark.datasets.convert import read
from inspo_benchmark.learning import saved_policy
from support import attacks, recordings

ALGORITHMS.discover(), TASKS.discover()


def one_line(capsys) -> str:
    err = capsys.readouterr().err
    assert (err.count("\n"), err[:7]) == (1, "error: "), err[-500:]
    assert err[:-1].isprintable()
    return err


@pytest.fixture
def little_memory():
    """A process that may take 2 GB more than it has: what asks for more gets a MemoryError instead of the machine's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if Path("/proc/self/statm").exists() else 0
    before = resource.getrlimit(resource.RLIMIT_AS)
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + (2 << 30), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def allocated(work) -> int:
    """Bytes by which the most memory that this process ever held has grown."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10


# --- what torch.save wrote


@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saves_is_read_as_it_was(tmp_path, zipped):
    base = torch.randn(10, 4)
    x = {
        "tensors": [base, base[2:5].T, torch.tensor(3), torch.empty(0, 5), torch.randn(3).bfloat16(), torch.tensor([True])],
        "arrays": [np.arange(6).reshape(2, 3), np.asfortranarray(np.ones((3, 4), "f4")), np.zeros((0, 3)), np.array([True])],
        "values": [1, 2.5, None, True, "ü", (1, 2, 3, 4), -5, 2**40, 10**25, float("inf")],
        7: {},
    }
    torch.save(x, tmp_path / "x", _use_new_zipfile_serialization=zipped)
    y = tensor_file.read((tmp_path / "x").read_bytes())
    assert y.keys() == x.keys()
    assert y["values"] == x["values"]
    for a, b in zip(x["tensors"], y["tensors"], strict=True):
        assert (torch.equal(a, b), a.dtype, a.stride()) == (True, b.dtype, b.stride())
    assert y["tensors"][0].untyped_storage().data_ptr() == y["tensors"][1].untyped_storage().data_ptr()
    for a, b in zip(x["arrays"], y["arrays"], strict=True):
        np.testing.assert_array_equal(a, b)
        assert (a.dtype, a.flags.f_contiguous) == (b.dtype, b.flags.f_contiguous)


@pytest.mark.parametrize("what", attacks.TORCH_FILES)
def test_a_torch_file_that_is_none(tmp_path, capsys, little_memory, what):
    """As MADT's episode and as a run's policies."""
    content = attacks.TORCH_FILES[what]
    (tmp_path / "madt").mkdir()
    (tmp_path / "madt" / "0.pkl").write_bytes(content)
    (tmp_path / "x.policies").write_bytes(hashlib.sha256(content).digest() + content)

    def refused():
        assert datasets(["convert", "madt", str(tmp_path / "madt"), str(tmp_path / "out.h5")]) == 2
        one_line(capsys)
        with pytest.raises(UserError, match="holds no usable policies"):
            saved_policy.load(tmp_path / "x.policies")

    assert allocated(refused) < 200 << 20
    assert not (tmp_path / "out.h5").exists()


@pytest.mark.parametrize(
    ("what", "x"),
    [
        ("shared lists", [[[attacks.doubled(60)] * 6]]),
        ("shared steps", [[[[0.0] * 1000] * 6] * 100_000] * 1000),
        ("the same array often", [[[np.zeros(1000)] * 6] * 100_000] * 1000),
        ("text", [[["a"] * 6]]),
        ("nested", [[[[[[[0]]]]] * 6]]),
    ],
)
def test_an_episode_of_more_numbers_than_bytes(tmp_path, little_memory, what, x):
    (tmp_path / "0.pkl").write_bytes(attacks.saved(x))
    with pytest.raises(UserError, match="not lists over agents and time") as e:
        read("madt", tmp_path)
    assert str(e.value).isprintable()


def test_policies_of_networks_that_the_file_does_not_hold(tmp_path, little_memory):
    config = {"hidden_dim": 20_000}
    x = {"algo": "inspo", "task": "3m-medium", "config": config, "seeds": [0], "params": {}, "scale": [torch.zeros(()), torch.ones(())]}
    save_checked(x, tmp_path / "x.policies")

    def refused():
        with pytest.raises(UserError, match="made by other code"):
            saved_policy.load(tmp_path / "x.policies")

    assert allocated(refused) < 200 << 20


# --- how much a file may become


def test_the_limit_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 16 << 30)
    limits.claim(tmp_path, 300 << 20, 3 << 20)
    with pytest.raises(UserError, match="400 bytes would become 300000000, more than the 268435456 allowed; INSPO_MAX"):
        limits.claim(tmp_path, 300_000_000, 400)
    monkeypatch.setenv("INSPO_MAX_BYTES", "1G")
    limits.claim(tmp_path, 300_000_000, 400)
    monkeypatch.setenv("INSPO_MAX_BYTES", "100")
    with pytest.raises(UserError, match="more than the 100 allowed"):
        limits.claim(tmp_path, 101, 101)
    monkeypatch.setenv("INSPO_MAX_BYTES", "much")
    with pytest.raises(UserError, match="write 8G, 500M, or a number of bytes"):
        limits.claim(tmp_path, 1, 1)
    monkeypatch.delenv("INSPO_MAX_BYTES")
    monkeypatch.setattr(limits, "free_memory", lambda: 1 << 20)
    with pytest.raises(UserError, match="more than the 524288 allowed"):
        limits.claim(tmp_path, 1 << 20, 1 << 20)


ZEROS = 400 << 20  # bytes


def zeros(tmp_path: Path, how: str) -> tuple[str, Path]:
    """A recording of a small file: what is in it is ZEROS bytes and more."""
    x = recordings.recording(limit=8, episodes=4)
    if how == ".npz":
        head = io.BytesIO()
        np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (4, 9, ZEROS // 144)})
        np.savez_compressed(tmp_path / "x.npz", **{key: value for key, value in x.items() if key != "state"})
        with zipfile.ZipFile(tmp_path / "x.npz", "a", zipfile.ZIP_DEFLATED) as archive, archive.open("state.npy", "w") as file:
            file.write(head.getvalue())
            for _ in range(ZEROS >> 20):
                file.write(bytes(1 << 20))
        return "pymarl", tmp_path / "x.npz"
    shapes = {key: (1 + ZEROS // 72, *value.shape[1:]) for key, value in x.items()}
    if how == "sparse .npy":
        (tmp_path / "x").mkdir()
        for key, shape in shapes.items():
            with open(tmp_path / "x" / f"{key}.npy", "wb") as file:
                np.lib.format.write_array_header_1_0(file, {"descr": x[key].dtype.str, "fortran_order": False, "shape": shape})
                file.truncate(file.tell() + prod(shape) * x[key].itemsize)
        return "pymarl", tmp_path / "x"
    with h5py.File(tmp_path / "x.h5", "w") as f:
        for key, value in x.items():
            rows = 1 << 19 if how == ".h5" else shapes[key][0]
            if how == ".h5" or key == "filled":
                chunk = (rows, *value.shape[1:]) if how == ".h5" else (shapes[key][0], *value.shape[1:])
                shape = (rows * 16, *value.shape[1:]) if how == ".h5" else value.shape
                thing = f.create_dataset(key, shape, value.dtype, chunks=chunk, maxshape=(None, *shape[1:]), compression="gzip")
                packed = zlib.compress(bytes(prod(chunk) * value.itemsize), 1)
                for row in range(0, shape[0], rows):
                    thing.id.write_direct_chunk((row,) + (0,) * (value.ndim - 1), packed)
            else:
                f[key] = value
    return "pymarl", tmp_path / "x.h5"


@pytest.mark.parametrize("how", [".npz", "sparse .npy", ".h5", "a chunk of .h5"])
def test_a_small_recording_of_many_bytes(tmp_path, monkeypatch, how):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", None)
    layout, path = zeros(tmp_path, how)

    def refused():
        with pytest.raises(UserError, match="INSPO_MAX_BYTES=8G allows more"):
            read(layout, path)

    assert allocated(refused) < 100 << 20
    assert not list((tmp_path / "tmp").iterdir())
