"""Files of a results folder that are not what the runner left there."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from inspo_benchmark.core.atomic_io import load_checked, save_checked
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.learning.train import Stopped
from inspo_benchmark.running.execute import execute
from inspo_benchmark.running.planning import plan

ALGORITHMS.discover(), TASKS.discover()
SMALL = ["num_updates=40", "hidden_dim=8", "batch_size=8"]


def planned(out, task="xor-ab", seeds=(0, 1), settings=SMALL):
    (experiment,) = plan(["bc"], [task], seeds, settings, out)
    return experiment


def stopped_at(experiment, update):
    def progress(done, score):
        if done >= update:
            raise Stopped

    with pytest.raises(Stopped):
        execute(experiment, progress=progress)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> bytes:
    """The rows of an undisturbed training."""
    experiment = planned(tmp_path_factory.mktemp("whole"))
    assert execute(experiment)
    return experiment.csv_path.read_bytes()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> bytes:
    """Of the same training, stopped."""
    experiment = planned(tmp_path_factory.mktemp("stopped"))
    stopped_at(experiment, 20)
    return experiment.checkpoint_path.read_bytes()


@pytest.mark.parametrize(
    "other",
    [dict(task="xor-all"), dict(seeds=(0, 2)), dict(settings=[*SMALL, "lr=0.1"])],
    ids=["of another task", "of other seeds", "of another learning rate"],
)
def test_a_checkpoint_of_another_experiment_is_not_resumed(tmp_path, capsys, whole, other):
    mine, foreign = planned(tmp_path), planned(tmp_path, **other)
    stopped_at(foreign, 20)
    shutil.copy(foreign.checkpoint_path, mine.checkpoint_path)
    assert execute(mine)
    assert "cannot be used (of another experiment); training starts from the beginning" in capsys.readouterr().out
    assert mine.csv_path.read_bytes() == whole


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, lambda leaves: [x.double() for x in leaves]),
        (1, lambda rows: [("=cmd", 0, "return", 1.0)]),
        (1, lambda rows: [row[:3] for row in rows]),
        (2, lambda losses: dict.fromkeys(losses, (0, 0))),
        (3, lambda calls: "20"),
        (4, lambda seconds: None),
    ],
)
def test_a_checkpoint_of_odd_values_is_not_resumed(tmp_path, capsys, whole, checkpoint, place, value):
    """Its maker knows the experiment's key."""
    mine = planned(tmp_path)
    mine.checkpoint_path.parent.mkdir(parents=True, exist_ok=True)
    mine.checkpoint_path.write_bytes(checkpoint)
    content = load_checked(mine.checkpoint_path)
    content[place] = value(content[place])
    save_checked(content, mine.checkpoint_path)
    assert execute(mine)
    assert "training starts from the beginning" in capsys.readouterr().out
    assert mine.csv_path.read_bytes() == whole


def test_a_json_holds_the_hash_of_its_csv(tmp_path):
    mine = planned(tmp_path)
    assert execute(mine)
    assert json.loads(mine.json_path.read_text())["csv_sha256"] == hashlib.sha256(mine.csv_path.read_bytes()).hexdigest()


def test_who_loses_the_file_of_a_lock_writes_nothing(tmp_path):
    """Another process may lock a new file of that name, and train some of the same seeds."""
    first, second = planned(tmp_path / "out"), planned(tmp_path / "out", seeds=(1, 2))

    def intrude(update, score):
        if update == 20 and not second.csv_path.exists():
            Path(first.lock.lock_file).unlink()
            assert execute(second)

    assert not execute(first, progress=intrude)
    assert not first.csv_path.exists()
    assert execute(first)
    rows = [row.split(",") for path in sorted(tmp_path.glob("out/runs/bc/*.csv")) for row in path.read_text().splitlines()[1:]]
    assert {row[2] for row in rows} == {"0", "1", "2"}
    assert len({tuple(row[2:5]) for row in rows}) == len(rows)
