"""Files of a results folder that are not what the runner left there."""

import hashlib
import json
import shutil

import pytest

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


@pytest.mark.parametrize(
    "other",
    [dict(task="xor-all"), dict(seeds=(0, 2)), dict(settings=[*SMALL, "lr=0.1"])],
    ids=["of another task", "of other seeds", "of another learning rate"],
)
def test_a_checkpoint_of_another_experiment_is_not_resumed(tmp_path, capsys, other):
    whole, mine, foreign = planned(tmp_path / "whole"), planned(tmp_path / "mine"), planned(tmp_path / "mine", **other)
    assert execute(whole)
    stopped_at(foreign, 20)
    shutil.copy(foreign.checkpoint_path, mine.checkpoint_path)
    assert execute(mine)
    assert "cannot be used (of another experiment); training starts from the beginning" in capsys.readouterr().out
    assert mine.csv_path.read_bytes() == whole.csv_path.read_bytes()


def test_a_json_holds_the_hash_of_its_csv(tmp_path):
    mine = planned(tmp_path)
    assert execute(mine)
    assert json.loads(mine.json_path.read_text())["csv_sha256"] == hashlib.sha256(mine.csv_path.read_bytes()).hexdigest()
