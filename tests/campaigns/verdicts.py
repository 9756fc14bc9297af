"""What became of each mutant, kept from one run to the next while what it rests on reads the same."""

from __future__ import annotations

import ast
import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rst_theory.files import read_json, write_json
from tests.campaigns import digests

__all__ = ["Store", "Verdict"]


class Verdict(NamedTuple):
    """What became of a mutant: "killed", "timeout" or "survived"; by which test; and what that rests on."""

    outcome: str
    test: str
    proof: str
    seconds: float


class Store:
    """The verdicts on one file's mutants, a JSON line each; the last one counts.

    A kill rests on the killing test, a survival on all the tests, and both on the file, whose changed text is
    what their key is made of. What each test does on the original is kept too, and rests on test and file.
    """

    def __init__(self, folder: Path, module: str, source: Path, tests: Sequence[Path]) -> None:
        self._path, self._clean = folder / f"{module}.jsonl", folder / f"{module}.clean.json"
        self._files = {path.name: path for path in tests}
        self._source = source
        self._tests, self._original = self._digests()
        self._verdicts: dict[str, Verdict] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for line in self._path.read_text().splitlines() if self._path.exists() else ():
            try:
                key, *verdict = json.loads(line)
            except ValueError:  # a line cut short by an interruption
                continue
            self._verdicts[key] = Verdict(*verdict)

    def _digests(self) -> tuple[str, str]:
        texts = [path.read_text(encoding="utf-8") for path in (self._source, *self._files.values())]
        return digests.of_texts(*texts[1:]), digests.of_texts(texts[0])

    def fresh(self) -> bool:
        """Whether the file and its tests still read as when this was made."""
        return self._digests() == (self._tests, self._original)

    def known(self, key: str) -> Verdict | None:
        """The verdict, where what it rests on still reads the same."""
        verdict = self._verdicts.get(key)
        return verdict if verdict and verdict.proof == self._proof(verdict.outcome, verdict.test) else None

    def add(self, key: str, outcome: str, test: str, seconds: float) -> None:
        """Keep a verdict."""
        self._verdicts[key] = Verdict(outcome, test, self._proof(outcome, test), round(seconds, 3))
        with self._path.open("a") as file:
            file.write(json.dumps([key, *self._verdicts[key]]) + "\n")

    def clean(self) -> dict[str, Any]:
        """What was kept of the tests on the original, by their names."""
        kept = read_json(self._clean) if self._clean.exists() else {}
        if kept.get("of") != self._original:
            return {}
        return {n: what for n, proof, what in kept["tests"] if proof and proof == self._proof("", n)}

    def keep_clean(self, tests: dict[str, Any]) -> None:
        """Keep what the tests do on the original."""
        kept = [[name, self._proof("", name), found] for name, found in tests.items()]
        write_json(self._clean, {"of": self._original, "tests": kept})

    def _proof(self, outcome: str, test: str) -> str:
        if outcome == "survived":
            return self._tests
        file, _, name = test.partition("::")
        path = self._files.get(Path(file).name)
        return _functions(path).get(name.partition("[")[0], "") if path else ""


@functools.cache
def _functions(path: Path) -> dict[str, str]:
    """The digest of each test of a file."""
    source = path.read_text(encoding="utf-8")
    return {
        node.name: digests.of_texts(ast.unparse(node))
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef)
    }
