"""The files of finished and unfinished experiments in a results folder."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from inspo_benchmark.core.errors import UserError

COLUMNS = ["algo", "task", "seed", "step", "metric", "value"]


def read_results(out: Path, algo: str = "*", task: str = "*") -> Iterator[tuple[Path, dict[str, Any]]]:
    """The JSON files of finished runs in a results folder, and what they say."""
    for path in out.glob(f"runs/{algo}/[!.]*.json" if task == "*" else f"runs/{algo}/{task}-*.json"):  # a dot begins what is unfinished
        about = read_result(path)
        if path.with_suffix(".csv").exists():
            yield path, about


def finished_seeds(out: Path, algo: str = "*", task: str = "*") -> dict[str, set[int]]:
    """Family -> seeds that finished files hold."""
    done = defaultdict(set)
    for _, about in read_results(out, algo, task):
        done[about["group"]] |= set(about["seeds"])
    return done


def seconds_per_update(out: Path) -> dict[tuple[str, str], float]:
    """Seconds per update of the finished runs in a results folder, the slowest of each (algorithm, task)."""
    seconds: dict[tuple[str, str], float] = {}
    for _, about in read_results(out):
        cell = about["algo"], about["task"]
        seconds[cell] = max(seconds.get(cell, 0.0), about["wall_seconds"] / about["config"]["num_updates"])
    return seconds


def read_result(path: Path) -> dict[str, Any]:
    """What the JSON of a finished run says; UserError if it is damaged."""
    try:
        about = json.loads(path.read_bytes())
        if not {"algo", "task", "seeds", "group", "config", "wall_seconds"} <= about.keys():
            raise ValueError
        return about
    except (ValueError, AttributeError):
        raise UserError(f"{path} is damaged; delete it and the CSV beside it and run it again") from None


def read_record(path: Path) -> dict[str, Any] | None:
    """What the note of an unfinished cell says; None if there is none, or none that can be read: such a cell is begun again."""
    try:
        about = json.loads(path.read_bytes())
        return about if {"algo", "task", "seeds", "group", "config", "data", "reason", "again"} <= about.keys() else None
    except (OSError, ValueError, AttributeError):
        return None
