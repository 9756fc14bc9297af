"""The PyTorch optimizer against `method.step`, an independent SAM, its base, and torch's own promises."""

import copy
import functools
import io
import math
import pickle

import numpy as np
import pytest
import torch
from conftest import ONE_STEP
from hypothesis import example, given, settings, strategies as st
from torch import nn
from torch.optim import lr_scheduler as schedulers
from torch.utils._python_dispatch import TorchDispatchMode

from rst_theory import method
from rst_theory.notation import DomainError
from rst_theory.optim import RST
from rst_theory.optim.lengths import length
from rst_theory.schedules import Constant, FromExpression, InverseSqrt, Linear, Periodic, Piecewise
from rst_theory.trials import Trials

ETA = 0.25


def split(vector, sizes):
    """Parameters of the given sizes that hold the vector's entries."""
    return [nn.Parameter(part.clone()) for part in torch.as_tensor(vector).split(sizes)]


def joined(parameters):
    return torch.cat([p.detach().reshape(-1) for p in parameters]).numpy()


def quadratic_closure(optimizer, parameters, curvature):
    """f(x) = sum of h_i x_i^2 / 2, whose gradient is h * x without rounding differences."""

    def closure():
        optimizer.zero_grad()
        loss = (torch.as_tensor(curvature) * torch.cat(parameters) ** 2).sum() / 2
        loss.backward()
        return loss

    return closure


