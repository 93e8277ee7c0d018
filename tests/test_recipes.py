"""The recipes of CONTRIBUTING.md and docs/new-task.md work: their files are written and their commands are run in a copy of the project."""

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


def test_a_task_outside_the_package(copy, tmp_path):
    blocks = BLOCK.findall((ROOT / "docs" / "new-task.md").read_text())
    assert [language for language, _ in blocks] == ["python", "toml", "sh", "python", "python"]
    (_, grid), (_, settings), (_, commands), (_, mine), (_, notebook) = blocks
    folder = tmp_path / "grid"
    folder.mkdir()
    (folder / "grid.py").write_text(grid)
    (folder / "grid.toml").write_text(settings)
    home = environment(copy) | {"HOME": str(tmp_path)}
    shell = home | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", commands], cwd=copy, env=shell, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout, done.stderr)
    assert re.search(r"^  num_updates +200 +task$", done.stdout, re.M)
    assert "grid-noisy.h5: sound" in done.stdout  # though some episodes are equal
    assert re.search(r"^inspo on grid-noisy, seeds 0-1: win rate [\d.]+ % \(data 49.5 %, BC [\d.]+ %\)$", done.stdout, re.M)
    for metric in "return", "return_sampled", "win_rate":
        table = (copy / "results" / "grid" / "tables" / "main-grid.md").read_text().partition(f"({metric})")[2]
        task, dataset, reference, *scores = table.partition("| grid-noisy |")[2].partition("|\n")[0].split("|")
        assert len([task, dataset, reference, *scores]) == 4
        assert "--" not in "".join([task, dataset, reference, *scores])
    (folder / "mine.py").write_text(mine)
    env = home | {"INSPO_BENCHMARK_MODULES": str(folder / "mine.py")}
    command = [sys.executable, "run_benchmark.py", "--algo", "bc", "--env", "3m-mine"]
    lacking = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True)
    assert (lacking.returncode, lacking.stderr.count("\n")) == (2, 1), lacking
    assert "no data for 3m-mine (to be converted)" in lacking.stderr
    shown = subprocess.run([sys.executable, "-c", notebook], cwd=folder, env=home, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert "<bc on grid-noisy, 2 seeds: mean return" in shown.stdout
    assert re.search(r"^win_rate +1\.0", shown.stdout, re.M)
    for text, said in (
        ("[bcc]\n", "'bcc' is no table of a method; did you mean bc?"),
        ("[bc]\nalpha = 1\n", "names 'alpha', which is no field"),
        ("[bc]\nlr = 'high'\n", "lr=high: must be a number"),
        ("bc\n", "cannot be read"),
    ):
        (folder / "grid.toml").write_text(text)
        command = [sys.executable, "run_benchmark.py", "--algo", "bc", "--env", "grid", "--show-config"]
        env = home | {"INSPO_BENCHMARK_MODULES": str(folder / "grid.py")}
        refused = subprocess.run(command, cwd=copy, env=env, capture_output=True, text=True)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert said in refused.stderr


def test_the_files_of_the_recipes_are_formatted(copy):
    files = [place[1] for title in ("Add an environment", "Add a data layout") for _, text in blocks(title) if (place := PLACE.match(text))]
    for command in ["check"], ["format", "--check"]:
        done = subprocess.run([sys.executable, "-m", "ruff", *command, *files], cwd=copy, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
