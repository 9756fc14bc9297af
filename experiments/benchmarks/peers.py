"""Question: which of the known failures of SAM optimizers does pytorch_optimizer have, and do we?

Design: each probe puts the same small problem to its optimizer and to ours and gives one figure; beside
them stands the figure of an optimizer that is right. What a release has mended shows as such. Probes on
SAM run with the first pass as its documentation asks: by the caller, before `step`.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import math
import warnings
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adadelta
from torch.utils._python_dispatch import TorchDispatchMode

from rst_theory.files import write_table
from rst_theory.optim import RST

__all__ = ["PROBES", "Movement", "Probe", "run"]

RHO, RATE = 0.05, 0.1
Optimizer = Any
Loss = Callable[[nn.Module], Tensor]
_TOLERANCE = 1e-6


class Probe(NamedTuple):
    """One failure.

    Attributes:
        defect: what goes wrong.
        measure: what the figure says.
        right: the figure of an optimizer that is right.
        peer: gives the figure of pytorch_optimizer.
        ours: gives ours.
        of: the peer's class.
    """

    defect: str
    measure: str
    right: float
    peer: Callable[[], float]
    ours: Callable[[], float]
    of: str = "SAM"


def run(results: Path, probes: Sequence[Probe] | None = None) -> None:
    """Write the table peers and print its rows; without pytorch_optimizer say so and write nothing."""
    if importlib.util.find_spec("pytorch_optimizer") is None:
        print("pytorch_optimizer is not there (it comes with the extra bench): no table of peers")
        return
    version = metadata.version("pytorch_optimizer")
    rows = []
    for probe in PROBES if probes is None else probes:
        (theirs, told), (ours, told_by_us) = _figure(probe.peer), _figure(probe.ours)
        rows.append(
            {
                "defect": probe.defect,
                "of": f"pytorch_optimizer {version} {probe.of}",
                "measure": probe.measure,
                "right": probe.right,
                "peer": theirs,
                "peer_raises": told,
                "peer_is_right": _is_right(theirs, probe.right),
                "ours": ours,
                "ours_raises": told_by_us,
                "ours_is_right": _is_right(ours, probe.right),
            }
        )
        print(rows[-1], flush=True)
    write_table(results, "peers", rows)


def _figure(probe: Callable[[], float]) -> tuple[float | None, str | None]:
    """The figure, or what was raised instead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            figure = probe()
        except Exception as error:  # whatever a peer raises is its answer
            return None, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
    return (None, "not finite") if not math.isfinite(figure) else (figure, None)


def _is_right(figure: float | None, right: float) -> bool:
    return figure is not None and abs(figure - right) <= _TOLERANCE * max(1.0, abs(right))


# ---- the two sides


def _peer(name: str) -> Any:
    return getattr(importlib.import_module("pytorch_optimizer"), name)


def _theirs(model: nn.Module, base: type = SGD, name: str = "SAM", **options: Any) -> Optimizer:
    return _peer(name)(model.parameters(), base, **{"rho": RHO, "lr": RATE, **options})


def _weighted(model: nn.Module, lr: float) -> Optimizer:
    """WSAM, whose gamma / (1 - gamma) is our gamma, here 2."""
    return _peer("WSAM")(model, model.parameters(), SGD, rho=RHO, lr=lr, gamma=2 / 3, decouple=False)


def _ours(model: nn.Module, base: type = SGD, gamma: float = 1.0, **options: Any) -> RST:
    return RST(base(model.parameters(), **{"lr": RATE, **options}), 1.0, rho=RHO, gamma=gamma, model=model)


_CALLED = ("SAM", "LookSAM", "BSAM")
"""Peers whose first pass is their caller's."""


def _step(optimizer: Optimizer, closure: Callable[[], object]) -> Any:
    """A step, with the first pass before it where SAM's caller has to run it."""
    if type(optimizer).__name__ in _CALLED:
        closure()
    return optimizer.step(closure)


# ---- the problem


def _model(dtype: torch.dtype = torch.float32, normalized: bool = False) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        normalization = [nn.BatchNorm1d(8)] if normalized else []
        return nn.Sequential(nn.Linear(4, 8), *normalization, nn.Tanh(), nn.Linear(8, 1)).to(dtype)


