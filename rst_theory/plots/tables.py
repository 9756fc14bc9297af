"""The results folder as checked data: what each file holds, and the errors that name what is wrong.

A table is a list of rows, as `rst_theory.files` keeps it. `SCHEMA` says which fields a row of each file
has; columns beyond those are left alone. `Results.read` reads a folder; a file that is not there yet is
None, a file that is wrong is an error.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

from rst_theory.files import read_json, read_table

__all__ = ["SCHEMA", "Field", "Results", "ResultsError", "Row", "checked"]

Row: TypeAlias = Mapping[str, Any]


class ResultsError(ValueError):
    """A results file, or rows given to a plot, that are not what they should be."""


@dataclass(frozen=True)
class Field:
    """What one field of a row may hold.

    Attributes:
        kind: "text", "number", "integer", "flag", "parameter" (a number or a text), "numbers" (a list),
            "timings" (an object of numbers) or "names" (an object of texts).
        least: the least number allowed.
        most: the largest number allowed.
        choices: the only texts allowed, where not empty.
        optional: whether null is allowed.
    """

    kind: str
    least: float = -math.inf
    most: float = math.inf
    choices: tuple[str, ...] = ()
    optional: bool = False

    def problem(self, value: object) -> str | None:
        """What is wrong with a value, as "must be …", or None."""
        if value is None:
            return None if self.optional else f"must be {self._wanted}, not null"
        right = _KINDS[self.kind](value)
        if right and self.kind in ("number", "integer"):
            right = self._within(value)
        elif right and self.kind == "numbers":
            right = all(map(self._within, value))  # type: ignore[call-overload]
        elif right and self.choices:
            right = value in self.choices
        return None if right else f"must be {self._wanted}; got {value!r:.80}"

    def _within(self, value: Any) -> bool:
        return bool(self.least <= value <= self.most)

    @property
    def _wanted(self) -> str:
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        wanted = _WORDS[self.kind]
        if self.least > -math.inf and self.most < math.inf:
            return f"{wanted} in [{self.least:g}, {self.most:g}]"
        if self.least > -math.inf:
            return f"{wanted} >= {self.least:g}"
        return wanted


def _is_number(value: object) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return abs(value) <= sys.float_info.max  # of a long integer too, which has no float


_KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": lambda value: _is_number(value) and value == int(value),
    "flag": lambda value: isinstance(value, bool),
    "numbers": lambda value: isinstance(value, list | tuple) and bool(value) and all(map(_is_number, value)),
    "timings": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "names": lambda value: isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
    "parameter": lambda value: isinstance(value, str) or _is_number(value),
}
_WORDS = {
    "text": "a text",
    "number": "a finite number",
    "integer": "an integer",
    "flag": "true or false",
    "numbers": "a list of finite numbers",
    "timings": "an object of finite numbers",
    "names": "an object of texts",
    "parameter": "a number or a text",
}

_TEXT, _NUMBER = Field("text"), Field("number")
_NOTE = Field("text", optional=True)
_COUNT = Field("integer", least=0)
_MANY = Field("integer", least=1)
_SIZE = Field("number", least=0)
_POSITIVE = Field("number", least=5e-324)
_PARAMETER = Field("parameter")
_SHARE = Field("number", least=0, most=1)
_METHOD = {"method": _TEXT, "p": _SHARE, "gamma": _SIZE}

_CELL = {"product": _POSITIVE, "p": _SHARE, "gamma": _SIZE, "rho": _SIZE}
_COLLAPSED = Field("text", choices=("collapse", "break", "open"))

_SUMMARY = {
    **_METHOD,
    "runs": _MANY,
    "accuracy": _SHARE,
    "accuracy_low": _NUMBER,
    "accuracy_high": _NUMBER,
    "pairs_per_step": _SIZE,
    "expected_pairs_per_step": _SIZE,
    "seconds_vs_sgd": _SIZE,
    "seconds_low": _SIZE,
    "seconds_high": _SIZE,
    **{f"versus_{other}{end}": _NUMBER for other in ("sgd", "sam") for end in ("", "_low", "_high")},
}

SCHEMA: dict[str, dict[str, Field]] = {
    "cost": {
        "name": _TEXT,
        "group": _TEXT,
        "schedule": _TEXT,
        "steps": _MANY,
        "formula": _TEXT,
        "mean_formula": _TEXT,
        "limit": _NOTE,
        "mean": _SIZE,
        "standard_deviation": _SIZE,
        "low": _COUNT,
        "high": _COUNT,
        "share": _SHARE,
        "pairs_vs_sgd": _SIZE,
        "pairs_vs_sam": _SIZE,
        "systematic_low": _COUNT,
        "systematic_high": _COUNT,
        "values": Field("numbers", least=0, most=1),
    },
    "bounds": {
        "problem": _TEXT,
        "schedule": _TEXT,
        "mean_p": _SHARE,
        "steps": _MANY,
        "eta": _PARAMETER,
        "rho": _PARAMETER,
        "gamma": _PARAMETER,
        "replicas": _MANY,
        "measured": _POSITIVE,
        "standard_error": _SIZE,
        "low": _NUMBER,
        "high": _NUMBER,
        "bound": _POSITIVE,
        "ratio": _POSITIVE,
        "expected_pairs": _SIZE,
    },
    "curves": {
        "problem": _TEXT,
        "schedule": _TEXT,
        "t": Field("numbers", least=0),
        "mean": Field("numbers", least=0),
        "low": Field("numbers"),
        "high": Field("numbers"),
    },
    "digits_runs": {
        **_METHOD,
        "seed": _COUNT,
        "accuracy": _SHARE,
        "pairs": _COUNT,
        "planned_pairs": _COUNT,
        "expected_pairs": _SIZE,
        "expected_low": _COUNT,
        "expected_high": _COUNT,
        "steps": _MANY,
        "seconds": _SIZE,
        "seconds_vs_sgd": _SIZE,
    },
    "digits_summary": _SUMMARY,
    "fashion_summary": {"label_noise": _SHARE, **_SUMMARY},
    "digits_history": {
        "method": _TEXT,
        "epoch": _COUNT,
        "accuracy": _SHARE,
        "low": _NUMBER,
        "high": _NUMBER,
    },
    "tightness": {
        "bound": _TEXT,
        "schedule": _TEXT,
        "steps": _MANY,
        "value": _POSITIVE,
        "program": _POSITIVE,
        "exact": Field("flag"),
        "ratio": _POSITIVE,
    },
    "one_step": {
        "function_class": _TEXT,
        "ascent": _TEXT,
        "regime": _TEXT,
        "points": _MANY,
        "largest_difference": _SIZE,
        "violations": _COUNT,
    },
    "agreement": {
        "bound": _TEXT,
        "instances": _MANY,
        "compared": _MANY,
        "violations": _COUNT,
        "least_ratio": _POSITIVE,
        "median_ratio": _POSITIVE,
        "false_alarm": _SHARE,
    },
    "price": {
        "method": _TEXT,
        "noise": _SIZE,
        "strength": _SIZE,
        "p": _SHARE,
        "pairs_vs_sgd": _POSITIVE,
    },
    "decay_curves": {
        "problem": _TEXT,
        "gradients": Field("text", choices=("noisy", "exact")),
        "parameters": _TEXT,
        "schedule": _TEXT,
        "steps": _MANY,
        "value": _POSITIVE,
        "low": _NUMBER,
        "high": _NUMBER,
        "bound": _POSITIVE,
        "local_slope": Field("number", optional=True),
    },
    "floor_points": {
        "panel": Field("text", choices=("rho", "q", "eta", "run")),
        "method": _TEXT,
        "x": _SIZE,
        "instance": Field("text", choices=("window", "quadratic")),
        "value": _SIZE,
        "low": _NUMBER,
        "high": _NUMBER,
        "blocks": _MANY,
        "floor": _POSITIVE,
        "bound": Field("number", least=0, optional=True),
        "exponent": Field("number", optional=True),
    },
    "floor_exponents": {
        "panel": Field("text", choices=("rho", "q")),
        "method": _TEXT,
        "eta": _POSITIVE,
        "points": _MANY,
        **dict.fromkeys(("exponent", "low", "high", "family_low", "family_high"), _NUMBER),
        "blocks": _MANY,
    },
    "stability": {
        "panel": _TEXT,
        **dict.fromkeys(("x", "y", "p", "gamma", "eta", "rho", "predicted"), _SIZE),
        **dict.fromkeys(("growth", "growth_low", "growth_high", "sure_low", "sure_high"), _SIZE),
        "replicas": _MANY,
        "falling": _SHARE,
        "predicted_exponent": _NUMBER,
    },
    "stability_runs": {
        "t": _COUNT,
        **dict.fromkeys(("exact", "measured", "measured_low", "measured_high", "median"), _NUMBER),
        "replicas": _MANY,
    },
    "realized_cost": {
        "schedule": _TEXT,
        "kind": Field("text", choices=("independent", "systematic")),
        "source": Field("text", choices=("training", "simulation")),
        "runs": _MANY,
        "mean": _SIZE,
        "exact_mean": _SIZE,
        "exact_sd": _SIZE,
        "least": _COUNT,
        "counted": Field("numbers", least=0),
        "probability": Field("numbers", least=0, most=1),
    },
    "allocation": {
        "problem": _TEXT,
        "noise": _SIZE,
        "eta": _TEXT,
        "budget": _SHARE,
        "quantity": Field("text", choices=("squared_gradient_norm", "final_gap")),
        "schedule": Field(
            "text",
            choices=tuple(
                f"{by}, {goal}" for by in ("allocated", "spectrum") for goal in ("average", "last")
            ),
        ),
        **{
            f"{key}relative{end}": _POSITIVE
            for key in ("", "best_", "worst_")
            for end in ("", "_low", "_high")
        },
        "believed": Field("flag"),
    },
    "benchmark_scaling": {
        "variable": _TEXT,
        "value": _POSITIVE,
        "threads": Field("integer", least=1),
        "seconds": _POSITIVE,
        "exponent": Field("number"),
    },
    "collapse": {
        "setting": _TEXT,
        **_CELL,
        "pairs_per_step": _SIZE,
        "accuracy": _SHARE,
        "accuracy_low": _NUMBER,
        "accuracy_high": _NUMBER,
        "accuracy_verdict": _COLLAPSED,
        **{f"log_eigenvalue{end}": Field("number", optional=True) for end in ("", "_low", "_high")},
        "eigenvalue_verdict": _COLLAPSED,
        "seeds": _MANY,
    },
    "drift": {
        "sigma": _SIZE,
        **_CELL,
        "drift": _POSITIVE,
        "drift_low": _POSITIVE,
        "drift_high": _POSITIVE,
        "first_order": _SIZE,
        "verdict": _COLLAPSED,
        "replicas": _MANY,
    },
    "order": {
        "setting": _TEXT,
        "schedule": _TEXT,
        "accuracy": _SHARE,
        "accuracy_low": _NUMBER,
        "accuracy_high": _NUMBER,
        **{f"log_eigenvalue{end}": Field("number", optional=True) for end in ("", "_low", "_high")},
        "seeds": _MANY,
    },
    "pareto": {
        "setting": _TEXT,
        **_METHOD,
        "rho": _SIZE,
        "pairs_per_step": _SIZE,
        "accuracy": _SHARE,
        **{f"{name}{end}": _NUMBER for name in ("accuracy", "family") for end in ("_low", "_high")},
        "versus_sam": _NUMBER,
        "within": Field("text", choices=("holds", "refuted", "open")),
        "seeds": _MANY,
    },
    "claims": {
        "id": _TEXT,
        "statement": _TEXT,
        "verdict": Field("text", choices=("verified", "supported", "refuted", "open")),
        "number": _NOTE,
        "evidence": _NOTE,
        "figure": _NOTE,
        "source": _NOTE,
        "title": _NOTE,
        "rule": _NOTE,
        "change": _NOTE,
        "command": _NOTE,
    },
    "recheck": {
        "table": _TEXT,
        "value": _TEXT,
        "compared": _MANY,
        "disagree": _COUNT,
        "least_p": _SHARE,
        "level": _SHARE,
        "worst": _TEXT,
        "fresh": Field("number", optional=True),
        "committed": Field("number", optional=True),
    },
    "provenance": {
        "version": _TEXT,
        "revision": _NOTE,
        "quick": Field("flag"),
        "created": _TEXT,
        "seconds": Field("timings"),
        "python": _TEXT,
        "packages": Field("names"),
        "command": _TEXT,
    },
}
"""The fields of each file of a results folder, by the file's name without its ending."""

