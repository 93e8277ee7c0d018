"""Minibatches of sequences and the noise of an update, as functions of (seed, call) alone."""

from collections.abc import Sequence
from copy import copy

import numpy as np
import torch

from inspo_benchmark.core.types import Batch, Draw, Spec
from inspo_benchmark.datasets.dataset import Dataset

UNIFORM_BOUNDS = (1e-6, 1 - 1e-6)  # keeps uniform random numbers inside (0, 1), also after rounding to float32


class Sampler:
    """Draws minibatches for S seeds at once.

    A draw depends on the seed and the number of the call alone. A seed therefore trains in the same way alone, with other seeds, and
    after a resume. Every sequence is equally likely: any L consecutive steps of an episode, or a whole episode that is shorter. The first
    `burn_in` steps of a sequence are masked, unless it starts with its episode, where the recurrent state is known.
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
        self.batch_size, self.seq_len, self.burn_in, self.device = batch_size, seq_len, burn_in, device

        def to_device(array: np.ndarray) -> torch.Tensor:
            x = torch.as_tensor(np.ascontiguousarray(array), device=device)
            return x.to(torch.get_default_dtype()) if x.is_floating_point() else x

        self.obs, self.state, self.avail = to_device(data.obs), to_device(data.state), to_device(data.avail)
        self.actions = to_device(data.actions if data.actions.dtype.kind == "f" else data.actions.astype(np.int64))
        self.rewards, self.terminated = to_device(data.rewards.astype(np.float32)), to_device(data.terminated.astype(np.float32))
        lengths = np.diff(data.offset)
        self.offset, self.length = to_device(data.offset[:-1]), to_device(lengths)
        self.sequence_ends = np.cumsum(np.maximum(lengths - seq_len + 1, 1))  # number of sequences up to the end of each episode

    def for_seeds(self, seeds: Sequence[int]) -> "Sampler":
        """The sampler of other seeds, on the same data."""
        other = copy(self)
        other.seeds = tuple(seeds)
        return other

    def draw(self, call: int) -> tuple[Batch, Draw]:
        """Batch and noise of a call of `update` (turn call % turns of an update). Every leaf is [S, ...]."""
        sequences, noise, agents = zip(*(self._draw(seed, call) for seed in self.seeds))
        u = {name: torch.as_tensor(np.stack([x[name] for x in noise]), device=self.device) for name in self.noise}
        u = {name: x.to(torch.get_default_dtype()) for name, x in u.items()}
        return self.batch_of(np.stack(sequences)), Draw(u, torch.tensor(agents, device=self.device))

    def _draw(self, seed: int, call: int):
        """Sequences [B], uniform random numbers, and the agent whose turn it is."""
        rng = np.random.Generator(np.random.Philox(key=seed, counter=[0, call, 0, 0]))
        sequences = rng.integers(self.sequence_ends[-1], size=self.batch_size)
        noise = {name: rng.random(shape).clip(*UNIFORM_BOUNDS) for name, shape in self.noise.items()}
        order = np.random.Generator(np.random.Philox(key=seed, counter=[0, call // self.turns, 1, 0])).permutation(self.spec.num_agents)
        return sequences, noise, order[call % self.turns]

    def batch_of(self, sequences: np.ndarray) -> Batch:
        """The sequences with these numbers [...], counted over all episodes."""
        episodes = np.searchsorted(self.sequence_ends, sequences, side="right")
        starts = sequences - np.concatenate([[0], self.sequence_ends])[episodes]
        episode, start = (torch.as_tensor(x, device=self.device)[..., None] for x in (episodes, starts))
        length, offset = self.length[episode], self.offset[episode]
        t = start + torch.arange(self.seq_len + 1, device=self.device)  # [..., L+1]
        observed = offset + episode + t.minimum(length)  # episodes have one observation more than steps
        acted = offset + t.minimum(length - 1)
        stepped = acted[..., :-1]
        mask = (t[..., :-1] < length) & ((t[..., :-1] >= start + self.burn_in) | (start == 0))
        return Batch(
            self.obs[observed],
            self.state[observed],
            self.avail[observed],
            self.actions[acted],
            self.rewards[stepped],
            self.terminated[stepped],
            mask.to(self.rewards.dtype),
        )
