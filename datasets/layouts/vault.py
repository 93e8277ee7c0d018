"""OG-MARL's vaults (flashbax), `<name>.vlt/<quality>/`: a zarr array for each leaf in one OCDBT store, read with tensorstore.

| leaf           | shape                          |                                                                 |
| -------------- | ------------------------------ | --------------------------------------------------------------- |
| observations.  | (1, T, N, O)                   |                                                                 |
| actions.       | (1, T, N), or (1, T, N, D)     |                                                                 |
| rewards.       | (1, T, N)                      | after the action of the same row; the team's is their mean      |
| terminals.     | (1, T, N)                      | of all agents: the game was over after this step                |
| truncations.   | (1, T, N)                      | of all agents: the time limit                                   |
| infos.state.   | (1, T, S), may be absent       | absent: all observations end to end                             |
| infos.legals.  | (1, T, N, A), may be absent    | absent: everything is legal                                     |
| vault_index    | (1,)                           | T; the arrays themselves are declared far longer                |

**Last observations** are not in a vault: a row for each step, none for what the last one leads to. The last row is repeated. Nothing is
bootstrapped from it where the game was over; where it was truncated the value of the last state stands in for that of the next.

Observations of agents that see less are padded with -inf (MPE); here with 0.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.limits import check_size, read_bytes
from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.dataset import PART, Dataset
from inspo_benchmark.datasets.format import DEFLATE_RATIO
from inspo_benchmark.datasets.layouts import LAYOUTS, Layout, Recording, span, stops, with_last, word
from inspo_benchmark.datasets.layouts._arrays import need, reading, shaped, size_of

KEYS = {
    "observations": "f",
    "actions": "iuf",
    "rewards": "f",
    "terminals": "biuf",
    "truncations": "biuf",
    "infos.state": "f",
    "infos.legals": "biuf",
}
OPTIONAL = ("infos.state", "infos.legals")


class Leaf:
    """(1, longer than T, ...) as (T, ...)"""

    def __init__(self, source: Path, store: Any, rows: int, stored: int):
        if len(store.shape) < 2 or store.shape[0] != 1 or store.shape[1] < rows:
            raise ValueError(f"shape {store.shape} for {rows} rows")
        self.store, self.rows, self.dtype = store, rows, np.dtype(store.dtype.numpy_dtype)
        self.shape = (rows, *store.shape[2:])
        self.ndim = len(self.shape)
        self.source, self.stored, self.row = source, stored, prod(self.shape[1:]) * self.dtype.itemsize
        check_size(source, prod(store.chunk_layout.read_chunk.shape) * self.dtype.itemsize, stored)  # the least that is read

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, rows: slice) -> np.ndarray:
        a, b, _ = rows.indices(self.rows)
        check_size(self.source, (b - a) * self.row, self.stored)
        return np.asarray(self.store[0, a:b].read().result())


@contextmanager
def open_recording(source: Path) -> Iterator[Recording]:
    x = _leaves(source)
    need(source, x, KEYS, "a vault", OPTIONAL)
    if x["observations"].ndim != 3:
        raise UserError(f"{source}: observations have shape {x['observations'].shape}, a vault has (T, agents, numbers)")
    t, n, o = x["observations"].shape
    box = x["actions"].dtype.kind == "f"
    expected = {
        "actions": (t, n, None) if box else (t, n),
        "rewards": (t, n),
        "terminals": (t, n),
        "truncations": (t, n),
        "infos.state": (t, None),
        "infos.legals": (t, n, None),
    }
    shaped(source, x, expected, f"observations of {t} rows, {n} agents")
    if box:
        x.pop("infos.legals", None)  # continuous actions are all available
    stored = size_of(source)
    if stored * DEFLATE_RATIO < t * n * o * x["observations"].dtype.itemsize:
        raise UserError(f"{source}: vault_index declares {t} rows, but only {stored} bytes are stored")
    step = max(1, PART // (4 * n))
    with reading(source):
        blocks = [slice(i, i + step) for i in range(0, t, step)]
        over, cut = (np.concatenate([(x[key][rows] != 0).all(1) for rows in blocks]) for key in ("terminals", "truncations"))
        if "infos.legals" in x:
            width = x["infos.legals"].shape[2]
        else:
            width = x["actions"].shape[2] if box else 1 + int(max(x["actions"][rows].max() for rows in blocks))
    stop = stops(over | cut)
    lengths = np.diff(stop, prepend=0)
    notes = ["the last observation of each episode is not in a vault: the last but one is repeated"]
    notes += [f"{int((~over[stop - 1]).sum())} episodes truncated"]
    yield Recording(
        source,
        Spec(
            n,
            o,
            x["infos.state"].shape[1] if "infos.state" in x else n * o,
            Box(width) if box else Discrete(max(1, width)),
            int(lengths.max()),
        ),
        f"og_marl:{word(source.resolve().parent.stem)}-{word(source.resolve().name).lower()}",
        rows=lengths,
        read=partial(_read, x, stop, over),
        notes=notes,
    )


def _read(x: dict[str, Any], stop: np.ndarray, over: np.ndarray, r: Recording, task: Task, a: int, b: int) -> Dataset:
    rows, lengths = span(stop, a, b)
    obs = x["observations"][rows].astype("f4")
    padding = np.isneginf(obs).all(0)  # [N, O]
    obs[:, padding] = 0
    state = x["infos.state"][rows] if "infos.state" in x else obs.reshape(len(obs), -1)
    return r.episodes(
        task,
        lengths,
        obs=with_last(obs, lengths),
        state=with_last(state, lengths),
        avail=with_last(x["infos.legals"][rows] != 0, lengths) if "infos.legals" in x else None,
        actions=x["actions"][rows],
        rewards=x["rewards"][rows].astype("f8").mean(1),
        terminated=over[stop[a:b] - 1],
    )


def _leaves(source: Path) -> dict[str, Leaf]:
    try:
        import tensorstore
    except ImportError as e:
        raise UserError("vaults are read with tensorstore, which is not installed: pip install tensorstore") from e
    if not (source / "metadata.json").is_file() or not (source / "manifest.ocdbt").is_file():
        raise UserError(f"{source}: no metadata.json and manifest.ocdbt; a vault is a folder <name>.vlt/<quality> that holds both")

    def leaf(name: str) -> Any:
        kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{source.resolve()}/"}, "path": name}
        return tensorstore.open({"driver": "zarr", "kvstore": kvstore}, read=True, open=True).result()

    with reading(source):
        names, size = _flat(json.loads(read_bytes(source / "metadata.json"))["structure_shape"]), size_of(source)
        if (index := leaf("vault_index")).shape != (1,):
            raise ValueError(f"vault_index has shape {index.shape}")
        t = int(index.read().result()[0])
        if t < 1:
            raise UserError(f"{source}: vault_index is {t}: there is nothing in this vault")
        return {name: Leaf(source, leaf(f"{name}."), t, size) for name in names if name in KEYS}


def _flat(tree: Any, prefix: str = "") -> list[str]:
    if not isinstance(tree, dict):
        return [prefix]
    return [name for key, value in tree.items() for name in _flat(value, f"{prefix}.{key}" if prefix else str(key))]


LAYOUTS.register("vault")(Layout("OG-MARL vault", "OG-MARL: a folder <name>.vlt/<quality> (needs tensorstore)", open_recording))
