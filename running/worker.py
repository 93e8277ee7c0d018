"""A worker process: it runs one experiment, logs it, sends messages to the main process, and ends with the main process."""

import fcntl
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path

from inspo_benchmark.core.atomic_io import write_errors
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.train import Diverged, Stopped
from inspo_benchmark.running.execute import execute
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.messages import Crashed, Failed, Finished, Interrupted, Locked, Message, Progressed, encode

PROGRESS_INTERVAL = 0.2  # seconds between progress messages
MAX_REASON_LENGTH = 1000  # characters; the log has the whole text
MISTAKES = (TypeError, AttributeError, NameError, LookupError, ImportError)  # in the code of a method: a retry would raise them again


def work(experiment: Experiment, device: str, messages: Connection, commands: Connection) -> None:
    """Run this experiment, and then those that the main process sends. SIGTERM: save a checkpoint and exit."""
    os.setsid()  # so that killing the group kills child processes too, and Ctrl-C on the terminal does not reach this process
    _exit_with_main_process()
    _close_server_pipes()
    stop_requests: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stop_requests.append(True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

    def send(message: Message) -> None:
        os.write(messages.fileno(), encode(message))

    while True:
        end = attempt(experiment, device, send, stop_requests)
        send(end)
        if not isinstance(end, Finished):
            return
        experiment = commands.recv()


def attempt(experiment: Experiment, device: str, send: Callable[[Message], None], stop_requests: list[bool]) -> Message:
    """Run the experiment once, log it and send its progress. Returns how the attempt ended."""
    last_sent = -PROGRESS_INTERVAL

    def progress(update: int, score: float | None) -> None:
        nonlocal last_sent
        if score is not None:
            _log(f"update {update} of {experiment.config.num_updates}: return {score:.4g}")
        if score is not None or time.monotonic() - last_sent > PROGRESS_INTERVAL:
            last_sent = time.monotonic()
            send(Progressed(update, score))
        if stop_requests:
            raise Stopped

    try:
        _redirect_output(experiment.log_path)
        job = "_".join(os.environ[name] for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID") if name in os.environ)
        _log(f"{experiment}; process {os.getpid()} on {os.uname().nodename}{f', job {job}' if job else ''}, {device}")
        completed = execute(experiment, device, progress)
        _log("finished" if completed else "skipped: another process is running this experiment")
        return Finished() if completed else Locked()
    except Stopped:
        _log("stopped; checkpoint saved")
        return Interrupted()
    except (UserError, Diverged) as error:
        _log(f"failed: {error}")
        return Failed(str(error)[:MAX_REASON_LENGTH], again=isinstance(error, UserError))
    except BaseException as error:
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        _log(traceback.format_exc())
        reason = f"{text[:MAX_REASON_LENGTH]} ({_place(error, ALGORITHMS[experiment.algo].__module__)})"
        return Failed(reason, again=True) if isinstance(error, MISTAKES) else Crashed(reason)


def _place(error: BaseException, module: str) -> str:
    """The last line of the method's file that led to an error, or else the last of all."""
    frames = traceback.extract_tb(error.__traceback__)
    file = sys.modules[module].__file__
    where = [frame for frame in frames if frame.filename == file] or frames
    return f"{Path(where[-1].filename).name}, line {where[-1].lineno}"


def _exit_with_main_process() -> None:
    """Die when the main process ends, which closes a pipe: a stuck worker would hold the lock of its experiment for ever."""
    pipe = multiprocessing.parent_process().sentinel
    if hasattr(fcntl, "F_SETSIG"):  # Linux: the kernel sends the signal, also to a process that is stuck outside Python
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([pipe], [], [], 0)[0]:  # it has already ended
            os.killpg(0, signal.SIGKILL)
    else:

        def watch():
            select.select([pipe], [], [])
            os.killpg(0, signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()


def _close_server_pipes() -> None:
    """Close the pipes to the fork server and to Python's resource tracker. A method that writes into every open file would end the
    one and confuse the other."""
    for owner, name in ((forkserver._forkserver, "_forkserver_alive_fd"), (resource_tracker._resource_tracker, "_fd")):
        os.close(getattr(owner, name))
        setattr(owner, name, None)


def _redirect_output(path: Path) -> None:
    """Append all further output of this process and its children to a file."""
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666)  # does not wait for the reader of a pipe
    sys.stdout.flush(), sys.stderr.flush()
    os.dup2(file, 1), os.dup2(file, 2)
    os.close(file)


def _log(line: str) -> None:
    """Write a line with the time of day. A full disk must not stop the work."""
    with suppress(OSError):
        print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}", flush=True)
