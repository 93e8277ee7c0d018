"""Whatever is killed, damaged or started twice: the same command ends with the files of an undisturbed run."""

import hashlib
import io
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.core.types import State
from inspo_benchmark.learning.train import Checkpoint
from inspo_benchmark.running.planning import plan
from support.project import Project, leftovers, project_in, results, trained, until

if not Path("/proc/self/stat").exists():
    pytest.skip("processes are looked up in /proc", allow_module_level=True)

# bc is traced and its updates are fast. inspo has two stages and its updates are slow.
SMALL = ["--env", "bridge-optimal", "--seeds", "2", "--set", "hidden_dim=8", "batch_size=8"]
BC, INSPO = ["--algo", "bc", *SMALL, "num_updates=404"], ["--algo", "inspo", *SMALL, "num_updates=40"]


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return project_in(tmp_path_factory.getbasetemp())


def checkpoints(out: Path) -> set[tuple[str, int]]:
    """The checkpoints and when they were written."""
    found = set()
    for path in out.glob("runs/*/.*.checkpoint"):
        if ".part" not in path.name:
            try:
                found.add((path.name, path.stat().st_mtime_ns))
            except FileNotFoundError:  # the run has just ended
                continue
    return found


@pytest.fixture(scope="module")
def undisturbed(project) -> dict[str, bytes]:
    """The results of undisturbed runs."""
    out = project.fresh()
    for command in (BC, INSPO):
        ended = project.run(*command, "--out", out)
        assert ended.code == 0, ended
    return results(out)


def of(results: dict[str, bytes], algo: str) -> dict[str, bytes]:
    return {name: content for name, content in results.items() if name.startswith(f"runs/{algo}/")}


@pytest.mark.parametrize("command", [BC, INSPO], ids=["bc", "inspo"])
def test_a_run_that_is_killed_three_times_ends_like_an_undisturbed_one(project, start, undisturbed, command):
    """Before the first checkpoint, soon after one, and later with a worker that outlives its parent. Checkpoints are written between two
    evaluations, while losses are being summed."""
    out, expected = project.fresh(), of(undisturbed, command[1])
    running = start(*command, "--out", out)
    running.until(lambda: list(out.glob("runs/*/.*.lock")))
    running.signal(signal.SIGKILL)
    assert running.ended().code == -signal.SIGKILL

    running = start(*command, "--out", out)
    running.until(lambda: checkpoints(out))
    running.signal(signal.SIGKILL)
    assert running.ended().code == -signal.SIGKILL

    before = checkpoints(out)
    running = start(*command, "--out", out)
    running.until(lambda: checkpoints(out) - before)
    os.kill(running.pid, signal.SIGKILL)
    assert running.ended().err == ""

    # Partial files, which a kill leaves only at moments too short to be hit here, are ignored and deleted.
    assert not results(out)
    (name,) = expected
    folder, stem = (out / name).parent, Path(name).stem
    for path in (folder / f".{stem}.abc.part.csv", folder / f".{stem}.abc.part.json", folder / f"..{stem}.abc.part.checkpoint"):
        path.write_text("half of")
    assert "1 to run" in project.run(*command, "--out", out, "--dry-run").out

    last = start(*command, "--out", out).ended()
    assert (last.code, last.err.count("\n")) == (0, 1), last
    assert results(out) == expected
    assert not leftovers(out)
    until(lambda: not running.group())  # the worker whose parent was killed
    assert running.files[1].read_text() == ""


def test_a_worker_that_dies_affects_its_own_experiment_only(start, project):
    out = project.fresh()
    command = [
        "--algo",
        "bc",
        "--env",
        "bridge-optimal",
        "xor-ab",
        "--seeds",
        "2",
        "--set",
        "num_updates=404",
        "batch_size=8",
        "--out",
        out,
    ]
    running = start(*command, "--retries", 0)
    running.until(lambda: checkpoints(out))
    (worker,) = running.workers()
    os.kill(worker, signal.SIGKILL)
    ended = running.ended()
    assert ended.code == 1
    lines = ended.err.splitlines()
    assert [line for line in lines if line.startswith("FAILED bc on bridge-optimal") and "SIGKILL" in line]
    assert [line for line in lines if line.startswith("done   2/2 bc on xor-ab, seeds 0-1, batch_size=8, num_updates=404: return ")]
    assert "1 experiment failed; to retry, run the same command with --retry-failed" in lines
    assert [name.partition("-")[0] for name in results(out)] == ["runs/bc/xor"]

    assert start(*command, "--retry-failed").ended().code == 0
    assert trained(out) == ["bc bridge-optimal 0 1"] * 2 + ["bc xor-ab 0 1"]
    assert len(results(out)) == 2


def test_two_sweeps_at_once_share_the_work(start, project):
    out = project.fresh()
    command = [
        "--algo",
        "bc",
        "--env",
        "bridge-optimal",
        "xor-ab",
        "--seeds",
        "2",
        "--set",
        "num_updates=404",
        "batch_size=8",
        "--out",
        out,
    ]
    both = [start(*command) for _ in range(2)]
    for ended in [running.ended() for running in both]:
        assert ended.code == 0, ended
        assert "2 to run" in ended.out, "they did not meet"
        assert len([line for line in ended.err.splitlines() if line.startswith("done")]) == 2
    assert trained(out) == ["bc bridge-optimal 0 1", "bc xor-ab 0 1"]
    assert not leftovers(out)
    read = project.run("--out", out, program="plots.tables")
    assert read.code == 0, read


