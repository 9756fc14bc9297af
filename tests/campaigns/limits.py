"""What the package does at the limits of its resources: 10^7 steps, 10^6 coordinates, one replica, no radius.

`python -m tests.campaigns.limits [--scale 0.01] [--only WORDS]` runs every case in a process of its own and
notes what it computed beside the closed form, its time and the most memory that it held. Finished cases, kept
under `runs/limits/`, are not run again while the sources stay as they are. Exit status 1 where a value is
wrong, a bad argument is taken, a case crashes, or its memory goes beyond its bound.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

import rst_theory as rst
from rst_theory.files import read_json, write_json, write_table
from rst_theory.problems import FromFunctions, Quadratic
from tests.campaigns import digests

__all__ = ["CASES", "Case", "Outcome", "main", "run"]

ROOT = Path(__file__).parents[2]
RESULTS = Path(__file__).parent / "results"
STATE = ROOT / "runs" / "limits"
STEPS, COORDINATES = 10**7, 10**6
SECONDS = 1800


class Outcome(NamedTuple):
    """What a case gave: a number beside the right one, or the words of a refusal."""

    found: float
    expected: float
    within: float
    """The largest right difference, absolute."""
    said: str = ""


class Case(NamedTuple):
    """One use of the package at a limit.

    Attributes:
        run: the use, given the numbers of steps and of coordinates.
        mib: the most memory that it may hold, in MiB, at full scale.
        refuses: words of the error that it must end with; "" where there must be none.
    """

    run: Callable[[int, int], Outcome | None]
    mib: int
    refuses: str = ""


CASES: dict[str, Case] = {}


def case(mib: int, refuses: str = "") -> Callable[[Callable[[int, int], Any]], Callable[[int, int], Any]]:
    """Register a case under its name in words."""

    def register(run: Callable[[int, int], Any]) -> Callable[[int, int], Any]:
        CASES[run.__name__.replace("_", " ")] = Case(run, mib, refuses)
        return run

    return register


def close(found: float, expected: float, relative: float = 1e-10) -> Outcome:
    """Two numbers that should be one, but for rounding."""
    return Outcome(float(found), float(expected), relative * abs(expected))


# Schedules and their cost


@case(1000)
def a_linear_schedule(T: int, d: int) -> Outcome:
    return close(rst.Linear(0.0, 1.0).probabilities(T).mean(), 0.5)


@case(1000)
def a_cosine_schedule(T: int, d: int) -> Outcome:
    return close(rst.Cosine(1.0, 0.0).probabilities(T).mean(), 0.5)


@case(1000)
def a_periodic_schedule(T: int, d: int) -> Outcome:
    return close(rst.Periodic(4).probabilities(T).sum(), -(-T // 4))


@case(1500)
def a_formula(T: int, d: int) -> Outcome:
    return close(rst.FromExpression("u*u").probabilities(T).mean(), (2 * T - 1) / (6 * (T - 1)))


@case(1500)
def a_table(T: int, d: int) -> Outcome:
    table = rst.Tabulated(tuple(np.linspace(0, 1, T // 10).tolist()))
    return close(table.probabilities(T // 10).mean(), 0.5)


def _linear_variance(T: int) -> float:
    return T / 2 - T * (2 * T - 1) / (6 * (T - 1))


@case(1000)
def the_mean_of_a_cost(T: int, d: int) -> Outcome:
    return close(rst.CostLaw(rst.Linear(0.0, 1.0), T).mean, T / 2)


@case(1000)
def the_variance_of_a_cost(T: int, d: int) -> Outcome:
    return close(rst.CostLaw(rst.Linear(0.0, 1.0), T).variance, _linear_variance(T))


@case(1500)
def the_median_of_a_cost(T: int, d: int) -> Outcome:
    """A symmetric law: p and 1 - p are equally frequent."""
    return Outcome(rst.CostLaw(rst.Linear(0.0, 1.0), T).quantile(0.5), T // 2, 0.0)


@case(2000)
def a_quantile_of_the_cost_of_any_probabilities(T: int, d: int) -> Outcome:
    """Beside the normal law with its correction for skewness (Cornish & Fisher), good to a pair here."""
    p = np.random.default_rng(0).random(T)
    law, z = rst.CostLaw(p, T), stats.norm.ppf(0.995)
    v = p * (1 - p)
    skew = float((v * (1 - 2 * p)).sum()) / float(v.sum())
    normal = p.sum() + z * math.sqrt(v.sum()) + skew * (z * z - 1) / 6
    return Outcome(law.quantile(0.995), float(normal), 1.0)


@case(2000)
def the_cost_of_systematic_trials(T: int, d: int) -> Outcome:
    p = np.random.default_rng(0).random(T)
    return Outcome(rst.CostLaw(p, T, kind="systematic").quantile(0.5), math.fsum(p), 1.0)


@case(1000)
def independent_trials(T: int, d: int) -> Outcome:
    """Within seven standard deviations: by chance beyond with probability 3e-12."""
    return Outcome(rst.Trials(np.full(T, 0.25)).extra_pairs, T / 4, 7 * math.sqrt(3 * T / 16))


@case(1000)
def systematic_trials(T: int, d: int) -> Outcome:
    return Outcome(rst.Trials(np.full(T, 0.25), kind="systematic").extra_pairs, T / 4, 1.0)


@case(400, refuses="Unable to allocate")
def more_steps_than_there_is_memory(T: int, d: int) -> None:
    rst.CostLaw(0.5, 10**15)


# Simulation


def _gap(T: int, eta: float, L: float = 1.0, rho: float = 0.0, p: float = 0.0, gamma: float = 1.0) -> float:
    """f(x_T) from x_0 = 1 on L x^2/2, unnormalized, every step alike (p = 0 or 1)."""
    factor = 1 - eta * L * ((1 - gamma * p) + gamma * p * (1 + rho * L))
    return L / 2 * factor ** (2 * T)


def _simulated(T: int, eta: float, L: float = 1.0, p: float = 0.0, **options: Any) -> float:
    rest = {"rho": 0.0, "ascent": "unnormalized", "replicas": 1, "at": []} | options
    return float(rst.simulate(Quadratic([L]), p, steps=T, eta=eta, **rest).final_gap.mean)


@case(1200)
def a_simulation_of_many_steps(T: int, d: int) -> Outcome:
    """Each step rounds by three units at most, and T of them are multiplied and then squared."""
    return close(_simulated(T, 1 / T), _gap(T, 1 / T), 6 * T * 2.0**-52)


@case(1200)
def a_simulation_of_many_steps_with_coins(T: int, d: int) -> Outcome:
    run = rst.simulate(
        Quadratic([1.0, 0.5]), 0.5, steps=T, eta=1 / T, rho=0.1, replicas=1, trials="systematic",
        at=[0, T // 2, T - 1],
    )  # fmt: skip
    return Outcome(float(run.extra_pairs[0]), T / 2, 1.0)


@case(1500)
def a_simulation_of_many_coordinates(T: int, d: int) -> Outcome:
    eigenvalues = np.linspace(0.5, 1.0, d)
    run = rst.simulate(
        Quadratic(eigenvalues), 0.0, steps=3, eta=0.5, rho=0.1, ascent="unnormalized", replicas=1
    )
    return close(run.final_gap.mean, float((eigenvalues * (1 - eigenvalues / 2) ** 6 / 2).sum()), 1e-9)


@case(600, refuses="the NumPy reference runs 256 replicas side by side")
def many_coordinates_on_the_reference(T: int, d: int) -> None:
    problem = FromFunctions(lambda x: x @ x / 2, lambda x: x, 10**6, L=1.0, f_star=0.0)
    rst.simulate(problem, 0.5, steps=2, eta=0.5, rho=0.1, replicas=1, backend="numpy")


@case(400, refuses="GiB: pass as `at` no more than")
def quantiles_of_many_steps(T: int, d: int) -> None:
    rst.simulate(Quadratic([1.0]), 0.5, steps=10**6, eta=0.5, rho=0.1, quantiles=True)


@case(400)
def one_replica_has_no_standard_error(T: int, d: int) -> Outcome:
    run = rst.simulate(Quadratic([1.0], noise=1.0), 0.5, steps=4, eta=0.5, rho=0.1, replicas=1)
    return Outcome(float(np.isinf(run.gap.standard_error).all()), 1.0, 0.0)


@case(400)
def one_step(T: int, d: int) -> Outcome:
    found = _simulated(1, 0.25, rho=0.5, p=1.0, gamma=2.0)
    return close(found, _gap(1, 0.25, rho=0.5, p=1.0, gamma=2.0))


@case(400)
def no_radius_is_gradient_descent(T: int, d: int) -> Outcome:
    return close(_simulated(50, 0.25, p=1.0, rho=0.0), _gap(50, 0.25), 1e-12)


@case(400)
def no_radius_with_normalized_ascent(T: int, d: int) -> Outcome:
    return close(_simulated(50, 0.25, p=1.0, rho=0.0, ascent="normalized"), _gap(50, 0.25), 1e-12)


@case(400)
def no_mixing_is_gradient_descent(T: int, d: int) -> Outcome:
    return close(_simulated(50, 0.25, p=1.0, rho=0.7, gamma=0.0), _gap(50, 0.25), 1e-12)


@case(400)
def a_step_size_of_two_over_L_stays(T: int, d: int) -> Outcome:
    """x changes its sign and nothing else, exactly."""
    return Outcome(_simulated(1001, 0.5, L=4.0), _gap(0, 0.5, L=4.0), 0.0)


@case(400)
def a_step_size_beyond_two_over_L_grows(T: int, d: int) -> Outcome:
    return close(_simulated(100, 0.75, L=4.0), _gap(100, 0.75, L=4.0), 1e-12)


@case(400, refuses="left the floating-point range at step t = ")
def a_step_size_far_beyond_two_over_L(T: int, d: int) -> None:
    _simulated(10_000, 1.0, L=4.0)


BOUND = {"steps": 9, "rho": 0.1, "gamma": 1.0, "constants": Quadratic([2.0]).constants, "gap": 1.0}


@case(400, refuses="eta_t < 2/L")
def a_bound_at_two_over_L(T: int, d: int) -> None:
    rst.bounds.nonconvex_average.evaluate(schedule=rst.Constant(0.5), eta=1.0, **BOUND)


@case(400, refuses="eta_t < 2/L")
def a_bound_beyond_two_over_L(T: int, d: int) -> None:
    rst.bounds.nonconvex_average.evaluate(schedule=rst.Constant(0.5), eta=1.5, **BOUND)


@case(400)
def a_bound_just_below_two_over_L_is_a_number(T: int, d: int) -> Outcome:
    value = rst.bounds.nonconvex_average.evaluate(
        schedule=rst.Constant(0.5), eta=np.nextafter(1.0, 0), **BOUND
    )
    return Outcome(float(math.isfinite(value) and value > 0), 1.0, 0.0)


def _bound(**changes: Any) -> float:
    run = BOUND | {"schedule": rst.Constant(1.0), "eta": 0.2} | changes
    return rst.bounds.nonconvex_average.evaluate(**run)


@case(400)
def a_bound_without_mixing_is_that_of_gradient_descent(T: int, d: int) -> Outcome:
    return close(_bound(gamma=0.0), _bound(schedule=rst.Constant(0.0)), 1e-12)


@case(400)
def a_bound_without_radius_is_that_of_gradient_descent(T: int, d: int) -> Outcome:
    return close(_bound(rho=0.0), _bound(schedule=rst.Constant(0.0), rho=0.0), 1e-12)


# No step at all


@case(400, refuses="T")
def a_schedule_of_no_steps(T: int, d: int) -> None:
    rst.Linear(0.0, 1.0).values(0)


@case(400, refuses="T")
def a_cost_of_no_steps(T: int, d: int) -> None:
    rst.CostLaw(0.5, 0)


@case(400, refuses="T >= 1")
def trials_of_no_steps(T: int, d: int) -> None:
    rst.Trials(np.empty(0))


@case(400, refuses="steps")
def a_simulation_of_no_steps(T: int, d: int) -> None:
    _simulated(0, 0.1)


@case(400, refuses="steps")
def a_bound_of_no_steps(T: int, d: int) -> None:
    _bound(steps=0)


@case(1000, refuses="epochs")
def training_of_no_epochs(T: int, d: int) -> None:
    from rst_theory.training import TrainConfig

    TrainConfig(rst.Constant(0.5), epochs=0)


@case(1000, refuses="steps")
def an_optimizer_of_no_steps(T: int, d: int) -> None:
    _optimized(1, 0, 0.5)


# The optimizer


def _optimized(
    d: int, steps: int, p: float, rho: float = 0.5, gamma: float = 1.0, eta: float = 0.25
) -> Outcome:
    """Unnormalized steps on |x|^2/2 from x = 1, where every coordinate is the same known number."""
    import torch

    x = torch.nn.Parameter(torch.ones(d, dtype=torch.float64))
    base = torch.optim.SGD([x], lr=eta)
    optimizer = rst.RST(base, p, total_steps=steps, rho=rho, gamma=gamma, ascent="unnormalized")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = x.square().sum() / 2
        loss.backward()
        return loss.detach()

    for _ in range(steps):
        optimizer.step(closure)
    factor = 1 - eta * ((1 - gamma * p) + gamma * p * (1 + rho))
    worst = x.detach()[(x.detach() - factor**steps).abs().argmax()]
    return close(float(worst), factor**steps, 1e-12)


@case(1000)
def an_optimizer_of_many_coordinates(T: int, d: int) -> Outcome:
    return _optimized(d, 5, 1.0)


@case(1000)
def an_optimizer_of_many_coordinates_with_mixing(T: int, d: int) -> Outcome:
    return _optimized(d, 5, 1.0, gamma=2.0)


@case(1000)
def an_optimizer_of_one_step(T: int, d: int) -> Outcome:
    return _optimized(3, 1, 1.0)


@case(1000)
def an_optimizer_without_radius(T: int, d: int) -> Outcome:
    return _optimized(3, 20, 1.0, rho=0.0)


@case(1000)
def an_optimizer_without_mixing(T: int, d: int) -> Outcome:
    return _optimized(3, 20, 1.0, gamma=0.0)


@case(1000)
def an_optimizer_at_two_over_L(T: int, d: int) -> Outcome:
    return _optimized(3, 21, 0.0, eta=2.0)


@case(2000)
def an_optimizer_with_a_horizon_of_many_steps(T: int, d: int) -> Outcome:
    """The coins of all steps are known when it is made; each pair is planned to within one."""
    import torch

    base = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    optimizer = rst.RST(base, rst.Linear(0.0, 1.0), total_steps=T, trials="systematic")
    return Outcome(optimizer.planned_pairs, 1.5 * T, 1.0)


# Running them


def run(name: str, scale: float) -> dict[str, Any]:
    """The row of a case, run in this process.

    Args:
        name: a key of `CASES`.
        scale: of the numbers of steps and coordinates, 1 for the full ones.
    """
    asked, begin = CASES[name], time.perf_counter()
    outcome, said = None, ""
    try:
        outcome = asked.run(max(int(STEPS * scale), 40), max(int(COORDINATES * scale), 2))
    except (ValueError, TypeError, ArithmeticError, MemoryError) as error:
        said = str(error)
    if asked.refuses:
        kept, expected, found = outcome is None and asked.refuses in said, "refused", said or "taken"
    elif outcome is None:
        kept, expected, found = False, "a value", said
    else:
        kept = abs(outcome.found - outcome.expected) <= outcome.within
        expected, found = f"{outcome.expected:.12g}", f"{outcome.found:.12g}"
    return {
        "case": name,
        "expected": expected,
        "found": found[:200],
        "kept": "yes" if kept else "no",
        "seconds": round(time.perf_counter() - begin, 2),
        "peak_mib": _peak_mib(),
        "most_mib": asked.mib,
    }


def _peak_mib() -> int:
    """The most memory that this process held; `getrusage` would count what its parent held before it."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the cases that are asked for, and write the table where that is all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of steps and coordinates")
    parser.add_argument("--only", default="", help="words in the names of the cases")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--state", type=Path, default=STATE, help="folder of the cases that are done")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the table")
    asked = parser.parse_args(arguments)
    if asked.child:
        print(json.dumps(run(asked.only, asked.scale)))
        return 0
    rows = []
    for name in CASES:
        if asked.only in name:
            rows.append(_kept(name, asked.scale, asked.state))
            print(
                "{kept:3} {seconds:7.1f} s {peak_mib:6} MiB  {case}: {found:.60}".format(**rows[-1]),
                flush=True,
            )
    broken = [row["case"] for row in rows if row["kept"] != "yes"]
    if not asked.only:
        write_table(asked.results, "limits", rows)
    print(f"{len(rows)} cases, {len(broken)} broken{': ' if broken else ''}{', '.join(broken)}")
    return 1 if broken else 0


