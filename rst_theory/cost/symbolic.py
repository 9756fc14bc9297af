"""Mean and variance of the extra propagation pairs as exact SymPy expressions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rst_theory.notation import QUANTITIES, DomainError, FloatArray
from rst_theory.schedules import (
    Cosine,
    InverseSqrt,
    Joined,
    Linear,
    Periodic,
    Piecewise,
    Schedule,
    Tabulated,
)
from rst_theory.schedules.base import fraction, rational
from rst_theory.trials import TrialsKind

if TYPE_CHECKING:
    import sympy

__all__ = ["ClosedForm", "closed_form"]

_EXACT_TERMS = 1000  # a sum of more terms than this stays unevaluated


@dataclass(frozen=True)
class ClosedForm:
    """The law of N = sum of X_t in exact expressions; decimal parameters mean what they print.

    Attributes:
        mean: of N, sum of p_t.
        variance: of N. Independent trials: sum of p_t (1 - p_t); systematic ones: f (1 - f), f the
            fractional part of the mean.
        per_step_limit: the limit of mean/T as T grows; None where the schedule has no limit, or none
            that SymPy finds.
    """

    mean: sympy.Expr
    variance: sympy.Expr
    per_step_limit: sympy.Expr | None

    @property
    def eventual_mean(self) -> sympy.Expr:
        """The mean without the cases of a T so small that a phase has less than two steps."""
        import sympy

        if self.mean.has(sympy.Sum):  # SymPy 1.14 folds a Sum of a Piecewise wrongly
            return self.mean
        mean = sympy.piecewise_fold(self.mean)
        return sympy.simplify(mean.args[-1].expr if isinstance(mean, sympy.Piecewise) else mean)


def closed_form(schedule: Schedule, T: Any = None, kind: TrialsKind = "independent") -> ClosedForm:
    """Mean and variance of the extra pairs of a run, exact.

    Args:
        schedule: p(t).
        T: the number of steps, an integer or a SymPy symbol; without it the symbol T.
        kind: of the trials.

    Returns:
        Expressions in T and the symbols among the parameters. What has no closed form stays an
        unevaluated SymPy Sum, or harmonic number, unless it has at most 1,000 terms. In the symbol T the
        forms of a `Joined` schedule hold from the T on at which none of its parts is empty.
    """
    import sympy

    T = QUANTITIES["steps"].symbol if T is None else sympy.sympify(T, strict=True)
    mean = _summed(T * schedule.mean(T))
    if kind == "systematic":
        part = sympy.frac(mean)
        variance = part * (1 - part)
    else:
        variance = sympy.expand(mean - _summed(T * _Square(schedule).mean(T)), deep=False)
        if not variance.has(sympy.Sum) and variance.free_symbols:
            variance = sympy.simplify(sympy.piecewise_fold(variance))
    return ClosedForm(mean, variance, _limit(schedule))


def _summed(expression: sympy.Expr) -> sympy.Expr:
    """The same with every Sum of polynomial terms in its closed form, and no factor T left outside."""
    import sympy

    return sympy.expand(expression, deep=False).replace(
        lambda e: isinstance(e, sympy.Sum) and e.function.is_polynomial(*e.variables), lambda e: e.doit()
    )


def _limit(schedule: Schedule) -> sympy.Expr | None:
    try:
        return schedule.mean()
    except (DomainError, ValueError):
        return None


@dataclass(frozen=True, repr=False)
class _Square(Schedule):
    """The square of a schedule: its mean is what the variance needs."""

    base: Schedule

    def __post_init__(self) -> None:
        pass

    def expression(self, t: Any, T: Any) -> sympy.Expr:
        return self.base.expression(t, T) ** 2

    def _values(self, t: FloatArray, T: int) -> FloatArray:
        raise NotImplementedError  # nothing asks a square for its values

    def mean(self, T: Any = None) -> sympy.Expr:
        """The mean of s(t)^2 over t = 0, …, T-1, by family.

        Linear: u = t/(T-1) has variance (T+1)/(12 (T-1)). Cosine: cos(pi u)^2 has mean (T+1)/(2 T) from
        T = 3 on, where cos(2 pi u) goes once around the circle and meets its start again.
        """
        import sympy

        match self.base:
            case Piecewise(first, second, switch):
                share = sympy.ceiling(rational(switch) * T) / T
                return share * rational(first) ** 2 + (1 - share) * rational(second) ** 2
            case Linear(start, end):
                a, b = rational(start), rational(end)
                spread = (b - a) ** 2 * (T + 1) / (12 * (T - 1))
                return sympy.Piecewise((a**2, sympy.Eq(T, 1)), ((a + b) ** 2 / 4 + spread, True))
            case Cosine(start, end):
                a, b = rational(start), rational(end)
                spread = (b - a) ** 2 * (T + 1) / (8 * T)
                return sympy.Piecewise(
                    (a**2, sympy.Eq(T, 1)),
                    ((a**2 + b**2) / 2, sympy.Eq(T, 2)),
                    ((a + b) ** 2 / 4 + spread, True),
                )
            case InverseSqrt(scale):
                short = not T.is_Integer or T <= _EXACT_TERMS
                return rational(scale) ** 2 * sympy.harmonic(T, evaluate=short) / T
            case Periodic():
                return self.base.mean(T)
            case Tabulated(table):
                self.base.mean(T)  # refuses a T that is not its length
                total = sum(fraction(value) ** 2 for value in table)
                return sympy.Rational(total.numerator, total.denominator) / len(table)
            case Joined(parts):
                return Joined(tuple((_Square(part), share) for part, share in parts)).mean(T)
        return self._mean_of_terms(T)

    def _mean_of_terms(self, T: Any) -> sympy.Expr:
        import sympy

        t = QUANTITIES["t"].symbol
        if T.is_Integer and T <= _EXACT_TERMS:
            return sympy.Add(*(self.expression(sympy.Integer(i), T) for i in range(int(T)))) / T
        return sympy.Sum(self.expression(t, T), (t, 0, T - 1)) / T
