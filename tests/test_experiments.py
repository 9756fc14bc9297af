"""The main job on a tiny size: the tables that it writes, and the verdicts that follow from them."""

from __future__ import annotations

import copy

import pytest

import rst_theory as rst
from experiments import bound_beside_simulation, claims, cost_law, digits
from experiments.schedules import COMPARED, catalogue
from experiments.settings import FULL, QUICK, Size, chosen_size
from rst_theory.cost import CostLaw
from rst_theory.files import read_json, read_table, write_table

COMPARED_HERE = (0, 2, 3)  # SGD, and two schedules of equal cost
TINY = Size(quick=True, steps=12, simulated_steps=6, replicas=8, repetitions=2, epochs=1, processes=2)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The tables of a tiny run."""
    folder = tmp_path_factory.mktemp("results")
    patch = pytest.MonkeyPatch()
    patch.setattr(bound_beside_simulation, "COMPARED", [COMPARED[i] for i in COMPARED_HERE])
    patch.setattr(digits, "RUNS", folder / "runs")
    patch.setattr(digits, "spread", in_this_process)
    patch.setattr(bound_beside_simulation, "spread", in_this_process)
    for experiment in (cost_law, bound_beside_simulation, digits):
        shares = list(experiment.run(TINY, folder))
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
    list(claims.run(folder))
    patch.undo()
    return folder


def in_this_process(function, tasks, processes, results):
    for done, task in enumerate(tasks, start=1):
        results.append(function(*task))
        yield done / len(tasks)


def test_the_catalogue_has_every_preset_and_family():
    schedules = [named.schedule for named in catalogue(8)]
    assert {type(s).__name__ for s in schedules} == set(rst.schedules.FAMILIES)
    labels = [named.label for named in catalogue(8)]
    assert all(any(label.startswith(name) for label in labels) for name in rst.schedules.PRESETS)
    assert len(labels) == len(set(labels))


def test_the_cost_table_is_the_law(results):
    rows = read_table(results / "cost.json")
    assert [row["name"] for row in rows] == [named.label for named in catalogue(TINY.steps)]
    for row, named in zip(rows, catalogue(TINY.steps), strict=True):
        law = CostLaw(named.schedule, TINY.steps)
        assert (row["low"], row["high"]) == law.interval(0.99)
        assert row["mean"] == pytest.approx(float(named.schedule.mean(TINY.steps)) * TINY.steps, rel=1e-10)
        assert row["mean_formula"]


def test_the_bound_table_sets_measured_beside_bound(results):
    rows = read_table(results / "bounds.json")
    assert len(rows) == len(COMPARED_HERE) * len(bound_beside_simulation.PROBLEMS) * len(
        bound_beside_simulation.PARAMETERS
    )
    for row in rows:
        assert row["low"] <= row["measured"] <= row["high"]
        assert row["ratio"] == row["bound"] / row["measured"]
    curves = read_json(results / "curves.json")
    assert all(len(curve["t"]) == len(curve["mean"]) for curve in curves)


def test_the_training_tables_are_paired(results):
    runs = read_table(results / "digits_runs.json")
    assert len(runs) == 4 * TINY.repetitions
    for row in runs:
        assert row["pairs"] == row["planned_pairs"]
    sgd = [row["accuracy"] for row in runs if row["method"] == "SGD"]
    sam = [row["accuracy"] for row in runs if row["method"] == "SAM"]
    summary = {row["method"]: row for row in read_table(results / "digits_summary.json")}
    difference = sum(a - b for a, b in zip(sam, sgd, strict=True)) / len(sgd)
    assert summary["SAM"]["versus_sgd"] == pytest.approx(difference, abs=1e-12)
    assert summary["SAM"]["pairs_per_step"] == 2
    assert len(read_table(results / "digits_history.json")) == 4 * TINY.epochs


def test_finished_runs_are_not_run_again(results, monkeypatch):
    monkeypatch.setattr(digits, "RUNS", results / "runs")
    again = digits.repetition(digits.FIRST_SEED, TINY.epochs)
    first = read_table(results / "digits_runs.json")[:4]
    assert [record.wall_seconds for record in again] == [row["seconds"] for row in first]


def test_every_claim_has_a_verdict_with_evidence(results):
    verdicts = {claim["id"]: claim for claim in read_json(results / "claims.json")}
    assert list(verdicts) == ["C1", "C2", "C3", "C4", "C5"]
    for claim in verdicts.values():
        assert claim["verdict"] in ("verified", "supported", "refuted", "open")
        assert claim["evidence"]


def tampered(results, tmp_path, table, change):
    """The verdicts after one table has been changed."""
    for name in ("cost", "bounds", "digits_runs", "digits_summary"):
        rows = copy.deepcopy(read_table(results / f"{name}.json"))
        if name == table:
            change(rows)
        write_table(tmp_path, name, rows)
    list(claims.run(tmp_path))
    return {claim["id"]: claim["verdict"] for claim in read_json(tmp_path / "claims.json")}


def test_a_violated_bound_refutes_convergence(results, tmp_path):
    def violate(rows):
        rows[0]["bound"] = rows[0]["low"] / 2

    assert tampered(results, tmp_path, "bounds", violate)["C2"] == "refuted"


def test_a_pair_too_many_refutes_the_cost_law(results, tmp_path):
    def overspend(rows):
        rows[0]["pairs"] += 1

    assert tampered(results, tmp_path, "digits_runs", overspend)["C1"] == "refuted"


@pytest.mark.parametrize("value, size", [("1", QUICK), ("0", FULL), ("", FULL)])
def test_quick_is_chosen_by_the_environment(monkeypatch, value, size):
    monkeypatch.setenv("QUICK", value)
    assert chosen_size() is size


def test_another_value_of_quick_is_refused(monkeypatch):
    monkeypatch.setenv("QUICK", "yes")
    with pytest.raises(ValueError, match="QUICK must be"):
        chosen_size()
