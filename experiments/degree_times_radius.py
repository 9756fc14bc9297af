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

Drift along a valley: f(x, y) = (x y - 1)^2/2 with label noise, that is gradients of (x y - 1 - sigma xi)^2/2
with normal xi, started at the unbalanced (3, 1.01/3) beside the hyperbola x y = 1 of minima, on which the
sharpness is w^2 = x^2 + y^2. The imbalance D = x^2 - y^2 is kept by gradient flow. With r = x y - 1 - sigma
xi a perturbed step in the small step size eta changes it, exactly to first order in eta, by

    D+ = D (1 - 2 eta gamma rho (|r|/w + rho + rho^2 x y/w^3))

so that log D falls per unit of time (a step is eta) by 2 q rho E|r|/w to first order in the radius, which
knows q rho alone, and by 2 q rho^2 to second order, noise or not. The square of a step adds eta E[r_d^2],
with r_d = r + X gamma rho w sign(r); of SGD, where r_d = r, it is all there is. With E|r| = e = sqrt(2/pi)
sigma, beyond SGD:

    drift ~ 2 q rho (e/w + rho) + eta (2 q rho e w + (q rho)^2 w^2/p)

which leaves out that the steps also move r. The first order rules as long as rho is far below e/w. Without
noise there is none of it but the oscillation that the steps keep up, and q rho^2 is the variable.

Design: sigma = 0, .1, 1; q rho = .0025, .005, .01, .02, each by the five pairs and (1, 1/4), (1, 4), (1/16,
16); eta = .005, 2000 steps, 512 replicas with common noise. Drift: the fall of log D per unit of time, less
that of SGD with the same noise.

Rule for the drift, fixed before the run: at a sigma and a q rho, the drifts collapse where the seven ratios
to the drift of SAM all have simultaneous 99 % intervals within 1 ± .1; they break where one of those
intervals excludes 1; else it is open. A break within ± .1 counts as a collapse. Which variable is right says
the exponent b of rho in drift ~ (q rho)^a rho^b, by least squares in logarithms over all cells of a sigma: 0
for q rho, 1 for q rho^2. Beside each ratio stands what the first-order theory allows it to be: the largest
relative difference of the mean directions at the start, by `same_strength_bound`.

Rule for the statement, fixed before the run: it is supported where, at the smallest q rho, the accuracy and
the sharpness collapse in every setting at hand, and the drift at the largest sigma does; it is refuted where
one of these breaks; else it is open. Larger products say how far the first order reaches.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments.networks import Outcome, Setting, config_of
from experiments.places import estimate, outcomes_of, seeds_at, settings_at_hand, with_kept_rows
from experiments.pool import spread
from experiments.question import Answer, Check, Question, Verdict
from experiments.settings import CONFIDENCE, Size
from experiments.statistics import Interval, mean_interval
from rst_theory.bounds import same_strength_bound
from rst_theory.files import read_table, write_table
from rst_theory.method import step
from rst_theory.notation import FloatArray
from rst_theory.training import TrainConfig
from rst_theory.trials import sequences

__all__ = [
    "CHECKS",
    "FIRST_SEED",
    "METHODS",
    "PRODUCTS",
    "QUESTION",
    "answer",
    "collapse_rows",
    "configs",
    "drift_rows",
    "drifts",
    "exponent_row",
    "run",
]

PRODUCTS = (0.05, 0.1, 0.2)
METHODS = ((1.0, 1.0), (0.5, 1.0), (0.5, 2.0), (0.25, 1.0), (0.25, 4.0))
"""Pairs (p, gamma), SAM first."""
FIRST_SEED = 2000  # those of `order`, whose runs are shared
ACCURACY_MARGIN, EIGENVALUE_MARGIN = 0.015, 0.25
FAILED = 0.2
"""An accuracy of twice a guess: such runs are counted, which no rule asks for, and left in."""

SIGMAS = (0.0, 0.1, 1.0)
DRIFT_PRODUCTS = (0.0025, 0.005, 0.01, 0.02)
DRIFT_METHODS = (*METHODS, (1.0, 0.25), (1.0, 4.0), (0.0625, 16.0))
RATIO_MARGIN = 0.1
SGD = (0.0, 1.0)
_START = (3.0, 1.01 / 3)
_ETA, _STEPS, _SEED, _BLOCKS = 0.005, 2000, 20220315, 20

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


