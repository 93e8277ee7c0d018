"""Generators of pages. Each is a command without options."""

import argparse

from inspo_benchmark.core.errors import CommandLine


def parse_no_options(module: str, text: str) -> None:
    """Print the help on --help, and refuse other arguments. `text`: the docstring of the module."""
    title, _, more = text.partition("\n\n")
    form = argparse.RawDescriptionHelpFormatter
    CommandLine(prog=f"python -m tools.docs.{module}", description=title, epilog=more, formatter_class=form).parse_args()
