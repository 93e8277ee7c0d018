"""tools.speed: every part runs and gives rows with positive values. What they measure is not tested."""

import csv

import pytest

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.tools import speed, speed_data

ALGORITHMS.discover(), TASKS.discover()


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    for name, value in {"ROUNDS": 1, "SECONDS": 0.01, "OUT": tmp_path / "bench.csv"}.items():
        monkeypatch.setattr(speed, name, value)


def updates():
    return speed.updates_by_size("bc", flops=1e9)


def acting():
    return speed.acting_by_size("oryx", num_envs=2)


def smac():
    return [speed.smac_steps("3m", num_envs=4), speed.smac_interface_steps("3m", steps=20)]


def mujoco():
    pytest.importorskip("mujoco")
    return speed.mujoco_evaluation("hopper_3x1", policies=2, episodes=2)


def data():
    return speed_data.measure(size=1_000_000)


def sweep():
    return speed.sweep(count=2, workers=1)


@pytest.mark.parametrize("part", [updates, acting, smac, mujoco, data, sweep])
def test_every_part_runs(part):
    rows = part()
    assert all(value > 0 for _, value, _ in rows)
    assert len({name for name, _, _ in rows}) == len(rows)


def test_times_are_divided_by_omigas():
    rows = [
        ("update/omiga/3m/1", 2.0, "ms"),
        ("update/omiga/3m/1/products", 0.5, ""),
        ("update/bc/3m/1", 3.0, "ms"),
        ("act/bc/3m", 1.0, "ms"),
    ]
    assert speed.times_omiga(rows) == [("update/bc/3m/1/omiga", 1.5, "times OMIGA")]


def test_rows_are_printed_and_written(capsys):
    speed.show([("a", 1.5, "s")])
    assert capsys.readouterr().out.split() == ["a", "1.500", "s"]
    assert list(csv.reader(speed.OUT.open())) == [["name", "value", "unit"], ["a", "1.5", "s"]]


def test_an_unknown_part_is_an_error(capsys):
    assert speed.main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err
