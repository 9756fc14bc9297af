"""A contract: promises, the smallest example that breaks each, and the report in plain words."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

__all__ = ["FALSE_ALARM", "ContractViolation", "Examples", "Promise", "is_strategy", "keep"]

FALSE_ALARM = 1e-9
"""The probability that the statistical parts of one check find fault with a class that is right."""

Examples: TypeAlias = "Sequence[tuple[Any, ...]] | SearchStrategy[tuple[Any, ...]]"
"""Where examples come from: a list, simplest first, or a strategy that Hypothesis searches."""


class Promise(NamedTuple):
    """One clause of a contract.

    Attributes:
        name: one word or two, by which it can be skipped.
        words: what is promised.
        broken_by: how an example breaks it, in words with the numbers; None where it does not.
        of: how many parts of an example it speaks of: 1 for the schedule alone, 2 for (schedule, T).
        at_most: how many examples are tried.
    """

    name: str
    words: str
    broken_by: Callable[..., str | None]
    of: int = 1
    at_most: int = 10_000


class Breach(NamedTuple):
    """A promise, the smallest example found that breaks it, and how."""

    promise: Promise
    example: tuple[Any, ...]
    how: str

    def __str__(self) -> str:
        lines = (
            f"{self.promise.name}: {self.promise.words}",
            f"smallest example: {shown(self.example)}",
            self.how,
        )
        return "\n    ".join(lines)


class ContractViolation(AssertionError):  # noqa: N818
    """A promise is broken; the message says which, by what smallest example, and what is allowed.

    Attributes:
        promises: the names of the broken promises.
    """

    def __init__(self, subject: str, breaches: Sequence[Breach]) -> None:
        self.promises = tuple(breach.promise.name for breach in breaches)
        count = "a promise" if len(breaches) == 1 else f"{len(breaches)} promises"
        super().__init__("\n\n".join([f"{subject} breaks {count}", *map(str, breaches)]))


def keep(
    subject: str,
    stages: Sequence[Sequence[Promise]],
    examples: Examples,
    max_examples: int,
    skip: Collection[str],
) -> None:
    """Nothing where every promise holds for every example tried.

    A stage is looked at only where the stages before it hold, so that one fault is not reported as many.

    Raises:
        ContractViolation: all promises of a stage that are broken.
        ValueError: an unknown name in `skip`.
    """
    names = [promise.name for stage in stages for promise in stage]
    if unknown := sorted({*skip} - {*names}):
        raise ValueError(f"no promise {', '.join(unknown)} to skip; there are {', '.join(names)}")
    for stage in stages:
        tried = (_smallest(promise, examples, max_examples) for promise in stage if promise.name not in skip)
        if breaches := [breach for breach in tried if breach]:
            raise ContractViolation(subject, breaches)


def _smallest(promise: Promise, examples: Examples, max_examples: int) -> Breach | None:
    def breach(example: tuple[Any, ...]) -> Breach | None:
        try:
            how = promise.broken_by(*example)
        except Exception as error:  # whatever a user's class raises is reported, with its example
            how = f"{type(error).__name__}: {error}"
        return Breach(promise, example, how) if how else None

    if isinstance(examples, Sequence):
        simplest = list(_parts(examples, promise.of))[: promise.at_most]
        return next(filter(None, map(breach, simplest)), None)
    from rst_theory.testing.search import smallest

    parts = examples.map(lambda example: example[: promise.of])
    return smallest(parts, breach, min(max_examples, promise.at_most))


def _parts(examples: Sequence[tuple[Any, ...]], count: int) -> Iterator[tuple[Any, ...]]:
    previous: tuple[Any, ...] = ()
    for example in examples:
        if not previous or any(a is not b for a, b in zip(example[:count], previous, strict=True)):
            yield example[:count]
        previous = example[:count]


def is_strategy(value: object) -> bool:
    """Whether a value is a strategy, asked without loading Hypothesis."""
    return hasattr(value, "example") and hasattr(value, "flatmap")


def shown(example: tuple[Any, ...]) -> str:
    """An example in one line: what it is about, and T."""
    try:
        subject = repr(example[0])
    except Exception as error:
        subject = f"a {type(example[0]).__name__}, whose repr raises {type(error).__name__}"
    return ", ".join([subject, *(f"T = {T}" for T in example[1:])])
