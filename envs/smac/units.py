"""StarCraft II's unit data: those of Liberty, which every SMAC map declares, and the changes of Legacy of the Void.

Seconds are "Normal" game seconds of 16 game loops, the clock of SMAC's steps (8 loops each). Source: SC2Mapster/SC2GameData, 4.6.2.69232
and 4.10.0.75689, which agree on all values; the maps' own units are passive copies with the same weapons.
"""

from typing import NamedTuple

STALKER_MISSILE_SPEED = 20.0  # cells per second; unpublished, so the marauder's
LOOPS_PER_SECOND = 16  # game loops per Normal second
LOOPS_PER_STEP = 8  # game loops per step of the environment (SMAC's step_mul)


class Unit(NamedTuple):
    """One type of unit. Lengths in cells, times in Normal seconds, speeds per Normal second."""

    name: str
    health: float
    shield: float = 0
    armor: float = 0
    light: bool = False
    armored: bool = False
    biological: bool = True
    air: bool = False
    damage: float = 0  # per hit
    bonus: float = 0  # extra damage against `bonus_to`
    bonus_to: str = ""  # "light", "armored" or ""
    hits: int = 1  # per attack; armor reduces each
    second_hit: float = 0  # time from the first hit to the second
    period: float = 1  # time between attacks, before the random delay
    damage_point: float = 0  # time from the start of an attack to its hit, or to the missile's launch
    missile: float = 0  # speed; 0: the weapon hits at once
    range: float = 0  # edge to edge
    hits_air: bool = False
    slop: float = 1  # extra range of an attack under way
    speed: float = 2.25
    radius: float = 0.375  # ranges are measured from this circle
    separation: float = 0.375  # radius of the body in collisions
    regeneration: float = 0  # health per second
    heal: float = 0  # health per second given to others
    splash: float = 0  # radius in which all opponents are hit, while the attacker dies (baneling)
    beam: bool = False  # hits sweep a line across the direction of fire (colossus)
    cliffs: bool = False  # walks over cliffs and collides only with units that do


LIBERTY = {
    unit.name: unit
    for unit in (
        Unit("marine", 45, light=True, damage=6, period=0.8608, damage_point=0.05, range=5, hits_air=True),
        Unit(
            "marauder", 125, armor=1, armored=True, damage=10, bonus=10, bonus_to="armored", period=1.5, missile=20, range=6,
            radius=0.5625, separation=0.5,
        ),
        Unit(
            "medivac", 150, armor=1, armored=True, biological=False, air=True, range=4, speed=2.75, radius=0.75, separation=0.75,
            heal=9,
        ),
        Unit(
            "stalker", 80, 80, armor=1, armored=True, biological=False, damage=10, bonus=4, bonus_to="armored", period=1.44,
            damage_point=0.167, missile=STALKER_MISSILE_SPEED, range=6, hits_air=True, speed=2.9531, radius=0.625, separation=0.625,
        ),
        Unit("zealot", 100, 50, armor=1, light=True, damage=8, hits=2, second_hit=0.28, period=1.2, range=0.1, radius=0.5),
        Unit("zergling", 35, light=True, damage=5, period=0.696, damage_point=0.167, range=0.1, speed=2.9531, regeneration=0.2734),
        Unit(
            "hydralisk", 80, light=True, damage=12, period=0.83, damage_point=0.208, missile=40, range=5, hits_air=True,
            radius=0.625, separation=0.5, regeneration=0.2734,
        ),
        Unit("baneling", 30, damage=20, bonus=15, bonus_to="light", period=0.833, range=0.25, speed=2.5, regeneration=0.2734, splash=2.2),
        Unit(
            "colossus", 200, 150, armor=1, armored=True, biological=False, damage=20, hits=2, period=2.2, damage_point=0.083, range=6,
            slop=0, radius=1.0, separation=0.75, beam=True, cliffs=True,
        ),
        Unit(
            "spinecrawler", 300, armor=2, armored=True, damage=25, bonus=5, bonus_to="armored", period=1.6,
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
TYPES = (*sorted(LIBERTY.keys() - {"spinecrawler"}), "spinecrawler")  # agents are numbered in this order; SMAC's structure comes last
