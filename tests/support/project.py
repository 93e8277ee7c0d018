"""The command line as users see it: a copy of the project, in which runs are small, and processes that run it."""

import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("algorithms", "core", "datasets", "envs", "learning", "plots", "running", "tests", "tools")
SMALL = ["--set", "num_updates=40", "hidden_dim=8", "batch_size=8"]
MAX_WAIT = 1200  # seconds, for what takes a few on an idle machine: only a test that fails waits so long

# A module of the copy's `algorithms` package, which every process of a sweep imports. It makes evaluations few and checkpoints many, and
# lists what is trained. Setting a name that does not exist is an error, so that a rename cannot switch this off unseen.
SMALL_RUNS = """
from dataclasses import replace

from inspo_benchmark.learning import train

for name, value in {{"LOSS_CHECK_INTERVAL": {loss_check_interval}, "CHECKPOINT_INTERVAL": 0.0}}.items():
    getattr(train, name)
    setattr(train, name, value)
original = train.train


def listed(algorithm, task, data, seeds, device, checkpoint, *rest):
    with (checkpoint.parents[2] / "trained").open("a") as file:
        print(checkpoint.parent.name, task.name, *seeds, file=file)
    task = replace(task, num_evals=4, eval_episodes=4, final_episodes=8)
    return original(algorithm, task, data, seeds, device, checkpoint, *rest)


train.train = listed
"""

# Forks command lines from a process that has done the slow imports, and reports their exit codes.
FORKS = """
import atexit, gc, json, os, runpy, signal, sys, traceback
import h5py, matplotlib.figure
from inspo_benchmark.plots import load, stats, style
from inspo_benchmark.running import pool
gc.freeze()  # forks share these pages
for line in sys.stdin:
    job = json.loads(line)
    if "wait" in job:
        pid, status = os.waitpid(job["wait"], os.WNOHANG)
        print(json.dumps(os.waitstatus_to_exitcode(status) if pid else None), flush=True)
    elif pid := os.fork():
        print(pid, flush=True)
    else:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start background commands without it
        for fd, name in enumerate([os.devnull, *job["files"]]):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC), fd)
        sys.argv = [job["program"], *job["argv"]]
        run = runpy.run_path if job["program"].endswith(".py") else runpy.run_module
        code = 0
        try:
            run(job["program"], run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            traceback.print_exc()
            code = 1
        atexit._run_exitfuncs()
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)  # a normal exit of the interpreter would copy all pages: two seconds
"""


class Ended(NamedTuple):
    code: int
    out: str
    err: str


class Running:
    """A command in its own process group, as a shell starts it."""

    def __init__(self, forks: "Forks", program: str, argv: list[str], folder: Path):
        self.forks, self.files, self.code = forks, [folder / "out", folder / "err"], None
        self.pid = forks.ask(program=program, argv=argv, files=list(map(str, self.files)))

    def over(self) -> bool:
        if self.code is None:
            self.code = self.forks.ask(wait=self.pid)
        return self.code is not None

    def ended(self) -> Ended:
        until(self.over)
        return Ended(self.code, *(path.read_text() for path in self.files))

    def signal(self, number: int) -> None:
        """Send a signal to the whole group, as a terminal does."""
        os.killpg(self.pid, number)

    def group(self) -> list[int]:
        """The living processes of the group."""
        return [pid for pid, (state, _, group) in processes().items() if group == self.pid and state != "Z"]

    def workers(self) -> list[int]:
        """The grandchildren: the command starts a server, which forks the workers."""
        known = processes()
        return [pid for pid, (_, parent, _) in known.items() if parent in known and known[parent][1] == self.pid]

    def until(self, condition: Callable[[], object]) -> None:
        """Wait until the condition holds. The command must still be running then."""
        until(lambda: condition() or self.over())
        assert self.code is None, f"ended too early: {self.ended()}"


def until(condition: Callable[[], object], what: str = "") -> None:
    end = time.monotonic() + MAX_WAIT
    while not condition():
        assert time.monotonic() < end, f"waited too long {what}"
        time.sleep(0.003)


class Forks:
    """The process that commands are forked from. It imports the copy's code."""

    def __init__(self, root: Path):
        command = [sys.executable, "-c", FORKS]
        self.process = subprocess.Popen(command, cwd=root, env=environment(root), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **job) -> int | None:
        print(json.dumps(job), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())


def environment(root: Path) -> dict[str, str]:
    """Environment variables of processes that import the copy in `root` instead of the installed package."""
    return os.environ | {"PYTHONPATH": str(root.parent)}


class Project:
    """A copy of the project in `root`, with new modules (path -> source). The output of commands goes beside it."""

    def __init__(self, folder: Path, modules: Mapping[str, str] = MappingProxyType({}), loss_check_interval: int = 8):
        self.root, self.folder, self.count = folder / "inspo_benchmark", folder, 0
        for name in PACKAGES:
            shutil.copytree(ROOT / name, self.root / name, ignore=shutil.ignore_patterns("__pycache__", "data"))
        for pattern in ("*.py", "*.toml", "*.txt"):
            for path in ROOT.glob(pattern):
                shutil.copy(path, self.root)
        small_runs = SMALL_RUNS.format(loss_check_interval=loss_check_interval)
        for name, source in {"algorithms/small_runs.py": small_runs, **modules}.items():
            with (self.root / name).open("x") as file:
                file.write(source)
        self.forks = Forks(self.root)

    def fresh(self) -> Path:
        """An empty folder."""
        self.count += 1
        path = self.folder / f"folder-{self.count}"
        path.mkdir()
        return path

    def start(self, *argv, program: str = "run_benchmark.py") -> Running:
        return Running(self.forks, program, list(map(str, argv)), self.fresh())

    def run(self, *argv, program: str = "run_benchmark.py") -> Ended:
        """Run a command to its end."""
        running = self.start(*argv, program=program)
        try:
            return running.ended()
        finally:
            stop(running)


@functools.cache
def project_in(folder: Path) -> Project:
    """One copy for all test files."""
    return Project(folder)


def processes() -> dict[int, tuple[str, int, int]]:
    """pid -> state, parent, process group."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent, group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        found[int(path.parent.name)] = state, int(parent), int(group)
    return found


def alive(pid: int) -> bool:
    return processes().get(pid, ("Z",))[0] != "Z"


def trained(out: Path) -> list[str]:
    """Every start of a training in a results folder, "algorithm task seeds", sorted."""
    path = out / "trained"
    return sorted(path.read_text().splitlines()) if path.exists() else []


def results(out: Path) -> dict[str, bytes]:
    """The finished CSV files, by name."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.glob("runs/*/[!.]*.csv")}


def leftovers(out: Path) -> list[str]:
    """Files that are neither results nor locks."""
    files = [path for path in (out / "runs").rglob("*") if path.is_file()]
    return [path.name for path in files if path.name.startswith(".") and path.suffix != ".lock"]


def stop(running: Running) -> None:
    """Kill the whole group. Used even when a test has failed."""
    if running.group():
        running.signal(signal.SIGKILL)
    until(running.over)
