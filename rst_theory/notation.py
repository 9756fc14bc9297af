"""The vocabulary: every quantity with its symbol, LaTeX and domain, and every assumption.

Each is declared once, here. Domains drive validation and error texts, symbols are what the symbolic
expressions of the package are written in, and `paper_notes/notation.md` is the same table in prose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import sympy

__all__ = [
    "QUANTITIES",
    "Ascent",
    "Assumption",
    "DomainError",
    "FloatArray",
    "Interval",
    "ProblemConstants",
    "Quantity",
    "natural",
]

FloatArray = npt.NDArray[np.float64]

Ascent = Literal["normalized", "unnormalized"]


class DomainError(ValueError):
    """A value outside the domain of a quantity, or outside the domain of a bound.

    Attributes:
        condition: the violated condition, in words or as a formula.
        value: the offending value.
    """

    def __init__(self, condition: str, value: object, at: str = "") -> None:
        self.condition = condition
        self.value = value
        self.at = at
        super().__init__(f"required: {condition}; got {value}{f' at {at}' if at else ''}")

    def __reduce__(self) -> tuple[type[DomainError], tuple[str, object, str]]:
        return type(self), (self.condition, self.value, self.at)


@dataclass(frozen=True)
class Interval:
    """A real interval, closed unless an end is said to be open; an infinite end is always open."""

    low: float = -math.inf
    high: float = math.inf
    low_open: bool = False
    high_open: bool = False

    def contains(self, values: npt.ArrayLike) -> npt.NDArray[np.bool_]:
        """Elementwise membership; NaN and infinities are never members."""
        x = np.asarray(values, dtype=np.float64)
        above = x > self.low if self.low_open else x >= self.low
        below = x < self.high if self.high_open else x <= self.high
        return np.asarray(above & below & np.isfinite(x))

    def __str__(self) -> str:
        left = "(" if self.low_open or math.isinf(self.low) else "["
        right = ")" if self.high_open or math.isinf(self.high) else "]"
        return f"{left}{self.low:g}, {self.high:g}{right}"


@dataclass(frozen=True)
class Quantity:
    """A named quantity: the one declaration of its symbol, LaTeX and domain.

    Attributes:
        key: the name used for arguments in the code.
        name: what the quantity is called in sentences.
        latex: its symbol in LaTeX.
        domain: the interval of its admissible values.
        integer: whether only integers are admissible.
    """

    key: str
    name: str
    latex: str
    domain: Interval
    integer: bool = False

    @property
    def symbol(self) -> sympy.Symbol:
        """The SymPy symbol, printing as `latex`, with the assumptions that the domain implies."""
        import sympy

        signs: dict[str, Any] = {"real": True}
        if self.domain.low >= 0:
            signs = {"positive" if self.domain.low_open else "nonnegative": True}
        if self.integer:
            signs["integer"] = True
            if self.domain.low >= 1:
                signs = {"integer": True, "positive": True}
        return sympy.Symbol(self.latex, **signs)

    def check(self, value: Any) -> float:
        """`value` as a float (an integer where the quantity is one).

        Raises:
            TypeError: `value` is not a real number.
            DomainError: `value` lies outside the domain.
        """
        try:
            if isinstance(value, str | bytes):
                raise TypeError("text is not a number")
            number = float(value)
        except OverflowError as error:
            raise DomainError(self._condition, value) from error
        except (TypeError, ValueError) as error:
            raise TypeError(f"{self.name} {self.key} must be a real number; got {value!r}") from error
        if not self.domain.contains(number) or (self.integer and number != int(number)):
            raise DomainError(self._condition, value)
        return int(value) if self.integer else number

    def check_all(self, values: npt.ArrayLike) -> FloatArray:
        """A sequence over the steps t = 0, 1, …, as float64; the first bad entry is named by its t.

        Raises:
            TypeError: `values` is not an array of real numbers.
            DomainError: an entry lies outside the domain.
        """
        try:
            raw = np.asarray(values)
            if raw.dtype.kind not in "biufO":
                raise TypeError(f"dtype {raw.dtype}")
            array = np.asarray(raw, dtype=np.float64)
        except OverflowError as error:
            raise DomainError(self._condition, values) from error
        except (TypeError, ValueError) as error:
            raise TypeError(f"{self.name} {self.key} must be real numbers; got {values!r}") from error
        inside = self.domain.contains(array)
        if self.integer:
            inside &= array == np.floor(array, where=inside, out=np.zeros_like(array))
        if not inside.all():
            t = int(np.argmin(inside))
            raise DomainError(self._condition, float(array.flat[t]), f"t = {t}" if array.ndim else "")
        return array

    @property
    def _condition(self) -> str:
        kind = "an integer in" if self.integer else "in"
        return f"{self.name} {self.key} {kind} {self.domain}"


_NONNEGATIVE = Interval(low=0.0)
_POSITIVE = Interval(low=0.0, low_open=True)

QUANTITIES: dict[str, Quantity] = {
    q.key: q
    for q in (
        Quantity("t", "step", "t", _NONNEGATIVE, integer=True),
        Quantity("steps", "number of steps", "T", Interval(low=1.0), integer=True),
        Quantity("p", "probability", "p", Interval(0.0, 1.0)),
        Quantity("eta", "step size", r"\eta", _NONNEGATIVE),
        Quantity("rho", "radius", r"\rho", _NONNEGATIVE),
        Quantity("gamma", "mixing coefficient", r"\gamma", _NONNEGATIVE),
        Quantity("degree", "degree of regularization", "q", _NONNEGATIVE),
        Quantity("L", "smoothness constant", "L", _POSITIVE),
        Quantity("mu", "curvature constant", r"\mu", _NONNEGATIVE),
        Quantity("sigma", "noise level", r"\sigma", _NONNEGATIVE),
        Quantity("f_star", "least value", "f^\\star", Interval()),
        Quantity("gap", "initial gap", r"\Delta", _NONNEGATIVE),
        Quantity("distance", "initial distance", "D", _NONNEGATIVE),
        Quantity("hessian_lipschitz", "Lipschitz constant of the Hessian", "M", _NONNEGATIVE),
        Quantity("gradient_norm", "gradient norm", "G", _NONNEGATIVE),
        Quantity("extra_pairs", "extra propagation pairs", "N", _NONNEGATIVE, integer=True),
    )
}


def natural(name: str, value: object, least: int = 0, below: int | None = None) -> int:
    """`value` as an int, where it is an integer with least <= value (< below).

    Raises:
        TypeError: not an integer.
        DomainError: out of range.
    """
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer; got {value!r}")
    number = int(value.__index__())
    if number < least or (below is not None and number >= below):
        limit = f"{least} <= {name}" + (f" < {below}" if below is not None else "")
        raise DomainError(limit, value)
    return number


class Assumption(Enum):
    """What a problem satisfies, or what a run does; a bound lists those that it needs.

    The value of a member is its statement, in Markdown with LaTeX.
    """

    SMOOTH = r"every stochastic gradient $\nabla f(\cdot;\xi)$ is $L$-Lipschitz, for each $\xi$"
    UNBIASED = r"$\mathbb{E}\,\nabla f(x;\xi) = \nabla f(x)$"
    BOUNDED_VARIANCE = r"$\mathbb{E}\|\nabla f(x;\xi) - \nabla f(x)\|^2 \le \sigma^2$ for all $x$"
    BOUNDED_BELOW = r"$f \ge f^\star > -\infty$"
    CONVEX = r"$f$ is convex"
    STRONGLY_CONVEX = r"$f$ is $\mu$-strongly convex, $\mu > 0$"
    POLYAK_LOJASIEWICZ = r"$\|\nabla f(x)\|^2 \ge 2\mu\,(f(x) - f^\star)$ for all $x$, $\mu > 0$"
    NOISELESS = r"$\sigma = 0$: every gradient is exact"
    SUB_GAUSSIAN = (
        r"the noise $n = \nabla f(x;\xi) - \nabla f(x)$ has a covariance proxy $\Sigma$ with "
        r"$\operatorname{tr}\Sigma \le \sigma^2$: "
        r"$\mathbb{E}\exp\langle v, n\rangle \le \exp(\langle v, \Sigma v\rangle/2)$ for all $v$"
    )
    HESSIAN_LIPSCHITZ = r"$\nabla^2 f$ is $M$-Lipschitz"
    SAME_MINIBATCH = r"both pairs of a step see the same $\xi_t$; $\xi_0, \xi_1, \dots$ are independent"
    INDEPENDENT_TRIALS = r"$X_t \sim \mathrm{Bernoulli}(p_t)$, independent of everything else"
    NORMALIZED_ASCENT = r"$y_t = x_t + \rho_t\, g_t/\|g_t\|$, and $y_t = x_t$ where $g_t = 0$"
    UNNORMALIZED_ASCENT = r"$y_t = x_t + \rho_t\, g_t$"

    @property
    def of_the_run(self) -> bool:
        """True where it speaks of how the method is run, not of the objective."""
        return self in _OF_THE_RUN


_OF_THE_RUN = frozenset(
    {
        Assumption.SAME_MINIBATCH,
        Assumption.INDEPENDENT_TRIALS,
        Assumption.NORMALIZED_ASCENT,
        Assumption.UNNORMALIZED_ASCENT,
    }
)


@dataclass(frozen=True)
class ProblemConstants:
    """The constants of an objective that bounds are stated in.

    Attributes:
        L: Lipschitz constant of every stochastic gradient, L > 0.
        mu: strong-convexity constant, or where f is not strongly convex the Polyak-Lojasiewicz constant;
            0 if there is none.
        sigma: square root of the bound on E||g - grad f||^2, over the whole vector; 0 without noise,
            infinity where none holds for all x: then BOUNDED_VARIANCE fails.
        f_star: a lower bound of f, or None where none is known.

    Raises:
        DomainError: a constant outside its domain, or mu > L.
    """

    L: float
    mu: float = 0.0
    sigma: float = 0.0
    f_star: float | None = None

    def __post_init__(self) -> None:
        unbounded = isinstance(self.sigma, float | np.floating) and self.sigma == math.inf
        object.__setattr__(self, "sigma", math.inf if unbounded else QUANTITIES["sigma"].check(self.sigma))
        for key in ("L", "mu"):
            object.__setattr__(self, key, QUANTITIES[key].check(getattr(self, key)))
        if self.f_star is not None:
            object.__setattr__(self, "f_star", QUANTITIES["f_star"].check(self.f_star))
        if self.mu > self.L:
            raise DomainError("curvature constant mu <= L", self.mu)
