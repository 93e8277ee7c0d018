"""What can be trained: the text of `run_benchmark.py --list`."""

from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.core.types import Task
from inspo_benchmark.datasets.catalog import is_available, obstacle, status
from inspo_benchmark.learning.algorithm import Algorithm


def list_registered(everything: bool) -> str:
    """Methods with their papers, then tasks: a line per scenario with the qualities that have data, or `everything`, a line per task."""
    methods = [f"  {name:10} {algorithm.paper}{_execution(algorithm)}" for name, algorithm in sorted(ALGORITHMS.items())]
    return "\n".join(["methods (--algo)", *methods, *(_tasks() if everything else _scenarios())])


def _execution(algorithm: type[Algorithm]) -> str:
    return "" if algorithm.execution == "decentralized" else f" ({algorithm.execution} execution)"


def _scenarios() -> list[str]:
    usable = [task for task in TASKS.values() if is_available(task)]
    scenarios = dict.fromkeys(task.scenario for task in usable)  # tasks of one need not be neighbors
    groups = [(scenario, [task for task in usable if task.scenario == scenario]) for scenario in scenarios]
    rest = [obstacle(task) for task in TASKS.values() if not is_available(task)]
    width = max(len(scenario) for scenario, _ in groups)
    lines = [f"  {name:{width}}  {_sizes(tasks[0])}  {' '.join(task.quality for task in tasks)}" for name, tasks in groups]
    return [
        "scenarios and the qualities of their data (--env); a task is for example xor-ab, and 3m or '3m-*' are all tasks of 3m",
        *lines,
        f"{rest.count('')} more tasks have data of random actions only, {len(rest) - rest.count('')} need recordings or behavior policies "
        "of your own; --list all names every task",
    ]


def _tasks() -> list[str]:
    width = max(map(len, TASKS))
    lines = [f"  {name:{width}}  {_sizes(task)}  {task.backend:10}  {status(task)}" for name, task in TASKS.items()]
    return ["tasks (--env) and their data", *lines]


def _sizes(task: Task) -> str:
    space = task.spec.space
    return f"{task.spec.num_agents:2} agents  {space.kind:10}  {space.action_dim:2} actions"
