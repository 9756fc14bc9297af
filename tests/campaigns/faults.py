"""Kill a training, a grid of simulations, a report and a pool of tasks, at random and at every write.

`python -m tests.campaigns.faults` takes about an hour of one core. What was done is kept in `runs/faults`
under the state of the source, so that the same command goes on after an interrupt; `--jobs train pool` does
those alone, and the table is written when all are done. It exits with 1 where a promise is broken.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rst_theory.files import read_json, write_json, write_table
from tests.campaigns import digests
from tests.campaigns.kill_jobs import JOBS
from tests.campaigns.kills import (
    AIMS,
    Contents,
    Job,
    Outcome,
    crash,
    points,
    preload,
    sequence,
    uninterrupted,
)

ROOT = Path(__file__).parents[2]
RUNS = ROOT / "runs" / "faults"
RESULTS = Path(__file__).parent / "results"
SOURCES = (
    "rst_theory/**/*.py",
    "experiments/pool.py",
    "tests/campaigns/kill*.py",
    "tests/campaigns/crash*.py",
)
EVERY_POINT = "every point of the writes"
BETWEEN_MEASUREMENTS = 5
MOST_MISSES = 10

Row = dict[str, Any]


class Plan(NamedTuple):
    """A kind of kill, how the job is started, which jobs get it, and how often, as a share of --kills."""

    kind: str
    started: str
    jobs: tuple[str, ...]
    share: float


EVERYWHERE, WITH_WORKERS, COMMANDS = tuple(JOBS), ("grid", "pool"), ("train", "report")
PLANS = (
    Plan(EVERY_POINT, "forked", EVERYWHERE, 0.0),
    Plan("random moment", "forked", EVERYWHERE, 1.0),
    Plan("random moment", "command line", EVERYWHERE, 0.1),
    Plan("random moment, the caller alone", "forked", WITH_WORKERS, 0.2),
    Plan("random moment, one worker", "forked", WITH_WORKERS, 0.2),
    *(Plan(stop, "forked", EVERYWHERE, 0.1) for stop in ("SIGINT", "SIGTERM")),
    *(Plan(stop, "command line", COMMANDS, 0.04) for stop in ("SIGINT", "SIGTERM")),
)


def outcomes(
    job: Job, plan: Plan, wanted: int, after: Contents, state: Path, work: Path
) -> Iterator[tuple[Outcome, float]]:
    """What came of each time that the job was begun, and the share done; what is kept is not repeated.

    Args:
        job: the job.
        plan: how it is killed.
        wanted: so many kills, where they are at random moments.
        after: what an uninterrupted job leaves.
        state: where what was done is kept.
        work: where the job works.
    """
    folder = work / "job"
    run = job.run if plan.started == "forked" else job.command(folder)
    all_points = len(points(job, folder)) if plan.kind == EVERY_POINT else 0
    kills = index = 0
    seconds, found = 0.0, Outcome()
    while index < all_points if all_points else kills < wanted and index < MOST_MISSES * wanted:
        kept = state / f"{job.name}, {plan.kind}, {plan.started}, {index}.json"
        if kept.exists():
            found = Outcome(**read_json(kept))
        elif all_points:
            found = crash(job, folder, after, at=index + 1)
        else:
            if not seconds or not found.kills or index % BETWEEN_MEASUREMENTS == 0:
                # Again and again, since a machine that does other things has its quick and slow hours.
                _, seconds = uninterrupted(job, folder, run)
            dice = random.Random(kept.name)
            found = sequence(job, folder, run, after, AIMS[plan.kind], dice, seconds)
        write_json(kept, asdict(found))
        index, kills = index + 1, kills + found.kills
        yield found, index / all_points if all_points else min(kills / wanted, 1.0)


def row(job: Job, plan: Plan, found: Sequence[Outcome]) -> Row:
    """The figures of one kind of kill."""
    statuses = Counter(status for each in found for status in each.statuses)
    return {
        "job": job.name,
        "kind": plan.kind,
        "started": plan.started,
        "kills": sum(each.kills for each in found),
        "ended with": ", ".join(f"{status}: {n}" for status, n in sorted(statuses.items())),
        "results compared": len(found),
        "bit-identical": sum(each.identical for each in found),
        "broken files or promises": sum(len(each.broken) for each in found),
        "temporary files left": sum(each.temporary for each in found),
        "processes left": sum(each.orphans for each in found),
        "seconds": round(sum(each.seconds for each in found), 1),
    }


def campaign(
    jobs: Sequence[Job], kills: int, state: Path, tell: Callable[[str, float], None]
) -> Iterator[tuple[Row, list[str]]]:
    """The figures of each job and kind of kill, and what was broken.

    Args:
        jobs: the jobs.
        kills: at random moments, of each job when it is forked; others by the shares in `PLANS`.
        state: where what was done is kept.
        tell: called with what is being done and the share that is done.

    Raises:
        RuntimeError: a job fails without being killed, or gives another result when it is forked.
    """
    state.mkdir(parents=True, exist_ok=True)
    for job in jobs:
        work = Path(tempfile.mkdtemp(dir=state.parent, prefix=f"{job.name}-"))
        after, _ = uninterrupted(job, work / "job", job.command(work / "job"))
        for run in (job.run, job.alone):
            if uninterrupted(job, work / "job", run)[0] != after:
                raise RuntimeError(f"{job.name}: the command line gives another result than {run}")
        wrong: list[str] = []
        for plan in (plan for plan in PLANS if job.name in plan.jobs):
            wanted, found = round(kills * plan.share), []
            for outcome, share in outcomes(job, plan, wanted, after, state, work):
                found.append(outcome)
                tell(f"{job.name}, {plan.kind}, {plan.started}", share)
            broken = [text for outcome in found for text in outcome.broken]
            broken += ["another result"] * sum(not outcome.identical for outcome in found)
            figures = row(job, plan, found)
            if figures["kills"] < wanted:
                broken.append(f"only {figures['kills']} of {wanted} kills hit")
            wrong += broken
            yield figures, broken
        if not wrong:
            shutil.rmtree(work)


def main(words: Sequence[str] | None = None) -> int:
    """Run it; 0 when all promises hold, 1 where one is broken, 130 after an interrupt."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="at random moments, of each job")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    asked = parser.parse_args(words)
    preload(("tests.campaigns.preloaded", "tests.campaigns.preloaded_page"))
    console, rows, wrong = Console(), [], 0
    columns = (TextColumn("{task.description:<55}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    try:
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            tasks: dict[str, Any] = {}

            def tell(title: str, share: float) -> None:
                if title not in tasks:
                    tasks[title] = progress.add_task(title, total=1.0)
                progress.update(tasks[title], completed=share)

            jobs = [JOBS[name] for name in asked.jobs]
            for figures, broken in campaign(jobs, asked.kills, RUNS / _source(), tell):
                rows.append(figures)
                wrong += len(broken)
                console.print(", ".join(f"{name} {value}" for name, value in figures.items()))
                for text in dict.fromkeys(broken):
                    console.print(f"BROKEN: {text}", markup=False)
    except KeyboardInterrupt:
        console.print("Interrupted. What was done is kept; the same command goes on from there.")
        return 130
    if set(asked.jobs) == set(JOBS):
        write_table(RESULTS, "kills", rows)
    return int(wrong > 0)


def _source() -> str:
    """The state of the source that the jobs and the kills are made of."""
    return digests.of_files(sorted(path for pattern in SOURCES for path in ROOT.glob(pattern)))[:12]


if __name__ == "__main__":
    sys.exit(main())
