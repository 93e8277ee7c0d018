"""Reads the files in results/runs into one long table. A damaged or inconsistent file is an error that names it and the remedy."""

import io
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pandas.api.types import union_categoricals

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.limits import check_size
from inspo_benchmark.core.registry import NAME, match
from inspo_benchmark.envs.smac import UNINFORMATIVE
from inspo_benchmark.plots import stats, style
from inspo_benchmark.running.results import COLUMNS, is_whole, read_result
from inspo_benchmark.running.untrusted import check_folder, read_regular

REQUIRED = {
    *("algo", "task", "seeds", "config", "config.num_updates", "overrides", "evaluation", "evaluation.final_episodes"),
    *("data", "data.sha256", "data.return_mean", "backend", "reference", "per_step"),
}
TOGETHER, MAX_CSV = 500, 10 << 20  # files that are read at once, and bytes of each
MAX_RETURN = 1e30  # of the magnitude of returns: their squares have to be finite
SAMPLED = "_sampled"  # the end of the names of scores of sampled actions
NAMED = 6  # groups of missing runs that an error names
GROUP = ["algo", "overrides", "task"]  # one method on one task; several files may hold its seeds


class ResultFile(NamedTuple):
    """The CSV file of some runs, and its JSON file."""

    path: Path  # of the CSV
    algo: str
    task: str
    seeds: list[int]
    config: dict
    shared: dict  # what all runs of a task must have in common
    columns: dict  # added to each of its rows
    document: dict  # the whole JSON


def result_files(out: str | Path) -> list[ResultFile]:
    """The files in `<out>/runs`. UserError: there are none, a JSON file is malformed or the folder holds symbolic links."""
    check_folder(Path(out))
    paths = sorted(Path(out, "runs").glob("*/[!.]*.csv"))
    if not paths:
        raise UserError(f"no runs in {Path(out, 'runs')}; {_way_out(Path(out))}")
    return [_result_file(path) for path in paths]


def _way_out(out: Path) -> str:
    """What to do about a folder without results: it may hold results folders, or be a part of one."""
    near = [out.parent] if out.name in ("runs", "tables", "figures") else [path.parent for path in sorted(out.glob("*/runs"))]
    return f"did you mean --out {near[0]}?" if near else f"make some with: python run_benchmark.py --out {out}"


def selected(files: list[ResultFile], algos: Iterable[str], tasks: Iterable[str]) -> list[ResultFile]:
    """The files of some methods and tasks, both given as globs. UserError: a glob matches none of them."""
    for kind, patterns in (("algo", algos), ("task", tasks)):
        chosen = match(patterns, {getattr(file, kind) for file in files}, f"{kind} of these runs")
        files = [file for file in files if getattr(file, kind) in chosen]
    return files


def read(out: str | Path, files: list[ResultFile] | None = None) -> pd.DataFrame:
    """All rows in `<out>/runs`: the columns of the CSV files and, from the JSON files, `overrides` ("" or "alpha=0.1, beta=0"), `data`
    (sha256), `data_mean` (mean return), `data_win_rate` (-1: nothing to win), `behavior` and
    `behavior_win_rate` (of the behavior policies' most probable actions; NaN: unknown), `stochastic` (false: the method has no sampled
    scores), `reference_low` and `reference_high` (returns with the
    normalized scores 0 and 100), `per_step`, `episodes` (of the final evaluation), `suite`, `preset` ("" if none) and `file`. Text columns
    are categorical.

    `files`: some of those in the folder (default: all). UserError: no runs, a malformed or incomplete file, runs that cannot be compared,
    an observation that exists twice.
    """
    files = result_files(out) if files is None else files
    _refuse_floods(files)
    _refuse_mixtures(files)
    frame, lengths = _all_rows(files)
    for column, values in _columns(files).items():
        frame[column] = values.repeat(lengths)
    frame = frame[frame.stochastic | ~frame.metric.str.endswith(SAMPLED)]
    for column in frame.columns[frame.dtypes == "category"]:
        frame[column] = frame[column].cat.remove_unused_categories()
    _refuse_repetitions(frame)
    return frame.sort_values([*GROUP, "metric", "seed", "step"], ignore_index=True)


