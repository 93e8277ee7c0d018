"""The fights: what StarCraft II does with units between two steps of the environment, for many battles at once.

One numba kernel takes every living battle through the 8 game loops of a step. It uses IEEE additions, multiplications, divisions and
square roots in a fixed order and nothing else, so a battle is the same bits on every machine, alone and in any batch.

A loop is: enemies choose targets; everybody fires or walks; missiles land; bodies push each other apart; the dead leave; wounds heal.
All hits of a loop count, also those of units that die in it. Unit data are in units.py. What the game does where nobody outside
Blizzard can look is decided by the constants below; docs/smac.md lists them with their reasons.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numba import njit

from inspo_benchmark.envs.smac.maps import HUNT, IDLE, MIDDLE, NO_ATTACK, PLAYABLE, SIZE, Map, ground
from inspo_benchmark.envs.smac.paths import waypoints
from inspo_benchmark.envs.smac.units import LOOPS, STEP_LOOPS, Unit

X, Y, HEALTH, SHIELD, COOLDOWN, ENERGY = range(6)  # columns of a frame

MOVE = 2.0  # cells that a move order goes ahead (SMAC's move_amount)
DELAY = (-1.0, 2.0)  # loops, uniform: what is added to each cooldown
ACQUIRE = 5.0  # an enemy looks for targets this far, edge to edge, or as far as its weapon reaches
SCAN = 2  # loops between two looks
LEASH = 21.0  # cells that an enemy goes after its target, from where it took it
HELP, HELP_EVERY = 4.0, 2 * LOOPS  # an enemy that is hit calls those this near to help, at most so often (loops)
QUIET = 10 * LOOPS  # loops without damage after which shields recharge
RECHARGE = 2.0 / LOOPS  # shield per loop
ENERGY_START, ENERGY_MAX, ENERGY_RATE = 50.0, 200.0, 0.5625 / LOOPS
HEAL_COST = 0.33  # energy per health
HEAL_LOOK = 6.0  # an enemy Medivac looks for the wounded this far, edge to edge
FOLLOW = 2.0  # an enemy Medivac with nobody to heal keeps this near to its army
LEAST = 0.5  # damage that armour cannot stop
CROWD = 0.6  # a group of k units has arrived within CROWD * sqrt(k) cells of its goal
GAP = 0.05  # between bodies when a group appears on one point
LATTICE, REACH = 0.125, 6.0  # where it looks for room
BEAM_HALF, BEAM_POINTS, BEAM_RADIUS = 1.25, 11, 0.15  # the Colossus' sweep
GROUND, AIR, STRIDER = 0, 1, 2  # who bumps into whom: a Colossus (strider) only into its like

STAND, GO, FIGHT = range(3)  # orders of an agent
WALKING, IDLING, FIGHTING = range(3)  # what a unit does in a loop: who does less gives way
TO_POINT, TO_PREY, NOWHERE = range(3)  # orders of the enemies
NOBODY = -1

KIND = np.dtype(
    [(name, "f8") for name in Unit._fields if name not in ("name", "bonus_to")]
    + [("bonus_light", "f8"), ("bonus_armoured", "f8"), ("layer", "i8"), ("step", "f8")]
)  # a unit's data as the kernel reads them: loops instead of seconds

MIND = np.dtype(
    [
        ("order", "i8"),
        ("target", "i8"),  # who is being attacked or healed
        ("x", "f8"),  # where the unit is going
        ("y", "f8"),
        ("aiming", "f8"),  # loops until the attack that has begun hits or shoots; below 0: none has begun
        ("hits", "i8"),  # hits on their way: a missile, or the second blow
        ("hit_on", "i8"),
        ("hit_in", "f8"),  # loops
        ("quiet", "f8"),  # loops without damage
        ("post_x", "f8"),  # where an enemy was when it took its target
        ("post_y", "f8"),
        ("foe", "i8"),  # who hit it, or a neighbour that called for help, since it last looked
        ("call", "f8"),  # loops until it may call for help again
    ]
)  # what a unit is up to

# Without numba's counting of references (_nrt), which took more time than the rules; so kernels make no arrays, they are given them.
# A rule becomes part of the kernel that uses it.
kernel = njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
rule = njit(inline="always", error_model="numpy", _nrt=False)


class Field(NamedTuple):
    """What never changes in the battles on a map."""

    kinds: np.ndarray  # [U] KIND
    start: np.ndarray  # [U, 2]
    agents: int
    orders: int  # TO_POINT, TO_PREY or NOWHERE
    goal: np.ndarray  # [2, 2]: the enemies' goal lies on the segment between these points, uniformly
    free: np.ndarray  # [x, y] bool, cells that can be walked on
    way: np.ndarray  # [SIZE**2, SIZE**2] int16, see paths.waypoints; [1, 1] where every straight line is free
    arrived: float  # cells from the goal


class Battles:
    """Battles on one map: frame [E, U, 6] are the units' x, y, health, shield, cooldown (loops) and energy, agents first, then enemies.

    `spawn` starts all of them, `advance` takes them one step further. Health 0 is dead. Nothing here knows of observations, rewards or
    time limits (views.py, vector.py).
    """

    def __init__(self, map: Map, num_envs: int, profile: str = "liberty"):
        self.map, self.num_envs, self.units, self.field = map, num_envs, map.units(profile), field(map, profile)
        self.frame = np.zeros((num_envs, len(self.units), 6))
        self.mind = np.zeros((num_envs, len(self.units)), MIND)
        self.chance = np.zeros(num_envs, np.uint64)  # the state of each battle's random numbers
        self.clock = np.zeros(num_envs, np.int64)  # game loops
        size = len(self.units)
        self.scratch = np.zeros(size, bool), np.zeros(size, np.int64), np.zeros((size, 2))  # alive, stance, old places

    @property
    def target(self) -> np.ndarray:
        """Whom each unit attacks or heals [E, U], -1: nobody."""
        return self.mind["target"]

    def spawn(self, seeds: Sequence[int]) -> None:
        """All battles at their start; what is random in battle e follows from seeds[e] >= 0 alone."""
        _spawn(self.frame, self.mind, self.chance, self.clock, np.asarray(seeds, np.uint64), self.field)

    def advance(self, act: np.ndarray, live: np.ndarray) -> None:
        """One step under the agents' actions [E, n] int64; battles that are not live [E] bool stay as they are."""
        _advance(self.frame, self.mind, self.chance, self.clock, act, live, *self.scratch, self.field)


