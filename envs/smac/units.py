"""What StarCraft II knows of its units: Liberty's data, which every SMAC map declares, and what Legacy of the Void changed.

Seconds are "Normal" game seconds of 16 game loops, the clock that SMAC drives (8 loops a step). Values: SC2Mapster/SC2GameData, 4.6.2.69232
and 4.10.0.75689, which agree on all of them; the maps' own units are copies with the same weapons that do nothing on their own.
"""

from typing import NamedTuple

STALKER_MISSILE = 20.0  # cells per second: not published, the marauder's is taken
LOOPS = 16  # game loops in a Normal second
STEP_LOOPS = 8  # game loops in a step of the environment (SMAC's step_mul)


class Unit(NamedTuple):
    """One type of unit. Lengths in cells, times in Normal seconds, speeds per Normal second."""

    name: str
    health: float
    shield: float = 0
    armour: float = 0
    light: bool = False
    armoured: bool = False
    biological: bool = True
    air: bool = False
    structure: bool = False
    damage: float = 0  # of one hit
    bonus: float = 0  # more against `bonus_to`
    bonus_to: str = ""  # "light", "armoured" or nothing
    hits: int = 1  # of one attack; armour counts for each
    second_hit: float = 0  # after the first
    period: float = 1  # between attacks, before the random delay
    damage_point: float = 0  # from the start of an attack to its hit, or to the missile's launch
    missile: float = 0  # its speed; 0: hits at once
    range: float = 0  # edge to edge
    hits_air: bool = False
    slop: float = 1  # an attack that has begun reaches so much further
    speed: float = 2.25
    radius: float = 0.375  # ranges are measured from here
    separation: float = 0.375  # units collide here
    regeneration: float = 0  # health per second
    heal: float = 0  # health per second given to others
    splash: float = 0  # everybody within this distance of the one hit is hit, and the attacker dies (baneling)
    beam: bool = False  # hits sweep a line across the direction of fire (colossus)
    cliffs: bool = False  # walks over cliffs, collides only with its like


LIBERTY = {
    unit.name: unit
    for unit in (
        Unit("marine", 45, light=True, damage=6, period=0.8608, damage_point=0.05, range=5, hits_air=True),
        Unit(
            "marauder", 125, armour=1, armoured=True, damage=10, bonus=10, bonus_to="armoured", period=1.5, missile=20, range=6,
            radius=0.5625, separation=0.5,
        ),
        Unit(
            "medivac", 150, armour=1, armoured=True, biological=False, air=True, range=4, speed=2.75, radius=0.75, separation=0.75,
            heal=9,
        ),
        Unit(
            "stalker", 80, 80, armour=1, armoured=True, biological=False, damage=10, bonus=4, bonus_to="armoured", period=1.44,
            damage_point=0.167, missile=STALKER_MISSILE, range=6, hits_air=True, speed=2.9531, radius=0.625, separation=0.625,
        ),
        Unit("zealot", 100, 50, armour=1, light=True, damage=8, hits=2, second_hit=0.28, period=1.2, range=0.1, radius=0.5),
        Unit("zergling", 35, light=True, damage=5, period=0.696, damage_point=0.167, range=0.1, speed=2.9531, regeneration=0.2734),
        Unit(
            "hydralisk", 80, light=True, damage=12, period=0.83, damage_point=0.208, missile=40, range=5, hits_air=True,
            radius=0.625, separation=0.5, regeneration=0.2734,
        ),
        Unit("baneling", 30, damage=20, bonus=15, bonus_to="light", period=0.833, range=0.25, speed=2.5, regeneration=0.2734, splash=2.2),
        Unit(
            "colossus", 200, 150, armour=1, armoured=True, biological=False, damage=20, hits=2, period=2.2, damage_point=0.083, range=6,
            slop=0, radius=1.0, separation=0.75, beam=True, cliffs=True,
        ),
        Unit(
            "spinecrawler", 300, armour=2, armoured=True, structure=True, damage=25, bonus=5, bonus_to="armoured", period=1.6,
            damage_point=0.333, range=7, slop=0, speed=0, radius=0.875, separation=0.875, regeneration=0.2734,
        ),
    )
}  # fmt: skip
LOTV = LIBERTY | {
    "stalker": LIBERTY["stalker"]._replace(damage=13, bonus=5, period=1.87),
    "hydralisk": LIBERTY["hydralisk"]._replace(health=90, period=0.75),
    "colossus": LIBERTY["colossus"]._replace(damage=10, bonus=5, bonus_to="light", period=1.5, range=7),
}
PROFILES = {"liberty": LIBERTY, "lotv": LOTV}
