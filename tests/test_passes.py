"""What two passes share: statistics counted once, random numbers, accumulation, the two-call form."""

import copy
import math

import numpy as np
import pytest
import torch
from test_optim import network_closure, same, sgd, small_network, weights
from torch import nn

from rst_theory.optim import RST, kept_statistics
from rst_theory.optim.passes import Buffers


class MovingAverage(nn.Module):
    """A user's own layer: an average in a buffer, updated in place or replaced by assignment."""

    def __init__(self, replaced):
        super().__init__()
        self.replaced = replaced
        self.register_buffer("average", torch.zeros(5))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64), persistent=False)
        self.register_buffer("nothing", None)

    def forward(self, x):
        if self.training:
            mean = x.detach().mean(0)
            if self.replaced:
                self.average = 0.9 * self.average + 0.1 * mean
                self.seen = self.seen + 1
            else:
                self.average.mul_(0.9).add_(mean, alpha=0.1)
                self.seen += 1
        return x - self.average


class Lazy(nn.Module):
    """Makes its buffer at the first forward."""

    def forward(self, x):
        if "total" not in self._buffers:
            self.register_buffer("total", torch.zeros(x.shape[1]))
        self.total += x.detach().sum(0)
        return x


def frozen_statistics():
    layer = nn.BatchNorm1d(5)
    layer.eval()
    layer.train = lambda mode=True: layer
    return layer


def spectral():
    return nn.utils.parametrizations.spectral_norm(nn.Linear(5, 5))


def constant_mask():
    layer = nn.Identity()
    layer.register_buffer("mask", torch.ones(1, 5).expand(7, 5))
    layer.register_buffer("indices", torch.tensor([[0, 1], [1, 0]]).to_sparse())
    return layer


LAYERS = {
    "BatchNorm1d": lambda: nn.BatchNorm1d(5),
    "cumulative BatchNorm1d": lambda: nn.BatchNorm1d(5, momentum=None),
    "BatchNorm1d without statistics": lambda: nn.BatchNorm1d(5, track_running_stats=False),
    "BatchNorm2d": lambda: nn.Sequential(nn.Unflatten(1, (5, 1, 1)), nn.BatchNorm2d(5), nn.Flatten()),
    "InstanceNorm1d": lambda: nn.Sequential(
        nn.Unflatten(1, (1, 5)), nn.InstanceNorm1d(1, track_running_stats=True), nn.Flatten()
    ),
    "frozen BatchNorm1d": frozen_statistics,
    "spectral_norm": spectral,
    "own, in place": lambda: MovingAverage(replaced=False),
    "own, replaced": lambda: MovingAverage(replaced=True),
    "lazy": Lazy,
    "constants": constant_mask,
    "two of one": lambda: nn.Sequential(*[nn.BatchNorm1d(5)] * 2),
}


def network_with(layer):
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(4, 5), LAYERS[layer](), nn.Tanh(), nn.Linear(5, 3))


