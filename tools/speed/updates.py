"""The speed of updates and of acting, at the sizes of several tasks."""

import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.core.spaces import Box
from inspo_benchmark.core.types import Batch, Draw, Spec, Task
from inspo_benchmark.datasets.catalog import fetch
from inspo_benchmark.datasets.format import load
from inspo_benchmark.learning import train
from inspo_benchmark.learning.algorithm import Algorithm, Nets
from inspo_benchmark.learning.evaluate import Evaluator
from inspo_benchmark.learning.sampler import UNIFORM_BOUNDS, Sampler
from inspo_benchmark.running.settings import settings
from inspo_benchmark.tools.speed import timing
from inspo_benchmark.tools.speed.rows import Row
from inspo_benchmark.tools.speed.timing import seconds_per_call

SEEDS = (1, 5, 10)
WIDTHS, BATCH_SIZES = (64, 128, 256), (64, 128, 256, 512)
OMIGA_HALFCHEETAH = "halfcheetah_6x1-medium", Spec(6, 23, 23, Box(1), 1000), dict(hidden_dim=256, batch_size=256)  # sizes of OMIGA's code
SHARED = "halfcheetah_6x1-medium"  # the task whose updates are compiled, with the settings that all methods share on MuJoCo


def of_method(algo: str, flops: float) -> list[Row]:
    """Updates and acting of a method. `flops`: the machine's rate of matrix products [flop/s]."""
    return updates_by_size(algo, flops) + compiled_by_size(algo) + acting_by_size(algo)


def compiled() -> list[Row]:
    """Packed seeds, compiled and not."""
    return [*compiled_updates("inspo", "bridge-mix"), *compiled_updates("bc", "bridge-mix")]


def evaluation() -> list[Row]:
    """Shares of evaluation in experiments."""
    return [evaluation_share(algo, TASKS[task]) for algo in ("bc", "omiga", "inspo") for task in ("3m-medium", SHARED)]


def sizes() -> list[Row]:
    """Updates of every method for several batch sizes and widths."""
    return [row for algo in ALGORITHMS for row in updates_by_batch(algo)]


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
        for _ in range(timing.ROUNDS):  # alternately, so that a drift of the machine's speed affects all of them
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
            name, inputs = f"update/{algo}/{task}/plain/{seeds}-packed", random_batch(algorithm, seeds)
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
    state, inputs = algorithm.init(range(runs)), random_batch(algorithm, runs)
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


def random_batch(algorithm: Algorithm, seeds: int) -> tuple[Batch, Draw]:
    """A batch and a draw with the shapes of a task, [S, ...]."""
    cfg, spec, generator = algorithm.cfg, algorithm.spec, torch.Generator().manual_seed(0)
    space = spec.space

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
