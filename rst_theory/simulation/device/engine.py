"""The torch engine: any problem that has its formulas on tensors, on any device, eager or compiled.

A block of replicas runs side by side, state (n, d). Everything a step needs lies on the device, the clock
too, so the host only launches and nothing waits for it: coins and noise are functions of counters, trials
are selected and never branched on. Compiled, a step is one function, fused into few kernels.

Symbol key: n replicas, d coordinates, T steps, K times, M measured quantities.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch

from rst_theory import method
from rst_theory.notation import Ascent
from rst_theory.problems.form import InTorch
from rst_theory.simulation.device.philox import (
    BITS,
    COINS,
    INDICES,
    NORMALS,
    fraction,
    indices,
    philox,
    round_keys,
)
from rst_theory.simulation.setting import Setting, Tell

__all__ = ["Clock", "Measured", "clock", "run", "stops"]

_WORD = 0xFFFFFFFF
_BELOW_ONE = 2**BITS - 1
_LARGEST_INDEX = 2**32 - 1


class Measured(NamedTuple):
    """What a block of n replicas gave, on the device.

    Attributes:
        samples: by quantity, the measurements at the K times and at x_T, shape (M, K+1, n).
        extra_pairs: N of each replica, int64 (n,).
        points: x_0, …, x_T, shape (n, T+1, d); None unless they are kept.
    """

    samples: torch.Tensor
    extra_pairs: torch.Tensor
    points: torch.Tensor | None = None


class Clock(NamedTuple):
    """What depends on the step alone, tensors of shape (T,).

    Attributes:
        eta: step sizes.
        rho: radii.
        gamma: mixing coefficients.
        threshold: the trial is 1 where an integer below 2^53 is less than this, int64. Independent trials:
            the fraction of the coin. Systematic: what is missing from the comb's place to the next integer.
        comb: systematic trials: p_0 + … + p_{t-1} modulo 1, in multiples of 2^-53, int64.
    """

    eta: torch.Tensor
    rho: torch.Tensor
    gamma: torch.Tensor
    threshold: torch.Tensor
    comb: torch.Tensor


class _Plan(NamedTuple):
    """One simulation, as its steps see it."""

    clock: Clock
    keys: torch.Tensor
    formulas: InTorch
    noise: float
    ascent: Ascent
    systematic: bool


def clock(setting: Setting, device: torch.device, dtype: torch.dtype) -> Clock:
    """The parameters of every step on the device; the coins' as exact integers, as in `trials`."""
    scaled = setting.p * 2.0**BITS
    if setting.trials == "systematic":
        threshold = np.rint(scaled).astype(np.int64)
        total = np.cumsum(threshold.astype(np.uint64)) - threshold.astype(np.uint64)  # wraps modulo 2^64
        comb = (total & np.uint64(_BELOW_ONE)).astype(np.int64)
    else:
        threshold = np.ceil(scaled).astype(np.int64)
        comb = np.zeros_like(threshold)
    eta, rho, gamma = (
        torch.tensor(a, device=device, dtype=dtype) for a in (setting.eta, setting.rho, setting.gamma)
    )
    return Clock(eta, rho, gamma, *(torch.tensor(a, device=device) for a in (threshold, comb)))


def stops(setting: Setting) -> list[int]:
    """Between which steps to measure: 0, then every time, then T."""
    return [0, *map(int, setting.times), setting.steps]


def run(
    setting: Setting,
    formulas: InTorch,
    first: int,
    n: int,
    *,
    device: torch.device,
    dtype: torch.dtype,
    compiled: bool,
    tell: Tell,
) -> Measured:
    """Run the replicas first, …, first + n - 1 from x_0 to x_T.

    Args:
        setting: the simulation.
        formulas: of its problem, on this device and in this dtype.
        first: index of the first replica.
        n: how many run side by side; indices from 2^32 on are replaced by the last one.
        device: where.
        dtype: of the state; coins do not depend on it.
        compiled: whether torch.compile fuses the steps.
        tell: told the share of the steps that is launched.
    """
    plan = _Plan(
        clock(setting, device, dtype),
        torch.tensor(round_keys(setting.seed), device=device),
        formulas,
        setting.problem.noise,
        setting.ascent,
        setting.trials == "systematic",
    )
    minimizer, f_star = setting.problem.minimizer, setting.problem.constants.f_star
    center = None if minimizer is None else torch.tensor(minimizer, device=device, dtype=dtype)
    measure: Callable[..., Any] = torch.compile(_measure, fullgraph=True) if compiled else _measure
    advance: Callable[..., Any] = torch.compile(_advance, fullgraph=True) if compiled else _advance

    replica = torch.arange(first, first + n, device=device).clamp(max=_LARGEST_INDEX)
    x = torch.tensor(setting.start, device=device, dtype=dtype).expand(n, -1).contiguous()
    extra, t = torch.zeros_like(replica), torch.zeros(1, dtype=torch.int64, device=device)
    points = [x] if setting.keep else []
    samples = torch.empty((len(setting.measured), setting.times.size + 1, n), device=device, dtype=dtype)
    ends = stops(setting)
    for k, (begin, end) in enumerate(itertools.pairwise(ends)):
        for step in range(begin, end):
            x, extra, t = advance(x, extra, t, replica, plan)
            if setting.keep:
                points.append(x)
            if step % 64 == 63:
                tell((step + 1) / setting.steps)
        samples[:, k] = measure(x, formulas, f_star, center)
    return Measured(samples, extra, torch.stack(points, dim=1) if setting.keep else None)


