"""How diverse episodes are, on data whose numbers are known, and SACo on 3m as in recordings of the real game."""

import math
from dataclasses import replace

import numpy as np
import pytest

from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.behavior import SHIPPED
from inspo_benchmark.datasets.behavior.rollout import rollout
from inspo_benchmark.datasets.behavior.smac_policy import load
from inspo_benchmark.datasets.dataset import Dataset, join
from inspo_benchmark.datasets.diversity import entropy, saco
from inspo_benchmark.envs.smac.maps import find_map
from inspo_benchmark.envs.smac.vector import Smac
from support.episodes import episodes, toy


def dataset(states, actions, avail=None, logp=None) -> Dataset:
    """One episode of two agents with three actions; the state after the last step is 0."""
    spec = Spec(2, 1, 1, Discrete(3), 100)
    task = Task(name="toy-x", spec=spec, make=None, family="toy", quality="x", backend="toy", reference=(0.0, 1.0))
    steps = len(states)
    return join(
        task,
        np.array([steps]),
        obs=np.zeros((steps + 1, 2, 1)),
        state=np.array([*states, 0.0])[:, None],
        actions=np.array(actions),
        rewards=np.zeros(steps),
        terminated=np.array([True]),
        avail=None if avail is None else np.array([*avail, avail[-1]], bool),
        behavior_logp=None if logp is None else np.array(logp),
    )


def test_saco_counts_pairs_of_rounded_states_and_joint_actions():
    same = dataset([0.5, 0.50004, 0.50003, 0.5], [[0, 1]] * 4)
    assert saco(same) == 0.25  # equal to four decimals
    assert saco(dataset([0.5, 0.5002, 0.5, 0.5], [[0, 1]] * 4)) == 0.5
    assert saco(dataset([0.5] * 4, [[0, 1], [1, 0], [0, 1], [0, 2]])) == 0.75
    assert saco(dataset([-0.00001, 0.0], [[0, 1]] * 2)) == 0.5  # there is one zero
    rng = np.random.default_rng(0)
    d = dataset(rng.integers(3, size=90) / 7, rng.integers(3, size=(90, 2)))
    assert saco(d) == len({(round(float(s), 4), *a) for s, a in zip(d.state[:, 0], d.actions.tolist())}) / 90


def test_entropy_is_that_of_decisions_with_a_choice():
    choice, none = [True, True, False], [True, False, False]
    logp = [[math.log(0.5), 0.0], [math.log(0.25), math.log(0.125)]]
    d = dataset([0.0, 0.0], [[0, 0], [1, 1]], [[choice, none], [choice, choice]], logp)
    assert entropy(d) == pytest.approx((math.log(2) + math.log(4) + math.log(8)) / 3)
    assert math.isnan(entropy(dataset([0.0], [[0, 0]])))
    continuous = episodes(toy(Box(2)))
    logp = np.full((continuous.steps, 2), -0.5, np.float32)
    assert math.isnan(entropy(replace(continuous, behavior_logp=logp)))


@pytest.mark.parametrize("quality", ["medium", "expert"])
def test_saco_on_3m_is_that_of_recordings(quality):
    """OG-MARL recorded 10,000 battles of each of four policies with epsilon 0.05: 0.80 to 0.85. Here with as many it is 0.81 (medium) and
    0.79 (expert), with 1,000 battles each 0.83 and 0.81. Continuous noise in the start positions would make it 1."""
    m = find_map("3m")
    policies = [load(path, m) for path in sorted((SHIPPED / "3m").glob(f"{quality}-*.npz"))]
    assert len(policies) == 4
    spec = Spec(m.n, m.obs, m.state, Discrete(m.actions), m.limit)
    task = Task(name="3m-x", spec=spec, make=None, family="smac", quality="x", backend="smac", reference=(0.0, 20.0))
    played = [
        rollout(Smac("3m", 1000), policy._replace(epsilon=0.05, temperature=0.0), 1000 * k + np.arange(1000))
        for k, policy in enumerate(policies)
    ]
    names = ("obs", "state", "avail", "actions", "rewards", "terminated")
    d = join(
        task, np.concatenate([x.lengths for x in played]), **{name: np.concatenate([getattr(x, name) for x in played]) for name in names}
    )
    assert 0.78 <= saco(d) <= 0.87
