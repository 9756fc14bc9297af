"""Faults other than kills: what a run does on a full disk, in a locked folder, with a damaged file, with NaN.

Everywhere the same promise: an error that names the place and says what to do, and nothing lost.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import errno
import itertools
import json
import math
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from idx_files import write_images
from test_plots import PROVENANCE, _price
from torch import nn

import rst_theory as rst
from rst_theory import files, plots
from rst_theory.cli import main
from rst_theory.files import alone_in, read_json, read_table, write_json, write_table, write_together
from rst_theory.optim import RST
from rst_theory.problems import FromFunctions, Quadratic
from rst_theory.report import render
from rst_theory.schedules import Constant
from rst_theory.simulation import DivergenceError
from rst_theory.training import (
    MODELS,
    RunRecord,
    TrainConfig,
    load_record,
    loop as training_loop,
    run as training_run,
    save_record,
    train,
)
from rst_theory.training.checkpoints import load_checkpoint, save_checkpoint
from rst_theory.training.data.formats import read_idx

ROOT = Path(__file__).parents[1]
TINY = TrainConfig(Constant(0.5), model="mlp", epochs=2, batch_size=16, train_size=70, learning_rate=0.1)
QUADRATIC = Quadratic([1.0, 0.4], noise=0.2)
ROWS = [{"name": f"row {i}", "value": i / 7} for i in range(40)]


def contents(folder):
    """Every file of a folder, hidden ones too, with its bytes."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def without_time(record):
    return {**record.to_dict(), "wall_seconds": None, "images_per_second": None}


@pytest.fixture(scope="module")
def finished():
    """The record of the run that all others are compared with."""
    return train(TINY)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with the checkpoint of that run after its first epoch; to be copied."""
    folder = tmp_path_factory.mktemp("stopped")
    stop_at(folder, TINY, 7)
    return folder


def stop_at(folder, config, step):
    def progress(done, _):
        if done == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(config, folder, progress)


@pytest.fixture
def half_done(tmp_path, stopped):
    return Path(shutil.copytree(stopped, tmp_path / "run"))


# ---- the disk


class Writer(NamedTuple):
    """What writes: first `old`, then `new`, which needs at least one more file or other bytes."""

    old: Callable[[Path], object]
    new: Callable[[Path], object]


def results_with(folder, **tables):
    for name, content in tables.items():
        write_json(folder / "results" / f"{name}.json", content)
    return folder / "results"


def grid(etas):
    return lambda folder: rst.simulate_grid(
        QUADRATIC, 0.5, steps=3, eta=etas, rho=0.1, replicas=5, backend="numpy", folder=folder, processes=1
    )


def trajectories(seed):
    return lambda folder: rst.simulate(
        QUADRATIC, 0.5, steps=3, eta=0.1, rho=0.1, replicas=5, seed=seed, backend="numpy"
    ).save(folder / "run.npz")


def report(name):
    return lambda folder: render(RESULTS[name], folder / "index.html")


def figures(name):
    return lambda folder: plots.draw_all(RESULTS[name], folder)


RESULTS: dict[str, Path] = {}


@pytest.fixture(scope="module", autouse=True)
def _results():
    """Results folders that anybody may read, to be drawn: two of one table, two of none."""
    place = Path(tempfile.mkdtemp(prefix="rst-results-"))
    place.chmod(0o755)
    for scale in (1.0, 2.0):
        rows = [{**row, "pairs_vs_sgd": row["pairs_vs_sgd"] * scale} for row in _price()]
        RESULTS[f"price {scale}"] = results_with(place / str(scale), price=as_table(rows))
    for command in ("one", "other"):
        RESULTS[command] = results_with(place / command, provenance={**PROVENANCE, "command": command})
    yield
    shutil.rmtree(place)


def as_table(rows):
    return {"columns": list(rows[0]), "rows": rows}


def table(rows):
    return lambda folder: write_table(folder, "table", rows)


RECORD = RunRecord(
    config=TINY,
    environment={},
    threads=1,
    train_loss=(2.0, 1.0),
    test_accuracy=(0.25, 0.5),
    steps=10,
    pairs=15,
    predicted_pairs=15,
    expected_pairs=15.0,
    wall_seconds=1.0,
    weights_sha256="0" * 64,
    device="cpu",
    processes=1,
)


def checkpoint(value):
    return lambda folder: save_checkpoint({"x": torch.full((64,), value)}, folder / "checkpoint.pt")


WRITERS = {
    "train": Writer(lambda folder: stop_at(folder, TINY, 7), lambda folder: train(TINY, folder)),
    "checkpoint": Writer(checkpoint(0.0), checkpoint(1.0)),
    "record": Writer(
        lambda folder: save_record(RECORD, folder / "record.json"),
        lambda folder: save_record(dataclasses.replace(RECORD, threads=9), folder / "record.json"),
    ),
    "grid": Writer(grid([0.1]), grid([0.1, 0.2])),
    "trajectories": Writer(trajectories(0), trajectories(1)),
    "table": Writer(table(ROWS), table(ROWS[:30])),
    "report": Writer(report("one"), report("other")),
    "figures": Writer(figures("price 1.0"), figures("price 2.0")),
}


@contextlib.contextmanager
def told_late(folder: Path) -> Iterator[int]:
    """A disk that takes the bytes and says afterwards that it is full."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fail(errno.ENOSPC))
        yield errno.ENOSPC


