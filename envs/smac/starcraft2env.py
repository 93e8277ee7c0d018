"""SMAC's own class on the simulator, for code written for it: the signature, methods, attributes, types and quirks of StarCraft2Env
(github.com/oxwhirl/smac at d6aab33, smac/env/starcraft2/starcraft2.py).

What differs. No game is launched, so that `game_version`, `difficulty` (SMAC's enemies follow one order at any difficulty), `replay_dir`,
`replay_prefix`, `window_size_x`, `window_size_y` and `debug` are accepted and change nothing. A step has 8 game loops and a move goes 2
cells, as SMAC's defaults have it. The heights of the ground are not known: with `obs_terrain_height` it is level. `seed` decides all
episodes; without one it is drawn, and `seed()` tells it. With `heuristic_ai`, a Medivac that has nobody to heal stops.
"""

import math
import secrets
import warnings

import numpy as np

from inspo_benchmark.core.env import Observation
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.envs.smac.maps import DEATH, NO_ATTACK, SCALE, SIZE, WIN, Map, find
from inspo_benchmark.envs.smac.simulator import ENERGY_MAX, HEALTH, MOVE, X, Y
from inspo_benchmark.envs.smac.units import STEP_LOOPS, Unit
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.envs.smac.views import ACROSS, LOST, WON, Terms, visibility

TYPES = {  # the game's numbers (pysc2.lib.units)
    "marine": 48, "marauder": 51, "medivac": 54, "stalker": 74, "zealot": 73, "colossus": 4, "zergling": 105, "baneling": 9,
    "hydralisk": 107, "spinecrawler": 98,
}  # fmt: skip
OWN_TYPES = 2000  # agents are copies, numbered from here in the order of their type bits; the real numbers are beyond the game's own
KINDS = {  # ally types -> SMAC's map_type
    ("marine",): "marines",
    ("stalker",): "stalkers",
    ("zealot",): "zealots",
    ("hydralisk",): "hydralisks",
    ("colossus",): "colossus",
    ("stalker", "zealot"): "stalkers_and_zealots",
    ("colossus", "stalker", "zealot"): "colossi_stalkers_zealots",
    ("marauder", "marine", "medivac"): "MMM",
    ("baneling", "zergling"): "bane",
}
MOVES = 4
AROUND = np.array([(0, 2), (0, -2), (2, 0), (-2, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)]) * int(MOVE)  # cells that obs_pathing_grid shows
LEVEL = 0.5  # height of the ground, of 1


class Point:
    """Where a unit is, at any time."""

    def __init__(self, row: np.ndarray):
        self._row = row

    @property
    def x(self) -> float:
        return float(self._row[0])

    @property
    def y(self) -> float:
        return float(self._row[1])


class Fighter:
    """A unit under the names of the game's protocol. It shows the present; a deepcopy of it stays as it is."""

    def __init__(self, row: np.ndarray, unit: Unit, tag: int, unit_type: int, owner: int):
        self._row, self.pos = row, Point(row)
        self.tag, self.unit_type, self.owner = tag, unit_type, owner
        self.health_max, self.shield_max, self.radius = float(unit.health), float(unit.shield), unit.radius
        self.energy_max = ENERGY_MAX if unit.heal else 0.0

    @property
    def health(self) -> float:
        return float(self._row[2])

    @property
    def shield(self) -> float:
        return float(self._row[3])

    @property
    def weapon_cooldown(self) -> float:
        return float(self._row[4])

    @property
    def energy(self) -> float:
        return float(self._row[5])


