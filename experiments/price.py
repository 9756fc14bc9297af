"""Question: what does a degree of regularization cost in propagation pairs, and when does RST beat SAM?

Design: the least expected pairs for which the master bound guarantees an accuracy, over the step size and,
for RST, the probability; relative to what SGD needs; against the strength of the regularization, at several
noise levels. Nothing is random: these are closed forms (`paper_notes/pairs_to_accuracy.md`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from experiments.settings import Size
from rst_theory.allocation import least_pairs
from rst_theory.files import write_table
from rst_theory.notation import ProblemConstants

__all__ = ["run"]

METHODS = {"SAM": 1.0, "RST p=0.5": 0.5, "RST p=0.25": 0.25, "RST, best p": None}
NOISE = (0.0, 1.0, 4.0)
STRENGTHS = np.linspace(0.01, 0.9, 90)


def run(size: Size, results: Path) -> Iterator[float]:
    """Write price.csv and price.json; yields the share that is done. Accuracy, L and gap are 1."""
    rows = []
    for noise in NOISE:
        constants = ProblemConstants(L=1.0, sigma=noise)
        sgd = least_pairs(1.0, strength=0.0, constants=constants, gap=1.0).pairs
        for method, p in METHODS.items():
            for x in STRENGTHS:
                plan = least_pairs(1.0, strength=x, constants=constants, gap=1.0, p=p)
                rows.append(
                    {
                        "method": method,
                        "noise": noise,
                        "strength": round(float(x), 6),
                        "p": plan.p,
                        "eta": plan.eta,
                        "pairs_vs_sgd": plan.pairs / sgd,
                    }
                )
    write_table(results, "price", rows)
    yield 1.0
