"""The real game's adapter, as far as it can be tested without the game: with packages and installations that only look real."""

import ast
import json
import multiprocessing
import os
import re
import signal
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.format import load, save
from inspo_benchmark.envs.smac import simulator, starcraft, workers
from inspo_benchmark.envs.smac.maps import find_map
from inspo_benchmark.envs.smac.smacv2 import configured
from inspo_benchmark.envs.smac.starcraft import Games, backend, detect
from inspo_benchmark.envs.smac.starcraft2env import StarCraft2Env
from inspo_benchmark.envs.smac.vector import Smac
from support.datasets import read

ROOT = Path(__file__).parents[2]

# Real-looking packages. A process stands for the game; seeds 13 .. 18: crash in the third step, hang, win, lose at the last moment, crash
# once when an episode begins, and whenever one does.
GAME = """
import os, subprocess, time
import numpy as np

class StarCraft2Env(Base):
    starcraft, crashes = None, 0

    def reset(self):
        if self.starcraft is None or self.battles_game == 0:  # SMAC starts another game here, and forgets the first
            self.steps, self.starcraft = 0, subprocess.Popen(["sleep", "600"])
            with open(os.environ["GAMES"], "a") as f:
                f.write(f"{self.starcraft.pid}\\n")
        if self.seed() == 18:
            self.force_restarts += 1
        if self.seed() == 17 and not StarCraft2Env.crashes:
            StarCraft2Env.crashes += 1
            self.force_restarts += 1
            raise KeyError(0)
        return super().reset()

    def step(self, actions):
        self.steps += 1
        if self.seed() == 13 and self.steps == 3:
            return 0, True, {}
        if self.seed() == 14:
            time.sleep(600)
        if self.seed() == 15:
            return 12.5, True, {"battle_won": True, "dead_allies": 0, "dead_enemies": 3}
        if self.seed() == 16:
            self._episode_steps = self.episode_limit
            return 0.25, True, {"battle_won": False, "dead_allies": 3, "dead_enemies": 2}
        return super().step(actions)

    def close(self):
        if self.starcraft and "LEAK" not in os.environ:
            self.starcraft.kill()
            self.starcraft.wait()
"""
SIMULATED = "from inspo_benchmark.envs.smac.starcraft2env import StarCraft2Env as Base\n" + GAME
COUNTING = (
    """
class Base:  # 3m, where nothing happens but that time goes by
    battles_game = timeouts = force_restarts = 0
    episode_limit = 60
    max_reward = 730.0  # every enemy was counted twice
    enemies = {i: type("Unit", (), dict(health_max=45.0, shield_max=0.0)) for i in range(3)}

    def __init__(self, map_name, seed):
        self._seed = seed

    def seed(self):
        return self._seed

    def reset(self):
        self._episode_steps = 0

    def step(self, actions):
        for i, action in enumerate(actions):
            assert action > 0, f"Agent {i} cannot perform action {action}"
        self._episode_steps += 1
        return 365 / self.max_reward, False, {"battle_won": False, "dead_allies": 0, "dead_enemies": 0}

    def get_obs(self):
        return [np.full(30, self._seed + self._episode_steps / 100)] * 3

    def get_state(self):
        return np.full(48, self._seed)

    def get_avail_actions(self):
        return [[0] + 8 * [1]] * 3
"""
    + GAME
)


def package(folder: Path, content: str = COUNTING) -> None:
    (folder / "smac" / "env").mkdir(parents=True)
    (folder / "smac" / "__init__.py").touch()
    (folder / "smac" / "env" / "__init__.py").write_text(content)


def install(folder: Path, build: int = 75689) -> None:
    (folder / "Versions" / f"Base{build}").mkdir(parents=True)
    (folder / "Maps" / "SMAC_Maps").mkdir(parents=True, exist_ok=True)
    (folder / "Maps" / "SMAC_Maps" / "3m.SC2Map").touch()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Folders for packages and for the game, which importing and pysc2's rule look into; both are empty."""
    packages, game = tmp_path / "packages", tmp_path / "StarCraftII"
    packages.mkdir()
    monkeypatch.syspath_prepend(packages)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(packages), *filter(None, [os.environ.get("PYTHONPATH")])]))
    monkeypatch.setenv("SC2PATH", str(game))
    monkeypatch.setenv("GAMES", str(tmp_path / "games"))
    yield packages, game
    for name in [name for name in sys.modules if name.split(".")[0] in ("smac", "smacv2")]:
        del sys.modules[name]


