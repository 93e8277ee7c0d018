"""What both renderers share: the policies whose episodes can be drawn."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from inspo_benchmark.core.env import Observation, VecEnv
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import suggest
from inspo_benchmark.datasets import behavior
from inspo_benchmark.datasets.behavior.rollout import uniforms
from inspo_benchmark.learning import saved_policy

Actor = Callable[[VecEnv, Observation, int], np.ndarray]  # environment, observation, step -> actions [1, N] or [1, N, D]


def sampled(act: Callable, seed: int, draws: int) -> Actor:
    """Samples the actions of a behavior policy, with `draws` random numbers per step; act(obs, avail, u) -> actions, log-probabilities."""
    return lambda env, observation, step: act(observation.obs, observation.avail, uniforms(0, np.array([seed]), step, draws))[0]


def find_actor(policy: str, scenario: str, builtin: dict[str, Actor], load: Callable[[Path], Actor]) -> Actor:
    """The policy called `policy`: a built-in one, a shipped one ("expert" is "expert-0"), a file (.npz), or a run's saved policies.

    The latter are PATH.policies for the run's first seed, or PATH.policies:SEED. UserError: there is no such policy for this scenario.
    """
    shipped = {path.stem: path for path in sorted((behavior.SHIPPED / scenario).glob("*.npz"))}
    shipped |= {stem.removesuffix("-0"): path for stem, path in shipped.items() if stem in ("expert-0", "medium-0")}
    if policy in builtin:
        return builtin[policy]
    if policy in shipped or policy.endswith(".npz"):
        return load(shipped.get(policy, Path(policy)))
    if act := saved_policy.load_greedy_policy(policy, scenario):
        return lambda env, observation, step: act(observation)
    raise UserError(f"no policy {policy!r} for {scenario}; {suggest(policy, [*builtin, *shipped])}")
