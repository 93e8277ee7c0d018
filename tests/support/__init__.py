"""Helpers of the tests. Imported first of all, before anything reads the user's settings, which tests must not depend on."""

import os

for name in ("INSPO_BENCHMARK_DATA", "INSPO_BENCHMARK_MODULES", "INSPO_MAX_BYTES", "WANDB_MODE"):
    os.environ.pop(name, None)
