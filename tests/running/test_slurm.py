"""A sweep on SLURM: on a real one, a cluster of one node, from Debian's packages, that runs as long as the tests."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.running import slurm
from inspo_benchmark.running.eta import Eta
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.pool import Limits
from inspo_benchmark.running.progress import ProgressDisplay
from inspo_benchmark.running.settings import settings
from support.faults import FAULTY
from support.project import ROOT, Project, leftovers, results

SMALL = ["--seeds", "2", "--set", "num_updates=40", "hidden_dim=8", "batch_size=8"]
SWEEP = ["--algo", "bc", "inspo", "slows", "prints", "--env", "xor-*", "bridge-optimal", *SMALL]  # 20 experiments
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
KillWait=10
SchedulerParameters=batch_sched_delay=1,sched_interval=5
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} State=UNKNOWN
PartitionName=tests Nodes={host} Default=YES MaxTime=60 State=UP
"""


def said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def until(condition, seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited too long\n{said('squeue')}"
        time.sleep(0.2)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory) -> Path:
    if os.geteuid() or not all(map(shutil.which, ("munged", "slurmctld", "slurmd"))):
        pytest.fail("needs root and Debian's packages slurm-wlm and munge: make test-slurm")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    values = said("slurmd", "-C").split()
    host, memory = os.uname().nodename, next(int(x.partition("=")[2]) for x in values if x.startswith("RealMemory="))
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, cpus=max(2, os.cpu_count() or 1), memory=memory // 2))
    os.environ["SLURM_CONF"] = str(conf)
    Path("/run/munge").mkdir(exist_ok=True)
    shutil.chown("/run/munge", "munge", "munge")
    munge = subprocess.run(["runuser", "-u", "munge", "--", "munged"], capture_output=True, text=True)
    assert munge.returncode == 0 or "in use" in munge.stderr or "already" in munge.stderr, munge
    daemons = [subprocess.Popen([name, "-D"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for name in ("slurmctld", "slurmd")]
    try:
        until(lambda: subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout.strip() == "idle", 60)
        yield folder
    finally:
        subprocess.run(["scancel", "--partition=tests"], check=False)
        time.sleep(1)
        for daemon in reversed(daemons):
            daemon.terminate()
            daemon.wait(30)
        if not munge.returncode:
            subprocess.run(["runuser", "-u", "munge", "--", "munged", "--stop"], check=False)


@pytest.fixture(scope="module")
def project(cluster, tmp_path_factory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"), {"algorithms/faulty.py": FAULTY}, loss_check_interval=2)
    (project.root / "armed").mkdir()
    return project


def on_slurm(out: Path, *more: str) -> list[str]:
    slurm = ["--launcher", "slurm", "--slurm-partition", "tests", "--slurm-array-parallelism", "2", "--slurm-time", "30"]
    return [*slurm, "--out", str(out), *more]


@pytest.mark.slurm
def test_an_array_with_two_jobs_preempted_gives_what_the_pool_gives(project):
    local = project.fresh()
    assert project.run(*SWEEP, "--workers", "2", "--out", local).code == 0
    assert len(results(local)) == 20
    (project.root / "armed" / "slows").write_text("always")
    out = project.fresh()
    running = project.start(*on_slurm(out, *SWEEP))
    preempted = []

    def preempt() -> bool:
        """Requeue two jobs that have saved a checkpoint."""
        for path in out.glob("runs/slows/.*.checkpoint"):
            log = out / "logs" / "slows" / f"{path.stem[1:]}.log"
            job = re.search(r", job (\d+_\d+),", log.read_text())[1]
            if len(preempted) < 2 and job not in preempted and ".part" not in path.name:
                subprocess.run(["scontrol", "requeue", job], check=True)
                preempted.append(job)
        return len(preempted) == 2 or running.over()

    until(preempt)
    assert len(preempted) == 2, running.ended()
    assert " 0 failed, 0 stale" in project.run("--status", "--out", out).out
    until(running.over, 600)
    ended = running.ended()
    assert ended.code == 0, ended
    assert results(out) == results(local)
    assert not leftovers(out)
    jobs = {path.name.partition("_0_log")[0]: path.read_text() for path in out.glob("logs/slurm/*_log.out")}
    assert len(jobs) == 20
    assert all("done   1/1" in said and ("Traceback" not in said or job in preempted) for job, said in jobs.items()), jobs
    logs = [path.read_text() for path in out.glob("logs/slows/*.log")]
    assert sum(log.count("; process ") == 2 for log in logs) == 2, logs  # the preempted ones, started twice
    for log in logs:
        if log.count("; process ") == 2:
            after = log.rpartition("; process ")[2]
            assert "update 0 of 40" not in after  # from the checkpoint
    assert "20 finished (40 seeds), 0 running, 0 interrupted, 0 failed" in project.run("--status", "--out", out).out


@pytest.mark.slurm
def test_a_job_that_reaches_its_time_limit_resumes_from_its_checkpoint(project):
    """A limit of three minutes for two minutes of work. SLURM sends its warning 30 to 90 seconds after the start, and a requeued job waits
    for two minutes."""
    out, local = project.fresh(), project.fresh()
    assert project.run("--algo", "bc", "--env", "xor-ab", *SMALL, "--out", local).code == 0
    (project.root / "armed" / "slows").write_text("3")
    running = project.start(*on_slurm(out, "--algo", "slows", "--env", "xor-ab", *SMALL, "--slurm-time", "3"))
    until(running.over, 900)
    ended = running.ended()
    assert ended.code == 0, ended
    (rows,), (theirs,) = results(out).values(), results(local).values()
    assert rows.replace(b"slows", b"bc") == theirs
    (log,) = out.glob("logs/slows/*.log")
    begun = log.read_text().split("; process ")
    assert len(begun) > 2
    assert all("stopped; checkpoint saved" in part for part in begun[1:-1])
    assert all("update 0 of 40" not in part for part in begun[2:])


@pytest.mark.slurm
def test_failures_and_user_errors_are_reported(project):
    out = project.fresh()
    (project.root / "armed" / "raises").write_text("always")
    ended = project.run(*on_slurm(out, "--algo", "raises", "bc", "--env", "xor-ab", *SMALL, "--retries", "0"))
    assert ended.code == 1
    assert [line for line in ended.err.splitlines() if line.startswith("FAILED raises on xor-ab") and "ValueError: bad luck" in line]
    assert next(iter(results(out))).startswith("runs/bc/")
    ended = project.run(*on_slurm(out, "--algo", "inspo", "--env", "xor-ab", *SMALL, "--slurm-partition", "nowhere"))
    assert ended.code == 2
    assert ended.err.splitlines()[-1].startswith("error: SLURM refuses the job: ")  # after what sbatch says
    assert "nvalid partition" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err


@pytest.mark.slurm
def test_the_makefile_installs_and_runs_it():
    assert "slurm-wlm munge" in (ROOT / "Makefile").read_text()


OWN_METHOD = """
from dataclasses import dataclass

from inspo_benchmark.algorithms.bc import BC
from inspo_benchmark.core.registry import ALGORITHMS


@ALGORITHMS.register("own")
class Own(BC):
    @dataclass(frozen=True)
    class Config(BC.Config):
        extra: float = 1.0
"""
SAVE = """
import pickle, sys
from pathlib import Path
from inspo_benchmark.running.pool import Limits
from inspo_benchmark.running.planning import plan
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.running.slurm import Job
ALGORITHMS.discover(), TASKS.discover()
[experiment] = plan(["own"], ["xor-ab"], (0,), [], Path(sys.argv[1]), dry_run=True)
print(pickle.dumps(Job(experiment, "cpu", Limits())).hex())
"""
LOAD = "import pickle, sys; print(pickle.loads(bytes.fromhex(sys.argv[1])).experiment.config.extra)"


def test_a_job_brings_the_method_of_a_users_own_file(tmp_path):
    (tmp_path / "own_method.py").write_text(OWN_METHOD)
    env = os.environ | {"INSPO_BENCHMARK_MODULES": str(tmp_path / "own_method.py")}

    def python(code: str, argument: str) -> str:
        return subprocess.run([sys.executable, "-c", code, argument], env=env, capture_output=True, text=True, check=True).stdout.strip()

    assert python(LOAD, python(SAVE, str(tmp_path))) == "1.0"


def test_an_experiment_whose_seeds_another_sweep_has_trained_is_finished(monkeypatch, tmp_path, capsys):
    ALGORITHMS.discover(), TASKS.discover()
    lost, mine = (Experiment("bc", task, settings("bc", task, {}), (0, 1), "", tmp_path) for task in ("xor-all", "xor-ab"))
    for part in (replace(mine, seeds=(seed,)) for seed in mine.seeds):
        part.json_path.parent.mkdir(parents=True, exist_ok=True)
        part.json_path.write_text(json.dumps(part.metadata | {"wall_seconds": 1.0}))
        part.csv_path.touch()
    for name, value in {"POLL_INTERVAL": 0.01, "QUEUE_INTERVAL": 0.0, "LOST_AFTER": 0.1, "queued_jobs": set}.items():
        monkeypatch.setattr(slurm, name, value)
    outcome = slurm.watch({lost: "1_0", mine: "1_1"}, ["1"], Limits(), Eta({}), ProgressDisplay(), 2)
    assert list(outcome.failed) == [lost]
    assert f"done   1/2 {mine}" in capsys.readouterr().err