def _columns(files: list[ResultFile]) -> dict[str, pd.Categorical | np.ndarray]:
    """The columns that a file adds to its rows, with one value per file. Categories save memory: a million rows need not hold a million
    strings."""
    values = {"algo": [file.algo for file in files], "task": [file.task for file in files]}
    values |= {column: [file.columns[column] for file in files] for column in files[0].columns}
    return {column: pd.Categorical(x) if isinstance(x[0], str) else np.array(x) for column, x in values.items()}


def missing_seeds(frame: pd.DataFrame, metric: str = "return") -> list[tuple[str, str, list[int]]]:
    """(algo, task, seeds without `metric`) wherever the full product of the frame's algorithms, tasks and seeds is incomplete. Methods
    without a stochastic policy lack no sampled scores."""
    present = set(frame.loc[frame.metric == metric, ["algo", "task", "seed"]].itertuples(index=False, name=None))
    algos, tasks, seeds = (sorted(frame[column].unique().tolist()) for column in ("algo", "task", "seed"))
    nothing_to_sample = set(frame.loc[~frame.stochastic, ["algo", "task"]].itertuples(index=False, name=None))
    pairs = [(algo, task) for algo in algos for task in tasks if not (metric.endswith(SAMPLED) and (algo, task) in nothing_to_sample)]
    missing = [(algo, task, [seed for seed in seeds if (algo, task, seed) not in present]) for algo, task in pairs]
    return [group for group in missing if group[2]]


def require_complete(frame: pd.DataFrame, metric: str) -> None:
    """UserError that names missing runs, if there are any."""
    missing, count = missing_seeds(frame, metric), frame.seed.nunique()
    if missing:
        names = [f"{algo} on {task} ({'all' if len(seeds) == count else ', '.join(map(str, seeds))})" for algo, task, seeds in missing]
        rest = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        raise UserError(
            f'{metric} is missing for {"; ".join(names[:NAMED])}{rest} (seeds in brackets); run them, or print "--" with --draft'
        )


def per_task(frame: pd.DataFrame, column: str) -> dict:
    """Task -> the value in `column`, which all rows of a task share."""
    first = frame.drop_duplicates("task")
    return dict(zip(first.task, first[column]))


