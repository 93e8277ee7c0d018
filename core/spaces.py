"""Discrete and continuous actions behind a few primitives, so that an algorithm's file has no branch on the kind of action.

Heads `h` are the outputs of a policy network, `avail` the mask of allowed actions, `u` uniforms on (0, 1). A value function `q`
takes K candidate actions per row, [..., K] or [..., K, D], and returns their values [..., K].

| primitive                  | Discrete(n)                 | Box(d)                                           |
|----------------------------|-----------------------------|--------------------------------------------------|
| encode(a)                  | one-hot                     | a                                                |
| log_prob(h, a, avail)      | masked log-softmax          | tanh-Gaussian                                    |
| mode(h, avail)             | masked argmax               | tanh(mean)                                       |
| around(x, std)             | x, the heads                | heads of tanh(x), a policy without a std, and std|
| sample(h, avail, u)        | inverse CDF at u            | tanh(mean + std z), z the normal quantile of u   |
| support(h, avail, u)       | all actions, probabilities  | K samples, 1/K each                              |
| expect(q, h, avail, u)     | exact sum over the support  | mean over K samples                              |
| logsumexp(q, h, avail, u)  | exact, over avail actions   | importance-sampled: half uniform, half policy    |
| best(q, h, avail, u)       | argmax over avail actions   | cross-entropy method                             |
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

ILLEGAL = -1e9  # logit of a forbidden action: its probability is exactly 0, its log-probability finite
EDGE = 1 - 1e-6  # tanh-Gaussian densities are evaluated inside (-1, 1), where atanh is finite in float32
LOG_STD = (-5.0, 2.0)  # range of the Gaussian's log standard deviation
ELITES, START_STD = 0.25, 0.5  # cross-entropy method: share of candidates kept, spread of the first round

Value = Callable[[Tensor], Tensor]


class Discrete(NamedTuple):
    """n actions: int64 [...]; heads are logits [..., n]; avail [..., n] bool."""

    n: int

    kind = "discrete"
    params_dim = property(lambda self: self.n, doc="Width of a policy head.")
    action_dim = property(lambda self: self.n, doc="Width of an encoded action.")
    avail_dim = property(lambda self: self.n, doc="Width of the mask of allowed actions.")
    noise_shape = property(lambda self: (), doc="Trailing shape of the uniforms that one `sample` takes.")

    def sample_noise_shape(self, k: int) -> tuple[int, ...]:
        """Trailing shape of the uniforms for an expectation over k samples: none, it is exact."""
        return (0,)

    def logp(self, h: Tensor, avail: Tensor) -> Tensor:
        """Log-probabilities of all actions [..., n]."""
        return torch.log_softmax(torch.where(avail, h, ILLEGAL), -1)

    def all(self, h: Tensor) -> Tensor:
        """Every action, for every row of h: [..., n]."""
        return torch.arange(self.n, device=h.device).expand(h.shape)

    def encode(self, a: Tensor) -> Tensor:
        return (a[..., None] == torch.arange(self.n, device=a.device)).to(torch.get_default_dtype())

    def log_prob(self, h: Tensor, a: Tensor, avail: Tensor) -> Tensor:
        logp = self.logp(h, avail)
        rows = torch.broadcast_shapes(logp.shape[:-1], a.shape)
        return logp.expand(*rows, self.n).gather(-1, a.expand(rows)[..., None])[..., 0]

    def mode(self, h: Tensor, avail: Tensor) -> Tensor:
        return torch.where(avail, h, ILLEGAL).argmax(-1)

    def around(self, x: Tensor, std: float) -> Tensor:
        return x

    def sample(self, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        cdf = self.logp(h, avail).exp().cumsum(-1)
        return (cdf <= u[..., None] * cdf[..., -1:]).sum(-1)

    def support(self, h: Tensor, avail: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        return self.all(h), self.logp(h, avail).exp()

    def expect(self, q: Value, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        a, p = self.support(h, avail, u)
        return (p * q(a)).sum(-1)

    def logsumexp(self, q: Value, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        return torch.where(avail, q(self.all(h)), ILLEGAL).logsumexp(-1)

    def best(self, q: Value, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        return torch.where(avail, q(self.all(h)), ILLEGAL).argmax(-1)


class Box(NamedTuple):
    """Actions in [-1, 1]^d: float [..., d]; heads are means and log standard deviations [..., 2d] before the tanh."""

    d: int

    kind = "continuous"
    params_dim = property(lambda self: 2 * self.d, doc="Width of a policy head.")
    action_dim = property(lambda self: self.d, doc="Width of an encoded action.")
    avail_dim = property(lambda self: 1, doc="Width of the mask of allowed actions.")
    noise_shape = property(lambda self: (self.d,), doc="Trailing shape of the uniforms that one `sample` takes.")

    def sample_noise_shape(self, k: int) -> tuple[int, ...]:
        """Trailing shape of the uniforms for an expectation over k samples."""
        return (k, self.d)

    def gaussian(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation before the tanh, [..., d] each."""
        mean, log_std = h.chunk(2, -1)
        return mean, log_std.clamp(*LOG_STD)

    def encode(self, a: Tensor) -> Tensor:
        return a

    def log_prob(self, h: Tensor, a: Tensor, avail: Tensor) -> Tensor:
        # log N(x; mean, std) - log(1 - tanh(x)^2), x = atanh(a)
        mean, log_std = self.gaussian(h)
        a = a.clamp(-EDGE, EDGE)
        z = (torch.atanh(a) - mean) * (-log_std).exp()
        return (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi) - torch.log1p(-(a**2))).sum(-1)

    def mode(self, h: Tensor, avail: Tensor) -> Tensor:
        return torch.tanh(self.gaussian(h)[0])

    def around(self, x: Tensor, std: float) -> Tensor:
        return torch.cat([x, torch.full_like(x, math.log(std))], -1)

    def sample(self, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        mean, log_std = self.gaussian(h)
        return torch.tanh(mean + log_std.exp() * torch.special.ndtri(u))

    def support(self, h: Tensor, avail: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        a = self.sample(h[..., None, :], avail, u)
        return a, torch.full_like(a[..., 0], 1 / a.shape[-2])

    def expect(self, q: Value, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        a, p = self.support(h, avail, u)
        return (p * q(a)).sum(-1)

    def logsumexp(self, q: Value, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        # log of the integral of exp q over the box: E_p[exp(q) / p], p uniform for the first half, the policy for the second
        half = u.shape[-2] // 2
        uniform, policy = 2 * u[..., :half, :] - 1, self.support(h, avail, u[..., half:, :])[0]
        log_p = self.log_prob(h[..., None, :], policy, avail)
        halves = (q(uniform) + self.d * math.log(2) - math.log(half), q(policy) - log_p - math.log(u.shape[-2] - half))
        return torch.cat(halves, -1).logsumexp(-1) - math.log(2)

    def best(self, q: Value, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        # u [..., rounds, K, d]: each round refits a Gaussian to the best quarter of its candidates
        mean = self.mode(h, avail)
        std = torch.full_like(mean, START_STD)
        for r in range(u.shape[-3]):
            a = (mean[..., None, :] + std[..., None, :] * torch.special.ndtri(u[..., r, :, :])).clamp(-1, 1)
            top = q(a).topk(max(2, int(ELITES * a.shape[-2])), -1).indices
            elite = a.gather(-2, top[..., None].expand(*top.shape, self.d))
            mean, std = elite.mean(-2), elite.std(-2)
        return mean


def noisy_logsumexp(values: list[Value], means: list[Tensor], u: Tensor, std: float, correction: str) -> Tensor:
    """log sum (exp q(a) / density(a)) as published codes of conservative Q-learning estimate it over a box, [...].

    Three sets of candidates, each with a value function q of its own: uniform ones, then means [..., d] with noise of that std, clipped.
    u [..., 3 K, d]. correction: "log" subtracts the log-density of the noise, "density" the density itself, "crossed" the other set's
    log-density (the latter two are slips of those codes).
    """
    uniform, *noise = u.unflatten(-2, (3, -1)).unbind(-3)
    noise = [std * torch.special.ndtri(x) for x in noise]
    log_p = [(-0.5 * (x / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)).sum(-1) for x in noise]
    if correction == "density":
        log_p = [x.exp() for x in log_p]
    elif correction == "crossed":
        log_p = log_p[::-1]
    near = [q((m[..., None, :] + x).clamp(-1, 1)) - p for q, m, x, p in zip(values[1:], means, noise, log_p)]
    return torch.cat([values[0](2 * uniform - 1) + u.shape[-1] * math.log(2), *near], -1).logsumexp(-1)
