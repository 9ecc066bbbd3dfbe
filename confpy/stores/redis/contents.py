"""What is in a Redis, as keys: how its keys are named here, and which strings and fields of hashes they are. Pure.

A *name* is a key of Redis. A string is the key that its name stands for, a field of a hash one below that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from os.path import commonprefix
from typing import TypeAlias

from confpy.keys.prefixes import ROOT, ancestors, covers

Found: TypeAlias = "str | Mapping[str, str] | None"
"""What a name holds: a string, fields, or nothing that is a key here."""

NOTIFICATIONS = frozenset("g$hxe")
"""The classes of keyspace notifications that tell of every change of a string or a hash; A stands for all."""

PATTERNS = 8
"""The most globs that are subscribed to: Redis compares each name that changes with all of them."""


class Names:
    """The names of keys in a Redis whose parts are separated in one way."""

    def __init__(self, separator: str) -> None:
        self.separator = separator

    def key(self, name: str) -> str | None:
        """Return the raw key that a name stands for; None where it can stand for none."""
        if self.separator == ROOT:
            return None if name in ("", ROOT) else name
        # A slash in a name would make one key of two names.
        return None if not name or ROOT in name else ROOT + name.replace(self.separator, ROOT)

    def name(self, key: str) -> str:
        """Return the name of a raw key."""
        return key if self.separator == ROOT else key.removeprefix(ROOT).replace(ROOT, self.separator)

    def field(self, key: str, field: str) -> str | None:
        """Return the raw key of a field of the hash that stands at ``key``; None where it can be none."""
        below = field if self.separator == ROOT else field.replace(self.separator, ROOT)
        return f"{key}/{below}" if below.strip(ROOT) else None

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return what to read for a path: with ``/`` between parts, a name may begin with one or not."""
        if path in ("", ROOT):
            return (ROOT,)
        if path.startswith(ROOT):
            return (path,)
        return (ROOT + path, path) if self.separator == ROOT else (ROOT + path,)

    def pattern(self, prefixes: Iterable[str]) -> str:
        """Return a glob that the names of all keys at or below the prefixes match, and others may."""
        return _begins([self._text(prefix) for prefix in prefixes])

    def patterns(self, prefixes: Collection[str]) -> list[str]:
        """Return a small number of such globs, which together match less."""
        if len(prefixes) > PATTERNS:
            return [self.pattern(prefixes)]
        return sorted({_begins([self._text(prefix)]) for prefix in prefixes})

    def _text(self, prefix: str) -> str:
        return "" if prefix == ROOT else self.name(prefix)


def _begins(texts: list[str]) -> str:
    """Return the glob of what begins as all of the texts do."""
    common = commonprefix(texts)  # noqa: RUF071 - character by character is what a glob does
    return "".join(f"\\{one}" if one in "*?[]^-\\" else one for one in common) + "*"


class Wanted:
    """Which names matter to somebody who reads some prefixes."""

    def __init__(self, prefixes: Iterable[str]) -> None:
        self.prefixes = frozenset(prefixes)
        self.above = frozenset(
            above for prefix in self.prefixes for above in ancestors(prefix) if above not in (ROOT, prefix)
        )
        """Keys above the prefixes: hashes there may have fields below them."""

    def covers(self, key: str) -> bool:
        """Whether a key lies at or below a prefix."""
        return any(above in self.prefixes for above in ancestors(key))

    def __contains__(self, key: str) -> bool:
        return key in self.above or self.covers(key)

    def of(self, key: str) -> Iterator[str]:
        """Yield the prefixes that cover a key."""
        return (prefix for prefix in self.prefixes if covers(prefix, key))


class Contents:
    """Strings and hashes as keys. A string has precedence over a field that stands for the same key."""

    def __init__(self) -> None:
        self._strings: dict[str, str] = {}
        self._hashes: dict[str, Mapping[str, str]] = {}

    def __iter__(self) -> Iterator[str]:
        yield from self._strings
        yield from (key for key in self._hashes if key not in self._strings)

    def take(self, key: str, found: Found) -> dict[str, str | None]:
        """Note what the name of a key holds now; return the keys that it concerns with their values."""
        concerned = {key, *self._hashes.pop(key, ())}
        self._strings.pop(key, None)
        if isinstance(found, str):
            self._strings[key] = found
        elif found is not None:
            self._hashes[key] = found
            concerned |= found.keys()
        return {one: self._value(one) for one in concerned}

    def _value(self, key: str) -> str | None:
        if (found := self._strings.get(key)) is not None:
            return found
        for above in ancestors(key) if self._hashes else ():
            if (found := self._hashes.get(above, {}).get(key)) is not None:
                return found
        return None

    def clear(self) -> None:
        self._strings.clear()
        self._hashes.clear()


def notifies(flags: str) -> bool:
    """Say whether a server with these ``notify-keyspace-events`` tells of every change of a string or a hash."""
    return "K" in flags and ("A" in flags or set(flags) >= NOTIFICATIONS)
