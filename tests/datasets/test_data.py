"""The dataset format: what is written comes back, what is damaged is refused, and nothing is left half done."""

import os
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets import catalog
from inspo_benchmark.datasets.__main__ import main
from inspo_benchmark.datasets.catalog import PLAYED_BY_POLICIES, build, fetch, manifest, status
from inspo_benchmark.datasets.dataset import PATHS, RETURN, content_sha256, pack, statistics
from inspo_benchmark.datasets.format import load, save, writer
from inspo_benchmark.datasets.generate import BUILDERS
from inspo_benchmark.datasets.validate import problems
from support.datasets import violations
from support.episodes import episodes, same, toy

TASKS.discover()
ROOT = Path(__file__).parents[2]
BUILT = [
    name for name, task in TASKS.items() if task.family in BUILDERS and task.family not in PLAYED_BY_POLICIES
]  # others: test_manifest.py


@pytest.fixture
def file(tmp_path) -> Path:
    save(episodes(toy()), tmp_path / "toy.h5")
    return tmp_path / "toy.h5"


def refused(path: Path, task: Task | None = None) -> str:
    """The message, one line, that names the file."""
    with pytest.raises(UserError) as e:
        load(path, task)
    message = str(e.value)
    assert str(path) in message
    assert message.isprintable()
    assert violations(path, task)
    return message


# --- there and back


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    space=st.one_of(st.builds(Discrete, st.sampled_from([1, 2, 7, 127, 128, 300])), st.builds(Box, st.integers(1, 4))),
    agents=st.integers(1, 5),
    count=st.integers(1, 8),
    seed=st.integers(0, 99),
    per_step=st.booleans(),
)
def test_what_is_written_comes_back(tmp_path, space, agents, count, seed, per_step):
    task = toy(space, agents, per_step=per_step)
    d = episodes(task, count, seed)
    if seed % 2:
        d = replace(d, behavior_logp=np.zeros((d.steps, agents), np.float32))
    save(d, tmp_path / "x.h5")
    back = load(tmp_path / "x.h5", task)
    assert same(d, back)
    assert violations(tmp_path / "x.h5", task) == []
    assert back.meta["content_sha256"] == content_sha256(d) == content_sha256(back)
    assert {k: back.meta[k] for k in d.meta} == d.meta
    scaled = task.scaled_returns(d.returns, d.lengths)
    assert (back.meta["return_mean"], back.meta["return_max"]) == (scaled.mean(), scaled.max())
    assert back.meta["sum_std"] == d.returns.std()
    save(back, tmp_path / "again.h5")
    assert (tmp_path / "x.h5").read_bytes() == (tmp_path / "again.h5").read_bytes()


def test_rows_of_an_episode():
    task = toy()
    d = episodes(task)
    assert d.episodes == 6
    assert d.steps == d.lengths.sum()
    assert len(d.obs) == d.steps + d.episodes
    assert (d.terminated ^ d.truncated)[d.offset[1:] - 1].all()
    assert (d.terminated | d.truncated).sum() == d.episodes
    np.testing.assert_allclose(d.returns, np.add.reduceat(d.rewards.astype(float), d.offset[:-1]))


def test_hash_does_not_depend_on_chunks(tmp_path, monkeypatch, file):
    d = load(file)
    monkeypatch.setattr("inspo_benchmark.datasets.format.CHUNK", 64)
    save(d, tmp_path / "chunks.h5")
    assert file.read_bytes() != (tmp_path / "chunks.h5").read_bytes()
    assert load(tmp_path / "chunks.h5").meta["content_sha256"] == d.meta["content_sha256"]


@pytest.mark.parametrize("name", [n for n in PATHS if n != "behavior_logp"])
def test_hash_depends_on_every_array(name):
    d = episodes(toy())
    changed = getattr(d, name).copy()
    changed.flat[0] = not changed.flat[0] if changed.dtype == bool else changed.flat[0] + 1
    assert content_sha256(replace(d, **{name: changed})) != content_sha256(d)


def test_hash_depends_on_the_task_alone_of_meta():
    d = episodes(toy())
    assert content_sha256(replace(d, meta=d.meta | {"notes": "new"})) == content_sha256(d)
    assert content_sha256(replace(d, meta=d.meta | {"task": "other-random"})) != content_sha256(d)


