"""Intervals, paired differences and corrections for many comparisons, from SciPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from experiments.settings import CONFIDENCE
from rst_theory.notation import FloatArray

__all__ = ["Difference", "Interval", "holm", "mean_interval", "paired_difference"]


class Interval(NamedTuple):
    """An estimate with the ends of its interval."""

    mean: float
    low: float
    high: float


class Difference(NamedTuple):
    """A paired difference.

    Attributes:
        mean: of first - second.
        low: end of its interval.
        high: end of its interval.
        p_value: of the hypothesis that it is 0, two-sided, by the t distribution.
        effect: mean over standard deviation of the differences (Cohen's d_z); 0 where both are 0.
    """

    mean: float
    low: float
    high: float
    p_value: float
    effect: float


def mean_interval(sample: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """The mean of independent numbers with its t interval.

    Raises:
        ValueError: fewer than two numbers, or one that is not finite.
    """
    x = _sample("sample", sample)
    mean = float(x.mean())
    half = float(stats.t.ppf((1 + confidence) / 2, x.size - 1) * x.std(ddof=1) / np.sqrt(x.size))
    return Interval(mean, mean - half, mean + half)


def paired_difference(first: ArrayLike, second: ArrayLike, confidence: float = CONFIDENCE) -> Difference:
    """The difference of two samples that were drawn together, number by number.

    Args:
        first: (n,).
        second: (n,).
        confidence: of the interval; for k simultaneous ones give 1 - (1 - CONFIDENCE)/k (Bonferroni).

    Raises:
        ValueError: samples of different sizes, or what `mean_interval` refuses.
    """
    a, b = _sample("first", first), _sample("second", second)
    if a.size != b.size:
        raise ValueError(f"paired samples must be of one size; got {a.size} and {b.size}")
    d = a - b
    interval = mean_interval(d, confidence)
    spread = float(d.std(ddof=1))
    if spread == 0:
        return Difference(*interval, float(interval.mean == 0), 0.0 if interval.mean == 0 else np.inf)
    t = interval.mean / (spread / np.sqrt(d.size))
    return Difference(*interval, float(2 * stats.t.sf(abs(t), d.size - 1)), interval.mean / spread)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values: rejecting those below a level keeps the familywise error at that level (Holm, 1979).

    Raises:
        ValueError: a number outside [0, 1].
    """
    p = np.asarray(p_values, dtype=float)
    if p.size and not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values must lie in [0, 1]; got {list(p_values)}")
    order = np.argsort(p, kind="stable")
    raised = np.maximum.accumulate(p[order] * np.arange(p.size, 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(raised, 1.0)
    return [float(x) for x in adjusted]


def _sample(name: str, values: ArrayLike) -> FloatArray:
    x = np.asarray(values, dtype=float).reshape(-1)
    if x.size < 2 or not np.isfinite(x).all():
        raise ValueError(f"{name} must hold at least two finite numbers; got {values!r:.80}")
    return x
