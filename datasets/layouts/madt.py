"""MADT's episodes on MAPPO's SMAC, which OMIGA's SMAC branch reads: a folder of files by torch.save, one episode each.

A file is a list over the agents of lists over time of [share_obs, obs, action [1], reward [>= 1], done, avail].

**Pickles.** `core.tensor_file` reads them: tensors, arrays, lists and numbers, nothing that runs. Any other content is refused, and so is
a file that becomes more numbers than it has bytes.

**Rewards** are those of the files. OMIGA's loader overwrites them with returns-to-go and trains on these; files saved after that are
recognised, because their rewards never rise, and refused.

**Sizes** are MAPPO's (observations of 124 numbers on 5m_vs_6m), not SMAC's (55): these are data of a task of their own, `mappo:<map>-...`.
State: every agent's share_obs end to end.

**Ends.** An episode as long as the map's limit was truncated, a shorter one whose last `done` is set terminated. The observation behind
the last step is not recorded (OMIGA repeats the last one, and so does this).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inspo_benchmark.core import limits, tensor_file
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.dataset import Dataset
from inspo_benchmark.datasets.layouts import LAYOUTS, Layout, Recording, with_last, word
from inspo_benchmark.datasets.layouts._known import MAPPO_OBS
from inspo_benchmark.envs.smac.maps import MAPS

FIELDS = ("share_obs", "obs", "action", "reward", "done", "avail")
SUSPECTS = 10  # steps from which on rewards that never rise say something


@contextmanager
def open_recording(source: Path) -> Iterator[Recording]:
    if not source.is_dir():
        raise UserError(f"{source}: not a folder; MADT's recordings are folders with a file for each episode")
    files = sorted(p for p in source.iterdir() if p.is_file() and not p.name.startswith("."))
    if not files:
        raise UserError(f"{source}: no files; MADT's recordings are folders with a file for each episode")
    places = source.resolve().parts[::-1]  # .../5m_vs_6m/good
    maps = sorted(MAPS, key=len, reverse=True)
    map = next((m for place in places for m in maps if re.search(rf"(?<![a-zA-Z0-9]){m}(?![a-zA-Z0-9])", place)), None)
    quality = next((q for place in places for q in ("good", "medium", "poor") if q in re.split(r"[\W_]", place)), "recorded")
    first = episode(files[0])
    (t, n, o), width = first["obs"].shape, first["avail"].shape[2]
    if map in MAPPO_OBS and (o, n) != (MAPPO_OBS[map], MAPS[map].n):
        raise UserError(f"{source}: {n} agents with observations of {o}; MAPPO's {map} has {MAPS[map].n} with {MAPPO_OBS[map]}")
    limit = MAPS[map].limit if map else max(len(episode(file)["obs"]) for file in files)
    yield Recording(
        source,
        Spec(n, o, n * first["share_obs"].shape[2], Discrete(width), limit),
        f"mappo:{map}-{quality}" if map else f"{word(source.name)}-recorded",
        rows=np.full(len(files), max(t, limit)),
        read=partial(_read, files),
        notes=["rewards as recorded, not returns-to-go; MAPPO's SMAC; the last observation of each episode is repeated"],
    )


def _read(files: list[Path], r: Recording, task: Task, a: int, b: int) -> Dataset:
    play = [episode(file, r.spec) for file in files[a:b]]
    lengths = np.array([len(x["obs"]) for x in play])
    x = {key: np.concatenate([p[key] for p in play]) for key in FIELDS}
    falling = [len(p["obs"]) >= SUSPECTS and (np.diff(p["reward"]) <= 0).all() and p["reward"][0] > p["reward"][-1] for p in play]
    if all(falling):
        what = "rewards that never rise: these are returns-to-go (OMIGA's loader makes them), not rewards"
        raise UserError(f"{r.source}: {files[a].name} and on have {what}")
    done = x["done"].all(1)[np.cumsum(lengths) - 1]
    return r.episodes(
        task,
        lengths,
        obs=with_last(x["obs"], lengths),
        state=with_last(x["share_obs"].reshape(lengths.sum(), -1), lengths),
        avail=with_last(x["avail"] != 0, lengths),
        actions=x["action"],
        rewards=x["reward"],
        terminated=done & (lengths < task.spec.episode_limit),
    )


def episode(file: Path, spec: Spec | None = None) -> dict[str, np.ndarray]:
    """share_obs [T, N, S], obs [T, N, O], action [T, N], reward [T], done [T, N], avail [T, N, A]"""
    try:
        content = limits.read_bytes(file)
        agents = tensor_file.read(content)
    except (OSError, *tensor_file.DAMAGE) as e:
        said = f"{type(e).__name__}: {' '.join(str(e).split())[:100]}"
        raise UserError(f"{file}: not an episode that is nothing but numbers; other pickles are never loaded ({said})") from e
    try:
        left = Numbers(len(content))
        columns = [[np.stack([left.array(step[k]) for step in steps]) for k in range(len(FIELDS))] for steps in agents]
        x = {key: np.stack([agent[k] for agent in columns], 1) for k, key in enumerate(FIELDS)}
        t, n = x["obs"].shape[:2]
        x["action"] = x["action"].reshape(t, n)
        x["done"] = x["done"].reshape(t, n) != 0
        rewards = x["reward"].reshape(t, -1)
        x["reward"] = rewards[:, 0]
        numbers = all(v.dtype.kind in "biuf" for v in x.values())
        flat = all(x[key].ndim == 3 for key in ("share_obs", "obs", "avail")) and (x["action"] == x["action"].astype(int)).all()
    except tensor_file.DAMAGE as e:
        raise UserError(f"{file}: not lists over agents and time of {', '.join(FIELDS)} ({' '.join(str(e).split())[:100]})") from e
    if not numbers or not flat:
        raise UserError(f"{file}: {', '.join(f'{k} {v.dtype}{v.shape}' for k, v in x.items())}; not what an episode of MADT holds")
    if not (rewards == rewards[:, :1]).all():
        raise UserError(f"{file}: the agents' rewards differ, SMAC pays the team")
    sizes = (n, x["obs"].shape[2], n * x["share_obs"].shape[2], x["avail"].shape[2])
    if spec and sizes != (expected := (spec.num_agents, spec.obs_dim, spec.state_dim, spec.space.action_dim)):
        raise UserError(f"{file}: agents, observations, states and actions {sizes}; the first file has {expected}")
    x["action"] = x["action"].astype(np.int64)
    return x


class Numbers:
    """Arrays of at most as many numbers as a file has bytes: a pickle can refer to one object many times."""

    def __init__(self, left: int):
        self.left = left

    def array(self, x: Any, depth: int = 3) -> np.ndarray:
        """A tensor, an array, or lists of numbers. ValueError: too many."""
        if isinstance(x, list | tuple):
            if not depth:
                raise ValueError("lists within lists")
            self._spend(1)
            return np.asarray([self.array(y, depth - 1) for y in x])
        if not isinstance(x, torch.Tensor | np.ndarray | np.generic | int | float):
            raise ValueError(f"{type(x).__name__} among the numbers")
        self._spend(x.numel() if isinstance(x, torch.Tensor) else np.size(x))
        return np.asarray(x)

    def _spend(self, count: int) -> None:
        self.left -= max(1, count)
        if self.left < 0:
            raise ValueError("more numbers than the file has bytes")


LAYOUTS.register("madt")(Layout("MADT", "MADT, OMIGA's SMAC: a folder of torch-saved episodes", open_recording))
