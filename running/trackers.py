"""TensorBoard and Weights & Biases: while an experiment trains (`run_benchmark.py --log`), its rows go there too, one run per seed.

Neither is needed for training or for tables. Weights & Biases works offline unless WANDB_MODE says otherwise.
"""

import hashlib
import importlib.util
import itertools
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from inspo_benchmark.core.atomic_io import write_errors
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.learning.train import Row
from inspo_benchmark.running.experiment import Experiment

# All other metrics are training losses.
EVALUATIONS = ("return", "return_sampled", "win_rate", "win_rate_sampled", "length", "distinct_episodes")
PROJECT = "inspo-benchmark"


class Tracker(Protocol):
    """One run, which is a method on a task with one seed, in another tool."""

    def add(self, step: int, values: dict[str, float]) -> None:
        """The metrics after this number of updates."""

    def close(self) -> None: ...


class TensorBoard:
    """Event files in `<folder>/<task>/<method>/seed-<k>`. `about`: settings, stored as text. The points of a finished run have the updates
    as time stamps, so that the same rows give the same files; those of a `live` one have the time of day."""

    def __init__(self, folder: Path, algo: str, task: str, seed: int, about: dict[str, Any], live: bool = False):
        from torch.utils.tensorboard import SummaryWriter

        path = folder / task / _folder_name(algo) / f"seed-{seed}"
        if live:  # a resumed experiment writes all its rows again
            shutil.rmtree(path, ignore_errors=True)
        self.live, self.writer = live, SummaryWriter(str(path))
        text = "    " + json.dumps(about, indent=1).replace("\n", "\n    ")
        self.writer.add_text("about", text, walltime=time.time() if live else 0)

    def add(self, step: int, values: dict[str, float]) -> None:
        for metric, value in values.items():
            self.writer.add_scalar(_tag(metric), value, step, walltime=time.time() if self.live else step)
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run in `<folder>/wandb`, which `wandb sync` uploads."""

    def __init__(self, folder: Path, algo: str, task: str, seed: int, about: dict[str, Any], live: bool = False):
        os.environ |= {"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"}  # read at import
        import wandb

        number = hashlib.sha256(json.dumps([algo, task, seed, about], sort_keys=True).encode()).hexdigest()[:12]
        for old in folder.glob(f"wandb/offline-run-*-{number}"):  # a resumed experiment writes all its rows again
            shutil.rmtree(old, ignore_errors=True)
        quiet = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,  # the results name the commit; and a process of git would stay
            x_disable_stats=True,
            x_disable_meta=True,
            x_save_requirements=False,
        )
        self.run = wandb.init(
            mode=os.environ.get("WANDB_MODE", "offline") if live else "offline",
            dir=folder,
            id=number,
            resume="allow" if live else None,
            reinit="create_new",
            project=PROJECT,
            group=f"{algo} on {task}",
            name=f"{algo} on {task}, seed {seed}",
            config={"algo": algo, "task": task, "seed": seed, "about": about},
            settings=quiet,
            save_code=False,
        )

    def add(self, step: int, values: dict[str, float]) -> None:
        self.run.log({_tag(metric): value for metric, value in values.items()}, step=step)

    def close(self) -> None:
        self.run.finish()


TRACKERS: dict[str, Callable[..., Tracker]] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def check_installed(names: Sequence[str]) -> None:
    """UserError: a tracker's package is not installed."""
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise UserError(f"{name} is not installed; python -m pip install -c constraints.txt {name}")


@contextmanager
def live(experiment: Experiment) -> Iterator[Callable[[Sequence[Row]], None]]:
    """A function that sends rows to the trackers of an experiment."""
    about = ({"preset": experiment.preset} if experiment.preset else {}) | experiment.overrides
    algo = ", ".join([experiment.algo, *(f"{k}={v}" for k, v in about.items())])
    trackers: dict[tuple[str, int], Tracker] = {}

    def send(rows: Sequence[Row]) -> None:
        points: dict[tuple[int, int], dict[str, float]] = {}
        for seed, step, metric, value in rows:
            points.setdefault((seed, step), {})[metric] = value
        for (seed, step), values in points.items():
            for name in experiment.trackers:
                with write_errors(experiment.out):
                    trackers[name, seed].add(step, values)

    try:
        with write_errors(experiment.out):
            for name, seed in itertools.product(experiment.trackers, experiment.seeds):
                folder = experiment.out if name == "wandb" else experiment.out / name  # wandb makes a folder of its name
                folder.mkdir(parents=True, exist_ok=True)
                trackers[name, seed] = TRACKERS[name](folder, algo, experiment.task, seed, experiment.metadata, live=True)
        yield send
    finally:
        with write_errors(experiment.out):
            for tracker in trackers.values():
                tracker.close()


def _tag(metric: str) -> str:
    """The name of a metric in the group of evaluations or in that of training losses."""
    return f"{'evaluation' if metric in EVALUATIONS else 'training'}/{metric}"


def _folder_name(text: str) -> str:
    """A folder name that every operating system accepts."""
    name = "".join(c if c.isalnum() or c in " ._-=,()" else "_" for c in text)
    return name if len(name) <= 100 else f"{name[:80]} {hashlib.sha256(text.encode()).hexdigest()[:12]}"
