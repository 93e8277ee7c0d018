"""The suites of tasks, and which tasks a key of a table of settings matches."""

from fnmatch import fnmatchcase
from functools import cache

SUITES: dict[str, tuple[str, ...]] = {  # name -> globs of task names
    "smac": tuple(
        f"{name}-*"
        for name in (
            "3m", "8m", "25m", "5m_vs_6m", "8m_vs_9m", "10m_vs_11m", "27m_vs_30m", "MMM", "MMM2", "2s3z",
            "3s5z", "3s5z_vs_3s6z", "3s_vs_3z", "3s_vs_4z", "3s_vs_5z", "1c3s5z", "2m_vs_1z", "corridor",
            "6h_vs_8z", "2s_vs_1sc", "so_many_baneling", "bane_vs_bane", "2c_vs_64zg",
            *(f"{race}_{n}_vs_{m}" for race in ("protoss", "terran", "zerg") for n, m in ((5, 5), (10, 10), (10, 11), (20, 20), (20, 23))),
        )
    ),
    "mujoco": ("halfcheetah_2x3*-*", "halfcheetah_6x1*-*", "hopper_3x1*-*", "ant_2x4*-*"),  # with any observations
}  # fmt: skip


def matches(key: str, task: str) -> bool:
    """Whether a task matches a table's key: the name of a suite, or a glob of task names.

    A key that matches `3m-medium` also matches `sc2:3m-medium`, the same task in another engine.
    """
    names = (task, task.rpartition(":")[2])
    return any(fnmatchcase(name, glob) for glob in SUITES.get(key, (key,)) for name in names)


@cache
def suite(task: str) -> str:
    """The name of the suite of a task; "" for those outside, like the games."""
    return next((name for name in SUITES if matches(name, task)), "")
