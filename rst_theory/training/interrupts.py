"""A request to stop, such as Ctrl-C, that waits until the step at hand is done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["Request", "deferred"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Request:
    """Whether a signal asked to stop; the second one is no longer kept waiting.

    Attributes:
        name: of the signal, such as "SIGTERM", or "" while there was none.
    """

    def __init__(self) -> None:
        self.name = ""
        self._before = {number: signal.getsignal(number) for number in _SIGNALS}

    def listen(self) -> None:
        """Take the signals, but for those that are ignored."""
        for number, handler in self._before.items():
            if handler not in (signal.SIG_IGN, None):
                signal.signal(number, self._note)

    def forget(self) -> None:
        """Give the signals back to whoever had them."""
        for number, handler in self._before.items():
            if handler is not None:
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self.forget()


@contextlib.contextmanager
def deferred() -> Iterator[Request]:
    """SIGINT and SIGTERM are noted instead of acted upon; only the main thread can do that."""
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    request.listen()
    try:
        yield request
    finally:
        request.forget()
