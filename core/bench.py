"""How fast it is: results/bench.csv (name,value,unit). Ratios within one run are what to compare between machines."""

import csv
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from core import trainer
from core.cell import settings
from core.errors import UserError
from core.files import whole
from core.registry import ALGORITHMS, TASKS
from datasets.format import load
from datasets.store import fetch
from datasets.windows import Sampler

OUT = Path("results/bench.csv")
PACKS = (1, 5, 10)
ROUNDS, SECONDS = 5, 1.0  # each figure is the median of so many timings of about so many seconds

Row = tuple[str, float, str]


def updates(algo: str, task: str) -> list[Row]:
    """ms per update of 1, 5 and 10 packed seeds with the method's own settings, compiled and plain, against as many separate runs."""
    torch.set_num_threads(1)
    name, rows = f"update/{algo}/{task}", []
    calls = {"compiled": trainer.COMPILE_FROM, "plain": trainer.TRACE_FROM}
    steps = {}
    cfg, data = settings(algo, task, {}), load(fetch(TASKS[task]), TASKS[task])
    algorithm = ALGORITHMS[algo](cfg, TASKS[task].spec)
    for seeds in PACKS:
        sampler = Sampler(data, TASKS[task].spec, cfg.batch, cfg.window, algorithm.turns, algorithm.noise(), range(seeds), burn=cfg.burn)
        state = algorithm.init(range(seeds))
        for how, many in calls.items():
            started = time.perf_counter()
            step = trainer.prepared(algorithm.pack(seeds), (state, *sampler.draw(0)), many)
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


def turned(step: Callable, state, sampler: Sampler, turns: int) -> Callable[[], None]:
    """One update, with its draws."""

    def update():
        with torch.no_grad():
            for turn in range(turns):
                step(state, *sampler.draw(turn))

    return update


def timed(update: Callable[[], None]) -> float:
    """Seconds per call."""
    update()
    count, started = 0, time.perf_counter()
    while (passed := time.perf_counter() - started) < SECONDS:
        update()
        count += 1
    return passed / count


def main() -> int:
    try:
        ALGORITHMS.discover(), TASKS.discover()
        rows: list[Row] = [("cores", os.cpu_count(), "cores")]
        for algo in ("inspo", "bc"):
            rows += updates(algo, "bridge-mix")
        print(*(f"{name:52} {value:10.3f} {unit}" for name, value, unit in rows), sep="\n")
        OUT.parent.mkdir(exist_ok=True)
        with whole(OUT) as part, part.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["name", "value", "unit"])
            table.writerows((name, f"{value:.4g}", unit) for name, value, unit in rows)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
