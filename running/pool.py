"""Many cells in a few processes: a worker that dies, hangs or swells takes its own cell with it, which is tried again."""

import json
import math
import multiprocessing
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.running.eta import Eta, human_duration
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.progress import ProgressDisplay, RunningLine, SweepState
from inspo_benchmark.running.worker import BUSY, DONE, FAILED, PROGRESS, RAISED, STOPPED, work

TICK = 0.5  # seconds between looks at the workers
GRACE = 20.0  # seconds for a checkpoint
RETRY_DELAY = 1.0  # seconds until a cell is tried again that another process is at
REUSE_WORKER_BELOW = 5.0  # seconds of a process in which it may go on with another cell: of short ones, its start is most of the cost
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
KEPT = [signal.SIGINT, signal.SIGTERM, signal.SIGUSR2]  # for the runner alone: it stops its workers (the last: time is up on a cluster)
VALUES = {PROGRESS: 2, DONE: 0, BUSY: 0, STOPPED: 0, FAILED: 2, RAISED: 1}  # what comes with a piece of news


class Limits(NamedTuple):
    """What a cell and a sweep may take."""

    silence: float = math.inf  # seconds without news after which a worker counts as stuck
    memory: float = math.inf  # bytes of a worker and its children
    retries: int = 2  # times that a cell is tried again after a crash
    seconds: float = math.inf  # of the whole sweep
    fail_fast: bool = False  # the first failure ends it


class Outcome(NamedTuple):
    """What became of the cells that are not done: why they failed, and those that there was no time for."""

    failed: dict[Experiment, str]
    left: list[Experiment]


@dataclass(eq=False)
class Worker:
    process: BaseProcess
    news: Connection
    orders: Connection
    cell: Experiment
    device: str
    born: float  # on the clock that nobody can set, like all times here
    began: float
    heard: float  # when there was news
    rest: bytes = b""  # the beginning of a piece of news
    first: int | None = None  # the update that it began with, which a checkpoint tells
    step: int = 0
    score: float | None = None
    stopping: float = math.inf  # when it was asked to stop

    def line(self, now: float) -> RunningLine:
        return RunningLine(self.cell, self.step, self.score, now - self.began)

    def hear(self) -> list[list] | None:
        """The news since the last call; None: it has ended. ValueError: what comes is no news."""
        try:
            text = os.read(self.news.fileno(), 1 << 16)
        except BlockingIOError:
            return []
        if not text:
            return None
        *lines, self.rest = (self.rest + text).split(b"\n")
        if len(self.rest) > 1 << 16:
            raise ValueError
        self.heard = time.monotonic()
        news = [json.loads(line) for line in lines]
        for one in news:
            if not isinstance(one, list) or len(one) != 1 + VALUES.get(str(one[0] if one else ""), -1):
                raise ValueError
        return news

    def next(self, cell: Experiment) -> None:
        """Let it go on with another cell. OSError: it is gone."""
        self.cell, self.first, self.step, self.score = cell, None, 0, None
        self.began = self.heard = time.monotonic()
        self.orders.send(cell)

    def end(self) -> None:
        """Kill what is left of it and its children, and wait; not for ever, because a process may be stuck in the system."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.join(5)
        self.news.close()
        self.orders.close()


@dataclass(eq=False)
class Pool:
    """The state of a sweep, and the rules by which it goes on."""

    cells: Sequence[Experiment]
    workers: int
    devices: Sequence[str]
    limits: Limits
    pace: Eta
    view: ProgressDisplay
    began: float = field(default_factory=time.monotonic)
    running: list[Worker] = field(default_factory=list)
    done: int = 0
    failed: dict[Experiment, str] = field(default_factory=dict)
    left: list[Experiment] = field(default_factory=list)
    tries: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self.waiting = list(self.cells)
        self.elsewhere: list[tuple[float, Experiment]] = []  # when to try again what other processes are at
        self.context = multiprocessing.get_context("forkserver")

    def run(self) -> Outcome:
        try:
            while self.waiting or self.running or self.elsewhere:
                now = time.monotonic()
                if now - self.began > self.limits.seconds or (self.failed and self.limits.fail_fast):
                    self.stop()
                    break
                self.start(now)
                self.listen(TICK)
                self.enforce_limits()
                if self.view.due():
                    self.view.show(self.standing())
        finally:
            self.stop()
        return Outcome(self.failed, self.left)

    def start(self, now: float) -> None:
        due = [cell for when, cell in self.elsewhere if when <= now] if len(self.running) < self.workers and not self.waiting else []
        self.elsewhere = [(when, cell) for when, cell in self.elsewhere if cell not in due]
        self.waiting += due
        while self.waiting and len(self.running) < self.workers:
            try:
                with blocked():
                    self.running.append(self.worker(self.waiting[0]))
            except ConnectionError:  # somebody killed the server a moment ago; another is started at the next try
                return
            del self.waiting[0]

    def worker(self, cell: Experiment) -> Worker:
        load = Counter(worker.device for worker in self.running)
        device = min(self.devices, key=lambda device: load[device])
        (news, tell), (told, orders) = self.context.Pipe(duplex=False), self.context.Pipe(duplex=False)
        os.set_blocking(news.fileno(), False)
        process = self.context.Process(target=work, args=(cell, device, tell, told), daemon=True)
        process.start()
        tell.close(), told.close()
        now = time.monotonic()
        return Worker(process, news, orders, cell, device, now, now, now)

    def listen(self, seconds: float) -> None:
        ready = wait([worker.news for worker in self.running], seconds) if self.running else time.sleep(min(seconds, RETRY_DELAY)) or []
        for worker in [worker for worker in self.running if worker.news in ready]:
            try:
                news = worker.hear()
            except ValueError:
                self.crashed(worker, "it sent garbage")
                continue
            if news is None:
                worker.process.join(1)
                code = worker.process.exitcode
                number = -code if code is not None and code < 0 else None
                self.crashed(worker, f"its process ended with {signal.Signals(number).name if number else f'exit code {code}'}")
                continue
            for kind, *values in news:
                if kind == PROGRESS:
                    worker.step, score = values
                    worker.first = worker.step if worker.first is None else worker.first
                    worker.score = worker.score if score is None else score
                else:
                    self.ended(worker, kind, *values)
                    break

    def enforce_limits(self) -> None:
        memory = resident() if self.limits.memory < math.inf else {}
        now = time.monotonic()
        for worker in list(self.running):
            used = memory.get(worker.process.pid, 0)
            if used > self.limits.memory:
                self.crashed(worker, f"it took {used / 2**30:.1f} GiB of memory, more than the {self.limits.memory / 2**30:.1f} it may")
            elif now - worker.heard > self.limits.silence:
                self.crashed(worker, f"there was no news of it for {human_duration(self.limits.silence)}")

    def crashed(self, worker: Worker, why: str) -> None:
        """Tried again from its last checkpoint, but not for ever."""
        cell = worker.cell
        worker.end()
        self.running.remove(worker)
        self.tries[cell] += 1
        if worker.stopping < math.inf:
            self.left.append(cell)
        elif self.tries[cell] <= self.limits.retries:
            self.view.say(f"again  {cell}: {why}")
            self.waiting.append(cell)
        elif cell.path.exists():  # it died after its work
            self.finish(cell)
        else:
            self.fail(cell, f"{why}, {self.tries[cell]} times" if self.tries[cell] > 1 else why, again=False)

    def ended(self, worker: Worker, kind: str, *values) -> None:
        if kind == RAISED:
            self.crashed(worker, values[0])
            return
        cell = worker.cell
        if kind == DONE and self.waiting and worker.stopping == math.inf and time.monotonic() - worker.born < REUSE_WORKER_BELOW:
            self.finish(cell)
            with suppress(OSError):  # its end will be heard
                worker.next(self.waiting.pop(0))
            return
        worker.end()
        self.running.remove(worker)
        if kind == BUSY:
            self.elsewhere.append((time.monotonic() + RETRY_DELAY, cell))
        elif kind == STOPPED:
            self.left.append(cell)
        elif kind == FAILED:
            self.fail(cell, *values)
        else:
            self.finish(cell)

    def finish(self, cell: Experiment) -> None:
        self.done += 1
        self.view.say(f"done   {self.done + len(self.failed)}/{len(self.cells)} {cell}{result_summary(cell, self.pace)}")

    def fail(self, cell: Experiment, why: str, again: bool) -> None:
        self.failed[cell] = why
        cell.fail(why, again)
        self.view.say(f"FAILED {self.done + len(self.failed)}/{len(self.cells)} {cell}")

    def stop(self) -> None:
        """Ask all workers for a checkpoint, wait a moment, and end those that do not answer."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # clusters say it twice; Ctrl-C again means at once
        try:
            now = time.monotonic()
            for worker in self.running:
                worker.stopping = now
                with suppress(OSError):
                    os.kill(worker.process.pid, signal.SIGTERM)
            while self.running and time.monotonic() - now < GRACE:
                self.listen(0.1)
        finally:
            self.left += [*self.waiting, *(cell for _, cell in self.elsewhere), *(worker.cell for worker in self.running)]
            self.waiting, self.elsewhere = [], []
            while self.running:
                self.running.pop().end()

    def standing(self) -> SweepState:
        now = time.monotonic()
        running = [(w.cell, (w.step - (w.first or 0)) / w.cell.config.num_updates, now - w.began) for w in self.running]
        waiting = [*self.waiting, *(cell for _, cell in self.elsewhere)]
        left = self.pace.left(waiting, running, min(self.workers, max(len(self.running), 1)))
        return SweepState(len(self.cells), self.done, len(self.failed), [w.line(now) for w in self.running], left)


