"""Makes the tables of the paper as Markdown, LaTeX (booktabs, graphicx) and CSV from the rows in a results folder.

    python -m plots.tables [--out results] [--algo bc icq inspo] [--env '2s3z-*'] [--draft] [--metric return win_rate_sampled]

For every suite in the results, `<out>/tables` gets: `main-<suite>`, the runs without `--set` at their last checkpoint; `best-<suite>`, the
same at their best checkpoint; `ablation-<suite>`, if there are runs with `--set`; `hyperparameters-<suite>`; `costs-<suite>`;
`published-<suite>`, if papers report numbers for a task of that name; and once `datasets`.
"""

import inspo_benchmark.core.startup  # noqa: F401

import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from inspo_benchmark.core.errors import UserError, outcome
from inspo_benchmark.plots import cli, load, stats, style, table_writers, tables_appendix
from inspo_benchmark.plots.table_writers import CLOSE, MISSING, Cell, Table, mean_std, number

CHECKPOINTS = {"last": "last checkpoint", "best": "best checkpoint, selected by online evaluation (optimistic)"}
MEAN, IQM, INTERVAL, RANK = "mean, normalized", "IQM, normalized", "95% interval", "mean rank"
KINDS = ("main", "best", "ablation", "hyperparameters", "costs", "published", "datasets")


def _score(row, usual_n: int) -> Cell:
    """A row of stats.task_scores. The number of runs is printed if it is not the usual one."""
    runs = "" if row.n == usual_n else f" (n = {row.n})"
    return Cell(mean_std(row.value, row.std) + runs + CLOSE * row.close, row.best)


def main_table(frame: pd.DataFrame, metric: str, checkpoint: str, draft: bool = False) -> tuple[Table, pd.DataFrame]:
    """Tasks x algorithms of a suite, with aggregates at the foot -> (table, its numbers in full). UserError: missing runs, unless
    `draft`."""
    if not draft:
        load.require_complete(frame, metric)
    references, data_mean, behavior = load.references(frame), load.per_task(frame, "data_mean"), load.per_task(frame, "behavior")
    known = any(map(pd.notna, behavior.values()))  # older result files do not know it
    algos, tasks = style.order(frame.algo.unique()), style.order(references)
    scores = stats.final_scores(frame, metric, checkpoint)
    part = load.informative(frame)
    aggregated, scales = stats.final_scores(part, metric, checkpoint), load.references(part)
    task_scores, iqms = _unmarked(stats.task_scores, scores), _unmarked(stats.normalized_iqms, aggregated, scales)
    means, ranks = _unmarked(stats.normalized_means, aggregated, scales), stats.mean_ranks(aggregated[~_autoregressive(aggregated)])
    usual_n = int(task_scores.n.max()) if len(task_scores) else 0
    cells = _main_cells(task_scores, usual_n, means, iqms, ranks)

    def line(name: str, data: str = "", greedy: str = "", reference: str = "") -> list[Cell]:
        texts = [name, data, *[greedy] * known, reference]
        return [*map(Cell, texts), *(cells.get((name, algo), Cell(MISSING)) for algo in algos)]

    def task_line(task: str) -> list[Cell]:
        greedy = number(behavior[task]) if pd.notna(behavior[task]) else MISSING
        return line(task, number(data_mean[task]), greedy, number(references[task][1]))

    groups = [[task_line(task) for task in group] for group in style.by_scenario(tasks)]
    foot = [line(MEAN, reference="100"), line(IQM, reference="100"), line(INTERVAL), line(RANK)]
    suite = frame.suite.iloc[0]
    baselines = sum(algo == "bc" for algo in algos)  # BC imitates the data and stands with the references
    spans = [("", 1), ("reference", 2 + known + baselines), *[("methods", len(algos) - baselines)] * (len(algos) > baselines)]
    header = ["task", "dataset", *["behavior"] * known, style.suite(suite).reference, *(style.algorithm(algo).label for algo in algos)]
    name = f"{'main' if checkpoint == 'last' else checkpoint}-{suite}-{metric}"
    caption, notes = _caption(frame, metric, checkpoint, usual_n), _main_notes(frame, metric, iqms.algo)
    aggregates = [x.assign(task=aggregate) for aggregate, x in ((MEAN, means), (IQM, iqms), (RANK, ranks)) if len(x)]
    numbers = pd.concat([task_scores, *aggregates]).assign(suite=suite, metric=metric, checkpoint=checkpoint)
    return Table(name, caption, header, groups, foot, notes, spans=spans), numbers


