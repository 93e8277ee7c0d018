"""The primitives of both kinds of action, against quadrature, fine grids and torch's distributions."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Independent, Normal, TanhTransform, TransformedDistribution

from inspo_benchmark.core.spaces import LOG_STD, Box, Discrete
from inspo_benchmark.learning.sampler import UNIFORM_BOUNDS
from support.toy import masks

pytestmark = pytest.mark.usefixtures("double")
FREE = torch.ones(1, dtype=torch.bool)  # the mask of a Box
HEADS = [(0.0, 0.0), (0.8, -0.7), (-0.6, -0.2)]  # mean and log standard deviation before the tanh, d = 1


def middle(k: int) -> torch.Tensor:
    """The middles of k equal parts of (0, 1): a mean over them is a quadrature."""
    return (torch.arange(k) + 0.5) / k


def bump(a):  # on [-1, 1], several extrema, no symmetry
    return (2 * torch.sin(4 * a + 1) + a)[..., 0]


GRID = 2 * middle(400_000)[:, None] - 1


# --- continuous


@pytest.mark.parametrize("head", HEADS)
def test_log_prob_is_torchs(head):
    h = torch.tensor([head, head]).T.flatten()  # d = 2
    a = torch.as_tensor(np.random.default_rng(0).uniform(-0.99, 0.99, (200, 2)))
    theirs = TransformedDistribution(Normal(h[:2], h[2:].exp()), TanhTransform())
    torch.testing.assert_close(Box(2).log_prob(h, a, FREE), Independent(theirs, 1).log_prob(a), rtol=1e-10, atol=1e-10)


def test_parameters_around_a_point():
    m, u = torch.tensor([[0.3, -1.2]]), torch.full((1, 2), 0.9)
    h = Box(2).around(m, 0.2)
    assert torch.equal(Box(2).mode(h, FREE), m.tanh())
    assert torch.equal(Box(2).point(m, FREE), m.tanh())
    torch.testing.assert_close(Box(2).sample(h, FREE, u), (m + 0.2 * torch.special.ndtri(u)).tanh())
    assert Discrete(2).around(m, 0.2) is m
    assert Discrete(2).point(m, torch.tensor([[False, True]])).tolist() == [1]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("other", HEADS)
def test_divergences_are_those_of_quadrature(head, other):
    p, q = (Box(1).log_prob(torch.tensor(x), GRID, FREE) for x in (head, other))
    assert Box(1).kl(torch.tensor(head), torch.tensor(other), FREE) == pytest.approx(float(2 * (p.exp() * (p - q)).mean()), abs=1e-4)
    wide = [torch.tensor([x[0], 0.1, x[1], -0.4]) for x in (head, other)]  # a second dimension in which they are equal
    torch.testing.assert_close(Box(2).kl(*wide, FREE), Box(1).kl(torch.tensor(head), torch.tensor(other), FREE))


def test_divergences_of_masked_distributions_are_torchs():
    rng = np.random.default_rng(2)
    avail = torch.as_tensor(masks(rng, 50, 4))
    h, other = torch.as_tensor(rng.normal(0, 2, (2, 50, 4)))
    p, q = (Categorical(logits=torch.where(avail, x, -torch.inf)).probs for x in (h, other))
    expected = torch.where(avail, p * (p.log() - q.log()), 0.0).sum(-1)
    torch.testing.assert_close(Discrete(4).kl(h, other, avail), expected)


@pytest.mark.parametrize("head", HEADS)
def test_densities_integrate_to_one(head):
    p = Box(1).log_prob(torch.tensor(head), GRID, FREE).exp()
    assert 2 * p.mean() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("head", HEADS)
def test_samples_have_the_density(head):
    """Sampled at the u-quantile, the density left of the action is u."""
    h, u = torch.tensor(head), middle(50)
    a = Box(1).sample(h, FREE, u[:, None])
    p = Box(1).log_prob(h, GRID, FREE).exp()
    below = (2 * p.cumsum(0) / len(GRID))[torch.searchsorted(GRID[:, 0], a[:, 0]) - 1]
    torch.testing.assert_close(below, u, rtol=0, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite(dtype):
    box, edge = Box(2), torch.tensor([[-1.0, 1.0], [1.0, 1.0], [0.0, -1.0]], dtype=dtype)
    for mean in (-20.0, 0.0, 20.0):
        for log_std in (-50.0, 0.0, 50.0):
            h = torch.tensor([mean, mean, log_std, log_std], dtype=dtype, requires_grad=True)
            logp = box.log_prob(h, edge, FREE)
            logp.sum().backward()
            assert logp.isfinite().all()
            assert h.grad.isfinite().all()
            for u in (*UNIFORM_BOUNDS, 0.5):
                assert (box.sample(h, FREE, torch.full((2,), u, dtype=dtype)).abs() <= 1).all()
    assert box.gaussian(torch.tensor([0.0, 0.0, -50.0, 50.0]))[1].tolist() == list(LOG_STD)


@pytest.mark.parametrize("head", HEADS)
def test_expectations_converge_to_quadrature(head):
    h = torch.tensor(head)
    exact = 2 * (Box(1).log_prob(h, GRID, FREE).exp() * bump(GRID)).mean()
    errors = [abs(Box(1).expect(bump, h, FREE, middle(k)[:, None]) - exact) for k in (10, 100, 10_000)]
    assert errors[2] < 1e-3
    assert errors[2] < errors[1] < errors[0]
    rng = np.random.default_rng(0)  # and for random draws within their error
    draws = Box(1).expect(bump, h, FREE, torch.as_tensor(rng.random((400, 64, 1))))
    assert abs(draws.mean() - exact) < 4 * draws.std() / 20


@pytest.mark.parametrize("head", HEADS)
def test_logsumexp_converges_to_quadrature(head):
    """Both halves are drawn: the first is uniform on the box, the second the policy's."""
    h, box = torch.tensor(head), Box(1)
    exact = (bump(GRID).exp().mean() * 2).log()
    errors = [abs(box.logsumexp(bump, h, FREE, torch.cat([middle(k), middle(k)])[:, None]) - exact) for k in (10, 100, 100_000)]
    assert errors[2] < 5e-3
    assert errors[2] < errors[0]


