"""PyMARL's padded episodes, as AlberDICE (.npy), CFCQL and ICQ (.h5) keep them: E episodes of up to L steps.

| key           | shape           |                                                                            |
| ------------- | --------------- | -------------------------------------------------------------------------- |
| state         | (E, L+1, S)     |                                                                            |
| obs           | (E, L+1, N, O)  |                                                                            |
| avail_actions | (E, L+1, N, A)  | 0 or 1                                                                     |
| actions       | (E, L+1, N, 1)  |                                                                            |
| reward        | (E, L+1, 1)     | of the team, after the action of the same row                              |
| terminated    | (E, L+1, 1)     | 1 at an episode's last step if it ended, see below                         |
| filled        | (E, L+1, 1)     | 1 for the n steps of an episode and the observation after them, n + 1 rows |

Other keys (actions_onehot, probs) say nothing new and are not read.

**Ends.** StarCraft recordings flag real ends only: an episode without a flag was truncated. AlberDICE's recordings of matrix games
and Bridge flag the time limit as well. For those families a flag on the last row that fits counts only if the state shows that the
game is over; otherwise it was the time limit, a truncation.

**Shorter limits.** Bridge was recorded with a limit of 50 and is evaluated with 20. Episodes are cut to the limit (the task's own by
default), the cut is a truncation and the step before it keeps the reward that was recorded. Where an environment pays nothing on the
step that hits its limit, as Bridge does, only the recorded limit shows that.

**Left out.** PyMARL notes an action beside an episode's last observation. Nothing followed from it, and our format has no place for it.
An export writes action 0 there, or the first legal one. It writes `actions_onehot` for ICQ and `probs` (zeros) for CFCQL, which reads
every key of the file; CFCQL's loader wants `<map>_<medium|expert|...>.h5`. Seeds, wins and log-probabilities have no place there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.limits import check_size
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.dataset import PART, Dataset, pack
from inspo_benchmark.datasets.layouts import LAYOUTS, Layout, Recording, refuse, word
from inspo_benchmark.datasets.layouts._arrays import arrays, need, reading, shaped
from inspo_benchmark.datasets.layouts._write import export
from inspo_benchmark.envs import bridge

KEYS = {"state": "f", "obs": "f", "avail_actions": "biuf", "actions": "iu", "reward": "f", "terminated": "biuf", "filled": "biuf"}  # kinds


def _never(state: np.ndarray) -> np.ndarray:
    return np.zeros(len(state), bool)


LIMIT_IS_FLAGGED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "xor": _never,
    "mne": _never,
    "bridge": bridge.both_arrived,
}  # final states: over?


@contextmanager
def open_recording(source: Path) -> Iterator[Recording]:
    with arrays(source) as x:
        need(source, x, KEYS, "a PyMARL")
        head = x["filled"].shape[:2]
        if len(x["filled"].shape) != 3 or x["obs"].ndim != 4 or x["avail_actions"].ndim != 4 or x["state"].ndim != 3:
            shapes = ", ".join(f"{key} {tuple(x[key].shape)}" for key in KEYS)
            raise UserError(f"{source}: {shapes}; a PyMARL recording has (E, L+1, ...) with 1, N x O, N x A and S numbers in a row")
        (_, _, n, o), actions = x["obs"].shape, x["avail_actions"].shape[-1]
        shapes = {"state": (x["state"].shape[2],), "obs": (n, o), "avail_actions": (n, actions), "actions": (n, 1)}
        shaped(source, x, {key: (*head, *shapes.get(key, (1,))) for key in KEYS}, f"'filled' {tuple(x['filled'].shape)} with {n} agents")
        with reading(source):
            filled, flags = (x[key][:][..., 0] != 0 for key in ("filled", "terminated"))
        recorded, room = filled.sum(1) - 1, head[1] - 1
        refuse(source, (filled != (np.arange(room + 1) <= recorded[:, None])).any(1), "'filled' has holes")
        refuse(source, recorded < 1, "there is no step")
        flags, last = flags[:, :room], np.arange(room) == recorded[:, None] - 1
        refuse(source, (flags & ~last & filled[:, :room]).any(1), "the game goes on after 'terminated'")
        yield Recording(
            source,
            Spec(n, o, x["state"].shape[2], Discrete(actions), room),
            _name(source),
            rows=np.full(len(recorded), room),
            read=partial(_read, x, recorded, (flags & last).any(1)),
            notes=["the action beside each last observation is left out"],
        )


def _read(x: dict[str, Any], recorded: np.ndarray, over: np.ndarray, r: Recording, task: Task, a: int, b: int) -> Dataset:
    state, room, lengths, over = x["state"][a:b], r.spec.episode_limit, recorded[a:b], over[a:b]
    if task.family in LIMIT_IS_FLAGGED:
        over = over & ((lengths < room) | LIMIT_IS_FLAGGED[task.family](state[np.arange(b - a), lengths]))
    return pack(
        task,
        lengths=lengths,
        obs=x["obs"][a:b],
        state=state,
        avail=x["avail_actions"][a:b] != 0,
        actions=x["actions"][a:b][:, :room, :, 0],
        rewards=x["reward"][a:b][:, :room, 0],
        terminated=over,
        won=-1,
        seed=-1,
    )


def _name(source: Path) -> str:
    """`5m_vs_6m_medium_replay.h5`, as CFCQL calls its files, is StarCraft's; nothing else tells where a recording comes from."""
    for name in TASKS:
        if name.startswith("sc2:") and name.removeprefix("sc2:").replace("-", "_") == source.stem.replace("-", "_"):
            return name
    return f"{word(source.stem)}-recorded"


