"""What the optimizer keeps, part by part: options, gradients, buffers, groups, ranks, what is not finite."""

import contextlib
import dataclasses
import math
import sys
from types import SimpleNamespace

import pytest
import torch
from conftest import ONE_STEP
from test_optim_tensors import F64, Spread, f64, refused, sparse
from torch import nn

from rst_theory.notation import DomainError
from rst_theory.optim import data_parallel, finiteness, gradients, passes, shards
from rst_theory.optim.compilation import uncompiled_context
from rst_theory.optim.groups import GroupPerturbations
from rst_theory.optim.options import _NUMBERS, OFFSET, Options
from rst_theory.optim.plan import Plan
from rst_theory.schedules import FromExpression, Linear


@pytest.fixture
def spread(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.distributed.tensor", SimpleNamespace(DTensor=Spread))
    return Spread.of


# ---- options


def options(**changed):
    usual = {
        "adaptive_offset": 0.5,
        "clip_direction": None,
        "clip_ascent": None,
        "model": None,
        "sync_perturbation": True,
        "replay_randomness": False,
        "storage": "auto",
    }
    return Options(**(usual | changed))


def test_options_are_checked_kept_as_plain_numbers_and_saved():
    assert OFFSET == 0.01  # eta of arXiv 2102.11600, section 5
    asked = {"adaptive_offset": 0, "clip_direction": 2, "clip_ascent": 5e-324}
    made = options(**asked, sync_perturbation=False, model=nn.Linear(1, 1), storage="swap")
    kept = {**asked, "sync_perturbation": False, "replay_randomness": False}
    assert made.to_dict() == kept
    assert all(type(made.to_dict()[name]) is float for name in asked)
    with pytest.raises(dataclasses.FrozenInstanceError):
        made.storage = "auto"
    assert options() != options() and len({options(), options()}) == 2
    assert options().clip_direction is None and options().clip_ascent is None
    texts = [
        ("adaptive_offset", -5e-324, "offset adaptive_offset"),
        ("clip_direction", 0.0, "largest length clip_direction"),
        ("clip_ascent", 0.0, "largest length clip_ascent"),
    ]
    for name, wrong, text in texts:
        with pytest.raises(DomainError) as told:
            options(**{name: wrong})
        assert text in str(told.value) and "XX" not in str(told.value)
    assert [number.latex for number in _NUMBERS] == [r"\eta", "c", "c"]
    with pytest.raises(TypeError, match="adaptive_offset"):
        options(adaptive_offset=None)
    with pytest.raises(ValueError, match=r"^storage must be 'auto' or 'swap' or 'copy'; got 'disk'$"):
        options(storage="disk")
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module; got function"):
        options(model=f64)


# ---- gradients


def test_gradients_are_taken_and_copied_only_where_the_next_backward_could_write(spread):
    plain, whole = f64(1, 2, 3, 4, 5, 6), torch.zeros(2, 3, dtype=F64)
    part = torch.empty(0, dtype=F64).set_(torch.zeros(6, dtype=F64).untyped_storage(), 0, (3,))
    far = spread(f64(1, 2), "shard")
    given = [plain, None, whole.view(6), f64(1, 2, 3)[1:], part, sparse(1.0, 2.0), far]
    parameters = [SimpleNamespace(grad=g) for g in given]
    taken = gradients.take_gradients(parameters, keep=True)
    assert all(p.grad is None for p in parameters)
    for g, t, copied in zip(given, taken, [False, None, True, True, True, False, False], strict=True):
        assert (t is None) == (g is None) == (copied is None)
        assert copied is None or (t is not g) == copied
        assert not copied or (torch.equal(t, g) and t.data_ptr() != g.data_ptr())
    for p, g in zip(parameters, given, strict=True):
        p.grad = g
    parameters.append(SimpleNamespace(grad=torch.ones(3, device="meta")))
    zeros = gradients.take_gradients(parameters, keep=False)
    assert all(p.grad is None for p in parameters)
    assert zeros[1] is None and zeros[6] is far
    assert all(z.shape == () and z.dtype == F64 and z == 0 for z in zeros[:1] + zeros[2:6])
    assert zeros[7].is_meta and zeros[7].dtype == torch.float32


def test_spoiled_gradients_are_not_finite_and_lie_where_they_lay():
    parameters, given = [SimpleNamespace(grad=1) for _ in range(2)], [f64(1, -1), None]
    gradients.spoil_gradients(parameters, given)
    assert parameters[0].grad is given[0] and given[0].tolist() == [math.inf, -math.inf]
    assert parameters[1].grad is None
    refused(gradients.spoil_gradients, parameters, given[:1])
    refused(gradients.spoil_gradients, parameters[:1], given)


def test_gradients_share_memory_where_they_begin_at_one_address(spread):
    g, far = f64(1, 2), spread(f64(1, 2), "shard")
    meta, empty = torch.zeros(2, device="meta"), torch.empty(0)
    pairs = [(g, g, True), (g, g[:1], True), (g[:1], g, True), (g, g[1:], False), (g, g.clone(), False)]
    pairs += [(None, g, False), (g, None, False), (None, None, False), (meta, meta, False)]
    pairs += [(empty, empty, False), (sparse(1.0), sparse(1.0), False), (sparse(1.0), g, False)]
    pairs += [(g, sparse(1.0), False), (far, far, False)]
    for first, second, shared in pairs:
        assert gradients.share_memory(first, second) is shared


# ---- shards


def test_what_is_spread_over_processes_is_told_by_its_class(spread, monkeypatch):
    far, plain = spread(f64(1, 2), "shard", "replica"), f64(3)
    assert shards.is_distributed(far) and not shards.is_distributed(plain)
    assert not shards.is_distributed(nn.Parameter(plain))
    assert shards.local(far) is far.inner and shards.local(plain) is plain
    assert shards.process_groups(plain) == () and shards.process_groups(far) == ("rows",)
    assert shards.process_groups(spread(f64(1), "replica", "shard")) == ("columns",)
    with pytest.raises(ValueError, match="must be sharded or replicated"):
        shards.process_groups(spread(f64(1), "shard", "partial"))
    monkeypatch.setitem(sys.modules, "torch.distributed.tensor", SimpleNamespace())
    assert not shards.is_distributed(far)
    monkeypatch.delitem(sys.modules, "torch.distributed.tensor")
    assert not shards.is_distributed(far)


def test_only_partial_gradients_are_summed_over_processes(spread):
    terms, whole = spread(f64(1), "partial"), f64(2)
    grads = [None, whole, terms, spread(f64(1), "shard")]
    parameters = [SimpleNamespace(grad=g, placements=i) for i, g in enumerate(grads)]
    shards.sum_partial_gradients(parameters)
    assert [p.grad is g for p, g in zip(parameters, grads, strict=True)] == [True, True, False, True]
    assert parameters[2].grad == ("redistributed", 2)


def test_numbers_are_gathered_from_all_processes_of_all_groups(monkeypatch):
    """Two groups of two and three: each has the numbers of the one before it, times its factors."""
    factors = {"rows": [1, 10], "columns": [1, 100, 1000]}

    def all_gather(places, values, group):
        for place, factor in zip(places, factors[group], strict=True):
            place.copy_(values * factor)

    monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: len(factors[group]))
    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    expected = [2.5, 25.0, 250.0, 2500.0, 2500.0, 25000.0]
    numbers = shards.gathered(2.5, ("rows", "columns"))
    assert type(numbers) is list and sorted(numbers) == expected
    found = shards.gathered(torch.tensor(2.5), ("rows", "columns"))
    assert found.dtype == torch.float32 and sorted(found.tolist()) == expected
    assert shards.gathered(1 / 3, ()) == [1 / 3] and shards.gathered(1 / 3, ("rows",))[0] == 1 / 3
    alone = shards.gathered(torch.tensor(2.5), ())
    assert alone.tolist() == [2.5] and alone.shape == (1,)


