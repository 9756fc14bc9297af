"""The compiled engine: replicas in the lanes of vector registers, time inside, state in the caches."""

from __future__ import annotations

from rst_theory.simulation.fused.engine import parts

__all__ = ["parts"]