# --- what is fixed


@cache
def field(map: Map, profile: str = "liberty") -> Field:
    units, free = map.units(profile), ground(map.name)
    kinds = np.array([_kind(unit) for unit in units], KIND)
    (allies, enemies), goal = (_formation(groups, kinds, map, free, profile) for groups in (map.allies, map.enemies)), map.goal
    ends = [[group.x, group.y] for group in map.allies] if goal == MIDDLE else [[0.0, 0.0]] * 2 if isinstance(goal, str) else [goal] * 2
    return Field(
        kinds=kinds,
        start=np.concatenate([_sorted(allies, map), enemies]),
        agents=map.n,
        orders={HUNT: TO_PREY, IDLE: NOWHERE}.get(goal, TO_POINT),
        goal=np.array(ends, np.float64),
        free=free,
        way=waypoints(free),
        arrived=CROWD * math.sqrt(map.m),
    )


def _kind(unit: Unit) -> tuple:
    values = unit._asdict() | {
        "period": unit.period * LOOPS,
        "second_hit": unit.second_hit * LOOPS,
        "damage_point": unit.damage_point * LOOPS,
        "missile": unit.missile / LOOPS,
        "heal": unit.heal / LOOPS,
        "regeneration": unit.regeneration / LOOPS,
        "bonus_light": unit.bonus * (unit.bonus_to == "light"),
        "bonus_armoured": unit.bonus * (unit.bonus_to == "armoured"),
        "layer": AIR if unit.air else STRIDER if unit.cliffs else GROUND,
        "step": unit.speed / LOOPS,
    }
    return tuple(values[name] for name in KIND.names)


