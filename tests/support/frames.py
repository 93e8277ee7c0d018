"""Random frames of StarCraft battles."""

import numpy as np

from inspo_benchmark.envs.smac.maps import find_map
from inspo_benchmark.envs.smac.views import NO_ACTION


def some_frames(name: str, frames: int, seed: int = 0):
    """Random places, healths, deaths, shields, cooldowns, energies and last actions."""
    m, rng = find_map(name), np.random.default_rng(seed)
    size = (frames, m.n + m.m)
    full = np.array([[unit.health, unit.shield] for unit in m.units()])
    spread = rng.uniform(2, 12, (frames, 1, 1))  # from crowds to armies out of sight
    place = (rng.uniform(2, 30, (frames, 1, 2)) + rng.uniform(-1, 1, (*size, 2)) * spread).clip(0, 31.99)
    health = full[:, 0] * rng.uniform(0.01, 1, size) * (rng.random(size) > 0.25)
    columns = [
        place,
        health[..., None],
        (full[:, 1] * rng.random(size))[..., None],
        rng.uniform(0, 40, (*size, 1)),
        rng.uniform(0, 200, (*size, 1)),
    ]
    frame = np.concatenate(columns, -1)
    return frame[:, : m.n], frame[:, m.n :], rng.integers(NO_ACTION, m.actions, (frames, m.n))
