"""Theory, simulation and training with Randomized Sharpness-Aware Training (arXiv 2203.09962).

`import rst_theory as rst` loads nothing heavy: names are resolved on first use, so that SymPy, SciPy,
Matplotlib and PyTorch are paid for only by whoever needs them.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "notation": ("Assumption", "DomainError", "ProblemConstants"),
    "method": ("ascend", "direction", "step"),
    "schedules": (
        "Constant",
        "Cosine",
        "FromExpression",
        "InverseSqrt",
        "Joined",
        "Linear",
        "Periodic",
        "Piecewise",
        "Schedule",
        "Tabulated",
        "matched_gamma",
        "preset",
    ),
    "trials": ("Trials",),
    "problems": ("LogisticRegression", "Problem", "Quadratic"),
    "cost": ("CostLaw",),
    "bounds": ("Bound",),
    "simulation": ("Trajectories", "simulate"),
    "optim": ("RST",),
    "training": ("RunRecord", "TrainConfig", "train"),
    "plots": (),
    "report": ("render",),
}
_MODULE_OF = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *_HOME, *_MODULE_OF]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    elif name in _HOME:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
