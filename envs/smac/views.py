"""SMAC's and SMACv2's observations, states, available actions, rewards and outcomes: pure functions of unit arrays.

The rules on maps are those of StarCraft2Env (github.com/oxwhirl/smac at d6aab33) with its default flags, every quirk included. Those in
scenarios are SMACv2's (github.com/oxwhirl/smacv2 at 577ab5a) with the flags of its published configurations, except that an agent sees
every enemy in its sight range (`EnemyMemory` in smacv2.py has the rules of the code). Kernels write into arrays of the caller. They use
basic IEEE operations on float64 and round to float32 at the end, so results have the same bits everywhere.

    obs of an agent  available moves (4), enemies, other agents, itself [health, (shield), (x / 32, y / 32 in SMACv2), type bits]; zeros
                     for dead and unseen units
    a unit in sight  [attackable (enemies) or 1 (agents), distance / S, dx / S, dy / S, health, (shield), type bits]; S: sight range
    state            agents [health, cooldown or a Medivac's energy, x, y, (shield), type bits],
                     enemies [health, x, y, (shield), type bits], last actions one-hot
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from inspo_benchmark.envs.smac.compiled import kernel, rule
from inspo_benchmark.envs.smac.maps import (
    DEATH_REWARD,
    EAST,
    MAP_SIZE,
    NO_ATTACK,
    NO_OP,
    NORTH,
    REWARD_SCALE,
    SOUTH,
    STOP,
    WEST,
    WIN_REWARD,
    Map,
    Scenario,
    ground,
    unit_data,
)
from inspo_benchmark.envs.smac.simulator import COOLDOWN, ENERGY, HEALTH, SHIELD, X, Y
from inspo_benchmark.envs.smac.units import TYPES

SIGHT_RANGE, SHOOT_RANGE = 9.0, 6.0  # cells between centers, for every type: seen below the one, attackable up to the other
UNIT_RANGES = {  # SMACv2's own sight and attack ranges; the latter are at least min_attack_range
    "marine": (9.0, 5.0), "marauder": (10.0, 6.0), "medivac": (11.0, 4.0), "stalker": (10.0, 6.0), "zealot": (9.0, 0.1),
    "colossus": (10.0, 7.0), "zergling": (8.0, 0.1), "baneling": (8.0, 0.25), "hydralisk": (9.0, 5.0),
}  # fmt: skip
MOVE_LOOKAHEAD = 1.0  # cells: a move is available if this point is walkable, although the order goes twice as far
CENTER, MAP_EXTENT = MAP_SIZE / 2, 28.0  # positions in the state are (x - CENTER) / MAP_EXTENT
MAX_COOLDOWN = {  # loops that SMAC divides by, not the units' own (github.com/oxwhirl/smac/issues/95); for a Medivac, energy
    "marine": 15, "marauder": 25, "medivac": 200, "stalker": 35, "zealot": 22, "colossus": 24, "hydralisk": 10, "zergling": 11,
    "baneling": 1,
}  # fmt: skip
OTHER_MAX_COOLDOWN = 15  # of other types and of enemies
LOST, DRAWN, WON, ONGOING = -1, 0, 1, 2  # outcomes of a battle; drawn: all units are dead
NO_ACTION = -1  # the last action before the first step

UNIT_VIEW = np.dtype(
    [
        ("health", "f8"),  # divisors: of health, shield, and cooldown or energy
        ("shield", "f8"),
        ("cooldown", "f8"),
        ("bit", "i8"),  # one-hot
        ("heals", "i8"),
        ("sight", "f8"),  # divisor of distances
        ("seen", "f8"),  # what is nearer is seen; infinite if distance does not matter
        ("reach", "f8"),  # an attack is available up to this distance
    ]
)


class Scene(NamedTuple):
    """The constants of observations and rewards of R battles, 1 if those of all are the same; U units."""

    agents: int
    enemies: int
    actions: int
    bits: int  # length of a type's one-hot code
    ally_shield: int  # 1: the allies have shields, which are shown
    enemy_shield: int
    rescue: int  # see maps.Map.rescue
    own_position: int  # 1: agents see where they are
    show_teammates: int  # 1: agents see the types of the other agents
    mask_out_of_range: int  # 1: attacks out of range are not available
    units: np.ndarray  # [R, U] UNIT_VIEW; in rules [U]
    free: np.ndarray  # [x, y] bool, walkable cells


class RewardConfig(NamedTuple):
    """SMAC's reward settings and their defaults."""

    scale: float  # divides the whole reward
    only_positive: bool = True  # ignore the damage and the deaths of agents
    sparse: bool = False  # only 1 for a win and -1 for a loss
    death: float = DEATH_REWARD
    win: float = WIN_REWARD
    defeat: float = 0.0
    negative: float = 0.5  # weight of the damage and the deaths of agents
    absolute: bool = True  # with only_positive, health and shields that enemies regain are rewarded too, as in SMAC; in SMACv2 they are not


