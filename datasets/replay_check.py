"""What a sound file may still have wrong: ends that the environment would not make, episodes that are there twice, and steps that the
game or the simulator does not repeat."""

import hashlib
from collections.abc import Iterator

import numpy as np

from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.dataset import Dataset

SAMPLE = 64  # episodes that are played again
DETERMINISTIC, SEEDED = ("xor", "mne", "bridge"), ("smac", "mamujoco")
CLOSE = 1e-5  # of rewards and observations that were float32 on the way


def audit(d: Dataset, task: Task | None) -> list[str]:
    """Violations with places. `task`: the one that the data name, if it is registered here."""
    replay = _replay(d, task) if task and task.make else ()
    return [*_ends(d), *([] if task and task.family in DETERMINISTIC else _copies(d)), *replay]


def _ends(d: Dataset) -> Iterator[str]:
    """A truncated episode has run into its limit, unless somebody cut the recording."""
    short = d.truncated[d.offset[1:] - 1] & (d.lengths < d.meta["limit"])
    if short.any() and d.meta["source"] == "built":
        e = int(short.argmax())
        yield (
            f"steps/truncated: episode {e} ends by the time limit after {d.lengths[e]} steps, the limit is {d.meta['limit']}, "
            f"{short.sum()} times"
        )


def _copies(d: Dataset) -> Iterator[str]:
    """Where episodes start differently, no two are the same by chance. Where all start alike, two may be: the same actions suffice."""
    first = d.offset[:-1] + np.arange(d.episodes)
    if d.episodes < 2 or (d.obs[first] == d.obs[first[0]]).all():
        return
    seen: dict[bytes, int] = {}
    found = []
    for e in range(d.episodes):
        steps, rows = slice(d.offset[e], d.offset[e + 1]), slice(d.offset[e] + e, d.offset[e + 1] + e + 1)
        key = hashlib.sha256(
            b"".join(np.ascontiguousarray(x).tobytes() for x in (d.obs[rows], d.actions[steps], d.rewards[steps]))
        ).digest()
        if key in seen:
            found.append((e, seen[key]))
        seen.setdefault(key, e)
    if found:
        yield f"episodes: episode {found[0][0]} is a copy of episode {found[0][1]}, {len(found)} of {d.episodes} are copies"


def _replay(d: Dataset, task: Task) -> Iterator[str]:
    """A sample of the episodes in the environment: all steps where it is deterministic, what is seen first where it is seeded."""
    sample = np.unique(np.linspace(0, d.episodes - 1, min(SAMPLE, d.episodes)).astype(int))
    if task.family in SEEDED:
        sample = sample[d.seed[sample] >= 0]
    elif task.family not in DETERMINISTIC:
        return
    if not len(sample):
        return
    env = task.make(len(sample))
    seen = env.reset(np.maximum(d.seed[sample], 0))
    yield from _differ(d, sample, 0, seen, "the environment's first")
    if task.family in DETERMINISTIC:
        yield from _steps(d, sample, env)
    env.close()


def _steps(d: Dataset, sample: np.ndarray, env) -> Iterator[str]:
    """The first step that the environment does not repeat, if there is one."""
    lengths = d.lengths[sample]
    for t in range(lengths.max()):
        live = t < lengths
        at = d.offset[sample] + np.minimum(t, lengths - 1)
        step = env.step(d.actions[at].astype(np.int64))
        last = t == lengths - 1
        found = list(_differ(d, sample[live], t + 1, [x[live] for x in step.observation], "the game's"))
        # a recording that was cut keeps the reward of the step; the limit itself may change it, as on Bridge
        paid = live & ~(last & d.truncated[at] & (d.meta["source"] != "built"))
        for name, here, there, where in (
            ("steps/rewards", d.rewards[at], step.rewards, paid),
            ("steps/terminated", d.terminated[at], step.terminated, live),
        ):
            if (wrong := where & ~np.isclose(here, there, rtol=0, atol=CLOSE)).any():
                i = int(wrong.argmax())
                found.append(f"{name}: {here[i]} at step {at[i]} of the file, in episode {sample[i]}; the game says {there[i]}")
        if found:
            yield from found
            return


def _differ(d: Dataset, sample: np.ndarray, t: int, seen, what: str) -> Iterator[str]:
    rows = d.offset[sample] + sample + t
    for name, there in zip(("obs", "state", "avail"), seen):
        here = getattr(d, name)[rows]
        wrong = ~np.isclose(here.astype("f4"), np.asarray(there, "f4"), rtol=0, atol=CLOSE).reshape(len(sample), -1).all(1)
        if wrong.any():
            i = int(wrong.argmax())
            yield f"obs/{name}: row {rows[i]} of the file, in episode {sample[i]}, is not {what}, {wrong.sum()} of {len(sample)} episodes"
