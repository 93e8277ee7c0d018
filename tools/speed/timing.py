"""Clocks: processor time per call, and the machine's rate of matrix products."""

import time
from collections.abc import Callable

import torch

ROUNDS, SECONDS = 5, 1.0  # a value is the median of ROUNDS timings of about SECONDS each


def seconds_per_call(work: Callable[[], None]) -> float:
    """CPU seconds per call of `work` in one thread. Other programs on the machine do not count."""
    work()
    count, started = 0, time.process_time()
    while (elapsed := time.process_time() - started) < SECONDS:
        work()
        count += 1
    return elapsed / count


def matrix_product_rate() -> float:
    """flop/s of a product of square float32 matrices on one core: the best of many timings, as other programs can only slow it down."""
    width, seconds = 512, []
    x = torch.randn(width, width)
    for _ in range(300):
        started = time.perf_counter()
        x @ x
        seconds.append(time.perf_counter() - started)
    return 2 * width**3 / min(seconds)
