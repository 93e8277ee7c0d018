"""The status of a results folder, its cleaning and how long that takes; the estimated duration of experiments; the live display."""

import dataclasses
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.learning.train import Stopped
from inspo_benchmark.running import provenance
from inspo_benchmark.running.eta import Attempt, Eta, human_duration
from inspo_benchmark.running.execute import execute
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.planning import plan
from inspo_benchmark.running.pool import Limits, Pool, WorkerHandle, result_summary
from inspo_benchmark.running.progress import SweepState
from inspo_benchmark.running.results import final_return, finished_seeds, read_results, seconds_per_update, write_record
from inspo_benchmark.running.settings import settings
from inspo_benchmark.running.status import Entry, code_changes, files_to_clean, method_files, scan
from run_benchmark import main
from support.project import ROOT, results

MANY = 10_000


@pytest.fixture(scope="module", autouse=True)
def registries():
    ALGORITHMS.discover(), TASKS.discover()


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with one real result."""
    out = tmp_path_factory.mktemp("made")
    (experiment,) = plan(["bc"], ["xor-ab"], (0, 1), ["num_updates=4", "hidden_dim=8", "batch_size=8"], out)
    assert execute(experiment)
    return out


def copies(made: Path, out: Path, experiments: list[Experiment]) -> None:
    """Finished files of these experiments: copies of the one real result."""
    (path,) = made.glob("runs/*/*.json")
    about, rows = json.loads(path.read_text()), path.with_suffix(".csv").read_bytes()
    for experiment in experiments:
        experiment.csv_path.parent.mkdir(parents=True, exist_ok=True)
        own_rows = rows.replace(b"bc,xor-ab,", f"{experiment.algo},{experiment.task},".encode())
        mine = {"data": about["data"] | {"sha256": experiment.data}, "csv_sha256": hashlib.sha256(own_rows).hexdigest()}
        experiment.json_path.write_text(json.dumps(about | experiment.metadata | mine, indent=2))
        experiment.csv_path.write_bytes(own_rows)


CHANGES = {
    "settings": (lambda about: about["config"].update(batch_size=64), "settings changed: batch_size is 8, was 64"),
    "a new setting": (lambda about: about["config"].pop("lr"), "settings changed: lr is 0.001, was None"),
    "an old override": (lambda about: about["overrides"].update(gone=1), "its settings no longer exist"),
    "data": (lambda about: about["data"].update(sha256="0" * 64), "the dataset changed"),
    "evaluation": (lambda about: about["evaluation"].update(eval_episodes=3), "the evaluation schedule changed"),
    "method": (lambda about: about.update(algo="gone"), "the algorithm gone is unknown here; is INSPO_BENCHMARK_MODULES set?"),
    "task": (lambda about: about.update(task="gone-random"), "the task gone-random is unknown here; is INSPO_BENCHMARK_MODULES set?"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_results_of_other_settings_are_stale_and_moved_away(made, tmp_path, what, capsys):
    experiments = plan(["bc", "omiga"], ["xor-ab"], (0, 1), ["num_updates=4", "hidden_dim=8", "batch_size=8"], tmp_path)
    copies(made, tmp_path, experiments)
    assert (len(scan(tmp_path).finished), scan(tmp_path).stale) == (2, [])
    change, why = CHANGES[what]
    path = experiments[0].json_path
    about = json.loads(path.read_text())
    change(about)
    path.write_text(json.dumps(about))
    write_record(dataclasses.replace(experiments[0], seeds=(7,)))
    (record,) = tmp_path.glob("unfinished/*/*.json")
    about = json.loads(record.read_text())
    change(about)
    record.write_text(json.dumps(about))
    before = results(tmp_path)
    found = scan(tmp_path)
    assert (len(found.finished), [entry.detail for entry in found.stale]) == (1, [why, why])
    assert main(["--status", "--out", str(tmp_path)]) == 0
    assert why in capsys.readouterr().out
    assert main(["--clean", "--dry-run", "--out", str(tmp_path)]) == 0
    assert results(tmp_path) == before
    assert main(["--clean", "--out", str(tmp_path)]) == 0
    if "unknown" in why:  # perhaps its module is missing by mistake
        assert "0 files moved or deleted" in capsys.readouterr().out
        assert (results(tmp_path), record.exists()) == (before, True)
        return
    assert "3 files moved or deleted" in capsys.readouterr().out
    assert len(results(tmp_path)) == 1
    assert {path.name for path in tmp_path.glob("stale/bc/*")} == {experiments[0].csv_path.name, path.name}
    assert not list(files_to_clean(tmp_path))


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A small git repository in place of the project's. Runs git in it."""
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    for name in ("algorithms/bc.py", "algorithms/flow_bc.py", "algorithms/macflow.py", "core/env.py", "running/eta.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x = 1\n")

    def git(*words: str) -> str:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=me", "-c", "user.email=me@example.org", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "--message", "first")
    return git


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_changes_of_the_code_that_results_depend_on_are_listed(repository, tmp_path, monkeypatch):
    revision = repository("rev-parse", "HEAD")

    def changes(*algos: str) -> list[str]:
        return code_changes([Entry(tmp_path, {"algo": algo, "code": {"revision": revision}}, "") for algo in algos])

    (tmp_path / "running" / "eta.py").write_text("x = 2\n")
    assert changes("bc", "macflow") == []
    (tmp_path / "algorithms" / "flow_bc.py").write_text("x = 2\n")  # macflow imports it
    assert changes("bc") == []
    title, line = changes("macflow", "macflow")
    assert title == "made by older code (tables do not check this):"
    assert line == f"  2 results from {revision[:10]}; changed since: algorithms/flow_bc.py"
    (tmp_path / "core" / "env.py").write_text("x = 2\n")
    repository("commit", "--all", "--message", "second")
    assert changes("bc")[1].endswith("; changed since: core/env.py")
    assert changes("bc", "macflow")[1].endswith("; changed since: algorithms/flow_bc.py, core/env.py")
    monkeypatch.setitem(ALGORITHMS, "mine", type("Mine", (), {"__module__": "inspo_benchmark.algorithms.new_method"}))
    (tmp_path / "algorithms" / "new_method.py").write_text("x = 1\n")  # git does not know it yet
    assert changes("mine")[1].endswith("; changed since: core/env.py, algorithms/new_method.py")
    for name in "abcd":
        (tmp_path / "core" / f"{name}.py").touch()
    repository("add", ".")
    assert changes("bc")[1].endswith("; changed since: core/a.py, core/b.py, core/c.py, core/d.py and 1 more")
    revision = "0" * 40  # unknown here
    assert changes("bc") == []


