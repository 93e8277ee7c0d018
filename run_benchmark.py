"""Run the benchmark: train every requested experiment (one method on one task) that the results folder does not hold yet."""

import sys

try:
    import inspo_benchmark.core.startup

    import torch  # noqa: F401
except ModuleNotFoundError as e:
    print(f"error: this Python has no {e.name}; run `make setup`, then `source .venv/bin/activate`", file=sys.stderr)
    raise SystemExit(2) from None

import argparse
import math
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import inspo_benchmark
from inspo_benchmark.core.atomic_io import write_errors
from inspo_benchmark.core.errors import CommandLine, UserError, outcome, print_error
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets.catalog import is_available, obstacle
from inspo_benchmark.running import arguments
from inspo_benchmark.running.devices import usable_devices
from inspo_benchmark.running.eta import Eta, human_duration
from inspo_benchmark.running.experiment import Experiment, describe
from inspo_benchmark.running.listing import list_registered
from inspo_benchmark.running.planning import plan
from inspo_benchmark.running.pool import Limits, Outcome, run_pool
from inspo_benchmark.running.presets import PRESETS, Preset
from inspo_benchmark.running.progress import plural
from inspo_benchmark.running.results import REFERENCE, earlier_failure, read_results, read_whole_results, seconds_per_update, seeds_by_group
from inspo_benchmark.running.settings import settings_summary, settings_table
from inspo_benchmark.running.slurm import SlurmOptions, check_slurm, run_on_slurm
from inspo_benchmark.running.status import files_to_clean, scan
from inspo_benchmark.running.summary import summary
from inspo_benchmark.running.trackers import TRACKERS, check_installed
from inspo_benchmark.running.untrusted import check_folder

DEFAULT_SEEDS = 5
MAX_LISTED = 30  # experiments that --dry-run lists one by one
EXAMPLES = """examples:
  python run_benchmark.py --algo inspo bc --env 'xor-*' bridge-mix    two methods, five tasks, seeds 0 to 4
  python run_benchmark.py --algo inspo --env mne-imbalanced --set beta=0 --seeds 0-9
  python run_benchmark.py --list                                   methods and scenarios; --list all: every task
  python run_benchmark.py --dry-run
  python run_benchmark.py --show-config --algo inspo --env 3m-medium  every setting, and where it comes from
  python run_benchmark.py --preset quick --out results/quick
  python run_benchmark.py --workers 8 --device cuda --memory 12G --max-hours 10
  python run_benchmark.py --launcher slurm --slurm-partition gpu --slurm-time 240 --device cuda
  python run_benchmark.py --status

An interrupted sweep resumes from its last checkpoints when the same command is run again. Finished experiments are skipped.
Each experiment has a log in FOLDER/logs. Tables and figures are made from the results folder: python -m plots.tables,
python -m plots.figures, python -m plots.report. docs/sweeps.md describes sweeps in detail.

exit codes: 0 success, 1 an experiment failed, 2 invalid input, 3 time limit reached (--max-hours), 130 interrupted"""


