"""Question: at equal cost, does it matter when the sharpness-aware steps are taken?

Design: SAM steps on the first half of the run, on the last half, spread evenly at random (p = 1/2), with a
probability that rises from 0 to 1 or falls from 1 to 0: each 1.5 pairs a step, gamma = 1, rho = .1 untuned;
SGD and SAM beside them. In every setting of `networks` 20 paired seeds on digits, 5 on Fashion-MNIST.

Rule fixed before the run: order matters in a setting where one of the three differences in test accuracy
early - late, early - spread, late - spread, seed by seed, is not 0 by a t test, after Holm's correction over
all differences of the data set, at a familywise level of 1 %. "Late is best on clean data", as the literature
has it, is supported where late - early and late - spread are both above 0 so. Sharpness (largest
eigenvalue and trace of the Hessian, as logarithms) and training loss are judged by the same rule, apart.

Rule for the statement: supported where order matters in every setting on digits. The rule refutes it nowhere,
so that a setting without a difference leaves it open.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any

import rst_theory as rst
from experiments.networks import Outcome, Setting, config_of
from experiments.places import (
    estimate,
    logarithms,
    outcomes_of,
    pairs_per_step,
    seeds_at,
    settings_at_hand,
    with_kept_rows,
)
from experiments.question import Answer, Check, Question, Verdict
from experiments.settings import Size
from experiments.statistics import holm, paired_difference
from rst_theory.files import read_table, write_table
from rst_theory.schedules import Schedule
from rst_theory.training import TrainConfig

__all__ = [
    "CHECKS",
    "FIRST_SEED",
    "MEASURES",
    "QUESTION",
    "SCHEDULES",
    "adjusted",
    "answer",
    "configs",
    "difference_rows",
    "order_rows",
    "run",
]

SCHEDULES: dict[str, Schedule] = {
    "SGD": rst.Constant(0.0),
    "early": rst.Piecewise(1.0, 0.0, 0.5),
    "late": rst.Piecewise(0.0, 1.0, 0.5),
    "spread": rst.Constant(0.5),
    "rising": rst.Linear(0.0, 1.0),
    "falling": rst.Linear(1.0, 0.0),
    "SAM": rst.Constant(1.0),
}
FIRST_SEED = 2000
COMPARED = ("early", "late", "spread")
MEASURES = ("accuracy", "log_eigenvalue", "log_trace", "train_loss")
LEVEL = 0.01
"""The familywise level of the rule."""

QUESTION = Question(
    id="Q4",
    title="Order of the schedule",
    statement="At equal cost it matters when the SAM steps are taken.",
    rule="In a setting it matters where a paired difference in test accuracy between early, late and spread "
    "is not 0 by a t test, after Holm's correction over all differences of the data set, at a familywise "
    "level of 1 %; supported where it does so in all settings on digits, else open.",
    change="New seeds of these settings on which early, late and spread SAM steps cannot be told apart; a "
    "setting where they cannot says only that the differences there are small.",
    figure="order",
)

CHECKS = (
    *(
        Check("order", ("setting", "schedule"), value, (f"{value}_low", f"{value}_high"), "seeds")
        for value in MEASURES
    ),
    Check(
        "order_differences",
        ("setting", "measure", "first", "second"),
        "difference",
        ("difference_low", "difference_high"),
        "seeds",
    ),
)

Row = dict[str, Any]
_CHECKED = ("SGD", "early", "late", "spread", "SAM")


def configs(
    setting: Setting, repetitions: int, schedules: Sequence[str] = tuple(SCHEDULES)
) -> list[TrainConfig]:
    """The runs of a setting, seed by seed, and for each seed schedule by schedule."""
    seeds = range(FIRST_SEED, FIRST_SEED + repetitions)
    return [config_of(setting, seed, SCHEDULES[name]) for seed in seeds for name in schedules]


def run(size: Size, results: Path) -> Iterator[float]:
    """Write order.csv (a row per setting and schedule) and order_differences.csv (per pair of schedules)."""
    settings = settings_at_hand(size)
    schedules = tuple(SCHEDULES) if size.full else _CHECKED
    rows: list[Row] = []
    differences: list[Row] = []
    for done, setting in enumerate(settings):
        runs: list[Outcome] = []
        wanted = configs(setting, seeds_at(setting, size), schedules)
        for share in outcomes_of(setting, wanted, size, runs):
            yield (done + share) / len(settings)
        of = {name: runs[i :: len(schedules)] for i, name in enumerate(schedules)}
        rows += order_rows(setting, of)
        differences += difference_rows(setting, of)
    write_table(results, "order", with_kept_rows(rows, results, "order"))
    differences = with_kept_rows(adjusted(differences), results, "order_differences")
    write_table(results, "order_differences", differences)


def order_rows(setting: Setting, of: dict[str, list[Outcome]]) -> list[Row]:
    """A row for each schedule, from its runs in the order of the seeds."""
    rows = []
    for name, runs in of.items():
        row: Row = {"setting": setting.label, "schedule": name}
        row |= estimate("pairs_per_step", pairs_per_step(runs))
        for measure in MEASURES:
            row |= estimate(measure, _values(measure, runs))
        rows.append({**row, "seeds": len(runs), "diverged": sum(run.diverged for run in runs)})
    return rows


def difference_rows(setting: Setting, of: dict[str, list[Outcome]]) -> list[Row]:
    """A row for each measure and pair of early, late and spread, without seeds where either is unknown."""
    rows = []
    for measure, (first, second) in product(MEASURES, combinations(COMPARED, 2)):
        both = zip(_values(measure, of[first]), _values(measure, of[second]), strict=True)
        pairs = [(a, b) for a, b in both if a is not None and b is not None]
        row: Row = {"setting": setting.label, "measure": measure, "first": first, "second": second}
        row |= estimate("difference", [a - b for a, b in pairs])
        found = paired_difference([a for a, _ in pairs], [b for _, b in pairs]) if len(pairs) > 1 else None
        row |= {"p_value": found and found.p_value, "adjusted_p": None}
        row |= {"effect": found.effect if found and math.isfinite(found.effect) else None}
        rows.append({**row, "seeds": len(pairs)})
    return rows


def adjusted(rows: Sequence[Row]) -> list[Row]:
    """The rows with Holm's correction over all differences of a data set, apart for each measure."""
    done = [dict(row) for row in rows]
    families: dict[tuple[str, str], list[Row]] = {}
    for row in done:
        if row["p_value"] is not None:
            families.setdefault((_data(row), row["measure"]), []).append(row)
    for family in families.values():
        for row, p in zip(family, holm([row["p_value"] for row in family]), strict=True):
            row["adjusted_p"] = p
    return done


