"""The fields of the JSON files in a results folder. Such a file may come from anyone: its content is checked when it is read,
before anything uses it as a name, a number or a path."""

import functools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inspo_benchmark.core.registry import NAME
from inspo_benchmark.core.types import MAX_FLOAT, MAX_LABEL, MAX_NUMBER, MIN_DISTANCE
from inspo_benchmark.running.untrusted import read_regular

MAX_JSON_SIZE = 4 << 20  # bytes
REVISION = re.compile(r"[0-9a-f]{40}|")  # a git commit; empty outside a git checkout
MIN_SECONDS = 0.001  # that a training takes, so that speeds are finite
MISSING = object()


def _name(x: Any) -> bool:
    return type(x) is str and len(x) <= 100 and _name_matches(x)


@functools.lru_cache(10_000)  # thousands of files have the same names
def _name_matches(x: str) -> bool:
    return NAME.fullmatch(x) is not None


def _text(x: Any) -> bool:
    return type(x) is str and len(x) <= 10_000 and all(line.isprintable() for line in x.split("\n"))


def _integer(x: Any, low: int = 0, high: int = MAX_NUMBER) -> bool:
    return type(x) is int and low <= x <= high


def _number(x: Any) -> bool:
    return _integer(x, -MAX_NUMBER) or (type(x) is float and abs(x) <= MAX_FLOAT)


def _scalar(x: Any) -> bool:
    return x is None or type(x) is bool or _text(x) or _number(x)


def _table(x: Any, fits: Callable[[Any], bool] = _scalar) -> bool:
    return type(x) is dict and len(x) <= 1000 and all(_name(key) and fits(value) for key, value in x.items())


def _seeds(x: Any) -> bool:
    valid = type(x) is list and 0 < len(x) <= 100_000 and all(_integer(seed, 0, 2**63 - 1) for seed in x)
    return valid and len(set(x)) == len(x)


def _reference(x: Any) -> bool:
    return type(x) is list and len(x) == 2 and all(_number(y) and abs(y) <= MAX_NUMBER for y in x) and x[1] - x[0] >= MIN_DISTANCE


def _at_least_1(x: Any) -> bool:
    return _integer(x, 1)


# Field -> a check of its value, and what the value must be, in words. `data.steps` is the field `steps` of the table `data`.
SCHEMA: dict[str, tuple[Callable[[Any], bool], str]] = {
    "algo": (_name, "a name"),
    "task": (_name, "a name"),
    "seeds": (_seeds, "a list of different integers from 0"),
    "config": (_table, "a table of settings"),
    "config.num_updates": (_at_least_1, "an integer above 0"),
    "overrides": (_table, "a table of settings"),
    "preset": (lambda x: x == "" or _name(x), "a name"),
    "evaluation": (functools.partial(_table, fits=_at_least_1), "a table of integers above 0"),
    "evaluation.final_episodes": (_at_least_1, "an integer above 0"),
    "group": (_name, "a name"),
    "code": (_table, "a table"),
    "code.revision": (lambda x: type(x) is str and REVISION.fullmatch(x) is not None, "a git commit"),
    "code.dirty": (lambda x: type(x) is bool, "true or false"),
    "data": (_table, "a table"),
    "data.sha256": (lambda x: x == "" or _name(x), "a hash"),
    "data.source": (_text, "text"),
    "data.episodes": (_integer, "an integer"),
    "data.steps": (_integer, "an integer"),
    "data.return_mean": (_number, "a number"),
    "data.return_std": (_number, "a number"),
    "data.win_rate": (_number, "a number"),
    "data.behavior_greedy_return": (_number, "a number"),
    "data.behavior_greedy_win_rate": (_number, "a number"),
    "backend": (lambda x: _text(x) and len(x) <= MAX_LABEL, "text"),
    "reference": (_reference, f"two increasing numbers, at least {MIN_DISTANCE} apart"),
    "per_step": (lambda x: type(x) is bool, "true or false"),
    "stochastic": (lambda x: type(x) is bool, "true or false"),
    "versions": (functools.partial(_table, fits=_text), "a table of texts"),
    "machine": (_table, "a table"),
    "wall_seconds": (lambda x: _number(x) and (x == 0 or x >= MIN_SECONDS), f"0 or a number from {MIN_SECONDS}"),
    "evaluation_share": (lambda x: _number(x) and 0 <= x <= 1, "a number from 0 to 1"),
    "peak_memory": (_integer, "an integer"),
    "csv_sha256": (lambda x: type(x) is str and re.fullmatch(r"[0-9a-f]{64}", x) is not None, "a sha256"),
    "reason": (lambda x: type(x) is str and len(x) <= 10_000, "text"),
    "again": (lambda x: type(x) is bool, "true or false"),
    "progress": (lambda x: type(x) is dict, "a table"),
    "progress.update": (_integer, "an integer"),
    "progress.return": (lambda x: type(x) is float, "a number"),
}
REQUIRED = {"algo", "task", "seeds", "group", "config", "config.num_updates"}  # of every JSON
FINISHED = REQUIRED | {"wall_seconds"}
COMPARED = {"overrides", "evaluation", "data", "data.sha256"}  # used by `running.status.stale_reason`
UNFINISHED = REQUIRED | COMPARED | {"reason", "again"}


def parse(path: Path, required: set[str]) -> dict[str, Any]:
    """The content of a JSON file. OSError: it cannot be read. ValueError: it is malformed; the message names the field."""
    try:
        metadata = json.loads(read_regular(path, MAX_JSON_SIZE))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if wrong := problem(metadata, required):
        raise ValueError(wrong)
    return metadata


def problem(metadata: Any, required: set[str]) -> str:
    """The first mistake in the content of a JSON file, in words; empty if there is none."""
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


def _shallow(x: Any, depth: int = 3) -> bool:
    """Whether the value of an unknown field is simple enough to be shown: scalars, in at most three levels of lists and tables."""
    if type(x) in (list, dict) and depth:
        return len(x) <= 1000 and all(_shallow(y, depth - 1) for y in (x if type(x) is list else [*x, *x.values()]))
    return _scalar(x)


def _short(x: Any) -> str:
    """A value as part of a message of one line."""
    if type(x) in (list, dict):
        return f"a {type(x).__name__} of {len(x)}"
    return ascii(x if type(x) is not int or abs(x) <= MAX_NUMBER else float("inf"))[:60]
