"""Compiled templates on disk. They are code, so they are used only if nobody but root or us can have put them there.

One file for all templates of a folder: a line that says what they were made with, a digest, and the entries, each named
by the text that it was made of. What does not fit is made anew and takes its place. Nothing that goes wrong here is an
error: it costs a compilation.
"""

from __future__ import annotations

import marshal
import os
import stat
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from hashlib import sha256
from importlib.util import MAGIC_NUMBER
from typing import TypeAlias

from confpy.system.disk import Disk
from confpy.system.ownership import is_trusted, require_private
from confpy.templates.lookup import Lookup
from confpy.templates.results import CompileResult

FORMAT = "confpy-code 5"
DISK = Disk()
UNUSED_DAYS = 7
"""How long the code of texts that this process has not used stays in the file."""
_DAY = 86400
_DIGEST = 32

Entry: TypeAlias = tuple[int, bytes]
"""The day of the last use that was noted, and the code with what belongs to it."""


class CodeCache:
    """The compiled templates of a folder. For any number of threads and processes."""

    def __init__(self, folder: str, templates: str, made_with: Callable[[], str]) -> None:
        """``made_with`` names everything but the text that code depends on: options, versions."""
        self._folder = folder
        self._templates = templates
        self._made_with = made_with
        self._writing = threading.Lock()
        """Held while the file is written."""
        self._guard = threading.Lock()
        """Held while ``_new`` changes."""
        self._found: dict[str, Entry] | None = None
        """What the file has; None: it was not read yet, or what was read is no longer needed."""
        self._new: dict[str, bytes] = {}
        """What is not in the file."""
        self._is_old = False
        """A use is to be noted."""

    def load(self, key: str) -> CompileResult | None:
        """Return what was made of the text that a key stands for, or None."""
        found = self._found
        if found is None:
            found = self._found = self._read()
        entry = found.get(key)
        if entry is None:
            return None
        day, code = entry
        self._is_old = self._is_old or day < _today()
        engine, compiled, needs, warnings = marshal.loads(code)  # noqa: S302 - trusted, and whole
        return CompileResult(engine, compiled, frozenset(Lookup(*need) for need in needs), warnings)

    def add(self, key: str, made: CompileResult) -> None:
        """Take what was made of a text, for the next ``save``."""
        needs = sorted((need.kind, need.name, need.engine, need.delimiters) for need in made.needs)
        code = marshal.dumps((made.engine, made.code, needs, made.warnings))
        with self._guard:
            self._new[key] = code

    @property
    def is_new(self) -> bool:
        """There is something to save."""
        return bool(self._new) or self._is_old

    def save(self, in_use: Callable[[], Collection[str]]) -> None:
        """Write what is new, all or nothing. ``in_use`` returns the texts that templates have now.

        It is called when it is known what is written: who asked before would leave out what another thread has
        written since then.
        """
        with self._writing, suppress(OSError):
            if not self.is_new:
                return
            with self._guard:
                new, self._new = self._new, {}
            self._is_old = False
            os.makedirs(self._folder, 0o700, exist_ok=True)
            folder = require_private(self._folder, DISK)
            # Another process may have written it meanwhile: what it added stays.
            entries = _kept(self._read(), in_use()) | {key: (_today(), code) for key, code in new.items()}
            body = marshal.dumps(entries)
            # What a power cut takes is compiled again.
            name, head = self._place()
            DISK.write_file(os.path.join(folder, name), head + sha256(body).digest() + body, durable=False)

    def forget(self) -> None:
        """Free what was read: it is read again when it is needed."""
        self._found = None

    def _read(self) -> dict[str, Entry]:
        name, head = self._place()
        try:
            path = os.path.join(require_private(self._folder, DISK), name)
            found = DISK.lstat(path)
            if not is_trusted(found) or not stat.S_ISREG(found.st_mode):
                return {}
            content = memoryview(DISK.read(path))
        except OSError:
            return {}
        start = len(head) + _DIGEST
        if content[:start] != head + sha256(content[start:]).digest():
            return {}
        entries: dict[str, Entry] = marshal.loads(content[start:])  # noqa: S302 - trusted, and whole
        return entries

    def _place(self) -> tuple[str, bytes]:
        """Return the name of the file, and the line that it begins with."""
        head = f"{FORMAT} {self._made_with()} {MAGIC_NUMBER.hex()}\n".encode()
        return sha256(head + os.fsencode(self._templates)).hexdigest()[:40], head


def _kept(found: dict[str, Entry], in_use: Collection[str]) -> dict[str, Entry]:
    """Return the entries that stay: those that are in use, and as many that others may use, or that were replaced."""
    today = _today()
    others = sorted((day, key) for key, (day, _) in found.items() if key not in in_use and day >= today - UNUSED_DAYS)
    kept = {key: found[key] for _, key in others[-len(in_use) - 1 :]}
    return kept | {key: (today, code) for key, (_, code) in found.items() if key in in_use}


def _today() -> int:
    return int(time.time()) // _DAY
