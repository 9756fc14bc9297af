"""Nonconvex problems, each a sum of one function phi over the coordinates: f(x) = sum_i phi(x_i).

What is proved of phi holds of f: the Hessian is diag(phi''(x_i)); with each coordinate at its best,
f* = d min phi; and if phi'^2 >= 2 mu (phi - min phi), adding this up over the coordinates gives
||grad f||^2 >= 2 mu (f - f*).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from rst_theory.notation import Assumption, DomainError, FloatArray, Interval, Quantity, natural
from rst_theory.problems.base import Problem, real_array, require
from rst_theory.problems.compiled import compilable, sine
from rst_theory.problems.form import InTorch, Separable

if TYPE_CHECKING:
    import torch

_POSITIVE = Interval(low=0.0, low_open=True)


class PiecewiseQuadratic(Problem):
    """f(x) = sum_i phi(x_i), where phi' is continuous and piecewise linear.

    phi' is given by its values at the knots, linear between them, and by its slope on either side. The
    worst cases of the theory are of this form. phi is shifted so that its least value is 0.

    Constants, all exact:
        L = the largest absolute slope: phi' is Lipschitz with the largest slope of its pieces, and each
            piece attains its own.
        f_star = 0: phi is bounded below if and only if phi' <= 0 far to the left and phi' >= 0 far to
            the right; then it has a least value, at a zero of phi', and the zeros are found piece by
            piece.
        mu: where every slope is positive, their least: phi'' is at least that, and equals it on a piece
            (strong convexity). Otherwise the Polyak-Lojasiewicz constant, the infimum of
            r = phi'^2/(2 (phi - min phi)) where phi is above its minimum. Cut the pieces at the zeros of
            phi'. On one of slope s other than 0, phi - min phi = (phi'^2 + k)/(2 s) with a constant k, so
            r = s phi'^2/(phi'^2 + k) is monotone in phi'^2, which is monotone on the piece; on one of
            slope 0 phi' is constant and phi monotone. So the infimum is the least of these: r at the
            knots and cuts above the minimum (on a piece that leaves a minimizer k = 0 and r = s); at
            infinity s for an outer piece of positive slope, and 0 for one of slope 0 that does not lie
            at the minimum. It is 0 exactly where no Polyak-Lojasiewicz inequality holds.

    Args:
        knots: increasing, shape (k,), k >= 1.
        derivatives: phi' at the knots, shape (k,).
        left: the slope of phi' left of the first knot.
        right: the slope of phi' right of the last knot.
        dimension: d >= 1.
        noise: standard deviation of the gradient noise per coordinate.
        start: shape (d,); every coordinate at the last knot unless given.

    Attributes:
        slopes: the slopes of phi' on the k + 1 pieces, from left to right.

    Raises:
        DomainError: knots that do not increase, phi unbounded below or constant, a value that is not
            finite (named with its index), or another argument outside its domain.
    """

    name = "piecewise quadratic"

    knots: FloatArray
    derivatives: FloatArray
    slopes: FloatArray

    def __init__(
        self,
        knots: npt.ArrayLike,
        derivatives: npt.ArrayLike,
        left: float,
        right: float,
        dimension: int = 1,
        noise: float = 0.0,
        start: npt.ArrayLike | None = None,
    ) -> None:
        x = self.knots = real_array("knots", knots, "k")
        u = self.derivatives = real_array("derivatives", derivatives, "k")
        if len(u) != len(x):
            raise DomainError(f"as many derivatives as knots, {len(x)}", len(u))
        require("increasing knots", np.diff(x, prepend=-np.inf) > 0, x)
        with np.errstate(over="ignore"):
            slopes = np.concatenate([[left], np.diff(u) / np.diff(x), [right]])
        s = self.slopes = real_array("slopes", slopes, "k + 1")
        if left < 0 or right < 0 or (left == 0 and u[0] > 0) or (right == 0 and u[-1] < 0):
            raise DomainError(
                "phi bounded below: left and right > 0, or 0 with phi' <= 0 at the first knot and phi' >= 0 "
                "at the last",
                f"left = {left} with phi' = {u[0]}, right = {right} with phi' = {u[-1]}",
            )
        self._pieces = _expand(x, u, s)
        L = float(np.abs(s).max())
        strongly_convex = bool((s > 0).all())
        mu = float(s.min()) if strongly_convex else min(_polyak_lojasiewicz(self._pieces), L)
        claims = {
            Assumption.STRONGLY_CONVEX: strongly_convex,
            Assumption.CONVEX: bool((s >= 0).all()),
            Assumption.POLYAK_LOJASIEWICZ: mu > 0,
        }
        dimension = natural("dimension", dimension, least=1)
        super().__init__(
            dimension,
            np.full(dimension, x[-1]) if start is None else start,
            L=L,
            mu=mu,
            f_star=0.0,
            claims=[claim for claim, holds in claims.items() if holds],
            noise=noise,
            minimizer=np.full(dimension, _least_point(self._pieces)),
        )

    def value(self, x: npt.ArrayLike) -> FloatArray:
        x = self._points(x)
        o, h, u, s = self._piece_of(x)
        return np.asarray((h + (x - o) * (u + s * (x - o) / 2)).sum(axis=-1))

    def gradient(self, x: npt.ArrayLike) -> FloatArray:
        x = self._points(x)
        o, _, u, s = self._piece_of(x)
        return u + s * (x - o)

    def form(self) -> Separable:
        return Separable(_piecewise_value, _piecewise_derivative, self._by_piece())

    def in_torch(self, device: torch.device | str, dtype: torch.dtype) -> InTorch:
        import torch

        cuts, o, h, u, s = (torch.tensor(a, device=device, dtype=dtype) for a in self._by_piece())

        def value(x: torch.Tensor) -> torch.Tensor:
            piece = torch.bucketize(x, cuts)
            y = x - o[piece]
            return (h[piece] + y * (u[piece] + s[piece] * y / 2)).sum(dim=-1)

        def gradient(x: torch.Tensor) -> torch.Tensor:
            piece = torch.bucketize(x, cuts)
            return u[piece] + s[piece] * (x - o[piece])

        return InTorch(value, gradient)

    def _by_piece(self) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]:
        """The cuts between m + 1 pieces, shape (m,); and of each its origin o, phi(o), phi'(o) and slope."""
        cut = self._pieces
        o = cut.origin
        table = np.stack([cut.x[o], cut.h[o], cut.u[o], cut.s])
        differs = (table[:, 1:] != table[:, :-1]).any(axis=0)  # not where phi' is cut at a zero alone
        table = np.ascontiguousarray(table[:, np.append(True, differs)])
        return cut.x[differs], table[0], table[1], table[2], table[3]

    def _piece_of(self, x: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
        """Of the piece that each coordinate lies on: its origin o, phi(o), phi'(o) and slope."""
        cut = self._pieces
        piece = np.searchsorted(cut.x, x)
        o = cut.origin[piece]
        return cut.x[o], cut.h[o], cut.u[o], cut.s[piece]


class Minimum(NamedTuple):
    """A local minimum of phi: where it lies, its value, and the curvature phi'' around it."""

    point: float
    value: float
    curvature: float


class FlatAndSharp(PiecewiseQuadratic):
    """f(x) = sum_i phi(x_i), phi with a sharp and a flat minimum and a concave barrier between them.

    Symbol key: L the sharp curvature, l the flat one, w the width, D the rise. In one dimension

        phi'' = L for x < w,    -L for w < x < 2 w + r,    l for x > 2 w + r,    phi'(0) = 0:

    a sharp minimum at 0, the top of the barrier at 2 w with phi(2 w) - phi(0) = L w^2, and a flat minimum
    at 2 w + r + L r/l, lower than the top by L r^2/2 + (L r)^2/(2 l). That is L w^2 - D, so that the flat
    minimum lies D above the sharp one, for r^2 = 2 (L w^2 - D)/(L (1 + L/l)). In d dimensions each
    coordinate has the choice, which makes 2^d local minima.

    Constants: those of `PiecewiseQuadratic`. L is the sharp curvature (the barrier attains it too),
    f_star = 0 at the lower minimum, and mu = 0: at the top of the barrier the gradient vanishes and f is
    above its least value, so no Polyak-Lojasiewicz inequality holds.

    Args:
        sharp_curvature: L > 0.
        flat_curvature: l, 0 < l < L.
        width: w > 0, the distance from the sharp minimum to the point where the barrier begins.
        rise: D < L w^2, value of the flat minimum less that of the sharp one; may be negative.
        dimension: d >= 1.
        noise: standard deviation of the gradient noise per coordinate.
        start: shape (d,); every coordinate at w, on the sharp side of the barrier, unless given.

    Attributes:
        sharp: point, value and curvature of the sharp minimum of phi.
        flat: the same of the flat one.

    Raises:
        DomainError: an argument outside its domain.
    """

    name = "flat and sharp"

    sharp: Minimum
    flat: Minimum

    def __init__(
        self,
        sharp_curvature: float = 1.0,
        flat_curvature: float = 0.1,
        width: float = 1.0,
        rise: float = 0.0,
        dimension: int = 1,
        noise: float = 0.0,
        start: npt.ArrayLike | None = None,
    ) -> None:
        L, w = _SHARP.check(sharp_curvature), _WIDTH.check(width)
        flat = Quantity("flat_curvature", "curvature", "l", Interval(0.0, L, low_open=True, high_open=True))
        l = flat.check(flat_curvature)  # noqa: E741
        D = Quantity("rise", "height", "D", Interval(high=L * w * w, high_open=True)).check(rise)
        r = math.sqrt(2 * (L * w * w - D) / (L * (1 + L / l)))
        self.sharp = Minimum(0.0, max(0.0, -D), L)
        self.flat = Minimum(2 * w + r + L * r / l, max(0.0, D), l)
        start = np.full(natural("dimension", dimension, least=1), w) if start is None else start
        super().__init__([w, 2 * w + r], [L * w, -L * r], L, l, dimension, noise, start)


class RippledQuadratic(Problem):
    """f(x) = sum_i phi(x_i), phi(x) = x^2/2 + a sin(x)^2 with 1/2 < a < (pi + 1)/2.

    phi'(x) = x + a sin 2x and phi''(x) = 1 + 2 a cos 2x: not convex, since phi''(pi/2) = 1 - 2 a < 0.

    Constants:
        L = 1 + 2 a, exact: phi'' lies in [1 - 2 a, 1 + 2 a] and phi''(0) = 1 + 2 a.
        f_star = 0, at x = 0.
        mu = (P - a)^2/(P^2 + 2 a) with P = (pi + 1)/2, of the Polyak-Lojasiewicz inequality. Proof, for
            x >= 0 since phi is even, with r = phi'^2/(2 phi):
            0 < x <= pi/2: sin 2x >= 0 gives phi' >= x, and sin(x)^2 <= x^2 gives phi <= (1 + 2 a) x^2/2,
                so r >= 1/(1 + 2 a). That is at least mu: (1 + 2 a)(P - a)^2 - (P^2 + 2 a) = a Q(a) with
                Q(a) = 2 a^2 + (1 - 4 P) a + 2 P^2 - 2 P - 2 convex, Q(1/2) = 2 P^2 - 4 P - 1 < 0 and
                Q(P) = -P - 2 < 0.
            pi/2 <= x <= P: sin 2x = -sin(2x - pi) >= pi - 2x gives phi' >= a pi - (2 a - 1) x, which
                falls to P - a > 0 at x = P; and phi <= P^2/2 + a. So r >= mu.
            x >= P: phi' >= x - a > 0 and phi <= x^2/2 + a, so r >= (x - a)^2/(x^2 + 2 a), which is mu at
                x = P and increases: its derivative has the sign of x^2 + 2 a - x (x - a) = a (x + 2).
            The best constant is larger: 0.2525 against mu = 0.1823 at a = 1. A zero of phi' away from 0,
            which ends the inequality, appears at a = 2.30.

    Args:
        amplitude: a.
        dimension: d >= 1.
        noise: standard deviation of the gradient noise per coordinate.
        start: shape (d,); every coordinate 3, across the ripple from the minimum, unless given.

    Raises:
        DomainError: an argument outside its domain.
    """

    name = "rippled quadratic"

    amplitude: float

    def __init__(
        self,
        amplitude: float = 1.0,
        dimension: int = 1,
        noise: float = 0.0,
        start: npt.ArrayLike | None = None,
    ) -> None:
        a = self.amplitude = _AMPLITUDE.check(amplitude)
        P = _AMPLITUDE.domain.high
        dimension = natural("dimension", dimension, least=1)
        super().__init__(
            dimension,
            np.full(dimension, 3.0) if start is None else start,
            L=1 + 2 * a,
            mu=(P - a) ** 2 / (P**2 + 2 * a),
            f_star=0.0,
            claims=[Assumption.POLYAK_LOJASIEWICZ],
            noise=noise,
            minimizer=np.zeros(dimension),
        )

    def value(self, x: npt.ArrayLike) -> FloatArray:
        x = self._points(x)
        return np.asarray((x * x / 2 + self.amplitude * np.sin(x) ** 2).sum(axis=-1))

    def gradient(self, x: npt.ArrayLike) -> FloatArray:
        x = self._points(x)
        return x + self.amplitude * np.sin(2 * x)

    def form(self) -> Separable:
        return Separable(*_rippled_form(), (np.array([self.amplitude]),))

    def in_torch(self, device: torch.device | str, dtype: torch.dtype) -> InTorch:
        import torch

        a = self.amplitude
        return InTorch(
            lambda x: (x * x / 2 + a * torch.sin(x) ** 2).sum(dim=-1), lambda x: x + a * torch.sin(2 * x)
        )


@functools.cache
def _rippled_form() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The functions phi and phi', with data = ([a],)."""
    sin = compilable(sine)

    def value(x: Any, i: Any, data: Any) -> Any:
        s = sin(x)
        return x * x / 2 + data[0][0] * (s * s)

    def derivative(x: Any, i: Any, data: Any) -> Any:
        return x + data[0][0] * sin(2 * x)

    return value, derivative


def _piecewise_value(x: Any, i: Any, data: Any) -> Any:
    cuts, o, h, u, s = data
    piece = 0
    for k in range(len(cuts)):
        piece += x > cuts[k]
    y = x - o[piece]
    return h[piece] + y * (u[piece] + s[piece] * y / 2)


def _piecewise_derivative(x: Any, i: Any, data: Any) -> Any:
    cuts, o, _, u, s = data
    piece = 0
    for k in range(len(cuts)):
        piece += x > cuts[k]
    return u[piece] + s[piece] * (x - o[piece])


class _Pieces(NamedTuple):
    """phi cut at its knots and at the zeros of phi'.

    x, u, h: the cuts, phi' there, and phi - min phi there, shape (m,).
    s: the slopes of the pieces, shape (m + 1,).
    origin: for each piece, which of the cuts at its ends it is expanded about, shape (m + 1,): one where
        phi' = 0 if there is one, so that phi - min phi keeps its relative accuracy near a minimum.
    """

    x: FloatArray
    u: FloatArray
    h: FloatArray
    s: FloatArray
    origin: npt.NDArray[np.intp]


def _expand(x: FloatArray, u: FloatArray, s: FloatArray) -> _Pieces:
    """Cut phi at the zeros of phi', and integrate from its minimizer outwards."""
    # The signs of phi' far left, at the knots and far right: piece j has a zero inside where they change.
    outer = np.where(s[[0, -1]] > 0, [-1.0, 1.0], np.sign(u[[0, -1]]))
    signs = np.concatenate([outer[:1], np.sign(u), outer[1:]])
    crossed = np.flatnonzero(signs[:-1] * signs[1:] < 0)
    near = np.maximum(crossed - 1, 0)
    ends = np.concatenate([[-np.inf], x, [np.inf]])
    with np.errstate(over="ignore", invalid="ignore"):
        zeros = np.clip(x[near] - u[near] / s[crossed], ends[crossed], ends[crossed + 1])
        x, u, s = np.insert(x, crossed, zeros), np.insert(u, crossed, 0.0), np.insert(s, crossed, s[crossed])
        areas = (u[1:] + u[:-1]) / 2 * np.diff(x)
        h = np.concatenate([[0.0], np.cumsum(areas)])
    require("phi finite at the knots", np.isfinite(h), h)

    stationary = np.flatnonzero(u == 0)
    least = stationary[h[stationary].argmin()]
    h = np.concatenate([-np.cumsum(areas[:least][::-1])[::-1], [0.0], np.cumsum(areas[least:])])
    h = np.maximum(h, 0.0)  # two minima of equal height, up to rounding

    piece = np.arange(len(s))
    right, left = np.minimum(piece, len(x) - 1), np.maximum(piece - 1, 0)
    return _Pieces(x, u, h, s, np.where(u[right] == 0, right, left))


def _least_point(pieces: _Pieces) -> float:
    return float(pieces.x[(pieces.u == 0) & (pieces.h == 0)][0])


def _polyak_lojasiewicz(pieces: _Pieces) -> float:
    """The infimum of phi'^2/(2 (phi - min phi)) over the points that do not minimize phi."""
    u, h, s = pieces.u, pieces.h, pieces.s
    above = h > 0
    at_cuts = u[above] * (u[above] / (2 * h[above]))
    minimizer = (u == 0) & (h == 0)
    at_infinity = [slope for slope, end in ((s[0], 0), (s[-1], -1)) if slope > 0 or not minimizer[end]]
    return float(min([*at_cuts, *at_infinity], default=0.0))


_SHARP = Quantity("sharp_curvature", "curvature", "L", _POSITIVE)
_WIDTH = Quantity("width", "length", "w", _POSITIVE)
_AMPLITUDE = Quantity(
    "amplitude", "amplitude", "a", Interval(0.5, (math.pi + 1) / 2, low_open=True, high_open=True)
)
