"""The state of a results folder: what is finished, running, interrupted, failed or stale, and which files can be cleaned up."""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets.catalog import expected_sha256
from inspo_benchmark.learning.saved_policy import SUFFIX
from inspo_benchmark.running.experiment import describe, is_locked
from inspo_benchmark.running.progress import plural
from inspo_benchmark.running.provenance import ROOT, changed_since
from inspo_benchmark.running.results import last_evaluation, read_record, read_whole_results, seeds_by_group
from inspo_benchmark.running.schema import COMPARED, FINISHED
from inspo_benchmark.running.settings import settings

MAX_FILES = 4  # changed files that are listed


class Entry(NamedTuple):
    path: Path  # the JSON of a finished experiment, or the record of an unfinished one
    metadata: dict[str, Any]  # its content
    detail: str  # progress, reason of a failure, or why it is stale

    def __str__(self):
        experiment = describe(*(self.metadata[key] for key in ("algo", "task", "seeds", "overrides")))
        return f"{experiment}: {self.detail}" if self.detail else experiment


class Status(NamedTuple):
    finished: list[Entry]
    running: list[Entry]
    interrupted: list[Entry]
    failed: list[Entry]
    stale: list[Entry]

    def text(self, out: Path) -> str:
        """A line of numbers, then every experiment that is not finished, then results that older code made."""
        seeds = sum(len(entry.metadata["seeds"]) for entry in self.finished)
        lines = [
            f"{out}: {len(self.finished)} finished ({plural(seeds, 'seed')}), {len(self.running)} running, "
            f"{len(self.interrupted)} interrupted, {len(self.failed)} failed, {len(self.stale)} stale"
        ]
        for title, entries in (
            ("running:", self.running),
            ("interrupted (the same command resumes them):", self.interrupted),
            ("failed (skipped unless --retry-failed is given):", [x for x in self.failed if not x.metadata["again"]]),
            ("failed (the same command retries them):", [x for x in self.failed if x.metadata["again"]]),
            (f"stale (settings, task or data have changed; --clean moves results to {out / 'stale'}):", self.stale),
        ):
            lines += [title, *(f"  {entry}" for entry in entries)] if entries else []
        return "\n".join([*lines, *code_changes(self.finished)])


def scan(out: Path) -> Status:
    """UserError: a file is damaged."""
    status = Status([], [], [], [], [])
    results = read_whole_results(out, FINISHED | COMPARED | {"code", "code.revision"})
    for path, metadata in results:
        reason = stale_reason(metadata)
        (status.stale if reason else status.finished).append(Entry(path, metadata, reason))
    finished = seeds_by_group(metadata for _, metadata in results)
    for path in sorted(out.glob("unfinished/*/[!.]*.json")):
        record = read_record(path)
        if record is None or set(record["seeds"]) <= finished.get(record["group"], set()):
            continue  # the latter: a process was killed after it had written the result
        if not record["reason"] and is_locked(out, record["algo"], record["task"], record["group"]):
            status.running.append(Entry(path, record, progress(record)))
        elif reason := stale_reason(record):
            status.stale.append(Entry(path, record, reason))
        elif record["reason"]:
            status.failed.append(Entry(path, record, f"{' '.join(record['reason'].split())}; log: {log_path(out, path)}"))
        else:
            status.interrupted.append(Entry(path, record, progress(record)))
    return status


def stale_reason(metadata: dict[str, Any]) -> str:
    """Why the same experiment would have another key now; empty if it would not."""
    algo, task = metadata["algo"], metadata["task"]
    if algo not in ALGORITHMS:
        return f"the algorithm {algo} is unknown here; is INSPO_BENCHMARK_MODULES set?"
    if task not in TASKS:
        return f"the task {task} is unknown here; is INSPO_BENCHMARK_MODULES set?"
    if metadata["evaluation"] != TASKS[task].evaluation:
        return "the evaluation schedule changed"
    before = metadata["config"]
    now = current_config(algo, task, json.dumps(metadata["overrides"], sort_keys=True), metadata.get("preset", ""))
    if now is None:
        return "its settings no longer exist"
    if now != before:
        names = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
        return "settings changed: " + ", ".join(f"{name} is {now.get(name)}, was {before.get(name)}" for name in names)
    if current_dataset_hash(task) not in ("", metadata["data"]["sha256"]):
        return "the dataset changed"
    return ""


