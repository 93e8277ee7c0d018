"""A cell of the benchmark: one algorithm on one task with one configuration, for some seeds; its files and their provenance."""

import csv
import dataclasses
import hashlib
import json
import os
import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from inspo_benchmark.core.atomic_io import atomic_write, write_errors
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets.catalog import expected, fetch
from inspo_benchmark.datasets.format import load, sealed
from inspo_benchmark.learning import saved_policy, train
from inspo_benchmark.learning.config import Common
from inspo_benchmark.running.provenance import device_name, peak_memory, revision, versions
from inspo_benchmark.running.results import COLUMNS, finished_seeds, read_record, read_result
from inspo_benchmark.running.settings import settings


@dataclass(frozen=True)
class Experiment:
    """What to train, and on which content of the dataset. Files of cells that differ in anything have different names."""

    algo: str
    task: str
    config: Common
    seeds: tuple[int, ...]
    data: str  # sha256 of the dataset's content
    out: Path
    preset: str = ""  # of less than the benchmark's budget

    @property
    def group(self) -> str:
        """Hash of everything but the seeds."""
        return digest(self.algo, self.task, dataclasses.asdict(self.config), self.data, TASKS[self.task].evaluation)

    @property
    def key(self) -> str:
        """Hash of everything."""
        return digest(self.group, self.seeds)

    @property
    def path(self) -> Path:
        return self._file("runs", ".csv")

    @property
    def log(self) -> Path:
        """What its processes said, attempt after attempt."""
        return self._file("logs", ".log")

    @property
    def note(self) -> Path:
        """Says what is begun and not finished, and with a reason what failed; gone when the cell is finished."""
        return self._file("unfinished", ".json")

    @property
    def checkpoint(self) -> Path:
        return self.path.with_name(f".{self.path.stem}.checkpoint")

    @property
    def lock(self) -> FileLock:
        """Held by the process that is at cells of the family; released by the system when its holder dies."""
        return FileLock(self.path.with_name(f".{self.task}-{self.group}.lock"))

    def _file(self, folder: str, suffix: str) -> Path:
        return self.out / folder / self.algo / f"{self.task}-{self.key}{suffix}"

    def __str__(self):
        return describe(self.algo, self.task, self.seeds, self.overrides)

    @property
    def overrides(self) -> dict[str, Any]:
        """Fields that differ from the method's own setting for the task."""
        own = settings(self.algo, self.task, {}, preset=self.preset)
        return {k: v for k, v in dataclasses.asdict(self.config).items() if v != getattr(own, k)}

    def missing(self, done: Mapping[str, set[int]]) -> "Experiment | None":
        """The cell of the seeds that are not among the `finished`; None when there are none."""
        left = tuple(seed for seed in self.seeds if seed not in done.get(self.group, ()))
        return dataclasses.replace(self, seeds=left) if left else None

    def run(self, device: str = "cpu", progress: train.Progress = lambda step, score: None) -> bool:
        """Fill the cell; False if another process is at it.

        The CSV appears when it is complete; the policies and the JSON beside it first, so that there is no CSV without them.
        """
        lock = self.lock
        with write_errors(Path(lock.lock_file)):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=False)
            except Timeout:  # an OSError as well, which `writing` must not see
                return False
        try:
            if cell := self.missing(finished_seeds(self.out, self.algo, self.task)):
                cell._fill(device, progress)
            else:  # a process that was killed after its work may have left these
                self._tidy()
        finally:
            lock.release()
        return True

    def result(self) -> tuple[float, float]:
        """Of a finished cell: mean return of the greedy policies at the end, and seconds. OSError, UserError: no such file, damaged."""
        seconds = read_result(self.path.with_suffix(".json"))["wall_seconds"]
        try:
            with self.path.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if (row["metric"], row["step"]) == ("return", str(self.config.num_updates))]
            return statistics.fmean(float(row["value"]) for row in rows), seconds
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.path} is damaged; delete it and the JSON beside it and run it again") from None

    def fail(self, reason: str, again: bool) -> None:
        """Note that it failed; `again`: the same command is to try it again. Where the disk refuses, only the caller tells."""
        with suppress(UserError):
            self._note(reason=reason, again=again)

    def failure(self) -> str:
        """Why it failed for good before; empty if it did not."""
        about = read_record(self.note)
        return about["reason"] if about and not about["again"] else ""

    @property
    def about(self) -> dict[str, Any]:
        """What it is, for the files that tell."""
        return {
            "algo": self.algo,
            "task": self.task,
            "seeds": list(self.seeds),
            "config": dataclasses.asdict(self.config),
            "overrides": self.overrides,
            "preset": self.preset,
            "evaluation": TASKS[self.task].evaluation,
            "group": self.group,
            "code": revision(),
        }

    def _note(self, **more: Any) -> None:
        with write_errors(self.note):
            self.note.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.note) as part:
            part.write_text(json.dumps(self.about | {"data": {"sha256": self.data}} | more, indent=2) + "\n")

    def _fill(self, device: str, progress: train.Progress) -> None:
        task, started = TASKS[self.task], time.monotonic()
        self._note(reason="", again=True)
        data = load(fetch(task), task)
        if data.meta["content_sha256"] != self.data:
            raise UserError(f"the dataset of {self.task} changed since this run was planned; start again")
        algorithm = ALGORITHMS[self.algo](self.config, task.spec)
        for part in self.path.parent.glob(f".*{self.path.stem}.*.part*"):  # of processes that were killed: we hold the lock
            part.unlink(missing_ok=True)
        ready = time.monotonic() - started
        rows, state, scale, seconds = train.train(algorithm, task, data, self.seeds, device, self.checkpoint, progress)
        saved_policy.save(self.algo, self.task, algorithm, self.seeds, state, scale, self.path.with_suffix(saved_policy.SUFFIX))
        about = self.about | {
            "data": {
                "sha256": self.data,
                **{k: data.meta[k] for k in ("source", "episodes", "steps", "return_mean", "return_std", "win_rate")},
            },
            "backend": task.backend,
            "reference": list(task.reference),
            "per_step": task.per_step,
            "versions": versions(),
            "machine": {
                "system": platform.platform(),
                "processor": platform.machine(),
                "cores": os.cpu_count(),
                "device": device_name(device),
            },
            "wall_seconds": round(ready + seconds, 2),
            "peak_memory": peak_memory(device),
        }
        with atomic_write(self.path.with_suffix(".json")) as part:
            part.write_text(json.dumps(about, indent=2) + "\n")
        with atomic_write(self.path) as part, part.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows((self.algo, self.task, seed, step, metric, f"{value:.7g}") for seed, step, metric, value in rows)
        self._tidy()

    def _tidy(self) -> None:
        self.checkpoint.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)


