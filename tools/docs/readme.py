"""Writes the tables of README.md from the tables of the reference results: `python -m tools.docs.readme`.

Each stands between the lines `<!-- FILE METRIC -->` and `<!-- end -->`.
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "README.md"
PLACE = re.compile(r"(<!-- (\S+\.md) (\w+) -->\n).*?(<!-- end -->)", re.S)


def table(file: str, metric: str) -> str:
    """The rows of a metric's table, without caption and notes."""
    text = (ROOT / file).read_text()
    [rows] = re.findall(rf"\({metric}\)[^\n]*\n\n((?:\|[^\n]*\n)+)", text)
    return rows


def page() -> str:
    return PLACE.sub(lambda place: f"{place[1]}\n{table(place[2], place[3])}\n{place[4]}", PAGE.read_text())


if __name__ == "__main__":
    PAGE.write_text(page())
