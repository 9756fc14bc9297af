"""Grids against closed forms, each other, and what may befall them: interrupts, damage, killed workers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from fractions import Fraction

import joblib
import numpy as np
import pytest
from conftest import NUMERIC, ONE_STEP
from hypothesis import example, given, settings, strategies as st

import rst_theory as rst
from rst_theory.notation import DomainError
from rst_theory.problems import FromFunctions, Quadratic
from rst_theory.simulation import Trajectories, grid as room
from rst_theory.simulation.grid import Cell, simulate_grid

QUADRATIC = Quadratic([1.0, 0.4, 0.1], noise=0.2)
SCHEDULES = {"never": 0.0, "always": 1.0, "rising": rst.Linear(0.0, 1.0)}


def run_grid(problems=QUADRATIC, schedules=SCHEDULES, **changes):
    """A small grid in this process."""
    asked = {"steps": 6, "eta": 0.3, "rho": 0.1, "replicas": 5, "seed": 3, "backend": "numpy", "processes": 1}
    return simulate_grid(problems, schedules, **(asked | changes))


def forbid_simulation(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("simulated again")

    monkeypatch.setattr(room, "simulate", refuse)


def assert_same(one, other):
    assert list(one) == list(other) and one.cells == other.cells
    for cell, run in one.items():
        assert_same_run(run, other[cell])


def assert_same_run(run, again):
    assert (run.description, run.backend, run.replicas) == (again.description, again.backend, again.replicas)
    np.testing.assert_array_equal(run.extra_pairs, again.extra_pairs)
    for name, moments in run.moments.items():
        np.testing.assert_array_equal(moments.means, again.moments[name].means)
        np.testing.assert_array_equal(moments.squares, again.moments[name].squares)


# What the cells hold


def test_every_combination_is_a_cell_with_the_gap_of_the_closed_form():
    """f(x_T) = 1/2 sum lam (1 - eta lam (1 + X rho lam))^(2 T) x_0^2 without noise, all trials X alike."""
    spectra = {"flat": np.array([0.5, 0.1]), "sharp": np.array([1.0, 0.2])}
    problems = {label: Quadratic(lam) for label, lam in spectra.items()}
    grid = run_grid(problems, [0.0, 1.0], eta=[0.1, 0.3], rho=[0.0, 0.2], ascent="unnormalized", replicas=2)
    assert len(grid) == 16 and not grid.partial
    assert list(grid)[:3] == [
        Cell("flat", 0.0, 0.1, 0.0, 1.0, 0),
        Cell("flat", 0.0, 0.1, 0.2, 1.0, 0),
        Cell("flat", 0.0, 0.3, 0.0, 1.0, 0),
    ]
    for cell, run in grid.items():
        lam = spectra[cell.problem]
        factor = 1 - cell.eta * lam * (1 + cell.schedule * cell.rho * lam)
        assert run.final_gap.mean == pytest.approx((lam * factor**12).sum() / 2, rel=NUMERIC)


def test_a_cell_is_one_call_of_simulate():
    grid = run_grid(repetitions=2, gamma={"half": np.full(6, 0.5), "rising": rst.Linear(0.0, 1.0)})
    cell = Cell(
        "<Quadratic: d = 3, L = 1, mu = 0.1, sigma = 0.34641, f_star = 0>", "rising", 0.3, 0.1, "half", 1
    )
    again = rst.simulate(
        QUADRATIC,
        rst.Linear(0.0, 1.0),
        steps=6,
        eta=0.3,
        rho=0.1,
        gamma=0.5,
        replicas=5,
        seed=grid.seed_of(cell),
        backend="numpy",
    )
    assert_same_run(grid[cell], again)


def test_a_list_of_numbers_is_an_axis_and_an_array_is_one_value():
    assert len(run_grid(eta=[0.1] * 1 + [0.2, 0.3, 0.1 + 0.3, 0.5, 0.6])) == 18
    assert len(run_grid(eta=np.full(6, 0.1))) == 3


def test_seeds_come_from_problem_and_repetition_alone():
    problems = {"a": QUADRATIC, "b": QUADRATIC}
    grid = run_grid(problems, eta=[0.1, 0.2], repetitions=3)
    seeds = {(cell.problem, cell.repetition): grid.seed_of(cell) for cell in grid}
    assert len(seeds) == len(set(seeds.values())) == 6
    assert all(
        f"seed {seeds[cell.problem, cell.repetition]}" in run.description for cell, run in grid.items()
    )
    assert run_grid(problems, seed=4).seed_of(grid.cells[0]) != grid.seed_of(grid.cells[0])


def test_cells_are_compared_on_common_random_numbers():
    """Without a radius the trials change nothing, so that equal noise means equal points."""
    grid = run_grid(rho=0.0)
    never, always, rising = grid.values()
    for other in (always, rising):
        for name, moments in never.moments.items():
            np.testing.assert_allclose(moments.means, other.moments[name].means, rtol=ONE_STEP)
    assert never.final_gap.standard_error > 0
    assert (never.extra_pairs == 0).all() and (always.extra_pairs == 6).all()


def test_a_diverging_cell_stops_no_other(caplog, tmp_path):
    grid = run_grid(schedules=1.0, eta={"small": 0.1, "huge": 1e200}, folder=tmp_path)
    assert [cell.eta for cell in grid] == ["small"] and not grid.partial
    (cell,) = grid.diverged
    assert cell.eta == "huge" and cell not in grid and "floating-point range" in caplog.text
    assert repr(grid) == "<Grid: 2 etas = 2 cells, 1 diverged>"
    with pytest.raises(KeyError, match="floating-point range"):
        grid[cell]
    assert len(list(tmp_path.iterdir())) == 1


def test_the_data_frame_has_a_row_for_each_run():
    grid = run_grid(eta=[0.1, 0.3], repetitions=2)
    table = grid.to_dataframe()
    assert len(table) == len(grid) == 12
    for row, (cell, run) in zip(table.to_dict("records"), grid.items(), strict=True):
        assert tuple(row[name] for name in Cell._fields) == cell and row["seed"] == grid.seed_of(cell)
        assert row["extra_pairs"] == run.extra_pairs.mean() and row["final_gap"] == run.final_gap.mean
        assert row["squared_gradient_norm"] == pytest.approx(
            run.squared_gradient_norm.mean.mean(), rel=NUMERIC
        )
    assert "squared_gradient_norm" not in run_grid(at=[]).to_dataframe()


@pytest.mark.parametrize(
    "library, call", [("pandas", lambda grid: grid.to_dataframe()), ("joblib", lambda _: run_grid())]
)
def test_what_is_absent_is_named_with_its_extra(monkeypatch, library, call):
    grid = run_grid(schedules=0.5)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=r"rst-theory\[experiments\]"):
        call(grid)


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"eta": []}, ValueError, "eta has no values"),
        ({"rho": [0.1, 0.1]}, ValueError, "two values of rho are called alike"),
        ({"problems": [QUADRATIC, QUADRATIC]}, ValueError, "two values of problem are called alike"),
        ({"gamma": [np.ones(6)]}, ValueError, "array among the values of gamma needs a label"),
        ({"eta": {1: 0.1}}, TypeError, "labels of eta must be text; got 1"),
        ({"problems": 3.0}, TypeError, "must be of class Problem; got 3.0"),
        ({"eta": [0.1, -1.0]}, DomainError, "eta in"),
        ({"eta": "fast"}, TypeError, "eta must be real numbers"),
        ({"rho": np.ones(5)}, ValueError, "have shape"),
        ({"schedules": {"most": 2.0}}, DomainError, "probability"),
        ({"repetitions": 0}, DomainError, "repetitions"),
        ({"processes": 0}, DomainError, "processes"),
        ({"seed": -1}, DomainError, "seed"),
        ({"backend": "jax"}, ValueError, "backend must be one of"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_run(monkeypatch, tmp_path, changes, error, message):
    if "backend" not in changes:
        forbid_simulation(monkeypatch)
    with pytest.raises(error, match=message):
        run_grid(**(changes | {"folder": tmp_path}))
    assert list(tmp_path.iterdir()) == []


def test_a_refusal_names_the_cell():
    with pytest.raises(DomainError) as refused:
        run_grid(eta={"good": 0.1, "bad": -1.0})
    assert any("eta='bad'" in note for note in refused.value.__notes__)


# What is stored


def test_a_second_call_runs_nothing_and_a_larger_grid_what_is_new(monkeypatch, tmp_path):
    first = run_grid(folder=tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(times) == 3
    larger = run_grid(schedules=SCHEDULES | {"half": 0.5}, folder=tmp_path)
    new = {path for path in tmp_path.iterdir() if path not in times}
    assert len(new) == 1 and all(path.stat().st_mtime_ns == then for path, then in times.items())
    forbid_simulation(monkeypatch)
    assert_same(run_grid(folder=str(tmp_path)), first)
    assert_same(run_grid(schedules=SCHEDULES | {"half": 0.5}, folder=tmp_path), larger)
    with pytest.raises(AssertionError, match="simulated again"):
        run_grid(folder=tmp_path, steps=7)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"\0" * len(b)])
def test_a_damaged_file_is_run_again_and_said(tmp_path, caplog, damage):
    first = run_grid()
    run_grid(folder=tmp_path)
    path = min(tmp_path.iterdir())
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert_same(run_grid(folder=tmp_path), first)
    assert str(path) in caplog.text and "damaged" in caplog.text
    assert Trajectories.load(path).replicas == 5


def test_an_interrupt_returns_what_is_done_and_the_next_call_goes_on(tmp_path):
    def interrupt(share):
        if share > 1 / 3:
            raise KeyboardInterrupt

    grid = run_grid(folder=tmp_path, progress=interrupt)
    assert grid.partial and len(grid) == 2 and len(list(tmp_path.iterdir())) == 2
    assert repr(grid) == "<Grid: 3 schedules = 3 cells, 2 done, the rest was interrupted>"
    shares = []
    assert_same(run_grid(folder=tmp_path, progress=shares.append), run_grid())
    assert shares == [1.0]


def test_a_partial_run_is_never_stored(monkeypatch, tmp_path):
    """`simulate` returns what it has when it is interrupted."""

    def interrupted(*args, replicas, **kwargs):
        run = rst.simulate(*args, replicas=replicas, **kwargs)
        return room.dataclasses.replace(run, replicas=replicas + 1)

    monkeypatch.setattr(room, "simulate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_grid(folder=tmp_path)
    assert list(tmp_path.iterdir()) == []


DIES = """
import os, signal, sys
sys.path.insert(0, {tests!r})
os.replace = lambda *names: os.kill(os.getpid(), signal.SIGKILL)
import test_grid
test_grid.run_grid(folder={folder!r})
"""


def test_a_process_that_dies_while_it_writes_leaves_no_result(tmp_path):
    code = DIES.format(tests=os.path.dirname(__file__), folder=str(tmp_path))
    died = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert died.returncode == -signal.SIGKILL, died.stderr
    assert len(list(tmp_path.iterdir())) == 1 and list(tmp_path.glob("[!.]*")) == []
    assert_same(run_grid(folder=tmp_path), run_grid())


# What a result is stored under


def affine(slope, start=(1.0,)):
    return FromFunctions(lambda x: slope * x @ x / 2, lambda x: slope * x, 1, L=4.0, f_star=0.0, start=start)


PROBLEMS = [
    QUADRATIC,
    Quadratic([1.0, 0.4, 0.1], noise=0.3),
    Quadratic([1.0, 0.4, 0.1], noise=0.2, start=[1.0, 1.0, 2.0]),
    Quadratic([1.0, 0.4, np.nextafter(0.1, 1)], noise=0.2),
    affine(1.0),
    affine(2.0),
    affine(1.0, start=(2.0,)),
    FromFunctions(lambda x: 3 * x @ x / 2, lambda x: 3 * x, 1, L=4.0, f_star=0.0),
    FromFunctions(lambda x: 4 * x @ x / 2, lambda x: 4 * x, 1, L=4.0, f_star=0.0),
    FromFunctions(lambda x: np.abs(x @ x) / 2, lambda x: x, 1, L=4.0, f_star=0.0),
    FromFunctions(lambda x: np.sqrt(x @ x) / 2, lambda x: x, 1, L=4.0, f_star=0.0),
    FromFunctions(lambda x: abs(x @ x) / 2, lambda x: x, 1, L=4.0, f_star=0.0),
]

ARGUMENTS = st.fixed_dictionaries(
    {
        "problems": st.sampled_from([{"one": problem} for problem in PROBLEMS]),
        "schedules": st.sampled_from(
            [0.0, 0.5, rst.Constant(0.5), rst.Linear(0.5, 0.0), rst.Cosine(0.5, 0.0)]
        ),
        "eta": st.sampled_from([0.1, 0.2, rst.InverseSqrt(0.1)]),
        "rho": st.sampled_from([0.1, 0.2, np.linspace(0.1, 0.2, 4)]),
        "gamma": st.sampled_from([1.0, 0.5, np.linspace(0.1, 0.2, 4), np.linspace(0.1, 0.3, 4)]),
        "ascent": st.sampled_from(["normalized", "unnormalized"]),
        "trials": st.sampled_from(["independent", "systematic"]),
        "backend": st.sampled_from(["numpy", "auto"]),
        "steps": st.just(4),
        "replicas": st.integers(1, 3),
        "seed": st.integers(0, 2**64 - 1),
        "at": st.sampled_from([None, [0], [1]]),
        "quantiles": st.booleans(),
    }
)


def key_of(arguments):
    """The name of the file of the one cell, which is not run."""
    names = []

    class StoppedError(Exception):
        pass

    def stop(path):
        names.append(path.name)
        raise StoppedError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room, "_stored", stop)
        with pytest.raises(StoppedError):
            simulate_grid(**arguments, folder="folder")
    return names[0]


@given(ARGUMENTS, ARGUMENTS, st.data())
@settings(max_examples=60)
def test_every_change_of_what_is_run_changes_the_name(one, other, data):
    name = data.draw(st.sampled_from(sorted(one)))
    changed = one | {name: other[name]}
    assert (key_of(one) == key_of(changed)) == (repr_of(one[name]) == repr_of(other[name]))


def repr_of(value):
    """Identity for objects that live as long as the tests, and the value of the others."""
    if isinstance(value, dict):
        return id(value["one"])
    return (type(value).__name__, value.tolist() if isinstance(value, np.ndarray) else value)


def test_problems_differ_by_their_arrays_their_numbers_and_the_code_of_their_functions():
    assert len(set(map(room.digest, PROBLEMS))) == len(PROBLEMS)


def test_the_name_is_the_same_in_another_process():
    """Sets of text come in another order there."""
    code = (
        f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r}); import test_grid as t;"
        "print(t.room.digest([t.QUADRATIC, t.SCHEDULES, t.affine(2.0), t.Quadratic]))"
    )
    here = room.digest([QUADRATIC, SCHEDULES, affine(2.0), Quadratic])
    for hash_seed in "12":
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, env=environment)
        assert ran.stdout.decode().strip() == here


def test_a_change_of_the_code_of_a_class_is_a_change():
    def made(factor, default=0.0):
        class Own(Quadratic):
            name = "own"

            @property
            def doubled(self):
                return factor * self.dimension

            def value(self, x, shift=default):
                return super().value(x) + shift

        return Own([1.0])

    assert room.digest(made(2)) == room.digest(made(2))
    assert len({room.digest(made(*arguments)) for arguments in ((2,), (3,), (2, 1.0))}) == 3


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(PLAIN, PLAIN)
@example(1, 1.0)
@example("1", 1)
@example({"a": 1}, [["a", 1]])
@example(b"", "")
def test_different_values_have_different_descriptions(one, other):
    assert (room.digest(one) == room.digest(other)) == (tagged(one) == tagged(other))


def tagged(value):
    if isinstance(value, list):
        return ("list", tuple(map(tagged, value)))
    if isinstance(value, dict):
        return ("dict", frozenset((key, tagged(item)) for key, item in value.items()))
    return (type(value).__name__, repr(value))


def test_a_function_that_numba_compiled_is_the_function():
    numba = pytest.importorskip("numba")

    def square(x):
        return x * x

    assert room.digest(numba.njit(square)) == room.digest(square) != room.digest(marking)


def test_arrays_differ_by_type_shape_and_content():
    a = np.arange(6.0)
    kinds = [a, a.reshape(2, 3), a.astype(np.float32), a.view(np.int64), a + 1, a.tolist(), a.reshape(3, 2).T]
    assert len({room.digest(kind) for kind in kinds}) == len(kinds)
    assert room.digest(np.asfortranarray(a.reshape(2, 3))) == room.digest(a.reshape(2, 3))
    assert room.digest(Fraction(1, 3)) != room.digest(Fraction(1, 4))


def test_what_has_no_description_is_refused(tmp_path):
    lock = threading.Lock()
    problem = FromFunctions(lambda x: (lock, 0.0)[1], lambda x: 0 * x, 1, L=1.0, f_star=0.0)
    with pytest.raises(TypeError, match="no plain description"):
        run_grid(problem, folder=tmp_path)


# Processes and clusters


def test_processes_give_what_one_process_gives(tmp_path):
    grid = run_grid(folder=tmp_path, processes=2)
    assert_same(grid, run_grid())
    assert len(list(tmp_path.iterdir())) == 3


def test_a_worker_stores_its_cell_itself_and_looks_first(monkeypatch, tmp_path):
    call = {"problem": QUADRATIC, "schedule": 0.5, "steps": 2, "eta": 0.1, "rho": 0.1, "backend": "numpy"}
    path = tmp_path / "cell.npz"
    _, run = room._run(Cell("", 0.5, 0.1, 0.1, 1.0, 0), call, path)
    assert_same_run(Trajectories.load(path), run)
    forbid_simulation(monkeypatch)
    assert_same_run(room._run(Cell("", 0.5, 0.1, 0.1, 1.0, 0), call, path)[1], run)


def test_the_caller_stores_what_came_from_another_disk(monkeypatch, tmp_path):
    elsewhere = room._run
    monkeypatch.setattr(room, "_run", lambda cell, call, path: elsewhere(cell, call, None))
    assert_same(run_grid(folder=tmp_path), run_grid())
    assert len(list(tmp_path.iterdir())) == 3


def test_a_killed_local_worker_ends_the_call_and_the_next_goes_on(tmp_path):
    class Deadly(Quadratic):
        def sample(self, generator, replicas):
            if results.exists() and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return super().sample(generator, replicas)

    killed, results = tmp_path / "killed", tmp_path / "results"
    asked = {"problems": {"deadly": Deadly([1.0])}, "eta": [0.1, 0.2], "folder": results, "processes": 2}
    with pytest.raises(joblib.externals.loky.process_executor.TerminatedWorkerError):
        run_grid(**asked)
    stored = {path: path.stat().st_mtime_ns for path in results.glob("[!.]*")}
    assert 1 <= len(stored) < 6
    grid = run_grid(**asked)
    assert len(grid) == 6 and not grid.partial
    assert all(path.stat().st_mtime_ns == then for path, then in stored.items())


def marking(marks):
    """A problem that leaves a mark whenever a cell of one step begins, and from the fourth on waits there."""

    class Marking(Quadratic):
        def sample(self, generator, replicas):
            begun = len(list(marks.glob("begun-*")))
            (marks / f"begun-{uuid.uuid4().hex}").touch()
            if begun >= 3:
                (marks / f"waits-{os.getpid()}").touch()
                wait_for(marks / "released")
            return super().sample(generator, replicas)

    return Marking([1.0, 0.5], noise=0.1)


def wait_for(path, seconds=60):
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path.name} never came"
        time.sleep(0.01)


@pytest.mark.parametrize("stored", [True, False], ids=["in a folder", "in memory"])
def test_a_killed_worker_of_a_cluster_loses_nothing(tmp_path, stored):
    """One of two workers is killed in the fourth cell of twelve or a later one, which then runs again."""
    distributed = pytest.importorskip("distributed")
    marks, results = tmp_path / "marks", tmp_path / "results"
    marks.mkdir()
    asked = {
        "problems": {"marking": marking(marks)},
        "eta": [0.1, 0.2, 0.3, 0.4],
        "steps": 1,
        "folder": results if stored else None,
    }
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            host="127.0.0.1",
            local_directory=str(tmp_path),
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        workers = client.run(os.getpid)
        victim, _ = sorted(workers.values())

        def kill():
            wait_for(marks / f"waits-{victim}")
            os.kill(victim, signal.SIGKILL)
            (marks / "released").touch()

        killer = threading.Thread(target=kill)
        killer.start()
        with joblib.parallel_config("dask"):
            grid = run_grid(**asked, processes=None)
        killer.join()
    begun = len(list(marks.glob("begun-*")))
    assert len(grid) == len(set(grid)) == 12 and not grid.partial
    if stored:
        assert begun == 13
        assert len(list(results.iterdir())) == 12
    assert_same(grid, run_grid(**(asked | {"folder": None})))
