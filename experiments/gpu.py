"""What needs a GPU: the optimizer there against the CPU's, the speed of training steps, the fused simulation.

Without a GPU it says what it would do, and exits with 0.
"""

from __future__ import annotations

import sys
import time

import torch

import rst_theory as rst
from experiments import gpu_simulation, gpu_training
from experiments.settings import RESULTS
from rst_theory.files import write_json

STEPS = 200
TOLERANCE = 1e-9
"""Relative, in float64: the same algorithm on two devices, over a whole contractive run."""


def weights_after(device: str, p: float, steps: int = STEPS) -> tuple[torch.Tensor, float]:
    """The weights of a linear model after some steps, and the seconds a step took."""
    generator = torch.Generator().manual_seed(0)
    inputs, targets = (torch.randn(512, k, generator=generator, dtype=torch.float64) for k in (64, 1))
    inputs, targets = inputs.to(device), targets.to(device)
    weight = torch.nn.Parameter(torch.zeros(64, 1, dtype=torch.float64, device=device))
    optimizer = rst.RST(torch.optim.SGD([weight], lr=0.1), rst.Constant(p), steps, rho=0.05, gamma=2.0)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = ((inputs @ weight - targets) ** 2).mean()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    begin = time.perf_counter()
    for _ in range(steps):
        optimizer.step(closure)
    final = weight.detach().cpu()
    return final, (time.perf_counter() - begin) / steps


def main() -> int:
    """The optimizer, training steps, the simulation; 1 where devices disagree or an aim is missed."""
    return optimizer() | gpu_training.main() | gpu_simulation.main()


def optimizer() -> int:
    """Compare and time the optimizer; 1 where the devices disagree."""
    if not torch.cuda.is_available():
        print(
            "No GPU here, nothing was run. With one this compares SGD, RST and SAM steps on it with "
            f"the CPU's to {TOLERANCE:g} and writes their times to experiments/results/gpu.json."
        )
        return 0
    rows = []
    for p in (0.0, 0.5, 1.0):
        weights_after("cuda", p, steps=10)
        (on_gpu, seconds), (on_cpu, _) = weights_after("cuda", p), weights_after("cpu", p)
        error = float((on_gpu - on_cpu).norm() / on_cpu.norm())
        rows.append({"p": p, "relative_difference": error, "seconds_per_step": seconds})
        print(f"p = {p}: relative difference {error:.1e}, {seconds * 1e6:.0f} us a step")
    write_json(RESULTS / "gpu.json", {"device": torch.cuda.get_device_name(), "rows": rows})
    return int(max(row["relative_difference"] for row in rows) > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