def drawn_scene(map: Map | Scenario, types: np.ndarray, profile: str = "liberty") -> Scene:
    """The scene of battles between units of these types [R, n + m], which are indices into units.TYPES."""
    n, (allies, enemies) = map.n, _unit_views(map, profile)
    drawn = isinstance(map, Scenario)
    return Scene(
        agents=n,
        enemies=map.m,
        actions=map.actions,
        bits=len(map.types),
        ally_shield=map.ally_shield,
        enemy_shield=map.enemy_shield,
        rescue=map.rescue,
        own_position=int(map.own_position),
        show_teammates=int(not drawn or map.show_teammates),
        mask_out_of_range=int(not drawn or map.mask_out_of_range),
        units=np.concatenate([allies[types[:, :n]], enemies[types[:, n:]]], 1),
        free=ground(map.terrain),
    )


@cache
def _unit_views(map: Map | Scenario, profile: str) -> tuple[np.ndarray, np.ndarray]:
    """The UNIT_VIEW of every type of units.TYPES, for the agents and for the enemies."""
    sides = []
    for types in (map.types, map.enemy_types):
        rows = []
        for name, unit in ((name, unit_data(profile)[name]) for name in TYPES):
            sight, reach, seen = SIGHT_RANGE, SHOOT_RANGE, SIGHT_RANGE
            if isinstance(map, Scenario):
                if map.unit_ranges and name in UNIT_RANGES:
                    sight, reach = UNIT_RANGES[name][0], max(UNIT_RANGES[name][1], map.min_attack_range)
                seen = math.inf if map.see_all else sight
            bit = types.index(name) if name in types else 0
            rows.append((unit.health, unit.shield, MAX_COOLDOWN.get(name, OTHER_MAX_COOLDOWN), bit, unit.heal > 0, sight, seen, reach))
        sides.append(np.array(rows, UNIT_VIEW))
    return tuple(sides)


def default_reward_config(map: Map | Scenario, profile: str = "liberty") -> RewardConfig:
    """SMAC's settings, which scale a won episode to REWARD_SCALE. A scenario's episodes have each their own scale, see `best_returns`."""
    if isinstance(map, Scenario):
        return RewardConfig(scale=1.0, absolute=False)
    return RewardConfig(scale=map.max_reward(profile) / REWARD_SCALE)


def best_returns(map: Map | Scenario, types: np.ndarray, terms: RewardConfig, profile: str = "liberty") -> np.ndarray:
    """Unscaled return of a won episode without regeneration of enemies [R], between units of these types [R, n + m]."""
    worth = np.array([unit_data(profile)[name].health + unit_data(profile)[name].shield for name in TYPES])
    return terms.win + map.m * terms.death + worth[types[:, map.n :]].sum(1)


# --- kernels


@rule
def _row(e, scene):
    """The scene of battle e."""
    return Scene(
        scene.agents,
        scene.enemies,
        scene.actions,
        scene.bits,
        scene.ally_shield,
        scene.enemy_shield,
        scene.rescue,
        scene.own_position,
        scene.show_teammates,
        scene.mask_out_of_range,
        scene.units[min(e, len(scene.units) - 1)],
        scene.free,
    )


@kernel
def fill_observations(frame, last, scene, obs, state, avail):
    """frame [E, U, 6], last [E, n] int64 (last actions) -> obs [E, n, O] float32, state [E, S] float32, avail [E, n, A] bool."""
    for e in range(len(frame)):
        row = _row(e, scene)
        for i in range(row.agents):
            _agent(frame[e], i, row, obs[e, i], avail[e, i])
        _state(frame[e], last[e], row, state[e])