def fail(number: int) -> Callable[..., Any]:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return refuse


@contextlib.contextmanager
def files_of_100_bytes(folder: Path) -> Iterator[int]:
    """A limit of the kernel's on the size of a file."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextlib.contextmanager
def full(folder: Path) -> Iterator[int]:
    """The disk is full: a file takes what the others left."""
    filler = folder / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(512))
    try:
        yield errno.ENOSPC
    finally:
        filler.unlink()


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[int]:
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    try:
        yield errno.EROFS
    finally:
        subprocess.run(["mount", "-o", "remount,rw", folder], check=True)


@contextlib.contextmanager
def forbidden(folder: Path) -> Iterator[int]:
    """A folder of somebody else's: to root nothing is forbidden, who therefore becomes nobody."""
    user = os.geteuid()
    folder.chmod(0o555)
    if user == 0:
        os.seteuid(65534)
    try:
        yield errno.EACCES
    finally:
        if user == 0:
            os.seteuid(0)
        folder.chmod(0o755)


FAULTS = {
    "told late": told_late,
    "too large": files_of_100_bytes,
    "full": full,
    "read-only": read_only,
    "forbidden": forbidden,
}
NEED_A_DISK = {"full", "read-only"}


@pytest.fixture
def disk(request):
    """An empty folder that others may look into; for some faults a small disk of its own."""
    folder = Path(tempfile.mkdtemp(prefix="rst-disk-"))
    folder.chmod(0o755)
    own = request.param in NEED_A_DISK
    mounted = own and shutil.which("mount") and mount(folder)
    if own and not mounted:
        folder.rmdir()
        pytest.skip("mounting a disk needs the rights to")
    yield folder, FAULTS[request.param]
    if mounted:
        subprocess.run(["umount", "-l", folder], check=True)
    shutil.rmtree(folder)


def mount(folder):
    command = ["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "none", folder]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


DRAWING = {"told late", "full"}
"""The faults under which figures are drawn, which takes longer than all else here."""


@pytest.mark.parametrize(
    "disk, name",
    [
        (fault, name)
        for fault, name in itertools.product(FAULTS, WRITERS)
        if name != "figures" or fault in DRAWING
    ],
    indirect=["disk"],
)
def test_what_cannot_be_written_is_said_and_loses_nothing(disk, name):
    (folder, fault), writer = disk, WRITERS[name]
    writer.old(folder)
    before = contents(folder)
    assert before
    with fault(folder) as number:
        with pytest.raises(OSError) as refused:
            writer.new(folder)
        after = {name: content for name, content in contents_as_root(folder).items() if name != "filler"}
    assert after == before
    assert refused.value.errno in (number, errno.EACCES)  # what `access` makes of a read-only disk
    assert str(folder) in str(refused.value)
    writer.new(folder)
    assert contents(folder) != before


def contents_as_root(folder):
    """Also while we are nobody, to whom it may be forbidden to look."""
    user = os.geteuid()
    with contextlib.suppress(PermissionError):
        os.seteuid(0)
    try:
        return contents(folder)
    finally:
        os.seteuid(user)


@pytest.mark.parametrize("fault", [told_late, files_of_100_bytes, forbidden])
def test_a_run_goes_on_bit_for_bit_after_a_disk_that_refused_it(half_done, finished, fault):
    half_done.chmod(0o755)
    with fault(half_done), pytest.raises(OSError):
        train(TINY, half_done)
    done = []
    record = train(TINY, half_done, lambda step, _: done.append(step))
    assert done == [6, 7, 8, 9, 10]
    assert without_time(record) == without_time(finished)


def test_a_record_that_found_no_room_is_written_by_the_next_call(half_done, finished, monkeypatch):
    def full_at_the_end(path, value):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(training_loop, "save_record", lambda record, path: full_at_the_end(path, record))
        with pytest.raises(OSError, match=r"No space left on device: .*record\.json"):
            train(TINY, half_done)
    record = train(TINY, half_done, lambda *_: pytest.fail("it ran"))
    assert without_time(record) == without_time(finished)


def test_what_a_killed_write_left_behind_is_cleared_by_the_next_run_and_nothing_else_is(half_done):
    left, foreign = (
        [".checkpoint.pt.ab1_defg", ".record.json.12345678"],
        [".checkpoint.pt.backup", ".notes.txt.abcdefgh"],
    )
    for name in (*left, *foreign):
        (half_done / name).write_text("half")
    train(TINY, half_done)
    assert contents(half_done).keys() == {"checkpoint.pt", "record.json", *foreign}


def test_a_folder_that_cannot_be_written_to_is_refused_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "access", lambda path, mode: False)
    with pytest.raises(PermissionError, match=f"cannot be written to: '{tmp_path}'"):
        train(TINY, tmp_path, lambda *_: pytest.fail("it ran"))


