"""Why a target is as it is: the keys and the place of the template that each of its lines comes from.

The template is rendered again with tracing, with the keys that the store has now. Where the file on disk differs, its
lines are found again by comparison.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator
from hashlib import sha256

from confpy.config.resource import Resource
from confpy.errors import ConfpyError, UsageError
from confpy.frozen import frozen
from confpy.keys.mounts import shown
from confpy.keys.tree import KeyTree
from confpy.preview.confdir import Confdir
from confpy.system.reading import read_up_to
from confpy.templates.lines import Absent, Line
from confpy.templates.marking import LineRenderer
from confpy.templates.results import LeftOut

LARGEST = 64 << 20
"""Bytes of a target that is compared."""


@frozen
class Explained:
    """One resource, rendered with tracing."""

    resource: Resource
    revision: int
    """Of the store; 0 where it counts none."""
    lines: tuple[Line, ...]
    """With keys as the store has them."""
    on_disk: tuple[str, ...] | None
    """The lines of the target; None: there is none that can be read."""
    reason: str
    """Why there is none."""
    digest: str
    """SHA-256 of the target, in hexadecimal digits; empty if there is none."""
    left_out: tuple[LeftOut, ...] = ()
    """The values that a validating filter rejects now."""

    @property
    def is_current(self) -> bool:
        """Whether the target is what rendering gives now."""
        return self.on_disk == tuple(line.text for line in self.lines)

    def changed_lines(self) -> tuple[int, ...]:
        """Return the lines of the target, from 1, that rendering does not give now."""
        same = set(self._places().values())
        return tuple(number for number in range(1, len(self.on_disk or ()) + 1) if number not in same)

    def at(self, number: int) -> Line | None:
        """Return what the line of a target comes from, None where rendering does not give it now."""
        if self.on_disk is None or self.is_current:
            return self.lines[number - 1] if number <= len(self.lines) else None
        return next((self.lines[new] for new, old in self._places().items() if old == number), None)

    def _places(self) -> dict[int, int]:
        """Return where each rendered line, from 0, is found in the target, from 1."""
        new = [line.text for line in self.lines]
        matcher = difflib.SequenceMatcher(None, new, list(self.on_disk or ()), autojunk=False)
        return {one.a + i: one.b + i + 1 for one in matcher.get_matching_blocks() for i in range(one.size)}


def explain(confdir: Confdir, resource: Resource) -> Explained:
    """Render a resource with tracing, and look at its target; raises ``ConfpyError``."""
    keys = confdir.read(resource)
    # The first render is there for its errors.
    rendered = confdir.render(resource, keys.view)
    content = rendered.content.decode("utf-8", "surrogateescape")
    traced = confdir.resolved(LineRenderer(sandbox=confdir.settings.sandbox), resource, keys.view)
    lines = tuple(_as_stored(line, resource, keys.tree) for line in traced)
    if content.split("\n") != [*(line.text for line in lines), *([""] if content.endswith("\n") or not lines else [])]:
        raise ConfpyError("tracing gives another result than rendering", resource=resource.name)
    left_out = tuple(LeftOut(_stored(one.key, resource, keys.tree), one.reason) for one in rendered.left_out)
    found, reason = _read(resource.dest)
    if found is None:
        return Explained(resource, keys.revision, lines, None, reason, "", left_out)
    on_disk = found.decode("utf-8", "surrogateescape").split("\n")
    on_disk = on_disk if on_disk[-1] else on_disk[:-1]
    digest = sha256(found).hexdigest()
    return Explained(resource, keys.revision, lines, tuple(on_disk), "", digest, left_out)


def touched_by(key: str, explained: Explained) -> Iterator[tuple[int, Line]]:
    """Yield the rendered lines, with their numbers from 1, that a key or one below it is in or has decided on.

    Empty lines are left out.
    """
    below = key.rstrip("/") + "/"
    for number, line in enumerate(explained.lines, 1):
        names = (*line.keys, *line.because)
        is_in = any(one == key or one.startswith(below) or (one.endswith("/") and key.startswith(one)) for one in names)
        if line.text.strip() and is_in:
            yield number, line


def left_out_below(key: str, explained: Explained) -> Iterator[LeftOut]:
    """Yield the values at a key, or below it, that a filter of the template has rejected."""
    below = key.rstrip("/") + "/"
    yield from (one for one in explained.left_out if one.key == key or one.key.startswith(below))


def parse_place(text: str) -> tuple[str, int]:
    """Take ``TARGET:LINE`` apart; a line of 0 means that none is named. Raises ``UsageError`` for line 0."""
    name, colon, number = text.rpartition(":")
    if not (colon and name and number.isascii() and number.isdigit()):
        return text, 0
    if int(number) == 0:
        raise UsageError("lines are counted from 1")
    return name, int(number)


def _as_stored(line: Line, resource: Resource, tree: KeyTree) -> Line:
    """Return the line with keys as the store has them."""
    keys, because = (tuple(_stored(key, resource, tree) for key in some) for some in (line.keys, line.because))
    return Line(line.text, keys, because, line.template, line.line, line.column)


def _stored(key: str, resource: Resource, tree: KeyTree) -> str:
    """Return a key as the store has it: the template sees it without the prefix."""
    full = (resource.strip if resource.strip != "/" else "") + key
    if isinstance(key, Absent):
        return Absent(shown(full))
    if tree.get(full) is not None:
        return shown(full)
    # What the resource sees uncut; or a name that stands for the keys below it.
    if tree.get(key) is not None:
        return key
    return f"{shown(full)}/" if tree.count(full) else f"{key}/" if tree.count(key) else shown(full)


def _read(path: str) -> tuple[bytes | None, str]:
    """Return the content of a target, or why there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return None, "it is no regular file"
            content = read_up_to(descriptor, status.st_size, LARGEST)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None, "it does not exist"
    except OSError as error:
        return None, f"it cannot be read: {error.strerror}"
    if len(content) > LARGEST:
        return None, f"it is larger than {LARGEST >> 20} MiB"
    return content, ""
