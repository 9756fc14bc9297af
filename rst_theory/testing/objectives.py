"""Hypothesis strategies for problems with known constants: every class of `rst_theory.problems`, small."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from rst_theory.notation import Assumption, FloatArray
from rst_theory.problems import (
    DenseQuadratic,
    FlatAndSharp,
    FloorInstance,
    FromFunctions,
    LeastSquares,
    LogisticRegression,
    PiecewiseQuadratic,
    Problem,
    Quadratic,
    RippledQuadratic,
)
from rst_theory.testing.extra import needed

with needed():
    from hypothesis import assume, strategies as st

__all__ = ["problems"]

_NOISE = st.sampled_from([0.0, 0.1, 1.0])
_LENGTH = st.integers(1, 8).map(lambda n: n / 4)
_SIGNED = st.integers(-8, 8).map(lambda n: n / 4)


def problems(
    families: Collection[str] | None = None, *, max_dimension: int = 3
) -> st.SearchStrategy[Problem]:
    """Problems whose L, mu, sigma and f_star are known; noiseless and flat ones among them.

    Args:
        families: names of classes in `rst_theory.problems`; all unless given.
        max_dimension: d is at most this.

    Raises:
        ValueError: an unknown family.
    """
    if unknown := sorted({*(families or ())} - {*_FAMILIES}):
        raise ValueError(f"unknown families {', '.join(unknown)}; known: {', '.join(_FAMILIES)}")
    dimension = st.integers(1, max_dimension)
    made = [
        dimension.flatmap(make) for name, make in _FAMILIES.items() if families is None or name in families
    ]
    return st.one_of(*made)


def _vectors(d: int, entries: st.SearchStrategy[float] = _SIGNED) -> st.SearchStrategy[FloatArray]:
    return st.lists(entries, min_size=d, max_size=d).map(np.array)


def _quadratics(d: int) -> st.SearchStrategy[Problem]:
    eigenvalues = _vectors(d, st.just(0.0) | st.floats(0.01, 4)).filter(np.any)
    return st.builds(Quadratic, eigenvalues, _NOISE, st.none() | _vectors(d))


def _dense(d: int) -> st.SearchStrategy[Problem]:
    """Gram matrices of whole numbers, singular ones among them."""
    root = _matrices(d, d)
    return st.builds(lambda B, noise: DenseQuadratic(B.T @ B, noise), root, _NOISE)


def _matrices(rows: int, columns: int) -> st.SearchStrategy[FloatArray]:
    entries = st.lists(st.integers(-3, 3), min_size=rows * columns, max_size=rows * columns).filter(any)
    return entries.map(lambda values: np.reshape(np.array(values, dtype=np.float64), (rows, columns)))


def _piecewise(d: int) -> st.SearchStrategy[Problem]:
    def make(gaps: list[float], slopes: list[float], ends: tuple[float, float], noise: float) -> Problem:
        knots, derivatives = np.cumsum(gaps), np.cumsum(np.resize(slopes, len(gaps)))
        left, right = ends
        left = left or (1.0 if derivatives[0] > 0 else 0.0)  # bounded below
        right = right or (1.0 if derivatives[-1] < 0 else 0.0)
        assume(left or right or derivatives.any())
        return PiecewiseQuadratic(knots, derivatives, left, right, d, noise)

    ends = st.tuples(*[st.just(0.0) | _LENGTH] * 2)
    parts = st.lists(_LENGTH, min_size=1, max_size=4), st.lists(_SIGNED, min_size=1, max_size=4)
    return st.builds(make, *parts, ends, _NOISE)


def _flat_and_sharp(d: int) -> st.SearchStrategy[Problem]:
    def make(sharp: float, flat: float, width: float, rise: float, noise: float) -> Problem:
        return FlatAndSharp(sharp, flat * sharp, width, rise * sharp * width**2, d, noise)

    return st.builds(make, _LENGTH, st.floats(0.05, 0.9), _LENGTH, st.floats(-1, 0.9), _NOISE)


def _rippled(d: int) -> st.SearchStrategy[Problem]:
    return st.builds(RippledQuadratic, st.just(1.0) | st.floats(0.51, 2.06), st.just(d), _NOISE)


def _floors(d: int) -> st.SearchStrategy[Problem]:
    """One-dimensional, whatever d."""
    return st.builds(FloorInstance, _LENGTH, _LENGTH, _LENGTH, st.just(0.0) | st.floats(0.01, 0.24))


def _least_squares(d: int) -> st.SearchStrategy[Problem]:
    def of(rows: int) -> st.SearchStrategy[Problem]:
        batch = st.none() | st.integers(1, 3)
        return st.builds(LeastSquares, _matrices(rows, d), _vectors(rows), batch)

    return st.integers(1, 5).flatmap(of)


def _logistic(d: int) -> st.SearchStrategy[Problem]:
    def of(rows: int) -> st.SearchStrategy[Problem]:
        labels = _vectors(rows, st.sampled_from([1.0, -1.0]))
        batch = st.none() | st.integers(1, 3)
        return st.builds(LogisticRegression, _matrices(rows, d), labels, st.sampled_from([1.0, 0.1]), batch)

    return st.integers(1, 5).flatmap(of)


def _own(d: int) -> st.SearchStrategy[Problem]:
    """f(x) = sum_i h (sqrt(1 + x_i^2) - 1) + m x_i^2/2: phi'' lies in (m, h + m]."""

    def make(h: float, m: float, noise: float, separable: bool) -> Problem:
        def value(x: Any) -> Any:
            return np.sum(h * (np.sqrt(1 + x * x) - 1) + m * x * x / 2)

        def gradient(x: Any) -> Any:
            return h * x / np.sqrt(1 + x * x) + m * x

        claim = Assumption.STRONGLY_CONVEX if m else Assumption.CONVEX
        return FromFunctions(
            value,
            gradient,
            d,
            L=h + m,
            mu=m,
            f_star=0.0,
            claims=[claim],
            noise=noise,
            minimizer=np.zeros(d),
            separable=separable,
        )

    return st.builds(make, _LENGTH, st.just(0.0) | _LENGTH, _NOISE, st.booleans())


_FAMILIES: dict[str, Callable[[int], st.SearchStrategy[Problem]]] = {
    name: functools.cache(make)
    for name, make in {
        "Quadratic": _quadratics,
        "DenseQuadratic": _dense,
        "PiecewiseQuadratic": _piecewise,
        "FlatAndSharp": _flat_and_sharp,
        "RippledQuadratic": _rippled,
        "FloorInstance": _floors,
        "LeastSquares": _least_squares,
        "LogisticRegression": _logistic,
        "FromFunctions": _own,
    }.items()
}
