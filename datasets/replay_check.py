"""Faults that a well-formed file may still have: ends that the environment would not produce, copies of episodes, and steps that the
environment does not reproduce.

The games and the SMAC simulator repeat whole episodes, the simulator from their seeds and actions. MuJoCo's results differ between
machines, so only its starts are compared.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator

import numpy as np

from inspo_benchmark.core.env import Observation, VecEnv
from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.dataset import BUILT, Dataset

SAMPLE = 64  # episodes that are replayed
SIMULATOR = "smac"  # the family whose episodes are repeated by their seeds and actions
DETERMINISTIC, SEEDED = ("xor", "mne", "bridge"), (SIMULATOR, "mamujoco")  # families
REAL_VALUED = (*SEEDED, "sc2")  # families in which no two episodes are equal by chance, unless all start alike
TOLERANCE = 1e-5  # of rewards and observations, which files store as float32


def audit(d: Dataset, task: Task | None) -> list[str]:
    """The faults of a dataset, with their places. `task`: the registered task of that name, if there is one."""
    replay = _replay(d, task) if task and task.make else ()
    may_repeat = task and task.make and task.family not in REAL_VALUED  # small games, where equal episodes happen by chance
    return [*_ends(d), *([] if may_repeat else _copies(d)), *replay]


def _ends(d: Dataset) -> Iterator[str]:
    """Episodes of datasets built here are truncated only at the time limit; recordings may have been cut before it."""
    short = d.truncated[d.offset[1:] - 1] & (d.lengths < d.meta["limit"])
    if short.any() and d.meta["source"] == BUILT:
        e = int(short.argmax())
        yield (
            f"steps/truncated: episode {e} ends by the time limit after {d.lengths[e]} steps, the limit is {d.meta['limit']}, "
            f"{short.sum()} times"
        )


def _copies(d: Dataset) -> Iterator[str]:
    """Where every start is different, no two episodes are equal by chance. Where different episodes share a start, they may be."""
    first_with: dict[bytes, int] = {}
    starts: Counter[bytes] = Counter()  # of different episodes
    found = []
    for e in range(d.episodes):
        steps, rows = d.slices(e)
        key = hashlib.sha256(
            b"".join(np.ascontiguousarray(x).tobytes() for x in (d.obs[rows], d.actions[steps], d.rewards[steps]))
        ).digest()
        if key in first_with:
            found.append((e, first_with[key]))
        else:
            first_with[key] = e
            starts[d.obs[rows.start].tobytes()] += 1
    if found and len(starts) > 1 and max(starts.values()) == 1:
        yield f"episodes: episode {found[0][0]} is a copy of episode {found[0][1]}, {len(found)} of {d.episodes} are copies"


def _replay(d: Dataset, task: Task) -> Iterator[str]:
    """Replay a sample of the episodes: all steps in a deterministic environment and in the same version of the simulator, the first
    observation in another seeded one."""
    sample = np.unique(np.linspace(0, d.episodes - 1, min(SAMPLE, d.episodes)).astype(int))
    if task.family in SEEDED:
        sample = sample[d.seed[sample] >= 0]
    elif task.family not in DETERMINISTIC:
        return
    if not len(sample):
        return
    env = task.make(len(sample))
    observation = env.reset(np.maximum(d.seed[sample], 0))
    found = list(_differ(d, sample, 0, observation, "the environment's first"))
    repeats = task.family == SIMULATOR and d.meta["backend"] == task.backend
    yield from found
    if not found and (task.family in DETERMINISTIC or repeats):
        yield from _steps(d, sample, env, observation)
    env.close()


def _steps(d: Dataset, sample: np.ndarray, env: VecEnv, observation: Observation) -> Iterator[str]:
    """The first step that the environment does not reproduce, if there is one. `observation`: its first one."""
    lengths = d.lengths[sample]
    for t in range(lengths.max()):
        live = t < lengths
        at = d.offset[sample] + np.minimum(t, lengths - 1)
        # Where a recording was cut, the environment goes on with any available action.
        step = env.step(np.where(live[:, None], d.actions[at].astype(np.int64), observation.avail.argmax(2)))
        observation, last = step.observation, t == lengths - 1
        found = list(_differ(d, sample[live], t + 1, [x[live] for x in observation], "the game's"))
        # The limit may change the last reward, as on Bridge, while a recording that was cut earlier keeps the original one.
        comparable = live & ~(last & d.truncated[at] & (d.meta["source"] != BUILT))
        for name, here, there, where in (
            ("steps/rewards", d.rewards[at], step.rewards, comparable),
            ("steps/terminated", d.terminated[at], step.terminated, live),
        ):
            if (wrong := where & ~np.isclose(here, there, rtol=0, atol=TOLERANCE)).any():
                i = int(wrong.argmax())
                found.append(f"{name}: {here[i]} at step {at[i]} of the file, in episode {sample[i]}; the game says {there[i]}")
        won = d.won[sample]
        if (wrong := last & comparable & (won >= 0) & (won != step.info.get("won", won))).any():
            e = sample[wrong.argmax()]
            found.append(f"episodes/won: {d.won[e]} in episode {e}; the game says {1 - d.won[e]}")
        if found:
            yield from found
            return


def _differ(d: Dataset, sample: np.ndarray, t: int, observation, what: str) -> Iterator[str]:
    rows = d.offset[sample] + sample + t
    for name, there in zip(("obs", "state", "avail"), observation):
        here = getattr(d, name)[rows]
        wrong = ~np.isclose(here.astype("f4"), np.asarray(there, "f4"), rtol=0, atol=TOLERANCE).reshape(len(sample), -1).all(1)
        if wrong.any():
            i = int(wrong.argmax())
            yield f"obs/{name}: row {rows[i]} of the file, in episode {sample[i]}, is not {what}, {wrong.sum()} of {len(sample)} episodes"
