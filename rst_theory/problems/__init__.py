"""Objectives with proved constants: smoothness L, curvature mu, gradient noise sigma, least value f*.

Each class proves its constants in its docstring. `BY_NAME` makes a problem of usual size from a short
name, for the command line.
"""

from __future__ import annotations

from collections.abc import Callable

from rst_theory.problems.base import Minibatch, Problem, Randomness
from rst_theory.problems.dense import DenseQuadratic
from rst_theory.problems.floor import FloorInstance
from rst_theory.problems.form import Coupled, Form, InTorch, Plain, Separable
from rst_theory.problems.least_squares import LeastSquares
from rst_theory.problems.logistic import LogisticRegression
from rst_theory.problems.nonconvex import FlatAndSharp, Minimum, PiecewiseQuadratic, RippledQuadratic
from rst_theory.problems.own import FromFunctions
from rst_theory.problems.quadratic import Quadratic

__all__ = [
    "BY_NAME",
    "Coupled",
    "DenseQuadratic",
    "FlatAndSharp",
    "FloorInstance",
    "Form",
    "FromFunctions",
    "InTorch",
    "LeastSquares",
    "LogisticRegression",
    "Minibatch",
    "Minimum",
    "PiecewiseQuadratic",
    "Plain",
    "Problem",
    "Quadratic",
    "Randomness",
    "RippledQuadratic",
    "Separable",
]

BY_NAME: dict[str, Callable[[], Problem]] = {
    "quadratic": lambda: Quadratic.random(20, L=1.0, mu=0.01, noise=0.1),
    "flat-and-sharp": lambda: FlatAndSharp(dimension=10, noise=0.1),
    "rippled": lambda: RippledQuadratic(dimension=10, noise=0.1),
    "least-squares": lambda: LeastSquares.random(200, 10, batch=16),
    "logistic": lambda: LogisticRegression.breast_cancer(batch=16),
}
"""A problem of usual size for each short name; the logistic one needs scikit-learn."""
