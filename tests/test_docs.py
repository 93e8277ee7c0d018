"""What the documents say is what the files hold."""

import dataclasses
import re
import tomllib
from pathlib import Path

import pytest

from inspo_benchmark.datasets.catalog import manifest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 200


def test_contributing_shows_a_whole_baseline():
    assert (ROOT / "algorithms" / "bc.py").read_text().strip() in (ROOT / "CONTRIBUTING.md").read_text()


def test_the_pages_show_the_tables_of_the_reference_runs():
    from inspo_benchmark.tools.docs import readme

    texts = {page.name: page.read_text() for page in readme.PAGES}
    assert len(readme.TABLE.findall(texts["results.md"])) == 14
    assert all(len(readme.OVERVIEW.findall(texts[page])) == 1 for page in ("README.md", "results.md"))
    assert texts == {page.name: readme.page(page) for page in readme.PAGES}, "write them again: make pages"


def test_the_library_does_what_the_readme_shows(capsys):
    [snippet] = re.findall(r"^```python\n(import inspo_benchmark as ib\n.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    exec(snippet, {})
    assert capsys.readouterr().out.count("return") > 2


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_to_a_heading_find_it(page):
    for target, heading in re.findall(r"\]\((?!https?://)([^)#]*)#([^)]+)\)", page.read_text()):
        titles = re.findall(r"^#+ (.+)$", (page.parent / target if target else page).read_text(), re.M)
        assert heading in {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}, heading


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_commands_of_a_page_exist(page):
    for module in re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)*)", page.read_text()):
        path = ROOT.joinpath(*module.split("."))
        if path.parts[len(ROOT.parts)] in ("pip", "pytest", "venv", "mypy"):
            continue
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_options_of_a_page_exist(page):
    known = set(re.findall(r'"(--[a-z-]+)"', (ROOT / "run_benchmark.py").read_text()))
    text = re.sub(r"\\\n +", "", page.read_text())
    for command in re.findall(r"python run_benchmark\.py([^\n`#]*)", text):
        assert set(re.findall(r"(?<!\S)--[a-z-]+", command)) <= known, command


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_the_targets_of_a_page_exist(page):
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(), re.M)) <= known


def test_the_page_of_inspo_names_tests_that_exist():
    tests = set(re.findall(r"^def test_(\w+)", (ROOT / "tests" / "algorithms" / "test_theory.py").read_text(), re.M))
    named = re.findall(r"`([a-z_]{20,})(?:\.\.\.)?`", (ROOT / "docs" / "inspo.md").read_text())
    assert len(named) > 10
    assert not [name for name in named if not any(test.startswith(name) for test in tests)]


def test_every_dependency_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines()}
    needed = [*project["dependencies"], *project["optional-dependencies"]["mujoco"], *project["optional-dependencies"]["test"]]
    assert {re.split("[<>=]", requirement)[0] for requirement in needed} <= pinned


def test_the_page_of_hyperparameters_is_current():
    from inspo_benchmark.tools.docs import hyperparameters

    assert hyperparameters.PAGE.read_text() == hyperparameters.page(), "write it again: python -m tools.docs.hyperparameters"


def test_the_pages_of_the_methods_are_current():
    from inspo_benchmark.tools.docs import methods

    assert {page.name: page.read_text() for page in methods.FOLDER.glob("*.md")} == methods.pages(), "write them again: make pages"


def test_every_setting_is_described():
    from inspo_benchmark.core.registry import ALGORITHMS
    from inspo_benchmark.tools.docs import hyperparameters

    for algorithm in ALGORITHMS.discover().values():
        docs = hyperparameters.field_docs(algorithm.Config)
        assert {field.name for field in dataclasses.fields(algorithm.Config)} <= set(docs)


def test_the_cards_are_of_the_published_datasets():
    rows = re.findall(r"^\| (\S+) \|.*\| `(\w{12})` \|$", (ROOT / "datasets" / "CARDS.md").read_text(), re.M)
    assert dict(rows) == {name: about["sha256"][:12] for name, about in manifest().items()}
