"""python -m tools.ship_gate: Train behavior cloning on StarCraft datasets, and write what it wins to datasets/ship_gate.csv.

A task measures something if cloning its data neither fails nor wins everything, and if there is more to gain than cloning gains: cloning
the won battles alone should be better. tests/datasets/test_ship_gate.py checks the numbers.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock

import inspo_benchmark as ib
from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets.catalog import is_available, manifest
from inspo_benchmark.datasets.dataset import Dataset, content_sha256
from inspo_benchmark.running.settings import settings

FILE = Path(__file__).parents[1] / "datasets" / "ship_gate.csv"
SEEDS, EPISODES = 5, 320
QUALITIES = ("medium", "medium_replay")


def published_rows() -> dict[str, dict[str, str | float]]:
    """Task -> its row in FILE."""
    return {row["task"]: row for row in pd.read_csv(FILE).to_dict("records")} if FILE.exists() else {}


def updates(task: str) -> int:
    """The number of updates of BC in the benchmark."""
    return settings("bc", task, {}).num_updates


def measure(task: str) -> dict[str, str | float]:
    """The row of a task: win rates of the data, of cloning all battles and of cloning the won ones, each greedy and sampled."""
    data = ib.load_dataset(task)
    won = np.flatnonzero(data.won == 1)
    row = {"task": task, "sha256": content_sha256(data), "updates": updates(task), "episodes": data.episodes, "data": data.won.mean()}
    for name, part in (("bc", data), ("bc_won", data.subset(won) if len(won) else None)):
        row |= clone(task, name, part)
    return row


def clone(task: str, name: str, data: Dataset | None) -> dict[str, float]:
    """Mean win rates over seeds, and the standard deviation of the greedy one. Without data: NaN."""
    if data is None:
        return {name: np.nan, f"{name}_std": np.nan, f"{name}_sampled": np.nan}
    result = ib.train("bc", task, seeds=SEEDS, dataset=data)
    greedy, sampled = (result.evaluate(EPISODES, sampled=x).groupby("seed").win_rate.mean() for x in (False, True))
    return {name: greedy.mean(), f"{name}_std": greedy.std(), f"{name}_sampled": sampled.mean()}


def main(argv: list[str] | None = None) -> int:
    p = CommandLine(prog="python -m tools.ship_gate", description=__doc__.partition(": ")[2].split("\n")[0])
    default = [f"*-{quality}" for quality in QUALITIES]
    p.add_argument("tasks", nargs="*", default=default, metavar="TASK", help="names or globs (default: all medium and medium_replay tasks)")
    args = p.parse_args(argv)

    def work() -> None:
        TASKS.discover()
        ALGORITHMS.discover()
        matched = TASKS.match(args.tasks)
        starcraft = [name for name in matched if TASKS[name].family == "smac" and is_available(TASKS[name])]
        names = [name for name in starcraft if TASKS[name].quality in QUALITIES]
        if not starcraft:
            raise UserError(f"{', '.join(matched[:3])}: name StarCraft tasks that have data or whose data can be built")
        if not names:
            raise UserError(f"{', '.join(matched[:3])}: only {' and '.join(QUALITIES)} tasks are measured")
        for name in names:
            row = published_rows().get(name, {})
            if (row.get("sha256"), row.get("updates")) != (manifest().get(name, {}).get("sha256"), updates(name)):
                row = measure(name)
                with FileLock(FILE.with_name(f".{FILE.name}.lock")), atomic_write(FILE) as part:  # another command may have added rows
                    frame = pd.DataFrame((published_rows() | {name: row}).values()).sort_values("task")
                    frame.to_csv(part, index=False, float_format="%.4f")
            shown = {key: value for key, value in row.items() if isinstance(value, float)}
            print(f"{name:24}", "  ".join(f"{key} {value:.2f}" for key, value in shown.items()), flush=True)

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
