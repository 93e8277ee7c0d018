"""StarCraft gives the same bits on every processor: compiled for this one, with its vector instructions, and for the plainest one."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.datasets import catalog
from inspo_benchmark.datasets.dataset import content_sha256
from inspo_benchmark.envs.smac.maps import find_map
from inspo_benchmark.envs.smac.simulator import Battles
from support.frames import observe, reward, some_frames

DATASET = "3m-medium"


def hash_of_battles() -> str:
    h = hashlib.sha256()
    for name in ("3m", "MMM", "corridor", "2c_vs_64zg", "bane_vs_bane"):
        m = find_map(name)
        battles, rng = Battles(m, 8), np.random.Generator(np.random.Philox(1))
        battles.spawn(range(8))
        for _ in range(40):
            battles.advance((rng.bit_generator.random_raw((8, m.n)) % np.uint64(m.actions)).astype(np.int64), np.ones(8, bool))
            h.update(battles.frame.tobytes())
    return h.hexdigest()


def hash_of_views() -> str:
    """Of the observations and rewards of some frames."""
    h = hashlib.sha256()
    for name in ("3m", "MMM", "2s3z", "corridor"):
        (a, b, last), (c, d, _) = some_frames(name, 50), some_frames(name, 50, seed=1)
        for x in (*observe(name, a, b, last), *reward(name, a, b, c, d)):
            h.update(x.tobytes())
    return h.hexdigest()


def hash_of_dataset() -> str:
    """With the behavior policies and their noise."""
    return content_sha256(catalog.build(TASKS.discover()[DATASET]))


def test_a_processor_without_vector_instructions_changes_nothing():
    """One process for all, because compiling takes most of the time."""
    code = "from test_smac_processors import *; print(hash_of_battles(), hash_of_views(), hash_of_dataset())"
    plain = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, env=os.environ | plain, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [hash_of_battles(), hash_of_views(), catalog.manifest()[DATASET]["sha256"]]
