"""The types that all parts share, with their shapes.

Letters: B batch size, L sequence length, N agents, O observation size, S state size, A actions, D action dimensions, E environments or
episodes. Batches have no optional field: where all actions are available, the mask says so.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

from inspo_benchmark.core.errors import UserError, whole_number

if TYPE_CHECKING:
    from inspo_benchmark.core.env import VecEnv
    from inspo_benchmark.core.spaces import Box, Discrete

# What result files may hold.
MAX_NUMBER = 10**15  # integers, and the returns that count as 0 and 100; seeds may be larger
MAX_FLOAT = 1e300
MIN_DISTANCE = 1e-6  # of the returns that count as 0 and 100, so that normalized scores are finite
MAX_LABEL = 100  # characters of a backend


class Timestep(NamedTuple):
    """The observations at L consecutive time steps, and the actions taken there."""

    obs: Tensor  # [B, L, N, O]
    state: Tensor  # [B, L, S]
    avail: Tensor  # [B, L, N, A] bool, available actions; Box: [B, L, N, 1], all true
    actions: Tensor  # [B, L, N] int64, or [B, L, N, D] in [-1, 1]


class Batch(NamedTuple):
    """B sequences of L steps, each within one episode: L + 1 observations, L rewards.

    A sequence that reaches the end of its episode early is padded with copies of the last observation. `mask` is 1 at the steps to train
    on (`learning.sampler`): never at padding. No action follows the last observation of an episode: there, `actions` repeats the last one.
    """

    obs: Tensor  # [B, L+1, N, O]
    state: Tensor  # [B, L+1, S]
    avail: Tensor  # [B, L+1, N, A] bool
    actions: Tensor  # [B, L+1, N] int64, or [B, L+1, N, D] float
    rewards: Tensor  # [B, L]
    terminated: Tensor  # [B, L] 1 where the episode terminated; reaching the time limit is not a termination
    mask: Tensor  # [B, L]

    @property
    def now(self) -> Timestep:
        """Time steps 0 to L-1."""
        return Timestep(self.obs[:, :-1], self.state[:, :-1], self.avail[:, :-1], self.actions[:, :-1])

    @property
    def next(self) -> Timestep:
        """Time steps 1 to L."""
        return Timestep(self.obs[:, 1:], self.state[:, 1:], self.avail[:, 1:], self.actions[:, 1:])


class Draw(NamedTuple):
    """The randomness of one call of `update`. It is drawn outside, so that a seed trains in the same way alone and with other seeds."""

    u: dict[str, Tensor]  # uniform on (0, 1), with the shapes of Algorithm.noise()
    agent: Tensor  # [] int64, the agent to update if Algorithm.turns > 1; a random permutation over the turns of an update


class State(NamedTuple):
    """All that an update changes. The leaves of a state of several seeds have a leading axis of seeds."""

    params: dict[str, Tensor]  # network -> its parameters [rows, P], one row per agent unless they are shared
    target: dict[str, Tensor]  # the same for the target networks
    slots: dict[str, Any]  # network -> state of its optimizer
    step: Tensor  # [] int64, calls of `update` so far
    average: dict[str, Tensor]  # running means of the parameters that agents act with, or nothing, see `Algorithm.averages`


class Spec(NamedTuple):
    """The sizes of a task, and its action space."""

    num_agents: int
    obs_dim: int
    state_dim: int
    space: "Discrete | Box"
    episode_limit: int  # largest number of steps of an episode


@dataclass(frozen=True)
class Task:
    """A scenario and the quality of a dataset for it. Its name is `<scenario>-<quality>`.

    The references of a task without an environment (`make` is None), which has data alone, may be unknown (NaN). UserError: other
    references are not finite or do not increase, the backend is no short text, or a size or a number of environments, evaluations or
    episodes is below 1.
    """

    name: str
    spec: Spec
    make: Callable[[int], "VecEnv"] | None  # num_envs -> environment; None: there is none
    family: str  # of environments; names the builder of its datasets in datasets.generate
    quality: str
    backend: str  # the simulator and its version
    reference: tuple[float, float]  # returns of the uniformly random and of the best known policy, which score 0 and 100
    max_envs: int = 1 << 20  # largest number of parallel environments
    num_evals: int = 20  # number of evaluations, besides the one before the first update
    eval_episodes: int = 32  # episodes per evaluation
    final_episodes: int = 320  # episodes of the last evaluation
    per_step: bool = False  # returns are the mean reward per step (matrix games) instead of the sum
    settings: Path | None = None  # a TOML file with settings of methods on this task, see running.settings

    def __post_init__(self):
        """Numbers of numpy become Python's, which JSON files can hold."""
        try:
            low, high = map(float, self.reference)
        except (TypeError, ValueError):
            low, high = math.nan, math.nan
        if self.make is not None and not -math.inf < low < high < math.inf:
            raise UserError(f"task {self.name}: reference={self.reference!r}: write two finite numbers, the smaller one first")
        if self.make is not None and (max(-low, high) > MAX_NUMBER or high - low < MIN_DISTANCE):
            raise UserError(f"task {self.name}: reference={self.reference!r}: write numbers up to 1e15 that differ by at least 1e-6")
        if len(self.backend) > MAX_LABEL or not self.backend.isprintable():
            raise UserError(f"task {self.name}: backend={self.backend!r}: write at most {MAX_LABEL} printable characters")
        object.__setattr__(self, "reference", (low, high))
        for size in ("num_agents", "obs_dim", "state_dim", "episode_limit"):
            whole_number(f"task {self.name}: {size}", getattr(self.spec, size), 1)
        for field in ("max_envs", "num_evals", "eval_episodes", "final_episodes"):
            object.__setattr__(self, field, whole_number(f"task {self.name}: {field}", getattr(self, field), 1))

    def environment(self, num_envs: int) -> "VecEnv":
        """`num_envs` parallel environments. UserError: the task has none."""
        if self.make is None:
            raise UserError(f"task {self.name} has data alone, and no environment to play episodes in")
        return self.make(num_envs)

    @property
    def scenario(self) -> str:
        """`5m_vs_6m-medium` -> `5m_vs_6m`."""
        return self.name.rpartition("-")[0]

    @property
    def evaluation(self) -> dict[str, int]:
        """The evaluation schedule."""
        return {"num_evals": self.num_evals, "eval_episodes": self.eval_episodes, "final_episodes": self.final_episodes}

    def scaled_returns(self, reward_sums, lengths):
        """Sums of rewards and lengths of episodes [...] -> returns in the task's unit."""
        return reward_sums / lengths if self.per_step else reward_sums
