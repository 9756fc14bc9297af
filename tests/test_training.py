"""Training: configs, learning rates, records, and a loop that can be interrupted anywhere."""

import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
import signal
import subprocess
import sys
import threading
import types
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import NUMERIC
from idx_files import write_images
from torch import nn

from rst_theory import files
from rst_theory.notation import DomainError
from rst_theory.schedules import Constant, FromExpression, Joined, Linear, Piecewise, Tabulated
from rst_theory.training import (
    DATA,
    MODELS,
    RunRecord,
    TrainConfig,
    augment,
    build_model,
    load_data,
    load_record,
    loop as training_loop,
    records,
    run as training_run,
    save_record,
    train,
)
from rst_theory.training.processes import Processes
from rst_theory.training.rates import rate_scheduler
from rst_theory.training.seeds import generator
from rst_theory.trials import Trials

TINY = {"model": "mlp", "epochs": 3, "batch_size": 16, "train_size": 70, "learning_rate": 0.1}


def tiny(schedule=0.5, **changes):
    schedule = Constant(schedule) if isinstance(schedule, float) else schedule
    return TrainConfig(schedule, **{**TINY, **changes})


def without_time(record):
    return {**record.to_dict(), "wall_seconds": None, "images_per_second": None}


# ---- streams


def test_streams_are_told_apart():
    draws = [
        tuple(generator(seed, purpose, index).integers(2**63, size=2))
        for seed in (0, 1, 2**64 - 1)
        for purpose in ("split", "weights")
        for index in (0, 1)
    ]
    assert len(set(draws)) == 12
    assert generator(5, "split").integers(2**63) == generator(5, "split").integers(2**63)


# ---- the config

CONFIGS = [
    tiny(),
    tiny(Linear(0.0, 1.0), gamma=2, rho=Piecewise(0.1, 0.2, 0.5), trials="systematic"),
    tiny(Joined(((Constant(Fraction(1, 3)), 0.5), (FromExpression("t / T"), 0.5))), ascent="unnormalized"),
    tiny(Tabulated((0.5,) * 15), gamma=Constant(1.5), precision="float64", model="cnn", seed=2**64 - 1),
    tiny(degree=Linear(0.0, 1.0), max_gamma=2, adaptive=True, clip=1, base="adamw", precision="bfloat16"),
    tiny(rate="step", warmup=0.1, nesterov=True, label_smoothing=0.1, channels_last=True, data="cifar10"),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: type(c.schedule).__name__)
def test_a_config_survives_json(config):
    again = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict(), allow_nan=False)))
    assert again == config
    assert again.to_dict() == config.to_dict()


def test_steps_and_coins_of_a_config():
    config = tiny(Linear(0.0, 1.0), trials="systematic", seed=7)
    assert config.steps == 3 * 5  # 70 examples are four minibatches of 16 and one of 6
    assert config.coins().probabilities.tolist() == [t / 14 for t in range(15)]
    assert config.coins().seed == 7
    assert config.coins().extra_pairs in (7, 8)  # to within one of the mean, 7.5


def test_a_constant_schedule_is_the_number():
    assert tiny(gamma=Constant(2), rho=Constant(Fraction(1, 3))) == tiny(gamma=2.0, rho=1 / 3)
    assert tiny(degree=Constant(0.5)).to_dict()["degree"] == 0.5


def test_the_steps_are_known_before_the_data_are_loaded():
    assert TrainConfig(Constant(0.5)).steps == 40 * 900 / 30  # of the digits 900 are for training
    whole = TrainConfig(Constant(0.5), data="cifar10", epochs=200, batch_size=128)
    assert (whole.examples, whole.steps_per_epoch, whole.steps) == (50_000, 391, 78_200)
    assert whole.train_size == 50_000  # as if given
    assert (
        whole == dataclasses.replace(whole, train_size=None) == dataclasses.replace(whole, train_size=50_000)
    )


def test_a_degree_stands_in_place_of_gamma():
    config = tiny(Linear(0.0, 1.0), degree=0.5, max_gamma=2.0)
    p = np.arange(15) / 14
    expected = [min(0.5 / x, 2.0) if x else 0.0 for x in p]
    assert config.coefficients().tolist() == pytest.approx(expected, rel=NUMERIC)
    assert tiny(gamma=1.5).coefficients().tolist() == [1.5] * 15
    assert tiny(gamma=Constant(1), degree=0.5).degree == 0.5  # the default gamma, written out


