"""The optimisers are torch's, row by row."""

import pytest
import torch

from inspo_benchmark.learning.algorithm import put_agent_row
from inspo_benchmark.learning.optim import Adam, RMSprop

pytestmark = pytest.mark.usefixtures("double")
ROWS, WIDTH, STEPS = 3, 5, 20
THEIRS = {
    Adam: lambda p: torch.optim.Adam([p], lr=0.01, betas=(0.8, 0.95), eps=1e-3),
    RMSprop: lambda p: torch.optim.RMSprop([p], lr=0.01, alpha=0.9, eps=1e-3),
}
OURS = {Adam: Adam(0.01, 0.8, 0.95, 1e-3), RMSprop: RMSprop(0.01, 0.9, 1e-3)}


@pytest.mark.parametrize("kind", list(OURS))
@pytest.mark.parametrize("turns", ["together", "unequal"])
def test_every_row_is_an_optimiser_of_torch(kind, turns):
    g = torch.Generator().manual_seed(0)
    p, grads = torch.randn(ROWS, WIDTH, generator=g), torch.randn(STEPS, ROWS, WIDTH, generator=g)
    ours, slot = p, OURS[kind].slot(p)
    theirs = [row.clone().requires_grad_() for row in p]
    optimisers = [THEIRS[kind](row) for row in theirs]
    for k, grad in enumerate(grads):
        moving = range(ROWS) if turns == "together" else [min(k % 4, 2)]  # the last row has twice as many turns
        new = OURS[kind].step(ours, grad, slot)
        for i in moving:
            theirs[i].grad = grad[i].clone()
            optimisers[i].step()
        if turns == "together":
            ours, slot = new
        else:
            (i,) = moving
            ours = put_agent_row(i, new[0][i : i + 1], ours)
            slot = type(slot)(*(put_agent_row(i, a[i : i + 1], b) for a, b in zip(new[1], slot)))
        torch.testing.assert_close(ours, torch.stack([row.detach() for row in theirs]), rtol=0, atol=1e-12)
    assert (ours - p).abs().min() > 1e-4  # all have moved


@pytest.mark.parametrize(("kind", "torchs"), [(Adam, torch.optim.Adam), (RMSprop, None)])
def test_defaults(kind, torchs):
    """Adam's are torch's, RMSprop's are PyMARL's."""
    ours = kind(0.1)._asdict()
    if torchs is None:
        assert ours == dict(lr=0.1, alpha=0.99, eps=1e-5)
    else:
        theirs = torchs([torch.zeros(1)], lr=0.1).defaults
        assert ours == dict(lr=theirs["lr"], b1=theirs["betas"][0], b2=theirs["betas"][1], eps=theirs["eps"])


@pytest.mark.parametrize("kind", list(OURS))
def test_inputs_are_left_alone(kind):
    p, g = torch.ones(2, 3), torch.full((2, 3), 0.5)
    slot = OURS[kind].slot(p)
    OURS[kind].step(p, g, slot)
    assert torch.equal(p, torch.ones(2, 3))
    assert torch.equal(g, torch.full((2, 3), 0.5))
    assert all(not x.any() for x in slot)
