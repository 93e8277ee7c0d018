"""Results of version 0.1 get the new names, and what is no such result is refused in one line."""

import json
from functools import partial, partialmethod
from pathlib import Path

import pytest
import torch

from inspo_benchmark.core.atomic_io import load_checked, save_checked
from inspo_benchmark.running import schema
from inspo_benchmark.tools.migrate_results import main
from support.results import write


@pytest.fixture
def old(tmp_path):
    """The JSON of a result as version 0.1 wrote it."""
    path = write(tmp_path, key="old", wall_seconds=1.0).with_suffix(".json")
    about = json.loads(path.read_text())
    about |= {"config": {"steps": 1000, "hidden": 8}, "overrides": {"hidden": 8}, "family": "abc", "protocol": {"points": 4}}
    del about["evaluation"]
    path.write_text(json.dumps(about))
    save_checked({"config": {"steps": 1000}, "params": {"pi": torch.ones(2)}}, path.with_suffix(".policies"))
    return path


def test_names_change_and_rows_do_not(tmp_path, old):
    rows = old.with_suffix(".csv").read_bytes()
    assert main([str(tmp_path)]) == 0
    [new] = tmp_path.glob("runs/bc/*.json")
    about = schema.parse(new, {"group", "evaluation", "config.num_updates"})
    assert (about["config"], about["overrides"]) == ({"num_updates": 1000, "hidden_dim": 8}, {"hidden_dim": 8})
    assert about["evaluation"] == {"num_evals": 4}
    assert new.with_suffix(".csv").read_bytes() == rows
    assert load_checked(new.with_suffix(".policies"))["config"] == {"num_updates": 1000}
    assert len(list(tmp_path.glob("runs/bc/*"))) == 3
    assert main([str(tmp_path)]) == 0  # nothing is left to do


def test_an_interrupted_command_can_be_run_again(tmp_path, old, monkeypatch):
    """Whichever file it has moved or deleted last."""

    def files() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in old.parent.glob("[!.]*")}

    def interrupted(call, *args, **options):
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return call(*args, **options)

    before = files()
    assert main([str(tmp_path)]) == 0
    after = files()
    for steps in range(9):  # three files are written, each by a move and a deletion, and three are deleted
        for path in after:
            path.unlink(missing_ok=True)
        for path, content in before.items():
            path.write_bytes(content)
        left = steps
        with monkeypatch.context() as patch:
            for name in ("replace", "unlink"):
                patch.setattr(Path, name, partialmethod(partial(interrupted, getattr(Path, name))))
            assert main([str(tmp_path)]) == 130
        assert main([str(tmp_path)]) == 0
        assert files() == after


def test_another_result_with_the_new_name_is_kept(tmp_path, old, capsys):
    before = {path: path.read_bytes() for path in old.parent.iterdir()}
    assert main([str(tmp_path)]) == 0
    [new] = tmp_path.glob("runs/bc/*.json")
    new.write_text(json.dumps(json.loads(new.read_text()) | {"wall_seconds": 2.0}))
    theirs = {path: path.read_bytes() for path in old.parent.iterdir()}
    for path, content in before.items():
        path.write_bytes(content)
    assert main([str(tmp_path)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in old.parent.iterdir()} == before | theirs


def test_an_unfinished_result_is_left_out(tmp_path, old):
    """A killed process can leave a JSON without a CSV."""
    unfinished = write(tmp_path, algo="inspo", key="old", seeds=(7,))
    unfinished.with_suffix(".json").write_text(json.dumps(json.loads(old.read_text()) | {"algo": "inspo", "seeds": [7]}))
    unfinished.unlink()
    assert main([str(tmp_path)]) == 0
    assert not old.exists()
    assert unfinished.with_suffix(".json").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"task": "../../../x"},
        {"config": [1]},
        {"overrides": None},
        {"protocol": "x"},
        {"data": {}},
        {"algo": 5},
        "[" * 100_000,
        "",
    ],
    ids=lambda x: str(x)[:20],
)
def test_a_malformed_result_is_refused(tmp_path, old, capsys, change):
    old.write_text(change if isinstance(change, str) else json.dumps(json.loads(old.read_text()) | change))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert main([str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert (said.count("\n"), said[:7]) == (1, "error: ")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_damaged_policies_are_refused(tmp_path, old, capsys):
    old.with_suffix(".policies").write_bytes(b"x" * 100)
    assert main([str(tmp_path)]) == 2
    assert "is damaged (wrong checksum)" in capsys.readouterr().err
    assert old.with_suffix(".csv").exists()
