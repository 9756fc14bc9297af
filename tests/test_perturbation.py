"""The perturbation of a step: radii, groups, ASAM, degree, clipping, storage, edges; against NumPy code."""

import copy
import io
import math
import pathlib
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest
import torch
from conftest import NUMERIC, ONE_STEP
from hypothesis import example, given, settings, strategies as st
from test_optim import network_closure, same, sgd, small_network, weights
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rst_theory.notation import DomainError
from rst_theory.optim import RST, ascent as ascents, lengths, mixture, rst
from rst_theory.optim.perturbation import Move, Perturbation
from rst_theory.schedules import Constant, Cosine, FromExpression, InverseSqrt, Linear, Periodic, Tabulated
from rst_theory.trials import Trials

ETA = 0.25


class DenseQuadratic:
    """f(x) = x^T H x / 2 on parameters of several shapes, and the same in NumPy."""

    def __init__(self, shapes, seed=0):
        rng = np.random.default_rng(seed)
        self.sizes = [int(np.prod(shape)) for shape in shapes]
        root = rng.standard_normal((sum(self.sizes),) * 2)
        self.hessian = root @ root.T / sum(self.sizes)
        self.start = rng.standard_normal(sum(self.sizes))
        parts = torch.as_tensor(self.start).split(self.sizes)
        self.parameters = [nn.Parameter(p.clone().reshape(s)) for p, s in zip(parts, shapes, strict=True)]

    def gradient(self, x):
        return self.hessian @ x

    def x(self):
        return np.concatenate([p.detach().numpy().ravel() for p in self.parameters])

    def closure(self, optimizer):
        def closure():
            optimizer.zero_grad()
            x = torch.cat([p.reshape(-1) for p in self.parameters])
            loss = x @ torch.as_tensor(self.hessian) @ x / 2
            loss.backward()
            return loss

        return closure


def hand_step(x, gradient, perturbed, *, eta, rho, T, gamma, ascent, clip_ascent=None, clip_direction=None):
    """One step in plain NumPy; rho and T hold one value for each entry, rho is NaN for those left out."""
    g = d = gradient(x)
    if perturbed:
        moves = ~np.isnan(rho)
        v = np.where(moves, T * g, 0.0)
        length = math.sqrt(math.fsum(v * v))
        if ascent == "normalized":
            factor = 1 / length if length > 0 else 0.0
        else:
            factor = 1.0 if clip_ascent is None else min(1.0, clip_ascent / max(length, 1e-300))
        y = x + np.where(moves, rho, 0.0) * T * v * factor
        d = (1 - gamma) * g + gamma * gradient(y)
    length = math.sqrt(math.fsum(d * d))
    if clip_direction is not None and length > clip_direction:
        d = d * (clip_direction / length)
    return x - eta * d


SHAPES = [(), (2, 2), (3,)]
radii = st.floats(0, 2) | st.just(0.0)
limits = st.none() | st.floats(1e-3, 10)


@settings(max_examples=50)
@given(
    perturb=st.lists(
        st.booleans() | radii | st.builds(lambda r, a: {"rho": r, "adaptive": a}, radii, st.booleans()),
        min_size=3,
        max_size=3,
    ),
    adaptive=st.booleans(),
    offset=st.floats(0, 1) | st.just(0.01),
    rho=radii,
    gamma=st.floats(0, 3) | st.sampled_from([0.0, 1.0]),
    ascent=st.sampled_from(["normalized", "unnormalized"]),
    clip_ascent=limits,
    clip_direction=limits,
    storage=st.sampled_from(["auto", "swap", "copy"]),
    seed=st.integers(0, 100),
)
@example([False] * 3, True, 0.01, 0.1, 1.0, "normalized", None, None, "auto", 0)
@example([True, 0.3, {"adaptive": False}], True, 0.01, 0.1, 2.0, "normalized", None, 0.5, "auto", 1)
def test_each_step_is_the_hand_written_one(
    perturb, adaptive, offset, rho, gamma, ascent, clip_ascent, clip_direction, storage, seed
):
    problem = DenseQuadratic(SHAPES, seed)
    base = sgd([{"params": [p]} for p in problem.parameters])
    optimizer = RST(
        base,
        0.7,
        rho=rho,
        gamma=gamma,
        seed=seed,
        ascent=ascent,
        adaptive=adaptive,
        adaptive_offset=offset,
        perturb_groups=perturb,
        clip_ascent=clip_ascent,
        clip_direction=clip_direction,
        storage=storage,
    )
    closure, trials = problem.closure(optimizer), Trials(np.full(4, 0.7), seed).sequence()
    entries = [entry if isinstance(entry, dict) else {"rho": entry} for entry in perturb]
    own = {True: rho, False: math.nan}
    radius = [own[r] if (r := e.get("rho", True)) is True or r is False else r for e in entries]
    scaled = [e.get("adaptive", adaptive) for e in entries]
    for t in range(4):
        before = problem.x()
        optimizer.step(closure)
        T = np.where(np.repeat(scaled, problem.sizes), np.abs(before) + offset, 1.0)
        expected = hand_step(
            before,
            problem.gradient,
            bool(trials[t]),
            eta=ETA,
            rho=np.repeat(radius, problem.sizes),
            T=T,
            gamma=gamma,
            ascent=ascent,
            clip_ascent=clip_ascent,
            clip_direction=clip_direction,
        )
        reach = 1 + max([0.0, *(r for r in radius if r == r)]) * T.max() ** 2
        scale = (1 + gamma) * reach * (1 + np.abs(problem.hessian).sum()) * np.abs(before).max()
        assert np.abs(problem.x() - expected).max() <= ONE_STEP * scale


