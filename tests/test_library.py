"""The library: what a script or a notebook does with `import inspo_benchmark as ib`, from any folder."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import inspo_benchmark as ib
from inspo_benchmark.core.env import Observation, Step
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.format import save
from inspo_benchmark.running.settings import settings
from support.episodes import episodes, toy

SMALL = dict(num_updates=20, hidden_dim=8, batch_size=8)


@pytest.fixture(scope="module")
def result():
    return ib.train("bc", "bridge-optimal", seeds=[3, 5], progress=False, **SMALL)


def test_names_are_listed():
    assert ib.list_algorithms() == list(ALGORITHMS.discover())
    assert ib.list_tasks("bridge-*") == ["bridge-optimal", "bridge-mix"]
    assert ib.list_tasks() == list(TASKS)
    assert set(ib.__all__) <= set(dir(ib))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        ib.trian  # noqa: B018


def test_data_are_loaded_by_task_or_by_file(tmp_path):
    data = ib.load_dataset("xor-ab")
    save(data, tmp_path / "mine.h5")
    assert ib.load_dataset(tmp_path / "mine.h5").meta["content_sha256"] == data.meta["content_sha256"]


def test_training_gives_rows_and_policies(result):
    assert list(result.frame.columns) == ["algo", "task", "seed", "step", "metric", "value"]
    assert set(result.frame.seed) == {3, 5}
    assert {"return", "return_sampled", "length", "loss_policy"} == set(result.frame.metric)
    assert result.frame.step.max() == 20
    assert "bc on bridge-optimal, 2 seeds: mean return" in repr(result)


def test_a_seed_learns_what_it_learns_alone(result):
    alone = ib.train("bc", "bridge-optimal", seeds=[5], progress=False, **SMALL).frame
    packed = result.frame[result.frame.seed == 5]
    returns = [frame[frame.metric == "return"].value.tolist() for frame in (alone, packed)]
    assert returns[0] == returns[1]


def test_training_leaves_the_threads_of_torch_alone(result):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ib.train("bc", "xor-ab", seeds=1, progress=False, **SMALL)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_evaluation_of_a_result_and_of_its_policy_agree(result):
    episodes = result.evaluate(episodes=7)
    assert episodes.groupby("seed").size().to_dict() == {3: 7, 5: 7}
    mine = ib.evaluate(result.policy(5), "bridge-optimal", episodes=7)
    assert mine["return"].tolist() == episodes[episodes.seed == 5]["return"].tolist()
    with pytest.raises(ib.UserError, match="no seed 4"):
        result.policy(4)


def test_any_policy_is_evaluated_on_any_number_of_episodes(monkeypatch):
    still = lambda x: np.full(x.avail.shape[:2], 4)  # noqa: E731
    whole = ib.evaluate(still, "bridge-mix", episodes=5)
    assert whole.episode.tolist() == [0, 1, 2, 3, 4]
    task = TASKS["bridge-mix"]
    monkeypatch.setitem(TASKS, "bridge-mix", replace(task, max_envs=2))
    assert ib.evaluate(still, "bridge-mix", episodes=5).equals(whole)


def test_a_recurrent_policy_starts_every_episode_without_a_memory(monkeypatch):
    small = dict(num_updates=60, hidden_dim=16, batch_size=8, seq_len=20, lr=0.02)
    result = ib.train("bc", "bridge-optimal", seeds=1, progress=False, network="gru", **small)
    policy, expected = result.policy(), result.evaluate(episodes=5)["return"].tolist()
    task = TASKS["bridge-optimal"]
    for parallel in (5, 2, 3):
        monkeypatch.setitem(TASKS, "bridge-optimal", replace(task, max_envs=parallel))
        assert ib.evaluate(policy, "bridge-optimal", episodes=5)["return"].tolist() == expected


def test_settings_are_the_benchmarks_unless_they_are_given(result):
    assert result.algorithm.cfg == settings("bc", "bridge-optimal", SMALL)
    assert ib.train("bc", "xor-ab", 1, paper=True, progress=False, **SMALL).algorithm.cfg == settings("bc", "xor-ab", SMALL, paper=True)


def lists(task: str) -> ib.Dataset:
    """The task's data with a list in place of an array."""
    data = ib.load_dataset(task)
    return replace(data, rewards=data.rewards.tolist())


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ib.train("bcc", "xor-ab"), "no algorithm 'bcc'; did you mean bc?"),
        (lambda: ib.train("bc", "xor-abc"), "no task 'xor-abc'; did you mean xor-ab"),
        (lambda: ib.train("bc", "xor-ab", num_update=3), "did you mean num_updates?"),
        (lambda: ib.train("bc", "xor-ab", seeds=0), "seeds=0: write a number above 0"),
        (lambda: ib.train("bc", "xor-ab", seeds=[1, 1]), r"seeds=\[1, 1\]"),
        (lambda: ib.train("bc", "xor-ab", seeds="0-3"), "seeds='0-3': write a number above 0"),
        (lambda: ib.train("bc", "xor-ab", seeds=[0.5]), r"seeds=\[0.5\]"),
        (lambda: ib.train("bc", "xor-ab", seeds=[2**70]), r"or a list of different numbers from 0 to 2\^63 - 1"),
        (lambda: ib.train("bc", "xor-ab", device="cuda:99"), "device='cuda:99': "),
        (lambda: ib.train("bc", "xor-ab", device="gpu"), "device='gpu': "),
        (lambda: ib.train("bc", "xor-ab", dataset=ib.load_dataset("xor-all")), "it holds data of xor-all, not of xor-ab"),
        (lambda: ib.load_dataset("nowhere.h5"), "nowhere.h5"),
        (lambda: ib.train("bc", "xor-ab", dataset="xor-ab"), "dataset: it is a str, should be a Dataset"),
        (lambda: ib.train("bc", "xor-ab", dataset=lists("xor-ab")), "dataset: steps/rewards: no array of numpy"),
        (lambda: ib.train("bc", 3), "no task 3; write a name, a string"),
        (lambda: ib.train(None, "xor-ab"), "no algorithm None; write a name"),
        (lambda: ib.train(["bc"], "xor-ab"), r"no algorithm \['bc'\]; write a name"),
        (lambda: ib.load_dataset("xor-ab").subset(np.zeros(100, bool)), "none of the 100 episodes of xor-ab is in the subset"),
        (lambda: ib.load_dataset("xor-ab").subset([]), "none of the 100 episodes"),
        (lambda: ib.evaluate("bc", "xor-ab"), "policy: it is a str, should be a function of observations"),
        (lambda: ib.evaluate(None, "xorab"), "no task 'xorab'; did you mean xor-ab"),
        (lambda: ib.evaluate(None, "xor-ab", 0), "episodes=0: write an integer of at least 1"),
        (lambda: ib.evaluate(None, "xor-ab", 1.5), "episodes=1.5"),
    ],
)
def test_mistakes_say_what_to_do(call, said):
    with pytest.raises(ib.UserError, match=said):
        call()


