"""Updates as CUDA graphs."""

import pytest
import torch
from torch.utils._pytree import tree_map

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning import train
from support.toy import SPACES, Lab, close

ALGORITHMS.discover()
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def on_gpu(tree):
    return tree_map(lambda x: x.cuda(), tree)


@pytest.mark.parametrize("kind", list(SPACES))
@pytest.mark.parametrize("algo", list(ALGORITHMS))
def test_the_graph_is_the_plain_step(algo, kind, double):
    lab = Lab(algo, kind, seeds=(3, 4))
    draws, start = on_gpu(lab.draws()), on_gpu(lab.init())
    for stage in lab.algorithm.stages():
        step = lab.algorithm.pack(2, stage)
        graph = train.prepare_update(step, (start, *draws[0]), train.TRACE_FROM)
        for _ in range(2):  # the second time from a state that the graph does not hold
            close(tree_map(torch.clone, lab.train(start, draws, graph)), lab.train(start, draws, step))


def test_what_was_logged_is_not_overwritten(double):
    lab = Lab("bc", "discrete", seeds=(3, 4))
    draws, state = on_gpu(lab.draws()), on_gpu(lab.init())
    graph = train.prepare_update(lab.algorithm.pack(2), (state, *draws[0]), train.TRACE_FROM)
    logged = []
    for inputs in draws:
        state, logs = graph(state, *inputs)
        value = next(iter(logs.values()))
        logged.append((value, value.clone()))
    assert all(torch.equal(kept, seen) for kept, seen in logged)
    assert len({float(kept[0]) for kept, _ in logged}) == len(draws)
