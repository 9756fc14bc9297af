"""The function classes, as inequalities between what a function shows at finitely many points.

Curvature in [m, L]: m = -L for smooth functions, 0 for convex ones, mu for strongly convex ones. Data
(x_i, g_i, f_i) are those of such a function if and only if for all i, j (Taylor, Hendrickx & Glineur,
arXiv 1502.05666, Theorem 4; for m = -L its proof applies to f + L |x|^2/2)

    f_i >= f_j + <g_j, dx> + (|dg|^2/L + m |dx|^2 - 2 (m/L) <dg, dx>) / (2 (1 - m/L)),

dx = x_i - x_j, dg = g_i - g_j. For m = -L, f* <= f_i - |g_i|^2/(2 L) for all i besides is necessary and
sufficient for f >= f* (Drori & Shamir, arXiv 1910.01845). Proofs: `paper_notes/certificates.md#classes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from rst_theory.certificates.program import Linear, Program, product
from rst_theory.certificates.tree import Tree
from rst_theory.notation import DomainError

__all__ = ["CLASSES", "Family", "FunctionClass", "family"]

FunctionClass = Literal["smooth", "convex", "strongly_convex", "pl"]

CLASSES: tuple[FunctionClass, ...] = get_args(FunctionClass)


@dataclass(frozen=True)
class Family:
    """A function class with L = 1.

    Attributes:
        name: which class.
        curvature: m, the least curvature.
        mu: the strong-convexity or Polyak-Lojasiewicz constant, as a part of L.
    """

    name: FunctionClass
    curvature: float
    mu: float

    @property
    def convex(self) -> bool:
        """Whether every function of the class is convex."""
        return self.curvature >= 0

    @property
    def minimizer(self) -> bool:
        """Whether a minimizer x* is a point of the program."""
        return self.convex or self.name == "pl"

    def constrain(self, program: Program, tree: Tree, bounded: bool) -> None:
        """Adds the inequalities of the class at the points of the tree; `bounded` means f >= 0."""
        n = program.points
        for i in range(n):
            others = [j for j in range(n) if j != i]
            if others:
                names = [(tree.labels[i], tree.labels[j]) for j in others]
                program.at_most(names, self._interpolation(program, tree, i, others))
        if bounded and not self.convex:
            named = [i for i, label in enumerate(tree.labels) if label != "*"]
            g, v = tree.coefficients()[1][named], np.eye(n)[named]
            labels = [tree.labels[i] for i in named]
            program.at_most([("*", label) for label in labels], Linear(product(g, g) / 2, -v))
            if self.name == "pl":
                program.at_most(
                    [("pl", label) for label in labels], Linear(-product(g, g) / (2 * self.mu), v)
                )

    def _interpolation(self, program: Program, tree: Tree, i: int, others: list[int]) -> Linear:
        """f_j + <g_j, dx> + ... - f_i for the points j, to be at most 0."""
        m = self.curvature
        x, g = tree.coefficients()
        dx, dg = x[i] - x[others], g[i] - g[others]
        curved = product(dg, dg) + m * product(dx, dx) - 2 * m * product(dg, dx)
        v = np.zeros((len(others), program.points))
        v[range(len(others)), others] = 1.0
        v[:, i] = -1.0
        return Linear(product(g[others], dx) + curved / (2 * (1 - m)), v)


def family(name: FunctionClass, L: float, mu: float) -> Family:
    """The class in units where L = 1.

    Raises:
        ValueError: an unknown class.
        DomainError: mu = 0 where the class needs mu > 0, mu > 0 where it has none, or mu >= L.
    """
    if name not in CLASSES:
        raise ValueError(f"function_class must be one of {', '.join(CLASSES)}; got {name!r}")
    if name in ("strongly_convex", "pl"):
        if not 0 < mu < L:
            raise DomainError(f"curvature constant 0 < mu < L = {L:g}", mu)
    elif mu != 0:
        raise DomainError(f"mu = 0 in the class {name!r}, which has no such constant", mu)
    curvature = {"smooth": -1.0, "convex": 0.0, "strongly_convex": mu / L, "pl": -1.0}[name]
    return Family(name, curvature, mu / L)
