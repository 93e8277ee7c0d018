"""OMIGA's MaMuJoCo files (HAPPO's wrapper), `<scenario>-<conf>-<quality>.hdf5`: M rows, consecutive in time.

| key | shape     |                                                                                |
| --- | --------- | ------------------------------------------------------------------------------ |
| s   | (M, N, S) | the state as each agent sees it                                                |
| o   | (M, N, O) |                                                                                |
| a   | (M, N, D) |                                                                                |
| r   | (M, 1)    | of the team, after the action of the same row                                  |
| d   | (M, 1)    | 1 at the extra row that ends an episode: its last observation, a and r dummies |

**Ends.** A time limit is flagged like a fall. An episode of full length (1000 steps) was truncated here, a shorter one terminated. Rows
behind the last d are an episode that was cut short, its last row what was seen last; a flag right behind a flag is no episode.

**State.** s repeats one state with the agent's one-hot code at its end, standardized within each vector, which the position of the code
does not change: agent 0's is all there is to know. Where the agents' states differ in more than that, they are put end to end.

An export repeats the state for every agent. It has no place for why an episode ended, seeds, wins and log-probabilities.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.spaces import Box
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.dataset import PART, Dataset
from inspo_benchmark.datasets.layouts import LAYOUTS, Layout, Recording, refuse, stops, word
from inspo_benchmark.datasets.layouts._arrays import arrays, need, reading, shaped
from inspo_benchmark.datasets.layouts._known import KNOWN
from inspo_benchmark.datasets.layouts._write import export

KEYS = {"s": "f", "o": "f", "a": "f", "r": "f", "d": "biuf"}
SHARED, APART = "s of agent 0 is the state", "s of all agents end to end is the state"
LIMIT = 1000  # steps of an episode on every MuJoCo task
ROUNDED = 1e-5  # the same vector, standardized with its entries in another order


@contextmanager
def open_recording(source: Path) -> Iterator[Recording]:
    with arrays(source) as x:
        need(source, x, KEYS, "an OMIGA")
        if any(len(x[key].shape) != 3 for key in "soa") or not len(x["s"]):
            raise UserError(f"{source}: s {x['s'].shape}, o {x['o'].shape}, a {x['a'].shape}; OMIGA's have (rows, agents, numbers)")
        m, n, o = x["o"].shape
        shaped(source, x, {"s": (m, n, x["s"].shape[2]), "a": (m, n, x["a"].shape[2])}, f"o of shape {(m, n, o)}")
        for key in "rd":
            if not len(x[key].shape) or len(x[key]) != m or (key == "r" and np.prod(x[key].shape) != m):
                raise UserError(f"{source}: {key} has shape {tuple(x[key].shape)}, o of shape {(m, n, o)} asks for {(m, 1)}")
        with reading(source):
            flag = x["d"][:].reshape(m, -1)[:, 0]
            shared = _shared(x["s"])
        refuse(source, ~np.isin(flag, (0, 1)), "d is neither 0 nor 1", "row")
        stop = stops(flag)
        start = np.concatenate([[0], stop[:-1]])
        full = stop - start > 1
        bounds = np.stack([start, stop], 1)[full]
        lengths = bounds[:, 1] - bounds[:, 0] - 1
        if not len(lengths):
            raise UserError(f"{source}: no episode, because d is 1 in every row")
        if len(lengths) > 1 and (lengths == 999).all():
            raise UserError(f"{source}: 1000 rows in every episode; OMIGA's have 1001, the last one extra: d = 1 and what was seen last")
        notes = [f"d marks the row behind an episode; {SHARED if shared else APART}"]
        notes += [f"{(~full).sum()} flags without a step left out"] * bool((~full).any())
        notes += ["the last episode was cut short"] * bool(flag[-1] == 0)
        yield Recording(
            source,
            Spec(n, o, x["s"].shape[2] * (1 if shared else n), Box(x["a"].shape[2]), max(LIMIT, int(lengths.max()))),
            _name(source),
            rows=lengths + 1,
            read=partial(_read, x, bounds, shared, flag[-1] == 0),
            notes=[*notes, "episodes of full length truncated, shorter ones terminated"],
            family="mamujoco",
        )


def _read(x: dict[str, Any], bounds: np.ndarray, shared: bool, open_end: bool, r: Recording, task: Task, a: int, b: int) -> Dataset:
    first, last = bounds[a, 0], bounds[b - 1, 1]
    rows = np.zeros(last - first, bool)  # those of the group that belong to an episode
    for start, stop in bounds[a:b]:
        rows[start - first : stop - first] = True
    lengths = bounds[a:b, 1] - bounds[a:b, 0] - 1
    step = rows.copy()
    step[bounds[a:b, 1] - 1 - first] = False
    s = x["s"][first:last][rows]
    over = lengths < task.spec.episode_limit
    if open_end and b == len(bounds):
        over[-1] = False
    return r.episodes(
        task,
        lengths,
        obs=x["o"][first:last][rows],
        state=s[:, 0] if shared else s.reshape(len(s), -1),
        actions=x["a"][first:last][step],
        rewards=x["r"][first:last].reshape(last - first)[step],
        terminated=over,
    )


def _shared(s: Any) -> bool:
    """Whether every agent's state is agent 0's, but for the one-hot code of N numbers at its end."""
    n, width = s.shape[1:]
    rows = max(1, PART // max(1, s[:1].nbytes))
    for i in range(0, len(s), rows):
        block = s[i : i + rows]
        head, code = np.split(block, [max(0, width - n)], axis=2)
        with np.errstate(invalid="ignore"):  # of infinite states, which are refused later
            if not (np.abs(head - head[:, :1]) <= ROUNDED).all():
                return False
            if not (np.abs(code - code[:, :1]) <= ROUNDED).all() and not (np.abs(np.sort(code) - np.sort(code[:, :1])) <= ROUNDED).all():
                return False
    return True


def _name(source: Path) -> str:
    """`HalfCheetah-v2-6x1-medium-replay.hdf5` -> v2:halfcheetah_6x1-medium_replay"""
    if found := re.fullmatch(r"(\w+)-v\d-(\d+x\d+)-([\w-]+)", source.stem):
        scenario, conf, quality = found.groups()
        name = f"v2:{scenario.lower()}_{conf}-{quality.replace('-', '_')}"
        if name.rpartition("-")[0] in KNOWN:
            return name
    return f"{word(source.stem)}-recorded"


def write(source: Path, target: Path) -> str:
    ambiguous = 0

    def rows(d: Dataset) -> Iterator[dict[str, np.ndarray]]:
        nonlocal ambiguous
        ambiguous += int((d.terminated[d.offset[1:] - 1] != (d.lengths < d.meta["limit"])).sum())
        ends = np.cumsum(d.lengths)
        yield {
            "s": np.repeat(d.state[:, None], d.meta["agents"], 1),
            "o": d.obs,
            "a": np.insert(d.actions, ends, 0, axis=0),
            "r": np.insert(d.rewards, ends, 0)[:, None],
            "d": np.insert(np.zeros(d.steps, "f4"), ends, 1)[:, None],
        }

    lost = export(source, target, "continuous", "OMIGA", "pymarl", rows)
    lost += [f"{ambiguous} episodes whose kind of end does not follow from their length"] * bool(ambiguous)
    return "; ".join(lost)


LAYOUTS.register("omiga")(Layout("OMIGA", "OMIGA's MaMuJoCo: .hdf5 with s, o, a, r, d", open_recording, write))
