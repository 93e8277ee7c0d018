"""Fixtures for every file."""

import signal

import pytest
import torch

from support.project import alive, stop, until

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background: commands would inherit that they ignore Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
