"""What SMAC shows of units, allows them and pays for what happens to them: pure functions of unit arrays.

The rules are those of StarCraft2Env (github.com/oxwhirl/smac at d6aab33) with its default flags, every quirk included. Kernels write into
arrays of the caller; their arithmetic is IEEE basic operations on float64, rounded to float32 at the end, so the same bits everywhere.

    obs of an agent  moves it may make (4), enemies, other agents, itself [health, (shield), type bits]; zeros for what is dead or unseen
    a unit in sight  [may be attacked (enemies) or 1 (agents), distance / 9, dx / 9, dy / 9, health, (shield), type bits]
    state            agents [health, cooldown or a Medivac's energy, x, y, (shield), type bits],
                     enemies [health, x, y, (shield), type bits], last actions one-hot
"""

import math
from functools import cache
from typing import NamedTuple

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.envs.smac.maps import DEATH, NO_ATTACK, SCALE, SIZE, WIN, Map, find, ground
from inspo_benchmark.envs.smac.simulator import COOLDOWN, ENERGY, HEALTH, SHIELD, X, Y, kernel, rule

SIGHT, SHOOT = 9.0, 6.0  # cells between centres, for every type: seen if nearer than that, attackable up to that
AHEAD = 1.0  # a move is allowed if this point can be walked on, although the order goes twice as far
CENTRE, ACROSS = SIZE / 2, 28.0  # positions in the state are (x - CENTRE) / ACROSS
MAX_COOLDOWN = {  # loops; what SMAC divides by (github.com/oxwhirl/smac/issues/95), not what the units have; a Medivac's energy
    "marine": 15, "marauder": 25, "medivac": 200, "stalker": 35, "zealot": 22, "colossus": 24, "hydralisk": 10, "zergling": 11,
    "baneling": 1,
}  # fmt: skip
LOST, DRAWN, WON, OPEN = -1, 0, 1, 2  # how a battle stands; drawn: everybody is dead
NOT_YET = -1  # in place of a last action

LOOKS = np.dtype([("health", "f8"), ("shield", "f8"), ("cooldown", "f8"), ("bit", "i8"), ("heals", "i8")])  # of a unit: 100 % of each


class Scene(NamedTuple):
    """What never changes in the views of a map."""

    agents: int
    enemies: int
    bits: int  # of a type's one-hot code
    ally_shield: int  # 1: shields are shown
    enemy_shield: int
    rescue: int  # 1: MMM's rule, see maps.Map.rescue
    units: np.ndarray  # [U] LOOKS
    free: np.ndarray  # [x, y] bool, cells that can be walked on


class Terms(NamedTuple):
    """What is paid for; SMAC's defaults. `scale` divides all of it."""

    scale: float
    only_positive: bool = True  # agents' losses do not count
    sparse: bool = False  # nothing but 1 for a win, -1 for a loss
    death: float = DEATH
    win: float = WIN
    defeat: float = 0.0
    negative: float = 0.5  # the weight of agents' losses


@cache
def scene(map: Map, profile: str = "liberty") -> Scene:
    rows = []
    for k, unit in enumerate(map.units(profile)):
        types = map.types if k < map.n else map.enemy_types
        bit = types.index(unit.name) if types else 0
        rows.append((unit.health, unit.shield, MAX_COOLDOWN.get(unit.name, 15), bit, unit.heal > 0))
    units = np.array(rows, LOOKS)
    return Scene(map.n, map.m, len(map.types), map.ally_shield, map.enemy_shield, int(map.rescue), units, ground(map.name))


def default_terms(map: Map, profile: str = "liberty") -> Terms:
    return Terms(scale=map.max_reward(profile) / SCALE)


# --- for one call on recorded frames


