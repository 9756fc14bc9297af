r"""Closed forms and rates of the master bound, for the families of schedules.

The three sums of `nonconvex_average`, W = sum a_t, U^2 = sum u_t^2/a_t and C, are written as functions of
T: each family is a polynomial in one of the letters

    u = t/(T-1) (Linear),    v = (t+1)^(-1/2) (InverseSqrt),    c = cos(pi u) (Cosine),

and the monomials sum in closed form (power sums, generalized harmonic numbers, trigonometric sums). Two
things have none, and there a larger closed bound takes their place, named by `exact = False`:

    (1 - e)^2/(1 - e/2) in U^2 where e = eta_t L is not constant: (1 - e)(1 - e/2), larger for e <= 1;
    products of a Cosine with a Linear or an InverseSqrt in U^2 and C: the Cosines, or all the others
    where these are fewer, at their largest values.

Proofs and tables: `paper_notes/rates.md`. Symbol key in `rst_theory.bounds.base`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from rst_theory.notation import QUANTITIES, DomainError, ProblemConstants, natural
from rst_theory.schedules import Constant, Cosine, InverseSqrt, Linear, Periodic, Piecewise, Schedule
from rst_theory.schedules.base import nonnegative, rational

if TYPE_CHECKING:
    import sympy

__all__ = ["ClosedAverage", "Rate", "Tuned", "closed_form", "rate", "tuned"]

Family: TypeAlias = "Schedule | float"
Order: TypeAlias = tuple[float, float]
"""(a, b) for the growth T^a (log T)^b."""

_Families: TypeAlias = tuple[type[Schedule], ...]
_POWERS: _Families = (Linear, InverseSqrt)


@dataclass(frozen=True)
class ClosedAverage:
    """The master bound as a function of T, L, sigma and Delta.

    Attributes:
        W, U2, C: the sums in closed form, or larger where `exact` is False (W is always exact).
        bound: ((U + sqrt(U^2 + 4 C))/2)^2/W.
        exact: whether it equals `nonconvex_average`; where not it is larger, and holds for eta_t L <= 1.
        eta: the step sizes, for the domain.
        least_steps: the least T at which the sums are right: 6 with a Cosine, 2 with a Linear, else 1.
    """

    W: sympy.Expr
    U2: sympy.Expr
    C: sympy.Expr
    exact: bool
    eta: Schedule
    least_steps: int

    @property
    def bound(self) -> sympy.Expr:
        """The bound, in SymPy."""
        return _larger_root(self.U2, self.C) / self.W

    def value(self, steps: int, constants: ProblemConstants, gap: float) -> float:
        """The bound as a number; no array of length T is made, so T may be as large as 10^15.

        Args:
            steps: T >= least_steps.
            constants: of the problem.
            gap: f(x_0) - f_star.

        Raises:
            DomainError: an argument outside its domain, or step sizes outside that of the bound: (0, 2/L),
                or [0, 1/L] where it is not exact.
            TypeError: a parameter of a schedule is a symbol.
        """
        import mpmath  # type: ignore[import-untyped]

        T, gap = natural("steps", steps, least=self.least_steps), QUANTITIES["gap"].check(gap)
        first, last = (float(self.eta.expression(t, T)) for t in (0, T - 1))  # every family is monotone
        if self.exact and not 0 < first * constants.L < 2:
            raise DomainError("0 < eta_t < 2/L", first)
        if not self.exact and not 0 < max(first, last) * constants.L <= 1:
            raise DomainError("0 <= eta_t <= 1/L, not all 0", max(first, last))
        with mpmath.workdps(60):
            W, U2, C = (_number(sum_, T, constants, gap) for sum_ in (self.W, self.U2, self.C))
            return float(((mpmath.sqrt(U2) + mpmath.sqrt(U2 + 4 * C)) / 2) ** 2 / W)


class Rate(NamedTuple):
    """What a closed form tends to, and its leading term, as T grows: bound = limit + leading (1 + o(1)).

    Attributes:
        limit: the floor.
        leading: the next term, with its constant, in T.
        asymptote: the bound with those terms of W, U^2 and C that do not vanish; where logarithms make the
            leading term slow to take over, this is near the bound much sooner.
    """

    limit: sympy.Expr
    leading: sympy.Expr
    asymptote: sympy.Expr


class Tuned(NamedTuple):
    """Constant parameters for a horizon of T steps, and what they achieve.

    Attributes:
        eta, rho: the parameters.
        rate: the limit of sqrt(T) times the bound.
    """

    eta: sympy.Expr
    rho: sympy.Expr
    rate: sympy.Expr


def closed_form(schedule: Family, eta: Family, rho: Family, gamma: Family = 1.0) -> ClosedAverage:
    """The master bound in closed form.

    Args:
        schedule: p(t): Constant, Linear, Cosine, InverseSqrt, Piecewise or Periodic, or a number.
        eta: step sizes: Constant, Linear, Cosine or InverseSqrt, or a number; likewise rho and gamma.
            Parameters may be SymPy symbols.
        rho: radii.
        gamma: mixing coefficients.

    Raises:
        DomainError: a schedule of another family.
    """
    import sympy

    T, gap = QUANTITIES["steps"].symbol, QUANTITIES["gap"].symbol
    run = [_probability(schedule), *map(_schedule, (eta, rho, gamma))]

    def total(which: int, at_largest: _Families = ()) -> sympy.Expr:
        return sympy.Add(*(_closed_sum(terms[which], ph, T) for ph, terms in _summands(run, at_largest)))

    exact = isinstance(run[1], Constant)
    try:
        U2, C = total(1), total(2)
    except _NoClosedFormError:
        exact = False
        cosines, others = (sum(isinstance(s, group) for s in run) for group in ((Cosine,), _POWERS))
        fewer: _Families = (Cosine,) if cosines <= others else _POWERS
        U2, C = total(1, fewer), total(2, fewer)
    needed = {Cosine: 6, Linear: 2}
    least = max(needed.get(type(s), 1) for s in run)
    return ClosedAverage(W=total(0), U2=U2, C=gap + C, exact=exact, eta=run[1], least_steps=least)


def rate(schedule: Family, eta: Family, rho: Family, gamma: Family = 1.0, noise: bool = True) -> Rate:
    """Limit and leading term, as T grows, of the bound with (1 - e)(1 - e/2) in U^2 unless eta is constant.

    It is that of `closed_form`, except where this put schedules at their largest values: then it is sharper.
    For Piecewise and Periodic the leading term is that along the T at which the phases have whole lengths.

    Args:
        schedule: p(t), as in `closed_form`.
        eta: step sizes, likewise.
        rho: radii, likewise.
        gamma: mixing coefficients, likewise.
        noise: whether sigma > 0; with False it is 0.

    Raises:
        DomainError: a schedule of another family, or a product with no closed form here.
    """
    import sympy

    T, gap, sigma = (QUANTITIES[k].symbol for k in ("steps", "gap", "sigma"))
    run = [_probability(schedule), *map(_schedule, (eta, rho, gamma))]
    growths: tuple[dict[Order, Any], ...] = ({}, {}, {(0.0, 0.0): gap})
    for phase, terms in _summands(run):
        for growth, term in zip(growths, terms, strict=True):
            for order, coefficient in _growth(term if noise else term.subs(sigma, 0), phase):
                growth[order] = sympy.expand(growth.get(order, 0) + coefficient)
    W, U, C = ({o: c for o, c in growth.items() if c != 0} for growth in growths)

    def shape(order: Order) -> Any:
        power, logs = map(sympy.Rational, order)
        return T**power * sympy.log(T) ** logs

    sums = [sympy.Add(*(c * shape(o) for o, c in growth.items())) for growth in (W, U, C)]
    asymptote = _larger_root(sums[1], sums[2]) / sums[0]
    n = max(W)
    w, u, c = W.pop(n), U.pop(n, sympy.Integer(0)), C.pop(n, sympy.Integer(0))
    limit = _larger_root(u, c) / w
    found: dict[Order, Any] = {}

    def add(order: Order, coefficient: Any) -> None:
        found[order] = found.get(order, 0) + coefficient

    if limit == 0:
        order = max([*U, *C])
        add((order[0] - n[0], order[1]), _larger_root(U.get(order, 0), C.get(order, 0)) / w)
    else:
        # B(u, c), the larger root squared, is homogeneous; where u = 0 it grows like sqrt(c u).
        root = sympy.sqrt(u + 4 * c)
        slope_u = (sympy.sqrt(u) + root) ** 2 / (4 * sympy.sqrt(u) * root) if u != 0 else sympy.oo
        slope_c = 1 + sympy.sqrt(u) / root
        for growth, slope in ((U, slope_u), (C, slope_c), (W, -limit)):
            for order, coefficient in growth.items():
                if slope == sympy.oo:
                    add(((order[0] - n[0]) / 2, order[1] / 2), sympy.sqrt(c * coefficient) / w)
                else:
                    add((order[0] - n[0], order[1]), slope * coefficient / w)
    order = max(order for order, coefficient in found.items() if not _vanishes(coefficient))
    return Rate(limit, found[order] * shape(order), asymptote)


def tuned(degree: Any, beta: Any) -> Tuned:
    """The constant step size that is best for T steps with noise, at the radius rho = beta T^(-1/4).

    The master bound then is `rate`/sqrt(T) to leading order, and no larger order of the radius keeps it of
    that order; with a smaller order, such as T^(-1/2), it is the same with beta = 0.

    Args:
        degree: q = p gamma, a number or a SymPy expression.
        beta: the scale of the radius, likewise.

    Raises:
        DomainError: a number that is negative or not finite.
        TypeError: neither a number nor a SymPy expression.
    """
    import sympy

    q, beta = rational(nonnegative("degree", degree)), rational(nonnegative("beta", beta))
    T, L, sigma, gap = (QUANTITIES[k].symbol for k in ("steps", "L", "sigma", "gap"))
    eta = sympy.sqrt(2 * gap / (L * T)) / sigma
    rho = beta / T ** sympy.Rational(1, 4)
    half = q * L * beta / 2
    return Tuned(eta, rho, (half + sympy.sqrt(half**2 + sigma * sympy.sqrt(2 * L * gap))) ** 2)


# The run as phases, and its summands as polynomials in the letters u, v, c


class _Phase(NamedTuple):
    """Every `every`-th step from begin T on, up to end T, at probability p."""

    p: Any
    begin: Any
    end: Any
    every: int


class _NoClosedFormError(DomainError):
    """A product of letters that does not sum in closed form."""


def _letters() -> tuple[Any, Any, Any]:
    import sympy

    u, v, c = sympy.symbols("u v c", nonnegative=True)
    return u, v, c


def _schedule(value: Family) -> Schedule:
    return value if isinstance(value, Schedule) else Constant(value)


def _probability(value: Family) -> Schedule:
    """A schedule whose levels are probabilities, as far as they are numbers."""
    schedule = _schedule(value)
    for key in ("value", "first", "second", "start", "end", "scale"):
        level = getattr(schedule, key, None)
        if isinstance(level, int | float | Fraction):
            QUANTITIES["p"].check(level)
    return schedule


def _polynomial(schedule: Schedule, at_largest: _Families) -> Any:
    """A schedule in the letters, or its largest value where it is of one of the families named."""
    import sympy

    u, v, c = _letters()
    match schedule:
        case Constant(value):
            return rational(value)
        case InverseSqrt(scale):
            return rational(scale) * (1 if isinstance(schedule, at_largest) else v)
        case Linear(start, end) | Cosine(start, end):
            first, last = rational(start), rational(end)
            if isinstance(schedule, at_largest):
                return sympy.Max(first, last)
            return first + (last - first) * (u if isinstance(schedule, Linear) else (1 - c) / 2)
    raise DomainError("Constant, Linear, Cosine or InverseSqrt (p also Piecewise or Periodic)", schedule)


def _phases(p: Schedule, at_largest: _Families) -> list[_Phase]:
    match p:
        case Piecewise(first, second, switch):
            s = rational(switch)
            phases = [_Phase(rational(first), 0, s, 1), _Phase(rational(second), s, 1, 1)]
            return [phase for phase in phases if phase.begin != phase.end]
        case Periodic(every):
            return [_Phase(1, 0, 1, every)]
    return [_Phase(_polynomial(p, at_largest), 0, 1, 1)]


def _summands(
    run: list[Schedule], at_largest: _Families = ()
) -> Iterator[tuple[_Phase, tuple[Any, Any, Any]]]:
    """For each phase the summands of W, U^2 and C - Delta; what does not hold p is summed over one phase."""
    import sympy

    L, sigma = QUANTITIES["L"].symbol, QUANTITIES["sigma"].symbol
    p, *others = run
    eta = _polynomial(run[1], ())
    e = L * eta
    yield _Phase(0, 0, 1, 1), (eta * (1 - e / 2), sympy.Integer(0), L * eta**2 * sigma**2 / 2)
    if isinstance(run[1], Constant):
        mixed = (1 - e) ** 2 / (1 - e / 2)
    elif isinstance(run[1], at_largest):
        mixed = sympy.Integer(1)  # (1 - e)(1 - e/2) falls in e: at the largest e it is no bound, 1 is
    else:
        mixed = (1 - e) * (1 - e / 2)
    eta, rho, gamma = (_polynomial(s, at_largest) for s in others)
    for phase in _phases(p, at_largest):
        q = phase.p * gamma
        u2 = q**2 * L**2 * rho**2 * eta * mixed
        C = q * L**2 * rho * eta**2 * sigma + L**3 * eta**2 * q * gamma * rho**2 / 2
        yield phase, (sympy.Integer(0), u2, C)


def _monomials(term: Any) -> Iterator[tuple[int, int, int, Any]]:
    """The terms coefficient * u^j v^m c^k as (j, m, k, coefficient)."""
    import sympy

    if term == 0:
        return
    for (j, m, k), coefficient in sympy.Poly(term, *_letters()).terms():
        yield j, m, k, coefficient


# Sums in closed form


def _closed_sum(term: Any, phase: _Phase, T: Any) -> Any:
    import sympy

    total = sympy.Integer(0)
    for j, m, k, coefficient in _monomials(term):
        if phase.every > 1:
            n = sympy.ceiling(T / phase.every)
            total += coefficient * _prefix(j, m, k, n, phase.every, T)
        else:
            begin, end = (sympy.ceiling(share * T) for share in (phase.begin, phase.end))
            total += coefficient * (_prefix(j, m, k, end, 1, T) - _prefix(j, m, k, begin, 1, T))
    return total


def _prefix(j: int, m: int, k: int, n: Any, every: int, T: Any) -> Any:
    """The sum of u^j v^m c^k over the n steps t = 0, every, 2 every, …."""
    import sympy

    if n == 0:
        return sympy.Integer(0)
    if k and (j or m):
        raise _NoClosedFormError("no product of a Cosine with a Linear or an InverseSqrt", (j, m, k))
    if k:
        multiples = _cosine_powers(k).items()
        return sympy.Add(*(weight * _cosine_sum(multiple, n, every, T) for multiple, weight in multiples))
    if m == 0:
        power = (sympy.bernoulli(j + 1, n) - sympy.bernoulli(j + 1, 0)) / (j + 1)
        return sympy.Rational(every) ** j * (sympy.factor(power) if n == T else power) / (T - 1) ** j
    return (
        sympy.Add(
            *(
                (-1) ** (j - i) * sympy.binomial(j, i) * _harmonic(sympy.Rational(m, 2) - i, n, every)
                for i in range(j + 1)
            )
        )
        / (T - 1) ** j
    )


def _cosine_powers(k: int) -> dict[int, Any]:
    """cos(x)^k as weights of cos(l x), l = 0, 1, …, k."""
    import sympy

    weights: dict[int, Any] = {}
    for r in range(k + 1):
        l = abs(k - 2 * r)  # noqa: E741
        weights[l] = weights.get(l, 0) + sympy.binomial(k, r) / sympy.Integer(2) ** k
    return weights


def _cosine_sum(l: int, n: Any, every: int, T: Any) -> Any:  # noqa: E741
    """The sum of cos(l pi u) over n steps, 0, every, 2 every, …; all 1 where 2 (T-1) divides l every."""
    import sympy

    if l == 0:
        return n
    if n == T:
        return sympy.Rational(1 + (-1) ** l, 2)
    half = l * every * sympy.pi / (2 * (T - 1))
    formula = sympy.sin(n * half) * sympy.cos((n - 1) * half) / sympy.sin(half)
    return sympy.Piecewise((n, sympy.Eq(sympy.Mod(l * every, 2 * (T - 1)), 0)), (formula, True))


def _harmonic(s: Any, n: Any, every: int) -> Any:
    """The sum of (t+1)^(-s) over the n steps t = 0, every, …."""
    import sympy

    if every == 1:
        return sympy.harmonic(n, s)
    first = sympy.Rational(1, every)
    if s == 1:
        return (sympy.digamma(n + first) - sympy.digamma(first)) * first
    return first**s * (sympy.zeta(s, first) - sympy.zeta(s, n + first))


def _number(expression: Any, T: int, constants: ProblemConstants, gap: float) -> Any:
    """A closed sum in 60 digits; ceilings are taken exactly."""
    import mpmath
    import sympy

    numbers = {"steps": T, "L": constants.L, "sigma": constants.sigma, "gap": gap}
    values = {QUANTITIES[key].symbol: mpmath.mpf(number) for key, number in numbers.items()}
    if unknown := expression.free_symbols - set(values):
        raise TypeError(f"numeric values need numbers in place of {', '.join(sorted(map(str, unknown)))}")
    # A ceiling becomes a letter, lest SymPy write a harmonic number of an integer out term by term.
    whole = {atom: sympy.Dummy() for atom in expression.atoms(sympy.ceiling)}
    values |= {
        letter: mpmath.mpf(int(atom.subs(QUANTITIES["steps"].symbol, T))) for atom, letter in whole.items()
    }

    def harmonic(n: Any, s: Any = 1) -> Any:
        return mpmath.harmonic(n) if s == 1 else mpmath.zeta(s) - _hurwitz(s, n + 1)

    function: Callable[..., Any] = sympy.lambdify(
        list(values), expression.xreplace(whole), modules=[{"harmonic": harmonic, "zeta": _hurwitz}, "mpmath"]
    )
    return function(*values.values())


def _hurwitz(s: Any, a: Any = 1) -> Any:
    """Hurwitz's zeta function, continued in s; for large a by the Euler-Maclaurin series."""
    import mpmath

    if a < 100:
        return mpmath.zeta(s, a)
    s, total = mpmath.mpf(s), a ** (1 - s) / (s - 1) + a**-s / 2
    for k in range(1, 40):
        weight = mpmath.bernoulli(2 * k) / mpmath.factorial(2 * k)
        total += weight * mpmath.rf(s, 2 * k - 1) * a ** (1 - s - 2 * k)
    return total


