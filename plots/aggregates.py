"""Figures that compare methods over all tasks of a suite."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from inspo_benchmark.plots import load, stats, style
from inspo_benchmark.plots.curves import handle, legend
from inspo_benchmark.plots.tables import ablated

LEVELS = 101  # points of a profile
LOWEST = -50.0  # below which a profile is not drawn
LABEL = 24  # letters in a line of a variant's name
QUALITIES = ("random", "medium_replay", "medium", "mixed", "medium_expert", "expert")


def aggregate(frame: pd.DataFrame, metric: str) -> Figure:
    """IQM of the final normalised scores with its 95 % stratified bootstrap interval, a line per algorithm."""
    table = stats.aggregate(stats.final(frame, metric, "last"), load.references(frame)).set_index("algo")
    figure, panel = _lines(table)
    panel.set_xlim(min(0, panel.dataLim.x0) - 2, max(100, panel.dataLim.x1) + 2)
    panel.set_xlabel("IQM of normalised {}, {}".format(*style.METRICS[metric]))
    return figure


def improvement(frame: pd.DataFrame, metric: str, of: str) -> Figure:
    """Probability that a run of `of` is better than one of each other algorithm, mean over tasks, with its 95 % interval."""
    figure, panel = _lines(stats.improvement(stats.final(frame, metric, "last"), of).set_index("algo"))
    panel.axvline(0.5, color="0.3", linewidth=0.8, linestyle=(0, (4, 2)))
    panel.set_xlim(-0.02, 1.02)
    panel.set_xlabel("P({} is better), {}, {}".format(style.algorithm(of)[0], *style.METRICS[metric]))
    return figure


def _lines(table: pd.DataFrame) -> tuple[Figure, Axes]:
    """A line for each algorithm of the index, with columns value, low, high."""
    algos = style.order(table.index)[::-1]
    figure = Figure(figsize=(style.NARROW, 0.22 * len(algos) + 0.55), layout="constrained")
    panel = figure.subplots()
    for place, algo in enumerate(algos):
        _, colour, marker = style.algorithm(algo)
        row = table.loc[algo]
        panel.barh(place, row.high - row.low, left=row.low, height=0.55, color=colour, alpha=0.3, linewidth=0)
        panel.plot(row.value, place, color=colour, marker=marker, markersize=4.5)
    panel.set_yticks(range(len(algos)), [style.algorithm(algo)[0] for algo in algos])
    panel.set_ylim(-0.6, len(algos) - 0.4)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", linewidth=0.4, color="0.85")
    panel.set_axisbelow(True)
    return figure, panel


def profiles(frame: pd.DataFrame, metric: str) -> Figure:
    """The share of all runs whose final normalised score is above a level, over the level, with its 95 % band."""
    final, references = stats.final(frame, metric, "last"), load.references(frame)
    found = stats.normalised(final, references)
    every = np.concatenate([x for tasks in found.values() for x in tasks]) if found else np.zeros(1)
    levels = np.linspace(max(min(every.min(), 0), LOWEST), max(every.max(), 100), LEVELS)
    figure = Figure(figsize=(style.NARROW, 2.3), layout="constrained")
    panel = figure.subplots()
    drawn = stats.profiles(final, references, levels)
    algos = style.order(drawn)
    for k, algo in enumerate(algos):
        _, colour, marker = style.algorithm(algo)
        value, low, high = 100 * drawn[algo]
        panel.plot(levels, value, color=colour, marker=marker, markevery=(3 * k, LEVELS // 4), zorder=3)
        panel.fill_between(levels, low, high, color=colour, alpha=0.2, linewidth=0, zorder=2)
    panel.set_ylim(-2, 102)
    panel.set_xlabel("normalised {}, {}".format(*style.METRICS[metric]))
    panel.set_ylabel("runs above it, %")
    legend(figure, list(map(handle, algos)))
    return figure


def quality(frame: pd.DataFrame, metric: str) -> Figure | None:
    """Mean over the scenarios of the normalised score (of win rates: the win rate), for each quality of the data, with its 95 % interval;
    beside it the dataset's own. None where no task tells a quality."""
    names, algos = {}, style.order(frame.algo.unique())
    for task in style.order(frame.task.unique()):
        if (name := task.rpartition("-")[2]) in QUALITIES:
            names.setdefault(name, []).append(task)
    if not names:
        return None
    kinds = [name for name in QUALITIES if name in names]
    references, data = load.references(frame), load.per_task(frame, "data_mean")
    final = stats.final(frame, metric, "last")
    width = style.WIDE if len(kinds) > 3 else style.NARROW
    figure = Figure(figsize=(width, 2.2), layout="constrained")
    panel = figure.subplots()
    for place, name in enumerate(kinds):
        tasks = {task: references[task] for task in names[name]}
        own = np.mean([stats.normalise(data[task], reference) for task, reference in tasks.items()])
        panel.plot([place - 0.45, place + 0.45], [own, own], color="0.45", linestyle=(0, (1, 1.5)), linewidth=1.0, zorder=1)
        for algo, runs in stats.normalised(final, tasks).items():
            _, colour, marker = style.algorithm(algo)
            x = place - 0.4 + 0.8 * (algos.index(algo) + 0.5) / len(algos)
            low, high = stats.interval(runs, np.mean, stats.rng())
            panel.bar(x, high - low, bottom=low, width=0.7 / len(algos), color=colour, alpha=0.3, linewidth=0)
            panel.plot(x, np.mean([y.mean() for y in runs]), color=colour, marker=marker, markersize=3.5)
    counts = [len(names[name]) for name in kinds]
    panel.set_xticks(range(len(kinds)), [f"{name}\n{n} task{'s' * (n > 1)}" for name, n in zip(kinds, counts)])
    panel.set_xlim(-0.55, len(kinds) - 0.45)
    panel.set_ylim(min(0, panel.dataLim.y0) - 4, max(100, panel.dataLim.y1) + 4)
    panel.tick_params(axis="x", length=0)
    panel.grid(axis="y", linewidth=0.4, color="0.85")
    panel.set_axisbelow(True)
    what, whom = style.METRICS[metric]
    panel.set_ylabel(f"{what}, %\n({whom})" if metric == "win_rate" else f"normalised {what}\n({whom})")
    own = Line2D([], [], label="dataset", color="0.45", linestyle=(0, (1, 1.5)), linewidth=1.0)
    legend(figure, [*(_dot(algo) for algo in algos), own])
    return figure


