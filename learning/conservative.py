"""log sum_a exp Q(a), which conservative Q-learning pushes down, as the published codes of multi-agent methods estimate it."""

import math

import torch
from torch import Tensor

from inspo_benchmark.core.spaces import Box, Discrete, Value

STD = 0.2  # noise of the candidates around a policy's actions


def noise_shape(space: Discrete | Box, source: str, k: int) -> tuple[int, ...]:
    """Trailing shape of the uniforms that `logsumexp` takes: for k candidates, or k of each kind ("noisy", "density", "crossed")."""
    kinds = 1 if source in ("importance", "uniform") else 3
    return space.sample_noise_shape(kinds * k)


def logsumexp(
    space: Discrete | Box, source: str, q: Value, m: Tensor, m_next: Tensor, avail: Tensor, u: Tensor, q_next: Value | None = None
) -> Tensor:
    """log sum_a exp q(a), [...]: exact where actions are discrete, else from candidates that `source` chooses.

    m, m_next: outputs of a policy without a standard deviation in this row and in the next one, [..., A]. Sources:
    "importance": half of the candidates uniform, half around tanh(m); each exp q(a) is divided by their density.
    "uniform": uniform candidates alone.
    "noisy": uniform candidates, tanh(m) with noise and tanh(m_next) with noise, clipped to the box, as many of each; each exp q(a) is
        divided by the density of its noise.
    "density": as "noisy", but the density itself is subtracted from q(a), not its logarithm (an accident of OMAR's code).
    "crossed": as "noisy", but the two kinds of noise exchange their densities, and the candidates around tanh(m_next) have the value
        function `q_next` (an accident of CFCQL's code).
    """
    if isinstance(space, Discrete) or source == "importance":
        return space.logsumexp(q, space.around(m, STD), avail, u)
    if source == "uniform":
        return q(space.uniform(avail, u)).logsumexp(-1) + space.d * math.log(2)
    u_uniform, u_now, u_next = u.unflatten(-2, (3, -1)).unbind(-3)
    noise_now = STD * torch.special.ndtri(u_now)
    noise_next = STD * torch.special.ndtri(u_next)
    correction_now = log_density(noise_now)
    correction_next = log_density(noise_next)
    if source == "density":
        correction_now = correction_now.exp()
        correction_next = correction_next.exp()
    elif source == "crossed":
        correction_now, correction_next = correction_next, correction_now
    around_now = (torch.tanh(m)[..., None, :] + noise_now).clamp(-1, 1)
    around_next = (torch.tanh(m_next)[..., None, :] + noise_next).clamp(-1, 1)
    of_now = q(around_now) - correction_now
    of_next = (q_next if source == "crossed" and q_next else q)(around_next) - correction_next
    of_uniform = q(space.uniform(avail, u_uniform)) + space.d * math.log(2)
    return torch.cat([of_uniform, of_now, of_next], -1).logsumexp(-1)


def log_density(noise: Tensor) -> Tensor:
    """log N(noise; 0, STD^2), summed over the dimensions of an action: [..., D] -> [...]."""
    return (-0.5 * (noise / STD) ** 2 - math.log(STD) - 0.5 * math.log(2 * math.pi)).sum(-1)
