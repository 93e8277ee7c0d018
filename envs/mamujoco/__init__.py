"""Multi-agent MuJoCo (Peng et al. 2021, arXiv:2003.06709), on gymnasium-robotics' mamujoco_v1: agents control different joints of one body.

Dynamics, rewards and terminations are those of gymnasium's v5 tasks, so returns are not comparable with those of the papers' v2 tasks. The
state is the single-agent observation. The agents' observations are a variant of the scenario:

    full           the state and the agent's one-hot id, standardized within the vector, as in OMIGA's data:
                   o_i = (x - mean x) / std x,  x = (s, e_i)
    obsk0, obsk1   the torso and the agent's own joints, in obsk1 also the positions of the neighboring joints; zero-padded

A scenario's plain name is the variant of the papers' data; the others have a suffix: `halfcheetah_6x1`, `halfcheetah_6x1_obsk1`.
MuJoCo is imported when an environment is made. To add a scenario, add a line to SCENARIOS.
"""

import functools
import os
from collections.abc import Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import numpy as np

from inspo_benchmark.core.env import Observation, Step, check_num_envs, check_shape, checked_seeds
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Box
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.envs.mamujoco.physics import Physics, StepArrays

LIMIT = 1000
VARIANTS = ("full", "obsk0", "obsk1")  # of the observations
QUALITIES = ("random", "medium", "medium_replay", "medium_expert", "expert")
ENVS_PER_THREAD = 8  # fewest environments for which another thread is worthwhile


class Scenario(NamedTuple):
    """Sizes are stated, so that listings need not import MuJoCo; tests compare them with the package's."""

    env_name: str  # `scenario` in gymnasium-robotics
    agent_conf: str  # gymnasium-robotics' name of the partition of the joints
    num_agents: int
    action_dim: int  # of the agent with the most joints
    num_joints: int  # of all agents
    state_dim: int
    local_obs_dims: tuple[int, int]  # largest observation in obsk0 and in obsk1
    paper_variant: str  # variant of the papers' data
    reference: tuple[float, float]  # mean returns: of uniformly random actions, and of the shipped expert's greedy actions in 100 episodes


SCENARIOS = {
    "halfcheetah_6x1": Scenario("HalfCheetah", "6x1", 6, 1, 6, 17, (7, 9), "full", (-282.9, 3595.9)),  # OMIGA
    "halfcheetah_2x3": Scenario("HalfCheetah", "2x3", 2, 3, 6, 17, (11, 12), "obsk0", (-282.9, 5823.3)),  # OMAR, CFCQL
    "hopper_3x1": Scenario("Hopper", "3x1", 3, 1, 3, 11, (7, 9), "full", (17.0, 3434.3)),  # OMIGA
    "ant_2x4": Scenario("Ant", "2x4", 2, 4, 8, 105, (61, 63), "full", (-53.9, 2132.4)),  # OMIGA
}


def parse_name(name: str) -> tuple[Scenario, str]:
    """A scenario's name, with or without a variant -> the scenario and the variant. UserError: no such scenario."""
    if name in SCENARIOS:
        return SCENARIOS[name], SCENARIOS[name].paper_variant
    base, _, variant = name.rpartition("_")
    if base in SCENARIOS and variant in VARIANTS and variant != SCENARIOS[base].paper_variant:
        return SCENARIOS[base], variant
    there = [f"{x} (also with {', '.join(f'_{v}' for v in VARIANTS if v != known.paper_variant)})" for x, known in SCENARIOS.items()]
    raise UserError(f"no multi-agent MuJoCo scenario {name!r}; there are {'; '.join(there)}")


@functools.cache
def backend() -> str:
    """MuJoCo's version; results of different versions are not comparable."""
    try:
        return f"mujoco-{version('mujoco')}"
    except PackageNotFoundError:
        return "mujoco not installed"


def make_env(scenario: Scenario, obsk: int, **render_options) -> Any:
    """An environment of gymnasium-robotics. UserError: a package is missing, or it has no such partition."""
    try:
        import farama_notifications
        import mujoco

        farama_notifications.notifications.pop("gymnasium_robotics", None)  # otherwise every process prints a notice
        mujoco.set_mju_user_warning(lambda message: None)  # otherwise MuJoCo writes MUJOCO_LOG.TXT to the current folder
        from gymnasium_robotics import mamujoco_v1
    except ModuleNotFoundError as e:
        package = e.name.split(".")[0].replace("_", "-")
        raise UserError(
            f"multi-agent MuJoCo needs the package {package}, which is not installed: make setup, "
            "or pip install -c constraints.txt mujoco gymnasium-robotics"
        ) from None
    try:
        return mamujoco_v1.parallel_env(scenario.env_name, scenario.agent_conf, agent_obsk=obsk, **render_options)
    except Exception as e:
        raise UserError(
            f"gymnasium-robotics does not divide {scenario.env_name} into {scenario.agent_conf}: {' '.join(str(e).split())[:200]}"
        ) from None


def make_physics(scenario: Scenario, arrays: StepArrays, num_threads: int = 1, **render_options) -> Physics:
    """The physics of a scenario's environments. `render_options` go to gymnasium, which draws the first one."""
    return Physics(make_env(scenario, 0, **render_options).single_agent_env.unwrapped, scenario.env_name, arrays, num_threads)


