"""Functions of tensors as flat lists of operations, without the dispatch of vmap and grad, and without operations that are done twice."""

from collections.abc import Callable
from typing import Any

import torch
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg
from torch.utils._pytree import tree_flatten


def trace(function: Callable, *example: Any) -> GraphModule:
    """The operations of `function` on inputs with the shapes of the example. It gives the same bits as the function."""
    with tracing(TracingContext(FakeTensorMode())):  # without it, a mode is made for every operation, in as much time again
        traced = make_fx(function)(*example)
    place_numbers(traced.graph, next(x.device for x in tree_flatten(example)[0]))
    merge_equal_operations(traced.graph)
    traced.recompile()
    return traced


def place_numbers(graph: Graph, device: torch.device) -> None:
    """Make the tensors of plain numbers on this device. They are made on the CPU otherwise, and a GPU waits for each of them."""
    for node in graph.nodes:
        if node.target is torch.ops.aten.scalar_tensor.default:
            node.update_kwarg("device", device)


def merge_equal_operations(graph: Graph) -> None:
    """Do each operation once: a network that several losses call on the same inputs, the parameters that each call unpacks, a target."""
    changed = overwritten(graph)
    first: dict[str, Node] = {}
    for node in list(graph.nodes):
        if node.op == "call_function" and node not in changed:
            name = map_arg((node.args, dict(node.kwargs)), lambda x: f"%{x.name}")
            same = first.setdefault(repr((str(node.target), name)), node)
            if same is not node:
                node.replace_all_uses_with(same)
                graph.erase_node(node)
    graph.eliminate_dead_code()


def overwritten(graph: Graph) -> set[Node]:
    """Tensors that an operation writes into, those that share their memory, and all that is made of them."""
    found: set[Node] = set()
    todo = [x for node in graph.nodes for x in written(node)]
    while todo:
        node = todo.pop()
        if node not in found:
            found.add(node)
            todo += [*node.users, *(written(node) or (node.all_input_nodes if is_view(node) else []))]
    return found


def written(node: Node) -> list[Node]:
    """The inputs that an operation writes into."""
    schema = getattr(node.target, "_schema", None)
    if schema is None or not schema.is_mutable:
        return []
    given = {**{x.name: value for x, value in zip(schema.arguments, node.args)}, **node.kwargs}
    targets = [given.get(x.name) for x in schema.arguments if x.alias_info and x.alias_info.is_write]
    return [target for target in targets if isinstance(target, Node)]


def is_view(node: Node) -> bool:
    """Whether a tensor that the operation returns may share memory with its inputs."""
    schema = getattr(node.target, "_schema", None)
    return node.op == "call_function" and (schema is None or any(x.alias_info for x in schema.returns))
