"""Question: how cheap can SAM's tuned accuracy be had?

Design: every method has the same tuning budget, six values of (rho, gamma) by four seeds (two on
Fashion-MNIST, with eleven times as many validation examples as on digits); what has the best
mean accuracy on validation examples (labels as noisy as those for training) is then run on other, paired
seeds, and judged on test examples that played no part in the choice: 20 on digits, 5 on Fashion-MNIST. SGD
has nothing to tune but is run on the same seeds. Ties go to the smaller q rho. In every setting of
`networks`.

Rule fixed before the run: the target "within half a point of SAM's tuned accuracy at 1.25 pairs a step" holds
in a setting where the interval of the paired difference of G-RST with p = 1/4 to SAM, simultaneous over the
settings of a data set (Bonferroni, 99 %), lies above -.005; it is refuted where it lies below -.005; else it
is open.

Rule for the statement: supported where the target holds in every setting on digits, refuted where it is
refuted in every one, else open. A tie that is left goes to what stands first in the grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.networks import SETTINGS, Outcome, Setting, config_of
from experiments.order import FIRST_SEED  # its runs are shared where they agree
from experiments.places import (
    estimate,
    outcomes_of,
    pairs_per_step,
    seeds_at,
    settings_at_hand,
    with_kept_rows,
)
from experiments.question import Answer, Check, Question, Verdict
from experiments.settings import CONFIDENCE, RESULTS, Size
from experiments.statistics import paired_difference
from rst_theory.files import read_table, write_table
from rst_theory.training import TrainConfig

__all__ = [
    "CHECKS",
    "FIRST_SEED",
    "FIRST_TUNING_SEED",
    "GRIDS",
    "QUESTION",
    "TARGET",
    "Choice",
    "answer",
    "best",
    "configs",
    "pareto_rows",
    "run",
    "tuning_configs",
    "tuning_rows",
    "tuning_seeds",
]

QUESTION = Question(
    id="Q6",
    title="Pareto front",
    statement="G-RST at 1.25 pairs a step has SAM's tuned accuracy to within half a point.",
    rule="In a setting it holds where the 99 % interval of the paired difference in test accuracy of G-RST "
    "with p = 1/4 to SAM, both tuned with one budget, simultaneous over the settings of the data set, lies "
    "above -.005, and is refuted where that lies below; supported or refuted where all settings on digits "
    "say so, else open.",
    change="Settings in which the same budget of tuning brings the interval to the other side of -.005.",
    figure="pareto",
)

CHECKS = tuple(
    Check("pareto", ("setting", "method"), value, (f"{value}_low", f"{value}_high"), "seeds")
    for value in ("accuracy", "versus_sam")
)

TARGET, MARGIN = "G-RST p=0.25", 0.005
Row = dict[str, Any]


class Choice(NamedTuple):
    """What a method may tune."""

    gamma: float
    rho: float


def _grid(*choices: tuple[float, float]) -> tuple[Choice, ...]:
    return tuple(Choice(*choice) for choice in choices)


GRIDS: dict[str, tuple[float, tuple[Choice, ...]]] = {
    "SGD": (0.0, _grid((1, 0.0))),
    "G-RST p=0.125": (0.125, _grid((8, 0.05), (8, 0.1), (4, 0.1), (4, 0.2), (2, 0.2), (2, 0.4))),
    "G-RST p=0.25": (0.25, _grid((4, 0.05), (4, 0.1), (4, 0.15), (2, 0.1), (2, 0.2), (2, 0.3))),
    "RST p=0.25": (0.25, _grid((1, 0.1), (1, 0.2), (1, 0.3), (1, 0.45), (1, 0.6), (1, 0.9))),
    "G-RST p=0.5": (0.5, _grid((2, 0.05), (2, 0.1), (2, 0.15), (2, 0.2), (4, 0.05), (4, 0.1))),
    "RST p=0.5": (0.5, _grid((1, 0.05), (1, 0.1), (1, 0.15), (1, 0.2), (1, 0.3), (1, 0.45))),
    "SAM": (1.0, _grid((1, 0.025), (1, 0.05), (1, 0.1), (1, 0.15), (1, 0.2), (1, 0.3))),
}
"""For each method its p and the six choices."""

FIRST_TUNING_SEED = 3000


def tuning_seeds(setting: Setting) -> range:
    """The seeds of the tuning runs: four on digits, two on Fashion-MNIST."""
    return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + (4 if setting.data == "digits" else 2))


def tuning_configs(setting: Setting, method: str) -> list[TrainConfig]:
    """The tuning runs of a method: choice by choice, seed by seed."""
    p, choices = GRIDS[method]
    return [
        config_of(setting, seed, p, gamma=choice.gamma, rho=choice.rho)
        for choice in choices
        for seed in tuning_seeds(setting)
    ]


def configs(setting: Setting, chosen: dict[str, Choice], repetitions: int) -> list[TrainConfig]:
    """The test runs: method by method, seed by seed."""
    return [
        config_of(setting, seed, GRIDS[method][0], gamma=choice.gamma, rho=choice.rho)
        for method, choice in chosen.items()
        for seed in range(FIRST_SEED, FIRST_SEED + repetitions)
    ]


def run(size: Size, results: Path) -> Iterator[float]:
    """Write pareto_tuning.csv, pareto_choices.csv and pareto.csv (a row per setting and method).

    A smaller run tunes nothing: it repeats the target and SAM with the choices of the committed table.
    """
    settings = settings_at_hand(size)
    tuning: list[Row] = []
    choices: list[Row] = []
    rows: list[Row] = []
    for done, setting in enumerate(settings):
        tuned = 0.0
        if size.full:
            tuned = 0.5
            found: list[Outcome] = []
            wanted = [config for method in _TUNED for config in tuning_configs(setting, method)]
            for share in outcomes_of(setting, wanted, size, found, sharpness=False):
                yield (done + tuned * share) / len(settings)
            own = tuning_rows(setting, found)
            tuning += own
            choices += [_choice(setting, method, own) for method in GRIDS]
        else:
            choices += [row for row in read_table(RESULTS / "pareto_choices.json") if _repeated(row, setting)]
        chosen = {
            row["method"]: Choice(row["gamma"], row["rho"])
            for row in choices
            if row["setting"] == setting.label
        }
        runs: list[Outcome] = []
        repetitions = seeds_at(setting, size)
        for share in outcomes_of(setting, configs(setting, chosen, repetitions), size, runs):
            yield (done + tuned + (1 - tuned) * share) / len(settings)
        of = {method: runs[i * repetitions :][:repetitions] for i, method in enumerate(chosen)}
        rows += pareto_rows(setting, chosen, of)
    for name, table in (("pareto_tuning", tuning), ("pareto_choices", choices), ("pareto", rows)):
        if table:
            write_table(results, name, with_kept_rows(table, results, name))


_TUNED = tuple(method for method, (_, choices) in GRIDS.items() if len(choices) > 1)


def _repeated(row: Row, setting: Setting) -> bool:
    return row["setting"] == setting.label and row["method"] in (TARGET, "SAM")


def tuning_rows(setting: Setting, runs: Sequence[Outcome]) -> list[Row]:
    """A row for each tuned method and choice.

    Args:
        setting: where they were run.
        runs: method by method in the order of `GRIDS`, each in that of `tuning_configs`.
    """
    tried = [(method, choice) for method in _TUNED for choice in GRIDS[method][1]]
    seeds = len(tuning_seeds(setting))
    rows = []
    for i, (method, choice) in enumerate(tried):
        own = runs[i * seeds :][:seeds]
        rows.append(
            {
                "setting": setting.label,
                "method": method,
                **choice._asdict(),
                "product": GRIDS[method][0] * choice.gamma * choice.rho,
                **estimate("validation_accuracy", [run.validation_accuracy for run in own]),
                "seeds": len(own),
                "diverged": sum(run.diverged for run in own),
            }
        )
    return rows


def best(rows: Sequence[Row]) -> Row:
    """The row of the best validation accuracy; of several, that of the least q rho, then the first."""
    # Sums of the same accuracies in another order differ by rounding.
    return min(rows, key=lambda row: (-round(row["validation_accuracy"], 9), round(row["product"], 9)))


def _choice(setting: Setting, method: str, tuning: Sequence[Row]) -> Row:
    """What a method is run with, and its validation accuracy; null for SGD, which has nothing to tune."""
    if method in _TUNED:
        row = best([row for row in tuning if row["method"] == method])
    else:
        row = {**GRIDS[method][1][0]._asdict(), "validation_accuracy": None}
    taken = {key: row[key] for key in ("gamma", "rho", "validation_accuracy")}
    return {"setting": setting.label, "method": method, **taken}


def pareto_rows(setting: Setting, chosen: dict[str, Choice], of: dict[str, list[Outcome]]) -> list[Row]:
    """A row for each method with its paired difference to SAM, and whether it is within half a point.

    Args:
        setting: where they were run.
        chosen: for each method, SAM among them.
        of: the test runs of each method, in the order of the seeds.
    """
    simultaneous = 1 - (1 - CONFIDENCE) / sum(other.data == setting.data for other in SETTINGS)
    sam = [run.test_accuracy for run in of["SAM"]]
    rows = []
    for method, runs in of.items():
        accuracy = [run.test_accuracy for run in runs]
        several = len(runs) > 1
        plain = paired_difference(accuracy, sam) if several else None
        family = paired_difference(accuracy, sam, simultaneous) if several else None
        rows.append(
            {
                "setting": setting.label,
                "method": method,
                "p": GRIDS[method][0],
                **chosen[method]._asdict(),
                **estimate("pairs_per_step", pairs_per_step(runs)),
                **estimate("accuracy", accuracy),
                **estimate("versus_sam", [a - b for a, b in zip(accuracy, sam, strict=True)]),
                "family_low": family and family.low,
                "family_high": family and family.high,
                "effect": plain.effect if plain and math.isfinite(plain.effect) else None,
                "within": "open" if family is None else _within(family.low, family.high),
                "seeds": len(runs),
                "diverged": sum(run.diverged for run in runs),
            }
        )
    return rows


def _within(low: float, high: float) -> str:
    """By the rule: whether the difference to SAM is above -MARGIN."""
    return "holds" if low > -MARGIN else "refuted" if high < -MARGIN else "open"


def answer(results: Path) -> Answer:
    """The verdict on the settings on digits, from pareto.json."""
    rows = read_table(results / "pareto.json")
    target = [row for row in rows if row["method"] == TARGET]
    digits, others = ([row for row in target if _on_digits(row) is told] for told in (True, False))
    said = {row["within"] for row in digits}
    verdict: Verdict = "supported" if said == {"holds"} else "refuted" if said == {"refuted"} else "open"
    holds = sum(row["within"] == "holds" for row in digits)
    evidence = [_targets("digits", digits), _cheapest(rows), _sgd(rows)]
    if others:
        evidence.insert(1, _targets("Fashion-MNIST", others))
    seeds = "four seeds (two on Fashion-MNIST)" if others else "four seeds"
    evidence.append(
        f"Each method was tuned over six choices with {seeds}, on validation labels as noisy as those for "
        "training, for one small network; intervals of the target hold together over the settings of a data "
        "set."
    )
    return Answer(verdict, f"within half a point in {holds} of {len(digits)} settings", " ".join(evidence))


def _on_digits(row: Row) -> bool:
    return str(row["setting"]).startswith("digits")


def _targets(data: str, rows: Sequence[Row]) -> str:
    words = {"holds": "it holds", "refuted": "it is refuted", "open": "it is open"}
    said = "; ".join(
        f"{_place(row)}, {words[row['within']]} ({_difference(row, 'family')}; accuracy "
        f"{row['accuracy']:.4f}, gamma = {row['gamma']:g}, rho = {row['rho']:g})"
        for row in rows
    )
    return f"G-RST with p = 1/4 less SAM on {data}, {min(row['seeds'] for row in rows)} paired seeds: {said}."


def _cheapest(rows: Sequence[Row]) -> str:
    """The cheapest method within half a point of SAM in each setting."""
    said = []
    for sam in (row for row in rows if row["method"] == "SAM"):
        near = [
            row
            for row in rows
            if row["setting"] == sam["setting"] and row["method"] != "SAM" and row["within"] == "holds"
        ]
        row = min(near, key=lambda row: (row["p"], -row["accuracy"]), default=sam)
        name = f"{row['method']} ({_difference(row, 'family')})" if near else "none but SAM itself"
        said.append(f"{name} in {sam['setting']}")
    return f"The cheapest method whose interval lies above -0.005, by the same intervals: {'; '.join(said)}."


def _sgd(rows: Sequence[Row]) -> str:
    """How much there is to gain."""
    said = [f"{_difference(row, 'versus_sam')} in {row['setting']}" for row in rows if row["method"] == "SGD"]
    return f"SGD less SAM, 99 % intervals one by one: {'; '.join(said)}."


def _place(row: Row) -> str:
    return str(row["setting"]).partition(", ")[2]


def _difference(row: Row, ends: str) -> str:
    return f"{row['versus_sam']:+.4f} [{row[f'{ends}_low']:+.4f}, {row[f'{ends}_high']:+.4f}]"
