"""Measures the speed of training, environments, datasets and sweeps: `python -m tools.speed`."""
