"""Inequalities of a problem over points: where they are tried, and the simplest points that break them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from rst_theory.notation import FloatArray
from rst_theory.problems import Problem
from rst_theory.testing.contract import Promise

__all__ = ["Inequality", "dot", "norm", "points", "rounding", "shown_point", "slope_rounding"]

ROUNDING = 1e-12
"""Relative to the size of the terms: some thousand rounding errors."""

SEEN = 16
"""Times what is seen to be lost to rounding."""

RANDOM = 250
AXES = 8


class Inequality(NamedTuple):
    """What holds at every x, or at every pair x, y: the first of two numbers is at most the second.

    Attributes:
        name: of the promise.
        words: what it says.
        sides: of a problem and points x, y, both (n, d): the two numbers, (n,) each, and more for `says`.
        says: what is told of a pair that breaks it, a format of what `sides` gives.
        pair: whether y matters.
    """

    name: str
    words: str
    sides: Callable[[Problem, FloatArray, FloatArray], tuple[FloatArray, ...]]
    says: str
    pair: bool = True

    def promise(self) -> Promise:
        """The inequality as a clause of a contract."""
        return Promise(self.name, self.words, self._broken_by)

    def _broken_by(self, problem: Problem) -> str | None:
        def breaks(x: FloatArray, y: FloatArray) -> bool:
            found, allowed, *_ = self.sides(problem, x[None], y[None])
            return bool(found[0] > allowed[0])

        x, y = _pairs(problem)
        found, allowed, *_ = self.sides(problem, x, y)
        broken = np.flatnonzero(found > allowed)
        if not broken.size:
            return None
        pair = _simplest(breaks, x[broken[0]], y[broken[0]])
        numbers = [float(side[0]) for side in self.sides(problem, pair[0][None], pair[1][None])]
        where = f"at x = {shown_point(pair[0])}" + (f", y = {shown_point(pair[1])}" if self.pair else "")
        return f"{where}: {self.says.format(*numbers)}"


def norm(x: FloatArray) -> FloatArray:
    """||x|| along the last axis."""
    return np.asarray(np.sqrt((x * x).sum(axis=-1)))


def dot(x: FloatArray, y: FloatArray) -> FloatArray:
    """<x, y> along the last axis."""
    return np.asarray((x * y).sum(axis=-1))


def slope_rounding(problem: Problem, x: FloatArray) -> FloatArray:
    """What a gradient at x may be off: its terms are of the size ||grad f(0)|| + L ||x||."""
    origin = norm(problem.gradient(np.zeros(problem.dimension)))
    lost = SEEN * _lost(problem)[1] * (1 + norm(x))
    return np.asarray(ROUNDING * (origin + problem.constants.L * norm(x)) + lost)


def rounding(problem: Problem, x: FloatArray) -> FloatArray:
    """What a value at x may be off: its terms are of the size |f(0)| + ||grad f(0)|| ||x|| + L ||x||^2."""
    zero = np.zeros(problem.dimension)
    least = abs(problem.constants.f_star or 0.0) + np.abs(problem.value(zero))
    lost = SEEN * _lost(problem)[0] * (1 + norm(x)) ** 2
    return np.asarray(ROUNDING * least + slope_rounding(problem, x) * norm(x) + lost + 1e-300)


@functools.lru_cache(maxsize=4)
def _lost(problem: Problem) -> tuple[float, float]:
    """What value and gradient are seen to lose to cancellation, over (1 + ||x||)^2 and 1 + ||x||.

    The second difference of the value at a distance e is at most L e^2, the first of the gradient L e;
    at 1e-8 and 1e-13 of 1 + ||x|| what is more than a little beyond `ROUNDING` is rounding.
    """
    x = points(problem, 200, seed=6)
    v = np.random.default_rng(7).standard_normal(x.shape)
    v *= (1 + norm(x))[:, None] / norm(v)[:, None]
    f, g = problem.value, problem.gradient
    value = np.abs(f(x + 1e-8 * v) - 2 * f(x) + f(x - 1e-8 * v)) / (1 + norm(x)) ** 2
    gradient = norm(g(x + 1e-13 * v) - g(x)) / (1 + norm(x))
    return float(value.max()), float(gradient.max())


def points(problem: Problem, count: int, seed: int = 0) -> FloatArray:
    """Random points around the origin, the start and the minimizer, at all scales to 100: (count, d)."""
    rng = np.random.default_rng(seed)
    anchors = _anchors(problem)
    spread = 10 ** rng.uniform(-3, 2, (count, 1)) * (1 + np.abs(anchors).max())
    return np.asarray(
        anchors[rng.integers(len(anchors), size=count)]
        + spread * rng.standard_normal((count, problem.dimension))
    )


def _anchors(problem: Problem) -> FloatArray:
    known = [np.zeros(problem.dimension), problem.start]
    return np.stack([*known, *([] if problem.minimizer is None else [problem.minimizer])])


@functools.lru_cache(maxsize=4)
def _pairs(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """Pairs of different points, the simplest first: (n, d) twice."""
    simple = _simple_points(problem)
    first, second = (np.ravel(i) for i in np.meshgrid(*[np.arange(len(simple))] * 2, indexing="ij"))
    order = np.argsort(first + second, kind="stable")
    x = points(problem, RANDOM)
    rng = np.random.default_rng(1)
    near = x + 10 ** rng.uniform(-4, 2, (RANDOM, 1)) * rng.standard_normal(x.shape)
    low = _low_points(problem)
    parts = [
        (simple[first[order]], simple[second[order]]),
        (x, near),
        (x, np.roll(x, 1, axis=0)),
        (low, np.roll(x, 2, axis=0)[: len(low)]),
        *(_along_curvature(problem, greatest) for greatest in (True, False)),
    ]
    pairs = [np.concatenate(side) for side in zip(*parts, strict=True)]
    apart = norm(pairs[0] - pairs[1]) > 0
    return pairs[0][apart], pairs[1][apart]


def _simple_points(problem: Problem) -> FloatArray:
    d = problem.dimension
    axes = np.eye(d)[:AXES]
    known = _anchors(problem)
    scaled = [scale * axes for scale in (1.0, -1.0, 2.0, 3.0, 0.5, -2.0, 10.0, 0.1)]
    return np.concatenate([known[:1], *scaled[: max(2, 16 // len(axes))], np.ones((1, d)), known[1:]])


def _low_points(problem: Problem) -> FloatArray:
    """Where BFGS ends, and around there."""
    from scipy.optimize import minimize

    x = points(problem, 2, seed=2)
    ends = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for begin in (problem.start, *x):
            ends.append(minimize(problem.value, begin, jac=problem.gradient, method="BFGS").x)
    low = np.array([end for end in ends if np.isfinite(end).all()] or [problem.start])
    around = (
        np.random.default_rng(3).standard_normal((10, *low.shape)) * np.logspace(-3, 0, 10)[:, None, None]
    )
    return np.concatenate([low, (low + around).reshape(-1, problem.dimension)])


def _along_curvature(problem: Problem, greatest: bool) -> tuple[FloatArray, FloatArray]:
    """Pairs of points that differ along the direction of greatest or least curvature, by power iteration."""
    x = points(problem, 30, seed=4)
    v = np.random.default_rng(5).standard_normal(x.shape)
    h = 1e-3 * (1 + norm(x))[:, None]
    gradient = problem.gradient(x)
    for _ in range(15):
        v /= norm(v)[:, None] + 1e-300
        curved = (problem.gradient(x + h * v) - gradient) / h
        v = curved if greatest else v - curved / problem.constants.L
    v /= norm(v)[:, None] + 1e-300
    return x, x + h * v


def _simplest(
    breaks: Callable[[FloatArray, FloatArray], bool], x: FloatArray, y: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """The pair with coordinates set to 0 or 1, or rounded, one after the other, as far as it still breaks."""
    for _ in range(2):
        for candidate in _simpler(x):
            if not np.array_equal(candidate, y) and breaks(candidate, y):
                x = candidate
                break
        for candidate in _simpler(y):
            if not np.array_equal(candidate, x) and breaks(x, candidate):
                y = candidate
                break
    return x, y


def _simpler(x: FloatArray) -> Iterator[FloatArray]:
    for decimals in range(4):
        yield np.round(x, decimals)
    for j in range(min(x.size, AXES)):
        for value in (0.0, 1.0, round(x[j], 1)):
            yield np.where(np.arange(x.size) == j, value, x)


def shown_point(x: FloatArray) -> str:
    """The coordinates of a point, the first few of many."""
    shown = [f"{value:.6g}" for value in x[:6]] + ["…"] * (x.size > 6)
    return f"({', '.join(shown)})"