def _advance(
    x: torch.Tensor, extra: torch.Tensor, t: torch.Tensor, replica: torch.Tensor, plan: _Plan
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One step: the points, the pairs spent and the time after it."""
    coin = _coin(t, replica, plan)
    return _step(x, coin, _stochastic_gradient(x, t, replica, plan), t, plan), extra + coin, t + 1


def _coin(t: torch.Tensor, replica: torch.Tensor, plan: _Plan) -> torch.Tensor:
    """The trials of step t, bool (n,): those of `trials`, to the bit."""
    at = torch.zeros_like(t) if plan.systematic else t
    high, low, _, _ = philox(at & _WORD, at >> 32, replica, COINS, plan.keys)
    number = fraction(high, low)
    if plan.systematic:
        number = _BELOW_ONE - ((number + torch.take(plan.clock.comb, t)) & _BELOW_ONE)
    coin: torch.Tensor = number < torch.take(plan.clock.threshold, t)
    return coin


def _step(
    x: torch.Tensor,
    coin: torch.Tensor,
    gradient: Callable[[torch.Tensor], torch.Tensor],
    t: torch.Tensor,
    plan: _Plan,
) -> torch.Tensor:
    """`method.step` without a branch, for trials and parameters that only the device knows."""
    eta, rho, gamma = (torch.take(values, t) for values in plan.clock[:3])
    g = gradient(x)
    g_adv = gradient(method.ascend(x, g, rho, plan.ascent))
    mixed = torch.where(gamma == 1, g_adv, (1 - gamma) * g + gamma * g_adv)
    return x - eta * torch.where(coin[:, None], mixed, g)


def _stochastic_gradient(
    x: torch.Tensor, t: torch.Tensor, replica: torch.Tensor, plan: _Plan
) -> Callable[[torch.Tensor], torch.Tensor]:
    """The gradient of step t's minibatch, or with its Gaussian noise."""
    formulas = plan.formulas
    words = functools.partial(_words, t=t, replica=replica, keys=plan.keys)
    if formulas.sampled_gradient is not None:
        sampled, n = formulas.sampled_gradient, formulas.rows
        w0, w1, w2, w3 = words(columns=formulas.batch, use=INDICES)
        minibatch = _interleaved(indices(w0, w1, n), indices(w2, w3, n))[:, : formulas.batch]
        return lambda y: sampled(y, minibatch)
    if plan.noise == 0:
        return formulas.gradient
    xi = plan.noise * _normals(*words(columns=x.shape[1], use=NORMALS), dtype=x.dtype)[:, : x.shape[1]]
    return lambda y: formulas.gradient(y) + xi


def _words(columns: int, use: int, t: Any, replica: Any, keys: Any) -> tuple[Any, Any, Any, Any]:
    """Four words for each replica and pair of columns."""
    pair = torch.arange((columns + 1) // 2, device=replica.device)
    return philox(t[:, None], replica[:, None], pair, use, keys)


def _normals(
    w0: torch.Tensor, w1: torch.Tensor, w2: torch.Tensor, w3: torch.Tensor, dtype: torch.dtype
) -> torch.Tensor:
    if dtype == torch.float64:
        u, v = (fraction(w0, w1) + 1).to(dtype) * 2.0**-BITS, fraction(w2, w3).to(dtype) * 2.0**-BITS
    else:
        u, v = w0.to(dtype) * 2.0**-32 + 2.0**-33, w2.to(dtype) * 2.0**-32
    radius, angle = torch.sqrt(-2 * torch.log(u)), 2 * math.pi * v
    return _interleaved(radius * torch.cos(angle), radius * torch.sin(angle))


def _interleaved(even: torch.Tensor, odd: torch.Tensor) -> torch.Tensor:
    return torch.stack([even, odd], dim=-1).flatten(-2)


def _measure(x: torch.Tensor, formulas: InTorch, f_star: float, center: torch.Tensor | None) -> torch.Tensor:
    """Squared gradient norm, gap, and squared distance where a minimizer is known: (M, n)."""
    measured = [(formulas.gradient(x) ** 2).sum(dim=-1), formulas.value(x) - f_star]
    if center is not None:
        measured.append(((x - center) ** 2).sum(dim=-1))
    return torch.stack(measured)
