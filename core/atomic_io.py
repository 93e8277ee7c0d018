"""Files appear whole or not at all, and what was kept is known to be what comes back."""

import errno
import hashlib
import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from inspo_benchmark.core import limits, tensor_file
from inspo_benchmark.core.errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
DIGEST = 32  # bytes of the checksum in front of what is kept

T = TypeVar("T")


class DamagedFile(Exception):
    """A file that is not what was kept; why, in a few words."""


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """What the operating system refuses inside is a UserError about `path`."""
    try:
        yield
    except OSError as e:
        if e.errno in FULL:
            raise UserError(f"no space left on the disk of {path.parent} for {path.name}: make room there and run the same again") from e
        raise UserError(f"cannot write {path}: {e.strerror or e}; check that the folder exists and is yours to write") from e


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to: moved there when the block ends well, removed when it does not."""
    with write_errors(path):
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}.", suffix=f".part{path.suffix}", dir=path.parent)
        os.close(handle)
        part = Path(name)
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.chmod(0o644)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def save_checked(x: Any, path: Path) -> None:
    """Tensors and plain values, behind a checksum: torch does not see changed bytes."""
    image = io.BytesIO()  # in memory: torch hides a full disk in a RuntimeError
    torch.save(x, image)
    with atomic_write(path) as part:
        part.write_bytes(hashlib.sha256(image.getbuffer()).digest() + image.getbuffer())


def load_checked(path: Path, use: Callable[[Any], T] = lambda x: x) -> T:
    """What `use` makes of what `save_checked` was given. DamagedFile, also where `use` stumbles over it; OSError; UserError: too large."""
    content = memoryview(limits.content(path))
    try:
        if hashlib.sha256(content[DIGEST:]).digest() != content[:DIGEST]:
            raise ValueError("wrong checksum")
        return use(tensor_file.read(bytes(content[DIGEST:])))
    except tensor_file.DAMAGE as e:
        raise DamagedFile((str(e).strip() or type(e).__name__).splitlines()[0][:80]) from None
