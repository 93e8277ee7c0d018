"""The real StarCraft II with the interface of the simulator; it needs SMAC or SMACv2 and the game (docs/smac.md says how to install them).

Each environment is one StarCraft2Env of the package smac, or one wrapper of the package smacv2: a running game. A game that is not stepped
only takes memory, so memory limits the number of games; there is one process per core, which steps its games in turn.

Differences from the simulator: A game is seeded when it starts. Later episodes of an environment continue in the same game, and depend on
that seed alone only if the game itself is deterministic. If a game crashes, its episode is truncated and not won, with a warning, and the
environment's next episode starts a new game (SMAC returns (0, True, {}) and keeps the old units). In SMACv2's scenarios, teams and places
do not follow from the seed, because the package does not seed them.
"""

import importlib.util
import os
import warnings
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np

from inspo_benchmark.core.env import Observation, Step
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.limits import machine_memory
from inspo_benchmark.envs.smac import workers
from inspo_benchmark.envs.smac.maps import DEATH_REWARD, MAP_SIZE, WIN_REWARD, Scenario, find_map

INSTALL_COMMAND = "pip install git+https://github.com/oxwhirl/smac.git"
INSTALL_V2_COMMAND = "pip install git+https://github.com/oxwhirl/smacv2.git"
VERSIONS = {69232: "4.6.2", 75689: "4.10.0"}  # builds with published SMAC results (SMAC's README; pysc2's list of versions)
GAME_BYTES = 1 << 30  # estimated memory of a running game; no number is published


# --- the installation


def game_folder() -> Path:
    """The game's folder, as pysc2 expects it on Linux."""
    return Path(os.environ.get("SC2PATH", "~/StarCraftII")).expanduser()


def installed_builds() -> list[int]:
    """Build numbers of the installed game versions, oldest first."""
    names = (path.name.removeprefix("Base") for path in (game_folder() / "Versions").glob("Base*"))
    return sorted(int(name) for name in names if name.isdigit())


def backend() -> str:
    """The newest installed version, which is the one used: "SC2.4.10.0.75689", or "SC2 not installed"."""
    builds = installed_builds()
    if not builds:
        return "SC2 not installed"
    return ".".join(["SC2", *[VERSIONS[x] for x in builds[-1:] if x in VERSIONS], str(builds[-1])])


def detect() -> type:
    """SMAC's class StarCraft2Env. UserError: something that it needs is not installed; the message says how to install it."""
    spec = importlib.util.find_spec("smac")
    if spec is None:
        raise UserError(f"the real StarCraft II needs the package smac, which is not installed: {INSTALL_COMMAND}")
    places = spec.submodule_search_locations or []
    if not any((Path(place) / "env").is_dir() for place in places):
        raise UserError(
            f"the smac installed in {places[0] if places else spec.origin} is not StarCraft's but another package, "
            f"probably PyPI's SMAC3: pip uninstall smac, then {INSTALL_COMMAND}"
        )
    env = _import("smac", "smac.env", "StarCraft2Env", INSTALL_COMMAND)
    _find_game("*.SC2Map", "smac/env/starcraft2/maps/SMAC_Maps of github.com/oxwhirl/smac")
    return env


def detect_v2() -> type:
    """SMACv2's class StarCraftCapabilityEnvWrapper. UserError as of `detect`."""
    if importlib.util.find_spec("smacv2") is None:
        raise UserError(f"SMACv2's scenarios need the package smacv2, which is not installed: {INSTALL_V2_COMMAND}")
    wrapper = _import("smacv2", "smacv2.env.starcraft2.wrapper", "StarCraftCapabilityEnvWrapper", INSTALL_V2_COMMAND)
    _find_game("32x32_flat.SC2Map", "smacv2/env/starcraft2/maps/SMAC_Maps of github.com/oxwhirl/smacv2")
    return wrapper


def _import(package: str, module: str, name: str, command: str) -> type:
    try:
        return getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as e:
        raise UserError(f"{package} needs {e.name}, which is not installed: {command} installs it too") from e
    except TypeError as e:
        if "Descriptors cannot" not in str(e):
            raise
        raise UserError(f"protobuf {_protobuf_version()} is too new for StarCraft's messages: pip install 'protobuf<3.21'") from e
    except (ImportError, AttributeError) as e:
        raise UserError(f"{package} cannot be imported ({e}): {command}") from e


