"""What workers need, imported once by the server that they are forked from."""

import gc

import torch._dynamo  # noqa: F401  # or the first batched network of every worker would import it: a second

import inspo_benchmark.running.worker  # noqa: F401
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.running.provenance import revision, versions

ALGORITHMS.discover(), TASKS.discover()
revision(), versions()
gc.collect(), gc.freeze()  # or the workers' collectors would copy all these pages
