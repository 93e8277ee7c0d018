"""Every equation of a method's docstring has its line: the number stands in the margin of the code that computes it."""

import ast
import io
import re
import tokenize
from pathlib import Path

import pytest

FILES = [
    path for path in sorted(Path(__file__).parents[2].joinpath("algorithms").glob("*.py")) if "ALGORITHMS.register(" in path.read_text()
]
NUMBER = re.compile(r"\((\d+)\)")


def numbered(source: str) -> set[int]:
    """The equations that a module's docstring numbers: (n) at the end of an indented line."""
    lines = (ast.get_docstring(ast.parse(source), clean=False) or "").splitlines()
    return {int(n) for line in lines if line.startswith("    ") for n in re.findall(r"\((\d+)\)$", line)}


def margins(source: str) -> set[int]:
    """The numbers in comments beside code that begin with a number: `# (3)`, `# (1) and (2)`, `# (4): the sum over agents`."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = (t for t in tokens if t.type == tokenize.COMMENT and t.line[: t.start[1]].strip())
    return {int(n) for t in comments if NUMBER.match(t.string.lstrip("# ")) for n in NUMBER.findall(t.string)}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_equation_has_its_line(path):
    source = path.read_text()
    assert numbered(source)
    assert numbered(source) <= margins(source)


def test_only_comments_that_begin_with_a_number_count():
    doc = '"""Sums, as in (7).\n\n    x = 1    (1)\n    y = x    (2)\n"""\n'
    assert numbered(doc) == {1, 2}
    assert margins("x = 1  # (1), not (3)\ny = x  # as in (2)\n# (4)\nz = '# (5)'\n") == {1, 3}
