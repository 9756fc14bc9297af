"""A user's own objective, written as plain functions."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from rst_theory.notation import Assumption, DomainError, FloatArray, natural
from rst_theory.problems.base import Problem
from rst_theory.problems.compiled import compilable
from rst_theory.problems.form import Plain, Separable


class FromFunctions(Problem):
    """An objective given by two Python functions, its value and its gradient.

    Either of one point: value(x) a number and gradient(x) an array (d,), for x of shape (d,). Or, with
    separable=True, of one coordinate: f(x) = sum_i value(x_i), with gradient the derivative, both number
    to number. The compiling engines compile them with Numba, for which they are written in numbers, arrays
    and the functions of `math` and NumPy, and do not change x; where they are written in anything else,
    take backend="numpy". NumPy's functions go on with an infinity where those of `math` raise.

        >>> import numpy as np
        >>> import rst_theory as rst
        >>> def value(x): return np.sum(np.sqrt(1 + x * x) - 1)
        >>> def gradient(x): return x / np.sqrt(1 + x * x)
        >>> problem = rst.problems.FromFunctions(value, gradient, dimension=3, L=1, f_star=0)
        >>> float(rst.simulate(problem, 0.5, steps=100, eta=0.5, rho=0.1).gap.mean[-1]) < 0.01
        True

    The constants are the caller's own claim: nothing here is proved, and bounds are as right as they are.

    Args:
        value: f of one point, or of one coordinate.
        gradient: grad f of one point, or the derivative of one coordinate.
        dimension: d >= 1.
        L: Lipschitz constant of the gradient, > 0.
        mu: strong-convexity constant, or the Polyak-Lojasiewicz constant; 0 if there is none.
        f_star: the least value or a lower bound; None where none is known.
        claims: further assumptions that f satisfies, as for `Problem`.
        noise: standard deviation of the gradient noise per coordinate.
        minimizer: a point where f is f_star, shape (d,); None where none is known.
        start: shape (d,); all ones unless given.
        separable: whether the functions are of one coordinate.

    Raises:
        TypeError: value or gradient is no function.
        DomainError: an argument outside its domain.
    """

    name = "own functions"

    separable: bool

    def __init__(
        self,
        value: Callable[[Any], Any],
        gradient: Callable[[Any], Any],
        dimension: int,
        *,
        L: float,
        mu: float = 0.0,
        f_star: float | None = None,
        claims: Iterable[Assumption] = (),
        noise: float = 0.0,
        minimizer: npt.ArrayLike | None = None,
        start: npt.ArrayLike | None = None,
        separable: bool = False,
    ) -> None:
        for key, function in (("value", value), ("gradient", gradient)):
            if not callable(function):
                raise TypeError(f"{key} must be a function; got {function!r}")
        self._functions = value, gradient
        self.separable = separable
        dimension = natural("dimension", dimension, least=1)
        super().__init__(
            dimension,
            np.ones(dimension) if start is None else start,
            L=L,
            mu=mu,
            f_star=f_star,
            claims=claims,
            noise=noise,
            minimizer=minimizer,
        )

    def value(self, x: npt.ArrayLike) -> FloatArray:
        points, f = self._points(x), self._functions[0]
        if self.separable:
            return np.asarray(_each("value", f, points, ()).sum(axis=-1))
        return _each("value", f, points, (), rows=True)

    def gradient(self, x: npt.ArrayLike) -> FloatArray:
        points, g = self._points(x), self._functions[1]
        if self.separable:
            return _each("gradient", g, points, ())
        return _each("gradient", g, points, (self.dimension,), rows=True)

    def form(self) -> Plain | Separable:
        value, gradient = self._functions
        if self.separable:
            return Separable(_of_a_coordinate(value), _of_a_coordinate(gradient), ())
        return Plain(value, gradient)


def _each(
    name: str, function: Callable[[Any], Any], x: FloatArray, shape: tuple[int, ...], rows: bool = False
) -> FloatArray:
    """The function of every entry of x, or of every row; its results are of that shape."""
    leading = x.shape[:-1] if rows else x.shape
    results = np.empty((*leading, *shape))
    for index in np.ndindex(leading):
        result = np.asarray(function(x[index].copy()), dtype=np.float64)
        if result.shape != shape:
            raise DomainError(f"{name} of shape {shape}", f"shape {result.shape}")
        results[index] = result
    return results


def _of_a_coordinate(function: Callable[[Any], Any]) -> Callable[[Any, Any, Any], Any]:
    """The function as one of (x, i, data)."""
    compiled = compilable(function)

    def form(x: Any, i: Any, data: Any) -> Any:
        return compiled(x)

    return form