def radii_seen(optimizer, parameters, steps):
    """How far each parameter is moved at each perturbed step; the gradient is 1 at every entry."""
    seen = []

    def closure():
        seen.append([p.detach().double().clone() for p in parameters])
        for p in parameters:
            p.grad = torch.ones_like(p)

    moved = []
    for _ in range(steps):
        seen.clear()
        optimizer.step(closure)
        assert len(seen) == 2
        moved.append([float((y - x).abs().max()) for x, y in zip(*seen, strict=True)])
    return moved


@pytest.mark.parametrize("total_steps", [5, None])
def test_each_groups_radius_follows_its_own_schedule(total_steps):
    parameters = [nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(5)]
    own = InverseSqrt(1.0) if total_steps is None else Linear(1.0, 3.0)
    base = sgd([{"params": [p]} for p in parameters], lr=0.0)
    optimizer = RST(
        base,
        1.0,
        total_steps,
        rho=FromExpression("1 / (t + 1)"),
        ascent="unnormalized",
        perturb_groups=[True, 0.5, own, False, {"adaptive": True}],
    )
    expected = [
        [1 / (t + 1), 0.5, 1 / math.sqrt(t + 1) if total_steps is None else 1 + t / 2, 0.0, 1e-4 / (t + 1)]
        for t in range(5)
    ]
    np.testing.assert_allclose(radii_seen(optimizer, parameters, 5), expected, rtol=1e-12)


def test_a_groups_array_of_radii_needs_as_many_steps_as_the_run():
    x = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = RST(sgd([x], lr=0.0), 1.0, 3, perturb_groups=[[0.1, 0.2, 0.3]])
    assert radii_seen(optimizer, [x], 3) == pytest.approx(np.array([[0.1], [0.2], [0.3]]))
    for total_steps in (2, None):
        with pytest.raises(ValueError):
            RST(sgd([x]), 1.0, total_steps, perturb_groups=[[0.1, 0.2, 0.3]])


def test_a_group_may_say_itself_how_it_is_perturbed_whenever_it_is_added():
    parameters = [nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(6)]
    a, b, c, d, e, f = parameters
    base = sgd([{"params": [a], "perturb": False}, {"params": [b]}], lr=0.0)
    optimizer = RST(base, 1.0, rho=0.5, ascent="unnormalized")
    optimizer.add_param_group({"params": [c], "perturb": {"rho": 2.0}})
    base.add_param_group({"params": [d], "perturb": False})
    base.add_param_group({"params": [e]})
    optimizer.add_param_group({"params": [f], "perturb": 0.25})
    assert radii_seen(optimizer, parameters, 1) == [[0.0, 0.5, 2.0, 0.0, 0.5, 0.25]]
    assert not any("perturb" in group for group in base.param_groups)
    saved = optimizer.state_dict()["rst"]["plan"]["perturb_groups"]
    assert [group["moves"] for group in saved] == [False, True, True, False, True, True]


def test_a_group_that_the_base_refuses_leaves_nothing_behind():
    x, y = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = RST(sgd([x], lr=0.0), 1.0, rho=0.5, ascent="unnormalized")
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [x], "perturb": False})
    with pytest.raises(DomainError, match="radius rho"):
        optimizer.add_param_group({"params": [y], "perturb": -1.0})
    optimizer.add_param_group({"params": [y]})
    assert radii_seen(optimizer, [x, y], 1) == [[0.5, 0.5]]


def test_a_base_whose_groups_hold_a_rho_of_their_own_keeps_it():
    model, batches = small_network(dtype=torch.float64)
    twin = copy.deepcopy(model)
    halves = [list(model.parameters())[:2], list(model.parameters())[2:]]
    base = torch.optim.Adadelta([{"params": halves[0], "rho": 0.5}, {"params": halves[1]}], lr=1.0, rho=0.8)
    optimizer = RST(base, 0.0, rho=0.1, perturb_groups=[0.3, True])
    assert [group["rho"] for group in optimizer.param_groups] == [0.5, 0.8]
    twin_halves = [list(twin.parameters())[:2], list(twin.parameters())[2:]]
    plain = torch.optim.Adadelta(
        [{"params": twin_halves[0], "rho": 0.5}, {"params": twin_halves[1]}], lr=1.0, rho=0.8
    )
    for batch in batches[:5]:
        optimizer.step(network_closure(optimizer, model, batch))
        plain.step(network_closure(plain, twin, batch))
    assert same(weights(model), weights(twin))


