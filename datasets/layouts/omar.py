"""OMAR's and continuous CFCQL's folders, `<env_id>/<quality>/seed_<k>_data/`, a file for each agent i of M steps end to end:

| file              | shape    |                                           |
| ----------------- | -------- | ----------------------------------------- |
| obs_i.npy         | (M, O_i) |                                           |
| acs_i.npy         | (M, D)   |                                           |
| rews_i.npy        | (M,)     |                                           |
| next_obs_i.npy    | (M, O_i) | what the step leads to                    |
| dones_i.npy       | (M,)     |                                           |
| states_i.npy      | (M, S)   | MuJoCo only; the same for all agents      |
| next_states_i.npy | (M, S)   | MuJoCo only                               |

**Ends.** Nothing marks an episode: they are blocks of 25 (MPE) or 1000 steps (MuJoCo, which has states), and every end is a time limit.
MPE's dones are all 0; MuJoCo's 1 at step 1000 is that limit, not a termination. A block whose next_obs do not lead from one step to the
next is no episode, and refused.

**Agents.** Files of the prey in tag and world (index 3) are not read: it is part of the environment.

**Rewards** are the agents' own. The team's is agent 0's in tag, world and MuJoCo, and the mean over the agents in spread, as the papers
count returns. **State** of MPE: all observations end to end, as CFCQL's central critic sees it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.spaces import Box
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.dataset import Dataset
from inspo_benchmark.datasets.layouts import LAYOUTS, Layout, Recording, refuse, with_last, word
from inspo_benchmark.datasets.layouts._arrays import arrays, need, reading, shaped
from inspo_benchmark.datasets.layouts._known import KNOWN

SCENARIOS = {x: x for x in ("simple_spread", "simple_tag", "simple_world")} | {"HalfCheetah-v2": "v2:halfcheetah_2x3"}
FIRST = ("simple_tag", "simple_world", "v2:halfcheetah_2x3")  # the team's reward is agent 0's
BLOCK, MUJOCO_BLOCK = 25, 1000


@contextmanager
def open_recording(source: Path) -> Iterator[Recording]:
    if not source.is_dir():
        raise UserError(f"{source}: not a folder; OMAR's recordings are folders seed_<k>_data of .npy files")
    with arrays(source) as x:
        scenario = SCENARIOS.get(source.resolve().parents[1].name, "")
        files = sum(f"obs_{i}" in x for i in range(len(x)))
        n = min(KNOWN[scenario].spec.num_agents, files) if scenario else files
        if not n:
            raise UserError(f"{source}: no obs_0.npy; an OMAR recording has obs_i, acs_i, rews_i, next_obs_i and dones_i for every agent i")
        mujoco = "states_0" in x
        kinds = {f"{key}_{i}": "f" if key != "dones" else "biuf" for i in range(n) for key in ("obs", "acs", "rews", "next_obs", "dones")}
        kinds |= {"states_0": "f", "next_states_0": "f"} if mujoco else {}
        need(source, x, kinds, "an OMAR")
        if any(len(x[key].shape) != (1 if key.startswith(("rews", "dones")) else 2) for key in kinds):
            shapes = ", ".join(f"{key} {x[key].shape}" for key in kinds)
            raise UserError(f"{source}: {shapes}; OMAR's have (M, numbers), rews and dones (M,)")
        m, d, widths = len(x["obs_0"]), x["acs_0"].shape[1], [x[f"obs_{i}"].shape[1] for i in range(n)]
        expected = {f"{key}_{i}": (m, widths[i]) for i in range(n) for key in ("obs", "next_obs")}
        expected |= {f"acs_{i}": (m, d) for i in range(n)} | {f"{key}_{i}": (m,) for i in range(n) for key in ("rews", "dones")}
        expected |= {key: (m, x["states_0"].shape[1]) for key in ("states_0", "next_states_0") if mujoco}
        shaped(source, x, expected, f"obs_0 of {m} steps with {d} numbers in an action")
        block = MUJOCO_BLOCK if mujoco else BLOCK
        if m % block or not m:
            raise UserError(f"{source}: {m} steps are not whole episodes of {block}")
        with reading(source):
            done = np.stack([x[f"dones_{i}"][:] != 0 for i in range(n)])
        refuse(source, (done & (np.arange(m) % block != block - 1)).any(0), f"'done' within an episode of {block} steps", "step")
        how = "agent 0's reward" if scenario in FIRST or mujoco else "the mean of the agents' rewards"
        yield Recording(
            source,
            Spec(n, max(widths), x["states_0"].shape[1] if mujoco else sum(widths), Box(d), block),
            _name(source, scenario),
            rows=np.full(m // block, block + 1),
            read=partial(_read, x, block, how.startswith("agent")),
            notes=[f"episodes are blocks of {block} steps, truncated; the team's reward is {how}"]
            + [f"files of {files - n} agents that are not learned left out"] * (files > n),
            family="mamujoco" if mujoco else "mpe",
        )


def _read(x: dict[str, Any], block: int, first: bool, r: Recording, task: Task, a: int, b: int) -> Dataset:
    rows, n, lengths = slice(a * block, b * block), r.spec.num_agents, np.full(b - a, block)

    def seen(now: str, then: str) -> np.ndarray:
        """A row per step and what the last step of each episode leads to."""
        here, there = x[now][rows], x[then][rows]
        wrong = (here[1:] != there[:-1]).any(1) & (np.arange(1, len(here)) % block != 0)
        refuse(r.source, wrong, f"{then} is not the {now} that follows", "step", a * block)
        return with_last(here, lengths, there[block - 1 :: block])

    obs = np.zeros(((b - a) * (block + 1), n, r.spec.obs_dim), "f4")
    each = [seen(f"obs_{i}", f"next_obs_{i}") for i in range(n)]
    for i, own in enumerate(each):
        obs[:, i, : own.shape[1]] = own
    rewards = np.stack([x[f"rews_{i}"][rows] for i in range(n)])
    return r.episodes(
        task,
        lengths,
        obs=obs,
        state=seen("states_0", "next_states_0") if "states_0" in x else np.concatenate(each, 1),
        actions=np.stack([x[f"acs_{i}"][rows] for i in range(n)], 1),
        rewards=rewards[0] if first else rewards.astype("f8").mean(0),
        terminated=np.zeros(b - a, bool),
    )


def _name(source: Path, scenario: str) -> str:
    return f"{scenario}-{word(source.resolve().parent.name)}" if scenario else f"{word(source.name)}-recorded"


LAYOUTS.register("omar")(Layout("OMAR", "OMAR, continuous CFCQL: a folder seed_<k>_data of .npy, some for each agent", open_recording))
