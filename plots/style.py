"""Names, order and looks of methods, metrics, tasks and suites, shared by tables and figures. An algorithm needs no entry here."""

import hashlib
import itertools
import re
from collections.abc import Iterable
from functools import cache
from typing import NamedTuple

from inspo_benchmark.core import registry
from inspo_benchmark.running.presets import PRESETS


class Look(NamedTuple):
    label: str  # name in print
    color: str
    marker: str


class Suite(NamedTuple):
    """Tasks that share a table."""

    title: str
    backends: tuple[str, ...]  # beginnings of the names of the backends that run its tasks
    reference: str  # header of the column of returns whose normalized score is 100
    low: str  # the return whose normalized score is 0, in words
    high: str  # the return whose normalized score is 100


# In the order of the columns of tables. The palettes of Okabe and Ito and of Paul Tol, which color-blind readers can tell apart.
ALGORITHMS = {
    "bc": Look("BC", "#5A5A5A", "o"),
    "icq": Look("ICQ", "#56B4E9", "v"),
    "omar": Look("OMAR", "#CC79A7", "^"),
    "cfcql": Look("CFCQL", "#009E73", "s"),
    "omiga": Look("OMIGA", "#0072B2", "D"),
    "iql": Look("MA-IQL", "#332288", "<"),
    "alberdice": Look("AlberDICE", "#E69F00", "X"),
    "comadice": Look("ComaDICE", "#882255", ">"),
    "flow_bc": Look("Flow BC", "#999933", "p"),
    "macflow": Look("MAC-Flow", "#661100", "h"),
    "oryx": Look("Oryx", "#44AA99", "d"),
    "inspo": Look("InSPO", "#D55E00", "P"),
}
OTHER_COLORS, OTHER_MARKERS = ("#117733", "#AA4499", "#DDCC77"), ("<", ">", "p", "h")  # colors of Paul Tol
METRICS = {  # what is measured, and for which policies
    "return": ("return", "greedy policies"),
    "return_sampled": ("return", "sampled actions"),
    "win_rate": ("win rate", "greedy policies"),
    "win_rate_sampled": ("win rate", "sampled actions"),
}
RANDOM = "the mean return of uniformly random actions"
SUITES = {
    "games": Suite("Games", ("matrix", "bridge"), "optimum", RANDOM, "the optimal return"),
    "smac": Suite("SMAC (simulator)", ("smac-",), "maximum", RANDOM, "20, the return of a battle won while no enemy heals"),
    "smacv2": Suite("SMACv2 (simulator)", ("smacv2-",), "maximum", RANDOM, "20, the return of a battle won while no enemy heals"),
    "starcraft": Suite("SMAC (StarCraft II)", ("sc2",), "maximum", "a return of 0", "20, the return of a battle won while no enemy heals"),
    "mujoco": Suite("MuJoCo", ("mujoco",), "expert", RANDOM, "the mean return of the expert policy"),
}
SHARED_BUDGET = {"smac", "smacv2", "starcraft", "mujoco"}  # suites whose methods have the same number of updates
TITLE_WIDTH = 18  # characters that fit above a panel
NARROW, WIDE = 3.3, 6.9  # inches: one and two columns of a paper
RC = {
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",  # part of matplotlib: figures are the same on every machine
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
    "lines.markersize": 4,
    "lines.markeredgewidth": 0,
    "savefig.dpi": 220,
}
RC_PLAIN_TEXT = RC | {"text.parse_math": False}  # for names from files, which may contain dollar signs


@cache
def autoregressive() -> frozenset[str]:
    """The registered methods whose agents act in order and are told earlier actions; tables do not compare them with the others. UserError:
    a method's file cannot be imported."""
    return frozenset(name for name, method in registry.ALGORITHMS.discover().items() if method.execution == "autoregressive")


def algorithm(name: str) -> Look:
    """Label, color and marker; a * in the label marks autoregressive execution. Those of an algorithm without an entry depend on its name
    alone."""
    color, marker = hashlib.sha256(name.encode()).digest()[:2]
    other = Look(name.upper(), OTHER_COLORS[color % len(OTHER_COLORS)], OTHER_MARKERS[marker % len(OTHER_MARKERS)])
    look = ALGORITHMS.get(name, other)
    return look._replace(label=look.label + "*" * (name in autoregressive()))


def execution_note(names: Iterable[str]) -> str:
    """A sentence for captions if there are methods among these that do not execute independently; else empty."""
    if not autoregressive() & set(names):
        return ""
    return " *: autoregressive execution (agents act in order and know the earlier actions)."


def suite_of(backend: str) -> str:
    """The suite of a backend's tasks (`matrix-1` -> `games`). An unknown backend is a suite of its own."""
    known = [name for name, suite in SUITES.items() if backend.lower().startswith(suite.backends)]
    return known[0] if known else re.match(r"\w*", backend)[0].lower() or "other"


def suite(name: str) -> Suite:
    """What is known of a suite."""
    return SUITES.get(name) or Suite(name, (), "reference", "the lower reference return", "the upper one")


def order_suites(names: Iterable[str]) -> list[str]:
    """Every name once, known suites first."""
    return sorted(set(names), key=lambda name: (list(SUITES).index(name) if name in SUITES else len(SUITES), name))


def order(names: Iterable[str]) -> list[str]:
    """Every name once: known algorithms first, in the order above, then the others with numbers by size (3m before 10m)."""
    known = list(ALGORITHMS)
    numbers = {name: [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)] for name in names}
    return sorted(numbers, key=lambda name: (known.index(name) if name in known else len(known), numbers[name]))


def scenario(task: str) -> str:
    """`5m_vs_6m-expert` -> `5m_vs_6m`."""
    return task.rpartition("-")[0] or task


def by_scenario(tasks: Iterable[str]) -> list[list[str]]:
    """Tasks in the given order, split where the scenario changes."""
    return [list(group) for _, group in itertools.groupby(tasks, scenario)]


def panel_title(task: str) -> str:
    """The name of a task above a panel, in two lines if one line would run into the next panel."""
    return task if len(task) <= TITLE_WIDTH else "-\n".join(task.rsplit("-", 1))


def preset_label(preset: str) -> str:
    return f"preset {preset}: {PRESETS[preset].variant}" if preset in PRESETS else f"preset {preset}"


def preset_note(preset: str) -> str:
    """A sentence for captions of runs with a preset's settings; empty for runs without a preset."""
    what = "shared settings" if preset in PRESETS and PRESETS[preset].settings else "full budget"
    return f" {preset_label(preset).capitalize()}; not the benchmark's {what}." if preset else ""
