"""Figures of a dataset, or of several for comparison: returns, episode lengths, actions, and the visited states."""

import inspo_benchmark.core.startup  # noqa: F401

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.datasets.dataset import Dataset
from inspo_benchmark.datasets.format import load
from inspo_benchmark.plots import style
from inspo_benchmark.plots.dataset_cards import COLORS
from inspo_benchmark.plots.table_writers import number

MAX_STATES = 20_000  # drawn at most
BINS = 40
PANELS_PER_ROW = 5  # of states
SUFFIXES = (".png", ".pdf", ".svg")
COLOR_CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5A5A5A", "#F0E442")  # Okabe and Ito


def draw(data: list[Dataset], target: Path) -> None:
    """Write the figure of one dataset, or of several for comparison. UserError as of `write`."""
    write(lambda: single(data[0]) if len(data) == 1 else comparison(data), target, dpi=200, rc=style.RC_PLAIN_TEXT)


def write(draw: Callable[[], Figure], target: Path, dpi: int, rc: dict[str, Any] = style.RC) -> None:
    """Draw a figure and write it as .png, .pdf or .svg, the same bytes each time. UserError: another suffix."""
    if target.suffix not in SUFFIXES:
        raise UserError(f"{target}: figures are written as {', '.join(SUFFIXES)}")
    with matplotlib.rc_context(rc), atomic_write(target) as part:
        metadata = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}[target.suffix]
        draw().savefig(part, dpi=dpi, metadata=metadata)


def single(d: Dataset) -> Figure:
    """Returns, episode lengths, actions and states of one dataset."""
    figure = Figure(figsize=(style.WIDE, 4.3), layout="constrained")
    (a, b), (c, e) = figure.subplots(2, 2)
    figure.suptitle(f"{d.meta['task']}: {d.episodes:,} episodes, {d.steps:,} steps", fontsize=9)
    _histogram(a, d.scores, _colors([d])[0], "return" + (" per step" if d.meta["per_step"] else ""))
    _histogram(b, d.lengths, _colors([d])[0], "episode length")
    _actions(c, d)
    project, share = components(d.state)
    if not share[0]:
        e.text(0.5, 0.5, "one state", ha="center", va="center", transform=e.transAxes)
        e.set_axis_off()
    else:
        drawn = e.hexbin(*project(_sample(d.state, MAX_STATES)).T, gridsize=45, mincnt=1, norm=LogNorm(), cmap="viridis", linewidths=0.1)
        figure.colorbar(drawn, ax=e, label="states", pad=0.01)
        _axes(e, share)
    return figure


