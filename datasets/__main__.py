"""python -m datasets: build, list, describe, check, convert and export datasets."""

import inspo_benchmark.core.startup  # noqa: F401

import argparse
import sys
from pathlib import Path

from inspo_benchmark.core.errors import CommandLine, UserError, outcome, print_error, printable
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets import catalog
from inspo_benchmark.datasets.convert import convert
from inspo_benchmark.datasets.format import inspect, load, peek, trusted_meta
from inspo_benchmark.datasets.layouts import LAYOUTS
from inspo_benchmark.datasets.replay_check import audit
from inspo_benchmark.datasets.validate import meta_problems

EXAMPLES = """examples:
  python -m datasets list
  python -m datasets build 'xor-*' bridge-mix
  python -m datasets validate datasets/data/bridge-mix.h5 --task bridge-mix
  python -m datasets convert pymarl recordings/bridge_mix.npz datasets/data/bridge-mix.h5 --task bridge-mix
  python -m datasets export minari datasets/data/bridge-mix.h5 bridge-mix

python -m datasets COMMAND --help describes a command.
Datasets are in datasets/data/<task>.h5; a training run builds its dataset if the file does not exist.
python -m plots.dataset_figures draws datasets, python -m plots.dataset_cards writes datasets/CARDS.md.
"""


