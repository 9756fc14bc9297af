"""One step, and one measurement, of the replicas in all lanes: separable problems, f(x) = sum_i phi_i(x_i).

A step reads each coordinate once (unnormalized ascent) or twice (normalized: the second time the length of
the gradient is known). Additive noise cancels between the two gradients of a step, so with w = gamma where
the trial is 1

    d = g + w (grad f(y) - grad f(x)),

which is the mixture of `method.direction`. Where the trial is 0 the radius is, so that y = x and d = g to the
bit, and nothing leaks from a branch that is not taken.
"""

from __future__ import annotations

from rst_theory.simulation.fused.arithmetic import fma, inlined
from rst_theory.simulation.fused.lanes import TILE, fill_normals, radii
from rst_theory.simulation.fused.plug import derivative, value

__all__ = ["measure", "step", "stochastic_gradient"]


@inlined
def measure(plug, data, x, room, f, squared):
    """The value and the squared length of the gradient in every lane."""
    for j in range(x.shape[1]):
        f[j], squared[j] = 0.0, 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            slope = derivative(plug, x[i, j], i, data)
            f[j] += value(plug, x[i, j], i, data)
            squared[j] = fma(slope, slope, squared[j])


@inlined
def step(form, x, room, lanes, method, trial, noise):
    """One step of every lane."""
    plug, data, _ = form
    eta, rho, gamma, normalized = method
    coins, perturbed = trial
    sigma, normals, _, state = noise
    g, length2, scale, radius = room[0], lanes[0], lanes[1], lanes[2]
    if not perturbed:
        _descend(plug, data, x, eta, sigma, normals, state)
    elif normalized:
        stochastic_gradient(plug, data, x, sigma, normals, state, g, length2)
        scaled = radii(g, length2, coins, rho, scale, radius)
        _descend_normalized(plug, data, x, eta, gamma, g, scaled, scale, radius)
    else:
        for j in range(x.shape[1]):
            radius[j] = rho * coins[j]
        _descend_unnormalized(plug, data, x, eta, gamma, radius, sigma, normals, state)


@inlined
def _descend(plug, data, x, eta, sigma, normals, state):
    """A plain step of every lane."""
    for i0 in range(0, x.shape[0], TILE):
        rows = min(TILE, x.shape[0] - i0)
        if sigma > 0.0:
            fill_normals(state, normals, rows)
        for i in range(i0, i0 + rows):
            for j in range(x.shape[1]):
                slope = fma(sigma, normals[i - i0, j], derivative(plug, x[i, j], i, data))
                x[i, j] = fma(-eta, slope, x[i, j])


@inlined
def _descend_unnormalized(plug, data, x, eta, gamma, radius, sigma, normals, state):
    """A step of every lane, perturbed by radius g; where the radius is 0 it is a plain one."""
    for i0 in range(0, x.shape[0], TILE):
        rows = min(TILE, x.shape[0] - i0)
        if sigma > 0.0:
            fill_normals(state, normals, rows)
        for i in range(i0, i0 + rows):
            for j in range(x.shape[1]):
                exact = derivative(plug, x[i, j], i, data)
                slope = fma(sigma, normals[i - i0, j], exact)
                y = fma(radius[j], slope, x[i, j])
                mixed = fma(gamma, derivative(plug, y, i, data) - exact, slope)
                x[i, j] = fma(-eta, mixed, x[i, j])


@inlined
def stochastic_gradient(plug, data, x, sigma, normals, state, g, length2):
    """The stochastic gradient of every lane, and its squared length."""
    for j in range(x.shape[1]):
        length2[j] = 0.0
    for i0 in range(0, x.shape[0], TILE):
        rows = min(TILE, x.shape[0] - i0)
        if sigma > 0.0:
            fill_normals(state, normals, rows)
        for i in range(i0, i0 + rows):
            for j in range(x.shape[1]):
                slope = fma(sigma, normals[i - i0, j], derivative(plug, x[i, j], i, data))
                length2[j] = fma(slope, slope, length2[j])
                g[i, j] = slope


@inlined
def _descend_normalized(plug, data, x, eta, gamma, g, scaled, scale, radius):
    """A step of every lane, perturbed by (g scale) radius; where the radius is 0 it is a plain one."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            ascent = g[i, j] * scale[j] if scaled else g[i, j]
            y = fma(ascent, radius[j], x[i, j])
            change = derivative(plug, y, i, data) - derivative(plug, x[i, j], i, data)
            x[i, j] = fma(-eta, fma(gamma, change, g[i, j]), x[i, j])