@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_weights_is_that_of_the_model(name):
    config = TrainConfig(Constant(0.5), model=name, data="mnist")
    state = torch.get_rng_state()
    model = build_model(name, (1, 28, 28), 10, 0)
    assert config.parameters() == sum(p.numel() for p in model.parameters())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"schedule": 1.5}, "probability p"),
        ({"schedule": Linear(0.0, 2.0)}, "probability p.*t = 8"),
        ({"schedule": Tabulated((0.5, 0.5))}, "T = 2"),
        ({"gamma": -1}, "mixing coefficient gamma"),
        ({"rho": math.nan}, "radius rho"),
        ({"epochs": 0}, "epochs"),
        ({"batch_size": 0}, "batch_size"),
        ({"learning_rate": 0}, r"learning_rate in \(0"),
        ({"learning_rate": math.inf}, "learning_rate"),
        ({"momentum": 1}, r"momentum in \[0, 1\)"),
        ({"weight_decay": -1}, "weight_decay"),
        ({"label_noise": 1.1}, r"label_noise in \[0, 1\]"),
        ({"train_size": 1797}, "train_size"),
        ({"train_size": 0}, "train_size"),
        ({"seed": -1}, "seed"),
        ({"train_size": 60_001, "data": "mnist"}, "train_size < 60001"),
        ({"data": "imagenet"}, "data must be one of digits"),
        ({"model": "vgg"}, "model must be one of mlp, cnn"),
        ({"base": "lion"}, "base must be one of sgd, adamw"),
        ({"rate": "linear"}, "rate must be one of cosine, step, constant"),
        ({"augmentation": "mixup"}, "augmentation must be one of none, flip"),
        ({"warmup": 1}, r"warmup in \[0, 1\)"),
        ({"label_smoothing": 1.5}, r"label_smoothing in \[0, 1\]"),
        ({"clip": 0}, r"clip in \(0"),
        ({"degree": -1}, "degree of regularization"),
        ({"degree": 1e308, "schedule": 0.01}, "degree / p within the floating range"),
        ({"degree": 1, "max_gamma": -1}, "max_gamma in"),
        ({"degree": 1, "gamma": 2}, "gamma or degree, not both"),
        ({"max_gamma": 2}, "give degree"),
        ({"nesterov": True, "momentum": 0}, "nesterov needs"),
        ({"nesterov": True, "base": "adamw"}, "nesterov needs"),
        ({"trials": "none"}, "trials must be one of"),
        ({"ascent": "none"}, "ascent must be one of"),
        ({"precision": "float16"}, "precision must be one of"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_a_config_refuses_what_is_outside_its_domain(change, message):
    with pytest.raises(ValueError, match=message):
        tiny(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 1.5},
        {"momentum": "x"},
        {"schedule": "0.5"},
        {"schedule": 1},
        {"adaptive": 1},
        {"nesterov": "yes"},
        {"clip": "no"},
        {"warmup": None},
    ],
)
def test_a_config_refuses_wrong_types(change):
    with pytest.raises(TypeError, match=next(iter(change))):
        tiny(**change)


def test_a_dict_of_something_else_is_refused():
    plain = tiny().to_dict()
    with pytest.raises(ValueError, match="unknown fields colour"):
        TrainConfig.from_dict({**plain, "colour": 1})
    with pytest.raises(ValueError, match="no schedule"):
        TrainConfig.from_dict({})
    assert TrainConfig.from_dict({"schedule": plain["schedule"]}) == TrainConfig(Constant(0.5))


# ---- the run