class Cell(NamedTuple):
    """A product q rho, and how it is made up."""

    product: float
    p: float
    gamma: float

    @property
    def rho(self) -> float:
        """The radius; 0 for SGD."""
        q = self.p * self.gamma
        return self.product / q if q else 0.0


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
    eigenvalue = {cell: _logarithms([run.largest_eigenvalue for run in own]) for cell, own in of.items()}
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
            f"{name}_verdict": _verdict([d for cell, d in found.items() if cell != sam], 0.0, margin)
            for name, found, margin in (
                ("accuracy", accuracy_differences, ACCURACY_MARGIN),
                ("eigenvalue", eigenvalue_differences, EIGENVALUE_MARGIN),
            )
        }
        for cell in group:
            trace = _logarithms([run.trace for run in of[cell]])
            rows.append(
                {
                    "setting": setting.label,
                    **cell._asdict(),
                    "rho": cell.rho,
                    "pairs_per_step": 1 + cell.p,
                    **estimate("accuracy", accuracy[cell].tolist()),
                    **estimate("log_eigenvalue", eigenvalue[cell].tolist()),
                    **estimate("log_trace", trace.tolist()),
                    **_columns("accuracy_difference", accuracy_differences[cell]),
                    **_columns("eigenvalue_difference", eigenvalue_differences[cell]),
                    **verdicts,
                    "seeds": len(of[cell]),
                    "failed": int((accuracy[cell] <= FAILED).sum()),
                    "diverged": sum(run.diverged for run in of[cell]),
                }
            )
    return rows


def _logarithms(values: Sequence[float | None]) -> FloatArray:
    """NaN where nothing was measured, as of a run that diverged, or where the estimate is not positive."""
    return np.array([math.log(value) if value is not None and value > 0 else math.nan for value in values])


def _mean(sample: FloatArray, confidence: float) -> Interval:
    """Of what is known: an interval without ends from one number, nothing but NaN from none."""
    known = sample[np.isfinite(sample)]
    if known.size > 1:
        return mean_interval(known, confidence)
    return Interval(float(known[0]) if known.size else math.nan, -math.inf, math.inf)


def _columns(name: str, interval: Interval) -> Row:
    """What is not finite is null in a table."""
    ends = zip((name, f"{name}_low", f"{name}_high"), interval, strict=True)
    return {key: value if math.isfinite(value) else None for key, value in ends}


def _verdict(intervals: Sequence[Interval], equal: float, margin: float) -> str:
    """By the rule: "collapse" where all stay within the margin, else "break" where one excludes equality."""
    if all(equal - margin <= low and high <= equal + margin for _, low, high in intervals):
        return "collapse"
    if any(low > equal or high < equal for _, low, high in intervals):
        return "break"
    return "open"


def drifts(sigma: float, p: float, gamma: float, replicas: int) -> list[list[float]]:
    """The fall of log(x^2 - y^2) per unit of time along the valley.

    Args:
        sigma: of the label noise.
        p: probability of a perturbed step.
        gamma: mixing coefficient.
        replicas: the same noise and coins for every sigma and method.

    Returns:
        For each of `DRIFT_PRODUCTS`, a number for each replica.
    """
    rho = np.array([Cell(product, p, gamma).rho for product in DRIFT_PRODUCTS])[:, None, None]
    noise = sigma * np.random.default_rng(_SEED).standard_normal((replicas, _STEPS))
    trials = sequences(np.full(_STEPS, p), _SEED, "independent", np.arange(replicas))
    start = z = np.full((len(DRIFT_PRODUCTS), replicas, 2), _START)
    for t in range(_STEPS):
        label = 1 + noise[:, t]

        def gradient(z: FloatArray, label: FloatArray = label) -> FloatArray:
            return np.asarray((z.prod(axis=-1) - label)[..., None] * z[..., ::-1])

        z = step(z, gradient, np.broadcast_to(trials[:, t], z.shape[:-1]), _ETA, rho, gamma)
    fall = np.log(_imbalance(start) / _imbalance(z)) / (_ETA * _STEPS)
    return [[float(x) for x in row] for row in fall]


def _imbalance(z: FloatArray) -> FloatArray:
    return np.asarray(z[..., 0] ** 2 - z[..., 1] ** 2)