def _formation(groups, kinds: np.ndarray, map: Map, free: np.ndarray, profile: str) -> np.ndarray:
    """Places of a team [k, 2] in order of creation: each unit as near to its group's point as there is room."""
    of_type = {unit.name: kind for unit, kind in zip(map.units(profile), kinds, strict=True)}
    line = np.arange(-REACH, REACH + LATTICE, LATTICE)
    spots = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    spots = spots[np.lexsort((spots[:, 0], spots[:, 1], (spots**2).sum(1)))]
    placed, bodies = np.zeros((0, 2)), np.zeros((0, 2))  # bodies: separation, layer
    for group in groups:
        kind = of_type[group.type]
        near = spots + [group.x, group.y]
        near = near[((near >= 0) & (near < SIZE)).all(1)]
        near = near[free[tuple(near.astype(int).T)]]
        for _ in range(group.count):
            apart = ((near[:, None] - placed) ** 2).sum(-1) >= (bodies[:, 0] + kind["separation"] + GAP) ** 2
            place = near[(apart | (bodies[:, 1] != kind["layer"])).all(1).argmax()]
            placed, bodies = np.vstack([placed, place]), np.vstack([bodies, [kind["separation"], kind["layer"]]])
    return placed


def _sorted(places: np.ndarray, map: Map) -> np.ndarray:
    """Agent ids follow type, then x, then y."""
    created = [group.type for group in map.allies for _ in range(group.count)]
    rank = [map.types.index(name) if map.types else 0 for name in created]
    return places[np.lexsort((places[:, 1], places[:, 0], rank))]


# --- chance


@kernel
def _uniform(chance, e):
    """On [0, 1), by splitmix64."""
    chance[e] += np.uint64(0x9E3779B97F4A7C15)
    z = chance[e]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return np.float64(np.int64(z >> np.uint64(11))) * 2.0**-53


@kernel
def _spawn(frame, mind, chance, clock, seeds, field):
    for e in range(len(frame)):
        chance[e] = seeds[e]
        clock[e] = 0
        u = _uniform(chance, e) if field.orders == TO_POINT else 0.0
        for i in range(len(field.kinds)):
            unit, kind = mind[e, i], field.kinds[i]
            frame[e, i, X], frame[e, i, Y] = field.start[i, 0], field.start[i, 1]
            frame[e, i, HEALTH], frame[e, i, SHIELD] = kind.health, kind.shield
            frame[e, i, COOLDOWN], frame[e, i, ENERGY] = 0.0, ENERGY_START if kind.heal > 0 else 0.0
            unit.order, unit.target, unit.hit_on, unit.foe, unit.hits = STAND, NOBODY, NOBODY, NOBODY, 0
            unit.x = field.goal[0, 0] + u * (field.goal[1, 0] - field.goal[0, 0])
            unit.y = field.goal[0, 1] + u * (field.goal[1, 1] - field.goal[0, 1])
            unit.aiming, unit.hit_in, unit.quiet, unit.call = -1.0, 0.0, QUIET, 0.0
            unit.post_x, unit.post_y = 0.0, 0.0


# --- a step


@kernel
def _advance(frame, mind, chance, clock, act, live, alive, stance, old, field):
    size = frame.shape[1]
    for e in range(len(frame)):
        if live[e]:
            f, m = frame[e], mind[e]
            _command(f, m, act[e], field)
            for _ in range(STEP_LOOPS):
                for i in range(size):
                    alive[i] = f[i, HEALTH] > 0
                    old[i, 0], old[i, 1] = f[i, X], f[i, Y]
                for i in range(field.agents, size):
                    if alive[i]:
                        _think(f, m, i, clock[e] + i, field)
                for i in range(size):
                    _land(f, m, i, alive, field)
                    if alive[i]:
                        f[i, COOLDOWN] = max(f[i, COOLDOWN] - 1, 0.0)
                        if field.kinds[i].heal > 0:
                            stance[i] = _heal(f, m, i, alive, field)
                        else:
                            stance[i] = _fight(f, m, i, alive, chance, e, field)
                _bump(f, old, alive, stance, field)
                _bury(f, m, alive, field)
                _recover(f, m, field)
                clock[e] += 1


