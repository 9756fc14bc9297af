"""One step of the replicas in all lanes: separable quadratics, the second gradient folded into the first.

With phi_i'' = c_i constant, grad f(y) - grad f(x) is c_i (y_i - x_i), so that with the perturbation r g

    x_i - eta (g_i + w c_i r g_i) = x_i + (-eta - eta w r c_i) g_i.

Without noise the gradient is computed again rather than stored.
"""

from __future__ import annotations

import numpy as np

from rst_theory.simulation.fused.arithmetic import fma, inlined
from rst_theory.simulation.fused.lanes import TILE, fill_normals, outside, radii
from rst_theory.simulation.fused.plug import curvature, derivative
from rst_theory.simulation.fused.separable import measure, stochastic_gradient

__all__ = ["measure", "step"]


@inlined
def step(form, x, room, lanes, method, trial, noise):
    """One step of every lane.

    Without noise a perturbed step leaves the squared length of the next gradient in length2, so that the
    points are read once a step; NaN in its first place says that it is not known.
    """
    plug, data, _ = form
    eta, rho, gamma, normalized = method
    coins, perturbed = trial
    sigma, normals, _, state = noise
    g, length2, scale, radius = room[0], lanes[0], lanes[1], lanes[2]
    W = x.shape[1]
    if perturbed and normalized:
        if sigma > 0.0:
            stochastic_gradient(plug, data, x, sigma, normals, state, g, length2)
        else:
            if np.isnan(length2[0]):
                _measure_length(plug, data, x, length2)
            if outside(length2) > 0:
                stochastic_gradient(plug, data, x, sigma, normals, state, g, length2)
        if radii(g, length2, coins, rho, scale, radius):
            _descend_scaled(plug, data, x, eta, gamma, g, scale, radius)
            length2[0] = np.nan
            return
        for j in range(W):
            radius[j] = -eta * gamma * radius[j]
        if sigma > 0.0:
            _descend_along(plug, data, x, eta, radius, g)
        else:
            _descend_and_measure(plug, data, x, eta, radius, length2)
    else:
        for j in range(W):
            radius[j] = -eta * gamma * (rho * coins[j])
        if sigma > 0.0:
            _descend_noisily(plug, data, x, eta, radius, sigma, normals, state)
        else:
            _descend(plug, data, x, eta, radius)
        length2[0] = np.nan


@inlined
def _measure_length(plug, data, x, length2):
    """The squared length of the exact gradient of every lane."""
    for j in range(x.shape[1]):
        length2[j] = 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            slope = derivative(plug, x[i, j], i, data)
            length2[j] = fma(slope, slope, length2[j])


@inlined
def _descend_and_measure(plug, data, x, eta, radius, length2):
    """A step along exact gradients, and the squared lengths of the next ones; `radius` holds -eta w r."""
    for j in range(x.shape[1]):
        length2[j] = 0.0
    for i in range(x.shape[0]):
        c = curvature(plug, i, data)
        for j in range(x.shape[1]):
            after = fma(fma(radius[j], c, -eta), derivative(plug, x[i, j], i, data), x[i, j])
            slope = derivative(plug, after, i, data)
            length2[j] = fma(slope, slope, length2[j])
            x[i, j] = after


@inlined
def _descend(plug, data, x, eta, radius):
    """A step along exact gradients."""
    for i in range(x.shape[0]):
        c = curvature(plug, i, data)
        for j in range(x.shape[1]):
            x[i, j] = fma(fma(radius[j], c, -eta), derivative(plug, x[i, j], i, data), x[i, j])


@inlined
def _descend_noisily(plug, data, x, eta, radius, sigma, normals, state):
    """A step along gradients whose noise is drawn on the way."""
    for i0 in range(0, x.shape[0], TILE):
        rows = min(TILE, x.shape[0] - i0)
        fill_normals(state, normals, rows)
        for i in range(i0, i0 + rows):
            c = curvature(plug, i, data)
            for j in range(x.shape[1]):
                slope = fma(sigma, normals[i - i0, j], derivative(plug, x[i, j], i, data))
                x[i, j] = fma(fma(radius[j], c, -eta), slope, x[i, j])


@inlined
def _descend_along(plug, data, x, eta, radius, g):
    """A step along the gradients g."""
    for i in range(x.shape[0]):
        c = curvature(plug, i, data)
        for j in range(x.shape[1]):
            x[i, j] = fma(fma(radius[j], c, -eta), g[i, j], x[i, j])


@inlined
def _descend_scaled(plug, data, x, eta, gamma, g, scale, radius):
    """A step where some gradient is so small or large that r itself may leave the range."""
    for i in range(x.shape[0]):
        c = curvature(plug, i, data)
        for j in range(x.shape[1]):
            ascent = (g[i, j] * scale[j]) * radius[j]
            x[i, j] = fma(-eta, fma(gamma * c, ascent, g[i, j]), x[i, j])
