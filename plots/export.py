"""Rows -> what the tools of others read, after the runs: they mirror the rows, and nothing of them is in the training.

    python -m plots.export tensorboard FOLDER [--out results]     then: tensorboard --logdir FOLDER
    python -m plots.export wandb FOLDER [--out results]           offline; then, to upload: wandb sync FOLDER/wandb/offline-run-*
    python -m plots.export marl-eval FILE [--out results]         one JSON, for marl-eval's tables and figures

A run (an algorithm with its overrides, on a task, with a seed) is a run there, with its settings; every row is a point, at its step.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from inspo_benchmark.core.atomic_io import atomic_write, write_errors
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.plots import cli, load, style
from inspo_benchmark.plots.load import Run

EVALUATIONS = (*style.METRICS, "length")  # the rest are training losses
PROJECT = "inspo-benchmark"


class Mirrored(NamedTuple):
    """One run of the benchmark."""

    algo: str  # with its overrides: `inspo (beta=0.0)`
    task: str
    seed: int
    points: pd.DataFrame  # step, metric, value
    about: dict  # its JSON


def mirrored(out: Path) -> Iterator[Mirrored]:
    """Every run under `out`, those with overrides too."""
    about = {run.columns["file"]: run for run in load.runs(out)}
    frame = load.read(out, overrides=True)
    for (file, seed), mine in frame.groupby(["file", "seed"], observed=True):
        run: Run = about[file]
        algo = f"{run.algo} ({run.columns['overrides']})" if run.columns["overrides"] else run.algo
        yield Mirrored(algo, run.task, int(seed), mine[["step", "metric", "value"]].sort_values(["step", "metric"]), run.about)


def tensorboard(out: Path, target: Path) -> str:
    """A folder of event files, `<task>/<algo>/seed-<k>` each, with the settings as text."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UserError("TensorBoard is not installed; python -m pip install -c constraints.txt tensorboard") from None
    _fresh(target)
    runs = list(mirrored(out))
    for run in runs:
        with SummaryWriter(str(target / run.task / _name(run.algo) / f"seed-{run.seed}")) as writer:
            writer.add_text("about", "    " + json.dumps(run.about, indent=1).replace("\n", "\n    "), walltime=0)
            for step, metric, value in run.points.itertuples(index=False, name=None):
                writer.add_scalar(_tag(metric), value, step, walltime=step)  # its clock shows updates: the same rows, the same events
    return f"{len(runs)} runs; look at them with: tensorboard --logdir {target}"


def wandb(out: Path, target: Path) -> str:
    """Offline runs of Weights & Biases: nothing is sent until the user syncs them."""
    os.environ |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}  # read by the import
    try:
        import wandb as client
    except ImportError:
        raise UserError("Weights & Biases is not installed; python -m pip install -c constraints.txt wandb") from None
    _fresh(target)
    quiet = client.Settings(silent=True, console="off", x_disable_stats=True, x_disable_meta=True, x_save_requirements=False)
    runs = list(mirrored(out))
    for run in runs:
        session = client.init(
            mode="offline",
            dir=target,
            project=PROJECT,
            group=f"{run.algo} on {run.task}",
            name=f"{run.algo} on {run.task}, seed {run.seed}",
            config={"algo": run.algo, "task": run.task, "seed": run.seed, "about": run.about},
            settings=quiet,
            save_code=False,
        )
        for step, some in run.points.groupby("step"):
            session.log({_tag(metric): float(value) for metric, value in zip(some.metric, some.value)}, step=int(step))
        session.finish()
    client.teardown()  # waits for its server: `finish` may return before the file is written
    return f"{len(runs)} offline runs; upload them with: wandb sync {target}/wandb/offline-run-*"


def marl_eval(out: Path, target: Path) -> str:
    """marl-eval's JSON.

    {env: {task: {algorithm: {seed_<k>: {step_<i>: {"step_count": t, metric: [values]}, "absolute_metrics": {metric: [values]}}}}}}

    `env` is our scenario. The last evaluation, of many more episodes, is what marl-eval calls absolute. There is no place for losses.
    """
    found: dict = {}
    left = set()
    for run in mirrored(out):
        left |= set(run.points.metric) - set(EVALUATIONS)
        steps = run.points[run.points.metric.isin(EVALUATIONS)].groupby("step")
        values = [(step, {metric: [float(v)] for metric, v in zip(some.metric, some.value)}) for step, some in steps]
        entry = {f"step_{i}": {"step_count": int(step), **metrics} for i, (step, metrics) in enumerate(values)}
        entry["absolute_metrics"] = values[-1][1]
        found.setdefault(style.scenario(run.task), {}).setdefault(run.task, {}).setdefault(run.algo, {})[f"seed_{run.seed}"] = entry
    with atomic_write(target) as part:
        part.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return f"no place for: {', '.join(sorted(left))}" if left else "everything is in it"


WRITERS: dict[str, Callable[[Path, Path], str]] = {"tensorboard": tensorboard, "wandb": wandb, "marl-eval": marl_eval}


def _tag(metric: str) -> str:
    """Evaluations and losses in groups of their own."""
    return f"{'evaluation' if metric in EVALUATIONS else 'training'}/{metric}"


def _name(text: str) -> str:
    """As a folder, on any system."""
    return "".join(c if c.isalnum() or c in " ._-=,()" else "_" for c in text)


def _fresh(folder: Path) -> None:
    """UserError if there is anything in it: runs would be there twice."""
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise UserError(f"{folder} is not empty; name a new folder, or remove it first")


def run(argv: list[str] | None = None) -> int:
    title, _, text = __doc__.partition("\n\n")
    options = argparse.ArgumentParser(
        prog="python -m plots.export", description=title, epilog=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("tool", choices=WRITERS)
    options.add_argument("target", type=Path, help="the file to write, or a new folder")
    options.add_argument("--out", type=Path, default=Path("results"), help="folder that holds runs/ (default: %(default)s)")
    args = options.parse_args(argv)
    return cli.run(lambda: print(f"{args.target}: {WRITERS[args.tool](args.out, args.target)}"))


if __name__ == "__main__":
    sys.exit(run())
