"""Seeds, actions and numbers of environments that do not fit are one line, not memory that compiled code reads past its end."""

from dataclasses import replace

import numpy as np
import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.envs.smac.maps import find_map
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.envs.smac.views import WON

SEEDED = ["3m-medium", "terran_5_vs_5-medium", "hopper_3x1-medium"]
GAMES = ["xor-ab", "mne3-balanced", "bridge-mix"]


@pytest.fixture
def env(request):
    env = TASKS.discover()[request.param].make(3)
    yield env
    env.close()


@pytest.mark.parametrize("env", SEEDED, indirect=True)
@pytest.mark.parametrize(
    ("seeds", "says"),
    [([5], "1 seeds for 3 environments"), ([0, 1, -1], "seed=-1: "), ([0, 1, 2**64], "the largest one is"), ([0, 1, 0.5], "seed=0.5: ")],
)
def test_seeds(env, seeds, says):
    with pytest.raises(UserError, match=says):
        env.reset(seeds)


def some_actions(env) -> np.ndarray:
    avail = env.reset([0, 1, 2]).avail
    return avail.argmax(2) if avail.shape[2] > 1 else np.zeros(avail.shape)


@pytest.mark.parametrize("env", SEEDED + GAMES, indirect=True)
def test_actions(env):
    act = some_actions(env)
    for wrong in (act[:1], np.concatenate([act, act]), act[0]):
        with pytest.raises(UserError, match="actions of shape"):
            env.step(wrong)
    env.step(act)


@pytest.mark.parametrize("env", SEEDED[:2] + GAMES, indirect=True)
def test_discrete_actions_are_integers(env):
    act = some_actions(env)
    for wrong in (act + 0.9, act.astype(np.float32), act.astype(str)):
        with pytest.raises(UserError, match=r"actions of type .*; the environment takes integers"):
            env.step(wrong)
    for right in (act.astype(np.int8), act.astype(np.uint64), act.tolist()):
        env.step(right)


@pytest.mark.parametrize("env", GAMES, indirect=True)
@pytest.mark.parametrize("wrong", [-1, 5])
def test_actions_that_a_game_does_not_have(env, wrong):
    act = some_actions(env)
    act[2, 1] = wrong
    with pytest.raises(UserError, match=f"action {wrong} of agent 1 in environment 2; the environment takes 0 to"):
        env.step(act)


@pytest.mark.parametrize("env", GAMES, indirect=True)
def test_games_that_are_over_ignore_their_actions(env):
    act = some_actions(env)
    for _ in range(env.limit):
        env.step(act)
    assert (env.step(act + 99).rewards == 0).all()


def test_battles_that_are_over_ignore_their_actions():
    env = Smac(replace(find_map("terran_5_vs_5"), mask_out_of_range=False), 2)
    act = env.reset([0, 1]).avail.argmax(2)
    env.outcome[1] = WON
    before = env.battles.frame[1].copy()
    for wrong in (-99, 99):
        act[1] = wrong
        env.step(act)
    assert (env.battles.frame[1] == before).all()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_continuous_actions_are_finite(wrong):
    env = TASKS.discover()["hopper_3x1-medium"].make(3)
    act = some_actions(env)
    act[2, 1] = wrong
    with pytest.raises(UserError, match="actions with NaN or infinity in environment 2; the environment takes numbers from -1 to 1"):
        env.step(act)
    env.physics.arrays.terminated[2] = 1  # an episode that is over ignores its actions
    env.step(act)
    env.close()


@pytest.mark.parametrize("name", SEEDED + GAMES)
@pytest.mark.parametrize("number", [0, -1, 1.5])
def test_numbers_of_environments(name, number):
    with pytest.raises(UserError, match=f"num_envs={number}: write an integer of at least 1"):
        TASKS.discover()[name].make(number)
