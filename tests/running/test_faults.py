"""Whatever happens to workers, runners, disks and clocks: the same rows in the end, none lost or twice, and every failure is told."""

import json
import os
import random
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.learning.train import Stopped
from inspo_benchmark.running.experiment import plan
from support.faults import CLOCK, FAULTY
from support.project import Project, leftovers, processes, results, until

if not Path("/proc/self/stat").exists():
    pytest.skip("processes are looked up in /proc", allow_module_level=True)

SMALL = ["--env", "xor-ab", "--seeds", "2", "--set", "num_updates=40", "hidden_dim=8", "batch_size=8"]
CRASHES = ["hangs", "leaks", "raises", "exits", "dies", "babbles"]
LIMITS = ["--workers", "3", "--timeout", "0.15", "--memory", "2G"]
ROOTED = os.geteuid() == 0 and shutil.which("mount") is not None


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("faults"), {"algorithms/faulty.py": FAULTY, "learning/train.py": CLOCK})


@pytest.fixture
def arm(project):
    """Make methods fail; nothing does afterwards."""
    folder = project.root / "armed"

    def set_(names, how=""):
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_text(how)

    yield set_
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def untroubled(project) -> bytes:
    """What any of these methods has to end with, but for its name."""
    out = project.fresh()
    ended = project.run("--algo", "bc", *SMALL, "--out", out)
    assert ended.code == 0, ended
    (rows,) = results(out).values()
    return rows


def groups(pids: list[int]) -> set[int]:
    """The living processes of the groups that these lead."""
    return {pid for pid, (state, _, group) in processes().items() if group in pids and state != "Z"}


def rows_of(out: Path) -> dict[str, bytes]:
    """Method -> its rows, under bc's name."""
    return {name.split("/")[1]: rows.replace(name.split("/")[1].encode(), b"bc") for name, rows in results(out).items()}


def test_cells_that_crash_once_are_tried_again(project, start, arm, untroubled):
    """One hangs, one takes all memory, one raises, one exits, one dies, one sends garbage to the runner, one prints garbage; on two
    devices, under a clock that jumps by days."""
    out = project.fresh()
    arm([*CRASHES, "prints"])
    running = start("--algo", *CRASHES, "prints", *SMALL, *LIMITS, "--out", out, "--device", "cpu", "cpu:0")
    ended = running.ended()
    assert ended.code == 0, ended
    again = {line.split()[1]: line for line in ended.err.splitlines() if line.startswith("again")}
    words = ["no news of it for 9 s", "GiB of memory", "ValueError: bad luck (faulty.py, line ", "exit code 3", "SIGSEGV", "sent garbage"]
    assert again.keys() == set(CRASHES)
    assert all(word in again[name] for name, word in zip(CRASHES, words)), again
    assert rows_of(out) == dict.fromkeys([*CRASHES, "prints"], untroubled)
    assert not leftovers(out)
    assert not list(out.glob("unfinished/*/*"))
    logs = {path.parent.name: path.read_bytes() for path in out.glob("logs/*/*.log")}
    assert b"Traceback" in logs["raises"]
    assert b"bad\nluck" in logs["raises"]
    assert len(logs["prints"]) > 200_000
    assert {log.split(b"\n")[0].split()[-1] for log in logs.values()} == {b"cpu", b"cpu:0"}
    for path in out.glob("runs/*/*.json"):
        assert 0 < json.loads(path.read_text())["wall_seconds"] < 100


def test_cells_that_always_crash_fail_and_are_left_out_until_they_are_asked_for(project, arm, untroubled):
    out, failing = project.fresh(), ["raises", "exits", "babbles"]
    command = ["--algo", "bc", *failing, *SMALL, *LIMITS, "--retries", "1", "--out", out]
    arm(failing, "always")
    ended = project.run(*command)
    assert ended.code == 1
    assert len([line for line in ended.err.splitlines() if line.startswith("again")]) == 3
    (line,) = [line for line in ended.err.splitlines() if line.startswith("FAILED raises") and "luck" in line]
    assert "2 times" in line
    assert f"logs{os.sep}raises" in line
    assert rows_of(out) == {"bc": untroubled}

    arm([])
    shutil.rmtree(project.root / "armed")
    ended = project.run(*command)
    assert ended.code == 1
    assert "3 failed before, 0 to do" in ended.out
    assert len([line for line in ended.err.splitlines() if line.startswith("failed before: ")]) == 3
    said = project.run("--status", "--out", out)
    assert (said.code, said.err) == (0, "")
    assert "1 finished (2 seeds), 0 running, 0 begun, 3 failed, 0 stale" in said.out
    assert project.run(*command, "--retry-failed").code == 0
    assert rows_of(out) == dict.fromkeys(["bc", *failing], untroubled)
    assert "4 finished (8 seeds), 0 running, 0 begun, 0 failed" in project.run("--status", "--out", out).out