def _dot(algo: str) -> Line2D:
    name, colour, marker = style.algorithm(algo)
    return Line2D([], [], color=colour, marker=marker, linestyle="", label=name)


def ablation(frame: pd.DataFrame, metric: str, algo: str) -> Figure:
    """Normalised final scores of a method and of its variants, with 95 % intervals, a panel per task."""
    mine = ablated(frame)
    mine = mine[mine.algo == algo]
    tasks, variants = style.order(mine.task.unique()), ["", *sorted(set(mine.overrides.unique()) - {""})][::-1]
    references = load.references(mine)
    table = stats.cells(stats.final(mine.assign(algo=mine.overrides), metric, "last")).set_index(["task", "algo"])
    columns = min(len(tasks), 3)
    lines = -(-len(tasks) // columns)
    width = style.WIDE if columns > 1 else style.NARROW
    names = [textwrap.fill(variant, LABEL) or style.algorithm(algo)[0] for variant in variants]
    height = 0.19 * len(variants) * (1 + max(name.count("\n") for name in names) / 2)
    figure = Figure(figsize=(width, (height + 0.35) * lines + 0.25), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    _, colour, _ = style.algorithm(algo)
    for panel, task in zip(panels, tasks):
        for place, variant in enumerate(variants):
            if (task, variant) not in table.index:
                panel.text(0, place, " not run", va="center", fontsize=5.5, color="0.5")
                continue
            row = table.loc[task, variant]
            value, low, high = (float(stats.normalise(row[name], references[task])) for name in ("value", "low", "high"))
            panel.barh(place, value, height=0.6, color=colour if variant == "" else "0.7", linewidth=0)
            panel.plot([low, high], [place, place], color="0.15", linewidth=0.9, solid_capstyle="butt")
        panel.axvline(0, color="0.3", linewidth=0.6)
        panel.set_title(style.title(task), pad=3)
        panel.set_yticks(range(len(variants)), names)
        panel.set_ylim(-0.6, len(variants) - 0.4)
        panel.set_xlim(min(0, panel.dataLim.x0) - 2, max(100, panel.dataLim.x1) + 2)
        panel.tick_params(axis="y", length=0, labelsize=6)
    for panel in panels[len(tasks) :]:
        panel.set_axis_off()
    figure.supxlabel("normalised {}, {}".format(*style.METRICS[metric]), fontsize=7.5)
    return figure
