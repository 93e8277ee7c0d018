"""SMAC's battles as environments: many in parallel, and one with SMAC's class."""

import copy
import inspect
from pathlib import Path

import numpy as np
import pytest
import torch

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.envs.smac import StarCraft2Env
from inspo_benchmark.envs.smac.maps import MAPS, find_map, ground
from inspo_benchmark.envs.smac.simulator import HEALTH, X, Y
from inspo_benchmark.envs.smac.starcraft2env import TERRAIN_HEIGHT, Heuristic
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.envs.smac.views import NO_ACTION
from support.frames import observe, reward, some_frames

RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "smac_conformance"
STOP, ATTACK = 1, 6


def some_available(avail: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(avail, rng.random(avail.shape), -1).argmax(-1)


def battle(env: StarCraft2Env, seed: int = 0, limit: int | None = None):
    """Play random available actions to the end: [(reward, terminated, info)]."""
    rng, out = np.random.default_rng(seed), []
    env.reset()
    while not out or (not out[-1][1] and len(out) != limit):
        out.append(env.step(some_available(np.array(env.get_avail_actions(), bool), rng).tolist()))
    return out


# --- many battles


@pytest.mark.parametrize("name", MAPS)
def test_shapes_and_types(name):
    m, env = find_map(name), Smac(name, 2)
    first, step = env.reset([0, 1]), env.step(np.full((2, m.n), STOP))
    for observation in (first, step.observation):
        assert [(x.shape, x.dtype) for x in observation] == [
            ((2, m.n, m.obs), np.float32),
            ((2, m.state), np.float32),
            ((2, m.n, m.actions), bool),
        ]
    assert [x.dtype for x in (step.rewards, step.terminated, step.truncated, step.info["won"])] == [np.float64, bool, bool, bool]
    assert step.rewards.shape == step.terminated.shape == step.truncated.shape == step.info["won"].shape == (2,)


@pytest.mark.parametrize("name", ["3m", "MMM", "3s_vs_5z"])
def test_environments_are_independent_battles(name):
    """Bit for bit, beyond the end of the shorter ones."""
    seeds = [3, 0, 11]
    together, alone, rng = Smac(name, 3), [Smac(name, 1) for _ in seeds], np.random.default_rng(0)
    observation, _ = together.reset(seeds), [env.reset([seed]) for env, seed in zip(alone, seeds, strict=True)]
    for _ in range(together.limit + 2):
        act = some_available(observation.avail, rng)
        step, singles = together.step(act), [env.step(act[e : e + 1]) for e, env in enumerate(alone)]
        observation = step.observation
        for e, single in enumerate(singles):
            for a, b in zip(single.observation, observation, strict=True):
                assert (a[0] == b[e]).all()
            assert (single.rewards[0], single.terminated[0], single.truncated[0]) == (
                step.rewards[e],
                step.terminated[e],
                step.truncated[e],
            )
            assert single.info["won"][0] == step.info["won"][e]
    assert (step.terminated | step.truncated).all()


@pytest.mark.parametrize("name", ["3m", "MMM", "2s3z", "6h_vs_8z", "so_many_baneling"])
def test_whole_episodes_follow_from_their_frames(name):
    """The frames of 25 battles, as observed and rewarded all at once: the same at every step."""
    m, env, rng = find_map(name), Smac(name, 25), np.random.default_rng(1)
    observation, last = env.reset(range(25)), np.full((25, m.n), NO_ACTION)
    before, over, ends = env.battles.frame.copy(), np.zeros(25, bool), 0
    for t in range(m.limit + 1):
        obs, state, avail, _ = observe(name, before[:, : m.n], before[:, m.n :], last)
        for a, b in zip(observation, (obs, state, avail), strict=True):
            np.testing.assert_array_equal(a, b)
        act = some_available(observation.avail, rng)
        observation, rewards, terminated, truncated, info = env.step(act)
        after = env.battles.frame.copy()
        expected, ended, won, *_ = reward(name, before[:, : m.n], before[:, m.n :], after[:, : m.n], after[:, m.n :])
        np.testing.assert_array_equal(rewards, np.where(over, 0, expected))
        np.testing.assert_array_equal(terminated[~over], ended[~over])
        np.testing.assert_array_equal(truncated[~over], ~ended[~over] & (t + 1 >= m.limit))
        np.testing.assert_array_equal(info["won"][~over], won[~over])
        last = np.where(over[:, None], last, act)
        ends += (~over & (terminated | truncated)).sum()
        over, before = terminated | truncated, after
    assert ends == 25


def test_an_episode_that_is_over_does_not_change():
    env, rng = Smac("3m", 8), np.random.default_rng(0)
    observation, over, held = env.reset(range(8)), np.zeros(8, bool), {}
    for _ in range(70):
        act = some_available(observation.avail, rng)
        act[over] = 8  # any action
        step = env.step(act)
        observation = step.observation
        for e in np.flatnonzero(step.terminated | step.truncated):
            now = [x[e].copy() for x in (*observation, step.terminated, step.truncated, step.info["won"], env.battles.frame)]
            for a, b in zip(now, held.setdefault(e, now), strict=True):
                assert (a == b).all()
            assert step.rewards[e] == 0 or not over[e]
        over = step.terminated | step.truncated
    assert len(held) == 8


def test_old_observations_do_not_change():
    env = Smac("3m", 2)
    first = env.reset([0, 1])
    copies = [x.copy() for x in first]
    first_step = env.step(np.full((2, 3), STOP))
    rewards = first_step.rewards.copy()
    first_step.observation.avail[:] = True  # the caller's array
    with pytest.raises(AssertionError, match="Agent 0 cannot perform action 0"):
        env.step(np.zeros((2, 3), int))
    env.step(np.full((2, 3), STOP))
    for a, b in zip(first, copies, strict=True):
        assert (a == b).all()
    assert (first_step.rewards == rewards).all()


def test_the_time_limit_truncates():
    """On 2s_vs_1sc there is no fight unless the agents start it."""
    env = Smac("2s_vs_1sc", 1)
    env.reset([0])
    steps = [env.step(np.array([[STOP, STOP]])) for _ in range(300)]
    assert [step.truncated[0] for step in steps] == [False] * 299 + [True]
    assert not any(step.terminated[0] or step.info["won"][0] for step in steps)


@pytest.mark.parametrize(("dead", "won"), [([3, 4, 5], True), ([0, 1, 2], False), (range(6), False)])
def test_an_end_at_the_time_limit_is_an_end(dead, won):
    env = Smac("3m", 1)
    env.reset([0])
    env.t = env.limit - 1
    env.battles.frame[0, list(dead), HEALTH] = 0
    env.avail[:] = True
    step = env.step(np.array([[STOP] * 3]))
    assert (step.terminated[0], step.truncated[0], step.info["won"][0]) == (True, False, won)


def test_seeds_decide():
    def episode(seed):
        env, rng = Smac("5m_vs_6m", 1), np.random.default_rng(0)
        observation, out = env.reset([seed]), []
        for _ in range(30):
            observation = env.step(some_available(observation.avail, rng)).observation
            out.append(observation.state)
        return np.array(out)

    assert (episode(4) == episode(4)).all()
    assert (episode(4) != episode(5)).any()


def test_unavailable_actions_are_refused():
    env = Smac("3m", 2)
    env.reset([0, 1])
    for act, message in (
        ([[STOP] * 3, [STOP, 0, STOP]], "Agent 1 cannot perform action 0"),
        ([[STOP, STOP, ATTACK], [STOP] * 3], "Agent 2 cannot perform action 6"),
        ([[99, STOP, STOP], [STOP] * 3], "Agent 0 cannot perform action 99"),
        ([[-1, STOP, STOP], [STOP] * 3], "Agent 0 cannot perform action -1"),
    ):
        with pytest.raises(AssertionError, match=f"^{message}$"):
            env.step(np.array(act))


def test_unknown_maps_are_refused():
    for make in (lambda: Smac("3s_vs_6z", 1), lambda: StarCraft2Env("3s_vs_6z")):
        with pytest.raises(UserError, match="no SMAC map '3s_vs_6z'; did you mean 3s_vs_"):
            make()
    with pytest.raises(UserError, match="no unit data 'lotw'; did you mean lotv"):
        StarCraft2Env("3m", profile="lotw")


# --- SMAC's own class


def test_the_signature_is_smacs():
    defaults = {name: p.default for name, p in inspect.signature(StarCraft2Env).parameters.items()}
    assert list(defaults.items()) == list(
        dict(
            map_name="8m", step_mul=8, move_amount=2, difficulty="7", game_version=None, seed=None, continuing_episode=False,
            obs_all_health=True, obs_own_health=True, obs_last_action=False, obs_pathing_grid=False, obs_terrain_height=False,
            obs_instead_of_state=False, obs_timestep_number=False, state_last_action=True, state_timestep_number=False,
            reward_sparse=False, reward_only_positive=True, reward_death_value=10, reward_win=200, reward_defeat=0,
            reward_negative_scale=0.5, reward_scale=True, reward_scale_rate=20, replay_dir="", replay_prefix="", window_size_x=1920,
            window_size_y=1200, heuristic_ai=False, heuristic_rest=False, debug=False, profile="liberty",
        ).items()
    )  # fmt: skip


@pytest.mark.parametrize("name", ["3m", "MMM", "2c_vs_64zg"])
def test_types_of_what_is_returned(name):
    env = StarCraft2Env(map_name=name)
    m, (obs, state) = find_map(name), env.reset()
    assert type(obs) is list
    assert [(x.shape, x.dtype) for x in [*obs, state]] == [((m.obs,), np.float32)] * m.n + [((m.state,), np.float32)]
    avail = env.get_avail_actions()
    assert [[type(x) for x in row] for row in avail] == [[int] * m.actions] * m.n
    assert env.get_avail_agent_actions(1) == avail[1]
    assert (env.get_obs_agent(1) == obs[1]).all()
    value, terminated, info = env.step([STOP] * m.n)
    assert (type(value), type(terminated)) == (float, bool)
    assert {key: type(x) for key, x in info.items()} == dict(battle_won=bool, dead_allies=int, dead_enemies=int)
    assert env.get_visibility_matrix().shape == (m.n, m.n + m.m)
    assert env.get_visibility_matrix().dtype == bool
    assert env.get_obs()[0] is not env.get_obs()[0]
    env.get_obs()[0][:] = 7
    env.get_state()[:] = 7
    assert max(x.max() for x in [*env.get_obs(), env.get_state()]) < 7
    env.close()


def test_env_info_and_attributes():
    env = StarCraft2Env("2s3z")
    assert env.get_env_info() == dict(
        state_shape=120,
        obs_shape=80,
        n_actions=11,
        n_agents=5,
        episode_limit=120,
        agent_features=["health", "energy/cooldown", "rel_x", "rel_y", "shield", "type_0", "type_1"],
        enemy_features=["health", "rel_x", "rel_y", "shield", "type_0", "type_1"],
    )
    assert (env.n_agents, env.n_enemies, env.n_actions, env.get_total_actions(), env.episode_limit) == (5, 5, 11, 11, 120)
    assert (env.map_type, env.unit_type_bits, env.shield_bits_ally, env.shield_bits_enemy) == ("stalkers_and_zealots", 2, 1, 1)
    assert (env.map_x, env.map_y, env.max_distance_x, env.max_distance_y, env.max_reward) == (32, 32, 28, 28, 1020)
    assert (env.n_actions_no_attack, env.n_actions_move) == (6, 4)
    assert StarCraft2Env("6h_vs_8z").get_env_info()["agent_features"] == ["health", "energy/cooldown", "rel_x", "rel_y"]
    assert (env.get_ally_num_attributes(), env.get_enemy_num_attributes()) == (7, 6)


@pytest.mark.parametrize("name", MAPS)
def test_agents_are_in_smacs_order(name):
    env = StarCraft2Env(name)
    env.reset()
    keys = [(unit.unit_type, unit.pos.x, unit.pos.y) for unit in env.agents.values()]
    assert keys == sorted(keys)
    assert len(set(keys)) == env.n_agents


def test_units_under_their_names_in_the_game():
    env = StarCraft2Env("MMM", seed=0)
    env.reset()
    agents, enemies = list(env.agents.values()), list(env.enemies.values())
    assert list(env.agents) == list(env.enemies) == list(range(10))
    assert [u.unit_type - agents[0].unit_type for u in agents] == [0] * 2 + [1] * 7 + [2]
    assert [u.unit_type for u in enemies] == [48] * 7 + [51] * 2 + [54]
    assert env.get_unit_types() == [u.unit_type for u in agents + enemies]
    assert len({u.tag for u in agents + enemies}) == 20
    medivac = env.get_unit_by_id(9)
    assert (medivac.health, medivac.health_max, medivac.shield, medivac.shield_max, medivac.energy) == (150, 150, 0, 0, 50)
    zealot = StarCraft2Env("3s_vs_5z").enemies[0]
    assert (zealot.health_max, zealot.shield_max) == (100, 50)

    before = copy.deepcopy(env.agents)
    env.step([4] * 9 + [STOP])
    assert env.agents[2].pos.x == before[2].pos.x + 1.125
    assert env.agents[2].pos.y == before[2].pos.y
    state = env.get_state_dict()["allies"]
    assert state[2, 2] == pytest.approx((env.agents[2].pos.x - 16) / 28)


def test_unit_types_before_the_first_episode():
    env = StarCraft2Env("MMM")
    with pytest.warns(UserWarning, match=r"call reset\(\)"):
        assert env.get_unit_types() is None


def test_questions_about_units():
    env = StarCraft2Env("2s3z")
    env.reset()
    stalker, zealot, enemies = env.agents[0], env.agents[4], env.enemies
    assert (env.unit_sight_range(0), env.unit_shoot_range(4)) == (9, 6)
    assert [env.unit_max_cooldown(unit) for unit in (stalker, zealot, *enemies.values())] == [35, 22] + [15] * 5
    assert [env.unit_max_shield(unit) for unit in (stalker, zealot)] == [80, 50]
    assert [env.get_unit_type_id(unit, True) for unit in (stalker, zealot)] == [0, 1]
    assert {(env.get_unit_type_id(unit, False), unit.unit_type) for unit in enemies.values()} == {(0, 73), (1, 74)}
    assert StarCraft2Env("3m").unit_max_shield(StarCraft2Env("3m").agents[0]) is None
    assert StarCraft2Env.distance(1, 2, 4, 6) == 5
    assert [env.check_bounds(*point) for point in ((0, 31), (-1, 0), (0, 32))] == [True, False, False]


@pytest.mark.parametrize("name", ["corridor", "2s3z"])
def test_a_unit_can_move_where_a_move_is_available(name):
    for k in range(4):
        env = shown(name, k)
        for unit, avail in zip(env.agents.values(), env.get_avail_actions(), strict=True):
            assert [env.can_move(unit, way) for way in range(4)] == avail[2:6] or not unit.health


def test_an_episode_ends_in_the_books():
    env = StarCraft2Env("3m", seed=1)
    assert env.get_stats() == dict(battles_won=0, battles_game=0, battles_draw=0, win_rate=0, timeouts=0, restarts=0)
    env.reset()
    env.game.battles.frame[0, 3:, HEALTH] = 0
    value, terminated, info = env.step([STOP] * 3)
    assert (value, terminated) == ((3 * 10 + 200) / (365 / 20), True)
    assert info == dict(battle_won=True, dead_allies=0, dead_enemies=3)
    assert env.death_tracker_enemy.tolist() == [1, 1, 1]
    assert env.death_tracker_ally.tolist() == [0, 0, 0]
    env.reset()
    assert not env.death_tracker_enemy.any()
    env.game.battles.frame[0, :2, HEALTH] = 0
    assert env.step([STOP] * 3)[1:] == (False, dict(battle_won=False, dead_allies=2, dead_enemies=0))
    assert env.get_avail_actions()[0] == [1] + [0] * 8
    assert env.death_tracker_ally.tolist() == [1, 1, 0]
    env.game.battles.frame[0, :3, HEALTH] = 0
    assert env.step([0, 0, STOP]) == (0, True, dict(battle_won=False, dead_allies=3, dead_enemies=0))
    assert env.get_stats() == dict(battles_won=1, battles_game=2, battles_draw=0, win_rate=0.5, timeouts=0, restarts=0)
    env.reset()
    env.game.battles.frame[0, :, HEALTH] = 0
    assert env.step([STOP] * 3)[1:] == (True, dict(battle_won=False, dead_allies=3, dead_enemies=3))
    assert env.get_stats() == dict(battles_won=1, battles_game=3, battles_draw=0, win_rate=1 / 3, timeouts=0, restarts=0)


@pytest.mark.parametrize("continuing", [False, True])
def test_time_is_up(continuing):
    env = StarCraft2Env("2s_vs_1sc", continuing_episode=continuing)
    env.reset()
    steps = [env.step([STOP, STOP]) for _ in range(300)]
    assert [terminated for _, terminated, _ in steps] == [False] * 299 + [True]
    assert steps[-1][2] == dict(battle_won=False, dead_allies=0, dead_enemies=0) | (dict(episode_limit=True) if continuing else {})
    assert "episode_limit" not in steps[-2][2]
    assert env.get_stats() == dict(battles_won=0, battles_game=1, battles_draw=1, win_rate=0, timeouts=1, restarts=0)


def test_mistakes_are_explained():
    env = StarCraft2Env("3m")
    for call in (env.get_obs, env.get_state, env.get_avail_actions):
        with pytest.raises(UserError, match=r"before the first episode: call reset\(\)"):
            call()
    with pytest.raises(UserError, match=r"no episode is running: call reset\(\)"):
        env.step([STOP] * 3)
    env.reset()
    with pytest.raises(AssertionError, match=r"^Agent 2 cannot perform action 6$"):
        env.step([STOP, STOP, ATTACK])
    with pytest.raises(AssertionError, match=r"^Agent 0 cannot perform action 0$"):
        env.step([0, STOP, STOP])
    with pytest.raises(UserError, match="2 actions for 3 agents"):
        env.step([STOP, STOP])
    env.step([STOP] * 3)  # nothing has happened to the episode
    battle(env)
    with pytest.raises(UserError, match="no episode is running"):
        env.step([STOP] * 3)
    for kwargs, message in (
        (dict(step_mul=4), "step_mul=4: the simulator knows step_mul=8 only"),
        (dict(move_amount=1.5), "move_amount=1.5: the simulator knows move_amount=2 only"),
        (dict(seed=-1), "seed=-1: write an integer of at least 0"),
        (dict(seed=1.5), "seed=1.5: write an integer of at least 0"),
        (dict(seed="a"), "seed='a': write an integer of at least 0"),
        (dict(seed=2**64), "seed=18446744073709551616: the largest one is"),
    ):
        with pytest.raises(UserError, match=message):
            StarCraft2Env("3m", **kwargs)
    with pytest.warns(UserWarning, match="only the real game writes replays"):
        env.save_replay()
    with pytest.warns(UserWarning, match="opens no window"):
        env.render()


def test_a_seed_is_a_sequence_of_episodes():
    def rewards(env):
        return [[value for value, *_ in battle(env, seed=k)] for k in range(3)]

    one, same, other = (StarCraft2Env("3m", seed=seed) for seed in (7, 7, 8))
    first = rewards(one)
    assert first == rewards(same)
    assert first != rewards(other)
    assert first != rewards(one)  # the episodes after these
    drawn = StarCraft2Env("3m")
    assert rewards(drawn) == rewards(StarCraft2Env("3m", seed=drawn.seed()))
    assert drawn.seed() != StarCraft2Env("3m").seed()


# --- its flags


@pytest.mark.parametrize(
    ("flags", "obs", "state"),
    [
        (dict(), 80, 120),
        (dict(obs_last_action=True), 124, 120),
        (dict(obs_pathing_grid=True), 88, 120),
        (dict(obs_terrain_height=True), 89, 120),
        (dict(obs_all_health=False), 62, 120),
        (dict(obs_own_health=False), 80, 120),
        (dict(obs_all_health=False, obs_own_health=False), 60, 120),
        (dict(state_last_action=False), 80, 65),
        (dict(state_timestep_number=True), 80, 121),
        (dict(obs_instead_of_state=True), 80, 400),
    ],
)
def test_sizes_with_flags(flags, obs, state):
    env = StarCraft2Env("2s3z", **flags)
    o, s = env.reset()
    assert (env.get_obs_size(), env.get_state_size()) == (obs, state)
    assert [(x.shape, x.dtype) for x in [*o, s]] == [((obs,), np.float32)] * 5 + [((state,), np.float32)]


def test_the_timestep_in_observations():
    """SMAC declares one number, and appends two: a zero of the agent's own and the time, in float64."""
    env = StarCraft2Env("3m", obs_timestep_number=True, state_timestep_number=True)
    env.reset()
    env.step([STOP] * 3)
    env.game.battles.frame[0, 0, HEALTH] = 0
    env.step([STOP] * 3)
    assert env.get_obs_size() == 31
    assert [(len(x), x.dtype, x[30], x[31]) for x in env.get_obs()] == [(32, np.float64, 0, 2 / 60)] * 3
    assert not env.get_obs()[0][:31].any()
    assert env.get_state()[-1] == np.float32(2 / 60)
    assert env.get_state_dict()["timestep"] == 2 / 60


def shown(name: str, k: int, **flags) -> StarCraft2Env:
    """An environment that shows the random frame k of a map."""
    env = StarCraft2Env(name, **flags)
    env.reset()
    allies, enemies, last = some_frames(name, k + 1)
    frame, last = np.concatenate([allies, enemies], 1)[k], last[k].clip(0)

    def advance(act, live):
        env.game.battles.frame[0] = frame

    env.game.battles.advance = advance
    env.game.avail[:] = True
    env.step(last.tolist())
    return env


@pytest.mark.parametrize("name", ["2s3z", "MMM", "6h_vs_8z"])
@pytest.mark.parametrize("k", range(4))
def test_flags_change_parts_of_the_observation(name, k):
    m, free, plain = find_map(name), ground(name), shown(name, k)
    env = shown(name, k, obs_last_action=True, obs_pathing_grid=True, obs_terrain_height=True, obs_all_health=False, obs_own_health=False)
    own, foe, bits = 1 + m.ally_shield, 1 + m.enemy_shield, len(m.types)
    for i, (full, flagged) in enumerate(zip(plain.get_obs(), env.get_obs(), strict=True)):
        me, parts = env.agents[i], iter(full)
        x, y = int(me.pos.x), int(me.pos.y)
        points = [(x, y + 4), (x, y - 4), (x + 4, y), (x - 4, y), (x + 2, y + 2), (x - 2, y - 2), (x + 2, y - 2), (x - 2, y + 2)]

        def around(points, value, alive=me.health > 0):
            return [(value(a, b) if 0 <= a < 32 and 0 <= b < 32 else 1) * alive for a, b in points]

        def take(count, parts=parts):
            return [next(parts) for _ in range(count)]

        expected = take(4) + around(points, lambda a, b: free[a, b]) + around([*points, (x, y)], lambda a, b: TERRAIN_HEIGHT)
        for _ in range(m.m):
            expected += take(4)
            take(foe)
            expected += take(bits)
        for j in range(m.n):
            if j != i:
                slot = take(4)
                expected += slot
                take(own)
                expected += take(bits) + (env.last_action[j] * slot[0]).tolist()
        take(own)
        expected += take(bits)
        assert flagged.tolist() == np.array(expected, np.float32).tolist()
    assert len(flagged) == env.get_obs_size()
    instead = shown(name, k, obs_instead_of_state=True)
    assert (instead.get_state() == np.concatenate(instead.get_obs())).all()
    assert (shown(name, k, state_last_action=False).get_state() == plain.get_state()[: -m.n * m.actions]).all()


@pytest.mark.parametrize("name", ["2s3z", "MMM"])
def test_the_state_in_parts(name):
    env = shown(name, 0)
    parts = env.get_state_dict()
    assert parts.keys() == {"allies", "enemies", "last_action"}
    assert all(x.dtype == np.float64 for x in parts.values())
    assert [len(x) for x in parts.values()] == [env.n_agents, env.n_enemies, env.n_agents]
    assert (np.concatenate([x.ravel() for x in parts.values()]).astype(np.float32) == env.get_state()).all()


@pytest.mark.parametrize(
    "name",
    sorted(path.stem for path in RECORDINGS.glob("*.npz"))
    or [pytest.param("", marks=pytest.mark.skip(reason="no recordings next to the repository"))],
)
def test_recorded_steps(name):
    """A step after a reset, between recorded frames: what SMAC's class returned."""
    d, env, state = np.load(RECORDINGS / f"{name}.npz", allow_pickle=False), StarCraft2Env(name), {}
    battles = env.game.battles

    def put(when):
        battles.frame[0] = np.concatenate([d[f"step_allies{when}"], d[f"step_enemies{when}"]], 1)[state["k"]]

    battles.spawn, battles.advance = lambda seeds, starts: put(0), lambda act, live: put(1)
    for state["k"] in range(0, 150, 3):
        env.reset()
        k = state["k"]
        value, terminated, info = env.step(d["step_actions"][k].tolist())
        assert value == pytest.approx(d["step_reward"][k], abs=1e-6)
        assert terminated == d["step_terminated"][k]
        assert info == {key: d[f"step_{short}"][k] for key, short in zip(info, ("won", "dead_allies", "dead_enemies"), strict=True)}
        assert (env.last_action.argmax(1) == d["step_actions"][k]).all()


def test_rewards_that_are_not_the_default():
    def step(**flags):
        """Kills an agent, hurts another, kills an enemy."""
        env = StarCraft2Env("3m", **flags)
        env.reset()
        frame = env.game.battles.frame[0]

        def advance(act, live):
            frame[0, HEALTH], frame[1, HEALTH], frame[3, HEALTH] = 0, 39, 0

        env.game.battles.advance = advance
        return env.step([STOP] * 3)[0], env

    assert step(reward_scale=False)[0] == 55
    assert step(reward_scale=False, reward_only_positive=False)[0] == 55 - 30.5
    assert step(reward_scale=False, reward_only_positive=False, reward_negative_scale=1.0)[0] == 55 - 51 - 10
    value, env = step(reward_death_value=20, reward_win=100, reward_scale_rate=10)
    assert env.max_reward == 3 * 20 + 100 + 3 * 45
    assert value == 65 / (env.max_reward / 10)
    value, env = step(reward_sparse=True)
    assert value == 0
    assert not env.death_tracker_enemy.any()
    env.game.battles.advance = lambda act, live: env.game.battles.frame[0].__setitem__((slice(3, 6), HEALTH), 0)
    assert env.step([0, STOP, STOP])[:2] == (1 / (365 / 20), True)


# --- SMAC's heuristic


def in_plain_python(name: str, frames: list, avail: np.ndarray, rest: bool) -> list[list[int]]:
    """The heuristic's actions on consecutive frames (allies, enemies)."""
    kinds, full = find_map(name).ally_roster, [unit.health for unit in find_map(name).units()]
    target, out = {}, []
    for (allies, enemies), can in zip(frames, avail, strict=True):
        row = []
        for i, me in enumerate(allies):
            heals = kinds[i] == "medivac"
            team = allies if heals else enemies
            wanted = [j for j, u in enumerate(team) if u[HEALTH] > 0 and not (heals and (kinds[j] == "medivac" or u[HEALTH] == full[j]))]
            if target.get(i) not in wanted:
                near = sorted((np.hypot(team[j][X] - me[X], team[j][Y] - me[Y]), j) for j in wanted)
                target[i] = near[0][1] if near and near[0][0] < np.hypot(28, 28) else None
            t = target[i]
            action = 0 if t is None else 6 + t
            if t is not None and rest and not can[i, action]:
                dx, dy = team[t][X] - me[X], team[t][Y] - me[Y]
                action = (4 if dx > 0 else 5) if abs(dx) > abs(dy) else (2 if dy > 0 else 3)
            row.append(action)
        out.append(row)
    return out


@pytest.mark.parametrize("name", ["3m", "2s3z", "MMM", "corridor", "bane_vs_bane"])
@pytest.mark.parametrize("rest", [False, True])
def test_the_heuristic_in_words(name, rest):
    """On frames that follow upon each other: targets are kept until they are dead, or healed."""
    allies, enemies, last = some_frames(name, 60)
    rng = np.random.default_rng(2)
    full = np.array([unit.health for unit in find_map(name).units()])[: allies.shape[1]]
    allies[..., HEALTH] = np.where(rng.random(allies.shape[:2]) < 0.4, full, allies[..., HEALTH])
    allies[::2, ..., HEALTH], enemies[1::2, ..., HEALTH] = allies[1::2, ..., HEALTH], enemies[::2, ..., HEALTH]
    avail = observe(name, allies, enemies, last)[2]
    heuristic, frame = Heuristic(find_map(name), rest), np.concatenate([allies, enemies], 1)
    ours = [heuristic(f, can) for f, can in zip(frame, avail, strict=True)]
    assert ours == in_plain_python(name, list(zip(allies.tolist(), enemies.tolist(), strict=True)), avail, rest)
    assert any(2 <= a <= 5 for row in ours for a in row) == rest


def test_ties_go_north_or_south():
    frame = np.zeros((6, 6))
    frame[:, HEALTH] = 45
    frame[:3, [X, Y]], frame[3:, [X, Y]] = 5, 15
    assert Heuristic(find_map("3m"), rest=True)(frame, np.zeros((3, 9), bool)) == [2, 2, 2]
    frame[3:, [X, Y]] = 5, -5
    assert Heuristic(find_map("3m"), rest=True)(frame, np.zeros((3, 9), bool)) == [3, 3, 3]


def test_the_heuristic_acts_for_the_caller():
    """The caller's list is overwritten; the state shows what the caller gave. Attacks from afar need not be available."""
    env = StarCraft2Env("8m", heuristic_ai=True, seed=0)
    env.reset()
    assert not np.array(env.get_avail_actions())[:, ATTACK:].any()
    for actions in ([STOP] * 8, np.full(8, STOP), torch.full((8,), STOP)):
        env.step(actions)
        assert all(a >= ATTACK for a in actions)
    assert (env.last_action.argmax(1) == STOP).all()
    assert env.get_state()[-8 * 14 :].reshape(8, 14).argmax(1).tolist() == [STOP] * 8
    terminated = False
    while not terminated:
        _, terminated, info = env.step([STOP] * 8)
    assert info["battle_won"]  # eight that shoot beat eight that come one after the other


def test_the_heuristic_may_be_kept_to_what_is_available():
    env = StarCraft2Env("8m", heuristic_ai=True, heuristic_rest=True, seed=0)
    env.reset()
    terminated = False
    taken = set()
    while not terminated:
        actions, avail = [STOP] * 8, env.get_avail_actions()
        _, terminated, _ = env.step(actions)
        assert all(a < ATTACK or can[a] for can, a in zip(avail, actions, strict=True) if can[0] == 0)
        taken |= set(actions)
    assert 4 in taken  # they walk east
    assert max(taken) >= ATTACK