def run_pool(cells: Sequence[Experiment], workers: int, devices: Sequence[str], limits: Limits, pace: Eta) -> Outcome:
    """Run the cells, `workers` at a time, each in a process of its own (short ones one after the other in one), on the device that has
    least to do. Cells that another sweep is at are left to it, and waited for at the end. KeyboardInterrupt, also by SIGTERM: what runs
    has left checkpoints."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with server(), ProgressDisplay() as view:
            return Pool(cells, workers, devices, limits, pace, view).run()
    finally:
        signal.signal(signal.SIGTERM, before)


def result_summary(cell: Experiment, pace: Eta) -> str:
    """What became of a cell that is done, to be said; `pace` learns from it."""
    try:
        score, seconds = cell.result()
    except (UserError, OSError):  # another sweep finished it, with other seeds
        return ""
    pace.learn(cell, seconds)
    return f": return {score:.3g}, {human_duration(seconds)}"


@contextmanager
def server() -> Iterator[None]:
    """The process that workers are forked from, with one thread for each library."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["__main__", "inspo_benchmark.running.preload"])
    threads = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        resource_tracker.ensure_running()  # it unblocks signals when it starts
        with blocked():
            forkserver.ensure_running()
        yield
    finally:
        for name, value in threads.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


@contextmanager
def blocked() -> Iterator[None]:
    """Processes that are started inside do not hear the signals that are meant for the runner."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, KEPT)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def resident() -> dict[int, int]:
    """Process group -> bytes of memory of its processes, pages that they share included. Linux only."""
    groups: Counter = Counter()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended meanwhile
            fields = path.read_text().rpartition(")")[2].split()
            groups[int(fields[2])] += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return groups
