"""Repeated matrix games, in which the value of every policy is known exactly.

XOR (AlberDICE, github.com/dematsunaga/alberdice at 4d69f0e, `mmdp_game_1` with `matrix_game=True`) rewards two agents for choosing
different actions. In M-NE (InSPO, arXiv:2412.07639) every diagonal entry is a Nash equilibrium, and one of them is the best.
Episodes are truncated after 50 steps, the length of the recordings of XOR; the games never terminate.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from inspo_benchmark.core.env import Observation, Step, actions_in_range, check_num_envs
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Spec, Task

LIMIT = 50
XOR = np.array([[0.0, 1.0], [1.0, -2.0]])  # actions A, B; AB and BA are optimal, independent mixtures of them are not
XOR_OBS = (0.0, 1.0, 0.0, 1.0)  # as in the original: twice the one-hot code of the only state
AGREEMENT, DISAGREEMENT = (10.0, 4.0, 7.0), -5.0  # payoffs of M-NE


def mne(agents: int = 2) -> np.ndarray:
    """Payoffs [3] * agents: AGREEMENT[a] if all agents choose a, DISAGREEMENT if they do not."""
    payoff = np.full((len(AGREEMENT),) * agents, DISAGREEMENT)
    payoff[(np.arange(len(AGREEMENT)),) * agents] = AGREEMENT
    return payoff


class MatrixGame:
    """E copies of a repeated game, see `core.env.VecEnv`.

    `payoff` has one axis per agent. The state, and the observation of every agent, is the constant `obs`.
    """

    def __init__(self, payoff: np.ndarray, limit: int, num_envs: int, obs: Sequence[float] = (1.0,)):
        self.payoff, self.limit, self.num_envs = payoff, limit, check_num_envs(num_envs)
        self.obs = np.array(obs, np.float32)
        self.t = 0

    def reset(self, seeds: Sequence[int]) -> Observation:
        """The games are deterministic: `seeds` is ignored."""
        self.t = 0
        return self._observe()

    def step(self, act: np.ndarray) -> Step:
        """act [E, N] int. UserError: another shape or type, or an action that does not exist."""
        live = np.full(self.num_envs, self.t < self.limit)
        act = actions_in_range(act, (self.num_envs, self.payoff.ndim), len(self.payoff), live)
        reward = np.where(live, self.payoff[tuple(act.T)], 0.0)
        self.t = min(self.t + 1, self.limit)
        return Step(self._observe(), reward, np.zeros(self.num_envs, bool), np.full(self.num_envs, self.t == self.limit), {})

    def close(self) -> None:
        pass

    def _observe(self) -> Observation:
        agents, actions = self.payoff.ndim, len(self.payoff)
        obs = np.tile(self.obs, (self.num_envs, agents, 1))
        return Observation(obs, obs[:, 0].copy(), np.ones((self.num_envs, agents, actions), bool))


def register(scenario: str, quality: str, family: str, payoff: np.ndarray, obs: Sequence[float]) -> None:
    name = f"{scenario}-{quality}"
    TASKS.register(name)(
        Task(
            name=name,
            spec=Spec(payoff.ndim, len(obs), len(obs), Discrete(len(payoff)), LIMIT),
            make=partial(MatrixGame, payoff, LIMIT, obs=obs),
            family=family,
            quality=quality,
            backend="matrix-1",
            reference=(float(payoff.mean()), float(payoff.max())),  # per step, of uniformly random agents and of the best joint action
            per_step=True,
        )
    )


for support in ("ab", "ab_ba", "aa_ab_ba", "all"):
    register("xor", support, "xor", XOR, XOR_OBS)
for scenario, agents in (("mne", 2), ("mne3", 3)):
    for quality in ("balanced", "imbalanced"):
        register(scenario, quality, "mne", mne(agents), (1.0,))