_SUMMARY_ENDS = [
    (f"{name}_low", f"{name}_high") for name in ("accuracy", "seconds", "versus_sgd", "versus_sam")
]
_ORDERED = {
    "cost": [("low", "high"), ("systematic_low", "systematic_high")],
    "bounds": [("low", "high")],
    "decay_curves": [("low", "high")],
    "allocation": [(f"{key}relative_low", f"{key}relative_high") for key in ("", "best_", "worst_")],
    "digits_runs": [("expected_low", "expected_high")],
    "digits_summary": _SUMMARY_ENDS,
    "fashion_summary": _SUMMARY_ENDS,
    "digits_history": [("low", "high")],
    "floor_points": [("low", "high")],
    "floor_exponents": [("low", "high"), ("family_low", "family_high")],
    "stability": [("growth_low", "growth_high"), ("sure_low", "sure_high")],
    "stability_runs": [("measured_low", "measured_high")],
    "collapse": [("accuracy_low", "accuracy_high")],
    "drift": [("drift_low", "drift_high")],
    "order": [("accuracy_low", "accuracy_high")],
    "pareto": [("accuracy_low", "accuracy_high"), ("family_low", "family_high")],
}
_TABLES = (
    "cost",
    "bounds",
    "one_step",
    "tightness",
    "agreement",
    "price",
    "decay_curves",
    "floor_points",
    "floor_exponents",
    "stability",
    "stability_runs",
    "realized_cost",
    "allocation",
    "benchmark_scaling",
    "digits_runs",
    "digits_summary",
    "digits_history",
    "fashion_summary",
    "collapse",
    "drift",
    "order",
    "pareto",
    "recheck",
)
_LISTS = (*_TABLES, "curves", "claims")


