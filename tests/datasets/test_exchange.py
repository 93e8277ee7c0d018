"""Our data in others' layouts and back: what a layout can hold comes back to the bit, what it cannot is said. And what the audit finds."""

import json
import resource
import shutil
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
from inspo_benchmark.datasets import collect
from inspo_benchmark.datasets.__main__ import main
from inspo_benchmark.datasets.catalog import build
from inspo_benchmark.datasets.convert import convert
from inspo_benchmark.datasets.dataset import PATHS, Dataset, concatenate, content_sha256
from inspo_benchmark.datasets.format import load, parts, save
from inspo_benchmark.datasets.layouts import LAYOUTS
from inspo_benchmark.datasets.layouts._known import known
from inspo_benchmark.datasets.replay_check import audit
from inspo_benchmark.plots.dataset_figures import main as draw_main
from support.datasets import read
from support.episodes import episodes, same, toy

TASKS.discover(), LAYOUTS.discover()
ROOT = Path(__file__).parents[2]
TASK = TASKS["bridge-mix"]
quick = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
sizes = dict(agents=st.integers(1, 12), count=st.integers(1, 8), seed=st.integers(0, 99))


def there_and_back(folder: Path, d: Dataset, task: Task, layout: str, suffix: str) -> tuple[Dataset, str]:
    """What comes back, and what was said to have no place."""
    ours, theirs, again = folder / "ours.h5", folder / f"theirs{suffix}", folder / "again.h5"
    save(d, ours)
    shutil.rmtree(theirs) if theirs.is_dir() else theirs.unlink(missing_ok=True)
    said = LAYOUTS[layout].write(ours, theirs)
    back = read(layout, theirs, task)
    save(back, again)
    return load(again, task), said


def without(d: Dataset, *fields: str) -> Dataset:
    neutral = {"won": d.won * 0 - 1, "seed": d.seed * 0 - 1, "behavior_logp": np.zeros((d.steps, 0), "f4")}
    return replace(d, **{name: neutral[name] for name in fields})


def with_logp(d: Dataset) -> Dataset:
    return replace(d, behavior_logp=-np.random.default_rng(1).random((d.steps, d.meta["agents"]), np.float32))


# --- round trips


@quick
@given(width=st.sampled_from([1, 2, 7, 127, 128, 300]), **sizes)
def test_pymarl_there_and_back(tmp_path, width, agents, count, seed):
    task = toy(Discrete(width), agents)
    d = with_logp(episodes(task, count, seed))
    back, said = there_and_back(tmp_path, d, task, "pymarl", ".h5")
    assert content_sha256(back) == content_sha256(without(d, "won", "seed", "behavior_logp"))
    assert said == f"no place for: {'won, ' if (d.won != -1).any() else ''}seed, behaviour_logp"


@quick
@given(width=st.integers(1, 4), **sizes)
def test_omiga_there_and_back(tmp_path, width, agents, count, seed):
    task = toy(Box(width), agents)
    d = episodes(task, count, seed)
    ends = d.lengths < task.spec.episode_limit  # as the layout tells them
    as_told = replace(d, terminated=np.zeros_like(d.terminated), truncated=np.zeros_like(d.truncated))
    as_told.terminated[d.offset[1:] - 1], as_told.truncated[d.offset[1:] - 1] = ends, ~ends
    back, said = there_and_back(tmp_path, d, task, "omiga", ".hdf5")
    assert content_sha256(back) == content_sha256(without(as_told, "won", "seed"))
    wrong = int((d.terminated != as_told.terminated).sum())
    assert ("episodes whose kind of end does not follow from their length" in said) == (wrong > 0)


@quick
@given(space=st.one_of(st.builds(Discrete, st.sampled_from([1, 7, 128])), st.builds(Box, st.integers(1, 4))), logp=st.booleans(), **sizes)
def test_minari_there_and_back(tmp_path, space, logp, agents, count, seed):
    task = toy(space, agents)
    d = with_logp(episodes(task, count, seed)) if logp else episodes(task, count, seed)
    back, said = there_and_back(tmp_path, d, task, "minari", "")
    assert content_sha256(back) == content_sha256(d)
    assert said == "no place for: the task's family, backend and reference returns"


