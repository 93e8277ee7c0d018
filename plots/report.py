"""Writes `<out>/report.html`: one page about all runs in a results folder, which needs no other file.

    python -m plots.report [--out results] [--metric return win_rate_sampled] [--of inspo]

The page holds tables that sort and filter, figures, the curves of every run, settings, provenance, and failed and missing runs. It loads
nothing from the network, and its content security policy forbids any script but its own.
"""

import inspo_benchmark.core.startup  # noqa: F401

import base64
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import pandas as pd

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import UserError, outcome, printable
from inspo_benchmark.learning.evaluate import MIN_DISTINCT
from inspo_benchmark.plots import cli, figures, load, style, tables
from inspo_benchmark.plots.load import ResultFile
from inspo_benchmark.plots.table_writers import number
from inspo_benchmark.plots.tables_appendix import machine
from inspo_benchmark.running import schema
from inspo_benchmark.running.experiment import describe
from inspo_benchmark.running.results import seeds_by_group
from inspo_benchmark.running.status import log_path
from inspo_benchmark.running.untrusted import regular_size

HERE = Path(__file__).parent
DPI, DIGITS = 160, 4
LOG_TAIL = 2000  # characters shown of the log of a failed run


def page(out: Path, metrics: list[str], method: str) -> str:
    """The HTML page of all runs in `out`, complete or not. The template escapes all text that comes from files."""
    results = load.result_files(out)
    frame = load.read(out, files=results)
    script = (HERE / "report.js").read_text(encoding="utf-8")
    cli.check_method(method, frame)
    with matplotlib.rc_context(style.RC_PLAIN_TEXT):
        images = [
            (name, caption, base64.b64encode(figures.png(figure, DPI)).decode())
            for name, caption, figure in figures.all_figures(frame, metrics, method, draft=True)
        ]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    environment.filters["unbroken"] = _unbroken
    return environment.get_template("report.html").render(
        title=f"Results: {', '.join(style.suite(name).title for name, _ in load.suites(frame))}",
        presets=[style.preset_note(name).strip() for name in sorted(frame.preset.unique()) if name],
        style=(HERE / "report.css").read_text(encoding="utf-8"),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        counts={"runs": sum(len(result.seeds) for result in results), "files": len(results), "rows": len(frame)},
        files=tables.all_tables(out, metrics, draft=True),
        images=images,
        results=_lines(frame, results),
        data={"results": _curves(frame, results), "colors": {algo: style.algorithm(algo).color for algo in frame.algo.unique()}},
        provenance=_provenance(results),
        metrics=list(style.METRICS),
        alike=_alike(frame),
        missing=_missing(frame, metrics),
        unfinished=_unfinished(out, results),
    )


def _unbroken(text: str) -> str:
    """A table cell that breaks before ± and nowhere else, if its column is narrow."""
    return text.replace(" ", "\N{NO-BREAK SPACE}").replace("\N{NO-BREAK SPACE}±", " ±") if "±" in text else text


def _lines(frame: pd.DataFrame, results: list[ResultFile]) -> list[dict[str, Any]]:
    """A line of the table of runs for each file, with the means of the final scores over its seeds."""
    last = frame[frame.metric.isin(style.METRICS)]
    last = last[last.step == last.groupby("file", observed=True).step.transform("max")]
    means = last.groupby(["file", "metric"], observed=True).value.mean()
    return [
        {
            "algo": style.algorithm(result.algo).label,
            "task": result.task,
            "overrides": result.columns["overrides"],
            "seeds": len(result.seeds),
            "scores": [number(means[file, metric], 3) if (file, metric) in means.index else "" for metric in style.METRICS],
            "hours": number(result.document["wall_seconds"] / 3600, 3) if "wall_seconds" in result.document else "",
        }
        for result in results
        for file in [result.columns["file"]]
    ]


def _curves(frame: pd.DataFrame, results: list[ResultFile]) -> list[dict[str, Any]]:
    """For each file, what the page shows when its line is opened: the curves (metric -> steps, seed -> values) and the JSON."""
    files = dict(iter(frame.groupby("file", observed=True)))
    lines = []
    for result in results:
        metrics = {}
        for metric, rows in files[result.columns["file"]].groupby("metric", observed=True):
            values = rows.pivot(index="seed", columns="step", values="value")
            metrics[metric] = {
                "steps": [int(step) for step in values.columns],
                "seeds": {str(seed): [_rounded(x) for x in line] for seed, line in zip(values.index, values.to_numpy())},
            }
        lines.append({"algo": result.algo, "metrics": metrics, "about": json.dumps(result.document, indent=1)})
    return lines


