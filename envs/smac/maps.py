"""The 23 maps of SMAC and the 15 scenarios of SMACv2: units, starts, orders, episode limits, terrain, and the sizes of observations,
states and actions.

A map's units and starts are fixed; a scenario's are drawn for each battle (starts.py). Source of the maps' rosters, points and orders: the
map archives of github.com/oxwhirl/smac at d6aab33. Source of the scenarios: github.com/oxwhirl/smacv2 at 577ab5a.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import suggest
from inspo_benchmark.envs.smac.units import PROFILES, TYPES, Unit

MAP_SIZE = 32  # cells per side
PLAYABLE = (2, 30)  # bounds of the playable area in x and y, cells
NO_OP, STOP, NORTH, SOUTH, EAST, WEST = range(6)  # then the attacks; no-op is the only action of dead agents
NO_ATTACK = 6  # number of actions before the attacks
WIN_REWARD, DEATH_REWARD, REWARD_SCALE = 200, 10, 20  # reward of a win, of a kill, and of a won episode after scaling

HUNT, IDLE = "hunt", "idle"  # orders other than a point: chase the allies wherever they are; no order
MIDDLE = "middle"  # attack-move to a random point between the allies' two groups
NEAREST = "nearest"  # attack the nearest ally until it is dead, then the next one
PROTOSS = {"stalker", "zealot", "colossus"}

# Where a scenario's teams start: allies at random in the west and enemies at their mirror images; allies in the center and enemies in
# groups on the diagonals; one of these; allies and enemies each on one point.
REFLECT, SURROUNDED, BOTH, FACING = "reflect_position", "surrounded", "surrounded_and_reflect", "facing"


class Group(NamedTuple):
    """Units that the map's script creates at one point."""

    type: str
    count: int
    x: float
    y: float


class Sizes:
    """Sizes that maps and scenarios compute alike, from n, m, types, own_position and the shields."""

    @property
    def actions(self) -> int:
        """Number of actions of an agent: no attack, then one for each enemy, or for each agent that a Medivac may heal."""
        return NO_ATTACK + (max(self.n, self.m) if "medivac" in self.types else self.m)

    @property
    def obs(self) -> int:
        """Size of an observation: move, enemy, ally and own features."""
        bits, own = len(self.types), self.ally_shield
        others = self.m * (5 + self.enemy_shield + bits) + (self.n - 1) * (5 + own + bits)
        return 4 + others + 1 + own + 2 * self.own_position + bits

    @property
    def state(self) -> int:
        """Size of the state: allies, enemies and last actions."""
        bits = len(self.types)
        return self.n * (4 + self.ally_shield + bits) + self.m * (3 + self.enemy_shield + bits) + self.n * self.actions


@dataclass(frozen=True)
class Map(Sizes):
    name: str
    limit: int  # most steps of an episode
    allies: tuple[Group, ...]  # in order of creation
    enemies: tuple[Group, ...]
    goal: tuple[float, float] | str  # the enemies' order at the start: attack-move to this point, HUNT, IDLE or MIDDLE
    types: tuple[str, ...] = ()  # ally types in the order of their one-hot bits; empty if all allies have the same type
    enemy_types: tuple[str, ...] = ()

    own_position = False  # agents do not see where they are

    @property
    def terrain(self) -> str:
        """Name of its ground in terrain.txt."""
        return self.name

    @property
    def n(self) -> int:
        """Number of agents."""
        return sum(group.count for group in self.allies)

    @property
    def m(self) -> int:
        """Number of enemies."""
        return sum(group.count for group in self.enemies)

    @property
    def ally_roster(self) -> tuple[str, ...]:
        """Types of the agents in order of agent id, which follows the type first."""
        created = _roster(self.allies)
        return tuple(sorted(created, key=self.types.index)) if self.types else created

    @property
    def enemy_roster(self) -> tuple[str, ...]:
        """Types of the enemies in order of enemy id, which is the order of creation."""
        return _roster(self.enemies)

    @property
    def ally_shield(self) -> int:
        """1 if the allies are Protoss, which have shields."""
        return int(self.allies[0].type in PROTOSS)

    @property
    def enemy_shield(self) -> int:
        return int(self.enemies[0].type in PROTOSS)

    @property
    def rescue(self) -> int:
        """MMM's rule: a team of at most this many Medivacs and nothing else has lost; 0: there is no such rule."""
        return int("medivac" in self.types)

    @property
    def type_numbers(self) -> np.ndarray:
        """Types of the agents, then of the enemies [U], as indices into units.TYPES."""
        return np.array([TYPES.index(name) for name in self.ally_roster + self.enemy_roster])

    def units(self, profile: str = "liberty") -> tuple[Unit, ...]:
        """Unit data of the agents, then of the enemies. UserError: no such profile."""
        units = unit_data(profile)
        return tuple(units[name] for name in self.ally_roster + self.enemy_roster)

    def max_reward(self, profile: str = "liberty") -> float:
        """Unscaled return of a won episode without regeneration of enemies."""
        return WIN_REWARD + sum(DEATH_REWARD + unit.health + unit.shield for unit in self.units(profile)[self.n :])


