"""Network runs that several questions share, and results of tasks that are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import z_threshold

import rst_theory as rst
from experiments import networks
from experiments.networks import SETTINGS, Setting, config_of, key_of, outcome, outcomes
from experiments.pool import spread
from rst_theory.files import read_json, write_json
from rst_theory.training import Hessian, as_floats, train, trained

NOISY = Setting("digits", "short", 0.3)


def tiny(**changes):
    return config_of(NOISY, 7, 0.5, epochs=1, **changes)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    return outcome(tiny(), runs=folder), folder


def test_an_outcome_is_what_the_trained_network_does(finished, tmp_path):
    found, _ = finished
    record = train(tiny(), tmp_path, threads=1)
    model, split = trained(tiny(), tmp_path)
    assert found.record.weights_sha256 == record.weights_sha256
    assert found.accuracy == record.final_test_accuracy
    with torch.no_grad():
        right = (model(split.test_inputs.float()).argmax(1) == split.test_labels).double().numpy()
    assert found.test_accuracy == pytest.approx(right[448:].mean(), rel=1e-12)
    images = as_floats(split.train_inputs, torch.float32)[:300]
    hessian = Hessian(model, images, split.train_labels[:300])
    matrix_like = hessian.largest_eigenvalue(tolerance=1e-6)
    assert found.largest_eigenvalue == pytest.approx(matrix_like, rel=2e-2)
    assert not found.diverged


def test_validation_labels_are_as_noisy_as_those_for_training(finished):
    # A share of .3 is redrawn over ten classes: who is right on a share a of the right labels agrees
    # with about a (1 - .27) + (1 - a) .03 of them.
    found, _ = finished
    right = 2 * found.accuracy - found.test_accuracy
    expected = right * (1 - 0.27) + (1 - right) * 0.03
    assert abs(found.validation_accuracy - expected) < z_threshold() * np.sqrt(0.25 / 448)


def test_a_finished_run_is_one_file_and_is_not_run_again(finished, monkeypatch):
    found, folder = finished
    assert [path.name for path in folder.iterdir()] == [f"{key_of(tiny())}.json"]
    monkeypatch.setattr(networks, "train", None)
    assert outcome(tiny(), runs=folder) == found


def test_a_file_of_another_run_is_refused(finished, tmp_path):
    _, folder = finished
    other = tiny(rho=0.2)
    plain = read_json(folder / f"{key_of(tiny())}.json")
    write_json(tmp_path / f"{key_of(other)}.json", plain)
    with pytest.raises(ValueError, match="is of another run: its rho"):
        outcome(other, runs=tmp_path)
    write_json(tmp_path / f"{key_of(other)}.json", {**plain, "format": 0})
    with pytest.raises(ValueError, match="not the outcome of a run"):
        outcome(other, runs=tmp_path)


def test_a_run_that_diverges_counts_as_a_guess(tmp_path):
    found = outcome(tiny(learning_rate=1e30), runs=tmp_path)
    assert found.diverged and found.accuracy == found.test_accuracy == 0.1
    assert found.largest_eigenvalue is None


def test_sharpness_is_measured_where_it_is_asked_for(finished, tmp_path):
    expected, _ = finished
    plain = outcome(tiny(), runs=tmp_path, sharpness=False)
    assert (plain.largest_eigenvalue, plain.trace) == (None, None)
    assert plain.accuracy == expected.accuracy and not plain.diverged
    assert outcome(tiny(), runs=tmp_path).trace == expected.trace  # it was not known: the run is made again
    assert outcome(tiny(), runs=tmp_path, sharpness=False).trace == expected.trace  # it is


def test_outcomes_are_found_by_their_keys_and_equal_runs_are_one(finished):
    expected, folder = finished
    found: dict[str, networks.Outcome] = {}
    shares = list(outcomes([tiny(), tiny()], 1, found, runs=folder))
    assert shares == [1.0] and found == {key_of(tiny()): expected}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.label)
def test_a_setting_is_its_configuration(setting):
    config = config_of(setting, 1, rst.Linear(0.0, 1.0), rho=0.2, gamma=2.0)
    assert (config.data, config.label_noise) == (setting.data, setting.label_noise)
    assert config.epochs == {"long": 40, "short": 10}[setting.length]
    assert (config.rho, config.gamma, config.schedule) == (0.2, 2.0, rst.Linear(0.0, 1.0))
    assert config.train_size == (900 if setting.data == "digits" else 1000)


# Kept results


def twice(x, folder):
    (folder / f"called-{x}").touch(exist_ok=False)  # a second call would raise
    return {"x": 2 * x}


def test_kept_results_are_not_computed_again(tmp_path):
    keep = tmp_path / "kept"
    for tasks in ([(1, tmp_path)], [(1, tmp_path), (2, tmp_path)]):
        results = []
        assert list(spread(twice, tasks, 1, results, keep))[-1] == 1.0
        assert results == [{"x": 2 * x} for x, _ in tasks]
    assert len(list(keep.iterdir())) == 2


def broken(x):
    raise ArithmeticError(f"no result for {x}")


def test_a_task_that_fails_keeps_nothing(tmp_path):
    with pytest.raises(ArithmeticError, match="no result for 3"):
        list(spread(broken, [(3,)], 1, [], tmp_path / "kept"))
    assert not (tmp_path / "kept").exists()
