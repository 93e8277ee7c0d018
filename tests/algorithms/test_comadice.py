"""ComaDICE: the soft chi^2 divergence, fixed points of nu, values on XOR, and the methods it reduces to."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from torch.utils._pytree import tree_map

from inspo_benchmark.algorithms.comadice import conjugate, divergence_of_weight, weight
from inspo_benchmark.core.registry import ALGORITHMS
from support.toy import SPACES, Lab, close
from support.xor import DATA, PAYOFF, trained_value

ALGORITHMS.discover()
pytestmark = pytest.mark.usefixtures("double")
kinds = pytest.mark.parametrize("kind", list(SPACES))


def slope(function, *at):
    """The derivative of the sum of a function at numbers, by automatic differentiation."""
    at = [torch.tensor(x, requires_grad=True) for x in at]
    return torch.autograd.grad(function(*at).sum(), at)[0]


def test_the_divergence_at_three_numbers():
    y = torch.tensor([-1.0, 0.0, 1.0])
    close(weight(y), torch.tensor([np.exp(-1), 1.0, 2.0]))
    close(divergence_of_weight(y), torch.tensor([1 - 2 / np.e, 0.0, 0.5]))
    close(conjugate(y), torch.tensor([1 / np.e - 1, 0.0, 1.5]))
    close(slope(conjugate, [-3.0, -0.5, 0.5, 3.0]), weight(torch.tensor([-3.0, -0.5, 0.5, 3.0])))


def test_extreme_values_have_finite_gradients():
    at = [-1e4, 0.0, 1e4]
    for function in (weight, conjugate, divergence_of_weight):
        assert slope(function, at).isfinite().all()


def test_the_two_gradients_of_nu():
    """The published code's loss has the gradient of alpha f(w(y)), not that of alpha f*(y), which the paper derives."""
    k, alpha, shift, q = 0.7, 2.0, 0.3, torch.tensor([1.0, -2.0, 0.4, 5.0])

    def y(nu):
        return (k * (q - nu) - shift) / alpha

    def code(nu):  # as published: what multiplies w is detached
        e = (k * (q - nu) - shift).detach()
        return (weight(y(nu)) * e - alpha * divergence_of_weight(y(nu)).detach()).mean()

    assert slope(code, 0.2).item() == pytest.approx(-0.213415, abs=1e-6)
    assert slope(lambda nu: alpha * divergence_of_weight(y(nu)).mean(), 0.2).item() == pytest.approx(-0.213415, abs=1e-6)
    assert slope(lambda nu: alpha * conjugate(y(nu)).mean(), 0.2).item() == pytest.approx(-0.871786, abs=1e-6)


# alpha -> nu and the weights of Q = 0 and Q = 1, which are a third and two thirds of the data
FIXED_POINTS = {
    "code": {10: (0.6816, 0.9341, 1.0318), 1: (0.8194, 0.4407, 1.1806), 0.3: (0.9814, 0.038, 1.0621), 0.1: (1.0, 0.0, 1.0002)},
    "paper": {10: (0.6741, 0.9348, 1.0326), 1: (0.7388, 0.4777, 1.2612), 0.3: (0.8586, 0.0572, 1.4714), 0.1: (0.95, 0.0001, 1.5)},
}


@pytest.mark.parametrize("nu_gradient", FIXED_POINTS)
@pytest.mark.parametrize("alpha", [10, 1, 0.3, 0.1])
def test_fixed_points_of_nu(nu_gradient, alpha):
    """The gradient of the method's own loss vanishes there: one agent, k = 1."""
    nu, *w = FIXED_POINTS[nu_gradient][alpha]
    q = np.array([0.0, 1.0, 1.0])
    found = fixed_point(nu_gradient, alpha, q)
    assert found == pytest.approx(nu, abs=6e-5)
    np.testing.assert_allclose(weight(torch.as_tensor((q[:2] - found) / alpha)), w, atol=6e-5)
    assert nu_slope(nu_gradient, alpha, q, found) == pytest.approx(0, abs=1e-8)
    assert nu_slope(nu_gradient, alpha, q, found + 0.1) > 1e-3


def fixed_point(nu_gradient, alpha, q):
    """nu with mean w(y) = 1, the zero of the paper's gradient, or with mean w'(y) y = 0, that of the code's."""

    def gradient(nu):
        y = (q - nu) / alpha
        e = np.exp(np.minimum(y, 0))
        return (e * y if nu_gradient == "code" else e + np.maximum(y, 0) - 1).mean()

    return brentq(gradient, q.min() - 1, q.max() + 1, xtol=1e-14)


def nu_slope(nu_gradient, alpha, q, nu):
    """The gradient of the method's loss of nu, by one number nu, on rows of given values."""
    lab = Lab("comadice", "discrete", agents=1, alpha=alpha, nu_gradient=nu_gradient, batch_size=len(q), seq_len=1)
    batch, _ = lab.sampler.draw(0)
    b = batch._replace(mask=torch.ones_like(batch.mask))
    b = type(b)(*(x[0] for x in b))

    leaf = torch.tensor(float(nu), requires_grad=True)
    on = SimpleNamespace(nu=lambda obs: leaf.expand(*obs.shape[:-1], 1))
    values = torch.as_tensor(q).view(-1, 1, 1)
    loss = lab.algorithm.nu_loss(on, None, b, torch.ones_like(values), values)
    return torch.autograd.grad(loss, leaf)[0].item()


# --- limits


