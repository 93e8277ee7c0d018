"""Minari's folders (`data/metadata.json`, `data/main_data.hdf5`) of several agents: spaces that are dictionaries with a key for each agent.

| path in main_data.hdf5                | shape              |                                                             |
| ------------------------------------- | ------------------ | ----------------------------------------------------------- |
| episode_k/observations/<agent>        | (n + 1, O)         | also with `state` beside the agents                         |
| episode_k/actions/<agent>             | (n,), or (n, D)    | Box: scaled to [-1, 1] if its bounds are others             |
| episode_k/rewards                     | (n,)               | of the team                                                 |
| episode_k/terminations, truncations   | (n,)               | the last says how the episode ended; neither: truncated     |
| episode_k/infos/state                 | (n + 1, S)         | may be absent: all observations end to end                  |
| episode_k/infos/legal/<agent>         | (n + 1, A)         | may be absent: everything is legal                          |
| episode_k/infos/won, logp/<agent>     | (n + 1,)           | of our exports, the same number in every row; logp: of each step |

metadata.json has the key `action_space`. The attribute `seed` of an episode is what its environment was reset with. Agents are in the
order of their names, numbers by value. Observations of several shapes are flattened and padded with 0. Every array of our format has its
place in an export; `inspo_task` and `inspo_limit` in metadata.json are the task's name and limit. Its family, its backend and its
reference returns have no place there. Arrow storage is not read: have Minari write HDF5 (`data_format="hdf5"`).
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from inspo_benchmark.core.atomic_io import part_path, write_errors
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.limits import check_size, read_bytes
from inspo_benchmark.core.registry import NAME, TASKS
from inspo_benchmark.core.spaces import Box, Discrete
from inspo_benchmark.core.types import Spec, Task
from inspo_benchmark.datasets.dataset import Dataset, concatenate
from inspo_benchmark.datasets.format import DeferredErrorFile, attribute, is_own, parts, peek
from inspo_benchmark.datasets.layouts import LAYOUTS, Layout, Recording, word
from inspo_benchmark.datasets.layouts._arrays import Guarded, reading, size_of, stored
from inspo_benchmark.datasets.layouts._known import known
from inspo_benchmark.datasets.layouts._write import check_target

MAIN, ABOUT = "main_data.hdf5", "metadata.json"
VERSION = "0.5.4"  # of Minari, whose files these are


class ActionSpace(NamedTuple):
    """An agent's actions."""

    space: Discrete | Box
    start: int = 0  # number of the first of discrete actions
    low: np.ndarray | None = None  # [D] bounds of a box that is scaled to [-1, 1]; None: it is not
    high: np.ndarray | None = None  # [D]


class Folder(NamedTuple):
    """An opened recording."""

    file: h5py.File
    size: int  # bytes on the disk
    owners: dict[int, str]  # address of an array -> its episode, of those that were read
    episodes: list[str]  # groups of the file
    agents: list[str]
    spaces: list[ActionSpace]  # of the agents' actions
    widths: list[int]  # of the agents' observations


