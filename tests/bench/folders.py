"""Be told of files that appear in a folder, without asking for them: inotify."""

from __future__ import annotations

import ctypes
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.processes import TooSlowError

CREATED, MOVED_TO, CLOSED = 0x100, 0x80, 0x8
LIBC = ctypes.CDLL(None, use_errno=True)


class Folder:
    """Wakes its reader when a file of one of the folders was replaced; to wait costs no processor time."""

    def __init__(self, *folders: Path) -> None:
        self._descriptor = LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        for folder in folders:
            if LIBC.inotify_add_watch(self._descriptor, os.fsencode(folder), CREATED | MOVED_TO | CLOSED) < 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(folder))
        self._poll = select.poll()
        self._poll.register(self._descriptor, select.POLLIN)

    def drain(self) -> None:
        """Forget what has been told."""
        try:
            while os.read(self._descriptor, 1 << 16):
                pass
        except BlockingIOError:
            pass

    def wait(self, done: Callable[[], bool], limit: float) -> float:
        """Return the time (``perf_counter``) at which ``done``; raises ``TooSlowError`` after ``limit`` seconds."""
        deadline = time.perf_counter() + limit
        while True:
            now = time.perf_counter()
            if done():
                return now
            if now > deadline:
                raise TooSlowError(limit)
            self._poll.poll(max(0.0, deadline - now) * 1000)
            self.drain()

    def close(self) -> None:
        os.close(self._descriptor)