def small_network(seed=0, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
        inputs, targets = torch.randn(20, 8, 4, dtype=dtype), torch.randint(3, (20, 8))
    return model, list(zip(inputs, targets, strict=True))


def network_closure(optimizer, model, batch, **zero_grad):
    def closure():
        optimizer.zero_grad(**zero_grad)
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        return loss

    return closure


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def same(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def sgd(parameters, **options):
    return torch.optim.SGD(parameters, **{"lr": ETA, **options})


# ---- the update

entries = st.floats(-2, 2) | st.sampled_from([0.0, 1e-200, -3e-170, 1e170])


@settings(deadline=None, max_examples=150)
@given(
    x=st.lists(entries, min_size=4, max_size=4),
    h=st.lists(st.floats(-1, 2) | st.just(0.0), min_size=4, max_size=4),
    p=st.floats(0, 1),
    gamma=st.floats(0, 4) | st.sampled_from([0.0, 1.0]),
    rho=st.floats(0, 2),
    ascent=st.sampled_from(["normalized", "unnormalized"]),
    kind=st.sampled_from(["independent", "systematic"]),
    sizes=st.sampled_from([[4], [1, 3], [1, 1, 2], [1, 1, 1, 1]]),
    groups=st.integers(1, 2),
    seed=st.integers(0, 2**64 - 1),
)
@example([0.0] * 4, [1.0] * 4, 1.0, 2.0, 0.5, "normalized", "independent", [2, 2], 1, 0)
@example([1e-200] * 4, [1.0] * 4, 1.0, 1.0, 0.5, "normalized", "systematic", [2, 2], 2, 0)
@example([1e170] * 4, [1.0] * 4, 1.0, 0.5, 0.5, "normalized", "independent", [4], 1, 0)
def test_each_step_is_the_methods_own(x, h, p, gamma, rho, ascent, kind, sizes, groups, seed):
    T = 4
    parameters, h = split(np.array(x), sizes), np.array(h)
    if groups == 2 and len(sizes) > 1:
        base = sgd([{"params": parameters[:1]}, {"params": parameters[1:]}])
    else:
        base = sgd(parameters)
    optimizer = RST(base, Constant(p), T, rho, gamma, seed, kind, ascent)
    closure = quadratic_closure(optimizer, parameters, h)
    trials = Trials(np.full(T, p), seed, kind).sequence()
    for t in range(T):
        before = joined(parameters)
        assert optimizer.will_perturb == trials[t]
        optimizer.step(closure)
        expected = method.step(before, lambda y: h * y, bool(trials[t]), ETA, rho, gamma, ascent)
        # The sizes of the sum's terms: what rounding is relative to.
        scale = np.abs(before).max() + (1 + gamma) * rho * trials[t] * (
            np.abs(h * before).max() if ascent == "unnormalized" else 1.0
        )
        assert np.abs(joined(parameters) - expected).max() <= ONE_STEP * scale
    assert optimizer.steps_taken == T
    assert optimizer.perturbed_steps == trials.sum()


@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
def test_one_norm_over_parameters_of_all_shapes_on_a_dense_quadratic(ascent):
    rng = np.random.default_rng(1)
    root = rng.standard_normal((7, 7))
    hessian, start = root @ root.T / 7, rng.standard_normal(7)
    shapes = [(), (2, 2), (2,)]
    parameters = [
        nn.Parameter(part.clone().reshape(shape))
        for part, shape in zip(torch.as_tensor(start).split([1, 4, 2]), shapes, strict=True)
    ]
    gammas, radii = np.linspace(0, 2, 30), Linear(0.5, 0.1)
    base = sgd([{"params": parameters[:1]}, {"params": parameters[1:]}])
    optimizer = RST(base, Linear(0, 1), 30, radii, gammas, seed=3, ascent=ascent)

    def closure():
        optimizer.zero_grad()
        x = torch.cat([p.reshape(-1) for p in parameters])
        loss = x @ torch.as_tensor(hessian) @ x / 2
        loss.backward()
        return loss

    trials = Trials(Linear(0, 1).probabilities(30), 3).sequence()
    assert 0 < trials.sum() < 30
    for t in range(30):
        before = joined(parameters)
        loss = optimizer.step(closure)
        expected = method.step(
            before, lambda y: hessian @ y, bool(trials[t]), ETA, radii.values(30)[t], gammas[t], ascent
        )
        assert np.abs(joined(parameters) - expected).max() <= ONE_STEP * np.abs(before).max()
        assert loss.item() == pytest.approx(before @ hessian @ before / 2, rel=ONE_STEP)


@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
def test_what_maximizes_an_objective_is_what_minimizes_its_negative(ascent):
    runs = []
    for sign, maximize in ((1.0, False), (-1.0, True)):
        model, batches = small_network()
        optimizer = RST(sgd(model.parameters(), maximize=maximize), 1.0, rho=0.5, gamma=2.0, ascent=ascent)
        for inputs, targets in batches[:3]:

            def closure(model=model, inputs=inputs, targets=targets, sign=sign, optimizer=optimizer):
                optimizer.zero_grad()
                (sign * nn.functional.cross_entropy(model(inputs), targets)).backward()

            optimizer.step(closure)
        runs.append(weights(model))
    assert same(*runs)


def test_p_one_gamma_one_is_sam():
    model, batches = small_network(dtype=torch.float64)
    twin = copy.deepcopy(model)
    optimizer = RST(sgd(model.parameters(), momentum=0.9), 1.0, rho=0.1)
    base = sgd(twin.parameters(), momentum=0.9)
    for inputs, targets in batches:
        optimizer.step(network_closure(optimizer, model, (inputs, targets)))

        def gradient():
            loss = nn.functional.cross_entropy(twin(inputs), targets)  # noqa: B023
            return torch.autograd.grad(loss, list(twin.parameters()))

        # Sharpness-aware minimization, arXiv 2010.01412, written on its own.
        old, g = weights(twin), gradient()
        norm = math.sqrt(sum(float((part**2).sum()) for part in g))
        with torch.no_grad():
            for p, part in zip(twin.parameters(), g, strict=True):
                p += 0.1 * part / norm
        for p, part in zip(twin.parameters(), gradient(), strict=True):
            p.grad = part
        with torch.no_grad():
            for p, w in zip(twin.parameters(), old, strict=True):
                p.copy_(w)
        base.step()
    assert optimizer.perturbed_steps == len(batches)
    np.testing.assert_allclose(joined(model.parameters()), joined(twin.parameters()), rtol=1e-10)


@pytest.mark.parametrize(
    "name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "NAdam", "Rprop", "Adafactor"]
)
def test_p_zero_is_the_base_bit_for_bit(name):
    model, batches = small_network()
    twin = copy.deepcopy(model)
    make = getattr(torch.optim, name)
    optimizer, base = RST(make(model.parameters(), lr=0.01), 0.0), make(twin.parameters(), lr=0.01)
    for batch in batches:
        loss = optimizer.step(network_closure(optimizer, model, batch))
        assert torch.equal(loss, base.step(network_closure(base, twin, batch)))
    assert same(weights(model), weights(twin))
    assert optimizer.perturbed_steps == 0


@pytest.mark.parametrize("gamma", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("zero_grad", [{}, {"set_to_none": True}, {"set_to_none": False}])
def test_the_direction_is_the_mixture_however_gradients_are_cleared(gamma, zero_grad):
    model, batches = small_network()
    optimizer = RST(sgd(model.parameters(), lr=1e-3), 1.0, rho=0.5, gamma=gamma)
    gradients = []

    def closure(batch):
        network_closure(optimizer, model, batch, **zero_grad)()
        gradients.append([p.grad.clone() for p in model.parameters()])

    for batch in batches[:3]:
        gradients.clear()
        optimizer.step(functools.partial(closure, batch))
        first, second = gradients
        assert not same(first, second)
        for p, g, g_adv in zip(model.parameters(), first, second, strict=True):
            if gamma == 1:
                assert torch.equal(p.grad, g_adv)
                continue
            expected = (1 - gamma) * g.double() + gamma * g_adv.double()
            # Two roundings of each of the two terms, in any order of the operations.
            rounding = torch.finfo(g.dtype).eps * (abs(1 - gamma) + gamma) * (g.abs() + g_adv.abs())
            assert ((p.grad - expected).abs() <= 2 * rounding).all()


def test_at_gamma_one_even_signed_zeros_are_kept():
    x = nn.Parameter(torch.ones(2))
    optimizer = RST(sgd([x]), 1.0)

    def closure():
        x.grad = torch.ones(2) if x[0] == 1 else torch.tensor([-0.0, 0.0])

    optimizer.step(closure)
    assert x.grad.signbit().tolist() == [True, False]


def test_the_closure_sees_the_perturbed_point_with_gradients_enabled():
    x = nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    optimizer = RST(sgd([x], lr=0.0), 1.0, rho=0.5)
    seen = []

    def closure():
        assert torch.is_grad_enabled()
        optimizer.zero_grad()
        seen.append(x.detach().clone())
        loss = (x**2).sum() / 2
        loss.backward()
        return loss

    with torch.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 12.5  # at the weights, not at the perturbed point
    assert seen[0].tolist() == [3.0, 4.0]
    assert seen[1].tolist() == pytest.approx([3.3, 4.4], rel=1e-15)


@pytest.mark.parametrize("forgotten", ["in the step", "in the second pass"])
def test_a_scaler_that_one_half_of_a_step_has_not_been_given_is_missed(forgotten):
    x = nn.Parameter(torch.ones(1))
    optimizer, scaler = RST(sgd([x]), 1.0), torch.amp.GradScaler("cpu", init_scale=1024.0)

    def backward():
        scaler.scale(x.sum()).backward()

    def two_calls(in_pass, in_step):
        optimizer.zero_grad()
        backward()
        with optimizer.perturbed(in_pass):
            backward()
        optimizer.step(scaler=in_step)

    with pytest.raises(TypeError, match="must agree"):
        two_calls(*((scaler, None) if forgotten == "in the step" else (None, scaler)))
    assert x.item() == 1 and optimizer.steps_taken == 0
    two_calls(scaler, scaler)
    assert x.item() == 1 - ETA and optimizer.steps_taken == 1


def test_a_direction_whose_gradients_are_cleared_is_given_up():
    x = nn.Parameter(torch.ones(1))
    optimizer = RST(sgd([x]), 1.0)

    def two_passes():
        optimizer.zero_grad()
        x.sum().backward()
        with optimizer.perturbed():
            x.sum().backward()

    two_passes()
    two_passes()  # a loop that was interrupted before its step, and starts again
    optimizer.zero_grad()
    with pytest.raises(TypeError, match="this step is perturbed"):
        optimizer.step()
    assert x.item() == 1 and optimizer.steps_taken == 0
    two_passes()
    optimizer.step()
    assert x.item() == 1 - ETA and optimizer.steps_taken == 1


LAYOUTS = {
    "plain": lambda x: x,
    "transposed": lambda x: x.view(1024, -1).t(),
    "channels last": lambda x: x.view(16, 8, 8, -1).permute(0, 3, 1, 2),
    "with gaps": lambda x: x.view(1024, -1)[:, ::2],
    "repeated": lambda x: x[:4096].expand(256, 4096),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_length_is_exact_to_single_precision_whatever_the_layout(layout, dtype):
    entries = np.random.default_rng(0).random(2**20, dtype=np.float32)
    tensor = LAYOUTS[layout](torch.from_numpy(entries).to(dtype))
    expected = np.linalg.norm(tensor.numpy().astype(np.float64).ravel())
    assert length([tensor]) == pytest.approx(expected, rel=1e-6)


class Calls(TorchDispatchMode):
    """Counts operations; views do nothing on a device."""

    def __init__(self):
        super().__init__()
        self.on, self.count = True, 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += self.on and not operation.is_view
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_a_step_on_a_device_is_as_many_calls_whatever_the_number_of_tensors(gamma):
    def calls(tensors):
        parameters = [nn.Parameter(torch.ones(4, 4, device="meta")) for _ in range(tensors)]
        optimizer, counted = RST(sgd(parameters, foreach=True), 1.0, gamma=gamma), Calls()

        def closure():
            counted.on = False
            for p in parameters:
                p.grad = torch.ones_like(p)
            counted.on = True

        optimizer.step(closure)  # takes the buffers
        with counted:
            optimizer.step(closure)
        return counted.count

    assert calls(2) == calls(20) < 45


# ---- trials


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**64 - 1), st.sampled_from([Constant(0.4), InverseSqrt(0.9), Periodic(3)]))
def test_trials_are_those_of_trials_with_and_without_a_horizon(seed, schedule):
    T = 12
    expected = Trials(schedule.probabilities(T), seed).sequence()
    for total_steps in (T, None):
        x = nn.Parameter(torch.ones(1))
        optimizer = RST(sgd([x]), schedule, total_steps, seed=seed)
        calls = []

        def closure():
            calls[-1] += 1  # noqa: B023
            x.grad = torch.ones(1)  # noqa: B023

        for t in range(T):
            calls.append(0)
            assert optimizer.will_perturb == expected[t]
            optimizer.step(closure)
            assert optimizer.perturbed_steps == expected[: t + 1].sum()
        assert [n == 2 for n in calls] == expected.tolist()
        assert set(calls) <= {1, 2}


def test_systematic_trials_and_a_schedule_with_a_horizon():
    schedule = Piecewise(0.9, 0.1, 0.5)
    x = nn.Parameter(torch.ones(1))
    optimizer = RST(sgd([x], lr=0.0), schedule, 40, seed=9, trials="systematic")
    closure = quadratic_closure(optimizer, [x], np.ones(1, dtype=np.float32))
    seen = []
    for _ in range(40):
        seen.append(optimizer.will_perturb)
        optimizer.step(closure)
    assert seen == Trials(schedule.probabilities(40), 9, "systematic").sequence().tolist()


def test_a_step_beyond_the_horizon_says_so_and_changes_nothing():
    x = nn.Parameter(torch.ones(1))
    optimizer = RST(sgd([x]), 0.5, total_steps=2)
    closure = quadratic_closure(optimizer, [x], np.ones(1, dtype=np.float32))
    optimizer.step(closure)
    optimizer.step(closure)
    before = x.detach().clone()
    with pytest.raises(DomainError, match=r"total_steps = 2.*got 2"):
        optimizer.step(closure)
    with pytest.raises(DomainError, match="total_steps = 2"):
        _ = optimizer.will_perturb
    assert torch.equal(x, before)
    assert optimizer.steps_taken == 2


# ---- restoration


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_come_back_bit_for_bit_at_the_same_addresses(dtype):
    model, batches = small_network(dtype=dtype)
    optimizer = RST(sgd(model.parameters(), lr=0.0), 1.0, rho=0.7)
    before, addresses = weights(model), [p.data_ptr() for p in model.parameters()]
    for batch in batches * 5:
        optimizer.step(network_closure(optimizer, model, batch))
        assert same(before, weights(model))
        assert [p.data_ptr() for p in model.parameters()] == addresses


class Interrupted(BaseException):
    """Like a KeyboardInterrupt: not an Exception."""


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, Interrupted])
def test_an_interrupted_second_pass_restores_and_does_not_count(error):
    model, batches = small_network()
    optimizer = RST(sgd(model.parameters(), momentum=0.9), 1.0, rho=0.5)
    optimizer.step(network_closure(optimizer, model, batches[0]))
    before, state = weights(model), copy.deepcopy(optimizer.state_dict())
    perturbed = []

    def closure():
        if not same(before, weights(model)):
            perturbed.append(True)
            raise error
        return network_closure(optimizer, model, batches[1])()

    with pytest.raises(error):
        optimizer.step(closure)
    assert perturbed == [True]
    assert same(before, weights(model))
    assert (optimizer.steps_taken, optimizer.perturbed_steps) == (1, 1)
    assert pickle.dumps(optimizer.state_dict()["rst"]) == pickle.dumps(state["rst"])

    # The same step again is the step that would have been.
    twin, _ = small_network()
    other = RST(sgd(twin.parameters(), momentum=0.9), 1.0, rho=0.5)
    for batch in batches[:2]:
        other.step(network_closure(other, twin, batch))
    optimizer.step(network_closure(optimizer, model, batches[1]))
    assert same(weights(model), weights(twin))


