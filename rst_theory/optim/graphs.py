"""A step as two CUDA graphs, one for each trial: no kernel is launched alone, and the host's coin chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from rst_theory.optim.rst import RST
from rst_theory.schedules import Constant

__all__ = ["GraphedStep"]

_WARM_UP = 3  # eager steps of each kind before its capture: libraries then have their work space


class _Captured(NamedTuple):
    graph: torch.cuda.CUDAGraph
    loss: Tensor
    lengths: list[tuple[str, Tensor]]
    numbers: dict[tuple[int, str], Any]


class GraphedStep:
    """Steps of an optimizer, replayed as CUDA graphs.

    The first steps of each kind are taken eagerly; they are steps of the run like all others. Then the step
    is captured once with its trial 0 and once with its trial 1, both in one memory pool. Radii and
    coefficients that change from step to step are read from tensors that are filled before each replay.

    The minibatch must lie in tensors that stay: copy the next one into them before each call. A learning
    rate that changes must be a tensor, as torch asks for capturable optimizers: `torch.optim.SGD(…,
    lr=torch.tensor(0.1, device="cuda"), fused=True)`, `torch.optim.Adam(…, lr=torch.tensor(…),
    capturable=True)`.

    Args:
        optimizer: on parameters of one CUDA device.
        closure: as for `RST.step`, with `zero_grad(set_to_none=True)`; it returns the loss as a tensor.

    Raises:
        RuntimeError: the parameters are not on a CUDA device.
        ValueError: the optimizer swaps storage, so that addresses would move.

    Example:
        >>> step = GraphedStep(optimizer, closure)                             # doctest: +SKIP
        >>> for batch, labels in loader:                                       # doctest: +SKIP
        ...     inputs.copy_(batch, non_blocking=True)
        ...     targets.copy_(labels, non_blocking=True)
        ...     loss = step()
    """

    def __init__(self, optimizer: RST, closure: Callable[[], Tensor]) -> None:
        devices = {p.device for group in optimizer.param_groups for p in group["params"]}
        if len(devices) != 1 or next(iter(devices)).type != "cuda":
            places = ", ".join(sorted(map(str, devices)))
            raise RuntimeError(f"CUDA graphs need all parameters on one CUDA device; they are on {places}")
        if optimizer._perturbation.storage == "swap":
            raise ValueError("storage='swap' moves addresses, which a CUDA graph holds: use 'auto' or 'copy'")
        self.optimizer = optimizer
        self.closure = closure
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool: Any = torch.cuda.graph_pool_handle()
        self._eager_steps = {False: 0, True: 0}
        self._captured: dict[bool, _Captured] = {}
        (device,) = devices
        for key in _changing(optimizer):
            optimizer._on_device[key] = torch.zeros((), device=device)

    def __call__(self) -> Tensor:
        """One step.

        Returns:
            The loss at the unperturbed weights, as a tensor of its own.

        Raises:
            DomainError: a step beyond total_steps.
            ValueError: a number in a parameter group has changed since the capture.
            FloatingPointError: as `RST.step`, one step late.
        """
        optimizer = self.optimizer
        trial = optimizer.will_perturb
        for (name, group), value in optimizer._on_device.items():
            t = optimizer.steps_taken
            now = optimizer._plan.at("gamma", t) if name == "gamma" else optimizer._groups.radius(group, t)
            value.fill_(now or 0.0)
        if self._eager_steps[trial] < _WARM_UP:
            self._eager_steps[trial] += 1
            return self._eagerly()
        if trial not in self._captured:
            self._captured[trial] = self._capture()
        captured = self._captured[trial]
        if captured.numbers != (numbers := _numbers(optimizer)):
            changed = next(key for key in numbers if captured.numbers.get(key) != numbers[key])
            raise ValueError(
                f"{changed[1]!r} of parameter group {changed[0]} has changed since the step was captured: "
                "hold it in a tensor"
            )
        optimizer._checks.raise_late()
        captured.graph.replay()
        for what, size in captured.lengths:
            optimizer._checks.note(size, what)
        optimizer.perturbed_steps += trial
        optimizer.steps_taken += 1
        return captured.loss.clone()

    def _eagerly(self) -> Tensor:
        """A step on a side stream, as capture asks for."""
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream):
            loss = self.optimizer.step(self.closure)
        torch.cuda.current_stream().wait_stream(self._stream)
        return loss.detach()

    def _capture(self) -> _Captured:
        """The kernels of the step that is due, not run yet."""
        optimizer, graph = self.optimizer, torch.cuda.CUDAGraph()
        lengths = optimizer._checks.captured = []
        with torch.cuda.graph(graph, pool=self._pool):
            loss = cast("Tensor", optimizer._update(self.closure))
        return _Captured(graph, loss.detach(), lengths, _numbers(optimizer))


def _changing(optimizer: RST) -> list[tuple[str, int]]:
    """The radii (of each group that moves) and the coefficient, where they change from step to step."""
    plan, groups = optimizer._plan, optimizer._groups
    keys = [] if plan.degree is None and isinstance(plan.gamma, Constant) else [("gamma", 0)]
    for i in range(len(optimizer.param_groups)):
        radius = plan.rho if groups[i].rho is None else groups[i].rho
        if groups[i].moves and not isinstance(radius, Constant):
            keys.append(("rho", i))
    return keys


def _numbers(optimizer: RST) -> dict[tuple[int, str], Any]:
    """The numbers in the parameter groups: a graph holds those of its capture."""
    groups = enumerate(optimizer.param_groups)
    return {(i, k): v for i, group in groups for k, v in group.items() if isinstance(v, int | float | tuple)}
