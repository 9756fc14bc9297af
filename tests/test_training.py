"""Training: data, models, records, and a loop that can be interrupted anywhere."""

import dataclasses
import hashlib
import itertools
import json
import math
import os
import re
import sys
import types
from fractions import Fraction

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from rst_theory import files
from rst_theory.notation import DomainError
from rst_theory.schedules import Constant, FromExpression, Joined, Linear, Piecewise, Tabulated
from rst_theory.training import (
    MODELS,
    RunRecord,
    TrainConfig,
    build_model,
    load_data,
    load_record,
    loop as training_loop,
    records,
    save_record,
    train,
)
from rst_theory.training.seeds import generator
from rst_theory.trials import Trials

TINY = {"model": "mlp", "epochs": 3, "batch_size": 16, "train_size": 70, "learning_rate": 0.1}


def tiny(schedule=0.5, **changes):
    schedule = Constant(schedule) if isinstance(schedule, float) else schedule
    return TrainConfig(schedule, **{**TINY, **changes})


def without_time(record):
    return {**record.to_dict(), "wall_seconds": None}


# ---- data


@pytest.mark.parametrize("seed", [0, 1, 2**64 - 1])
def test_the_split_holds_every_digit_once_and_leaves_clean_labels_alone(seed):
    digits = load_digits()
    split = load_data("digits", 900, 0.0, seed)
    assert [len(part) for part in split] == [900, 900, 897, 897]
    images = torch.cat([split.train_inputs, split.test_inputs]).numpy()
    labels = torch.cat([split.train_labels, split.test_labels]).numpy()
    assert images.shape == (1797, 1, 8, 8)
    assert images.min() == 0 and images.max() == 1

    def rows(images, labels):
        return sorted(
            (*image.ravel().tolist(), int(label)) for image, label in zip(images, labels, strict=True)
        )

    assert rows(images * 16, labels) == rows(digits.images, digits.target)


def test_label_noise_redraws_its_share_uniformly_and_only_in_training():
    clean = [load_data("digits", 1000, 0.0, seed) for seed in range(20)]
    noisy = [load_data("digits", 1000, 0.3, seed) for seed in range(20)]
    changed, wrong = [], []
    for a, b in zip(clean, noisy, strict=True):
        assert torch.equal(a.train_inputs, b.train_inputs)
        assert torch.equal(a.test_inputs, b.test_inputs)
        assert torch.equal(a.test_labels, b.test_labels)
        differs = a.train_labels != b.train_labels
        changed.append(int(differs.sum()))
        wrong.extend(b.train_labels[differs].tolist())
    # 300 of 1000 are redrawn, of which one in ten stays right: 270 with standard deviation sqrt(27).
    assert max(changed) <= 300
    assert abs(np.mean(changed) - 270) < 5 * math.sqrt(27 / 20)
    counts = np.bincount(wrong, minlength=10)
    assert np.abs(counts / counts.sum() - 0.1).max() < 5 * math.sqrt(0.09 / counts.sum())
    everything = load_data("digits", 1000, 1.0, 0)
    assert abs(float((everything.train_labels == clean[0].train_labels).double().mean()) - 0.1) < 0.05


def test_the_repetition_decides_the_data():
    first, again, other = (load_data("digits", 100, 0.3, seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.train_inputs, other.train_inputs)


def test_without_scikit_learn_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"rst-theory\[experiments\]"):
        load_data("digits", 100, 0.0, 0)


# ---- models and streams


@pytest.mark.parametrize("name", MODELS)
def test_models_come_from_the_repetition_and_leave_the_generator_alone(name):
    state = torch.get_rng_state()
    first, again, other = (build_model(name, (8, 8), 10, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert not torch.equal(a, c)
    assert first(torch.zeros(3, 1, 8, 8)).shape == (3, 10)
    double = build_model(name, (8, 8), 10, 1, torch.float64)
    assert all(
        torch.equal(a.double(), b) for a, b in zip(first.parameters(), double.parameters(), strict=True)
    )


def test_the_small_networks_have_the_sizes_that_they_say():
    count = {name: sum(p.numel() for p in build_model(name, (8, 8), 10, 0).parameters()) for name in MODELS}
    assert count["mlp"] == (64 + 1) * 128 + (128 + 1) * 128 + (128 + 1) * 10
    assert count["cnn"] == (9 + 1) * 16 + (9 * 16 + 1) * 32 + (32 * 2 * 2 + 1) * 10


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
        ({"data": "mnist"}, "data must be one of digits"),
        ({"model": "vgg"}, "model must be one of mlp, cnn"),
        ({"trials": "none"}, "trials must be one of"),
        ({"ascent": "none"}, "ascent must be one of"),
        ({"precision": "float16"}, "precision must be one of"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_a_config_refuses_what_is_outside_its_domain(change, message):
    with pytest.raises(ValueError, match=message):
        tiny(**change)


@pytest.mark.parametrize("change", [{"epochs": 1.5}, {"momentum": "x"}, {"schedule": "0.5"}, {"schedule": 1}])
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
    model = build_model("mlp", (8, 8), 10, 3, dtype)
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
        {"schedule": Constant(1.0)},
        {"trials": "systematic"},
        {"momentum": 0.5},
        {"weight_decay": 0.1},
        {"learning_rate": 0.2},
        {"label_noise": 0.0},
        {"seed": 6},
    ):
        hashes.add(train(dataclasses.replace(plain, **change)).weights_sha256)
    assert len(hashes) == 11
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


def test_a_diverging_run_says_so():
    with pytest.raises(FloatingPointError, match=r"diverged|gradient norm"):
        train(tiny(0.0, learning_rate=1e30))


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
    monkeypatch.setattr(training_loop, "time", types.SimpleNamespace(perf_counter=lambda: next(clock)))
    assert train(tiny()).wall_seconds == 15  # one tick between the two looks at the clock of each step
    stop_at(tmp_path, tiny(), 8)
    assert train(tiny(), tmp_path).wall_seconds == 15


# ---- interrupt and resume


def stop_at(folder, config, step, error=KeyboardInterrupt):
    def progress(done, total):
        assert total == config.steps
        if done == step:
            raise error

    with pytest.raises(error):
        train(config, folder, progress)


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
    restored = build_model(model, (8, 8), 10, 0)
    restored.load_state_dict(saved["model"])
    assert sha256(restored) == record.weights_sha256


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
    rerun = train(TrainConfig.from_dict(plain["config"]), threads=plain["threads"])
    assert without_time(rerun) == without_time(record)


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
