"""Draws the return of two versions of InSPO over processor time, from results/reference/time-to-return.csv:
`python -m tools.docs.time_to_return [FILE]`."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from inspo_benchmark.plots import style
from inspo_benchmark.tools.docs import figure

ROOT = Path(__file__).parents[2]
ROWS = ROOT / "results" / "reference" / "time-to-return.csv"  # version, seed, update, return_sampled, cpu_seconds
FILE = ROOT / "docs" / "inspo-time.png"
LOOKS = {"before": ("#5A5A5A", "before (4f469cd)"), "today": (style.algorithm("inspo").color, "today")}


def draw() -> Figure:
    drawn = Figure(figsize=(style.NARROW, 1.8), layout="constrained")
    panel = drawn.subplots()
    for version, rows in pd.read_csv(ROWS).groupby("version"):
        color, label = LOOKS[version]
        curves = rows.pivot(index="cpu_seconds", columns="seed", values="return_sampled")
        panel.plot(curves.index, curves, color=color, lw=0.5, alpha=0.5)
        panel.plot(curves.index, curves.mean(axis=1), color=color, lw=1.2, label=label)
    panel.legend(frameon=False, loc="lower right")
    panel.set(xlabel="processor time of three seeds, s", ylabel="return, sampled actions", title="2s3z-medium_replay", xlim=0, ylim=0)
    return drawn


if __name__ == "__main__":
    figure.command(draw, "time_to_return", __doc__, FILE)
