"""Tables for an appendix: hyperparameters, datasets and costs, from the JSON files of the runs, and numbers that papers report."""

import itertools
from pathlib import Path

import pandas as pd

from inspo_benchmark.plots import stats, style
from inspo_benchmark.plots.load import ResultFile
from inspo_benchmark.plots.table_writers import MISSING, Cell, Table, assignments, mean_std, number, setting

PAPER = Path(__file__).with_name("paper.csv")
VARIES = "by task"
NOT_COMPARABLE = (
    "NOT COMPARABLE: the published numbers are for other data and other versions of the environments. They are shown for orientation only; "
    "none of them was reproduced."
)

TableAndNumbers = tuple[Table, pd.DataFrame]


def hyperparameters(results: list[ResultFile]) -> list[TableAndNumbers]:
    """The settings of a suite's runs without overrides: fields x methods, then the settings that depend on the task."""
    results = [result for result in results if not result.columns["overrides"]]
    if not results:
        return []
    suite = results[0].columns["suite"]
    algos = style.order(result.algo for result in results)
    configs = {algo: {result.task: result.config for result in results if result.algo == algo} for algo in algos}
    fields = list(dict.fromkeys(field for result in sorted(results, key=lambda x: algos.index(x.algo)) for field in result.config))
    lines, numbers = [], []
    for field in fields:
        line = [Cell(field)]
        for algo in algos:
            values = {task: setting(config[field]) for task, config in configs[algo].items() if field in config}
            numbers += [(suite, algo, task, field, value) for task, value in values.items()]
            distinct = list(dict.fromkeys(values.values())) or [MISSING]
            line.append(Cell(distinct[0] if len(distinct) == 1 else VARIES))
        lines.append(line)
    header = ["field", *(style.algorithm(algo).label for algo in algos)]
    note = style.preset_note(results[0].columns["preset"]).strip()
    notes = [f'"{VARIES}": see the next table. {MISSING}: the method has no such field.', *([note] if note else [])]
    table = pd.DataFrame(numbers, columns=["suite", "algo", "task", "field", "value"])
    common = Table(f"hyperparameters-{suite}", f"{style.suite(suite).title}: hyperparameters.", header, [lines], notes=notes)
    varying = _varying_hyperparameters(suite, configs)
    return [(common, table), *([(varying, table[:0])] if varying.groups else [])]


def _varying_hyperparameters(suite: str, configs: dict[str, dict[str, dict]]) -> Table:
    """The settings that depend on the task: a group of rows for each method with such settings. `configs`: algo -> task -> config."""
    groups = []
    for algo, by_task in configs.items():
        fields = {f for config in by_task.values() for f in config}
        varying = {f for f in fields if len({setting(config.get(f)) for config in by_task.values()}) > 1}
        same_settings: dict[str, list[str]] = {}
        for task in style.order(by_task):
            settings = assignments({f: value for f, value in by_task[task].items() if f in varying})
            same_settings.setdefault(settings, []).append(task)
        if varying:
            names = [style.algorithm(algo).label, *[""] * (len(same_settings) - 1)]
            groups.append([[Cell(name), Cell(", ".join(tasks)), Cell(text)] for name, (text, tasks) in zip(names, same_settings.items())])
    caption = f"{style.suite(suite).title}: hyperparameters that depend on the task."
    return Table(f"hyperparameters-{suite}-tasks", caption, ["method", "tasks", "settings"], groups, left=3)


def datasets(results: list[ResultFile]) -> TableAndNumbers:
    """The datasets of the runs, as their files describe them."""
    first = {result.task: result for result in reversed(results)}
    lines, numbers = {}, []
    for task in style.order(first):
        document = first[task].document
        data, (low, high) = document["data"], document["reference"]
        win_rate, mean, std = data.get("win_rate", -1), data["return_mean"], data.get("return_std", float("nan"))
        counts = [f"{data[name]:,}" if name in data else MISSING for name in ("episodes", "steps")]
        win_rate = f"{win_rate:.1%}" if win_rate >= 0 else MISSING
        texts = [task, document["backend"], data.get("source", MISSING), *counts, mean_std(mean, std), win_rate]
        lines[task] = [Cell(text) for text in (*texts, number(low), number(high), data["sha256"][:12])]
        row = {"suite": first[task].columns["suite"], "task": task, "backend": document["backend"]}
        numbers.append(row | {"reference_low": low, "reference_high": high} | data)
    header = ["task", "backend", "source", "episodes", "steps", "return", "win rate", "score 0", "score 100", "sha256"]
    suites = [style.suite(name) for name in style.order_suites(result.columns["suite"] for result in results)]
    scales = "; ".join(f"{suite.title}: {suite.low}, {suite.high}" for suite in suites)
    notes = [
        "Return: mean ± standard deviation over episodes. Scores 0 and 100: the returns with these normalized scores "
        f"({scales}). sha256: the beginning of the hash of the dataset."
    ]
    groups = [[lines[task] for task in group] for group in style.by_scenario(lines)]
    return Table("datasets", "Datasets of the runs.", header, groups, notes=notes, left=3), pd.DataFrame(numbers)


