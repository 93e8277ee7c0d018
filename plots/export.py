"""Copies the rows of a results folder into the formats of other tools, after the runs; training does not depend on any of them.

    python -m plots.export tensorboard FOLDER [--out results]     then: tensorboard --logdir FOLDER
    python -m plots.export wandb FOLDER [--out results]           offline; then, to upload: wandb sync FOLDER/wandb/offline-run-*
    python -m plots.export marl-eval FILE [--out results]         one JSON, for marl-eval's tables and figures

Every run (an algorithm with its overrides, on a task, with a seed) becomes a run there, with its settings; every row becomes a point.
"""

import inspo_benchmark.core.startup  # noqa: F401

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from inspo_benchmark.core.atomic_io import atomic_write, write_errors
from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.plots import load, style
from inspo_benchmark.plots.load import ResultFile
from inspo_benchmark.running.trackers import EVALUATIONS, TRACKERS, check_installed


class ExportedRun(NamedTuple):
    algo: str  # with its overrides: `inspo (beta=0.0)`
    task: str
    seed: int
    points: pd.DataFrame  # step, metric, value
    document: dict  # the JSON of its file


def exported_runs(out: Path) -> Iterator[ExportedRun]:
    """Every run in `out`, those with overrides included."""
    files = load.result_files(out)
    results: dict[str, ResultFile] = {result.columns["file"]: result for result in files}
    frame = load.read(out, files=files)
    for (file, seed), rows in frame.groupby(["file", "seed"], observed=True):
        result, overrides = results[file], results[file].columns["overrides"]
        algo = f"{result.algo} ({overrides})" if overrides else result.algo
        points = rows[["step", "metric", "value"]].sort_values(["step", "metric"])
        yield ExportedRun(algo, result.task, int(seed), points, result.document)


def tensorboard(out: Path, target: Path) -> str:
    """A folder of event files, `<task>/<algo>/seed-<k>` each, with the settings as text. Returns a summary."""
    return f"{_track('tensorboard', out, target)} runs; look at them with: tensorboard --logdir {target}"


def wandb(out: Path, target: Path) -> str:
    """Offline runs of Weights & Biases, which sends nothing until the user syncs them. Returns a summary."""
    count = _track("wandb", out, target)
    import wandb as client

    client.teardown()  # waits for its server, as `finish` may return before the file is written
    return f"{count} offline runs; upload them with: wandb sync {target}/wandb/offline-run-*"


def _track(name: str, out: Path, target: Path) -> int:
    """Give all runs to a tracker. Returns their number. UserError: it is not installed, or the folder is not empty."""
    check_installed([name])
    _new_folder(target)
    runs = list(exported_runs(out))
    for run in runs:
        tracker = TRACKERS[name](target, run.algo, run.task, run.seed, run.document)
        for step, rows in run.points.groupby("step"):
            tracker.add(int(step), dict(zip(rows.metric, map(float, rows.value))))
        tracker.close()
    return len(runs)


def marl_eval(out: Path, target: Path) -> str:
    """marl-eval's JSON.

    {env: {task: {algorithm: {seed_<k>: {step_<i>: {"step_count": t, metric: [values]}, "absolute_metrics": {metric: [values]}}}}}}

    `env` is our scenario. The final evaluation, which has many more episodes, is what marl-eval calls absolute. The format has no place for
    losses. Returns a summary.
    """
    environments: dict = {}
    omitted = set()
    for run in exported_runs(out):
        omitted |= set(run.points.metric) - set(EVALUATIONS)
        steps = run.points[run.points.metric.isin(EVALUATIONS)].groupby("step")
        values = [(step, {metric: [float(v)] for metric, v in zip(rows.metric, rows.value)}) for step, rows in steps]
        entry = {f"step_{i}": {"step_count": int(step), **metrics} for i, (step, metrics) in enumerate(values)}
        entry["absolute_metrics"] = values[-1][1]
        seeds = environments.setdefault(style.scenario(run.task), {}).setdefault(run.task, {}).setdefault(run.algo, {})
        seeds[f"seed_{run.seed}"] = entry
    with atomic_write(target) as part:
        part.write_text(json.dumps(environments, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return f"the format has no place for: {', '.join(sorted(omitted))}" if omitted else "every row is in it"


WRITERS: dict[str, Callable[[Path, Path], str]] = {"tensorboard": tensorboard, "wandb": wandb, "marl-eval": marl_eval}


def _new_folder(folder: Path) -> None:
    """Make the folder. UserError if it is not empty, as it may hold the same runs already."""
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name a new folder, or remove it first")


def main(argv: list[str] | None = None) -> int:
    options = CommandLine.of("plots.export", __doc__)
    options.add_argument("tool", choices=WRITERS)
    options.add_argument("target", type=Path, help="the file to write, or a new folder")
    options.add_argument("--out", type=Path, default=Path("results"), help="folder that holds runs/ (default: %(default)s)")
    args = options.parse_args(argv)
    return outcome(lambda: print(f"{args.target}: {WRITERS[args.tool](args.out, args.target)}"))


if __name__ == "__main__":
    sys.exit(main())