@dataclass(frozen=True)
class Scenario(Sizes):
    """A scenario of SMACv2: each battle draws both teams' units and where they start."""

    name: str
    n: int  # number of agents
    m: int  # number of enemies
    types: tuple[str, ...]  # in the order of their one-hot bits, for both sides
    unit_types: tuple[str, ...]  # in the order in which they are drawn
    weights: tuple[float, ...]  # their probabilities
    exceptions: tuple[str, ...] = ()  # a draw of these types only is repeated
    places: str = BOTH  # BOTH, REFLECT, SURROUNDED or FACING
    reflect_probability: float = 0.5  # of REFLECT under BOTH
    own_position: bool = True  # agents see where they are
    unit_ranges: bool = True  # each type's own attack and sight ranges instead of SMAC's 6 and 9
    min_attack_range: float = 2.0  # cells; the least attack range among `unit_ranges`
    show_teammates: bool = True  # agents see the types of the other agents
    see_all: bool = False  # agents see units at any distance
    mask_out_of_range: bool = True  # attacks are available in range only; otherwise on all living targets

    limit = 200
    goal = NEAREST
    terrain = "32x32_flat"

    @property
    def enemy_types(self) -> tuple[str, ...]:
        return self.types

    @property
    def ally_shield(self) -> int:
        return int(self.types[0] in PROTOSS)

    @property
    def enemy_shield(self) -> int:
        return self.ally_shield

    @property
    def rescue(self) -> int:
        """As on MMM, but with any number of Medivacs."""
        return self.m if "medivac" in self.types else 0


def unit_data(profile: str) -> dict[str, Unit]:
    """Name -> unit. UserError: no such profile."""
    if profile not in PROFILES:
        raise UserError(f"no unit data {profile!r}; {suggest(profile, PROFILES)}")
    return PROFILES[profile]


def _roster(groups: tuple[Group, ...]) -> tuple[str, ...]:
    return tuple(group.type for group in groups for _ in range(group.count))


def _at(x: float, y: float, **counts: int) -> tuple[Group, ...]:
    return tuple(Group(name, count, x, y) for name, count in counts.items())


WEST_START, EAST_START = (9, 16), (23, 16)
SZ = dict(types=("stalker", "zealot"), enemy_types=("zealot", "stalker"))  # SMAC reverses the enemies' bits
CSZ = dict(types=("colossus", "stalker", "zealot"), enemy_types=("colossus", "stalker", "zealot"))
MMM = dict(types=("marauder", "marine", "medivac"), enemy_types=("marauder", "marine", "medivac"))
BANE = dict(types=("baneling", "zergling"), enemy_types=("baneling", "zergling"))
FAR_CORNER = (4.47, 4.33)


def _facing(name: str, limit: int, allies: dict[str, int], enemies: dict[str, int], **types) -> Map:
    """A map on which the enemies start in the east and attack-move to the allies' start in the west."""
    return Map(name, limit, _at(*WEST_START, **allies), _at(*EAST_START, **enemies), WEST_START, **types)


