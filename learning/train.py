"""One cell's training: draw, update, now and then evaluate; rows out. Killed and started again, it gives the same rows."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from inspo_benchmark.core.atomic_io import DamagedFile, load_checked, save_checked
from inspo_benchmark.core.types import State, Task
from inspo_benchmark.datasets.dataset import Dataset
from inspo_benchmark.learning.algorithm import Algorithm
from inspo_benchmark.learning.evaluate import Evaluator
from inspo_benchmark.learning.normalize import Normalizer, normalize_dataset
from inspo_benchmark.learning.sampler import Sampler

TRACE_FROM, COMPILE_FROM = 100, 4000  # calls of `update` from which it pays to trace it (2 s), and to compile it (about 80 s)
LOOK = 100  # calls between looks at the losses
SAVE = 20.0  # seconds between checkpoints

Row = tuple[int, int, str, float]  # seed, step, metric, value
Progress = Callable[[int, float | None], None]  # updates done, last mean return


class Diverged(Exception):
    """A loss that is not a number: the run stops, with the step and the losses."""


class Stopped(Exception):
    """Raised by `progress` to end a run early: it leaves a checkpoint of where it is."""


def train(
    algorithm: Algorithm, task: Task, data: Dataset, seeds: tuple[int, ...], device: str, checkpoint: Path, progress: Progress
) -> tuple[list[Row], State, Normalizer, float]:
    """Rows of all seeds, trained as one batch, where they ended, the scale of the observations that they act on, and the seconds that it
    took, those before an interruption included; `checkpoint` is written on the way and read if it is there."""
    began = time.monotonic()

    def spent() -> float:
        return time.monotonic() - began + before

    def tell(step: int, score: float | None) -> None:
        try:
            progress(step, score)
        except Stopped:
            save()
            raise

    def save() -> None:
        run.seconds = spent()
        run.save(checkpoint)

    torch.set_num_threads(1)  # the same sums on every machine, and one cell per core
    cfg, turns = algorithm.cfg, algorithm.turns
    data, scale = normalize_dataset(data)
    sampler = Sampler(data, task.spec, cfg.batch_size, cfg.seq_len, turns, algorithm.noise(), seeds, device, cfg.burn_in)
    evaluate = Evaluator(algorithm, task, seeds, device, scale)
    run = Training(tree_map(lambda x: x.to(device), algorithm.init(seeds)), [], {}, 0)
    if checkpoint.exists():
        run = run.load(checkpoint, device)
    before = run.seconds
    points = sorted({round(k * cfg.num_updates / task.num_evals) for k in range(task.num_evals + 1)})
    step, saved = None, time.monotonic()
    for point in points:
        while run.done < point * turns:
            end = min(run.done + LOOK, point * turns)
            if step is None:
                step = prepare_update(algorithm.pack(len(seeds)), (run.state, *sampler.draw(run.done)), cfg.num_updates * turns)
            run = run_updates(run, step, sampler, end, turns)
            tell(run.done // turns, None)
            if time.monotonic() - saved > SAVE:
                save()
                saved = time.monotonic()
        if not any(row[1] == point for row in run.rows):
            scores = evaluate(run.state, task.final_episodes if point == cfg.num_updates else task.eval_episodes)
            means = {name: total / run.counted for name, total in run.sums.items()}
            rows = [(seed, point, metric, float(value[k])) for k, seed in enumerate(seeds) for metric, value in {**scores, **means}.items()]
            run = Training(run.state, run.rows + rows, {}, run.done)
            tell(point, float(scores["return"].mean()))
    evaluate.close()
    return run.rows, run.state, scale, spent()


class Training:
    """Where a training stands: the state, the rows so far, the sums of what was logged since the last row, the calls done, and
    the seconds that it took when it was saved."""

    def __init__(self, state: State, rows: list[Row], sums: dict[str, torch.Tensor], done: int, counted: int = 0, seconds: float = 0.0):
        self.state, self.rows, self.sums, self.done, self.counted, self.seconds = state, rows, sums, done, counted, seconds

    def save(self, path: Path) -> None:
        leaves, _ = tree_flatten(self.state)
        save_checked([leaves, self.rows, self.sums, self.done, self.counted, self.seconds], path)

    def load(self, path: Path, device: str) -> "Training":
        """The saved run, in the structure of this one; this one, with a note, if the file is damaged."""

        def resumed(x: list) -> "Training":
            leaves, *rest = x
            mine, structure = tree_flatten(self.state)
            if [x.shape for x in leaves] != [x.shape for x in mine]:
                raise ValueError("made by other code")
            return Training(tree_unflatten([x.to(device) for x in leaves], structure), *rest)  # the rest stays where it was made

        try:
            return load_checked(path, resumed)
        except DamagedFile as e:
            print(f"note: {path} cannot be used ({e}); training starts from the beginning")
            return self


def run_updates(run: Training, step: Callable, sampler: Sampler, end: int, turns: int) -> Training:
    """Calls of `step` up to number `end`. Losses are looked at together, so that a device need not wait for each."""
    state, seen = run.state, []
    with torch.no_grad():
        for call in range(run.done, end):
            state, logs = step(state, *sampler.draw(call))
            seen.append(logs)
    logs = {name: torch.stack([x[name] for x in seen]).double().cpu() for name in seen[0]}  # [calls, S]
    finite = torch.stack([x.isfinite().all(1) for x in logs.values()]).all(0)
    if not finite.all():
        k = int(finite.int().argmin())
        losses = ", ".join(f"{name} {[float(f'{v:.4g}') for v in x[k]]}" for name, x in logs.items())
        raise Diverged(f"step {(run.done + k) // turns}: not a finite number among {losses}")
    sums = {name: run.sums.get(name, 0) + x.sum(0) for name, x in logs.items()}
    return Training(state, run.rows, sums, end, run.counted + end - run.done)


def prepare_update(step: Callable, example: tuple[Any, ...], calls: int) -> Callable:
    """`step` as fast as so many calls repay: as it is, traced to a flat list of operations, or compiled if there is a compiler."""
    if calls < TRACE_FROM:
        return step
    with torch.no_grad():
        traced = make_fx(step)(*example)
        if calls < COMPILE_FROM:
            return traced
        from torch._dynamo.exc import TorchDynamoException  # imports that take seconds, which only those who compile should wait for
        from torch._inductor.exc import InductorError
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        try:
            lock = Path(cache_dir()) / "compiling.lock"
            lock.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(lock):  # cells of one shape compile once: the next finds it in the cache
                compiled = torch.compile(traced, fullgraph=True, dynamic=False)
                compiled(*example)
            return compiled
        except (TorchDynamoException, InductorError) as error:
            print(f"note: no compiled training here ({str(error).strip().splitlines()[0][:120]}); going on without, slower")
            return traced