def buffers_of(model):
    return {name: b.to_dense().clone() for name, b in model.named_buffers()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("two_calls", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
def test_statistics_are_counted_as_the_base_counts_them(layer, two_calls):
    """At learning rate 0 the first passes of all runs are the same, and so are their statistics."""
    _, batches = small_network()
    model, twin, without = (network_with(layer) for _ in range(3))
    optimizer = RST(sgd(model.parameters(), lr=0.0), 1.0, rho=2.0, model=model)
    base = sgd(twin.parameters(), lr=0.0)
    counted_twice = RST(sgd(without.parameters(), lr=0.0), 1.0, rho=2.0)
    for batch in batches[:5]:
        if two_calls:
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
            with optimizer.perturbed():
                nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
            optimizer.step()
        else:
            optimizer.step(network_closure(optimizer, model, batch))
        base.step(network_closure(base, twin, batch))
        counted_twice.step(network_closure(counted_twice, without, batch))
        assert equal(buffers_of(model), buffers_of(twin))
    still = ("BatchNorm1d without statistics", "frozen BatchNorm1d", "constants")
    assert equal(buffers_of(without), buffers_of(twin)) == (layer in still)


@pytest.mark.parametrize("layer", LAYERS)
def test_statistics_of_an_interrupted_second_pass_are_those_of_the_first(layer):
    _, batches = small_network()
    model, twin = network_with(layer), network_with(layer)
    optimizer = RST(sgd(model.parameters()), 1.0, rho=2.0, model=model)

    def closure():
        network_closure(optimizer, model, batches[0])()
        if optimizer.is_perturbed:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    twin(batches[0][0])
    assert equal(buffers_of(model), buffers_of(twin))


def test_modules_that_change_between_training_and_evaluation_are_followed():
    _, batches = small_network()
    model, twin = network_with("BatchNorm1d"), network_with("BatchNorm1d")
    optimizer, base = RST(sgd(model.parameters(), lr=0.0), 1.0, model=model), sgd(twin.parameters(), lr=0.0)
    for t, batch in enumerate(batches[:6]):
        for module in (model, twin):
            module.train(t % 2 == 0)
        optimizer.step(network_closure(optimizer, model, batch))
        base.step(network_closure(base, twin, batch))
        assert equal(buffers_of(model), buffers_of(twin))
    model.double()  # new buffers
    model.train()
    before = buffers_of(model)
    with kept_statistics(model):
        model(batches[0][0].double())
    assert equal(buffers_of(model), before)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_context_manager_keeps_statistics_for_loops_of_ones_own(layer):
    _, batches = small_network()
    model = network_with(layer)
    model(batches[0][0])
    before, identities = buffers_of(model), {name: id(b) for name, b in model.named_buffers()}
    with pytest.raises(ZeroDivisionError), kept_statistics(model):  # noqa: PT012
        model(batches[1][0])
        raise ZeroDivisionError
    assert equal(buffers_of(model), before)
    assert {name: id(b) for name, b in model.named_buffers()} == identities
    with kept_statistics(model), kept_statistics(model):
        model(batches[1][0])
    assert equal(buffers_of(model), before)


def test_statistics_synchronized_between_processes_are_statistics_like_others():
    layer = nn.SyncBatchNorm(3, momentum=None)
    before = buffers_of(layer)
    with kept_statistics(layer):
        layer.running_mean.add_(1.0)
        layer.num_batches_tracked.add_(1)
    assert equal(buffers_of(layer), before)


def test_copies_of_statistics_stay_from_step_to_step():
    model = network_with("BatchNorm1d")
    kept = Buffers(model)
    kept.keep()
    kept.bring_back()
    addresses = [copy_.data_ptr() for copy_ in kept._copies.values()]
    for _ in range(3):
        kept.keep()
        kept.bring_back()
        assert [copy_.data_ptr() for copy_ in kept._copies.values()] == addresses


# ---- random numbers


def with_dropout():
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3))


@pytest.mark.parametrize("two_calls", [False, True])
@pytest.mark.parametrize("replayed", [False, True])
def test_dropout_masks_are_the_same_in_both_passes_where_asked(replayed, two_calls):
    _, batches = small_network()
    model, twin = with_dropout(), with_dropout()
    optimizer = RST(sgd(model.parameters(), lr=0.0), 0.5, 8, seed=1, replay_randomness=replayed)
    base = sgd(twin.parameters(), lr=0.0)
    masks, plain = [], []
    model[1].register_forward_hook(lambda _m, _i, out: masks.append(out == 0))
    twin[1].register_forward_hook(lambda _m, _i, out: plain.append(out == 0))
    torch.manual_seed(9)
    states = []
    for batch in batches[:8]:
        masks.clear()
        perturb = optimizer.will_perturb
        if two_calls:
            optimizer.zero_grad()
            with optimizer.first_pass():
                nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
            if perturb:
                with optimizer.perturbed():
                    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
            optimizer.step()
        else:
            optimizer.step(network_closure(optimizer, model, batch))
        states.append((torch.get_rng_state(), masks[0]))
        assert len(masks) == 1 + perturb
        if perturb:
            assert torch.equal(*masks) == replayed
    assert 0 < optimizer.perturbed_steps < 8
    torch.manual_seed(9)
    same_stream = True
    for batch, (state, mask) in zip(batches[:8], states, strict=True):
        base.step(network_closure(base, twin, batch))
        same_stream &= torch.equal(torch.get_rng_state(), state) and torch.equal(plain[-1], mask)
    assert same_stream == replayed


