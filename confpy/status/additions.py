"""What the page shows besides the status, worked out on a thread of its own: files are read and compared for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress

from confpy.status.model import Status
from confpy.status.page import Shown

PATIENCE = 0.3
"""Seconds that an answer waits for it; what takes longer is in a later one."""


class Additions:
    """Looks again when something may have changed, while somebody looks at the page."""

    def __init__(self, look: Callable[[Status], Shown], version: Callable[[], object]) -> None:
        """``look`` works it out, on any thread; ``version``: equal as long as nothing has changed.

        Either may raise ``OSError``.
        """
        self._look = look
        self._version = version
        self._shown = Shown()
        self._of: object = None
        self._under_way: threading.Thread | None = None

    def __call__(self, status: Status) -> Shown:
        """Return what is known; called by one thread."""
        with suppress(OSError):
            version = (self._version(), [one.name for one in status.resources if one.sensitive])
            if version != self._of and (self._under_way is None or not self._under_way.is_alive()):
                self._of = version
                self._under_way = threading.Thread(target=self._work, args=(status,), name="confpy-page", daemon=True)
                self._under_way.start()
                self._under_way.join(PATIENCE)
        return self._shown

    def _work(self, status: Status) -> None:
        with suppress(OSError):
            self._shown = self._look(status)
