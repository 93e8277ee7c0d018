"""Small recordings in the layouts of others."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from inspo_benchmark.envs.bridge import Bridge

F = np.float32


def recording(limit: int = 12, episodes: int = 30) -> dict[str, np.ndarray]:
    """Random play on Bridge as AlberDICE writes it, time limits flagged as ends. The last episode arrives after 8 steps."""
    acts = np.random.default_rng(0).integers(5, size=(limit, episodes, 2))
    acts[:8, -1] = np.array([[4, 4, 3, 3, 3, 3, 3, 2], [4, 4, 1, 4, 0, 0, 0, 0]]).T
    acts[1, -1, 0], acts[2, -1], acts[3, -1] = 1, (2, 4), (3, 1)
    env = Bridge(episodes, limit)
    seen = [env.reset(range(episodes))]
    reward, over = np.zeros((2, limit + 1, episodes))
    for t, act in enumerate(acts):
        step = env.step(act)
        seen.append(step.observation)
        reward[t], over[t] = step.rewards, step.terminated | step.truncated
    alive = np.concatenate([np.ones((1, episodes)), over[:-1] == 0])  # before the step of the same row
    first = (over * alive).astype(np.uint8)
    row = np.concatenate([np.ones((1, episodes)), alive[:-1]]).T  # filled
    obs, state, avail = (np.stack(x, 1) * row.reshape(*row.shape, *[1] * (x[0].ndim - 1)) for x in zip(*seen))
    extra = np.random.default_rng(1).integers(5, size=(episodes, 1, 2))
    return {
        "state": state.astype("f4"),
        "obs": obs.astype("f4"),
        "avail_actions": avail.astype("i4"),
        "actions": np.concatenate([acts.swapaxes(0, 1), extra], 1)[..., None],
        "reward": reward.T[..., None].astype("f4"),
        "terminated": first.T[..., None],
        "filled": row[..., None].astype("i8"),
    }


def write(folder: Path, x: dict[str, np.ndarray], layout: str = ".npz") -> Path:
    path = folder / f"recording{layout}"
    if layout == ".npz":
        np.savez_compressed(path, **x)
    elif layout == ".h5":
        with h5py.File(path, "w") as f:
            for key, value in x.items():
                f[key] = value
    else:
        path.mkdir()
        for key, value in x.items():
            np.save(path / f"{key}.npy", value)
    return path


def omiga(path: Path, d=(0, 0, 1, 0, 1, 1, 0, 0), n: int = 2, **change) -> Path:
    """Rows 0 .. 2 are an episode of two steps, 3 and 4 one of one step, 5 is a flag without a step, 6 and 7 were cut short."""
    m = len(d)
    base = np.arange(m, dtype=F)[:, None, None] + np.zeros((m, n, 3), F)
    code = np.broadcast_to(np.eye(n, dtype=F), (m, n, n))
    x = {
        "s": np.concatenate([base, code], 2),
        "o": np.concatenate([base + 100, code], 2),
        "a": np.linspace(-1, 1, m * n, dtype=F).reshape(m, n, 1),
        "r": np.arange(m, dtype=F)[:, None] * 10,
        "d": np.array(d, F)[:, None],
    } | change
    with h5py.File(path, "w") as f:
        for key, value in x.items():
            f[key] = value
    return path


def omar(folder: Path, env: str = "simple_spread", blocks: int = 2, block: int = 25, sizes=(18, 18, 18), **change) -> Path:
    """Row t of block e sees e * 1000 + t; the block's last step leads to e * 1000 + block."""
    path = folder / env / "medium-replay" / "seed_0_data"
    path.mkdir(parents=True)
    now = (np.arange(blocks)[:, None] * 1000 + np.arange(block)).reshape(-1).astype("f8")
    for i, o in enumerate(sizes):
        x = {
            "obs": now[:, None] + np.arange(o) / 128 + i,
            "next_obs": now[:, None] + 1 + np.arange(o) / 128 + i,
            "acs": np.full((len(now), 2 if env.startswith("simple") else 3), 0.1 * i),
            "rews": now * (i + 1),
            "dones": np.zeros(len(now)),
        }
        if not env.startswith("simple"):
            x |= {"states": now[:, None] + np.zeros(17), "next_states": now[:, None] + 1 + np.zeros(17)}
            x["dones"][block - 1 :: block] = 1
            x["next_obs"], x["obs"] = x["obs"] + 1, x["obs"]
        for key, value in (x | {k: v for k, v in change.items() if k in x}).items():
            np.save(path / f"{key}_{i}.npy", value)
    return path


