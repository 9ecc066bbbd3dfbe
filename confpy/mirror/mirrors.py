"""The mirrors of several stores, mounted in one tree of keys, behind what the agent asks of one. Pure.

Each has its own health, backoff, streams and resync, and speaks of its keys by their paths in the one tree: the store's
adapter (``confpy.stores.mounted``) puts the mount before them. A prefix belongs to the store with the longest mount
that covers it. What one store is read for never waits for another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal

from confpy.clock import NEVER
from confpy.errors import StoreError
from confpy.frozen import NOTHING
from confpy.keys.mounts import Mounts
from confpy.keys.prefixes import ancestors, minimal
from confpy.keys.view import Source
from confpy.messages import Message
from confpy.mirror.mirror import Mirror
from confpy.mirror.parts import Part, Parts
from confpy.mirror.result import MirrorResult
from confpy.mirror.status import MirrorStatus


class Mirrors:
    """The mirror of the store at ``/``, and those of the mounted ones. All draw their numbers from one counter."""

    is_several = True

    def __init__(self, mirrors: Iterable[Mirror]) -> None:
        """``mirrors``: that of the store at ``/``, whose ``mount`` is empty, is the first."""
        self._all = list(mirrors)
        self._main = self._all[0]
        self._by_mount = {mirror.mount: mirror for mirror in self._all}
        self.mounts = Mounts(mount for mount in self._by_mount if mount)
        self._wanted: Mapping[str, Sequence[str]] = {}

    def _of(self, prefixes: Sequence[str]) -> Iterator[tuple[Mirror, Sequence[str]]]:
        """Yield each store that some of the prefixes belong to, with these."""
        for mount, group in self.mounts.split(prefixes).items():
            yield self._by_mount[mount], group

    def add(self, mirrors: Iterable[Mirror]) -> None:
        """Add the mirrors of more stores."""
        self._all += mirrors
        self._by_mount = {mirror.mount: mirror for mirror in self._all}
        self.mounts = Mounts(mount for mount in self._by_mount if mount)

    def has(self, mount: str) -> bool:
        """Say whether there is a store at a mount."""
        return mount in self._by_mount

    # --- whether keys are here ---------------------------------------------------------------------------------------

    def ready(self, prefixes: Sequence[str]) -> bool:
        """As ``Answers.ready``: every store of the prefixes was read."""
        return all(mirror.ready(group) for mirror, group in self._of(prefixes))

    def is_live(self, prefix: str) -> bool:
        """As ``Answers.is_live``."""
        return self.ready((prefix,))

    def missing(self, prefixes: Sequence[str], texts: Sequence[str] = ()) -> str | None:
        """As ``Answers.missing``."""
        return self._first_missing(prefixes, texts, "error", "error")

    def lacking(
        self,
        prefixes: Sequence[str],
        texts: Sequence[str],
        on_missing: Literal["error", "empty"] | None,
        default: Literal["error", "empty"],
    ) -> str | None:
        """As ``Answers.lacking``. ``default`` is that of the store at ``/``; a mounted one has its own."""
        return self._first_missing(prefixes, texts, on_missing, default)

    def _first_missing(
        self,
        prefixes: Sequence[str],
        texts: Sequence[str],
        on_missing: Literal["error", "empty"] | None,
        default: Literal["error", "empty"],
    ) -> str | None:
        of_texts = self.mounts.split(texts)
        for mirror, group in self._of(prefixes):
            own = "empty" if mirror.mount else default
            path = mirror.lacking(group, of_texts.get(mirror.mount, ()), on_missing, own)
            if path is not None:
                return path
        return None

    def error(self, prefixes: Sequence[str]) -> StoreError | None:
        """As ``Answers.error``."""
        for mirror, group in self._of(prefixes):
            error = mirror.error(group)
            if error is not None:
                return error
        return None

    @property
    def lost(self) -> StoreError | None:
        """Why a store cannot be read now that something is read from; the first one's, where they are several."""
        return next((one.lost for one in self._all if one.lost is not None and one.has_readers), None)

    def is_loss(self, error: StoreError) -> bool:
        """As ``Answers.is_loss``, of any of them."""
        return any(mirror.is_loss(error) for mirror in self._all)

    @property
    def has_answered(self) -> bool:
        """Whether each store was ever read or polled that something is read from."""
        return all(mirror.has_answered for mirror in self._all)

    def denied_readers(self) -> set[str]:
        """As ``Answers.denied_readers``."""
        return set().union(*(mirror.denied_readers() for mirror in self._all))

    def readers_of_lost(self) -> set[str]:
        """As ``Answers.readers_of_lost``."""
        return set().union(*(mirror.readers_of_lost() for mirror in self._all))

    # --- its keys ----------------------------------------------------------------------------------------------------

    def size(self) -> int:
        """Return the number of keys, of all stores."""
        return sum(mirror.size() for mirror in self._all)

    def cached_prefixes(self, prefixes: Iterable[str]) -> tuple[str, ...]:
        """As ``Answers.cached_prefixes``: those of stores of this machine are not cached."""
        of_stores = self.mounts.split(tuple(prefixes))
        return tuple(
            one for mount, group in of_stores.items() if self._by_mount[mount].remote for one in minimal(group)
        )

    def cached_items(self, prefix: str) -> list[tuple[str, str]]:
        """As ``Answers.cached_items``, of all stores that may be away."""
        return [pair for mirror in self._all for pair in mirror.cached_items(prefix)]

    def is_cached(self, prefix: str, cached: AbstractSet[str]) -> bool:
        """As ``Answers.is_cached``: prefixes of one store say nothing of the keys of another."""
        mirror = self._by_mount[self.mount_of(prefix)]
        return mirror.remote and any(path in cached for path in ancestors(prefix) if len(path) >= len(mirror.mount))

    def mount_of(self, prefix: str) -> str:
        """As ``Answers.mount_of``."""
        return self.mounts.point_of(prefix)

    def sources(self, prefixes: Sequence[str], texts: Sequence[str] = ()) -> tuple[Source, ...]:
        """As ``Answers.sources``: one for each store that something is read from."""
        of_texts = self.mounts.split(texts)
        return tuple(
            source
            for mirror, group in self._of(prefixes)
            for source in mirror.sources(group, of_texts.get(mirror.mount, ()))
        )

    def revision(self, prefixes: Sequence[str]) -> int:
        """As ``Answers.revision``, of the first store of the prefixes: those of two do not compare."""
        return next((mirror.revision(group) for mirror, group in self._of(prefixes)), 0)

    # --- which stores they are ---------------------------------------------------------------------------------------

    def expect(self, identity: str, revision: int, key: str = "") -> None:
        """As ``Mirror.expect``, of each that the ledger calls so."""
        for mirror in self._all:
            mirror.expect(identity, revision, key)

    def states(self) -> Iterator[tuple[str, str, Callable[[], int]]]:
        """As ``Answers.states``, of each store."""
        for mirror in self._all:
            yield from mirror.states()

    def statuses(self, now: float) -> Iterator[tuple[str, MirrorStatus, int]]:
        """As ``Answers.statuses``, that of the store at ``/`` first."""
        for mirror in self._all:
            yield from mirror.statuses(now)

    def is_comparing(self, now: float) -> bool:
        """As ``Answers.is_comparing``, of those that something is read from."""
        return any(mirror.is_comparing(now) for mirror in self._all if mirror.has_readers)

    def replacements(self, prefixes: Sequence[str]) -> int:
        """As ``Answers.replacements``, of all stores of the prefixes."""
        return sum(mirror.store for mirror, _ in self._of(prefixes))

    def who(self, mount: str) -> tuple[str, tuple[str, ...]]:
        """As ``Answers.who``."""
        return self._by_mount[mount].who(mount)

    def parts(self, reads: Sequence[str]) -> Parts:
        """As ``Answers.parts``."""
        found = list(self._of(reads))
        if len(found) < 2:
            return NOTHING
        return {one.mount: Part(tuple(group), one.store, one.read_at(group)) for one, group in found}

    def read_at(self, prefixes: Sequence[str]) -> float:
        """As ``Answers.read_at``: that of the store that was read least lately."""
        return min((mirror.read_at(group) for mirror, group in self._of(prefixes)), default=-NEVER)

    # --- what the agent has them do ----------------------------------------------------------------------------------

    def want(self, resources: Mapping[str, Sequence[str]]) -> MirrorResult:
        """As ``Mirror.want``: each is told what is read from it."""
        self._wanted = resources
        wanted: dict[str, dict[str, Sequence[str]]] = {mount: {} for mount in self._by_mount}
        for name, prefixes in resources.items():
            for mount, group in self.mounts.split(prefixes).items():
                wanted[mount][name] = group
        result = MirrorResult()
        for mount, mirror in self._by_mount.items():
            _add(result, mirror.want(wanted[mount]))
        return result

    def reread(self, now: float, prefixes: Sequence[str]) -> MirrorResult:
        """As ``Mirror.reread``, of the stores of the prefixes."""
        result = MirrorResult()
        for mirror, group in self._of(prefixes):
            _add(result, mirror.reread(now, group))
        return result

    def resync(self, now: float) -> None:
        """As ``Mirror.resync``, of all."""
        for mirror in self._all:
            mirror.resync(now)

    def wake_at(self) -> float:
        """As ``Mirror.wake_at``: for the one that is next."""
        return min(mirror.wake_at() for mirror in self._all)

    def step(self, message: Message, now: float) -> MirrorResult:
        """As ``Mirror.step``: an answer concerns the one that asked, and for the others time passes."""
        result = self._main.step(message, now)
        for mirror in self._all[1:]:
            _add(result, mirror.step(message, now))
        return result


def _add(result: MirrorResult, other: MirrorResult) -> None:
    """Add what another mirror made of the same message."""
    result.actions += other.actions
    if other.changed:
        # Only the one that the message is for has changed anything.
        result.changed |= other.changed
        result.unnamed = other.unnamed
    result.learned |= other.learned
