"""The battles: what StarCraft II does with units between two steps of the environment, for many battles at once.

One numba kernel advances all running battles by the 8 game loops of a step. It uses only IEEE additions, multiplications, divisions and
square roots, in a fixed order, so a battle has the same bits on every machine, alone and in any batch.

In a loop, enemies choose targets; units shoot or walk; hits land; overlapping bodies are separated; the dead are removed; units recover.
All hits of a loop count, including those of units that die in it. Unit data are in units.py. The constants below decide what the game's
published data leave open; docs/smac.md gives the reason for each.

    unit, kind    a unit of a battle; `kind` holds the constant data of its type, in loops (KIND)
    mind          the mutable state of a unit that is not in a frame: its order, target, hits under way (MIND)
    field         the constants of a battle (Field); on a map those of all battles
    rng           the state of a battle's random numbers; the only chance in a battle
    kernel, rule  a compiled function called from Python, and one that is inlined into kernels (envs/smac/compiled.py)
    f, m          in rules: the frame [U, 6] and the minds [U] of one battle
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.envs.smac.compiled import SPLITMIX_STEP, kernel, rule, splitmix64, unit_interval
from inspo_benchmark.envs.smac.maps import (
    EAST,
    HUNT,
    IDLE,
    MAP_SIZE,
    MIDDLE,
    NEAREST,
    NO_ATTACK,
    NORTH,
    PLAYABLE,
    SOUTH,
    STOP,
    WEST,
    Map,
    Scenario,
    ground,
    unit_data,
)
from inspo_benchmark.envs.smac.paths import waypoints
from inspo_benchmark.envs.smac.starts import Starts, draw
from inspo_benchmark.envs.smac.units import LOOPS_PER_SECOND, LOOPS_PER_STEP, TYPES, Unit

X, Y, HEALTH, SHIELD, COOLDOWN, ENERGY = range(6)  # columns of a frame

MOVE_AMOUNT = 2.0  # cells that a move order covers (SMAC's move_amount)
COOLDOWN_NOISE = (-1.0, 2.0)  # loops, bounds of the uniform noise on each cooldown
ACQUIRE_RANGE = 5.0  # cells, edge to edge: how far an enemy sees targets, unless its weapon reaches farther
SCAN_INTERVAL = 2  # loops between two searches for a target
LEASH_RANGE = 21.0  # cells that an enemy pursues its target, from where it acquired it
HEAD_START = 2  # at most this many loops pass between the spawn and the first frame on a map; none in a scenario
CLOCK_RANGE = 1 << 16  # the loop counter starts below this number, because SMAC does not restart the game between battles
HELP_RANGE = 4.0  # cells in which an enemy that is hit calls for help
HELP_INTERVAL = 2 * LOOPS_PER_SECOND  # loops between two calls of a unit
RECHARGE_DELAY = 10 * LOOPS_PER_SECOND  # loops without damage before shields recharge
RECHARGE_RATE = 2.0 / LOOPS_PER_SECOND  # shield per loop
ENERGY_START, ENERGY_MAX, ENERGY_RATE = 50.0, 200.0, 0.5625 / LOOPS_PER_SECOND  # of a Medivac; the rate is per loop
HEAL_COST = 0.33  # energy per health
HEAL_RANGE = 6.0  # cells, edge to edge: how far an enemy Medivac sees wounded units
FOLLOW_RANGE = 2.0  # cells: an enemy Medivac without a patient stays this close to its army
MIN_DAMAGE = 0.5  # a hit's least damage, whatever the armor
ARRIVAL_FACTOR = 0.6  # k enemies have arrived within ARRIVAL_FACTOR * sqrt(k) cells of their goal
SPAWN_GAP = 0.05  # cells between the bodies of a group that spawns at one point
SPAWN_GRID, SPAWN_REACH = 0.125, 6.0  # cells: spacing and half width of the grid of candidate places around that point
DRAWN_REACH = 12.0  # the half width in a scenario, where a group may be large and in a corner
BEAM_HALF_WIDTH, BEAM_POINTS, BEAM_RADIUS = 1.25, 11, 0.15  # the Colossus' sweep: cells to each side, points, cells around a point
GROUND, AIR, CLIFF_WALKER = 0, 1, 2  # layers: units collide within their layer only; a Colossus walks over cliffs

STAND, GO, FIGHT = range(3)  # orders of an agent; an enemy's is FIGHT under ATTACK_NEAREST, otherwise STAND
WALKING, IDLING, FIGHTING = range(3)  # stances of a unit in a loop; in a collision the lower one gives way
ATTACK_MOVE, CHASE, NO_ORDER, ATTACK_NEAREST = range(4)  # orders of the enemies
NO_UNIT = -1

KIND = np.dtype(
    [(name, "f8") for name in Unit._fields if name not in ("name", "bonus_to")]
    + [("bonus_light", "f8"), ("bonus_armored", "f8"), ("layer", "i8"), ("step", "f8")]
)  # data of a unit's type (units.Unit), with times in loops instead of seconds

MIND = np.dtype(
    [
        ("order", "i8"),
        ("target", "i8"),  # index of the unit it attacks or heals
        ("x", "f8"),  # destination
        ("y", "f8"),
        ("aiming", "f8"),  # loops until the attack under way hits or shoots; negative: no attack under way
        ("hits", "i8"),  # pending hits: a missile, or the second blow of an attack
        ("hit_on", "i8"),  # index of the unit that they will hit
        ("hit_in", "f8"),  # loops until the next one
        ("quiet", "f8"),  # loops without damage
        ("post_x", "f8"),  # where an enemy was when it acquired its target
        ("post_y", "f8"),
        ("attacker", "i8"),  # index of the unit that hit it, or that hit a neighbor calling for help, since its last search
        ("help_in", "f8"),  # loops until it may call for help again
    ]
)


class Field(NamedTuple):
    """The constants of all battles on a map; U units. In a scenario, each battle has its own units and starts, see Battles.rows."""

    kinds: np.ndarray  # [U] KIND
    start: np.ndarray  # [U, 2] positions at the start
    agents: int
    orders: int  # ATTACK_MOVE, CHASE, NO_ORDER or ATTACK_NEAREST
    goal: np.ndarray  # [2, 2]: the enemies' goal is uniform on the segment between these two points
    free: np.ndarray  # [x, y] bool, walkable cells
    waypoints: np.ndarray  # [MAP_SIZE**2, MAP_SIZE**2] int16, see paths.waypoints; [1, 1] where every straight line is free
    arrived: float  # cells from the goal
    contact: np.ndarray  # [U, U] square of the distance at which two units touch; 0 on different layers


class Battles:
    """E battles of U units on one map, agents before enemies. `spawn` starts them, `advance` runs one step.

    frame [E, U, 6] float64 holds each unit's x, y, health, shield, cooldown (loops) and energy; a unit with health 0 is dead.
    Observations, rewards and time limits are in views.py and vector.py.
    """

    def __init__(self, map: Map | Scenario, num_envs: int, profile: str = "liberty"):
        self.map, self.num_envs, self.profile, self.field = map, num_envs, profile, field(map, profile)
        size = map.n + map.m
        self.types = map.type_numbers[None] if isinstance(map, Map) else np.zeros((num_envs, size), np.int64)  # index into units.TYPES
        self.drawn: tuple[np.ndarray, ...] | None = None  # the `rows` of a scenario
        self.frame = np.zeros((num_envs, size, 6))
        self.mind = np.zeros((num_envs, size), MIND)
        self.rng = np.zeros(num_envs, np.uint64)
        self.clock = np.zeros(num_envs, np.int64)  # game loops since the game, not the battle, began
        self.scratch = np.zeros(size, bool), np.zeros(size, np.int64), np.zeros((4, size))  # alive, stance, positions (_separate)

    @property
    def target(self) -> np.ndarray:
        """Index of the unit that each unit attacks or heals [E, U]; -1: none."""
        return self.mind["target"]

    @property
    def units(self) -> tuple[Unit, ...]:
        """Unit data of the agents, then of the enemies; in a scenario those of the first battle."""
        units = unit_data(self.profile)
        return tuple(units[TYPES[k]] for k in self.types[0])

    @property
    def rows(self) -> tuple[np.ndarray, ...]:
        """The battles' kinds [R, U], starts [R, U, 2] and contact distances [R, U, U]; R is E, or 1 if all battles have the same."""
        return self.drawn or (self.field.kinds[None], self.field.start[None], self.field.contact[None])

    def spawn(self, seeds: Sequence[int], starts: Starts | None = None) -> None:
        """Start all battles; the randomness of battle e depends on seeds[e] >= 0 alone. `starts`: a scenario's, instead of drawn ones."""
        if isinstance(self.map, Scenario):
            self.types, places = _settle(self.map, starts or draw(self.map, seeds), self.profile)
            kinds = _kinds(self.profile)[self.types]
            self.drawn = kinds, places, _contact(kinds)
        _spawn(self.frame, self.mind, self.rng, self.clock, np.asarray(seeds, np.uint64), *self.scratch, *self.rows, self.field)

    def advance(self, act: np.ndarray, live: np.ndarray) -> None:
        """Run one step under the agents' actions [E, n] int64; battles that are not live [E] bool do not change."""
        _advance(self.frame, self.mind, self.rng, self.clock, act, live, *self.scratch, *self.rows, self.field)


