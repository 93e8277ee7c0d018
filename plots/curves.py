"""Figures with a panel per task, on several pages if necessary: learning curves and the scores of single runs. And sample efficiency."""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from inspo_benchmark.plots import load, stats, style

COLUMNS, ROWS = 4, 6  # panels of a page
MARKERS = 4  # of a curve, about
BAND = dict(alpha=0.2, linewidth=0, zorder=2)
DATA_LINE = dict(color="0.45", linestyle=(0, (1, 1.5)), linewidth=1.0, zorder=1)
REFERENCE_LINE = dict(color="0.45", linestyle=(0, (4, 2)), linewidth=0.9, zorder=1)
LEGEND = 0.45  # inches of a figure's height that a legend may take from it


def learning_curves(frame: pd.DataFrame, metric: str) -> Iterator[Figure]:
    """Mean over seeds with a 95% bootstrap band, over updates. The tasks of a scenario share the limits of the y axis."""
    algos = style.order(frame.algo.unique())
    references, data_mean = load.references(frame), load.per_task(frame, "data_mean")
    tasks = dict(iter(frame[frame.metric == metric].groupby("task", observed=True)))
    for figure, panels in _pages(frame, 1.35):
        for task, panel in panels.items():
            if task in tasks:
                sns.lineplot(
                    tasks[task],
                    x="step",
                    y="value",
                    hue="algo",
                    style="algo",
                    hue_order=algos,
                    style_order=algos,
                    palette={algo: style.algorithm(algo).color for algo in algos},
                    markers={algo: style.algorithm(algo).marker for algo in algos},
                    dashes=False,
                    markevery=max(1, tasks[task].groupby("algo", observed=True).step.nunique().max() // MARKERS),
                    markeredgewidth=0,  # seaborn draws white edges otherwise
                    zorder=3,
                    errorbar=partial(stats.mean_interval, resamples=stats.CURVE_RESAMPLES),
                    err_kws=BAND,
                    legend=False,
                    ax=panel,
                )
            panel.axhline(data_mean[task], **DATA_LINE)
            panel.axhline(references[task][1], **REFERENCE_LINE)
            panel.set(xlabel="", ylabel="")
            panel.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
            panel.xaxis.set_major_formatter(EngFormatter(sep=""))
            panel.yaxis.set_major_locator(MaxNLocator(4))
        _share_limits(panels, "y")
        figure.supxlabel("updates", fontsize=7.5)
        figure.supylabel(", ".join(style.METRICS[metric]), fontsize=7.5)
        legend(figure, [*map(curve_handle, algos), *_reference_handles(frame)])
        yield figure


def run_scores(frame: pd.DataFrame, metric: str) -> Iterator[Figure]:
    """The final score of every run as a dot, shifted so that no dot hides another, and their mean as a bar. The tasks of a scenario share
    the limits of the x axis."""
    algos = style.order(frame.algo.unique())[::-1]
    references, data_mean = load.references(frame), load.per_task(frame, "data_mean")
    scores = stats.final_scores(frame, metric, "last")
    runs = {key: x.to_numpy() for key, x in scores.groupby(["task", "algo"], observed=True)}
    for figure, panels in _pages(frame, 0.11 * len(algos) + 0.4, legend_lines=1):
        for task, panel in panels.items():
            for y, algo in enumerate(algos):
                if (task, algo) in runs:
                    x, color = runs[task, algo], style.algorithm(algo).color
                    shifts = np.linspace(-0.28, 0.28, len(x)) if len(x) > 1 else np.zeros(1)
                    panel.plot(x, y + shifts, linestyle="", marker="o", markersize=2, color=color, alpha=0.6)
                    panel.plot([x.mean()] * 2, [y - 0.42, y + 0.42], color=color, linewidth=1.4)
            panel.axvline(data_mean[task], **DATA_LINE)
            panel.axvline(references[task][1], **REFERENCE_LINE)
            panel.set_yticks(range(len(algos)), [style.algorithm(algo).label for algo in algos])
            panel.set_ylim(-0.6, len(algos) - 0.4)
            panel.tick_params(axis="y", length=0, labelsize=6)
            panel.xaxis.set_major_locator(MaxNLocator(4))
        _share_limits(panels, "x")
        for panel in panels.values():
            if not panel.get_subplotspec().is_first_col():
                panel.set_yticklabels([])
        figure.supxlabel(", ".join(style.METRICS[metric]), fontsize=7.5)
        legend(figure, _reference_handles(frame))
        yield figure


def sample_efficiency(frame: pd.DataFrame, metric: str) -> Figure:
    """IQM of the normalized scores of all tasks with its 95% band, over the share of a run's updates."""
    table = stats.sample_efficiency(frame, metric, load.references(frame))
    algos = style.order(table.algo.unique())
    figure = Figure(figsize=(style.NARROW, 2.3), layout="constrained")
    panel = figure.subplots()
    for algo in algos:
        rows = table[table.algo == algo]
        curve_with_band(panel, algo, 100 * rows.share, rows.value, rows.low, rows.high)
    panel.set_xlabel("share of the updates, %")
    panel.set_ylabel("IQM of normalized {}\n({})".format(*style.METRICS[metric]))
    legend(figure, list(map(curve_handle, algos)))
    return figure


def curve_with_band(panel: Axes, algo: str, x, value, low, high, first_marker: int = 0) -> None:
    """A curve whose interval is known, which seaborn does not draw."""
    look = style.algorithm(algo)
    markers = (first_marker, max(1, len(x) // MARKERS))
    panel.plot(x, value, color=look.color, marker=look.marker, markevery=markers, zorder=3)
    panel.fill_between(x, low, high, color=look.color, **BAND)


def curve_handle(algo: str) -> Line2D:
    look = style.algorithm(algo)
    return Line2D([], [], color=look.color, marker=look.marker, label=look.label)


def legend(figure: Figure, handles: list[Line2D]) -> None:
    """A legend above the panels, in lines of about equal length that fit the figure, which grows for a high one."""
    if not handles:
        return
    wide = figure.get_figwidth() == style.WIDE
    for lines in range(-(-len(handles) // (8 if wide else 4)), len(handles) + 1):
        drawn = figure.legend(
            handles=handles, loc="outside upper center", ncols=-(-len(handles) // lines), frameon=False, handlelength=2.2, columnspacing=1.2
        )
        if drawn.get_window_extent().width <= figure.bbox.width or lines == len(handles):
            break
        drawn.remove()
    higher = drawn.get_window_extent().height / figure.dpi - LEGEND
    figure.set_figheight(figure.get_figheight() + max(0.0, higher))


def _reference_handles(frame: pd.DataFrame) -> list[Line2D]:
    reference = style.suite(frame.suite.iloc[0]).reference
    return [Line2D([], [], label="dataset mean", **DATA_LINE), Line2D([], [], label=reference, **REFERENCE_LINE)]


def _pages(frame: pd.DataFrame, height: float, legend_lines: int = 2) -> Iterator[tuple[Figure, dict[str, Axes]]]:
    """Figures with panels `height` inches high, and the panel of each task."""
    tasks = style.order(frame.task.unique())
    pages = -(-len(tasks) // (COLUMNS * ROWS))
    size = -(-len(tasks) // pages)
    size += -size % COLUMNS if pages > 1 else 0
    for page in (tasks[k : k + size] for k in range(0, len(tasks), size)):
        columns = min(COLUMNS, len(page))
        rows = -(-len(page) // columns)
        width = style.WIDE if columns > 2 else style.NARROW
        figure = Figure(figsize=(width, height * rows + 0.3 + 0.15 * legend_lines * (1 if columns > 2 else 1.5)), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for panel, task in zip(panels, page):
            panel.set_title(style.panel_title(task), pad=3)
        for panel in panels[len(page) :]:
            panel.set_axis_off()
        yield figure, dict(zip(page, panels))


def _share_limits(panels: dict[str, Axes], axis: str) -> None:
    """The limits of an axis ("x" or "y") for the tasks of a scenario: what is drawn, reference lines included, and a margin of 6%."""
    k = "xy".index(axis)
    for tasks in style.by_scenario(panels):
        group: Iterable[Axes] = [panels[task] for task in tasks]
        low, high = min(panel.dataLim.min[k] for panel in group), max(panel.dataLim.max[k] for panel in group)
        margin = 0.06 * (high - low) or 0.5
        for panel in group:
            panel.set(**{f"{axis}lim": (low - margin, high + margin)})
