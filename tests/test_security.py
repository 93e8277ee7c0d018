"""Files of strangers: whatever they hold, they are refused in one line, and nothing outside is read, written or filled."""

import copy
import csv
import ctypes
import dataclasses
import functools
import hashlib
import io
import json
import os
import re
import resource
import shutil
import struct
import tempfile
import zipfile
import zlib
from contextlib import suppress
from math import prod
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from inspo_benchmark import run_benchmark
from inspo_benchmark.core import limits, tensor_file
from inspo_benchmark.core.atomic_io import DamagedFile, atomic_write, load_checked, save_checked
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, NAME, TASKS
from inspo_benchmark.datasets import catalog, format
from inspo_benchmark.datasets.__main__ import main as datasets
from inspo_benchmark.datasets.catalog import expected_sha256
from inspo_benchmark.datasets.dataset import join
from inspo_benchmark.datasets.layouts import LAYOUTS
from inspo_benchmark.learning import saved_policy
from inspo_benchmark.plots import dataset_cards, export, figures, load, report, tables
from inspo_benchmark.running.planning import plan
from inspo_benchmark.running.provenance import changed_since
from inspo_benchmark.running.results import read_results, seconds_per_update, seeds_by_group
from inspo_benchmark.running.settings import settings
from inspo_benchmark.running.status import scan
from support import attacks, recordings
from support.datasets import read, violations
from support.episodes import toy
from support.results import write

ALGORITHMS.discover(), LAYOUTS.discover(), TASKS.discover()


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


def peak() -> int:
    """The most memory that this process held, in bytes; on Linux since `allocated` began."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s+(\d+)", status.read_text())[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def allocated(work) -> int:
    """Bytes by which the memory of this process grew at its peak during the work."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)  # else the work may take, unseen, what training keeps of freed memory
        Path("/proc/self/clear_refs").write_text("5")  # the peak is what is held now, not that of an earlier test
    before = peak()
    work()
    return peak() - before


def test_memory_is_measured():
    assert allocated(lambda: np.ones(25 << 20)) > 150 << 20
    assert allocated(lambda: np.ones(25 << 20)) > 150 << 20


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


def policies_of_bc(path: Path, **changes) -> None:
    algorithm = ALGORITHMS["bc"](settings("bc", "xor-ab", {"hidden_dim": 4}), TASKS["xor-ab"].spec)
    x = {"algo": "bc", "task": "xor-ab", "config": dataclasses.asdict(algorithm.cfg), "seeds": [0]}
    x |= {"params": algorithm.acting_params(algorithm.init((0,))), "scale": [torch.zeros(()), torch.ones(())]}
    save_checked(x | changes, path)


@pytest.mark.parametrize(
    "changes",
    [
        *({"params": dtype} for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.int64)),
        {"scale": [torch.zeros((), dtype=torch.float64), torch.ones(())]},
        {"scale": [torch.zeros(())]},
        {"seeds": []},
    ],
)
def test_policies_of_other_types_than_networks_have(tmp_path, changes):
    policies_of_bc(tmp_path / "x.policies")
    sound = saved_policy.load(tmp_path / "x.policies")
    if "params" in changes:
        changes = {"params": {name: p.to(changes["params"]) for name, p in sound.params.items()}}
    policies_of_bc(tmp_path / "x.policies", **changes)
    with pytest.raises(UserError, match="holds no usable policies"):
        saved_policy.load(tmp_path / "x.policies")


def test_a_seed_of_saved_policies_has_a_length(tmp_path):
    policies_of_bc(tmp_path / "x.policies")
    assert saved_policy.load_greedy_policy(f"{tmp_path / 'x.policies'}:0", "xor")
    assert saved_policy.load_greedy_policy(f"{tmp_path / 'x.policies'}:{'9' * 5000}", "xor") is None


def test_a_damaged_file_of_tensors_is_described_in_printable_words(tmp_path):
    content = attacks.archive(attacks.call("collections Ordered\x1bDict"))
    (tmp_path / "x").write_bytes(hashlib.sha256(content).digest() + content)
    with pytest.raises(DamagedFile) as e:
        load_checked(tmp_path / "x")
    assert "Ordered" in str(e.value)
    assert str(e.value).isprintable()


# --- datasets that are looked at but not loaded


ATTRIBUTES = {
    "a terminal's commands": dict(source="x\x1b[2J"),
    "an array": dict(content_sha256=np.zeros(5)),
    "bytes": dict(content_sha256=np.bytes_(b"\xff")),
    "a complex number": dict(content_sha256=1j),
    "a number": dict(source=5),
    "nothing": dict(task=h5py.Empty("f")),
    "a build without statistics": dict(source="built", content_sha256="0" * 64, return_mean="x", steps="y"),
}