class Heuristic:
    """SMAC's own player, who sees everything: everybody attacks the nearest enemy until it is dead, a Medivac heals the nearest wounded.

    `rest`: a target out of reach is approached by moves instead of an order to attack. Actions need not be legal: an attack from afar,
    a move into a wall, an attack of somebody dead. 0: there is nobody to attack or heal.
    """

    def __init__(self, map: Map, rest: bool = False):
        self.map, self.units, self.rest = map, map.units(), rest
        self.targets: list[int | None] = [None] * map.n  # unit index

    def __call__(self, frame: np.ndarray, avail: np.ndarray) -> list[int]:
        """frame [U, 6], legal [n, A] -> an action for each agent, one step after the other of an episode."""
        return [self._act(i, frame.tolist(), avail[i]) for i in range(self.map.n)]

    def _act(self, i: int, frame: list, avail: np.ndarray) -> int:
        n, heals, t = self.map.n, self.units[i].heal > 0, self.targets[i]
        if t is None or not self._wanted(t, frame):
            others = [j for j in range(n) if not self.units[j].heal] if heals else range(n, len(frame))
            t = self.targets[i] = self._nearest(i, [j for j in others if self._wanted(j, frame)], frame)
        if t is None:
            return 0
        action = NO_ATTACK + t - (0 if heals else n)
        if self.rest and not avail[action]:
            dx, dy = frame[t][X] - frame[i][X], frame[t][Y] - frame[i][Y]
            return (4 if dx > 0 else 5) if abs(dx) > abs(dy) else (2 if dy > 0 else 3)
        return action

    def _wanted(self, j: int, frame: list) -> bool:
        health = frame[j][HEALTH]
        return health > 0 and (j >= self.map.n or health != self.units[j].health)

    def _nearest(self, i: int, others: list[int], frame: list) -> int | None:
        """The first of the nearest; SMAC looks no further than the map's diagonal."""
        best, least = None, math.hypot(ACROSS, ACROSS)
        for j in others:
            distance = math.hypot(frame[j][X] - frame[i][X], frame[j][Y] - frame[i][Y])
            if distance < least:
                best, least = j, distance
        return best