@contextmanager
def open_recording(source: Path) -> Iterator[Recording]:
    folder = source / "data" if (source / "data").is_dir() else source
    if not (folder / ABOUT).is_file() or not (folder / MAIN).is_file():
        raise UserError(f"{source}: no {ABOUT} and {MAIN}; Minari's datasets are folders with both (Arrow storage is not read)")
    with ExitStack() as stack:
        with reading(source):
            about, size = json.loads(read_bytes(folder / ABOUT)), size_of(folder)
            if not isinstance(about, dict) or "action_space" not in about:
                raise UserError(f"{folder / ABOUT}: no action_space, which says what the agents' actions are")
            f = stack.enter_context(h5py.File(folder / MAIN, "r", locking=False))
            own = [k for k in f if re.fullmatch(r"episode_\d+", k) and is_own(f, k) and isinstance(f[k], h5py.Group)]
            episodes = sorted(own, key=lambda k: int(k[8:]))
            if not episodes:
                raise UserError(f"{source}: no episode_0 in {MAIN}")
            first = {key: Guarded(source, thing, size) for key, thing in stored(source, f[episodes[0]]).items()}
            agents = sorted((k[8:] for k in first if k.startswith("actions/")), key=_by_number)
            spaces = _spaces(about, agents)
            lengths = np.array([len(stored(source, f[k], depth=0)["rewards"]) for k in episodes])
        if not agents or any(f"observations/{agent}" not in first for agent in agents):
            raise UserError(f"{source}: no dictionary of actions and observations with the same agents in both; one agent is not several")
        state = first.get("observations/state", first.get("infos/state"))
        if state is not None and state.ndim != 2:
            raise UserError(f"{source}: the state has shape {state.shape} in {episodes[0]}, should be a vector for each step")
        widths = [int(np.prod(first[f"observations/{agent}"].shape[1:], dtype=int)) for agent in agents]
        state_dim = sum(widths) if state is None else state.shape[1]
        yield Recording(
            source,
            Spec(len(agents), max(widths), state_dim, spaces[0].space, _limit(about, int(lengths.max()))),
            _name(about),
            rows=lengths + 1,
            read=partial(_read, Folder(f, size, {}, episodes, agents, spaces, widths)),
            notes=[f"agents in the order {', '.join(map(word, agents))}"]
            + ["actions scaled to [-1, 1]"] * any(s.low is not None for s in spaces),
        )


def _read(folder: Folder, r: Recording, task: Task, a: int, b: int) -> Dataset:
    some = []
    keys = {"rewards", "terminations", "truncations", "observations/state", "infos/state", "infos/won"}
    keys |= {f"{of}/{agent}" for of in ("observations", "actions", "infos/legal", "infos/logp") for agent in folder.agents}
    for name in folder.episodes[a:b]:
        held = {key: thing for key, thing in stored(r.source, folder.file[name]).items() if key in keys}
        for key, thing in held.items():
            if (owner := folder.owners.setdefault(h5py.h5o.get_info(thing.id).addr, name)) != name:
                raise UserError(f"{r.source}: {name}/{key} is an array of {owner}, too; an episode has its own")
        check_size(r.source, sum(thing.nbytes for thing in held.values()), folder.size)
        x = {key: Guarded(r.source, thing, folder.size)[:] for key, thing in held.items()}
        some.append(_episode(x, _seed(folder.file[name]), name, folder, r, task))
    return concatenate(some)


def _check_episode(x: dict[str, np.ndarray], name: str, folder: Folder, source: Path) -> None:
    """UserError unless the episode's arrays are all there, with the sizes that its rewards ask for, and end with its last step."""
    agents = folder.agents
    if missing := [k for k in ("rewards", "terminations", "truncations", *(f"observations/{i}" for i in agents)) if k not in x]:
        raise UserError(f"{source}: {name} has no {', '.join(missing)}")
    n = len(x["rewards"])
    rows = {f"observations/{i}": n + 1 for i in agents} | {f"actions/{i}": n for i in agents} | {"terminations": n, "truncations": n}
    rows |= {
        k: n + 1 for k in x if k.startswith(("infos/legal/", "infos/logp/")) or k in ("infos/state", "infos/won", "observations/state")
    }
    for key, want in rows.items():
        if key not in x or not x[key].ndim or len(x[key]) != want or not n:
            have = f"{len(x[key])} rows" if key in x and x[key].ndim else "no rows"
            raise UserError(f"{source}: {name}/{key} has {have}, its {n} rewards ask for {want}")
    if (x["terminations"][:-1] != 0).any() or (x["truncations"][:-1] != 0).any():
        raise UserError(f"{source}: {name} goes on after its end: its terminations or truncations are true before the last step")
    sizes = {f"observations/{i}": (n + 1) * width for i, width in zip(agents, folder.widths)}
    sizes |= {f"actions/{i}": n * (s.space.action_dim if s.space.kind == "continuous" else 1) for i, s in zip(agents, folder.spaces)}
    for key, size in sizes.items():
        if x[key].size != size:
            raise UserError(f"{source}: {name}/{key} has shape {x[key].shape}, should have {size} numbers")
    if x["rewards"].ndim > 1:
        raise UserError(f"{source}: {name}/rewards have shape {x['rewards'].shape}; the team earns one number in a step")


