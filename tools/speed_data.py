"""How fast datasets are read, and in how much memory they are converted; `tools.speed` calls `rows`."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np

from inspo_benchmark.core.spaces import Discrete
from inspo_benchmark.core.types import Spec
from inspo_benchmark.datasets.dataset import card, join
from inspo_benchmark.datasets.format import load, writer
from inspo_benchmark.datasets.layouts._known import unregistered

GIGABYTE = 10**9
ROUNDS = 3
LIMIT = 100
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


def rows(size: int = GIGABYTE) -> list[tuple[str, float, str]]:
    """Loading a dataset of so many bytes in memory with every check against reading its arrays with h5py alone; converting a PyMARL
    recording of that size, with its peak memory, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "x.h5"), Path(folder, "theirs.h5")
        bytes_written = invented(ours, size)
        alone, whole = [], []
        for _ in range(ROUNDS):  # in turn, so that a machine whose speed drifts does not favour one of them
            alone.append(timed(lambda: plain(ours)))
            whole.append(timed(lambda: load(ours)))
        alone, whole = statistics.median(alone), statistics.median(whole)
        recording(theirs, size)
        command = [sys.executable, "-c", CONVERT, str(theirs), str(Path(folder, "out.h5"))]
        out = subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}).stdout
        seconds, peak = map(float, out.split())
    return [
        ("data/load", bytes_written / whole / 1e6, "MB/s"),
        ("data/load/of-h5py", alone / whole, "of the rate of h5py alone"),
        ("data/convert", theirs_bytes(size) / seconds / 1e6, "MB/s"),
        ("data/convert/memory", peak, "MB"),
    ]


def episodes(count: int, seed: int):
    """Episodes in the manner of SMAC's: most numbers zero or from a grid, changing slowly."""
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


def invented(path: Path, size: int) -> int:
    """A dataset of about `size` bytes in memory; the bytes."""
    count, done = 50, 0
    with writer(path, card(TASK) | dict.fromkeys(("source", "source_sha256", "behaviour", "notes"), "")) as out:
        while done < size:
            d = join(TASK, np.full(count, LIMIT), terminated=np.zeros(count, bool), **episodes(count, done))
            out.add(d)
            done += sum(x.nbytes for x in (d.obs, d.state, d.avail, d.actions, d.rewards))
    return done


def recording(path: Path, size: int) -> None:
    """A PyMARL .h5 of about `size` bytes, not compressed, a little at a time."""
    count, s = 50, TASK.spec
    with h5py.File(path, "w") as f:
        for start in range(0, theirs_bytes(size) // episode_bytes(), count):
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


def theirs_bytes(size: int) -> int:
    """The recording's size: whole blocks of 50 episodes."""
    return -(-size // (50 * episode_bytes())) * 50 * episode_bytes()


def plain(path: Path) -> None:
    with h5py.File(path, "r") as f:
        for group in f.values():
            for x in group.values():
                x[()]


def timed(work) -> float:
    """Seconds of the processor."""
    started = time.process_time()
    work()
    return time.process_time() - started


if __name__ == "__main__":
    for name, value, unit in rows():
        print(f"{name:24} {value:10.3f} {unit}")
