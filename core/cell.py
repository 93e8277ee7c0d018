"""A cell of the benchmark: one algorithm on one task with one configuration, for some seeds; its files and their provenance."""

import csv
import dataclasses
import hashlib
import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout

from core import policies, trainer
from core.errors import UserError
from core.files import whole, writing
from core.learner import Common
from core.protocol import BENCHMARK
from core.registry import ALGORITHMS, TASKS
from datasets.format import load, sealed
from datasets.store import fetch

COLUMNS = ["algo", "task", "seed", "step", "metric", "value"]
PACKAGES = ["torch", "numpy", "scipy", "numba", "h5py", "pandas", "matplotlib"]


@dataclass(frozen=True)
class Cell:
    """What to train, and on which content of the dataset. Files of cells that differ in anything have different names."""

    algo: str
    task: str
    config: Common
    seeds: tuple[int, ...]
    data: str  # sha256 of the dataset's content
    out: Path

    @property
    def family(self) -> str:
        """Hash of everything but the seeds."""
        return digest(self.algo, self.task, dataclasses.asdict(self.config), self.data, self.protocol)

    @property
    def protocol(self) -> dict[str, int]:
        """How it is evaluated."""
        task = TASKS[self.task]
        return {"points": task.points, "episodes": task.episodes, "final_episodes": task.final}

    @property
    def key(self) -> str:
        """Hash of everything."""
        return digest(self.family, self.seeds)

    @property
    def path(self) -> Path:
        return self.out / "runs" / self.algo / f"{self.task}-{self.key}.csv"

    def __str__(self):
        seeds = self.seeds
        run = f"{seeds[0]}-{seeds[-1]}" if len(seeds) > 1 and seeds == tuple(range(seeds[0], seeds[-1] + 1)) else ",".join(map(str, seeds))
        changed = ", ".join(f"{k}={v}" for k, v in self.overrides.items())
        return f"{self.algo} on {self.task}, seeds {run}" + (f", {changed}" if changed else "")

    @property
    def overrides(self) -> dict[str, Any]:
        """Fields that differ from the method's own setting for the task."""
        own = settings(self.algo, self.task, {})
        return {k: v for k, v in dataclasses.asdict(self.config).items() if v != getattr(own, k)}

    def missing(self) -> "Cell | None":
        """The cell of the seeds that no finished file holds; None when there are none."""
        done = set()
        for path in self.path.parent.glob(f"{self.task}-*.json"):
            about = described(path)
            if about["family"] == self.family and path.with_suffix(".csv").exists():
                done |= set(about["seeds"])
        left = tuple(seed for seed in self.seeds if seed not in done)
        return dataclasses.replace(self, seeds=left) if left else None

    def run(self, device: str = "cpu", progress: trainer.Progress = lambda step, score: None, wait: bool = True) -> bool:
        """Fill the cell, unless another process is at it: then wait for that one, or return False.

        The CSV appears when it is complete; the policies and the JSON beside it first, so that there is no CSV without them.
        """
        path = self.path.with_name(f".{self.task}-{self.family}.lock")
        lock = FileLock(path)  # released by the system when its holder dies
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                lock.acquire(blocking=wait)
            except Timeout:  # an OSError as well, which `writing` must not see
                return False
        try:
            if cell := self.missing():
                cell._fill(device, progress)
        finally:
            lock.release()
        return True

    def _fill(self, device: str, progress: trainer.Progress) -> None:
        task, started = TASKS[self.task], time.time()
        data = load(fetch(task), task)
        if data.meta["content_sha256"] != self.data:
            raise UserError(f"the dataset of {self.task} changed since this run was planned; start again")
        algorithm = ALGORITHMS[self.algo](self.config, task.spec)
        for part in self.path.parent.glob(f".*{self.path.stem}.*.part*"):  # of processes that were killed: we hold the lock
            part.unlink(missing_ok=True)
        checkpoint = self.path.with_name(f".{self.path.stem}.checkpoint")
        rows, *end = trainer.train(algorithm, task, data, self.seeds, device, checkpoint, progress)
        policies.save(self.algo, self.task, algorithm, self.seeds, *end, self.path.with_suffix(policies.SUFFIX))
        about = {
            "algo": self.algo,
            "task": self.task,
            "seeds": list(self.seeds),
            "config": dataclasses.asdict(self.config),
            "overrides": self.overrides,
            "protocol": self.protocol,
            "data": {
                "sha256": self.data,
                **{k: data.meta[k] for k in ("source", "episodes", "steps", "return_mean", "return_std", "win_rate")},
            },
            "backend": task.backend,
            "reference": list(task.reference),
            "per_step": task.per_step,
            "family": self.family,
            "code": revision(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
            "machine": {
                "system": platform.platform(),
                "processor": platform.machine(),
                "cores": os.cpu_count(),
                "device": device_name(device),
            },
            "wall_seconds": round(time.time() - started, 2),
        }
        with whole(self.path.with_suffix(".json")) as part:
            part.write_text(json.dumps(about, indent=2) + "\n")
        with whole(self.path) as part, part.open("w", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(COLUMNS)
            table.writerows((self.algo, self.task, seed, step, metric, f"{value:.7g}") for seed, step, metric, value in rows)
        checkpoint.unlink(missing_ok=True)


def settings(algo: str, task: str, overrides: dict[str, Any], paper: bool = False) -> Common:
    """The configuration of an algorithm on a task: defaults, then its PAPER table, then the benchmark's protocol (unless `paper`), then
    the overrides."""
    algorithm = ALGORITHMS[algo]
    known = {field.name for field in dataclasses.fields(algorithm.Config)}
    protocol = {} if paper else matching(BENCHMARK, task)
    shared = {name: value for name, value in protocol.items() if name in known}
    return algorithm.Config(**matching(algorithm.PAPER, task) | shared | overrides)


def matching(table: dict[str, dict[str, Any]], task: str) -> dict[str, Any]:
    """The values of all patterns that match the task; the last one wins. What fits `3m-medium` fits `sc2:3m-medium`, on the real game."""
    values: dict[str, Any] = {}
    for pattern, own in table.items():
        if fnmatchcase(task, pattern) or fnmatchcase(task.rpartition(":")[2], pattern):
            values |= own
    return values


def plan(
    algos: Sequence[str], tasks: Sequence[str], seeds: tuple[int, ...], assignments: Sequence[str], out: Path, paper: bool = False
) -> list[Cell]:
    """The cells of every algorithm on every task. Datasets that are absent are built."""
    configs = {(algo, task): settings(algo, task, ALGORITHMS[algo].Config.parse(assignments), paper) for algo in algos for task in tasks}
    data = {task: content(task) for task in tasks}
    return [Cell(algo, task, config, seeds, data[task], out) for (algo, task), config in configs.items()]


def content(task: str) -> str:
    """Hash of the content of a task's dataset. A file whose bytes are those that were written is believed until a run reads all of it."""
    path = fetch(TASKS[task])
    meta = sealed(path, TASKS[task]) or load(path, TASKS[task]).meta
    return meta["content_sha256"]


def timings(out: Path) -> dict[tuple[str, str], float]:
    """Seconds per update of the finished runs in a results folder, the slowest of each (algorithm, task)."""
    seconds: dict[tuple[str, str], float] = {}
    for path in out.glob("runs/*/[!.]*.json"):  # files that begin with a dot are unfinished
        about = described(path)
        cell = about["algo"], about["task"]
        seconds[cell] = max(seconds.get(cell, 0.0), about["wall_seconds"] / about["config"]["steps"])
    return seconds


def described(path: Path) -> dict[str, Any]:
    """What the JSON of a finished run says; UserError if it is damaged."""
    try:
        about = json.loads(path.read_text())
        if not {"algo", "task", "seeds", "family", "config", "wall_seconds"} <= about.keys():
            raise ValueError
        return about
    except (ValueError, AttributeError):
        raise UserError(f"{path} is damaged; delete it and the CSV beside it and run it again") from None


def digest(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:12]


def revision() -> dict[str, Any]:
    """The code's git commit and whether files differ from it; empty outside a git checkout."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"revision": "", "dirty": False}


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device
