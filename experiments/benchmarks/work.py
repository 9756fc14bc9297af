"""The work that every competitor is given: RST with normalized ascent on a diagonal quadratic, in float64.

With lam_i even in log from 0.01 to 1, X_t a Bernoulli trial with probability p, and gamma = 1:

    g     = lam x + sigma z,    z ~ N(0, I)          pair 1
    y     = x + X rho g / ||g||
    g_adv = lam y + sigma z                          pair 2, the same noise
    x    <- x - eta g_adv

Measured over the replicas: mean and standard error of f, ||grad f||^2 and ||x||^2, at x_0, at nine points
evenly between and at x_T. Time is counted in units: one unit is a replica, a step and a coordinate.

Only NumPy is imported here, since competitors may run under other interpreters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["METRICS", "POINTS", "SEGMENTS", "FloatArray", "Measured", "Run", "Work", "measured"]

FloatArray: TypeAlias = npt.NDArray[np.float64]

METRICS = ("gap", "squared_gradient_norm", "squared_distance")
SEGMENTS = 10
POINTS = SEGMENTS + 1


class Measured(NamedTuple):
    """What a run measured: a row per metric of `METRICS`, a column per point x_0, …, x_T.

    Attributes:
        means: over the replicas, float64 (3, POINTS).
        errors: the standard errors of the means, of the same shape.
    """

    means: FloatArray
    errors: FloatArray


Run: TypeAlias = Callable[[], Measured]
"""One run of a work, ready to be timed."""


@dataclass(frozen=True)
class Work:
    """One job.

    Attributes:
        dimension: d >= 2.
        replicas: R >= 2.
        steps: T, a multiple of `SEGMENTS`.
        noise: sigma, the standard deviation of the gradient noise of a coordinate.
        p: the probability of a perturbed step.
        eta: the step size.
        rho: the radius.
        seed: of the noise.

    Raises:
        ValueError: steps that are no positive multiple of `SEGMENTS`.
    """

    dimension: int
    replicas: int
    steps: int
    noise: float = 0.1
    p: float = 0.5
    eta: float = 0.5
    rho: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.steps < SEGMENTS or self.steps % SEGMENTS:
            raise ValueError(f"steps must be a positive multiple of {SEGMENTS}; got {self.steps}")

    @property
    def eigenvalues(self) -> FloatArray:
        """The spectrum lam, float64 (d,)."""
        return np.geomspace(0.01, 1.0, self.dimension)

    @property
    def start(self) -> FloatArray:
        """x_0, the same for every replica, float64 (d,)."""
        return np.ones(self.dimension)

    @property
    def segment(self) -> int:
        """The steps between two points that are measured."""
        return self.steps // SEGMENTS

    @property
    def times(self) -> list[int]:
        """The steps before which is measured; x_T comes after the last."""
        return list(range(0, self.steps, self.segment))

    @property
    def units(self) -> int:
        """Replicas x steps x coordinates."""
        return self.replicas * self.steps * self.dimension

    @property
    def weights(self) -> FloatArray:
        """The metrics as linear functions of the squared coordinates: x^2 @ weights, float64 (d, 3)."""
        lam = self.eigenvalues
        return np.stack([lam / 2, lam**2, np.ones_like(lam)], axis=1)

    def plain(self) -> dict[str, Any]:
        """The fields as plain data."""
        return asdict(self)


def measured(samples: npt.ArrayLike) -> Measured:
    """The moments of samples of the metrics, shape (POINTS, R, 3)."""
    values = np.asarray(samples, dtype=np.float64)
    errors = values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])
    return Measured(values.mean(axis=1).T, errors.T)
