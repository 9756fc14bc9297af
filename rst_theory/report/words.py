"""What the page says about its figures, claims and headline numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from rst_theory.plots import FIGURES, Results, ResultsError, Row
from rst_theory.report.numbers import count, fixed, interval, three

__all__ = [
    "CAPTIONS",
    "CLAIMS",
    "PLACES",
    "VERDICTS",
    "Claim",
    "Headline",
    "claims",
    "description",
    "headlines",
    "homeless",
]

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
    "decay": "The average squared gradient that the bound speaks of, against the horizon, with noisy "
    "gradients: means over 32 blocks with 99 % bands. Between the dashed lines lie the bounds of all "
    "schedules. The slopes are those between the last two horizons.",
    "decay_exact": "The same with exact gradients. With constant parameters the bounds have a floor; the "
    "problems at hand stay far below it.",
    "realized_cost": "Mean extra pairs of training runs, whose passes were counted, and of simulations, as "
    "their deviation from the exact law: about one mark in a hundred may lie outside the band. Schedules "
    "share their coins, so that their marks move together. Beside them the shares of simulated runs with "
    "99 % intervals, and the exact law as a line.",
    "allocation": "What the schedule that the theory finds optimal attains, relative to the constant "
    "schedule of the same cost (mean p) and degree, with paired intervals that hold together at 99 %; grey, "
    "from the best to the worst schedule measured. Where the theory was right about the order (filled), its "
    "schedule is at the good end.",
    "engine_scaling": "Time of a simulation against replicas, steps and coordinates, on one thread and on "
    "two: medians, lines of slope 1 through the largest run, and the fitted exponent.",
    "accuracy": "Test accuracy against what it costs, with 99 % intervals of the mean; and paired "
    "differences over common seeds, with 99 % intervals: one that lies right of 0 is a lead.",
    "training": "Mean test accuracy after each epoch, with 99 % bands over the seeds.",
    "pairs": "Pairs per step that each run with random cost spent, beside what its trials announced before "
    "it began and the 99 % interval of the exact law. RST and G-RST share their trials.",
    "floor_exponents": "The average squared gradient on the functions that are the worst for it, L = 1, "
    "over the radius, the degree and the step size, with fitted exponents; and runs that begin at the "
    "floor: constant parameters stay, schedules whose q ρ decays leave it. The window of the instance that "
    "holds the walk costs it part of the floor, less at smaller steps.",
    "stability": "How much the mean square grows in a step, measured over 4,096 replicas in every cell, for "
    "unnormalized ascent on a quadratic. Between the two predicted boundaries the mean square diverges "
    "though almost every run converges; without coins (SAM) they are one.",
    "collapse": "Test accuracy and sharpness of runs that share the product of degree and radius, q ρ, but "
    "neither p nor γ: means with 99 % intervals over common seeds. The word above is the verdict of the rule "
    "on the paired differences to SAM.",
    "drift": "How fast label noise of standard deviation σ and sharpness-aware steps carry (x, y) along the "
    "minima of (xy − 1)²/2 towards the flattest, beyond SGD; 99 % intervals are narrower than the marks. In "
    "the last panel a level line (dashed) knows q ρ alone, and the curve adds the second order.",
    "order": "Test accuracy and sharpness by when the sharpness-aware steps are taken: between SGD and SAM "
    "stand schedules of one cost, 1.5 pairs a step. Means with 99 % intervals over common seeds; the verdict "
    "is from paired differences, which are surer than these intervals show.",
    "pareto": "Test accuracy of every method, tuned with one budget on validation examples, against what it "
    "costs: means with 99 % intervals over common seeds. The verdict is from paired differences to SAM.",
    "fashion": "The same on Fashion-MNIST: 10,000 training images, clean and with part of the labels "
    "redrawn, five common seeds. Accuracy after the last epoch, with 99 % intervals.",
}
"""The caption of each figure."""

PLACES = {
    "1 Cost": ("schedules", "cost"),
    "2 Bounds": ("bounds", "convergence"),
    "3 Tightness": ("regimes", "tightness", "price", "engine_scaling"),
    "4 Training": ("accuracy", "training", "fashion", "pairs"),
}
"""The figures of the sections that are about something else than one question."""

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
    title: str | None
    rule: str | None
    change: str | None
    command: str | None

    @property
    def is_question(self) -> bool:
        """Whether this project asks it; the others are claims of the paper."""
        return self.id.startswith("Q")


def claims(results: Results) -> list[Claim]:
    """The claims, then the questions, each in their order; claims without evidence say so.

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
        nothing = dict.fromkeys(Claim._fields[6:])  # of the optional fields
        found.setdefault(key, Claim(key, statement, "open", None, "No evidence yet.", None, **nothing))
    return [found[key] for key in sorted(found, key=_natural)]


def _natural(key: str) -> list[tuple[int, str]]:
    """What sorts numbers in a text by their size: Q2 before Q10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", key)]


def homeless(keys: Iterable[str], shown: Sequence[Claim]) -> list[tuple[Claim | None, list[str]]]:
    """The questions with the figures that are shown with them; under None what no section has a place for.

    Args:
        keys: of all figures.
        shown: the claims and questions of the page.
    """
    left = [key for key in keys if not any(key in section for section in PLACES.values())]
    places: list[tuple[Claim | None, list[str]]] = []
    for claim in shown:
        if claim.is_question:
            places.append((claim, [key for key in left if key == claim.figure]))
            left = [key for key in left if key != claim.figure]
    return [*places, *([(None, left)] if left else [])]


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
    caption = CAPTIONS.get(key, f"Figure: {key.replace('_', ' ')}.")
    if key == "accuracy" and results.digits_summary:
        values = (
            f"{row['method']} {three(row['accuracy'])} at {three(row['pairs_per_step'])} pairs per step"
            for row in results.digits_summary
        )
        return f"{caption} {'; '.join(values)}."
    if key == "cost" and results.cost:
        shares = [row["share"] for row in results.cost]
        ends = f"from {three(min(shares))} to {three(max(shares))}"
        return f"{caption} The means of {count(len(shares))} schedules run {ends}."
    return f"{caption} The table of this section holds the numbers." if key == "bounds" else caption
