"""Drift along a valley of minima at equal products of degree and radius.

f(x, y) = (x y - 1)^2/2 with label noise, that is gradients of (x y - 1 - sigma xi)^2/2
with normal xi, started at the unbalanced (3, 1.01/3) beside the hyperbola x y = 1 of minima, on which the
sharpness is w^2 = x^2 + y^2. The imbalance D = x^2 - y^2 is kept by gradient flow. With r = x y - 1 - sigma
xi a perturbed step in the small step size eta changes it, exactly to first order in eta, by

    D+ = D (1 - 2 eta gamma rho (|r|/w + rho + rho^2 x y/w^3))

so that log D falls per unit of time (a step is eta) by 2 q rho E|r|/w to first order in the radius, which
knows q rho alone, and by 2 q rho^2 to second order, noise or not. The square of a step adds eta E[r_d^2],
with r_d = r + X gamma rho w sign(r); of SGD, where r_d = r, it is all there is. With E|r| = e = sqrt(2/pi)
sigma, beyond SGD:

    drift ~ 2 q rho (e/w + rho) + eta (2 q rho e w + (q rho)^2 w^2/p)

which leaves out that the steps also move r. The first order rules as long as rho is far below e/w. Without
noise there is none of it but the oscillation that the steps keep up, and q rho^2 is the variable.

Design: sigma = 0, .1, 1; q rho = .0025, .005, .01, .02, each by the five pairs and (1, 1/4), (1, 4), (1/16,
16); eta = .005, 2000 steps, 512 replicas with common noise. Drift: the fall of log D per unit of time, less
that of SGD with the same noise.

Rule for the drift, fixed before the run: at a sigma and a q rho, the drifts collapse where the seven ratios
to the drift of SAM all have simultaneous 99 % intervals within 1 ± .1; they break where one of those
intervals excludes 1; else it is open. A break within ± .1 counts as a collapse. Which variable is right says
the exponent b of rho in drift ~ (q rho)^a rho^b, by least squares in logarithms over all cells of a sigma: 0
for q rho, 1 for q rho^2. Beside each ratio stands what the first-order theory allows it to be: the largest
relative difference of the mean directions at the start, by `same_strength_bound`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from experiments.equal_products import METHODS, Cell, columns, judged
from experiments.pool import spread
from experiments.settings import CONFIDENCE, Size
from experiments.statistics import Interval, mean_interval
from rst_theory.bounds import same_strength_bound
from rst_theory.method import step
from rst_theory.notation import FloatArray
from rst_theory.trials import sequences

__all__ = ["PRODUCTS", "SIGMAS", "Excess", "drift_rows", "drifts", "excess_drifts", "exponent_row"]

SIGMAS = (0.0, 0.1, 1.0)
PRODUCTS = (0.0025, 0.005, 0.01, 0.02)
DRIFT_METHODS = (*METHODS, (1.0, 0.25), (1.0, 4.0), (0.0625, 16.0))
RATIO_MARGIN = 0.1
SGD = (0.0, 1.0)
_START = (3.0, 1.01 / 3)
_ETA, _STEPS, _SEED, _BLOCKS = 0.005, 2000, 20220315, 20

Row = dict[str, Any]
Excess = dict[tuple[float, float], FloatArray]
"""For each (p, gamma) the drifts beyond those of SGD, of shape (number of `PRODUCTS`, replicas)."""


def excess_drifts(size: Size, found: dict[float, Excess]) -> Iterator[float]:
    """Simulate what has not been; yields the share that is done and fills `found` by sigma."""
    sigmas = SIGMAS if size.full else SIGMAS[-1:]
    methods = (METHODS[0], METHODS[2]) if size.level == "quick" else DRIFT_METHODS
    tasks = [(sigma, *method, size.replicas) for sigma in sigmas for method in (SGD, *methods)]
    drifted: list[list[list[float]]] = []
    yield from spread(drifts, tasks, size.processes, drifted, keep=size.runs / "valley")
    rates = dict(zip(tasks, map(np.array, drifted), strict=True))
    for sigma in sigmas:
        sgd = rates[sigma, *SGD, size.replicas]
        found[sigma] = {method: rates[sigma, *method, size.replicas] - sgd for method in methods}


def drifts(sigma: float, p: float, gamma: float, replicas: int) -> list[list[float]]:
    """The fall of log(x^2 - y^2) per unit of time along the valley.

    Args:
        sigma: of the label noise.
        p: probability of a perturbed step.
        gamma: mixing coefficient.
        replicas: the same noise and coins for every sigma and method.

    Returns:
        For each of `PRODUCTS`, a number for each replica.
    """
    rho = np.array([Cell(product, p, gamma).rho for product in PRODUCTS])[:, None, None]
    noise = sigma * np.random.default_rng(_SEED).standard_normal((replicas, _STEPS))
    trials = sequences(np.full(_STEPS, p), _SEED, "independent", np.arange(replicas))
    start = z = np.full((len(PRODUCTS), replicas, 2), _START)
    for t in range(_STEPS):
        label = 1 + noise[:, t]

        def gradient(z: FloatArray, label: FloatArray = label) -> FloatArray:
            return np.asarray((z.prod(axis=-1) - label)[..., None] * z[..., ::-1])

        z = step(z, gradient, np.broadcast_to(trials[:, t], z.shape[:-1]), _ETA, rho, gamma)
    fall = np.log(_imbalance(start) / _imbalance(z)) / (_ETA * _STEPS)
    return [[float(x) for x in row] for row in fall]


def _imbalance(z: FloatArray) -> FloatArray:
    return np.asarray(z[..., 0] ** 2 - z[..., 1] ** 2)


def drift_rows(sigma: float, excess: Excess) -> list[Row]:
    """A row for each product and method at one strength of the noise.

    Args:
        sigma: of the noise.
        excess: for each (p, gamma), SAM among them, the drifts beyond those of SGD; shape (number of
            `PRODUCTS`, replicas).
    """
    w, imbalance = math.hypot(*_START), float(_imbalance(np.array(_START)))
    residual = math.sqrt(2 / math.pi) * sigma
    confidence = 1 - (1 - CONFIDENCE) / (len(DRIFT_METHODS) - 1)
    rows = []
    for i, product in enumerate(PRODUCTS):
        sam = excess[METHODS[0]][i]
        ratios = {method: _ratio(drift[i], sam, confidence) for method, drift in excess.items()}
        verdict = judged([r for method, r in ratios.items() if method != METHODS[0]], 1.0, RATIO_MARGIN)
        for method, drift in excess.items():
            cell = Cell(product, *method)
            first_order = 2 * product * residual / w
            of_steps = _ETA * (2 * product * residual * w + product**2 * w**2 / cell.p)
            radii = (cell.rho, product)  # SAM's radius is the product
            apart = same_strength_bound(product, radii, 3 * (w + max(radii)))
            rows.append(
                {
                    "sigma": sigma,
                    **cell._asdict(),
                    "rho": cell.rho,
                    **columns("drift", mean_interval(drift[i])),
                    "first_order": first_order,
                    "predicted": first_order + 2 * product * cell.rho + of_steps,
                    **columns("ratio", ratios[method]),
                    # Displacement along the valley changes D by 2 w times itself.
                    "allowed": apart * 2 * w / (imbalance * float(sam.mean())),
                    "verdict": verdict,
                    "replicas": drift.shape[1],
                }
            )
    return rows


def _ratio(first: FloatArray, second: FloatArray, confidence: float) -> Interval:
    """The ratio of two paired means, by linearization."""
    ratio, scale = float(first.mean() / second.mean()), float(second.mean())
    half = mean_interval((first - ratio * second) / scale, confidence).high
    return Interval(ratio, ratio - half, ratio + half)


def exponent_row(sigma: float, excess: Excess) -> Row:
    """The exponents of drift ~ product^a rho^b at one strength of the noise, from 20 blocks of replicas."""
    cells = [Cell(product, *method) for method in excess for product in PRODUCTS]
    design = np.array([[1, math.log(cell.product), math.log(cell.rho)] for cell in cells])
    blocks = zip(*(np.array_split(drift, _BLOCKS, axis=1) for drift in excess.values()), strict=True)
    drift = np.array([np.concatenate([part.mean(axis=1) for part in block]) for block in blocks])
    found = np.linalg.lstsq(design, np.log(drift).T, rcond=None)[0]
    return {
        "sigma": sigma,
        **columns("product_exponent", mean_interval(found[1])),
        **columns("radius_exponent", mean_interval(found[2])),
        "blocks": _BLOCKS,
    }
