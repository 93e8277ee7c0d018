"""SMAC's observations, states, available actions, rewards and outcomes: pure functions of unit arrays.

The rules are those of StarCraft2Env (github.com/oxwhirl/smac at d6aab33) with its default flags, every quirk included. Kernels write into
arrays of the caller. They use basic IEEE operations on float64 and round to float32 at the end, so results have the same bits everywhere.

    obs of an agent  available moves (4), enemies, other agents, itself [health, (shield), type bits]; zeros for dead and unseen units
    a unit in sight  [attackable (enemies) or 1 (agents), distance / 9, dx / 9, dy / 9, health, (shield), type bits]
    state            agents [health, cooldown or a Medivac's energy, x, y, (shield), type bits],
                     enemies [health, x, y, (shield), type bits], last actions one-hot
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.envs.smac.compiled import kernel, rule
from inspo_benchmark.envs.smac.maps import DEATH_REWARD, MAP_SIZE, NO_ATTACK, REWARD_SCALE, WIN_REWARD, Map, find_map, ground
from inspo_benchmark.envs.smac.simulator import COOLDOWN, ENERGY, HEALTH, SHIELD, X, Y

SIGHT_RANGE, SHOOT_RANGE = 9.0, 6.0  # cells between centers, for every type: seen below the one, attackable up to the other
MOVE_LOOKAHEAD = 1.0  # cells: a move is available if this point is walkable, although the order goes twice as far
CENTER, MAP_EXTENT = MAP_SIZE / 2, 28.0  # positions in the state are (x - CENTER) / MAP_EXTENT
MAX_COOLDOWN = {  # loops that SMAC divides by, not the units' own (github.com/oxwhirl/smac/issues/95); for a Medivac, energy
    "marine": 15, "marauder": 25, "medivac": 200, "stalker": 35, "zealot": 22, "colossus": 24, "hydralisk": 10, "zergling": 11,
    "baneling": 1,
}  # fmt: skip
LOST, DRAWN, WON, ONGOING = -1, 0, 1, 2  # outcomes of a battle; drawn: all units are dead
NO_ACTION = -1  # the last action before the first step

UNIT_VIEW = np.dtype([("health", "f8"), ("shield", "f8"), ("cooldown", "f8"), ("bit", "i8"), ("heals", "i8")])  # divisors, one-hot bit


class Scene(NamedTuple):
    """The constants of a map's observations and rewards; U units."""

    agents: int
    enemies: int
    bits: int  # length of a type's one-hot code
    ally_shield: int  # 1: the allies have shields, which are shown
    enemy_shield: int
    rescue: int  # 1: MMM's rule, see maps.Map.rescue
    units: np.ndarray  # [U] UNIT_VIEW
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


@cache
def scene(map: Map, profile: str = "liberty") -> Scene:
    rows = []
    for k, unit in enumerate(map.units(profile)):
        types = map.types if k < map.n else map.enemy_types
        bit = types.index(unit.name) if types else 0
        rows.append((unit.health, unit.shield, MAX_COOLDOWN.get(unit.name, 15), bit, unit.heal > 0))
    units = np.array(rows, UNIT_VIEW)
    return Scene(map.n, map.m, len(map.types), map.ally_shield, map.enemy_shield, int(map.rescue), units, ground(map.name))


def default_reward_config(map: Map, profile: str = "liberty") -> RewardConfig:
    return RewardConfig(scale=map.max_reward(profile) / REWARD_SCALE)


# --- recorded frames


