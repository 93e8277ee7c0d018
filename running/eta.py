"""Estimates how long experiments take from those that have finished."""

import statistics
from collections.abc import Iterable
from typing import NamedTuple

from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.suites import suite


class Attempt(NamedTuple):
    """A running experiment, which may have resumed from a checkpoint."""

    experiment: Experiment
    first_update: int  # where this attempt began
    update: int
    seconds: float  # since then
    score: float | None = None  # mean return of the last evaluation; None before the first

    @property
    def phase(self) -> str:
        """What it does: before its first update it loads its data and evaluates, then it compiles the update."""
        if self.update:
            return f"update {self.update} of {self.experiment.config.num_updates}"
        return "loading data, first evaluation" if self.score is None else "compiling"


class Eta:
    """Seconds per update and seed of each (algorithm, task), from earlier results and from experiments that finish during the sweep.

    An experiment with twice the seeds counts twice, although seeds that train as one batch cost a little less. An unknown task counts as
    the mean of the method's known tasks of the same suite, or of all if there are none there. Earlier results are scaled by the median
    ratio of measured to expected time in this sweep, because they may come from another machine.
    """

    def __init__(self, known: dict[tuple[str, str], float]):
        self.known, self.measured, self.ratios, self.correction = dict(known), {}, [], 1.0

    def learn(self, experiment: Experiment, seconds: float) -> None:
        """A finished experiment took this long."""
        pair, rate = (experiment.algo, experiment.task), seconds / updates_of_all_seeds(experiment)
        if expected := self.known.get(pair):
            self.ratios.append(rate / expected)
            self.correction = statistics.median(self.ratios)
        self.measured[pair] = rate

    def total_seconds(self, experiment: Experiment) -> float | None:
        """Duration of a whole experiment. None: no experiment with this method has finished."""
        rate = self._rate(experiment.algo, experiment.task)
        if rate is None:
            tasks = [task for algo, task in self.known | self.measured if algo == experiment.algo]
            similar = [task for task in tasks if suite(task) == suite(experiment.task)]
            rate = statistics.fmean(self._rate(experiment.algo, task) for task in similar or tasks) if tasks else None
        return None if rate is None else rate * updates_of_all_seeds(experiment)

    def _rate(self, algo: str, task: str) -> float | None:
        """Seconds per update and seed on this machine. None: unknown."""
        pair = algo, task
        if pair in self.measured:
            return self.measured[pair]
        return self.known[pair] * self.correction if pair in self.known else None

    def seconds_left(self, waiting: Iterable[Experiment], running: Iterable[Attempt], workers: int) -> float | None:
        """Seconds until `workers` processes have finished all experiments. Unknown experiments count as the mean of the others. None: all
        are unknown."""
        left, unknown = [], 0
        for experiment, first_update, update, seconds, _ in [*running, *(Attempt(experiment, 0, 0, 0.0) for experiment in waiting)]:
            updates = experiment.config.num_updates
            trained = (update - first_update) / updates
            total = seconds / trained if trained > 0.05 else self.total_seconds(experiment)
            if total is None:
                unknown += 1
            else:
                left.append(total * (1 - update / updates))
        if unknown and not left:
            return None
        return max(sum(left) * (1 + unknown / len(left)) / workers, max(left)) if left else 0.0


def updates_of_all_seeds(experiment: Experiment) -> int:
    return experiment.config.num_updates * len(experiment.seeds)


def human_duration(seconds: float) -> str:
    """ "40 s", "12 min", "3.4 h", "2.1 days"."""
    for unit, size, shown_from in (("days", 86400, 129600), ("h", 3600, 5400), ("min", 60, 90)):
        if seconds >= shown_from:
            return f"{seconds / size:.{0 if unit == 'min' else 1}f} {unit}"
    return f"{max(seconds, 1):.0f} s"
