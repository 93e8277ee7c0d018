"""Datasets of SMAC and MuJoCo: whole episodes of the shipped behavior policies (datasets/behavior).

    random          all (available) actions equally often
    medium          policies that are about half as good as the experts; on SMAC they win about 0.3 of their battles
    medium_replay   policies from the first to the medium ones, at equal distances of training
    expert          the best policies of their trainings
    mixed           medium policies, then expert ones, half of the episodes each; in MuJoCo called medium_expert

The halves of `mixed` and `medium_expert` take the seeds and the numbers of the medium and the expert episodes, so where k trainings
contribute, a k-th of their episodes are copies of those in `medium` and `expert`; with one training, as in MuJoCo, all of them.

Several policies play equal shares. On SMAC four trainings contribute; tools/behavior selects the policies and the noise of their actions.
Many episodes run in parallel, but none depends on the others (in MuJoCo but for rounding). SMAC's episodes have the same content on every
machine. MuJoCo's do not, so the manifest also states their statistics.
"""

import hashlib
import math
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.behavior import SHIPPED, mujoco_policy
from inspo_benchmark.datasets.behavior.policy import Policy
from inspo_benchmark.datasets.behavior.rollout import Episodes, rollout
from inspo_benchmark.datasets.behavior.smac_policy import load, uniform
from inspo_benchmark.datasets.dataset import BUILT, Dataset, action_dtype, join
from inspo_benchmark.envs.mamujoco import MaMujoco
from inspo_benchmark.envs.smac.maps import SCENARIOS, find_map
from inspo_benchmark.envs.smac.vector import Smac

EPISODES, MUJOCO_EPISODES = 5000, 1000
FEWER = {  # where that many would exceed about 800 MB in memory
    **dict.fromkeys(("3s5z", "MMM", "2c_vs_64zg", "8m_vs_9m", "10m_vs_11m", "so_many_baneling"), 2000),
    **dict.fromkeys(("MMM2", "1c3s5z", "3s5z_vs_3s6z", "corridor"), 1000),
    **dict.fromkeys(("25m", "27m_vs_30m", "bane_vs_bane"), 300),
    **{name: {5: EPISODES, 10: 2000, 20: 500}[scenario.n] for name, scenario in SCENARIOS.items()},
    **dict.fromkeys(("ant_2x4", "ant_2x4_obsk0", "ant_2x4_obsk1"), 400),
}
NUM_ENVS = 125  # episodes in parallel
THREADS = os.cpu_count() or 1


class Part(NamedTuple):
    """Some episodes of one policy."""

    quality: str
    policy: Policy | None  # None: uniformly random
    numbers: np.ndarray  # of the episodes among those of the quality


def smac(task: Task, episodes: int = 0) -> Dataset:
    """The dataset of a SMAC task; `episodes` instead of the usual number. UserError: a behavior policy is missing or damaged."""
    map = find_map(task.scenario)
    parts = assign_policies(map.name, task.quality, episodes or FEWER.get(map.name, EPISODES), partial(load, map=map))

    def run(part: Part) -> Episodes:
        seed = _first_seed(map.name, part.quality)
        return rollout(Smac(map.name, len(part.numbers)), part.policy or uniform(map), seed + part.numbers, seed)

    with ThreadPoolExecutor(THREADS) as pool:
        return assemble(task, parts, _describe(parts, "MAPPO", "the available actions"), partial(pool.map, run))


def mamujoco(task: Task, episodes: int = 0) -> Dataset:
    """The same for a MuJoCo task, whose environments run on all cores."""
    name, spec = task.scenario, task.spec
    load = partial(mujoco_policy.load, name=name, spec=spec)
    parts = assign_policies(name, task.quality, episodes or FEWER.get(name, MUJOCO_EPISODES), load)

    def run(parts: list[Part]) -> Iterator[Episodes]:
        env = None
        for quality, policy, numbers in parts:
            if env is None or env.num_envs != len(numbers):
                if env:
                    env.close()
                env = MaMujoco(name, len(numbers))
            act, seed = partial(mujoco_policy.act if policy else mujoco_policy.uniform, spec=spec), _first_seed(name, quality)
            yield rollout(env, policy, seed + numbers, seed, act=act, draws=spec.space.d)
        env.close()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums depend on the number of threads
    try:
        return assemble(task, parts, _describe(parts, "MASAC", "all actions"), run)
    finally:
        torch.set_num_threads(threads)