def test_weights_may_change_precision_between_steps():
    model, batches = small_network()
    optimizer = RST(sgd(model.parameters(), lr=0.0), 1.0)
    optimizer.step(network_closure(optimizer, model, batches[0]))
    model.double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1e-12)
    before = weights(model)
    optimizer.step(network_closure(optimizer, model, (batches[0][0].double(), batches[0][1])))
    assert same(before, weights(model))


# ---- gradients that are missing, zero, or beyond the floating range


@pytest.mark.parametrize("gamma", [1.0, 0.5, 2.5])
def test_missing_gradients(gamma):
    both, first, second, neither, frozen = (nn.Parameter(torch.tensor([3.0, 4.0])) for _ in range(5))
    frozen.requires_grad_(False)
    parameters = [both, first, second, neither, frozen]
    optimizer = RST(sgd(parameters, lr=1.0, weight_decay=0.0), 1.0, rho=5.0, gamma=gamma, ascent="normalized")
    seen = []

    def closure():
        optimizer.zero_grad()
        seen.append([p.detach().clone() for p in parameters])
        used = first if len(seen) == 1 else second
        ((both**2).sum() / 2 + 2 * used.sum()).backward()

    optimizer.step(closure)
    norm = math.sqrt(3**2 + 4**2 + 2**2 + 2**2)
    ascended = [3 + 5 * 3 / norm, 4 + 5 * 4 / norm]
    assert seen[1][0].tolist() == pytest.approx(ascended, rel=1e-6)
    assert seen[1][1].tolist() == pytest.approx([3 + 10 / norm, 4 + 10 / norm], rel=1e-6)
    for unmoved in seen[1][2:]:
        assert unmoved.tolist() == [3.0, 4.0]
    expected = [x - ((1 - gamma) * x + gamma * y) for x, y in zip([3, 4], ascended, strict=True)]
    assert both.tolist() == pytest.approx(expected, rel=1e-5, abs=1e-5)
    assert first.tolist() == pytest.approx([3 - 2 * (1 - gamma), 4 - 2 * (1 - gamma)], rel=1e-6)
    assert second.tolist() == pytest.approx([3 - 2 * gamma, 4 - 2 * gamma], rel=1e-6)
    assert neither.tolist() == frozen.tolist() == [3.0, 4.0]
    assert neither.grad is None and frozen.grad is None


