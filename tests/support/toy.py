"""Small synthetic tasks and datasets, and comparisons of trees of tensors."""

from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_map

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Batch, Draw, Spec, State, Task
from inspo_benchmark.datasets.dataset import Dataset, pack
from inspo_benchmark.learning.algorithm import Algorithm
from inspo_benchmark.learning.config import Common
from inspo_benchmark.learning.sampler import Sampler

SPACES = {"discrete": Discrete(3), "continuous": Box(2)}
LENGTHS = (1, 5, 2, 7, 1, 3, 4, 7)


def toy(space: Discrete | Box, agents: int = 3, limit: int = max(LENGTHS), **fields) -> Task:
    base = dict(
        name="toy-random",
        spec=Spec(agents, 4, 3, space, limit),
        make=None,
        family="toy",
        quality="random",
        backend="none",
        reference=(0.0, 1.0),
    )
    return Task(**(base | fields))


def masks(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Random masks of legal actions with at least one legal action each."""
    avail = rng.random(shape) < 0.5
    np.put_along_axis(avail, rng.integers(shape[-1], size=(*shape[:-1], 1)), True, -1)
    return avail


def episodes(task: Task, lengths=LENGTHS, seed: int = 0) -> Dataset:
    """Random play of the given lengths; some episodes terminate, some are cut; random masks under which the actions taken are legal."""
    rng, s, count = np.random.default_rng(seed), task.spec, len(lengths)
    rows = (count, s.episode_limit + 1, s.num_agents)
    if s.space.kind == "discrete":
        avail = masks(rng, *rows, s.space.n)
        actions = (rng.random(avail.shape) * avail).argmax(-1)[:, :-1]
    else:
        avail, actions = np.ones((*rows, 1), bool), rng.uniform(-1, 1, (count, s.episode_limit, s.num_agents, s.space.d))
    return pack(
        task,
        lengths=np.array(lengths),
        obs=rng.normal(size=(*rows, s.obs_dim)),
        state=rng.normal(size=(count, s.episode_limit + 1, s.state_dim)),
        avail=avail,
        actions=actions,
        rewards=rng.normal(size=(count, s.episode_limit)),
        terminated=np.arange(count) % 2 == 0,
        won=np.full(count, -1),
        seed=np.full(count, -1),
    )


class Lab:
    """One algorithm with one configuration on synthetic data, for some seeds."""

    def __init__(self, algo: str, kind: str, seeds=(0,), agents: int = 3, **config):
        self.task, self.seeds = toy(SPACES[kind], agents), tuple(seeds)
        self.cfg = config_of(algo, **config)
        self.algorithm: Algorithm = ALGORITHMS[algo](self.cfg, self.task.spec)
        self.sampler = self.for_seeds(self.seeds)

    def for_seeds(self, seeds) -> Sampler:
        a = self.algorithm
        data = a.prepare_data(episodes(self.task))
        return Sampler(data, self.cfg.batch_size, self.cfg.seq_len, a.turns, a.noise(), seeds, burn_in=self.cfg.burn_in)

    def init(self) -> State:
        return self.algorithm.init(self.seeds)

    @property
    def calls(self) -> int:
        """Enough that every agent had two turns in every stage: the second reads what the first wrote into targets, slots and step."""
        return self.cfg.num_updates * self.algorithm.turns

    def train(self, s: State, draws: list[tuple[Batch, Draw]], step=None) -> tuple[State, list[dict[str, torch.Tensor]]]:
        """The state after these draws, and what every call logged: through all stages from the first call on, or by `step` alone."""
        a, logs = self.algorithm, []
        with torch.no_grad():
            for call, (batch, draw) in enumerate(draws):
                now = a.pack(len(s.step), a.stage_at(call // a.turns)[0]) if step is None else step
                s, log = now(s, batch, draw)
                logs.append(log)
        return s, logs

    def draws(self, sampler: Sampler | None = None) -> list[tuple[Batch, Draw]]:
        return [(sampler or self.sampler).draw(call) for call in range(self.calls)]


class One:
    """One run of a method, its batch and draw."""

    def __init__(self, algo: str, kind: str, agents: int = 3, **config):
        lab = Lab(algo, kind, agents=agents, **config)
        self.a, self.cfg, self.space = lab.algorithm, lab.cfg, lab.task.spec.space
        self.s, (self.b, self.d) = tree_map(lambda x: x[0], (lab.init(), lab.sampler.draw(0)))
        self.on, self.tg = self.a.online(self.s), self.a.targets(self.s)

    def updated(self) -> State:
        return self.a.update(self.s, self.b, self.d)[0]


def config_of(algo: str, **config) -> Common:
    """A small configuration with windows that short episodes do not fill, and half of the updates for a first stage."""
    cls = ALGORITHMS[algo].Config
    shares = dict(bc_share=0.5) if hasattr(cls, "bc_share") else {}
    return cls(**(dict(batch_size=8, hidden_dim=8, seq_len=3, num_updates=4) | shares | config))


def run_of(tree: Any, k: int) -> Any:
    """The k-th of stacked runs, still stacked."""
    return tree_map(lambda x: x[k : k + 1], tree)


def copy(tree: Any) -> Any:
    return tree_map(torch.clone, tree)


def same(a: Any, b: Any) -> bool:
    """Bit for bit: structure, types, shapes and values."""
    (xs, left), (ys, right) = tree_flatten(a), tree_flatten(b)
    return left == right and all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(xs, ys))


def close(a: Any, b: Any, tolerance: float = 1e-10) -> None:
    (xs, left), (ys, right) = tree_flatten(a), tree_flatten(b)
    assert left == right
    for x, y in zip(xs, ys):
        torch.testing.assert_close(x, y, rtol=0, atol=tolerance)
