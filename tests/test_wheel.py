"""A wheel holds all that the library needs, and its datasets are in the user's cache."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from inspo_benchmark.datasets.catalog import VARIABLE, data_folder

ROOT = Path(__file__).parents[1]
SNIPPET = """
import datasets
import inspo_benchmark as ib
from inspo_benchmark.datasets.catalog import DATA_FOLDER

assert datasets.NAME == "another package"
result = ib.train("bc", "xor-ab", seeds=1, num_updates=4, hidden_dim=4)
assert ib.load_dataset("xor-ab").episodes == len(ib.load_dataset(DATA_FOLDER / "xor-ab.h5").seed)
assert "3m-medium" in ib.list_tasks() and ib.list_algorithms()
print(ib.__file__, DATA_FOLDER, len(result.frame), sep="\\n")
"""


def test_a_wheel_works_from_another_folder(tmp_path):
    """Also beside another package that is called `datasets`."""
    pytest.importorskip("setuptools")
    source, installed, elsewhere = tmp_path / "source", tmp_path / "site-packages", tmp_path / "elsewhere"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "results", "data", "build", "site", "tests")
    shutil.copytree(ROOT, source, ignore=unwanted)
    folders = ("core", "envs", "datasets", "learning", "algorithms", "running", "plots", "tools")
    files = [path for folder in folders for path in (source / folder).rglob("*") if path.is_file() and path.suffix != ".md"]
    needed = {f"inspo_benchmark/{path.relative_to(source).as_posix()}" for path in files}
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", tmp_path, source]
    built = subprocess.run(list(map(str, build)), capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    [wheel] = tmp_path.glob("*.whl")
    assert needed <= set(zipfile.ZipFile(wheel).namelist())
    zipfile.ZipFile(wheel).extractall(installed)
    elsewhere.mkdir()
    (elsewhere / "datasets.py").write_text("NAME = 'another package'\n")
    env = {name: value for name, value in os.environ.items() if name != VARIABLE}
    env |= {"PYTHONPATH": f"{installed}{os.pathsep}{elsewhere}", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", SNIPPET], cwd=elsewhere, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    file, folder, rows = done.stdout.split()
    assert Path(file).is_relative_to(installed)
    assert Path(folder) == tmp_path / "cache" / "inspo_benchmark" / "datasets"
    assert (Path(folder) / "xor-ab.h5").exists()
    assert int(rows) == 19


def test_the_folder_of_the_datasets(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder(Path("/home/me/checkout/datasets")) == Path("/home/me/checkout/datasets/data")
    assert data_folder(Path("/usr/lib/python3/dist-packages/inspo_benchmark/datasets")) == tmp_path / "inspo_benchmark" / "datasets"
    monkeypatch.setenv(VARIABLE, "~/data")
    assert data_folder() == Path.home() / "data"
