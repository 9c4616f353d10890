"""Ctrl-C that waits for a good moment."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_CTRL_C = {signal.SIGINT}


@contextmanager
def held_interrupts() -> Iterator[Callable[[], bool]]:
    """Holds Ctrl-C back; yields a function that tells whether it was pressed. What was held back is dropped at the end.

    MindSpore installs its own handlers of SIGINT and SIGTERM at every call of a compiled graph, and they end the
    process at once; a Python handler never sees the signal. A blocked signal stays pending instead, whatever the
    handler. Threads inherit the block, so this must be entered before MindSpore is imported and starts its own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _CTRL_C)
    try:
        yield lambda: signal.SIGINT in signal.sigpending()
    finally:
        while signal.sigtimedwait(_CTRL_C, 0) is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
