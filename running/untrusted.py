"""Files of a results folder, which may come from anyone.

Such a folder may hold symbolic links, which lead to other files of the user, names with control characters, which a terminal interprets,
and pipes and devices, whose reading may never end. A folder with any of these is refused as a whole, before anything is read or written.
"""

import math
import os
import stat
from pathlib import Path
from typing import NoReturn

from inspo_benchmark.core.errors import UserError

# What commands read or write below a results folder, and how many levels of it are checked. The folders of submitit and of Weights & Biases
# hold links of their own, which no command here opens.
FOLDERS = {"runs": 2, "unfinished": 2, "logs": 2, "stale": 2, "tables": 1, "figures": 1, "tensorboard": 3, "wandb": 0}
SUBMITIT = "slurm"  # in `logs`


def check_folder(out: Path) -> None:
    """UserError if there is a symbolic link, a pipe, a device, a name that cannot be printed, or settings of Weights & Biases below a
    results folder, or a file in its place. The results folder itself may be a link, for example to a larger disk."""
    if out.exists() and not out.is_dir():
        raise UserError(f"cannot write {out / 'runs'}: {out} is not a folder")
    if os.path.lexists(settings := out / "wandb" / "settings"):  # read where `wandb` runs in this folder
        raise UserError(f"{settings} could name a server to which your key for Weights & Biases is sent; delete it")
    for name, depth in FOLDERS.items():
        folder = out / name
        if folder.is_symlink():
            _refuse_link(folder)
        if depth and folder.is_dir():
            _check_entries(folder, depth)


def _check_entries(folder: str | Path, depth: int) -> None:
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.isprintable():
                raise UserError(f"{folder} has a file whose name is {ascii(entry.name)[:200]}; rename or delete it")
            if entry.is_symlink():
                _refuse_link(entry.path)
            if not entry.is_file() and not entry.is_dir():
                raise UserError(f"{entry.path} is neither a file nor a folder (a pipe, or a device); delete it")
            if depth > 1 and entry.name != SUBMITIT and entry.is_dir():
                _check_entries(entry.path, depth - 1)


def _refuse_link(path: str | Path) -> NoReturn:
    raise UserError(
        f"{path} is a symbolic link: only the results folder itself may be one. Replace the link by what it leads to, or keep the whole "
        "results folder there and name that folder with --out"
    )


def read_regular(path: Path, largest: float = math.inf) -> bytes:
    """The bytes of a file. OSError, ValueError: see `regular_size`."""
    regular_size(path, largest)
    return path.read_bytes()


def regular_size(path: Path, largest: float = math.inf) -> int:
    """The size of a file in bytes. ValueError: it is not a regular file, or larger than `largest`. OSError: there is no such file."""
    about = path.lstat()
    if not stat.S_ISREG(about.st_mode):
        raise ValueError("not a regular file")
    if about.st_size > largest:
        raise ValueError(f"{about.st_size} bytes, more than the limit of {largest}")
    return about.st_size