# --- constants of a map


@cache
def field(map: Map | Scenario, profile: str = "liberty") -> Field:
    free, goal = ground(map.terrain), map.goal
    if isinstance(map, Map):
        kinds = _kinds(profile)[map.type_numbers]
        allies, enemies = (_formation(groups, kinds, map, free, profile) for groups in (map.allies, map.enemies))
        start = np.concatenate([_sorted(allies, map), enemies])
    else:
        kinds, start = np.zeros(map.n + map.m, KIND), np.zeros((map.n + map.m, 2))
    ends = [[group.x, group.y] for group in map.allies] if goal == MIDDLE else [[0.0, 0.0]] * 2 if isinstance(goal, str) else [goal] * 2
    return Field(
        kinds=kinds,
        start=start,
        agents=map.n,
        orders={HUNT: CHASE, IDLE: NO_ORDER, NEAREST: ATTACK_NEAREST}.get(goal, ATTACK_MOVE),
        goal=np.array(ends, np.float64),
        free=free,
        waypoints=waypoints(free),
        arrived=ARRIVAL_FACTOR * math.sqrt(map.m),
        contact=_contact(kinds),
    )


def _contact(kinds: np.ndarray) -> np.ndarray:
    """kinds [..., U] -> the contact distances [..., U, U] of a Field."""
    separation, layer = kinds["separation"], kinds["layer"]
    return (separation[..., :, None] + separation[..., None, :]) ** 2 * (layer[..., :, None] == layer[..., None, :])


