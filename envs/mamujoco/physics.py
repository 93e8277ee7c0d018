"""The physics of E environments of one task: MuJoCo steps each of them, everything else is array code.

States, rewards and terminations are those of gymnasium's v5 tasks with their default settings, to the last bit; gymnasium itself resets the
environments. Each one keeps its own MjData, because a step starts from the constraint forces of the step before it: mujoco.rollout does
not hand these over, so its episodes differ after some steps.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

CONTROL_COST = {"HalfCheetah": 0.1, "Hopper": 1e-3, "Ant": 0.5}  # weights of the squared controls
CONTACT_COST = 5e-4  # weight of Ant's squared contact forces
TORSO = 1  # index of a body


class StepArrays(NamedTuple):
    """What E environments exchange with their caller, float64, written in place."""

    controls: np.ndarray  # [E, actuators]
    state: np.ndarray  # [E, S]
    rewards: np.ndarray  # [E]
    terminated: np.ndarray  # [E] 1 where the episode terminated


class Motion(NamedTuple):
    """Positions and velocities after a step; E environments."""

    q: np.ndarray  # [E, nq] positions of the joints
    v: np.ndarray  # [E, nv] their velocities
    x: np.ndarray  # [E] position whose speed is rewarded
    forces: np.ndarray  # [E, bodies, 6] external forces on the bodies; only Ant's are known


def half_cheetah(motion: Motion, speed: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, ...]:
    """speed [E], cost of the controls [E] -> state [E, S], rewards [E], terminated [E]."""
    return np.concatenate([motion.q[:, 1:], motion.v], 1), speed - cost, np.zeros(len(speed), bool)


def hopper(motion: Motion, speed: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, ...]:
    """As `half_cheetah`. It is healthy while it stands upright."""
    q, v, _, _ = motion
    moderate = (np.abs(np.concatenate([q[:, 2:], v], 1)) < 100).all(1)
    healthy = moderate & (q[:, 1] > 0.7) & np.isfinite(q[:, 1]) & (np.abs(q[:, 2]) < 0.2)
    return np.concatenate([q[:, 1:], v.clip(-10, 10)], 1), speed + healthy - cost, ~healthy


def ant(motion: Motion, speed: np.ndarray, cost: np.ndarray) -> tuple[np.ndarray, ...]:
    """As `half_cheetah`. It is healthy while its torso is at the right height."""
    q, v, _, forces = motion
    forces = forces.clip(-1, 1)
    healthy = np.isfinite(np.concatenate([q, v], 1)).all(1) & (q[:, 2] >= 0.2) & (q[:, 2] <= 1.0)
    contact_cost = CONTACT_COST * squared_norm(forces.reshape(len(q), -1))
    return np.concatenate([q[:, 2:], v, forces[:, TORSO:].reshape(len(q), -1)], 1), speed + healthy - (cost + contact_cost), ~healthy


def squared_norm(x: np.ndarray) -> np.ndarray:
    return np.square(x).sum(1)


OUTCOMES = {"HalfCheetah": half_cheetah, "Hopper": hopper, "Ant": ant}


class Physics:
    """`arrays`: see there. `env` is gymnasium's environment; its MjData are those of environment 0, so that it draws that one."""

    def __init__(self, env: Any, name: str, arrays: StepArrays, num_threads: int = 1):
        import mujoco

        self.mujoco, self.env, self.name, self.arrays, self.model = mujoco, env, name, arrays, env.model
        num_envs, model = len(arrays.terminated), env.model
        self.data = [env.data, *(mujoco.MjData(model) for _ in range(num_envs - 1))]
        self.motion = Motion(*map(np.zeros, ((num_envs, model.nq), (num_envs, model.nv), num_envs, (num_envs, model.nbody, 6))))
        self.views = [(d.ctrl, d.qpos, d.qvel, d.xpos[TORSO] if name == "Ant" else d.qpos, d.cfrc_ext) for d in self.data]
        self.threads = ThreadPoolExecutor(num_threads) if num_threads > 1 else None
        self.num_threads = num_threads

    def reset(self, seeds: Sequence[int]) -> None:
        """Start all episodes, one seed per environment."""
        for e, (data, seed) in reversed([*enumerate(zip(self.data, seeds, strict=True))]):  # 0 last, as its data are those of `env`
            self.arrays.state[e] = self.env.reset(seed=int(seed))[0]
            if e > 0:
                self.mujoco.mj_copyData(data, self.model, self.env.data)
            self._read(e)
        self.arrays.terminated[:] = False

    def step(self) -> None:
        """Step the environments that have not terminated."""
        live = np.flatnonzero(self.arrays.terminated == 0)
        if not len(live):
            self.arrays.rewards[:] = 0.0
            return
        before = self.motion.x[live]
        if self.threads:
            list(self.threads.map(self._advance, np.array_split(live, self.num_threads)))
        else:
            self._advance(live)
        motion = Motion(*(x[live] for x in self.motion))
        speed, cost = (motion.x - before) / self.env.dt, CONTROL_COST[self.name] * squared_norm(self.arrays.controls[live])
        self.arrays.rewards[:] = 0.0
        self.arrays.state[live], self.arrays.rewards[live], self.arrays.terminated[live] = OUTCOMES[self.name](motion, speed, cost)

    def _advance(self, envs: np.ndarray) -> None:
        """MuJoCo's part of a step; it runs without Python's lock."""
        step, model, frame_skip, has_forces = self.mujoco.mj_step, self.model, self.env.frame_skip, self.name == "Ant"
        for e in envs.tolist():
            self.views[e][0][:] = self.arrays.controls[e]
            step(model, self.data[e], nstep=frame_skip)
            if has_forces:
                self.mujoco.mj_rnePostConstraint(model, self.data[e])
            self._read(e)

    def _read(self, e: int) -> None:
        _, q, v, position, forces = self.views[e]
        self.motion.q[e], self.motion.v[e], self.motion.x[e] = q, v, position[0]
        if self.name == "Ant":
            self.motion.forces[e] = forces

    def close(self) -> None:
        if self.threads:
            self.threads.shutdown()
        self.env.close()
