"""Rows -> the tables of the paper, as Markdown, LaTeX (booktabs, graphicx) and CSV.

    python -m plots.tables [--out results] [--draft] [--metric return return_sampled win_rate]

Writes to `<out>/tables`, for every suite that was run: `main-<suite>` from the runs with their published settings, `best-<suite>` the same
of each run's best checkpoint, `ablation-<suite>` if there are runs with `--set`, `hyperparameters-<suite>`, `costs-<suite>`,
`published-<suite>` where papers have numbers for a task of that name, and `datasets`.
"""

import sys
from pathlib import Path

import pandas as pd

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.plots import cli, load, stats, style, table_writers, tables_appendix
from inspo_benchmark.plots.table_writers import CLOSE, MISSING, Experiment, Table, number, spread

PROTOCOLS = {"last": "last checkpoint", "best": "best checkpoint of each run, chosen by playing"}
MEAN, AGGREGATE, INTERVAL, RANK = "mean, normalised", "IQM, normalised", "95 % interval", "mean rank"
KINDS = ("main", "best", "ablation", "hyperparameters", "costs", "published", "datasets")


def _score(row, usual: int) -> Experiment:
    """A row of stats.cells. One run has no spread; a number of runs other than the `usual` one is shown."""
    runs = "" if row.n == usual else f" (n = {row.n})"
    return Experiment(spread(row.value, row.std) + runs + CLOSE * row.close, row.best)


def main(frame: pd.DataFrame, metric: str, protocol: str, draft: bool = False) -> tuple[Table, pd.DataFrame]:
    """Tasks x algorithms of a suite with rows of aggregates -> (table, its numbers in full, one row per cell). UserError: holes, unless
    `draft`."""
    if not draft:
        load.require(frame, metric)
    references, mean = load.references(frame), load.per_task(frame, "data_mean")
    algos, tasks = style.order(frame.algo.unique()), style.order(references)
    scores = stats.final(frame, metric, protocol)
    cells, total = stats.cells(scores), stats.aggregate(scores, references)
    means, ranks = stats.means(scores, references), stats.ranks(scores)
    usual = int(cells.n.max()) if len(cells) else 0
    shown = {(row.task, row.algo): _score(row, usual) for row in cells.itertuples()}
    for name, table, digits in ((MEAN, means, 1), (AGGREGATE, total, 1), (RANK, ranks, 2)):
        for row in table.itertuples():
            shown[name, row.algo] = Experiment(number(row.value, digits) + CLOSE * getattr(row, "close", False), row.best)
    for row in total.itertuples():
        shown[INTERVAL, row.algo] = Experiment(MISSING if pd.isna(row.low) else f"[{number(row.low, 1)}, {number(row.high, 1)}]")

    def line(name: str, *extra: Experiment) -> list[Experiment]:
        return [Experiment(name), *extra, *(shown.get((name, algo), Experiment(MISSING)) for algo in algos)]

    groups = [
        [line(task, Experiment(number(mean[task])), Experiment(number(references[task][1]))) for task in group]
        for group in style.grouped(tasks)
    ]
    blank = Experiment("")
    foot = [
        line(MEAN, blank, Experiment("100")),
        line(AGGREGATE, blank, Experiment("100")),
        line(INTERVAL, blank, blank),
        line(RANK, blank, blank),
    ]
    notes = [
        f"Normalised: the {style.METRICS[metric][0]} scaled to 0 (uniformly random) .. 100 (best known). IQM: interquartile mean over runs "
        f"and tasks, with its stratified bootstrap interval. Rank: by the mean score on each task, 1 is best.",
        *_notes(frame),
    ]
    references_too = sum(algo == "bc" for algo in algos)  # the method that all others have to beat
    spans = [("", 1), ("reference", 2 + references_too), ("methods", len(algos) - references_too)]
    header = ["task", "dataset", "best known", *(style.algorithm(algo)[0] for algo in algos)]
    suite, kind = frame.suite.iloc[0], "main" if protocol == "last" else protocol
    table = Table(f"{kind}-{suite}-{metric}", _caption(frame, metric, protocol, usual), header, groups, foot, notes, spans=spans)
    sums = [x.assign(task=name) for name, x in ((MEAN, means), (AGGREGATE, total), (RANK, ranks)) if len(x)]
    return table, pd.concat([cells, *sums]).assign(suite=suite, metric=metric, protocol=protocol)


