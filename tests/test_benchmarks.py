"""The benchmarks at tiny sizes: competitors compute the same thing, and the tables are written."""

from __future__ import annotations

import importlib.util
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import NUMERIC, z_threshold

import rst_theory as rst
from experiments.benchmarks import __main__ as command, cost, memory, scaling, simulation
from experiments.benchmarks.competitors import normals, numpy_loops, ours, sam_loop, torch_batched
from experiments.benchmarks.work import METRICS, POINTS, Measured, Work, measured
from experiments.benchmarks.worker import Worker, jax_python, serve
from rst_theory import method
from rst_theory.files import read_table
from rst_theory.plots import ResultsError, plot_scaling

TINY = Work(dimension=6, replicas=400, steps=20)
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
