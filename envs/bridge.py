"""Bridge: two agents meet head-on on a bridge one cell wide; one has to back out and let the other pass.

The dynamics are those of AlberDICE (github.com/dematsunaga/alberdice at 4d69f0e, map type 4), every quirk included: replaying
the 32,885 transitions recorded by its authors gives the same positions, rewards and ends.

    row 0   B . # # . .      0, 1: where the agents start (`adjacent`; otherwise one cell further apart)
    row 1   . . 0 1 . .      A = (2, 5), B = (0, 0): where agents 0 and 1 want to be
    row 2   . . # # . A      actions: stay, up, down, right, left
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from inspo_benchmark.core.env import Observation, Step
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Spec, Task

ROWS, COLS = 3, 6
BLOCKED = ((0, 2), (0, 3), (2, 2), (2, 3))
GOALS = np.array([[2, 5], [0, 0]])
MOVES = np.array([[0, 0], [-1, 0], [1, 0], [0, 1], [0, -1]])
LIMIT = 20

FREE = np.zeros((ROWS + 2, COLS + 2), bool)  # with a wall around: FREE[r + 1, c + 1]
FREE[1:-1, 1:-1] = True
FREE[tuple(np.array(BLOCKED).T + 1)] = False


def home(state: np.ndarray) -> np.ndarray:
    """States [..., 8] -> [...] bool: both agents have arrived."""
    return (state[..., [0, 1, 4, 5]] == state[..., [2, 3, 6, 7]]).all(-1)


def _same(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a == b).all(-1)


def move(pos: np.ndarray, act: np.ndarray) -> np.ndarray:
    """Cells [E, 2 agents, (row, col)] and actions [E, 2] -> the cells after a step. An agent that is home stays and is in nobody's way."""
    want = pos + MOVES[act]
    want = np.where(FREE[want[..., 0] + 1, want[..., 1] + 1, None] & ~_same(pos, GOALS)[..., None], want, pos)
    (p, q), (x, y) = pos.swapaxes(0, 1), want.swapaxes(0, 1)
    met = ~_same(pos, GOALS).any(-1)  # both are still on their way
    goes, comes = ~_same(x, p), ~_same(y, q)

    into_goal = _same(x, GOALS[0])  # always allowed, first come or not
    wall = met & goes & ~into_goal & ~comes & _same(x, q)
    tie = met & goes & ~into_goal & comes & _same(x, y)  # agent 0 has the right of way, even on agent 1's goal
    swap = met & goes & ~into_goal & comes & _same(x, q) & _same(y, p)
    x = np.where((wall | swap)[:, None], p, x)
    late = met & comes & ~_same(y, GOALS[1]) & _same(y, x)  # agent 1 looks at where agent 0 is by now
    y = np.where((tie | swap | late)[:, None], q, y)
    return np.stack([x, y], 1)


class Bridge:
    """E lanes. obs of both agents and state: [r0, c0, 2, 5, r1, c1, 0, 0]. See `core.env.VecEnv`.

    Reward: -0.1 times the mean over the agents of the distance to their goals, 0 for one who was home before; the step that
    ends the episode, by arrival or by `limit`, earns nothing. Terminated when both are home, otherwise truncated at `limit`.
    """

    def __init__(self, num_envs: int, limit: int = LIMIT, adjacent: bool = True):
        self.num_envs, self.limit = num_envs, limit
        self.start = np.array([[1, 2], [1, 3]] if adjacent else [[1, 1], [1, 4]])
        self.reset(range(num_envs))

    def reset(self, seeds: Sequence[int]) -> Observation:
        """Nothing in this game is random: the seeds are not used."""
        self.pos, self.t = np.tile(self.start, (self.num_envs, 1, 1)), 0
        return self._seen()

    def step(self, act: np.ndarray) -> Step:
        away = ~_same(self.pos, GOALS)
        live = away.any(-1) & (self.t < self.limit)
        self.pos = np.where(live[:, None, None], move(self.pos, act), self.pos)
        self.t = min(self.t + 1, self.limit)
        arrived = _same(self.pos, GOALS).all(-1)
        cost = (-0.1 * np.sqrt(((GOALS - self.pos) ** 2).sum(-1)) * away).astype(np.float32)  # rounded like the original, to the bit
        reward = np.where(live & ~arrived & (self.t < self.limit), cost.mean(-1), 0.0).astype(np.float64)
        return Step(self._seen(), reward, arrived, ~arrived & (self.t == self.limit), {})

    def close(self) -> None:
        pass

    def _seen(self) -> Observation:
        state = np.stack([self.pos, np.broadcast_to(GOALS, self.pos.shape)], 2).reshape(self.num_envs, 8).astype(np.float32)
        return Observation(np.repeat(state[:, None], 2, 1), state, np.ones((self.num_envs, 2, len(MOVES)), bool))


for quality in ("optimal", "mix"):
    TASKS.register(f"bridge-{quality}")(
        Task(
            name=f"bridge-{quality}",
            spec=Spec(2, 8, 8, Discrete(len(MOVES)), LIMIT),
            make=partial(Bridge, limit=LIMIT),
            family="bridge",
            quality=quality,
            backend="bridge-1",
            # Expected return of uniformly random agents and the optimum, both by dynamic programming over `move` (tests/envs/test_envs.py).
            reference=(-7.09992, -1.2354526),
        )
    )
