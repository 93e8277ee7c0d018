"""Matrix games: one payoff for the joint action, again and again. What a policy is worth is known exactly.

XOR (AlberDICE, github.com/dematsunaga/alberdice at 4d69f0e, `mmdp_game_1` with `matrix_game=True`): two agents are paid for
differing. M-NE (InSPO, arXiv:2412.07639): every diagonal entry is a Nash equilibrium, one of them is the best.
The limit of 50 steps is where the recordings of XOR stop. It is a truncation: the games themselves never end.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from inspo_benchmark.core.env import Observation, Step
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Spec, Task

LIMIT = 50
XOR = np.array([[0.0, 1.0], [1.0, -2.0]])  # actions A, B; the options AB and BA are equally good, mixing them is not
XOR_OBS = (0.0, 1.0, 0.0, 1.0)  # what the original shows: twice the one-hot code of its only state


def mne(agents: int = 2, diagonal: Sequence[float] = (10, 4, 7), miss: float = -5) -> np.ndarray:
    """Payoffs [n] * agents with n = len(diagonal): `diagonal[a]` when everybody plays a, `miss` otherwise."""
    payoff = np.full((len(diagonal),) * agents, miss, np.float64)
    payoff[(np.arange(len(diagonal)),) * agents] = diagonal
    return payoff


class MatrixGame:
    """E lanes of one repeated game; `payoff` has an axis per agent. Everybody sees the constant `look`. See `core.env.VecEnv`."""

    def __init__(self, payoff: np.ndarray, limit: int, num_envs: int, look: Sequence[float] = (1.0,)):
        self.payoff, self.limit, self.num_envs = payoff, limit, num_envs
        self.look = np.array(look, np.float32)
        self.t = 0

    def reset(self, seeds: Sequence[int]) -> Observation:
        """Nothing in these games is random: the seeds are not used."""
        self.t = 0
        return self._seen()

    def step(self, act: np.ndarray) -> Step:
        reward = np.zeros(self.num_envs) if self.t == self.limit else self.payoff[tuple(act.T)]
        self.t = min(self.t + 1, self.limit)
        return Step(self._seen(), reward, np.zeros(self.num_envs, bool), np.full(self.num_envs, self.t == self.limit), {})

    def close(self) -> None:
        pass

    def _seen(self) -> Observation:
        agents, actions = self.payoff.ndim, len(self.payoff)
        obs = np.tile(self.look, (self.num_envs, agents, 1))
        return Observation(obs, obs[:, 0].copy(), np.ones((self.num_envs, agents, actions), bool))


def register(scenario: str, quality: str, family: str, payoff: np.ndarray, look: Sequence[float]) -> None:
    name = f"{scenario}-{quality}"
    TASKS.register(name)(
        Task(
            name=name,
            spec=Spec(payoff.ndim, len(look), len(look), Discrete(len(payoff)), LIMIT),
            make=partial(MatrixGame, payoff, LIMIT, look=look),
            family=family,
            quality=quality,
            backend="matrix-1",
            reference=(float(payoff.mean()), float(payoff.max())),  # per step: uniformly random agents, the best joint action
            per_step=True,
        )
    )


for support in ("ab", "ab_ba", "aa_ab_ba", "all"):
    register("xor", support, "xor", XOR, XOR_OBS)
for scenario, agents in (("mne", 2), ("mne3", 3)):
    for quality in ("balanced", "imbalanced"):
        register(scenario, quality, "mne", mne(agents), (1.0,))
