"""Files from anywhere: whatever is wrong with them is one line, never a traceback, and nothing in them is ever run."""

import hashlib
import os
import pickle
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspo_benchmark.core import limits
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Spec
from inspo_benchmark.datasets.__main__ import main
from inspo_benchmark.datasets.dataset import PATHS, RETURN, join
from inspo_benchmark.datasets.format import SEAL, _seal, load, meta_if_unchanged, parts, save
from inspo_benchmark.datasets.layouts import LAYOUTS
from inspo_benchmark.datasets.validate import problems
from inspo_benchmark.learning.sampler import Sampler
from inspo_benchmark.plots.dataset_figures import main as draw
from support import recordings
from support.datasets import read, violations
from support.episodes import episodes, same, toy

TASKS.discover(), LAYOUTS.discover()
fuzz = dict(deadline=None, suppress_health_check=list(HealthCheck), database=None)
SPACES = st.one_of(st.builds(Discrete, st.sampled_from([1, 2, 7, 128])), st.builds(Box, st.integers(1, 3)))
ARRAYS = [*(path for name, path in PATHS.items() if name != "behavior_logp"), RETURN]


# --- our own files: 550 damaged ones, none of which loads; `make test-fuzz` makes thousands


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "x.h5"
    save(episodes(toy()), path)
    return path


def refused(path: Path) -> None:
    """By every way in, with one printable line."""
    with pytest.raises(UserError) as e:
        list(parts(path))  # which asks `load` what is wrong, unless `meta_if_unchanged` trusts the file
    assert str(e.value).isprintable()
    found = violations(path)
    assert found
    assert all(line.isprintable() for line in found)


def test_bytes_that_were_changed_by_someone_who_knows_the_checksum(tmp_path, sound):
    """Some of them are found by HDF5 itself, when an array is looked at."""
    path, content, refusals = tmp_path / "x.h5", sound.read_bytes()[SEAL:], []
    for at in range(0, len(content), 97):
        changed = bytearray(content)
        changed[at] ^= 64
        path.write_bytes(_seal(hashlib.sha256(changed)) + changed)
        try:
            list(parts(path))
        except UserError as e:
            refusals.append(str(e))
    assert len(refusals) > 20
    assert all(map(str.isprintable, refusals))


def test_an_episode_that_is_larger_than_its_file(tmp_path, monkeypatch):
    """Its maker knows the checksum, and an export reads episode after episode."""
    monkeypatch.setattr(limits, "MIN_LIMIT", 1 << 20)
    task = toy(spec=Spec(1, 1000, 4, Discrete(3), 5000))
    rows = {"obs": np.zeros((5001, 1, 1000)), "state": np.zeros((5001, 4)), "avail": np.ones((5001, 1, 3), bool)}
    save(
        join(task, np.array([5000]), **rows, actions=np.zeros((5000, 1), int), rewards=np.zeros(5000), terminated=np.ones(1, bool)),
        tmp_path / "x.h5",
    )
    assert (tmp_path / "x.h5").stat().st_size < 200_000
    with pytest.raises(UserError, match="INSPO_MAX_BYTES"):
        list(parts(tmp_path / "x.h5"))


@settings(max_examples=250, **fuzz)
@given(data=st.data())
def test_bytes_that_were_changed(tmp_path_factory, sound, data):
    content = bytearray(sound.read_bytes())
    kind = data.draw(st.sampled_from(["cut", "flip", "burst", "swap", "longer"]))
    at = data.draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        del content[at:]
    elif kind == "longer":
        content[at:at] = data.draw(st.binary(min_size=1, max_size=9))
    elif kind == "flip":
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    elif kind == "burst":
        content[at : at + 64] = os.urandom(64)
    else:
        half = len(content) // 2
        content[half:], content[:half] = content[:half], content[half:]
    path = sound.with_name("damaged.h5")
    path.write_bytes(content)
    refused(path)


def _value(f, path, index, value):
    x = f[path][()]
    x.flat[index % max(1, x.size)] = value
    f[path][...] = x


def _replace(f, path, x):
    attributes = dict(f.attrs)
    del f[path]
    f[path] = x
    f.attrs.update(attributes)