@pytest.fixture
def played(machine, tmp_path, monkeypatch):
    """Both installed, one worker for all games; calling it returns the process ids of the started games, in order."""
    packages, game = machine
    package(packages)
    install(game)
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    return lambda: [int(line) for line in (tmp_path / "games").read_text().split()]


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: list[int], seconds: float = 600) -> bool:
    end = time.monotonic() + seconds
    while any(map(running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(running, pids))


# --- what is missing


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("raise TypeError('Descriptors cannot be created directly.')", "protobuf.* too new.*protobuf<3.21"),
        ("import no_such_pysc2", "needs no_such_pysc2, which is not installed"),
        ("", "cannot be imported"),
    ],
)
def test_a_broken_package_says_what_to_install(machine, content, says):
    package(machine[0], content)
    install(machine[1])
    with pytest.raises(UserError, match=says) as error:
        detect()
    assert "\n" not in str(error.value)


def test_errors_of_other_kinds_are_not_taken_for_a_new_protobuf(machine):
    package(machine[0], "raise TypeError('something else')")
    with pytest.raises(TypeError, match="something else"):
        detect()


def test_no_package(machine):
    with pytest.raises(UserError, match=r"smac, which is not installed: pip install git\+https://github.com/oxwhirl/smac.git$"):
        detect()


def test_smac3_is_not_taken_for_smac_and_not_even_imported(machine):
    (machine[0] / "smac").mkdir()
    (machine[0] / "smac" / "__init__.py").write_text("raise SystemExit('imported')")
    install(machine[1])
    with pytest.raises(UserError, match=r"SMAC3: pip uninstall smac, then pip install git\+"):
        detect()


def test_no_game_then_no_maps_then_all_is_there(machine):
    package(machine[0])
    with pytest.raises(UserError, match=r"StarCraft II is not in .*StarCraftII.*SC2PATH"):
        detect()
    (machine[1] / "Versions").mkdir(parents=True)
    with pytest.raises(UserError, match="StarCraft II is not in"):  # an empty folder is no game
        detect()
    (machine[1] / "Versions" / "Base75689").mkdir()
    with pytest.raises(UserError, match=r"maps are not in .*SMAC_Maps.*copy"):
        Games("3m", 1)
    install(machine[1], 69232)
    assert detect().__name__ == "StarCraft2Env"


def test_the_game_is_looked_for_at_home_without_sc2path(machine, monkeypatch):
    monkeypatch.delenv("SC2PATH")
    monkeypatch.setenv("HOME", str(machine[1].parent))
    install(machine[1])
    assert starcraft.game_folder() == machine[1]
    assert starcraft.installed_builds() == [75689]


def test_the_backend_is_the_newest_version(machine):
    assert backend() == "SC2 not installed"
    for build, name in ((69232, "SC2.4.6.2.69232"), (75689, "SC2.4.10.0.75689"), (100001, "SC2.100001")):
        install(machine[1], build)
        assert backend() == name


def test_an_unknown_map_and_too_many_games_are_refused(played, monkeypatch):
    with pytest.raises(UserError, match="no SMAC map '3mm'; did you mean 3m"):
        Games("3mm", 1)
    monkeypatch.setattr(starcraft, "max_games", lambda: 4)
    with pytest.raises(UserError, match="5 games of StarCraft II at a time: this machine's memory holds 4"):
        Games("3m", 5)


# --- episodes


class Reference:
    """One environment of the class that the fake package is made of, in this process."""

    def __init__(self, name: str, seed: int):
        self.env, self.over, self.steps = StarCraft2Env(map_name=name, seed=seed), False, 0
        self.env.reset()

    def _observe(self):
        return np.array(self.env.get_obs()), np.array(self.env.get_state()), np.array(self.env.get_avail_actions())

    def step(self, act):
        """reward, terminated, truncated, won"""
        if self.over:
            return 0.0, *self.end
        reward, self.over, info = self.env.step(act.tolist())
        self.steps += 1
        full = self.steps == self.env.episode_limit
        decided = info["battle_won"] or info["dead_allies"] == self.env.n_agents or info["dead_enemies"] == self.env.n_enemies
        self.end = self.over and (decided or not full), self.over and full and not decided, info["battle_won"]
        return reward, *self.end


def equal(observation, references: list[Reference]) -> None:
    for k, reference in enumerate(references):
        for ours, theirs in zip(observation, reference._observe(), strict=True):
            np.testing.assert_array_equal(ours[k], theirs)


def avail(rng, observation) -> np.ndarray:
    return np.where(observation.avail, rng.random(observation.avail.shape), -1).argmax(-1)


