"""The Triton kernel from the host's side: which problems it runs, and how a block of replicas is cut up."""

from __future__ import annotations

import contextlib
import math

import numpy as np
import torch

from rst_theory.notation import FloatArray
from rst_theory.problems import Problem, Quadratic, RippledQuadratic
from rst_theory.simulation.device.engine import Measured, clock, stops
from rst_theory.simulation.setting import Setting

__all__ = ["LARGEST", "refusal", "run"]

LARGEST = 4096
"""The largest dimension whose state fits into the registers of one program."""

_THREADS = 32  # of a warp
_PAIRS_PER_THREAD = {torch.float32: 16, torch.float64: 8}  # as many as 255 registers hold without spilling


def refusal(setting: Setting) -> str:
    """Why the kernel cannot run this; empty where it can."""
    problem = setting.problem
    if _family(problem) is None:
        return f"it has no formulas for {type(problem).__name__}"
    if problem.dimension > LARGEST:
        return f"dimension {problem.dimension} is above {LARGEST}"
    return "it keeps no iterates" if setting.keep else ""


def run(  # GPU only
    setting: Setting, first: int, n: int, *, device: torch.device, dtype: torch.dtype
) -> Measured:
    """Run the replicas first, …, first + n - 1 in one launch, as `engine.run`."""
    from rst_theory.simulation.device import triton_kernel as kernels

    problem, K = setting.problem, setting.times.size + 1
    family = _family(problem)
    if family is None:
        raise ValueError(refusal(setting))
    name, coefficients = family
    minimizer = problem.minimizer
    pairs, lanes, warps = shape(problem.dimension, dtype)

    def tensor(values: object, kind: torch.dtype = dtype) -> torch.Tensor:
        return torch.tensor(values, device=device, dtype=kind)

    samples = torch.full((len(setting.measured), K, n), math.nan, device=device, dtype=dtype)
    extra_pairs = torch.empty(n, dtype=torch.int64, device=device)
    start = tensor(setting.start)
    # A number of the host would be rounded to 32 bits on its way: noise and f_star travel in a tensor.
    numbers = tensor([problem.noise, problem.constants.f_star])
    seed = np.array([setting.seed], dtype=np.uint64).view(np.int64)
    arguments = (
        samples,
        extra_pairs,
        start,
        start if minimizer is None else tensor(minimizer),
        tensor(coefficients),
        numbers,
        tensor(stops(setting), torch.int32),
        *clock(setting, device, dtype),
        tensor(seed, torch.int64),
        tensor([first], torch.int64),
        n,
        K,
    )
    with torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext():
        kernels.trajectories[(-(-n // lanes),)](
            *arguments,
            VALUE=getattr(kernels, name),
            DERIVATIVE=getattr(kernels, f"{name}_derivative"),
            D=problem.dimension,
            PAIRS=pairs,
            LANES=lanes,
            NORMALIZED=setting.ascent == "normalized",
            SYSTEMATIC=setting.trials == "systematic",
            NOISY=problem.noise > 0,
            CENTERED=minimizer is not None,
            num_warps=warps,
            enable_fp_fusion=True,
        )
    return Measured(samples, extra_pairs)


def shape(dimension: int, dtype: torch.dtype) -> tuple[int, int, int]:
    """PAIRS, LANES and warps of a program: one replica a thread while it fits, more threads beyond."""
    pairs = 1 << max((dimension + 1) // 2 - 1, 0).bit_length()
    of_a_warp = _PAIRS_PER_THREAD[dtype] * _THREADS
    return pairs, min(_THREADS, max(1, of_a_warp // pairs)), max(1, pairs // of_a_warp)


def _family(problem: Problem) -> tuple[str, FloatArray] | None:
    """The name of its functions in the kernel and the coefficients (d,); of these classes, no subclass."""
    if type(problem) is Quadratic:
        return "quadratic", problem.eigenvalues
    if type(problem) is RippledQuadratic:
        return "rippled", np.full(problem.dimension, problem.amplitude)
    return None
