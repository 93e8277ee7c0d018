"""Scores, averages and bootstrap intervals. Functions take and return arrays or tables; random numbers come from the caller's generator.

The percentile bootstrap is too narrow for few runs. For normal scores, a nominal 95% interval covers the mean of one task in 75% of cases
with 3 seeds, in 83% with 5 and in 90% with 10, and the mean of several equal tasks in 83 to 86, 89 to 91 and 93% (docs/outputs.md has the
IQM and unequal tasks; tests/plots/test_stats.py checks all). Every table and caption therefore gives n.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, quantile, rankdata, trim_mean

from inspo_benchmark.plots.table_writers import decimals

RESAMPLES = 4999  # for printed intervals
CURVE_RESAMPLES = 999  # for intervals that are only drawn, of which a curve has many
MAX_RESAMPLED = 1 << 24  # numbers resampled at once

Statistic = Callable[..., np.ndarray]


def rng() -> np.random.Generator:
    """A fresh generator for every published interval, so that no interval depends on which others were computed."""
    return np.random.default_rng(0)


def final_scores(frame: pd.DataFrame, metric: str, checkpoint: str) -> pd.Series:
    """Rows -> one score per run, indexed by (algo, task, seed).

    `checkpoint` is "last" for the final evaluation, or "best" for the highest evaluation of the run. The latter selects a checkpoint by
    online evaluation and is therefore optimistic for an offline method.
    """
    rows = frame[frame.metric == metric].sort_values("step", kind="stable")
    runs = rows.groupby(["algo", "task", "seed"], observed=True).value
    return {"last": runs.last, "best": runs.max}[checkpoint]()


def normalize(scores: np.ndarray, reference: tuple[float, float]) -> np.ndarray:
    """100 (score - low) / (high - low): the reference returns (low, high) of the task become 0 and 100."""
    low, high = reference
    return 100 * (np.asarray(scores) - low) / (high - low)


def iqm(x: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Interquartile mean: the mean without the lowest and the highest quarter (floor(n / 4) values each)."""
    return trim_mean(x, 0.25, axis=axis)


