"""Hypothesis as a search: the smallest example of a strategy that breaks a promise."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from rst_theory.testing.extra import needed

with needed():
    import hypothesis
    from hypothesis import Phase, strategies as st
    from hypothesis.errors import Flaky, NoSuchExample, Unsatisfiable

__all__ = ["smallest"]

Example = TypeVar("Example")
Found = TypeVar("Found")


def smallest(
    examples: st.SearchStrategy[Example], breach: Callable[[Example], Found | None], max_examples: int
) -> Found | None:
    """What `breach` says of the smallest example for which it says something; None where there is none.

    The examples are the same in every call, so that a verdict is too. An answer that changes when the same
    example is tried again counts: the last that was found is returned.

    Raises:
        ValueError: the strategy gives no example.
    """
    found: Found | None = None

    def breaks(example: Example) -> bool:
        nonlocal found
        now = breach(example)
        found = now or found
        return now is not None

    search = hypothesis.settings(
        max_examples=max_examples,
        deadline=None,
        database=None,
        derandomize=False,
        phases=[Phase.generate, Phase.shrink],
    )
    try:
        hypothesis.find(examples, breaks, settings=search, random=random.Random(0))  # noqa: S311
    except (NoSuchExample, Flaky):
        pass
    except Unsatisfiable as error:
        raise ValueError(f"{examples} gives no example: every one is rejected") from error
    return found
