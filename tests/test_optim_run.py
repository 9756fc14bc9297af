"""Runs of the optimizer against one written out; its defaults, its state, and its refusals word for word."""

import contextlib
import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import NUMERIC
from torch import nn
from torch.amp import GradScaler

from rst_theory.notation import DomainError
from rst_theory.optim import RST, ascent as ascents, rst
from rst_theory.optim.lengths import length
from rst_theory.schedules import Constant, Linear
from rst_theory.trials import Trials

F64 = torch.float64


def parameters(*values):
    return [nn.Parameter(torch.tensor(v, dtype=F64)) for v in values]


def sgd(groups, lr=0.1, **options):
    return torch.optim.SGD(groups, lr=lr, **options)


def quartic(optimizer, points, factor=1.0, scaler=None):
    """f = factor (sum of x^2/2 + x^4/4), whose gradient is factor (x + x^3)."""

    def closure():
        optimizer.zero_grad()
        loss = factor * sum((x**2 / 2 + x**4 / 4).sum() for x in points)
        (loss if scaler is None else scaler.scale(loss)).backward()
        return loss

    return closure


def by_hand(groups, trials, rho, gamma, *, lr=0.1, normalized=True, offset=0.01, clip=None, cut=None):
    """The steps in plain loops; groups: (entries, own radius or None or False, adaptive)."""
    x = [list(values) for values, *_ in groups]
    for t, trial in enumerate(trials):
        g = [[v + v**3 for v in row] for row in x]
        d = g
        if trial:
            T = [
                [abs(v) + offset if group[2] else 1.0 for v in row]
                for row, group in zip(x, groups, strict=True)
            ]
            radii = [rho[t] if group[1] is None else group[1] for group in groups]
            moved = [r is not False for r in radii]
            rows = list(zip(x, g, T, radii, moved, strict=True))
            size = math.sqrt(
                sum((a * b) ** 2 for _, gr, Tr, _, m in rows if m for a, b in zip(gr, Tr, strict=True))
            )
            scale = 1 / size if normalized else min(1.0, math.inf if cut is None else cut / size)
            y = [
                [v + r * scale * b * b * a for v, a, b in zip(row, gr, Tr, strict=True)] if m else row
                for row, gr, Tr, r, m in rows
            ]
            far = [[v + v**3 for v in row] for row in y]
            d = [
                [(1 - gamma[t]) * a + gamma[t] * b for a, b in zip(*pair, strict=True)]
                for pair in zip(g, far, strict=True)
            ]
        size = math.sqrt(sum(v * v for row in d for v in row))
        factor = min(1.0, clip / size) if clip else 1.0
        x = [[v - lr * factor * w for v, w in zip(*pair, strict=True)] for pair in zip(x, d, strict=True)]
    return x


