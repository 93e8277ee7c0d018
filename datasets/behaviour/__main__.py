"""python -m datasets.behaviour ship: choose from a training's policies those that play the datasets of its map."""

import argparse
import sys
from pathlib import Path

import numpy as np

from core.errors import UserError, outcome
from core.files import writing
from datasets.behaviour import SHIPPED
from datasets.behaviour.policy import Policy, load, save
from envs.smac.maps import Map, find

REPLAY = 8  # policies from the start to the medium one


def ship(map: Map, folder: Path, target: Path) -> dict[str, Policy]:
    """Name -> policy, written to `target`, whose other policies go. UserError: nothing in the folder, or nothing learned.

    expert: the highest win rate, then return. medium: before that one, win rate nearest to half the expert's, then (where nothing was
    won) return nearest to the middle between the first one's and the expert's.
    replay-0, ...: equally spaced in the folder from its first to the medium one.
    """
    trained = [load(path, map) for path in sorted(folder.glob("policy-*.npz"))]
    best = max(range(len(trained)), key=lambda k: (trained[k].win_rate, trained[k].mean_return), default=0)
    if not best:
        raise UserError(f"{folder}: {'no policies' if not trained else 'no policy is better than the first one'}; train longer")
    expert = trained[best]
    half = expert.win_rate / 2, (trained[0].mean_return + expert.mean_return) / 2
    medium = min(range(best), key=lambda k: (abs(trained[k].win_rate - half[0]), abs(trained[k].mean_return - half[1])))
    replay = np.unique(np.linspace(0, medium, REPLAY).round().astype(int))
    chosen = {"expert": expert, "medium": trained[medium]} | {f"replay-{k}": trained[i] for k, i in enumerate(replay)}
    with writing(target):
        target.mkdir(parents=True, exist_ok=True)
        for path in target.glob("*.npz"):
            path.unlink()
    for name, policy in chosen.items():
        save(policy, target / f"{name}.npz")
    return chosen


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(
        prog="python -m datasets.behaviour",
        description="Choose from a training's policies those that play the datasets of its map.",
        epilog="example: python -m datasets.behaviour ship 3m trained/3m",
    )
    p.add_argument("command", choices=["ship"])
    p.add_argument("map", help="a SMAC map, e.g. 3m")
    p.add_argument("folder", type=Path, help="what python -m datasets.behaviour.mappo wrote")
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)

    def work() -> None:
        for name, policy in ship(find(args.map), args.folder, SHIPPED / args.map).items():
            print(f"{name:10} {policy.steps:>11,} steps  won {policy.win_rate:.3f}  return {policy.mean_return:.2f}")

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
