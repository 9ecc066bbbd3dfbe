"""Signals become messages. A handler does ``SimpleQueue.put`` and nothing else: that alone cannot deadlock."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from confpy.daemon.startup import HELD
from confpy.messages import Signalled, Woken

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)
"""What stops confpy: USR1 and QUIT are the stop signals of the images of HAProxy and nginx, which it is built into."""


@contextmanager
def signal_handlers(put: Callable[[Signalled | Woken], None], stop_signals: Iterable[str] = ()) -> Iterator[None]:
    """Turn the signals that mean us into messages, and restore what was installed before.

    ``stop_signals``: names, as ``WINCH``, of others beside ``STOPS`` and HUP.

    A handler runs when the main thread next runs Python. Where that thread is about to block, or the kernel gave the
    signal to another one, that may be long; the interpreter writes a byte at once, and a thread that reads it wakes it.
    """

    def hear(number: int, _frame: object) -> None:
        put(Signalled(number))

    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def wake() -> None:
        while os.read(reader, 64):
            put(Woken())

    waker = threading.Thread(target=wake, name="confpy-signals", daemon=True)
    waker.start()
    before_fd = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    numbers = {*STOPS, signal.SIGHUP, *(signal.Signals[f"SIG{name}"] for name in stop_signals)}
    before = {number: signal.signal(number, hear) for number in numbers}
    # Who started us may have ignored the end of its children, and then exit codes of ours are lost.
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # What came during start-up, or was blocked by who started us, is taken now.
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)
    try:
        yield
    finally:
        # First the mask: where start-up blocked them, what comes from here on no longer changes how confpy ends.
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        os.close(writer)
        waker.join()
        os.close(reader)
