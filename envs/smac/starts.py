"""The teams and starting places of SMACv2's scenarios: its distributions, with the same calls of numpy's generators.

With the generators of SMACv2's objects, `teams` and `places` return what its objects return (github.com/oxwhirl/smacv2 at 577ab5a,
smacv2/env/starcraft2/distributions.py). SMACv2 does not seed them. Here one generator per battle, whose key is the battle's seed, makes
all draws, so a battle does not depend on those before it.

Requested places may overlap or lie outside the playable area; the simulator puts each unit on the nearest free spot.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.random import Generator

from inspo_benchmark.envs.smac.maps import BOTH, FACING, MAP_SIZE, REFLECT, SURROUNDED, Scenario
from inspo_benchmark.envs.smac.units import TYPES

REFLECT_MARGIN = 1.0  # cells between the allies' half and the middle of the map
INNER = 2.0  # cells in x and y from the center to the nearest place of a group of enemies
ALLIES_FACING, ENEMIES_FACING = (8.0, 16.0), (24.0, 16.0)  # the points of FACING
CENTER = MAP_SIZE / 2
CORNERS = np.array([(0.0, 0.0), (0.0, MAP_SIZE), (MAP_SIZE, MAP_SIZE), (MAP_SIZE, 0.0)])
NEAR = CENTER + INNER * np.sign(CORNERS - CENTER)  # the nearest places on these diagonals
EQUAL_SHARES = [np.ones(k) / max(k, 1) for k in range(5)]
WEST = np.array([CENTER - REFLECT_MARGIN, MAP_SIZE])
NUMBER = {name: k for k, name in enumerate(TYPES)}


class Starts(NamedTuple):
    """What E battles of a scenario ask for, in order of creation: agents, then enemies."""

    types: np.ndarray  # [E, n + m] int64, index into units.TYPES
    places: np.ndarray  # [E, n + m, 2] float64


class Sources(NamedTuple):
    """The generators of a scenario's draws. SMACv2 has one for each, and shuffles with Python's global generator."""

    teams: Generator
    shuffle: Callable[[list], None]
    coin: Generator  # which kind of start, under BOTH
    surrounded: Generator
    reflect: Generator
    extras: Generator  # places of the enemies without a mirror image


def draw(scenario: Scenario, seeds: Sequence[int]) -> Starts:
    """The starts of E battles; battle e depends on seeds[e] >= 0 alone."""
    n = scenario.n
    types, spots = np.empty((len(seeds), n + scenario.m), np.int64), np.empty((len(seeds), n + scenario.m, 2))
    bits = np.random.Philox(key=0)
    rng, start = np.random.Generator(bits), bits.state
    sources = Sources(rng, _keep_order, rng, rng, rng, rng)
    for e, seed in enumerate(seeds):
        start["state"]["key"][0] = seed  # faster than a new generator
        bits.state = start
        allies, enemies = teams(scenario, sources)
        types[e] = [NUMBER[name] for name in allies + enemies]
        spots[e, :n], spots[e, n:] = places(scenario, sources)
    return Starts(types, spots)


def _keep_order(team: list) -> None:
    """Independent draws need no shuffling."""


def teams(scenario: Scenario, sources: Sources) -> tuple[list[str], list[str]]:
    """Types of the agents and of the enemies: the enemies have the agents' types, and further draws if they are more."""
    allies = _team(scenario, scenario.n, sources)
    extras = _team(scenario, scenario.m - scenario.n, sources) if scenario.m > scenario.n else []
    return allies, allies[: scenario.m] + extras


def _team(scenario: Scenario, size: int, sources: Sources) -> list[str]:
    cumulative = _cumulative(scenario.weights)
    while True:  # Generator.choice with these probabilities draws in the same way
        team = [scenario.unit_types[k] for k in cumulative.searchsorted(sources.teams.random(size), side="right").tolist()]
        sources.shuffle(team)
        if not all(name in scenario.exceptions for name in team):
            return team


@cache
def _cumulative(weights: tuple[float, ...]) -> np.ndarray:
    total = np.cumsum(weights)
    return total / total[-1]


def places(scenario: Scenario, sources: Sources) -> tuple[np.ndarray, np.ndarray]:
    """Places [n, 2] of the agents and [m, 2] of the enemies."""
    kind = scenario.places
    if kind == BOTH:
        kind = SURROUNDED if sources.coin.random() > scenario.reflect_probability else REFLECT
    return {REFLECT: _reflect, SURROUNDED: _surrounded, FACING: _facing}[kind](scenario, sources)


def _reflect(scenario: Scenario, sources: Sources) -> tuple[np.ndarray, np.ndarray]:
    """Agents uniform in the west; enemies at the mirror images, those without one uniform in the east."""
    n, m = scenario.n, scenario.m
    allies, enemies = sources.reflect.random((n, 2)) * WEST, np.empty((m, 2))
    enemies[:n] = allies[:m]
    enemies[:n, 0] = MAP_SIZE - allies[:m, 0]
    if m > n:
        enemies[n:] = sources.extras.uniform((CENTER, 0.0), (MAP_SIZE, MAP_SIZE), (m - n, 2))
    return allies, enemies


def _surrounded(scenario: Scenario, sources: Sources) -> tuple[np.ndarray, np.ndarray]:
    """Agents in the center; one to four groups of enemies on different diagonals, each on one point between the corner and the center."""
    rng, m = sources.surrounded, scenario.m
    groups = int(rng.integers(1, 5))
    sizes = rng.multinomial(m, EQUAL_SHARES[groups])
    nearness = rng.random(groups)[:, None]
    ways = rng.choice(4, size=(groups,), replace=False)
    points = NEAR[ways] * nearness + CORNERS[ways] * (1 - nearness)
    return np.full((scenario.n, 2), CENTER), np.repeat(points, sizes, axis=0)


def _facing(scenario: Scenario, sources: Sources) -> tuple[np.ndarray, np.ndarray]:
    return np.tile(ALLIES_FACING, (scenario.n, 1)), np.tile(ENEMIES_FACING, (scenario.m, 1))
