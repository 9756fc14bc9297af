"""The experiment on Fashion-MNIST, on files with few images, and its command."""

import numpy as np
import pytest
from conftest import NUMERIC
from idx_files import write_images
from scipy import stats

from experiments import fashion
from experiments.fashion import Design
from experiments.paired import METHODS
from rst_theory.files import read_table

TINY = Design(train_size=60, epochs=2, repetitions=3, processes=1)
NAMES = ["SGD", "RST", "G-RST", "SAM"]


def in_this_process(function, tasks, processes, results):
    for done, task in enumerate(tasks, start=1):
        results.append(function(*task))
        yield done / len(tasks)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """The tables of a tiny run, written twice: the second time from the records that are kept."""
    folder = tmp_path_factory.mktemp("fashion")
    write_images(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fashion, "RUNS", folder / "runs")
        patch.setattr(fashion, "spread", in_this_process)
        assert list(fashion.run(folder, folder / "first", TINY)) == [k / 6 for k in range(1, 7)]
        assert list(fashion.run(folder, folder / "second", TINY))[-1] == 1.0
    assert len(list((folder / "runs" / "fashion").iterdir())) == 2 * 3 * 4
    first, second = (
        {name: read_table(folder / time / f"fashion_{name}.json") for name in ("runs", "summary", "history")}
        for time in ("first", "second")
    )
    assert first == second  # times of the runs included
    return first


def test_every_run_has_a_row_and_costs_what_was_planned(tables):
    keys = [(row["label_noise"], row["seed"], row["method"]) for row in tables["runs"]]
    assert keys == [(noise, seed, name) for noise in (0.0, 0.3) for seed in (100, 101, 102) for name in NAMES]
    for row in tables["runs"]:
        assert row["steps"] == 2  # of 60 images at once, in two epochs
        assert row["pairs"] == row["planned_pairs"]
        assert row["pairs"] == {"SGD": 2, "SAM": 4}.get(row["method"], row["pairs"])


def test_differences_are_paired_and_have_99_percent_intervals(tables):
    for row in tables["summary"]:
        mine, sgd, sam = (
            np.array(
                [
                    r["accuracy"]
                    for r in tables["runs"]
                    if (r["method"], r["label_noise"]) == (name, row["label_noise"])
                ]
            )
            for name in (row["method"], "SGD", "SAM")
        )
        for key, sample in (("accuracy", mine), ("versus_sgd", mine - sgd), ("versus_sam", mine - sam)):
            assert row[key] == pytest.approx(sample.mean(), rel=NUMERIC, abs=NUMERIC)
            if np.ptp(sample) > 0:
                low, high = stats.ttest_1samp(sample, 0.0).confidence_interval(0.99)
                assert [row[f"{key}_low"], row[f"{key}_high"]] == pytest.approx([low, high], rel=1e-9)
    assert [row["method"] for row in tables["summary"]] == NAMES * 2
    assert len(tables["history"]) == 2 * 4 * 2


def test_the_methods_are_those_registered():
    assert [(m.name, m.p, m.gamma) for m in METHODS] == [
        ("SGD", 0, 1),
        ("RST", 0.5, 1),
        ("G-RST", 0.5, 2),
        ("SAM", 1, 1),
    ]
    assert Design() == Design(train_size=10_000, epochs=12, repetitions=5, processes=2)


def test_the_directory_is_asked_for(monkeypatch, capsys, tmp_path):
    monkeypatch.delenv("FASHION_MNIST", raising=False)
    monkeypatch.setattr(fashion, "spread", in_this_process)
    assert fashion.main([]) == 2
    assert "--data-dir" in capsys.readouterr().err
    assert fashion.main(["--data-dir", str(tmp_path)]) == 2
    assert "train-images" in capsys.readouterr().err
