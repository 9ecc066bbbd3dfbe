"""The store ``etcd``: detects which API of etcd holds the keys, v2 or v3, and is that store from then on.

confd 0.16 meant v2 by this name, later versions mean v3; keys of the one cannot be seen through the other. While
neither holds keys under the wanted prefixes, both are read. The choice is stored in the state folder: a later start, at
which the tree happens to be empty, does not choose again.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from confpy.config.stores.etcd import ETCD
from confpy.errors import NoApi, StoreError
from confpy.events import LogEvent
from confpy.frozen import replace
from confpy.keys.prefixes import covers
from confpy.keys.snapshot import Changes, Invalidated, Listing, PrefixStatus, Snapshot
from confpy.ledger.folder import StateFolder
from confpy.stores import Store, WatchStream
from confpy.stores.etcd.v2 import Etcd2Store
from confpy.stores.etcd.v3 import Etcd3Store

if TYPE_CHECKING:
    from confpy.config.settings import Settings

_API = re.compile(r"^etcd v[23]:")
_UNNAMED = (
    "no -node is given: name etcd's address by it",
    "neither -backend nor -node is given: name the store by the one, its address by the other",
)
"""The hint, by whether the name of the store is a default, too."""
POLL = 5.0
"""Seconds between two reads of all stores, while watching."""
RECORD = "etcd"
"""The name of the choice in the state folder."""


class Choice(NamedTuple):
    """A store, and the read by which it was chosen."""

    store: Store
    snapshot: Snapshot


class EtcdStore:
    """The keys of an etcd, behind ``confpy.stores.Store``, by whichever API they were written."""

    capabilities = replace(Etcd3Store.capabilities, missing="error")
    """While no store is chosen; from then on each snapshot has those that differ."""

    def __init__(self, stores: Mapping[str, Store], settings: Settings) -> None:
        """``stores`` are the candidates by the names that force them; of several with keys, the first is chosen."""
        self.capabilities = replace(self.capabilities, lists=self._lists)
        self.changed = threading.Condition()
        """Notified when a store is chosen, and when this one is closed."""
        self.choice: Choice | None = None
        self.undecided = False
        """Whether the last read found no keys in any of the stores."""
        self.closed = False
        self.unnamed = ""
        """The hint if a store cannot be read that the settings do not name."""
        self._stores = stores
        self._events: list[LogEvent] = []
        self._state = StateFolder.of(settings, self._events.append)
        self._writes = not settings.noop
        stored = (self._state.read(RECORD) or {}).get("store")
        self._stored = next((name for name in stores if name == stored), None)

    @property
    def node(self) -> str:
        chosen = (self.choice.store,) if self.choice is not None else self._stores.values()
        return next((store.node for store in chosen if store.node), "")

    @classmethod
    def open(cls, settings: Settings) -> EtcdStore:
        """Return the store that the settings describe. No traffic yet; raises ``UsageError``."""
        named = settings.nodes or settings.srv_domain or settings.srv_record
        # Both APIs are tried at the same address: the port that only etcd v2 had has been closed for years.
        settings = settings if named else replace(settings, nodes=ETCD.nodes)
        store = cls({"etcdv2": Etcd2Store.open(settings), "etcdv3": Etcd3Store.open(settings)}, settings)
        store.unnamed = "" if named else _UNNAMED[settings.origin("backend") == "default"]
        return store

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return what any of the stores reads for the path; each gets only its own."""
        return tuple(dict.fromkeys(prefix for store in self._stores.values() for prefix in store.prefixes(path)))

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        """Read all prefixes from the chosen store; raises ``StoreError``, also where none can be chosen yet."""
        try:
            if self.choice is not None:
                snapshot = _read(self.choice.store, prefixes, counted)
            elif self._stored is not None:
                snapshot = self._use_stored(self._stored, prefixes, counted)
            else:
                snapshot = self._detect(prefixes, counted)
        except StoreError as error:
            error.hint = self.unnamed or error.hint
            raise
        notes = tuple(self._events)
        self._events.clear()
        return replace(snapshot, notes=notes)

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus | None:
        """Poll the chosen store; until there is one, only a read can tell."""
        return None if self.choice is None else self.choice.store.poll(_own(self.choice.store, prefixes))

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> WatchStream:
        """Follow every prefix in the chosen store, or in the one that will be."""
        return _UndecidedStream(self) if self.choice is None else _watch(self.choice.store, cursors, identity)

    def close(self) -> None:
        """Close all stores. Any thread, any number of times."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
        for store in self._stores.values():
            store.close()

    def _lists(self, prefix: str, key: str) -> bool:
        store = EtcdStore if self.choice is None else self.choice.store
        return (store.capabilities.lists or covers)(prefix, key)

    # --- choosing ----------------------------------------------------------------------------------------------------

    def _detect(self, prefixes: Sequence[str], counted: Sequence[str]) -> Snapshot:
        """Choose the first store that holds keys. If one that comes before it cannot be read, nothing is decided."""
        known_to_be, self.undecided = self.undecided, False
        absent: list[NoApi] = []
        for name, store in self._stores.items():
            try:
                snapshot = _read(store, prefixes, counted)
            except NoApi as error:
                absent.append(error)
                continue
            except StoreError as error:
                # Which API it would be is not known yet.
                error.message = _API.sub("etcd:", error.message)
                raise
            if _holds(snapshot):
                self._log_choice(
                    name, next((one for one in self._others(name) if self._seems_to_hold(one, prefixes)), None)
                )
                if self._writes:
                    self._state.write(RECORD, {"store": name})
                return self._choose(name, snapshot)
            self._require_answer(name, snapshot)
        if len(absent) == len(self._stores):
            raise absent[-1]
        if not known_to_be:
            reason = "no API of etcd holds keys under the wanted prefixes"
            self._events.append(LogEvent("info", "store.undecided", {"reason": reason}))
        self.undecided = True
        return Snapshot({prefix: Listing(0) for prefix in prefixes})

    def _use_stored(self, name: str, prefixes: Sequence[str], counted: Sequence[str]) -> Snapshot:
        """Choose what an earlier start chose; warn if it would be another one today."""
        snapshot = _read(self._stores[name], prefixes, counted)
        holding = (
            one for one in self._stores if (_holds(snapshot) if one == name else self._seems_to_hold(one, prefixes))
        )
        today = next(holding, name)
        if today != name:
            self._warn(name, today, f"an earlier start chose it; today it would be {today}")
        return self._choose(name, snapshot)

    def _choose(self, name: str, snapshot: Snapshot) -> Snapshot:
        with self.changed:
            self.choice = Choice(self._stores[name], snapshot)
            self.changed.notify_all()
        return snapshot

    def _require_answer(self, name: str, snapshot: Snapshot) -> None:
        """Raise ``StoreError`` if a store denied a prefix: whether it holds keys there is unknown."""
        for prefix, listing in snapshot.listings.items():
            if listing.error is not None:
                hint = f"{listing.error.hint}; else name the store that you mean: {' or '.join(self._stores)}"
                reason = f"{name} does not tell whether it holds {prefix}: {listing.error.message}"
                raise StoreError(reason, hint=hint, **listing.error.where)

    def _seems_to_hold(self, name: str, prefixes: Sequence[str]) -> bool:
        """Whether a store answers that it holds keys; as cheap as possible."""
        store = self._stores[name]
        try:
            status = store.poll(_own(store, prefixes))
            return _holds(_read(store, prefixes)) if status is None else any(status.counts.values())
        except StoreError:
            return False

    def _others(self, name: str) -> list[str]:
        return [one for one in self._stores if one != name]

    def _log_choice(self, name: str, other: str | None) -> None:
        """Log the choice, and another store that holds keys, too."""
        if other is not None:
            self._warn(name, other, f"it holds keys under the wanted prefixes, and so does {other}")
            return
        reason, hint = "it alone holds keys under the wanted prefixes", f"the name {name} forces it"
        self._events.append(LogEvent("info", "store.chosen", {"store": name, "reason": reason, "hint": hint}))

    def _warn(self, name: str, other: str, reason: str) -> None:
        hint = f"name the store that you mean: {name} or {other}"
        self._events.append(LogEvent("warning", "store.chosen", {"store": name, "reason": reason, "hint": hint}))


class _UndecidedStream:
    """The stream while no store is chosen: it asks for reads until one is, then follows that."""

    def __init__(self, etcd: EtcdStore) -> None:
        self._etcd = etcd
        self._stream: WatchStream | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Changes | Invalidated]:
        """Yield until ``close``; raises as the stream of the chosen store does."""
        while (choice := self._await_choice()) is None:
            if self._ended():
                return
            # After a read that failed, the mirror reads again by itself, at growing intervals.
            if self._etcd.undecided:
                yield Invalidated()
        # From the read by which it was chosen: earlier positions mean nothing.
        cursors = {prefix: one.revision for prefix, one in choice.snapshot.listings.items() if one.error is None}
        stream = _watch(choice.store, cursors, choice.snapshot.identity)
        with self._etcd.changed:
            self._stream = stream
        if self._ended():
            stream.close()
        yield from stream

    def _await_choice(self) -> Choice | None:
        with self._etcd.changed:
            self._etcd.changed.wait_for(lambda: self._etcd.choice is not None or self._ended(), POLL)
            return self._etcd.choice

    def _ended(self) -> bool:
        return self._closed or self._etcd.closed

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        with self._etcd.changed:
            self._closed = True
            self._etcd.changed.notify_all()
        if self._stream is not None:
            self._stream.close()


# --- one of the stores -----------------------------------------------------------------------------------------------


def _read(store: Store, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
    """Read from one of the stores; prefixes that are not its own are empty."""
    snapshot = store.read(_own(store, prefixes), _own(store, counted))
    return replace(
        snapshot,
        listings={prefix: snapshot.listings.get(prefix, Listing(0)) for prefix in prefixes},
        on_missing=store.capabilities.missing,
        binary=store.capabilities.binary_values,
    )


def _watch(store: Store, cursors: Mapping[str, int], identity: str) -> WatchStream:
    return store.watch({prefix: cursors[prefix] for prefix in _own(store, list(cursors))}, identity)


def _own(store: Store, prefixes: Sequence[str]) -> tuple[str, ...]:
    return tuple(prefix for prefix in prefixes if prefix in store.prefixes(prefix))


def _holds(snapshot: Snapshot) -> bool:
    return any(listing.keys for listing in snapshot.listings.values())
