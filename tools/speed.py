"""Measures the speed of training, environments, datasets and sweeps on this machine, and writes results/bench.csv (name, value, unit).

    python -m tools.speed [PART ...] [--against FILE]

A part is a method (updates and acting at the sizes of four tasks, and compiled updates on HalfCheetah; beside OMIGA's if that is a part
too), `compiled` (InSPO and BC on Bridge, compiled and not, 1 to 10 seeds packed), `evaluation` (its share of an experiment), `sizes`
(updates of every method for several batch sizes and widths; not among the defaults), `smac`, `mujoco`, `data` or `sweep`. The default is
all of them. To compare machines, compare the ratios of one run. With --against, a copy of an earlier bench.csv, the command fails (exit
code 1) if a speed in units of the matrix product rate fell by more than 30 %. The first run compiles for some minutes; what it compiles
is kept.
"""

import argparse
import csv
import io
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from datetime import datetime
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.env import VecEnv
from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.core.spaces import Box
from inspo_benchmark.core.types import Batch, Draw, Spec, Task
from inspo_benchmark.datasets.catalog import fetch
from inspo_benchmark.datasets.format import load
from inspo_benchmark.learning import train
from inspo_benchmark.learning.algorithm import Algorithm, Nets
from inspo_benchmark.learning.compiling import cpuinfo
from inspo_benchmark.learning.evaluate import Evaluator
from inspo_benchmark.learning.sampler import UNIFORM_BOUNDS, Sampler
from inspo_benchmark.running.eta import Eta
from inspo_benchmark.running.execute import execute
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.planning import plan
from inspo_benchmark.running.pool import Limits, fork_server, run_pool
from inspo_benchmark.running.settings import settings
from inspo_benchmark.tools import speed_data

OUT = Path("results/bench.csv")
SEEDS = (1, 5, 10)
WIDTHS, BATCH_SIZES = (64, 128, 256), (64, 128, 256, 512)
ROUNDS, SECONDS = 5, 1.0  # a value is the median of ROUNDS timings of about SECONDS each
OMIGA_HALFCHEETAH = "halfcheetah_6x1-medium", Spec(6, 23, 23, Box(1), 1000), dict(hidden_dim=256, batch_size=256)  # sizes of OMIGA's code
SHARED = "halfcheetah_6x1-medium"  # the task whose updates are compiled, with the settings that all methods share on MuJoCo
MUJOCO_SCENARIOS = ("halfcheetah_6x1", "hopper_3x1", "ant_2x4")

TOLERANCE = 0.3  # share of an earlier speed that may be lost

Row = tuple[str, float, str]  # name, value, unit


# --- updates


def compiled_updates(algo: str, task: str) -> list[Row]:
    """ms per update of packed seeds with the method's own settings, compiled and traced, compared with separate runs of the same seeds."""
    name, rows, updates = f"update/{algo}/{task}", [], {}
    calls = {"compiled": train.COMPILE_FROM, "plain": train.TRACE_FROM}
    cfg, spec, data = settings(algo, task, {}), TASKS[task].spec, load(fetch(TASKS[task]), TASKS[task])
    algorithm = ALGORITHMS[algo](cfg, spec)
    for seeds in SEEDS:
        sampler = Sampler(data, cfg.batch_size, cfg.seq_len, algorithm.turns, algorithm.noise(), range(seeds), burn_in=cfg.burn_in)
        state = algorithm.init(range(seeds))
        for form, count in calls.items():
            started = time.perf_counter()
            call = train.prepare_update(algorithm.pack(seeds), (state, *sampler.draw(0)), count)
            rows.append((f"{name}/{form}/{seeds}-packed/prepare", time.perf_counter() - started, "s"))
            updates[form, seeds] = one_update(call, state, sampler.draw, algorithm.turns)
    for form in calls:
        times = {seeds: [] for seeds in SEEDS}
        for _ in range(ROUNDS):  # alternately, so that a drift of the machine's speed affects all of them
            for seeds in SEEDS:
                times[seeds].append(seconds_per_call(updates[form, seeds]))
        ms = {seeds: 1e3 * statistics.median(times[seeds]) for seeds in SEEDS}
        for seeds in SEEDS:
            rows.append((f"{name}/{form}/{seeds}-packed", ms[seeds], "ms"))
            rows.append((f"{name}/{form}/{seeds}-packed/one", ms[seeds] / ms[1], "times one seed"))
            rows.append((f"{name}/{form}/{seeds}-packed/separate", ms[seeds] / (seeds * ms[1]), "times separate runs"))
    return rows


