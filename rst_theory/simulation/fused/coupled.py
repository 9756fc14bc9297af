"""One step, and one measurement, of the replicas in all lanes: problems whose coordinates are coupled.

Symbol key: x the points, g their stochastic gradients, e the same without Gaussian noise, y the perturbed
points, h the gradients there; arrays (d, W). As in `separable`, additive noise cancels between the two
gradients of a step: d = g + w (h - e).
"""

from __future__ import annotations

from rst_theory.simulation.fused.arithmetic import fma, inlined
from rst_theory.simulation.fused.lanes import TILE, fill_indices, fill_normals, radii
from rst_theory.simulation.fused.plug import gradient, sampled_gradient, values

__all__ = ["measure", "step"]


@inlined
def measure(plug, data, x, room, f, squared):
    """The value and the squared length of the gradient in every lane."""
    e = room[1]
    values(plug, x, f, data)
    gradient(plug, x, e, data)
    for j in range(x.shape[1]):
        squared[j] = 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            squared[j] = fma(e[i, j], e[i, j], squared[j])


@inlined
def _gradient(plug, data, rows, indices, x, g):
    if rows > 0:
        sampled_gradient(plug, x, g, indices, data)
    else:
        gradient(plug, x, g, data)


@inlined
def step(form, x, room, lanes, method, trial, noise):
    """One step of every lane."""
    plug, data, rows = form
    eta, rho, gamma, normalized = method
    coins, perturbed = trial
    sigma, normals, indices, state = noise
    g, e, y, h = room[0], room[1], room[2], room[3]
    length2, scale, radius = lanes[0], lanes[1], lanes[2]
    d, W = x.shape
    noisy = sigma > 0.0
    if rows > 0:
        fill_indices(state, indices, rows)
    _gradient(plug, data, rows, indices, x, e)
    for j in range(W):
        length2[j] = 0.0
    for i0 in range(0, d, TILE):
        tile = min(TILE, d - i0)
        if noisy:
            fill_normals(state, normals, tile)
        for i in range(i0, i0 + tile):
            for j in range(W):
                slope = fma(sigma, normals[i - i0, j], e[i, j]) if noisy else e[i, j]
                length2[j] = fma(slope, slope, length2[j])
                g[i, j] = slope
    if perturbed:
        if normalized:
            radii(g, length2, coins, rho, scale, radius)
        else:
            for j in range(W):
                scale[j], radius[j] = 1.0, rho * coins[j]
        for i in range(d):
            for j in range(W):
                y[i, j] = fma(g[i, j] * scale[j], radius[j], x[i, j])
        _gradient(plug, data, rows, indices, y, h)
        for i in range(d):
            for j in range(W):
                change = h[i, j] - e[i, j] if coins[j] != 0.0 else 0.0
                g[i, j] = fma(gamma, change, g[i, j])
    for i in range(d):
        for j in range(W):
            x[i, j] = fma(-eta, g[i, j], x[i, j])
