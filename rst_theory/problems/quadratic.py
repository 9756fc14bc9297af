"""Quadratics: the problems on which everything can be computed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from rst_theory.notation import QUANTITIES, Assumption, DomainError, FloatArray, natural
from rst_theory.problems.base import Problem, real_array, require
from rst_theory.problems.form import InTorch, Separable

if TYPE_CHECKING:
    import torch


class Quadratic(Problem):
    """A diagonal quadratic: f(x) = 1/2 sum_i lam_i x_i^2, lam_i >= 0, not all zero.

    Nothing is lost by the diagonal form: the methods here commute with rotations.

    Constants, all exact:
        L = max lam: ||grad f(x) - grad f(y)||^2 = sum lam_i^2 (x_i - y_i)^2 <= L^2 ||x - y||^2, with
            equality along a coordinate of the largest eigenvalue.
        f_star = 0, at x = 0.
        mu = the least positive eigenvalue: ||grad f||^2 = sum lam_i^2 x_i^2 >= mu sum lam_i x_i^2
            = 2 mu f, with equality along its coordinate. Where no eigenvalue is zero f is mu-strongly
            convex, since its Hessian is diag(lam); where one is zero f is convex and no more.

    Args:
        eigenvalues: lam, shape (d,).
        noise: standard deviation of the gradient noise per coordinate.
        start: shape (d,); all ones unless given.

    Raises:
        DomainError: an eigenvalue that is negative or not finite (named with its index), no positive one,
            or another argument outside its domain.
    """

    name = "quadratic"

    eigenvalues: FloatArray

    def __init__(
        self, eigenvalues: npt.ArrayLike, noise: float = 0.0, start: npt.ArrayLike | None = None
    ) -> None:
        lam = self.eigenvalues = real_array("eigenvalues", eigenvalues, "d")
        require("eigenvalues >= 0", lam >= 0, lam)
        if not lam.any():
            raise DomainError("at least one eigenvalue > 0", lam)
        super().__init__(
            lam.size,
            np.ones(lam.size) if start is None else start,
            L=float(lam.max()),
            mu=float(lam[lam > 0].min()),
            f_star=0.0,
            claims=(
                [Assumption.STRONGLY_CONVEX]
                if lam.all()
                else [Assumption.CONVEX, Assumption.POLYAK_LOJASIEWICZ]
            ),
            noise=noise,
            minimizer=np.zeros(lam.size),
        )

    @classmethod
    def random(
        cls, dimension: int, L: float = 1.0, mu: float = 0.01, noise: float = 0.0, seed: int = 0
    ) -> Self:
        """A quadratic whose spectrum is log-uniform on [mu, L], with both ends attained.

        Args:
            dimension: d >= 1.
            L: the largest eigenvalue.
            mu: the least one, 0 < mu <= L; it must be L where d = 1.
            noise: standard deviation of the gradient noise per coordinate.
            seed: of the d - 2 eigenvalues between the ends, >= 0.

        Raises:
            DomainError: an argument outside its domain.
        """
        dimension = natural("dimension", dimension, least=1)
        L, mu = QUANTITIES["L"].check(L), QUANTITIES["mu"].check(mu)
        if not 0 < mu <= L:
            raise DomainError(f"0 < mu <= L = {L:g}", mu)
        if dimension == 1 and mu != L:
            raise DomainError(f"mu = L = {L:g} in one dimension", mu)
        u = np.random.default_rng(natural("seed", seed)).uniform(size=max(dimension - 2, 0))
        between = np.clip(np.exp(np.log(mu) + np.sort(u) * (np.log(L) - np.log(mu))), mu, L)
        return cls(np.concatenate([[mu], between, [L]])[-dimension:], noise=noise)

    def value(self, x: npt.ArrayLike) -> FloatArray:
        x = self._points(x)
        return 0.5 * (x * x) @ self.eigenvalues

    def gradient(self, x: npt.ArrayLike) -> FloatArray:
        return self.eigenvalues * self._points(x)

    def form(self) -> Separable:
        return Separable(_value, _derivative, (self.eigenvalues,), _curvature)

    def in_torch(self, device: torch.device | str, dtype: torch.dtype) -> InTorch:
        import torch

        lam = torch.tensor(self.eigenvalues, device=device, dtype=dtype)
        return InTorch(lambda x: 0.5 * (x * x) @ lam, lambda x: lam * x)


def _value(x: Any, i: Any, data: Any) -> Any:
    return 0.5 * data[0][i] * (x * x)


def _derivative(x: Any, i: Any, data: Any) -> Any:
    return data[0][i] * x


def _curvature(i: Any, data: Any) -> Any:
    return data[0][i]
