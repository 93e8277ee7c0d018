"""What the page about calibration compares."""

import pytest

from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.datasets.published import RECORDINGS
from inspo_benchmark.tools.docs.calibration import HEURISTIC, heuristic_win_rate


@pytest.mark.parametrize("name", HEURISTIC)
def test_the_heuristic_wins_as_often_as_in_the_real_game(name):
    assert heuristic_win_rate(name, battles=16) == pytest.approx(float(HEURISTIC[name]) / 100, abs=0.2)


@pytest.mark.parametrize(("name", "low", "high"), [("2s3z", 0.5, 1.0), ("terran_5_vs_5", 0.3, 0.9)])
def test_the_heuristic_wins_easy_battles(name, low, high):
    assert low <= heuristic_win_rate(name, battles=16) <= high


def test_recordings_are_of_tasks():
    TASKS.discover()
    assert {f"{name}-{quality}" for name, some in RECORDINGS.items() for quality in some} <= set(TASKS)