def _values(measure: str, runs: Sequence[Outcome]) -> list[float | None]:
    """Seed by seed; None where a run that diverged left nothing to measure but the accuracy of a guess."""
    if measure.startswith("log_"):
        raw = [run.largest_eigenvalue if measure == "log_eigenvalue" else run.trace for run in runs]
        return logarithms(raw)
    return [run.accuracy if measure == "accuracy" else run.train_loss for run in runs]


def _data(row: Row) -> str:
    """The data set of a row."""
    return str(row["setting"]).partition(",")[0]


def answer(results: Path) -> Answer:
    """The verdict on the settings on digits, from order_differences.json."""
    rows = read_table(results / "order_differences.json")
    settings = list(dict.fromkeys(row["setting"] for row in rows if _data(row) == "digits"))
    own = {
        (measure, setting): [row for row in rows if (row["measure"], row["setting"]) == (measure, setting)]
        for measure in MEASURES
        for setting in dict.fromkeys(row["setting"] for row in rows)
    }
    matters = [setting for setting in settings if any(map(_differs, own["accuracy", setting]))]
    verdict: Verdict = "supported" if len(matters) == len(settings) else "open"
    evidence = [_accuracy(own, settings, "digits"), _apart(own, settings), _late(own, settings)]
    elsewhere = list(dict.fromkeys(row["setting"] for row in rows if _data(row) != "digits"))
    if elsewhere:
        evidence.insert(1, _accuracy(own, elsewhere, _data({"setting": elsewhere[0]})))
    evidence.append(
        "Measured for one small network, SGD with momentum, one untuned radius, 1.5 pairs a step."
    )
    return Answer(verdict, f"it matters in {len(matters)} of {len(settings)} settings", " ".join(evidence))


Grouped = dict[tuple[str, str], list[Row]]


def _differs(row: Row) -> bool:
    """Whether a difference is not 0 by the rule."""
    return row["adjusted_p"] is not None and row["adjusted_p"] < LEVEL


def _accuracy(own: Grouped, settings: Sequence[str], data: str) -> str:
    said = []
    for setting in settings:
        rows = own["accuracy", setting]
        row = min(rows, key=lambda row: (row["p_value"], -abs(row["difference"])))
        how = "it matters" if _differs(row) else "no difference is found"
        said.append(f"{_place(setting)}, {how} ({_difference(row)}, Holm's p {row['adjusted_p']:.1g})")
    seeds = min(row["seeds"] for setting in settings for row in own["accuracy", setting])
    return f"Test accuracy on {data}, {seeds} paired seeds, surest difference of three: {'; '.join(said)}."


def _apart(own: Grouped, settings: Sequence[str]) -> str:
    """What the same rule says of sharpness and training loss on digits."""
    words = {
        "log_eigenvalue": "the logarithm of the largest eigenvalue",
        "log_trace": "that of the trace",
        "train_loss": "the training loss",
    }
    said = []
    for measure, word in words.items():
        differ = [s for s in settings if any(map(_differs, own[measure, s]))]
        row = max((r for s in settings for r in own[measure, s]), key=lambda row: abs(row["effect"] or 0.0))
        where = _place(row["setting"])
        said.append(
            f"{word} in {len(differ)} of {len(settings)} (largest effect: {_difference(row)}, {where})"
        )
    return f"By the same rule, order changes {', '.join(said[:-1])} and {said[-1]}."


def _late(own: Grouped, settings: Sequence[str]) -> str:
    """Whether late is best on clean data."""
    said = []
    for setting in settings:
        if "clean" not in setting:
            continue
        of = {(row["first"], row["second"]): row for row in own["accuracy", setting]}
        minus_late, late_minus = of["early", "late"], of["late", "spread"]
        best = all(map(_differs, (minus_late, late_minus))) and minus_late["difference"] < 0
        best = best and late_minus["difference"] > 0
        how = "supported" if best else "not supported"
        said.append(f"{how} in {_place(setting)} ({_difference(minus_late)}; {_difference(late_minus)})")
    return f"That late is best on clean data is {'; '.join(said)}." if said else ""


def _place(setting: str) -> str:
    return setting.partition(", ")[2]


def _difference(row: Row) -> str:
    """A difference with its interval and the effect size."""
    ends = f"{row['difference']:+.4f} [{row['difference_low']:+.4f}, {row['difference_high']:+.4f}]"
    effect = "" if row["effect"] is None else f", d = {row['effect']:+.2f}"
    return f"{row['first']} - {row['second']} {ends}{effect}"
