"""Multi-agent MuJoCo (Peng et al. 2021, arXiv:2003.06709): a robot whose joints are divided among agents, gymnasium-robotics' mamujoco_v1.

Robots, rewards and ends are those of gymnasium's v5 tasks, so that returns are not comparable with the v2 tasks of the papers. The state is
the robot's whole observation. What an agent sees of it is a variant of the scenario:

    full           the state and the agent's one-hot code, standardised within the vector, as in OMIGA's data:
                   o_i = (x - mean x) / std x,  x = (s, e_i)
    obsk0, obsk1   the joints it moves, in obsk1 the positions of those next to them as well, and the torso; padded with zeros

A scenario's plain name is the variant that the papers' data have, others are named: `halfcheetah_6x1`, `halfcheetah_6x1_obsk1`.
Packages are imported when an environment is made. To add a scenario: a line of SCENARIOS.
"""

import itertools
import math
import mmap
import os
import tempfile
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing.connection import Connection
from typing import NamedTuple

import numpy as np

from inspo_benchmark.core.env import Observation, Step
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Box
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.envs import _workers

LIMIT = 1000
QUALITIES = ("random", "medium", "medium_replay", "medium_expert", "expert")
FEW = 8  # lanes for which a process of their own pays


class Scenario(NamedTuple):
    """Sizes are stated, because a listing must not wait for MuJoCo; tests compare them with the package's."""

    robot: str  # gymnasium-robotics' names
    parts: str
    agents: int
    actions: int  # of the agent that has most
    joints: int  # of all
    state: int
    local: tuple[int, int]  # numbers that an agent sees in obsk0 and in obsk1, at most
    papers: str  # the variant in the papers' data
    reference: tuple[float, float]  # mean return of uniformly random actions and of the shipped expert


SCENARIOS = {
    "halfcheetah_6x1": Scenario("HalfCheetah", "6x1", 6, 1, 6, 17, (7, 9), "full", (-282.9, 3537.4)),  # OMIGA
    "halfcheetah_2x3": Scenario("HalfCheetah", "2x3", 2, 3, 6, 17, (11, 12), "obsk0", (-282.9, 5555.8)),  # OMAR, CFCQL
    "hopper_3x1": Scenario("Hopper", "3x1", 3, 1, 3, 11, (7, 9), "full", (17.0, 2601.9)),  # OMIGA
    "ant_2x4": Scenario("Ant", "2x4", 2, 4, 8, 105, (61, 63), "full", (-53.9, 2089.1)),  # OMIGA
}


def split(name: str) -> tuple[Scenario, str]:
    """A scenario's name with or without a variant -> the scenario, the variant. UserError: no such name."""
    if name in SCENARIOS:
        return SCENARIOS[name], SCENARIOS[name].papers
    base, _, variant = name.rpartition("_")
    if base in SCENARIOS and variant in ("full", "obsk0", "obsk1"):
        return SCENARIOS[base], variant
    raise UserError(f"no multi-agent MuJoCo scenario {name!r}; there are {', '.join(SCENARIOS)}, each also with _full, _obsk0 or _obsk1")


def backend() -> str:
    """What plays, with its version; results of another version are another thing."""
    try:
        return f"mujoco-{version('mujoco')}"
    except PackageNotFoundError:
        return "mujoco not installed"


# --- one process


def robots(scenario: Scenario, obsk: int, count: int, **drawing) -> list:
    """That many of gymnasium-robotics' environments. UserError: a package is missing, or the robot cannot be divided so."""
    try:
        import farama_notifications
        import mujoco

        farama_notifications.notifications.pop("gymnasium_robotics", None)  # or every process would print a line about other robots
        mujoco.set_mju_user_warning(lambda message: None)  # or it would write MUJOCO_LOG.TXT wherever the user is
        from gymnasium_robotics import mamujoco_v1
    except ModuleNotFoundError as e:
        package = e.name.split(".")[0].replace("_", "-")
        raise UserError(
            f"multi-agent MuJoCo needs the package {package}, which is not installed: make setup, "
            "or pip install -c constraints.txt mujoco gymnasium-robotics"
        ) from None
    try:
        return [mamujoco_v1.parallel_env(scenario.robot, scenario.parts, agent_obsk=obsk, **drawing) for _ in range(count)]
    except Exception as e:
        raise UserError(
            f"gymnasium-robotics does not divide {scenario.robot} into {scenario.parts}: {' '.join(str(e).split())[:200]}"
        ) from None