def write(source: Path, target: Path) -> str:
    return "; ".join(export(source, target, "discrete", "PyMARL", "omiga", partial(_parts, source)))


def _parts(source: Path, d: Dataset) -> Iterator[dict[str, np.ndarray]]:
    """Padded episodes, of about PART bytes in all: the limit, to which they are padded, is any number that a file has."""
    m = d.meta
    size = (m["limit"] + 1) * 4 * (m["state"] + m["agents"] * (m["obs"] + 3 * m["actions"] + 2) + 4)
    check_size(source, size, source.stat().st_size)
    for a in range(0, d.episodes, step := max(1, PART // size)):
        yield _padded(d.subset(np.arange(a, min(a + step, d.episodes))))


def _padded(d: Dataset) -> dict[str, np.ndarray]:
    rows, count, n = d.meta["limit"] + 1, d.episodes, d.meta["agents"]
    seen, acted = (np.arange(rows) < d.lengths[:, None] + more for more in (1, 0))
    ends = np.zeros((count, rows), bool)
    ends[acted] = d.terminated

    def pad(x: np.ndarray, where: np.ndarray, dtype: str) -> np.ndarray:
        out = np.zeros((count, rows, *x.shape[1:]), dtype)
        out[where] = x
        return out

    avail = pad(d.avail, seen, "i4")
    actions = pad(d.actions, acted, "i8")
    actions[seen & ~acted] = d.avail[np.cumsum(d.lengths + 1) - 1].argmax(-1)
    onehot = (actions[..., None] == np.arange(d.meta["actions"])) & seen[:, :, None, None]
    return {
        "state": pad(d.state, seen, "f4"),
        "obs": pad(d.obs, seen, "f4"),
        "actions": actions[..., None],
        "actions_onehot": onehot.astype("f4"),
        "avail_actions": avail,
        "probs": np.zeros((count, rows, n, d.meta["actions"]), "f4"),
        "reward": pad(d.rewards, acted, "f4")[..., None],
        "terminated": ends.astype("u1")[..., None],
        "filled": seen.astype("i8")[..., None],
    }


LAYOUTS.register("pymarl")(Layout("PyMARL", "AlberDICE, CFCQL, ICQ: .h5, .npz or a folder of .npy", open_recording, write))
