"""What the networks see is standardised by the dataset, for every method alike, in training and in play."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from inspo_benchmark.datasets.dataset import Dataset

LARGEST = 10.0  # a feature that the data hold almost never must not drown the others


class Normalizer(NamedTuple):
    """x -> (x - mean) / std, cut at +-LARGEST; mean and std [features]. Features that never vary are 0. As made: no change, also
    where nothing varies (matrix games), because networks that see only zeros lose their ReLU units and hardly learn.
    """

    mean: np.ndarray = np.zeros((), np.float32)
    std: np.ndarray = np.ones((), np.float32)

    @classmethod
    def of(cls, x: np.ndarray) -> "Normalizer":
        """The scale of rows x [..., features], agents counted together: an observation means the same for all of them."""
        rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
        std = rows.std(0)
        if (std <= 1e-6).all():
            return cls()
        return cls(rows.mean(0).astype(np.float32), np.where(std > 1e-6, std, 1.0).astype(np.float32))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return ((x - self.mean) / self.std).clip(-LARGEST, LARGEST)


def normalize_dataset(data: Dataset) -> tuple[Dataset, Normalizer]:
    """The dataset with standardised observations and states, and the scale of the observations."""
    scale = Normalizer.of(data.obs)
    return replace(data, obs=scale(data.obs), state=Normalizer.of(data.state)(data.state)), scale
