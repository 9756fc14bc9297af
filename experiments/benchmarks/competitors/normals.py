"""No competitor but a floor: the engine's own normals, as many as a noisy run draws, and nothing else."""

from __future__ import annotations

import numpy as np

from experiments.benchmarks.work import POINTS, Measured, Run, Work

__all__ = ["prepare"]


def prepare(work: Work) -> Run:
    """Draw the normals of every replica and step, on one thread; nothing is measured."""
    from rst_theory.simulation.fused.lanes import LANES, normals_only
    from rst_theory.simulation.streams import states

    blocks = [
        states(work.seed, first + np.arange(LANES)) for first in range(0, work.replicas, LANES)
    ]  # seeded outside of the time, which only lowers the floor
    normals = np.empty((work.dimension + work.dimension % 2, LANES))
    nothing = np.zeros((3, POINTS))

    def run() -> Measured:
        for state in blocks:
            normals_only(state, normals, work.steps)
        return Measured(nothing, nothing)

    return run
