"""Signals become messages. A handler does ``SimpleQueue.put`` and nothing else: that alone cannot deadlock."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from confpy.model import Signalled

HEARD = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextmanager
def heard(put: Callable[[Signalled], None]) -> Iterator[None]:
    """Turn the signals that mean us into messages, and restore what was installed before."""

    def hear(number: int, _frame: object) -> None:
        put(Signalled(number))

    before = {number: signal.signal(number, hear) for number in HEARD}
    # Who started us may have blocked them; or ignored the end of its children, and then exit codes of ours are lost.
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
