"""The recipes of CONTRIBUTING.md work: their files are written and their commands are run in a copy of the project."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support.project import ROOT, Project, environment

PAGE = ROOT / "CONTRIBUTING.md"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.S | re.M)
PLACE = re.compile(r"# (\S+\.py)\n")  # the first line of a block that belongs in a file


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("recipes"))
    project.forks.process.stdin.close()  # the recipes start their own processes
    return project.root


def blocks(title: str) -> list[tuple[str, str]]:
    """(language, text) of the blocks in a section of the page."""
    [section] = re.findall(rf"^## {title}\n(.*?)(?=^## )", PAGE.read_text(), re.S | re.M)
    return BLOCK.findall(section)


def follow(root: Path, title: str) -> str:
    """Do what a recipe says, and return what its commands print."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    printed = ""
    for language, text in blocks(title):
        if language == "sh":
            command = ["bash", "-euo", "pipefail", "-c", text]
            done = subprocess.run(command, cwd=root, env=environment(root) | {"PATH": path}, capture_output=True, text=True)
            assert done.returncode == 0, (text, done.stdout, done.stderr)
            printed += done.stdout
        elif place := PLACE.match(text):
            with (root / place[1]).open("a") as file:
                file.write(text.removeprefix(place[0]))
    return printed


def test_the_recipe_for_a_method(copy):
    assert "| MINE |" in follow(copy, "Add a method")


def test_the_recipe_for_an_environment(copy):
    printed = follow(copy, "Add an environment")
    assert "levers-random.h5: sound" in printed
    assert "levers-random" in (copy / "datasets" / "manifest.json").read_text()
    assert "| BC |" in printed


def test_the_recipe_for_a_layout(copy):
    assert "passed" in follow(copy, "Add a data layout")


def test_the_files_of_the_recipes_are_formatted(copy):
    files = [place[1] for title in ("Add an environment", "Add a data layout") for _, text in blocks(title) if (place := PLACE.match(text))]
    for command in ["check"], ["format", "--check"]:
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *files], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