def _loss(model: nn.Module) -> Tensor:
    inputs = torch.linspace(-1, 1, 64).sin().reshape(16, 4).to(next(model.parameters()).dtype)
    outputs: Tensor = model(inputs)
    return (outputs - 1).square().mean()


def _closure(model: nn.Module, optimizer: Optimizer, loss_of: Loss = _loss) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(model)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


def _weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().float().flatten() for p in model.parameters()])


def _off(model: nn.Module, weights: Tensor) -> float:
    """The largest difference of any weight; NaN where one is."""
    return float((_weights(model) - weights).abs().max())


def _after_sam(steps: int) -> Tensor:
    """The weights after some steps of SAM with SGD, written out."""
    model = _model()
    weights = list(model.parameters())
    for _ in range(steps):
        g = torch.autograd.grad(_loss(model), weights)
        size = torch.cat([part.flatten() for part in g]).norm()
        with torch.no_grad():
            x = [w.clone() for w in weights]
            for w, part in zip(weights, g, strict=True):
                w.add_(RHO / size * part)
        g_adv = torch.autograd.grad(_loss(model), weights)
        with torch.no_grad():
            for w, home, part in zip(weights, x, g_adv, strict=True):
                w.copy_(home - RATE * part)
    return _weights(model)


# ---- probes: each takes the maker of an optimizer and gives the figure


def _closure_only(make: Callable[..., Optimizer]) -> float:
    model = _model()
    optimizer = make(model)
    for _ in range(3):
        optimizer.step(_closure(model, optimizer))
    return _off(model, _after_sam(3))


def _loss_returned(make: Callable[..., Optimizer]) -> float:
    model = _model()
    optimizer = make(model)
    expected = float(_loss(model).detach())
    return abs(float(_step(optimizer, _closure(model, optimizer)).detach()) - expected)


def _resumed(make: Callable[..., Optimizer]) -> float:
    model = _model()
    optimizer = make(model, momentum=0.9)
    for _ in range(5):
        _step(optimizer, _closure(model, optimizer))
    file = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), file)
    _step(optimizer, _closure(model, optimizer))
    again = _model()
    resumed = make(again, momentum=0.9)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    again.load_state_dict(weights)
    resumed.load_state_dict(state)
    _step(resumed, _closure(again, resumed))
    return _off(again, _weights(model))


def _zero_gradient_in_half(make: Callable[..., Optimizer]) -> float:
    model = _model(torch.float16)
    optimizer = make(model)
    _step(optimizer, _closure(model, optimizer, lambda m: (0 * m(torch.ones(1, 4).half())).sum()))
    return float((~_weights(model).isfinite()).sum())


def _infinite_gradient(make: Callable[..., Optimizer]) -> float:
    model = _model()
    optimizer = make(model)
    passes = 0

    def closure() -> Tensor:
        nonlocal passes
        loss = _closure(model, optimizer)()
        if passes == 0:
            bias = model[0].bias
            assert isinstance(bias, Tensor)
            assert bias.grad is not None
            bias.grad[0] = math.inf
        passes += 1
        return loss

    with contextlib.suppress(FloatingPointError):  # told, as it should be; what counts are the weights
        _step(optimizer, closure)
    return float((~_weights(model).isfinite()).sum())


def _used_in_one_pass(make: Callable[..., Optimizer]) -> float:
    """One is used in the first pass alone, b in the second alone: the former comes back, the latter steps."""
    model = nn.ParameterDict({name: nn.Parameter(torch.ones(1)) for name in ("a", "b", "c")})
    optimizer = make(model)
    passes = 0

    def loss(m: nn.Module) -> Tensor:
        nonlocal passes
        passes += 1
        total: Tensor = 2 * model["c"] + (model["a"] if passes == 1 else model["b"])
        return total.sum()

    _step(optimizer, _closure(model, optimizer, loss))
    return _off(model, torch.tensor([1.0, 1 - RATE, 1 - 2 * RATE]))


def _frozen(make: Callable[..., Optimizer]) -> float:
    model = _model()
    model[0].requires_grad_(False)
    before = _weights(model[0])
    optimizer = make(model)
    _step(optimizer, _closure(model, optimizer))
    return _off(model[0], before)