def comparison(data: list[Dataset]) -> Figure:
    """Returns and episode lengths on common axes, and, if they have equal sizes, states on the principal components of all states."""
    names, colors = [d.meta["task"] for d in data], _colors(data)
    states = len({d.meta["state"] for d in data}) == 1
    lines = -(-len(data) // PANELS_PER_ROW) if states else 0
    heights = [0.9 + 0.3 * len(data)] + [1.75 * lines] * states
    figure = Figure(figsize=(style.WIDE, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    a, b = parts[0].subplots(1, 2, sharey=True)
    _ridges(a, names, [d.scores for d in data], colors, "return per step" if all(d.meta["per_step"] for d in data) else "return")
    _ridges(b, names, [d.lengths for d in data], colors, "episode length")
    if states:
        states_of_all = np.concatenate([_sample(d.state, MAX_STATES // len(data)) for d in data])
        project, share = components(states_of_all)
        background = project(states_of_all)
        panels = parts[1].subplots(lines, min(len(data), PANELS_PER_ROW), sharex=True, sharey=True, squeeze=False).flat
        for d, color, panel in zip(data, colors, panels):
            panel.scatter(*background.T, s=1, c="#DDDDDD", linewidths=0, rasterized=True)
            panel.scatter(*project(_sample(d.state, MAX_STATES)).T, s=1.5, color=color, linewidths=0, rasterized=True)
            panel.set_title(d.meta["task"], fontsize=7)
            _axes(panel, share, first=d is data[0])
        for panel in panels:  # left over
            panel.set_axis_off()
    return figure


def components(states: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], tuple[float, float]]:
    """The projection of states [rows, S] to the first two principal components of standardized states [rows, 2], and the shares of the
    variance that these explain."""
    base = _sample(states, MAX_STATES)
    mean, std = base.mean(0, dtype=np.float64), base.std(0, dtype=np.float64)
    varies, std = std > 1e-6, np.where(std > 1e-6, std, 1)

    def standard(x: np.ndarray) -> np.ndarray:
        return np.where(varies, (x - mean) / std, 0)

    _, values, axes = np.linalg.svd(standard(base), full_matrices=False)
    axes = axes[:2]
    axes = axes * np.where(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1) < 0, -1, 1)  # a fixed sign
    first, second = [*(values[:2] ** 2), 0.0, 0.0][:2]
    total = (values**2).sum() or 1.0
    return lambda x: np.pad(standard(x) @ axes.T, ((0, 0), (0, 2 - len(axes)))), (first / total, second / total)


def _sample(x: np.ndarray, most: int) -> np.ndarray:
    """At most `most` evenly spaced rows."""
    return x[np.linspace(0, len(x) - 1, min(len(x), most)).astype(int)]


def _colors(data: list[Dataset]) -> list[str]:
    """The colors of the qualities if they distinguish the datasets, otherwise the color cycle."""
    colors = [COLORS.get(d.meta["quality"], "") for d in data]
    return colors if all(colors) and len(set(colors)) == len(colors) else [COLOR_CYCLE[i % len(COLOR_CYCLE)] for i in range(len(data))]


def _histogram(panel: Axes, x: np.ndarray, color: str, label: str) -> None:
    low, high = x.min(), x.max()
    if high == low:
        edges = low + np.array([-0.5, 0.5])
    elif x.dtype.kind == "i" and high - low < 2 * BINS:
        edges = np.arange(low, high + 2) - 0.5
    else:
        edges = np.linspace(low, high + 1e-6 * abs(high), BINS + 1)
    panel.stairs(np.histogram(x, edges)[0] / len(x), edges, fill=True, color=color)
    panel.axvline(x.mean(), color="black", linewidth=0.8, linestyle="--")
    if high == low:
        panel.set_xticks([low], [number(float(low))])
        panel.set_xlim(low - 5, low + 5)
    elif x.dtype.kind == "i":
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel(f"{label} (dashed: mean {number(x.mean())})")
    panel.set_ylabel("share of episodes")


def _actions(panel: Axes, d: Dataset) -> None:
    """How often each agent takes each action; for continuous actions, the distribution of their components."""
    agents = d.meta["agents"]
    if d.meta["action_kind"] == "continuous":
        edges = np.linspace(-1, 1, BINS + 1)
        flat = d.actions.transpose(1, 2, 0).reshape(-1, d.steps)
        shown = np.stack([np.histogram(x, edges)[0] / d.steps for x in flat])
        labels = [f"{i}.{k}" if d.meta["actions"] > 1 else str(i) for i in range(agents) for k in range(d.meta["actions"])]
        extent = (-1, 1, len(flat) - 0.5, -0.5)
        panel.set_xticks([-1, 0, 1])
    else:
        shown = np.stack([np.bincount(d.actions[:, i], minlength=d.meta["actions"]) / d.steps for i in range(agents)])
        labels, extent = [str(i) for i in range(agents)], (-0.5, d.meta["actions"] - 0.5, agents - 0.5, -0.5)
    image = panel.imshow(shown, aspect="auto", extent=extent, cmap="Blues", vmin=0, interpolation="nearest")
    panel.figure.colorbar(image, ax=panel, label="share of steps", pad=0.01)
    step = max(1, -(-len(labels) // 12))
    panel.set_yticks(range(0, len(labels), step), labels[::step])
    panel.set_ylabel("agent" + (".joint" if "." in labels[0] else ""))
    panel.set_xlabel("action")
    if d.meta["action_kind"] == "discrete" and d.meta["actions"] <= 20:
        panel.set_xticks(range(d.meta["actions"]))
    for side in panel.spines.values():
        side.set_visible(False)


def _ridges(panel: Axes, names: list[str], values: list[np.ndarray], colors: list[str], label: str) -> None:
    """Histograms of equal height on a common axis, one per dataset."""
    low, high = min(x.min() for x in values), max(x.max() for x in values)
    edges = np.linspace(low, high + 1e-9 + 1e-6 * abs(high), BINS + 1)
    for i, (x, color) in enumerate(zip(values, colors)):
        share = np.histogram(x, edges)[0]
        panel.stairs(i + 0.35 - 0.75 * share / share.max(), edges, baseline=i + 0.35, fill=True, color=color, linewidth=0)
        panel.plot(x.mean(), i + 0.35, marker="^", color="black", markersize=4, clip_on=False, zorder=3)
    panel.set_yticks(range(len(names)), names)
    panel.set_ylim(len(names) - 0.5, -0.6)
    panel.set_xlabel(f"{label} (triangle: mean)")
    panel.tick_params(axis="y", length=0)


def _axes(panel: Axes, share: tuple[float, float], first: bool = True) -> None:
    panel.set_xlabel(f"component 1 of states ({share[0]:.0%})" if first else "component 1")
    if first:
        panel.set_ylabel(f"component 2 ({share[1]:.0%})")


def main(argv: list[str] | None = None) -> int:
    options = CommandLine(
        prog="python -m plots.dataset_figures",
        description="Draw one dataset, or compare several.",
        epilog="example: python -m plots.dataset_figures datasets/data/3m-*.h5 --out 3m.pdf",
    )
    options.add_argument("files", type=Path, nargs="+", metavar="FILE", help="datasets (.h5)")
    output = "output: .png, .pdf or .svg (default: dataset.png)"
    options.add_argument("--out", type=Path, default=Path("dataset.png"), metavar="FILE", help=output)
    args = options.parse_args(argv)

    def work() -> None:
        TASKS.discover()
        draw([load(file) for file in args.files], args.out)
        print(args.out)

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
