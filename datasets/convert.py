"""Others' recordings -> our format, a part at a time. `datasets.layouts` knows the layouts."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS, suggest
from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.dataset import PROVENANCE, Dataset, card, join
from inspo_benchmark.datasets.format import grouped, writer
from inspo_benchmark.datasets.layouts import LAYOUTS, Recording
from inspo_benchmark.datasets.layouts._arrays import check_own_files, reading, sha256
from inspo_benchmark.datasets.layouts._known import KNOWN, hint, known, unregistered
from inspo_benchmark.datasets.layouts._write import check_target

LARGEST = 1 << 30  # bytes of one episode: it has to fit into memory


def convert(layout: str, source: str | Path, target: str | Path, name: str | None = None, limit: int | None = None) -> Task:
    """Convert the recording `source` to the dataset `target`, a new file; its task. UserError: a check failed, and no file is written.

    `name`: the task; None: the one that the recording's names tell, with the sizes in the file where nothing of that name is known.
    `limit`: episodes are cut to this number of steps (the task's own by default).
    """
    source, target = Path(source), Path(target)
    check_target(source, target)
    with _open(layout, source) as r:
        task = target_task(r, name)
        with (
            writer(target, card(task) | _provenance(layout, r)) as out,
            tqdm(total=len(r.rows), unit="episode", desc=source.name, disable=not sys.stderr.isatty()) as bar,
        ):
            for d in _parts(r, task, limit):
                out.add(d)
                bar.update(d.episodes)
            out.meta["notes"] = r.all_notes()
    return task


def target_task(r: Recording, name: str | None) -> Task:
    """The task that is asked for, registered here or known to be published; or the one that the recording tells of."""
    if name is None or (name == r.name and name not in TASKS):
        return fitting(r, TASKS[r.name] if r.name in TASKS else known(r.name) or unregistered(r.name, r.spec, r.family, "recorded"))
    if name in TASKS:
        return fitting(r, TASKS[name])
    if task := known(name):
        return fitting(r, task)
    names = [*TASKS, *(f"{scenario}-{name.rpartition('-')[2]}" for scenario in KNOWN)]
    raise UserError(f"no task {name!r}; {suggest(name, names)} (without --task the file's own sizes and name are taken: {r.name})")


def fitting(r: Recording, task: Task) -> Task:
    """UserError if the recording's sizes are not the task's: all that differ."""
    have, want = r.spec, task.spec
    sizes = [
        ("agents", have.num_agents, want.num_agents),
        ("observations of", have.obs_dim, want.obs_dim),
        ("states of", have.state_dim, want.state_dim),
    ]
    if have.space.kind != want.space.kind:
        sizes.append(("actions", have.space.kind, want.space.kind))
    else:
        sizes.append(("actions", have.space.action_dim, want.space.action_dim))
    if wrong := [f"{what} {a}, not {b}" for what, a, b in sizes if a != b]:
        tip = hint(task, have)
        raise UserError(f"{r.source} is not of {task.name}: {'; '.join(wrong)}{f' ({tip})' if tip else ''}")
    return task


def _parts(r: Recording, task: Task, limit: int | None) -> Iterator[Dataset]:
    spec = task.spec
    if not len(r.rows):
        raise UserError(f"{r.source}: there are no episodes")
    r.limit = limit = spec.episode_limit if limit is None else limit
    if not 1 <= limit <= spec.episode_limit:
        raise UserError(f"limit {limit}: episodes of {task.name} have 1 .. {spec.episode_limit} steps")
    row = 4 * (spec.num_agents * (r.spec.obs_dim + spec.space.action_dim) + spec.state_dim)
    if row > LARGEST:
        raise UserError(f"{r.source}: a step of {row >> 20} MiB, with {spec.space.action_dim} actions per agent")
    if (longest := int(r.rows.max())) * row > LARGEST:
        raise UserError(f"{r.source}: an episode of {longest} rows, {longest * row >> 20} MiB: its ends are not marked")
    for a, b in grouped(r.rows, row):
        with reading(r.source), np.errstate(all="ignore"):  # what no float32 can hold becomes infinite, and is found as that
            d = r.read(r, task, a, b)
        r.cut += int((d.lengths > limit).sum())
        yield _cut(d, task, limit) if (d.lengths > limit).any() else d


def _cut(d: Dataset, task: Task, limit: int) -> Dataset:
    """The first `limit` steps of each episode."""
    lengths = np.minimum(d.lengths, limit)
    within = np.arange(d.steps) - np.repeat(d.offset[:-1], d.lengths) < limit
    rows = np.arange(len(d.obs)) - np.repeat(d.offset[:-1] + np.arange(d.episodes), d.lengths + 1) <= limit
    return join(
        task,
        lengths,
        obs=d.obs[rows],
        state=d.state[rows],
        avail=d.avail[rows],
        actions=d.actions[within],
        rewards=d.rewards[within],
        terminated=d.terminated[d.offset[1:] - 1] & (d.lengths <= limit),
        won=np.where(d.lengths > limit, np.minimum(d.won, 0), d.won),  # what came later is not in the data
        seed=d.seed,
        behavior_logp=d.behavior_logp[within],
    )


def _provenance(layout: str, r: Recording) -> dict[str, str]:
    source = {"source": f"{r.source.name} ({LAYOUTS[layout].title} layout)", "source_sha256": sha256(r.source)}
    return dict.fromkeys(PROVENANCE, "") | source


@contextmanager
def _open(layout: str, source: Path) -> Iterator[Recording]:
    LAYOUTS.discover()
    found = LAYOUTS[layout]
    check_own_files(source)
    with ExitStack() as stack:
        with reading(source):  # arrays of odd shapes may cause any error there
            recording = stack.enter_context(found.open(source))
        yield recording
