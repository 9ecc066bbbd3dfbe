"""What is read and followed: what resources read, without what other prefixes bring or the store denies. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from confpy.events import abbreviate
from confpy.keys.mounts import shown
from confpy.keys.prefixes import ROOT, Lists, ancestors, minimal, text_parent
from confpy.mirror.denied import DeniedPrefixes

MANY = 64
"""So many prefixes directly below another may be watched as that one: a watch for each costs their store more."""


class Wants:
    """What resources read."""

    def __init__(self, denied: DeniedPrefixes, lists: Lists) -> None:
        self.prefixes: tuple[str, ...] = ()
        """What is read and followed."""
        self.version = 0
        """Counts up whenever that is chosen anew."""
        self.readers: dict[str, list[str]] = {}
        """Prefix → the resources that read it."""
        self._denied = denied
        self._lists = lists
        self._chosen: frozenset[str] = frozenset()
        """The same prefixes, to look one up."""
        self._parents: frozenset[str] = frozenset()
        """What all prefixes of a resource with several lie below, per resource, and what many lie directly below."""

    def replace(self, resources: Mapping[str, Sequence[str]]) -> None:
        """Take what each resource reads from now on."""
        self.readers = {}
        for name, prefixes in resources.items():
            for prefix in prefixes:
                self.readers.setdefault(prefix, []).append(name)
        several = {frozenset(prefixes) for prefixes in resources.values() if len(set(prefixes)) > 1}
        siblings = Counter(map(text_parent, self.readers))
        shared = {parent for parent, number in siblings.items() if number >= MANY}
        self._parents = frozenset({*map(_parent, several), *shared} - {ROOT})

    def choose(self) -> None:
        """Leave out what the store denies now."""
        self.prefixes = minimal((prefix for prefix in self.readers if prefix not in self._denied), self._lists)
        self._chosen = frozenset(self.prefixes)
        self.version += 1

    def __contains__(self, prefix: object) -> bool:
        """Say whether a prefix is one of those that are read and followed."""
        return prefix in self._chosen

    def within(self, prefixes: Sequence[str]) -> bool:
        """Say whether all that is read and followed is among these prefixes."""
        return len(prefixes) >= len(self._chosen) and self._chosen.issubset(prefixes)

    def parents(self) -> tuple[str, ...]:
        """Return the prefixes that might be watched in place of several, to be counted."""
        denied = {above for prefix in self._denied for above in ancestors(prefix)}
        return tuple(sorted(self._parents - self._chosen - denied - self._denied.parents))

    def describe(self, prefixes: Sequence[str]) -> dict[str, object]:
        """Return for a line which prefixes it is about, and who reads them."""
        names = dict.fromkeys(name for prefix in prefixes for name in self.readers.get(prefix, ()))
        return {"prefix": abbreviate([*map(shown, prefixes)]), "resource": abbreviate(list(names))}


def _parent(prefixes: frozenset[str]) -> str:
    """Return the longest path that all prefixes lie below."""
    common = []
    for segments in zip(*(prefix.split("/") for prefix in prefixes), strict=False):
        if len(set(segments)) > 1:
            break
        common.append(segments[0])
    return "/".join(common) or ROOT
