"""What is fuzzed: every parser of the package as a function of bytes that raises where a promise is broken.

A promise: bytes from outside give a value that can be used, or one of the documented errors, whose message
names the argument or the file. Anything else that is raised, warnings among it, is a finding.

How bytes become inputs that are mostly valid is in `fuzz_inputs`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gzip
import io
import json
import math
import os
import re
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

import rst_theory as rst
from rst_theory import schedules
from rst_theory.files import read_json, read_table
from rst_theory.schedules import Schedule
from tests.campaigns.fuzz_inputs import (
    EDIT,
    INSIDE,
    ODD,
    PATCH,
    RAW,
    edited,
    json_file,
    json_seeds,
    mode,
    patched,
    scripts,
)

__all__ = ["TARGETS", "Broken", "Target", "attempt", "check_schedule", "memory", "promise"]


class Broken(Exception):  # noqa: N818
    """A promise that was not kept."""


class Target(NamedTuple):
    """A parser under test.

    Attributes:
        check: raises where these bytes break a promise.
        seeds: gives inputs to start from, made by the package itself.
        words: tokens of its language.
        share: of all executions, relative to the others'; slower targets have less.
        seconds: of processor time that one execution may take.
    """

    check: Callable[[bytes], None]
    seeds: Callable[[], list[bytes]]
    words: Sequence[str]
    share: float
    seconds: float = 1.0


# Promises


def attempt(function: Callable[[], Any], *errors: type[Exception], naming: Sequence[str]) -> Any:
    """The value of a call, or None where it was refused as it should be.

    Raises:
        Broken: a refusal that names nothing of what it should name (regular expressions).
        Exception: anything that is not a documented refusal.
    """
    try:
        return function()
    except errors as error:
        message = str(error)
        if not any(re.search(word, message) for word in naming):
            raise Broken(f"the message names none of {', '.join(naming)}: {message!r}") from error
        if len(message) > 20_000:
            raise Broken(f"a message of {len(message)} characters: {message[:80]!r} …") from error
        return None


def promise(kept: object, what: str) -> None:
    """Raise unless it is kept."""
    if not kept:
        raise Broken(what)


def text_of(data: bytes) -> str:
    """Bytes as an argument of a command line becomes text: what is not UTF-8 turns into lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def memory() -> str | None:
    """A folder in memory for what is written a million times; None, the usual place, where there is none."""
    return None if "TMPDIR" in os.environ or not Path("/dev/shm").is_dir() else "/dev/shm"


@functools.cache
def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="fuzz-", dir=memory()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def file_of(name: str, content: bytes) -> Path:
    """A file with this content."""
    path = _folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


# Schedules: formulas, words of a command line, dicts


_STEPS = (1, 2, 7)
_NAMES = (
    *("formula", "schedule", "is not a number", "takes", "name=number"),
    *("Constant", "Piecewise", "Linear", "Cosine", "InverseSqrt", "Periodic", "Tabulated", "Joined"),
    *("probability p", "values of", "has the fields"),
)


def check_schedule(s: Schedule) -> None:
    """The contract of any schedule that was accepted."""
    promise(isinstance(s, Schedule), f"no schedule: {s!r}")
    again = schedules.from_dict(json.loads(json.dumps(s.to_dict())))
    promise(again == s, f"{s!r} comes back from its dict as {again!r}")
    repr(s)
    for T in (len(s.table),) if isinstance(s, schedules.Tabulated) else _STEPS:
        values = attempt(lambda T=T: s.values(T), rst.DomainError, naming=(*_NAMES, "T = "))
        if values is not None:
            good = values.shape == (T,) and values.dtype == np.float64
            promise(good and np.isfinite(values).all() and (values >= 0).all(), f"values {values}")
        attempt(lambda T=T: s.probabilities(T), rst.DomainError, naming=(*_NAMES, "T = "))


def formula(data: bytes) -> None:
    """A formula: refused with its column, or a schedule with numbers and, step by step, an exact form."""
    text = text_of(data)
    s = attempt(lambda: rst.FromExpression(text), ValueError, naming=["in the formula .* column", "at most"])
    if s is None:
        return
    check_schedule(s)
    exact = attempt(lambda: s.expression(1, 2), ValueError, naming=["no exact value"])
    if exact is not None:
        promise(not exact.free_symbols, f"symbols are left in {exact}")


