"""The engine of this package, through its public function."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.benchmarks.work import METRICS, Measured, Run, Work

__all__ = ["prepare"]


def prepare(work: Work, **options: Any) -> Run:
    """A run of `rst_theory.simulate`; options are its own, such as backend and threads."""
    import rst_theory as rst

    problem = rst.problems.Quadratic(work.eigenvalues, noise=work.noise)

    def run() -> Measured:
        found = rst.simulate(
            problem,
            work.p,
            steps=work.steps,
            eta=work.eta,
            rho=work.rho,
            replicas=work.replicas,
            seed=work.seed,
            at=work.times,
            progress=False,
            **options,
        )
        moments = [found.moments[name] for name in METRICS]
        return Measured(np.array([m.mean for m in moments]), np.array([m.standard_error for m in moments]))

    return run