@pytest.mark.parametrize("name", ["3m", "2s_vs_1sc"])  # ends by a loss or a win, and by the time limit
def test_environments_behave_like_the_package(machine, played, monkeypatch, name):
    (machine[0] / "smac" / "env" / "__init__.py").write_text(SIMULATED)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    seeds, rng = (3, 5, 7), np.random.default_rng(0)
    references = [Reference(name, seed) for seed in seeds]
    env = Games(name, len(seeds))
    observation, over = env.reset(seeds), np.zeros(len(seeds), bool)
    equal(observation, references)
    ends = []
    while not over.all():
        act = avail(rng, observation) if name == "3m" else np.where(observation.avail[..., 1], 1, 0)
        step = env.step(act)
        observation, over = step.observation, step.terminated | step.truncated
        expected = [reference.step(a) for reference, a in zip(references, act, strict=True)]
        for ours, theirs in zip((step.rewards, step.terminated, step.truncated, step.info["won"]), zip(*expected), strict=True):
            np.testing.assert_array_equal(ours, theirs)
        equal(observation, references)
        ends.append(over)
    spec = find_map(name)
    assert [x.dtype for x in (*observation, step.rewards, step.terminated, step.truncated, step.info["won"])] == [
        "f4",
        "f4",
        "?",
        "f8",
        "?",
        "?",
        "?",
    ]
    assert [x.shape for x in observation] == [(3, spec.n, spec.obs), (3, spec.state), (3, spec.n, spec.actions)]
    if name == "3m":
        assert len({tuple(x) for x in ends}) > 2  # episodes ended at different steps, and did not change afterwards
        assert step.terminated.all()
    else:
        assert step.truncated.all()
        assert len(ends) == spec.limit
    pids = played()
    assert len(pids) == 3
    assert all(map(running, pids))
    again = env.reset(seeds)  # in the same games
    assert again.avail.any(-1).all()
    assert played() == pids
    env.close()
    assert not any(map(running, pids))


def test_the_outcome_is_what_smac_reports(played):
    """A win, and a loss on the last step, which SMAC does not count as a timeout."""
    env = Games("3m", 2)
    env.reset([15, 16])
    step = env.step(np.ones((2, 3), np.int64))
    env.close()
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([True, True], [False, False])
    assert step.info["won"].tolist() == [True, False]
    assert step.rewards.tolist() == [12.5, 0.25]