def describe(algo: str, task: str, seeds: Sequence[int], overrides: dict[str, Any]) -> str:
    """A cell for people: "inspo on xor-ab, seeds 0-9, beta=0"."""
    row = len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    run = f"{seeds[0]}-{seeds[-1]}" if row else ",".join(map(str, seeds))
    return ", ".join([f"{algo} on {task}", f"seeds {run}", *(f"{k}={v}" for k, v in overrides.items())])


def plan(
    algos: Sequence[str],
    tasks: Sequence[str],
    seeds: tuple[int, ...],
    assignments: Sequence[str],
    out: Path,
    paper: bool = False,
    preset: str = "",
    dry: bool = False,
) -> list[Experiment]:
    """The cells of every algorithm on every task. Datasets of tasks whose cells are not all finished are built where they are absent, and
    checked; `dry`: none is touched."""
    changes = {algo: ALGORITHMS[algo].Config.parse(assignments) for algo in algos}
    configs = {(algo, task): settings(algo, task, changes[algo], paper, preset) for algo in algos for task in tasks}

    def on(data: dict[str, str]) -> list[Experiment]:
        return [Experiment(algo, task, config, seeds, data[task], out, preset) for (algo, task), config in configs.items()]

    data = {task: expected(TASKS[task]) for task in tasks}
    if not dry:
        done = finished_seeds(out)
        lacking = {cell.task for cell in on(data) if cell.missing(done)}
        data |= {task: content(task) for task in tasks if task in lacking}
    return on(data)


def content(task: str) -> str:
    """Hash of the content of a task's dataset. A file whose bytes are those that were written is believed until a run reads all of it."""
    path = fetch(TASKS[task])
    meta = sealed(path, TASKS[task]) or load(path, TASKS[task]).meta
    return meta["content_sha256"]


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
