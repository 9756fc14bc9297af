"""The benchmarks at tiny sizes: competitors compute the same thing, and the tables are written."""

from __future__ import annotations

import importlib.util
import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import NUMERIC, z_threshold

import rst_theory as rst
from experiments.benchmarks import (
    __main__ as command,
    cost,
    memory,
    optimizer,
    peers,
    scaling,
    simulation,
    training,
)
from experiments.benchmarks.competitors import normals, numpy_loops, ours, sam_loop, torch_batched
from experiments.benchmarks.ratios import paired_ratio
from experiments.benchmarks.work import METRICS, POINTS, Measured, Work, measured
from experiments.benchmarks.worker import Worker, jax_python, serve
from rst_theory import method
from rst_theory.files import read_table
from rst_theory.plots import ResultsError, plot_scaling

TINY = Work(dimension=6, replicas=400, steps=20)
PEERS = pytest.mark.skipif(
    importlib.util.find_spec("pytorch_optimizer") is None, reason="pytorch_optimizer is not installed"
)
NUMBA = pytest.mark.skipif(importlib.util.find_spec("numba") is None, reason="Numba is not installed")
COMPETITORS = {
    "ours": (ours, {"backend": "numpy"}),
    "NumPy plain": (numpy_loops, {"in_place": False}),
    "NumPy in place": (numpy_loops, {}),
    "NumPy in place, 2 threads": (numpy_loops, {"threads": 2}),
    "torch eager": (torch_batched, {"threads": 1}),
}


@pytest.fixture(scope="module")
def jax_workers():
    """A worker with one device and one with two."""
    python = jax_python()
    if python is None:
        pytest.skip("JAX is not installed")
    flags = "--xla_force_host_platform_device_count"
    with (
        Worker("jax_scan", python, {"XLA_FLAGS": f"{flags}=1"}) as one,
        Worker("jax_scan", python, {"XLA_FLAGS": f"{flags}=2"}) as two,
    ):
        yield {
            "scan": lambda work: one.run(work).measured,
            "unfolded": lambda work: one.run(work, folded=False).measured,
            "sharded": lambda work: two.run(work, devices=2).measured,
            "blocks": lambda work: two.run(work, devices=2, block=work.replicas // 4).measured,
        }


def one_path(work: Work) -> np.ndarray:
    """The metrics (3, POINTS) of a run without noise whose coins are certain, by `method.step`."""
    x, rows = work.start, []
    for t in range(work.steps + 1):
        if t % work.segment == 0:
            rows.append(np.array([0.5 * work.eigenvalues @ x**2, np.sum((work.eigenvalues * x) ** 2), x @ x]))
        x = method.step(x, lambda y: work.eigenvalues * y, bool(work.p), work.eta, work.rho)
    return np.array(rows).T


def require_path(found: Measured, work: Work) -> None:
    np.testing.assert_allclose(found.means, one_path(work), rtol=NUMERIC)
    # equal samples have no spread but that of rounding
    np.testing.assert_array_less(found.errors, 1e-12 * found.means)


def reference(work: Work) -> Measured:
    """The moments by the NumPy engine, with another seed."""
    run = rst.simulate(
        rst.problems.Quadratic(work.eigenvalues, noise=work.noise),
        work.p,
        steps=work.steps,
        eta=work.eta,
        rho=work.rho,
        replicas=2 * work.replicas,
        seed=work.seed + 1,
        at=work.times,
        backend="numpy",
        progress=False,
    )
    moments = [run.moments[name] for name in METRICS]
    return Measured(np.array([m.mean for m in moments]), np.array([m.standard_error for m in moments]))


@pytest.fixture(scope="module")
def expected() -> Measured:
    return reference(TINY)


def require_same_law(found: Measured, expected: Measured) -> None:
    assert found.means.shape == found.errors.shape == (len(METRICS), POINTS)
    np.testing.assert_allclose(found.means[:, 0], expected.means[:, 0], rtol=NUMERIC)  # the start
    z = (found.means - expected.means)[:, 1:] / np.hypot(found.errors, expected.errors)[:, 1:]
    assert np.abs(z).max() < z_threshold(z.size)


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("name", list(COMPETITORS))
def test_competitors_follow_the_method_without_noise(name: str, p: float) -> None:
    module, options = COMPETITORS[name]
    work = replace(TINY, noise=0.0, p=p, replicas=6)
    require_path(module.prepare(work, **options)(), work)


@pytest.mark.parametrize("name", list(COMPETITORS))
def test_competitors_have_the_law_of_the_reference(name: str, expected: Measured) -> None:
    module, options = COMPETITORS[name]
    require_same_law(module.prepare(TINY, **options)(), expected)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_the_torch_sam_follows_the_method(p: float) -> None:
    work = replace(TINY, noise=0.0, p=p, replicas=2)
    require_path(sam_loop.prepare(work)(), work)


def test_the_torch_sam_has_the_law_of_the_reference() -> None:
    work = replace(TINY, replicas=100, steps=10)
    require_same_law(sam_loop.prepare(work)(), reference(work))


@pytest.mark.parametrize("kind", ["scan", "unfolded", "sharded", "blocks"])
def test_jax_computes_the_same(jax_workers, kind: str, expected: Measured) -> None:
    work = replace(TINY, noise=0.0, p=1.0, replicas=8)
    require_path(jax_workers[kind](work), work)
    require_same_law(jax_workers[kind](TINY), expected)


def test_moments_are_those_of_the_samples() -> None:
    samples = np.random.default_rng(0).random((POINTS, 5, 3))
    found = measured(samples)
    assert found.means[1, 2] == pytest.approx(np.mean(samples[2, :, 1]), rel=1e-14)
    assert found.errors[1, 2] == pytest.approx(np.sqrt(np.var(samples[2, :, 1]) / 4), rel=1e-12)


@pytest.mark.parametrize("steps", [0, 5, 15, -10])
def test_steps_that_cannot_be_cut_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match="multiple of 10"):
        Work(2, 2, steps)