class Lanes:
    """E robots one after the other. `arrays`: what was done and what came of it, written in place."""

    def __init__(self, scenario: Scenario, arrays: "Arrays", **drawing):
        self.robots, self.arrays = [x.single_agent_env.unwrapped for x in robots(scenario, 0, len(arrays.over), **drawing)], arrays

    def reset(self, seeds: Sequence[int]) -> None:
        """One seed per lane."""
        for robot, seed, state in zip(self.robots, seeds, self.arrays.state, strict=True):
            state[:] = robot.reset(seed=int(seed))[0]
        self.arrays.over[:] = False

    def step(self) -> None:
        """One step of the lanes that are not over."""
        x = self.arrays
        for e, robot in enumerate(self.robots):
            x.reward[e] = 0.0
            if not x.over[e]:
                x.state[e], x.reward[e], x.over[e], *_ = robot.step(x.act[e])

    def close(self) -> None:
        for robot in self.robots:
            robot.close()


class Arrays(NamedTuple):
    """What E lanes share with who steps them, float64."""

    act: np.ndarray  # [E, all actuators]
    state: np.ndarray  # [E, S]
    reward: np.ndarray  # [E]
    over: np.ndarray  # [E] 1 where the episode terminated

    def part(self, num_envs: slice) -> "Arrays":
        return Arrays(*(x[num_envs] for x in self))


def shapes(scenario: Scenario, num_envs: int) -> list[tuple[int, ...]]:
    """Of the arrays."""
    return [(num_envs, scenario.joints), (num_envs, scenario.state), (num_envs,), (num_envs,)]


def cores() -> int:
    """That this process may use."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(len(os.sched_getaffinity(0)), int(asked) if asked.isdigit() else 1 << 10)


# --- several


def serve(pipe: Connection, name: str, fd: int, num_envs: int, first: int, last: int) -> None:
    """In a worker: reset its share of the lanes to the seeds that it is sent, or step; until nobody is at the pipe's other end."""
    try:
        part = Lanes(split(name)[0], shared(fd, shapes(split(name)[0], num_envs)).part(slice(first, last)))
        while (message := pipe.recv()) is not None:
            part.reset(message) if len(message) else part.step()
            pipe.send(None)
    except (EOFError, OSError):
        pass


def shared(fd: int, shapes: list[tuple[int, ...]]) -> Arrays:
    """Arrays in a file's memory."""
    sizes = [math.prod(shape) for shape in shapes]
    memory = np.frombuffer(mmap.mmap(fd, 8 * sum(sizes)))
    return Arrays(*(part.reshape(shape) for part, shape in zip(np.split(memory, np.cumsum(sizes)[:-1]), shapes, strict=True)))


class Workers:
    """The same as `Lanes`, in several processes that share the arrays' memory."""

    def __init__(self, name: str, num_envs: int, count: int):
        bounds = np.linspace(0, num_envs, count + 1).astype(int).tolist()
        self.parts = list(itertools.pairwise(bounds))
        with tempfile.TemporaryFile() as file:
            file.truncate(8 * sum(map(math.prod, shapes(split(name)[0], num_envs))))
            self.arrays = shared(file.fileno(), shapes(split(name)[0], num_envs))
            args = [(__name__, name, file.fileno(), num_envs, *part) for part in self.parts]
            self.workers = [_workers.start(*x, fds=[file.fileno()]) for x in args]

    def reset(self, seeds: np.ndarray) -> None:
        self._ask([seeds[a:b].tolist() for a, b in self.parts])

    def step(self) -> None:
        self._ask([[] for _ in self.parts])

    def _ask(self, messages: list[list[int]]) -> None:
        try:
            for worker, message in zip(self.workers, messages, strict=True):
                worker.pipe.send(message)
            for worker in self.workers:
                worker.pipe.recv()
        except (EOFError, OSError) as e:
            self.close()
            raise UserError("a process that steps MuJoCo is gone; run the same again") from e

    def close(self) -> None:
        _workers.end(self.workers)
        self.workers = []


# --- the environment


