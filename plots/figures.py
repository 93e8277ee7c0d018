"""Makes the figures of the paper as PNG, and with --pdf as PDF too, from the rows in a results folder.

    python -m plots.figures [--out results] [--draft] [--metric return win_rate_sampled] [--of inspo] [--pdf]

For every suite in the results, `<out>/figures` gets `curves` (learning curves), `scores` (of single runs), `efficiency` (score over
updates), `aggregate` (IQM with its interval), `profiles` (performance profiles), `improvement` (probability of improvement of the method
`--of` over the others), `quality` (by quality of the data), and `ablation` if there are runs with `--set`. A file is called
`<kind>-<suite>-<metric>`. `figures.tex` holds all figures with their captions.
"""

import inspo_benchmark.core.startup  # noqa: F401

import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from inspo_benchmark.core.atomic_io import atomic_write, write_errors
from inspo_benchmark.core.errors import UserError, outcome
from inspo_benchmark.plots import aggregates, cli, curves, load, stats, style
from inspo_benchmark.plots.table_writers import escaped
from inspo_benchmark.plots.tables import ablation_rows

KINDS = ("curves", "scores", "efficiency", "aggregate", "profiles", "improvement", "quality", "ablation")
DPI, COLORS = 220, 128
MAX_HEIGHT = 100  # inches; the image is in memory
CAPTIONS = {
    "curves": "Learning curves: mean over seeds with a 95% bootstrap interval (n = {n}). {lines}",
    "scores": "Final scores of single runs as dots (n = {n} per method and task), their means as bars. {lines}",
    "efficiency": "Sample efficiency: IQM of the tasks' normalized scores over the share of the updates, with its 95% interval.",
    "aggregate": "IQM of the tasks' final normalized scores with its 95% stratified bootstrap interval (n = {n} seeds per task).",
    "profiles": "Performance profiles: share of runs (n = {n} per task) with a final normalized score above a level, and its 95% interval.",
    "improvement": "Probability of improvement of {method} over each other method, mean over tasks, with its 95% interval.",
    "quality": "Scores by the quality of the data: mean over tasks with its 95% interval (n = {n} seeds). Dotted: mean of the datasets.",
    "ablation": "Ablation of {method}: final normalized scores with 95% intervals (n = {n} seeds).",
}
OVER_TASKS = ("efficiency", "aggregate", "profiles", "improvement", "quality")  # kinds that aggregate tasks
LINES = "Dotted: mean of the dataset; dashed: {reference}."


class CaptionedFigure(NamedTuple):
    name: str
    caption: str
    figure: Figure


def all_figures(frame: pd.DataFrame, metrics: list[str], method: str, draft: bool = False) -> Iterator[CaptionedFigure]:
    """All figures of a frame that may hold runs with overrides. UserError: missing runs, unless `draft`."""
    for suite, rows in load.suites(frame):
        for metric in metrics:
            measured = load.for_metric(rows, metric)
            plain = measured[measured.overrides == ""]
            found: list[tuple[str, str, Figure | None]] = []  # kind, method of the caption, figure
            if (plain.metric == metric).any():
                if not draft:
                    load.require_complete(plain, metric)
                plain = plain[plain.algo.isin(plain.algo[plain.metric == metric].unique())]  # methods without it have no place in legends
                found += [("curves", "", figure) for figure in curves.learning_curves(plain, metric)]
                found += [("scores", "", figure) for figure in curves.run_scores(plain, metric)]
                plain = load.informative(plain)
                found.append(("quality", "", aggregates.quality(plain, metric)))
                complete = stats.complete_scores(stats.final_scores(plain, metric, "last"), plain.task.unique().tolist())
                if complete:  # only methods with scores on all tasks can be compared
                    found.append(("efficiency", "", curves.sample_efficiency(plain, metric)))
                    found.append(("aggregate", "", aggregates.iqm_intervals(plain, metric)))
                    found.append(("profiles", "", aggregates.performance_profiles(plain, metric)))
                if method in complete and len(complete) > 1:
                    found.append(("improvement", method, aggregates.improvement(plain, metric, method)))
            changed = measured[(measured.overrides != "") & (measured.metric == metric)]
            found += [("ablation", algo, aggregates.ablation(measured, metric, algo)) for algo in style.order(changed.algo.unique())]
            yield from _captioned(suite, metric, measured[measured.metric == metric], [entry for entry in found if entry[2]])


