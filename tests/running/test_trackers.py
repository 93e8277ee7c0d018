"""--log: TensorBoard and Weights & Biases get the rows of the CSV while it trains, also after an interruption."""

import csv
import json
import sys
from pathlib import Path

import pytest
import wandb

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.learning.train import Stopped
from inspo_benchmark.running.execute import execute
from inspo_benchmark.running.planning import plan
from inspo_benchmark.running.trackers import check_installed, live

SMALL = ["num_updates=20", "hidden_dim=8", "batch_size=8"]


def rows(path: Path) -> dict[tuple[int, int, str], float]:
    """(seed, step, metric) -> value, of a CSV."""
    with path.open() as file:
        return {(int(row["seed"]), int(row["step"]), row["metric"]): float(row["value"]) for row in csv.DictReader(file)}


def tensorboard_rows(folder: Path) -> dict[tuple[int, int, str], float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = {}
    for path in folder.glob("*/*/seed-*"):
        events = EventAccumulator(str(path))
        events.Reload()
        points = {(tag, event.step): event.value for tag in events.Tags()["scalars"] for event in events.Scalars(tag)}
        found |= {(int(path.name[5:]), step, tag.partition("/")[2]): value for (tag, step), value in points.items()}
        assert len(points) == sum(len(events.Scalars(tag)) for tag in events.Tags()["scalars"])  # no point twice
    return found


def wandb_rows(folder: Path) -> dict[tuple[int, int, str], float]:
    from wandb.proto import wandb_internal_pb2 as messages
    from wandb.sdk.internal.datastore import DataStore

    found = {}
    for path in folder.glob("offline-run-*/*.wandb"):
        store, seed = DataStore(), None
        store.open_for_scan(str(path))
        while data := store.scan_data():
            record = messages.Record()
            record.ParseFromString(data)
            if record.WhichOneof("record_type") == "run":
                seed = {x.key: json.loads(x.value_json) for x in record.run.config.update}["seed"]
            if record.WhichOneof("record_type") == "history":
                items = {(x.key or "/".join(x.nested_key)): json.loads(x.value_json) for x in record.history.item}
                step = items["_step"]
                found |= {(seed, step, tag.partition("/")[2]): value for tag, value in items.items() if not tag.startswith("_")}
        store.close()
    return found


def test_trackers_get_every_row_also_after_an_interruption(tmp_path):
    ALGORITHMS.discover(), TASKS.discover()
    [experiment] = plan(["bc"], ["xor-ab"], (0, 3), SMALL, tmp_path, trackers=["tensorboard", "wandb"])
    [plain] = plan(["bc"], ["xor-ab"], (0, 3), SMALL, tmp_path)
    assert experiment.key == plain.key  # so that a run may be resumed without --log

    def stop_halfway(update: int, score: float | None) -> None:
        if update == 10 and score is not None:
            raise Stopped

    with pytest.raises(Stopped):
        execute(experiment, progress=stop_halfway)
    assert {step for _, step, _ in tensorboard_rows(tmp_path / "tensorboard")} == set(range(11))  # while it trains
    assert execute(experiment)
    expected = rows(experiment.csv_path)
    assert {step for _, step, _ in expected} == set(range(21))
    assert tensorboard_rows(tmp_path / "tensorboard") == pytest.approx(expected, rel=1e-6)
    wandb.teardown()  # ends its server
    assert wandb_rows(tmp_path / "wandb") == pytest.approx(expected, rel=1e-6)


def test_runs_of_presets_have_folders_of_their_own(tmp_path):
    ALGORITHMS.discover(), TASKS.discover()
    for preset in ("", "quick"):
        [experiment] = plan(["bc"], ["xor-ab"], (0,), SMALL, tmp_path, preset=preset, trackers=["tensorboard"])
        with live(experiment) as send:
            send([(0, 0, "return", 1.0)])
    assert len(list((tmp_path / "tensorboard" / "xor-ab").iterdir())) == 2


def test_a_tracker_that_is_not_installed_is_a_clear_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="wandb is not installed; python -m pip install"):
        check_installed(["tensorboard", "wandb"])