def test_each_half_of_logsumexp_counts():
    """Constant exp q = 1 on an interval: a half that is weighted wrongly would show although the other is right."""
    box, h, k = Box(2), torch.tensor([0.3, -0.2, -0.5, 0.1]), 40_000
    u = torch.as_tensor(np.random.default_rng(0).random((2 * k, 2)))
    seen = []

    def q(a):
        seen.append(a)
        return (a * torch.tensor([1.0, -2.0])).sum(-1)

    value = box.logsumexp(q, h, FREE, u)
    exact = math.log(2 * math.sinh(1)) + math.log(math.sinh(2))
    assert value == pytest.approx(exact, abs=0.02)
    uniform, policy = seen
    assert uniform.shape == policy.shape == (k, 2)
    torch.testing.assert_close(uniform, 2 * u[:k] - 1)
    torch.testing.assert_close(policy, box.sample(h, FREE, u[k:]))
    odd = box.logsumexp(lambda a: torch.zeros(a.shape[:-1]), torch.zeros(4), FREE, u[:4001])  # halves of unequal size
    assert odd == pytest.approx(math.log(4), abs=0.05)


def test_samples_know_their_log_probability():
    """Where float32 rounds the tanh to 1, too: log cosh x = x - log 2 there."""
    box, u = Box(2), torch.as_tensor(np.random.default_rng(2).random((1000, 2)))
    for mean, log_std in (0.5, -0.3), (-1.0, 0.4):
        h = torch.tensor([mean, mean, log_std, log_std])
        torch.testing.assert_close(box.sampled_log_prob(h, u), box.log_prob(h, box.sample(h, FREE, u), FREE), rtol=0, atol=1e-6)
    for mean in 20.0, -40.0:
        h = torch.tensor([mean, mean, -1.0, -1.0])
        z = torch.special.ndtri(u)
        x = mean + math.exp(-1) * z
        exact = (-0.5 * z**2 + 1 - 0.5 * math.log(2 * math.pi) + 2 * (x.abs() - math.log(2))).sum(-1)
        torch.testing.assert_close(box.sampled_log_prob(h, u), exact, rtol=0, atol=1e-9)
        torch.testing.assert_close(box.sampled_log_prob(h.float(), u.float()), exact.float(), rtol=1e-5, atol=1e-4)
        assert box.entropy(h, FREE, u) == pytest.approx(-float(exact.mean()))


