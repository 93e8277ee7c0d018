"""SMAC's class on the simulator, for code that uses the methods of SMAC's MultiAgentEnv: StarCraft2Env (github.com/oxwhirl/smac at d6aab33,
smac/env/starcraft2/starcraft2.py) with the same signature, observations, states, available actions, rewards, ends, counters, sizes and
quirks.

Differences: The methods that talk to the game are absent, and so are `reward_battle`, `only_medivac_left`, `get_surrounding_*` and many
attributes, see docs/smac.md. No game is launched, so `game_version`, `difficulty` (SMAC's enemies follow one order at any difficulty),
`replay_dir`, `replay_prefix`, `window_size_x`, `window_size_y` and `debug` are accepted without effect. A step has 8 game loops and a move
covers 2 cells, SMAC's defaults. Terrain heights are unknown: with `obs_terrain_height` the terrain is flat. `seed` decides all episodes;
if it is None, a random seed is drawn, which `seed()` returns. With `heuristic_ai`, a Medivac without a wounded agent keeps its order: it
follows the agent that it healed last.
"""

import math
import secrets
import warnings
from collections.abc import Sequence

import numpy as np

from inspo_benchmark.core.env import Observation, checked_seeds
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.envs.smac.maps import (
    DEATH_REWARD,
    EAST,
    MAP_SIZE,
    NO_ATTACK,
    NO_OP,
    NORTH,
    REWARD_SCALE,
    SOUTH,
    WEST,
    WIN_REWARD,
    Map,
    Scenario,
    find_map,
)
from inspo_benchmark.envs.smac.simulator import COOLDOWN, ENERGY, ENERGY_MAX, HEALTH, MOVE_AMOUNT, SHIELD, X, Y
from inspo_benchmark.envs.smac.starts import Starts
from inspo_benchmark.envs.smac.units import LOOPS_PER_STEP, Unit
from inspo_benchmark.envs.smac.vector import Smac
from inspo_benchmark.envs.smac.views import LOST, MAP_EXTENT, MOVE_LOOKAHEAD, OTHER_MAX_COOLDOWN, WON, RewardConfig, fill_visibility

UNIT_TYPE_IDS = {  # the game's ids (pysc2.lib.units)
    "marine": 48, "marauder": 51, "medivac": 54, "stalker": 74, "zealot": 73, "colossus": 4, "zergling": 105, "baneling": 9,
    "hydralisk": 107, "spinecrawler": 98,
}  # fmt: skip
AGENTS, ENEMIES = 1, 2  # the owners of units
FIRST_AGENT_TYPE_ID = 2000  # agents' types are copies with ids of their own, here in the order of the type bits
MAP_TYPES = {  # ally types -> SMAC's map_type
    ("marine",): "marines",
    ("stalker",): "stalkers",
    ("zealot",): "zealots",
    ("hydralisk",): "hydralisks",
    ("colossus",): "colossus",
    ("stalker", "zealot"): "stalkers_and_zealots",
    ("colossus", "stalker", "zealot"): "colossi_stalkers_zealots",
    ("marauder", "marine", "medivac"): "MMM",
    ("baneling", "zergling"): "bane",
    ("stalker", "zealot", "colossus"): "protoss_gen",
    ("marine", "marauder", "medivac"): "terran_gen",
    ("zergling", "hydralisk", "baneling"): "zerg_gen",
}
MOVES = 4
WAYS = np.array([(0, 1), (0, -1), (1, 0), (-1, 0)]) * MOVE_LOOKAHEAD  # in the order of the move actions
# Cells around an agent that obs_pathing_grid shows.
GRID_OFFSETS = np.array([(0, 2), (0, -2), (2, 0), (-2, 0), (1, 1), (-1, -1), (1, -1), (-1, 1)]) * int(MOVE_AMOUNT)
TERRAIN_HEIGHT = 0.5  # of 1


def _column(k: int) -> property:
    """A column of the unit's row in the frame."""
    return property(lambda self: float(self._row[k]))