def test_a_crash_ends_one_episode_and_the_next_has_a_new_game(played):
    env = Games("3m", 2)
    env.reset([13, 1])
    stop = np.ones((2, 3), np.int64)
    for _ in range(2):
        before = env.step(stop)
    with pytest.warns(UserWarning, match=r"crashed in environments \[0\]: counted as not won"):
        step = env.step(stop)
    assert (step.terminated.any(), step.truncated.tolist(), step.info["won"].any()) == (False, [True, False], False)
    assert step.rewards[0] == 0
    np.testing.assert_array_equal(step.observation.obs[0], before.observation.obs[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert env.step(stop).truncated.tolist() == [True, False]
    old = played()
    assert gone(old[:1], 0)
    assert env.reset([2, 1]).obs[:, 0, 0].tolist() == [2, 1]
    assert len(played()) == len(old) + 2  # one for the crashed game, one for the episode that was broken off
    env.close()
    assert gone(played(), 0)


def test_a_game_that_crashes_when_an_episode_begins_is_started_again(played):
    env = Games("3m", 2)
    assert env.reset([17, 1]).obs[:, 0, 0].tolist() == [17, 1]
    assert env.step(np.ones((2, 3), np.int64)).rewards.tolist() == [1, 1]  # scaled by three enemies of 45 health
    assert len(played()) == 3
    env.close()
    assert gone(played(), 0)


def test_a_game_that_always_crashes_is_one_line(played):
    env = Games("3m", 1)
    with pytest.raises(UserError, match="StarCraft II on 3m: RuntimeError: the game crashes whenever an episode begins"):
        env.reset([18])
    env.close()
    assert gone(played(), 0)


def test_an_unavailable_action_is_smacs_assertion(played):
    env = Games("3m", 2)
    env.reset([0, 1])
    with pytest.raises(AssertionError, match="Agent 1 cannot perform action 0"):
        env.step(np.array([[1, 1, 1], [1, 0, 1]]))
    env.close()


def test_a_game_that_does_not_start_is_one_line(machine):
    package(machine[0], COUNTING + "\n    def reset(self):\n        raise FileNotFoundError('no\\n such file')\n")
    install(machine[1])
    env = Games("3m", 1)
    with pytest.raises(UserError, match="StarCraft II on 3m: FileNotFoundError: no such file"):
        env.reset([0])
    env.close()


# --- no game outlives its environment


def test_games_that_the_package_forgets_are_killed(played, monkeypatch):
    monkeypatch.setenv("LEAK", "1")
    env = Games("3m", 2)
    env.reset([0, 1])
    env.close()
    assert len(played()) == 2
    assert gone(played())
    env.close()  # a second time does nothing


def test_a_worker_whose_answer_was_not_read_still_closes_its_games(played):
    """After Ctrl-C, for example. A game that is closed removes its temporary files; one that is killed does not."""
    env = Games("3m", 1)
    env.reset([0])
    env.workers[0].pipe.send(("step", [np.ones(3, np.int64)]))
    while not env.workers[0].pipe.poll(1):
        pass
    closed = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "killpg", lambda pid, signal: closed.append(gone(played(), 0)))
        env.close()
    assert closed == [True]  # before the worker is killed


def test_workers_that_hang_share_the_grace(monkeypatch):
    monkeypatch.setattr(workers, "GRACE", 1.0)
    hanging = [workers.start_worker("inspo_benchmark.envs.smac.starcraft", "3m") for _ in range(3)]
    for worker in hanging:
        os.kill(worker.process.pid, signal.SIGSTOP)
    begun = time.monotonic()
    workers.stop_workers(hanging)
    assert time.monotonic() - begun < 2.5


def test_a_worker_that_hangs_is_killed_with_its_games(played, monkeypatch):
    monkeypatch.setattr(workers, "GRACE", 0.2)
    env = Games("3m", 1)
    env.reset([14])
    env.workers[0].pipe.send(("step", [np.ones(3, np.int64)]))
    env.close()
    assert gone(played())


def test_a_worker_that_dies_is_one_line_and_takes_its_games_along(played):
    env = Games("3m", 1)
    env.reset([0])
    os.kill(env.workers[0].process.pid, 9)
    with pytest.raises(UserError, match="worker process of StarCraft II on 3m died"):
        env.step(np.ones((1, 3), np.int64))
    assert gone(played())


def _sweep_worker(news) -> None:
    env = Games("3m", 1)
    env.reset([0])
    news.send("playing")
    time.sleep(600)


def test_the_sweep_may_play_games_and_may_be_killed(played):
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    process = context.Process(target=_sweep_worker, args=(theirs,), daemon=True)  # daemons may have no children of multiprocessing
    process.start()
    theirs.close()
    assert mine.recv() == "playing"
    assert all(map(running, played()))
    process.kill()
    process.join()
    assert gone(played())


# --- SMACv2

SIMULATED_V2 = """
import json, os
import numpy as np
from inspo_benchmark.envs.smac.smacv2 import StarCraftCapabilityEnvWrapper as Base

class StarCraftCapabilityEnvWrapper(Base):  # with the code's scale of the first episode, and a memory that starts empty
    def __init__(self, **kwargs):
        with open(os.environ["GAMES"], "a") as f:
            f.write(json.dumps(kwargs) + "\\n")
        super().__init__(**kwargs)
        self.env.obs_enemies = np.zeros((self.n_enemies, self.n_agents))

    def reset(self):
        self.env.obs_enemies[:] = 0
        out = super().reset()
        self.env.max_reward = 1.0
        return out

    def step(self, actions):
        self.env.game.scale = self.env.max_reward / 20
        return super().step(actions)

    def get_obs(self):
        return [x * (self.env.obs_enemies == 1).all() for x in super().get_obs()]
"""


def package_v2(folder: Path, content: str = SIMULATED_V2) -> None:
    (folder / "smacv2" / "env" / "starcraft2").mkdir(parents=True)
    for part in ("smacv2", "smacv2/env", "smacv2/env/starcraft2"):
        (folder / part / "__init__.py").touch()
    (folder / "smacv2" / "env" / "starcraft2" / "wrapper.py").write_text(content)


def test_what_scenarios_need_is_named(machine):
    packages, game = machine
    with pytest.raises(UserError, match="SMACv2's scenarios need the package smacv2, which is not installed: pip install git"):
        Games("terran_5_vs_5", 1)
    package_v2(packages)
    with pytest.raises(UserError, match="StarCraft II is not in"):
        Games("terran_5_vs_5", 1)
    install(game)  # with SMAC's maps only
    with pytest.raises(UserError, match="copy smacv2/env/starcraft2/maps/SMAC_Maps"):
        Games("terran_5_vs_5", 1)
    sys.modules.pop("smacv2.env.starcraft2.wrapper")
    (packages / "smacv2" / "env" / "starcraft2" / "wrapper.py").write_text("raise TypeError('Descriptors cannot be created directly')  #")
    with pytest.raises(UserError, match="protobuf"):
        Games("terran_5_vs_5", 1)


@pytest.mark.parametrize("name", ["protoss_5_vs_5", "terran_10_vs_11"])
def test_scenarios_of_the_real_game_behave_like_the_simulators(machine, tmp_path, monkeypatch, name):
    """The package is given the scenario's configuration; observations and rewards follow the simulator's rules in every episode."""
    packages, game = machine
    package_v2(packages)
    install(game)
    (game / "Maps" / "SMAC_Maps" / "32x32_flat.SC2Map").touch()
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    scenario, rng, num_envs = find_map(name), np.random.default_rng(0), 3
    games, ours = Games(name, num_envs), [Smac(name, 1) for _ in range(num_envs)]
    episodes = [np.random.Philox(key=seed) for seed in range(num_envs)]  # the stand-in's
    for _ in range(2):
        observation = games.reset(range(num_envs))
        single = [env.reset([bits.random_raw()]) for env, bits in zip(ours, episodes, strict=True)]
        over = np.zeros(num_envs, bool)
        while not over.all():
            for k, x in enumerate(single):
                for a, b in zip(observation, x, strict=True):
                    np.testing.assert_array_equal(a[k], b[0])
            act = avail(rng, observation)
            step, steps = games.step(act), [env.step(act[k : k + 1]) for k, env in enumerate(ours)]
            observation, single = step.observation, [x.observation for x in steps]
            np.testing.assert_allclose(step.rewards, [x.rewards[0] for x in steps], atol=1e-9)
            assert step.terminated.tolist() == [x.terminated[0] for x in steps]
            assert step.truncated.tolist() == [x.truncated[0] for x in steps]
            assert step.info["won"].tolist() == [x.info["won"][0] for x in steps]
            over = step.terminated | step.truncated
    games.close()
    given = [json.loads(line) for line in (tmp_path / "games").read_text().splitlines()]
    assert [x["seed"] for x in given] in ([0, 1, 2], [0, 2, 1], [1, 0, 2])
    assert configured(given[0]["map_name"], given[0]["capability_config"]) == scenario


# --- recordings


def sc2(name: str) -> Task:
    m = find_map(name)
    spec = Spec(m.n, m.obs, m.state, Discrete(m.actions), m.limit)
    return Task(f"sc2:{name}-medium", spec, partial(Games, name), "sc2", "medium", backend(), (0.0, 20.0))


def test_a_recording_in_pymarls_layout_converts(tmp_path):
    """Three episodes: won, lost, and broken off by the limit, which PyMARL does not flag (terminated != info["episode_limit"])."""
    task, lengths = sc2("3m"), np.array([20, 25, 60])
    spec, rows, rng = task.spec, 61, np.random.default_rng(0)
    filled = np.arange(rows) <= lengths[:, None]
    terminated = np.zeros((3, rows))
    terminated[[0, 1], lengths[:2] - 1] = 1
    avail = np.zeros((3, rows, spec.num_agents, spec.space.action_dim), np.int32)
    avail[..., 1] = 1
    recording = {
        "state": rng.random((3, rows, spec.state_dim), np.float32),
        "obs": rng.random((3, rows, spec.num_agents, spec.obs_dim), np.float32),
        "avail_actions": avail,
        "actions": np.ones((3, rows, spec.num_agents, 1), np.int64),
        "reward": rng.random((3, rows, 1), np.float32),
        "terminated": terminated[..., None].astype(np.uint8),
        "filled": filled[..., None].astype(np.int64),
    }
    np.savez(tmp_path / "3m.npz", **recording)
    save(read("pymarl", tmp_path / "3m.npz", task), tmp_path / "3m.h5")
    d = load(tmp_path / "3m.h5", task)
    assert d.lengths.tolist() == lengths.tolist()
    ends = d.offset[1:] - 1
    assert d.terminated[ends].tolist() == [True, True, False]
    assert d.truncated[ends].tolist() == [False, False, True]
    with pytest.raises(UserError, match="is not of sc2:8m"):
        read("pymarl", tmp_path / "3m.npz", sc2("8m"))


# --- the page


def test_the_page_lists_every_constant_of_the_simulator():
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", (ROOT / "docs" / "smac.md").read_text(), re.MULTILINE))
    source = Path(simulator.__file__).read_text()
    block = source[source.index("\nMOVE_AMOUNT =") : source.index("\nGROUND, AIR")]
    assert set(listed) == {name for names in re.findall(r"^([A-Z_, ]+) = ", block, re.MULTILINE) for name in names.split(", ")}
    for name, value in listed.items():
        assert ast.literal_eval(value) == getattr(simulator, name), name