def test_a_finished_run_is_read_from_a_folder_that_cannot_be_written_to(tmp_path, finished):
    save_record(finished, tmp_path / "record.json")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.os, "access", lambda path, mode: False)
        assert train(TINY, tmp_path) == finished


def test_files_that_belong_together_change_together(tmp_path, monkeypatch):
    """The second does not fit onto the disk: then the first, which did, does not take its name either."""
    write_table(tmp_path, "t", ROWS)
    before, sync = contents(tmp_path), os.fsync
    calls = itertools.count()
    monkeypatch.setattr(os, "fsync", lambda fd: fail(errno.ENOSPC)() if next(calls) else sync(fd))
    with pytest.raises(OSError, match=r"t\.csv"):
        write_table(tmp_path, "t", ROWS[:3])
    assert contents(tmp_path) == before


def test_a_failure_that_leaves_rubbish_behind_is_still_told_by_its_first_error(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", fail(errno.EIO))
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: fail(errno.EROFS)())
    with pytest.raises(OSError) as refused:
        write_together({tmp_path / "a": b"x"})
    assert refused.value.errno == errno.EIO


# ---- the command line


def run(capsys, *words):
    status = main(words)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


COMMANDS = {
    "train": ("--model", "mlp", "--epochs", "1", "--train-size", "64", "--folder"),
    "figures": ("--results", "{results}", "--output"),
    "report": ("--results", "{results}", "--output"),
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_disk_that_refuses_is_status_2_with_the_place_in_one_line(capsys, tmp_path, command):
    results = results_with(tmp_path, price={"columns": list(_price()[0]), "rows": _price()})
    output = tmp_path / "output"
    words = [word.format(results=results) for word in COMMANDS[command]]
    place = output / "index.html" if command == "report" else output
    with told_late(output):
        status, out, err = run(capsys, command, *words, str(place))
    assert (status, out) == (2, "")
    last = err.splitlines()[-1]
    assert last.startswith("error: ") and "No space left on device" in last and str(output) in last
    assert list(output.iterdir()) == []


def test_a_folder_in_use_is_status_2(capsys, tmp_path):
    with alone_in(tmp_path):
        status, _, err = run(capsys, "train", *COMMANDS["train"], str(tmp_path))
    assert status == 2 and "another run is writing to this folder" in err and str(tmp_path) in err


def test_a_request_to_stop_is_status_130(capsys, tmp_path, monkeypatch):
    step = training_run.Run._step

    def interrupted(self, batch):
        signal.raise_signal(signal.SIGTERM)
        return step(self, batch)

    monkeypatch.setattr(training_run.Run, "_step", interrupted)
    status, out, err = run(capsys, "train", *COMMANDS["train"], str(tmp_path))
    assert (status, out) == (130, "") and err.endswith("\ninterrupted\n")
    assert list(contents(tmp_path)) == ["checkpoint.pt"]


def test_a_run_that_diverges_is_status_2(capsys, tmp_path):
    words = ("train", *COMMANDS["train"], str(tmp_path), "--learning-rate", "1e38", "--schedule", "0")
    status, out, err = run(capsys, *words)
    assert (status, out) == (2, "") and "trial 0" in err.splitlines()[-1]
    assert contents(tmp_path) == {}


def test_a_defect_of_the_program_is_not_taken_for_a_refusal(monkeypatch):
    monkeypatch.setattr(rst.CostLaw, "interval", lambda *_: {}["defect"])
    with pytest.raises(KeyError, match="defect"):  # and Python ends with 1
        main(["cost", "0.5"])


def test_too_little_memory_is_status_2(capsys):
    status, out, err = run(capsys, "cost", "0.5", "--steps", str(10**15))
    assert (status, out) == (2, "") and err.startswith("error: Unable to allocate")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_what_cannot_be_printed_is_status_2():
    code = "import sys; from rst_theory.cli import main; sys.exit(main(['cost', '0.5', '--steps', '9']))"
    with Path("/dev/full").open("w") as nowhere:
        done = subprocess.run(
            [sys.executable, "-c", code], check=False, stdout=nowhere, stderr=subprocess.PIPE
        )
    assert done.returncode == 2
    assert done.stderr == b"error: [Errno 28] No space left on device\n"


def test_the_exit_statuses_are_in_the_help_and_at_the_top_of_the_module(capsys):
    status, out, _ = run(capsys, "--help")
    assert status == 0
    for said in ("Exit status: 0 done; 2 refused", "130 interrupted", "1 a defect"):
        assert said in " ".join(out.split())
    head = ast.get_docstring(ast.parse((ROOT / "rst_theory" / "cli.py").read_text()))
    assert [int(line.split()[0]) for line in head.splitlines() if line.strip()[:1].isdigit()] == [
        0,
        1,
        2,
        130,
    ]


# ---- two runs in one folder


def test_a_second_run_in_a_folder_is_refused_and_the_first_ends_as_if_alone(tmp_path, finished):
    other = dataclasses.replace(TINY, seed=1)
    refused = []

    def progress(done, _):
        for config in (TINY, other):
            with pytest.raises(BlockingIOError, match="another run is writing to this folder") as error:
                train(config, tmp_path)
            assert str(tmp_path) in str(error.value)
            refused.append(done)

    assert without_time(train(TINY, tmp_path, progress)) == without_time(finished)
    assert len(refused) == 2 * TINY.steps
    assert sorted(contents(tmp_path)) == ["checkpoint.pt", "record.json"]
    assert train(TINY, tmp_path) == load_record(tmp_path / "record.json")


HOLD = """
import sys, time
from pathlib import Path
from rst_theory.files import alone_in
with alone_in(Path(sys.argv[1])):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_process_that_dies_gives_its_folder_back(half_done, finished):
    child = subprocess.Popen([sys.executable, "-c", HOLD, half_done], stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert child.stdout.readline() == b"in\n"
        with pytest.raises(BlockingIOError):
            train(TINY, half_done)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    assert without_time(train(TINY, half_done)) == without_time(finished)


def test_a_folder_is_given_back_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), alone_in(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    with alone_in(tmp_path / "a" / "b"), alone_in(tmp_path / "a"):  # a folder, not what lies in it
        pass
    assert contents(tmp_path / "a" / "b") == {}


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, caplog):
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setattr(fcntl, "flock", fail(errno.ENOLCK))
    with alone_in(tmp_path):
        pass
    assert f"{tmp_path} cannot be locked" in caplog.text
    monkeypatch.setattr(fcntl, "flock", fail(errno.EIO))
    with pytest.raises(OSError, match="Input/output"), alone_in(tmp_path):
        pass


def test_grids_that_share_a_folder_give_each_other_their_cells(tmp_path):
    """Their files are named by what they hold and appear whole: no lock is needed."""
    apart = grid([0.1, 0.2])(tmp_path / "apart")
    inside = []

    def progress(_):
        if not inside:
            inside.append(grid([0.1, 0.2])(tmp_path / "together"))

    call = {"steps": 3, "rho": 0.1, "replicas": 5, "backend": "numpy", "processes": 1, "progress": progress}
    outer = rst.simulate_grid(QUADRATIC, 0.5, eta=[0.1, 0.2], folder=tmp_path / "together", **call)
    assert contents(tmp_path / "together") == contents(tmp_path / "apart")
    for cell in apart:
        assert outer[cell].final_gap == inside[0][cell].final_gap == apart[cell].final_gap


def test_writers_of_one_file_leave_one_of_their_contents(tmp_path):
    """The last one wins, and no part of another is in it."""
    written = [bytes([i]) * 100_000 for i in range(2)]

    def write(content):
        for _ in range(20):
            files.write_atomically(tmp_path / "file", content)

    threads = [threading.Thread(target=write, args=(content,)) for content in written]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        with contextlib.suppress(FileNotFoundError):
            seen.add((tmp_path / "file").read_bytes())
    assert seen <= set(written) and list(contents(tmp_path)) == ["file"]


# ---- clocks


def test_durations_are_taken_from_a_clock_that_never_goes_back(tmp_path, monkeypatch):
    """The time of day may: it runs backwards here, a year a look."""
    years = itertools.count(0, -(365 * 86400.0))
    monkeypatch.setattr(time, "time", lambda: next(years))
    told = []
    record = train(TINY, tmp_path, after_epoch=told.append)
    assert 0 <= told[0].seconds <= told[1].seconds == record.wall_seconds < 60
    assert load_record(tmp_path / "record.json") == record


def test_a_clock_that_stands_still_loses_no_record(tmp_path, monkeypatch):
    monkeypatch.setattr(training_run, "time", types.SimpleNamespace(perf_counter=lambda: 0.0))
    record = train(TINY, tmp_path)
    assert record.wall_seconds == 0 and math.isfinite(record.images_per_second)
    assert load_record(tmp_path / "record.json") == record


def test_nothing_in_the_package_looks_at_the_time_of_day():
    for path in (ROOT / "rst_theory").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in {("time", "time"), ("datetime", "now")}, path


# ---- damaged files


def flipped(content, bit):
    damaged = bytearray(content)
    damaged[bit // 8] ^= 1 << bit % 8
    return bytes(damaged)


def test_a_changed_bit_anywhere_in_a_checkpoint_is_noticed(half_done, finished):
    """At 200 places of the file and all of its last 100 bytes, where the checksum is."""
    path = half_done / "checkpoint.pt"
    sound = path.read_bytes()
    bits = [random.Random(1).randrange(8 * len(sound)) for _ in range(200)]
    bits += [8 * (len(sound) - 1 - i) + i % 8 for i in range(100)]
    for bit in bits:
        path.write_bytes(flipped(sound, bit))
        with pytest.raises(ValueError, match=r"checkpoint\.pt is not a checkpoint .* or is damaged"):
            load_checkpoint(path)
    with pytest.raises(ValueError, match=f"{path} is not a checkpoint .*delete it to begin the run again"):
        train(TINY, half_done)
    path.write_bytes(sound)  # the sound copy
    assert without_time(train(TINY, half_done)) == without_time(finished)


def test_torch_alone_would_not_have_noticed(half_done):
    """Why there is a checksum: the archive's own are not looked at."""
    sound = (half_done / "checkpoint.pt").read_bytes()
    weights = load_checkpoint(half_done / "checkpoint.pt")["model"]["1.weight"].numpy().tobytes()
    at = sound.index(weights[:64])
    (half_done / "checkpoint.pt").write_bytes(flipped(sound, 8 * at + 22))
    read = torch.load(half_done / "checkpoint.pt", weights_only=True)
    assert read["model"]["1.weight"].numpy().tobytes() != weights


def test_a_truncated_checkpoint_is_refused_at_every_length(half_done):
    path = half_done / "checkpoint.pt"
    sound = path.read_bytes()
    lengths = {*range(len(sound) - 100, len(sound)), *random.Random(2).choices(range(len(sound)), k=50)}
    for length in lengths:
        path.write_bytes(sound[:length])
        with pytest.raises(ValueError, match=r"checkpoint\.pt is not a checkpoint"):
            load_checkpoint(path)
    for more in (b"\0", b"x" * 100, sound):
        path.write_bytes(sound + more)
        with pytest.raises(ValueError, match=r"checkpoint\.pt is not a checkpoint"):
            load_checkpoint(path)


def test_a_checkpoint_from_before_there_were_checksums_is_still_good(half_done, finished):
    path = half_done / "checkpoint.pt"
    state = load_checkpoint(path)
    del state["data_sha256"]
    torch.save(state, path)
    assert without_time(train(TINY, half_done)) == without_time(finished)


def test_a_checkpoint_whose_inside_does_not_fit_is_refused_by_name(half_done):
    path = half_done / "checkpoint.pt"
    sound = load_checkpoint(path)
    for name, value in (("model", {}), ("optimizer", []), ("scheduler", None), ("optimizer", {"rst": 1})):
        save_checkpoint({**sound, name: value}, path)
        with pytest.raises(ValueError, match=r"checkpoint\.pt does not fit its config"):
            train(TINY, half_done)
    for state, message in (({}, "has no config"), ({**sound, "config": 3}, "has no config")):
        save_checkpoint(state, path)
        with pytest.raises(ValueError, match=rf"checkpoint\.pt is not a checkpoint .*{message}"):
            train(TINY, half_done)


def test_a_changed_bit_anywhere_in_a_record_is_noticed_or_changes_nothing(tmp_path, finished):
    """Space between the values may change; the checksum is over the values."""
    path = tmp_path / "record.json"
    save_record(finished, path)
    sound = path.read_bytes()
    noticed = 0
    for bit in random.Random(3).sample(range(8 * len(sound)), 300):
        path.write_bytes(flipped(sound, bit))
        found = loaded_or_refused(path)
        assert found in (finished, "refused")
        noticed += found == "refused"
    assert noticed > 200


def loaded_or_refused(path):
    try:
        return load_record(path)
    except ValueError as error:
        return "refused" if str(path) in str(error) else error


def test_a_record_of_another_version_is_refused_and_says_what_to_do(tmp_path, finished):
    plain = finished.to_dict()
    for number in (0, 3, None, "2"):
        write_json(tmp_path / "record.json", {**plain, "format": number})
        with pytest.raises(ValueError, match=r"record\.json .*format 1 or 2: .*delete it to run again"):
            train(TINY, tmp_path)
    for name in ("pairs", "weights_sha256", "config"):
        write_json(tmp_path / "record.json", {key: plain[key] for key in plain if key != name})
        with pytest.raises(ValueError, match=f"it has no {name}"):
            train(TINY, tmp_path)
    write_json(tmp_path / "record.json", {key: plain[key] for key in plain if key != "data_sha256"})
    assert train(TINY, tmp_path).data_sha256 is None  # it was not there from the first


def test_a_results_folder_of_an_older_version_is_refused_by_field(tmp_path):
    rows = [{key: value for key, value in row.items() if key != "pairs_vs_sgd"} for row in _price()]
    write_table(tmp_path, "price", rows)
    with pytest.raises(
        plots.ResultsError, match=r"price\.json, row 1: field 'pairs_vs_sgd' is missing.*run .* again"
    ):
        render(tmp_path, tmp_path / "index.html")
    assert not (tmp_path / "index.html").exists()


def test_a_cell_of_another_version_is_run_again_and_said(tmp_path, caplog):
    first = grid([0.1])(tmp_path)
    (path,) = tmp_path.iterdir()
    sound = path.read_bytes()
    with np.load(path) as archive:
        arrays = dict(archive)
    arrays["header"] = np.array(json.dumps(json.loads(str(arrays["header"])) | {"version": 99}))
    np.savez(path, **arrays)
    again = grid([0.1])(tmp_path)
    assert "its version is 99; this one reads version 1" in caplog.text
    assert path.read_bytes() == sound
    (cell,) = first
    assert again[cell].final_gap == first[cell].final_gap


def from_files(**changes):
    return dataclasses.replace(TINY, data="fashion-mnist", label_noise=0.0, **changes)


def test_data_that_changed_since_the_run_began_are_noticed(tmp_path):
    """A plain file has no checksum of its own: at the first reading its bits are taken for right."""
    write_images(tmp_path)
    config, folder = from_files(), tmp_path / "run"
    whole = train(config, data_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(config, folder, lambda done, _: stop() if done == 7 else None, data_dir=tmp_path)
    checkpoint = (folder / "checkpoint.pt").read_bytes()
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"):
        path = next(tmp_path.glob(f"{name}*"))
        sound = path.read_bytes()
        path.write_bytes(flipped(sound, 8 * (len(sound) - 1)))
        with pytest.raises(ValueError, match=r"checkpoint\.pt is of a run on other examples than those"):
            train(config, folder, data_dir=tmp_path)
        path.write_bytes(sound)
    assert (folder / "checkpoint.pt").read_bytes() == checkpoint
    record = train(config, folder, data_dir=tmp_path)
    assert without_time(record) == without_time(whole)
    assert record.data_sha256 != train(dataclasses.replace(config, seed=1), data_dir=tmp_path).data_sha256


def stop():
    raise KeyboardInterrupt


def test_a_missing_a_truncated_and_an_unreadable_data_file_are_named(tmp_path):
    write_images(tmp_path)
    path = next(tmp_path.glob("t10k-labels*"))
    sound = path.read_bytes()
    for content in (sound[:-1], sound[:5], b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=str(path)):
            train(from_files(), tmp_path / "run", data_dir=tmp_path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=path.name):
        train(from_files(), tmp_path / "run", data_dir=tmp_path)
    assert not (tmp_path / "run").exists()


def test_a_disk_that_fails_while_data_are_read_names_the_file(tmp_path, monkeypatch):
    write_images(tmp_path)
    path = next(tmp_path.glob("train-images*"))
    monkeypatch.setattr(Path, "open", lambda self, *_: fail_on(self, errno.EIO))
    with pytest.raises(OSError, match=path.name):
        read_idx(path, (28, 28))


def fail_on(path, number):
    raise OSError(number, os.strerror(number), str(path))


def test_a_damaged_table_is_refused_whole(tmp_path):
    write_table(tmp_path, "t", ROWS)
    sound = (tmp_path / "t.json").read_bytes()
    for length in (0, 1, len(sound) // 2, len(sound) - 3):
        (tmp_path / "t.json").write_bytes(sound[:length])
        with pytest.raises(ValueError, match=r"t\.json is not valid JSON"):
            read_table(tmp_path / "t.json")
    (tmp_path / "t.json").write_bytes(b"\xff" + sound)
    with pytest.raises(ValueError, match=r"t\.json is not valid JSON"):
        read_json(tmp_path / "t.json")


# ---- numbers that are none


class RootOfZero(nn.Module):
    """A network with a finite loss whose gradient is NaN once its weight has gone below a threshold."""

    def __init__(self, shape, classes):
        super().__init__()
        self.flat, self.last = nn.Flatten(), nn.Linear(math.prod(shape), classes)

    def forward(self, inputs):
        outputs = self.last(self.flat(inputs))
        steps = RootOfZero.steps = RootOfZero.steps + self.training
        return outputs + torch.sqrt(0.0 * outputs) if steps > RootOfZero.good else outputs


@pytest.mark.parametrize("good", [5, 7, 9])
def test_weights_that_are_not_finite_are_never_saved(tmp_path, monkeypatch, good):
    """The loss is finite in each of the 10 steps: from step `good` on, the gradient is NaN."""
    monkeypatch.setitem(MODELS, "mlp", RootOfZero)
    monkeypatch.setattr(training_loop, "SECONDS_BETWEEN_SAVES", 0.0 if good == 7 else 60.0)
    config = dataclasses.replace(TINY, schedule=Constant(0.0))
    RootOfZero.steps, RootOfZero.good = 0, math.inf
    whole = train(config)
    RootOfZero.steps, RootOfZero.good = 0, good
    with pytest.raises(FloatingPointError) as error:
        train(config, tmp_path)
    for word in ("step", "trial 0", "nan", "last.weight", "last.bias"):
        assert word in str(error.value)
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    assert all(bool(weight.isfinite().all()) for weight in state["model"].values())
    assert not (tmp_path / "record.json").exists()
    RootOfZero.good = math.inf  # it was the data, say, which are mended
    done = []
    record = train(config, tmp_path, lambda step, _: done.append(step))
    assert done[0] == (good + 1 if good == 7 else 6)
    assert without_time(record) == without_time(whole)


def test_without_a_folder_no_record_of_such_weights_is_returned(monkeypatch):
    monkeypatch.setitem(MODELS, "mlp", RootOfZero)
    RootOfZero.steps, RootOfZero.good = 0, 9
    with pytest.raises(FloatingPointError, match="after step 9, trial 0, whose direction has length nan"):
        train(dataclasses.replace(TINY, schedule=Constant(0.0)))


def test_huge_weights_are_not_taken_for_infinite(monkeypatch):
    config = dataclasses.replace(TINY, precision="float64", schedule=Constant(0.0), epochs=1)
    with monkeypatch.context() as patch:
        accuracy = training_run.Run._accuracy

        def huge(self):
            for weight in self.model.parameters():
                weight.data.fill_(1e308)
            self.require_finite()
            return accuracy(self)

        patch.setattr(training_run.Run, "_accuracy", huge)
        train(config)


@pytest.mark.parametrize("trial", [0, 1])
@pytest.mark.parametrize("named", ["model", "groups", "places"])
def test_a_closure_that_gives_nan_stops_with_step_trial_norm_and_names(trial, named):
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    given = model.named_parameters() if named == "groups" else model.parameters()
    base = torch.optim.SGD(given, lr=0.1, momentum=0.9)
    optimizer = RST(base, float(trial), model=model if named == "model" else None)

    def closure():
        optimizer.zero_grad()
        loss = model(torch.ones(4, 2)).square().mean() * (math.nan if optimizer.steps_taken == 2 else 1.0)
        loss.backward()
        return loss

    optimizer.step(closure)
    optimizer.step(closure)
    before = [weight.detach().clone() for weight in model.parameters()]
    with pytest.raises(FloatingPointError) as error:
        optimizer.step(closure)
    names = ["parameter 0 of group 0"] if named == "places" else ["0.weight", "0.bias", "1.weight", "1.bias"]
    for word in ("step 2", f"trial {trial}", "length of its gradient is nan", "untouched", *names):
        assert word in str(error.value), word
    assert all(torch.equal(x, y) for x, y in zip(before, model.parameters(), strict=True))
    assert optimizer.steps_taken == 2


@pytest.mark.parametrize("trial", [0, 1])
def test_a_loss_that_overflows_with_a_finite_gradient_is_no_fault(trial):
    """The step needs the gradient alone: that of x^2/2 at 1e200 is x, though x^2 is infinite."""
    x = nn.Parameter(torch.tensor([1e200], dtype=torch.float64))
    optimizer = RST(torch.optim.SGD([x], lr=0.5), float(trial))

    def closure():
        x.grad = x.detach().clone()
        return x.detach().square().sum() / 2

    assert optimizer.step(closure).item() == math.inf
    assert x.item() == pytest.approx(5e199, rel=1e-12)


def test_only_the_parameters_at_fault_are_named():
    sound, bad = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = RST(torch.optim.SGD([("sound", sound), ("bad", bad)], lr=0.1), 1.0)

    def closure():
        sound.grad, bad.grad = torch.ones(2), torch.tensor([1.0, math.inf])

    with pytest.raises(
        FloatingPointError, match=r"first gradient of step 0 is inf; .*trial 1; not finite: bad$"
    ):
        optimizer.step(closure)


def test_with_a_scaler_an_infinite_loss_is_the_scalers_affair():
    x = nn.Parameter(torch.ones(2))
    optimizer, scaler = RST(torch.optim.SGD([x], lr=0.1), 0.0), torch.amp.GradScaler("cpu")

    def closure():
        optimizer.zero_grad()
        loss = (x * math.inf).sum()
        scaler.scale(loss).backward()
        return loss

    optimizer.step(closure, scaler=scaler)
    scaler.update()
    assert optimizer.steps_taken == 1 and x.tolist() == [1.0, 1.0]


def spoiled(in_value):
    """A problem whose gradient, or whose value, is NaN once the second coordinate is below 0.2."""

    def value(x):
        return np.where(in_value & (x[..., 1] < 0.2), math.nan, 0.5 * (x**2).sum(axis=-1))

    def gradient(x):
        return np.where((not in_value) & (x < 0.2), math.nan, x)

    return FromFunctions(value, gradient, 3, L=1.0, f_star=0.0, start=[8.0, 1.0, 8.0])


@pytest.mark.parametrize("p", [0.0, 1.0])
@pytest.mark.parametrize("in_value", [False, True])
@pytest.mark.parametrize("at", [None, []])
def test_a_problem_that_gives_nan_stops_with_step_trial_norm_and_coordinates(p, in_value, at):
    """Every step halves x: its second coordinate is 1/8 after step 2, when the problem first gives NaN.

    Where every step is measured, that is seen there; else x is NaN after step 3, or its value at the end.
    """
    run = {"steps": 9, "eta": 0.5, "rho": 0.0, "replicas": 2, "backend": "numpy", "at": at}
    with pytest.raises(DivergenceError) as error:
        rst.simulate(spoiled(in_value), p, **run)
    said = str(error.value)
    seen = 2 if at is None else 8 if in_value else 3
    assert f"replica 0 left the floating-point range at step t = {seen}, trial {p:.0f}; " in said
    x = np.array([8.0, 1.0, 8.0]) / 2 ** (seen + 1)
    if in_value:
        norm = math.hypot(*x)
        assert f"at a finite x of norm {norm:g} the gradient has norm {norm:g}" in said
    elif at is None:
        assert f"at a finite x of norm {math.hypot(*x):g} the gradient has norm nan" in said
    else:
        assert "not finite: coordinates 1 of x" in said
    assert "unless the problem itself gives NaN" in said


def test_the_trial_of_a_divergence_is_the_replicas_own(monkeypatch):
    """Its coins are drawn from its own stream, and no further than to that step."""
    p = np.linspace(0.2, 0.8, 2000)
    run = {"steps": 2000, "eta": 10.0, "rho": 0.1, "ascent": "unnormalized", "backend": "numpy", "at": []}
    for replica in range(4):
        with pytest.raises(DivergenceError) as error:
            rst.simulate(Quadratic([1.0], start=[1e-300]), p, seed=3, replicas=1, first=replica, **run)
        t, trial = re.search(r"step t = (\d+), trial (\d)", str(error.value)).groups()
        assert int(trial) == rst.Trials(p, seed=3, replica=replica).draw(int(t))
