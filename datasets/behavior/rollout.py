"""Whole episodes of a behavior policy, end to end."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np

from inspo_benchmark.core.env import VecEnv
from inspo_benchmark.datasets.behavior.policy import Policy
from inspo_benchmark.datasets.behavior.smac_policy import act
from inspo_benchmark.datasets.dataset import offsets
from inspo_benchmark.envs.smac.compiled import SPLITMIX_STEP, kernel, rule, splitmix64, unit_interval

Act = Callable[[Policy, np.ndarray, np.ndarray, np.ndarray | None], tuple[np.ndarray, np.ndarray]]  # as `smac_policy.act`


class Episodes(NamedTuple):
    """E episodes, T steps. Steps of episode e start at offset[e], its observations at offset[e] + e; there is one more than steps."""

    obs: np.ndarray  # [T+E, n, O] float32
    state: np.ndarray  # [T+E, S] float32
    avail: np.ndarray  # [T+E, n, A] bool
    actions: np.ndarray  # [T, n] int64, or [T, n, D] float32
    logp: np.ndarray  # [T, n] float64, log-probability of each action
    rewards: np.ndarray  # [T] float64
    offset: np.ndarray  # [E+1] int64
    terminated: np.ndarray  # [E] bool; False: truncated
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


def rollout(
    env: VecEnv, policy: Policy, seeds: Sequence[int], key: int = 0, greedy: bool = False, act: Act = act, draws: int = 1
) -> Episodes:
    """One episode per environment. Episode e depends on the policy, seeds[e] and `key` alone, not on the other environments (in MuJoCo but
    for rounding).

    `act` chooses the actions, with `draws` random numbers per agent.
    """
    seeds = np.asarray(seeds)
    observation, live, steps = env.reset(seeds), np.arange(env.num_envs), []
    joint = None
    for t in count():
        obs, state, avail = (x[live] for x in observation)
        u = None if greedy else uniforms(key, seeds[live], t, obs.shape[1] * draws)
        actions, logp = act(policy, obs, avail, u)
        joint = np.zeros_like(actions) if joint is None else joint  # at the first step all environments are live
        joint[live] = actions
        observation, rewards, terminated, truncated, info = env.step(joint)
        steps.append((np.full(len(live), t), live, obs, state, avail, actions, logp, rewards[live]))
        live = live[~(terminated | truncated)[live]]
        if not len(live):
            break

    t, e, obs, state, avail, actions, logp, rewards = (np.concatenate(x) for x in zip(*steps, strict=True))
    offset = offsets(np.bincount(e))
    step = offset[e] + t

    def rows(x: np.ndarray, last: np.ndarray) -> np.ndarray:
        """x [T, ...] of the steps and last [E, ...] of the episodes' ends -> [T+E, ...] in order."""
        out = np.empty((len(x) + len(last), *x.shape[1:]), x.dtype)
        out[step + e] = x
        out[offset[1:] + np.arange(len(last))] = last
        return out

    order = np.argsort(step)
    return Episodes(
        *(rows(x, last) for x, last in zip((obs, state, avail), observation, strict=True)),
        actions[order],
        logp[order],
        rewards[order],
        offset,
        terminated,
        info.get("won", np.full(env.num_envs, -1)),
    )


def uniforms(key: int, episode: np.ndarray, step: int, agents: int) -> np.ndarray:
    """[E, agents] uniform on [0, 1); each number depends on its (key, episode, step, agent) alone. episode [E] int."""
    out = np.empty((len(episode), agents))
    _uniforms(np.uint64(key), episode.astype(np.uint64), np.uint64(step), out)
    return out


@rule
def _next(z):
    return splitmix64(z + SPLITMIX_STEP)


@kernel
def _uniforms(key, episode, step, out):
    for e in range(out.shape[0]):
        seed = _next(_next(_next(key) ^ episode[e]) ^ step)
        for i in range(out.shape[1]):
            out[e, i] = unit_interval(_next(seed ^ np.uint64(i)))
