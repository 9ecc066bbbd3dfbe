"""Which parts of a tree a resource with ``for_each`` makes a file of: the pattern, and what matches it now. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from confpy.frozen import frozen
from confpy.keys.prefixes import ROOT, covers, normalise
from confpy.keys.view import View

LONGEST_NAME = 255 - len("..confpy-01234567.old")
"""Bytes of a file's name: those that confpy puts beside it for the time of a delivery are longer."""
PLACE = re.compile(r"\{\{\s*name\s*\}\}")
"""Where the name of an item stands in ``dest``."""


@frozen
class Each:
    """A pattern with one segment that has wildcards: what that matches is the item's name."""

    text: str
    """As it was written."""
    head: str
    """What stands before that segment, as templates write keys."""
    segment: str
    """A glob."""
    tail: str = ""
    """What stands after it, with a slash in front; empty: nothing."""
    cut: str = ""
    """What stands before it in the tree: the prefix that templates do not see, without a slash at its end."""
    is_folder: bool = False
    """It ends with a slash: there have to be keys below it."""

    def base(self, name: str) -> str:
        """Return the key at and below which an item's own keys lie, as templates write it."""
        return f"{self.head.rstrip(ROOT)}/{name}"

    def path(self, name: str) -> str:
        """Return its path in the tree."""
        return self.cut + self.base(name)

    def name_in(self, path: str) -> str:
        """Return the name of the item whose own keys a path of the tree is one of; empty: of none."""
        above = self.path("")
        return path[len(above) :].partition(ROOT)[0] if path.startswith(above) else ""

    def matches(self, name: str) -> bool:
        """Say whether the segment matches a name."""
        from confpy.keys.glob import compile_glob  # most runs have no items

        glob = compile_glob(self.segment)
        segment = (glob.segments or (glob.whole,))[0]
        return segment == name if isinstance(segment, str) else segment.fullmatch(name) is not None

    def is_there(self, name: str, view: View) -> bool:
        """Say whether there is an item of a name that matches."""
        path = self.base(name) + self.tail
        return bool(view.children(path)) if self.is_folder else view.exists(path)

    def find(self, view: View) -> Iterator[str]:
        """Yield the names of all items, in no order."""
        for name, below in view.children(self.head).items():
            if (below or not (self.is_folder or self.tail)) and self.matches(name) and self.is_there(name, view):
                yield name


def parse_each(text: str) -> Each:
    """Return a pattern; raises ``ValueError``, whose message says what is wrong with it."""
    from confpy.keys.glob import compile_glob

    if not text.startswith(ROOT):
        raise ValueError(f"it begins with no slash: write /{text}")
    *segments, last = text[1:].split(ROOT)
    is_folder = last == "" and bool(segments)
    segments += [] if is_folder else [last]
    if "" in segments:
        raise ValueError("it has an empty segment")
    wild = [number for number, segment in enumerate(segments) if re.search(r"[*?\[\\]", segment)]
    if not wild:
        raise ValueError('no segment of it has a wildcard: write "/vhosts/*" for a file per key below /vhosts')
    if len(wild) > 1:
        raise ValueError("more than one segment of it has wildcards: what one of them matches is the name of the file")
    (at,) = wild
    if compile_glob(segments[at]).segments is None:
        raise ValueError("a class of characters in it may match a slash")
    head = ROOT + ROOT.join(segments[:at])
    tail = "".join(f"/{segment}" for segment in segments[at + 1 :])
    return Each(text, head, segments[at], tail, is_folder=is_folder)


def fill_name(dest: str, name: str) -> str:
    """Return the target of an item."""
    return PLACE.sub(lambda _: name, dest)


def name_from(dest: str, target: str) -> str:
    """Return the name of the item with a target; empty: there is none. ``dest``: as ``fill_name`` takes it."""
    parts = [re.escape(part) for part in PLACE.split(dest)]
    found = re.fullmatch("(.+)".join(parts[:2]) + "".join(rf"\1{part}" for part in parts[2:]), target, re.DOTALL)
    return found[1] if found and ROOT not in found[1] else ""


def flaw_of(name: str, dest: str) -> str:
    """Say why no file can have the name of an item; empty: it can. ``dest``: as ``fill_name`` takes it."""
    import unicodedata  # most runs have no items

    if not name or name in {".", ".."}:
        return "it names no file"
    if name.startswith("."):
        return "it begins with a dot: the file would be hidden"
    if any(unicodedata.category(one) in {"Cc", "Cs", "Zl", "Zp"} and not "\udc80" <= one <= "\udcff" for one in name):
        return "it has a control character"
    if ROOT in name:
        return "it has a slash"
    base = fill_name(dest, name).rpartition(ROOT)[2]
    try:
        length = len(base.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return "it is no text"
    return f"the name of the file would have {length} bytes, {LONGEST_NAME} at most" if length > LONGEST_NAME else ""


def folded(name: str) -> str:
    """Return what is the same for names that are one file where the file system ignores case."""
    import unicodedata

    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


class Touched(NamedTuple):
    """Which items a change may concern."""

    names: Collection[str]
    is_all: bool = False
    """All of them: ``names`` are those that are there or were."""


class Matches:
    """The items that are there: kept in step by what has changed, and found anew where that is not known."""

    def __init__(self, each: Each, shared: Iterable[str] = ()) -> None:
        """``shared``: paths of the tree that each item sees besides its own."""
        self.each = each
        self.names: set[str] = set()
        self._shared = tuple(map(normalise, shared))
        self._is_known = False

    def __len__(self) -> int:
        return len(self.names)

    def update(self, view: View, changed: Iterable[str] | None) -> Touched:
        """Take changes. ``changed``: paths of the tree, None where they are not known."""
        if changed is None or not self._is_known:
            found = set(self.each.find(view))
            touched = Touched(found | self.names, is_all=True)
            self.names, self._is_known = found, True
            return touched
        names: set[str] = set()
        is_all = False
        for path in changed:
            if name := self.each.name_in(path):
                names.add(name)
            is_all = is_all or any(covers(one, path) for one in self._shared)
        for name in names:
            if self.each.matches(name) and self.each.is_there(name, view):
                self.names.add(name)
            else:
                self.names.discard(name)
        return Touched(names | self.names if is_all else names, is_all=is_all)

    def forget(self) -> None:
        """Find all anew at the next update."""
        self._is_known = False
