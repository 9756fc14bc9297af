"""What a user of torch writes: a loop over replicas and steps around a SAM optimizer of the usual kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from experiments.benchmarks.work import FloatArray, Measured, Run, Work, measured

__all__ = ["SAM", "prepare"]


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimization (arXiv 2010.01412) around SGD, in two calls with a backward pass between.

    Args:
        parameters: to be trained.
        rho: the radius of the ascent.
        lr: the step size of SGD.
    """

    def __init__(self, parameters: Any, rho: float, lr: float) -> None:
        super().__init__(parameters, {"rho": rho, "lr": lr})
        self.base = torch.optim.SGD(self.param_groups, lr=lr)

    @torch.no_grad()
    def first_step(self) -> None:
        """Climb to the perturbed weights."""
        for group in self.param_groups:
            gradients = [w.grad.norm() for w in group["params"] if w.grad is not None]
            scale = group["rho"] / torch.stack(gradients).norm()
            for w in group["params"]:
                if w.grad is not None:
                    self.state[w]["before"] = w.detach().clone()
                    w.add_(w.grad * scale)

    @torch.no_grad()
    def second_step(self) -> None:
        """Go back, and down along the gradient of the perturbed weights."""
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is not None:
                    w.copy_(self.state[w]["before"])
        self.base.step()

    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Plain SGD, for the steps whose coin is 0."""
        self.base.step(closure)


def prepare(work: Work, threads: int = 1) -> Run:
    """A run on this many threads; one is the fastest for vectors as short as these."""
    torch.set_num_threads(threads)

    def run() -> Measured:
        generator = torch.Generator().manual_seed(work.seed)
        return measured(np.stack([_replica(work, generator) for _ in range(work.replicas)], axis=1))

    return run


def _replica(work: Work, generator: torch.Generator) -> FloatArray:
    lam = torch.from_numpy(work.eigenvalues)
    x = torch.nn.Parameter(torch.from_numpy(work.start))
    optimizer = SAM([x], rho=work.rho, lr=work.eta)
    points = []
    for t in range(work.steps):
        if t % work.segment == 0:
            points.append(x.detach().numpy().copy())
        noise = work.noise * torch.randn(work.dimension, generator=generator, dtype=torch.float64)

        def backward(noise: torch.Tensor = noise) -> None:
            optimizer.zero_grad()
            loss = 0.5 * (lam * x * x).sum() + (noise * x).sum()
            loss.backward()  # type: ignore[no-untyped-call]

        backward()
        if torch.rand((), generator=generator, dtype=torch.float64) < work.p:
            optimizer.first_step()
            backward()
            optimizer.second_step()
        else:
            optimizer.step()
    points.append(x.detach().numpy().copy())
    return np.square(points) @ work.weights