def test_the_files_of_a_method_are_those_that_it_uses():
    package = "inspo_benchmark.algorithms."
    for method in ALGORITHMS.values():
        if method.__module__.startswith(package):  # and not of another test
            used = {str(getattr(x, "__module__", "")) for x in vars(sys.modules[method.__module__]).values()}
            files = {f"algorithms/{name.removeprefix(package)}.py" for name in used if name.startswith(package)}
            assert files == method_files(method.__module__.removeprefix(package))


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_the_revision_is_not_that_of_a_surrounding_repository(repository, tmp_path, monkeypatch):
    revision = provenance.revision.__wrapped__
    assert revision() == {"revision": repository("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "core" / "env.py").write_text("x = 2\n")
    assert revision()["dirty"]
    repository("commit", "--all", "--message", "second")
    (tmp_path / "notes.txt").touch()
    assert not revision()["dirty"]
    (tmp_path / "algorithms" / "mine.py").touch()
    assert revision()["dirty"]
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "core")
    assert revision() == {"revision": "", "dirty": False}


def test_short_trials_do_not_count_in_estimates(made):
    """`made` has 4 of 500 updates, most of whose time was the start."""
    (about,) = (about for _, about in read_results(made))
    assert seconds_per_update([about]) == {}
    assert seconds_per_update([about], min_share=0)[("bc", "xor-ab")] == about["wall_seconds"] / 4 / 2
    whole = about | {"config": about["config"] | {"num_updates": 500}, "wall_seconds": 10.0}
    assert seconds_per_update([about, whole]) == {("bc", "xor-ab"): 10 / 500 / 2}


def test_a_preset_makes_another_experiment(tmp_path):
    """Of the same settings: tables do not mix them."""
    (quick,) = plan(["bc"], ["xor-ab"], (0,), [], tmp_path, preset="quick")
    (same,) = plan(["bc"], ["xor-ab"], (0,), [f"num_updates={quick.config.num_updates}"], tmp_path)
    assert quick.config == same.config
    assert quick.group != same.group


def test_useful_files_are_not_cleaned(tmp_path):
    """A checkpoint with its record is useful; one whose settings changed, or without a record, is not. Partial files are useful only while
    their experiment is running."""
    mine, other, running = plan(["bc", "omiga", "inspo"], ["xor-ab"], (0,), ["num_updates=4"], tmp_path)
    for experiment in (mine, other, running):
        write_record(experiment)
        experiment.csv_path.parent.mkdir(parents=True, exist_ok=True)
        experiment.checkpoint_path.write_text("a checkpoint")
        for path in (experiment.csv_path, experiment.record_path):
            part(path).write_text("half of")
    record = json.loads(other.record_path.read_text())
    record["config"]["batch_size"] = 3
    other.record_path.write_text(json.dumps(record))
    orphan = mine.csv_path.with_name(".xor-ab-0123456789ab.checkpoint")
    orphan.write_text("of no experiment")
    with running.lock:
        found = scan(tmp_path)
        assert [len(x) for x in found] == [0, 1, 1, 0, 1]
        assert str(running) in found.text(tmp_path)
        gone = {path for path, target in files_to_clean(tmp_path) if target is None}
    parts = {part(path) for experiment in (mine, other) for path in (experiment.csv_path, experiment.record_path)}
    assert gone == {other.record_path, other.checkpoint_path, orphan} | parts


def test_an_experiment_that_failed_does_not_run(tmp_path):
    """Although other seeds of its group do."""
    failed, running = (plan(["bc"], ["xor-ab"], seeds, [], tmp_path)[0] for seeds in ((0,), (1,)))
    write_record(failed, "bad luck", again=False)
    write_record(running)
    running.csv_path.parent.mkdir(parents=True, exist_ok=True)
    with running.lock:
        found = scan(tmp_path)
    assert [x.metadata["seeds"] for x in found.failed] == [[0]]
    assert [x.metadata["seeds"] for x in found.running] == [[1]]


def part(path: Path) -> Path:
    """A temporary file that becomes `path`."""
    return path.with_name(f".{path.stem}.abc.part{path.suffix}")


def test_progress_is_recorded(tmp_path):
    (experiment,) = plan(["bc"], ["xor-ab"], (0,), ["num_updates=40", "hidden_dim=8", "batch_size=8"], tmp_path)
    seen = []

    def progress(update, score):
        if score is not None:
            seen.append((update, score))
            (entry,) = scan(tmp_path).running
            assert entry.detail == f"update {update} of 40: return {score:.4g}"
            if update == 20:
                write_record(experiment)  # without new progress: keeps the old
                raise Stopped

    with pytest.raises(Stopped):
        execute(experiment, progress=progress)
    assert seen[-1][0] == 20
    (entry,) = scan(tmp_path).interrupted
    assert entry.detail == f"update 20 of 40: return {seen[-1][1]:.4g}"


@pytest.mark.slow
def test_ten_thousand_experiments_are_listed_and_resumed_quickly(made, tmp_path):
    """Measured in processor seconds, as multiples of a command that lists nothing, so that the machine's speed does not count."""
    before = used()
    subprocess.run([sys.executable, "run_benchmark.py", "--list"], cwd=ROOT, capture_output=True, check=True)
    start = used() - before
    algos, tasks = list(ALGORITHMS), ["xor-ab", "xor-ab_ba", "mne-balanced", "bridge-mix"]
    pairs = len(algos) * len(tasks)
    data, experiments = {task: plan(["bc"], [task], (0,), [], tmp_path)[0].data for task in tasks}, []
    for k in range(-(-MANY // pairs)):
        for algo in algos:
            for task in tasks:
                experiments.append(
                    Experiment(algo, task, settings(algo, task, {"lr": 1e-3 + k * 1e-6} if k else {}), (0, 1), data[task], tmp_path)
                )
    experiments = experiments[:MANY]
    copies(made, tmp_path, experiments)
    assert len(results(tmp_path)) == MANY
    for argv in (["--status"], ["--env", *tasks, "--seeds", "2"], ["--env", *tasks, "--seeds", "3", "--dry-run"]):
        before = used()
        ended = subprocess.run(
            [sys.executable, "run_benchmark.py", *argv, "--out", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=True
        )
        seconds = used() - before
        assert {"--status": f"{MANY} finished", "--env": f"{pairs} experiments requested"}[argv[0]] in ended.stdout
        print(f"{seconds:.2f} s: {' '.join(argv)}")
        assert seconds < 5 * start, argv
    before = used(resource.RUSAGE_SELF)
    finished = finished_seeds(tmp_path)
    assert not [experiment for experiment in experiments if experiment.remaining(finished)]
    assert used(resource.RUSAGE_SELF) - before < 5 * start


def used(who: int = resource.RUSAGE_CHILDREN) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


# --- estimated duration


def experiment(algo: str, task: str, num_updates: int = 100, seeds: tuple[int, ...] = (0,)) -> Experiment:
    return Experiment(algo, task, dataclasses.replace(settings(algo, task, {}), num_updates=num_updates), seeds, "", Path())


def test_eta():
    eta = Eta({("bc", "xor-ab"): 0.1, ("bc", "xor-all"): 0.3, ("bc", "3m-medium"): 0.7})
    assert eta.total_seconds(experiment("bc", "xor-ab")) == pytest.approx(10)
    assert eta.total_seconds(experiment("bc", "xor-ab", seeds=(0, 5, 6))) == pytest.approx(30)
    assert eta.total_seconds(experiment("bc", "bridge-mix")) == pytest.approx(20)  # the mean of the method's games
    assert eta.total_seconds(experiment("bc", "8m-medium")) == pytest.approx(70)
    assert eta.total_seconds(experiment("bc", "hopper_3x1-medium")) == pytest.approx(110 / 3)  # the mean of all its tasks
    assert eta.total_seconds(experiment("inspo", "xor-ab")) is None
    assert eta.seconds_left([experiment("inspo", "xor-ab")], [], 2) is None
    assert eta.seconds_left([], [], 2) == 0
    eta.learn(experiment("bc", "xor-ab", seeds=(0, 1)), 40)  # this machine is half as fast as the one of the earlier results
    assert eta.total_seconds(experiment("bc", "xor-ab")) == pytest.approx(20)
    assert eta.total_seconds(experiment("bc", "xor-all")) == pytest.approx(60)
    assert eta.seconds_left([experiment("bc", "xor-ab")] * 4, [], 2) == pytest.approx(40)
    assert eta.seconds_left([experiment("bc", "xor-ab")], [], 4) == pytest.approx(20)  # an experiment has one worker
    halfway, begun = Attempt(experiment("bc", "xor-ab"), 0, 50, 30.0), Attempt(experiment("bc", "xor-ab"), 0, 0, 0.0)
    assert eta.seconds_left([], [halfway], 2) == pytest.approx(30)  # its own speed counts
    assert eta.seconds_left([experiment("inspo", "xor-ab")], [begun], 1) == pytest.approx(40)  # an unknown one counts as the mean
    resumed = experiment("bc", "xor-ab", 10_000)
    assert eta.seconds_left([], [Attempt(resumed, 9000, 9600, 60.0)], 1) == pytest.approx(40)


def test_only_earlier_results_are_scaled_to_the_speed_of_this_machine():
    eta = Eta({("bc", "xor-ab"): 0.1})
    eta.learn(experiment("bc", "xor-ab"), 40)  # four times slower
    assert eta.total_seconds(experiment("bc", "xor-all")) == pytest.approx(40)
    eta = Eta({("bc", "xor-ab"): 0.1, ("bc", "bridge-mix"): 0.2})
    eta.learn(experiment("bc", "xor-ab"), 40)
    assert eta.total_seconds(experiment("bc", "xor-all")) == pytest.approx((40 + 80) / 2)


def test_the_pool_estimates_resumed_experiments_by_their_speed():
    resumed = experiment("bc", "xor-ab", 10_000)
    pool = Pool([resumed], 1, ["cpu"], Limits(), Eta({}), SimpleNamespace())
    began = time.monotonic() - 60
    pool.queue, pool.workers = [], [WorkerHandle(None, None, None, resumed, "cpu", began, began, began, first_update=9000, update=9600)]
    assert pool.state().seconds_left == pytest.approx(40, rel=0.1)


def test_a_damaged_result_is_a_user_error_and_does_not_stop_a_sweep(tmp_path):
    mine = dataclasses.replace(experiment("bc", "xor-ab"), out=tmp_path)
    mine.csv_path.parent.mkdir(parents=True)
    mine.json_path.write_text(json.dumps(mine.metadata | {"wall_seconds": 20}))
    mine.csv_path.write_text("algo,task,seed,step,metric,value\nbc,xor-ab,0,100,return,1.0\nbc,xor-ab,1,100,return,0.5\n")
    assert final_return(mine) == (0.75, 20)
    for damage in ("", "a,b\n1,2\n", "metric,step,value\nreturn,100\n", "metric,step,value\nreturn,100,x\n"):
        mine.csv_path.write_text(damage)
        with pytest.raises(UserError, match="is damaged; delete it and the JSON beside it"):
            final_return(mine)
        assert result_summary(mine, Eta({})) == ""


@pytest.mark.parametrize(("seconds", "text"), [(0, "1 s"), (89, "89 s"), (91, "2 min"), (7200, "2.0 h"), (200_000, "2.3 days")])
def test_human_duration(seconds, text):
    assert human_duration(seconds) == text


def test_the_live_display():
    running = [Attempt(experiment("bc", "xor-ab"), 0, 25, 60.0, -1.5), Attempt(experiment("bc", "xor-all"), 0, 0, 5.0)]
    text = SweepState(10, 4, 1, running, 3600.0).text(7200.0)
    assert text.splitlines()[0] == "4 done, 2 running, 1 failed, 3 waiting"
    assert all(
        word in text for word in ("52%", "2.0 h", "2 experiments per hour", "about 60 min left", "update 25 of 100, return -1.5, 60 s")
    )
    assert len(SweepState(99, 0, 0, running * 30, None).text(1.0).splitlines()) == 2 + 16 + 1


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_the_live_display_on_a_terminal(tmp_path):
    """What a user sees."""
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
    assert "0 done, 1 running, 0 failed, 0 waiting" in seen.decode()
    assert "of 99, return" in seen.decode()
    assert "done   1/1 bc on xor-ab" in seen.decode()
