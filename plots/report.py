"""Everything about the runs of a folder on one page that needs nothing else: `<out>/report.html`.

    python -m plots.report [--out results] [--metric return return_sampled win_rate] [--of inspo]

Tables that sort and filter, figures, the curves of every run, settings, provenance, and what failed or is missing. The page loads nothing
from anywhere, and its policy forbids it to: no network, no script but its own.
"""

import base64
import hashlib
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
import pandas as pd
from matplotlib.figure import Figure

from inspo_benchmark.core.atomic_io import atomic_write
from inspo_benchmark.core.errors import UserError
from inspo_benchmark.plots import cli, figures, load, style, tables
from inspo_benchmark.plots.load import Run
from inspo_benchmark.plots.table_writers import number
from inspo_benchmark.plots.tables_appendix import machine

HERE = Path(__file__).parent
DPI, DIGITS = 160, 4
TAIL = 2000  # characters of a failed run's log


def page(out: Path, metrics: list[str], of: str) -> str:
    """The page of all runs under `out`, complete or not. What comes from files is escaped by the template."""
    frame, runs = load.read(out, overrides=True), load.runs(out)
    script = (HERE / "report.js").read_text(encoding="utf-8")
    with matplotlib.rc_context(style.WORDS):
        pictures = [(name, caption, _png(figure)) for name, caption, figure in figures.pictures(frame, metrics, of, draft=True)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    return environment.get_template("report.html").render(
        title=f"Results in {out}",
        presets=[style.preset(name).strip() for name in sorted(frame.preset.unique()) if name],
        style=(HERE / "report.css").read_text(encoding="utf-8"),
        script=script,
        digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        counts={"runs": sum(len(run.seeds) for run in runs), "cells": len(runs), "rows": len(frame)},
        files=tables.everything(out, metrics, draft=True),
        pictures=pictures,
        runs=_lines(frame, runs),
        data={"runs": _curves(frame, runs), "colours": {algo: style.algorithm(algo)[1] for algo in frame.algo.unique()}},
        provenance=_provenance(runs),
        missing=_missing(frame, metrics),
        unfinished=_unfinished(out),
    )


def _png(figure: Figure) -> str:
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=DPI, metadata={"Software": None})
    return base64.b64encode(image.getvalue()).decode()


def _lines(frame: pd.DataFrame, runs: list[Run]) -> list[dict[str, Any]]:
    """A line of the table of runs for each file: what it is, and the means over its seeds at the end."""
    last = frame[frame.metric.isin(style.METRICS)]
    last = last[last.step == last.groupby("file", observed=True).step.transform("max")]
    means = last.groupby(["file", "metric"], observed=True).value.mean()
    return [
        {
            "algo": style.algorithm(run.algo)[0],
            "task": run.task,
            "overrides": run.columns["overrides"],
            "seeds": len(run.seeds),
            "scores": [number(means[file, metric], 3) if (file, metric) in means.index else "" for metric in style.METRICS],
            "hours": number(run.about["wall_seconds"] / 3600, 3) if "wall_seconds" in run.about else "",
        }
        for run in runs
        for file in [run.columns["file"]]
    ]


def _curves(frame: pd.DataFrame, runs: list[Run]) -> list[dict[str, Any]]:
    """For each file, what the page draws and shows when its line is opened: metric -> [steps], seed -> values; and its JSON."""
    files = dict(iter(frame.groupby("file", observed=True)))
    found = []
    for run in runs:
        metrics = {}
        for metric, mine in files[run.columns["file"]].groupby("metric", observed=True):
            values = mine.pivot(index="seed", columns="step", values="value")
            metrics[metric] = {
                "steps": [int(step) for step in values.columns],
                "seeds": {str(seed): [_short(x) for x in line] for seed, line in zip(values.index, values.to_numpy())},
            }
        found.append({"name": f"{run.algo} on {run.task}", "algo": run.algo, "metrics": metrics, "about": json.dumps(run.about, indent=1)})
    return found


def _short(x: float) -> float | None:
    return float(f"{x:.{DIGITS}g}") if math.isfinite(x) else None


def _provenance(runs: list[Run]) -> dict[str, list[tuple[str, int]]]:
    """What the runs were made with: kind -> the different values, and of how many cells each is."""

    def counted(values: list[str]) -> list[tuple[str, int]]:
        return sorted(((value, values.count(value)) for value in set(values)), key=lambda pair: (-pair[1], pair[0]))

    def code(run: Run) -> str:
        told = run.about.get("code", {})
        return (told.get("revision") or "unknown") + " with uncommitted changes" * bool(told.get("dirty"))

    return {
        "code (git revision)": counted([code(run) for run in runs]),
        "versions": counted([", ".join(f"{k} {v}" for k, v in run.about.get("versions", {}).items()) or "unknown" for run in runs]),
        "machine": counted([machine(run) for run in runs]),
        "data (sha256)": counted([f"{run.task}: {run.about['data']['sha256']}" for run in runs]),
        "seeds": counted([", ".join(map(str, run.seeds)) for run in runs]),
        "protocol": counted([", ".join(f"{k} {v}" for k, v in run.about["evaluation"].items()) for run in runs]),
    }


def _missing(frame: pd.DataFrame, metrics: list[str]) -> list[tuple[str, str, str, str]]:
    """Suite, metric, method and task, seeds of what the tables lack."""
    found = []
    for suite, mine in load.suites(frame[frame.overrides == ""]):
        for metric in metrics:
            seen = load.measured(mine, metric)
            if (seen.metric == metric).any():
                lacking = load.holes(seen, metric)
                found += [(suite, metric, f"{algo} on {task}", ", ".join(map(str, seeds))) for algo, task, seeds in lacking]
    return found


def _unfinished(out: Path) -> list[dict[str, str]]:
    """Notes of cells that began and did not finish, with the end of their logs. A note that cannot be read is shown as that."""
    found = []
    for path in sorted(out.glob("unfinished/*/*.json")):
        log = Path(out, "logs", *path.relative_to(out / "unfinished").parts).with_suffix(".log")
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            what = f"{about['algo']} on {about['task']}, seeds {', '.join(map(str, about['seeds']))}"
            reason = str(about["reason"]).strip() or "begun, not finished"
        except (OSError, ValueError, KeyError, TypeError) as error:
            what, reason = path.stem, f"unreadable note ({type(error).__name__})"
        text = log.read_text(encoding="utf-8", errors="replace")[-TAIL:] if log.exists() else ""
        found.append({"what": what, "short": reason.splitlines()[-1], "reason": reason, "log": text})
    return found


def run(argv: list[str] | None = None) -> int:
    options = cli.parser("plots.report", "Make the report from the rows under <out>/runs.", draft=False)
    options.add_argument("--of", default="inspo", metavar="METHOD", help="whose probability of improvement (default: %(default)s)")
    args = options.parse_args(argv)

    def work():
        path = Path(args.out, "report.html")
        text = page(Path(args.out), args.metric, args.of)
        if path.is_dir():
            raise UserError(f"{path} is a folder where the report should be; move it away")
        with atomic_write(path) as part:
            part.write_text(text, encoding="utf-8")
        print(f"{path}: {len(text) / 1e6:.1f} MB, open it in a browser")

    return cli.run(work)


if __name__ == "__main__":
    sys.exit(run())
