"""marl-eval's JSON of results, from results/runs: for its tables and figures of several methods.

    {env: {task: {algorithm: {seed_<k>: {step_<i>: {"step_count": t, metric: [values]}, "absolute_metrics": {metric: [values]}}}}}}

`env` is our scenario, `task` our task. The last evaluation, of many more episodes, is what marl-eval calls absolute. Metrics of evaluations
only: training losses are left out. Runs with overrides are methods of their own, `<algorithm> (<field>=<value>)`.
"""

import json
from pathlib import Path

from core.files import whole
from datasets.layouts import LAYOUTS, Layout

METRICS = ("return", "return_sampled", "win_rate", "length")


def write(source: Path, target: Path) -> str:
    from plots import rows  # with pandas

    frame, out, left = rows.read(source, overrides=True), {}, set()
    left = {metric for metric in frame.metric.unique() if metric not in METRICS}
    frame = frame[frame.metric.isin(METRICS)]
    for (task, algo, overrides, seed), run in frame.groupby(["task", "algo", "overrides", "seed"]):
        entry, last = {}, run.step.max()
        for i, (step, some) in enumerate(run.groupby("step")):
            values = {metric: [float(v)] for metric, v in zip(some.metric, some.value)}
            entry[f"step_{i}"] = {"step_count": int(step), **values}
            if step == last:
                entry["absolute_metrics"] = values
        name = f"{algo} ({overrides})" if overrides else algo
        out.setdefault(task.rpartition("-")[0], {}).setdefault(task, {}).setdefault(name, {})[f"seed_{seed}"] = entry
    with whole(target) as part:
        part.write_text(json.dumps(out, indent=1, sort_keys=True) + "\n")
    return f"no place for: {', '.join(sorted(left))}" if left else ""


LAYOUTS.register("marl-eval")(Layout("marl-eval", "results/ -> JSON", write=write))
