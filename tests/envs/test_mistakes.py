"""Seeds and actions of another number are one line, not memory that compiled code reads past its end."""

import numpy as np
import pytest

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import TASKS


@pytest.fixture(params=["3m-medium", "terran_5_vs_5-medium", "hopper_3x1-medium"])
def env(request):
    env = TASKS.discover()[request.param].make(3)
    yield env
    env.close()


@pytest.mark.parametrize(
    ("seeds", "says"),
    [([5], "1 seeds for 3 environments"), ([0, 1, -1], "seed=-1: "), ([0, 1, 2**64], "the largest one is"), ([0, 1, 0.5], "seed=0.5: ")],
)
def test_seeds(env, seeds, says):
    with pytest.raises(UserError, match=says):
        env.reset(seeds)


def test_actions(env):
    avail = env.reset([0, 1, 2]).avail
    act = avail.argmax(2) if avail.shape[2] > 1 else np.zeros(avail.shape)
    for wrong in (act[:1], np.concatenate([act, act]), act[0]):
        with pytest.raises(UserError, match="actions of shape"):
            env.step(wrong)
    env.step(act)