def test_a_second_pass_that_draws_less_leaves_the_generators_where_the_first_did():
    x = nn.Parameter(torch.ones(3))
    optimizer = RST(sgd([x]), 1.0, replay_randomness=True)

    def closure():
        optimizer.zero_grad()
        noise = 0.5 if optimizer.is_perturbed else torch.rand(3)
        (x * noise).sum().backward()

    torch.manual_seed(2)
    optimizer.step(closure)
    after = torch.get_rng_state()
    torch.manual_seed(2)
    torch.rand(3)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.mark.parametrize("pass_", [1, 2])
def test_an_interrupted_step_replays_nothing_stale(pass_):
    _, batches = small_network()
    model = with_dropout()
    optimizer = RST(sgd(model.parameters(), lr=0.0), 1.0, replay_randomness=True)
    masks = []
    model[1].register_forward_hook(lambda _m, _i, out: masks.append(out == 0))

    def closure():
        network_closure(optimizer, model, batches[0])()
        if len(masks) == pass_:
            raise KeyboardInterrupt

    torch.manual_seed(2)
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure)
    after = torch.get_rng_state()
    torch.manual_seed(2)
    with_dropout_mask = nn.functional.dropout(torch.ones(8, 6), 0.5)
    assert with_dropout_mask.shape == masks[0].shape
    assert torch.equal(after, torch.get_rng_state())  # as far as one pass goes
    masks.clear()
    optimizer.step(network_closure(optimizer, model, batches[0]))
    assert torch.equal(*masks)


def test_a_loop_of_ones_own_that_wants_equal_masks_has_to_say_where_its_first_pass_is():
    x = nn.Parameter(torch.ones(2))
    optimizer = RST(sgd([x]), 1.0, replay_randomness=True)
    (x**2).sum().backward()
    before = x.detach().clone()
    with (
        pytest.raises(RuntimeError, match=r"needs the first pass within first_pass\(\)"),
        optimizer.perturbed(),
    ):
        raise AssertionError("never comes here")
    assert torch.equal(x, before)


# ---- accumulation


@pytest.mark.parametrize("two_calls", [False, True])
@pytest.mark.parametrize("pieces", [1, 2, 4, 8])
@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_micro_batches_add_up_to_the_joined_batch(pieces, gamma, two_calls):
    model, batches = small_network(dtype=torch.float64)
    twin = copy.deepcopy(model)
    optimizer = RST(sgd(model.parameters(), momentum=0.9), 0.6, rho=0.3, gamma=gamma, seed=1)
    joined = RST(sgd(twin.parameters(), momentum=0.9), 0.6, rho=0.3, gamma=gamma, seed=1)
    for batch in batches[:8]:
        parts = list(zip(*(half.chunk(pieces) for half in batch), strict=True))

        def backward():
            for inputs, targets in parts:  # noqa: B023
                (nn.functional.cross_entropy(model(inputs), targets) / pieces).backward()

        def closure():
            optimizer.zero_grad()
            backward()

        if two_calls:
            closure()
            if optimizer.will_perturb:
                with optimizer.perturbed():
                    backward()
            optimizer.step()
        else:
            optimizer.step(closure)
        joined.step(network_closure(joined, twin, batch))
    assert 0 < optimizer.perturbed_steps < 8
    for a, b in zip(weights(model), weights(twin), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-13)


# ---- the two-call form


