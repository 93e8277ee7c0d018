"""The command line of the modules that draw one figure of docs/."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from inspo_benchmark.core.errors import CommandLine, outcome
from inspo_benchmark.plots.dataset_figures import write


def command(draw: Callable[[], Figure], module: str, description: str | None, default: Path) -> None:
    """`python -m tools.docs.MODULE [FILE]`: writes the figure to FILE, or to `default`."""
    options = CommandLine(prog=f"python -m tools.docs.{module}", description=description)
    options.add_argument("file", type=Path, nargs="?", default=default, help=f".png, .pdf or .svg (default: docs/{default.name})")
    target = options.parse_args().file
    sys.exit(outcome(partial(write, draw, target, dpi=300)))
