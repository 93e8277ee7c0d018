"""python -m tools.behavior ship: select, from the policies of trainings, those that play the datasets of a map or scenario."""

import argparse
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from inspo_benchmark.core.atomic_io import write_errors
from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.core.registry import TASKS, suggest
from inspo_benchmark.datasets.behavior import SHIPPED, mujoco_policy
from inspo_benchmark.datasets.behavior.policy import Policy, save
from inspo_benchmark.datasets.behavior.rollout import rollout
from inspo_benchmark.datasets.behavior.smac_policy import load
from inspo_benchmark.envs.mamujoco import SCENARIOS as BODIES
from inspo_benchmark.envs.smac.maps import MAPS, SCENARIOS, Map, find_map

NUM_REPLAY = 8  # most policies of medium_replay per training
MEDIUM_WIN_RATE = 0.3  # of a medium policy played greedily
MEDIUM_WIN_RATES = {  # as CFCQL's data of the real game on the maps, about 0.6 of the experts' on the scenarios
    **{"2s3z": 0.25, "5m_vs_6m": 0.2, "6h_vs_8z": 0.35},
    **dict.fromkeys(("protoss_5_vs_5", "zerg_5_vs_5", "terran_10_vs_10"), 0.2),
}
EXPERT_WIN_RATES = {"5m_vs_6m": 0.8, "6h_vs_8z": 0.8}  # likewise; on other maps the best policy is the expert
MAX_SAMPLING_GAP = 0.3  # between the win rates of a medium policy's greedy and sampled actions
TOLERANCE = 0.05  # win rates this close to the one asked for are as good as it; then the smallest gap decides
MAX_MISS = 0.15  # between the win rate of a medium policy and the one asked for
NOISES = ((0.05, 0.0), (0.0, 0.5), (0.0, 0.25))  # (epsilon, temperature); datasets get the first that a map's policies survive
MAX_NOISE_GAP = 0.1  # mean change of the win rate that counts as surviving
FRESH_EPISODES, FRESH_SEED = 320, 1 << 41  # battles that no policy was selected by


def ship(trainings: list[list[Policy]], name: str, folder: Path) -> dict[str, Policy]:
    """Select policies of each training, and write them to `folder`, replacing those there. Returns file name -> policy.

    SMAC: `expert-k` is the policy of training k with the highest win rate, greedy and then sampled, or with one near EXPERT_WIN_RATES;
    `medium-k` an earlier one with a greedy win rate near MEDIUM_WIN_RATE(S) whose sampled actions win about as often.
    MuJoCo: the highest return, and the one nearest the mean of the first policy's and the expert's.
    `replay-k`: of each training, up to NUM_REPLAY at equal distances from the first to the medium one.
    A maximum over policies is too high, so SMAC's are measured again on other battles, and these win rates and returns are written.
    UserError: a training has no suitable policies.
    """
    smac = not math.isnan(trainings[0][0].win_rate)
    experts, mediums, replay = [], [], []
    for trained in trainings:
        expert, medium = (select_by_wins if smac else select_by_return)(trained, name)
        experts.append(trained[expert])
        mediums.append(trained[medium])
        steps = np.array([policy.steps for policy in trained[: medium + 1]])
        nearest = [int(np.abs(steps - x).argmin()) for x in np.linspace(0, steps[-1], NUM_REPLAY)]
        replay += [trained[k] for k in dict.fromkeys(nearest)]
    if smac:
        mediums, experts, replay = (measure_again(group, find_map(name)) for group in (mediums, experts, replay))
        mediums, experts = add_noise(mediums, experts, find_map(name))
    groups = {"expert": experts, "medium": mediums, "replay": replay}
    chosen = {
        f"{quality}-{k:02}" if quality == "replay" else f"{quality}-{k}": p for quality, ps in groups.items() for k, p in enumerate(ps)
    }
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.npz"):
            path.unlink()
    for stem, policy in chosen.items():
        save(policy, folder / f"{stem}.npz")
    return chosen


def select_by_wins(trained: list[Policy], name: str) -> tuple[int, int]:
    """Indices of the expert and the medium policy of a SMAC training."""
    greedy = [p.greedy_win_rate for p in trained]
    gaps = [abs(p.greedy_win_rate - p.win_rate) for p in trained]

    def nearest(target: float, among: list[int]) -> int | None:
        return min(among, key=lambda k: (max(abs(greedy[k] - target), TOLERANCE), gaps[k]), default=None)

    everyone = range(len(trained))
    expert = max(everyone, key=lambda k: (greedy[k], trained[k].win_rate, trained[k].greedy_return))
    if name in EXPERT_WIN_RATES:
        expert = nearest(EXPERT_WIN_RATES[name], everyone)
    target = MEDIUM_WIN_RATES.get(name, MEDIUM_WIN_RATE)
    medium = nearest(target, [k for k in range(expert) if gaps[k] <= MAX_SAMPLING_GAP])
    if medium is None or abs(greedy[medium] - target) > MAX_MISS:
        found = "none" if medium is None else f"the nearest {greedy[medium]:.2f}"
        raise UserError(
            f"{name}, training {trained[0].seed}: no policy before the expert wins about {target:.2f} of its battles, greedy and "
            f"sampled alike ({found}); train {'longer, or ' if greedy[expert] < target else ''}with another --seed"
        )
    return expert, medium