def _episode(x: dict[str, np.ndarray], seed: int, name: str, folder: Folder, r: Recording, task: Task) -> Dataset:
    _check_episode(x, name, folder, r.source)
    n, agents = len(x["rewards"]), folder.agents
    obs = np.zeros((n + 1, len(agents), r.spec.obs_dim), "f4")
    for i, (agent, width) in enumerate(zip(agents, folder.widths)):
        obs[:, i, :width] = x[f"observations/{agent}"].reshape(n + 1, -1)
    state = x.get("observations/state", x.get("infos/state"))
    avail = [x[f"infos/legal/{agent}"] for agent in agents] if f"infos/legal/{agents[0]}" in x else None
    logp = [x[f"infos/logp/{agent}"][:n] for agent in agents] if f"infos/logp/{agents[0]}" in x else None
    actions = np.stack([_scaled(x[f"actions/{agent}"], s) for agent, s in zip(agents, folder.spaces)], 1)
    return r.episodes(
        task,
        np.array([n]),
        obs=obs,
        state=np.concatenate([x[f"observations/{i}"].reshape(n + 1, -1) for i in agents], 1) if state is None else state,
        avail=None if avail is None else np.stack(avail, 1) != 0,
        actions=actions.reshape(n, len(agents), -1) if task.spec.space.kind == "continuous" else actions.reshape(n, len(agents)),
        rewards=x["rewards"],
        terminated=np.array([bool(x["terminations"][-1])]),
        won=x["infos/won"][-1:] if "infos/won" in x else -1,
        seed=seed,
        behavior_logp=None if logp is None else np.stack(logp, 1),
    )


def _seed(group: h5py.Group) -> int:
    seed = attribute(group, "seed") if "seed" in group.attrs else -1
    return seed if type(seed) is int and -1 <= seed < 1 << 63 else -1


def _spaces(about: dict, agents: list[str]) -> list[ActionSpace]:
    out = []
    spaces = json.loads(about["action_space"])["subspaces"]
    for agent in agents:
        s = spaces[agent]
        if s["type"] == "Discrete":
            out.append(ActionSpace(Discrete(int(s["n"])), int(s.get("start", 0))))
        elif s["type"] == "Box":
            low, high = (np.asarray(s[key], float).reshape(-1) for key in ("low", "high"))
            scaled = np.isfinite(low).all() and np.isfinite(high).all() and ((low != -1).any() or (high != 1).any())
            out.append(ActionSpace(Box(len(low)), low=low, high=high) if scaled else ActionSpace(Box(len(low))))
        else:
            raise UserError(f"actions of {agent} are of type {str(s['type'])[:40]!r}; what can be converted is Discrete and Box")
    if len({s.space for s in out}) > 1:
        raise UserError(f"the agents' spaces of actions differ: {', '.join(str(s.space) for s in out)}")
    return out


def _scaled(x: np.ndarray, s: ActionSpace) -> np.ndarray:
    if s.space.kind == "discrete":
        return x - s.start
    x = x.reshape(len(x), -1)
    return x if s.low is None else 2 * (x - s.low) / (s.high - s.low) - 1


def _by_number(name: str) -> list[Any]:
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def _name(about: dict) -> str:
    """`<scenario>/<quality>-v0`, as our exports and many of Minari's own are called."""
    if isinstance(ours := about.get("inspo_task"), str) and NAME.fullmatch(ours) and "-" in ours:
        return ours
    found = re.fullmatch(r"(?:[\w-]+/)*?([\w-]+)/([\w-]+)-v\d+", str(about.get("dataset_id", "")))
    return f"{word(found[1])}-{word(found[2])}" if found else "minari-recorded"


