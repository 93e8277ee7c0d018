"""Offline multi-agent reinforcement learning: methods, tasks, data, and the benchmark that compares them. See `inspo_benchmark.library`."""

from importlib import import_module

__version__ = "0.2.0"
__all__ = ["Dataset", "Result", "UserError", "evaluate", "list_algorithms", "list_tasks", "load_dataset", "train"]


def __getattr__(name: str):
    """The names of the library, imported when they are used: a worker that needs none of them starts faster."""
    if name in __all__:
        return getattr(import_module("inspo_benchmark.library"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__})