def sha256(model):
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.numpy().tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_probability_zero_is_plain_torch(precision):
    """The whole loop against one written with torch alone."""
    config = tiny(0.0, weight_decay=0.01, seed=3, precision=precision)
    dtype = getattr(torch, precision)
    split = load_data("digits", 70, 0.3, 3)
    model = build_model("mlp", (1, 8, 8), 10, 3, dtype)
    base = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(base, 15)
    losses, accuracies = [], []
    for epoch in range(3):
        order = generator(3, "batch order", epoch).permutation(70)
        total = 0.0
        for start in range(0, 70, 16):
            rows = order[start : start + 16]
            base.zero_grad()
            loss = nn.functional.cross_entropy(
                model(split.train_inputs[rows].to(dtype)), split.train_labels[rows]
            )
            loss.backward()
            base.step()
            cosine.step()
            total += loss.item() * len(rows)
        losses.append(total / 70)
        with torch.no_grad():
            guesses = model(split.test_inputs.to(dtype)).argmax(1)
        accuracies.append(float(np.mean((guesses == split.test_labels).numpy())))
    record = train(config)
    assert record.weights_sha256 == sha256(model)
    assert record.train_loss == pytest.approx(losses, rel=1e-12)
    assert record.test_accuracy == pytest.approx(accuracies, rel=1e-12)
    assert (record.pairs, record.predicted_pairs, record.expected_pairs) == (15, 15, 15.0)


def rate_by_hand(config, t):
    T, W = config.steps, round(config.warmup * config.steps)
    shape = {
        "cosine": (1 + math.cos(math.pi * t / T)) / 2,
        "step": 5.0 ** -sum(Fraction(t, T) >= Fraction(tenths, 10) for tenths in (3, 6, 8)),
        "constant": 1.0,
    }
    return config.learning_rate * min(1, (t + 1) / (W + 1)) * shape[config.rate]


def trained_by_hand(config):
    """The run for p = 0 or 1, gamma = 1, in plain torch; returns the mean loss of each epoch."""
    data, p = DATA[config.data], config.coins().probabilities[0]
    split = load_data(config.data, config.train_size, config.label_noise, config.seed)
    model = build_model(config.model, data.shape, data.classes, config.seed, config.dtype)
    weights = list(model.parameters())
    if config.base == "adamw":
        base = torch.optim.AdamW(weights, betas=(config.momentum, 0.999), weight_decay=config.weight_decay)
    else:
        base = torch.optim.SGD(weights, momentum=config.momentum, nesterov=config.nesterov)
    losses, t = [], 0

    def backward(inputs, labels):
        base.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=config.precision == "bfloat16"):
            outputs = model(inputs)
        logarithms = torch.log_softmax(outputs.to(config.dtype), 1)
        right = logarithms[range(len(labels)), labels].mean()
        smoothing = config.label_smoothing
        loss = -right if smoothing == 0 else -(1 - smoothing) * right - smoothing * logarithms.mean()
        loss.backward()
        return loss.item()

    for epoch in range(config.epochs):
        order = generator(config.seed, "batch order", epoch).permutation(config.train_size)
        losses.append(0.0)
        for rows in np.split(order, range(config.batch_size, config.train_size, config.batch_size)):
            noise = torch.Generator().manual_seed(
                int(generator(config.seed, "augmentation", t).integers(2**63))
            )
            inputs = split.train_inputs[rows].to(config.dtype)
            inputs, labels = augment(inputs, config.augmentation, noise), split.train_labels[rows]
            losses[-1] += backward(inputs, labels) * len(rows) / config.train_size
            if p == 1:
                kept = [w.detach().clone() for w in weights]
                length = math.sqrt(sum(float(w.grad.square().sum()) for w in weights))
                with torch.no_grad():
                    for w in weights:
                        w += config.rho / length * w.grad
                backward(inputs, labels)
                with torch.no_grad():
                    for w, before in zip(weights, kept, strict=True):
                        w.copy_(before)
            base.param_groups[0]["lr"] = rate_by_hand(config, t)
            base.step()
            t += 1
    return losses


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize(
    "change",
    [
        {"base": "adamw", "momentum": 0.8, "weight_decay": 0.1, "learning_rate": 0.01},
        {"nesterov": True},
        {"rate": "step"},
        {"rate": "constant", "warmup": 0.3},
        {"warmup": 0.5},
        {"label_smoothing": 0.2},
        {"augmentation": "crop-flip-cutout"},
        {"channels_last": True, "model": "cnn"},
    ],
    ids=str,
)
def test_every_option_is_what_it_says(p, change):
    """The whole loop against one written by hand; both passes of a step see the same augmented images."""
    config = tiny(p, precision="float64", seed=4, **change)
    losses = trained_by_hand(config)
    record = train(config)
    assert record.train_loss == pytest.approx(losses, rel=NUMERIC)
    plain = dataclasses.replace(config, **{name: getattr(tiny(), name) for name in change})
    assert train(plain).train_loss != pytest.approx(losses, rel=NUMERIC) or "channels_last" in change


