"""Figures that compare methods over all tasks of a suite."""

import textwrap
from functools import partial

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from inspo_benchmark.plots import load, stats, style
from inspo_benchmark.plots.curves import DATA_LINE, curve_handle, curve_with_band, legend
from inspo_benchmark.plots.tables import ablation_rows

LEVELS = 101  # points of a profile
LOWEST_LEVEL = -50.0  # profiles are not drawn below
NAME_WIDTH, NAME_LENGTH = 24, 120  # letters in a line of a variant's name, and in all of it
QUALITIES = ("random", "medium_replay", "medium", "mixed", "medium_expert", "expert")


def iqm_intervals(frame: pd.DataFrame, metric: str) -> Figure:
    """IQM of the final normalized scores with its 95% stratified bootstrap interval, a line per algorithm."""
    table = stats.normalized_iqms(stats.final_scores(frame, metric, "last"), load.references(frame)).set_index("algo")
    figure, panel = _intervals(table)
    panel.set_xlim(min(0, panel.dataLim.x0) - 2, max(100, panel.dataLim.x1) + 2)
    panel.set_xlabel("IQM of normalized {}, {}".format(*style.METRICS[metric]))
    return figure


def improvement(frame: pd.DataFrame, metric: str, method: str) -> Figure:
    """Probability of improvement of `method` over each other algorithm, mean over tasks, with its 95% interval."""
    table = stats.improvements(stats.final_scores(frame, metric, "last"), method).set_index("algo")
    figure, panel = _intervals(table)
    panel.axvline(0.5, color="0.3", linewidth=0.8, linestyle=(0, (4, 2)))
    panel.set_xlim(-0.02, 1.02)
    panel.set_xlabel("P({} is better), {}, {}".format(style.algorithm(method).label, *style.METRICS[metric]))
    return figure


def _intervals(table: pd.DataFrame) -> tuple[Figure, Axes]:
    """A line for each algorithm of the index, from columns value, low, high."""
    algos = style.order(table.index)[::-1]
    figure = Figure(figsize=(style.NARROW, 0.22 * len(algos) + 0.55), layout="constrained")
    panel = figure.subplots()
    for y, algo in enumerate(algos):
        look, row = style.algorithm(algo), table.loc[algo]
        panel.barh(y, row.high - row.low, left=row.low, height=0.55, color=look.color, alpha=0.3, linewidth=0)
        panel.plot(row.value, y, color=look.color, marker=look.marker, markersize=4.5)
    panel.set_yticks(range(len(algos)), [style.algorithm(algo).label for algo in algos])
    panel.set_ylim(-0.6, len(algos) - 0.4)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", linewidth=0.4, color="0.85")
    panel.set_axisbelow(True)
    return figure, panel


def performance_profiles(frame: pd.DataFrame, metric: str) -> Figure:
    """The share of all runs whose final normalized score is above a level, over the level, with its 95% band."""
    scores, references = stats.final_scores(frame, metric, "last"), load.references(frame)
    normalized = [x for tasks in stats.normalized_scores(scores, references).values() for x in tasks]
    values = np.concatenate(normalized) if normalized else np.zeros(1)
    levels = np.linspace(max(min(values.min(), 0), LOWEST_LEVEL), max(values.max(), 100), LEVELS)
    figure = Figure(figsize=(style.NARROW, 2.3), layout="constrained")
    panel = figure.subplots()
    profiles = stats.performance_profiles(scores, references, levels)
    algos = style.order(profiles)
    for k, algo in enumerate(algos):
        curve_with_band(panel, algo, levels, *100 * profiles[algo], first_marker=3 * k)
    panel.set_ylim(-2, 102)
    panel.set_xlabel("normalized {}, {}".format(*style.METRICS[metric]))
    panel.set_ylabel("runs above, %")
    legend(figure, list(map(curve_handle, algos)))
    return figure


