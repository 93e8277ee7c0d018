"""Where a result comes from: the revision of the code, the versions of the packages, the machine."""

import functools
import os
import platform
import re
import resource
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
PACKAGES = ["torch", "numpy", "scipy", "numba", "h5py", "pandas", "matplotlib"]


@functools.cache  # once per process, when its code was imported
def revision() -> dict[str, Any]:
    """The code's git commit, and whether files differ from it or Python files are new; empty outside a git checkout, as for a copy that is
    installed in the environment of another project."""
    with suppress(OSError, subprocess.CalledProcessError):
        if Path(_git("rev-parse", "--show-toplevel").rstrip("\n")).resolve() == ROOT.resolve():
            changed = _git("status", "--porcelain", "--untracked-files=no") or _untracked(["."])
            return {"revision": _git("rev-parse", "HEAD").strip(), "dirty": bool(changed)}
    return {"revision": "", "dirty": False}


def changed_since(revision: str, paths: list[str]) -> list[str]:
    """The Python files under `paths` that differ from those of a commit, or that git does not know; none if git does not know the commit.
    A `revision` that is not a commit hash is ignored, because git would accept an option such as `--output=FILE` in its place."""
    if not re.fullmatch(r"[0-9a-f]{40}", revision):
        return []
    try:
        names = _git("diff", "--name-only", "--no-ext-diff", "--end-of-options", revision, "--", *paths).splitlines()
        names += _untracked(paths)
    except (OSError, subprocess.CalledProcessError):
        return []
    return [name for name in names if name.endswith(".py")]


def _untracked(paths: list[str]) -> list[str]:
    """The Python files under `paths` that git neither knows nor ignores."""
    return [name for name in _git("ls-files", "--others", "--exclude-standard", "--", *paths).splitlines() if name.endswith(".py")]


def _git(*words: str) -> str:
    return subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True).stdout


def machine(device: str) -> dict[str, Any]:
    """The machine, and the name of the device that an experiment trains on."""
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
    }


@functools.cache
def versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def peak_memory(device: str) -> int:
    """Peak memory of this process in bytes: GPU memory if it trains there, else resident memory, shared libraries included."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
