"""What the documents say is what the files hold."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]


def test_the_readme_shows_a_whole_baseline():
    assert (ROOT / "algorithms" / "bc.py").read_text().strip() in (ROOT / "README.md").read_text()


def test_the_readme_shows_the_tables_of_the_reference_runs():
    from inspo_benchmark.tools.docs import readme

    assert len(readme.PLACE.findall(readme.PAGE.read_text())) == 8
    assert readme.PAGE.read_text() == readme.page(), "write them again: python -m tools.docs.readme"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert {*project["dependencies"], *project["optional-dependencies"]["test"]} <= pinned


def test_the_page_of_hyperparameters_is_current():
    from inspo_benchmark.tools.docs import hyperparameters

    assert hyperparameters.PAGE.read_text() == hyperparameters.page(), "write it again: python -m tools.docs.hyperparameters"
