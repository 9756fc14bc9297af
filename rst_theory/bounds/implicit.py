"""The implicit objective: what the mean direction of RST descends, to first order in the radius.

    E d = grad(f + q rho ||grad f||) + remainder          normalized ascent, where grad f(x) is not 0
    E d = grad(f + (q rho/2) ||grad f||^2) + remainder    unnormalized ascent

So to first order the degree q and the radius rho act through their product alone, the strength
kappa = q rho; these functions say how far that holds. Proofs: `paper_notes/implicit_objective.md`. Symbol
key in `rst_theory.bounds.base`, and: M the Lipschitz constant of the Hessian, kappa = q rho.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from rst_theory.notation import QUANTITIES, Ascent, DomainError, FloatArray, Interval, Quantity

__all__ = [
    "implicit_gradient",
    "logistic_hessian_lipschitz",
    "remainder_bound",
    "same_strength_bound",
    "trial_variance",
]

_M = Quantity("M", "Lipschitz constant of the Hessian", "M", Interval(low=0.0))
_STRENGTH = Quantity("strength", "strength of regularization", r"\kappa", Interval(low=0.0))


def implicit_gradient(
    gradient: npt.ArrayLike,
    hessian_gradient: npt.ArrayLike,
    strength: float,
    ascent: Ascent = "normalized",
) -> FloatArray:
    """The gradient of the implicit objective: g + kappa H g/||g||, or g + kappa H g where unnormalized.

    Args:
        gradient: g = grad f(x), shape (..., d).
        hessian_gradient: the product H g of the Hessian at x with it, same shape.
        strength: kappa = q rho >= 0.
        ascent: "normalized" or "unnormalized".

    Returns:
        float64 (..., d); where g = 0 it is 0, as the method does not move there.

    Raises:
        ValueError: shapes that differ, or an unknown kind of ascent.
        DomainError: kappa < 0.
    """
    g, Hg = np.asarray(gradient, dtype=np.float64), np.asarray(hessian_gradient, dtype=np.float64)
    if g.shape != Hg.shape or g.ndim == 0:
        raise ValueError(f"two arrays of one shape (..., d); got shapes {g.shape} and {Hg.shape}")
    kappa = _STRENGTH.check(strength)
    if ascent == "unnormalized":
        return np.asarray(g + kappa * Hg)
    _require_ascent(ascent)
    norm = np.hypot.reduce(g, axis=-1, keepdims=True)  # no tiny gradient underflows to 0
    return np.asarray(g + kappa * np.divide(Hg, norm, out=np.zeros_like(g), where=norm > 0))


def remainder_bound(
    q: float, rho: float, M: float, ascent: Ascent = "normalized", gradient_norm: float | None = None
) -> float:
    """The largest distance of the mean direction from the implicit gradient: q M rho^2/2.

    With unnormalized ascent it is multiplied by ||grad f(x)||^2. Attained by f(x) = x^2/2 + M x^3/6 at
    x > 0.

    Args:
        q: the degree of regularization p gamma, >= 0.
        rho: the radius, >= 0.
        M: the Lipschitz constant of the Hessian, >= 0; of every f(.; xi) where gradients are noisy.
        ascent: "normalized" or "unnormalized".
        gradient_norm: ||grad f(x)||, needed with unnormalized ascent alone.

    Raises:
        ValueError: an unknown kind of ascent.
        DomainError: a number outside its domain, or no gradient norm where it is needed.
    """
    strength = QUANTITIES["degree"].check(q) * QUANTITIES["rho"].check(rho)
    return same_strength_bound(strength, (rho, 0.0), M, ascent, gradient_norm)


def same_strength_bound(
    strength: float,
    radii: tuple[float, float],
    M: float,
    ascent: Ascent = "normalized",
    gradient_norm: float | None = None,
) -> float:
    """The largest distance between the mean directions of two settings that share kappa = q rho.

    It is kappa M |rho_1 - rho_2|/2, times ||grad f(x)||^2 with unnormalized ascent; radius 0 stands for
    the implicit gradient itself, the limit of small radii. Attained as in `remainder_bound`.

    Args:
        strength: kappa >= 0.
        radii: rho_1, rho_2 >= 0; the degrees are kappa/rho_1 and kappa/rho_2.
        M: the Lipschitz constant of the Hessian, >= 0.
        ascent: "normalized" or "unnormalized".
        gradient_norm: ||grad f(x)||, needed with unnormalized ascent alone.

    Raises:
        ValueError: an unknown kind of ascent.
        DomainError: a number outside its domain, or no gradient norm where it is needed.
    """
    first, second = (QUANTITIES["rho"].check(radius) for radius in radii)
    bound = _STRENGTH.check(strength) * _M.check(M) * abs(first - second) / 2
    if ascent == "normalized":
        return bound
    _require_ascent(ascent)
    if gradient_norm is None:
        raise DomainError("gradient_norm given, since the ascent is unnormalized", None)
    return bound * QUANTITIES["gradient_norm"].check(gradient_norm) ** 2


def trial_variance(p: float, gamma: float, difference: npt.ArrayLike) -> FloatArray:
    """The variance that the trial gives the direction: p (1 - p) gamma^2 ||g_adv - g||^2, exactly.

    It is the trace of the covariance of d given the point and the minibatch. At a given strength it is
    kappa^2 (1/p - 1) ||H g||^2/||g||^2 to leading order in the radius.

    Args:
        p: probability of the perturbed step, in [0, 1].
        gamma: mixing coefficient, >= 0.
        difference: g_adv - g, shape (..., d).

    Returns:
        float64 (...).

    Raises:
        DomainError: p or gamma outside its domain.
    """
    p, gamma = QUANTITIES["p"].check(p), QUANTITIES["gamma"].check(gamma)
    squared = (np.asarray(difference, dtype=np.float64) ** 2).sum(axis=-1)
    return np.asarray(p * (1 - p) * gamma**2 * squared)


def logistic_hessian_lipschitz(features: npt.ArrayLike, minibatches: bool = False) -> float:
    """M of `problems.LogisticRegression` with these features, regularized or not.

    The largest third derivative of log(1 + e^-u) is 1/(6 sqrt 3), so M = lambda_max(mean_i ||a_i|| a_i
    a_i^T)/(6 sqrt 3), and max_i ||a_i||^3/(6 sqrt 3) for every minibatch at once.

    Args:
        features: the rows a_i, shape (n, d).
        minibatches: whether M is to hold for every f(.; xi), and not for f alone.

    Raises:
        ValueError: features of another shape.
    """
    a = np.asarray(features, dtype=np.float64)
    if a.ndim != 2 or a.size == 0:
        raise ValueError(f"features must have shape (n, d), not empty; got shape {a.shape}")
    length = np.linalg.norm(a, axis=1)
    cubed = length.max() ** 3 if minibatches else np.linalg.eigvalsh((a.T * length) @ a / len(a))[-1]
    return float(cubed) / (6 * math.sqrt(3))


def _require_ascent(ascent: str) -> None:
    if ascent not in ("normalized", "unnormalized"):
        raise ValueError(f"ascent must be 'normalized' or 'unnormalized'; got {ascent!r}")