# ---- what is not finite


def test_lengths_are_looked_at_when_they_have_arrived():
    checks, seen = finiteness.FiniteChecks(), []
    checks.raise_late()
    for size in (1.0, 0.0):
        checks.note(torch.tensor(size), "a length")
    checks.note(torch.tensor(math.nan, device="meta"), "nothing")
    checks.raise_late()
    checks.note(torch.tensor(2.0), "the first")
    checks.note(torch.tensor(math.inf), "the second")
    checks.note(torch.tensor(math.nan), "the third")
    with pytest.raises(FloatingPointError, match=r"^the second was inf; the weights have taken that step!$"):
        checks.raise_late(lambda: seen.append(1) or "!")
    checks.raise_late()
    assert seen == [1]
    late = SimpleNamespace(query=lambda: False)
    checks._open.append(("late", torch.tensor(math.inf), late))
    checks.raise_late()
    late.query = lambda: True
    with pytest.raises(FloatingPointError, match="late was inf"):
        checks.raise_late()


@pytest.mark.parametrize("capturing", [False, True])
def test_a_length_on_a_gpu_is_copied_to_pinned_memory_without_waiting(monkeypatch, capturing):
    calls = []
    host = SimpleNamespace(copy_=lambda *size, **options: calls.append(("copy", size, options)))
    event = SimpleNamespace(record=lambda stream: calls.append(("record", stream)), query=lambda: False)
    size = SimpleNamespace(is_cuda=True, dtype=F64, device="the device")

    def empty(*shape, **options):
        calls.append(("empty", shape, options))
        return host

    monkeypatch.setattr(torch, "empty", empty)
    monkeypatch.setattr(torch.cuda, "Event", lambda: event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    checks = finiteness.FiniteChecks()
    checks.note(size, "a length")
    checks.raise_late()  # it has not arrived
    if capturing:
        assert checks.captured == [("a length", size)] and calls == []
        return
    assert checks.captured == []
    expected = [
        ("empty", ((),), {"dtype": F64, "pin_memory": True}),
        ("copy", (size,), {"non_blocking": True}),
    ]
    assert calls == [*expected, ("record", "stream of the device")]
    assert list(checks._open) == [("a length", host, event)]


def test_tensors_that_are_not_finite_are_named():
    good, bad = f64(1, 2), f64(1, math.nan)
    assert finiteness.not_finite([("a", good), ("b", None)]) == ""
    values = [("a", bad), ("b", good), ("c", sparse(math.inf)), ("d", sparse(1.0)), ("e", None)]
    assert finiteness.not_finite(values) == "; not finite: a, c"
    model = nn.Linear(1, 1)
    x, y, z = (nn.Parameter(torch.zeros(1)) for _ in range(3))
    groups = [{"params": [x, model.bias]}, {"params": [y, z], "param_names": ["one", "two"]}]
    named = {x: "parameter 0 of group 0", y: "one", z: "two"}
    assert finiteness.names(groups, None) == named | {model.bias: "parameter 1 of group 0"}
    assert finiteness.names(groups, model) == named | {model.bias: "bias", model.weight: "weight"}
    refused(finiteness.names, [{"params": [x], "param_names": ["one", "two"]}], None)
    refused(finiteness.names, [{"params": [x, y], "param_names": ["one"]}], None)


# ---- buffers and random numbers


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("mean", f64(1, 2))
        self.register_buffer("none", None)
        self.register_buffer("count", torch.tensor(3))
        self.register_buffer("mask", torch.ones(1).expand(4))
        self.register_buffer("thin", sparse(1.0))


def test_buffers_come_back_bit_for_bit_also_where_they_were_replaced():
    model = nn.Sequential(Layer(), Layer().eval())
    buffers, layer = passes.Buffers(model), model[0]
    names = ("mean", "none", "count", "mask", "thin")
    objects = {name: getattr(layer, name) for name in names}
    copies = []
    for round_ in range(2):
        buffers.keep()
        copies.append([id(copy) for copy in buffers._copies.values()])
        assert copies[0] == copies[round_] and len(copies[0]) == 3
        layer.mean.mul_(5)
        layer.count = layer.count + 1
        layer.thin = sparse(2.0)
        model[1].mean.add_(1)
        buffers.bring_back()
        assert all(getattr(layer, name) is value for name, value in objects.items())
        assert layer.mean.tolist() == [1, 2] and layer.count == 3
        assert torch.equal(layer.thin.to_dense(), sparse(1.0).to_dense())
        assert model[1].mean.tolist() == [2 + round_, 3 + round_]  # in evaluation mode: not kept
    layer.mean.add_(1)
    buffers.bring_back()  # once only
    assert layer.mean.tolist() == [2, 3]
    with contextlib.suppress(ZeroDivisionError), passes.kept_statistics(model):
        layer.mean.add_(1)
        raise ZeroDivisionError
    assert layer.mean.tolist() == [2, 3]
    repeated = [torch.ones(1).expand(4), torch.ones(2, 1).expand(2, 2)]
    plain = [
        torch.ones(1),
        torch.ones(1, 3),
        torch.empty_strided((1, 2), (0, 1)),
        sparse(1.0),
        torch.ones(()),
    ]
    assert [passes._is_repeated(t) for t in repeated + plain] == [True] * 2 + [False] * 5


def test_generators_go_back_to_where_they_were(monkeypatch):
    devices = {torch.device("cpu"), torch.device("meta")}
    state, first = passes.RandomState.now(devices), torch.rand(3)
    assert state.devices == {}
    state.restore()
    assert torch.equal(torch.rand(3), first)
    kept = []
    module = SimpleNamespace(get_rng_state=lambda d: f"of {d}", set_rng_state=lambda *a: kept.append(a))
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    device = torch.device("cuda", 1)
    state = passes.RandomState.now(devices | {device})
    assert state.devices == {device: "of cuda:1"}
    state.restore()
    assert kept == [("of cuda:1", device)]


def test_what_is_not_compiled_gets_its_arguments():
    @uncompiled_context
    def around(*args, **kwargs):
        """Words."""
        yield (args, kwargs)

    context = around(1, 2, three=3)
    context.__enter__()
    context.__exit__(None, None, None)
    assert around.__doc__ == "Words." and around.__name__ == "around"
    entered = []

    @uncompiled_context
    def noted(*args, **kwargs):
        entered.append((args, kwargs))
        yield
        entered.append("left")

    with noted(1, 2, three=3):
        pass
    assert entered == [((1, 2), {"three": 3}), "left"]


# ---- local first passes


class Ranks:
    """Stands in for the other ranks: what an all-reduce of this one's numbers would find."""

    def __init__(self, monkeypatch, others, world=4):
        self.calls, self.others = [], others
        self.group = object()
        monkeypatch.setattr(torch.distributed, "all_reduce", self.all_reduce)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda group: world)

    def all_reduce(self, tensor, op=torch.distributed.ReduceOp.SUM, group=None):
        assert group is self.group
        self.calls.append((op, tensor.dtype, tensor.device.type))
        other = self.others(tensor)
        tensor.copy_(torch.maximum(tensor, other) if op == torch.distributed.ReduceOp.MAX else tensor + other)