def closed_form(data: bytes) -> None:
    """What the command `cost` shows of a formula: a closed form, or what stays unevaluated."""
    from rst_theory.cost import closed_form

    with contextlib.suppress(ValueError):
        s = rst.FromExpression(text_of(data[:200]))
        str(closed_form(s).eventual_mean)


def word(data: bytes) -> None:
    """A schedule in one word of a command line."""
    text = text_of(data)
    s = attempt(lambda: schedules.parse(text), ValueError, naming=_NAMES)
    if s is not None:
        check_schedule(s)


_SCHEDULES: list[Any] = [
    rst.Joined(
        (
            (rst.Piecewise(0, 1, 0.5), 0.25),
            (rst.Joined(((rst.Linear(0, 1), 0.5), (rst.Cosine(1, 0), 0.5))), 0.25),
            (rst.FromExpression("t/T if t < 3 else 0.5"), 0.5),
        )
    ).to_dict(),
    *(
        s.to_dict()
        for s in (rst.Constant(0.5), rst.Tabulated((0.5, 1.0)), rst.Periodic(4), rst.InverseSqrt(1))
    ),
]


def plain_schedule(data: bytes) -> None:
    """A schedule as a dict, from JSON."""
    which, script = (data[0] >> 2, data) if data else (0, b"")
    content = json_file(script, _SCHEDULES[which % len(_SCHEDULES)])
    try:
        plain = json.loads(content)
    except (ValueError, RecursionError):
        return  # no JSON; `table` looks at how files refuse that
    s = attempt(lambda: schedules.from_dict(plain), ValueError, TypeError, naming=_NAMES)
    if s is not None:
        check_schedule(s)


# Files of images


_SHAPES: tuple[tuple[int, ...], ...] = ((), (2, 3), (28, 28))


def idx(data: bytes) -> None:
    """An IDX file: exactly the bytes that it declares, or refused by its name."""
    from rst_theory.training.data.formats import read_idx

    kind, content = mode(data)
    shape = _SHAPES[(data[0] >> 2) % len(_SHAPES)] if data else ()
    if kind == PATCH:
        content = gzip.compress(_idx(shape, 2), mtime=0)
        content = patched(content, data[1:])
    elif kind == INSIDE:
        content = gzip.compress(content, 1, mtime=0)
    path = file_of("images.gz" if kind in (PATCH, INSIDE) else "images", content)
    array = attempt(lambda: read_idx(path, shape), ValueError, naming=[re.escape(str(path))])
    if array is not None:
        plain = gzip.decompress(content) if path.suffix == ".gz" else content
        promise(struct.unpack_from(">I", plain, 4)[0] == len(array), "another number of entries")
        promise(array.tobytes() == plain[8 + 4 * len(shape) :], "other bytes than the file holds")
        promise(array.shape[1:] == shape and array.dtype == np.uint8, f"{array.dtype} {array.shape}")


def _idx(shape: tuple[int, ...], n: int) -> bytes:
    sizes = (n, *shape)
    return bytes((0, 0, 8, len(sizes))) + struct.pack(f">{len(sizes)}I", *sizes) + bytes(math.prod(sizes))


def idx_set(data: bytes) -> None:
    """Images and labels in two IDX files: numbers that agree, labels that are classes."""
    from rst_theory.training.data.formats import idx_examples

    images, labels = (data[0] % 5, data[1:]) if data else (0, b"")
    folder = file_of("set/train-images-idx3-ubyte", _idx((2, 3), images)).parent
    file_of("set/train-labels-idx1-ubyte", _idx((), len(labels))[:8] + labels)
    naming = [re.escape(str(folder))]
    found = attempt(lambda: idx_examples(folder, "train", (2, 3), 10), ValueError, naming=naming)
    valid = 0 < images == len(labels) and all(label < 10 for label in labels)
    promise((found is not None) == valid, f"{images} images with the labels {labels!r}: {found}")
    if found is not None:
        promise(found.labels.tolist() == list(labels), "other labels")
        promise(found.images.shape == (images, 1, 2, 3), "other sizes")


