"""What lies in a results folder: what is finished, runs, is begun, failed, or stale; and how it is cleaned."""

import dataclasses
import json
import os
import re
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from inspo_benchmark.core.errors import UserError
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.datasets.catalog import expected
from inspo_benchmark.learning.saved_policy import SUFFIX
from inspo_benchmark.running.experiment import describe
from inspo_benchmark.running.results import read_record, read_results
from inspo_benchmark.running.settings import settings

ROOT = Path(__file__).parents[1]
TAIL = 2000  # bytes at the end of a log in which the last step is looked for
STEP = re.compile(r"^\S+ \S+ (step \d+ of \d+: return \S+)$", re.MULTILINE)  # as running.worker says it


class Entry(NamedTuple):
    path: Path  # the JSON of a finished run, or the note of an unfinished one
    about: dict[str, Any]
    said: str  # where it stands, why it failed, why it is stale

    def __str__(self):
        said = f": {self.said}" if self.said else ""
        return f"{describe(self.about['algo'], self.about['task'], self.about['seeds'], self.about['overrides'])}{said}"


class Status(NamedTuple):
    finished: list[Entry]
    running: list[Entry]
    begun: list[Entry]
    failed: list[Entry]
    stale: list[Entry]

    def text(self, out: Path) -> str:
        """Numbers, then every cell that is not simply finished."""
        seeds = sum(len(entry.about["seeds"]) for entry in self.finished)
        lines = [
            f"{out}: {len(self.finished)} finished ({seeds} seeds), {len(self.running)} running, {len(self.begun)} begun, "
            f"{len(self.failed)} failed, {len(self.stale)} stale"
        ]
        for title, entries in (
            ("running", self.running),
            ("begun: the same command goes on with them", self.begun),
            ("failed: left out by the same command, unless with --retry-failed", [x for x in self.failed if not x.about["again"]]),
            ("failed: the same command tries them again", [x for x in self.failed if x.about["again"]]),
            ("stale: not what would be made now, and no part of it; --clean moves them away", self.stale),
        ):
            lines += [title, *(f"  {entry}" for entry in entries)] if entries else []
        return "\n".join([*lines, *changes(self.finished)])


def scan(out: Path) -> Status:
    """UserError for a damaged file."""
    found = Status([], [], [], [], [])
    done = defaultdict(set)
    for path, about in read_results(out):
        why = stale(about)
        (found.stale if why else found.finished).append(Entry(path, about, why))
        done[about["group"]] |= set(about["seeds"])
    for path in sorted(out.glob("unfinished/*/[!.]*.json")):
        about = read_record(path)
        if about is None or set(about["seeds"]) <= done.get(about["group"], set()):
            continue  # the latter is of a process that was killed after its work
        if held(out, about):
            found.running.append(Entry(path, about, reached(out, path)))
        elif why := stale(about):
            found.stale.append(Entry(path, about, why))
        elif about["reason"]:
            found.failed.append(Entry(path, about, f"{about['reason']}; {log_of(out, path)}"))
        else:
            found.begun.append(Entry(path, about, reached(out, path)))
    return found


def stale(about: dict[str, Any]) -> str:
    """Why the same cell would have another key now; empty if it would not."""
    algo, task = about["algo"], about["task"]
    if algo not in ALGORITHMS or task not in TASKS:
        return f"there is no {algo if algo not in ALGORITHMS else task} any more"
    if about["evaluation"] != TASKS[task].evaluation:
        return "the protocol of evaluation changed"
    now = current(algo, task, json.dumps(about["overrides"], sort_keys=True), about.get("preset", ""))
    if now is None:
        return "its settings do not exist any more"
    if now != about["config"]:
        names = sorted(name for name in now.keys() | about["config"].keys() if now.get(name) != about["config"].get(name))
        return "settings changed: " + ", ".join(f"{name} is {now.get(name)}, was {about['config'].get(name)}" for name in names)
    if content(task) not in ("", about["data"]["sha256"]):
        return "its dataset changed"
    return ""


@cache
def current(algo: str, task: str, overrides: str, preset: str) -> dict[str, Any] | None:
    """The configuration that the method has on the task now, as JSON gives it back; None: it refuses these overrides."""
    try:
        return json.loads(json.dumps(dataclasses.asdict(settings(algo, task, json.loads(overrides), preset=preset))))
    except (TypeError, UserError):
        return None


@cache
def content(task: str) -> str:
    """Hash of the task's dataset."""
    return expected(TASKS[task])


def changes(entries: list[Entry]) -> list[str]:
    """Of finished runs: the revisions of the code that made them where files that such a run goes through are others now."""
    algos, runs = defaultdict(set), Counter()
    for entry in entries:
        revision = entry.about["code"]["revision"]
        algos[revision].add(entry.about["algo"])
        runs[revision] += 1
    lines = []
    for revision, names in algos.items():
        paths = ["core", "envs", "datasets", "learning", *(f"algorithms/{name}.py" for name in names)]
        command = ["git", "-C", str(ROOT), "diff", "--name-only", revision, "--", *paths]
        files = subprocess.run(command, capture_output=True, text=True).stdout.split() if revision else []
        if files := [file for file in files if file.endswith(".py")]:
            rest = f" and {len(files) - 4} more" if len(files) > 4 else ""
            lines.append(f"  {runs[revision]} by {revision[:10]}: since then {', '.join(files[:4])}{rest} changed")
    return ["made by earlier code (git), which tables do not tell apart:", *lines] if lines else []


def reached(out: Path, note: Path) -> str:
    """The last step that the log of a note's cell tells."""
    try:
        with log_of(out, note).open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL))
            steps = STEP.findall(file.read().decode(errors="replace"))
    except OSError:
        return ""
    return steps[-1] if steps else ""


def log_of(out: Path, note: Path) -> Path:
    return (out / "logs" / note.relative_to(out / "unfinished")).with_suffix(".log")


def held(out: Path, about: dict[str, Any]) -> bool:
    """Whether a process is at experiments of the group."""
    path = out / "runs" / about["algo"] / f".{about['task']}-{about['group']}.lock"
    if not path.exists():
        return False
    try:
        with FileLock(path, blocking=False):
            return False
    except Timeout:
        return True
    except OSError:  # a folder that is another user's
        return False


def clean(out: Path) -> Iterator[tuple[Path, Path | None]]:
    """What to move (from, to) and what to delete (path, None): results that are stale go to `stale`; notes and checkpoints of cells that
    are stale or were finished, and files that killed processes left half written, are of no use to anybody. Nothing of a cell that a
    process is at; nothing that the next sweep goes on from."""
    found = scan(out)
    useful = set()
    for entry in [*found.running, *found.begun, *found.failed]:
        useful.add((entry.about["algo"], entry.path.stem))
    for entry in found.stale:
        if entry.path.is_relative_to(out / "runs"):
            for suffix in (".csv", SUFFIX, ".json"):
                path = entry.path.with_suffix(suffix)
                if path.exists():
                    yield path, out / "stale" / path.relative_to(out / "runs")
    for path in sorted(out.glob("unfinished/*/*.json")):
        if (path.parent.name, path.stem) not in useful:
            yield path, None
    busy = {(entry.about["algo"], entry.path.stem) for entry in found.running}
    for path in sorted(out.glob("runs/*/.*")):
        if ".part" in path.suffixes:
            if not any(algo == path.parent.name and stem in path.name for algo, stem in busy):
                yield path, None
        elif path.suffix == ".checkpoint" and (path.parent.name, path.name[1 : -len(".checkpoint")]) not in useful:
            yield path, None
