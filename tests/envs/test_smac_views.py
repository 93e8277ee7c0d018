"""SMAC's observations and rewards: against recordings of SMAC, its rules in plain Python on every map, and edge cases."""

import math
from pathlib import Path

import numpy as np
import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.envs.smac.maps import MAPS, find_map, ground
from inspo_benchmark.envs.smac.simulator import COOLDOWN, ENERGY, HEALTH, SHIELD, X, Y
from inspo_benchmark.envs.smac.views import (
    DRAWN,
    LOST,
    NO_ACTION,
    ONGOING,
    WON,
    RewardConfig,
    default_reward_config,
    fill_observations,
    fill_rewards,
)
from support.frames import observe, reward, scene, some_frames

RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "smac_conformance"
RECORDED = sorted(path.stem for path in RECORDINGS.glob("*.npz"))
STOP, NORTH, SOUTH, EAST, WEST, ATTACK = 1, 2, 3, 4, 5, 6

SIZES = {  # agents, enemies, limit, obs, state, actions, max_reward (SMAC's formulas, executed)
    "3m": (3, 3, 60, 30, 48, 9, 365),
    "8m": (8, 8, 120, 80, 168, 14, 640),
    "25m": (25, 25, 150, 250, 950, 31, 1575),
    "5m_vs_6m": (5, 6, 70, 55, 98, 12, 530),
    "8m_vs_9m": (8, 9, 120, 85, 179, 15, 695),
    "10m_vs_11m": (10, 11, 150, 105, 243, 17, 805),
    "27m_vs_30m": (27, 30, 180, 285, 1170, 36, 1850),
    "MMM": (10, 10, 150, 160, 290, 16, 1015),
    "MMM2": (10, 12, 180, 176, 322, 18, 1205),
    "2s3z": (5, 5, 120, 80, 120, 11, 1020),
    "3s5z": (8, 8, 150, 128, 216, 14, 1510),
    "3s5z_vs_3s6z": (8, 9, 170, 136, 230, 15, 1670),
    "3s_vs_3z": (3, 3, 150, 36, 54, 9, 680),
    "3s_vs_4z": (3, 4, 200, 42, 61, 10, 840),
    "3s_vs_5z": (3, 5, 250, 48, 68, 11, 1000),
    "1c3s5z": (9, 9, 180, 162, 270, 15, 1870),
    "2m_vs_1z": (2, 1, 150, 16, 26, 7, 360),
    "corridor": (6, 24, 400, 156, 282, 30, 1280),
    "6h_vs_8z": (6, 8, 150, 78, 140, 14, 1480),
    "2s_vs_1sc": (2, 1, 300, 17, 27, 7, 510),
    "so_many_baneling": (7, 32, 100, 202, 397, 38, 1480),
    "bane_vs_bane": (24, 24, 200, 336, 984, 30, 1260),
    "2c_vs_64zg": (2, 64, 400, 332, 342, 70, 3080),
}
MAX_COOLDOWN = dict(marine=15, marauder=25, medivac=200, stalker=35, zealot=22, colossus=24, hydralisk=10, zergling=11, baneling=1)


