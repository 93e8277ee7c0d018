"""What both trainers of behavior policies share: when they save policies, and their command line."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path

from inspo_benchmark.core.env import checked_seeds
from inspo_benchmark.core.errors import CommandLine, UserError, outcome

FIRST_SAVE, GROWTH = 10_000, 1.5  # steps of the first save after step 0, and the ratio of successive early saves


def save_steps(total: int, parts: int) -> list[int]:
    """Steps at which policies are saved: 0, then at growing distances, then at `parts` equal distances up to `total`."""
    early = [0, *(int(FIRST_SAVE * GROWTH**k) for k in range(100) if FIRST_SAVE * GROWTH**k < total / parts)]
    return early + [round(total * k / parts) for k in range(1, parts + 1)]


def command(
    train: Callable[[str, int, int, Path], None],
    argv: list[str] | None,
    *,
    module: str,
    description: str,
    name: tuple[str, str],  # of the first argument, and its help
    steps: float,  # default
    examples: str,
) -> int:
    """`python -m module NAME --steps N --out FOLDER --seed K`: calls train(name, steps, seed, folder) and returns the exit code."""
    plain = argparse.RawDescriptionHelpFormatter
    p = CommandLine(prog=f"python -m {module}", description=description, epilog=examples, formatter_class=plain)
    p.add_argument(name[0], metavar=name[0].upper(), help=name[1])
    p.add_argument("--steps", type=float, default=steps, metavar="N", help="environment steps (default: %(default).0e)")
    p.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for the policies")
    p.add_argument("--seed", type=int, default=0, metavar="K", help="seed of the networks and the episodes (default: 0)")
    args = p.parse_args(argv)

    def work() -> None:
        if not 1 <= args.steps < math.inf:
            raise UserError(f"--steps {args.steps:g}: should be a number from 1 on")
        checked_seeds([args.seed], 1)
        if args.seed >= 2**63:
            raise UserError(f"--seed {args.seed}: the largest one is 2^63 - 1, as policies store it in 64 bits with a sign")
        train(getattr(args, name[0]), int(args.steps), args.seed, args.out)

    return outcome(work)
