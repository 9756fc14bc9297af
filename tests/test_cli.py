"""The commands, as a user types them."""

from __future__ import annotations

import json
import struct

import pytest
from conftest import NUMERIC, SEMIDEFINITE

import rst_theory as rst
from rst_theory.cli import main


def run(capsys, *arguments):
    status = main(arguments)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def as_json(capsys, *arguments):
    status, out, err = run(capsys, *arguments, "--json")
    assert status == 0, err
    return json.loads(out)


def test_cost(capsys):
    rows = as_json(capsys, "cost", "linear1:p=0.3", "periodic:3", "--steps", "10")
    assert rows[0]["mean"] == pytest.approx(3.0, rel=NUMERIC)
    assert rows[1]["mean"] == 4.0
    assert rows[1]["99 % low"] == rows[1]["99 % high"] == 4
    assert rows[0]["pairs vs SGD"] == pytest.approx(1.3, rel=NUMERIC)
    assert rows[0]["pairs vs SAM"] == pytest.approx(0.65, rel=NUMERIC)


def test_cost_of_systematic_trials(capsys):
    row = as_json(capsys, "cost", "0.25", "--steps", "10", "--kind", "systematic")[0]
    assert (row["99 % low"], row["99 % high"]) == (2, 3)


def test_bounds(capsys):
    rows = as_json(capsys, "bounds", "0", "0.5", "--steps", "10", "--eta", "0.1")
    assert {"nonconvex_average", "sgd_average"} <= {r["bound"] for r in rows if r["schedule"] == "0"}
    assert "sgd_average" not in {row["bound"] for row in rows if row["schedule"] == "0.5"}
    assert all(row["value"] > 0 for row in rows)


def test_bounds_say_why_none_holds(capsys):
    rows = as_json(capsys, "bounds", "0.5", "--eta", "3")
    assert rows[0]["value"] is None
    assert "eta_t < 2/L" in rows[0]["why not"]


def test_bounds_of_every_quantity_are_shown(capsys):
    rows = as_json(capsys, "bounds", "0.5", "--steps", "5", "--eta", "0.1", "--problem", "logistic")
    assert len({row["of"] for row in rows}) > 1


def test_certify(capsys):
    words = ("0", "0.5", "--steps", "2", "--eta", "0.4", "--function-class", "strongly_convex", "--mu", "0.1")
    rows = as_json(capsys, "certify", *words, "--metric", "final_gap", "--gap", "2")
    descent = 2 * (1 - 0.4 * 0.1) ** 4  # gradient descent: Taylor, Hendrickx & Glineur (2018)
    assert rows[0]["worst case"] == pytest.approx(descent, rel=SEMIDEFINITE)
    assert rows[0]["exact"] and rows[0]["largest residual"] < 1e-6
    assert rows[1]["worst case"] < descent  # a SAM step contracts more where steps are short


def test_simulate(capsys):
    row = as_json(capsys, "simulate", "0.5", "--steps", "20", "--replicas", "8", "--problem", "rippled")[0]
    assert row["99 % low"] <= row["measured"] <= row["99 % high"]
    assert row["from"] == "nonconvex_average_whole"
    assert 1 <= row["pairs a step"] <= 2
    words = (
        "simulate",
        "0.5",
        "--steps",
        "20",
        "--replicas",
        "8",
        "--problem",
        "rippled",
        "--backend",
        "numpy",
    )
    assert as_json(capsys, *words)[0]["measured"] == pytest.approx(row["measured"], rel=1e-9)


def test_train_and_resume(capsys, tmp_path):
    words = ("train", "--epochs", "1", "--model", "mlp", "--schedule", "0.5", "--folder", str(tmp_path))
    record = as_json(capsys, *words)
    assert record["pairs"] == record["predicted_pairs"]
    assert as_json(capsys, *words)["weights_sha256"] == record["weights_sha256"]


def test_a_run_is_planned_before_it_starts(capsys):
    words = (
        "train",
        "--epochs",
        "2",
        "--model",
        "mlp",
        "--schedule",
        "0.5",
        "--degree",
        "1",
        "--max-gamma",
        "3",
    )
    status, out, err = run(capsys, *words)
    assert status == 0
    planned = err.splitlines()
    perturbed = rst.Trials([0.5] * 60, seed=0).extra_pairs  # 900 digits, 30 in a minibatch
    weights = 65 * 128 + 129 * 128 + 129 * 10
    assert planned[0] == f"mlp on digits: {weights:,} parameters, 60 steps, 30 in each of 2 epochs"
    assert f"{60 + perturbed} propagation pairs planned, {perturbed / 60:.1%} of the steps" in planned[1]
    assert planned[2] == "mean degree of regularization 1, gamma up to 2"
    assert planned[3].startswith("epoch 1/2, train loss ") and ", time left 0:00:0" in planned[3]
    assert (
        planned[4].startswith("epoch 2/2, ") and f"pairs {60 + perturbed} of {60 + perturbed}," in planned[4]
    )
    assert "mlp on digits, 2 epochs, seed 0" in out


