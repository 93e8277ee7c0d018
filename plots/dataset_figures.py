"""One picture of a dataset, and one that compares several: returns, lengths, actions, and what part of the states was visited."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import UserError, outcome
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.datasets.dataset import Dataset
from inspo_benchmark.datasets.format import load
from inspo_benchmark.plots import style
from inspo_benchmark.plots.dataset_cards import COLOURS
from inspo_benchmark.plots.table_writers import number

SAMPLE = 20_000  # states that are drawn
BINS = 40
PANELS = 5  # of states in a row
KINDS = (".png", ".pdf", ".svg")
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#5A5A5A", "#F0E442")  # Okabe and Ito


def draw(data: list[Dataset], target: Path) -> None:
    """The picture of one dataset, or of several side by side, as .png, .pdf or .svg."""
    if target.suffix not in KINDS:
        raise UserError(f"{target}: pictures are written as {', '.join(KINDS)}")
    with matplotlib.rc_context(style.RC), atomic_write(target) as part:
        metadata = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}[target.suffix]
        (portrait(data[0]) if len(data) == 1 else comparison(data)).savefig(part, dpi=200, metadata=metadata)


def portrait(d: Dataset) -> Figure:
    figure = Figure(figsize=(style.WIDE, 4.3), layout="constrained")
    (a, b), (c, e) = figure.subplots(2, 2)
    figure.suptitle(f"{d.meta['task']}: {d.episodes:,} episodes, {d.steps:,} steps", fontsize=9)
    _histogram(a, d.scores, _colours([d])[0], "return" + (" per step" if d.meta["per_step"] else ""))
    _histogram(b, d.lengths, _colours([d])[0], "episode length")
    _actions(c, d)
    onto, share = components(d.state)
    if not share[0]:
        e.text(0.5, 0.5, "one state", ha="center", va="center", transform=e.transAxes)
        e.set_axis_off()
    else:
        drawn = e.hexbin(*onto(_sample(d.state, SAMPLE)).T, gridsize=45, mincnt=1, norm=LogNorm(), cmap="viridis", linewidths=0.1)
        figure.colorbar(drawn, ax=e, label="states", pad=0.01)
        _axes(e, share)
    return figure


def comparison(data: list[Dataset]) -> Figure:
    """Returns and lengths of all on common axes, and their states on the principal components of all states together."""
    names, colours = [d.meta["task"] for d in data], _colours(data)
    states = len({d.meta["state"] for d in data}) == 1
    lines = -(-len(data) // PANELS) if states else 0
    heights = [0.9 + 0.3 * len(data)] + [1.75 * lines] * states
    figure = Figure(figsize=(style.WIDE, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    a, b = parts[0].subplots(1, 2, sharey=True)
    _ridges(a, names, [d.scores for d in data], colours, "return per step" if all(d.meta["per_step"] for d in data) else "return")
    _ridges(b, names, [d.lengths for d in data], colours, "episode length")
    if states:
        every = np.concatenate([_sample(d.state, SAMPLE // len(data)) for d in data])
        onto, share = components(every)
        background = onto(every)
        panels = parts[1].subplots(lines, min(len(data), PANELS), sharex=True, sharey=True, squeeze=False).flat
        for d, colour, panel in zip(data, colours, panels):
            panel.scatter(*background.T, s=1, c="#DDDDDD", linewidths=0, rasterized=True)
            panel.scatter(*onto(_sample(d.state, SAMPLE)).T, s=1.5, color=colour, linewidths=0, rasterized=True)
            panel.set_title(d.meta["task"], fontsize=7)
            _axes(panel, share, first=d is data[0])
        for panel in panels:  # the rest
            panel.set_axis_off()
    return figure


def components(states: np.ndarray) -> tuple[Callable[[np.ndarray], np.ndarray], tuple[float, float]]:
    """What takes standardised states [rows, S] onto their first two principal components [rows, 2], and the shares of the variance that
    these explain."""
    base = _sample(states, SAMPLE)
    mean, std = base.mean(0, dtype=np.float64), base.std(0, dtype=np.float64)
    varies, std = std > 1e-6, np.where(std > 1e-6, std, 1)

    def standard(x: np.ndarray) -> np.ndarray:
        return np.where(varies, (x - mean) / std, 0)

    _, values, axes = np.linalg.svd(standard(base), full_matrices=False)
    axes = axes[:2]
    axes = axes * np.where(np.take_along_axis(axes, np.abs(axes).argmax(1)[:, None], 1) < 0, -1, 1)  # no sign by chance
    first, second = [*(values[:2] ** 2), 0.0, 0.0][:2]
    total = (values**2).sum() or 1.0
    return lambda x: np.pad(standard(x) @ axes.T, ((0, 0), (0, 2 - len(axes)))), (first / total, second / total)


def _sample(x: np.ndarray, most: int) -> np.ndarray:
    """Rows evenly spread over all."""
    return x[np.linspace(0, len(x) - 1, min(len(x), most)).astype(int)]


def _colours(data: list[Dataset]) -> list[str]:
    """Those of the qualities where they tell the datasets apart."""
    colours = [COLOURS.get(d.meta["quality"], "") for d in data]
    return colours if all(colours) and len(set(colours)) == len(colours) else [CYCLE[i % len(CYCLE)] for i in range(len(data))]


def _histogram(panel: Axes, x: np.ndarray, colour: str, label: str) -> None:
    low, high = x.min(), x.max()
    if high == low:
        edges = low + np.array([-0.5, 0.5])
    elif x.dtype.kind == "i" and high - low < 2 * BINS:
        edges = np.arange(low, high + 2) - 0.5
    else:
        edges = np.linspace(low, high + 1e-6 * abs(high), BINS + 1)
    panel.stairs(np.histogram(x, edges)[0] / len(x), edges, fill=True, color=colour)
    panel.axvline(x.mean(), color="black", linewidth=0.8, linestyle="--")
    if high == low:
        panel.set_xticks([low], [number(float(low))])
        panel.set_xlim(low - 5, low + 5)
    elif x.dtype.kind == "i":
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_xlabel(f"{label} (dashed: mean {number(x.mean())})")
    panel.set_ylabel("share of episodes")


def _actions(panel: Axes, d: Dataset) -> None:
    """How often each agent takes each action; of continuous ones the distribution of their components."""
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


def _ridges(panel: Axes, names: list[str], values: list[np.ndarray], colours: list[str], label: str) -> None:
    """One histogram per dataset, each as high as the others, on one axis."""
    low, high = min(x.min() for x in values), max(x.max() for x in values)
    edges = np.linspace(low, high + 1e-9 + 1e-6 * abs(high), BINS + 1)
    for i, (x, colour) in enumerate(zip(values, colours)):
        share = np.histogram(x, edges)[0]
        panel.stairs(i + 0.35 - 0.75 * share / share.max(), edges, baseline=i + 0.35, fill=True, color=colour, linewidth=0)
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
    options = argparse.ArgumentParser(
        prog="python -m plots.dataset_figures",
        description="Draw one dataset, or compare several.",
        epilog="example: python -m plots.dataset_figures datasets/data/3m-*.h5 --out 3m.pdf",
    )
    options.add_argument("files", type=Path, nargs="+", metavar="FILE")
    options.add_argument("--out", type=Path, default=Path("dataset.png"), help=".png, .pdf or .svg (default: dataset.png)")
    args = options.parse_args(argv)

    def work() -> None:
        TASKS.discover()
        draw([load(file) for file in args.files], args.out)
        print(args.out)

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