def cifar(data: bytes) -> None:
    """A CIFAR file: whole records with labels that are classes, or refused by its name."""
    from rst_theory.training.data.formats import read_cifar

    kind, script = mode(data)
    ranges = ((10,), (20, 100))[data[0] >> 2 & 1] if data else (10,)
    record = len(ranges) + 3072
    content = script
    if kind == PATCH:
        content = patched(bytes(2 * record), script)
    elif kind in (INSIDE, EDIT) and script:  # label bytes of records with empty pixels
        labels = zip(*[iter(script[:64])] * len(ranges), strict=False)
        content = b"".join(bytes(label) + bytes(3072) for label in labels)
    path = file_of("batch.bin", content)
    found = attempt(lambda: read_cifar(path, ranges), ValueError, naming=[re.escape(str(path))])
    columns = [content[i::record] for i in range(len(ranges))]
    whole = bool(content) and len(content) % record == 0
    valid = whole and all(max(c) < most for c, most in zip(columns, ranges, strict=True))
    promise((found is not None) == valid, f"{len(content)} bytes, labels {columns}: {found is not None}")
    if found is not None:
        promise(found.labels.tolist() == list(columns[-1]), "other labels")
        promise(found.images.shape == (len(columns[0]), 3, 32, 32), "other sizes")


# Saved runs of the simulation


@functools.cache
def _run_file() -> bytes:
    problem = rst.problems.Quadratic([1.0, 0.5], noise=0.1)
    run = rst.simulate(
        problem, 0.5, steps=2, eta=0.1, rho=0.1, replicas=4, keep=True, backend="numpy", progress=False
    )
    path = file_of("valid.npz", b"")
    run.save(path)
    return path.read_bytes()


@functools.cache
def _run_parts() -> dict[str, Any]:
    with np.load(io.BytesIO(_run_file())) as archive:
        parts: dict[str, Any] = {name: archive[name] for name in archive.files}
    parts["header"] = json.loads(str(parts["header"]))
    return parts


_ODD_ARRAYS: tuple[Any, ...] = (
    *(x for x in ODD if not isinstance(x, int) or abs(x) < 2**63),
    *(np.array(x) for x in (0, -1, 3.0, np.nan, np.inf, -1e308, "text", b"bytes", 1j, True)),
    *(np.zeros(shape) for shape in ((0,), (2,), (3,), (0, 3), (2, 0), (32, 3), (4, 3, 2), (32, 0))),
    *(np.full(shape, -1.0) for shape in ((2,), (32, 3), (4, 3, 2))),
    *(np.full((32, 3), x) for x in (np.nan, np.inf, 1e308)),
    *(np.arange(n) for n in (0, 1, 2, 3, 4, 32)),
    *(np.full(n, -(2**62)) for n in (2, 4, 32)),
    np.array([2**63 - 1, 2**63 - 1, 6] + [0] * 29),
    np.array([5, -1] + [0] * 30),
    np.zeros((3, 4), np.uint32),
    np.zeros(3, [("a", "i4"), ("b", "f8")]),
)


def run_file(data: bytes) -> bytes:
    """A file of a saved run: raw, patched, with another member, or with edited arrays and header."""
    kind, script = mode(data)
    if kind == RAW:
        return script
    if kind == PATCH:
        return patched(_run_file(), script)
    content = io.BytesIO()
    if kind == EDIT:
        parts = edited(_run_parts(), script, _ODD_ARRAYS)
        parts = parts if isinstance(parts, dict) else {"header": parts}
        arrays = {name: part for name, part in parts.items() if isinstance(part, np.ndarray)}
        header = json.dumps(parts.get("header"), default=str)
        with contextlib.suppress(ValueError):  # a name that no zip archive can hold
            np.savez(content, header=np.array(header), **{k: a for k, a in arrays.items() if k != "header"})
        return content.getvalue()
    with zipfile.ZipFile(io.BytesIO(_run_file())) as valid, zipfile.ZipFile(content, "w") as archive:
        members = valid.namelist()
        chosen = members[script[0] % len(members)] if script else members[0]
        for name in members:
            part = valid.read(name)
            archive.writestr(name, patched(part, script[1:]) if name == chosen else part)
    return content.getvalue()


