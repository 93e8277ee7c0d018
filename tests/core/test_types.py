"""Tasks hold numbers that evaluations and result files can use."""

import math

import numpy as np
import pytest

from inspo_benchmark.core.errors import UserError
from support.episodes import toy

PLAYED = {"make": lambda num_envs: None}


@pytest.mark.parametrize("reference", [(1, 1), (1, 0), (0, math.nan), (math.nan, math.nan), (0, math.inf), (0, 1, 2), ("a", "b"), None])
def test_references_have_to_increase(reference):
    with pytest.raises(UserError, match=r"^task toy-random: reference=.*: write two finite numbers, the smaller one first$"):
        toy(**PLAYED, reference=reference)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reference": (0, 1e-7)}, "differ by at least 1e-6"),
        ({"reference": (-1e16, 0)}, "numbers up to 1e15"),
        ({"backend": "x" * 101}, "at most 100 printable characters"),
        ({"backend": "a\tb"}, "at most 100 printable characters"),
    ],
)
def test_what_result_files_cannot_hold_is_refused(fields, said):
    with pytest.raises(UserError, match=said):
        toy(**PLAYED, **({"reference": (0, 1)} | fields))


def test_references_are_unknown_only_without_an_environment():
    assert all(map(math.isnan, toy(make=None, reference=(math.nan, math.nan)).reference))


def test_numbers_of_numpy_become_those_of_python():
    task = toy(**PLAYED, reference=np.array([0.5, 2], np.float32), num_evals=np.int64(3), max_envs=np.int32(4))
    assert task.reference == (0.5, 2.0)
    assert {type(x) for x in task.reference} == {float}
    assert (type(task.num_evals), type(task.max_envs)) == (int, int)


@pytest.mark.parametrize("field", ["max_envs", "num_evals", "eval_episodes", "final_episodes"])
@pytest.mark.parametrize("value", [0, -1, 2.0, None])
def test_there_is_at_least_one_environment_evaluation_and_episode(field, value):
    with pytest.raises(UserError, match=f"^task toy-random: {field}={value}: write an integer of at least 1$"):
        toy(**{field: value})


@pytest.mark.parametrize("size", ["num_agents", "obs_dim", "state_dim", "episode_limit"])
def test_sizes_are_at_least_one(size):
    spec = toy(**PLAYED).spec._replace(**{size: 0})
    with pytest.raises(UserError, match=f"^task toy-random: {size}=0: write an integer of at least 1$"):
        toy(**PLAYED, spec=spec)
