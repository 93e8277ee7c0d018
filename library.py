"""The library: load data, train, evaluate, from a script or a notebook. `import inspo_benchmark as ib` offers these names.

    data = ib.load_dataset("3m-medium")
    result = ib.train("inspo", "3m-medium", seeds=5, num_updates=100)
    result.frame                      # one row per seed, step and metric
    result.evaluate(episodes=320)     # one row per seed and episode
    ib.evaluate(result.policy(0), "3m-medium")

Errors in the input are UserErrors whose message says what to do.
"""

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from numbers import Integral
from operator import index
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from inspo_benchmark.core.env import Observation, VecEnv
from inspo_benchmark.core.errors import UserError, whole_number
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.core.types import State, Task
from inspo_benchmark.datasets.catalog import dataset_path, fetch
from inspo_benchmark.datasets.dataset import Dataset, as_array
from inspo_benchmark.datasets.format import load
from inspo_benchmark.datasets.validate import problems
from inspo_benchmark.learning import train as training
from inspo_benchmark.learning.algorithm import Algorithm
from inspo_benchmark.learning.evaluate import Evaluator
from inspo_benchmark.learning.normalize import Normalizer
from inspo_benchmark.learning.saved_policy import GreedyPolicy, SavedPolicies
from inspo_benchmark.running.devices import check_device
from inspo_benchmark.running.progress import activity
from inspo_benchmark.running.results import COLUMNS
from inspo_benchmark.running.settings import settings as settings_of

Policy = Callable[[Observation], np.ndarray]  # observations of E environments -> actions [E, N], or [E, N, D] in [-1, 1]


def list_algorithms() -> list[str]:
    """The names of all methods."""
    return list(ALGORITHMS.discover())


def list_tasks(pattern: str = "*") -> list[str]:
    """The names of all tasks that match a pattern such as "3m-*"."""
    return TASKS.discover().match([pattern])


def load_dataset(task: str | Path) -> Dataset:
    """The dataset of a task, which is built on first use, or a dataset file (a path that ends in .h5)."""
    if str(task).endswith(".h5"):
        return load(Path(task))
    found = _task(str(task))
    with activity(f"building the dataset of {task}, once") if _interactive() and not dataset_path(found).exists() else nullcontext():
        path = fetch(found)
    return load(path, found)


@dataclass(frozen=True)
class Result:
    """What `train` returns: the learned policies of all seeds and the rows of their evaluations."""

    algo: str
    task: Task
    algorithm: Algorithm
    seeds: tuple[int, ...]
    state: State
    normalizer: Normalizer
    frame: pd.DataFrame  # columns algo, task, seed, step, metric, value

    def policy(self, seed: int | None = None) -> GreedyPolicy:
        """The greedy policy of one seed (default: the first) as a function of observations. Call it from the start of an episode on, and
        its `reset` before the next episodes: a recurrent policy keeps its state between calls. UserError: no such seed."""
        params = self.algorithm.acting_params(self.state)
        saved = SavedPolicies(self.algorithm, self.task.name, self.seeds, params, self.normalizer)
        return saved.greedy_policy(self.seeds[0] if seed is None else seed)

    def evaluate(self, episodes: int = 32, sampled: bool = False) -> pd.DataFrame:
        """One row per seed and episode: seed, episode, return, length and, where winning has a meaning, win_rate (0 or 1). All seeds
        play the same episodes. sampled: with actions drawn from the stochastic policies. UserError: no episodes, or no such policies."""
        episodes = whole_number("episodes", episodes, 1)
        if sampled and not self.algorithm.stochastic:
            raise UserError(f"sampled=True: {self.algo} learns no stochastic policy on {self.task.name}; evaluate the greedy one")
        evaluator = Evaluator(self.algorithm, self.task, self.seeds, self.normalizer)
        try:
            values = evaluator.rollout(self.state, episodes, sampled)
        finally:
            evaluator.close()
        rows = {"seed": np.repeat(self.seeds, episodes), "episode": np.tile(np.arange(episodes), len(self.seeds))}
        return pd.DataFrame(rows | {metric: x.ravel() for metric, x in values.items()})

    def __repr__(self):
        last = self.frame[(self.frame.metric == "return") & (self.frame.step == self.frame.step.max())]
        return f"<{self.algo} on {self.task.name}, {len(self.seeds)} seeds: mean return {last.value.mean():.3g}>"


