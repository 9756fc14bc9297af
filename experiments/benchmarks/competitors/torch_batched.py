"""Torch on the CPU, batched over replicas, in float64: eager, or with the step compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.benchmarks.work import Measured, Run, Work, measured

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["prepare"]


def prepare(work: Work, threads: int = 2, compiled: bool = False) -> Run:
    """A run on this many threads."""
    import torch

    torch.set_num_threads(threads)
    lam, weights = torch.from_numpy(work.eigenvalues), torch.from_numpy(work.weights)
    start = torch.from_numpy(work.start).repeat(work.replicas, 1)

    def step(x: Tensor, noise: Tensor, coin: Tensor) -> Tensor:
        g = torch.addcmul(noise, lam, x) if work.noise else lam * x
        radius = torch.where(coin, work.rho / torch.linalg.vector_norm(g, dim=1, keepdim=True), 0.0)
        return x - work.eta * (g + lam * (radius * g))

    one = torch.compile(step) if compiled else step

    @torch.inference_mode()
    def run() -> Measured:
        generator = torch.Generator().manual_seed(work.seed)
        x, noise, uniform = start.clone(), torch.zeros_like(start), start.new_empty(work.replicas, 1)
        samples = []
        for t in range(work.steps):
            if t % work.segment == 0:
                samples.append((x * x) @ weights)
            if work.noise:
                noise.normal_(std=work.noise, generator=generator)
            x = one(x, noise, uniform.uniform_(generator=generator) < work.p)
        samples.append((x * x) @ weights)
        return measured(torch.stack(samples).numpy())

    return run