def updates_by_size(algo: str, flops: float) -> list[Row]:
    """ms per update of 1 and 5 packed seeds, traced, on random batches with the sizes of four tasks; and the share of the machine's
    matrix product rate [flop/s] that the matrix products of an update reach."""
    rows = []
    sizes = [(task, TASKS[task].spec, {}) for task in ("bridge-mix", "2s3z-medium", "5m_vs_6m-medium")]
    for task, spec, overrides in (*sizes, OMIGA_HALFCHEETAH):
        algorithm = ALGORITHMS[algo](settings(algo, task, overrides), spec)
        for seeds in (1, 5):
            name, inputs = f"update/{algo}/{task}/plain/{seeds}-packed", random_batch(algorithm, spec, seeds)
            state = algorithm.init(range(seeds))
            call = train.prepare_update(algorithm.pack(seeds), (state, *inputs), train.TRACE_FROM)
            update = one_update(call, state, lambda turn, inputs=inputs: inputs, algorithm.turns)
            with FlopCounterMode(display=False) as counter:
                update()
            seconds = statistics.median(seconds_per_call(update) for _ in range(3))
            rows.append((name, 1e3 * seconds, "ms"))
            rows.append((f"{name}/products", counter.get_total_flops() / seconds / flops, "of the matrix product rate"))
    return rows


def compiled_by_size(algo: str) -> list[Row]:
    """ms per update of 1 and 5 seeds as an experiment makes them on SHARED: traced, as short experiments are, and compiled."""
    spec, rows = TASKS[SHARED].spec, []
    algorithm = ALGORITHMS[algo](settings(algo, SHARED, {}), spec)
    for form, calls in (("traced", train.TRACE_FROM), ("compiled", train.COMPILE_FROM)):
        for seeds in (1, 5):
            seconds = statistics.median(seconds_per_call(experiments_update(algorithm, seeds, calls)) for _ in range(3))
            rows.append((f"update/{algo}/{SHARED}/shared-settings/{form}/{seeds}-packed", 1e3 * seconds, "ms"))
    return rows


