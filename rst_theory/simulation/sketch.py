"""Quantiles by a streaming sketch: a histogram with bins of constant relative width.

Symbol key: B bins. Bin 0 holds everything below 2^LOWEST (zeros and rounding included), the last bin
everything from 2^HIGHEST on; between them every octave is cut into PER_OCTAVE bins of equal width. The bin
of a float is read off its leading bits, and counts add up, so that sketches merge exactly in any order.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rst_theory.notation import DomainError, FloatArray

__all__ = ["BINS", "HIGHEST", "LOWEST", "ORIGIN", "PER_OCTAVE", "SHIFT", "bins", "count", "quantile"]

PER_OCTAVE = 64
LOWEST, HIGHEST = -128, 64
BINS = (HIGHEST - LOWEST) * PER_OCTAVE + 2
SHIFT = 52 - 6  # leaves the exponent and the 6 bits of fraction that PER_OCTAVE asks for
ORIGIN = (1023 + LOWEST) * PER_OCTAVE  # what is left of 2^LOWEST


def bins(samples: FloatArray) -> npt.NDArray[np.int64]:
    """The bin of each sample."""
    leading = (np.asarray(samples, dtype=np.float64).view(np.uint64) >> np.uint64(SHIFT)).astype(np.int64)
    within = np.clip(leading - ORIGIN + 1, 0, BINS - 1)
    return np.where(samples < 2.0**LOWEST, 0, within)


def count(samples: FloatArray) -> npt.NDArray[np.uint32]:
    """The sketch of samples (K, n), row by row: uint32 (K, B)."""
    K = len(samples)
    flat = bins(samples) + BINS * np.arange(K)[:, None]
    return np.bincount(flat.ravel(), minlength=K * BINS).reshape(K, BINS).astype(np.uint32)


def quantile(counts: npt.NDArray[np.uint32], level: float) -> FloatArray:
    """The quantile of the samples behind each row: of the n samples, the max(1, ceil(level n))-th smallest.

    The sketch knows the bin [a, b) that it lies in, and 2ab/(a + b) stands for the bin. Its ratio to a
    sample x is at most 2b/(a + b) = 1 + (b - a)/(a + b), at x = a, and at least 2a/(a + b) =
    1 - (b - a)/(a + b), towards x = b. With a = 2^e (1 + j/64) and b = a + 2^e/64 that relative error is
    (b - a)/(a + b) = 1/(129 + 2j) <= 1/129, and no number would do better for the bin.
    The lowest bin is given as 0 and the highest, of samples from 2^64 on, as infinity.

    Args:
        counts: sketches, uint32 (K, B), with at least one sample in every row.
        level: in [0, 1].

    Returns:
        float64 (K,).

    Raises:
        DomainError: a level outside [0, 1].
    """
    if not 0 <= level <= 1:
        raise DomainError("0 <= level <= 1", level)
    octave, j = np.divmod(np.arange(BINS - 2), PER_OCTAVE)
    a = np.ldexp(1 + j / PER_OCTAVE, octave + LOWEST)
    b = a + np.ldexp(1 / PER_OCTAVE, octave + LOWEST)
    values = np.concatenate([[0.0], a / (a + b) * 2 * b, [np.inf]])
    # One row at a time: the running sums of all would take twice the memory of the sketch.
    running = (row.cumsum(dtype=np.int64) for row in counts)
    return np.array([values[np.searchsorted(n, max(1, math.ceil(level * n[-1])))] for n in running])
