"""SMACv2's scenarios: against recordings of SMACv2, and its rules one by one."""

import inspect
import math
import random
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.envs.smac import StarCraft2Env as SmacEnv
from inspo_benchmark.envs.smac import StarCraftCapabilityEnvWrapper
from inspo_benchmark.envs.smac.maps import BOTH, MAP_SIZE, PLAYABLE, REFLECT, SCENARIOS, SURROUNDED, find_map
from inspo_benchmark.envs.smac.simulator import AIR, COOLDOWN, ENERGY, GROUND, HEALTH, SHIELD, SPAWN_GAP, Battles, X, Y
from inspo_benchmark.envs.smac.simulator import _passable as passable
from inspo_benchmark.envs.smac.smacv2 import EnemyMemory, StarCraft2Env
from inspo_benchmark.envs.smac.starts import Sources, Starts, draw, places, teams
from inspo_benchmark.envs.smac.units import LIBERTY, TYPES
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.envs.smac.views import (
    DRAWN,
    LOST,
    NO_ACTION,
    ONGOING,
    WON,
    default_reward_config,
    drawn_scene,
    fill_observations,
    fill_rewards,
)
from support.frames import observe, reward

RECORDINGS = Path(__file__).parents[3] / "shared" / "data" / "smacv2_conformance"
RECORDED = sorted(path.stem for path in RECORDINGS.glob("*_vs_*.npz"))
recorded = pytest.mark.parametrize(
    "name", RECORDED or [pytest.param("", marks=pytest.mark.skip(reason="the recordings are not next to the repository"))]
)
STOP, EAST, ATTACK = 1, 4, 6
FLAGS = dict(obs_own_pos=True, use_unit_ranges=True, min_attack_range=2)  # of SMACv2's published configurations
REACH = dict(marine=5, marauder=6, medivac=4, stalker=6, zealot=2, colossus=7, zergling=2, baneling=2, hydralisk=5)
SIGHT = dict(marine=9, marauder=10, medivac=11, stalker=10, zealot=9, colossus=10, zergling=8, baneling=8, hydralisk=9)
BITS = {race: SCENARIOS[f"{race}_5_vs_5"].types for race in ("protoss", "terran", "zerg")}
SIZES = {  # actions, then obs and state of terran and zerg, and of protoss
    (5, 5): (11, 82, 120, 92, 130),
    (10, 10): (16, 162, 290, 182, 310),
    (10, 11): (17, 170, 306, 191, 327),
    (20, 20): (26, 322, 780, 362, 820),
    (20, 23): (29, 346, 858, 389, 901),
}


def config(race: str = "terran", n: int = 5, m: int = 5, **changes) -> dict:
    """A capability configuration; changes to team_gen."""
    s = SCENARIOS[f"{race}_5_vs_5"]
    team = dict(dist_type="weighted_teams", unit_types=[*s.unit_types], weights=[*s.weights], observe=True)
    if s.exceptions:
        team["exception_unit_types"] = [*s.exceptions]
    start = dict(dist_type=BOTH, p=0.5, map_x=32, map_y=32)
    return dict(n_units=n, n_enemies=m, team_gen=team | changes, start_positions=start)


def wrapped(race: str = "terran", n: int = 5, m: int = 5, changes=(), seed: int | None = 0, **flags) -> StarCraftCapabilityEnvWrapper:
    capabilities = config(race, n, m, **dict(changes))
    return StarCraftCapabilityEnvWrapper(capability_config=capabilities, map_name=f"10gen_{race}", seed=seed, **FLAGS | flags)


def numbers(*names: str) -> np.ndarray:
    return np.array([[TYPES.index(name) for name in names]])


def frame_of(*units: tuple) -> np.ndarray:
    """(type, x, y) -> a frame [1, U, 6] of unhurt units."""
    rows = [[x, y, LIBERTY[name].health, LIBERTY[name].shield, 0, 50 * (name == "medivac")] for name, x, y in units]
    return np.array([rows], float)


def views(frame: np.ndarray, names: tuple, scenario=None, last=None):
    """obs [n, O], state, avail [n, A] of one frame."""
    s = scenario or find_map(f"{next(race for race, types in BITS.items() if names[0] in types)}_5_vs_5")
    obs, state = np.empty((1, s.n, s.obs), np.float32), np.empty((1, s.state), np.float32)
    avail = np.empty((1, s.n, s.actions), bool)
    fill_observations(frame, np.full((1, s.n), NO_ACTION) if last is None else last, drawn_scene(s, numbers(*names)), obs, state, avail)
    return obs[0], state[0], avail[0]


def duel(allies: list[tuple], enemies: list[tuple], **changes) -> Smac:
    """A running battle between these units (type, x, y) where they are."""
    race = next(race for race, types in BITS.items() if allies[0][0] in types)
    s = replace(SCENARIOS[f"{race}_5_vs_5"], n=len(allies), m=len(enemies), **changes)
    env, units = Smac(s, 1), allies + enemies
    env.reset([0], Starts(numbers(*(u[0] for u in units)), np.array([[u[1:] for u in units]], float)))
    return env


