"""Draws the figure of docs/inspo.md, exact InSPO on two games: `python -m tools.docs.exact [FILE]`."""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from inspo_benchmark.envs.matrix import XOR, mne
from inspo_benchmark.plots import style
from inspo_benchmark.tools import exact_inspo
from inspo_benchmark.tools.docs import figure

FILE = Path(__file__).parents[2] / "docs" / "inspo-exact.png"
ALPHA = 0.1
BLUE, ORANGE, GREEN, GRAY = "#0072B2", "#D55E00", "#009E73", "#5A5A5A"  # Okabe and Ito
MNE_ITERATIONS, XOR_ITERATIONS = 20, 16
FONT_SIZE = 6  # of text inside a panel


def payoffs(
    game: exact_inspo.MarkovGame, payoff: np.ndarray, start: exact_inspo.Policies, beta: float | np.ndarray, steps: int, with_k: bool = True
):
    """Expected payoff of the policies after 0 .. steps iterations; the agents move in the order 1, 0."""
    path = exact_inspo.solve(game, start, [(1, 0)] * steps, ALPHA, beta, with_k=with_k)
    game = game._replace(reward=payoff[None])
    return [exact_inspo.objective(game, pi, 0, 0) for pi in path]


def entropy(panel) -> None:
    """M-NE started at the marginals of imbalanced data, for several beta."""
    payoff, mu = mne(), np.full((3, 3), 0.01)
    mu[1, 1] = 0.92
    game = exact_inspo.one_step(payoff, mu)
    for equilibrium in (10, 4):
        panel.axhline(equilibrium, color="0.85", lw=0.5, zorder=0)
    for beta, label, color, line, at in (
        (0.0, "0", GRAY, "-", (MNE_ITERATIONS + 0.5, 4.4)),
        (2.0, "2", GREEN, (0, (1, 1)), (MNE_ITERATIONS + 0.5, 3.1)),
        (exact_inspo.linear_schedule(5, 0, MNE_ITERATIONS, 0.7), r"5 $\to$ 0", ORANGE, "-", (MNE_ITERATIONS + 0.5, 10)),
        (5.0, "5", BLUE, (0, (4, 1.5)), (MNE_ITERATIONS + 0.5, 5.7)),
    ):
        panel.plot(
            payoffs(game, payoff, exact_inspo.marginals(game.mu), beta, MNE_ITERATIONS), color=color, linestyle=line, lw=1, clip_on=False
        )
        panel.annotate(rf"$\beta$ = {label}", at, color=color, fontsize=FONT_SIZE, va="center", annotation_clip=False)
    panel.set(title="M-NE, imbalanced", xlabel="iteration", ylabel="expected payoff", xlim=(0, MNE_ITERATIONS), ylim=(-1.8, 10.6))
    panel.set(xticks=(0, 10, 20), yticks=(0, 4, 10))


def divergence(panel) -> None:
    """XOR started at pi^0(A) = 0.5 + delta, with and without K^i."""
    mu = np.array([[0.005, 0.495], [0.495, 0.005]])  # a behavior model of the data {AB, BA}, which is nearly right
    game = exact_inspo.one_step(np.ones((2, 2)), mu)  # every payoff in the data is 1
    for power, line in ((2, "-"), (3, (0, (4, 1.5))), (4, (0, (1, 1)))):
        start = [np.array([[0.5 + 10.0**-power, 0.5 - 10.0**-power]]), np.full((1, 2), 0.5)]
        values = payoffs(game, XOR, start, 0.0, XOR_ITERATIONS)
        panel.plot(values, color=ORANGE, linestyle=line, lw=1, label=rf"$10^{{-{power}}}$")
        flat = payoffs(game, XOR, start, 0.0, XOR_ITERATIONS, with_k=False)
        panel.plot(flat, color=GRAY, lw=1, zorder=1)
    panel.axhline(1, color="0.85", lw=0.5, zorder=0)
    panel.text(XOR_ITERATIONS, 0.91, "with $K^i$", color=ORANGE, fontsize=FONT_SIZE, ha="right", va="top")
    panel.text(XOR_ITERATIONS, 0.04, "without $K^i$", color=GRAY, fontsize=FONT_SIZE, ha="right", va="bottom")
    panel.legend(
        title=r"$\delta$", title_fontsize=FONT_SIZE, fontsize=FONT_SIZE, frameon=False, loc=(0.5, 0.24), handlelength=2, labelspacing=0.15
    )
    panel.set(
        title="XOR, data {AB, BA}", xlabel="iteration", xlim=(0, XOR_ITERATIONS), ylim=(-0.06, 1.04), xticks=(0, 8, 16), yticks=(0, 0.5, 1)
    )


def draw() -> Figure:
    drawn = Figure(figsize=(style.NARROW, 1.65), layout="constrained")
    left, right = drawn.subplots(1, 2)
    drawn.get_layout_engine().set(w_pad=0.02, wspace=0.08)
    entropy(left)
    divergence(right)
    return drawn


if __name__ == "__main__":
    figure.command(draw, "exact", __doc__, FILE)
