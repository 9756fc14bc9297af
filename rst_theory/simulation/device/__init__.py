"""The engine for GPUs: torch for every problem with formulas on tensors, Triton for separable ones.

The coins are those of every engine. The noise is `philox`'s, a function of (seed, replica, step,
coordinate), in place of the streams of the CPU's engines: `philox.PhiloxStreams` is the same in NumPy.

Blocks of replicas run one after the other, each as large as the memory allows. Moments are taken on the
device, in float64.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import numpy as np

from rst_theory.problems import Problem
from rst_theory.simulation.estimates import SLOTS, Moments
from rst_theory.simulation.setting import DivergenceError, Part, Setting, Tell

if TYPE_CHECKING:
    import torch

    from rst_theory.problems.form import InTorch
    from rst_theory.simulation.device.engine import Measured

__all__ = ["parts"]

Engine = Literal["torch", "triton"]
Precision = Literal["float64", "float32"]

_CPU_BYTES = 2**28
_TEMPORARIES = 12  # arrays of the size of the state that a step of the torch engine holds at once
_LAUNCH = (
    2**38
)  # replica-step-coordinates of one launch of the kernel: seconds, so that an interrupt is heard


def parts(
    setting: Setting,
    tell: Tell,
    device: str = "cuda",
    dtype: Precision = "float64",
    compiled: bool | None = None,
    engine: Engine | None = None,
) -> Iterator[Part]:
    """Run the replicas on a device, block by block.

    Args:
        setting: the simulation.
        tell: told the share that is done.
        device: "cuda", "cuda:1", …, or "cpu".
        dtype: "float64" or "float32", of points and gradients; the coins do not depend on it.
        compiled: whether torch.compile fuses the steps of the torch engine; by default on a GPU.
        engine: "triton" or "torch"; by default the Triton kernel on a GPU where it can run this problem.

    Raises:
        ValueError: a device that is not there, an unknown option, a problem without formulas on tensors (or
            for "triton" one that it has no kernel for), or quantiles, which are not sketched here.
        DivergenceError: a replica left the floating-point range; replica and step are named.
    """
    import torch

    where = _device(device)
    if dtype not in ("float64", "float32"):
        raise ValueError(f"dtype must be 'float64' or 'float32'; got {dtype!r}")
    if setting.quantiles:
        raise ValueError("the torch backend sketches no quantiles; leave quantiles=False, or run on the CPU")
    precision: torch.dtype = getattr(torch, dtype)
    formulas = _formulas(setting.problem, where, precision)
    compiled = where.type == "cuda" if compiled is None else compiled
    return _parts(setting, tell, where, precision, formulas, compiled, _engine(engine, setting, where))


def _parts(
    setting: Setting,
    tell: Tell,
    device: torch.device,
    dtype: torch.dtype,
    formulas: InTorch,
    compiled: bool,
    engine: Engine,
) -> Iterator[Part]:
    from rst_theory.simulation.device.engine import run

    # Blocks of equal size: the last may compute a few replicas in vain, and nothing is compiled twice.
    R, fitting = setting.replicas, _fitting(setting, device, dtype, formulas, engine)
    n = -(-R // -(-R // fitting))
    for origin in range(0, R, n):
        first, wanted = setting.first + origin, min(n, R - origin)

        def told(share: float, origin: int = origin, wanted: int = wanted) -> None:
            tell((origin + wanted * share) / R)

        if engine == "triton":  # GPU only
            from rst_theory.simulation.device import launch

            measured = launch.run(setting, first, n, device=device, dtype=dtype)
        else:
            measured = run(
                setting, formulas, first, n, device=device, dtype=dtype, compiled=compiled, tell=told
            )
        yield _part(setting, measured, first, wanted, formulas)
        told(1.0)


def _part(setting: Setting, measured: Measured, first: int, wanted: int, formulas: InTorch) -> Part:
    samples = measured.samples[..., :wanted]
    finite = samples.isfinite().all(dim=0)  # (K+1, n)
    if not bool(finite.all()):
        raise _divergence(setting, np.asarray(finite.cpu()), first, samples, formulas)
    points = measured.points
    return Part(
        moments={
            name: _moments(sample, first) for name, sample in zip(setting.measured, samples, strict=True)
        },
        extra_pairs=measured.extra_pairs[:wanted].cpu().numpy(),
        points=None if points is None else points[:wanted].double().cpu().numpy(),
    )


def _moments(sample: torch.Tensor, first: int) -> Moments:
    """The moments of the samples (K, n) of the replicas first, …: means first, then deviations from them."""
    import torch

    K, n = sample.shape
    before = first % SLOTS
    after = -(before + n) % SLOTS
    table = torch.nn.functional.pad(sample.double(), (before, after)).reshape(K, -1, SLOTS)
    counts = np.bincount((first + np.arange(n)) % SLOTS, minlength=SLOTS)
    means = table.sum(dim=1) / torch.tensor(np.maximum(counts, 1), device=sample.device)
    table = table - means[:, None]
    table.reshape(K, -1)[:, :before] = 0
    table.reshape(K, -1)[:, before + n :] = 0
    squares = (table * table).sum(dim=1)
    return Moments(counts, means.T.cpu().numpy().copy(), squares.T.cpu().numpy().copy())


def _divergence(
    setting: Setting, finite: np.ndarray, first: int, samples: torch.Tensor, formulas: InTorch
) -> DivergenceError:
    """Which replica left the range first, at which step: it is run again alone, every iterate kept."""
    from rst_theory.simulation.device.engine import run

    column = int(np.argmin(finite.all(axis=1)))
    replica = first + int(np.argmin(finite[column]))
    alone = dataclasses.replace(setting, times=np.arange(setting.steps), keep=True)
    again = run(
        alone,
        formulas,
        replica,
        1,
        device=samples.device,
        dtype=samples.dtype,
        compiled=False,
        tell=lambda share: None,
    )
    iterates = again.points
    here = again.samples.isfinite().all(dim=0)[:, 0].cpu().numpy()
    # x_t is what step t - 1 made of finite numbers; where x_t is finite and f is not, step t cannot be taken.
    after = iterates[0].isfinite().all(dim=-1).cpu().numpy()[1:] if iterates is not None else here[1:]
    lost = ~(here & np.append(after, True))
    seen = int(np.append(setting.times, setting.steps)[column])
    return setting.divergence(replica, min(int(np.argmax(lost)) if lost.any() else seen, setting.steps - 1))


def _device(device: str) -> torch.device:
    import torch

    try:
        where = torch.device(device)
    except RuntimeError:
        where = None
    if where is None or where.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu', 'cuda' or 'cuda:<index>'; got {device!r}")
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if where.type == "cuda" and (where.index or 0) >= there:
        raise ValueError(f"device {device!r} is not there: torch sees {there} GPUs")
    return where


def _formulas(problem: Problem, device: torch.device, dtype: torch.dtype) -> InTorch:
    """The problem on tensors; a class that overrides what its parent's formulas compute has none."""
    order = type(problem).__mro__
    depth = {
        name: next(i for i, cls in enumerate(order) if name in vars(cls))
        for name in ("in_torch", "value", "gradient", "sample", "stochastic_gradient")
    }
    formulas = problem.in_torch(device, dtype) if depth["in_torch"] == min(depth.values()) else None
    if formulas is None:
        raise ValueError(
            f"{type(problem).__name__} has no formulas on tensors, which the torch backend needs; "
            "backend='numpy' runs every problem"
        )
    return formulas


