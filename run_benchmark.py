"""Fill in the benchmark: train every (algorithm, task) cell that is asked for and not yet in the results folder."""

import argparse
import math
import re
import sys
import tempfile
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

import torch

import inspo_benchmark
from inspo_benchmark.core.atomic_io import write_errors
from inspo_benchmark.core.errors import UserError, outcome
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets.catalog import ready, state
from inspo_benchmark.running.eta import Eta, human_duration
from inspo_benchmark.running.experiment import Experiment, plan
from inspo_benchmark.running.pool import Limits, Outcome, run_pool
from inspo_benchmark.running.presets import PRESETS
from inspo_benchmark.running.results import finished_seeds, seconds_per_update
from inspo_benchmark.running.settings import settings_summary, settings_table
from inspo_benchmark.running.slurm import Options, run_on_slurm
from inspo_benchmark.running.status import clean, scan

REFERENCE = Path(__file__).parent / "results" / "reference"
EXAMPLES = """examples:
  python run_benchmark.py --algo inspo bc --env 'xor-*' bridge-mix    two methods, five tasks, seeds 0 to 4
  python run_benchmark.py --algo inspo --env mne-imbalanced --set beta=0 --seeds 0-9
  python run_benchmark.py --list
  python run_benchmark.py --dry-run
  python run_benchmark.py --show-config --algo inspo --env 3m-medium  every setting, and where it comes from
  python run_benchmark.py --preset quick --out results/quick
  python run_benchmark.py --workers 8 --device cuda --memory 12G --max-hours 10
  python run_benchmark.py --launcher slurm --slurm-partition gpu --slurm-time 240 --device cuda
  python run_benchmark.py --status

A sweep that was interrupted goes on from its last checkpoints when the same command is given again; what is finished is kept.
Every cell has a log in results/logs. docs/sweeps.md tells more. Tables and figures are made from the results folder:
python -m plots.tables, python -m plots.figures, python -m plots.report.

exit code: 0, 1 a cell failed, 2 a mistake in the input, 3 the time was up, 130 stopped"""


def seeds(text: str) -> tuple[int, ...]:
    """ "5" -> 0..4, "0-9" -> 0..9, "0,2,7" -> those. ArgumentTypeError for anything else."""
    try:
        if "," in text:
            values = tuple(int(x) for x in text.split(","))
        elif "-" in text:
            first, last = map(int, text.split("-"))
            values = tuple(range(first, last + 1))
        else:
            values = tuple(range(int(text)))
        if not values or min(values) < 0 or len(set(values)) < len(values):
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write 5 (for 0 to 4), 0-9, or 0,2,7") from None
    return values


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number above 0")
    return int(text)


