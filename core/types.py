"""The shapes that everything else agrees on.

Letters: B windows, L steps of a window, N agents, O observation, S state, A actions, D action dimensions, E lanes or episodes.
No field is ever None: what a task lacks is neutral (ones where everything is legal, zero width where nothing is remembered).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import Tensor

if TYPE_CHECKING:
    from inspo_benchmark.core.env import VecEnv
    from inspo_benchmark.core.spaces import Box, Discrete


class Timestep(NamedTuple):
    """One side of a step."""

    obs: Tensor  # [B, L, N, O]
    state: Tensor  # [B, L, S]
    avail: Tensor  # [B, L, N, A] bool; Box: [B, L, N, 1], all true
    actions: Tensor  # [B, L, N] int64, or [B, L, N, D] in [-1, 1]


class Batch(NamedTuple):
    """B windows of L steps; a window never crosses an episode's end.

    L + 1 rows of what is seen, L of what is earned. A window that starts late in an episode is padded with copies of the episode's
    last row; `mask` is 1 exactly where a step is data (and past the burn-in of a recurrent method). The action beside an
    episode's last observation does not exist: that row repeats the last action taken.
    """

    obs: Tensor  # [B, L+1, N, O]
    state: Tensor  # [B, L+1, S]
    avail: Tensor  # [B, L+1, N, A] bool
    actions: Tensor  # [B, L+1, N] int64, or [B, L+1, N, D] float
    rewards: Tensor  # [B, L]
    terminated: Tensor  # [B, L] 1 where the episode terminated; a time limit is not a termination
    mask: Tensor  # [B, L]

    @property
    def now(self) -> Timestep:
        """Rows 0 .. L-1."""
        return Timestep(self.obs[:, :-1], self.state[:, :-1], self.avail[:, :-1], self.actions[:, :-1])

    @property
    def next(self) -> Timestep:
        """Rows 1 .. L."""
        return Timestep(self.obs[:, 1:], self.state[:, 1:], self.avail[:, 1:], self.actions[:, 1:])


class Draw(NamedTuple):
    """The randomness of one call of `update`, made outside, so that a seed's run is the same alone and packed."""

    u: dict[str, Tensor]  # uniform on (0, 1), shapes declared by Algorithm.noise()
    agent: Tensor  # [] int64, the agent whose turn it is (Algorithm.turns > 1); over the turns of an update a random permutation


class State(NamedTuple):
    """Everything that training changes: saving it is the checkpoint. Leaves of a packed state carry a leading axis of seeds."""

    params: dict[str, Tensor]  # network -> its parameters [rows, P], a row per agent where each has weights of its own
    target: dict[str, Tensor]  # the same for the target networks
    slots: dict[str, Any]  # the optimiser's memory, per network
    step: Tensor  # [] int64, calls of `update` so far


class Spec(NamedTuple):
    """The sizes of a task."""

    num_agents: int
    obs_dim: int
    state_dim: int
    space: "Discrete | Box"
    episode_limit: int  # steps of the longest episode


@dataclass(frozen=True)
class Task:
    """A scenario with a dataset quality: `<scenario>-<quality>`."""

    name: str
    spec: Spec
    make: Callable[[int], "VecEnv"]  # number of lanes -> environment
    family: str  # names the builder of its dataset in datasets.generate
    quality: str
    backend: str  # what plays the episodes, with its version
    reference: tuple[float, float]  # return of the uniformly random and of the best known policy: scores 0 and 100
    max_envs: int = 1 << 20  # most episodes that can be played at a time
    num_evals: int = 20  # evaluations after the first, at step 0
    eval_episodes: int = 32  # of an evaluation
    final_episodes: int = 320  # of the last one
    per_step: bool = False  # returns are the mean reward per step (matrix games) instead of the sum

    @property
    def evaluation(self) -> dict[str, int]:
        """How policies are evaluated on it."""
        return {"num_evals": self.num_evals, "eval_episodes": self.eval_episodes, "final_episodes": self.final_episodes}

    def scale(self, returns, lengths):
        """Sums of rewards and lengths of episodes [...] -> returns in the task's unit."""
        return returns / lengths if self.per_step else returns