class StarCraft2Env:
    """A battle on the SMAC map `map_name`; `profile` chooses the unit data ("liberty", what SMAC's maps declare, or "lotv").

    UserError: no such map or profile, a step or a move of another length, a seed below 0, a step outside an episode.
    AssertionError: an action that is not available ("Agent 0 cannot perform action 6").
    """

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
        state_last_action=True,
        state_timestep_number=False,
        reward_sparse=False,
        reward_only_positive=True,
        reward_death_value=DEATH,
        reward_win=WIN,
        reward_defeat=0,
        reward_negative_scale=0.5,
        reward_scale=True,
        reward_scale_rate=SCALE,
        replay_dir="",
        replay_prefix="",
        window_size_x=1920,
        window_size_y=1200,
        heuristic_ai=False,
        heuristic_rest=False,
        debug=False,
        profile="liberty",
    ):
        map = find(map_name)
        for name, value, only in (("step_mul", step_mul, STEP_LOOPS), ("move_amount", move_amount, MOVE)):
            if value != only:
                raise UserError(f"{name}={value}: the simulator knows {name}={only:g} only, SMAC's default")
        self.map_name, self.n_agents, self.n_enemies, self.episode_limit = map_name, map.n, map.m, map.limit
        self.map_type = KINDS[map.types or (map.allies[0].type,)]
        self.n_actions_no_attack, self.n_actions_move, self.n_actions = NO_ATTACK, MOVES, map.actions
        self.shield_bits_ally, self.shield_bits_enemy, self.unit_type_bits = map.ally_shield, map.enemy_shield, len(map.types)
        self.map_x = self.map_y = SIZE
        self.max_distance_x = self.max_distance_y = ACROSS

        self.continuing_episode = continuing_episode
        self.obs_all_health, self.obs_own_health, self.obs_last_action = obs_all_health, obs_own_health, obs_last_action
        self.obs_pathing_grid, self.obs_terrain_height = obs_pathing_grid, obs_terrain_height
        self.obs_instead_of_state, self.obs_timestep_number = obs_instead_of_state, obs_timestep_number
        self.state_last_action, self.state_timestep_number = state_last_action, state_timestep_number
        self.heuristic_ai, self.heuristic_rest = heuristic_ai, heuristic_rest

        foes = map.units(profile)[map.n :]
        self.max_reward = self.n_enemies * reward_death_value + reward_win + sum(unit.health + unit.shield for unit in foes)
        terms = Terms(
            scale=self.max_reward / reward_scale_rate if reward_scale else 1.0,
            only_positive=bool(reward_only_positive),
            sparse=bool(reward_sparse),
            death=float(reward_death_value),
            win=float(reward_win),
            defeat=float(reward_defeat),
            negative=float(reward_negative_scale),
        )
        self.game = Smac(map_name, 1, profile, terms)
        self.pathing_grid, self.terrain_height = self.game.scene.free, np.full((SIZE, SIZE), LEVEL)
        fighters = [
            Fighter(row, unit, tag=k + 1, unit_type=self._unit_type(map, k, unit), owner=1 if k < map.n else 2)
            for k, (row, unit) in enumerate(zip(self.game.battles.frame[0], self.game.battles.units, strict=True))
        ]
        self.agents, self.enemies = dict(enumerate(fighters[: map.n])), dict(enumerate(fighters[map.n :]))

        if seed is not None and seed < 0:
            raise UserError(f"seed={seed}: seeds are 0 and above, or None for one that is drawn")
        self._seed = secrets.randbits(32) if seed is None else seed
        self._episodes = np.random.Philox(key=self._seed)
        self._seen: Observation | None = None  # None: before the first episode
        self._over = True
        self._one_hot = np.eye(self.n_actions)
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self.battles_won = self.battles_game = self.timeouts = self.force_restarts = 0

    # --- episodes

    def reset(self):
        """-> a list of the agents' observations, the state."""
        self._seen, self._over = self.game.reset([self._episodes.random_raw()]), False
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self._heuristic = Heuristic(self.game.map, self.heuristic_rest)
        return self.get_obs(), self.get_state()

    def step(self, actions):
        """An action for each agent -> reward, terminated, info. The battle's end and the time limit both terminate.

        With `heuristic_ai` the heuristic acts; `actions` is overwritten with what it did, while `last_action` keeps what was given.
        """
        if self._over:
            raise UserError("no episode is running: call reset() before step()")
        given = [int(action) for action in actions]
        if len(given) != self.n_agents:
            raise UserError(f"{len(given)} actions for {self.n_agents} agents")
        shown = np.array([given])
        if self.heuristic_ai:
            chosen = self._heuristic(self.game.battles.frame[0], self._seen.avail[0])
            for i, action in enumerate(chosen):  # one by one: also into a tensor
                actions[i] = action
            step = self.game.play(np.array([chosen]), shown, self.game.live)
        else:
            step = self.game.step(shown)
        self.last_action = self._one_hot[given]
        self._seen, won, timeout = step.observation, bool(step.info["won"][0]), bool(step.truncated[0])
        self._over = timeout or bool(step.terminated[0])
        self.battles_game += self._over
        self.battles_won += won
        self.timeouts += timeout

        dead = self.game.battles.frame[0, :, HEALTH] == 0
        info = {"battle_won": won, "dead_allies": int(dead[: self.n_agents].sum()), "dead_enemies": int(dead[self.n_agents :].sum())}
        if timeout and self.continuing_episode:
            info["episode_limit"] = True
        return float(step.rewards[0]), self._over, info

    def seed(self):
        return self._seed

    def close(self):
        pass

    def render(self, mode="human"):
        warnings.warn(f"the simulator opens no window; pictures of episodes: python -m tools.render_smac {self.map_name}", stacklevel=2)

    def save_replay(self):
        warnings.warn(f"only the real game writes replays; pictures of episodes: python -m tools.render_smac {self.map_name}", stacklevel=2)

    # --- what is seen

    def get_obs(self):
        """A list of float32 arrays; float64 and one number longer than `get_obs_size` says with obs_timestep_number, as in SMAC."""
        obs = self._now().obs[0]
        if self._obs_flags:
            obs = self._flagged(obs)
        return list(obs.copy())

    def get_obs_agent(self, agent_id):
        return self.get_obs()[agent_id]

    def get_state(self):
        """float32, for training only."""
        if self.obs_instead_of_state:
            return np.concatenate(self.get_obs()).astype(np.float32)
        state = self._now().state[0].copy()
        if not self.state_last_action:
            state = state[: -self.n_agents * self.n_actions]
        return np.append(state, np.float32(self._clock)) if self.state_timestep_number else state

    def get_state_dict(self):
        """The parts of the state as float64: allies [n, ...], enemies [m, ...], last_action [n, A], timestep."""
        nf_al, nf_en = len(self.ally_state_attr_names), len(self.enemy_state_attr_names)
        allies, enemies, _ = np.split(self._now().state[0].astype(float), np.cumsum([self.n_agents * nf_al, self.n_enemies * nf_en]))
        parts = {"allies": allies.reshape(-1, nf_al), "enemies": enemies.reshape(-1, nf_en)}
        if self.state_last_action:
            parts["last_action"] = self.last_action
        if self.state_timestep_number:
            parts["timestep"] = self._clock
        return parts

    def get_avail_actions(self):
        """A list of 0 and 1 for each agent."""
        return self._now().avail[0].view(np.int8).tolist()

    def get_avail_agent_actions(self, agent_id):
        return self._now().avail[0, agent_id].view(np.int8).tolist()

    def get_visibility_matrix(self):
        """[n, n + m] bool: agents, then enemies, that each agent sees."""
        visible = np.empty((1, self.n_agents, self.n_agents + self.n_enemies), bool)
        visibility(self.game.battles.frame, self.game.scene, visible)
        return visible[0]

    def get_unit_by_id(self, a_id):
        return self.agents[a_id]

    @property
    def death_tracker_ally(self):
        """[n] 1.0 for the dead that were paid for."""
        return self.game.counted[0, : self.n_agents].astype(float)

    @property
    def death_tracker_enemy(self):
        return self.game.counted[0, self.n_agents :].astype(float)

    @property
    def win_counted(self):
        return bool(self.game.code[0] == WON)

    @property
    def defeat_counted(self):
        return bool(self.game.code[0] == LOST)

    # --- sizes

    def get_total_actions(self):
        return self.n_actions

    def get_obs_size(self):
        return (
            self.get_obs_move_feats_size()
            + math.prod(self.get_obs_enemy_feats_size())
            + math.prod(self.get_obs_ally_feats_size())
            + self.get_obs_own_feats_size()
        )

    def get_obs_move_feats_size(self):
        return MOVES + len(AROUND) * bool(self.obs_pathing_grid) + (len(AROUND) + 1) * bool(self.obs_terrain_height)

    def get_obs_enemy_feats_size(self):
        return self.n_enemies, 4 + (1 + self.shield_bits_enemy) * bool(self.obs_all_health) + self.unit_type_bits

    def get_obs_ally_feats_size(self):
        health = (1 + self.shield_bits_ally) * bool(self.obs_all_health)
        return self.n_agents - 1, 4 + health + self.unit_type_bits + self.n_actions * bool(self.obs_last_action)

    def get_obs_own_feats_size(self):
        return (1 + self.shield_bits_ally) * bool(self.obs_own_health) + self.unit_type_bits + bool(self.obs_timestep_number)

    def get_state_size(self):
        if self.obs_instead_of_state:
            return self.get_obs_size() * self.n_agents
        units = self.n_agents * len(self.ally_state_attr_names) + self.n_enemies * len(self.enemy_state_attr_names)
        return units + self.n_agents * self.n_actions * bool(self.state_last_action) + bool(self.state_timestep_number)

    @property
    def ally_state_attr_names(self):
        return ["health", "energy/cooldown", "rel_x", "rel_y"] + self._shield_and_types(self.shield_bits_ally)

    @property
    def enemy_state_attr_names(self):
        return ["health", "rel_x", "rel_y"] + self._shield_and_types(self.shield_bits_enemy)

    def get_env_info(self):
        return {
            "state_shape": self.get_state_size(),
            "obs_shape": self.get_obs_size(),
            "n_actions": self.n_actions,
            "n_agents": self.n_agents,
            "episode_limit": self.episode_limit,
            "agent_features": self.ally_state_attr_names,
            "enemy_features": self.enemy_state_attr_names,
        }

    def get_stats(self):
        """Counts over all episodes; SMAC calls the timeouts draws. The win rate is 0 before the first end of an episode."""
        return {
            "battles_won": self.battles_won,
            "battles_game": self.battles_game,
            "battles_draw": self.timeouts,
            "win_rate": self.battles_won / max(self.battles_game, 1),
            "timeouts": self.timeouts,
            "restarts": self.force_restarts,
        }

    def get_unit_types(self):
        return sorted({unit.unit_type for unit in [*self.agents.values(), *self.enemies.values()]})

    # --- inside

    def _now(self) -> Observation:
        if self._seen is None:
            raise UserError("nothing to be seen before the first episode: call reset()")
        return self._seen

    @property
    def _clock(self) -> float:
        return self.game.t / self.episode_limit

    @staticmethod
    def _unit_type(map: Map, k: int, unit: Unit) -> int:
        return TYPES[unit.name] if k >= map.n else OWN_TYPES + (map.types.index(unit.name) if map.types else 0)

    def _shield_and_types(self, shield: int) -> list[str]:
        return ["shield"] * shield + [f"type_{bit}" for bit in range(self.unit_type_bits)]

    @property
    def _obs_flags(self) -> bool:
        """Some flag makes observations other than the default ones."""
        more = self.obs_last_action or self.obs_pathing_grid or self.obs_terrain_height or self.obs_timestep_number
        return more or not (self.obs_all_health and self.obs_own_health)

    def _flagged(self, obs: np.ndarray) -> np.ndarray:
        """The default observations [n, O] with parts added or left out, in SMAC's order."""
        n, m, bits = self.n_agents, self.n_enemies, self.unit_type_bits
        own, foe = 1 + self.shield_bits_ally, 1 + self.shield_bits_enemy  # numbers that tell of health and shield
        move, enemies, allies, itself = np.split(obs, np.cumsum([MOVES, m * (4 + foe + bits), (n - 1) * (4 + own + bits)]), 1)
        enemies, allies = enemies.reshape(n, m, -1), allies.reshape(n, n - 1, -1)
        ground = []
        if self.obs_pathing_grid:
            ground.append(self._around(AROUND, self.pathing_grid))
        if self.obs_terrain_height:
            ground.append(self._around(np.vstack([AROUND, (0, 0)]), self.terrain_height))
        if not self.obs_all_health:
            enemies, allies = np.delete(enemies, np.s_[4 : 4 + foe], 2), np.delete(allies, np.s_[4 : 4 + own], 2)
        if self.obs_last_action:
            others = np.array([[j for j in range(n) if j != i] for i in range(n)])
            allies = np.concatenate([allies, self.last_action[others] * allies[..., :1]], 2, dtype=np.float32)
        if not self.obs_own_health:
            itself = itself[:, own:]
        time = [np.zeros((n, 1)), np.full((n, 1), self._clock)] if self.obs_timestep_number else []  # the zero is SMAC's
        return np.concatenate([move, *ground, enemies.reshape(n, -1), allies.reshape(n, -1), itself, *time], 1)

    def _around(self, offsets: np.ndarray, values: np.ndarray) -> np.ndarray:
        """values [x, y] of cells beside each agent [n, k] float32; 1 beyond the map, 0 for the dead."""
        frame = self.game.battles.frame[0, : self.n_agents]
        cells = np.trunc(frame[:, None, [X, Y]]).astype(int) + offsets
        inside = ((cells >= 0) & (cells < SIZE)).all(-1)
        shown = np.where(inside, values[tuple(cells.clip(0, SIZE - 1).transpose(2, 0, 1))], 1)
        return (shown * (frame[:, HEALTH] > 0)[:, None]).astype(np.float32)
