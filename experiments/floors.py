"""Question: how high is the floor of the average squared gradient for p < 1 and 0 < eta L < 1?

Design: constant parameters, gamma = 1, no noise, T -> infinity, in units of L = rho = 1. From above three
bounds: the master bound; the concave majorant of the exact change in one step; and a potential
V = a_0 f(x) + a_1 f(x - eta g) + a quadratic form in the two gradients, chosen by one semidefinite program
over a grid of gradient norms so that E V falls by at least ||g||^2 - z a step. From below two instances in
one dimension: the quadratic of curvature L, exactly, and a window of three parameters, simulated. What is
proved and what is computed: `paper_notes/floors.md`.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import rst_theory as rst
from experiments.pool import spread
from experiments.settings import Size
from rst_theory.bounds import one_step_smooth
from rst_theory.files import write_table
from rst_theory.notation import FloatArray, ProblemConstants
from rst_theory.problems import PiecewiseQuadratic

__all__ = ["majorant_floor", "master_floor", "potential_floor", "quadratic_floor", "run"]

SEED = 20220309
CONSTANTS = ProblemConstants(L=1.0)
STEP_SIZES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)


class Window(NamedTuple):
    """f'' = 1 but for -1 on [begin, end], f'(0) = G: what a search over the three numbers found."""

    G: float
    begin: float
    end: float


WINDOWS: dict[tuple[float, float], Window] = {
    (0.25, 0.05): Window(0.297, 0.02, 0.875),
    (0.25, 0.1): Window(0.062, 0.264, 1.1),
    (0.25, 0.25): Window(0.312, 0.019, 0.851),
    (0.5, 0.05): Window(0.432, 0.025, 0.936),
    (0.5, 0.1): Window(0.347, 0.1, 0.987),
    (0.5, 0.25): Window(0.325, 0.105, 0.949),
    (0.5, 0.5): Window(0.05, 0.262, 1.2),
    (0.75, 0.05): Window(0.474, 0.063, 0.913),
    (0.75, 0.1): Window(0.487, 0.056, 0.903),
    (0.75, 0.25): Window(0.45, 0.093, 0.938),
    (0.75, 0.5): Window(0.575, 0.104, 1.035),
    (0.75, 0.75): Window(0.027, 0.068, 0.975),
}
PROBABILITIES = (0.25, 0.5, 0.75)
COARSEST = 0.25
"""The least eta L at which the grid of gradient norms is fine enough for the potential to be believed."""


def run(size: Size, results: Path) -> Iterator[float]:
    """Write floors.csv and floors.json; yields the share that is done."""
    step_sizes = STEP_SIZES if size.full else STEP_SIZES[1::2]
    tasks = [(p, e, 50 if size.full else 25) for p in PROBABILITIES for e in step_sizes]
    rows: list[dict[str, Any]] = []
    yield from spread(measure, tasks, size.processes, rows)
    write_table(results, "floors", rows)


def measure(p: float, e: float, points: int) -> dict[str, Any]:
    """One row of the table: bounds on the floor from both sides, in units of (L rho)^2."""
    quadratic = quadratic_floor(p, e)
    window, error = window_floor(p, e)
    lower = max(quadratic, window)
    above = {
        "master": master_floor(p, e),
        "majorant": majorant_floor(p, e),
        "potential": converged_potential(p, e, points) if e >= COARSEST else None,
    }
    upper = min(bound for bound in above.values() if bound is not None)
    return {
        "p": p,
        "eta_L": e,
        "small_step_floor": p**2,
        "quadratic": quadratic,
        "window": window,
        "window_error": error,
        "lower": lower,
        **above,
        "upper": upper,
        "ratio": upper / lower,
    }


# From below


def quadratic_floor(p: float, e: float, gamma: float = 1.0) -> float:
    """The stationary E f'(x)^2 of f = x^2/2, at e = 1 its limit from below: `floors.md#quadratic`."""
    q = p * gamma
    return e * q * (gamma - 2 * (1 - e) * q / (1 - (1 - e) * (1 - 2 * p))) / (2 - e)


