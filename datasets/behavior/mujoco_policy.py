"""Behavior policies of MuJoCo: each agent has its own network, obs -> ReLU -> ReLU -> mean and log standard deviation of a Gaussian
before the tanh (`core.spaces.Box`).
"""

import math
from functools import partial
from pathlib import Path

import numpy as np
import torch

from inspo_benchmark.core.types import Spec
from inspo_benchmark.datasets.behavior.policy import Net, Policy, read


def shapes(spec: Spec, hidden_dim: int) -> Net:
    """Shapes of the weights, with a leading axis of agents."""
    n, h = spec.num_agents, hidden_dim
    return Net((n, spec.obs_dim, h), (n, h), (n, h, h), (n, h), (n, h, spec.space.params_dim), (n, spec.space.params_dim))


def load(path: Path, name: str, spec: Spec) -> Policy:
    """A policy for the scenario of this name. UserError as of `policy.read`."""
    return read(path, name, partial(shapes, spec), "masac")


def act(policy: Policy, obs: np.ndarray, avail: np.ndarray, u: np.ndarray | None, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """obs [E, N, O] float32, u [E, N D] uniform on [0, 1) -> actions [E, N, D] float32, log-probabilities [E, N].

    If u is None, the mode.
    """
    x = obs.swapaxes(0, 1)
    for w, b in ((policy.net.w1, policy.net.b1), (policy.net.w2, policy.net.b2)):
        x = np.maximum(x @ w + b[:, None], 0)
    params = torch.from_numpy((x @ policy.net.w3 + policy.net.b3[:, None]).swapaxes(0, 1))
    box, avail = spec.space, torch.from_numpy(avail)
    if u is None:
        a = box.mode(params, avail)
    else:
        u = torch.from_numpy(u.reshape(*obs.shape[:2], box.d)).clamp(2.0**-24, 1 - 2.0**-24)
        a = box.sample(params, avail, u.float())
    return a.numpy(), box.log_prob(params, a, avail).double().numpy()


def uniform(policy: None, obs: np.ndarray, avail: np.ndarray, u: np.ndarray, spec: Spec) -> tuple[np.ndarray, np.ndarray]:
    """Uniform actions, with the interface of `act`; `policy` is ignored."""
    a = (2 * u.reshape(*obs.shape[:2], spec.space.d) - 1).astype(np.float32)
    return a, np.full(obs.shape[:2], -spec.space.d * math.log(2))
