"""Frames of StarCraft battles: random ones, and what the kernels make of recorded ones."""

from functools import cache

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.envs.smac.maps import REWARD_SCALE, Map, Scenario, find_map
from inspo_benchmark.envs.smac.simulator import HEALTH
from inspo_benchmark.envs.smac.units import TYPES
from inspo_benchmark.envs.smac.views import (
    NO_ACTION,
    ONGOING,
    WON,
    Scene,
    best_returns,
    default_reward_config,
    drawn_scene,
    fill_observations,
    fill_rewards,
    fill_visibility,
)


def some_frames(name: str, frames: int, seed: int = 0):
    """Random places, healths, deaths, shields, cooldowns, energies and last actions."""
    m, rng = find_map(name), np.random.default_rng(seed)
    size = (frames, m.n + m.m)
    full = np.array([[unit.health, unit.shield] for unit in m.units()])
    spread = rng.uniform(2, 12, (frames, 1, 1))  # from crowds to armies out of sight
    place = (rng.uniform(2, 30, (frames, 1, 2)) + rng.uniform(-1, 1, (*size, 2)) * spread).clip(0, 31.99)
    health = full[:, 0] * rng.uniform(0.01, 1, size) * (rng.random(size) > 0.25)
    columns = [
        place,
        health[..., None],
        (full[:, 1] * rng.random(size))[..., None],
        rng.uniform(0, 40, (*size, 1)),
        rng.uniform(0, 200, (*size, 1)),
    ]
    frame = np.concatenate(columns, -1)
    return frame[:, : m.n], frame[:, m.n :], rng.integers(NO_ACTION, m.actions, (frames, m.n))


@cache
def scene(map: Map) -> Scene:
    return drawn_scene(map, map.type_numbers[None])


def observe(
    map_name: str,
    allies: np.ndarray,
    enemies: np.ndarray,
    last_actions: np.ndarray,
    ally_types: np.ndarray | None = None,
    enemy_types: np.ndarray | None = None,
) -> tuple[np.ndarray, ...]:
    """Observations of F frames.

    allies [F, n, 6], enemies [F, m, 6] float: x, y, health, shield, cooldown (loops), energy; last_actions [F, n] int, -1 before the
    first step. In a scenario also the names of the types, ally_types [F, n] and enemy_types [F, m].
    Returns obs [F, n, O] float32, state [F, S] float32, avail [F, n, A] bool, visible [F, n, n + m] bool.
    UserError: no such map, or arrays of another shape.
    """
    map = find_map(map_name)
    frame, last = _frame(map, allies, enemies), np.ascontiguousarray(last_actions, np.int64)
    frames = len(frame)
    if last.shape != (frames, map.n):
        raise UserError(f"last actions of shape {last.shape}: {map.name} has {map.n} agents, so ({frames}, {map.n}) is needed")
    shown = _scene_of(map, frames, ally_types, enemy_types)
    obs, state = np.empty((frames, map.n, map.obs), np.float32), np.empty((frames, map.state), np.float32)
    avail, visible = np.empty((frames, map.n, map.actions), bool), np.empty((frames, map.n, map.n + map.m), bool)
    fill_observations(frame, last, shown, obs, state, avail)
    fill_visibility(frame, shown, visible)
    return obs, state, avail, visible


def reward(
    map_name: str,
    allies0: np.ndarray,
    enemies0: np.ndarray,
    allies1: np.ndarray,
    enemies1: np.ndarray,
    ally_types: np.ndarray | None = None,
    enemy_types: np.ndarray | None = None,
) -> tuple[np.ndarray, ...]:
    """Rewards of F steps, from the frames before and after each, as in `observe`.

    Returns reward [F] float64 (scaled; in a scenario by each step's own enemies), terminated [F] bool (by the battle, not by the time
    limit), won [F] bool, and the numbers of dead units dead_allies [F], dead_enemies [F] int64. Deaths before the step are not rewarded
    again. UserError: no such map, or arrays of another shape.
    """
    map = find_map(map_name)
    before, after = _frame(map, allies0, enemies0), _frame(map, allies1, enemies1)
    if len(before) != len(after):
        raise UserError(f"{len(before)} frames before a step and {len(after)} after it: one of each is needed")
    shown, terms = _scene_of(map, len(after), ally_types, enemy_types), default_reward_config(map)
    paid, outcome = np.zeros(len(after)), np.full(len(after), ONGOING)
    deaths_counted, dead = before[..., HEALTH] == 0, after[..., HEALTH] == 0
    fill_rewards(before, after, deaths_counted, np.ones(len(after), bool), shown, terms, paid, outcome)
    if isinstance(map, Scenario):
        paid /= best_returns(map, _type_numbers(map, len(after), ally_types, enemy_types), terms) / REWARD_SCALE
    return paid, outcome != ONGOING, outcome == WON, dead[:, : map.n].sum(1), dead[:, map.n :].sum(1)


def _frame(map: Map | Scenario, allies: np.ndarray, enemies: np.ndarray) -> np.ndarray:
    for kind, units, count in (("agents", allies, map.n), ("enemies", enemies, map.m)):
        if np.ndim(units) != 3 or np.shape(units)[1:] != (count, 6):
            raise UserError(f"{kind} of shape {np.shape(units)}: {map.name} has {count} {kind}, so (frames, {count}, 6) is needed")
    if len(allies) != len(enemies):
        raise UserError(f"{len(allies)} frames of the agents and {len(enemies)} of the enemies: the numbers must be equal")
    return np.concatenate([allies, enemies], 1, dtype=np.float64)


def _scene_of(map: Map | Scenario, frames: int, ally_types: np.ndarray | None, enemy_types: np.ndarray | None) -> Scene:
    if isinstance(map, Map):
        return scene(map)
    return drawn_scene(map, _type_numbers(map, frames, ally_types, enemy_types))


def _type_numbers(scenario: Scenario, frames: int, ally_types: np.ndarray | None, enemy_types: np.ndarray | None) -> np.ndarray:
    """Names of types [F, n] and [F, m] -> indices into units.TYPES [F, n + m]."""
    for kind, names, count in (("agents", ally_types, scenario.n), ("enemies", enemy_types, scenario.m)):
        if np.shape(names) != (frames, count):
            raise UserError(f"types of the {kind} of shape {np.shape(names)}: {scenario.name} needs ({frames}, {count})")
    names = np.concatenate([ally_types, enemy_types], 1)
    if wrong := sorted(set(names.ravel().tolist()) - set(scenario.types)):
        raise UserError(f"units of type {wrong[0]!r}: {scenario.name} has {', '.join(scenario.types)}")
    return np.searchsorted(TYPES[:-1], names)