def test_a_stale_gradient_of_a_frozen_parameter_does_not_perturb_it():
    trained, frozen = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = RST(sgd([trained], lr=0.1), 1.0, rho=1.0)
    optimizer.add_param_group({"params": [frozen], "lr": 0.0})
    frozen.grad = torch.full((2,), 7.0)
    frozen.requires_grad_(False)
    seen = []

    def closure():
        trained.grad = None
        seen.append(frozen.detach().clone())
        (trained**2).sum().backward()

    optimizer.step(closure)
    assert len(seen) == 2
    assert all(f.tolist() == [1.0, 1.0] for f in seen)
    assert frozen.grad.tolist() == [7.0, 7.0]


def test_no_gradient_at_all():
    x = nn.Parameter(torch.ones(2))
    optimizer = RST(sgd([x]), 1.0)
    assert optimizer.step(lambda: 1.5) == 1.5
    assert x.tolist() == [1.0, 1.0]
    assert optimizer.perturbed_steps == 1


@pytest.mark.parametrize("gamma", [1.0, 2.0])
@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
def test_a_zero_gradient_does_not_perturb(ascent, gamma):
    x = nn.Parameter(torch.zeros(3))
    optimizer = RST(sgd([x]), 1.0, gamma=gamma, ascent=ascent)
    closure = quadratic_closure(optimizer, [x], np.ones(3, dtype=np.float32))
    optimizer.step(closure)
    assert x.tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "dtype, size",
    [
        (torch.float32, 1e-30),
        (torch.float32, 1e-42),
        (torch.float32, 1e30),
        (torch.float64, 1e-200),
        (torch.float64, 1e200),
        (torch.float16, 1e-5),
        (torch.float16, 6e4),
        (torch.bfloat16, 1e-30),
    ],
)
def test_tiny_and_huge_gradients_are_normalized(dtype, size):
    x, y = (nn.Parameter(torch.zeros(2, dtype=dtype)) for _ in range(2))
    optimizer = RST(sgd([x, y], lr=0.0), 1.0, rho=1.0)
    seen = []

    def closure():
        seen.append(torch.cat([x, y]).detach().double().tolist())
        x.grad, y.grad = torch.full((2,), size, dtype=dtype), torch.full((2,), -size, dtype=dtype)

    optimizer.step(closure)
    tolerance = 4 * torch.finfo(dtype).eps
    assert seen[1] == pytest.approx([0.5, 0.5, -0.5, -0.5], rel=tolerance)


