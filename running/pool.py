"""Runs many experiments in a few worker processes. A worker that dies, hangs or uses too much memory affects its own experiment alone."""

import math
import multiprocessing
import multiprocessing.util
import os
import signal
import tempfile
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
from inspo_benchmark.running.eta import Attempt, Eta, human_duration
from inspo_benchmark.running.experiment import Experiment, is_locked
from inspo_benchmark.running.messages import Crashed, Failed, Finished, Interrupted, Locked, Message, Progressed, decode
from inspo_benchmark.running.progress import ProgressDisplay, SweepState
from inspo_benchmark.running.results import final_return, write_record
from inspo_benchmark.running.worker import work

POLL_INTERVAL = 0.5  # seconds between checks of the workers
SHUTDOWN_GRACE = 20.0  # seconds in which workers may save a checkpoint before they are killed
RETRY_DELAY = 1.0  # seconds between checks of whether another process is still running an experiment
REUSE_WORKER_BELOW = 5.0  # seconds of age below which a process runs another experiment: its start would cost more than a short one
MAX_LOST_SERVERS = 5  # fork servers killed one after the other
MAX_TEMP_DIR = 70  # bytes of the path of a folder for sockets, whose own paths may have about 100
MAX_LINE_LENGTH = 1 << 16  # bytes of a message
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
BLOCKED_SIGNALS = [
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGUSR2,
]  # for the main process, which stops its workers (USR2: SLURM's time limit)


class Limits(NamedTuple):
    """Limits of one experiment and of the whole sweep."""

    timeout: float = math.inf  # seconds without a message after which a worker counts as stuck
    memory: float = math.inf  # bytes, of a worker and its children
    retries: int = 2  # of an experiment after crashes
    max_seconds: float = math.inf  # of the sweep
    fail_fast: bool = False  # stop the sweep at the first failure


class Outcome(NamedTuple):
    """The experiments that did not finish."""

    failed: dict[Experiment, str]  # with the reasons
    unfinished: list[Experiment]  # interrupted or never started


@dataclass(eq=False)
class WorkerHandle:
    """The main process's side of a worker. All times are monotonic: setting the system clock changes nothing."""

    process: BaseProcess
    messages: Connection
    commands: Connection
    experiment: Experiment
    device: str
    created: float
    started: float  # when it began its current experiment
    last_message: float
    buffer: bytes = b""  # the beginning of a message
    first_update: int | None = None  # where the checkpoint, if any, let training resume
    update: int = 0
    score: float | None = None
    stop_requested: bool = False

    def receive(self) -> list[Message] | None:
        """The messages since the last call. None: the process has ended. ValueError: it sent something else."""
        try:
            text = os.read(self.messages.fileno(), MAX_LINE_LENGTH)
        except BlockingIOError:
            return []
        if not text:
            return None
        *lines, self.buffer = (self.buffer + text).split(b"\n")
        if len(self.buffer) > MAX_LINE_LENGTH:
            raise ValueError("a line without end")
        self.last_message = time.monotonic()
        return [decode(line) for line in lines]

    def run_next(self, experiment: Experiment) -> None:
        """Let an idle worker run another experiment. OSError: the process has ended."""
        self.experiment, self.first_update, self.update, self.score = experiment, None, 0, None
        self.started = self.last_message = time.monotonic()
        self.commands.send(experiment)

    def send_kill(self) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def kill(self) -> None:
        """Kill the process and its children. The wait is limited, because a process can hang inside the system."""
        self.send_kill()
        self.process.join(5)
        self.messages.close()
        self.commands.close()


