"""The binary tree of trials, its points written as vectors of coefficients in a common basis.

The basis holds the gradients at the points where f is evaluated (and x_0 - x* where a minimizer is named, and
the directions of normalized ascent). Every point of the method is a combination of these, so the update of
`rst_theory.method` runs on the coefficients, and the tree is the same for every objective.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self, TypeAlias

import numpy as np
import numpy.typing as npt

from rst_theory.method import ascend, direction
from rst_theory.notation import QUANTITIES, Ascent, DomainError, FloatArray
from rst_theory.schedules import Schedule, sequence

__all__ = ["MOST_POINTS", "Parameter", "Parameters", "Tree", "grow"]

Parameter: TypeAlias = "float | npt.ArrayLike | Schedule"

MOST_POINTS = 128
"""The largest number of basis vectors of one program: beyond it memory and time are out of proportion."""

_EQUAL = 1e-12  # coefficients closer than this, relative to their size, are one point


@dataclass(frozen=True)
class Parameters:
    """The sequences of one run, each float64 (N,), and the kind of ascent."""

    p: FloatArray
    eta: FloatArray
    rho: FloatArray
    gamma: FloatArray
    ascent: Ascent

    @classmethod
    def of(
        cls,
        schedule: Parameter,
        steps: int,
        eta: Parameter,
        rho: Parameter,
        gamma: Parameter,
        ascent: Ascent,
    ) -> Self:
        """The arguments of a certificate as checked arrays.

        Raises:
            DomainError: a value outside the domain of its quantity, with its t.
            ValueError: an array of another length than the number of steps.
        """
        given = {"p": schedule, "eta": eta, "rho": rho, "gamma": gamma}
        arrays = {key: sequence(value, steps, QUANTITIES[key]) for key, value in given.items()}
        return cls(**arrays, ascent=ascent)


@dataclass
class Tree:
    """Where f is evaluated, and where the iterates are.

    A point is named by its trials: "x" is x_0, "x01" is x_2 after the trials 0 and 1, "y01" the ascent point
    above it, "*" the minimizer. Points that coincide are one, under the first name.

    Attributes:
        basis: the length of the vectors.
        used: the number of basis vectors in use; coefficients beyond it are 0.
        labels: the names of the n points where f is evaluated.
        points: their coefficients, each float64 (basis,).
        gradients: the coefficients of the gradients there.
        levels: for each t the iterates x_t as (probability, coefficients).
        ascents: the coefficients of the unit vector along the gradient, by the index of the point, where that
            vector is in the basis.
    """

    basis: int
    labels: list[str] = field(default_factory=list)
    points: list[FloatArray] = field(default_factory=list)
    gradients: list[FloatArray] = field(default_factory=list)
    levels: list[list[tuple[float, FloatArray]]] = field(default_factory=list)
    ascents: dict[int, FloatArray] = field(default_factory=dict)
    used: int = 0

    def fresh(self) -> FloatArray:
        """A basis vector not used before."""
        vector = np.zeros(self.basis)
        vector[self.used] = 1.0
        self.used += 1
        return vector

    def find(self, x: FloatArray) -> int | None:
        """The index of the point x among those where f is evaluated."""
        return next((i for i, other in enumerate(self.points) if _same(x, other)), None)

    def index(self, x: FloatArray) -> int:
        """The index of a point where f is evaluated.

        Raises:
            KeyError: it is not.
        """
        found = self.find(x)
        if found is None:
            raise KeyError("f is not evaluated at this point")
        return found

    def coefficients(self) -> tuple[FloatArray, FloatArray]:
        """Points and gradients, float64 (n, used) each."""
        return np.array(self.points)[:, : self.used], np.array(self.gradients)[:, : self.used]

    def evaluate(self, x: FloatArray, label: str, norm: float | None = None) -> int:
        """The index of x; if f was not evaluated there its gradient is new, of a known norm or a free one."""
        known = self.find(x)
        if known is not None:
            return known
        unit = self.fresh()
        self._add(label, x, unit if norm is None else norm * unit)
        if norm is not None:
            self.ascents[len(self.points) - 1] = unit
        return len(self.points) - 1

    def add_minimizer(self) -> None:
        """The minimizer, at the origin, its gradient 0."""
        self._add("*", np.zeros(self.basis), np.zeros(self.basis))

    def _add(self, label: str, x: FloatArray, g: FloatArray) -> None:
        self.labels.append(label)
        self.points.append(x)
        self.gradients.append(g)


def _same(x: FloatArray, y: FloatArray) -> bool:
    return bool(np.abs(x - y).max(initial=0.0) <= _EQUAL * max(1.0, np.abs(x).max(initial=0.0)))


def grow(
    run: Parameters,
    depth: int,
    *,
    minimizer: bool,
    evaluate_last: bool,
    norms: Mapping[str, float] | None = None,
) -> Tree:
    """The tree of all trials down to x_depth.

    Args:
        run: the parameters, `depth` of them used.
        depth: the last t whose iterates are wanted.
        minimizer: whether x* is a point of the tree; it is the origin then, and x_0 is otherwise.
        evaluate_last: whether f is evaluated at the last iterates.
        norms: gradient norms by the names of points. With normalized ascent a perturbed point whose norm is
            not given has a unit vector of its own, not tied to its gradient.

    Raises:
        DomainError: more than `MOST_POINTS` basis vectors.
    """
    branches = np.where((run.p[:depth] > 0) & (run.p[:depth] < 1), 2.0, 1.0)
    width = np.concatenate([[1.0], np.cumprod(branches)])
    basis = 1 + (3 if run.ascent == "normalized" else 2) * width[:-1].sum() + width[-1]
    tree = Tree(basis=int(min(basis, 3 * MOST_POINTS)))
    root = tree.fresh() if minimizer else np.zeros(tree.basis)
    if minimizer:
        tree.add_minimizer()
    tree.evaluate(root, "x", None if norms is None else norms.get("x"))
    level = [(1.0, root, "")]
    for t in range(depth + 1):
        tree.levels.append([(chance, x) for chance, x, _ in level])
        if t < depth:
            level = [child for node in level for child in _children(tree, run, t, *node, norms)]
        elif evaluate_last:
            for _, x, path in level:
                tree.evaluate(x, f"x{path}", None if norms is None else norms.get(f"x{path}"))
        if tree.used > MOST_POINTS:
            raise DomainError(f"at most {MOST_POINTS} evaluations of f in the tree of trials", tree.used)
    return tree


def _children(
    tree: Tree,
    run: Parameters,
    t: int,
    chance: float,
    x: FloatArray,
    path: str,
    norms: Mapping[str, float] | None,
) -> list[tuple[float, FloatArray, str]]:
    """The iterates after the trial at x, with their probabilities and names."""
    p, eta, rho, gamma = (float(s[t]) for s in (run.p, run.eta, run.rho, run.gamma))
    node = tree.evaluate(x, f"x{path}", None if norms is None else norms.get(f"x{path}"))
    g = tree.gradients[node]
    children = []
    if p < 1:
        children.append((chance * (1 - p), x - eta * g, f"{path}0"))
    if p > 0:
        along = g
        if run.ascent == "normalized":
            if node not in tree.ascents:
                tree.ascents[node] = tree.fresh()
            along = tree.ascents[node]
        y = ascend(x, along, rho, run.ascent, norm=1.0)
        g_adv = tree.gradients[tree.evaluate(y, f"y{path}")]
        children.append((chance * p, x - eta * direction(g, g_adv, gamma), f"{path}1"))
    return children
