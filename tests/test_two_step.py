"""The two-step interface against a SAM written out by hand and against pytorch_optimizer's."""

import copy
import io

import numpy as np
import pytest
import torch
from conftest import ONE_STEP
from hypothesis import given, settings, strategies as st
from test_optim_run import Scaler
from torch import nn
from torch.optim import lr_scheduler as schedulers

from rst_theory.notation import DomainError
from rst_theory.optim import RST
from rst_theory.optim.two_step import SAM
from rst_theory.schedules import Linear, Tabulated

ETA, RHO, MOMENTUM = 0.25, 0.5, 0.9


def network(seed=0, dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).to(dtype)
        inputs, targets = torch.randn(6, 8, 4, dtype=dtype), torch.randint(3, (6, 8))
    return model, list(zip(inputs, targets, strict=True))


def loss_of(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def weights(model):
    return [p.detach().clone() for p in model.parameters()]


def close(first, second, tolerance=ONE_STEP):
    return all((a - b).abs().max() <= tolerance * b.abs().max() for a, b in zip(first, second, strict=True))


def equal(first, second):
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def by_hand(
    model, batches, *, trials=None, rho=RHO, gamma=1.0, adaptive=False, epsilon=0.0, momentum=MOMENTUM
):
    """SAM written out: T^2 g / (||T g|| + epsilon), T = |x| or 1; then SGD with momentum."""
    parameters = list(model.parameters())
    velocity = [torch.zeros_like(p) for p in parameters]
    for t, batch in enumerate(batches):
        g = torch.autograd.grad(loss_of(model, batch), parameters)
        direction = g
        if trials is None or trials[t]:
            T = [p.detach().abs() if adaptive else torch.ones_like(p) for p in parameters]
            norm = torch.cat([(s * v).flatten() for s, v in zip(T, g, strict=True)]).norm()
            home = weights(model)
            with torch.no_grad():
                for p, s, v in zip(parameters, T, g, strict=True):
                    p += RHO * s**2 * v / norm
            second = torch.autograd.grad(loss_of(model, batch), parameters)
            direction = [(1 - gamma) * v + gamma * w for v, w in zip(g, second, strict=True)]
            with torch.no_grad():
                for p, x in zip(parameters, home, strict=True):
                    p.copy_(x)
        velocity = [MOMENTUM * m + d for m, d in zip(velocity, direction, strict=True)]
        with torch.no_grad():
            for p, m in zip(parameters, velocity, strict=True):
                p -= ETA * m
    return weights(model)


def sam(model, /, **options):
    return SAM(
        model.parameters(), torch.optim.SGD, **{"rho": RHO, "lr": ETA, "momentum": MOMENTUM, **options}
    )


def two_steps(optimizer, model, batches):
    for batch in batches:
        loss_of(model, batch).backward()
        optimizer.first_step(zero_grad=True)
        loss_of(model, batch).backward()
        optimizer.second_step(zero_grad=True)


def closure_of(optimizer, model, batch):
    def closure():
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        return loss

    return closure


def steps_after_a_first_backward(optimizer, model, batches):
    """The peers' convention: the caller has run the first backward."""
    for batch in batches:
        closure = closure_of(optimizer, model, batch)
        optimizer.zero_grad()
        closure()
        assert optimizer.step(closure) is None


def steps_with_a_closure(optimizer, model, batches):
    """That of `RST`: the closure runs both passes."""
    for batch in batches:
        closure = closure_of(optimizer, model, batch)
        before = loss_of(model, batch)
        assert optimizer.step(closure) == before


def steps_that_ask(optimizer, model, batches):
    """Second passes only where they are needed."""
    for batch in batches:
        loss_of(model, batch).backward()
        if optimizer.will_perturb:
            optimizer.first_step()
            loss_of(model, batch).backward()
        optimizer.second_step(zero_grad=True)


WAYS = [two_steps, steps_after_a_first_backward, steps_with_a_closure, steps_that_ask]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("adaptive", [False, True])
def test_every_way_to_step_is_the_sam_written_out(way, adaptive):
    model, batches = network()
    expected = by_hand(copy.deepcopy(model), batches, adaptive=adaptive)
    optimizer = sam(model, adaptive=adaptive)
    way(optimizer, model, batches)
    # Six steps from equal states, at whose end rounding has been multiplied a little.
    assert close(weights(model), expected, 1e2 * ONE_STEP)
    assert optimizer.perturbed_steps == optimizer.steps_taken == 6


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("gamma", [1.0, 2.0, 0.0])
def test_every_way_to_step_follows_the_schedule(way, gamma):
    trials = (1, 0, 0, 1, 0, 1)
    model, batches = network()
    expected = by_hand(copy.deepcopy(model), batches, trials=trials, gamma=gamma)
    optimizer = sam(model, schedule=Tabulated(trials), total_steps=6, gamma=gamma)
    way(optimizer, model, batches)
    assert close(weights(model), expected, 1e2 * ONE_STEP)
    assert (optimizer.perturbed_steps, optimizer.steps_taken) == (3, 6)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**64 - 1), p=st.floats(0, 1), way=st.sampled_from(WAYS))
