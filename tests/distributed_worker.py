"""Processes that train together; `test_distributed.py` starts them and judges what they write.

    python distributed_worker.py FOLDER

runs each program in as many processes as it is for. A program is a list of checks, each in a process group of
its own; what they return is written as FOLDER/PROGRAM.RANK.json, and how the processes ended as
FOLDER/PROGRAM.json. What is expected comes from `one_process`, a plain loop without the optimizer.
"""

import contextlib
import copy
import functools
import json
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor, distributed, nn
from torch.amp import GradScaler
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Replicate, Shard
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    SequenceParallel,
    parallelize_module,
)
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from rst_theory.optim import RST
from rst_theory.schedules import Constant
from rst_theory.trials import Trials

STEPS = 6
ROWS = 24
FEATURES, HIDDEN, CLASSES = 6, 8, 3  # classes leave shards uneven
RHO = 0.3
OFFSET = 0.01
PATIENCE = timedelta(seconds=30)
"""With a process that is not heard of: then the check has failed."""

LIMIT = 120.0
"""Seconds for all checks of a program."""

Batch = tuple[Tensor, Tensor]


class Pass(NamedTuple):
    """Which pass of a step, and on which rank: what a network may depend on."""

    second: bool
    rank: int


class Network(nn.Module):
    """Two layers, and a vector that only the passes that `uses` says use."""

    def __init__(
        self, dtype: torch.dtype = torch.float64, uses: Callable[[Pass], bool] | None = None
    ) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.first = nn.Linear(FEATURES, HIDDEN, dtype=dtype)
            self.last = nn.Linear(HIDDEN, CLASSES, dtype=dtype)
            self.aside = None if uses is None else nn.Parameter(torch.randn(HIDDEN, dtype=dtype))
        self.uses = uses

    def forward(self, inputs: Tensor, now: Pass) -> Tensor:
        hidden = torch.tanh(self.first(inputs))
        if self.aside is not None and self.uses is not None and self.uses(now):
            hidden = hidden * self.aside
        return self.last(hidden)


class Statistics(Network):
    """The same with batch normalization in between."""

    def __init__(self, dtype: torch.dtype = torch.float64) -> None:
        super().__init__(dtype)
        self.normalize = nn.BatchNorm1d(HIDDEN, dtype=dtype)

    def forward(self, inputs: Tensor, now: Pass) -> Tensor:
        return self.last(torch.tanh(self.normalize(self.first(inputs))))


class Normalized(Network):
    """The same behind a layer normalization."""

    def __init__(
        self, dtype: torch.dtype = torch.float64, uses: Callable[[Pass], bool] | None = None
    ) -> None:
        super().__init__(dtype, uses)
        self.normalize = nn.LayerNorm(FEATURES, dtype=dtype)

    def forward(self, inputs: Tensor, now: Pass) -> Tensor:
        return self.last(torch.tanh(self.first(self.normalize(inputs))))


class Lookup(Network):
    """The same with a table whose gradients are sparse."""

    def __init__(
        self, dtype: torch.dtype = torch.float64, uses: Callable[[Pass], bool] | None = None
    ) -> None:
        super().__init__(dtype, uses)
        with torch.random.fork_rng():
            torch.manual_seed(4)
            self.table = nn.Embedding(2 * FEATURES, HIDDEN, dtype=dtype, sparse=True)

    def forward(self, inputs: Tensor, now: Pass) -> Tensor:
        # A product: the gradient of a sum would be shared between its two terms, and DistributedDataParallel
        # divides the sparse one in place.
        return self.last(torch.tanh(self.first(inputs)) * self.table(inputs.abs().argmax(dim=1)))


def minibatches(dtype: torch.dtype, steps: int = STEPS) -> list[Batch]:
    """The joined minibatch of each step, the same on every rank."""
    generator = torch.Generator().manual_seed(2)
    inputs = torch.randn(steps, ROWS, FEATURES, generator=generator, dtype=torch.float64).to(dtype)
    targets = torch.randint(CLASSES, (steps, ROWS), generator=generator)
    return list(zip(inputs, targets, strict=True))


