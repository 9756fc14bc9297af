"""The RST/G-RST update, written once for anything with + and *.

One step at x with step size eta, radius rho, mixing coefficient gamma and trial X (arXiv 2203.09962,
with the gradient-norm-penalty mixture of arXiv 2202.03599):

    g     = grad f(x; xi)                            pair 1
    y     = x + rho g / ||g||   or   x + rho g       the ascent, where X = 1
    g_adv = grad f(y; xi)                            pair 2, same minibatch xi, where X = 1
    d     = (1 - w) g + w g_adv,  w = gamma          the direction where X = 1; d = g where X = 0
    x    <- x - eta d

The same lines run on NumPy arrays (batched: the last axis holds the coordinates), torch tensors,
SymPy scalars and matrices, and PEPit points. Source: `paper_notes/notation.md#update`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, Literal

__all__ = ["ascend", "direction", "step"]

_Ascent = Literal["normalized", "unnormalized"]  # notation.Ascent; this room stands on nothing


def ascend(x: Any, g: Any, rho: Any, ascent: _Ascent = "normalized", norm: Any = None) -> Any:
    """The perturbed point y: x + rho g/||g|| (normalized) or x + rho g (unnormalized).

    Where g = 0 the point is not perturbed: y = x, never NaN.

    Args:
        x: the point, shape (..., d) for arrays.
        g: the gradient at x, same shape.
        rho: the radius, rho >= 0; a number, or broadcastable against x.
        ascent: "normalized" (SAM, arXiv 2010.01412) or "unnormalized" (USAM, arXiv 2206.06232).
        norm: ||g|| where the caller knows it; required for PEPit points, which have no norm to compute.

    Raises:
        ValueError: an unknown kind of ascent.
    """
    if ascent == "normalized":
        return x + rho * _unit(g, norm)
    if ascent == "unnormalized":
        return x + rho * g
    raise ValueError(f"ascent must be 'normalized' or 'unnormalized'; got {ascent!r}")


def direction(g: Any, g_adv: Any, weight: Any) -> Any:
    """The mixed direction (1 - weight) g + weight g_adv; at weight 1 it is g_adv bit for bit.

    Args:
        g: the gradient at the point.
        g_adv: the gradient at the perturbed point, same shape.
        weight: gamma >= 0, one number for the whole batch.
    """
    if weight == 1:
        return g_adv
    return (1 - weight) * g + weight * g_adv


def step(
    x: Any,
    gradient: Callable[[Any], Any],
    perturbed: Any,
    eta: Any,
    rho: Any,
    gamma: Any = 1.0,
    ascent: _Ascent = "normalized",
) -> Any:
    """The next iterate x - eta d.

    Where the trial is 0 the direction is the gradient itself, selected and never computed from the
    perturbed gradient, so that an infinity or NaN in the unused branch cannot leak.

    Args:
        x: the point, shape (..., d).
        gradient: maps points to gradients of one minibatch; called once, and again at the perturbed
            points if any trial is 1.
        perturbed: the trial X: a bool, or a bool array of shape (...,), one for each row of x.
        eta: the step size, eta >= 0.
        rho: the radius, rho >= 0.
        gamma: the mixing coefficient, gamma >= 0.
        ascent: as in `ascend`.

    Raises:
        ValueError: the shape of the trials is not that of the rows of x, or an unknown kind of ascent.
        TypeError: the trials are a list.
    """
    if isinstance(perturbed, list | tuple):
        raise TypeError(f"perturbed must be a bool or an array of bools; got {perturbed!r}")
    g = gradient(x)
    if isinstance(perturbed, bool) or not getattr(perturbed, "ndim", 0):
        mixed = direction(g, gradient(ascend(x, g, rho, ascent)), gamma) if perturbed else g
    elif perturbed.shape != g.shape[:-1]:
        raise ValueError(f"perturbed must have shape {tuple(g.shape[:-1])}; got {tuple(perturbed.shape)}")
    elif not perturbed.any():
        mixed = g
    else:
        mixed = direction(g, gradient(ascend(x, g, rho, ascent)), gamma)
        if not perturbed.all():
            mixed = _library(g).where(perturbed[..., None], mixed, g)
    return x - eta * mixed


def _library(g: Any) -> Any:
    """The module that g belongs to: numpy, torch, sympy or PEPit."""
    return sys.modules.get(type(g).__module__.partition(".")[0])


def _unit(g: Any, norm: Any = None) -> Any:
    """G / ||g||, and g itself where g = 0."""
    if norm is not None:
        return g / norm if norm != 0 else g
    library = _library(g)
    if getattr(library, "__name__", None) in ("numpy", "torch") and g.ndim:
        # Divided by the largest entry first: squares of tiny or huge entries leave the floating range.
        largest = library.amax(abs(g), axis=-1, keepdims=True)
        one = library.ones_like(largest)
        scaled = g / library.where(largest > 0, largest, one)
        length = library.sqrt((scaled * scaled).sum(axis=-1, keepdims=True))
        return scaled / library.where(largest > 0, length, one)
    if hasattr(g, "is_zero_matrix"):
        return g if g.is_zero_matrix else g / g.norm()
    if hasattr(g, "__abs__"):
        return g / abs(g) if g != 0 else g
    raise TypeError(f"normalized ascent on {type(g).__name__} needs the argument norm, the length of g")
