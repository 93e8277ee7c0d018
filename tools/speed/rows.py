"""The rows of bench.csv: writing, reading, and comparing them with earlier ones."""

import csv
import sys
from datetime import datetime
from pathlib import Path

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import UserError

OUT = Path("results/bench.csv")
TOLERANCE = 0.3  # share of an earlier speed that may be lost

Row = tuple[str, float, str]  # name, value, unit


def read(path: Path) -> list[Row]:
    """The rows of a bench.csv. UserError: there is no such file, or it is not one."""
    try:
        with path.open(newline="") as file:
            rows = [(row["name"], float(row["value"]), row["unit"]) for row in csv.DictReader(file)]
        relative_speeds(rows)
        return rows
    except (OSError, KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, csv.Error) as e:
        raise UserError(f"{path} is not a file of speeds: {e}") from None


def slower(rows: list[Row], earlier: list[Row]) -> list[str]:
    """A line for each speed in both, with the same unit, that fell by more than TOLERANCE. Times and rates are taken in units of the
    matrix product rate."""
    units = {(name, unit) for name, _, unit in rows}
    now, before = relative_speeds(rows), relative_speeds([row for row in earlier if (row[0], row[2]) in units])
    return [
        f"{name}: {now[name] / speed:.2f} of the earlier speed" for name, speed in before.items() if now[name] < (1 - TOLERANCE) * speed
    ]


def times_omiga(rows: list[Row]) -> list[Row]:
    """Times of updates and of acting divided by OMIGA's in the same rows, if OMIGA is among the methods."""
    seconds = {name: value for name, value, unit in rows if unit in ("ms", "us per step") and "/omiga/" in name}
    found = []
    for name, value, _ in rows:
        kind, _, rest = name.partition("/")
        same = f"{kind}/omiga/{rest.partition('/')[2]}"
        if kind in ("update", "act") and same in seconds and name != same:
            found.append((f"{name}/omiga", value / seconds[same], "times OMIGA"))
    return found


def relative_speeds(rows: list[Row]) -> dict[str, float]:
    """The rows that are speeds or costs, as speeds that do not depend on the machine's: name -> speed, the greater the better."""
    products = dict((name, value) for name, value, _ in rows).get("products", 1.0)
    speeds = {}
    for name, value, unit in rows:
        if unit in ("s", "ms", "us per step", "us per transition"):
            speeds[name] = 1 / (value * products)
        elif unit in ("steps/s", "MB/s"):
            speeds[name] = value / products
        elif unit.startswith("times "):
            speeds[name] = 1 / value
        elif unit.startswith(("of the rate ", "of the matrix product rate")):
            speeds[name] = value
    return speeds


def write(rows: list[Row], out: Path) -> None:
    """Print the rows and write them to a file."""
    print(*(f"{name:52} {value:10.3f} {unit}" for name, value, unit in rows), sep="\n")
    out.parent.mkdir(exist_ok=True)
    with atomic_write(out) as part, part.open("w", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["name", "value", "unit"])
        table.writerows((name, f"{value:.4g}", unit) for name, value, unit in rows)


def progress(part: str) -> None:
    """What is measured now, with the time of day."""
    print(f"{datetime.now():%H:%M:%S} {part}", file=sys.stderr, flush=True)
