"""Multi-agent MuJoCo: the environments of gymnasium-robotics with this project's observations and actions."""

import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.datasets import catalog, collect
from inspo_benchmark.datasets.behavior import SHIPPED, mujoco_policy
from inspo_benchmark.datasets.behavior.policy import Net, Policy, save
from inspo_benchmark.datasets.behavior.rollout import rollout
from inspo_benchmark.datasets.dataset import content_sha256, statistics
from inspo_benchmark.datasets.format import load as read
from inspo_benchmark.datasets.replay_check import audit
from inspo_benchmark.datasets.validate import problems
from inspo_benchmark.envs import mamujoco
from inspo_benchmark.envs.mamujoco import ENVS_PER_THREAD, SCENARIOS, MaMujoco, parse_name, physics
from inspo_benchmark.tools.behavior import __main__, masac, training

mamujoco_v1 = pytest.importorskip("gymnasium_robotics").mamujoco_v1
TASKS.discover()
ROOT = Path(__file__).parents[2]
VARIANTS = [f"{name}_{variant}" for name in SCENARIOS for variant in ("full", "obsk0", "obsk1")]
PLAIN = [name for name in VARIANTS if f"{name}-expert" not in TASKS]  # those that are called by the scenario's name alone
TOO_FAR = 10.0  # gymnasium cuts velocities of the Hopper's state there


def named(variant: str) -> str:
    return variant.rpartition("_")[0] if variant in PLAIN else variant


def package_env(name: str, obsk: int = 0):
    scenario = parse_name(name)[0]
    return mamujoco_v1.parallel_env(scenario.env_name, scenario.agent_conf, agent_obsk=obsk)


def acts(name: str, steps: int, num_envs: int, seed: int = 0) -> np.ndarray:
    scenario = parse_name(name)[0]
    return np.random.default_rng(seed).uniform(-1, 1, (steps, num_envs, scenario.num_agents, scenario.action_dim)).astype(np.float32)


def named_actions(env, act: np.ndarray) -> dict:
    """An action [N, D] as the package wants it: agents by name, each with one number per joint."""
    return {agent: act[i, : env.action_spaces[agent].shape[0]] for i, agent in enumerate(env.possible_agents)}


