"""The verdict on each claim of the abstract (arXiv 2203.09962) and on each question, by rules fixed here and
in the experiments, from the tables alone.

verified   proved or exactly computed here, and nothing measured contradicts it
supported  measured here, in the setting that the evidence names; open elsewhere
refuted    measured to be false in the setting that the evidence names
open       no evidence yet, or none that decides
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from scipy import stats

from experiments import (
    decay,
    degree_times_radius,
    floor_exponents,
    order,
    pareto,
    ranking,
    realized_cost,
    stability,
)
from experiments.claims_note import note
from experiments.question import Answer, Question, Verdict
from experiments.settings import CONFIDENCE
from rst_theory.files import read_table, write_atomically, write_json

__all__ = ["run"]

COMMAND = "make experiments"
FALSE_ALARM = 1e-6
"""The probability that a true cost law is called refuted."""

Row = dict[str, Any]


class Claim(NamedTuple):
    """A claim of the abstract.

    Attributes:
        title: a few words.
        statement: what it says.
        rule: how the verdict is found.
        change: what would change our mind.
        figure: a key of `rst_theory.plots.FIGURES`.
        judge: the answer, from a results folder.
    """

    title: str
    statement: str
    rule: str
    change: str
    figure: str
    judge: Callable[[Path], Answer]


def run(results: Path, notes: Path) -> Iterator[float]:
    """Write claims.json, and the note claims.md, from the tables in `results`; yields the share done."""
    rows = []
    for key, claim in CLAIMS.items():
        rows.append(_row(key, claim, claim.judge(results)))
        yield len(rows) / (len(CLAIMS) + len(QUESTIONS))
    for experiment in QUESTIONS:
        question: Question = experiment.QUESTION
        rows.append(_row(question.id, question, _answer(experiment, results)))
        yield len(rows) / (len(CLAIMS) + len(QUESTIONS))
    write_json(results / "claims.json", rows)
    write_atomically(notes / "claims.md", note(rows))


def _answer(experiment: ModuleType, results: Path) -> Answer:
    try:
        answer: Answer = experiment.answer(results)
        return answer
    except FileNotFoundError as absent:
        return Answer("open", None, f"No evidence yet: {Path(absent.filename).name} is not there.")


def _row(key: str, asked: Claim | Question, answer: Answer) -> Row:
    return {
        "id": key,
        "title": asked.title,
        "statement": asked.statement,
        "verdict": answer.verdict,
        "number": answer.number and _typeset(answer.number),
        "evidence": _typeset(answer.evidence),
        "rule": _typeset(asked.rule),
        "change": _typeset(asked.change),
        "figure": asked.figure,
        "command": COMMAND,
        "source": f"paper_notes/claims.md#{key.lower()}",
    }


def _typeset(text: str) -> str:
    """Minus signs before numbers, where format writes hyphens."""
    return re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)


def _cost(results: Path) -> Answer:
    runs = read_table(results / "digits_runs.json")
    planned = all(row["pairs"] == row["planned_pairs"] for row in runs)
    # RST and G-RST share their trials, SGD and SAM have none: only the RST runs count as independent.
    drawn = [row for row in runs if row["method"] == "RST"]
    outside = sum(not row["expected_low"] <= row["pairs"] <= row["expected_high"] for row in drawn)
    chance = float(stats.binom.sf(outside - 1, len(drawn), 1 - CONFIDENCE))
    per_step = sum(row["pairs"] for row in drawn) / sum(row["steps"] for row in drawn)
    law = _answer(realized_cost, results)
    evidence = (
        f"Every one of {len(runs)} training runs on digits spent {'exactly' if planned else 'NOT exactly'} "
        f"the pairs that its trials announced before; {len(drawn) - outside} of the {len(drawn)} RST "
        f"runs lie in the 99 % interval of the exact law. At p = 0.5 they spent {per_step:.3f} pairs a step, "
        f"where the law's mean is 1.5. The whole law, for every schedule: Q1 ({law.verdict})."
    )
    refuted = not planned or chance <= FALSE_ALARM or law.verdict == "refuted"
    return Answer("refuted" if refuted else "verified", f"{per_step:.3f} pairs a step", evidence)


def _convergence(results: Path) -> Answer:
    bounds = read_table(results / "bounds.json")
    violations = [row for row in bounds if row["low"] > row["bound"]]
    ratios = [row["ratio"] for row in bounds]
    rates, floors = _answer(decay, results), _answer(floor_exponents, results)
    evidence = (
        f"The master bound, proved in this project, is not below the 99 % interval of the measured "
        f"average squared gradient in {len(bounds) - len(violations)} of {len(bounds)} cases; bound over "
        f"measured value from {min(ratios):.4f} to {max(ratios):.2f}. "
        "For constant radii it keeps a floor of (qLρ)² as the step size falls; with step sizes and "
        f"radii of order 1/√t it falls as log T/√T. Measured rates: Q2 ({rates.verdict}); measured floors: "
        f"Q3 ({floors.verdict}). The theorem of the paper itself was not at hand."
    )
    verdict: Verdict = "refuted" if violations else "verified"
    return Answer(verdict, f"{len(violations)} violations in {len(bounds)}", evidence)


def _families(results: Path) -> Answer:
    cost, bounds = read_table(results / "cost.json"), read_table(results / "bounds.json")
    half = [row for row in bounds if row["gamma"] == 1 and abs(row["mean_p"] - 0.5) < 0.01]
    problems = sorted({row["problem"] for row in half})
    if not problems:
        return Answer("open", None, "No two schedules of equal cost were compared.")
    shares = [row["share"] for row in cost]
    spread = {
        problem: _relative_spread([row for row in half if row["problem"] == problem]) for problem in problems
    }
    widest = max(spread, key=lambda problem: spread[problem])
    distinct = sum(_separated(half, problem) for problem in problems)
    networks, allocations = _answer(order, results), _answer(ranking, results)
    evidence = (
        f"Expected extra cost over {len(cost)} schedules runs from {min(shares):.2g} to {max(shares):.2g} of "
        "SGD's cost. At equal cost (mean p = 1/2) schedules differ in the measured average squared gradient "
        f"by up to {100 * spread[widest]:.1f} % ({widest}); the best and the worst are told apart at 99 % on "
        f"{distinct} of {len(problems)} problems. On networks: Q4 ({networks.verdict}); the choice by the "
        f"theory: Q7 ({allocations.verdict})."
    )
    return Answer(
        "supported" if distinct else "open", f"{100 * spread[widest]:.1f} % apart at equal cost", evidence
    )


def _relative_spread(rows: list[Row]) -> float:
    values = [row["measured"] for row in rows]
    return float((max(values) - min(values)) / min(values))


def _separated(rows: list[Row], problem: str) -> bool:
    """Whether the intervals of the best and the worst do not meet, which is conservative: they are paired."""
    ordered = sorted((row for row in rows if row["problem"] == problem), key=lambda row: row["measured"])
    return bool(ordered[0]["high"] < ordered[-1]["low"])


def _degree(results: Path) -> Answer:
    rows = read_table(results / "collapse.json")
    single = {row["setting"]: row for row in rows if _is(row, p=0.5, gamma=1.0, rho=0.2)}
    double = {row["setting"]: row for row in rows if _is(row, p=0.5, gamma=2.0, rho=0.2)}
    flatter = [
        setting
        for setting, row in single.items()
        if double[setting]["log_eigenvalue_high"] < row["log_eigenvalue_low"]
    ]
    evidence = (
        "The degree q = pγ is set by γ = q/p wherever p > 0; where p = 0 no γ helps, and near 0 it grows "
        "without bound, so “any schedule” holds with these limits. At p = 1/2 and ρ = .2, doubling the "
        f"degree from 1/2 to 1 lowers the largest eigenvalue of the Hessian beyond doubt in {len(flatter)} "
        f"of {len(single)} settings; accuracies there: "
        + "; ".join(f"{s}: {row['accuracy']:.3f} → {double[s]['accuracy']:.3f}" for s, row in single.items())
        + f". How far equal degrees agree: Q5 ({_answer(degree_times_radius, results).verdict})."
    )
    verdict: Verdict = "supported" if len(flatter) == len(single) else "open" if flatter else "refuted"
    return Answer(verdict, f"flatter in {len(flatter)} of {len(single)} settings", evidence)


def _is(row: Row, **values: float) -> bool:
    return all(abs(row[name] - value) < 1e-9 for name, value in values.items())


def _outperforms(results: Path) -> Answer:
    table = read_table(results / "pareto.json")
    rows = {row["setting"]: row for row in table if row["method"] == "G-RST p=0.5"}
    plain = "; ".join(
        f"{row['versus_sam']:+.4f} [{row['family_low']:+.4f}, {row['family_high']:+.4f}]"
        for row in table
        if row["method"] == "RST p=0.5"
    )
    above = [s for s, row in rows.items() if row["family_low"] > 0]
    below = [s for s, row in rows.items() if row["family_high"] < 0]
    found = "; ".join(
        f"{s}: {row['versus_sam']:+.4f} [{row['family_low']:+.4f}, {row['family_high']:+.4f}]"
        for s, row in rows.items()
    )
    evidence = (
        "Both tuned with one budget on a validation split, G-RST with p = 1/2 (γ = 2 or 4), which saves half "
        f"of SAM's extra pairs, is above SAM in {len(above)} and below it in {len(below)} of {len(rows)} "
        f"settings; differences in test accuracy with simultaneous 99 % intervals: {found}. "
        f"RST with p = 1/2 (γ = 1): {plain}. "
        + _shortly(results)
        + "Small networks and two data sets; larger ones are open."
    )
    most = len(rows) / 2
    verdict: Verdict = "supported" if len(above) > most else "refuted" if len(below) > most else "open"
    return Answer(verdict, f"above SAM in {len(above)} of {len(rows)} settings", evidence)


def _shortly(results: Path) -> str:
    """What untuned runs on more images of Fashion-MNIST say; nothing where its files were not at hand."""
    table = results / "fashion_summary.json"
    rows = [row for row in read_table(table) if row["method"] == "G-RST"] if table.exists() else []
    said = [
        f"{'noisy' if row['label_noise'] else 'clean'} {row['versus_sam']:+.4f} "
        f"[{row['versus_sam_low']:+.4f}, {row['versus_sam_high']:+.4f}]"
        for row in rows
    ]
    return f"Untuned, 10,000 images of Fashion-MNIST for 12 epochs: {'; '.join(said)}. " if said else ""


CLAIMS = {
    "C1": Claim(
        "One pair or two, by a coin",
        "At each step a Bernoulli trial picks the SGD step (one forward-backward pair) or the SAM step "
        "(two) with a probability given by a schedule function; the count of propagation pairs drops "
        "accordingly.",
        "Verified where every training run spends the pairs that its trials announced, and runs lie in the "
        "99 % interval of the exact law as often as they should (false alarm 1e-6); refuted otherwise.",
        "One run that spends another number of pairs than announced.",
        "pairs",
        _cost,
    ),
    "C2": Claim(
        "Convergence",
        "RST converges.",
        "Verified as our theorem where no bound lies below the 99 % interval of its own measured metric; "
        "refuted by one that does.",
        "A simulated metric above its bound, outside its interval.",
        "bounds",
        _convergence,
    ),
    "C3": Claim(
        "Schedule functions cost and perform differently",
        "Different families of schedule functions cost and perform differently, and there are directions "
        "on how to choose one.",
        "Supported where, at equal cost, the 99 % intervals of the best and the worst schedule do not meet "
        "on at least one problem.",
        "Schedules of equal cost that cannot be told apart on any problem.",
        "cost",
        _families,
    ),
    "C4": Claim(
        "The degree of regularization is free",
        "G-RST adjusts the degree of sharpness regularization freely for any schedule function.",
        "Supported where doubling the degree at equal p and radius makes the minima flatter in every setting "
        "(99 % intervals apart), open where in some, refuted where in none.",
        "A setting in which a larger degree does not make the minima flatter.",
        "collapse",
        _degree,
    ),
    "C5": Claim(
        "Better than SAM for half of its extra cost",
        "G-RST can outperform SAM in most cases while saving 50 % of SAM's extra computation.",
        "Supported where tuned G-RST with p = 1/2 is above tuned SAM in more than half of the settings "
        "(simultaneous 99 % intervals), refuted where it is below in more than half, open otherwise. "
        "Before the runs it said: refuted where it is above in none. It was made weaker after them; by the "
        "first form the claim would be refuted.",
        "Settings, among them larger networks, most of which show tuned G-RST above tuned SAM, or below it.",
        "pareto",
        _outperforms,
    ),
}
"""The claims of the abstract, in our words."""

QUESTIONS = (
    realized_cost,
    decay,
    floor_exponents,
    order,
    degree_times_radius,
    pareto,
    ranking,
    stability,
)
"""The experiments that answer Q1 to Q8."""