@rule
def _command(f, m, act, field):
    """Give the agents their orders. No order, or one that the game refuses (ground weapon, flying target), leaves the old one."""
    for i in range(field.agents):
        if f[i, HEALTH] > 0:
            a, unit = act[i], m[i]
            if a >= NO_ATTACK:
                healer = field.kinds[i].heal > 0
                target = a - NO_ATTACK + (0 if healer else field.agents)
                if (unit.order != FIGHT or unit.target != target) and (healer or _can_hit(field.kinds[i], field.kinds[target])):
                    unit.order, unit.target, unit.aiming = FIGHT, target, -1.0
            elif a >= 2:
                unit.order, unit.target, unit.aiming = GO, NOBODY, -1.0
                unit.x = f[i, X] + (MOVE if a == 4 else -MOVE if a == 5 else 0.0)
                unit.y = f[i, Y] + (MOVE if a == 2 else -MOVE if a == 3 else 0.0)
            elif a == 1:
                unit.order, unit.target, unit.aiming = STAND, NOBODY, -1.0


@rule
def _can_hit(kind, other):
    return kind.damage > 0 and (kind.hits_air > 0 or other.layer != AIR)


@rule
def _distance(f, i, j):
    dx, dy = f[j, X] - f[i, X], f[j, Y] - f[i, Y]
    return math.sqrt(dx * dx + dy * dy)


@rule
def _gap(f, i, j, field):
    """From edge to edge: what ranges are measured by."""
    return _distance(f, i, j) - field.kinds[i].radius - field.kinds[j].radius


@rule
def _think(f, m, i, tick, field):
    """An enemy keeps a target that its weapon reaches; otherwise it looks around now and then.

    It takes the nearest who can be hit at once; else who shot at it meanwhile; else it chases its target as far as the leash allows; else
    it takes the nearest within its acquire range (on a hunt: anywhere). Those who do no harm come last.
    """
    unit, kind = m[i], field.kinds[i]
    unit.call = max(unit.call - 1, 0.0)
    lost = unit.target >= 0 and f[unit.target, HEALTH] <= 0
    if lost:
        unit.target, unit.aiming = NOBODY, -1.0
    if unit.aiming >= 0 or not (lost or tick % SCAN == 0):
        return
    if kind.heal > 0:
        unit.target = _wounded(f, i, field)
        return
    reach, old = max(kind.range, ACQUIRE), unit.target
    if old >= 0 and field.kinds[old].damage > 0 and _gap(f, i, old, field) <= kind.range:
        return
    best, best_rank, best_gap = NOBODY, 9, 0.0
    for j in range(field.agents):
        if f[j, HEALTH] > 0 and _can_hit(kind, field.kinds[j]):
            gap = _gap(f, i, j, field)
            if gap <= reach or field.orders == TO_PREY:
                rank = (0 if field.kinds[j].damage > 0 else 2) + (0 if gap <= kind.range else 1)
                if rank < best_rank or (rank == best_rank and gap < best_gap):
                    best, best_rank, best_gap = j, rank, gap
    foe, unit.foe = unit.foe, NOBODY
    if best_rank > 0:
        if foe >= 0 and f[foe, HEALTH] > 0 and _can_hit(kind, field.kinds[foe]) and (old < 0 or _gap(f, i, foe, field) <= reach):
            best = foe
        elif old >= 0 and (best < 0 or field.kinds[old].damage > 0):
            dx, dy = f[i, X] - unit.post_x, f[i, Y] - unit.post_y
            if dx * dx + dy * dy <= LEASH * LEASH:
                best = old
    if best != old:
        unit.target, unit.post_x, unit.post_y = best, f[i, X], f[i, Y]


