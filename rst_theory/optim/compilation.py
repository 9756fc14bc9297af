"""What `torch.compile` must leave alone: the arithmetic of the trials, and weights that move.

Within a compiled function these calls run as they are, and so does what they call; a model that is compiled
by itself stays so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar, cast

from torch._compile import _disable_dynamo  # torch.compiler.disable loads the compiler, which takes seconds

__all__ = ["uncompiled", "uncompiled_context"]

P = ParamSpec("P")
F = TypeVar("F", bound=Callable[..., Any])


def uncompiled(function: F) -> F:
    """A function that no compiler looks into."""
    return cast("F", _disable_dynamo(function))


def uncompiled_context(generator: Callable[P, Iterator[None]]) -> Callable[P, AbstractContextManager[None]]:
    """As `contextlib.contextmanager`; of its two ends nothing is compiled, of the block between them all."""
    make = contextmanager(generator)

    @wraps(generator)
    def opened(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[None]:
        return _Ends(make(*args, **kwargs))

    return uncompiled(opened)


class _Ends(AbstractContextManager[None]):
    def __init__(self, context: AbstractContextManager[None]) -> None:
        self._context = context

    @uncompiled
    def __enter__(self) -> None:
        self._context.__enter__()

    @uncompiled
    def __exit__(self, *error: Any) -> bool | None:
        return self._context.__exit__(*error)
