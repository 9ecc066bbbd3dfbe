"""The keys of a store, in order: a change costs what it touches. Pure.

Several raw keys can have one path (``/a/x``, ``a/x``, ``/a//x``): the one spelled like the path is seen, else the
smallest. Order is that of code points, which for UTF-8 is the order of bytes.
"""

from __future__ import annotations

import builtins
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Mapping

from confpy.keys.prefixes import ROOT, ancestors, normalise

# A rebuild of the order costs about as much as this many single insertions (measured with 100,000 keys).
_REBUILD = 100


class _Sorted:
    """Keys and values, the keys also in order."""

    __slots__ = ("order", "values")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.order: list[str] = []

    def apply(self, put: Mapping[str, str], deleted: Iterable[str]) -> None:
        new = [key for key in put if key not in self.values]
        old = [key for key in deleted if self.values.pop(key, None) is not None]
        self.values.update(put)
        if len(new) + len(old) > _REBUILD:
            self.order = [key for key in self.order if key in self.values] if old else self.order
            self.order += new
            self.order.sort()
            return
        for key in old:
            del self.order[bisect_left(self.order, key)]
        for key in new:
            insort(self.order, key)

    def below(self, prefix: str) -> tuple[int, int]:
        """Return where the keys strictly below the prefix begin and end in the order."""
        if prefix == ROOT:
            return int(ROOT in self.values), len(self.order)
        # "0" is the character after "/".
        first = bisect_left(self.order, prefix + ROOT)
        return first, bisect_left(self.order, prefix + "0", first)

    def covered(self, prefix: str) -> list[str]:
        if prefix == ROOT:
            return self.order.copy()
        first, end = self.below(prefix)
        return [prefix, *self.order[first:end]] if prefix in self.values else self.order[first:end]

    def count(self, prefix: str) -> int:
        if prefix == ROOT:
            return len(self.order)
        first, end = self.below(prefix)
        return end - first + (prefix in self.values)


class KeyTree:
    """All keys that were read from one store."""

    __slots__ = ("_others", "_raw", "_seen")

    def __init__(self) -> None:
        self._raw = _Sorted()
        self._seen = _Sorted()
        # Path → raw keys that are spelled otherwise; most paths have none.
        self._others: dict[str, set[str]] = {}

    def __len__(self) -> int:
        """Return the number of paths."""
        return len(self._seen.order)

    def set(self, raw: str, value: str) -> bool:
        """Put a raw key; return whether what templates see changed."""
        return bool(self._apply({raw: value}, ()))

    def delete(self, raw: str) -> bool:
        """Remove a raw key, if it is there; return whether what templates see changed."""
        return bool(self._apply({}, (raw,)))

    def replace(self, prefix: str, keys: Mapping[str, str], besides: Collection[str] = ()) -> builtins.set[str]:
        """Make what the raw prefix covers equal to the raw keys; return the paths that changed.

        What lies at or below a prefix of ``besides`` stays as it is.
        """
        before = self._raw.values
        put = {raw: value for raw, value in keys.items() if before.get(raw) != value}
        deleted = [raw for raw in self._raw.covered(prefix) if raw not in keys]
        if besides:
            apart = frozenset(besides)
            put = {raw: value for raw, value in put.items() if apart.isdisjoint(ancestors(raw))}
            deleted = [raw for raw in deleted if apart.isdisjoint(ancestors(raw))]
        return self._apply(put, deleted)

    def get(self, path: str) -> str | None:
        return self._seen.values.get(path)

    def items(self, prefix: str) -> list[tuple[str, str]]:
        """Return the paths at or below a path, with their values, in order."""
        values = self._seen.values
        return [(path, values[path]) for path in self._seen.covered(prefix)]

    def count(self, prefix: str) -> int:
        """Return how many paths are at or below a path."""
        return self._seen.count(prefix)

    def raw_count(self, prefix: str) -> int:
        """Return how many raw keys the raw prefix covers."""
        return self._raw.count(prefix)

    def children(self, path: str) -> dict[str, bool]:
        """Return the names one step below a path, each with whether it has something below itself."""
        order = self._seen.order
        position, end = self._seen.below(path)
        start = len(path) + (path != ROOT)
        names: dict[str, bool] = {}
        while position < end:
            name, slash, _ = order[position][start:].partition(ROOT)
            if slash:
                names[name] = True
                # From child to child, over whatever lies below.
                position = bisect_left(order, f"{order[position][:start]}{name}0", position, end)
            else:
                names[name] = False
                position += 1
        return names

    def _apply(self, put: Mapping[str, str], deleted: Iterable[str]) -> builtins.set[str]:
        self._raw.apply(put, deleted)
        touched = set()
        for raw in (*put, *deleted):
            path = normalise(raw)
            touched.add(path)
            if raw == path:
                continue
            others = self._others.setdefault(path, set())
            (others.add if raw in self._raw.values else others.discard)(raw)
            if not others:
                del self._others[path]
        now = {path: self._value(path) for path in touched}
        before = self._seen.values
        changed = {path: value for path, value in now.items() if before.get(path) != value}
        self._seen.apply(
            {path: value for path, value in changed.items() if value is not None},
            [path for path, value in changed.items() if value is None],
        )
        return set(changed)

    def _value(self, path: str) -> str | None:
        values = self._raw.values
        if path in values or path not in self._others:
            return values.get(path)
        return values[min(self._others[path])]