def test_bfloat16_keeps_its_weights_in_float32(tmp_path):
    config = tiny(0.0, precision="bfloat16", rate="constant")
    losses = trained_by_hand(config)
    record = train(config, tmp_path)
    assert record.train_loss == pytest.approx(losses, rel=1e-6)  # float32 sums, in another order
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    assert {value.dtype for value in saved.values()} == {torch.float32}
    exact = train(tiny(0.0, rate="constant"))
    assert 0 < abs(record.train_loss[0] / exact.train_loss[0] - 1) < 0.01  # bfloat16 has 8 bits


@pytest.mark.parametrize("rate", ["cosine", "step", "constant"])
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("T", [1, 2, 7, 10, 100])
def test_rates_are_the_closed_forms(rate, warmup, T):
    config = tiny(rate=rate, warmup=warmup, epochs=T, batch_size=70, learning_rate=0.3)
    weight = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=0.3)
    scheduler = rate_scheduler(optimizer, rate, T, warmup)
    for t in range(T):
        assert optimizer.param_groups[0]["lr"] == pytest.approx(
            rate_by_hand(config, t), rel=NUMERIC, abs=NUMERIC * 0.3
        )
        optimizer.step()
        scheduler.step()


@pytest.mark.parametrize("together", [1, 4, 50])
def test_how_often_losses_are_read_changes_nothing(monkeypatch, together):
    plain = train(tiny(seed=3))
    monkeypatch.setitem(training_run._STEPS_BETWEEN_LOOKS, "cpu", together)
    assert without_time(train(tiny(seed=3))) == without_time(plain)
    done = []
    with pytest.raises(FloatingPointError, match=r"the loss of step [12] is (nan|inf), .*; trial 0;"):
        train(tiny(0.0, learning_rate=1e38), progress=lambda step, _: done.append(step))
    assert len(done) <= min(together, 5)  # of 15: it stops at the first look


def test_the_test_set_is_evaluated_in_parts(monkeypatch):
    whole = train(tiny(seed=3))
    monkeypatch.setattr(training_run, "_EVALUATED_TOGETHER", 100)  # 1727 examples: the last part has 27
    assert without_time(train(tiny(seed=3))) == without_time(whole)


def test_epochs_are_told_as_they_end(tmp_path):
    told = []
    record = train(tiny(), tmp_path, after_epoch=told.append)
    assert [epoch.number for epoch in told] == [1, 2, 3]
    assert [epoch.steps for epoch in told] == [5, 10, 15]
    assert tuple(epoch.train_loss for epoch in told) == record.train_loss
    assert tuple(epoch.test_accuracy for epoch in told) == record.test_accuracy
    coins = record.config.coins().sequence()
    assert [epoch.pairs for epoch in told] == [t + int(coins[:t].sum()) for t in (5, 10, 15)]
    assert told[-1].seconds == record.wall_seconds


# ---- files


def from_files(**changes):
    return tiny(0.5, data="fashion-mnist", label_noise=0.0, **changes)


@pytest.mark.parametrize("layout", [False, True])
def test_a_network_learns_from_files(tmp_path, layout):
    write_images(tmp_path)
    config = from_files(model="cnn", channels_last=layout, augmentation="flip", learning_rate=0.02)
    record = train(config, tmp_path / "run", data_dir=tmp_path)
    assert record.final_test_accuracy == 1.0
    assert record == train(config, tmp_path / "run", data_dir=str(tmp_path))
    assert "data_dir" not in record.to_dict()["config"]  # nor any other place on a machine
    assert without_time(train(config, data_dir=tmp_path)) == without_time(record)