@dataclass(eq=False)
class Pool:
    """The state of a sweep and the rules by which it proceeds."""

    experiments: Sequence[Experiment]
    max_workers: int
    devices: Sequence[str]
    limits: Limits
    eta: Eta
    display: ProgressDisplay
    started: float = field(default_factory=time.monotonic)
    workers: list[WorkerHandle] = field(default_factory=list)
    finished: int = 0
    failed: dict[Experiment, str] = field(default_factory=dict)
    unfinished: list[Experiment] = field(default_factory=list)
    crashes: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self.queue = list(self.experiments)
        self.locked: list[tuple[float, Experiment]] = []  # experiments that other processes run, and when to check that again
        self.context = multiprocessing.get_context("forkserver")
        self.lost_servers = 0  # one after the other

    def run(self) -> Outcome:
        try:
            self.display.draw(self.state())  # the first worker starts when its server has done its imports
            while self.queue or self.workers or self.locked:
                now = time.monotonic()
                if now - self.started > self.limits.max_seconds or (self.failed and self.limits.fail_fast):
                    break
                self.start_workers(now)
                self.process_messages(POLL_INTERVAL)
                self.enforce_limits()
                if self.display.due():
                    self.display.draw(self.state())
        finally:
            self.stop()
        return Outcome(self.failed, self.unfinished)

    def start_workers(self, now: float) -> None:
        if len(self.workers) < self.max_workers and not self.queue:
            self.unlock(now)
        while self.queue and len(self.workers) < self.max_workers:
            try:
                with signals_blocked():
                    forkserver.ensure_running()
                self.workers.append(self.start_worker(self.queue[0]))  # waits until the server has done its imports, or for Ctrl-C
            except (ConnectionError, EOFError):  # the fork server was just killed; the next attempt starts another
                self.lost_servers += 1
                if self.lost_servers >= MAX_LOST_SERVERS:
                    times = f"{self.lost_servers} times before it started one"
                    raise UserError(f"the process that starts workers was killed {times}; is there enough memory?") from None
                return
            self.lost_servers = 0
            del self.queue[0]

    def unlock(self, now: float) -> None:
        """Return experiments to the queue that no other process is running any more. A worker that only finds the lock would leave lines
        in the log, which is the other process's too."""
        due = [experiment for when, experiment in self.locked if when <= now]
        self.locked = [(when, experiment) for when, experiment in self.locked if when > now]
        for experiment in due:
            if is_locked(experiment.out, experiment.algo, experiment.task, experiment.group):
                self.locked.append((now + RETRY_DELAY, experiment))
            else:
                self.queue.append(experiment)

    def start_worker(self, experiment: Experiment) -> WorkerHandle:
        """A new process, on the device that has the fewest workers."""
        load = Counter(worker.device for worker in self.workers)
        device = min(self.devices, key=lambda device: load[device])
        receiver, sender = self.context.Pipe(duplex=False)
        command_receiver, command_sender = self.context.Pipe(duplex=False)
        os.set_blocking(receiver.fileno(), False)
        process = self.context.Process(target=work, args=(experiment, device, sender, command_receiver), daemon=True)
        process.start()
        sender.close(), command_receiver.close()
        now = time.monotonic()
        return WorkerHandle(process, receiver, command_sender, experiment, device, now, now, now)

    def process_messages(self, seconds: float) -> None:
        """Handle what the workers send, waiting at most this long for the first message."""
        if not self.workers:
            time.sleep(min(seconds, RETRY_DELAY))
            return
        ready = wait([worker.messages for worker in self.workers], seconds)
        for worker in [worker for worker in self.workers if worker.messages in ready]:
            try:
                messages = worker.receive()
            except ValueError:
                self.on_crash(worker, "the process sent an invalid message")
                continue
            if messages is None:
                worker.process.join(1)
                self.on_crash(worker, f"the process {exit_reason(worker.process.exitcode)}")
                continue
            for message in messages:
                if isinstance(message, Progressed):
                    worker.update = message.update
                    worker.first_update = message.update if worker.first_update is None else worker.first_update
                    worker.score = worker.score if message.score is None else message.score
                else:
                    self.on_end(worker, message)
                    break

    def enforce_limits(self) -> None:
        memory = memory_by_group() if self.limits.memory < math.inf else {}
        now = time.monotonic()
        for worker in list(self.workers):
            used = memory.get(worker.process.pid, 0)
            if used > self.limits.memory:
                self.on_crash(worker, f"the process used {used / 2**30:.1f} GiB of memory (limit: {self.limits.memory / 2**30:.1f} GiB)")
            elif now - worker.last_message > self.limits.timeout:
                self.on_crash(worker, f"the process reported no progress for {human_duration(self.limits.timeout)}")

    def on_crash(self, worker: WorkerHandle, reason: str) -> None:
        """Kill the worker. Its experiment resumes from its last checkpoint, unless it has used up its retries."""
        experiment = worker.experiment
        worker.kill()
        self.workers.remove(worker)
        self.crashes[experiment] += 1
        if worker.stop_requested:
            self.unfinished.append(experiment)
        elif self.crashes[experiment] <= self.limits.retries:
            self.display.print_line(f"retry  {experiment}: {reason}")
            self.queue.append(experiment)
        elif experiment.csv_path.exists():  # the process died after it had written the result
            self.on_finish(experiment)
        else:
            attempts = f" ({self.crashes[experiment]} attempts)" if self.crashes[experiment] > 1 else ""
            self.on_failure(experiment, reason + attempts, again=False)

    def on_end(self, worker: WorkerHandle, message: Message) -> None:
        """The worker's last message about its experiment."""
        if isinstance(message, Crashed):
            self.on_crash(worker, message.reason)
            return
        experiment, young = worker.experiment, time.monotonic() - worker.created < REUSE_WORKER_BELOW
        if isinstance(message, Finished) and self.queue and young and not worker.stop_requested:
            self.on_finish(experiment)
            with suppress(OSError):  # it has ended: the next process_messages notices
                worker.run_next(self.queue.pop(0))
            return
        worker.kill()
        self.workers.remove(worker)
        match message:
            case Finished():
                self.on_finish(experiment)
            case Locked():
                self.locked.append((time.monotonic() + RETRY_DELAY, experiment))
            case Interrupted():
                self.unfinished.append(experiment)
            case Failed(reason, again):
                self.on_failure(experiment, reason, again)

    def on_finish(self, experiment: Experiment) -> None:
        self.finished += 1
        self.display.print_line(f"done   {self.progress()} {experiment}{result_summary(experiment, self.eta)}")

    def on_failure(self, experiment: Experiment, reason: str, again: bool) -> None:
        self.failed[experiment] = reason
        with suppress(UserError):  # where the disk refuses, only the sweep reports it
            write_record(experiment, reason, again)
        self.display.print_line(f"FAILED {self.progress()} {experiment}")

    def progress(self) -> str:
        return f"{self.finished + len(self.failed)}/{len(self.experiments)}"

    def stop(self) -> None:
        """Ask all workers to save a checkpoint and exit, and kill those that take too long."""
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # clusters send it twice; a second Ctrl-C still ends the wait
        try:
            now = time.monotonic()
            for worker in self.workers:
                worker.stop_requested = True
                with suppress(OSError):
                    os.kill(worker.process.pid, signal.SIGTERM)
            while self.workers and time.monotonic() - now < SHUTDOWN_GRACE:
                self.process_messages(0.1)
        finally:
            running = [worker.experiment for worker in self.workers]
            self.unfinished += [*self.queue, *(experiment for _, experiment in self.locked), *running]
            self.queue, self.locked = [], []
            for worker in self.workers:
                worker.send_kill()
            while self.workers:
                self.workers.pop().kill()

    def state(self) -> SweepState:
        now = time.monotonic()
        running = [Attempt(x.experiment, x.first_update or 0, x.update, now - x.started, x.score) for x in self.workers]
        waiting = [*self.queue, *(experiment for _, experiment in self.locked)]
        seconds_left = self.eta.seconds_left(waiting, running, min(self.max_workers, max(len(self.workers), 1)))
        return SweepState(len(self.experiments), self.finished, len(self.failed), running, seconds_left)


