"""Where a result comes from: the revision of the code, the versions of the packages, the machine."""

import functools
import os
import platform
import resource
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

PACKAGES = ["torch", "numpy", "scipy", "numba", "h5py", "pandas", "matplotlib"]


@functools.cache  # once per process, when its code was imported
def revision() -> dict[str, Any]:
    """The code's git commit and whether files differ from it; empty outside a git checkout."""
    root = Path(__file__).parents[1]

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return {"revision": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):
        return {"revision": "", "dirty": False}


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