def test_the_server_that_workers_are_forked_from_is_killed(project, start, arm, untroubled):
    """What runs goes on, what comes is forked from another."""
    out = project.fresh()
    arm(["slows"], "always")
    running = start("--algo", "slows", "bc", *SMALL, "--workers", "1", "--out", out)
    running.until(lambda: list(out.glob("logs/slows/*.log")))  # it is at work, for some seconds
    (server,) = {processes()[pid][1] for pid in running.workers()}
    os.kill(server, signal.SIGKILL)
    ended = running.ended()
    assert ended.code == 0, ended
    assert "Traceback" not in ended.err
    assert rows_of(out) == dict.fromkeys(["slows", "bc"], untroubled)


def test_a_stuck_worker_and_its_child_die_with_the_runner(project, start, arm, untroubled):
    """And free the lock: the next runner does not wait for them."""
    out = project.fresh()
    arm(["hangs"])
    command = ["--algo", "hangs", *SMALL, "--out", out]
    running = start(*command)
    running.until(lambda: len(groups(running.workers())) == 2)
    workers = running.workers()
    said = project.run("--status", "--out", out).out
    assert "running\n  hangs on xor-ab, seeds 0-1" in said
    assert "step 0 of 40: return" in said
    os.kill(running.pid, signal.SIGKILL)
    assert running.ended().code == -signal.SIGKILL
    until(lambda: not groups(workers))
    said = project.run("--status", "--out", out).out
    assert "begun: the same command goes on with them\n  hangs on xor-ab, seeds 0-1" in said
    assert project.run(*command).code == 0
    assert rows_of(out) == {"hangs": untroubled}


def test_a_worker_that_ignores_ctrl_c_is_ended(project, start, arm):
    out = project.fresh()
    arm(["hangs"])
    running = start("--algo", "hangs", *SMALL, "--out", out)
    running.until(lambda: len(groups(running.workers())) == 2)
    workers = running.workers()
    running.signal(signal.SIGINT)
    time.sleep(0.5)
    running.signal(signal.SIGINT)  # who is in a hurry says it twice
    assert running.ended().code == 130
    until(lambda: not groups(workers))


@pytest.mark.parametrize("end", ["time", "SIGTERM", "failure"])
def test_a_sweep_that_ends_early_goes_on_later(project, start, arm, untroubled, end):
    out = project.fresh()
    arm(["slows", "raises"], "always")
    command = ["--algo", "slows", *SMALL, "--out", out]
    if end == "time":
        ended = start(*command, "--max-hours", "0.001").ended()
        assert ended.code == 3
        assert "1 of 1 cells are left; the same command goes on with them" in ended.err
    elif end == "SIGTERM":
        running = start(*command)
        running.until(lambda: list(out.glob("runs/*/.*.checkpoint")))
        os.kill(running.pid, signal.SIGTERM)
        assert running.ended().code == 130
    else:
        command[1:2] = ["slows", "raises"]
        ended = start(*command, "--workers", "2", "--retries", "0", "--fail-fast").ended()
        assert ended.code == 1
        assert "1 of 2 cells are left" in ended.err
    assert not results(out)
    for log in out.glob("logs/slows/*.log"):  # none, if there was not even time to begin
        assert log.read_text().splitlines()[-1].endswith("stopped; there is a checkpoint")
    shutil.rmtree(project.root / "armed")
    assert project.run(*command, "--retry-failed").code == 0
    assert rows_of(out)["slows"] == untroubled
    assert not leftovers(out)


def test_of_two_runners_one_is_killed(project, start, arm, untroubled):
    out = project.fresh()
    arm(["slows"], "always")
    command = ["--algo", "slows", "bc", *SMALL, "--out", out]
    first = start(*command)
    first.until(lambda: list(out.glob("runs/*/.*.checkpoint")))
    second = start(*command)
    second.until(lambda: len(results(out)) == 1)  # all but the one that the first is at
    os.kill(first.pid, signal.SIGKILL)
    assert second.ended().code == 0
    assert rows_of(out) == dict.fromkeys(["slows", "bc"], untroubled)
    assert not leftovers(out)


