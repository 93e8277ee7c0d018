"""The effective settings of a method on a task: which tables hold them, and which table wins.

Every field has the value of the last of these that names it:

1. `default`: the method's `Config`;
2. `benchmark`: the settings that all methods share on a suite, so that tables compare methods and not budgets (`presets.BENCHMARK`);
3. `TUNED`: the method's table of what this project, or the author of a new baseline, chose;
4. `task`: the table of the method in the task's own TOML file, if it has one ([docs/new-task.md](new-task.md));
5. `preset`: a preset may train with fewer updates, or with other networks;
6. `--set`.

With `--paper` two other tables stand in place of 2 to 4: `PAPER`, what the method's paper or the paper's code states, and `OFFICIAL`, the
switches that make its update that of the published code. `--paper` has no effect on a task for which the method's `PAPER` has no row.
"""

import tomllib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS, suggest
from inspo_benchmark.learning.config import Common, coerce, kinds_of
from inspo_benchmark.running.presets import BENCHMARK, PRESETS
from inspo_benchmark.running.suites import matches

SOURCES = ("default", "PAPER", "OFFICIAL", "benchmark", "TUNED", "task", "preset", "--set")


class Setting(NamedTuple):
    value: Any
    source: str  # one of SOURCES


def settings(algo: str, task: str, overrides: dict[str, Any], paper: bool = False, preset: str = "") -> Common:
    """The configuration of a method on a task. UserError for values that the method refuses."""
    return _config(algo, settings_with_sources(algo, task, overrides, paper, preset))


def _config(algo: str, chosen: dict[str, Setting]) -> Common:
    """UserError for values that the method refuses."""
    return ALGORITHMS[algo].Config(**{name: setting.value for name, setting in chosen.items()})


def settings_with_sources(algo: str, task: str, overrides: dict[str, Any], paper: bool = False, preset: str = "") -> dict[str, Setting]:
    """Every field of a method's `Config` -> its value on the task and where the value comes from. UserError for unknown fields."""
    algorithm = ALGORITHMS[algo]
    defaults = algorithm.Config()
    chosen = {name: Setting(value, "default") for name, value in vars(defaults).items()}

    def apply(values: dict[str, Any], source: str) -> None:
        for name, value in values.items():
            if name not in chosen:
                at = f"{TASKS[task].settings}: " if source == "task" else ""
                raise UserError(f"{at}{algo}: {source} names {name!r}, which is no field of its Config; {algorithm.Config.missing(name)}")
            chosen[name] = Setting(value, source)

    if paper and (stated := matching(algorithm.PAPER, task)):
        apply(stated, "PAPER")
        apply(matching(algorithm.OFFICIAL, task), "OFFICIAL")
    else:
        apply({name: value for name, value in matching(BENCHMARK, task).items() if name in chosen}, "benchmark")
        apply(matching(algorithm.TUNED, task), "TUNED")
        apply(of_task(algo, task), "task")
    if preset:
        variant = PRESETS[preset]
        if variant.share < 1:
            apply({"num_updates": max(1, round(chosen["num_updates"].value * variant.share))}, "preset")
        apply(variant.settings, "preset")
    apply(overrides, "--set")
    return chosen


def of_task(algo: str, task: str) -> dict[str, Any]:
    """What the task's own file says about a method. UserError: it is no TOML, or has a table for an unknown method, or a value of another
    type than the field's."""
    path = TASKS[task].settings if task in TASKS else None
    if path is None:
        return {}
    try:
        tables = tomllib.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as e:
        raise UserError(f"{path} cannot be read: {e}") from None
    for name, table in tables.items():
        if name not in ALGORITHMS or not isinstance(table, dict):
            raise UserError(f"{path}: {name!r} is no table of a method; {suggest(name, ALGORITHMS)}")
    kinds = kinds_of(ALGORITHMS[algo].Config)
    try:
        return {name: coerce(name, kinds[name], str(value)) if name in kinds else value for name, value in tables.get(algo, {}).items()}
    except UserError as e:
        raise UserError(f"{path}: [{algo}] {e}") from None


def matching(table: dict[str, dict[str, Any]], task: str) -> dict[str, Any]:
    """The values of all rows of a table whose keys match the task; the last row wins."""
    values: dict[str, Any] = {}
    for key, row in table.items():
        if matches(key, task):
            values |= row
    return values


def settings_table(algo: str, task: str, assignments: Sequence[str], paper: bool = False, preset: str = "") -> str:
    """The settings of a method on a task for people: one line per field, with its value and where that comes from.

    UserError for values that the method refuses.
    """
    overrides = ALGORITHMS[algo].Config.parse(assignments, algo)
    chosen = settings_with_sources(algo, task, overrides, paper, preset)
    _config(algo, chosen)
    width = max(map(len, chosen))
    values = {name: str(setting.value) for name, setting in chosen.items()}
    column = max(map(len, values.values()))
    lines = [f"  {name:{width}}  {value:{column}}  {chosen[name].source}" for name, value in values.items()]
    return "\n".join([_title(algo, [task], paper), *lines])


def settings_summary(pairs: Iterable[tuple[str, str]], assignments: Sequence[str], paper: bool = False, preset: str = "") -> str:
    """The settings of (method, task) pairs for people: one line per source; tasks on which a method has the same settings share a block."""
    blocks: dict[tuple[str, str], list[str]] = {}
    for algo, task in pairs:
        chosen = settings_with_sources(algo, task, ALGORITHMS[algo].Config.parse(assignments, algo), paper, preset)
        fields = {source: [f"{k}={v}" for k, (v, s) in chosen.items() if s == source] for source in SOURCES}
        text = "\n".join(f"  {source:9}  {', '.join(names)}" for source, names in fields.items() if names)
        blocks.setdefault((algo, text), []).append(task)
    return "\n".join(f"{_title(algo, tasks, paper)}\n{text}" for (algo, text), tasks in blocks.items())


def _title(algo: str, tasks: Sequence[str], paper: bool) -> str:
    without = paper and not matching(ALGORITHMS[algo].PAPER, tasks[0])
    return f"{algo} on {', '.join(tasks)}" + (" (PAPER has no row: --paper changes nothing)" if without else "")
