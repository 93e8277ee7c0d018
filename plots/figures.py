"""Rows -> the figures of the paper, as PDF and PNG, for every suite that was run.

    python -m plots.figures [--out results] [--draft] [--metric return return_sampled win_rate] [--of inspo]

Writes to `<out>/figures`: `curves` (learning curves), `scores` (of single runs), `efficiency` (score against updates), `aggregate` (IQM and
interval), `profiles` (performance profiles), `improvement` (probability of improvement of the method `--of` over the others), `quality` (by
quality of the data), and `ablation` where there are runs with `--set`, each as `<kind>-<suite>-<metric>`; `figures.tex` holds them all with
their captions.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from inspo_benchmark.core.atomic_io import atomic_write, write_errors
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import suggest
from inspo_benchmark.plots import aggregates, cli, curves, load, stats, style
from inspo_benchmark.plots.table_writers import escaped

KINDS = ("curves", "scores", "efficiency", "aggregate", "profiles", "improvement", "quality", "ablation")
CAPTIONS = {
    "curves": "Learning curves: mean over seeds with a 95 % bootstrap band (n = {n}). Dotted: mean of the dataset; dashed: best known.",
    "scores": "Final score of every run, a dot each (n = {n} per method and task); bars: means. Lines as in the learning curves.",
    "efficiency": "Sample efficiency: IQM of the normalised scores of all tasks over the updates done, with its 95 % bootstrap band.",
    "aggregate": "IQM of the final normalised scores of all tasks with its 95 % stratified bootstrap interval (n = {n} seeds per task).",
    "profiles": "Performance profiles: share of runs (n = {n} per task) whose final normalised score is above a level, with a 95 % band.",
    "improvement": "Probability that a run of {of} is better than one of each other method, mean over tasks, with its 95 % interval.",
    "quality": "Scores by the quality of the data: mean over tasks with its 95 % interval (n = {n} seeds). Dotted: the dataset's own.",
    "ablation": "What each part of {of} is worth: normalised final scores with 95 % intervals (n = {n} seeds).",
}


class Picture(NamedTuple):
    name: str
    caption: str
    figure: Figure


def pictures(frame: pd.DataFrame, metrics: list[str], of: str, draft: bool = False) -> Iterator[Picture]:
    """All figures of a frame that may hold runs with overrides. UserError: holes, unless `draft`."""
    for suite, mine in load.suites(frame):
        for metric in metrics:
            seen = load.measured(mine, metric)
            plain = seen[seen.overrides == ""]
            drawn: list[tuple[str, str, Figure | None]] = []
            if (plain.metric == metric).any():
                if not draft:
                    load.require(plain, metric)
                drawn += [("curves", "", figure) for figure in curves.curves(plain, metric)]
                drawn += [("scores", "", figure) for figure in curves.scores(plain, metric)]
                drawn.append(("quality", "", aggregates.quality(plain, metric)))
                algos = stats.complete(stats.final(plain, metric, "last"), plain.task.unique().tolist())
                if algos:  # others cannot be compared
                    drawn.append(("efficiency", "", curves.efficiency(plain, metric)))
                    drawn.append(("aggregate", "", aggregates.aggregate(plain, metric)))
                    drawn.append(("profiles", "", aggregates.profiles(plain, metric)))
                if of in algos and len(algos) > 1:
                    drawn.append(("improvement", of, aggregates.improvement(plain, metric, of)))
            changed = seen[(seen.overrides != "") & (seen.metric == metric)]
            drawn += [("ablation", algo, aggregates.ablation(seen, metric, algo)) for algo in style.order(changed.algo.unique())]
            yield from _named(suite, metric, mine, [picture for picture in drawn if picture[2]])


def _named(suite: str, metric: str, frame: pd.DataFrame, drawn: list[tuple[str, str, Figure]]) -> Iterator[Picture]:
    runs = frame.groupby(load.RUN, observed=True).seed.nunique()
    n = " to ".join(map(str, sorted({int(runs.min()), int(runs.max())})))
    preset = frame.preset.iloc[0]
    for k, (kind, of, figure) in enumerate(drawn):
        pages = [j for j, other in enumerate(drawn) if other[:2] == (kind, of)]
        part = f"-{pages.index(k) + 1}" if len(pages) > 1 else ""
        method = f"-{of}" if kind == "ablation" else ""
        what = f"{style.TITLES.get(suite, suite)}, {style.METRICS[metric][0]} of {style.METRICS[metric][1]}"
        if preset:  # a figure may be passed on without its caption
            figure.supxlabel("\n".join(filter(None, [figure.get_supxlabel(), style.short(preset)])), fontsize=7.5)
        caption = CAPTIONS[kind].format(n=n, of=style.algorithm(of)[0])
        yield Picture(f"{kind}-{suite}{method}-{metric}{part}", f"{what}. {caption}{style.preset(preset)}", figure)


def save(figure: Figure, path: Path) -> None:
    """`path`.pdf and .png, without a date or a version in them: the same rows give the same bytes."""
    with atomic_write(path.with_name(path.name + ".pdf")) as part:
        figure.savefig(part, metadata={"CreationDate": None, "Producer": None, "Creator": None})
    figure.set_layout_engine("none")  # keeps the layout, saves the second computation of it
    with atomic_write(path.with_name(path.name + ".png")) as part:
        figure.savefig(part, metadata={"Software": None})


def latex(shown: list[tuple[str, str]]) -> str:
    """Floats of (name, caption) for \\input; needs graphicx, and the folder in \\graphicspath."""
    return "\n".join(
        rf"\begin{{figure}}[htb]\centering\includegraphics{{{name}}}\caption{{{escaped(caption)}}}\label{{fig:{name}}}\end{{figure}}"
        for name, caption in shown
    )


def run(argv: list[str] | None = None) -> int:
    options = cli.parser("plots.figures", "Make the figures from the rows under <out>/runs.")
    options.add_argument("--of", default="inspo", metavar="METHOD", help="whose probability of improvement (default: %(default)s)")
    args = options.parse_args(argv)

    def work():
        frame, folder, shown = load.read(args.out, overrides=True), Path(args.out, "figures"), []
        algos = frame.algo.unique().tolist()
        if args.of not in algos and args.of != options.get_default("of"):
            raise UserError(f"--of {args.of}: no such method among the runs; {suggest(args.of, algos)}")
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(style.WORDS):
            for name, caption, figure in pictures(frame, args.metric, args.of, args.draft):
                save(figure, folder / name)
                shown.append((name, caption))
        with atomic_write(folder / "figures.tex") as part:
            part.write_text(latex(shown) + "\n")
        names, ours = {name for name, _ in shown}, re.compile(rf"({'|'.join(KINDS)})-.*-({'|'.join(args.metric)})(-\d+)?")
        for path in folder.iterdir():  # of runs that are gone
            if path.suffix in (".pdf", ".png") and ours.fullmatch(path.stem) and path.stem not in names:
                path.unlink()
        print(f"{folder}: {len(shown)} figures (.pdf, .png), {', '.join(dict.fromkeys(name.partition('-')[0] for name, _ in shown))}")

    return cli.run(work)


if __name__ == "__main__":
    sys.exit(run())