def _find_game(maps: str, source: str) -> None:
    """UserError: the game is not installed, or none of its files is called `maps`."""
    if not installed_builds():
        raise UserError(
            f"StarCraft II is not in {game_folder()} (there is no Versions/Base...): unzip Blizzard's Linux package there "
            "(github.com/Blizzard/s2client-proto#downloads), or set SC2PATH to the game's folder"
        )
    if not any((game_folder() / "Maps" / "SMAC_Maps").glob(maps)):
        raise UserError(f"SMAC's maps are not in {game_folder() / 'Maps' / 'SMAC_Maps'}: copy {source} to {game_folder() / 'Maps'}")


def _protobuf_version() -> str:
    try:
        return version("protobuf")
    except PackageNotFoundError:
        return "as installed"


def max_games() -> int:
    """Number of games that fit into this machine's memory."""
    return max(1, machine_memory() // GAME_BYTES)


# --- the environment


class GameStep(NamedTuple):
    """The latest step of one game."""

    obs: np.ndarray  # [N, O] float32
    state: np.ndarray  # [S] float32
    avail: np.ndarray  # [N, A] bool
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    won: bool = False
    crashed: bool = False  # in this step


class Games:
    """E running games, see `core.env.VecEnv`; info: won [E] bool. UserError: something is not installed, or a game does not start.

    The first `reset` starts the games, of about GAME_BYTES each (some seconds per game). They end with `close`, or with the process that
    made them. A step takes as long as the worker with the most games needs to step them in turn.
    """

    def __init__(self, name: str, num_envs: int):
        detect_v2() if isinstance(find_map(name), Scenario) else detect()
        if num_envs > max_games():
            raise UserError(
                f"{num_envs} games of StarCraft II at a time: this machine's memory holds {max_games()}; "
                "use fewer seeds or fewer episodes at a time"
            )
        self.name, self.num_envs = name, num_envs
        self.workers = [workers.start_worker(__name__, name) for _ in range(min(num_envs, os.cpu_count() or 1))]

    def reset(self, seeds: Sequence[int]) -> Observation:
        return self._call("reset", seeds).observation

    def step(self, act: np.ndarray) -> Step:
        """act [E, N] int. AssertionError, with SMAC's message: an action is not available."""
        return self._call("step", act)

    def close(self) -> None:
        workers.stop_workers(self.workers)
        self.workers = []

    def _call(self, method: str, values: Sequence) -> Step:
        """Call a method of every `Game` with its value. Worker k of K has the games k, k + K, k + 2 K, ..."""
        count, steps, failed = len(self.workers), [None] * self.num_envs, None
        try:
            for k, worker in enumerate(self.workers):
                worker.pipe.send((method, [np.asarray(value) for value in values[k::count]]))
            for k, worker in enumerate(self.workers):
                kind, answer = worker.pipe.recv()
                if kind == "steps":
                    steps[k::count] = answer
                else:
                    failed = failed or (kind, answer)
        except (EOFError, OSError) as e:
            self.close()
            raise UserError(f"a worker process of StarCraft II on {self.name} died; its games were closed") from e
        if failed:
            kind, text = failed
            raise AssertionError(text) if kind == "AssertionError" else UserError(f"StarCraft II on {self.name}: {kind}: {text}")
        obs, state, avail, reward, terminated, truncated, won, crashed = (np.stack(x) for x in zip(*steps, strict=True))
        if crashed.any():
            environments = np.flatnonzero(crashed).tolist()
            warnings.warn(f"StarCraft II on {self.name} crashed in environments {environments}: counted as not won", stacklevel=3)
        return Step(Observation(obs, state, avail), reward, terminated, truncated, {"won": won})


# --- the worker processes

FLAGS = dict(obs_own_pos=True, use_unit_ranges=True, min_attack_range=2)  # of SMACv2's published configurations


def capability_config(scenario: Scenario) -> dict:
    """SMACv2's configuration of a scenario."""
    team = dict(dist_type="weighted_teams", unit_types=[*scenario.unit_types], weights=[*scenario.weights], observe=True)
    if scenario.exceptions:
        team["exception_unit_types"] = [*scenario.exceptions]
    start = dict(dist_type=scenario.places, p=scenario.reflect_probability, map_x=MAP_SIZE, map_y=MAP_SIZE)
    return dict(n_units=scenario.n, n_enemies=scenario.m, team_gen=team, start_positions=start)


class Game:
    """The episodes of one running game."""

    def __init__(self, name: str):
        self.name, self.env, self.latest = name, None, None
        map = find_map(name)
        self.scenario = map if isinstance(map, Scenario) else None

    def reset(self, seed: np.ndarray) -> GameStep:
        if self.latest is None or not (self.latest.terminated or self.latest.truncated):
            self.close()  # if its first episode has not ended, SMAC would start a second game and leave the first one running
        self.latest = None
        if not self._begin(int(seed)):
            self.close()
            if not self._begin(int(seed)):
                raise RuntimeError("the game crashes whenever an episode begins")
        self._scale_rewards()
        self.latest = self._observe()
        return self.latest

    def step(self, act: np.ndarray) -> GameStep:
        if self.latest.terminated or self.latest.truncated:
            self.latest = self.latest._replace(reward=0.0, crashed=False)
            return self.latest
        timeouts = self.env.timeouts
        reward, over, info = self.env.step(act.tolist())
        if over and not info:  # SMAC's answer after a crash
            self.close()
            self.latest = self.latest._replace(reward=0.0, truncated=True, crashed=True)
        else:
            late = self.env.timeouts > timeouts  # neither won nor lost at the time limit
            outcome = dict(terminated=over and not late, truncated=late, won=info["battle_won"])
            self.latest = self._observe()._replace(reward=float(reward), **outcome)
        return self.latest

    def close(self) -> None:
        if self.env is not None:
            self.env.close()
            self.env = None

    def _start(self, seed: int):
        if self.scenario is None:
            return detect()(map_name=self.name, seed=seed)
        return detect_v2()(
            capability_config=capability_config(self.scenario), map_name=f"10gen_{self.name.split('_')[0]}", seed=seed, **FLAGS
        )

    def _begin(self, seed: int) -> bool:
        """Begin an episode, in a new game if none is running. False: it crashed. SMAC then starts it again, but knows the old units."""
        self.env = self.env or self._start(seed)
        restarts = self._inner.force_restarts
        try:
            self.env.reset()
        except Exception:
            if self._inner.force_restarts == restarts:
                raise
        return self._inner.force_restarts == restarts

    @property
    def _inner(self):
        """The StarCraft2Env, which SMACv2 wraps."""
        return self.env.env if self.scenario else self.env

    def _scale_rewards(self) -> None:
        """Scale this episode's rewards by its own enemies. SMACv2 keeps the scale of the game's first episode, in which both packages count
        an enemy again whenever they wait for others to appear."""
        enemies = self._inner.enemies.values()
        self._inner.max_reward = WIN_REWARD + sum(DEATH_REWARD + unit.health_max + unit.shield_max for unit in enemies)

    def _observe(self) -> GameStep:
        env = self.env
        if getattr(self._inner, "obs_enemies", None) is not None:
            self._inner.obs_enemies[...] = 1  # every agent knows of all enemies, so it sees those in its sight range (docs/smacv2.md)
        return GameStep(np.array(env.get_obs(), np.float32), np.array(env.get_state(), np.float32), np.array(env.get_avail_actions(), bool))


def serve(pipe: Connection, name: str) -> None:
    """A worker's main loop: call the method that comes through the pipe for each game, until None comes or the pipe is closed."""
    games = []
    try:
        while message := pipe.recv():
            method, values = message
            games = games or [Game(name) for _ in values]
            try:
                pipe.send(("steps", [getattr(game, method)(value) for game, value in zip(games, values, strict=True)]))
            except Exception as e:
                pipe.send((type(e).__name__, " ".join(str(e).split())[:400]))
    except (EOFError, OSError):
        pass
    finally:
        for game in games:
            game.close()
