"""Half precision: the real torch GradScaler on the CPU against the same run without one; bf16 autocast."""

import copy
import math

import numpy as np
import pytest
import torch
from test_optim import SCHEDULERS, same, sgd, small_network, weights
from torch import nn
from torch.amp import GradScaler

from rst_theory.optim import RST

SCALE = 2.0**12


def scaler_of(scale=SCALE, **options):
    return GradScaler("cpu", init_scale=scale, growth_interval=3, **options)


def loss_of(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def closure_of(optimizer, model, batch, scaler):
    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss

    return closure


def step_in_two_calls(optimizer, model, batch, scaler):
    def backward():
        loss = loss_of(model, batch)
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss

    optimizer.zero_grad()
    with optimizer.first_pass():
        loss = backward()
    if optimizer.will_perturb:
        with optimizer.perturbed(scaler):
            backward()
    optimizer.step(scaler=scaler)
    return loss


def trained(model, batches, scaler, two_calls=False, **options):
    """Losses and weights of a run; a power of two as scale makes all its products exact."""
    optimizer = RST(sgd(model.parameters(), momentum=0.9, lr=0.05), 0.6, rho=0.25, seed=1, **options)
    losses = []
    for batch in batches:
        if two_calls:
            losses.append(step_in_two_calls(optimizer, model, batch, scaler))
        else:
            losses.append(optimizer.step(closure_of(optimizer, model, batch, scaler), scaler=scaler))
        if scaler is not None:
            scaler.update()
    assert 0 < optimizer.perturbed_steps < len(batches)
    return [loss.item() for loss in losses], weights(model)


OPTIONS = [
    {},
    {"gamma": 0.5},
    {"gamma": 2.0, "adaptive": True},
    {"ascent": "unnormalized"},
    {"ascent": "unnormalized", "clip_ascent": 0.1, "adaptive": True},
    {"clip_direction": 0.2, "gamma": 0.5},
    {"storage": "copy", "replay_randomness": True},
]


@pytest.mark.parametrize("two_calls", [False, True])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_scaled_run_is_the_unscaled_one_bit_for_bit(options, two_calls):
    model, batches = small_network()
    twin = copy.deepcopy(model)
    scaler = scaler_of()
    scaled = trained(model, batches, scaler, two_calls, **options)
    plain = trained(twin, batches, None, **options)
    assert scaled[0] == plain[0]
    assert same(scaled[1], plain[1])
    assert scaler.get_scale() > SCALE  # it grew in between


@pytest.mark.parametrize("scale", [1000.0, 3e4])
def test_a_scale_that_is_no_power_of_two_costs_rounding_only(scale):
    model, batches = small_network(dtype=torch.float64)
    twin = copy.deepcopy(model)
    for options in OPTIONS:
        scaled = trained(copy.deepcopy(model), batches, scaler_of(scale), **options)
        plain = trained(copy.deepcopy(twin), batches, None, **options)
        np.testing.assert_allclose(scaled[0], plain[0], rtol=1e-5)  # the scaler unscales in single precision


def test_a_disabled_scaler_changes_nothing():
    model, batches = small_network()
    twin, third = copy.deepcopy(model), copy.deepcopy(model)
    for options in OPTIONS:
        plain = trained(copy.deepcopy(model), batches, None, **options)
        for two_calls in (False, True):
            off = trained(copy.deepcopy(twin), batches, scaler_of(enabled=False), two_calls, **options)
            assert off[0] == plain[0] and same(off[1], plain[1])
    optimizer = RST(sgd(third.parameters()), 1.0)
    x = next(third.parameters())

    def closure():
        optimizer.zero_grad()
        x.grad = torch.full_like(x, math.inf)

    with pytest.raises(FloatingPointError, match="first gradient of step 0"):
        optimizer.step(closure, scaler=scaler_of(enabled=False))


@pytest.mark.parametrize("two_calls", [False, True])
@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", ["first", "second", "unperturbed", "left out"])
@pytest.mark.parametrize(
    "options", [{}, {"gamma": 0.5}, {"clip_direction": 1.0, "gamma": 0.5, "ascent": "unnormalized"}], ids=str
)
def test_an_overflow_skips_the_step_and_training_goes_on(options, where, bad, two_calls):
    """Step 2 of 5 overflows: weights and momentum are those of a run that never took it."""
    model, batches = small_network()
    twin = copy.deepcopy(model)
    p = [1.0, 1.0, 0.0 if where == "unperturbed" else 1.0, 1.0, 1.0]

    def run(model, spoiled):
        parameters = list(model.parameters())
        base = sgd([{"params": parameters[:3]}, {"params": parameters[3:]}], momentum=0.9)
        optimizer = RST(base, p, 5, rho=0.2, perturb_groups=[True, False], **options)
        scaler = GradScaler("cpu", init_scale=SCALE)
        for t, batch in enumerate(batches[:5]):
            if not spoiled and t == 2:
                optimizer.steps_taken += 1
                continue
            before = weights(model)
            momentum = copy.deepcopy([base.state[q].get("momentum_buffer") for q in parameters])
            passes = []

            def backward():
                scaler.scale(loss_of(model, batch)).backward()  # noqa: B023
                passes.append(optimizer.is_perturbed)  # noqa: B023
                if t == 2 and optimizer.is_perturbed == (where == "second"):  # noqa: B023
                    (parameters[3] if where == "left out" else parameters[0]).grad.view(-1)[0] = bad

            def closure():
                optimizer.zero_grad()
                backward()

            scale = scaler.get_scale()
            if two_calls:
                closure()
                if optimizer.will_perturb:
                    with optimizer.perturbed(scaler):
                        backward()
                optimizer.step(scaler=scaler)
            else:
                optimizer.step(closure, scaler=scaler)
            assert not optimizer.is_perturbed
            scaler.update()
            assert passes == [False, True][: 2 if p[t] else 1]
            if t == 2 and not (where == "left out" and options == {}):  # at gamma = 1 that one is not used
                assert same(weights(model), before)
                after = [base.state[q].get("momentum_buffer") for q in parameters]
                assert same(after, momentum)
                assert scaler.get_scale() == scale / 2
            else:
                assert scaler.get_scale() == scale
        assert optimizer.steps_taken == 5
        return weights(model)

    spoiled = run(model, True)
    assert all(torch.isfinite(w).all() for w in spoiled)
    if not (where == "left out" and options == {}):
        assert same(spoiled, run(twin, False))


def test_a_scale_that_is_too_large_is_lowered_until_training_goes_on():
    """Gradients that pass through half precision overflow at 2^24 times the loss, at 2^10 they do not."""
    model, batches = small_network()
    optimizer = RST(sgd(model.parameters(), lr=0.1), 1.0, rho=0.1)
    scaler = scaler_of(2.0**24)
    parameters, skipped = list(model.parameters()), 0
    for batch in batches:
        before = weights(model)

        def closure():
            optimizer.zero_grad()
            scaler.scale(loss_of(model, batch)).backward()  # noqa: B023
            for p in parameters:
                p.grad = p.grad.half().float()

        scale = scaler.get_scale()
        optimizer.step(closure, scaler=scaler)
        scaler.update()
        assert same(weights(model), before) == (scaler.get_scale() < scale)
        skipped += scaler.get_scale() < scale
        assert all(torch.isfinite(w).all() for w in weights(model))
    assert 0 < skipped < len(batches) - 5
    assert optimizer.steps_taken == len(batches)


def test_the_caller_may_unscale_and_clip_the_direction_himself():
    model, batches = small_network()
    twin = copy.deepcopy(model)
    scaler = scaler_of()
    optimizer = RST(sgd(model.parameters(), momentum=0.9), 1.0, gamma=0.5)
    other = RST(sgd(twin.parameters(), momentum=0.9), 1.0, gamma=0.5, clip_direction=0.1)
    for batch in batches[:6]:
        optimizer.zero_grad()
        scaler.scale(loss_of(model, batch)).backward()
        with optimizer.perturbed(scaler):
            scaler.scale(loss_of(model, batch)).backward()
        scaler.unscale_(optimizer.base)
        nn.utils.clip_grad_norm_(model.parameters(), 0.1)
        optimizer.step(scaler=scaler)
        scaler.update()
        step_in_two_calls(other, twin, batch, None)
    for a, b in zip(weights(model), weights(twin), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)  # torch's clipping adds 1e-6 to the length


@pytest.mark.parametrize("two_calls", [False, True])
@pytest.mark.parametrize("attached", ["RST", "base"])
@pytest.mark.parametrize("name", ["StepLR", "OneCycleLR", "CosineAnnealingLR", "SequentialLR"])
def test_learning_rate_schedulers_work_with_a_scaler_and_in_two_calls(name, attached, two_calls):
    model, batches = small_network()
    twin = copy.deepcopy(model)
    optimizer = RST(sgd(model.parameters(), momentum=0.9), 0.0)
    plain = sgd(twin.parameters(), momentum=0.9)
    schedule = SCHEDULERS[name](optimizer if attached == "RST" else optimizer.base)
    expected, scaler = SCHEDULERS[name](plain), scaler_of()
    for batch in batches[:8]:
        if two_calls:
            step_in_two_calls(optimizer, model, batch, scaler)
        else:
            optimizer.step(closure_of(optimizer, model, batch, scaler), scaler=scaler)
        scaler.update()
        schedule.step()
        plain.step(closure_of(plain, twin, batch, None))
        expected.step()
        assert [g["lr"] for g in optimizer.param_groups] == [g["lr"] for g in plain.param_groups]
    assert same(weights(model), weights(twin))


def test_a_first_step_that_is_skipped_brings_no_warning_of_a_scheduler_attached_to_us():
    x = nn.Parameter(torch.ones(2))
    optimizer, scaler = RST(sgd([x]), 1.0), scaler_of()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)

    def closure():
        scaler.scale(x.sum() * 0)
        x.grad = torch.full((2,), math.inf)

    optimizer.step(closure, scaler=scaler)
    scaler.update()
    schedule.step()
    assert x.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_bf16_autocast_is_sam_with_the_gradients_of_autocast(gamma):
    model, batches = small_network()
    twin = copy.deepcopy(model)
    optimizer, base = RST(sgd(model.parameters()), 1.0, rho=0.1, gamma=gamma), sgd(twin.parameters())
    for batch in batches[:5]:

        def closure():
            optimizer.zero_grad()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = loss_of(model, batch)  # noqa: B023
            loss.backward()
            return loss

        optimizer.step(closure)

        def gradient():
            with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
                loss = loss_of(twin, batch)  # noqa: B023
            return torch.autograd.grad(loss, list(twin.parameters()))

        old, g = weights(twin), gradient()
        norm = math.sqrt(sum(float(part.double().square().sum()) for part in g))
        with torch.no_grad():
            for p, part in zip(twin.parameters(), g, strict=True):
                p.add_(part, alpha=0.1 / norm)
        g_adv = gradient()
        with torch.no_grad():
            for p, x, a, b in zip(twin.parameters(), old, g, g_adv, strict=True):
                p.copy_(x)
                p.grad = (1 - gamma) * a + gamma * b
        base.step()
        # From equal weights: what single precision leaves open, the rounding to bfloat16 would amplify.
        for p, q in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(p, q, rtol=1e-2, atol=1e-3)
        twin.load_state_dict(model.state_dict())
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_gradients_are_accumulated_under_a_scaler_too():
    model, batches = small_network()
    twin = copy.deepcopy(model)
    scaler = scaler_of()
    optimizer = RST(sgd(model.parameters()), 1.0, rho=0.1, gamma=0.5)
    other = RST(sgd(twin.parameters()), 1.0, rho=0.1, gamma=0.5)
    for first, second in zip(batches[::2], batches[1::2], strict=True):
        parts = [first, second]

        def closure():
            optimizer.zero_grad()
            for part in parts:  # noqa: B023
                scaler.scale(loss_of(model, part) / 2).backward()

        def plain():
            other.zero_grad()
            for part in parts:  # noqa: B023
                (loss_of(twin, part) / 2).backward()

        optimizer.step(closure, scaler=scaler)
        scaler.update()
        other.step(plain)
    assert same(weights(model), weights(twin))
