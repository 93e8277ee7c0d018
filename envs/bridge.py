"""Bridge: two agents meet head-on on a bridge one cell wide; one has to step back and let the other pass.

The dynamics are those of AlberDICE (github.com/dematsunaga/alberdice at 4d69f0e, map type 4), every quirk included: replaying
the 32,885 transitions recorded by its authors gives the same positions, rewards and terminations.

    row 0   B . # # . .      0, 1: start cells of the agents (`adjacent`; otherwise one cell farther apart)
    row 1   . . 0 1 . .      A = (2, 5), B = (0, 0): goals of agents 0 and 1
    row 2   . . # # . A      actions: stay, up, down, right, left
"""

from collections.abc import Sequence

import numpy as np

from inspo_benchmark.core.env import Observation, Step, actions_in_range, check_num_envs
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Spec, Task

ROWS, COLS = 3, 6
BLOCKED = ((0, 2), (0, 3), (2, 2), (2, 3))
GOALS = np.array([[2, 5], [0, 0]])
MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, 1], [0, -1]])
LIMIT = 20

FREE = np.zeros((ROWS + 2, COLS + 2), bool)  # with a border of walls: cell (r, c) is FREE[r + 1, c + 1]
FREE[1:-1, 1:-1] = True
FREE[tuple(np.array(BLOCKED).T + 1)] = False


def both_arrived(state: np.ndarray) -> np.ndarray:
    """States [..., 8] -> [...] bool: both agents are at their goals."""
    return (state[..., [0, 1, 4, 5]] == state[..., [2, 3, 6, 7]]).all(-1)


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a == b).all(-1)


def move(pos: np.ndarray, act: np.ndarray) -> np.ndarray:
    """Cells [E, 2 agents, (row, col)] and actions [E, 2] -> cells after the step. An agent at its goal stays there and blocks no one."""
    want = pos + MOVES[act]
    want = np.where(FREE[want[..., 0] + 1, want[..., 1] + 1, None] & ~_same(pos, GOALS)[..., None], want, pos)
    (p, q), (x, y) = pos.swapaxes(0, 1), want.swapaxes(0, 1)
    active = ~_same(pos, GOALS).any(-1)  # neither agent is at its goal
    moves_0, moves_1 = ~_same(x, p), ~_same(y, q)

    into_goal = _same(x, GOALS[0])  # always allowed
    blocked = active & moves_0 & ~into_goal & ~moves_1 & _same(x, q)
    tie = active & moves_0 & ~into_goal & moves_1 & _same(x, y)  # agent 0 has priority, even on agent 1's goal
    swap = active & moves_0 & ~into_goal & moves_1 & _same(x, q) & _same(y, p)
    x = np.where((blocked | swap)[:, None], p, x)
    late = active & moves_1 & ~_same(y, GOALS[1]) & _same(y, x)  # agent 1 may not enter agent 0's new cell
    y = np.where((tie | swap | late)[:, None], q, y)
    return np.stack([x, y], 1)


class Bridge:
    """E games, see `core.env.VecEnv`. The state, and the observation of both agents, is [r0, c0, 2, 5, r1, c1, 0, 0].

    The reward is -0.1 times the agents' mean distance to their goals, where an agent that was at its goal before the step counts 0. It is
    0 in the last step of an episode. An episode terminates when both agents are at their goals, and is truncated after `limit` steps.
    """

    def __init__(self, num_envs: int, limit: int = LIMIT, adjacent: bool = True):
        self.num_envs, self.limit = check_num_envs(num_envs), limit
        self.start = np.array([[1, 2], [1, 3]] if adjacent else [[1, 1], [1, 4]])
        self.reset(range(num_envs))

    def reset(self, seeds: Sequence[int]) -> Observation:
        """The game is deterministic: `seeds` is ignored."""
        self.pos, self.t = np.tile(self.start, (self.num_envs, 1, 1)), 0
        return self._observe()

    def step(self, act: np.ndarray) -> Step:
        """act [E, 2] int. UserError: another shape or type, or an action that does not exist."""
        away = ~_same(self.pos, GOALS)
        live = away.any(-1) & (self.t < self.limit)
        act = actions_in_range(act, (self.num_envs, 2), len(MOVES), live)
        self.pos = np.where(live[:, None, None], move(self.pos, act), self.pos)
        self.t = min(self.t + 1, self.limit)
        arrived = _same(self.pos, GOALS).all(-1)
        cost = (-0.1 * np.sqrt(((GOALS - self.pos) ** 2).sum(-1)) * away).astype(np.float32)  # rounded as in the original
        reward = np.where(live & ~arrived & (self.t < self.limit), cost.mean(-1), 0.0).astype(np.float64)
        return Step(self._observe(), reward, arrived, ~arrived & (self.t == self.limit), {})

    def close(self) -> None:
        pass

    def _observe(self) -> Observation:
        state = np.stack([self.pos, np.broadcast_to(GOALS, self.pos.shape)], 2).reshape(self.num_envs, 8).astype(np.float32)
        return Observation(np.repeat(state[:, None], 2, 1), state, np.ones((self.num_envs, 2, len(MOVES)), bool))


for quality in ("optimal", "mix"):
    TASKS.register(f"bridge-{quality}")(
        Task(
            name=f"bridge-{quality}",
            spec=Spec(2, 8, 8, Discrete(len(MOVES)), LIMIT),
            make=Bridge,
            family="bridge",
            quality=quality,
            backend="bridge-1",
            # Expected returns of uniformly random agents and of optimal ones, by dynamic programming over `move` (tests/envs/test_envs.py).
            reference=(-7.09992, -1.2354526),
        )
    )
