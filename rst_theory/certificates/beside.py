"""The exact worst case of what a bound speaks of: its metric, over its function class, from its start."""

from __future__ import annotations

from rst_theory.bounds import Parameter, RunBound, settle
from rst_theory.bounds.base import KNOWN_DISTANCE, KNOWN_GAP
from rst_theory.certificates.certificate import Certificate, certify
from rst_theory.certificates.classes import FunctionClass
from rst_theory.notation import Assumption, DomainError, ProblemConstants
from rst_theory.schedules import Schedule

__all__ = ["certify_bound", "class_of"]


def certify_bound(
    bound: RunBound,
    *,
    schedule: Schedule | float,
    steps: int,
    eta: Parameter,
    rho: Parameter,
    constants: ProblemConstants,
    gap: float | None = None,
    distance: float | None = None,
    gamma: Parameter = 1.0,
) -> Certificate:
    """What `bound.evaluate` bounds with these arguments, computed as a semidefinite program.

    Of gap and distance, the program is told what the bound uses. Without noise: a bound that allows it is
    compared at sigma = 0.

    Args:
        bound: whose metric, weights, ascent and function class are asked about.
        schedule: as in `bound.evaluate`, like the others.
        steps: N >= 1, small: the tree of trials has up to 2^N ends.
        eta: step sizes.
        rho: radii.
        constants: of the problem, sigma = 0.
        gap: f(x_0) - f_star > 0.
        distance: ||x_0 - x_star|| > 0.
        gamma: mixing coefficients.

    Raises:
        DomainError: a parameter outside its domain, sigma > 0, or a class without a program.
        CertificateError: as `certify`.
    """
    if constants.sigma > 0:
        raise DomainError("sigma = 0 for a certificate", constants.sigma)
    run = settle(schedule, steps, eta, rho, gamma, constants, gap, distance)
    weights = bound.metric.weights
    function_class = class_of(bound)
    return certify(
        schedule,
        steps=steps,
        eta=run.eta,
        rho=run.rho,
        gamma=run.gamma,
        function_class=function_class,
        ascent=bound.ascent,
        L=constants.L,
        mu=constants.mu if function_class in ("strongly_convex", "pl") else 0.0,
        metric=bound.metric.quantity,  # type: ignore[arg-type]  # checked there
        weights=None if weights is None else weights(run.eta, run.L),
        gap=gap if KNOWN_GAP in bound.domain else None,
        distance=distance if KNOWN_DISTANCE in bound.domain else None,
    )


def class_of(bound: RunBound) -> FunctionClass:
    """The function class that the assumptions of a bound describe.

    Raises:
        DomainError: convex functions with the Polyak-Lojasiewicz inequality, for which there is no program.
    """
    match (
        Assumption.STRONGLY_CONVEX in bound.assumptions,
        Assumption.CONVEX in bound.assumptions,
        Assumption.POLYAK_LOJASIEWICZ in bound.assumptions,
    ):
        case (True, _, _):
            return "strongly_convex"
        case (False, True, False):
            return "convex"
        case (False, False, True):
            return "pl"
        case (False, False, False):
            return "smooth"
    raise DomainError("a function class that has a program", f"{bound.name}: convex with a PL inequality")
