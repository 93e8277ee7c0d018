"""SMAC and SMACv2 on the simulator as a vectorized environment."""

from collections.abc import Sequence

import numpy as np

from inspo_benchmark.core.env import Observation, Step, check_num_envs, checked_seeds, whole_actions
from inspo_benchmark.envs.smac.compiled import kernel
from inspo_benchmark.envs.smac.maps import NO_OP, REWARD_SCALE, Map, Scenario, find_map
from inspo_benchmark.envs.smac.simulator import Battles
from inspo_benchmark.envs.smac.starts import Starts
from inspo_benchmark.envs.smac.views import (
    NO_ACTION,
    ONGOING,
    WON,
    RewardConfig,
    Scene,
    best_returns,
    default_reward_config,
    drawn_scene,
    fill_observations,
    fill_rewards,
)


class Smac:
    """E battles on one map or in one scenario, see `core.env.VecEnv`; info: won [E] bool. UserError: no such map or profile.

    An episode terminates when a side has won or all units are dead, and is truncated at the map's limit. In a scenario,
    `reward_config.scale` applies besides the scale of each episode, which makes a won one return REWARD_SCALE.
    """

    def __init__(self, name: str | Map | Scenario, num_envs: int, profile: str = "liberty", reward_config: RewardConfig | None = None):
        self.map, self.num_envs = find_map(name) if isinstance(name, str) else name, check_num_envs(num_envs)
        self.battles = Battles(self.map, num_envs, profile)
        self.scene = drawn_scene(self.map, self.battles.types, profile)
        self.reward_config = reward_config or default_reward_config(self.map, profile)
        self.scale: np.ndarray | float = 1.0  # of each episode's rewards [E], besides that of reward_config
        self.before = np.zeros_like(self.battles.frame)
        self.deaths_counted = np.zeros(self.before.shape[:2], bool)  # deaths that were rewarded
        self.outcome = np.full(num_envs, ONGOING)
        self.last_actions = np.full((num_envs, self.map.n), NO_ACTION)
        self.avail = np.zeros((num_envs, self.map.n, self.map.actions), bool)
        self.t, self.limit = 0, self.map.limit
        self.shapes = (num_envs, self.map.n, self.map.obs), (num_envs, self.map.state)

    def reset(self, seeds: Sequence[int], starts: Starts | None = None) -> Observation:
        """`starts`: a scenario's teams and places, instead of those that are drawn with the seeds. UserError: wrong seeds."""
        self.battles.spawn(checked_seeds(seeds, self.num_envs), starts)
        if isinstance(self.map, Scenario):
            types, profile = self.battles.types, self.battles.profile
            self.scene = drawn_scene(self.map, types, profile)
            self.scale = best_returns(self.map, types, self.reward_config, profile) / REWARD_SCALE
        self.deaths_counted[:], self.outcome[:], self.last_actions[:], self.t = False, ONGOING, NO_ACTION, 0
        return self._observe()

    def step(self, act: np.ndarray) -> Step:
        """act [E, n] int. AssertionError, with SMAC's message: an action is not available. UserError: another shape or type."""
        act = whole_actions(act, self.last_actions.shape)
        e, agent = _unavailable(act, self.avail, self.live)
        if e >= 0:
            raise AssertionError(f"Agent {agent} cannot perform action {act[e, agent]}")
        return self.step_unchecked(act if self.scene.mask_out_of_range else self._within_range(act), act)

    @property
    def live(self) -> np.ndarray:
        """[E] bool: the episode is not over."""
        return (self.outcome == ONGOING) & (self.t < self.limit)

    def step_unchecked(self, act: np.ndarray, shown: np.ndarray) -> Step:
        """Step the live battles without checking the actions [E, n]; the state shows `shown` [E, n] as the last actions."""
        live, reward = self.live, np.empty(self.num_envs)
        np.copyto(self.before, self.battles.frame)
        self.battles.advance(act, live)
        np.copyto(self.last_actions, shown, where=live[:, None])
        fill_rewards(self.before, self.battles.frame, self.deaths_counted, live, self.scene, self.reward_config, reward, self.outcome)
        reward /= self.scale
        self.t += 1
        terminated = self.outcome != ONGOING
        truncated = ~terminated if self.t >= self.limit else np.zeros(self.num_envs, bool)
        return Step(self._observe(), reward, terminated, truncated, {"won": self.outcome == WON})

    def shown_by(self, scene: Scene) -> Observation:
        """The battles under the rules of `scene`."""
        obs, state = (np.empty(shape, np.float32) for shape in self.shapes)
        avail = np.empty_like(self.avail)
        fill_observations(self.battles.frame, self.last_actions, scene, obs, state, avail)
        return Observation(obs, state, avail)

    def close(self) -> None:
        pass

    def _within_range(self, act: np.ndarray) -> np.ndarray:
        """The actions, where attacks on targets out of range are no-ops: the game gets no order, so the old one stays."""
        avail = self.shown_by(self.scene._replace(mask_out_of_range=1)).avail
        known = act.clip(0, self.map.actions - 1)  # battles that are over ignore their actions, which may be any
        return np.where(np.take_along_axis(avail, known[..., None], 2)[..., 0], act, NO_OP)

    def _observe(self) -> Observation:
        observation = self.shown_by(self.scene)
        self.avail = observation.avail.copy()
        return observation


@kernel
def _unavailable(act, avail, live):
    """The first live environment and agent whose action is not available, or -1, -1."""
    for e in range(len(act)):
        if live[e]:
            for i in range(act.shape[1]):
                if not (0 <= act[e, i] < avail.shape[2] and avail[e, i, act[e, i]]):
                    return e, i
    return -1, -1
