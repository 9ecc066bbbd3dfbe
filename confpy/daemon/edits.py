"""Edits of the confdir and of the files that resources watch: a thread per set of paths posts a message."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from confpy.daemon.jobs import Start
from confpy.errors import ConfpyError
from confpy.events import LogEvent
from confpy.messages import Edited, Message, Touched

if TYPE_CHECKING:
    from confpy.system.watching import Folder

LONGEST_SLEEP = 3600.0
RECHECK = 60.0
"""Seconds as ``watching.RECHECK``: longer, as nothing else wakes a daemon that has nothing to do."""


class Edits:
    """The paths that are watched, until ``close``."""

    def __init__(self, post: Callable[[Message], None], start: Start, log: Callable[[LogEvent], None]) -> None:
        self._post = post
        self._start = start
        self._log = log
        self._confdir: Folder | None = None
        self._files: Folder | None = None
        self._closed = False

    def follow_confdir(self, confdir: str) -> None:
        """Post ``Edited`` when something below ``conf.d`` or ``templates`` changes."""

        def follow() -> None:
            # On its thread: it takes long.
            self._confdir = self._open([os.path.join(confdir, name) for name in ("conf.d", "templates")])
            self._post_changes(self._confdir, Edited())

        self._start("edits", follow, self._unwatched)

    def follow_files(self, files: tuple[str, ...]) -> None:
        """As ``Ports.follow``."""
        if self._files is not None:
            self._files.close()
            self._files = None
        if files:
            self._files = followed = self._open(files)
            self._start("files", lambda: self._post_changes(followed, Touched()), self._unwatched)

    def close(self) -> None:
        self._closed = True
        for followed in (self._confdir, self._files):
            if followed is not None:
                followed.close()

    def _open(self, paths: Sequence[str]) -> Folder:
        from confpy.system.watching import POLL, Folder, why_unwatched  # brings watchdog

        def unwatched(error: OSError) -> None:
            failure = ConfpyError(f"edits cannot be watched for: {error.strerror}", hint=why_unwatched(error))
            self._unwatched(failure.at(file=paths[0]), f"looks every {POLL:g} s")

        return Folder(paths, unwatched, RECHECK)

    def _post_changes(self, folder: Folder, message: Message) -> None:
        """Post a message at each change in a folder, until it is closed."""
        try:
            while not (self._closed or folder.is_closed):
                if folder.wait(LONGEST_SLEEP):
                    self._post(message)
        finally:
            folder.close()

    def _unwatched(self, error: ConfpyError, did: str = "looks at SIGHUP and at each resync only") -> None:
        self._log(LogEvent("warning", "edits.unwatched", {**error.fields(), "did": did}))