@pytest.mark.parametrize("episodes", [0, -1, 2.5])
def test_a_result_is_evaluated_on_at_least_one_episode(result, episodes):
    with pytest.raises(ib.UserError, match=f"episodes={episodes}: write an integer of at least 1"):
        result.evaluate(episodes)


def test_integers_of_numpy_are_numbers_of_seeds_and_of_episodes():
    result = ib.train("bc", "xor-ab", seeds=np.int64(2), progress=False, **SMALL)
    assert result.seeds == (0, 1)
    assert len(result.evaluate(np.int64(3))) == 6
    assert len(ib.evaluate(result.policy(), "xor-ab", np.int64(3))) == 3
    assert ib.train("bc", "xor-ab", seeds=np.array([4, 2]), progress=False, **SMALL).seeds == (4, 2)


def test_a_method_without_stochastic_policies_has_no_sampled_scores():
    result = ib.train("cfcql", "xor-ab", seeds=1, progress=False, **SMALL)
    assert len(result.evaluate(2)) == 2
    with pytest.raises(ib.UserError, match="sampled=True: cfcql learns no stochastic policy on xor-ab; evaluate the greedy one"):
        result.evaluate(2, sampled=True)


class Still:
    """Episodes of one step, in which action 1 is not available."""

    def __init__(self, num_envs: int, task: Task):
        self.num_envs, spec = num_envs, task.spec
        avail = np.arange(spec.space.avail_dim) != 1
        self.observation = Observation(
            np.zeros((num_envs, spec.num_agents, spec.obs_dim), np.float32),
            np.zeros((num_envs, spec.state_dim), np.float32),
            np.tile(avail, (num_envs, spec.num_agents, 1)),
        )

    def reset(self, seeds):
        return self.observation

    def step(self, actions):
        return Step(self.observation, np.zeros(self.num_envs), np.ones(self.num_envs, bool), np.zeros(self.num_envs, bool), {})

    def close(self):
        pass