@cache
def _kinds(profile: str) -> np.ndarray:
    """The KIND of every type, in the order of units.TYPES."""
    units = unit_data(profile)
    return np.array([_kind(units[name]) for name in TYPES], KIND)


def _kind(unit: Unit) -> tuple:
    values = unit._asdict() | {
        "period": unit.period * LOOPS_PER_SECOND,
        "second_hit": unit.second_hit * LOOPS_PER_SECOND,
        "damage_point": unit.damage_point * LOOPS_PER_SECOND,
        "missile": unit.missile / LOOPS_PER_SECOND,
        "heal": unit.heal / LOOPS_PER_SECOND,
        "regeneration": unit.regeneration / LOOPS_PER_SECOND,
        "bonus_light": unit.bonus * (unit.bonus_to == "light"),
        "bonus_armored": unit.bonus * (unit.bonus_to == "armored"),
        "layer": AIR if unit.air else CLIFF_WALKER if unit.cliffs else GROUND,
        "step": unit.speed / LOOPS_PER_SECOND,
    }
    return tuple(values[name] for name in KIND.names)


def _formation(groups, kinds: np.ndarray, map: Map, free: np.ndarray, profile: str) -> np.ndarray:
    """Start positions of a team [k, 2] in order of creation: each unit as close to its group's point as there is room."""
    of_type = {unit.name: kind for unit, kind in zip(map.units(profile), kinds, strict=True)}
    spots = _spots(SPAWN_REACH)
    placed, bodies = np.zeros((0, 2)), np.zeros((0, 2))  # bodies: separation, layer
    for group in groups:
        kind = of_type[group.type]
        near = spots + [group.x, group.y]
        near = near[((near >= 0) & (near < MAP_SIZE)).all(1)]
        near = near[free[tuple(near.astype(int).T)]]
        for _ in range(group.count):
            apart = ((near[:, None] - placed) ** 2).sum(-1) >= (bodies[:, 0] + kind["separation"] + SPAWN_GAP) ** 2
            place = near[(apart | (bodies[:, 1] != kind["layer"])).all(1).argmax()]
            placed, bodies = np.vstack([placed, place]), np.vstack([bodies, [kind["separation"], kind["layer"]]])
    return placed


def _sorted(places: np.ndarray, map: Map) -> np.ndarray:
    """Positions in the order of agent ids: by type, then x, then y."""
    created = [group.type for group in map.allies for _ in range(group.count)]
    rank = [map.types.index(name) if map.types else 0 for name in created]
    return places[np.lexsort((places[:, 1], places[:, 0], rank))]


