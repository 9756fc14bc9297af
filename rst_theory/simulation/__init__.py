"""Batched Monte Carlo of RST and G-RST, with streaming moments.

The coins of replica r are `Trials(p, seed, replica=r)` and its noise is the stream (seed, r), so neither
depends on the schedule, and schedules are compared on common random numbers; nor on the number of replicas,
on the engine, or on how the work is cut.

Engines: `fused`, compiled by Numba, the default for problems that have a compiled form; `reference`, plain
NumPy around `method.step`, for every problem; `device`, torch, for GPUs.
"""

from __future__ import annotations

from rst_theory.simulation.estimates import Estimate, Moments
from rst_theory.simulation.grid import Cell, Grid, simulate_grid
from rst_theory.simulation.run import simulate
from rst_theory.simulation.setting import DivergenceError
from rst_theory.simulation.trajectories import Trajectories

__all__ = [
    "Cell",
    "DivergenceError",
    "Estimate",
    "Grid",
    "Moments",
    "Trajectories",
    "simulate",
    "simulate_grid",
]
