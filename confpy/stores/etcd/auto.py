"""The name ``etcd``: finds out which API of etcd holds the keys, v2 or v3, and is that store from then on.

confd 0.16 meant v2 by this name, what came after it means v3; what was put through the one cannot be seen through the
other. While neither holds keys under the wanted prefixes, both are asked. The choice is kept in the state folder: a
later start, at which the tree happens to be empty, does not choose anew.
"""

from __future__ import annotations

import dataclasses
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
"""By whether the name of the store is a default, too."""
POLL = 5.0
"""Seconds from one look into all stores to the next, while watching."""
RECORD = "etcd"
"""What the choice is called in the state folder."""


class Choice(NamedTuple):
    """A store, and what the read brought by which it was chosen."""

    store: Store
    snapshot: Snapshot


class EtcdStore:
    """The keys of an etcd, behind ``confpy.stores.Store``, whichever API they were put through."""

    capabilities = replace(Etcd3Store.capabilities, missing="error")
    """Until it is known which store it is; from then on each snapshot says what is otherwise."""

    def __init__(self, stores: Mapping[str, Store], settings: Settings) -> None:
        """``stores`` are those to choose from, under the names that force them; of several with keys, the first."""
        self.capabilities = replace(self.capabilities, lists=self._lists)
        self.turned = threading.Condition()
        """Notified when there is a choice, and when the store is closed."""
        self.choice: Choice | None = None
        self.undecided = False
        """Whether the last read found no keys in any of the stores."""
        self.closed = False
        self.unnamed = ""
        """The hint where nobody named the store that cannot be read."""
        self._stores = stores
        self._notes: list[LogEvent] = []
        self._state = StateFolder.of(settings, self._notes.append)
        self._keeps = not settings.noop
        kept = (self._state.read(RECORD) or {}).get("store")
        self._kept = next((name for name in stores if name == kept), None)

    @classmethod
    def open(cls, settings: Settings) -> EtcdStore:
        """Make the store that the settings describe. No traffic yet; raises ``UsageError``."""
        named = settings.nodes or settings.srv_domain or settings.srv_record
        # Both APIs are asked for at the same place: the port that etcd v2 alone knows has been closed for years.
        settings = settings if named else dataclasses.replace(settings, nodes=ETCD.nodes)
        store = cls({"etcdv2": Etcd2Store.open(settings), "etcdv3": Etcd3Store.open(settings)}, settings)
        store.unnamed = "" if named else _UNNAMED[settings.origin("backend") == "default"]
        return store

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return what any of the stores reads for the path; each is asked for its own."""
        return tuple(dict.fromkeys(prefix for store in self._stores.values() for prefix in store.prefixes(path)))

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
        """Read all prefixes from the chosen store; raises ``StoreError``, also where none can be chosen yet."""
        try:
            if self.choice is not None:
                snapshot = _read(self.choice.store, prefixes, counted)
            elif self._kept is not None:
                snapshot = self._stay_with(self._kept, prefixes, counted)
            else:
                snapshot = self._find_out(prefixes, counted)
        except StoreError as error:
            error.hint = self.unnamed or error.hint
            raise
        notes = tuple(self._notes)
        self._notes.clear()
        return replace(snapshot, notes=notes)

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus | None:
        """Ask the chosen store; until there is one, only a read can tell."""
        return None if self.choice is None else self.choice.store.poll(_own(self.choice.store, prefixes))

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> WatchStream:
        """Follow every prefix in the chosen store, or in the one that will be."""
        return _Finding(self) if self.choice is None else _watch(self.choice.store, cursors, identity)

    def close(self) -> None:
        """Close all stores. Any thread, any number of times."""
        with self.turned:
            self.closed = True
            self.turned.notify_all()
        for store in self._stores.values():
            store.close()

    def _lists(self, prefix: str, key: str) -> bool:
        store = EtcdStore if self.choice is None else self.choice.store
        return (store.capabilities.lists or covers)(prefix, key)

    # --- choosing ----------------------------------------------------------------------------------------------------

    def _find_out(self, prefixes: Sequence[str], counted: Sequence[str]) -> Snapshot:
        """Choose the first store that holds keys. One that cannot tell may be that one: then nothing is decided."""
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
                self._tell(name, next((one for one in self._others(name) if self._seems_to_hold(one, prefixes)), None))
                if self._keeps:
                    self._state.write(RECORD, {"store": name})
                return self._choose(name, snapshot)
            self._insist_on_an_answer(name, snapshot)
        if len(absent) == len(self._stores):
            raise absent[-1]
        if not known_to_be:
            reason = "no API of etcd holds keys under the wanted prefixes"
            self._notes.append(LogEvent("info", "store.undecided", {"reason": reason}))
        self.undecided = True
        return Snapshot({prefix: Listing(0) for prefix in prefixes})

    def _stay_with(self, name: str, prefixes: Sequence[str], counted: Sequence[str]) -> Snapshot:
        """Choose what an earlier start chose; warn where it would be another one today."""
        snapshot = _read(self._stores[name], prefixes, counted)
        holding = (
            one for one in self._stores if (_holds(snapshot) if one == name else self._seems_to_hold(one, prefixes))
        )
        today = next(holding, name)
        if today != name:
            self._warn(name, today, f"an earlier start chose it; today it would be {today}")
        return self._choose(name, snapshot)

    def _choose(self, name: str, snapshot: Snapshot) -> Snapshot:
        with self.turned:
            self.choice = Choice(self._stores[name], snapshot)
            self.turned.notify_all()
        return snapshot

    def _insist_on_an_answer(self, name: str, snapshot: Snapshot) -> None:
        """Raise ``StoreError`` where a store did not let us see whether it holds keys."""
        for prefix, listing in snapshot.listings.items():
            if listing.error is not None:
                hint = f"{listing.error.hint}; else name the store that you mean: {' or '.join(self._stores)}"
                reason = f"{name} does not tell whether it holds {prefix}: {listing.error.message}"
                raise StoreError(reason, hint=hint, **listing.error.where)

    def _seems_to_hold(self, name: str, prefixes: Sequence[str]) -> bool:
        """Say whether a store answers that it holds keys, as cheaply as it can."""
        store = self._stores[name]
        try:
            status = store.poll(_own(store, prefixes))
            return _holds(_read(store, prefixes)) if status is None else any(status.counts.values())
        except StoreError:
            return False

    def _others(self, name: str) -> list[str]:
        return [one for one in self._stores if one != name]

    def _tell(self, name: str, other: str | None) -> None:
        """Tell of the choice, and of another store that holds keys, too."""
        if other is not None:
            self._warn(name, other, f"it holds keys under the wanted prefixes, and so does {other}")
            return
        reason, hint = "it alone holds keys under the wanted prefixes", f"the name {name} forces it"
        self._notes.append(LogEvent("info", "store.chosen", {"store": name, "reason": reason, "hint": hint}))

    def _warn(self, name: str, other: str, reason: str) -> None:
        hint = f"name the store that you mean: {name} or {other}"
        self._notes.append(LogEvent("warning", "store.chosen", {"store": name, "reason": reason, "hint": hint}))


class _Finding:
    """The changes of a store that is still to be chosen: it asks for reads until there is one, then follows that."""

    def __init__(self, etcd: EtcdStore) -> None:
        self._etcd = etcd
        self._stream: WatchStream | None = None
        self._closed = False

    def __iter__(self) -> Iterator[Changes | Invalidated]:
        """Yield until ``close``; raises as the stream of the chosen store does."""
        while (choice := self._await_choice()) is None:
            if self._ended():
                return
            # Where the last read failed, the mirror reads again by itself, ever more rarely.
            if self._etcd.undecided:
                yield Invalidated()
        # From the read on by which it was chosen: the positions of the time before say nothing.
        cursors = {prefix: one.revision for prefix, one in choice.snapshot.listings.items() if one.error is None}
        stream = _watch(choice.store, cursors, choice.snapshot.identity)
        with self._etcd.turned:
            self._stream = stream
        if self._ended():
            stream.close()
        yield from stream

    def _await_choice(self) -> Choice | None:
        with self._etcd.turned:
            self._etcd.turned.wait_for(lambda: self._etcd.choice is not None or self._ended(), POLL)
            return self._etcd.choice

    def _ended(self) -> bool:
        return self._closed or self._etcd.closed

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        with self._etcd.turned:
            self._closed = True
            self._etcd.turned.notify_all()
        if self._stream is not None:
            self._stream.close()


# --- one of the stores -----------------------------------------------------------------------------------------------


def _read(store: Store, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:
    """Read from one of the stores; what it would not ask for itself it does not hold."""
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
