"""The interface of environments: E parallel copies that start together and run one episode each.

There is no automatic reset. A copy whose episode is over keeps its state, gives no reward and ignores its actions, so that every episode
counts once in an evaluation, however short it is. Arrays are numpy.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np

from inspo_benchmark.core.errors import UserError, whole_number


class Observation(NamedTuple):
    """What the environment shows before a step."""

    obs: np.ndarray  # [E, N, O] float32, per agent
    state: np.ndarray  # [E, S] float32, for training only: policies do not get it
    avail: np.ndarray  # [E, N, A] bool, available actions; Box: [E, N, 1], all true


class Step(NamedTuple):
    """The result of a step."""

    observation: Observation
    rewards: np.ndarray  # [E] float64
    terminated: np.ndarray  # [E] bool, the episode ended by the rules of the task (stays true)
    truncated: np.ndarray  # [E] bool, the episode reached its time limit (stays true)
    info: dict[str, np.ndarray]  # [E] each, e.g. won


class VecEnv(Protocol):
    num_envs: int  # E

    def reset(self, seeds: Sequence[int]) -> Observation:
        """Start an episode in every copy e, whose randomness depends on seeds[e] alone."""

    def step(self, actions: np.ndarray) -> Step:
        """actions: [E, N] int, or [E, N, D] float in [-1, 1]."""

    def close(self) -> None:
        """End the processes and games of the environment."""


def checked_seeds(seeds: Sequence[int], num_envs: int) -> list[int]:
    """The seeds of all copies. UserError: there is not one seed per environment, or a seed is not an integer from 0 to 2^64 - 1."""
    if len(seeds) != num_envs:
        raise UserError(f"{len(seeds)} seeds for {num_envs} environments: write one for each")
    found = [whole_number("seed", seed, 0) for seed in seeds]
    if max(found) >= 2**64:
        raise UserError(f"seed={max(found)}: the largest one is 2^64 - 1")
    return found


def check_num_envs(num_envs: int) -> int:
    """The number of copies as an int. UserError: it is no integer, or smaller than 1."""
    return whole_number("num_envs", num_envs, 1)


def check_shape(actions: np.ndarray, shape: tuple[int, ...]) -> None:
    """UserError: the actions of all copies and agents have another shape."""
    if actions.shape != shape:
        raise UserError(f"actions of shape {actions.shape}; the environment takes {shape}")


def whole_actions(actions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Discrete actions as int64. UserError: they have another shape, or are no integers."""
    x = np.asarray(actions)
    check_shape(x, shape)
    if x.dtype.kind not in "iu":
        raise UserError(f"actions of type {x.dtype}; the environment takes integers")
    return np.ascontiguousarray(x, np.int64)


def actions_in_range(actions: np.ndarray, shape: tuple[int, int], num_actions: int, live: np.ndarray) -> np.ndarray:
    """As `whole_actions`, between 0 and num_actions - 1; those of copies that are not live [E] are ignored, so they are clipped.
    UserError: also for an action of a live copy outside that range."""
    x = whole_actions(actions, shape)
    clipped = x.clip(0, num_actions - 1)
    if (wrong := (x != clipped) & live[:, None]).any():
        e, agent = np.argwhere(wrong)[0]
        raise UserError(f"action {x[e, agent]} of agent {agent} in environment {e}; the environment takes 0 to {num_actions - 1}")
    return clipped
