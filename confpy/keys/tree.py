"""The keys of a store, in order: what a change touches, and what a template sees. Pure.

A *raw* key is what the store calls it; its *path* is what templates call it: one leading slash, no other that is not
needed. Several raw keys can have one path (``/a/x``, ``a/x``, ``/a//x``): the one spelled like the path is seen, else
the smallest. Order is that of code points, which for UTF-8 is the order of bytes.
"""

from __future__ import annotations

import builtins
from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from posixpath import normpath
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from confpy.errors import KeyMissing, TemplateError

if TYPE_CHECKING:
    import re

    from confpy.keys.glob import Glob

Value = TypeVar("Value")

ROOT = "/"

_WILD = frozenset("*?[")

# A rebuild of the order costs about as much as this many single insertions (measured with 100,000 keys).
_FEW = 100


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
    """Say whether the path begins with the text, be it within a segment; ``/a/`` stands for ``/a``, too."""
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


def minimal(prefixes: Iterable[str], shows: Callable[[str, str], bool] = covers) -> tuple[str, ...]:
    """Return the prefixes, sorted, without those that another one covers, and shows."""
    every = set(prefixes)
    return tuple(sorted(p for p in every if not any(a != p and a in every and shows(a, p) for a in ancestors(p))))


def select(prefixes: Iterable[str], keys: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """Return for each prefix those of the keys that it covers, at a cost of their depth, not of the prefixes."""
    chosen: dict[str, dict[str, Value]] = {prefix: {} for prefix in prefixes}
    for key, value in keys.items():
        for prefix in ancestors(key):
            if prefix in chosen:
                chosen[prefix][key] = value
    return chosen


class _Sorted:
    """Keys and values, the keys also in order."""

    __slots__ = ("order", "values")

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.order: list[str] = []

    def apply(self, put: Mapping[str, str], gone: Iterable[str]) -> None:
        new = [key for key in put if key not in self.values]
        old = [key for key in gone if self.values.pop(key, None) is not None]
        self.values.update(put)
        if len(new) + len(old) > _FEW:
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
        gone = [raw for raw in self._raw.covered(prefix) if raw not in keys]
        if besides:
            apart = frozenset(besides)
            put = {raw: value for raw, value in put.items() if apart.isdisjoint(ancestors(raw))}
            gone = [raw for raw in gone if apart.isdisjoint(ancestors(raw))]
        return self._apply(put, gone)

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

    def _apply(self, put: Mapping[str, str], gone: Iterable[str]) -> builtins.set[str]:
        self._raw.apply(put, gone)
        touched = set()
        for raw in (*put, *gone):
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


class Pair(NamedTuple):
    """What ``get`` and ``gets`` hand to a template."""

    key: str
    value: str


class _Window:
    """A tree as far as some covers show it; asked and answered in paths of the tree."""

    __slots__ = ("_shows", "_texts", "_toward", "_tree", "named", "tops")

    def __init__(
        self, tree: KeyTree, covers: Sequence[str], shows: Callable[[str, str], bool], texts: Collection[str]
    ) -> None:
        """``texts``: what the paths that it shows begin with; empty: anything."""
        self._tree = tree
        self._shows = shows
        self._texts = tuple(texts)
        self.tops = frozenset(covers)
        self.named = frozenset(texts) or self.tops
        """What the resource asks for, as it names it; ``tops`` are what is read for that."""
        # Paths above the covers → the next steps toward them.
        self._toward: dict[str, set[str]] = {}
        for cover in covers:
            above = list(ancestors(cover))
            for path, step in pairwise(above):
                self._toward.setdefault(path, set()).add(step.rpartition(ROOT)[2])

    def covers(self, path: str) -> bool:
        if self._texts and not self._begins(path):
            return False
        return any(self._shows(cover, path) for cover in self.tops.intersection(ancestors(path)))

    def _is_read(self, path: str) -> bool:
        """Say whether the tree holds all at or below a path, be it shown or not."""
        return any(self._shows(cover, path) for cover in self.tops.intersection(ancestors(path)))

    def _begins(self, path: str) -> bool:
        return any(begins(text, path) for text in self._texts)

    def _leads(self, path: str) -> bool:
        """Say whether there may be something to show at or below a path."""
        return self._begins(path) or any(text.startswith(path + ROOT) for text in self._texts)

    def get(self, path: str) -> str | None:
        value = self._tree.get(path)
        return value if value is not None and self.covers(path) else None

    def children(self, path: str) -> dict[str, bool]:
        steps = self._toward.get(path, set())
        if self._is_read(path):
            if self._shows is _covers and (not self._texts or self._begins(path)):
                return self._tree.children(path)
            steps = steps | self._tree.children(path).keys()
        names = {}
        for name in steps:
            child = _child(path, name)
            if self._texts and not self._leads(child):
                continue
            below = bool(self.children(child))
            if below or self.get(child) is not None:
                names[name] = below
        return names

    def paths(self, base: str) -> Iterator[str]:
        """Yield all paths at or below the base, and some that are not shown."""
        if self._is_read(base):
            for path, _ in self._tree.items(base):
                yield path
        else:
            for name in self._toward.get(base, ()):
                yield from self.paths(_child(base, name))

    def __len__(self) -> int:
        if self._shows is _covers and not self._texts:
            return sum(self._tree.count(cover) for cover in self.tops)
        return sum(self.covers(path) for cover in minimal(self.tops) for path, _ in self._tree.items(cover))


class View:
    """What the template of one resource sees of a tree: its covers, with ``strip`` cut from the front.

    The functions are confd's, to the byte where confd makes sense; ``docs/key-functions.md`` lists the differences.
    """

    __slots__ = ("_spells", "_windows", "judged")

    def __init__(
        self,
        tree: KeyTree,
        covers: Sequence[str],
        strip: str = ROOT,
        shows: Callable[[str, str], bool] = covers,
        spells: Callable[[str], str] = str,
        *,
        texts: Collection[str] = (),
    ) -> None:
        """``covers`` are prefixes as the store spells them; one that lies outside of ``strip`` is seen uncut.

        ``shows`` says whether a cover shows a path that it covers: a store may hide some from it. ``spells`` returns
        the store's spelling of a path. ``texts`` take the place of the covers: what the paths that are shown begin
        with.
        """
        self.judged: dict[str, set[str]] = {}
        """By function, questions about keys whose form was looked at already: each render asks the same ones."""
        self._spells = spells
        strip = normalise(strip)
        paths = set(texts) or {normalise(cover) for cover in covers}
        inside = {path for path in paths if _covers(strip, normalise(path))}
        # What stands before the slash of a template's key → what is looked at in the tree.
        groups = (("" if strip == ROOT else strip, inside), ("", paths - inside))
        if texts:
            self._windows = [
                (head, _Window(tree, minimal(map(text_parent, group), shows), shows, group))
                for head, group in groups
                if group
            ]
        else:
            self._windows = [(head, _Window(tree, minimal(group, shows), shows, ())) for head, group in groups if group]

    def __len__(self) -> int:
        """Return the number of keys."""
        return sum(len(window) for _, window in self._windows)

    def covers(self, path: str) -> bool:
        """Say whether it shows a path of the tree, be there a key or not."""
        return any(window.covers(path) for _, window in self._windows)

    def get(self, key: str) -> Pair:
        """Return the pair of a key; raises ``KeyMissing``."""
        return Pair(key, self.getv(key))

    def getv(self, key: str, *default: str) -> str:
        """Return the value of a key, else the first default; raises ``KeyMissing`` where there is none."""
        value = self._find(key)
        if value is not None:
            return value
        if default:
            return default[0]
        value = self._find_named(key)
        if value is not None:
            return value
        hint = self.advise(key) or (
            "put it into the store, or give a default"
            if self.asks_for(key)
            else "it is not below any of the resource's keys"
        )
        raise KeyMissing("key does not exist", key=key, hint=hint)

    def _find_named(self, key: str) -> str | None:
        """Return the value of a key that the resource names in this very spelling, which is not the store's."""
        for head, window in self._windows if key.startswith(ROOT) else ():
            spelled = self._spells(_path(head, key))
            if spelled in window.named:
                return window.get(spelled)
        return None

    def advise(self, key: str) -> str:
        """Say how a missing key is written instead, or how it is read; nothing where it may just be missing."""
        if not key.startswith(ROOT):
            return f"keys begin with a slash: write /{key}"
        if normalise(key) != key:
            return f"keys end in no slash and have no empty segment: write {normalise(key)}"
        if self.is_respelled(key):
            return f"the store spells it {self._spelled(key)}"
        if self._children(key) and (key == ROOT or self.asks_for(key)):
            below = _child(key, "*")
            return f'it has no value of its own, only keys below it: gets "{below}" reads them, ls "{key}" names them'
        return "a key is needed here: patterns are for gets and getvs" if _WILD.intersection(key) else ""

    def is_respelled(self, key: str) -> bool:
        """Say whether the store spells a key that is not there otherwise, and has that."""
        spelled = self._spelled(key)
        return spelled != key and self.exists(spelled)

    def _spelled(self, key: str) -> str:
        for head, _ in self._windows:
            spelled = self._spells(_path(head, key))
            if covers(head or ROOT, spelled):
                return spelled[len(head) :] or ROOT
        return key

    def asks_for(self, key: str) -> bool:
        """Say whether a key is one that the resource asks for."""
        return key.startswith(ROOT) and any(window.covers(_path(head, key)) for head, window in self._windows)

    def reaches(self, glob: Glob) -> bool:
        """Say whether a pattern, by its form, can match a key of the resource or one on the way to it."""
        return glob.segments is None or any(
            all(
                segment == name if isinstance(segment, str) else segment.fullmatch(name)
                for segment, name in zip(glob.segments, path[len(head) :].rstrip(ROOT).split(ROOT), strict=False)
            )
            for head, window in self._windows
            for path in window.tops
        )

    def leads_to(self, path: str) -> bool:
        """Say whether a path is one of the resource's, or on the way to one."""
        clean = normalise(path)
        return any(
            window.covers(_path(head, clean))
            or any(_covers(_path(head, clean), one) for one in window.named | window.tops)
            for head, window in self._windows
        )

    def exists(self, key: str) -> bool:
        """Say whether the key has a value of its own; keys below it do not count."""
        return self._find(key) is not None

    def gets(self, pattern: str) -> list[Pair]:
        """Return the pairs whose whole key matches the glob, by key; raises ``TemplateError`` for a malformed one."""
        if not self:
            return []
        from confpy.keys.glob import compile_glob

        try:
            glob = compile_glob(pattern)
        except ValueError as error:
            raise TemplateError(str(error)) from None
        return sorted(
            {
                pair.key: pair for head, window in reversed(self._windows) for pair in _search(window, head, glob)
            }.values()
        )

    def getvs(self, pattern: str) -> list[str]:
        """Return the values of ``gets``, by value, with repetitions."""
        return sorted(pair.value for pair in self.gets(pattern))

    def ls(self, path: str) -> list[str]:
        """Return the names one step below the path, and its own where it is a key itself."""
        names = set(self._children(path))
        if self.exists(path):
            names.add(path.rpartition(ROOT)[2] or ROOT)
        return sorted(names)

    def lsdir(self, path: str) -> list[str]:
        """Return the names one step below the path that have keys below themselves."""
        return sorted(name for name, below in self._children(path).items() if below)

    def _find(self, key: str) -> str | None:
        if key.startswith(ROOT):
            for head, window in self._windows:
                value = window.get(_path(head, key))
                if value is not None:
                    return value
        return None

    def _children(self, path: str) -> dict[str, bool]:
        names: dict[str, bool] = {}
        if path.startswith(ROOT):
            for head, window in self._windows:
                for name, below in window.children(_path(head, normalise(path))).items():
                    names[name] = below or names.get(name, False)
        return names


class PrefixIndex:
    """Which resources a path concerns, at a cost of the path's depth however many resources there are."""

    __slots__ = ("_names", "_prefixes")

    def __init__(self) -> None:
        self._names: dict[str, set[str]] = {}
        self._prefixes: dict[str, set[str]] = {}

    def add(self, prefix: str, name: str) -> None:
        """Note that the prefix, raw or a path, concerns the resource of this name."""
        path = normalise(prefix)
        self._names.setdefault(path, set()).add(name)
        self._prefixes.setdefault(name, set()).add(path)

    def remove(self, name: str) -> None:
        """Forget all prefixes of a resource."""
        for path in self._prefixes.pop(name, ()):
            names = self._names[path]
            names.discard(name)
            if not names:
                del self._names[path]

    def match(self, path: str) -> set[str]:
        """Return the names of the resources whose prefixes cover the path."""
        return set().union(*(self._names.get(prefix, ()) for prefix in ancestors(path)))


def _child(path: str, name: str) -> str:
    return path + name if path == ROOT else f"{path}/{name}"


def _path(head: str, key: str) -> str:
    return head + key if key != ROOT else head or ROOT


def _search(window: _Window, head: str, glob: Glob) -> Iterator[Pair]:
    """Yield what matches, in no order, looking only below the literal head of the glob."""
    start = _path(head, ROOT)

    def pair(path: str) -> Iterator[Pair]:
        value = window.get(path)
        if value is not None:
            yield Pair(path[len(head) :] or ROOT, value)

    def descend(path: str, segments: Sequence[str | re.Pattern[str]]) -> Iterator[Pair]:
        segment, rest = segments[0], segments[1:]
        if isinstance(segment, str):
            names = [segment] if segment else []
        else:
            names = [name for name in window.children(path) if segment.fullmatch(name)]
        for name in names:
            yield from descend(_child(path, name), rest) if rest else pair(_child(path, name))

    if glob.segments is None:
        base = normalise(glob.head.rpartition(ROOT)[0])
        for path in window.paths(_path(head, base)):
            if glob.whole.fullmatch(path[len(head) :] or ROOT):
                yield from pair(path)
        return
    if glob.whole.fullmatch(ROOT):
        yield from pair(start)
    first, *rest = glob.segments
    # Every key begins with a slash: before it stands nothing.
    if rest and (first == "" if isinstance(first, str) else first.fullmatch("")):
        yield from descend(start, rest)


_covers = covers