def local_pass(ranks, modules=1, find_unused=False, device="cpu"):
    local, made = data_parallel.LocalPass(None), []
    for _ in range(modules):
        parameter = torch.zeros(1, device=device)
        made.append(
            SimpleNamespace(
                parameters=lambda parameter=parameter: iter([parameter]),
                process_group=ranks.group,
                find_unused_parameters=find_unused,
            )
        )
    local.parallel = made
    return local


def test_the_longest_of_the_ranks_lengths_is_found(monkeypatch):
    ranks = Ranks(monkeypatch, lambda own: torch.full_like(own, 5.0))
    local, largest = local_pass(ranks), 1 + 2**-40
    assert local.longest(2.0) == 5 and type(local.longest(2.0)) is float
    assert local.longest(7 * largest) == 7 * largest
    found = local.longest(torch.tensor(6.0))
    assert isinstance(found, torch.Tensor) and found == 6 and found.dtype == F64
    for bad in (math.nan, -math.inf, math.inf):
        assert local.longest(bad) == math.inf == local.longest(torch.tensor(bad))
    assert {call[0] for call in ranks.calls} == {torch.distributed.ReduceOp.MAX}
    assert data_parallel.LocalPass(None).longest(3.0) == 3
    far = Ranks(monkeypatch, lambda own: own)
    assert local_pass(far, device="meta").longest(torch.tensor(1.0)).is_meta