@pytest.mark.parametrize(("name", "lost"), [("v2:hopper_3x1-medium", False), ("a.b+c-odd", True)])
def test_minari_tells_the_task_and_its_limit(tmp_path, name, lost):
    task = known(name) or toy(name=name, quality="odd")
    d = episodes(task, 2)
    save(d, tmp_path / "x.h5")
    assert bool(LAYOUTS["minari"].write(tmp_path / "x.h5", tmp_path / "y")) == lost
    back = convert("minari", tmp_path / "y", tmp_path / "z.h5")
    assert (back.name, back.spec, back.quality) == (name, task.spec, task.quality)
    assert content_sha256(load(tmp_path / "z.h5")) == content_sha256(d)


@pytest.mark.parametrize(
    ("about", "name", "limit"),
    [
        ({"inspo_task": "../x-y", "inspo_limit": 1 << 40}, "toy-random", 8),
        ({"inspo_task": ["a-b"], "inspo_limit": "9"}, "toy-random", 8),
        ({"inspo_task": "nameless", "inspo_limit": True}, "toy-random", 8),
        ({"inspo_task": "a-b\n", "inspo_limit": 7}, "toy-random", 8),
        ({"inspo_task": "a-b", "inspo_limit": 12}, "a-b", 12),
    ],
)
def test_what_a_minari_file_says_of_its_task_is_checked(tmp_path, about, name, limit):
    d = episodes(toy())
    save(d.subset(d.lengths <= 8), tmp_path / "x.h5")
    LAYOUTS["minari"].write(tmp_path / "x.h5", tmp_path / "y")
    path = tmp_path / "y" / "data" / "metadata.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | about))
    got = convert("minari", tmp_path / "y", tmp_path / "z.h5")
    assert (got.name, got.spec.episode_limit) == (name, limit)


def test_an_episode_that_is_cut_is_not_won(tmp_path):
    d = episodes(toy(), 20)
    save(d, tmp_path / "ours.h5")
    LAYOUTS["minari"].write(tmp_path / "ours.h5", tmp_path / "theirs")
    cut = read("minari", tmp_path / "theirs", toy(), limit=4)
    assert cut.won.tolist() == [0 if won == 1 and length > 4 else won for won, length in zip(d.won, d.lengths)]
    assert 0 < (cut.won == 1).sum() < (d.won == 1).sum()


@quick
@given(count=st.integers(1, 30), seed=st.integers(0, 99), size=st.integers(1, 4000))
def test_parts_of_a_file_are_the_file(tmp_path, count, seed, size):
    d = with_logp(episodes(toy(), count, seed))
    save(d, tmp_path / "x.h5")
    with pytest.MonkeyPatch.context() as m:
        m.setattr("inspo_benchmark.datasets.format.PART", size)
        some = list(parts(tmp_path / "x.h5"))
        assert same(concatenate(some), load(tmp_path / "x.h5"))
        assert len(some) > 1 or size > 300 or count == 1


def test_a_conversion_in_parts_is_the_conversion_at_once(tmp_path, monkeypatch):
    d = episodes(toy(), 50)
    save(d, tmp_path / "ours.h5")
    LAYOUTS["pymarl"].write(tmp_path / "ours.h5", tmp_path / "theirs.h5")
    whole = read("pymarl", tmp_path / "theirs.h5", toy())
    monkeypatch.setattr("inspo_benchmark.datasets.format.PART", 2000)
    assert content_sha256(read("pymarl", tmp_path / "theirs.h5", toy())) == content_sha256(whole)


def test_an_export_in_parts_is_the_export_at_once(tmp_path, monkeypatch):
    """Padded episodes may be far larger than those of the file."""
    save(episodes(toy(), 50), tmp_path / "x.h5")
    LAYOUTS["pymarl"].write(tmp_path / "x.h5", tmp_path / "whole.h5")
    monkeypatch.setattr("inspo_benchmark.datasets.layouts.pymarl.PART", 2000)
    LAYOUTS["pymarl"].write(tmp_path / "x.h5", tmp_path / "parts.h5")
    with h5py.File(tmp_path / "whole.h5") as whole, h5py.File(tmp_path / "parts.h5") as some:
        assert whole.keys() == some.keys()
        for key in whole:
            np.testing.assert_array_equal(whole[key], some[key])