@kinds
@pytest.mark.parametrize("memory", ["mlp", "gru"])
def test_the_critic_is_omigas(kind, memory):
    ours, omiga = (Lab(algo, kind, network=memory) for algo in ("comadice", "omiga"))
    s, batch = ours.init(), ours.sampler.draw(0)[0]
    s, b = (type(x)(*(y if isinstance(y, dict) else y[0] for y in x)) for x in (s, batch))
    params, target = ({name: p[0] for name, p in x.items()} for x in (s.params, {k: 1.5 * v for k, v in s.target.items()}))
    ours.algorithm, theirs = ours.algorithm, omiga.algorithm
    s = s._replace(params=params, target=target)
    renamed = s._replace(params=params | {"v": params["nu"]}, target=target | {"v": target["nu"]})
    close(
        ours.algorithm.critic_loss(ours.algorithm.online(s), ours.algorithm.targets(s), b),
        theirs.critic_loss(theirs.online(renamed), theirs.targets(renamed), b),
    )


def test_below_zero_the_loss_of_nu_is_omigas_loss_of_v():
    """There f is w log w - w + 1, the divergence of OMIGA: the gradients differ by the factors alpha and exp M, which OMIGA divides by."""
    alpha, (ours, omiga) = 0.7, (Lab(algo, "discrete", alpha=0.7) for algo in ("comadice", "omiga"))
    b = tree_map(lambda x: x[0], ours.sampler.draw(0)[0])
    shape, rng = (*b.mask.shape, 3), np.random.default_rng(0)
    q, k = torch.as_tensor(rng.normal(size=shape)), torch.as_tensor(rng.uniform(0.5, 1.5, shape))
    nu = q + torch.as_tensor(rng.uniform(0.1, 2, shape))
    largest = (k * (q - nu) / alpha)[b.mask > 0].max()

    def gradient(loss, name):
        leaf = nu.clone().requires_grad_()
        return torch.autograd.grad(loss(SimpleNamespace(**{name: lambda obs: leaf[..., None]}), None, b, k, q), leaf)[0]

    theirs = alpha * largest.exp() * gradient(omiga.algorithm.value_loss, "v")
    assert -1 < largest < 0 < theirs.abs().max()
    close(gradient(ours.algorithm.nu_loss, "nu"), theirs)


@kinds
def test_actions_outside_the_data_play_no_part(kind):
    """Other policies give the same critics, nu and weights."""
    lab = Lab("comadice", kind)
    s, draws = lab.init(), lab.draws()
    other = s._replace(params={**s.params, "pi": s.params["pi"] + 1})
    (a, logs), (b, other_logs) = lab.train(s, draws), lab.train(other, draws)
    for name in ("q", "nu", "mix"):
        assert torch.equal(a.params[name], b.params[name])
    assert all(torch.equal(x["weight"], y["weight"]) for x, y in zip(logs, other_logs))
    assert not torch.equal(a.params["pi"], b.params["pi"])


# --- XOR: the product of the cloned policies, weighted by sums of local values

VALUES = {  # alpha -> value per step of the converged policies: team_weight "mean", "joint"
    "ab": {10: (1, 1), 1: (1, 1), 0.1: (1, 1)},
    "ab_ba": {10: (0, 0), 1: (0, 0), 0.1: (0, 0)},
    "aa_ab_ba": {10: (0.2184, 0.2145), 1: (0.1766, 0.1337), 0.1: (0.0001, 0)},
    "all": {10: (0.0241, 0.0464), 1: (0.1696, 0.2384), 0.1: (0.25, 0.0002)},
}
VALUES_OF_THE_CODE = {
    "aa_ab_ba": {10: (0.2184, 0.2145), 1: (0.1751, 0.1319), 0.1: (0, 0)},
    "all": {10: (0.0241, 0.0464), 1: (0.1725, 0.2428), 0.1: (0.25, 0.0001)},
}


def exact_value(data, alpha, nu_gradient, team_weight):
    """With the additive Q of least squares, k = 1 and gamma = 0."""
    joint = np.array(DATA[data])
    features = np.concatenate([np.eye(2)[joint[:, i]] for i in range(2)], 1)
    parts = np.linalg.lstsq(features, PAYOFF[tuple(joint.T)], rcond=None)[0].reshape(2, 2)
    y = np.empty(joint.shape)
    for i in range(2):
        q = parts[i, joint[:, i]]
        nu = q[0] if np.ptp(q) < 1e-9 else fixed_point(nu_gradient, alpha, q)
        y[:, i] = (q - nu) / alpha
    w = weight(torch.as_tensor(y.sum(1) if team_weight == "joint" else y)).numpy()
    w = w if team_weight == "joint" else w.mean(1)
    pi = [np.bincount(joint[:, i], w, 2) / w.sum() for i in range(2)]
    return pi[0] @ PAYOFF @ pi[1]


@pytest.mark.parametrize("data", list(VALUES))
def test_exact_values_on_xor(data):
    for nu_gradient, table in (("paper", VALUES), ("code", VALUES_OF_THE_CODE)):
        for alpha, values in table.get(data, {}).items():
            for team_weight, value in zip(("mean", "joint"), values):
                assert exact_value(data, alpha, nu_gradient, team_weight) == pytest.approx(value, abs=6e-5)


@pytest.mark.parametrize("data", list(VALUES))
def test_trained_values_on_xor(data):
    """The mixer's weights k scale alpha, so training is compared where they do not matter much: at a large alpha."""
    assert trained_value("comadice", data, alpha=10.0, num_updates=400) == pytest.approx(VALUES[data][10][0], abs=0.05)
