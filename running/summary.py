"""What finished experiments achieved, in lines for people: the score beside that of the data and of BC, and where to go on."""

import dataclasses
import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.learning.saved_policy import SUFFIX
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.results import final_scores, read_results, results_of
from inspo_benchmark.running.schema import COMPARED, FINISHED
from inspo_benchmark.running.status import stale_reason

MAX_EXPERIMENTS = 16  # that are described one by one
RENDERERS = {"smac": "render_smac", "mamujoco": "render_mujoco"}  # Task.family -> module of tools

DESCRIBED = FINISHED | COMPARED | {"data.return_mean"}  # fields of a JSON

Result = tuple[Path, dict[str, Any]]  # the JSON of a finished experiment, and its content


def summary(experiments: Sequence[Experiment], reference: Iterable[Path]) -> str:
    """Lines about the experiments that have results, for the seeds that have some. `reference`: folders of results in which to look for
    BC's, besides the experiments' own. UserError: a damaged file."""
    with_results = ((finished_part(x, results), results) for x in experiments if (results := results_of(x, DESCRIBED)))
    found = dict(itertools.islice(with_results, MAX_EXPERIMENTS + 1))
    if not found:
        return ""
    lines = []
    if len(found) <= MAX_EXPERIMENTS:
        folders = [experiments[0].out, *reference]
        lines += [f"{experiment}: {describe_scores(experiment, results, folders)}" for experiment, results in found.items()]
    files = [path for results in found.values() for path, _ in results]
    lines.append(f"rows: {files[0].with_suffix('.csv') if len(files) == 1 else experiments[0].out / 'runs'}")
    drawn = itertools.chain(found.items(), with_results)
    paths = ((x, results[0][0]) for x, results in drawn if TASKS[x.task].family in RENDERERS)
    if command := next((watch_command(x, path) for x, path in paths if path.with_suffix(SUFFIX).exists()), ""):
        lines.append(f"to watch an episode: {command}")
    return "\n".join(lines)


def finished_part(experiment: Experiment, results: list[Result]) -> Experiment:
    """The same experiment for those of its seeds that have results."""
    finished = {seed for _, about in results for seed in about["seeds"]}
    return dataclasses.replace(experiment, seeds=tuple(seed for seed in experiment.seeds if seed in finished))


def watch_command(experiment: Experiment, path: Path) -> str:
    """The command that draws an episode of the policies beside a result, on a task whose family is in RENDERERS."""
    task = TASKS[experiment.task]
    return f"python -m tools.{RENDERERS[task.family]} {task.scenario} --policy {path.with_suffix(SUFFIX)} --out episode.gif"


def describe_scores(experiment: Experiment, results: list[Result], folders: Sequence[Path]) -> str:
    """ "win rate 98.1 % (data 55.3 %, BC 93.0 %)". Data whose battles are not known to be won or lost have no win rate."""
    about = results[0][1]
    score, metric = final_score(results, experiment.seeds)
    data = about["data"].get("win_rate", -1) if metric == "win_rate" else about["data"]["return_mean"]
    others = [f"data {'--' if metric == 'win_rate' and data < 0 else _number(data, metric)}"]
    presets = dict.fromkeys((about.get("preset", ""), "")) if experiment.algo != "bc" else ()
    if found := next(filter(None, (_results_of_bc(experiment, about, folders, preset) for preset in presets)), None):
        folder, own = found
        preset = "" if own[0][1].get("preset", "") == about.get("preset", "") else " without the preset"
        where = "" if folder == experiment.out else f" in {folder}"
        others.append(f"BC{preset} {_number(final_score(own)[0], metric)}{where}")
    return f"{metric.replace('_', ' ')} {_number(score, metric)} ({', '.join(others)})"


def _results_of_bc(experiment: Experiment, about: dict[str, Any], folders: Sequence[Path], preset: str) -> tuple[Path, list[Result]] | None:
    """A folder and BC's results of a preset in it: of the first folder that has them for all of the experiment's seeds, or else for any
    seeds."""
    other = None
    for folder in folders:
        results = read_results(folder, "bc", experiment.task, DESCRIBED)
        own = [(path, bc) for path, bc in results if bc.get("preset", "") == preset and _comparable(bc, about)]
        if {*experiment.seeds} <= {seed for _, bc in own for seed in bc["seeds"]}:
            return folder, own
        if own and not other:
            other = folder, own
    return other


def _comparable(bc: dict[str, Any], about: dict[str, Any]) -> bool:
    """Whether a result of BC has the settings and the evaluation that BC has today, and the data of this experiment."""
    return not bc["overrides"] and bc["data"]["sha256"] == about["data"]["sha256"] and not stale_reason(bc)


def final_score(results: Iterable[Result], seeds: Sequence[int] = ()) -> tuple[float, str]:
    """Mean over seeds (default: all) of the final greedy policies' win rate or, where there is none, return; and which of the two.
    UserError: a damaged file."""
    values = defaultdict(list)
    for path, about in results:
        for metric, scores in final_scores(path.with_suffix(".csv"), about).items():
            values[metric] += [value for seed, value in scores.items() if not seeds or seed in seeds]
    metric = "win_rate" if values["win_rate"] else "return"
    return statistics.fmean(values[metric]), metric


def _number(value: float, metric: str) -> str:
    return f"{100 * value:.1f} %" if metric == "win_rate" else f"{value:.4g}"
