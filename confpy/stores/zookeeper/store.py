"""ZooKeeper: trees of nodes, read in pipelined requests and followed by watches of data and children.

A read is not made at one revision: ``Replica`` gives the differences between what was read some, none below the id of
the transaction that it is from. ``docs/stores/zookeeper.md`` is the contract.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from confpy.errors import AccessDenied, ConfpyError, StoreError, bug
from confpy.keys.capabilities import Capabilities
from confpy.keys.prefixes import minimal, normalise, select
from confpy.keys.snapshot import Changes, Listing, PrefixStatus, Snapshot
from confpy.stores.replica import Replica, ReplicaWatch
from confpy.stores.zookeeper.client import Session, ZooKeeper, connect
from confpy.stores.zookeeper.nodes import Walk, lists

if TYPE_CHECKING:
    from kazoo.protocol.states import WatchedEvent

    from confpy.config.settings import Settings

READ_TIMES = 30
"""How many times the timeout of one answer a read may take in total."""


class ZooKeeperStore:
    """The nodes of a ZooKeeper ensemble, behind ``confpy.stores.Store``."""

    capabilities = Capabilities(remote=True, value_bytes=(1 << 20) - 1, watches=True, lists=lists)  # jute.maxbuffer

    def __init__(self, zookeeper: ZooKeeper, *, follows: bool = True) -> None:
        """``follows``: changes are to be followed, so that a session is kept for the next read."""
        self._zookeeper = zookeeper
        self._follows = follows
        self._replica = Replica()
        self._zxid = 0
        self._lock = threading.Lock()
        """What is read within it is noted in the order in which it was read."""
        self._opening = threading.Lock()
        self._session: Session | None = None
        self._streams: set[ZooKeeperStream] = set()
        self._closed = False

    @property
    def node(self) -> str:
        return self._zookeeper.endpoints.node

    @classmethod
    def open(cls, settings: Settings) -> ZooKeeperStore:
        """Return the store that the settings describe. No traffic yet; raises ``UsageError``."""
        return cls(connect(settings), follows=settings.watch and not settings.onetime)

    def prefixes(self, path: str) -> tuple[str, ...]:
        """Return the path: every node's begins with a slash."""
        return (normalise(path),)

    # --- sessions ----------------------------------------------------------------------------------------------------

    def session(self) -> Session:
        """Return a session that is alive, a new one if need be; raises ``StoreError``."""
        with self._opening:
            session = self._session
            if session is not None and session.is_alive:
                return session
            if session is not None:
                session.close()
            session = self._session = self._zookeeper.session()
            for stream in list(self._streams):
                stream.fail(StoreError("the session ended"))
            session.on_end = self._lose_streams
            if self._closed or not session.is_alive:
                session.close()
                raise StoreError("zookeeper: the store was closed" if self._closed else "the session ended")
            return session

    def _lose_streams(self) -> None:
        for stream in list(self._streams):
            stream.fail(StoreError("the connection was broken", node=self.node))

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:  # noqa: ARG002
        """Read all prefixes; ``counted`` are left out. A prefix with a node that is denied has that as its error."""
        session = self.session()
        try:
            with self._named():
                self._synchronise(session)
                denied = self.walk(session, Walk(minimal(prefixes, lists)), prefixes)
        finally:
            if not self._follows and not self._streams:
                session.close()
        errors = select(prefixes, denied)
        found = self._replica.read(prefixes)
        listings = {}
        for prefix, one in found.listings.items():
            error = next((error for path, error in errors[prefix].items() if lists(prefix, path)), None)
            keys = {key: value for key, value in one.keys.items() if lists(prefix, key)}
            if error is None:
                listings[prefix] = Listing(one.revision, keys)
            else:
                listings[prefix] = Listing(one.revision, error=_about(error, prefix).at(node=self.node))
        return Snapshot(listings)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Let an error of the block name the store and the node."""
        try:
            yield
        except AccessDenied as error:
            raise error.at(node=self.node) from None
        except StoreError as error:
            if not error.message.startswith("zookeeper: "):
                error.message = f"zookeeper: {error.message}"
            raise error.at(node=self.node) from None

    def _synchronise(self, session: Session) -> None:
        """See the newest transaction; what is known of an ensemble that was further on is worth nothing."""
        with self._lock:
            zxid = session.synchronise()
            if zxid < self._zxid:
                self._replica.start_over(revision=zxid)
            self._zxid = zxid
            self._replica.advance(zxid)

    def walk(self, session: Session, walk: Walk, below: Iterable[str]) -> dict[str, StoreError]:
        """Read nodes with all that is below them into the replica, and take those that are gone from it.

        ``below``: where nodes that the walk does not meet are gone. Return those that cannot be read, with why.
        """
        end = time.monotonic() + READ_TIMES * self._zookeeper.endpoints.read_timeout
        denied: dict[str, StoreError] = {}
        below = tuple(below)
        while walk:
            with self._lock:
                walked = walk.step(session)
                self._replica.update(walked.keys, at_least=session.zxid)
            denied |= walked.denied
            if time.monotonic() > end:
                limit = READ_TIMES * self._zookeeper.endpoints.read_timeout
                raise StoreError(f"not all was read within {limit:g} s", hint="let resources name fewer keys")
        known = self._replica.keys(below) if below else []  # it goes through all of them
        if missed := [path for path in known if path not in walk.seen and any(lists(one, path) for one in below)]:
            # Gone, or made after its parent was asked.
            return denied | self.walk(session, Walk(missed, walk.watch, seen=walk.seen), ())
        return denied

    def poll(self, prefixes: Sequence[str]) -> PrefixStatus | None:
        """Return what the streams have seen, if they follow the prefixes and the server confirms the session.

        ZooKeeper tells of every change as long as a session lasts; None if only a read can tell.
        """
        streams = [stream for stream in list(self._streams) if stream.is_in_step]
        if not all(any(stream.follows(prefix) for stream in streams) for prefix in prefixes):
            return None
        session = self.session()
        with self._named():
            zxid = session.synchronise()
        if zxid < self._zxid or not any(stream.session is session for stream in streams):
            return None
        return self._replica.status(prefixes)

    # --- following ---------------------------------------------------------------------------------------------------

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> ZooKeeperStream:
        """Follow every prefix; returns when all watches are set."""
        session = self.session()
        stream = ZooKeeperStream(self, session, self._replica, tuple(cursors))
        self._streams.add(stream)
        try:
            with self._named():
                self._synchronise(session)
                stream.open(cursors, identity)
        except BaseException:
            stream.close()
            raise
        if self._closed:  # it did not see the stream
            stream.close()
        return stream

    def forget(self, stream: ZooKeeperStream) -> None:
        """A stream has ended."""
        self._streams.discard(stream)

    def close(self) -> None:
        """End the session and every connection; waiting calls raise ``StoreError``, iterations end."""
        self._closed = True
        for stream in list(self._streams):
            stream.close()
        session = self._session
        if session is not None and session.is_alive and not session.is_waiting:
            session.close()
        self._zookeeper.close()
        if session is not None:
            session.close()


class ZooKeeperStream:
    """Keeps the replica in step with some prefixes, on a thread of its own, and yields what is new."""

    def __init__(self, store: ZooKeeperStore, session: Session, replica: Replica, prefixes: tuple[str, ...]) -> None:
        self.session = session
        self._store = store
        self._replica = replica
        self._prefixes = prefixes
        self._events: SimpleQueue[WatchedEvent | None] = SimpleQueue()
        self._watch: ReplicaWatch | None = None
        self._watched: set[str] = set()
        self._closed = False
        self.is_in_step = False
        """Whether all watches are set, and no change is known that is not in the replica yet."""

    def follows(self, prefix: str) -> bool:
        """Whether it brings the changes of a prefix."""
        return any(lists(one, prefix) for one in self._prefixes)

    def open(self, cursors: Mapping[str, int], identity: str) -> None:
        """Set the watches and begin at the cursors; raises ``StoreError``."""
        self._watch = self._replica.watch(cursors, identity)
        self._read(minimal(self._prefixes, lists), self._prefixes)
        self.is_in_step = True
        threading.Thread(target=self._run, name="confpy-zookeeper", daemon=True).start()

    def _read(self, paths: Iterable[str], below: Iterable[str]) -> None:
        """Read nodes, with those below them that are new, and watch them; raises ``AccessDenied`` with the prefix."""
        walk = Walk(paths, self._note, seen=self._watched, roots=self._prefixes)
        denied = self._store.walk(self.session, walk, below)
        for path, error in denied.items():
            for prefix in self._prefixes:
                if lists(prefix, path):
                    raise _about(error, prefix)

    def _note(self, event: WatchedEvent) -> None:
        """Take an event, on a thread of kazoo's."""
        self.is_in_step = False
        self._events.put(event)

    def __iter__(self) -> Iterator[Changes]:
        """Yield until ``close``; raises ``WatchLost`` or ``StoreError`` after the changes before it."""
        assert self._watch is not None
        return iter(self._watch)

    def _run(self) -> None:
        try:
            while not self._closed:
                events = [self._events.get()]
                with suppress(Empty):
                    while True:
                        events.append(self._events.get_nowait())
                paths = {event.path for event in events if event is not None and event.path}
                if not paths or self._closed:
                    continue
                self._read(paths, ())
                self.is_in_step = self._events.empty()
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream must not stop unnoticed
            failure = error if isinstance(error, ConfpyError) else bug(error)
            self.fail(failure if isinstance(failure, StoreError) else failure.copy(StoreError))

    def fail(self, error: StoreError) -> None:
        """Let the iteration raise ``error`` after the changes before it. Any thread."""
        if self._watch is not None:
            self._replica.fail(self._watch, error)

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        self._closed = True
        self.is_in_step = False
        self._events.put(None)
        if self._watch is not None:
            self._watch.close()
        self._store.forget(self)


def _about(error: StoreError, prefix: str) -> AccessDenied:
    return AccessDenied(error.message, hint=error.hint, prefix=prefix, **error.where)
