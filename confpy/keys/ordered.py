"""Keys in order, each with a value: what lies below a prefix is a range, found at the cost of a search. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from confpy.keys.prefixes import ROOT

Value = TypeVar("Value")

# A rebuild of the order costs about as much as this many single insertions (measured with 100,000 keys).
_REBUILD = 100


class OrderedKeys(Generic[Value]):
    """Keys and values, the keys also in the order of code points, which for UTF-8 is the order of bytes."""

    __slots__ = ("order", "values")

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self.order: list[str] = []

    def __len__(self) -> int:
        return len(self.order)

    def apply(self, put: Mapping[str, Value], deleted: Iterable[str] = ()) -> None:
        """Put some keys and remove others, at the cost of one sort where they are many."""
        values, order = self.values, self.order
        new = [key for key in put if key not in values]
        old = [key for key in deleted if values.pop(key, None) is not None]
        values.update(put)
        if len(new) + len(old) > _REBUILD:
            if old:
                order = self.order = [key for key in order if key in values]
            order += new
            order.sort()
            return
        for key in old:
            del order[bisect_left(order, key)]
        for key in new:
            insort(order, key)

    def clear(self) -> None:
        self.values.clear()
        self.order.clear()

    def below(self, prefix: str) -> tuple[int, int]:
        """Return where the keys strictly below the prefix, by path segment, begin and end in the order."""
        if prefix == ROOT:
            return int(ROOT in self.values), len(self.order)
        # "0" is the character after "/".
        first = bisect_left(self.order, prefix + ROOT)
        return first, bisect_left(self.order, prefix + "0", first)

    def covered(self, prefix: str) -> list[str]:
        """Return the keys that the prefix covers."""
        if prefix == ROOT:
            return self.order.copy()
        first, end = self.below(prefix)
        return [prefix, *self.order[first:end]] if prefix in self.values else self.order[first:end]

    def count(self, prefix: str) -> int:
        """Return how many keys the prefix covers."""
        if prefix == ROOT:
            return len(self.order)
        first, end = self.below(prefix)
        return end - first + (prefix in self.values)