START = ([0.5, -1.0], [0.25], [1.5, 0.75])
CASES = [
    ({}, {}),
    ({"gamma": Linear(0.5, 2.0), "rho": Linear(0.1, 0.4)}, {"rho": (0.1, 0.4), "gamma": (0.5, 2.0)}),
    (
        {"ascent": "unnormalized", "clip_ascent": 0.5, "clip_direction": 0.75},
        {"normalized": False, "cut": 0.5, "clip": 0.75},
    ),
    (
        {"adaptive": True, "adaptive_offset": 0.25, "rho": 0.3},
        {"rho": (0.3, 0.3), "offset": 0.25, "adaptive": True},
    ),
    (
        {"perturb_groups": [True, False, {"rho": 0.7, "adaptive": True}]},
        {"own": [None, False, 0.7], "scaled": [0, 0, 1]},
    ),
    ({"seed": 7, "trials": "systematic", "storage": "copy"}, {"seed": 7, "kind": "systematic"}),
    ({"degree": 0.3, "max_gamma": 0.7}, {"gamma": (0.6, 0.6)}),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_run_is_the_one_written_out(case):
    options, said = CASES[case]
    points = parameters(*START)
    optimizer = RST(sgd([{"params": [p]} for p in points]), 0.5, 8, **options)
    trials = Trials(np.full(8, 0.5), said.get("seed", 0), said.get("kind", "independent")).sequence()
    own, scaled = said.get("own", [None] * 3), said.get("scaled", [said.get("adaptive", False)] * 3)
    rho, gamma = (
        np.linspace(*said.get(name, usual), 8) for name, usual in (("rho", (0.05, 0.05)), ("gamma", (1, 1)))
    )
    more = {key: said[key] for key in ("normalized", "offset", "clip", "cut") if key in said}
    assert optimizer.planned_pairs == 8 + trials.sum()
    for t in range(8):
        assert optimizer.will_perturb is bool(trials[t]) and not optimizer.is_perturbed
        loss = optimizer.step(quartic(optimizer, points))
        expected = by_hand(list(zip(START, own, scaled, strict=True)), trials[: t + 1], rho, gamma, **more)
        before = by_hand(list(zip(START, own, scaled, strict=True)), trials[:t], rho, gamma, **more)
        for p, values in zip(points, expected, strict=True):
            assert p.tolist() == pytest.approx(values, rel=NUMERIC, abs=1e-12)
        assert float(loss.detach()) == pytest.approx(
            sum(v**2 / 2 + v**4 / 4 for row in before for v in row), rel=NUMERIC
        )
        assert (optimizer.steps_taken, optimizer.perturbed_steps) == (t + 1, trials[: t + 1].sum())
    with pytest.raises(DomainError, match="total_steps = 8"):
        optimizer.step(quartic(optimizer, points))


def test_a_base_that_maximizes_is_perturbed_against_the_gradient():
    up, down = parameters(*START), parameters(*START)
    first = RST(sgd(up, maximize=True), 1.0, rho=0.3)
    second = RST(sgd(down), 1.0, rho=0.3)
    for _ in range(3):
        first.step(quartic(first, up, -1.0))
        second.step(quartic(second, down))
    assert all(torch.equal(a, b) for a, b in zip(up, down, strict=True))


def test_the_defaults():
    (x,) = parameters([1.0, 2.0])
    optimizer = RST(sgd([x]), 0.5)
    saved = optimizer.state_dict()["rst"]
    plan = {"schedule": 0.5, "rho": 0.05, "gamma": 1.0}
    expected = {name: Constant(value).to_dict() for name, value in plan.items()}
    expected |= {"total_steps": None, "degree": None, "max_gamma": None, "seed": 0, "trials": "independent"}
    expected |= {"ascent": "normalized", "adaptive_offset": 0.01, "clip_direction": None, "clip_ascent": None}
    expected |= {"sync_perturbation": True, "replay_randomness": False}
    expected |= {"perturb_groups": [{"moves": True, "rho": None, "adaptive": False}]}
    assert saved == {"steps_taken": 0, "perturbed_steps": 0, "plan": expected}
    assert optimizer._perturbation.storage == "auto" and optimizer._local_pass is None is optimizer._buffers
    assert optimizer._on_device == {} and optimizer._scaler is None is optimizer._before_first_pass
    assert optimizer._mixed is False is optimizer._in_second_pass
    x.grad = torch.ones_like(x)
    optimizer.zero_grad()
    assert x.grad is None
    x.grad = torch.ones_like(x)
    optimizer.zero_grad(set_to_none=False)
    assert x.grad.tolist() == [0, 0]
    given = copy.deepcopy(optimizer)
    assert given.state_dict()["rst"] == saved
    assert repr(optimizer).startswith("RST(schedule=Constant(") and f"base={optimizer.base!r})" in repr(
        optimizer
    )


def test_a_state_is_taken_back_whole_or_not_at_all():
    (x,) = parameters([1.0, 2.0])
    optimizer, other = (RST(sgd([x], momentum=0.9), 0.5, seed=3) for _ in range(2))
    for _ in range(5):
        optimizer.step(quartic(optimizer, [x]))
    state = optimizer.state_dict()
    assert set(state) == {"state", "param_groups", "rst"} and state["rst"]["steps_taken"] == 5
    seen = []
    other.register_load_state_dict_pre_hook(lambda me, given: seen.append((me is other, "rst" in given)))
    other.register_load_state_dict_post_hook(lambda me: seen.append(me is other))
    other._mixed = True
    other.load_state_dict(state)
    assert seen == [(True, True), True] and "rst" in state and not other._mixed
    assert (other.steps_taken, other.perturbed_steps) == (5, optimizer.perturbed_steps)
    other.register_load_state_dict_pre_hook(lambda me, given: {"rst": {}})
    with pytest.raises(ValueError, match=r"'rst' has no \['perturbed_steps', 'plan', 'steps_taken'\]"):
        other.load_state_dict(state)
    for name in state["rst"]:
        part = {key: value for key, value in state["rst"].items() if key != name}
        with pytest.raises(ValueError, match=rf"entry 'rst' has no \['{name}'\]"):
            optimizer.load_state_dict({**state, "rst": part})
    with pytest.raises(ValueError, match="has no entry 'rst'"):
        optimizer.load_state_dict({key: state[key] for key in ("state", "param_groups")})
    with pytest.raises(ValueError, match="the saved state has seed = 3, this optimizer has seed = 4"):
        RST(sgd([x], momentum=0.9), 0.5, seed=4).load_state_dict(state)
    optimizer.register_state_dict_post_hook(lambda me, given: {**given, "mine": me is optimizer})
    optimizer.register_state_dict_post_hook(lambda me, given: None)
    optimizer.register_state_dict_pre_hook(lambda me: seen.append("asked"))
    assert optimizer.state_dict()["mine"] is True and seen[-1] == "asked"


def test_groups_may_say_how_they_are_perturbed_and_are_cleaned_up():
    a, b, c = parameters([1.0], [2.0], [3.0])
    base = sgd([{"params": [a], "perturb": False}, {"params": [b]}], lr=0.0)
    with pytest.raises(ValueError, match="perturb_groups, or 'perturb' in the groups, not both"):
        RST(base, 1.0, perturb_groups=[True, True])
    assert base.param_groups[0]["perturb"] is False
    optimizer = RST(base, 1.0, adaptive=True)
    optimizer.add_param_group({"params": [c], "perturb": 0.5})
    assert not any("perturb" in group for group in base.param_groups)
    told = optimizer.state_dict()["rst"]["plan"]["perturb_groups"]
    assert [group["moves"] for group in told] == [False, True, True] and told[1]["adaptive"]
    d, e = parameters([4.0], [5.0])
    group = {"params": [d]}
    optimizer.add_param_group(group)
    assert optimizer._radius(3) == 0.05 and optimizer._radius(2) == 0.5 and optimizer._radius(0) is None
    with pytest.raises(ValueError, match="more than one parameter group"):
        optimizer.add_param_group({"params": [a], "perturb": 0.25})
    optimizer.add_param_group({"params": [e], "perturb": 0.75})
    assert optimizer._radius(4) == 0.75
    assert (
        len(RST(sgd([{"params": [a]}, {"params": [b]}]), 1.0, perturb_groups=[True, 0.1]).param_groups) == 2
    )
    frozen = nn.Parameter(torch.ones(1), requires_grad=False)
    assert RST(sgd([a, frozen]), 1.0)._trained() == [a]


def test_what_a_graph_reads_takes_the_place_of_radii_and_coefficients():
    (x,) = parameters([1.0])
    optimizer = RST(sgd([x]), 1.0, rho=0.3, gamma=2.0)
    assert (optimizer._radius(0), optimizer._gamma()) == (0.3, 2.0)
    optimizer._on_device = {
        ("rho", 0): "radius",
        ("gamma", 0): "coefficient",
        ("gamma", 1): "no",
        ("rho", 1): "no",
    }
    assert (optimizer._radius(0), optimizer._gamma()) == ("radius", "coefficient")
    assert [rst._is_one(gamma) for gamma in (1.0, 1, 2.0, 0.0, torch.ones(()))] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_parameters_without_a_gradient_or_frozen_are_left_where_they_are():
    x, unused, frozen = parameters([3.0, 4.0], [5.0], [6.0])
    frozen.requires_grad, frozen.grad, seen = False, torch.full((1,), 7.0, dtype=F64), []
    optimizer = RST(sgd([x, unused], lr=1.0), 1.0, rho=0.5)
    optimizer.add_param_group({"params": [frozen], "lr": 0.0})

    def closure():
        seen.append([p.tolist() for p in (x, unused, frozen)])
        x.grad = torch.tensor([3.0, 4.0], dtype=F64)

    optimizer.step(closure)
    assert seen == [[[3, 4], [5], [6]], [pytest.approx([3.3, 4.4]), [5], [6]]]
    assert x.tolist() == [0, 0] and unused.grad is None and frozen.grad.tolist() == [7]


# ---- loops that own their passes


def test_passes_of_ones_own_and_their_wrong_turns():
    x, y = parameters([1.0, -2.0], [0.5]), parameters([1.0, -2.0], [0.5])
    mine, theirs = (RST(sgd(points), Linear(1.0, 0.0), 2, gamma=0.5) for points in (x, y))
    backward = quartic(SimpleNamespace(zero_grad=lambda: None), x)
    with mine.first_pass():
        backward()
    seen = [p.detach().clone() for p in x]
    with mine.perturbed():
        assert mine.is_perturbed and all(p.grad is None for p in x)
        assert not any(torch.equal(p, q) for p, q in zip(x, seen, strict=True))
        backward()
    assert not mine.is_perturbed and all(torch.equal(p, q) for p, q in zip(x, seen, strict=True))
    with (
        pytest.raises(RuntimeError, match=r"^step 0 is perturbed once only: then comes step\(\)$"),
        mine.perturbed(),
    ):
        pass
    with pytest.raises(TypeError, match="has run the second pass of this step: call step without closure"):
        mine.step(backward)
    assert mine.step() is None and mine.steps_taken == 1 and not mine._mixed
    theirs.step(quartic(theirs, y))
    assert all(torch.equal(p, q) for p, q in zip(x, y, strict=True))
    with pytest.raises(RuntimeError, match=r"^step 1 has trial 0: see will_perturb$"), mine.perturbed():
        pass
    mine.zero_grad()
    backward()
    mine.step()
    theirs.step(quartic(theirs, y))
    assert all(torch.equal(p, q) for p, q in zip(x, y, strict=True)) and mine.perturbed_steps == 1
    late = RST(sgd(x), 1.0)
    with pytest.raises(TypeError, match=r"this step is perturbed: give RST.step a closure"):
        late.step()
    backward()
    with contextlib.suppress(ZeroDivisionError), late.perturbed():
        raise ZeroDivisionError
    assert not late.is_perturbed and not late._perturbation.is_moved and not late._mixed
    backward()
    with late.perturbed():
        backward()
        with pytest.raises(RuntimeError, match="once only"), late.perturbed():
            pass
    late.zero_grad()
    assert not late._mixed


def test_local_first_passes_and_replayed_randomness(monkeypatch):
    events = []

    class Local:
        def __init__(self, model):
            events.append(model)

        @contextlib.contextmanager
        def no_sync(self):
            events.append("in")
            yield
            events.append("out")

        def longest(self, size):
            return 2 * size

        def joined(self, trained, first, second, mean):
            events.append((len(trained), len(first), len(second), mean))
            return first

    monkeypatch.setattr(rst, "LocalPass", Local)
    model = nn.Linear(2, 1).double()
    for gamma, mean in ((1.0, False), (0.5, True)):
        optimizer = RST(
            sgd(model.parameters()), Linear(1.0, 0.0), 2, gamma=gamma, model=model, sync_perturbation=False
        )
        for _ in range(2):
            optimizer.step(quartic(optimizer, list(model.parameters())))
        assert events == [model, "in", "out", (2, 2, 2, mean)]
        events.clear()
    dropout = nn.Dropout(0.5)
    (x,) = parameters([1.0] * 64)
    for replay in (False, True):
        optimizer, masks = RST(sgd([x]), 1.0, replay_randomness=replay), []

        def closure():
            optimizer.zero_grad()  # noqa: B023
            masks.append(dropout(torch.ones(64)))  # noqa: B023
            (x * masks[-1]).sum().backward()  # noqa: B023

        torch.manual_seed(0)
        optimizer.step(closure)
        after = torch.rand(())
        assert torch.equal(*masks) is replay and optimizer._before_first_pass is None
        torch.manual_seed(0)
        dropout(torch.ones(64))
        assert (torch.rand(()) == after) == replay
    with (
        pytest.raises(RuntimeError, match=r"needs the first pass within first_pass\(\)"),
        optimizer.perturbed(),
    ):
        pass


def test_statistics_are_counted_once_a_step():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    inputs = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    for given in (None, model):
        optimizer = RST(sgd(model.parameters()), 1.0, model=given)

        def closure():
            optimizer.zero_grad()  # noqa: B023
            model(inputs).sum().backward()

        before = int(model[0].num_batches_tracked)
        optimizer.step(closure)
        assert model[0].num_batches_tracked - before == (2 if given is None else 1)


# ---- scalers


class Scaler:
    """Stands in for a GradScaler with a scale of 8 that sees infinities."""

    def __init__(self, enabled=True):
        self.enabled, self.calls = enabled, []

    def is_enabled(self):
        return self.enabled

    def get_scale(self):
        return 8.0

    def scale(self, loss):
        return 8.0 * loss

    def unscale_(self, base):
        self.calls.append("unscale")
        for group in base.param_groups:
            for p in group["params"]:
                p.grad.mul_(1 / 8)

    def step(self, base):
        self.calls.append("step")
        if "unscale" not in self.calls:
            self.unscale_(base)
        if all(torch.isfinite(p.grad).all() for group in base.param_groups for p in group["params"]):
            base.step()


@pytest.mark.parametrize(
    "options", [{}, {"clip_direction": 0.5}, {"ascent": "unnormalized", "clip_ascent": 100.0}]
)
def test_scaled_steps_are_the_unscaled_ones(options):
    x, y = parameters(*START), parameters(*START)
    plain, scaled = (RST(sgd(points), 0.5, 6, rho=0.3, gamma=0.5, **options) for points in (x, y))
    for _ in range(6):
        scaler = Scaler()
        loss = scaled.step(quartic(scaled, y, scaler=scaler), scaler=scaler)
        assert plain.step(quartic(plain, x)) == loss
        assert scaler.calls == (["unscale", "step"] if "clip_direction" in options else ["step", "unscale"])
    for p, q in zip(x, y, strict=True):
        assert p.tolist() == pytest.approx(q.tolist(), rel=NUMERIC)
    off = Scaler(enabled=False)
    before = [p.detach().clone() for p in x]
    disabled = RST(sgd(x), 1.0)
    disabled.step(quartic(disabled, x), scaler=off)
    assert off.calls == [] and not torch.equal(x[0], before[0])
    assert rst._enabled(None) is None is rst._enabled(off) and rst._enabled(scaler) is scaler


def test_an_infinity_in_the_first_pass_lets_the_scaler_skip_the_step():
    (x,) = parameters([1.0, 2.0])
    for gamma in (1.0, 0.5):
        optimizer, scaler = RST(sgd([x]), 1.0, gamma=gamma), Scaler()
        seen = []

        def closure():
            seen.append(x.detach().clone())  # noqa: B023
            x.grad = torch.tensor([math.inf if len(seen) == 1 else 1.0, 1.0], dtype=F64)  # noqa: B023

        optimizer.step(closure, scaler=scaler)
        assert x.tolist() == [1, 2] and torch.equal(*seen) and not torch.isfinite(x.grad).any()
        assert optimizer.steps_taken == optimizer.perturbed_steps == 1
    other = Scaler()
    x.grad = torch.ones_like(x)
    with optimizer.perturbed(scaler):
        x.grad = torch.ones_like(x)
    with pytest.raises(TypeError, match=r"perturbed was given scaler=.*, step scaler=None: they must agree"):
        optimizer.step()
    with pytest.raises(TypeError, match="they must agree"):
        optimizer.step(scaler=other)
    optimizer.step(scaler=scaler)
    real = GradScaler("cpu", enabled=False)
    assert rst._enabled(real) is None


# ---- what is not finite


def spoiled(x, values):
    """A closure that leaves these gradients in turn, and these losses."""
    turns = iter(values)

    def closure():
        loss, gradient = next(turns)
        x.grad = None if gradient is None else torch.tensor(gradient, dtype=x.dtype)
        return loss

    return closure


def refusal(optimizer, x, values):
    with pytest.raises(FloatingPointError) as told:
        optimizer.step(spoiled(x, values))
    return str(told.value)


def test_refusals_of_what_is_not_finite_word_for_word(monkeypatch):
    (x,) = parameters([1.0, 2.0])
    nan, inf, fine = math.nan, math.inf, [1.0, 1.0]
    tail = "; the weights are untouched; trial {}; not finite: {}"
    certain, never = RST(sgd([x]), 1.0), RST(sgd([x]), 0.0)
    name = "parameter 0 of group 0"
    message = refusal(certain, x, [(None, [inf, 1.0])])
    assert message == f"the length of the first gradient of step 0 is inf{tail.format(1, name)}"
    message = refusal(certain, x, [(None, fine), (None, [nan, 1.0])])
    assert message == f"the length of the direction of step 0 is nan{tail.format(1, name)}"
    message = refusal(never, x, [(torch.tensor(nan), [nan, 1.0])])
    start = "the loss of step 0 is nan, the length of its gradient is nan"
    assert message == f"{start}{tail.format(0, name)}"
    message = refusal(never, x, [(torch.tensor([[inf]]), [inf, 1.0])])
    assert message.startswith("the loss of step 0 is inf, the length of its gradient is inf")
    clipped = RST(sgd([x]), 0.0, clip_direction=1.0)
    assert refusal(clipped, x, [(None, [inf, 1.0])]).startswith(
        "the length of the direction of step 0 is inf"
    )
    assert x.tolist() == [1, 2] and not any(o.steps_taken for o in (certain, never, clipped))
    model = nn.Linear(2, 1)
    named = RST(sgd(model.parameters()), 1.0, model=model)

    def closure():
        model.weight.grad, model.bias.grad = torch.full((1, 2), inf), torch.ones(1)

    with pytest.raises(FloatingPointError, match=r"not finite: weight$"):
        named.step(closure)
    # Taken all the same: a loss without its gradient, a gradient without its loss, several losses, no tensor.
    monkeypatch.setattr(never.base, "step", lambda: None)
    pairs = [
        (torch.tensor(nan), fine),
        (torch.tensor(1.0), [inf, 1.0]),
        (torch.tensor([nan, nan]), [inf, 1.0]),
    ]
    pairs += [(nan, [nan, 1.0]), (None, [inf, 1.0]), (torch.tensor(nan), None)]
    for values in pairs:
        never.step(spoiled(x, [values]))
    monkeypatch.setattr(rst, "world_size", lambda: 2)  # others would wait for one that raised alone
    never.step(spoiled(x, [(torch.tensor(nan), [nan, 1.0])]))
    assert never.steps_taken == len(pairs) + 1


def test_on_a_device_it_is_told_a_step_late(monkeypatch):
    for module in (ascents, rst):
        monkeypatch.setattr(module, "length", lambda tensors: torch.tensor(float(length(tensors)), dtype=F64))
    (x,) = parameters([1.0, 2.0])
    fine, bad = [3.0, 4.0], [math.inf, 1.0]
    for values, what in (([bad, fine], "first gradient"), ([fine, bad], "direction")):
        optimizer = RST(sgd([x]), 1.0, clip_direction=2.5, storage="copy")
        monkeypatch.setattr(optimizer.base, "step", lambda: None)
        optimizer.step(spoiled(x, [(None, fine)] * 2))
        assert x.grad.tolist() == [1.5, 2.0]  # clipped, by a factor in a tensor
        optimizer.step(spoiled(x, [(None, v) for v in values]))
        with pytest.raises(FloatingPointError) as told:
            optimizer.step(spoiled(x, [(None, fine)] * 2))
        assert (
            str(told.value) == f"the length of the {what} of step 1 was inf; the weights have taken that step"
        )
        assert optimizer.steps_taken == 2
    with torch.no_grad():
        x[1] = math.nan
    optimizer._checks.note(torch.tensor(math.nan), "a length")
    with pytest.raises(
        FloatingPointError, match=r"have taken that step; not finite: parameter 0 of group 0$"
    ):
        optimizer.step(spoiled(x, [(None, fine)] * 2))


# ---- what the constructor refuses


class Needing(torch.optim.SGD):
    def step(self, closure, loss, extra=None):
        pass


class Collecting(torch.optim.SGD):
    def step(self, *args, **kwargs):
        return super().step(*args, **kwargs)


def test_bases_that_cannot_be_used_are_told_what_they_need(monkeypatch):
    (x,) = parameters([1.0])
    base = sgd([x])
    cases = [
        (None, "base_optimizer must be a torch.optim.Optimizer instance; got None"),
        (Needing([x], lr=0.1), "base_optimizer Needing needs a closure and loss for its own step"),
        (RST(base, 0.5), "base_optimizer RST needs a closure for its own step"),
    ]
    for wrong, text in cases:
        with pytest.raises(TypeError) as told:
            RST(wrong, 0.5)
        assert str(told.value) == text
    optimizer = RST(Collecting([x], lr=0.1), 1.0)
    optimizer.step(quartic(optimizer, [x]))
    assert x.item() < 1
    monkeypatch.setattr(rst, "is_distributed", lambda p: True)
    assert RST(base, 0.5).base is base
    with pytest.raises(ValueError, match="needs whole gradients on every rank; these parameters are sharded"):
        RST(base, 0.5, sync_perturbation=False)


def test_a_second_backward_into_the_first_gradients_is_told_where_both_are_needed():
    (x,) = parameters([1.0, 2.0])
    buffer = torch.ones(2, dtype=F64)

    def closure():
        x.grad = buffer

    for gamma in (1.0, 0.5):
        optimizer = RST(sgd([x]), 1.0, gamma=gamma)
        if gamma == 1:
            optimizer.step(closure)
            continue
        with pytest.raises(RuntimeError, match="wrote over the first gradients"):
            optimizer.step(closure)
