"""Files appear whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the operating system refuses inside is a UserError about `path`."""
    try:
        yield
    except OSError as e:
        if e.errno in FULL:
            raise UserError(f"no space left on the disk of {path.parent} for {path.name}: make room there and run the same again") from e
        raise UserError(f"cannot write {path}: {e.strerror or e}; check that the folder exists and is yours to write") from e


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to: moved there when the block ends well, removed when it does not."""
    with writing(path):
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
