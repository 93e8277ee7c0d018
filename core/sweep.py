"""Many cells in a few processes: a worker that dies takes its own cell with it and nothing else."""

import multiprocessing
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from typing import NamedTuple

from tqdm import tqdm

from core.cell import Cell
from core.errors import UserError
from core.registry import ALGORITHMS, TASKS
from core.trainer import Diverged

BUSY = "busy"  # another process is at the cell


class Worker(NamedTuple):
    process: multiprocessing.process.BaseProcess
    news: Connection
    cell: Cell


def sweep(cells: Sequence[Cell], workers: int, device: str) -> dict[Cell, str]:
    """Run the cells, `workers` at a time, each in a process of its own: cell -> what went wrong, empty if nothing did.

    Cells that another sweep is at are left to it, and waited for at the end.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["core.sweep"])
    resource_tracker.ensure_running()  # it unblocks signals when it starts
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # inherited by the server and its workers: this process stops them
    forkserver.ensure_running()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    failed, waiting, later = {}, list(cells), []
    running: dict[Connection, Worker] = {}
    done = dict.fromkeys(cells, 0)
    bar = tqdm(
        total=sum(cell.config.steps for cell in cells),
        unit=" updates",
        unit_scale=True,
        smoothing=0.02,
        disable=not sys.stderr.isatty(),
        bar_format="{percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt}{unit} [{elapsed} < {remaining}]{postfix}",
    )
    finished = 0
    try:
        while waiting or running or later:
            patient = not waiting and not running
            if patient:
                waiting, later = later, []
            while waiting and len(running) < workers:
                cell = waiting.pop(0)
                news, end = context.Pipe(duplex=False)
                process = context.Process(target=work, args=(cell, device, end, patient), daemon=True)
                process.start()
                end.close()
                running[news] = Worker(process, news, cell)
            for news in wait(list(running)):
                worker = running[news]
                try:
                    kind, value = news.recv()
                except (EOFError, OSError):  # the worker is gone, without a word or in the middle of one
                    worker.process.join()
                    code = worker.process.exitcode
                    kind, value = "failed", f"its process ended with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
                if kind == "progress":
                    step, score = value
                    bar.update(step - done[worker.cell])
                    done[worker.cell] = step
                    if score is not None:
                        bar.set_postfix_str(f"{worker.cell.algo} on {worker.cell.task}: return {score:.3g}")
                    continue
                worker.process.join()
                del running[news]
                if kind == BUSY:
                    later.append(worker.cell)
                    continue
                finished += 1
                bar.update(worker.cell.config.steps - done[worker.cell])
                if kind == "failed":
                    failed[worker.cell] = value
                tqdm.write(f"{'FAILED' if kind == 'failed' else 'done  '} {finished}/{len(cells)} {worker.cell}", file=sys.stderr)
    finally:
        for worker in running.values():
            worker.process.terminate()
        bar.close()
    return failed


def work(cell: Cell, device: str, news: Connection, patient: bool) -> None:
    """In the worker: fill the registries, then the cell, and say how it ended."""
    ALGORITHMS.discover(), TASKS.discover()
    last = time.monotonic()

    def progress(step: int, score: float | None) -> None:
        nonlocal last
        if score is not None or time.monotonic() - last > 0.2:
            last = time.monotonic()
            news.send(("progress", (step, score)))

    try:
        news.send(("done", None) if cell.run(device, progress, wait=patient) else (BUSY, None))
    except (UserError, Diverged) as error:
        news.send(("failed", str(error)))
    except BrokenPipeError:  # the parent is gone: nobody is left to tell
        return
    except Exception:
        news.send(("failed", traceback.format_exc()))