def test_an_export_of_a_game_is_what_pymarl_reads(tmp_path):
    """The first and the last episode of Bridge, held against the arrays, with the keys that CFCQL and ICQ ask for."""
    d = build(TASK)
    save(d, tmp_path / "x.h5")
    assert LAYOUTS["pymarl"].write(tmp_path / "x.h5", tmp_path / "y.h5") == "no place for: seed"
    with h5py.File(tmp_path / "y.h5") as f:
        kinds = {key: (x.shape, x.dtype.str) for key, x in f.items()}
        assert kinds == {
            "state": ((1000, 21, 8), "<f4"),
            "obs": ((1000, 21, 2, 8), "<f4"),
            "actions": ((1000, 21, 2, 1), "<i8"),
            "actions_onehot": ((1000, 21, 2, 5), "<f4"),
            "avail_actions": ((1000, 21, 2, 5), "<i4"),
            "probs": ((1000, 21, 2, 5), "<f4"),
            "reward": ((1000, 21, 1), "<f4"),
            "terminated": ((1000, 21, 1), "|u1"),
            "filled": ((1000, 21, 1), "<i8"),
        }
        n = int(d.lengths[-1])
        assert f["filled"][-1, :, 0].tolist() == [1] * (n + 1) + [0] * (20 - n)
        assert f["terminated"][-1, :, 0].nonzero()[0].tolist() == [n - 1]
        assert f["terminated"][0].sum() == 0  # its limit is no end
        np.testing.assert_array_equal(f["actions"][-1, :n, :, 0], d.actions[-n:])
        np.testing.assert_array_equal(f["actions_onehot"][-1, :n].argmax(-1), d.actions[-n:])
        np.testing.assert_array_equal(f["reward"][-1, :n, 0], d.rewards[-n:])
        assert not f["obs"][-1, n + 1 :].any()
    back = read("pymarl", tmp_path / "y.h5", TASK)
    assert content_sha256(back) == content_sha256(without(d, "seed"))


def test_minari_itself_opens_an_export(tmp_path):
    minari = pytest.importorskip("minari")
    task = toy(Box(2), 3)
    d = episodes(task)
    save(d, tmp_path / "x.h5")
    LAYOUTS["minari"].write(tmp_path / "x.h5", tmp_path / "y")
    theirs = minari.MinariDataset(tmp_path / "y" / "data")
    assert (theirs.total_episodes, int(theirs.total_steps), theirs.id) == (d.episodes, d.steps, "toy/random-v0")
    for e, episode in enumerate(theirs.iterate_episodes()):
        rows = slice(d.offset[e] + e, d.offset[e + 1] + e + 1)
        np.testing.assert_array_equal(episode.observations["agent_1"], d.obs[rows, 1])
        np.testing.assert_array_equal(episode.actions["agent_2"], d.actions[d.offset[e] : d.offset[e + 1], 2])
        np.testing.assert_array_equal(episode.terminations, d.terminated[d.offset[e] : d.offset[e + 1]])
        assert theirs.action_space["agent_0"].contains(episode.actions["agent_0"][0])