def test_an_experiment_that_another_process_runs_is_started_once_it_is_free(start, project):
    """The log is the other process's too: waiting leaves no lines in it."""
    out = project.fresh()
    ALGORITHMS.discover(), TASKS.discover()
    (experiment,) = plan(["bc"], ["xor-ab"], (0,), ["num_updates=40"], out)
    experiment.csv_path.parent.mkdir(parents=True)
    with experiment.lock:
        waiting = start("--algo", "bc", "--env", "xor-ab", "--seeds", "1", "--set", "num_updates=40", "--out", out)
        waiting.until(lambda: experiment.log_path.exists() and "skipped" in experiment.log_path.read_text())
        time.sleep(4)
        assert experiment.log_path.read_text().count("skipped") == 1
    assert waiting.ended().code == 0
    assert trained(out) == ["bc xor-ab 0"]


def imports_torch(pid: int) -> bool:
    """The process has begun its imports."""
    try:
        return "libtorch" in Path(f"/proc/{pid}/maps").read_text()
    except OSError:  # it has just ended
        return False


@pytest.mark.parametrize("moment", ["workers being started", "training"])
def test_ctrl_c_is_one_line(start, project, moment):
    out = project.fresh()
    running = start(*INSPO, "--out", out)
    if moment == "training":
        running.until(lambda: checkpoints(out))
    else:
        running.until(lambda: [pid for pid in running.group() if pid != running.pid and imports_torch(pid)])
    running.signal(signal.SIGINT)
    ended = running.ended()
    assert ended.code == 130
    assert ended.err == "stopped; to resume from the last checkpoints, run the same command again\n"
    until(lambda: not running.group())
    assert running.files[1].read_text() == ended.err
    assert not results(out)


# --- damaged checkpoints


class Bomb:
    """Creates a file if a careless reader unpickles it."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def sealed(content: object) -> bytes:
    """A checkpoint with a valid checksum that holds something else."""
    image = io.BytesIO()
    torch.save(content, image)
    return hashlib.sha256(image.getvalue()).digest() + image.getvalue()


@pytest.fixture
def saved() -> Checkpoint:
    tree = {"pi": torch.arange(2000.0).reshape(2, 1000)}
    state = State(tree, tree, {"pi": ()}, torch.tensor([7, 7]), {})
    return Checkpoint(state, [(0, 0, "return", 0.1)], {"loss": (torch.ones(2, dtype=torch.float64), 3)}, 7, 12.5)


def test_a_checkpoint_is_restored(saved, tmp_path, capsys):
    saved.save(tmp_path / "x")
    empty = Checkpoint(saved.state._replace(params={"pi": torch.zeros(2, 1000)}), [], {}, 0)
    back = empty.load(tmp_path / "x", "cpu")
    assert torch.equal(back.state.params["pi"], saved.state.params["pi"])
    assert torch.equal(back.losses["loss"][0], torch.ones(2, dtype=torch.float64))
    assert (back.rows, back.losses["loss"][1], back.calls, back.seconds) == (saved.rows, 3, 7, 12.5)
    assert capsys.readouterr().out == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_restored_losses_stay_on_the_cpu(saved, tmp_path):
    saved.save(tmp_path / "x")
    back = saved.load(tmp_path / "x", "cuda")
    assert back.state.params["pi"].is_cuda
    assert not back.losses["loss"][0].is_cuda


DAMAGES = {
    "empty": lambda good, bomb: b"",
    "cut at the start": lambda good, bomb: good[:20],
    "cut in the middle": lambda good, bomb: good[: len(good) // 2],
    "cut at the end": lambda good, bomb: good[:-1],
    "garbage": lambda good, bomb: bytes(range(256)) * 40,
    "one bit of the numbers": lambda good, bomb: good[: len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1 :],
    "a bomb": lambda good, bomb: sealed(bomb)[32:],
    "a sealed bomb": lambda good, bomb: sealed(bomb),
    "something else": lambda good, bomb: sealed({"weights": torch.zeros(3)}),
    "nothing": lambda good, bomb: sealed([]),
    "too little": lambda good, bomb: sealed([[torch.zeros(2)], [], {}, 0, 0.0, ""]),
    "other shapes": lambda good, bomb: sealed([[torch.zeros(2, 999), torch.zeros(2, 1000), torch.tensor([7, 7])], [], {}, 0, 0.0, ""]),
    "a part missing": lambda good, bomb: sealed([[torch.zeros(2, 1000), torch.zeros(2, 1000), torch.tensor([7, 7])], []]),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_checkpoint_is_not_used(saved, tmp_path, capsys, what):
    path, trace = tmp_path / "x", tmp_path / "exploded"
    saved.save(path)
    path.write_bytes(DAMAGES[what](path.read_bytes(), Bomb(trace)))
    assert saved.load(path, "cpu") is saved
    said = capsys.readouterr().out
    assert said.startswith(f"warning: {path} cannot be used (")
    assert ("made by other code" in said) == (what in ("too little", "other shapes"))
    assert not trace.exists()


def test_a_run_with_a_damaged_checkpoint_starts_from_the_beginning(start, project, undisturbed):
    out, expected = project.fresh(), of(undisturbed, "inspo")
    csv = out / next(iter(expected))
    csv.parent.mkdir(parents=True)
    csv.with_name(f".{csv.stem}.checkpoint").write_bytes(sealed(Bomb(out / "exploded")))
    ended = start(*INSPO, "--out", out).ended()
    assert ended.code == 0, ended
    (log,) = out.glob("logs/inspo/*.log")
    assert len([line for line in log.read_text().splitlines() if line.startswith("warning: ") and "starts from the beginning" in line]) == 1
    assert results(out) == expected
    assert not (out / "exploded").exists()
    assert not leftovers(out)