def costs(results: list[ResultFile]) -> TableAndNumbers:
    """Time and memory of a suite's runs. The seeds of a file train as one batch, so that the updates of all of them are counted."""
    suite, lines, numbers = results[0].columns["suite"], [], []
    for algo in style.order(result.algo for result in results):
        timed = [result for result in results if result.algo == algo and "wall_seconds" in result.document]
        seconds = [float(result.document["wall_seconds"]) for result in timed]
        updates = [result.config["num_updates"] * len(result.seeds) for result in timed]
        peaks = [result.document["peak_memory"] / 2**30 for result in timed if "peak_memory" in result.document]
        rate = pd.Series([u / s for u, s in zip(updates, seconds) if s > 0], dtype=float)
        hours, memory = sum(seconds) / 3600, max(peaks, default=float("nan"))
        shares = pd.Series([r.document["evaluation_share"] for r in timed if "evaluation_share" in r.document], dtype=float)
        counts = [len(timed), sum(len(result.seeds) for result in timed), f"{sum(updates):,}"]
        rates = [MISSING, MISSING] if rate.empty else [number(rate.median(), 0), f"{number(rate.min(), 0)} .. {number(rate.max(), 0)}"]
        evaluation = MISSING if shares.empty else number(100 * shares.median(), 0)
        texts = [style.algorithm(algo).label, *counts, *rates, evaluation, number(hours), MISSING if pd.isna(memory) else number(memory)]
        lines.append([Cell(str(text)) for text in texts])
        numbers.append((suite, algo, *counts[:2], sum(updates), rate.median(), rate.min(), rate.max(), shares.median(), hours, memory))
    columns = ["suite", "algo", "experiments", "runs", "updates", "rate", "rate_min", "rate_max", "evaluation", "hours", "memory_gib"]
    header = ["method", "experiments", "runs", "updates", "updates/s", "range", "evaluation, %", "hours", "memory, GiB"]
    machines = sorted({machine(result) for result in results})
    unknown = any("peak_memory" not in result.document for result in results)
    notes = [
        "An experiment is a method on a task; its runs (one per seed) train as one batch in one process. updates/s: updates of all runs of "
        "an experiment per second, evaluation and compilation included; median and range over experiments. evaluation: its share of the "
        "time, median over experiments. Memory: the largest peak memory "
        f"of a process{'; experiments that did not record it are left out' if unknown else ''}.",
        f"Machines: {'; '.join(machines)}.",
    ]
    caption = f"{style.suite(suite).title}: computational cost." + style.preset_note(results[0].columns["preset"])
    return Table(f"costs-{suite}", caption, header, [lines], notes=notes), pd.DataFrame(numbers, columns=columns)


def machine(result: ResultFile) -> str:
    """A description of the machine that trained the runs."""
    about = result.document.get("machine", {})
    return f"{about.get('processor', 'unknown')}, {about.get('cores', '?')} cores, {about.get('device', '?')}, {about.get('system', '?')}"


def published(frame: pd.DataFrame) -> list[TableAndNumbers]:
    """Numbers that papers report for the tasks of a suite, beside ours, in a table that says that they are not comparable."""
    papers = pd.read_csv(PAPER, dtype=str, keep_default_na=False)
    papers = papers[papers.task.isin(frame.task.unique()) & papers.metric.isin(frame.metric.unique())]
    if papers.empty:
        return []
    suite, lines, numbers, sources = frame.suite.iloc[0], [], [], list(dict.fromkeys(papers.source))
    scores = {metric: stats.task_scores(stats.final_scores(frame, metric, "last")) for metric in papers.metric.unique()}
    ours = {(metric, row.task, row.algo): row for metric, table in scores.items() for row in table.itertuples()}
    tasks = {task: k for k, task in enumerate(style.order(papers.task.unique()))}
    algos = {algo: k for k, algo in enumerate(style.order(papers.algo.unique()))}
    for paper in sorted(papers.itertuples(), key=lambda row: (row.metric, tasks[row.task], algos[row.algo])):
        mine = ours.get((paper.metric, paper.task, paper.algo))
        our_text = f"{mean_std(mine.value, mine.std)} (n = {mine.n})" if mine else MISSING
        their_text = mean_std(float(paper.mean), float(paper.std or "nan")) + (f" (n = {paper.seeds})" if paper.seeds else "")
        method = style.algorithm(paper.algo).label
        texts = [paper.task, method, paper.metric, our_text, their_text, f"[{sources.index(paper.source) + 1}]"]
        lines.append([Cell(text) for text in texts])
        numbers.append(paper._asdict() | {"ours": mine.value if mine else None, "ours_std": mine.std if mine else None})
    header = ["task", "method", "metric", "ours", "published", "source"]
    notes = [NOT_COMPARABLE, *(f"[{k + 1}] {source}" for k, source in enumerate(sources))]
    caption = f"{style.suite(suite).title}: published numbers, {NOT_COMPARABLE.partition(':')[0]} with ours."
    groups = [list(group) for _, group in itertools.groupby(lines, lambda line: line[0].text)]
    table = pd.DataFrame(numbers).drop(columns="Index")
    return [(Table(f"published-{suite}", caption, header, groups, notes=notes, left=3), table)]
