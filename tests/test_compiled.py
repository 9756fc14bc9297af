"""torch.compile: of the model, of the base's step, and of a function that calls the optimizer's step."""

import copy
import shutil

import pytest
import torch
from test_optim import same, sgd, small_network, weights
from torch import nn
from torch._dynamo.utils import counters

from rst_theory.optim import RST

# Of torch itself: its compiler uses what it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def closure_of(optimizer, model, forward, batch):
    def closure():
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(forward(batch[0]), batch[1])
        loss.backward()
        return loss

    return closure


def options(storage="auto", **others):
    return {"rho": 0.2, "seed": 1, "storage": storage, **others}


@pytest.mark.parametrize("storage", ["swap", "copy"])
@pytest.mark.parametrize("gamma", [1.0, 0.5])
def test_a_compiled_model_takes_the_eager_steps_and_is_compiled_once(storage, gamma):
    model, batches = small_network(dtype=torch.float64)
    model.insert(1, nn.BatchNorm1d(5, dtype=torch.float64))
    twin = copy.deepcopy(model)
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = RST(sgd(model.parameters(), momentum=0.9), 0.5, model=model, gamma=gamma, **options(storage))
    eager = RST(sgd(twin.parameters(), momentum=0.9), 0.5, model=twin, gamma=gamma, **options(storage))
    optimizer.step(closure_of(optimizer, model, compiled, batches[0]))
    eager.step(closure_of(eager, twin, twin, batches[0]))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in batches[1:]:
            loss = optimizer.step(closure_of(optimizer, model, compiled, batch))
            expected = eager.step(closure_of(eager, twin, twin, batch))
            torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert counters["stats"]["unique_graphs"] == 1
    assert not counters["graph_break"]
    assert 0 < optimizer.perturbed_steps < len(batches)
    for a, b in zip(weights(model), weights(twin), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    for a, b in zip(model.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


# The compiler looks at .grad of a loss that passes through, and hides the warning only where it is none.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("compiled_step", ["base", "whole"])
def test_a_compiled_step_is_the_eager_one(compiled_step):
    model, batches = small_network()
    twin = copy.deepcopy(model)
    optimizer = RST(sgd(model.parameters(), momentum=0.9), 0.5, gamma=0.5, **options())
    eager = RST(sgd(twin.parameters(), momentum=0.9), 0.5, gamma=0.5, **options())
    if compiled_step == "base":
        optimizer.base.step = torch.compile(optimizer.base.step, backend="eager")
        step = optimizer.step
    else:

        def whole(closure):
            return optimizer.step(closure)

        step = torch.compile(whole, backend="eager")
    for batch in batches[:8]:
        loss = step(closure_of(optimizer, model, model, batch))
        assert torch.equal(loss, eager.step(closure_of(eager, twin, twin, batch)))
    assert optimizer.steps_taken == 8
    assert optimizer.perturbed_steps == eager.perturbed_steps > 0
    assert same(weights(model), weights(twin))


def test_a_compiled_loop_that_owns_its_passes_is_the_eager_one():
    model, batches = small_network()
    twin = copy.deepcopy(model)
    optimizer = RST(sgd(model.parameters()), 0.5, **options())
    eager = RST(sgd(twin.parameters()), 0.5, **options())

    @torch.compile(backend="eager")
    def train(inputs, targets):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(inputs), targets).backward()
        if optimizer.will_perturb:
            with optimizer.perturbed():
                nn.functional.cross_entropy(model(inputs), targets).backward()
        optimizer.step()

    for batch in batches[:6]:
        train(*batch)
        eager.step(closure_of(eager, twin, twin, batch))
    assert optimizer.perturbed_steps == eager.perturbed_steps > 0
    assert same(weights(model), weights(twin))


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch's default compiler calls g++")
def test_the_default_compiler_takes_the_eager_steps():
    model, batches = small_network(dtype=torch.float64)
    twin = copy.deepcopy(model)
    compiled = torch.compile(model)
    optimizer, eager = (
        RST(sgd(m.parameters(), momentum=0.9), 1.0, model=m, gamma=0.5, **options()) for m in (model, twin)
    )
    optimizer.step(closure_of(optimizer, model, compiled, batches[0]))
    eager.step(closure_of(eager, twin, twin, batches[0]))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in batches[1:6]:
            optimizer.step(closure_of(optimizer, model, compiled, batch))
            eager.step(closure_of(eager, twin, twin, batch))
    for a, b in zip(weights(model), weights(twin), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
