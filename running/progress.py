"""Shows the progress of a sweep: a live display on a terminal, elsewhere one line for every experiment that ends."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from inspo_benchmark.core.errors import print_error
from inspo_benchmark.running.eta import Attempt, human_duration

MAX_LINES = 16  # running experiments that are listed
REDRAW_INTERVAL = 0.25  # seconds
BAR_WIDTH = 24  # characters


class SweepState(NamedTuple):
    """Numbers of experiments, the running ones, and the estimated time left (None: unknown)."""

    total: int
    finished: int
    failed: int
    running: list[Attempt]
    seconds_left: float | None

    def text(self, elapsed: float) -> str:
        waiting = self.total - self.finished - self.failed - len(self.running)
        trained = sum(attempt.update / attempt.experiment.config.num_updates for attempt in self.running)
        fraction = (self.finished + self.failed + trained) / max(self.total, 1)
        speed = f", {3600 * self.finished / elapsed:.0f} experiments per hour" if self.finished and elapsed else ""
        left = f", about {human_duration(self.seconds_left)} left" if self.seconds_left is not None else ""
        lines = [
            f"{self.finished} done, {len(self.running)} running, {self.failed} failed, {waiting} waiting",
            f"{'█' * round(BAR_WIDTH * fraction):░<{BAR_WIDTH}} {fraction:4.0%}, {human_duration(elapsed)}{speed}{left}",
        ]
        for attempt in self.running[:MAX_LINES]:
            score = "" if attempt.score is None else f", return {attempt.score:.3g}"
            lines.append(f"  {attempt.experiment}: {attempt.phase}{score}, {human_duration(attempt.seconds)}")
        if len(self.running) > MAX_LINES:
            lines.append(f"  and {len(self.running) - MAX_LINES} more")
        return "\n".join(lines)


class ProgressDisplay:
    """A context manager. `print_line` prints a line that stays, `draw` updates the live display."""

    def __init__(self):
        self.started, self.drawn, self.live = time.monotonic(), 0.0, None
        if sys.stderr.isatty():
            from rich.console import Console  # slow imports, which a sweep without a terminal does not need
            from rich.live import Live

            self.live = Live(console=Console(stderr=True), auto_refresh=False, transient=True, vertical_overflow="crop")

    def __enter__(self) -> "ProgressDisplay":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_) -> None:
        if self.live:
            self.live.stop()

    def print_line(self, line: str) -> None:
        if self.live:
            self.live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print_error(line)

    def due(self) -> bool:
        """Whether it is time to draw again."""
        return self.live is not None and time.monotonic() - self.drawn > REDRAW_INTERVAL

    def draw(self, state: SweepState) -> None:
        if self.live:
            from rich.text import Text

            self.drawn = time.monotonic()
            self.live.update(Text(state.text(self.drawn - self.started), no_wrap=True, overflow="ellipsis"), refresh=True)


@contextmanager
def activity(text: str) -> Iterator[None]:
    """Shows what takes time: on a terminal with a clock, elsewhere as one line."""
    if not sys.stderr.isatty():
        print_error(text)
        yield
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as clock:
        clock.add_task(text, total=None)
        yield


def plural(number: int, noun: str) -> str:
    """ "1 experiment", "2 experiments"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