# Growth as T grows


def _growth(term: Any, phase: _Phase) -> Iterator[tuple[Order, Any]]:
    """The orders T^(1/2 or 1), log T and 1 of the sum of a term over a phase, with their coefficients."""
    import sympy

    begin, end, every = phase.begin, phase.end, phase.every
    s = sympy.Rational(1, every)
    for j, m, k, coefficient in _monomials(term):
        at_zero = coefficient if begin == 0 and j == 0 else 0
        if m <= 1 or (m == 2 and begin != 0):
            integral = coefficient * s * (_integral(j, m, k, end) - _integral(j, m, k, begin))
        match m:
            case 0:
                ends = [_end(j, k, share) for share in (end, begin)]
                beyond = (1 - s) * sympy.cos(sympy.pi) ** k
                yield (1.0, 0.0), integral
                yield (0.0, 0.0), coefficient * (ends[0] - ends[1] - beyond) - integral
            case 1:
                yield (0.5, 0.0), integral
                yield (0.0, 0.0), at_zero * sympy.sqrt(s) * sympy.zeta(sympy.Rational(1, 2), s)
            case 2 if begin != 0:
                yield (0.0, 0.0), integral
            case 2:
                yield (0.0, 1.0), at_zero * s
                offset = sympy.log(every) + sympy.digamma(s)  # every = 1: minus Euler's constant
                yield (0.0, 0.0), coefficient * s * _integral(j, m, k, end) - at_zero * s * offset
            case _:
                order = sympy.Rational(m, 2)
                yield (0.0, 0.0), at_zero * s**order * sympy.zeta(order, s)


