"""The suites of tasks, and which tasks a key of a table of settings matches."""

from fnmatch import fnmatchcase
from functools import cache


@cache
def suites() -> dict[str, tuple[str, ...]]:
    """Name -> globs of task names."""
    from inspo_benchmark.envs.mamujoco import SCENARIOS as BODIES  # here, because an environment's import registers its tasks
    from inspo_benchmark.envs.smac.maps import MAPS, SCENARIOS

    return {
        "smac": tuple(f"{name}-*" for name in MAPS | SCENARIOS),
        "mujoco": tuple(f"{name}*-*" for name in BODIES),  # with any observations
    }


def matches(key: str, task: str) -> bool:
    """Whether a task matches a table's key: the name of a suite, or a glob of task names.

    A key that matches `3m-medium` also matches `sc2:3m-medium`, the same task in another engine.
    """
    names = (task, task.rpartition(":")[2])
    return any(fnmatchcase(name, glob) for glob in suites().get(key, (key,)) for name in names)


@cache
def suite(task: str) -> str:
    """The name of the suite of a task; "" for those outside, like the games."""
    return next((name for name in suites() if matches(name, task)), "")