def percentile_interval(
    samples: Sequence[np.ndarray], statistic: Statistic, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """95% percentile interval [...] of `statistic(*samples, axis)`; every sample [..., n] is resampled on its own. Both ends are NaN where
    a sample has a single run, which has no spread."""
    samples = [np.asarray(x, float) for x in samples]
    if min(x.shape[-1] for x in samples) < 2:
        nan = np.full_like(statistic(*samples, axis=-1), np.nan)
        return nan, nan
    result = bootstrap(samples, statistic, n_resamples=resamples, method="percentile", vectorized=True, axis=-1, rng=rng)
    return result.confidence_interval.low, result.confidence_interval.high


def interval(
    samples: Sequence[np.ndarray], statistic: Statistic, rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Stratified bootstrap: the 95% percentile interval of `statistic(pooled values, axis)`, with one sample [..., n] per task."""

    samples = [np.asarray(x, float) for x in samples]
    if len(samples) == 1:
        return percentile_interval(samples, statistic, rng, resamples)
    if any(x.shape != (len(x),) or len(x) < 2 for x in samples):

        def pooled(*parts, axis):
            return statistic(np.concatenate(parts, axis), axis=axis)

        return percentile_interval(samples, pooled, rng, resamples)
    stops = np.cumsum([len(x) for x in samples])
    drawn = np.empty((resamples, stops[-1]))
    for x, stop in zip(samples, stops):  # the same numbers as scipy draws, but directly into one array, which is faster for many tasks
        drawn[:, stop - len(x) : stop] = x[rng.integers(0, len(x), (resamples, len(x)))]
    tail = (1 - 0.95) / 2
    ends = quantile(statistic(drawn, axis=-1), [tail, 1 - tail], axis=-1)  # [..., 2], bit for bit those of scipy's bootstrap
    low, high = np.moveaxis(ends, -1, 0)
    return low, high


def mean_interval(values: Sequence[float], resamples: int = RESAMPLES) -> tuple[float, float]:
    """95% interval of the mean of some runs, in the form that seaborn takes as `errorbar`."""
    return interval([np.asarray(values)], np.mean, rng(), resamples)


printed = np.vectorize(lambda x, digits: round(x, decimals(x, digits)) if np.isfinite(x) else x, otypes=[float])


def best_and_close(value: np.ndarray, low: np.ndarray, high: np.ndarray, digits: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Values [k] with intervals -> (best [k], close [k]), both bool, decided at the precision that tables print.

    Best: the highest value and its ties. Close: not best, but its interval overlaps with the interval of a best one. Unknown intervals
    (NaN) overlap with none. No test of a difference: with few runs and many methods, equal methods are often not close.
    """
    value, low, high = (printed(x, digits) for x in (value, low, high))
    best = value == value.max()
    return best, ~best & (high >= np.min(low[best], where=~np.isnan(low[best]), initial=np.inf))


def _marked(table: pd.DataFrame, digits: int, sign: int = 1) -> pd.DataFrame:
    """The table with columns best and close. `sign` = -1: lower values are better. A single row is the best of nothing."""
    if len(table) < 2:
        return table.assign(best=False, close=False)
    ends = (table.low, table.high) if sign > 0 else (-table.high, -table.low)
    best, close = best_and_close(sign * table.value, *ends, digits)
    return table.assign(best=best, close=close)


def task_scores(scores: pd.Series) -> pd.DataFrame:
    """Scores -> one row per (task, algo): n, value (mean), std (ddof = 1; NaN for one run), low, high, best, close."""
    runs = [(task, algo, x.to_numpy()) for (algo, task), x in scores.groupby(["algo", "task"], observed=True)]
    rows = []
    for n in sorted({len(x) for *_, x in runs}):  # equal n, equal resampled indices: one bootstrap for all of them
        same_n = [run for run in runs if len(run[2]) == n]
        step = max(1, MAX_RESAMPLED // (RESAMPLES * n))
        for part in (same_n[k : k + step] for k in range(0, len(same_n), step)):
            x = np.stack([x for *_, x in part])
            std = x.std(1, ddof=1) if n > 1 else np.full(len(x), np.nan)
            numbers = zip(x.mean(1), std, *interval([x], np.mean, rng()))
            rows += [(task, algo, n, *map(float, row)) for (task, algo, _), row in zip(part, numbers)]
    table = pd.DataFrame(sorted(rows), columns=["task", "algo", "n", "value", "std", "low", "high"])
    if not rows:
        return _marked(table, 2)
    best, close = np.zeros((2, len(table)), bool)
    for k in table.groupby("task").indices.values():
        best[k], close[k] = best_and_close(*(table[column].to_numpy()[k] for column in ("value", "low", "high")))
    return table.assign(best=best, close=close)


def complete_scores(scores: pd.Series, tasks: Sequence[str]) -> dict[str, list[np.ndarray]]:
    """Algorithm -> its scores [n] on each of the tasks. Algorithms without scores on some task are left out."""
    runs = {key: x.to_numpy() for key, x in scores.groupby(["algo", "task"], observed=True)}
    algos = dict.fromkeys(algo for algo, _ in runs)
    return {algo: [runs[algo, task] for task in tasks] for algo in algos if all((algo, task) in runs for task in tasks)}


def normalized_scores(scores: pd.Series, references: dict[str, tuple[float, float]]) -> dict[str, list[np.ndarray]]:
    """Algorithm -> its normalized scores [n] on each task of `references`. Algorithms without scores on some task are left out."""
    complete = complete_scores(scores, list(references))
    return {algo: [normalize(x, reference) for x, reference in zip(runs, references.values())] for algo, runs in complete.items()}


def normalized_means(scores: pd.Series, references: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Scores, reference returns per task -> one row per complete algo: value (mean over tasks of the mean normalized score), best."""
    values = {algo: float(np.mean([x.mean() for x in tasks])) for algo, tasks in normalized_scores(scores, references).items()}
    table = pd.DataFrame({"algo": list(values), "value": list(values.values())})
    return _marked(table.assign(low=table.value, high=table.value), 1).drop(columns=["low", "high", "close"])


def normalized_iqms(scores: pd.Series, references: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Scores, reference returns per task -> one row per complete algo: n (runs), value (IQM over all runs and tasks), low, high, best,
    close."""
    rows = [
        (algo, sum(map(len, tasks)), float(iqm(np.concatenate(tasks))), *map(float, interval(tasks, iqm, rng())))
        for algo, tasks in normalized_scores(scores, references).items()
    ]
    return _marked(pd.DataFrame(rows, columns=["algo", "n", "value", "low", "high"]), 1)


def mean_ranks(scores: pd.Series) -> pd.DataFrame:
    """Scores -> one row per complete algo: value (its rank by mean score, averaged over tasks; 1 is best, ties share the mean of their
    ranks), low, high, best, close."""
    runs = complete_scores(scores, scores.index.unique("task"))
    if not runs:
        return _marked(pd.DataFrame(columns=["algo", "value", "low", "high"]), 2)

    def mean_rank(*samples, axis):
        means = np.stack([x.mean(axis) for x in samples]).reshape(len(runs), -1, *samples[0].shape[:-1])  # [algos, tasks, ...]
        return rankdata(-np.round(means, 9), axis=0).mean(1)

    samples = [x for tasks in runs.values() for x in tasks]
    columns = mean_rank(*samples, axis=-1), *percentile_interval(samples, mean_rank, rng())
    return _marked(pd.DataFrame(dict(zip(("algo", "value", "low", "high"), (list(runs), *columns)))), 2, sign=-1)


def probability_of_improvement(*samples: np.ndarray, axis: int) -> np.ndarray:
    """Samples X_1, Y_1, X_2, Y_2, ... [..., n] of the tasks -> mean over tasks of P(X > Y) + P(X = Y) / 2, over all pairs of runs."""
    return np.mean([_share_above(x, y) for x, y in zip(samples[::2], samples[1::2])], axis=0)


def _share_above(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x [..., n], y [..., m] -> the share of the n m pairs in which x is larger, ties half: Mann and Whitney's U / (n m), from ranks."""
    n, m = x.shape[-1], y.shape[-1]
    ranks = rankdata(np.concatenate([x, y], -1), axis=-1)[..., :n]
    return (ranks.sum(-1) - n * (n + 1) / 2) / (n * m)


def improvements(scores: pd.Series, method: str) -> pd.DataFrame:
    """Scores -> one row per complete algo except `method`: value (probability of improvement of `method` over it), low, high. The table is
    empty if `method` is not complete."""
    runs = complete_scores(scores, scores.index.unique("task"))
    rows = []
    for algo in runs.keys() - {method} if method in runs else ():
        samples = [x for pair in zip(runs[method], runs[algo]) for x in pair]
        value = float(probability_of_improvement(*samples, axis=-1))
        rows.append((algo, value, *map(float, percentile_interval(samples, probability_of_improvement, rng()))))
    return pd.DataFrame(sorted(rows), columns=["algo", "value", "low", "high"])


def performance_profiles(scores: pd.Series, references: dict[str, tuple[float, float]], levels: np.ndarray) -> dict[str, np.ndarray]:
    """Algorithm -> [3, levels]: the share of its runs on all tasks whose normalized score is above each level, and the ends of its 95%
    interval."""

    def above(x, axis):
        return np.stack([(x > level).mean(axis) for level in levels])

    return {
        algo: np.stack([above(np.concatenate(tasks), -1), *interval(tasks, above, rng(), CURVE_RESAMPLES)])
        for algo, tasks in normalized_scores(scores, references).items()
    }


def sample_efficiency(frame: pd.DataFrame, metric: str, references: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Rows -> one row per algo and evaluation: share (of the run's updates), value (IQM of the normalized scores), low, high. An evaluation
    is kept where the algorithm has it on all tasks."""
    rows = frame[frame.metric == metric]
    steps = rows.groupby(["algo", "task"], observed=True).step.transform("max")
    shares = (rows.step / steps).round(3)
    table = []
    for share, evaluation in rows.groupby(shares):
        scores = evaluation.set_index(["algo", "task", "seed"]).value
        for algo, tasks in normalized_scores(scores, references).items():
            low, high = interval(tasks, iqm, rng(), CURVE_RESAMPLES)
            table.append((algo, share, float(iqm(np.concatenate(tasks))), float(low), float(high)))
    return pd.DataFrame(table, columns=["algo", "share", "value", "low", "high"])