def test_what_the_constructor_refuses_about_groups_and_options():
    x = nn.Parameter(torch.ones(1))
    for entries in ([], [True, True]):
        with pytest.raises(ValueError, match=f"each of the 1 parameter groups; got {len(entries)}"):
            RST(sgd([x]), 1.0, perturb_groups=entries)
    with pytest.raises(ValueError, match=r"keys rho and adaptive; got \['radius'\]"):
        RST(sgd([x]), 1.0, perturb_groups=[{"radius": 1.0}])
    with pytest.raises(DomainError, match="radius rho"):
        RST(sgd([x]), 1.0, perturb_groups=[math.nan])
    for name, wrong in [("clip_direction", 0.0), ("clip_ascent", -1.0), ("adaptive_offset", math.nan)]:
        with pytest.raises(DomainError, match=name):
            RST(sgd([x]), 1.0, **{name: wrong})
        for no_number in ("1", [1.0]):
            with pytest.raises(TypeError, match=f"{name} must be a real number"):
                RST(sgd([x]), 1.0, **{name: no_number})
    with pytest.raises(TypeError, match="adaptive_offset"):
        RST(sgd([x]), 1.0, adaptive_offset=None)
    with pytest.raises(ValueError, match="storage must be 'auto' or 'swap' or 'copy'; got 'move'"):
        RST(sgd([x]), 1.0, storage="move")
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module; got type"):
        RST(sgd([x]), 1.0, model=nn.Linear)
    with pytest.raises(ValueError, match="gamma or degree, not both"):
        RST(sgd([x]), 1.0, gamma=1.0, degree=0.5)
    with pytest.raises(ValueError, match="give degree"):
        RST(sgd([x]), 1.0, max_gamma=2.0)


def test_numpys_own_false_leaves_a_group_out():
    x, y = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    optimizer = RST(sgd([{"params": [x]}, {"params": [y]}], lr=0.0), 1.0, perturb_groups=np.array([1, 0]) > 0)
    assert radii_seen(optimizer, [x, y], 1) == [[pytest.approx(0.05), 0.0]]


# ---- degree


@pytest.mark.parametrize("max_gamma", [None, 3.0])
@pytest.mark.parametrize(
    "p, degree, total_steps",
    [
        (Linear(0.0, 1.0), 0.5, 12),
        (Cosine(1.0, 0.1), Linear(0.2, 0.8), 12),
        (Tabulated((0.0, 0.5, 1.0)), [1.0, 1.0, 1.0], 3),
        (Constant(0.25), 0.5, None),
        (Periodic(3), 0.7, None),
        (InverseSqrt(0.9), FromExpression("1 / (t + 2)"), None),
    ],
    ids=str,
)
def test_a_degree_gives_coefficients_that_attain_it(p, degree, total_steps, max_gamma):
    T = total_steps or 12
    x = nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = RST(sgd([x], lr=0.0), p, total_steps, degree=degree, max_gamma=max_gamma, seed=1)
    if total_steps is None:
        chances, degrees = (
            [s.at(t) for t in range(T)] for s in (p, degree if hasattr(degree, "at") else Constant(degree))
        )
    else:
        chances = p.values(T)
        degrees = degree.values(T) if hasattr(degree, "values") else np.broadcast_to(degree, T)
    cap = math.inf if max_gamma is None else max_gamma
    gammas = [min(k / q, cap) if q > 0 else 0.0 for q, k in zip(chances, degrees, strict=True)]
    if total_steps is not None:
        attained = math.fsum(q * g for q, g in zip(chances, gammas, strict=True)) / T
        assert optimizer.degree_attained == pytest.approx(attained, rel=NUMERIC)
    grads = []

    def closure():
        x.grad = torch.full((1,), 1.0 if not grads else 2.0, dtype=torch.float64)
        grads.append(1)

    for t in range(T):
        grads.clear()
        if total_steps is None:
            assert optimizer.degree_attained == pytest.approx(chances[t] * gammas[t], rel=NUMERIC)
        optimizer.step(closure)
        expected = (1 - gammas[t]) * 1 + gammas[t] * 2 if len(grads) == 2 else 1.0
        assert x.grad.item() == pytest.approx(expected, rel=1e-12)
    assert optimizer.perturbed_steps > 0


# ---- storage


class Marked(nn.Parameter):
    """A subclass of one's own."""


def shared(*shape):
    return nn.Parameter(torch.randn(*shape).share_memory_())


def on_one_storage():
    whole = torch.randn(6)
    return [nn.Parameter(whole), nn.Parameter(whole.view(2, 3))]


def in_a_flat_buffer():
    flat = torch.randn(10)
    return [nn.Parameter(flat[:4].view(2, 2)), nn.Parameter(flat[4:])]


# Parameters, and whether the pointer may be moved.
LAYOUTS = {
    "plain": (lambda: [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(4))], True),
    "shared memory": (lambda: [shared(3, 2), shared(2)], False),
    "one storage": (on_one_storage, False),
    "flat buffer": (in_a_flat_buffer, False),
    "channels last": (
        lambda: [nn.Parameter(torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last))],
        True,
    ),
    "transposed": (lambda: [nn.Parameter(torch.randn(3, 4).t())], True),
    "with gaps": (lambda: [nn.Parameter(torch.randn(4, 6)[:, ::2])], False),
    "a number": (lambda: [nn.Parameter(torch.randn(())), nn.Parameter(torch.randn(1))], True),
    "empty": (lambda: [nn.Parameter(torch.empty(0, 3)), nn.Parameter(torch.randn(2))], None),
    "subclass": (lambda: [Marked(torch.randn(3))], False),
    "plain tensor": (lambda: [torch.randn(3, requires_grad=True)], True),
    "half": (lambda: [nn.Parameter(torch.randn(5).half()), nn.Parameter(torch.randn(3).bfloat16())], True),
    "mixed": (lambda: [nn.Parameter(torch.randn(5)), nn.Parameter(torch.randn(3).double())], True),
    "complex": (lambda: [nn.Parameter(torch.randn(3, dtype=torch.complex64))], True),
}


