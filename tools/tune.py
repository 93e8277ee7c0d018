"""python -m tools.tune: Try four values of every method's main coefficient, on seeds that no table shows, and write their scores.

Every method has one coefficient per suite that says how far its policies may leave the data. CANDIDATES has four values of it, the
published one among them where there is one. They are trained with the seeds 100 to 102 on the tasks in NAMED; the tables of this
project use the seeds 0 to 9. The training budget is that of the tables. A candidate's score is the normalized greedy return, averaged
over tasks, seeds and the last quarter of the evaluations, because single evaluations vary. The search resumes: finished experiments are
in OUT/runs.

The best value is written into the method's `TUNED` by hand, and OUT/tuning.md into docs/tuning.md.
"""

import math
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.plots import load, stats
from inspo_benchmark.running.arguments import positive_int
from inspo_benchmark.running.devices import usable_devices
from inspo_benchmark.running.eta import Eta
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.planning import plan
from inspo_benchmark.running.pool import Limits, run_pool
from inspo_benchmark.running.results import finished_seeds, read_results, results_of, seconds_per_update

OUT = Path("results/tuning")
SEEDS = (100, 101, 102)
NAMED = {
    "smac": ("3s_vs_4z-medium", "8m_vs_9m-medium_replay"),
    "mujoco": ("halfcheetah_2x3-medium_replay", "halfcheetah_2x3-medium", "hopper_3x1-medium_expert"),
}
LAST = 0.25  # share of the evaluations, the last ones, that a score averages
CANDIDATES: dict[str, dict[str, tuple[str, tuple[float, ...]]]] = {  # method -> suite -> (field, values)
    "alberdice": dict.fromkeys(("smac", "mujoco"), ("alpha_end", (0.1, 0.4, 1.0, 3.0))),
    "cfcql": {"smac": ("alpha", (0.4, 1.0, 5.0, 50.0)), "mujoco": ("alpha", (1.0, 5.0, 50.0, 500.0))},
    "comadice": dict.fromkeys(("smac", "mujoco"), ("alpha", (0.1, 0.3, 1.0, 10.0))),
    "icq": dict.fromkeys(("smac", "mujoco"), ("beta", (0.1, 0.3, 1.0, 10.0))),
    "inspo": {"smac": ("alpha", (0.1, 0.3, 0.5, 1.0)), "mujoco": ("alpha", (0.3, 1.0, 3.0, 10.0))},
    "iql": dict.fromkeys(("smac", "mujoco"), ("beta", (0.1, 0.3, 1.0, 3.0))),
    "macflow": dict.fromkeys(("smac", "mujoco"), ("alpha", (0.3, 1.0, 3.0, 10.0))),
    "omar": {"smac": ("alpha", (0.5, 1.0, 5.0, 50.0)), "mujoco": ("alpha", (0.5, 5.0, 50.0, 500.0))},
    "omiga": dict.fromkeys(("smac", "mujoco"), ("alpha", (0.1, 0.3, 1.0, 10.0))),
    "oryx": dict.fromkeys(("smac", "mujoco"), ("beta", (0.1, 0.3, 1.0, 10.0))),
}


class Candidate(NamedTuple):
    """A value of a method's coefficient, and its experiments on the tasks of a suite."""

    algo: str
    suite: str
    field: str
    value: float
    experiments: list[Experiment]


def candidates(algos: Iterable[str], suites: Iterable[str], out: Path) -> list[Candidate]:
    """All candidates of methods that have some; the datasets that they need are built."""
    found = []
    for suite in suites:
        for algo in algos:
            field, values = CANDIDATES.get(algo, {}).get(suite, ("", ()))
            for value in values:
                found.append(Candidate(algo, suite, field, value, plan([algo], NAMED[suite], SEEDS, [f"{field}={value}"], out)))
    return found


