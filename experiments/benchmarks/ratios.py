"""Ratios of times that were measured in turns."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple

from scipy import stats

from experiments.settings import CONFIDENCE

__all__ = ["Ratio", "paired_ratio"]


class Ratio(NamedTuple):
    """The median of paired ratios, and an interval for it that assumes no law: that of the sign test.

    Attributes:
        median: of the ratios.
        low: the k-th smallest ratio, for the largest k that gives the confidence asked for; at least k = 1.
        high: the k-th largest.
        confidence: that the interval has: below what was asked for where there are too few ratios.
    """

    median: float
    low: float
    high: float
    confidence: float


def paired_ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Ratio:
    """The ratio of two series whose entries of one index were measured side by side.

    Raises:
        ValueError: no entries, or series of different lengths.
    """
    ratios = sorted(a / b for a, b in zip(numerators, denominators, strict=True))
    if not ratios:
        raise ValueError("paired_ratio needs at least one pair")
    n = len(ratios)
    # P(fewer than k of n fair coins) on either side is what the interval misses.
    k = max(1, int(stats.binom.ppf((1 - CONFIDENCE) / 2, n, 0.5)))
    missed = 2 * float(stats.binom.cdf(k - 1, n, 0.5))
    return Ratio(statistics.median(ratios), ratios[k - 1], ratios[n - k], max(0.0, 1 - missed))
