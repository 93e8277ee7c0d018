"""SMACv2's classes on the simulator, for code that uses the methods of SMACv2's MultiAgentEnv: StarCraft2Env and
StarCraftCapabilityEnvWrapper (github.com/oxwhirl/smacv2 at 577ab5a, smacv2/env/starcraft2) with the same signatures, observations, states,
available actions, rewards, ends, counters, sizes and names of features.

Differences, besides those of starcraft2env.py: The methods of what is not supported are absent, see docs/smacv2.md. The draws of an
episode follow from `seed` (SMACv2 does not seed them). The caller's configuration is not changed. Units start within the playable area. An
agent sees all enemies in its sight range, and an episode's rewards are scaled by its own enemies; `quirk_enemy_block` and
`quirk_first_scale` are the rules of the code. `conic_fov` and the capabilities "attack", "health" and "enemy_mask" are not supported, nor
are maps without drawn teams; `kill_unit_step_mul` has no effect. `obs_instead_of_state` works, with names of its own; SMACv2's class
cannot be made with it.
"""

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any

import numpy as np

from inspo_benchmark.core.errors import UserError, printable
from inspo_benchmark.core.registry import suggest
from inspo_benchmark.envs.smac.maps import (
    BOTH,
    DEATH_REWARD,
    FACING,
    MAP_SIZE,
    RACES,
    REFLECT,
    REWARD_SCALE,
    SURROUNDED,
    WIN_REWARD,
    Map,
    Scenario,
)
from inspo_benchmark.envs.smac.simulator import HEALTH, X, Y
from inspo_benchmark.envs.smac.starcraft2env import FIRST_AGENT_TYPE_ID, UNIT_TYPE_IDS
from inspo_benchmark.envs.smac.starcraft2env import StarCraft2Env as SmacEnv
from inspo_benchmark.envs.smac.starts import Starts, draw
from inspo_benchmark.envs.smac.units import TYPES, Unit
from inspo_benchmark.envs.smac.views import best_returns

MAP_RACES = {f"10gen_{race}": race for race in RACES}
PLACES = (REFLECT, SURROUNDED, BOTH)
UNSUPPORTED = ("attack", "health", "enemy_mask")  # capabilities


class EnemyMemory:
    """Which enemies an agent knows: whoever finds an enemy tells each teammate of it with probability `probability`.

    With `blank_blocks`, as in SMACv2's code, an enemy that an agent does not know hides all enemies with lower numbers from it, not just
    itself. An enemy is unknown until somebody has found it, and again when it or its finder has died.
    """

    def __init__(self, n: int, m: int, probability: float, blank_blocks: bool, uniform: Callable[[], float]):
        """`uniform`: the next random number on [0, 1)."""
        self.probability, self.blank_blocks, self.uniform = probability, blank_blocks, uniform
        self.finder = np.full(m, -1)
        self.known = np.zeros((m, n), bool)

    def clear(self) -> None:
        self.finder[:], self.known[:] = -1, False

    def look(self, frame: np.ndarray, sight: np.ndarray, order: Sequence[int], fully_observable: bool = False) -> np.ndarray:
        """The agents look around in this order. frame [U, 6], sight [n] -> shown [n, m] bool: enemies that an agent sees if they are alive
        and in its sight range. Dead enemies are found where they fell. `fully_observable`: unknown enemies are shown as well, but hide
        others as ever."""
        m, n = self.known.shape
        shown = np.zeros((n, m), bool)
        distance = np.hypot(frame[:n, None, X] - frame[n:, X], frame[:n, None, Y] - frame[n:, Y])
        for a in order:
            if frame[a, HEALTH] == 0:
                continue
            for e in range(m):
                if distance[a, e] < sight[a] and self.finder[e] < 0:
                    self.finder[e], self.known[e, a] = a, True
                    for b in range(n):
                        if b != a and self.uniform() < self.probability:
                            self.known[e, b] = True
                if self.known[e, a]:
                    shown[a, e] = True
                elif self.blank_blocks:
                    shown[a] = False
                else:
                    shown[a, e] = fully_observable
        return shown

    def forget(self, frame: np.ndarray) -> None:
        """What the dead found is unknown again, and so are dead enemies."""
        m, n = self.known.shape
        dead = frame[:, HEALTH] == 0
        for e in range(m):
            if self.finder[e] >= 0 and dead[self.finder[e]]:
                self.known[:, self.finder[e]] = False
                self.finder[e], self.known[e] = -1, False
            if dead[n + e]:
                self.finder[e], self.known[e] = -1, False


