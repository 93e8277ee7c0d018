"""Whole episodes of a policy, end to end."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from inspo_benchmark.core.env import VecEnv
from inspo_benchmark.datasets.behavior.smac_policy import Policy, act, uniforms

Act = Callable[[Policy, np.ndarray, np.ndarray, np.ndarray | None], tuple[np.ndarray, np.ndarray]]  # as `datasets.behavior.smac_policy.act`


class Episodes(NamedTuple):
    """E episodes, T steps. Rows of episode e: steps from offset[e] on; observations from offset[e] + e on, one more than steps."""

    obs: np.ndarray  # [T+E, n, O] float32
    state: np.ndarray  # [T+E, S] float32
    avail: np.ndarray  # [T+E, n, A] bool
    actions: np.ndarray  # [T, n] int64, or [T, n, D] float32
    logp: np.ndarray  # [T, n] float64, of the actions
    rewards: np.ndarray  # [T] float64
    offset: np.ndarray  # [E+1] int64
    terminated: np.ndarray  # [E] bool; otherwise the time was up
    won: np.ndarray  # [E] bool; -1 where winning has no meaning

    @property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offset)

    @property
    def returns(self) -> np.ndarray:
        return np.add.reduceat(self.rewards, self.offset[:-1])

    @property
    def now(self) -> np.ndarray:
        """Row of the observation before each step [T]."""
        return np.arange(len(self.rewards)) + np.repeat(np.arange(len(self.won)), self.lengths)


def play(env: VecEnv, policy: Policy, seeds: Sequence[int], key: int = 0, greedy: bool = False, act: Act = act, draws: int = 1) -> Episodes:
    """One episode per lane. Episode e follows from the policy, seeds[e] and `key` alone, whoever plays in the other lanes.

    `act` chooses, with so many `draws` from [0, 1) per agent.
    """
    seeds = np.asarray(seeds)
    seen, num_envs, turns = env.reset(seeds), np.arange(env.num_envs), []
    joint = None
    for t in count():
        obs, state, avail = (x[num_envs] for x in seen)
        u = None if greedy else uniforms(key, seeds[num_envs], t, obs.shape[1] * draws)
        chosen, logp = act(policy, obs, avail, u)
        joint = np.zeros_like(chosen) if joint is None else joint  # at the first step every lane plays
        joint[num_envs] = chosen
        seen, reward, terminated, truncated, info = env.step(joint)
        turns.append((np.full(len(num_envs), t), num_envs, obs, state, avail, joint[num_envs], logp, reward[num_envs]))
        num_envs = num_envs[~(terminated | truncated)[num_envs]]
        if not len(num_envs):
            break

    t, lane, obs, state, avail, actions, logp, rewards = (np.concatenate(x) for x in zip(*turns, strict=True))
    offset = np.concatenate([[0], np.cumsum(np.bincount(lane))])
    step = offset[lane] + t

    def rows(x: np.ndarray, last: np.ndarray) -> np.ndarray:
        out = np.empty((len(x) + len(last), *x.shape[1:]), x.dtype)
        out[step + lane] = x
        out[offset[1:] + np.arange(len(last))] = last
        return out

    order = np.argsort(step)
    return Episodes(
        *(rows(x, last) for x, last in zip((obs, state, avail), seen, strict=True)),
        actions[order],
        logp[order],
        rewards[order],
        offset,
        terminated,
        info.get("won", np.full(env.num_envs, -1)),
    )