def trajectories(data: bytes) -> None:
    """A saved run: one that can be shown and measured, or refused by its name."""
    path = file_of("run.npz", run_file(data))
    run = attempt(lambda: rst.Trajectories.load(path), ValueError, naming=[re.escape(str(path))])
    if run is None:
        return
    repr(run)
    run._repr_html_()
    for quantity, moments in run.moments.items():
        if max(np.abs(moments.means).max(), moments.squares.max()) < 1e100:  # beyond it, sums may overflow
            for values in (moments.mean, moments.variance, moments.standard_error):
                promise(not np.isnan(values).any(), f"NaN in {quantity}")
    run.save(_folder() / "again.npz")
    promise(repr(rst.Trajectories.load(_folder() / "again.npz")) == repr(run), "saved and loaded it differs")


# Training: configs, records, checkpoints


def _tiny() -> Any:
    from rst_theory.training import TrainConfig

    return TrainConfig(
        rst.Linear(0, 1), epochs=2, model="mlp", train_size=8, batch_size=4, degree=0.5, max_gamma=2
    )


def config(data: bytes) -> None:
    """A training config as a dict, from JSON."""
    from rst_theory.training import TrainConfig

    try:
        plain = json.loads(json_file(data, _tiny().to_dict()))
    except (ValueError, RecursionError):
        return
    naming = [*TrainConfig.__dataclass_fields__, "TrainConfig", *_NAMES]
    found = attempt(lambda: TrainConfig.from_dict(plain), ValueError, TypeError, naming=naming)
    if found is not None:
        promise(
            TrainConfig.from_dict(found.to_dict()) == found, "the config does not come back from its dict"
        )
        json.dumps(found.to_dict(), allow_nan=False)
        promise(found.coefficients().size == found.steps == found.coins().steps, "another number of steps")


@functools.cache
def _record() -> dict[str, Any]:
    from rst_theory.training import RunRecord

    c = _tiny()
    known = {"python": "3.11", "git_revision": None}
    losses, accuracies = (1.5, 1.0), (0.25, 0.75)
    return RunRecord(c, known, 1, losses, accuracies, 4, 6, 6, 6.0, 0.5, "0" * 64, "cpu", 1).to_dict()


def record(data: bytes) -> None:
    """A record of a training run: one that can be shown, or refused by its name."""
    from rst_theory.training.records import load_record, save_record

    path = file_of("record.json", json_file(data, _record()))
    found = attempt(lambda: load_record(path), ValueError, naming=[re.escape(str(path))])
    if found is not None:
        repr(found), found._repr_html_()
        promise(
            math.isfinite(found.pairs_per_step) and 0 <= found.final_test_accuracy <= 1, "no such numbers"
        )
        save_record(found, path)
        promise(load_record(path) == found, "saved and loaded it differs")


@functools.cache
def _training() -> tuple[Any, bytes]:
    """A run to restore checkpoints in, and a valid checkpoint."""
    import torch

    from rst_theory.training.processes import Processes
    from rst_theory.training.run import Run

    run = Run(_tiny(), Processes(torch.device("cpu")))
    next(run.looks())
    buffer = io.BytesIO()
    torch.save(run.state_dict(), buffer)
    return run, buffer.getvalue()


def checkpoint_file(data: bytes) -> bytes:
    """A checkpoint: raw, patched, with other pickled bytes inside, or of an edited state."""
    import torch

    kind, script = mode(data)
    valid = _training()[1]
    if kind == RAW:
        return script
    if kind == PATCH:
        return patched(valid, script)
    content = io.BytesIO()
    if kind == EDIT:
        odd = (
            *ODD,
            torch.zeros(()),
            torch.zeros(3),
            torch.full((2, 2), math.nan),
            torch.zeros(0, dtype=torch.int64),
        )
        state = torch.load(io.BytesIO(valid), weights_only=True)
        torch.save(edited(state, script, odd), content)
        return content.getvalue()
    with zipfile.ZipFile(io.BytesIO(valid)) as whole, zipfile.ZipFile(content, "w") as archive:
        for name in whole.namelist():
            part = whole.read(name)
            archive.writestr(name, patched(part, script) if name.endswith("data.pkl") else part)
    return content.getvalue()


def checkpoint(data: bytes) -> None:
    """A checkpoint: goes on, or is refused by its name."""
    from rst_theory.training.loop import _restore

    run, _ = _training()
    path = file_of("checkpoint.pt", checkpoint_file(data))
    attempt(lambda: _restore(run, path), ValueError, naming=[re.escape(str(path))])