def parser() -> argparse.ArgumentParser:
    cli = CommandLine(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = cli.add_argument_group("experiments")
    what.add_argument("--algo", nargs="+", default=["*"], metavar="NAME", help="algorithms, names or globs (default: all)")
    what.add_argument(
        "--env",
        nargs="+",
        metavar="TASK",
        help="tasks: names, globs, or a scenario such as 3m (default: the preset's, or all with a dataset or shipped policies)",
    )
    what.add_argument(
        "--seeds",
        type=arguments.seeds,
        metavar="SEEDS",
        help="a number (5: 0 to 4), a range (0-9) or a list (0,2,7); '3,' is seed 3 alone (default: 5, or the preset's)",
    )
    what.add_argument("--set", nargs="+", default=[], action="extend", metavar="FIELD=VALUE", help="override settings of the methods")
    budget = what.add_mutually_exclusive_group()
    budget.add_argument("--paper", action="store_true", help="use the settings of the papers and their code, not the benchmark's")
    sizes = "; ".join(f"{name}: {preset.about}" for name, preset in PRESETS.items())
    budget.add_argument("--preset", choices=PRESETS, help=f"run a predefined selection of tasks, seeds and updates ({sizes})")
    what.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="results folder (default: results)")

    how = cli.add_argument_group("execution (each experiment runs in its own process)")
    how.add_argument(
        "--workers", type=arguments.positive_int, metavar="N", help="experiments at a time, one core each (default: 1, or one per GPU)"
    )
    how.add_argument("--device", nargs="+", default=["cpu"], help="cpu (default), cuda for all GPUs, or a list: cuda:0 cuda:1")
    how.add_argument(
        "--timeout",
        type=arguments.positive_float,
        default=60,
        metavar="MINUTES",
        help="kill and retry an experiment that reports no progress for this long (default: 60)",
    )
    how.add_argument(
        "--memory",
        type=arguments.memory_size,
        default=math.inf,
        metavar="SIZE",
        help="kill and retry an experiment that uses more memory than this: 8G, 500M (default: no limit)",
    )
    how.add_argument(
        "--retries", type=arguments.non_negative_int, default=2, metavar="N", help="retries of an experiment that crashes (default: 2)"
    )
    how.add_argument("--retry-failed", action="store_true", help="run experiments again that failed earlier (default: skip them)")
    how.add_argument("--fail-fast", action="store_true", help="stop at the first failure")
    how.add_argument(
        "--max-hours", type=arguments.positive_float, default=math.inf, metavar="H", help="save checkpoints and stop after this time"
    )
    how.add_argument(
        "--log", nargs="+", default=[], choices=TRACKERS, help="also write to FOLDER/tensorboard or FOLDER/wandb (offline) while training"
    )

    slurm = cli.add_argument_group("SLURM clusters (see docs/sweeps.md)")
    slurm.add_argument("--launcher", choices=["local", "slurm"], default="local", help="where experiments run (default: local)")
    slurm.add_argument("--slurm-partition", metavar="P", help="partition (default: the cluster's)")
    slurm.add_argument(
        "--slurm-array-parallelism", type=arguments.positive_int, metavar="N", help="jobs at a time, one experiment each (default: 16)"
    )
    slurm.add_argument(
        "--slurm-time",
        type=arguments.positive_int,
        metavar="MINUTES",
        help="time limit of a job, which then resumes from its checkpoint (default: 240)",
    )
    slurm.add_argument("--slurm-set", nargs="+", metavar="OPTION=VALUE", help="further options of sbatch: account=me qos=high")

    other = cli.add_argument_group("actions other than training")
    other.add_argument(
        "--list", nargs="?", const="scenarios", choices=["scenarios", "all"], help="list methods and scenarios; all: every task"
    )
    other.add_argument("--show-config", action="store_true", help="print the settings of --algo on --env and where they come from")
    other.add_argument(
        "--dry-run", action="store_true", help="list the experiments to run and estimate the time; with --clean: list the files"
    )
    other.add_argument("--status", action="store_true", help="list finished, running, interrupted, failed and stale experiments")
    other.add_argument("--clean", action="store_true", help="move stale results to FOLDER/stale and delete files that are no longer needed")
    cli.add_argument("--draft", action="store_true", help="print the results table at the end, even if it is incomplete")
    return cli


def estimate(experiments: list[Experiment], workers: int, eta: Eta) -> str:
    """A sentence about the time that the experiments take."""
    unknown = sorted({experiment.algo for experiment in experiments if eta.total_seconds(experiment) is None})
    known = [experiment for experiment in experiments if experiment.algo not in unknown]
    if not known:
        return "estimated time: unknown, because these methods have no finished results"
    with_workers = f" with {plural(workers, 'worker')}" if workers > 1 else ""
    without = f", without {', '.join(unknown)} (no finished results)" if unknown else ""
    seconds = eta.seconds_left(known, [], workers)
    return f"estimated time: {human_duration(seconds)}{with_workers}{without}, from the speed of finished experiments"


