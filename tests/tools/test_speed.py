"""tools.speed: every part runs and gives rows with positive values. What they measure is not tested."""

import csv
from dataclasses import replace

import pytest

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.tools import speed, speed_data

ALGORITHMS.discover(), TASKS.discover()


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    shortened = {"ROUNDS": 1, "SECONDS": 0.01, "OUT": tmp_path / "bench.csv", "BATCH_SIZES": (64,), "WIDTHS": (64,)}
    for name, value in shortened.items():
        monkeypatch.setattr(speed, name, value)


def updates():
    return speed.updates_by_size("bc", flops=1e9)


def compiled_and_not():
    return speed.compiled_by_size("bc")


def sizes():
    return speed.updates_by_batch("bc")


def evaluation():
    return [speed.evaluation_share("bc", replace(TASKS["3m-medium"], eval_episodes=2))]


def acting():
    return speed.acting_by_size("oryx", num_envs=2)


def smac():
    scenario = speed.smacv2_steps("terran_5_vs_5", "2s3z", num_envs=4)
    return [speed.smac_steps("3m", num_envs=4), *scenario, speed.smac_interface_steps("3m", steps=20)]


def mujoco():
    pytest.importorskip("mujoco")
    return speed.mujoco_evaluation("hopper_3x1", policies=2, episodes=2)


def data():
    return speed_data.measure(size=1_000_000)


def sweep():
    return speed.sweep(count=2, workers=1)


@pytest.mark.parametrize("part", [updates, compiled_and_not, sizes, evaluation, acting, smac, mujoco, data, sweep])
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
    assert list(csv.reader(speed.OUT.read_text().splitlines())) == [["name", "value", "unit"], ["a", "1.5", "s"]]


def test_an_unknown_part_is_an_error(capsys):
    assert speed.main(["nonsense"]) == 2
    assert "nonsense" in capsys.readouterr().err


EARLIER = [
    ("products", 100.0, "Gflop/s"),
    ("update/bc/3m", 2.0, "ms"),
    ("smac/3m", 500.0, "steps/s"),
    ("update/bc/3m/products", 0.5, "of the matrix product rate"),
    ("sweep/overhead", 1.1, "times the ideal"),
    ("smacv2/relative", 0.8, "of the rate on 2s3z"),
    ("data/load", 300.0, "MB/s"),
    ("smac/memory", 1.0, "GiB"),
    ("gone", 1.0, "s"),
]


def changed(**values: float) -> list:
    return [(name, values.get(name, value), unit) for name, value, unit in EARLIER if name != "gone"]


def test_speeds_are_compared_in_units_of_the_matrix_product_rate():
    assert speed.slower(changed(), EARLIER) == []
    slower_machine = {"products": 50.0, "update/bc/3m": 4.0, "smac/3m": 250.0, "data/load": 150.0, "smac/memory": 9.0}
    assert speed.slower(changed(**slower_machine), EARLIER) == []
    for name, allowed, too_slow in (
        ("update/bc/3m", 2.8, 2.9),
        ("smac/3m", 351.0, 349.0),
        ("update/bc/3m/products", 0.36, 0.34),
        ("sweep/overhead", 1.5, 1.6),
        ("smacv2/relative", 0.57, 0.55),
        ("data/load", 211.0, 209.0),
    ):
        assert speed.slower(changed(**{name: allowed}), EARLIER) == []
        [line] = speed.slower(changed(**{name: too_slow}), EARLIER)
        assert line.startswith(f"{name}: 0.")
    faster_machine = changed(products=200.0)
    assert len(speed.slower(faster_machine, EARLIER)) == 3  # the time and the rates should have improved with it


def test_values_with_other_units_are_not_compared():
    assert speed.slower([("smacv2/relative", 0.8, "of the rate on 2s3z")], [("smacv2/relative", 0.8, "times 2s3z")]) == []


def test_ratios_of_rates_are_speeds():
    rows = [*speed.smacv2_steps("terran_5_vs_5", "2s3z", num_envs=4), *speed_data.measure(size=1_000_000)]
    ratios = [row for row in rows if row[0].endswith(("/relative", "/of-h5py"))]
    assert len(ratios) == 3
    assert list(speed.relative_speeds(ratios).values()) == [value for _, value, _ in ratios]


def test_the_file_that_is_written_is_not_compared_with(capsys):
    speed.show(EARLIER)
    before = speed.OUT.read_bytes()
    assert speed.main(["smac", "--against", f"{speed.OUT.parent}/./{speed.OUT.name}"]) == 2
    assert "copy it first" in capsys.readouterr().err
    assert speed.OUT.read_bytes() == before


def test_the_command_fails_if_a_speed_fell(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(speed, "matrix_product_rate", lambda: 1e11)
    monkeypatch.setattr(speed, "measure", lambda part: [("smac/3m", 500.0, "steps/s")])
    old = tmp_path / "old.csv"
    for value, code in ((500.0, 0), (1000.0, 1)):
        monkeypatch.setattr(speed, "OUT", old)
        speed.show([("products", 100.0, "Gflop/s"), ("smac/3m", value, "steps/s")])
        monkeypatch.setattr(speed, "OUT", tmp_path / "bench.csv")
        assert speed.main(["smac", "--against", str(old)]) == code
    assert "smac/3m: 0.50 of the earlier speed" in capsys.readouterr().out
    assert speed.main(["smac", "--against", str(tmp_path / "no.csv")]) == 2
    for damaged in ("a,b\n1,2\n", "name,value,unit\nx,0,s\n", "name,value,unit\nx,1\n", "name,value,unit\n" + "x" * 200_000 + ",1,s\n"):
        (tmp_path / "other.csv").write_text(damaged)
        assert speed.main(["smac", "--against", str(tmp_path / "other.csv")]) == 2
