"""Minibatches: which windows of which episodes, and the noise of an update, as pure functions of (seed, call)."""

from collections.abc import Sequence

import numpy as np
import torch

from inspo_benchmark.core.types import Batch, Draw, Spec
from inspo_benchmark.datasets.dataset import Dataset

OPEN = (1e-6, 1 - 1e-6)  # uniforms stay inside (0, 1), also when rounded to float32


class Sampler:
    """Draws for S seeds at once. The draw of a seed depends on that seed and the call's number alone, so that a run is the same
    alone, packed and resumed. Every window (L consecutive steps of an episode; a shorter episode is one window) is equally likely.
    The first `burn` steps of a window are not counted as data, unless it begins with its episode, where no memory is missing.
    """

    def __init__(
        self,
        data: Dataset,
        spec: Spec,
        batch_size: int,
        seq_len: int,
        turns: int,
        noise: dict[str, tuple[int, ...]],
        seeds: Sequence[int],
        device: str = "cpu",
        burn_in: int = 0,
    ):
        self.spec, self.turns, self.noise, self.seeds = spec, turns, noise, tuple(seeds)
        self.batch_size, self.seq_len = batch_size, seq_len
        self.burn_in = burn_in

        def put(x):
            x = torch.as_tensor(np.ascontiguousarray(x), device=device)
            return x.to(torch.get_default_dtype()) if x.is_floating_point() else x

        self.obs, self.state, self.avail = put(data.obs), put(data.state), put(data.avail)
        self.actions = put(data.actions if data.actions.dtype.kind == "f" else data.actions.astype(np.int64))
        self.rewards, self.terminated = put(data.rewards.astype(np.float32)), put(data.terminated.astype(np.float32))
        lengths = np.diff(data.offset)
        self.offset, self.length = put(data.offset[:-1]), put(lengths)
        self.windows = np.cumsum(np.maximum(lengths - seq_len + 1, 1))  # windows of the episodes up to each
        self.device = device

    def draw(self, call: int) -> tuple[Batch, Draw]:
        """Batch and noise of the call-th `update` (turn call % turns of an update), every leaf [S, ...]."""
        picks, noise, agents = zip(*(self._draw(seed, call) for seed in self.seeds))
        u = {k: torch.as_tensor(np.stack([n[k] for n in noise]), device=self.device) for k in self.noise}
        u = {k: x.to(torch.get_default_dtype()) for k, x in u.items()}
        return self.at(np.stack(picks)), Draw(u, torch.tensor(agents, device=self.device))

    def _draw(self, seed: int, call: int):
        rng = np.random.Generator(np.random.Philox(key=seed, counter=[0, call, 0, 0]))
        pick = rng.integers(self.windows[-1], size=self.batch_size)
        noise = {name: rng.random(shape).clip(*OPEN) for name, shape in self.noise.items()}
        order = np.random.Generator(np.random.Philox(key=seed, counter=[0, call // self.turns, 1, 0])).permutation(self.spec.num_agents)
        return pick, noise, order[call % self.turns]

    def at(self, pick: np.ndarray) -> Batch:
        """The windows with the numbers `pick` [...], counted over all episodes."""
        episode = np.searchsorted(self.windows, pick, side="right")
        start = pick - np.concatenate([[0], self.windows])[episode]
        episode, start = (torch.as_tensor(x, device=self.device)[..., None] for x in (episode, start))
        length, offset = self.length[episode], self.offset[episode]
        row = start + torch.arange(self.seq_len + 1, device=self.device)  # [..., L+1]
        seen = offset + episode + row.minimum(length)
        acted = offset + row.minimum(length - 1)
        earned, mask = acted[..., :-1], (row[..., :-1] < length) & ((row[..., :-1] >= start + self.burn_in) | (start == 0))
        return Batch(
            self.obs[seen],
            self.state[seen],
            self.avail[seen],
            self.actions[acted],
            self.rewards[earned],
            self.terminated[earned],
            mask.to(self.rewards.dtype),
        )