def test_first_gradients_of_all_ranks_are_joined(monkeypatch):
    """The other three ranks hold twice together what this one holds: the mean is 3/4 of that."""
    ranks = Ranks(monkeypatch, lambda own: 2 * own)
    parameters = [nn.Parameter(torch.zeros(2, dtype=F64)) for _ in range(5)]
    parameters.append(nn.Parameter(torch.zeros(2, 2)))
    first = [
        f64(2, 10),
        None,
        f64(1, 1),
        None,
        sparse(2.0, size=2),
        torch.ones(2, 2),
    ]
    second = [f64(0, 0), f64(0, 0), None, None, f64(0, 0), torch.zeros(2, 2)]
    local = local_pass(ranks, modules=2)
    for mean in (False, True):
        given = [None if g is None else g.clone() for g in first]
        found = local.joined(parameters, given, second, mean)
        assert [g is None for g in found] == [False, False, False, True, False, False]
        assert not any(g.requires_grad for g in found if g is not None)
        assert found[2].tolist() == [1, 1]  # used nowhere in the second pass: as it was
        kept = [found[i].to_dense().tolist() for i in (0, 1, 4, 5)]
        if mean:
            assert kept == [[1.5, 7.5], [0, 0], [1.5, 0], [[0.75, 0.75]] * 2]
        else:
            assert kept == [[2, 10], [0, 0], [2, 0], [[1, 1]] * 2] and ranks.calls == []
    assert {call[0] for call in ranks.calls} == {torch.distributed.ReduceOp.SUM}
    assert len(ranks.calls) == 3  # a sparse one, and one for each type, of the first module alone
    for n in range(3):
        lists = [parameters[: 1 + (n == 0)], first[: 1 + (n == 1)], second[: 1 + (n == 2)]]
        refused(local.joined, *lists, mean=False)


