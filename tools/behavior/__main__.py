"""python -m tools.behavior ship: select, from the policies of a training, those that play the datasets of its map or scenario."""

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
from inspo_benchmark.datasets.behavior.policy import Policy, save
from inspo_benchmark.datasets.behavior.smac_policy import load
from inspo_benchmark.envs.smac.maps import find_map

NUM_REPLAY = 8  # policies of medium_replay


def ship(load: Callable[[Path], Policy], folder: Path, target: Path) -> dict[str, Policy]:
    """Select policies from `folder` and write them to `target`, replacing those there. Returns name -> policy.

    expert: the highest win rate (where winning has a meaning), then the highest return.
    medium: among the policies before it, the one with the win rate closest to half the expert's, then (without wins) with the return
    closest to the mean of the first policy's and the expert's.
    replay-0, ...: equally spaced from the first policy to the medium one.
    UserError: there are no policies, or none is better than the first.
    """
    trained = [load(path) for path in sorted(folder.glob("policy-*.npz"))]
    won = np.nan_to_num([policy.win_rate for policy in trained])  # NaN in MuJoCo
    best = max(range(len(trained)), key=lambda k: (won[k], trained[k].mean_return), default=0)
    if not best:
        raise UserError(f"{folder}: {'no policies' if not trained else 'no policy is better than the first one'}; train longer")
    expert = trained[best]
    half = won[best] / 2, (trained[0].mean_return + expert.mean_return) / 2
    medium = min(range(best), key=lambda k: (abs(won[k] - half[0]), abs(trained[k].mean_return - half[1])))
    replay = np.unique(np.linspace(0, medium, NUM_REPLAY).round().astype(int))
    chosen = {"expert": expert, "medium": trained[medium]} | {f"replay-{k}": trained[i] for k, i in enumerate(replay)}
    with write_errors(target):
        target.mkdir(parents=True, exist_ok=True)
        for path in target.glob("*.npz"):
            path.unlink()
    for name, policy in chosen.items():
        save(policy, target / f"{name}.npz")
    return chosen


def loader(name: str) -> Callable[[Path], Policy]:
    """The function that loads policies of this map or scenario. UserError: there is none of this name."""
    task = TASKS.discover().get(f"{name}-expert")
    if task and task.family == "mamujoco":
        return partial(mujoco_policy.load, name=name, spec=task.spec)
    return partial(load, map=find_map(name))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m tools.behavior",
        description="Select, from the policies of a training, those that play the datasets of its map or scenario.",
        epilog="example: python -m tools.behavior ship 3m trained/3m",
    )
    p.add_argument("command", choices=["ship"])
    p.add_argument("name", metavar="NAME", help="a SMAC map or a MuJoCo scenario, e.g. 3m or hopper_3x1")
    p.add_argument(
        "folder",
        type=Path,
        metavar="FOLDER",
        help="output folder of python -m tools.behavior.mappo (SMAC) or tools.behavior.masac (MuJoCo)",
    )
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