@pytest.mark.parametrize("ascent", ["normalized", "unnormalized"])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_gradient_that_is_not_finite_is_refused_at_a_perturbed_step(bad, ascent):
    x = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = RST(sgd([x]), Piecewise(0, 1, 0.5), 2, ascent=ascent)
    calls = []

    def closure():
        calls.append(1)
        x.grad = torch.tensor([1.0, bad if optimizer.steps_taken else 0.0])

    optimizer.step(closure)
    before = x.detach().clone()
    with pytest.raises(FloatingPointError, match=r"step 1 is (inf|nan)"):
        optimizer.step(closure)
    assert torch.equal(x, before)
    assert (len(calls), optimizer.steps_taken) == (2, 1)


def test_sparse_gradients():
    dense = nn.Embedding(5, 2, dtype=torch.float64)
    sparse = nn.Embedding(5, 2, sparse=True, dtype=torch.float64)
    sparse.load_state_dict(dense.state_dict())
    rows = torch.tensor([0, 3, 3])
    for layer in (dense, sparse):
        optimizer = RST(sgd(layer.parameters()), 1.0, rho=0.3, gamma=1.5)
        for _ in range(3):

            def closure():
                optimizer.zero_grad()  # noqa: B023
                (layer(rows) ** 2).sum().backward()  # noqa: B023

            optimizer.step(closure)
    assert torch.allclose(dense.weight, sparse.weight, rtol=1e-12, atol=1e-12)