class Position:
    """The current position of a unit."""

    x, y = _column(X), _column(Y)

    def __init__(self, row: np.ndarray):
        self._row = row


class UnitProxy:
    """A unit with the attributes of the game's protocol. It follows the running battle; a deepcopy does not."""

    health, shield = _column(HEALTH), _column(SHIELD)
    weapon_cooldown, energy = _column(COOLDOWN), _column(ENERGY)

    def __init__(self, row: np.ndarray, unit: Unit, tag: int, unit_type: int, owner: int):
        self._row, self.pos = row, Position(row)
        self.tag, self.unit_type, self.owner = tag, unit_type, owner
        self.health_max, self.shield_max, self.radius = float(unit.health), float(unit.shield), unit.radius
        self.energy_max = ENERGY_MAX if unit.heal else 0.0


class Heuristic:
    """SMAC's heuristic policy, with full information: each agent attacks the nearest enemy until it is dead; a Medivac heals the nearest
    wounded agent.

    With `rest`, an agent approaches a target out of reach by moves instead of an attack order. Actions need not be available: they may
    attack from afar, move into a wall, or attack a dead unit. No-op: there is no unit to attack or heal.
    """

    def __init__(self, map: Map | Scenario, rest: bool = False, units: Sequence[Unit] | None = None):
        """`units`: those of the battle, if the map does not determine them."""
        self.map, self.units, self.rest = map, units or map.units(), rest
        self.targets: list[int | None] = [None] * map.n  # unit index

    def __call__(self, frame: np.ndarray, avail: np.ndarray) -> list[int]:
        """frame [U, 6], avail [n, A] -> one action per agent. To be called at every step of an episode."""
        rows = frame.tolist()
        return [self._act(i, rows, avail[i]) for i in range(self.map.n)]

    def _act(self, i: int, frame: list, avail: np.ndarray) -> int:
        n, heals, t = self.map.n, self.units[i].heal > 0, self.targets[i]
        if t is None or not self._wanted(t, frame):
            others = [j for j in range(n) if not self.units[j].heal] if heals else range(n, len(frame))
            t = self.targets[i] = self._nearest(i, [j for j in others if self._wanted(j, frame)], frame)
        if t is None:
            return NO_OP
        action = NO_ATTACK + t - (0 if heals else n)
        if self.rest and not avail[action]:
            dx, dy = frame[t][X] - frame[i][X], frame[t][Y] - frame[i][Y]
            return (EAST if dx > 0 else WEST) if abs(dx) > abs(dy) else (NORTH if dy > 0 else SOUTH)
        return action

    def _wanted(self, j: int, frame: list) -> bool:
        health = frame[j][HEALTH]
        return health > 0 and (j >= self.map.n or health != self.units[j].health)

    def _nearest(self, i: int, others: list[int], frame: list) -> int | None:
        """The nearest unit, the first of several; SMAC ignores units beyond the map's diagonal."""
        best, least = None, math.hypot(MAP_EXTENT, MAP_EXTENT)
        for j in others:
            distance = math.hypot(frame[j][X] - frame[i][X], frame[j][Y] - frame[i][Y])
            if distance < least:
                best, least = j, distance
        return best


