"""The command line of the modules that draw one figure of docs/."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.plots import style


def command(draw: Callable[[], Figure], module: str, description: str | None, default: Path) -> None:
    """`python -m tools.docs.MODULE [FILE]`: writes the figure to FILE, or to `default`."""
    options = CommandLine(prog=f"python -m tools.docs.{module}", description=description)
    options.add_argument("file", type=Path, nargs="?", default=default, help=f".png or .pdf (default: docs/{default.name})")
    target = options.parse_args().file
    sys.exit(outcome(partial(write, draw, target)))


def write(draw: Callable[[], Figure], target: Path) -> None:
    """UserError: another kind of file, or it cannot be written."""
    if target.suffix not in (".png", ".pdf"):
        raise UserError(f"{target}: name a .png or .pdf file")
    with matplotlib.rc_context(style.RC), atomic_write(target) as path:
        draw().savefig(path, metadata={"CreationDate": None} if target.suffix == ".pdf" else {"Software": None}, dpi=300)
