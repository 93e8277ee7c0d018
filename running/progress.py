"""A sweep as it goes on: on a terminal one picture that is drawn again and again, elsewhere a line for every cell that ends."""

import sys
import time
from typing import NamedTuple

from inspo_benchmark.running.eta import human_duration
from inspo_benchmark.running.experiment import Experiment

SHOWN = 16  # running cells that are listed
REDRAW = 0.25  # seconds


class RunningLine(NamedTuple):
    """A cell that runs: updates done, last mean return (None before the first), seconds since it began."""

    cell: Experiment
    step: int
    score: float | None
    seconds: float


class SweepState(NamedTuple):
    """Where a sweep stands: numbers of cells, those that run, seconds that are left (None: unknown)."""

    total: int
    done: int
    failed: int
    running: list[RunningLine]
    left: float | None

    def text(self, elapsed: float) -> str:
        waiting = self.total - self.done - self.failed - len(self.running)
        share = (self.done + self.failed + sum(line.step / line.cell.config.num_updates for line in self.running)) / max(self.total, 1)
        speed = f", {3600 * self.done / elapsed:.0f} cells an hour" if self.done and elapsed else ""
        rest = f", about {human_duration(self.left)} left" if self.left is not None else ""
        lines = [
            f"{self.done} done, {len(self.running)} running, {self.failed} failed, {waiting} to do",
            f"{'█' * round(24 * share):░<24} {share:4.0%}, {human_duration(elapsed)}{speed}{rest}",
        ]
        for line in self.running[:SHOWN]:
            at = f"update {line.step} of {line.cell.config.num_updates}" if line.step else "getting ready"  # most of it is compiling
            score = "" if line.score is None else f", return {line.score:.3g}"
            lines.append(f"  {line.cell}: {at}{score}, {human_duration(line.seconds)}")
        if len(self.running) > SHOWN:
            lines.append(f"  and {len(self.running) - SHOWN} more")
        return "\n".join(lines)


class ProgressDisplay:
    """Use as a context; `say` prints a line that stays, `show` draws the picture."""

    def __init__(self):
        self.began, self.drawn, self.live = time.monotonic(), 0.0, None
        if sys.stderr.isatty():
            from rich.console import Console  # these take a while, and sweeps in the background need none of it
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), auto_refresh=False, transient=True, vertical_overflow="crop")

    def __enter__(self) -> "ProgressDisplay":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_) -> None:
        if self.live:
            self.live.stop()

    def say(self, line: str) -> None:
        if self.live:
            self.live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=sys.stderr, flush=True)

    def due(self) -> bool:
        """Whether it is time to draw again."""
        return self.live is not None and time.monotonic() - self.drawn > REDRAW

    def show(self, standing: SweepState) -> None:
        if self.live:
            from rich.text import Text

            self.drawn = time.monotonic()
            self.live.update(Text(standing.text(self.drawn - self.began), no_wrap=True, overflow="ellipsis"), refresh=True)