def test_a_worker_answers_every_request_and_its_errors() -> None:
    good = json.dumps({"work": replace(TINY, replicas=4).plain(), "options": {}})
    answers = io.StringIO()
    serve("numpy_loops", io.StringIO(f"{good}\nnonsense\n{good}\n"), answers)
    first, wrong, second = map(json.loads, answers.getvalue().splitlines())
    assert wrong["error"].startswith("JSONDecodeError")
    assert (
        first["means"] == second["means"] and first["seconds"] > 0 and first["after"] >= first["before"] > 0
    )


def row(name: str, dimension: int, noise: float, ns: float) -> dict[str, object]:
    return {"competitor": name, "dimension": dimension, "noise": noise, "ns_per_unit": ns}


def test_targets_are_ratios_of_the_rows() -> None:
    rows = [
        row(simulation.OURS, 20, 0.1, 0.5),
        row(simulation.OURS_ONE, 20, 0.1, 0.8),
        row(simulation.OURS_ONE, 20, 0.0, 0.2),
        row(simulation.NORMALS, 20, 0.1, 0.5),
        row(simulation.SCAN, 20, 0.1, 8.5),
        row(simulation.IN_PLACE, 20, 0.1, 7.5),
    ]
    found = [(r["measured"], r["target"], r["met"]) for r in simulation.target_rows(rows)]
    assert found == [
        (pytest.approx(17), 16, True),
        (pytest.approx(15), 16, False),
        (pytest.approx(0.8 / 0.7), 1.3, True),
        (pytest.approx(1.6), 1.8, False),
    ]


