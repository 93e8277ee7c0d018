"""python -m datasets: build, list, describe, check, convert and export datasets."""

import argparse
import sys
from pathlib import Path

from inspo_benchmark.core.errors import UserError, outcome
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.datasets import catalog
from inspo_benchmark.datasets.convert import convert
from inspo_benchmark.datasets.format import inspect, load
from inspo_benchmark.datasets.layouts import LAYOUTS
from inspo_benchmark.datasets.replay_check import audit

EXAMPLES = """examples:
  python -m datasets build 'xor-*' bridge-mix
  python -m datasets validate datasets/data/bridge-mix.h5 --task bridge-mix
  python -m datasets convert pymarl recordings/bridge_mix.npz datasets/data/bridge-mix.h5 --task bridge-mix
  python -m datasets export minari datasets/data/bridge-mix.h5 bridge-mix

Pictures of datasets: python -m plots.dataset_figures. Their cards: python -m plots.dataset_cards.
"""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="python -m datasets", description="Datasets.", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run, text: str, example: str) -> argparse.ArgumentParser:
        p = commands.add_parser(name, help=text, description=text, epilog=f"example: python -m datasets {name} {example}")
        p.set_defaults(run=run)
        return p

    p = command("build", _build, "make the datasets that are not there yet", "'xor-*' bridge-mix")
    p.add_argument("tasks", nargs="*", default=["*"], metavar="GLOB", help="tasks (default: all that can be built)")
    p.add_argument("--episodes", type=int, help="so many episodes instead of the published number")
    p.add_argument("--manifest", action="store_true", help="write what the generators make now to datasets/manifest.json instead")

    command("list", _list, "every task and its dataset", "")

    p = command("info", _info, "what a file says about itself, after checking it", "datasets/data/xor-ab.h5")
    p.add_argument("file", type=Path)

    p = command(
        "validate",
        _validate,
        "every violation of the format, of the task and of the game at once, with places; exit code 1 if there is one",
        "datasets/data/xor-*.h5",
    )
    p.add_argument("files", type=Path, nargs="+", metavar="FILE")
    p.add_argument("--task", help="the task whose data it should be")

    p = command(
        "convert", _convert, "a published recording -> a dataset", "pymarl bridge_mix.npz datasets/data/bridge-mix.h5 --task bridge-mix"
    )
    _layout(p, LAYOUTS)
    p.add_argument("source", type=Path, metavar="SRC", help="the recording")
    p.add_argument("target", type=Path, metavar="DST", help="the .h5 to write")
    p.add_argument("--task", help="the task whose data it is (default: told by the names and sizes in the recording)")
    p.add_argument("--limit", type=int, help="cut episodes to so many steps (default: the task's limit)")

    p = command("export", _export, "a dataset -> a layout that others read", "pymarl datasets/data/3m-expert.h5 3m_expert.h5")
    _layout(p, {name: x for name, x in LAYOUTS.items() if x.write})
    p.add_argument("source", type=Path, metavar="SRC", help="our .h5")
    p.add_argument("target", type=Path, metavar="DST", help="the file to write, of minari a new folder")

    return top


def _layout(p: argparse.ArgumentParser, layouts: dict) -> None:
    p.formatter_class = argparse.RawDescriptionHelpFormatter
    p.add_argument("layout", metavar="LAYOUT", help=f"one of {', '.join(layouts)}, see below")
    p.epilog = "\n".join(["layouts:", *(f"  {name:10} {x.files}" for name, x in layouts.items()), "", p.epilog])


def _build(args: argparse.Namespace) -> int:
    tasks = [TASKS[name] for name in TASKS.match(args.tasks)]
    if args.tasks == ["*"]:
        tasks = [task for task in tasks if task.family in catalog.BUILDERS and catalog.ready(task)]
    if args.episodes is not None and args.episodes < 2:
        raise UserError(f"--episodes {args.episodes}: should be at least 2")
    if args.manifest:
        catalog.publish(tasks)
    else:
        for task in tasks:
            path = catalog.shrunk(task, args.episodes) if args.episodes else catalog.fetch(task)
            print(f"{task.name:24} {path}  {catalog.state(task)}")
    return 0


def _list(args: argparse.Namespace) -> int:
    for task in TASKS.values():
        print(f"{task.name:24} {catalog.state(task)}")
    return 0


def _info(args: argparse.Namespace) -> int:
    for key, value in sorted(load(args.file).meta.items()):
        print(f"{key:18} {value}")
    return 0


def _validate(args: argparse.Namespace) -> int:
    bad = 0
    for file in args.files:
        d, found = inspect(file, TASKS[args.task] if args.task else None)
        if not found:
            found = audit(d, TASKS.get(d.meta["task"]))
        for line in found:
            print(line)
        print(f"{file}: {len(found)} violation{'s' * (len(found) > 1)}" if found else f"{file}: sound")
        bad += bool(found)
    return min(bad, 1)


def _convert(args: argparse.Namespace) -> int:
    task = convert(args.layout, args.source, args.target, args.task, args.limit)
    here = "" if task.name in TASKS else " (no environment of that name here: the sizes are the recording's)"
    print(f"{args.target}: {task.name}{here}")
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
