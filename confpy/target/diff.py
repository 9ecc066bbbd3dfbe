"""The difference between two contents of a target, as ``diff -u`` writes it. Pure."""

from __future__ import annotations

LARGEST = 8 << 20
"""Bytes of both contents together that are compared line by line: the time grows by their square."""
_NO_END = "\\ No newline at end of file"


def unified(old: bytes | None, new: bytes | None, before: str, after: str) -> str:
    """Return a unified diff; empty if both are the same. None: there is no file.

    ``before`` and ``after`` name the files. Bytes that are no UTF-8 become surrogates.
    """
    if old == new:
        return ""
    head = f"--- {'/dev/null' if old is None else before}\n+++ {'/dev/null' if new is None else after}\n"
    contents = (old or b"", new or b"")
    if any(b"\0" in content for content in contents):
        return f"{head}Binary files differ\n"
    if sum(map(len, contents)) > LARGEST:
        return f"{head}The files differ, and are too large to be compared line by line\n"
    import difflib  # only for people

    lines = [*difflib.unified_diff(_lines(contents[0]), _lines(contents[1]), lineterm="")][2:]
    return head + "".join(f"{line}\n" for line in lines)


def _lines(content: bytes) -> list[str]:
    """Return the lines of a content; one without an end is told from the same line with it, as by ``diff``."""
    lines = content.decode("utf-8", "surrogateescape").split("\n")
    last = lines.pop()
    return [*lines, f"{last}\n{_NO_END}"] if last else lines
