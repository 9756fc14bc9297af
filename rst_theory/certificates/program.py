"""A performance-estimation program in the Gram matrix, assembled directly for Clarabel.

Unknowns: the Gram matrix G >= 0 of the basis vectors, and the values f_i. A scalar product of two vectors
with coefficients a and b is a^T G b, so every interpolation inequality is linear in (G, f); the worst case
is the largest value of a linear objective (Drori & Teboulle 2014; Taylor, Hendrickx & Glineur 2017).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from rst_theory.notation import FloatArray

__all__ = ["RESIDUAL", "CertificateError", "Linear", "Program", "Residuals", "Solution", "product"]

RESIDUAL = 3e-5
"""The largest residual at which a number is given out."""

_CONVERGED = ("Solved", "AlmostSolved")  # the second: short of 1e-8, and judged by the residuals

_TINY = 1e-12  # values below this are rounding, in units of the data

_LARGE = 30  # from this many basis vectors on the supernodal factorization pays


class CertificateError(ArithmeticError):
    """No certificate: the program is unbounded or infeasible, or the solver did not converge."""


class Residuals(NamedTuple):
    """How far a solution is from an optimum, relative to the value; recomputed, not the solver's own.

    Attributes:
        primal: the largest violation of a constraint or of G >= 0, in units of the data, or what all of them
            buy in value, each times its multiplier, if that is more.
        dual: violations of the dual constraints and signs, each times its unknown: what the value lacks to be
            an upper bound.
        gap: |primal value - dual value|.
    """

    primal: float
    dual: float
    gap: float


class _Form(NamedTuple):
    q: FloatArray
    A: Any
    b: FloatArray


def product(a: FloatArray, b: FloatArray) -> FloatArray:
    """The symmetric matrix M with <M, G> = a^T G b; leading axes are broadcast."""
    outer = a[..., :, None] * b[..., None, :]
    return np.asarray((outer + np.swapaxes(outer, -1, -2)) / 2)


class Linear(NamedTuple):
    """A linear function of the unknowns: <M, G> + v^T f."""

    M: FloatArray
    v: FloatArray


@dataclass(frozen=True)
class Solution:
    """An optimum: its value on either side, the unknowns, and the multipliers by name."""

    value: float
    primal_value: float
    gram: FloatArray
    values: FloatArray
    multipliers: dict[Any, float]
    status: str
    residuals: Residuals


@dataclass
class Program:
    """max objective subject to named constraints `function <= limit` and `function = limit`.

    Args:
        basis: b, the number of basis vectors.
        points: n, the number of values f_i.
        objective: what is maximized.
        unit: what residuals are relative to; the value itself unless given.
    """

    basis: int
    points: int
    objective: Linear
    unit: float | None = None
    _names: list[Any] = field(default_factory=list)
    _equal: list[tuple[FloatArray, float]] = field(default_factory=list)
    _blocks: list[Any] = field(default_factory=list)
    _limits: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        j, i = np.tril_indices(self.basis)  # upper triangle, column by column, as the solver wants it
        self._at = (i, j)
        self._scale = np.where(i == j, 1.0, np.sqrt(2.0))

    def at_most(self, names: list[Any], functions: Linear, limit: float = 0.0) -> None:
        """Adds `function <= limit` for a stack of functions: M (k, b, b) and v (k, n), k names."""
        from scipy import sparse

        self._blocks.append(sparse.csr_array(self._rows(functions)))
        self._names.extend(names)
        self._limits.extend([limit] * len(names))

    def equal(self, function: Linear, limit: float) -> None:
        """Adds `function = limit`."""
        self._equal.append((self._rows(function), limit))

    def _rows(self, function: Linear) -> FloatArray:
        triangle = function.M[..., self._at[0], self._at[1]] * self._scale
        return np.concatenate([triangle, function.v], axis=-1)

    def solve(self) -> Solution | None:
        """The optimum; None where the constraints cannot be satisfied.

        Where it is not accurate enough the objective is scaled up once, since the solver's tolerances are
        absolute.

        Raises:
            CertificateError: the program is unbounded, the solver did not converge, or the residuals of its
                answer are larger than `RESIDUAL`.
            ImportError: Clarabel is missing.
        """
        form = self._standard_form()
        found = self._attempt(form, 1.0)
        if found is not None and not _converged(found) and _TINY < abs(found.value) < 1 / _TINY:
            again = self._attempt(form, 4.0 / abs(found.value))
            found = again if again is not None and _converged(again) else found
        if found is not None and not _converged(found):
            raise CertificateError(
                f"the solver did not converge: {found.status}, {found.residuals}, at most {RESIDUAL:g}. "
                "Without a distance a convex worst case may only be approached, as ||x_0 - x*|| grows"
            )
        return found

    def _standard_form(self) -> _Form:
        """Minimize q x subject to A x + slack = b, slack in the cones: 0, nonnegative, semidefinite."""
        from scipy import sparse

        triangle = self._scale.size
        equalities = sparse.csr_array(
            np.reshape([row for row, _ in self._equal], (-1, triangle + self.points))
        )
        cone = sparse.hstack(
            [-sparse.csr_array(sparse.identity(triangle)), sparse.csr_array((triangle, self.points))]
        )
        return _Form(
            q=-self._rows(self.objective),
            A=sparse.vstack([equalities, *self._blocks, cone]).tocsc(),
            b=np.concatenate([[limit for _, limit in self._equal], self._limits, np.zeros(triangle)]),
        )

    def _attempt(self, form: _Form, scale: float) -> Solution | None:
        """The solver's answer to the program with its objective times `scale`, and its residuals."""
        raw = self._run(form, scale)
        status = str(raw.status)
        if status == "PrimalInfeasible":
            return None
        if status in ("DualInfeasible", "AlmostDualInfeasible"):
            raise CertificateError(
                "the worst case is unbounded: the initial condition does not bound the metric "
                f"in this function class (solver status {status})"
            )
        x, z = np.array(raw.x), np.array(raw.z) / scale
        with np.errstate(all="ignore"):  # an answer beyond the floating range has residuals that say so
            return self._judged(form, x, z, status)

    def _judged(self, form: _Form, x: FloatArray, z: FloatArray, status: str) -> Solution:
        """The solver's answer x, and the multipliers z, with their residuals."""
        q, A, b = form
        e, k, triangle = len(self._equal), len(self._names), self._scale.size
        if not (np.isfinite(x).all() and np.isfinite(z).all()):
            raise CertificateError(f"the solver did not converge: {status}, with values that are not finite")
        gram, dual_matrix = self._matrix(x[:triangle]), self._matrix(z[e + k :])
        value, primal = float(b @ z), float(-q @ x)
        slack, signs = (b - A @ x)[: e + k], z[e : e + k]
        violated = max(np.abs(slack[:e]).max(initial=0), -slack[e:].min(initial=0), _negative_part(gram))
        bought = (
            np.abs(z[:e]) @ np.abs(slack[:e])
            + np.maximum(signs, 0) @ np.maximum(-slack[e:], 0)
            + _negative_part(gram) * np.trace(dual_matrix)
        )
        missing = (
            np.abs(q + A.T @ z) @ np.abs(x)
            + np.maximum(-signs, 0) @ np.abs(slack[e:])
            + _negative_part(dual_matrix) * np.trace(gram)
        )
        size = max(abs(value) if self.unit is None else self.unit, _TINY)
        residuals = Residuals(
            float(max(violated, bought) / size), float(missing / size), float(abs(value - primal) / size)
        )
        multipliers = dict(zip(self._names, np.maximum(signs, 0.0).tolist(), strict=True))
        return Solution(value, primal, gram, x[triangle:], multipliers, status, residuals)

    def _run(self, form: _Form, scale: float) -> Any:
        try:
            import clarabel
        except ImportError as error:
            raise ImportError("certificates need Clarabel: pip install 'rst-theory[sdp]'") from error
        from scipy import sparse

        settings = clarabel.DefaultSettings()
        settings.verbose = False
        settings.chordal_decomposition_enable = False  # the matrix is dense
        settings.direct_solve_method = "faer" if self.basis > _LARGE else "qdldl"
        no_quadratic_term = sparse.csc_array((form.q.size, form.q.size))
        cones = [clarabel.ZeroConeT(len(self._equal))] if self._equal else []
        cones += [clarabel.NonnegativeConeT(len(self._names)), clarabel.PSDTriangleConeT(self.basis)]
        try:
            return clarabel.DefaultSolver(
                no_quadratic_term, scale * form.q, form.A, form.b, cones, settings
            ).solve()
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # a panic of the solver is no Exception
                raise CertificateError(f"the solver broke down: {error}") from error
            raise

    def _matrix(self, triangle: FloatArray) -> FloatArray:
        matrix = np.zeros((self.basis, self.basis))
        matrix[self._at] = triangle / self._scale
        return matrix + np.triu(matrix, 1).T


def _converged(found: Solution) -> bool:
    return found.status in _CONVERGED and all(r <= RESIDUAL for r in found.residuals)


def _negative_part(matrix: FloatArray) -> float:
    return max(0.0, -float(np.linalg.eigvalsh(matrix)[0]))
