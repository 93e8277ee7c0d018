"""The files of finished and unfinished experiments in a results folder."""

import csv
import hashlib
import io
import json
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from inspo_benchmark.core.atomic_io import atomic_write, write_errors
from inspo_benchmark.core.errors import UserError, printable
from inspo_benchmark.core.limits import read_bytes
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.learning.train import Row
from inspo_benchmark.running import schema
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.provenance import ROOT
from inspo_benchmark.running.settings import settings

REFERENCE = ROOT / "results" / "reference"  # this project's own results
MIN_SHARE = 0.1  # of a method's own updates, for an experiment to count in estimates of time
COLUMNS = {"algo": str, "task": str, "seed": int, "step": int, "metric": str, "value": float}  # of a CSV, with their types

# --- finished experiments


def write_result(experiment: Experiment, metadata: dict[str, Any], rows: Sequence[Row]) -> None:
    """Write the JSON, which holds the CSV's sha256, then the CSV: where there is a CSV, the result is complete."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    table.writerows((experiment.algo, experiment.task, seed, step, metric, f"{value:.7g}") for seed, step, metric, value in rows)
    content = text.getvalue().encode()
    _write_json(metadata | {"csv_sha256": hashlib.sha256(content).hexdigest()}, experiment.json_path)
    with atomic_write(experiment.csv_path) as part:
        part.write_bytes(content)


def read_results(
    out: Path, algo: str = "*", task: str = "*", required: set[str] = schema.FINISHED
) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The JSON files of finished experiments in a results folder, and their content as `read_result` returns it."""
    for path in out.glob(f"runs/{algo}/[!.]*.json" if task == "*" else f"runs/{algo}/{task}-*.json"):  # temporary files begin with a dot
        metadata = read_result(path, required)
        if path.with_suffix(".csv").exists():
            yield path, metadata


def read_whole_results(out: Path, required: set[str] = schema.FINISHED) -> list[tuple[Path, dict[str, Any]]]:
    """All of `read_results`. UserError: also if a CSV is not the one that was written with its JSON."""
    results = list(read_results(out, required=required))
    for path, metadata in results:
        csv_path = path.with_suffix(".csv")
        try:
            whole = is_whole(metadata, read_bytes(csv_path))
        except OSError:
            whole = False
        if not whole:
            raise damaged(csv_path)
    return results


def is_whole(metadata: dict[str, Any], content: bytes) -> bool:
    """Whether this is the content of the CSV that was written with a JSON. True if the JSON, an older one, holds no hash."""
    return metadata.get("csv_sha256") in (None, hashlib.sha256(content).hexdigest())


def read_result(path: Path, required: set[str] = schema.FINISHED) -> dict[str, Any]:
    """The JSON of a finished experiment. FileNotFoundError. UserError: it is malformed, or a `required` field is missing."""
    try:
        return schema.parse(path, required)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as e:
        raise UserError(f"{path} is malformed ({e}); delete it and its CSV, and run the experiment again") from None


def results_of(experiment: Experiment, required: set[str] = schema.FINISHED) -> list[tuple[Path, dict[str, Any]]]:
    """The results that hold some of the experiment's seeds, maybe together with others."""
    results = read_results(experiment.out, experiment.algo, experiment.task, required)
    return [(path, about) for path, about in results if about["group"] == experiment.group and {*about["seeds"]} & {*experiment.seeds}]


def finished_seeds(out: Path, algo: str = "*", task: str = "*") -> dict[str, set[int]]:
    """Group -> seeds that have a finished result in a results folder."""
    return seeds_by_group(metadata for _, metadata in read_results(out, algo, task))


def seeds_by_group(results: Iterable[dict[str, Any]]) -> dict[str, set[int]]:
    """The same of the JSON files' content."""
    finished = defaultdict(set)
    for metadata in results:
        finished[metadata["group"]] |= set(metadata["seeds"])
    return finished


