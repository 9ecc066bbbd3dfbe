"""Paths and prefixes of keys: how they are cleaned, joined, compared and chosen. Pure.

A *raw* key is what the store calls it; its *path* is what templates call it: one leading slash, no other that is not
needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from posixpath import normpath
from typing import TypeAlias, TypeVar

Value = TypeVar("Value")

ROOT = "/"
NONE: frozenset[str] = frozenset()

Lists: TypeAlias = Callable[[str, str], bool]
"""Whether a listing of a prefix brings a key: a store may hide some of those that the prefix covers."""


def normalise(raw: str) -> str:
    """Return the path of a raw key: ``/foo//x/`` → ``/foo/x``, ``stolon/x`` → ``/stolon/x``, nothing → ``/``."""
    if raw.startswith(ROOT) and "//" not in raw and "/." not in raw and (not raw.endswith(ROOT) or raw == ROOT):
        return raw
    return normpath(ROOT + raw.lstrip(ROOT))


def join(prefix: str, key: str) -> str:
    """Return the key below the prefix, cleaned as ``normalise`` does; ``..`` can climb out of the prefix.

    Without a leading slash where neither has one, so that a store can tell ``stolon`` from ``/stolon``.
    """
    path = normalise(f"{prefix}/{key}")
    rooted = path == ROOT or prefix.startswith(ROOT) or key.startswith(ROOT)
    return path if rooted else path[1:]


def covers(prefix: str, key: str) -> bool:
    """Say whether the key is the prefix or lies below it, by path segment; ``/`` covers every key."""
    return prefix in (ROOT, key) or key.startswith(prefix + ROOT)


def text_parent(text: str) -> str:
    """Return what to read for all keys that begin with a text: the path that its last segment lies in."""
    return text.rpartition(ROOT)[0] or ROOT


def begins(text: str, path: str) -> bool:
    """Say whether the path begins with the text, even within a segment; ``/a/`` stands for ``/a`` as well."""
    return path.startswith(text) or f"{path}/" == text


def ancestors(key: str) -> Iterator[str]:
    """Yield the prefixes that cover the key, from ``/`` to the key itself."""
    yield ROOT
    slash = key.find(ROOT, 1)
    while slash > 0:
        yield key[:slash]
        slash = key.find(ROOT, slash + 1)
    if key != ROOT:
        yield key


def minimal(prefixes: Iterable[str], lists: Lists = covers) -> tuple[str, ...]:
    """Return the prefixes, sorted, without those that a listing of another one brings."""
    every = set(prefixes)
    return tuple(sorted(prefix for prefix in every if not _is_brought(prefix, every, lists)))


def _is_brought(prefix: str, others: Collection[str], lists: Lists) -> bool:
    """Say whether a listing of another one of the prefixes brings this one."""
    slash = prefix.rfind(ROOT)
    while slash > 0:
        above = prefix[:slash]
        if above in others and lists(above, prefix):
            return True
        slash = prefix.rfind(ROOT, 0, slash)
    return prefix != ROOT and ROOT in others and lists(ROOT, prefix)


def are_nested(prefixes: Collection[str]) -> bool:
    """Say whether one of the prefixes covers another."""
    return any(_is_brought(prefix, prefixes, covers) for prefix in prefixes)


def select(prefixes: Iterable[str], keys: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """Return for each prefix those of the keys that it covers, at a cost of their depth, not of the prefixes."""
    chosen: dict[str, dict[str, Value]] = {prefix: {} for prefix in prefixes}
    for key, value in keys.items():
        for prefix in ancestors(key):
            if prefix in chosen:
                chosen[prefix][key] = value
    return chosen


class PrefixIndex:
    """Which resources a path concerns, at a cost of the path's depth however many resources there are."""

    __slots__ = ("_names",)

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}

    def add(self, prefix: str, name: str) -> None:
        """Note that the prefix, raw or a path, concerns the resource of this name."""
        self._names.setdefault(normalise(prefix), set()).add(name)

    def match(self, path: str) -> AbstractSet[str]:
        """Return the names of the resources whose prefixes cover the path."""
        names = self._names
        found: AbstractSet[str] = names.get(ROOT, NONE)
        slash = path.find(ROOT, 1)
        while slash > 0:
            more = names.get(path[:slash])
            if more:
                found = found | more if found else more
            slash = path.find(ROOT, slash + 1)
        more = names.get(path)
        return found | more if found and more else more or found

    def matches(self, paths: Iterable[str]) -> Iterator[tuple[str, AbstractSet[str]]]:
        """Yield each path with its match: where there are many, most lie in one folder with others."""
        names = self._names
        folders: dict[str, AbstractSet[str]] = {}
        for path in paths:
            folder = path[: path.rfind(ROOT)] or ROOT
            above = folders.get(folder)
            if above is None:
                above = folders[folder] = self.match(folder)
            own = names.get(path)
            yield path, above | own if own and above else own or above