def train(
    algo: str,
    task: str,
    seeds: int | Sequence[int] = 5,
    *,
    dataset: Dataset | None = None,
    paper: bool = False,
    progress: bool | None = None,
    device: str = "cpu",
    **settings,
) -> Result:
    """Train a method on a task with the benchmark's settings, all seeds as one batch, and evaluate it on the way.

    seeds: a number n, for 0 .. n-1, or a list. dataset: other data than the task's own. paper: the settings of the paper, not the
    benchmark's. progress: show a bar (default: in a notebook or a terminal). Further keywords are settings of the method, for example
    num_updates=100 or alpha=0.5. UserError: unknown names, values that the method refuses, data that have a fault or do not fit the
    task, a device that torch cannot use. learning.train.Diverged: a loss is not finite.
    """
    found, cls = _task(task), ALGORITHMS.discover()[algo]
    chosen = _seeds(seeds)
    device = str(device)  # of torch.device
    check_device(device, f"device={device!r}")
    config = settings_of(algo, task, cls.Config.parse([f"{name}={value}" for name, value in settings.items()], algo), paper)
    data = load_dataset(task) if dataset is None else _checked(dataset, found)
    algorithm = cls(config, found.spec)
    threads = torch.get_num_threads()
    quiet = not (progress if progress is not None else _interactive())
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=config.num_updates, desc=f"{algo} on {task}: first evaluation", unit="update", disable=quiet) as bar,
        _ticking(bar),
    ):

        def report(update: int, score: float | None) -> None:
            bar.set_description(f"{algo} on {task}" if update else f"{algo} on {task}: compiling", refresh=False)
            bar.update(update - bar.n)
            if score is not None:
                bar.set_postfix({"return": f"{score:.3g}"})

        try:
            done = training.train(algorithm, found, data, chosen, device, Path(folder) / "checkpoint", report)
        finally:
            torch.set_num_threads(threads)  # training uses one thread
    frame = pd.DataFrame([(algo, task, *row) for row in done.rows], columns=list(COLUMNS))
    return Result(algo, found, algorithm, chosen, done.state, done.normalizer, frame)


def evaluate(policy: Policy, task: str, episodes: int = 32) -> pd.DataFrame:
    """Episodes of any policy on a task, one row per episode: episode, return, length and, where winning has a meaning, win_rate (0 or 1).

    policy: a function of `Observation(obs [E, N, O], state [E, S], avail [E, N, A])`, the observations of E episodes that run side by
    side, to actions [E, N], or [E, N, D] where actions are continuous. If it has a method `reset`, that is called before the first step of
    episodes, for example to forget the last ones. Episode e follows from the seed e, as in `Result.evaluate`.
    UserError: no function, no episodes, or actions that do not fit the task.
    """
    found, episodes = _task(task), whole_number("episodes", episodes, 1)
    if not callable(policy):
        raise UserError(f"policy: it is a {type(policy).__name__}, should be a function of observations, as Result.policy returns")
    env = found.environment(min(episodes, found.max_envs))
    try:
        parts = [_rollout(policy, env, found, range(k, min(k + env.num_envs, episodes))) for k in range(0, episodes, env.num_envs)]
    finally:
        env.close()
    return pd.concat(parts, ignore_index=True)


