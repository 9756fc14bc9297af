"""What is promised after a kill, in short; `python -m tests.campaigns.faults` is the long form."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time

import pytest

from rst_theory.files import write_json
from tests.campaigns import faults
from tests.campaigns.crash_points import CrashPoints
from tests.campaigns.kill_jobs import JOBS
from tests.campaigns.kills import AIMS, Job, Running, crash, points, preload, sequence, uninterrupted

preload(("tests.campaigns.preloaded", "tests.campaigns.faults", "pytest"))


def careful(folder):
    """A job that keeps the promise: it writes whole files, and does not repeat what is done."""
    for i in range(3):
        if not (folder / f"{i}.json").exists():
            time.sleep(0.02)
            write_json(folder / f"{i}.json", [i] * 9)
    return 0


def careless(folder):
    """One that does not."""
    for i in range(3):
        (folder / f"{i}.json").write_text(str([i] * 9))
    return 0


def forgetful(folder):
    """One whose result depends on how often it was begun."""
    begun = len(list(folder.glob("begun*")))
    write_json(folder / f"begun {begun}.json", begun)
    return careful(folder)


def nothing(folder):
    pass


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def command(folder):
    """What `careful` does, without this project."""
    code = "import json, sys\nfor i in range(3):\n  with open(f'{sys.argv[1]}/{i}.json', 'w') as file:\n"
    code += "    file.write(json.dumps([i] * 9, indent=1) + '\\n')"
    return [sys.executable, "-I", "-S", "-c", code, str(folder)]


def job_of(function):
    return Job("tiny", function, function, command, nothing, sha256)


# ---- the instrument


def test_every_change_of_a_folder_is_a_point(tmp_path):
    """Counted by hand for one file that is written whole, and for one that is not."""
    whole = ["before open", "after open", "after open", "before write", "half-written", "after write"]
    for name in ("fsync", "chmod", "replace"):
        whole += [f"before {name}", f"after {name}"]
    found = [name for name in points(job_of(careful), tmp_path / "job") if "mkdir" not in name]
    assert found == 3 * whole
    assert points(job_of(careless), tmp_path / "job") == 3 * (
        ["after open", "before write", "half-written", "after write"]
    )


def test_what_lies_elsewhere_is_no_point(tmp_path):
    watch = CrashPoints(tmp_path / "job")
    assert watch._concerns(tmp_path / "job" / "a" / "b") and watch._concerns(str(tmp_path / "job" / "a"))
    assert not watch._concerns(tmp_path / "jobs" / "a") and not watch._concerns(tmp_path / "a")


def test_half_a_file_is_found(tmp_path):
    job, folder = job_of(careless), tmp_path / "job"
    after, _ = uninterrupted(job, folder, job.run)
    found = [crash(job, folder, after, at) for at in (1, 3, 4)]  # empty, half, and not flushed
    assert [len(each.broken) for each in found] == [1, 1, 1]
    assert "0.json is neither what it was nor what it will be" in found[1].broken
    assert all(each.kills == 1 and each.identical for each in found)  # it is written again from the start


def test_another_result_is_found(tmp_path):
    job, folder = job_of(forgetful), tmp_path / "job"
    after, _ = uninterrupted(job, folder, job.run)
    found = crash(job, folder, after, at=20)
    assert found.kills == 1 and not found.identical


# ---- the promises


def test_at_every_point_of_its_writes_a_killed_job_leaves_whole_files(tmp_path):
    job, folder = job_of(careful), tmp_path / "job"
    after, _ = uninterrupted(job, folder, job.run)
    for at in range(1, len(points(job, folder)) // 3 + 1):
        found = crash(job, folder, after, at)
        assert found.kills == 1 and found.identical and found.broken == [], at


def test_a_training_that_is_killed_again_and_again_ends_the_same(tmp_path):
    job, folder = JOBS["train"], tmp_path / "job"
    after, seconds = uninterrupted(job, folder, job.run)
    found = sequence(
        job, folder, job.run, after, AIMS["random moment"], random.Random(1), seconds / 2, most=3
    )
    assert found.identical and found.broken == []
    found = crash(job, folder, after, at=len(points(job, folder)) // 2)
    assert found.kills == 1 and found.identical and found.broken == []


@pytest.mark.parametrize("kind", ["random moment, one worker", "SIGINT"])
def test_a_pool_goes_on_from_what_is_kept(tmp_path, kind):
    job, folder = JOBS["pool"], tmp_path / "job"
    after, seconds = uninterrupted(job, folder, job.run)
    found = sequence(job, folder, job.run, after, AIMS[kind], random.Random(2), seconds, most=1)
    assert found.identical and found.broken == []


def test_workers_end_with_their_caller(tmp_path):
    """Of a pool: they would wait for ever for a task that nobody can send them."""
    job, folder = JOBS["pool"], tmp_path / "job"
    folder.mkdir()
    with Running(job.run, folder) as running:
        wait_for(lambda: len(running.members()) > 2)
        os.kill(running.group, signal.SIGKILL)
        wait_for(lambda: not running.members())


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


# ---- the campaign


def test_the_campaign_counts_what_it_did_and_goes_on(tmp_path, monkeypatch):
    everything = ((faults.EVERY_POINT, 0.0), ("random moment", 1.0))
    plans = tuple(faults.Plan(kind, "forked", ("tiny",), share) for kind, share in everything)
    monkeypatch.setattr(faults, "PLANS", plans)
    monkeypatch.setattr(faults, "points", lambda *given: points(*given)[:4])
    job, told = job_of(careful), []

    def figures():
        return list(faults.campaign([job], 2, tmp_path / "state", lambda *what: told.append(what)))

    (points_row, broken), (random_row, also_broken) = first = figures()
    assert broken == also_broken == []
    assert points_row["kills"] == points_row["bit-identical"] == points_row["results compared"] == 4
    assert points_row["ended with"] == "-9: 4"
    assert random_row["kills"] >= 2 and random_row["bit-identical"] == random_row["results compared"]
    assert told[3] == (f"tiny, {faults.EVERY_POINT}, forked", 1.0) and told[-1][1] == 1.0
    monkeypatch.setattr(faults, "crash", lambda *_, **__: pytest.fail("it was repeated"))
    monkeypatch.setattr(faults, "sequence", lambda *_, **__: pytest.fail("it was repeated"))
    assert figures() == first


def test_a_job_that_breaks_its_promise_fails_the_campaign(tmp_path, monkeypatch):
    monkeypatch.setattr(faults, "PLANS", (faults.Plan(faults.EVERY_POINT, "forked", ("tiny",), 0.0),))
    job = Job("tiny", careful, careful, command, nothing, sha256)
    monkeypatch.setattr(faults, "JOBS", {"tiny": job})
    monkeypatch.setattr(faults, "RUNS", tmp_path)
    monkeypatch.setattr(faults, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(faults, "preload", lambda _: None)
    monkeypatch.setattr(faults, "points", lambda *_: ["one"])
    assert faults.main([]) == 0
    assert (tmp_path / "results" / "kills.csv").exists()
    monkeypatch.setattr(faults, "_source", lambda: "another state")
    monkeypatch.setattr(faults, "crash", lambda *_, **__: faults.Outcome(kills=1, broken=["half a file"]))
    assert faults.main([]) == 1
