"""The trained policies of an experiment, in a file beside its CSV."""

import dataclasses
import re
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
from inspo_benchmark.learning.nets import flatten
from inspo_benchmark.learning.normalize import Normalizer

SUFFIX = ".policies"
POLICY_NAME = re.compile(rf"(.+\{SUFFIX})(?::(\d{{1,19}}))?", re.ASCII)  # a file, and optionally the seed of one of its policies


class SavedPolicies(NamedTuple):
    """The policies of an experiment, one per seed."""

    algorithm: Algorithm
    task: str
    seeds: tuple[int, ...]
    params: dict[str, Tensor]  # [S, ...]
    normalizer: Normalizer  # of observations

    def greedy_policy(self, seed: int) -> "GreedyPolicy":
        """The greedy policy of a seed. UserError: no such seed."""
        if seed not in self.seeds:
            raise UserError(f"this experiment has no seed {seed}; its seeds are {', '.join(map(str, self.seeds))}")
        params = {name: p[self.seeds.index(seed)].cpu() for name, p in self.params.items()}
        return GreedyPolicy(self.algorithm, params, self.normalizer)


class GreedyPolicy:
    """A function from the observations of E environments to actions [E, N] or [E, N, D]. It keeps the recurrent state, so that it must be
    called at every step from the start of the episodes, and `reset` before the next episodes."""

    def __init__(self, algorithm: Algorithm, params: dict[str, Tensor], normalizer: Normalizer):
        """`params`: of one run."""
        self.algorithm, self.f, self.normalizer = algorithm, Nets(algorithm.modules, params), normalizer
        self.memory: Tensor | None = None  # None: the episodes start

    def reset(self) -> None:
        """The next observations are the first of their episodes, of any number of environments."""
        self.memory = None

    @torch.no_grad()
    def __call__(self, observation: Observation) -> np.ndarray:
        """UserError: the observations are not those of the task that the policy was trained on, or other episodes began without `reset`."""
        spec, shape = self.algorithm.spec, observation.obs.shape
        if shape[1:] != (spec.num_agents, spec.obs_dim):
            raise UserError(f"observations of shape {shape} for a policy of {spec.num_agents} agents that observe {spec.obs_dim} numbers")
        memory = self.algorithm.init_hidden(shape[0]) if self.memory is None else self.memory
        if memory.shape[-1] and len(memory) != shape[0]:
            raise UserError(f"observations of {shape[0]} environments after those of {len(memory)}: call `reset` before the next episodes")
        obs = torch.as_tensor(self.normalizer(observation.obs)).to(torch.get_default_dtype())
        actions, self.memory = self.algorithm.act(self.f, obs, torch.as_tensor(observation.avail), memory)
        return actions.numpy()


def load_greedy_policy(text: str, scenario: str) -> GreedyPolicy | None:
    """The greedy policy named by "PATH.policies" (the first seed) or "PATH.policies:SEED". None: the text is no such name.
    UserError: the policy is for another map or scenario, or the file cannot be used."""
    if not (found := POLICY_NAME.fullmatch(text)):
        return None
    policies = load(found[1])
    if policies.task.rpartition(":")[2].rpartition("-")[0] != scenario:
        raise UserError(f"{found[1]}: policies for {policies.task}, not for {scenario}")
    return policies.greedy_policy(int(found[2] or policies.seeds[0]))


def save(algo: str, task: str, algorithm: Algorithm, seeds: tuple[int, ...], state: State, normalizer: Normalizer, path: Path) -> None:
    params = {name: p.cpu() for name, p in algorithm.acting_params(state).items()}
    metadata = {"algo": algo, "task": task, "config": dataclasses.asdict(algorithm.cfg), "seeds": list(seeds)}
    save_checked(metadata | {"params": params, "scale": [torch.as_tensor(x) for x in normalizer]}, path)


def load(path: str | Path) -> SavedPolicies:
    """UserError: the file is missing, damaged, or made by other code."""

    def restore(x: dict[str, Any]) -> SavedPolicies:
        cls, task = ALGORITHMS.discover()[x["algo"]], TASKS.discover()[x["task"]]
        algorithm, seeds = cls(cls.Config(**x["config"]), task.spec), tuple(x["seeds"])
        flat = {name: flatten(net) for name, net in algorithm.modules.items()}  # allocates nothing
        shapes = {name: ((len(seeds), *net.shape), net.dtype) for name, net in flat.items()}
        if {name: (tuple(p.shape), p.dtype) for name, p in x["params"].items()} != shapes:
            raise ValueError("made by other code")
        mean, std = (y.numpy() for y in x["scale"])
        fitting = all(y.shape in ((), (task.spec.obs_dim,)) and y.dtype == np.float32 for y in (mean, std))
        if not fitting or not seeds or not all(type(seed) is int for seed in seeds):
            raise ValueError("seeds or a scale that no run has")
        return SavedPolicies(algorithm, x["task"], seeds, x["params"], Normalizer(mean, std))

    if Path(path).suffix != SUFFIX:
        raise UserError(f"{path}: policies are in a file whose name ends with {SUFFIX}, beside the experiment's CSV")
    try:
        return load_checked(Path(path), restore)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; an experiment writes one beside its CSV, but results/reference has none") from None
    except (DamagedFile, OSError, UserError) as e:
        raise UserError(f"{path} holds no usable policies ({e}); run its experiment again") from None
