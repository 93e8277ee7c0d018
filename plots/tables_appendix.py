"""The tables behind the main one: settings, data and costs, from the JSON files beside the rows, and what papers have published."""

import itertools
from pathlib import Path

import pandas as pd

from inspo_benchmark.plots import stats, style
from inspo_benchmark.plots.load import Run
from inspo_benchmark.plots.table_writers import MISSING, Experiment, Table, assignments, number, setting, spread

PAPER = Path(__file__).with_name("paper.csv")
VARIES = "by task"
NOT_COMPARABLE = (
    "NOT COMPARABLE: the published numbers are of other data, and of other versions of the environments, than this project's. "
    "They are shown for orientation, and none of them was reproduced."
)

Made = tuple[Table, pd.DataFrame]


def hyperparameters(runs: list[Run]) -> list[Made]:
    """What the runs of a suite with their published settings were made with: fields x methods, and the fields that depend on the task."""
    runs = [run for run in runs if not run.columns["overrides"]]
    if not runs:
        return []
    suite = runs[0].columns["suite"]
    algos = style.order(run.algo for run in runs)
    configs = {algo: {run.task: run.config for run in runs if run.algo == algo} for algo in algos}
    fields = list(dict.fromkeys(field for run in sorted(runs, key=lambda run: algos.index(run.algo)) for field in run.config))
    common, numbers, varying = [], [], []
    for field in fields:
        line = []
        for algo in algos:
            values = {task: config[field] for task, config in configs[algo].items() if field in config}
            numbers += [(suite, algo, task, field, setting(value)) for task, value in values.items()]
            several = len(set(map(setting, values.values()))) > 1
            line.append(Experiment(VARIES if several else setting(next(iter(values.values()))) if values else MISSING))
        common.append([Experiment(field), *line])
    title = f"{style.TITLES.get(suite, suite)}: settings of the runs."
    header = ["field", *(style.algorithm(algo)[0] for algo in algos)]
    note = style.preset(runs[0].columns["preset"]).strip()
    notes = [f'"{VARIES}": in the next table. {MISSING}: the method has no such field.', *([note] if note else [])]
    for algo in algos:
        tasks = style.order(configs[algo])
        mine = {
            task: {f: x for f, x in configs[algo][task].items() if len({setting(c.get(f)) for c in configs[algo].values()}) > 1}
            for task in tasks
        }
        alike: dict[str, list[str]] = {}
        for task in tasks:
            alike.setdefault(assignments(mine[task]), []).append(task)
        if any(mine.values()):
            first = [Experiment(style.algorithm(algo)[0]), *[Experiment("")] * (len(alike) - 1)]
            varying.append([[name, Experiment(", ".join(group)), Experiment(text)] for name, (text, group) in zip(first, alike.items())])
    table = pd.DataFrame(numbers, columns=["suite", "algo", "task", "field", "value"])
    made = [(Table(f"hyperparameters-{suite}", title, header, [common], notes=notes), table)]
    if varying:
        caption = f"{style.TITLES.get(suite, suite)}: settings that depend on the task."
        made.append((Table(f"hyperparameters-{suite}-tasks", caption, ["method", "tasks", "settings"], varying, left=3), table[:0]))
    return made


def datasets(runs: list[Run]) -> Made:
    """The datasets that the runs were trained on, as the files describe themselves."""
    first = {run.task: run for run in reversed(runs)}
    lines, numbers = {}, []
    for task in style.order(first):
        run = first[task]
        data, (low, high) = run.about["data"], run.about["reference"]
        won, mean, std = data.get("win_rate", -1), data["return_mean"], data.get("return_std", float("nan"))
        counts = [f"{data[name]:,}" if name in data else MISSING for name in ("episodes", "steps")]
        texts = [task, run.about["backend"], data.get("source", MISSING), *counts, spread(mean, std), f"{won:.1%}" if won >= 0 else MISSING]
        lines[task] = [Experiment(text) for text in (*texts, number(low), number(high), data["sha256"][:12])]
        numbers.append({"suite": run.columns["suite"], "task": task, "backend": run.about["backend"], "random": low, "best": high} | data)
    header = ["task", "played by", "source", "episodes", "steps", "return", "won", "random", "best known", "content"]
    notes = [
        "Return: mean ± standard deviation over episodes. Random and best known: returns of these policies, 0 and 100 when normalised. "
        "Content: the beginning of the sha256 of the dataset."
    ]
    groups = [[lines[task] for task in group] for group in style.grouped(lines)]
    return Table("datasets", "Datasets of the runs.", header, groups, notes=notes, left=3), pd.DataFrame(numbers)


