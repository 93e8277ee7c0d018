"""Published recordings whose environments are not registered here: what their authors' code says of them.

Recordings of MuJoCo are of gymnasium's v2 tasks, whose physics, rewards and observations differ from the v5 tasks here; their names begin
with `v2:`.

OMIGA shows every agent the whole MuJoCo state and the agent's one-hot code, standardized within each vector. OMAR shows the two halves of
its HalfCheetah their own joints. MPE's sizes are those of the learned agents (in tag and world the three predators).
"""

from typing import NamedTuple

from inspo_benchmark.core.spaces import Box
from inspo_benchmark.core.types import Spec, Task

UNKNOWN = (float("nan"), float("nan"))  # reference returns that are unknown


class Known(NamedTuple):
    spec: Spec
    family: str
    backend: str


KNOWN = {
    "v2:hopper_3x1": Known(Spec(3, 14, 14, Box(1), 1000), "mamujoco", "Hopper-v2"),
    "v2:ant_2x4": Known(Spec(2, 113, 113, Box(4), 1000), "mamujoco", "Ant-v2"),
    "v2:halfcheetah_6x1": Known(Spec(6, 23, 23, Box(1), 1000), "mamujoco", "HalfCheetah-v2"),
    "v2:halfcheetah_2x3": Known(Spec(2, 6, 17, Box(3), 1000), "mamujoco", "HalfCheetah-v2"),
    "simple_spread": Known(Spec(3, 18, 54, Box(2), 25), "mpe", "OMAR's MPE"),
    "simple_tag": Known(Spec(3, 16, 48, Box(2), 25), "mpe", "OMAR's MPE"),
    "simple_world": Known(Spec(3, 24, 72, Box(2), 25), "mpe", "OMAR's MPE"),
}
MAPPO_OBS = {"5m_vs_6m": 124, "6h_vs_8z": 172, "2c_vs_64zg": 478, "corridor": 346}  # of the SMAC that came with MAPPO


def known(name: str) -> Task | None:
    """The task of a published recording, `<scenario>-<quality>`."""
    scenario = name.rpartition("-")[0]
    if scenario not in KNOWN:
        return None
    return unregistered(name, *KNOWN[scenario])


def unregistered(name: str, spec: Spec, family: str, backend: str) -> Task:
    """A task that can be recorded and trained on, not played."""
    return Task(name, spec, None, family, name.rpartition("-")[2], backend, UNKNOWN)


def hint(task: Task, have: Spec) -> str:
    """A likely reason why a recording's sizes are not the task's; "" if none is known."""
    scenario = task.scenario.removeprefix("sc2:")
    if task.family in ("smac", "sc2"):
        if MAPPO_OBS.get(scenario) == have.obs_dim or have.obs_dim in MAPPO_OBS.values():
            return "observations of MAPPO's SMAC (MADT, OMIGA), not of SMAC itself; leave --task out to convert them as data of their own"
        if have.state_dim == task.spec.state_dim - task.spec.num_agents * task.spec.space.action_dim:
            return "states recorded without the last actions (state_last_action=False, as ICQ does)"
    if task.family == "mamujoco" and have.obs_dim > task.spec.obs_dim:
        return "observations that hold more than the task shows: whole states or agent codes, as in OMIGA's and OG-MARL's files"
    return ""
