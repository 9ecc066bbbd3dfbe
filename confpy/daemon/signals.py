"""Signals become messages. A handler calls ``SimpleQueue.put`` and nothing else: only that cannot deadlock."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from confpy.daemon.startup import HELD
from confpy.messages import Signalled, Woken

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
"""What stops confpy. USR1 and QUIT are the stop signals of the images of HAProxy and nginx, which it is built into."""


@contextmanager
def signal_handlers(
    put: Callable[[Signalled | Woken], None], stop_signals: Iterable[str] = (), forwarded: Iterable[int] = ()
) -> Iterator[None]:
    """Turn signals into messages, and restore the previous handlers at the end.

    ``stop_signals``: names, such as ``WINCH``, of further signals beside ``STOPS`` and HUP. ``forwarded``: the numbers
    of those that a supervised program gets.

    A handler runs when the main thread next runs Python. That may take long if the main thread is about to block, or if
    the kernel delivered the signal to another thread. The interpreter writes a byte at once; a thread that reads it
    posts ``Woken``.
    """

    def handle(number: int, _frame: object) -> None:
        put(Signalled(number))

    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def wake() -> None:
        while os.read(reader, 64):
            put(Woken())

    waker = threading.Thread(target=wake, name="confpy-signals", daemon=True)
    waker.start()
    previous_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    numbers = {*STOPS, signal.SIGHUP, *(signal.Signals[f"SIG{name}"] for name in stop_signals), *forwarded}
    previous = {number: signal.signal(number, handle) for number in numbers}
    # If confpy's parent ignored SIGCHLD, confpy inherits that, and exit codes of its own children are lost.
    previous[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Signals that arrived during start-up, or that the parent had blocked, are delivered now.
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
    try:
        yield
    finally:
        # The mask first: if start-up had blocked them, signals from here on no longer change how confpy ends.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_fd)
        os.close(writer)
        waker.join()
        os.close(reader)
