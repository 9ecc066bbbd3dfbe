"""A store in this process's memory: for tests, and for programs that embed confpy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from confpy.keys.capabilities import Capabilities
from confpy.keys.snapshot import PrefixStatus, Snapshot
from confpy.stores.replica import HISTORY, Replica, ReplicaWatch

if TYPE_CHECKING:
    from confpy.config.settings import Settings


class MemoryStore:
    """Keys with revisions and a history, as etcd has them. Every method may be called from any thread."""

    capabilities = Capabilities(binary_keys=True, watches=True)
    node = ""

    def __init__(
        self,
        keys: Mapping[str, str] | None = None,
        *,
        identity: str = "memory",
        history: int = HISTORY,
        revision: int = 1,
    ) -> None:
        """``keys`` have this ``revision``; ``history`` is how many of them a late watch can resume from."""
        self._replica = Replica(identity=identity, history=history)
        self._replica.update(keys or {})
        self._replica.advance(revision)
        self._replica.compact()

    @classmethod
    def open(cls, settings: Settings) -> MemoryStore:  # noqa: ARG003 - there is nothing to set
        return cls()

    @property
    def identity(self) -> str:
        """With another value, earlier watches and revisions are void."""
        return self._replica.identity

    @identity.setter
    def identity(self, identity: str) -> None:
        self._replica.identity = identity

    # --- writing -----------------------------------------------------------------------------------------------------

    def set(self, key: str, value: str) -> int:
        """Put one key; return the revision."""
        return self.update({key: value})

    def delete(self, key: str) -> int:
        """Remove one key; return the revision."""
        return self.update({key: None})

    def update(self, keys: Mapping[str, str | None]) -> int:
        """Put keys, and remove those whose value is None, all in one revision; return it."""
        return self._replica.update(keys, again=True)

    def compact(self) -> None:
        """Forget the history: a watch that has not seen all of it is lost."""
        self._replica.compact()

    # --- the store ---------------------------------------------------------------------------------------------------

    def prefixes(self, path: str) -> tuple[str, ...]:
        return (path,) if path.startswith("/") else (f"/{path}", path)

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        return self._replica.read(prefixes, counted)

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus:
        return self._replica.status(prefixes)

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> ReplicaWatch:
        return self._replica.watch(cursors, identity)

    def close(self) -> None:
        """End all watches. The keys stay, and the store can be read and watched again."""
        self._replica.close()
