"""python -m datasets: build, list, describe, check and convert datasets."""

import argparse
import sys
from pathlib import Path

from core.errors import UserError
from core.registry import TASKS
from datasets import convert, store
from datasets.format import load, save, violations

EXAMPLES = """examples:
  python -m datasets build 'xor-*' bridge-mix
  python -m datasets validate datasets/data/bridge-mix.h5 --task bridge-mix
  python -m datasets convert pymarl recordings/bridge_mix.npz datasets/data/bridge-mix.h5 --task bridge-mix
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
    p.add_argument("--manifest", action="store_true", help="write what the generators make now to datasets/manifest.json instead")

    command("list", _list, "every task and its dataset", "")

    command("cards", _cards, "describe every dataset that can be built in datasets/CARDS.md, with pictures", "")

    p = command("info", _info, "what a file says about itself, after checking it", "datasets/data/xor-ab.h5")
    p.add_argument("file", type=Path)

    p = command(
        "validate", _validate, "every violation of the format at once; exit code 1 if there is one", "datasets/data/xor-ab.h5 --task xor-ab"
    )
    p.add_argument("file", type=Path)
    p.add_argument("--task", help="the task whose data it should be")

    p = command(
        "convert", _convert, "a published recording -> a dataset", "pymarl bridge_mix.npz datasets/data/bridge-mix.h5 --task bridge-mix"
    )
    p.add_argument("layout", choices=["pymarl"], help="pymarl: the layout of AlberDICE, CFCQL and ICQ")
    p.add_argument("source", type=Path, metavar="SRC", help=".npz, .h5 or a folder of .npy")
    p.add_argument("target", type=Path, metavar="DST", help="the .h5 to write")
    p.add_argument("--task", required=True, help="the task whose data it is")
    p.add_argument("--limit", type=int, help="cut episodes to so many steps (default: the task's limit)")
    return top


def _build(args: argparse.Namespace) -> int:
    tasks = [TASKS[name] for name in TASKS.match(args.tasks)]
    if args.tasks == ["*"]:
        tasks = [task for task in tasks if task.family in store.BUILDERS and store.ready(task)]
    if args.manifest:
        store.publish(tasks)
    else:
        for task in tasks:
            print(f"{task.name:24} {store.fetch(task)}")
    return 0


def _cards(args: argparse.Namespace) -> int:
    from datasets import cards  # with matplotlib

    cards.write([task for task in TASKS.values() if task.family in store.BUILDERS and store.ready(task)])
    return 0


def _list(args: argparse.Namespace) -> int:
    for task in TASKS.values():
        print(f"{task.name:24} {store.state(task)}")
    return 0


def _info(args: argparse.Namespace) -> int:
    for key, value in sorted(load(args.file).meta.items()):
        print(f"{key:18} {value}")
    return 0


def _validate(args: argparse.Namespace) -> int:
    found = violations(args.file, TASKS[args.task] if args.task else None)
    for line in found:
        print(line)
    print(f"{args.file}: {f'{len(found)} violations' if found else 'sound'}")
    return 1 if found else 0


def _convert(args: argparse.Namespace) -> int:
    save(convert.pymarl(args.source, TASKS[args.task], args.limit), args.target)
    return 0


def main(argv: list[str] | None = None) -> int:
    args = parser().parse_args(argv)
    try:
        TASKS.discover()
        return args.run(args)
    except UserError as e:
        print(f"error: {e}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