def vault(folder: Path, rows: int = 7, **change) -> Path:
    """As flashbax writes it. Steps 0 .. 2 end terminally, 3 .. 4 by the time limit, 5 .. 6 not at all; rows behind the index are junk."""
    tensorstore = pytest.importorskip("tensorstore")
    path = folder / "3m.vlt" / "Good"
    path.mkdir(parents=True)
    t = np.arange(rows + 3)
    avail = np.ones((rows + 3, 2, 4), bool)
    avail[:, :, 3] = False
    x = {
        "observations": t[:, None, None] + np.zeros((1, 2, 3), F) + np.array([0, 0.5], F)[:, None],
        "actions": np.stack([t % 3, (t + 1) % 3], 1).astype("i4"),
        "rewards": np.stack([t, t], 1).astype(F),
        "terminals": np.repeat(t[:, None] == 2, 2, 1),
        "truncations": np.repeat(t[:, None] == 4, 2, 1),
        "infos.state": t[:, None].astype(F) * np.array([1, 10], F),
        "infos.legals": avail,
    } | change

    def leaf(name: str, value: np.ndarray, shape: tuple[int, ...]) -> None:
        kvstore = {"driver": "ocdbt", "base": {"driver": "file", "path": f"{path}/"}, "path": name}
        spec = {"driver": "zarr", "kvstore": kvstore, "create": True}
        spec["metadata"] = {"compressor": {"id": "gzip", "level": 5}, "chunks": [*value.shape]}
        store = tensorstore.open(spec, shape=shape, dtype=value.dtype.name).result()
        store[tuple(slice(0, n) for n in value.shape)].write(value).result()

    shapes = {"infos": {}}
    for name, value in x.items():
        if value is not None:
            value = np.ascontiguousarray(value)[None]
            leaf(f"{name}.", value, (1, 10**12, *value.shape[2:]))
            outer, _, inner = name.partition(".")
            (shapes[outer] if inner else shapes)[inner or name] = str(value.shape)
    leaf("vault_index", np.array([rows], "i4"), (1,))
    (path / "metadata.json").write_text(json.dumps({"version": 1.2, "structure_shape": shapes}))
    return path


def madt(folder: Path, lengths=(12, 70), n: int = 5, o: int = 124, rewards=None, wrap=np.asarray, done: bool = True) -> Path:
    """Agent i sees 10 i + t at step t and takes action t % 3."""
    path = folder / "5m_vs_6m" / "good"
    path.mkdir(parents=True)
    for e, t in enumerate(lengths):
        pay = np.arange(t, dtype=float) if rewards is None else rewards(t)
        play = [
            [
                [
                    wrap(np.full(4, 10 * i + k, F)),
                    wrap(np.full(o, 10 * i + k, F)),
                    wrap(np.array([k % 3])),
                    wrap(np.array([pay[k]])),
                    wrap(np.array([done and k == t - 1])),
                    wrap(np.array([1] * 3 + [0] * 9)),
                ]
                for k in range(t)
            ]
            for i in range(n)
        ]
        torch.save(play, path / f"{e}.pkl")
    return path


def flat(folder: Path, **change) -> Path:
    """Five steps of two agents: 0 .. 1 end terminally, 2 .. 3 by a timeout, 4 not at all."""
    t = np.arange(5, dtype=F)
    x = {
        "observations": np.stack([t, t + 10], 1)[..., None],
        "next_observations": np.stack([[1, 50, 3, 60, 70], [11, 50, 13, 60, 70]], 1).astype(F)[..., None],
        "actions": np.stack([t / 10, -t / 10], 1)[..., None],
        "rewards": t,
        "terminals": np.array([0, 1, 0, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 1, 0], bool),
    } | change
    folder.mkdir(exist_ok=True)
    np.savez(folder / "x.npz", **{key: value for key, value in x.items() if value is not None})
    return folder / "x.npz"


def minari(folder: Path, action_space=None, **change) -> Path:
    """Two episodes of two agents, of 2 and 1 steps, written with h5py as Minari 0.5 lays them out."""
    (folder / "data").mkdir(parents=True)
    box = {"type": "Box", "dtype": "float32", "shape": [1], "low": [-2.0], "high": [4.0]}
    about = {
        "action_space": json.dumps({"type": "Dict", "subspaces": action_space or {"b_2": box, "b_10": box}}),
        "dataset_id": "toys/run/fast-v1",
    }
    (folder / "data" / "metadata.json").write_text(json.dumps(about))
    with h5py.File(folder / "data" / "main_data.hdf5", "w") as f:
        for e, n in enumerate((2, 1)):
            x = {
                "observations/b_2": np.arange(n + 1, dtype=F)[:, None] + 10 * e,
                "observations/b_10": np.arange(2 * (n + 1), dtype=F).reshape(n + 1, 2),
                "actions/b_2": np.full((n, 1), -2, F),
                "actions/b_10": np.full((n, 1), 1, F),
                "rewards": np.arange(n, dtype=float) + e,
                "terminations": np.arange(n) == (1 if e == 0 else 9),
                "truncations": np.zeros(n, bool),
            } | change
            for key, value in x.items():
                if value is not None:
                    f[f"episode_{e}/{key}"] = value
            f[f"episode_{e}"].attrs["seed"] = 7 + e
    return folder