@pytest.mark.parametrize("mean", [7.0, 10.0, 30.0])
def test_saturated_policies_do_not_inflate_the_logsumexp(mean):
    """Their samples add nothing to half of the integral, which the uniform candidates estimate."""
    u = torch.as_tensor(np.random.default_rng(0).random((4000, 1)))
    lse = Box(1).logsumexp(lambda a: a[..., 0], Box(1).around(torch.tensor([mean]), 0.2), FREE, u)
    assert lse == pytest.approx(math.log((math.e - 1 / math.e) / 2), abs=0.03)


# --- discrete


def action_params(rows: int, n: int = 4):
    rng = np.random.default_rng(0)
    return torch.as_tensor(rng.normal(0, 2, (rows, n))), torch.as_tensor(masks(rng, rows, n))


def test_masked_distributions_are_torchs():
    h, avail = action_params(200)
    theirs = Categorical(logits=torch.where(avail, h, -torch.inf))
    for a in range(4):
        act = torch.full((200,), a)
        ok = avail[:, a]
        ours = Discrete(4).log_prob(h, act, avail)
        torch.testing.assert_close(ours[ok], theirs.log_prob(act)[ok], rtol=0, atol=1e-12)
        assert ours.isfinite().all()
        assert (ours[~ok].exp() == 0).all()


def test_discrete_sums_are_exact():
    h, avail = action_params(200)
    values = torch.as_tensor(np.random.default_rng(1).normal(0, 9, (200, 4)))
    space, u = Discrete(4), torch.zeros(200, 0)

    def q(a):
        return values.gather(-1, a)

    p = torch.where(avail, h.exp(), 0)
    p = p / p.sum(-1, keepdim=True)
    torch.testing.assert_close(space.expect(q, h, avail, u), (p * values).sum(-1), rtol=0, atol=1e-12)
    torch.testing.assert_close(space.logsumexp(q, h, avail, u), torch.where(avail, values.exp(), 0).sum(-1).log(), rtol=0, atol=1e-10)
    entropy = -torch.where(avail, p * p.clamp(min=1e-300).log(), 0).sum(-1)
    torch.testing.assert_close(space.entropy(h, avail, u), entropy, rtol=0, atol=1e-12)
    assert torch.equal(space.mode(h, avail), torch.where(avail, h, -torch.inf).argmax(-1))


def test_samples_have_their_probabilities():
    h, avail = action_params(50)
    k = 20_000
    a = Discrete(4).sample(h, avail, middle(k)[:, None].expand(k, 50))
    counts = torch.stack([(a == i).sum(0) for i in range(4)], -1) / k
    p = torch.where(avail, h.exp(), 0)
    torch.testing.assert_close(counts, p / p.sum(-1, keepdim=True), rtol=0, atol=1.01 / k)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("u", [*UNIFORM_BOUNDS, 0.5])
def test_illegal_actions_are_never_drawn(dtype, u):
    for scale in (0.0, 1.0, 100.0):
        h, avail = action_params(3000, 11)
        h = (scale * h).to(dtype)
        a = Discrete(11).sample(h, avail, torch.full((3000,), u, dtype=dtype))
        assert avail.gather(-1, a[:, None]).all()
        assert avail.gather(-1, Discrete(11).mode(h, avail)[:, None]).all()


# --- both


@pytest.mark.parametrize("space", [Discrete(4), Box(3)], ids=["discrete", "continuous"])
def test_candidates_broadcast(space):
    """Candidates [..., K] against heads [..., 1, head] are the K log-probabilities one by one, whatever stands in front."""
    g = torch.Generator().manual_seed(0)
    h = torch.randn(5, 2, space.params_dim, generator=g)
    avail = torch.ones(5, 2, space.avail_dim, dtype=torch.bool)
    avail[0, 0, 0] = space.kind == "continuous"
    a, p = space.support(h, avail, torch.rand(5, 2, *space.sample_noise_shape(6), generator=g))
    k = 4 if space.kind == "discrete" else 6
    assert a.shape == (5, 2, k, *space.noise_shape)
    assert p.shape == (5, 2, k)
    torch.testing.assert_close(p.sum(-1), torch.ones(5, 2))
    together = space.log_prob(h[..., None, :], a, avail[..., None, :])
    for i in range(k):
        torch.testing.assert_close(space.log_prob(h, a.select(2, i), avail), together[..., i], rtol=0, atol=1e-12)
    more = space.log_prob(h, a.movedim(2, 0), avail)  # candidates in front
    torch.testing.assert_close(more.movedim(0, -1), together, rtol=0, atol=1e-12)
    if space.kind == "discrete":
        torch.testing.assert_close(together.exp(), p, rtol=0, atol=1e-12)


