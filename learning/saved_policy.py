"""The networks of a finished run, in a file beside its CSV: to look at, and to play with."""

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from inspo_benchmark.core.atomic_io import DamagedFile, load_checked, save_checked
from inspo_benchmark.core.env import Observation
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.core.types import State
from inspo_benchmark.learning.algorithm import Algorithm, Nets
from inspo_benchmark.learning.normalize import Normalizer

SUFFIX = ".policies"
NAMED = re.compile(rf"(.+\{SUFFIX})(?::(\d+))?")  # a file, and the seed of one of its policies


class SavedPolicies(NamedTuple):
    """What was trained together, one policy per seed."""

    algorithm: Algorithm
    task: str
    seeds: tuple[int, ...]
    params: dict[str, Tensor]  # [S, ...]
    scale: Normalizer  # of observations

    def player(self, seed: int) -> Callable[[Observation], np.ndarray]:
        """The greedy policy of that seed, called with what E lanes see, step after step from the episodes' start -> actions [E, N(, D)]."""
        if seed not in self.seeds:
            raise UserError(f"this run has no seed {seed}; it has {', '.join(map(str, self.seeds))}")
        params = {name: p[self.seeds.index(seed)] for name, p in self.params.items()}
        f, memory = Nets(self.algorithm.modules, params), None

        @torch.no_grad()
        def play(seen: Observation) -> np.ndarray:
            nonlocal memory
            memory = self.algorithm.init_hidden(len(seen.obs)) if memory is None else memory
            obs = torch.as_tensor(self.scale(seen.obs)).to(torch.get_default_dtype())
            action, memory = self.algorithm.act(f, obs, torch.as_tensor(seen.avail), memory)
            return action.numpy()

        return play


def player(text: str, scenario: str) -> Callable[[Observation], np.ndarray] | None:
    """The greedy policy that "PATH.policies" or "PATH.policies:SEED" names (of the first seed, if none); None: the text is no such name.
    UserError: not of this map or scenario, or nothing that can be used."""
    if not (found := NAMED.fullmatch(text)):
        return None
    run = load(Path(found[1]))
    if run.task.rpartition(":")[2].rpartition("-")[0] != scenario:
        raise UserError(f"{found[1]}: policies for {run.task}, not for {scenario}")
    return run.player(int(found[2] or run.seeds[0]))


def save(algo: str, task: str, algorithm: Algorithm, seeds: tuple[int, ...], state: State, scale: Normalizer, path: Path) -> None:
    params = {name: p.cpu() for name, p in algorithm.acting_params(state).items()}
    about = {"algo": algo, "task": task, "config": dataclasses.asdict(algorithm.cfg), "seeds": list(seeds)}
    save_checked(about | {"params": params, "scale": [torch.as_tensor(x) for x in scale]}, path)


def load(path: Path) -> SavedPolicies:
    """UserError: there is no such file, it is damaged, or made by other code."""

    def trained(x: dict[str, Any]) -> SavedPolicies:
        cls, task = ALGORITHMS.discover()[x["algo"]], TASKS.discover()[x["task"]]
        algorithm = cls(cls.Config(**x["config"]), task.spec)
        shapes = {name: (len(x["seeds"]), *p.shape[1:]) for name, p in algorithm.init([0]).params.items()}
        if {name: tuple(p.shape) for name, p in x["params"].items()} != shapes:
            raise ValueError("made by other code")
        return SavedPolicies(algorithm, x["task"], tuple(x["seeds"]), x["params"], Normalizer(*(y.numpy() for y in x["scale"])))

    try:
        return load_checked(path, trained)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; every finished run has one beside its CSV") from None
    except (DamagedFile, OSError, UserError) as e:
        raise UserError(f"{path} holds no policies that can be used ({e}); run its benchmark again") from None
