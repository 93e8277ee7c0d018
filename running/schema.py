"""The JSON files of a results folder, which may come from anywhere: their content is checked here, once, before anything uses it as a
name, a number or a path."""

import functools
import json
import math
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspo_benchmark.core.registry import NAME

LARGEST_JSON = 4 << 20  # bytes
LARGEST = 10**15  # of whole numbers, but for seeds
REVISION = re.compile(r"[0-9a-f]{40}|")  # a git commit; empty outside a git checkout
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal might obey
MISSING = object()


def _name(x: Any) -> bool:
    return type(x) is str and len(x) <= 100 and _fits(x)


@functools.lru_cache(10_000)  # the same names are in thousands of files
def _fits(x: str) -> bool:
    return NAME.fullmatch(x) is not None


def _text(x: Any) -> bool:
    return type(x) is str and len(x) <= 10_000 and not CONTROL.search(x)


def _whole(x: Any, low: int = 0, high: int = LARGEST) -> bool:
    return type(x) is int and low <= x <= high


def _number(x: Any) -> bool:
    return _whole(x, -LARGEST) or (type(x) is float and abs(x) <= 1e300)


def _scalar(x: Any) -> bool:
    return x is None or type(x) is bool or _text(x) or _number(x)


def _table(x: Any, fits: Callable[[Any], bool] = _scalar) -> bool:
    return type(x) is dict and len(x) <= 1000 and all(_name(key) and fits(value) for key, value in x.items())


def _seeds(x: Any) -> bool:
    whole = type(x) is list and 0 < len(x) <= 100_000 and all(_whole(seed, 0, 2**63 - 1) for seed in x)
    return whole and len(set(x)) == len(x)


def _increasing(x: Any) -> bool:
    return type(x) is list and len(x) == 2 and all(map(_number, x)) and x[0] < x[1]


def _at_least_1(x: Any) -> bool:
    return _whole(x, 1)


# What a JSON holds: a field (a dot leads into a table), what its value has to be, and the same in words.
SCHEMA: dict[str, tuple[Callable[[Any], bool], str]] = {
    "algo": (_name, "a name"),
    "task": (_name, "a name"),
    "seeds": (_seeds, "a list of different whole numbers from 0"),
    "config": (_table, "a table of settings"),
    "config.num_updates": (_at_least_1, "a whole number above 0"),
    "overrides": (_table, "a table of settings"),
    "preset": (lambda x: x == "" or _name(x), "a name"),
    "evaluation": (functools.partial(_table, fits=_at_least_1), "a table of whole numbers above 0"),
    "evaluation.final_episodes": (_at_least_1, "a whole number above 0"),
    "group": (_name, "a name"),
    "code": (_table, "a table"),
    "code.revision": (lambda x: type(x) is str and REVISION.fullmatch(x) is not None, "a git commit"),
    "code.dirty": (lambda x: type(x) is bool, "true or false"),
    "data": (_table, "a table"),
    "data.sha256": (lambda x: x == "" or _name(x), "a hash"),
    "data.source": (_text, "text"),
    "data.episodes": (_whole, "a whole number"),
    "data.steps": (_whole, "a whole number"),
    "data.return_mean": (_number, "a number"),
    "data.return_std": (_number, "a number"),
    "data.win_rate": (_number, "a number"),
    "data.behavior_greedy_return": (_number, "a number"),
    "data.behavior_greedy_win_rate": (_number, "a number"),
    "backend": (lambda x: _text(x) and len(x) <= 100, "text"),
    "reference": (_increasing, "two increasing numbers"),
    "per_step": (lambda x: type(x) is bool, "true or false"),
    "stochastic": (lambda x: type(x) is bool, "true or false"),
    "versions": (functools.partial(_table, fits=_text), "a table of texts"),
    "machine": (_table, "a table"),
    "wall_seconds": (lambda x: _number(x) and x >= 0, "a number from 0"),
    "peak_memory": (_whole, "a whole number"),
    "csv_sha256": (lambda x: type(x) is str and re.fullmatch(r"[0-9a-f]{64}", x) is not None, "a sha256"),
    "reason": (lambda x: type(x) is str and len(x) <= 10_000, "text"),
    "again": (lambda x: type(x) is bool, "true or false"),
    "progress": (lambda x: type(x) is dict, "a table"),
    "progress.update": (_whole, "a whole number"),
    "progress.return": (lambda x: type(x) is float, "a number"),
}
REQUIRED = {"algo", "task", "seeds", "group", "config", "config.num_updates"}  # of every JSON
FINISHED = REQUIRED | {"wall_seconds"}
COMPARED = {"overrides", "evaluation", "data", "data.sha256"}  # what stale_reason looks at
UNFINISHED = REQUIRED | COMPARED | {"reason", "again"}


def parse(path: Path, required: set[str]) -> dict[str, Any]:
    """The content of a JSON. OSError. ValueError: it is malformed, in a few words that name the field."""
    try:
        metadata = json.loads(read_own(path, LARGEST_JSON))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if wrong := problem(metadata, required):
        raise ValueError(wrong)
    return metadata


def problem(metadata: Any, required: set[str]) -> str:
    """The first thing that is wrong with the content of a JSON; empty if nothing is."""
    if type(metadata) is not dict:
        return "not an object with fields"
    for field, (fits, words) in SCHEMA.items():
        value = metadata
        for part in field.split("."):
            value = value.get(part, MISSING) if type(value) is dict else MISSING
        if value is MISSING:
            if field in required:
                return f"no {field.rpartition('.')[2]!r}"
        elif not fits(value):
            return f"{field} is {_short(value)}, not {words}"
    unknown = [key for key in metadata if key not in SCHEMA and not (_name(key) and _shallow(metadata[key]))]
    return f"{_short(unknown[0])} is neither a known field nor a plain value" if unknown else ""


def read_own(path: Path, largest: float = math.inf) -> bytes:
    """The bytes of a file two folders below its results folder, at most `largest`. OSError, ValueError: see `check_own`."""
    check_own(path, largest)
    return path.read_bytes()


def check_own(path: Path, largest: float = math.inf) -> int:
    """The size of a file. ValueError unless it is a regular file of the results folder itself: reading a pipe may never end, and a link
    may lead to private files. OSError: there is no such file."""
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode) or not _within(path.parent):
        raise ValueError("not a regular file of this folder")
    if about.st_size > largest:
        raise ValueError(f"{about.st_size} bytes, more than {largest}")
    return about.st_size


@functools.cache
def _within(folder: Path) -> bool:
    """Whether the folder, one below in a results folder, lies in it, also where links lead."""
    out = folder.parents[1]
    return Path(os.path.realpath(folder)).is_relative_to(os.path.realpath(out))


def _shallow(x: Any, depth: int = 3) -> bool:
    """Whether a value of a field that is not known here is plain enough to be shown."""
    if type(x) in (list, dict) and depth:
        return len(x) <= 1000 and all(_shallow(y, depth - 1) for y in (x if type(x) is list else [*x, *x.values()]))
    return _scalar(x)


def _short(x: Any) -> str:
    """A value for a message of one line."""
    if type(x) in (list, dict):
        return f"a {type(x).__name__} of {len(x)}"
    return ascii(x if type(x) is not int or abs(x) <= LARGEST else float("inf"))[:60]
