"""The rules that every dataset has to satisfy, and the places where one breaks them."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.dataset import CARD, FORMAT, GREEDY, PATHS, PROVENANCE, RETURN, VERSION, Dataset, action_dtype, card

LARGEST = 1e15  # of the magnitude of numbers: squares of returns, summed over a batch, have to be finite in float32
ROUNDING = 1e-4  # of log-probabilities
SIZES = ("task", "action_kind", "agents", "obs", "state", "actions", "limit", "per_step")  # metadata that have to equal the task's


def problems(d: Dataset, task: Task | None = None, at: tuple[int, int] = (0, 0)) -> list[str]:
    """The faults of a dataset in memory, with their places. A fault that makes further checks meaningless ends the list.

    If the dataset is a part of a file, `at` gives the numbers of episodes and steps before it.
    """
    return (
        meta_problems(d.meta, task)
        or [f"{PATHS[name]}: no array of numpy" for name in PATHS if not isinstance(getattr(d, name), np.ndarray)]
        or shape_problems({name: getattr(d, name) for name in PATHS}, d.meta)
        or _offset_problems(d, at[0])
        or list(_value_problems(d, *at))
    )


def meta_problems(meta: dict[str, Any], task: Task | None) -> list[str]:
    """The faults of the metadata: missing or malformed values, or (if given) sizes other than the task's."""
    if meta.get("format") != FORMAT:
        return [f"attribute format: {meta.get('format')!r}, not {FORMAT!r}: another program's file"]
    if meta.get("format_version") != VERSION:
        return [f"attribute format_version: {meta.get('format_version')!r}, this program reads {VERSION}"]
    found = [
        f"attribute {k}: {'missing' if k not in meta else repr(meta[k])}, not of type {t.__name__}"
        for k, t in (CARD | PROVENANCE).items()
        if type(meta.get(k)) is not t
    ]
    found += [f"attribute {line(k)}: neither a line of text nor a number" for k, v in meta.items() if not _plain(k) or not _plain(v)]
    if not found:
        found += [f"attribute {k}: {meta[k]}, should be at least 1" for k in ("agents", "obs", "state", "actions", "limit") if meta[k] < 1]
    found += [f"attribute {k}: {meta[k]!r}, not of type float" for k in GREEDY if k in meta and type(meta[k]) is not float]
    if not found and meta["action_kind"] not in ("discrete", "continuous"):
        found.append(f"attribute action_kind: {meta['action_kind']!r}, neither 'discrete' nor 'continuous'")
    if task and not found:
        here = card(task)
        found += [f"attribute {k}: {meta[k]!r} in the data, {here[k]!r} in task {task.name}" for k in SIZES if meta[k] != here[k]]
    return found


def shape_problems(x: dict[str, Any], meta: dict[str, Any]) -> list[str]:
    """The faults of the arrays' shapes and dtypes; `x`: name -> array, in memory or in a file."""
    t, e = math.prod(x["rewards"].shape), math.prod(x["offset"].shape) - 1
    n, width, box = meta["agents"], meta["actions"], meta["action_kind"] == "continuous"
    logp = x["behavior_logp"].shape[-1:] == (0,)
    expected = {
        "obs": ((t + e, n, meta["obs"]), "<f4"),
        "state": ((t + e, meta["state"]), "<f4"),
        "avail": ((t + e, n, 1 if box else width), "|b1"),
        "actions": ((t, n, width) if box else (t, n), action_dtype(meta["action_kind"], width)),
        "rewards": ((t,), "<f4"),
        "terminated": ((t,), "|b1"),
        "truncated": ((t,), "|b1"),
        "behavior_logp": ((t, 0 if logp else n), "<f4"),
        "offset": ((e + 1,), "<i8"),
        "won": ((e,), "|i1"),
        "seed": ((e,), "<i8"),
        "return": ((e,), "<f4"),
    }
    found = [f"{'episodes' if e < 1 else 'steps'}: there are none"] * (e < 1 or t < 1)
    for name, thing in x.items():
        shape, dtype = expected[name]
        place = PATHS.get(name, RETURN)
        if thing.dtype != np.dtype(dtype):
            found.append(f"{place}: type {thing.dtype}, should be {np.dtype(dtype)}")
        if tuple(thing.shape) != shape:
            found.append(f"{place}: shape {tuple(thing.shape)}, should be {shape} for {t} steps of {e} episodes of {n} agents")
    return found