def seconds_per_update(results: Iterable[dict[str, Any]], min_share: float = MIN_SHARE) -> dict[tuple[str, str], float]:
    """(algorithm, task) -> seconds per update and seed, the median of the finished experiments. Those with a smaller share of the method's
    own updates do not count: they have spent most of their time on the start and on evaluation."""
    seconds: dict[tuple[str, str], list[float]] = defaultdict(list)
    for metadata in results:
        pair, updates = (metadata["algo"], metadata["task"]), metadata["config"]["num_updates"]
        if updates >= min_share * own_updates(*pair):
            seconds[pair].append(metadata["wall_seconds"] / (updates * len(metadata["seeds"])))
    return {pair: statistics.median(values) for pair, values in seconds.items()}


@cache
def own_updates(algo: str, task: str) -> int:
    """The number of updates of a method on a task without --set; 0 if one of them is unknown."""
    return settings(algo, task, {}).num_updates if algo in ALGORITHMS and task in TASKS else 0


def is_finished(experiment: Experiment) -> bool:
    """Whether all seeds have a result, in whatever files."""
    return experiment.csv_path.exists() or not experiment.remaining(finished_seeds(experiment.out, experiment.algo, experiment.task))


def damaged(csv_path: Path) -> UserError:
    return UserError(f"{csv_path} is damaged; delete it and the JSON beside it, and run the experiment again")


def final_return(experiment: Experiment) -> tuple[float, float]:
    """Mean return of the final greedy policies, and seconds of training. OSError: not finished. UserError: a damaged file."""
    metadata = read_result(experiment.json_path)
    scores = final_scores(experiment.csv_path, metadata)
    return statistics.fmean(scores["return"].values()), metadata["wall_seconds"]


def final_scores(csv_path: Path, metadata: dict[str, Any]) -> dict[str, dict[int, float]]:
    """Metric -> seed -> value after the last update. `metadata`: of the JSON beside the CSV. OSError. UserError: the CSV is damaged."""
    last, scores = str(metadata["config"]["num_updates"]), defaultdict(dict)
    try:
        for row in csv.DictReader(io.StringIO(read_bytes(csv_path).decode(), newline="")):
            if row["step"] == last:
                scores[row["metric"]][int(row["seed"])] = float(row["value"])
        if not set(metadata["seeds"]) <= scores["return"].keys():
            raise ValueError
    except (ValueError, KeyError, TypeError, csv.Error):
        raise damaged(csv_path) from None
    return dict(scores)


# --- unfinished experiments


def write_record(experiment: Experiment, reason: str = "", again: bool = True, progress: tuple[int, float] | None = None) -> None:
    """Record an experiment that has started (no reason) or failed (with a reason). `again`: the same command runs it again.
    `progress`: update and mean return of the last evaluation; if None, those of the existing record."""
    progress = progress or last_evaluation(read_record(experiment.record_path) or {})
    record = experiment.metadata | {"data": {"sha256": experiment.data}, "reason": reason, "again": again}
    if progress:
        record["progress"] = {"update": progress[0], "return": progress[1]}
    with write_errors(experiment.record_path):
        experiment.record_path.parent.mkdir(parents=True, exist_ok=True)
    _write_json(record, experiment.record_path)


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of an unfinished experiment. None: it is absent or damaged, and the experiment counts as not started."""
    try:
        record = schema.parse(path, schema.UNFINISHED)
    except (OSError, ValueError):
        return None
    return record | {"reason": " ".join(map(printable, record["reason"].split("\n")))}


def last_evaluation(record: dict[str, Any]) -> tuple[int, float] | None:
    """Update and mean return of the last evaluation in a record."""
    match record.get("progress"):
        case {"update": int(update), "return": float(score)}:
            return update, score
    return None


def earlier_failure(experiment: Experiment) -> str:
    """Why the experiment failed in an earlier sweep, if only --retry-failed runs it again; else empty."""
    record = read_record(experiment.record_path)
    return record["reason"] if record and not record["again"] else ""


def delete_unfinished(experiment: Experiment) -> None:
    """Delete the checkpoint and the record."""
    experiment.checkpoint_path.unlink(missing_ok=True)
    experiment.record_path.unlink(missing_ok=True)


def delete_partial_files(experiment: Experiment) -> None:
    """Delete what killed processes left half written. The caller holds the lock."""
    for path in (experiment.csv_path, experiment.record_path):
        for part in path.parent.glob(f".*{path.stem}.*.part*"):
            part.unlink(missing_ok=True)


def _write_json(content: dict[str, Any], path: Path) -> None:
    with atomic_write(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")
