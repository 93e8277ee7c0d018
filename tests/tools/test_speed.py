"""tools.speed: every part runs and gives rows with positive values. What they measure is not tested."""

import csv
from dataclasses import replace

import pytest

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.tools.speed import __main__ as command
from inspo_benchmark.tools.speed import data as datasets
from inspo_benchmark.tools.speed import environments, rows, sweep, timing, updates

ALGORITHMS.discover(), TASKS.discover()


@pytest.fixture(autouse=True)
def short(monkeypatch, tmp_path):
    shortened = {
        timing: {"ROUNDS": 1, "SECONDS": 0.01},
        rows: {"OUT": tmp_path / "bench.csv"},
        updates: {"BATCH_SIZES": (64,), "WIDTHS": (64,)},
    }
    for module, values in shortened.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


def updates_rows():
    return updates.updates_by_size("bc", flops=1e9)


def compiled_and_not_rows():
    return updates.compiled_by_size("bc")


def sizes_rows():
    return updates.updates_by_batch("bc")


def evaluation_rows():
    return [updates.evaluation_share("bc", replace(TASKS["3m-medium"], eval_episodes=2))]


def acting_rows():
    return updates.acting_by_size("oryx", num_envs=2)


def smac_rows():
    scenario = environments.smacv2_steps("terran_5_vs_5", "2s3z", num_envs=4)
    return [environments.smac_steps("3m", num_envs=4), *scenario, environments.smac_interface_steps("3m", steps=20)]


def mujoco_rows():
    pytest.importorskip("mujoco")
    return environments.mujoco_evaluation("hopper_3x1", policies=2, episodes=2)


def data_rows():
    return datasets.measure(size=1_000_000)


def sweep_rows():
    return sweep.measure(count=2, workers=1)


PARTS = [updates_rows, compiled_and_not_rows, sizes_rows, evaluation_rows, acting_rows, smac_rows, mujoco_rows, data_rows, sweep_rows]


@pytest.mark.parametrize("part", PARTS)
def test_every_part_runs(part):
    found = part()
    assert all(value > 0 for _, value, _ in found)
    assert len({name for name, _, _ in found}) == len(found)


def test_times_are_divided_by_omigas():
    times = [
        ("update/omiga/3m/1", 2.0, "ms"),
        ("update/omiga/3m/1/products", 0.5, ""),
        ("update/bc/3m/1", 3.0, "ms"),
        ("act/bc/3m", 1.0, "ms"),
    ]
    assert rows.times_omiga(times) == [("update/bc/3m/1/omiga", 1.5, "times OMIGA")]


def test_rows_are_printed_and_written(capsys):
    rows.write([("a", 1.5, "s")], rows.OUT)
    assert capsys.readouterr().out.split() == ["a", "1.500", "s"]
    assert list(csv.reader(rows.OUT.read_text().splitlines())) == [["name", "value", "unit"], ["a", "1.5", "s"]]


def test_an_unknown_part_is_an_error(capsys):
    assert command.main(["nonsense"]) == 2
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
    assert rows.slower(changed(), EARLIER) == []
    slower_machine = {"products": 50.0, "update/bc/3m": 4.0, "smac/3m": 250.0, "data/load": 150.0, "smac/memory": 9.0}
    assert rows.slower(changed(**slower_machine), EARLIER) == []
    for name, allowed, too_slow in (
        ("update/bc/3m", 2.8, 2.9),
        ("smac/3m", 351.0, 349.0),
        ("update/bc/3m/products", 0.36, 0.34),
        ("sweep/overhead", 1.5, 1.6),
        ("smacv2/relative", 0.57, 0.55),
        ("data/load", 211.0, 209.0),
    ):
        assert rows.slower(changed(**{name: allowed}), EARLIER) == []
        [line] = rows.slower(changed(**{name: too_slow}), EARLIER)
        assert line.startswith(f"{name}: 0.")
    faster_machine = changed(products=200.0)
    assert len(rows.slower(faster_machine, EARLIER)) == 3  # the time and the rates should have improved with it


def test_values_with_other_units_are_not_compared():
    assert rows.slower([("smacv2/relative", 0.8, "of the rate on 2s3z")], [("smacv2/relative", 0.8, "times 2s3z")]) == []


def test_ratios_of_rates_are_speeds():
    found = [*environments.smacv2_steps("terran_5_vs_5", "2s3z", num_envs=4), *datasets.measure(size=1_000_000)]
    ratios = [row for row in found if row[0].endswith(("/relative", "/of-h5py"))]
    assert len(ratios) == 3
    assert list(rows.relative_speeds(ratios).values()) == [value for _, value, _ in ratios]


def test_the_file_that_is_written_is_not_compared_with(capsys):
    rows.write(EARLIER, rows.OUT)
    before = rows.OUT.read_bytes()
    assert command.main(["smac", "--against", f"{rows.OUT.parent}/./{rows.OUT.name}"]) == 2
    assert "copy it first" in capsys.readouterr().err
    assert rows.OUT.read_bytes() == before


def test_the_command_fails_if_a_speed_fell(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(timing, "matrix_product_rate", lambda: 1e11)
    monkeypatch.setitem(command.PARTS, "smac", lambda: [("smac/3m", 500.0, "steps/s")])
    old = tmp_path / "old.csv"
    for value, code in ((500.0, 0), (1000.0, 1)):
        monkeypatch.setattr(rows, "OUT", old)
        rows.write([("products", 100.0, "Gflop/s"), ("smac/3m", value, "steps/s")], rows.OUT)
        monkeypatch.setattr(rows, "OUT", tmp_path / "bench.csv")
        assert command.main(["smac", "--against", str(old)]) == code
    assert "smac/3m: 0.50 of the earlier speed" in capsys.readouterr().out
    assert command.main(["smac", "--against", str(tmp_path / "no.csv")]) == 2
    for damaged in ("a,b\n1,2\n", "name,value,unit\nx,0,s\n", "name,value,unit\nx,1\n", "name,value,unit\n" + "x" * 200_000 + ",1,s\n"):
        (tmp_path / "other.csv").write_text(damaged)
        assert command.main(["smac", "--against", str(tmp_path / "other.csv")]) == 2
