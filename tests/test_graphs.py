"""Graphed steps, with a stand-in for CUDA's graphs; what else only a GPU runs, as far as a CPU can tell."""

import contextlib
import math
from types import SimpleNamespace

import pytest
import torch
from conftest import ONE_STEP
from torch import nn

import rst_theory as rst
from rst_theory.notation import DomainError
from rst_theory.optim import GraphedStep, graphs
from rst_theory.optim.data_parallel import LocalPass
from rst_theory.optim.mixture import clip, mix

STEPS = 24
CHANGING = {"rho": rst.Linear(0.1, 0.5), "gamma": rst.Linear(0.5, 2.0)}


class Problem:
    """A small network, a minibatch that lies where it lies, and the optimizer of a run."""

    def __init__(self, make=lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9), **options):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2)).double()
        self.inputs, self.targets = torch.empty(8, 3).double(), torch.empty(8, 2).double()
        usual = {"total_steps": STEPS, "seed": 3, "storage": "copy", "model": self.model}
        self.optimizer = rst.RST(make(self.model.parameters()), 0.5, **(usual | options))
        self.calls = 0

    def closure(self):
        self.calls += 1
        self.optimizer.zero_grad()
        loss = ((self.model(self.inputs) - self.targets) ** 2).mean()
        loss.backward()
        return loss

    def next_minibatch(self, t):
        generator = torch.Generator().manual_seed(t)
        for one in (self.inputs, self.targets):
            one.copy_(torch.randn(one.shape, generator=generator, dtype=torch.float64))

    def state(self):
        return torch.cat([value.double().flatten() for value in self.model.state_dict().values()])


class Graph:
    """Stands in for a CUDA graph: it runs what was captured, with the host's numbers of the capture."""

    def __init__(self):
        self.work = None
        self.replays = 0

    def replay(self):
        self.replays += 1
        self.work()


class Stream:
    def wait_stream(self, other):
        pass