# Tables, the results folder and its page


_TABLE = {"columns": ["a", "b"], "rows": [{"a": 1, "b": [0.5]}, {"a": "x", "b": None}]}


def table(data: bytes) -> None:
    """A table, and any JSON file."""
    path = file_of("table.json", json_file(data, _TABLE))
    naming = [re.escape(str(path))]
    attempt(lambda: read_json(path), ValueError, naming=naming)
    rows = attempt(lambda: read_table(path), ValueError, naming=naming)
    promise(rows is None or all(isinstance(row, dict) for row in rows), "no rows")


@functools.cache
def _results() -> dict[str, Any]:
    """A small results folder: by file, a valid content with two rows at most."""
    from rst_theory.plots.tables import SCHEMA

    def value(name: str, field: Any) -> Any:
        number = max(min(1.0, field.most), field.least)
        return {
            "text": field.choices[0] if field.choices else f"{name} $x_t$",
            "number": number,
            "integer": int(number),
            "flag": True,
            "parameter": 0.5,
            "numbers": [number, number],
            "timings": {"cost": 1.0},
            "names": {"numpy": "2"},
        }[field.kind]

    rows = {
        name: {key: value(key, field) for key, field in schema.items()} for name, schema in SCHEMA.items()
    }
    rows["claims"] |= {"id": "C1", "figure": "cost"}
    plain = {"claims": [rows["claims"], rows["claims"] | {"id": "Q1"}], "curves": [rows["curves"]]}
    plain["provenance"] = rows["provenance"]
    tables = {name: {"columns": list(row), "rows": [row]} for name, row in rows.items() if name not in plain}
    return tables | plain


def results(data: bytes) -> None:
    """One file of a results folder: everything that the page says of it, or refused by the file's name."""
    from rst_theory.plots import Results
    from rst_theory.report import _prose
    from rst_theory.report.words import claims, description, headlines

    which, script = (data[0], data[1:]) if data else (0, b"")
    name = list(_results())[which % len(_results())]
    path = file_of(f"results/{name}.json", json_file(script, _results()[name]))
    try:
        found = attempt(lambda: Results.read(path.parent), ValueError, naming=[f"{name}.json"])
        if found is None:
            return
        shown = attempt(lambda: claims(found), ValueError, naming=["claims.json"])
        for text in (claim.statement for claim in shown or ()):
            well_formed(f"<p>{_prose(text)}</p>")
        for text in (
            *(h.meaning for h in headlines(found)),
            description("accuracy", found),
            description("cost", found),
        ):
            text.encode()
    finally:
        path.unlink()


def page(data: bytes) -> None:
    """The whole page of a folder that holds claims and provenance alone: no figures, which are slow."""
    from rst_theory.report import render

    which, script = (data[0], data[1:]) if data else (0, b"")
    for name in ("claims", "provenance"):
        valid = _results()[name]
        chosen = (which % 2 == 0) == (name == "claims")
        path = file_of(
            f"page/{name}.json", json_file(script, valid) if chosen else json.dumps(valid).encode()
        )
    (output := _folder() / "page.html").unlink(missing_ok=True)
    done = attempt(lambda: render(path.parent, output), ValueError, naming=["claims.json", "provenance.json"])
    promise(output.exists() == (done is not None), "a page that was refused, or none that was promised")
    if done is not None:
        html = output.read_text(encoding="utf-8")
        promise(html.count("<script") == 2, "a script of someone else")


_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def well_formed(xml: str) -> None:
    """Raise unless it is XML, but for control characters, which HTML allows."""
    try:
        ElementTree.fromstring(_NOT_XML.sub("?", xml.replace("&nbsp;", " ")))
    except ElementTree.ParseError as error:
        raise Broken(f"not well-formed: {error} in {xml[:200]!r}") from error


def latex(data: bytes) -> None:
    """A formula in LaTeX as MathML, and as letters."""
    from rst_theory.report.mathml import MathError, mathml, plain

    text = text_of(data)
    found = attempt(lambda: mathml(text), MathError, naming=[""])
    if found is not None:
        well_formed(found)
    plain(text)


# The command line as a whole