def _offset_problems(d: Dataset, first: int = 0) -> list[str]:
    """`first`: number of episodes before these in the file."""
    place = PATHS["offset"]
    if d.offset[0] != 0 or d.offset[-1] != d.steps:
        return [f"{place}: runs from {d.offset[0]} to {d.offset[-1]}, should from 0 to {d.steps}, the number of steps"]
    lengths = [b - a for a, b in pairwise(d.offset.tolist())]  # of Python's integers, which do not overflow
    return [
        f"{place}: episode {e} has {n} steps, should have 1 .. {d.meta['limit']}"
        for e, n in enumerate(lengths, first)
        if not 1 <= n <= d.meta["limit"]
    ]


def _value_problems(d: Dataset, first: int = 0, before: int = 0) -> Iterator[str]:
    """`first`, `before`: numbers of episodes and steps before these in the file."""
    box, last = d.meta["action_kind"] == "continuous", np.zeros(d.steps, bool)
    last[d.offset[1:] - 1] = True
    of_step = np.repeat(np.arange(d.episodes), d.lengths)
    of_row = np.repeat(np.arange(d.episodes), d.lengths + 1)

    def bad(name: str, where: Any, what: str) -> Iterator[str]:
        """One line if any of `where` [steps, rows or episodes, ...] is true."""
        wrong = where.reshape(len(where), -1).any(1)
        if wrong.any():
            i = int(wrong.argmax())
            kind, episodes, start = {
                "obs": ("row", of_row, before + first),
                "steps": ("step", of_step, before),
                "episodes": ("", np.arange(d.episodes), first),
            }[PATHS[name].partition("/")[0]]
            place = f"{kind} {i + start} of the data, in " if kind else ""
            yield f"{PATHS[name]}: {what}, {wrong.sum()} times, first at {place}episode {episodes[i] + first}"

    for name in ("obs", "state", "rewards", "behavior_logp") + ("actions",) * box:
        if not _moderate(x := getattr(d, name)):
            yield from bad(name, ~np.isfinite(x), "NaN or infinity")
            yield from bad(name, np.isfinite(x) & (np.abs(x) > LARGEST), f"a number beyond {LARGEST:g}")
    yield from bad("avail", ~d.avail.any(-1), "an agent without an available action")
    if box:
        yield from bad("actions", np.abs(d.actions) > 1, "outside [-1, 1]")
    else:
        outside = (d.actions < 0) | (d.actions >= d.meta["actions"])
        yield from bad("behavior_logp", d.behavior_logp > ROUNDING, "a positive log-probability")
        yield from bad("actions", outside, f"not one of the actions 0 .. {d.meta['actions'] - 1}")
        inside = np.where(outside, 0, d.actions).astype(np.int64)
        yield from bad(
            "actions", ~outside & ~np.take_along_axis(d.avail[d.now], inside[..., None], -1)[..., 0], "an action that is not available"
        )
    yield from bad("terminated", (d.terminated | d.truncated) & ~last, "an end in the middle of an episode")
    yield from bad("terminated", (d.terminated == d.truncated) & last, "an episode's last step is not either terminated or truncated")
    yield from bad("won", ~np.isin(d.won, (-1, 0, 1)), "not -1, 0 or 1")
    yield from bad("seed", d.seed < -1, "below -1, which stands for an unknown one")


def _moderate(x: np.ndarray) -> bool:
    """Whether all numbers lie in [-LARGEST, LARGEST], which neither NaN nor infinity does."""
    return not x.size or bool(x.max() <= LARGEST and x.min() >= -LARGEST)


def _plain(x: Any) -> bool:
    return x.isprintable() if type(x) is str else type(x) in (int, float, bool)


def line(text: Any) -> str:
    """One printable line of any text, such as a name in a damaged file or a library's message."""
    return " ".join(str(text).encode("ascii", "backslashreplace").decode().split())[:160]
