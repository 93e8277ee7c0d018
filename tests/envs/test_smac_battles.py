"""How units fight: the game's published numbers, and what players know."""

import numpy as np
import pytest

from inspo_benchmark.envs.smac import simulator
from inspo_benchmark.envs.smac.maps import IDLE, MAPS, Group, Map, find_map, ground
from inspo_benchmark.envs.smac.simulator import COOLDOWN, ENERGY, HEALTH, SHIELD, Battles, X, Y
from inspo_benchmark.envs.smac.units import LIBERTY

STOP, NORTH, SOUTH, EAST, WEST, ATTACK = 1, 2, 3, 4, 5, 6
FLAT = "3s_vs_3z"  # open ground


def duel(ally: str, enemy: str, apart: float = 4.0, goal=IDLE, num_envs: int = 1, profile: str = "liberty") -> Battles:
    """One against one on flat ground, side by side."""
    types = dict(types=("marauder", "marine", "medivac")) if ally == "medivac" else {}
    battles = Battles(Map(FLAT, 100, (Group(ally, 1, 12, 16),), (Group(enemy, 1, 12 + apart, 16),), goal, **types), num_envs, profile)
    battles.spawn(range(num_envs))
    return battles


def step(battles: Battles, *act: int, times: int = 1) -> np.ndarray:
    """Step all battles with the same actions; returns a copy of the frame."""
    for _ in range(times):
        battles.advance(np.tile(np.array(act, np.int64), (battles.num_envs, 1)), np.ones(battles.num_envs, bool))
    return battles.frame.copy()


