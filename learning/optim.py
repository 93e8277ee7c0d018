"""Optimizers as pure functions of a network's parameters p [rows, P] and their gradient g: step(p, g, slot) -> (p, slot).

Every row counts its own steps: agents that are updated in turn have taken different numbers of them.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class AdamSlot(NamedTuple):
    m: Tensor  # [rows, P]
    v: Tensor  # [rows, P]
    t: Tensor  # [rows, 1] steps taken


class Adam(NamedTuple):
    """Kingma and Ba 2015, with torch.optim.Adam's conventions."""

    lr: float
    b1: float = 0.9
    b2: float = 0.999
    eps: float = 1e-8

    def slot(self, p: Tensor) -> AdamSlot:
        return AdamSlot(torch.zeros_like(p), torch.zeros_like(p), torch.zeros_like(p[:, :1]))

    def step(self, p: Tensor, g: Tensor, slot: AdamSlot) -> tuple[Tensor, AdamSlot]:
        # p - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), in few passes over the parameters
        t = slot.t + 1
        m, v = slot.m.lerp(g, 1 - self.b1), slot.v.lerp(g * g, 1 - self.b2)
        bias = (1 - self.b2**t).sqrt()
        rate = self.lr * bias / (1 - self.b1**t)
        return p - m / (v.sqrt() + self.eps * bias) * rate, AdamSlot(m, v, t)


class RMSpropSlot(NamedTuple):
    v: Tensor  # [rows, P]


class RMSprop(NamedTuple):
    """torch.optim.RMSprop without momentum: p - lr g / (sqrt(v) + eps), v a moving average of g^2 (PyMARL: alpha .99, eps 1e-5)."""

    lr: float
    alpha: float = 0.99
    eps: float = 1e-5

    def slot(self, p: Tensor) -> RMSpropSlot:
        return RMSpropSlot(torch.zeros_like(p))

    def step(self, p: Tensor, g: Tensor, slot: RMSpropSlot) -> tuple[Tensor, RMSpropSlot]:
        v = slot.v.lerp(g * g, 1 - self.alpha)
        return p - g / (v.sqrt() + self.eps) * self.lr, RMSpropSlot(v)