DAMAGES = {
    "NaN": lambda f, path, i, v: _value(f, path, i, np.nan) if f[path].dtype.kind == "f" else _replace(f, path, f[path][()].astype("f4")),
    "a number": lambda f, path, i, v: _replace(f, path, f[path][()] ^ True) if f[path].dtype.kind == "b" else _value(f, path, i, v),
    "type": lambda f, path, i, v: _replace(
        f, path, f[path][()].astype(["f8", "i8", "u2", "S3"][v % 4] if f[path].dtype.kind != "f" else "f2")
    ),
    "shape": lambda f, path, i, v: _replace(f, path, f[path][()][None] if v % 2 else f[path][()].reshape(-1)[:-1]),
    "rows": lambda f, path, i, v: _replace(f, path, f[path][()][: -1 - v % 3]),
    "missing": lambda f, path, i, v: f.__delitem__(path),
    "empty": lambda f, path, i, v: _replace(f, path, f[path][()][:0]),
    "text": lambda f, path, i, v: _replace(f, path, ["x"] * len(f[path])),
    "group": lambda f, path, i, v: (f.__delitem__(path), f.create_group(path)),
    "link": lambda f, path, i, v: (f.__delitem__(path), f.__setitem__(path, h5py.SoftLink("/obs/obs"))),
    "backwards": lambda f, path, i, v: _replace(f, "episodes/offset", f["episodes/offset"][()][::-1]),
    "overflow": lambda f, path, i, v: (
        f.attrs.__setitem__("limit", 2**63 - 1),
        _replace(f, "episodes/offset", np.r_[0, 2**63 - 1, -2, f["episodes/offset"][3:]]),
    ),
    "attribute": lambda f, path, i, v: f.attrs.__delitem__(sorted(f.attrs)[i % len(f.attrs)]),
    "attribute's type": lambda f, path, i, v: f.attrs.__setitem__(
        sorted(f.attrs)[i % len(f.attrs)], [b"x", 1.5j, np.zeros(3), "\x1b[31m"][v % 4]
    ),
    "sizes": lambda f, path, i, v: f.attrs.__setitem__(["agents", "obs", "state", "actions", "limit"][i % 5], [-1, 0, 1 << 40, 99][v % 4]),
}


@settings(max_examples=300, **fuzz)
@given(kind=st.sampled_from(list(DAMAGES)), path=st.sampled_from(ARRAYS), i=st.integers(0, 500), v=st.integers(20, 120))
def test_content_that_was_changed(sound, kind, path, i, v):
    """With tools that write HDF5 well: only what the file says of itself is wrong."""
    changed = sound.with_name("edited.h5")
    shutil.copy(sound, changed)
    with h5py.File(changed, "r+") as f:
        DAMAGES[kind](f, path, i, v)
    refused(changed)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        *(("NaN", path) for path in ("obs/obs", "obs/state", "steps/rewards")),
        ("a number", "steps/actions"),
        ("backwards", "episodes/offset"),
        ("overflow", "episodes/offset"),
    ],
)
def test_a_checksum_vouches_for_nobody(sound, kind, path):
    """Who changes a file can write its checksum as well."""
    forged = sound.with_name("forged.h5")
    shutil.copy(sound, forged)
    with h5py.File(forged, "r+") as f:
        DAMAGES[kind](f, path, 3, 99)
    behind = forged.read_bytes()[SEAL:]
    forged.write_bytes(_seal(hashlib.sha256(behind)) + behind)
    assert meta_if_unchanged(forged)
    refused(forged)


def test_names_with_mathematics_and_control_characters_are_drawn_and_printed(tmp_path, capsys):
    path = tmp_path / "a\x1b[31m.h5"
    save(episodes(toy(name=r"$\foo$-random")), path)
    assert draw([str(path), "--out", str(tmp_path / "x.png")]) == 0
    assert main(["validate", str(path)]) == 0
    assert capsys.readouterr().out.replace("\n", "").isprintable()


# --- others' files: a checksum is nowhere, so a changed number may pass; what passes is sound, what does not is one line


def _pymarl(folder: Path, suffix: str) -> Path:
    return recordings.write(folder, recordings.recording(limit=8, episodes=4), suffix)