def _rounded(x: float) -> float | None:
    return float(f"{x:.{DIGITS}g}") if math.isfinite(x) else None


def _provenance(results: list[ResultFile]) -> dict[str, list[tuple[str, int]]]:
    """What the runs were made with: kind -> the different values, and the number of files with each."""

    def counted(values: list[str]) -> list[tuple[str, int]]:
        return sorted(((value, values.count(value)) for value in set(values)), key=lambda pair: (-pair[1], pair[0]))

    def assignments(values: dict) -> str:
        return ", ".join(f"{key} {value}" for key, value in values.items()) or "unknown"

    def code(document: dict) -> str:
        about = document.get("code", {})
        return (about.get("revision") or "unknown") + " with uncommitted changes" * bool(about.get("dirty"))

    documents = [result.document for result in results]
    return {
        "code (git revision)": counted([code(document) for document in documents]),
        "versions": counted([assignments(document.get("versions", {})) for document in documents]),
        "machine": counted([machine(result) for result in results]),
        "data (sha256)": counted([f"{document['task']}: {document['data']['sha256']}" for document in documents]),
        "seeds": counted([", ".join(map(str, document["seeds"])) for document in documents]),
        "evaluation schedule": counted([assignments(document["evaluation"]) for document in documents]),
    }


def _missing(frame: pd.DataFrame, metrics: list[str]) -> list[tuple[str, str, str, str]]:
    """Suite, metric, method and task, and seeds of the runs that the tables lack."""
    missing = []
    for suite, rows in load.suites(frame[frame.overrides == ""]):
        for metric in metrics:
            measured = load.for_metric(rows, metric)
            if (measured.metric == metric).any():
                groups = load.missing_seeds(measured, metric)
                missing += [(suite, metric, f"{algo} on {task}", ", ".join(map(str, seeds))) for algo, task, seeds in groups]
    return missing


def _alike(frame: pd.DataFrame) -> list[tuple[str, str, str, str]]:
    """Method, overrides, task and seeds whose final greedy policies acted (nearly) the same in all evaluation episodes."""
    last = frame[frame.metric == "distinct_episodes"]
    last = last[last.step == last.groupby("file", observed=True).step.transform("max")]
    groups = last[last.value < MIN_DISTINCT].groupby(["algo", "overrides", "task"], observed=True).seed
    return [(style.algorithm(algo).label, overrides, task, ", ".join(map(str, sorted(x)))) for (algo, overrides, task), x in groups]


def _unfinished(out: Path, results: list[ResultFile]) -> list[dict[str, str]]:
    """The records of unfinished experiments, with the ends of their logs. An unreadable record is listed as such; one of finished seeds,
    which a killed process may leave, is not."""
    experiments, finished = [], seeds_by_group(result.document for result in results if "group" in result.document)
    for path in sorted(out.glob("unfinished/*/[!.]*.json")):
        try:
            record = schema.parse(path, {"algo", "task", "seeds", "reason"})
            if set(record["seeds"]) <= finished.get(record.get("group", ""), set()):
                continue
            name = describe(record["algo"], record["task"], record["seeds"], record.get("overrides", {}))
            reason = "\n".join(map(printable, record["reason"].strip().splitlines())) or "started, not finished"
        except (OSError, ValueError) as error:
            name, reason = path.stem, f"unreadable record ({error})"
        experiments.append({"name": name, "short": reason.splitlines()[-1], "reason": reason, "log": _tail(log_path(out, path))})
    return experiments


def _tail(log: Path) -> str:
    """The end of a log. Empty if there is none, or if it is a pipe or a device."""
    try:
        size = regular_size(log)
        with log.open("rb") as file:
            file.seek(max(0, size - 4 * LOG_TAIL))
            return file.read(4 * LOG_TAIL).decode(errors="replace")[-LOG_TAIL:]
    except (OSError, ValueError):
        return ""


def main(argv: list[str] | None = None) -> int:
    options = cli.parser("plots.report", "Make the report from the rows in <out>/runs.", selection=False)
    cli.add_method(options)
    args = options.parse_args(argv)

    def work():
        path = Path(args.out, "report.html")
        text = page(Path(args.out), args.metric, args.of)
        if path.is_dir():
            raise UserError(f"{path} is a folder, but the report needs a file of that name; move the folder away")
        with atomic_write(path) as part:
            part.write_text(text, encoding="utf-8")
        print(f"{path}: {len(text) / 1e6:.1f} MB, open it in a browser")

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
