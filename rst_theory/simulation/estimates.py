"""Monte Carlo estimates: streaming moments over replicas, kept apart in slots, and means with their errors.

Symbol key: S slots, K times, R replicas; the slot of replica r is r mod S.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from rst_theory import display
from rst_theory.notation import FloatArray

__all__ = ["SLOTS", "Estimate", "Moments"]

SLOTS = 32
"""S: groups of replicas whose moments are kept apart, for the standard error of sums over time."""


@dataclass(frozen=True)
class Estimate:
    """A Monte Carlo mean with its standard error, and the degrees of freedom behind it."""

    mean: float
    standard_error: float
    degrees_of_freedom: int

    def interval(self, confidence: float = 0.99) -> tuple[float, float]:
        """The central t interval; infinite where there are too few replicas to tell."""
        from scipy import special

        if self.degrees_of_freedom < 1:
            return -np.inf, np.inf
        half = float(special.stdtrit(self.degrees_of_freedom, (1 + confidence) / 2)) * self.standard_error
        return self.mean - half, self.mean + half

    def _repr_html_(self) -> display.Html:
        low, high = map(display.number, self.interval(0.99))
        return display.joined([display.number(self.mean), f"99 % interval [{low}, {high}]"])


@dataclass(frozen=True, eq=False)
class Moments:
    """Streaming mean and variance of one quantity over the replicas, at K times, slot by slot.

    Attributes:
        counts: replicas in each slot, int64 (S,).
        means: mean over the replicas of each slot, float64 (S, K); 0 in an empty slot.
        squares: sums of squared deviations from that mean, float64 (S, K).
    """

    counts: npt.NDArray[np.int64]
    means: FloatArray = field(repr=False)
    squares: FloatArray = field(repr=False)

    @classmethod
    def of(cls, samples: FloatArray, first: int) -> Moments:
        """The moments of the samples (K, n) of the replicas first, …, first + n - 1, n >= 1."""
        K, n = samples.shape
        counts, means, squares = np.zeros(SLOTS, dtype=np.int64), np.zeros((SLOTS, K)), np.zeros((SLOTS, K))
        for i in range(min(n, SLOTS)):
            own, slot = samples[:, i::SLOTS], (first + i) % SLOTS
            origin = own[:, 0]
            counts[slot] = own.shape[1]
            means[slot] = origin + (own - origin[:, None]).mean(axis=1)
            squares[slot] = ((own - means[slot][:, None]) ** 2).sum(axis=1)
        return cls(counts, means, squares)

    def merge(self, other: Moments) -> Moments:
        """The moments of both samples together (Chan, Golub & LeVeque 1983), slot by slot."""
        counts = self.counts + other.counts
        share = (other.counts / np.maximum(counts, 1))[:, None]
        shift = other.means - self.means
        return Moments(
            counts,
            self.means + share * shift,
            self.squares + other.squares + share * self.counts[:, None] * shift * shift,
        )

    def at(self, columns: slice) -> Moments:
        """The moments at some of the times."""
        return Moments(self.counts, self.means[:, columns], self.squares[:, columns])

    @property
    def count(self) -> int:
        """R, the replicas seen."""
        return int(self.counts.sum())

    @property
    def mean(self) -> FloatArray:
        """Over all replicas, float64 (K,)."""
        # From one of the slots, so that samples that are all alike have exactly their mean and no variance.
        origin = self.means[self.counts.argmax()]
        return np.asarray(origin + (self.counts[:, None] * (self.means - origin)).sum(axis=0) / self.count)

    @property
    def variance(self) -> FloatArray:
        """Unbiased variance over the replicas, float64 (K,); infinite with one replica."""
        if self.count < 2:
            return np.full(self.means.shape[1], np.inf)
        shift = self.means - self.mean
        with np.errstate(over="ignore"):  # then it is infinite
            # In this order 0 where a slot is empty.
            between = (self.counts[:, None] * shift * shift).sum(axis=0)
            return np.asarray((self.squares.sum(axis=0) + between) / (self.count - 1))

    @property
    def standard_error(self) -> FloatArray:
        """Of the mean, float64 (K,)."""
        return np.sqrt(self.variance / self.count)

    def weighted(self, weights: FloatArray) -> Estimate:
        """The estimate of sum_k w_k E(quantity at time k).

        Its standard error comes from the spread of the slots, so that the correlation over time is
        accounted for.
        """
        used = self.counts > 0
        sizes, means = self.counts[used], self.means[used] @ weights
        mean = float(means @ sizes / self.count)
        dof = len(sizes) - 1
        if dof < 1:
            return Estimate(mean, np.inf, 0)
        variance = float(((means - mean) ** 2) @ sizes) / dof
        return Estimate(mean, float(np.sqrt(variance / self.count)), dof)
