"""Updates compiled to C++ kernels, which are made once for the same operations and kept in a file."""

import hashlib
import os
import platform
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor
from torch.fx import GraphModule
from torch.utils._pytree import tree_flatten, tree_unflatten

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.learning.tracing import trace

MAX_FILES = 1 << 16  # open in a process
MAX_SECONDS = 600.0  # of waiting for another process that compiles
compiled_here = False  # whether this process has begun to compile or to load


class CannotCompile(Exception):
    """There is no compiler, or it fails. The message says why, in one line."""


class Compilation:
    """`update`, to be compiled for inputs with the shapes and strides of the example. Its results then differ from the update's by
    rounding."""

    def __init__(self, update: Callable, *example: Any):
        self.leaves, _ = tree_flatten(example)
        with torch.no_grad():
            self.flat, self.outputs = flattened(update, *example)
        self.child = 0  # process that compiles meanwhile

    def start(self) -> None:
        """Compile in a copy of this process, if there is anything to compile. Nothing is done where there can be no copy, nor where this
        process has compiled before: it has threads then that a copy would wait for."""
        if sys.platform != "linux" or compiled_here:
            return
        try:
            if os.path.exists(folder() / fingerprint(self.flat, self.leaves)):
                return
            self.child = os.fork()
        except (CannotCompile, OSError):  # the latter: no memory, or too many processes
            return
        if not self.child:
            with suppress(BaseException):  # the parent compiles again, and reports
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                os.closerange(3, MAX_FILES)  # others see by a closed pipe that the parent has ended
                silent = os.open(os.devnull, os.O_WRONLY)
                os.dup2(silent, 1), os.dup2(silent, 2)
                load_or_compile(self.flat, self.leaves)
            os._exit(0)

    def finish(self) -> Callable:
        """The compiled update. CannotCompile: see there."""
        self._wait()
        kernels = load_or_compile(self.flat, self.leaves)
        return lambda *inputs: tree_unflatten(kernels(*tree_flatten(inputs)[0]), self.outputs)

    def stop(self) -> None:
        """End the other process."""
        if self.child:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
            self.child = 0

    def _wait(self) -> None:
        """Until the other process has ended, which is ended if it takes too long."""
        started = time.monotonic()
        while self.child and os.waitpid(self.child, os.WNOHANG) == (0, 0):
            if time.monotonic() - started > MAX_SECONDS:
                return self.stop()
            time.sleep(0.05)
        self.child = 0


def flattened(update: Callable, *example: Any) -> tuple[GraphModule, Any]:
    """`update` as a traced function from tensors to tensors, and the structure of what it returns. The tensors that it returns are
    contiguous, as the next call takes them."""
    leaves, inputs = tree_flatten(example)
    outputs = []

    def flat(*leaves):
        new, structure = tree_flatten(update(*tree_unflatten(leaves, inputs)))
        outputs.append(structure)
        return [x.contiguous() for x in new]

    return trace(flat, *leaves), outputs[0]


def load_or_compile(flat: GraphModule, leaves: Sequence[Tensor]) -> Callable:
    """The kernels of a traced function. Of several processes that need the same ones, one compiles them."""
    try:
        from torch._dynamo.exc import TorchDynamoException  # slow imports, only for those who compile
        from torch._inductor import CompiledArtifact, standalone_compile
        from torch._inductor.exc import InductorError
    except ImportError as error:  # another version of torch
        raise CannotCompile(str(error)) from None

    global compiled_here
    compiled_here = True
    path = folder() / fingerprint(flat, leaves)
    try:
        for place in (path.parent.parent, path.parent):
            place.mkdir(parents=True, exist_ok=True)
            if hasattr(os, "getuid") and place.stat().st_uid != os.getuid():  # who could put code there that is run here
                raise CannotCompile(f"{place} belongs to another user; set TORCHINDUCTOR_CACHE_DIR")
        lock = FileLock(path.with_suffix(".lock")).acquire()
    except OSError as error:
        raise CannotCompile(f"cannot make {error.filename}: {error.strerror}; set TORCHINDUCTOR_CACHE_DIR") from None
    with lock:
        if path.exists():
            with suppress(Exception):  # a damaged file can raise anything; it is made anew
                return CompiledArtifact.load(path=str(path), format="binary")
        try:
            kernels = standalone_compile(flat, list(leaves), dynamic_shapes="from_example_inputs")
        except (TorchDynamoException, InductorError) as error:
            raise CannotCompile(str(error).strip().splitlines()[0][:120]) from None
        with suppress(UserError, RuntimeError), atomic_write(path) as part:  # a full disk costs the next process the time to compile
            kernels.save(path=str(part), format="binary")
    return kernels


def folder() -> Path:
    """Where compiled updates are kept: a folder in torch's own cache of compiled kernels."""
    try:
        from torch._inductor.runtime.cache_dir_utils import cache_dir
    except ImportError as error:
        raise CannotCompile(str(error)) from None
    return Path(cache_dir()) / "updates"


def fingerprint(flat: GraphModule, leaves: Sequence[Tensor]) -> str:
    """A hash of all that kernels depend on: operations, constants, shapes, the version of torch, and the processor."""
    constants = {**dict(flat.named_buffers()), **{name: x for name, x in vars(flat).items() if isinstance(x, Tensor)}}
    about = [
        flat.code,
        *(f"{name} {x.dtype} {x.tolist()}" for name, x in sorted(constants.items())),
        *(f"{x.device} {x.dtype} {tuple(x.shape)} {x.stride()}" for x in leaves),
        torch.__version__,
        torch.backends.cpu.get_cpu_capability(),
        platform.machine(),
        cpuinfo("flags", "features") or platform.processor(),
    ]
    return hashlib.sha256("\n".join(about).encode()).hexdigest()


def cpuinfo(*names: str) -> str:
    """The first line of /proc/cpuinfo that begins with one of these names, in lower case; "" if there is none."""
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next((line for line in lines if line.lower().startswith(names)), "")
    return ""