@cache
def _spots(reach: float) -> np.ndarray:
    """Candidate places around a point [k, 2], the nearest first."""
    line = np.arange(-reach, reach + SPAWN_GRID, SPAWN_GRID)
    spots = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    return spots[np.lexsort((spots[:, 0], spots[:, 1], (spots**2).sum(1)))]


# --- start


def _settle(scenario: Scenario, starts: Starts, profile: str) -> tuple[np.ndarray, np.ndarray]:
    """Types [E, U] and free places [E, U, 2] for drawn starts; the agents in the order of their ids: by type, then x, then y.

    UserError: there is no room for all units.
    """
    types, places = starts.types, np.empty_like(starts.places)
    e, unit = _place(starts.places, _kinds(profile)[types], _spots(DRAWN_REACH), ground(scenario.terrain), places)
    if e >= 0:
        raise UserError(
            f"{scenario.name}: {unit} units leave no room for unit {unit}, a {TYPES[types[e, unit]]}, near its starting place; "
            "use fewer units"
        )
    agents = types[:, : scenario.n]
    order = np.lexsort((places[:, : scenario.n, 1], places[:, : scenario.n, 0], agents))
    settled = np.take_along_axis(places[:, : scenario.n], order[..., None], 1), np.take_along_axis(agents, order, 1)
    return np.concatenate([settled[1], types[:, scenario.n :]], 1), np.concatenate([settled[0], places[:, scenario.n :]], 1)


@kernel
def _place(wanted, kinds, spots, free, places):
    """Put each unit, in order of creation, on the free spot nearest to the place it wants, within the playable area.

    Spots are free if no body stands there; flying units have no body for the others, while a Colossus does. Returns the battle and the
    unit that finds no free spot, or -1, -1.
    """
    for e in range(len(wanted)):
        for i in range(wanted.shape[1]):
            kind, k, free_spot = kinds[e, i], 0, False
            low, high = PLAYABLE[0] + kind.radius, PLAYABLE[1] - kind.radius
            x, y = min(max(wanted[e, i, 0], low), high), min(max(wanted[e, i, 1], low), high)
            while not free_spot and k < len(spots):
                u, v = x + spots[k, 0], y + spots[k, 1]
                free_spot = low <= u <= high and low <= v <= high and free[int(u), int(v)]
                j = 0
                while free_spot and j < i:
                    other = kinds[e, j]
                    if (other.layer == AIR) == (kind.layer == AIR):
                        dx, dy, room = u - places[e, j, 0], v - places[e, j, 1], kind.separation + other.separation + SPAWN_GAP
                        free_spot = dx * dx + dy * dy >= room * room
                    j += 1
                k += 1
            if not free_spot:
                return e, i
            places[e, i, 0], places[e, i, 1] = u, v
    return -1, -1


@rule
def _battle(e, kinds, start, contact, field):
    """The constants of battle e, from the rows of all battles and what they share."""
    k = min(e, len(kinds) - 1)
    return Field(kinds[k], start[k], field.agents, field.orders, field.goal, field.free, field.waypoints, field.arrived, contact[k])


@kernel
def _uniform(rng, e):
    """The next random number of battle e, uniform on [0, 1)."""
    rng[e] += SPLITMIX_STEP
    return unit_interval(splitmix64(rng[e]))


@kernel
def _spawn(frame, mind, rng, clock, seeds, alive, stance, old, kinds, start, contact, constants):
    for e in range(len(frame)):
        field = _battle(e, kinds, start, contact, constants)
        rng[e] = seeds[e]
        u = _uniform(rng, e) if field.orders == ATTACK_MOVE else 0.0
        clock[e] = np.int64(CLOCK_RANGE * _uniform(rng, e))
        head_start = np.int64((HEAD_START + 1) * _uniform(rng, e)) if field.orders != ATTACK_NEAREST else 0
        for i in range(len(field.kinds)):
            unit, kind = mind[e, i], field.kinds[i]
            frame[e, i, X], frame[e, i, Y] = field.start[i, 0], field.start[i, 1]
            frame[e, i, HEALTH], frame[e, i, SHIELD] = kind.health, kind.shield
            frame[e, i, COOLDOWN], frame[e, i, ENERGY] = 0.0, ENERGY_START if kind.heal > 0 else 0.0
            unit.order, unit.target, unit.hit_on, unit.attacker, unit.hits = STAND, NO_UNIT, NO_UNIT, NO_UNIT, 0
            unit.x = field.goal[0, 0] + u * (field.goal[1, 0] - field.goal[0, 0])
            unit.y = field.goal[0, 1] + u * (field.goal[1, 1] - field.goal[0, 1])
            unit.aiming, unit.hit_in, unit.quiet, unit.help_in = -1.0, 0.0, RECHARGE_DELAY, 0.0
            unit.post_x, unit.post_y = 0.0, 0.0
        for _ in range(head_start):
            _loop(frame[e], mind[e], rng, clock, e, alive, stance, old, field)


