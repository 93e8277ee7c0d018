"""Flat dictionaries in the manner of D4RL, .npz, .h5 or a folder of .npy: M steps end to end, of N agents or of one.

| key               | shape                    |                                                                          |
| ----------------- | ------------------------ | ------------------------------------------------------------------------ |
| observations      | (M, N, O), or (M, O)     | before the step of the same row                                          |
| actions           | (M, N, D), (M, N), (M, D) or (M,) | floats are continuous, integers discrete                        |
| rewards           | (M,), or (M, N)          | the team's, floats or integers; of several agents the mean               |
| terminals         | (M,), or (M, N)          | the game was over after this step (for all agents)                       |
| timeouts          | the same, may be absent  | the recording stopped after this step                                    |
| next_observations | as observations, may be absent | what the step leads to                                             |
| states, next_states | (M, S), may be absent  | absent: all observations end to end                                      |
| legals            | (M, N, A), may be absent | absent: everything is legal                                              |

**Ends** are where `terminals` or `timeouts` say so. Rows behind the last of them are an episode that was truncated. Where both are set the
game was over. **Last observations** come from next_observations; without these, D4RL does not hold them, and the last row is repeated.
Rows of D4RL's older files whose next observation is not the row that follows, although nothing ended, are refused.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.dataset import PART, Dataset
from inspo_benchmark.datasets.layouts import LAYOUTS, Layout, Recording, refuse, span, stops, with_last, word
from inspo_benchmark.datasets.layouts._arrays import arrays, need, reading, shaped

KEYS = {
    "observations": "f",
    "actions": "iuf",
    "rewards": "iuf",
    "terminals": "biuf",
    "timeouts": "biuf",
    "next_observations": "f",
    "states": "f",
    "next_states": "f",
    "legals": "biuf",
}
OPTIONAL = ("timeouts", "next_observations", "states", "next_states", "legals")


@contextmanager
def open_recording(source: Path) -> Iterator[Recording]:
    with arrays(source) as x:
        need(source, x, KEYS, "a flat", OPTIONAL)
        seen = tuple(x["observations"].shape)
        if len(seen) not in (2, 3) or not seen[0]:
            raise UserError(f"{source}: observations have shape {seen}; a flat recording has (M, N, O), or (M, O) of one agent")
        m, n, o = seen if len(seen) == 3 else (seen[0], 1, seen[1])
        each = (m, n) if len(seen) == 3 else (m,)
        box = x["actions"].dtype.kind == "f"
        expected = {"actions": (*each, *x["actions"].shape[len(each) :][:1]) if box else each, "next_observations": seen}
        expected |= {key: (m, n) if len(x[key].shape) == 2 else (m,) for key in ("rewards", "terminals", "timeouts") if key in x}
        expected |= {key: (m, None) for key in ("states", "next_states")}
        expected |= {"legals": (*each, None)}
        shaped(source, x, expected, f"observations of shape {seen}")
        if box:
            x.pop("legals", None)  # continuous actions are all available
        if box and len(x["actions"].shape) == len(each):
            raise UserError(
                f"{source}: actions have shape {tuple(x['actions'].shape)} and type {x['actions'].dtype}; continuous ones have D numbers"
            )
        with reading(source):
            over, cut = ((x[key][:].reshape(m, -1) != 0).all(1) if key in x else np.zeros(m, bool) for key in ("terminals", "timeouts"))
            step = max(1, PART // (8 * n))
            widest = 0 if box else 1 + int(max(x["actions"][i : i + step].max() for i in range(0, m, step)))
        width = x["actions"].shape[-1] if box else x["legals"].shape[-1] if "legals" in x else widest
        stop = stops(over | cut)
        lengths = np.diff(stop, prepend=0)
        notes = (
            []
            if "next_observations" in x
            else ["the last observation of each episode is not in the recording: the last but one is repeated"]
        )
        notes += ["the last episode was cut short"] * (not bool((over | cut)[-1]))
        yield Recording(
            source,
            Spec(
                n, o, x["states"].shape[1] if "states" in x else n * o, Box(width) if box else Discrete(max(1, width)), int(lengths.max())
            ),
            f"{word(source.stem)}-recorded",
            rows=lengths,
            read=partial(_read, x, stop, over),
            notes=notes,
        )


def _read(x: dict[str, Any], stop: np.ndarray, over: np.ndarray, r: Recording, task: Task, a: int, b: int) -> Dataset:
    (rows, lengths), n = span(stop, a, b), r.spec.num_agents
    ends, count = np.cumsum(lengths) - 1, rows.stop - rows.start

    def seen(now: str, then: str) -> np.ndarray:
        here = x[now][rows]
        if then not in x:
            return with_last(here, lengths)
        there = x[then][rows]
        wrong = (here[1:] != there[:-1]).reshape(count - 1, -1).any(1)
        wrong[ends[:-1]] = False
        refuse(r.source, wrong, f"{then} is not the row of {now} that follows, and no end is marked,", "step", rows.start)
        return with_last(here, lengths, there[ends])

    obs = seen("observations", "next_observations").reshape(count + b - a, n, -1)
    return r.episodes(
        task,
        lengths,
        obs=obs,
        state=seen("states", "next_states") if "states" in x else obs.reshape(len(obs), -1),
        avail=with_last(x["legals"][rows].reshape(count, n, -1) != 0, lengths) if "legals" in x else None,
        actions=x["actions"][rows].reshape(count, n, -1) if task.spec.space.kind == "continuous" else x["actions"][rows].reshape(count, n),
        rewards=x["rewards"][rows].reshape(count, -1).astype("f8").mean(1),
        terminated=over[stop[a:b] - 1],
    )


LAYOUTS.register("flat")(Layout("flat", "D4RL-like dictionaries: .npz, .h5 or a folder of .npy", open_recording))
