"""Question: is it the product of degree and radius alone, q rho = p gamma rho, that matters?

To first order it is: E[d] = g + q (grad f(x + rho g/||g||) - g) = g + q rho H g/||g|| + O(q rho^2). So
runs of equal q rho should agree, whatever their cost, as long as rho and gamma are small.

Design: q rho = .05, .1, .2, each by five pairs (p, gamma): (1, 1), (.5, 1), (.5, 2), (.25, 1), (.25, 4), with
rho = q rho/(p gamma). In every setting of `networks` 20 paired seeds on digits, 5 on Fashion-MNIST.

Rule fixed before the run: in a setting, the curves collapse at a value of q rho where the four paired
differences in test accuracy to (1, 1), that is SAM, all have simultaneous 99 % intervals (Bonferroni, over
the four) within ±.015; they break where one of those intervals excludes 0; else it is open. A break within
±.015 counts as a collapse. The logarithm of the largest eigenvalue of the Hessian is judged by the same rule
with ±.25.
"""

from __future__ import annotations

from experiments.networks import Setting, config_of
from rst_theory.training import TrainConfig

__all__ = ["FIRST_SEED", "METHODS", "PRODUCTS", "configs"]

PRODUCTS = (0.05, 0.1, 0.2)
METHODS = ((1.0, 1.0), (0.5, 1.0), (0.5, 2.0), (0.25, 1.0), (0.25, 4.0))
"""Pairs (p, gamma), SAM first."""
FIRST_SEED = 2000  # those of `order`, whose runs are shared


def configs(setting: Setting, repetitions: int) -> list[TrainConfig]:
    """The runs of a setting: seed by seed, product by product, in the order of `METHODS`."""
    return [
        config_of(setting, seed, p, gamma=gamma, rho=product / (p * gamma))
        for seed in range(FIRST_SEED, FIRST_SEED + repetitions)
        for product in PRODUCTS
        for p, gamma in METHODS
    ]
