"""The law of the extra propagation pairs of a run, for independent and for systematic trials."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from rst_theory import display
from rst_theory.cost.poisson_binomial import PoissonBinomial
from rst_theory.cost.symbolic import ClosedForm, closed_form
from rst_theory.cost.systematic import SystematicSum
from rst_theory.notation import QUANTITIES, DomainError, FloatArray, natural
from rst_theory.schedules import Constant, Schedule, Tabulated
from rst_theory.schedules.base import sequence
from rst_theory.trials import TrialsKind

__all__ = ["CostLaw", "TailMethod"]

TailMethod = Literal["chernoff", "bernstein", "hoeffding"]

_ROUNDING = 1e-12  # relative; a level that the law attains exactly must not be missed by its rounding


@dataclass(frozen=True, eq=False)
class CostLaw:
    """The law of N = X_0 + … + X_{T-1}, the pairs that a run of T steps costs beyond SGD's T.

    Args:
        schedule: p(t): a `Schedule`, or a number, or an array of shape (T,).
        T: the number of steps, T >= 1.
        kind: of the trials, as in `rst_theory.Trials`. "independent": N is Poisson-binomial, computed to a
            relative accuracy of 1e-10 wherever it is at least 1e-290, see
            `rst_theory.cost.poisson_binomial`. "systematic": N is floor(S) or ceil(S), S = sum of p_t.

    Attributes:
        probabilities: p_t, float64 (T,), read-only.

    Raises:
        TypeError: T is no integer, or p(t) is not made of real numbers.
        ValueError: an array that is not of shape (T,), or an unknown kind.
        DomainError: T < 1, or a probability outside [0, 1], named with its t.
    """

    schedule: Schedule | float | npt.ArrayLike
    T: int
    kind: TrialsKind = "independent"
    probabilities: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.kind not in get_args(TrialsKind):
            raise ValueError(f"kind must be 'independent' or 'systematic'; got {self.kind!r}")
        object.__setattr__(self, "T", natural("T", self.T, least=1))
        p = sequence(self.schedule, self.T, QUANTITIES["p"])
        p.flags.writeable = False
        object.__setattr__(self, "probabilities", p)

    @property
    def mean(self) -> float:
        """E N = sum of p_t, in pairs."""
        return self._law.mean

    @property
    def variance(self) -> float:
        """Var N: sum of p_t (1 - p_t) for independent trials; f (1 - f), f = S - floor(S), for systematic."""
        return self._law.variance

    @property
    def standard_deviation(self) -> float:
        """The square root of the variance, in pairs."""
        return math.sqrt(self.variance)

    @property
    def pairs_relative_to_sgd(self) -> float:
        """Expected pairs of the run over those of SGD, 1 + E N/T, from 1 to 2."""
        return 1 + self.mean / self.T

    @property
    def pairs_relative_to_sam(self) -> float:
        """Expected pairs of the run over those of SAM, (T + E N)/(2 T), from 1/2 to 1."""
        return (self.T + self.mean) / (2 * self.T)

    def pmf(self) -> FloatArray:
        """P(N = k) for k = 0, …, T, float64 (T + 1,), read-only."""
        return self._pmf

    def log_pmf(self, k: int) -> float:
        """The logarithm of P(N = k), right however small the probability is; -inf where it is 0.

        Raises:
            TypeError: k is no integer.
        """
        return self._law.log_pmf(natural("k", k, least=-(2**63)))

    def cdf(self, k: float) -> float:
        """P(N <= k), to relative accuracy where it is small.

        Raises:
            TypeError: k is not a real number.
            DomainError: k is NaN.
        """
        k = _threshold(k)
        if k < 0 or k >= self.T:
            return 0.0 if k < 0 else 1.0
        lower, upper = self._tails
        at = math.floor(k)
        return float(lower[at]) if lower[at] <= 0.5 else 1 - float(upper[at + 1])

    def sf(self, k: float) -> float:
        """P(N > k), the survival function, to relative accuracy where it is small.

        Raises:
            TypeError: k is not a real number.
            DomainError: k is NaN.
        """
        k = _threshold(k)
        if k < 0 or k >= self.T:
            return 1.0 if k < 0 else 0.0
        lower, upper = self._tails
        at = math.floor(k)
        return float(upper[at + 1]) if upper[at + 1] <= 0.5 else 1 - float(lower[at])

    def quantile(self, a: float) -> int:
        """The least value k of N with P(N <= k) >= a; at a = 0 its least value, at a = 1 its greatest.

        A level that the law misses by a relative 1e-12 counts as attained. Levels above 1/2 are
        found as P(N > k) <= 1 - a, so that they are resolved as finely as 1 - a is.

        Raises:
            DomainError: a outside [0, 1].
        """
        a = _level(a)
        lower, upper = self._tails
        if a == 1:
            return self._law.most
        if a <= 0.5:
            k = int(np.searchsorted(lower, a * (1 - _ROUNDING)))
        else:
            within = np.searchsorted(upper[:0:-1], (1 - a) * (1 + _ROUNDING), side="right")
            k = self.T - int(within)
        return min(max(k, self._law.least), self._law.most)

    def interval(self, a: float) -> tuple[int, int]:
        """The central interval at level a: the quantiles at (1 - a)/2 and (1 + a)/2.

        N lies in it, ends included, with probability at least a.

        Raises:
            DomainError: a outside [0, 1].
        """
        a = _level(a)
        return self.quantile((1 - a) / 2), self.quantile((1 + a) / 2)

    def tail_bound(self, k: float, method: TailMethod = "chernoff") -> float:
        """An upper bound on the tail beyond k: on P(N >= k) for k > E N, on P(N <= k) for k < E N.

        At k = E N it is 1. With d = |k - E N| and n the number of p_t strictly between 0 and 1:

        - "chernoff": the least over theta of E exp(theta (N - k)), attained by N at its extreme values;
        - "bernstein": exp(-d^2 / (2 (Var N + d/3)));
        - "hoeffding": exp(-2 d^2 / n).

        The first is never above the others. Hoeffding, "Probability inequalities for sums of bounded
        random variables", JASA 58 (1963), for all three; the second is Bernstein's (1924). They
        are computed in floating point: relative rounding errors of about 1e-12 apply.

        For systematic trials the tail itself is returned, whatever the method.

        Raises:
            TypeError: k is not a real number.
            ValueError: an unknown method.
            DomainError: k is NaN.
        """
        k = _threshold(k)
        if method not in get_args(TailMethod):
            raise ValueError(f"method must be one of {', '.join(get_args(TailMethod))}; got {method!r}")
        d = abs(k - self.mean)
        if d == 0 or math.isinf(d):
            return 0.0 if d else 1.0
        law = self._law
        if not isinstance(law, PoissonBinomial):
            return self.sf(math.ceil(k) - 1) if k > self.mean else self.cdf(k)
        n = law.most - law.least
        match method:
            case "chernoff":
                return math.exp(law.log_chernoff(k))
            case "bernstein":
                return math.exp(-d / (2 * (law.variance / d + 1 / 3)))
            case "hoeffding":
                return math.exp(-2 * d * d / n) if n else 0.0

    def closed_form(self) -> ClosedForm:
        """Mean and variance of N as exact SymPy expressions at this T; see `ClosedForm`.

        A number or an array in place of a schedule is taken as `Constant` or `Tabulated`.
        """
        schedule = self.schedule
        if not isinstance(schedule, Schedule):
            table = np.asarray(schedule, dtype=np.float64)
            schedule = Tabulated(tuple(table.tolist())) if table.ndim else Constant(float(table))
        return closed_form(schedule, self.T, self.kind)

    def _repr_html_(self) -> str:
        low, high = self.interval(0.99)
        rows = [
            (
                "schedule",
                display.code(
                    self.schedule if isinstance(self.schedule, Schedule | float | int) else "an array"
                ),
            ),
            ("steps T", f"{self.T:,}, {self.kind} trials"),
            ("extra pairs, mean", display.number(self.mean)),
            ("standard deviation", display.number(self.standard_deviation)),
            ("99 % interval", f"{low:,} to {high:,}"),
            ("pairs, SGD = 1", display.number(self.pairs_relative_to_sgd)),
            ("pairs, SAM = 1", display.number(self.pairs_relative_to_sam)),
            ("probabilities", display.sparkline(self.probabilities, low=0.0, high=1.0)),
        ]
        return display.table(rows, title="Law of the extra propagation pairs N")

    @functools.cached_property
    def _law(self) -> PoissonBinomial | SystematicSum:
        family = SystematicSum if self.kind == "systematic" else PoissonBinomial
        return family(self.probabilities)

    @functools.cached_property
    def _pmf(self) -> FloatArray:
        law = self._law.pmf()
        law.flags.writeable = False
        return law

    @functools.cached_property
    def _tails(self) -> tuple[FloatArray, FloatArray]:
        """P(N <= k) and P(N >= k), k = 0, …, T, each summed from its small end."""
        return np.cumsum(self._pmf), np.cumsum(self._pmf[::-1])[::-1]


def _threshold(k: float) -> float:
    try:
        number = float(k)
    except OverflowError:  # an integer beyond all floats
        return math.inf if k > 0 else -math.inf
    except (TypeError, ValueError) as error:
        raise TypeError(f"k must be a real number; got {k!r}") from error
    if math.isnan(number):
        raise DomainError("k a real number", k)
    return number


def _level(a: float) -> float:
    if not 0 <= a <= 1:
        raise DomainError("level a in [0, 1]", a)
    return float(a)
