"""Tells when a confdir, its keys, or a file with keys may have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from confpy.errors import ConfpyError
from confpy.preview.confdir import Confdir

PAUSE = 1.0
"""Seconds between two looks at the keys of a server."""
LONGEST = 3600.0


def changes(confdir: Confdir, prefixes: Callable[[], Sequence[str]]) -> Iterator[str]:
    """Yield nothing at the start, and then what has changed each time that something may have: ``files`` or ``keys``.

    What changes after the first is yielded is not missed. It never ends by itself.
    ``prefixes`` returns what is read from the store.
    """
    from confpy.system.watching import Folder  # brings watchdog

    folder = Folder(confdir.files)
    try:
        seen = _digest(confdir, prefixes)
        yield ""
        while True:
            if folder.wait(PAUSE if confdir.is_remote else LONGEST):
                yield "files"
            elif confdir.is_remote and (now := _digest(confdir, prefixes)) != seen:
                seen = now
                yield "keys"
    finally:
        folder.close()


def _digest(confdir: Confdir, prefixes: Callable[[], Sequence[str]]) -> object:
    """Return what is equal while the keys of a server are."""
    try:
        return confdir.state(prefixes()) if confdir.is_remote else None
    except ConfpyError as error:
        return error.identity
