"""The function that a certificate speaks of: an interpolant of finitely many points, as a problem."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from rst_theory.notation import Assumption, DomainError, FloatArray
from rst_theory.problems.base import Problem, real_array

__all__ = ["Interpolant"]

_TOLERANCE = 1e-6  # how far data may violate the inequalities of the class, relative to their size
_OPTIMAL = 1e-13  # relative: a vertex must promise a larger descent to enter the support


class Interpolant(Problem):
    """The largest function of curvature in [m, L] through values f_i and gradients g_i at points x_i.

    With M = L - m, h_i = f_i - m |x_i|^2/2 and s_i = g_i - m x_i it is f(x) = h(x) + m |x|^2/2,

        h(x) = min over alpha in the simplex of sum_i alpha_i (h_i - |s_i|^2/(2 M)) + |y|^2/(2 M),
        y = M x + sum_i alpha_i (s_i - M x_i) = grad h(x):

    the convex hull of the parabolas of curvature M through the data (Taylor, Hendrickx & Glineur, arXiv
    1502.05666; Drori & Shamir, arXiv 1910.01845). Proof of all that follows:
    `paper_notes/certificates.md#interpolant`.

    Constants:
        L: as given; h is convex and M-smooth, so the curvature of f lies in [m, L].
        mu: m where m > 0, else 0.
        f_star: as given; where none is given and m < 0 the least value of f_i - |g_i|^2/(2 L), below which f
            does not fall; where m > 0 likewise with mu; None where m = 0.

    Args:
        points: x_i, shape (n, d).
        gradients: g_i, shape (n, d).
        values: f_i, shape (n,).
        L: the largest curvature, L > 0.
        curvature: m, -L <= m < L.
        f_star: a lower bound of f.
        start: shape (d,); the first point unless given.
        minimizer: shape (d,), where one is among the points.

    Raises:
        DomainError: shapes that do not fit, a value that is not finite, or data that no function of the class
            interpolates to within 1e-6 of the size of the data, the largest |f_i|, |g_i|^2/L and
            L |x_i - x_1|^2.
    """

    name = "interpolant"

    points: FloatArray
    gradients: FloatArray
    values: FloatArray
    curvature: float

    def __init__(
        self,
        points: npt.ArrayLike,
        gradients: npt.ArrayLike,
        values: npt.ArrayLike,
        *,
        L: float,
        curvature: float,
        f_star: float | None = None,
        start: npt.ArrayLike | None = None,
        minimizer: npt.ArrayLike | None = None,
    ) -> None:
        x = self.points = real_array("points", points, "n", "d")
        g = self.gradients = real_array("gradients", gradients, "n", "d")
        f = self.values = real_array("values", values, "n")
        if not (x.shape == g.shape and len(f) == len(x)):
            raise DomainError("as many gradients and values as points", (x.shape, g.shape, f.shape))
        if not -L <= curvature < L:
            raise DomainError(f"curvature in [-L, L) = [{-L:g}, {L:g})", curvature)
        m = self.curvature = float(curvature)
        M = self._M = float(L) - m
        slopes = g - m * x
        self._ends = slopes - M * x
        self._heights = f - m * (x * x).sum(axis=1) / 2 - (slopes * slopes).sum(axis=1) / (2 * M)
        if f_star is None and m != 0:
            squares = (g * g).sum(axis=1)
            f_star = float((f - squares / (2 * L)).min() if m < 0 else (f - squares / (2 * m)).max())
        claims = [Assumption.STRONGLY_CONVEX] if m > 0 else [Assumption.CONVEX] if m == 0 else []
        super().__init__(
            x.shape[1],
            x[0] if start is None else start,
            L=L,
            mu=max(m, 0.0),
            f_star=f_star,
            claims=claims,
            minimizer=minimizer,
        )
        error = float(np.abs(self.value(x) - f).max())
        sizes = np.abs(f), (g * g).sum(axis=1) / L, L * ((x - x[0]) ** 2).sum(axis=1)
        if error > _TOLERANCE * max(float(size.max()) for size in sizes):
            raise DomainError(f"data that a function of curvature in [{m:g}, {L:g}] interpolates", error)

    def value(self, x: npt.ArrayLike) -> FloatArray:
        x = self._points(x)
        return np.array([self._at(row)[0] for row in x.reshape(-1, self.dimension)]).reshape(x.shape[:-1])

    def gradient(self, x: npt.ArrayLike) -> FloatArray:
        x = self._points(x)
        return np.array([self._at(row)[1] for row in x.reshape(-1, self.dimension)]).reshape(x.shape)

    def _at(self, x: FloatArray) -> tuple[float, FloatArray]:
        if not np.isfinite(x).all():
            return np.nan, np.full_like(x, np.nan)
        M, m = self._M, self.curvature
        B = (self._ends + M * x) / np.sqrt(M)  # y = sqrt(M) alpha B, as alpha adds to 1
        alpha = _least(self._heights, B)
        y = alpha @ B
        return float(alpha @ self._heights + y @ y / 2 + m * (x @ x) / 2), np.sqrt(M) * y + m * x


def _least(c: FloatArray, B: FloatArray) -> FloatArray:
    """The minimizer over the simplex of c alpha + |alpha B|^2/2, by an active-set method.

    The support always is one on which the minimizer over its affine hull has positive weights alone; the
    vertex of the steepest descent enters, and those whose weight reaches 0 leave.
    """
    costs = c + (B * B).sum(axis=1) / 2
    k = int(np.argmin(costs))
    support, weights = [k], np.ones(1)
    scale = np.ptp(costs) + abs(costs[k]) + 1e-300
    for _ in range(100 * len(c)):
        slopes = c + B @ (weights @ B[support])
        enter = int(np.argmin(slopes))
        if enter in support or slopes[enter] >= weights @ slopes[support] - _OPTIMAL * scale:
            break
        support, weights = _descend(c, B, [*support, enter], np.append(weights, 0.0))
    alpha = np.zeros(len(c))
    alpha[support] = weights
    return alpha


def _descend(
    c: FloatArray, B: FloatArray, support: list[int], weights: FloatArray
) -> tuple[list[int], FloatArray]:
    """The minimizer over the affine hull of the support, dropping what leaves the simplex on the way."""
    while len(support) > 1:
        edges = B[support[1:]] - B[support[0]]
        tilt = (c[support[1:]] - c[support[0]]) + edges @ (weights @ B[support])
        size, axes = np.linalg.eigh(edges @ edges.T)
        flat = size <= 1e-14 * max(size[-1], 1e-300)
        along = axes.T @ tilt
        if np.abs(along[flat]).max(initial=0.0) > 1e-12 * np.abs(tilt).max():
            move, longest = -axes[:, flat] @ along[flat], np.inf  # straight down, with no curvature
        else:
            move, longest = -axes[:, ~flat] @ (along[~flat] / size[~flat]), 1.0
        move = np.concatenate([[-move.sum()], move])
        shrinking = move < 0
        ratios = np.full(len(move), np.inf)
        ratios[shrinking] = -weights[shrinking] / move[shrinking]
        length = min(longest, float(ratios.min()))
        if not np.isfinite(length):
            break
        weights = np.maximum(weights + length * move, 0.0)
        if length == longest:
            break
        keep = np.arange(len(support)) != int(np.argmin(ratios))
        support, weights = [s for s, kept in zip(support, keep, strict=True) if kept], weights[keep]
    return support, weights / weights.sum()
