"""Writes docs/smac-calibration.md, the simulator's datasets beside what is published of real SMAC: `python -m tools.docs.calibration`.

Returns and lengths of recordings: the dataset cards of OG-MARL (github.com/instadeepai/og-marl), SC2 4.10. Win rates that online
training reached: the README files of github.com/hijkzzz/pymarl2 (QMIX as published / tuned, SC2 4.10, 10 M steps) and of
github.com/opendilab/DI-engine, dizoo/smac (the best of its runs, SC2 4.6.2, 2 M steps). "--" is not published.
"""

from pathlib import Path
from typing import NamedTuple

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.datasets.behavior import SHIPPED, shipped, smac_policy
from inspo_benchmark.datasets.catalog import fetch
from inspo_benchmark.datasets.format import peek
from inspo_benchmark.envs.smac.maps import MAPS

PAGE = Path(__file__).parents[2] / "docs" / "smac-calibration.md"
MISSING = "--"


class Recording(NamedTuple):
    quality: str  # as its authors call it
    mean: float
    std: float | None
    length: float


THEIRS = {  # beside random, medium and expert
    "3m": [Recording("Poor", 4.69, 2.1, 20.4), Recording("Medium", 9.96, None, 23.9), Recording("Good", 16.5, None, 22.9)],
    "8m": [Recording("Poor", 5.28, 0.56, 48.2), Recording("Medium", 10.1, None, 25.4), Recording("Good", 16.9, None, 32.6)],
    "2s3z": [Recording("Poor", 6.88, None, 100.2), Recording("Medium", 12.76, None, 50.8), Recording("Expert", 19.97, 0.37, 42.4)],
    "5m_vs_6m": [Recording("Poor", 7.45, None, 20.5), Recording("Medium", 12.05, None, 27.1), Recording("Expert", 18.17, None, 25.7)],
    "3s_vs_5z": [
        None,
        Recording("Medium", 20.86, None, 235),
        Recording("Expert", 21.19, 0.70, 120),
    ],
    "6h_vs_8z": [Recording("Poor", 9.12, None, 24.2), Recording("Medium", 16.6, None, 41.4), Recording("Expert", 19.01, None, 45.6)],
    "3s5z_vs_3s6z": [Recording("Poor", 5.90, None, 56), Recording("Medium", 10.7, None, 53), Recording("Good", 16.6, None, 136)],
    "corridor": [Recording("Poor", 4.93, None, 51), Recording("Medium", 13.07, None, 126), Recording("Good", 19.88, None, 100)],
    "2c_vs_64zg": [Recording("Poor", 8.91, None, 31), Recording("Medium", 13.0, None, 38), Recording("Good", 19.94, None, 59)],
}
WINS = {
    "3m": MISSING,
    "8m": "100 (tuned QMIX)",
    "2s3z": "100 (tuned QMIX)",
    "3s5z": "100 (tuned QMIX; MAPPO 100)",
    "MMM": "100 (QMIX, 2 M steps)",
    "5m_vs_6m": "84 / 90 (QMIX, plain / tuned; MAPPO 75 at 2 M)",
    "3s_vs_5z": "96 / 100 (QMIX, plain / tuned)",
    "2c_vs_64zg": "100 / 100 (QMIX, plain / tuned)",
    "6h_vs_8z": "0 / 93 (QMIX, plain / tuned)",
    "corridor": "0 / 100 (QMIX, plain / tuned)",
    "3s5z_vs_3s6z": "3 / 85 (QMIX, plain / tuned)",
    "8m_vs_9m": "84 / 100 (QMIX, plain / tuned)",
    "MMM2": "98 / 100 (QMIX, plain / tuned)",
    "27m_vs_30m": "56 / 100 (QMIX, plain / tuned)",
}
OURS = ("random", "medium", "expert")


def page() -> str:
    """Builds the datasets that are not there yet."""
    names = [name for name in MAPS if shipped(name)]
    recordings = [
        "| map | quality | return | length | win rate | real SMAC: quality | return | length |",
        "|---|---|---:|---:|---:|---|---:|---:|",
    ]
    wins = [
        "| map | steps to the medium policy | steps to the expert | its win rate | published for real SMAC, % |",
        "|---|---:|---:|---:|---|",
    ]
    for name in names:
        theirs = THEIRS.get(name, [None] * len(OURS))
        rows = [(peek(fetch(TASKS[f"{name}-{quality}"])), quality) for quality in OURS]
        for k, ((meta, quality), other) in enumerate(zip(rows, theirs, strict=True)):
            ours = f"{meta['return_mean']:.2f} ± {meta['return_std']:.2f} | {meta['length_mean']:.1f} | {meta['win_rate']:.2f}"
            if other:
                spread = "" if other.std is None else f" ± {other.std:.2f}"
                real = f"{other.quality} | {other.mean:.2f}{spread} | {other.length:.1f}"
            else:
                real = " | ".join([MISSING] * 3)
            recordings.append(f"| {name if k == 0 else ''} | {quality} | {ours} | {real} |")
        path = SHIPPED / name
        best, half = (smac_policy.load(path / f"{quality}.npz", MAPS[name]) for quality in ("expert", "medium"))
        wins.append(f"| {name} | {half.steps / 1e6:.2f} M | {best.steps / 1e6:.2f} M | {best.win_rate:.2f} | {WINS.get(name, MISSING)} |")
    return "\n".join(
        [
            "# Calibration of the simulator",
            "",
            "Made by `python -m tools.docs.calibration`; do not edit. Sources of the published numbers: the docstring of",
            "[`calibration.py`](calibration.py). The recordings of others were made by other policies (Poor, Medium and Good or Expert are",
            "QMIX at three stages, with exploration), so rows beside each other are neighbours, not equals.",
            "",
            "## Datasets",
            "",
            *recordings,
            "",
            "## What online training reaches",
            "",
            "Ours: `tools/behavior/mappo.py`, sampled actions, one run.",
            "",
            *wins,
            "",
        ]
    )


def main() -> None:
    TASKS.discover()
    text = page()
    with atomic_write(PAGE) as part:
        part.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
