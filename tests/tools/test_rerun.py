"""tools.rerun: finished experiments run again."""

import json
from pathlib import Path

import pytest

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.running.execute import execute
from inspo_benchmark.running.planning import plan
from inspo_benchmark.tools import rerun


@pytest.fixture
def made(tmp_path) -> Path:
    """A folder with two finished experiments."""
    ALGORITHMS.discover(), TASKS.discover()
    out = tmp_path / "made"
    for experiment in plan(["bc", "omiga"], ["xor-ab"], (0, 1), ["num_updates=4", "hidden_dim=8"], out):
        assert execute(experiment)
    return out


def test_the_same_code_gives_the_same_files(made, tmp_path, capsys):
    command = [str(made), "--share", "1", "--out", str(tmp_path / "again")]
    assert rerun.main(command) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("2 experiments of 2, 2 to run")
    assert shown.endswith("2 of 2 files equal\n")
    assert rerun.main(command) == 0  # both are finished
    assert capsys.readouterr().out.startswith("2 experiments of 2, 0 to run")


def test_another_revision_of_the_code_starts_anew(made, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(rerun, "OUT", tmp_path / "again")
    for revision, to_run in ("a" * 40, 2), ("a" * 40, 0), ("b" * 40, 2):
        monkeypatch.setattr(rerun, "revision", lambda revision=revision: {"revision": revision, "dirty": False})
        assert rerun.main([str(made), "--share", "1"]) == 0
        assert capsys.readouterr().out.startswith(f"2 experiments of 2, {to_run} to run")


@pytest.mark.parametrize("code", [{"revision": "a" * 40, "dirty": True}, {"revision": "", "dirty": False}])
def test_code_without_a_commit_needs_a_folder(made, capsys, monkeypatch, code):
    monkeypatch.setattr(rerun, "revision", lambda: code)
    assert rerun.main([str(made), "--share", "1"]) == 2
    assert "the code is not that of a git commit" in capsys.readouterr().err


def test_a_file_that_differs_is_named(made, tmp_path, capsys):
    (path,) = made.glob("runs/bc/*.csv")
    rows = path.read_text().splitlines()
    last = next(k for k, row in enumerate(rows) if row.startswith("bc,xor-ab,1,4,return,"))
    score = float(rows[last].rpartition(",")[2])
    rows[last] = f"bc,xor-ab,1,4,return,{score + 0.5}"
    path.write_text("\n".join(rows) + "\n")
    assert rerun.main([str(made), "--share", "1", "--out", str(tmp_path / "again")]) == 1
    shown = capsys.readouterr().out
    assert f"differs, by up to 0.5 in the final return of a seed: {path}" in shown
    assert shown.endswith("1 of 2 files equal\n")


def test_the_draw_is_random_and_repeats(made, tmp_path, capsys):
    chosen = set()
    for draw in "0", "0", "1", "2", "3", "4":
        assert rerun.main([str(made), "--draw", draw, "--out", str(tmp_path / "again")]) == 0
        chosen.add((draw, "bc" if "/bc/" in capsys.readouterr().out else "omiga"))
    assert len(chosen) == 5  # the same draw, the same experiment
    assert {algo for _, algo in chosen} == {"bc", "omiga"}


def test_results_that_cannot_repeat_are_left_out(made, tmp_path, capsys):
    for algo, change in (
        ("bc", {"evaluation": {"num_evals": 1, "eval_episodes": 1, "final_episodes": 1}}),
        ("omiga", {"machine": {"device": "GPU"}}),
    ):
        (path,) = made.glob(f"runs/{algo}/*.json")
        path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert rerun.main([str(made), "--out", str(tmp_path / "again")]) == 2
    assert f"no finished results of today's settings in {made}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--share", "0"], "argument --share: '0': write a number above 0, at most 1"),
        (["--share", "1.5"], "argument --share: '1.5': write a number above 0, at most 1"),
        (["--workers", "0"], "argument --workers: '0': write a whole number above 0"),
    ],
)
def test_numbers_are_checked(option, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        rerun.main(option)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_results_is_named(tmp_path, capsys):
    assert rerun.main([str(tmp_path)]) == 2
    assert f"{tmp_path} is no results folder" in capsys.readouterr().err
