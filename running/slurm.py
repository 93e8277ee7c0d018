"""Runs a sweep on a SLURM cluster: an array job with one experiment per array task, each in a pool of its own.

The result of a job is read from its files, because SLURM's accounting of ended jobs needs a database that small sites lack.
"""

import getpass
import importlib.util
import os
import pickle
import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, MODULES, TASKS, own_files
from inspo_benchmark.datasets.catalog import DATA_FOLDER
from inspo_benchmark.datasets.catalog import VARIABLE as DATA
from inspo_benchmark.running.eta import Attempt, Eta
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.pool import Limits, Outcome, result_summary, run_pool
from inspo_benchmark.running.progress import ProgressDisplay, SweepState, plural
from inspo_benchmark.running.provenance import ROOT
from inspo_benchmark.running.results import is_finished, last_evaluation, read_record

POLL_INTERVAL = 2.0  # seconds between checks of the files
QUEUE_INTERVAL = 10.0  # seconds between calls of squeue
MAX_TIMEOUTS = 50  # times that a job may reach its time limit and return to the queue
LOST_AFTER = 60.0  # seconds after which a job that left the queue without files has failed; shared disks show files late
SUPERVISION_MEMORY = 2 << 30  # bytes of a job for the processes that supervise its experiment


class SlurmOptions(NamedTuple):
    """The request to SLURM."""

    partition: str | None
    parallelism: int  # jobs at a time
    minutes: int  # time limit of a job, which then resumes from its checkpoint
    more: dict[str, str]  # further options of sbatch


