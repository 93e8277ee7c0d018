"""Compiled updates are made once for the same operations; runs train to the same state packed and one after the other."""

import os
import shutil
import subprocess
import sys
import time

import pytest
import torch

from inspo_benchmark.core.registry import ALGORITHMS
from inspo_benchmark.learning import compiling, train
from inspo_benchmark.learning.compiling import Compilation, fingerprint, flattened
from support.toy import Lab, close, same

ALGORITHMS.discover()


def of(function, *example) -> str:
    flat, _ = flattened(function, *example)
    return fingerprint(flat, example)


def test_the_fingerprint_is_that_of_the_operations_their_constants_and_the_shapes():
    x = torch.randn(3, 4)
    numbers = [torch.arange(4.0), torch.arange(4.0) + 1]
    found = [
        of(lambda x: x * 2, x),
        of(lambda x: x * 3, x),
        of(lambda x: x + 2, x),
        of(lambda x: x * numbers[0], x),
        of(lambda x: x * numbers[1], x),
        of(lambda x: x * 2, x.double()),
        of(lambda x: x * 2, x[:2]),
        of(lambda x: x * 2, torch.randn(4, 3).T),
    ]
    assert len(set(found)) == len(found)
    assert of(lambda x: x * 2, x + 1) == found[0]


def test_what_a_flattened_update_returns_is_contiguous():
    flat, _ = flattened(lambda x: (x.T, x[:, 0].expand(2, 3)), torch.randn(3, 4))
    x = torch.randn(3, 4)
    for a, b in zip(flat(x), (x.T, x[:, 0].expand(2, 3)), strict=True):
        assert a.is_contiguous()
        assert torch.equal(a, b)


@pytest.mark.parametrize("algo", ["bc", "alberdice"])
def test_runs_train_one_after_the_other_as_they_train_packed(algo, double):
    lab = Lab(algo, "discrete", seeds=(3, 4, 9))
    start, turns = train.Checkpoint(lab.init(), [], {}), lab.algorithm.turns
    packed = train.run_updates(start, lab.algorithm.pack(3), lab.sampler, lab.calls, turns)
    apart = train.run_updates(start, lab.algorithm.pack(1), lab.sampler, lab.calls, turns, one_by_one=True)
    close(apart.state, packed.state)
    assert apart.calls == packed.calls
    for name, (total, calls) in packed.losses.items():
        close(apart.losses[name][0], total)
        assert apart.losses[name][1] == calls
    alone = train.run_updates(
        train.Checkpoint(lab.algorithm.init([4]), [], {}), lab.algorithm.pack(1), lab.for_seeds([4]), lab.calls, turns
    )
    assert same(alone.state.params, {name: x[1:2] for name, x in apart.state.params.items()})


def test_what_was_compiled_is_loaded_the_next_time(tmp_path, monkeypatch, capsys):
    """And compiled anew where the file is damaged."""
    monkeypatch.setattr(compiling, "folder", lambda: tmp_path)
    lab = Lab("bc", "discrete")
    example = lab.init(), *lab.sampler.draw(0)
    step = train.prepare_update(lab.algorithm.pack(1), example, train.COMPILE_FROM)
    if "compilation failed" in capsys.readouterr().out:
        pytest.skip("no compiler")
    [kept] = [x for x in tmp_path.iterdir() if not x.suffix]
    monkeypatch.setattr("torch._inductor.standalone_compile", None)  # from here on, nothing can be compiled
    again = train.prepare_update(lab.algorithm.pack(1), example, train.COMPILE_FROM)
    assert same(again(*example), step(*example))
    kept.write_bytes(b"nonsense")
    with pytest.raises(TypeError, match="NoneType"):
        train.prepare_update(lab.algorithm.pack(1), example, train.COMPILE_FROM)


def test_another_version_of_torch_trains_without_compiling(monkeypatch, capsys):
    import torch._inductor

    monkeypatch.delattr(torch._inductor, "CompiledArtifact")  # a name that torch does not promise to keep
    lab = Lab("bc", "discrete")
    example = lab.init(), *lab.sampler.draw(0)
    step = train.prepare_update(lab.algorithm.pack(1), example, train.COMPILE_FROM)
    assert "warning: compilation failed (cannot import name 'CompiledArtifact'" in capsys.readouterr().out
    assert same(step(*example), train.prepare_update(lab.algorithm.pack(1), example, train.TRACE_FROM)(*example))


MEANWHILE = """
import sys, torch, torch._inductor
from pathlib import Path
from inspo_benchmark.learning import compiling

compiling.folder = lambda: Path(sys.argv[1])
first, second = (compiling.Compilation(lambda x, factor=factor: x * factor, torch.ones(3)) for factor in (2, 3))
first.start()
compiler, torch._inductor.standalone_compile = torch._inductor.standalone_compile, None  # here, nothing can be compiled
assert first.child
assert first.finish()(torch.ones(3)).tolist() == [2, 2, 2]
assert not first.child
torch._inductor.standalone_compile = compiler
second.start()
assert not second.child  # this process has compiled
assert second.finish()(torch.ones(3)).tolist() == [3, 3, 3]
"""


@pytest.mark.skipif(sys.platform != "linux" or not any(map(shutil.which, ("c++", "g++", "clang++"))), reason="no process, or no compiler")
def test_another_process_compiles_meanwhile(tmp_path):
    subprocess.run([sys.executable, "-c", MEANWHILE, str(tmp_path)], check=True, timeout=300)


@pytest.mark.skipif(sys.platform != "linux", reason="no process")
def test_the_other_process_ends_with_an_interrupted_training(tmp_path, monkeypatch, capsys):
    """Its update is compiled where it is needed, if the process was killed."""
    monkeypatch.setattr(compiling, "folder", lambda: tmp_path)
    monkeypatch.setattr(compiling, "load_or_compile", lambda flat, leaves: time.sleep(600))
    monkeypatch.setattr(compiling, "compiled_here", False)
    begun = Compilation(lambda x: x * 2, torch.ones(3))
    begun.start()
    child = begun.child
    assert child
    begun.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)
    begun.start()
    monkeypatch.setattr(compiling, "MAX_SECONDS", 0.1)  # after which it is not waited for
    monkeypatch.setattr(compiling, "load_or_compile", lambda flat, leaves: flat)
    assert begun.finish()(torch.ones(3)).tolist() == [2, 2, 2]


def test_where_nothing_can_be_kept_training_goes_on_without(tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.setattr(compiling, "folder", lambda: tmp_path / "file" / "updates")
    step = train.prepare_update(lambda x: x * 2, (torch.ones(3),), train.COMPILE_FROM)
    assert f"cannot make {tmp_path / 'file'}: File exists; set TORCHINDUCTOR_CACHE_DIR" in capsys.readouterr().out
    assert step(torch.ones(3)).tolist() == [2, 2, 2]


def test_nor_does_a_lock_that_cannot_be_made_stop_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(compiling, "folder", lambda: tmp_path)
    monkeypatch.setattr(compiling, "fingerprint", lambda *about: "update")
    (tmp_path / "update.lock").mkdir()
    step = train.prepare_update(lambda x: x * 2, (torch.ones(3),), train.COMPILE_FROM)
    assert f"cannot make {tmp_path / 'update.lock'}: Is a directory; set TORCHINDUCTOR_CACHE_DIR" in capsys.readouterr().out
    assert step(torch.ones(3)).tolist() == [2, 2, 2]
