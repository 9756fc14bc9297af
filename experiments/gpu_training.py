"""Training steps on a GPU: RST against SGD and SAM, eager, compiled and graphed, and where their time goes.

Per network (ResNet-18 and WideResNet-28-10 on 3 x 32 x 32 images, bfloat16 autocast, channels last):

- steps a second of SGD, RST (p = .5) and SAM, in alternated blocks, and their time relative to SGD;
- the kernel-launch gap: the share of a step in which the device has nothing to run, by the profiler;
- the share of a step spent in the optimizer's own work (the aim is below 1 %);
- that a step makes the host wait nowhere (`torch.cuda.set_sync_debug_mode`).

Then Fashion-MNIST is trained to the end in bfloat16, where its directory is named by FASHION_MNIST.
Without a GPU it says so and exits with 0.
"""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

import rst_theory as rst
from experiments.settings import RESULTS, RUNS
from rst_theory.files import write_json, write_table
from rst_theory.optim import GraphedStep
from rst_theory.training import TrainConfig, build_model, train

Execution = Literal["eager", "compiled", "graphed"]

METHODS = {"SGD": 0.0, "RST": 0.5, "SAM": 1.0}
MARK = "rst: "
"""How the names of the optimizer's own ranges in a profile begin."""
TOLERANCE = 1e-6
"""Relative, in float64, after a short training: a wrong radius or coefficient shows, rounding does not."""
OWN_SHARE = 0.01
"""Of a step's time on the device: what the optimizer's own work, beside the passes and the base's step, may
take."""


@dataclass(frozen=True)
class Size:
    """How much is measured.

    Attributes:
        networks: their names and batch sizes.
        block: steps of one method in a row.
        rounds: of all methods in turns; medians are over rounds.
        warm_up: steps of each method before the first round.
    """

    networks: tuple[tuple[str, int], ...] = (("resnet18", 128), ("wrn28-10", 128))
    block: int = 40
    rounds: int = 7
    warm_up: int = 12


