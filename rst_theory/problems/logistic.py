"""Logistic regression: real data, with constants that are computed from them."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from rst_theory.notation import QUANTITIES, Assumption, DomainError, FloatArray, Interval, Quantity, natural
from rst_theory.problems.base import real_array, require
from rst_theory.problems.compiled import compilable, decay, multiply, subtract_transposed, take
from rst_theory.problems.finite_sum import FiniteSum
from rst_theory.problems.form import Coupled, InTorch

if TYPE_CHECKING:
    import torch

_L2 = Quantity("l2", "regularization", r"\lambda", Interval(low=0.0, low_open=True))
_EPS = float(np.finfo(np.float64).eps)
_NEWTON_STEPS = 200
_ACCURACY = 1e-12


class LogisticRegression(FiniteSum):
    r"""Regularized logistic regression: f(x) = mean_i log(1 + exp(-y_i a_i·x)) + l2/2 ||x||^2.

    Symbol key: a_i the rows of the features, y_i = ±1 the labels, n their number, z_i = y_i a_i,
    s_i = 1/(1 + exp(z_i·x)) in (0, 1); a minibatch is b indices drawn with replacement.

        grad f(x) = -mean_i s_i z_i + l2 x,    Hessian = mean_i s_i (1 - s_i) z_i z_i^T + l2 I.

    Constants, from 0 < s (1 - s) <= 1/4:
        L, full gradients: the Hessian is at most A^T A/(4n) + l2 I, so L = lambda_max(A^T A)/(4n) + l2;
            it is attained at x = 0, where s = 1/2.
        L, minibatches: the Hessian of f(.; xi) is at most the mean of ||a_i||^2/4 over the minibatch,
            + l2, so L = max_i ||a_i||^2/4 + l2 for each xi; attained at x = 0 by b copies of the longest
            row.
        mu = l2: the Hessian is at least l2 I, so f is mu-strongly convex. No larger constant holds: far
            from 0, along any v with all a_i·v nonzero where a_i is, every s (1 - s) tends to 0.
        sigma^2 = mean_i max(||c||^2, ||z_i - c||^2)/b with c = mean_i z_i. Proof: the l2 term carries no
            noise; the variance of a mean of b independent draws is 1/b of that of one; a variance is at
            most the mean squared distance to any point, here -c; and ||s z_i - c||^2 is convex in s, so
            on [0, 1] it is at most its larger value at the ends. This is at most mean_i ||a_i||^2/b,
            since max(u, v) <= u + v.
        f_star: strong convexity gives f* >= f(x) - ||grad f(x)||^2/(2 l2) at every x; it is evaluated at
            the end of Newton's method, with a bound of every rounding error, to 1e-12 max(1, f*). That
            end is the minimizer, up to sqrt(2 (f(x) - f*)/l2).

    Args:
        features: the rows a_i, shape (n, d); an intercept is a column of ones.
        labels: y_i, shape (n,), each -1 or +1.
        l2: the regularization, > 0.
        batch: b, the size of a minibatch; None for full, exact gradients.
        start: shape (d,); zero unless given.

    Raises:
        DomainError: features that are not finite (named with their index), labels other than -1 and +1,
            or not one for each row, or another argument outside its domain.
        ArithmeticError: rounding keeps the least value from being found to 1e-12 relative to max(1, f*),
            which takes very large features and a very small l2.
    """

    name = "logistic regression"

    l2: float

    def __init__(
        self,
        features: npt.ArrayLike,
        labels: npt.ArrayLike,
        l2: float,
        batch: int | None = None,
        start: npt.ArrayLike | None = None,
    ) -> None:
        a, y = real_array("features", features, "n", "d"), real_array("labels", labels, "n")
        if len(y) != len(a):
            raise DomainError(f"as many labels as rows of features, {len(a)}", len(y))
        require("labels in {-1, +1}", np.abs(y) == 1, y)
        n, d = a.shape
        self.l2 = _L2.check(l2)
        self.rows, self.batch = n, None if batch is None else natural("batch", batch, least=1)
        self._z = y[:, None] * a
        with np.errstate(over="ignore"):
            if self.batch is None:
                L, sigma = np.linalg.norm(a, 2) ** 2 / (4 * n) + self.l2, 0.0
            else:
                L = (a * a).sum(axis=1).max() / 4 + self.l2
                c = self._z.mean(axis=0)
                farthest = np.maximum(c @ c, ((self._z - c) ** 2).sum(axis=1))
                sigma = math.sqrt(farthest.mean() / self.batch)
        L = QUANTITIES["L"].check(L)
        f_star, minimizer = _least_value(self._z, self.l2)
        super().__init__(
            d,
            np.zeros(d) if start is None else start,
            L=L,
            mu=self.l2,
            f_star=f_star,
            claims=[Assumption.STRONGLY_CONVEX],
            sigma=sigma,
            minimizer=minimizer,
        )

    @classmethod
    def breast_cancer(cls, l2: float = 1e-2, batch: int | None = None) -> Self:
        """Scikit-learn's breast-cancer data: 569 rows, 30 standardized features and an intercept column.

        Labels are +1 for benign and -1 for malignant. Each feature has mean 0 and variance 1; the
        intercept is regularized like the other weights.

        Raises:
            ImportError: scikit-learn is absent.
        """
        try:
            from sklearn.datasets import load_breast_cancer
        except ImportError as error:
            raise ImportError(
                "the breast-cancer data come with scikit-learn: pip install 'rst-theory[experiments]'"
            ) from error
        features, target = load_breast_cancer(return_X_y=True)
        standard = (features - features.mean(axis=0)) / features.std(axis=0)
        return cls(np.column_stack([standard, np.ones(len(target))]), 2.0 * target - 1.0, l2, batch)

    def value(self, x: npt.ArrayLike) -> FloatArray:
        return _value(self._z, self.l2, self._points(x))

    def gradient(self, x: npt.ArrayLike) -> FloatArray:
        return _gradient(self._z, self.l2, self._points(x))

    def _sampled_gradient(self, x: FloatArray, indices: npt.NDArray[np.int64]) -> FloatArray:
        z = self._z[indices]  # (replicas, b, d)
        s = _sigmoid(-(z @ x[..., None]))  # (replicas, b, 1)
        return np.asarray(self.l2 * x - (s * z).mean(axis=-2))

    def form(self) -> Coupled:
        data = (self._z, np.array([self.l2]))
        value, gradient, sampled_gradient = _formulas()
        if self.batch is None:
            return Coupled(value, gradient, data)
        return Coupled(value, gradient, data, len(self._z), self.batch, sampled_gradient)

    def in_torch(self, device: torch.device | str, dtype: torch.dtype) -> InTorch:
        import torch

        z, l2, n = torch.tensor(self._z, device=device, dtype=dtype), self.l2, len(self._z)

        def value(x: torch.Tensor) -> torch.Tensor:
            return 0.5 * l2 * (x * x).sum(dim=-1) - torch.nn.functional.logsigmoid(x @ z.T).mean(dim=-1)

        def gradient(x: torch.Tensor) -> torch.Tensor:
            return l2 * x - torch.sigmoid(-x @ z.T) @ z / n

        def sampled_gradient(x: torch.Tensor, indices: torch.Tensor) -> torch.Tensor:
            rows = z[indices]  # (R, b, d)
            s = torch.sigmoid(-(rows * x[:, None]).sum(dim=-1, keepdim=True))
            return l2 * x - (s * rows).mean(dim=1)

        if self.batch is None:
            return InTorch(value, gradient)
        return InTorch(value, gradient, n, self.batch, sampled_gradient)


_BLOCK = 16
"""Rows of the data whose margins, in all lanes, are held at once: they stay in the innermost cache."""


@functools.cache
def _formulas() -> tuple[Callable[..., None], Callable[..., None], Callable[..., None]]:
    """Value, gradient and gradient of a minibatch, of points side by side, with data = (z, [l2])."""
    product, subtract = compilable(multiply), compilable(subtract_transposed)
    exp, copy = compilable(decay), compilable(take)

    def value(x: Any, out: Any, data: Any) -> None:
        z, l2 = data[0], data[1][0]
        n, (d, lanes) = len(z), x.shape
        m, e, factors = np.empty((_BLOCK, lanes)), np.empty((_BLOCK, lanes)), np.empty(lanes)
        for lane in range(lanes):
            out[lane] = 0.0
        for first in range(0, n, _BLOCK):
            rows = min(_BLOCK, n - first)
            product(z[first : first + rows], x, m[:rows])
            exp(m[:rows], e[:rows])
            for lane in range(lanes):
                factors[lane] = 1.0
            for i in range(rows):
                for lane in range(lanes):
                    out[lane] -= min(m[i, lane], 0.0)
                    factors[lane] *= 1.0 + e[i, lane]
            for lane in range(lanes):  # the sum of log(1 + e), as the logarithm of a product
                out[lane] += math.log(factors[lane])
        for lane in range(lanes):
            out[lane] /= n
        for j in range(d):
            for lane in range(lanes):
                out[lane] += 0.5 * l2 * (x[j, lane] * x[j, lane])

    def gradient(x: Any, g: Any, data: Any) -> None:
        z, l2 = data[0], data[1][0]
        n, (d, lanes) = len(z), x.shape
        m, e = np.empty((_BLOCK, lanes)), np.empty((_BLOCK, lanes))
        for j in range(d):
            for lane in range(lanes):
                g[j, lane] = l2 * x[j, lane]
        for first in range(0, n, _BLOCK):
            rows = min(_BLOCK, n - first)
            product(z[first : first + rows], x, m[:rows])
            exp(m[:rows], e[:rows])
            for i in range(rows):
                for lane in range(lanes):
                    weight = (e[i, lane] if m[i, lane] > 0 else 1.0) / (1.0 + e[i, lane])
                    m[i, lane] = weight / n
            subtract(z[first : first + rows], m[:rows], g)

    def sampled_gradient(x: Any, g: Any, indices: Any, data: Any) -> None:
        z, l2 = data[0], data[1][0]
        b, (d, lanes) = len(indices), x.shape
        rows, m, e = np.empty((d, lanes)), np.empty((1, lanes)), np.empty((1, lanes))
        for j in range(d):
            for lane in range(lanes):
                g[j, lane] = l2 * x[j, lane]
        for k in range(b):
            copy(z, indices[k], rows)
            for lane in range(lanes):
                m[0, lane] = 0.0
            for j in range(d):
                for lane in range(lanes):
                    m[0, lane] += rows[j, lane] * x[j, lane]
            exp(m, e)
            for lane in range(lanes):
                weight = (e[0, lane] if m[0, lane] > 0 else 1.0) / (1.0 + e[0, lane])
                m[0, lane] = weight / b
            for j in range(d):
                for lane in range(lanes):
                    g[j, lane] -= m[0, lane] * rows[j, lane]

    return value, gradient, sampled_gradient


def _softplus(u: FloatArray) -> FloatArray:
    """log(1 + exp(u)), without overflow."""
    return np.maximum(u, 0.0) + np.log1p(np.exp(-np.abs(u)))


def _sigmoid(u: FloatArray) -> FloatArray:
    """1/(1 + exp(-u)), without overflow; it may underflow to 0."""
    decay = np.exp(-np.abs(u))
    return np.where(u >= 0, 1.0, decay) / (1.0 + decay)


def _value(z: FloatArray, l2: float, x: FloatArray) -> FloatArray:
    return np.asarray(_softplus(-x @ z.T).mean(axis=-1) + 0.5 * l2 * (x * x).sum(axis=-1))


def _gradient(z: FloatArray, l2: float, x: FloatArray) -> FloatArray:
    return np.asarray(l2 * x - _sigmoid(-x @ z.T) @ z / len(z))


def _least_value(z: FloatArray, l2: float) -> tuple[float, FloatArray]:
    """The best of the certified lower bounds met on the way of a damped Newton method from 0, and its end."""
    n, d = z.shape
    x, best = np.zeros(d), 0.0
    for _ in range(_NEWTON_STEPS):
        f, g = float(_value(z, l2, x)), _gradient(z, l2, x)
        lower = _lower_bound(z, l2, x)
        accurate = f - max(best, lower) <= _ACCURACY * max(1.0, f)
        if accurate and lower <= best:
            return best, x
        best = max(best, lower)
        s = _sigmoid(-z @ x)
        hessian = (z.T * (s * (1.0 - s))) @ z / n + l2 * np.eye(d)
        newton = np.linalg.solve(hessian, g)
        t = 1.0
        # The allowance for rounding keeps full steps at the end, where f no longer shows progress.
        while _value(z, l2, x - t * newton) > f - t * (g @ newton) / 4 + 8 * _EPS * f and t > _EPS:
            t /= 2
        x = x - t * newton
    raise ArithmeticError(
        f"the least value could not be found to {_ACCURACY:g}: standardize the features or raise l2; "
        f"got features up to {np.abs(z).max():g} and l2 = {l2:g}"
    )


def _lower_bound(z: FloatArray, l2: float, x: FloatArray) -> float:
    """f(x) - ||grad f(x)||^2/(2 l2), less what rounding can have added to it.

    Sums are exact but for one rounding, so z_i·x is off by at most eps |z_i|·|x|; log(1 + exp(-z_i·x))
    and s_i then move by at most s_i times as much, and every elementary function adds a few eps relative.
    """
    margins, reach = _sums((z * x).T), np.abs(z) @ np.abs(x)
    s = _sigmoid(-margins)
    n = len(z)
    f = math.fsum(_softplus(-margins)) / n + 0.5 * l2 * math.fsum(x * x)
    f_error = 8 * _EPS * ((s * reach).mean() + f)
    g = l2 * x - _sums(s[:, None] * z) / n
    g_error = 8 * _EPS * ((s * (1.0 + reach)) @ np.abs(z) / n + l2 * np.abs(x))
    return float(f - f_error - ((np.abs(g) + g_error) ** 2).sum() / (2 * l2))


def _sums(columns: FloatArray) -> FloatArray:
    return np.array([math.fsum(column) for column in columns.T])