def test_gradients_that_some_ranks_miss_count_as_zero_there(monkeypatch):
    ranks = Ranks(monkeypatch, lambda own: torch.tensor([0, 1, 0, 0], dtype=torch.uint8))
    parameters = [nn.Parameter(torch.zeros(2, dtype=F64)) for _ in range(4)]
    first, second = [f64(1, 1), None, None, None], [None, None, sparse(2.0, size=2), None]
    found = local_pass(ranks, find_unused=True).joined(parameters, first, second, mean=False)
    assert found[0].tolist() == [1, 1] and found[1].tolist() == [0, 0]
    assert found[2].is_sparse and found[2].to_dense().tolist() == [0, 0]
    assert found[1].dtype == F64 and found[3] is None
    assert ranks.calls == [(torch.distributed.ReduceOp.MAX, torch.uint8, "cpu")]
    for lists in ((parameters[:2], first[:1], second[:2]), (parameters[:2], first[:2], second[:1])):
        refused(local_pass(ranks, find_unused=True).joined, *lists, mean=False)
    ranks.others = torch.zeros_like
    assert local_pass(ranks)._anywhere([True, False]) == [True, False]

    def seen(tensor, *_):
        raise ZeroDivisionError(tensor.device.type)

    monkeypatch.setattr(torch.distributed, "all_reduce", seen)
    with pytest.raises(ZeroDivisionError, match="meta"):
        local_pass(ranks, device="meta")._anywhere([True])


def test_a_local_pass_needs_its_module_where_there_are_several_processes(monkeypatch):
    assert data_parallel.world_size() == 1
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda *_: 2)
    assert data_parallel.world_size() == 1
    assert data_parallel.LocalPass(nn.Linear(1, 1)).parallel == []
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert data_parallel.world_size() == 2
    for model in (None, nn.Linear(1, 1)):
        with pytest.raises(ValueError, match=f"needs model=.*got {type(model).__name__}"):
            data_parallel.LocalPass(model)

    class Parallel(nn.Module):
        def __init__(self, static_graph):
            super().__init__()
            self.static_graph = static_graph

    monkeypatch.setattr(data_parallel, "DistributedDataParallel", Parallel)
    inner = Parallel(False)
    assert data_parallel.LocalPass(nn.Sequential(nn.Linear(1, 1), inner)).parallel == [inner]
    with pytest.raises(ValueError, match="static_graph=True"):
        data_parallel.LocalPass(nn.Sequential(inner, Parallel(True)))
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    assert data_parallel.world_size() == 1