def test_complex_parameters():
    z = nn.Parameter(torch.tensor([3 + 4j], dtype=torch.complex128))
    optimizer = RST(sgd([z], lr=0.1), 1.0, rho=0.5)

    def closure():
        optimizer.zero_grad()
        (z.abs() ** 2 / 2).sum().backward()

    optimizer.step(closure)  # gradient z; at z (1 + rho/|z|) it is 1.1 z
    assert z.item() == pytest.approx((3 + 4j) * (1 - 0.1 * 1.1), rel=1e-14)


# ---- schedulers, groups, checkpoints

SCHEDULERS = {
    "StepLR": lambda o: schedulers.StepLR(o, 3),
    "MultiStepLR": lambda o: schedulers.MultiStepLR(o, [2, 5]),
    "ConstantLR": lambda o: schedulers.ConstantLR(o),
    "LinearLR": lambda o: schedulers.LinearLR(o),
    "ExponentialLR": lambda o: schedulers.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: schedulers.PolynomialLR(o, 10),
    "CosineAnnealingLR": lambda o: schedulers.CosineAnnealingLR(o, 10),
    "CosineAnnealingWarmRestarts": lambda o: schedulers.CosineAnnealingWarmRestarts(o, 4),
    "OneCycleLR": lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=20),
    "CyclicLR": lambda o: schedulers.CyclicLR(o, 0.01, 0.1, step_size_up=3),
    "LambdaLR": lambda o: schedulers.LambdaLR(o, lambda t: 1 / (t + 1)),
    "MultiplicativeLR": lambda o: schedulers.MultiplicativeLR(o, lambda t: 0.9),
    "ReduceLROnPlateau": lambda o: schedulers.ReduceLROnPlateau(o, patience=1, threshold=0.5),
    "SequentialLR": lambda o: schedulers.SequentialLR(
        o, [schedulers.LinearLR(o), schedulers.ExponentialLR(o, 0.9)], milestones=[4]
    ),
    "ChainedScheduler": lambda o: schedulers.ChainedScheduler(
        [schedulers.ConstantLR(o), schedulers.ExponentialLR(o, 0.9)]
    ),
    "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, 0.01),
}


def history(optimizer, scheduled, model, batches, make_scheduler):
    scheduler, rates = make_scheduler(scheduled), []
    for batch in batches:
        loss = optimizer.step(network_closure(optimizer, model, batch))
        if isinstance(scheduler, schedulers.ReduceLROnPlateau):
            scheduler.step(loss.item())
        else:
            scheduler.step()
        rates.append([(g["lr"], g["momentum"]) for g in scheduled.param_groups])
    return rates, weights(model)


@pytest.mark.parametrize("attached", ["RST", "base"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_learning_rate_schedulers_work_unpatched(name, attached):
    model, batches = small_network()
    twin = copy.deepcopy(model)
    plain = sgd(twin.parameters(), momentum=0.9)
    expected = history(plain, plain, twin, batches, SCHEDULERS[name])
    optimizer = RST(sgd(model.parameters(), momentum=0.9), 0.0)
    scheduled = optimizer if attached == "RST" else optimizer.base
    rates, final = history(optimizer, scheduled, model, batches, SCHEDULERS[name])
    assert rates == expected[0]
    assert len({tuple(r) for r in rates}) > 1
    assert same(final, expected[1])


def test_groups_state_and_defaults_are_the_bases_own():
    model, batches = small_network()
    extra = nn.Parameter(torch.ones(2))
    optimizer = RST(sgd(model.parameters(), momentum=0.9), 0.5)

    def shared():
        base = optimizer.base
        return (
            optimizer.param_groups is base.param_groups
            and optimizer.state is base.state
            and optimizer.defaults is base.defaults
        )

    assert shared()
    optimizer.step(network_closure(optimizer, model, batches[0]))
    optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert shared()
    optimizer.base.load_state_dict(copy.deepcopy(optimizer.base.state_dict()))
    assert shared()
    optimizer.add_param_group({"params": [extra], "lr": 0.5})
    assert shared()
    assert [g["lr"] for g in optimizer.base.param_groups] == [ETA, 0.5]
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert optimizer.defaults["momentum"] == 0.9


BASES = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, nesterov=True),
    "adamw": lambda parameters: torch.optim.AdamW(parameters, lr=0.01),
}