def select_by_return(trained: list[Policy], name: str) -> tuple[int, int]:
    """Indices of the expert and the medium policy of a MuJoCo training."""
    returns = [p.mean_return for p in trained]
    expert = max(range(len(trained)), key=lambda k: returns[k])
    if not expert:
        raise UserError(f"{name}: no policy is better than the first one; train longer")
    half = (returns[0] + returns[expert]) / 2
    return expert, min(range(expert), key=lambda k: abs(returns[k] - half))


def measure_again(policies: list[Policy], map: Map) -> list[Policy]:
    """The policies with their win rates and returns on the fresh battles."""
    from inspo_benchmark.envs.smac.vector import Smac
    from inspo_benchmark.tools.behavior.mappo import measure

    env = Smac(map.name, FRESH_EPISODES)
    return [measure(env, policy, FRESH_SEED)[0] for policy in policies]


def add_noise(mediums: list[Policy], experts: list[Policy], map: Map) -> tuple[list[Policy], list[Policy]]:
    """The policies, from `measure_again`, with the first of NOISES under which both groups win about as often as greedily on the same
    battles; if there is none, the nearest, and a warning."""
    from inspo_benchmark.envs.smac.vector import Smac

    env, seeds = Smac(map.name, FRESH_EPISODES), np.arange(FRESH_SEED, FRESH_SEED + FRESH_EPISODES)

    def change(group: list[Policy], noise: tuple[float, float]) -> float:
        noisy = (rollout(env, with_noise(p, noise), seeds).won.mean() for p in group)
        return float(np.mean([won - p.greedy_win_rate for won, p in zip(noisy, group, strict=True)]))

    gaps = {}
    for noise in NOISES:
        gaps[noise] = max(abs(change(group, noise)) for group in (mediums, experts))
        if gaps[noise] <= MAX_NOISE_GAP:
            break
    best = min(gaps, key=lambda noise: gaps[noise])
    if gaps[best] > MAX_NOISE_GAP:
        print(
            f"warning: on {map.name} every noise changes the win rate by more than {MAX_NOISE_GAP:g}; the data get the one that changes it "
            f"least, by {gaps[best]:.2f}: epsilon {best[0]:g}, temperature {best[1]:g}"
        )
    return tuple([with_noise(p, best) for p in group] for group in (mediums, experts))


def with_noise(policy: Policy, noise: tuple[float, float]) -> Policy:
    return policy._replace(epsilon=noise[0], temperature=noise[1])


def read(folder: Path, load: Callable[[Path], Policy]) -> list[Policy]:
    """The policies of a training, in order. UserError: there are none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    trained = [load(path) for path in sorted(folder.glob("policy-*.npz"))]
    if not trained:
        raise UserError(f"{folder}: no policies; name the --out folder of a training run")
    return trained


def loader(name: str) -> Callable[[Path], Policy]:
    """The function that loads policies of this map or scenario. UserError: there is none of this name."""
    task = TASKS.discover().get(f"{name}-expert")
    if not task:
        raise UserError(f"no scenario {name!r}; {suggest(name, MAPS | SCENARIOS | BODIES)}")
    if task.family == "mamujoco":
        return partial(mujoco_policy.load, name=name, spec=task.spec)
    return partial(load, map=find_map(name))


def parser() -> argparse.ArgumentParser:
    p = CommandLine(
        prog="python -m tools.behavior",
        description="Select, from the policies of trainings, those that play the datasets of a map or scenario.",
        epilog="example: python -m tools.behavior ship 3m trained/3m-*",
    )
    p.add_argument("command", choices=["ship"])
    p.add_argument(
        "name",
        metavar="NAME",
        help="a SMAC map, or a scenario of SMACv2 or MuJoCo: 3m, zerg_10_vs_10, hopper_3x1; its shipped policies are replaced",
    )
    p.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="output folders of python -m tools.behavior.mappo (SMAC) or tools.behavior.masac (MuJoCo), one per training",
    )
    return p


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)

    def work() -> None:
        load = loader(args.name)
        chosen = ship([read(folder, load) for folder in args.folders], args.name, SHIPPED / args.name)
        for stem, p in chosen.items():
            wins = "" if math.isnan(p.win_rate) else f"win rate {p.win_rate:.3f} (greedy {p.greedy_win_rate:.3f})  "
            noise = "" if p.temperature == 1 else f"  epsilon {p.epsilon:g}, temperature {p.temperature:g}"
            print(
                f"{stem:10} {p.steps:>11,} steps  {wins}return {p.mean_return:.2f} (greedy {p.greedy_return:.2f})  training {p.seed}{noise}"
            )

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
