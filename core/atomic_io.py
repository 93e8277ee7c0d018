"""Writing of files, completely or not at all, and files of tensors with a checksum."""

import errno
import hashlib
import io
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from inspo_benchmark.core import limits, tensor_file
from inspo_benchmark.core.errors import UserError, printable

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
CHECKSUM_SIZE = 32  # bytes of the sha256 at the start of a file

T = TypeVar("T")


class DamagedFile(Exception):
    """A file does not hold what was saved. The message says why, in a few words."""


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Turn errors of the operating system into a UserError about `path`."""
    try:
        yield
    except OSError as e:
        if e.errno in DISK_FULL:
            raise UserError(
                f"no space left on the disk of {path.parent} for {path.name}: free some space and run the same command again"
            ) from e
        raise UserError(f"cannot write {path}: {e.strerror or e}; check that the folder exists and that you may write to it") from e


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """A new file in the same folder. It is moved to `path` when the block succeeds, and deleted otherwise.

    UserError: as in `write_errors`."""
    with write_errors(path):
        part = part_path(path)
        part.touch(exist_ok=False)
        try:
            yield part
            with part.open("rb") as file:
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def part_path(path: Path) -> Path:
    """A random hidden name in the same folder, for what is not complete yet."""
    return path.parent / f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}"


def save_checked(content: Any, path: Path) -> None:
    """Save tensors and plain values with a checksum, because torch does not notice changed bytes."""
    buffer = io.BytesIO()  # in memory, because torch reports a full disk as a RuntimeError
    torch.save(content, buffer)
    with atomic_write(path) as part:
        part.write_bytes(hashlib.sha256(buffer.getbuffer()).digest() + buffer.getbuffer())


def load_checked(path: Path, convert: Callable[[Any], T] = lambda x: x) -> T:
    """Load what `save_checked` saved, passed through `convert`. DamagedFile: the file is damaged, or `convert` fails. OSError.
    UserError: the file is too large."""
    content = memoryview(limits.read_bytes(path))
    try:
        if hashlib.sha256(content[CHECKSUM_SIZE:]).digest() != content[:CHECKSUM_SIZE]:
            raise ValueError("wrong checksum")
        return convert(tensor_file.read(bytes(content[CHECKSUM_SIZE:])))
    except tensor_file.DAMAGE as e:
        raise DamagedFile(printable((str(e).strip() or type(e).__name__).splitlines()[0][:80])) from None
