"""Limits on the memory and the disk space that a file may ask for. A file declares sizes; they are compared with the file's own size and
with the free memory before anything is allocated."""

import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
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
    free = machine_memory() // 2
    with suppress(OSError):
        if match := re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text()):
            free = int(match[1]) << 10
    return min([free, *control_group_memory()])


def machine_memory() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def control_group_memory() -> Iterator[int]:
    """Bytes left to this process within the limit of each Linux control group that has one. Files of the page cache count as free."""
    for most, used, statistics in limited_groups():
        with suppress(OSError, ValueError):
            cached = re.search(r"^(?:total_)?inactive_file (\d+)", statistics.read_text(), re.M)
            yield max(0, most - int(used.read_text()) + (int(cached[1]) if cached else 0))


@cache  # a file that is read by slices asks for every slice
def limited_groups(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> list[tuple[int, Path, Path]]:
    """Limit of the memory, file of its use and file of statistics of each control group that this process is in (versions 1 and 2). One
    without a limit ("max", or above the machine's memory), or outside of the container, is left out."""
    found = []
    with suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "memory" not in controllers.split(","):
                continue
            top = root / "memory" if controllers else root
            most, used = ("memory.limit_in_bytes", "memory.usage_in_bytes") if controllers else ("memory.max", "memory.current")
            group = top / name.lstrip("/")
            for folder in [group, *group.parents]:
                with suppress(OSError, ValueError):
                    if (size := int((folder / most).read_text())) < machine_memory():
                        found.append((size, folder / used, folder / "memory.stat"))
                if folder == top:
                    break
    return found


def read_bytes(path: Path) -> bytes:
    """The content of a file. OSError: it is not a regular file, or cannot be read. UserError: it is too large."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(f"{path} is not a regular file")
    check_size(path, about.st_size, about.st_size)
    return path.read_bytes()
