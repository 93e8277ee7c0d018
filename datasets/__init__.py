"""Recorded play: one file format, what builds, converts and checks it, and the windows that training draws from it."""

from inspo_benchmark.datasets.catalog import fetch, state

__all__ = ["fetch", "state"]