def test_every_training_option_reaches_the_run(capsys, tmp_path):
    values = {
        "gamma": 2.0,
        "rho": 0.05,
        "ascent": "unnormalized",
        "trials": "systematic",
        "model": "mlp",
        "train_size": 64,
        "label_noise": 0.1,
        "augmentation": "flip",
        "epochs": 2,
        "batch_size": 16,
        "learning_rate": 0.01,
        "rate": "step",
        "warmup": 0.25,
        "momentum": 0.8,
        "weight_decay": 0.001,
        "clip": 3.0,
        "label_smoothing": 0.1,
        "precision": "float64",
        "seed": 5,
    }
    words = [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    flags = ("--adaptive", "--nesterov", "--channels-last", "--threads", "1")
    record = as_json(capsys, "train", *words, *flags, "--schedule", "0.25")
    asked = values | {"adaptive": True, "nesterov": True, "channels_last": True}
    assert {name: record["config"][name] for name in asked} == asked
    assert record["config"]["schedule"]["value"] in (0.25, "1/4")
    assert record["threads"] == 1
    other = as_json(capsys, "train", "--base", "adamw", "--epochs", "1", "--model", "mlp", "--degree", "0.5")
    assert (other["config"]["base"], other["config"]["degree"]) == ("adamw", 0.5)
    assert other["config"]["label_noise"] == 0.3  # of the digits


def test_only_the_digits_have_noise_unless_it_is_asked_for(capsys, tmp_path):
    for name, n in (("train", 40), ("t10k", 20)):
        images, labels = struct.pack(">4i", 2051, n, 28, 28), struct.pack(">2i", 2049, n)
        (tmp_path / f"{name}-images-idx3-ubyte").write_bytes(images + bytes(n * 28 * 28))
        (tmp_path / f"{name}-labels-idx1-ubyte").write_bytes(labels + bytes(range(10)) * (n // 10))
    words = ("train", "--data", "mnist", "--data-dir", str(tmp_path), "--train-size", "40", "--epochs", "1")
    record = as_json(capsys, *words, "--model", "mlp")
    assert record["config"]["label_noise"] == 0
    assert record["test_accuracy"] == [0.1]  # all images are equal, all classes as frequent


def test_a_terminal_shows_a_live_table(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes the stream for a terminal
    monkeypatch.setenv("TERM", "xterm")
    status, _, err = run(capsys, "train", "--epochs", "3", "--model", "mlp", "--schedule", "0")
    assert status == 0
    final = err[err.rindex("train loss") :]
    assert [f"{epoch}/3" in final for epoch in (1, 2, 3)] == [True] * 3
    assert "90 of 90" in final and "90/90" in final


def test_tables_are_for_people(capsys):
    status, out, _ = run(capsys, "cost", "0.5", "--steps", "10")
    assert status == 0
    assert "Extra propagation pairs in 10 steps" in out
    assert "T/2" in out


@pytest.mark.parametrize(
    "words, message",
    [
        (("cost", "nonsense:1"), "unknown schedule"),
        (("cost", "formula:system(1)"), "unknown function"),
        (("cost", "1.5"), r"probability p in [0, 1]; got 1.5 at t = 0"),
        (("cost", "--kind", "some"), "kind must be"),
        (("bounds", "--problem", "hard"), "problem must be one of"),
        (("bounds", "--ascent", "up"), "ascent must be one of"),
        (("simulate", "0.5", "--eta", "3"), "eta_t < 2/L"),
        (("simulate", "0.5", "--replicas", "0"), "replicas"),
        (("train", "--model", "huge"), "model must be one of"),
        (("train", "--label-noise", "2"), "label_noise"),
        (("train", "--degree", "1", "--gamma", "2"), "gamma or degree, not both"),
        (("train", "--rate", "fast"), "rate must be one of"),
        (("train", "--precision", "float16"), "precision must be one of"),
        (("train", "--clip", "-1"), "clip in"),
        (("figures", "--results", "no/such/folder"), "no/such/folder"),
        (("report", "--results", "no/such/folder"), "no/such/folder"),
        (("cost", "--steps", "0"), "T"),
    ],
)
def test_bad_arguments_end_with_status_2_and_one_clear_line(capsys, words, message):
    status, out, err = run(capsys, *words)
    assert status == 2
    assert out == ""
    assert err.startswith("error: ")
    assert message in err


@pytest.mark.parametrize(
    "words, message",
    [
        (("--data", "cifar10"), "directory"),
        (("--data", "cifar10", "--data-dir", "no/such/folder"), "no/such/folder"),
        (("--device", "tpu"), "device must be"),
        (("--threads", "0"), "threads"),
    ],
)
def test_what_the_run_itself_refuses_comes_after_the_plan(capsys, words, message):
    status, out, err = run(capsys, "train", *words)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("error: ") and message in err.splitlines()[-1]


def test_unknown_options_are_refused(capsys):
    status, _, err = run(capsys, "cost", "--bogus")
    assert status == 2
    assert "--bogus" in err


@pytest.mark.parametrize("command", ["cost", "bounds", "simulate", "train", "figures", "report"])
def test_every_command_explains_itself(capsys, command):
    status, out, _ = run(capsys, command, "--help")
    assert status == 0
    assert "--json" in out


def test_the_default_schedules_are_valid():
    from rst_theory.cli import DEFAULT_SCHEDULES

    for text in DEFAULT_SCHEDULES:
        assert rst.schedules.parse(text).probabilities(10).shape == (10,)
