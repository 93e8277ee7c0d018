"""Whatever happens to workers, main processes, disks and clocks: the rows are the same in the end, and every failure is reported."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.learning.train import Stopped
from inspo_benchmark.running.execute import execute
from inspo_benchmark.running.planning import plan
from support.faults import CLOCK, FAULTY
from support.project import MAX_WAIT, Project, environment, leftovers, processes, results, trained, until

if not Path("/proc/self/stat").exists():
    pytest.skip("processes are looked up in /proc", allow_module_level=True)

SMALL = ["--env", "xor-ab", "--seeds", "2", "--set", "num_updates=40", "hidden_dim=8", "batch_size=8"]
CRASHES = ["leaks", "raises", "exits", "dies", "babbles"]
LIMITS = ["--workers", "3", "--memory", "2G"]
ROOTED = os.geteuid() == 0 and shutil.which("mount") is not None


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("faults"), {"algorithms/faulty.py": FAULTY, "algorithms/clock.py": CLOCK})


@pytest.fixture
def arm(project):
    """A function that makes methods fail until the test ends."""
    folder = project.root / "armed"

    def set_(names, how=""):
        folder.mkdir(exist_ok=True)
        for name in names:
            (folder / name).write_text(how)

    yield set_
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def undisturbed(project) -> bytes:
    """The result of all these methods, except for their names."""
    out = project.fresh()
    ended = project.run("--algo", "bc", *SMALL, "--out", out)
    assert ended.code == 0, ended
    (rows,) = results(out).values()
    return rows


def groups(pids: list[int]) -> set[int]:
    """The living processes of the groups that these processes lead."""
    return {pid for pid, (state, _, group) in processes().items() if group in pids and state != "Z"}


def ignores(pid: int, number: int) -> bool:
    (mask,) = [line.split()[1] for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn:")]
    return bool(int(mask, 16) >> (number - 1) & 1)


def rows_of(out: Path) -> dict[str, bytes]:
    """Method -> its rows, with bc as the method's name."""
    return {name.split("/")[1]: rows.replace(name.split("/")[1].encode(), b"bc") for name, rows in results(out).items()}


def test_experiments_that_crash_once_are_retried(project, start, arm, undisturbed):
    """One uses too much memory, one raises, one exits, one dies, one sends garbage to the main process, one prints garbage; on two devices,
    with a clock that jumps by days."""
    out = project.fresh()
    arm([*CRASHES, "prints"])
    running = start("--algo", *CRASHES, "prints", *SMALL, *LIMITS, "--out", out, "--device", "cpu", "cpu:0")
    ended = running.ended()
    assert ended.code == 0, ended
    retries = {line.split()[1]: line for line in ended.err.splitlines() if line.startswith("retry")}
    words = ["GiB of memory", "ValueError: bad luck (faulty.py, line ", "exit code 3", "SIGSEGV", "invalid message"]
    assert retries.keys() == set(CRASHES)
    assert all(word in retries[name] for name, word in zip(CRASHES, words)), retries
    assert rows_of(out) == dict.fromkeys([*CRASHES, "prints"], undisturbed)
    assert not leftovers(out)
    assert not list(out.glob("unfinished/*/*"))
    logs = {path.parent.name: path.read_bytes() for path in out.glob("logs/*/*.log")}
    assert b"Traceback" in logs["raises"]
    assert b"bad\nluck" in logs["raises"]
    assert len(logs["prints"]) > 200_000
    assert {log.split(b"\n")[0].split()[-1] for log in logs.values()} == {b"cpu", b"cpu:0"}
    for path in out.glob("runs/*/*.json"):
        assert 0 < json.loads(path.read_text())["wall_seconds"] < 86400