def shares(batch: Batch, count: int) -> list[Batch]:
    return list(zip(batch[0].chunk(count), batch[1].chunk(count), strict=True))


def momentum(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def plain(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def adamw(parameters: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, lr=0.02, weight_decay=0.1)


@dataclass(frozen=True)
class Run:
    """What the optimizer and the plain loop are both told.

    Attributes:
        options: of DistributedDataParallel.
        micro_batches: into how many the closure cuts a rank's share; all but the last go without all-reduce.
    """

    p: float = 1.0
    gamma: float = 1.0
    base: Callable[[Any], torch.optim.Optimizer] = momentum
    normalized: bool = True
    adaptive: bool = False
    clip: float | None = None
    dtype: torch.dtype = torch.float64
    network: Callable[..., Network] = Network
    uses: Callable[[Pass], bool] | None = None
    local: bool = False
    micro_batches: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    def optimizer(self, parameters: Any, **more: Any) -> RST:
        ascent = "normalized" if self.normalized else "unnormalized"
        return RST(
            self.base(parameters),
            Constant(self.p),
            STEPS,
            RHO,
            self.gamma,
            seed=3,
            ascent=ascent,
            adaptive=self.adaptive,
            adaptive_offset=OFFSET,
            clip_direction=self.clip,
            **more,
        )


def one_process(run: Run, ranks: int) -> list[Tensor]:
    """The weights that a plain loop on one process ends with, where each of `ranks` shares of a minibatch is
    perturbed by its own gradient: m-SAM; with one share, SAM on the joined minibatch."""
    model = run.network(run.dtype, run.uses)
    parameters = list(model.parameters())
    base = run.base(parameters)
    trials = Trials(Constant(run.p).probabilities(STEPS), 3).sequence()

    def gradients(batch: Batch, now: Pass) -> list[Tensor | None]:
        loss = cross_entropy(model(batch[0], now), batch[1])
        found = torch.autograd.grad(loss, parameters, allow_unused=True)
        return [g.to_dense() if g is not None and g.is_sparse else g for g in found]

    def or_zero(all_: list[Tensor | None]) -> list[Tensor]:
        return [torch.zeros_like(x) if g is None else g for x, g in zip(parameters, all_, strict=True)]

    for batch, trial in zip(minibatches(run.dtype), trials, strict=True):
        total = [torch.zeros_like(x) for x in parameters]
        used = [False] * len(parameters)
        for rank, share in enumerate(shares(batch, ranks)):
            g = gradients(share, Pass(False, rank))
            used = [u or v is not None for u, v in zip(used, g, strict=True)]
            d = or_zero(g)
            if trial:
                x0 = [x.detach().clone() for x in parameters]
                T = [x.abs() + OFFSET if run.adaptive else torch.ones_like(x) for x in x0]
                size = sum(((t * v) ** 2).sum() for t, v in zip(T, d, strict=True)) ** 0.5
                reach = RHO / size if run.normalized else RHO
                with torch.no_grad():
                    for x, t, v in zip(parameters, T, d, strict=True):
                        x += reach * t**2 * v
                g_adv = gradients(share, Pass(True, rank))
                with torch.no_grad():
                    for x, x_0 in zip(parameters, x0, strict=True):
                        x.copy_(x_0)
                used = [u or v is not None for u, v in zip(used, g_adv, strict=True)]
                d = [(1 - run.gamma) * v + run.gamma * w for v, w in zip(d, or_zero(g_adv), strict=True)]
            for all_, mine in zip(total, d, strict=True):
                all_ += mine / ranks
        size = sum((v**2).sum() for v in total) ** 0.5
        cut = 1.0 if run.clip is None else min(1.0, run.clip / float(size))
        for x, v, u in zip(parameters, total, used, strict=True):
            x.grad = cut * v if u else None
        base.step()
    return [x.detach() for x in parameters]


def difference(run: Run, ranks: int, parameters: Any) -> float:
    """How far the weights are from the plain loop's, relative to their length."""
    expected = one_process(run, ranks)
    mine = [whole(x) for x in parameters]
    away = sum(float(((a - b).double() ** 2).sum()) for a, b in zip(mine, expected, strict=True))
    return (away / sum(float((b.double() ** 2).sum()) for b in expected)) ** 0.5


def whole(x: Tensor) -> Tensor:
    x = x.detach()
    return x.full_tensor() if isinstance(x, DTensor) else x


def own(x: Tensor) -> Tensor:
    """The part of a parameter that lies on this rank."""
    x = x.detach()
    return x.to_local() if isinstance(x, DTensor) else x


def alike_everywhere(parameters: Any) -> bool:
    """Whether the ranks hold the same weights, bit for bit."""
    mine = torch.cat([whole(x).reshape(-1) for x in parameters])
    everyone = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
    distributed.all_gather(everyone, mine)
    return all(torch.equal(other, mine) for other in everyone)


# ---- DistributedDataParallel


def wrapped(run: Run) -> DistributedDataParallel:
    return DistributedDataParallel(run.network(run.dtype, run.uses), **run.options)


def closure(optimizer: RST, model: Any, batch: Batch, run: Run) -> Callable[[], Tensor]:
    """Forward and backward of this rank's share of a minibatch."""
    rank = distributed.get_rank()
    mine = shares(batch, distributed.get_world_size())[rank]
    *before, last = shares(mine, run.micro_batches)

    def part(piece: Batch) -> Tensor:
        now = Pass(optimizer.is_perturbed, rank)
        loss = cross_entropy(model(piece[0], now), piece[1]) / run.micro_batches
        loss.backward()
        return loss.detach()

    def both_passes() -> Tensor:
        optimizer.zero_grad()
        with not_yet(model) if before else contextlib.nullcontext():
            loss = sum((part(piece) for piece in before), torch.zeros(()))
        return loss + part(last)

    return both_passes


@contextlib.contextmanager
def not_yet(model: Any) -> Any:
    """Accumulate gradients without exchanging them."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(False)
        yield
        model.set_requires_gradient_sync(True)
    else:
        with model.no_sync():
            yield


def data_parallel(run: Run, by_hand: bool = False) -> dict[str, Any]:
    """A run of several processes, and how far it ends from one process.

    Args:
        run: with its options of DistributedDataParallel.
        by_hand: the loop runs its passes itself.
    """
    model = wrapped(run)
    optimizer = run.optimizer(model.parameters(), model=model, sync_perturbation=not run.local)
    for batch in minibatches(run.dtype):
        passes = closure(optimizer, model, batch, run)
        if not by_hand:
            optimizer.step(passes)
            continue
        with optimizer.first_pass():
            passes()
        if optimizer.will_perturb:
            with optimizer.perturbed():
                passes()
        optimizer.step()
    ranks = distributed.get_world_size() if run.local else 1
    return {
        "difference": difference(run, ranks, model.parameters()),
        "alike": alike_everywhere(model.parameters()),
        "perturbed": optimizer.perturbed_steps,
    }


def exchanges(run: Run) -> dict[str, Any]:
    """How many gradients and other numbers a perturbed step exchanges, and which forwards are local."""
    buckets: list[int] = []
    others: list[int] = []
    synced: list[bool] = []
    model = wrapped(run)
    reduce = distributed.all_reduce

    def hook(group: Any, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
        buckets.append(bucket.buffer().numel())
        tensor = bucket.buffer().div_(distributed.get_world_size())
        done = distributed.distributed_c10d.all_reduce(tensor, async_op=True).get_future()
        return done.then(lambda finished: finished.value()[0])

    def counting(tensor: Tensor, *arguments: Any, **options: Any) -> Any:
        others.append(tensor.numel())
        return reduce(tensor, *arguments, **options)

    model.register_comm_hook(None, hook)
    model.module.register_forward_hook(lambda *_: synced.append(model.require_backward_grad_sync))
    optimizer = run.optimizer(model.parameters(), model=model, sync_perturbation=not run.local)
    batches = minibatches(run.dtype)
    optimizer.step(closure(optimizer, model, batches[0], run))
    buckets.clear(), synced.clear()
    distributed.all_reduce = counting
    try:
        optimizer.step(closure(optimizer, model, batches[1], run))
    finally:
        distributed.all_reduce = reduce
    parameters = sum(p.numel() for p in model.parameters())
    return {"buckets": buckets, "others": others, "synced": synced, "parameters": parameters}


def statistics(local: bool) -> dict[str, Any]:
    """With rho = 0 and gamma = 1 a perturbed step is a plain one, its running statistics too."""
    ends = []
    for p in (0.0, 1.0):
        model = DistributedDataParallel(Statistics())
        optimizer = RST(
            momentum(model.parameters()), p, rho=0.0, model=model, sync_perturbation=not (local and p)
        )
        for batch in minibatches(torch.float64):
            optimizer.step(closure(optimizer, model, batch, Run()))
        ends.append(copy.deepcopy(model.module.state_dict()))
    first_rank = distributed.get_rank() == 0
    # Where the first forward is local, only the first rank's statistics are those that count.
    names = [n for n in ends[0] if first_rank or not local or "running" not in n]
    return {
        "equal": all(torch.equal(ends[0][n], ends[1][n]) for n in names),
        "moved": not torch.equal(ends[0]["normalize.running_mean"], torch.zeros(HIDDEN).double()),
        "counted": int(ends[1]["normalize.num_batches_tracked"]),
    }


def infinite_on_one_rank(local: bool, scaled: bool, gamma: float) -> dict[str, Any]:
    """The first pass of the third step has an infinite loss on the last rank alone."""
    run = Run(gamma=gamma, local=local)
    model = wrapped(run)
    optimizer = run.optimizer(model.parameters(), model=model, sync_perturbation=not local)
    scaler = GradScaler("cpu", init_scale=2.0**8) if scaled else None
    last = distributed.get_rank() == distributed.get_world_size() - 1
    said, untouched = [], None
    for t, (inputs, targets) in enumerate(minibatches(run.dtype)):
        inputs, targets = shares((inputs, targets), distributed.get_world_size())[distributed.get_rank()]

        def passes(t: int = t, inputs: Tensor = inputs, targets: Tensor = targets) -> Tensor:
            optimizer.zero_grad()
            loss = cross_entropy(model(inputs, Pass(False, 0)), targets)
            if t == 2 and last and not optimizer.is_perturbed:
                loss = loss * torch.inf
            (loss if scaler is None else scaler.scale(loss)).backward()
            return loss

        before = [own(x).clone() for x in model.parameters()]
        try:
            optimizer.step(passes, scaler=scaler)
        except FloatingPointError as error:
            said.append(f"{t}: {error}")
        if scaler is not None:
            scaler.update()
        if t == 2:
            untouched = all(torch.equal(a, own(b)) for a, b in zip(before, model.parameters(), strict=True))
    return {
        "said": said,
        "untouched": untouched,
        "steps": optimizer.steps_taken,
        "alike": alike_everywhere(model.parameters()),
        "finite": all(bool(own(x).isfinite().all()) for x in model.parameters()),
        "scale": None if scaler is None else scaler.get_scale(),
    }


def refusals() -> dict[str, Any]:
    """What sync_perturbation=False cannot be had with."""
    alone = Network()
    in_shards = sharded_network(Run())
    static = DistributedDataParallel(Network(), static_graph=True)
    said = {}
    for name, trained, model in (
        ("no model", alone, None),
        ("plain model", alone, alone),
        ("sharded", in_shards, in_shards),
        ("static graph", static, static),
    ):
        try:
            RST(momentum(trained.parameters()), 1.0, model=model, sync_perturbation=False)
        except ValueError as error:
            said[name] = str(error)
    return said


# ---- fully_shard


def mesh_of(replicas: int) -> DeviceMesh:
    """All processes in one row of shards, or in several rows that are replicas of each other."""
    world = distributed.get_world_size()
    if replicas == 1:
        return init_device_mesh("cpu", (world,))
    return init_device_mesh("cpu", (replicas, world // replicas), mesh_dim_names=("replica", "shard"))


def sharded_network(run: Run, replicas: int = 1) -> Network:
    model, mesh = Network(run.dtype, run.uses), mesh_of(replicas)
    fully_shard(model.first, mesh=mesh)
    return fully_shard(model, mesh=mesh)


def sharded(run: Run, replicas: int = 1) -> dict[str, Any]:
    """A run on shards: how far it ends from one process, and whether shards stay where and what they are."""
    model = sharded_network(run, replicas)
    optimizer = run.optimizer(model.parameters(), model=model)
    before: list[Tensor] = []
    home: dict[str, list[bool]] = {"first pass": [], "second pass": [], "base's step": []}
    addresses: list[list[int]] = []

    def look(when: str) -> None:
        home[when].append(
            all(torch.equal(a, own(b)) for a, b in zip(before, model.parameters(), strict=True))
        )
        addresses.append([own(x).data_ptr() for x in model.parameters()])

    optimizer.base.register_step_pre_hook(lambda *_: look("base's step"))
    for batch in minibatches(run.dtype):
        before[:] = [own(x).clone() for x in model.parameters()]
        passes = closure(optimizer, model, batch, run)

        def watched(passes: Callable[[], Tensor] = passes) -> Tensor:
            look("second pass" if optimizer.is_perturbed else "first pass")
            return passes()

        optimizer.step(watched)
    return {
        "difference": difference(run, 1, model.parameters()),
        "alike": alike_everywhere(model.parameters()),
        "still": all(a == addresses[0] for a in addresses),
        "home": all(home["first pass"] + home["base's step"]),
        "away": not any(home["second pass"]) or all(x.numel() == 0 for x in before),
        "empty": sum(x.numel() == 0 for x in before),
    }


def tensor_parallel(run: Run) -> dict[str, Any]:
    """Layers cut in two, and a normalization of which each rank has a part of the rows, so that the gradients
    of its parameters are terms of a sum; every rank has the whole minibatch."""
    model = Normalized(run.dtype)
    cut = {
        "normalize": SequenceParallel(sequence_dim=0),
        "first": ColwiseParallel(input_layouts=Shard(0)),
        "last": RowwiseParallel(output_layouts=Replicate()),
    }
    parallelize_module(model, mesh_of(1), cut)
    optimizer = run.optimizer(model.parameters(), model=model)
    partial = False
    for inputs, targets in minibatches(run.dtype):
        rows = inputs.chunk(distributed.get_world_size())[distributed.get_rank()]

        def passes(rows: Tensor = rows, targets: Tensor = targets) -> Tensor:
            nonlocal partial
            optimizer.zero_grad()
            loss = cross_entropy(model(rows, Pass(optimizer.is_perturbed, 0)), targets)
            loss.backward()
            partial = partial or any(a.is_partial() for x in model.parameters() for a in x.grad.placements)
            return loss

        optimizer.step(passes)
    return {
        "difference": difference(replace(run, network=Normalized), 1, model.parameters()),
        "alike": alike_everywhere(model.parameters()),
        "partial": partial,
    }


def sharded_infinity(scaled: bool) -> dict[str, Any]:
    """The first loss of a step is infinite on one rank: told, or skipped, by all."""
    run = Run(gamma=2.0)
    model = sharded_network(run)
    optimizer = run.optimizer(model.parameters(), model=model)
    scaler = GradScaler("cpu", init_scale=2.0**8) if scaled else None
    inputs, targets = minibatches(run.dtype)[0]
    before = [own(x).clone() for x in model.parameters()]

    def passes() -> Tensor:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs, Pass(False, 0)), targets)
        if distributed.get_rank() == 0 and not optimizer.is_perturbed:
            loss = loss * torch.inf
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss

    said = ""
    try:
        optimizer.step(passes, scaler=scaler)
    except FloatingPointError as error:
        said = str(error)
    if scaler is not None:
        scaler.update()
    return {
        "said": said,
        "untouched": all(torch.equal(a, own(b)) for a, b in zip(before, model.parameters(), strict=True)),
        "scale": None if scaler is None else scaler.get_scale(),
        "steps": optimizer.steps_taken,
    }


def resumed_shards(folder: Path, run: Run, collective: bool) -> dict[str, Any]:
    """A sharded run stopped half-way and taken up by new objects, against the uninterrupted one."""
    half = STEPS // 2
    batches = minibatches(run.dtype)

    def fresh() -> tuple[Network, RST]:
        model = sharded_network(run)
        return model, run.optimizer(model.parameters(), model=model)

    model, optimizer = fresh()
    for t, batch in enumerate(batches):
        if t == half:
            (save_together if collective else save_apart)(folder, model, optimizer)
        optimizer.step(closure(optimizer, model, batch, run))
    expected = [own(x).clone() for x in model.parameters()]
    model, optimizer = fresh()
    (load_together if collective else load_apart)(folder, model, optimizer)
    taken = optimizer.steps_taken
    for batch in batches[half:]:
        optimizer.step(closure(optimizer, model, batch, run))
    equal = all(torch.equal(a, own(b)) for a, b in zip(expected, model.parameters(), strict=True))
    return {"equal": equal, "taken": taken, "perturbed": optimizer.perturbed_steps}


def save_together(folder: Path, model: Network, optimizer: RST) -> None:
    """One checkpoint of all ranks, by torch.distributed.checkpoint."""
    parts = {
        "model": model.state_dict(),
        "base": get_optimizer_state_dict(model, optimizer.base),
        "rst": optimizer.state_dict()["rst"],
    }
    dcp.save(parts, checkpoint_id=folder / type(optimizer.base).__name__)


def load_together(folder: Path, model: Network, optimizer: RST) -> None:
    parts = {
        "model": model.state_dict(),
        "base": get_optimizer_state_dict(model, optimizer.base),
        "rst": optimizer.state_dict()["rst"],
    }
    dcp.load(parts, checkpoint_id=folder / type(optimizer.base).__name__)
    model.load_state_dict(parts["model"])
    set_optimizer_state_dict(model, optimizer.base, parts["base"])
    optimizer.load_state_dict({**optimizer.base.state_dict(), "rst": parts["rst"]})


def save_apart(folder: Path, model: Network, optimizer: RST) -> None:
    """Each rank its own file."""
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(state, folder / f"apart.{distributed.get_rank()}.pt")


def load_apart(folder: Path, model: Network, optimizer: RST) -> None:
    state = torch.load(folder / f"apart.{distributed.get_rank()}.pt", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])


# ---- a rank that is killed

LONG = 10
EVERY = 3
KILLED_AT = 8


def checkpointed(folder: Path, run: Run, killed: bool) -> dict[str, Any]:
    """A run that writes a checkpoint now and then and begins at the last one that there is."""
    model = wrapped(run)
    optimizer = RST(run.base(model.parameters()), Constant(run.p), LONG, RHO, run.gamma, seed=3, model=model)
    file, rank = folder / "checkpoint.pt", distributed.get_rank()
    if file.exists():
        state = torch.load(file, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    began = optimizer.steps_taken
    for t, batch in list(enumerate(minibatches(run.dtype, LONG)))[began:]:
        passes = closure(optimizer, model, batch, run)

        def fatal(t: int = t, passes: Callable[[], Tensor] = passes) -> Tensor:
            if killed and t == KILLED_AT and optimizer.is_perturbed and rank == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return passes()

        optimizer.step(fatal)
        if rank == 0 and (t + 1) % EVERY == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, part := file.with_suffix(".part"))
            part.replace(file)
    return {
        "began": began,
        "taken": optimizer.steps_taken,
        "weights": [float(v).hex() for x in model.parameters() for v in x.detach().reshape(-1)],
    }


# ---- programs


def on_this_rank_first(now: Pass) -> bool:
    return now.rank == 0 and not now.second


UNUSED = {"find_unused_parameters": True}
VIEWS = {"gradient_as_bucket_view": True}
RUNS = {
    "SAM, momentum": Run(),
    "SAM, AdamW": Run(base=adamw),
    "RST, AdamW": Run(p=0.5, base=adamw),
    "G-RST, momentum": Run(p=0.5, gamma=2.0),
    "unnormalized": Run(normalized=False, gamma=0.5),
    "adaptive, clipped": Run(adaptive=True, gamma=2.0, clip=0.05),
    "views": Run(gamma=2.0, options=VIEWS),
    "views, one parameter a bucket": Run(gamma=2.0, options={**VIEWS, "bucket_cap_mb": 1e-5}),
    "accumulated": Run(gamma=2.0, micro_batches=3),
    "accumulated, views": Run(gamma=2.0, micro_batches=3, options=VIEWS),
    "unused": Run(gamma=2.0, base=adamw, uses=lambda now: False, options=UNUSED),
    "first pass only": Run(gamma=0.5, base=adamw, uses=lambda now: not now.second, options=UNUSED),
    "first pass only, views": Run(
        gamma=0.5, base=adamw, uses=lambda now: not now.second, options={**UNUSED, **VIEWS}
    ),
    "first pass only, gamma 1": Run(base=adamw, uses=lambda now: not now.second, options=UNUSED),
    "sparse, gamma 1": Run(base=plain, network=Lookup),
    "sparse": Run(gamma=2.0, base=plain, network=Lookup),
    "second pass only": Run(gamma=2.0, base=adamw, uses=lambda now: now.second, options=UNUSED),
}
JOINED = {
    **RUNS,
    "float32, momentum": Run(gamma=2.0, dtype=torch.float32),
    "float32, AdamW": Run(base=adamw, dtype=torch.float32),
    "static graph": Run(gamma=2.0, options={"static_graph": True}),
    "static graph, views": Run(gamma=2.0, options={"static_graph": True, **VIEWS}),
}
LOCAL = {
    **{name: replace(run, local=True) for name, run in RUNS.items()},
    "first pass of one rank": Run(gamma=2.0, base=adamw, uses=on_this_rank_first, options=UNUSED, local=True),
    "first pass of one rank, gamma 1": Run(base=adamw, uses=on_this_rank_first, options=UNUSED, local=True),
    "float32": Run(gamma=2.0, dtype=torch.float32, local=True),
}
SHARDED = {
    "SAM, momentum": Run(),
    "G-RST, AdamW": Run(p=0.5, gamma=2.0, base=adamw),
    "adaptive": Run(gamma=2.0, adaptive=True),
    "unnormalized": Run(normalized=False),
    "unnormalized, adaptive": Run(normalized=False, gamma=2.0, adaptive=True),
    "clipped": Run(gamma=2.0, clip=0.05),
    "accumulated": Run(gamma=2.0, micro_batches=3),
    "first pass only": Run(gamma=0.5, base=adamw, uses=lambda now: not now.second),
    "float32, momentum": Run(gamma=2.0, dtype=torch.float32),
    "float32, AdamW": Run(base=adamw, dtype=torch.float32),
}

Check = Callable[[], dict[str, Any]]


def programs(folder: Path) -> dict[tuple[str, int], dict[str, Check]]:
    """The checks of each program, by name, and the number of its processes."""
    some = ("SAM, AdamW", "G-RST, momentum", "views", "first pass only", "float32, momentum")
    few = ("SAM, momentum", "G-RST, AdamW", "unnormalized, adaptive", "clipped", "float32, AdamW")
    joined = {f"joined: {name}": functools.partial(data_parallel, run) for name, run in JOINED.items()}
    local = {f"local: {name}": functools.partial(data_parallel, run) for name, run in LOCAL.items()}
    shards = {f"sharded: {name}": functools.partial(sharded, run) for name, run in SHARDED.items()}
    long = Run(p=0.7, gamma=2.0)
    killed: dict[str, Check] = {"killed": lambda: checkpointed(folder, long, killed=True)}
    two: dict[str, Check] = {
        "resumed": lambda: checkpointed(folder, long, killed=False),
        "uninterrupted": lambda: checkpointed(folder / "afresh", long, killed=False),
        **joined,
        **local,
        **shards,
        "statistics: joined": lambda: statistics(False),
        "statistics: local": lambda: statistics(True),
        "tensor parallel": lambda: tensor_parallel(Run(gamma=2.0)),
        "tensor parallel: RST": lambda: tensor_parallel(Run(p=0.5, clip=0.05)),
        "infinite, sharded": lambda: sharded_infinity(False),
        "infinite, sharded, scaler": lambda: sharded_infinity(True),
        "refusals": refusals,
    }
    for kind, is_local in (("joined", False), ("local", True)):
        for gamma in (1.0, 2.0):
            two[f"exchanges: {kind}, {gamma}"] = functools.partial(
                exchanges, Run(local=is_local, gamma=gamma)
            )
            for what, scaled in (("told", False), ("skipped", True)):
                two[f"infinite, {what}: {kind}, {gamma}"] = functools.partial(
                    infinite_on_one_rank, is_local, scaled, gamma
                )
    for kind, is_local in (("joined", False), ("local", True)):
        run = Run(p=0.5, gamma=2.0, base=adamw, local=is_local)
        two[f"{kind}: by hand"] = functools.partial(data_parallel, run, by_hand=True)
    for how, collective in (("together", True), ("apart", False)):
        for base in (momentum, adamw):
            two[f"resumed shards, {how}: {base.__name__}"] = functools.partial(
                resumed_shards, folder, Run(p=0.5, gamma=2.0, base=base), collective
            )
    four: dict[str, Check] = {
        **{f"joined: {name}": joined[f"joined: {name}"] for name in some},
        **{f"local: {name}": local[f"local: {name}"] for name in some if name in LOCAL},
        **{f"replicated: {name}": functools.partial(sharded, SHARDED[name], 2) for name in few},
        **{f"sharded: {name}": shards[f"sharded: {name}"] for name in few},
    }
    return {("killed", 2): killed, ("two", 2): two, ("four", 4): four}


def take_part(program: str, checks: dict[str, Check], rank: int, world: int, folder: Path) -> None:
    """What one process does."""
    torch.set_num_threads(1)
    said: dict[str, Any] = {}
    optimizer = RST(momentum(Network().parameters()), 0.5, 50, seed=5)
    trials = [optimizer.will_perturb]
    for optimizer.steps_taken in range(1, 50):
        trials.append(optimizer.will_perturb)
    said["trials"] = {"result": {"trials": trials, "connected": distributed.is_initialized()}}
    for number, (name, check) in enumerate(checks.items()):
        store = distributed.FileStore(str(folder / f"{program}.{number}.store"), world)
        distributed.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=PATIENCE)
        try:
            said[name] = {"result": check()}
        except Exception:
            said[name] = {"error": traceback.format_exc()}
        finally:
            distributed.destroy_process_group()
    (folder / f"{program}.{rank}.json").write_text(json.dumps(said), encoding="utf-8")


def main(folder: Path, only: Sequence[str]) -> None:
    """Run the programs one after the other; processes are forked, so that torch is imported once."""
    (folder / "afresh").mkdir()
    momentum(Network().parameters()).step()  # what torch only imports when it is needed
    fork = multiprocessing.get_context("fork")
    for (program, world), checks in programs(folder).items():
        if only and program not in only:
            continue
        ranks = [
            fork.Process(target=take_part, args=(program, checks, rank, world, folder))
            for rank in range(world)
        ]
        for process in ranks:
            process.start()
        for process in ranks:
            process.join(LIMIT)
            process.kill()
        ends = [process.exitcode for process in ranks]
        (folder / f"{program}.json").write_text(json.dumps(ends), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
