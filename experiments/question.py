"""A question put to an experiment: what is asked, by which rule it is answered, what would change the answer.

An experiment is a module with

    QUESTION: Question
    run(size, results)      writes its tables; yields the share that is done
    answer(results)         the verdict, from the tables alone, by the rule in the module's docstring
    CHECKS                  how a smaller run of it is compared with its committed tables
"""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["Answer", "Check", "Question", "Verdict"]

Verdict = Literal["verified", "supported", "refuted", "open"]
"""verified: proved or exactly computed here, and nothing measured contradicts it; supported: measured here,
in the setting that the evidence names; refuted: measured to be false there; open: nothing decides yet."""


class Question(NamedTuple):
    """What an experiment asks.

    Attributes:
        id: Q1 … Q8.
        title: a few words.
        statement: a sentence that is true or false.
        rule: the pass/fail rule fixed before the run, in a sentence.
        change: what would change our mind, in a sentence.
        figure: a key of `rst_theory.plots.FIGURES`.
    """

    id: str
    title: str
    statement: str
    rule: str
    change: str
    figure: str


class Answer(NamedTuple):
    """What came of it.

    Attributes:
        verdict: on the statement.
        number: the one figure to remember, with its unit; None where there is none.
        evidence: sentences with the numbers and their intervals.
    """

    verdict: Verdict
    number: str | None
    evidence: str


class Check(NamedTuple):
    """Columns of a table that a smaller run must reproduce.

    Attributes:
        table: its name.
        keys: columns that name a row; the rows of a smaller run are some of those of the full one.
        value: the column compared.
        interval: the columns with the ends of the 99 % interval of the value; None where it is exact.
        repetitions: the column with the number of independent repetitions behind a row.
    """

    table: str
    keys: tuple[str, ...]
    value: str
    interval: tuple[str, str] | None = None
    repetitions: str | None = None