def test_an_experiment_that_hangs_is_retried(project, start, arm, undisturbed):
    """After an hour without progress. Its child process is killed as well."""
    out = project.fresh()
    arm(["hangs"])
    running = start("--algo", "hangs", *SMALL, "--timeout", "60", "--out", out)
    running.until(lambda: len(groups(running.workers())) == 2)  # the worker and its child
    hung = running.workers()
    arm(["hours_later"])
    ended = running.ended()
    assert not groups(hung)
    assert ended.code == 0, ended
    (retry,) = [line for line in ended.err.splitlines() if line.startswith("retry")]
    assert "no progress for 60 min" in retry
    assert rows_of(out) == {"hangs": undisturbed}
    assert not leftovers(out)


def test_a_mistake_in_a_method_is_not_retried_but_runs_again_with_the_same_command(project, arm, undisturbed):
    out = project.fresh()
    command = ["--algo", "errs", *SMALL, "--out", out]
    arm(["errs"])
    ended = project.run(*command)
    assert ended.code == 1
    lines = ended.err.splitlines()
    assert not [line for line in lines if line.startswith("retry")]
    (line,) = [line for line in lines if line.startswith("FAILED errs on ")]
    assert "TypeError: unsupported operand" in line
    assert "(faulty.py, line " in line
    assert project.run(*command).code == 0
    assert rows_of(out) == {"errs": undisturbed}


def test_experiments_that_always_crash_fail_and_are_skipped_until_retry_failed(project, arm, undisturbed):
    out, failing = project.fresh(), ["raises", "exits", "babbles"]
    command = ["--algo", "bc", *failing, *SMALL, *LIMITS, "--retries", "1", "--out", out]
    arm(failing, "always")
    ended = project.run(*command)
    assert ended.code == 1
    assert len([line for line in ended.err.splitlines() if line.startswith("retry")]) == 3
    (line,) = [line for line in ended.err.splitlines() if line.startswith("FAILED raises") and "luck" in line]
    assert "2 attempts" in line
    assert f"logs{os.sep}raises" in line
    assert rows_of(out) == {"bc": undisturbed}

    arm([])
    shutil.rmtree(project.root / "armed")
    ended = project.run(*command)
    assert ended.code == 1
    assert "3 failed earlier, 0 to run" in ended.out
    assert len([line for line in ended.err.splitlines() if line.startswith("failed earlier: ")]) == 3
    shown = project.run("--status", "--out", out)
    assert (shown.code, shown.err) == (0, "")
    assert "1 finished (2 seeds), 0 running, 0 interrupted, 3 failed, 0 stale" in shown.out
    assert project.run(*command, "--retry-failed").code == 0
    assert rows_of(out) == dict.fromkeys(["bc", *failing], undisturbed)
    assert "4 finished (8 seeds), 0 running, 0 interrupted, 0 failed" in project.run("--status", "--out", out).out


def test_the_server_that_workers_are_forked_from_is_killed(project, start, arm, undisturbed):
    """Running experiments continue, later ones are forked from a new server."""
    out = project.fresh()
    arm(["slows"], "always")
    running = start("--algo", "slows", "bc", *SMALL, "--workers", "1", "--out", out)
    running.until(lambda: list(out.glob("logs/slows/*.log")))  # it trains for some seconds
    (server,) = {processes()[pid][1] for pid in running.workers()}
    os.kill(server, signal.SIGKILL)
    ended = running.ended()
    assert ended.code == 0, ended
    assert "Traceback" not in ended.err
    assert rows_of(out) == dict.fromkeys(["slows", "bc"], undisturbed)


def servers(running) -> list[int]:
    """The fork servers of a command, those included that still import."""
    found = []
    for pid, (state, parent, _) in processes().items():
        with suppress(OSError):
            if parent == running.pid and state != "Z" and b"forkserver" in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


