"""Options of the commands in this folder."""

import argparse

import pandas as pd

from inspo_benchmark.core.errors import CommandLine, UserError
from inspo_benchmark.core.registry import suggest
from inspo_benchmark.plots.style import METRICS

COMPARED = "inspo"  # the default of --of


def parser(module: str, description: str, selection: bool = True) -> argparse.ArgumentParser:
    """The options that tables, figures and the report have in common. `selection`: those for a part of the runs too (--algo, --env,
    --draft)."""
    options = CommandLine(prog=f"python -m {module}", description=description)
    options.add_argument("--out", default="results", help="results folder, which holds runs/ (default: %(default)s)")
    if selection:
        options.add_argument("--algo", nargs="+", default=["*"], metavar="NAME", help="only these methods, names or globs (default: all)")
        options.add_argument("--env", nargs="+", default=["*"], metavar="TASK", help="only these tasks, names or globs (default: all)")
        options.add_argument("--draft", action="store_true", help="accept missing runs; tables print -- in their place")
    options.add_argument("--metric", nargs="+", choices=METRICS, default=list(METRICS), help="default: every metric of the runs")
    return options


def selects(args: argparse.Namespace) -> bool:
    """Whether the output is restricted to some methods or tasks."""
    return args.algo != ["*"] or args.env != ["*"]


def add_method(options: argparse.ArgumentParser) -> None:
    """The option --of of figures and the report."""
    options.add_argument("--of", default=COMPARED, metavar="METHOD", help=f"method to compare with the others (default: {COMPARED})")


def check_method(of: str, frame: pd.DataFrame) -> None:
    """UserError: the method of --of was named but has no runs."""
    algos = frame.algo.unique().tolist()
    if of not in algos and of != COMPARED:
        raise UserError(f"--of {of}: no such method among the runs; {suggest(of, algos)}")