def is_known(metadata: dict[str, Any]) -> bool:
    """Whether the method and the task are registered. Those of other modules are not, unless INSPO_BENCHMARK_MODULES names them."""
    return metadata["algo"] in ALGORITHMS and metadata["task"] in TASKS


@cache
def current_config(algo: str, task: str, overrides: str, preset: str) -> dict[str, Any] | None:
    """The method's configuration for the task today, as read from JSON. None: it does not accept these overrides."""
    try:
        return dict(vars(settings(algo, task, json.loads(overrides), preset=preset)))
    except (TypeError, ValueError, LookupError, ArithmeticError, UserError):  # what a stranger's file says of settings
        return None


@cache
def current_dataset_hash(task: str) -> str:
    return expected_sha256(TASKS[task])


def code_changes(entries: list[Entry]) -> list[str]:
    """The revisions that made finished results, with the files that these results depend on and that have changed since."""
    algos, results = defaultdict(set), Counter()
    for entry in entries:
        revision = entry.metadata["code"]["revision"]
        algos[revision].add(entry.metadata["algo"])
        results[revision] += 1
    lines = []
    for revision, names in algos.items():
        modules = {ALGORITHMS[name].__module__.rpartition(".")[2] for name in names}
        paths = ["core", "envs", "datasets", "learning", *sorted(set().union(*map(method_files, modules)))]
        if files := changed_since(revision, paths):
            more = f" and {len(files) - MAX_FILES} more" if len(files) > MAX_FILES else ""
            lines.append(
                f"  {plural(results[revision], 'result')} from {revision[:10]}; changed since: {', '.join(files[:MAX_FILES])}{more}"
            )
    return ["made by older code (tables do not check this):", *lines] if lines else []


def method_files(module: str) -> set[str]:
    """The file of a method's module in algorithms/, and those of other methods that it imports."""
    path = ROOT / "algorithms" / f"{module}.py"
    others = re.findall(r"^from inspo_benchmark\.algorithms\.(\w+) import", path.read_text(), re.M) if path.exists() else []
    return {f"algorithms/{module}.py"}.union(*map(method_files, others))


def progress(record: dict[str, Any]) -> str:
    """The last evaluation of an unfinished experiment."""
    if not (last := last_evaluation(record)):
        return ""
    return f"update {last[0]} of {record['config'].get('num_updates')}: return {last[1]:.4g}"


def log_path(out: Path, record: Path) -> Path:
    return (out / "logs" / record.relative_to(out / "unfinished")).with_suffix(".log")


def files_to_clean(out: Path) -> Iterator[tuple[Path, Path | None]]:
    """Files to move (from, to) and to delete (path, None).

    Stale results are moved to `stale`, unless their method or task is unknown here. Records and checkpoints of stale or finished
    experiments are deleted, and files that killed processes left half written. Files of running experiments, and all that the next sweep
    resumes from, stay.
    """
    status = scan(out)
    unknown = [entry for entry in status.stale if not is_known(entry.metadata)]
    running = {(entry.path.parent.name, entry.path.stem) for entry in status.running}
    resumable = running | {(entry.path.parent.name, entry.path.stem) for entry in [*status.interrupted, *status.failed, *unknown]}

    def in_use(part: Path) -> bool:
        """Whether a running experiment is writing this temporary file."""
        return any(algo == part.parent.name and stem in part.name for algo, stem in running)

    for entry in status.stale:
        if entry.path.is_relative_to(out / "runs") and is_known(entry.metadata):
            for path in (entry.path.with_suffix(suffix) for suffix in (".csv", SUFFIX, ".json")):
                if path.exists():
                    yield path, out / "stale" / path.relative_to(out / "runs")
    for path in sorted(out.glob("unfinished/*/*.json")):
        if ".part" in path.suffixes:
            unused = not in_use(path)
        else:
            unused = (path.parent.name, path.stem) not in resumable
        if unused:
            yield path, None
    for path in sorted(out.glob("runs/*/.*")):
        if ".part" in path.suffixes:
            if not in_use(path):
                yield path, None
        elif path.suffix == ".checkpoint" and (path.parent.name, path.name[1 : -len(".checkpoint")]) not in resumable:
            yield path, None
