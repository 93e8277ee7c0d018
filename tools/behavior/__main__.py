"""python -m datasets.behavior ship: choose from a training's policies those that play the datasets of its map."""

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from inspo_benchmark.core.atomic_io import write_errors
from inspo_benchmark.core.errors import UserError, outcome
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.datasets.behavior import SHIPPED, mujoco_policy
from inspo_benchmark.datasets.behavior.smac_policy import Policy, load, save
from inspo_benchmark.envs.smac.maps import find

REPLAY = 8  # policies from the start to the medium one


def ship(load: Callable[[Path], Policy], folder: Path, target: Path) -> dict[str, Policy]:
    """Name -> policy, written to `target`, whose other policies go. UserError: nothing in the folder, or nothing learned.

    expert: the highest win rate (where winning has a meaning), then return. medium: before that one, win rate nearest to half the
    expert's, then (where nothing was won) return nearest to the middle between the first one's and the expert's.
    replay-0, ...: equally spaced in the folder from its first to the medium one.
    """
    trained = [load(path) for path in sorted(folder.glob("policy-*.npz"))]
    won = np.nan_to_num([policy.win_rate for policy in trained])  # robots neither win nor lose
    best = max(range(len(trained)), key=lambda k: (won[k], trained[k].mean_return), default=0)
    if not best:
        raise UserError(f"{folder}: {'no policies' if not trained else 'no policy is better than the first one'}; train longer")
    expert = trained[best]
    half = won[best] / 2, (trained[0].mean_return + expert.mean_return) / 2
    medium = min(range(best), key=lambda k: (abs(won[k] - half[0]), abs(trained[k].mean_return - half[1])))
    replay = np.unique(np.linspace(0, medium, REPLAY).round().astype(int))
    chosen = {"expert": expert, "medium": trained[medium]} | {f"replay-{k}": trained[i] for k, i in enumerate(replay)}
    with write_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        for path in target.glob("*.npz"):
            path.unlink()
    for name, policy in chosen.items():
        save(policy, target / f"{name}.npz")
    return chosen


def loader(name: str) -> Callable[[Path], Policy]:
    """What reads the policies of a map or scenario. UserError: no such name."""
    task = TASKS.discover().get(f"{name}-expert")
    if task and task.family == "mamujoco":
        return partial(mujoco_policy.load, name=name, spec=task.spec)
    return partial(load, map=find(name))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m datasets.behavior",
        description="Choose from a training's policies those that play the datasets of its map or scenario.",
        epilog="example: python -m datasets.behavior ship 3m trained/3m",
    )
    p.add_argument("command", choices=["ship"])
    p.add_argument("name", help="a SMAC map or a robot's scenario, e.g. 3m or hopper_3x1")
    p.add_argument("folder", type=Path, help="what python -m tools.behavior.mappo (of robots: masac) wrote")
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)

    def work() -> None:
        for name, policy in ship(loader(args.name), args.folder, SHIPPED / args.name).items():
            won = "" if math.isnan(policy.win_rate) else f"won {policy.win_rate:.3f}  "
            print(f"{name:10} {policy.steps:>11,} steps  {won}return {policy.mean_return:.2f}")

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
