"""The command line: what it does, and one clear line for every user error, before any training."""

import csv
import json
import os
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch

from inspo_benchmark import run_benchmark
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets.catalog import expected_sha256
from inspo_benchmark.learning import saved_policy
from inspo_benchmark.running import slurm
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.pool import Outcome
from inspo_benchmark.running.presets import PRESETS
from inspo_benchmark.running.results import read_results, results_of
from inspo_benchmark.running.settings import settings
from inspo_benchmark.running.summary import DESCRIBED, describe_scores, final_score, summary, watch_command
from run_benchmark import report
from support.project import ROOT, Ended, Project, environment, leftovers, project_in, results, trained
from support.results import write

SMALL = ["--set", "num_updates=20", "hidden_dim=8", "batch_size=8"]
SWEEP = ["--algo", "bc", "inspo", "--env", "xor-ab*", "bridge-optimal", *SMALL, "--workers", "2"]
EXPERIMENTS = [f"{algo} {task}" for algo in ("bc", "inspo") for task in ("bridge-optimal", "xor-ab", "xor-ab_ba")]
ROOTED = os.geteuid() == 0 and shutil.which("mount") is not None


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return project_in(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def swept(project) -> Path:
    """A results folder with six experiments, made by a command that was started as users start it."""
    out = project.fresh()
    command = [sys.executable, "run_benchmark.py", *SWEEP, "--seeds", "2", "--out", str(out)]
    done = subprocess.run(command, cwd=project.root, env=environment(project.root), capture_output=True, text=True)
    assert done.returncode == 0, done
    assert "6 experiments requested, 0 finished" in done.stdout
    assert len([line for line in done.stderr.splitlines() if line.startswith("done  ") and ": return " in line]) == 6
    assert f"6 experiments finished in {out}; for tables, run: python -m plots.tables --out {out}" in done.stdout
    return out


@pytest.fixture
def mine(project):
    """The template under another name, as README.md describes, with few updates."""
    path = project.root / "algorithms" / "mine.py"
    template = (ROOT / "algorithms" / "_template.py").read_text()
    assert template.count('register("template")') == 1
    few = 'ALGORITHMS["mine"].TUNED = {"*": dict(num_updates=80), **ALGORITHMS["mine"].TUNED}'
    path.write_text(template.replace('register("template")', 'register("mine")') + f"\n\n{few}\n")
    yield
    path.unlink()


def one_line(ended: Ended, *words: str) -> None:
    """The error is one line with these words."""
    said = ended.err.splitlines()
    assert len(said) == 1, ended
    assert said[0].startswith("error: "), ended
    assert ended.code == 2
    for word in words:
        assert word in said[0]


# --- results


def test_content_of_csv_and_json(swept):
    assert trained(swept) == [f"{experiment} 0 1" for experiment in EXPERIMENTS]
    assert len(results(swept)) == 6
    assert not leftovers(swept)
    for name in results(swept):
        with (swept / name).open() as file:
            rows = list(csv.DictReader(file))
        about = json.loads((swept / name).with_suffix(".json").read_text())
        assert saved_policy.load((swept / name).with_suffix(".policies")).seeds == (0, 1)
        assert list(rows[0]) == ["algo", "task", "seed", "step", "metric", "value"]
        assert {row["seed"] for row in rows} == {"0", "1"}
        assert {row["algo"] for row in rows} == {about["algo"]}
        assert {row["task"] for row in rows} == {about["task"]}
        assert {"return", "return_sampled", "length", "loss_policy"} <= {row["metric"] for row in rows}
        for metric in ("return", "return_sampled"):
            assert [int(row["step"]) for row in rows if row["metric"] == metric and row["seed"] == "1"] == [0, 5, 10, 15, 20]
        assert np.isfinite([float(row["value"]) for row in rows]).all()
        assert Path(name).stem.startswith(about["task"] + "-")
        assert about["overrides"] == {"num_updates": 20, "hidden_dim": 8, "batch_size": 8}
        assert about["config"].items() >= about["overrides"].items()
        assert (about["seeds"], len(about["data"]["sha256"])) == ([0, 1], 64)
        assert {"revision", "dirty"} <= about["code"].keys()
        assert about["versions"]["torch"] == torch.__version__
        assert about["machine"]["device"] == "cpu"
        assert about["wall_seconds"] > 0
        assert 0 < about["evaluation_share"] < 1


def test_finished_experiments_are_not_trained_again(project, swept):
    before = results(swept)
    again = project.run(*SWEEP, "--seeds", "2", "--out", swept)
    assert (again.code, again.err) == (0, "")
    assert "6 experiments requested, 6 finished" in again.out
    assert results(swept) == before
    assert len(trained(swept)) == 6


def test_only_missing_seeds_are_trained(project, swept, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(swept, out)
    (out / "trained").unlink()
    command = ["--algo", "bc", "--env", "xor-ab", *SMALL, "--out", out]
    assert project.run(*command, "--seeds", "3").code == 0
    assert trained(out) == ["bc xor-ab 2"]
    assert results(out).items() > results(swept).items()
    assert "1 finished" in project.run(*command, "--seeds", "0,2").out
    assert project.run("--out", out, program="plots.tables").code == 0


def test_the_same_command_gives_the_same_bytes(project, swept, tmp_path):
    done = project.run(*SWEEP, "--env", "xor-ab", "--seeds", "2", "--out", tmp_path)
    assert done.code == 0, done
    assert len(results(tmp_path)) == 2
    assert results(tmp_path).items() < results(swept).items()


@pytest.mark.usefixtures("mine")
def test_tables_and_curves(project, swept, tmp_path):
    """Experiments with --set appear as ablations only; those without appear in the main table and figures."""
    out = tmp_path / "out"
    shutil.copytree(swept, out)
    tables = project.run("--out", out, program="plots.tables")
    assert tables.code == 0, tables
    assert "batch_size=8, hidden_dim=8, num_updates=20" in tables.out
    assert {path.stem for path in (out / "tables").iterdir()} == {"ablation-games", "datasets"}
    figures = project.run("--out", out, program="plots.figures")
    assert figures.code == 0, figures
    assert {path.stem.partition("-")[0] for path in (out / "figures").glob("*.png")} == {"ablation"}

    done = project.run("--algo", "mine", "--env", "bridge-optimal", "--seeds", "2", "--out", out, "--draft")
    assert done.code == 0, done
    assert "| bridge-optimal |" in done.out
    assert {"main-games.md", "ablation-games.md"} < {path.name for path in (out / "tables").iterdir()}
    assert "num_updates=20" not in (out / "tables" / "main-games.md").read_text()
    figures = project.run("--out", out, program="plots.figures")
    assert figures.code == 0, figures
    assert {"curves-games-return.png", "figures.tex"} < {path.name for path in (out / "figures").iterdir()}


def test_list(project):
    listed = project.run("--list")
    assert (listed.code, listed.err) == (0, "")
    lines = {line.split()[0]: line for line in listed.out.splitlines()}
    assert "2412.07639" in lines["inspo"]
    assert re.fullmatch(r"  mne3 +3 agents +discrete +3 actions  balanced imbalanced", lines["mne3"])
    assert len(lines) < 60
    assert not any("sc2:" in line for line in lines)
    rest = re.search(r"(\d+) more tasks have data of random actions only, (\d+) need recordings", listed.out)
    assert 0 < int(rest[1]) < int(rest[2])


def test_list_all(project):
    listed = project.run("--list", "all")
    assert (listed.code, listed.err) == (0, "")
    lines = {line.split()[0]: line for line in listed.out.splitlines()}
    assert all(word in lines["mne3-balanced"] for word in ("3 agents", "discrete", "absent: built on first use"))
    assert "absent: to be converted" in lines["sc2:3m-medium"]


def test_tasks_without_data_are_left_out_of_globs_and_refused_by_name(project, tmp_path):
    command = ["--algo", "BC", "--dry-run", "--out", tmp_path, "--env"]
    shown = project.run(*command, "3m", "sc2:3m-*", "27m_vs_30m-*")
    assert shown.code == 0, shown
    left_out, *lines = shown.out.splitlines()
    assert left_out.startswith("left out, because they have no data: ")
    assert {"sc2:3m-medium,", "27m_vs_30m-medium,"} < set(left_out.split())
    assert "27m_vs_30m-random" not in left_out
    listed = {line.split(",")[0] for line in lines if line.startswith("  bc on ")}
    assert listed == {f"  bc on 3m-{x}" for x in ("random", "medium", "medium_replay", "expert", "mixed")} | {"  bc on 27m_vs_30m-random"}
    one_line(
        project.run(*command, "xor-ab", "sc2:3m-medium", "27m_vs_30m-expert"),
        "no data for sc2:3m-medium",
        "27m_vs_30m-expert",
        "docs/data.md",
    )
    one_line(project.run(*command, "sc2:8m"), "no data for sc2:8m-random, sc2:8m-medium,")
    assert project.run("--show-config", "--algo", "bc", "--env", "sc2:3m-medium").code == 0


def test_a_run_ends_with_its_score_beside_others(project, swept):
    done = project.run(*SWEEP, "--seeds", "2", "--out", swept)
    lines = done.out.splitlines()
    number = r"-?[\d.e-]+"
    [own] = [line for line in lines if line.startswith("inspo on bridge-optimal")]
    assert re.fullmatch(rf"inspo on bridge-optimal, seeds 0-1, .*: return {number} \(data {number}\)", own), own  # BC has other settings
    assert lines[-1] == f"rows: {swept / 'runs'}"
    assert "to watch" not in done.out  # games have no pictures


def test_the_score_of_a_run_is_that_of_its_file(swept):
    experiment = SimpleNamespace(out=swept, algo="bc", task="xor-ab", seeds=(1,))
    [(path, about)] = read_results(swept, "bc", "xor-ab")
    rows = [
        row
        for row in csv.DictReader(path.with_suffix(".csv").read_text().splitlines())
        if row["metric"] == "return" and row["step"] == "20"
    ]
    assert final_score([(path, about)], experiment.seeds) == (float(rows[1]["value"]), "return")
    assert final_score([(path, about)]) == (pytest.approx(np.mean([float(row["value"]) for row in rows])), "return")


def test_runs_of_smac_and_mujoco_can_be_watched(tmp_path):
    ALGORITHMS.discover(), TASKS.discover()
    for task, command in ("3m-medium", "render_smac 3m"), ("ant_2x4-expert", "render_mujoco ant_2x4"):
        experiment = SimpleNamespace(task=task)
        path = tmp_path / "runs" / "bc" / f"{task}-0123456789ab.json"
        assert watch_command(experiment, path) == f"python -m tools.{command} --policy {path.with_suffix('.policies')} --out episode.gif"


def test_dry_run_writes_nothing(project, swept, tmp_path):
    shown = project.run(*SWEEP, "--seeds", "3", "--out", swept, "--dry-run")
    assert (shown.code, shown.err) == (0, "")
    assert "  inspo on xor-ab_ba, seeds 2, hidden_dim=8, batch_size=8, num_updates=20" in shown.out.splitlines()
    assert "from the speed of finished experiments" in shown.out
    nothing = project.run(*SWEEP, "--seeds", "2", "--out", swept, "--dry-run")
    assert (nothing.code, len(nothing.out.splitlines())) == (0, 1)
    assert project.run("--algo", "bc", "--env", "xor-ab", "--out", tmp_path / "new", "--dry-run").code == 0
    assert not (tmp_path / "new").exists()


def test_datasets_are_built_only_for_experiments_to_run(project, tmp_path):
    command = ["--algo", "bc", "--env", "xor-all", "--seeds", "1", *SMALL, "--out", tmp_path]
    data = project.root / "datasets" / "data" / "xor-all.h5"
    data.unlink(missing_ok=True)
    assert "1 to run" in project.run(*command, "--dry-run").out
    assert not data.exists()
    assert project.run(*command).code == 0
    data.unlink()
    for more in ["--dry-run"], []:
        assert ", 0 to run" in project.run(*command, *more).out
        assert not data.exists()


def test_settings_are_shown_with_their_sources(project, tmp_path):
    shown = project.run("--show-config", "--algo", "bc", "inspo", "--env", "3m-medium", "xor-ab", "--set", "lr=0.5")
    assert (shown.code, shown.err) == (0, "")
    blocks = [block.splitlines() for block in shown.out.split("\n\n")]
    assert [block[0] for block in blocks] == [f"{algo} on {task}" for algo in ("bc", "inspo") for task in ("3m-medium", "xor-ab")]
    rows = {block[0]: [line.split() for line in block[1:]] for block in blocks}
    assert ["lr", "0.5", "--set"] in rows["bc on 3m-medium"]
    assert ["num_updates", "10000", "benchmark"] in rows["bc on 3m-medium"]
    assert ["max_grad_norm", "10.0", "default"] in rows["bc on 3m-medium"]
    assert len(rows["inspo on 3m-medium"]) > len(rows["bc on 3m-medium"])


def test_a_dry_run_ends_with_the_settings(project, tmp_path):
    command = ["--algo", "bc", "--env", "bridge-*", "--preset", "quick", "--set", "lr=0.5", "--out", tmp_path, "--dry-run"]
    *_, title, default, table, preset, last = project.run(*command).out.splitlines()
    assert title == "bc on bridge-optimal, bridge-mix"  # alike on both tasks
    assert default.split()[0] == "default"
    assert "max_grad_norm=10.0" in default
    assert "batch_size=32" in table
    assert preset.split() == ["preset", "num_updates=800"]
    assert last.split() == ["--set", "lr=0.5"]


def test_a_large_dry_run_has_a_line_per_group_of_tasks(project, tmp_path):
    shown = project.run("--preset", "full", "--algo", "bc", "inspo", "--out", tmp_path, "--dry-run")
    *groups, time, settings = [line for line in shown.out.splitlines() if "requested" not in line and "no data" not in line]
    others, games = sorted(groups, key=lambda line: line[-3:])
    assert games.startswith("  8 tasks: bc, inspo on ")
    assert games.endswith(", seeds 0-9")
    assert " 5m_vs_6m-mixed, " in others
    assert "hopper_3x1-expert" in others
    assert "random" not in others
    assert others.endswith(", seeds 0-4")
    assert time.startswith("estimated time: ")
    assert "--show-config" in settings


def test_help_has_examples(project):
    shown = project.run("--help")
    assert (shown.code, shown.err) == (0, "")
    assert "--env 'xor-*' bridge-mix" in shown.out.partition("examples:")[2]


@pytest.mark.usefixtures("mine")
def test_a_new_baseline_is_one_file(project, tmp_path):
    assert "  mine " in project.run("--list").out
    done = project.run("--algo", "mine", "--env", "bridge-optimal", "--seeds", "2", *SMALL, "--out", tmp_path, "--draft")
    assert done.code == 0, done
    assert "| MINE |" in done.out
    assert "| MINE |" in (tmp_path / "tables" / "ablation-games.md").read_text()


@pytest.mark.usefixtures("mine")
def test_the_table_of_a_new_baseline_wins_over_the_shared_settings(project):
    path = project.root / "algorithms" / "mine.py"
    source, count = re.subn(
        r"^    (PAPER|TUNED) = .*", '    TUNED = {"smac": dict(num_updates=77, batch_size=5)}', path.read_text(), flags=re.M
    )
    assert count == 1
    path.write_text(source)
    shown = project.run("--show-config", "--algo", "mine", "--env", "3m-medium")
    rows = {line.split()[0]: line.split()[1:] for line in shown.out.splitlines()[1:]}
    assert (rows["num_updates"], rows["batch_size"]) == (["77", "TUNED"], ["5", "TUNED"])
    assert rows["hidden_dim"] == ["64", "benchmark"]
    path.write_text(source.replace("batch_size=5", "batch=5"))
    one_line(project.run("--show-config", "--algo", "mine", "--env", "3m-medium"), "mine: TUNED", "'batch'", "batch_size")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_makefile():
    def make(*argv):
        return subprocess.run(["make", *argv], cwd=ROOT, capture_output=True, text=True, check=True).stdout

    [folder] = set(re.findall(r"--out (results/\w+)$", make("-n", "demo"), re.M))
    uploaded = re.findall(r"^ +(results/\S+)$", (ROOT / ".github/workflows/ci.yml").read_text(), re.M)
    assert {path.rpartition("/")[0] for path in uploaded} == {folder}
    targets = [line.split()[1] for line in make("help").splitlines()]
    assert {"setup", "data", "demo", "reproduce", "ablations", "tables", "test", "bench"} <= set(targets)
    assert make() == make("help")
    demo = make("-n", "demo", "WORKERS=2")
    assert ".venv/bin/python run_benchmark.py --workers 2 --preset demo --algo inspo bc --out results/demo" in demo
    assert "-m plots.tables" in demo
    assert "-m plots.figures" in demo
    assert "-m tools.render_smac 5m_vs_6m" in demo
    assert PRESETS["demo"].num_seeds("5m_vs_6m-medium")
    quick = make("-n", "reproduce", "WORKERS=2", "PRESET=quick")
    assert "run_benchmark.py --workers 2 --preset quick --out results/quick --dry-run" in quick
    assert "-m plots.report --out results/quick" in quick
    assert "--preset full --out results/full" in make("-n", "reproduce", "WORKERS=2")


def test_a_preset_has_fewer_seeds_and_updates_and_is_marked(project, tmp_path):
    done = project.run("--preset", "quick", "--algo", "bc", "--env", "bridge-optimal", "--out", tmp_path)
    assert done.code == 0, done
    [about] = [json.loads(path.read_text()) for path in tmp_path.glob("runs/bc/*.json")]
    assert (about["preset"], about["overrides"], about["seeds"]) == ("quick", {}, [0, 1, 2])
    assert about["config"]["num_updates"] == 800  # a fifth of the method's 4000
    assert "1 finished" in project.run("--preset", "quick", "--algo", "bc", "--env", "bridge-optimal", "--out", tmp_path, "--dry-run").out
    tables = project.run("--out", tmp_path, program="plots.tables")
    assert "Preset quick: a fifth of the updates" in tables.out
    mixed = project.run("--algo", "bc", "--env", "bridge-optimal", "--seeds", "1", "--set", "num_updates=20", "--out", tmp_path, "--draft")
    assert mixed.code == 2
    assert mixed.err.splitlines()[-1].startswith("error: runs of Games differ in preset")
    assert project.run("--preset", "full", "--paper").code == 2


def test_a_draft_is_printed_after_failures_and_at_the_time_limit(tmp_path, capsys):
    ALGORITHMS.discover(), TASKS.discover()
    write(tmp_path)
    mine = Experiment("omiga", "xor-ab", settings("omiga", "xor-ab", {}), (0,), "", tmp_path)
    for outcome, code in (Outcome({}, []), 0), (Outcome({mine: "bad luck"}, []), 1), (Outcome({}, [mine]), 3):
        assert report(outcome, {}, [mine], [], SimpleNamespace(out=tmp_path, draft=True)) == code
        assert "| xor-ab |" in capsys.readouterr().out
    assert report(Outcome({}, [mine]), {}, [mine], [], SimpleNamespace(out=tmp_path / "empty", draft=True)) == 3


def test_slurm_is_looked_for_before_datasets_are_built(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(slurm.shutil, "which", lambda name: None)
    monkeypatch.setattr(run_benchmark, "plan", None)  # which builds them
    assert run_benchmark.main(["--algo", "bc", "--env", "xor-ab", "--launcher", "slurm", "--out", str(tmp_path)]) == 2
    assert "sbatch was not found; run this on a machine that submits jobs to SLURM" in capsys.readouterr().err


def test_an_error_after_a_sweep_hides_no_failure(tmp_path, capsys):
    """A damaged result is reported, but its exit code is not that of an experiment that failed."""
    ALGORITHMS.discover(), TASKS.discover()
    mine = Experiment("omiga", "xor-ab", settings("omiga", "xor-ab", {}), (0,), "", tmp_path)
    write(tmp_path, "omiga", seeds=(0,), key=mine.key, group=mine.group).write_text("damaged")
    for outcome, code in (Outcome({mine: "bad luck"}, []), 1), (Outcome({}, [mine]), 3), (Outcome({}, []), 2):
        assert report(outcome, {}, [mine], [mine], SimpleNamespace(out=tmp_path, draft=True)) == code
        assert "error: " in capsys.readouterr().err


def test_a_sweep_whose_reader_has_gone_ends_with_its_exit_code(project, tmp_path):
    """`2>&1 | head -1`."""
    read, output = os.pipe()
    os.close(read)
    command = [sys.executable, "run_benchmark.py", "--algo", "bc", "--env", "xor-ab", "--out", str(tmp_path / "out")]
    diverges = ["--set", "num_updates=3", "hidden_dim=8", "lr=1e30"]
    ended = subprocess.run([*command, *diverges], cwd=project.root, env=environment(project.root), stdout=output, stderr=output)
    os.close(output)
    assert ended.returncode == 1
    assert len(list((tmp_path / "out").glob("unfinished/bc/*.json"))) == 1


# --- user errors

USER_ERRORS = {
    "unknown algorithm": (["--algo", "inspoo"], ["inspoo", "did you mean inspo?"]),
    "unknown task": (["--env", "xor-abb"], ["xor-abb", "did you mean xor-ab"]),
    "algorithm glob": (["--algo", "z*"], ["z*", "there are: alberdice, bc, "]),
    "task glob": (["--env", "bridge-optimal", "chess-*"], ["chess-*", "the most similar of"]),
    "unknown field": (["--set", "num_update=20"], ["num_update", "did you mean num_updates?"]),
    "field of another method": (["--set", "beta=0"], ["beta"]),
    "no value": (["--set", "num_updates"], ["field=value"]),
    "no number": (["--set", "num_updates=abc"], ["num_updates=abc", "whole number"]),
    "no whole number": (["--set", "num_updates=1.5"], ["num_updates=1.5", "whole number"]),
    "a field twice": (["--set", "num_updates=20", "num_updates=30"], ["num_updates=30", "num_updates is set twice"]),
    "endless": (["--set", "num_updates=inf"], ["num_updates=inf"]),
    "none": (["--set", "num_updates=0"], ["num_updates=0", "above 0"]),
    "empty": (["--set", "num_updates="], ["num_updates="]),
    "switch": (["--algo", "inspo", "--set", "sequential=maybe"], ["sequential=maybe", "true or false"]),
    "choice": (["--algo", "inspo", "--set", "behavior=foo"], ["behavior=foo", "autoregressive, factored"]),
    "NaN": (["--set", "lr=nan"], ["lr=nan", "finite"]),
    "negative": (["--set", "lr=-1"], ["lr=-1", "above 0"]),
    "a rate above 1": (["--set", "ema_rate=2"], ["ema_rate=2", "(0, 1]"]),
    "annealing beyond the end": (
        ["--algo", "inspo", "--set", "beta=5", "beta_end=0", "anneal_start=0.8"],
        ["anneal_start + anneal_duration must not exceed 1"],
    ),
    "seeds: letter": (["--seeds", "a"], ["'a'", "0-9"]),
    "seeds: half a range": (["--seeds", "5-"], ["'5-'"]),
    "seeds: backwards": (["--seeds", "3-1"], ["'3-1'"]),
    "seeds: none": (["--seeds", "0"], ["'0'"]),
    "seeds: twice": (["--seeds", "1,1"], ["'1,1'"]),
    "seeds: negative": (["--seeds=-1"], ["'-1'"]),
    "no workers": (["--workers", "0"], ["'0'", "above 0"]),
    "memory without a unit": (["--memory", "8"], ["'8'", "write 8G or 500M"]),
    "no time": (["--max-hours", "0"], ["'0'", "above 0"]),
    "retries": (["--retries", "x"], ["'x'", "0 for none"]),
    "slurm's option alone": (["--slurm-partition", "gpu"], ["--slurm-partition needs --launcher slurm"]),
    "slurm and workers": (["--launcher", "slurm", "--workers", "2"], ["--workers cannot be combined with --launcher slurm"]),
    "slurm and devices": (["--launcher", "slurm", "--device", "cuda:0", "cuda:1"], ["with --launcher slurm use cpu or cuda"]),
    "slurm's option without a value": (["--launcher", "slurm", "--slurm-set", "account"], ["--slurm-set account: write option=value"]),
    "option": (["--sed", "3"], ["--sed"]),
    "device": (["--device", "foo"], ["--device foo"]),
    "device that is not there": (["--device", "cuda:99"], ["--device cuda:99"]),
    "meta": (["--device", "meta"], ["--device meta"]),
    "settings of an unknown task": (["--show-config", "--env", "xor-abb"], ["xor-abb", "did you mean xor-ab"]),
    "settings of an unknown method": (["--show-config", "--algo", "inspoo"], ["inspoo", "did you mean inspo?"]),
    "settings with an unknown field": (["--show-config", "--set", "num_update=20"], ["num_update", "did you mean num_updates?"]),
    "settings with a refused value": (["--show-config", "--set", "lr=-1"], ["lr=-1", "above 0"]),
    "settings and another question": (["--show-config", "--status"], ["--show-config cannot be combined with --status"]),
    "a list of some methods": (["--list"], ["--list cannot be combined with --algo"]),
    "the status of some experiments": (["--status"], ["--status cannot be combined with --algo"]),
    "a list and the status": (["--list", "--status"], ["--list cannot be combined with --status"]),
    "the status and cleaning": (["--status", "--clean"], ["--status cannot be combined with --clean"]),
    "cleaning some experiments": (["--clean"], ["--clean cannot be combined with --algo"]),
    "settings and a dry run": (["--show-config", "--dry-run"], ["--show-config cannot be combined with --dry-run"]),
}


@pytest.mark.parametrize("error", USER_ERRORS)
def test_a_user_error_is_one_line(project, tmp_path, error):
    argv, words = USER_ERRORS[error]
    usual = ["--algo", "bc", "--env", "xor-ab", "--out", tmp_path / "out"]
    one_line(project.run(*usual, *argv), *words)
    assert not (tmp_path / "out").exists()


def test_a_checkout_does_not_run_the_code_of_another(project):
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "run_benchmark.py", "--list"], cwd=project.root, env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("error: inspo_benchmark is installed from ")
    assert f"not from {project.root}" in done.stderr


@pytest.mark.parametrize("where", ["{}/file", "{}/file/below", "/proc/nowhere"])
def test_a_folder_that_cannot_be_written(project, tmp_path, where):
    (tmp_path / "file").write_text("mine")
    out = where.format(tmp_path)
    one_line(project.run("--algo", "bc", "--env", "xor-ab", *SMALL, "--out", out), "cannot write", out)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{", "[]", '{"algo": "bc"}', "\xff"])
def test_a_damaged_json_among_the_results(project, tmp_path, content):
    path = tmp_path / "runs" / "bc" / "xor-ab-0123456789ab.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(content.encode("latin1"))
    one_line(project.run("--algo", "bc", "--env", "xor-ab", *SMALL, "--out", tmp_path), str(path), "delete it")


@pytest.mark.parametrize("action", [["--algo", "bc", "--env", "xor-ab", *SMALL], ["--status"]])
def test_a_damaged_csv_among_the_results(project, swept, tmp_path, action):
    out = tmp_path / "out"
    shutil.copytree(swept, out)
    path = sorted(out.glob("runs/bc/xor-ab-*.csv"))[0]
    path.write_text(path.read_text()[:-40])
    one_line(project.run(*action, "--out", out), str(path), "is damaged; delete it and the JSON beside it")


@pytest.mark.parametrize("action", ["--status", "--clean"])
def test_an_action_on_a_folder_that_is_not_there(project, tmp_path, action):
    one_line(project.run(action, "--out", tmp_path / "absent"), "absent: no such folder")


def test_the_projects_own_results_are_not_cleaned(project, tmp_path):
    assert project.run("--clean", "--dry-run", "--out", tmp_path).code == 0
    (project.root / "results" / "reference" / "games").mkdir(parents=True, exist_ok=True)
    one_line(project.run("--clean", "--dry-run", "--out", "results/reference/games"), "this project's own results")


def edit(path: Path, name: str, value: object) -> None:
    with h5py.File(path, "r+") as file:
        if value is None:
            del file[name]
        else:
            file[name][0] = value


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


DAMAGES = {
    "cut short": (lambda path: os.truncate(path, path.stat().st_size // 2), ""),
    "empty": (lambda path: os.truncate(path, 0), "not an HDF5 file"),
    "flipped bytes": (flip, ""),
    "a key missing": (lambda path: edit(path, "steps/rewards", None), "steps/rewards: missing"),
    "NaN": (lambda path: edit(path, "steps/rewards", np.nan), "NaN"),
    "of another task": (
        lambda path: shutil.copy(path.with_name("mne-balanced.h5"), path),
        "holds the dataset of mne-balanced, not of xor-all",
    ),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), ""),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_datasets_are_refused_before_training(project, tmp_path, damage):
    built = project.run("build", "xor-all", "mne-balanced", program="datasets")
    assert built.code == 0, built
    path = project.root / "datasets" / "data" / "xor-all.h5"
    good, (harm, word) = path.read_bytes(), DAMAGES[damage]
    try:
        harm(path)
        one_line(project.run("--algo", "bc", "--env", "xor-all", *SMALL, "--out", tmp_path / "out"), str(path), word)
        assert not (tmp_path / "out").exists()
        assert project.run("--list").code == 0
    finally:
        if path.is_dir():
            path.rmdir()
        path.write_bytes(good)


def test_losses_that_are_not_finite(project, tmp_path):
    ended = project.run("--algo", "bc", "--env", "bridge-optimal", *SMALL, "lr=1e30", "--seeds", "2", "--out", tmp_path)
    assert ended.code == 1
    (line,) = [line for line in ended.err.splitlines() if line.startswith("FAILED bc on")]
    assert "training diverged at update " in line
    assert ": loss_policy [" in line
    assert "Traceback" not in ended.err
    assert not results(tmp_path)


@pytest.mark.parametrize("kind", [pytest.param("tmpfs", marks=pytest.mark.skipif(not ROOTED, reason="needs root")), "limit"])
def test_a_full_disk(project, tmp_path, kind):
    """No partial file stays behind, and with free space the same command succeeds."""
    out, limits = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    out.mkdir()
    command = ["--algo", "bc", "--env", "bridge-optimal", *SMALL, "--seeds", "2", "--out", out]
    if kind == "limit":
        pid = project.forks.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (1000, limits[1]))
    elif subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", out], capture_output=True).returncode:
        pytest.skip("cannot mount here")
    try:
        if kind == "tmpfs":
            (out / "filler").write_bytes(bytes(2**20 - 4096))
        ended = project.run(*command)
        assert ended.code in (1, 2), ended
        assert "Traceback" not in ended.err
        assert len([line for line in ended.err.splitlines() if "no space left on the disk" in line]) == 1
        assert not results(out)
        assert not leftovers(out)
        if kind == "limit":
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        else:
            (out / "filler").unlink()
        assert project.run(*command).code == 0
        assert len(results(out)) == 1
    finally:
        if kind == "limit":
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)
        else:
            subprocess.run(["umount", out], check=True)


def test_data_of_unknown_wins_have_no_win_rate(tmp_path):
    path = tmp_path / "bc.json"
    path.with_suffix(".csv").write_text("seed,step,metric,value\n0,20,return,5.0\n0,20,win_rate,0.25\n")
    about = {"seeds": [0], "config": {"num_updates": 20}, "data": {"win_rate": -1.0, "return_mean": 5.0}}
    experiment = SimpleNamespace(algo="bc", seeds=(0,))
    assert describe_scores(experiment, [(path, about)], []) == "win rate 25.0 % (data --)"
    about["data"]["win_rate"] = 0.5
    assert describe_scores(experiment, [(path, about)], []) == "win rate 25.0 % (data 50.0 %)"


@pytest.fixture
def saved(tmp_path):
    """Writes results of a method on xor-ab, whose final returns are all `value`, into a new folder. The experiment, and its results."""
    ALGORITHMS.discover(), TASKS.discover()

    def save(folder: str, value: float, seeds=(0, 1), algo="bc", preset="", **about) -> tuple[Experiment, list]:
        experiment = Experiment(algo, "xor-ab", settings(algo, "xor-ab", {}, preset=preset), seeds, "d" * 64, tmp_path / folder, preset)
        experiment.csv_path.parent.mkdir(parents=True)
        data = {"sha256": expected_sha256(TASKS["xor-ab"]) or "d" * 64, "return_mean": 1.0}
        experiment.json_path.write_text(json.dumps(experiment.metadata | {"data": data, "wall_seconds": 1.0} | about))
        last = (experiment.metadata | about)["config"]["num_updates"]
        rows = "".join(f"{algo},xor-ab,{seed},{last},return,{value}\n" for seed in seeds)
        experiment.csv_path.write_text("algo,task,seed,step,metric,value\n" + rows)
        return experiment, results_of(experiment, DESCRIBED)

    return save


def test_bc_is_shown_with_the_seeds_of_the_experiment_where_there_are_results(saved):
    experiment, own = saved("mine", 1.0, algo="inspo")
    folders = {
        name: saved(name, value, seeds)[0].out
        for name, seeds, value in (("others", (100, 101), 5.0), ("same", (0, 1), 7.0), ("more", (0, 1, 2), 9.0))
    }

    def shown(*names):
        return describe_scores(experiment, own, [folders[name] for name in names])

    assert f"BC 7 in {folders['same']}" in shown("others", "same", "more")
    assert f"BC 9 in {folders['more']}" in shown("others", "more", "same")
    assert f"BC 5 in {folders['others']}" in shown("others")


def test_bc_of_the_same_preset_is_shown_first_and_that_of_earlier_settings_never(saved):
    quick, own = saved("mine", 1.0, algo="inspo", preset="quick")
    full, same = saved("full", 5.0)[0].out, saved("same", 7.0, seeds=(8,), preset="quick")[0].out
    assert f"BC 7 in {same}" in describe_scores(quick, own, [full, same])
    assert f"BC without the preset 5 in {full}" in describe_scores(quick, own, [full])
    assert "BC" not in describe_scores(*saved("whole", 1.0, algo="inspo"), [same])
    for name, change in {"shorter": {"config": {"num_updates": 9}}, "other": {"evaluation": {"num_evals": 3}}}.items():
        assert "BC" not in describe_scores(quick, own, [saved(name, 5.0, **change)[0].out])


def test_the_seeds_that_have_finished_are_described(saved):
    experiment, _ = saved("mine", 1.0, seeds=(0, 1))
    assert summary([replace(experiment, seeds=tuple(range(10)))], []).startswith("bc on xor-ab, seeds 0-1: return 1 (")
