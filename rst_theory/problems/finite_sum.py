"""Averages over rows of data, with minibatches as their noise."""

from __future__ import annotations

from abc import abstractmethod

import numpy as np
import numpy.typing as npt

from rst_theory.notation import DomainError, FloatArray, natural
from rst_theory.problems.base import Minibatch, Problem, Randomness, require


class FiniteSum(Problem):
    """f(x) = mean_i f_i(x) over n rows of data.

    A minibatch is b row indices, drawn uniformly with replacement; its gradient is the mean of theirs.

    Attributes:
        rows: n.
        batch: b; None for full, exact gradients.
    """

    rows: int
    batch: int | None

    def sample(self, generator: Randomness, replicas: int) -> Minibatch:
        """Row indices, drawn uniformly with replacement: int64 (replicas, b); None for full gradients."""
        replicas = natural("replicas", replicas, least=1)
        return None if self.batch is None else generator.integers(self.rows, size=(replicas, self.batch))

    def stochastic_gradient(self, x: npt.ArrayLike, minibatch: Minibatch) -> FloatArray:
        x = self._points(x)
        self._require_minibatch(minibatch, None if self.batch is None else (*x.shape[:-1], self.batch))
        if minibatch is None:
            return self.gradient(x)
        if minibatch.dtype.kind not in "iu":
            raise DomainError("minibatch of row indices, integers", minibatch.dtype)
        require(f"0 <= index < {self.rows}", (minibatch >= 0) & (minibatch < self.rows), minibatch)
        return self._sampled_gradient(x, minibatch)

    @abstractmethod
    def _sampled_gradient(self, x: FloatArray, indices: npt.NDArray[np.int64]) -> FloatArray:
        """The gradients of the minibatches: x (..., d) and indices (..., b) to (..., d)."""
