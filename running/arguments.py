"""Types of command-line options. Each turns a text into a value, or raises ArgumentTypeError, which argparse reports with the option."""

import argparse
import itertools
import math
import re

MAX_SEEDS = 10_000


def seeds(text: str) -> tuple[int, ...]:
    """ "5" -> 0 to 4, "0-9" -> 0 to 9, "0,2,7" and "3," -> these. ArgumentTypeError for anything else."""
    try:
        if "," in text:
            values = tuple(int(x) for x in text.removesuffix(",").split(","))
        elif "-" in text:
            first, last = map(int, text.split("-"))
            values = range(first, last + 1)
        else:
            values = range(int(text))
        values = tuple(itertools.islice(values, MAX_SEEDS + 1))
        if not 0 < len(set(values)) == len(values) <= MAX_SEEDS or min(values) < 0 or max(values) >= 1 << 63:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r}: write 5 (for 0 to 4), 0-9, 0,2,7, or 3, (for 3 alone), at most {MAX_SEEDS} seeds"
        ) from None
    return values


def positive_int(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number above 0")
    return int(text)


def non_negative_int(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r}: write a whole number, 0 for none")
    return int(text)


def positive_float(text: str) -> float:
    try:
        value = float(text)
        if not 0 < value < math.inf:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number above 0") from None
    return value


def share(text: str) -> float:
    try:
        value = float(text)
        if not 0 < value <= 1:
            raise ValueError
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number above 0, at most 1") from None
    return value


def memory_size(text: str) -> float:
    """ "8G" or "500M" -> bytes."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([MG])i?B?", text)
    if not match or not float(match[1]):
        raise argparse.ArgumentTypeError(f"{text!r}: write 8G or 500M")
    return float(match[1]) * {"M": 2**20, "G": 2**30}[match[2]]
