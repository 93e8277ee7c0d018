"""Which experiments a command asks for."""

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

from inspo_benchmark.core.atomic_io import write_errors
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets.catalog import dataset_path, expected_sha256, fetch
from inspo_benchmark.datasets.format import trusted_meta
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.progress import activity
from inspo_benchmark.running.results import finished_seeds
from inspo_benchmark.running.settings import settings


def plan(
    algos: Sequence[str],
    tasks: Sequence[str],
    seeds: tuple[int, ...] | Mapping[str, tuple[int, ...]],
    assignments: Sequence[str],
    out: Path,
    paper: bool = False,
    preset: str = "",
    dry_run: bool = False,
    trackers: Sequence[str] = (),
) -> list[Experiment]:
    """One experiment for every algorithm on every task, with `seeds` or those of the task. Missing datasets are built, and existing ones
    checked, for the tasks that have experiments to run. `dry_run`: no dataset is built or read. UserError: a setting is wrong, or nothing
    can be written to `out`."""
    overrides = {algo: ALGORITHMS[algo].Config.parse(assignments, algo) for algo in algos}
    configs = {(algo, task): settings(algo, task, overrides[algo], paper, preset) for algo in algos for task in tasks}
    seeds_of = seeds if isinstance(seeds, Mapping) else dict.fromkeys(tasks, seeds)

    def experiments(data: dict[str, str]) -> list[Experiment]:
        return [
            Experiment(algo, task, config, seeds_of[task], data[task], out, preset, tuple(trackers))
            for (algo, task), config in configs.items()
        ]

    data = {task: expected_sha256(TASKS[task]) for task in tasks}
    if not dry_run:
        finished = finished_seeds(out)
        needed = {experiment.task for experiment in experiments(data) if experiment.remaining(finished)}
        if needed:
            check_writable(out)
        data |= {task: dataset_hash(task) for task in tasks if task in needed}
    return experiments(data)


def check_writable(out: Path) -> None:
    """UserError, before any long work, if the results folder cannot be written to or made. Creates nothing."""
    folder = out / "runs"
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    with write_errors(folder), tempfile.TemporaryFile(dir=existing):  # has a unique name: several sweeps may check at once
        pass


def dataset_hash(task: str) -> str:
    """Hash of the content of a task's dataset, which is built if it is missing. A file with the checksum that it was written with is
    trusted here; the run that trains on it reads and checks all of it."""
    with nullcontext() if dataset_path(TASKS[task]).exists() else activity(f"building the dataset of {task}, once"):
        path = fetch(TASKS[task])
    return trusted_meta(path, TASKS[task])["content_sha256"]
