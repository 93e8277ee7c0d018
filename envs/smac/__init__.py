"""StarCraft micromanagement: SMAC's 23 maps on the embedded simulator (`3m-medium`) and on the real game (`sc2:3m-medium`).

    maps, units, terrain.txt   what is known of the game
    simulator, paths           how units move and fight
    views                      what SMAC shows of it: observations, states, legal actions, rewards, ends
    vector                     the batched environment of the tasks
    starcraft2env              SMAC's own class, for code written for it: `from envs.smac import StarCraft2Env`
    starcraft                  the real game, where it is installed
    render                     pictures of episodes

docs/smac.md tells more. Only what a listing needs is imported here.
"""

from dataclasses import replace
from functools import partial

from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.envs.smac.maps import MAPS
from inspo_benchmark.envs.smac.starcraft import backend, room

QUALITIES = ("random", "medium", "medium_replay", "expert", "mixed")
BEST = 20.0  # return of a won battle in which no enemy regenerates
SIMULATOR = "smac-sim-1"  # the number changes when the dynamics do
RANDOM_RETURN = {  # of uniformly random legal actions, mean of 1000 battles
    "3m": 1.74, "8m": 2.17, "25m": 2.80, "5m_vs_6m": 1.62, "8m_vs_9m": 1.91, "10m_vs_11m": 2.06, "27m_vs_30m": 2.54, "MMM": 2.32,
    "MMM2": 1.67, "2s3z": 4.14, "3s5z": 4.68, "3s5z_vs_3s6z": 4.08, "3s_vs_3z": 4.93, "3s_vs_4z": 3.72, "3s_vs_5z": 2.97, "1c3s5z": 7.06,
    "2m_vs_1z": 1.40, "corridor": 4.16, "6h_vs_8z": 4.75, "2s_vs_1sc": 0.98, "so_many_baneling": 14.92, "bane_vs_bane": 19.97,
    "2c_vs_64zg": 11.45,
}  # fmt: skip


def __getattr__(name: str):
    if name == "StarCraft2Env":
        from inspo_benchmark.envs.smac.starcraft2env import StarCraft2Env

        return StarCraft2Env
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def simulated(name: str, num_envs: int):
    from inspo_benchmark.envs.smac.vector import Smac

    return Smac(name, num_envs)


def real(name: str, num_envs: int):
    from inspo_benchmark.envs.smac.starcraft import Games

    return Games(name, num_envs)


for map in MAPS.values():
    for quality in QUALITIES:
        task = Task(
            name=f"{map.name}-{quality}",
            spec=Spec(map.n, map.obs, map.state, Discrete(map.actions), map.limit),
            make=partial(simulated, map.name),
            family="smac",
            quality=quality,
            backend=SIMULATOR,
            reference=(RANDOM_RETURN[map.name], BEST),
        )
        TASKS.register(task.name)(task)
        TASKS.register(f"sc2:{task.name}")(
            replace(
                task,
                name=f"sc2:{task.name}",
                make=partial(real, map.name),
                family="sc2",
                backend=backend(),
                reference=(0.0, BEST),  # nobody has published what random agents earn in the game
                max_envs=room() // 3,  # the evaluator may keep three sets of games
            )
        )
