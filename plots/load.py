"""results/runs -> one long table of rows. What cannot be trusted is refused, with one line that says which file and what to do."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.plots import style

TYPES = {"algo": str, "task": str, "seed": np.int64, "step": np.int64, "metric": str, "value": float}
RUN = ["algo", "overrides", "task"]  # one method on one task; its seeds may be spread over several files


class Run(NamedTuple):
    """A CSV and what the JSON beside it says."""

    file: Path
    algo: str
    task: str
    seeds: list[int]
    config: dict
    shared: dict  # what all runs of a task must have in common
    columns: dict  # what each of its rows carries
    about: dict  # all of it


def runs(out: str | Path) -> list[Run]:
    """What the JSON files under `<out>/runs` say. UserError: none there, or a malformed one."""
    files = sorted(Path(out, "runs").glob("*/[!.]*.csv"))
    if not files:
        raise UserError(f"no runs in {Path(out, 'runs')}; make some with: python run_benchmark.py --out {out}")
    return [_about(file) for file in files]


def read(out: str | Path, overrides: bool = False) -> pd.DataFrame:
    """All rows under `<out>/runs`: the columns of the CSV files, and from the JSON beside each of them `overrides` ("" or
    "alpha=0.1, beta=0"), `data` (sha256), `data_mean`, `data_won` (win rate; -1: nothing to win), `random` and `best` (reference
    returns), `per_step`, `episodes` (of a final evaluation), `suite`, `preset` ("" if none), `file`; what is text is categorical. Runs
    with overrides (`--set`) are left out unless asked for; what is left may be empty.

    UserError: no runs at all, a malformed or incomplete file, runs that cannot be compared, an observation that exists twice.
    """
    found = runs(out)
    _refuse_mixtures([run for run in found if overrides or not run.columns["overrides"]])
    tables = [_rows(run) for run in found]
    frame = pd.concat(tables, ignore_index=True).astype({"metric": "category"})
    lengths = [len(table) for table in tables]
    for column, values in _columns(found).items():
        frame[column] = values.repeat(lengths)
    if not overrides:
        frame = frame[frame.overrides == ""]
    for column in frame.columns[frame.dtypes == "category"]:
        frame[column] = frame[column].cat.remove_unused_categories()
    _refuse_repetitions(frame)
    return frame.sort_values([*RUN, "metric", "seed", "step"], ignore_index=True)


def _columns(found: list[Run]) -> dict[str, pd.Categorical | np.ndarray]:
    """What the rows of a run carry, a value per run. A million rows need not hold a million strings."""
    values = {"algo": [run.algo for run in found], "task": [run.task for run in found]}
    values |= {column: [run.columns[column] for run in found] for column in found[0].columns}
    return {column: pd.Categorical(x) if isinstance(x[0], str) else np.array(x) for column, x in values.items()}


def holes(frame: pd.DataFrame, metric: str = "return") -> list[tuple[str, str, list[int]]]:
    """What lacks to the full product of the frame's algorithms, tasks and seeds: (algo, task, the seeds without `metric`)."""
    have = set(frame.loc[frame.metric == metric, ["algo", "task", "seed"]].itertuples(index=False, name=None))
    algos, tasks, seeds = (sorted(frame[column].unique().tolist()) for column in ("algo", "task", "seed"))
    cells = [(algo, task, [seed for seed in seeds if (algo, task, seed) not in have]) for algo in algos for task in tasks]
    return [cell for cell in cells if cell[2]]


def require(frame: pd.DataFrame, metric: str, shown: int = 6) -> None:
    """UserError that names the holes, if there are any."""
    missing, every = holes(frame, metric), frame.seed.nunique()
    if missing:
        cells = [f"{algo} on {task} ({'all' if len(seeds) == every else ', '.join(map(str, seeds))})" for algo, task, seeds in missing]
        rest = f" and {len(cells) - shown} more" if len(cells) > shown else ""
        raise UserError(
            f'{metric} is missing for {"; ".join(cells[:shown])}{rest} (seeds in brackets); run them, or print "--" with --draft'
        )


def per_task(frame: pd.DataFrame, column: str) -> dict:
    """Task -> the value that all its rows have in `column`."""
    first = frame.drop_duplicates("task")
    return dict(zip(first.task, first[column]))


