"""Traced functions do the same operations, to the same bits, and none of them twice."""

import pytest
import torch
from torch.func import grad

from inspo_benchmark.learning import compiling, train
from inspo_benchmark.learning.tracing import trace


def names(traced) -> list[str]:
    return [str(node.target) for node in traced.graph.nodes if node.op == "call_function"]


def test_equal_operations_are_done_once():
    def loss(w, x):
        return ((x @ w).relu() ** 2).sum() + ((x @ w).relu() * 3).sum()

    w, x = torch.randn(4, 4), torch.randn(5, 4)
    traced = trace(lambda w, x: (loss(w, x), grad(loss)(w, x)), w, x)
    assert names(traced).count("aten.relu.default") == 1
    assert names(traced).count("aten.mm.default") == 3  # forward, and backward from each term
    w, x = torch.randn(4, 4), torch.randn(5, 4)
    value, slope = traced(w, x)
    assert torch.equal(value, loss(w, x))
    assert torch.equal(slope, grad(loss)(w, x))


def test_operations_that_differ_in_an_argument_are_not_merged():
    def f(x):
        return x.sum(0) + x.sum(1), torch.zeros(3), torch.zeros(3, dtype=torch.float64), x * 2, x * 2.5, x.clamp(min=1), x.clamp(max=1)

    x = torch.randn(3, 3)
    traced = trace(f, x)
    for a, b in zip(traced(x), f(x), strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


def test_compiled_code_of_another_user_is_not_run(tmp_path, monkeypatch, capsys):
    """The cache of compiled code is below /tmp, where anyone can make a folder of that name first."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiling.os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    prepared = train.prepare_update(lambda x: x * 2, (torch.ones(3),), train.COMPILE_FROM)
    assert isinstance(prepared, torch.fx.GraphModule)
    assert f"{tmp_path} belongs to another user" in capsys.readouterr().out


@pytest.mark.parametrize("through_a_view", [False, True])
def test_tensors_that_are_written_into_keep_their_own_memory(through_a_view):
    def f(x):
        a, b = torch.zeros(2, 3), torch.zeros(2, 3)  # equal, until one of them is changed
        before = a + x
        (a[0] if through_a_view else a).add_(x[0])
        after = a + x
        return before, after, b, x * 2, x * 2

    x = torch.randn(2, 3)
    traced = trace(f, x)
    for a, b in zip(traced(x), f(x), strict=True):
        assert torch.equal(a, b)
    assert names(traced).count("aten.mul.Tensor") == 1
