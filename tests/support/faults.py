"""Methods that fail, as a module of a copy of the project. Each is behavior cloning. At its tenth update it does what its name says, if
there is a file of its name in `armed/`: once if the file is empty, every time if it says "always"."""

FAULTY = '''
import ctypes, os, signal, stat, subprocess, sys, time
from pathlib import Path

from inspo_benchmark.algorithms.bc import BC
from inspo_benchmark.core.registry import ALGORITHMS

HELD = []


def hangs():
    """With a child process, and in such a way that no Python thread or signal handler can run."""
    subprocess.Popen(["sleep", "1000"])
    ctypes.PyDLL(None).sleep(1000)


def leaks():
    """More than 2 GiB, until it is killed."""
    for _ in range(25):
        HELD.append(b"x" * (100 << 20))
    time.sleep(1000)


def raises():
    raise ValueError("bad\\nluck")


def errs():
    return None + 1


def exits():
    os._exit(3)


def dies():
    os.kill(os.getpid(), signal.SIGSEGV)


def prints():
    os.write(1, os.urandom(100_000)), os.write(2, os.urandom(100_000))


def babbles():
    """Writes garbage into every pipe that it finds, and waits until it is killed."""
    for fd in range(3, 100):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.write(fd, b"[[[" + os.urandom(1000) + b"\\n")
        except OSError:
            pass
    time.sleep(1000)


def slows():
    """Sleeps at every update, for the seconds in the file if it holds a number."""
    text = Path("armed", "slows").read_text()
    time.sleep(0.15 if text == "always" else float(text))


def register(fault):
    @ALGORITHMS.register(fault.__name__)
    class Faulty(BC):
        calls = 0

        def update(self, s, b, d):
            self.calls += 1
            armed = Path("armed", fault.__name__)
            if (self.calls == 10 or fault is slows) and armed.exists():
                if not armed.read_text():
                    armed.unlink()
                fault()
            return super().update(s, b, d)


FAULTS = [hangs, leaks, raises, errs, exits, dies, prints, babbles, slows]
for fault in FAULTS:
    register(fault)
'''

# A module of the copy's `algorithms` package: the system clock jumps by days all the time. Two hours pass when a test makes a file, so that
# it need not wait for a time limit, and limits do not depend on the machine's speed.
CLOCK = """
import os
import random
import time

original, monotonic = time.time, time.monotonic
time.time = lambda: original() + random.choice([-1e6, 0.0, 1e6])
time.monotonic = lambda: monotonic() + 7200 * os.path.exists("armed/hours_later")
"""
