"""What a bound is: a statement as data, with its assumptions, its domain and its source.

Symbol key, throughout the room: T steps; at step t the probability p, step size eta, radius rho, mixing
coefficient gamma; q = p gamma the degree of regularization; a = eta (1 - L eta/2); L, mu, sigma, f_star
the problem's constants; Delta = f(x_0) - f_star the initial gap; D = ||x_0 - x_star|| the initial distance;
G = ||grad f(x)||.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from rst_theory import display
from rst_theory.notation import (
    QUANTITIES,
    Ascent,
    Assumption,
    DomainError,
    FloatArray,
    ProblemConstants,
    natural,
)
from rst_theory.schedules import Schedule, sequence

if TYPE_CHECKING:
    import sympy

Parameter: TypeAlias = "float | npt.ArrayLike | Schedule"

A = Assumption


class HasConstants(Protocol):
    """What a bound asks of a problem: its constants and what it satisfies."""

    @property
    def constants(self) -> ProblemConstants:
        """The constants of the objective."""

    @property
    def assumptions(self) -> frozenset[Assumption]:
        """What the objective satisfies."""


@dataclass(frozen=True)
class Setting:
    """The numbers that a bound is evaluated at: arrays over the steps, float64 (T,), and constants.

    Of the start a caller gives the gap, the distance or both; what is not given is not known to be
    finite, and is inf.
    """

    p: FloatArray
    eta: FloatArray
    rho: FloatArray
    gamma: FloatArray
    L: float
    mu: float
    sigma: float
    gap: float = math.inf
    distance: float = math.inf

    @property
    def T(self) -> int:
        """The number of steps."""
        return self.p.size

    @property
    def q(self) -> FloatArray:
        """The degree of regularization p gamma."""
        return self.p * self.gamma

    @property
    def a(self) -> FloatArray:
        """The descent weight eta (1 - L eta/2)."""
        return self.eta * (1 - self.L * self.eta / 2)


@dataclass(frozen=True)
class Condition:
    """One condition of a bound's domain.

    Attributes:
        text: the condition as a formula in plain text.
        latex: the same in LaTeX.
        holds: whether the numbers of a bound, a `Setting` for a run, satisfy it: booleans, (T,) or scalar.
        shown: maps them to the numbers that an error shows, of the same shape.
    """

    text: str
    latex: str
    holds: Callable[[Any], Any]
    shown: Callable[[Any], Any]

    def require(self, setting: Any) -> None:
        """Raise a DomainError naming the first violation, with its t where it has one."""
        with np.errstate(all="ignore"):  # what cannot be computed does not hold
            try:
                held, shown = np.asarray(self.holds(setting)), self.shown(setting)
            except OverflowError:
                raise DomainError(f"{self.text}, with numbers within the floating range", math.inf) from None
        if not held.all():
            t = int(np.argmin(held))
            value = float(np.broadcast_to(shown, held.shape).ravel()[t])
            raise DomainError(self.text, value, f"t = {t}" if held.ndim else "")


NO_NOISE = Condition("sigma = 0", r"\sigma = 0", holds=lambda s: s.sigma == 0, shown=lambda s: s.sigma)
STEP_SIZE = Condition(
    "0 < eta_t < 2/L",
    r"0 < \eta_t < 2/L",
    holds=lambda s: (s.eta > 0) & (s.eta < 2 / s.L),
    shown=lambda s: s.eta,
)
SHORT_STEPS = Condition(
    "0 < eta_t <= 1/L",
    r"0 < \eta_t \le 1/L",
    holds=lambda s: (s.eta > 0) & (s.L * s.eta <= 1),
    shown=lambda s: s.eta,
)
POSITIVE_CURVATURE = Condition("mu > 0", r"\mu > 0", holds=lambda s: s.mu > 0, shown=lambda s: s.mu)
KNOWN_GAP = Condition(
    "gap = f(x_0) - f_star given",
    r"\Delta < \infty",
    holds=lambda s: s.gap < math.inf,
    shown=lambda s: s.gap,
)
KNOWN_DISTANCE = Condition(
    "distance = ||x_0 - x_star|| given",
    r"D < \infty",
    holds=lambda s: s.distance < math.inf,
    shown=lambda s: s.distance,
)


class Symbolic(NamedTuple):
    """An expression in letters, and what the letters stand for."""

    expression: sympy.Expr
    where: Mapping[sympy.Symbol, sympy.Expr] = MappingProxyType({})


@dataclass(frozen=True)
class Metric:
    """What a bound bounds: the expectation of one measured quantity, over the run or at its end.

    Attributes:
        name: in words.
        latex: the quantity, weights included.
        quantity: the attribute of `Trajectories` that holds it; None for a change in one step.
        weights: maps step sizes (T,) and L to weights (T,) that add to 1; None for a quantity at the end.
    """

    name: str
    latex: str
    quantity: str | None = None
    weights: Callable[[FloatArray, float], FloatArray] | None = None


FINAL_GAP = Metric(
    name="gap of the last iterate",
    latex=r"\mathbb{E} f(x_T) - f^\star",
    quantity="final_gap",
)


@dataclass(frozen=True)
class Bound:
    """An upper bound on the expectation of a metric; a subclass says how it is evaluated.

    Attributes:
        name: its key in `bounds.ALL`.
        title: in words.
        source: the anchor of its proof in `paper_notes/`.
        kind: "tight" where an instance attains it, "upper" where none is known to.
        assumptions: what it assumes of the problem and of the run.
        domain: the conditions under which it holds.
        metric: what it bounds.
        formula: from the numbers that it depends on to its value.
        symbolic: the same as an expression in letters.
    """

    name: str
    title: str
    source: str
    kind: Literal["tight", "upper"]
    assumptions: frozenset[Assumption]
    domain: tuple[Condition, ...]
    metric: Metric
    formula: Callable[[Any], float]
    symbolic: Callable[[], Symbolic]

    @property
    def expression(self) -> sympy.Expr:
        """The bound in SymPy; sequences are indexed by t, as in `rst_theory.bounds.average.indexed`."""
        compact, letters = self.symbolic()
        return compact.subs(dict(letters))

    @property
    def ascent(self) -> Ascent:
        """The kind of ascent that it speaks of."""
        return "unnormalized" if A.UNNORMALIZED_ASCENT in self.assumptions else "normalized"

    def latex(self) -> str:
        """The metric <= (or =, where tight) the expression, and after it what its letters stand for."""
        return r",\quad ".join(self._formulas())

    def _formulas(self) -> list[str]:
        import sympy

        compact, letters = self.symbolic()
        relation = "=" if self.kind == "tight" else r"\le"
        statement = rf"{self.metric.latex} \;{relation}\; {sympy.latex(compact)}"
        return [statement, *(f"{sympy.latex(k)} = {sympy.latex(v)}" for k, v in letters.items())]

    def applies_to(self, problem: HasConstants) -> bool:
        """Whether the problem satisfies every assumption that the bound makes of it."""
        return not self.missing(problem)

    def missing(self, problem: HasConstants) -> frozenset[Assumption]:
        """The assumptions on the problem that it does not satisfy."""
        return frozenset(a for a in self.assumptions if not a.of_the_run) - problem.assumptions

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {self.kind}, on the {self.metric.name}>"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.latex()}$"

    def _repr_html_(self) -> str:
        formulas = (display.formula(rf"\displaystyle {latex}") for latex in self._formulas())
        conditions = [condition.latex for condition in self.domain]
        rows = [
            ("statement", display.stack(*formulas)),
            ("assumptions", display.stack(*(a.value for a in A if a in self.assumptions))),
            ("domain", display.joined(map(display.formula, conditions)) if conditions else "all parameters"),
            ("kind", self.kind),
            ("name and proof", display.joined(map(display.code, (self.name, self.source)))),
        ]
        return display.table(rows, title=self.title)


@dataclass(frozen=True, repr=False)
class RunBound(Bound):
    """A bound on a weighted sum over the steps of a run."""

    def evaluate(
        self,
        *,
        schedule: Schedule | float,
        steps: int,
        eta: Parameter,
        rho: Parameter,
        constants: ProblemConstants,
        gap: float | None = None,
        distance: float | None = None,
        gamma: Parameter = 1.0,
    ) -> float:
        """The value of the bound.

        Args:
            schedule: p(t), or a number.
            steps: T >= 1.
            eta: step sizes: a number, an array (T,) or a schedule; likewise rho and gamma.
            rho: radii.
            constants: of the problem; sigma = 0 means no noise.
            gap: f(x_0) - f_star >= 0; a bound that is stated in the distance alone does without.
            distance: ||x_0 - x_star|| >= 0, x_star a minimizer; for bounds that are stated in it.
            gamma: mixing coefficients.

        Raises:
            DomainError: a parameter outside its domain, or a violated condition of the bound, with the
                value and its t; or numbers so large or small that the value is beyond floating-point numbers
                and not simply infinite.
        """
        setting = settle(schedule, steps, eta, rho, gamma, constants, gap, distance)
        for condition in self.domain:
            condition.require(setting)
        try:
            with np.errstate(all="ignore"):
                value = float(self.formula(setting))
        except OverflowError:
            return math.inf
        if math.isnan(value):
            raise DomainError(f"numbers with which {self.name} stays within the floating range", value)
        return value


def settle(
    schedule: Schedule | float,
    steps: int,
    eta: Parameter,
    rho: Parameter,
    gamma: Parameter,
    constants: ProblemConstants,
    gap: float | None = None,
    distance: float | None = None,
) -> Setting:
    """The arguments of `RunBound.evaluate` as checked arrays; every bound here needs sigma < infinity."""
    T = natural("steps", steps, least=1)
    if constants.sigma == math.inf:
        raise DomainError(f"{A.BOUNDED_VARIANCE.name}, sigma < inf", constants.sigma)
    return Setting(
        p=sequence(schedule, T, QUANTITIES["p"]),
        eta=sequence(eta, T, QUANTITIES["eta"]),
        rho=sequence(rho, T, QUANTITIES["rho"]),
        gamma=sequence(gamma, T, QUANTITIES["gamma"]),
        L=constants.L,
        mu=constants.mu,
        sigma=constants.sigma,
        gap=math.inf if gap is None else QUANTITIES["gap"].check(gap),
        distance=math.inf if distance is None else QUANTITIES["distance"].check(distance),
    )