def test_without_all_reduce_the_use_of_parameters_is_forgotten_at_the_end():
    events = []

    def module(name, find_unused):
        class Around:
            def __enter__(self):
                events.append(f"{name} in")

            def __exit__(self, *error):
                events.append(f"{name} out")

        reset = SimpleNamespace(_reset_state=lambda: events.append(f"{name} reset"))
        return SimpleNamespace(find_unused_parameters=find_unused, no_sync=Around, reducer=reset)

    local = data_parallel.LocalPass(None)
    local.parallel = [module("a", True), module("b", False)]
    with local.no_sync():
        events.append("pass")
    assert events == ["a in", "b in", "pass", "b out", "a out", "a reset"]


# ---- groups


def plan(**changed):
    usual = {"schedule": 0.5, "total_steps": 4, "rho": Linear(0.0, 0.3), "gamma": None, "degree": None}
    usual |= {"max_gamma": None, "seed": 0, "trials": "independent", "ascent": "normalized"}
    return Plan(**(usual | changed))


def test_groups_have_the_radius_that_they_ask_for():
    for adaptive in (False, True):
        groups = GroupPerturbations(plan(), adaptive)
        own = [
            True,
            False,
            0.7,
            Linear(1.0, 4.0),
            {},
            {"rho": 0.2},
            {"adaptive": not adaptive},
            {"rho": False},
        ]
        groups.extend(own, len(own))
        expected = [0.2, None, 0.7, 3.0, 0.2, 0.2, 0.2, None]
        for i, rho in enumerate(expected):
            found = groups.radius(i, 2)
            assert found is None if rho is None else found == pytest.approx(rho, rel=ONE_STEP)
        assert [groups[i].adaptive for i in range(8)] == [adaptive] * 6 + [not adaptive, adaptive]
        saved = groups.to_list()
        assert saved[0] == {"moves": True, "rho": None, "adaptive": adaptive}
        assert saved[1] == {"moves": False, "rho": None, "adaptive": adaptive}
        assert saved[3] == {"moves": True, "rho": Linear(1.0, 4.0).to_dict(), "adaptive": adaptive}
        groups.drop(1)
        assert groups.to_list() == saved[:1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        groups[0].moves = False
    other = GroupPerturbations(plan(), True)
    other.append(True)
    assert other[0] != groups[0] and len({other[0], groups[0]}) == 2
    with pytest.raises(ValueError, match=r"has the keys rho and adaptive; got \['radius'\]"):
        groups.append({"radius": 1.0, "rho": 0.1, "adaptive": True})
    with pytest.raises(DomainError, match="radius rho"):
        groups.append(-1.0)
    for entries in ([], [True, True]):
        with pytest.raises(ValueError, match=f"each of the 1 parameter groups; got {len(entries)}"):
            GroupPerturbations(plan(), False).extend(entries, 1)


def test_radii_without_an_end_are_checked_step_by_step():
    groups = GroupPerturbations(plan(total_steps=None, rho=0.1), False)
    groups.extend([FromExpression("2 - t"), True], 2)
    assert [groups.radius(0, t) for t in range(3)] == [2.0, 1.0, 0.0] and groups.radius(1, 7) == 0.1
    with pytest.raises(DomainError, match=r"got -1.0 at t = 3"):
        groups.radius(0, 3)
    with pytest.raises(ValueError, match=r"rho = .*give total_steps"):
        groups.append(Linear(0.1, 0.2))


def test_groups_that_were_added_elsewhere_are_taken_in():
    groups = GroupPerturbations(plan(rho=0.5), False)
    added = [{"params": []}, {"params": [], "perturb": 0.25}, {"params": [], "perturb": False}]
    groups.follow(added[:1])
    groups.follow(added)
    groups.follow(added)
    assert [groups.radius(i, 0) for i in range(3)] == [0.5, 0.25, None]
    assert added == [{"params": []}] * 3
    with pytest.raises(DomainError):
        groups.follow([*added, {"perturb": -1.0}])