class MaMujoco:
    """E lanes of a scenario, see `core.env.VecEnv`. Actions of the agents go to the joints that gymnasium-robotics gives them, scaled from
    [-1, 1] to what the joints take and clipped to it; truncated after `limit` steps.

    Many lanes are shared among as many processes as this one may have cores (OMP_NUM_THREADS; in a sweep that is one). `drawing`: what
    the robots' `render` needs to know, for lanes in this process.
    """

    def __init__(self, name: str, num_envs: int, limit: int = LIMIT, **drawing):
        self.scenario, self.variant = split(name)
        self.num_envs, self.limit, self.t = num_envs, limit, 0
        self.view = View(self.scenario, self.variant)
        count = min(cores(), num_envs // FEW)
        here = Arrays(*map(np.zeros, shapes(self.scenario, num_envs)))
        self.play = Workers(name, num_envs, count) if count > 1 else Lanes(self.scenario, here, **drawing)

    def reset(self, seeds: Sequence[int]) -> Observation:
        self.t = 0
        self.play.reset(np.asarray(seeds))
        return self._seen()

    def step(self, act: np.ndarray) -> Step:
        x, live = self.play.arrays, self.t < self.limit
        if live:
            self.view.command(act, x.act)
            self.play.step()
        self.t = min(self.t + 1, self.limit)
        terminated = x.over > 0
        return Step(self._seen(), x.reward * live, terminated, ~terminated & (self.t == self.limit), {})

    def close(self) -> None:
        self.play.close()

    def _seen(self) -> Observation:
        state = self.play.arrays.state.astype(np.float32)
        obs = self.view(state)
        return Observation(obs, state, np.ones((*obs.shape[:2], 1), bool))


class View:
    """What the agents see of states [..., S], and what the joints make of their actions."""

    def __init__(self, scenario: Scenario, variant: str):
        self.scenario, self.variant = scenario, variant
        (robot,) = robots(scenario, 1 if variant == "obsk1" else 0, 1)
        space, parts = robot.single_agent_env.action_space, robot.agent_action_partitions
        self.low, self.high = space.low, space.high
        self.owner = np.array([(i, j, node.act_ids) for i, part in enumerate(parts) for j, node in enumerate(part)]).T
        self.seen = list(robot.observation_factorization.values()) if variant != "full" else []
        robot.close()

    def __call__(self, state: np.ndarray) -> np.ndarray:
        """state [..., S] float32 -> obs [..., N, O] float32."""
        n, lead = self.scenario.agents, state.shape[:-1]
        if self.variant == "full":
            ids = np.broadcast_to(np.eye(n), (*lead, n, n))
            x = np.concatenate([np.broadcast_to(state[..., None, :], (*lead, n, state.shape[-1])), ids], -1, dtype=np.float64)
            return ((x - x.mean(-1, keepdims=True)) / x.std(-1, keepdims=True)).astype(np.float32)
        obs = np.zeros((*lead, n, max(map(len, self.seen))), np.float32)
        for i, seen in enumerate(self.seen):
            obs[..., i, : len(seen)] = state[..., seen]
        return obs

    def command(self, act: np.ndarray, out: np.ndarray) -> None:
        """act [E, N, D] in [-1, 1] -> what every actuator is told [E, joints]."""
        agent, own, joint = self.owner
        middle, half = (self.high + self.low) / 2, (self.high - self.low) / 2
        out[:, joint] = middle[joint] + half[joint] * act[:, agent, own].clip(-1, 1)


for name, scenario in SCENARIOS.items():
    for variant, width in (("full", scenario.state + scenario.agents), ("obsk0", scenario.local[0]), ("obsk1", scenario.local[1])):
        own = name if variant == scenario.papers else f"{name}_{variant}"
        for quality in QUALITIES:
            TASKS.register(f"{own}-{quality}")(
                Task(
                    name=f"{own}-{quality}",
                    spec=Spec(scenario.agents, width, scenario.state, Box(scenario.actions), LIMIT),
                    make=partial(MaMujoco, own),
                    num_evals=10,  # episodes are long
                    eval_episodes=5,
                    final_episodes=20,
                    family="mamujoco",
                    quality=quality,
                    backend=backend(),
                    reference=scenario.reference,
                )
            )
