"""Measures how fast datasets load, and how fast and in how much memory recordings are converted: `python -m tools.speed data`."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Spec
from inspo_benchmark.datasets.dataset import PROVENANCE, card, join
from inspo_benchmark.datasets.format import load, writer
from inspo_benchmark.datasets.layouts._known import unregistered
from inspo_benchmark.tools.speed.rows import Row

GIGABYTE = 10**9
ROUNDS = 3
LIMIT = 100  # steps of an episode
BLOCK = 50  # episodes written at a time
TASK = unregistered("bench-recorded", Spec(5, 80, 120, Discrete(11), LIMIT), "bench", "none")  # the sizes of SMAC's 2s3z

CONVERT = """
import sys, time
from pathlib import Path
from inspo_benchmark.datasets.convert import convert
started = time.process_time()
convert("pymarl", sys.argv[1], sys.argv[2])
seconds = time.process_time() - started
status = Path("/proc/self/status").read_text()  # getrusage would count the parent's memory as well
print(seconds, int(status.partition("VmHWM:")[2].split()[0]) / 1000)
"""


def measure(size: int = GIGABYTE) -> list[Row]:
    """Loading a dataset of `size` bytes (in memory) with all checks, compared with reading its arrays with h5py alone; and converting a
    PyMARL recording of that size in a process of its own, with the peak memory of that process."""
    with tempfile.TemporaryDirectory() as folder:
        dataset, recording = Path(folder, "dataset.h5"), Path(folder, "recording.h5")
        size_written = write_dataset(dataset, size)
        h5py_seconds, load_seconds = [], []
        for _ in range(ROUNDS):  # alternately, so that a drift of the machine's speed affects both
            h5py_seconds.append(cpu_seconds(lambda: read_with_h5py(dataset)))
            load_seconds.append(cpu_seconds(lambda: load(dataset)))
        h5py_time, load_time = statistics.median(h5py_seconds), statistics.median(load_seconds)
        write_recording(recording, size)
        command = [sys.executable, "-c", CONVERT, str(recording), str(Path(folder, "converted.h5"))]
        out = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}).stdout
        convert_time, peak = map(float, out.split())
    return [
        ("data/load", size_written / load_time / 1e6, "MB/s"),
        ("data/load/of-h5py", h5py_time / load_time, "of the rate of h5py alone"),
        ("data/convert", recording_bytes(size) / convert_time / 1e6, "MB/s"),
        ("data/convert/memory", peak, "MB"),
    ]


def episodes(count: int, seed: int):
    """Arrays of episodes that compress like SMAC's: numbers change slowly, on a grid, and half of the columns are zero."""
    rng, s = np.random.default_rng(seed), TASK.spec
    rows = count * (LIMIT + 1)

    def walk(*shape: int) -> np.ndarray:
        x = np.cumsum(rng.integers(-1, 2, (rows, *shape), "i1"), 0, dtype=np.int32).astype("f4") / 32
        x[..., rng.random(shape[-1]) < 0.5] = 0
        return x

    avail = rng.random((rows, s.num_agents, s.space.n)) < 0.5
    actions = rng.integers(s.space.n, size=(count, LIMIT, s.num_agents))
    taken = avail.reshape(count, LIMIT + 1, s.num_agents, s.space.n)
    np.put_along_axis(taken[:, :-1], actions[..., None], True, -1)
    avail[..., 0] |= ~avail.any(-1)
    return dict(
        obs=walk(s.num_agents, s.obs_dim),
        state=walk(s.state_dim),
        avail=avail,
        actions=actions.reshape(-1, s.num_agents),
        rewards=rng.random(count * LIMIT).astype("f4"),
    )


def write_dataset(path: Path, size: int) -> int:
    """Write a dataset of at least `size` bytes (in memory). Returns its bytes."""
    written = 0
    with writer(path, card(TASK) | dict.fromkeys(PROVENANCE, "")) as out:
        while written < size:
            d = join(TASK, np.full(BLOCK, LIMIT), terminated=np.zeros(BLOCK, bool), **episodes(BLOCK, seed=written))
            out.add(d)
            written += sum(x.nbytes for x in (d.obs, d.state, d.avail, d.actions, d.rewards))
    return written


def write_recording(path: Path, size: int) -> None:
    """Write a PyMARL recording of about `size` bytes, uncompressed, block by block."""
    count, s = BLOCK, TASK.spec
    with h5py.File(path, "w") as f:
        for start in range(0, recording_bytes(size) // episode_bytes(), count):
            x = episodes(count, start)
            padded = {
                "state": x["state"].reshape(count, LIMIT + 1, s.state_dim),
                "obs": x["obs"].reshape(count, LIMIT + 1, s.num_agents, s.obs_dim),
                "avail_actions": x["avail"].reshape(count, LIMIT + 1, s.num_agents, s.space.n).astype("i4"),
                "actions": np.pad(x["actions"].reshape(count, LIMIT, s.num_agents, 1), ((0, 0), (0, 1), (0, 0), (0, 0))),
                "reward": np.pad(x["rewards"].reshape(count, LIMIT, 1), ((0, 0), (0, 1), (0, 0))),
                "terminated": np.zeros((count, LIMIT + 1, 1), "u1"),
                "filled": np.ones((count, LIMIT + 1, 1), "i8"),
            }
            for key, value in padded.items():
                if key not in f:
                    f.create_dataset(key, data=value, maxshape=(None, *value.shape[1:]), chunks=(10, *value.shape[1:]))
                else:
                    f[key].resize(start + count, 0)
                    f[key][start:] = value


def episode_bytes() -> int:
    s = TASK.spec
    return (LIMIT + 1) * (4 * (s.state_dim + s.num_agents * (s.obs_dim + s.space.n) + 1) + 8 * (s.num_agents + 1) + 1)


def recording_bytes(size: int) -> int:
    """The size of a recording: `size`, rounded up to whole blocks."""
    block_bytes = BLOCK * episode_bytes()
    return -(-size // block_bytes) * block_bytes


def read_with_h5py(path: Path) -> None:
    with h5py.File(path, "r") as f:
        for group in f.values():
            for x in group.values():
                x[()]


def cpu_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started
