"""Compiled templates on disk. They are code, so one is used only if nobody but root or us can have put it there.

One file a template, named by its place; in it a line that says what it was made of, then a digest, then the code. What
does not fit is made anew and takes its place. Nothing that goes wrong here is an error: it costs a compilation.
"""

from __future__ import annotations

import marshal
import os
import stat
import time
from contextlib import suppress
from hashlib import sha256
from importlib.util import MAGIC_NUMBER

from confpy.system.disk import Disk
from confpy.system.ownership import is_trusted, require_private
from confpy.templates.lookup import Lookup
from confpy.templates.results import CompileResult

FORMAT = "confpy-code 3"
DISK = Disk()
USED_EVERY = 86400.0
"""Seconds after which a use of compiled code is noted, as its modification time: what is not used expires."""
_DIGEST = 32


class CodeCache:
    """A folder of compiled templates. For any number of threads and processes."""

    def __init__(self, folder: str, made_with: str) -> None:
        """``made_with`` names everything but the source that the code depends on: engine, options, versions."""
        self._folder = folder
        self._made_with = f"{FORMAT} {made_with} {MAGIC_NUMBER.hex()}"

    def load(self, lookup: Lookup, file: str, digest: str) -> CompileResult | None:
        """Return what was made of a template, or None where it is not there for this very source."""
        try:
            path = os.path.join(require_private(self._folder, DISK), _entry(lookup, file))
            found = DISK.lstat(path)
            if not is_trusted(found) or not stat.S_ISREG(found.st_mode):
                return None
            content = DISK.read(path)
        except OSError:
            return None
        head = self._head(digest)
        body = content[len(head) + _DIGEST :]
        if content[: len(head) + _DIGEST] != head + sha256(body).digest():
            return None
        engine, code, needs, warnings = marshal.loads(body)  # noqa: S302 - trusted, and whole
        if time.time() - found.st_mtime > USED_EVERY:
            with suppress(OSError):
                os.utime(path)
        return CompileResult(engine, code, frozenset(Lookup(*need) for need in needs), warnings)

    def save(self, lookup: Lookup, file: str, digest: str, made: CompileResult) -> None:
        """Put a template's code in its place, whole or not at all."""
        needs = sorted((need.kind, need.name, need.engine, need.delimiters) for need in made.needs)
        body = marshal.dumps((made.engine, made.code, needs, made.warnings))
        entry = _entry(lookup, file)
        try:
            os.makedirs(self._folder, 0o700, exist_ok=True)
            folder = require_private(self._folder, DISK)
        except OSError:
            return
        content = self._head(digest) + sha256(body).digest() + body
        with suppress(OSError):
            # What a power cut takes is compiled again.
            DISK.write_file(os.path.join(folder, entry), content, durable=False)

    def _head(self, digest: str) -> bytes:
        return f"{self._made_with} {digest}\n".encode()


def _entry(lookup: Lookup, file: str) -> str:
    # The name is part of the code, the file of its error lines.
    place = "\0".join((lookup.name, lookup.engine, file, *lookup.delimiters))
    return sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:40]