def _main_cells(
    task_scores: pd.DataFrame, usual_n: int, means: pd.DataFrame, iqms: pd.DataFrame, ranks: pd.DataFrame
) -> dict[tuple[str, str], Cell]:
    """Tables of `stats` -> (task or name of an aggregate, algo) -> cell of the main table."""
    cells = {(row.task, row.algo): _score(row, usual_n) for row in task_scores.itertuples()}
    for name, table, digits in ((MEAN, means, 1), (IQM, iqms, 1), (RANK, ranks, 2)):
        for row in table.itertuples():
            cells[name, row.algo] = Cell(number(row.value, digits) + CLOSE * getattr(row, "close", False), row.best)
    for row in iqms.itertuples():
        cells[INTERVAL, row.algo] = Cell(MISSING if pd.isna(row.low) else f"[{number(row.low, 1)}, {number(row.high, 1)}]")
    return cells


def _main_notes(frame: pd.DataFrame, metric: str, complete: Iterable[str]) -> list[str]:
    """The notes below the main table. `complete`: the methods that its aggregates hold."""
    suite = style.suite(frame.suite.iloc[0])
    scale = "the win rate in percent" if metric.startswith("win_rate") else f"0 is {suite.low}, 100 is {suite.high}"
    known = frame.behavior.notna().any()
    return [
        f"Dataset: mean {style.METRICS[metric][0]} of the episodes in the dataset. Normalized: {scale}. IQM: interquartile mean over runs "
        f"and tasks, with its stratified bootstrap interval. Rank: by the mean score on each task, 1 is best.",
        "The row of means has no †.",
        *load.uninformative_note(frame),
        *["Bold, † and ranks leave methods with autoregressive execution out."] * bool(style.autoregressive() & set(frame.algo.unique())),
        *(["Behavior: the same of the policies that recorded the data, with their most probable actions."] if known else []),
        *_without_samples(frame, metric),
        *_incomplete(frame, metric, complete),
        *_unequal_budgets(frame),
        *_notes(frame),
    ]


def _autoregressive(scores: pd.Series) -> np.ndarray:
    """Which scores are those of methods with autoregressive execution, bool."""
    return scores.index.get_level_values("algo").isin(style.autoregressive())


def _unmarked(statistic: Callable[..., pd.DataFrame], scores: pd.Series, *args) -> pd.DataFrame:
    """A table of `stats` in which methods with autoregressive execution are never best or close to it, and the others are compared among
    themselves."""
    apart = _autoregressive(scores)
    if not apart.any():
        return statistic(scores, *args)
    compared, others = statistic(scores[~apart], *args), statistic(scores[apart], *args)
    return pd.concat([compared, others.assign(**{mark: False for mark in ("best", "close") if mark in others})])


def ablation_table(frame: pd.DataFrame, metric: str, checkpoint: str) -> tuple[Table, pd.DataFrame]:
    """For each algorithm with runs with overrides: the unmodified method and each set of overrides x the tasks of these runs. Missing runs
    are printed as "--"."""
    frame = ablation_rows(frame)
    tasks, groups, numbers = style.order(frame.task.unique()), [], []
    usual_n = int(frame.groupby(load.GROUP, observed=True).seed.nunique().max())
    for algo in style.order(frame.algo.unique()):
        rows = frame[frame.algo == algo]
        scores = stats.final_scores(rows.assign(algo=rows.overrides), metric, checkpoint)
        table = stats.task_scores(scores).rename(columns={"algo": "overrides"})
        cells = {(row.overrides, row.task): _score(row, usual_n) for row in table.itertuples()}
        variants = ["", *sorted(set(rows.overrides.unique()) - {""})]
        names = [style.algorithm(algo).label, *[""] * (len(variants) - 1)]
        groups.append(
            [
                [Cell(name), Cell(variant or "unmodified"), *(cells.get((variant, task), Cell(MISSING)) for task in tasks)]
                for name, variant in zip(names, variants)
            ]
        )
        numbers.append(table.assign(algo=algo))
    suite = frame.suite.iloc[0]
    caption = "Ablation. " + _caption(frame, metric, checkpoint, usual_n, "variant of each method on each task")
    table = Table(f"ablation-{suite}-{metric}", caption, ["method", "change", *tasks], groups, notes=_notes(frame), left=2)
    return table, pd.concat(numbers).assign(suite=suite, metric=metric, checkpoint=checkpoint)


