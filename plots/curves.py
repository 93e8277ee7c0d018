"""Figures with a panel per task: learning curves and the scores of single runs. Many tasks make several pages."""

from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from inspo_benchmark.plots import load, stats, style

COLUMNS, LINES = 4, 6  # panels of a page
DATA = dict(color="0.45", linestyle=(0, (1, 1.5)), linewidth=1.0)
BEST = dict(color="0.45", linestyle=(0, (4, 2)), linewidth=0.9)
REFERENCES = [Line2D([], [], label="dataset mean", **DATA), Line2D([], [], label="best known", **BEST)]


def curves(frame: pd.DataFrame, metric: str) -> Iterator[Figure]:
    """Mean over seeds with a 95 % bootstrap band, over updates. Tasks of one scenario are neighbours and share their limits."""
    algos, mean, best = _about(frame)
    mine = {cell: runs for cell, runs in frame[frame.metric == metric].groupby(["task", "algo"], observed=True)}
    for figure, panels in _pages(frame, 1.35):
        for task, panel in panels.items():
            for algo in algos:
                if (task, algo) in mine:
                    _curve(panel, mine[task, algo], algo)
            panel.axhline(mean[task], zorder=1, **DATA)
            panel.axhline(best[task], zorder=1, **BEST)
            panel.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2.5, 5, 10]))
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))
            panel.yaxis.set_major_locator(MaxNLocator(4))
        _share_limits(panels)
        figure.supxlabel("updates", fontsize=7.5)
        figure.supylabel(", ".join(style.METRICS[metric]), fontsize=7.5)
        legend(figure, [*map(handle, algos), *REFERENCES])
        yield figure


def scores(frame: pd.DataFrame, metric: str) -> Iterator[Figure]:
    """The final score of every run, a dot each, with their mean; dots that would hide each other are moved apart."""
    algos, mean, best = _about(frame)
    algos = algos[::-1]
    final = stats.final(frame, metric, "last")
    mine = {cell: x.to_numpy() for cell, x in final.groupby(["task", "algo"], observed=True)}
    for figure, panels in _pages(frame, 0.11 * len(algos) + 0.4, legend_lines=1):
        for task, panel in panels.items():
            for place, algo in enumerate(algos):
                if (task, algo) in mine:
                    x, (_, colour, _) = mine[task, algo], style.algorithm(algo)
                    apart = np.linspace(-0.28, 0.28, len(x)) if len(x) > 1 else np.zeros(1)
                    panel.plot(x, place + apart, linestyle="", marker="o", markersize=2, color=colour, alpha=0.6, markeredgewidth=0)
                    panel.plot([x.mean()] * 2, [place - 0.42, place + 0.42], color=colour, linewidth=1.4)
            panel.axvline(mean[task], zorder=1, **DATA)
            panel.axvline(best[task], zorder=1, **BEST)
            panel.set_yticks(range(len(algos)), [style.algorithm(algo)[0] for algo in algos])
            panel.set_ylim(-0.6, len(algos) - 0.4)
            panel.tick_params(axis="y", length=0, labelsize=6)
            panel.xaxis.set_major_locator(MaxNLocator(4))
        for panel in panels.values():
            if not panel.get_subplotspec().is_first_col():
                panel.set_yticklabels([])
        figure.supxlabel(", ".join(style.METRICS[metric]), fontsize=7.5)
        legend(figure, REFERENCES)
        yield figure


def efficiency(frame: pd.DataFrame, metric: str) -> Figure:
    """IQM of the normalised scores of all tasks with its 95 % band, over the share of a run's updates that were done."""
    table = stats.efficiency(frame, metric, load.references(frame))
    algos = style.order(table.algo.unique())
    figure = Figure(figsize=(style.NARROW, 2.3), layout="constrained")
    panel = figure.subplots()
    for algo in algos:
        _, colour, marker = style.algorithm(algo)
        mine = table[table.algo == algo]
        panel.plot(100 * mine.share, mine.value, color=colour, marker=marker, markevery=max(1, len(mine) // 4), zorder=3)
        panel.fill_between(100 * mine.share, mine.low, mine.high, color=colour, alpha=0.2, linewidth=0, zorder=2)
    panel.set_xlabel("updates done, % of a run's")
    panel.set_ylabel("IQM of normalised {}\n({})".format(*style.METRICS[metric]))
    legend(figure, list(map(handle, algos)))
    return figure


def handle(algo: str) -> Line2D:
    name, colour, marker = style.algorithm(algo)
    return Line2D([], [], color=colour, marker=marker, label=name)


def legend(figure: Figure, handles: list[Line2D]) -> None:
    """Above the panels, in lines of about the same length."""
    if not handles:
        return
    wide = figure.get_figwidth() == style.WIDE
    lines = -(-len(handles) // (8 if wide else 4))
    figure.legend(
        handles=handles, loc="outside upper center", ncols=-(-len(handles) // lines), frameon=False, handlelength=2.2, columnspacing=1.2
    )


def _about(frame: pd.DataFrame) -> tuple[list[str], dict[str, float], dict[str, float]]:
    """The algorithms; task -> score of the dataset and of the best known policy."""
    return style.order(frame.algo.unique()), load.per_task(frame, "data_mean"), load.per_task(frame, "best")


def _pages(frame: pd.DataFrame, height: float, legend_lines: int = 2) -> Iterator[tuple[Figure, dict[str, Axes]]]:
    """Figures of panels `height` inches high, and the panel of each task."""
    tasks = style.order(frame.task.unique())
    pages = -(-len(tasks) // (COLUMNS * LINES))
    size = -(-len(tasks) // pages)
    size += -size % COLUMNS if pages > 1 else 0
    for some in (tasks[k : k + size] for k in range(0, len(tasks), size)):
        columns = min(COLUMNS, len(some))
        lines = -(-len(some) // columns)
        width = style.WIDE if columns > 2 else style.NARROW
        figure = Figure(figsize=(width, height * lines + 0.3 + 0.15 * legend_lines * (1 if columns > 2 else 1.5)), layout="constrained")
        panels = figure.subplots(lines, columns, squeeze=False).ravel()
        for panel, task in zip(panels, some):
            panel.set_title(style.title(task), pad=3)
        for panel in panels[len(some) :]:
            panel.set_axis_off()
        yield figure, dict(zip(some, panels))


def _curve(panel: Axes, runs: pd.DataFrame, algo: str) -> None:
    _, colour, marker = style.algorithm(algo)
    values = runs.pivot(index="step", columns="seed", values="value")
    low, high = stats.interval([values.to_numpy()], np.mean, stats.rng(), stats.DRAWN)  # resamples whole runs, not points
    panel.plot(values.index, values.mean(axis=1), color=colour, marker=marker, markevery=max(1, len(values) // 4), zorder=3)
    panel.fill_between(values.index, low, high, color=colour, alpha=0.2, linewidth=0, zorder=2)


def _share_limits(panels: dict[str, Axes]) -> None:
    """What was drawn, with the reference lines, and 6 % of air."""
    for tasks in style.grouped(panels):
        group: Iterable[Axes] = [panels[task] for task in tasks]
        low, high = min(panel.dataLim.y0 for panel in group), max(panel.dataLim.y1 for panel in group)
        air = 0.06 * (high - low) or 0.5
        for panel in group:
            panel.set_ylim(low - air, high + air)