def test_files_that_hold_too_few_images_are_refused(tmp_path):
    write_images(tmp_path, train=60)
    with pytest.raises(ValueError, match="train_size"):
        train(from_files(), data_dir=tmp_path)
    write_images(tmp_path, train=70)
    with pytest.raises(ValueError, match="train_size"):
        train(from_files(train_size=None), data_dir=tmp_path)  # 60,000 are usual
    with pytest.raises(FileNotFoundError, match="train-images"):
        train(from_files(), data_dir=tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="directory"):
        train(from_files())


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99", ""])
def test_a_device_that_is_not_there_is_refused(device):
    with pytest.raises(ValueError, match="device"):
        train(tiny(), device=device)


# ---- the method


def test_methods_are_paired():
    """One minibatch: its loss is that of the initial weights, whatever the method."""
    runs = [
        train(tiny(p, gamma=gamma, epochs=1, batch_size=70, seed=seed))
        for seed in (0, 1)
        for p, gamma in ((0.0, 1.0), (0.5, 2.0), (1.0, 1.0))
    ]
    losses = [run.train_loss for run in runs]
    assert losses[0] == losses[1] == losses[2]
    assert losses[3] == losses[4] == losses[5] != losses[0]
    assert runs[0].weights_sha256 != runs[2].weights_sha256


def test_every_argument_of_the_method_reaches_the_optimizer():
    plain = tiny(0.5, seed=5, epochs=2)
    assert 0 < plain.coins().extra_pairs < 10
    hashes = {train(plain).weights_sha256}
    for change in (
        {"gamma": 2.0},
        {"rho": 0.2},
        {"ascent": "unnormalized"},
        {"adaptive": True},
        {"clip": 0.01},
        {"degree": 0.7},
        {"degree": 0.7, "max_gamma": 1.2},
        {"schedule": Constant(1.0)},
        {"trials": "systematic"},
        {"momentum": 0.5},
        {"weight_decay": 0.1},
        {"learning_rate": 0.2},
        {"label_noise": 0.0},
        {"seed": 6},
    ):
        hashes.add(train(dataclasses.replace(plain, **change)).weights_sha256)
    assert len(hashes) == 15
    assert train(plain).weights_sha256 in hashes


@pytest.mark.parametrize("trials", ["independent", "systematic"])
def test_pairs_spent_are_those_predicted(trials):
    perturbed = set()
    for seed in range(6):
        record = train(tiny(Linear(0.0, 1.0), trials=trials, seed=seed))
        expected = Trials(np.arange(15) / 14, seed, trials).sequence()
        assert np.array_equal(record.config.coins().sequence(), expected)
        assert record.steps == 15
        assert record.pairs == record.predicted_pairs == 15 + expected.sum()
        assert record.expected_pairs == 15 + 7.5
        assert record.pairs_per_step == record.pairs / 15
        perturbed.add(record.pairs - 15)
    assert perturbed <= {7, 8} if trials == "systematic" else len(perturbed) > 2


def test_a_small_network_learns_clean_digits():
    record = train(TrainConfig(Constant(0.5), epochs=8, train_size=600, label_noise=0.0), threads=1)
    assert record.final_test_accuracy == record.test_accuracy[-1] > 0.9
    assert record.train_loss[-1] < 0.5 < record.train_loss[0]


@pytest.mark.parametrize("interrupted", [False, True])
def test_the_global_state_of_torch_is_left_as_it_was(interrupted):
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    other = 1 if threads > 1 else 2
    seen = []

    def progress(done, total):
        seen.append(torch.get_num_threads())
        if interrupted and done == 7:
            raise KeyboardInterrupt

    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            train(tiny(), progress=progress, threads=other)
    else:
        assert train(tiny(), progress=progress, threads=other).threads == other
    assert set(seen) == {other}
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    with pytest.raises(DomainError, match="threads"):
        train(tiny(), threads=0)


