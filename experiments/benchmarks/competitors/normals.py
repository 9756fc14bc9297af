"""No competitor but a floor: the engine's own normals, as many as a noisy run draws, and nothing else."""

from __future__ import annotations

import numpy as np

from experiments.benchmarks.work import POINTS, Measured, Run, Work

__all__ = ["prepare"]


def prepare(work: Work) -> Run:
    """Draw the normals of every replica and step, on one thread; nothing is measured."""
    from rst_theory.simulation.fused.engine import aligned
    from rst_theory.simulation.fused.lanes import LANES, TILE, normals_only
    from rst_theory.simulation.streams import states

    # Seeded outside of the time, which only lowers the floor.
    blocks = []
    for first in range(0, work.replicas, LANES):
        blocks.append(aligned((4, LANES)).view(np.uint64))
        blocks[-1][:] = states(work.seed, first + np.arange(LANES))
    # Tile by tile as the engine does, so that they stay in the innermost cache.
    tiles, rest = divmod(work.dimension, TILE)
    normals = aligned((TILE, LANES))
    nothing = np.zeros((3, POINTS))

    def run() -> Measured:
        for state in blocks:
            normals_only(state, normals, work.steps * tiles)
            normals_only(state, normals[: rest + rest % 2], work.steps)
        return Measured(nothing, nothing)

    return run