def parser() -> argparse.ArgumentParser:
    top = CommandLine(
        prog="python -m datasets",
        description="Build, list, describe, validate, convert and export datasets.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, short: str, text: str, example: str) -> argparse.ArgumentParser:
        epilog = f"example:\n  python -m datasets {name} {example}".rstrip()
        p = commands.add_parser(name, help=short, description=text, epilog=epilog, formatter_class=argparse.RawDescriptionHelpFormatter)
        p.set_defaults(run=run)
        return p

    text = "Build the datasets of tasks, except those whose files exist, and print their paths. A damaged file is an error."
    p = command("build", _build, "build the datasets of tasks", text, "'xor-*' bridge-mix")
    p.add_argument("tasks", nargs="*", default=["*"], metavar="TASK", help="name or glob of tasks (default: all that are published)")
    p.add_argument("--episodes", type=int, metavar="N", help="number of episodes (default: the published number)")
    p.add_argument("--manifest", action="store_true", help="write the datasets' hashes to datasets/manifest.json instead of the datasets")

    text = "List all tasks and whether their datasets are built, converted, damaged or absent."
    command("list", _list, "list all tasks and their datasets", text, "")

    p = command("info", _info, "print a file's metadata", "Check a file and print its metadata.", "datasets/data/xor-ab.h5")
    p.add_argument("file", type=Path, metavar="FILE", help="a dataset (.h5)")

    text = (
        "Check files against the format, their tasks and, on a sample of episodes, the environment. Print all violations\n"
        "with their places. The exit code is 1 if there is one, and 2 if a file does not exist or cannot be checked."
    )
    p = command("validate", _validate, "check files and print all violations", text, "datasets/data/xor-*.h5")
    p.add_argument("files", type=Path, nargs="+", metavar="FILE", help="datasets (.h5)")
    p.add_argument("--task", help="task whose dataset each file should be (default: the task named in the file)")

    text = "Convert a published recording to a dataset, and print what was decided: episodes that were cut, actions that were clipped."
    example = "pymarl bridge_mix.npz datasets/data/bridge-mix.h5 --task bridge-mix"
    p = command("convert", _convert, "convert a published recording to a dataset", text, example)
    _layout(p, LAYOUTS)
    p.add_argument("source", type=Path, metavar="SRC", help="the recording (file or folder)")
    p.add_argument("target", type=Path, metavar="DST", help="the dataset to write (.h5)")
    p.add_argument("--task", help="task whose dataset it is (default: inferred from names and sizes in the recording)")
    p.add_argument("--limit", type=int, metavar="N", help="cut episodes after N steps (default: the task's limit)")

    text = "Write a dataset in the layout of another code base."
    p = command("export", _export, "write a dataset in another layout", text, "pymarl datasets/data/3m-expert.h5 3m_expert.h5")
    _layout(p, {name: x for name, x in LAYOUTS.items() if x.write})
    p.add_argument("source", type=Path, metavar="SRC", help="a dataset (.h5)")
    p.add_argument("target", type=Path, metavar="DST", help="the file to write (minari: a new folder)")

    return top


def _layout(p: argparse.ArgumentParser, layouts: dict) -> None:
    p.add_argument("layout", metavar="LAYOUT", help=f"{', '.join(layouts)}; see below")
    p.epilog = "\n".join(["layouts:", *(f"  {name:10} {x.files}" for name, x in layouts.items()), "", p.epilog])


def _build(args: argparse.Namespace) -> int:
    tasks = [TASKS[name] for name in TASKS.match(args.tasks)]
    if args.tasks == ["*"]:
        tasks = [task for task in tasks if task.family in catalog.BUILDERS and catalog.is_available(task)]
    if args.episodes is not None and args.episodes < 2:
        raise UserError(f"--episodes {args.episodes}: should be at least 2")
    if args.manifest and args.episodes:
        raise UserError("--episodes cannot be combined with --manifest, which describes whole datasets")
    for task in tasks:
        if args.episodes:
            catalog.check_new(task)
        elif args.manifest or not catalog.dataset_path(task).exists():
            catalog.builder(task)
    if args.manifest:
        catalog.update_manifest(tasks)
    else:
        for task in tasks:
            path = catalog.build_smaller(task, args.episodes) if args.episodes else catalog.fetch(task)
            trusted_meta(path, task)  # raises UserError if the file is damaged or of another task
            print(f"{task.name:24} {path}  {catalog.status(task)}")
    return 0


def _list(args: argparse.Namespace) -> int:
    for task in TASKS.values():
        print(f"{task.name:24} {catalog.status(task)}")
    return 0


def _info(args: argparse.Namespace) -> int:
    for key, value in sorted(load(args.file).meta.items()):
        print(f"{key:18} {value}")
    return 0


def _validate(args: argparse.Namespace) -> int:
    task = TASKS[args.task] if args.task else None
    return max([_validate_file(file, task) for file in args.files])


def _validate_file(file: Path, task: Task | None) -> int:
    """Print the file's violations. 0: there are none, 1: there are some, 2: it cannot be checked."""
    try:
        d, found = inspect(file, task)
        if not found:
            task = TASKS.get(d.meta["task"])
            found = meta_problems(d.meta, task) or audit(d, task)
    except UserError as e:
        print_error(f"error: {printable(str(e))}")
        return 2
    for line in found:
        print(line)
    result = f"{len(found)} violation{'s' * (len(found) > 1)}" if found else "sound"
    print(f"{printable(str(file))}: {result}")
    return 1 if found else 0


def _convert(args: argparse.Namespace) -> int:
    if args.target.suffix != ".h5" and not args.target.exists():
        raise UserError(f"{args.target}: the name of a dataset ends with .h5")
    task = convert(args.layout, args.source, args.target, args.task, args.limit)
    unknown = " (no environment of that name here: the sizes are the recording's; training needs a task, see docs/new-task.md)"
    print(f"{args.target}: {task.name}{'' if task.name in TASKS else unknown}")
    if notes := peek(args.target)["notes"]:
        print(f"notes: {printable(notes)}")
    return 0


def _export(args: argparse.Namespace) -> int:
    if LAYOUTS[args.layout].write is None:
        raise UserError(f"{LAYOUTS[args.layout].title} is a layout that is only read")
    left = LAYOUTS[args.layout].write(args.source, args.target)
    print(f"{args.target}{f': {left}' if left else ''}")
    return 0


def main(argv: list[str] | None = None) -> int:
    def work() -> int:
        TASKS.discover(), LAYOUTS.discover()
        args = parser().parse_args(argv)
        return args.run(args)

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