class StarCraft2Env:
    """A battle on the SMAC map `map_name`; `profile` selects the unit data ("liberty", which SMAC's maps declare, or "lotv").

    UserError: no such map or profile, another step_mul or move_amount, a negative seed, a step outside an episode.
    AssertionError: an action is not available ("Agent 0 cannot perform action 6").
    """

    _unused_time = 1  # numbers in an observation that obs_timestep_number adds besides the time

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
        reward_death_value=DEATH_REWARD,
        reward_win=WIN_REWARD,
        reward_defeat=0,
        reward_negative_scale=0.5,
        reward_scale=True,
        reward_scale_rate=REWARD_SCALE,
        replay_dir="",
        replay_prefix="",
        window_size_x=1920,
        window_size_y=1200,
        heuristic_ai=False,
        heuristic_rest=False,
        debug=False,
        profile="liberty",
    ):
        map = self._find(map_name)
        for name, value, only in (("step_mul", step_mul, LOOPS_PER_STEP), ("move_amount", move_amount, MOVE_AMOUNT)):
            if value != only:
                raise UserError(f"{name}={value}: the simulator knows {name}={only:g} only, SMAC's default")
        self.map_name, self.n_agents, self.n_enemies, self.episode_limit = map_name, map.n, map.m, map.limit
        self.map_type = MAP_TYPES[map.types or (map.allies[0].type,)]
        self.n_actions_no_attack, self.n_actions_move, self.n_actions = NO_ATTACK, MOVES, map.actions
        self.shield_bits_ally, self.shield_bits_enemy, self.unit_type_bits = map.ally_shield, map.enemy_shield, len(map.types)
        self.map_x = self.map_y = MAP_SIZE
        self.max_distance_x = self.max_distance_y = MAP_EXTENT

        self.continuing_episode = continuing_episode
        self.obs_all_health, self.obs_own_health, self.obs_last_action = obs_all_health, obs_own_health or obs_all_health, obs_last_action
        self.obs_pathing_grid, self.obs_terrain_height = obs_pathing_grid, obs_terrain_height
        self.obs_instead_of_state, self.obs_timestep_number = obs_instead_of_state, obs_timestep_number
        self.state_last_action, self.state_timestep_number = state_last_action, state_timestep_number
        self.heuristic_ai, self.heuristic_rest = heuristic_ai, heuristic_rest

        if reward_scale and not reward_scale_rate > 0:
            raise UserError(f"reward_scale_rate={reward_scale_rate}: write a number above 0")
        foes = map.units(profile)[map.n :] if isinstance(map, Map) else ()
        self.max_reward = self.n_enemies * reward_death_value + reward_win + sum(unit.health + unit.shield for unit in foes)
        terms = RewardConfig(
            scale=self.max_reward / reward_scale_rate if reward_scale and foes else 1.0,
            only_positive=bool(reward_only_positive),
            sparse=bool(reward_sparse),
            death=float(reward_death_value),
            win=float(reward_win),
            defeat=float(reward_defeat),
            negative=float(reward_negative_scale),
            absolute=isinstance(map, Map),
        )
        self.game = Smac(map, 1, profile, terms)
        self.pathing_grid, self.terrain_height = self.game.scene.free, np.full((MAP_SIZE, MAP_SIZE), TERRAIN_HEIGHT)
        self.agents: dict[int, UnitProxy] = {}
        self.enemies: dict[int, UnitProxy] = {}
        if isinstance(map, Map):
            self._meet()

        self._seed = secrets.randbits(32) if seed is None else checked_seeds([seed], 1)[0]
        self._episodes = np.random.Philox(key=self._seed)
        self._observation: Observation | None = None  # None: before the first episode
        self._over = True
        self._one_hot = np.eye(self.n_actions)
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self.battles_won = self.battles_game = self.timeouts = self.force_restarts = 0

    # --- episodes

    def reset(self):
        """Returns a list of the agents' observations, and the state."""
        self._begin()
        return self.get_obs(), self.get_state()

    def step(self, actions):
        """One action per agent -> reward, terminated, info. Both the end of the battle and the time limit terminate.

        With `heuristic_ai` the heuristic acts: it overwrites `actions`, while `last_action` keeps the given ones.
        """
        if self._over:
            raise UserError("no episode is running: call reset() before step()")
        try:
            given = [int(action) for action in actions]
        except (TypeError, ValueError, OverflowError):
            raise UserError(f"actions: {actions!r} is not one integer for each of {self.n_agents} agents") from None
        if len(given) != self.n_agents:
            raise UserError(f"{len(given)} actions for {self.n_agents} agents")
        shown = np.array([given])
        if self.heuristic_ai:
            chosen = self._heuristic(self.game.battles.frame[0], self._observation.avail[0])
            for i, action in enumerate(chosen):  # one by one, so that `actions` may be a tensor
                actions[i] = action
            step = self.game.step_unchecked(np.array([chosen]), shown)
        else:
            step = self.game.step(shown)
        self.last_action = self._one_hot[given]
        self._observation, won, timeout = step.observation, bool(step.info["won"][0]), bool(step.truncated[0])
        self._over = timeout or bool(step.terminated[0])
        self.battles_game += self._over
        self.battles_won += won
        self.timeouts += timeout

        dead = self.game.battles.frame[0, :, HEALTH] == 0
        info = {"battle_won": won, "dead_allies": int(dead[: self.n_agents].sum()), "dead_enemies": int(dead[self.n_agents :].sum())}
        if timeout and self.continuing_episode:
            info["episode_limit"] = True
        return float(step.rewards[0]), self._over, info

    def full_restart(self):
        """SMAC starts the game anew; here the episode ends, and the restart is counted."""
        self._over = True
        self.force_restarts += 1

    def seed(self):
        return self._seed

    def close(self):
        pass

    def render(self, mode="human"):
        warnings.warn(f"the simulator opens no window; to draw an episode: python -m tools.render_smac {self.game.map.name}", stacklevel=2)

    def save_replay(self):
        warnings.warn(
            f"only the real game writes replays; to draw an episode: python -m tools.render_smac {self.game.map.name}", stacklevel=2
        )

    # --- observations

    def get_obs(self):
        """A list of float32 arrays; with obs_timestep_number, float64 and one number longer than `get_obs_size`, as in SMAC."""
        return list(self._with_flags(self._now().obs[0]))

    def get_obs_agent(self, agent_id):
        return self.get_obs()[agent_id]

    def get_state(self):
        """The state, float32 [S], for centralized training only."""
        if self.obs_instead_of_state:
            return np.concatenate(self.get_obs()).astype(np.float32)
        state = self._now().state[0].copy()
        if not self.state_last_action:
            state = state[: -self.n_agents * self.n_actions]
        return np.append(state, np.float32(self._clock)) if self.state_timestep_number else state

    def get_state_dict(self):
        """The parts of the state as float64: allies [n, ...], enemies [m, ...], last_action [n, A], timestep."""
        nf_al, nf_en = self.get_ally_num_attributes(), self.get_enemy_num_attributes()
        allies, enemies, _ = np.split(self._now().state[0].astype(float), np.cumsum([self.n_agents * nf_al, self.n_enemies * nf_en]))
        parts = {"allies": allies.reshape(-1, nf_al), "enemies": enemies.reshape(-1, nf_en)}
        if self.state_last_action:
            parts["last_action"] = self.last_action
        if self.state_timestep_number:
            parts["timestep"] = self._clock
        return parts

    def get_avail_actions(self):
        """A list of zeros and ones per agent."""
        return self._now().avail[0].view(np.int8).tolist()

    def get_avail_agent_actions(self, agent_id):
        return self._now().avail[0, agent_id].view(np.int8).tolist()

    def get_visibility_matrix(self):
        """[n, n + m] bool: the agents, then the enemies, that each agent sees."""
        visible = np.empty((1, self.n_agents, self.n_agents + self.n_enemies), bool)
        fill_visibility(self.game.battles.frame, self.game.scene, visible)
        return visible[0]

    @property
    def death_tracker_ally(self):
        """[n] float: 1 for agents whose death was counted in the reward."""
        return self.game.deaths_counted[0, : self.n_agents].astype(float)

    @property
    def death_tracker_enemy(self):
        return self.game.deaths_counted[0, self.n_agents :].astype(float)

    @property
    def win_counted(self):
        return bool(self.game.outcome[0] == WON)

    @property
    def defeat_counted(self):
        return bool(self.game.outcome[0] == LOST)

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
        return MOVES + len(GRID_OFFSETS) * bool(self.obs_pathing_grid) + (len(GRID_OFFSETS) + 1) * bool(self.obs_terrain_height)

    def get_obs_enemy_feats_size(self):
        return self.n_enemies, 4 + (1 + self.shield_bits_enemy) * bool(self.obs_all_health) + self.unit_type_bits

    def get_obs_ally_feats_size(self):
        health = (1 + self.shield_bits_ally) * bool(self.obs_all_health)
        return self.n_agents - 1, 4 + health + self.unit_type_bits + self.n_actions * bool(self.obs_last_action)

    def get_obs_own_feats_size(self):
        health = (1 + self.shield_bits_ally) * bool(self.obs_own_health)
        return health + self.unit_type_bits + bool(self.obs_timestep_number)

    def get_state_size(self):
        if self.obs_instead_of_state:
            return self.get_obs_size() * self.n_agents
        units = self.n_agents * self.get_ally_num_attributes() + self.n_enemies * self.get_enemy_num_attributes()
        return units + self.n_agents * self.n_actions * bool(self.state_last_action) + bool(self.state_timestep_number)

    def get_ally_num_attributes(self):
        return len(self.ally_state_attr_names)

    def get_enemy_num_attributes(self):
        return len(self.enemy_state_attr_names)

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
        """Counts over all episodes; SMAC calls timeouts draws. The win rate is 0 before the end of the first episode."""
        return {
            "battles_won": self.battles_won,
            "battles_game": self.battles_game,
            "battles_draw": self.timeouts,
            "win_rate": self.battles_won / max(self.battles_game, 1),
            "timeouts": self.timeouts,
            "restarts": self.force_restarts,
        }

    # --- units

    def get_unit_by_id(self, a_id):
        return self.agents[a_id]

    def get_unit_types(self):
        """The type of each unit, agents first; None, with a warning, before the first episode."""
        if self._observation is None:
            warnings.warn("there are no units before the first episode: call reset()", stacklevel=2)
            return None
        return [unit.unit_type for unit in [*self.agents.values(), *self.enemies.values()]]

    def get_unit_type_id(self, unit, ally):
        """The place of the unit's type bit; 0 if the map has no type bits."""
        return int(self._view(unit)["bit"])

    def unit_sight_range(self, agent_id):
        return float(self._view(self.agents[agent_id])["sight"])

    def unit_shoot_range(self, agent_id):
        return float(self._view(self.agents[agent_id])["reach"])

    def unit_max_cooldown(self, unit):
        """Loops, or the energy of a Medivac, by which the state is divided; 15 for all enemies, as in SMAC."""
        return int(self._view(unit)["cooldown"]) if unit.owner == AGENTS else OTHER_MAX_COOLDOWN

    def unit_max_shield(self, unit):
        """None: the unit has no shield."""
        return unit.shield_max or None

    def can_move(self, unit, direction):
        """Whether an agent may move north (0), south (1), east (2) or west (3)."""
        dx, dy = WAYS[direction]
        x, y = int(unit.pos.x + dx), int(unit.pos.y + dy)
        return self.check_bounds(x, y) and bool(self.pathing_grid[x, y])

    def check_bounds(self, x, y):
        return min(x, y) >= 0 and max(x, y) < MAP_SIZE

    @staticmethod
    def distance(x1, y1, x2, y2):
        return math.hypot(x1 - x2, y1 - y2)

    # --- internals

    def _find(self, map_name: str) -> Map | Scenario:
        map = find_map(map_name)
        if isinstance(map, Scenario):
            raise UserError(f"{map_name} is a scenario of SMACv2, whose class is inspo_benchmark.envs.smac.StarCraftCapabilityEnvWrapper")
        return map

    def _begin(self, starts: Starts | None = None) -> None:
        """Start the next episode."""
        self._observation, self._over = self.game.reset([self._episodes.random_raw()], starts), False
        self.last_action = np.zeros((self.n_agents, self.n_actions))
        self._heuristic = Heuristic(self.game.map, self.heuristic_rest, self.game.battles.units)

    def _meet(self) -> None:
        """Make the units of the battle."""
        battles, n = self.game.battles, self.n_agents
        units = [
            UnitProxy(row, unit, tag=k + 1, unit_type=self._unit_type(k, unit), owner=AGENTS if k < n else ENEMIES)
            for k, (row, unit) in enumerate(zip(battles.frame[0], battles.units, strict=True))
        ]
        self.agents, self.enemies = dict(enumerate(units[:n])), dict(enumerate(units[n:]))

    def _view(self, unit: UnitProxy) -> np.void:
        """The unit's UNIT_VIEW."""
        return self.game.scene.units[0, unit.tag - 1]

    def _now(self) -> Observation:
        if self._observation is None:
            raise UserError("there are no observations before the first episode: call reset()")
        return self._observation

    @property
    def _clock(self) -> float:
        return self.game.t / self.episode_limit

    def _unit_type(self, k: int, unit: Unit) -> int:
        if k >= self.n_agents:
            return UNIT_TYPE_IDS[unit.name]
        types = self.game.map.types
        return FIRST_AGENT_TYPE_ID + (types.index(unit.name) if types else 0)

    def _shield_and_types(self, shield: int) -> list[str]:
        return ["shield"] * shield + [f"type_{bit}" for bit in range(self.unit_type_bits)]

    @property
    def _obs_flags(self) -> bool:
        """Whether a flag changes the default observations."""
        more = self.obs_last_action or self.obs_pathing_grid or self.obs_terrain_height or self.obs_timestep_number
        return more or not (self.obs_all_health and self.obs_own_health)

    def _with_flags(self, obs: np.ndarray) -> np.ndarray:
        """A copy of the default observations [n, O] with the parts that flags add or remove, in SMAC's order."""
        if not self._obs_flags:
            return obs.copy()
        n, m, bits = self.n_agents, self.n_enemies, self.unit_type_bits
        own, foe = 1 + self.shield_bits_ally, 1 + self.shield_bits_enemy  # number of health and shield features
        move, enemies, allies, itself = np.split(obs, np.cumsum([MOVES, m * (4 + foe + bits), (n - 1) * (4 + own + bits)]), 1)
        enemies, allies = enemies.reshape(n, m, 4 + foe + bits), allies.reshape(n, n - 1, 4 + own + bits)
        ground = []
        if self.obs_pathing_grid:
            ground.append(self._around(GRID_OFFSETS, self.pathing_grid))
        if self.obs_terrain_height:
            ground.append(self._around(np.vstack([GRID_OFFSETS, (0, 0)]), self.terrain_height))
        if not self.obs_all_health:
            enemies, allies = np.delete(enemies, np.s_[4 : 4 + foe], 2), np.delete(allies, np.s_[4 : 4 + own], 2)
        if self.obs_last_action:
            others = np.array([[j for j in range(n) if j != i] for i in range(n)], int)
            allies = np.concatenate([allies, self.last_action[others] * allies[..., :1]], 2, dtype=np.float32)
        if not self.obs_own_health:
            itself = itself[:, own:]
        time = [np.zeros((n, self._unused_time)), np.full((n, 1), self._clock)] if self.obs_timestep_number else []  # the zero is SMAC's
        return np.concatenate([move, *ground, enemies.reshape(n, -1), allies.reshape(n, -1), itself, *time], 1)

    def _around(self, offsets: np.ndarray, values: np.ndarray) -> np.ndarray:
        """values [x, y] at k offsets from each agent -> [n, k] float32; 1 beyond the map, 0 for dead agents."""
        frame = self.game.battles.frame[0, : self.n_agents]
        cells = np.trunc(frame[:, None, [X, Y]]).astype(int) + offsets
        inside = ((cells >= 0) & (cells < MAP_SIZE)).all(-1)
        shown = np.where(inside, values[tuple(cells.clip(0, MAP_SIZE - 1).transpose(2, 0, 1))], 1)
        return (shown * (frame[:, HEALTH] > 0)[:, None]).astype(np.float32)