def test_a_dataset_that_minari_wrote_converts(tmp_path):
    """Made by Minari's own storage."""
    gym, storage = pytest.importorskip("gymnasium"), pytest.importorskip("minari.dataset.minari_storage")
    from minari.data_collector import EpisodeBuffer

    spaces = {name: gym.spaces.Dict({f"agent_{i}": space for i in range(2)}) for name, space in _spaces(gym).items()}
    (tmp_path / "d").mkdir()
    store = storage.MinariStorage.new(tmp_path / "d" / "data", spaces["observations"], spaces["actions"])
    t = np.arange(4, dtype=np.float32)[:, None]
    buffer = EpisodeBuffer(
        seed=3,
        observations={"agent_0": np.hstack([t, t]), "agent_1": np.hstack([t, -t])},
        actions={"agent_0": np.full((3, 1), 0.5, "f4"), "agent_1": np.full((3, 1), -0.5, "f4")},
        rewards=[1.0, 2.0, 3.0],
        terminations=[False, False, False],
        truncations=[False, False, True],
        infos={},
    )
    store.update_episodes([buffer])
    d = read("minari", tmp_path / "d")
    assert d.obs[:, 1].tolist() == [[0, 0], [1, -1], [2, -2], [3, -3]]
    assert (d.rewards.tolist(), d.truncated.tolist(), d.seed.tolist()) == ([1, 2, 3], [False, False, True], [3])


def _spaces(gym) -> dict:
    return {
        "observations": gym.spaces.Box(-np.inf, np.inf, (2,), np.float32),
        "actions": gym.spaces.Box(-1, 1, (1,), np.float32),
    }


def test_exports_appear_whole_or_not_at_all(tmp_path):
    save(episodes(toy(Box(2))), tmp_path / "box.h5")
    save(episodes(toy()), tmp_path / "discrete.h5")
    for layout, ours, words in (("pymarl", "box", "discrete actions"), ("omiga", "discrete", "continuous actions")):
        with pytest.raises(UserError, match=words):
            LAYOUTS[layout].write(tmp_path / f"{ours}.h5", tmp_path / "y")
    content = (tmp_path / "discrete.h5").read_bytes()
    (tmp_path / "bad.h5").write_bytes(content[:-200])
    for layout in ("pymarl", "omiga", "minari"):
        with pytest.raises(UserError, match="damaged"):
            LAYOUTS[layout].write(tmp_path / "bad.h5", tmp_path / "y")
        with pytest.raises(UserError, match="no such file"):
            LAYOUTS[layout].write(tmp_path / "no.h5", tmp_path / "y")
    with pytest.raises(UserError, match="cannot write"):
        LAYOUTS["minari"].write(tmp_path / "discrete.h5", tmp_path / "box.h5" / "y")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.h5", "box.h5", "discrete.h5"]


def test_no_file_is_overwritten(tmp_path, capsys):
    """Neither a source by its own export or conversion, nor another file, nor a link; and that is said before a source is opened."""
    save(build(TASK), tmp_path / "ours.h5")
    save(episodes(toy(Box(2))), tmp_path / "box.h5")
    LAYOUTS["pymarl"].write(tmp_path / "ours.h5", tmp_path / "theirs.h5")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.h5").symlink_to("nothing.h5")
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for command in (
        "export pymarl ours.h5 ours.h5",
        "export pymarl ours.h5 theirs.h5",
        "export pymarl ours.h5 link.h5",
        "export omiga box.h5 ours.h5",
        "export minari ours.h5 folder",
        "convert pymarl theirs.h5 theirs.h5",
        "convert pymarl theirs.h5 ours.h5 --task bridge-mix",
        "convert pymarl theirs.h5 link.h5",
        "convert pymarl theirs.h5 folder",
        "convert pymarl nothing.npz ours.h5",
    ):
        verb, layout, source, target, *more = command.split()
        assert main([verb, layout, str(tmp_path / source), str(tmp_path / target), *more]) == 2, command
        assert capsys.readouterr() == ("", f"error: {tmp_path / target} exists; delete it first or choose another name\n"), command
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    assert (tmp_path / "link.h5").is_symlink()
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize("way", ["recording/data/x.h5", "link/x.h5", "recording/../recording/x.h5"])
def test_nothing_is_written_into_a_recording(tmp_path, capsys, way):
    save(episodes(toy()), tmp_path / "ours.h5")
    LAYOUTS["minari"].write(tmp_path / "ours.h5", tmp_path / "recording")
    (tmp_path / "link").symlink_to("recording")
    before = sorted((tmp_path / "recording").rglob("*"))
    assert main(["convert", "minari", str(tmp_path / "recording"), str(tmp_path / way)]) == 2
    assert f"{tmp_path / way} is inside {tmp_path / 'recording'}" in capsys.readouterr().err
    assert sorted((tmp_path / "recording").rglob("*")) == before
    assert main(["convert", "minari", str(tmp_path / "recording"), str(tmp_path / "recording.h5")]) == 0