FOREIGN = {
    "pymarl .npz": ("pymarl", lambda folder: _pymarl(folder, ".npz")),
    "pymarl .h5": ("pymarl", lambda folder: _pymarl(folder, ".h5")),
    "pymarl .npy": ("pymarl", lambda folder: _pymarl(folder, "")),
    "omiga": ("omiga", lambda folder: recordings.omiga(folder / "x.hdf5")),
    "omar": ("omar", lambda folder: recordings.omar(folder)),
    "flat": ("flat", lambda folder: recordings.flat(folder)),
    "minari": ("minari", lambda folder: recordings.minari(folder / "x")),
    "madt": ("madt", lambda folder: recordings.madt(folder, lengths=(3, 2))),
    "vault": ("vault", lambda folder: recordings.vault(folder)),
}


@pytest.mark.parametrize("what", FOREIGN)
def test_damaged_recordings(tmp_path_factory, what):
    layout, make = FOREIGN[what]
    source = make(tmp_path_factory.mktemp("sound"))
    files = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    assert problems(read(layout, source)) == []
    outcomes = {"refused": 0, "sound": 0}

    @settings(max_examples=60, **fuzz)
    @given(
        file=st.sampled_from(files),
        kind=st.sampled_from(["cut", "flip", "burst", "empty", "gone"]),
        at=st.floats(0, 1, exclude_max=True),
        bit=st.integers(0, 7),
    )
    def damaged(file, kind, at, bit):
        content = file.read_bytes()
        changed, at = bytearray(content), int(at * len(content))
        if kind == "flip":
            changed[at] ^= 1 << bit
        elif kind == "burst":
            changed[at : at + 16] = os.urandom(16)
        else:
            del changed[at if kind == "cut" else 0 :]
        try:
            file.unlink() if kind == "gone" else file.write_bytes(changed)
            d, said = read(layout, source), ""
        except UserError as e:
            d, said = None, str(e)
        finally:
            file.write_bytes(content)
        assert said.isprintable()
        assert d is None or problems(d) == []
        outcomes["sound" if d else "refused"] += 1

    damaged()
    assert outcomes["refused"] >= 15, outcomes


# --- what is sound survives everything


@settings(max_examples=60, **fuzz)
@given(space=SPACES, agents=st.integers(1, 4), count=st.integers(1, 6), seed=st.integers(0, 999), window=st.integers(1, 12))
def test_random_episodes_survive(tmp_path_factory, space, agents, count, seed, window):
    """Saved, loaded, drawn as windows, exported and converted."""
    folder = tmp_path_factory.mktemp("x")
    task = toy(space, agents)
    d = episodes(task, count, seed)
    save(d, folder / "x.h5")
    back = load(folder / "x.h5", task)
    assert same(d, back)
    sampler = Sampler(back, 16, window, 1, {}, [seed])
    at = sampler.batch_of(np.arange(sampler.sequence_ends[-1]))
    assert float(at.mask.sum()) == window * d.steps
    places = [(e, start) for e, n in enumerate(d.lengths) for start in ([0] * window if n <= window else range(1 - window, n))]
    for w, (e, before) in enumerate(places):
        start = max(before, 0)
        n = int(min(before + window, d.lengths[e]) if d.lengths[e] > window else d.lengths[e]) - start
        rows = slice(d.offset[e] + e + start, d.offset[e] + e + start + n + 1)
        np.testing.assert_array_equal(at.obs[w, : n + 1].numpy(), d.obs[rows])
        np.testing.assert_array_equal(at.rewards[w, :n].numpy(), d.rewards[d.offset[e] + start :][:n])
    LAYOUTS["minari"].write(folder / "x.h5", folder / "m")
    assert same(read("minari", folder / "m", task), d)
    shutil.rmtree(folder)


# --- pickles


class Trap:
    def __init__(self, sprung: Path):
        self.sprung = sprung

    def __reduce__(self):
        return os.mkdir, (str(self.sprung),)