def ablation_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs with overrides, and those of the unmodified methods on the same tasks."""
    changed = frame[frame.overrides != ""]
    return frame[frame.algo.isin(changed.algo.unique()) & frame.task.isin(changed.task.unique())]


def _caption(frame: pd.DataFrame, metric: str, checkpoint: str, n: int, comparison: str = "of each row") -> str:
    episodes, (what, policies) = " or ".join(map(str, sorted(frame.episodes.unique()))), style.METRICS[metric]
    evaluated = f"The final evaluation of a run has {episodes} episodes" + ", the others have fewer" * (checkpoint == "best")
    return (
        f"{style.suite(frame.suite.iloc[0]).title}: {what} of {policies} ({metric}), {CHECKPOINTS[checkpoint]}; mean ± standard deviation "
        f"over n = {n} seeds. {evaluated}. Bold: best {comparison} (ties as printed); "
        "†: the 95% bootstrap interval overlaps with that of the best."
        f"{style.execution_note(frame.algo.unique())}{style.preset_note(frame.preset.iloc[0])}"
    )


def _without_samples(frame: pd.DataFrame, metric: str) -> list[str]:
    algos = style.order(frame.algo[~frame.stochastic].unique()) if metric.endswith(load.SAMPLED) else []
    return [f"{', '.join(style.algorithm(algo).label for algo in algos)}: {MISSING} (no stochastic policy is learned)."] if algos else []


def _incomplete(frame: pd.DataFrame, metric: str, complete: Iterable[str]) -> list[str]:
    """A note on the methods that the aggregates leave out, except those without a stochastic policy."""
    left_out = style.order(set(frame.algo[frame.stochastic | (not metric.endswith(load.SAMPLED))]) - set(complete))
    labels = ", ".join(style.algorithm(algo).label for algo in left_out)
    return [f"The aggregates leave out methods without runs on all tasks: {labels}."] if left_out else []


def _unequal_budgets(frame: pd.DataFrame) -> list[str]:
    """A note if runs of a suite with a shared budget have different numbers of updates, as results from before a change may."""
    updates = frame.groupby(["algo", "task"], observed=True).step.max()
    if frame.suite.iloc[0] not in style.SHARED_BUDGET or updates.nunique() == 1:
        return []
    budgets = [
        f"{style.algorithm(algo).label} {' or '.join(map(str, sorted(set(updates[algo]))))}" for algo in style.order(frame.algo.unique())
    ]
    return [f"The methods differ in the number of updates: {', '.join(budgets)}."]


def _notes(frame: pd.DataFrame) -> list[str]:
    per_step = load.per_task(frame, "per_step")
    tasks = [task for task in style.order(per_step) if per_step[task]]
    return [
        *([f"Returns of {', '.join(tasks)} are mean rewards per step; all others are sums over an episode."] if tasks else []),
        "Generated by python -m plots.tables; the table `datasets` describes the data.",
    ]


def all_tables(
    out: str | Path, metrics: list[str], draft: bool = False, algos: Iterable[str] = ("*",), tasks: Iterable[str] = ("*",)
) -> dict[str, list[tuple[Table, pd.DataFrame]]]:
    """File name -> its tables, for the runs in `out` of some methods and tasks."""
    results = load.selected(load.result_files(out), algos, tasks)
    frame = load.read(out, files=results)
    files: dict[str, list[tuple[Table, pd.DataFrame]]] = {}
    for suite, rows in load.suites(frame):
        for metric in metrics:
            measured = load.for_metric(rows, metric)
            plain = measured[measured.overrides == ""]
            if len(plain):
                files.setdefault(f"main-{suite}", []).append(main_table(plain, metric, "last", draft))
                files.setdefault(f"best-{suite}", []).append(main_table(plain, metric, "best", draft))
            if (measured.overrides != "").any():
                files.setdefault(f"ablation-{suite}", []).append(ablation_table(measured, metric, "last"))
        mine = [result for result in results if result.columns["suite"] == suite]
        plain = rows[rows.overrides == ""]
        files[f"hyperparameters-{suite}"] = tables_appendix.hyperparameters(mine)
        unmodified = [result for result in mine if not result.columns["overrides"]]
        files[f"costs-{suite}"] = [tables_appendix.costs(unmodified)] if unmodified else []
        files[f"published-{suite}"] = tables_appendix.published(plain) if len(plain) else []
    files["datasets"] = [tables_appendix.datasets(results)]
    return {name: tables for name, tables in files.items() if tables}


def main(argv: list[str] | None = None) -> int:
    args = cli.parser("plots.tables", "Make the tables from the rows in <out>/runs.").parse_args(argv)

    def work():
        files, folder = all_tables(args.out, args.metric, args.draft, args.algo, args.env), Path(args.out, "tables")
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file, but the tables need a folder of that name; move the file away")
        whole = set(args.metric) == set(style.METRICS) and not cli.selects(args)
        table_writers.write(folder, files, KINDS if whole else ())
        shown = [name for name in files if name.startswith(("main-", "ablation-"))]
        print("\n".join(table_writers.markdown(table) for name in shown for table, _ in files[name]))
        print(f"{folder}: {', '.join(files)} (.md, .tex, .csv)")

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