@pytest.fixture(autouse=True)
def one_core(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


# --- the environment


def test_every_scenario_has_its_plain_name_and_two_variants():
    assert len(PLAIN) == len(SCENARIOS)
    for variant in VARIANTS:
        assert {f"{named(variant)}-{quality}" for quality in mamujoco.QUALITIES} <= set(TASKS)


@pytest.mark.parametrize("variant", VARIANTS)
def test_sizes_are_those_of_the_package(variant):
    name = named(variant)
    spec, env = TASKS[f"{name}-expert"].spec, MaMujoco(name, 2)
    observation, step = env.reset([0, 1]), env.step(acts(name, 1, 2)[0])
    for x in (observation, step.observation):
        assert (x.obs.shape, x.obs.dtype) == ((2, spec.num_agents, spec.obs_dim), np.float32)
        assert (x.state.shape, x.state.dtype) == ((2, spec.state_dim), np.float32)
        assert x.avail.shape == (2, spec.num_agents, 1)
        assert x.avail.all()
    assert step.rewards.shape == step.terminated.shape == step.truncated.shape == (2,)
    reference = package_env(name, 1 if variant.endswith("1") else 0)
    assert spec.num_agents == len(reference.possible_agents)
    assert spec.space.d == max(space.shape[0] for space in reference.action_spaces.values())
    assert spec.state_dim == len(reference.state())
    assert parse_name(name)[0].num_joints == reference.single_agent_env.action_space.shape[0]
    if not variant.endswith("full"):
        assert spec.obs_dim == max(space.shape[0] for space in reference.observation_spaces.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_environment_is_the_packages(variant):
    name, steps, num_envs = named(variant), 30, 3
    env, alone = MaMujoco(name, num_envs), [package_env(name, 1 if variant.endswith("1") else 0) for _ in range(num_envs)]
    observation = env.reset([5, 6, 7])
    own = [reference.reset(seed=5 + e)[0] for e, reference in enumerate(alone)]
    over = np.zeros(num_envs, bool)
    for act in acts(name, steps, num_envs):
        for e, reference in enumerate(alone):
            if over[e]:
                continue
            state = reference.state()
            np.testing.assert_array_equal(observation.state[e], state.astype(np.float32))
            for i, agent in enumerate(reference.possible_agents):
                if variant.endswith("full"):
                    x = np.append(observation.state[e].astype(float), np.eye(env.scenario.num_agents)[i])
                    want = (x - x.mean()) / x.std()
                else:
                    want = own[e][agent]
                    if np.abs(want).max() > TOO_FAR:
                        continue
                np.testing.assert_array_equal(observation.obs[e, i, : len(want)], want.astype(np.float32))
                assert not observation.obs[e, i, len(want) :].any()
        step = env.step(act)
        for e, reference in enumerate(alone):
            if over[e]:
                assert step.rewards[e] == 0
                continue
            own[e], reward, terminated, *_ = reference.step(named_actions(reference, act[e]))
            assert step.rewards[e] == reward["agent_0"]
            over[e] = terminated["agent_0"]
            assert step.terminated[e] == over[e]
        observation = step.observation
    assert variant.startswith("half") or over.any() or variant.startswith("ant")


@pytest.mark.parametrize("name", SCENARIOS)
def test_whole_episodes_are_gymnasiums(name):
    """States, rewards and terminations of two episodes of the expert, to the last bit."""
    task, num_envs = TASKS[f"{name}-expert"], 2
    expert, rng = mujoco_policy.load(SHIPPED / name / "expert-0.npz", name, task.spec), np.random.default_rng(0)
    env, alone = MaMujoco(name, num_envs), [package_env(name).single_agent_env.unwrapped for _ in range(num_envs)]
    observation, over, lengths = env.reset([8, 9]), np.zeros(num_envs, bool), np.zeros(num_envs, int)
    for e, reference in enumerate(alone):
        np.testing.assert_array_equal(env.physics.arrays.state[e], reference.reset(seed=8 + e)[0])
    while not over.all():
        u = rng.uniform(0.01, 0.99, (num_envs, task.spec.num_agents * task.spec.space.d))
        step = env.step(mujoco_policy.act(expert, observation.obs, observation.avail, u, task.spec)[0])
        for e in np.flatnonzero(~over):
            state, reward, terminated, *_ = alone[e].step(env.physics.arrays.controls[e])
            np.testing.assert_array_equal(env.physics.arrays.state[e], state)
            assert (step.rewards[e], step.terminated[e]) == (reward, terminated)
        lengths += ~over
        observation, over = step.observation, step.terminated | step.truncated
    assert lengths.max() == task.spec.episode_limit or step.terminated.any()


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENARIOS)
def test_score_100_is_the_greedy_expert(name):
    """Machines differ in the last digits, and so, after a while, in whole episodes."""
    task, num_envs = TASKS[f"{name}-expert"], 100
    expert = mujoco_policy.load(SHIPPED / name / "expert-0.npz", name, task.spec)
    act = partial(mujoco_policy.act, spec=task.spec)
    returns = rollout(
        MaMujoco(name, num_envs), expert, range(10**6, 10**6 + num_envs), greedy=True, act=act, draws=task.spec.space.d
    ).returns
    assert task.reference[1] == pytest.approx(returns.mean(), abs=3 * returns.std() / num_envs**0.5)


@pytest.mark.parametrize("body", ["Hopper", "Ant"])
def test_bodies_terminate_where_gymnasiums_do(body):
    """Single states at and around the limits of health, and states that are not finite."""
    name = next(name for name, x in SCENARIOS.items() if x.env_name == body)
    reference, rng = package_env(name).single_agent_env.unwrapped, np.random.default_rng(0)
    limits = {
        "Hopper": {1: (0.7, np.inf), 2: (-0.2, 0.2), 3: (100.0, -100.0), -1: (100.0, np.nan)},
        "Ant": {2: (0.2, 1.0), 5: (np.inf, np.nan)},
    }
    nq, nv = reference.model.nq, reference.model.nv
    for k, values in limits[body].items():
        for x in [y for value in values for y in (value, np.nextafter(value, -np.inf), np.nextafter(value, np.inf))]:
            reference.reset(seed=0)
            qv = np.concatenate([reference.data.qpos, rng.normal(size=nv)])
            qv[k] = x
            reference.data.qpos[:], reference.data.qvel[:] = qv[:nq], qv[nq:]
            motion = physics.Motion(qv[None, :nq], qv[None, nq:], np.zeros(1), np.zeros((1, reference.model.nbody, 6)))
            _, _, terminated = physics.OUTCOMES[body](motion, np.zeros(1), np.zeros(1))
            assert terminated[0] == (not reference.is_healthy), (k, x)


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_episode_depends_on_its_seed_alone(name):
    many, one, act = MaMujoco(name, 4), MaMujoco(name, 1), acts(name, 25, 4)
    a, b = many.reset([3, 1, 4, 2]), one.reset([4])
    for x in act:
        np.testing.assert_array_equal(a.obs[2], b.obs[0])
        p, q = many.step(x), one.step(x[2:3])
        assert (p.rewards[2], p.terminated[2]) == (q.rewards[0], q.terminated[0])
        a, b = p.observation, q.observation
    again = many.reset([3, 1, 4, 2])
    assert not np.array_equal(again.state[0], again.state[1])
    np.testing.assert_array_equal(again.state[2], one.reset([4]).state[0])


def test_actions_go_to_the_agents_own_joints_scaled_and_clipped():
    env = MaMujoco("ant_2x4", 1)
    env.reset([0])
    reference = package_env("ant_2x4")
    act, out = acts("ant_2x4", 1, 1)[0], np.zeros((1, 8))
    env.partition.write_controls(act, out)
    np.testing.assert_allclose(out[0], reference.map_local_actions_to_global_action(named_actions(reference, act[0])), atol=1e-7)
    env.partition.write_controls(10 * np.sign(act), out)
    assert set(np.abs(out).ravel()) == {1.0}
    env.partition.middle, env.partition.half = np.full(8, 0.1, np.float32), np.full(8, 0.3, np.float32)  # from -0.2 to 0.4
    env.partition.write_controls(np.ones((1, 2, 4)), out)
    np.testing.assert_allclose(out, 0.4)
    env.partition.write_controls(-np.ones((1, 2, 4)), out)
    np.testing.assert_allclose(out, -0.2)


def test_a_time_limit_is_not_a_termination():
    env = MaMujoco("halfcheetah_2x3", 2, limit=5)
    env.reset([0, 1])
    for t, act in enumerate(acts("halfcheetah_2x3", 8, 2)):
        step = env.step(act)
        assert not step.terminated.any()
        assert step.truncated.all() == (t >= 4)
        assert (step.rewards != 0).all() == (t < 5)
    fallen = MaMujoco("hopper_3x1", 1, limit=200)
    fallen.reset([0])
    steps = [fallen.step(act) for act in acts("hopper_3x1", 200, 1)]
    end = next(t for t, step in enumerate(steps) if step.terminated[0])
    assert not any(step.truncated[0] for step in steps)
    np.testing.assert_array_equal(steps[end].observation.state, steps[-1].observation.state)
    assert steps[end + 1].rewards[0] == 0


def test_several_threads_give_the_same_episodes_as_one(monkeypatch):
    num_envs = 2 * ENVS_PER_THREAD
    alone = MaMujoco("hopper_3x1", num_envs)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    threaded = MaMujoco("hopper_3x1", num_envs)
    assert (alone.physics.num_threads, threaded.physics.num_threads) == (1, 2)
    for env in (alone, threaded):
        env.reset(range(num_envs))
    for act in acts("hopper_3x1", 40, num_envs):
        a, b = alone.step(act), threaded.step(act)
        for x, y in zip((*a.observation, *a[1:4]), (*b.observation, *b[1:4]), strict=True):
            np.testing.assert_array_equal(x, y)
    threaded.close()


def test_nothing_is_written_to_the_current_folder(tmp_path):
    code = (
        "import numpy as np, mujoco; from inspo_benchmark.envs.mamujoco import MaMujoco; e = MaMujoco('hopper_3x1', 1); e.reset([0]); "
        "x = e.physics.env; x.data.qvel[:] = 1e30; mujoco.mj_step(x.model, x.data)"  # a state that MuJoCo warns of
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())


# --- mistakes


def test_unknown_names_give_one_line(monkeypatch):
    there = r"there are halfcheetah_6x1 \(also with _obsk0, _obsk1\); halfcheetah_2x3 \(also with _full, _obsk1\); "
    for name in "hopper_2x2", "hopper_3x1_full":  # the latter is what hopper_3x1 means
        with pytest.raises(UserError, match=f"no multi-agent MuJoCo scenario '{name}'; {there}"):
            MaMujoco(name, 1)
    monkeypatch.setitem(SCENARIOS, "ant_5x5", SCENARIOS["ant_2x4"]._replace(agent_conf="5x5"))
    with pytest.raises(UserError, match="gymnasium-robotics does not divide Ant into 5x5"):
        MaMujoco("ant_5x5", 1)


@pytest.mark.parametrize("package", ["mujoco", "gymnasium_robotics"])
def test_a_missing_package_gives_one_line(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        UserError, match=f"needs the package {package.replace('_', '-')}, which is not installed: make setup, or pip install"
    ):
        MaMujoco("hopper_3x1", 1)


def test_making_an_environment_prints_nothing_and_leaves_no_file(tmp_path):
    code = "from inspo_benchmark.envs.mamujoco import SCENARIOS, make_env; make_env(SCENARIOS['ant_2x4'], 0)"
    made = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (made.returncode, made.stdout, made.stderr) == (0, "", "")
    assert not list(tmp_path.iterdir())


def test_data_of_another_variant_are_refused(tmp_path):
    d = collect.mamujoco(TASKS["hopper_3x1-random"], 4)
    from inspo_benchmark.datasets.format import save as write

    write(d, tmp_path / "x.h5")
    with pytest.raises(UserError, match=r"obs") as e:
        read(tmp_path / "x.h5", TASKS["hopper_3x1_obsk1-random"])
    assert "\n" not in str(e.value)


# --- policies and data


def weights(name: str, seed: int) -> Policy:
    spec, rng = TASKS[f"{name}-expert"].spec, np.random.default_rng(seed)
    net = Net(*(rng.normal(0, 0.3, shape).astype("<f2").astype(np.float32) for shape in mujoco_policy.shapes(spec, 16)))
    return Policy(name, net, 100 * seed, mean_return=10.0 * seed)


@pytest.fixture
def shipped(monkeypatch, tmp_path):
    """Policies of random weights for the Hopper, chosen by the command from a training's."""
    for k in range(5):
        save(weights("hopper_3x1", k), tmp_path / f"policy-{k:02}.npz")
    monkeypatch.setattr(__main__, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setattr(collect, "SHIPPED", tmp_path / "shipped")
    assert __main__.main(["ship", "hopper_3x1", str(tmp_path)]) == 0
    return tmp_path / "shipped" / "hopper_3x1"


def test_ship_selects_expert_medium_and_replay_policies(shipped, capsys):
    spec = TASKS["hopper_3x1-expert"].spec
    at = {path.stem: mujoco_policy.load(path, "hopper_3x1", spec).mean_return for path in shipped.glob("*.npz")}
    assert at == {"expert-0": 40.0, "medium-0": 20.0, "replay-00": 0.0, "replay-01": 10.0, "replay-02": 20.0}
    with pytest.raises(UserError, match="a policy for 'hopper_3x1', not for ant_2x4"):
        mujoco_policy.load(shipped / "expert-0.npz", "ant_2x4", TASKS["ant_2x4-expert"].spec)
    with pytest.raises(UserError, match=r"no such policy.*tools.behavior.masac hopper_3x1"):
        mujoco_policy.load(shipped / "best.npz", "hopper_3x1", spec)


def test_actions_and_densities_are_those_of_the_squashed_gaussian():
    from scipy import stats

    name = "halfcheetah_2x3"
    spec, p = TASKS[f"{name}-expert"].spec, weights("halfcheetah_2x3", 1)
    rng = np.random.default_rng(0)
    obs, u = rng.normal(size=(7, 2, spec.obs_dim)).astype(np.float32), rng.uniform(0.05, 0.95, (7, 6))
    act, logp = mujoco_policy.act(p, obs, np.ones((7, 2, 1), bool), u, spec)
    greedy, _ = mujoco_policy.act(p, obs, np.ones((7, 2, 1), bool), None, spec)
    for e in range(7):
        for i in range(2):
            h = np.maximum(obs[e, i] @ p.net.w1[i] + p.net.b1[i], 0)
            mean, log_std = np.split(np.maximum(h @ p.net.w2[i] + p.net.b2[i], 0) @ p.net.w3[i] + p.net.b3[i], 2)
            x = mean + np.exp(log_std) * stats.norm.ppf(u[e].reshape(2, 3)[i])
            np.testing.assert_allclose(act[e, i], np.tanh(x), atol=1e-5)
            np.testing.assert_allclose(greedy[e, i], np.tanh(mean), atol=1e-5)
            density = stats.norm.logpdf(x, mean, np.exp(log_std)) - np.log(1 - np.tanh(x) ** 2)
            assert logp[e, i] == pytest.approx(density.sum(), abs=2e-3)


@pytest.mark.parametrize("quality", mamujoco.QUALITIES)
def test_data_are_valid_and_replay(quality, shipped):
    task = TASKS[f"hopper_3x1-{quality}"]
    d = collect.mamujoco(task, 12)
    assert not problems(d)
    assert not audit(d, task)
    assert d.episodes == 12
    assert (d.won == -1).all()
    assert np.isfinite(d.behavior_logp).all()
    env = MaMujoco("hopper_3x1", 1)  # an episode played again, alone
    env.reset([d.seed[7]])
    for t in range(d.lengths[7]):
        step = env.step(d.actions[d.offset[7] + t][None])
        assert step.rewards[0] == pytest.approx(d.rewards[d.offset[7] + t], abs=1e-5)
    assert step.terminated[0]


def test_medium_expert_is_half_of_each(shipped):
    halves = {q: collect.mamujoco(TASKS[f"hopper_3x1-{q}"], 6) for q in ("medium", "expert")}
    both = collect.mamujoco(TASKS["hopper_3x1-medium_expert"], 12)
    np.testing.assert_array_equal(both.rewards, np.concatenate([halves[q].rewards for q in ("medium", "expert")]))
    assert "equal shares" in both.meta["behaviour"]


def test_the_manifest_takes_the_same_content_or_the_same_statistics(shipped, monkeypatch, tmp_path):
    monkeypatch.setattr(catalog, "MANIFEST", tmp_path / "manifest.json")
    task = TASKS["hopper_3x1-random"]
    monkeypatch.setattr(collect, "MUJOCO_EPISODES", 20)
    d = collect.mamujoco(task)
    have = statistics(d) | {"content_sha256": content_sha256(d)}
    assert catalog.match(task, have) == "content"  # nothing is published
    catalog.update_manifest([task])
    assert catalog.manifest()[task.name]["backend"].startswith("mujoco-")
    assert catalog.match(task, have) == "content"
    other = have | {"content_sha256": "0" * 64}
    assert catalog.match(task, other) == "statistics"
    assert catalog.match(replace(task, family="smac"), other) == ""
    for wrong in (
        {"return_mean": have["return_mean"] + 6 * have["return_std"] * (2 / 20) ** 0.5},
        {"steps": 2 * have["steps"]},
        {"episodes": 21},
    ):
        assert catalog.match(task, other | wrong) == ""
    path = catalog.fetch(task, tmp_path)
    assert catalog.status(task, tmp_path) == "built"
    path.unlink()
    assert read(catalog.build_smaller(task, 3, tmp_path), task).episodes == 3
    assert catalog.fetch(task, tmp_path) == path
    assert catalog.status(task, tmp_path) == "built with --episodes 3"
    with pytest.raises(UserError, match="exists; delete it"):
        catalog.build_smaller(task, 3, tmp_path)


# --- the trainer


def test_a_loss_is_that_of_soft_actor_critic(double):
    import torch
    from scipy import stats
    from torch.utils._pytree import tree_map

    spec = TASKS["halfcheetah_2x3-expert"].spec
    a = masac.MASAC(masac.MASAC.Config(batch_size=5, hidden_dim=8), spec)
    s, rng = a.init([0]), np.random.default_rng(1)
    buffer = masac.Buffer(20, spec, mamujoco.AgentPartition(*parse_name("halfcheetah_2x3")))
    rows = dict(state=rng.normal(size=(20, 17)), next_state=rng.normal(size=(20, 17)), actions=rng.uniform(-1, 1, (20, 2, 3)))
    buffer.add(**rows, rewards=rng.normal(size=20), terminated=rng.integers(2, size=20))
    b = tree_map(lambda x: x[0].double() if x.is_floating_point() else x[0], buffer.batch(5, rng))
    f, u = a.online(tree_map(lambda x: x[0], s)), torch.as_tensor(rng.uniform(0.1, 0.9, (5, 1, 2, 3)))
    act, logp = a.sample(f, b.now, u)
    mean, log_std = (x.detach().numpy() for x in spec.space.gaussian(f.pi(b.now.obs)))
    x = mean + np.exp(log_std) * stats.norm.ppf(u.numpy())
    density = stats.norm.logpdf(x, mean, np.exp(log_std)) - np.log(1 - np.tanh(x) ** 2)
    np.testing.assert_allclose(logp.detach().numpy(), density.sum((-1, -2)), atol=1e-10)
    np.testing.assert_allclose(act.detach().numpy(), np.tanh(x), atol=1e-10)
    q = np.minimum(*(y.detach().numpy() for y in a.values(f, b.now, act)))
    assert float(a.policy_loss(f, None, b, u)) == pytest.approx((density.sum((-1, -2)) - q).mean(), abs=1e-10)  # alpha begins at 1
    assert float(a.alpha_loss(f, None, b, u)) == pytest.approx(-(density.sum((-1, -2)) - 6).mean(), abs=1e-10)
    y = b.rewards + 0.99 * (1 - b.terminated) * 3.0
    want = sum(((v.detach() - y) ** 2).mean() for v in a.values(f, b.now, b.now.actions))
    assert float(a.critic_loss(f, None, b, y)) == pytest.approx(float(want), abs=1e-10)


def test_training_saves_policies_with_the_stated_returns(monkeypatch, tmp_path, capsys):
    for name, value in {"EVAL_EPISODES": 2, "RANDOM_STEPS": 64, "SAVES": 2}.items():
        monkeypatch.setattr(masac, name, value)
    monkeypatch.setattr(training, "FIRST_SAVE", 100)
    assert masac.main(["hopper_3x1", "--steps", "320", "--out", str(tmp_path)]) == 0
    spec = TASKS["hopper_3x1-expert"].spec
    files = sorted(tmp_path.glob("policy-*.npz"))
    trained = [mujoco_policy.load(path, "hopper_3x1", spec) for path in files]
    assert [p.steps for p in trained] == [0, 112, 160, 320]
    env = MaMujoco("hopper_3x1", 2)
    for p in trained:
        seeds = np.arange(masac.EVAL_SEED, masac.EVAL_SEED + 2)
        earned = rollout(env, p, seeds, act=partial(mujoco_policy.act, spec=spec), draws=1).returns.mean()
        assert earned == pytest.approx(p.mean_return)
    assert masac.main(["hopper_3x1", "--steps", "160", "--seed", "2", "--out", str(tmp_path)]) == 2
    assert "holds another training" in capsys.readouterr().err
    assert sorted(tmp_path.glob("policy-*.npz")) == files
    assert masac.main(["hoper_3x1", "--out", str(tmp_path)]) == 2
    assert "no multi-agent MuJoCo scenario" in capsys.readouterr().err