def count(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number, 0 for none")
    return int(text)


def amount(text: str) -> float:
    try:
        value = float(text)
        if not 0 < value < math.inf:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number above 0") from None
    return value


def size(text: str) -> float:
    """ "8G" or "500M" -> bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([MG])i?B?", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: write 8G or 500M")
    return float(match[1]) * {"M": 2**20, "G": 2**30}[match[2]]


def parser() -> argparse.ArgumentParser:
    cli = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--algo", nargs="+", default=["*"], metavar="NAME", help="algorithms, names or globs (default: all)")
    cli.add_argument("--env", nargs="+", metavar="TASK", help="tasks, names or globs (default: all whose data are there or can be built)")
    cli.add_argument("--seeds", type=seeds, metavar="SEEDS", help="5 (for 0 to 4, the default), 0-9, or 0,2,7")
    cli.add_argument("--set", nargs="+", default=[], action="extend", metavar="FIELD=VALUE", help="settings other than the method's own")
    budget = cli.add_mutually_exclusive_group()
    budget.add_argument("--paper", action="store_true", help="the settings of the papers and their codes, not those of the benchmark")
    sizes = "; ".join(f"{name}: {preset.about}" for name, preset in PRESETS.items())
    budget.add_argument("--preset", choices=PRESETS, help=f"tasks, seeds and updates of a size of the whole benchmark ({sizes})")
    cli.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="where results go (default: results)")

    how = cli.add_argument_group("how cells are run, each in a process of its own")
    how.add_argument("--workers", type=positive, metavar="N", help="cells at a time, one core each (default: 1, or one per GPU)")
    how.add_argument("--device", nargs="+", default=["cpu"], help="cpu (default), cuda for all GPUs, or those to use: cuda:0 cuda:1")
    how.add_argument("--timeout", type=amount, default=60, metavar="MINUTES", help="without news for so long a cell is stuck (default: 60)")
    how.add_argument("--memory", type=size, default=math.inf, metavar="SIZE", help="what a cell may take: 8G, 500M (default: no limit)")
    how.add_argument(
        "--retries", type=count, default=2, metavar="N", help="times a cell that crashed or is stuck is tried again (default: 2)"
    )
    how.add_argument(
        "--retry-failed", action="store_true", help="try cells again that failed in an earlier sweep; otherwise they are left out"
    )
    how.add_argument("--fail-fast", action="store_true", help="stop at the first cell that fails")
    how.add_argument("--max-hours", type=amount, default=math.inf, metavar="H", help="stop after so long, with checkpoints of what runs")

    slurm = cli.add_argument_group("on a cluster: docs/sweeps.md")
    slurm.add_argument("--launcher", choices=["local", "slurm"], default="local", help="where cells run (default: local)")
    slurm.add_argument("--slurm-partition", metavar="P", help="partition (default: the cluster's)")
    slurm.add_argument("--slurm-array-parallelism", type=positive, metavar="N", help="jobs at a time, a cell each (default: 16)")
    slurm.add_argument(
        "--slurm-time", type=positive, metavar="MINUTES", help="limit of a job; it then goes on from its checkpoint (default: 240)"
    )
    slurm.add_argument("--slurm-set", nargs="+", metavar="OPTION=VALUE", help="other options of sbatch: account=me qos=high")

    other = cli.add_argument_group("instead of running")
    other.add_argument("--list", action="store_true", help="list algorithms and tasks, and stop")
    other.add_argument(
        "--show-config", action="store_true", help="print the settings of --algo on --env and where they come from, and stop"
    )
    other.add_argument("--dry-run", action="store_true", help="say what would run (with --clean: go) and how long it may take, and stop")
    other.add_argument("--status", action="store_true", help="say what is in the results folder: finished, running, begun, failed, stale")
    other.add_argument("--clean", action="store_true", help="move stale results to FOLDER/stale, delete files that nobody needs any more")
    cli.add_argument("--draft", action="store_true", help="print the table at the end even if runs for it are missing")
    return cli


def listing() -> None:
    """Algorithms with their papers; tasks with their sizes and the state of their data."""
    print("algorithms")
    for name, algorithm in ALGORITHMS.items():
        print(f"  {name:10} {algorithm.paper}")
    width = max(map(len, TASKS))
    print("tasks")
    for name, task in TASKS.items():
        space = task.spec.space
        print(
            f"  {name:{width}}  {task.spec.num_agents} agents  {space.kind}, {space.action_dim:2} actions  {task.backend:10}  {state(task)}"
        )


def estimate(cells: list[Experiment], workers: int, pace: Eta) -> str:
    """How long cells may take, judged by finished runs."""
    strange = sorted({cell.algo for cell in cells if pace.seconds(cell) is None})
    more = f", and what {', '.join(strange)} needs, which no finished run tells" if strange else ""
    left = pace.left([cell for cell in cells if cell.algo not in strange], [], workers)
    with_ = f" with {workers} workers" if workers > 1 else ""
    return f"about {human_duration(left)}{with_}, judged by finished runs{more}"


def asked_of_slurm(args: argparse.Namespace) -> Options | None:
    """What to ask of SLURM; None if cells run here. UserError for options that do not go together."""
    options = {name: value for name, value in vars(args).items() if name.startswith("slurm_") and value is not None}
    if args.launcher == "local":
        if options:
            raise UserError(f"--{next(iter(options)).replace('_', '-')} needs --launcher slurm")
        return None
    if args.workers:
        raise UserError("--workers does not go with --launcher slurm; --slurm-array-parallelism says how many jobs run at a time")
    if args.device not in (["cpu"], ["cuda"]):
        raise UserError(f"--device {' '.join(args.device)}: with --launcher slurm write cpu or cuda, and every job gets one")
    more = [text.partition("=") for text in args.slurm_set or []]
    if wrong := [name for name, _, value in more if not value]:
        raise UserError(f"--slurm-set {wrong[0]}: write option=value")
    return Options(
        args.slurm_partition, args.slurm_array_parallelism or 16, args.slurm_time or 240, {name: value for name, _, value in more}
    )


def devices(names: list[str]) -> list[str]:
    """`cuda` is all GPUs. UserError if torch cannot use one of them."""
    if names == ["cuda"] and torch.cuda.is_available():
        names = [f"cuda:{k}" for k in range(torch.cuda.device_count())]
    for name in names:
        try:
            torch.zeros(1, device=name).item()
        except (RuntimeError, AssertionError) as error:
            raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return names


def chosen(names: list[str] | None, globs: Sequence[str]) -> list[str]:
    """The tasks that are named, or those that fit a glob and whose data are there or can be built."""
    if names:
        return TASKS.match(names)
    return [name for name, task in TASKS.items() if any(fnmatchcase(name, glob) for glob in globs) and ready(task)]


def writable(out: Path) -> None:
    """UserError if nothing can be written to the folder: said before hours of work, not after."""
    folder = out / "runs"
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # a name of its own: several sweeps may ask at once
            pass


def tidy(out: Path, dry: bool) -> None:
    """Clean a results folder, or say what would be done."""
    many = 0
    for path, to in list(clean(out)):
        print(f"{path} -> {to}" if to else f"delete {path}")
        many += 1
        if not dry:
            with write_errors(to or path):
                if to:
                    to.parent.mkdir(parents=True, exist_ok=True)
                    path.replace(to)
                else:
                    path.unlink(missing_ok=True)
    print(f"{many} files {'to move or delete' if dry else 'moved or deleted'} in {out}")


def installed_from_here() -> None:
    """UserError if `import inspo_benchmark` finds another checkout than this one: its code would run, and its name be on the results."""
    found, here = Path(inspo_benchmark.__file__).resolve().parent, Path(__file__).resolve().parent
    if found != here:
        raise UserError(f"inspo_benchmark is installed from {found}, not from {here}: run `pip install --no-deps -e .` here")


def show_config(args: argparse.Namespace) -> None:
    """Print the settings of every method on every task. UserError for options that do not go together."""
    if other := [name for name in ("list", "status", "clean", "dry_run") if getattr(args, name)]:
        raise UserError(f"--show-config does not go with --{other[0].replace('_', '-')}")
    preset = PRESETS[args.preset] if args.preset else None
    marked = args.preset if preset and preset.share < 1 else ""
    tasks = chosen(args.env, preset.tasks if preset else ("*",))
    pairs = [(algo, task) for algo in ALGORITHMS.match(args.algo) for task in tasks]
    print(*(settings_table(*pair, args.set, args.paper, marked) for pair in pairs), sep="\n\n")


def run(args: argparse.Namespace) -> int:
    """1 when a cell failed, 3 when there was no time for all."""
    installed_from_here()
    ALGORITHMS.discover(), TASKS.discover()
    if args.show_config:
        show_config(args)
        return 0
    if args.list:
        listing()
        return 0
    if args.clean:
        tidy(args.out, args.dry_run)
        return 0
    if args.status:
        print(scan(args.out).text(args.out))
        return 0
    if args.memory < math.inf and not Path("/proc/self/stat").exists():
        raise UserError("--memory: the memory of processes is looked up in /proc, which this system does not have")
    cluster = asked_of_slurm(args)
    able = args.device if cluster else devices(args.device)
    workers = cluster.parallelism if cluster else args.workers or len(able)
    preset = PRESETS[args.preset] if args.preset else None
    algos, tasks = ALGORITHMS.match(args.algo), chosen(args.env, preset.tasks if preset else ("*",))
    asked = args.seeds or tuple(range(preset.seeds if preset else 5))
    marked = args.preset if preset and preset.share < 1 else ""
    out = args.out.resolve() if cluster else args.out  # jobs run elsewhere
    cells = plan(algos, tasks, asked, args.set, out, args.paper, marked, args.dry_run)
    done = finished_seeds(args.out)
    todo = [left for cell in cells if (left := cell.missing(done))]
    before = {} if args.retry_failed else {cell: reason for cell in todo if (reason := cell.failure())}
    lacking, todo = len(todo), [cell for cell in todo if cell not in before]
    failures = f", {len(before)} failed before" if before else ""
    print(f"{len(cells)} cells asked for, {len(cells) - lacking} finished in {args.out}{failures}, {len(todo)} to do", flush=True)
    known = (
        {key: rate for folder in [*sorted(REFERENCE.glob("*")), args.out] for key, rate in seconds_per_update(folder).items()}
        if todo
        else {}
    )
    pace = Eta(known)
    if args.dry_run:
        if todo:
            print(*(f"  {cell}" for cell in todo), estimate(todo, workers, pace), sep="\n")
            print(settings_summary(((cell.algo, cell.task) for cell in todo), args.set, args.paper, marked))
        return 0
    writable(args.out)
    limits = Limits(60 * args.timeout, args.memory, args.retries, 3600 * args.max_hours, args.fail_fast)
    if cluster:
        ended = run_on_slurm(todo, able[0], limits, pace, cluster)
    else:
        ended = run_pool(todo, min(workers, max(len(todo), 1)), able, limits, pace)
    return report(ended, before, todo, args)


def report(ended: Outcome, before: dict[Experiment, str], todo: list[Experiment], args: argparse.Namespace) -> int:
    """The end of a sweep, and its exit code."""
    for cell, reason in ended.failed.items():
        print(f"FAILED {cell}: {reason}; {cell.log}", file=sys.stderr)
    for cell, reason in before.items():
        print(f"failed before: {cell}: {reason}; {cell.log}", file=sys.stderr)
    if ended.failed or before:
        print(f"{len(ended.failed)} of {len(todo)} cells failed; the same command with --retry-failed tries them again", file=sys.stderr)
    if ended.left:
        print(f"{len(ended.left)} of {len(todo)} cells are left; the same command goes on with them", file=sys.stderr)
    if done := len(todo) - len(ended.failed) - len(ended.left):
        print(f"{done} cells finished in {args.out}; for their tables: python -m plots.tables --out {args.out}")
    if args.draft:
        from inspo_benchmark.plots import tables  # here, because this takes a second and more

        tables.run(["--out", str(args.out), "--draft"])
    return 1 if ended.failed or before else 3 if ended.left else 0


def main(argv: list[str] | None = None) -> int:
    """The exit code, as --help tells."""
    args = parser().parse_args(argv)
    code = outcome(lambda: run(args))
    if code == 130 and args.launcher == "slurm":
        print("SLURM's jobs go on; `squeue` lists them, the same command with --status tells where they are", file=sys.stderr)
    elif code == 130:
        print("stopped; the same command goes on from the last checkpoints", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
