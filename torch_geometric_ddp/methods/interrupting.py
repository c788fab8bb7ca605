"""Signals to stop, which wait until a step is done."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["pass_on", "stops_noted"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What was there before, by signal, while they are noted.
_before: dict[int, Callable[..., Any] | int | None] = {}


@contextmanager
def stops_noted(wanted: bool = True) -> Iterator[list[int]]:
    """Notes the first Ctrl-C or SIGTERM inside instead of obeying it.

    Only in the main thread, which alone may do so, and not inside of another.
    """
    noted: list[int] = []

    owner = os.getpid()

    def note(number: int, frame: FrameType | None) -> None:
        # A process that was forked meanwhile writes no checkpoint, and a second signal is obeyed.
        if noted or os.getpid() != owner:
            pass_on(number)
        noted.append(number)

    if not wanted or _before or threading.current_thread() is not threading.main_thread():
        yield noted
        return
    handlers = {number: signal.getsignal(number) for number in _SIGNALS}
    # One of another language is None; what is ignored stays so.
    _before.update({n: h for n, h in handlers.items() if h not in (None, signal.SIG_IGN)})
    try:
        for number in _before:
            signal.signal(number, note)
        yield noted
    finally:
        _restore()
        if noted:  # What an error, or the end, has overtaken.
            pass_on(noted.pop())


def pass_on(number: int) -> None:
    """Lets a signal do what it would have done."""
    _restore()
    sys.stdout.flush()
    sys.stderr.flush()
    signal.raise_signal(number)


def _restore() -> None:
    while _before:
        number, handler = _before.popitem()
        signal.signal(number, handler)