# --- a step


@kernel
def _advance(frame, mind, rng, clock, act, live, alive, stance, old, kinds, start, contact, constants):
    for e in range(len(frame)):
        if live[e]:
            field = _battle(e, kinds, start, contact, constants)
            _command(frame[e], mind[e], act[e], field)
            if field.orders == ATTACK_NEAREST:
                _order_enemies(frame[e], mind[e], field)
            for _ in range(LOOPS_PER_STEP):
                _loop(frame[e], mind[e], rng, clock, e, alive, stance, old, field)


@kernel
def _loop(f, m, rng, clock, e, alive, stance, old, field):
    """One game loop of battle e."""
    size = len(f)
    for i in range(size):
        alive[i] = f[i, HEALTH] > 0
        old[0, i], old[1, i] = f[i, X], f[i, Y]
    for i in range(field.agents, size):
        if alive[i]:
            _choose_target(f, m, i, clock[e] + i, field)
    for i in range(size):
        _land_hits(f, m, i, alive, field)
        if alive[i]:
            f[i, COOLDOWN] = max(f[i, COOLDOWN] - 1, 0.0)
            if field.kinds[i].heal > 0:
                stance[i] = _heal(f, m, i, alive, field)
            else:
                stance[i] = _fight(f, m, i, alive, rng, e, field)
    _separate(f, old, alive, stance, field)
    _remove_dead(f, m, alive, field)
    _recover(f, m, field)
    clock[e] += 1


@rule
def _command(f, m, act, field):
    """Turn the agents' actions into orders. No-op, and an order that the game refuses (ground weapon, flying target), keep the old one."""
    for i in range(field.agents):
        if f[i, HEALTH] > 0:
            a, unit = act[i], m[i]
            if a >= NO_ATTACK:
                healer = field.kinds[i].heal > 0
                target = a - NO_ATTACK + (0 if healer else field.agents)
                if (unit.order != FIGHT or unit.target != target) and (healer or _can_hit(field.kinds[i], field.kinds[target])):
                    unit.order, unit.target, unit.aiming = FIGHT, target, -1.0
            elif a >= NORTH:
                unit.order, unit.target, unit.aiming = GO, NO_UNIT, -1.0
                unit.x = f[i, X] + (MOVE_AMOUNT if a == EAST else -MOVE_AMOUNT if a == WEST else 0.0)
                unit.y = f[i, Y] + (MOVE_AMOUNT if a == NORTH else -MOVE_AMOUNT if a == SOUTH else 0.0)
            elif a == STOP:
                unit.order, unit.target, unit.aiming = STAND, NO_UNIT, -1.0


@kernel
def _order_enemies(f, m, field):
    """Order every enemy without a target to attack the agent closest to it. A ground weapon refuses a flying target, and a Medivac any."""
    for i in range(field.agents, len(f)):
        unit = m[i]
        if f[i, HEALTH] > 0 and (unit.target < 0 or f[unit.target, HEALTH] <= 0) and field.kinds[i].damage > 0:
            near, least = NO_UNIT, 0.0
            for j in range(field.agents):
                if f[j, HEALTH] > 0:
                    distance = _distance(f, i, j)
                    if near < 0 or distance < least:
                        near, least = j, distance
            if near >= 0 and _can_hit(field.kinds[i], field.kinds[near]):
                unit.order, unit.target, unit.aiming = FIGHT, near, -1.0


@rule
def _can_hit(kind, other):
    return kind.damage > 0 and (kind.hits_air > 0 or other.layer != AIR)


@rule
def _distance(f, i, j):
    dx, dy = f[j, X] - f[i, X], f[j, Y] - f[i, Y]
    return math.sqrt(dx * dx + dy * dy)


@rule
def _edge_distance(f, i, j, field):
    """Distance of two units from edge to edge, as ranges are measured."""
    return _distance(f, i, j) - field.kinds[i].radius - field.kinds[j].radius


