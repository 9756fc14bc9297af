"""Certificates: the worst case of N steps over a function class, computed and checked.

Symbol key: N steps; at step t the probability p, step size eta, radius rho, mixing coefficient gamma; L, mu
the constants of the class; gap = f(x_0) - f*, distance = ||x_0 - x*||, G = ||grad f(x_0)||. Inside, units are
such that L = 1 and lengths are of order 1. Statement and proofs: `paper_notes/certificates.md`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from rst_theory import display
from rst_theory.certificates.classes import FunctionClass, family
from rst_theory.certificates.interpolant import Interpolant
from rst_theory.certificates.norms import answer, coordinates, meet, search
from rst_theory.certificates.program import CertificateError, Residuals
from rst_theory.certificates.question import Measured, Start, in_units
from rst_theory.certificates.tree import Parameter, Parameters
from rst_theory.notation import QUANTITIES, Ascent, DomainError, FloatArray, Interval, Quantity, natural
from rst_theory.schedules import sequence

__all__ = ["METRICS", "Certificate", "Kind", "MetricName", "certify"]

MetricName = Literal[
    "squared_gradient_norm", "gap", "squared_distance", "final_gap", "final_squared_distance", "change"
]
Kind = Literal["exact", "upper"]

METRICS: tuple[MetricName, ...] = get_args(MetricName)

_ASCENTS: tuple[Ascent, ...] = get_args(Ascent)
_WEIGHTS = Quantity("weights", "weights", "w", Interval(low=0.0))


@dataclass(frozen=True, repr=False)
class Certificate:
    """A worst case, with what shows that it is one.

    Attributes:
        value: the worst case; an upper bound of it where `kind` is "upper". It is the dual value, which weak
            duality makes an upper bound up to the residuals.
        kind: "exact", or "upper" where a relaxation or an uncertified search was needed.
        lower: the value that the worst function below attains, or approaches where the norm of a perturbed
            gradient tends to 0; None where none is known.
        metric: what was maximized.
        status: the solver's own.
        residuals: how much the value can be wrong, recomputed from the program.
        multipliers: of the interpolation inequalities, each >= 0, keyed by the names (i, j) of the two
            points. In the classes "smooth" and "pl" the key ("*", i) is that of f_i - |g_i|^2/(2 L) >= f*,
            and ("pl", i) that of |g_i|^2 >= 2 mu (f_i - f*). With normalized ascent they are those of the
            program that gave `lower`.
        conditions: the multipliers of the initial conditions, "gap" and "distance"; with unnormalized ascent
            the value is the sum of gap * multiplier and distance^2 * multiplier.
        labels: names of the n points: "x" is x_0, "x01" is x_2 after the trials 0 and 1, "y01" the ascent
            point above it, "*" the minimizer.
        points: of the worst function, float64 (n, d).
        gradients: there, float64 (n, d).
        values: there, float64 (n,), f* = 0 (f(x_0) = 0 for the metric "change").
        L: the smoothness constant.
        curvature: the least curvature of the class.
    """

    value: float
    kind: Kind
    lower: float | None
    metric: MetricName
    status: str
    residuals: Residuals
    multipliers: Mapping[tuple[str, str], float]
    conditions: Mapping[str, float]
    labels: tuple[str, ...]
    points: FloatArray
    gradients: FloatArray
    values: FloatArray
    L: float
    curvature: float

    @property
    def exact(self) -> bool:
        """Whether the value is the worst case itself, up to the tolerance of the solver."""
        return self.kind == "exact"

    def __repr__(self) -> str:
        return f"<Certificate: {self.metric} <= {self.value:.4g}, {self.kind}, {len(self.labels)} points>"

    def _repr_html_(self) -> str:
        rows = [
            ("worst case", display.number(self.value)),
            ("kind", self.kind),
            ("attained", "no function known" if self.lower is None else display.number(self.lower)),
            ("points", display.joined(map(display.code, self.labels[:12]), " ")),
            ("solver", f"{self.status}, residuals up to {max(self.residuals):.1e}"),
        ]
        return display.table(rows, title=f"Certificate: {self.metric.replace('_', ' ')}")

    def worst_function(self) -> Interpolant:
        """A function of the class on which the method attains `lower`, started from x_0.

        Raises:
            CertificateError: no function is known to attain the value.
        """
        if self.lower is None:
            raise CertificateError("the program was a relaxation: no function need attain its value")
        return Interpolant(
            self.points,
            self.gradients,
            self.values,
            L=self.L,
            curvature=self.curvature,
            f_star=None if self.metric == "change" else 0.0,
            start=self.points[self.labels.index("x")],
            minimizer=self.points[self.labels.index("*")] if "*" in self.labels else None,
        )


def certify(
    schedule: Parameter,
    *,
    steps: int,
    eta: Parameter,
    rho: Parameter,
    gamma: Parameter = 1.0,
    function_class: FunctionClass = "smooth",
    ascent: Ascent = "unnormalized",
    L: float = 1.0,
    mu: float = 0.0,
    metric: MetricName = "squared_gradient_norm",
    weights: npt.ArrayLike | None = None,
    gap: float | None = None,
    distance: float | None = None,
    gradient_norm: float | None = None,
    programs: int | None = None,
) -> Certificate:
    """The worst case of a metric after N noiseless steps, over a class of functions in any dimension.

    The whole tree of trials is one semidefinite program, since all its points are points of the same f. With
    unnormalized ascent it is exact for the first three classes. With normalized ascent the metric "change" is
    exact; else the gradient norms at the perturbed points are searched by branch and bound, and the result is
    exact where its two bounds meet to 1e-4 relative, as they mostly do where one point alone is perturbed.

    Args:
        schedule: p(t), or a number.
        steps: N >= 1.
        eta: step sizes: a number, an array (N,) or a schedule; likewise rho and gamma.
        rho: radii.
        gamma: mixing coefficients.
        function_class: "smooth" (f >= f*), "convex" or "strongly_convex" (with a minimizer x*), all
            L-smooth; "pl": smooth with ||grad f||^2 >= 2 mu (f - f*), an upper bound.
        ascent: "unnormalized" or "normalized".
        L: the smoothness constant.
        mu: 0 < mu < L for "strongly_convex" and "pl", else 0.
        metric: "squared_gradient_norm", "gap" (f - f*) or "squared_distance" (to x*): sum of w_t E over
            t = 0, ..., N-1; "final_gap" or "final_squared_distance": at x_N; "change": E f(x_1) - f(x_0), one
            step.
        weights: w_t >= 0, shape (N,); 1/N each unless given.
        gap: f(x_0) - f* <= gap; 1 where neither gap nor distance is given. Positive.
        distance: ||x_0 - x*|| <= distance, in the convex classes. Positive.
        gradient_norm: ||grad f(x_0)||, for "change" and for it alone. Positive.
        programs: how many boxes of gradient norms the search may look into, two to four programs each; at
            least 1. Unless given 300 for one perturbed point, 100 for two or three, 1 beyond.

    Raises:
        DomainError: a parameter outside its domain, or a combination that is not defined.
        ValueError: an unknown function class, metric or kind of ascent, or an array of another length than N.
        CertificateError: the worst case is unbounded, or the solver did not converge.
        ImportError: Clarabel is missing.
    """
    N = natural("steps", steps, least=1)
    L, mu = QUANTITIES["L"].check(L), QUANTITIES["mu"].check(mu)
    programs = None if programs is None else natural("programs", programs, least=1)
    if ascent not in _ASCENTS:
        raise ValueError(f"ascent must be one of {', '.join(_ASCENTS)}; got {ascent!r}")
    kind = family(function_class, L, mu)
    quantity, w = _measure(metric, weights, N)
    if not kind.convex and (distance is not None or quantity == "squared_distance"):
        raise DomainError("a convex function class, where distances to x* are concerned", function_class)
    start = _start(metric, N, gap, distance, gradient_norm)
    run = Parameters.of(schedule, N, eta, rho, gamma, ascent)
    question, units = in_units(run, kind, quantity, w, start, L)
    one_program = ascent == "unnormalized" or question.relative
    found = answer(question) if one_program else search(question, programs)
    solution, tree, unit = found.solution, found.tree, units.of(quantity)
    x, g = coordinates(solution.gram, tree)
    relaxed = function_class == "pl"
    scales = {"gap": units.gap, "distance": units.length**2}
    return Certificate(
        value=unit * found.upper,
        kind="exact" if not relaxed and (one_program or meet(found.upper, found.lower)) else "upper",
        lower=None if relaxed else unit * found.lower,
        metric=metric,
        status=solution.status,
        residuals=solution.residuals,
        multipliers={
            name: unit / units.gap * z for name, z in solution.multipliers.items() if isinstance(name, tuple)
        },
        conditions={
            name: unit / scale * solution.multipliers[name]
            for name, scale in scales.items()
            if name in solution.multipliers
        },
        labels=tuple(tree.labels),
        points=units.length * x,
        gradients=units.gradient * g,
        values=units.gap * solution.values,
        L=L,
        curvature=L * kind.curvature,
    )


def _measure(metric: MetricName, weights: npt.ArrayLike | None, N: int) -> tuple[Measured, FloatArray]:
    """What is measured, and its weights over t = 0, ..., N."""
    if metric not in METRICS:
        raise ValueError(f"metric must be one of {', '.join(METRICS)}; got {metric!r}")
    if metric in ("squared_gradient_norm", "gap", "squared_distance"):
        w = sequence(1 / N if weights is None else weights, N, _WEIGHTS)
        if not w.any():
            raise DomainError("a weight > 0", w)
        return metric, np.append(w, 0.0)
    if weights is not None:
        raise DomainError(f"no weights with the metric {metric!r}, which looks at one point", weights)
    return "squared_distance" if metric == "final_squared_distance" else "gap", np.append(np.zeros(N), 1.0)


def _start(
    metric: MetricName, N: int, gap: float | None, distance: float | None, gradient_norm: float | None
) -> Start:
    """What is known of x_0, checked."""
    if (metric == "change") != (gradient_norm is not None) or (metric == "change" and N > 1):
        raise DomainError(
            "gradient_norm given with metric 'change' and steps = 1, and with nothing else",
            f"metric {metric!r}, steps {N}, gradient_norm {gradient_norm}",
        )
    if gradient_norm is not None:
        if gap is not None or distance is not None:
            raise DomainError(
                "no gap and no distance beside gradient_norm", f"gap {gap}, distance {distance}"
            )
        return Start(None, None, _positive("gradient_norm", gradient_norm))
    if gap is None and distance is None:
        gap = 1.0
    return Start(
        gap if gap is None else _positive("gap", gap),
        distance if distance is None else _positive("distance", distance),
        None,
    )


def _positive(key: str, value: Any) -> float:
    number = QUANTITIES[key].check(value)
    if number == 0:
        raise DomainError(f"{QUANTITIES[key].name} {key} > 0 (at 0 nothing moves)", value)
    return number
