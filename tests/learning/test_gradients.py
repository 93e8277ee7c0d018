"""How gradients are clipped."""

import pytest
import torch
from torch.utils._pytree import tree_map

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning.algorithm import clip_gradients
from support.toy import Lab

ALGORITHMS.discover()
pytestmark = pytest.mark.usefixtures("double")


def gradients(*rows_and_sizes):
    g = torch.Generator().manual_seed(0)
    return {f"net{k}": torch.randn(rows, size, generator=g) for k, (rows, size) in enumerate(rows_and_sizes)}


def test_each_agent_is_clipped_alone():
    grads = gradients((3, 40), (3, 7))
    scale = torch.tensor([0.01, 1.0, 100.0])[:, None]  # the first agent's norm is below 1
    grads = {name: scale * g for name, g in grads.items()}
    clipped = clip_gradients(grads, 1.0)
    norms = torch.cat(list(clipped.values()), 1).norm(dim=1)
    torch.testing.assert_close(norms[1:], torch.ones(2), rtol=0, atol=1e-5)
    for name, g in grads.items():
        assert torch.equal(clipped[name][0], g[0])
        torch.testing.assert_close(clipped[name] / clipped[name].norm(dim=1, keepdim=True), g / g.norm(dim=1, keepdim=True))


def test_an_agents_norm_is_over_all_networks_that_step_together():
    grads = gradients((3, 40), (3, 7))
    clipped = clip_gradients(grads, 1.0)
    norm = torch.cat(list(grads.values()), 1).norm(dim=1, keepdim=True)
    for name, g in grads.items():
        torch.testing.assert_close(clipped[name], g / norm, rtol=1e-5, atol=0)


def test_shared_networks_have_one_norm_of_their_own():
    grads = gradients((3, 40), (1, 50), (1, 9))
    grads["net0"] = 1e3 * grads["net0"]
    clipped = clip_gradients(grads, 1.0)
    norm = torch.cat([grads["net1"], grads["net2"]], 1).norm()
    for name in ("net1", "net2"):
        torch.testing.assert_close(clipped[name], grads[name] / norm, rtol=1e-5, atol=0)
    assert clip_gradients(gradients((1, 5)), 1e6)["net0"].equal(gradients((1, 5))["net0"])


@pytest.mark.parametrize("share", [False, True])
def test_a_large_gradient_of_one_agent_leaves_the_others_alone(share):
    """The first moments of Adam after one step are 1 - b1 times the clipped gradients."""
    lab = Lab("omar", "continuous", share_params=share, max_grad_norm=0.5)
    s = tree_map(lambda x: x[0], lab.init())

    def loss(on, tg, weight):
        obs = torch.ones(1, 1, 3, 4)
        return (weight * on.pi(obs).sum(-1)).sum()

    def moments(weight):
        after, _ = lab.algorithm.gradient_step(s, "pi", loss, torch.tensor(weight))
        return after.slots["pi"].m / 0.1

    calm, wild = moments([1e-3, 1e-3, 1e-3]), moments([1e-3, 1e-3, 1e3])
    assert wild[-1].norm() == pytest.approx(0.5, abs=1e-5)
    assert torch.equal(calm[:2], wild[:2]) == (not share)
    assert len(calm) == (1 if share else 3)
