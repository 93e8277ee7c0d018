"""plots.stats against numbers worked out by hand, and the interval against what it promises."""

import numpy as np
import pandas as pd
import pytest

from plots import stats


def series(**cells):
    """algo__task=[scores] -> what stats.final returns."""
    index = [(*name.split("__"), seed) for name, scores in cells.items() for seed in range(len(scores))]
    values = [float(x) for scores in cells.values() for x in scores]
    return pd.Series(values, pd.MultiIndex.from_tuples(index, names=["algo", "task", "seed"]))


def test_final_takes_the_last_or_the_best_evaluation():
    rows = [("a", "t", seed, step, "return", value) for seed, line in enumerate([[1, 5, 3], [2, 0, 4]]) for step, value in enumerate(line)]
    rows.append(("a", "t", 0, 9, "loss", 99.0))
    frame = pd.DataFrame(rows[::-1], columns=["algo", "task", "seed", "step", "metric", "value"])
    assert stats.final(frame, "return", "last").to_dict() == {("a", "t", 0): 3, ("a", "t", 1): 4}
    assert stats.final(frame, "return", "best").to_dict() == {("a", "t", 0): 5, ("a", "t", 1): 4}


def test_normalise_puts_random_at_0_and_best_at_100():
    assert stats.normalise([0.5, 0.75, 1.0, 0.25], (0.5, 1.0)).tolist() == [0, 50, 100, -50]


def test_iqm_by_hand():
    assert stats.iqm([8, 1, 2, 100, 3, 4, 5, 6]) == (3 + 4 + 5 + 6) / 4  # 8 values: two go at each end
    assert stats.iqm([0, 1, 2, 30, 4]) == pytest.approx(7 / 3)  # 5 values: one at each end
    assert stats.iqm([7]) == 7


def test_interval_of_two_runs_is_their_range():
    """A resample of {0, 1} has mean 0, 1/2, 1 with probability 1/4, 1/2, 1/4: both ends lie beyond 2.5 %."""
    assert stats.interval([[0.0, 1.0]], np.mean, stats.rng()) == (0, 1)


def test_interval_by_enumeration():
    """All 3^3 resamples of {0, 3, 9}, each as likely: 1 in 27 (3.7 %) is all 0, 1 in 27 all 9."""
    assert stats.interval([[0.0, 3.0, 9.0]], np.mean, stats.rng()) == (0, 9)


def test_tasks_are_resampled_on_their_own():
    """Runs that agree within each task leave nothing to resample, however much the tasks differ; resampled together they would."""
    low, high = stats.interval([np.full(5, 0.0), np.full(5, 100.0)], np.mean, stats.rng())
    assert (low, high) == (50, 50)


def test_interval_of_many_statistics_at_once_is_that_of_each():
    values = np.random.default_rng(1).random((4, 6))
    low, high = stats.interval([values], np.mean, stats.rng())
    for k in range(4):
        assert (low[k], high[k]) == pytest.approx(stats.interval([values[k]], np.mean, stats.rng()))


@pytest.mark.filterwarnings("error")
def test_degenerate_samples_have_intervals_of_no_width():
    for statistic in (np.mean, stats.iqm):
        assert stats.interval([np.full(5, 0.3)] * 3, statistic, stats.rng()) == pytest.approx((0.3, 0.3))
    assert np.isnan(stats.interval([[1.0]], np.mean, stats.rng())).all()


def test_interval_covers_the_truth_about_as_often_as_documented():
    """400 experiments of 3 tasks x 10 runs with true mean 0. A nominal 95 % interval, known to be a little narrow."""
    rng = np.random.default_rng(0)
    tasks = list(rng.standard_normal((3, 400, 10)))
    low, high = stats.interval(tasks, np.mean, rng)
    assert 0.90 <= ((low <= 0) & (high >= 0)).mean() <= 0.97


def test_standing_by_hand():
    best, close = stats.standing([3, 2, 1, 3], [2, 1.5, 0.5, 2.5], [4, 2.1, 1.2, 3.5])
    assert best.tolist() == [True, False, False, True]
    assert close.tolist() == [False, True, False, False]


@pytest.mark.filterwarnings("error")
def test_standing_of_ties_and_of_single_runs():
    best, close = stats.standing([0.1 + 0.2, 0.3], [0.3, 0.3], [0.3, 0.3])
    assert best.all()
    assert not close.any()
    nan = [np.nan, np.nan]
    assert [x.tolist() for x in stats.standing([1, 2], nan, nan)] == [[False, True], [False, False]]


def test_cells_by_hand():
    table = stats.cells(series(a__t=[1, 3], b__t=[2.5, 2.5], c__t=[0, 0.5], a__u=[1])).set_index(["task", "algo"])
    assert table.loc["t", "value"].tolist() == [2, 2.5, 0.25]
    assert table.loc["t", "std"].tolist() == pytest.approx([2**0.5, 0, 0.125**0.5])
    assert table.loc["t", "best"].tolist() == [False, True, False]
    assert table.loc["t", "close"].tolist() == [True, False, False]
    assert table.loc[("u", "a"), "n"] == 1


def test_aggregate_by_hand():
    """a: 0, 50, 100, 100 on t and u -> 75 without the ends. b lacks u and is not compared."""
    scores = series(a__t=[0, 5], a__u=[2, 2], b__t=[9, 9])
    table = stats.aggregate(scores, {"t": (0, 10), "u": (1, 2)})
    assert table.algo.tolist() == ["a"]
    assert table.value.tolist() == [75]
    assert table.n.tolist() == [4]


def test_aggregate_resamples_each_task_on_its_own():
    table = stats.aggregate(series(a__t=[0] * 5, a__u=[1] * 5), {"t": (0, 1), "u": (0, 1)})
    assert table[["value", "low", "high"]].values.tolist() == [[50, 50, 50]]


def test_another_algorithm_changes_no_score():
    rng = np.random.default_rng(3)
    cells = {f"{algo}__{task}": rng.random(5) for algo in "ab" for task in "tu"}
    references = {"t": (0, 1), "u": (0, 1)}
    numbers = ["value", "low", "high"]
    alone = series(**{name: x for name, x in cells.items() if name[0] == "a"})
    together = series(**cells)
    for make in (stats.cells, lambda scores: stats.aggregate(scores, references)):
        a, b = make(alone), make(together)
        assert a[numbers].values.tolist() == b.loc[b.algo == "a", numbers].values.tolist()
