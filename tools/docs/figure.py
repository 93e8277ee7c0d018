"""The command line of the modules that draw one figure of docs/."""

import argparse
from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.plots import style


def command(draw: Callable[[], Figure], module: str, description: str | None, default: Path) -> None:
    """`python -m tools.docs.MODULE [FILE]`: writes the figure to FILE, or to `default`."""
    options = argparse.ArgumentParser(prog=f"python -m tools.docs.{module}", description=description)
    options.add_argument("file", type=Path, nargs="?", default=default, help=f".png or .pdf (default: docs/{default.name})")
    target = options.parse_args().file
    with matplotlib.rc_context(style.RC), atomic_write(target) as path:
        draw().savefig(path, metadata={"CreationDate": None} if target.suffix == ".pdf" else {"Software": None}, dpi=300)
