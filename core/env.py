"""What an environment is: E lanes that start together and each play one episode.

There is no automatic reset. A lane whose episode is over stays as it is, earns nothing and ignores its action, so that an
evaluation counts every lane once, however short its episode. Arrays are numpy.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np


class Observation(NamedTuple):
    """What is there before a step."""

    obs: np.ndarray  # [E, N, O] float32
    state: np.ndarray  # [E, S] float32, for training only: policies never see it
    avail: np.ndarray  # [E, N, A] bool; Box: [E, N, 1], all true


class Step(NamedTuple):
    """What a step brings."""

    observation: Observation
    rewards: np.ndarray  # [E] float64
    terminated: np.ndarray  # [E] bool, the game is over (stays true)
    truncated: np.ndarray  # [E] bool, the time limit was hit (stays true)
    info: dict[str, np.ndarray]  # [E] each, e.g. won


class VecEnv(Protocol):
    num_envs: int

    def reset(self, seeds: Sequence[int]) -> Observation:
        """Start every lane's episode; lane e's randomness comes from seeds[e] alone."""

    def step(self, act: np.ndarray) -> Step:
        """act [E, N] int, or [E, N, D] float in [-1, 1]."""

    def close(self) -> None:
        """Release what the environment holds (processes, games)."""