def test_the_trials_are_those_of_rst(seed, p, way):
    model, batches = network()
    mine = sam(model, schedule=p, seed=seed)
    other, _ = network()
    base = torch.optim.SGD(other.parameters(), lr=ETA, momentum=MOMENTUM)
    theirs = RST(base, p, rho=RHO, seed=seed)
    way(mine, model, batches)
    for batch in batches:
        theirs.step(lambda batch=batch: (theirs.zero_grad(), loss_of(other, batch).backward()))
    assert equal(weights(model), weights(other)) and mine.perturbed_steps == theirs.perturbed_steps


# ---- against the peer


def peers_step(model, batch, adaptive):
    peer = pytest.importorskip("pytorch_optimizer")
    options = {"rho": RHO, "adaptive": adaptive, "lr": ETA, "momentum": MOMENTUM}
    optimizer = peer.SAM(model.parameters(), torch.optim.SGD, **options)
    two_steps(optimizer, model, [batch])
    return weights(model)


@pytest.mark.parametrize("adaptive", [False, True])
def test_one_step_is_the_peers_in_single_precision(adaptive):
    mine, batches = network(dtype=torch.float32)
    theirs = copy.deepcopy(mine)
    two_steps(sam(mine, adaptive=adaptive), mine, batches[:1])
    assert close(weights(mine), peers_step(theirs, batches[0], adaptive), 1e-6)


@pytest.mark.parametrize("adaptive", [False, True])
def test_one_step_is_the_peers_in_double_precision_where_its_single_precision_is_exact(adaptive):
    """The peer takes rho / (||g|| + 1e-12) in float32: .625 / 5 is exact there, and 1e-12 vanishes."""
    rho = 0.625

    def step(make):
        x = nn.Parameter(torch.tensor([1.0, -1.0], dtype=torch.float64))
        optimizer = make([x], torch.optim.SGD, rho=rho, adaptive=adaptive, lr=ETA)
        for first in (True, False):
            # The gradient is (3, 4) at (1, -1), with a curvature.
            ((2 + x[0]) ** 2 / 2 + (5 + x[1]) ** 2 / 2).backward()
            (optimizer.first_step if first else optimizer.second_step)(zero_grad=True)
        return x.detach()

    peer = pytest.importorskip("pytorch_optimizer")
    g = torch.tensor([3.0, 4.0], dtype=torch.float64)  # and |x| = 1: the adaptive one is the same
    by_formula = torch.tensor([1.0, -1.0], dtype=torch.float64) - ETA * (g + rho * g / 5)
    assert close([step(SAM)], [step(peer.SAM)]) and close([step(SAM)], [by_formula])


# ---- the interface


@pytest.mark.parametrize("zero_grad", [False, True])
def test_the_second_backward_never_adds_to_the_first(zero_grad):
    model, batches = network()
    expected = by_hand(copy.deepcopy(model), batches[:1])
    optimizer = sam(model)
    loss_of(model, batches[0]).backward()
    optimizer.first_step(zero_grad=zero_grad)
    assert all(p.grad is None for p in model.parameters())
    loss_of(model, batches[0]).backward()
    optimizer.second_step(zero_grad=zero_grad)
    assert close(weights(model), expected)
    assert all((p.grad is None) == zero_grad for p in model.parameters())


def test_a_step_that_is_not_perturbed_moves_nothing_and_drops_the_second_gradients():
    model, batches = network()
    optimizer = sam(model, schedule=0.0)
    before = weights(model)
    loss_of(model, batches[0]).backward()
    first = [p.grad.clone() for p in model.parameters()]
    optimizer.first_step()
    assert equal(weights(model), before) and not optimizer.is_perturbed
    loss_of(model, batches[1]).backward()
    optimizer.second_step()
    assert equal([p.grad for p in model.parameters()], first)
    assert optimizer.steps_taken == 1 and optimizer.perturbed_steps == 0


