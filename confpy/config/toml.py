"""TOML files: read, parsed with errors for people, and how their keys may be spelled."""

from __future__ import annotations

import errno
import os
import re
import stat
from codecs import BOM_UTF8
from collections.abc import Iterable

from confpy.errors import UsageError
from confpy.system.reading import read_up_to

LARGEST_FILE = 1 << 20
"""Bytes of a TOML file; a larger one is not for confpy."""
EMPTY: tuple[object, ...] = ("", [], ())
"""Values that count as not given, so that ``-node "$NODE"`` works without a NODE."""


def read_text(path: str) -> str:
    """Return a small text file; raises ``UsageError``. A FIFO or a device, which may never end, is rejected."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if stat.S_ISDIR(status.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if not stat.S_ISREG(status.st_mode):
                raise UsageError("the file is not a regular file", file=path)
            content = read_up_to(descriptor, status.st_size, LARGEST_FILE)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UsageError(f"the path cannot be read: {error.strerror}", file=path) from None
    if len(content) > LARGEST_FILE:
        raise UsageError("the file is larger than 1 MiB", file=path)
    content = content.removeprefix(BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError("the file is not UTF-8, as TOML must be", file=path, line=line) from None


_UNCLOSED = r"""(Illegal|Found invalid) character '\\n'|Unterminated string|Expected "'+"$"""


_PLAIN = re.compile(r"[\t\n\x20-\x7e]*")
_STRING = r'"[^"\\]*"'
_LINE = re.compile(
    rf"""[ \t]*(?:
        (?P<key>[A-Za-z0-9_-]+)[ \t]*=[ \t]*(?:
            (?P<string>{_STRING}|'[^']*')
            |\[[ \t]*(?P<strings>(?:{_STRING}[ \t]*(?:,[ \t]*{_STRING}[ \t]*)*,?)?)[ \t]*\]
            |(?P<number>0|[1-9][0-9]{{0,17}})
            |(?P<truth>true|false)
        )
        |\[(?P<table>[A-Za-z0-9_-]+)\]
    )?[ \t]*(?:\#.*)?""",
    re.VERBOSE,
)
"""A line of the plain files that most resources are: one value of a simple type, or the name of a table."""


def parse_plain(content: str) -> dict[str, object] | None:
    """Return the tables of a TOML file that has plain lines alone; None of any other, right or wrong."""
    if not _PLAIN.fullmatch(content):
        return None
    tables: dict[str, object] = {}
    values = tables
    for line in content.split("\n"):
        found = _LINE.fullmatch(line)
        if found is None:
            return None
        kind = found.lastgroup
        if kind is None:
            continue
        if kind == "table":
            name = found["table"]
            if name in tables:
                return None
            tables[name] = values = {}
            continue
        name = found["key"]
        if name in values:
            return None
        written = found[kind]
        if kind == "string":
            values[name] = written[1:-1]
        elif kind == "strings":
            values[name] = written.split('"')[1::2]
        elif kind == "number":
            values[name] = int(written)
        else:
            values[name] = written == "true"
    return tables


def parse_toml(content: str, path: str) -> dict[str, object]:
    """Return the tables of a TOML file; raises ``UsageError`` with file and line."""
    tables = parse_plain(content)
    if tables is not None:
        return tables
    import tomllib  # many confdirs have plain files alone

    try:
        return tomllib.loads(content)
    except RecursionError:
        raise UsageError("the file is not valid TOML: nested too deeply", file=path) from None
    except ValueError as error:
        reason, _, place = str(error).partition(" (at ")
        line = re.match(r"line (\d+)", place)
        where: dict[str, str | int] = {"file": path, "line": int(line[1])} if line else {"file": path}
        hint = ""
        if re.match(_UNCLOSED, reason):
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