def suites(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The frame's suites with their rows, in the order of the style."""
    return [(suite, frame[frame.suite == suite]) for suite in style.order_suites(frame.suite.unique())]


def measured(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The frame as a table of `metric` sees it. For `win_rate`: the tasks where there is something to win, on the scale of win rates."""
    if metric != "win_rate":
        return frame
    frame = frame[frame.data_won >= 0]
    return frame.assign(data_mean=frame.data_won, random=0.0, best=1.0)


def references(frame: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Task -> return of the uniformly random and of the best known policy."""
    low, high = per_task(frame, "random"), per_task(frame, "best")
    return {task: (low[task], high[task]) for task in low}


def _about(file: Path) -> Run:
    path = file.with_suffix(".json")
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        config, data, protocol, (low, high) = about["config"], about["data"], about["evaluation"], about["reference"]
        if not -np.inf < low < high < np.inf:
            raise ValueError(f"reference {about['reference']} is not two increasing numbers")
        columns = dict(
            overrides=", ".join(f"{name}={value}" for name, value in sorted(about["overrides"].items())),
            data=data["sha256"],
            data_mean=float(data["return_mean"]),
            data_won=float(data.get("win_rate", -1)),
            random=float(low),
            best=float(high),
            per_step=bool(about["per_step"]),
            episodes=int(protocol["final_episodes"]),
            suite=style.suite(about["backend"]),
            preset=str(about.get("preset", "")),
            file=str(file),
        )
        shared = {"data": data["sha256"], **protocol, "backend": about["backend"], "reference": [low, high], "per_step": about["per_step"]}
        shared["preset"] = columns["preset"]
        int(config["num_updates"])
        return Run(file, about["algo"], about["task"], list(about["seeds"]), config, shared, columns, about)
    except FileNotFoundError:
        raise UserError(f"{file} has no {path.name} beside it that says how it was made; delete it and run it again") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else error
        raise UserError(f"{path} is malformed ({what}); delete it and its CSV and run it again") from None


def _rows(run: Run) -> pd.DataFrame:
    """A CSV, checked against its JSON. A cut is seen although it falls between two lines: every seed must reach the last step."""

    def refuse(what: str):
        raise UserError(f"{run.file} {what}; delete it and run it again")

    try:
        table = pd.read_csv(run.file, dtype=TYPES, keep_default_na=False, na_values={"value": ["nan"]})[list(TYPES)]
    except KeyError as error:
        refuse(f"lacks a column ({error.args[0]})")
    except ValueError as error:
        refuse(f"is malformed ({' '.join(str(error).split())})")
    if not run.file.read_bytes().endswith(b"\n"):
        refuse("was cut short within a line")
    returns = table[table.metric.str.startswith("return")]
    if table.algo.ne(run.algo).any() or table.task.ne(run.task).any() or set(returns.seed) != set(run.seeds):
        refuse(f"does not hold the algorithm, task and seeds that {run.file.with_suffix('.json').name} announces")
    for row in returns[~np.isfinite(returns.value)].itertuples():
        refuse(f"has {row.metric} {row.value} at seed {row.seed}, step {row.step}")
    for (metric, seed), step in returns.groupby(["metric", "seed"]).step.max().items():
        if step != run.config["num_updates"]:
            refuse(f"was cut short: {metric} of seed {seed} ends at step {step} of {run.config['num_updates']}")
    return table[["seed", "step", "metric", "value"]]


def _refuse_mixtures(runs: list[Run]) -> None:
    """Runs of a task share data and protocol; runs of a method on a task share the config as well."""
    first: dict[tuple, tuple[Run, dict]] = {}
    for run in runs:
        method = (run.algo, run.task, run.columns["overrides"])
        for key, mine, whose in ((run.task, run.shared, run.task), (method, run.config, f"{run.algo} on {run.task}")):
            other, theirs = first.setdefault(key, (run, mine))
            for field in sorted(mine.keys() | theirs.keys()):
                a, b = theirs.get(field), mine.get(field)
                if a != b:
                    raise UserError(
                        f"runs of {whose} differ in {field}: {a} in {other.file}, {b} in {run.file}; move one kind out of runs/"
                    )


def _refuse_repetitions(frame: pd.DataFrame) -> None:
    """One observation per seed, step and metric; the seeds of a method on a task are evaluated at the same steps."""
    key = [*RUN, "seed", "step", "metric"]
    again = frame[frame.duplicated(key, keep=False)]
    if len(again):
        one = again.iloc[0]
        files = again.loc[(again[key] == one[key]).all(axis=1), "file"].unique()
        where = " and ".join(files) if len(files) > 1 else f"{files[0]} twice"
        raise UserError(f"{one.metric} of {one.algo} on {one.task}, seed {one.seed}, step {one.step} is in {where}; delete one of them")
    for (algo, _, task, metric), rows in frame[frame.metric.str.startswith("return")].groupby([*RUN, "metric"]):
        if len(rows) != rows.seed.nunique() * rows.step.nunique():
            files = ", ".join(rows.file.unique())
            raise UserError(f"{metric}: seeds of {algo} on {task} are evaluated at different steps ({files}); delete and run them again")
