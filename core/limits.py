"""How much a file may ask for: what it declares is compared with its own size and with free memory before anything is allocated."""

import os
import re
import stat
from contextlib import suppress
from pathlib import Path

from inspo_benchmark.core.errors import UserError

VARIABLE = "INSPO_MAX_BYTES"  # what the user allows: 8G, 500M, or a number of bytes
RATIO, SMALL = 100, 256 << 20  # without it: RATIO times the file's own size, or SMALL bytes where that is more
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def claim(source: Path, size: int, stored: int) -> None:
    """UserError if the `stored` bytes of a file may not become `size` bytes."""
    if size > (most := allowed(stored)):
        raise UserError(f"{source}: {stored} bytes would become {size}, more than the {most} allowed; {VARIABLE}=8G allows more")


def allowed(stored: int) -> int:
    """Bytes of memory, or of a temporary file, that a file of `stored` bytes may become."""
    if text := os.environ.get(VARIABLE):
        match = re.fullmatch(r"(\d{1,18})([KMGT]?)", text, re.ASCII)
        if not match:
            raise UserError(f"{VARIABLE}={text[:40]!r}: write 8G, 500M, or a number of bytes")
        return int(match[1]) * UNITS[match[2]]
    return min(max(SMALL, RATIO * stored), free_memory() // 2)


def free_memory() -> int:
    """Bytes that can be allocated without swapping; half of the machine's memory where the system does not say."""
    with suppress(OSError):
        if match := re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text()):
            return int(match[1]) << 10
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def content(path: Path) -> bytes:
    """The bytes of a regular file: a pipe or a device is not opened. OSError; UserError if they are too many."""
    about = path.stat()
    if not stat.S_ISREG(about.st_mode):
        raise OSError(f"{path} is not a regular file")
    claim(path, about.st_size, about.st_size)
    return path.read_bytes()
