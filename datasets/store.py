"""Where the datasets lie: datasets/data/<task>.h5, built on first use and compared with the published content."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from core.errors import UserError
from core.files import whole, writing
from core.types import Task
from datasets.behaviour import shipped
from datasets.format import Dataset, content_sha256, peek, save, statistics
from datasets.generate import BUILDERS

DATA = Path(__file__).parent / "data"
MANIFEST = Path(__file__).parent / "manifest.json"


def fetch(task: Task, folder: Path = DATA) -> Path:
    """The task's file, built if absent: by one process, even if several ask at once, and completely or not at all.

    A file that the user converted is taken as it is. UserError: nothing builds this family's data, what is built is not what
    the manifest says, or the disk refuses.
    """
    path = folder / f"{task.name}.h5"
    if not path.exists():
        _builder(task)
        with writing(path):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{task.name}.lock"):  # released by the system when its holder dies
                if not path.exists():
                    save(build(task), path)
    meta, published = peek(path), manifest().get(task.name)
    if meta.get("source") == "built" and published and meta.get("content_sha256") != published["sha256"]:
        raise UserError(f"{path} was built by another version of {task.name}'s generator; delete it, and it is built again")
    return path


def build(task: Task) -> Dataset:
    """The task's dataset in memory. UserError if its content is not the published one."""
    d, published = _builder(task)(task), manifest().get(task.name)
    if published and published["sha256"] != content_sha256(d):
        raise UserError(
            f"{task.name} built here is not the published one (content {content_sha256(d)[:12]}, published {published['sha256'][:12]}): "
            f"envs/ or datasets/ differ from the release; restore them, or accept with `python -m datasets build --manifest {task.name}`"
        )
    return d


def publish(tasks: list[Task]) -> None:
    """Put what is built here now for these tasks into the manifest."""
    entries = manifest() | {task.name: _entry(_builder(task)(task)) for task in tasks}
    with whole(MANIFEST) as part:
        part.write_text(json.dumps(entries, indent=2, sort_keys=True) + "\n")


def manifest() -> dict[str, dict[str, Any]]:
    """task -> sha256 of the content, episodes, steps, return_mean in the task's unit."""
    return json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}


def ready(task: Task, folder: Path = DATA) -> bool:
    """Whether its data are there or can be built. Of StarCraft the maps with shipped policies count, random data included."""
    if (folder / f"{task.name}.h5").exists():
        return True
    return task.family in BUILDERS and (task.family != "smac" or shipped(task.name.rpartition("-")[0]))


def state(task: Task, folder: Path = DATA) -> str:
    """For listings, from the file's head alone: "built", "converted from ...", "damaged", or "absent: ..."."""
    path = folder / f"{task.name}.h5"
    if not path.exists():
        if task.family not in BUILDERS:
            return "absent: to be converted"
        return "absent: built on first use" if ready(task, folder) or task.quality == "random" else "absent: its map has no policies"
    meta = peek(path)
    if meta.get("task") != task.name or not meta.get("source"):
        return f"damaged: python -m datasets validate {path}"
    return "built" if meta["source"] == "built" else f"converted from {meta['source']}"


def _builder(task: Task) -> Callable[[Task], Dataset]:
    if task.family not in BUILDERS:
        raise UserError(
            f"nothing builds a dataset for {task.name}; convert a recording: "
            f"python -m datasets convert LAYOUT RECORDING {DATA / task.name}.h5 --task {task.name}"
        )
    return BUILDERS[task.family]


def _entry(d: Dataset) -> dict[str, Any]:
    return {"sha256": content_sha256(d), "episodes": d.episodes, "steps": d.steps, "return_mean": round(statistics(d)["return_mean"], 6)}
