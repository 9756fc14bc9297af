"""The law of the number of systematic trials: two neighbouring integers around the sum of p_t."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rst_theory.notation import QUANTITIES, FloatArray

__all__ = ["SystematicSum"]


class SystematicSum:
    """The law of N = X_1 + … + X_T where one uniform number shifts a comb over the sums of p_t.

    With S = p_1 + … + p_T: N = floor(S) + 1 with probability S - floor(S), else floor(S). Systematic
    sampling: Madow & Madow, "On the theory of systematic sampling, I", Annals of Mathematical Statistics
    15 (1944). S is the exact sum of the float64 numbers p_t, rounded once, after the nearest integer has
    been taken off; so both probabilities are right to rounding, and an integer sum is seen as one.

    `rst_theory.Trials` rounds each p_t to a multiple of 2^-53 before it draws, which moves its S by at
    most T 2^-54.

    Args:
        probabilities: p_t, shape (T,), T >= 1, each in [0, 1].

    Attributes:
        trials: T.
        least: floor(S).
        most: ceil(S).
        mean: S.
        variance: (S - floor(S)) (1 - S + floor(S)).

    Raises:
        TypeError: not an array of real numbers.
        ValueError: its shape is not (T,) with T >= 1.
        DomainError: a probability outside [0, 1], named with its t.
    """

    def __init__(self, probabilities: npt.ArrayLike) -> None:
        p = QUANTITIES["p"].check_all(probabilities)
        if p.ndim != 1 or p.size == 0:
            raise ValueError(f"probabilities must have shape (T,) with T >= 1; got shape {p.shape}")
        self.trials = int(p.size)
        self.mean = math.fsum(p)
        nearest = round(self.mean)
        beyond = math.fsum([*p.tolist(), -nearest])  # in [-1/2, 1/2] but for rounding of the mean
        self.least = nearest if beyond >= 0 else nearest - 1
        self.most = nearest if beyond <= 0 else nearest + 1
        self._above = beyond if beyond >= 0 else 1 + beyond
        self._at_least = 1 - beyond if beyond >= 0 else -beyond
        self.variance = self._above * self._at_least

    def pmf(self) -> FloatArray:
        """P(N = k) for k = 0, …, T, float64 (T + 1,)."""
        law = np.zeros(self.trials + 1)
        law[self.most] = self._above
        law[self.least] = self._at_least  # last: where the two are one, this one is 1
        return law

    def log_pmf(self, k: int) -> float:
        """The logarithm of P(N = k) for an integer k; -inf where k is not a value of N."""
        if k == self.least:
            return math.log(self._at_least)
        return math.log(self._above) if k == self.most else -math.inf