def overview(experiments: list[Experiment]) -> list[str]:
    """A line for all tasks that are to be run with the same methods and seeds."""
    methods: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for experiment in experiments:
        methods.setdefault((experiment.task, experiment.seeds), []).append(experiment.algo)
    tasks: dict[tuple[str, tuple[int, ...]], list[str]] = {}
    for (task, seeds), algos in methods.items():
        tasks.setdefault((", ".join(algos), seeds), []).append(task)
    return [f"  {plural(len(names), 'task')}: {describe(algos, ', '.join(names), seeds, {})}" for (algos, seeds), names in tasks.items()]


def slurm_options(args: argparse.Namespace) -> SlurmOptions | None:
    """None: the experiments run locally. UserError: options that exclude each other."""
    options = {name: value for name, value in vars(args).items() if name.startswith("slurm_") and value is not None}
    if args.launcher == "local":
        if options:
            raise UserError(f"--{next(iter(options)).replace('_', '-')} needs --launcher slurm")
        return None
    if args.workers:
        raise UserError(
            "--workers cannot be combined with --launcher slurm; use --slurm-array-parallelism for the number of jobs at a time"
        )
    if args.device not in (["cpu"], ["cuda"]):
        raise UserError(f"--device {' '.join(args.device)}: with --launcher slurm use cpu or cuda; every job gets one device")
    more = [text.partition("=") for text in args.slurm_set or []]
    if invalid := [name for name, _, value in more if not value]:
        raise UserError(f"--slurm-set {invalid[0]}: write option=value")
    return SlurmOptions(
        args.slurm_partition, args.slurm_array_parallelism or 16, args.slurm_time or 240, {name: value for name, _, value in more}
    )


def select_tasks(names: list[str] | None, preset: Preset | None) -> list[str]:
    """The named tasks, or else those of the preset (default: all) that have data or whose data can be built."""
    if names:
        return TASKS.match(names)
    return [name for name, task in TASKS.items() if (preset is None or preset.num_seeds(name)) and is_available(task)]


def tasks_with_data(tasks: list[str], named: Sequence[str]) -> list[str]:
    """The tasks that have data or whose data can be built; the others are printed. UserError: one of the others was named, and not only
    matched by a glob, or there are no others."""
    lacking = {task: reason for task in tasks if (reason := obstacle(TASKS[task]))}
    usable = [task for task in tasks if task not in lacking]
    if refused := [task for task in lacking if task in named or not usable]:
        raise UserError(f"no data for {', '.join(refused)} ({lacking[refused[0]]}); docs/data.md says how to convert recordings")
    if lacking:
        print(f"left out, because they have no data: {', '.join(lacking)}", flush=True)
    return usable


def clean(out: Path, dry_run: bool) -> None:
    """Move and delete what --clean is for, or only list it. UserError: in this project's own results."""
    if out.resolve().is_relative_to(REFERENCE):
        raise UserError(f"--clean: {out} holds this project's own results, which may be of other data than yours; clean a copy")
    files = list(files_to_clean(out))
    for path, target in files:
        print(f"{path} -> {target}" if target else f"delete {path}")
        if not dry_run:
            with write_errors(target or path):
                if target:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(target)
                else:
                    path.unlink(missing_ok=True)
    print(f"{plural(len(files), 'file')} {'to move or delete' if dry_run else 'moved or deleted'} in {out}")


def check_installation() -> None:
    """UserError if `import inspo_benchmark` finds another checkout than this one, whose code would run instead of this."""
    found, here = Path(inspo_benchmark.__file__).resolve().parent, Path(__file__).resolve().parent
    if found != here:
        raise UserError(f"inspo_benchmark is installed from {found}, not from {here}: run `pip install --no-deps -e .` here")