def ablation(frame: pd.DataFrame, metric: str, protocol: str) -> tuple[Table, pd.DataFrame]:
    """Of each algorithm that was run with overrides: the unmodified method and each set of overrides x the tasks of these runs.
    Ablations need not be complete: a cell nobody ran is "--"."""
    frame = ablated(frame)
    tasks, groups, numbers = style.order(frame.task.unique()), [], []
    usual = int(frame.groupby(load.RUN, observed=True).seed.nunique().max())
    for algo in style.order(frame.algo.unique()):
        mine = frame[frame.algo == algo]
        cells = stats.cells(stats.final(mine.assign(algo=mine.overrides), metric, protocol)).rename(columns={"algo": "overrides"})
        shown = {(row.overrides, row.task): _score(row, usual) for row in cells.itertuples()}
        variants = ["", *sorted(set(mine.overrides.unique()) - {""})]
        names = [Experiment(style.algorithm(algo)[0]), *[Experiment("")] * (len(variants) - 1)]
        groups.append(
            [
                [name, Experiment(variant or "unmodified"), *(shown.get((variant, task), Experiment(MISSING)) for task in tasks)]
                for name, variant in zip(names, variants)
            ]
        )
        numbers.append(cells.assign(algo=algo))
    caption, suite = "What each part is worth. " + _caption(frame, metric, protocol, usual), frame.suite.iloc[0]
    table = Table(f"ablation-{suite}-{metric}", caption, ["method", "change", *tasks], groups, notes=_notes(frame), left=2)
    return table, pd.concat(numbers).assign(suite=suite, metric=metric, protocol=protocol)


def ablated(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of runs with overrides, and those of the unmodified methods on the same tasks."""
    changed = frame[frame.overrides != ""]
    return frame[frame.algo.isin(changed.algo.unique()) & frame.task.isin(changed.task.unique())]


def _caption(frame: pd.DataFrame, metric: str, protocol: str, n: int) -> str:
    episodes, (what, whom) = " or ".join(map(str, sorted(frame.episodes.unique()))), style.METRICS[metric]
    title = style.TITLES.get(suite := frame.suite.iloc[0], suite)
    return (
        f"{title}: {what} of {whom} ({metric}), {PROTOCOLS[protocol]}, {episodes} episodes in the final evaluation: "
        f"mean ± standard deviation over n = {n} seeds. Bold: highest mean of its comparison; "
        "†: its 95 % bootstrap interval overlaps with the best one's." + style.preset(frame.preset.iloc[0])
    )


def _notes(frame: pd.DataFrame) -> list[str]:
    per_step = load.per_task(frame, "per_step")
    means = [task for task in style.order(per_step) if per_step[task]]
    return [
        *([f"Mean reward per step instead of the sum over an episode: {', '.join(means)}."] if means else []),
        "Made by: python -m plots.tables (the data are in its table `datasets`)",
    ]


def everything(out: str | Path, metrics: list[str], draft: bool = False) -> dict[str, list[tuple[Table, pd.DataFrame]]]:
    """File -> its tables, of all runs under `out`."""
    found, frame = load.runs(out), load.read(out, overrides=True)
    files: dict[str, list[tuple[Table, pd.DataFrame]]] = {}
    for suite, mine in load.suites(frame):
        for metric in metrics:
            seen = load.measured(mine, metric)
            plain = seen[seen.overrides == ""]
            if len(plain):
                files.setdefault(f"main-{suite}", []).append(main(plain, metric, "last", draft))
                files.setdefault(f"best-{suite}", []).append(main(plain, metric, "best", draft))
            if (seen.overrides != "").any():
                files.setdefault(f"ablation-{suite}", []).append(ablation(seen, metric, "last"))
        runs = [run for run in found if run.columns["suite"] == suite]
        plain = mine[mine.overrides == ""]
        files |= {f"hyperparameters-{suite}": tables_appendix.hyperparameters(runs), f"costs-{suite}": [tables_appendix.costs(runs)]}
        files[f"published-{suite}"] = tables_appendix.published(plain) if len(plain) else []
    files["datasets"] = [tables_appendix.datasets(found)]
    return {name: tables for name, tables in files.items() if tables}


def run(argv: list[str] | None = None) -> int:
    args = cli.parser("plots.tables", "Make the tables from the rows under <out>/runs.").parse_args(argv)

    def work():
        files, folder = everything(args.out, args.metric, args.draft), Path(args.out, "tables")
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{folder} is a file where the folder of the tables should be; move it away")
        table_writers.write(folder, files, KINDS)
        shown = [name for name in files if name.startswith(("main-", "ablation-"))]
        print("\n".join(table_writers.markdown(table) for name in shown for table, _ in files[name]))
        print(f"{folder}: {', '.join(files)} (.md, .tex, .csv)")

    return cli.run(work)


if __name__ == "__main__":
    sys.exit(run())
