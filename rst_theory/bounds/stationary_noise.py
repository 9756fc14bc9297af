"""The stationary density under noise, from its integral equation.

The system of `rst_theory.bounds.stationary` in units of the noise of one step, tau = 1: v = a x + z with z
standard normal, and x+ = v - X b sign(x - v), since the gradient g = (x - v)/eta has the sign of x - v.
The density is smooth, and even about 0. Its equation has integrals over half-lines; on an even grid they
are sums with corrected weights at the end, of order 10, however the end lies between two nodes.

Symbol key: X ~ Bernoulli(p) the coin; pi the density of x; phi the standard normal density; h = |x|.
Derivation: `paper_notes/quadratics.md#noisy`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from rst_theory.notation import FloatArray

__all__ = ["GridLaw", "law_under_noise"]

_TOLERANCE = 1e-8
"""What a grid 1.5 times as fine may change: in the distribution function, and in E h^2 relatively."""

_MOST_NODES = 2600
"""Nodes on the half-line beyond which the equation is not solved."""

_DEVIATIONS = 8.0
"""Standard deviations of the noise that the grid leaves room for."""

_ORDER = 10
"""Corrected weights at the end of a half-line; more of them would be large, and rounding with them."""


class GridLaw(NamedTuple):
    """A law of h on an even grid.

    Attributes:
        h: the nodes, float64 (n,).
        cdf: P(h <= node), float64 (n,).
        density: of h, float64 (n,).
        mean_square: E h^2.
        mean_square_error: its relative change from a coarser grid.
        cdf_error: the largest change of the distribution function from a coarser grid.
    """

    h: FloatArray
    cdf: FloatArray
    density: FloatArray
    mean_square: float
    mean_square_error: float = math.inf
    cdf_error: float = math.inf


def law_under_noise(a: float, b: float, p: float) -> GridLaw:
    """The law of h for |a| < 1, b >= 0 and 0 <= p <= 1, in units of tau.

    Raises:
        ArithmeticError: it would take more than 2600 nodes.
    """
    # x is an autoregression of variance 1/(1 - a^2) plus kicks, which add up to at most b/(1 - |a|); where
    # a > 0 their sum falls once it outweighs what the noise can turn around.
    kicks = b / (1 - abs(a))
    if a >= 0:
        kicks = min(kicks, b + a * _DEVIATIONS * math.sqrt(2 / (1 + a)) / (1 - a))
    reach = kicks + _DEVIATIONS / math.sqrt(1 - a**2)
    unit = math.ceil(min(reach, _MOST_NODES) / 2)
    coarse = None
    for n in (8 * unit, 12 * unit, 18 * unit, 27 * unit):
        if n > _MOST_NODES:
            break
        law = _solve(a, b, p, reach, n)
        if coarse is not None:
            change = abs(law.mean_square / coarse.mean_square - 1)
            cdf_change = float(np.abs(law.cdf[::3] - coarse.cdf[::2]).max())
            if max(change, cdf_change) <= _TOLERANCE:
                return law._replace(mean_square_error=change, cdf_error=cdf_change)
        coarse = law
    raise ArithmeticError(
        f"the law reaches to {reach:.3g} times the noise eta s of one step, which takes more than "
        f"{_MOST_NODES} nodes; more noise or a larger eta lam narrows it"
    )


def _solve(a: float, b: float, p: float, reach: float, n: int) -> GridLaw:
    """The stationary density of x at n + 1 nodes of [0, reach].

    pi(y) = (1-p) int phi(y - a x) pi(x) dx + p int_{x > y+b} phi(y + b - a x) pi(x) dx
                                            + p int_{x < y-b} phi(y - b - a x) pi(x) dx,
    since a perturbed step goes from v to v - b where v < x, and to v + b where v > x.
    """
    spacing = reach / n
    x = np.asarray(spacing * np.arange(-n, n + 1), dtype=np.float64)
    y = x[n:, None]
    shift = round(b / spacing)
    weights = _half_line_weights(shift - b / spacing)
    i, j = np.arange(n + 1)[:, None], np.arange(-n, n + 1)
    kernel = (1 - p) * _phi(y - a * x)
    kernel += p * _phi(y + b - a * x) * _at(weights, j - i - shift)
    kernel += p * _phi(y - b - a * x) * _at(weights, i - j - shift)
    kernel *= spacing
    folded = kernel[:, n:]
    folded[:, 1:] += kernel[:, n - 1 :: -1]
    # (I - K) pi = 0 with the total mass 1 added to every row.
    mass: FloatArray = np.full(n + 1, 2 * spacing)
    mass[0] = spacing
    guess = np.exp(-0.5 * (y[:, 0] / reach * 4) ** 2)
    density: FloatArray = np.linalg.solve(np.eye(n + 1) - folded + np.outer(guess, mass), guess)
    full = np.concatenate([density[:0:-1], density])
    ends = _at(_half_line_weights(0.0), i - j)
    cdf = 2 * spacing * (ends @ full) - 1
    return GridLaw(x[n:], cdf, 2 * density, float(mass @ (density * x[n:] ** 2)))


def _phi(z: FloatArray) -> FloatArray:
    return np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)


def _at(weights: FloatArray, k: npt.NDArray[np.int64]) -> FloatArray:
    """The weight of node k: 0 before the end of the half-line, 1 far inside it."""
    table = np.concatenate([[0.0], weights, [1.0]])
    return table[np.clip(k, -1, len(weights)) + 1]


def _half_line_weights(offset: float) -> FloatArray:
    """Weights w of the first nodes, k + offset for k = 0, 1, …, of the integral over [0, inf).

    By the Euler-Maclaurin formula sum_k f(k + offset) exceeds the integral by -sum_j c_j f^(j)(0)/j!, where
    c_j = B_{j+1}(offset)/(j+1) with the Bernoulli polynomials B; the weights make up for it exactly where f
    is a polynomial near the end, of degree below the order: sum_k (w_k - 1) (k + offset)^j = c_j.
    """
    numbers = [1.0]
    for n in range(1, _ORDER + 1):
        numbers.append(-sum(math.comb(n + 1, k) * numbers[k] for k in range(n)) / (n + 1))
    polynomials = [
        sum(math.comb(j, k) * numbers[j - k] * offset**k for k in range(j + 1)) for j in range(1, _ORDER + 1)
    ]
    j = np.arange(_ORDER)
    powers = (j + offset)[None, :] ** j[:, None]
    return np.asarray(1 + np.linalg.solve(powers, np.array(polynomials) / (j + 1)))