def test_between_the_steps_the_weights_are_the_perturbed_ones():
    model, batches = network()
    optimizer, before = sam(model), weights(model)
    loss_of(model, batches[0]).backward()
    optimizer.first_step()
    moved = torch.cat([(a - b).flatten() for a, b in zip(weights(model), before, strict=True)])
    assert abs(moved.norm() - RHO) < 1e-12 and optimizer.is_perturbed


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_statistics_are_counted_once(p):
    layer = nn.BatchNorm1d(4, momentum=None).double()
    model, (batch, *_) = nn.Sequential(layer, network()[0]), network()[1]
    optimizer = sam(model, schedule=p, model=model)
    two_steps(optimizer, model, [batch])
    assert layer.num_batches_tracked == 1
    assert torch.allclose(layer.running_mean, batch[0].mean(0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_what_comes_between_the_steps_is_refused_until_the_second_or_an_end(p):
    model, batches = network()
    optimizer, before = sam(model, schedule=p), weights(model)
    state = optimizer.state_dict()
    loss_of(model, batches[0]).backward()
    optimizer.first_step()
    calls = {"first_step": (), "step": (), "state_dict": (), "load_state_dict": (state,)}
    for name, arguments in calls.items():
        with pytest.raises(RuntimeError, match=f"^{name} was called between first_step and second_step"):
            getattr(optimizer, name)(*arguments)
    optimizer.abandon()
    optimizer.abandon()
    assert equal(weights(model), before) and optimizer.steps_taken == 0 and not optimizer.is_perturbed
    two_steps(optimizer, model, batches[:1])
    again, _ = network()
    two_steps(sam(again, schedule=p), again, batches[:1])
    assert equal(weights(model), weights(again))


def test_a_pass_that_raises_can_be_abandoned():
    model, batches = network()
    optimizer, before = sam(model), weights(model)
    loss_of(model, batches[0]).backward()
    optimizer.first_step()
    loss_of(model, batches[1]).backward()
    with pytest.raises(ValueError, match="batch_size"):
        loss_of(model, (batches[0][0], batches[0][1][:1])).backward()
    optimizer.abandon()
    assert equal(weights(model), before) and all(p.grad is None for p in model.parameters())


def test_a_closure_that_raises_leaves_the_weights_where_they_were():
    model, batches = network()
    optimizer, before = sam(model), weights(model)
    loss_of(model, batches[0]).backward()

    def closure():
        raise ValueError("no data")

    with pytest.raises(ValueError, match="no data"):
        optimizer.step(closure)
    assert equal(weights(model), before) and optimizer.steps_taken == 0


def test_calls_out_of_order_are_named():
    model, batches = network()
    optimizer = sam(model)
    with pytest.raises(RuntimeError, match="first_step needs the gradients of the first backward"):
        optimizer.first_step()
    loss_of(model, batches[0]).backward()
    with pytest.raises(RuntimeError, match="second_step comes after first_step"):
        optimizer.second_step()
    with pytest.raises(TypeError, match="closure"):
        optimizer.step()
    with pytest.raises(DomainError, match="total_steps = 1"):
        two_steps(sam(model, schedule=Linear(1, 1), total_steps=1), model, batches[:2])


def test_the_way_of_rst_leaves_no_gradients_that_would_count_as_a_first_backward():
    model, batches = network()
    optimizer = sam(model)
    steps_with_a_closure(optimizer, model, batches[:1])
    assert all(p.grad is None for p in model.parameters())


def test_the_context_of_rst_can_be_used_too():
    model, batches = network()
    expected = by_hand(copy.deepcopy(model), batches[:1])
    optimizer = sam(model)
    loss_of(model, batches[0]).backward()
    with optimizer.perturbed():
        loss_of(model, batches[0]).backward()
    with pytest.raises(RuntimeError, match="step 0"):
        optimizer.step(lambda: None)
    optimizer.second_step()
    assert close(weights(model), expected)


def test_groups_say_their_own_radius_as_the_peers_do():
    model, batches = network()
    first, last = list(model[0].parameters()), list(model[2].parameters())
    expected = copy.deepcopy(model)
    base = torch.optim.SGD(expected.parameters(), lr=ETA)
    groups = [{"params": first, "rho": 0.1, "adaptive": True, "lr": ETA / 2}, {"params": last}]
    given = [dict(group) for group in groups]
    optimizer = SAM(groups, torch.optim.SGD, rho=RHO, lr=ETA)
    assert [set(g) for g in groups] == [set(g) for g in given]
    two_steps(optimizer, model, batches[:1])
    # Written out.
    parameters = list(expected.parameters())
    g = torch.autograd.grad(loss_of(expected, batches[0]), parameters)
    T = [p.detach().abs() for p in parameters[:2]] + [torch.ones_like(p) for p in parameters[2:]]
    norm = torch.cat([(s * v).flatten() for s, v in zip(T, g, strict=True)]).norm()
    home = weights(expected)
    with torch.no_grad():
        for p, s, v, rho in zip(parameters, T, g, [0.1, 0.1, RHO, RHO], strict=True):
            p += rho * s**2 * v / norm
    second = torch.autograd.grad(loss_of(expected, batches[0]), parameters)
    etas = [ETA / 2] * 2 + [ETA] * 2
    assert close(weights(model), [x - eta * w for x, eta, w in zip(home, etas, second, strict=True)])
    assert base.param_groups[0].keys() == optimizer.param_groups[0].keys()


def test_a_radius_written_into_a_group_is_not_silently_passed_over():
    model, batches = network()
    optimizer = sam(model)
    optimizer.param_groups[0]["rho"] = 0.1
    with pytest.raises(ValueError, match="rho=…"):
        two_steps(optimizer, model, batches[:1])


def test_a_base_with_a_rho_of_its_own_does_not_collide():
    model, batches = network()
    optimizer = SAM(model.parameters(), torch.optim.Adadelta, rho=RHO)
    assert optimizer.param_groups[0]["rho"] == 0.9
    two_steps(optimizer, model, batches[:2])
    assert optimizer.perturbed_steps == 2


@pytest.mark.parametrize("wrong", [None, "SGD", torch.optim.SGD([nn.Parameter(torch.zeros(1))])])
def test_a_base_that_is_no_class_is_refused(wrong):
    with pytest.raises(TypeError, match="base_optimizer must be a class such as"):
        SAM([nn.Parameter(torch.zeros(1))], wrong)


@pytest.mark.parametrize("wrong", [torch.zeros(3), []])
def test_parameters_that_torch_refuses_are_refused(wrong):
    with pytest.raises((TypeError, ValueError), match=r"params argument|empty parameter list"):
        SAM(wrong, lr=ETA)


def test_unknown_arguments_are_the_bases_and_refused_by_it():
    with pytest.raises(TypeError, match="perturb_eps"):
        SAM([nn.Parameter(torch.zeros(1))], torch.optim.SGD, lr=ETA, perturb_eps=1e-12)


@pytest.mark.parametrize("way", [two_steps, steps_after_a_first_backward])
def test_schedulers_attach_without_a_warning(way):
    model, batches = network()
    optimizer = sam(model)
    scheduler = schedulers.StepLR(optimizer, 1, 0.5)
    assert isinstance(optimizer, torch.optim.Optimizer)
    for batch in batches[:2]:
        way(optimizer, model, [batch])
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == optimizer.base.param_groups[0]["lr"] == ETA / 4


def test_hooks_of_a_step_are_called_once_a_step():
    model, batches = network()
    RST(torch.optim.SGD(model.parameters(), lr=ETA), 1.0)  # whoever makes one puts hooks into its step
    optimizer, calls = sam(model), []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    for way in WAYS:
        calls.clear()
        way(optimizer, model, batches[:1])
        optimizer.zero_grad()
        assert calls == ["before", "after"]


@pytest.mark.parametrize("base", [torch.optim.SGD, torch.optim.AdamW])
def test_a_run_that_is_resumed_goes_on_bit_for_bit(base):
    """The peers' lose the momentum."""
    options = {"momentum": MOMENTUM} if base is torch.optim.SGD else {}

    def make(model):
        return SAM(model.parameters(), base, rho=RHO, schedule=Linear(0, 1), total_steps=6, lr=ETA, **options)

    model, batches = network()
    optimizer = make(model)
    two_steps(optimizer, model, batches[:3])
    saved = io.BytesIO()
    torch.save((model.state_dict(), optimizer.state_dict()), saved)
    two_steps(optimizer, model, batches[3:])
    saved.seek(0)
    weights_then, state = torch.load(saved, weights_only=True)
    resumed, _ = network(seed=1)
    resumed.load_state_dict(weights_then)
    other = make(resumed)
    other.load_state_dict(state)
    two_steps(other, resumed, batches[3:])
    assert equal(weights(resumed), weights(model))


def test_copies_are_independent():
    model, batches = network()
    optimizer = sam(model)
    two_steps(optimizer, model, batches[:1])
    twin_model, twin = copy.deepcopy((model, optimizer))
    two_steps(twin, twin_model, batches[1:2])
    two_steps(optimizer, model, batches[1:2])
    assert equal(weights(twin_model), weights(model)) and twin.steps_taken == 2


@pytest.mark.parametrize("way", [two_steps, steps_after_a_first_backward])
def test_half_precisions_loss_scale_is_taken_along(way):
    """The scale is a power of two: nothing is rounded otherwise."""
    model, batches = network()
    plain = copy.deepcopy(model)
    way(sam(plain), plain, batches[:2])
    optimizer, scaler = sam(model), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    for batch in batches[:2]:
        if way is two_steps:
            scaler.scale(loss_of(model, batch)).backward()
            optimizer.first_step(scaler=scaler)
            scaler.scale(loss_of(model, batch)).backward()
            optimizer.second_step(zero_grad=True, scaler=scaler)
        else:

            def closure(batch=batch):
                optimizer.zero_grad()
                scaler.scale(loss_of(model, batch)).backward()

            closure()
            optimizer.step(closure, scaler=scaler)
        scaler.update()
    assert close(weights(model), weights(plain))


@pytest.mark.parametrize("overflow", ["first", "second"])
def test_a_scaled_gradient_that_overflows_skips_the_step_and_counts_it(overflow):
    model, batches = network()
    optimizer, scaler = sam(model), torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = weights(model)
    for which in ("first", "second"):
        factor = torch.inf if which == overflow else 1.0
        scaler.scale(factor * loss_of(model, batches[0])).backward()
        (optimizer.first_step if which == "first" else optimizer.second_step)(scaler=scaler)
    scaler.update()
    assert equal(weights(model), before) and scaler.get_scale() == 2.0**9 and optimizer.steps_taken == 1


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_first_gradient_that_is_not_finite_moves_nothing(bad):
    model, batches = network()
    optimizer, before = sam(model), weights(model)
    loss_of(model, batches[0]).backward()
    next(model.parameters()).grad[0] = bad
    with pytest.raises(FloatingPointError, match="first gradient of step 0"):
        optimizer.first_step()
    assert equal(weights(model), before)
    optimizer.zero_grad()
    two_steps(optimizer, model, batches[:1])
    assert optimizer.steps_taken == 1


def test_the_defaults_are_those_of_the_peers_and_of_rst():
    x, y = (nn.Parameter(torch.ones(2, dtype=torch.float64)) for _ in range(2))
    mine, theirs = SAM([x]), RST(torch.optim.SGD([y]), 1.0, rho=0.05, seed=0, adaptive_offset=0.0)
    assert type(mine.base) is torch.optim.SGD and mine.defaults == theirs.defaults
    assert mine.state_dict()["rst"] == theirs.state_dict()["rst"]


def test_what_a_group_says_in_the_words_of_rst_is_kept():
    x, y, z = (nn.Parameter(torch.ones(1, dtype=torch.float64)) for _ in range(3))
    groups = [{"params": [x], "perturb": False}, {"params": [y], "rho": 0.3}, {"params": [z]}]
    optimizer = SAM(groups, rho=0.2, adaptive=True)
    assert [optimizer._radius(i) for i in range(3)] == [None, 0.3, 0.2]
    assert all(group["adaptive"] for group in optimizer.state_dict()["rst"]["plan"]["perturb_groups"])


def test_both_passes_of_a_closure_are_given_to_the_scaler():
    x, scaler = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64)), Scaler()
    optimizer = SAM([x], lr=0.1)

    def closure():
        optimizer.zero_grad()
        scaler.scale((x**2).sum() / 2).backward()

    optimizer.step(closure, scaler)
    assert scaler.calls == ["step", "unscale"]
    start = torch.tensor([1.0, 2.0], dtype=torch.float64)
    assert close([x.detach()], [start - 0.1 * start * (1 + 0.05 / start.norm())])