class StarCraft2Env(SmacEnv):
    """A battle between two teams of `capability_config`; see the module's docstring. `profile` as in SMAC's class.

    UserError: as in SMAC's class, or something in the configuration is missing or not supported.
    """

    _unused_time = 0

    def __init__(
        self,
        map_name="8m",
        step_mul=8,
        move_amount=2,
        difficulty="7",
        game_version=None,
        seed=None,
        continuing_episode=False,
        obs_all_health=True,
        obs_own_health=True,
        obs_last_action=False,
        obs_pathing_grid=False,
        obs_terrain_height=False,
        obs_instead_of_state=False,
        obs_timestep_number=False,
        obs_own_pos=False,
        obs_starcraft=True,
        conic_fov=False,
        num_fov_actions=12,
        state_last_action=True,
        state_timestep_number=False,
        reward_sparse=False,
        reward_only_positive=True,
        reward_death_value=DEATH_REWARD,
        reward_win=WIN_REWARD,
        reward_defeat=0,
        reward_negative_scale=0.5,
        reward_scale=True,
        reward_scale_rate=REWARD_SCALE,
        use_unit_ranges=False,
        min_attack_range=2,
        kill_unit_step_mul=2,
        fully_observable=False,
        capability_config=MappingProxyType({}),
        replay_dir="",
        replay_prefix="",
        window_size_x=1920,
        window_size_y=1200,
        heuristic_ai=False,
        heuristic_rest=False,
        debug=False,
        prob_obs_enemy=1.0,
        action_mask=True,
        profile="liberty",
        quirk_enemy_block=False,
        quirk_first_scale=False,
    ):
        if conic_fov:
            raise UserError("conic_fov=True is not supported: agents see in all directions")
        scenario = configured(
            map_name,
            capability_config,
            own_position=bool(obs_own_pos),
            unit_ranges=bool(use_unit_ranges),
            min_attack_range=float(min_attack_range),
            see_all=bool(fully_observable),
            mask_out_of_range=bool(action_mask),
        )
        super().__init__(
            scenario,
            step_mul=step_mul,
            move_amount=move_amount,
            seed=seed,
            continuing_episode=continuing_episode,
            obs_all_health=obs_all_health,
            obs_own_health=obs_own_health,
            obs_last_action=obs_last_action,
            obs_pathing_grid=obs_pathing_grid,
            obs_terrain_height=obs_terrain_height,
            obs_instead_of_state=obs_instead_of_state,
            obs_timestep_number=obs_timestep_number,
            state_last_action=state_last_action,
            state_timestep_number=state_timestep_number,
            reward_sparse=reward_sparse,
            reward_only_positive=reward_only_positive,
            reward_death_value=reward_death_value,
            reward_win=reward_win,
            reward_defeat=reward_defeat,
            reward_negative_scale=reward_negative_scale,
            heuristic_ai=heuristic_ai,
            heuristic_rest=heuristic_rest,
            profile=profile,
        )
        self.map_name, self.capability_config = map_name, capability_config
        self.obs_own_pos, self.obs_starcraft, self.fully_observable = obs_own_pos, obs_starcraft, fully_observable
        self.prob_obs_enemy, self.action_mask = prob_obs_enemy, action_mask
        self.reward_scale, self.reward_scale_rate, self.quirk_first_scale = reward_scale, reward_scale_rate, quirk_first_scale
        self._random = random.Random(self._seed)
        self._first = True
        self._memory = EnemyMemory(self.n_agents, self.n_enemies, prob_obs_enemy, bool(quirk_enemy_block), self._random.random)
        self._forgetful = quirk_enemy_block or prob_obs_enemy < 1

    # --- episodes

    def reset(self, episode_config=None):
        """`episode_config`: {"team_gen": {"ally_team": [...], "enemy_team": [...]}, "ally_start_positions": {"item": [n, 2]},
        "enemy_start_positions": {"item": [m, 2]}}; what it lacks is drawn. UserError: an entry is missing or does not fit."""
        self._begin(self._starts(episode_config or {}))
        self._meet()
        if self._first or not self.quirk_first_scale:
            self.max_reward = float(
                best_returns(self.game.map, self.game.battles.types, self.game.reward_config, self.game.battles.profile)[0]
            )
        self.game.scale = self.max_reward / self.reward_scale_rate if self.reward_scale else 1.0
        self._first = False
        self._memory.clear()
        return self.get_obs(), self.get_state()

    def step(self, actions):
        """One action per agent -> reward, terminated, info."""
        out = super().step(actions)
        self._memory.forget(self.game.battles.frame[0])
        return out

    def _starts(self, config: Mapping[str, Any]) -> Starts | None:
        if not config:
            return None
        if not isinstance(config, Mapping):
            raise _wrong("episode_config", config, "a dict")
        map, n = self.game.map, self.n_agents
        types, places = (x[0] for x in draw(map, [self._random.getrandbits(32)]))
        if "team_gen" in config:
            teams = [_names(config["team_gen"], side) for side in ("ally_team", "enemy_team")]
            if (len(teams[0]), len(teams[1])) != (n, map.m) or not set(teams[0] + teams[1]) <= set(map.types):
                raise UserError(f"team_gen: {n} allies and {map.m} enemies of the types {', '.join(map.types)} are needed")
            types = np.array([TYPES.index(name) for name in teams[0] + teams[1]])
        for key, rows in (("ally_start_positions", slice(None, n)), ("enemy_start_positions", slice(n, None))):
            if key in config:
                item = _entry(config[key], "item", key)
                try:
                    given = np.asarray(item, float)
                except (TypeError, ValueError):  # texts, or rows of different lengths
                    given = np.empty(0)
                if given.shape != places[rows].shape or not np.isfinite(given).all():
                    raise UserError(f"{key}: finite positions of shape {places[rows].shape} are needed")
                places[rows] = given
        return Starts(types[None], places[None])

    # --- observations

    def get_obs(self):
        """A list of float32 arrays; with obs_timestep_number, float64, unless obs_starcraft is False."""
        order = self._random.sample(range(self.n_agents), self.n_agents) if self._forgetful else ()
        return list(self._seen_by(order, self.fully_observable))

    def get_obs_agent(self, agent_id, fully_observable=False):
        """Only this agent looks around. `fully_observable`: at any distance, whatever the environment's flag."""
        return self._seen_by([agent_id], fully_observable)[agent_id]

    def get_capabilities(self):
        """The one-hot types of all agents, float32 [n * 3]."""
        return np.concatenate([self.get_capabilities_agent(i) for i in range(self.n_agents)])

    def get_capabilities_agent(self, agent_id):
        self._now()
        return np.eye(self.unit_type_bits, dtype=np.float32)[self.game.scene.units["bit"][0, agent_id]]

    # --- sizes and names

    def get_obs_size(self):
        return (super().get_obs_size() if self.obs_starcraft else 0) + bool(self.obs_timestep_number)

    def get_obs_own_feats_size(self):
        health, place = (1 + self.shield_bits_ally) * bool(self.obs_own_health), 2 * bool(self.obs_own_pos)
        return self.unit_type_bits + (health + place if self.obs_starcraft else 0)

    def get_obs_ally_capability_size(self):
        return self.unit_type_bits

    def get_ally_num_attributes(self):
        return len(self.ally_state_attr_names) + len(self.capability_attr_names)

    @property
    def ally_state_attr_names(self):
        return super().ally_state_attr_names[: -self.unit_type_bits]

    @property
    def capability_attr_names(self):
        return super().ally_state_attr_names[-self.unit_type_bits :]

    def get_cap_size(self):
        return self.unit_type_bits

    def get_env_info(self):
        features = self.ally_state_attr_names + self.capability_attr_names
        return super().get_env_info() | {"cap_shape": self.get_cap_size(), "agent_features": features}

    def get_obs_feature_names(self):
        """A name for every number of an observation, as seen by agent 0."""
        time = ["timestep"] * bool(self.obs_timestep_number)
        if not self.obs_starcraft:
            return time
        around = ["distance", "relative_x", "relative_y"]
        enemy = ["shootable", *around, *self._health(self.obs_all_health, self.shield_bits_enemy)]
        ally = ["visible", *around, *self._health(self.obs_all_health, self.shield_bits_ally)]
        own = self._health(self.obs_own_health, self.shield_bits_ally) + ["pos_x", "pos_y"] * bool(self.obs_own_pos)
        names = [f"move_action_{way}" for way in ("north", "south", "east", "west")]
        names += [f"pathing_grid_{k}" for k in range(8 * bool(self.obs_pathing_grid))]
        names += [f"terrain_height_{k}" for k in range(9 * bool(self.obs_terrain_height))]
        for j in range(self.n_enemies):
            names += self._named("enemy", f"_{j}", enemy)
        for i in range(1, self.n_agents):
            names += self._named("ally", f"_{i}", ally) + self._action_names(i) * bool(self.obs_last_action)
        return names + self._named("own", "", own) + time

    def get_state_feature_names(self):
        """A name for every number of the state."""
        if self.obs_instead_of_state:
            return [f"agent_{i}_{name}" for i in range(self.n_agents) for name in self.get_obs_feature_names()]
        ally = ["health", "cooldown", "relative_x", "relative_y"] + ["shield"] * self.shield_bits_ally
        enemy = ["health", "relative_x", "relative_y"] + ["shield"] * self.shield_bits_enemy
        names = [name for i in range(self.n_agents) for name in self._named("ally", f"_{i}", ally)]
        names += [name for j in range(self.n_enemies) for name in self._named("enemy", f"_{j}", enemy)]
        if self.state_last_action:
            names += [name for i in range(self.n_agents) for name in self._action_names(i)]
        return names + ["timestep"] * bool(self.state_timestep_number)

    def _named(self, whose: str, number: str, features: list[str]) -> list[str]:
        bits = [f"{whose}_unit_type{number}_bit_{bit}" for bit in range(self.unit_type_bits)]
        return [f"{whose}_{feature}{number}" for feature in features] + bits

    def _action_names(self, i: int) -> list[str]:
        return [f"ally_last_action_{i}_action_{a}" for a in range(self.n_actions)]

    @staticmethod
    def _health(shown: bool, shield: int) -> list[str]:
        return (["health"] + ["shield"] * shield) * bool(shown)

    # --- internals

    def _seen_by(self, order: Sequence[int], fully_observable: bool) -> np.ndarray:
        """The observations of the agents that look around in this order; those of others are of no use. `order` matters to the memory."""
        obs = self._now().obs[0]
        if bool(fully_observable) != bool(self.fully_observable):
            units = self.game.scene.units.copy()
            units["seen"] = math.inf if fully_observable else units["sight"]
            obs = self.game.shown_by(self.game.scene._replace(units=units)).obs[0]
        obs = self._with_flags(obs)
        if not self.obs_starcraft:
            return obs[:, -1:].astype(np.float32) if self.obs_timestep_number else obs[:, :0]
        if self._forgetful:
            sight = self.game.scene.units["sight"][0, : self.n_agents]
            shown = self._memory.look(self.game.battles.frame[0], sight, order, bool(fully_observable))
            first, shape = self.get_obs_move_feats_size(), self.get_obs_enemy_feats_size()
            for x, seen in zip(obs, shown, strict=True):
                x[first : first + shape[0] * shape[1]].reshape(shape)[~seen] = 0
        return obs

    def _find(self, map_name: Scenario) -> Map | Scenario:
        return map_name

    def _unit_type(self, k: int, unit: Unit) -> int:
        return UNIT_TYPE_IDS[unit.name] if k >= self.n_agents else FIRST_AGENT_TYPE_ID + TYPES.index(unit.name)


