"""Evaluation of policies by rollouts: S policies run the same E episodes. Every episode counts once, however short it is."""

from collections.abc import Callable
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from inspo_benchmark.core.env import VecEnv
from inspo_benchmark.core.types import State, Task
from inspo_benchmark.learning.algorithm import Algorithm, Nets, over_runs
from inspo_benchmark.learning.normalize import Normalizer
from inspo_benchmark.learning.sampler import UNIFORM_BOUNDS
from inspo_benchmark.learning.tracing import trace

IDENTITY = Normalizer()
TRACE_FROM = 50  # steps of an episode from which tracing the act function pays
Scores = dict[str, np.ndarray]  # metric -> value of every policy and episode [S, E]
MIN_DISTINCT = 0.05  # share of distinct episodes below which an evaluation says little more than a single episode
SEQUENCE = "sequence"  # among the scores of `_rollout`: a hash of the episode's joint actions


class Evaluator:
    """Runs episodes of a task with the policies of a stacked state. Environments are created once per number of environments. Policies act
    on the CPU, as the environments do."""

    def __init__(self, algorithm: Algorithm, task: Task, seeds: tuple[int, ...], normalizer: Normalizer = IDENTITY):
        self.algorithm, self.task, self.seeds, self.normalizer = algorithm, task, seeds, normalizer
        self.envs: dict[int, VecEnv] = {}
        self.traced: dict[tuple[int, int, bool], Callable] = {}  # act functions by number of policies and episodes, greedy or sampled

    def __call__(self, s: State, episodes: int) -> dict[str, np.ndarray]:
        """Means over episodes per seed [S]: `return`, `length` (and `win_rate`) of the greedy policies, `return_sampled` (and
        `win_rate_sampled`) of the stochastic ones, if the method has any. The random numbers of the latter depend on the seed, the updates
        done and the number of episodes alone. Where episodes are won with discrete actions, `distinct_episodes` is the share of different
        sequences of joint actions among the greedy episodes."""
        greedy = self._in_parts(s, episodes, sampled=False)
        sequences = greedy.pop(SEQUENCE, None)
        scores = {metric: values.mean(1) for metric, values in greedy.items()}
        if sequences is not None:
            scores["distinct_episodes"] = np.array([len(np.unique(x)) for x in sequences]) / episodes
        if self.algorithm.stochastic:
            sampled = self.rollout(s, episodes, sampled=True)
            scores |= {f"{metric}_sampled": sampled[metric].mean(1) for metric in ("return", "win_rate") if metric in sampled}
        return scores

    def rollout(self, s: State, episodes: int, sampled: bool) -> Scores:
        """The scores of each policy in each episode [S, E]."""
        scores = self._in_parts(s, episodes, sampled)
        return {metric: values for metric, values in scores.items() if metric != SEQUENCE}

    def _in_parts(self, s: State, episodes: int, sampled: bool) -> Scores:
        """The environments run in parallel, at most `task.max_envs` at a time."""
        policies = min(len(self.seeds), self.task.max_envs)
        parallel = min(episodes, self.task.max_envs // policies)
        groups = []
        for first in range(0, len(self.seeds), policies):
            group = slice(first, first + policies)
            some = tree_map(itemgetter(group), s)
            spans = [range(k, min(k + parallel, episodes)) for k in range(0, episodes, parallel)]
            parts = [self._rollout(some, self.seeds[group], span, episodes, sampled) for span in spans]
            groups.append({metric: np.concatenate([part[metric] for part in parts], 1) for metric in parts[0]})
        return {metric: np.concatenate([group[metric] for group in groups]) for metric in groups[0]}

    def _rollout(self, s: State, policy_seeds: tuple[int, ...], episode_seeds: range, total: int, sampled: bool) -> Scores:
        """The episodes with these seeds, in parallel. Random numbers are drawn for all `total` episodes, so the parts do not matter."""
        algorithm, seeds, episodes = self.algorithm, len(policy_seeds), len(episode_seeds)
        num_envs = seeds * episodes
        env = self.envs.get(num_envs) or self.envs.setdefault(num_envs, self.task.environment(num_envs))
        counter = [0, int(s.step[0]), 2, 0]
        generators = [np.random.Generator(np.random.Philox(key=seed, counter=counter)) for seed in policy_seeds]
        shape = (total, self.task.spec.num_agents, *algorithm.acting_noise_shape)
        part = slice(episode_seeds.start, episode_seeds.stop)

        observation = env.reset(list(episode_seeds) * seeds)
        memory = algorithm.init_hidden(seeds, episodes)
        params = tree_map(lambda x: x.cpu(), algorithm.acting_params(s))
        reward_sum, length, over = np.zeros(num_envs), np.zeros(num_envs, np.int64), np.zeros(num_envs, bool)
        won, sequence, key = None, np.zeros(num_envs, np.uint64), (seeds, episodes, sampled)
        with torch.no_grad():
            while not over.all():
                inputs = [to_tensor(self.normalizer(observation.obs), seeds), to_tensor(observation.avail, seeds), memory]
                if sampled:
                    u = np.stack([generator.random(shape)[part].clip(*UNIFORM_BOUNDS) for generator in generators])
                    inputs.append(to_tensor(u.reshape(num_envs, *shape[1:]), seeds))
                if key not in self.traced:
                    self.traced[key] = self.traced_act(seeds, sampled, params, *inputs)
                actions, memory = self.traced[key](params, *inputs)
                joint = actions.flatten(0, 1).numpy()
                observation, rewards, terminated, truncated, info = env.step(joint)
                won = info.get("won", won)
                if hashed := won is not None and not sampled and joint.ndim == 2:
                    sequence = np.where(over, sequence, next_hash(sequence, joint))
                reward_sum += np.where(over, 0.0, rewards)
                length += ~over
                over = terminated | truncated
        scores = {"return": self.task.scaled_returns(reward_sum, length), "length": length.astype(float)}
        if won is not None:
            scores["win_rate"] = np.asarray(won, float)
        if hashed:
            scores[SEQUENCE] = sequence
        return {metric: values.reshape(seeds, episodes) for metric, values in scores.items()}

    def traced_act(self, seeds: int, sampled: bool, *example: Any) -> Callable:
        """The act function of as many policies; where episodes are long, traced to a flat list of operations."""
        algorithm = self.algorithm
        act = vmap_over_seeds(algorithm.act_sampled if sampled else algorithm.act, algorithm, seeds)
        if self.task.spec.episode_limit < TRACE_FROM:
            return act
        leaves, structure = tree_flatten(example)
        flat = trace(lambda *leaves: act(*tree_unflatten(leaves, structure)), *leaves).forward
        return lambda *inputs: flat(*tree_flatten(inputs)[0])

    def close(self) -> None:
        for env in self.envs.values():
            env.close()


def to_tensor(array: np.ndarray, seeds: int) -> torch.Tensor:
    """[S * E, ...] -> [S, E, ...]."""
    x = torch.as_tensor(array).reshape(seeds, -1, *array.shape[1:])
    return x.to(torch.get_default_dtype()) if x.is_floating_point() else x


def next_hash(sequence: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Hashes [E] of sequences of joint actions with another one, actions [E, N], at their end."""
    for a in actions.T.astype(np.uint64):
        sequence = (sequence ^ (sequence >> np.uint64(32)) ^ (a + np.uint64(1))) * np.uint64(0x9E3779B97F4A7C15)
    return sequence


def vmap_over_seeds(act: Callable, algorithm: Algorithm, seeds: int) -> Callable:
    """The act function of one policy, for S stacked policies."""
    return over_runs(lambda params, *inputs: act(Nets(algorithm.modules, params), *inputs), seeds)