def window_floor(p: float, e: float) -> tuple[float, float]:
    """The second half of a simulation, and its standard error; 0 where no window was found to be better."""
    if (p, e) not in WINDOWS:
        return 0.0, 0.0
    G, begin, end = WINDOWS[p, e]
    top = G + begin
    problem = PiecewiseQuadratic([begin, end], [top, top - (end - begin)], 1.0, 1.0, start=[0.0])
    T = 4000
    run = rst.simulate(problem, p, steps=T, eta=e, rho=1.0, replicas=256, seed=SEED)
    estimate = run.squared_gradient_norm.weighted(np.where(np.arange(T) < T // 2, 0.0, 2 / T))
    return estimate.mean, estimate.standard_error


# From above


def master_floor(p: float, e: float, gamma: float = 1.0) -> float:
    """The limit of the master bound: the square of the larger root z of a z^2 = u z + c."""
    q, a = p * gamma, e * (1 - e / 2)
    u, c = q * e * abs(1 - e), e**2 * q * gamma / 2
    return float(((u + math.sqrt(u**2 + 4 * a * c)) / (2 * a)) ** 2)


def majorant_floor(p: float, e: float, points: int = 2000) -> float:
    """The largest z at which the concave majorant of z -> the worst change in a step at G^2 = z is >= 0.

    The exact change is proved (`one_step.md#smooth`). The majorant is that of its values on a grid, which
    can only be too small; the proved bound `nonconvex_average_majorant` has the same limit, to five digits.
    """
    z = np.concatenate([[1e-12], np.linspace(0, 1.2 * max(1.0, master_floor(p, e)), points)[1:]])
    change = [
        one_step_smooth.evaluate(p=p, eta=e, rho=1.0, gradient_norm=math.sqrt(x), constants=CONSTANTS)
        for x in z
    ]
    hull: list[int] = []
    for i in range(points):
        while len(hull) > 1 and _below(z, change, hull[-2], hull[-1], i):
            hull.pop()
        hull.append(i)
    above = max(k for k, i in enumerate(hull) if change[i] >= 0)
    i, j = hull[above], hull[above + 1]
    return float(z[i] + (z[j] - z[i]) * change[i] / (change[i] - change[j]))


def _below(z: FloatArray, y: list[float], i: int, j: int, k: int) -> bool:
    """Whether point j lies on or below the chord from i to k."""
    return bool((y[j] - y[i]) * (z[k] - z[i]) <= (y[k] - y[i]) * (z[j] - z[i]))


def potential_floor(p: float, e: float, points: int, gamma: float = 1.0) -> float | None:
    """The least z that a potential shows at a grid of gradient norms: `floors.md#potential`.

    None where the solver did not converge.

    Basis of the Gram matrix: the gradients at x, y, S = x - e g, R (the perturbed step), S' and R' (the
    plain steps from S and R); f has the same six values.
    """
    import cvxpy

    cp: Any = cvxpy  # it has no types
    g, g_y, g_S, g_R, g_S2, g_R2 = basis = np.eye(6)
    a, K, z = cp.Variable(2, nonneg=True), cp.Variable((2, 2), symmetric=True), cp.Variable()

    def quadratic(first: FloatArray, second: FloatArray) -> Any:
        pair = np.stack([first, second])
        return pair.T @ K @ pair

    constraints: list[Any] = []
    change = (1 - p) * quadratic(g_S, g_S2) + p * quadratic(g_R, g_R2) - quadratic(g, g_S)
    values = [-a[0], 0, (1 - p) * a[0] - a[1], p * a[0], (1 - p) * a[1], p * a[1]]
    for G in [*np.linspace(0.01, 1.15, points), 1.5, 2.0, 4.0]:
        S, R = -e * g, -e * ((1 - gamma) * g + gamma * g_y)
        f, Q = _interpolation([0 * g, g / G, S, R, S - e * g_S, R - e * g_R], list(basis))
        multipliers, norm = cp.Variable(len(f), nonneg=True), cp.Variable()
        total = cp.reshape(Q.reshape(len(f), 36).T @ multipliers, (6, 6), order="C")
        constraints += [
            cp.hstack(values) + f.T @ multipliers == 0,
            _symmetric(change + total - norm * np.outer(g, g)) << 0,
            (e + norm) * G**2 <= e * z,  # V is scaled by e, which keeps its numbers of the order of 1
        ]
    # V is bounded below: f >= f* + ||grad f||^2/2 at x and S.
    f, Q = _interpolation([np.zeros(2), np.array([-e, 0.0])], list(np.eye(2)))
    f = np.concatenate([f, np.eye(2)])
    Q = np.concatenate([Q, [-np.diag([0.5, 0.0]), -np.diag([0.0, 0.5])]])
    multipliers = cp.Variable(len(f), nonneg=True)
    total = cp.reshape(Q.reshape(len(f), 4).T @ multipliers, (2, 2), order="C")
    constraints += [a == f.T @ multipliers, _symmetric(K - total) >> 0]
    program = cp.Problem(cp.Minimize(z), constraints)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # an inaccurate solution is not used
        program.solve(solver="CLARABEL")
    return float(z.value) if program.status == "optimal" else None


def converged_potential(p: float, e: float, points: int) -> float | None:
    """The same on the finest grid, of at most `points`, on which the solver converges."""
    found = (potential_floor(p, e, n) for n in range(points, 20, -4))
    return next((z for z in found if z is not None), None)


def _symmetric(matrix: Any) -> Any:
    return (matrix + matrix.T) / 2


def _interpolation(points: list[FloatArray], gradients: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """The conditions of 1-smooth interpolation, f_i - f_j + <Q_ij, Gram> >= 0: coefficients of f, and Q."""
    f, Q = [], []
    for i, (x, g) in enumerate(zip(points, gradients, strict=True)):
        for j, (y, h) in enumerate(zip(points, gradients, strict=True)):
            if i != j:
                cross = np.outer(g + h, x - y)
                squares = np.outer(x - y, x - y) - np.outer(g - h, g - h)
                f.append(np.eye(len(points))[i] - np.eye(len(points))[j])
                Q.append(squares / 4 - (cross + cross.T) / 4)
    return np.array(f), np.array(Q)
