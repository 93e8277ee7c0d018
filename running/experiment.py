"""What an experiment is: one method on one task with one configuration, for some seeds. Its hashes, its files and its description."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.learning.config import Common
from inspo_benchmark.learning.saved_policy import SUFFIX
from inspo_benchmark.running.provenance import revision
from inspo_benchmark.running.settings import settings


@dataclass(frozen=True)
class Experiment:
    """One method on one task with one configuration, one dataset and possibly a preset, for some seeds. Experiments that differ in any of
    these have different files."""

    algo: str
    task: str
    config: Common
    seeds: tuple[int, ...]
    data: str  # sha256 of the dataset's content
    out: Path  # results folder
    preset: str = ""  # the preset that changes settings, if any
    trackers: tuple[str, ...] = ()  # tools that get the rows during training; they change no result

    @property
    def group(self) -> str:
        """Hash of everything but the seeds."""
        preset = [self.preset] if self.preset else []
        return digest(self.algo, self.task, dataclasses.asdict(self.config), self.data, TASKS[self.task].evaluation, *preset)

    @property
    def key(self) -> str:
        """Hash of everything."""
        return digest(self.group, self.seeds)

    @property
    def csv_path(self) -> Path:
        return self._path("runs", ".csv")

    @property
    def json_path(self) -> Path:
        return self._path("runs", ".json")

    @property
    def policies_path(self) -> Path:
        return self._path("runs", SUFFIX)

    @property
    def log_path(self) -> Path:
        """All output of the processes that ran the experiment, attempt after attempt."""
        return self._path("logs", ".log")

    @property
    def record_path(self) -> Path:
        """The record of an unfinished experiment: what it is, how far it is, why it failed. It is deleted when the experiment finishes."""
        return self._path("unfinished", ".json")

    @property
    def checkpoint_path(self) -> Path:
        return self.csv_path.with_name(f".{self.csv_path.stem}.checkpoint")

    @property
    def lock(self) -> FileLock:
        """Held by the process that runs experiments of the group. The system releases it when that process ends."""
        return FileLock(lock_path(self.out, self.algo, self.task, self.group))

    def _path(self, folder: str, suffix: str) -> Path:
        return self.out / folder / self.algo / f"{self.task}-{self.key}{suffix}"

    def __str__(self):
        return describe(self.algo, self.task, self.seeds, self.overrides)

    @property
    def overrides(self) -> dict[str, Any]:
        """Settings that differ from the method's own for the task."""
        own = settings(self.algo, self.task, {}, preset=self.preset)
        return {k: v for k, v in dataclasses.asdict(self.config).items() if v != getattr(own, k)}

    @property
    def metadata(self) -> dict[str, Any]:
        """What the JSON files of finished and unfinished experiments have in common."""
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

    def remaining(self, finished: Mapping[str, set[int]]) -> "Experiment | None":
        """The same experiment for the seeds that are not finished (group -> seeds); None if all are."""
        seeds = tuple(seed for seed in self.seeds if seed not in finished.get(self.group, ()))
        return dataclasses.replace(self, seeds=seeds) if seeds else None


def lock_path(out: Path, algo: str, task: str, group: str) -> Path:
    """The file whose lock a process holds that runs experiments of the group."""
    return out / "runs" / algo / f".{task}-{group}.lock"


def is_locked(out: Path, algo: str, task: str, group: str) -> bool:
    """Whether a process is running experiments of the group."""
    path = lock_path(out, algo, task, group)
    if not path.exists():
        return False
    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True
    except OSError:  # another user's folder
        return False


def describe(algo: str, task: str, seeds: Sequence[int], overrides: dict[str, Any]) -> str:
    """An experiment in words: "inspo on xor-ab, seeds 0-9, beta=0"."""
    consecutive = 1 < len(seeds) == seeds[-1] - seeds[0] + 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    numbers = f"{seeds[0]}-{seeds[-1]}" if consecutive else ",".join(map(str, seeds))
    return ", ".join([f"{algo} on {task}", f"seeds {numbers}", *(f"{k}={v}" for k, v in overrides.items())])


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]
