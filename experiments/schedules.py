"""The schedule functions that the experiments look at: every preset and every family."""

from __future__ import annotations

from typing import NamedTuple

import rst_theory as rst
from rst_theory.schedules import PRESETS, Schedule, preset

__all__ = ["COMPARED", "DRAWN", "Named", "catalogue"]


class Named(NamedTuple):
    """A schedule with its label in tables and figures, its group, and its mixing coefficient."""

    label: str
    group: str
    schedule: Schedule
    gamma: float = 1.0


def catalogue(T: int) -> list[Named]:
    """Every preset at p = .25, .5, .75, and every family at parameters of its own.

    Args:
        T: the number of steps, which a table of values must know.
    """
    named = [
        Named(f"{name} p={p}", "preset", preset(name, p))
        for name in PRESETS
        if not name.startswith("cosine")
        for p in (0.25, 0.5, 0.75)
    ]
    named += [Named(name, "preset", preset(name)) for name in PRESETS if name.startswith("cosine")]
    families: list[Schedule] = [
        rst.Constant(0.1),
        rst.Constant(0.9),
        rst.Piecewise(0.2, 0.6, 0.3),
        rst.Linear(0.8, 0.1),
        rst.Cosine(0.2, 0.8),
        rst.InverseSqrt(1.0),
        rst.InverseSqrt(0.5),
        rst.Periodic(2),
        rst.Periodic(5),
    ]
    named += [Named(repr(schedule), "family", schedule) for schedule in families]
    up_and_down = rst.Joined(
        ((rst.Linear(0.0, 1.0), 0.25), (rst.Constant(0.5), 0.5), (rst.Cosine(1.0, 0.0), 0.25))
    )
    named += [
        Named("0.5 + 0.4 sin(4 pi u)", "family", rst.FromExpression("0.5 + 0.4*sin(4*pi*u)")),
        Named("Joined(up, half, down)", "family", up_and_down),
        Named("Tabulated(t mod 4 / 4)", "family", rst.Tabulated(tuple(t % 4 / 4 for t in range(T)))),
    ]
    return named


COMPARED: list[Named] = [
    Named("SGD", "method", rst.Constant(0.0)),
    Named("constant p=0.25", "preset", preset("constant", 0.25)),
    Named("constant p=0.5", "preset", preset("constant", 0.5)),
    Named("piecewise1 p=0.5", "preset", preset("piecewise1", 0.5)),
    Named("piecewise2 p=0.5", "preset", preset("piecewise2", 0.5)),
    Named("linear1 p=0.5", "preset", preset("linear1", 0.5)),
    Named("cosine_up", "preset", preset("cosine_up")),
    Named("cosine_down", "preset", preset("cosine_down")),
    Named("Periodic(2)", "family", rst.Periodic(2)),
    Named("InverseSqrt(1.0)", "family", rst.InverseSqrt(1.0)),
    Named("G-RST p=0.5 gamma=2", "method", rst.Constant(0.5), gamma=2.0),
    Named("SAM", "method", rst.Constant(1.0)),
]
"""Those that are simulated beside their bounds; most of them cost half of what SAM adds to SGD."""

DRAWN = ("SGD", "constant p=0.5", "piecewise1 p=0.5", "piecewise2 p=0.5", "G-RST p=0.5 gamma=2", "SAM")
"""Those whose curves along the run are kept: more than these cannot be told apart in a figure."""