@pytest.mark.parametrize("what", [*ATTRIBUTES, "a pipe"])
def test_a_dataset_is_listed_whatever_it_says(tmp_path, capsys, what):
    """Listings, dry runs and exports read its attributes alone."""
    path = tmp_path / "xor-ab.h5"
    shutil.copy(catalog.fetch(TASKS["xor-ab"]), path)
    if what == "a pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        with h5py.File(path, "r+") as f:
            f.attrs.update(ATTRIBUTES[what])
    assert (format.peek(path), catalog.expected_sha256(TASKS["xor-ab"], tmp_path)) == ({}, "")
    assert catalog.status(TASKS["xor-ab"], tmp_path).startswith("damaged: python -m datasets validate")
    for layout in ("pymarl", "minari"):
        assert datasets(["export", layout, str(path), str(tmp_path / "exported")]) == 2
        one_line(capsys)


def test_what_dataset_cards_say_is_text():
    assert dataset_cards.line(["a|b", "<script>"]) == r"| a\|b | &lt;script> |"
    for rates in ("0.25, 0.50", "x", 5):
        about = {"behavior_greedy_win_rate": 0.3, "behavior_greedy_win_rates": rates}
        assert dataset_cards.greedy(about) == ("30.0% (25% .. 50%)" if "," in str(rates) else "30.0%")


# --- how much a file may become


def test_the_limit_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "free_memory", lambda: 16 << 30)
    limits.check_size(tmp_path, 300 << 20, 3 << 20)
    with pytest.raises(UserError, match="400 bytes would become 300000000, more than the limit of 268435456; INSPO_MAX"):
        limits.check_size(tmp_path, 300_000_000, 400)
    monkeypatch.setenv("INSPO_MAX_BYTES", "1G")
    limits.check_size(tmp_path, 300_000_000, 400)
    monkeypatch.setenv("INSPO_MAX_BYTES", "100")
    with pytest.raises(UserError, match="more than the limit of 100"):
        limits.check_size(tmp_path, 101, 101)
    monkeypatch.setenv("INSPO_MAX_BYTES", "much")
    with pytest.raises(UserError, match="write 8G, 500M, or a number of bytes"):
        limits.check_size(tmp_path, 1, 1)
    monkeypatch.delenv("INSPO_MAX_BYTES")
    monkeypatch.setattr(limits, "free_memory", lambda: 1 << 20)
    with pytest.raises(UserError, match="more than the limit of 524288"):
        limits.check_size(tmp_path, 1 << 20, 1 << 20)


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
        with pytest.raises(UserError, match="INSPO_MAX_BYTES=8G raises the limit"):
            read(layout, path)

    assert allocated(refused) < 100 << 20
    assert not list((tmp_path / "tmp").iterdir())


@pytest.mark.parametrize("how", ["deflated", "with a checksum", "twice"])
def test_a_chunk_of_more_than_it_declares(tmp_path, how, monkeypatch):
    """HDF5 unpacks a chunk to its end, whatever its array declares: of a dataset and of a recording."""
    monkeypatch.setattr(format, "meta_if_unchanged", lambda path, task=None: None)
    content = zlib.compress(bytes(ZEROS), 9)
    if how == "twice":
        content = zlib.compress(content, 9)

    def packed(f: h5py.File, name: str, x: np.ndarray) -> None:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(x.shape)
        for _ in range(1 + (how == "twice")):
            properties.set_deflate(1)
        if how == "with a checksum":
            properties.set_fletcher32()
        kind, space = h5py.h5t.py_create(x.dtype), h5py.h5s.create_simple(x.shape)
        h5py.h5d.create(f[name.rpartition("/")[0] or "/"].id, name.rpartition("/")[2].encode(), kind, space, properties)
        f[name].id.write_direct_chunk((0,) * x.ndim, content)

    path = catalog.fetch(TASKS["xor-ab"], tmp_path)
    with h5py.File(path, "r+") as f:
        rewards = f["steps/rewards"][:]
        del f["steps/rewards"]
        packed(f, "steps/rewards", rewards)
    recording = recordings.write(tmp_path, recordings.recording(limit=8, episodes=4), ".h5")
    with h5py.File(recording, "r+") as f:
        reward = f["reward"][:]
        del f["reward"]
        packed(f, "reward", reward)
    fault = "compressed twice" if how == "twice" else "a chunk of more than the [0-9]+ bytes that it declares"

    def refused():
        with pytest.raises(UserError, match=f"steps/rewards: {fault}"):
            format.load(path, TASKS["xor-ab"])
        with pytest.raises(UserError, match=f"reward: {fault}"):
            read("pymarl", recording)

    assert allocated(refused) < 100 << 20


