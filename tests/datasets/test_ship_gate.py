"""Do the StarCraft tasks measure anything? The numbers are in datasets/ship_gate.csv, written by `python -m tools.ship_gate`."""

import numpy as np
import pandas as pd
import pytest

from inspo_benchmark.datasets.behavior import SHIPPED, shipped
from inspo_benchmark.datasets.behavior.rollout import rollout
from inspo_benchmark.datasets.behavior.smac_policy import load
from inspo_benchmark.datasets.catalog import manifest
from inspo_benchmark.envs.smac import UNINFORMATIVE
from inspo_benchmark.envs.smac.maps import MAPS, SCENARIOS, find_map
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.tools import ship_gate
from inspo_benchmark.tools.ship_gate import FILE

ROWS = pd.read_csv(FILE).set_index("task")
MEDIUM = [name for name in ROWS.index if name.endswith("-medium")]


def test_tasks_were_measured_with_their_published_data():
    assert set(MEDIUM) <= {f"{name}-medium" for name in MAPS | SCENARIOS if shipped(name)}
    assert ROWS.sha256.to_dict() == {name: manifest()[name]["sha256"] for name in ROWS.index}
    assert set(UNINFORMATIVE) <= set(ROWS.index)


@pytest.mark.parametrize("name", ROWS.index)
def test_cloning_neither_fails_nor_wins_everything(name):
    """Nor does it win the same with all seeds. Clones of medium data win within 0.15 of the data; replay data are sampled actions of many
    policies, and greedy clones may win far more. Tasks for which it is otherwise are listed as uninformative."""
    row = ROWS.loc[name]
    near = name not in MEDIUM or abs(row.bc - row.data) <= 0.15
    measures = 0.05 <= row.bc <= 0.95 and near and row.bc_std > 0
    assert measures != (name in UNINFORMATIVE), row.to_dict()


def test_most_tasks_have_something_to_learn():
    """Cloning the won battles alone is better than cloning all, greedily or sampled."""
    rows = ROWS[[name.endswith(("-medium", "-medium_replay")) and name not in UNINFORMATIVE for name in ROWS.index]]
    better = (rows.bc_won > rows.bc) | (rows.bc_won_sampled > rows.bc_sampled)
    assert better.mean() > 0.5, rows[~better].to_dict("index")


@pytest.mark.parametrize("name", ["5m_vs_6m", "3s_vs_5z", "6h_vs_8z"])
def test_evaluation_battles_differ(name):
    """320 battles of a policy that wins some and loses some are at least 100 different ones, from several first frames."""
    map, env = find_map(name), Smac(name, 320)
    policies = [load(path, map) for path in sorted((SHIPPED / name).glob("*-*.npz"))]
    policy = min(policies, key=lambda p: abs(p.greedy_win_rate - 0.5))
    played = rollout(env, policy, range(320), greedy=True)
    assert 0.2 <= played.won.mean() <= 0.8
    battles = {played.actions[a:b].tobytes() for a, b in zip(played.offset[:-1], played.offset[1:], strict=True)}
    assert len(battles) >= 100
    assert len(np.unique(played.state[played.offset[:-1] + np.arange(320)], axis=0)) >= 3


def test_tasks_of_other_games_are_refused(capsys):
    assert ship_gate.main(["xor-ab"]) == 2
    assert capsys.readouterr().err == "error: xor-ab: name StarCraft tasks that have data or whose data can be built\n"


def test_other_qualities_are_refused(capsys):
    assert ship_gate.main(["3m-random", "3m-expert"]) == 2
    assert capsys.readouterr().err == "error: 3m-random, 3m-expert: only medium and medium_replay tasks are measured\n"
