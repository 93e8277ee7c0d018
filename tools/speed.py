"""How fast it is: results/bench.csv (name,value,unit). Ratios within one run are what to compare between machines.

`python -m tools.speed` measures InSPO and BC as they run on Bridge, compiled and plain, and every method plain on Bridge and at the sizes
of two larger tasks with the benchmark's protocol; `python -m tools.speed omiga icq` measures these methods alone, and
`python -m tools.speed sweep` what a pool costs.
"""

import csv
import io
import multiprocessing
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import outcome
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.core.spaces import Box
from inspo_benchmark.core.types import Batch, Draw, Spec
from inspo_benchmark.datasets.catalog import fetch
from inspo_benchmark.datasets.format import load
from inspo_benchmark.learning import train
from inspo_benchmark.learning.algorithm import Algorithm
from inspo_benchmark.learning.evaluate import Evaluator
from inspo_benchmark.learning.normalize import Normalizer
from inspo_benchmark.learning.sampler import Sampler
from inspo_benchmark.running.eta import Eta
from inspo_benchmark.running.execute import execute
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.planning import plan
from inspo_benchmark.running.pool import Limits, fork_server, run_pool
from inspo_benchmark.running.settings import settings
from inspo_benchmark.tools.speed_data import rows as of_data

OUT = Path("results/bench.csv")
PACKS = (1, 5, 10)
ROUNDS, SECONDS = 5, 1.0  # each figure is the median of so many timings of about so many seconds

HALFCHEETAH = "halfcheetah_6x1-medium", Spec(6, 23, 23, Box(1), 1000), dict(hidden_dim=256, batch_size=256)  # as OMIGA has them

Row = tuple[str, float, str]


def updates(algo: str, task: str) -> list[Row]:
    """ms per update of 1, 5 and 10 packed seeds with the method's own settings, compiled and plain, against as many separate runs."""
    torch.set_num_threads(1)
    name, rows = f"update/{algo}/{task}", []
    calls = {"compiled": train.COMPILE_FROM, "plain": train.TRACE_FROM}
    steps = {}
    cfg, data = settings(algo, task, {}), load(fetch(TASKS[task]), TASKS[task])
    algorithm = ALGORITHMS[algo](cfg, TASKS[task].spec)
    for seeds in PACKS:
        sampler = Sampler(
            data, TASKS[task].spec, cfg.batch_size, cfg.seq_len, algorithm.turns, algorithm.noise(), range(seeds), burn_in=cfg.burn_in
        )
        state = algorithm.init(range(seeds))
        for how, many in calls.items():
            started = time.perf_counter()
            step = train.prepare_update(algorithm.pack(seeds), (state, *sampler.draw(0)), many)
            rows.append((f"{name}/{how}/{seeds}-packed/prepare", time.perf_counter() - started, "s"))
            steps[how, seeds] = turned(step, state, sampler, algorithm.turns)
    # in turn, so that a machine whose speed drifts does not favour one of them
    for how in calls:
        times = {seeds: [] for seeds in PACKS}
        for _ in range(ROUNDS):
            for seeds in PACKS:
                times[seeds].append(timed(steps[how, seeds]))
        ms = {seeds: 1e3 * statistics.median(times[seeds]) for seeds in PACKS}
        for seeds in PACKS:
            rows.append((f"{name}/{how}/{seeds}-packed", ms[seeds], "ms"))
            rows.append((f"{name}/{how}/{seeds}-packed/one", ms[seeds] / ms[1], "times one seed"))
            rows.append((f"{name}/{how}/{seeds}-packed/separate", ms[seeds] / (seeds * ms[1]), "times as many separate runs"))
    return rows