def test_chunks_that_cannot_be_compressed(tmp_path, monkeypatch):
    """HDF5 stores them as they are, and a checksum after them."""
    monkeypatch.setattr(format, "MIN_LIMIT", 0)
    x = np.random.default_rng(0).integers(0, 256, (1000, 8)).astype("u1")
    with h5py.File(tmp_path / "x.h5", "w") as f:
        for n, options in enumerate(({}, {"shuffle": True, "fletcher32": True}, {"chunks": (7, 3), "fletcher32": True})):
            for kind in ("u1", "f4"):
                thing = f.create_dataset(f"{n}{kind}", data=x.astype(kind), compression="gzip", **options)
                assert format.chunk_fault(thing) == ""
        assert format.chunk_fault(f.create_dataset("plain", data=x)) == ""


def test_two_kinds_of_compression_multiply(tmp_path):
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((10,))
    properties.set_filter(h5py.h5z.FILTER_LZF)
    properties.set_deflate(1)
    with h5py.File(tmp_path / "x.h5", "w") as f:
        h5py.h5d.create(f.id, b"x", h5py.h5t.NATIVE_INT8, h5py.h5s.create_simple((10,)), properties)
        assert format.chunk_fault(f["x"]) == "compressed twice"


def test_arrays_without_columns_declare_no_rows(tmp_path):
    (tmp_path / "x").mkdir()
    for key, shape in {"observations": (10**8, 0, 5), "actions": (10**8, 0, 2), "rewards": (10**8, 0), "terminals": (10**8, 0)}.items():
        with open(tmp_path / "x" / f"{key}.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})

    def refused():
        with pytest.raises(UserError, match=r"an array of shape .* holds nothing"):
            read("flat", tmp_path / "x")

    assert allocated(refused) < 50 << 20


def test_an_archive_that_numpy_does_not_write(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("obs.npy", bytes(100))
    with pytest.raises(UserError, match=r"obs\.npy is compressed in a way that numpy does not write"):
        read("pymarl", tmp_path / "x.npz")


@pytest.mark.parametrize("opcode", [b"]", b"}", b")"])
def test_a_pickle_of_many_empty_objects(tmp_path, monkeypatch, opcode):
    """An empty dictionary is one byte of a file and 80 of the memory."""
    monkeypatch.setattr(limits, "free_memory", lambda: 256 << 20)
    (tmp_path / "0.pkl").write_bytes(attacks.archive(b"(" + (4 << 20) * opcode + b"l"))
    with pytest.raises(UserError, match="more objects than fit into the memory"):
        read("madt", tmp_path)


def test_memory_is_that_of_the_control_group(tmp_path, monkeypatch):
    """Of a container or a job: versions 2 and 1. Files of the page cache count as free."""
    find = limits.limited_groups.__wrapped__

    def left(root: Path, own: Path) -> list[int]:
        monkeypatch.setattr(limits, "limited_groups", lambda: find(root, own))
        return [*limits.control_group_memory()]

    two, one = tmp_path / "job" / "step", tmp_path / "memory"
    for folder in (two, one):
        folder.mkdir(parents=True)
    own = tmp_path / "own"
    own.write_text("0::/job/step\n")
    assert left(tmp_path, own) == []
    for folder, most in ((two, "max"), (two.parent, "1000")):
        (folder / "memory.max").write_text(f"{most}\n")
        (folder / "memory.current").write_text("700\n")
        (folder / "memory.stat").write_text("anon 1\ninactive_file 200\n")
    assert left(tmp_path, own) == [500]
    (two / "memory.max").write_text("600\n")
    assert left(tmp_path, own) == [100, 500]
    own.write_text("4:memory:/hidden\n2:cpu:/\n")
    (one / "memory.limit_in_bytes").write_text("90\n")
    (one / "memory.usage_in_bytes").write_text("100\n")
    (one / "memory.stat").write_text("inactive_file 1\ntotal_inactive_file 2\n")
    assert left(tmp_path, own) == [0]
    assert left(tmp_path, tmp_path / "none") == []
    assert limits.free_memory() > 0


@pytest.mark.parametrize("layout", ["pymarl", "madt", "minari", "vault"])
@pytest.mark.parametrize("what", ["a link", "a link to a folder", "a pipe"])
def test_only_a_recordings_own_files_are_read(tmp_path, capsys, layout, what):
    """Otherwise a dataset could hold numbers from the user's own files."""
    folder, outside = tmp_path / "recording", tmp_path / "outside"
    (folder / "inner").mkdir(parents=True)
    outside.mkdir() if "folder" in what else outside.write_bytes(b"mine")
    path = folder / "inner" / "reward.npy"
    os.mkfifo(path) if what == "a pipe" else path.symlink_to(outside)
    assert datasets(["convert", layout, str(folder), str(tmp_path / "x.h5")]) == 2
    assert f"{path}: a link, a pipe or a device, which is not read" in one_line(capsys)


@pytest.mark.parametrize("member", ["episode_1", "episode_1/rewards", "episode_1/observations/b_2"])
@pytest.mark.parametrize("link", [h5py.ExternalLink, lambda _, path: h5py.SoftLink(path)], ids=["external", "soft"])
def test_links_within_an_episodes_file_are_not_followed(tmp_path, member, link):
    """Minari's episodes are groups of an HDF5 file, which may name what lies in another file."""
    outside, path = (recordings.minari(tmp_path / name) / "data" / "main_data.hdf5" for name in ("outside", "recording"))
    with h5py.File(path, "r+") as f:
        del f[member]
        f[member] = link(str(outside), member.replace("_1", "_0", 1))
    if member == "episode_1":
        assert read("minari", tmp_path / "recording").lengths.tolist() == [2]
    else:
        with pytest.raises(UserError, match=member.rpartition("/")[2]):
            read("minari", tmp_path / "recording")


def name_one_text_everywhere(path: Path) -> None:
    """All texts of 201 letters in the attributes of an HDF5 file become the first of 60,000 letters: their references are replaced."""
    content = path.read_bytes()
    long, short = (re.compile(re.escape(struct.pack("<I", n)) + rb"....\0{4}..\0\0", re.DOTALL) for n in (60_000, 201))
    path.write_bytes(short.sub(lambda _: long.search(content)[0], content))


TEXTS = ["Q" * 60_000, *(f"{i:0201}" for i in range(3900))]  # 234 MB, if all are the first


@pytest.mark.parametrize("what", ["an array", "many"])
def test_attributes_that_are_larger_than_their_file(tmp_path, what):
    """A reference to a text takes 16 bytes."""
    with h5py.File(tmp_path / "x.h5", "w") as f:
        f.attrs.update({str(i): text for i, text in enumerate(TEXTS)} if what == "many" else {"x": TEXTS})
    name_one_text_everywhere(tmp_path / "x.h5")

    def refused():
        assert format.peek(tmp_path / "x.h5") == {}
        assert violations(tmp_path / "x.h5")

    assert allocated(refused) < 100 << 20


def test_a_seed_that_is_larger_than_its_file(tmp_path):
    path = recordings.minari(tmp_path / "x") / "data" / "main_data.hdf5"
    with h5py.File(path, "r+") as f:
        f["episode_0"].attrs["seed"] = TEXTS
    name_one_text_everywhere(path)

    def unknown():
        assert read("minari", tmp_path / "x").seed.tolist() == [-1, 8]

    assert allocated(unknown) < 100 << 20


@pytest.mark.parametrize("name", ["other", "infos/legal"])
def test_an_array_with_many_names(tmp_path, monkeypatch, name):
    """An episode of Minari is read at once."""
    monkeypatch.setattr(limits, "MIN_LIMIT", 100 << 20)
    agents = [f"a_{i}" for i in range(60)]
    space = {agent: {"type": "Discrete", "n": 3} for agent in agents}
    path = recordings.minari(tmp_path / "x", space) / "data" / "main_data.hdf5"
    with h5py.File(path, "r+") as f:
        for e, n in enumerate((2, 1)):
            for agent in agents:
                f[f"episode_{e}/observations/{agent}"], f[f"episode_{e}/actions/{agent}"] = np.zeros((n + 1, 1)), np.zeros(n, int)
            del f[f"episode_{e}/actions/b_2"], f[f"episode_{e}/actions/b_10"]
        zeros = f.create_dataset("episode_0/zeros", (3, 10 << 20), "u1", chunks=(1, 1 << 20), compression="gzip")
        zeros[:] = 0
        for agent in agents:
            f[f"episode_0/{name}/{agent}"] = zeros

    def done():
        if name == "other":
            assert read("minari", tmp_path / "x").episodes == 2
        else:
            with pytest.raises(UserError, match="INSPO_MAX_BYTES"):
                read("minari", tmp_path / "x")

    assert allocated(done) < 100 << 20


@pytest.mark.parametrize("member", ["", "/observations/b_2"])
def test_episodes_with_the_same_arrays(tmp_path, member):
    """A name of a few bytes would be an episode of any size."""
    with h5py.File(recordings.minari(tmp_path / "x") / "data" / "main_data.hdf5", "r+") as f:
        del f[f"episode_1{member}"]
        f[f"episode_1{member}"] = f[f"episode_0{member}"]
    with pytest.raises(UserError, match="is an array of episode_0, too"):
        read("minari", tmp_path / "x")


@pytest.mark.parametrize("limit", [10**5, 10**9])
def test_an_export_of_episodes_that_may_be_long(tmp_path, monkeypatch, limit):
    """They are padded to the limit, which is any number that a file has."""
    monkeypatch.setattr(limits, "MIN_LIMIT", 100 << 20)
    task = toy()
    task = dataclasses.replace(task, spec=task.spec._replace(episode_limit=limit))
    lengths = np.full(8, 2)
    rows = {"obs": np.zeros((24, 2, 5)), "state": np.zeros((24, 4)), "actions": np.zeros((16, 2), int), "rewards": np.zeros(16)}
    format.save(join(task, lengths, **rows, terminated=lengths > 0), tmp_path / "x.h5")

    def export():
        if limit == 10**5:
            LAYOUTS["pymarl"].write(tmp_path / "x.h5", tmp_path / "y.h5")
        else:
            with pytest.raises(UserError, match="INSPO_MAX_BYTES"):
                LAYOUTS["pymarl"].write(tmp_path / "x.h5", tmp_path / "y.h5")

    assert allocated(export) < 80 << 20


def test_a_recording_may_be_reached_by_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(recordings.write(tmp_path / "disk", recordings.recording(limit=8, episodes=4), ""))
    assert read("pymarl", tmp_path / "link").episodes == 4


# --- results folders


COMMANDS = {
    "status": lambda out: run_benchmark.main(["--status", "--out", str(out)]),
    "clean": lambda out: run_benchmark.main(["--clean", "--dry-run", "--out", str(out)]),
    "dry run": lambda out: run_benchmark.main(["--dry-run", "--algo", "bc", "--env", "xor-ab", "--out", str(out)]),
    "tables": lambda out: tables.main(["--draft", "--out", str(out)]),
    "figures": lambda out: figures.main(["--draft", "--out", str(out)]),
    "report": lambda out: report.main(["--out", str(out)]),
    "TensorBoard": lambda out: export.main(["tensorboard", str(out / "events"), "--out", str(out)]),
    "marl-eval": lambda out: export.main(["marl-eval", str(out / "marl.json"), "--out", str(out)]),
}


def result(out: Path, algo: str = "bc", key: str = "k", **about) -> Path:
    """A result that is not stale today."""
    task, config = TASKS["xor-ab"], dataclasses.asdict(settings(algo, "xor-ab", {"num_updates": 1000}))
    whole = dict(
        group="abc123abc123",
        code={"revision": "0" * 40, "dirty": False},
        wall_seconds=1.0,
        config=config,
        overrides={"num_updates": 1000},
        evaluation=task.evaluation,
        data={"sha256": expected_sha256(task), "return_mean": 0.5},
    )
    return write(out, algo, "xor-ab", key=key, **(whole | about))


def rename(path: Path, algo: str, task: str) -> None:
    """Give a result another algorithm and task, in its JSON and in its rows, but not in its path."""
    about = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(about | {"algo": algo, "task": task}))
    path.write_text(path.read_text().replace("bc,xor-ab,", f"{algo},{task},"))


def record(out: Path, name: str = "xor-ab-1", **about) -> Path:
    """An experiment that failed."""
    path = out / "unfinished" / "bc" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = json.loads(result(out, key="of-record").with_suffix(".json").read_text())
    path.write_text(json.dumps(metadata | {"seeds": [7], "reason": "broken", "again": True} | about))
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_revision_is_no_option_of_git(tmp_path, capsys):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    result(tmp_path / "out", code={"revision": f"--output={victim}", "dirty": False})
    assert COMMANDS["status"](tmp_path / "out") == 2
    assert "code.revision is '--output=" in one_line(capsys)
    assert changed_since(f"--output={victim}", ["core"]) == []
    assert victim.read_text() == "mine"
    result(tmp_path / "fine")
    assert COMMANDS["status"](tmp_path / "fine") == 0
    assert "1 finished" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("algo", "task"),
    [
        ("bc", "../../../escaped"),
        ("bc", "{tmp}/escaped"),
        ("../../../escaped", "xor-ab"),
        ("{tmp}/escaped", "xor-ab"),
        ("bc", "a\x1b[31m"),
        ("", ""),
    ],
)
def test_a_name_is_no_path(tmp_path, capsys, command, algo, task):
    out = tmp_path / "a" / "b" / "out"
    rename(result(out), algo.format(tmp=tmp_path), task.format(tmp=tmp_path))
    before = files(tmp_path)
    assert COMMANDS[command](out) == 2
    assert "not a name" in one_line(capsys)
    assert files(tmp_path).items() >= before.items()
    assert not list(tmp_path.glob("escaped*"))
    assert all(path.startswith("a/b/out") for path in files(tmp_path))


