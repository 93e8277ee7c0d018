"""The datasets in `data_folder()`, one file per task, which are built on first use and compared with the published content."""

import functools
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from inspo_benchmark.core.atomic_io import atomic_write, write_errors
from inspo_benchmark.core.errors import UserError, printable
from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.behavior import shipped
from inspo_benchmark.datasets.dataset import BUILT, Dataset, content_sha256, statistics
from inspo_benchmark.datasets.format import peek, save
from inspo_benchmark.datasets.generate import BUILDERS

VARIABLE = "INSPO_BENCHMARK_DATA"  # names the folder of the datasets
MANIFEST = Path(__file__).parent / "manifest.json"
MAX_STANDARD_ERRORS = 5.0  # of the difference of two mean returns, for the same statistics
ABANDONED = 24 * 3600  # seconds after which a file that was not completed is one of a process that was killed
MAX_STEPS_DEVIATION = 0.1  # relative difference of the numbers of steps, likewise
PLAYED_BY_POLICIES = ("smac", "mamujoco")  # families whose datasets shipped policies play
QUALITIES = ("random", "medium", "medium_replay", "medium_expert", "expert", "mixed")  # of these datasets


def data_folder(package: Path = Path(__file__).parent) -> Path:
    """The folder that VARIABLE names; else datasets/data in a checkout, and in the user's cache for an installed copy, which may be
    read-only and is replaced by the next version."""
    if named := os.environ.get(VARIABLE):
        return Path(named).expanduser().absolute()
    if not {"site-packages", "dist-packages"} & set(package.parts):
        return package / "data"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "inspo_benchmark" / "datasets"


DATA_FOLDER = data_folder()


def dataset_path(task: Task, folder: Path = DATA_FOLDER) -> Path:
    return folder / f"{task.name}.h5"


def fetch(task: Task, folder: Path = DATA_FOLDER) -> Path:
    """Path of the task's file, which is built if it does not exist: by one process, even if several ask at once, and whole or not at all.

    A file that the user converted is accepted as it is. UserError: no builder for this family, a dataset other than the published one, or
    a disk error.
    """
    path = dataset_path(task, folder)
    if not path.exists():
        builder(task)
        with write_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{task.name}.lock"):  # the system releases it when its holder dies
                for part in folder.glob(f".{task.name}.*.part.h5"):
                    with suppress(FileNotFoundError):  # one that was moved meanwhile
                        if time.time() - part.stat().st_mtime > ABANDONED:
                            part.unlink()
                if not path.exists():
                    save(build(task), path)
    meta = peek(path)
    if (held := meta.get("task", task.name)) != task.name:
        raise UserError(f"{path}: holds the dataset of {printable(str(held))}, not of {task.name}; move it, or delete it")
    if meta.get("source") == BUILT and not match(task, meta):
        raise UserError(f"{path} was built by another version of {task.name}'s generator; delete it, and it is built again")
    return path


def build(task: Task) -> Dataset:
    """Build the task's dataset in memory. UserError: it is not the published one."""
    d = builder(task)(task)
    have = statistics(d) | {"content_sha256": content_sha256(d)}
    if not match(task, have):
        published = manifest()[task.name]
        raise UserError(
            f"{task.name} built here is not the published one (content {have['content_sha256'][:12]}, "
            f"published {published['sha256'][:12]}; mean return {have['return_mean']:.6g}, "
            f"published {published.get('return_mean', math.nan):.6g}): envs/ or datasets/ differ from the release; "
            f"restore them, or accept the change with `python -m datasets build --manifest {task.name}`"
        )
    return d


def build_smaller(task: Task, episodes: int, folder: Path = DATA_FOLDER) -> Path:
    """Build a dataset with this number of episodes, which is not in the manifest, as the task's file. UserError: the file exists."""
    path = check_new(task, folder)
    d = builder(task)(task, episodes)
    d.meta["source"] = f"{BUILT} with --episodes {episodes}"
    with write_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        save(d, path)
    return path


def check_new(task: Task, folder: Path = DATA_FOLDER) -> Path:
    """Path of a dataset that can be built. UserError: nothing builds it, or the file exists."""
    builder(task)
    path = dataset_path(task, folder)
    if path.exists():
        raise UserError(f"{path} exists; delete it to build another one")
    return path


