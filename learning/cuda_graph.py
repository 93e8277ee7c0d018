"""Updates as CUDA graphs. The host starts all kernels of an update at once; for small networks, starting one after the other takes longer
than the kernels themselves."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from inspo_benchmark.core.types import Batch, Draw, State

WARM_UP = 3  # calls before an update is captured, in which libraries allocate what they need


def graph_update(update: Callable, state: State, batch: Batch, draw: Draw) -> Callable:
    """`update` for inputs with the shapes of these, on a GPU. The next call overwrites the state that a call returns."""
    inputs = tree_map(torch.clone, (state, batch, draw))
    current, (own, structure), (minibatch, _) = inputs[0], tree_flatten(inputs[0]), tree_flatten(inputs[1:])
    memory = {x.untyped_storage().data_ptr() for x in own}

    def step() -> tuple[list[str], Tensor]:
        new, logs = update(*inputs)
        leaves = structure.flatten_up_to(new)  # by name: an update may return its networks in another order
        torch._foreach_copy_(own, [x.clone() if x.untyped_storage().data_ptr() in memory else x for x in leaves])
        return list(logs), torch.stack(list(logs.values()))

    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(own[0].device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                step()
        torch.cuda.current_stream().wait_stream(stream)
        with torch.cuda.graph(graph):
            names, logged = step()

    def call(state: State, *inputs: Batch | Draw) -> tuple[State, dict[str, Tensor]]:
        if state is not current:
            torch._foreach_copy_(own, structure.flatten_up_to(state))
        torch._foreach_copy_(minibatch, tree_flatten(inputs)[0])
        graph.replay()
        return current, dict(zip(names, logged.clone(), strict=True))

    return call