def checked(name: str, rows: Iterable[Row], only: Sequence[str] = (), where: str = "") -> list[Row]:
    """The rows of one file, or rows like them, after a look at every field.

    Args:
        name: a key of `SCHEMA`.
        rows: mappings from field to value.
        only: the fields to ask for; by default all of `SCHEMA[name]`.
        where: what an error calls the place; by default the name.

    Raises:
        ResultsError: no rows, a row without a field, or a value that the field does not allow.
    """
    place = where or name
    table = list(rows)
    if not table:
        raise ResultsError(f"{place}: no rows")
    for i, row in enumerate(table, start=1):
        _check_row(name, row, only, f"{place}, row {i}")
    return table


def _check_row(name: str, row: object, only: Sequence[str], place: str) -> None:
    if not isinstance(row, Mapping):
        raise ResultsError(f"{place} must be an object; got {row!r:.80}")
    for key, field in SCHEMA[name].items():
        if only and key not in only:
            continue
        if key not in row:
            raise ResultsError(
                f"{place}: field {key!r} is missing; if an older version wrote it, run its experiment again"
            )
        problem = field.problem(row[key])
        if problem:
            raise ResultsError(f"{place}: field {key!r} {problem}")
    for low, high in _ORDERED.get(name, ()):
        if (not only or {low, high} <= set(only)) and row[low] > row[high]:
            raise ResultsError(f"{place}: field {low!r} = {row[low]!r} exceeds {high!r} = {row[high]!r}")
    if name == "curves":
        for key in ("mean", "low", "high"):
            if len(row[key]) != len(row["t"]):
                raise ResultsError(
                    f"{place}: field {key!r} has {len(row[key])} numbers where t has {len(row['t'])}"
                )


