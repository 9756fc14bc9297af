"""Tolerances and statistical thresholds, named once for the whole suite."""

from __future__ import annotations

import os
import signal

import numpy as np
from hypothesis import HealthCheck, settings
from scipy import stats

ONE_STEP = 1e-12
"""Relative: the same algorithm in two implementations, one step from equal states."""

TRAJECTORY = 1e-10
"""Relative: the same, whole trajectories on contractive unnormalized quadratics."""

NUMERIC = 1e-10
"""Relative: different algorithms for one number."""

SEMIDEFINITE = 1e-4
"""Relative: against a semidefinite program."""

FALSE_ALARM = 1e-6
"""The probability that any Monte Carlo test of the suite fails though the code is right."""

STATISTICAL_TESTS = 100
"""An upper bound on the number of statistical comparisons in the suite, each given an equal share."""

COMPARISON_ALARM = FALSE_ALARM / STATISTICAL_TESTS


def z_threshold(comparisons: int = 1) -> float:
    """The two-sided normal threshold for one test that makes this many comparisons."""
    return float(stats.norm.isf(COMPARISON_ALARM / comparisons / 2))


def in_this_process(function, tasks, processes, results, keep=None):
    """What `experiments.pool.spread` does, without processes and without keeping anything."""
    for done, task in enumerate(tasks, start=1):
        results.append(function(*task))
        yield done / len(tasks)


settings.register_profile(
    "suite",
    deadline=None,
    derandomize=bool(os.environ.get("CI")),
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("suite")
np.seterr(all="raise", under="ignore")
# A shell's background jobs ignore interrupts, which some tests send to themselves.
signal.signal(signal.SIGINT, signal.default_int_handler)
