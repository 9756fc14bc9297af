"""A potential function found step by step: a bound for any number of steps from programs of one step.

Symbol key as in `rst_theory.certificates.certificate`; w_t the weights of the metric, x+ the next iterate.
With unnormalized ascent everything is homogeneous in f, so for numbers r_t the potential f(x_t) - r_t G_t^2
is carried from one step to the next by

    R_t(r) = min over f with ||grad f(x)|| = 1 of f(x) - E f(x+) + r E ||grad f(x+)||^2,

a program with four points. Proof: `paper_notes/certificates.md#potential`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from rst_theory.certificates.classes import FunctionClass, family
from rst_theory.certificates.program import CertificateError, Linear, Program, product
from rst_theory.certificates.tree import Parameter, Parameters, grow
from rst_theory.notation import QUANTITIES, DomainError, FloatArray, Interval, Quantity, natural
from rst_theory.schedules import sequence

__all__ = ["PotentialCertificate", "certify_by_potential"]

_WEIGHTS = Quantity("weights", "weights", "w", Interval(low=0.0))
_HALVINGS = 60


@dataclass(frozen=True)
class PotentialCertificate:
    """An upper bound on sum_t w_t E||grad f(x_t)||^2, proved by a potential.

    Attributes:
        value: the bound, gap / scale.
        scale: the largest s found with sum_t s w_t E||grad f(x_t)||^2 <= f(x_0) - f*.
        coefficients: r_t, float64 (N,): f(x_t) - f* >= r_t G_t^2 + sum over s' >= t of s w_s' E G_s'^2.
    """

    value: float
    scale: float
    coefficients: FloatArray


def certify_by_potential(
    schedule: Parameter,
    *,
    steps: int,
    eta: Parameter,
    rho: Parameter,
    gamma: Parameter = 1.0,
    function_class: FunctionClass = "smooth",
    L: float = 1.0,
    weights: npt.ArrayLike | None = None,
    gap: float = 1.0,
    points: int = 33,
) -> PotentialCertificate:
    """An upper bound on the weighted squared gradient norm for any number of steps; unnormalized ascent.

    Every distinct step costs `points` programs of a few milliseconds: R_t is concave, so its chords between
    them are below it and the bound holds whatever their number.

    Args:
        schedule: p(t), or a number.
        steps: N >= 1.
        eta: step sizes: a number, an array (N,) or a schedule; likewise rho and gamma.
        rho: radii.
        gamma: mixing coefficients.
        function_class: "smooth" or "convex".
        L: the smoothness constant.
        weights: w_t >= 0, shape (N,), the last one positive; 1/N each unless given.
        gap: f(x_0) - f* <= gap.
        points: how many r each R_t is computed at, at least 2.

    Raises:
        DomainError: a parameter outside its domain.
        CertificateError: no potential of this form proves a bound, or the solver did not converge.
        ImportError: Clarabel is missing.
    """
    N = natural("steps", steps, least=1)
    points = natural("points", points, least=2)
    L, gap = QUANTITIES["L"].check(L), QUANTITIES["gap"].check(gap)
    if function_class not in ("smooth", "convex"):
        raise DomainError("function_class 'smooth' or 'convex'", function_class)
    w = sequence(1 / N if weights is None else weights, N, _WEIGHTS)
    if w[-1] == 0:
        raise DomainError("a last weight > 0", w[-1])
    run = Parameters.of(schedule, N, eta, rho, gamma, "unnormalized")
    grid = np.linspace(-0.5, 0.5, points)  # r_t <= 1/(2 L); below -1/(2 L) the search gives up
    rows = np.column_stack([run.p, run.eta * L, run.rho * L, run.gamma])[:-1]
    distinct, which = np.unique(rows, axis=0, return_inverse=True)
    tables = [_one_step(row, function_class, grid) for row in distinct]
    steps_back = [tables[k] for k in np.ravel(which)[::-1]]

    def coefficients(scale: float) -> FloatArray | None:
        """r_t with s = scale, from the last backwards; None where the grid is left or r_0 < 0."""
        r = [0.5 - scale * w[-1]]
        for table, weight in zip(steps_back, w[-2::-1], strict=True):
            if r[-1] < grid[0]:
                return None
            r.append(float(np.interp(r[-1], grid, table)) - scale * weight)
        return None if r[-1] < 0 else np.array(r[::-1])

    low, high = 0.0, 0.5 / w[-1] + 1 / w.sum()  # f - f* >= G^2/2 at the last point is all there is to give
    best = None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = coefficients(middle)
        low, high = (low, middle) if found is None else (middle, high)
        best = best if found is None else found
    if best is None:
        raise CertificateError(
            "no bound: f(x) - E f(x+) + r E||grad f(x+)||^2 can be negative for every r tried"
        )
    return PotentialCertificate(float(gap * L / low), float(low / L), best / L)


def _one_step(row: FloatArray, function_class: FunctionClass, grid: FloatArray) -> FloatArray:
    """R at the points of the grid; L = 1."""
    run = Parameters(row[[0]], row[[1]], row[[2]], row[[3]], "unnormalized")
    tree = grow(run, 1, minimizer=False, evaluate_last=True, norms={"x": 1.0})
    b, n = tree.used, len(tree.points)
    change, squares = -np.eye(n)[0], np.zeros((b, b))
    for chance, x in tree.levels[1]:
        k = tree.index(x)
        g = tree.gradients[k][:b]
        change[k] += chance
        squares += chance * product(g, g)
    program = Program(b, n, Linear(squares, change), unit=1.0)
    family(function_class, 1.0, 0.0).constrain(program, tree, bounded=False)
    still = np.zeros((b, b))
    program.equal(Linear(still, np.eye(n)[0]), 0.0)
    program.equal(Linear(product(tree.ascents[0][:b], tree.ascents[0][:b]), np.zeros(n)), 1.0)
    values = []
    for r in grid:
        program.objective = Linear(-r * squares, change)
        solution = program.solve()
        if solution is None:
            raise CertificateError("no function of the class satisfies the conditions")
        values.append(-solution.value)
    return np.array(values)