@dataclass(frozen=True)
class Results:
    """A results folder; None for a file that is not there yet.

    Attributes:
        cost: a row per schedule: its law of the extra pairs.
        bounds: a row per problem and schedule: the bound beside the measured value.
        curves: the squared gradient norm along the run, per problem and schedule.
        one_step: a row per function class, ascent and regime: the one-step formula beside its program.
        tightness: a row per bound and setting: the bound beside the exact worst case.
        agreement: a row per bound: how it fared against random simulations.
        price: pairs that guarantee an accuracy, per method and strength of the regularization.
        decay_curves: a row per problem, gradients, parameters, schedule and horizon: the metric, the bound.
        floor_points: a row per run: its average squared gradient, beside the floor and the bound.
        floor_exponents: a row per line fitted to these.
        stability: a row per cell of the planes: the growth of the mean square, measured and predicted.
        stability_runs: a row per step of runs whose mean square grows while they converge.
        realized_cost: a row per schedule, kind of trials and source: the pairs of many runs beside their law.
        allocation: a row per setting and allocation: its metric beside other schedules'.
        benchmark_scaling: a row per size and number of threads: the time of a simulation.
        digits_runs: a row per training run.
        digits_summary: a row per method.
        fashion_summary: a row per method and share of redrawn labels.
        digits_history: a row per method and epoch.
        collapse: a row per setting, product of degree and radius, p and gamma.
        drift: the same of the drift along a valley, per strength of the noise.
        order: a row per setting and schedule: accuracy and sharpness.
        pareto: a row per setting and tuned method.
        claims: the verdicts.
        recheck: a row per column of a table that a smaller run has computed again.
        provenance: how the results were made.
    """

    cost: list[Row] | None = None
    bounds: list[Row] | None = None
    curves: list[Row] | None = None
    one_step: list[Row] | None = None
    tightness: list[Row] | None = None
    agreement: list[Row] | None = None
    price: list[Row] | None = None
    decay_curves: list[Row] | None = None
    floor_points: list[Row] | None = None
    floor_exponents: list[Row] | None = None
    stability: list[Row] | None = None
    stability_runs: list[Row] | None = None
    realized_cost: list[Row] | None = None
    allocation: list[Row] | None = None
    benchmark_scaling: list[Row] | None = None
    digits_runs: list[Row] | None = None
    digits_summary: list[Row] | None = None
    fashion_summary: list[Row] | None = None
    digits_history: list[Row] | None = None
    collapse: list[Row] | None = None
    drift: list[Row] | None = None
    order: list[Row] | None = None
    pareto: list[Row] | None = None
    claims: list[Row] | None = None
    recheck: list[Row] | None = None
    provenance: Row | None = None

    @classmethod
    def read(cls, folder: Path, only: Sequence[str] = ()) -> Results:
        """The results in a folder.

        Args:
            folder: with the files.
            only: the files to look at; all where this is empty.

        Raises:
            NotADirectoryError: there is no such folder.
            ResultsError: a file is malformed; the message names the file, the row and the field.
        """
        if not folder.is_dir():
            raise NotADirectoryError(f"no results folder at {folder}")
        names = only or [field.name for field in fields(cls)]
        return cls(**{name: _read(folder / f"{name}.json") for name in names})

    @property
    def missing(self) -> tuple[str, ...]:
        """The names of the files that are not there."""
        return tuple(field.name for field in fields(self) if getattr(self, field.name) is None)


def _read(path: Path) -> Any:
    name = path.stem
    try:
        content = read_table(path) if name in _TABLES else read_json(path)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ResultsError(str(error)) from error
    if name not in _LISTS:
        _check_row(name, content, (), path.name)
        return content
    if not isinstance(content, list):
        raise ResultsError(f"{path.name} must be a list; got {content!r:.80}")
    return checked(name, content, where=path.name)