@rule
def _distance(f, i, j):
    dx, dy = f[j, X] - f[i, X], f[j, Y] - f[i, Y]
    return math.sqrt(dx * dx + dy * dy)


@rule
def _walkable(x, y, free):
    """Whether (x, y) is on a walkable cell. int() rounds towards zero, as in SMAC."""
    a, b = int(x), int(y)
    return 0 <= a < MAP_SIZE and 0 <= b < MAP_SIZE and free[a, b]


@rule
def _agent(f, i, scene, obs, avail):
    """Observation and available actions of agent i."""
    n, healer, x, y = scene.agents, scene.units[i].heals, f[i, X], f[i, Y]
    obs[:] = 0
    avail[:] = False
    if not f[i, HEALTH] > 0:
        avail[NO_OP] = True
        return
    avail[STOP] = True
    avail[NORTH], avail[SOUTH] = _walkable(x, y + MOVE_LOOKAHEAD, scene.free), _walkable(x, y - MOVE_LOOKAHEAD, scene.free)
    avail[EAST], avail[WEST] = _walkable(x + MOVE_LOOKAHEAD, y, scene.free), _walkable(x - MOVE_LOOKAHEAD, y, scene.free)
    sight, seen, reach = scene.units[i].sight, scene.units[i].seen, scene.units[i].reach
    if healer:  # its targets are agents: action NO_ATTACK + j heals agent j, although enemy j has this place in the observation
        for j in range(n):
            if f[j, HEALTH] > 0 and not scene.units[j].heals:
                avail[NO_ATTACK + j] = _distance(f, i, j) <= reach
    for k in range(4):
        obs[k] = avail[NORTH + k]
    at = 4
    for j in range(n, n + scene.enemies):
        if f[j, HEALTH] > 0:
            distance, action = _distance(f, i, j), NO_ATTACK + j - n
            if not healer:
                avail[action] = distance <= reach
            if distance < seen:
                _unit(f, i, j, distance, sight, avail[action], scene.enemy_shield, True, scene, obs, at)
        at += 5 + scene.enemy_shield + scene.bits
    for j in range(n):
        if j != i:
            if f[j, HEALTH] > 0:
                distance = _distance(f, i, j)
                if distance < seen:
                    _unit(f, i, j, distance, sight, True, scene.ally_shield, scene.show_teammates, scene, obs, at)
            at += 5 + scene.ally_shield + scene.bits
    _health(f, i, scene.ally_shield, scene, obs, at, at + 1)
    at += 1 + scene.ally_shield
    if scene.own_position:
        obs[at], obs[at + 1] = x / MAP_SIZE, y / MAP_SIZE
        at += 2
    _type(i, scene, obs, at)
    if not scene.mask_out_of_range:  # only what agents see tells whether a target is in range
        for k in range(n if healer else scene.enemies):
            j = k if healer else n + k
            avail[NO_ATTACK + k] = f[j, HEALTH] > 0 and not (healer and scene.units[j].heals)


@rule
def _unit(f, i, j, distance, sight, flag, shield, typed, scene, obs, at):
    """Features of unit j as seen by agent i."""
    obs[at] = flag
    obs[at + 1] = distance / sight
    obs[at + 2] = (f[j, X] - f[i, X]) / sight
    obs[at + 3] = (f[j, Y] - f[i, Y]) / sight
    _health(f, j, shield, scene, obs, at + 4, at + 5)
    if typed:
        _type(j, scene, obs, at + 5 + shield)


@rule
def _health(f, j, shield, scene, out, at, at_shield):
    out[at] = f[j, HEALTH] / scene.units[j].health
    if shield:
        out[at_shield] = f[j, SHIELD] / scene.units[j].shield


@rule
def _type(j, scene, out, at):
    if scene.bits:
        out[at + scene.units[j].bit] = 1


@rule
def _state(f, last, scene, state):
    n, at = scene.agents, 0
    state[:] = 0
    for i in range(n):
        if f[i, HEALTH] > 0:
            unit = scene.units[i]
            _health(f, i, scene.ally_shield, scene, state, at, at + 4)
            state[at + 1] = (f[i, ENERGY] if unit.heals else f[i, COOLDOWN]) / unit.cooldown
            _position(f, i, state, at + 2)
            _type(i, scene, state, at + 4 + scene.ally_shield)
        at += 4 + scene.ally_shield + scene.bits
    for j in range(n, n + scene.enemies):
        if f[j, HEALTH] > 0:
            _health(f, j, scene.enemy_shield, scene, state, at, at + 3)
            _position(f, j, state, at + 1)
            _type(j, scene, state, at + 3 + scene.enemy_shield)
        at += 3 + scene.enemy_shield + scene.bits
    for i in range(n):
        if 0 <= last[i] < scene.actions:
            state[at + last[i]] = 1
        at += scene.actions