@pytest.mark.parametrize("adaptive", [False, True])
@pytest.mark.parametrize("storage", ["auto", "swap", "copy"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_weights_of_any_layout_come_back_bit_for_bit_to_where_they_were(name, storage, adaptive):
    torch.manual_seed(0)
    make, may_swap = LAYOUTS[name]
    parameters = make()
    if storage == "swap" and may_swap is False and name != "subclass":
        pytest.skip("the caller must not ask for it")
    optimizer = RST(sgd(parameters, lr=0.0), 1.0, rho=0.5, gamma=0.5, storage=storage, adaptive=adaptive)
    before = [p.detach().clone() for p in parameters]
    strides = [p.stride() for p in parameters]
    addresses = [p.data_ptr() for p in parameters]
    gradients = [torch.randn_like(p) for p in parameters]
    seen, seen_addresses = [], []

    def closure():
        seen.append([p.detach().clone() for p in parameters])
        seen_addresses.append([p.data_ptr() for p in parameters])
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g.clone()

    for _ in range(3):
        seen.clear()
        optimizer.step(closure)
        assert same([p.detach() for p in parameters], before)
        assert [p.data_ptr() for p in parameters] == addresses
        assert [p.stride() for p in parameters] == strides
        T = [x.abs() + 0.01 if adaptive else torch.ones_like(x.abs()) for x in before]
        wide = [t.to(torch.complex128) * g.to(torch.complex128) for t, g in zip(T, gradients, strict=True)]
        norm = math.sqrt(sum(float((v.abs() ** 2).sum()) for v in wide))
        moves = [0.5 * t * v / norm for t, v in zip(T, wide, strict=True)]
        if name == "one storage":  # each of the two moves it
            joint = moves[0] + moves[1].reshape(-1)
            moves = [joint, joint.view(2, 3)]
        for x, y, move in zip(before, seen[1], moves, strict=True):
            tolerance = 4 * max(torch.finfo(p.dtype).eps for p in parameters)  # of the joint length
            error = (y.to(torch.complex128) - x.to(torch.complex128) - move).abs()
            assert (error <= tolerance * (1 + x.abs() + move.abs())).all()
    moved = [a != b for a, b in zip(seen_addresses[0], seen_addresses[1], strict=True)]
    if storage != "auto":
        assert all(m == (storage == "swap") or not p.numel() for m, p in zip(moved, parameters, strict=True))
    elif may_swap is not None:
        assert all(m == may_swap for m in moved)


def lstm():
    model = nn.LSTM(3, 4, num_layers=2)
    return model, lambda: model(torch.ones(5, 2, 3))[0].square().sum()


def weight_norm():
    model = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
    return model, lambda: model(torch.ones(4, 3)).square().sum()


def orthogonal():
    model = nn.utils.parametrizations.orthogonal(nn.Linear(3, 3))
    return model, lambda: model(torch.arange(3.0)).pow(3).sum()


def tied():
    embedding, head = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
    head.weight = embedding.weight
    model = nn.ModuleList([embedding, head])
    return model, lambda: head(torch.tanh(embedding(torch.tensor([0, 2, 2])))).square().sum()


@pytest.mark.parametrize("storage", ["swap", "copy"])
@pytest.mark.parametrize("make", [lstm, weight_norm, orthogonal, tied])
def test_modules_that_hold_their_weights_in_other_ways(make, storage):
    torch.manual_seed(1)
    model, loss = make()
    model.double()
    default, torch_default = torch.float64, torch.get_default_dtype()
    torch.set_default_dtype(default)
    try:
        parameters = list(model.parameters())
        optimizer = RST(sgd(parameters, lr=0.1), 1.0, rho=0.2, gamma=0.5, storage=storage)

        def closure():
            optimizer.zero_grad()
            value = loss()
            value.backward()
            return value

        before = weights(model)
        g = torch.autograd.grad(loss(), parameters)
        norm = math.sqrt(sum(float(part.square().sum()) for part in g))
        with torch.no_grad():
            for p, part in zip(parameters, g, strict=True):
                p.copy_(p + 0.2 * part / norm)
        g_adv = torch.autograd.grad(loss(), parameters)
        with torch.no_grad():
            for p, x in zip(parameters, before, strict=True):
                p.copy_(x)
        addresses = [p.data_ptr() for p in parameters]
        optimizer.step(closure)
        assert [p.data_ptr() for p in parameters] == addresses
        for p, x, a, b in zip(parameters, before, g, g_adv, strict=True):
            assert torch.allclose(p, x - 0.1 * (a + b) / 2, rtol=1e-12, atol=1e-14)
    finally:
        torch.set_default_dtype(torch_default)


class Cut(BaseException):
    """An interruption, such as KeyboardInterrupt."""


@pytest.mark.parametrize("storage", ["swap", "copy"])
@pytest.mark.parametrize("after", [False, True])
def test_an_interruption_anywhere_inside_a_move_is_made_good(storage, after):
    """Each torch call that a perturbation makes is cut once, before it or after it."""
    calls = 0
    for cut_at in range(1, 40):
        torch.manual_seed(0)
        parameters = [nn.Parameter(torch.randn(n)) for n in (3, 2, 4)]
        optimizer = RST(sgd(parameters, lr=0.0), 1.0, rho=0.5, storage=storage)
        before, addresses = [p.detach().clone() for p in parameters], [p.data_ptr() for p in parameters]

        class Cutting(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                nonlocal calls
                calls += 1
                if calls == cut_at and not after:  # noqa: B023
                    raise Cut
                out = func(*args, **(kwargs or {}))
                if calls == cut_at:  # noqa: B023
                    raise Cut
                return out

        calls = 0
        for p in parameters:
            p.grad = torch.ones_like(p)
        try:
            with Cutting(), optimizer.perturbed():
                pass
        except Cut:
            assert same([p.detach() for p in parameters], before)
            assert [p.data_ptr() for p in parameters] == addresses
            continue
        assert cut_at > 6  # all calls have been cut, one after the other
        return
    raise AssertionError("never got through")


@pytest.mark.parametrize("storage", ["swap", "copy"])
def test_an_interruption_inside_the_way_back_is_made_good(storage):
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.randn(n)) for n in (3, 2, 4)]
    before, addresses = [p.detach().clone() for p in parameters], [p.data_ptr() for p in parameters]
    moved = Perturbation(storage)
    moved.move([Move(p, torch.ones_like(p), 0.5) for p in parameters])
    assert moved.is_moved and not same([p.detach() for p in parameters], before)
    original, cuts = torch._foreach_copy_, []

    def half_a_copy(targets, sources):
        if not cuts:
            cuts.append(True)
            targets[0].copy_(sources[0])
            raise Cut
        original(targets, sources)

    with mock.patch.object(torch, "_foreach_copy_", half_a_copy):
        if storage == "copy":
            with pytest.raises(Cut):
                moved.back()
        else:
            moved.back()
    assert same([p.detach() for p in parameters], before)
    assert [p.data_ptr() for p in parameters] == addresses
    assert not moved.is_moved


@pytest.mark.parametrize("pass_", [1, 2])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("storage", ["swap", "copy"])
def test_a_closure_that_raises_in_either_pass_leaves_the_weights(storage, error, pass_):
    model, batches = small_network()
    optimizer = RST(sgd(model.parameters()), 1.0, rho=0.5, storage=storage)
    before, addresses = weights(model), [p.data_ptr() for p in model.parameters()]
    calls = []

    def closure():
        calls.append(optimizer.is_perturbed)
        network_closure(optimizer, model, batches[0])()
        if len(calls) == pass_:
            raise error

    with pytest.raises(error):
        optimizer.step(closure)
    assert calls == [False, True][:pass_]
    assert same(weights(model), before)
    assert [p.data_ptr() for p in model.parameters()] == addresses
    assert not optimizer.is_perturbed and optimizer.steps_taken == 0
    optimizer.step(network_closure(optimizer, model, batches[0]))
    assert optimizer.steps_taken == 1


def test_a_base_step_that_raises_can_be_taken_again():
    x = nn.Parameter(torch.ones(2))
    optimizer = RST(sgd([x], lr=0.5), 1.0, rho=0.0)

    def closure():
        optimizer.zero_grad()
        (x**2).sum().backward()

    with mock.patch.object(optimizer.base, "step", side_effect=OSError), pytest.raises(OSError):
        optimizer.step(closure)
    optimizer.step(closure)
    assert x.tolist() == [0.0, 0.0]
    assert optimizer.steps_taken == 1


class Allocations(TorchDispatchMode):
    """Counts the tensors of at least `least` entries that are new memory."""

    def __init__(self, least):
        super().__init__()
        self.least, self.count, self.on = least, 0, True

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        def addresses(values):
            for value in values:
                if isinstance(value, torch.Tensor):
                    yield value.untyped_storage().data_ptr()
                elif isinstance(value, list | tuple):
                    yield from addresses(value)

        out = func(*args, **(kwargs or {}))
        if self.on:
            known = {*addresses(args), *addresses((kwargs or {}).values())}
            tensors = [
                t for t in (out if isinstance(out, list | tuple) else [out]) if isinstance(t, torch.Tensor)
            ]
            self.count += sum(
                t.untyped_storage().data_ptr() not in known
                and t.untyped_storage().nbytes() >= self.least * t.element_size()
                for t in tensors
            )
        return out


@pytest.mark.parametrize("gamma", [1.0, 0.5])
@pytest.mark.parametrize("storage", ["swap", "copy"])
@pytest.mark.parametrize("layout", ["plain", "with gaps"])
def test_no_memory_of_the_size_of_the_parameters_is_taken_from_step_to_step(storage, gamma, layout):
    if layout == "plain":
        parameters = [nn.Parameter(torch.randn(50, 20)) for _ in range(3)]
    elif storage == "copy":
        parameters = [nn.Parameter(torch.randn(50, 40)[:, ::2]) for _ in range(3)]
    else:
        pytest.skip("not a layout to swap")
    optimizer = RST(sgd(parameters, foreach=True), 1.0, gamma=gamma, storage=storage, clip_direction=1.0)
    allocations = Allocations(1000)

    def closure():
        allocations.on = False
        for p in parameters:
            p.grad = torch.ones_like(p)
        allocations.on = True

    optimizer.step(closure)
    with allocations:
        for _ in range(3):
            optimizer.step(closure)
    assert allocations.count == 0


# ---- devices that nothing may wait for


@pytest.mark.parametrize("storage", ["auto", "swap"])
@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
@pytest.mark.parametrize("gamma", [1.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.complex64])
def test_no_step_looks_at_a_number_on_a_device(storage, ascent, gamma, dtype):
    """Tensors on the device "meta" hold no numbers: to look at one is an error."""
    parameters = [nn.Parameter(torch.empty(3, 2, device="meta", dtype=dtype)) for _ in range(3)]
    optimizer = RST(
        sgd([{"params": parameters[:2]}, {"params": parameters[2:]}], momentum=0.9),
        0.5,
        rho=0.1,
        ascent=ascent,
        storage=storage,
        clip_direction=1.0,
        clip_ascent=1.0,
        perturb_groups=[True, {"rho": 0.2, "adaptive": True}],
        **({"gamma": gamma} if gamma == 1 else {"degree": 0.2}),
    )

    def closure():
        optimizer.zero_grad()
        seen = parameters[:2] if optimizer.is_perturbed else parameters[1:]
        for p in seen:
            p.grad = torch.empty_like(p)

    for _ in range(6):
        optimizer.step(closure)
    assert optimizer.perturbed_steps > 0
    # The same with radii and coefficients that captured graphs read.
    optimizer._on_device.update(
        {(n, i): torch.empty((), device="meta") for n in ("rho", "gamma") for i in (0, 1)}
    )
    for _ in range(6):
        optimizer.step(closure)


@settings(max_examples=40)
@given(
    entries=st.lists(
        st.floats(-10, 10) | st.sampled_from([0.0, 1e-300, -1e-180, 1e200, -1e300, math.inf, math.nan]),
        min_size=1,
        max_size=6,
    ),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
)
def test_lengths_on_a_device_are_those_on_the_host(entries, dtype):
    halves = [torch.tensor(part, dtype=torch.float64).to(dtype) for part in (entries[::2], entries[1::2])]
    device, host = lengths._on_device(halves), lengths._on_host(halves)
    exact = math.hypot(*(float(v) for half in halves for v in half.double()))
    if math.isnan(exact) or any(math.isnan(float(v)) for half in halves for v in half):
        assert not math.isfinite(float(device)) and not math.isfinite(host)
        return
    tolerance = 8 * (2.0**-53 if dtype != torch.float32 else 2.0**-24)
    assert host == pytest.approx(exact, rel=tolerance)
    assert device.dtype == torch.float64
    assert float(device) == pytest.approx(exact, rel=8 * 2.0**-53)


@pytest.fixture
def as_on_a_device(monkeypatch):
    """Lengths as tensors: the branches of accelerators, run here."""

    def length(tensors):
        flat = [lengths.entries(t) for t in tensors]
        return lengths._on_device(flat) if flat else torch.zeros((), dtype=torch.float64)

    for module in (ascents, rst):
        monkeypatch.setattr(module, "length", length)


CHOICES = [
    {"gamma": gamma, "ascent": ascent, "adaptive": adaptive, "clip_ascent": clip, "clip_direction": clip}
    for gamma in (1.0, 0.5)
    for ascent in ("normalized", "unnormalized")
    for adaptive in (False, True)
    for clip in (None, 0.05)
]


def sixteen_steps(options, dtype):
    problem = DenseQuadratic([(2, 2), (3,), ()], 5)
    with torch.no_grad():
        problem.parameters = [nn.Parameter(p.to(dtype)) for p in problem.parameters]
    optimizer = RST(sgd(problem.parameters, lr=0.1), 0.7, rho=0.3, seed=2, storage="copy", **options)

    def closure():
        optimizer.zero_grad()
        x = torch.cat([p.reshape(-1) for p in problem.parameters]).double()
        (x @ torch.as_tensor(problem.hessian) @ x / 2).backward()

    for _ in range(8):
        optimizer.step(closure)
    return np.concatenate([p.detach().double().numpy().ravel() for p in problem.parameters])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_device_takes_the_steps_of_the_host(as_on_a_device, dtype):
    device = [sixteen_steps(options, dtype) for options in CHOICES]
    with pytest.MonkeyPatch.context() as patch:
        for module in (ascents, rst):
            patch.setattr(module, "length", lengths.length)
        host = [sixteen_steps(options, dtype) for options in CHOICES]
    for a, b in zip(device, host, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12 if dtype == torch.float64 else 2.0**-6)


def test_what_is_not_finite_on_a_device_is_told_a_step_later(as_on_a_device):
    x = nn.Parameter(torch.ones(2))
    optimizer = RST(sgd([x], lr=0.0), 1.0)

    def closure():
        x.grad = torch.tensor([1.0, math.inf])

    with mock.patch.object(optimizer.base, "step"):
        optimizer.step(closure)
        with pytest.raises(FloatingPointError, match=r"first gradient of step 0 was inf.*taken that step"):
            optimizer.step(closure)


def test_coefficients_in_tensors_are_those_in_numbers():
    torch.manual_seed(0)
    for gamma in (0.0, 0.5, 1.0, 2.5):
        p = [nn.Parameter(torch.zeros(3, dtype=torch.float64)) for _ in range(3)]
        g = [torch.randn(3, dtype=torch.float64), None, torch.randn(3, dtype=torch.float64)]
        second = [torch.randn(3, dtype=torch.float64), torch.randn(3, dtype=torch.float64), None]
        for x, s in zip(p, second, strict=True):
            x.grad = None if s is None else s.clone()
        mixture.mix(p, g, torch.tensor(gamma, dtype=torch.float64))
        for x, a, b in zip(p, g, second, strict=True):
            zero = torch.zeros(3, dtype=torch.float64)
            expected = (1 - gamma) * (zero if a is None else a) + gamma * (zero if b is None else b)
            assert torch.allclose(x.grad, expected, rtol=1e-12, atol=1e-15)


# ---- edges


@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("exponent", [-0.95, -0.9, -0.5, -0.1, 0.1, 0.5, 0.9, 0.95])
def test_radii_are_right_at_the_ends_of_the_floating_range(ascent, dtype, exponent):
    limits = torch.finfo(dtype)
    ends = limits.smallest_normal * limits.eps if exponent < 0 else limits.max
    size = float(torch.tensor(ends ** abs(exponent), dtype=dtype))
    x = nn.Parameter(torch.zeros(2, dtype=dtype))
    rho = 1e-3 if ascent == "normalized" else 0.5
    optimizer = RST(sgd([x], lr=0.0), 1.0, rho=rho, ascent=ascent)
    seen = []

    def closure():
        seen.append(x.detach().clone())
        x.grad = torch.tensor([size, -size], dtype=dtype)

    optimizer.step(closure)
    reach = rho / math.sqrt(2) if ascent == "normalized" else rho * size
    # Half a unit of the last place of a denormal number is what any arithmetic is off by.
    tolerance = 4 * limits.eps * reach + limits.smallest_normal * limits.eps
    assert seen[1].double().tolist() == pytest.approx([reach, -reach], rel=0, abs=tolerance)


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("gamma", [1.0, 0.5, 0.0])
@pytest.mark.parametrize("where", ["first", "second", "first of a group left out"])
def test_what_is_not_finite_poisons_nothing(where, gamma, bad):
    x, left = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    base = sgd([{"params": [x]}, {"params": [left]}], momentum=0.9)
    optimizer = RST(base, 1.0, gamma=gamma, perturb_groups=[True, False])
    spoiled = []

    def closure():
        x.grad, left.grad = torch.ones(2), torch.ones(2)
        if spoiled and optimizer.is_perturbed == (where == "second"):
            (left if where.endswith("out") else x).grad[1] = bad

    optimizer.step(closure)
    before = [x.detach().clone(), left.detach().clone()]
    momentum = [base.state[p]["momentum_buffer"].clone() for p in (x, left)]
    spoiled.append(True)
    if where.endswith("out") and gamma == 1:
        optimizer.step(closure)  # that gradient is not used
        assert torch.isfinite(left).all()
        return
    with pytest.raises(FloatingPointError, match=r"of step 1 is (-?inf|nan); the weights are untouched"):
        optimizer.step(closure)
    assert same([x.detach(), left.detach()], before)
    assert same([base.state[p]["momentum_buffer"] for p in (x, left)], momentum)
    assert optimizer.steps_taken == 1
    spoiled.clear()
    optimizer.step(closure)
    assert optimizer.steps_taken == 2


@pytest.mark.parametrize("gamma", [1.0, 0.5])
@pytest.mark.parametrize("storage", ["swap", "copy"])
def test_sparse_gradients_of_a_sparse_base(gamma, storage):
    layer = nn.Embedding(6, 2, sparse=True, dtype=torch.float64)
    start = layer.weight.detach().numpy().copy()
    optimizer = RST(
        torch.optim.SparseAdam(layer.parameters(), lr=0.01), 1.0, rho=0.3, gamma=gamma, storage=storage
    )
    rows = torch.tensor([0, 3, 3])

    def closure():
        optimizer.zero_grad()
        loss = (layer(rows) ** 3).sum()
        loss.backward()
        return loss

    optimizer.step(closure)

    def gradient(x):
        g = np.zeros_like(x)
        np.add.at(g, rows.numpy(), 3 * x[rows.numpy()] ** 2)
        return g

    g = gradient(start)
    d = (1 - gamma) * g + gamma * gradient(start + 0.3 * g / np.linalg.norm(g))
    expected = start.copy()  # the first step of Adam: sign of the direction, but for its eps of 1e-8
    expected[[0, 3]] -= 0.01 * d[[0, 3]] / (np.abs(d[[0, 3]]) + 1e-8 / math.sqrt(1 - 0.999))
    np.testing.assert_allclose(layer.weight.detach().numpy(), expected, rtol=1e-9)
    assert layer.weight.grad.is_sparse


def test_empty_groups_and_groups_without_gradients():
    x, y = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = RST(sgd([{"params": [x]}, {"params": []}, {"params": [y]}], lr=0.5), 1.0, rho=0.0)

    def closure():
        optimizer.zero_grad()
        (x**2).sum().backward()

    optimizer.step(closure)
    assert x.tolist() == [0.0, 0.0] and y.tolist() == [1.0, 1.0] and y.grad is None


def test_weights_kept_beside_are_looked_at_anew_when_the_parameters_change():
    """A parameter may get new memory, another layout or another length between two steps."""
    x = nn.Parameter(torch.randn(4, 3))
    optimizer = RST(sgd([x], lr=0.0), 1.0, rho=1.0)
    for data in (torch.randn(4, 3), torch.randn(3, 4).t(), torch.randn(5), torch.randn(5).double()):
        x.grad = None
        x.data = data
        before, address = data.clone(), x.data_ptr()
        seen = []

        def closure():
            seen.append(x.detach().clone())  # noqa: B023
            x.grad = torch.ones_like(x)

        optimizer.step(closure)
        assert torch.equal(x, before) and x.data_ptr() == address
        assert not torch.equal(seen[1], before)


# ---- checkpoints

RESUMED = {
    "SGD": lambda groups: torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True),
    "AdamW": lambda groups: torch.optim.AdamW(groups, lr=0.01, amsgrad=True),
}


