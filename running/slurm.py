"""The same sweep on a cluster: an array job with one cell per task, each under the supervision that it has at home.

What became of a cell is judged by its files, as everywhere: SLURM's own word about ended jobs needs a database that small sites lack.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.running.eta import Eta
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.pool import Limits, Outcome, result_summary, run_pool
from inspo_benchmark.running.progress import ProgressDisplay, RunningLine, SweepState
from inspo_benchmark.running.results import read_record
from inspo_benchmark.running.status import reached

ROOT = Path(__file__).parents[1]
POLL, ASK = 2.0, 10.0  # seconds between looks at the files, and questions to SLURM
TIMEOUTS = 50  # times that a job may reach its time limit and go on in the queue
LOST = 60.0  # seconds until a job that left the queue without a file counts as lost: shared disks show files late
ROOM = 2 << 30  # bytes that a job needs beside its cell: the processes that supervise it


class Options(NamedTuple):
    """What to ask SLURM for."""

    partition: str | None
    parallelism: int  # jobs at a time
    minutes: int  # of a job; one that needs more goes on from its checkpoint
    more: dict[str, str]  # further options of sbatch


@dataclass
class Task:
    """What a job does; submitit calls it, and again when the job was queued again."""

    cell: Experiment
    device: str
    limits: Limits

    def __call__(self) -> None:
        ALGORITHMS.discover(), TASKS.discover()
        run_pool([self.cell], 1, [self.device], self.limits, Eta({}))

    def checkpoint(self):
        """The cell has its own: just start again."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def run_on_slurm(cells: Sequence[Experiment], device: str, limits: Limits, pace: Eta, options: Options) -> Outcome:
    """Submit the cells and watch them. KeyboardInterrupt: the jobs go on."""
    if not cells:
        return Outcome({}, [])
    for cell in cells:
        if (read_record(cell.note) or {}).get("reason"):  # or it would count as failed now
            cell.note.unlink(missing_ok=True)
    jobs = submit(cells, device, limits, options)
    arrays = sorted({job.partition("_")[0] for job in jobs.values()})
    with ProgressDisplay() as view:
        view.say(f"{len(cells)} cells are in SLURM's queue as job {', '.join(arrays)}; Ctrl-C leaves them there, scancel ends them")
        return watch(jobs, arrays, limits, pace, view, options.parallelism)


def submit(cells: Sequence[Experiment], device: str, limits: Limits, options: Options) -> dict[Experiment, str]:
    """Cell -> job."""
    try:
        import submitit
    except ImportError:
        raise UserError("--launcher slurm needs submitit: python -m pip install submitit==1.5.4") from None
    if not shutil.which("sbatch"):
        raise UserError("--launcher slurm: there is no sbatch here; run this on a machine that submits to SLURM")
    folder = cells[0].out / "logs" / "slurm"
    executor = submitit.SlurmExecutor(folder=folder, max_num_timeout=TIMEOUTS)
    executor.update_parameters(
        job_name="sweep",
        partition=options.partition,
        array_parallelism=options.parallelism,
        time=options.minutes,
        cpus_per_task=1,
        gpus_per_node=1 if device.startswith("cuda") else None,
        mem=f"{int((limits.memory + ROOM) / 2**20)}M" if limits.memory < float("inf") else None,
        stderr_to_stdout=True,
        additional_parameters={"requeue": True, "chdir": str(ROOT), **options.more},
    )
    alone = limits._replace(seconds=float("inf"), fail_fast=False)
    size, jobs = largest_array(), {}
    try:
        for k in range(0, len(cells), size):
            some = cells[k : k + size]
            jobs |= zip(some, (job.job_id for job in executor.submit_array([Task(cell, device, alone) for cell in some])))
    except submitit.core.utils.FailedJobError as error:
        raise UserError(f"SLURM refuses: {str(error).strip().splitlines()[-1]}") from None
    return jobs


def watch(jobs: dict[Experiment, str], arrays: list[str], limits: Limits, pace: Eta, view: ProgressDisplay, parallelism: int) -> Outcome:
    """Until all have ended, one way or the other."""
    began, asked, seen, gone = time.monotonic(), time.monotonic(), {}, {}
    waiting, failed, done = dict(jobs), {}, 0
    while waiting:
        time.sleep(POLL)
        now = time.monotonic()
        if now - asked > ASK:
            queue, asked = queued(), now
            if queue is not None:
                gone = {job: gone.get(job, now) for job in waiting.values() if job not in queue}
        for cell, job in list(waiting.items()):
            why = (read_record(cell.note) or {}).get("reason", "")
            if cell.path.exists():
                done += 1
                view.say(f"done   {done + len(failed)}/{len(jobs)} {cell}{result_summary(cell, pace)}")
            elif why or now - gone.get(job, now) > LOST:
                failed[cell] = why or f"job {job} ended without a word (logs/slurm/{job}_0_log.out)"
                view.say(f"FAILED {done + len(failed)}/{len(jobs)} {cell}")
            else:
                continue
            del waiting[cell]
        if waiting and (now - began > limits.seconds or (failed and limits.fail_fast)):
            subprocess.run(["scancel", *arrays], check=False)  # its SIGTERM makes them leave checkpoints
            break
        if view.due():
            lines = []
            for cell in waiting:
                if cell.note.exists():
                    at = re.match(r"step (\d+) of \d+: return (\S+)", reached(cell.out, cell.note))
                    seconds = now - seen.setdefault(cell, now)
                    lines.append(RunningLine(cell, int(at[1]) if at else 0, float(at[2]) if at else None, seconds))
            running = [(line.cell, line.step / line.cell.config.num_updates, line.seconds) for line in lines]
            left = pace.left([cell for cell in waiting if cell not in seen], running, min(parallelism, len(jobs)))
            view.show(SweepState(len(jobs), done, len(failed), lines, left))
    return Outcome(failed, list(waiting))


def queued() -> set[str] | None:
    """The jobs that wait or run, "12_3" or "12"; None if SLURM does not answer."""
    try:
        said = subprocess.run(["squeue", "--noheader", "--array", "--format=%F_%K"], capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired:
        return None
    return None if said.returncode else {job.removesuffix("_N/A") for job in said.stdout.split()}


def largest_array() -> int:
    said = subprocess.run(["scontrol", "show", "config"], capture_output=True, text=True).stdout
    size = re.search(r"MaxArraySize\s*=\s*(\d+)", said)
    return int(size[1]) if size else 1000
