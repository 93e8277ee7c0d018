"""Copies tables of the reference results and code into README.md, CONTRIBUTING.md and docs/results.md: `python -m tools.docs.readme`.

A table stands between `<!-- FILE METRIC -->` and `<!-- end -->`, the overview of all suites between `<!-- overview -->` and `<!-- end -->`,
a Python file between `<!-- FILE -->` and `<!-- end -->`. Nothing else on these pages is touched.
"""

import re
import sys
from pathlib import Path

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import CommandLine, outcome
from inspo_benchmark.plots import style
from inspo_benchmark.plots.table_writers import MISSING

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "docs" / "results.md"]
TABLE = re.compile(r"(<!-- (\S+\.md) (\w+) -->\n).*?(<!-- end -->)", re.S)
CODE = re.compile(r"(<!-- (\S+\.py) -->\n).*?(<!-- end -->)", re.S)
OVERVIEW = re.compile(r"(<!-- overview -->\n).*?(<!-- end -->)", re.S)
ROWS = [  # suite, what is measured, folder of the results, metric
    ("games", "return, sampled", "games", "return_sampled"),
    ("games", "return, greedy", "games", "return"),
    ("SMAC", "win rate, greedy", "smac", "win_rate"),
    ("SMAC", "return, sampled", "smac", "return_sampled"),
    ("SMACv2", "win rate, greedy", "smacv2", "win_rate"),
    ("SMACv2", "return, sampled", "smacv2", "return_sampled"),
    ("MuJoCo", "return, greedy", "mujoco", "return"),
    ("MuJoCo", "return, sampled", "mujoco", "return_sampled"),
]


def table(file: str, metric: str) -> str:
    """The rows of a metric's table, without its caption and its notes."""
    text = (ROOT / file).read_text()
    [rows] = re.findall(rf"\({metric}\)[^\n]*\n\n((?:\|[^\n]*\n)+)", text)
    return rows


def cells(row: str) -> list[str]:
    """The texts between the bars of a row."""
    return [text.strip() for text in row.strip().strip("|").split("|")]


def overview() -> str:
    """The interquartile mean of every method over the tasks of each suite; "--" where a suite lacks the method."""
    rows, methods = [], []
    for suite, measure, folder, metric in ROWS:
        lines = table(f"results/reference/{folder}/tables/main-{folder}.md", metric).splitlines()
        head = cells(lines[0])
        first = head.index("dataset") + 2 + ("behavior" in head)  # after the return with the normalized score 100
        [means] = [cells(line)[first:] for line in lines if line.startswith("| IQM")]
        rows.append((suite, measure, dict(zip(head[first:], means))))
        methods += [name for name in rows[-1][2] if name not in methods]
    order = [style.algorithm(name).label for name in style.order(style.ALGORITHMS)]
    methods.sort(key=order.index)
    header = [["suite", "measure", *methods], ["---"] * 2 + ["---:"] * len(methods)]
    lines = [[suite, measure, *(means.get(name, MISSING) for name in methods)] for suite, measure, means in rows]
    return "".join(f"| {' | '.join(row)} |\n" for row in header + lines)


def page(path: Path) -> str:
    """The page with today's tables and code."""
    text = TABLE.sub(lambda place: f"{place[1]}\n{table(place[2], place[3])}\n{place[4]}", path.read_text())
    text = CODE.sub(lambda place: f"{place[1]}\n```python\n{(ROOT / place[2]).read_text()}```\n\n{place[3]}", text)
    return OVERVIEW.sub(lambda place: f"{place[1]}\n{overview()}\n{place[2]}", text)


def main() -> None:
    for path in PAGES:
        with atomic_write(path) as part:
            part.write_text(page(path))


if __name__ == "__main__":
    CommandLine.of("tools.docs.readme", __doc__).parse_args()
    sys.exit(outcome(main))
