"""Datasets of StarCraft: whole episodes of the behaviour policies in the embedded simulator, the same content on every machine.

    random          all legal actions equally often
    medium          a policy that wins about half as often as the expert
    medium_replay   policies on the way from the first to the medium one, the same number of episodes each
    expert          the best policy of the training
    mixed           the first half of medium, then the first half of expert

Actions are sampled. Episodes are played by as many threads as there are cores, some hundred side by side; an episode is the same
whoever plays beside it.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from core.types import Task
from datasets.behaviour import SHIPPED
from datasets.behaviour.play import Episodes, play
from datasets.behaviour.policy import Policy, load, uniform
from datasets.format import PROVENANCE, Dataset, card
from envs.smac.maps import Map, find
from envs.smac.vector import Smac

EPISODES = 5000
FEWER = {  # where so many would be more than about 400 MB in memory
    **dict.fromkeys(("8m", "8m_vs_9m", "2s3z", "3s_vs_3z", "3s_vs_4z", "6h_vs_8z"), 2000),
    **dict.fromkeys(("10m_vs_11m", "MMM", "MMM2", "3s5z", "1c3s5z", "3s_vs_5z", "2c_vs_64zg", "so_many_baneling"), 1000),
    **dict.fromkeys(("3s5z_vs_3s6z", "corridor"), 500),
    **dict.fromkeys(("25m", "27m_vs_30m", "bane_vs_bane"), 200),
}
LANES = 125  # episodes side by side
THREADS = os.cpu_count() or 1

Part = tuple[str, Policy, np.ndarray]  # the quality it belongs to, who plays, which of its episodes


def smac(task: Task) -> Dataset:
    """UserError: a behaviour policy of the map is missing or damaged."""
    map = find(task.name.rpartition("-")[0])
    parts = roster(map, task.quality, FEWER.get(map.name, EPISODES))
    played = Episodes(*(np.concatenate(x) for x in zip(*collect(map, parts, task.name), strict=True)))
    offset = np.concatenate([[0], np.cumsum(played.offset)]).astype("<i8")
    over, last = np.zeros((2, offset[-1]), bool)
    last[offset[1:] - 1], over[offset[1:] - 1] = True, played.terminated
    return Dataset(
        obs=played.obs,
        state=played.state,
        legal=played.legal,
        actions=played.actions,
        rewards=played.rewards,
        terminated=over,
        truncated=last & ~over,
        behaviour_logp=played.logp,
        offset=offset,
        won=played.won.astype("i1"),
        seed=np.concatenate([_seed(map, quality) + numbers for quality, _, numbers in parts]).astype("<i8"),
        meta=card(task) | dict.fromkeys(PROVENANCE, "") | {"source": "built", "behaviour": _behaviour(parts)},
    )


def roster(map: Map, quality: str, episodes: int) -> list[Part]:
    """Who plays which episodes."""
    folder, numbers = SHIPPED / map.name, np.arange(episodes)
    if quality == "mixed":
        half = episodes // 2
        return [part for name in ("medium", "expert") for part in roster(map, name, half)]
    if quality == "random":
        return [(quality, uniform(map), numbers)]
    paths = [folder / f"{quality}.npz"]
    if quality == "medium_replay":
        paths = sorted(folder.glob("replay-*.npz")) or [folder / "replay-0.npz"]
    return [(quality, load(path, map), share) for path, share in zip(paths, np.array_split(numbers, len(paths)), strict=True)]


def collect(map: Map, parts: list[Part], title: str) -> Iterator[Episodes]:
    """The parts' episodes in order, in the types in which they are stored; offset: the lengths instead."""

    def run(quality: str, policy: Policy, numbers: np.ndarray) -> Episodes:
        seed = _seed(map, quality)
        x = play(Smac(map.name, len(numbers)), policy, seed + numbers, seed)
        return x._replace(actions=x.actions.astype("i1"), logp=x.logp.astype("<f4"), rewards=x.rewards.astype("<f4"), offset=x.lengths)

    jobs = [(q, policy, some) for q, policy, numbers in parts for some in np.split(numbers, range(LANES, len(numbers), LANES))]
    bar = tqdm(total=sum(len(job[-1]) for job in jobs), unit="episode", desc=title, disable=not sys.stderr.isatty())
    with bar, ThreadPoolExecutor(THREADS) as pool:
        for played in pool.map(run, *zip(*jobs, strict=True)):
            bar.update(len(played.won))
            yield played


def _seed(map: Map, quality: str) -> int:
    """Where the episodes' seeds start."""
    return int.from_bytes(hashlib.sha256(f"{map.name}-{quality}".encode()).digest()[:4], "little")


def _behaviour(parts: list[Part]) -> str:
    if parts[0][0] == "random":
        return "uniform over the legal actions"
    shares = "equal shares, " if len(parts) > 1 else ""
    return f"MAPPO after {', '.join(f'{policy.steps:,}' for _, policy, _ in parts)} steps of training, {shares}sampled actions"
