"""TOML files: read, parsed with errors for people, and how their keys may be spelled."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable

from confpy.errors import UsageError

LARGEST_FILE = 1 << 20
"""Bytes of a TOML file; a larger one is not for confpy."""
EMPTY: tuple[object, ...] = ("", [], ())
"""Values that count as not given, so that ``-node "$NODE"`` works without a NODE."""


def read_text(path: str) -> str:
    """Return a small text file; raises ``UsageError``. A FIFO or a device, which may never end, is rejected."""
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UsageError("the file is not a regular file", file=path)
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise UsageError(f"the path cannot be read: {error.strerror}", file=path) from None
    if len(content) > LARGEST_FILE:
        raise UsageError("the file is larger than 1 MiB", file=path)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError("the file is not UTF-8, as TOML must be", file=path, line=line) from None


_UNCLOSED = re.compile(r"""(Illegal|Found invalid) character '\\n'|Unterminated string|Expected "'+"$""")


def parse_toml(content: str, path: str) -> dict[str, object]:
    """Return the tables of a TOML file; raises ``UsageError`` with file and line."""
    import tomllib

    try:
        return tomllib.loads(content)
    except RecursionError:
        raise UsageError("the file is not valid TOML: nested too deeply", file=path) from None
    except ValueError as error:
        reason, _, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        where: dict[str, str | int] = {"file": path, "line": int(line[1])} if line else {"file": path}
        hint = ""
        if _UNCLOSED.match(reason):
            reason = "a string is not closed"
            hint = "a string ends on the line where it begins, with the same quote; for several lines, use three quotes"
        reason = reason[:1].lower() + reason[1:]
        raise UsageError(f"the file is not valid TOML: {reason}", hint=hint, **where) from None


def plain(key: str) -> str:
    """Return a key in lower case without ``-`` and ``_``, which do not matter."""
    return key.replace("-", "").replace("_", "").lower()


def suggest(word: str, known: Iterable[str]) -> str:
    """Return the known word that was probably meant; empty: none."""
    import difflib

    spelled = {plain(name): name for name in known}
    return "".join(spelled[match] for match in difflib.get_close_matches(plain(word), spelled, n=1, cutoff=0.7))


def mend(word: str, known: Iterable[str]) -> str:
    """Return the hint for an unknown word; empty: nothing is similar."""
    meant = suggest(word, known)
    return f"did you mean {meant}?" if meant else ""
