"""Random episodes of a task of any sizes, and a comparison of two datasets."""

import numpy as np

from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.dataset import PATHS, Dataset, pack

THREE = Discrete(3)


def toy(space: Discrete | Box = THREE, agents: int = 2, **fields) -> Task:
    base = dict(
        name="toy-random", spec=Spec(agents, 5, 4, space, 9), make=None, family="toy", quality="random", backend="none", reference=(0, 1)
    )
    return Task(**(base | fields))


def episodes(task: Task, count: int = 6, seed: int = 0) -> Dataset:
    """Random episodes of every length up to the limit, with some unavailable actions, which are never taken."""
    rng, s = np.random.default_rng(seed), task.spec
    rows = (count, s.episode_limit + 1, s.num_agents)
    if s.space.kind == "discrete":
        actions = rng.integers(s.space.action_dim, size=(count, s.episode_limit, s.num_agents))
        avail = rng.random((*rows, s.space.action_dim)) < 0.5
        np.put_along_axis(avail[:, :-1], actions[..., None], True, -1)
        avail[:, :, :, 0] |= ~avail.any(-1)
    else:
        actions, avail = rng.uniform(-1, 1, (count, s.episode_limit, s.num_agents, s.space.action_dim)), np.ones((*rows, 1), bool)
    return pack(
        task,
        lengths=rng.integers(1, s.episode_limit + 1, count),
        obs=rng.normal(size=(*rows, s.obs_dim)),
        state=rng.normal(size=(count, s.episode_limit + 1, s.state_dim)),
        avail=avail,
        actions=actions,
        rewards=rng.normal(size=(count, s.episode_limit)),
        terminated=rng.random(count) < 0.5,
        won=rng.integers(-1, 2, count),
        seed=np.arange(count),
        source="a test",
    )


def same(a: Dataset, b: Dataset) -> bool:
    return all(getattr(a, n).dtype == getattr(b, n).dtype and np.array_equal(getattr(a, n), getattr(b, n)) for n in PATHS)
