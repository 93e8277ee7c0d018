"""Rows -> the tables of the paper, as Markdown, LaTeX (booktabs, graphicx) and CSV.

    python -m plots.tables [--out results] [--draft] [--metric return return_sampled win_rate] [--protocol last|best]

Writes `<out>/tables/main.*` from the runs with their published settings, and `ablation.*` if there are runs with `--set`.
"""

import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from core.files import whole
from plots import command, rows, stats, style

PROTOCOLS = {"last": "last checkpoint", "best": "best checkpoint of each run, chosen by playing"}
AGGREGATE, INTERVAL = "IQM, normalised", "95 % interval"
MISSING, CLOSE, MINUS = "--", " †", "\N{MINUS SIGN}"


class Cell(NamedTuple):
    text: str
    bold: bool = False


class Table(NamedTuple):
    """What the writers print; `blocks` of rows are separated by a line."""

    label: str
    caption: str
    header: list[str]
    blocks: list[list[list[Cell]]]
    notes: list[str]


def number(x: float, digits: int = 2, like: float | None = None) -> str:
    """As many decimals, fewer where `like` (default x) is beyond 100 and none beyond 1000; never a negative zero."""
    digits = min(digits, max(0, 4 - len(str(int(abs(x if like is None else like))))))
    return f"{round(x, digits) + 0.0:.{digits}f}".replace("-", MINUS)


def _score(row, usual: int) -> Cell:
    """A row of stats.cells. One run has no spread; a number of runs other than the `usual` one is shown."""
    spread = "" if row.n == 1 else f" ± {number(row.std, like=row.value)}"
    runs = "" if row.n == usual else f" (n = {row.n})"
    return Cell(number(row.value) + spread + runs + CLOSE * row.close, row.best)


def main(frame: pd.DataFrame, metric: str, protocol: str, draft: bool = False) -> tuple[Table, pd.DataFrame]:
    """Tasks x algorithms with a row of aggregates -> (table, its numbers in full, one row per cell). UserError: holes, unless `draft`."""
    if not draft:
        rows.require(frame, metric)
    references = rows.references(frame)
    algos, tasks = style.order(frame.algo), style.order(frame.task)
    scores = stats.final(frame, metric, protocol)
    cells, total = stats.cells(scores), stats.aggregate(scores, references)
    usual = int(cells.n.max()) if len(cells) else 0
    shown = {(row.task, row.algo): _score(row, usual) for row in cells.itertuples()}
    for row in total.itertuples():
        shown[AGGREGATE, row.algo] = Cell(number(row.value, 1) + CLOSE * row.close, row.best)
        shown[INTERVAL, row.algo] = Cell(MISSING if pd.isna(row.low) else f"[{number(row.low, 1)}, {number(row.high, 1)}]")

    def line(name: str, *extra: Cell) -> list[Cell]:
        return [Cell(name), *extra, *(shown.get((name, algo), Cell(MISSING)) for algo in algos)]

    mean = dict(zip(frame.task, frame.data_mean))
    body = [line(task, Cell(number(mean[task])), Cell(number(references[task][1]))) for task in tasks]
    header = ["task", "dataset", "best known", *(style.algorithm(algo)[0] for algo in algos)]
    notes = [
        f"{AGGREGATE}: interquartile mean over runs and tasks of the {style.METRICS[metric][0]} scaled to 0 (uniformly random) .. "
        "100 (best known), with its stratified bootstrap interval.",
        *_notes(frame, protocol),
    ]
    foot = [line(AGGREGATE, Cell(""), Cell("100")), line(INTERVAL, Cell(""), Cell(""))]
    table = Table(f"main-{metric}", _caption(frame, metric, protocol, usual), header, [body, foot], notes)
    return table, pd.concat([cells, total.assign(task=AGGREGATE)]).assign(metric=metric, protocol=protocol)


def ablation(frame: pd.DataFrame, metric: str, protocol: str) -> tuple[Table, pd.DataFrame]:
    """Of each algorithm that was run with overrides: the unmodified method and each set of overrides x the tasks of these runs.
    Ablations need not be complete: a cell nobody ran is "--"."""
    changed = frame[frame.overrides != ""]
    frame = frame[frame.algo.isin(changed.algo) & frame.task.isin(changed.task)]
    tasks, blocks, numbers = style.order(frame.task), [], []
    usual = int(frame.groupby(rows.RUN).seed.nunique().max())
    for algo in style.order(frame.algo):
        mine = frame[frame.algo == algo]
        cells = stats.cells(stats.final(mine.assign(algo=mine.overrides), metric, protocol)).rename(columns={"algo": "overrides"})
        shown = {(row.overrides, row.task): _score(row, usual) for row in cells.itertuples()}
        variants = ["", *sorted(set(mine.overrides) - {""})]
        names = [Cell(style.algorithm(algo)[0]), *[Cell("")] * (len(variants) - 1)]
        blocks.append(
            [
                [name, Cell(variant or "unmodified"), *(shown.get((variant, task), Cell(MISSING)) for task in tasks)]
                for name, variant in zip(names, variants)
            ]
        )
        numbers.append(cells.assign(algo=algo))
    caption = "What each part is worth. " + _caption(frame, metric, protocol, usual)
    table = Table(f"ablation-{metric}", caption, ["method", "change", *tasks], blocks, _notes(frame, protocol))
    return table, pd.concat(numbers).assign(metric=metric, protocol=protocol)