class StarCraftCapabilityEnvWrapper:
    """SMACv2's wrapper: `reset()` draws the teams and places. Everything else is the StarCraft2Env in `env`; the methods below are those
    that subclasses extend.
    """

    def __init__(self, **kwargs):
        if "capability_config" not in kwargs:
            raise UserError("capability_config is missing")
        self.distribution_config = kwargs["capability_config"]
        self.env = StarCraft2Env(**kwargs)

    def reset(self):
        return self.env.reset()

    def __getattr__(self, name):
        if name == "env":  # before __init__, e.g. in a copy
            raise AttributeError(name)
        return getattr(self.env, name)

    def step(self, actions):
        return self.env.step(actions)

    def get_obs(self):
        return self.env.get_obs()

    def get_obs_agent(self, agent_id):
        return self.env.get_obs_agent(agent_id)

    def get_state(self):
        return self.env.get_state()

    def get_avail_actions(self):
        return self.env.get_avail_actions()

    def get_avail_agent_actions(self, agent_id):
        return self.env.get_avail_agent_actions(agent_id)

    def get_env_info(self):
        return self.env.get_env_info()


def configured(map_name: str, config: Mapping[str, Any], **flags) -> Scenario:
    """The scenario of a capability configuration on one of SMACv2's maps. UserError: something is missing or not supported."""
    if not isinstance(map_name, str):
        raise UserError(f"no SMACv2 map {map_name!r}; write its name, a string")
    if map_name not in MAP_RACES:
        raise UserError(f"no SMACv2 map {map_name!r}; {suggest(map_name, MAP_RACES)}")
    team, start = _entry(config, "team_gen"), config.get("start_positions")
    for name in UNSUPPORTED:
        if name in config:
            raise UserError(f"capability_config: {name!r} is not supported")
    n, m = (_count(config, key) for key in ("n_units", "n_enemies"))
    if _entry(team, "dist_type", "team_gen") != "weighted_teams":
        raise UserError(f"team_gen: dist_type {team['dist_type']!r} is not supported, only 'weighted_teams'")
    race = MAP_RACES[map_name]
    types, unit_types, weights = RACES[race][0], _names(team, "unit_types"), _entry(team, "weights", "team_gen")
    exceptions = _names(team, "exception_unit_types") if "exception_unit_types" in team else ()
    if wrong := sorted(set(unit_types) - set(types)):
        raise UserError(f"team_gen: no unit type {wrong[0]!r} on {map_name}; {suggest(wrong[0], types)}")
    numbers = isinstance(weights, Collection) and all(isinstance(weight, Real) and weight >= 0 for weight in weights)
    if not (numbers and len(weights) == len(unit_types) and abs(sum(weights) - 1) <= 1e-8):
        raise _wrong("team_gen: weights", weights, f"{len(unit_types)} probabilities that add up to 1")
    if not any(weight > 0 and name not in exceptions for name, weight in zip(unit_types, weights, strict=True)):
        raise UserError("team_gen: every drawn type is in exception_unit_types, so no team can be drawn")
    places, p = FACING, 0.5
    if start is not None:
        places = _entry(start, "dist_type", "start_positions")
        if places not in PLACES:
            raise UserError(f"start_positions: dist_type {places!r} is not supported; {suggest(str(places), PLACES)}")
        if places == BOTH:
            p = _entry(start, "p", "start_positions")
            if not (isinstance(p, Real) and 0 <= p <= 1):
                raise _wrong("start_positions: p", p, "a probability")
        for axis in ("map_x", "map_y"):
            if start.get(axis, MAP_SIZE) != MAP_SIZE:
                raise UserError(f"start_positions: {axis} is {start[axis]}, but the map has {MAP_SIZE}")
    return Scenario(
        f"{race}_{n}_vs_{m}",
        n,
        m,
        types,
        unit_types,
        tuple(weights),
        exceptions,
        places=places,
        reflect_probability=float(p),
        show_teammates=bool(team.get("observe", True)),
        **flags,
    )


def _entry(config: Mapping[str, Any], key: str, within: str = "capability_config") -> Any:
    if not isinstance(config, Mapping):
        raise _wrong(within, config, f"a dict with {key!r}")
    if key not in config:
        raise UserError(f"{within}: {key!r} is missing")
    return config[key]


def _names(team: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = _entry(team, key, "team_gen")
    if isinstance(names, str) or not (isinstance(names, Collection) and all(isinstance(name, str) for name in names)):
        raise _wrong(f"team_gen: {key}", names, "a list of unit types")
    return tuple(map(str, names))  # numpy's texts too


def _wrong(name: str, value: Any, needed: str) -> UserError:
    return UserError(f"{name}={printable(repr(value))}: write {needed}")


def _count(config: Mapping[str, Any], key: str) -> int:
    value = _entry(config, key)
    if not (isinstance(value, Integral) and value > 0):
        raise UserError(f"capability_config: {key} is {value!r}, a positive whole number is needed")
    return int(value)
