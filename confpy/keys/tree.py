"""The keys of a store, in order: a change costs what it touches. Pure.

Several raw keys can have one path (``/a/x``, ``a/x``, ``/a//x``): the one spelled like the path is seen, else the
smallest. Order is that of code points, which for UTF-8 is the order of bytes.
"""

from __future__ import annotations

import builtins
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping

from confpy.frozen import NOTHING
from confpy.keys.ordered import OrderedKeys
from confpy.keys.prefixes import ROOT, ancestors, are_nested, normalise

FEW = 1000
"""Keys below a path that are looked at together: of more, most may lie deeper than what is asked for."""


class KeyTree:
    """All keys that were read from one store."""

    __slots__ = ("_odd", "_plain", "_spellings", "_stand_ins")

    def __init__(self) -> None:
        self._plain: OrderedKeys[str] = OrderedKeys()
        """Raw keys that are spelled like their path: mostly all."""
        self._odd: OrderedKeys[str] = OrderedKeys()
        """Raw keys that are spelled otherwise."""
        self._stand_ins: OrderedKeys[str] = OrderedKeys()
        """Paths that no key is spelled like, with what is seen there: the value of an odd one."""
        self._spellings: dict[str, set[str]] = {}
        """Path → the odd raw keys of it."""

    def __len__(self) -> int:
        """Return the number of paths."""
        return len(self._plain) + len(self._stand_ins)

    # --- changing it -------------------------------------------------------------------------------------------------

    def set(self, raw: str, value: str) -> bool:
        """Put a raw key; return whether what templates see changed."""
        return bool(self.apply({raw: value}, ()))

    def delete(self, raw: str) -> bool:
        """Remove a raw key, if it is there; return whether what templates see changed."""
        return bool(self.apply({}, (raw,)))

    def replace(self, prefix: str, keys: Mapping[str, str], besides: Collection[str] = ()) -> builtins.set[str]:
        """Make what the raw prefix covers equal to the raw keys; return the paths that changed.

        What lies at or below a prefix of ``besides`` stays as it is.
        """
        return self.apply(*self._difference(prefix, keys, besides))

    def replace_all(
        self, listings: Mapping[str, Mapping[str, str]], besides: Mapping[str, Collection[str]] = NOTHING
    ) -> builtins.set[str]:
        """Replace by raw prefix, as ``replace`` does one after another, with a single sort for all."""
        if are_nested(listings):
            nested = [self.replace(prefix, keys, besides.get(prefix, ())) for prefix, keys in listings.items()]
            return builtins.set().union(*nested)
        put: dict[str, str] = {}
        deleted: list[str] = []
        for prefix, keys in listings.items():
            new, old = self._difference(prefix, keys, besides.get(prefix, ()))
            put |= new
            deleted += old
        return self.apply(put, deleted)

    def _difference(
        self, prefix: str, keys: Mapping[str, str], besides: Collection[str]
    ) -> tuple[dict[str, str], list[str]]:
        """Return what to put and what to delete below a raw prefix to make it equal to the raw keys."""
        if not (self._plain or self._odd or besides):
            return dict(keys), []
        deleted: list[str] = []
        for kind in (self._plain, self._odd) if self._odd else (self._plain,):
            deleted += [raw for raw in kind.covered(prefix) if raw not in keys]
        plain, odd = self._plain.values, self._odd.values
        put = {raw: value for raw, value in keys.items() if plain.get(raw) != value and odd.get(raw) != value}
        if besides:
            apart = frozenset(besides)
            put = {raw: value for raw, value in put.items() if apart.isdisjoint(ancestors(raw))}
            deleted = [raw for raw in deleted if apart.isdisjoint(ancestors(raw))]
        return put, deleted

    def apply(self, put: Mapping[str, str], deleted: Collection[str]) -> builtins.set[str]:
        """Put raw keys and remove others, as far as they are there; return the paths whose value changed."""
        odd = {
            raw: path
            for keys in (put, deleted)
            if not _are_plain(keys)
            for raw in keys
            if (path := normalise(raw)) != raw
        }
        if odd or self._spellings:
            return self._apply_odd(put, deleted, odd)
        values = self._plain.values
        changed = {raw for raw, value in put.items() if values.get(raw) != value}
        changed.update(raw for raw in deleted if raw in values)
        self._plain.apply(put, deleted)
        return changed

    def _apply_odd(self, put: Mapping[str, str], deleted: Collection[str], odd: Mapping[str, str]) -> builtins.set[str]:
        """Do the same where raw keys are not spelled like their paths. ``odd``: those keys, each with its path."""
        touched = {odd.get(raw, raw) for keys in (put, deleted) for raw in keys}
        before = {path: self.get(path) for path in touched}
        self._plain.apply(
            {raw: value for raw, value in put.items() if raw not in odd}, [raw for raw in deleted if raw not in odd]
        )
        self._odd.apply(
            {raw: value for raw, value in put.items() if raw in odd}, [raw for raw in deleted if raw in odd]
        )
        for raw, path in odd.items():
            spellings = self._spellings.setdefault(path, builtins.set())
            (spellings.add if raw in self._odd.values else spellings.discard)(raw)
            if not spellings:
                del self._spellings[path]
        stand_ins = {
            path: self._odd.values[min(self._spellings[path])]
            for path in touched
            if path in self._spellings and path not in self._plain.values
        }
        self._stand_ins.apply(stand_ins, [path for path in touched if path not in stand_ins])
        return {path for path, value in before.items() if self.get(path) != value}

    # --- what is in it -----------------------------------------------------------------------------------------------

    def get(self, path: str) -> str | None:
        value = self._plain.values.get(path)
        return self._stand_ins.values.get(path) if value is None else value

    def items(self, prefix: str) -> list[tuple[str, str]]:
        """Return the paths at or below a path, with their values, in order."""
        found = _items(self._plain, prefix)
        return sorted(found + _items(self._stand_ins, prefix)) if self._stand_ins else found

    def count(self, prefix: str) -> int:
        """Return how many paths are at or below a path."""
        return self._plain.count(prefix) + (self._stand_ins.count(prefix) if self._stand_ins else 0)

    def raw_count(self, prefix: str) -> int:
        """Return how many raw keys the raw prefix covers."""
        return self._plain.count(prefix) + (self._odd.count(prefix) if self._odd else 0)

    def children(self, path: str) -> dict[str, bool]:
        """Return the names one step below a path, each with whether it has something below itself."""
        names = _children(self._plain, path)
        if self._stand_ins:
            for name, below in _children(self._stand_ins, path).items():
                names[name] = below or names.get(name, False)
        return names

    def leaves(self, path: str, matches: Callable[[str], object]) -> list[tuple[str, str]]:
        """Return the keys exactly one step below a path whose names match: path and value."""
        found = _leaves(self._plain, path, matches)
        return found + _leaves(self._stand_ins, path, matches) if self._stand_ins else found


