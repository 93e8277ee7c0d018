"""Rows -> the figures of the paper: learning curves, a panel per task, and the aggregate with its interval. PDF and PNG.

    python -m plots.curves [--out results] [--draft] [--metric return return_sampled win_rate]

Writes `<out>/figures/curves-<metric>.*` and `aggregate-<metric>.*` from the runs with their published settings.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, MaxNLocator

from core.errors import UserError
from core.files import whole
from plots import command, rows, stats, style

COLUMNS = 4
DATA = dict(color="0.45", linestyle=(0, (1, 1.5)), linewidth=1.0)
BEST = dict(color="0.45", linestyle=(0, (4, 2)), linewidth=0.9)


def curves(frame: pd.DataFrame, metric: str) -> Figure:
    """Mean over seeds with a 95 % bootstrap band, over updates. Tasks of one scenario are neighbours and share their limits."""
    tasks, algos = style.order(frame.task.unique()), style.order(frame.algo.unique())
    columns = min(COLUMNS, len(tasks))
    lines = -(-len(tasks) // columns)
    width = style.WIDE if columns > 2 else style.NARROW
    names = len(algos) + 2
    legend = -(-names // (8 if width == style.WIDE else 3))  # lines of it
    figure = Figure(figsize=(width, 1.35 * lines + 0.6 + 0.16 * max(0, legend - 2)), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for panel, task in zip(panels, tasks):
        mine = frame[frame.task == task]
        for algo in algos:
            _curve(panel, mine[(mine.algo == algo) & (mine.metric == metric)], algo)
        panel.set_title(task, pad=3)
        panel.axhline(mine.data_mean.iloc[0], zorder=1, **DATA)
        panel.axhline(mine.best.iloc[0], zorder=1, **BEST)
        panel.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2.5, 5, 10]))
        panel.xaxis.set_major_formatter(EngFormatter(sep=""))
        panel.yaxis.set_major_locator(MaxNLocator(4))
    for panel in panels[len(tasks) :]:
        panel.set_axis_off()
    _share_limits(panels, tasks)
    figure.supxlabel("updates", fontsize=7.5)
    figure.supylabel(", ".join(style.METRICS[metric]), fontsize=7.5)
    handles = [_handle(algo) for algo in algos] + [Line2D([], [], label="dataset mean", **DATA), Line2D([], [], label="best known", **BEST)]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=-(-names // legend), frameon=False, handlelength=2.2, columnspacing=1.2
    )
    return figure


def _handle(algo: str) -> Line2D:
    name, colour, marker = style.algorithm(algo)
    return Line2D([], [], color=colour, marker=marker, label=name)


def _curve(panel: Axes, runs: pd.DataFrame, algo: str) -> None:
    if runs.empty:
        return
    _, colour, marker = style.algorithm(algo)
    values = runs.pivot(index="step", columns="seed", values="value")
    low, high = stats.interval([values.to_numpy()], np.mean, stats.rng())  # resamples whole runs, not points
    panel.plot(values.index, values.mean(axis=1), color=colour, marker=marker, markevery=max(1, len(values) // 4), zorder=3)
    panel.fill_between(values.index, low, high, color=colour, alpha=0.2, linewidth=0, zorder=2)


def _share_limits(panels: Iterable[Axes], tasks: list[str]) -> None:
    """What was drawn, with the reference lines, and 6 % of air."""
    groups: dict[str, list[Axes]] = {}
    for panel, task in zip(panels, tasks):
        groups.setdefault(style.scenario(task), []).append(panel)
    for group in groups.values():
        low, high = min(panel.dataLim.y0 for panel in group), max(panel.dataLim.y1 for panel in group)
        air = 0.06 * (high - low) or 0.5
        for panel in group:
            panel.set_ylim(low - air, high + air)


def aggregate(frame: pd.DataFrame, metric: str) -> Figure:
    """IQM of the final normalised scores with its 95 % stratified bootstrap interval, a line per algorithm."""
    table = stats.aggregate(stats.final(frame, metric, "last"), rows.references(frame)).set_index("algo")
    algos = [algo for algo in style.order(frame.algo.unique()) if algo in table.index][::-1]
    figure = Figure(figsize=(style.NARROW, 0.22 * len(algos) + 0.55), layout="constrained")
    panel = figure.subplots()
    for place, algo in enumerate(algos):
        _, colour, marker = style.algorithm(algo)
        row = table.loc[algo]
        panel.barh(place, row.high - row.low, left=row.low, height=0.55, color=colour, alpha=0.3, linewidth=0)
        panel.plot(row.value, place, color=colour, marker=marker, markersize=4.5)
    panel.set_yticks(range(len(algos)), [style.algorithm(algo)[0] for algo in algos])
    panel.set_ylim(-0.6, len(algos) - 0.4)
    panel.set_xlim(min(0, panel.dataLim.x0) - 2, max(100, panel.dataLim.x1) + 2)
    panel.tick_params(axis="y", length=0)
    panel.grid(axis="x", linewidth=0.4, color="0.85")
    panel.set_axisbelow(True)
    panel.set_xlabel("IQM of normalised {}, {}".format(*style.METRICS[metric]))
    return figure


def save(figure: Figure, path: Path) -> None:
    """`path`.pdf and .png, without a date or a version in them: the same rows give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path.with_suffix(".pdf")) as part:
        figure.savefig(part, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    figure.set_layout_engine("none")  # keeps the layout, saves the second computation of it
    with whole(path.with_suffix(".png")) as part:
        figure.savefig(part, metadata={"Software": None})


def run(argv: list[str] | None = None) -> int:
    args = command.parser("plots.curves", "Make the figures from the rows under <out>/runs.").parse_args(argv)

    def work():
        frame = rows.read(args.out)
        if frame.empty:
            raise UserError(f"all runs in {Path(args.out, 'runs')} used --set, which figures leave out; run the benchmark without --set")
        for metric in args.metric:
            mine = rows.measured(frame, metric)
            if mine.empty:
                continue
            if not args.draft:
                rows.require(mine, metric)
            with matplotlib.rc_context(style.RC):
                save(curves(mine, metric), Path(args.out, "figures", f"curves-{metric}"))
                save(aggregate(mine, metric), Path(args.out, "figures", f"aggregate-{metric}"))

    return command.run(work)


if __name__ == "__main__":
    sys.exit(run())
