"""Files appear whole or not at all."""

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from core.errors import UserError


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` to write to: moved there when the block ends well, removed when it does not.

    A folder that cannot be written and a full disk raise UserError.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        temporary.replace(path)
    except OSError as error:
        raise UserError(explain(error, path)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def explain(error: OSError, path: Path) -> str:
    """What went wrong with a file, and the way out, in one line."""
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return f"no space left to write {path}: free some, or choose another folder"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return f"cannot write {path}: {error.strerror}; choose a folder that you may write to"
    return f"cannot write {path}: {error.strerror or error}"