@pytest.mark.parametrize(
    ("space", "actions", "said"),
    [
        (Discrete(3), np.zeros(5, int), r"of shape \(5,\); toy-random takes \(5, 2\), of 5 episodes"),
        (Discrete(3), np.zeros((2, 5), int), r"of shape \(2, 5\)"),
        (Discrete(3), None, r"of shape \(\)"),
        (Discrete(3), np.full((5, 2), -1), r"action -1; toy-random has actions 0 \.\. 2"),
        (Discrete(3), np.full((5, 2), 3), "action 3; "),
        (Discrete(3), np.full((5, 2), 0.5), "action 0.5; "),
        (Discrete(3), np.full((5, 2), 1), "action 1 where it is not available"),
        (Discrete(3), [[0, 1], [0]], "no array of numbers"),
        (Box(2), torch.zeros(5, 2, 2, requires_grad=True), r"no array of numbers; convert a tensor with x\.detach"),
        (Box(2), np.zeros((5, 2)), r"of shape \(5, 2\); toy-random takes \(5, 2, 2\)"),
        (Box(2), np.full((5, 2, 2), 1.1), r"outside \[-1, 1\] on toy-random; clip them"),
        (Box(2), np.full((5, 2, 2), np.nan), r"outside \[-1, 1\]"),
    ],
)
def test_actions_that_do_not_fit_the_task_are_refused(monkeypatch, space, actions, said):
    task = toy(space)
    monkeypatch.setitem(TASKS, "toy-random", replace(task, make=partial(Still, task=task)))
    with pytest.raises(ib.UserError, match=f"the policy returned .*{said}"):
        ib.evaluate(lambda observation: actions, "toy-random", 5)


@pytest.mark.parametrize(("space", "actions"), [(Discrete(3), np.full((5, 2), 2.0)), (Box(2), np.full((5, 2, 2), -1.0))])
def test_actions_that_fit_the_task_are_taken(monkeypatch, space, actions):
    task = toy(space)
    monkeypatch.setitem(TASKS, "toy-random", replace(task, make=partial(Still, task=task)))
    assert len(ib.evaluate(lambda observation: actions, "toy-random", 5)) == 5


def test_a_task_without_an_environment_plays_no_episodes(monkeypatch):
    monkeypatch.setitem(TASKS, "toy-random", toy(Discrete(3)))
    with pytest.raises(ib.UserError, match="task toy-random has data alone, and no environment"):
        ib.evaluate(lambda observation: np.zeros((5, 2)), "toy-random", 5)
    with pytest.raises(ib.UserError, match="task toy-random has data alone, and no environment"):
        ib.train("bc", "toy-random", dataset=episodes(TASKS["toy-random"]), progress=False, **SMALL)


FAULTS = {
    "an action that is not available": lambda d: dict(avail=d.avail & ~np.eye(5, dtype=bool)[d.actions[0]]),
    "steps/rewards: NaN or infinity": lambda d: dict(rewards=d.rewards * np.nan),
    "obs/state: shape": lambda d: dict(state=d.state[:, 1:]),
    "obs/obs: shape": lambda d: dict(obs=d.obs[..., 1:]),
    "episodes/won: not -1, 0 or 1": lambda d: dict(won=np.full_like(d.won, 3)),
}


@pytest.mark.parametrize("said", FAULTS)
def test_data_that_break_a_rule_are_not_trained_on(said):
    data = ib.load_dataset("bridge-optimal")
    with pytest.raises(ib.UserError, match=f"^dataset: .*{said}"):
        ib.train("bc", "bridge-optimal", dataset=replace(data, **FAULTS[said](data)), progress=False, **SMALL)


@pytest.mark.parametrize(("limit", "obs", "said"), [(21, 8, "attribute limit: 21"), (20, 7, "attribute obs: 7")])
def test_data_that_do_not_fit_the_task_are_not_trained_on(limit, obs, said):
    task = TASKS.discover()["bridge-optimal"]
    episode = dict(obs=np.zeros((2, 2, obs)), state=np.zeros((2, 8)), actions=np.zeros((1, 2)), rewards=np.zeros(1))
    data = ib.Dataset.from_episodes(replace(task, spec=task.spec._replace(obs_dim=obs, episode_limit=limit)), [episode])
    with pytest.raises(ib.UserError, match=f"^dataset: .*{said}"):
        ib.train("bc", "bridge-optimal", dataset=data, progress=False, **SMALL)


def test_actions_outside_the_box_are_not_trained_on(monkeypatch):
    task = toy(Box(2), name="toy-random")
    monkeypatch.setitem(TASKS, "toy-random", task)
    data = episodes(task)
    with pytest.raises(ib.UserError, match=r"^dataset: steps/actions: outside \[-1, 1\]"):
        ib.train("bc", "toy-random", dataset=replace(data, actions=2 * data.actions), progress=False, **SMALL)


def test_it_is_imported_from_anywhere_beside_a_package_called_datasets(tmp_path):
    """Hugging Face's package has the name of one of the project's folders."""
    (tmp_path / "datasets.py").write_text("NAME = 'another package'\n")
    code = """if True:
        import datasets
        import inspo_benchmark as ib
        assert datasets.NAME == "another package"
        result = ib.train("bc", "xor-ab", seeds=1, num_updates=4, hidden_dim=4)
        print(len(result.frame), ib.evaluate(result.policy(), "xor-ab", 3).shape)
    """
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "19 (3, 3)\n", done
    assert done.stderr == ""  # no progress bar where nobody watches
    assert [path.name for path in Path(tmp_path).iterdir() if path.suffix != ".pyc" and path.name != "__pycache__"] == ["datasets.py"]
