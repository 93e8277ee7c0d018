"""Trains one experiment: draw a minibatch, update, and evaluate at regular intervals. A killed training that is started again gives the
same rows as an undisturbed one."""

import ctypes
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from inspo_benchmark.core.atomic_io import DamagedFile, load_checked, save_checked
from inspo_benchmark.core.types import State, Task
from inspo_benchmark.datasets.dataset import Dataset
from inspo_benchmark.learning.algorithm import Algorithm, Stage
from inspo_benchmark.learning.compiling import CannotCompile, Compilation
from inspo_benchmark.learning.cuda_graph import graph_update
from inspo_benchmark.learning.evaluate import MIN_DISTINCT, Evaluator
from inspo_benchmark.learning.normalize import Normalizer, normalize_dataset
from inspo_benchmark.learning.sampler import Sampler
from inspo_benchmark.learning.tracing import trace

TRACE_FROM = 100  # calls of `update` from which tracing it (2 s) pays
COMPILE_FROM = 4000  # calls of `update` from which compiling it (10 to 60 s) pays
LARGE_TRACED, LARGE = 1 << 17, 1 << 14  # units of a layer times rows of a minibatch, from which runs are faster one by one than packed
LOSS_CHECK_INTERVAL = 100  # calls of `update` between checks that the losses are finite
CHECKPOINT_INTERVAL = 20.0  # seconds

Row = tuple[int, int, str, float]  # seed, updates, metric, value
Progress = Callable[[int, float | None], None]  # called with the updates done and, after an evaluation, the mean return


class Diverged(Exception):
    """A loss is not finite. The message holds the update and the losses."""


class Stopped(Exception):
    """Raised by `progress` to stop early. A checkpoint is saved."""


class TrainingResult(NamedTuple):
    rows: list[Row]
    state: State
    normalizer: Normalizer  # of observations
    seconds: float  # including the time before an interruption
    evaluation_share: float  # of the time since then


@dataclass
class Checkpoint:
    """All that changes during training."""

    state: State
    rows: list[Row]
    losses: dict[str, tuple[Tensor, int]]  # since the last evaluation: sum over calls, float64 [S], and number of calls
    calls: int = 0  # of `update` so far
    seconds: float = 0.0  # of training until it was saved
    key: str = ""  # of the experiment, a hash of its method, task, settings, data and seeds

    def save(self, path: Path) -> None:
        leaves, _ = tree_flatten(self.state)
        save_checked([leaves, self.rows, self.losses, self.calls, self.seconds, self.key], path)

    def load(self, path: Path, device: str) -> "Checkpoint":
        """The saved checkpoint, with the structure of this one. This one, with a warning, if the file cannot be used."""

        def restore(content: list) -> "Checkpoint":
            leaves, rows, losses, calls, seconds, key = content
            own, structure = tree_flatten(self.state)
            if key != self.key:
                raise ValueError("of another experiment")
            if [(x.shape, x.dtype) for x in leaves] != [(x.shape, x.dtype) for x in own]:
                raise ValueError("made by other code")
            sums = all(total.dtype == torch.float64 and type(count) is int for total, count in losses.values())
            table = all([*map(type, row)] == [int, int, str, float] for row in rows)
            if not sums or not table or type(calls) is not int or type(seconds) is not float:
                raise ValueError("rows or losses that no training has")
            return Checkpoint(tree_unflatten([x.to(device) for x in leaves], structure), rows, losses, calls, seconds, key)

        try:
            return load_checked(path, restore)
        except DamagedFile as e:
            print(f"warning: {path} cannot be used ({e}); training starts from the beginning")
            return self