@kernel
def _wounded(f, i, field):
    """The enemy that a Medivac i heals: the lowest share of health, then the nearest."""
    best, best_share, best_gap = NOBODY, 1.0, 0.0
    for j in range(field.agents, len(f)):
        kind = field.kinds[j]
        if f[j, HEALTH] > 0 and kind.biological > 0 and f[i, ENERGY] > 0:
            share, gap = f[j, HEALTH] / kind.health, _gap(f, i, j, field)
            if gap <= HEAL_LOOK and (share < best_share or (best >= 0 and share == best_share and gap < best_gap)):
                best, best_share, best_gap = j, share, gap
    return best


@rule
def _fight(f, m, i, alive, chance, e, field):
    """Shoot, or walk to where it can be done, or where the unit was sent. Returns its stance."""
    unit, kind, t = m[i], field.kinds[i], m[i].target
    if t >= 0 and not alive[t]:
        unit.target, unit.aiming, t = NOBODY, -1.0, NOBODY
        if i < field.agents:
            unit.order = STAND
    if t < 0:
        return _travel(f, m, i, field)
    gap = _gap(f, i, t, field)
    if unit.aiming >= 0:
        if gap > kind.range + kind.slop:
            unit.aiming = -1.0
        else:
            unit.aiming = max(unit.aiming - 1, 0.0)
    elif gap <= kind.range and f[i, COOLDOWN] <= 0:
        unit.aiming = kind.damage_point
    if unit.aiming == 0:
        unit.aiming = -1.0
        f[i, COOLDOWN] = kind.period - kind.damage_point + DELAY[0] + (DELAY[1] - DELAY[0]) * _uniform(chance, e)
        _fire(f, m, i, t, gap, alive, field)
    if unit.aiming < 0 and gap > kind.range:
        _walk(f, i, f[t, X], f[t, Y], field)
        return WALKING
    return FIGHTING


@rule
def _travel(f, m, i, field):
    """Without a target: an agent goes where it was sent, an enemy to its goal. Returns its stance."""
    unit, x, y = m[i], m[i].x, m[i].y
    if i < field.agents:
        if unit.order != GO:
            return IDLING
        if _walk(f, i, x, y, field):
            unit.order = STAND
        return WALKING
    if field.orders == TO_POINT:
        dx, dy = x - f[i, X], y - f[i, Y]
        if dx * dx + dy * dy > field.arrived * field.arrived:
            _walk(f, i, x, y, field)
            return WALKING
    return IDLING


@rule
def _walk(f, i, x, y, field):
    """One loop's walk towards (x, y), around what cannot be walked on; True on arrival."""
    kind, there = field.kinds[i], True
    if kind.layer == GROUND and len(field.way) > 1:
        cell = int(min(max(x, 0.0), SIZE - 1.0)) * SIZE + int(min(max(y, 0.0), SIZE - 1.0))
        over = field.way[int(f[i, X]) * SIZE + int(f[i, Y]), cell]
        if over != cell:
            x, y, there = over // SIZE + 0.5, over % SIZE + 0.5, False
    dx, dy = x - f[i, X], y - f[i, Y]
    distance = math.sqrt(dx * dx + dy * dy)
    if distance <= kind.step:
        f[i, X], f[i, Y] = x, y
        return there
    f[i, X] += dx / distance * kind.step
    f[i, Y] += dy / distance * kind.step
    return False


@rule
def _heal(f, m, i, alive, field):
    """A Medivac restores its target's health, or flies to it; an enemy one keeps to its army. Returns its stance."""
    unit, kind, t = m[i], field.kinds[i], m[i].target
    if t >= 0 and not alive[t]:
        unit.target, t = NOBODY, NOBODY
        if i < field.agents:
            unit.order = STAND
    if t < 0:
        if i < field.agents:
            return _travel(f, m, i, field)
        near, near_gap = NOBODY, 0.0
        for j in range(field.agents, len(f)):
            if alive[j] and field.kinds[j].damage > 0:
                gap = _gap(f, i, j, field)
                if near < 0 or gap < near_gap:
                    near, near_gap = j, gap
        if near >= 0 and near_gap > FOLLOW:
            _walk(f, i, f[near, X], f[near, Y], field)
            return WALKING
        return IDLING
    if _gap(f, i, t, field) > kind.range:
        _walk(f, i, f[t, X], f[t, Y], field)
        return WALKING
    if field.kinds[t].biological > 0:
        given = min(kind.heal, field.kinds[t].health - f[t, HEALTH], f[i, ENERGY] / HEAL_COST)
        f[t, HEALTH] += given
        f[i, ENERGY] = max(f[i, ENERGY] - given * HEAL_COST, 0.0)
    return FIGHTING


