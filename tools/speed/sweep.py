"""The overhead of a sweep of many small experiments."""

import io
import multiprocessing
import resource
import tempfile
import time
from contextlib import redirect_stderr
from dataclasses import replace
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.running.eta import Eta
from inspo_benchmark.running.execute import execute
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.planning import plan
from inspo_benchmark.running.pool import Limits, fork_server, run_pool
from inspo_benchmark.tools.speed.rows import Row


def measure(count: int = 1000, workers: int = 2) -> list[Row]:
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
