"""One question in units where L = 1, and its performance-estimation program.

With lengths in units of s, f in units of L s^2 and gradients in units of L s, a run of step sizes eta and
radii rho is one of step sizes L eta and radii L rho (unnormalized ascent) or rho/s (normalized), and L = 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from rst_theory.certificates.classes import Family
from rst_theory.certificates.program import Linear, Program, product
from rst_theory.certificates.tree import Parameters, Tree, grow
from rst_theory.notation import FloatArray

__all__ = ["Measured", "Question", "Start", "Units", "in_units"]

Measured = Literal["squared_gradient_norm", "gap", "squared_distance"]


class Start(NamedTuple):
    """What is known of x_0: f(x_0) - f* <= gap, ||x_0 - x*|| <= distance, ||grad f(x_0)|| = gradient_norm."""

    gap: float | None
    distance: float | None
    gradient_norm: float | None


class Units(NamedTuple):
    """The unit of length s, and L."""

    length: float
    L: float

    @property
    def gradient(self) -> float:
        """L s."""
        return self.L * self.length

    @property
    def gap(self) -> float:
        """L s^2."""
        return self.L * self.length**2

    def of(self, quantity: Measured) -> float:
        """The unit of what is measured."""
        return {
            "squared_gradient_norm": self.gradient**2,
            "gap": self.gap,
            "squared_distance": self.length**2,
        }[quantity]


@dataclass(frozen=True)
class Question:
    """What is asked, in units where L = 1.

    Attributes:
        run: the parameters of the method.
        family: the function class.
        quantity: what is measured.
        weights: its weights over t = 0, ..., N.
        start: what is known of x_0. With a gradient norm f is measured from f(x_0), and no least value is in
            sight.
    """

    run: Parameters
    family: Family
    quantity: Measured
    weights: FloatArray
    start: Start

    @property
    def relative(self) -> bool:
        """Whether f is measured from f(x_0), not from f*."""
        return self.start.gradient_norm is not None

    def tree(self, norms: Mapping[str, float] | None = None) -> Tree:
        """The tree of trials down to where the metric looks."""
        if self.start.gradient_norm is not None:
            norms = {"x": self.start.gradient_norm}
        return grow(
            self.run,
            int(np.flatnonzero(self.weights)[-1]),
            minimizer=self.family.minimizer and not self.relative,
            evaluate_last=self.quantity != "squared_distance",
            norms=norms,
        )

    def program(self, tree: Tree) -> Program:
        """The performance-estimation program over the points of the tree."""
        b, n = tree.used, len(tree.points)
        root, origin = tree.labels.index("x"), "x" if self.relative else "*"
        program = Program(b, n, self._objective(tree), unit=1.0 if self.relative else None)
        self.family.constrain(program, tree, bounded=not self.relative)
        if origin in tree.labels:
            program.equal(Linear(np.zeros((b, b)), np.eye(n)[tree.labels.index(origin)]), 0.0)
        if origin == "*" and origin in tree.labels:
            # <g, x - x*> >= |g|^2 by cocoercivity, divided by |g|: it must not be lost as |g| -> 0.
            for k, unit in tree.ascents.items():
                u, x, g = unit[:b], tree.points[k][:b], tree.gradients[k][:b]
                outward = Linear((product(u, g) - product(u, x))[None], np.zeros((1, n)))
                program.at_most([f"outward {tree.labels[k]}"], outward)
        if self.start.gap is not None:
            program.at_most(["gap"], Linear(np.zeros((1, b, b)), np.eye(n)[[root]]), self.start.gap)
        if self.start.distance is not None:
            x = tree.points[root][:b]
            program.at_most(
                ["distance"], Linear(product(x, x)[None], np.zeros((1, n))), self.start.distance**2
            )
        return program

    def _objective(self, tree: Tree) -> Linear:
        b, n = tree.used, len(tree.points)
        M, v = np.zeros((b, b)), np.zeros(n)
        for weight, level in zip(self.weights[: len(tree.levels)], tree.levels, strict=True):
            for chance, x in level if weight > 0 else ():
                if self.quantity == "squared_distance":
                    M += weight * chance * product(x[:b], x[:b])
                elif self.quantity == "gap":
                    v[tree.index(x)] += weight * chance
                else:
                    g = tree.gradients[tree.index(x)][:b]
                    M += weight * chance * product(g, g)
        return Linear(M, v)


def in_units(
    run: Parameters, family: Family, quantity: Measured, weights: FloatArray, start: Start, L: float
) -> tuple[Question, Units]:
    """The question in units where L = 1 and lengths are of order 1, and the units."""
    gap, distance, G = start
    lengths = [math.sqrt(2 * gap / L) if gap else distance or 0.0, G / L if G else 0.0]
    if run.ascent == "normalized":
        lengths.append(float(run.rho.max()))
    units = Units(max(lengths), L)
    settled = replace(
        run,
        # A trial that changes nothing is not branched on.
        p=np.where((run.eta > 0) & (run.rho > 0) & (run.gamma > 0), run.p, 0.0),
        eta=run.eta * L,
        rho=run.rho / units.length if run.ascent == "normalized" else run.rho * L,
    )
    settled_start = Start(
        gap and gap / units.gap, distance and distance / units.length, G and G / units.gradient
    )
    return Question(settled, family, quantity, weights, settled_start), units
