"""The main job on a tiny size: the tables that it writes, and the verdicts that follow from them."""

from __future__ import annotations

import shutil

import pytest
from conftest import in_this_process

import rst_theory as rst
from experiments import (
    agreement,
    bound_beside_simulation,
    claims,
    cost_law,
    digits,
    price,
    ranking,
    settings,
    tightness,
)
from experiments.claims_note import note
from experiments.schedules import COMPARED, catalogue
from experiments.settings import CHECK, FULL, QUICK, Size, chosen_size
from rst_theory.cost import CostLaw
from rst_theory.files import read_json, read_table, write_table

COMPARED_HERE = (0, 2, 3)  # SGD, and two schedules of equal cost
TINY = Size(
    "quick",
    steps=12,
    simulated_steps=6,
    replicas=8,
    repetitions=2,
    epochs=1,
    processes=2,
    instances=20,
    settings=1,
)


COMMITTED = ("collapse", "pareto")
"""Tables that the verdicts on C4 and C5 are found in."""


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The tables of a tiny run."""
    folder = tmp_path_factory.mktemp("results")
    patch = pytest.MonkeyPatch()
    patch.setattr(bound_beside_simulation, "COMPARED", [COMPARED[i] for i in COMPARED_HERE])
    patch.setattr(settings, "FRESH_RUNS", folder / "runs")
    patch.setattr(digits, "spread", in_this_process)
    patch.setattr(bound_beside_simulation, "spread", in_this_process)
    for experiment in (cost_law, bound_beside_simulation, digits):
        shares = list(experiment.run(TINY, folder))
        assert shares == sorted(shares)
        assert shares[-1] == 1.0
    for name in COMMITTED:
        write_table(folder, name, read_table(settings.RESULTS / f"{name}.json"))
    assert list(claims.run(folder, folder))[-1] == 1.0
    patch.undo()
    return folder


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
    again = digits.repetition(digits.FIRST_SEED, TINY.epochs, results / "runs" / "digits")
    first = read_table(results / "digits_runs.json")[:4]
    assert [record.wall_seconds for record in again] == [row["seconds"] for row in first]


def test_every_claim_and_question_has_a_verdict_with_evidence(results):
    verdicts = {claim["id"]: claim for claim in read_json(results / "claims.json")}
    assert list(verdicts) == [*(f"C{i}" for i in range(1, 6)), *(f"Q{i}" for i in range(1, 9))]
    for claim in verdicts.values():
        assert claim["verdict"] in ("verified", "supported", "refuted", "open")
        assert all(claim[key] for key in ("title", "statement", "evidence", "rule", "change", "command"))
        assert claim["figure"] in rst.plots.FIGURES
    assert verdicts["Q8"]["verdict"] == "open" and "stability.json" in verdicts["Q8"]["evidence"]


def test_the_note_on_the_claims_is_written_from_the_verdicts(results):
    written = (results / "claims.md").read_text(encoding="utf-8")
    rows = read_json(results / "claims.json")
    assert written == note(rows)
    for row in rows:
        assert f"| [{row['id']}](#{row['id'].lower()}) | {row['title']} | {row['verdict']} |" in written
        assert f'<a id="{row["id"].lower()}"></a>' in written
        assert " ".join(row["evidence"].split()) in " ".join(written.split())


def test_the_committed_note_and_verdicts_follow_from_the_committed_tables(tmp_path):
    for table in settings.RESULTS.glob("*.json"):
        shutil.copy(table, tmp_path)
    list(claims.run(tmp_path, tmp_path))
    assert read_json(tmp_path / "claims.json") == read_json(settings.RESULTS / "claims.json")
    assert (tmp_path / "claims.md").read_bytes() == (settings.NOTES / "claims.md").read_bytes()


def test_what_was_measured_on_fashion_mnist_stands_in_the_evidence(results, tmp_path):
    rows = [{"label_noise": 0.0, **row} for row in read_table(results / "digits_summary.json")]
    for row in rows:
        row |= {"versus_sam": -0.0123, "versus_sam_low": -0.02, "versus_sam_high": -0.01}
    c5 = tampered(results, tmp_path, fashion_summary=rows)["C5"]
    assert "clean \N{MINUS SIGN}0.0123 [\N{MINUS SIGN}0.0200, \N{MINUS SIGN}0.0100]" in c5["evidence"]
    assert "Fashion" not in {c["id"]: c for c in read_json(results / "claims.json")}["C5"]["evidence"]


def tampered(results, tmp_path, **tables):
    """The claims where some tables are others."""
    for name in ("cost", "bounds", "digits_runs", "digits_summary", *COMMITTED, "fashion_summary"):
        if name in tables or (results / f"{name}.json").exists():
            write_table(tmp_path, name, tables.get(name) or read_table(results / f"{name}.json"))
    list(claims.run(tmp_path, tmp_path))
    return {claim["id"]: claim for claim in read_json(tmp_path / "claims.json")}


def test_a_violated_bound_refutes_convergence(results, tmp_path):
    rows = read_table(results / "bounds.json")
    rows[0]["bound"] = rows[0]["low"] / 2
    assert tampered(results, tmp_path, bounds=rows)["C2"]["verdict"] == "refuted"


def test_a_pair_too_many_refutes_the_cost_law(results, tmp_path):
    rows = read_table(results / "digits_runs.json")
    rows[0]["pairs"] += 1
    assert tampered(results, tmp_path, digits_runs=rows)["C1"]["verdict"] == "refuted"


@pytest.mark.parametrize(
    "low, high, verdict", [(0.01, 0.02, "supported"), (-0.02, -0.01, "refuted"), (-0.01, 0.01, "open")]
)
def test_what_lies_above_sam_in_most_settings_supports_the_last_claim(results, tmp_path, low, high, verdict):
    rows = read_table(results / "pareto.json")
    others = [row for row in rows if row["method"] == "G-RST p=0.5"]
    for row in others[: len(others) // 2 + 1]:
        row |= {"family_low": low, "family_high": high}
    for row in others[len(others) // 2 + 1 :]:
        row |= {"family_low": -0.01, "family_high": 0.01}
    assert tampered(results, tmp_path, pareto=rows)["C5"]["verdict"] == verdict


@pytest.mark.parametrize("flatter, verdict", [(0, "refuted"), (1, "open"), (99, "supported")])
def test_a_larger_degree_must_be_flatter_everywhere(results, tmp_path, flatter, verdict):
    rows = read_table(results / "collapse.json")
    doubled = [r for r in rows if (r["p"], r["gamma"]) == (0.5, 2.0) and abs(r["rho"] - 0.2) < 1e-9]
    for i, row in enumerate(doubled):
        row["log_eigenvalue_high"] = -99.0 if i < flatter else 99.0
    assert tampered(results, tmp_path, collapse=rows)["C4"]["verdict"] == verdict


@pytest.mark.parametrize("value, size", [("1", QUICK), ("0", CHECK), ("", CHECK)])
def test_quick_is_chosen_by_the_environment(monkeypatch, value, size):
    monkeypatch.setenv("QUICK", value)
    assert chosen_size("report") is size
    assert chosen_size("experiments") is (QUICK if value == "1" else FULL)


def test_another_value_of_quick_is_refused(monkeypatch):
    monkeypatch.setenv("QUICK", "yes")
    with pytest.raises(ValueError, match="QUICK must be"):
        chosen_size("report")


# The theory's own tables


def test_the_price_is_that_of_sgd_where_nothing_is_regularized(tmp_path):
    assert list(price.run(TINY, tmp_path))[-1] == 1.0
    rows = read_table(tmp_path / "price.json")
    for row in rows:
        if row["noise"] == 0 and row["method"] == "SAM":
            assert row["pairs_vs_sgd"] == pytest.approx(2 / (1 - row["strength"] ** 2), rel=1e-10)
    best = [row["pairs_vs_sgd"] for row in rows if row["method"] == "RST, best p"]
    for method in price.METHODS:
        others = [row["pairs_vs_sgd"] for row in rows if row["method"] == method]
        assert all(a <= b * (1 + 1e-12) for a, b in zip(best, others, strict=True))


def test_the_tightness_table_sets_bounds_beside_programs(tmp_path, monkeypatch):
    monkeypatch.setattr(tightness, "SCHEDULES", {"linear1 p=0.5": tightness.SCHEDULES["linear1 p=0.5"]})
    monkeypatch.setattr(tightness, "spread", in_this_process)
    kept = {k: rst.bounds.ALL[k] for k in ("nonconvex_average_unnormalized", "sgd_average")}
    monkeypatch.setattr(tightness, "ALL", kept)
    list(tightness.run(TINY, tmp_path))
    rows = read_table(tmp_path / "tightness.json")
    assert {row["steps"] for row in rows if row["bound"] == "nonconvex_average_unnormalized"} == {1, 2, 3, 4}
    assert {row["steps"] for row in rows if row["bound"] == "sgd_average"} <= {1}  # where p_0 = 0
    for row in rows:
        assert row["ratio"] == row["value"] / row["program"] >= 1 - 1e-4


def test_the_agreement_table_counts_every_comparison(tmp_path, monkeypatch):
    monkeypatch.setattr(agreement, "spread", in_this_process)
    list(agreement.run(TINY, tmp_path))
    rows = read_table(tmp_path / "agreement.json")
    assert all(row["violations"] == 0 and row["least_ratio"] >= 1 - 1e-9 for row in rows)
    assert sum(row["compared"] for row in rows) >= TINY.instances / 2


def test_a_ranking_has_equal_means_and_a_verdict(tmp_path, monkeypatch):
    monkeypatch.setattr(ranking, "spread", in_this_process)
    monkeypatch.setattr(ranking, "SETTINGS", ranking.SETTINGS[2:3])
    monkeypatch.setattr(ranking, "T", 20)
    list(ranking.run(TINY, tmp_path))
    rows = read_table(tmp_path / "ranking.json")
    assert all(row["mean_p"] == pytest.approx(0.25) for row in rows)
    for row in read_table(tmp_path / "believed.json"):
        assert -1 <= row["tau"] <= 1 and row["own_over_best"] >= 1
