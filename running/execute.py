"""Runs one experiment, from the dataset to the result files."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from filelock import Timeout

from inspo_benchmark.core.atomic_io import write_errors
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets.catalog import fetch
from inspo_benchmark.datasets.dataset import GREEDY
from inspo_benchmark.datasets.format import load
from inspo_benchmark.learning import saved_policy, train
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.provenance import machine, peak_memory, versions
from inspo_benchmark.running.results import delete_partial_files, delete_unfinished, finished_seeds, write_record, write_result
from inspo_benchmark.running.trackers import live


def execute(experiment: Experiment, device: str = "cpu", progress: train.Progress = lambda update, score: None) -> bool:
    """Train the seeds that have no result yet and write their result. False: another process is running the experiment, or may be, because
    the file of the lock was deleted.

    `progress(updates, mean return or None)` is called during training. UserError: the dataset or the disk. learning.train.Diverged:
    a loss that is not finite. learning.train.Stopped: `progress` raised it, and a checkpoint was saved.
    """
    lock = experiment.lock
    with write_errors(Path(lock.lock_file)):
        experiment.csv_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:  # an OSError too: it must not reach write_errors
            return False

    def inode() -> tuple[int, int] | None:
        """Of the file of the lock; None if it was deleted."""
        with suppress(OSError):
            about = os.stat(lock.lock_file)
            return about.st_dev, about.st_ino
        return None

    def remaining() -> Experiment | None:
        return experiment.remaining(finished_seeds(experiment.out, experiment.algo, experiment.task))

    def alone() -> bool:
        """Whether no other process trains these seeds or has trained them. Once the file of a lock is deleted, others can lock another."""
        return ours is not None and inode() == ours and remaining() == to_train

    try:
        ours = inode()
        if to_train := remaining():
            return _train(to_train, device, progress, alone)
        else:  # a process that was killed right after it finished leaves these files
            delete_unfinished(experiment)
    finally:
        lock.release()
    return True


def _train(experiment: Experiment, device: str, progress: train.Progress, alone: Callable[[], bool]) -> bool:
    """The policies and the JSON are written before the CSV: a CSV never exists without them. False: nothing is written, because
    another process may train or has trained some of the seeds; the checkpoint stays."""
    started, task = time.monotonic(), TASKS[experiment.task]
    delete_partial_files(experiment)
    write_record(experiment)
    data = load(fetch(task), task)
    if data.meta["content_sha256"] != experiment.data:
        raise UserError(f"the dataset of {task.name} changed after this sweep started; run the same command again")
    algorithm = ALGORITHMS[experiment.algo](experiment.config, task.spec)

    def report(update: int, score: float | None) -> None:
        if score is not None:
            with suppress(UserError):  # a full disk stops the training at its next checkpoint
                write_record(experiment, progress=(update, score))
        progress(update, score)

    setup_seconds = time.monotonic() - started
    with live(experiment) as log:
        result = train.train(algorithm, task, data, experiment.seeds, device, experiment.checkpoint_path, report, experiment.key, log)
    if not alone():
        return False
    saved_policy.save(
        experiment.algo, experiment.task, algorithm, experiment.seeds, result.state, result.normalizer, experiment.policies_path
    )
    described = ("source", "episodes", "steps", "return_mean", "return_std", "win_rate", *GREEDY)
    summary = {key: data.meta[key] for key in described if key in data.meta}
    metadata = experiment.metadata | {
        "data": {"sha256": experiment.data, **summary},
        "backend": task.backend,
        "reference": list(task.reference),
        "per_step": task.per_step,
        "stochastic": algorithm.stochastic,
        "versions": versions(),
        "machine": machine(device),
        "wall_seconds": round(setup_seconds + result.seconds, 2),
        "evaluation_share": round(result.evaluation_share, 3),
        "peak_memory": peak_memory(device),
    }
    write_result(experiment, metadata, result.rows)
    delete_unfinished(experiment)
    return True
