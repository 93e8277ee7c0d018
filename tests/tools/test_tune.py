"""tools.tune: the search of coefficients."""

import json
import math
from dataclasses import replace

import pandas as pd
import pytest

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.running.planning import plan
from inspo_benchmark.running.presets import PRESETS
from inspo_benchmark.running.results import results_of
from inspo_benchmark.tools import tune


def test_every_method_is_searched_with_the_same_effort():
    ALGORITHMS.discover(), TASKS.discover()
    assert set(ALGORITHMS) - set(tune.CANDIDATES) == {"bc", "flow_bc"}  # which have no coefficient
    for algo, suites in tune.CANDIDATES.items():
        assert set(suites) == set(tune.NAMED)
        for field, values in suites.values():
            assert len(set(values)) == 4
            assert field in ALGORITHMS[algo].Config.__dataclass_fields__
            for value in values:
                ALGORITHMS[algo].Config.parse([f"{field}={value}"], algo)
    assert all(task in TASKS for tasks in tune.NAMED.values() for task in tasks)


def test_no_table_shows_the_seeds_of_the_search_and_only_one_of_its_tasks():
    TASKS.discover()
    assert max(max(preset.seeds.values()) for preset in PRESETS.values()) <= min(tune.SEEDS)
    tasks = {task for tasks in tune.NAMED.values() for task in tasks}
    shown = {task for task in tasks if any(preset.num_seeds(task) for preset in PRESETS.values())}
    assert shown == {"hopper_3x1-medium_expert"}  # all data of the only other bodies are in the full preset


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(tune, "NAMED", {"smac": ("xor-ab", "xor-all")})
    monkeypatch.setattr(
        tune, "plan", lambda algos, tasks, seeds, assignments, out: plan(algos, tasks, seeds, [*assignments, "num_updates=4"], out)
    )
    monkeypatch.setattr(tune, "SEEDS", (100, 101))


@pytest.mark.usefixtures("small")
def test_a_search_trains_scores_and_resumes(tmp_path, capsys):
    command = ["--algo", "bc", "omiga", "--suite", "smac", "--out", str(tmp_path)]
    assert tune.main(command) == 0
    first = capsys.readouterr().out
    assert first.startswith("4 candidates, 8 experiments to run")
    assert "| smac | omiga | `alpha` | 0.1; 0.3; 1; 10 | " in first
    assert (tmp_path / "tuning.md").read_text() in first
    assert tune.main(command) == 0
    again = capsys.readouterr().out
    assert again.startswith("4 candidates, 0 experiments to run")
    assert again.partition("\n")[2] == first[first.index("| suite |") :]


@pytest.mark.usefixtures("small")
def test_the_score_averages_the_last_quarter_of_the_evaluations(tmp_path):
    ALGORITHMS.discover(), TASKS.discover()
    found = tune.candidates(["omiga"], ["smac"], tmp_path)
    rows = []
    for candidate, late in zip(found, (0.2, 0.9, 0.5, 0.4), strict=True):
        for experiment in candidate.experiments:
            low, high = TASKS[experiment.task].reference
            for part in (replace(experiment, seeds=(seed,)) for seed in experiment.seeds):  # after a trial with the first seed alone
                part.csv_path.parent.mkdir(parents=True, exist_ok=True)
                part.csv_path.touch()
                part.json_path.write_text(json.dumps(part.metadata | {"wall_seconds": 1.0}))
                for step, metric, value in ((3, "return", 50.0), (4, "return", low + late * (high - low)), (4, "loss", 9.0)):
                    rows.append((str(part.csv_path), *part.seeds, metric, step, value))
    frame = pd.DataFrame(rows, columns=["file", "seed", "metric", "step", "value"])
    assert math.isnan(tune.score(found[0].experiments, frame[frame.file != frame.file[0]]))  # a seed is missing
    assert [tune.score(candidate.experiments, frame) for candidate in found] == pytest.approx([20, 90, 50, 40])
    assert "| 0.1; 0.3; 1; 10 | 20.0; 90.0; 50.0; 40.0 | 0.3 |" in tune.table(found, frame)
    failed = frame.file.isin([str(path.with_suffix(".csv")) for path, _ in results_of(found[1].experiments[1])])  # training diverged there
    assert "| 0.1; 0.3; 1; 10 | 20.0; --; 50.0; 40.0 | 1 |" in tune.table(found, frame[~failed])


@pytest.mark.usefixtures("small")
def test_a_search_after_a_trial_with_one_seed_scores_all(tmp_path, monkeypatch, capsys):
    command = ["--algo", "omiga", "--suite", "smac", "--out", str(tmp_path)]
    with monkeypatch.context() as trial:
        trial.setattr(tune, "SEEDS", (100,))
        assert tune.main(command) == 0
    capsys.readouterr()
    assert tune.main(command) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("4 candidates, 8 experiments to run")  # with seed 101
    assert "--;" not in shown
    assert "| -- |" not in shown


def test_a_method_without_a_coefficient_is_refused(tmp_path, capsys):
    assert tune.main(["--algo", "bc", "--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: no coefficient of bc is searched; there are those of ")
