"""The exact law of a sum of independent Bernoulli variables, accurate relative to its value in both tails.

Symbol key, for N = X_1 + … + X_n with X_t ~ Bernoulli(p_t), mu = E N:

    x_t = log(p_t / (1 - p_t))      the log-odds of a trial
    theta                           a tilt: P_theta(N = k) is proportional to P(N = k) e^(theta k)
    v(x) = e^x / (1 + e^x)^2        the variance of a trial with log-odds x
    V(theta) = sum_t v(x_t + theta) the variance of N under P_theta
    M(theta)                        the mean of N under P_theta; M(0) = mu and M' = V

A tilted sum is again a sum of Bernoulli variables, with log-odds x_t + theta. Three ideas give
P(N = k) to relative accuracy, however small it is, at a cost that hardly depends on n:

1.  Tilt until the mean is k, where the probability is large, and take the tilt back exactly:

        log P(N = k) = log E exp(theta (N - k)) + log P_theta(N = k),
        log E exp(theta (N - k)) = integral from 0 to theta of (M(s) - k) ds
                                 = theta (mu - k) + integral from 0 to theta of (theta - s) V(s) ds.

    The integrands have one sign. The plain sum of log(1 - p_t + p_t e^theta), less theta k, would lose
    digits in proportion to n.
2.  Invert the characteristic function of the tilted law by the trapezoidal rule. It is at most
    exp(-2 V sin^2(w/2)) in modulus, so fewer than 20 frequencies matter once V is large.
3.  All that these need of p are sums over t of functions that are analytic in x_t. Trials whose
    log-odds lie in one unit interval are replaced by 24 weighted Chebyshev points, which give the same
    sums to rounding: a million generic trials become about a thousand points.

Exponential tilting for the tails of this law: Peres, Lee & Keich, "Exactly computing the tail of the
Poisson-Binomial Distribution", arXiv 2004.07429. Fourier inversion for this law: Hong, "On computing
the distribution function for the Poisson binomial distribution", Computational Statistics & Data
Analysis 59 (2013). The bound on the modulus: log|1 - q + q e^(iw)|^2 = log(1 - 4 v sin^2(w/2)).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rst_theory.notation import QUANTITIES, FloatArray

__all__ = ["PoissonBinomial"]

_DROPPED = 45.0  # what is left out is below exp(-45) = 3e-20 of what is kept
_LOWEST = math.log(np.finfo(np.float64).tiny)  # the logarithm of the smallest normal number
_PANEL = 2.0  # length of the panels of the integral over the tilt; v is analytic within pi of the real line
_GAUSS_X, _GAUSS_W = np.polynomial.legendre.leggauss(12)
_GAUSS_X, _GAUSS_W = (_GAUSS_X + 1) / 2, _GAUSS_W / 2  # on [0, 1]
_DEGREE = 24
_ANGLES = np.pi * (_DEGREE - 0.5 - np.arange(_DEGREE)) / _DEGREE  # of the Chebyshev points, increasing
_CROWD = 256  # so many trials in one unit interval of log-odds are worth replacing, and then V > 50 there


class PoissonBinomial:
    """The law of N = X_1 + … + X_T for independent X_t ~ Bernoulli(p_t).

    Args:
        probabilities: p_t, shape (T,), T >= 1, each in [0, 1].

    Attributes:
        trials: T.
        least: the least value that N takes, the number of p_t equal to 1.
        most: the greatest value that N takes, the number of p_t above 0.
        mean: sum of p_t.
        variance: sum of p_t (1 - p_t).

    Raises:
        TypeError: not an array of real numbers.
        ValueError: its shape is not (T,) with T >= 1.
        DomainError: a probability outside [0, 1], named with its t.
    """

    def __init__(self, probabilities: npt.ArrayLike) -> None:
        p = np.array(QUANTITIES["p"].check_all(probabilities))
        if p.ndim != 1 or p.size == 0:
            raise ValueError(f"probabilities must have shape (T,) with T >= 1; got shape {p.shape}")
        self.trials = int(p.size)
        self.least = int((p == 1).sum())
        self.most = int((p > 0).sum())
        self.mean = math.fsum(p)
        self.variance = math.fsum(p * (1 - p))
        self._probabilities = p

    @functools.cached_property
    def _open(self) -> _OpenTrials:
        p = self._probabilities
        return _OpenTrials.of(p[(p > 0) & (p < 1)])

    def pmf(self) -> FloatArray:
        """P(N = k) for k = 0, …, T, float64 (T + 1,).

        Every value that is a normal float64 number, that is at least 2.3e-308, has a relative error below
        1e-10 (about 1e-12 as a rule, for T up to 1e6); those below come out as smaller than that, or 0.
        """
        centre = min(max(round(self.mean) - self.least, 0), self._open.count)
        upper = self._open.log_pmf_from(centre, 1)
        lower = self._open.log_pmf_from(centre - 1, -1)
        law = np.zeros(self.trials + 1)
        first = self.least + centre - lower.size
        law[first : first + lower.size + upper.size] = np.exp(np.concatenate([lower[::-1], upper]))
        return law

    def log_pmf(self, k: int) -> float:
        """The logarithm of P(N = k) for an integer k, however small; -inf where k is not a value of N."""
        if not self.least <= k <= self.most:
            return -math.inf
        return float(self._open.log_pmf_near(k - self.least, 1)[0])

    def log_chernoff(self, k: float) -> float:
        """The least over theta of log E exp(theta (N - k)): the logarithm of Chernoff's bound at k.

        Args:
            k: any real number. From least to most the result is finite, and 0 at the mean; at the ends it
                is log P(N = k), which the bound attains; outside it is -inf.
        """
        if k in (self.least, self.most):
            return self.log_pmf(int(k))
        if not self.least < k < self.most:
            return -math.inf
        k = k - self.least
        theta = self._open.tilt(k)
        return min(0.0, self._open.log_mgf(theta, k))


@dataclass(frozen=True)
class _OpenTrials:
    """The trials with 0 < p_t < 1, as weighted points on the line of log-odds.

    Attributes:
        count: n, how many there are.
        points: log-odds, increasing.
        weights: of the points; they add to n, and some may be negative.
        above: above[i] is the weight of points[i:], a whole number, without rounding, where a unit
            interval begins. (A tilt of hundreds would make a rounding of this size visible.)
        likely: the number of p_t > 1/2.
        rest: mu - likely, without the rounding that a large sum would suffer.
    """

    count: int
    points: FloatArray
    weights: FloatArray
    above: FloatArray
    likely: int
    rest: float

    @classmethod
    def of(cls, p: FloatArray) -> _OpenTrials:
        likely = p > 0.5
        rest = math.fsum(np.where(likely, p - 1, p))
        return cls(p.size, *_compressed(np.log(p) - np.log1p(-p)), int(likely.sum()), rest)

    def up(self, theta: FloatArray) -> FloatArray:
        """The weight of the points with x + theta > 0."""
        return np.asarray(self.above[np.searchsorted(self.points, -theta, side="right")])

    def variance(self, theta: FloatArray) -> FloatArray:
        """V at each of several tilts, shape (m,) to (m,)."""
        small, _ = _sides(self.points + theta[:, np.newaxis])
        return np.asarray((self.weights * small * (1 - small)).sum(axis=1))

    def drift(self, theta: FloatArray, k: float) -> FloatArray:
        """M(theta) - k at each of several tilts, shape (m,) to (m,); exact to rounding where it is small."""
        small, up = _sides(self.points + theta[:, np.newaxis])
        return np.asarray(self.up(theta) - k + (self.weights * np.where(up, -small, small)).sum(axis=1))

    def log_mgf(self, theta: float, k: float) -> float:
        """The logarithm of E exp(theta (N - k)), by Gauss' rule on panels.

        On the first panel in the form with V, whose error does not grow with n; beyond it, where the
        trials that still matter are few, in the form with M(s) - k, which vanishes as s reaches the tilt.
        """
        first = min(max(theta, -_PANEL), _PANEL)
        s = first * _GAUSS_X
        curvature = float((_GAUSS_W * (first - s) * self.variance(s)).sum())
        parts = [first * ((self.likely - k) + self.rest + curvature)]
        panels = math.ceil(abs(theta - first) / _PANEL)
        for panel in range(panels):
            width = (theta - first) / panels
            s = first + width * (panel + _GAUSS_X)
            parts.append(width * float((_GAUSS_W * self.drift(s, k)).sum()))
        return math.fsum(parts)

    def tilt(self, mean: float) -> float:
        """The theta at which N has a given mean in (0, n), to 1e-8 standard deviations.

        Newton's method, kept in a bracket: no trial is likelier than the one with the largest log-odds.
        Every tilt is valid in all that follows; that this one is near makes it accurate, and Chernoff's
        exponent the least to within 1e-16.
        """
        odds = math.log(mean) - math.log(self.count - mean)
        low, high = odds - float(self.points.max()), odds - float(self.points.min())
        theta = min(max(0.0, low), high)
        for _ in range(200):
            here = np.array([theta])
            error, slope = float(self.drift(here, mean)[0]), float(self.variance(here)[0])
            if abs(error) <= 1e-8 * math.sqrt(max(slope, 0.0)):
                break
            low, high = (low, theta) if error > 0 else (theta, high)
            newton = theta - error / slope if slope > 0 else math.inf
            theta = newton if low < newton < high else (low + high) / 2
        return theta

    def log_pmf_near(self, k: int, step: int) -> FloatArray:
        """Logarithms of P(N = k), P(N = k + step), … as far as one tilt is good for: two deviations."""
        theta = self.tilt(min(max(k, 0.5), self.count - 0.5)) if self.count else 0.0
        variance = float(self.variance(np.array([theta]))[0])
        reach = int(2 * math.sqrt(variance))
        last = min(max(k + step * reach, 0), self.count)
        ks = np.arange(k, last + step, step, dtype=np.float64)
        tilted = self._tilted_pmf(theta, variance, ks, reach)
        return np.minimum(self.log_mgf(theta, k) + theta * (k - ks) + np.log(tilted), 0)  # rounding aside

    def log_pmf_from(self, k: int, step: int) -> FloatArray:
        """Logarithms of P(N = k), P(N = k + step), … to the end of the support or of the floating range."""
        blocks = [np.empty(0)]
        while 0 <= k <= self.count:
            blocks.append(self.log_pmf_near(k, step))
            k += step * blocks[-1].size
            if blocks[-1][-1] < _LOWEST:
                break
        return np.concatenate(blocks)

    def _tilted_pmf(self, theta: float, variance: float, ks: FloatArray, reach: int) -> FloatArray:
        """P_theta(N = k), k within `reach` of the mean, from the characteristic function at 2 pi j/M.

        The rule returns the sum of P_theta(N = k + M i) over all integers i. M is so large that the other
        terms are not there, or negligible by Bernstein's inequality. It is odd: w = pi is avoided.
        """
        third = _DROPPED / 3
        radius = third + math.sqrt(third**2 + 2 * _DROPPED * variance)
        period = min(self.count + 1, math.ceil(radius) + reach + 2) | 1
        w = 2 * np.pi * np.arange(1, period // 2 + 1)[:, np.newaxis] / period
        half = np.sin(w / 2) ** 2
        kept = 2 * variance * half[:, 0] <= _DROPPED
        w, half = w[kept], half[kept]

        small, up = _sides(self.points + theta)
        modulus = np.exp((self.weights * np.log1p(-4 * small * (1 - small) * half)).sum(axis=1) / 2)
        # The argument of 1 - q + q e^(iw), written by whichever of q and 1 - q is small.
        angles = np.arctan2(small * np.sin(w), 1 - 2 * small * half)
        angle = (self.weights * np.where(up, -angles, angles)).sum(axis=1)
        turns = self.up(np.array(theta)) - ks
        waves = modulus[:, np.newaxis] * np.cos(angle[:, np.newaxis] + w * turns)
        return np.asarray((1 + 2 * waves.sum(axis=0)) / period)


def _sides(x: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """The smaller of q and 1 - q at log-odds x, and whether that is 1 - q."""
    odds = np.exp(-np.abs(x))
    return odds / (1 + odds), x > 0


def _compressed(log_odds: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Weighted points with the same sums of smooth functions as the given ones; and their `above`.

    On a unit interval with at least 256 trials the functions integrated above are analytic, wherever they
    matter, in an ellipse around it with semi-axes adding up to 3.5 (7 times the half-length): at a tilt
    that brings the interval to 0, V > 50 and |w| < 1.5, and the singularity, at distance pi - |w|, stays
    away. Interpolation at 24 Chebyshev points then errs by about 7^-24 = 5e-21 a trial.
    """
    points, weights, above = [np.empty(0)], [np.empty(0)], [np.empty(0)]
    left = log_odds.size
    values, counts = np.unique(log_odds, return_counts=True)
    cuts = np.flatnonzero(np.diff(np.floor(values))) + 1
    for x, count in zip(np.split(values, cuts), np.split(counts.astype(np.float64), cuts), strict=True):
        trials = int(count.sum())
        if x.size > _DEGREE and trials >= _CROWD:
            centre, radius = (x[0] + x[-1]) / 2, (x[-1] - x[0]) / 2
            count = _chebyshev_weights(np.clip((x - centre) / radius, -1, 1), count)
            x = centre + radius * np.cos(_ANGLES)
        points.append(x)
        weights.append(count)
        above.append(left - np.concatenate([[0.0], np.cumsum(count[:-1])]))
        left -= trials
    return np.concatenate(points), np.concatenate(weights), np.concatenate([*above, [0.0]])


def _chebyshev_weights(x: FloatArray, count: FloatArray) -> FloatArray:
    """Weights W with sum_i W_i f(c_i) = sum_t count_t f(x_t) for polynomials f of degree < 24 on [-1, 1].

    The moments sum_t count_t T_j(x_t) of the Chebyshev polynomials T_j, by their three-term recurrence,
    then the transform that is orthogonal on the Chebyshev points c_i.
    """
    j = np.arange(_DEGREE)
    moments = np.empty(_DEGREE)
    previous, current = x, np.ones_like(x)  # T_{-1} = T_1
    for i in j:
        moments[i] = (count * current).sum()
        previous, current = current, 2 * x * current - previous
    moments[1:] *= 2
    return np.asarray((np.cos(j * _ANGLES[:, np.newaxis]) * moments).sum(axis=1) / _DEGREE)
