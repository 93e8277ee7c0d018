"""Fill in the benchmark: train every (algorithm, task) cell that is asked for and not yet in the results folder."""

import argparse
import sys
import tempfile
from pathlib import Path

import torch

from core.cell import Cell, plan, timings
from core.errors import UserError, outcome
from core.files import writing
from core.registry import ALGORITHMS, TASKS
from core.sweep import sweep
from datasets.store import ready, state

REFERENCE = Path(__file__).parent / "results" / "reference"
EXAMPLES = """examples:
  python run_benchmark.py --algo inspo bc --env 'xor-*' bridge-mix    two methods, five tasks, seeds 0 to 4
  python run_benchmark.py --algo inspo --env mne-imbalanced --set beta=0 --seeds 0-9
  python run_benchmark.py --list
  python run_benchmark.py --dry-run

A run that was interrupted goes on from its last checkpoint when the same command is given again; what is finished is kept.
Tables and figures are made from the results folder: python -m plots.tables, python -m plots.curves."""


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


def parser() -> argparse.ArgumentParser:
    cli = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    cli.add_argument("--algo", nargs="+", default=["*"], metavar="NAME", help="algorithms, names or globs (default: all)")
    cli.add_argument("--env", nargs="+", metavar="TASK", help="tasks, names or globs (default: all whose data are there or can be built)")
    cli.add_argument("--seeds", type=seeds, default=seeds("5"), metavar="SEEDS", help="5 (for 0 to 4, the default), 0-9, or 0,2,7")
    cli.add_argument("--set", nargs="+", default=[], action="extend", metavar="FIELD=VALUE", help="settings other than the method's own")
    cli.add_argument("--paper", action="store_true", help="the papers' networks, minibatches and updates, not the benchmark's protocol")
    cli.add_argument("--workers", type=positive, default=1, metavar="N", help="cells trained at a time, one core each (default: 1)")
    cli.add_argument("--device", default="cpu", help="cpu (default), cuda, cuda:1, ...")
    cli.add_argument("--out", type=Path, default=Path("results"), metavar="FOLDER", help="where results go (default: results)")
    cli.add_argument("--list", action="store_true", help="list algorithms and tasks, and stop")
    cli.add_argument("--dry-run", action="store_true", help="say what would run and how long it may take, and stop")
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
        print(f"  {name:{width}}  {task.spec.agents} agents  {space.kind}, {space.width:2} actions  {task.backend:10}  {state(task)}")


def estimate(cells: list[Cell], workers: int) -> str:
    """How long cells may take, judged by finished runs of the same algorithm on the same task, or on its slowest task."""
    known = timings(REFERENCE) | timings(cells[0].out)
    seconds, strange = 0.0, []
    for cell in cells:
        rates = [rate for (algo, task), rate in known.items() if algo == cell.algo and task in TASKS]
        rate = known.get((cell.algo, cell.task), max(rates, default=None))
        if rate is None:
            strange.append(cell.algo)
        else:
            seconds += rate * cell.config.steps
    more = f", and what {', '.join(sorted(set(strange)))} needs, which no finished run tells" if strange else ""
    return f"about {max(seconds / workers / 60, 0.1):.1f} minutes, judged by finished runs{more}"


def check(device: str) -> None:
    """UserError if torch cannot use the device."""
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device}: {str(error).splitlines()[0]}") from None


def writable(out: Path) -> None:
    """UserError if nothing can be written to the folder: said before hours of work, not after."""
    folder = out / "runs"
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # a name of its own: several sweeps may ask at once
            pass


def run(args: argparse.Namespace) -> int:
    """1 when a cell failed."""
    ALGORITHMS.discover(), TASKS.discover()
    if args.list:
        listing()
        return 0
    check(args.device)
    algos, tasks = ALGORITHMS.match(args.algo), TASKS.match(args.env) if args.env else [name for name in TASKS if ready(TASKS[name])]
    cells = plan(algos, tasks, args.seeds, args.set, args.out, args.paper)
    todo = [left for cell in cells if (left := cell.missing())]
    print(f"{len(cells)} cells asked for, {len(cells) - len(todo)} finished in {args.out}, {len(todo)} to do")
    if args.dry_run:
        if todo:
            print(*(f"  {cell}" for cell in todo), estimate(todo, args.workers), sep="\n")
        return 0
    writable(args.out)
    failed = sweep(todo, min(args.workers, max(len(todo), 1)), args.device)
    for cell, reason in failed.items():
        print(f"FAILED {cell}: {reason}", file=sys.stderr)
    if failed:
        print(f"{len(failed)} of {len(todo)} cells failed; the same command tries them again", file=sys.stderr)
    if args.draft:
        from plots import tables  # here, because every worker imports this file, and this takes a second and more

        tables.run(["--out", str(args.out), "--draft"])
    return 1 if failed else 0


def main(argv: list[str] | None = None) -> int:
    """Exit code 0, 1 when a cell failed, 2 for a mistake in the input, 130 when stopped."""
    args = parser().parse_args(argv)
    code = outcome(lambda: run(args))
    if code == 130:
        print("stopped; the same command goes on from the last checkpoints", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
