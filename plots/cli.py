"""What the command lines share: the options, and how a mistake ends."""

import argparse
from collections.abc import Callable

from inspo_benchmark.core.errors import UserError, outcome
from inspo_benchmark.plots.style import METRICS


def parser(module: str, description: str, draft: bool = True) -> argparse.ArgumentParser:
    """Options of everything that is made from rows."""
    options = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    options.add_argument("--out", default="results", help="folder that holds runs/ (default: %(default)s)")
    if draft:
        options.add_argument("--draft", action="store_true", help="show what is there although runs are missing")
    options.add_argument("--metric", nargs="+", choices=METRICS, default=list(METRICS), help="default: all that the runs have")
    return options


def run(work: Callable[[], None]) -> int:
    """Exit code: 0, or 2 with one line on stderr for a mistake in the input or a folder that cannot be written."""

    def told() -> None:
        try:
            work()
        except BrokenPipeError:
            raise
        except OSError as e:
            raise UserError(str(e)) from None

    return outcome(told)
