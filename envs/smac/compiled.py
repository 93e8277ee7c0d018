"""How the simulator's functions are compiled, and its random numbers: the same bits on every machine.

Kernels are called from Python; rules are inlined into the kernels that use them. Both do without numba's reference counting (`_nrt`),
which took more time than the rules of the game: they allocate nothing and write into the arrays that they are given.
"""

import numpy as np
from numba import njit

kernel = njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
rule = njit(inline="always", error_model="numpy", _nrt=False)

SPLITMIX_STEP = np.uint64(0x9E3779B97F4A7C15)  # 2**64 divided by the golden ratio


@rule
def splitmix64(z):
    """The output function of splitmix64 (Steele et al. 2014): one uint64 from another."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@rule
def unit_interval(z):
    """The upper 53 bits of a uint64 as a float64 in [0, 1)."""
    return np.float64(np.int64(z >> np.uint64(11))) * 2.0**-53
