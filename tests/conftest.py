"""Fixtures for every file."""

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from support.project import alive, stop, until

os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start: there is a worker of pytest for every core
torch.set_num_threads(1)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background: commands would inherit that they ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


def children() -> set[int]:
    """The child processes of this one, on Linux."""
    found = set()
    for path in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # the thread has just ended
            found.update(map(int, path.read_text().split()))
    return found


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test ends the processes that it starts; those that a fixture starts are its own. multiprocessing keeps its servers."""
    before = children()
    result = yield
    for pid in children() - before:
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            if "multiprocessing" not in command:
                until(lambda pid=pid: not alive(pid), command)
    return result


@pytest.fixture
def double():
    """Float64 and one thread, so that "the same" can mean 1e-10 or bit for bit; both are put back afterwards."""
    dtype, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    yield
    torch.set_default_dtype(dtype)
    torch.set_num_threads(threads)


@pytest.fixture
def start(project):
    """Commands in the background of the file's `project`, ended with the test, their workers too."""
    begun = []

    def begin(*argv):
        begun.append(project.start(*argv))
        return begun[-1]

    yield begin
    for running in begun:
        pids = running.workers()
        stop(running)
        until(lambda pids=pids: not any(map(alive, pids)))