@dataclass
class Job:
    """One array task. submitit calls it, and calls it again after the job was requeued."""

    experiment: Experiment
    device: str
    limits: Limits

    def __reduce__(self):  # a Config of a method in the user's own file can be read only after the file was imported
        return unpickled, (pickle.dumps((self.experiment, self.device, self.limits)),)

    def __call__(self) -> None:
        run_pool([self.experiment], 1, [self.device], self.limits, Eta({}))

    def checkpoint(self):
        """Called at the time limit. The experiment has a checkpoint of its own, so that the job is submitted as it is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def unpickled(content: bytes) -> Job:
    """The job of these bytes, which are a part of the pickle that submitit reads."""
    ALGORITHMS.discover(), TASKS.discover()
    return Job(*pickle.loads(content))


def run_on_slurm(experiments: Sequence[Experiment], device: str, limits: Limits, eta: Eta, options: SlurmOptions) -> Outcome:
    """Submit the experiments and wait for them. After a KeyboardInterrupt the jobs continue."""
    for experiment in experiments:
        if (read_record(experiment.record_path) or {}).get("reason"):  # of an earlier failure, which must not count as one of this sweep
            experiment.record_path.unlink(missing_ok=True)
    jobs = submit(experiments, device, limits, options)
    arrays = _arrays(jobs)
    with ProgressDisplay() as display:
        display.print_line(
            f"submitted {plural(len(experiments), 'experiment')} to SLURM as job {', '.join(arrays)}; Ctrl-C leaves the jobs running, "
            "scancel ends them"
        )
        try:
            return watch(jobs, arrays, limits, eta, display, options.parallelism)
        except KeyboardInterrupt:
            display.print_line(f"the SLURM jobs continue; for their state: python run_benchmark.py --status --out {experiments[0].out}")
            raise


def _arrays(jobs: dict[Experiment, str]) -> list[str]:
    """The array jobs that hold these jobs."""
    return sorted({job.partition("_")[0] for job in jobs.values()})


def check_slurm() -> None:
    """UserError: jobs cannot be submitted from here."""
    if importlib.util.find_spec("submitit") is None:
        raise UserError("--launcher slurm needs submitit: python -m pip install submitit==1.5.4")
    if not shutil.which("sbatch"):
        raise UserError("--launcher slurm: sbatch was not found; run this on a machine that submits jobs to SLURM")


def submit(experiments: Sequence[Experiment], device: str, limits: Limits, options: SlurmOptions) -> dict[Experiment, str]:
    """Experiment -> its job. UserError: SLURM refuses."""
    import submitit  # here, because few have it

    executor = submitit.SlurmExecutor(folder=experiments[0].out / "logs" / "slurm", max_num_timeout=MAX_TIMEOUTS)
    executor.update_parameters(
        job_name="sweep",
        partition=options.partition,
        array_parallelism=options.parallelism,
        time=options.minutes,
        cpus_per_task=1,
        gpus_per_node=1 if device.startswith("cuda") else None,
        mem=f"{int((limits.memory + SUPERVISION_MEMORY) / 2**20)}M" if limits.memory < float("inf") else None,
        stderr_to_stdout=True,
        additional_parameters={"requeue": True, "chdir": str(ROOT), **options.more},
    )
    if files := own_files():  # the jobs get this environment, and have another working directory
        os.environ[MODULES] = os.pathsep.join(map(str, files))
    if os.environ.get(DATA):
        os.environ[DATA] = str(DATA_FOLDER)
    job_limits = limits._replace(max_seconds=float("inf"), fail_fast=False)
    size, jobs = max_array_size(), {}
    try:
        for k in range(0, len(experiments), size):
            part = experiments[k : k + size]
            submitted = executor.submit_array([Job(experiment, device, job_limits) for experiment in part])
            jobs |= zip(part, (job.job_id for job in submitted))
    except submitit.core.utils.FailedJobError as error:
        before = f" (after {', '.join(_arrays(jobs))}, which run: wait for them, or scancel them)" if jobs else ""
        raise UserError(f"SLURM refuses the job{before}: {str(error).strip().splitlines()[-1]}") from None
    return jobs


def watch(jobs: dict[Experiment, str], arrays: list[str], limits: Limits, eta: Eta, display: ProgressDisplay, parallelism: int) -> Outcome:
    """Wait until every job has finished or failed, or the sweep's time is over."""
    started = queue_checked = time.monotonic()
    waiting, failed, finished = dict(jobs), {}, 0
    first_seen: dict[Experiment, tuple[float, int]] = {}  # when a job was first seen to have started, and its update then
    left_queue: dict[str, float] = {}  # when a job was first missing from the queue
    while waiting:
        time.sleep(POLL_INTERVAL)
        now = time.monotonic()
        if now - queue_checked > QUEUE_INTERVAL:
            queue, queue_checked = queued_jobs(), now
            if queue is not None:
                left_queue = {job: left_queue.get(job, now) for job in waiting.values() if job not in queue}
        for experiment, job in list(waiting.items()):
            reason = (read_record(experiment.record_path) or {}).get("reason", "")
            ended = not reason and job in left_queue  # maybe without files of its own, because another sweep had trained its seeds
            if experiment.csv_path.exists() or (ended and is_finished(experiment)):
                finished += 1
                display.print_line(f"done   {finished + len(failed)}/{len(jobs)} {experiment}{result_summary(experiment, eta)}")
            elif reason or now - left_queue.get(job, now) > LOST_AFTER:
                failed[experiment] = reason or f"job {job} ended without a result (see logs/slurm/{job}_0_log.out)"
                display.print_line(f"FAILED {finished + len(failed)}/{len(jobs)} {experiment}")
            else:
                continue
            del waiting[experiment]
        if waiting and (now - started > limits.max_seconds or (failed and limits.fail_fast)):
            subprocess.run(["scancel", *arrays], check=False)  # sends SIGTERM, at which workers save checkpoints
            break
        if display.due():
            running = []
            for experiment in waiting:
                if record := read_record(experiment.record_path):
                    update, score = last_evaluation(record) or (0, None)
                    began, first_update = first_seen.setdefault(experiment, (now, update))
                    running.append(Attempt(experiment, first_update, update, now - began, score))
            queued = [experiment for experiment in waiting if experiment not in first_seen]
            seconds_left = eta.seconds_left(queued, running, min(parallelism, len(jobs)))
            display.draw(SweepState(len(jobs), finished, len(failed), running, seconds_left))
    return Outcome(failed, list(waiting))


def queued_jobs() -> set[str] | None:
    """The jobs that are pending or running, "12_3" or "12". None: SLURM does not answer."""
    command = ["squeue", f"--user={getpass.getuser()}", "--noheader", "--array", "--format=%F_%K"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    return None if answer.returncode else {job.removesuffix("_N/A") for job in answer.stdout.split()}


def max_array_size() -> int:
    config = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    size = re.search(r"MaxArraySize\s*=\s*(\d+)", config)
    return int(size[1]) if size else 1000