def _end(j: int, k: int, x: Any) -> Any:
    """What the end of a phase at x T adds to the integral: (f(0) + f(x))/2 - (1 - x) f(x)."""
    import sympy

    def f(y: Any) -> Any:
        return sympy.sympify(y, strict=True) ** j * sympy.cos(sympy.pi * y) ** k

    return (f(0) + f(x)) / 2 - (1 - x) * f(x)


def _integral(j: int, m: int, k: int, x: Any) -> Any:
    """The integral of y^(j - m/2) cos(pi y)^k over 0 <= y <= x, less that of 1/y up to 1 if it diverges."""
    import sympy

    x = sympy.sympify(x, strict=True)
    power = j - sympy.Rational(m, 2)
    total = sympy.Integer(0)
    for l, weight in _cosine_powers(k).items():  # noqa: E741
        if l == 0:
            total += weight * (sympy.log(x) if power == -1 else x ** (power + 1) / (power + 1))
        elif m == 0 and j == 0:
            total += weight * sympy.sin(l * sympy.pi * x) / (l * sympy.pi)
        elif m == 0:
            y = sympy.Symbol("y", positive=True)
            total += weight * sympy.integrate(y**j * sympy.cos(l * sympy.pi * y), (y, 0, x))
        elif m == 1 and j == 0:
            total += weight * sympy.sqrt(sympy.Rational(2, l)) * sympy.fresnelc(sympy.sqrt(2 * l * x))
        elif m == 2 and j == 0:
            angle = l * sympy.pi
            total += weight * (sympy.Ci(angle * x) - sympy.EulerGamma - sympy.log(angle))
        else:
            raise _NoClosedFormError("no product of Cosine, Linear and InverseSqrt", (j, m, k))
    return total


def _vanishes(coefficient: Any) -> bool:
    """Whether an analytic coefficient is 0: whether it is at one point with nothing special about it."""
    import sympy

    point = {letter: sympy.sqrt(sympy.prime(i + 2)) / 7 for i, letter in enumerate(coefficient.free_symbols)}
    return bool(abs(coefficient.subs(point).evalf(40)) < 1e-25)


def _larger_root(U2: Any, C: Any) -> Any:
    """S^2 for the larger root S of S^2 = U S + C."""
    import sympy

    return ((sympy.sqrt(U2) + sympy.sqrt(U2 + 4 * C)) / 2) ** 2