_COMMANDS = {
    "cost": "--steps --kind",
    "bounds": "--problem --steps --eta --rho --gamma --ascent",
    "certify": "--steps --eta --gamma --ascent --function-class --metric --L --mu --gap",
    "simulate": "--problem --steps --eta --replicas --seed --backend",
    "train": "--schedule --degree --max-gamma --trials --data --base --momentum --warmup",
    "figures": "",
    "report": "",
    "": "--version --nonsense",
}
_ALWAYS = {
    "cost": "--steps 5",
    "bounds": "--steps 5",
    "certify": "--steps 1",
    "simulate": "--steps 3 --replicas 2 --backend numpy",
    "train": "--model mlp --epochs 1 --train-size 8 --batch-size 8 --threads 1",
}
"""What keeps a command short; it comes last, so that it has the last word."""
_VALUES = (
    "0", "1", "2", "3", "0.5", "1.5", "-1", "nan", "inf", "1e400", "1e-400", "1/3", "x", "-", "--", "", "é",
    "101010101010101010", "\x00", "\udcff", "quadratic", "logistic", "rippled", "systematic", "unnormalized",
    "linear1:p=0.3", "linear1:p=2", "cosine:0,1", "periodic:2", "tabulated:0.5,1", "formula:t/T",
    "formula:1/t", "normalized", "convex", "strongly_convex", "smooth", "pl", "final_gap", "gap", "numpy",
    "torch", "adamw", "digits", "mnist",
)  # fmt: skip


def arguments(data: bytes) -> list[str]:
    """A command with options and values, one byte each; after 255 the rest is one word as it is typed."""
    which, script = (data[0], data[1:]) if data else (0, b"")
    name = list(_COMMANDS)[which % len(_COMMANDS)]
    options = [*_COMMANDS[name].split(), "--json", "--help"]
    words = [name] if name else []
    if name in ("figures", "report"):
        words += ["--results", str(_folder() / "nothing"), "--output", str(_folder() / "out")]
    for at, byte in enumerate(script[:12]):
        if byte == 255:
            words.append(text_of(script[at + 1 :][:200]))
            break
        words.append(options[byte % len(options)] if byte >= 128 else _VALUES[byte % len(_VALUES)])
    return [*words, *_ALWAYS.get(name, "").split()]


def command_line(data: bytes) -> None:
    """Status 0 and the answer, or status 2 and why; with --json the answer is JSON."""
    from rst_theory.cli import main

    words = arguments(data)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    promise(status in (0, 2), f"status {status} of {words}")
    if status == 2:
        promise(err.getvalue().strip() or not words, f"{words}: refused without a word")
    elif words[1:2] == ["--json"] and "--help" not in words:
        json.loads(
            out.getvalue(), parse_constant=lambda name: promise(False, f"{name} in the JSON of {words}")
        )


# All of them


_FORMULAS = (
    "t/T", "0.5 + 0.5*cos(pi*t/T)", "1 if t < T/2 else 0", "min(1, 2/(t+1), u)", "exp(-t)**2", "sqrt(u)",
    "1 if not (t < 1 or u > 0.5 and t != 2) else u", "0.5 if 1 < t <= 3 else 1e-3", "tanh(log(t + 1))",
    "floor(t/2)*abs(sin(t))**0.5", "max(0, 1 - t/10)", "ceil(u)", "(t+1)**-0.5", "2**t/2**T", "t**t/T**T",
)  # fmt: skip
_FORMULA_WORDS = (
    "t", "T", "u", "pi", "e", "sqrt(", "exp(", "log(", "sin(", "cos(", "tanh(", "abs(", "floor(", "ceil(",
    "min(", "max(", "<=", ">=", "==", "!=", "**", "-", "/", "(", ")", "1e299", "0.5", "64", "0x1F", "1_0",
    "100000", ",", " if ", " else ", " and ", " or ", " not ",
)  # fmt: skip
_WORDS = (
    "formula:", "constant:", "linear:", "linear1:p=", "linear2:p=", "piecewise1:p=", "cosine:", "cosine_up",
    "end=", "piecewise:", "start=", "inversesqrt:", "periodic:", "every=", "tabulated:", "value=", "switch=",
    "scale=", "1/3", "1e-999", "1e999", "0.5", ",",
)  # fmt: skip
_COMMAND_SEEDS = (b"", b"\x04", b"\x80\x03\x24", b"\xff--json")
_LATEX = (
    r"\sum_{t=0}^{T-1} \frac{p_t}{2}", r"\begin{cases}1 & x\\0\end{cases}", r"\left(\sqrt[3]{x}\right]",
)  # fmt: skip
_LATEX_WORDS = (
    r"\frac", r"\left(", r"\right)", r"\begin{cases}", r"\end{cases}", r"\mathbb{", r"\text{",
    r"\operatorname{", r"\sum", r"\sqrt[", r"\\", r"&",
)  # fmt: skip
_ZIP_WORDS = ("PK\x03\x04", "PK\x01\x02", "PK\x05\x06")