@rule
def _choose_target(f, m, i, tick, field):
    """An enemy keeps a target that it was ordered to attack until it is dead, or that its weapon reaches; otherwise it searches every
    SCAN_INTERVAL loops.

    It takes the nearest agent that it can hit at once; else the one that attacked it since its last search; else it pursues its target
    as far as the leash allows; else it takes the nearest agent in its acquire range (with the order CHASE: anywhere). Harmless agents
    come last.
    """
    unit, kind = m[i], field.kinds[i]
    unit.help_in = max(unit.help_in - 1, 0.0)
    lost = unit.target >= 0 and f[unit.target, HEALTH] <= 0
    if lost:
        unit.target, unit.aiming = NO_UNIT, -1.0
    if unit.order == FIGHT:
        if unit.target >= 0:
            return
        unit.order, unit.attacker = STAND, NO_UNIT  # the order is carried out; who hit it meanwhile is forgotten
    if unit.aiming >= 0 or not (lost or tick % SCAN_INTERVAL == 0):
        return
    if kind.heal > 0:
        unit.target = _most_wounded(f, i, field)
        return
    reach, old = max(kind.range, ACQUIRE_RANGE), unit.target
    if old >= 0 and field.kinds[old].damage > 0 and _edge_distance(f, i, old, field) <= kind.range:
        return
    best, best_rank, best_gap = NO_UNIT, 9, 0.0
    for j in range(field.agents):
        if f[j, HEALTH] > 0 and _can_hit(kind, field.kinds[j]):
            gap = _edge_distance(f, i, j, field)
            if gap <= reach or field.orders == CHASE:
                rank = (0 if field.kinds[j].damage > 0 else 2) + (0 if gap <= kind.range else 1)
                if rank < best_rank or (rank == best_rank and gap < best_gap):
                    best, best_rank, best_gap = j, rank, gap
    attacker, unit.attacker = unit.attacker, NO_UNIT
    if best_rank > 0:
        attacked = attacker >= 0 and f[attacker, HEALTH] > 0 and _can_hit(kind, field.kinds[attacker])
        if attacked and (old < 0 or _edge_distance(f, i, attacker, field) <= reach):
            best = attacker
        elif old >= 0 and (best < 0 or field.kinds[old].damage > 0):
            dx, dy = f[i, X] - unit.post_x, f[i, Y] - unit.post_y
            if dx * dx + dy * dy <= LEASH_RANGE * LEASH_RANGE:
                best = old
    if best != old:
        unit.target, unit.post_x, unit.post_y = best, f[i, X], f[i, Y]


@kernel
def _most_wounded(f, i, field):
    """Index of the unit that enemy Medivac i heals: the lowest share of health first, then the nearest."""
    best, best_share, best_gap = NO_UNIT, 1.0, 0.0
    for j in range(field.agents, len(f)):
        kind = field.kinds[j]
        if f[j, HEALTH] > 0 and kind.biological > 0 and f[i, ENERGY] > 0:
            share, gap = f[j, HEALTH] / kind.health, _edge_distance(f, i, j, field)
            if gap <= HEAL_RANGE and (share < best_share or (best >= 0 and share == best_share and gap < best_gap)):
                best, best_share, best_gap = j, share, gap
    return best


@rule
def _fight(f, m, i, alive, rng, e, field):
    """Attack the target, walk into range of it, or travel. Returns the unit's stance."""
    unit, kind, t = m[i], field.kinds[i], m[i].target
    if t >= 0 and not alive[t]:
        unit.target, unit.aiming, t = NO_UNIT, -1.0, NO_UNIT
        if i < field.agents:
            unit.order = STAND
    if t < 0:
        return _travel(f, m, i, field)
    gap = _edge_distance(f, i, t, field)
    if unit.aiming >= 0:
        if gap > kind.range + kind.slop:
            unit.aiming = -1.0
        else:
            unit.aiming = max(unit.aiming - 1, 0.0)
    elif gap <= kind.range and f[i, COOLDOWN] <= 0:
        unit.aiming = kind.damage_point
    if unit.aiming == 0:
        unit.aiming = -1.0
        f[i, COOLDOWN] = kind.period - kind.damage_point + COOLDOWN_NOISE[0] + (COOLDOWN_NOISE[1] - COOLDOWN_NOISE[0]) * _uniform(rng, e)
        _fire(f, m, i, t, gap, alive, field)
    if unit.aiming < 0 and gap > kind.range:
        _walk(f, i, f[t, X], f[t, Y], field)
        return WALKING
    return FIGHTING


@rule
def _travel(f, m, i, field):
    """Without a target: an agent walks to its destination, an enemy to its goal. Returns the unit's stance."""
    unit, x, y = m[i], m[i].x, m[i].y
    if i < field.agents:
        if unit.order != GO:
            return IDLING
        if _walk(f, i, x, y, field):
            unit.order = STAND
        return WALKING
    if field.orders == ATTACK_MOVE:
        dx, dy = x - f[i, X], y - f[i, Y]
        if dx * dx + dy * dy > field.arrived * field.arrived:
            _walk(f, i, x, y, field)
            return WALKING
    return IDLING


