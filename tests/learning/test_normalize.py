"""Rewards in units of the spread of returns-to-go."""

from dataclasses import replace

import numpy as np

from inspo_benchmark.learning.normalize import normalize_rewards
from support.toy import SPACES, episodes, toy


def test_returns_to_go_have_a_standard_deviation_of_one():
    data, gamma = episodes(toy(SPACES["discrete"])), 0.9
    scaled = normalize_rewards(data, gamma)
    to_go = []
    for start, end in zip(scaled.offset[:-1], scaled.offset[1:]):
        for t in range(start, end):
            to_go.append(sum(gamma ** (k - t) * scaled.rewards[k] for k in range(t, end)))
    assert abs(np.std(to_go) - 1) < 1e-6
    np.testing.assert_allclose(scaled.rewards / data.rewards, scaled.rewards[0] / data.rewards[0], rtol=1e-5)
    assert scaled.obs is data.obs


def test_the_unit_of_rewards_does_not_matter():
    data = episodes(toy(SPACES["discrete"]))
    one, other = (normalize_rewards(x, 0.9).rewards for x in (data, replace(data, rewards=100 * data.rewards)))
    np.testing.assert_allclose(one, other, rtol=1e-5)


def test_constant_returns_stay():
    data = episodes(toy(SPACES["discrete"]))
    still = replace(data, rewards=np.ones_like(data.rewards))
    assert normalize_rewards(still, 0.0) is still