@pytest.mark.parametrize("storage", ["swap", "copy"])
@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_a_loop_that_owns_its_passes_takes_the_steps_of_a_closure(gamma, storage):
    model, batches = small_network()
    twin = copy.deepcopy(model)
    options = {"rho": 0.3, "gamma": gamma, "seed": 2, "storage": storage}
    optimizer = RST(sgd(model.parameters(), momentum=0.9), 0.5, **options)
    other = RST(sgd(twin.parameters(), momentum=0.9), 0.5, **options)
    for batch in batches:
        optimizer.zero_grad()
        before = weights(model)
        loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        assert not optimizer.is_perturbed
        if optimizer.will_perturb:
            with optimizer.perturbed():
                assert optimizer.is_perturbed
                assert not same(weights(model), before)
                assert all(p.grad is None for p in model.parameters())
                nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
            assert not optimizer.is_perturbed
            assert same(weights(model), before)
        assert optimizer.step() is None
        assert torch.equal(loss, other.step(network_closure(other, twin, batch)))
    assert same(weights(model), weights(twin))
    assert optimizer.perturbed_steps == other.perturbed_steps > 0


def test_a_loop_that_takes_the_wrong_turn_is_told():
    x = nn.Parameter(torch.ones(2))
    optimizer = RST(sgd([x], lr=0.0), [1.0, 0.0], 2)

    def closure():
        optimizer.zero_grad()
        (x**2).sum().backward()

    before = x.detach().clone()
    closure()
    with pytest.raises(TypeError, match="this step is perturbed"):
        optimizer.step()
    with pytest.raises(TypeError, match="this step is perturbed"), optimizer.perturbed():  # noqa: PT012
        (x**2).sum().backward()
        optimizer.step()  # within the block
    assert torch.equal(x, before)
    closure()
    with pytest.raises(RuntimeError, match="step 0 is perturbed once only"), optimizer.perturbed():  # noqa: SIM117
        with optimizer.perturbed():
            raise AssertionError("never comes here")
    assert torch.equal(x, before)
    closure()
    with optimizer.perturbed():
        (x**2).sum().backward()
    with pytest.raises(RuntimeError, match="step 0 is perturbed once only"), optimizer.perturbed():
        raise AssertionError("never comes here")
    with pytest.raises(TypeError, match="call step without closure"):
        optimizer.step(closure)
    optimizer.step()
    assert optimizer.steps_taken == 1
    with pytest.raises(RuntimeError, match="step 1 has trial 0: see will_perturb"), optimizer.perturbed():
        raise AssertionError("never comes here")
    optimizer.step()
    assert optimizer.steps_taken == 2


def test_a_second_backward_that_writes_over_the_first_gradients_is_told():
    x = nn.Parameter(torch.ones(2))
    kept = torch.ones(2)
    for gamma, wrong in ((0.5, True), (1.0, False)):
        optimizer = RST(sgd([x], lr=0.0), 1.0, gamma=gamma)

        def closure():
            x.grad = kept

        if wrong:
            with pytest.raises(RuntimeError, match="wrote over the first gradients"):
                optimizer.step(closure)
        else:
            optimizer.step(closure)
        assert x.tolist() == [1.0, 1.0]


def test_metrics_in_a_closure_can_tell_the_passes_apart():
    model, batches = small_network()
    optimizer = RST(sgd(model.parameters()), 0.5, seed=1)
    logged = []
    for batch in batches:

        def closure():
            loss = network_closure(optimizer, model, batch)()  # noqa: B023
            if not optimizer.is_perturbed:
                logged.append(loss.item())
            return loss

        assert optimizer.step(closure).item() == logged[-1]
    assert len(logged) == len(batches)


def test_a_step_whose_loss_is_exactly_zero_is_a_step_like_others():
    x = nn.Parameter(torch.zeros(2))
    optimizer = RST(sgd([x], lr=1.0), 1.0, rho=math.sqrt(2))

    def closure():
        optimizer.zero_grad()
        loss = (x * torch.tensor([1.0, -1.0])).sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 0.0
    assert x.tolist() == [-1.0, 1.0]