def test_a_dataset_is_a_file_of_its_kind(tmp_path, capsys):
    assert main(["convert", "pymarl", "theirs.npz", str(tmp_path / "ours.npz")]) == 2
    assert capsys.readouterr() == ("", f"error: {tmp_path / 'ours.npz'}: the name of a dataset ends with .h5\n")
    assert not list(tmp_path.iterdir())


def test_a_full_disk(tmp_path):
    """Files may not grow beyond 20 kB in the child: what a full disk is to a program. Nothing partial is left, and the library lives."""
    d = build(TASK)
    save(d, tmp_path / "x.h5")
    LAYOUTS["pymarl"].write(tmp_path / "x.h5", tmp_path / "y.h5")
    code = """if True:
        import sys
        from inspo_benchmark.datasets.__main__ import main
        ours, theirs, new = sys.argv[1:]
        print(main(["convert", "pymarl", theirs, f"{new}.h5", "--task", "bridge-mix"]), flush=True)
        for layout in ("pymarl", "minari"):
            print(main(["export", layout, ours, new]), flush=True)
    """

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    names = [str(tmp_path / name) for name in ("x.h5", "y.h5", "new")]
    done = subprocess.run([sys.executable, "-c", code, *names], cwd=ROOT, preexec_fn=small_files, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "2\n" * 3), done
    assert [line[:29] for line in done.stderr.splitlines()] == ["error: no space left on the d"] * 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.h5", "y.h5"]


# --- the audit


def edited(d: Dataset, name: str, index, value) -> Dataset:
    x = getattr(d, name).copy()
    x[index] = value
    return replace(d, **{name: x})


@pytest.mark.parametrize("name", ["xor-ab_ba", "mne3-imbalanced", "bridge-mix", "bridge-optimal"])
def test_what_we_build_is_repeated_by_the_games(name):
    assert audit(build(TASKS[name]), TASKS[name]) == []


def test_the_games_find_what_was_changed():
    d = build(TASK)
    assert audit(edited(d, "rewards", 3, -1), TASK)[0].startswith("steps/rewards: -1.0 at step 3 of the file, in episode 0; the game says")
    row = d.offset[999] + 999 + 2
    found = audit(edited(edited(d, "obs", (row, 0, 0), 9), "state", (row, 1), 9), TASK)
    assert found == [f"obs/{x}: row {row} of the file, in episode 999, is not the game's, 1 of 64 episodes" for x in ("obs", "state")]
    assert "is not the environment's first" in audit(edited(d, "obs", (0, 0, 0), 9), TASK)[0]
    ended = edited(edited(d, "terminated", 19, True), "truncated", 19, False)
    assert audit(ended, TASK)[0].startswith("steps/terminated: True at step 19")


def test_a_recording_that_was_cut_keeps_its_reward():
    d = build(TASK)
    paid = edited(d, "rewards", 19, -0.5)
    assert audit(paid, TASK)
    assert audit(replace(paid, meta=d.meta | {"source": "a recording"}), TASK) == []


def test_the_simulator_shows_the_same_start():
    task = TASKS["3m-random"]
    d = collect.smac(task, 20)
    assert audit(d, task) == []
    assert "is not the environment's first" in audit(edited(d, "state", (0, 0), 9), task)[0]


def _twice(d: Dataset) -> Dataset:
    """Its first episode in the second's place as well."""
    n = int(d.lengths[0])
    first = {
        name: getattr(d, name)[: n + 1 if name in ("obs", "state", "avail") else n] for name in PATHS if PATHS[name][:3] in ("obs", "ste")
    }
    one = Dataset(**first, offset=np.array([0, n]), won=d.won[:1], seed=d.seed[:1], meta=d.meta)
    return concatenate([one, one, d])


