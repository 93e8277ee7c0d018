"""Recordings in PyMARL's layout: converted faithfully, or refused by name."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Box
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.__main__ import main
from inspo_benchmark.datasets.dataset import content_sha256
from inspo_benchmark.datasets.format import load, save
from inspo_benchmark.datasets.generate import record
from inspo_benchmark.datasets.layouts.pymarl import KEYS
from support.datasets import read, violations
from support.recordings import flat, recording, write

TASKS.discover()
RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "alberdice"
recorded = pytest.mark.skipif(not RECORDINGS.exists(), reason="the recordings of AlberDICE are not beside the repository")
FILES = {
    "xor-ab": "xor_02",
    "xor-ab_ba": "xor_02_20",
    "xor-aa_ab_ba": "xor_00_02_20",
    "xor-all": "xor_random",
    "bridge-optimal": "bridge_optimal",
    "bridge-mix": "bridge_mix",
}
MIX = TASKS["bridge-mix"]


@pytest.mark.parametrize("layout", [".npz", ".h5", ""])
def test_every_layout_gives_the_same(tmp_path, layout):
    x = recording()
    d = read("pymarl", write(tmp_path, x | {"probs": np.zeros(3), "actions_onehot": np.zeros(3)}, layout), MIX)
    again = record(MIX, np.zeros((20, 1, 2), int), "")
    assert d.meta.keys() == again.meta.keys()
    assert content_sha256(d) == content_sha256(read("pymarl", write(tmp_path, x, ".npz"), MIX))
    lengths = x["filled"][..., 0].sum(1) - 1
    np.testing.assert_array_equal(d.lengths, lengths)
    for e, n in enumerate(lengths):
        steps, rows = slice(d.offset[e], d.offset[e + 1]), slice(d.offset[e] + e, d.offset[e + 1] + e + 1)
        np.testing.assert_array_equal(d.obs[rows], x["obs"][e, : n + 1])
        np.testing.assert_array_equal(d.state[rows], x["state"][e, : n + 1])
        np.testing.assert_array_equal(d.actions[steps], x["actions"][e, :n, :, 0])
        np.testing.assert_array_equal(d.rewards[steps], x["reward"][e, :n, 0])


def test_a_flag_at_the_limit_is_a_truncation_unless_the_game_is_over(tmp_path):
    d = read("pymarl", write(tmp_path, recording()), MIX)
    assert d.lengths[-1] == 8
    assert d.terminated[-1]
    assert d.terminated.sum() == 1  # nobody arrives by chance within 12 steps
    assert d.truncated.sum() == 29
    full = read("pymarl", write(tmp_path, recording(limit=8)), MIX)  # the arrival is on the last row that fits
    assert full.terminated[-1]
    assert full.truncated.sum() == 29


def test_cutting_is_a_truncation_that_keeps_the_reward(tmp_path):
    path = write(tmp_path, recording())
    whole, cut = read("pymarl", path, MIX), read("pymarl", path, MIX, limit=8)
    assert (cut.lengths == 8).all()
    assert cut.terminated.sum() == 1
    assert cut.truncated.sum() == 29
    np.testing.assert_array_equal(cut.rewards[:8], whole.rewards[:8])
    assert cut.rewards[7] < 0
    assert whole.rewards[11] == 0
    assert "29 of 30 episodes cut to 8 steps" in cut.meta["notes"]
    short = read("pymarl", path, MIX, limit=7)
    assert not short.terminated.any()
    for limit in (-1, 0, 21):
        with pytest.raises(UserError, match=rf"limit {limit}: episodes of bridge-mix have 1 \.\. 20 steps"):
            read("pymarl", path, MIX, limit=limit)


def test_flags_of_other_families_are_believed(tmp_path):
    """StarCraft: a flag is a real end, on the last row as well; no flag is the time limit."""
    x = recording()
    x["terminated"][3] = 0
    task = Task("3m-medium", MIX.spec, MIX.make, "smac", "medium", "none", (0, 1))
    d = read("pymarl", write(tmp_path, x), task)
    ends = d.offset[1:] - 1
    assert d.truncated[ends].nonzero()[0].tolist() == [3]
    assert d.terminated[ends].sum() == 29


def test_the_source_is_on_record(tmp_path):
    path = write(tmp_path, recording(), "")
    d = read("pymarl", path, MIX)
    assert d.meta["source"] == "recording (PyMARL layout)"
    assert len(d.meta["source_sha256"]) == 64
    assert "action beside each last observation" in d.meta["notes"]
    np.save(path / "reward.npy", np.load(path / "reward.npy") * 2)
    assert read("pymarl", path, MIX).meta["source_sha256"] != d.meta["source_sha256"]


def put(key, index, value):
    def edit(x):
        x[key][index] = value

    return edit


FAULTS = {
    "missing key": (lambda x: x.pop("reward"), "no reward; a PyMARL recording has"),
    "observation size": (
        lambda x: x.update(obs=x["obs"][..., :7]),
        "is not of bridge-mix: observations of 7, not 8",
    ),
    "agents": (lambda x: x.update(actions=x["actions"][:, :, :1]), r"actions has shape \(30, 13, 1, 1\), .* asks for \(30, 13, 2, 1\)"),
    "actions": (lambda x: x.update(avail_actions=x["avail_actions"][..., :4]), "is not of bridge-mix: actions 4, not 5"),
    "episodes": (lambda x: x.update(reward=x["reward"][:-1]), "reward has shape"),
    "scalar": (lambda x: x.update(filled=np.array(1)), r"filled \(\); a PyMARL recording has"),
    "kind of actions": (lambda x: x.update(actions=x["actions"].astype("f4")), "actions is of type float32"),
    "complex": (lambda x: x.update(obs=x["obs"].astype("c8")), "obs is of type complex64"),
    "text": (lambda x: x.update(reward=x["reward"].astype("S4")), "reward is of type"),
    "holes": (put("filled", (4, 3), 0), "'filled' has holes in episode 4"),
    "nothing filled": (put("filled", 5, 0), "there is no step in episode 5"),
    "early end": (put("terminated", (2, 3), 1), "the game goes on after 'terminated' in episode 2"),
    "action": (put("actions", (1, 1, 0), 300), r"action 300 in the data"),
    "negative action": (put("actions", (1, 1, 0), -1), r"action -1 in the data"),
    "illegal action": (put("avail_actions", (slice(None), 0, 0), [1, 0, 0, 0, 0]), "an action that is not available"),
    "NaN": (put("obs", (0, 2, 1, 3), np.nan), "obs/obs: NaN or infinity, 1 times"),
    "NaN reward": (put("reward", (0, 2), np.nan), "steps/rewards: NaN"),
    "beyond float32": (lambda x: x.update(state=x["state"].astype("f8") + 1e300), "obs/state: NaN or infinity"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_faults_are_named(tmp_path, what):
    edit, expected = FAULTS[what]
    x = recording()
    edit(x)
    path = write(tmp_path, x)
    with pytest.raises(UserError, match=expected) as e:
        save(read("pymarl", path, MIX), tmp_path / "x.h5")
    assert str(e.value).isprintable()
    assert not (tmp_path / "x.h5").exists()


def test_actions_of_any_size_are_one_line(tmp_path, capsys):
    for number in (2**60, 2**62, 2**63 - 1):
        source = flat(tmp_path, actions=np.array([[0, number, 0, 0, 0]] * 2).T)
        assert main(["convert", "flat", str(source), str(tmp_path / "x.h5")]) == 2
        assert f"MiB, with {number + 1} actions per agent" in capsys.readouterr().err


def test_pickles_are_not_loaded(tmp_path):
    class Trap:
        def __reduce__(self):
            return (Path(tmp_path / "sprung").touch, ())

    x = recording() | {"reward": np.array([Trap()], object)}
    for layout in (".npz", ""):
        with pytest.raises(UserError, match="pickled objects, which are never loaded"):
            read("pymarl", write(tmp_path, x, layout), MIX)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("layout", [".npz", ".h5"])
def test_damaged_recordings(tmp_path, layout):
    path = write(tmp_path, recording(), layout)
    whole = path.read_bytes()
    for n in (0, 10, len(whole) // 2, len(whole) - 30):
        path.write_bytes(whole[:n])
        with pytest.raises(UserError, match="cut short, damaged"):
            read("pymarl", path, MIX)


def test_a_flipped_byte_of_an_archive(tmp_path):
    path = write(tmp_path, recording())
    with zipfile.ZipFile(path) as archive:
        inside = [archive.getinfo(f"{key}.npy").header_offset + 80 for key in KEYS]
    whole = path.read_bytes()
    for i in inside:
        damaged = bytearray(whole)
        damaged[i] ^= 0xFF
        path.write_bytes(damaged)
        with pytest.raises(UserError):
            read("pymarl", path, MIX)


def test_neither_there_nor_a_recording(tmp_path):
    (tmp_path / "x.csv").write_text("1,2")
    with pytest.raises(UserError, match=r"neither \.npz nor \.h5 nor a folder"):
        read("pymarl", tmp_path / "x.csv", MIX)
    with pytest.raises(UserError, match="no such file or folder"):
        read("pymarl", tmp_path / "nothing.npz", MIX)
    with pytest.raises(UserError, match="no state, obs"):
        read("pymarl", tmp_path, MIX)
    continuous = Task("c-x", Spec(3, 8, 8, Box(2), 20), MIX.make, "c", "x", "none", (0, 1))
    with pytest.raises(UserError, match="is not of c-x: agents 2, not 3; actions discrete, not continuous"):
        read("pymarl", write(tmp_path, recording()), continuous)


def test_a_recording_of_no_episodes(tmp_path):
    path = write(tmp_path, {name: x[:0] for name, x in recording().items()})
    with pytest.raises(UserError, match="there are no episodes"):
        read("pymarl", path, MIX)


def test_command_line(tmp_path, capsys):
    source, target = write(tmp_path, recording()), tmp_path / "bridge-mix.h5"
    assert main(["convert", "pymarl", str(source), str(target), "--task", "bridge-mix", "--limit", "9"]) == 0
    assert violations(target, MIX) == []
    assert load(target, MIX).lengths.max() == 9
    capsys.readouterr()
    other = tmp_path / "xor-ab.h5"
    assert main(["convert", "pymarl", str(source), str(other), "--task", "xor-ab"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not other.exists()


@recorded
@pytest.mark.parametrize("name", FILES)
def test_the_recordings_of_alberdice(tmp_path, name):
    task = TASKS[name]
    d = read("pymarl", RECORDINGS / f"{FILES[name]}.npz", task)
    save(d, tmp_path / "x.h5")
    assert violations(tmp_path / "x.h5", task) == []
    if task.family == "xor":
        assert (d.episodes, d.steps, d.truncated.sum(), d.terminated.sum()) == (100, 5000, 100, 0)
    else:
        optimal = d.returns[-500:]
        assert d.episodes == (500 if name == "bridge-optimal" else 1000)
        assert optimal.mean() == pytest.approx(-1.26202, abs=1e-5)
        assert d.terminated.sum() == 500  # within 20 steps no random episode arrives
        assert set(d.lengths) == {8} | ({20} if name == "bridge-mix" else set())
