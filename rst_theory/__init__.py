"""Theory, simulation and training with Randomized Sharpness-Aware Training (arXiv 2203.09962).

`import rst_theory as rst` loads nothing heavy: names are resolved on first use, so that SymPy, SciPy,
Matplotlib and PyTorch are paid for only by whoever needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rst_theory.allocation import allocate as allocate
    from rst_theory.bounds import Bound as Bound
    from rst_theory.certificates import Certificate as Certificate, certify as certify
    from rst_theory.cost import CostLaw as CostLaw
    from rst_theory.method import ascend as ascend, direction as direction, step as step
    from rst_theory.notation import (
        Assumption as Assumption,
        DomainError as DomainError,
        ProblemConstants as ProblemConstants,
    )
    from rst_theory.optim import RST as RST
    from rst_theory.problems import (
        LogisticRegression as LogisticRegression,
        Problem as Problem,
        Quadratic as Quadratic,
    )
    from rst_theory.report import render as render
    from rst_theory.schedules import (
        Constant as Constant,
        Cosine as Cosine,
        FromExpression as FromExpression,
        InverseSqrt as InverseSqrt,
        Joined as Joined,
        Linear as Linear,
        Periodic as Periodic,
        Piecewise as Piecewise,
        Schedule as Schedule,
        Tabulated as Tabulated,
        matched_gamma as matched_gamma,
        preset as preset,
    )
    from rst_theory.simulation import (
        Trajectories as Trajectories,
        simulate as simulate,
        simulate_grid as simulate_grid,
    )
    from rst_theory.testing import check_problem as check_problem, check_schedule as check_schedule
    from rst_theory.training import RunRecord as RunRecord, TrainConfig as TrainConfig, train as train
    from rst_theory.trials import Trials as Trials

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
    "simulation": ("Trajectories", "simulate", "simulate_grid"),
    "optim": ("RST",),
    "allocation": ("allocate",),
    "certificates": ("Certificate", "certify"),
    "testing": ("check_problem", "check_schedule"),
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