def test_the_server_is_killed_while_it_imports(project, start, undisturbed):
    """Another is started; if all are killed, that is said in one line."""
    out = project.fresh()
    running = start("--algo", "bc", *SMALL, "--out", out)
    running.until(lambda: servers(running))
    os.kill(servers(running)[0], signal.SIGKILL)
    ended = running.ended()
    assert (ended.code, "Traceback" in ended.err) == (0, False), ended
    assert rows_of(out) == {"bc": undisturbed}

    running, killed = start("--algo", "bc", *SMALL, "--out", project.fresh()), 0
    while not running.over():
        for pid in servers(running):
            os.kill(pid, signal.SIGKILL)
            killed += 1
        time.sleep(0.01)
    ended = running.ended()
    assert (ended.code, ended.err.count("\n")) == (2, 1), ended
    assert "the process that starts workers was killed 5 times before it started one" in ended.err
    assert killed >= 5


def test_ctrl_c_while_the_server_imports(project, start):
    """Nothing has begun, so nothing is waited for."""
    running = start("--algo", "bc", *SMALL, "--out", project.fresh())
    running.until(lambda: servers(running))
    running.signal(signal.SIGINT)
    ended = running.ended()
    assert (ended.code, "Traceback" in ended.err) == (130, False), ended


def test_ctrl_c_while_a_command_imports(project):
    """One of the imports is replaced by a module that waits."""
    folder, variables = project.fresh(), environment(project.root)
    (folder / "filelock.py").write_text(f"open({str(folder / 'reached')!r}, 'w')\nimport time\ntime.sleep({MAX_WAIT})")
    command = subprocess.Popen(
        [sys.executable, "run_benchmark.py", "--list"],
        cwd=project.root,
        env=variables | {"PYTHONPATH": os.pathsep.join([str(folder), variables["PYTHONPATH"]])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until((folder / "reached").exists)
    command.send_signal(signal.SIGINT)
    assert command.communicate()[1] == ""
    assert command.returncode in (-signal.SIGINT, 130)


STREAMS = {
    "stdout closed": (">&-", 0, 0),
    "stdin and stderr closed": ("<&- 2>&-", 0, 0),
    "all closed": ("<&- >&- 2>&-", 0, 0),
    "12 files": ("", 2, 1),
    "a long TMPDIR": ("", 0, 0),
}


@pytest.mark.parametrize("what", STREAMS)
def test_a_command_in_odd_surroundings(project, undisturbed, what):
    """It works, or says in one line why not."""
    redirections, code, errors = STREAMS[what]
    out, folder = project.fresh(), project.fresh()
    long = folder / ("t" * 90)
    long.mkdir()
    before = {"12 files": "ulimit -n 12; ", "a long TMPDIR": f"export TMPDIR={shlex.quote(str(long))}; "}.get(what, "")
    command = shlex.join([sys.executable, "run_benchmark.py", "--algo", "bc", *SMALL, "--out", str(out)])
    ended = subprocess.run(
        f"({before}{command} {redirections})", shell=True, cwd=project.root, env=environment(project.root), capture_output=True, text=True
    )
    assert ended.returncode == code, ended
    assert "Traceback" not in ended.stdout + ended.stderr
    assert ended.stderr.count("error: ") == errors
    assert rows_of(out) == ({} if code else {"bc": undisturbed})


def test_a_stuck_worker_and_its_child_die_with_the_main_process(project, start, arm, undisturbed):
    """And release the lock: the next sweep does not wait for them."""
    out = project.fresh()
    arm(["hangs"])
    command = ["--algo", "hangs", *SMALL, "--out", out]
    running = start(*command)
    running.until(lambda: len(groups(running.workers())) == 2)
    workers = running.workers()
    shown = project.run("--status", "--out", out).out
    assert "running:\n  hangs on xor-ab, seeds 0-1" in shown
    assert "update 0 of 40: return" in shown
    os.kill(running.pid, signal.SIGKILL)
    assert running.ended().code == -signal.SIGKILL
    until(lambda: not groups(workers))
    shown = project.run("--status", "--out", out).out
    assert "interrupted (the same command resumes them):\n  hangs on xor-ab, seeds 0-1" in shown
    assert project.run(*command).code == 0
    assert rows_of(out) == {"hangs": undisturbed}


def test_a_worker_that_ignores_ctrl_c_is_killed(project, start, arm):
    out = project.fresh()
    arm(["hangs"])
    running = start("--algo", "hangs", *SMALL, "--out", out)
    running.until(lambda: len(groups(running.workers())) == 2)
    workers = running.workers()
    running.signal(signal.SIGINT)
    running.until(lambda: ignores(running.pid, signal.SIGTERM))  # it waits for its workers
    running.signal(signal.SIGINT)  # a second Ctrl-C does not wait for checkpoints
    assert running.ended().code == 130
    until(lambda: not groups(workers))


@pytest.mark.parametrize("end", ["time", "SIGTERM", "failure"])
def test_a_sweep_that_ends_early_is_resumed(project, start, arm, undisturbed, end):
    out = project.fresh()
    arm(["slows", "raises"], "always")
    command = ["--algo", "slows", *SMALL, "--out", out]
    if end == "time":
        ended = start(*command, "--max-hours", "0.001").ended()
        assert ended.code == 3
        assert "1 experiment unfinished; to resume, run the same command again" in ended.err
    elif end == "SIGTERM":
        running = start(*command)
        running.until(lambda: list(out.glob("runs/*/.*.checkpoint")))
        os.kill(running.pid, signal.SIGTERM)
        assert running.ended().code == 130
    else:
        command[1:2] = ["slows", "raises"]
        ended = start(*command, "--workers", "2", "--retries", "0", "--fail-fast").ended()
        assert ended.code == 1
        assert "1 experiment unfinished" in ended.err
    assert not results(out)
    for log in out.glob("logs/slows/*.log"):  # none if there was no time to start
        assert log.read_text().splitlines()[-1].endswith("stopped; checkpoint saved")
    shutil.rmtree(project.root / "armed")
    assert project.run(*command, "--retry-failed").code == 0
    assert rows_of(out)["slows"] == undisturbed
    assert not leftovers(out)


def test_one_of_two_sweeps_is_killed(project, start, arm, undisturbed):
    out = project.fresh()
    arm(["slows"], "always")
    command = ["--algo", "slows", "bc", *SMALL, "--out", out]
    first = start(*command)
    first.until(lambda: list(out.glob("runs/*/.*.checkpoint")))
    second = start(*command)
    second.until(lambda: len(results(out)) == 1)  # all but the one that the first sweep runs
    os.kill(first.pid, signal.SIGKILL)
    assert second.ended().code == 0
    assert rows_of(out) == dict.fromkeys(["slows", "bc"], undisturbed)
    assert not leftovers(out)


def test_the_files_of_locks_are_deleted_under_three_sweeps(project, start, arm):
    """Several of them then train the same seeds, but a seed ends up in one CSV."""
    out = project.fresh()
    arm(["slows"], "0.02")  # per update
    sweeps = [start("--algo", "slows", *SMALL, "--seeds", seeds, "--out", out) for seeds in ("0-2", "1-3", "0,3")]
    deleted = 0
    while deleted < 9 and not all(running.over() for running in sweeps):
        for path in out.glob("runs/*/.*.lock"):
            path.unlink(missing_ok=True)
            deleted += 1
        time.sleep(0.05)
    for running in sweeps:
        ended = running.ended()
        assert (ended.code in (0, 1), "Traceback" in ended.err) == (True, False), ended  # 1: one deleted a file that another was writing
    assert project.run("--algo", "slows", *SMALL, "--seeds", "0-3", "--out", out).code == 0
    rows = [line.split(",")[2:5] for rows in results(out).values() for line in rows.decode().splitlines()[1:]]  # seed, step, metric
    assert {seed for seed, _, _ in rows} == {"0", "1", "2", "3"}
    assert len(set(map(tuple, rows))) == len(rows)
    assert len(trained(out)) > len(results(out))  # some were trained in vain


@pytest.mark.skipif(not ROOTED, reason="needs root")
def test_a_disk_that_fills_up_during_training(project, start, arm, undisturbed):
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
        assert "1 experiment failed; to retry, run the same command again\n" in ended.err
        assert not results(out)
        (out / "filler").unlink()
        shutil.rmtree(project.root / "armed")
        assert project.run(*command).code == 0
        assert rows_of(out) == {"slows": undisturbed}
        assert not leftovers(out)
    finally:
        subprocess.run(["umount", "-l", out], check=True)


def test_a_stopped_training_saves_a_checkpoint(tmp_path):
    ALGORITHMS.discover(), TASKS.discover()
    for name in ("undisturbed", "stopped"):
        (experiment,) = plan(["bc"], ["xor-ab"], (0,), ["num_updates=30", "hidden_dim=8", "batch_size=8"], tmp_path / name)
        if name == "stopped":

            def progress(update, score):
                if update >= 15:
                    raise Stopped

            with pytest.raises(Stopped):
                execute(experiment, progress=progress)
            assert experiment.checkpoint_path.exists()
            assert experiment.record_path.exists()
        updates = []
        assert execute(experiment, progress=lambda update, score, updates=updates: updates.append(update))
    assert min(updates) >= 15
    undisturbed, stopped = (next((tmp_path / name).glob("runs/bc/*.csv")).read_bytes() for name in ("undisturbed", "stopped"))
    assert undisturbed == stopped
    assert not experiment.checkpoint_path.exists()
    assert not experiment.record_path.exists()


# --- random faults

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
    """Workers, main processes and fork servers are killed, stopped and interrupted, checkpoints are damaged, more sweeps are started. At
    every moment, every file with the name of a result is the complete result."""
    reference, began = project.fresh(), time.monotonic()
    assert project.run(*CHAOS, "--workers", "2", "--out", reference).code == 0
    minutes = max(0.1, (time.monotonic() - began) / 120)  # a worker is stuck if it needs for one experiment half of what ten of them took
    expected, rng, faults = results(reference), random.Random(0), []
    assert len(expected) == 10

    def victims(kind: str) -> list[int]:
        known = processes()
        servers = [pid for running in sweeps for pid, (_, parent, _) in known.items() if parent == running.pid]
        workers = [pid for pid, (_, parent, _) in known.items() if parent in servers]
        return {"worker": workers, "server": servers, "main": [running.pid for running in sweeps]}[kind]

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
        "main process killed": lambda: hit(signal.SIGKILL, "main"),
        "main process and worker killed": lambda: hit(signal.SIGKILL, "worker", "main"),
        "main process interrupted": lambda: hit(signal.SIGINT, "main"),
        "server killed": lambda: hit(signal.SIGKILL, "server"),
        "checkpoint damaged": damage,
    }
    while len(faults) < FAULTS:
        out = project.fresh()
        command = [*CHAOS, "--workers", "2", "--retries", "3", "--retry-failed", "--out", out]
        disturbed = [*command, "--timeout", minutes]
        sweeps = [start(*disturbed)]
        while len(faults) < FAULTS and not (sweeps[0].over() and sweeps[0].code == 0):
            time.sleep(rng.uniform(0, 0.6))
            kind = rng.choice(list(kinds))
            importing = not victims("worker")  # then only the server is killed, but not so often that nothing else happens
            possible = not importing or (kind == "server killed" and faults.count(kind) < FAULTS // 4)
            if possible and kinds[kind]():
                faults.append(kind)
            sweeps = [running for running in sweeps if not running.over()]
            while not sweeps or (len(sweeps) == 1 and rng.random() < 0.05):
                sweeps.append(start(*disturbed))
            found = results(out)
            assert found.items() <= expected.items()
        for running in sweeps:
            running.ended()
        ended = project.run(*command)
        assert ended.code == 0, ended
        assert results(out) == expected
        assert project.run("--clean", "--out", out).code == 0
        assert not leftovers(out)
        assert not list(out.glob("unfinished/*/*"))
        assert project.run("--out", out, program="plots.tables").code == 0
    print({kind: faults.count(kind) for kind in kinds})
