"""A step as two CUDA graphs, one for each trial: no kernel is launched alone, and the host's coin chooses."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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

    What happens on the host happens at the capture alone. So the base must count its steps on the device;
    `.grad`, and what else the closure leaves behind, mean nothing after a replay; and a step with another
    closure (a last, smaller minibatch) is `optimizer.step`'s. After `load_state_dict` the steps are captured
    anew. One process is meant: passes of DistributedDataParallel want a longer warm-up.

    The minibatch must lie in tensors that stay: copy the next one into them before each call. A learning
    rate that changes must be a tensor, as torch asks for capturable optimizers: `torch.optim.SGD(…,
    lr=torch.tensor(0.1, device="cuda"), fused=True)`, `torch.optim.Adam(…, lr=torch.tensor(…),
    capturable=True)`.

    Args:
        optimizer: on parameters of one CUDA device.
        closure: as for `RST.step`, with `zero_grad(set_to_none=True)`; it returns the loss as a tensor.

    Raises:
        RuntimeError: the parameters are not on a CUDA device.
        ValueError: the optimizer swaps storage, so that addresses would move; or it replays randomness, for
            which it sets the states of generators.

    Example:
        >>> step = GraphedStep(optimizer, closure)                             # doctest: +SKIP
        >>> for batch, labels in loader:                                       # doctest: +SKIP
        ...     inputs.copy_(batch, non_blocking=True)
        ...     targets.copy_(labels, non_blocking=True)
        ...     loss = step()
    """

    def __init__(self, optimizer: RST, closure: Callable[[], Tensor]) -> None:
        self._device = _device(optimizer)
        if optimizer._perturbation.storage == "swap":
            raise ValueError("storage='swap' moves addresses, which a CUDA graph holds: use 'auto' or 'copy'")
        if optimizer._options.replay_randomness:
            raise ValueError("replay_randomness=True sets the states of generators, which no CUDA graph can")
        self.optimizer = optimizer
        self.closure = closure
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._changing = {
            key: torch.zeros((), dtype=torch.float64, device=self._device) for key in _changing(optimizer)
        }
        self._begin()
        optimizer.base.register_load_state_dict_post_hook(lambda _: self._begin())  # state has new addresses

    def _begin(self) -> None:
        """Forget what was captured."""
        self._eager_steps = {False: 0, True: 0}
        self._captured: dict[bool, _Captured] = {}
        self._pool: Any = torch.cuda.graph_pool_handle()

    def __call__(self) -> Tensor:
        """One step.

        Returns:
            The loss at the unperturbed weights, as a tensor of its own.

        Raises:
            DomainError: a step beyond total_steps.
            ValueError: a number in a parameter group has changed since the capture.
            RuntimeError: the base counts its steps on the host.
            FloatingPointError: as `RST.step`, one step late.
        """
        with torch.cuda.device(self._device):  # its streams are the current ones
            return self._step()

    def _step(self) -> Tensor:
        optimizer, t = self.optimizer, self.optimizer.steps_taken
        trial = optimizer.will_perturb
        for (name, group), value in self._changing.items():
            now = optimizer._plan.at("gamma", t) if name == "gamma" else optimizer._groups.radius(group, t)
            value.fill_(now or 0.0)
        if self._eager_steps[trial] < _WARM_UP:
            self._eager_steps[trial] += 1
            return self._eagerly()
        if trial not in self._captured:
            self._captured[trial] = self._capture()
        captured = self._captured[trial]
        _require_equal(captured.numbers, _numbers(optimizer))
        optimizer._checks.raise_late(optimizer._blamed)
        captured.graph.replay()
        for what, size in captured.lengths:
            optimizer._checks.note(size, f"{what}{_of_step(t)}")
        optimizer.perturbed_steps += trial
        optimizer.steps_taken += 1
        return captured.loss.clone()

    def _eagerly(self) -> Tensor:
        """A step on a side stream, as capture asks for."""
        counts = _counts(self.optimizer)
        self._stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._stream), self._reading():
            loss = self.optimizer.step(self.closure)
        torch.cuda.current_stream().wait_stream(self._stream)
        after = _counts(self.optimizer)
        if counted := [key[1] for key, count in counts.items() if after.get(key) != count]:
            raise RuntimeError(
                f"{type(self.optimizer.base).__name__} counts {counted[0]!r} on the host, which a CUDA graph "
                "cannot: take capturable=True where there is such an option"
            )
        return loss.detach()

    def _capture(self) -> _Captured:
        """The kernels of the step that is due, not run yet."""
        optimizer, graph = self.optimizer, torch.cuda.CUDAGraph()
        lengths = optimizer._checks.captured = []
        gc.collect()  # a dead graph that is destroyed during a capture would spoil it
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream), self._reading():
            loss = cast("Tensor", optimizer._update(self.closure))
        of_step = _of_step(optimizer.steps_taken)
        sizes = [(what.removesuffix(of_step), size) for what, size in lengths]
        return _Captured(graph, loss.detach(), sizes, _numbers(optimizer))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Within it the optimizer reads radii and coefficients that change from the tensors."""
        self.optimizer._on_device = self._changing
        try:
            yield
        finally:
            self.optimizer._on_device = {}


def _device(optimizer: RST) -> torch.device:
    devices: set[torch.device] = {p.device for group in optimizer.param_groups for p in group["params"]}
    if len(devices) != 1 or next(iter(devices)).type != "cuda":
        places = ", ".join(sorted(map(str, devices)))
        raise RuntimeError(f"CUDA graphs need all parameters on one CUDA device; they are on {places}")
    return devices.pop()


def _of_step(t: int) -> str:
    """How the name of a length ends."""
    return f" of step {t}"


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


def _require_equal(captured: dict[tuple[int, str], Any], numbers: dict[tuple[int, str], Any]) -> None:
    if captured == numbers:
        return
    group, name = next(k for k in {**captured, **numbers} if captured.get(k) != numbers.get(k))
    raise ValueError(
        f"{name!r} of parameter group {group} has changed since the step was captured: hold it in a tensor"
    )


def _counts(optimizer: RST) -> dict[tuple[Any, str], float]:
    """The numbers, and tensors () on the host, that the base keeps in its groups and its state."""
    groups = enumerate(optimizer.param_groups)
    held = {(i, k): v for i, group in groups for k, v in group.items() if isinstance(v, int | float)}
    state = {(p, k): v for p, state in optimizer.state.items() for k, v in state.items()}
    counters = {
        key: float(v)
        for key, v in state.items()
        if isinstance(v, int | float) or (isinstance(v, Tensor) and v.ndim == 0 and v.device.type == "cpu")
    }
    return {**held, **counters}