@pytest.fixture
def captured(monkeypatch):
    """The graphs that are made, in their order, on a machine that seems to have a GPU.

    A capture runs nothing: what it did to the weights is undone, and done again at each replay.
    """
    made = []

    class FakeGraph(Graph):
        def __init__(self):
            super().__init__()
            made.append(self)

    @contextlib.contextmanager
    def capture(graph, pool, stream):
        optimizer = capture.step.optimizer
        values = [v for g in optimizer.param_groups for p in g["params"] for v in (p, *tensors(optimizer, p))]
        values += list(capture.problem.model.buffers())
        before, t = [v.detach().clone() for v in values], optimizer.steps_taken
        yield
        with torch.no_grad():
            for value, old in zip(values, before, strict=True):
                value.copy_(old)

        def work():
            now, optimizer.steps_taken = optimizer.steps_taken, t
            with capture.step._reading():
                loss = optimizer._update(capture.problem.closure)
            optimizer.steps_taken = now
            capture.step._captured[optimizer._plan.trial(t)].loss.copy_(loss.detach())

        graph.work = work

    fakes = {
        "Stream": lambda device: Stream(),
        "current_stream": Stream,
        "stream": contextlib.nullcontext,
        "device": contextlib.nullcontext,
        "graph_pool_handle": object,
        "CUDAGraph": FakeGraph,
        "graph": capture,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    monkeypatch.setattr(graphs, "_device", lambda optimizer: torch.device("cpu"))
    return made, capture


def tensors(optimizer, p):
    return [v for v in optimizer.state[p].values() if isinstance(v, torch.Tensor)]


def graphed(captured, **options):
    problem = Problem(**options)
    step = GraphedStep(problem.optimizer, problem.closure)
    captured[1].step, captured[1].problem = step, problem
    return problem, step


def run(problem, step, first=0, last=STEPS):
    losses = []
    for t in range(first, last):
        problem.next_minibatch(t)
        losses.append(step())
    return losses


def eager_run(**options):
    problem = Problem(**options)
    return problem, run(problem, lambda: problem.optimizer.step(problem.closure).detach())


@pytest.mark.parametrize(
    "options",
    [
        {},
        CHANGING,
        {"degree": 0.7, "rho": 0.3, "clip_direction": 0.1},
        {**CHANGING, "ascent": "unnormalized", "clip_ascent": 0.5},
        {"perturb_groups": [rst.Linear(0.0, 0.4)], "adaptive": True},
    ],
)
def test_graphed_steps_are_the_eager_ones(captured, options):
    eager, losses = eager_run(**options)
    problem, step = graphed(captured, **options)
    torch.testing.assert_close(run(problem, step), losses, rtol=STEPS * ONE_STEP, atol=0)
    torch.testing.assert_close(problem.state(), eager.state(), rtol=STEPS * ONE_STEP, atol=STEPS * ONE_STEP)
    assert problem.optimizer.steps_taken == STEPS
    assert problem.optimizer.perturbed_steps == eager.optimizer.perturbed_steps
    assert problem.optimizer._on_device == {}


def test_each_trial_is_captured_once_after_three_eager_steps(captured):
    problem, step = graphed(captured, **CHANGING)
    run(problem, step)
    perturbed, replays = problem.optimizer.perturbed_steps, [graph.replays for graph in captured[0]]
    assert sorted(replays) == sorted([perturbed - 3, STEPS - perturbed - 3])


def test_losses_are_tensors_of_their_own(captured):
    problem, step = graphed(captured)
    losses = run(problem, step)
    assert len({loss.data_ptr() for loss in losses}) == STEPS
    assert not any(loss.requires_grad for loss in losses)


def test_an_eager_step_between_graphed_ones_has_its_own_radius(captured):
    eager, _ = eager_run(**CHANGING)
    problem, step = graphed(captured, **CHANGING)
    mixed = iter([step] * 16 + [lambda: problem.optimizer.step(problem.closure).detach(), step] * 4)
    run(problem, lambda: next(mixed)())
    torch.testing.assert_close(problem.state(), eager.state(), rtol=STEPS * ONE_STEP, atol=STEPS * ONE_STEP)


def test_a_step_beyond_the_last_is_refused(captured):
    problem, step = graphed(captured)
    run(problem, step)
    with pytest.raises(DomainError, match="total_steps = 24"):
        step()


@pytest.mark.parametrize("change", [{"lr": 0.01}, {"initial": 1}])
def test_a_number_that_changes_after_the_capture_is_refused(captured, change):
    problem, step = graphed(captured)
    run(problem, step, last=20)
    before = problem.state()
    problem.optimizer.param_groups[0].update(change)
    with pytest.raises(ValueError, match=f"'{next(iter(change))}' of parameter group 0 has changed"):
        step()
    assert torch.equal(problem.state(), before)
    assert problem.optimizer.steps_taken == 20


def test_a_rate_in_a_tensor_may_change(captured):
    def make(parameters):
        return torch.optim.SGD(parameters, lr=torch.tensor(0.05, dtype=torch.float64), momentum=0.9)

    def halve(problem):
        problem.optimizer.param_groups[0]["lr"].mul_(0.5)

    problem, step = graphed(captured, make=make)
    eager = Problem(make=make)
    run(problem, step, last=20)
    run(eager, lambda: eager.optimizer.step(eager.closure), last=20)
    halve(problem), halve(eager)
    run(problem, step, first=20)
    run(eager, lambda: eager.optimizer.step(eager.closure), first=20)
    torch.testing.assert_close(problem.state(), eager.state(), rtol=STEPS * ONE_STEP, atol=STEPS * ONE_STEP)


def test_a_base_that_counts_on_the_host_is_refused(captured):
    problem, step = graphed(captured, make=torch.optim.Adam)
    with pytest.raises(RuntimeError, match="Adam counts 'step' on the host"):
        run(problem, step)
    assert problem.optimizer.steps_taken == 2


def test_steps_are_captured_anew_after_a_checkpoint_is_loaded(captured):
    problem, step = graphed(captured, **CHANGING)
    run(problem, step, last=16)
    model, optimizer = problem.model.state_dict(), problem.optimizer.state_dict()
    model = {name: value.clone() for name, value in model.items()}
    optimizer = torch.utils._pytree.tree_map_only(torch.Tensor, torch.clone, optimizer)
    made = len(captured[0])
    run(problem, step, first=16)
    final = problem.state()
    assert len(captured[0]) == made
    problem.model.load_state_dict(model)
    problem.optimizer.load_state_dict(optimizer)
    run(problem, step, first=16)
    torch.testing.assert_close(problem.state(), final, rtol=STEPS * ONE_STEP, atol=STEPS * ONE_STEP)
    assert len(captured[0]) > made


def test_lengths_are_noted_at_each_replay_under_its_step(captured):
    problem, step = graphed(captured)
    run(problem, step, last=20)
    trial = problem.optimizer.will_perturb
    one = step._captured[trial]
    step._captured[trial] = one._replace(lengths=[("the length of the direction", torch.tensor(math.inf))])
    step()
    with pytest.raises(FloatingPointError, match="the length of the direction of step 20 was inf"):
        step()


def test_captured_lengths_lose_the_step_of_their_capture(captured):
    problem, step = graphed(captured)
    run(problem, step, last=20)
    before = step._captured.pop(True)
    while not problem.optimizer.will_perturb:
        step()
    update, t = problem.optimizer._update, problem.optimizer.steps_taken

    def noting(closure):
        problem.optimizer._checks.captured.append((f"a length of step {t}", torch.ones(())))
        return update(closure)

    problem.optimizer._update = noting
    assert [what for what, _ in step._capture().lengths] == ["a length"]
    assert before.lengths == []


def test_radii_lie_on_the_device_and_may_be_zero(captured, monkeypatch):
    problem, step = graphed(captured, rho=rst.Linear(0.0, 0.4), gamma=rst.Linear(2.0, 0.0))
    problem.next_minibatch(0)
    step()
    assert {key: float(value) for key, value in step._changing.items()} == {
        ("gamma", 0): 2.0,
        ("rho", 0): 0.0,
    }
    monkeypatch.setattr(graphs, "_device", lambda optimizer: torch.device("meta"))
    assert all(value.is_meta for value in GraphedStep(problem.optimizer, problem.closure)._changing.values())


def test_one_cuda_device_is_found_and_others_are_named():
    def on(*places):
        points = [SimpleNamespace(device=torch.device(place)) for place in places]
        return graphs._device(SimpleNamespace(param_groups=[{"params": points[:1]}, {"params": points[1:]}]))

    assert on("cuda:1", "cuda:1") == torch.device("cuda:1")
    for places in (("cuda:1", "cuda:0"), ("cuda:0", "cpu", "cuda:0"), ("cpu",), ("meta", "meta"), ()):
        named = ", ".join(sorted(set(places)))
        with pytest.raises(RuntimeError, match=f"on one CUDA device; they are on {named}$"):
            on(*places)


def test_parameters_must_be_on_one_cuda_device():
    problem = Problem()
    with pytest.raises(RuntimeError, match="all parameters on one CUDA device; they are on cpu"):
        GraphedStep(problem.optimizer, problem.closure)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"storage": "swap"}, "storage='swap' moves"), ({"replay_randomness": True}, "replay_randomness=True")],
)
def test_what_no_graph_can_do_is_refused(captured, options, message):
    with pytest.raises(ValueError, match=message):
        graphed(captured, **options)


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({}, []),
        ({"rho": 0.1, "gamma": 2.0}, []),
        ({"rho": rst.Linear(0.1, 0.2)}, [("rho", 0), ("rho", 1)]),
        ({"gamma": rst.Linear(0.1, 0.2)}, [("gamma", 0)]),
        ({"degree": 0.3}, [("gamma", 0)]),
        ({"rho": rst.Linear(0.1, 0.2), "perturb_groups": [False, 0.3]}, []),
        ({"rho": rst.Linear(0.1, 0.2), "perturb_groups": [False, True]}, [("rho", 1)]),
        ({"perturb_groups": [rst.Linear(0.1, 0.2), {"adaptive": True}]}, [("rho", 0)]),
    ],
)
def test_what_changes_from_step_to_step_lies_in_tensors(options, keys):
    groups = [{"params": [nn.Parameter(torch.zeros(2))]} for _ in range(2)]
    optimizer = rst.RST(torch.optim.SGD(groups, lr=0.1), 0.5, 10, **options)
    assert graphs._changing(optimizer) == keys