def assign_policies(name: str, quality: str, episodes: int, load: Callable[[Path], Policy]) -> list[Part]:
    """The policies that play a dataset of this quality, and the episodes of each."""
    folder, numbers = SHIPPED / name, np.arange(episodes)
    if quality in ("mixed", "medium_expert"):
        halves = ("medium", episodes // 2), ("expert", episodes - episodes // 2)
        return [part for half, count in halves for part in assign_policies(name, half, count, load)]
    if quality == "random":
        return [Part(quality, None, numbers)]
    stem = "replay" if quality == "medium_replay" else quality
    paths = sorted(folder.glob(f"{stem}-*.npz")) or [folder / f"{stem}-0.npz"]
    shares = zip(paths, np.array_split(numbers, len(paths)), strict=True)
    return [Part(quality, load(path), share) for path, share in shares if len(share)]  # policies may outnumber the episodes


def assemble(task: Task, parts: list[Part], behavior: str, run: Callable[[list[Part]], Iterator[Episodes]]) -> Dataset:
    """The episodes of all parts as a dataset. `run` plays parts of at most NUM_ENVS episodes and yields their episodes in order."""
    batches = [
        Part(quality, policy, some)
        for quality, policy, numbers in parts
        for some in np.split(numbers, range(NUM_ENVS, len(numbers), NUM_ENVS))
    ]
    played, space = [], task.spec.space
    with tqdm(total=sum(len(x.numbers) for x in batches), unit="episode", desc=task.name, disable=not sys.stderr.isatty()) as bar:
        for x in run(batches):
            bar.update(len(x.won))
            actions = x.actions.astype(action_dtype(space.kind, space.action_dim))
            played.append(x._replace(actions=actions, logp=x.logp.astype("<f4"), rewards=x.rewards.astype("<f4"), offset=x.lengths))
    obs, state, avail, actions, logp, rewards, lengths, terminated, won = (np.concatenate(x) for x in zip(*played, strict=True))
    seeds = [_first_seed(task.scenario, quality) + numbers for quality, _, numbers in parts]
    d = join(
        task,
        lengths,
        obs=obs,
        state=state,
        avail=avail,
        actions=actions,
        rewards=rewards,
        terminated=terminated,
        won=won,
        seed=np.concatenate(seeds),
        behavior_logp=logp,
        source=BUILT,
        behaviour=behavior,
    )
    d.meta.update(greedy_scores(parts))
    return d


def greedy_scores(parts: list[Part]) -> dict[str, Any]:
    """Metadata of the behavior policies: `dataset.GREEDY`, the greedy win rate of each, and the number of their trainings. {}: random."""
    if parts[0].policy is None:
        return {}
    policies, episodes = [part.policy for part in parts], [len(part.numbers) for part in parts]
    means = {
        "behavior_greedy_return": float(np.average([policy.greedy_return for policy in policies], weights=episodes)),
        "behavior_greedy_win_rate": float(np.average([policy.greedy_win_rate for policy in policies], weights=episodes)),
    }
    known = {key: x for key, x in means.items() if not math.isnan(x)}
    rates = ", ".join(f"{policy.greedy_win_rate:.2f}" for policy in policies if not math.isnan(policy.greedy_win_rate))
    return known | {"behavior_greedy_win_rates": rates, "behavior_trainings": len({policy.seed for policy in policies})}


def _first_seed(name: str, quality: str) -> int:
    """The seed of episode 0; episode k has this seed + k."""
    return int.from_bytes(hashlib.sha256(f"{name}-{quality}".encode()).digest()[:4], "little")


def _describe(parts: list[Part], method: str, actions: str) -> str:
    """The dataset's `behaviour` attribute."""
    if parts[0].policy is None:
        return f"uniform over {actions}"
    shares = "equal shares, " if len(parts) > 1 else ""
    policies = [part.policy for part in parts]
    seeds = {policy.seed for policy in policies}
    noise = ", ".join(dict.fromkeys(map(_noise, policies)))
    if len(seeds) == 1:
        return f"{method} after {', '.join(f'{policy.steps:,}' for policy in policies)} steps of training, {shares}{noise}"
    steps = [policy.steps for policy in policies]
    return f"{method}, {len(policies)} policies of {len(seeds)} trainings after {min(steps):,} to {max(steps):,} steps, {shares}{noise}"


def _noise(policy: Policy) -> str:
    """How the actions of a policy are chosen."""
    if policy.temperature == 1 and not policy.epsilon:
        return "sampled actions"
    base = f"temperature {policy.temperature:g}" if policy.temperature else "greedy actions"
    return f"{base}, {policy.epsilon:.0%} uniformly random" if policy.epsilon else base
