"""SMAC as the evaluator sees it: many battles in lock-step."""

from collections.abc import Sequence

import numpy as np

from inspo_benchmark.core.env import Observation, Step
from inspo_benchmark.envs.smac.maps import find
from inspo_benchmark.envs.smac.simulator import Battles, kernel
from inspo_benchmark.envs.smac.views import NOT_YET, OPEN, WON, Terms, default_terms, judge, look, scene


class Smac:
    """E battles on one map, see `core.env.VecEnv`; info: won [E] bool. UserError: no such map or profile.

    Terminated when a side has won or everybody is dead, otherwise truncated at the map's limit. `terms`: what is paid for.
    """

    def __init__(self, name: str, num_envs: int, profile: str = "liberty", terms: Terms | None = None):
        self.map, self.num_envs = find(name), num_envs
        self.battles, self.scene = Battles(self.map, num_envs, profile), scene(self.map, profile)
        self.terms = terms or default_terms(self.map, profile)
        self.before = np.zeros_like(self.battles.frame)
        self.counted = np.zeros(self.before.shape[:2], bool)  # deaths that were paid for
        self.code = np.full(num_envs, OPEN)
        self.last = np.full((num_envs, self.map.n), NOT_YET)
        self.avail = np.zeros((num_envs, self.map.n, self.map.actions), bool)
        self.t, self.limit = 0, self.map.limit
        self.shapes = (num_envs, self.map.n, self.map.obs), (num_envs, self.map.state)

    def reset(self, seeds: Sequence[int]) -> Observation:
        self.battles.spawn(seeds)
        self.counted[:], self.code[:], self.last[:], self.t = False, OPEN, NOT_YET, 0
        return self._seen()

    def step(self, act: np.ndarray) -> Step:
        """AssertionError with SMAC's message for an action that is not legal."""
        act, live = np.ascontiguousarray(act, np.int64), self.live
        lane, agent = _refused(act, self.avail, live)
        if lane >= 0:
            raise AssertionError(f"Agent {agent} cannot perform action {act[lane, agent]}")
        return self.play(act, act, live)

    @property
    def live(self) -> np.ndarray:
        """[E] bool: the episode is not over."""
        return (self.code == OPEN) & (self.t < self.limit)

    def play(self, act: np.ndarray, shown: np.ndarray, live: np.ndarray) -> Step:
        """A step of the battles that are live [E], without a look at what is legal; the state shows `shown` as the last actions [E, n]."""
        reward = np.empty(self.num_envs)
        np.copyto(self.before, self.battles.frame)
        self.battles.advance(act, live)
        np.copyto(self.last, shown, where=live[:, None])
        judge(self.before, self.battles.frame, self.counted, live, self.scene, self.terms, reward, self.code)
        self.t += 1
        terminated = self.code != OPEN
        truncated = ~terminated if self.t >= self.limit else np.zeros(self.num_envs, bool)
        return Step(self._seen(), reward, terminated, truncated, {"won": self.code == WON})

    def close(self) -> None:
        pass

    def _seen(self) -> Observation:
        obs, state = (np.empty(shape, np.float32) for shape in self.shapes)
        look(self.battles.frame, self.last, self.scene, obs, state, self.avail)
        return Observation(obs, state, self.avail.copy())


@kernel
def _refused(act, avail, live):
    """The first lane and agent whose action is not legal, or -1, -1."""
    for e in range(len(act)):
        if live[e]:
            for i in range(act.shape[1]):
                if not (0 <= act[e, i] < avail.shape[2] and avail[e, i, act[e, i]]):
                    return e, i
    return -1, -1