def match(task: Task, have: dict[str, Any]) -> str:
    """How a dataset built here matches the published one: in its "content", in its "statistics", or not at all, "".

    `have`: content_sha256, episodes, steps, return_mean. Without a published dataset: "content". MuJoCo's results differ between machines,
    so its datasets may match in their statistics, within MAX_STANDARD_ERRORS and MAX_STEPS_DEVIATION.
    """
    published = manifest().get(task.name)
    if not published or have.get("content_sha256") == published["sha256"]:
        return "content"
    if task.family != "mamujoco" or have.get("episodes") != published["episodes"]:
        return ""
    error = published["return_std"] * math.sqrt(2 / published["episodes"])
    near = abs(have["return_mean"] - published["return_mean"]) <= MAX_STANDARD_ERRORS * error
    return "statistics" if near and abs(have["steps"] / published["steps"] - 1) <= MAX_STEPS_DEVIATION else ""


def update_manifest(tasks: list[Task]) -> None:
    """Build the tasks' datasets and write their content and statistics to the manifest."""
    entries = manifest() | {task.name: _entry(builder(task)(task)) for task in tasks}
    with atomic_write(MANIFEST) as part:
        part.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")


def manifest() -> dict[str, dict[str, Any]]:
    """Task -> sha256 of the content, episodes, steps, return_mean in the task's unit; for MuJoCo also return_std and backend."""
    return _parsed(MANIFEST.read_text()) if MANIFEST.exists() else {}


@functools.lru_cache(1)
def _parsed(text: str) -> dict[str, dict[str, Any]]:
    return json.loads(text)


def expected_sha256(task: Task, folder: Path = DATA_FOLDER) -> str:
    """Content hash of the task's dataset: the one stated in its file, otherwise the published one; "" if neither is known."""
    path = dataset_path(task, folder)
    return peek(path).get("content_sha256", "") if path.exists() else manifest().get(task.name, {}).get("sha256", "")


def is_available(task: Task, folder: Path = DATA_FOLDER) -> bool:
    """Whether the task's file exists or can be built. For SMAC and MuJoCo, even random data count only if policies are shipped."""
    if dataset_path(task, folder).exists():
        return True
    return _has_builder(task) and (task.family not in PLAYED_BY_POLICIES or shipped(task.scenario))


def obstacle(task: Task, folder: Path = DATA_FOLDER) -> str:
    """Why the task has no data and none can be built; "" if it has or they can."""
    if is_available(task, folder) or (_has_builder(task) and task.quality == "random"):
        return ""
    return "no behavior policies are shipped for it" if _has_builder(task) else "to be converted"


def status(task: Task, folder: Path = DATA_FOLDER) -> str:
    """For listings: "built", "converted from ...", "made by ..." if it is neither, "damaged: ..." or "absent: ...". Reads the file's
    attributes only."""
    path = dataset_path(task, folder)
    if not path.exists():
        return f"absent: {obstacle(task, folder) or 'built on first use'}"
    meta = peek(path)
    if meta.get("task") != task.name or not meta.get("source"):
        return f"damaged: python -m datasets validate {path}"
    if meta["source"] == BUILT:
        as_published = match(task, meta)
        return BUILT if as_published == "content" else f"{BUILT}, {as_published or 'not even statistics'} as published"
    if meta["source"].startswith(BUILT):
        return meta["source"]
    return f"{'converted from' if meta['source_sha256'] else 'made by'} {meta['source']}"  # a recording has a hash


def _has_builder(task: Task) -> bool:
    """False for tasks of other families and of a user's own data."""
    return task.family in BUILDERS and (task.family not in PLAYED_BY_POLICIES or task.quality in QUALITIES)


def builder(task: Task) -> Callable[..., Dataset]:
    """What builds the task's dataset. UserError: nothing does."""
    if not _has_builder(task):
        raise UserError(
            f"nothing builds a dataset for {task.name}; convert a recording: "
            f"python -m datasets convert LAYOUT RECORDING {dataset_path(task)} --task {task.name}"
        )
    return BUILDERS[task.family]


def _entry(d: Dataset) -> dict[str, Any]:
    s = statistics(d)
    entry = {"sha256": content_sha256(d), "episodes": d.episodes, "steps": d.steps, "return_mean": round(s["return_mean"], 6)}
    if d.meta["family"] == "mamujoco":
        entry |= {"return_std": round(s["return_std"], 6), "backend": d.meta["backend"]}
    return entry
