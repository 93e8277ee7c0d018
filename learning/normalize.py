"""Standardization of observations and states by the dataset's statistics, the same for every method, in training and in evaluation; and of
rewards, for methods that ask for it."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from inspo_benchmark.datasets.dataset import Dataset

MAX_ABS = 10.0  # bound of standardized features, so that one that is rarely nonzero in the data does not dominate
MIN_STD = 1e-6  # features that vary less count as constant


class Normalizer(NamedTuple):
    """x -> (x - mean) / std, clipped to [-MAX_ABS, MAX_ABS], with mean and std of shape [features]. Constant features become 0.

    The default only clips. It is also used where all features are constant (matrix games): networks with zero inputs lose their
    ReLU units and hardly learn.
    """

    mean: np.ndarray = np.zeros((), np.float32)
    std: np.ndarray = np.ones((), np.float32)

    @classmethod
    def of(cls, x: np.ndarray) -> "Normalizer":
        """The statistics of x [..., features]. All agents share them, because an observation means the same for each."""
        rows = x.reshape(-1, x.shape[-1]).astype(np.float64)
        std = rows.std(0)
        if (std <= MIN_STD).all():
            return cls()
        return cls(rows.mean(0).astype(np.float32), np.where(std > MIN_STD, std, 1.0).astype(np.float32))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return ((x - self.mean) / self.std).clip(-MAX_ABS, MAX_ABS)


def normalize_dataset(data: Dataset) -> tuple[Dataset, Normalizer]:
    """The dataset with standardized observations and states, and the normalizer of the observations."""
    normalizer = Normalizer.of(data.obs)
    return replace(data, obs=normalizer(data.obs), state=Normalizer.of(data.state)(data.state)), normalizer


def normalize_rewards(data: Dataset, gamma: float) -> Dataset:
    """The dataset with rewards divided by the standard deviation of the discounted returns-to-go over all steps; as it is, if they are
    constant. Weights of regularizers then mean the same on every task."""
    std = returns_to_go(data, gamma).std()
    return replace(data, rewards=data.rewards / std) if std > MIN_STD else data


def returns_to_go(data: Dataset, gamma: float) -> np.ndarray:
    """The discounted sum of the rewards from each step to the end of its episode [T] float64."""
    to_go = np.empty(len(data.rewards))
    value = np.zeros(data.episodes)
    for t in reversed(range(data.lengths.max())):
        steps = (data.offset[:-1] + t)[lasting := data.lengths > t]
        to_go[steps] = value[lasting] = data.rewards[steps] + gamma * value[lasting]
    return to_go
