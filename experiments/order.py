"""Question: at equal cost, does it matter when the sharpness-aware steps are taken?

Design: SAM steps on the first half of the run, on the last half, spread evenly at random (p = 1/2), with a
probability that rises from 0 to 1 or falls from 1 to 0: each 1.5 pairs a step, gamma = 1, rho = .1 untuned;
SGD and SAM beside them. In every setting of `networks` 20 paired seeds on digits, 5 on Fashion-MNIST.

Rule fixed before the run: order matters in a setting where one of the three differences in test accuracy
early - late, early - spread, late - spread, seed by seed, is not 0 by a t test, after Holm's correction over
all differences of the data set, at a familywise level of 1 %. "Late is best on clean data", as the literature
has it, is supported where late - early and late - spread are both above 0 so. Sharpness (largest
eigenvalue and trace of the Hessian, as logarithms) and training loss are judged by the same rule, apart.
"""

from __future__ import annotations

import rst_theory as rst
from experiments.networks import Setting, config_of
from rst_theory.schedules import Schedule
from rst_theory.training import TrainConfig

__all__ = ["FIRST_SEED", "SCHEDULES", "configs"]

SCHEDULES: dict[str, Schedule] = {
    "SGD": rst.Constant(0.0),
    "early": rst.Piecewise(1.0, 0.0, 0.5),
    "late": rst.Piecewise(0.0, 1.0, 0.5),
    "spread": rst.Constant(0.5),
    "rising": rst.Linear(0.0, 1.0),
    "falling": rst.Linear(1.0, 0.0),
    "SAM": rst.Constant(1.0),
}
FIRST_SEED = 2000


def configs(setting: Setting, repetitions: int) -> list[TrainConfig]:
    """The runs of a setting, seed by seed in the order of `SCHEDULES`."""
    seeds = range(FIRST_SEED, FIRST_SEED + repetitions)
    return [config_of(setting, seed, schedule) for seed in seeds for schedule in SCHEDULES.values()]
