"""How long cells take, judged by finished ones."""

import statistics
from collections.abc import Iterable

from inspo_benchmark.running.experiment import Experiment


class Eta:
    """Seconds per update of (algorithm, task), known from earlier runs and learned from those that finish meanwhile.

    What is not known of a task is judged by the method's slowest task, and corrected by how much slower or faster than expected this
    machine turned out to be.
    """

    def __init__(self, known: dict[tuple[str, str], float]):
        self.known, self.learned, self.ratios = dict(known), {}, []

    def learn(self, cell: Experiment, seconds: float) -> None:
        before = self.known.get((cell.algo, cell.task))
        if before:
            self.ratios.append(seconds / cell.config.num_updates / before)
        self.learned[cell.algo, cell.task] = seconds / cell.config.num_updates

    def seconds(self, cell: Experiment) -> float | None:
        """What the whole cell takes; None if nothing like it has finished."""
        rate = self.learned.get((cell.algo, cell.task))
        if rate is None:
            rates = self.known | self.learned
            rate = self.known.get((cell.algo, cell.task), max((r for (algo, _), r in rates.items() if algo == cell.algo), default=None))
            if rate is None:
                return None
            rate *= statistics.median(self.ratios) if self.ratios else 1.0
        return rate * cell.config.num_updates

    def left(self, waiting: Iterable[Experiment], running: Iterable[tuple[Experiment, float, float]], workers: int) -> float | None:
        """Seconds until `workers` have done all; of what runs: cell, share of it that is done, seconds that this share took. Cells of
        which nothing is known count as the mean of the others; None while nothing is known of any."""
        known, strange = [], 0
        for cell, share, took in [*running, *((cell, 0.0, 0.0) for cell in waiting)]:
            whole = took / share if share > 0.05 else self.seconds(cell)
            if whole is None:
                strange += 1
            else:
                known.append(whole * (1 - share))
        if strange and not known:
            return None
        return max(sum(known) * (1 + strange / len(known)) / workers, max(known)) if known else 0.0


def human_duration(seconds: float) -> str:
    """ "40 s", "12 min", "3.4 h", "2.1 days"."""
    for unit, size in (("days", 86400 * 1.5), ("h", 5400), ("min", 90)):
        if seconds >= size:
            per = {"days": 86400, "h": 3600, "min": 60}[unit]
            return f"{seconds / per:.{0 if unit == 'min' else 1}f} {unit}"
    return f"{max(seconds, 1):.0f} s"