@pytest.mark.parametrize("space", [Discrete(4), Box(3)], ids=["discrete", "continuous"])
def test_the_same_uniform_is_the_same_action(space):
    g = torch.Generator().manual_seed(0)
    h, u = torch.randn(100, space.params_dim, generator=g), torch.rand(100, *space.noise_shape, generator=g)
    avail = torch.ones(100, space.avail_dim, dtype=torch.bool)
    before = torch.get_rng_state()
    a = space.sample(h, avail, u)
    assert torch.equal(a, space.sample(h, avail, u))
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(a, space.sample(h, avail, 1 - u))
    assert a.shape == (100, *space.noise_shape)
    for i in range(10):
        assert torch.equal(a[i], space.sample(h[i], avail[i], u[i]))


def test_encode():
    assert Discrete(3).encode(torch.tensor([[2, 0]])).tolist() == [[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]
    assert Discrete(3).encode(torch.tensor(1)).dtype == torch.get_default_dtype()
    a = torch.rand(2, 3)
    assert torch.equal(Box(3).encode(a), a)
    for space in (Discrete(3), Box(3)):
        assert space.encode(space.mode(torch.zeros(7, space.params_dim), torch.ones(7, space.avail_dim, dtype=torch.bool))).shape == (
            7,
            space.action_dim,
        )


def test_mode_of_a_box_is_the_limit_of_no_spread():
    h = torch.tensor([0.4, -2.0, -5.0, -5.0])
    assert torch.equal(Box(2).mode(h, FREE), torch.tanh(h[:2]))
    assert torch.equal(Box(2).mode(h, FREE), Box(2).sample(h, FREE, torch.full((2,), 0.5)))


# --- what the value-based methods need


def test_uniform_actions_fill_the_space():
    avail, u = torch.tensor([True, False, True, True]), middle(300)
    a = Discrete(4).uniform(avail.expand(300, 4), u)
    assert a.bincount(minlength=4).tolist() == [100, 0, 100, 100]
    torch.testing.assert_close(Box(1).uniform(FREE, u[:, None]), torch.linspace(-1, 1, 601)[1::2, None])


def test_uniform_actions_are_mixed_in():
    h = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    mixed = Discrete(3).mix_uniform(h, 0.3)
    torch.testing.assert_close(mixed.exp(), 0.7 * h.softmax(-1) + 0.1)
    assert Discrete(3).mix_uniform(h, 0.0) is h
    assert Box(1).mix_uniform(h, 0.3) is h


def test_availability_of_candidates():
    avail = torch.tensor([[True, False, True], [False, True, True]])
    a = torch.tensor([[0, 1, 2, 1], [0, 1, 2, 0]])
    ours = Discrete(3).is_available(a, avail[:, None])
    assert ours.tolist() == [[True, False, True, False], [False, True, True, False]]
    assert Box(2).is_available(torch.zeros(2, 4, 2), torch.ones(2, 1, 1, dtype=torch.bool)).tolist() == [[True] * 4] * 2


@pytest.mark.parametrize("space", [Discrete(4), Box(3)], ids=["discrete", "continuous"])
def test_actions_are_chosen_row_by_row(space):
    g = torch.Generator().manual_seed(0)
    avail = torch.ones(6, space.avail_dim, dtype=torch.bool)
    a, other = (space.uniform(avail, torch.rand(6, *space.noise_shape, generator=g)) for _ in range(2))
    condition = torch.arange(6) % 2 == 0
    chosen = space.where(condition, a, other)
    for i in range(6):
        assert torch.equal(chosen[i], a[i] if i % 2 == 0 else other[i])


def test_the_nearest_action():
    x = torch.tensor([[-3.0], [0.4], [1.6], [9.0]])
    assert Discrete(3).action_at(Discrete(3).nearest(x)).tolist() == [0, 0, 2, 2]
    assert Box(1).action_at(Box(1).nearest(x)).tolist() == [[-1.0], [x[1].item()], [1.0], [1.0]]
    for space in (Discrete(3), Box(2)):
        assert space.nearest(torch.zeros(5, space.coordinates_dim)).shape == (5, space.coordinates_dim)