class Training:
    """The training of all seeds of an experiment as one batch."""

    def __init__(self, algorithm: Algorithm, task: Task, data: Dataset, seeds: tuple[int, ...], device: str, path: Path, key: str = ""):
        """`path`: the checkpoint, which is loaded if it exists. `key`: of the experiment; a checkpoint with another key is not used."""
        self.started = time.monotonic()
        self.algorithm, self.task, self.seeds, self.path = algorithm, task, seeds, path
        cfg, turns = algorithm.cfg, algorithm.turns
        data, self.normalizer = normalize_dataset(data)
        data = algorithm.prepare_data(data)
        self.sampler = Sampler(data, cfg.batch_size, cfg.seq_len, turns, algorithm.noise(), seeds, device, cfg.burn_in)
        self.evaluator = Evaluator(algorithm, task, seeds, self.normalizer)
        self.current = Checkpoint(tree_map(lambda x: x.to(device), algorithm.init(seeds)), [], {}, key=key)
        if path.exists():
            self.current = self.current.load(path, device)
        self.earlier_seconds = self.current.seconds
        self.saved = time.monotonic()
        self.stage = ""  # whose update is prepared
        self.next: Compilation | None = None  # of the update of the stage after it
        self.one_by_one = False  # whether it is the update of a single run
        self.device, self.evaluation_seconds = torch.device(device).type, 0.0

    @property
    def updates(self) -> int:
        """Updates done."""
        return self.current.calls // self.algorithm.turns

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started + self.earlier_seconds

    def evaluated(self, update: int) -> bool:
        return any(row[1] == update for row in self.current.rows)

    def step(self, update: int) -> None:
        """Train until this update, but at most until the end of a stage and for LOSS_CHECK_INTERVAL calls."""
        turns, calls = self.algorithm.turns, self.current.calls
        stage, last = self.algorithm.stage_at(calls // turns)
        if self.stage != stage.name:
            self.prepare(stage, last)
        end = min(calls + LOSS_CHECK_INTERVAL, min(update, last) * turns)
        self.current = run_updates(self.current, self.update, self.sampler, end, turns, self.one_by_one)

    def prepare(self, stage: Stage, last: int) -> None:
        """Prepare the update of a stage at its first step, which has a batch to trace it with. `last`: the update at the end of the stage.
        A process of its own then compiles the update of the next stage."""
        example = self.current.state, *self.sampler.draw(self.current.calls)
        update, own, calls = self.of_stage(stage, example)
        self.update = prepare_update(update, own, calls, self.next)
        self.stage, self.one_by_one, self.next = stage.name, len(own[0].step) < len(self.seeds), None
        if last < self.algorithm.cfg.num_updates:
            update, own, calls = self.of_stage(self.algorithm.stage_at(last)[0], example)
            if is_compiled(calls, self.device):
                self.next = Compilation(update, *own)
                self.next.start()

    def of_stage(self, stage: Stage, example: tuple[Any, ...]) -> tuple[Callable, tuple[Any, ...], int]:
        """The update of a stage, for as many runs as a call takes there, its part of the example, and the number of calls."""
        calls = stage.num_updates * self.algorithm.turns
        runs = runs_per_call(self.algorithm, len(self.seeds), calls, self.device)
        return self.algorithm.pack(runs, stage), tree_map(itemgetter(slice(runs)), example), calls

    def evaluate(self, update: int) -> float:
        """Add the rows of this update: scores, and mean losses since the last evaluation. Returns the mean return over seeds."""
        last, task, current = update == self.algorithm.cfg.num_updates, self.task, self.current
        started = time.monotonic()
        scores = self.evaluator(current.state, task.final_episodes if last else task.eval_episodes)
        self.evaluation_seconds += time.monotonic() - started
        if last:
            warn_about_equal_episodes(self.seeds, scores.get("distinct_episodes", ()))
        losses = {name: (total / calls).numpy() for name, (total, calls) in current.losses.items()}
        if taken := scores.keys() & losses.keys():
            raise TypeError(f"`update` logs {', '.join(sorted(taken))}, the name of a score; give it another name")
        for k, seed in enumerate(self.seeds):
            current.rows += [(seed, update, metric, float(values[k])) for metric, values in (scores | losses).items()]
        current.losses = {}
        return float(scores["return"].mean())

    def save(self) -> None:
        self.current.seconds = self.seconds
        self.current.save(self.path)
        self.saved = time.monotonic()


def train(
    algorithm: Algorithm,
    task: Task,
    data: Dataset,
    seeds: tuple[int, ...],
    device: str,
    checkpoint: Path,
    progress: Progress,
    key: str = "",
    log: Callable[[list[Row]], None] = lambda rows: None,
) -> TrainingResult:
    """Train and evaluate all seeds. `checkpoint` is written regularly and resumed from if it exists and has the same `key`. `log` is given
    the rows of every evaluation, and at the start those of the checkpoint.

    Diverged: a loss is not finite. Stopped: raised by `progress`.
    """
    torch.set_num_threads(1)  # one core per experiment, and the same sums on every machine
    keep_freed_memory()
    training = Training(algorithm, task, data, seeds, device, checkpoint, key)
    num_updates = algorithm.cfg.num_updates
    log(training.current.rows)
    try:
        for update in sorted({round(k * num_updates / task.num_evals) for k in range(task.num_evals + 1)}):
            while training.updates < update:
                training.step(update)
                progress(training.updates, None)
                if time.monotonic() - training.saved > CHECKPOINT_INTERVAL:
                    training.save()
            if not training.evaluated(update):
                known = len(training.current.rows)
                score = training.evaluate(update)
                log(training.current.rows[known:])
                progress(update, score)
    except Stopped:
        training.save()
        raise
    finally:
        if training.next:
            training.next.stop()
        training.evaluator.close()
    share = training.evaluation_seconds / (training.seconds - training.earlier_seconds)
    return TrainingResult(training.current.rows, training.current.state, training.normalizer, training.seconds, share)


def keep_freed_memory() -> None:
    """Keep the memory of freed tensors in this process, where the C library can do so. Otherwise each large tensor of an update is new
    memory, which the system clears page by page."""
    with suppress(OSError, TypeError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for option, size in ((-3, 1 << 28), (-1, 1 << 30)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            mallopt(option, size)


def warn_about_equal_episodes(seeds: Sequence[int], distinct: Iterable[float]) -> None:
    """`distinct`: the share of distinct episodes in each seed's last evaluation."""
    if alike := [str(seed) for seed, share in zip(seeds, distinct) if share < MIN_DISTINCT]:
        which = f"policies of seeds {', '.join(alike)} act" if len(alike) > 1 else f"policy of seed {alike[0]} acts"
        print(f"warning: the greedy {which} (nearly) the same in all evaluation episodes: their scores are those of a few episodes")


def run_updates(current: Checkpoint, update: Callable, sampler: Sampler, end: int, turns: int, one_by_one: bool = False) -> Checkpoint:
    """Call `update` until `end` calls are done. The losses are checked afterwards, so that the device need not wait after each call.

    `one_by_one`: `update` takes a single run, and the runs train one after the other.
    """
    calls = range(current.calls, end)
    if one_by_one:
        runs = [tree_map(itemgetter(slice(k, k + 1)), current.state) for k in range(len(sampler.seeds))]
        parts = [call_each(update, run, sampler.for_seeds([seed]), calls) for run, seed in zip(runs, sampler.seeds, strict=True)]
        states, logs = zip(*parts)
        state, logged = tree_map(lambda *x: torch.cat(x), *states), tree_map(lambda *x: torch.cat(x, 1), *logs)
    else:
        state, logged = call_each(update, current.state, sampler, calls)
    finite = torch.stack([x.isfinite().all(1) for x in logged.values()]).all(0)
    if not finite.all():
        k = int(finite.int().argmin())
        values = ", ".join(f"{name} {[float(f'{v:.4g}') for v in x[k]]}" for name, x in logged.items())
        raise Diverged(
            f"training diverged at update {(current.calls + k) // turns}: {values}; a lower learning rate may help: --set lr=..."
        )
    losses = dict(current.losses)
    for name, x in logged.items():
        total, count = losses.get(name, (0, 0))
        losses[name] = total + x.sum(0), count + len(x)
    return Checkpoint(state, current.rows, losses, end, key=current.key)


def call_each(update: Callable, state: State, sampler: Sampler, calls: range) -> tuple[State, dict[str, Tensor]]:
    """The state after these calls of `update`, and what they logged, float64 [calls, S] on the CPU."""
    logs = []
    with torch.no_grad():
        for inputs in sampler.draws(calls):
            state, log = update(state, *inputs)
            logs.append(log)
    return state, {name: torch.stack([log[name] for log in logs]).double().cpu() for name in logs[0]}


def runs_per_call(algorithm: Algorithm, seeds: int, calls: int, device: str = "cpu") -> int:
    """How many of the packed runs one call of the prepared update takes: all, or one where the layers of a run are so large that those of
    several leave the cache of a core, if `update` is called often enough to be traced or compiled for it."""
    cfg = algorithm.cfg
    size = cfg.hidden_dim * cfg.batch_size * cfg.seq_len * algorithm.spec.num_agents
    return 1 if device == "cpu" and size >= (LARGE if is_compiled(calls, device) else LARGE_TRACED) else seeds


def is_compiled(calls: int, device: str) -> bool:
    """Whether an update that is called so often is compiled, if there is a compiler."""
    return device == "cpu" and calls >= COMPILE_FROM


def prepare_update(update: Callable, example: tuple[Any, ...], calls: int, begun: Compilation | None = None) -> Callable:
    """The faster form of `update` that pays for this number of calls: unchanged, traced to a flat list of operations, or compiled if there
    is a compiler. On a GPU it is traced and replayed as a CUDA graph. `begun`: its compilation, if that has begun already."""
    if calls < TRACE_FROM:
        return update
    device = tree_flatten(example)[0][0].device.type
    with torch.no_grad():
        if device == "cuda":
            return graph_update(trace(update, *example), *example)
        if not is_compiled(calls, device):
            return trace(update, *example)
        try:
            return (begun or Compilation(update, *example)).finish()
        except CannotCompile as reason:
            print(f"warning: compilation failed ({reason}); training continues without, more slowly")
            return trace(update, *example)