def test_numbers_of_the_groups_are_those_that_a_graph_holds():
    base = torch.optim.Adam([nn.Parameter(torch.zeros(2))], lr=torch.tensor(0.1))
    numbers = graphs._numbers(rst.RST(base, 0.5))
    assert numbers[0, "betas"] == (0.9, 0.999)
    assert numbers[0, "weight_decay"] == 0
    assert (0, "lr") not in numbers


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.complex64])
def test_coefficients_in_tensors_act_as_numbers_do(dtype):
    torch.manual_seed(0)
    parameters = [nn.Parameter(torch.zeros(n, dtype=dtype)) for n in (3, 5)]
    first, second = ([torch.randn(n, dtype=dtype) for n in (3, 5)] for _ in range(2))
    for p, g_adv in zip(parameters, second, strict=True):
        p.grad = g_adv.clone()
    mix(parameters, first, torch.tensor(1.7, dtype=torch.float64))
    clip([p.grad for p in parameters], torch.tensor(4.0, dtype=torch.float64), 3.0)
    for p, g, g_adv in zip(parameters, first, second, strict=True):
        assert p.grad.dtype == dtype
        wide, wide_adv = g.to(torch.complex128), g_adv.to(torch.complex128)
        expected = 0.75 * ((1 - 1.7) * wide + 1.7 * wide_adv)
        # Four roundings of the type, of numbers that are at most 1.7 (|g| + |g_adv|).
        error = (p.grad.to(torch.complex128) - expected).abs()
        assert (error <= 4 * 1.7 * torch.finfo(dtype).eps * (wide.abs() + wide_adv.abs())).all()