# --- damage


@kernel
def _fire(f, m, i, t, gap, alive, field):
    unit, kind = m[i], field.kinds[i]
    if kind.splash > 0:
        f[i, HEALTH] = 0.0  # and it explodes, see _bury
    elif kind.beam > 0:
        _sweep(f, m, i, t, alive, field)
    elif kind.missile > 0:
        unit.hits, unit.hit_on, unit.hit_in = 1, t, max(gap, 0.0) / kind.missile
    else:
        _hit(f, m, i, t, field)
        if kind.hits > 1:
            unit.hits, unit.hit_on, unit.hit_in = int(kind.hits) - 1, t, kind.second_hit


@rule
def _land(f, m, i, alive, field):
    """Hits on their way come closer. A missile outlives its unit, a blow does not."""
    unit = m[i]
    if unit.hits > 0:
        unit.hit_in -= 1
        if unit.hit_in <= 0:
            if alive[unit.hit_on] and (alive[i] or field.kinds[i].missile > 0):
                _hit(f, m, i, unit.hit_on, field)
            unit.hits -= 1
            unit.hit_in += field.kinds[i].second_hit


@kernel
def _hit(f, m, i, t, field):
    """Shields first, armour on the rest. Enemies remember who it was, and call for help."""
    kind, other, agents = field.kinds[i], field.kinds[t], field.agents
    damage = kind.damage + kind.bonus_light * other.light + kind.bonus_armoured * other.armoured
    absorbed = min(f[t, SHIELD], damage)
    f[t, SHIELD] -= absorbed
    if damage > absorbed:
        f[t, HEALTH] -= max(damage - absorbed - other.armour, LEAST)
    m[t].quiet = 0.0
    if t >= agents:
        m[t].foe = i
        if m[t].call == 0:
            m[t].call = HELP_EVERY
            for j in range(agents, len(f)):
                if j != t and m[j].target < 0 and f[j, HEALTH] > 0 and _distance(f, t, j) <= HELP:
                    m[j].foe = i


@rule
def _opponents(i, agents, size):
    return (agents, size) if i < agents else (0, agents)


@kernel
def _explode(f, m, i, alive, field):
    """A Baneling hits everybody of the other side whom its splash touches."""
    first, last = _opponents(i, field.agents, len(f))
    for j in range(first, last):
        if alive[j] and field.kinds[j].layer != AIR and _distance(f, i, j) - field.kinds[j].radius <= field.kinds[i].splash:
            _hit(f, m, i, j, field)


@kernel
def _sweep(f, m, i, t, alive, field):
    """A Colossus' beams cross the target at right angles to the direction of fire; each beam hits a unit once."""
    dx, dy = f[t, X] - f[i, X], f[t, Y] - f[i, Y]
    distance = math.sqrt(dx * dx + dy * dy)
    ux, uy = (-dy / distance, dx / distance) if distance > 0 else (1.0, 0.0)
    first, last = _opponents(i, field.agents, len(f))
    for j in range(first, last):
        if alive[j] and field.kinds[j].layer != AIR:
            reach = BEAM_RADIUS + field.kinds[j].radius
            for k in range(BEAM_POINTS):
                along = -BEAM_HALF + k * (2 * BEAM_HALF / (BEAM_POINTS - 1))
                px, py = f[t, X] + along * ux - f[j, X], f[t, Y] + along * uy - f[j, Y]
                if px * px + py * py <= reach * reach:
                    for _ in range(int(field.kinds[i].hits)):
                        _hit(f, m, i, j, field)
                    break


