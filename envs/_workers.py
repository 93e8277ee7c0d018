"""Processes that play. Not those of multiprocessing: a sweep's may not have children, and they would run a user's script again."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

GRACE = 10.0  # seconds a worker has for ending what it plays before it is killed with it


class Worker(NamedTuple):
    process: subprocess.Popen  # in a process group of its own, together with its children
    pipe: Connection


def start(module: str, *args: Any, fds: Sequence[int] = ()) -> Worker:
    """A process that calls `serve(pipe, *args)` of a module; args are plain values, `fds` further open files that it keeps."""
    mine, theirs = Pipe()
    command = f"from multiprocessing.connection import Connection; from {module} import serve; "
    command += f"serve({', '.join([f'Connection({theirs.fileno()})', *map(repr, args)])})"
    process = subprocess.Popen(
        [sys.executable, "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[theirs.fileno(), *fds],
        start_new_session=True,
    )
    theirs.close()
    return Worker(process, mine)


def send(worker: Worker, message: Any) -> None:
    with suppress(OSError):  # it is gone already
        worker.pipe.send(message)


def end(workers: Sequence[Worker]) -> None:
    """Tell workers to end with None, wait, then kill what is left of their groups: a worker that hangs, a child that was forgotten."""
    for worker in workers:
        send(worker, None)
    for worker in workers:
        with suppress(OSError):
            worker.pipe.poll(GRACE)  # until its end of the pipe is closed
        with suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)  # before `wait`: until then the number belongs to this group and nobody else
        worker.process.wait()
        worker.pipe.close()
