"""Results folders with made-up runs."""

import json
from pathlib import Path

import numpy as np

TASKS = {  # task -> mean return of the dataset, reference returns, mean reward per step
    "bridge-mix": (0.4, (-1.2, 1.7), False),
    "bridge-optimal": (1.7, (-1.2, 1.7), False),
    "mne-balanced": (-0.4, (-0.43, 10.0), True),
    "mne-imbalanced": (3.6, (-0.43, 10.0), True),
    "xor-aa_ab_ba": (0.67, (0.5, 1.0), True),
    "xor-ab": (1.0, (0.5, 1.0), True),
    "xor-ab_ba": (1.0, (0.5, 1.0), True),
    "xor-all": (0.5, (0.5, 1.0), True),
}


METRICS = ("return", "return_sampled", "length", "loss_policy")


def write(out: Path, algo="bc", task="xor-ab", seeds=range(5), skill=0.8, spread=0.05, key="k", overrides=None, points=4, **about) -> Path:
    """Write a result file and its JSON, with returns that rise from the dataset's mean towards `skill` of the way from random to best."""
    mean, (low, high), per_step = TASKS.get(task, (5.0, (1.0, 20.0), False))
    rng, steps = np.random.default_rng([*f"{algo}{task}{overrides}".encode()]), 1000
    lines = ["algo,task,seed,step,metric,value\n"]
    goals = low + (high - low) * np.minimum(skill + spread * rng.standard_normal(100), 1)
    for step in range(0, steps + 1, steps // points):
        for seed in seeds:
            value = goals[seed] + (low - goals[seed]) * np.exp(-4 * step / steps)
            for metric, share in zip(METRICS, (1, 0.9, 5, 0.3)):
                lines.append(f"{algo},{task},{seed},{step},{metric},{float(value * share)!r}\n")
    overrides = overrides or {}
    document = {
        "algo": algo,
        "task": task,
        "seeds": list(seeds),
        "config": {"alpha": 0.1, "num_updates": steps} | overrides,
        "overrides": overrides,
        "evaluation": {"num_evals": points, "eval_episodes": 32, "final_episodes": 320},
        "data": {"sha256": task.encode().hex() + "0" * 40, "return_mean": mean},
        "backend": "matrix-1",
        "reference": [low, high],
        "per_step": per_step,
    }
    path = Path(out, "runs", algo, f"{task}-{key}.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    path.with_suffix(".json").write_text(json.dumps(document | about))
    return path