def observe(map_name: str, allies: np.ndarray, enemies: np.ndarray, last_actions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Frames of a map's units [F, n, 6] and [F, m, 6] (x, y, health, shield, cooldown in loops, energy) and the actions that led there
    [F, n] (-1: none yet) -> obs [F, n, O] float32, state [F, S] float32, avail [F, n, A] bool, visible [F, n, n + m] bool.

    UserError: no such map, or arrays of another shape.
    """
    map = find(map_name)
    frame, last = _frame(map, allies, enemies), np.ascontiguousarray(last_actions, np.int64)
    frames = len(frame)
    if last.shape != (frames, map.n):
        raise UserError(f"last actions of shape {last.shape}: {map.name} has {map.n} agents, so ({frames}, {map.n}) is needed")
    obs, state = np.empty((frames, map.n, map.obs), np.float32), np.empty((frames, map.state), np.float32)
    avail, visible = np.empty((frames, map.n, map.actions), bool), np.empty((frames, map.n, map.n + map.m), bool)
    look(frame, last, scene(map), obs, state, avail)
    visibility(frame, scene(map), visible)
    return obs, state, avail, visible


def reward(map_name: str, allies0: np.ndarray, enemies0: np.ndarray, allies1: np.ndarray, enemies1: np.ndarray) -> tuple[np.ndarray, ...]:
    """Frames before and after a step, as in `observe` -> reward [F] float64 (scaled), terminated [F] bool (by the battle, not by the
    time limit), won [F] bool, and how many are dead: dead_allies [F], dead_enemies [F] int64. Who is dead before was paid for already.

    UserError: no such map, or arrays of another shape.
    """
    map = find(map_name)
    before, after = _frame(map, allies0, enemies0), _frame(map, allies1, enemies1)
    if len(before) != len(after):
        raise UserError(f"{len(before)} frames before a step and {len(after)} after it: one of each is needed")
    paid, code = np.zeros(len(after)), np.full(len(after), OPEN)
    counted, dead = before[..., HEALTH] == 0, after[..., HEALTH] == 0
    judge(before, after, counted, np.ones(len(after), bool), scene(map), default_terms(map), paid, code)
    return paid, code != OPEN, code == WON, dead[:, : map.n].sum(1), dead[:, map.n :].sum(1)


def _frame(map: Map, allies: np.ndarray, enemies: np.ndarray) -> np.ndarray:
    for kind, units, count in (("agents", allies, map.n), ("enemies", enemies, map.m)):
        if np.ndim(units) != 3 or np.shape(units)[1:] != (count, 6):
            raise UserError(f"{kind} of shape {np.shape(units)}: {map.name} has {count} {kind}, so (frames, {count}, 6) is needed")
    if len(allies) != len(enemies):
        raise UserError(f"{len(allies)} frames of the agents and {len(enemies)} of the enemies: as many of each are needed")
    return np.concatenate([allies, enemies], 1, dtype=np.float64)


# --- kernels


@kernel
def look(frame, last, scene, obs, state, avail):
    """frame [E, U, 6] and last actions [E, n] int64 (-1: none yet) -> obs [E, n, O], state [E, S] float32, legal [E, n, A] bool."""
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
    """int() rounds towards zero, as SMAC's does."""
    a, b = int(x), int(y)
    return 0 <= a < SIZE and 0 <= b < SIZE and free[a, b]


@rule
def _agent(f, i, scene, obs, avail):
    """What agent i sees and may do."""
    n, healer, x, y = scene.agents, scene.units[i].heals, f[i, X], f[i, Y]
    obs[:] = 0
    avail[:] = False
    if not f[i, HEALTH] > 0:
        avail[0] = True
        return
    avail[1] = True
    avail[2], avail[3] = _walkable(x, y + AHEAD, scene.free), _walkable(x, y - AHEAD, scene.free)
    avail[4], avail[5] = _walkable(x + AHEAD, y, scene.free), _walkable(x - AHEAD, y, scene.free)
    if healer:  # its targets are agents: attack j is heal agent j, even beside enemy j in the observation
        for j in range(n):
            if f[j, HEALTH] > 0 and not scene.units[j].heals:
                avail[NO_ATTACK + j] = _distance(f, i, j) <= SHOOT
    for k in range(4):
        obs[k] = avail[2 + k]
    at = 4
    for j in range(n, n + scene.enemies):
        if f[j, HEALTH] > 0:
            distance, action = _distance(f, i, j), NO_ATTACK + j - n
            if distance < SIGHT:
                if not healer:
                    avail[action] = distance <= SHOOT
                _unit(f, i, j, distance, avail[action], scene.enemy_shield, scene, obs, at)
        at += 5 + scene.enemy_shield + scene.bits
    for j in range(n):
        if j != i:
            if f[j, HEALTH] > 0:
                distance = _distance(f, i, j)
                if distance < SIGHT:
                    _unit(f, i, j, distance, True, scene.ally_shield, scene, obs, at)
            at += 5 + scene.ally_shield + scene.bits
    _health(f, i, scene.ally_shield, scene, obs, at, at + 1)
    _type(i, scene, obs, at + 1 + scene.ally_shield)


@rule
def _unit(f, i, j, distance, flag, shield, scene, obs, at):
    """Unit j as agent i sees it."""
    obs[at] = flag
    obs[at + 1] = distance / SIGHT
    obs[at + 2] = (f[j, X] - f[i, X]) / SIGHT
    obs[at + 3] = (f[j, Y] - f[i, Y]) / SIGHT
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
            _place(f, i, state, at + 2)
            _type(i, scene, state, at + 4 + scene.ally_shield)
        at += 4 + scene.ally_shield + scene.bits
    for j in range(n, n + scene.enemies):
        if f[j, HEALTH] > 0:
            _health(f, j, scene.enemy_shield, scene, state, at, at + 3)
            _place(f, j, state, at + 1)
            _type(j, scene, state, at + 3 + scene.enemy_shield)
        at += 3 + scene.enemy_shield + scene.bits
    actions = NO_ATTACK + scene.enemies
    for i in range(n):
        if 0 <= last[i] < actions:
            state[at + last[i]] = 1
        at += actions


@rule
def _place(f, i, state, at):
    state[at] = (f[i, X] - CENTRE) / ACROSS
    state[at + 1] = (f[i, Y] - CENTRE) / ACROSS


@kernel
def visibility(frame, scene, visible):
    """frame [E, U, 6] -> visible [E, n, U] bool: both are alive and in sight of each other; nobody sees itself."""
    for e in range(len(frame)):
        f = frame[e]
        for i in range(scene.agents):
            for j in range(scene.agents + scene.enemies):
                visible[e, i, j] = i != j and f[i, HEALTH] > 0 and f[j, HEALTH] > 0 and _distance(f, i, j) < SIGHT


@kernel
def judge(before, after, counted, live, scene, terms, reward, code):
    """Frames [E, U, 6] before and after a step -> reward [E] float64, code [E] int64: LOST, DRAWN, WON or OPEN.

    counted [E, U] bool, the deaths that were paid for, is brought up to date. A battle that is not live [E] earns 0 and keeps its code.
    """
    for e in range(len(after)):
        reward[e] = 0.0
        if live[e]:
            code[e] = _code(after[e], scene)
            reward[e] = _pay(before[e], after[e], counted[e], code[e], scene, terms) / terms.scale


@rule
def _code(f, scene):
    allies, fighters, enemies, healers = 0, 0, 0, 0  # alive; fighters: agents that are no Medivacs; healers: enemies that are
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
    return OPEN if allies > 0 else DRAWN


@rule
def _pay(before, after, counted, code, scene, terms):
    """|enemies' losses + 10 for each death|: what enemies regain is paid for as well."""
    if terms.sparse:
        return 1.0 if code == WON else -1.0 if code == LOST else 0.0
    own, theirs, deaths = 0.0, 0.0, 0.0
    for i in range(scene.agents):
        if not counted[i]:
            counted[i] = after[i, HEALTH] == 0
            own += terms.negative * _loss(before, after, i)
            if counted[i] and not terms.only_positive:
                deaths -= terms.death * terms.negative
    for j in range(scene.agents, scene.agents + scene.enemies):
        if not counted[j]:
            counted[j] = after[j, HEALTH] == 0
            theirs += _loss(before, after, j)
            if counted[j]:
                deaths += terms.death
    fight = abs(theirs + deaths) if terms.only_positive else theirs + deaths - own
    return fight + (terms.win if code == WON else terms.defeat if code == LOST else 0.0)


@rule
def _loss(before, after, i):
    """Health and shield that unit i lost; a unit that died lost what it had."""
    had = before[i, HEALTH] + before[i, SHIELD]
    return had if after[i, HEALTH] == 0 else had - after[i, HEALTH] - after[i, SHIELD]