def test_no_pickle_is_run_wherever_a_file_is_accepted(tmp_path, capsys):
    """A pickle that leaves a trace, as every file that any command opens, under every name, and inside what these hold."""
    sprung = tmp_path / "sprung"
    trap = Trap(sprung)
    pickle.loads(pickle.dumps(trap))
    sprung.rmdir()  # it works
    raw = [pickle.dumps(trap, protocol) for protocol in (0, 2, 4)]
    places: list[tuple[str, Path]] = []

    def place(layout: str, path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        places.append((layout, path))

    for k, content in enumerate(raw):
        for suffix in (".h5", ".hdf5", ".npz", ".npy"):
            for layout in ("pymarl", "omiga", "flat"):
                place(layout, tmp_path / f"raw{k}{suffix}", content)
        place("madt", tmp_path / f"madt{k}" / "0.pkl", content)
        for name in ("metadata.json", "main_data.hdf5"):
            place("minari", tmp_path / f"minari{k}" / "data" / name, content)
        for name in ("metadata.json", "manifest.ocdbt"):
            place("vault", tmp_path / f"vault{k}" / name, content)
        for name in ("obs_0", "acs_0", "rews_0", "next_obs_0", "dones_0"):
            place("omar", tmp_path / f"omar{k}" / f"{name}.npy", content)
    # inside the containers
    objects = np.array([trap], object)
    x = recordings.recording(limit=8, episodes=2)
    for key in x:
        np.savez(tmp_path / f"inside-{key}.npz", **x | {key: objects})
        places.append(("pymarl", tmp_path / f"inside-{key}.npz"))
    for key in ("observations", "actions", "rewards", "terminals"):
        places.append(("flat", recordings.flat(tmp_path / f"flat-{key}", **{key: objects})))
    for key in ("obs", "acs", "rews", "dones"):
        folder = recordings.omar(tmp_path / f"omar-{key}")
        np.save(folder / f"{key}_0.npy", objects)
        places.append(("omar", folder / f"{key}_0.npy"))
    for number, content in enumerate((trap, [[[trap] * 6]], {"x": trap}, [[[objects] * 6]])):
        (tmp_path / f"torch{number}").mkdir()
        for zipped in (True, False):
            torch.save(content, tmp_path / f"torch{number}" / f"{zipped}.pkl", _use_new_zipfile_serialization=zipped)
        places.append(("madt", tmp_path / f"torch{number}" / "0.pkl"))
    with h5py.File(tmp_path / "opaque.h5", "w") as f:
        for key in ("s", "o", "a", "r", "d"):
            f[key] = np.frombuffer(raw[0], np.void(b"x").dtype)
            f.attrs[key] = np.void(raw[0])
    places += [("omiga", tmp_path / "opaque.h5"), ("pymarl", tmp_path / "opaque.h5")]

    capsys.readouterr()
    for layout, path in places:
        folders = {"madt": path.parent, "minari": path.parent.parent, "vault": path.parent, "omar": path.parent}
        commands = [["convert", layout, folders.get(layout, path), tmp_path / "out.h5"]]
        if path.is_file():
            commands += [
                ["info", path],
                *(["export", to, path, tmp_path / "y"] for to in ("pymarl", "omiga", "minari")),
            ]
        for command in commands:
            assert main([str(c) for c in command]) == 2, command
            out, err = capsys.readouterr()
            assert (out, err.count("\n"), err[:7]) == ("", 1, "error: "), command
        if path.is_file():
            assert draw([str(path), "--out", str(tmp_path / "x.png")]) == 2
            out, err = capsys.readouterr()
            assert (out, err.count("\n"), err[:7]) == ("", 1, "error: ")
            assert main(["validate", str(path)]) == 1
            capsys.readouterr()
    assert not sprung.exists()
    assert not (tmp_path / "out.h5").exists()


def test_an_archive_that_unpacks_to_more_than_it_says(tmp_path):
    """A header that promises a petabyte."""
    header = b"\x93NUMPY\x01\x00v\x00" + b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 1000000), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for key in recordings.recording(limit=8, episodes=2):
            archive.writestr(f"{key}.npy", header)
    with pytest.raises(UserError, match="declares"):
        read("pymarl", tmp_path / "x.npz")
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "obs.npy").write_bytes(header)
    with pytest.raises(UserError, match="declares"):
        read("pymarl", tmp_path / "f")
