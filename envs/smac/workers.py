"""Worker processes of environments.

They are not multiprocessing's: a sweep's daemonic workers may not have children of that kind, and these would run a user's script again.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

GRACE = 10.0  # seconds for workers to shut down before they are killed with their children


class EnvWorker(NamedTuple):
    process: subprocess.Popen  # leads a process group of its own, with its children
    pipe: Connection


def start_worker(module: str, *args: Any) -> EnvWorker:
    """Start a process that calls `serve(pipe, *args)` of a module; args are literals."""
    parent_end, child_end = Pipe()
    command = f"from multiprocessing.connection import Connection; from {module} import serve; "
    command += f"serve({', '.join([f'Connection({child_end.fileno()})', *map(repr, args)])})"
    process = subprocess.Popen(
        [sys.executable, "-c", command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[child_end.fileno()],
        start_new_session=True,
    )
    child_end.close()
    return EnvWorker(process, parent_end)


def stop_workers(workers: Sequence[EnvWorker]) -> None:
    """Ask workers to stop by sending None, wait, then kill their process groups: a worker that hangs, a child that was left behind."""
    for worker in workers:
        with suppress(OSError):  # the process has ended already
            worker.pipe.send(None)
    deadline = time.monotonic() + GRACE  # for all of them
    for worker in workers:
        with suppress(EOFError, OSError):  # the worker has closed its end
            while worker.pipe.poll(max(0.0, deadline - time.monotonic())):
                worker.pipe.recv()  # an answer that was not read
        with suppress(ProcessLookupError):
            os.killpg(worker.process.pid, signal.SIGKILL)  # before `wait`, which frees the group's number for other processes
        worker.process.wait()
        worker.pipe.close()