@pytest.mark.parametrize("total_steps", [20, None])
@pytest.mark.parametrize("name", BASES)
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(name, total_steps):
    def make():
        model, batches = small_network()
        schedule = Constant(0.5) if total_steps is None else Linear(0.0, 1.0)
        return model, batches, RST(BASES[name](model.parameters()), schedule, total_steps, 0.1, 2.0, seed=4)

    whole, batches, optimizer = make()
    for batch in batches:
        optimizer.step(network_closure(optimizer, whole, batch))
    assert 0 < optimizer.perturbed_steps < 20

    first, _, stopped = make()
    for batch in batches[:9]:
        stopped.step(network_closure(stopped, first, batch))
    file = io.BytesIO()
    torch.save({"model": first.state_dict(), "optimizer": stopped.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second, _, resumed = make()
    second.load_state_dict(saved["model"])
    resumed.load_state_dict(saved["optimizer"])
    assert (resumed.steps_taken, resumed.perturbed_steps) == (stopped.steps_taken, stopped.perturbed_steps)
    for batch in batches[9:]:
        resumed.step(network_closure(resumed, second, batch))
    assert same(weights(whole), weights(second))
    assert resumed.perturbed_steps == optimizer.perturbed_steps


PLAN = {"schedule": 0.5, "total_steps": 10, "rho": 0.1, "gamma": 1.0, "seed": 3, "trials": "independent"}


@pytest.mark.parametrize(
    "change",
    [
        {"schedule": 0.25},
        {"schedule": Linear(0, 1)},
        {"total_steps": 11},
        {"total_steps": None},
        {"rho": 0.2},
        {"gamma": np.full(10, 1.0)},
        {"seed": 4},
        {"trials": "systematic"},
        {"ascent": "unnormalized"},
        {"sync_perturbation": False},
    ],
    ids=str,
)
def test_a_checkpoint_of_another_plan_is_refused(change):
    x = nn.Parameter(torch.ones(1))
    saved = RST(sgd([x]), **PLAN).state_dict()
    other = RST(sgd([x]), **{**PLAN, **change})
    with pytest.raises(ValueError, match=f"saved state has {next(iter(change))} = "):
        other.load_state_dict(saved)
    assert other.steps_taken == 0
    RST(sgd([x]), **{**PLAN, "schedule": Constant(0.5)}).load_state_dict(saved)


def test_a_state_that_is_not_ours_is_refused():
    x = nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="'rst'"):
        RST(sgd([x]), 0.5).load_state_dict(sgd([x]).state_dict())


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda rst: rst["plan"].pop("clip_ascent"), "saved state has no 'clip_ascent'"),
        (lambda rst: rst["plan"].update(colour=1), "this optimizer has no 'colour'"),
        (lambda rst: rst.pop("plan"), "no .*'plan'"),
        (lambda rst: rst.pop("perturbed_steps"), "no .*'perturbed_steps'"),
    ],
    ids=["a setting of later", "a setting we do not know", "no plan", "no counter"],
)
def test_a_checkpoint_of_another_version_is_refused_before_any_of_it_is_loaded(spoil, told):
    x = nn.Parameter(torch.ones(1))
    saved = copy.deepcopy(RST(sgd([x], momentum=0.5), 0.5).state_dict())
    spoil(saved["rst"])
    other = RST(sgd([x], momentum=0.9), 0.5)
    with pytest.raises(ValueError, match=told):
        other.load_state_dict(saved)
    assert other.base.param_groups[0]["momentum"] == 0.9


def test_hooks_run():
    x = nn.Parameter(torch.ones(1))
    optimizer, calls = RST(sgd([x]), 1.0), []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before step"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after step"))
    optimizer.base.register_step_post_hook(lambda *_: calls.append("after base step"))
    optimizer.register_state_dict_pre_hook(lambda _: calls.append("before save"))
    optimizer.register_state_dict_post_hook(lambda _, state: {**state, "mark": 1})
    optimizer.register_load_state_dict_pre_hook(lambda _, state: calls.append(state.pop("mark")))
    optimizer.register_load_state_dict_post_hook(lambda _: calls.append("after load"))
    optimizer.step(quadratic_closure(optimizer, [x], np.ones(1, dtype=np.float32)))
    optimizer.load_state_dict(optimizer.state_dict())
    assert calls == ["before step", "after base step", "after step", "before save", 1, "after load"]


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))])
def test_a_copy_goes_on_alone(copier):
    model, batches = small_network()
    optimizer = RST(sgd(model.parameters(), momentum=0.9), 0.5, 20, seed=2)
    schedulers.StepLR(optimizer, 3)  # patches step on the instance
    for batch in batches[:5]:
        optimizer.step(network_closure(optimizer, model, batch))
    twin, other = copier((model, optimizer))
    assert other.steps_taken == 5
    for batch in batches[5:]:
        optimizer.step(network_closure(optimizer, model, batch))
    assert not same(weights(model), weights(twin))
    for batch in batches[5:]:
        other.step(network_closure(other, twin, batch))
    assert same(weights(model), weights(twin))


# ---- refusals


