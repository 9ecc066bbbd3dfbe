"""What the template of one resource sees of a tree. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from confpy.errors import KeyMissing, TemplateError
from confpy.keys.prefixes import NONE, ROOT, Lists, ancestors, begins, covers, minimal, normalise, text_parent
from confpy.keys.tree import KeyTree

if TYPE_CHECKING:
    import re

    from confpy.keys.glob import Glob

_WILD = frozenset("*?[")
_FEW = 16
"""So many prefixes are compared with a path one by one sooner than it is cut into its ancestors."""


class Pair(NamedTuple):
    """What ``get`` and ``gets`` hand to a template."""

    key: str
    value: str


_pair: Callable[[tuple[str, str]], Pair] = partial(tuple.__new__, Pair)
"""A pair without a call of Python's for each: they are made by the thousand."""


class Source(NamedTuple):
    """The keys of one store, as far as a resource reads them: as ``View`` takes them."""

    tree: KeyTree
    prefixes: Sequence[str]
    lists: Lists | None = None
    spells: Callable[[str], str] = str
    texts: Sequence[str] = ()
    mount: str = ""
    """Where the store is mounted; empty: it is the one at ``/``."""


class _Window:
    """A tree as far as some prefixes bring it; asked and answered in paths of the tree."""

    __slots__ = (
        "_is_whole",
        "_lists",
        "_starts",
        "_steps",
        "_texts",
        "_tree",
        "head",
        "mount",
        "named",
        "prefixes",
        "spells",
    )

    def __init__(self, head: str, source: Source, group: Collection[str]) -> None:
        """``head`` stands before the slash of a template's key. ``group``: those of the source's paths to show."""
        texts = group if source.texts else ()
        lists = source.lists
        read: Collection[str] = set(map(text_parent, group)) if texts else group
        prefixes = minimal(read, lists or covers) if len(read) > 1 else tuple(read)
        self.head = head
        self.mount = source.mount
        self.spells = source.spells
        self._tree = source.tree
        self._lists = lists or covers
        self._is_whole = lists is None
        """Of what a prefix covers nothing is hidden: it need not be looked at key by key."""
        self._texts = tuple(texts)
        self.prefixes = frozenset(prefixes)
        self._starts = tuple(ROOT if prefix == ROOT else prefix + ROOT for prefix in prefixes)
        """What all that lies below one of the prefixes begins with."""
        self.named = frozenset(texts) or self.prefixes
        """What the resource asks for, as it names it; ``prefixes`` are what is read for that."""
        self._steps: dict[str, set[str]] = {}
        """Paths above the prefixes → the next steps toward them; made when they are asked for."""

    def path(self, key: str) -> str:
        """Return the path of a template's key."""
        return self.head + key if key != ROOT else self.head or ROOT

    def shows(self, path: str) -> bool:
        """Say whether templates see a path, whether or not there is a key."""
        if self._texts and not self._begins(path):
            return False
        return self._is_read(path)

    def _steps_from(self, path: str) -> AbstractSet[str]:
        """Return the names of the next steps from a path toward the prefixes."""
        if not self._steps:
            for prefix in self.prefixes:
                for above, step in pairwise(ancestors(prefix)):
                    self._steps.setdefault(above, set()).add(step.rpartition(ROOT)[2])
        return self._steps.get(path, NONE)

    def get(self, path: str) -> str | None:
        value = self._tree.get(path)
        return value if value is not None and self.shows(path) else None

    def children(self, path: str) -> dict[str, bool]:
        """Return the names one step below a path, each with whether it has something below itself."""
        if self._shows_all(path):
            return self._tree.children(path)
        steps = self._steps_from(path)
        if self._is_read(path):
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

    def search(self, glob: Glob) -> list[Pair]:
        """Return what matches, in no order, looking only below the literal head of the glob."""
        found: list[Pair] = []
        if glob.segments is None:
            base = normalise(glob.head.rpartition(ROOT)[0])
            for path in self._paths(self.path(base)):
                if glob.whole.fullmatch(path[len(self.head) :] or ROOT):
                    self._add(path, found)
            return found
        start = self.path(ROOT)
        if glob.matches_root():
            self._add(start, found)
        first, *rest = glob.segments
        # Every key begins with a slash: before it stands nothing.
        if rest and (first == "" if isinstance(first, str) else first.fullmatch("")):
            self._descend(start, rest, found)
        return found

    def __len__(self) -> int:
        if self._is_whole and not self._texts:
            return sum(self._tree.count(prefix) for prefix in self.prefixes)
        return sum(self.shows(path) for prefix in minimal(self.prefixes) for path, _ in self._tree.items(prefix))

    def _is_read(self, path: str) -> bool:
        """Say whether the tree holds all at or below a path, shown or not."""
        if self._is_whole and len(self._starts) <= _FEW:
            return path in self.prefixes or path.startswith(self._starts)
        if self._is_whole:
            return not self.prefixes.isdisjoint(ancestors(path))
        return any(self._lists(prefix, path) for prefix in self.prefixes.intersection(ancestors(path)))

    def _shows_all(self, path: str) -> bool:
        """Say whether the tree holds all at or below a path, and all of that is shown."""
        return self._is_whole and self._is_read(path) and (not self._texts or self._begins(path))

    def _begins(self, path: str) -> bool:
        return any(begins(text, path) for text in self._texts)

    def _leads(self, path: str) -> bool:
        """Say whether there may be something to show at or below a path."""
        return self._begins(path) or any(text.startswith(path + ROOT) for text in self._texts)

    def _paths(self, base: str) -> Iterator[str]:
        """Yield all paths at or below the base, and some that are not shown."""
        if self._is_read(base):
            for path, _ in self._tree.items(base):
                yield path
        else:
            for name in self._steps_from(base):
                yield from self._paths(_child(base, name))

    def _descend(self, path: str, segments: Sequence[str | re.Pattern[str]], found: list[Pair]) -> None:
        segment, *rest = segments
        if isinstance(segment, str):
            names: Iterable[str] = (segment,) if segment else ()
        elif rest:
            # Those without anything below lead to nothing, and need not be left out.
            below = {name for name, more in self._tree.children(path).items() if more} if self._is_read(path) else NONE
            names = [name for name in below | self._steps_from(path) if segment.fullmatch(name)]
        elif not self._shows_all(path):
            names = [name for name in self.children(path) if segment.fullmatch(name)]
        else:
            cut, matches = len(self.head), segment.fullmatch
            leaves = self._tree.leaves(path, matches)
            found += map(_pair, [(key[cut:], value) for key, value in leaves] if cut else leaves)
            return
        for name in names:
            child = _child(path, name)
            if rest:
                self._descend(child, rest, found)
            else:
                self._add(child, found)

    def _add(self, path: str, found: list[Pair]) -> None:
        value = self.get(path)
        if value is not None:
            found.append(Pair(path[len(self.head) :] or ROOT, value))