def _captioned(suite: str, metric: str, frame: pd.DataFrame, found: list[tuple[str, str, Figure]]) -> Iterator[CaptionedFigure]:
    about, plain = style.suite(suite), frame[frame.overrides == ""]
    for k, (kind, method, figure) in enumerate(found):
        drawn = ablation_rows(frame[frame.algo == method]) if kind == "ablation" else plain
        preset, runs = drawn.preset.iloc[0], drawn.groupby(load.GROUP, observed=True).seed.nunique()
        n = " to ".join(map(str, sorted({int(runs.min()), int(runs.max())})))
        notes = "".join(f" {note}" for note in load.uninformative_note(drawn)) if kind in OVER_TASKS else ""
        notes += style.execution_note(drawn.algo.unique()) + style.preset_note(preset)
        pages = [j for j, entry in enumerate(found) if entry[:2] == (kind, method)]
        page = f"-{pages.index(k) + 1}" if len(pages) > 1 else ""
        infix = f"-{method}" if kind == "ablation" else ""
        if preset:  # a figure may be passed on without its caption
            figure.supxlabel("\n".join(filter(None, [figure.get_supxlabel(), style.preset_label(preset)])), fontsize=7.5)
        caption = CAPTIONS[kind].format(n=n, method=style.algorithm(method).label, lines=LINES.format(reference=about.reference))
        what = "{}, {} of {}".format(about.title, *style.METRICS[metric])
        yield CaptionedFigure(f"{kind}-{suite}{infix}-{metric}{page}", f"{what}. {caption}{notes}", figure)


def png(figure: Figure, dpi: int) -> bytes:
    """The figure with a palette of COLORS colors, which makes the file three to four times smaller. UserError: it is too high."""
    if (height := figure.get_size_inches()[1]) > MAX_HEIGHT:
        raise UserError(f"a figure of {height:.0f} inches, more than {MAX_HEIGHT}: there are too many methods or variants for one folder")
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=dpi)
    compact = io.BytesIO()
    palette = Image.open(image).convert("RGB").quantize(COLORS, dither=Image.Dither.NONE)
    palette.save(compact, "png", optimize=True, dpi=(dpi, dpi))
    return compact.getvalue()


def save(figure: Figure, path: Path, pdf: bool = False) -> None:
    """`path`.png and, if wanted, `path`.pdf. They hold no date and no version: the same rows give the same bytes."""
    with atomic_write(path.with_name(path.name + ".png")) as part:
        part.write_bytes(png(figure, DPI))
    if pdf:
        figure.set_layout_engine("none")  # the layout is done
        with atomic_write(path.with_name(path.name + ".pdf")) as part:
            figure.savefig(part, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})


def latex(captions: list[tuple[str, str]]) -> str:
    """Floats of (name, caption) for \\input. They need graphicx, with the folder in \\graphicspath."""
    return "\n".join(
        rf"\begin{{figure}}[htb]\centering\includegraphics{{{name}}}\caption{{{escaped(caption)}}}\label{{fig:{name}}}\end{{figure}}"
        for name, caption in captions
    )


def main(argv: list[str] | None = None) -> int:
    options = cli.parser("plots.figures", "Make the figures from the rows in <out>/runs.")
    cli.add_method(options)
    options.add_argument("--pdf", action="store_true", help="write every figure as PDF too")
    args = options.parse_args(argv)

    def work():
        files = load.selected(load.result_files(args.out), args.algo, args.env)
        frame, folder, captions = load.read(args.out, files), Path(args.out, "figures"), []
        cli.check_method(args.of, frame)
        with write_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with matplotlib.rc_context(style.RC_PLAIN_TEXT):
            for name, caption, figure in all_figures(frame, args.metric, args.of, args.draft):
                save(figure, folder / name, args.pdf)
                captions.append((name, caption))
        if captions or set(args.metric) == set(style.METRICS):
            with atomic_write(folder / "figures.tex") as part:
                part.write_text(latex(captions) + "\n")
        current = {name + suffix for name, _ in captions for suffix in (".png", ".pdf")[: 1 + args.pdf]}
        ours = re.compile(rf"({'|'.join(KINDS)})-.*-({'|'.join(args.metric)})(-\d+)?\.(png|pdf)")
        for path in () if cli.selects(args) else folder.iterdir():  # remove figures of runs that no longer exist
            if ours.fullmatch(path.name) and path.name not in current:
                path.unlink()
        kinds = dict.fromkeys(name.partition("-")[0] for name, _ in captions)
        print(f"{folder}: {len(captions)} figures ({'.png, .pdf' if args.pdf else '.png'}): {', '.join(kinds)}")

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
