"""Question: is it the product of degree and radius alone, q rho = p gamma rho, that matters?

To first order it is: E[d] = g + q (grad f(x + rho g/||g||) - g) = g + q rho H g/||g|| + O(q rho^2). So
runs of equal q rho should agree, whatever their cost, as long as rho and gamma are small.

Design: q rho = .05, .1, .2, each by five pairs (p, gamma): (1, 1), (.5, 1), (.5, 2), (.25, 1), (.25, 4), with
rho = q rho/(p gamma). In every setting of `networks` 20 paired seeds on digits, 5 on Fashion-MNIST.

Rule fixed before the run: in a setting, the curves collapse at a value of q rho where the four paired
differences in test accuracy to (1, 1), that is SAM, all have simultaneous 99 % intervals (Bonferroni, over
the four) within ±.015; they break where one of those intervals excludes 0; else it is open. A break within
±.015 counts as a collapse. The logarithm of the largest eigenvalue of the Hessian is judged by the same rule
with ±.25.

Along a valley of minima, where more can be said, the same is asked of the drift: `valley`, with its own rule.

Rule for the statement, fixed before the run: it is supported where, at the smallest q rho, the accuracy and
the sharpness collapse in every setting at hand, and the drift at the largest sigma does; it is refuted where
one of these breaks; else it is open. Larger products say how far the first order reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments import valley
from experiments.equal_products import METHODS, Cell, columns, judged
from experiments.networks import Outcome, Setting, config_of
from experiments.order import FIRST_SEED  # its runs are shared
from experiments.places import estimate, logarithms, outcomes_of, seeds_at, settings_at_hand, with_kept_rows
from experiments.question import Answer, Check, Question, Verdict
from experiments.settings import CONFIDENCE, Size
from experiments.statistics import Interval, mean_interval
from rst_theory.files import read_table, write_table
from rst_theory.notation import FloatArray
from rst_theory.training import TrainConfig

__all__ = ["CHECKS", "FIRST_SEED", "PRODUCTS", "QUESTION", "answer", "collapse_rows", "configs", "run"]

PRODUCTS = (0.05, 0.1, 0.2)
ACCURACY_MARGIN, EIGENVALUE_MARGIN = 0.015, 0.25
FAILED = 0.2
"""An accuracy of twice a guess: such runs are counted, which no rule asks for, and left in."""

QUESTION = Question(
    id="Q5",
    title="Degree times radius",
    statement="To first order only the product q rho matters: runs of equal q rho agree whatever their cost.",
    rule="Supported where, at the smallest q rho, accuracy (within .015 of SAM's) and sharpness (within .25 "
    "in the logarithm of the largest eigenvalue) collapse in every setting, and so does the drift along a "
    "valley with strong label noise (within 10 %), all by simultaneous 99 % intervals; refuted where one "
    "breaks.",
    change="Runs of one q rho, small and equal in all else, that differ in accuracy or sharpness.",
    figure="collapse",
)

CHECKS = (
    *(
        Check(
            "collapse",
            ("setting", "product", "p", "gamma"),
            value,
            (f"{value}_low", f"{value}_high"),
            "seeds",
        )
        for value in ("accuracy", "accuracy_difference")
    ),
    *(
        Check(
            "drift", ("sigma", "product", "p", "gamma"), value, (f"{value}_low", f"{value}_high"), "replicas"
        )
        for value in ("drift", "ratio")
    ),
)

Row = dict[str, Any]


CELLS = tuple(Cell(product, *method) for product in PRODUCTS for method in METHODS)


def configs(setting: Setting, repetitions: int, cells: Sequence[Cell] = CELLS) -> list[TrainConfig]:
    """The runs of a setting: seed by seed, and for each seed cell by cell."""
    return [
        config_of(setting, seed, cell.p, gamma=cell.gamma, rho=cell.rho)
        for seed in range(FIRST_SEED, FIRST_SEED + repetitions)
        for cell in cells
    ]


def collapse_rows(setting: Setting, cells: Sequence[Cell], runs: Sequence[Outcome]) -> list[Row]:
    """A row for each cell, with its paired differences to SAM and the verdicts on its product.

    Args:
        setting: where they were run.
        cells: with SAM, (p, gamma) = (1, 1), at every product.
        runs: in the order of `configs`.
    """
    of = {cell: runs[i :: len(cells)] for i, cell in enumerate(cells)}
    accuracy = {cell: np.array([run.accuracy for run in own]) for cell, own in of.items()}
    eigenvalue = {
        cell: np.array(logarithms([run.largest_eigenvalue for run in own]), dtype=float)  # NaN where unknown
        for cell, own in of.items()
    }
    simultaneous = 1 - (1 - CONFIDENCE) / (len(METHODS) - 1)
    rows = []
    for product in dict.fromkeys(cell.product for cell in cells):
        sam = Cell(product, *METHODS[0])
        group = [cell for cell in cells if cell.product == product]
        accuracy_differences, eigenvalue_differences = (
            {cell: _mean(value[cell] - value[sam], simultaneous) for cell in group}
            for value in (accuracy, eigenvalue)
        )
        verdicts = {
            f"{name}_verdict": judged([d for cell, d in found.items() if cell != sam], 0.0, margin)
            for name, found, margin in (
                ("accuracy", accuracy_differences, ACCURACY_MARGIN),
                ("eigenvalue", eigenvalue_differences, EIGENVALUE_MARGIN),
            )
        }
        for cell in group:
            rows.append(
                {
                    "setting": setting.label,
                    **cell._asdict(),
                    "rho": cell.rho,
                    "pairs_per_step": 1 + cell.p,
                    **estimate("accuracy", accuracy[cell].tolist()),
                    **estimate("log_eigenvalue", eigenvalue[cell].tolist()),
                    **estimate("log_trace", logarithms([run.trace for run in of[cell]])),
                    **columns("accuracy_difference", accuracy_differences[cell]),
                    **columns("eigenvalue_difference", eigenvalue_differences[cell]),
                    **verdicts,
                    "seeds": len(of[cell]),
                    "failed": int((accuracy[cell] <= FAILED).sum()),
                    "diverged": sum(run.diverged for run in of[cell]),
                }
            )
    return rows


def _mean(sample: FloatArray, confidence: float) -> Interval:
    """Of what is known: an interval without ends from one number, nothing but NaN from none."""
    known = sample[np.isfinite(sample)]
    if known.size > 1:
        return mean_interval(known, confidence)
    return Interval(float(known[0]) if known.size else math.nan, -math.inf, math.inf)


def run(size: Size, results: Path) -> Iterator[float]:
    """Write collapse.csv (a row per setting and cell), drift.csv and drift_exponents.csv."""
    settings, cells = settings_at_hand(size), _cells(size)
    rows: list[Row] = []
    for done, setting in enumerate(settings):
        found: list[Outcome] = []
        for share in outcomes_of(setting, configs(setting, seeds_at(setting, size), cells), size, found):
            yield 0.8 * (done + share) / len(settings)
        rows += collapse_rows(setting, cells, found)
    write_table(results, "collapse", with_kept_rows(rows, results, "collapse"))

    excess: dict[float, valley.Excess] = {}
    for share in valley.excess_drifts(size, excess):
        yield 0.8 + 0.2 * share
    write_table(
        results, "drift", [row for sigma in excess for row in valley.drift_rows(sigma, excess[sigma])]
    )
    if size.full:
        exponents = [valley.exponent_row(sigma, excess[sigma]) for sigma in excess]
        write_table(results, "drift_exponents", exponents)


def _cells(size: Size) -> Sequence[Cell]:
    if size.full:
        return CELLS
    middle = [cell for cell in CELLS if cell.product == PRODUCTS[1]]
    return middle if size.level == "check" else [middle[0], middle[2]]


def answer(results: Path) -> Answer:
    """The verdict by the rules, from the tables."""
    network, drift, exponents = (
        read_table(results / f"{name}.json") for name in ("collapse", "drift", "drift_exponents")
    )
    smallest = [row for row in network if row["product"] == min(PRODUCTS)]
    deciding = {row[f"{name}_verdict"] for row in smallest for name in ("accuracy", "eigenvalue")}
    deciding |= {
        row["verdict"]
        for row in drift
        if (row["sigma"], row["product"]) == (valley.SIGMAS[-1], valley.PRODUCTS[0])
    }
    verdict: Verdict = "refuted" if "break" in deciding else "open" if "open" in deciding else "supported"
    cells = {(row["setting"], row["product"]): row for row in network}
    agree = sum(row["accuracy_verdict"] == "collapse" for row in cells.values())
    return Answer(
        verdict,
        f"accuracy agrees in {agree} of {len(cells)}",
        " ".join(
            [
                *(_counted(cells, name) for name in ("accuracy", "eigenvalue")),
                *(_farthest(network, name) for name in ("accuracy", "eigenvalue")),
                _failures(network),
                _valley(drift, exponents),
                _remainder(drift),
            ]
        ),
    )


_NAMES = {"accuracy": "accuracy", "eigenvalue": "the logarithm of the largest eigenvalue"}


def _counted(cells: dict[tuple[str, float], Row], name: str) -> str:
    verdicts = [row[f"{name}_verdict"] for row in cells.values()]
    collapsed, broken = verdicts.count("collapse"), verdicts.count("break")
    where = [
        f"{setting} at {product:g}"
        for (setting, product), row in cells.items()
        if row[f"{name}_verdict"] == "break"
    ]
    listed = f" ({'; '.join(where)})" if where else ""
    return (
        f"Over {len(cells)} settings and products, {_NAMES[name]} collapses in {collapsed}, breaks in "
        f"{broken}{listed} and is open in {len(cells) - collapsed - broken}."
    )


def _farthest(rows: Sequence[Row], name: str) -> str:
    """The cell that is surest to differ from SAM."""
    key = f"{name}_difference"
    others = [row for row in rows if (row["p"], row["gamma"]) != METHODS[0]]
    known = [row for row in others if row[f"{key}_low"] is not None]
    row = max(known, key=lambda row: max(row[f"{key}_low"], -row[f"{key}_high"]))
    return (
        f"The surest difference to SAM in {_NAMES[name]} is {row[key]:+.3f} [{row[f'{key}_low']:+.3f}, "
        f"{row[f'{key}_high']:+.3f}], of p = {row['p']:g}, gamma = {row['gamma']:g} at q rho = "
        f"{row['product']:g} on {row['setting']}, {row['seeds']} seeds."
    )


def _failures(rows: Sequence[Row]) -> str:
    failed, diverged, seeds = (sum(row[name] for row in rows) for name in ("failed", "diverged", "seeds"))
    row = max(rows, key=lambda row: row["failed"])
    where = (
        f", {row['failed']} of them among the {row['seeds']} of p = {row['p']:g}, gamma = {row['gamma']:g} "
        f"at q rho = {row['product']:g} on {row['setting']}"
    )
    return (
        f"{failed} of {seeds} runs end no better than twice a guess{where if failed else ''}; {diverged} "
        "diverged. They are left in."
    )


def _valley(drift: Sequence[Row], exponents: Sequence[Row]) -> str:
    fitted = " and ".join(
        f"{row['radius_exponent']:.3f} [{row['radius_exponent_low']:.3f}, {row['radius_exponent_high']:.3f}] "
        f"at sigma = {row['sigma']:g}"
        for row in (exponents[-1], exponents[0])
    )
    off = max(abs(row["drift"] / row["predicted"] - 1) for row in drift if row["sigma"])
    return (
        f"Along the valley of (x y - 1)^2/2 the drift at a given q rho grows with the radius to the power "
        f"{fitted}: strong label noise makes q rho the variable, no noise makes it nearly q rho^2. The "
        f"second-order prediction is within {100 * off:.0f} % of the drift wherever there is noise."
    )


def _remainder(drift: Sequence[Row]) -> str:
    unequal = [row for row in drift if row["allowed"] > 0]
    within = sum(max(row["ratio_high"] - 1, 1 - row["ratio_low"]) <= row["allowed"] for row in unequal)
    equal = max((row for row in drift if row["allowed"] == 0), key=lambda row: row["ratio_low"])
    return (
        f"Where radii differ, the departure from SAM's drift is within what the bound on the remainder "
        f"allows in {within} of {len(unequal)} cells; at SAM's radius that bound is 0, and what is left is "
        f"of single steps: up to a factor of {equal['ratio']:.2f} [{equal['ratio_low']:.2f}, "
        f"{equal['ratio_high']:.2f}], at p = {equal['p']:g} and sigma = {equal['sigma']:g}. For the "
        "networks, whose Hessian has no known Lipschitz constant, the bound says only that the departure can "
        "grow as rho."
    )
