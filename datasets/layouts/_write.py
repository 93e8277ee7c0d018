"""What exporters share: a foreign HDF5 file that appears whole or not at all, and the list of what it could not hold."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.datasets.dataset import Dataset
from inspo_benchmark.datasets.format import DeferredErrorFile, append_rows, parts, peek

LOSSES = {  # what these layouts have no place for: is there anything to lose?
    "won": lambda d: (d.won != -1).any(),
    "seed": lambda d: (d.seed != -1).any(),
    "behaviour_logp": lambda d: d.behavior_logp.shape[1] > 0,
}


def check_target(source: Path, target: Path) -> None:
    """UserError, before any long work, if `target` exists, which would be lost, or is inside the folder `source`."""
    if os.path.lexists(target):
        raise UserError(f"{target} exists; delete it first or choose another name")
    if Path(os.path.realpath(source)) in Path(os.path.realpath(target)).parents:
        raise UserError(f"{target} is inside {source}, which is read; choose a path outside of it")


def export(
    source: Path, target: Path, kind: str, layout: str, instead: str, arrays: Callable[[Dataset], Iterator[dict[str, np.ndarray]]]
) -> list[str]:
    """Write the parts that `arrays` makes of the episodes; what gets lost, in words. UserError unless the actions are of that kind and
    `target` is new."""
    check_target(source, target)
    meta = peek(source)
    if (has := meta.get("action_kind", kind)) != kind:
        raise UserError(f"{source}: {layout}'s layout has {kind} actions, {meta['task']} has {has} ones; export it as {instead} or minari")
    lost: set[str] = set()
    with atomic_write(target) as part, DeferredErrorFile(part) as file, file.hdf5(libver=("earliest", "v110")) as f:
        for d in parts(source):
            lost |= {name for name, is_there in LOSSES.items() if is_there(d)}
            for name, x in (item for some in arrays(d) for item in some.items()):
                append_rows(f, name, x)
                file.check()
    return [f"no place for: {', '.join(name for name in LOSSES if name in lost)}"] if lost else []
