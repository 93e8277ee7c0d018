"""What finished experiments achieved, in lines for people: the score beside that of the data and of BC, and where to go on."""

import functools
import itertools
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from inspo_benchmark.core.registry import TASKS
from inspo_benchmark.learning.saved_policy import SUFFIX
from inspo_benchmark.running.experiment import Experiment
from inspo_benchmark.running.results import final_scores, read_results
from inspo_benchmark.running.schema import FINISHED

MAX_EXPERIMENTS = 16  # that are described one by one
RENDERERS = {"smac": "render_smac", "mamujoco": "render_mujoco"}  # Task.family -> module of tools

DESCRIBED = FINISHED | {"overrides", "data", "data.sha256", "data.return_mean"}  # fields of a JSON

Result = tuple[Path, dict[str, Any]]  # the JSON of a finished experiment, and its content


def summary(experiments: Sequence[Experiment], reference: Iterable[Path]) -> str:
    """Lines about the experiments that have results. `reference`: folders of results in which to look for BC's, besides the experiments'
    own. UserError: a damaged file."""
    results_of = functools.cache(_results_of)
    found = dict(itertools.islice(((x, results_of(x)) for x in experiments if results_of(x)), MAX_EXPERIMENTS + 1))
    if not found:
        return ""
    lines = []
    if len(found) <= MAX_EXPERIMENTS:
        folders = [experiments[0].out, *reference]
        lines += [f"{experiment}: {describe_scores(experiment, results, folders)}" for experiment, results in found.items()]
    files = [path for results in found.values() for path, _ in results]
    lines.append(f"rows: {files[0].with_suffix('.csv') if len(files) == 1 else experiments[0].out / 'runs'}")
    drawn = (x for x in experiments if TASKS[x.task].family in RENDERERS and results_of(x))
    if first := next(drawn, None):
        lines.append(f"to watch an episode: {watch_command(first, results_of(first)[0][0])}")
    return "\n".join(lines)


def watch_command(experiment: Experiment, path: Path) -> str:
    """The command that draws an episode of the policies beside a result, on a task whose family is in RENDERERS."""
    task = TASKS[experiment.task]
    scenario = task.name.rpartition("-")[0]
    return f"python -m tools.{RENDERERS[task.family]} {scenario} --policy {path.with_suffix(SUFFIX)} --out episode.gif"


def _results_of(experiment: Experiment) -> list[Result]:
    """The results that hold the experiment's seeds, maybe together with others."""
    results = read_results(experiment.out, experiment.algo, experiment.task, DESCRIBED)
    return [(path, about) for path, about in results if about["group"] == experiment.group and {*about["seeds"]} & {*experiment.seeds}]


def describe_scores(experiment: Experiment, results: list[Result], folders: Sequence[Path]) -> str:
    """ "win rate 98.1 % (data 55.3 %, BC 93.0 %)". Data whose battles are not known to be won or lost have no win rate."""
    about = results[0][1]
    score, metric = final_score(results, experiment.seeds)
    data = about["data"].get("win_rate", -1) if metric == "win_rate" else about["data"]["return_mean"]
    others = [f"data {'--' if metric == 'win_rate' and data < 0 else _number(data, metric)}"]
    if experiment.algo != "bc" and (found := _results_of_bc(experiment, about, folders)):
        folder, own = found
        value = _number(final_score(own)[0], metric)
        others.append(f"BC {value}" if folder == experiment.out else f"BC {value} in {folder}")
    return f"{metric.replace('_', ' ')} {_number(score, metric)} ({', '.join(others)})"


def _results_of_bc(experiment: Experiment, about: dict[str, Any], folders: Sequence[Path]) -> tuple[Path, list[Result]] | None:
    """A folder and BC's results in it: of the first folder that has them for all of the experiment's seeds, or else for any seeds."""
    other = None
    for folder in folders:
        own = [(path, bc) for path, bc in read_results(folder, "bc", experiment.task, DESCRIBED) if _comparable(bc, about)]
        if {*experiment.seeds} <= {seed for _, bc in own for seed in bc["seeds"]}:
            return folder, own
        if own and not other:
            other = folder, own
    return other


def _comparable(bc: dict[str, Any], about: dict[str, Any]) -> bool:
    """Whether a result of BC has its usual settings, and the data of this experiment."""
    presets = ("", about.get("preset", ""))
    return not bc["overrides"] and bc.get("preset", "") in presets and bc["data"]["sha256"] == about["data"]["sha256"]


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