def _caption(frame: pd.DataFrame, metric: str, protocol: str, n: int) -> str:
    episodes, (what, whom) = " or ".join(map(str, sorted(frame.episodes.unique()))), style.METRICS[metric]
    return (
        f"{what.capitalize()} of {whom} ({metric}), {PROTOCOLS[protocol]}, {episodes} episodes in the final evaluation: "
        f"mean ± standard deviation over n = {n} seeds. Bold: highest mean of its comparison; "
        "†: its 95 % bootstrap interval overlaps with the best one's."
    )


def _notes(frame: pd.DataFrame, protocol: str) -> list[str]:
    per_step = style.order(frame.task[frame.per_step.astype(bool)])
    data = dict(zip(frame.task, frame.data))
    return [
        *([f"Mean reward per step instead of the sum over an episode: {', '.join(per_step)}."] if per_step else []),
        f"Data (sha256): {', '.join(f'{task} {data[task][:8]}' for task in style.order(data))}.",
        f"Made by: python -m plots.tables --protocol {protocol}",
    ]


def markdown(table: Table) -> str:
    """Pipe table, caption above, notes below."""

    def line(cells: list[Cell]) -> str:
        texts = [cell.text.replace("|", "\\|") for cell in cells]
        texts = [f"**{text}**" if cell.bold else text for text, cell in zip(texts, cells)]
        return f"| {' | '.join(texts)} |"

    left = 2 if table.header[1] == "change" else 1
    rule = "|" + "---|" * left + "---:|" * (len(table.header) - left)
    lines = [line([Cell(name) for name in table.header]), rule, *(line(row) for block in table.blocks for row in block)]
    return "\n".join([table.caption, "", *lines, "", *(note + "  " for note in table.notes)]) + "\n"


LATEX = str.maketrans(
    {c: f"\\{c}" for c in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$", MINUS: "$-$"}
)


def latex(table: Table) -> str:
    """A float for \\input; needs booktabs and graphicx (a table wider than the text is scaled down to it)."""

    def line(cells: list[Cell]) -> str:
        # marks hang into the gap between columns, so that the numbers stay aligned
        texts = [cell.text.removesuffix(CLOSE).translate(LATEX) + r"\rlap{$^\dagger$}" * cell.text.endswith(CLOSE) for cell in cells]
        texts = [rf"\textbf{{{text}}}" if cell.bold else text for text, cell in zip(texts, cells)]
        return " & ".join(texts) + r" \\"

    left = 2 if table.header[1] == "change" else 1
    body = "\n\\midrule\n".join("\n".join(line(row) for row in block) for block in table.blocks)
    return "\n".join(
        [
            r"\begin{table}[htb]",
            r"\centering\small",
            rf"\caption{{{table.caption.translate(LATEX)}}}",
            rf"\label{{tab:{table.label}}}",
            r"\smallskip\setlength{\tabcolsep}{5pt}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(table.header) - left)}}}",
            r"\toprule",
            line([Cell(name) for name in table.header]),
            r"\midrule",
            body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\par\smallskip\footnotesize\raggedright",
            *(note.translate(LATEX).replace("--", "-{}-") + r"\par" for note in table.notes),
            r"\end{table}",
            "",
        ]
    )


def write(folder: Path, name: str, tables: list[tuple[Table, pd.DataFrame]]) -> str:
    """`name`.md, .tex and .csv -> the Markdown. No tables, no files: older ones are removed."""
    paths = [folder / f"{name}{suffix}" for suffix in (".md", ".tex", ".csv")]
    if not tables:
        for path in paths:
            path.unlink(missing_ok=True)
        return ""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(markdown(table) for table, _ in tables)
    texts = text, "\n".join(latex(table) for table, _ in tables), pd.concat([numbers for _, numbers in tables]).to_csv(index=False)
    for path, content in zip(paths, texts):
        with whole(path) as part:
            part.write_text(content, encoding="utf-8")
    return text


def run(argv: list[str] | None = None) -> int:
    options = command.parser("plots.tables", "Make the tables from the rows under <out>/runs.")
    options.add_argument("--protocol", choices=PROTOCOLS, default="last", help="which evaluation is a run's score (default: %(default)s)")
    args = options.parse_args(argv)

    def work():
        everything = rows.read(args.out, overrides=True)
        frame = everything[everything.overrides == ""]
        seen = [(metric, rows.measured(frame, metric), rows.measured(everything, metric)) for metric in args.metric]
        mains = [main(mine, metric, args.protocol, args.draft) for metric, mine, _ in seen if len(mine)]
        changes = [ablation(mine, metric, args.protocol) for metric, _, mine in seen if (mine.overrides != "").any()]
        folder = Path(args.out, "tables")
        print("\n".join(filter(None, [write(folder, "main", mains), write(folder, "ablation", changes)])))

    return command.run(work)


if __name__ == "__main__":
    sys.exit(run())