MAPS = {
    m.name: m
    for m in (
        _facing("3m", 60, dict(marine=3), dict(marine=3)),
        _facing("8m", 120, dict(marine=8), dict(marine=8)),
        _facing("25m", 150, dict(marine=25), dict(marine=25)),
        _facing("5m_vs_6m", 70, dict(marine=5), dict(marine=6)),
        _facing("8m_vs_9m", 120, dict(marine=8), dict(marine=9)),
        _facing("10m_vs_11m", 150, dict(marine=10), dict(marine=11)),
        _facing("27m_vs_30m", 180, dict(marine=27), dict(marine=30)),
        _facing("MMM", 150, dict(marine=7, marauder=2, medivac=1), dict(marine=7, marauder=2, medivac=1), **MMM),
        _facing("MMM2", 180, dict(marine=7, marauder=2, medivac=1), dict(marine=8, marauder=3, medivac=1), **MMM),
        _facing("2s3z", 120, dict(stalker=2, zealot=3), dict(stalker=2, zealot=3), **SZ),
        _facing("3s5z", 150, dict(stalker=3, zealot=5), dict(stalker=3, zealot=5), **SZ),
        _facing("3s5z_vs_3s6z", 170, dict(stalker=3, zealot=5), dict(stalker=3, zealot=6), **SZ),
        _facing("3s_vs_3z", 150, dict(stalker=3), dict(zealot=3)),
        _facing("3s_vs_4z", 200, dict(stalker=3), dict(zealot=4)),
        _facing("3s_vs_5z", 250, dict(stalker=3), dict(zealot=5)),
        _facing("1c3s5z", 180, dict(colossus=1, stalker=3, zealot=5), dict(colossus=1, stalker=3, zealot=5), **CSZ),
        Map("2m_vs_1z", 150, _at(13, 12, marine=1) + _at(19, 12, marine=1), _at(16, 19, zealot=1), MIDDLE),
        Map("corridor", 400, _at(19.04, 19.12, zealot=6), _at(27.91, 28.24, zergling=24), FAR_CORNER),
        Map("6h_vs_8z", 150, _at(14.60, 9.49, hydralisk=6), _at(14.41, 16.76, zealot=8), (14.60, 9.49)),
        Map("2s_vs_1sc", 300, _at(11.12, 10.34, stalker=1) + _at(16.98, 10.37, stalker=1), _at(13.92, 20.04, spinecrawler=1), IDLE),
        Map("so_many_baneling", 100, _at(11.47, 12.02, zealot=7), _at(27.91, 28.24, baneling=32), FAR_CORNER),
        Map(
            "bane_vs_bane", 200, _at(16, 11, zergling=20) + _at(16, 8, baneling=4), _at(16, 21, zergling=20) + _at(16, 24, baneling=4),
            (16, 8), **BANE,
        ),
        Map("2c_vs_64zg", 400, _at(16, 16, colossus=2), _at(16, 9, zergling=64), HUNT),
    )
}  # fmt: skip


RACES = {  # race -> types in the order of their bits, types in the order in which they are drawn, probabilities, exceptions
    "protoss": (("stalker", "zealot", "colossus"), ("stalker", "zealot", "colossus"), (0.45, 0.45, 0.1), ()),
    "terran": (("marine", "marauder", "medivac"), ("marine", "marauder", "medivac"), (0.45, 0.45, 0.1), ("medivac",)),
    "zerg": (("zergling", "hydralisk", "baneling"), ("zergling", "baneling", "hydralisk"), (0.45, 0.1, 0.45), ("baneling",)),
}
SCENARIOS = {
    x.name: x
    for race, (types, unit_types, weights, exceptions) in RACES.items()
    for n, m in ((5, 5), (10, 10), (10, 11), (20, 20), (20, 23))
    for x in (Scenario(f"{race}_{n}_vs_{m}", n, m, types, unit_types, weights, exceptions),)
}


def find_map(name: str) -> Map | Scenario:
    """The map or scenario of that name. UserError, with the nearest names: there is none."""
    known = MAPS | SCENARIOS
    if not isinstance(name, str):
        raise UserError(f"no SMAC map {name!r}; write its name, a string")
    if name not in known:
        raise UserError(f"no SMAC map {name!r}; {suggest(name, known)}")
    return known[name]


@cache
def ground(name: str) -> np.ndarray:
    """Walkable cells of a map: [x, y] bool."""
    for block in (Path(__file__).parent / "terrain.txt").read_text().split("\n\n"):
        head, *rows = block.strip().split("\n")
        if head.startswith("maps: ") and name in head.split()[1:]:
            return np.array([list(row) for row in reversed(rows)]).T == "#"
    raise AssertionError(f"terrain.txt has no map {name}")