def run_part(base, start, stop, file):
    """Steps start to stop - 1 of one run of 12, from a checkpoint to a checkpoint."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
        inputs, targets = torch.randn(12, 8, 4), torch.randint(3, (12, 8))
    parameters = list(model.parameters())
    groups = [
        {"params": parameters[:2]},
        {"params": parameters[2:], "perturb": {"rho": 0.3, "adaptive": True}},
    ]
    optimizer = RST(
        RESUMED[base](groups),
        Linear(0.1, 0.9),
        12,
        Linear(0.2, 0.1),
        degree=0.5,
        max_gamma=3.0,
        seed=7,
        trials="systematic",
        model=model,
        clip_direction=1.0,
    )
    if start:
        saved = torch.load(file, weights_only=True)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
    for batch in list(zip(inputs, targets, strict=True))[start:stop]:
        optimizer.step(network_closure(optimizer, model, batch))
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)


def test_a_run_resumed_in_another_process_is_the_uninterrupted_one_bit_for_bit(tmp_path):
    for base in RESUMED:
        run_part(base, 0, 12, tmp_path / f"whole {base}")
        run_part(base, 0, 5, tmp_path / f"part {base}")
    code = "import sys; from test_perturbation import run_part; run_part(sys.argv[1], 5, 12, sys.argv[2]); "
    code += "run_part(sys.argv[3], 5, 12, sys.argv[4])"
    arguments = [word for base in RESUMED for word in (base, str(tmp_path / f"part {base}"))]
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code, *arguments],
        check=True,
        timeout=100,
        cwd=pathlib.Path(__file__).parent,
    )
    for base in RESUMED:
        whole, resumed = (
            torch.load(tmp_path / f"{name} {base}", weights_only=True) for name in ("whole", "part")
        )
        assert resumed["optimizer"]["rst"] == whole["optimizer"]["rst"]
        assert whole["optimizer"]["rst"]["steps_taken"] == 12
        assert 0 < whole["optimizer"]["rst"]["perturbed_steps"] < 12
        assert same(resumed["model"].values(), whole["model"].values())
        for i, state in whole["optimizer"]["state"].items():
            pairs = zip(state.values(), resumed["optimizer"]["state"][i].values(), strict=True)
            assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in pairs)


@pytest.mark.parametrize(
    "change",
    [
        {"degree": 0.25},
        {"max_gamma": 3.0},
        {"perturb_groups": [True, False]},
        {"perturb_groups": [True, 0.2]},
        {"adaptive": True},
        {"adaptive_offset": 0.1},
        {"clip_direction": 2.0},
        {"clip_ascent": None},
        {"replay_randomness": True},
    ],
    ids=str,
)
def test_a_checkpoint_of_other_settings_is_refused(change):
    groups = [{"params": [nn.Parameter(torch.ones(1))]} for _ in range(2)]
    settings = {
        "degree": 0.5,
        "max_gamma": 2.0,
        "perturb_groups": [True, 0.1],
        "clip_direction": 1.0,
        "clip_ascent": 1.0,
    }
    saved = RST(sgd(groups), 0.5, **settings).state_dict()
    other = RST(sgd(groups), 0.5, **{**settings, **change})
    name = (
        next(iter(change))
        .replace("adaptive", "perturb_groups")
        .replace("perturb_groups_offset", "adaptive_offset")
    )
    with pytest.raises(ValueError, match=f"saved state has {name} = "):
        other.load_state_dict(saved)
    # Where the weights lie makes no difference to the run.
    RST(sgd(groups), 0.5, **settings, storage="copy").load_state_dict(saved)


def test_numbers_of_numpy_as_arguments_are_saved_as_plain_ones():
    x = nn.Parameter(torch.ones(1))
    optimizer = RST(
        sgd([x]),
        np.float32(0.5),
        np.int64(4),
        np.float64(0.1),
        degree=np.linspace(0.1, 0.4, 4),
        max_gamma=np.float32(2),
        seed=np.uint64(3),
        clip_direction=np.float64(1.0),
        clip_ascent=np.float32(2.0),
        adaptive_offset=np.float64(0.02),
        adaptive=np.True_,
        perturb_groups=[{"rho": np.float32(0.5), "adaptive": np.False_}],
    )
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    optimizer.load_state_dict(torch.load(file, weights_only=True))