def test_names_are_what_registries_take():
    with pytest.raises(UserError, match="name for algorithms"):
        ALGORITHMS.register("../x")
    assert all(NAME.fullmatch(name) for name in [*ALGORITHMS, *TASKS])


WRONG = [
    None,
    True,
    -1,
    0,
    1.5,
    10**400,
    float("nan"),
    float("inf"),
    "",
    "../x",
    "x\x1b[31m",
    "y" * 20_000,
    [],
    [-1],
    ["x"],
    [1, 1],
    [2**70],
    {},
    {"x": {}},
]


def places(x, path=()):
    """The paths of all values in a JSON."""
    yield path
    for key in x if isinstance(x, dict) else range(len(x)) if isinstance(x, list) else ():
        yield from places(x[key], (*path, key))


@pytest.mark.parametrize("wrong", WRONG, ids=lambda x: ascii(x)[:20])
def test_every_value_of_a_json_may_be_of_any_type(tmp_path, wrong):
    """What is read is refused in a line that names the file, or it is sound enough for everything that follows."""
    path = result(tmp_path)
    whole = json.loads(path.with_suffix(".json").read_text())
    refused = 0
    for place in places(whole):
        about = copy.deepcopy(whole)
        if place:
            thing = functools.reduce(lambda x, key: x[key], place[:-1], about)
            thing[place[-1]] = wrong
        else:
            about = wrong
        path.with_suffix(".json").write_text(json.dumps(about))
        try:
            said = ""
            scan(tmp_path).text(tmp_path)
            seeds_by_group(results := [metadata for _, metadata in read_results(tmp_path)]), seconds_per_update(results)
            load.read(tmp_path)
        except UserError as e:
            said = str(e)
        assert not said or (said.isprintable() and str(path.with_suffix("")) in said and len(said) < 1000), said
        refused += bool(said)
    assert refused >= 10


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("what", ["[" * 100_000, '{"versions":' * 100_000, '{"x": ' * 900 + "1" + "}" * 900, "[]", "1", "\xff", "{", ""])
def test_a_json_that_is_no_table(tmp_path, capsys, command, what):
    result(tmp_path).with_suffix(".json").write_bytes(what.encode("latin1"))
    record(tmp_path).write_bytes(what.encode("latin1"))
    assert COMMANDS[command](tmp_path) == 2
    assert "is malformed" in one_line(capsys)


