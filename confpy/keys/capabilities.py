"""What a kind of store can do. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from confpy.frozen import frozen
from confpy.keys.prefixes import Lists


@frozen
class Capabilities:
    """What a store can hold and do."""

    value_bytes: int | None = None
    """The largest value (in etcd, with what stands beside it), None where the store sets no bound."""
    binary_keys: bool = False
    """Keys may be any bytes; otherwise they are valid UTF-8 text."""
    binary_values: bool = True
    """Values may be any bytes; otherwise they are valid UTF-8 text."""
    watches: bool = False
    """It can tell of changes by itself."""
    remote: bool = False
    """It may be away when confpy starts."""
    names_deletions: bool = True
    """Its streams name the keys that went; otherwise they are missing from an answer."""
    missing: Literal["error", "empty"] = "empty"
    """What a tree that is not there is to a resource that does not say (``on_missing``)."""
    text_prefixes: bool = False
    """confd reads keys of this store as beginnings of text (``keys_match``)."""
    lists: Lists | None = None
    """Whether a read of a prefix, and a watch of it, brings a key that the prefix covers; None: always."""
    spells: Callable[[str], str] = str
    """Returns its spelling of a path that people may write otherwise."""

    @property
    def can_change(self) -> bool:
        """Whether a later read may bring something else; otherwise its keys are those of the start."""
        return self.remote or self.watches