def _encoded(words: Sequence[str]) -> list[bytes]:
    return [word.encode("utf-8", "surrogateescape") for word in words]


def _idx_seeds() -> list[bytes]:
    files = [(i, _idx(shape, 2)) for i, shape in enumerate(_SHAPES)]
    return [bytes([4 * i + kind]) + file for i, file in files for kind in (RAW, INSIDE)] + scripts(PATCH)


TARGETS: dict[str, Target] = {
    "formula": Target(formula, lambda: _encoded(_FORMULAS), _FORMULA_WORDS, 8),
    "closed_form": Target(closed_form, lambda: _encoded(_FORMULAS), _FORMULA_WORDS, 0.05, seconds=30),
    "word": Target(
        word,
        lambda: _encoded([*(f"formula:{f}" for f in _FORMULAS), *_VALUES]),
        _WORDS + _FORMULA_WORDS,
        16,
    ),
    "plain_schedule": Target(
        plain_schedule,
        lambda: json_seeds(*_SCHEDULES),
        [f'"{name}"' for name in ("family", "value", "parts", *schedules.presets.FAMILIES)],
        16,
    ),
    "idx": Target(idx, _idx_seeds, ["\0\0\x08\x01", "\0\0\x08\x03", "\0\0\0\x1c", "\x1f\x8b\x08"], 12),
    "idx_set": Target(idx_set, lambda: [b"\x02\x00\x09", b"\x01\x0a", b"\x03\x00"], ["\x09", "\x0a"], 8),
    "cifar": Target(
        cifar,
        lambda: [bytes([INSIDE, 0, 9]), bytes([4 + INSIDE, 19, 99]), bytes(3074), *scripts(PATCH)],
        ["\x09", "\x0a", "\x13\x63", "\x14\x64"],
        12,
    ),
    "trajectories": Target(
        trajectories,
        lambda: [bytes([RAW]) + _run_file(), *scripts(PATCH, INSIDE, EDIT)],
        [*_ZIP_WORDS, "\x93NUMPY", "'shape': (", "<f8", "|O"],
        6,
    ),
    "config": Target(config, lambda: json_seeds(_tiny().to_dict()), ['"schedule"', '"family"', "1e999"], 5),
    "record": Target(record, lambda: json_seeds(_record()), ['"format"', '"config"', "NaN", "1e999"], 5),
    "checkpoint": Target(
        checkpoint,
        lambda: [bytes([RAW]) + b"PK", *scripts(PATCH, INSIDE, EDIT)],
        [*_ZIP_WORDS, "\x80\x02", "ctorch\n", "cposix\nsystem\n", "}q", "]q", "tR"],
        1,
    ),
    "table": Target(table, lambda: json_seeds(_TABLE), ['"rows"', '"columns"', "NaN", "1e999"], 8),
    "results": Target(
        results,
        lambda: [bytes([i]) + seed for i in range(len(_results())) for seed in scripts(PATCH, EDIT)],
        ['"rows"', '"columns"', '"id"', "$x^2$"],
        4,
    ),
    "page": Target(
        page, lambda: [bytes([i]) + seed for i in range(2) for seed in json_seeds()], ["$", "<"], 0.05
    ),
    "latex": Target(latex, lambda: _encoded(_LATEX), _LATEX_WORDS, 12),
    "command_line": Target(
        command_line,
        lambda: [bytes([i, *script]) for i in range(len(_COMMANDS)) for script in _COMMAND_SEEDS],
        (),
        0.3,
        seconds=30,  # a simulation of the usual size, in plain Python
    ),
}
"""Every target by its name."""