def test_layout_of_the_file(file):
    d = load(file)
    with h5py.File(file) as f:
        assert f["obs/obs"].shape == (d.steps + d.episodes, 2, 5)
        assert f["steps/actions"].dtype == np.int8
        assert (f["obs/obs"].compression, f["obs/obs"].compression_opts, f["obs/obs"].shuffle) == ("gzip", 1, False)
        assert f["episodes/offset"][-1] == d.steps
        np.testing.assert_array_equal(f[RETURN], d.returns.astype(np.float32))
        assert f.attrs["format_version"] == 1


# --- damage


def test_cut_short_at_any_length(file):
    whole = file.read_bytes()
    for n in [0, 1, 100, 511, 512, 513, *range(600, len(whole), len(whole) // 20), len(whole) - 1]:
        file.write_bytes(whole[:n])
        refused(file)
    file.write_bytes(whole + b"\0")
    assert "checksum" in refused(file)


def test_any_flipped_byte(file):
    whole = file.read_bytes()
    rng = np.random.default_rng(0)
    for i in [*range(0, 128, 16), *rng.choice(len(whole), 100, replace=False)]:
        damaged = bytearray(whole)
        damaged[i] ^= rng.integers(1, 256)
        file.write_bytes(damaged)
        refused(file)


def test_not_hdf5_at_all(tmp_path):
    for name, content in (("empty", b""), ("text", b"hello\n" * 500), ("zeros", bytes(5000))):
        (tmp_path / name).write_bytes(content)
        assert "not an HDF5 file" in refused(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path / "nothing.h5")
    with pytest.raises(UserError, match=r"a folder, a pipe or a device, not a dataset"):
        violations(tmp_path)


def test_an_hdf5_file_of_something_else(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as f:
        f["observations"] = np.zeros(3)
    assert "another program's file" in refused(tmp_path / "x.h5")


def rewrite(f: h5py.File, path: str, value) -> None:
    del f[path]
    f[path] = value


EDITS = {  # what is done to a sound file -> what its violations must say
    "missing array": (lambda f: f.__delitem__("steps/rewards"), "steps/rewards: missing"),
    "missing group": (lambda f: f.__delitem__("episodes"), "episodes/offset: missing"),
    "array for a group": (lambda f: rewrite(f, "steps", np.zeros(3)), "steps: unknown"),
    "group for an array": (lambda f: (f.__delitem__("obs/obs"), f.create_group("obs/obs")), "obs/obs: not an array"),
    "unknown array": (lambda f: f.__setitem__("steps/reward", np.zeros(3)), "steps/reward: unknown"),
    "missing attribute": (lambda f: f.attrs.__delitem__("agents"), "attribute agents: missing"),
    "attribute of a wrong type": (lambda f: f.attrs.__setitem__("agents", "two"), "attribute agents: 'two', not of type int"),
    "attribute that is an array": (lambda f: f.attrs.__setitem__("agents", np.zeros(2)), "attribute agents"),
    "version": (lambda f: f.attrs.__setitem__("format_version", 99), "attribute format_version: 99"),
    "no agents": (lambda f: f.attrs.__setitem__("agents", 0), "attribute agents: 0"),
    "no state": (lambda f: f.attrs.__setitem__("state", 0), "attribute state: 0"),
    "many agents": (lambda f: f.attrs.__setitem__("agents", 10**12), "obs/obs: shape"),
    "statistics": (lambda f: f.attrs.__setitem__("return_mean", 12.5), "attribute return_mean: 12.5"),
    "provenance": (lambda f: f.attrs.__setitem__("source", "elsewhere"), "checksum"),
    "type": (lambda f: rewrite(f, "steps/rewards", f["steps/rewards"][()].astype("f8")), "steps/rewards: type float64, should be float32"),
    "type of actions": (lambda f: rewrite(f, "steps/actions", f["steps/actions"][()].astype("i8")), "steps/actions: type int64"),
    "objects": (lambda f: rewrite(f, "steps/rewards", ["a", "b"]), "steps/rewards"),
    "shape": (lambda f: rewrite(f, "obs/obs", f["obs/obs"][:, :, :4]), "obs/obs: shape"),
    "a row less": (lambda f: rewrite(f, "obs/state", f["obs/state"][:-1]), "obs/state: shape"),
    "no dimension": (lambda f: rewrite(f, "steps/rewards", np.float32(1)), "steps/rewards: shape"),
    "no episodes": (lambda f: rewrite(f, "episodes/offset", np.zeros(1, "i8")), "episodes: there are none"),
    "NaN": (lambda f: f["obs/obs"].__setitem__((7, 1, 2), np.nan), "obs/obs: NaN or infinity, 1 times, first at row 7 of the data"),
    "infinity": (lambda f: f["steps/rewards"].__setitem__(3, np.inf), "steps/rewards: NaN or infinity, 1 times, first at step 3"),
    "offsets backwards": (lambda f: f["episodes/offset"].__setitem__(2, 0), "episodes/offset: episode 1 has"),
    "offsets beyond": (lambda f: f["episodes/offset"].__setitem__(6, 10**9), "episodes/offset: runs from 0 to 1000000000"),
    "offset wraps": (lambda f: f["episodes/offset"].__setitem__(1, -(2**63)), "episodes/offset: episode 0 has"),
    "action out of range": (lambda f: f["steps/actions"].__setitem__((4, 0), 3), "steps/actions: not one of the actions 0 .. 2"),
    "negative action": (lambda f: f["steps/actions"].__setitem__((4, 0), -1), "steps/actions: not one of the actions"),
    "unavailable action": (
        lambda f: f["obs/legal"].__setitem__((0, 0), np.arange(3) != f["steps/actions"][0, 0]),
        "an action that is not available",
    ),
    "nothing available": (lambda f: f["obs/legal"].__setitem__((5, 1), False), "obs/legal: an agent without an available action"),
    "end in the middle": (lambda f: f["steps/terminated"].__setitem__(0, True), "an end in the middle of an episode"),
    "two ends": (lambda f: (f["steps/terminated"].__setitem__(-1, True), f["steps/truncated"].__setitem__(-1, True)), "not either"),
    "no end": (lambda f: (f["steps/terminated"].__setitem__(-1, False), f["steps/truncated"].__setitem__(-1, False)), "not either"),
    "won": (lambda f: f["episodes/won"].__setitem__(0, 7), "episodes/won: not -1, 0 or 1"),
    "returns": (lambda f: f["episodes/return"].__setitem__(1, 99), "episodes/return: not the sum of the rewards in episode 1"),
    "a changed number": (lambda f: f["obs/obs"].__setitem__((0, 0, 0), 0.25), "content_sha256"),
}


@pytest.mark.parametrize("what", EDITS)
def test_edited_files(file, what):
    edit, expected = EDITS[what]
    with h5py.File(file, "r+") as f:
        edit(f)
    refused(file)
    assert any(expected in line for line in violations(file)), violations(file)


def test_every_violation_is_listed(file):
    with h5py.File(file, "r+") as f:
        f["obs/obs"][2, 0, 0] = np.nan
        f["steps/rewards"][0] = np.nan
        f["episodes/won"][0] = 5
    found = violations(file)
    assert [line.split(":")[0] for line in found] == ["obs/obs", "steps/rewards", "episodes/won", "checksum"]
    assert "and 3 more" in refused(file)


def test_links_are_not_followed(tmp_path, file):
    with h5py.File(tmp_path / "secret.h5", "w") as f:
        f["x"] = np.zeros(3, "f4")
    for link in (h5py.ExternalLink("secret.h5", "x"), h5py.SoftLink("/steps/rewards")):
        with h5py.File(file, "r+") as f:
            rewrite(f, "steps/rewards", link)
        assert "steps/rewards: not an array stored in this file" in refused(file)


def test_external_storage_is_not_read(tmp_path, file):
    (tmp_path / "raw").write_bytes(bytes(400))
    with h5py.File(file, "r+") as f:
        del f["steps/rewards"]
        f.create_dataset("steps/rewards", (100,), "f4", external=[(str(tmp_path / "raw"), 0, 400)])
    assert "steps/rewards: not an array stored in this file" in refused(file)


def test_sizes_are_not_believed(file):
    """A file of a few kB that declares a petabyte is refused before any memory is asked for."""
    with h5py.File(file, "r+") as f:
        del f["obs/obs"]
        f.create_dataset("obs/obs", (10**9, 1000, 1000), "f4", chunks=(1, 1000, 1000), compression="gzip")
    assert "declares 4000000000000000 bytes" in refused(file)


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        (toy(name="other-random"), "attribute task: 'toy-random' in the data, 'other-random' in task"),
        (toy(Discrete(4)), "attribute actions: 3 in the data, 4 in task"),
        (toy(Box(3)), "attribute action_kind: 'discrete' in the data, 'continuous'"),
        (toy(agents=3), "attribute agents: 2 in the data, 3 in task"),
    ],
)
def test_data_of_another_task(file, other, expected):
    assert expected in refused(file, other)


# --- writing


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda d: replace(d, rewards=d.rewards * np.nan), "steps/rewards: NaN"),
        (lambda d: replace(d, actions=d.actions.astype(np.int64)), "steps/actions: type int64"),
        (lambda d: replace(d, obs=d.obs[1:]), "obs/obs: shape"),
        (lambda d: replace(d, meta={}), "attribute format"),
        (lambda d: replace(d, seed=d.seed * 0 - 7), "episodes/seed: below -1"),
        (lambda d: replace(d, behavior_logp=np.full((d.steps, 2), 0.1, "f4")), "steps/behaviour_logp: a positive log-probability"),
    ],
)
def test_bad_data_is_not_written(tmp_path, change, expected):
    with pytest.raises(UserError, match=expected):
        save(change(episodes(toy())), tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("part", [1, 1 << 20])  # bytes that are written at a time
def test_log_probabilities_of_some_episodes_only_are_not_written(tmp_path, monkeypatch, first, part):
    monkeypatch.setattr("inspo_benchmark.datasets.format.PART", part)
    d = episodes(toy())
    known = replace(d, behavior_logp=-np.ones((d.steps, 2), "f4"))
    with writer(tmp_path / "x.h5", d.meta) as out:
        out.add(known if first else d)
        with pytest.raises(UserError, match="steps/behaviour_logp: known for some of the episodes only"):
            out.add(d if first else known)
    assert load(tmp_path / "x.h5").episodes == d.episodes


def test_actions_that_int8_cannot_hold_do_not_wrap():
    task = toy()
    with pytest.raises(UserError, match=r"action 256 in the data; toy-random has actions 0 \.\. 2"):
        pack(
            task,
            lengths=np.array([1]),
            obs=np.zeros((1, 2, 2, 5)),
            state=np.zeros((1, 2, 4)),
            avail=np.ones((1, 2, 2, 3)),
            actions=np.full((1, 1, 2), 256),
            rewards=np.zeros((1, 1)),
            terminated=np.array([True]),
            won=np.array([-1]),
            seed=np.array([0]),
        )


def test_continuous_actions_stay_inside():
    d = episodes(toy(Box(2)))
    assert problems(replace(d, actions=d.actions * 2))[0].startswith("steps/actions: outside [-1, 1]")


def test_folder_that_is_not_there_or_not_a_folder(tmp_path):
    (tmp_path / "f").write_text("")
    for path in (tmp_path / "nowhere" / "x.h5", tmp_path / "f" / "x.h5"):
        with pytest.raises(UserError, match="cannot write"):
            save(episodes(toy()), path)
    with pytest.raises(UserError, match="cannot write"):
        fetch(TASKS["xor-ab"], tmp_path / "f")


def test_full_disk(tmp_path):
    """Files may not grow beyond 4 kB in the child: what a full disk is to a program. Old content stays, nothing partial is left."""

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    save(episodes(toy(), seed=1), tmp_path / "xor-all.h5")
    before = (tmp_path / "xor-all.h5").read_bytes()
    code = """if True:
        import sys
        from pathlib import Path
        from inspo_benchmark.core.errors import UserError
        from inspo_benchmark.core.registry import TASKS
        from inspo_benchmark.datasets.format import save
        from inspo_benchmark.datasets.catalog import build, fetch
        TASKS.discover()
        folder, said = Path(sys.argv[1]), []
        for write in (lambda: save(build(TASKS["xor-all"]), folder / "xor-all.h5"), lambda: fetch(TASKS["xor-ab"], folder)):
            try:
                write()
            except UserError as e:
                said.append(str(e))
        print("\\n".join(said))
    """
    done = subprocess.run([sys.executable, "-c", code, tmp_path], cwd=ROOT, preexec_fn=small_files, capture_output=True, text=True)
    assert done.stderr == ""
    assert [line.startswith(f"no space left on the disk of {tmp_path}") for line in done.stdout.splitlines()] == [True, True]
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == ["xor-all.h5"]
    assert (tmp_path / "xor-all.h5").read_bytes() == before


def test_permissions_follow_the_umask(file):
    mask = os.umask(0)
    os.umask(mask)
    assert file.stat().st_mode & 0o777 == 0o666 & ~mask


# --- builders and the store


@pytest.mark.parametrize("name", BUILT)
def test_builds_are_the_published_ones(name):
    task, known = TASKS[name], manifest()[name]
    d = build(task)
    assert content_sha256(d) == known["sha256"] == content_sha256(build(task))
    assert (d.episodes, d.steps) == (known["episodes"], known["steps"])
    assert statistics(d)["return_mean"] == pytest.approx(known["return_mean"], abs=1e-6)
    assert problems(d, task) == []


@pytest.mark.parametrize("name", ["bridge-mix", "bridge-optimal", "xor-ab", "mne3-balanced"])
def test_a_smaller_build_has_as_many_episodes_as_asked_for(name):
    assert BUILDERS[TASKS[name].family](TASKS[name], 7).episodes == 7


def test_fetch_builds_once(tmp_path):
    task = TASKS["xor-ab"]
    assert status(task, tmp_path) == "absent: built on first use"
    path = fetch(task, tmp_path)
    assert status(task, tmp_path) == "built"
    stamp = path.stat().st_mtime_ns
    assert fetch(task, tmp_path) == path
    assert path.stat().st_mtime_ns == stamp
    assert load(path, task).meta["source"] == "built"


def test_two_processes_build_at_once(tmp_path):
    code = """if True:
        import sys
        from pathlib import Path
        from inspo_benchmark.core.registry import TASKS
        from inspo_benchmark.datasets import catalog as store
        from inspo_benchmark.datasets.catalog import fetch
        TASKS.discover()
        save, wrote = store.save, []
        store.save = lambda d, path: (wrote.append(path), save(d, path))
        print("ready", flush=True)
        sys.stdin.readline()
        fetch(TASKS["bridge-mix"], Path(sys.argv[1]))
        print(len(wrote))
    """
    pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    children = [subprocess.Popen([sys.executable, "-c", code, tmp_path], cwd=ROOT, **pipes) for _ in range(2)]
    for child in children:
        assert child.stdout.readline() == "ready\n"
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    wrote = [child.communicate()[0] for child in children]
    assert sorted(wrote) == ["0\n", "1\n"]
    assert violations(tmp_path / "bridge-mix.h5", TASKS["bridge-mix"]) == []
    assert {p.suffix for p in tmp_path.iterdir()} == {".h5", ".lock"}


def test_a_build_that_differs_is_refused(tmp_path, monkeypatch):
    task = TASKS["xor-ab"]
    path = fetch(task, tmp_path)
    monkeypatch.setattr(catalog, "manifest", lambda: {"xor-ab": {"sha256": "0" * 64}})
    with pytest.raises(UserError, match="another version of xor-ab's generator"):
        fetch(task, tmp_path)
    path.unlink()
    with pytest.raises(UserError, match="is not the published one"):
        fetch(task, tmp_path)
    assert not path.exists()


def test_a_users_own_file_is_taken(tmp_path):
    task = TASKS["xor-ab"]
    d = build(task)
    save(replace(d, rewards=d.rewards * 2, meta=d.meta | {"source": "my recording"}), tmp_path / "xor-ab.h5")
    assert status(task, tmp_path) == "made by my recording"
    assert load(fetch(task, tmp_path), task).rewards.max() == 2


@pytest.mark.parametrize(("sha256", "said"), [("", "made by grid.py"), ("0" * 64, "converted from grid.py")])
def test_status_tells_data_that_were_made_from_recordings(tmp_path, sha256, said):
    d = episodes(toy())
    save(replace(d, meta=d.meta | {"source": "grid.py", "source_sha256": sha256}), tmp_path / "toy-random.h5")
    assert status(toy(), tmp_path) == said


def test_status_of_damaged_and_foreign_files(tmp_path):
    task = TASKS["xor-ab"]
    (tmp_path / "xor-ab.h5").write_bytes(b"no data")
    assert status(task, tmp_path).startswith("damaged")
    assert status(toy(), tmp_path) == "absent: to be converted"
    with pytest.raises(UserError, match="convert a recording"):
        fetch(toy(), tmp_path)


# --- the command line


def run(capsys, *argv) -> tuple[int, str, str]:
    code = main([str(a) for a in argv])
    return code, *capsys.readouterr()


def test_command_line(tmp_path, capsys, monkeypatch):
    path = fetch(TASKS["xor-ab"], tmp_path)
    assert run(capsys, "validate", path, "--task", "xor-ab") == (0, f"{path}: sound\n", "")
    code, out, _ = run(capsys, "validate", path, "--task", "bridge-mix")
    assert code == 1
    assert len(out.splitlines()) == 7
    code, out, _ = run(capsys, "info", path)
    assert code == 0
    assert "content_sha256" in out
    code, out, _ = run(capsys, "list")
    assert (code, len(out.splitlines())) == (0, len(TASKS))
    path.write_bytes(path.read_bytes()[:-100])
    assert run(capsys, "validate", path)[0] == 1
    for argv in (
        ("info", path),
        ("info", tmp_path / "no"),
        ("validate", tmp_path / "no"),
        ("validate", path, "--task", "xor"),
        ("build", "xyz*"),
    ):
        code, out, err = run(capsys, *argv)
        assert (code, out) == (2, "")
        assert err.startswith("error: ")
        assert err.count("\n") == 1


def test_what_cannot_be_built_is_refused_before_anything_is_built(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(catalog, "DATA_FOLDER", tmp_path)
    for function in (catalog.fetch, catalog.dataset_path, catalog.check_new, catalog.build_smaller):
        monkeypatch.setattr(function, "__defaults__", (tmp_path,))
    monkeypatch.setattr(catalog, "MANIFEST", tmp_path / "manifest.json")
    (tmp_path / "xor-all.h5").write_text("mine")
    for argv, message in (
        (("xor-ab", "sc2:3m-medium"), "nothing builds a dataset for sc2:3m-medium"),
        (("xor-ab", "sc2:3m-medium", "--manifest"), "nothing builds a dataset for sc2:3m-medium"),
        (("xor-ab", "xor-all", "--episodes", "4"), "xor-all.h5 exists; delete it"),
        (("xor-ab", "--episodes", "4", "--manifest"), "--episodes cannot be combined with --manifest"),
    ):
        code, out, err = run(capsys, "build", *argv)
        assert (code, out) == (2, "")
        assert message in err
        assert {x.name for x in tmp_path.iterdir()} == {"xor-all.h5"}


def test_a_build_deletes_what_a_killed_one_left_long_ago(tmp_path):
    old, new, other = (tmp_path / name for name in (".xor-ab.00.part.h5", ".xor-ab.11.part.h5", ".xor-all.00.part.h5"))
    for path in (old, new, other):
        path.write_text("half of")
    for path in (old, other):
        os.utime(path, (0, 0))
    fetch(TASKS["xor-ab"], tmp_path)
    assert [path.exists() for path in (old, new, other)] == [False, True, True]


def test_validation_compares_sizes_with_the_task_that_a_file_names(tmp_path, capsys):
    other, sound = tmp_path / "other.h5", fetch(TASKS["xor-ab"], tmp_path)
    save(episodes(toy(Discrete(7), agents=3, name="xor-ab")), other)
    code, out, _ = run(capsys, "validate", other, sound)
    assert code == 1
    assert "attribute agents: 3 in the data, 2 in task xor-ab" in out
    assert out.endswith(f"{sound}: sound\n")


@pytest.mark.parametrize("damage", ["cut short", "empty", "a folder", "a changed byte", "of another task"])
def test_build_refuses_a_damaged_dataset(tmp_path, capsys, monkeypatch, damage):
    monkeypatch.setattr(catalog.fetch, "__defaults__", (tmp_path,))
    monkeypatch.setattr(catalog.status, "__defaults__", (tmp_path,))
    path = tmp_path / "xor-ab.h5"
    assert run(capsys, "build", "xor-ab") == (0, f"{'xor-ab':24} {path}  built\n", "")
    whole = path.read_bytes()
    if damage == "of another task":
        d = build(TASKS["xor-all"])
        save(replace(d, meta=d.meta | {"source": "my recording"}), path)
    elif damage == "a folder":
        path.unlink(), path.mkdir()
    else:
        flipped = bytes([whole[-1] ^ 1])
        path.write_bytes({"cut short": whole[:3000], "empty": b"", "a changed byte": whole[:-1] + flipped}[damage])
    code, out, err = run(capsys, "build", "xor-ab")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {path}: ")


def test_command_line_has_no_traceback(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"x" * 5000)
    done = subprocess.run([sys.executable, "-m", "datasets", "info", tmp_path / "x.h5"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_help_shows_examples(capsys):
    with pytest.raises(SystemExit) as e:
        main(["--help"])
    assert e.value.code == 0
    assert "python -m datasets convert pymarl" in capsys.readouterr().out
