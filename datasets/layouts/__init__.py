"""The file layouts of other projects' recordings, one module each. A module registers a `Layout`; that is all it takes to be on the
command line. How a layout differs from ours is told in its module, and what a conversion had to decide is noted in the file it makes.
"""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import Registry
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.dataset import Dataset, join

LAYOUTS = Registry("layout", "inspo_benchmark.datasets.layouts")


class Layout(NamedTuple):
    """What can be done with a layout."""

    title: str
    files: str  # what a recording in it looks like
    open: "Callable[[Path], AbstractContextManager[Recording]]"
    write: Callable[[Path, Path], str] | None = None  # our file -> theirs; returns what theirs cannot hold. None: cannot be written


@dataclass
class Recording:
    """An opened recording of E episodes. What is said about all of them is known before any of them is read."""

    source: Path
    spec: Spec  # the sizes in the file; limit: of its longest episode, or what the layout documents
    name: str  # the task's name as the file tells it
    rows: np.ndarray  # [E] rows of the file that are read for each episode
    read: "Callable[[Recording, Task, int, int], Dataset]"  # episodes a .. b - 1, whole, in the task's types
    notes: list[str] = field(default_factory=list)  # what had to be decided
    family: str = "recorded"
    clipped: int = 0  # actions
    cut: int = 0  # episodes, to `limit` steps
    limit: int = 0

    def episodes(self, task: Task, lengths: np.ndarray, *, actions: np.ndarray, **fields: np.ndarray) -> Dataset:
        """`datasets.dataset.join`, with continuous actions clipped to the box, as MuJoCo does with what it is told."""
        if task.spec.space.kind == "continuous":
            with np.errstate(invalid="ignore"):
                self.clipped += int((np.abs(actions) > 1).sum())
                actions = np.clip(actions, -1, 1)
        return join(task, lengths, actions=actions, **fields)

    def all_notes(self) -> str:
        """The notes, once everything was read."""
        cut = f"{self.cut} of {len(self.rows)} episodes cut to {self.limit} steps" if self.cut else ""
        clipped = f"{self.clipped} actions beyond [-1, 1] clipped" if self.clipped else ""
        return "; ".join(filter(None, [cut, *self.notes, clipped]))


def word(text: str) -> str:
    """A part of a task's name."""
    return re.sub(r"\W", "_", text, flags=re.ASCII) or "unnamed"


def with_last(rows: np.ndarray, lengths: np.ndarray, last: np.ndarray | None = None) -> np.ndarray:
    """A row for each step -> one more per episode: `last` [E, ...], or the episode's last row again."""
    ends = np.cumsum(lengths)
    return np.insert(rows, ends, rows[ends - 1] if last is None else last, axis=0)


def stops(ended: np.ndarray) -> np.ndarray:
    """Whether something ends with each row -> rows up to each end [E]; the last row is one in any case."""
    return np.flatnonzero(np.append(ended[:-1], True)) + 1


def span(stop: np.ndarray, a: int, b: int) -> tuple[slice, np.ndarray]:
    """The rows of the episodes a .. b - 1, which stop there, and how many each has."""
    rows = slice(int(stop[a - 1]) if a else 0, int(stop[b - 1]))
    return rows, np.diff(stop[a:b], prepend=rows.start)


def refuse(source: Path, wrong: np.ndarray, what: str, unit: str = "episode", first: int = 0) -> None:
    """UserError with a place if any of `wrong` [E] is true."""
    if wrong.any():
        raise UserError(f"{source}: {what} in {unit} {wrong.argmax() + first}, {wrong.sum()} of {len(wrong)} {unit}s are like that")
