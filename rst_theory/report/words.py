"""What the page says about its figures, claims and headline numbers."""

from __future__ import annotations

from typing import NamedTuple

from rst_theory.plots import FIGURES, Results, ResultsError, Row
from rst_theory.report.numbers import count, fixed, interval, three

__all__ = ["CAPTIONS", "CLAIMS", "VERDICTS", "Claim", "Headline", "claims", "description", "headlines"]

CAPTIONS = {
    "schedules": "Every schedule: the probability p of a sharpness-aware step over the run. Dashed: its "
    "mean. What changes faster than can be drawn is shown by its mean alone.",
    "cost": "Extra propagation pairs per step: the exact mean, and the 99 % interval of the exact law. Where "
    "none shows, it is narrower than its dot; the table has its ends. SGD stands at 0, SAM at 1.",
    "bounds": "The bound beside the measurement, on common random numbers: the bound's own metric with its "
    "99 % interval (often narrower than the dot), and the bound. The factor at the right is bound over "
    "measured: 1 would be exact, and less than 1 would refute the bound.",
    "convergence": "Mean squared gradient norm along the run with its 99 % band, and the same divided by the "
    "mean of SGD: what lies below 1 is ahead of SGD at that step. The band is that of the schedule alone.",
    "regimes": "Which function is the worst for one perturbed step, over step size and gradient norm, for "
    "three mixing coefficients; below, its derivative along the gradient in each regime. In the descent "
    "regime the classical descent argument is exact, in the others it is not.",
    "tightness": "Each bound over the exact worst case of its function class, a semidefinite program over "
    "the whole tree of trials: a dot per setting, 1 to 4 steps. 1 is exact, and nothing can lie left of it.",
    "price": "Propagation pairs that guarantee an accuracy ε of the average squared gradient, relative to "
    "SGD's, against the strength of the regularization; the step size, and for the dotted line the "
    "probability, chosen for the least cost.",
    "engine_scaling": "Time of a simulation against replicas, steps and coordinates, on one thread and on "
    "two: medians, lines of slope 1 through the largest run, and the fitted exponent.",
    "accuracy": "Test accuracy against what it costs, with 99 % intervals of the mean; and paired "
    "differences over common seeds, with 99 % intervals: one that lies right of 0 is a lead.",
    "training": "Mean test accuracy after each epoch, with 99 % bands over the seeds.",
    "pairs": "Pairs per step that each run with random cost spent, beside what its trials announced before "
    "it began and the 99 % interval of the exact law. RST and G-RST share their trials.",
    "fashion": "The same on Fashion-MNIST: 10,000 training images, clean and with part of the labels "
    "redrawn, five common seeds. Accuracy after the last epoch, with 99 % intervals.",
}
"""The caption of each figure."""

CLAIMS = {
    "C1": "At each iteration a Bernoulli trial picks the base step (one forward-backward pair) or the "
    "sharpness-aware step (two), with a probability given by a schedule function; the count of propagation "
    "pairs drops accordingly.",
    "C2": "RST converges.",
    "C3": "Different families of schedule functions cost and perform differently, and there are directions "
    "on how to choose one.",
    "C4": "G-RST adjusts the degree of sharpness regularization freely for any schedule function.",
    "C5": "G-RST can outperform SAM in most cases while saving 50 % of SAM's extra computation.",
}
"""The claims of the abstract of arXiv 2203.09962, in short; each is open until there is evidence."""

VERDICTS = {
    "verified": ("✓", "proved or exactly computed here, and nothing measured contradicts it"),
    "supported": ("●", "measured here, in the setting that the evidence names; open elsewhere"),
    "refuted": ("✗", "measured to be false, in the setting that the evidence names"),
    "open": ("○", "no evidence yet, or none that decides"),
}
"""The sign and the meaning of each verdict."""


class Claim(NamedTuple):
    """One claim as the page shows it."""

    id: str
    statement: str
    verdict: str
    number: str | None
    evidence: str
    figure: str | None
    source: str | None


