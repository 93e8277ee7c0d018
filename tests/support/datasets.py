"""The faults of a dataset's file, and recordings of others as datasets in memory."""

from pathlib import Path

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets import convert
from inspo_benchmark.datasets.dataset import Dataset, concatenate
from inspo_benchmark.datasets.format import inspect
from inspo_benchmark.datasets.validate import problems


def violations(path: str | Path, task: Task | None = None) -> list[str]:
    """All faults of a file, with their places; empty if there are none. UserError: there is no such file."""
    return inspect(path, task)[1]


def read(layout: str, source: str | Path, task: Task | None = None, limit: int | None = None) -> Dataset:
    """What `convert` writes, in memory, for a given task."""
    with convert._open(layout, Path(source)) as r:
        task = convert.target_task(r, None) if task is None else convert.fitting(r, task)
        d = concatenate(list(convert._parts(r, task, limit)))
        d.meta.update(convert._provenance(layout, r) | {"notes": r.all_notes()})
    if found := problems(d):
        raise UserError(f"{source}: {found[0]}")
    return d