def _rollout(policy: Policy, env: VecEnv, task: Task, numbers: range) -> pd.DataFrame:
    """The episodes with these numbers."""
    extra = env.num_envs - len(numbers)  # environments beyond the last episode play it again, uncounted
    observation = env.reset([*numbers, *[numbers[-1]] * extra])
    if hasattr(policy, "reset"):
        policy.reset()
    total, length, over = np.zeros(env.num_envs), np.zeros(env.num_envs, np.int64), np.zeros(env.num_envs, bool)
    info = {}
    while not over.all():
        step = env.step(_fitting(policy(observation), observation.avail, over, task))
        total += np.where(over, 0.0, step.rewards)
        length += ~over
        over, observation, info = step.terminated | step.truncated, step.observation, info | step.info
    rows = {"episode": numbers.start + np.arange(env.num_envs), "return": task.scaled_returns(total, length), "length": length}
    if "won" in info:
        rows["win_rate"] = info["won"].astype(float)
    return pd.DataFrame(rows).head(len(numbers))


def _fitting(returned: Any, avail: np.ndarray, over: np.ndarray, task: Task) -> np.ndarray:
    """What a policy returned, as actions. UserError: it is no array, their shape or one of them is not the task's, or one is not available
    in an episode that is not over."""
    actions = as_array(returned, "the policy returned no array of numbers; convert a tensor with x.detach().cpu().numpy()")
    space = task.spec.space
    shape = (*avail.shape[:2], *space.noise_shape)
    if actions.shape != shape:
        raise UserError(f"the policy returned actions of shape {actions.shape}; {task.name} takes {shape}, of {shape[0]} episodes")
    if space.kind == "continuous":
        if not (np.abs(actions) <= 1).all():
            raise UserError(f"the policy returned actions outside [-1, 1] on {task.name}; clip them")
        return actions
    if (unknown := ~np.isin(actions, np.arange(space.action_dim))).any():
        raise UserError(f"the policy returned action {actions[unknown][0]}; {task.name} has actions 0 .. {space.action_dim - 1}")
    actions = actions.astype(np.int64)
    available = np.take_along_axis(avail, actions[..., None], -1)[..., 0]
    if (wrong := ~available & ~over[:, None]).any():
        raise UserError(f"the policy returned action {actions[wrong][0]} where it is not available; `avail` of the observation says so")
    return actions


def _seeds(seeds: int | Sequence[int]) -> tuple[int, ...]:
    """The seeds that a number or a list stands for. UserError: it stands for none."""
    try:
        chosen = tuple(range(seeds)) if isinstance(seeds, Integral) else tuple(map(index, seeds))
    except TypeError:
        chosen = ()
    if not chosen or min(chosen) < 0 or max(chosen) >= 2**63 or len(set(chosen)) < len(chosen):
        raise UserError(f"seeds={seeds!r}: write a number above 0, or a list of different numbers from 0 to 2^63 - 1")
    return chosen


def _checked(data: Dataset, task: Task) -> Dataset:
    """The data themselves. UserError: they have a fault, or are of another task, or no data at all."""
    if not isinstance(data, Dataset):
        raise UserError(f"dataset: it is a {type(data).__name__}, should be a Dataset, as load_dataset and Dataset.from_episodes return")
    if (of := data.meta.get("task")) != task.name:
        raise UserError(f"dataset: it holds data of {of}, not of {task.name}")
    if found := problems(data, task):
        raise UserError(f"dataset: {found[0]}")
    return data


@contextmanager
def _ticking(bar: tqdm) -> Iterator[None]:
    """Redraws the bar every second, so that its clock moves before the first update, whose compilation may take a minute."""
    over = threading.Event()

    def tick() -> None:
        while not over.wait(1.0):
            bar.refresh()

    thread = threading.Thread(target=tick, daemon=True)
    if not bar.disable:
        thread.start()
    try:
        yield
    finally:
        over.set()
        if not bar.disable:
            thread.join()


def _task(name: str) -> Task:
    return TASKS.discover()[name]


def _interactive() -> bool:
    """A notebook, or a terminal."""
    return "ipykernel" in sys.modules or sys.stderr.isatty()