def _limit(about: dict, longest: int) -> int:
    """Of our exports the task's, otherwise the longest episode's length."""
    ours = about.get("inspo_limit")
    return ours if type(ours) is int and longest <= ours < 1 << 31 else longest


def write(source: Path, target: Path) -> str:
    check_target(source, target)
    meta = peek(source)
    with write_errors(target):
        part = part_path(target)
        part.mkdir()
        (part / "data").mkdir()
    try:
        count = steps = 0
        with (
            write_errors(target),
            DeferredErrorFile(part / "data" / MAIN) as file,
            file.hdf5(libver=("earliest", "v110"), track_order=True) as f,
        ):
            for d in parts(source):
                for e in range(d.episodes):
                    _append(f.create_group(f"episode_{count + e}"), d, e, count + e)
                    file.check()
                count, steps = count + d.episodes, steps + d.steps
        with write_errors(target):
            (part / "data" / ABOUT).write_text(json.dumps(_about(meta, count, steps, (part / "data" / MAIN).stat().st_size)))
            part.replace(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return "" if meta["task"] in TASKS or known(meta["task"]) else "no place for: the task's family, backend and reference returns"


def _append(group: h5py.Group, d: Dataset, e: int, number: int) -> None:
    steps, rows = d.slices(e)
    group.attrs["id"], group.attrs["total_steps"] = number, int(d.lengths[e])
    if d.seed[e] >= 0:
        group.attrs["seed"] = int(d.seed[e])
    box = d.meta["action_kind"] == "continuous"
    x = {"rewards": d.rewards[steps], "terminations": d.terminated[steps], "truncations": d.truncated[steps]}
    for i in range(d.meta["agents"]):
        x[f"observations/agent_{i}"] = d.obs[rows, i]
        x[f"actions/agent_{i}"] = d.actions[steps, i] if box else d.actions[steps, i].astype("i8")
        if not box:
            x[f"infos/legal/agent_{i}"] = d.avail[rows, i]
        if d.behavior_logp.shape[1]:
            x[f"infos/logp/agent_{i}"] = np.append(d.behavior_logp[steps, i], np.float32(0))
    x["infos/state"] = d.state[rows]
    x["infos/won"] = np.full(int(d.lengths[e]) + 1, d.won[e])
    for path, value in x.items():
        group.create_dataset(
            path, data=value, track_times=False, **{"compression": "gzip", "compression_opts": 1} if value.size > 256 else {}
        )


def _about(meta: dict[str, Any], episodes: int, steps: int, size: int) -> dict[str, Any]:
    def box(shape: int, bound: float) -> dict[str, Any]:
        return {"type": "Box", "dtype": "float32", "shape": [shape], "low": [-bound] * shape, "high": [bound] * shape}

    one = (
        box(meta["actions"], 1.0)
        if meta["action_kind"] == "continuous"
        else {"type": "Discrete", "dtype": "int64", "start": 0, "n": meta["actions"]}
    )
    every = range(meta["agents"])
    scenario, _, quality = meta["task"].rpartition("-")
    return {
        "total_episodes": episodes,
        "total_steps": steps,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "observation_space": json.dumps({"type": "Dict", "subspaces": {f"agent_{i}": box(meta["obs"], float("inf")) for i in every}}),
        "action_space": json.dumps({"type": "Dict", "subspaces": {f"agent_{i}": one for i in every}}),
        "dataset_id": f"{word(scenario)}/{word(quality)}-v0",
        "minari_version": VERSION,
        "dataset_size": round(size / 1e6, 1),
        "algorithm_name": meta["behaviour"],
        "inspo_task": meta["task"],
        "inspo_limit": meta["limit"],
        "description": f"{meta['task']}: {meta['source']}. {meta['notes']}",
    }


LAYOUTS.register("minari")(
    Layout("Minari", "Minari: a folder with data/main_data.hdf5, spaces with a key for each agent", open_recording, write)
)
