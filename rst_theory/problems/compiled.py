"""What compiled forms are made of: loops and arithmetic that compilers turn into vector instructions.

The elementary functions of `math` are calls, one number at a time; those here are polynomials. Loops over
lanes are innermost, and as long as an array says: those of constant length are unrolled instead.

All are plain Python functions; `compilable` makes them such that other functions which are compiled can call
them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["compilable", "decay", "multiply", "sine", "subtract_transposed", "take"]

_ROUND = 1.5 * 2.0**52
"""x + _ROUND - _ROUND is x rounded to an integer, |x| < 2^51; the low bits of x + _ROUND are that integer."""

_LN_2 = 0.6931471803691238, 1.9082149292705877e-10
"""ln 2 in two parts; products of the first with integers below 2^21 are exact (Cody & Waite 1980)."""

_TWO_PI = 6.2831853069365025, 2.430840202602477e-10
"""2 pi in two parts, likewise, with integers below 2^20."""


def compilable(function: Callable[..., Any]) -> Any:
    """The function as one that compiled functions can call; as it is where Numba is absent."""
    try:
        from numba import njit
        from numba.extending import is_jitted
    except ImportError:
        return function
    return function if is_jitted(function) else njit(function, inline="always", error_model="numpy")


def decay(x: Any, out: Any) -> None:
    """Write exp(-min(|x|, 708)) to out, elementwise, to 4 eps relative: x and out (n, lanes).

    exp(u) = 2^k exp(r), with k the integer nearest to u/ln 2, |r| <= ln(2)/2, and Taylor's polynomial.
    """
    n, lanes = x.shape
    bits = out.view(np.int64)
    for i in range(n):
        for lane in range(lanes):
            u = -abs(x[i, lane])
            u = -708.0 if u < -708.0 else u
            out[i, lane] = u * (1 / math.log(2.0)) + _ROUND
    for i in range(n):
        for lane in range(lanes):
            bits[i, lane] = (bits[i, lane] + 1023) << 52  # 2^k
    for i in range(n):
        for lane in range(lanes):
            u = -abs(x[i, lane])
            u = -708.0 if u < -708.0 else u
            k = (u * (1 / math.log(2.0)) + _ROUND) - _ROUND
            r = (u - k * _LN_2[0]) - k * _LN_2[1]
            y = 1 / 39916800 + r * (1 / 479001600)
            y = 1 / 40320 + r * (1 / 362880 + r * (1 / 3628800 + r * y))
            y = 1 / 120 + r * (1 / 720 + r * (1 / 5040 + r * y))
            out[i, lane] *= 1.0 + r * (1.0 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * y))))


def sine(x: Any) -> Any:
    """sin(x), to 4 eps max(1, |x|) for every finite x, relatively near 0; |sin(x)| <= 1 + 4 eps.

    x = 2 pi k + r with k an integer, |r| <= pi, and a Chebyshev fit of (sin(r)/r - 1)/r^2, made to 40
    digits, of error below 1e-18. The products 2 pi k are exact for k < 2^20 and rounded by eps |x| beyond:
    x + sin(x) loses as much to its own rounding. Of an infinity or NaN it is a NaN or in that range.
    """
    k = (x * (0.5 / math.pi) + _ROUND) - _ROUND
    r = (x - k * _TWO_PI[0]) - k * _TWO_PI[1]
    r = min(max(r, -3.15), 3.15)
    z = r * r
    y = -8.18264298049409e-18 + z * 1.7742347021919554e-20
    y = -7.647132829270262e-13 + z * (2.8110171937034998e-15 + z * y)
    y = -2.5052108349754584e-08 + z * (1.6059042491530696e-10 + z * y)
    y = -0.00019841269841265626 + z * (2.75573192234418e-06 + z * y)
    return r + r * z * (-0.16666666666666666 + z * (0.008333333333333321 + z * y))


def multiply(a: Any, x: Any, out: Any) -> None:
    """Write a x to out, four rows of a at a time: a (n, d), x (d, lanes), out (n, lanes)."""
    n, d, lanes = a.shape[0], x.shape[0], x.shape[1]
    for i in range(n):
        for lane in range(lanes):
            out[i, lane] = 0.0
    whole = n - n % 4
    for i in range(0, whole, 4):
        for j in range(d):
            a0, a1, a2, a3 = a[i, j], a[i + 1, j], a[i + 2, j], a[i + 3, j]
            for lane in range(lanes):
                u = x[j, lane]
                out[i, lane] += a0 * u
                out[i + 1, lane] += a1 * u
                out[i + 2, lane] += a2 * u
                out[i + 3, lane] += a3 * u
    for i in range(whole, n):
        for j in range(d):
            for lane in range(lanes):
                out[i, lane] += a[i, j] * x[j, lane]


def subtract_transposed(a: Any, m: Any, g: Any) -> None:
    """Subtract a^T m from g, four rows of a at a time: a (n, d), m (n, lanes), g (d, lanes)."""
    n, d, lanes = a.shape[0], g.shape[0], g.shape[1]
    whole = n - n % 4
    for i in range(0, whole, 4):
        for j in range(d):
            a0, a1, a2, a3 = a[i, j], a[i + 1, j], a[i + 2, j], a[i + 3, j]
            for lane in range(lanes):
                g[j, lane] -= (a0 * m[i, lane] + a1 * m[i + 1, lane]) + (
                    a2 * m[i + 2, lane] + a3 * m[i + 3, lane]
                )
    for i in range(whole, n):
        for j in range(d):
            for lane in range(lanes):
                g[j, lane] -= a[i, j] * m[i, lane]


def take(a: Any, indices: Any, rows: Any) -> None:
    """Copy row indices[lane] of a (n, d) to each lane of rows (d, lanes)."""
    for lane in range(rows.shape[1]):
        i = indices[lane]
        for j in range(rows.shape[0]):
            rows[j, lane] = a[i, j]
