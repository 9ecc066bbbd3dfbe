"""What the agent asks of a mirror: whether keys are here, and why they are not. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Literal

from confpy.clock import NEVER
from confpy.errors import StoreError
from confpy.frozen import NOTHING
from confpy.keys.prefixes import Lists, ancestors, minimal, normalise
from confpy.keys.tree import KeyTree
from confpy.keys.view import Source
from confpy.mirror.copy import LocalCopy
from confpy.mirror.denied import DeniedPrefixes
from confpy.mirror.health import StoreHealth
from confpy.mirror.reading import Reading
from confpy.mirror.resync import Resync
from confpy.mirror.status import MirrorStatus, describe
from confpy.mirror.streams import Streams
from confpy.mirror.wants import Wants

if TYPE_CHECKING:
    from confpy.mirror.parts import Parts


class Answers:
    """The part of ``Mirror`` that changes nothing."""

    is_several = False
    """Whether there may be several stores; where there is one, ``parts`` need not be asked."""
    name: str
    nodes: tuple[str, ...]
    mount: str
    lists: Lists | None
    spells: Callable[[str], str]
    on_missing: Literal["error", "empty"] | None
    store: int
    remote: bool
    identity: str
    _read_at: float
    tree: KeyTree
    _copy: LocalCopy
    _denied: DeniedPrefixes
    _wants: Wants
    _health: StoreHealth
    _streams: Streams
    _resync: Resync
    _reading: Reading | None
    _next_read_at: float

    @property
    def lost(self) -> StoreError | None:
        """Why the store cannot be read now."""
        return self._health.error

    def is_loss(self, error: StoreError) -> bool:
        """Say whether an error is that of a store that cannot be read now, rather than one of a prefix."""
        return error is self._health.error

    @property
    def has_answered(self) -> bool:
        """Whether the store was ever read or polled, unless nothing is read from it."""
        return self._health.answered_at is not None or not self._wants.readers

    def status(self, now: float) -> MirrorStatus:
        """Return how the store and its stream are."""
        at = self._next_read_at if self._reading is None else -NEVER
        found = describe(self._health, self._streams, self._resync, self._denied, next_read_at=at, now=now)
        return found._replace(has_readers=self.has_readers)

    def statuses(self, now: float) -> Iterator[tuple[str, MirrorStatus, int]]:
        """Yield how each store is, by where it is mounted, with its newest revision."""
        yield self.mount, self.status(now), self.newest()

    def is_comparing(self, now: float) -> bool:
        """Say whether something is compared with the store now, as ``MirrorStatus``."""
        return self.status(now).is_comparing

    def ready(self, prefixes: Sequence[str]) -> bool:
        """Say whether the tree holds these prefixes: they were read, and the store did not deny them."""
        return all(self._copy.holds(prefix) for prefix in prefixes)

    def is_live(self, prefix: str) -> bool:  # noqa: ARG002 - one store is there or away as a whole
        """Say whether a prefix is ready although another store is not: cached keys do not replace it."""
        return False

    def missing(self, prefixes: Sequence[str], texts: Sequence[str] = ()) -> str | None:
        """Return the path of a prefix that is not in the store, or None; of those with one path, one suffices.

        ``texts`` replace the prefixes: one that no key begins with is missing.
        """
        if texts:
            return next((text for text in texts if self._copy.begins_none(text)), None)
        return next((path for path in map(normalise, prefixes) if self._copy.is_missing(path)), None)

    def lacking(
        self,
        prefixes: Sequence[str],
        texts: Sequence[str],
        on_missing: Literal["error", "empty"] | None,
        default: Literal["error", "empty"],
    ) -> str | None:
        """Return what ``missing`` does, unless that is no error to a resource that sets ``on_missing`` so.

        ``default``: for one that does not set it, where no read has determined it.
        """
        if (on_missing or self.on_missing or default) == "empty":
            return None
        return self.missing(prefixes, texts)

    def error(self, prefixes: Sequence[str]) -> StoreError | None:
        """Return why the tree does not hold these prefixes, or None where it does or nothing is known yet."""
        for prefix in prefixes:
            if prefix in self._denied:
                return self._denied[prefix].error
            if self._health.error is not None and not self._copy.holds(prefix):
                return self._health.error
        return None

    def revision(self, prefixes: Sequence[str]) -> int:
        """Return the newest revision that is in the tree for these prefixes."""
        return self._copy.revision(prefixes)

    def newest(self) -> int:
        """Return the newest revision that is in the tree for any prefix."""
        return self._copy.positions.newest

    def denied_readers(self) -> set[str]:
        """Return the resources that read a prefix that the store denies."""
        return {name for prefix in self._denied for name in self._wants.readers.get(prefix, ())}

    @property
    def has_readers(self) -> bool:
        """Whether something is read from the store."""
        return bool(self._wants.readers)

    def readers_of_lost(self) -> set[str]:
        """Return the resources that read something from the store, if it cannot be read now."""
        if self._health.error is None:
            return set()
        return {name for names in self._wants.readers.values() for name in names}

    def replacements(self, prefixes: Sequence[str]) -> int:  # noqa: ARG002 - the store's
        """Return how often another store, or an older state of it, replaced the one before."""
        return self.store

    def read_at(self, prefixes: Sequence[str]) -> float:  # noqa: ARG002 - the store's
        """Return when the newest read of all that is wanted began."""
        return self._read_at

    def who(self, mount: str) -> tuple[str, tuple[str, ...]]:  # noqa: ARG002 - there is one store
        """Return the kind, and the addresses, of the store that is mounted there."""
        return self.name, self.nodes

    def parts(self, reads: Sequence[str]) -> Parts:  # noqa: ARG002 - there is one store
        """Return what is to be known of each store of what a resource reads, where they are several."""
        return NOTHING

    def states(self) -> Iterator[tuple[str, str, Callable[[], int]]]:
        """Yield what the ledger calls the store, which one it is, and what returns its newest revision."""
        yield self.key, self.identity, self.newest

    @property
    def key(self) -> str:
        """What the ledger calls the store; empty for the one at ``/``."""
        return f"{self.name} at {self.mount}" if self.mount else ""

    # --- its keys ----------------------------------------------------------------------------------------------------

    def size(self) -> int:
        """Return the number of keys."""
        return len(self.tree)

    def cached_prefixes(self, prefixes: Iterable[str]) -> tuple[str, ...]:
        """Return of these prefixes as few as bring all of their keys that are to be cached."""
        return minimal(prefixes)

    def cached_items(self, prefix: str) -> list[tuple[str, str]]:
        """Return the paths at or below a path, with their values, unless the store needs no cached keys."""
        return self.tree.items(prefix) if self.remote else []

    def is_cached(self, prefix: str, cached: AbstractSet[str]) -> bool:
        """Say whether all keys of a prefix are cached, where those of these prefixes are."""
        return self.remote and not cached.isdisjoint(ancestors(prefix))

    def mount_of(self, prefix: str) -> str:  # noqa: ARG002 - the store's
        """Return where the store is mounted that a prefix belongs to."""
        return self.mount

    def sources(self, prefixes: Sequence[str], texts: Sequence[str] = ()) -> tuple[Source, ...]:
        """Return where the view of a resource finds its keys."""
        return (Source(self.tree, prefixes, self.lists, self.spells, texts, self.mount),)
