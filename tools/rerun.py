"""python -m tools.rerun: Run a random tenth of finished experiments again, and compare their CSV files byte by byte.

For checking results, this project's or one's own: the same code, settings and data give the same files on the same machine. Another
processor may round otherwise. Left out are results that `--status` calls stale, and those of a GPU, which repeat only there. An
interrupted command resumes if the code's revision is the same.
"""

import math
import os
import random
import sys
from pathlib import Path
from typing import Any

from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.running.arguments import positive_int, share
from inspo_benchmark.running.eta import Eta
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.planning import plan
from inspo_benchmark.running.pool import Limits, run_pool
from inspo_benchmark.running.progress import plural
from inspo_benchmark.running.provenance import revision
from inspo_benchmark.running.results import REFERENCE, final_scores, finished_seeds, read_results, seconds_per_update
from inspo_benchmark.running.schema import COMPARED, FINISHED
from inspo_benchmark.running.status import stale_reason

OUT = Path("results/rerun")


def repeatable(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """The CSV files in a results folder that today's settings and data belong to, in the order of their names, with their JSON."""
    found = read_results(folder, required=FINISHED | COMPARED | {"machine"})
    kept = [(path, x) for path, x in found if x["machine"].get("device") == "cpu" and not stale_reason(x)]
    return sorted((path.with_suffix(".csv"), x) for path, x in kept)


def again(metadata: dict[str, Any], out: Path) -> Experiment:
    """The experiment of a JSON file, with `out` as its results folder. Missing datasets are built."""
    overrides = [f"{name}={value}" for name, value in metadata["overrides"].items()]
    seeds = tuple(metadata["seeds"])
    return plan([metadata["algo"]], [metadata["task"]], seeds, overrides, out, preset=metadata.get("preset", ""))[0]


def difference(path: Path, metadata: dict[str, Any], experiment: Experiment) -> str:
    """What is not equal between a CSV file and that of the experiment that ran again; empty if every byte is."""
    if not experiment.csv_path.exists():
        return "did not finish"
    if path.read_bytes() == experiment.csv_path.read_bytes():
        return ""
    before, now = (final_scores(csv_path, metadata)["return"] for csv_path in (path, experiment.csv_path))
    largest = max(abs(now[seed] - before[seed]) for seed in before)
    return f"differs, by up to {largest:.3g} in the final return of a seed"


def main(argv: list[str] | None = None) -> int:
    p = CommandLine(prog="python -m tools.rerun", description=__doc__.partition(": ")[2].split("\n")[0])
    p.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="results folders (default: all in results/reference)")
    p.add_argument("--share", type=share, default=0.1, help="share of the experiments that run again (default: 0.1)")
    p.add_argument("--draw", type=int, default=0, metavar="SEED", help="seed of the random choice (default: 0)")
    p.add_argument("--workers", type=positive_int, default=1, metavar="N", help="experiments at a time (default: 1)")
    p.add_argument("--out", type=Path, metavar="FOLDER", help=f"where they run (default: {OUT}/REVISION)")
    args = p.parse_args(argv)

    def work() -> int:
        ALGORITHMS.discover(), TASKS.discover()
        folders = args.folders or sorted(Path(os.path.relpath(path.parent)) for path in REFERENCE.glob("*/runs"))
        if lacking := [folder for folder in folders if not (folder / "runs").is_dir()]:
            raise UserError(f"{lacking[0]} is no results folder: there is no folder {lacking[0] / 'runs'}")
        found = [result for folder in folders for result in repeatable(folder)]
        if not found:
            raise UserError(f"no finished results of today's settings in {', '.join(map(str, folders)) or REFERENCE}")
        chosen = random.Random(args.draw).sample(found, math.ceil(args.share * len(found)))
        code = revision()
        if not args.out and (code["dirty"] or not code["revision"]):
            raise UserError("the code is not that of a git commit: commit it, or name an empty folder for its results with --out")
        out = args.out or OUT / code["revision"][:12]
        experiments = [again(metadata, out) for _, metadata in chosen]
        finished = finished_seeds(out)
        waiting = [experiment for experiment in experiments if experiment.remaining(finished)]
        print(f"{plural(len(chosen), 'experiment')} of {len(found)}, {len(waiting)} to run", flush=True)
        if waiting:
            eta = Eta(seconds_per_update(metadata for _, metadata in found))
            run_pool(waiting, min(args.workers, len(waiting)), ["cpu"], Limits(), eta)
        differences = [difference(path, about, x) for (path, about), x in zip(chosen, experiments, strict=True)]
        for (path, _), text in zip(chosen, differences, strict=True):
            print(f"{text or 'equal'}: {path}")
        print(f"{differences.count('')} of {plural(len(chosen), 'file')} equal")
        return 0 if not any(differences) else 1

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
