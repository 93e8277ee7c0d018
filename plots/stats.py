"""Scores, averages and intervals: arrays in, arrays out, every random number from the generator that the caller hands in.

The percentile bootstrap of few runs is somewhat too narrow: a nominal 95 % interval covers about 90 % with 5 seeds and 93 % with 10.
Therefore n is printed beside every interval.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from scipy.stats import bootstrap, trim_mean

RESAMPLES = 4999


def rng() -> np.random.Generator:
    """The generator of every published interval: fresh for each, so that none depends on which others were computed."""
    return np.random.default_rng(0)


def final(frame: pd.DataFrame, metric: str, protocol: str) -> pd.Series:
    """Rows -> one score per run, indexed by (algo, task, seed). `last`: the final evaluation. `best`: the highest evaluation of
    the run, which chooses a checkpoint by playing and therefore flatters an offline method."""
    rows = frame[frame.metric == metric].sort_values("step")
    runs = rows.groupby(["algo", "task", "seed"]).value
    return {"last": runs.last, "best": runs.max}[protocol]()


def normalise(scores: np.ndarray, reference: tuple[float, float]) -> np.ndarray:
    """Returns -> 0 for the uniformly random policy, 100 for the best known one. `reference` belongs to the task, not to the competitors."""
    low, high = reference
    return 100 * (np.asarray(scores) - low) / (high - low)


def iqm(x: np.ndarray, axis: int | None = None) -> np.ndarray:
    """Interquartile mean: the mean of what is left without the lowest and the highest quarter (floor(n / 4) values each)."""
    return trim_mean(x, 0.25, axis=axis)


def interval(samples: Sequence[np.ndarray], statistic: Callable, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """95 % percentile interval [...] of `statistic(pooled values, axis)` from a stratified bootstrap.

    `samples` holds one array [..., n] per task, and each is resampled on its own. One run says nothing about spread: where some n is 1
    both ends are NaN.
    """
    samples = [np.asarray(x, float) for x in samples]
    if min(x.shape[-1] for x in samples) < 2:
        nan = np.full(samples[0].shape[:-1], np.nan)
        return nan, nan

    def pooled(*parts, axis):
        return statistic(np.concatenate(parts, axis), axis=axis)

    ends = bootstrap(samples, pooled, n_resamples=RESAMPLES, method="percentile", vectorized=True, axis=-1, rng=rng).confidence_interval
    return ends.low, ends.high


def standing(value: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Competitors [k] with intervals -> (best [k], close [k]), both bool. Best: the highest value, with its ties up to rounding. Close: not
    best, but the interval overlaps with a best one's. Two intervals may overlap although the difference would pass a test, so "close" errs
    towards claiming no difference."""
    value, low, high = (np.asarray(x, float) for x in (value, low, high))
    best = np.isclose(value, value.max(), rtol=1e-9, atol=1e-12)
    return best, ~best & (high >= low[best].min())


def _ranked(table: pd.DataFrame) -> pd.DataFrame:
    best, close = standing(table.value, table.low, table.high)
    return table.assign(best=best, close=close)


def cells(scores: pd.Series) -> pd.DataFrame:
    """Scores -> one row per (task, algo): n, value (mean), std (n - 1 below the bar; NaN for one run), low, high, best, close."""
    rows = [
        (task, algo, len(x), x.mean(), x.std(), *map(float, interval([x.to_numpy()], np.mean, rng())))
        for (algo, task), x in scores.groupby(["algo", "task"])
    ]
    table = pd.DataFrame(rows, columns=["task", "algo", "n", "value", "std", "low", "high"])
    return pd.concat([_ranked(group) for _, group in table.groupby("task")]) if rows else table.assign(best=False, close=False)


def aggregate(scores: pd.Series, references: dict[str, tuple[float, float]]) -> pd.DataFrame:
    """Scores, reference returns per task -> one row per algo: n (runs), value (IQM of the normalised scores), low, high, best, close.
    Only algorithms with all the tasks of `references` can be compared; the others are left out."""
    rows = []
    for algo, runs in scores.groupby("algo"):
        tasks = [normalise(x.to_numpy(), references[task]) for task, x in runs.groupby("task")]
        if len(tasks) == len(references):
            rows.append((algo, len(runs), float(iqm(np.concatenate(tasks))), *map(float, interval(tasks, iqm, rng()))))
    table = pd.DataFrame(rows, columns=["algo", "n", "value", "low", "high"])
    return _ranked(table) if rows else table.assign(best=False, close=False)
