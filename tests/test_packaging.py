"""The package holds every folder with code, under one version."""

import tomllib
from pathlib import Path

import inspo_benchmark

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FLOORS = ("core", "envs", "datasets", "learning", "algorithms", "running", "plots", "tools")


def test_every_folder_with_code_is_packaged():
    folders = {path.parent for floor in FLOORS for path in (ROOT / floor).rglob("*.py")}
    names = {".".join(["inspo_benchmark", *folder.relative_to(ROOT).parts]) for folder in folders}
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == {"inspo_benchmark", *names}


def test_the_version_is_the_same_everywhere():
    assert PROJECT["project"]["version"] == inspo_benchmark.__version__
    assert f"version: {inspo_benchmark.__version__}" in (ROOT / "CITATION.cff").read_text()
