"""Mutation testing: does a test fail when the package is changed in one place? Which places: `mutations.py`.

`python -m tests.campaigns.mutants [ROOM OR FILE ...] [--processes 2]`, for example `cost notation.py`. For
each file a process that has everything imported and the tests collected is forked once per test, to learn
which lines it runs in how long, and then once per mutant: there the code of the mutated function is exchanged
in place, and the tests that run its line follow, quick and deadly ones first, until one fails. A mutant of
what runs at import (tables, class bodies, defaults, decorators, functions called there) is imported anew in a
process that has only the libraries loaded, and meets all tests of the file. A mutant that needs several times
as long as the tests need without it counts as killed. Hypothesis draws `EXAMPLES` examples, always the same,
and does not shrink.

Each verdict is kept under runs/mutants, so that the campaign goes on where it was stopped: a kill holds while
the file and the killing test read the same, a survival while the file and all its tests do. Survivors that no
test can kill are listed with the reason in survivors.json. Exit status 1 where a mutant has no verdict, a
survivor is not listed, or fewer than `LEAST` per cent of all are killed.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import json
import os
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rst_theory.files import read_json, read_table, write_table
from tests.campaigns import digests
from tests.campaigns.exchange import ChangedModule, Swaps, apply, compiled, live_functions, swaps
from tests.campaigns.forks import forked
from tests.campaigns.held_tests import Clean, Lines, Order, Tests, held
from tests.campaigns.mutations import Mutant, mutants_of
from tests.campaigns.verdicts import Store

__all__ = ["LEAST", "TESTS", "Job", "campaign"]

ROOT = Path(__file__).parents[2]
STATE = ROOT / "runs" / "mutants"
RESULTS = Path(__file__).parent / "results"
SURVIVORS = Path(__file__).parent / "survivors.json"

LEAST = 95.0
SUBSET_SECONDS = 30.0  # of the tests of one file, run once

PRELOADED = (
    *("numpy", "scipy.stats", "scipy.optimize", "scipy.integrate", "sympy", "mpmath", "numba"),
    *("torch", "torch._dynamo"),  # which an optimizer imports at its first step
    *("hypothesis.extra.numpy", "matplotlib.pyplot", "PEPit", "clarabel", "joblib"),
)

TESTS: dict[str, tuple[str, ...]] = {
    "method.py": ("test_method",),
    "notation.py": ("test_notation",),
    "trials.py": ("test_trials",),
    "cost/law.py": ("test_cost",),
    "cost/poisson_binomial.py": ("test_poisson_binomial", "test_cost"),
    "cost/symbolic.py": ("test_cost",),
    "cost/systematic.py": ("test_cost",),
    "schedules/base.py": ("test_schedules",),
    "schedules/expressions.py": ("test_expressions",),
    "schedules/families.py": ("test_schedules",),
    "schedules/presets.py": ("test_schedules",),
    "allocation/budget.py": ("test_allocation",),
    "allocation/pairs.py": ("test_allocation",),
    "bounds/average.py": ("test_bounds_by_hand", "test_average"),
    "bounds/base.py": ("test_bounds_by_hand",),
    "bounds/catalogue.py": ("test_bounds_by_hand",),
    "bounds/concentration.py": ("test_concentration",),
    "bounds/contraction.py": ("test_contraction", "test_strongly_convex"),
    "bounds/convex.py": ("test_bounds_by_hand", "test_convex"),
    "bounds/implicit.py": ("test_implicit",),
    "bounds/one_step.py": ("test_bounds_by_hand", "test_one_step"),
    "bounds/polyak_lojasiewicz.py": ("test_bounds_by_hand", "test_polyak_lojasiewicz"),
    "bounds/quadratics.py": ("test_quadratics",),
    "bounds/rates.py": ("test_rates",),
    "bounds/realized.py": ("test_bounds_by_hand", "test_realized"),
    "bounds/stationary.py": ("test_quadratics",),
    "bounds/stationary_noise.py": ("test_quadratics",),
    "bounds/strongly_convex.py": ("test_bounds_by_hand", "test_strongly_convex"),
    "bounds/unnormalized.py": ("test_bounds_by_hand", "test_unnormalized"),
    "optim/ascent.py": ("test_optim_tensors",),
    "optim/compilation.py": ("test_optim_parts",),
    "optim/data_parallel.py": ("test_optim_parts",),
    "optim/finiteness.py": ("test_optim_parts",),
    "optim/gradients.py": ("test_optim_parts",),
    "optim/graphs.py": ("test_graphs",),
    "optim/groups.py": ("test_optim_parts",),
    "optim/lengths.py": ("test_optim_tensors",),
    "optim/lists.py": ("test_optim_tensors",),
    "optim/mixture.py": ("test_optim_tensors",),
    "optim/options.py": ("test_optim_parts",),
    "optim/passes.py": ("test_optim_parts",),
    "optim/perturbation.py": ("test_optim_tensors",),
    "optim/plan.py": ("test_optim_plan",),
    "optim/rst.py": ("test_optim_run",),
    "optim/shards.py": ("test_optim_parts",),
    "optim/two_step.py": ("test_two_step",),
}
"""The tests of each file of the package, in files of tests/."""


class Job(NamedTuple):
    """A file to mutate: its name in the table, its path, its name as a module, and the files of its tests."""

    name: str
    path: Path
    module: str
    tests: tuple[Path, ...]


class Trial(NamedTuple):
    """A mutant, the key of its verdict, and the codes to exchange: None where it must be imported anew."""

    key: str
    mutant: Mutant
    changes: Swaps | None


def trials_of(job: Job) -> list[Trial]:
    """The mutants of a file that change what it compiles to."""
    source = job.path.read_text(encoding="utf-8")
    original, found = compiled(source, job.path), []
    for mutant in mutants_of(source):
        changes = swaps(original, compiled(mutant.source, job.path))
        if changes != []:
            found.append(Trial(digests.of_texts(mutant.source), mutant, changes))
    return found


class Campaign(NamedTuple):
    """One file's: what to try, where to keep what becomes of it, and how many processes to use.

    What the tests do is measured at once for all files that have the same ones, `alike`.
    """

    job: Job
    todo: list[Trial]
    store: Store
    alike: dict[Path, Store]
    processes: int

    def decide(self) -> None:
        """Find the missing verdicts. This process must not have imported the file, and does not."""
        if self.job.module in sys.modules:
            raise RuntimeError(f"{self.job.module} is imported already")
        answers = tempfile.TemporaryFile("w+")  # noqa: SIM115
        pid = os.fork()  # this one is no mutant: it may speak, and takes as long as it takes
        if not pid:
            try:
                self._in_place(lambda keys: answers.write(json.dumps(keys)))
                answers.flush()
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        answers.seek(0)
        left = answers.read()
        if not left:
            raise RuntimeError(f"the mutants of {self.job.name} could not be tried, or not all of them")
        keys = {*json.loads(left)}
        self._imported_anew([trial for trial in self.todo if trial.key in keys])

    def _in_place(self, say: Callable[[Any], None]) -> None:
        """Try the mutants whose functions can be exchanged; says the keys of those that are left."""
        at_import = Lines([self.job.path])

        def loop(tests: Tests) -> None:
            importlib.import_module(self.job.module)
            before = {*at_import.stop()[0]}
            if tests.broken:
                raise RuntimeError(f"a test of {self.job.name} cannot be imported")
            if not self.store.fresh():
                raise RuntimeError(f"{self.job.name} or one of its tests was edited meanwhile")
            functions = live_functions(self.job.path)
            gc.freeze()
            order = Order(self._clean(tests))

            def attempt(trial: Trial, say: Callable[[Any], None]) -> None:
                apply(trial.changes or [], functions)
                order.until_one_fails(tests, order(trial.mutant), say)

            inner = [trial for trial in self.todo if trial.changes is not None]
            left = [trial.key for trial in self.todo if trial.changes is None]
            for trial, *ended in self._tried(inner, attempt, lambda t: order.limit(order(t.mutant))):
                first, last = trial.mutant.lines
                if ended[0] == "survived" and any(first <= line <= last for line in before):
                    left.append(trial.key)
                else:
                    self._keep(trial, order, *ended)
            say(left)

        at_import.start()
        held(self.job.tests, loop)

    def _imported_anew(self, trials: list[Trial]) -> None:
        """Try mutants of what runs at import."""
        order = Order(_chosen(self.store.clean()))
        if not self.store.fresh():
            raise RuntimeError(f"{self.job.name} or one of its tests was edited meanwhile")

        def attempt(trial: Trial, say: Callable[[Any], None]) -> None:
            sys.meta_path.insert(0, ChangedModule(self.job.module, self.job.path, trial.mutant.source))
            names = order(trial.mutant, everything=True)
            say("import")

            def loop(tests: Tests) -> None:
                if not tests.broken:
                    order.until_one_fails(tests, names, say)

            held(self.job.tests, loop)

        limit = 2 * order.limit([*order.clean])
        for trial, *ended in self._tried(trials, attempt, lambda _: limit):
            self._keep(trial, order, *ended)

    def _tried(
        self,
        trials: list[Trial],
        attempt: Callable[[Trial, Callable[[Any], None]], None],
        limit: Callable[[Trial], float],
    ) -> Iterator[tuple[Trial, str, str, float]]:
        """Each trial with its outcome, the killing test and the seconds that it took."""
        runs = forked(trials, attempt, limit, self.processes)
        for trial, said, ended, seconds in _shown(self.job.name, len(trials), runs):
            if not said:
                raise RuntimeError(f"{trial.mutant.after!r} of {self.job.name} was not tried")
            if said[-1] == "survived":
                yield trial, "survived", "", seconds
            else:
                yield trial, "timeout" if ended is None else "killed", said[-1], seconds

    def _keep(self, trial: Trial, order: Order, outcome: str, test: str, seconds: float) -> None:
        self.store.add(trial.key, outcome, test, seconds)
        if test in order.clean:
            order.learn(trial.mutant, test)

    def _clean(self, tests: Tests) -> dict[str, Clean]:
        """What each test does on the original; those that fail or take long are left out."""
        kept = {path: store.clean() for path, store in self.alike.items()}

        def attempt(name: str, say: Callable[[Any], None]) -> None:
            lines = Lines(self.alike)
            lines.start()
            start = time.process_time()  # to start the measurement takes longer than most tests
            passed = tests.passes(name)
            say([passed, time.process_time() - start, lines.stop()])

        todo = [name for name in tests.items if name not in kept[self.job.path]]
        runs = forked(todo, attempt, lambda name: SUBSET_SECONDS, self.processes)
        for name, said, ended, _ in _shown(f"{self.job.name}, clean", len(todo), runs):
            if ended and said and said[0][0]:
                _, seconds, every = said[0]
                for clean, lines in zip(kept.values(), every, strict=True):
                    clean[name] = [seconds, lines]
            else:
                print(f"{name} fails on the original, or takes long: left out", file=sys.stderr)
        for path, clean in kept.items():
            self.alike[path].keep_clean({name: clean[name] for name in tests.items if name in clean})
        return _chosen(self.store.clean())


def _chosen(kept: dict[str, Any]) -> dict[str, Clean]:
    """Tests that are short enough together.

    Slow ones go first, as long as others run the same lines.
    """
    clean = {name: Clean(seconds, frozenset(lines)) for name, (seconds, lines) in kept.items()}
    runs = Counter(line for test in clean.values() for line in test.lines)
    while sum(test.seconds for test in clean.values()) > SUBSET_SECONDS:
        spare = [name for name, test in clean.items() if all(runs[line] > 1 for line in test.lines)]
        slowest = max(spare or clean, key=lambda name: clean[name].seconds)
        left_out = clean.pop(slowest)
        runs.subtract(left_out.lines)
        print(f"{slowest} takes {left_out.seconds:.2f} s: left out", file=sys.stderr)
    return clean


def _shown(title: str, total: int, runs: Iterable[Any]) -> Iterator[Any]:
    start = time.monotonic()
    for done, run in enumerate(runs, start=1):
        if done % 10 == 0 or done == total:
            print(f"\r{title}: {done} of {total}, {time.monotonic() - start:.0f} s ", end="", file=sys.stderr)
        yield run
    print(file=sys.stderr)


def campaign(
    jobs: Sequence[Job],
    processes: int,
    root: Path = ROOT,
    state: Path = STATE,
    results: Path = RESULTS,
    survivors: Path = SURVIVORS,
    preloaded: Sequence[str] = PRELOADED,
    run: Callable[[Job], bool] = lambda job: True,
) -> int:
    """Find the verdicts that are missing of the jobs for which run(job); write the table; the exit status."""
    os.chdir(root)
    sys.path.insert(0, str(root))
    temporary = state / f"temporary-{os.getpid()}"
    temporary.mkdir(parents=True, exist_ok=True)
    os.environ |= {"PYTEST_DEBUG_TEMPROOT": str(temporary), "OMP_NUM_THREADS": "1", "CI": "1"}
    accepted = {_key(**entry) for entry in (read_json(survivors) if survivors.exists() else ())}
    for name in preloaded:
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed", file=sys.stderr)
    for job in filter(run, jobs):
        trials, store = trials_of(job), Store(state, job.module, job.path, job.tests)
        if todo := [trial for trial in trials if not store.known(trial.key)]:
            try:
                same = [other for other in jobs if other.tests == job.tests]
                alike = {other.path: Store(state, other.module, other.path, other.tests) for other in same}
                Campaign(job, todo, store, alike, processes).decide()
            except RuntimeError as error:
                print(error, file=sys.stderr)
            store = Store(state, job.module, job.path, job.tests)
        row = _row(job, trials, store, accepted)
        print(row, flush=True)
        rows = _rows(results) | {job.name: row}
        write_table(results, "mutants", [rows[job.name] for job in jobs if job.name in rows])
    shutil.rmtree(temporary)
    return int(not _holds(jobs, _rows(results)))


def _rows(results: Path) -> dict[str, dict[str, Any]]:
    table = results / "mutants.json"
    return {row["file"]: row for row in (read_table(table) if table.exists() else ())}


def _holds(jobs: Sequence[Job], rows: dict[str, dict[str, Any]]) -> bool:
    """Whether every mutant has a verdict, every survivor a reason, and enough of them all are killed."""
    if not all(job.name in rows for job in jobs):
        return False
    counted = ("mutants", "killed", "unexplained", "not_run")
    mutants, killed, unexplained, not_run = (sum(rows[job.name][key] for job in jobs) for key in counted)
    print(f"{killed} of {mutants} killed; {unexplained} survivors without a reason; {not_run} not run")
    return not not_run and not unexplained and 100 * killed >= LEAST * mutants


def _key(file: str, function: str, before: str, after: str, reason: str) -> tuple[str, ...]:
    """Of an accepted survivor; without a reason it is none."""
    return (file, function, before, after) if reason else ()


def _row(job: Job, trials: list[Trial], store: Store, accepted: set[tuple[str, ...]]) -> dict[str, Any]:
    """Of the table; the survivors without a reason are printed as survivors.json would have them."""
    verdicts = [(trial.mutant, store.known(trial.key)) for trial in trials]
    survivors = [mutant for mutant, verdict in verdicts if verdict and verdict.outcome == "survived"]
    listed = [(job.name, m.function, m.before, m.after) in accepted for m in survivors]
    for m, known in zip(survivors, listed, strict=True):
        if not known:
            entry = {"file": job.name, "function": m.function, "before": m.before, "after": m.after}
            print(f"line {m.line}: {json.dumps(entry, ensure_ascii=False)}")
    count = Counter(verdict.outcome for _, verdict in verdicts if verdict)
    killed, run = count["killed"] + count["timeout"], count.total()
    return {
        "file": job.name,
        "mutants": len(trials),
        "killed": killed,
        "by_timeout": count["timeout"],
        "equivalent": sum(listed),
        "unexplained": len(listed) - sum(listed),
        "not_run": len(trials) - run,
        "per_cent": round(100 * killed / run, 2) if run else 0.0,
        "per_cent_of_others": round(100 * killed / (run - sum(listed)), 2) if run > sum(listed) else 0.0,
        "seconds": round(sum(verdict.seconds for _, verdict in verdicts if verdict), 1),
    }


def main(arguments: Sequence[str]) -> int:
    """From the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("where", nargs="*", help="rooms or files of the package; all by default")
    parser.add_argument("--processes", type=int, default=2)
    chosen = parser.parse_args(arguments)
    jobs = [
        Job(
            name,
            ROOT / "rst_theory" / name,
            f"rst_theory.{name.removesuffix('.py').replace('/', '.')}",
            tuple(ROOT / "tests" / f"{test}.py" for test in tests),
        )
        for name, tests in TESTS.items()
    ]
    where = {*chosen.where}

    def wanted(job: Job) -> bool:
        return not where or bool(where & {job.name, job.name.split("/")[0]})

    return campaign(jobs, chosen.processes, run=wanted)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
