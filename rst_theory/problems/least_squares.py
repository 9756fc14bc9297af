"""Least squares: the problem whose minibatch noise grows with the distance from the solution."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from rst_theory.notation import QUANTITIES, Assumption, DomainError, FloatArray, natural
from rst_theory.problems.base import real_array
from rst_theory.problems.compiled import compilable, take
from rst_theory.problems.dense import coupled_formulas, half_square
from rst_theory.problems.finite_sum import FiniteSum
from rst_theory.problems.form import Coupled, InTorch

if TYPE_CHECKING:
    import torch

_EPS = float(np.finfo(np.float64).eps)


class LeastSquares(FiniteSum):
    r"""Linear least squares: f(x) = 1/(2n) ||A x - b||^2 = mean_i (a_i·x - b_i)^2/2.

    Symbol key: a_i the rows of the features A, b_i the targets, n their number, H = A^T A/n the Hessian,
    s the singular values of A; a minibatch is m indices drawn with replacement.

        f(x) = f_star + 1/2 ||F (x - x*)||^2,    grad f(x) = H (x - x*),    H = F^T F,

    for any x* with A^T (A x* - b) = 0; here the one of least norm. f and its gradient are computed so.

    Constants, up to the rounding of the singular values, r = max(n, d) eps max s, which they allow for:
        L, full gradients: (max s + r)^2/n, the largest eigenvalue of H.
        L, minibatches: max_i ||a_i||^2, since the Hessian of f(.; xi) is the mean of a_i a_i^T over the
            minibatch, for each xi; attained by m copies of the longest row.
        mu = (s - r)^2/n for the least s above r: as for `Quadratic`, with the spectrum of H. Where d
            singular values lie above r f is mu-strongly convex; otherwise, and where n < d, convex with
            the Polyak-Lojasiewicz inequality.
        f_star = f(x*), from the residuals.
        sigma: 0 for full gradients. For minibatches grad f_i(x) - grad f(x) = (a_i a_i^T - H) x + const,
            which is unbounded over x unless every a_i a_i^T is H, that is, unless every a_i is ±a_1.
            Then, with c_i = ±b_i of the same signs, it is -a_1 (c_i - mean c), and sigma^2 =
            ||a_1||^2 Var(c)/m, exact. In all other cases no sigma bounds the variance: sigma is
            infinity, and BOUNDED_VARIANCE is not among the assumptions.

    Args:
        features: the rows a_i, shape (n, d), not all zero; an intercept is a column of ones.
        targets: b_i, shape (n,).
        batch: m, the size of a minibatch; None for full, exact gradients.
        start: shape (d,); zero unless given.

    Raises:
        DomainError: features or targets that are not finite (named with their index), not one target for
            each row, features that are all zero, or another argument outside its domain.
    """

    name = "least squares"

    def __init__(
        self,
        features: npt.ArrayLike,
        targets: npt.ArrayLike,
        batch: int | None = None,
        start: npt.ArrayLike | None = None,
    ) -> None:
        a, b = real_array("features", features, "n", "d"), real_array("targets", targets, "n")
        if len(b) != len(a):
            raise DomainError(f"as many targets as rows of features, {len(a)}", len(b))
        n, d = a.shape
        self.rows, self.batch = n, None if batch is None else natural("batch", batch, least=1)
        self._a, self._b = a, b
        U, s, Vt = np.linalg.svd(a, full_matrices=False)
        r = max(n, d) * _EPS * float(s[0])
        with np.errstate(over="ignore"):
            longest = (a * a).sum(axis=1).max()
            L = QUANTITIES["L"].check(np.square(s[0] + r) / n if self.batch is None else longest)
        rank = int((s > r).sum())
        self._root = s[:rank, None] * Vt[:rank] / math.sqrt(n)
        self._hessian: FloatArray = a.T @ a / n
        self._center: FloatArray = (b @ U[:, :rank] / s[:rank]) @ Vt[:rank]
        with np.errstate(over="ignore"):
            squares = np.square(a @ self._center - b)
        self._least = QUANTITIES["f_star"].check(math.fsum(squares) / (2 * n))
        super().__init__(
            d,
            np.zeros(d) if start is None else start,
            L=L,
            mu=(float(s[rank - 1]) - r) ** 2 / n,
            f_star=self._least,
            claims=(
                [Assumption.STRONGLY_CONVEX]
                if rank == d
                else [Assumption.CONVEX, Assumption.POLYAK_LOJASIEWICZ]
            ),
            sigma=0.0 if self.batch is None else _sigma(a, b) / math.sqrt(self.batch),
            minimizer=self._center,
        )

    @classmethod
    def random(
        cls, rows: int, dimension: int, noise: float = 1.0, batch: int | None = None, seed: int = 0
    ) -> Self:
        """Standard normal features; targets A w + noise * e with w and e standard normal.

        Args:
            rows: n >= 1.
            dimension: d >= 1.
            noise: standard deviation of the targets about A w.
            batch: size of a minibatch; None for full gradients.
            seed: >= 0.

        Raises:
            DomainError: an argument outside its domain.
        """
        n, d = natural("rows", rows, least=1), natural("dimension", dimension, least=1)
        noise = QUANTITIES["sigma"].check(noise)
        generator = np.random.default_rng(natural("seed", seed))
        a = generator.standard_normal((n, d))
        return cls(a, a @ generator.standard_normal(d) + noise * generator.standard_normal(n), batch)

    def value(self, x: npt.ArrayLike) -> FloatArray:
        return self._least + half_square(self._root, self._points(x) - self._center)

    def gradient(self, x: npt.ArrayLike) -> FloatArray:
        return np.asarray((self._points(x) - self._center) @ self._hessian)

    def _sampled_gradient(self, x: FloatArray, indices: npt.NDArray[np.int64]) -> FloatArray:
        a = self._a[indices]  # (replicas, m, d)
        residuals = a @ x[..., None] - self._b[indices][..., None]  # (replicas, m, 1)
        return np.asarray((residuals * a).mean(axis=-2))

    def form(self) -> Coupled:
        data = (self._hessian, self._root, self._center, np.array([self._least]), self._a, self._b)
        if self.batch is None:
            return Coupled(*coupled_formulas(), data)
        return Coupled(*coupled_formulas(), data, self.rows, self.batch, _sampled_formula())

    def in_torch(self, device: torch.device | str, dtype: torch.dtype) -> InTorch:
        import torch

        H, F, center, a, b = (
            torch.tensor(array, device=device, dtype=dtype)
            for array in (self._hessian, self._root, self._center, self._a, self._b)
        )
        f_star = self._least

        def value(x: torch.Tensor) -> torch.Tensor:
            return f_star + 0.5 * (((x - center) @ F.T) ** 2).sum(dim=-1)

        def gradient(x: torch.Tensor) -> torch.Tensor:
            return (x - center) @ H

        def sampled_gradient(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
            rows = a[indices]  # (R, m, d)
            residuals = (rows * x[:, None]).sum(dim=-1) - b[indices]
            return (residuals[..., None] * rows).mean(dim=1)

        if self.batch is None:
            return InTorch(value, gradient)
        return InTorch(value, gradient, self.rows, self.batch, sampled_gradient)


@functools.cache
def _sampled_formula() -> Callable[..., None]:
    """The gradients of minibatches, of points side by side, with a and b in data[4] and data[5]."""
    copy = compilable(take)

    def sampled_gradient(x: Any, g: Any, indices: Any, data: Any) -> None:
        a, b = data[4], data[5]
        m, (d, lanes) = len(indices), x.shape
        rows, residuals = np.empty((d, lanes)), np.empty(lanes)
        for j in range(d):
            for lane in range(lanes):
                g[j, lane] = 0.0
        for k in range(m):
            copy(a, indices[k], rows)
            for lane in range(lanes):
                residuals[lane] = -b[indices[k, lane]]
            for j in range(d):
                for lane in range(lanes):
                    residuals[lane] += rows[j, lane] * x[j, lane]
            for lane in range(lanes):
                residuals[lane] /= m
            for j in range(d):
                for lane in range(lanes):
                    g[j, lane] += residuals[lane] * rows[j, lane]

    return sampled_gradient


def _sigma(a: FloatArray, b: FloatArray) -> float:
    """The standard deviation of the gradient of one row, where it does not depend on x; else infinity."""
    same, opposite = (a == a[0]).all(axis=1), (a == -a[0]).all(axis=1)
    if not (same | opposite).all():
        return math.inf
    return float(np.linalg.norm(a[0]) * np.where(same, b, -b).std())
