"""tools.gpu_check can be tried without a GPU."""

import csv

import pytest

from inspo_benchmark.tools import gpu_check


def test_the_check_runs_on_the_cpu(monkeypatch, tmp_path, capsys):
    for name, value in {
        "METHODS": ("omiga",),
        "SIZES": ("2s3z-medium",),
        "SEEDS": (1, 2),
        "SECONDS": 0.0,
        "OUT": tmp_path / "gpu.csv",
    }.items():
        monkeypatch.setattr(gpu_check, name, value)
    assert gpu_check.main(["--device", "cpu"]) == 0
    rows = {row["name"]: float(row["value"]) for row in csv.DictReader((tmp_path / "gpu.csv").read_text().splitlines())}
    assert rows.pop("omiga/2s3z-medium/float64") == 0
    assert set(rows) >= {f"omiga/2s3z-medium/{seeds}-packed/traced" for seeds in (1, 2)}
    assert all(value > 0 for value in rows.values())


def test_without_a_gpu_the_command_says_so(monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert gpu_check.main([]) == 2
    assert "--device cpu" in capsys.readouterr().err
    assert gpu_check.main(["--device", "foo"]) == 2
    assert capsys.readouterr().err == "error: --device foo: write cpu, cuda, or cuda:0 for the first GPU\n"


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:1", 1)])
def test_the_named_gpu_is_measured(monkeypatch, tmp_path, device, index):
    current = [None]
    for name, call in {
        "is_available": lambda: True,
        "get_device_name": str,
        "set_device": lambda chosen: current.insert(0, chosen),
    }.items():
        monkeypatch.setattr(f"torch.cuda.{name}", call)
    monkeypatch.setattr(gpu_check, "OUT", tmp_path / "gpu.csv")
    monkeypatch.setattr(gpu_check, "measure", lambda *_: [("current", float(current[0]), "device")])
    assert gpu_check.main(["--device", device]) == 0
    assert f"current,{index},device" in gpu_check.OUT.read_text()


@pytest.mark.parametrize(
    ("name", "value", "wrong"), [("float64", 1e-9, 0), ("float64", 1e-3, 1), ("float64", float("nan"), 1), ("waits", 1.0, 1)]
)
def test_differences_and_waits_are_mistakes(name, value, wrong):
    assert len(gpu_check.mistakes([(f"omiga/{name}", value, "")])) == wrong