def test_the_longest_length_may_lie_beyond_single_precision(monkeypatch):
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda *_: None)
    local = LocalPass(None)
    local.parallel = [SimpleNamespace(parameters=lambda: iter([torch.zeros(1)]), process_group=None)]
    assert local.longest(1e300) == 1e300
    assert local.longest(math.inf) == local.longest(math.nan) == math.inf


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_an_autocast_around_the_step_sees_the_perturbed_weights(gamma):
    """Autocast keeps the casts of weights until its block ends; weights that move leave them behind."""

    def weights(around):
        torch.manual_seed(0)
        model, x = nn.Linear(8, 1), torch.randn(16, 8)
        optimizer = rst.RST(torch.optim.SGD(model.parameters(), lr=0.1), 1.0, rho=2.0, gamma=gamma)

        def closure():
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = (model(x).float() ** 2).mean()
            loss.backward()
            return loss

        for _ in range(3):
            with torch.autocast("cpu", torch.bfloat16) if around else contextlib.nullcontext():
                optimizer.step(closure)
        return model.weight.detach()

    assert torch.equal(weights(around=True), weights(around=False))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_agree_with_eager_steps_on_a_gpu():
    from experiments.gpu_training import TOLERANCE, graphs_agree

    assert graphs_agree() <= TOLERANCE