@rule
def _position(f, i, state, at):
    state[at] = (f[i, X] - CENTER) / MAP_EXTENT
    state[at + 1] = (f[i, Y] - CENTER) / MAP_EXTENT


@kernel
def fill_visibility(frame, scene, visible):
    """frame [E, U, 6] -> visible [E, n, U] bool: both units are alive and within sight range; no agent sees itself.

    Of two agents, the sight range of the one with the lower number decides for both, in SMACv2's matrix only.
    """
    for e in range(len(frame)):
        f, row = frame[e], _row(e, scene)
        for i in range(row.agents):
            for j in range(row.agents + row.enemies):
                seen = row.units[min(i, j)].seen  # enemies have higher numbers
                visible[e, i, j] = i != j and f[i, HEALTH] > 0 and f[j, HEALTH] > 0 and _distance(f, i, j) < seen


@kernel
def fill_rewards(before, after, deaths_counted, live, scene, terms, reward, outcome):
    """Frames [E, U, 6] before and after a step -> reward [E] float64, outcome [E] int64: LOST, DRAWN, WON or ONGOING.

    deaths_counted [E, U] bool marks the deaths that were rewarded, and is updated. A battle that is not live [E] gets reward 0 and keeps
    its outcome.
    """
    for e in range(len(after)):
        reward[e] = 0.0
        if live[e]:
            row = _row(e, scene)
            outcome[e] = _outcome(after[e], row)
            reward[e] = _reward(before[e], after[e], deaths_counted[e], outcome[e], row, terms) / terms.scale


@rule
def _outcome(f, scene):
    allies, fighters, enemies, healers = 0, 0, 0, 0  # living units; fighters: allies except Medivacs; healers: enemy Medivacs
    for i in range(scene.agents):
        if f[i, HEALTH] > 0:
            allies += 1
            fighters += not scene.units[i].heals
    for j in range(scene.agents, scene.agents + scene.enemies):
        if f[j, HEALTH] > 0:
            enemies += 1
            healers += scene.units[j].heals
    if (allies == 0 and enemies > 0) or (scene.rescue and fighters == 0):
        return LOST
    if (allies > 0 and enemies == 0) or (enemies == healers and 0 < enemies <= scene.rescue):
        return WON
    return ONGOING if allies > 0 else DRAWN


@rule
def _reward(before, after, deaths_counted, outcome, scene, terms):
    """Unscaled reward |damage to enemies + 10 for each death|, so that health and shields that enemies regain are rewarded as well; or,
    if not terms.absolute, max(damage + 10 for each death, 0).
    """
    if terms.sparse:
        return 1.0 if outcome == WON else -1.0 if outcome == LOST else 0.0
    own, theirs, deaths = 0.0, 0.0, 0.0
    for i in range(scene.agents):
        if not deaths_counted[i]:
            deaths_counted[i] = after[i, HEALTH] == 0
            own += terms.negative * _damage_taken(before, after, i)
            if deaths_counted[i] and not terms.only_positive:
                deaths -= terms.death * terms.negative
    for j in range(scene.agents, scene.agents + scene.enemies):
        if not deaths_counted[j]:
            deaths_counted[j] = after[j, HEALTH] == 0
            theirs += _damage_taken(before, after, j)
            if deaths_counted[j]:
                deaths += terms.death
    fight = theirs + deaths - (0.0 if terms.only_positive else own)
    if terms.only_positive:
        fight = abs(fight) if terms.absolute else max(fight, 0.0)
    return fight + (terms.win if outcome == WON else terms.defeat if outcome == LOST else 0.0)


@rule
def _damage_taken(before, after, i):
    """Health and shield that unit i lost in the step; a unit that died lost all it had."""
    had = before[i, HEALTH] + before[i, SHIELD]
    return had if after[i, HEALTH] == 0 else had - after[i, HEALTH] - after[i, SHIELD]