def random_steps(battles: Battles, steps: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        act = rng.integers(1, battles.map.actions, (battles.num_envs, battles.map.n))
        battles.advance(act, np.ones(battles.num_envs, bool))
        yield battles.frame


# --- numbers


@pytest.mark.parametrize(
    ("attacker", "target", "attacks", "hits_each"),
    [
        ("marine", "marine", 8, 1),
        ("stalker", "zealot", 17, 1),
        ("hydralisk", "zealot", 14, 1),
        ("zealot", "hydralisk", 5, 2),
        ("zealot", "stalker", 11, 2),
        ("zergling", "zealot", 35, 1),
        ("zealot", "zergling", 3, 2),
        ("colossus", "zergling", 1, 2),
        ("marauder", "stalker", 5 + 5, 1),  # 20 on shields (4), then 19 on life (5): 80/20 + 80/19
    ],
)
def test_attacks_to_kill(attacker, target, attacks, hits_each):
    battles = duel(attacker, target)
    frame, hits = battles.frame[0], 0
    while frame[1, HEALTH] > 0:
        simulator._hit(frame, battles.mind[0], 0, 1, battles.field)
        hits += 1
    expected = {"marauder": 4 + 5}.get(attacker, attacks)
    assert -(-hits // hits_each) == expected


@pytest.mark.parametrize("name", ["marine", "stalker", "zealot", "zergling", "hydralisk", "colossus"])
@pytest.mark.parametrize(("act", "axis", "sign"), [(NORTH, Y, 1), (SOUTH, Y, -1), (EAST, X, 1), (WEST, X, -1)])
def test_a_step_of_walking(name, act, axis, sign):
    battles = duel(name, "spinecrawler", apart=14)
    before = battles.frame[0, 0, axis]
    after = step(battles, act, times=3)[0, 0, axis]
    assert after - before == pytest.approx(sign * 3 * LIBERTY[name].speed / 2, abs=1e-9)


def test_a_marine_walks_a_cell_and_an_eighth():
    battles = duel("marine", "spinecrawler", apart=14)
    assert step(battles, EAST)[0, 0, X] == 12 + 1.125


def test_weapons_reach_from_edge_to_edge():
    for apart, reaches in ((5.74, True), (5.76, False)):
        battles = duel("marine", "medivac", apart=apart)
        battles.frame[0, 1, X] = battles.frame[0, 0, X] + apart + 0.375  # a Medivac's radius is .75
        act = np.array([[ATTACK]])
        x = battles.frame[0, 0, X]
        battles.advance(act, np.ones(1, bool))
        assert (battles.frame[0, 0, X] == x) == reaches  # out of range it walks closer


def test_mean_time_between_attacks_is_the_period_and_the_mean_delay():
    num_envs, steps = 64, 100
    battles = duel("marine", "spinecrawler", apart=5, num_envs=num_envs)
    lost, before = np.zeros(num_envs), battles.frame[:, 1, HEALTH].copy()
    for _ in range(steps):
        step(battles, ATTACK)
        battles.frame[:, 0, HEALTH] = 45
        lost += before + LIBERTY["spinecrawler"].regeneration / 2 - battles.frame[:, 1, HEALTH]
        battles.frame[:, 1, HEALTH] = before = np.full(num_envs, 200.0)
    attacks = lost.mean() / 4  # 6 less armor 2
    loops = steps * 8 / attacks
    assert 13.77 + 0.5 <= loops <= 13.77 + 0.5 + 1.5  # attacks begin on whole loops


def test_shields_recharge_after_ten_seconds_without_damage():
    battles = duel("zealot", "marine", apart=15)
    battles.frame[0, 0, SHIELD] = 10
    battles.mind[0, 0]["quiet"] = 0
    shields = [step(battles, STOP)[0, 0, SHIELD] for _ in range(30)]
    assert shields[:20] == [10] * 20
    assert np.diff(shields[19:]) == pytest.approx(1.0)


def test_zerg_regenerate_at_once():
    battles = duel("hydralisk", "marine", apart=15)
    battles.frame[0, 0, HEALTH] = 40
    assert step(battles, STOP)[0, 0, HEALTH] == pytest.approx(40 + 0.2734 / 2)


def test_a_medivac_heals_for_energy():
    battles = Battles(
        Map(
            FLAT, 100, (Group("marine", 1, 12, 16), Group("medivac", 1, 13, 16)), (Group("marine", 1, 29, 29),), IDLE, find_map("MMM").types
        ),
        1,
    )
    battles.spawn([0])
    battles.frame[0, 0, HEALTH] = 10
    energy = battles.frame[0, 1, ENERGY]  # 50, and what recovered in the head start
    frame = step(battles, STOP, ATTACK + 0)
    assert frame[0, 0, HEALTH] == pytest.approx(10 + 4.5)
    assert frame[0, 1, ENERGY] == pytest.approx(energy - 1.485 + 0.5625 / 2)
    frame = step(battles, STOP, STOP)
    assert frame[0, 0, HEALTH] == pytest.approx(14.5)
    battles.frame[0, 1, ENERGY] = 0
    assert step(battles, STOP, ATTACK + 0)[0, 0, HEALTH] < 14.5 + 4.5 / 2  # only what energy trickles in


def test_the_newer_unit_data():
    battles = duel("hydralisk", "zealot", profile="lotv")
    assert battles.frame[0, 0, HEALTH] == 90
    assert battles.field.kinds["period"][0] == 12


# --- who does what


def test_agents_do_nothing_without_orders():
    battles = duel("marine", "marine", apart=2)
    battles.frame[0, 0, HEALTH] = 1e6
    frame = step(battles, STOP, times=20)
    assert frame[0, 1, HEALTH] == 45
    assert frame[0, 0, HEALTH] < 1e6  # while it is being shot


def test_an_agent_idles_when_its_target_is_dead():
    battles = Battles(Map(FLAT, 100, (Group("marine", 1, 12, 16),), (Group("marine", 2, 14, 16),), IDLE), 1)
    battles.spawn([0])
    battles.frame[0, 1, HEALTH], battles.frame[0, 0, HEALTH] = 6, 1e6
    frame = step(battles, ATTACK, times=1)
    frame = step(battles, ATTACK + 0, times=4)
    assert frame[0, 1, HEALTH] == 0
    assert frame[0, 2, HEALTH] == 45
    assert battles.target[0, 0] == -1


def test_an_attack_order_walks_into_range():
    battles = duel("zealot", "spinecrawler", apart=6)
    frame = step(battles, ATTACK, times=8)
    gap = abs(frame[0, 1, X] - frame[0, 0, X]) - 0.5 - 0.875
    assert gap <= 0.1 + 1e-9
    assert frame[0, 1, HEALTH] < 300


def test_ground_weapons_do_not_hit_flying_units():
    battles = duel("marauder", "medivac", apart=3)
    x = battles.frame[0, 0, X]
    frame = step(battles, ATTACK, times=10)
    assert frame[0, 1, HEALTH] == 150
    assert frame[0, 0, X] == x


@pytest.mark.parametrize("name", ["3m", "3s_vs_5z", "6h_vs_8z", "corridor", "so_many_baneling", "2m_vs_1z", "bane_vs_bane"])
def test_unopposed_enemies_reach_their_goal(name):
    battles = Battles(find_map(name), 1)
    battles.spawn([3])
    battles.frame[0, : battles.map.n, HEALTH] = 0  # no agent is in the way
    live = np.ones(1, bool)
    for _ in range(battles.map.limit):
        battles.advance(np.ones((1, battles.map.n), np.int64), live)
    enemies = battles.frame[0, battles.map.n :]
    goal = np.array([battles.mind[0, -1]["x"], battles.mind[0, -1]["y"]])
    assert (np.linalg.norm(enemies[:, :2] - goal, axis=1) < battles.field.arrived + 1.5).all()


def test_enemies_do_not_chase_agents_beyond_their_acquire_range():
    battles = Battles(find_map("3m"), 1)
    battles.spawn([0])
    battles.frame[0, :3, X], battles.frame[0, :3, Y] = 28, [8.0, 9.0, 10.0]
    frame = step(battles, STOP, STOP, STOP, times=59)
    assert (np.linalg.norm(frame[0, 3:, :2] - [9, 16], axis=1) < 3).all()
    assert (frame[0, :3, HEALTH] == 45).all()


def test_an_enemy_pursues_a_distant_attacker_as_far_as_its_leash():
    battles = duel("stalker", "zealot", apart=7)
    battles.frame[0, :, X], battles.frame[0, :, Y] = [22, 29], 29
    frame = step(battles, ATTACK, times=3)
    assert frame[0, 1, X] < 28.5
    battles.frame[0, 0, :2] = 2.5
    frame = step(battles, STOP, times=60)
    assert simulator.LEASH_RANGE - 1 < np.hypot(frame[0, 1, X] - 29, frame[0, 1, Y] - 29) < simulator.LEASH_RANGE + 1.2


def test_an_enemy_keeps_the_target_that_it_chases():
    """A bait that runs is followed past others who are nearer but cannot be hit at once."""
    battles = Battles(Map(FLAT, 100, (Group("marine", 2, 10, 16),), (Group("zealot", 1, 16, 16),), IDLE), 1)
    battles.spawn([0])
    battles.frame[0, :2, X], battles.frame[0, :2, Y] = [13, 22], [16, 26]
    step(battles, STOP, STOP)
    assert battles.target[0, 2] == 0
    battles.frame[0, :2, X], battles.frame[0, :2, Y] = [11, 17], [16, 19]
    step(battles, WEST, STOP)
    assert battles.target[0, 2] == 0


def test_hit_enemies_call_for_help():
    battles = Battles(Map(FLAT, 100, (Group("stalker", 1, 12, 16),), (Group("zealot", 3, 19, 16),), IDLE), 1)
    battles.spawn([0])
    start = battles.frame[0, 1:, X].copy()
    frame = step(battles, ATTACK, times=8)
    assert (frame[0, 1:, X] < start - 1).all()


def test_a_stalker_that_keeps_its_distance_beats_a_zealot():
    """Shoot when the weapon is ready, otherwise run: a Zealot is slower and never strikes. Who stands and shoots dies."""
    for kites in (True, False):
        battles = duel("stalker", "zealot", apart=6, goal=(12.0, 16.0))
        struck, angle = False, 0
        for _ in range(400):
            f = battles.frame[0]
            if f[1, HEALTH] <= 0 or f[0, HEALTH] <= 0:
                break
            away = [NORTH, WEST, SOUTH, EAST][angle % 4]
            near = np.hypot(*(f[0, :2] - f[1, :2])) < 4
            x, y = f[0, :2]
            if (x < 5 and away == WEST) or (x > 27 and away == EAST) or (y < 5 and away == SOUTH) or (y > 27 and away == NORTH):
                angle += 1
                away = [NORTH, WEST, SOUTH, EAST][angle % 4]
            step(battles, away if kites and (near or f[0, COOLDOWN] > 4) else ATTACK)
            struck = struck or battles.frame[0, 0, SHIELD] < 80
        assert (battles.frame[0, :, HEALTH] > 0).tolist() == [kites, not kites]
        assert struck != kites


def test_a_colossus_burns_a_line_of_zerglings():
    battles = Battles(Map("2c_vs_64zg", 100, (Group("colossus", 1, 16, 16),), (Group("zergling", 8, 16, 9),), "hunt"), 1)
    battles.spawn([0])
    frame = step(battles, ATTACK, times=2)
    assert (frame[0, 1:, HEALTH] == 0).sum() >= 2


def test_zerglings_go_around_a_cliff_and_colossi_over_it():
    battles = Battles(find_map("2c_vs_64zg"), 1)
    battles.spawn([0])
    free = ground("2c_vs_64zg")
    assert not free[16, 12]
    crossed = False
    for _ in range(60):
        frame = step(battles, ATTACK, ATTACK + 1)
        zerglings = frame[0, 2:][frame[0, 2:, HEALTH] > 0]
        assert free[tuple(zerglings[:, :2].astype(int).T)].all()
        crossed = crossed or (zerglings[:, Y] > 13).any()
    assert crossed
    walker = Battles(Map("2c_vs_64zg", 100, (Group("colossus", 1, 16, 13.2),), (Group("zergling", 1, 16, 2 + 3.5),), IDLE), 1)
    walker.spawn([0])
    walker.frame[0, 1, HEALTH] = 1e9
    assert step(walker, ATTACK, times=10)[0, 0, Y] < 13


def test_a_baneling_kills_its_neighbors():
    battles = Battles(Map(FLAT, 100, (Group("zergling", 5, 12, 16),), (Group("baneling", 1, 14, 16),), (12.0, 16.0)), 1)
    battles.spawn([0])
    frame = step(battles, STOP, STOP, STOP, STOP, STOP, times=8)
    assert frame[0, 5, HEALTH] == 0
    assert (frame[0, :5, HEALTH] == 0).sum() >= 4  # 20 + 15 against light


def test_both_sides_can_die_in_the_same_loop():
    battles = duel("baneling", "baneling", apart=1)
    battles.frame[..., HEALTH] = 20
    frame = step(battles, ATTACK, times=2)
    assert (frame[0, :, HEALTH] == 0).all()


# --- all maps


@pytest.mark.parametrize("name", MAPS)
def test_battles_stay_within_the_rules(name):
    m, num_envs = find_map(name), 4
    battles = Battles(m, num_envs)
    battles.spawn(range(num_envs))
    free, kinds = ground(name), battles.field.kinds
    walks = kinds["layer"] == simulator.GROUND
    before = battles.frame.copy()
    for frame in random_steps(battles, 40):
        assert np.isfinite(frame).all()
        assert (frame[..., HEALTH] <= kinds["health"] + 1e-9).all()
        assert (frame[..., HEALTH] >= 0).all()
        assert (frame[..., SHIELD] <= kinds["shield"] + 1e-9).all()
        assert (frame[..., SHIELD] >= 0).all()
        assert (frame[before[..., HEALTH] == 0][:, HEALTH] == 0).all(), "the dead stay dead"
        assert free[tuple(frame[:, walks, :2].reshape(-1, 2).astype(int).T)].all()
        assert ((frame[..., :2] >= 2) & (frame[..., :2] <= 30)).all()
        moved = np.linalg.norm(frame[..., :2] - before[..., :2], axis=-1)
        assert (moved[:, kinds["step"] == 0] == 0).all()
        before = frame.copy()


@pytest.mark.parametrize("name", ["3m", "MMM", "2s3z", "bane_vs_bane", "2c_vs_64zg", "2m_vs_1z"])
def test_a_battle_does_not_depend_on_the_batch(name):
    seeds, steps = [5, 0, 77, 5], 30
    m = find_map(name)
    acts = np.random.default_rng(1).integers(1, m.actions, (steps, len(seeds), m.n))
    acts[:, 3] = acts[:, 0]
    together = Battles(m, len(seeds))
    together.spawn(seeds)
    alone = [Battles(m, 1) for _ in seeds]
    for battles, seed in zip(alone, seeds, strict=True):
        battles.spawn([seed])
    for act in acts:
        together.advance(act, np.ones(len(seeds), bool))
        for e, battles in enumerate(alone):
            battles.advance(act[e : e + 1], np.ones(1, bool))
            assert (battles.frame[0] == together.frame[e]).all()
    assert (together.frame[0] == together.frame[3]).all()
    assert (together.frame[0] != together.frame[2]).any() or m.goal == "idle"


def test_battles_that_are_not_live_do_not_change():
    battles = Battles(find_map("3m"), 2)
    battles.spawn([0, 1])
    before = battles.frame.copy()
    battles.advance(np.full((2, 3), EAST), np.array([True, False]))
    assert (battles.frame[0] != before[0]).any()
    assert (battles.frame[1] == before[1]).all()
