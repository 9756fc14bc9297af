"""Quadratics with a full matrix."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from rst_theory.notation import Assumption, DomainError, FloatArray
from rst_theory.problems.base import Problem, real_array
from rst_theory.problems.compiled import compilable, multiply
from rst_theory.problems.form import Coupled, InTorch

if TYPE_CHECKING:
    import torch

_EPS = float(np.finfo(np.float64).eps)


class DenseQuadratic(Problem):
    """f(x) = 1/2 x^T A x, A symmetric and positive semidefinite, not zero.

    In exact arithmetic it is the `Quadratic` of the eigenvalues of A, rotated; the proofs of its constants
    are the same. The eigenvalues are computed, so that the constants allow for rounding: with lam as
    LAPACK returns it and r = d eps max lam,

        L = max lam + r,    mu = the least lam above r, less r,    f_star = 0, at x = 0,

    and an eigenvalue within r of zero counts as zero, from which no computation on A could tell it.
    Where none does f is mu-strongly convex; otherwise convex, with mu its Polyak-Lojasiewicz constant.
    The value is computed as 1/2 ||F x||^2 with A = F^T F, so that it keeps its sign and relative accuracy.

    Args:
        matrix: A, shape (d, d).
        noise: standard deviation of the gradient noise per coordinate.
        start: shape (d,); all ones unless given.

    Attributes:
        matrix: float64 (d, d), read-only, symmetric to the last bit.

    Raises:
        DomainError: a matrix that is not square, finite or symmetric (named with its index), one with an
            eigenvalue below -r (named), the zero matrix, or another argument outside its domain.
    """

    name = "dense quadratic"

    matrix: FloatArray

    def __init__(self, matrix: npt.ArrayLike, noise: float = 0.0, start: npt.ArrayLike | None = None) -> None:
        A = self.matrix = _symmetric(real_array("matrix", matrix, "d", "d"))
        d = len(A)
        lam, vectors = np.linalg.eigh(A)
        r = d * _EPS * float(np.abs(lam).max())
        if lam[0] < -r:
            raise DomainError("matrix positive semidefinite", f"the eigenvalue {lam[0]:.6g}")
        if not lam[-1] > r:
            raise DomainError("at least one eigenvalue > 0", lam)
        positive = lam[lam > r]
        self._root = np.ascontiguousarray(np.sqrt(positive)[:, None] * vectors.T[lam > r])
        super().__init__(
            d,
            np.ones(d) if start is None else start,
            L=float(lam[-1]) + r,
            mu=float(positive[0]) - r,
            f_star=0.0,
            claims=(
                [Assumption.STRONGLY_CONVEX]
                if len(positive) == d
                else [Assumption.CONVEX, Assumption.POLYAK_LOJASIEWICZ]
            ),
            noise=noise,
            minimizer=np.zeros(d),
        )

    def value(self, x: npt.ArrayLike) -> FloatArray:
        return half_square(self._root, self._points(x))

    def gradient(self, x: npt.ArrayLike) -> FloatArray:
        return np.asarray(self._points(x) @ self.matrix)

    def form(self) -> Coupled:
        center, least = np.zeros(self.dimension), np.zeros(1)
        return Coupled(*coupled_formulas(), (self.matrix, self._root, center, least))

    def in_torch(self, device: torch.device | str, dtype: torch.dtype) -> InTorch:
        import torch

        A, F = (torch.tensor(array, device=device, dtype=dtype) for array in (self.matrix, self._root))
        return InTorch(lambda x: 0.5 * ((x @ F.T) ** 2).sum(dim=-1), lambda x: x @ A)


def half_square(F: FloatArray, y: FloatArray) -> FloatArray:
    """1/2 ||F y||^2 of each row of y."""
    return np.asarray(0.5 * ((y @ F.T) ** 2).sum(axis=-1))


@functools.cache
def coupled_formulas() -> tuple[Callable[..., None], Callable[..., None]]:
    """f* + 1/2 ||F (x - c)||^2 and its gradient A (x - c), with data = (A, F, c, [f*])."""
    product = compilable(multiply)

    def value(x: Any, out: Any, data: Any) -> None:
        F, c, least = data[1], data[2], data[3]
        d, lanes = x.shape
        y, Fy = np.empty((d, lanes)), np.empty((len(F), lanes))
        for j in range(d):
            for lane in range(lanes):
                y[j, lane] = x[j, lane] - c[j]
        product(F, y, Fy)
        for lane in range(lanes):
            out[lane] = least[0]
        for k in range(len(F)):
            for lane in range(lanes):
                out[lane] += 0.5 * (Fy[k, lane] * Fy[k, lane])

    def gradient(x: Any, g: Any, data: Any) -> None:
        A, c = data[0], data[2]
        d, lanes = x.shape
        y = np.empty((d, lanes))
        for j in range(d):
            for lane in range(lanes):
                y[j, lane] = x[j, lane] - c[j]
        product(A, y, g)

    return value, gradient


def _symmetric(A: FloatArray) -> FloatArray:
    """A, its two halves averaged where they differ by rounding alone."""
    if A.shape[0] != A.shape[1]:
        raise DomainError("matrix square", f"shape {A.shape}")
    with np.errstate(over="ignore"):
        differs = np.abs(A - A.T) > 8 * len(A) * _EPS * np.abs(A).max()
    if differs.any():
        i, j = (int(k) for k in np.argwhere(differs)[0])
        raise DomainError("matrix symmetric", f"{A[i, j]:g} against {A[j, i]:g}", f"index ({i}, {j})")
    A = 0.5 * A + 0.5 * A.T
    A.flags.writeable = False
    return A