def quality(frame: pd.DataFrame, metric: str) -> Figure | None:
    """Mean normalized score over scenarios (for win rates: the win rate) for each quality of the data, with its 95% interval, and the mean
    of the datasets. None if no task has a quality in its name."""
    algos, references, data_mean = style.order(frame.algo.unique()), load.references(frame), load.per_task(frame, "data_mean")
    tasks_of = {name: [task for task in style.order(references) if task.rpartition("-")[2] == name] for name in QUALITIES}
    tasks_of = {name: tasks for name, tasks in tasks_of.items() if tasks}
    if not tasks_of:
        return None
    scores = stats.final_scores(frame, metric, "last")
    figure = Figure(figsize=(style.WIDE if len(tasks_of) > 3 else style.NARROW, 2.2), layout="constrained")
    panel = figure.subplots()
    for place, tasks in enumerate(tasks_of.values()):
        data = np.mean([stats.normalize(data_mean[task], references[task]) for task in tasks])
        panel.plot([place - 0.45, place + 0.45], [data, data], **DATA_LINE)
        for algo, runs in stats.normalized_scores(scores, {task: references[task] for task in tasks}).items():
            look = style.algorithm(algo)
            x = place - 0.4 + 0.8 * (algos.index(algo) + 0.5) / len(algos)
            share = np.concatenate([np.full(len(y), 1 / len(y)) for y in runs])  # every task counts alike, however many runs it has
            low, high = stats.interval(runs, partial(np.average, weights=share), stats.rng())
            panel.bar(x, high - low, bottom=low, width=0.7 / len(algos), color=look.color, alpha=0.3, linewidth=0)
            mean = np.mean([y.mean() for y in runs])
            panel.plot(x, mean, color=look.color, marker=look.marker, markersize=3.5)
    labels = [f"{name}\n{len(tasks)} task{'s' * (len(tasks) > 1)}" for name, tasks in tasks_of.items()]
    panel.set_xticks(range(len(tasks_of)), labels)
    panel.set_xlim(-0.55, len(tasks_of) - 0.45)
    panel.set_ylim(min(0, panel.dataLim.y0) - 4, max(100, panel.dataLim.y1) + 4)
    panel.tick_params(axis="x", length=0)
    panel.grid(axis="y", linewidth=0.4, color="0.85")
    panel.set_axisbelow(True)
    what, policies = style.METRICS[metric]
    panel.set_ylabel(f"{what}, %\n({policies})" if what == "win rate" else f"normalized {what}\n({policies})")
    legend(figure, [*map(_marker_handle, algos), Line2D([], [], label="dataset mean", **DATA_LINE)])
    return figure


def _marker_handle(algo: str) -> Line2D:
    look = style.algorithm(algo)
    return Line2D([], [], color=look.color, marker=look.marker, linestyle="", label=look.label)


def _shortened(name: str) -> str:
    return name if len(name) <= NAME_LENGTH else f"{name[:NAME_LENGTH]} ..."


def ablation(frame: pd.DataFrame, metric: str, algo: str) -> Figure:
    """Final normalized scores of a method and its variants with 95% intervals, a panel per task."""
    rows = ablation_rows(frame[frame.algo == algo])
    references = load.references(rows)
    tasks, variants = style.order(references), ["", *sorted(set(rows.overrides.unique()) - {""})]
    scores = stats.final_scores(rows.assign(algo=rows.overrides.astype(str)), metric, "last").reset_index(name="score")
    columns = min(len(tasks), 3)
    lines = -(-len(tasks) // columns)
    names = [textwrap.fill(_shortened(variant), NAME_WIDTH) or style.algorithm(algo).label for variant in variants]
    height = 0.19 * len(variants) * (1 + max(name.count("\n") for name in names) / 2)
    width = style.WIDE if columns > 1 else style.NARROW
    figure = Figure(figsize=(width, (height + 0.35) * lines + 0.25), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False, sharey=True).ravel()
    colors = dict.fromkeys(variants, "0.7") | {"": style.algorithm(algo).color}
    for panel, task in zip(panels, tasks):
        runs = scores[scores.task == task]
        sns.barplot(
            runs.assign(score=stats.normalize(runs.score, references[task])),
            x="score",
            y="algo",
            hue="algo",
            order=variants,
            hue_order=variants,
            palette=colors,
            saturation=1,
            width=0.6,
            errorbar=stats.mean_interval,
            err_kws=dict(color="0.15", linewidth=0.9),
            legend=False,
            ax=panel,
        )
        for y, variant in enumerate(variants):
            if variant not in set(runs.algo):
                panel.text(0, y, " not run", va="center", fontsize=5.5, color="0.5")
        panel.axvline(0, color="0.3", linewidth=0.6)
        panel.set_title(style.panel_title(task), pad=3)
        panel.set(xlabel="", ylabel="")
        panel.set_yticks(range(len(variants)), names)
        panel.set_xlim(min(0, panel.dataLim.x0) - 2, max(100, panel.dataLim.x1) + 2)
        panel.tick_params(axis="y", length=0, labelsize=6)
    for panel in panels[len(tasks) :]:
        panel.set_axis_off()
    figure.supxlabel("normalized {}, {}".format(*style.METRICS[metric]), fontsize=7.5)
    return figure
