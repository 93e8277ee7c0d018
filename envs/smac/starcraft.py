"""The real game: StarCraft II behind the same door as the simulator, where SMAC and the game are installed (docs/smac.md says how).

A lane is one StarCraft2Env of the package smac, and that is one running game. Games wait while nobody steps them, so that their number
is a matter of memory; the processes that step them, each a few games in turn, are as many as there are cores.

What differs from the simulator. A seed is given to the game when it starts; the episodes after a lane's first go on in the same game and
follow from that seed only as far as the game itself is deterministic. A game that crashes ends its episode: truncated, not won, with a
warning, and a new game is started for the lane's next episode (SMAC returns (0, True, {}) and leaves the old units in place).
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
from inspo_benchmark.envs import _workers
from inspo_benchmark.envs.smac.maps import find

INSTALL = "pip install git+https://github.com/oxwhirl/smac.git"
VERSIONS = {69232: "4.6.2", 75689: "4.10.0"}  # builds that SMAC's results are known for (SMAC's README; pysc2's list of versions)
GAME_BYTES = 1 << 30  # memory that a game may take; nobody has published a number


# --- what is installed


def folder() -> Path:
    """Where the game is expected, as pysc2 expects it on Linux."""
    return Path(os.environ.get("SC2PATH", "~/StarCraftII")).expanduser()


def builds() -> list[int]:
    """Build numbers of the installed versions of the game, oldest first."""
    names = (path.name.removeprefix("Base") for path in (folder() / "Versions").glob("Base*"))
    return sorted(int(name) for name in names if name.isdigit())


def backend() -> str:
    """The version that plays, which is the newest one installed: "SC2.4.10.0.75689", or "SC2 not installed"."""
    return ".".join(["SC2", *[VERSIONS[x] for x in builds()[-1:] if x in VERSIONS], str(builds()[-1])]) if builds() else "SC2 not installed"


def detect() -> type:
    """SMAC's class StarCraft2Env, if all that it needs is installed. UserError: what is not, and how to install it."""
    spec = importlib.util.find_spec("smac")
    if spec is None:
        raise UserError(f"the real StarCraft II needs the package smac, which is not installed: {INSTALL}")
    places = spec.submodule_search_locations or []
    if not any((Path(place) / "env").is_dir() for place in places):
        raise UserError(
            f"the smac installed in {places[0] if places else spec.origin} is not StarCraft's but another package, "
            f"probably PyPI's SMAC3: pip uninstall smac, then {INSTALL}"
        )
    try:
        from smac.env import StarCraft2Env
    except ModuleNotFoundError as e:
        raise UserError(f"smac needs {e.name}, which is not installed: {INSTALL} installs it too") from e
    except TypeError as e:
        if "Descriptors cannot" not in str(e):
            raise
        raise UserError(f"protobuf {_protobuf()} is too new for StarCraft's messages: pip install 'protobuf<3.21'") from e
    except ImportError as e:
        raise UserError(f"smac cannot be imported ({e}): {INSTALL}") from e

    if not builds():
        raise UserError(
            f"StarCraft II is not in {folder()} (there is no Versions/Base...): unzip Blizzard's Linux package there "
            "(github.com/Blizzard/s2client-proto#downloads), or set SC2PATH to the folder it is in"
        )
    if not any((folder() / "Maps" / "SMAC_Maps").glob("*.SC2Map")):
        raise UserError(
            f"SMAC's maps are not in {folder() / 'Maps' / 'SMAC_Maps'}: copy smac/env/starcraft2/maps/SMAC_Maps "
            f"of github.com/oxwhirl/smac to {folder() / 'Maps'}"
        )
    return StarCraft2Env


def _protobuf() -> str:
    try:
        return version("protobuf")
    except PackageNotFoundError:
        return "as installed"