def deeper(out: Path, levels: int) -> None:
    path = result(out).with_suffix(".json")
    path.write_text(path.read_text()[:-1] + ', "more": ' + '{"x": ' * levels + "1" + "}" * levels + "}")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_json_within_a_json(tmp_path, capsys, command):
    deeper(tmp_path, 500)
    assert COMMANDS[command](tmp_path) == 2
    assert "neither a known field nor a plain value" in one_line(capsys)


ODD = {
    "a pipe": lambda path, outside: os.mkfifo(path),
    "a device": lambda path, outside: path.symlink_to("/dev/zero"),
    "a link out": lambda path, outside: path.symlink_to(outside),
    "a link around": lambda path, outside: path.symlink_to(path),
    "a folder": lambda path, outside: path.mkdir(),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("what", ODD)
@pytest.mark.parametrize("file", ["runs/bc/xor-ab-k.json", "runs/bc/xor-ab-k.csv", "unfinished/bc/xor-ab-1.json", "logs/bc/xor-ab-1.log"])
def test_only_a_folders_own_files_are_opened(tmp_path, capsys, command, what, file):
    out, outside = tmp_path / "out", tmp_path / "outside"
    result(out), record(out)
    outside.write_text("a secret")
    (out / "logs" / "bc").mkdir(parents=True)
    path = out / file
    path.unlink(missing_ok=True)
    ODD[what](path, outside)
    code = COMMANDS[command](out)
    said = capsys.readouterr()
    assert code == (2 if said.err else 0)
    assert said.err.count("\n") == (1 if code else 0)
    assert not any(b"a secret" in content for name, content in files(out).items() if not (out / name).is_symlink())
    if what not in ("a folder", "a device") or ("runs" in file and command not in ("status", "clean", "dry run")):
        assert code == 2


LINKS = [
    "runs",
    "runs/bc",
    "runs/link",
    "runs/bc/.xor-ab-abc123abc123.lock",
    "unfinished",
    "logs",
    "logs/bc",
    "logs/bc/xor-ab-1.log",
    "stale",
    "tables",
    "figures",
    "tensorboard/xor-ab/bc",
    "wandb",
]
START = ["--algo", "bc", "--env", "xor-ab", "--seeds", "1", "--set", "num_updates=40"]


@pytest.mark.parametrize("command", ["status", "clean", "tables", "marl-eval", "train"])
@pytest.mark.parametrize("where", LINKS)
def test_no_link_leads_out_of_a_results_folder(tmp_path, capsys, command, where):
    """Neither reading nor writing leaves the folder, and the message names the link."""
    out, outside = tmp_path / "out", tmp_path / "outside"
    result(out), record(out)
    link = out / where
    if (out / where).exists():
        shutil.move(link, outside)
    elif link.suffix:
        outside.write_text("mine")
    else:
        outside.mkdir()
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    before = files(tmp_path)
    assert (COMMANDS[command](out) if command in COMMANDS else run_benchmark.main([*START, "--out", str(out)])) == 2
    assert f"{link} is a symbolic link: only the results folder itself may be one" in one_line(capsys)
    assert files(tmp_path) == before


def test_settings_of_weights_and_biases_are_not_a_strangers(tmp_path, capsys):
    """A file that `wandb` reads where it runs could name another server."""
    result(tmp_path)
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "settings").write_text("[default]\nbase_url = http://127.0.0.1:9\n")
    for command in ("status", "tables"):
        assert COMMANDS[command](tmp_path) == 2
        assert "could name a server to which your key" in one_line(capsys)