def test_wall_time_is_that_of_the_steps_alone(monkeypatch, tmp_path):
    clock = itertools.count()
    monkeypatch.setattr(training_run, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    assert train(tiny()).wall_seconds == 15  # one tick between the two looks at the clock of each step
    stop_at(tmp_path, tiny(), 8)
    assert train(tiny(), tmp_path).wall_seconds == 15


# ---- interrupt and resume


def stop_at(folder, config, step, error=KeyboardInterrupt, **places):
    def progress(done, total):
        assert total == config.steps
        if done == step:
            raise error

    with pytest.raises(error):
        train(config, folder, progress, **places)


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("stops", [[3], [5], [8], [2, 7, 11, 15]], ids=str)
def test_an_interrupted_run_ends_with_the_same_weights_bit_for_bit(tmp_path, model, stops):
    config = tiny(Linear(0.2, 0.9), gamma=2.0, model=model, seed=8, weight_decay=1e-3)
    uninterrupted = train(config)
    for step in stops:
        stop_at(tmp_path, config, step)
        assert not (tmp_path / "record.json").exists()
    done = []
    record = train(config, tmp_path, lambda step, total: done.append(step))
    first = stops[-1] // 5 * 5 if stops[-1] % 5 else stops[-1] - 5
    assert done == list(range(first + 1, 16))  # from the last finished epoch on
    assert record.weights_sha256 == uninterrupted.weights_sha256
    assert without_time(record) == without_time(uninterrupted)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "record.json"]
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    restored = build_model(model, (1, 8, 8), 10, 0)
    restored.load_state_dict(saved["model"])
    assert sha256(restored) == record.weights_sha256


class Normalized(nn.Sequential):
    """A network with statistics beside its weights."""

    def __init__(self, shape, classes):
        super().__init__(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, classes))


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"base": "adamw", "augmentation": "crop", "rate": "step", "warmup": 0.4},
        {"rate": "constant", "channels_last": True, "precision": "bfloat16"},
    ],
    ids=str,
)
def test_a_checkpoint_in_the_middle_of_an_epoch_is_as_good(tmp_path, monkeypatch, change):
    monkeypatch.setitem(MODELS, "mlp", Normalized)
    config = tiny(Linear(0.2, 0.9), seed=8, **change)
    uninterrupted = train(config)
    monkeypatch.setattr(training_loop, "SECONDS_BETWEEN_SAVES", 0.0)
    done = []
    for step in (3, 4, 6, 10, 11, 14):
        stop_at(tmp_path, config, step)  # in the step's own report, before it is saved
    record = train(config, tmp_path, lambda step, _: done.append(step))
    assert done == [14, 15]
    assert without_time(record) == without_time(uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [3, 5])
def test_a_request_to_stop_is_saved_first(tmp_path, number, step):
    uninterrupted, before = train(tiny(seed=8)), signal.getsignal(number)

    def progress(done, _):
        if done == step:
            signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt, match=f"{signal.Signals(number).name} after step {step}"):
        train(tiny(seed=8), tmp_path, progress)
    assert signal.getsignal(number) == before
    done = []
    record = train(tiny(seed=8), tmp_path, lambda step, _: done.append(step))
    assert done == list(range(step + 1, 16))
    assert without_time(record) == without_time(uninterrupted)


def test_a_second_request_to_stop_is_not_kept_waiting(tmp_path):
    done = []

    def progress(step, _):
        done.append(step)
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(tiny(), tmp_path, progress)
    assert done == [1] and not (tmp_path / "checkpoint.pt").exists()


def test_a_signal_that_is_ignored_stays_so(tmp_path):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        train(tiny(epochs=1), tmp_path, lambda *_: signal.raise_signal(signal.SIGINT))
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    except KeyboardInterrupt:
        pytest.fail("it was heeded")
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "record.json").exists()


def test_training_works_in_a_thread(tmp_path):
    found = []
    thread = threading.Thread(target=lambda: found.append(train(tiny(), tmp_path)))
    thread.start()
    thread.join()
    assert without_time(found[0]) == without_time(train(tiny()))


def test_a_finished_run_is_not_run_again(tmp_path):
    record = train(tiny(), tmp_path / "a" / "run")
    before = (tmp_path / "a" / "run" / "record.json").stat().st_mtime_ns
    assert train(tiny(), tmp_path / "a" / "run", lambda *_: pytest.fail("it ran")) == record
    assert (tmp_path / "a" / "run" / "record.json").stat().st_mtime_ns == before