def random_actions(avail: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.where(avail, rng.random(avail.shape), -1).argmax(-1)


# --- recordings


@recorded
def test_recorded_frames_and_steps(name):
    d = np.load(RECORDINGS / f"{name}.npz", allow_pickle=False)
    types = [d["type_names"][d[f"{side}_types"]] for side in ("ally", "enemy")]
    obs, state, avail, visible = observe(name, d["allies"], d["enemies"], d["last_actions"], *types)
    np.testing.assert_allclose(obs, d["obs"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(state, d["state"], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(avail, d["avail"])
    np.testing.assert_array_equal(visible, d["visible"])
    types = [d["type_names"][d[f"step_{side}_types"]] for side in ("ally", "enemy")]
    paid, *others = reward(name, *(d[f"step_{key}"] for key in ("allies0", "enemies0", "allies1", "enemies1")), *types)
    np.testing.assert_allclose(paid, d["step_reward"], rtol=0, atol=1e-6)
    for key, value in zip(("terminated", "won", "dead_allies", "dead_enemies"), others, strict=True):
        np.testing.assert_array_equal(value, d[f"step_{key}"], err_msg=key)


def blanked(obs: np.ndarray, m: int, shown: np.ndarray) -> np.ndarray:
    """obs [n, O] without the enemies that are not shown [n, m]."""
    out = obs.copy()
    width = 8 + (obs.shape[1] in (92, 182))
    for row, seen in zip(out, shown, strict=True):
        row[4 : 4 + m * width].reshape(m, width)[~seen] = 0
    return out


@recorded
def test_recorded_frames_with_an_empty_memory(name):
    d, sight = np.load(RECORDINGS / f"{name}.npz", allow_pickle=False), np.array
    hidden = 0
    for k in range(len(d["obs"])):
        memory = EnemyMemory(5, 5, 1.0, True, random.Random(0).random)
        frame = np.concatenate([d["allies"][k], d["enemies"][k]]).astype(float)
        shown = memory.look(frame, sight([SIGHT[x] for x in d["type_names"][d["ally_types"][k]]]), d["order"][k])
        np.testing.assert_allclose(blanked(d["obs"][k], 5, shown), d["obs_fresh"][k], rtol=0, atol=1e-6)
        hidden += (d["obs_fresh"][k] != d["obs"][k]).any()
    assert hidden > 20


@recorded
def test_recorded_sequences(name):
    """The memory over steps in which finders and found enemies die, and rewards and states of whole sequences."""
    d = np.load(RECORDINGS / f"{name}.npz", allow_pickle=False)
    for k in range(len(d["seq_obs"])):
        memory = EnemyMemory(5, 5, 1.0, True, random.Random(0).random)
        types = [d["type_names"][d[f"seq_{side}_types"][k]] for side in ("ally", "enemy")]
        frames = d["seq_allies"][k], d["seq_enemies"][k]
        last = np.concatenate([np.full((1, 5), NO_ACTION), d["seq_actions"][k]])
        many = [np.tile(x, (11, 1)) for x in types]
        obs, state, avail, _ = observe(name, *frames, last, *many)
        np.testing.assert_allclose(state, d["seq_state"][k], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(avail, d["seq_avail"][k])
        paid, over, *_ = reward(name, *(x[:-1] for x in frames), *(x[1:] for x in frames), *(x[1:] for x in many))
        np.testing.assert_allclose(paid, d["seq_reward"][k], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(over, d["seq_terminated"][k])
        for t, frame in enumerate(np.concatenate(frames, 1).astype(float)):
            if t:
                memory.forget(frame)
            shown = memory.look(frame, np.array([SIGHT[x] for x in types[0]]), d["seq_order"][k, t])
            np.testing.assert_allclose(blanked(obs[t], 5, shown), d["seq_obs"][k, t], rtol=0, atol=1e-6)


SAMPLES = pytest.mark.skipif(not (RECORDINGS / "samplers.npz").exists(), reason="the recordings are not next to the repository")


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


@SAMPLES
@pytest.mark.parametrize("name", ["terran_5_5", "protoss_5_5", "zerg_5_5", "zerg_10_11", "terran_20_23"])
def test_recorded_teams(name):
    d, (race, n, m) = np.load(RECORDINGS / "samplers.npz", allow_pickle=False), name.split("_")
    seed = int(d[f"teams_{name}_seed"])
    sources = Sources(generator(seed), random.Random(seed).shuffle, *[None] * 4)
    for allies, enemies in zip(d[f"teams_{name}_allies"], d[f"teams_{name}_enemies"], strict=True):
        ours = teams(SCENARIOS[f"{race}_{n}_vs_{m}"], sources)
        assert ours == (d["type_names"][allies].tolist(), d["type_names"][enemies].tolist())


@SAMPLES
@pytest.mark.parametrize(
    ("name", "kind"), [("reflect_5_5", REFLECT), ("surrounded_5_5", SURROUNDED), ("both_5_5", BOTH), ("surrounded_20_23", SURROUNDED)]
)
def test_recorded_places(name, kind):
    d, (n, m) = np.load(RECORDINGS / "samplers.npz", allow_pickle=False), name.split("_")[1:]
    s = int(d[f"{name}_seed"])
    coin, surrounded, reflect, extras = {REFLECT: (0, 0, s, s + 1), SURROUNDED: (0, s, 0, 0), BOTH: (s + 2, s, s + 1, 0)}[kind]
    sources = Sources(None, None, *map(generator, (coin, surrounded, reflect, extras)))
    scenario = replace(SCENARIOS[f"terran_{n}_vs_{m}"], places=kind)
    for allies, enemies in zip(d[f"{name}_allies"], d[f"{name}_enemies"], strict=True):
        ours = places(scenario, sources)
        np.testing.assert_array_equal(ours[0], allies)
        np.testing.assert_array_equal(ours[1], enemies)


# --- observations and available actions


@pytest.mark.parametrize("name", SCENARIOS)
def test_sizes(name):
    s = find_map(name)
    actions, *others = SIZES[s.n, s.m]
    assert (s.actions, s.obs, s.state) == (actions, *(others[2:] if name.startswith("protoss") else others[:2]))
    assert len(SCENARIOS) == 15
    env, rng = Smac(name, 2), np.random.default_rng(0)
    observation = env.reset([0, 1])
    assert [x.shape for x in observation] == [(2, s.n, s.obs), (2, s.state), (2, s.n, s.actions)]
    for _ in range(3):
        observation = env.step(random_actions(observation.avail, rng)).observation
    assert np.isfinite(observation.obs).all()


def test_sizes_of_other_configurations():
    assert wrapped(n=np.int64(5), obs_own_pos=False).get_obs_size() == 80
    assert wrapped(n=10, m=5).n_actions == 16  # a Medivac heals ten agents
    assert wrapped("protoss", n=10, m=5).n_actions == 11
    assert wrapped("protoss", n=10, m=5).reset()[0][9].shape == (4 + 5 * 9 + 9 * 9 + 7,)
    plain = StarCraftCapabilityEnvWrapper(capability_config=config(), map_name="10gen_terran")
    plain.reset()
    assert plain.get_obs_size() == 80
    assert set(plain.env.game.scene.units["seen"].ravel()) == {9}
    assert set(plain.env.game.scene.units["reach"].ravel()) == {6}


@pytest.mark.parametrize(("race", "n", "m"), [("protoss", 20, 23), ("terran", 20, 23), ("terran", 10, 5)])
def test_nothing_is_written_outside_the_arrays(race, n, m):
    """Kernels do not check indices. All units see each other, and the last agent's last features and actions are in use."""
    s, margin = replace(SCENARIOS[f"{race}_20_vs_23"], n=n, m=m), 256
    names = [s.types[2 * (k in (n - 1, n + m - 1))] for k in range(n + m)]  # Medivacs or Colossi come last
    frame = frame_of(*((name, 15 + k / 50, 16) for k, name in enumerate(names)))
    sizes = [(4 * n * s.obs, "f4"), (4 * s.state, "f4"), (n * s.actions, "?")]
    buffers = [np.full(size + 2 * margin, 7, np.uint8) for size, _ in sizes]
    obs, state, avail = (buffer[margin:-margin].view(kind) for buffer, (_, kind) in zip(buffers, sizes, strict=True))
    obs, state, avail = obs.reshape(1, n, s.obs), state[None], avail.reshape(1, n, s.actions)
    fill_observations(frame, np.full((1, n), s.actions - 1), drawn_scene(s, numbers(*names)), obs, state, avail)
    assert all((np.delete(buffer, np.s_[margin:-margin]) == 7).all() for buffer in buffers)
    assert obs[0, -1, -3:].tolist() == [0, 0, 1]
    assert state[0, -1] == 1
    assert avail[0, 0, ATTACK : ATTACK + m].all()
    assert not avail[0, 0, ATTACK + m :].any()
    assert avail[0, -1, ATTACK:].sum() == (n - 1 if race == "terran" else m)


@pytest.mark.parametrize("name", REACH)
def test_an_attack_is_available_up_to_the_types_range(name):
    race = next(race for race, types in BITS.items() if name in types)
    other = BITS[race][0]
    names = (name, *[other] * 9)
    for distance, expected in ((REACH[name], True), (REACH[name] + 1e-4, False)):
        target = (other, 16, 16) if name != "medivac" else (other, 2, 28)
        friend = (other, 16, 16) if name == "medivac" else (other, 2, 28)
        frame = frame_of((name, 16 - distance, 16), friend, *[(other, 2, 2)] * 3, target, *[(other, 28, 28)] * 4)
        slot = 1 if name == "medivac" else 0
        obs, _, avail = views(frame, names)
        assert avail[0, ATTACK + slot] == expected
        assert avail[0, ATTACK:].sum() == expected
        if name != "medivac":
            assert obs[0, 4] == expected


@pytest.mark.parametrize("name", SIGHT)
def test_sight_is_the_observers(name):
    race = next(race for race, types in BITS.items() if name in types)
    other = BITS[race][0]
    width = 8 + (race == "protoss")
    for distance in (SIGHT[name] - 1e-4, SIGHT[name]):
        frame = frame_of((name, 5, 5), (other, 5, 5 + distance), *[(other, 28, 28)] * 3, (other, 5 + distance, 5), *[(other, 28, 28)] * 4)
        obs, _, _ = views(frame, (name, *[other] * 9))
        enemy, ally = obs[0, 4 : 4 + width], obs[0, 4 + 5 * width : 4 + 6 * width]
        if distance < SIGHT[name]:
            np.testing.assert_allclose(enemy[1:4], [distance / SIGHT[name], distance / SIGHT[name], 0], atol=1e-6)
            np.testing.assert_allclose(ally[:4], [1, distance / SIGHT[name], 0, distance / SIGHT[name]], atol=1e-6)
        else:
            assert not enemy.any()
            assert not ally.any()


@pytest.mark.parametrize("race", BITS)
def test_type_bits_are_the_same_on_both_sides(race):
    names = (*BITS[race], *BITS[race][:2], *reversed(BITS[race]), *BITS[race][:2])
    obs, state, _ = views(frame_of(*((name, 15 + k / 10, 16) for k, name in enumerate(names))), names)
    s = find_map(f"{race}_5_vs_5")
    width, expected = 8 + s.ally_shield, [BITS[race].index(name) for name in names]
    for i in range(5):
        enemies, allies = obs[i, 4 : 4 + 5 * width].reshape(5, width), obs[i, 4 + 5 * width : 4 + 9 * width].reshape(4, width)
        assert enemies[:, -3:].tolist() == np.eye(3)[expected[5:]].tolist()
        assert allies[:, -3:].tolist() == np.eye(3)[[x for k, x in enumerate(expected[:5]) if k != i]].tolist()
        assert obs[i, -3:].tolist() == np.eye(3)[expected[i]].tolist()
    allies, enemies, _ = np.split(state, [5 * (width - 1), 5 * (width - 1) + 5 * (width - 2)])
    assert np.concatenate([allies.reshape(5, -1)[:, -3:], enemies.reshape(5, -1)[:, -3:]]).tolist() == np.eye(3)[expected].tolist()


@pytest.mark.parametrize("race", BITS)
def test_agents_are_sorted_by_type_then_place(race):
    battles = Battles(find_map(f"{race}_10_vs_10"), 200)
    battles.spawn(range(200))
    names = np.array(TYPES)[battles.types[:, :10]]
    for types, spots in zip(names.tolist(), battles.frame[:, :10, :2].tolist(), strict=True):
        rows = [*zip(types, spots, strict=True)]
        assert rows == sorted(rows)
    assert set(names.ravel().tolist()) == set(BITS[race])


def test_agents_see_where_they_are():
    names = ("marine",) * 10
    frame = frame_of(("marine", 1, 31), *[("marine", 16, 8)] * 9)
    obs, _, _ = views(frame, names)
    assert obs[0, -5:-3].tolist() == [np.float32(1 / 32), np.float32(31 / 32)]
    assert obs[1, -5:-3].tolist() == [0.5, 0.25]
    frame[0, 0, HEALTH] = 0
    assert not views(frame, names)[0][0].any()


def test_a_medivac_heals_agents():
    s = find_map("terran_10_vs_11")
    names = ("marauder", *["marine"] * 7, "medivac", "medivac", *["marine"] * 11)
    frame = frame_of(*((name, 16 + k / 10, 16) for k, name in enumerate(names)))
    frame[0, 0, X] = 22  # too far
    frame[0, 1, HEALTH] = 0
    obs, state, avail = views(frame, names, s)
    assert avail[8, ATTACK:].tolist() == [False, False] + [True] * 6 + [False] * 3
    flags = obs[8, 4 : 4 + 11 * 8].reshape(11, 8)[:, 0]
    assert flags.tolist() == avail[8, ATTACK:].tolist()
    assert state[8 * 7 + 1] == np.float32(50 / 200)


def test_teammates_types_may_be_hidden():
    shown, hidden = wrapped(changes=dict(observe=True).items()), wrapped(changes=dict(observe=False).items())
    a, b = (np.array(env.reset()[0]) for env in (shown, hidden))
    ally = np.array([x.startswith("ally_unit_type") for x in shown.get_obs_feature_names()])
    assert (a[:, ~ally] == b[:, ~ally]).all()
    assert a[:, ally].any()
    assert not b[:, ally].any()


def test_all_living_targets_without_an_action_mask():
    env = duel([("marine", 8, 16), ("medivac", 8, 18)], [("marine", 24, 16), ("marine", 12, 16)], mask_out_of_range=False)
    observation = env._observe()
    assert observation.avail[0, :, ATTACK:].tolist() == [[True, True], [True, False]]
    assert observation.obs[0, 0, [4, 12]].tolist() == [0, 1]
    env.step(np.array([[ATTACK + 1, STOP]]))
    assert env.battles.target[0, 0] == 3
    env.step(np.array([[ATTACK, STOP]]))  # out of reach: the old order goes on
    assert env.battles.target[0, 0] == 3
    assert env.last_actions[0, 0] == ATTACK
    env.battles.frame[0, 3, HEALTH] = 1e-3
    observation = env.step(np.array([[ATTACK + 1, ATTACK]])).observation
    assert not observation.avail[0, 0, ATTACK + 1]
    same = wrapped("zerg", action_mask=False)
    same.reset()
    assert np.array(same.get_avail_actions())[:, ATTACK:].all()


@pytest.mark.parametrize("race", ["terran", "protoss"])
def test_the_timestep_in_observations(race):
    env = wrapped(race, obs_timestep_number=True)
    obs, _ = env.reset()
    assert obs[0].dtype == np.float64
    assert {len(x) for x in obs} == {env.get_obs_size()}
    obs = [env.step([STOP if x[1] else 0 for x in env.get_avail_actions()]) and env.get_obs() for _ in range(3)][-1]
    assert {x[-1] for x in obs} == {3 / 200}
    only = wrapped(race, obs_timestep_number=True, obs_starcraft=False)
    assert [x.tolist() for x in only.reset()[0]] == [[0.0]] * 5
    assert only.get_obs_size() == 1
    assert only.get_obs()[0].dtype == np.float32
    assert [x.get_obs_own_feats_size() for x in (env, only)] == [{"terran": 6, "protoss": 7}[race], 3]


@pytest.mark.parametrize("flags", [{}, dict(prob_obs_enemy=0.0), dict(quirk_enemy_block=True), dict(obs_last_action=True)])
def test_fully_observable_agents_see_everything_alive(flags):
    limited, full = (wrapped("zerg", fully_observable=flag, seed=3, **flags) for flag in (False, True))
    few, all_ = (np.array(env.reset()[0]) for env in (limited, full))
    names = full.get_obs_feature_names()
    visible = [k for k, name in enumerate(names) if name.startswith(("enemy_health", "ally_visible"))]
    if "quirk_enemy_block" not in flags:
        assert (all_[:, visible] > 0).all()
    assert (few[:, visible] == 0).any()
    same = np.array([not (name.startswith("enemy") and full.env._forgetful) for name in names])  # the others depend on who looked before
    for env, i in product((limited.env, full.env), range(5)):  # whatever the environment's own flag is
        assert (env.get_obs_agent(i)[same] == few[i, same]).all()
        assert (env.get_obs_agent(i, fully_observable=True)[same] == all_[i, same]).all()


def test_only_one_agent_looks_around():
    env = wrapped(prob_obs_enemy=0.0, seed=3).env
    env.reset({f"{side}_start_positions": {"item": np.full((5, 2), place)} for side, place in (("ally", 14), ("enemy", 18))})
    env._memory.clear()
    enemy = [k for k, name in enumerate(env.get_obs_feature_names()) if name.startswith("enemy_health")]
    assert (env.get_obs_agent(3)[enemy] > 0).all()
    assert env._memory.finder.tolist() == [3] * 5
    assert not env.get_obs_agent(0)[enemy].any()
    assert (env.get_obs_agent(0, fully_observable=True)[enemy] > 0).all()
    assert env._memory.finder.tolist() == [3] * 5


def test_an_unknown_enemy_hides_others_of_fully_observable_agents_by_the_code():
    frame = frame_of(("marine", 10, 16), ("marine", 12, 16), ("marine", 28, 16), ("marine", 14, 16))[0]
    for quirk, expected in ((True, [False, False, True]), (False, [True, True, True])):
        memory = EnemyMemory(1, 3, 1.0, quirk, lambda: 0.5)
        assert memory.look(frame, np.array([9.0]), [0], fully_observable=True).tolist() == [expected]


# --- the memory


def test_an_unknown_enemy_hides_those_before_it_by_the_code_and_only_itself_by_default():
    frame = frame_of(("marine", 10, 16), ("marine", 10, 20), ("marine", 12, 16), ("marine", 14, 16), ("marine", 28, 16))[0]
    sight = np.array([9.0, 9.0])
    code, fixed = (EnemyMemory(2, 3, 1.0, quirk, lambda: 0.5) for quirk in (True, False))
    assert code.look(frame, sight, [0, 1]).tolist() == [[False, False, False]] * 2  # enemy 2 is unknown
    assert fixed.look(frame, sight, [0, 1]).tolist() == [[True, True, False]] * 2
    frame[1, X] = 26
    assert code.look(frame, sight, [1, 0]).tolist() == [[True, True, True]] * 2
    frame[1, HEALTH] = 0
    code.forget(frame)
    assert code.look(frame, sight, [0]).tolist() == [[False, False, False], [False, False, False]]


def test_finders_tell_nobody_at_probability_zero():
    frame = frame_of(("marine", 10, 16), ("marine", 10, 17), ("marine", 12, 16))[0]
    memory = EnemyMemory(2, 1, 0.0, False, random.Random(0).random)
    assert memory.look(frame, np.array([9.0, 9.0]), [1, 0]).tolist() == [[False], [True]]
    env = wrapped(prob_obs_enemy=0.0, action_mask=False, seed=1)
    env.reset()
    plain = wrapped(action_mask=False, seed=1)
    obs, _ = plain.reset()
    assert (np.array(env.get_obs()) == 0)[np.array(obs) == 0].all()


def test_the_quirk_of_the_enemy_block():
    plain, quirk = wrapped(seed=5), wrapped(seed=5, quirk_enemy_block=True)
    differ = 0
    for _ in range(20):
        a, b = (np.array(env.reset()[0]) for env in (plain, quirk))
        enemy = np.array([x.startswith("enemy") for x in plain.get_obs_feature_names()])
        assert (a[:, ~enemy] == b[:, ~enemy]).all()
        differ += (a != b).any()
        for env in (plain, quirk):
            env._over = True
    assert differ > 5


# --- rewards and ends


def paid(names, before, after, scenario=None):
    """Unscaled reward and outcome of one step."""
    s = scenario or find_map(f"{next(race for race, types in BITS.items() if names[0] in types)}_5_vs_5")
    value, outcome = np.zeros(1), np.full(1, ONGOING)
    counted = before[..., HEALTH] == 0
    fill_rewards(before, after, counted, np.ones(1, bool), drawn_scene(s, numbers(*names)), default_reward_config(s), value, outcome)
    return value[0], outcome[0]


ZEALOTS = ("zealot",) * 10


def changed(frame: np.ndarray, *changes: tuple[int, int, float]) -> np.ndarray:
    out = frame.copy()
    for unit, column, by in changes:
        out[0, unit, column] += by
    return out


def test_recovered_health_is_not_rewarded():
    full = frame_of(*(("zealot", k, 16) for k in range(10)))
    hurt = changed(full, (5, SHIELD, -30), (6, SHIELD, -30))
    assert paid(ZEALOTS, hurt, changed(hurt, (5, SHIELD, 12)))[0] == 0
    assert paid(ZEALOTS, hurt, changed(hurt, (5, SHIELD, 12), (6, HEALTH, -10)))[0] == 0
    assert paid(ZEALOTS, hurt, changed(hurt, (5, SHIELD, 10), (6, HEALTH, -12)))[0] == 2
    assert paid(ZEALOTS, hurt, changed(hurt, (6, SHIELD, -20), (6, HEALTH, -100)))[0] == 130


def clean_win(env: StarCraftCapabilityEnvWrapper) -> float:
    """The return of an episode in which all enemies die at once."""
    env.reset()
    battles = env.env.game.battles

    def advance(act, live):
        battles.frame[0, env.n_agents :, [HEALTH, SHIELD]] = 0

    battles.advance = advance
    value, over, info = env.step([STOP] * env.n_agents)
    assert over
    assert info["battle_won"]
    return value


@pytest.mark.parametrize("race", BITS)
def test_a_clean_win_returns_twenty(race):
    env = wrapped(race, m=7)
    assert [clean_win(env) for _ in range(5)] == pytest.approx([20] * 5)
    assert env.get_stats()["win_rate"] == 1


def test_the_quirk_of_the_first_scale():
    env, best = wrapped(quirk_first_scale=True), []
    for _ in range(4):
        value = clean_win(env)
        best.append(200 + 50 + sum(unit.health_max + unit.shield_max for unit in env.enemies.values()))
        assert value == pytest.approx(20 * best[-1] / best[0])
        assert env.max_reward == best[0]
    assert len(set(best)) > 1
    assert clean_win(wrapped(reward_scale=False)) > 250
    assert clean_win(wrapped(reward_scale_rate=10)) == pytest.approx(10)


@pytest.mark.parametrize(
    ("names", "dead", "outcome"),
    [
        (["marine"] * 9 + ["medivac"], [5, 6, 7, 8], WON),
        (["marine"] * 8 + ["medivac"] * 2, [5, 6, 7], WON),
        (["marine"] * 8 + ["medivac"] * 2, [5, 6], ONGOING),
        (["marine"] * 3 + ["medivac"] * 2 + ["marine"] * 5, [0, 1, 2], LOST),
        ((["marine"] * 4 + ["medivac"]) * 2, [0, 1, 2, 3, 5, 6, 7, 8], LOST),  # only Medivacs on both sides
        (["marine"] * 10, range(10), LOST),
        (["zealot"] * 10, range(10), DRAWN),
        (["zergling"] * 10, range(10), DRAWN),
        (["zergling"] * 10, range(5), LOST),
        (["zealot"] * 10, range(5, 10), WON),
        (["zealot"] * 10, [], ONGOING),
    ],
)
def test_outcomes(names, dead, outcome):
    before = frame_of(*((name, k, 16) for k, name in enumerate(names)))
    after = before.copy()
    after[0, list(dead), HEALTH] = 0
    assert paid(names, before, after)[1] == outcome


@pytest.mark.parametrize("win", [False, True])
def test_the_time_limit(win):
    env = duel([("marine", 4, 4), ("medivac", 4, 6)], [("medivac", 28, 28), ("marauder", 28, 26)])
    env.t = 198
    step = env.step(np.array([[STOP, STOP]]))
    assert not (step.terminated | step.truncated)[0]
    if win:
        env.battles.frame[0, 3, HEALTH] = 0  # only a Medivac is left
    step = env.step(np.array([[STOP, STOP]]))
    assert (step.terminated[0], step.truncated[0], step.info["won"][0]) == (win, not win, win)


def test_unavailable_actions_are_refused():
    env = wrapped()
    env.reset()
    with pytest.raises(AssertionError, match="Agent 1 cannot perform action 0"):
        env.step([STOP, 0, STOP, STOP, STOP])


# --- teams and places


def test_ten_thousand_starts():
    """No overlap, inside the playable area, near the requested place; and the distributions."""
    total, kinds = 0, [LIBERTY[name] for name in TYPES]
    radius, body, air = (np.array([getattr(unit, key) for unit in kinds]) for key in ("radius", "separation", "air"))
    for name in SCENARIOS:
        s, count = find_map(name), 667
        ally = np.arange(s.n + s.m) < s.n
        battles, seeds = Battles(s, count), range(total, total + count)
        battles.spawn(seeds)
        kinds, frame = battles.rows[0], battles.frame
        spots = frame[..., [X, Y]]
        total += count
        room = kinds["separation"][:, :, None] + kinds["separation"][:, None]
        gap = np.linalg.norm(spots[:, :, None] - spots[:, None], axis=-1)
        flies = kinds["layer"] == AIR
        apart = (gap >= room - 1e-9) | np.eye(s.n + s.m, dtype=bool) | (flies[:, :, None] != flies[:, None])
        assert apart.all(), name
        assert (spots >= PLAYABLE[0] + kinds["radius"][..., None] - 1e-9).all()
        assert (spots <= PLAYABLE[1] - kinds["radius"][..., None] + 1e-9).all()
        types, wanted = draw(s, seeds)
        size = radius[types][..., None]
        wanted = wanted.clip(PLAYABLE[0] + size, PLAYABLE[1] - size)
        far = np.linalg.norm(wanted[:, :, None] - spots[:, None], axis=-1)
        equal = (types[:, :, None] == battles.types[:, None]) & (ally[:, None] == ally)
        crowd = math.sqrt(4 / math.pi * s.m * (2 * body[types].max() + SPAWN_GAP) ** 2)  # radius of a quarter disc with all enemies in it
        for axis in (1, 2):  # each requested place has a unit nearby, each unit has a requested place nearby
            assert np.where(equal, far, np.inf).min(axis).max() < crowd
        near = far < body[types][:, :, None] + body[battles.types][:, None] + SPAWN_GAP - 1e-9
        taken = near & (air[types][:, :, None] == air[battles.types][:, None])
        assert (taken | (equal & (far < 1e-9))).any(2).all()  # only who finds another body there goes elsewhere
        assert (frame[..., [HEALTH, SHIELD]] == np.stack([kinds["health"], kinds["shield"]], -1)).all()
        assert (frame[..., ENERGY] == 50 * (kinds["heal"] > 0)).all()
        assert (frame[..., COOLDOWN] == 0).all()
    assert total >= 10_000


@pytest.mark.parametrize("name", ["terran_5_vs_5", "protoss_10_vs_11", "zerg_20_vs_23", "zerg_10_vs_10"])
def test_teams_are_distributed_as_specified(name):
    s, count = find_map(name), 4000
    types, _ = draw(s, range(count))
    names = np.array(TYPES)[types]
    assert (names[:, : s.n] == names[:, s.n : 2 * s.n]).all()  # the same types in the same order
    free = names[:, : s.n]
    for kind, weight in zip(s.unit_types, s.weights, strict=True):
        share = (free == kind).mean()
        assert abs(share - weight) < 5 * math.sqrt(weight * (1 - weight) / free.size)
    if s.exceptions:
        assert not np.isin(free, s.exceptions).all(1).any()
        if s.m > s.n:
            assert not np.isin(names[:, 2 * s.n :], s.exceptions).all(1).any()


@pytest.mark.parametrize(("race", "others"), [("terran", {"marine", "marauder"}), ("zerg", {"zergling", "hydralisk"})])
def test_exceptions_hold_in_many_draws(race, others):
    """In 100,000 draws of teams of one, and as the only enemy without an equal agent, which 10_vs_11 has too."""
    rng, count = generator(0), 50_000
    sources = Sources(rng, random.Random(0).shuffle, rng, rng, rng, rng)
    lone = replace(SCENARIOS[f"{race}_10_vs_11"], n=1, m=2)
    for drawn in zip(*(enemies for _, enemies in (teams(lone, sources) for _ in range(count))), strict=True):
        shares = Counter(drawn)
        assert shares.keys() == others
        assert all(abs(share / count - 0.5) < 0.01 for share in shares.values())


def assert_uniform(values: np.ndarray) -> None:
    """On [0, 1): the test of Kolmogorov and Smirnov."""
    ranks = (np.arange(values.size) + 0.5) / values.size
    assert np.abs(np.sort(values.ravel()) - ranks).max() < 1.8 / math.sqrt(values.size)


@pytest.mark.parametrize(("n", "m"), [(5, 5), (10, 11), (10, 5)])
def test_mirrored_places_are_distributed_as_specified(n, m):
    types, spots = draw(replace(SCENARIOS["zerg_10_vs_10"], n=n, m=m, places=REFLECT), range(1000))
    allies, enemies, pairs = spots[:, :n], spots[:, n:], min(n, m)
    assert_uniform(allies[..., 0] / 15)
    assert_uniform(allies[..., 1] / 32)
    assert (allies[:, :pairs, 0] + enemies[:, :pairs, 0] == 32).all()
    assert (allies[:, :pairs, 1] == enemies[:, :pairs, 1]).all()
    assert (types[:, :pairs] == types[:, n : n + pairs]).all()
    if m > n:
        assert_uniform(enemies[:, n:, 0] / 16 - 1)
        assert_uniform(enemies[:, n:, 1] / 32)


def test_places_around_the_agents_are_distributed_as_specified():
    s, count = replace(SCENARIOS["zerg_5_vs_5"], places=SURROUNDED), 4000
    _, spots = draw(s, range(count))
    assert (spots[:, :5] == 16).all()
    away = spots[:, 5:] - 16
    np.testing.assert_allclose(np.abs(away[..., 0]), np.abs(away[..., 1]), rtol=1e-12)  # on the diagonals
    sizes, nearness, diagonals = Counter(), [], Counter()
    for rows in away.tolist():
        groups = Counter(map(tuple, rows))
        ways = {(x > 0, y > 0) for x, y in groups}
        assert len(ways) == len(groups)
        sizes[tuple(sorted(groups.values()))] += 1
        nearness += [(16 - abs(x)) / 14 for x, _ in groups]
        diagonals.update(ways)
    assert_uniform(np.array(nearness))
    assert all(abs(share / len(nearness) - 0.25) < 0.02 for share in diagonals.values())
    expected = Counter()  # k groups, some perhaps empty, with probability 1/4; each enemy joins any of them with the same probability
    for k in range(1, 5):
        for chosen in product(range(k), repeat=5):
            expected[tuple(sorted(Counter(chosen).values()))] += 1 / (4 * k**5)
    assert sizes.keys() == expected.keys()
    for groups, share in expected.items():
        assert abs(sizes[groups] / count - share) < 4 * math.sqrt(share * (1 - share) / count)


@pytest.mark.parametrize(("p", "share", "error"), [(0.0, 1.0, 0), (1.0, 0.0, 0), (0.5, 0.5, 0.02), (0.2, 0.8, 0.02)])
def test_the_probability_of_a_reflected_start(p, share, error):
    _, spots = draw(replace(SCENARIOS["zerg_5_vs_5"], reflect_probability=p), range(4000))
    assert abs((spots[:, :5] == 16).all((1, 2)).mean() - share) <= error


# --- fights


def stop(env: Smac) -> np.ndarray:
    return np.where(env.avail[..., STOP], STOP, 0)


def test_an_ordered_enemy_keeps_its_target():
    env = duel([("zealot", 8, 28), ("zealot", 10, 16), ("zealot", 12, 4)], [("zealot", 20, 16)])
    env.step(stop(env))
    assert env.battles.target[0, 3] == 1  # the closest
    env.battles.frame[0, 2, [X, Y]] = env.battles.frame[0, 3, [X, Y]] + [0, 1.5]  # another one comes nearer
    for _ in range(6):
        env.step(stop(env))
        assert env.battles.target[0, 3] == 1
    env.battles.frame[0, 1, HEALTH] = 0
    env.step(stop(env))
    assert env.battles.target[0, 3] == 2


def test_orders_are_given_once_per_step_to_enemies_that_have_none():
    env = duel([("zergling", 4, 16)], [("zergling", 28, 16), ("zergling", 28, 20)])
    start = env.battles.frame[0, 1:, X].copy()
    assert (env.battles.target[0, 1:] == -1).all()
    env.step(stop(env))
    assert (env.battles.target[0, 1:] == 0).all()
    assert (start - env.battles.frame[0, 1:, X]).min() > 1.4  # a whole step's way


def test_an_enemy_medivac_stays_where_it_is_unless_somebody_is_wounded():
    env = duel([("marine", 4, 4), ("marine", 4, 6)], [("medivac", 26, 26), ("marine", 14, 14)])
    place = env.battles.frame[0, 2, [X, Y]].copy()
    for _ in range(5):
        env.step(stop(env))
    assert (env.battles.frame[0, 2, [X, Y]] == place).all()
    env.battles.frame[0, 3, [X, Y, HEALTH]] = 26, 23, 20
    env.step(stop(env))
    assert env.battles.target[0, 2] == 3
    assert env.battles.frame[0, 3, HEALTH] > 20


def test_an_enemy_marauder_does_not_chase_a_medivac():
    env = duel([("medivac", 18, 16), ("marine", 3, 3)], [("marauder", 26, 16)])
    place = env.battles.frame[0, 2, [X, Y]].copy()
    for _ in range(8):
        env.step(stop(env))
    assert (env.battles.frame[0, 2, [X, Y]] == place).all()
    env.battles.frame[0, 0, [X, Y]] = 26, 20  # the marine, within its range
    env.step(stop(env))
    assert env.battles.target[0, 2] == 0


@pytest.mark.parametrize("race", BITS)
def test_passive_agents_are_found_and_never_shoot(race):
    env = Smac(f"{race}_5_vs_5", 50)
    env.reset(range(50))
    full = env.battles.frame[:, 5:, [HEALTH, SHIELD]].copy()
    while env.live.any():
        step = env.step(stop(env))
    assert not step.truncated.any() or race == "terran"  # a marauder does not chase a Medivac
    peaceful = (env.battles.types != TYPES.index("baneling")).all(1)  # banelings explode when they die
    assert peaceful.sum() > 20
    assert (env.battles.frame[peaceful, 5:][..., [HEALTH, SHIELD]] == full[peaceful]).all()


@pytest.mark.parametrize("name", ["terran_5_vs_5", "protoss_5_vs_5", "zerg_10_vs_11"])
def test_a_battle_alone_and_in_a_batch(name):
    seeds, rng = [3, 0, 11], np.random.default_rng(0)
    together, alone = Smac(name, 3), [Smac(name, 1) for _ in seeds]
    for env in alone:  # a battle does not depend on those before it
        env.reset([7])
        env.step(stop(env))
    observation = together.reset(seeds)
    for e, env in enumerate(alone):
        assert all((a[e] == b[0]).all() for a, b in zip(observation, env.reset([seeds[e]]), strict=True))
    assert len(np.unique(together.battles.frame[..., [X, Y]], axis=0)) == len(np.unique(together.battles.rng)) == len(seeds)
    assert (together.battles.types != together.battles.types[:1]).any()
    while together.live.any():
        act = random_actions(observation.avail, rng)
        step = together.step(act)
        observation = step.observation
        for e, env in enumerate(alone):
            single = env.step(act[e : e + 1])
            for a, b in zip([*step.observation, *step[1:4]], [*single.observation, *single[1:4]], strict=True):
                assert (a[e] == b[0]).all()


# --- SMACv2's classes


def test_the_signature_is_smacv2s():
    defaults = {name: p.default for name, p in inspect.signature(StarCraft2Env).parameters.items()}
    theirs = {name: p.default for name, p in inspect.signature(SmacEnv).parameters.items() if name != "profile"}
    theirs |= dict(
        obs_own_pos=False, obs_starcraft=True, conic_fov=False, num_fov_actions=12, use_unit_ranges=False, min_attack_range=2,
        kill_unit_step_mul=2, fully_observable=False, capability_config={}, prob_obs_enemy=1.0, action_mask=True,
    )  # fmt: skip
    assert defaults == theirs | dict(profile="liberty", quirk_enemy_block=False, quirk_first_scale=False)


@pytest.mark.parametrize("race", BITS)
def test_the_wrapper_plays_the_tasks_battles(race):
    """The same observations, states, available actions, rewards and ends as the vectorized environment on the same seed."""
    env, name = wrapped(race, seed=4), f"{race}_5_vs_5"
    obs, state = env.reset()
    many, rng = Smac(name, 1), np.random.default_rng(1)
    seed = np.random.Philox(key=4).random_raw()
    observation = many.reset([seed])
    for _ in range(200):
        assert [x.dtype for x in [*obs, state]] == [np.float32] * 6
        assert (np.array(obs) == observation.obs[0]).all()
        assert (state == observation.state[0]).all()
        assert (np.array(env.get_avail_actions()) == observation.avail[0]).all()
        act = random_actions(observation.avail, rng)
        value, over, info = env.step(act[0].tolist())
        step = many.step(act)
        obs, state, observation = env.get_obs(), env.get_state(), step.observation
        assert value == step.rewards[0]
        assert info["battle_won"] == step.info["won"][0]
        if over:
            break
    assert over == (step.terminated | step.truncated)[0]


def test_env_info_names_and_capabilities():
    for race, flags in (
        ("terran", {}),
        ("protoss", dict(obs_last_action=True, obs_pathing_grid=True, obs_terrain_height=True)),
        ("zerg", dict(obs_own_pos=False, obs_timestep_number=True, state_timestep_number=True, state_last_action=False)),
        ("protoss", dict(obs_all_health=False, obs_own_health=False, obs_instead_of_state=True)),
    ):
        env = wrapped(race, n=4, m=6, **flags)
        obs, state = env.reset()
        info = env.get_env_info()
        assert set(info) == {
            "state_shape", "obs_shape", "n_actions", "n_agents", "episode_limit", "agent_features", "enemy_features", "cap_shape",
        }  # fmt: skip
        assert (info["cap_shape"], info["episode_limit"], info["n_agents"]) == (3, 200, 4)
        assert {len(x) for x in obs} == {info["obs_shape"]} == {len(env.get_obs_feature_names())}
        assert (len(state), len(set(env.get_state_feature_names()))) == (info["state_shape"],) * 2
        assert len(set(env.get_obs_feature_names())) == info["obs_shape"]
        caps = env.get_capabilities().reshape(4, 3)
        assert caps.argmax(1).tolist() == [BITS[race].index(TYPES[k]) for k in env.env.game.battles.types[0, :4]]
        assert (caps.sum(1) == 1).all()
        assert [unit.unit_type - 2000 for unit in env.agents.values()] == env.env.game.battles.types[0, :4].tolist()


def test_names_of_features():
    env = wrapped("protoss", n=2, m=1, obs_last_action=True, obs_timestep_number=True, obs_pathing_grid=True, state_timestep_number=True)
    env.reset()
    bits = [[f"{unit}_bit_{bit}" for bit in range(3)] for unit in ("enemy_unit_type_0", "ally_unit_type_1", "own_unit_type")]
    assert env.get_obs_feature_names() == [
        "move_action_north", "move_action_south", "move_action_east", "move_action_west", *(f"pathing_grid_{k}" for k in range(8)),
        "enemy_shootable_0", "enemy_distance_0", "enemy_relative_x_0", "enemy_relative_y_0", "enemy_health_0", "enemy_shield_0", *bits[0],
        "ally_visible_1", "ally_distance_1", "ally_relative_x_1", "ally_relative_y_1", "ally_health_1", "ally_shield_1", *bits[1],
        *(f"ally_last_action_1_action_{a}" for a in range(7)), "own_health", "own_shield", "own_pos_x", "own_pos_y", *bits[2], "timestep",
    ]  # fmt: skip
    assert env.get_state_feature_names() == [
        "ally_health_0", "ally_cooldown_0", "ally_relative_x_0", "ally_relative_y_0", "ally_shield_0",
        "ally_unit_type_0_bit_0", "ally_unit_type_0_bit_1", "ally_unit_type_0_bit_2",
        "ally_health_1", "ally_cooldown_1", "ally_relative_x_1", "ally_relative_y_1", "ally_shield_1", *bits[1],
        "enemy_health_0", "enemy_relative_x_0", "enemy_relative_y_0", "enemy_shield_0", *bits[0],
        *(f"ally_last_action_{i}_action_{a}" for i in range(2) for a in range(7)), "timestep",
    ]  # fmt: skip
    assert env.ally_state_attr_names == ["health", "energy/cooldown", "rel_x", "rel_y", "shield"]
    assert env.capability_attr_names == ["type_0", "type_1", "type_2"]
    assert env.get_env_info()["agent_features"] == env.ally_state_attr_names + env.capability_attr_names
    assert (env.get_ally_num_attributes(), env.get_enemy_num_attributes(), env.get_obs_ally_capability_size()) == (8, 7, 3)


@pytest.mark.parametrize("race", BITS)
def test_ranges_and_divisors_of_units(race):
    env = wrapped(race, n=10, m=10)
    env.reset()
    cooldowns = dict(marine=15, marauder=25, medivac=200, stalker=35, zealot=22, colossus=24, hydralisk=10, zergling=11, baneling=1)
    for k, name in enumerate(TYPES[number] for number in env.game.battles.types[0, :10]):
        assert (env.unit_sight_range(k), env.unit_shoot_range(k)) == (SIGHT[name], REACH[name])
        assert env.unit_max_cooldown(env.agents[k]) == cooldowns[name]
        assert env.get_unit_type_id(env.agents[k], True) == BITS[race].index(name)


@pytest.mark.parametrize("race", BITS)
def test_a_single_agent_with_flags(race):
    env = wrapped(race, n=1, m=2, obs_last_action=True, obs_pathing_grid=True, obs_all_health=False, obs_own_health=False)
    obs, _ = env.reset()
    assert [x.shape for x in obs] == [(env.get_obs_size(),)] == [(4 + 8 + 2 * 7 + 5,)]


def test_a_restart_ends_the_episode():
    env = wrapped()
    env.reset()
    env.full_restart()
    with pytest.raises(UserError, match="call reset"):
        env.step([STOP] * 5)
    env.reset()
    env.step([STOP] * 5)
    assert env.get_stats()["restarts"] == 1


def test_pictures_are_drawn_by_a_tool():
    for method in ("render", "save_replay"):
        with pytest.warns(UserWarning, match="python -m tools.render_smac zerg_5_vs_5"):
            getattr(wrapped("zerg"), method)()


def test_given_teams_and_places():
    env = wrapped().env
    env.reset(
        {
            "team_gen": {"ally_team": ["medivac", "marine", "marine", "marauder", "marine"], "enemy_team": ["marine"] * 5, "id": 0},
            "ally_start_positions": {"item": np.array([[10.0, 10 + 2 * k] for k in range(5)]), "id": 0},
            "enemy_start_positions": {"item": np.array([[24.0, 10 + 2 * k] for k in range(5)]), "id": 0},
        }
    )
    assert [(unit.pos.x, unit.pos.y, unit.health_max) for unit in env.agents.values()] == [
        (10, 16, 125), (10, 12, 45), (10, 14, 45), (10, 18, 45), (10, 10, 150),
    ]  # fmt: skip
    assert env.max_reward == 200 + 50 + 5 * 45
    with pytest.raises(UserError, match="5 allies and 5 enemies of the types marine, marauder, medivac"):
        env.reset({"team_gen": {"ally_team": ["zealot"] * 5, "enemy_team": ["marine"] * 5}})
    for wrong in (np.zeros((4, 2)), [["a", "b"]] * 5, [[1, 2], [3]], None, [[math.nan, 2]] * 5):
        with pytest.raises(UserError, match=r"finite positions of shape \(5, 2\)"):
            env.reset({"ally_start_positions": {"item": wrong}})
    for wrong, says in (
        ({"team_gen": {"ally_team": ["marine"] * 5}}, "^team_gen: 'enemy_team' is missing$"),
        ({"team_gen": None}, "^team_gen=None: write a dict with 'ally_team'$"),
        ({"team_gen": {"ally_team": ["marine"] * 5, "enemy_team": "marine"}}, "enemy_team='marine': write a list of unit types"),
        ({"team_gen": {"ally_team": ["marine"] * 5, "enemy_team": [48] * 5}}, "write a list of unit types"),
        ({"enemy_start_positions": {}}, "enemy_start_positions: 'item' is missing"),
        ([1], r"^episode_config=\[1\]: write a dict$"),
    ):
        with pytest.raises(UserError, match=says):
            env.reset(wrong)
    env.reset({"team_gen": {"ally_team": np.array(["marine"] * 5), "enemy_team": np.array(["marine"] * 5)}})


def test_a_seed_is_a_sequence_of_episodes_and_the_configuration_is_not_changed():
    capabilities = config("zerg")
    before = repr(capabilities)
    a, b = (StarCraftCapabilityEnvWrapper(capability_config=capabilities, map_name="10gen_zerg", seed=9, **FLAGS) for _ in range(2))
    teams_drawn = []
    for _ in range(4):
        (x, _), (y, _) = a.reset(), b.reset()
        assert (np.array(x) == np.array(y)).all()
        teams_drawn.append(a.get_capabilities().tolist())
    assert len({str(x) for x in teams_drawn}) > 1
    assert repr(capabilities) == before
    assert a.seed() == 9


def test_teams_start_face_to_face_without_start_positions():
    capabilities = config("protoss")
    del capabilities["start_positions"]
    env = StarCraftCapabilityEnvWrapper(capability_config=capabilities, map_name="10gen_protoss", seed=0, **FLAGS)
    env.reset()
    places = env.env.game.battles.frame[0, :, [X, Y]].T
    assert np.abs(places[:5] - [8, 16]).max() < 3
    assert np.abs(places[5:] - [24, 16]).max() < 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda c: c.pop("n_enemies"), "capability_config: 'n_enemies' is missing"),
        (lambda c: c.pop("team_gen"), "'team_gen' is missing"),
        (lambda c: c.update(attack={}), "'attack' is not supported"),
        (lambda c: c.update(n_units=0), "n_units is 0, a positive whole number"),
        (lambda c: c["team_gen"].update(dist_type="all_teams"), "'all_teams' is not supported"),
        (lambda c: c["team_gen"].update(unit_types=["marine", "zealot", "medivac"]), "no unit type 'zealot' on 10gen_terran"),
        (lambda c: c["team_gen"].update(weights=[0.5, 0.1, 0.1]), "add up to 1"),
        (lambda c: c["team_gen"].update(exception_unit_types=["marine", "marauder", "medivac"]), "no team can be drawn"),
        (lambda c: c.update(team_gen=None), "^team_gen=None: write a dict with 'dist_type'$"),
        (lambda c: c.update(start_positions=5), "^start_positions=5: write a dict with 'dist_type'$"),
        (lambda c: c["team_gen"].update(weights=["a", "b", "c"]), r"weights=\['a', 'b', 'c'\]: write 3 probabilities that add up to 1"),
        (lambda c: c["team_gen"].update(weights=None), "weights=None: write 3 probabilities"),
        (lambda c: c["team_gen"].update(weights=[math.nan, 0.5, 0.5]), r"weights=\[nan, 0.5, 0.5\]: write 3 probabilities"),
        (lambda c: c["team_gen"].update(unit_types=None), "unit_types=None: write a list of unit types"),
        (lambda c: c["team_gen"].update(unit_types=[["marine"]]), "write a list of unit types"),
        (lambda c: c["team_gen"].update(exception_unit_types="medivac"), "exception_unit_types='medivac': write a list of unit types"),
        (lambda c: c["start_positions"].update(p=None), "^start_positions: p=None: write a probability$"),
        (lambda c: c["start_positions"].update(p=math.nan), "p=nan: write a probability"),
        (lambda c: c["start_positions"].update(dist_type="circle"), "start_positions: dist_type 'circle'"),
        (lambda c: c["start_positions"].pop("p"), "start_positions: 'p' is missing"),
        (lambda c: c["start_positions"].update(map_x=64), "map_x is 64"),
    ],
)
def test_mistakes_in_the_configuration_are_explained(change, says):
    capabilities = config()
    change(capabilities)
    with pytest.raises(UserError, match=says):
        StarCraftCapabilityEnvWrapper(capability_config=capabilities, map_name="10gen_terran")


def test_other_mistakes_are_explained():
    with pytest.raises(UserError, match="no SMACv2 map '8m'"):
        StarCraftCapabilityEnvWrapper(capability_config=config())
    with pytest.raises(UserError, match="capability_config is missing"):
        StarCraftCapabilityEnvWrapper(map_name="10gen_terran")
    with pytest.raises(UserError, match=r"^capability_config=None: write a dict with 'team_gen'$"):
        StarCraftCapabilityEnvWrapper(map_name="10gen_terran", capability_config=None)
    with pytest.raises(UserError, match="conic_fov"):
        wrapped(conic_fov=True)
    with pytest.raises(UserError, match="terran_5_vs_5 is a scenario of SMACv2"):
        SmacEnv("terran_5_vs_5")
    with pytest.raises(UserError, match="call reset"):
        wrapped().get_obs()
    frames = np.zeros((2, 5, 6))
    with pytest.raises(UserError, match=r"types of the agents of shape \(\): terran_5_vs_5 needs \(2, 5\)"):
        observe("terran_5_vs_5", frames, frames, np.zeros((2, 5), int))
    with pytest.raises(UserError, match="units of type 'zealot'"):
        observe("terran_5_vs_5", frames, frames, np.zeros((2, 5), int), np.full((2, 5), "zealot"), np.full((2, 5), "marine"))


def test_random_agents_earn_what_they_earn_in_the_game():
    """og-marl's terran_5_vs_5 Random: return 2.43 +- 1.73, length 39.6, recorded in the game with the scale of each process' first team.

    Here every episode is scaled by the team of every other one.
    """
    env, rng = Smac("terran_5_vs_5", 300), np.random.default_rng(0)
    observation, total, length = env.reset(range(300)), np.zeros(300), np.zeros(300)
    while (live := env.live).any():
        step = env.step(random_actions(observation.avail, rng))
        observation = step.observation
        total += step.rewards
        length += live
    assert 1.9 < (total * env.scale).mean() * (1 / env.scale).mean() < 3.1
    assert 34 < length.mean() < 46


@pytest.mark.parametrize("race", BITS)
def test_attacking_the_nearest_enemy_wins_some_battles(race):
    env = wrapped(race, heuristic_ai=True)
    for _ in range(60):
        env.reset()
        while not env.step([0] * 5)[1]:
            pass
    assert 0.25 < env.get_stats()["win_rate"] < 0.75


def test_armies_that_are_too_large_for_the_map():
    env = wrapped("zerg", 150, 150)
    env.reset()
    places = env.env.game.battles.frame[0, :, : Y + 1]
    assert (places >= PLAYABLE[0]).all()
    assert (places <= PLAYABLE[1]).all()
    with pytest.raises(UserError, match=r"^zerg_600_vs_600: (\d+) units leave no room for unit \1, a \w+, near .*; use fewer units$"):
        wrapped("zerg", 600, 600).reset()


def test_no_unit_walks_outside_the_map():
    ground = np.ones((3 * MAP_SIZE, 3 * MAP_SIZE), bool)
    free = ground[MAP_SIZE : 2 * MAP_SIZE, MAP_SIZE : 2 * MAP_SIZE]  # cells outside it are in memory, and free
    for x, y in ((-1.5, 5.0), (MAP_SIZE + 0.5, 5.0), (5.0, -1.5), (5.0, MAP_SIZE + 0.5)):
        assert not passable(x, y, GROUND, free)
    assert passable(5.0, 5.0, GROUND, free)