def costs(runs: list[Run]) -> Made:
    """What the runs of a suite cost. Seeds of a run train as one batch in one process: updates of all of them count."""
    suite, lines, numbers = runs[0].columns["suite"], [], []
    for algo in style.order(run.algo for run in runs):
        mine = [run for run in runs if run.algo == algo and "wall_seconds" in run.about]
        seconds = [float(run.about["wall_seconds"]) for run in mine]
        updates = [run.config["num_updates"] * len(run.seeds) for run in mine]
        peaks = [run.about["peak_memory"] / 2**30 for run in mine if "peak_memory" in run.about]
        rate = pd.Series([u / s for u, s in zip(updates, seconds) if s > 0], dtype=float)
        hours, memory = sum(seconds) / 3600, max(peaks, default=float("nan"))
        texts = [len(mine), sum(len(run.seeds) for run in mine), f"{sum(updates):,}"]
        spreads = [MISSING, MISSING] if rate.empty else [number(rate.median(), 0), f"{number(rate.min(), 0)} .. {number(rate.max(), 0)}"]
        memories = MISSING if pd.isna(memory) else number(memory)
        lines.append([Experiment(str(x)) for x in (style.algorithm(algo)[0], *texts, *spreads, number(hours), memories)])
        numbers.append((suite, algo, *texts[:2], sum(updates), rate.median(), rate.min(), rate.max(), hours, memory))
    columns = ["suite", "algo", "cells", "runs", "updates", "rate", "rate_min", "rate_max", "hours", "memory_gib"]
    header = ["method", "cells", "runs", "updates", "updates/s", "from .. to", "hours", "memory, GiB"]
    machines = sorted({machine(run) for run in runs})
    notes = [
        "A cell is a method on a task; its runs, a seed each, train as one batch in one process, whose time includes evaluation and "
        "compilation. updates/s: median over cells of the updates of all runs of the cell per second. Memory: the most that a process held"
        + ("; runs that do not tell are left out." if any("peak_memory" not in run.about for run in runs) else "."),
        f"Made on: {'; '.join(machines)}.",
    ]
    caption = f"{style.TITLES.get(suite, suite)}: what the runs cost." + style.preset(runs[0].columns["preset"])
    return Table(f"costs-{suite}", caption, header, [lines], notes=notes), pd.DataFrame(numbers, columns=columns)


def machine(run: Run) -> str:
    """The machine that made a run, in words."""
    told = run.about.get("machine", {})
    return f"{told.get('processor', 'unknown')}, {told.get('cores', '?')} cores, {told.get('device', '?')}, {told.get('system', '?')}"


def published(frame: pd.DataFrame) -> list[Made]:
    """Numbers of papers for the tasks and methods of a suite beside this project's, in a table that says they cannot be compared."""
    theirs = pd.read_csv(PAPER, dtype=str, keep_default_na=False)
    theirs = theirs[theirs.task.isin(frame.task.unique()) & theirs.metric.isin(frame.metric.unique())]
    if theirs.empty:
        return []
    suite, lines, numbers, sources = frame.suite.iloc[0], [], [], list(dict.fromkeys(theirs.source))
    ours = {metric: stats.cells(stats.final(frame, metric, "last")) for metric in theirs.metric.unique()}
    ours = {(metric, row.task, row.algo): row for metric, table in ours.items() for row in table.itertuples()}
    order = {task: k for k, task in enumerate(style.order(theirs.task.unique()))}
    algos = {algo: k for k, algo in enumerate(style.order(theirs.algo.unique()))}
    for paper in sorted(theirs.itertuples(), key=lambda row: (row.metric, order[row.task], algos[row.algo])):
        mine = ours.get((paper.metric, paper.task, paper.algo))
        here = f"{spread(mine.value, mine.std)} (n = {mine.n})" if mine else MISSING
        there = spread(float(paper.mean), float(paper.std or "nan")) + (f" (n = {paper.seeds})" if paper.seeds else "")
        texts = [paper.task, style.algorithm(paper.algo)[0], paper.metric, here, there, f"[{sources.index(paper.source) + 1}]"]
        lines.append([Experiment(text) for text in texts])
        numbers.append(paper._asdict() | {"ours": mine.value if mine else None, "ours_std": mine.std if mine else None})
    header = ["task", "method", "metric", "this project", "published", "source"]
    notes = [NOT_COMPARABLE, *(f"[{k + 1}] {source}" for k, source in enumerate(sources))]
    caption = f"{style.TITLES.get(suite, suite)}: published numbers. {NOT_COMPARABLE.partition(':')[0]} with this project's."
    table = pd.DataFrame(numbers).drop(columns="Index")
    return [(Table(f"published-{suite}", caption, header, _by_task(lines), notes=notes, left=3), table)]


def _by_task(lines: list[list[Experiment]]) -> list[list[list[Experiment]]]:
    return [list(group) for _, group in itertools.groupby(lines, lambda line: line[0].text)]
