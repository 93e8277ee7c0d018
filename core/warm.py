"""What workers need, imported once by the server that they are forked from."""

import gc

import torch._dynamo  # noqa: F401  # or the first batched network of every worker would import it: a second

import core.worker  # noqa: F401
from core.cell import revision, versions
from core.registry import ALGORITHMS, TASKS

ALGORITHMS.discover(), TASKS.discover()
revision(), versions()
gc.collect(), gc.freeze()  # or the workers' collectors would copy all these pages