def test_an_interruption_between_the_last_checkpoint_and_the_record(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "save_record", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tiny(), tmp_path)
    record = train(tiny(), tmp_path, lambda *_: pytest.fail("it ran"))
    assert without_time(record) == without_time(train(tiny()))


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("change", [{"seed": 1}, {"schedule": Constant(0.25)}, {"gamma": 2.0}, {"epochs": 4}])
def test_the_folder_of_another_run_is_refused(tmp_path, finished, change):
    if finished:
        train(tiny(), tmp_path)
    else:
        stop_at(tmp_path, tiny(), 7)
    content = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    name = next(iter(change))
    with pytest.raises(ValueError, match=f"is of another run: its {name} is "):
        train(dataclasses.replace(tiny(), **change), tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == content


@pytest.mark.parametrize("content", [b"", b"nonsense", b"[1, 2]", b"\x80\x02]."])
@pytest.mark.parametrize("name, kind", [("checkpoint.pt", "checkpoint"), ("record.json", "run record")])
def test_a_file_that_is_none_of_ours_is_refused_and_kept(tmp_path, name, kind, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} is not a {kind}"):
        train(tiny(), tmp_path)
    assert (tmp_path / name).read_bytes() == content


# ---- records


def test_a_record_holds_what_a_rerun_needs(tmp_path):
    config = CONFIGS[1]
    record = train(config, tmp_path, threads=1)
    plain = json.loads((tmp_path / "record.json").read_text())
    assert load_record(tmp_path / "record.json") == record
    assert plain["config"] == config.to_dict()
    assert plain["config"]["schedule"] == {"family": "Linear", "start": 0.0, "end": 1.0}
    assert plain["environment"]["torch"] == torch.__version__
    assert plain["environment"]["numpy"] == np.__version__
    assert plain["environment"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert plain["final_test_accuracy"] == record.test_accuracy[2]
    assert plain["threads"] == 1
    assert len(plain["train_loss"]) == len(plain["test_accuracy"]) == 3
    assert 0 < plain["wall_seconds"] < 60
    assert plain["images_per_second"] == pytest.approx(3 * 70 / plain["wall_seconds"], rel=NUMERIC)
    assert (plain["device"], plain["processes"]) == ("cpu", 1)
    rerun = train(TrainConfig.from_dict(plain["config"]), threads=plain["threads"])
    assert without_time(rerun) == without_time(record)


def test_a_record_of_the_first_format_is_read(tmp_path):
    record = train(tiny(), tmp_path)
    old = record.to_dict() | {"format": 1}
    for later in ("device", "processes", "images_per_second"):
        del old[later]
    for later in list(old["config"])[list(old["config"]).index("precision") + 1 :]:
        del old["config"][later]
    (tmp_path / "record.json").write_text(json.dumps(old))
    assert load_record(tmp_path / "record.json") == record
    assert train(tiny(), tmp_path, lambda *_: pytest.fail("it ran")) == record  # nor is it run again


def test_a_checkpoint_of_an_older_version_says_so(tmp_path):
    stop_at(tmp_path, tiny(), 7)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    del state["loss_so_far"]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match="older version: it has no loss_so_far"):
        train(tiny(), tmp_path)


def test_the_git_revision_is_a_commit_or_none(monkeypatch):
    records._git_revision.cache_clear()
    revision = records._git_revision()
    assert revision is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", revision)
    records._git_revision.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert records._git_revision() is None
    records._git_revision.cache_clear()


def test_a_source_under_git_has_its_commit(monkeypatch, tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
        return records.subprocess.run(
            ["git", "-C", str(tmp_path), *identity, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    source = tmp_path / "package" / "training" / "records.py"
    source.parent.mkdir(parents=True)
    monkeypatch.setattr(records, "__file__", str(source))
    source.write_text("one")
    (tmp_path / "other.py").write_text("")
    git("init")
    git("add", "other.py")
    git("commit", "-m", "other")

    def revision():
        records._git_revision.cache_clear()
        return records._git_revision()

    assert revision() is None  # not tracked
    git("add", str(source))
    git("commit", "-m", "one")
    assert revision() == git("rev-parse", "HEAD")
    (tmp_path / "other.py").write_text("results may change, the source did not")
    assert revision() == git("rev-parse", "HEAD")
    (source.parent.parent / "new.py").write_text("two")
    assert revision() == git("rev-parse", "HEAD") + "-dirty"
    records._git_revision.cache_clear()


def test_a_record_with_missing_fields_is_refused(tmp_path):
    plain = train(tiny(epochs=1)).to_dict()
    for broken in ({**plain, "format": 0}, {k: v for k, v in plain.items() if k != "pairs"}, []):
        with pytest.raises(ValueError, match="not a run record"):
            RunRecord.from_dict(broken)
        (tmp_path / "broken.json").write_text(json.dumps(broken))
        with pytest.raises(ValueError, match=r"broken\.json is not a run record"):
            load_record(tmp_path / "broken.json")


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, failing):
    record = train(tiny(epochs=1))
    save_record(record, tmp_path / "record.json")
    content = (tmp_path / "record.json").read_bytes()

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(files, "os", types.SimpleNamespace(**{**vars(os), failing: fail}))
    with pytest.raises(OSError, match="disk full"):
        save_record(dataclasses.replace(record, threads=99), tmp_path / "record.json")
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    assert (tmp_path / "record.json").read_bytes() == content


# ---- several processes

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_the_parts_of_a_minibatch_add_up_to_it(world):
    """The mean over the processes of weight times mean loss is the mean loss; every example counts once."""
    for n in range(1, 10):
        losses = torch.arange(n, dtype=torch.float64) ** 2
        parts = [Processes(CPU, rank, world) for rank in range(world)]
        means = [float(each.part(losses).mean()) * each.weight(n) for each in parts]
        assert sum(means) / world == pytest.approx(float(losses.mean()), rel=NUMERIC)
        counted = [each.part(losses) for each in parts if each.weight(n) > 0]
        assert sorted(torch.cat(counted).tolist()) == losses.tolist()


def test_one_process_leaves_the_model_as_it_is():
    alone, model = Processes(CPU), nn.Linear(1, 1)
    assert alone.wrap(model) is model and alone.first
    assert alone.from_first(lambda: 0.1) == 0.1
    assert alone.any(True) and not alone.any(False)


def test_processes_that_go_on_from_different_steps_are_refused(tmp_path):
    class Ahead(Processes):
        def from_first(self, value):
            return value() + 1

    run = training_run.Run(tiny(), Ahead(CPU))
    with pytest.raises(ValueError, match=r"checkpoint\.pt must be one file that all processes see"):
        training_loop._run_with_checkpoints(run, tmp_path / "checkpoint.pt")


def test_two_processes_go_on_where_one_was_stopped_and_end_as_one_would(tmp_path):
    """69 = 4 x 17 + 1: the last minibatch has an example for only one of them."""
    write_images(tmp_path)
    options = {"gamma": 2.0, "learning_rate": 0.01, "precision": "float64", "augmentation": "crop", "seed": 8}
    sizes = {"model": "mlp", "epochs": 3, "batch_size": 17, "train_size": 69, "data": "fashion-mnist"}
    config = TrainConfig(Constant(0.5), label_noise=0.0, **options, **sizes)
    one = train(config, tmp_path / "one", data_dir=tmp_path, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_loop, "SECONDS_BETWEEN_SAVES", 0.0)
        stop_at(tmp_path / "two", config, 4, data_dir=tmp_path)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "rst_theory.cli", "train", "--data-dir", str(tmp_path)]
    for name, value in (options | sizes).items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    command += ["--folder", str(tmp_path / "two"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=100)
    assert done.returncode == 0, done.stderr
    two = load_record(tmp_path / "two" / "record.json")
    assert json.loads(done.stdout) == two.to_dict()  # printed once
    assert done.stderr.count("epoch 3/3") == 1
    assert (one.processes, two.processes) == (1, 2)
    assert two.train_loss == pytest.approx(one.train_loss, rel=NUMERIC)
    assert two.test_accuracy == one.test_accuracy
    assert (two.pairs, two.predicted_pairs) == (one.pairs, one.predicted_pairs)
    weights = [torch.load(tmp_path / k / "checkpoint.pt", weights_only=True)["model"] for k in ("one", "two")]
    for name, mine in weights[0].items():
        assert torch.allclose(weights[1][name], mine, rtol=NUMERIC, atol=NUMERIC), name
