"""Compiled templates on disk. They are code, so one is used only if nobody but root or us can have put it there.

One file a template, named by its place; in it a line that says what it was made of, then a digest, then the code. What
does not fit is made anew and takes its place. Nothing that goes wrong here is an error: it costs a compilation.
"""

from __future__ import annotations

import marshal
import os
import stat
from hashlib import sha256
from importlib.util import MAGIC_NUMBER
from secrets import token_hex

from confpy.model import Lookup
from confpy.templates.facts import Made

FORMAT = "confpy-code 2"
_DIGEST = 32


class CodeCache:
    """A folder of compiled templates. For any number of threads and processes."""

    def __init__(self, folder: str, made_with: str) -> None:
        """``made_with`` names everything but the source that the code depends on: engine, options, versions."""
        self._folder = folder
        self._made_with = f"{FORMAT} {made_with} {MAGIC_NUMBER.hex()}"

    def load(self, lookup: Lookup, file: str, digest: str) -> Made | None:
        """Return what was made of a template, or None where it is not there for this very source."""
        try:
            folder = _open_trusted(self._folder)
            try:
                # Without O_NONBLOCK a pipe in this place would block.
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(_entry(lookup, file), flags, dir_fd=folder)
            finally:
                os.close(folder)
            if not _ours_alone(os.fstat(descriptor), stat.S_IFREG):
                os.close(descriptor)
                return None
            with open(descriptor, "rb") as opened:
                content = opened.read()
        except OSError:
            return None
        head = self._head(digest)
        body = content[len(head) + _DIGEST :]
        if content[: len(head) + _DIGEST] != head + sha256(body).digest():
            return None
        engine, code, needs, doubts = marshal.loads(body)  # noqa: S302 - trusted, and whole
        return Made(engine, code, frozenset(Lookup(*need) for need in needs), doubts)

    def save(self, lookup: Lookup, file: str, digest: str, made: Made) -> None:
        """Put a template's code in its place, whole or not at all."""
        needs = sorted((need.kind, need.name, need.engine) for need in made.needs)
        body = marshal.dumps((made.engine, made.code, needs, made.doubts))
        entry = _entry(lookup, file)
        stage = f".{entry}.{token_hex(4)}"
        try:
            os.makedirs(self._folder, 0o700, exist_ok=True)
            folder = _open_trusted(self._folder)
        except OSError:
            return
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            with open(os.open(stage, flags, 0o600, dir_fd=folder), "wb") as opened:
                opened.write(self._head(digest) + sha256(body).digest() + body)
            os.rename(stage, entry, src_dir_fd=folder, dst_dir_fd=folder)
        except OSError:
            _remove(stage, folder)
        finally:
            os.close(folder)

    def _head(self, digest: str) -> bytes:
        return f"{self._made_with} {digest}\n".encode()


def _entry(lookup: Lookup, file: str) -> str:
    # The name is part of the code, the file of its error lines.
    return sha256(f"{lookup.name}\0{lookup.engine}\0{file}".encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _remove(name: str, folder: int) -> None:
    try:
        os.unlink(name, dir_fd=folder)
    except OSError:
        return


def _open_trusted(path: str) -> int:
    """Open a folder that, like all those above it, only root or we can change; raises ``OSError`` for another.

    Each step is opened from the one before and asked itself, so that nothing can be exchanged after it was looked at.
    """
    steps = [step for step in os.path.realpath(path).split("/") if step]
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open("/", flags)
    try:
        for position, step in enumerate(["", *steps]):
            if step:
                below = os.open(step, flags, dir_fd=folder)
                os.close(folder)
                folder = below
            last = position == len(steps)
            # In a sticky folder such as /tmp others can add, but not touch what is ours: enough for a parent.
            if not _ours_alone(os.fstat(folder), stat.S_IFDIR, sticky=not last):
                raise PermissionError(path)
    except OSError:
        os.close(folder)
        raise
    return folder


def _ours_alone(status: os.stat_result, kind: int, *, sticky: bool = False) -> bool:
    if stat.S_IFMT(status.st_mode) != kind or status.st_uid not in (0, os.geteuid()):
        return False
    writable = status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return not writable or (sticky and bool(status.st_mode & stat.S_ISVTX))