def test_the_simulation_tables_are_written(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(simulation, "jax_python", lambda: None)
    plan = simulation.Plan((replace(TINY, replicas=64),), repeats=2)
    contestants = [
        simulation.Contestant(simulation.OURS, "ours", {"backend": "numpy"}),
        *(c for c in simulation.CONTESTANTS if c.name in (simulation.IN_PLACE, simulation.SCAN)),
    ]
    simulation.run(tmp_path, plan, contestants)
    rows = read_table(tmp_path / "benchmark_simulation.json")
    assert [r["competitor"] for r in rows] == [simulation.OURS, simulation.IN_PLACE]
    assert rows[1]["steps"] == 20 and rows[0]["ns_per_unit"] > 0
    (cold,) = read_table(tmp_path / "benchmark_simulation_targets.json")
    assert cold["quantity"].startswith("seconds of a first call") and cold["at"] == "most"


def test_every_contestant_names_a_module_that_prepares_runs() -> None:
    modules = {"ours", "normals", "numpy_loops", "torch_batched", "jax_scan", "sam_loop"}
    assert {c.module for c in simulation.CONTESTANTS} == modules
    assert all(c.part(w).steps % 10 == 0 for c in simulation.CONTESTANTS for w in simulation.FULL.works)


@NUMBA
def test_the_floor_draws_normals() -> None:
    assert normals.prepare(replace(TINY, dimension=5, replicas=40))().means.shape == (3, POINTS)


def test_the_other_tables_are_written(tmp_path) -> None:
    plan = scaling.Plan(Work(2, 64, 10), Work(2, 64, 10), Work(2, 64, 10), decades=1, points=2, repeats=1)
    scaling.run(tmp_path, tmp_path, plan, backend="numpy")
    rows = read_table(tmp_path / "benchmark_scaling.json")
    assert {(r["variable"], r["value"], r["threads"]) for r in rows} == {
        (variable, value, n)
        for variable, values in {"replicas": (64, 640), "steps": (10, 100), "coordinates": (2, 20)}.items()
        for value in values
        for n in (1, 2)
    }
    steps = {r["value"]: r for r in rows if r["variable"] == "steps" and r["threads"] == 1}
    assert steps[10]["exponent"] == pytest.approx(np.log10(steps[100]["seconds"] / steps[10]["seconds"]))
    assert (tmp_path / "engine_scaling.png").exists() and (tmp_path / "engine_scaling.svg").exists()
    memory.run(tmp_path, [Work(2, 8, 10)], backend="numpy")
    (used,) = read_table(tmp_path / "benchmark_memory.json")
    assert used["peak_mb"] >= used["interpreter_mb"] > 1 and used["met"]
    cost.run(tmp_path, steps=(10,))
    assert [r["T"] for r in read_table(tmp_path / "benchmark_cost.json")] == [10]


def test_the_scaling_figure_shows_every_median() -> None:
    rows = [
        {"variable": v, "value": n, "threads": k, "seconds": 1e-3 * n / k, "exponent": 1.0}
        for v in ("replicas", "steps")
        for k in (1, 2)
        for n in (10, 100, 1000)
    ]
    axes = plot_scaling(rows).axes
    assert [a.get_xlabel() for a in axes] == ["replicas", "steps"]
    for panel in axes:
        dots = {line.get_label(): list(line.get_ydata()) for line in panel.lines if line.get_marker() == "o"}
        assert dots["2 threads, β = 1.00"] == [0.005, 0.05, 0.5]
    with pytest.raises(ResultsError, match="row 1: field 'seconds'"):
        plot_scaling([{**rows[0], "seconds": 0.0}])
    with pytest.raises(ResultsError, match="no rows"):
        plot_scaling([])


def test_an_unknown_benchmark_is_refused(capsys) -> None:
    assert command.main(["simulaton"]) == 2
    assert "choose from cost, simulation" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("n", "k", "confidence"), [(7, 1, 1 - 2 / 128), (8, 1, 1 - 2 / 256), (20, 4, 1 - 2 * 1351 / 2**20)]
)
def test_the_interval_of_a_ratio_is_that_of_the_sign_test(n: int, k: int, confidence: float) -> None:
    # 1351 = C(20, 0) + C(20, 1) + C(20, 2) + C(20, 3)
    order = np.random.default_rng(0).permutation(n)
    times = np.arange(1.0, n + 1)[order]
    found = paired_ratio(list(2 * times), [2.0] * n)
    assert found == pytest.approx(((n + 1) / 2, k, n + 1 - k, confidence), rel=1e-12)


