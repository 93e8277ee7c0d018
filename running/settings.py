"""The effective settings of a method on a task: which table says what, and which of them wins."""

import dataclasses
from fnmatch import fnmatchcase
from typing import Any

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.config import Common
from inspo_benchmark.running.presets import BENCHMARK, PRESETS


def settings(algo: str, task: str, overrides: dict[str, Any], paper: bool = False, preset: str = "") -> Common:
    """The configuration of an algorithm on a task: defaults, then its PAPER table, then the benchmark's protocol and the method's
    coefficients under it (unless `paper`), of the updates the preset's share, then the overrides."""
    algorithm = ALGORITHMS[algo]
    known = {field.name for field in dataclasses.fields(algorithm.Config)}
    values = matching(algorithm.PAPER, task)
    if not paper:
        shared = {name: value for name, value in matching(BENCHMARK, task).items() if name in known}
        values |= shared | matching(algorithm.TUNED, task)
    if preset:
        values["num_updates"] = max(1, round(algorithm.Config(**values).num_updates * PRESETS[preset].share))
    return algorithm.Config(**values | overrides)


def matching(table: dict[str, dict[str, Any]], task: str) -> dict[str, Any]:
    """The values of all patterns that match the task; the last one wins. What fits `3m-medium` fits `sc2:3m-medium`, on the real game."""
    values: dict[str, Any] = {}
    for pattern, own in table.items():
        if fnmatchcase(task, pattern) or fnmatchcase(task.rpartition(":")[2], pattern):
            values |= own
    return values
