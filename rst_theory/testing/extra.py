"""Hypothesis, which this part of the package needs and an extra installs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needed"]


@contextmanager
def needed() -> Iterator[None]:
    """Around the import of Hypothesis.

    Raises:
        ImportError: it cannot be imported; the extra that installs it is named.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"hypothesis cannot be imported ({error}): pip install 'rst-theory[testing]'"
        ) from error
