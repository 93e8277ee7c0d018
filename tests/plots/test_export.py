"""plots.export: other tools read every row, and nothing else."""

import json
import socket
import sys
from pathlib import Path

import pytest

from inspo_benchmark.plots import export, load
from support.results import METRICS, write

STEPS = [0, 250, 500, 750, 1000]


@pytest.fixture
def out(tmp_path) -> Path:
    write(tmp_path, "bc", seeds=[0, 1])
    write(tmp_path, "inspo", seeds=[3], overrides={"beta": 0.0}, key="o")
    return tmp_path


def expected(out: Path) -> dict[tuple, float]:
    """(algorithm, seed, step, metric) -> value."""
    frame = load.read(out)
    names = [f"{algo} ({changed})" if changed else algo for algo, changed in zip(frame.algo, frame.overrides)]
    return dict(zip(zip(names, frame.seed, frame.step, frame.metric), frame.value))


def test_tensorboard_reads_every_row(out, tmp_path, capsys):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert export.main(["tensorboard", str(tmp_path / "tb"), "--out", str(out)]) == 0
    assert "3 runs" in capsys.readouterr().out
    found = {}
    for folder in (tmp_path / "tb").glob("xor-ab/*/seed-*"):
        events = EventAccumulator(str(folder))
        events.Reload()
        for tag in events.Tags()["scalars"]:
            for event in events.Scalars(tag):
                found[folder.parent.name, int(folder.name[5:]), event.step, tag.partition("/")[2]] = event.value
        assert "config" in events.Tensors("about/text_summary")[0].tensor_proto.string_val[0].decode()
        assert set(events.Tags()["scalars"]) == {
            "evaluation/return",
            "evaluation/return_sampled",
            "evaluation/length",
            "training/loss_policy",
        }
    assert found == pytest.approx(expected(out), rel=1e-6)  # its numbers have 32 bits


def test_wandb_holds_every_row_and_sends_nothing(out, tmp_path, monkeypatch):
    from wandb.proto import wandb_internal_pb2 as messages
    from wandb.sdk.internal.datastore import DataStore

    def connect(self, address):
        assert not isinstance(address, tuple) or address[0] in ("127.0.0.1", "localhost", "::1"), f"connects to {address}"
        return unwatched(self, address)

    unwatched = socket.socket.connect
    monkeypatch.setattr(socket.socket, "connect", connect)
    with socket.create_server(("127.0.0.1", 0)) as server:  # in place of wandb's, because a process of its own sends
        server.setblocking(False)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        assert export.main(["wandb", str(tmp_path / "wb"), "--out", str(out)]) == 0
        with pytest.raises(BlockingIOError):
            server.accept()
    found = {}
    files = list((tmp_path / "wb").glob("wandb/offline-run-*/*.wandb"))
    assert len(files) == 3
    for file in files:
        store, config = DataStore(), {}
        store.open_for_scan(str(file))
        while data := store.scan_data():
            record = messages.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                config |= {x.key: json.loads(x.value_json) for x in record.run.config.update}
            if record.WhichOneof("record_type") == "history":
                items = {(x.key or "/".join(x.nested_key)): json.loads(x.value_json) for x in record.history.item}
                for tag, value in items.items():
                    if not tag.startswith("_"):
                        found[config["algo"], config["seed"], items["_step"], tag.partition("/")[2]] = value
        store.close()
        assert config["about"]["config"]["num_updates"] == 1000
    assert found == pytest.approx(expected(out))


def test_marl_eval_has_the_evaluations(out, tmp_path, capsys):
    assert export.main(["marl-eval", str(tmp_path / "x.json"), "--out", str(out)]) == 0
    assert "no place for: loss_policy" in capsys.readouterr().out
    runs = json.loads((tmp_path / "x.json").read_text())["xor"]["xor-ab"]
    assert set(runs) == {"bc", "inspo (beta=0.0)"}
    found = {}
    for algo, seeds in runs.items():
        for seed, entry in seeds.items():
            steps = [entry[f"step_{i}"] for i in range(len(entry) - 1)]
            assert [step["step_count"] for step in steps] == STEPS
            assert entry["absolute_metrics"] == {metric: x for metric, x in steps[-1].items() if metric != "step_count"}
            found |= {(algo, int(seed[5:]), s["step_count"], m): x[0] for s in steps for m, x in s.items() if m != "step_count"}
    assert found == {key: value for key, value in expected(out).items() if key[3] in METRICS[:3]}


def test_a_folder_that_is_used_and_a_tool_that_is_absent(out, tmp_path, capsys, monkeypatch):
    assert export.main(["tensorboard", str(out), "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert export.main(["wandb", str(tmp_path / "new"), "--out", str(out)]) == 2
    assert "python -m pip install" in capsys.readouterr().err
    assert export.main(["marl-eval", str(tmp_path / "x.json"), "--out", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("error: no runs in ")
    with pytest.raises(SystemExit):
        export.main(["mlflow", "x"])