def sizes(algo: str, task: str, spec: Spec, rate: float, overrides: dict) -> list[Row]:
    """ms per update of 1 and 5 packed seeds, not compiled, on a random batch of a task's size; share of the machine's matrix-product
    rate [flop / s] that the matrix products of an update reach, over its whole time."""
    cfg, rows, name = settings(algo, task, overrides), [], f"update/{algo}/{task}/plain"
    algorithm = ALGORITHMS[algo](cfg, spec)
    for seeds in (1, 5):
        state, (b, d) = algorithm.init(range(seeds)), invented(algorithm, spec, seeds)
        step = train.prepare_update(algorithm.pack(seeds), (state, b, d), train.TRACE_FROM)

        def update(step=step, inputs=(state, b, d)):
            with torch.no_grad():
                for _ in range(algorithm.turns):
                    step(*inputs)

        with FlopCounterMode(display=False) as counter:
            update()
        seconds = statistics.median(timed(update) for _ in range(3))
        rows.append((f"{name}/{seeds}-packed", 1e3 * seconds, "ms"))
        rows.append((f"{name}/{seeds}-packed/products", counter.get_total_flops() / seconds / rate, "of the rate"))
    return rows


def invented(algorithm: Algorithm, spec: Spec, seeds: int) -> tuple[Batch, Draw]:
    """A batch and a draw of the sizes that a task would give."""
    cfg, space, g = algorithm.cfg, spec.space, torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, generator=g)

    rows, steps = (seeds, cfg.batch_size, cfg.seq_len + 1), (seeds, cfg.batch_size, cfg.seq_len)
    act = normal(*rows, spec.num_agents, *space.noise_shape)
    act = act.tanh() if space.kind == "continuous" else (act > 0).long()
    avail = torch.ones(*rows, spec.num_agents, space.avail_dim, dtype=torch.bool)
    b = Batch(
        normal(*rows, spec.num_agents, spec.obs_dim),
        normal(*rows, spec.state_dim),
        avail,
        act,
        normal(*steps),
        torch.zeros(steps),
        torch.ones(steps),
    )
    u = {name: torch.rand(seeds, *shape, generator=g).clamp(0.01, 0.99) for name, shape in algorithm.noise().items()}
    return b, Draw(u, torch.zeros(seeds, dtype=torch.int64))


def products(width: int = 512) -> float:
    """Floating-point operations per second of a product of square float32 matrices on one core: the best of many short timings, because
    other programs can only slow it down."""
    x, seconds = torch.randn(width, width), []
    for _ in range(300):
        started = time.perf_counter()
        x @ x
        seconds.append(time.perf_counter() - started)
    return 2 * width**3 / min(seconds)


def turned(step: Callable, state, sampler: Sampler, turns: int) -> Callable[[], None]:
    """One update, with its draws."""

    def update():
        with torch.no_grad():
            for turn in range(turns):
                step(state, *sampler.draw(turn))

    return update


def timed(update: Callable[[], None]) -> float:
    """Seconds of the processor per call, all in one thread: what other programs take from the machine does not count."""
    update()
    count, started = 0, time.process_time()
    while (passed := time.process_time() - started) < SECONDS:
        update()
        count += 1
    return passed / count


def battles(name: str, num_envs: int = 256) -> list[Row]:
    """Steps of SMAC environments per second, random legal actions, observations and rewards included: only steps of living episodes
    count, and only the time inside the environment."""
    env, rng, rates = TASKS[f"{name}-random"].make(num_envs), np.random.default_rng(0), []
    for _ in range(ROUNDS + 1):
        seen, over, passed, steps = env.reset(range(num_envs)), np.zeros(num_envs, bool), 0.0, 0
        while over.mean() < 0.5:
            act = (rng.random(seen.avail.shape) * seen.avail).argmax(-1)
            started = time.perf_counter()
            step = env.step(act)
            passed += time.perf_counter() - started
            steps += int((~over).sum())
            seen, over = step.observation, step.terminated | step.truncated
        rates.append(steps / passed)
    return [(f"smac/{name}/{num_envs}-lanes", statistics.median(rates[1:]), "steps/s")]


