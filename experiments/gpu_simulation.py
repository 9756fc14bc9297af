"""The simulation on a GPU: 10^12 replica-step-coordinates, timed, and compared with the CPU's engines.

Without a GPU it says what it would measure, and exits with 0.
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Literal

import numpy as np
import torch
from scipy import stats

import rst_theory as rst
from experiments.settings import RESULTS
from rst_theory.files import write_json
from rst_theory.problems import Quadratic
from rst_theory.simulation import reference
from rst_theory.simulation.device import parts
from rst_theory.simulation.setting import Part, Setting

Precision = Literal["float32", "float64"]

DIMENSION, STEPS = 20, 10_000
REPLICAS: dict[Precision, int] = {"float32": 5_000_000, "float64": 1_000_000}
"""10^12 replica-step-coordinates in float32, a fifth of that in float64."""

LIMIT = 60.0
"""Seconds that the first of them may take on an H200."""

REPETITIONS = 3
"""Runs behind a time, their median; one more before them compiles."""

TIMES = tuple(range(0, STEPS, STEPS // 10))

TOLERANCE = 1e-10
"""Relative: the same coins, no noise, a contractive unnormalized quadratic, float64."""

FALSE_ALARM = 1e-6

INSTRUCTIONS = {"float32": 70, "float64": 150}
"""Machine instructions of a replica-step-coordinate at d = 20: those in the loop over time of the code that
Triton 3.9 makes for compute capability 9.0, times the threads of a replica (1 and 2), over d."""

OPERATIONS = {"float32": 48, "float64": 80}
"""Floating-point operations in the same loop, a multiply-add being two; the integer operations of the
counter-based noise stand beside them."""

DATASHEET = {"H200": {"float32": 67e12, "float64": 34e12, "bytes": 4.8e12}}
"""Operations (outside the matrix units) and bytes a second, by the vendor's datasheet of the SXM part."""


def setting(replicas: int, noise: float = 0.1, steps: int = STEPS) -> Setting:
    """A quadratic of 20 coordinates under a linear schedule."""
    return Setting.checked(
        Quadratic.random(DIMENSION, noise=noise),
        rst.Linear(0.0, 1.0),
        steps=steps,
        eta=0.1,
        rho=0.05,
        gamma=1.0,
        ascent="normalized" if noise else "unnormalized",
        trials="independent",
        seed=0,
        start=None,
        at=[t for t in TIMES if t < steps],
        first=0,
        replicas=replicas,
        keep=False,
        quantiles=False,
    )


def speed(dtype: Precision, engine: Literal["torch", "triton"], replicas: int) -> dict[str, object]:
    """The time of a run, and its rates beside the card's."""
    one = setting(replicas)
    work = replicas * STEPS * DIMENSION
    runs = []
    for _ in range(REPETITIONS + 1):
        begin = time.perf_counter()
        for _part in parts(one, lambda share: None, device="cuda", dtype=dtype, engine=engine):
            pass  # its moments are back on the host, so the device is done
        runs.append(time.perf_counter() - begin)
    seconds = statistics.median(runs[1:])
    written = replicas * (len(one.measured) * (len(TIMES) + 1) * (4 if dtype == "float32" else 8) + 8)
    row: dict[str, object] = {
        "engine": engine,
        "dtype": dtype,
        "replicas": replicas,
        "steps": STEPS,
        "dimension": DIMENSION,
        "first_seconds": runs[0],
        "seconds": seconds,
        "ns_per_replica_step_coordinate": seconds / work * 1e9,
        "bytes_per_second": written / seconds,
    }
    if engine == "triton":
        row["instructions_per_second"] = INSTRUCTIONS[dtype] * work / seconds
        row["operations_per_second"] = OPERATIONS[dtype] * work / seconds
        for name, card in DATASHEET.items():
            if name in torch.cuda.get_device_name():
                row["share_of_arithmetic"] = OPERATIONS[dtype] * work / seconds / card[dtype]
                row["share_of_bandwidth"] = written / seconds / card["bytes"]
    return row


def equality(engine: Literal["torch", "triton"]) -> dict[str, object]:
    """Without noise the coins alone decide: the reference's numbers, and the same extra pairs."""
    one = setting(256, noise=0.0, steps=1000)
    (here,) = reference.parts(one, lambda share: None)
    (there,) = parts(one, lambda share: None, device="cuda", engine=engine)
    errors = [
        np.abs(there.moments[name].mean / moments.mean - 1).max() for name, moments in here.moments.items()
    ]
    same, error = bool((here.extra_pairs == there.extra_pairs).all()), float(max(errors))
    return {
        "engine": engine,
        "same_extra_pairs": same,
        "largest_relative_difference": error,
        "agrees": same and error <= TOLERANCE,
    }


def agreement(engine: Literal["torch", "triton"], dtype: Precision) -> dict[str, object]:
    """Noise of two kinds: the largest |z| between the moments of the GPU and of the reference."""
    one = setting(4096, steps=1000)
    here = _merged(list(reference.parts(one, lambda share: None)))
    there = _merged(list(parts(one, lambda share: None, device="cuda", dtype=dtype, engine=engine)))
    # At x_0 every replica is alike, and there is no error to compare with.
    z = [(there[name][0] - here[name][0])[1:] / np.hypot(there[name][1], here[name][1])[1:] for name in here]
    threshold = float(stats.norm.isf(FALSE_ALARM / 2 / np.size(z)))
    largest = float(np.abs(z).max())
    return {
        "engine": engine,
        "dtype": dtype,
        "largest_z": largest,
        "threshold": threshold,
        "agrees": largest < threshold,
    }


def _merged(run: list[Part]) -> dict[str, tuple[rst.notation.FloatArray, rst.notation.FloatArray]]:
    """Mean and standard error of each quantity at each time."""
    merged = run[0].moments
    for part in run[1:]:
        merged = {name: moments.merge(part.moments[name]) for name, moments in merged.items()}
    return {name: (moments.mean, moments.standard_error) for name, moments in merged.items()}


def main() -> int:
    """Compare and time; 1 where GPU and CPU disagree."""
    if not torch.cuda.is_available():
        print(
            "No GPU here, no simulation was run. With one this simulates "
            f"{REPLICAS['float32']:,} replicas x {STEPS:,} steps x {DIMENSION} coordinates = 10^12 in "
            f"float32 and a fifth of that in float64 (an H200 should take less than {LIMIT:g} s), prints "
            "seconds, ns per replica-step-coordinate and the rates beside the card's limits, compares the "
            "moments with the CPU's, and writes experiments/results/gpu_simulation.json."
        )
        return 0
    equal = [equality("triton"), equality("torch")]
    close = [agreement("triton", "float32"), agreement("triton", "float64"), agreement("torch", "float64")]
    rows = [speed(dtype, "triton", REPLICAS[dtype]) for dtype in REPLICAS]
    rows.append(speed("float32", "torch", REPLICAS["float32"] // 50))
    for row in [*equal, *close, *rows]:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    write_json(
        RESULTS / "gpu_simulation.json",
        {"device": torch.cuda.get_device_name(), "equality": equal, "agreement": close, "speed": rows},
    )
    return int(not all(row["agrees"] for row in [*equal, *close]))


if __name__ == "__main__":
    sys.exit(main())
