"""Imported once by the fork server, so that no worker has to import it again."""

import gc

import torch._dynamo  # noqa: F401  # saves each worker a second at its first batched network

import inspo_benchmark.running.worker  # noqa: F401
from inspo_benchmark.core.registry import ALGORITHMS, TASKS
from inspo_benchmark.running.provenance import revision, versions

ALGORITHMS.discover(), TASKS.discover()
revision(), versions()
gc.collect(), gc.freeze()  # keeps the workers' garbage collectors from copying all these pages