def run_pool(experiments: Sequence[Experiment], max_workers: int, devices: Sequence[str], limits: Limits, eta: Eta) -> Outcome:
    """Run experiments in up to `max_workers` processes. Those that another sweep is running are left to it and checked at the end.

    KeyboardInterrupt, also for SIGTERM: unfinished experiments have saved checkpoints.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with fork_server(), ProgressDisplay() as display:
            return Pool(experiments, max_workers, devices, limits, eta, display).run()
    finally:
        signal.signal(signal.SIGTERM, before)


def result_summary(experiment: Experiment, eta: Eta) -> str:
    """Return and duration of a finished experiment, for its line; `eta` learns from it."""
    try:
        score, seconds = final_return(experiment)
    except (UserError, OSError):  # another sweep finished it, together with other seeds
        return ""
    eta.learn(experiment, seconds)
    return f": return {score:.3g}, {human_duration(seconds)}"


def exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


@contextmanager
def fork_server() -> Iterator[None]:
    """The process that workers are forked from. Its libraries use one thread each."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["__main__", "inspo_benchmark.running.preload"])
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        choose_socket_folder()
        resource_tracker.ensure_running()  # first, because it unblocks signals when it starts
        with signals_blocked():
            forkserver.ensure_running()
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def choose_socket_folder() -> None:
    """Sockets cannot have long paths: where TMPDIR has one, as on some clusters, multiprocessing gets a shorter folder. UserError: none."""
    folder = tempfile.gettempdir()
    if len(os.fsencode(folder)) <= MAX_TEMP_DIR:
        return
    short = next((path for path in ("/tmp", "/var/tmp", "/dev/shm") if os.access(path, os.W_OK | os.X_OK)), None)
    if short is None:
        raise UserError(f"TMPDIR={folder[:40]}... has more than {MAX_TEMP_DIR} characters, too many for sockets; set it to another folder")
    try:
        tempfile.tempdir = short
        multiprocessing.util.get_temp_dir()  # remembers the folder that it makes, and removes it at the end
    finally:
        tempfile.tempdir = folder


@contextmanager
def signals_blocked() -> Iterator[None]:
    """Processes that are started inside ignore the signals that are meant for the main process."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BLOCKED_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def memory_by_group() -> dict[int, int]:
    """Process group -> resident bytes of its processes; shared pages count in each. Linux only."""
    groups: Counter = Counter()
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has just ended
            fields = path.read_text().rpartition(")")[2].split()
            groups[int(fields[2])] += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return groups