def _statistics_counted(make: Callable[..., Optimizer]) -> float:
    model = _model(normalized=True)
    optimizer = make(model)
    _step(optimizer, _closure(model, optimizer))
    counted = model[1].num_batches_tracked
    assert isinstance(counted, Tensor)
    return float(counted)


def _scheduler_warnings(make: Callable[..., Optimizer]) -> float:
    model = _model()
    optimizer = make(model)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    closure = _closure(model, optimizer)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        closure()
        if isinstance(optimizer, RST):
            with optimizer.perturbed():
                closure()
            optimizer.step()
        else:
            optimizer.first_step(zero_grad=True)
            closure()
            optimizer.second_step(zero_grad=True)
        scheduler.step()
    return float(len(caught))


def _scaled(make: Callable[..., Optimizer]) -> float:
    model = _model()
    before = _weights(model)
    optimizer, scaler = make(model), torch.amp.GradScaler("cpu", init_scale=1024.0)
    closure = _closure(model, optimizer, lambda m: scaler.scale(_loss(m)))
    if isinstance(optimizer, RST):
        optimizer.step(closure, scaler=scaler)
    else:
        closure()
        scaler.step(optimizer, closure)
    return float((_weights(model) - before).norm() / (_after_sam(1) - before).norm())


def _second_pass_raises(make: Callable[..., Optimizer]) -> float:
    model = _model()
    before, optimizer, passes = _weights(model), make(model), 0

    def closure() -> Tensor:
        nonlocal passes
        passes += 1
        if passes == 2:
            raise InterruptedError
        return _closure(model, optimizer)()

    with contextlib.suppress(InterruptedError):
        _step(optimizer, closure)
    return _off(model, before)


def _drift(make: Callable[..., Optimizer], dtype: torch.dtype, steps: int) -> float:
    """How far steps of learning rate 0 move the weights."""
    model = _model(dtype)
    before, optimizer = _weights(model), make(model)
    for _ in range(steps):
        _step(optimizer, _closure(model, optimizer))
    return _off(model, before)


def _own_rho(make: Callable[..., Optimizer]) -> float:
    """The decay rate, called rho, with which Adadelta works; its default is 0.9."""
    return float(make(_model(), Adadelta).param_groups[0]["rho"])


def _gradient_of_the_base(make: Callable[..., Optimizer], momentum: float = 0.0) -> float:
    """The largest gradient that the base gets over six steps where every gradient is 1."""
    model = nn.ParameterList([nn.Parameter(torch.ones(1))])
    optimizer = make(model, momentum=momentum)
    base: Any = optimizer.base if isinstance(optimizer, RST) else optimizer.base_optimizer
    seen, step = [], base.step

    def watched() -> None:
        seen.append(float(model[0].grad))
        step()

    base.step = watched
    for _ in range(6):
        _step(optimizer, _closure(model, optimizer, lambda m: model[0].sum()))
    return max(seen)


class Movement(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the entries of tensors that operations read and write, as their schemas tell; views are free."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        schema = func._schema
        name = schema.name.rpartition("::")[2]
        is_view = any(r.alias_info is not None and not r.alias_info.is_write for r in schema.returns)
        if is_view or name.startswith("empty"):
            return result
        given = dict(zip((a.name for a in schema.arguments), args, strict=False)) | kwargs
        read: list[Tensor] = []
        written = [] if any(r.alias_info for r in schema.returns) else _tensors(result)
        for argument in schema.arguments:
            tensors = _tensors(given.get(argument.name))
            is_written = argument.alias_info is not None and argument.alias_info.is_write
            if is_written:
                written += tensors
            if not is_written or not (argument.kwarg_only or name in _OVERWRITING):
                read += tensors
        for side in (read, written):  # a tensor that is given twice is read once
            self.entries += sum({t.data_ptr(): t.numel() for t in side}.values())
        return result


_OVERWRITING = ("copy_", "_foreach_copy_", "fill_", "zero_")


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for part in value for t in _tensors(part)] if isinstance(value, list | tuple) else []


