"""What a problem promises of its value and gradient as functions: shapes, precision, and one derivative."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from rst_theory.notation import FloatArray
from rst_theory.problems import FromFunctions, Plain, Problem
from rst_theory.testing.contract import Promise
from rst_theory.testing.inequalities import (
    Inequality,
    dot,
    norm,
    points,
    rounding,
    shown_point,
    slope_rounding,
)

__all__ = ["DERIVATIVE", "FINITE", "SHAPES"]


def _shapes(problem: Problem) -> str | None:
    d = problem.dimension
    for name, point in (("start", problem.start), ("minimizer", problem.minimizer)):
        if point is not None and np.shape(point) != (d,):
            return f"the {name} has the shape {np.shape(point)}, not ({d},)"
    x = points(problem, 6).reshape(2, 3, d)
    for name, function, last in (("value", problem.value, ()), ("gradient", problem.gradient, (d,))):
        given = x.copy()
        whole = function(given)
        if not np.array_equal(given, x):
            return f"{name}(x) writes to x"
        for at, result, shape in (
            ("of shape (2, 3, d)", whole, (2, 3)),
            ("of shape (3, d)", function(x[0]), (3,)),
            ("of shape (d,)", function(x[0, 0]), ()),
            ("of shape (0, d)", function(x[0, :0]), (0,)),
        ):
            array = np.asarray(result)
            if array.shape != (*shape, *last) or array.dtype != np.float64:
                return f"{name}(x) for x {at} is {array.dtype} {array.shape}, not float64 {(*shape, *last)}"
        size = rounding(problem, x) if name == "value" else slope_rounding(problem, x)[..., None]
        each = np.reshape([function(row) for row in x.reshape(6, d)], whole.shape)
        if (np.abs(each - whole) > size).any():
            i = tuple(np.argwhere(np.abs(each - whole) > size)[0][:2])
            return f"at x = {shown_point(x[i])}: {name}(x) is {each[i]} alone and {whole[i]} in a batch"
    return None


def _finite(problem: Problem) -> str | None:
    x = np.concatenate([np.atleast_2d(problem.start), points(problem, 300)])
    for name, function in (("value", problem.value), ("gradient", problem.gradient)):
        result = np.asarray(function(x)).reshape(len(x), -1)
        bad = ~np.isfinite(result).all(axis=1)
        if bad.any():
            i = int(np.argmax(bad))
            return f"at x = {shown_point(x[i])} the {name} is {np.squeeze(result[i])}"
        spoiled = x[:3].copy()
        spoiled[1] = np.nan
        if not np.isfinite(np.asarray(function(spoiled))[[0, 2]]).all():
            return f"a row of x that is NaN spoils the {name} of other rows"
    return None


def _precision(problem: Problem) -> str | None:
    """Of random numbers, one in 2^29 is a float32 number."""
    x = points(problem, 300)
    for name, function in (("value", problem.value), ("gradient", problem.gradient)):
        result = np.asarray(function(x)).ravel()
        result = result[(np.abs(result) > 1e-30) & (np.abs(result) < 1e30)]
        if result.size and (result == result.astype(np.float32)).all() and np.unique(result).size > 20:
            return f"every {name} tried is a float32 number, {result[0]:.9g} for one"
    return None


def _central(problem: Problem, x: FloatArray, y: FloatArray) -> tuple[FloatArray, ...]:
    """An L-smooth value has central differences within L h/2 of the slope; h balances that and rounding."""
    v = (y - x) / norm(y - x)[..., None]
    r = rounding(problem, x)
    h = np.sqrt(r / problem.constants.L) + 1e-150
    value = problem.value
    slope = (value(x + h[..., None] * v) - value(x - h[..., None] * v)) / (2 * h)
    claimed = dot(problem.gradient(x), v)
    allowed = problem.constants.L * h + 2 * r / h + slope_rounding(problem, x)
    return np.abs(slope - claimed), allowed, slope, claimed


def _complex(problem: Problem, x: FloatArray, y: FloatArray) -> tuple[FloatArray, ...]:
    """Im f(x + i h v)/h is exact for analytic f; it is believed where central differences say the same."""
    _, allowed, central, claimed = _central(problem, x, y)
    slope = _complex_slope(problem, x, (y - x) / norm(y - x)[..., None])
    if slope is None:
        return np.zeros_like(claimed), allowed, central, claimed
    found = np.where(np.abs(slope - central) <= allowed, np.abs(slope - claimed), 0.0)
    return found, 10 * slope_rounding(problem, x), slope, claimed


def _complex_slope(problem: Problem, x: FloatArray, v: FloatArray) -> FloatArray | None:
    value: Callable[[Any], Any] = problem.value
    if isinstance(problem, FromFunctions) and not problem.separable:
        form = problem.form()
        assert isinstance(form, Plain)  # noqa: S101
        plain = form.value
        value = lambda z: np.array([plain(row) for row in z])  # noqa: E731
    h = 1e-20
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # NumPy warns where it drops an imaginary part
            result = value(x + 1j * h * v)
    except Exception:  # whatever the user's code says to a complex number
        return None
    if not np.iscomplexobj(result) or np.shape(result) != x.shape[:-1]:
        return None
    return np.asarray(np.imag(result) / h, dtype=np.float64)


SHAPES = Promise("shapes", "float64 in the shapes of x, alike alone and in a batch", _shapes)
FINITE = Promise("finite", "value and gradient are finite", _finite)
DERIVATIVE = (
    Promise("precision", "value and gradient are computed in float64", _precision),
    Inequality(
        "gradient",
        "the gradient is the slope of the value",
        _central,
        "the value rises towards y by {2:.9g} a unit of length, by central differences; the gradient says "
        "{3:.9g}; allowed is a difference of {1:.2g}",
    ).promise(),
    Inequality(
        "gradient",
        "the gradient is the slope of the value",
        _complex,
        "the value rises towards y by {2:.17g} a unit of length, by a complex step; the gradient says "
        "{3:.17g}; allowed is a difference of {1:.2g}",
    ).promise(),
)