@rule
def _walk(f, i, x, y, field):
    """Walk towards (x, y) for one loop, around cells that are not walkable. Returns True on arrival."""
    kind, there = field.kinds[i], True
    if kind.layer == GROUND and len(field.waypoints) > 1:
        cell = int(min(max(x, 0.0), MAP_SIZE - 1.0)) * MAP_SIZE + int(min(max(y, 0.0), MAP_SIZE - 1.0))
        over = field.waypoints[int(f[i, X]) * MAP_SIZE + int(f[i, Y]), cell]
        if over != cell:
            x, y, there = over // MAP_SIZE + 0.5, over % MAP_SIZE + 0.5, False
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
    """A Medivac heals its target or flies to it; an enemy Medivac without one follows its army, but in SMACv2 stays where it is. Returns
    the unit's stance.
    """
    unit, kind, t = m[i], field.kinds[i], m[i].target
    if t >= 0 and not alive[t]:
        unit.target, t = NO_UNIT, NO_UNIT
        if i < field.agents:
            unit.order = STAND
    if t < 0:
        if i < field.agents:
            return _travel(f, m, i, field)
        near, near_gap = NO_UNIT, 0.0
        for j in range(field.agents, len(f)):
            if alive[j] and field.kinds[j].damage > 0:
                gap = _edge_distance(f, i, j, field)
                if near < 0 or gap < near_gap:
                    near, near_gap = j, gap
        if near >= 0 and near_gap > FOLLOW_RANGE and field.orders != ATTACK_NEAREST:
            _walk(f, i, f[near, X], f[near, Y], field)
            return WALKING
        return IDLING
    if _edge_distance(f, i, t, field) > kind.range:
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
        f[i, HEALTH] = 0.0  # it explodes in _remove_dead
    elif kind.beam > 0:
        _sweep(f, m, i, t, alive, field)
    elif kind.missile > 0:
        unit.hits, unit.hit_on, unit.hit_in = 1, t, max(gap, 0.0) / kind.missile
    else:
        _hit(f, m, i, t, field)
        if kind.hits > 1:
            unit.hits, unit.hit_on, unit.hit_in = int(kind.hits) - 1, t, kind.second_hit


@rule
def _land_hits(f, m, i, alive, field):
    """Pending hits come closer by a loop. A missile outlives its unit, a second blow does not."""
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
    """Damage to the shield first, the rest, less the armor, to health. An enemy remembers its attacker and calls for help."""
    kind, other, agents = field.kinds[i], field.kinds[t], field.agents
    damage = kind.damage + kind.bonus_light * other.light + kind.bonus_armored * other.armored
    absorbed = min(f[t, SHIELD], damage)
    f[t, SHIELD] -= absorbed
    if damage > absorbed:
        f[t, HEALTH] -= max(damage - absorbed - other.armor, MIN_DAMAGE)
    m[t].quiet = 0.0
    if t >= agents:
        m[t].attacker = i
        if m[t].help_in == 0:
            m[t].help_in = HELP_INTERVAL
            for j in range(agents, len(f)):
                if j != t and m[j].target < 0 and f[j, HEALTH] > 0 and _distance(f, t, j) <= HELP_RANGE:
                    m[j].attacker = i


@rule
def _opponents(i, agents, size):
    return (agents, size) if i < agents else (0, agents)


@kernel
def _explode(f, m, i, alive, field):
    """A Baneling hits all opponents that its splash touches."""
    first, last = _opponents(i, field.agents, len(f))
    for j in range(first, last):
        if alive[j] and field.kinds[j].layer != AIR and _distance(f, i, j) - field.kinds[j].radius <= field.kinds[i].splash:
            _hit(f, m, i, j, field)


@kernel
def _sweep(f, m, i, t, alive, field):
    """A Colossus' beams sweep across the target at right angles to the direction of fire; each beam hits a unit once."""
    dx, dy = f[t, X] - f[i, X], f[t, Y] - f[i, Y]
    distance = math.sqrt(dx * dx + dy * dy)
    ux, uy = (-dy / distance, dx / distance) if distance > 0 else (1.0, 0.0)
    first, last = _opponents(i, field.agents, len(f))
    for j in range(first, last):
        if alive[j] and field.kinds[j].layer != AIR:
            reach = BEAM_RADIUS + field.kinds[j].radius
            for k in range(BEAM_POINTS):
                along = -BEAM_HALF_WIDTH + k * (2 * BEAM_HALF_WIDTH / (BEAM_POINTS - 1))
                px, py = f[t, X] + along * ux - f[j, X], f[t, Y] + along * uy - f[j, Y]
                if px * px + py * py <= reach * reach:
                    for _ in range(int(field.kinds[i].hits)):
                        _hit(f, m, i, j, field)
                    break


