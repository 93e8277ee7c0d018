"""Recordings of others, made here as their authors' code makes them and not with our own writers, become exactly the arrays worked out by
hand; what the layouts do not say the same way is decided and noted."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Spec
from inspo_benchmark.datasets.__main__ import main
from inspo_benchmark.datasets.convert import convert
from inspo_benchmark.datasets.dataset import Dataset
from inspo_benchmark.datasets.format import load
from inspo_benchmark.datasets.layouts import LAYOUTS
from inspo_benchmark.datasets.layouts._known import known, unregistered
from inspo_benchmark.datasets.validate import problems
from support.datasets import read, violations
from support.recordings import flat, madt, minari, omar, omiga, vault

TASKS.discover(), LAYOUTS.discover()
F = np.float32


def task(spec: Spec, name: str = "toy-recorded"):
    return unregistered(name, spec, "toy", "none")


def ends(d: Dataset) -> list[str]:
    """How each episode ended, t or c (cut)."""
    return ["t" if over else "c" for over in d.terminated[d.offset[1:] - 1]]


def refused(layout: str, source: Path, *words: str, to=None) -> None:
    with pytest.raises(UserError) as e:
        read(layout, source, to)
    assert str(e.value).isprintable()
    for word in words:
        assert word in str(e.value), str(e.value)


# --- OMIGA


def test_omiga_drops_the_row_behind_an_episode_and_keeps_what_it_shows(tmp_path):
    path = omiga(tmp_path / "x.hdf5")
    d = read("omiga", path)
    assert d.lengths.tolist() == [2, 1, 1]
    assert d.obs[:, 0, 0].tolist() == [100, 101, 102, 103, 104, 106, 107]
    assert d.obs[:, 1, 3:].tolist() == [[0, 1]] * 7
    assert d.state.tolist() == [[t, t, t, 1, 0] for t in (0, 1, 2, 3, 4, 6, 7)]
    assert d.rewards.tolist() == [0, 10, 30, 60]
    a = np.linspace(-1, 1, 16, dtype=F).reshape(8, 2, 1)
    np.testing.assert_array_equal(d.actions, a[[0, 1, 3, 6]])
    assert ends(d) == ["t", "t", "c"]  # the longest, but shorter than the limit; shorter; recorded without its end
    assert ends(read("omiga", path, task(Spec(2, 5, 5, Box(1), 2)))) == ["c", "t", "c"]
    assert "1 flags without a step left out" in d.meta["notes"]
    assert "the last episode was cut short" in d.meta["notes"]
    assert d.meta["task"] == "x-recorded"


def test_omiga_of_any_name_has_the_limit_of_robots(tmp_path):
    for steps, limit, end in ((999, 1000, "t"), (1000, 1000, "c"), (1200, 1200, "c")):
        d = np.zeros(steps + 6, F)
        d[[steps, -1]] = 1
        got = read("omiga", omiga(tmp_path / f"{steps}.hdf5", d))
        assert (got.lengths.tolist(), got.meta["limit"], ends(got)) == ([steps, 4], limit, [end, "t"])


def test_omiga_keeps_the_agents_states_where_they_differ(tmp_path):
    s = np.random.default_rng(0).normal(size=(8, 2, 5)).astype(F)
    d = read("omiga", omiga(tmp_path / "x.hdf5", s=s))
    np.testing.assert_array_equal(d.state, s.reshape(8, 10)[[0, 1, 2, 3, 4, 6, 7]])
    assert "end to end" in d.meta["notes"]


def test_omiga_of_a_known_name_has_its_sizes(tmp_path):
    rng, n, o = np.random.default_rng(0), 6, 23
    d = np.zeros(1011, F)
    d[[1000, 1010]] = 1
    path = tmp_path / "HalfCheetah-v2-6x1-medium-replay.hdf5"
    x = rng.normal(size=(1011, 1, o)).astype(F) + np.zeros((1, n, 1), F)
    omiga(path, d, n, s=x, o=x, a=rng.uniform(-1.5, 1.5, (1011, n, 1)).astype(F), r=rng.normal(size=1011).astype(F))
    got = convert("omiga", path, tmp_path / "out.h5")
    d = load(tmp_path / "out.h5", got)
    assert (got.name, got.spec) == ("v2:halfcheetah_6x1-medium_replay", Spec(6, 23, 23, Box(1), 1000))
    assert (d.lengths.tolist(), ends(d)) == ([1000, 9], ["c", "t"])
    assert np.abs(d.actions).max() == 1
    assert "actions beyond [-1, 1] clipped" in d.meta["notes"]
    refused("omiga", path, "observations of 23, not 14", "agents 6, not 3", to=known("v2:hopper_3x1-expert"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(r=np.zeros((8, 2), F)), ["r has shape (8, 2)"]),
        (dict(d=np.full((8, 1), 0.5, F)), ["d is neither 0 nor 1 in row 0"]),
        (dict(a=np.zeros((7, 2, 1), F)), ["a has shape (7, 2, 1)"]),
        (dict(s=np.zeros((8, 2, 3, 1), F)), ["s (8, 2, 3, 1)"]),
        (dict(o=np.full((8, 2, 5), np.nan, F)), ["obs/obs: NaN"]),
        (dict(s=np.full((8, 2, 5), np.inf, F)), ["obs/state: NaN or infinity"]),
        (dict(d=np.ones((8, 1), F)), ["d is 1 in every row"]),
        (dict(r=np.array(["a"] * 8, "S1")), ["no r"]),
    ],
)
def test_omiga_faults(tmp_path, change, words):
    refused("omiga", omiga(tmp_path / "x.hdf5", **change), *words)


def test_omiga_without_the_extra_row(tmp_path):
    d = np.zeros(2000, F)
    d[[999, 1999]] = 1
    refused("omiga", omiga(tmp_path / "x.hdf5", d), "1000 rows in every episode", "1001")


# --- OMAR


def test_omar_spread_is_blocks_of_25_whose_ends_are_time_limits(tmp_path):
    d = read("omar", omar(tmp_path))
    assert d.meta["task"] == "simple_spread-medium_replay"
    assert (d.lengths.tolist(), ends(d)) == ([25, 25], ["c", "c"])
    assert d.obs[:, 0, 0].tolist() == [*range(26), *range(1000, 1026)]
    assert d.obs[0, :, 0].tolist() == [0, 1, 2]
    assert d.state.shape == (52, 54)
    assert d.state[25, [0, 18, 36]].tolist() == [25, 26, 27]
    assert d.rewards[:3].tolist() == [0, 2, 4]  # mean of 1, 2 and 3 times t
    np.testing.assert_array_equal(d.actions[0], np.array([[0, 0], [0.1, 0.1], [0.2, 0.2]], F))
    assert "blocks of 25 steps" in d.meta["notes"]


def test_omar_tag_leaves_out_the_prey_and_is_paid_as_agent_0(tmp_path):
    d = read("omar", omar(tmp_path, "simple_tag", sizes=(16, 16, 16, 14)))
    assert (d.meta["agents"], d.meta["obs"], d.meta["state"]) == (3, 16, 48)
    assert d.rewards[:3].tolist() == [0, 1, 2]
    assert "files of 1 agents that are not learned left out" in d.meta["notes"]


def test_omar_halfcheetah_is_blocks_of_1000_and_its_done_a_limit(tmp_path):
    d = read("omar", omar(tmp_path, "HalfCheetah-v2", block=1000, sizes=(6, 6)))
    assert d.meta["task"] == "v2:halfcheetah_2x3-medium_replay"
    assert (d.lengths.tolist(), ends(d)) == ([1000, 1000], ["c", "c"])
    assert d.state[[0, 1000, 1001, 2001], 0].tolist() == [0, 1000, 1000, 2000]
    assert d.rewards[-1] == 1999


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(blocks=1, block=24), ["24 steps are not whole episodes of 25"]),
        (dict(next_obs=np.zeros((50, 18))), ["next_obs_0 is not the obs_0 that follows in step 0,"]),
        (dict(dones=np.arange(50) == 7), ["'done' within an episode of 25 steps in step 7"]),
        (dict(acs=np.zeros(50)), ["acs_0 (50,)"]),
        (dict(rews=np.zeros(49)), ["rews_0 has shape (49,)"]),
        (dict(sizes=(17, 17, 17)), ["observations of 17, not 18"]),
    ],
)
def test_omar_faults(tmp_path, change, words):
    refused("omar", omar(tmp_path, **change), *words)


# --- OG-MARL


def test_a_vault_repeats_the_last_observation_it_holds(tmp_path):
    d = read("vault", vault(tmp_path))
    assert d.meta["task"] == "og_marl:3m-good"
    assert (d.lengths.tolist(), ends(d)) == ([3, 2, 2], ["t", "c", "c"])
    assert d.obs[:, 1, 0].tolist() == [0.5, 1.5, 2.5, 2.5, 3.5, 4.5, 4.5, 5.5, 6.5, 6.5]
    assert d.state[:, 1].tolist() == [0, 10, 20, 20, 30, 40, 40, 50, 60, 60]
    assert d.actions.tolist() == [[t % 3, (t + 1) % 3] for t in range(7)]
    assert d.rewards.tolist() == [*range(7)]
    assert d.avail.all(0).tolist() == [[True, True, True, False]] * 2
    assert "2 episodes truncated" in d.meta["notes"]
    assert problems(d) == []


@pytest.mark.parametrize("name", ["my%20dir", "my#1", "what?"])
def test_a_vaults_folder_may_have_any_name(tmp_path, name):
    """Beside one whose name it would be if it were percent-encoded."""
    vault(tmp_path / "my dir", rewards=np.zeros((10, 2), F))
    assert read("vault", vault(tmp_path / name)).rewards.tolist() == [*range(7)]


def test_a_continuous_vault_with_minus_infinity_for_padding(tmp_path):
    obs = np.ones((10, 2, 3), F)
    obs[:, 1, 2] = -np.inf
    actions = np.full((10, 2, 2), 0.5, F)
    d = read("vault", vault(tmp_path, observations=obs, actions=actions, **{"infos.state": None, "infos.legals": None}))
    assert d.obs[0].tolist() == [[1, 1, 1], [1, 1, 0]]
    assert d.state[0].tolist() == [1, 1, 1, 1, 1, 0]
    assert d.actions.shape == (7, 2, 2)


def test_masks_of_continuous_actions_are_left_out(tmp_path):
    d = read("vault", vault(tmp_path / "a", actions=np.full((10, 2, 2), 0.5, F), **{"infos.legals": np.ones((10, 2, 5), bool)}))
    assert (d.actions.shape, d.avail.shape[2]) == ((7, 2, 2), 1)
    d = read("flat", flat(tmp_path / "b", actions=np.full((5, 2, 3), 0.5, F), legals=np.ones((5, 2, 4), bool)))
    assert (d.actions.shape, d.avail.shape[2]) == ((5, 2, 3), 1)


def test_arrays_without_their_last_axis(tmp_path):
    """What an array says of its own width is asked for."""
    numbers = np.ones(10, F)
    refused(
        "vault",
        vault(tmp_path / "a", **{"infos.state": numbers}),
        "infos.state has shape (7,), observations of 7 rows, 2 agents asks for (7, any)",
    )
    refused("vault", vault(tmp_path / "b", **{"infos.legals": np.ones((10, 2), bool)}), "infos.legals has shape (7, 2)")
    refused("vault", vault(tmp_path / "c", actions=np.ones((10, 2), F)), "actions has shape (7, 2)")
    refused("flat", flat(tmp_path / "d", states=numbers[:5], next_states=numbers[:5]), "states has shape (5,)")
    refused("flat", flat(tmp_path / "e", legals=np.ones((5, 2), bool)), "legals has shape (5, 2)")
    refused("minari", minari(tmp_path / "f", **{"infos/state": np.ones(3, F)}), "the state has shape (3,) in episode_0")


def test_vault_faults(tmp_path):
    refused("vault", tmp_path, "no metadata.json")
    refused("vault", vault(tmp_path / "a", rewards=None), "no rewards")
    refused("vault", vault(tmp_path / "b", terminals=np.zeros((10, 3), bool)), "terminals has shape (7, 3)")
    path = vault(tmp_path / "c")
    refused("vault", path, "agents 2, not 3", to=TASKS["3m-medium"])
    for file in path.rglob("*"):
        if file.is_file() and file.name != "metadata.json":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused("vault", path, "cut short, damaged")


# --- MADT


@pytest.mark.parametrize("wrap", [np.asarray, torch.as_tensor, lambda x: x.tolist()], ids=["numpy", "torch", "lists"])
def test_madt(tmp_path, wrap):
    d = read("madt", madt(tmp_path, wrap=wrap))
    assert d.meta["task"] == "mappo:5m_vs_6m-good"
    assert (d.lengths.tolist(), ends(d)) == ([12, 70], ["t", "c"])  # of full length: the limit of the map
    assert d.obs[[0, 11, 12, 13], 4, 7].tolist() == [40, 51, 51, 40]
    assert d.state[11].tolist() == [10 * i + 11 for i in range(5) for _ in range(4)]
    assert d.rewards[:13].tolist() == [*range(12), 0]
    assert d.actions[:4, 2].tolist() == [0, 1, 2, 0]
    assert d.avail[0, 0].tolist() == [True] * 3 + [False] * 9


def test_madt_is_not_smac(tmp_path):
    path = madt(tmp_path)
    refused("madt", path, "observations of 124, not 55", "MAPPO's SMAC", to=TASKS["sc2:5m_vs_6m-medium"])
    refused("madt", madt(tmp_path / "x", o=55), "observations of 55", "MAPPO's 5m_vs_6m has 5 with 124")


def test_returns_to_go_are_not_rewards(tmp_path):
    refused("madt", madt(tmp_path, rewards=lambda t: np.arange(t)[::-1].cumsum()[::-1]), "returns-to-go")
    late = read("madt", madt(tmp_path / "x", rewards=lambda t: np.where(np.arange(t) == t - 1, 20.0, 0.0)))
    assert late.returns.tolist() == [20, 20]


def test_madt_without_done_was_cut(tmp_path):
    assert ends(read("madt", madt(tmp_path, done=False))) == ["c", "c"]


# --- D4RL-like


def test_flat_takes_last_observations_from_next_observations(tmp_path):
    d = read("flat", flat(tmp_path))
    assert (d.lengths.tolist(), ends(d)) == ([2, 2, 1], ["t", "c", "c"])
    assert d.obs[:, 0, 0].tolist() == [0, 1, 50, 2, 3, 60, 4, 70]
    assert d.state[:2].tolist() == [[0, 10], [1, 11]]
    np.testing.assert_array_equal(d.actions[:, 1, 0], -np.arange(5, dtype=F) / 10)
    assert "the last episode was cut short" in d.meta["notes"]


def test_flat_without_next_observations_repeats(tmp_path):
    d = read("flat", flat(tmp_path, next_observations=None, timeouts=None))
    assert (d.lengths.tolist(), ends(d)) == ([2, 3], ["t", "c"])
    assert d.obs[:, 0, 0].tolist() == [0, 1, 1, 2, 3, 4, 4]
    assert "not in the recording" in d.meta["notes"]


def test_flat_of_one_agent_and_of_discrete_actions(tmp_path):
    obs = np.arange(5, dtype=F)[:, None]
    one = read("flat", flat(tmp_path, observations=obs, next_observations=None, actions=np.full((5, 3), 0.5, F)))
    assert (one.obs.shape, one.actions.shape) == ((8, 1, 1), (5, 1, 3))
    legals = np.ones((5, 2, 4), bool)
    two = read("flat", flat(tmp_path / "b", actions=np.array([[0, 1]] * 5), legals=legals, rewards=np.array([[1, 3]] * 5, F)))
    assert (two.meta["actions"], two.rewards.tolist()) == (4, [2] * 5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(terminals=None), ["no terminals"]),
        (dict(next_observations=np.zeros((5, 2, 1), F)), ["next_observations is not the row of observations that follows"]),
        (dict(actions=np.zeros((5, 3, 1), F)), ["actions has shape (5, 3, 1)"]),
        (dict(actions=np.zeros((5, 2), F)), ["continuous ones have D numbers"]),
        (dict(actions=np.full((5, 2), -1)), ["action -1 in the data"]),
        (dict(rewards=np.full(5, np.inf, F)), ["steps/rewards: NaN or infinity"]),
    ],
)
def test_flat_faults(tmp_path, change, words):
    refused("flat", flat(tmp_path, **change), *words)


# --- Minari


def test_minari_orders_agents_by_number_and_scales_their_boxes(tmp_path):
    d = read("minari", minari(tmp_path / "x"))
    assert d.meta["task"] == "run-fast"
    assert (d.lengths.tolist(), ends(d), d.seed.tolist()) == ([2, 1], ["t", "c"], [7, 8])
    assert d.obs[:3].tolist() == [[[0, 0], [0, 1]], [[1, 0], [2, 3]], [[2, 0], [4, 5]]]  # the narrower agent is padded
    assert d.state[:2].tolist() == [[0, 0, 1], [1, 2, 3]]
    assert d.actions[0].tolist() == [[-1], [0]]
    assert d.rewards.tolist() == [0, 1, 1]
    assert "actions scaled" in d.meta["notes"]


def test_minari_discrete_actions_start_where_they_start(tmp_path):
    one = {"type": "Discrete", "dtype": "int64", "start": 1, "n": 4}
    acts = {"actions/b_2": None, "actions/b_10": None}
    path = minari(tmp_path / "x", {"b_2": one, "b_10": one}, **acts)
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as f:
        for e, n in enumerate((2, 1)):
            f[f"episode_{e}/actions/b_2"], f[f"episode_{e}/actions/b_10"] = np.full(n, 1), np.full(n, 4)
    d = read("minari", path)
    assert (d.actions.tolist(), d.meta["actions"]) == ([[0, 3]] * 3, 4)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("episode_1/observations/b_10", np.ones((2, 1), F), "episode_1/observations/b_10 has shape (2, 1), should have 4 numbers"),
        ("episode_1/actions/b_2", np.ones((1, 2), F), "episode_1/actions/b_2 has shape (1, 2), should have 1 numbers"),
        ("episode_0/terminations", np.array([True, False]), "episode_0 goes on after its end"),
        ("episode_0/truncations", np.array([1, 0]), "episode_0 goes on after its end"),
    ],
)
def test_minari_episodes_that_differ_or_go_on(tmp_path, key, value, words):
    path = minari(tmp_path / "x")
    with h5py.File(path / "data" / "main_data.hdf5", "r+") as f:
        del f[key]
        f[key] = value
    refused("minari", path, words)


def test_minari_actions_of_one_number_are_not_those_of_two(tmp_path):
    two = {"type": "Box", "low": [-1.0, -2.0], "high": [1.0, 2.0]}
    path = minari(tmp_path / "x", {"b_2": two, "b_10": two})
    refused("minari", path, "episode_0/actions/b_2 has shape (2, 1), should have 4 numbers")


def test_minari_faults(tmp_path):
    refused("minari", tmp_path, "no metadata.json")
    refused("minari", minari(tmp_path / "a", rewards=np.zeros(9)), "has 3 rows, its 9 rewards ask for 10")
    refused("minari", minari(tmp_path / "b", truncations=None), "has no truncations")
    refused("minari", minari(tmp_path / "c", {"b_2": {"type": "Text"}, "b_10": {"type": "Text"}}), "of type 'Text'")
    refused("minari", minari(tmp_path / "d", {"b_2": {"type": "Discrete", "n": 3}}), "cut short, damaged")


# --- names, and the command line


def test_a_task_that_does_not_fit_is_refused_by_name_and_sizes(tmp_path):
    path = flat(tmp_path)
    refused("flat", path, "is not of v2:hopper_3x1-expert: agents 2, not 3; observations of 1, not 14", to=known("v2:hopper_3x1-expert"))
    with pytest.raises(UserError, match="no task 'hoper_3x1-expert'; did you mean hopper_3x1-expert"):
        convert("flat", path, tmp_path / "y.h5", "hoper_3x1-expert")
    with pytest.raises(UserError, match="no layout 'omig'; did you mean omiga"):
        convert("omig", path, tmp_path / "y.h5")
    assert not (tmp_path / "y.h5").exists()


def test_states_without_last_actions_are_recognised(tmp_path):
    spec = TASKS["sc2:3s_vs_3z-medium"].spec
    e, rows, n, a = 2, 4, spec.num_agents, spec.space.action_dim
    x = {
        "state": np.zeros((e, rows, 27), F),
        "obs": np.zeros((e, rows, n, spec.obs_dim), F),
        "avail_actions": np.ones((e, rows, n, a), "i4"),
        "actions": np.zeros((e, rows, n, 1), "i8"),
        "reward": np.zeros((e, rows, 1), F),
        "terminated": np.zeros((e, rows, 1), "u1"),
        "filled": np.ones((e, rows, 1), "i8"),
    }
    np.savez(tmp_path / "x.npz", **x)
    refused("pymarl", tmp_path / "x.npz", "states of 27, not 54", "state_last_action=False", to=TASKS["sc2:3s_vs_3z-medium"])
    np.savez(tmp_path / "3s_vs_3z_medium.npz", **x | {"state": np.zeros((e, rows, 54), F)})
    assert read("pymarl", tmp_path / "3s_vs_3z_medium.npz").meta["task"] == "sc2:3s_vs_3z-medium"


def test_command_line(tmp_path, capsys):
    source, target, cut = omiga(tmp_path / "x.hdf5"), tmp_path / "x.h5", tmp_path / "cut.h5"
    assert main(["convert", "omiga", str(source), str(target)]) == 0
    out, err = capsys.readouterr()
    first, notes = out.splitlines()
    assert first.startswith(
        f"{target}: x-recorded (no environment of that name here: the sizes are the recording's; training needs a task, "
    )
    assert not err
    assert notes == f"notes: {load(target).meta['notes']}"
    assert violations(target) == []
    assert len(load(target).meta["source_sha256"]) == 64
    assert main(["convert", "omiga", str(source), str(cut), "--limit", "1"]) == 0
    d = load(cut)
    assert (d.lengths.tolist(), ends(d)) == ([1, 1, 1], ["c", "t", "c"])
    assert "1 of 3 episodes cut to 1 steps" in d.meta["notes"]
    capsys.readouterr()
    for argv, words in (
        (["convert", "omig", source, tmp_path / "y.h5"], "no layout 'omig'; did you mean omiga"),
        (["export", "omar", target, source], "OMAR is a layout that is only read"),
    ):
        assert main([str(a) for a in argv]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert words in err
    for command in ("list", "build", "info", "validate", "convert", "export"):
        with pytest.raises(SystemExit) as e:
            main([command, "--help"])
        assert e.value.code == 0
        assert f"example: python -m datasets {command}" in " ".join(capsys.readouterr().out.split())


def test_convert_prints_what_was_cut_and_clipped(tmp_path, capsys):
    a = np.linspace(-1, 1, 16, dtype=F).reshape(8, 2, 1)
    a[0] = 1.5
    source = omiga(tmp_path / "x.hdf5", a=a)
    assert main(["convert", "omiga", str(source), str(tmp_path / "x.h5"), "--limit", "1"]) == 0
    notes = capsys.readouterr().out.splitlines()[1]
    assert notes.startswith("notes: 1 of 3 episodes cut to 1 steps; ")
    assert notes.endswith("; 2 actions beyond [-1, 1] clipped")


def test_spaces_of_the_published_tasks_are_those_of_the_documents():
    for name, sizes in (
        ("v2:hopper_3x1", (3, 14, 1)),
        ("v2:ant_2x4", (2, 113, 4)),
        ("v2:halfcheetah_6x1", (6, 23, 1)),
        ("simple_tag", (3, 16, 2)),
    ):
        spec = known(f"{name}-medium").spec
        assert (spec.num_agents, spec.obs_dim, spec.space.action_dim) == sizes
    assert task(Spec(1, 1, 1, Discrete(2), 1)).quality == "recorded"
