"""Datasets -> datasets/CARDS.md and a picture of the returns per scenario, from the data alone."""

import argparse
import sys
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from inspo_benchmark.core.atomic_io import atomic_write, write_errors
from inspo_benchmark.core.errors import outcome
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.catalog import BUILDERS, fetch, ready
from inspo_benchmark.datasets.dataset import Dataset, statistics
from inspo_benchmark.datasets.format import load
from inspo_benchmark.plots import style
from inspo_benchmark.plots.table_writers import MISSING, number

HERE = Path(__file__).parents[1] / "datasets"
BINS = 40
RARE = 0.01  # an action taken in fewer of the steps in which it is legal is not covered
COLOURS = {
    "random": "#5A5A5A",
    "medium": "#56B4E9",
    "medium_replay": "#CC79A7",
    "expert": "#D55E00",
    "mixed": "#009E73",
    "medium_expert": "#009E73",
}
HEAD = f"""# Datasets

Made by `python -m plots.dataset_cards` from the files that `python -m datasets build` makes. Returns are undiscounted sums of an episode's
rewards (matrix games: the mean per step). *Coverage* is the share of the pairs of an agent and an action, of those ever legal, that were
taken in at least {RARE:.0%} of the steps in which they were legal. *Content* is the start of the file's `content_sha256`.
"""
COLUMNS = ("task", "episodes", "steps", "return", "min .. max", "won", "length", "coverage", "behaviour", "content")


def write(tasks: list[Task], folder: Path = HERE) -> None:
    """`folder`/CARDS.md and `folder`/cards/<scenario>.png; datasets that are absent are built."""
    sections = [HEAD]
    with write_errors(folder / "cards"):
        (folder / "cards").mkdir(parents=True, exist_ok=True)
    for scenario in dict.fromkeys(style.scenario(task.name) for task in tasks):
        group = [task for task in tasks if style.scenario(task.name) == scenario]
        lines, returns = [], {}
        for task in group:
            d = load(fetch(task), task)
            lines.append(" | ".join(["", *row(d), ""]).strip())
            returns[task.quality] = d.scores
        file = scenario.replace(":", "-") + ".png"
        with matplotlib.rc_context(style.RC), atomic_write(folder / "cards" / file) as part:
            picture(scenario, returns).savefig(part, metadata={"Software": None})
        head = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
        sections.append("\n".join([f"## {scenario}", "", *head, *lines, "", f"![Returns on {scenario}](cards/{file})", ""]))
    with atomic_write(folder / "CARDS.md") as part:
        part.write_text("\n".join(sections))


def row(d: Dataset) -> list[str]:
    """A line of the table, in the order of COLUMNS."""
    s = statistics(d)
    return [
        d.meta["task"],
        f"{s['episodes']:,}",
        f"{s['steps']:,}",
        f"{number(s['return_mean'])} ± {number(s['return_std'], like=s['return_mean'])}",
        f"{number(s['return_min'])} .. {number(s['return_max'])}",
        f"{s['win_rate']:.1%}" if s["win_rate"] >= 0 else MISSING,
        number(s["length_mean"], 1),
        f"{coverage(d):.0%}" if d.meta["action_kind"] == "discrete" else MISSING,
        d.meta["behaviour"],
        f"`{d.meta['content_sha256'][:12]}`",
    ]


def coverage(d: Dataset) -> float:
    """Share of the pairs (agent, action) ever legal that were taken in at least RARE of the steps in which they were legal."""
    now = np.arange(d.steps) + np.repeat(np.arange(d.episodes), d.lengths)
    avail = sum(d.avail[rows].sum(0) for rows in np.array_split(now, 16))  # [N, A], in parts because a copy of all would be large
    agents, actions = avail.shape
    taken = np.bincount((d.actions + actions * np.arange(agents)).ravel(), minlength=avail.size).reshape(avail.shape)
    return float((taken >= RARE * avail)[avail > 0].mean())


def picture(scenario: str, returns: dict[str, np.ndarray]) -> Figure:
    """A histogram per quality, one below the other, on one axis of returns."""
    low, high = min(x.min() for x in returns.values()), max(x.max() for x in returns.values())
    edges = np.linspace(low, high + 1e-9 + 1e-6 * abs(high), BINS + 1)
    figure = Figure(figsize=(style.NARROW, 0.42 * len(returns) + 0.55), layout="constrained")
    panels = figure.subplots(len(returns), 1, sharex=True, squeeze=False)[:, 0]
    for panel, (quality, x) in zip(panels, returns.items(), strict=True):
        share = np.histogram(x, edges)[0] / len(x)
        colour = COLOURS.get(quality, COLOURS["medium"])
        panel.stairs(share, edges, fill=True, color=colour)
        panel.plot(x.mean(), 0, marker="^", color="black", markersize=4, clip_on=False, zorder=3)
        panel.set_ylim(0, share.max())
        panel.set_yticks([])
        panel.spines["left"].set_visible(False)
        panel.set_ylabel(quality, rotation=0, ha="right", va="center")
    panels[0].set_title(scenario, pad=4)
    panels[-1].set_xlabel("return (triangle: mean)")
    return figure


def main(argv: list[str] | None = None) -> int:
    argparse.ArgumentParser(prog="python -m plots.dataset_cards", description=__doc__).parse_args(argv)

    def work() -> None:
        write([task for task in TASKS.discover().values() if task.family in BUILDERS and ready(task)])

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
