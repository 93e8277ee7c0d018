"""Datasets of StarCraft and of robots: whole episodes of the shipped behaviour policies (datasets/behavior).

    random          all (legal) actions equally often
    medium          a policy half as good as the expert: it wins half as often, or earns half of what the expert has over the first policy
    medium_replay   policies on the way from the first to the medium one, the same number of episodes each
    expert          the best policy of the training
    mixed           the first half of medium, then the first half of expert; robots: medium_expert

Actions are sampled. Episodes are played some hundred side by side; an episode is the same whoever plays beside it. Those of StarCraft have
the same content on every machine. MuJoCo's physics has not: there the manifest tells what the statistics should be.
"""

import hashlib
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.behavior import SHIPPED, mujoco_policy
from inspo_benchmark.datasets.behavior.play import Episodes, play
from inspo_benchmark.datasets.behavior.smac_policy import Policy, load, uniform
from inspo_benchmark.datasets.dataset import PROVENANCE, Dataset, card
from inspo_benchmark.envs.mamujoco import MaMujoco
from inspo_benchmark.envs.smac.maps import find
from inspo_benchmark.envs.smac.vector import Smac

EPISODES, ROBOT_EPISODES = 5000, 1000
FEWER = {  # where so many would be more than about 400 MB in memory, or take many minutes to play
    **dict.fromkeys(("8m", "8m_vs_9m", "2s3z", "3s_vs_3z", "3s_vs_4z", "6h_vs_8z"), 2000),
    **dict.fromkeys(("10m_vs_11m", "MMM", "MMM2", "3s5z", "1c3s5z", "3s_vs_5z", "2c_vs_64zg", "so_many_baneling"), 1000),
    **dict.fromkeys(("3s5z_vs_3s6z", "corridor"), 500),
    **dict.fromkeys(("25m", "27m_vs_30m", "bane_vs_bane"), 200),
    **dict.fromkeys(("ant_2x4", "ant_2x4_obsk0", "ant_2x4_obsk1"), 400),
}
LANES = 125  # episodes side by side
THREADS = os.cpu_count() or 1

Part = tuple[str, Policy | None, np.ndarray]  # the quality it belongs to, who plays (nobody in particular: None), which of its episodes


def smac(task: Task, episodes: int = 0) -> Dataset:
    """`episodes`: other than the usual number. UserError: a behaviour policy of the map is missing or damaged."""
    map = find(task.name.rpartition("-")[0])
    parts = roster(map.name, task.quality, episodes or FEWER.get(map.name, EPISODES), partial(load, map=map))

    def run(quality: str, policy: Policy | None, numbers: np.ndarray) -> Episodes:
        seed = _seed(map.name, quality)
        x = play(Smac(map.name, len(numbers)), policy or uniform(map), seed + numbers, seed)
        return x._replace(actions=x.actions.astype("i1"))

    with ThreadPoolExecutor(THREADS) as pool:
        return recorded(task, parts, _behaviour(parts, "MAPPO", "the legal actions"), lambda jobs: pool.map(run, *zip(*jobs, strict=True)))


def mamujoco(task: Task, episodes: int = 0) -> Dataset:
    """The same for a robot; its lanes are shared among the machine's cores."""
    name, spec = task.name.rpartition("-")[0], task.spec
    parts = roster(name, task.quality, episodes or FEWER.get(name, ROBOT_EPISODES), partial(mujoco_policy.load, name=name, spec=spec))

    def run(env: MaMujoco, quality: str, policy: Policy | None, numbers: np.ndarray) -> Episodes:
        act = partial(mujoco_policy.act if policy else mujoco_policy.uniform, spec=spec)
        return play(env, policy, _seed(name, quality) + numbers, _seed(name, quality), act=act, draws=spec.space.d)

    def runs(jobs: list[Part]) -> Iterator[Episodes]:
        env = None
        for job in jobs:
            if env is None or env.num_envs != len(job[-1]):
                if env:
                    env.close()
                env = MaMujoco(name, len(job[-1]))
            yield run(env, *job)
        env.close()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the same sums for any number of cores
    try:
        return recorded(task, parts, _behaviour(parts, "MASAC", "all actions"), runs)
    finally:
        torch.set_num_threads(threads)


def roster(name: str, quality: str, episodes: int, load: Callable[[Path], Policy]) -> list[Part]:
    """Who plays which episodes."""
    folder, numbers = SHIPPED / name, np.arange(episodes)
    if quality in ("mixed", "medium_expert"):
        return [part for half in ("medium", "expert") for part in roster(name, half, episodes // 2, load)]
    if quality == "random":
        return [(quality, None, numbers)]
    paths = [folder / f"{quality}.npz"]
    if quality == "medium_replay":
        paths = sorted(folder.glob("replay-*.npz")) or [folder / "replay-0.npz"]
    return [(quality, load(path), share) for path, share in zip(paths, np.array_split(numbers, len(paths)), strict=True)]


def recorded(task: Task, parts: list[Part], behaviour: str, run: Callable[[list[Part]], Iterator[Episodes]]) -> Dataset:
    """The parts' episodes, played by `run` some at a time, in order."""
    jobs = [(q, policy, some) for q, policy, numbers in parts for some in np.split(numbers, range(LANES, len(numbers), LANES))]
    total = sum(len(job[-1]) for job in jobs)
    played = []
    with tqdm(total=total, unit="episode", desc=task.name, disable=not sys.stderr.isatty()) as bar:
        for x in run(jobs):
            bar.update(len(x.won))
            played.append(x._replace(logp=x.logp.astype("<f4"), rewards=x.rewards.astype("<f4"), offset=x.lengths))
    x = Episodes(*(np.concatenate(x) for x in zip(*played, strict=True)))
    offset = np.concatenate([[0], np.cumsum(x.offset)]).astype("<i8")
    over, last = np.zeros((2, offset[-1]), bool)
    last[offset[1:] - 1], over[offset[1:] - 1] = True, x.terminated
    return Dataset(
        obs=x.obs,
        state=x.state,
        avail=x.avail,
        actions=x.actions,
        rewards=x.rewards,
        terminated=over,
        truncated=last & ~over,
        behavior_logp=x.logp,
        offset=offset,
        won=x.won.astype("i1"),
        seed=np.concatenate([_seed(task.name.rpartition("-")[0], quality) + numbers for quality, _, numbers in parts]).astype("<i8"),
        meta=card(task) | dict.fromkeys(PROVENANCE, "") | {"source": "built", "behaviour": behaviour},
    )


def _seed(name: str, quality: str) -> int:
    """Where the episodes' seeds start."""
    return int.from_bytes(hashlib.sha256(f"{name}-{quality}".encode()).digest()[:4], "little")


def _behaviour(parts: list[Part], method: str, actions: str) -> str:
    if parts[0][1] is None:
        return f"uniform over {actions}"
    shares = "equal shares, " if len(parts) > 1 else ""
    return f"{method} after {', '.join(f'{policy.steps:,}' for _, policy, _ in parts)} steps of training, {shares}sampled actions"
