"""Potential-based reward shaping, for critics that have few updates: bootstrapping carries rewards back one step at a time, and values
learned in some thousand updates still lack those that come late.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from inspo_benchmark.datasets.dataset import Dataset
from inspo_benchmark.learning.normalize import MIN_STD, returns_to_go

WIDTH, BATCH_SIZE, LR = 64, 512, 2e-3  # of the fit; the learning rate falls linearly to 0
MAX_UPDATES, MAX_EPOCHS = 2000, 300  # of the fit; the epochs are the limit on small data
PART = 1 << 16  # states per forward pass


def shape_rewards(data: Dataset, gamma: float) -> Dataset:
    """The dataset with gamma Phi(s') - Phi(s) added to the rewards (Ng, Harada and Russell 1999), Phi of `fit_values`, and 0 after a
    termination. Q(s, a) becomes Q(s, a) - Phi(s): the advantages of all policies stay the same. This holds for critics that know
    s. What depends on the size of values and not on advantages alone changes: the scale 1 / E|Q| of MAC-Flow, the weighted values of ICQ
    and Oryx where `beta_critic` is small, AlberDICE's gradient penalty, and MACQL's terms of unavailable actions."""
    phi, now = fit_values(data, gamma), data.now
    after = np.where(data.terminated, 0, phi[now + 1])
    return replace(data, rewards=(data.rewards + gamma * after - phi[now]).astype(data.rewards.dtype))


def fit_values(data: Dataset, gamma: float) -> np.ndarray:
    """A value of each state [T+E] float64: a network's fit to the discounted returns-to-go of the episodes, clipped to their range. The
    same on every call."""
    to_go = returns_to_go(data, gamma)
    mean, std = to_go.mean(), max(to_go.std(), MIN_STD)
    state, y = (torch.as_tensor(x).to(torch.get_default_dtype()) for x in (data.state, (to_go - mean) / std))
    updates = min(MAX_UPDATES, MAX_EPOCHS * data.steps // BATCH_SIZE + 1)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(state.shape[1], WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
        optimizer = torch.optim.Adam(net.parameters(), LR)
        decay = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: 1 - k / updates)
        now, rng = torch.as_tensor(data.now), np.random.default_rng(0)
        for _ in range(updates):
            rows = torch.as_tensor(rng.integers(len(now), size=BATCH_SIZE))
            loss = ((net(state[now[rows]])[:, 0] - y[rows]) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            decay.step()
    with torch.no_grad():
        fitted = torch.cat([net(part)[:, 0] for part in state.split(PART)])
    return (mean + std * fitted.double().numpy()).clip(to_go.min(), to_go.max())