def check_actions(args: argparse.Namespace) -> None:
    """UserError: two actions, experiments selected for an action on the whole folder, or no such folder."""
    chosen = [name for name in ("show_config", "list", "status", "clean") if getattr(args, name)]
    if args.list or args.status or args.clean:
        selected = ("algo", "env", "seeds", "set", "paper", "preset")
        chosen += [name for name in selected if getattr(args, name) != parser().get_default(name)]
    if args.dry_run and not args.clean:
        chosen.append("dry_run")
    if len(chosen) > 1:
        first, other = (name.replace("_", "-") for name in chosen[:2])
        raise UserError(f"--{first} cannot be combined with --{other}")
    if (args.status or args.clean) and not args.out.is_dir():
        raise UserError(f"--out {args.out}: no such folder")


def show_config(args: argparse.Namespace) -> None:
    """Print the settings of every requested method on every requested task."""
    algos, tasks, preset = requested(args)
    print(*(settings_table(algo, task, args.set, args.paper, preset) for algo in algos for task in tasks), sep="\n\n")


def requested(args: argparse.Namespace) -> tuple[list[str], dict[str, tuple[int, ...]], str]:
    """Algorithms, the seeds of each task, and the preset if it changes settings."""
    preset = PRESETS[args.preset] if args.preset else None
    tasks = select_tasks(args.env, preset)
    seeds = {task: args.seeds or tuple(range((preset.num_seeds(task) if preset else None) or DEFAULT_SEEDS)) for task in tasks}
    return ALGORITHMS.match(args.algo), seeds, args.preset if preset and preset.marked else ""


def pending(
    experiments: list[Experiment], results: list[dict[str, Any]], retry_failed: bool
) -> tuple[list[Experiment], dict[Experiment, str]]:
    """The experiments without the seeds that are finished, and those of them that are skipped because they failed earlier, with the reason
    (none with `retry_failed`). `results`: the content of the JSON files in the results folder."""
    finished = seeds_by_group(results)
    remaining = [rest for experiment in experiments if (rest := experiment.remaining(finished))]
    skipped = {} if retry_failed else {experiment: reason for experiment in remaining if (reason := earlier_failure(experiment))}
    return remaining, skipped


def estimator(results: list[dict[str, Any]], to_run: list[Experiment]) -> Eta:
    """The durations that follow from these results and, if there is anything to run, from the reference results."""
    folders = sorted(REFERENCE.glob("*")) if to_run else []
    earlier = [metadata for folder in folders for _, metadata in read_results(folder)]
    # the last one wins: short trials count only where nothing else is known
    return Eta(seconds_per_update(results, min_share=0) | seconds_per_update(earlier) | seconds_per_update(results))


def show_plan(to_run: list[Experiment], workers: int, eta: Eta, args: argparse.Namespace, preset: str) -> None:
    """Print the experiments to run, one by one unless they are many, the time that they take, and the settings."""
    if len(to_run) > MAX_LISTED:
        print(*overview(to_run), estimate(to_run, workers, eta), sep="\n")
        print("settings: --show-config instead of --dry-run, with an --algo and an --env")
    elif to_run:
        print(*(f"  {experiment}" for experiment in to_run), estimate(to_run, workers, eta), sep="\n")
        pairs = ((experiment.algo, experiment.task) for experiment in to_run)
        print(settings_summary(pairs, args.set, args.paper, preset))