def test_copies_where_episodes_start_differently():
    d = episodes(toy())
    assert audit(_twice(d), None) == ["episodes: episode 1 is a copy of episode 0, 2 of 8 are copies"]
    assert audit(d, None) == []


def test_ends_that_no_limit_made():
    d = episodes(toy())
    built = replace(d, meta=d.meta | {"source": "built"})
    assert audit(d, None) == []
    assert "ends by the time limit after" in audit(built, None)[0]


def test_validate_lists_all_files(tmp_path, capsys):
    d = build(TASKS["xor-ab"])
    save(d, tmp_path / "a.h5")
    save(edited(d, "rewards", 7, 0), tmp_path / "b.h5")
    assert main(["validate", str(tmp_path / "a.h5"), str(tmp_path / "b.h5")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        f"{tmp_path / 'a.h5'}: sound",
        "steps/rewards: 0.0 at step 7 of the file, in episode 0; the game says 1.0",
        f"{tmp_path / 'b.h5'}: 1 violation",
    ]


def test_validate_goes_on_after_files_that_cannot_be_checked(tmp_path, capsys):
    d = build(TASKS["xor-ab"])
    save(d, tmp_path / "a.h5")
    save(edited(d, "rewards", 7, 0), tmp_path / "b.h5")
    (tmp_path / "folder.h5").mkdir()
    names = ["no.h5", "a.h5", "folder.h5", "b.h5"]
    assert main(["validate", *(str(tmp_path / name) for name in names)]) == 2
    out, err = capsys.readouterr()
    assert [line.partition(": ")[0] for line in out.splitlines()] == [str(tmp_path / "a.h5"), "steps/rewards", str(tmp_path / "b.h5")]
    errors = err.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith(f"error: {tmp_path / 'no.h5'}: no such file")
    assert errors[1].startswith(f"error: {tmp_path / 'folder.h5'}: a folder")


RECORDINGS = ROOT.parent / "shared" / "data" / "alberdice"


@pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings of AlberDICE are not beside the repository")
@pytest.mark.parametrize(("file", "name"), [("bridge_mix", "bridge-mix"), ("xor_02_20", "xor-ab_ba"), ("xor_random", "xor-all")])
def test_the_originals_convert_replay_and_come_back(tmp_path, file, name):
    convert("pymarl", RECORDINGS / f"{file}.npz", tmp_path / "x.h5", name)
    d = load(tmp_path / "x.h5", TASKS[name])
    assert audit(d, TASKS[name]) == []
    LAYOUTS["pymarl"].write(tmp_path / "x.h5", tmp_path / "y.h5")
    assert content_sha256(read("pymarl", tmp_path / "y.h5", TASKS[name])) == content_sha256(d)


# --- pictures


@pytest.mark.parametrize("kind", ["png", "pdf", "svg"])
def test_pictures(tmp_path, capsys, kind):
    save(episodes(toy(), 20), tmp_path / "a.h5")
    save(episodes(toy(Box(2), name="toy-medium", quality="medium"), 20), tmp_path / "b.h5")
    save(build(TASKS["xor-ab"]), tmp_path / "c.h5")  # one state, one action, one return
    for files in ("a", "b", "c", "ab", "abc") if kind == "png" else ("ac",):
        out = tmp_path / f"{files}.{kind}"
        assert draw_main([*(str(tmp_path / f"{f}.h5") for f in files), "--out", str(out)]) == 0
        assert out.stat().st_size > 3000
    assert draw_main([str(tmp_path / "a.h5"), "--out", str(tmp_path / "x.jpg")]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_components_are_those_of_the_covariance():
    from inspo_benchmark.plots.dataset_figures import components

    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 4)).astype("f4")
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    z = (x - x.mean(0)) / x.std(0)
    values, axes = np.linalg.eigh(np.cov(z.T, bias=True))
    onto, share = components(x)
    at = onto(x)
    assert share == pytest.approx(tuple(values[:-3:-1] / values.sum()), abs=1e-4)
    assert np.abs(np.corrcoef(at[:, 0], z @ axes[:, -1])[0, 1]) == pytest.approx(1, abs=1e-6)