class NeedsLoss(torch.optim.SGD):
    """A base whose step needs an argument, by its name."""

    def step(self, closure=None, *, loss):
        return super().step(closure)


def test_what_the_constructor_refuses():
    x = nn.Parameter(torch.ones(1))
    base = sgd([x])
    with pytest.raises(TypeError, match="LBFGS needs a closure"):
        RST(torch.optim.LBFGS([x]), 0.5)
    with pytest.raises(TypeError, match="RST needs a closure"):
        RST(RST(base, 0.5), 0.5)
    with pytest.raises(TypeError, match="NeedsLoss needs a loss"):
        RST(NeedsLoss([x], lr=ETA), 0.5)
    with pytest.raises(TypeError, match=r"must be a torch.optim.Optimizer"):
        RST([x], 0.5)
    for name in ("schedule", "rho"):
        with pytest.raises(TypeError, match=f"{name} must be a number.*None"):
            RST(base, **{"schedule": 0.5, name: None})
    for name in ("schedule", "rho", "gamma"):
        for horizon in (Linear(0, 1), [0.5, 0.5], FromExpression("t / T")):
            with pytest.raises(ValueError, match=f"{name} = .*give total_steps"):
                RST(base, **{"schedule": 0.5, name: horizon})
    with pytest.raises(ValueError, match=r"systematic.*give total_steps"):
        RST(base, 0.5, trials="systematic")
    with pytest.raises(ValueError, match="trials must be"):
        RST(base, 0.5, trials="random")
    with pytest.raises(ValueError, match="ascent must be"):
        RST(base, 0.5, ascent="steepest")
    with pytest.raises(DomainError, match="probability p"):
        RST(base, 1.5)
    with pytest.raises(DomainError, match=r"probability p.* at t = 0"):
        RST(base, InverseSqrt(1.5))
    with pytest.raises(DomainError, match=r"probability p.* at t = 1"):
        RST(base, [0.5, 1.5], 2)
    with pytest.raises(DomainError, match="radius rho"):
        RST(base, 0.5, rho=-0.1)
    with pytest.raises(DomainError, match="mixing coefficient gamma"):
        RST(base, 0.5, gamma=math.nan)
    with pytest.raises(DomainError, match="seed"):
        RST(base, 0.5, seed=-1)
    with pytest.raises(DomainError, match="total_steps"):
        RST(base, 0.5, total_steps=0)
    with pytest.raises(ValueError):
        RST(base, 0.5, 3, rho=[0.1, 0.2])
    with pytest.raises(ValueError, match="rho must be a number"):
        RST(base, 0.5, 3, rho=np.ones((3, 1)))


def test_what_a_group_says_of_its_perturbation_is_not_lost_where_it_is_refused():
    x, y, z = (nn.Parameter(torch.ones(1)) for _ in range(3))
    base = sgd([{"params": [x], "perturb": False}, {"params": [y], "perturb": -1.0}])
    with pytest.raises(DomainError, match="radius rho"):
        RST(base, 0.5)
    base.param_groups[1]["perturb"] = 0.25
    with pytest.raises(ValueError, match="not both"):
        RST(base, 0.5, perturb_groups=[True, True])
    optimizer = RST(base, 0.5)
    base.add_param_group({"params": [z], "perturb": -1.0})
    for _ in range(2):  # not taken for an unmarked group the second time
        with pytest.raises(DomainError, match="radius rho"):
            optimizer.state_dict()
    base.param_groups[2]["perturb"] = False
    saved = optimizer.state_dict()["rst"]["plan"]["perturb_groups"]
    assert [group["moves"] for group in saved] == [False, True, False]
    assert saved[1]["rho"] == Constant(0.25).to_dict()
    assert not any("perturb" in group for group in base.param_groups)


def test_a_value_that_leaves_its_domain_later_is_named_with_its_step():
    x = nn.Parameter(torch.ones(1))
    optimizer = RST(sgd([x]), FromExpression("t / 2"))
    closure = quadratic_closure(optimizer, [x], np.ones(1, dtype=np.float32))
    for _ in range(3):
        optimizer.step(closure)
    with pytest.raises(DomainError, match=r"probability p.*1.5 at t = 3"):
        optimizer.step(closure)


def test_a_missing_closure_says_what_to_pass():
    x = nn.Parameter(torch.ones(1))
    for arguments in ((), (None,)):
        with pytest.raises(TypeError, match="closure that clears the gradients"):
            RST(sgd([x]), 0.5).step(*arguments)


def test_it_prints_what_it_is():
    text = repr(RST(sgd([nn.Parameter(torch.ones(1))]), 0.5, rho=0.1))
    assert text.startswith(
        "RST(schedule=Constant(0.5), total_steps=None, rho=Constant(0.1), gamma=Constant(1.0)"
    )
    assert "SGD" in text
