"""What the trainers of behaviour policies share: when they save, and their command line."""

import argparse
from collections.abc import Callable
from pathlib import Path

from inspo_benchmark.core.errors import UserError, outcome

FIRST, GROWTH = 10_000, 1.5  # steps before the first saved policy, then that much more each time, then in equal parts


def points(total: int, parts: int) -> list[int]:
    """Steps at which policies are saved: with growing distances at first, then in so many equal parts of all steps."""
    early = [0, *(int(FIRST * GROWTH**k) for k in range(100) if FIRST * GROWTH**k < total / parts)]
    return early + [round(total * k / parts) for k in range(1, parts + 1)]


def command(
    train: Callable[[str, int, int, Path], None],
    argv: list[str] | None,
    *,
    module: str,
    what: str,  # it does
    name: tuple[str, str],  # of what the first argument is the name, and its help
    steps: tuple[str, float],  # of what, and how many by default
    examples: str,
) -> int:
    """`python -m module NAME --steps N --out FOLDER --seed K` calls train(name, steps, seed, folder); its exit code."""
    plain = argparse.RawDescriptionHelpFormatter
    p = argparse.ArgumentParser(prog=f"python -m {module}", description=what, epilog=examples, formatter_class=plain)
    p.add_argument(name[0], help=name[1])
    p.add_argument("--steps", type=float, default=steps[1], help=f"steps of {steps[0]} (default: %(default).0e)")
    p.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="where the policies are saved")
    p.add_argument("--seed", type=int, default=0, help="of the networks and the episodes (default: 0)")
    args = p.parse_args(argv)

    def work() -> None:
        if not args.steps >= 1:
            raise UserError(f"--steps {args.steps:g}: should be at least 1")
        train(getattr(args, name[0]), int(args.steps), args.seed, args.out)

    return outcome(work)
