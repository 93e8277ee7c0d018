"""How things are called, ordered and coloured, in tables and figures alike. An algorithm needs no entry here; an entry fixes its looks."""

import hashlib
import itertools
import re
from collections.abc import Iterable

from inspo_benchmark.running.presets import PRESETS

# name in print, colour, marker; the order of the table's columns. Okabe and Ito's palette, distinct for colour-blind readers.
ALGORITHMS = {
    "bc": ("BC", "#5A5A5A", "o"),
    "icq": ("ICQ", "#56B4E9", "v"),
    "omar": ("OMAR", "#CC79A7", "^"),
    "cfcql": ("CFCQL", "#009E73", "s"),
    "omiga": ("OMIGA", "#0072B2", "D"),
    "iql": ("MA-IQL", "#332288", "<"),
    "alberdice": ("AlberDICE", "#E69F00", "X"),
    "inspo": ("InSPO", "#D55E00", "P"),
}
SPARE = [("#882255", ">"), ("#999933", "p"), ("#661100", "h"), ("#44AA99", "d")]  # after Tol
METRICS = {  # what is measured, and of whom
    "return": ("return", "greedy policies"),
    "return_sampled": ("return", "sampled actions"),
    "win_rate": ("win rate", "greedy policies"),
}
SUITES = {  # what is shown in one table -> the beginnings of the backends that play its tasks
    "games": ("matrix", "bridge"),
    "smac": ("smac",),
    "starcraft": ("sc2",),
    "mujoco": ("mujoco",),
}
TITLES = {"games": "Games", "smac": "SMAC (simulator)", "starcraft": "SMAC (StarCraft II)", "mujoco": "MuJoCo"}
TITLE = 18  # characters that fit over a panel
NARROW, WIDE = 3.3, 6.9  # inches: one and two columns of a paper
RC = {
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same picture on every machine
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "lines.markersize": 3,
    "savefig.dpi": 220,
}

WORDS = RC | {"text.parse_math": False}  # where names come from files: they are not formulas


def algorithm(name: str) -> tuple[str, str, str]:
    """Name in print, colour, marker. Unknown ones get theirs from their name alone, whoever else is in the figure."""
    digest = hashlib.sha256(name.encode()).digest()
    return ALGORITHMS.get(name) or (name.upper(), *SPARE[digest[0] % len(SPARE)])


def suite(backend: str) -> str:
    """The suite of the tasks that a backend plays, told by its name (`matrix-1` -> `games`); unknown ones are suites of their own."""
    known = [name for name, beginnings in SUITES.items() if backend.lower().startswith(beginnings)]
    return known[0] if known else re.match(r"\w*", backend)[0].lower() or "other"


def order_suites(names: Iterable[str]) -> list[str]:
    """Each once, known ones first."""
    return sorted(set(names), key=lambda name: (list(SUITES).index(name) if name in SUITES else len(SUITES), name))


def order(names: Iterable[str]) -> list[str]:
    """Each once: known algorithms first, in the order above, then the rest with numbers by size (3m before 10m)."""
    known = list(ALGORITHMS)
    numbers = {name: [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)] for name in names}
    return sorted(numbers, key=lambda name: (known.index(name) if name in known else len(known), numbers[name]))


def grouped(tasks: Iterable[str]) -> list[list[str]]:
    """Tasks in order, those of a scenario together."""
    return [list(group) for _, group in itertools.groupby(tasks, scenario)]


def title(task: str) -> str:
    """A task over a panel: in two lines where one would run into the next panel's."""
    return task if len(task) <= TITLE else "-\n".join(task.rsplit("-", 1))


def short(preset: str) -> str:
    """A preset in a few words."""
    return f"preset {preset}: {PRESETS[preset].about}" if preset in PRESETS else f"preset {preset}"


def preset(name: str) -> str:
    """What a caption says of runs that were made with less than the benchmark's budget; empty for the others."""
    return f" {short(name).capitalize()}; not the benchmark's full budget." if name else ""


def scenario(task: str) -> str:
    """`5m_vs_6m-expert` -> `5m_vs_6m`."""
    return task.rpartition("-")[0] or task