def _are_plain(keys: Collection[str]) -> bool:
    """Say whether keys are spelled like their paths, all looked at together; of ``/`` it is not said."""
    text = "\n".join(("", *keys, ""))
    return (
        text.count("\n") == len(keys) + 1
        and text.count("\n/") == len(keys)
        and "//" not in text
        and "/." not in text
        and "/\n" not in text
    )


def _items(keys: OrderedKeys[str], prefix: str) -> list[tuple[str, str]]:
    values = keys.values
    return [(path, values[path]) for path in keys.covered(prefix)]


def _children(keys: OrderedKeys[str], path: str) -> dict[str, bool]:
    order = keys.order
    position, end = keys.below(path)
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


def _leaves(keys: OrderedKeys[str], path: str, matches: Callable[[str], object]) -> list[tuple[str, str]]:
    order, values = keys.order, keys.values
    position, end = keys.below(path)
    start = len(path) + (path != ROOT)
    if end - position <= FEW:
        paths = order[position:end]
        names = [key[start:] for key in paths]
        if ROOT not in "".join(names) and all(map(matches, names)):
            return list(zip(paths, map(values.__getitem__, paths), strict=True))
    found = []
    while position < end:
        key = order[position]
        slash = key.find(ROOT, start)
        if slash < 0:
            if matches(key[start:]):
                found.append((key, values[key]))
            position += 1
        else:
            position = bisect_left(order, key[:slash] + "0", position, end)
    return found