def room() -> int:
    """How many games this machine's memory holds."""
    return max(1, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // GAME_BYTES)


# --- the environment


class Row(NamedTuple):
    """A lane as its worker sees it."""

    obs: np.ndarray  # [N, O] float32
    state: np.ndarray  # [S] float32
    avail: np.ndarray  # [N, A] bool
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    won: bool = False
    crashed: bool = False  # in this very step


class Games:
    """Lanes of the real game, see `core.env.VecEnv`; info: won [E] bool. UserError: something is missing, or a game does not start.

    Every lane is a running game of about GAME_BYTES, started by the first `reset` (some seconds each) and ended by `close`, or when the
    process that made it is gone. A step takes as long as the games of the busiest worker take one after the other.
    """

    def __init__(self, name: str, num_envs: int):
        find(name), detect()
        if num_envs > room():
            raise UserError(
                f"{num_envs} games of StarCraft II at a time: this machine's memory holds {room()}; take fewer seeds or episodes at a time"
            )
        self.name, self.num_envs = name, num_envs
        self.workers = [_workers.start(__name__, name) for _ in range(min(num_envs, os.cpu_count() or 1))]

    def reset(self, seeds: Sequence[int]) -> Observation:
        return self._ask("reset", seeds).observation

    def step(self, act: np.ndarray) -> Step:
        """AssertionError with SMAC's message for an action that is not legal."""
        return self._ask("step", act)

    def close(self) -> None:
        _workers.end(self.workers)
        self.workers = []

    def _ask(self, what: str, values: Sequence) -> Step:
        """Lane e is with worker e modulo their number."""
        count, rows, failed = len(self.workers), [None] * self.num_envs, None
        try:
            for k, worker in enumerate(self.workers):
                worker.pipe.send((what, [np.asarray(value) for value in values[k::count]]))
            for k, worker in enumerate(self.workers):
                kind, answer = worker.pipe.recv()
                if kind == "rows":
                    rows[k::count] = answer
                else:
                    failed = failed or (kind, answer)
        except (EOFError, OSError) as e:
            self.close()
            raise UserError(f"a process that plays StarCraft II on {self.name} is gone; its games were ended") from e
        if failed:
            kind, text = failed
            raise AssertionError(text) if kind == "AssertionError" else UserError(f"StarCraft II on {self.name}: {kind}: {text}")
        obs, state, avail, reward, terminated, truncated, won, crashed = (np.stack(x) for x in zip(*rows, strict=True))
        if crashed.any():
            warnings.warn(
                f"StarCraft II on {self.name} crashed in lanes {np.flatnonzero(crashed).tolist()}: counted as not won", stacklevel=3
            )
        return Step(Observation(obs, state, avail), reward, terminated, truncated, {"won": won})


# --- the processes


class Lane:
    """In a worker: the episodes of one game."""

    def __init__(self, name: str):
        self.name, self.env, self.row = name, None, None

    def reset(self, seed: np.ndarray) -> Row:
        if self.row is None or not (self.row.terminated or self.row.truncated):
            self.close()  # SMAC would start a second game beside one whose first episode was not played to its end
        self.env = self.env or detect()(map_name=self.name, seed=int(seed))
        self.row = None
        self.env.reset()
        self.row = self._look()
        return self.row

    def step(self, act: np.ndarray) -> Row:
        if self.row.terminated or self.row.truncated:
            self.row = self.row._replace(reward=0.0, crashed=False)
            return self.row
        timeouts = self.env.timeouts
        reward, over, info = self.env.step(act.tolist())
        if over and not info:  # SMAC's answer when the game is gone
            self.close()
            self.row = self.row._replace(reward=0.0, truncated=True, crashed=True)
        else:
            late = self.env.timeouts > timeouts  # neither won nor lost when the time was up
            self.row = self._look()._replace(reward=float(reward), terminated=over and not late, truncated=late, won=info["battle_won"])
        return self.row

    def close(self) -> None:
        if self.env is not None:
            self.env.close()
            self.env = None

    def _look(self) -> Row:
        env = self.env
        return Row(np.array(env.get_obs(), np.float32), np.array(env.get_state(), np.float32), np.array(env.get_avail_actions(), bool))


def serve(pipe: Connection, name: str) -> None:
    """In a worker: do what comes through the pipe for each lane in turn, until it says None or nobody is at its other end."""
    num_envs = []
    try:
        while message := pipe.recv():
            what, values = message
            num_envs = num_envs or [Lane(name) for _ in values]
            try:
                pipe.send(("rows", [getattr(lane, what)(value) for lane, value in zip(num_envs, values, strict=True)]))
            except Exception as e:
                pipe.send((type(e).__name__, " ".join(str(e).split())[:400]))
    except (EOFError, OSError):
        pass
    finally:
        for lane in num_envs:
            lane.close()
