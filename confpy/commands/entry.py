"""The key and the value that ``confpy register`` and ``confpy deregister`` are given."""

from __future__ import annotations

import sys
from typing import BinaryIO

from confpy.commands import Call
from confpy.errors import UsageError

LARGEST = 64 << 20
"""Bytes that are read of a file: no store takes more."""


def key_of(text: str) -> str:
    """Return a key with its leading slash; raises ``UsageError`` for what is no key."""
    key = text if text.startswith("/") else f"/{text}"
    if key == "/" or key.endswith("/") or "//" in key:
        raise UsageError(f"{text!r} is not a key", hint="it is a path such as /services/web/backends/a")
    if not key.isprintable() and any(char < " " or char == "\x7f" for char in key):
        raise UsageError("the key has a control character", hint="it is a path such as /services/web/backends/a")
    return key


def value_of(call: Call, *, needed: bool) -> bytes | None:
    """Return the value: the second argument, a file, or stdin; None if there is none. Raises ``UsageError``.

    A newline at the end of a file or of stdin is not a part of it.
    """
    given = call.arguments[1] if len(call.arguments) > 1 else None
    file = call.options.get("value-file")
    if given is not None and file is not None:
        raise UsageError("the value is given twice", hint="as an argument, or with -value-file")
    if file is None and given is not None and given != "-":
        return given.encode("utf-8", "surrogateescape")
    if file is None and given is None:
        if needed:
            raise UsageError(f"there is no value for {call.arguments[0]}", hint="give it after the key: KEY VALUE")
        return None
    if file in (None, "-"):
        from confpy.daemon.startup import hold_signals, release_signals

        release_signals()  # ^C ends the wait for it
        value = _read(sys.stdin.buffer, "stdin")
        hold_signals()
        return value
    try:
        with open(str(file), "rb") as source:
            return _read(source, str(file))
    except OSError as error:
        raise UsageError(f"the value cannot be read: {error.strerror}", file=str(file)) from error


def _read(source: BinaryIO, name: str) -> bytes:
    value = source.read(LARGEST + 1)
    if len(value) > LARGEST:
        raise UsageError(f"the value is larger than {LARGEST >> 20} MiB", file=name)
    return value.removesuffix(b"\n")