class View:
    """What the template of one resource sees of a tree: its prefixes, with ``strip`` cut from the front.

    The functions are confd's, to the byte where confd makes sense; ``docs/key-functions.md`` lists the differences.
    """

    __slots__ = ("_windows", "checked")

    def __init__(
        self,
        tree: KeyTree,
        prefixes: Sequence[str],
        strip: str = ROOT,
        lists: Lists | None = None,
        spells: Callable[[str], str] = str,
        *,
        texts: Sequence[str] = (),
        base: str = "",
        mounted: Iterable[Source] = (),
    ) -> None:
        """``prefixes``: as the store spells them; one that lies outside of ``strip`` is seen uncut.

        ``lists``: None where a listing of a prefix brings all that it covers. ``spells`` returns the store's spelling
        of a path. ``texts`` take the place of the prefixes: what the paths that are shown begin with. ``base``: where
        the store is that takes the place of the one at ``/``, which no key of the template shows. ``mounted``: what
        is read from other stores; nothing is cut from their keys, and they win where a key could be of both.
        """
        self.checked: dict[str, set[str]] = {}
        """By function, keys whose form was checked already: each render asks for the same ones."""
        strip = normalise(strip)
        paths = set(texts) or set(map(normalise, prefixes))
        inside = paths if strip == ROOT else {path for path in paths if covers(strip, normalise(path))}
        self._windows = [
            _Window("", one, set(one.texts) or set(map(normalise, one.prefixes))) for one in mounted if one.prefixes
        ]
        source = Source(tree, prefixes, lists, spells, texts, base)
        for head, group in (("" if strip == ROOT else strip, inside), (base, paths - inside)):
            if group:
                self._windows.append(_Window(head, source, group))

    @classmethod
    def over(cls, sources: Sequence[Source], strip: str, base: str = "") -> View:
        """Return the view of keys of one store or of several. ``strip``, ``base``: as for the constructor."""
        main = next((one for one in sources if one.mount == base), None) or Source(KeyTree(), (), mount=base)
        mounted = [one for one in sources if one is not main]
        return cls(
            main.tree, main.prefixes, strip, main.lists, main.spells, texts=main.texts, base=base, mounted=mounted
        )

    def __len__(self) -> int:
        """Return the number of keys."""
        return sum(map(len, self._windows))

    def sizes(self) -> dict[str, int]:
        """Return the number of keys by where their store is mounted, of those that are read."""
        found: dict[str, int] = {}
        for window in self._windows:
            found[window.mount] = found.get(window.mount, 0) + len(window)
        return found

    def shows(self, path: str) -> bool:
        """Say whether the template sees a path of the tree, whether or not there is a key."""
        return any(window.shows(path) for window in self._windows)

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
        for window in self._windows if key.startswith(ROOT) else ():
            spelled = window.spells(window.path(key))
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
        if self.children(key) and (key == ROOT or self.asks_for(key)):
            below = _child(key, "*")
            return f'it has no value of its own, only keys below it: gets "{below}" reads them, ls "{key}" names them'
        return "a key is needed here: patterns are for gets and getvs" if _WILD.intersection(key) else ""

    def is_respelled(self, key: str) -> bool:
        """Say whether the store spells a key that is not there otherwise, and has that."""
        spelled = self._spelled(key)
        return spelled != key and self.exists(spelled)

    def _spelled(self, key: str) -> str:
        for window in self._windows:
            path = window.path(key)
            spelled = window.spells(path)
            if covers(window.mount or ROOT, path) and covers(window.head or ROOT, spelled):
                return spelled[len(window.head) :] or ROOT
        return key

    def asks_for(self, key: str) -> bool:
        """Say whether a key is one that the resource asks for."""
        return key.startswith(ROOT) and any(window.shows(window.path(key)) for window in self._windows)

    def reaches(self, glob: Glob) -> bool:
        """Say whether a pattern, by its form, can match a key of the resource or one on the way to it."""
        return glob.segments is None or any(
            all(
                segment == name if isinstance(segment, str) else segment.fullmatch(name)
                for segment, name in zip(glob.segments, path[len(window.head) :].rstrip(ROOT).split(ROOT), strict=False)
            )
            for window in self._windows
            for path in window.prefixes
        )

    def leads_to(self, path: str) -> bool:
        """Say whether a path is one of the resource's, or on the way to one."""
        clean = normalise(path)
        return any(
            window.shows(window.path(clean))
            or any(covers(window.path(clean), one) for one in window.named | window.prefixes)
            for window in self._windows
        )

    def exists(self, key: str) -> bool:
        """Say whether the key has a value of its own; keys below it do not count."""
        return self._find(key) is not None

    def gets(self, pattern: str) -> list[Pair]:
        """Return the pairs whose whole key matches the glob, by key; raises ``TemplateError`` for a malformed one."""
        return sorted(self._search(pattern))

    def getvs(self, pattern: str) -> list[str]:
        """Return the values of ``gets``, by value, with repetitions."""
        return sorted([value for _, value in self._search(pattern)])

    def _search(self, pattern: str) -> Collection[Pair]:
        """Return what ``gets`` does, in no order."""
        from confpy.keys.glob import compile_glob

        try:
            glob = compile_glob(pattern)
        except ValueError as error:
            if len(self) == 0:
                return ()
            raise TemplateError(str(error)) from None
        if len(self._windows) == 1:
            return self._windows[0].search(glob)
        return {pair.key: pair for window in reversed(self._windows) for pair in window.search(glob)}.values()

    def ls(self, path: str) -> list[str]:
        """Return the names one step below the path, and its own where it is a key itself."""
        names = set(self.children(path))
        if self.exists(path):
            names.add(path.rpartition(ROOT)[2] or ROOT)
        return sorted(names)

    def lsdir(self, path: str) -> list[str]:
        """Return the names one step below the path that have keys below themselves."""
        return sorted(name for name, below in self.children(path).items() if below)

    def _find(self, key: str) -> str | None:
        if key.startswith(ROOT):
            for window in self._windows:
                value = window.get(window.path(key))
                if value is not None:
                    return value
        return None

    def children(self, path: str) -> dict[str, bool]:
        """Return the names one step below the path, each with whether it has something below itself."""
        names: dict[str, bool] = {}
        if path.startswith(ROOT):
            for window in self._windows:
                for name, below in window.children(window.path(normalise(path))).items():
                    names[name] = below or names.get(name, False)
        return names


def _child(path: str, name: str) -> str:
    return path + name if path == ROOT else f"{path}/{name}"