def drift_rows(sigma: float, excess: dict[tuple[float, float], FloatArray]) -> list[Row]:
    """A row for each product and method at one strength of the noise.

    Args:
        sigma: of the noise.
        excess: for each (p, gamma), SAM among them, the drifts beyond those of SGD; shape (number of
            `DRIFT_PRODUCTS`, replicas).
    """
    w, imbalance = math.hypot(*_START), float(_imbalance(np.array(_START)))
    residual = math.sqrt(2 / math.pi) * sigma
    confidence = 1 - (1 - CONFIDENCE) / (len(DRIFT_METHODS) - 1)
    rows = []
    for i, product in enumerate(DRIFT_PRODUCTS):
        sam = excess[METHODS[0]][i]
        ratios = {method: _ratio(drift[i], sam, confidence) for method, drift in excess.items()}
        verdict = _verdict([r for method, r in ratios.items() if method != METHODS[0]], 1.0, RATIO_MARGIN)
        for method, drift in excess.items():
            cell = Cell(product, *method)
            first_order = 2 * product * residual / w
            of_steps = _ETA * (2 * product * residual * w + product**2 * w**2 / cell.p)
            radii = (cell.rho, product)  # SAM's radius is the product
            apart = same_strength_bound(product, radii, 3 * (w + max(radii)))
            rows.append(
                {
                    "sigma": sigma,
                    **cell._asdict(),
                    "rho": cell.rho,
                    **_columns("drift", mean_interval(drift[i])),
                    "first_order": first_order,
                    "predicted": first_order + 2 * product * cell.rho + of_steps,
                    **_columns("ratio", ratios[method]),
                    # Displacement along the valley changes D by 2 w times itself.
                    "allowed": apart * 2 * w / (imbalance * float(sam.mean())),
                    "verdict": verdict,
                    "replicas": drift.shape[1],
                }
            )
    return rows


def _ratio(first: FloatArray, second: FloatArray, confidence: float) -> Interval:
    """The ratio of two paired means, by linearization."""
    ratio, scale = float(first.mean() / second.mean()), float(second.mean())
    half = mean_interval((first - ratio * second) / scale, confidence).high
    return Interval(ratio, ratio - half, ratio + half)


def exponent_row(sigma: float, excess: dict[tuple[float, float], FloatArray]) -> Row:
    """The exponents of drift ~ product^a rho^b at one strength of the noise, from 20 blocks of replicas."""
    cells = [Cell(product, *method) for method in excess for product in DRIFT_PRODUCTS]
    design = np.array([[1, math.log(cell.product), math.log(cell.rho)] for cell in cells])
    blocks = zip(*(np.array_split(drift, _BLOCKS, axis=1) for drift in excess.values()), strict=True)
    drift = np.array([np.concatenate([part.mean(axis=1) for part in block]) for block in blocks])
    found = np.linalg.lstsq(design, np.log(drift).T, rcond=None)[0]
    return {
        "sigma": sigma,
        **_columns("product_exponent", mean_interval(found[1])),
        **_columns("radius_exponent", mean_interval(found[2])),
        "blocks": _BLOCKS,
    }


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

    sigmas = SIGMAS if size.full else SIGMAS[-1:]
    methods = (METHODS[0], METHODS[2]) if size.level == "quick" else DRIFT_METHODS
    tasks = [(sigma, *method, size.replicas) for sigma in sigmas for method in (SGD, *methods)]
    drifted: list[list[list[float]]] = []
    for share in spread(drifts, tasks, size.processes, drifted, keep=size.runs / "drift"):
        yield 0.8 + 0.2 * share
    rates = dict(zip(tasks, map(np.array, drifted), strict=True))
    excess = {
        sigma: {m: rates[sigma, *m, size.replicas] - rates[sigma, *SGD, size.replicas] for m in methods}
        for sigma in sigmas
    }
    write_table(results, "drift", [row for sigma in sigmas for row in drift_rows(sigma, excess[sigma])])
    if size.full:
        exponents = [exponent_row(sigma, excess[sigma]) for sigma in sigmas]
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
        row["verdict"] for row in drift if (row["sigma"], row["product"]) == (SIGMAS[-1], DRIFT_PRODUCTS[0])
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