@pytest.mark.parametrize("command", ["tables", "figures", "report", "marl-eval"])
def test_more_seeds_than_fit_into_memory(tmp_path, capsys, command, monkeypatch):
    """A JSON of 4 MB can name 100,000 seeds, whose bootstrap took 8 GB."""
    monkeypatch.setattr(limits, "MIN_LIMIT", 1 << 20)
    result(tmp_path)
    assert COMMANDS[command](tmp_path) == 0
    capsys.readouterr()
    path = result(tmp_path)
    path.with_suffix(".json").write_text(json.dumps(json.loads(path.with_suffix(".json").read_text()) | {"seeds": list(range(5000))}))
    lines = [f"bc,xor-ab,{seed},1000,return,0.5\n" for seed in range(5000)]
    path.write_text("".join(["algo,task,seed,step,metric,value\n", *lines]))

    def refused():
        assert COMMANDS[command](tmp_path) == 2
        assert "INSPO_MAX_BYTES" in one_line(capsys)

    assert allocated(refused) < 200 << 20


def test_a_setting_of_many_letters_has_a_small_figure(tmp_path, capsys):
    result(tmp_path, overrides={f"x{k}": "y" * 100 for k in range(900)})

    def drawn():
        assert COMMANDS["figures"](tmp_path) == 0

    assert allocated(drawn) < 100 << 20