@rule
def _bury(f, m, alive, field):
    """Who has no health left is dead. A Baneling that dies explodes, which may kill others."""
    again = True
    while again:
        again = False
        for i in range(len(f)):
            if alive[i] and f[i, HEALTH] <= 0:
                alive[i] = False
                f[i, HEALTH], f[i, SHIELD], f[i, COOLDOWN] = 0.0, 0.0, 0.0
                m[i].order, m[i].target, m[i].aiming = STAND, NOBODY, -1.0
                if field.kinds[i].splash > 0:
                    _explode(f, m, i, alive, field)
                    again = True


@rule
def _recover(f, m, field):
    for i in range(len(f)):
        if f[i, HEALTH] > 0:
            kind, unit = field.kinds[i], m[i]
            unit.quiet += 1
            if kind.regeneration > 0:
                f[i, HEALTH] = min(f[i, HEALTH] + kind.regeneration, kind.health)
            if unit.quiet > QUIET and f[i, SHIELD] < kind.shield:
                f[i, SHIELD] = min(f[i, SHIELD] + RECHARGE, kind.shield)
            if kind.heal > 0:
                f[i, ENERGY] = min(f[i, ENERGY] + ENERGY_RATE, ENERGY_MAX)


# --- bodies


@rule
def _bump(f, old, alive, stance, field):
    """Bodies that overlap give way: to those who fight, and of foes who walks to who stands; otherwise both by half.

    `old` [U, 2]: the places before the walk of this loop. Nobody ends on ground that cannot be walked on.
    """
    size = len(f)
    for i in range(size):
        if alive[i]:
            a = field.kinds[i]
            for j in range(i + 1, size):
                b = field.kinds[j]
                if alive[j] and a.layer == b.layer:
                    dx, dy, room = f[j, X] - f[i, X], f[j, Y] - f[i, Y], a.separation + b.separation
                    square = dx * dx + dy * dy
                    if square < room * room:
                        distance = math.sqrt(square)
                        ux, uy = (dx / distance, dy / distance) if distance > 0 else (1.0, 0.0)
                        overlap = room - distance
                        firm = IDLING if (i < field.agents) != (j < field.agents) else FIGHTING
                        firm_i, firm_j = stance[i] >= firm or a.step == 0, stance[j] >= firm or b.step == 0
                        share = 0.0 if a.step == 0 else 1.0 if b.step == 0 else 0.5 if firm_i == firm_j else 0.0 if firm_i else 1.0
                        _yield(f, old, i, -ux, -uy, share * overlap, firm_j)
                        _yield(f, old, j, ux, uy, (1 - share) * overlap, firm_i)
    for i in range(size):
        if alive[i]:
            layer = field.kinds[i].layer
            if not _open(f[i, X], f[i, Y], layer, field.free):
                if _open(f[i, X], old[i, 1], layer, field.free):
                    f[i, Y] = old[i, 1]
                elif _open(old[i, 0], f[i, Y], layer, field.free):
                    f[i, X] = old[i, 0]
                else:
                    f[i, X], f[i, Y] = old[i, 0], old[i, 1]


@rule
def _yield(f, old, i, ux, uy, push, around):
    """Unit i gives way by `push` in direction u; if it walks against somebody who stands, sideways as well, around him."""
    if push > 0:
        vx, vy = f[i, X] - old[i, 0], f[i, Y] - old[i, 1]
        f[i, X] += push * ux
        f[i, Y] += push * uy
        if around and vx * ux + vy * uy < 0:
            side = vx * -uy + vy * ux
            turn = push if side > 0 or (side == 0 and i % 2 == 0) else -push
            f[i, X] += turn * -uy
            f[i, Y] += turn * ux


@rule
def _open(x, y, layer, free):
    if layer == GROUND:
        return free[int(x), int(y)]
    return PLAYABLE[0] <= x < PLAYABLE[1] and PLAYABLE[0] <= y < PLAYABLE[1]