def _kept(name: str, scale: float, state: Path) -> dict[str, Any]:
    """The row of a case: kept from before, or from a process of its own."""
    key = digests.of_texts(f"{name} {scale} {_sources()}")
    file = state / f"{key}.json"
    if file.exists():
        known: dict[str, Any] = read_json(file)
        return known
    row = _in_a_process(name, scale)
    if row["kept"] == "yes" and row["peak_mib"] > row["most_mib"]:
        row["kept"] = f"no: more than {row['most_mib']} MiB"
    write_json(file, row)
    return row


def _in_a_process(name: str, scale: float) -> dict[str, Any]:
    command = [
        sys.executable,
        "-m",
        "tests.campaigns.limits",
        "--child",
        "--only",
        name,
        "--scale",
        str(scale),
    ]
    row = {"case": name, "expected": "an end", "kept": "no", "seconds": 0.0, "peak_mib": 0, "most_mib": 0}
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=SECONDS)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return row | {"found": f"no end within {SECONDS} s", "seconds": float(SECONDS)}
    except (IndexError, json.JSONDecodeError):
        last = done.stderr.strip().splitlines()[-1:] or [""]
        return row | {"found": f"status {done.returncode}: {last[0]}"[:200]}


@functools.cache
def _sources() -> str:
    return digests.of_files((Path(__file__), *sorted((ROOT / "rst_theory").rglob("*.py"))))


if __name__ == "__main__":
    sys.exit(main())
