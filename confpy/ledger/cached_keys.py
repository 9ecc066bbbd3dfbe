"""What targets were last delivered from, for a start without the store: keys, and digests of watched files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

from confpy.clock import Clock
from confpy.frozen import NOTHING
from confpy.keys.mounts import Mounts
from confpy.keys.prefixes import ancestors, covers, minimal
from confpy.ledger.folder import StateFolder
from confpy.messages import Recalled

KEYS = "keys"
FILES = "files"


class CachedKeys:
    """The cached keys of one confdir, for the threads of one confpy. The folder reports what cannot be saved."""

    def __init__(
        self,
        folder: StateFolder,
        clock: Clock,
        guard: AbstractContextManager[object],
        backend: str = "",
        mounted: Mapping[str, str] = NOTHING,
    ) -> None:
        """``guard``: keeps apart the threads that use the folder; ``backend``: the kind of store of the keys.

        ``mounted``: the kinds of mounted stores, by mount.
        """
        self._mounted = mounted
        self._mounts = Mounts(mounted)
        self._folder = folder
        self._clock = clock
        self._backend = backend
        self._guard = guard

    def save(self, keys: Mapping[str, str], prefixes: Sequence[str], carried: Sequence[str] = ()) -> None:
        """Cache the keys at or below the prefixes. What is cached at or below those that are ``carried`` stays."""
        with self._guard:
            before = self._recall() if carried else Recalled({})
            stays = frozenset(one for one in carried if any(self._covers(prefix, one) for prefix in before.prefixes))
            if stays:
                new = {key: value for key, value in keys.items() if not self._is_below(stays, key)}
                old = {key: value for key, value in before.keys.items() if self._is_below(stays, key)}
                keys, prefixes = {**new, **old}, self._minimal((*prefixes, *stays))
            record = {"at": self._clock.time(), "prefixes": list(prefixes), "keys": dict(keys)}
            more = {"mounted": dict(self._mounted)} if self._mounted else {}
            self._folder.write(KEYS, {**record, "backend": self._backend, **more})

    def _covers(self, prefix: str, key: str) -> bool:
        """Say whether a prefix covers a key, or another prefix, of the same store."""
        return covers(prefix, key) and self._mounts.point_of(prefix) == self._mounts.point_of(key)

    def _is_below(self, prefixes: frozenset[str], key: str) -> bool:
        mount = self._mounts.point_of(key)
        return any(path in prefixes for path in ancestors(key) if len(path) >= len(mount))

    def _minimal(self, prefixes: Sequence[str]) -> tuple[str, ...]:
        return tuple(one for group in self._mounts.split(prefixes).values() for one in minimal(group))

    def recall(self) -> Recalled:
        """Return the cached keys; none if there are none that can be used."""
        with self._guard:
            return self._recall()

    def _recall(self) -> Recalled:
        record = self._folder.read(KEYS) or {}
        match record:
            case {"keys": dict(keys), "prefixes": list(prefixes), "at": int(at) | float(at)}:
                # Another kind of store has other keys.
                if record.get("backend", self._backend) == self._backend:
                    then = record.get("mounted", {})
                    if isinstance(then, dict) and then != self._mounted:
                        keys, prefixes = self._of_same_stores(keys, prefixes, then)
                    return Recalled(keys, tuple(prefixes), max(0.0, self._clock.time() - at))
        return Recalled({})

    def _of_same_stores(
        self, keys: Mapping[str, str], prefixes: Sequence[str], mounted: Mapping[str, str]
    ) -> tuple[dict[str, str], list[str]]:
        """Return what is cached of stores that are where they were. ``mounted``: the stores of then."""
        before = Mounts(mounted)

        def is_same(path: str) -> bool:
            mount = self._mounts.point_of(path)
            return before.point_of(path) == mount and mounted.get(mount) == self._mounted.get(mount)

        return {key: value for key, value in keys.items() if is_same(key)}, [one for one in prefixes if is_same(one)]

    def save_files(self, files: Mapping[str, str]) -> None:
        """Save the digests of watched files: target → digest."""
        with self._guard:
            self._folder.write(FILES, {"files": dict(files)})

    def files(self) -> Mapping[str, str]:
        """Return the digests of watched files that were saved last; none if they are not known."""
        with self._guard:
            record = self._folder.read(FILES)
        match record:
            case {"files": dict(files)}:
                return {target: digest for target, digest in files.items() if isinstance(digest, str)}
        return {}
