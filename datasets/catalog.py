"""Where the datasets lie: datasets/data/<task>.h5, built on first use and compared with the published content."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from inspo_benchmark.core.atomic_io import atomic_write, write_errors
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.behavior import shipped
from inspo_benchmark.datasets.dataset import Dataset, content_sha256, statistics
from inspo_benchmark.datasets.format import peek, save
from inspo_benchmark.datasets.generate import BUILDERS

DATA = Path(__file__).parent / "data"
MANIFEST = Path(__file__).parent / "manifest.json"
BUILT = "built"  # source of a dataset as it is published
ERRORS, STEPS = 5.0, 0.1
POLICIES = ("smac", "mamujoco")  # families whose data are played by shipped policies


def fetch(task: Task, folder: Path = DATA) -> Path:
    """The task's file, built if absent: by one process, even if several ask at once, and completely or not at all.

    A file that the user converted is taken as it is. UserError: nothing builds this family's data, what is built is not what
    the manifest says, or the disk refuses.
    """
    path = folder / f"{task.name}.h5"
    if not path.exists():
        _builder(task)
        with write_errors(path):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{task.name}.lock"):  # released by the system when its holder dies
                if not path.exists():
                    save(build(task), path)
    meta = peek(path)
    if meta.get("source") == BUILT and not agrees(task, meta):
        raise UserError(f"{path} was built by another version of {task.name}'s generator; delete it, and it is built again")
    return path


def build(task: Task) -> Dataset:
    """The task's dataset in memory. UserError if it is not the published one."""
    d = _builder(task)(task)
    have = statistics(d) | {"content_sha256": content_sha256(d)}
    if not agrees(task, have):
        published = manifest()[task.name]
        earned = have["return_mean"], published.get("return_mean", math.nan)
        raise UserError(
            f"{task.name} built here is not the published one (content {have['content_sha256'][:12]}, "
            f"published {published['sha256'][:12]}; mean return {earned[0]:.6g}, published {earned[1]:.6g}): "
            f"envs/ or datasets/ differ from the release; restore them, or accept with `python -m datasets build --manifest {task.name}`"
        )
    return d


def shrunk(task: Task, episodes: int, folder: Path = DATA) -> Path:
    """A dataset of so many episodes, which the manifest does not know, in the place of the task's. UserError: one is there already."""
    path = folder / f"{task.name}.h5"
    if path.exists():
        raise UserError(f"{path} exists; delete it to build another one")
    d = _builder(task)(task, episodes)
    d.meta["source"] = f"built with --episodes {episodes}"
    with write_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
        save(d, path)
    return path


def agrees(task: Task, have: dict[str, Any]) -> str:
    """In what a dataset built here is the published one: "content", "statistics", or "", nothing. Where nothing is published: "content".

    Physics differs between machines: of a robot's data the mean return may differ by ERRORS standard errors, the steps by STEPS.
    """
    published = manifest().get(task.name)
    if not published or have.get("content_sha256") == published["sha256"]:
        return "content"
    if task.family != "mamujoco" or have.get("episodes") != published["episodes"]:
        return ""
    error = published["return_std"] * math.sqrt(2 / published["episodes"])
    near = abs(have["return_mean"] - published["return_mean"]) <= ERRORS * error
    return "statistics" if near and abs(have["steps"] / published["steps"] - 1) <= STEPS else ""


def publish(tasks: list[Task]) -> None:
    """Put what is built here now for these tasks into the manifest."""
    entries = manifest() | {task.name: _entry(_builder(task)(task)) for task in tasks}
    with atomic_write(MANIFEST) as part:
        part.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")


def manifest() -> dict[str, dict[str, Any]]:
    """task -> sha256 of the content, episodes, steps, return_mean in the task's unit."""
    return json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}


def expected(task: Task, folder: Path = DATA) -> str:
    """Hash of the content of its data as the file's head tells, or as they are to be when they are built; "" if neither is known."""
    path = folder / f"{task.name}.h5"
    return peek(path).get("content_sha256", "") if path.exists() else manifest().get(task.name, {}).get("sha256", "")


def ready(task: Task, folder: Path = DATA) -> bool:
    """Whether its data are there or can be built. Of StarCraft and robots those with shipped policies count, random data included."""
    if (folder / f"{task.name}.h5").exists():
        return True
    return task.family in BUILDERS and (task.family not in POLICIES or shipped(task.name.rpartition("-")[0]))


def state(task: Task, folder: Path = DATA) -> str:
    """For listings, from the file's head alone: "built", "converted from ...", "damaged", or "absent: ..."."""
    path = folder / f"{task.name}.h5"
    if not path.exists():
        if task.family not in BUILDERS:
            return "absent: to be converted"
        return (
            "absent: built on first use"
            if ready(task, folder) or task.quality == "random"
            else "absent: there are no policies that could play it"
        )
    meta = peek(path)
    if meta.get("task") != task.name or not meta.get("source"):
        return f"damaged: python -m datasets validate {path}"
    if meta["source"] == BUILT:
        as_published = agrees(task, meta)
        return BUILT if as_published == "content" else f"{BUILT}, {as_published or 'not even statistics'} as published"
    return meta["source"] if meta["source"].startswith(BUILT) else f"converted from {meta['source']}"


def _builder(task: Task) -> Callable[[Task], Dataset]:
    if task.family not in BUILDERS:
        raise UserError(
            f"nothing builds a dataset for {task.name}; convert a recording: "
            f"python -m datasets convert LAYOUT RECORDING {DATA / task.name}.h5 --task {task.name}"
        )
    return BUILDERS[task.family]


def _entry(d: Dataset) -> dict[str, Any]:
    s = statistics(d)
    entry = {"sha256": content_sha256(d), "episodes": d.episodes, "steps": d.steps, "return_mean": round(s["return_mean"], 6)}
    if d.meta["family"] == "mamujoco":
        entry |= {"return_std": round(s["return_std"], 6), "backend": d.meta["backend"]}
    return entry