def drop_in(name: str, steps: int = 3000) -> list[Row]:
    """The same through SMAC's own class, with the calls that PyMARL makes in a step."""
    from inspo_benchmark.envs.smac import StarCraft2Env

    env, rng, rates = StarCraft2Env(map_name=name, seed=0), np.random.default_rng(0), []
    for _ in range(ROUNDS):
        passed, over = 0.0, True
        for _ in range(steps):
            if over:
                env.reset()
                avail = env.get_avail_actions()
            act = [int(rng.choice(np.flatnonzero(x))) for x in avail]
            started = time.perf_counter()
            _, over, _ = env.step(act)
            env.get_obs(), env.get_state()
            avail = env.get_avail_actions()
            passed += time.perf_counter() - started
        rates.append(steps / passed)
    return [(f"smac/{name}/drop-in", statistics.median(rates), "steps/s")]


FIRST_STEP = """
import resource, time
started = time.perf_counter()
import numpy as np
from inspo_benchmark.envs.smac.vector import Smac
env = Smac("{name}", {lanes})
legal = env.reset(range({lanes})).legal
env.step(legal.argmax(-1))
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2)
"""


def starts() -> list[Row]:
    """Seconds from the import to the end of the first step, with an empty cache of compiled kernels and with a full one; memory."""

    def first(name: str, num_envs: int, cache: str) -> list[float]:
        command = [sys.executable, "-c", FIRST_STEP.format(name=name, num_envs=num_envs)]
        env = os.environ | {"NUMBA_CACHE_DIR": cache}
        return [float(x) for x in subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()]

    with tempfile.TemporaryDirectory() as cache:
        cold, warm = first("3m", 1, cache)[0], first("3m", 1, cache)[0]
        memory = first("27m_vs_30m", 4096, cache)[1]
    return [("smac/start/cold", cold, "s"), ("smac/start/warm", warm, "s"), ("smac/27m_vs_30m/4096-lanes/memory", memory, "GiB")]


def robots(name: str, policies: int = 5, episodes: int = 10) -> list[Row]:
    """Microseconds per step of an evaluation of packed policies, and the time that MuJoCo alone takes for the same steps: the same robots,
    from where they began, told the same. On one core."""
    import mujoco

    task, algorithm = TASKS[f"{name}-expert"], ALGORITHMS["bc"](settings("bc", f"{name}-expert", {}), TASKS[f"{name}-expert"].spec)
    state, evaluate = algorithm.init(range(policies)), Evaluator(algorithm, task, tuple(range(policies)), "cpu", Normalizer())
    evaluate.rollout(state, episodes, sampled=False)  # makes the environments
    (env,) = evaluate.envs.values()
    told, step = [[] for _ in env.play.robots], env.play.step

    def recorded() -> None:
        for e, over in enumerate(env.play.arrays.over):
            if not over:
                told[e].append(env.play.arrays.act[e].copy())
        step()

    env.play.step = recorded
    evaluate.rollout(state, episodes, sampled=False)
    env.play.step = step
    steps, whole, alone = sum(map(len, told)), [], []
    for _ in range(ROUNDS):
        started = time.process_time()
        evaluate.rollout(state, episodes, sampled=False)
        whole.append(time.process_time() - started)
        env.reset(list(range(episodes)) * policies)
        started = time.process_time()
        for robot, acts in zip(env.play.robots, told, strict=True):
            model, data, skip = robot.model, robot.data, robot.frame_skip
            for act in acts:
                data.ctrl[:] = act
                mujoco.mj_step(model, data, nstep=skip)
        alone.append(time.process_time() - started)
    evaluate.close()
    spent, least = statistics.median(whole), statistics.median(alone)
    return [
        (f"mujoco/{name}/evaluation", 1e6 * spent / steps, "us a step"),
        (f"mujoco/{name}/evaluation/alone", spent / least, "times MuJoCo alone"),
    ]


