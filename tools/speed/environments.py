"""The speed of the simulators: StarCraft, its start, and MuJoCo in evaluations."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np

from inspo_benchmark.core.env import VecEnv
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.learning.evaluate import Evaluator
from inspo_benchmark.running.settings import settings
from inspo_benchmark.tools.speed import timing
from inspo_benchmark.tools.speed.rows import Row

MUJOCO_SCENARIOS = ("halfcheetah_6x1", "hopper_3x1", "ant_2x4")
FIRST_STEP = """
import resource, time
started = time.perf_counter()
import numpy as np
from inspo_benchmark.envs.smac.vector import Smac
env = Smac("{name}", {num_envs})
avail = env.reset(range({num_envs})).avail
env.step(avail.argmax(-1))
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2)
"""


def smac() -> list[Row]:
    """The StarCraft simulator: steps, SMAC's interface, start and memory."""
    scenarios = [*smacv2_steps("terran_5_vs_5", "2s3z"), *smacv2_steps("terran_10_vs_10", "MMM")]
    return [smac_steps("3m"), smac_steps("5m_vs_6m"), *scenarios, smac_interface_steps("3m"), *smac_start()]


def mujoco() -> list[Row]:
    """Evaluations on MuJoCo."""
    return [row for name in MUJOCO_SCENARIOS for row in mujoco_evaluation(name)]


def random_battles(env: VecEnv, rng: np.random.Generator, clock: Callable[[], float]) -> tuple[int, float, float]:
    """Plays random available actions until half of the episodes are over -> steps of episodes that were not over, and the time inside the
    environment of these steps and of the reset."""
    started = clock()
    observation, over, steps, seconds = env.reset(range(env.num_envs)), np.zeros(env.num_envs, bool), 0, 0.0
    reset_seconds = clock() - started
    while over.mean() < 0.5:
        actions = (rng.random(observation.avail.shape) * observation.avail).argmax(-1)
        started = clock()
        step = env.step(actions)
        seconds += clock() - started
        steps += int((~over).sum())
        observation, over = step.observation, step.terminated | step.truncated
    return steps, seconds, reset_seconds


def smac_steps(name: str, num_envs: int = 256) -> Row:
    """Steps per second of parallel SMAC environments with random available actions, observations and rewards included."""
    env, rng, rates = TASKS[f"{name}-random"].make(num_envs), np.random.default_rng(0), []
    for _ in range(timing.ROUNDS + 1):
        steps, seconds, _ = random_battles(env, rng, time.perf_counter)
        rates.append(steps / seconds)
    return f"smac/{name}/{num_envs}-envs", statistics.median(rates[1:]), "steps/s"


def smacv2_steps(scenario: str, map: str, num_envs: int = 256) -> list[Row]:
    """Steps per second of a scenario, as in `smac_steps` but in CPU time; compared with a map on which as many units fight, without and
    with the time of resets, which draw teams and places."""
    envs, rates = {name: TASKS[f"{name}-random"].make(num_envs) for name in (scenario, map)}, {scenario: [], map: []}
    rng = np.random.default_rng(0)
    for _ in range(timing.ROUNDS + 1):  # alternately, so that a drift of the machine's speed affects both
        for name, env in envs.items():
            steps, seconds, reset_seconds = random_battles(env, rng, time.process_time)
            rates[name].append((steps / seconds, steps / (seconds + reset_seconds)))
    name, share = f"smacv2/{scenario}/{num_envs}-envs", f"of the rate on {map}"
    plain, whole = (statistics.median(a[k] / b[k] for a, b in zip(rates[scenario][1:], rates[map][1:], strict=True)) for k in (0, 1))
    rate = statistics.median(steps for steps, _ in rates[scenario][1:])
    return [(name, rate, "steps/s"), (f"{name}/relative", plain, share), (f"{name}/with-resets/relative", whole, share)]


def smac_interface_steps(name: str, steps: int = 3000) -> Row:
    """Steps per second through SMAC's own interface, with the calls that PyMARL makes in a step."""
    from inspo_benchmark.envs.smac import StarCraft2Env

    env, rng, rates = StarCraft2Env(map_name=name, seed=0), np.random.default_rng(0), []
    for _ in range(timing.ROUNDS):
        seconds, over = 0.0, True
        for _ in range(steps):
            if over:
                env.reset()
                avail = env.get_avail_actions()
            actions = [int(rng.choice(np.flatnonzero(x))) for x in avail]
            started = time.perf_counter()
            _, over, _ = env.step(actions)
            env.get_obs(), env.get_state()
            avail = env.get_avail_actions()
            seconds += time.perf_counter() - started
        rates.append(steps / seconds)
    return f"smac/{name}/drop-in", statistics.median(rates), "steps/s"


def smac_start() -> list[Row]:
    """Seconds from the import to the end of the first step, with an empty and with a filled cache of compiled kernels; peak memory."""

    def first_step(name: str, num_envs: int, cache: str) -> list[float]:
        command = [sys.executable, "-c", FIRST_STEP.format(name=name, num_envs=num_envs)]
        env = os.environ | {"NUMBA_CACHE_DIR": cache}
        return [float(x) for x in subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()]

    with tempfile.TemporaryDirectory() as cache:
        cold, warm = first_step("3m", 1, cache)[0], first_step("3m", 1, cache)[0]
        memory = first_step("27m_vs_30m", 4096, cache)[1]
    return [("smac/start/cold", cold, "s"), ("smac/start/warm", warm, "s"), ("smac/27m_vs_30m/4096-envs/memory", memory, "GiB")]


def mujoco_evaluation(name: str, policies: int = 5, episodes: int = 4) -> list[Row]:
    """Microseconds per step of an evaluation of packed policies on one core, compared with MuJoCo alone: the same models step from the same
    initial states with the same controls."""
    from mujoco import mj_step

    task = TASKS[f"{name}-expert"]
    algorithm = ALGORITHMS["bc"](settings("bc", task.name, {}), task.spec)
    state, evaluator = algorithm.init(range(policies)), Evaluator(algorithm, task, tuple(range(policies)))
    evaluator.rollout(state, episodes, sampled=False)  # creates the environments
    [env] = evaluator.envs.values()
    physics, arrays, step = env.physics, env.physics.arrays, env.physics.step
    controls = [[] for _ in physics.data]

    def recorded_step() -> None:
        for e in np.flatnonzero(arrays.terminated == 0):
            controls[e].append(arrays.controls[e].copy())
        step()

    physics.step = recorded_step
    evaluator.rollout(state, episodes, sampled=False)
    physics.step = step
    evaluation_seconds, mujoco_seconds = [], []
    for _ in range(timing.ROUNDS):
        started = time.process_time()
        evaluator.rollout(state, episodes, sampled=False)
        evaluation_seconds.append(time.process_time() - started)
        env.reset(list(range(episodes)) * policies)
        started = time.process_time()
        for data, sequence in zip(physics.data, controls, strict=True):
            for x in sequence:
                data.ctrl[:] = x
                mj_step(physics.model, data, nstep=physics.env.frame_skip)
        mujoco_seconds.append(time.process_time() - started)
    evaluator.close()
    evaluation, alone = statistics.median(evaluation_seconds), statistics.median(mujoco_seconds)
    return [
        (f"mujoco/{name}/evaluation", 1e6 * evaluation / sum(map(len, controls)), "us per step"),
        (f"mujoco/{name}/evaluation/alone", evaluation / alone, "times MuJoCo alone"),
    ]
