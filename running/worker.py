"""One cell in a process of its own: it dies with its runner, takes its children along, logs what it does and sends news of it."""

import fcntl
import json
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
from inspo_benchmark.learning.train import Diverged, Stopped
from inspo_benchmark.running.experiment import Experiment

# How a worker ends; anything else, a death without a word included, is a crash.
DONE, BUSY, STOPPED, FAILED, RAISED = "done", "busy", "stopped", "failed", "raised"
PROGRESS = "progress"
PROGRESS_INTERVAL = 0.2  # seconds between news
REASON = 1000  # characters of a reason; the log has all


def work(cell: Experiment, device: str, news: Connection, orders: Connection) -> None:
    """The life of a worker: this cell, and those that it is given when it is done. SIGTERM asks it to leave a checkpoint and stop."""
    os.setsid()  # a kill of the group takes its children, and no key of the terminal reaches it
    _die_with_the_runner()
    _leave_the_server()
    stopping: list[bool] = []
    signal.signal(signal.SIGTERM, lambda *_: stopping.append(True))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])

    def tell(kind: str, *values) -> None:
        line = json.dumps([kind, *values]).encode()
        os.write(news.fileno(), line + b"\n")

    while True:
        end = fill(cell, device, tell, stopping)
        tell(*end)
        if end[0] != DONE:
            return
        cell = orders.recv()


def fill(cell: Experiment, device: str, tell: Callable[..., None], stopping: list[bool]) -> list:
    """Run the cell, log it, send news of it: how it ended, and why."""
    last = -PROGRESS_INTERVAL

    def progress(step: int, score: float | None) -> None:
        nonlocal last
        if score is not None:
            _say(f"step {step} of {cell.config.num_updates}: return {score:.4g}")
        if score is not None or time.monotonic() - last > PROGRESS_INTERVAL:
            last = time.monotonic()
            tell(PROGRESS, step, score)
        if stopping:
            raise Stopped

    try:
        _log_to(cell.log)
        job = "_".join(os.environ[name] for name in ("SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID") if name in os.environ)
        _say(f"{cell}; process {os.getpid()} on {os.uname().nodename}{f', job {job}' if job else ''}, {device}")
        ran = cell.run(device, progress)
        _say("finished" if ran else "another process is at it")
        return [DONE if ran else BUSY]
    except Stopped:
        _say("stopped; there is a checkpoint")
        return [STOPPED]
    except (UserError, Diverged) as error:
        _say(f"failed: {error}")
        return [FAILED, str(error)[:REASON], isinstance(error, UserError)]
    except BaseException as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {' '.join(str(error).split())}"
        _say(traceback.format_exc())
        return [RAISED, f"{text[:REASON]} ({Path(where.filename).name}, line {where.lineno})"]


def _die_with_the_runner() -> None:
    """Its end closes a pipe: then nobody is left to tell, and another runner may want the cell, which a stuck process would lock."""
    pipe = multiprocessing.parent_process().sentinel
    if hasattr(fcntl, "F_SETSIG"):  # Linux: the kernel sends the signal, also to a process that is stuck outside Python
        fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
        if select.select([pipe], [], [], 0)[0]:  # it is gone already
            os.killpg(0, signal.SIGKILL)
    else:

        def watch():
            select.select([pipe], [], [])
            os.killpg(0, signal.SIGKILL)

        threading.Thread(target=watch, daemon=True).start()


def _leave_the_server() -> None:
    """Close what ties it to the server that it was forked from and to Python's tracker of resources: a method that writes into all that
    is open would end the one and confuse the other."""
    for keeper, name in ((forkserver._forkserver, "_forkserver_alive_fd"), (resource_tracker._resource_tracker, "_fd")):
        os.close(getattr(keeper, name))
        setattr(keeper, name, None)


def _log_to(path: Path) -> None:
    """From here on, all that this process and its children print goes to the end of the file."""
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    sys.stdout.flush(), sys.stderr.flush()
    os.dup2(file, 1), os.dup2(file, 2)
    os.close(file)


def _say(line: str) -> None:
    """Into the log, with the time of day; a full disk does not keep anybody from working."""
    with suppress(OSError):
        print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {line}", flush=True)