def zero_arrays(scenario: Scenario, num_envs: int) -> StepArrays:
    """The arrays of `num_envs` environments, filled with zeros."""
    shapes = (num_envs, scenario.num_joints), (num_envs, scenario.state_dim), num_envs, num_envs
    return StepArrays(*map(np.zeros, shapes))


def available_cores() -> int:
    """Number of cores that this process may use: its affinity, at most OMP_NUM_THREADS."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(len(os.sched_getaffinity(0)), int(limit) if limit.isdigit() else 1 << 10)


class MaMujoco:
    """E environments of a scenario, see `core.env.VecEnv`; episodes are truncated after `limit` steps.

    With many environments and several cores (OMP_NUM_THREADS; one core in a sweep), threads step them. `render_options` go to gymnasium.
    """

    def __init__(self, name: str, num_envs: int, limit: int = LIMIT, **render_options):
        self.scenario, self.variant = parse_name(name)
        self.num_envs, self.limit, self.t = check_num_envs(num_envs), limit, 0
        self.avail = np.ones((num_envs, self.scenario.num_agents, 1), bool)
        self.partition = AgentPartition(self.scenario, self.variant)
        num_threads = max(1, min(available_cores(), num_envs // ENVS_PER_THREAD))
        self.physics = make_physics(self.scenario, zero_arrays(self.scenario, num_envs), num_threads, **render_options)

    def reset(self, seeds: Sequence[int]) -> Observation:
        """UserError: not a seed for each environment."""
        self.t = 0
        self.physics.reset(checked_seeds(seeds, self.num_envs))
        return self._observe()

    def step(self, act: np.ndarray) -> Step:
        """act [E, N, D], clipped to [-1, 1]. UserError: another shape, or NaN or infinity."""
        act = np.asarray(act)
        check_shape(act, (self.num_envs, self.scenario.num_agents, self.scenario.action_dim))
        x, live = self.physics.arrays, self.t < self.limit
        if live:
            if (wrong := ~np.isfinite(act).all((1, 2)) & (x.terminated == 0)).any():
                raise UserError(f"actions with NaN or infinity in environment {wrong.argmax()}; the environment takes numbers from -1 to 1")
            self.partition.write_controls(act, x.controls)
            self.physics.step()
        self.t = min(self.t + 1, self.limit)
        terminated = x.terminated > 0
        return Step(self._observe(), x.rewards * live, terminated, ~terminated & (self.t == self.limit), {})

    def close(self) -> None:
        self.physics.close()

    def _observe(self) -> Observation:
        state = self.physics.arrays.state.astype(np.float32)
        return Observation(self.partition.observe(state), state, self.avail)


class AgentPartition:
    """How the state and the joints are divided among the agents."""

    def __init__(self, scenario: Scenario, variant: str):
        self.scenario, self.variant = scenario, variant
        env = make_env(scenario, 1 if variant == "obsk1" else 0)
        space, parts = env.single_agent_env.action_space, env.agent_action_partitions
        self.middle, self.half = (space.high + space.low) / 2, (space.high - space.low) / 2  # of each actuator's range
        # Row by row: agent, index of the action in the agent's own, index of the actuator.
        self.owner = np.array([(i, j, node.act_ids) for i, part in enumerate(parts) for j, node in enumerate(part)]).T
        self.local = list(env.observation_factorization.values()) if variant != "full" else []  # indices into the state
        env.close()

    def observe(self, state: np.ndarray) -> np.ndarray:
        """state [..., S] float32 -> obs [..., N, O] float32."""
        n, lead = self.scenario.num_agents, state.shape[:-1]
        if self.variant == "full":
            ids = np.broadcast_to(np.eye(n), (*lead, n, n))
            x = np.concatenate([np.broadcast_to(state[..., None, :], (*lead, n, state.shape[-1])), ids], -1, dtype=np.float64)
            x -= x.mean(-1, keepdims=True)
            return (x / np.sqrt((x * x).mean(-1, keepdims=True))).astype(np.float32)
        obs = np.zeros((*lead, n, max(map(len, self.local))), np.float32)
        for i, indices in enumerate(self.local):
            obs[..., i, : len(indices)] = state[..., indices]
        return obs

    def write_controls(self, act: np.ndarray, controls: np.ndarray) -> None:
        """act [E, N, D], clipped to [-1, 1] -> controls [E, actuators], scaled to each actuator's range."""
        agent, own, joint = self.owner
        controls[:, joint] = self.middle[joint] + self.half[joint] * act[:, agent, own].clip(-1, 1)


for name, scenario in SCENARIOS.items():
    obs_dims = dict(full=scenario.state_dim + scenario.num_agents, obsk0=scenario.local_obs_dims[0], obsk1=scenario.local_obs_dims[1])
    for variant, obs_dim in obs_dims.items():
        own = name if variant == scenario.paper_variant else f"{name}_{variant}"
        for quality in QUALITIES:
            TASKS.register(f"{own}-{quality}")(
                Task(
                    name=f"{own}-{quality}",
                    spec=Spec(scenario.num_agents, obs_dim, scenario.state_dim, Box(scenario.action_dim), LIMIT),
                    make=partial(MaMujoco, own),
                    num_evals=10,  # few and small evaluations, because episodes are long
                    eval_episodes=5,
                    final_episodes=50,
                    family="mamujoco",
                    quality=quality,
                    backend=backend(),
                    reference=scenario.reference,
                )
            )
