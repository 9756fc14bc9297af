"""The optimizer inside other libraries' training loops: one module for each library, loaded when imported.

    lightning       RSTModule                    accelerate   step
    transformers    RSTMixin, RSTTrainer         skorch       RSTFor, GivesModel

Each needs its library: `pip install 'rst-theory[integrations]'`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["needed"]


@contextmanager
def needed(library: str) -> Iterator[None]:
    """Around the import of a library that is not installed by default.

    Args:
        library: its name.

    Raises:
        ImportError: it cannot be imported; the extra that installs it is named.
    """
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"{library} cannot be imported ({error}): pip install 'rst-theory[integrations]'"
        ) from error
