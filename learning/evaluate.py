"""S policies play the same E episodes: lane e plays episode seed e, exactly once, so that short episodes are not counted more often."""

from collections.abc import Callable

import numpy as np
import torch
from torch.func import vmap
from torch.utils._pytree import tree_map

from inspo_benchmark.core.env import VecEnv
from inspo_benchmark.core.types import State, Task
from inspo_benchmark.learning.algorithm import Algorithm, Nets
from inspo_benchmark.learning.normalize import Normalizer
from inspo_benchmark.learning.sampler import OPEN

AS_IS = Normalizer()
Rows = dict[str, np.ndarray]  # metric -> value of every policy and episode [S, E]


class Evaluator:
    """Plays episodes of a task with the policies of a packed state. Environments are made once per number of lanes."""

    def __init__(self, algorithm: Algorithm, task: Task, seeds: tuple[int, ...], device: str = "cpu", scale: Normalizer = AS_IS):
        self.algorithm, self.task, self.seeds, self.device, self.scale = algorithm, task, seeds, device, scale
        self.envs: dict[int, VecEnv] = {}

    def __call__(self, s: State, episodes: int) -> dict[str, np.ndarray]:
        """Means over episodes per seed [S]: `return` and `length` (and `win_rate`) of the greedy policies, `return_sampled` of the
        stochastic ones, whose uniforms follow from the seed, the updates done and the number of episodes."""
        greedy = self.play(s, episodes, sampled=False)
        sampled = self.play(s, episodes, sampled=True)
        return {**{k: v.mean(1) for k, v in greedy.items()}, "return_sampled": sampled["return"].mean(1)}

    def play(self, s: State, episodes: int, sampled: bool) -> Rows:
        """One episode per policy and lane, values [S, E]; where not all of them can be played at a time, some after the others."""
        together = min(episodes, max(1, self.task.max_envs // len(self.seeds)))
        parts = [self._play(s, range(k, min(k + together, episodes)), sampled) for k in range(0, episodes, together)]
        return {metric: np.concatenate([part[metric] for part in parts], 1) for metric in parts[0]}

    def _play(self, s: State, which: range, sampled: bool) -> Rows:
        """The episodes with these seeds."""
        algorithm, seeds, episodes = self.algorithm, len(self.seeds), len(which)
        num_envs = seeds * episodes
        env = self.envs.get(num_envs) or self.envs.setdefault(num_envs, self.task.make(num_envs))
        act = vmap_over_seeds(algorithm.act_sampled if sampled else algorithm.act, algorithm, seeds)
        noise = [np.random.Generator(np.random.Philox(key=seed, counter=[0, int(s.step[0]), 2, which.start])) for seed in self.seeds]
        shape = (episodes, self.task.spec.num_agents, *self.task.spec.space.noise_shape)

        seen = env.reset(list(which) * seeds)
        memory = algorithm.init_hidden(seeds, episodes).to(self.device)
        params = algorithm.acting_params(s)
        total, length, over = np.zeros(num_envs), np.zeros(num_envs, np.int64), np.zeros(num_envs, bool)
        won = None
        with torch.no_grad():
            while not over.all():
                inputs = [self.put(self.scale(seen.obs), episodes), self.put(seen.avail, episodes), memory]
                if sampled:
                    u = np.stack([rng.random(shape).clip(*OPEN) for rng in noise])
                    inputs.append(self.put(u.reshape(num_envs, *shape[1:]), episodes))
                action, memory = act(params, *inputs)
                seen, reward, terminated, truncated, info = env.step(action.flatten(0, 1).cpu().numpy())
                total += np.where(over, 0.0, reward)
                length += ~over
                over = terminated | truncated
                won = info.get("won", won)
        rows = {"return": self.task.scale(total, length), "length": length.astype(float)}
        if won is not None:
            rows["win_rate"] = np.asarray(won, float)
        return {k: v.reshape(seeds, episodes) for k, v in rows.items()}

    def put(self, x: np.ndarray, episodes: int) -> torch.Tensor:
        x = torch.as_tensor(x, device=self.device).reshape(len(self.seeds), episodes, *x.shape[1:])
        return x.to(torch.get_default_dtype()) if x.is_floating_point() else x

    def close(self) -> None:
        for env in self.envs.values():
            env.close()


def vmap_over_seeds(act: Callable, algorithm: Algorithm, seeds: int) -> Callable:
    """An act function of one policy as one of S stacked policies."""

    def one(params, *inputs):
        return act(Nets(algorithm.modules, params), *inputs)

    if seeds > 1:
        return vmap(one)
    return lambda *args: tree_map(lambda x: x[None], one(*tree_map(lambda x: x[0], args)))