def run(args: argparse.Namespace) -> int:
    """The exit code: 1 if an experiment failed, 3 if the time limit was reached, else 0."""
    check_installation()
    check_actions(args)
    ALGORITHMS.discover(), TASKS.discover()
    if args.show_config:
        show_config(args)
        return 0
    if args.list:
        print(list_registered(args.list == "all"))
        return 0
    check_folder(args.out)
    if args.clean:
        clean(args.out, args.dry_run)
        return 0
    if args.status:
        print(scan(args.out).text(args.out))
        return 0
    if args.memory < math.inf and not Path("/proc/self/stat").exists():
        raise UserError("--memory reads the memory of processes from /proc, which this system does not have")
    slurm = slurm_options(args)
    usable = args.device if slurm else usable_devices(args.device)
    workers = slurm.parallelism if slurm else args.workers or len(usable)
    algos, seeds, preset = requested(args)
    tasks = tasks_with_data(list(seeds), args.env or [])
    out = args.out.resolve() if slurm else args.out  # jobs have another working directory
    check_installed(args.log)
    if slurm and not args.dry_run:
        check_slurm()
    experiments = plan(algos, tasks, seeds, args.set, out, args.paper, preset, args.dry_run, args.log)

    results = [metadata for _, metadata in read_whole_results(args.out)]
    remaining, skipped = pending(experiments, results, args.retry_failed)
    to_run = [experiment for experiment in remaining if experiment not in skipped]
    failures = f", {len(skipped)} failed earlier" if skipped else ""
    finished = f"{len(experiments) - len(remaining)} finished in {args.out}{failures}"
    with suppress(BrokenPipeError):  # a sweep needs no reader
        print(f"{plural(len(experiments), 'experiment')} requested, {finished}, {len(to_run)} to run", flush=True)
    eta = estimator(results, to_run)
    if args.dry_run:
        show_plan(to_run, workers, eta, args, preset)
        return 0
    to_run.sort(key=lambda experiment: eta.total_seconds(experiment) or 0, reverse=True)  # no worker waits at the end for a long one
    limits = Limits(60 * args.timeout, args.memory, args.retries, 3600 * args.max_hours, args.fail_fast)
    if not to_run:
        result = Outcome({}, [])
    elif slurm:
        result = run_on_slurm(to_run, usable[0], limits, eta, slurm)
    else:
        result = run_pool(to_run, min(workers, len(to_run)), usable, limits, eta)
    return report(result, skipped, to_run, experiments, args)


def report(
    result: Outcome, skipped: dict[Experiment, str], to_run: list[Experiment], experiments: list[Experiment], args: argparse.Namespace
) -> int:
    """Print the end of a sweep. Returns the exit code, whether or not anyone reads what is printed."""
    for experiment, reason in result.failed.items():
        print_error(f"FAILED {experiment}: {reason}; log: {experiment.log_path}")
    for experiment, reason in skipped.items():
        print_error(f"failed earlier: {experiment}: {reason}; log: {experiment.log_path}")
    if failed := [*result.failed, *skipped]:
        option = " with --retry-failed" if any(map(earlier_failure, failed)) else " again"
        print_error(f"{plural(len(failed), 'experiment')} failed; to retry, run the same command{option}")
    if result.unfinished:
        print_error(f"{plural(len(result.unfinished), 'experiment')} unfinished; to resume, run the same command again")

    def about_results() -> int:
        if finished := len(to_run) - len(result.failed) - len(result.unfinished):
            print(f"{plural(finished, 'experiment')} finished in {args.out}; for tables, run: python -m plots.tables --out {args.out}")
        if lines := summary(experiments, [Path(os.path.relpath(folder)) for folder in sorted(REFERENCE.glob("*"))]):
            print(lines)
        if not args.draft:
            return 0
        from inspo_benchmark.plots import tables  # here, because it imports slowly

        return tables.main(["--out", str(args.out), "--draft"])

    code = 1 if failed else 3 if result.unfinished else 0
    shown = outcome(about_results)
    return code or shown


def main(argv: list[str] | None = None) -> int:
    """The exit code that --help describes."""
    args = parser().parse_args(argv)
    code = outcome(lambda: run(args))
    if code == 130 and args.launcher == "local":
        print_error("stopped; to resume from the last checkpoints, run the same command again")
    return code


if __name__ == "__main__":
    sys.exit(main())
