"""Discrete and continuous actions behind one set of primitives, so that a loss is written once for both kinds.

An algorithm's file branches on the kind of action only where the kinds have different methods, estimators or networks.

Action parameters `h` are the outputs of a stochastic policy network: logits, or means and log standard deviations. `m` are the
outputs of a policy network without a standard deviation: logits, or means before the tanh. `avail` is the mask of available actions,
`u` are uniform random numbers on (0, 1). A value function `q` takes K candidate actions per row, [..., K] or [..., K, D], and returns
their values [..., K].

| primitive                  | Discrete(n)                         | Box(d)                                               |
|----------------------------|-------------------------------------|------------------------------------------------------|
| encode(a)                  | one-hot                             | a                                                    |
| log_prob(h, a, avail)      | masked log-softmax                  | tanh-Gaussian                                        |
| mode(h, avail)             | masked argmax                       | tanh(mean)                                           |
| sample(h, avail, u)        | inverse CDF at u                    | tanh(mean + std z), z the normal quantile of u       |
| kl(h, other, avail)        | exact                               | exact: the tanh does not change it                   |
| support(h, avail, u)       | all actions, probabilities          | K samples, 1/K each                                  |
| mix_uniform(h, epsilon)    | (1 - epsilon) softmax + epsilon / n | h, unchanged                                         |
| expect(q, h, avail, u)     | exact sum over the support          | mean over K samples                                  |
| entropy(h, avail, u)       | exact                               | mean over K samples                                  |
| logsumexp(q, h, avail, u)  | exact, over available actions       | importance-sampled: half uniform, half policy        |
| point(m, avail)            | masked argmax                       | tanh(m)                                              |
| around(m, std)             | m, the logits                       | parameters of the tanh-Gaussian with means m and std |
| uniform(avail, u)          | uniform over available actions      | 2 u - 1                                              |
| is_available(a, avail)     | the mask at a                       | true                                                 |
| where(condition, a, other) | a or other, per row                 | a or other, per row                                  |
| nearest(x), action_at(x)   | x is an action's number             | x is an action, to be clipped to the box             |
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

MASKED = -1e9  # in place of what a softmax or an argmax must not choose: its probability is exactly 0, its logarithm finite
EDGE = 1 - 1e-6  # tanh-Gaussian densities are evaluated inside (-1, 1), where atanh is finite in float32
LOG_STD = (-5.0, 2.0)  # range of the Gaussian's log standard deviation
MIN_STD = math.exp(LOG_STD[0])  # smallest standard deviation, of policies that have none of their own

Value = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Discrete:
    """n actions: int64 [...]. Action parameters are logits [..., n]; avail [..., n] bool."""

    n: int

    kind: ClassVar[str] = "discrete"
    params_dim = property(lambda self: self.n, doc="Width of the action parameters.")
    action_dim = property(lambda self: self.n, doc="Width of an encoded action.")
    avail_dim = property(lambda self: self.n, doc="Width of the mask of available actions.")
    noise_shape = property(lambda self: (), doc="Trailing shape of the uniforms that one `sample` takes.")
    coordinates_dim = property(lambda self: 1, doc="Width of the coordinates of an action, see `nearest`.")

    def sample_noise_shape(self, k: int) -> tuple[int, ...]:
        """Trailing shape of the uniforms for an expectation over k samples: none, it is exact."""
        return (0,)

    def logp(self, h: Tensor, avail: Tensor) -> Tensor:
        """Log-probabilities of all actions [..., n]."""
        return torch.log_softmax(torch.where(avail, h, MASKED), -1)

    def all(self, h: Tensor) -> Tensor:
        """Every action, for every row of h: [..., n]."""
        return torch.arange(self.n, device=h.device).expand(h.shape)

    def encode(self, a: Tensor) -> Tensor:
        return (a[..., None] == torch.arange(self.n, device=a.device)).to(torch.get_default_dtype())

    def log_prob(self, h: Tensor, a: Tensor, avail: Tensor) -> Tensor:
        logp = self.logp(h, avail)
        rows = torch.broadcast_shapes(logp.shape[:-1], a.shape)
        return logp.expand(*rows, self.n).gather(-1, a.expand(rows)[..., None])[..., 0]

    def kl(self, h: Tensor, other: Tensor, avail: Tensor) -> Tensor:
        log_p = self.logp(h, avail)
        return (log_p.exp() * (log_p - self.logp(other, avail))).sum(-1)

    def mode(self, h: Tensor, avail: Tensor) -> Tensor:
        return torch.where(avail, h, MASKED).argmax(-1)

    def point(self, m: Tensor, avail: Tensor) -> Tensor:
        return self.mode(m, avail)

    def around(self, m: Tensor, std: float) -> Tensor:
        return m

    def mix_uniform(self, h: Tensor, epsilon: float) -> Tensor:
        if epsilon == 0:
            return h
        return ((1 - epsilon) * h.softmax(-1) + epsilon / self.n).log()

    def uniform(self, avail: Tensor, u: Tensor) -> Tensor:
        return self.sample(torch.zeros_like(avail, dtype=u.dtype), avail, u)

    def is_available(self, a: Tensor, avail: Tensor) -> Tensor:
        return avail.expand(*a.shape, self.n).gather(-1, a[..., None])[..., 0]

    def where(self, condition: Tensor, a: Tensor, other: Tensor) -> Tensor:
        return torch.where(condition, a, other)

    def nearest(self, x: Tensor) -> Tensor:
        """The coordinates [..., 1] of the action whose number is nearest to x [..., 1]."""
        return x.round().clamp(0, self.n - 1)

    def action_at(self, x: Tensor) -> Tensor:
        """The action with the coordinates x [..., 1]."""
        return x[..., 0].long()

    def sample(self, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        cdf = self.logp(h, avail).exp().cumsum(-1)
        return (cdf <= u[..., None] * cdf[..., -1:]).sum(-1)

    def support(self, h: Tensor, avail: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        return self.all(h), self.logp(h, avail).exp()

    def expect(self, q: Value, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        a, p = self.support(h, avail, u)
        return (p * q(a)).sum(-1)

    def entropy(self, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        log_p = self.logp(h, avail)
        return -(log_p.exp() * log_p).sum(-1)

    def logsumexp(self, q: Value, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        return torch.where(avail, q(self.all(h)), MASKED).logsumexp(-1)


@dataclass(frozen=True)
class Box:
    """Actions in [-1, 1]^d: float [..., d]. Action parameters are means and log standard deviations before the tanh [..., 2d];
    avail [..., 1] bool is true."""

    d: int

    kind: ClassVar[str] = "continuous"
    params_dim = property(lambda self: 2 * self.d, doc="Width of the action parameters.")
    action_dim = property(lambda self: self.d, doc="Width of an encoded action.")
    avail_dim = property(lambda self: 1, doc="Width of the mask of available actions.")
    noise_shape = property(lambda self: (self.d,), doc="Trailing shape of the uniforms that one `sample` takes.")
    coordinates_dim = property(lambda self: self.d, doc="Width of the coordinates of an action, see `nearest`.")

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

    def kl(self, h: Tensor, other: Tensor, avail: Tensor) -> Tensor:
        (mean, log_std), (mean_2, log_std_2) = self.gaussian(h), self.gaussian(other)
        ratio = 2 * (log_std - log_std_2)
        return 0.5 * (ratio.exp() - ratio - 1 + ((mean - mean_2) * (-log_std_2).exp()) ** 2).sum(-1)

    def mode(self, h: Tensor, avail: Tensor) -> Tensor:
        return torch.tanh(self.gaussian(h)[0])

    def point(self, m: Tensor, avail: Tensor) -> Tensor:
        return torch.tanh(m)

    def around(self, m: Tensor, std: float) -> Tensor:
        return torch.cat([m, torch.full_like(m, math.log(std))], -1)

    def mix_uniform(self, h: Tensor, epsilon: float) -> Tensor:
        return h

    def uniform(self, avail: Tensor, u: Tensor) -> Tensor:
        return 2 * u - 1

    def is_available(self, a: Tensor, avail: Tensor) -> Tensor:
        return avail[..., 0].expand(a.shape[:-1])

    def where(self, condition: Tensor, a: Tensor, other: Tensor) -> Tensor:
        return torch.where(condition[..., None], a, other)

    def nearest(self, x: Tensor) -> Tensor:
        """The coordinates [..., d] of the action that is nearest to x [..., d]: it is its own coordinates."""
        return x.clamp(-1, 1)

    def action_at(self, x: Tensor) -> Tensor:
        """The action with the coordinates x [..., d]."""
        return x

    def sample(self, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        mean, log_std = self.gaussian(h)
        return torch.tanh(mean + log_std.exp() * torch.special.ndtri(u))

    def sampled_log_prob(self, h: Tensor, u: Tensor) -> Tensor:
        """log_prob of `sample(h, avail, u)`, exact also where the tanh rounds to 1 and `log_prob` cannot know the sample."""
        # log N(x; mean, std) - log(1 - tanh(x)^2), x = mean + std z; the latter is 2 (log 2 - x - softplus(-2 x))
        mean, log_std = self.gaussian(h)
        z = torch.special.ndtri(u)
        x = mean + log_std.exp() * z
        slope = 2 * (math.log(2) - x - F.softplus(-2 * x))
        return (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi) - slope).sum(-1)

    def support(self, h: Tensor, avail: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        a = self.sample(h[..., None, :], avail, u)
        return a, torch.full_like(a[..., 0], 1 / a.shape[-2])

    def expect(self, q: Value, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        a, p = self.support(h, avail, u)
        return (p * q(a)).sum(-1)

    def entropy(self, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        return -self.sampled_log_prob(h[..., None, :], u).mean(-1)

    def logsumexp(self, q: Value, h: Tensor, avail: Tensor, u: Tensor) -> Tensor:
        # log of the integral of exp q over the box: E_p[exp(q) / p], p uniform for the first half, the policy for the second
        half = u.shape[-2] // 2
        uniform = self.uniform(avail, u[..., :half, :])
        policy, _ = self.support(h, avail, u[..., half:, :])
        log_p = self.sampled_log_prob(h[..., None, :], u[..., half:, :])
        of_uniform = q(uniform) + self.d * math.log(2) - math.log(half)
        of_policy = q(policy) - log_p - math.log(u.shape[-2] - half)
        return torch.cat([of_uniform, of_policy], -1).logsumexp(-1) - math.log(2)