def experiments_update(algorithm: Algorithm, seeds: int, calls: int) -> Callable[[], None]:
    """One update of all seeds on random batches, prepared as in an experiment with this number of calls of `update`."""
    runs = train.runs_per_call(algorithm, seeds, calls)
    state, inputs = algorithm.init(range(runs)), random_batch(algorithm, algorithm.spec, runs)
    call = train.prepare_update(algorithm.pack(runs), (state, *inputs), calls)
    update = one_update(call, state, lambda turn: inputs, algorithm.turns)
    return lambda: [update() for _ in range(seeds // runs)]


def updates_by_batch(algo: str) -> list[Row]:
    """us per transition of an agent, for batch sizes and widths on SHARED: one seed, traced."""
    rows = []
    for width in WIDTHS:
        for batch_size in BATCH_SIZES:
            algorithm = ALGORITHMS[algo](settings(algo, SHARED, dict(hidden_dim=width, batch_size=batch_size)), TASKS[SHARED].spec)
            seconds = seconds_per_call(experiments_update(algorithm, 1, train.TRACE_FROM))
            name = f"sizes/{algo}/{width}-units/{batch_size}-transitions"
            rows.append((name, 1e6 * seconds / batch_size, "us per transition"))
    return rows


def evaluation_share(algo: str, task: Task) -> Row:
    """The share of evaluation in an experiment, from the times of an update and of an evaluation with untrained policies of five seeds."""
    seeds = 5
    algorithm = ALGORITHMS[algo](settings(algo, task.name, {}), task.spec)
    evaluator, state = Evaluator(algorithm, task, tuple(range(seeds))), algorithm.init(range(seeds))
    num_updates = algorithm.cfg.num_updates
    training = num_updates * seconds_per_call(experiments_update(algorithm, seeds, num_updates * algorithm.turns))
    episodes = min(task.eval_episodes, 10)
    evaluator(state, episodes)
    started = time.process_time()
    evaluator(state, episodes)
    evaluation = (time.process_time() - started) / episodes * (task.num_evals * task.eval_episodes + task.final_episodes)
    evaluator.close()
    return f"evaluation/{algo}/{task.name}/share", evaluation / (evaluation + training), "of an experiment"


def acting_by_size(algo: str, num_envs: int = 32) -> list[Row]:
    """us per step of the greedy policies of one seed in parallel environments, at the sizes of three tasks, without the environments."""
    rows = []
    for task, spec, overrides in (*((task, TASKS[task].spec, {}) for task in ("bridge-mix", "2s3z-medium")), OMIGA_HALFCHEETAH):
        algorithm = ALGORITHMS[algo](settings(algo, task, overrides), spec)
        f = Nets(algorithm.modules, {name: p[0] for name, p in algorithm.init([0]).params.items()})
        obs, memory = torch.randn(num_envs, spec.num_agents, spec.obs_dim), algorithm.init_hidden(num_envs)
        avail = torch.ones(num_envs, spec.num_agents, spec.space.avail_dim, dtype=torch.bool)

        def act(algorithm=algorithm, inputs=(f, obs, avail, memory)):
            with torch.no_grad():
                algorithm.act(*inputs)

        seconds = statistics.median(seconds_per_call(act) for _ in range(3))
        rows.append((f"act/{algo}/{task}/{num_envs}-envs", 1e6 * seconds, "us per step"))
    return rows


def times_omiga(rows: list[Row]) -> list[Row]:
    """Times of updates and of acting divided by OMIGA's in the same rows, if OMIGA is among the methods."""
    seconds = {name: value for name, value, unit in rows if unit in ("ms", "us per step") and "/omiga/" in name}
    found = []
    for name, value, _ in rows:
        kind, _, rest = name.partition("/")
        same = f"{kind}/omiga/{rest.partition('/')[2]}"
        if kind in ("update", "act") and same in seconds and name != same:
            found.append((f"{name}/omiga", value / seconds[same], "times OMIGA"))
    return found


def random_batch(algorithm: Algorithm, spec: Spec, seeds: int) -> tuple[Batch, Draw]:
    """A batch and a draw with the shapes of a task, [S, ...]."""
    cfg, space, generator = algorithm.cfg, spec.space, torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    rows, steps = (seeds, cfg.batch_size, cfg.seq_len + 1), (seeds, cfg.batch_size, cfg.seq_len)
    actions = normal(*rows, spec.num_agents, *space.noise_shape)
    batch = Batch(
        obs=normal(*rows, spec.num_agents, spec.obs_dim),
        state=normal(*rows, spec.state_dim),
        avail=torch.ones(*rows, spec.num_agents, space.avail_dim, dtype=torch.bool),
        actions=actions.tanh() if space.kind == "continuous" else (actions > 0).long(),
        rewards=normal(*steps),
        terminated=torch.zeros(steps),
        mask=torch.ones(steps),
    )
    u = {name: torch.rand(seeds, *shape, generator=generator).clamp(*UNIFORM_BOUNDS) for name, shape in algorithm.noise().items()}
    return batch, Draw(u, torch.zeros(seeds, dtype=torch.int64))


def one_update(call: Callable, state, draw: Callable[[int], tuple[Batch, Draw]], turns: int) -> Callable[[], None]:
    """A function that makes one update: a call for each turn, and its draw."""

    def update():
        with torch.no_grad():
            for turn in range(turns):
                call(state, *draw(turn))

    return update


def seconds_per_call(work: Callable[[], None]) -> float:
    """CPU seconds per call of `work` in one thread. Other programs on the machine do not count."""
    work()
    count, started = 0, time.process_time()
    while (elapsed := time.process_time() - started) < SECONDS:
        work()
        count += 1
    return elapsed / count


def matrix_product_rate() -> float:
    """flop/s of a product of square float32 matrices on one core: the best of many timings, as other programs can only slow it down."""
    width, seconds = 512, []
    x = torch.randn(width, width)
    for _ in range(300):
        started = time.perf_counter()
        x @ x
        seconds.append(time.perf_counter() - started)
    return 2 * width**3 / min(seconds)


# --- environments

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
    for _ in range(ROUNDS + 1):
        steps, seconds, _ = random_battles(env, rng, time.perf_counter)
        rates.append(steps / seconds)
    return f"smac/{name}/{num_envs}-envs", statistics.median(rates[1:]), "steps/s"


def smacv2_steps(scenario: str, map: str, num_envs: int = 256) -> list[Row]:
    """Steps per second of a scenario, as in `smac_steps` but in CPU time; compared with a map on which as many units fight, without and
    with the time of resets, which draw teams and places."""
    envs, rates = {name: TASKS[f"{name}-random"].make(num_envs) for name in (scenario, map)}, {scenario: [], map: []}
    rng = np.random.default_rng(0)
    for _ in range(ROUNDS + 1):  # alternately, so that a drift of the machine's speed affects both
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
    for _ in range(ROUNDS):
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
    import mujoco

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
    for _ in range(ROUNDS):
        started = time.process_time()
        evaluator.rollout(state, episodes, sampled=False)
        evaluation_seconds.append(time.process_time() - started)
        env.reset(list(range(episodes)) * policies)
        started = time.process_time()
        for data, sequence in zip(physics.data, controls, strict=True):
            for x in sequence:
                data.ctrl[:] = x
                mujoco.mj_step(physics.model, data, nstep=physics.env.frame_skip)
        mujoco_seconds.append(time.process_time() - started)
    evaluator.close()
    evaluation, alone = statistics.median(evaluation_seconds), statistics.median(mujoco_seconds)
    return [
        (f"mujoco/{name}/evaluation", 1e6 * evaluation / sum(map(len, controls)), "us per step"),
        (f"mujoco/{name}/evaluation/alone", evaluation / alone, "times MuJoCo alone"),
    ]


# --- sweeps


def sweep(count: int = 1000, workers: int = 2) -> list[Row]:
    """Seconds of a sweep of small experiments with one seed, from the start of the fork server on, compared with the ideal: the same number
    of processes that have done their imports and run their share of the same experiments one after another, without a pool, logs and
    supervision. Wall-clock time and CPU time; compare the latter on a machine with other work."""
    tasks = TASKS.match(["xor-*", "mne*"])
    context = multiprocessing.get_context("forkserver")
    with tempfile.TemporaryDirectory() as folder:

        def experiments(name: str) -> list[Experiment]:
            planned = [
                plan(["bc"], tasks, (0,), ["num_updates=1", f"lr={1e-3 + 1e-6 * k}"], Path(folder, name))
                for k in range(-(-count // len(tasks)))
            ]
            return [experiment for part in planned for experiment in part][:count]

        with fork_server():
            pipes = [context.Pipe() for _ in range(workers)]
            shares = [experiments("ideal")[k::workers] for k in range(workers)]
            processes = [context.Process(target=_run_share, args=(share, pipe)) for share, (_, pipe) in zip(shares, pipes)]
            for process in processes:
                process.start()
            for pipe, _ in pipes:
                pipe.recv()  # imports done
            for pipe, _ in pipes:
                pipe.send("start")
            ideal_wall, ideal_cpu = zip(*(pipe.recv() for pipe, _ in pipes))
            for process in processes:
                process.join()
        forkserver._forkserver._stop()  # the CPU time of its workers is counted when it has ended
        cpu_before, started = _cpu_time(), time.perf_counter()
        with redirect_stderr(io.StringIO()):
            result = run_pool(experiments("pool"), workers, ["cpu"], Limits(), Eta({}))
        wall = time.perf_counter() - started
        assert not result.failed
        assert not result.unfinished
        forkserver._forkserver._stop()
        cpu = _cpu_time() - cpu_before
    rows = []
    for clock, seconds, ideal in (("wall", wall, max(ideal_wall)), ("cpu", cpu, sum(ideal_cpu))):
        name = f"sweep/{count}-experiments-of-1/{workers}-workers/{clock}"
        rows += [(name, seconds, "s"), (f"{name}/ideal", ideal, "s"), (f"{name}/overhead", seconds / ideal, "times the ideal")]
    return rows


def _cpu_time() -> float:
    """CPU seconds of this process and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _run_share(experiments: list[Experiment], pipe: Connection) -> None:
    """Do the imports, wait for a message, run the experiments, and send the wall-clock and CPU seconds of the latter."""
    execute(replace(experiments[0], seeds=(1,)))
    pipe.send("ready")
    pipe.recv()
    wall, cpu = time.perf_counter(), time.process_time()
    for experiment in experiments:
        execute(experiment)
    pipe.send((time.perf_counter() - wall, time.process_time() - cpu))


# --- the command


def measure(part: str) -> list[Row]:
    """The rows of a part other than a method."""
    if part == "compiled":
        return [*compiled_updates("inspo", "bridge-mix"), *compiled_updates("bc", "bridge-mix")]
    if part == "smac":
        scenarios = [*smacv2_steps("terran_5_vs_5", "2s3z"), *smacv2_steps("terran_10_vs_10", "MMM")]
        return [smac_steps("3m"), smac_steps("5m_vs_6m"), *scenarios, smac_interface_steps("3m"), *smac_start()]
    if part == "mujoco":
        return [row for name in MUJOCO_SCENARIOS for row in mujoco_evaluation(name)]
    if part == "evaluation":
        tasks = [TASKS[name] for name in ("3m-medium", SHARED)]
        return [evaluation_share(algo, task) for algo in ("bc", "omiga", "inspo") for task in tasks]
    if part == "sizes":
        return [row for algo in ALGORITHMS for row in updates_by_batch(algo)]
    return {"data": speed_data.measure, "sweep": sweep}[part]()


def processor() -> str:
    """The processor's name, or its architecture where the system states no name."""
    return cpuinfo("model name").partition(": ")[2] or platform.machine()


def progress(part: str) -> None:
    """What is measured now, with the time of day."""
    print(f"{datetime.now():%H:%M:%S} {part}", file=sys.stderr, flush=True)


PARTS = ("compiled", "evaluation", "smac", "mujoco", "data", "sweep")  # and "sizes", if it is named


def main(argv: list[str] | None = None) -> int:
    title, _, text = __doc__.partition("\n\n")
    options = CommandLine(
        prog="python -m tools.speed", description=title, epilog=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("parts", nargs="*", metavar="PART", help=f"a method, or one of {', '.join(PARTS)}, sizes")
    options.add_argument(
        "--against", type=Path, metavar="FILE", help="a copy of an earlier bench.csv, whose speeds these must not fall below"
    )
    args = options.parse_args(argv)

    def work() -> int:
        if args.against and args.against.resolve() == OUT.resolve():
            raise UserError(f"--against {args.against}: this run overwrites the file; copy it first, and name the copy")
        earlier = read(args.against) if args.against else []
        os.environ["OMP_NUM_THREADS"] = "1"  # one core; it also keeps MuJoCo environments in this process
        ALGORITHMS.discover(), TASKS.discover()
        torch.set_num_threads(1)
        flops = matrix_product_rate()
        about = f"{processor()}, {datetime.now():%Y-%m-%d}"
        rows: list[Row] = [(about, os.cpu_count(), "cores"), ("products", flops / 1e9, "Gflop/s")]
        names = [part for part in args.parts if part not in (*PARTS, "sizes")]
        if algos := ALGORITHMS.match(names) if names else () if args.parts else ALGORITHMS.match(["*"]):
            for algo in algos:
                progress(algo)
                rows += updates_by_size(algo, flops) + compiled_by_size(algo) + acting_by_size(algo)
            rows += times_omiga(rows)
        for part in (*PARTS, "sizes"):
            if part in args.parts or (part in PARTS and not args.parts):
                progress(part)
                rows += measure(part)
        show(rows)
        if losses := slower(rows, earlier):
            print(f"slower than {args.against}, in units of the matrix product rate:", *losses, sep="\n")
        return 1 if losses else 0

    return outcome(work)


def read(path: Path) -> list[Row]:
    """The rows of a bench.csv. UserError: there is no such file, or it is not one."""
    try:
        with path.open(newline="") as file:
            rows = [(row["name"], float(row["value"]), row["unit"]) for row in csv.DictReader(file)]
        relative_speeds(rows)
        return rows
    except (OSError, KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, csv.Error) as e:
        raise UserError(f"{path} is not a file of speeds: {e}") from None


def slower(rows: list[Row], earlier: list[Row]) -> list[str]:
    """A line for each speed in both, with the same unit, that fell by more than TOLERANCE. Times and rates are taken in units of the
    matrix product rate."""
    units = {(name, unit) for name, _, unit in rows}
    now, before = relative_speeds(rows), relative_speeds([row for row in earlier if (row[0], row[2]) in units])
    return [
        f"{name}: {now[name] / speed:.2f} of the earlier speed" for name, speed in before.items() if now[name] < (1 - TOLERANCE) * speed
    ]


def relative_speeds(rows: list[Row]) -> dict[str, float]:
    """The rows that are speeds or costs, as speeds that do not depend on the machine's: name -> speed, the greater the better."""
    products = dict((name, value) for name, value, _ in rows).get("products", 1.0)
    speeds = {}
    for name, value, unit in rows:
        if unit in ("s", "ms", "us per step", "us per transition"):
            speeds[name] = 1 / (value * products)
        elif unit in ("steps/s", "MB/s"):
            speeds[name] = value / products
        elif unit.startswith("times "):
            speeds[name] = 1 / value
        elif unit.startswith(("of the rate ", "of the matrix product rate")):
            speeds[name] = value
    return speeds


def show(rows: list[Row], out: Path | None = None) -> None:
    """Print the rows and write them to a file, by default results/bench.csv."""
    out = out or OUT
    print(*(f"{name:52} {value:10.3f} {unit}" for name, value, unit in rows), sep="\n")
    out.parent.mkdir(exist_ok=True)
    with atomic_write(out) as part, part.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["name", "value", "unit"])
        table.writerows((name, f"{value:.4g}", unit) for name, value, unit in rows)


if __name__ == "__main__":
    sys.exit(main())
