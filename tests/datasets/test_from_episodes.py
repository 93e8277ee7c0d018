"""Datasets from arrays, episode by episode."""

import numpy as np
import pytest

import inspo_benchmark as ib
from inspo_benchmark.core.spaces import Box
from inspo_benchmark.datasets.dataset import PATHS
from inspo_benchmark.datasets.format import load, save
from support.episodes import episodes, toy


def parts(data) -> list[dict]:
    """The episodes of a dataset as arrays."""
    out = []
    for e, (a, b) in enumerate(zip(data.offset[:-1], data.offset[1:], strict=True)):
        rows = {name: getattr(data, name)[a + e : b + e + 1] for name in ("obs", "state", "avail")}
        steps = {name: getattr(data, name)[a:b] for name in ("actions", "rewards")}
        out.append(rows | steps | {"terminated": data.terminated[b - 1], "won": int(data.won[e])})
    return out


@pytest.mark.parametrize("task", [toy(), toy(Box(2), agents=3)], ids=["discrete", "continuous"])
def test_what_is_taken_apart_is_put_together_again(task, tmp_path):
    data = episodes(task)
    back = ib.Dataset.from_episodes(task, parts(data), source="a test")
    for name in PATHS.keys() - {"seed", "behavior_logp"}:
        np.testing.assert_array_equal(getattr(back, name), getattr(data, name))
    save(back, tmp_path / "x.h5")
    assert load(tmp_path / "x.h5", task).meta["source"] == "a test"


def test_state_available_actions_and_the_end_have_defaults():
    task = toy()
    task = toy(spec=task.spec._replace(state_dim=task.spec.num_agents * task.spec.obs_dim))
    episode = dict(obs=np.zeros((3, 2, 5)), actions=np.zeros((2, 2), int), rewards=[1, 2])
    data = ib.Dataset.from_episodes(task, [episode, episode | {"terminated": False}])
    assert data.state.shape == (6, 10)
    assert data.avail.all()
    assert data.won.tolist() == [-1, -1]
    assert data.terminated.tolist() == [False, True, False, False]
    assert data.truncated.tolist() == [False, False, False, True]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"obs": np.zeros((2, 2, 5))}, r"episode 1: obs has shape \(2, 2, 5\), should have \(3, 2, 5\) with 2 rewards"),
        ({"actions": np.zeros((2, 3))}, "episode 1: actions has shape"),
        ({"obs": 1.0}, r"episode 1: obs has shape \(\)"),
        ({"obs": []}, r"episode 1: obs has shape \(0,\)"),
        ({"obs": [[1], [1, 2]]}, "episode 1: obs is no array of numbers"),
        ({"obs": np.full((3, 2, 5), np.nan)}, "obs/obs: NaN or infinity, .* in episode 1"),
        ({"rewards": []}, r"episode 1: rewards has shape \(0,\), should have one number for each step"),
        ({"rewards": 1.0}, r"episode 1: rewards has shape \(\)"),
        ({"rewards": [[1, 2]]}, r"episode 1: rewards has shape \(1, 2\)"),
        ({"rewards": ["a", "b"]}, "episode 1: rewards is no array of numbers"),
        ({"truncated": True}, "episode 1: unknown name 'truncated'; did you mean terminated"),
        ({"legal": np.ones((3, 2, 3))}, "episode 1: unknown name 'legal'; there are: actions, avail, "),
        ({"avail": np.arange(3) > np.zeros((3, 2, 1))}, "steps/actions: an action that is not available"),
        ({"avail": np.ones((3, 2, 4))}, "episode 1: avail has shape"),
        ({"actions": np.full((2, 2), 7)}, "action 7 in the data; toy-random has actions 0 .. 2"),
        ({"actions": np.full((2, 2), 0.9)}, "action 0.9 in the data"),
        ({"actions": np.full((2, 2), np.nan)}, "action nan in the data"),
        ({"won": None}, "episode 1: won should be True or False, one value for the whole episode"),
        ({"won": 3}, "episode 1: won should be"),
        ({"won": [False, True]}, "episode 1: won should be"),
        ({"terminated": [False, True]}, "episode 1: terminated should be True or False, one value for the whole episode"),
        ({"terminated": None}, "episode 1: terminated should be"),
        ({"terminated": "no"}, "episode 1: terminated should be"),
        ({"terminated": [[1], [1, 2]]}, "episode 1: terminated should be"),
    ],
)
def test_mistakes_name_the_episode(change, said):
    episode = dict(obs=np.zeros((3, 2, 5)), state=np.zeros((3, 4)), actions=np.zeros((2, 2), int), rewards=[1, 2])
    with pytest.raises(ib.UserError, match=said):
        ib.Dataset.from_episodes(toy(), [episode, episode | change])


def test_missing_arrays_and_no_episodes_are_one_line():
    with pytest.raises(ib.UserError, match="episode 0: no actions; it has obs, rewards"):
        ib.Dataset.from_episodes(toy(), [dict(obs=np.zeros((3, 2, 5)), rewards=[1, 2])])
    with pytest.raises(ib.UserError, match="no episodes"):
        ib.Dataset.from_episodes(toy(), [])


def test_an_episode_is_a_mapping():
    episode = dict(obs=np.zeros((3, 2, 5)), state=np.zeros((3, 4)), actions=np.zeros((2, 2), int), rewards=[1, 2])
    with pytest.raises(ib.UserError, match="episode 0 is a str, should be a mapping of names to arrays, one for each episode"):
        ib.Dataset.from_episodes(toy(), episode)


def test_continuous_actions_stay_inside():
    episode = dict(obs=np.zeros((2, 2, 5)), state=np.zeros((2, 4)), actions=np.full((1, 2, 3), 3.0), rewards=[1])
    with pytest.raises(ib.UserError, match=r"steps/actions: outside \[-1, 1\]"):
        ib.Dataset.from_episodes(toy(Box(3)), [episode])


def test_an_episode_is_not_longer_than_the_limit():
    episode = dict(obs=np.zeros((11, 2, 5)), state=np.zeros((11, 4)), actions=np.zeros((10, 2), int), rewards=np.zeros(10))
    with pytest.raises(ib.UserError, match=r"episode 0 has 10 steps, should have 1 \.\. 9"):
        ib.Dataset.from_episodes(toy(), [episode])


def test_what_is_no_list_of_episodes_is_one_line():
    for wrong in (5, None):
        with pytest.raises(ib.UserError, match="should be a list of mappings of names to arrays"):
            ib.Dataset.from_episodes(toy(), wrong)
    with pytest.raises(ib.UserError, match="episode 0: no actions; it has nothing"):
        ib.Dataset.from_episodes(toy(), [{}])