def test_a_ratio_needs_pairs() -> None:
    with pytest.raises(ValueError, match="at least one pair"):
        paired_ratio([], [])
    with pytest.raises(ValueError):
        paired_ratio([1.0], [1.0, 2.0])


def test_the_shapes_are_those_of_the_networks() -> None:
    entries = {m: sum(s.numel() for s in optimizer.shapes_of(m)) for m in optimizer.FULL.models}
    assert entries == {"resnet18": 11_173_962, "wrn28-10": 36_479_194}


@pytest.mark.parametrize("contestant", optimizer.CONTESTANTS, ids=lambda c: c.name)
def test_own_work_leaves_out_the_passes_and_the_base(contestant, monkeypatch) -> None:
    """A clock that only the passes and the base's step move on: nothing is left for the method."""
    if contestant.is_peer:
        pytest.importorskip("pytorch_optimizer")
    now = [0.0]
    monkeypatch.setattr(optimizer.time, "perf_counter", lambda: now[0])
    steps = optimizer._Steps(contestant, [torch.Size([3, 2]), torch.Size([4])], "none")
    passes, before = [], [p.detach().clone() for p in steps.parameters]

    def one_pass() -> torch.Tensor:
        now[0] += 1.0
        passes.append([p.detach().clone() for p in steps.parameters])
        for p, g in zip(steps.parameters, steps.gradients, strict=True):
            p.grad = g.clone()
        return torch.zeros(())

    steps.closure = steps._timed(one_pass)
    assert steps.turn(1) == 0.0 and now[0] == 2.0
    moved = torch.cat([(y - x).flatten() for x, y in zip(*passes, strict=True)]).norm()
    assert float(moved) == pytest.approx(optimizer.RHO, rel=1e-4)  # the second pass was the perturbed one
    for x, p, g in zip(before, steps.parameters, steps.gradients, strict=True):
        torch.testing.assert_close(p.detach(), x - optimizer.RATE * g)


@pytest.mark.parametrize(
    ("gamma", "storage", "moves"), [(1.0, "swap", 5), (2.0, "swap", 8), (1.0, "copy", 9)]
)
def test_the_floor_counts_what_the_method_moves(gamma: float, storage: str, moves: int) -> None:
    def make(model):
        sgd = torch.optim.SGD(model.parameters(), lr=0.1)
        return rst.optim.RST(sgd, 1.0, gamma=gamma, storage=storage)

    assert peers._moves(make) == moves
    assert moves in {c.moves for c in optimizer.CONTESTANTS}


def test_movement_is_counted_as_operations_read_and_write() -> None:
    x, y = torch.ones(10), torch.ones(10)
    for operation, entries in [
        (lambda: x.clone(), 20),
        (lambda: x.add_(y), 30),
        (lambda: y.copy_(x), 20),
        (lambda: torch.add(x, x, out=y), 20),
        (lambda: torch.dot(x, x), 11),
        (lambda: x.view(5, 2), 0),
        (lambda: torch.empty(10), 0),
        (lambda: torch._foreach_mul_([x, y], 2.0), 40),
        (lambda: y.zero_(), 10),
    ]:
        with peers.Movement() as movement:
            operation()
        assert movement.entries == entries