def suites(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The suites with their rows, in the order of plots.style."""
    return [(suite, frame[frame.suite == suite]) for suite in style.order_suites(frame.suite.unique())]


def for_metric(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows for tables of `metric`. For win rates: tasks with something to win, with win rates as data mean, behavior and reference
    scores."""
    if not metric.startswith("win_rate"):
        return frame
    frame = frame[frame.data_win_rate >= 0]
    return frame.assign(data_mean=frame.data_win_rate, behavior=frame.behavior_win_rate, reference_low=0.0, reference_high=1.0)


def informative(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of the tasks that aggregates are over: all that are informative, or all tasks if there are no others."""
    kept = frame[~frame.task.isin(UNINFORMATIVE)]
    return kept if len(kept) else frame


def uninformative_note(frame: pd.DataFrame) -> list[str]:
    """A note on the tasks that the aggregates leave out."""
    left_out = style.order(set(frame.task) - set(informative(frame).task))
    return [f"The aggregates leave out tasks that do not tell methods apart: {', '.join(left_out)}."] if left_out else []


def references(frame: pd.DataFrame) -> dict[str, tuple[float, float]]:
    """Task -> the returns whose normalized scores are 0 and 100."""
    low, high = per_task(frame, "reference_low"), per_task(frame, "reference_high")
    return {task: (low[task], high[task]) for task in low}


def _result_file(path: Path) -> ResultFile:
    json_path = path.with_suffix(".json")
    try:
        document = read_result(json_path, REQUIRED)
    except FileNotFoundError:
        raise UserError(f"{path} has no {json_path.name} beside it, with its settings; delete it, and run the experiment again") from None
    config, data, evaluation, (low, high) = (document[key] for key in ("config", "data", "evaluation", "reference"))
    columns = dict(
        overrides=", ".join(f"{name}={value}" for name, value in sorted(document["overrides"].items())),
        data=data["sha256"],
        data_mean=float(data["return_mean"]),
        data_win_rate=float(data.get("win_rate", -1)),
        behavior=float(data.get("behavior_greedy_return", math.nan)),
        behavior_win_rate=float(data.get("behavior_greedy_win_rate", math.nan)),
        stochastic=document.get("stochastic", True),
        reference_low=float(low),
        reference_high=float(high),
        per_step=document["per_step"],
        episodes=evaluation["final_episodes"],
        suite=style.suite_of(document["backend"]),
        preset=document.get("preset", ""),
        file=str(path),
    )
    shared = {
        "data": data["sha256"],
        **evaluation,
        "backend": document["backend"],
        "reference": [low, high],
        "per_step": document["per_step"],
    }
    return ResultFile(path, document["algo"], document["task"], document["seeds"], config, shared, columns, document)


def _all_rows(files: list[ResultFile]) -> tuple[pd.DataFrame, list[int]]:
    """The rows of all files, one after the other, and how many each file has. Many files are read and checked at once, and one by one only
    where that finds a fault."""
    frames, lengths = [], []
    for k in range(0, len(files), TOGETHER):
        some = files[k : k + TOGETHER]
        frame, counts = _rows_together(some) or (None, [])
        if frame is None:
            tables = [_rows(file) for file in some]
            frame, counts = pd.concat(tables, ignore_index=True).astype({"metric": "category"}), [len(table) for table in tables]
        frames.append(frame)
        lengths += counts
    metrics = union_categoricals([frame.metric for frame in frames], sort_categories=True)
    together = pd.concat([frame.drop(columns="metric") for frame in frames], ignore_index=True)
    together.insert(2, "metric", metrics)
    return together, lengths


def _parsed(content: bytes, types: dict) -> pd.DataFrame:
    with np.errstate(invalid="ignore"):  # pandas casts infinite seeds and steps before it refuses them
        return pd.read_csv(io.BytesIO(content), dtype=types, keep_default_na=False, na_values={"value": ["nan"]})


def _rows_together(files: list[ResultFile]) -> tuple[pd.DataFrame, list[int]] | None:
    """What `_rows` returns of each file, in one table, and the number of rows of each; None if one of them is not as usual."""
    header = (",".join(COLUMNS) + "\n").encode()
    try:
        contents = [read_regular(file.path, MAX_CSV) for file in files]
        usual = all(content.startswith(header) and content.endswith(b"\n") and b'"' not in content for content in contents)
        counts = [content.count(b"\n") - 1 for content in contents]
        whole = all(is_whole(file.document, content) for file, content in zip(files, contents))
        body = header + b"".join(content[len(header) :] for content in contents)
        types = COLUMNS | dict.fromkeys(("algo", "task", "metric"), "category")
        table = _parsed(body, types)
    except (OSError, ValueError, OverflowError):
        return None
    if not usual or not whole or len(table) != sum(counts) or not all(map(NAME.fullmatch, table.metric.cat.categories)):
        return None
    number = np.repeat(np.arange(len(files)), counts)  # of each row's file
    for column in ("algo", "task"):
        codes = table[column].cat.categories.get_indexer([getattr(file, column) for file in files])
        if (table[column].cat.codes.to_numpy() != codes[number]).any():
            return None
    rows = table.assign(file=number)
    scores = rows[rows.metric.isin(list(style.METRICS))]
    if _different(rows, ["file", "seed", "step"]) != _different(scores, ["file", "seed", "step"]):
        return None
    last = scores.groupby(["file", "metric", "seed"], observed=True).step.max()
    steps = np.array([file.config["num_updates"] for file in files])[last.index.get_level_values("file")]
    if not (scores.value.abs() <= MAX_RETURN).all() or (last.to_numpy() != steps).any():
        return None
    if set(zip(last.index.get_level_values("file"), last.index.get_level_values("seed"))) != {
        (k, seed) for k, file in enumerate(files) for seed in file.seeds
    }:
        return None
    return table[["seed", "step", "metric", "value"]], counts


def _rows(file: ResultFile) -> pd.DataFrame:
    """The CSV, checked against its JSON. Every seed must reach the last step, which reveals a file that was cut short between two lines."""

    def refuse(what: str):
        raise UserError(f"{file.path} {what}; delete it and the JSON beside it, and run the experiment again")

    try:
        size = file.path.lstat().st_size
        check_size(file.path, 10 * size, size)
        content = read_regular(file.path)
        table = _parsed(content, COLUMNS)[list(COLUMNS)]
    except KeyError as error:
        refuse(f"lacks a column ({error.args[0]})")
    except (OSError, ValueError, OverflowError) as error:
        refuse(f"is malformed ({' '.join(str(error).split())[:200]})")
    if not content.endswith(b"\n"):
        refuse("was cut short within a line")
    if not is_whole(file.document, content):
        refuse("is not the file that was written: its JSON holds another sha256")
    if odd := [name for name in table.metric.unique() if not NAME.fullmatch(name)]:
        refuse(f"has a metric of the name {odd[0][:40]!a}")
    scores = table[table.metric.isin(list(style.METRICS))]
    if table.algo.ne(file.algo).any() or table.task.ne(file.task).any() or set(scores.seed) != set(file.seeds):
        refuse(f"does not hold the algorithm, task and seeds of {file.path.with_suffix('.json').name}")
    for row in scores[~(scores.value.abs() <= MAX_RETURN)].itertuples():
        refuse(f"has {row.metric} {row.value} at seed {row.seed}, step {row.step}")
    for (metric, seed), step in scores.groupby(["metric", "seed"]).step.max().items():
        if step != file.config["num_updates"]:
            refuse(f"was cut short: {metric} of seed {seed} ends at step {step} of {file.config['num_updates']}")
    if _different(table, ["seed", "step"]) != _different(scores, ["seed", "step"]):
        refuse("has losses of seeds or at steps without scores")
    return table[["seed", "step", "metric", "value"]]


def _different(rows: pd.DataFrame, columns: list[str]) -> int:
    """How many different values the rows have in these columns together."""
    return len(rows[columns].drop_duplicates())


def _refuse_floods(files: list[ResultFile]) -> None:
    """An interval needs the resampled scores and their indices, that of ranks for all runs at once."""
    runs = sum(len(file.seeds) for file in files)
    stored = sum(path.lstat().st_size for file in files for path in (file.path, file.path.with_suffix(".json")))
    check_size(files[0].path.parents[1], 16 * stats.RESAMPLES * runs, stored)


def _refuse_mixtures(files: list[ResultFile]) -> None:
    """Runs of a suite share the preset, those of a task data and evaluation schedule, those of a method on a task the config."""
    first: dict[tuple | str, tuple[ResultFile, dict]] = {}
    for file in files:
        suite, method = file.columns["suite"], (file.algo, file.task, file.columns["overrides"])
        for key, mine, whose in (
            (("suite", suite), {"preset": file.columns["preset"] or "none"}, style.suite(suite).title),
            (file.task, file.shared, file.task),
            (method, file.config, f"{file.algo} on {file.task}"),
        ):
            other, theirs = first.setdefault(key, (file, mine))
            for field in sorted(mine.keys() | theirs.keys()):
                a, b = theirs.get(field), mine.get(field)
                if a != b:
                    raise UserError(
                        f"runs of {whose} differ in {field}: {a} in {other.path}, {b} in {file.path}; move one kind out of runs/"
                    )


def _refuse_repetitions(frame: pd.DataFrame) -> None:
    """One observation per seed, step and metric; the seeds of a method on a task are evaluated at the same steps."""
    key = [*GROUP, "seed", "step", "metric"]
    again = frame[frame.duplicated(key, keep=False)]
    if len(again):
        one = again.iloc[0]
        files = again.loc[(again[key] == one[key]).all(axis=1), "file"].unique()
        where = " and ".join(files) if len(files) > 1 else f"{files[0]} twice"
        raise UserError(f"{one.metric} of {one.algo} on {one.task}, seed {one.seed}, step {one.step} is in {where}; delete one of them")
    groups = frame[frame.metric.isin(list(style.METRICS))].groupby([*GROUP, "metric"], observed=True)
    uneven = groups.size() != groups.seed.nunique() * groups.step.nunique()
    for algo, overrides, task, metric in uneven.index[uneven]:
        files = ", ".join(groups.get_group((algo, overrides, task, metric)).file.unique())
        raise UserError(f"{metric}: seeds of {algo} on {task} are evaluated at different steps ({files}); delete and run them again")