def score(experiments: Iterable[Experiment], frame: pd.DataFrame) -> float:
    """Normalized greedy return, averaged over experiments, seeds and the last evaluations. NaN: `frame` lacks a seed of an experiment."""
    scores = []
    for experiment in experiments:
        files = [str(path.with_suffix(".csv")) for path, _ in results_of(experiment)]
        rows = frame[frame.file.isin(files) & frame.seed.isin(experiment.seeds) & (frame.metric == "return")]
        if {*rows.seed} != {*experiment.seeds}:
            return math.nan
        last = rows.value[rows.step > (1 - LAST) * rows.step.max()].mean()
        scores.append(stats.normalize(last, TASKS[experiment.task].reference))
    return float(np.mean(scores))


def table(found: list[Candidate], frame: pd.DataFrame) -> str:
    """Markdown: a line per method and suite, its values with their scores, and the best value. Where training failed there is no score."""
    lines = ["| suite | method | field | values | scores | best |", "|---|---|---|---|---|---:|"]
    groups: dict[tuple[str, str, str], dict[float, float]] = {}
    for candidate in found:
        groups.setdefault((candidate.suite, candidate.algo, candidate.field), {})[candidate.value] = score(candidate.experiments, frame)
    for (suite, algo, field), scores in groups.items():
        known = {value: x for value, x in scores.items() if not math.isnan(x)}
        best = f"{max(known, key=lambda value: known[value]):g}" if known else "--"
        shown = "; ".join(f"{x:.1f}" if value in known else "--" for value, x in scores.items())
        lines.append(f"| {suite} | {algo} | `{field}` | {'; '.join(f'{x:g}' for x in scores)} | {shown} | {best} |")
    searched = dict.fromkeys(candidate.suite for candidate in found)
    tasks = "; ".join(f"{suite}: {', '.join(NAMED[suite])}" for suite in searched)
    about = f"Seeds {SEEDS[0]} to {SEEDS[-1]}. {tasks}. Scores: normalized greedy return, last quarter of evaluations."
    return "\n".join([*lines, "", about])


def main(argv: list[str] | None = None) -> int:
    p = CommandLine(prog="python -m tools.tune", description=__doc__.partition(": ")[2].split("\n")[0])
    p.add_argument(
        "--algo", nargs="+", default=["*"], metavar="NAME", help="methods, names or globs (default: all that have a coefficient)"
    )
    p.add_argument("--suite", nargs="+", default=list(NAMED), choices=NAMED, help="suites (default: all)")
    p.add_argument("--workers", type=positive_int, default=1, metavar="N", help="experiments at a time (default: 1)")
    p.add_argument("--device", nargs="+", default=["cpu"], help="cpu (default), cuda for all GPUs, or a list: cuda:0 cuda:1")
    p.add_argument("--out", type=Path, default=OUT, metavar="FOLDER", help=f"results folder (default: {OUT})")
    args = p.parse_args(argv)

    def work() -> int:
        devices = usable_devices(args.device)
        ALGORITHMS.discover(), TASKS.discover()
        found = candidates(ALGORITHMS.match(args.algo), args.suite, args.out)
        if not found:
            searched = [algo for algo, suites in CANDIDATES.items() if suites.keys() & {*args.suite}]
            raise UserError(f"no coefficient of {', '.join(args.algo)} is searched; there are those of {', '.join(searched)}")
        finished = finished_seeds(args.out)
        waiting = [rest for candidate in found for x in candidate.experiments if (rest := x.remaining(finished))]
        print(f"{len(found)} candidates, {len(waiting)} experiments to run", flush=True)
        eta = Eta(seconds_per_update(about for _, about in read_results(args.out)))
        result = run_pool(waiting, min(args.workers, len(waiting)), devices, Limits(), eta) if waiting else None
        text = table(found, load.read(args.out))
        with atomic_write(args.out / "tuning.md") as part:
            part.write_text(text + "\n")
        print(text)
        return 1 if result and result.failed else 0

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