def test_a_figure_of_too_many_methods_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(figures, "MAX_HEIGHT", 0.1)
    result(tmp_path)
    for command in ("figures", "report"):
        assert COMMANDS[command](tmp_path) == 2
        assert "too many methods or variants" in one_line(capsys)


@pytest.mark.parametrize("seconds", [5e-324, 1e-10, -1, 1e301])
def test_a_training_takes_time(tmp_path, capsys, seconds):
    result(tmp_path, wall_seconds=seconds)
    for command in ("tables", "report", "dry run"):
        assert COMMANDS[command](tmp_path) == 2
        assert "wall_seconds is" in one_line(capsys)


DAMAGED_RESULTS = {
    "no data": lambda about: about.pop("data"),
    "no return of the data": lambda about: about["data"].pop("return_mean"),
    "no hash": lambda about: about["data"].pop("sha256"),
    "no overrides": lambda about: about.pop("overrides"),
    "no rows": b"algo,task,seed,step,metric,value\n",
    "nothing": b"",
    "a long field": b"algo,task,seed,step,metric,value\nbc,xor-ab,0,1000,return," + b"1" * 200_000 + b"\n",
    "other columns": b"a,b\n1,2\n",
}


@pytest.mark.parametrize("what", DAMAGED_RESULTS)
@pytest.mark.parametrize("algo", ["bc", "inspo"])
def test_a_finished_result_that_is_damaged(tmp_path, capsys, algo, what):
    """A sweep that has nothing left to train describes its results."""
    command = ["--algo", "bc", "inspo", "--env", "xor-ab", "--seeds", "5", "--set", "num_updates=1000", "--out", str(tmp_path)]
    planned = plan(["bc", "inspo"], ["xor-ab"], (0, 1, 2, 3, 4), ["num_updates=1000"], tmp_path, dry_run=True)
    damaged = {x.algo: result(tmp_path, x.algo, key=x.key, group=x.group) for x in planned}[algo]
    assert run_benchmark.main(command) == 0
    assert len(re.findall(r"on xor-ab, seeds 0-4.*: return [\d.]+ \(data 0.5", capsys.readouterr().out)) == 2
    if callable(damage := DAMAGED_RESULTS[what]):
        about = json.loads(damaged.with_suffix(".json").read_text())
        damage(about)
        damaged.with_suffix(".json").write_text(json.dumps(about))
    else:
        damaged.write_bytes(damage)
    assert run_benchmark.main(command) == 2
    assert str(damaged.with_suffix("")) in one_line(capsys)


@pytest.mark.parametrize("preset", ["", None])
def test_a_result_without_a_preset_or_a_win_rate(tmp_path, capsys, preset):
    command = ["--algo", "bc", "--env", "xor-ab", "--seeds", "5", "--set", "num_updates=1000", "--out", str(tmp_path)]
    [experiment] = plan(["bc"], ["xor-ab"], (0, 1, 2, 3, 4), ["num_updates=1000"], tmp_path, dry_run=True)
    path = result(tmp_path, key=experiment.key, group=experiment.group, **{} if preset is None else {"preset": preset})
    path.write_text(path.read_text() + "".join(f"bc,xor-ab,{seed},1000,win_rate,0.5\n" for seed in range(5)))
    assert run_benchmark.main(command) == 0
    assert "win rate 50.0 % (data --)" in capsys.readouterr().out