def claims(results: Results) -> list[Claim]:
    """The claims in the order of their ids, those without evidence included, which say so.

    Raises:
        ResultsError: two claims of one id, or a figure that is none of `FIGURES`.
    """
    found: dict[str, Claim] = {}
    for i, row in enumerate(results.claims or (), start=1):
        if row["id"] in found:
            raise ResultsError(f"claims.json, row {i}: field 'id' repeats {row['id']!r}")
        if row["figure"] is not None and row["figure"] not in FIGURES:
            known = ", ".join(FIGURES)
            raise ResultsError(
                f"claims.json, row {i}: field 'figure' must be null or one of {known}; got {row['figure']!r}"
            )
        evidence = row["evidence"] or "No evidence yet."
        found[row["id"]] = Claim(**{**{key: row[key] for key in Claim._fields}, "evidence": evidence})
    for key, statement in CLAIMS.items():
        found.setdefault(key, Claim(key, statement, "open", None, "No evidence yet.", None, None))
    return [found[key] for key in sorted(found)]


class Headline(NamedTuple):
    """One number with its interval, what it means, and the section behind it."""

    number: str
    meaning: str
    section: str
    interval: str = ""


def headlines(results: Results) -> list[Headline]:
    """The numbers that the evidence at hand allows, most important first."""
    return [
        *_training_headlines({row["method"]: row for row in results.digits_summary or ()}),
        *_bound_headlines(results.bounds or []),
        *_cost_headlines(results.digits_runs or []),
    ]


def _training_headlines(methods: dict[str, Row]) -> list[Headline]:
    if not {"SGD", "SAM", "G-RST"} <= set(methods):
        return []
    g_rst, sam, sgd = methods["G-RST"], methods["SAM"], methods["SGD"]
    share = g_rst["pairs_per_step"] / sam["pairs_per_step"]
    accuracies = " against ".join(three(row["accuracy"]) for row in (g_rst, sgd))
    return [
        _difference(
            g_rst, "sgd", f"test accuracy of G-RST over SGD on digits with noisy labels ({accuracies})"
        ),
        _difference(g_rst, "sam", "test accuracy of G-RST over SAM in the same setting"),
        Headline(
            f"{share:.0%}".replace("%", " %"), "of SAM's propagation pairs is what G-RST spent", "training"
        ),
    ]


def _difference(row: Row, other: str, meaning: str) -> Headline:
    middle, low, high = (row[f"versus_{other}{end}"] for end in ("", "_low", "_high"))
    return Headline(fixed(middle, sign="+"), meaning, "training", interval(low, high, sign="+"))


def _bound_headlines(rows: list[Row]) -> list[Headline]:
    if not rows:
        return []
    held = sum(row["low"] <= row["bound"] for row in rows)
    ratios = sorted(row["ratio"] for row in rows)
    spread = f"bound over measured runs from {three(ratios[0])} to {three(ratios[-1])}"
    return [
        Headline(f"{held} of {len(rows)}", f"simulated settings respect the master bound; {spread}", "bounds")
    ]


def _cost_headlines(runs: list[Row]) -> list[Headline]:
    if not runs:
        return []
    exact = sum(row["pairs"] == row["planned_pairs"] for row in runs)
    return [
        Headline(
            f"{exact} of {len(runs)}",
            "training runs spent exactly the pairs that their trials announced before they began",
            "training",
        )
    ]


def description(key: str, results: Results) -> str:
    """What a screen reader says in place of a figure: its caption, and the main numbers."""
    if key == "accuracy" and results.digits_summary:
        values = (
            f"{row['method']} {three(row['accuracy'])} at {three(row['pairs_per_step'])} pairs per step"
            for row in results.digits_summary
        )
        return f"{CAPTIONS[key]} {'; '.join(values)}."
    if key == "cost" and results.cost:
        shares = [row["share"] for row in results.cost]
        ends = f"from {three(min(shares))} to {three(max(shares))}"
        return f"{CAPTIONS[key]} The means of {count(len(shares))} schedules run {ends}."
    return (
        f"{CAPTIONS[key]} The table of this section holds the numbers." if key == "bounds" else CAPTIONS[key]
    )
