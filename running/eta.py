"""Estimates how long experiments take from those that have finished."""

import statistics
from collections.abc import Iterable

from inspo_benchmark.core.suites import suite
from inspo_benchmark.running.experiment import Experiment


class Eta:
    """Seconds per update and seed of each (algorithm, task), from earlier results and from experiments that finish during the sweep.

    An experiment with twice the seeds counts twice, although seeds that train as one batch cost a little less. An unknown task counts as
    the mean of the method's known tasks of the same suite, or of all if there are none there. Earlier results are scaled by the median
    ratio of measured to expected time in this sweep, because they may come from another machine.
    """

    def __init__(self, known: dict[tuple[str, str], float]):
        self.known, self.measured, self.ratios = dict(known), {}, []

    def learn(self, experiment: Experiment, seconds: float) -> None:
        """A finished experiment took this long."""
        pair, rate = (experiment.algo, experiment.task), seconds / updates_of_all_seeds(experiment)
        if expected := self.known.get(pair):
            self.ratios.append(rate / expected)
        self.measured[pair] = rate

    def total_seconds(self, experiment: Experiment) -> float | None:
        """Duration of a whole experiment. None: no experiment with this method has finished."""
        pair, updates = (experiment.algo, experiment.task), updates_of_all_seeds(experiment)
        if pair in self.measured:
            return self.measured[pair] * updates
        rate = self.known.get(pair)
        if rate is None:
            rates = {task: rate for (algo, task), rate in (self.known | self.measured).items() if algo == experiment.algo}
            similar = [rate for task, rate in rates.items() if suite(task) == suite(experiment.task)]
            known = similar or list(rates.values())
            rate = statistics.fmean(known) if known else None
        correction = statistics.median(self.ratios) if self.ratios else 1.0
        return None if rate is None else rate * correction * updates

    def seconds_left(self, waiting: Iterable[Experiment], running: Iterable[tuple[Experiment, float, float]], workers: int) -> float | None:
        """Seconds until `workers` processes have finished all experiments. `running`: experiment, fraction trained in this attempt,
        and seconds that this took. Unknown experiments count as the mean of the others. None: all are unknown."""
        left, unknown = [], 0
        for experiment, fraction, seconds in [*running, *((experiment, 0.0, 0.0) for experiment in waiting)]:
            total = seconds / fraction if fraction > 0.05 else self.total_seconds(experiment)
            if total is None:
                unknown += 1
            else:
                left.append(total * (1 - fraction))
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
