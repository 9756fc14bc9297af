"""Tests that pytest has collected and not run: each can be run when it is its turn, in a forked process."""

from __future__ import annotations

import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from tests.campaigns.mutations import Mutant

__all__ = ["Clean", "Lines", "Order", "Tests", "held"]

EXAMPLES = 25
PATIENCE, GRACE = 5, 2.0  # the limit of a test: so many times what it needs, and so many seconds more


class Tests:
    """A pytest plugin: collects, and hands the items to a function in place of running them."""

    def __init__(self, loop: Callable[[Tests], None]) -> None:
        self._loop = loop
        self._failed = False
        self.broken = False
        self.items: dict[str, pytest.Item] = {}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """An import that fails, of the package or of a test, leaves the tests broken."""
        self.broken |= report.failed

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Hypothesis draws few examples, always the same."""
        self.items = {item.nodeid: item for item in items}
        if "hypothesis" in sys.modules:
            from hypothesis import HealthCheck, Phase, settings

            for item in items:
                test = getattr(item, "function", None)
                own = getattr(test, "_hypothesis_internal_use_settings", None)
                if own is not None and own.max_examples > 0:
                    test._hypothesis_internal_use_settings = settings(
                        own,
                        max_examples=min(own.max_examples, EXAMPLES),
                        derandomize=True,
                        database=None,
                        deadline=None,
                        phases=(Phase.explicit, Phase.generate),
                        suppress_health_check=list(HealthCheck),
                    )

    def pytest_runtestloop(self) -> bool:
        """In place of pytest's."""
        self._loop(self)
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Called within `passes`."""
        self._failed |= report.failed

    def passes(self, name: str) -> bool:
        """Run one test."""
        self._failed = False
        item = self.items[name]
        item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
        return not self._failed


def held(files: Sequence[Path], loop: Callable[[Tests], None]) -> None:
    """Collect tests with pytest and hand them to the loop."""
    words = "-q -s --tb=no --no-header --no-summary -p no:cacheprovider -p no:randomly"
    words += " -W ignore::pytest.PytestAssertRewriteWarning"
    pytest.main([*words.split(), *map(str, files)], plugins=[Tests(loop)])


class Clean(NamedTuple):
    """What one test does on the original: seconds, and the lines of the file that it runs."""

    seconds: float
    lines: frozenset[int]


class Order:
    """Which tests to run on a mutant, quick and deadly ones first."""

    def __init__(self, clean: dict[str, Clean]) -> None:
        self.clean = clean
        self._kills: Counter[tuple[str, str]] = Counter()

    def learn(self, mutant: Mutant, test: str) -> None:
        """A test has killed a mutant."""
        self._kills[test, ""] += 1
        self._kills[test, mutant.function] += 10

    def __call__(self, mutant: Mutant, everything: bool = False) -> list[str]:
        """The tests that run the mutated lines, or all."""
        first, last = mutant.lines
        chosen = [
            name
            for name, test in self.clean.items()
            if everything or any(first <= n <= last for n in test.lines)
        ]
        return sorted(chosen, key=lambda name: self._cost(name, mutant.function))

    def _cost(self, name: str, function: str) -> float:
        deadly = 1 + self._kills[name, ""] + self._kills[name, function]
        return (self.clean[name].seconds + 0.01) / deadly

    def limit(self, names: Sequence[str]) -> float:
        """Seconds for a mutant that meets these tests."""
        return sum(PATIENCE * self.clean[name].seconds + GRACE for name in names) + GRACE

    def until_one_fails(self, tests: Tests, names: Sequence[str], say: Callable[[str], None]) -> None:
        """Run tests; says the name of each before it is run, and the last one is the one that fails.

        What takes longer than its limit, in seconds of the processor, ends this process by SIGXCPU.
        """
        _, most = resource.getrlimit(resource.RLIMIT_CPU)
        for name in names:
            say(name)
            late = int(time.process_time() + self.limit([name])) + 1
            resource.setrlimit(resource.RLIMIT_CPU, (late if most < 0 else min(late, most), most))
            if name in tests.items and not tests.passes(name):
                return
        say("survived")


class Lines:
    """Which lines of some files run from `start` to `stop`, in all threads."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._ran: dict[str, set[int]] = {str(path): set() for path in paths}

    def start(self) -> None:
        """From now on."""
        threading.settrace(self._called)
        sys.settrace(self._called)

    def stop(self) -> list[list[int]]:
        """The lines that ran, of each file."""
        sys.settrace(None)
        threading.settrace(None)  # type: ignore[arg-type]
        return [sorted(lines) for lines in self._ran.values()]

    def _called(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._traced if frame.f_code.co_filename in self._ran else None

    def _traced(self, frame: FrameType, event: str, argument: Any) -> Any:
        if event == "line":
            self._ran[frame.f_code.co_filename].add(frame.f_lineno)
        return self._traced