@rule
def _remove_dead(f, m, alive, field):
    """Units without health die. A Baneling that dies explodes, which may kill others."""
    again = True
    while again:
        again = False
        for i in range(len(f)):
            if alive[i] and f[i, HEALTH] <= 0:
                alive[i] = False
                f[i, HEALTH], f[i, SHIELD], f[i, COOLDOWN] = 0.0, 0.0, 0.0
                m[i].order, m[i].target, m[i].aiming = STAND, NO_UNIT, -1.0
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
            if unit.quiet > RECHARGE_DELAY and f[i, SHIELD] < kind.shield:
                f[i, SHIELD] = min(f[i, SHIELD] + RECHARGE_RATE, kind.shield)
            if kind.heal > 0:
                f[i, ENERGY] = min(f[i, ENERGY] + ENERGY_RATE, ENERGY_MAX)


# --- bodies


@rule
def _separate(f, old, alive, stance, field):
    """Separate overlapping bodies: others give way to units that fight, and among opponents also to units that stand; equals share.

    `old` [4, U]: x and y before this loop's walk, to which units return that would end on cells that are not walkable; then scratch space
    for x and y now, infinite for the dead.
    """
    size, old_x, old_y, xs, ys = len(f), old[0], old[1], old[2], old[3]
    for i in range(size):
        xs[i], ys[i] = (f[i, X], f[i, Y]) if alive[i] else (math.inf, math.inf)
    for i in range(size):
        if alive[i]:
            a, x, y = field.kinds[i], xs[i], ys[i]
            for j in range(i + 1, size):
                dx, dy = xs[j] - x, ys[j] - y
                square = dx * dx + dy * dy
                if square < field.contact[i, j]:
                    b, distance = field.kinds[j], math.sqrt(square)
                    ux, uy = (dx / distance, dy / distance) if distance > 0 else (1.0, 0.0)
                    overlap = a.separation + b.separation - distance
                    firm = IDLING if (i < field.agents) != (j < field.agents) else FIGHTING
                    firm_i, firm_j = stance[i] >= firm or a.step == 0, stance[j] >= firm or b.step == 0
                    share = _share(a, b, firm_i, firm_j)
                    x, y = _pushed(i, x, y, old_x[i], old_y[i], -ux, -uy, share * overlap, firm_j)
                    xs[j], ys[j] = _pushed(j, xs[j], ys[j], old_x[j], old_y[j], ux, uy, (1 - share) * overlap, firm_i)
            xs[i], ys[i] = x, y
    for i in range(size):
        if alive[i]:
            x, y, layer = xs[i], ys[i], field.kinds[i].layer
            if not _passable(x, y, layer, field.free):
                if _passable(x, old_y[i], layer, field.free):
                    y = old_y[i]
                elif _passable(old_x[i], y, layer, field.free):
                    x = old_x[i]
                else:
                    x, y = old_x[i], old_y[i]
            f[i, X], f[i, Y] = x, y


@rule
def _share(a, b, firm_a, firm_b):
    """Share of an overlap by which the unit of kind `a` moves; the one of kind `b` moves by the rest. Structures never move."""
    share = 0.5
    if a.step == 0:
        share = 0.0
    elif b.step == 0:
        share = 1.0
    elif firm_a != firm_b:
        share = 0.0 if firm_a else 1.0
    return share


@rule
def _pushed(i, x, y, old_x, old_y, ux, uy, push, around):
    """(x, y) of unit i, moved by `push` in direction u. With `around`, a unit that walks against the other one also slides around it."""
    if push > 0:
        vx, vy = x - old_x, y - old_y
        x += push * ux
        y += push * uy
        if around and vx * ux + vy * uy < 0:
            side = vx * -uy + vy * ux
            turn = push if side > 0 or (side == 0 and i % 2 == 0) else -push
            x += turn * -uy
            y += turn * ux
    return x, y


@rule
def _passable(x, y, layer, free):
    if layer == GROUND:
        return 0 <= x < MAP_SIZE and 0 <= y < MAP_SIZE and free[int(x), int(y)]
    return PLAYABLE[0] <= x < PLAYABLE[1] and PLAYABLE[0] <= y < PLAYABLE[1]
