"""Measures the speed of training, environments, datasets and sweeps on this machine, and writes results/bench.csv (name, value, unit).

    python -m tools.speed [PART ...] [--against FILE]

A part is a method (updates and acting at the sizes of four tasks, and compiled updates on HalfCheetah; beside OMIGA's if that is a part
too), `compiled` (InSPO and BC on Bridge, compiled and not, 1 to 10 seeds packed), `evaluation` (its share of an experiment), `sizes`
(updates of every method for several batch sizes and widths; not among the defaults), `smac`, `mujoco`, `data` or `sweep`. The default is
all of them. To compare machines, compare the ratios of one run. With --against, a copy of an earlier bench.csv, the command fails (exit
code 1) if a speed in units of the matrix product rate fell by more than 30 %. The first run compiles for some minutes; what it compiles
is kept.
"""

import os
import platform
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import torch

from inspo_benchmark.core.errors import CommandLine, UserError, outcome
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.learning.compiling import cpuinfo
from inspo_benchmark.tools.speed import data, environments, rows, sweep, timing, updates

DEFAULT_PARTS: dict[str, Callable[[], list[rows.Row]]] = {
    "compiled": updates.compiled,
    "evaluation": updates.evaluation,
    "smac": environments.smac,
    "mujoco": environments.mujoco,
    "data": data.measure,
    "sweep": sweep.measure,
}
PARTS = DEFAULT_PARTS | {"sizes": updates.sizes}


def processor() -> str:
    """The processor's name, or its architecture where the system states no name."""
    return cpuinfo("model name").partition(": ")[2] or platform.machine()


def measure(algos: list[str], parts: list[str]) -> list[rows.Row]:
    """The rows of methods and of other parts, after those of the machine. One thread is used."""
    flops = timing.matrix_product_rate()
    found: list[rows.Row] = [
        (f"{processor()}, {datetime.now():%Y-%m-%d}", os.cpu_count(), "cores"),
        ("products", flops / 1e9, "Gflop/s"),
    ]
    for algo in algos:
        rows.progress(algo)
        found += updates.of_method(algo, flops)
    found += rows.times_omiga(found)
    for part in parts:
        rows.progress(part)
        found += PARTS[part]()
    return found


def main(argv: list[str] | None = None) -> int:
    options = CommandLine.of("tools.speed", __doc__)
    options.add_argument("parts", nargs="*", metavar="PART", help=f"a method, or one of {', '.join(PARTS)}")
    options.add_argument(
        "--against", type=Path, metavar="FILE", help="a copy of an earlier bench.csv, whose speeds these must not fall below"
    )
    args = options.parse_args(argv)

    def work() -> int:
        if args.against and args.against.resolve() == rows.OUT.resolve():
            raise UserError(f"--against {args.against}: this run overwrites the file; copy it first, and name the copy")
        earlier = rows.read(args.against) if args.against else []
        os.environ["OMP_NUM_THREADS"] = "1"  # one core; it also keeps MuJoCo environments in this process
        torch.set_num_threads(1)
        ALGORITHMS.discover(), TASKS.discover()
        methods = [part for part in args.parts if part not in PARTS] if args.parts else ["*"]
        algos = ALGORITHMS.match(methods) if methods else []
        found = measure(algos, [part for part in PARTS if part in (args.parts or DEFAULT_PARTS)])
        rows.write(found, rows.OUT)
        if losses := rows.slower(found, earlier):
            print(f"slower than {args.against}, in units of the matrix product rate:", *losses, sep="\n")
        return 1 if losses else 0

    return outcome(work)


if __name__ == "__main__":
    sys.exit(main())
