"""Limits on the memory and the disk space that a file may ask for. A file declares sizes; they are compared with the file's own size and
with the free memory before anything is allocated."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from inspo_benchmark.core.errors import UserError

VARIABLE = "INSPO_MAX_BYTES"  # environment variable with the user's own limit: 8G, 500M, or a number of bytes
MAX_RATIO, MIN_LIMIT = 100, 256 << 20  # without it: 100 times the size of the file, but at least 256 MiB and at most half the free memory
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def check_size(source: Path, size: int, stored: int) -> None:
    """UserError if a file of `stored` bytes may not become `size` bytes in memory or on the disk."""
    if size > (most := limit(stored)):
        raise UserError(f"{source}: {stored} bytes would become {size}, more than the limit of {most}; {VARIABLE}=8G raises the limit")


def limit(stored: int) -> int:
    """The bytes that a file of `stored` bytes may become. UserError: the environment variable is malformed."""
    if text := os.environ.get(VARIABLE):
        match = re.fullmatch(r"(\d{1,18})([KMGT]?)", text, re.ASCII)
        if not match:
            raise UserError(f"{VARIABLE}={text[:40]!r}: write 8G, 500M, or a number of bytes")
        return int(match[1]) * UNITS[match[2]]
    return min(max(MIN_LIMIT, MAX_RATIO * stored), free_memory() // 2)


def free_memory() -> int:
    """Bytes that can be allocated without swapping, in a container or a job within its own limit. Half of the machine's memory if the
    system does not report them."""
    free = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    with suppress(OSError):
        if match := re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text()):
            free = int(match[1]) << 10
    return min([free, *control_group_memory()])


def control_group_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Bytes left to this process within the limit of each Linux control group that it is in, and that is visible (versions 1 and 2)."""
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top = root / "memory" if controllers else root
            most, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
            group = top / name.lstrip("/")
            for folder in [group, *group.parents]:
                with suppress(OSError, ValueError):  # no limit here ("max"), or a group outside of the container
                    cache = re.search(r"^(?:total_)?inactive_file (\d+)", (folder / "memory.stat").read_text(), re.M)
                    in_use = int((folder / used).read_text()) - (int(cache[1]) if cache else 0)
                    yield max(0, int((folder / most).read_text()) - in_use)
                if folder == top:
                    break


def read_bytes(path: Path) -> bytes:
    """The content of a file. OSError: it is not a regular file, or cannot be read. UserError: it is too large."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(f"{path} is not a regular file")
    check_size(path, about.st_size, about.st_size)
    return path.read_bytes()
