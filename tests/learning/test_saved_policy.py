"""Saved policies act as they did in the evaluation. A file that cannot be used is a user error."""

import numpy as np
import pytest
import torch

from inspo_benchmark.core.atomic_io import load_checked, save_checked
from inspo_benchmark.core.env import Observation
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.learning.evaluate import Evaluator
from inspo_benchmark.learning.normalize import Normalizer
from inspo_benchmark.learning.saved_policy import SavedPolicies, load, save
from inspo_benchmark.running.settings import settings
from inspo_benchmark.tools.render_smac import main

ALGORITHMS.discover()
TASKS.discover()
TASK, SEEDS = "3m-medium", (4, 7)
NORMALIZER = Normalizer(np.full(30, 0.25, np.float32), np.full(30, 0.5, np.float32))


@pytest.fixture(params=["mlp", "gru"])
def trained(request):
    cfg = settings("bc", TASK, {"hidden_dim": 8, "network": request.param, "seq_len": 3})
    algorithm = ALGORITHMS["bc"](cfg, TASKS[TASK].spec)
    return algorithm, algorithm.init(SEEDS)


@pytest.fixture
def path(trained, tmp_path):
    algorithm, state = trained
    save("bc", TASK, algorithm, SEEDS, state, NORMALIZER, tmp_path / "run.policies")
    return tmp_path / "run.policies"


def returns(policies, seed: int, episodes: int) -> np.ndarray:
    env, policy = TASKS[TASK].make(episodes), policies.greedy_policy(seed)
    observation, total, over = env.reset(range(episodes)), np.zeros(episodes), np.zeros(episodes, bool)
    while not over.all():
        observation, rewards, terminated, truncated, _ = env.step(policy(observation))
        total += np.where(over, 0.0, rewards)
        over = terminated | truncated
    return total


def test_saved_policies_get_the_returns_of_the_evaluation(trained, path):
    algorithm, state = trained
    expected = Evaluator(algorithm, TASKS[TASK], SEEDS, normalizer=NORMALIZER).rollout(state, 6, sampled=False)["return"]
    assert (expected[0] != expected[1]).any()
    for k, seed in enumerate(SEEDS):
        np.testing.assert_allclose(returns(load(path), seed, 6), expected[k], atol=1e-9)


def test_policies_are_loaded_from_the_text_of_a_path(path):
    assert load(str(path)).seeds == SEEDS
    with pytest.raises(UserError, match=r"gone\.policies: no such file"):
        load("gone.policies")


@pytest.mark.parametrize("trained", ["gru"], indirect=True)
def test_a_reset_forgets_the_last_episodes(path):
    policy, rng = load(path).greedy_policy(4), np.random.default_rng(0)
    few, many = (Observation(rng.normal(size=(e, 3, 30)).astype(np.float32), np.zeros((e, 0)), np.ones((e, 3, 9), bool)) for e in (2, 5))
    first = policy(many)
    assert (policy(many) != first).any()
    with pytest.raises(UserError, match="observations of 2 environments after those of 5: call `reset`"):
        policy(few)
    policy.reset()
    policy(few)  # a reset also takes another number of environments
    policy.reset()
    np.testing.assert_array_equal(policy(many), first)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_policies_that_were_trained_on_a_gpu_act_on_the_cpu(trained):
    algorithm, state = trained
    params = {name: p.cuda() for name, p in algorithm.acting_params(state).items()}
    policies = SavedPolicies(algorithm, TASK, SEEDS, params, NORMALIZER)
    assert np.isfinite(returns(policies, 4, 2)).all()


def test_saved_policies_can_be_rendered(path, tmp_path, capsys):
    for policy in (path, f"{path}:7"):
        assert main(["3m", "--policy", str(policy), "--out", str(tmp_path / "a.png")]) == 0
    capsys.readouterr()
    for argv, words in (
        (["3m", "--policy", f"{path}:5"], "no seed 5; its seeds are 4, 7"),
        (["8m", "--policy", str(path)], "policies for 3m-medium, not for 8m"),
        (["3m", "--policy", "gone.policies"], "gone.policies: no such file"),
    ):
        assert main([*argv, "--out", str(tmp_path / "b.png")]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "b.png").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x["params"].update(pi=torch.zeros(2, 3, 5)),
        lambda x: x["params"].pop("pi"),
        lambda x: x.pop("scale"),
        lambda x: x.update(algo="bd"),
        lambda x: x.update(task="3m-none"),
        lambda x: x["config"].update(hidden_dim=0),
        lambda x: x["config"].update(hiden=8),
        lambda x: x.update(seeds=[4]),
        lambda x: x.update(seeds=None),
        lambda x: x["params"].update(pi=x["params"]["pi"].half()),
    ],
)
def test_a_file_of_other_code_is_a_user_error(path, change):
    x = load_checked(path)
    change(x)
    save_checked(x, path)
    with pytest.raises(UserError, match="holds no usable policies"):
        load(path)


def test_another_file_is_not_called_damaged(path):
    other = path.with_suffix(".csv")
    other.write_text("algo,task\n")
    with pytest.raises(UserError, match=r"run\.csv: policies are in a file whose name ends with \.policies"):
        load(other)


def test_observations_of_another_task_are_a_user_error(path):
    observation = TASKS["mne3-balanced"].make(2).reset([0, 1])
    with pytest.raises(UserError, match=r"observations of shape \(2, 3, \d+\) for a policy of \d+ agents that observe \d+ numbers"):
        load(path).greedy_policy(SEEDS[0])(observation)


def test_a_damaged_file_is_a_user_error(path):
    content = path.read_bytes()
    for damaged in (b"", b"junk", content[:-30], content[:500] + b"xxxx" + content[504:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="wrong checksum"):
            load(path)
