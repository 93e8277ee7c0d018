"""Minibatches of sequences and the noise of an update, as functions of (seed, call) alone."""

from collections.abc import Iterator, Sequence
from copy import copy
from functools import partial

import numpy as np
import torch
from torch.utils._pytree import tree_map

from inspo_benchmark.core.types import Batch, Draw
from inspo_benchmark.datasets.dataset import Dataset

GROUP = 4 << 20  # bytes of the batches that are gathered at a time: a gather has a cost of its own, and larger groups leave the cache
UNIFORM_BOUNDS = (1e-6, 1 - 1e-6)  # keeps uniform random numbers inside (0, 1), also after rounding to float32


class Sampler:
    """Draws minibatches for S seeds at once.

    A draw depends on the seed and the number of the call alone. A seed therefore trains in the same way alone, with other seeds, and
    after a resume. A sequence has L consecutive steps of an episode; at its start and its end there are sequences of fewer steps, too,
    whose other rows are masked. An episode of up to L steps is drawn whole. The first `burn_in` steps of a sequence are masked, unless it
    starts with its episode, where the recurrent state is known. All steps of the data are equally likely: each is trained on in
    L - burn_in of the sequences, which are drawn uniformly.
    """

    def __init__(
        self,
        data: Dataset,
        batch_size: int,
        seq_len: int,
        turns: int,
        noise: dict[str, tuple[int, ...]],
        seeds: Sequence[int],
        device: str = "cpu",
        burn_in: int = 0,
    ):
        self.turns, self.noise, self.seeds = turns, noise, tuple(seeds)
        self.batch_size, self.seq_len, self.burn_in, self.device = batch_size, seq_len, burn_in, device

        def to_device(array: np.ndarray) -> torch.Tensor:
            x = torch.as_tensor(np.ascontiguousarray(array), device=device)
            return x.to(torch.get_default_dtype()) if x.is_floating_point() else x

        self.obs, self.state, self.avail = to_device(data.obs), to_device(data.state), to_device(data.avail)
        self.actions = to_device(data.actions if data.actions.dtype.kind == "f" else data.actions.astype(np.int64))
        self.rewards, self.terminated = to_device(data.rewards.astype(np.float32)), to_device(data.terminated.astype(np.float32))
        lengths = np.diff(data.offset)
        self.offset, self.length = to_device(data.offset[:-1]), to_device(lengths)
        trained = seq_len - burn_in  # steps of a sequence within an episode
        counts = np.where(lengths > seq_len, lengths + trained - 1 - burn_in, trained)  # sequences of each episode
        self.sequence_ends = np.cumsum(counts)

    def for_seeds(self, seeds: Sequence[int]) -> "Sampler":
        """The sampler of other seeds, on the same data."""
        other = copy(self)
        other.seeds = tuple(seeds)
        return other

    def draw(self, call: int) -> tuple[Batch, Draw]:
        """Batch and noise of a call of `update` (turn call % turns of an update). Every leaf is [S, ...]."""
        return next(self.draws(range(call, call + 1)))

    def draws(self, calls: range) -> Iterator[tuple[Batch, Draw]]:
        """Those of consecutive calls."""
        rows = len(self.seeds) * self.batch_size * (self.seq_len + 1)
        size = max(1, GROUP // (rows * sum(x[0].nbytes for x in (self.obs, self.state, self.avail, self.actions))))
        for first in range(0, len(calls), size):
            sequences, noise, agents = zip(*(self._draw(seed, call) for call in calls[first : first + size] for seed in self.seeds))
            group = -1, len(self.seeds)
            batch = self.batch_of(np.stack(sequences).reshape(*group, self.batch_size))
            u = {name: torch.as_tensor(np.stack([x[name] for x in noise]), device=self.device).unflatten(0, group) for name in self.noise}
            u = {name: x.to(torch.get_default_dtype()) for name, x in u.items()}
            agent = torch.tensor(agents, device=self.device).unflatten(0, group)
            for k in range(len(agent)):
                yield tree_map(partial(row, k), (batch, Draw(u, agent)))

    def _draw(self, seed: int, call: int) -> tuple[np.ndarray, dict[str, np.ndarray], int]:
        """Sequences [B], uniform random numbers, and the agent whose turn it is."""
        rng = np.random.Generator(np.random.Philox(key=seed, counter=[0, call, 0, 0]))
        sequences = rng.integers(self.sequence_ends[-1], size=self.batch_size)
        noise = {name: rng.random(shape).clip(*UNIFORM_BOUNDS) for name, shape in self.noise.items()}
        if self.turns == 1:
            return sequences, noise, 0
        order = np.random.Generator(np.random.Philox(key=seed, counter=[0, call // self.turns, 1, 0])).permutation(self.turns)
        return sequences, noise, order[call % self.turns]

    def batch_of(self, sequences: np.ndarray) -> Batch:
        """The sequences with these numbers [...], counted over all episodes."""
        episodes = np.searchsorted(self.sequence_ends, sequences, side="right")
        numbers = sequences - np.concatenate([[0], self.sequence_ends])[episodes]
        episode, number = (torch.as_tensor(x, device=self.device)[..., None] for x in (episodes, numbers))
        length, offset = self.length[episode], self.offset[episode]
        end = torch.where(length > self.seq_len, number + self.burn_in + 1, length)  # the first ones begin before their episode
        start = (end - self.seq_len).clamp(min=0)
        t = start + torch.arange(self.seq_len + 1, device=self.device)  # [..., L+1]
        observed = offset + episode + t.minimum(length)  # episodes have one observation more than steps
        acted = offset + t.minimum(length - 1)
        stepped = acted[..., :-1]
        mask = (t[..., :-1] < end.minimum(length)) & ((t[..., :-1] >= start + self.burn_in) | (start == 0))
        return Batch(
            self.obs[observed],
            self.state[observed],
            self.avail[observed],
            self.actions[acted],
            self.rewards[stepped],
            self.terminated[stepped],
            mask.to(self.rewards.dtype),
        )


def row(k: int, x: torch.Tensor) -> torch.Tensor:
    """x[k] in memory of its own: where an array begins may decide how a matrix product rounds."""
    return x[k].clone()
