"""What the explorer of schedules shows, computed on a grid; the page itself only looks up and draws.

For every schedule of a few families and every T: p(t), the law of the extra pairs, and the master bound for
every step size, radius and mixing coefficient. The problem is given by L = 1 and f(x_0) - f* = 1, which are
units, and a standard deviation of the gradient noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from rst_theory.bounds import nonconvex_average
from rst_theory.cost import CostLaw
from rst_theory.notation import FloatArray, ProblemConstants
from rst_theory.plots import style
from rst_theory.schedules import Constant, Cosine, InverseSqrt, Linear, Periodic, Piecewise, Schedule

__all__ = ["CONSTANTS", "ETA", "FAMILIES", "GAMMA", "GAP", "RHO", "STEPS", "Family", "grid"]

STEPS = (30, 300, 3000)
ETA = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
RHO = (0.05, 0.1, 0.2, 0.5)
GAMMA = (0.5, 1.0, 2.0, 4.0)
CONSTANTS = ProblemConstants(L=1.0, sigma=0.1)
GAP = 1.0

_QUARTERS = (0.0, 0.25, 0.5, 0.75, 1.0)
_COLUMNS = 150  # of a drawn p(t)
_LEVELS = 1000  # of a drawn height


class Family(NamedTuple):
    """Schedules of one form.

    Attributes:
        name: what the page calls it.
        parameters: the values of each parameter by its name, from small to large.
        begin: for each parameter, which value is shown first.
        make: the schedule of one value of each.
    """

    name: str
    parameters: dict[str, tuple[float, ...]]
    begin: tuple[int, ...]
    make: Callable[..., Schedule]

    def schedules(self) -> Iterator[Schedule]:
        """All of them, the last parameter fastest."""
        return (self.make(*values) for values in product(*self.parameters.values()))


FAMILIES = (
    Family("constant", {"p": tuple(k / 10 for k in range(11))}, (5,), Constant),
    Family("linear", {"start": _QUARTERS, "end": _QUARTERS}, (0, 4), Linear),
    Family("cosine", {"start": (0.0, 0.5, 1.0), "end": (0.0, 0.5, 1.0)}, (0, 2), Cosine),
    Family(
        "piecewise",
        {"first": (0.0, 0.25, 0.75, 1.0), "switch": (0.1, 0.25, 0.5, 0.75, 0.9)},
        (0, 2),
        lambda first, switch: Piecewise(first, 1 - first, switch),
    ),
    Family("periodic", {"every": (1, 2, 3, 4, 5, 8, 10, 20)}, (1,), Periodic),
    Family("inverse square root", {"scale": (0.25, 0.5, 0.75, 1.0)}, (3,), InverseSqrt),
)


def grid() -> dict[str, Any]:
    """Everything that the explorer shows, as plain lists and numbers.

    Returns:
        The values of each slider under "T", "eta", "rho" and "gamma"; under "families" for each family its
        schedules, the last parameter fastest, with "runs" (p and the law for each T) and "bounds" (for
        each T, eta, rho, gamma, the last fastest); under "references" the bounds of SGD (for each T and
        eta) and of SAM (T, eta, rho).
    """
    return {
        "T": STEPS,
        "eta": ETA,
        "rho": RHO,
        "gamma": GAMMA,
        "families": [
            {
                "name": family.name,
                "colour": style.colour(type(next(family.schedules())).__name__),
                "parameters": [
                    {"name": name, "values": values, "begin": begin}
                    for (name, values), begin in zip(family.parameters.items(), family.begin, strict=True)
                ],
                "schedules": [
                    {
                        "label": str(schedule),
                        "runs": [_run(schedule, T) for T in STEPS],
                        "bounds": _bounds(schedule, RHO, GAMMA),
                    }
                    for schedule in family.schedules()
                ],
            }
            for family in FAMILIES
        ],
        "references": {
            "SGD": _bounds(Constant(0.0), RHO[:1], (1.0,)),
            "SAM": _bounds(Constant(1.0), RHO, (1.0,)),
        },
    }


def _run(schedule: Schedule, T: int) -> dict[str, Any]:
    """What one run of T steps is: its p(t) and what it costs."""
    law = CostLaw(schedule, T)
    pmf = np.rint(law.pmf() / law.pmf().max() * _LEVELS).astype(int)
    shown = np.flatnonzero(pmf)
    low, high = law.interval(0.99)
    return {
        "p": _drawn(law.probabilities),
        "mean": round(law.mean, 1),
        "low": low,
        "high": high,
        "sgd": _three(law.pairs_relative_to_sgd),
        "sam": _three(law.pairs_relative_to_sam),
        "first": int(shown[0]),
        "pmf": pmf[shown[0] : shown[-1] + 1].tolist(),
    }


def _drawn(p: FloatArray) -> list[list[int]]:
    """The least and the largest p, in thousandths, of as many stretches of the run as can be drawn.

    One list where the two are the same.
    """
    columns = min(len(p), _COLUMNS)
    begins = np.arange(columns) * len(p) // columns
    least, most = (np.rint(bound.reduceat(p, begins) * _LEVELS) for bound in (np.minimum, np.maximum))
    ends = [end.astype(int).tolist() for end in (least, most)]
    return ends[:1] if ends[0] == ends[1] else ends


def _bounds(schedule: Schedule, radii: tuple[float, ...], mixings: tuple[float, ...]) -> list[float]:
    return [
        _three(
            nonconvex_average.evaluate(
                schedule=schedule, steps=T, eta=eta, rho=rho, gamma=gamma, constants=CONSTANTS, gap=GAP
            )
        )
        for T, eta, rho, gamma in product(STEPS, ETA, radii, mixings)
    ]


def _three(x: float) -> float:
    """To the three digits that the page shows, so that nothing is rounded twice."""
    return float(f"{x:.3g}")