@pytest.mark.skipif(not ROOTED, reason="needs root")
def test_a_disk_that_fills_up_meanwhile(project, start, arm, untroubled):
    out = project.fresh()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", out], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        arm(["slows"], "always")
        command = ["--algo", "slows", *SMALL, "--out", out]
        running = start(*command)
        running.until(lambda: list(out.glob("runs/*/.*.checkpoint")))
        with (out / "filler").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        ended = running.ended()
        assert ended.code == 1
        assert len([line for line in ended.err.splitlines() if "no space left on the disk" in line]) == 1
        assert not results(out)
        (out / "filler").unlink()
        shutil.rmtree(project.root / "armed")
        assert project.run(*command).code == 0
        assert rows_of(out) == {"slows": untroubled}
        assert not leftovers(out)
    finally:
        subprocess.run(["umount", "-l", out], check=True)


def test_who_is_stopped_leaves_a_checkpoint_of_where_it_is(tmp_path):
    ALGORITHMS.discover(), TASKS.discover()
    for name in ("whole", "stopped"):
        (cell,) = plan(["bc"], ["xor-ab"], (0,), ["num_updates=30", "hidden_dim=8", "batch_size=8"], tmp_path / name)
        if name == "stopped":

            def progress(step, score):
                if step >= 15:
                    raise Stopped

            with pytest.raises(Stopped):
                cell.run(progress=progress)
            assert cell.checkpoint.exists()
            assert cell.note.exists()
        steps = []
        assert cell.run(progress=lambda step, score, steps=steps: steps.append(step))
    assert min(steps) >= 15
    whole, stopped = (next((tmp_path / name).glob("runs/bc/*.csv")).read_bytes() for name in ("whole", "stopped"))
    assert whole == stopped
    assert not cell.checkpoint.exists()
    assert not cell.note.exists()


# --- all at once, at random

CHAOS = [
    "--algo",
    "bc",
    "inspo",
    "--env",
    "xor-*",
    "bridge-optimal",
    "--seeds",
    "2",
    "--set",
    "num_updates=96",
    "hidden_dim=8",
    "batch_size=8",
]
FAULTS = 200


@pytest.mark.slow
def test_two_hundred_faults(project, start):
    """Workers, runners and servers are killed, stopped and interrupted, checkpoints damaged, rival runners started. At every moment what is
    there under a result's name is the whole result."""
    reference = project.fresh()
    assert project.run(*CHAOS, "--workers", "2", "--out", reference).code == 0
    whole, rng, faults = results(reference), random.Random(0), []
    assert len(whole) == 10

    def victims(kind: str) -> list[int]:
        known = processes()
        servers = [pid for running in runners for pid, (_, parent, _) in known.items() if parent == running.pid]
        workers = [pid for pid, (_, parent, _) in known.items() if parent in servers]
        return {"worker": workers, "server": servers, "runner": [running.pid for running in runners]}[kind]

    def hit(number: int, *kinds: str) -> bool:
        chosen = [rng.choice(pids) for kind in kinds if (pids := victims(kind))]
        for pid in chosen:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                return False
        return len(chosen) == len(kinds)

    def damage() -> bool:
        for path in out.glob("runs/*/.*.checkpoint"):
            try:
                with path.open("r+b") as file:
                    file.seek(100), file.write(os.urandom(10))
                return True
            except FileNotFoundError:
                pass
        return False

    kinds = {
        "worker killed": lambda: hit(signal.SIGKILL, "worker"),
        "worker stopped": lambda: hit(signal.SIGSTOP, "worker"),
        "runner killed": lambda: hit(signal.SIGKILL, "runner"),
        "runner and worker killed": lambda: hit(signal.SIGKILL, "worker", "runner"),
        "runner interrupted": lambda: hit(signal.SIGINT, "runner"),
        "server killed": lambda: hit(signal.SIGKILL, "server"),
        "checkpoint damaged": damage,
    }
    while len(faults) < FAULTS:
        out = project.fresh()
        command = [*CHAOS, "--workers", "2", "--timeout", "0.1", "--retries", "3", "--retry-failed", "--out", out]
        runners = [start(*command)]
        while len(faults) < FAULTS and not (runners[0].over() and runners[0].code == 0):
            time.sleep(rng.uniform(0, 0.6))
            kind = rng.choice(list(kinds))
            if victims("worker") and kinds[kind]():
                faults.append(kind)
            runners = [running for running in runners if not running.over()]
            while not runners or (len(runners) == 1 and rng.random() < 0.05):
                runners.append(start(*command))
            found = results(out)
            assert found.items() <= whole.items()
        for running in runners:
            running.ended()
        ended = project.run(*command)
        assert ended.code == 0, ended
        assert results(out) == whole
        assert project.run("--clean", "--out", out).code == 0
        assert not leftovers(out)
        assert not list(out.glob("unfinished/*/*"))
        assert project.run("--out", out, program="plots.tables").code == 0
    print({kind: faults.count(kind) for kind in kinds})