def test_names_in_a_results_folder_can_be_printed(tmp_path, capsys):
    path = result(tmp_path)
    path.rename(path.with_name("x\x1b[31m\n.csv"))
    for command in ("status", "clean", "tables"):
        assert COMMANDS[command](tmp_path) == 2
        assert r"a file whose name is 'x\x1b[31m\n.csv'" in one_line(capsys)


@pytest.mark.parametrize("reason", ["\ud800", "a\x1b[31m\nb\u202e"])
def test_reasons_of_failures_can_be_printed(tmp_path, capsys, reason):
    record(tmp_path, reason=reason)
    for command in ("status", "report"):
        assert COMMANDS[command](tmp_path) == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.split("\n"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_results_folder_may_be_a_link(tmp_path, capsys, command):
    """To a larger disk, for example."""
    result(tmp_path / "disk")
    (tmp_path / "results").symlink_to(tmp_path / "disk")
    assert COMMANDS[command](tmp_path / "results") == 0


def test_an_edited_csv_is_not_what_was_written(tmp_path):
    path = result(tmp_path)
    about = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(about | {"csv_sha256": hashlib.sha256(path.read_bytes()).hexdigest()}))
    assert len(load.read(tmp_path))
    path.write_text(path.read_text().replace("return,0.", "return,1.", 1))
    with pytest.raises(UserError, match="its JSON holds another sha256"):
        load.read(tmp_path)


@pytest.mark.parametrize("value", ["3e38", "-1e31", "1e400", "nan"])
def test_a_return_has_a_size(tmp_path, value):
    path = result(tmp_path)
    path.write_text(path.read_text().replace("return,", f"return,{value}\nbc,xor-ab,0,0,other,", 1))
    with pytest.raises(UserError, match="at seed 0, step 0"):
        load.read(tmp_path)


@pytest.mark.parametrize("value", [3e38, -2e15])
def test_a_reward_has_a_size(tmp_path, value):
    x = recordings.recording(limit=8, episodes=4)
    x["reward"][1, 2] = value
    with pytest.raises(UserError, match=r"steps/rewards: a number beyond 1e\+15, 1 times, first at step 10 of the data, in episode 1"):
        read("pymarl", recordings.write(tmp_path, x))


@pytest.mark.parametrize("text", ["=cmd|' /C calc'!A0", "+1+1", "-1+1", "@SUM(A1)", "<script>alert(1)</script>", "a|b", "a\nb"])
def test_what_tables_say_is_text(tmp_path, capsys, text):
    result(tmp_path, overrides={}, config={"num_updates": 1000, "alpha": text, "beta": -1.5, "gamma": "-2"}, backend=text)
    assert COMMANDS["tables"](tmp_path) == 0
    capsys.readouterr()
    markdown = "\n".join(path.read_text() for path in (tmp_path / "tables").glob("*.md"))
    assert "<script" not in markdown
    assert len({line.replace("\\|", "").count("|") for line in markdown.splitlines() if line.startswith("| alpha")}) <= 1
    tables_ = [csv.reader(io.StringIO(path.read_text(), newline="")) for path in (tmp_path / "tables").glob("*.csv")]
    cells = [cell for rows in tables_ for row in rows for cell in row]
    assert not [cell for cell in cells if re.match(r"[=+@]|-[^\d.]|-\d+[^\d.e]", cell)]
    assert {"-1.5", "-2"} <= set(cells)


def test_files_have_the_permissions_that_the_user_wants(tmp_path):
    for mask in (0o077, 0o022, 0o007):
        before = os.umask(mask)
        try:
            with atomic_write(tmp_path / "x") as part:
                part.write_text("x")
        finally:
            os.umask(before)
        assert (tmp_path / "x").stat().st_mode & 0o777 == 0o666 & ~mask


@pytest.mark.parametrize("command", ["info", "validate", "convert pymarl", "export pymarl"])
def test_a_path_of_5000_characters(tmp_path, capsys, command):
    target = [str(tmp_path / "x.h5")] if " " in command else []
    assert datasets([*command.split(), "a" * 5000 + ".h5", *target]) == 2
    one_line(capsys)


@pytest.mark.parametrize("text", ["99999999999", "18446744073709551616", "0-99999999999", "18446744073709551616,1", "-1", "9" * 5000])
def test_seeds_that_are_too_many_or_too_large(capsys, text):
    with pytest.raises(SystemExit) as e:
        run_benchmark.main(["--dry-run", "--algo", "bc", "--env", "xor-ab", "--seeds", text])
    assert e.value.code == 2
    assert "at most 10000 seeds" in capsys.readouterr().err