def _engine(engine: Engine | None, setting: Setting, device: torch.device) -> Engine:
    if engine not in (None, "torch", "triton"):
        raise ValueError(f"engine must be 'torch' or 'triton'; got {engine!r}")
    if engine == "torch" or (engine is None and device.type != "cuda"):
        return "torch"
    if importlib.util.find_spec("triton") is None:
        why = "Triton is not installed"
    else:
        from rst_theory.simulation.device import launch

        why = launch.refusal(setting)
    if engine == "triton" and why:
        raise ValueError(f"the Triton kernel cannot run this: {why}")
    return "torch" if why else "triton"


def _fitting(
    setting: Setting, device: torch.device, dtype: torch.dtype, formulas: InTorch, engine: Engine
) -> int:
    """How many replicas fit into half of the free memory, or into one launch."""
    import torch

    d, T, K = setting.problem.dimension, setting.steps, setting.times.size + 1
    free = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else _CPU_BYTES
    samples = K * (len(setting.measured) * dtype.itemsize + 4 * 8)
    if engine == "triton":  # GPU only
        most = max(_LAUNCH // (T * d), 2**16)
        return max(min(free // samples, most), 1)
    state = _TEMPORARIES * 8 * (d + formulas.rows + formulas.batch * d)
    points = 2 * (T + 1) * d * dtype.itemsize if setting.keep else 0
    return max(free // (samples + state + points), 1)
