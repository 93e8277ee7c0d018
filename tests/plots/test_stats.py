"""plots.stats against numbers worked out by hand, and the interval against what it promises."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from inspo_benchmark.plots import stats

COVERAGE = [  # statistic, spread of each task, runs of each, bounds of the coverage
    (np.mean, [1], 3, 0.71, 0.79),
    (np.mean, [1, 1, 1], 3, 0.80, 0.87),
    (stats.iqm, [1, 1, 1, 1], 3, 0.83, 0.90),
    (np.mean, [10, 1, 1, 1], 3, 0.71, 0.79),
    (np.mean, [10, 10, 1, 1], 3, 0.76, 0.84),
    (stats.iqm, [10, 10, 1, 1], 3, 0.80, 0.88),
    (np.mean, [1], 5, 0.80, 0.88),
    (np.mean, [1, 1, 1], 5, 0.86, 0.93),
    (stats.iqm, [1, 1, 1, 1], 5, 0.88, 0.95),
    (np.mean, [10, 1, 1, 1], 5, 0.80, 0.88),
    (stats.iqm, [10, 10, 1, 1], 5, 0.87, 0.94),
    (np.mean, [1], 10, 0.87, 0.93),
    (np.mean, [1, 1, 1], 10, 0.90, 0.97),
    (stats.iqm, [1, 1, 1, 1], 10, 0.90, 0.97),
    (np.mean, [10, 1, 1, 1], 10, 0.87, 0.93),
]


def series(**scores):
    """algo__task=[scores] -> what stats.final_scores returns."""
    index = [(*name.split("__"), seed) for name, x in scores.items() for seed in range(len(x))]
    values = [float(x) for values in scores.values() for x in values]
    return pd.Series(values, pd.MultiIndex.from_tuples(index, names=["algo", "task", "seed"]))


def test_final_takes_the_last_or_the_best_evaluation():
    rows = [("a", "t", seed, step, "return", value) for seed, line in enumerate([[1, 5, 3], [2, 0, 4]]) for step, value in enumerate(line)]
    rows.append(("a", "t", 0, 9, "loss", 99.0))
    frame = pd.DataFrame(rows[::-1], columns=["algo", "task", "seed", "step", "metric", "value"])
    assert stats.final_scores(frame, "return", "last").to_dict() == {("a", "t", 0): 3, ("a", "t", 1): 4}
    assert stats.final_scores(frame, "return", "best").to_dict() == {("a", "t", 0): 5, ("a", "t", 1): 4}


def test_normalize_puts_random_at_0_and_best_at_100():
    assert stats.normalize([0.5, 0.75, 1.0, 0.25], (0.5, 1.0)).tolist() == [0, 50, 100, -50]


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


@pytest.mark.parametrize(("statistic", "spreads", "n", "low", "high"), COVERAGE)
def test_interval_covers_the_truth_about_as_often_as_documented(statistic, spreads, n, low, high):
    """1000 experiments with the true value 0. A nominal 95 % interval, known to be somewhat narrow where runs are few; 1000 experiments
    leave +-.02 of chance."""
    rng = np.random.default_rng(0)
    runs = [spread * rng.standard_normal((1000, n)) for spread in spreads]
    ends = stats.interval(runs, statistic, rng, 999)
    assert low <= ((ends[0] <= 0) & (ends[1] >= 0)).mean() <= high


@pytest.mark.parametrize(("n", "low", "high"), [(5, 0.85, 0.95), (10, 0.90, 0.97)])
def test_the_probability_of_improvement_is_covered(n, low, high):
    """1000 experiments of 4 tasks. X is N(d, 1), Y is N(0, 1): the truth is Phi(d / sqrt 2)."""
    rng, d = np.random.default_rng(0), 0.5
    x, y = d + rng.standard_normal((4, 1000, n)), rng.standard_normal((4, 1000, n))
    ends = stats.percentile_interval([z for pair in zip(x, y) for z in pair], stats.probability_of_improvement, rng, 499)
    truth = norm.cdf(d / 2**0.5)
    assert low <= ((ends[0] <= truth) & (ends[1] >= truth)).mean() <= high


def test_best_and_close_by_hand():
    best, close = stats.best_and_close([3, 2, 1, 3], [2, 1.5, 0.5, 2.5], [4, 2.1, 1.2, 3.5])
    assert best.tolist() == [True, False, False, True]
    assert close.tolist() == [False, True, False, False]


def test_best_and_close_are_decided_at_the_printed_precision():
    best, close = stats.best_and_close([0.998, 1.0, 0.99], [0.98, 1.0, 0.98], [0.999, 1.0, 0.996])
    assert best.tolist() == [True, True, False]  # 1.00, 1.00, 0.99
    assert close.tolist() == [False, False, True]  # 0.996 is printed as 1.00
    assert stats.best_and_close([1000.4, 1000.0, 999.9], *[[1000.4, 1000.0, 999.9]] * 2)[0].tolist() == [True, True, False]


@pytest.mark.filterwarnings("error")
def test_best_and_close_of_ties_and_of_single_runs():
    best, close = stats.best_and_close([0.1 + 0.2, 0.3], [0.3, 0.3], [0.3, 0.3])
    assert best.all()
    assert not close.any()
    nan = [np.nan, np.nan]
    assert [x.tolist() for x in stats.best_and_close([1, 2], nan, nan)] == [[False, True], [False, False]]
    best, close = stats.best_and_close([5, 5, 4.75], [np.nan, 4, 2], [np.nan, 6, 7.5])  # one of the best has a single run
    assert (best.tolist(), close.tolist()) == ([True, True, False], [False, False, True])


def test_task_scores_by_hand():
    table = stats.task_scores(series(a__t=[1, 3], b__t=[2.5, 2.5], c__t=[0, 0.5], a__u=[1])).set_index(["task", "algo"])
    assert table.loc["t", "value"].tolist() == [2, 2.5, 0.25]
    assert table.loc["t", "std"].tolist() == pytest.approx([2**0.5, 0, 0.125**0.5])
    assert table.loc["t", "best"].tolist() == [False, True, False]
    assert table.loc["t", "close"].tolist() == [True, False, False]
    assert table.loc[("u", "a"), "n"] == 1


def test_normalized_iqms_by_hand():
    """a: 0, 50, 100, 100 on t and u -> 75 without the ends. b lacks u and is not compared."""
    scores = series(a__t=[0, 5], a__u=[2, 2], b__t=[9, 9])
    table = stats.normalized_iqms(scores, {"t": (0, 10), "u": (1, 2)})
    assert table.algo.tolist() == ["a"]
    assert table.value.tolist() == [75]
    assert table.n.tolist() == [4]


def test_normalized_iqms_resamples_each_task_on_its_own():
    table = stats.normalized_iqms(series(a__t=[0] * 5, a__u=[1] * 5), {"t": (0, 1), "u": (0, 1)})
    assert table[["value", "low", "high"]].values.tolist() == [[50, 50, 50]]


def test_another_algorithm_changes_no_score():
    rng = np.random.default_rng(3)
    values = {f"{algo}__{task}": rng.random(5) for algo in "ab" for task in "tu"}
    references = {"t": (0, 1), "u": (0, 1)}
    numbers = ["value", "low", "high"]
    alone = series(**{name: x for name, x in values.items() if name[0] == "a"})
    together = series(**values)
    for make in (stats.task_scores, lambda scores: stats.normalized_iqms(scores, references)):
        a, b = make(alone), make(together)
        assert a[numbers].values.tolist() == b.loc[b.algo == "a", numbers].values.tolist()


def test_one_run_of_many_statistics_has_no_interval():
    low, high = stats.percentile_interval([np.ones((3, 1))], lambda x, axis: x.mean(axis), stats.rng())
    assert np.isnan([low, high]).all()
    assert low.shape == (3,)


def test_ranks_by_hand():
    """t: b, then a and c share 2.5. u: a, b, c. d lacks u."""
    scores = series(a__t=[1, 1], b__t=[3, 3], c__t=[1, 1], a__u=[9, 9], b__u=[8, 8], c__u=[0, 0], d__t=[99, 99])
    table = stats.mean_ranks(scores).set_index("algo")
    assert table.value.to_dict() == {"a": 1.75, "b": 1.5, "c": 2.75}
    assert table.low.equals(table.value)
    assert table.best.to_dict() == {"a": False, "b": True, "c": False}


def test_ranks_of_runs_that_overlap_have_intervals_that_do():
    """a's mean is 0, 1 or 2, b's is 1: in one resample of four a is below, in two they tie, in one it is above."""
    table = stats.mean_ranks(series(a__t=[0, 2], b__t=[1, 1])).set_index("algo")
    assert table.loc["a", ["value", "low", "high"]].tolist() == [1.5, 1, 2]
    assert table.close.tolist() == [False, False]
    assert table.best.tolist() == [True, True]


def test_a_rank_is_close_if_its_interval_reaches_that_of_the_best():
    """a's mean is 0, 1 or 2, b's is 1.2: either may be first, b is so in three resamples of four. c is always third."""
    table = stats.mean_ranks(series(a__t=[0, 2], b__t=[1.2, 1.2], c__t=[-1, -1])).set_index("algo")
    assert table[["value", "low", "high"]].values.tolist() == [[2, 1, 2], [1, 1, 2], [3, 3, 3]]
    assert table.best.tolist() == [False, True, False]
    assert table.close.tolist() == [True, False, False]


def test_probability_of_improvement_by_hand():
    """On t one pair of four is won and one tied: 3 / 8; on u all are won."""
    scores = series(x__t=[0, 2], y__t=[1, 2], x__u=[5, 6], y__u=[1, 2], z__t=[7, 7])
    table = stats.improvements(scores, "x")
    assert table[["algo", "value"]].values.tolist() == [["y", (3 / 8 + 1) / 2]]
    assert stats.improvements(scores, "z").empty
    assert stats.improvements(scores, "absent").empty


def test_probability_of_improvement_over_the_same_runs_is_a_half():
    table = stats.improvements(series(x__t=[0, 1, 2], y__t=[0, 1, 2]), "y")
    assert table.value.tolist() == [0.5]
    assert table.low[0] < 0.5 < table.high[0]


def test_probability_of_improvement_counts_pairs():
    rng = np.random.default_rng(0)
    x, y = rng.integers(6, size=(40, 7)).astype(float), rng.integers(6, size=(40, 5)).astype(float)
    pairs = (1 + np.sign(x[:, :, None] - y[:, None, :])).mean((1, 2)) / 2
    assert (stats.probability_of_improvement(x, y, axis=-1) == pairs).all()


def test_profiles_by_hand():
    """Normalized: 0, 50 on t, 100, 100 on u."""
    found = stats.performance_profiles(series(a__t=[0, 5], a__u=[2, 2]), {"t": (0, 10), "u": (1, 2)}, np.array([-1.0, 0, 49, 50, 100]))
    assert found["a"][0].tolist() == [1, 0.75, 0.75, 0.5, 0]
    assert found["a"][1].tolist() == [1, 0.5, 0.5, 0.5, 0]
    assert found["a"][2].tolist() == [1, 1, 1, 0.5, 0]


def test_efficiency_by_hand():
    """Runs of 10 and of 1000 updates meet at shares of their own budgets."""
    rows = [("a", "t", 0, 0, 0.0), ("a", "t", 0, 5, 5.0), ("a", "t", 0, 10, 10.0), ("a", "u", 0, 0, 0.0), ("a", "u", 0, 500, 1.0)]
    rows += [("a", "u", 0, 1000, 1.0), ("b", "t", 0, 0, 1.0)]
    frame = pd.DataFrame(rows, columns=["algo", "task", "seed", "step", "value"]).assign(metric="return")
    table = stats.sample_efficiency(frame, "return", {"t": (0, 10), "u": (0, 1)})
    assert table[["algo", "share", "value"]].values.tolist() == [["a", 0, 0], ["a", 0.5, 75], ["a", 1, 100]]


def test_the_interval_of_an_efficiency_is_that_of_its_evaluation():
    """Of two runs: their range. Normalized: 0 and 20 halfway, 40 and 100 at the end."""
    rows = [("a", "t", seed, step, value) for seed, line in enumerate([[0, 4.0], [2, 10.0]]) for step, value in zip((5, 10), line)]
    frame = pd.DataFrame(rows, columns=["algo", "task", "seed", "step", "value"]).assign(metric="return")
    table = stats.sample_efficiency(frame, "return", {"t": (0, 10)})
    assert table[["value", "low", "high"]].values.tolist() == [[10, 0, 20], [70, 40, 100]]


def test_means_by_hand():
    """Every task counts the same, however many runs it has."""
    table = stats.normalized_means(series(a__t=[0, 0, 0, 8], a__u=[1], b__t=[10], b__u=[0], c__t=[0]), {"t": (0, 10), "u": (0, 1)})
    assert table[["algo", "value", "best"]].values.tolist() == [["a", 60, True], ["b", 50, False]]