def observe(map_name: str, allies: np.ndarray, enemies: np.ndarray, last_actions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Observations of F frames.

    allies [F, n, 6], enemies [F, m, 6] float: x, y, health, shield, cooldown (loops), energy; last_actions [F, n] int, -1 before the
    first step. Returns obs [F, n, O] float32, state [F, S] float32, avail [F, n, A] bool, visible [F, n, n + m] bool.
    UserError: no such map, or arrays of another shape.
    """
    map = find_map(map_name)
    frame, last = _frame(map, allies, enemies), np.ascontiguousarray(last_actions, np.int64)
    frames = len(frame)
    if last.shape != (frames, map.n):
        raise UserError(f"last actions of shape {last.shape}: {map.name} has {map.n} agents, so ({frames}, {map.n}) is needed")
    obs, state = np.empty((frames, map.n, map.obs), np.float32), np.empty((frames, map.state), np.float32)
    avail, visible = np.empty((frames, map.n, map.actions), bool), np.empty((frames, map.n, map.n + map.m), bool)
    fill_observations(frame, last, scene(map), obs, state, avail)
    fill_visibility(frame, scene(map), visible)
    return obs, state, avail, visible


def reward(map_name: str, allies0: np.ndarray, enemies0: np.ndarray, allies1: np.ndarray, enemies1: np.ndarray) -> tuple[np.ndarray, ...]:
    """Rewards of F steps, from the frames before and after each, as in `observe`.

    Returns reward [F] float64 (scaled), terminated [F] bool (by the battle, not by the time limit), won [F] bool, and the numbers of
    dead units dead_allies [F], dead_enemies [F] int64. Deaths before the step are not rewarded again.
    UserError: no such map, or arrays of another shape.
    """
    map = find_map(map_name)
    before, after = _frame(map, allies0, enemies0), _frame(map, allies1, enemies1)
    if len(before) != len(after):
        raise UserError(f"{len(before)} frames before a step and {len(after)} after it: one of each is needed")
    paid, outcome = np.zeros(len(after)), np.full(len(after), ONGOING)
    deaths_counted, dead = before[..., HEALTH] == 0, after[..., HEALTH] == 0
    fill_rewards(before, after, deaths_counted, np.ones(len(after), bool), scene(map), default_reward_config(map), paid, outcome)
    return paid, outcome != ONGOING, outcome == WON, dead[:, : map.n].sum(1), dead[:, map.n :].sum(1)


def _frame(map: Map, allies: np.ndarray, enemies: np.ndarray) -> np.ndarray:
    for kind, units, count in (("agents", allies, map.n), ("enemies", enemies, map.m)):
        if np.ndim(units) != 3 or np.shape(units)[1:] != (count, 6):
            raise UserError(f"{kind} of shape {np.shape(units)}: {map.name} has {count} {kind}, so (frames, {count}, 6) is needed")
    if len(allies) != len(enemies):
        raise UserError(f"{len(allies)} frames of the agents and {len(enemies)} of the enemies: the numbers must be equal")
    return np.concatenate([allies, enemies], 1, dtype=np.float64)


# --- kernels


@kernel
def fill_observations(frame, last, scene, obs, state, avail):
    """frame [E, U, 6], last [E, n] int64 (last actions) -> obs [E, n, O] float32, state [E, S] float32, avail [E, n, A] bool."""
    for e in range(len(frame)):
        for i in range(scene.agents):
            _agent(frame[e], i, scene, obs[e, i], avail[e, i])
        _state(frame[e], last[e], scene, state[e])


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
        avail[0] = True
        return
    avail[1] = True
    avail[2], avail[3] = _walkable(x, y + MOVE_LOOKAHEAD, scene.free), _walkable(x, y - MOVE_LOOKAHEAD, scene.free)
    avail[4], avail[5] = _walkable(x + MOVE_LOOKAHEAD, y, scene.free), _walkable(x - MOVE_LOOKAHEAD, y, scene.free)
    if healer:  # its targets are agents: action NO_ATTACK + j heals agent j, although enemy j has this place in the observation
        for j in range(n):
            if f[j, HEALTH] > 0 and not scene.units[j].heals:
                avail[NO_ATTACK + j] = _distance(f, i, j) <= SHOOT_RANGE
    for k in range(4):
        obs[k] = avail[2 + k]
    at = 4
    for j in range(n, n + scene.enemies):
        if f[j, HEALTH] > 0:
            distance, action = _distance(f, i, j), NO_ATTACK + j - n
            if distance < SIGHT_RANGE:
                if not healer:
                    avail[action] = distance <= SHOOT_RANGE
                _unit(f, i, j, distance, avail[action], scene.enemy_shield, scene, obs, at)
        at += 5 + scene.enemy_shield + scene.bits
    for j in range(n):
        if j != i:
            if f[j, HEALTH] > 0:
                distance = _distance(f, i, j)
                if distance < SIGHT_RANGE:
                    _unit(f, i, j, distance, True, scene.ally_shield, scene, obs, at)
            at += 5 + scene.ally_shield + scene.bits
    _health(f, i, scene.ally_shield, scene, obs, at, at + 1)
    _type(i, scene, obs, at + 1 + scene.ally_shield)


@rule
def _unit(f, i, j, distance, flag, shield, scene, obs, at):
    """Features of unit j as seen by agent i."""
    obs[at] = flag
    obs[at + 1] = distance / SIGHT_RANGE
    obs[at + 2] = (f[j, X] - f[i, X]) / SIGHT_RANGE
    obs[at + 3] = (f[j, Y] - f[i, Y]) / SIGHT_RANGE
    _health(f, j, shield, scene, obs, at + 4, at + 5)
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
    actions = NO_ATTACK + scene.enemies
    for i in range(n):
        if 0 <= last[i] < actions:
            state[at + last[i]] = 1
        at += actions


@rule
def _position(f, i, state, at):
    state[at] = (f[i, X] - CENTER) / MAP_EXTENT
    state[at + 1] = (f[i, Y] - CENTER) / MAP_EXTENT


@kernel
def fill_visibility(frame, scene, visible):
    """frame [E, U, 6] -> visible [E, n, U] bool: both units are alive and within sight range; no agent sees itself."""
    for e in range(len(frame)):
        f = frame[e]
        for i in range(scene.agents):
            for j in range(scene.agents + scene.enemies):
                visible[e, i, j] = i != j and f[i, HEALTH] > 0 and f[j, HEALTH] > 0 and _distance(f, i, j) < SIGHT_RANGE


@kernel
def fill_rewards(before, after, deaths_counted, live, scene, terms, reward, outcome):
    """Frames [E, U, 6] before and after a step -> reward [E] float64, outcome [E] int64: LOST, DRAWN, WON or ONGOING.

    deaths_counted [E, U] bool marks the deaths that were rewarded, and is updated. A battle that is not live [E] gets reward 0 and keeps
    its outcome.
    """
    for e in range(len(after)):
        reward[e] = 0.0
        if live[e]:
            outcome[e] = _outcome(after[e], scene)
            reward[e] = _reward(before[e], after[e], deaths_counted[e], outcome[e], scene, terms) / terms.scale


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
    if (allies > 0 and enemies == 0) or (scene.rescue and enemies == 1 and healers == 1):
        return WON
    return ONGOING if allies > 0 else DRAWN


@rule
def _reward(before, after, deaths_counted, outcome, scene, terms):
    """Unscaled reward |damage to enemies + 10 for each death|; health and shields that enemies regain are rewarded as well."""
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
    fight = abs(theirs + deaths) if terms.only_positive else theirs + deaths - own
    return fight + (terms.win if outcome == WON else terms.defeat if outcome == LOST else 0.0)


@rule
def _damage_taken(before, after, i):
    """Health and shield that unit i lost in the step; a unit that died lost all it had."""
    had = before[i, HEALTH] + before[i, SHIELD]
    return had if after[i, HEALTH] == 0 else had - after[i, HEALTH] - after[i, SHIELD]
