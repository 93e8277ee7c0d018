"""The benchmark's protocol: what methods have in common on the larger tasks, so that tables compare methods and not budgets.

A method's coefficients on a task are its paper's (PAPER in its file); network class and width, windows, minibatch and updates are these,
the same for every method. Recurrent networks see windows of 20 steps, of which the first 5 only fill the memory of value networks that
know burn-in. No coefficient is tuned per task beyond the papers' tables. On the small games every method has settings of this project,
in its own PAPER. `run_benchmark.py --paper` leaves the protocol out and takes the papers' networks, minibatches and updates as well.
"""

from typing import Any

SMAC = ("3m", "2s3z", "3s_vs_5z", "5m_vs_6m", "6h_vs_8z")
MUJOCO = ("halfcheetah_2x3", "halfcheetah_6x1", "hopper_3x1", "ant_2x4")

BENCHMARK: dict[str, dict[str, Any]] = {  # globs of tasks -> fields; a method that lacks a field does without
    **{f"{name}-*": dict(memory="gru", share=True, hidden=64, window=20, burn=5, batch=32, steps=20_000) for name in SMAC},
    **{f"{name}-*": dict(memory="mlp", share=True, hidden=256, window=1, burn=0, batch=256, steps=100_000) for name in MUJOCO},
}