def _moves(make: Callable[..., Optimizer]) -> float:
    """Reads and writes of a step beside those of the passes and the base, in sizes of the parameter."""
    model = nn.ParameterList([nn.Parameter(torch.ones(1000))])
    optimizer = make(model)
    base: Any = optimizer.base if isinstance(optimizer, RST) else optimizer.base_optimizer
    base.step = lambda: None
    ready = [torch.ones(1000) for _ in range(4)]

    def closure() -> None:
        model[0].grad = ready.pop()

    if type(optimizer).__name__ in _CALLED:
        closure()
    with Movement() as movement:
        optimizer.step(closure)
    return float(round(movement.entries / 1000, 1))


def _half_drift(make: Callable[..., Optimizer]) -> float:
    return _drift(make, torch.bfloat16, 1000)


def _few_drift(make: Callable[..., Optimizer]) -> float:
    return _drift(make, torch.float32, 3)


def _probe(defect: str, measure: str, right: float, figure: Callable[..., float]) -> Probe:
    return Probe(defect, measure, right, lambda: figure(_theirs), lambda: figure(_ours))


def _bayesian(model: nn.Module) -> Optimizer:
    # so many data that the noise of the method is nothing
    return _peer("BSAM")(model.parameters(), num_data=10**9, lr=0.0, rho=RHO, weight_decay=0.0)


def _bayesian_alone() -> float:
    model = _model()
    optimizer = _bayesian(model)
    expected = float(_loss(model).detach())
    return abs(float(optimizer.step(_closure(model, optimizer)).detach()) - expected)


def _look(model: nn.Module, **options: Any) -> Optimizer:
    return _theirs(model, name="LookSAM", k=3, **options)


def _still(model: nn.Module) -> RST:
    return _ours(model, gamma=2.0, lr=0.0)


PROBES = (
    _probe(
        "a step given the closure alone", "weights off SAM written out, after 3 steps", 0.0, _closure_only
    ),
    _probe("the loss is not returned", "loss returned, off the unperturbed one", 0.0, _loss_returned),
    _probe("a checkpoint loses the momentum", "weights off after the first resumed step", 0.0, _resumed),
    _probe("zero gradient in fp16", "weights that are not finite", 0.0, _zero_gradient_in_half),
    _probe("one infinite gradient entry", "weights that are not finite", 0.0, _infinite_gradient),
    _probe("parameters used in one pass only", "weights off", 0.0, _used_in_one_pass),
    _probe("frozen parameters", "weights off", 0.0, _frozen),
    _probe("batch statistics counted twice", "minibatches counted in a step", 1.0, _statistics_counted),
    _probe("learning-rate scheduler, two-call form", "warnings", 0.0, _scheduler_warnings),
    _probe("gradient scaler", "length of the step over that without scaler", 1.0, _scaled),
    _probe("the second pass raises", "weights off", 0.0, _second_pass_raises),
    _probe("Adadelta's own rho", "rho that Adadelta works with", 0.9, _own_rho),
    _probe("memory traffic, gamma 1", "parameter-size reads and writes", 5.0, _moves),
    Probe(
        "memory traffic, gamma 2",
        "parameter-size reads and writes",
        8.0,
        lambda: _moves(lambda model: _weighted(model, RATE)),
        lambda: _moves(lambda model: _ours(model, gamma=2.0)),
        "WSAM",
    ),
    Probe(
        "gradients doubled",
        "gradient that the base gets, of 1",
        1.0,
        lambda: _gradient_of_the_base(_look),
        lambda: _gradient_of_the_base(_ours),
        "LookSAM",
    ),
    Probe(
        "momentum crashes",
        "gradient that the base gets, of 1",
        1.0,
        lambda: _gradient_of_the_base(_look, 0.9),
        lambda: _gradient_of_the_base(_ours, 0.9),
        "LookSAM",
    ),
    Probe(
        "the perturbation is not undone",
        "weights off after 3 steps of learning rate 0",
        0.0,
        lambda: _few_drift(_bayesian),
        lambda: _few_drift(_still),
        "BSAM",
    ),
    Probe(
        "a step given the closure alone",
        "loss returned, off the unperturbed one",
        0.0,
        _bayesian_alone,
        lambda: _loss_returned(_ours),
        "BSAM",
    ),
    Probe(
        "restored by subtraction",
        "weights off after 1000 steps of learning rate 0, bfloat16",
        0.0,
        lambda: _half_drift(lambda model: _weighted(model, 0.0)),
        lambda: _half_drift(_still),
        "WSAM",
    ),
)