def units(name: str, x: float = 16.0, y: float = 16.0, apart: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """One frame: all units unhurt, the agents at one point, the enemies at another one out of sight. [1, n, 6], [1, m, 6]."""
    m = find_map(name)
    rows = [[x + (apart if k >= m.n else 0), y, unit.health, unit.shield, 0, 50] for k, unit in enumerate(m.units())]
    return np.array([rows[: m.n]], float), np.array([rows[m.n :]], float)


def views(name: str, allies: np.ndarray, enemies: np.ndarray, last=None):
    """(obs, state, avail, visible) of the one frame."""
    return [x[0] for x in observe(name, allies, enemies, np.full((1, find_map(name).n), NO_ACTION) if last is None else np.array([last]))]


# --- recordings


@pytest.mark.parametrize(
    "name", RECORDED or [pytest.param("", marks=pytest.mark.skip(reason="the recordings are not next to the repository"))]
)
def test_recorded_frames_and_steps(name):
    d = np.load(RECORDINGS / f"{name}.npz", allow_pickle=False)
    assert find_map(name).ally_roster == tuple(d["ally_types"])
    assert find_map(name).enemy_roster == tuple(d["enemy_types"])
    obs, state, avail, visible = observe(name, d["allies"], d["enemies"], d["last_actions"])
    np.testing.assert_allclose(obs, d["obs"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(state, d["state"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(avail, d["avail"])
    np.testing.assert_array_equal(visible, d["visible"])
    paid, *others = reward(name, *(d[f"step_{key}"] for key in ("allies0", "enemies0", "allies1", "enemies1")))
    np.testing.assert_allclose(paid, d["step_reward"], rtol=0, atol=1e-6)
    for key, value in zip(("terminated", "won", "dead_allies", "dead_enemies"), others, strict=True):
        np.testing.assert_array_equal(value, d[f"step_{key}"], err_msg=key)


# --- every map


@pytest.mark.parametrize("name", MAPS)
def test_sizes(name):
    n, m, limit, obs, state, actions, best = SIZES[name]
    shapes = [x.shape for x in observe(name, *some_frames(name, 2))]
    assert shapes == [(2, n, obs), (2, state), (2, n, actions), (2, n, n + m)]
    assert (find_map(name).limit, find_map(name).actions, find_map(name).max_reward()) == (limit, actions, best)


def test_all_maps_have_sizes():
    assert SIZES.keys() == MAPS.keys()


def in_plain_python(name: str, allies: list, enemies: list, last: list):
    """SMAC's rules for one frame: obs, state, avail, visible."""
    m, free = find_map(name), ground(name)
    names, n = [unit.name for unit in m.units()], m.n
    full = [(unit.health, unit.shield) for unit in m.units()]
    units_of_both = [*allies, *enemies]

    def far(a, b):
        return math.hypot(b[0] - a[0], b[1] - a[1])

    def health_shield(k, shown):
        return [units_of_both[k][2] / full[k][0]] + ([units_of_both[k][3] / full[k][1]] if shown else [])

    def one_hot(k):
        order = m.types if k < n else m.enemy_types
        return [float(names[k] == x) for x in order]

    obs, avail, visible = [], [], []
    for i, me in enumerate(allies):
        can = [0] * m.actions
        if me[2] == 0:
            can[0] = 1
        else:
            can[1] = 1
            for a, (dx, dy) in zip((2, 3, 4, 5), ((0, 1), (0, -1), (1, 0), (-1, 0)), strict=True):
                x, y = int(me[0] + dx), int(me[1] + dy)
                can[a] = int(0 <= x < 32 and 0 <= y < 32 and free[x, y])
            targets = [(j, u) for j, u in enumerate(allies) if names[j] != "medivac"] if names[i] == "medivac" else enumerate(enemies)
            for j, u in targets:
                can[6 + j] = int(u[2] > 0 and far(me, u) <= 6)
        row = [float(x) for x in can[2:6]] if me[2] else [0.0] * 4
        for j in [*range(n, n + m.m), *(k for k in range(n) if k != i)]:
            u, shown = units_of_both[j], m.enemy_shield if j >= n else m.ally_shield
            there = [can[6 + j - n] if j >= n else 1, far(me, u) / 9, (u[0] - me[0]) / 9, (u[1] - me[1]) / 9]
            there += health_shield(j, shown) + one_hot(j)
            row += there if me[2] > 0 and u[2] > 0 and far(me, u) < 9 else [0.0] * len(there)
        own = health_shield(i, m.ally_shield) + one_hot(i)
        row += own if me[2] > 0 else [0.0] * len(own)
        obs.append(row)
        avail.append(can)
        visible.append([k != i and me[2] > 0 and u[2] > 0 and far(me, u) < 9 for k, u in enumerate(units_of_both)])

    state = []
    for k, u in enumerate(units_of_both):
        place = [(u[0] - 16) / 28, (u[1] - 16) / 28]
        if k < n:
            value = u[5] if names[k] == "medivac" else u[4]
            health, *shield = health_shield(k, m.ally_shield)
            row = [health, value / MAX_COOLDOWN.get(names[k], 15), *place, *shield, *one_hot(k)]
        else:
            health, *shield = health_shield(k, m.enemy_shield)
            row = [health, *place, *shield, *one_hot(k)]
        state += row if u[2] > 0 else [0.0] * len(row)
    for a in last:
        state += [float(a == k) for k in range(m.actions)]
    return obs, state, avail, visible


@pytest.mark.parametrize("name", MAPS)
def test_the_rules_in_plain_python(name):
    allies, enemies, last = some_frames(name, 12)
    ours = observe(name, allies, enemies, last)
    theirs = [np.array(x) for x in zip(*map(in_plain_python, [name] * 12, allies.tolist(), enemies.tolist(), last.tolist()), strict=True)]
    for what, a, b in zip(("obs", "state"), ours[:2], theirs[:2], strict=True):
        np.testing.assert_allclose(a, b.astype(np.float32), rtol=0, atol=1e-6, err_msg=what)
    for what, a, b in zip(("avail", "visible"), ours[2:], theirs[2:], strict=True):
        np.testing.assert_array_equal(a, b, err_msg=what)


@pytest.mark.parametrize("name", ["3m", "MMM", "2c_vs_64zg"])
def test_a_frame_alone_and_among_others(name):
    frames = some_frames(name, 9)
    together = observe(name, *frames)
    for k in range(9):
        for a, b in zip(together, observe(name, *(x[k : k + 1] for x in frames)), strict=True):
            assert (a[k] == b[0]).all()


# --- edge cases of observations and available actions


@pytest.mark.parametrize(("distance", "attackable"), [(5.9999, True), (6.0, True), (6.0001, False)])
def test_attackable_up_to_six(distance, attackable):
    allies, enemies = units("3m", x=10, apart=distance)
    obs, _, avail, _ = views("3m", allies, enemies)
    assert avail[:, ATTACK:].all() == avail[:, ATTACK:].any() == attackable
    assert (obs[:, 4::5][:, :3] == attackable).all()  # the flag of each enemy


@pytest.mark.parametrize(("distance", "visible"), [(8.9999, True), (9.0, False)])
def test_seen_below_nine(distance, visible):
    allies, enemies = units("3m", x=10, apart=distance)
    allies[0, 2, Y] += distance
    enemies[0, 1:, HEALTH] = 0
    obs, _, _, visibility_matrix = views("3m", allies, enemies)
    assert visibility_matrix[0].tolist() == [False, True, visible, visible, False, False]
    assert obs[0, 5] == np.float32(distance / 9 * visible)
    assert obs[0, 4 + 15 + 5] == visible  # agent 2, the second of the others


@pytest.mark.parametrize(
    ("x", "y", "blocked"),
    [
        (2.0, 16, WEST),
        (2.99, 16, WEST),
        (3.0, 16, None),
        (28.99, 16, None),
        (29.0, 16, EAST),
        (16, 7.5, SOUTH),
        (16, 8.0, None),
        (16, 23.99, None),
        (16, 24.0, NORTH),
    ],
)
def test_moves_end_where_the_ground_does(x, y, blocked):
    _, _, avail, _ = views("3m", *units("3m", x, y))
    assert [a for a in (NORTH, SOUTH, EAST, WEST) if not avail[0, a]] == ([blocked] if blocked else [])


def test_moves_at_the_edge_of_the_map():
    """-0.5 is cut to cell 0, as int() does it: inside the map, though not walkable; 32 is outside."""
    for x, y in ((0.5, 16.0), (31.5, 16.0), (16.0, 0.5), (16.0, 31.5)):
        assert not views("3s_vs_3z", *units("3s_vs_3z", x, y))[2][
            0, [EAST if x > 31 else WEST if x < 1 else NORTH if y > 31 else SOUTH]
        ].any()


@pytest.mark.parametrize("name", ["6h_vs_8z", "corridor", "2c_vs_64zg"])
def test_cliffs_stop_moves(name):
    """From the middle of every cell that can be walked on: a move is allowed iff the next cell can be."""
    free, (allies, enemies) = ground(name), units(name)
    blocked = 0
    for x, y in np.argwhere(free):
        allies[0, 0, [X, Y]] = x + 0.5, y + 0.5
        expected = [free[x, y + 1], free[x, y - 1], free[x + 1, y], free[x - 1, y]]
        assert views(name, allies, enemies)[2][0, 2:6].tolist() == expected
        blocked += expected.count(False)
    assert blocked > 50


@pytest.mark.parametrize("name", MAPS)
def test_dead_units_see_nothing_and_are_not_seen(name):
    m, (allies, enemies) = find_map(name), units(name, apart=3)
    allies[0, 0, HEALTH] = enemies[0, -1, HEALTH] = 0
    obs, state, avail, visible = views(name, allies, enemies)
    assert not obs[0].any()
    assert avail[0].tolist() == [True] + [False] * (m.actions - 1)
    assert not visible[0].any()
    assert not visible[:, [0, -1]].any()
    if "medivac" not in m.types:
        assert not avail[:, -1].any()
    wide_a, wide_e = 4 + m.ally_shield + len(m.types), 3 + m.enemy_shield + len(m.types)
    assert not state[:wide_a].any()
    assert not state[m.n * wide_a :][(m.m - 1) * wide_e : m.m * wide_e].any()
    slots = obs[:, 4 : 4 + m.m * (wide_e + 2)].reshape(m.n, m.m, -1)
    assert not slots[:, -1].any()
    assert slots[1, :-1].any(-1).all()


def test_no_agent_sees_itself_and_sight_is_mutual():
    allies, enemies, last = some_frames("MMM", 50)
    among = observe("MMM", allies, enemies, last)[3][:, :, :10]
    assert (among == among.swapaxes(1, 2)).all()
    assert not among[:, range(10), range(10)].any()
    assert among.any()


def test_type_bits():
    """On maps of stalkers and zealots the enemies' bits are the agents' reversed."""
    for name in ("2s3z", "3s5z"):
        obs = views(name, *units(name, apart=3))[0]
        stalkers = find_map(name).ally_roster.count("stalker")
        enemies = obs[0, 4 : 4 + find_map(name).m * 8].reshape(-1, 8)[:, 6:]
        assert obs[0, -2:].tolist() == [1, 0]  # an agent, a stalker
        assert obs[-1, -2:].tolist() == [0, 1]  # a zealot
        assert enemies.tolist() == [[0, 1]] * stalkers + [[1, 0]] * (len(enemies) - stalkers)
    obs = views("MMM", *units("MMM", apart=3))[0]
    assert obs[:, -3:].argmax(1).tolist() == [0] * 2 + [1] * 7 + [2]
    assert obs[0, 4:84].reshape(10, 8)[:, 5:].argmax(1).tolist() == [1] * 7 + [0] * 2 + [2]


def test_a_medivac_heals_agents():
    allies, enemies = units("MMM", x=10, apart=3)
    allies[0, 0, HEALTH] = 0
    allies[0, 1, X] += 7
    enemies[0, 4, HEALTH] = 0
    obs, state, avail, _ = views("MMM", allies, enemies)
    heal = [False, False] + [True] * 7 + [False]  # not the dead, not who is far, not itself; the unhurt too
    assert avail[9, ATTACK:].tolist() == heal
    flags = obs[9, 4:84].reshape(10, 8)[:, 0]
    assert flags.tolist() == [float(x) for x in [*heal[:4], False, *heal[5:]]]  # in the places of the living enemies with these numbers
    assert avail[5, ATTACK:].tolist() == [j != 4 for j in range(10)]
    assert state[9 * 7 + 1] == np.float32(50 / 200)


@pytest.mark.parametrize(
    ("name", "agent"),
    [("MMM", 0), ("MMM", 2), ("2s3z", 0), ("2s3z", 2), ("1c3s5z", 0), ("6h_vs_8z", 0), ("bane_vs_bane", 0), ("bane_vs_bane", 4)],
)
def test_cooldowns_are_shares_of_smacs_numbers(name, agent):
    allies, enemies = units(name)
    allies[0, agent, COOLDOWN], allies[0, agent, ENERGY] = 35.2, 0
    m = find_map(name)
    state = views(name, allies, enemies)[1]
    assert state[agent * (4 + m.ally_shield + len(m.types)) + 1] == np.float32(35.2 / MAX_COOLDOWN[m.ally_roster[agent]])


def test_last_actions_in_the_state():
    frame = units("3m")
    assert not views("3m", *frame)[1][-27:].any()
    assert views("3m", *frame, last=[0, 1, 8])[1][-27:].reshape(3, 9).nonzero()[1].tolist() == [0, 1, 8]


# --- rewards


def paid(name: str, before, after, terms: RewardConfig | None = None):
    """(reward, outcome) of the one step between two pairs of unit arrays."""
    m = find_map(name)
    before, after = (np.concatenate(pair, 1) for pair in (before, after))
    value, outcome = np.zeros(1), np.full(1, ONGOING)
    fill_rewards(before, after, before[..., HEALTH] == 0, np.ones(1, bool), scene(m), terms or default_reward_config(m), value, outcome)
    return value[0], outcome[0]


def change(frame, ally=(), enemy=()):
    """A copy of (allies, enemies) with columns added to: [(unit, column, amount)]."""
    allies, enemies = (x.copy() for x in frame)
    for units_, changes in ((allies, ally), (enemies, enemy)):
        for k, column, amount in changes:
            units_[0, k, column] += amount
    return allies, enemies


@pytest.mark.parametrize("name", MAPS)
def test_ten_points_of_damage(name):
    frame = units(name)
    column = SHIELD if find_map(name).enemy_shield else HEALTH
    assert paid(name, frame, change(frame, enemy=[(0, column, -10)])) == (pytest.approx(10 * 20 / SIZES[name][-1], abs=1e-12), ONGOING)


@pytest.mark.parametrize("name", MAPS)
def test_a_won_battle_is_worth_twenty(name):
    frame = units(name)
    allies, enemies = change(frame)
    enemies[..., HEALTH] = 0
    value, terminated, won, dead_allies, dead_enemies = (x[0] for x in reward(name, *frame, allies, enemies))
    assert (value, terminated, won, dead_allies, dead_enemies) == (pytest.approx(20), True, True, 0, find_map(name).m)
    if name in ("3m", "8m", "5m_vs_6m", "2m_vs_1z"):
        assert value == 20


def test_a_kill_is_worth_the_remaining_health_and_ten():
    frame = change(units("3s_vs_5z"), enemy=[(0, HEALTH, -97), (0, SHIELD, -50), (1, SHIELD, -50)])
    one = change(frame, enemy=[(0, HEALTH, -3)])
    assert paid("3s_vs_5z", frame, one)[0] == pytest.approx((3 + 10) / 50)
    two = change(one, enemy=[(1, HEALTH, -100)])
    assert paid("3s_vs_5z", frame, two)[0] == pytest.approx((3 + 100 + 20) / 50)
    assert paid("3s_vs_5z", one, one)[0] == 0  # once


def test_regeneration_of_enemies_is_rewarded():
    frame = change(units("3s_vs_5z"), enemy=[(k, SHIELD, -20) for k in range(5)])
    assert paid("3s_vs_5z", frame, change(frame, enemy=[(k, SHIELD, 2) for k in range(5)]))[0] == pytest.approx(0.2)
    mixed = change(frame, enemy=[(0, HEALTH, -10)] + [(k, SHIELD, 3) for k in range(1, 5)])
    assert paid("3s_vs_5z", frame, mixed)[0] == pytest.approx(abs(10 - 12) / 50)


def test_a_loss_is_rewarded_for_damage_only():
    frame = units("3m")
    after = change(frame, ally=[(k, HEALTH, -45) for k in range(3)], enemy=[(0, HEALTH, -6)])
    assert paid("3m", frame, after) == (pytest.approx(6 * 20 / 365), LOST)
    value, terminated, won, dead_allies, dead_enemies = (x[0] for x in reward("3m", *frame, *after))
    assert (value, terminated, won, dead_allies, dead_enemies) == (pytest.approx(6 * 20 / 365), True, False, 3, 0)


def test_a_draw_is_not_a_win():
    frame = units("3m")
    after = change(frame, ally=[(k, HEALTH, -45) for k in range(3)], enemy=[(k, HEALTH, -45) for k in range(3)])
    assert paid("3m", frame, after) == (pytest.approx(165 * 20 / 365), DRAWN)
    assert [x[0] for x in reward("3m", *frame, *after)][1:3] == [True, False]


@pytest.mark.parametrize(
    ("allies", "enemies", "outcome"),
    [
        ([9], range(10), LOST),  # only the own Medivac
        ([9], [], LOST),  # also when no enemy is left
        ([], [], LOST),  # or no unit at all
        ([9], [9], LOST),
        ([0], [9], WON),  # only the enemy's Medivac
        ([0], [], WON),
        ([0], [8], ONGOING),  # one enemy, but a marauder
        ([0], [0, 9], ONGOING),
        ([0, 9], range(10), ONGOING),
    ],
)
def test_only_a_medivac_left(allies, enemies, outcome):
    frame = units("MMM")
    after = change(frame)
    after[0][0, [k not in allies for k in range(10)], HEALTH] = 0
    after[1][0, [k not in enemies for k in range(10)], HEALTH] = 0
    assert paid("MMM", frame, after)[1] == outcome


def test_rewards_that_are_not_the_default():
    frame = units("3m")
    hurt = change(frame, ally=[(0, HEALTH, -45), (1, HEALTH, -6)])
    assert paid("3m", frame, hurt, RewardConfig(scale=1.0, only_positive=False))[0] == -30.5
    assert paid("3m", frame, change(hurt, enemy=[(0, HEALTH, -45)]), RewardConfig(scale=1.0, only_positive=False))[0] == 55 - 30.5
    dead = [(k, HEALTH, -45) for k in range(3)]
    assert paid("3m", frame, change(frame, ally=dead), RewardConfig(scale=2.0, defeat=-50.0)) == (-25, LOST)
    sparse = RewardConfig(scale=365 / 20, sparse=True)
    for ally, enemy, value in ((dead, [], -1), ([], dead, 1), (dead, dead, 0), ([], dead[:1], 0)):
        assert paid("3m", frame, change(frame, ally=ally, enemy=enemy), sparse)[0] == pytest.approx(value * 20 / 365)


@pytest.mark.parametrize("name", ["3m", "MMM", "2s3z"])
@pytest.mark.parametrize("only_positive", [True, False])
def test_bookkeeping_of_whole_battles(name, only_positive):
    """Frames in which units are hurt, healed, die and keep their last shield, against SMAC's sums in plain Python."""
    m, rng, num_envs = find_map(name), np.random.default_rng(3), 40
    full = np.array([[unit.health, unit.shield] for unit in m.units()])
    before = np.tile(np.concatenate(units(name), 1), (num_envs, 1, 1))
    deaths_counted, live, outcome = np.zeros((num_envs, m.n + m.m), bool), np.ones(num_envs, bool), np.full(num_envs, ONGOING)
    terms, tracker = default_reward_config(m)._replace(only_positive=only_positive), np.zeros((num_envs, m.n + m.m), bool)
    total, ends = np.zeros(num_envs), 0
    for _ in range(120):
        after = before.copy()
        after[..., HEALTH] = np.minimum(after[..., HEALTH] + rng.uniform(-12, 6, after.shape[:2]), full[:, 0]).clip(0)
        after[..., SHIELD] = (after[..., SHIELD] + rng.uniform(-6, 5, after.shape[:2])).clip(0, full[:, 1])
        dead = before[..., HEALTH] == 0
        after[dead] = before[dead]
        value = np.zeros(num_envs)
        fill_rewards(before, after, deaths_counted, live, scene(m), terms, value, outcome)
        for e in range(num_envs):
            if not live[e]:
                assert value[e] == 0
                continue
            theirs = own = deaths = 0.0
            for k in range(m.n + m.m):
                if not tracker[e, k]:
                    had, has = before[e, k, [HEALTH, SHIELD]].sum(), after[e, k, [HEALTH, SHIELD]].sum()
                    tracker[e, k] = after[e, k, HEALTH] == 0
                    loss = had if tracker[e, k] else had - has
                    own, theirs = (own + 0.5 * loss, theirs) if k < m.n else (own, theirs + loss)
                    deaths += tracker[e, k] * (10 if k >= m.n else 0 if only_positive else -5)
            expected = abs(theirs + deaths) if only_positive else theirs + deaths - own
            assert value[e] == pytest.approx((expected + 200 * (outcome[e] == WON)) / terms.scale, abs=1e-9)
        assert (deaths_counted == tracker).all()
        total += value
        ends += (outcome[live] != ONGOING).sum()
        live &= outcome == ONGOING
        before = after
    assert ends > 30
    assert {LOST, WON} <= set(outcome.tolist())


# --- mistakes


def test_wrong_arrays_are_refused():
    allies, enemies, last = some_frames("3m", 4)
    with pytest.raises(UserError, match=r"no SMAC map '5m_vs_5m'; did you mean 5m_vs_6m"):
        observe("5m_vs_5m", allies, enemies, last)
    with pytest.raises(UserError, match=r"agents of shape \(4, 2, 6\): 3m has 3 agents, so \(frames, 3, 6\)"):
        observe("3m", allies[:, :2], enemies, last)
    with pytest.raises(UserError, match=r"enemies of shape \(3, 6\)"):
        observe("3m", allies, enemies[0], last)
    with pytest.raises(UserError, match="4 frames of the agents and 3 of the enemies"):
        observe("3m", allies, enemies[:3], last)
    with pytest.raises(UserError, match=r"last actions of shape \(4, 2\)"):
        observe("3m", allies, enemies, last[:, :2])
    with pytest.raises(UserError, match="4 frames before a step and 2 after it"):
        reward("3m", allies, enemies, allies[:2], enemies[:2])


def test_fill_observations_writes_every_number():
    """The given arrays may hold anything."""
    m = find_map("2s3z")
    allies, enemies, last = some_frames("2s3z", 5)
    frame, out = np.concatenate([allies, enemies], 1), []
    for value in (7, 0):
        obs, state = np.full((5, m.n, m.obs), value, np.float32), np.full((5, m.state), value, np.float32)
        avail = np.full((5, m.n, m.actions), value, bool)
        fill_observations(frame, last, scene(m), obs, state, avail)
        out.append((obs, state, avail))
    for a, b in zip(*out, strict=True):
        assert (a == b).all()