def pool(count: int = 1000, workers: int = 2, steps: int = 1) -> list[Row]:
    """A sweep of cells of so many updates of one seed, from the start of the server that workers are forked from, against the ideal: as
    many processes that are warm and fill their share of the same cells one after the other, without a pool, logs and supervision.
    Seconds by the clock and of the processor; on a machine that does other work as well, the latter are to be compared."""
    tasks = TASKS.match(["xor-*", "mne*"])
    context = multiprocessing.get_context("forkserver")
    rows, seconds = [], {}
    with tempfile.TemporaryDirectory() as folder:

        def cells(name: str) -> list[Experiment]:
            planned = [
                plan(["bc"], tasks, (0,), [f"steps={steps}", f"lr={1e-3 + 1e-6 * k}"], Path(folder, name))
                for k in range(-(-count // len(tasks)))
            ]
            return [cell for some in planned for cell in some][:count]

        with fork_server():
            pipes = [context.Pipe() for _ in range(workers)]
            loops = [context.Process(target=_loop, args=(cells("ideal")[k::workers], pipes[k][1])) for k in range(workers)]
            for loop in loops:
                loop.start()
            for mine, _ in pipes:
                mine.recv()  # all are warm
            for mine, _ in pipes:
                mine.send("go")
            ideal = [mine.recv() for mine, _ in pipes]
            for loop in loops:
                loop.join()
        forkserver._forkserver._stop()  # its workers' processor time is counted when it is gone
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        own = time.process_time()
        with redirect_stderr(io.StringIO()):
            ended = run_pool(cells("pool"), workers, ["cpu"], Limits(), Eta({}))
        wall = time.perf_counter() - started
        assert not ended.failed
        assert not ended.unfinished
        forkserver._forkserver._stop()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds["clock"] = wall, max(x for x, _ in ideal)
        seconds["processor"] = (
            after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime + time.process_time() - own,
            sum(x for _, x in ideal),
        )
    for kind, (mine, best) in seconds.items():
        name = f"sweep/{count}-cells-of-{steps}/{workers}-workers/{kind}"
        rows += [(name, mine, "s"), (f"{name}/ideal", best, "s"), (f"{name}/overhead", mine / best, "times the ideal")]
    return rows


def _loop(cells: list[Experiment], pipe: Connection) -> None:
    """Fill cells as soon as told, and tell the seconds that it took, by the clock and of the processor."""
    execute(replace(cells[0], seeds=(1,)))
    pipe.send("warm")
    pipe.recv()
    began, own = time.perf_counter(), time.process_time()
    for cell in cells:
        execute(cell)
    pipe.send((time.perf_counter() - began, time.process_time() - own))


def run(argv: list[str]) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # robots are not shared among processes
    ALGORITHMS.discover(), TASKS.discover()
    torch.set_num_threads(1)
    if argv == ["sweep"]:
        return show(pool())
    rate = products()
    rows: list[Row] = [("cores", os.cpu_count(), "cores"), ("products", rate / 1e9, "Gflop/s")]
    for algo in () if argv else ("inspo", "bc"):
        rows += updates(algo, "bridge-mix")
    for algo in ALGORITHMS.match(argv or ["*"]):
        for task, spec, overrides in (*((name, TASKS[name].spec, {}) for name in ("bridge-mix", "2s3z-medium")), HALFCHEETAH):
            rows += sizes(algo, task, spec, rate, overrides)
    if not argv:
        rows += battles("3m") + battles("5m_vs_6m") + drop_in("3m") + starts() + of_data() + pool()
        rows += [row for name in ("halfcheetah_6x1", "hopper_3x1", "ant_2x4") for row in robots(name)]
    show(rows)


def show(rows: list[Row]) -> None:
    print(*(f"{name:52} {value:10.3f} {unit}" for name, value, unit in rows), sep="\n")
    OUT.parent.mkdir(exist_ok=True)
    with atomic_write(OUT) as part, part.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["name", "value", "unit"])
        table.writerows((name, f"{value:.4g}", unit) for name, value, unit in rows)


if __name__ == "__main__":
    sys.exit(outcome(lambda: run(sys.argv[1:])))
