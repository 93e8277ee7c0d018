"""Tables -> Markdown, LaTeX (booktabs, graphicx) and CSV."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from inspo_benchmark.core.atomic_io import atomic_write, write_errors

NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
LINK = re.compile(r"\\|!(?=\[)|\](?=[(\[])")  # what makes a link of [text](address); intervals stay as they are
MISSING, CLOSE, MINUS = "--", " †", "\N{MINUS SIGN}"
MAX_ROWS = 38  # rows of a LaTeX table that fit on a page; longer tables continue on the next page


class Cell(NamedTuple):
    text: str
    bold: bool = False


class Table(NamedTuple):
    """A table to print. Groups of rows are set slightly apart in LaTeX; `foot` stands below a rule."""

    label: str
    caption: str
    header: list[str]
    groups: list[list[list[Cell]]]
    foot: list[list[Cell]] = []
    notes: list[str] = []
    left: int = 1  # number of text columns; the others hold numbers
    spans: list[tuple[str, int]] = []  # (title, number of columns) above the header, LaTeX only

    @property
    def rows(self) -> list[list[Cell]]:
        return [row for group in [*self.groups, self.foot] for row in group]


def decimals(x: float, digits: int = 2) -> int:
    """Number of decimals to print: `digits`, at most 1 from 100 on, none from 1000 on."""
    return min(digits, max(0, 4 - len(str(int(abs(x))))))


def number(x: float, digits: int = 2, like: float | None = None) -> str:
    """x with as many decimals as `like` (default x) is printed with; never a negative zero."""
    digits = decimals(x if like is None else like, digits)
    return f"{round(float(x), digits) + 0.0:.{digits}f}".replace("-", MINUS)


def mean_std(mean: float, std: float) -> str:
    """mean ± std with the same number of decimals, or the mean alone if std is NaN."""
    return number(mean) if pd.isna(std) else f"{number(mean)} ± {number(std, like=mean)}"


def setting(x) -> str:
    """The value of a hyperparameter."""
    return str(x).lower() if isinstance(x, bool) else f"{x:g}" if isinstance(x, float) else str(x)


def assignments(values: dict) -> str:
    return ", ".join(f"{name} = {setting(x)}" for name, x in values.items()) or "as the defaults"


def markdown(table: Table) -> str:
    """A pipe table with its caption above and its notes below."""

    def line(cells: list[Cell]) -> str:
        texts = [re.sub(r"[|`]", r"\\\g<0>", plain(cell.text)) for cell in cells]
        texts = [f"**{text}**" if cell.bold else text for text, cell in zip(texts, cells)]
        return f"| {' | '.join(texts)} |"

    rule = "|" + "---|" * table.left + "---:|" * (len(table.header) - table.left)
    lines = [line([Cell(name) for name in table.header]), rule, *map(line, table.rows)]
    return "\n".join([plain(table.caption), "", *lines, "", *(plain(note) + "  " for note in table.notes)]) + "\n"


def plain(text: str) -> str:
    """Text that may come from a file, for Markdown: in one line, and no HTML, link or image."""
    return LINK.sub(r"\\\g<0>", " ".join(text.split("\n")).replace("<", "&lt;"))


def inert(x: object) -> object:
    """A value for a CSV: text that a spreadsheet would take for a formula gets an apostrophe in front."""
    if isinstance(x, str) and x[:1] in ("=", "+", "-", "@", "\t", "\r") and not NUMBER.fullmatch(x):
        return f"'{x}"
    return x


ESCAPES = str.maketrans(
    {c: f"\\{c}" for c in "_%&#${}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "†": r"$^\dagger$", MINUS: "$-$"}
    | {"<": r"\textless{}", ">": r"\textgreater{}", "`": "", "\n": " "}
)


def escaped(text: str) -> str:
    """Text -> LaTeX source. Letters that the fonts of pdflatex lack become question marks."""
    return "".join(c if c.isascii() or c in "±†" + MINUS else "?" for c in text).translate(ESCAPES).replace("--", "-{}-")


def latex(table: Table) -> str:
    """Floats for \\input. They need booktabs and graphicx; a table wider than the text is scaled down to its width."""
    parts, taken = [[]], 0
    for group in table.groups:
        for k, row in enumerate(group):
            if taken >= MAX_ROWS:
                parts, taken = [*parts, []], 0
            if k == 0 or not parts[-1]:
                parts[-1].append([])
                taken += 0.5  # space between groups
            parts[-1][-1].append(row)
            taken += 1
    return "\n".join(_float(table, groups, k, k == len(parts) - 1) for k, groups in enumerate(parts))


def _float(table: Table, groups: list[list[list[Cell]]], part: int, last: bool) -> str:
    def line(cells: list[Cell]) -> str:
        # daggers have no width, so that the numbers stay aligned
        texts = [escaped(cell.text.removesuffix(CLOSE)) + r"\rlap{$^\dagger$}" * cell.text.endswith(CLOSE) for cell in cells]
        texts = [rf"\textbf{{{text}}}" if cell.bold else text for text, cell in zip(texts, cells)]
        return " & ".join(texts) + r" \\"

    def lines(rows: Iterable[list[Cell]]) -> str:
        return "\n".join(map(line, rows))

    spans, first = [], 1
    for title, width in table.spans:
        if title:
            spans.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    above = " & ".join(rf"\multicolumn{{{width}}}{{c}}{{{escaped(title)}}}" for title, width in table.spans)
    caption = escaped(table.caption) if part == 0 else f"Continued from Table~\\ref{{tab:{table.label}}}."
    label = table.label + f"-{part + 1}" * (part > 0)
    notes = table.notes if last else []
    return "\n".join(
        [
            r"\begin{table}[htb]",
            r"\centering\small",
            rf"\caption{{{caption}}}",
            rf"\label{{tab:{label}}}",
            r"\smallskip\setlength{\tabcolsep}{5pt}",
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{'l' * table.left}{'r' * (len(table.header) - table.left)}}}",
            r"\toprule",
            *([above + r" \\", "".join(spans)] if spans else []),
            line([Cell(name) for name in table.header]),
            r"\midrule",
            "\n\\addlinespace\n".join(map(lines, groups)),
            *([r"\midrule", lines(table.foot)] if table.foot and last else []),
            r"\bottomrule",
            r"\end{tabular}}",
            *([r"\par\smallskip\footnotesize\raggedright", *(escaped(note) + r"\par" for note in notes)] if notes else []),
            r"\end{table}",
            "",
        ]
    )


def write(folder: Path, files: dict[str, list[tuple[Table, pd.DataFrame]]], kinds: Iterable[str]) -> None:
    """Write every table as `name`.md, .tex and .csv (the numbers in full).

    `kinds` are the parts of names before the first dash. Files of these kinds that are not written now are removed: they show runs that no
    longer exist.
    """
    with write_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for name, tables in files.items():
        texts = {
            ".md": "\n".join(markdown(table) for table, _ in tables),
            ".tex": "\n".join(latex(table) for table, _ in tables),
            ".csv": pd.concat([numbers for _, numbers in tables]).map(inert).to_csv(index=False),
        }
        for suffix, text in texts.items():
            with atomic_write(folder / f"{name}{suffix}") as part:
                part.write_text(text, encoding="utf-8")
    for path in folder.iterdir():
        if path.suffix in (".md", ".tex", ".csv") and path.stem.partition("-")[0] in kinds and path.stem not in files:
            path.unlink()
