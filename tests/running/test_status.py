"""What the results folder is said to hold, how it is cleaned, and how long that takes; how long cells are said to take."""

import dataclasses
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.running.eta import Eta, human_duration
from inspo_benchmark.running.experiment import Experiment, plan
from inspo_benchmark.running.pool import result_summary
from inspo_benchmark.running.progress import RunningLine, SweepState
from inspo_benchmark.running.results import finished_seeds
from inspo_benchmark.running.settings import settings
from inspo_benchmark.running.status import clean, scan
from run_benchmark import main
from support.project import ROOT, results

MANY = 10_000


@pytest.fixture(scope="module", autouse=True)
def registries():
    ALGORITHMS.discover(), TASKS.discover()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with one real run."""
    out = tmp_path_factory.mktemp("made")
    (cell,) = plan(["bc"], ["xor-ab"], (0, 1), ["num_updates=4", "hidden_dim=8", "batch_size=8"], out)
    assert cell.run()
    return out


def copies(made: Path, out: Path, cells: list[Experiment]) -> None:
    """Finished files of these cells: the one real run under their names."""
    (path,) = made.glob("runs/*/*.json")
    about, rows = json.loads(path.read_text()), path.with_suffix(".csv").read_bytes()
    for cell in cells:
        cell.path.parent.mkdir(parents=True, exist_ok=True)
        mine = cell.about | {"data": about["data"] | {"sha256": cell.data}}
        cell.path.with_suffix(".json").write_text(json.dumps(about | mine, indent=2))
        cell.path.write_bytes(rows.replace(b"bc,xor-ab,", f"{cell.algo},{cell.task},".encode()))


CHANGES = {
    "settings": (lambda about: about["config"].update(batch_size=64), "settings changed: batch_size is 8, was 64"),
    "a new setting": (lambda about: about["config"].pop("lr"), "settings changed: lr is 0.001, was None"),
    "an old override": (lambda about: about["overrides"].update(gone=1), "its settings do not exist any more"),
    "data": (lambda about: about["data"].update(sha256="0" * 64), "its dataset changed"),
    "evaluation": (lambda about: about["evaluation"].update(eval_episodes=3), "the protocol of evaluation changed"),
    "method": (lambda about: about.update(algo="gone"), "there is no gone any more"),
    "task": (lambda about: about.update(task="gone-random"), "there is no gone-random any more"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_would_be_made_otherwise_now_is_stale_and_moved_away(made, tmp_path, what, capsys):
    cells = plan(["bc", "omiga"], ["xor-ab"], (0, 1), ["num_updates=4", "hidden_dim=8", "batch_size=8"], tmp_path)
    copies(made, tmp_path, cells)
    assert (len(scan(tmp_path).finished), scan(tmp_path).stale) == (2, [])
    change, why = CHANGES[what]
    path = cells[0].path.with_suffix(".json")
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))
    before = results(tmp_path)
    found = scan(tmp_path)
    assert (len(found.finished), [entry.said for entry in found.stale]) == (1, [why])
    assert main(["--status", "--out", str(tmp_path)]) == 0
    assert why in capsys.readouterr().out
    assert main(["--clean", "--dry-run", "--out", str(tmp_path)]) == 0
    assert results(tmp_path) == before
    assert main(["--clean", "--out", str(tmp_path)]) == 0
    assert "2 files moved or deleted" in capsys.readouterr().out
    assert len(results(tmp_path)) == 1
    assert {path.name for path in tmp_path.glob("stale/bc/*")} == {cells[0].path.name, path.name}
    assert not list(clean(tmp_path))


def test_what_is_of_use_is_not_cleaned(tmp_path):
    """A checkpoint with its note is; one whose settings changed, or without a note, is not; half written files are not, but for those of a
    process that is at it."""
    mine, other, running = plan(["bc", "omiga", "inspo"], ["xor-ab"], (0,), ["num_updates=4"], tmp_path)
    for cell in (mine, other, running):
        cell._note(reason="", again=True)
        cell.path.parent.mkdir(parents=True, exist_ok=True)
        cell.checkpoint.write_text("a checkpoint")
        cell.path.with_name(f".{cell.path.stem}.abc.part.csv").write_text("half of")
    about = json.loads(other.note.read_text())
    about["config"]["batch_size"] = 3
    other.note.write_text(json.dumps(about))
    orphan = mine.path.with_name(".xor-ab-0123456789ab.checkpoint")
    orphan.write_text("of nobody")
    with running.lock:
        found = scan(tmp_path)
        assert [len(x) for x in found] == [0, 1, 1, 0, 1]
        assert str(running) in found.text(tmp_path)
        gone = {path for path, to in clean(tmp_path) if to is None}
    parts = {cell.path.with_name(f".{cell.path.stem}.abc.part.csv") for cell in (mine, other)}
    assert gone == {other.note, other.checkpoint, orphan} | parts


@pytest.mark.slow
def test_ten_thousand_cells_are_listed_and_resumed_in_seconds(made, tmp_path):
    """Seconds of the processor, from the start of Python on."""
    algos, tasks = list(ALGORITHMS), ["xor-ab", "xor-ab_ba", "mne-balanced", "bridge-mix"]
    pairs = len(algos) * len(tasks)
    data, cells = {task: plan(["bc"], [task], (0,), [], tmp_path)[0].data for task in tasks}, []
    for k in range(-(-MANY // pairs)):
        for algo in algos:
            for task in tasks:
                cells.append(
                    Experiment(algo, task, settings(algo, task, {"lr": 1e-3 + k * 1e-6} if k else {}), (0, 1), data[task], tmp_path)
                )
    cells = cells[:MANY]
    copies(made, tmp_path, cells)
    assert len(results(tmp_path)) == MANY
    for argv in (["--status"], ["--env", *tasks, "--seeds", "2"], ["--env", *tasks, "--seeds", "3", "--dry-run"]):
        before = used()
        ended = subprocess.run(
            [sys.executable, "run_benchmark.py", *argv, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        seconds = used() - before
        assert {"--status": f"{MANY} finished", "--env": f"{pairs} cells asked for"}[argv[0]] in ended.stdout
        print(f"{seconds:.2f} s: {' '.join(argv)}")
        assert seconds < 5, argv
    before = used(resource.RUSAGE_SELF)
    done = finished_seeds(tmp_path)
    assert not [cell for cell in cells if cell.missing(done)]
    assert used(resource.RUSAGE_SELF) - before < 5


def used(who: int = resource.RUSAGE_CHILDREN) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


# --- how long


def cell(algo: str, task: str, steps: int = 100) -> Experiment:
    return Experiment(algo, task, dataclasses.replace(settings(algo, task, {}), num_updates=steps), (0,), "", Path())


def test_pace():
    pace = Eta({("bc", "xor-ab"): 0.1, ("bc", "xor-all"): 0.3})
    assert pace.seconds(cell("bc", "xor-ab")) == pytest.approx(10)
    assert pace.seconds(cell("bc", "bridge-mix")) == pytest.approx(30)  # the method's slowest
    assert pace.seconds(cell("inspo", "xor-ab")) is None
    assert pace.left([cell("inspo", "xor-ab")], [], 2) is None
    assert pace.left([], [], 2) == 0
    pace.learn(cell("bc", "xor-ab"), 20)  # this machine is half as fast as the one that the rest was measured on
    assert pace.seconds(cell("bc", "xor-ab")) == pytest.approx(20)
    assert pace.seconds(cell("bc", "xor-all")) == pytest.approx(60)
    assert pace.left([cell("bc", "xor-ab")] * 4, [], 2) == pytest.approx(40)
    assert pace.left([cell("bc", "xor-ab")], [], 4) == pytest.approx(20)  # no cell is shared
    assert pace.left([], [(cell("bc", "xor-ab"), 0.5, 30.0)], 2) == pytest.approx(30)  # its own pace counts
    assert pace.left([cell("inspo", "xor-ab")], [(cell("bc", "xor-ab"), 0.0, 0.0)], 1) == pytest.approx(40)  # unknown: as the others


def test_a_damaged_result_is_one_line_and_no_trouble_for_a_sweep(tmp_path):
    mine = dataclasses.replace(cell("bc", "xor-ab"), out=tmp_path)
    mine.path.parent.mkdir(parents=True)
    mine.path.with_suffix(".json").write_text(json.dumps(mine.about | {"wall_seconds": 20}))
    mine.path.write_text("algo,task,seed,step,metric,value\nbc,xor-ab,0,100,return,1.0\nbc,xor-ab,1,100,return,0.5\n")
    assert mine.result() == (0.75, 20)
    for damage in ("", "a,b\n1,2\n", "metric,step,value\nreturn,100\n", "metric,step,value\nreturn,100,x\n"):
        mine.path.write_text(damage)
        with pytest.raises(UserError, match="is damaged; delete it and the JSON beside it"):
            mine.result()
        assert result_summary(mine, Eta({})) == ""


@pytest.mark.parametrize(("seconds", "text"), [(0, "1 s"), (89, "89 s"), (91, "2 min"), (7200, "2.0 h"), (200_000, "2.3 days")])
def test_spoken(seconds, text):
    assert human_duration(seconds) == text


def test_the_view_says_it_all():
    running = [RunningLine(cell("bc", "xor-ab"), 25, -1.5, 60.0), RunningLine(cell("bc", "xor-all"), 0, None, 5.0)]
    text = SweepState(10, 4, 1, running, 3600.0).text(7200.0)
    assert text.splitlines()[0] == "4 done, 2 running, 1 failed, 3 to do"
    assert all(word in text for word in ("52%", "2.0 h", "2 cells an hour", "about 60 min left", "update 25 of 100, return -1.5, 60 s"))
    assert len(SweepState(99, 0, 0, running * 30, None).text(1.0).splitlines()) == 2 + 16 + 1


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_the_live_view_on_a_terminal(tmp_path):
    """What somebody sees who looks."""
    leader, follower = os.openpty()
    command = [sys.executable, "run_benchmark.py", "--algo", "bc", "--env", "xor-ab", "--set", "num_updates=99", "--out", str(tmp_path)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=follower, env=os.environ | {"COLUMNS": "140", "TERM": "xterm"}
    )
    os.close(follower)
    seen = b""
    while True:
        try:
            seen += os.read(leader, 1000)
        except OSError:
            break
    assert process.wait() == 0
    assert "0 done, 1 running, 0 failed, 0 to do" in seen.decode()
    assert "of 99, return" in seen.decode()
    assert "done   1/1 bc on xor-ab" in seen.decode()