def test_the_optimizer_tables_are_written_and_their_targets_judged(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(optimizer.importlib.util, "find_spec", lambda name: None)
    seconds = {optimizer.SAM: [0.004, 0.005], optimizer.MIXED: [0.02, 0.03], optimizer.COPY: [0.01, 0.01]}
    streams = {name: [0.001 * moves] * 2 for name, (moves, _) in optimizer.STREAMS.items()}
    streams["copy_"] = [0.001, 0.001]  # two moves: twice the rate of the others
    monkeypatch.setattr(optimizer, "_race", lambda *arguments: (seconds, streams))
    optimizer.run(tmp_path, replace(optimizer.QUICK, models=("resnet18",)))
    rows = {r["contestant"]: r for r in read_table(tmp_path / "benchmark_optimizer.json")}
    assert rows[optimizer.SAM]["floor_ms"] == pytest.approx(2.5) and rows[optimizer.SAM]["over_peer"] is None
    assert rows[optimizer.SAM]["over_floor"] == pytest.approx(0.0045 / 0.0025)
    rates = {r["kernel"]: r for r in read_table(tmp_path / "benchmark_optimizer_rates.json")}
    assert [name for name, r in rates.items() if r["best"]] == ["copy_"]
    assert rates["dot"]["gb_per_second"] == pytest.approx(4 * 11_173_962 / 0.001 / 1e9)
    targets = read_table(tmp_path / "benchmark_optimizer_targets.json")
    assert [(t["target"], t["met"]) for t in targets] == [(1.4, False), (1.4, False), (1.4, False)]
    with_peer = {**rows[optimizer.SAM], "peer": optimizer.PEER, "over_peer": 0.4}
    judged = optimizer.target_rows([{**with_peer, "over_peer_low": 0.3, "over_peer_high": 0.5}])
    assert next((t["measured"], t["target"], t["met"]) for t in judged) == (0.4, 0.4, True)


def test_a_race_asks_every_contestant_in_its_own_process(monkeypatch) -> None:
    ours = [c for c in optimizer.CONTESTANTS if c.name == optimizer.SAM]
    seconds, streams = optimizer._race(ours, "cnn", "none", optimizer.Plan((), rounds=1, steps=1))
    assert list(seconds) == [optimizer.SAM] and seconds[optimizer.SAM][0] > 0
    assert all(len(times) == 1 and times[0] > 0 for times in streams.values())


def test_training_is_measured_in_blocks_of_equal_pairs(tmp_path) -> None:
    pytest.importorskip("sklearn")
    task = training.Task("tiny", "digits", "mlp", 4, torch.get_num_threads(), steps=4, rounds=3, target=1.08)
    blocks = training.measure(task, None)
    assert {name: [b.perturbed for b in own] for name, own in blocks.items()} == {
        "SGD": [0, 0, 0],
        "RST, p = 1/2": [2, 2, 2],
        "SAM": [4, 4, 4],
    }
    assert all(b.steps == 4 and b.seconds > 0 for own in blocks.values() for b in own)


def test_training_ratios_are_over_the_pairs() -> None:
    task = training.FULL[1]
    blocks = {
        "SGD": [training.Block(1.0, 10, 0), training.Block(2.0, 10, 0)],
        "RST, p = 1/2": [training.Block(1.65, 10, 6), training.Block(3.3, 10, 6)],
        "SAM": [training.Block(2.1, 10, 10), training.Block(4.2, 10, 10)],
    }
    rows = training.rows_of(task, blocks)
    assert [r["over_pairs_expected"] for r in rows] == pytest.approx([1.0, 1.1, 1.05])
    assert [r["over_pairs_taken"] for r in rows] == pytest.approx([1.0, 1.65 / 1.6, 1.05])
    assert [(t["measured"], t["met"]) for t in training.target_rows(rows, [task])] == [
        (pytest.approx(1.1), False),
        (pytest.approx(1.05), True),
    ]
    with pytest.raises(ValueError, match="even number"):
        replace(task, steps=3)


@PEERS
def test_we_have_none_of_the_failures_of_the_peers(tmp_path) -> None:
    peers.run(tmp_path)
    rows = read_table(tmp_path / "peers.json")
    assert len(rows) == len(peers.PROBES) and all(r["ours_is_right"] for r in rows)
    wrong = {r["measure"]: r["peer"] for r in rows if not r["peer_is_right"]}
    assert wrong["minibatches counted in a step"] == 2.0 and wrong["rho that Adadelta works with"] == 0.05


def test_a_figure_that_is_not_one_is_told() -> None:
    assert peers._figure(lambda: 1 / 0) == (None, "ZeroDivisionError: division by zero")
    assert peers._figure(lambda: float("nan")) == (None, "not finite")


def test_without_the_peer_its_table_is_left_out(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(peers.importlib.util, "find_spec", lambda name: None)
    peers.run(tmp_path)
    assert not list(tmp_path.iterdir()) and "extra bench" in capsys.readouterr().out