class Loop:
    """Steps of one method on one network, on a fixed minibatch that lies on the device."""

    def __init__(self, network: str, batch: int, p: float, execution: Execution, device: str) -> None:
        self.device = device
        self.model = build_model(network, (3, 32, 32), 10, seed=0)
        self.model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        forward: Any = torch.compile(self.model) if execution == "compiled" else self.model
        generator = torch.Generator().manual_seed(0)
        inputs = torch.randn(batch, 3, 32, 32, generator=generator).to(device)
        self.inputs = inputs.contiguous(memory_format=torch.channels_last)
        self.targets = torch.randint(10, (batch,), generator=generator).to(device)
        base = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, foreach=True)
        self.optimizer = rst.RST(base, p, rho=0.05, model=self.model)
        loss_function = nn.CrossEntropyLoss()

        def closure() -> Tensor:
            self.optimizer.zero_grad()
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                loss: Tensor = loss_function(forward(self.inputs), self.targets)
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        self.step: Callable[[], Tensor] = (
            GraphedStep(self.optimizer, closure)
            if execution == "graphed"
            else lambda: self.optimizer.step(closure)
        )

    def seconds(self, steps: int) -> float:
        """The time of some steps, on the device."""
        self.wait()
        begin = time.perf_counter()
        for _ in range(steps):
            self.step()
        self.wait()
        return time.perf_counter() - begin

    def wait(self) -> None:
        """Until the device has nothing left to do."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def speeds(size: Size, device: str, executions: tuple[Execution, ...]) -> Iterator[dict[str, Any]]:
    """A row for each network, execution and method."""
    for network, batch in size.networks:
        for execution in executions:
            yield from _speeds(size, network, batch, execution, device)
            gc.collect()  # loops hold themselves, and with them memory of the device


def _speeds(
    size: Size, network: str, batch: int, execution: Execution, device: str
) -> Iterator[dict[str, Any]]:
    loops = {name: Loop(network, batch, p, execution, device) for name, p in METHODS.items()}
    for loop in loops.values():
        loop.seconds(size.warm_up)
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    pairs: dict[str, list[float]] = {name: [] for name in METHODS}
    for _ in range(size.rounds):
        for name, loop in loops.items():
            before = loop.optimizer.perturbed_steps
            times[name].append(loop.seconds(size.block) / size.block)
            pairs[name].append(1 + (loop.optimizer.perturbed_steps - before) / size.block)
    for name in METHODS:
        ratios = [mine / sgd for mine, sgd in zip(times[name], times["SGD"], strict=True)]
        yield {
            "network": network,
            "batch": batch,
            "execution": execution,
            "method": name,
            "steps_per_second": 1 / statistics.median(times[name]),
            "time_vs_sgd": statistics.median(ratios),
            "time_vs_sgd_low": min(ratios),
            "time_vs_sgd_high": max(ratios),
            "pairs_per_step": statistics.fmean(pairs[name]),
        }


def shares(network: str, batch: int, steps: int = 20) -> dict[str, Any]:
    """Where the time of eager SAM steps goes on a CUDA device: own kernels, and the device's idle time.

    The optimizer's own kernels are those launched within its ranges "rst: ..." that `marked` adds.
    """
    loop = Loop(network, batch, 1.0, "eager", "cuda")
    loop.seconds(10)
    elapsed = loop.seconds(steps)  # without the profiler, which delays launches
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with marked(loop.optimizer), torch.profiler.profile(activities=activities) as profiler:
        loop.seconds(steps)
    events = profiler.events() or []
    own = sum(kernel_time(e) for e in events if e.name.startswith(MARK) and e.device_type.name == "CPU")
    # Ranges appear on the device's side too, and last as long as all that is within them.
    on_device = [e for e in events if e.device_type.name == "CUDA" and not e.is_user_annotation]
    busy = sum(e.self_device_time_total for e in on_device)
    return {
        "network": network,
        "batch": batch,
        "own_share": own / busy,
        "idle_share": max(0.0, 1 - busy / 1e6 / elapsed),
        "aim": OWN_SHARE,
        "reached": own / busy <= OWN_SHARE,
    }


def kernel_time(event: Any) -> float:
    """The microseconds on the device of what was launched within an event of the host."""
    kernels = sum(k.duration for k in event.kernels if not k.name.startswith(MARK))
    return float(kernels + sum(map(kernel_time, event.cpu_children)))


@contextmanager
def marked(optimizer: rst.RST) -> Iterator[None]:
    """The optimizer's own parts as named ranges in a profile."""
    own = ("_ascend", "_mix", "_judge_direction")
    parts: list[tuple[Any, str]] = [(optimizer, name) for name in own]
    parts += [(optimizer._perturbation, "back")]
    buffers = optimizer._buffers
    parts += [] if buffers is None else [(buffers, "keep"), (buffers, "bring_back")]

    def ranged(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        def inner(*arguments: Any, **options: Any) -> Any:
            with torch.profiler.record_function(MARK + name):
                return method(*arguments, **options)

        return inner

    for owner, name in parts:
        setattr(owner, name, ranged(name, getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name in parts:
            delattr(owner, name)


def waits(network: str, batch: int) -> str:
    """Where the first of a few perturbed and plain steps waits for the device, or "nowhere"."""
    loop = Loop(network, batch, 0.5, "eager", "cuda")
    loop.seconds(10)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(10):
            loop.step()
    except RuntimeError:
        return traceback.format_exc()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return "nowhere"


def graphs_agree() -> float:
    """The relative difference between graphed and eager training, of weights and statistics."""
    eager, graphed = (final_state(execution, "cuda") for execution in ("eager", "graphed"))
    return float((graphed - eager).norm() / eager.norm())


def final_state(execution: str, device: str, network: str = "resnet18", steps: int = 30) -> Tensor:
    """Weights and statistics in float64 after steps in which minibatch, rho, gamma and rate all change."""
    model = build_model(network, (3, 32, 32), 10, seed=0, dtype=torch.float64).to(device)
    rate = torch.tensor(0.01, device=device)
    base = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9, fused=True)
    optimizer = rst.RST(
        base,
        0.5,
        steps,
        rho=rst.Linear(0.01, 0.1),
        gamma=rst.Linear(0.5, 2.0),
        clip_direction=1.0,
        model=model,
        storage="copy",
    )
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, total_iters=steps)
    generator = torch.Generator().manual_seed(0)
    inputs = torch.empty(16, 3, 32, 32, dtype=torch.float64, device=device)
    targets = torch.empty(16, dtype=torch.int64, device=device)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    graphed = GraphedStep(optimizer, closure) if execution == "graphed" else None
    for _ in range(steps):
        inputs.copy_(torch.randn(inputs.shape, generator=generator, dtype=torch.float64))
        targets.copy_(torch.randint(10, targets.shape, generator=generator))
        if graphed is None:
            optimizer.step(closure)
        else:
            graphed()
        scheduler.step()
    return torch.cat([v.detach().double().flatten() for v in model.state_dict().values()])


def fashion(directory: Path) -> Iterator[dict[str, Any]]:
    """ResNet-18 on Fashion-MNIST in bfloat16, to the end, by each method."""
    for name, p in METHODS.items():
        config = TrainConfig(
            rst.Constant(p),
            rho=0.05,
            data="fashion-mnist",
            model="resnet18",
            train_size=None,
            label_noise=0.0,
            epochs=15,
            batch_size=128,
            learning_rate=0.1,
            weight_decay=5e-4,
            augmentation="crop-flip",
            precision="bfloat16",
            channels_last=True,
        )
        folder = RUNS / "gpu-fashion" / name
        record = train(config, folder, data_dir=directory, device="cuda")
        yield {
            "method": name,
            "test_accuracy": record.final_test_accuracy,
            "pairs_per_step": record.pairs_per_step,
            "seconds": record.wall_seconds,
        }


def main() -> int:
    """Measure; 1 where an aim is missed."""
    if not torch.cuda.is_available():
        print(
            "No GPU here, no training step was timed. With one this measures steps a second of SGD, RST and "
            "SAM (eager, compiled, graphed), the launch gap and the share of the optimizer's own work, and "
            "trains Fashion-MNIST in bfloat16 (its directory in FASHION_MNIST); tables gpu_training*."
        )
        return 0
    size = Size()
    rows = []
    for row in speeds(size, "cuda", ("eager", "compiled", "graphed")):
        rows.append(row)
        print(row, flush=True)
        write_table(RESULTS, "gpu_training", rows)
    own = [shares(network, batch) for network, batch in size.networks]
    write_table(RESULTS, "gpu_training_shares", own)
    waited = {network: waits(network, batch) for network, batch in size.networks}
    difference = graphs_agree()
    facts = {"device": torch.cuda.get_device_name(), "graphed_vs_eager": difference, "waits": waited}
    write_json(RESULTS / "gpu_training_facts.json", facts)
    print(own, facts, flush=True)
    if directory := os.environ.get("FASHION_MNIST"):
        write_table(RESULTS, "gpu_fashion", list(fashion(Path(directory))))
    reached = all(row["reached"] for row in own) and set(waited.values()) == {"nowhere"}
    return int(not (reached and difference <= TOLERANCE))


if __name__ == "__main__":
    sys.exit(main())
