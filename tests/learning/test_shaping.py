"""Shaped rewards."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.normalize import returns_to_go
from inspo_benchmark.learning.shaping import fit_values, shape_rewards
from support.toy import SPACES, config_of, episodes, toy

GAMMA = 0.9
ALGORITHMS.discover()


def test_shaping_subtracts_a_potential_from_returns_to_go():
    """Where an episode is cut, the discounted potential of its last state is left over: a critic's value of it comes on top."""
    data = episodes(toy(SPACES["discrete"]))
    shaped, phi = shape_rewards(data, GAMMA), fit_values(data, GAMMA)
    last = np.repeat(data.offset[1:] + np.arange(data.episodes), data.lengths)  # observation at the end of the episode of each step
    cut = ~np.repeat(data.terminated[data.offset[1:] - 1], data.lengths)
    left = cut * GAMMA ** (np.repeat(data.offset[1:], data.lengths) - np.arange(data.steps)) * phi[last]
    np.testing.assert_allclose(returns_to_go(shaped, GAMMA), returns_to_go(data, GAMMA) - phi[data.now] + left, atol=1e-5)
    assert {True, False} == set(cut)
    assert shaped.obs is data.obs


def test_values_are_fitted_to_returns():
    data = episodes(toy(SPACES["discrete"]), lengths=[7] * 200)
    data = replace(data, rewards=np.abs(data.state[data.now, 0]).astype(np.float32))  # of one step, not linear in the state
    before = torch.random.get_rng_state()
    phi = fit_values(data, 0.0)[data.now]
    assert torch.equal(torch.random.get_rng_state(), before)
    assert np.square(phi - data.rewards).mean() < 0.1 * data.rewards.var()
    assert phi.min() >= data.rewards.min()
    assert phi.max() <= data.rewards.max()


def test_constant_returns_are_their_own_values():
    data = episodes(toy(SPACES["discrete"]))
    still = replace(data, rewards=np.ones_like(data.rewards))
    np.testing.assert_allclose(fit_values(still, 0.0), 1)
    np.testing.assert_allclose(shape_rewards(still, 0.0).rewards, 0, atol=1e-7)


@pytest.mark.parametrize("shape", [False, True])
@pytest.mark.parametrize("algo", ["omiga", "alberdice", "inspo"])
def test_every_method_with_critics_can_have_shaped_rewards(algo, shape):
    task = toy(SPACES["discrete"])
    data, config = episodes(task), config_of(algo, shape_rewards=shape, gamma=GAMMA)
    prepared = ALGORITHMS[algo](config, task.spec).prepare_data(data)
    np.testing.assert_array_equal(prepared.rewards, shape_rewards(data, GAMMA).rewards if shape else data.rewards)


def test_methods_without_critics_have_no_such_setting():
    without = {name for name, algorithm in ALGORITHMS.items() if "shape_rewards" not in algorithm.Config.__dataclass_fields__}
    assert without == {"bc", "flow_bc"}
