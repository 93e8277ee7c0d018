"""Checks training on a GPU and measures it: results/gpu.csv (name, value, unit). Under 8 minutes.

    python -m tools.gpu_check [--device cuda]

For InSPO, OMIGA and OMAR at the sizes of 2s3z and of HalfCheetah 6x1: largest difference to the CPU after updates in float64; whether an
update makes the host wait for the device; milliseconds per update of 1, 10 and 50 packed seeds, traced, and as the trainer runs it, as a
CUDA graph; peak memory. The exit code is 1 if a difference is above the tolerance, or if the host waits. With --device cpu the command
itself is tried: no waits, graphs and memory are measured.
"""

import statistics
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map

from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.learning import train
from inspo_benchmark.learning.algorithm import Algorithm
from inspo_benchmark.learning.tracing import trace
from inspo_benchmark.running.devices import check_device
from inspo_benchmark.running.settings import settings
from inspo_benchmark.tools.speed import rows as bench
from inspo_benchmark.tools.speed.updates import random_batch

OUT = Path("results/gpu.csv")
METHODS, SIZES, SEEDS = ("inspo", "omiga", "omar"), ("2s3z-medium", "halfcheetah_6x1-medium"), (1, 10, 50)
UPDATES, TOLERANCE = 3, 1e-6  # sums have another order on a GPU, and each update starts from the differences of the last one
SECONDS = 1.0  # of a timing


def inputs(algorithm: Algorithm, seeds: int, device: str) -> tuple[Any, ...]:
    """State, batch and draw of packed seeds, the same on all devices."""
    return tree_map(lambda x: x.to(device), (algorithm.init(range(seeds)), *random_batch(algorithm, seeds)))


def difference(algorithm: Algorithm, device: str) -> float:
    """The largest difference to the CPU, of all parameters and losses after UPDATES updates of two packed seeds in float64."""
    torch.set_default_dtype(torch.float64)
    try:
        results = []
        for place, calls in (("cpu", 1), (device, train.TRACE_FROM)):
            state, batch, draw = inputs(algorithm, 2, place)
            update = train.prepare_update(algorithm.pack(2), (state, batch, draw), calls)
            logs: Any = {}
            with torch.no_grad():
                for _ in range(UPDATES * algorithm.turns):
                    state, logs = update(state, batch, draw)
            results.append(tree_flatten(tree_map(lambda x: x.cpu().double(), (state, logs)))[0])
        return max(float((a - b).abs().max()) for a, b in zip(*results, strict=True))
    finally:
        torch.set_default_dtype(torch.float32)


def waits(call: Callable[[], Any]) -> bool:
    """Whether the host waits for the device in a call."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        call()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        return True
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return False


def repeated(update: Callable, state: Any, batch: Any, draw: Any) -> Callable[[], None]:
    """The next update, on the same batch."""

    def call() -> None:
        nonlocal state
        with torch.no_grad():
            state, _ = update(state, batch, draw)

    return call


def milliseconds(call: Callable[[], Any], device: str) -> float:
    """Median time of a call, until the device has done it."""
    wait = torch.cuda.synchronize if device.startswith("cuda") else lambda: None
    call(), wait()
    times, started = [], time.perf_counter()
    while not times or time.perf_counter() - started < SECONDS:
        before = time.perf_counter()
        call(), wait()
        times.append(time.perf_counter() - before)
    return 1e3 * statistics.median(times)


def measure(algo: str, task: str, device: str) -> list[bench.Row]:
    """The rows of a method at the sizes of a task. An update of a method that updates agents in turn is one turn here."""
    algorithm, name, on_gpu = ALGORITHMS[algo](settings(algo, task, {}), TASKS[task].spec), f"{algo}/{task}", device.startswith("cuda")
    rows = [(f"{name}/float64", difference(algorithm, device), "largest difference to the CPU")]
    for seeds in SEEDS:
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        example = inputs(algorithm, seeds, device)
        with torch.no_grad():
            traced = repeated(trace(algorithm.pack(seeds), *example), *example)
        rows.append((f"{name}/{seeds}-packed/traced", milliseconds(traced, device), "ms"))
        if on_gpu:
            rows.append((f"{name}/{seeds}-packed/waits", float(waits(traced)), "1 if the host waits"))
            graph = repeated(train.prepare_update(algorithm.pack(seeds), example, train.TRACE_FROM), *example)
            rows.append((f"{name}/{seeds}-packed/graph", milliseconds(graph, device), "ms"))
            rows.append((f"{name}/{seeds}-packed/memory", torch.cuda.max_memory_allocated() / 2**30, "GiB"))
    return rows


def mistakes(rows: list[bench.Row]) -> list[str]:
    """Names of the rows that must not be as they are."""
    return [
        name for name, value, unit in rows if (name.endswith("/float64") and not value <= TOLERANCE) or (name.endswith("/waits") and value)
    ]


def main(argv: list[str] | None = None) -> int:
    options = CommandLine.of("tools.gpu_check", __doc__)
    options.add_argument("--device", default="cuda", help="cuda, cuda:1, ..., or cpu to try the command (default: cuda)")
    device = options.parse_args(argv).device

    def work() -> int:
        on_gpu = device.startswith("cuda")
        if on_gpu and not torch.cuda.is_available():
            raise UserError("there is no GPU that torch can use; --device cpu tries the command without one")
        if on_gpu:
            try:
                torch.cuda.set_device(torch.device(device).index or 0)  # memory and waits are those of the current device
            except RuntimeError as error:
                raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from None
        else:
            check_device(device, f"--device {device}")
        ALGORITHMS.discover(), TASKS.discover()
        about = torch.cuda.get_device_name(device) if on_gpu else device
        rows: list[bench.Row] = [(f"{about}, torch {torch.__version__}, {datetime.now():%Y-%m-%d}", 1, "device")]
        for algo in METHODS:
            for task in SIZES:
                bench.progress(f"{algo} {task}")
                rows += measure(algo, task, device)
        bench.write(rows, OUT)
        if wrong := mistakes(rows):
            print("not as they must be:", *wrong, sep="\n")
        return 1 if wrong else 0

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
