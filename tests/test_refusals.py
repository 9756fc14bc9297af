"""What is refused, and said, where a solver, a file or a machine is not as it should be."""

from __future__ import annotations

import builtins
import importlib.util
import json
from types import SimpleNamespace

import numpy as np
import pytest

import rst_theory as rst
from rst_theory.bounds import nonconvex_average_unnormalized
from rst_theory.certificates import CertificateError, certify, certify_bound, certify_by_potential, program
from rst_theory.cost.poisson_binomial import PoissonBinomial
from rst_theory.cost.systematic import SystematicSum
from rst_theory.files import alone_in, read_json, read_table
from rst_theory.notation import DomainError, ProblemConstants
from rst_theory.simulation.setting import Setting

# Solvers

STEP = {"steps": 1, "eta": 0.5, "rho": 0.2}
CERTIFY = {
    "without norms": lambda: certify(0.5, ascent="unnormalized", **STEP),
    "with norms": lambda: certify(0.5, ascent="normalized", **STEP),
    "by a potential": lambda: certify_by_potential(0.5, **(STEP | {"steps": 2})),
}


@pytest.mark.parametrize("name", CERTIFY)
def test_a_program_without_solution_is_a_class_without_such_a_function(monkeypatch, name):
    infeasible = SimpleNamespace(status="PrimalInfeasible")
    monkeypatch.setattr(program.Program, "_run", lambda *_: infeasible)
    with pytest.raises(CertificateError, match="no function of the class"):
        CERTIFY[name]()


def test_values_of_a_solver_that_are_not_finite_are_no_answer(monkeypatch):
    def not_finite(self, form, scale):
        rows, columns = form.A.shape
        return SimpleNamespace(status="NumericalError", x=np.full(columns, np.nan), z=np.zeros(rows))

    monkeypatch.setattr(program.Program, "_run", not_finite)
    with pytest.raises(CertificateError, match="NumericalError, with values that are not finite"):
        CERTIFY["without norms"]()


@pytest.mark.parametrize(
    "kind, expected", [("PanicException", CertificateError), ("KeyboardInterrupt", KeyboardInterrupt)]
)
def test_a_panic_of_the_solver_is_an_error_and_an_interrupt_stays_one(monkeypatch, kind, expected):
    clarabel = pytest.importorskip("clarabel")

    def panics(*_):
        raise getattr(builtins, kind, type(kind, (BaseException,), {}))("index out of bounds")

    monkeypatch.setattr(clarabel, "DefaultSolver", panics)
    with pytest.raises(expected, match="index out of bounds"):
        CERTIFY["without norms"]()


def test_no_certificate_stands_beside_a_bound_with_noise():
    noisy = ProblemConstants(L=1.0, sigma=0.1)
    with pytest.raises(DomainError, match=r"sigma = 0 .*0\.1"):
        certify_bound(nonconvex_average_unnormalized, schedule=0.5, **STEP, constants=noisy, gap=1.0)


# Arrays


@pytest.mark.parametrize("kind", [PoissonBinomial, SystematicSum])
@pytest.mark.parametrize("probabilities", [[], [[0.5, 0.5]]])
def test_laws_are_of_a_row_of_trials(kind, probabilities):
    with pytest.raises(ValueError, match=r"shape \(T,\) with T >= 1"):
        kind(probabilities)


def test_streams_of_a_device_give_each_replica_a_row():
    from rst_theory.simulation.device.philox import PhiloxStreams

    with pytest.raises(ValueError, match=r"2 rows, one a replica; got \(3, 4\)"):
        PhiloxStreams(1, [0, 5]).standard_normal((3, 4))


# Files


@pytest.mark.parametrize(
    "text",
    ['{"a": NaN}', '{"a": -Infinity}', '{"a": "\\ud800"}', "[" * 100_000],
    ids=["NaN", "infinity", "half a character", "too deep"],
)
def test_what_json_could_not_hold_is_not_read(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"x\.json is not valid JSON"):
        read_json(path)


@pytest.mark.parametrize("columns", [None, "ab", [1, 2]])
def test_a_table_has_a_list_of_columns(tmp_path, columns):
    path = tmp_path / "t.json"
    path.write_text(json.dumps({"columns": columns, "rows": []}))
    with pytest.raises(ValueError, match="no list of columns"):
        read_table(path)


def test_where_the_system_has_no_locks_a_folder_is_used_without(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **named):
        if name == "fcntl":
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    with alone_in(tmp_path), alone_in(tmp_path):
        pass


# Triton, which this test does without


def setting(problem, **changes):
    usual = {
        "steps": 3,
        "eta": 0.1,
        "rho": 0.1,
        "gamma": 1.0,
        "ascent": "normalized",
        "trials": "independent",
    }
    usual |= {"seed": 5, "start": None, "at": None, "first": 0, "replicas": 4, "keep": False}
    return Setting.checked(problem, 0.5, **(usual | {"quantiles": False} | changes))


KERNELS = {
    "": setting(rst.problems.Quadratic([1.0, 0.5])),
    "no formulas for FlatAndSharp": setting(rst.problems.FlatAndSharp()),
    "dimension 4097 is above 4096": setting(rst.problems.RippledQuadratic(dimension=4097)),
    "it keeps no iterates": setting(rst.problems.Quadratic([1.0, 0.5]), keep=True),
}


@pytest.mark.parametrize("why", KERNELS)
def test_what_the_triton_kernel_does_not_run_is_said(why):
    pytest.importorskip("torch")
    from rst_theory.simulation.device.launch import refusal

    assert why in refusal(KERNELS[why]) and bool(why) == bool(refusal(KERNELS[why]))


def test_it_is_said_where_the_kernel_is_asked_for(monkeypatch):
    pytest.importorskip("torch")
    from rst_theory.simulation.device import parts

    for there, why in ((None, "Triton is not installed"), (True, "it keeps no iterates")):
        monkeypatch.setattr(importlib.util, "find_spec", lambda _, there=there: there)
        with pytest.raises(ValueError, match=f"cannot run this: {why}"):
            parts(KERNELS["it keeps no iterates"], lambda _: None, device="cpu", engine="triton")


def test_a_program_of_the_kernel_holds_as_much_as_its_registers():
    """One replica a thread, pairs of coordinates rounded up to a power of 2; 8 pairs of doubles a thread."""
    torch = pytest.importorskip("torch")
    from rst_theory.simulation.device.launch import shape

    assert [shape(d, torch.float64) for d in (1, 2, 16, 17, 20, 512, 4096)] == [
        (1, 32, 1),
        (1, 32, 1),
        (8, 32, 1),
        (16, 16, 1),
        (16, 16, 1),
        (256, 1, 1),
        (2048, 1, 8),
    ]
