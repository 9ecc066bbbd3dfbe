"""Redis: strings and hashes, read by SCAN and followed by keyspace notifications, or by looking again and again.

Redis has no revisions: ``Replica`` gives the differences between what was read some. ``docs/stores/redis.md`` is the
contract.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from confpy.clock import jittered
from confpy.errors import AccessDenied, ConfpyError, StoreError, UsageError, WatchLost, bug
from confpy.events import LogEvent
from confpy.keys.capabilities import Capabilities
from confpy.keys.snapshot import Changes, Listing, Snapshot
from confpy.stores.redis.client import RedisClient, Session, bulk, connect
from confpy.stores.redis.contents import NOTIFICATIONS, Contents, Names, Wanted
from confpy.stores.redis.reading import BATCH, VALUE_BYTES, Server, encoded, examine, fetch, scan
from confpy.stores.replica import Replica, ReplicaWatch

if TYPE_CHECKING:
    from confpy.config.settings import Settings

POLL = 10.0
"""Seconds between looks at a server that sends no notifications."""
SHARE = 20
"""How many times longer than a look the pause after it is at least."""
READ_TIMES = 30
"""How many times the timeout of one answer a read may take in total."""
DRAINED = 1000
"""Notifications that are taken together at most."""


class RedisStore:
    """The strings and hashes of a Redis, behind ``confpy.stores.Store``."""

    capabilities = Capabilities(remote=True, value_bytes=VALUE_BYTES, binary_keys=True, watches=True)

    def __init__(self, client: RedisClient, names: Names, *, follows: bool = True) -> None:
        """``follows``: changes are to be followed, so that a read also says whether that is possible."""
        self._client = client
        self._names = names
        self._follows = follows
        self._replica = Replica(revision=int(time.time() * 1000))  # above those of an earlier process
        self._contents = Contents()
        self._lock = threading.Lock()
        """What is read within it is noted in the order in which it was read."""
        self._seen_types: set[str] = set()
        self._notifies: bool | None = True
        self._notes: list[LogEvent] = []
        self._streams: set[RedisStream] = set()
        self._closed = False

    @property
    def node(self) -> str:
        return self._client.endpoints.node

    @classmethod
    def open(cls, settings: Settings) -> RedisStore:
        """Return the store that the settings describe. No traffic yet; raises ``UsageError``."""
        if not settings.separator:
            raise UsageError("the separator is empty", hint="leave it out, or give what stands between parts of keys")
        return cls(connect(settings), Names(settings.separator), follows=settings.watch and not settings.onetime)

    def prefixes(self, path: str) -> tuple[str, ...]:
        return self._names.prefixes(path)

    def poll(self, prefixes: Sequence[str]) -> None:  # noqa: ARG002
        """Return None: only a read can tell."""
        return

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self, prefixes: Sequence[str], counted: Sequence[str] = ()) -> Snapshot:  # noqa: ARG002
        """Read all prefixes; ``counted`` are left out. A prefix with a key that is denied has that as its error."""
        return self._client.call(lambda session: self._read(session, prefixes))

    def _read(self, session: Session, prefixes: Sequence[str]) -> Snapshot:
        server = examine(session)
        self._meet(server)
        if self._follows:
            self._note_notifications(server.notifies)
        wanted = Wanted(prefixes)
        denied = self.refresh(session, wanted)
        errors: dict[str, StoreError] = {}
        for key, error in denied.items():
            for prefix in wanted.of(key):
                errors.setdefault(prefix, _about(error, prefix).at(node=session.connection.node.url))
        found = self._replica.read(prefixes)
        listings = {
            prefix: Listing(one.revision, error=errors[prefix]) if prefix in errors else one
            for prefix, one in found.listings.items()
        }
        with self._lock:
            notes, self._notes = tuple(self._notes), []
        return Snapshot(listings, found.identity, notes=notes)

    def _meet(self, server: Server) -> None:
        """Compare the server with the one that is known: with another history, nothing of that is worth anything."""
        with self._lock:
            known = self._replica.identity
            if not server.identity or server.identity == known:
                return
            if known and known == server.previous:  # a replica that was promoted goes on with the same keys
                return
            self._contents.clear()
            self._replica.start_over(identity=server.identity, revision=self._replica.revision)

    def check(self, server: Server) -> None:
        """Raise ``WatchLost`` unless the server is the one that was read."""
        if server.identity not in ("", self._replica.identity) and server.previous != self._replica.identity:
            raise WatchLost("the server is another one than before")

    def refresh(self, session: Session, wanted: Wanted) -> dict[str, StoreError]:
        """Read all names that matter into the replica; return the keys that cannot be read, with why."""
        end = time.monotonic() + READ_TIMES * self._client.endpoints.read_timeout
        seen: set[str] = set()
        denied: dict[str, StoreError] = {}
        self.take(session, wanted, wanted.above)
        for found in scan(session, self._names.pattern(wanted.prefixes)):
            keys = {key for name in found if (key := self._names.key(name)) is not None and wanted.covers(key)}
            denied |= self.take(session, wanted, keys - seen)
            seen |= keys
            if time.monotonic() > end:
                hint = "SCAN looks at every key of the database: give confpy's keys a database of their own"
                raise StoreError(f"not all was read within {READ_TIMES * self._client.endpoints.read_timeout:g} s",
                                 hint=hint)  # fmt: skip
        with self._lock:
            gone = [key for key in self._contents if key not in seen and wanted.covers(key)]
        # SCAN misses what was there for a part of the time only.
        return denied | self.take(session, wanted, gone)

    def take(self, session: Session, wanted: Wanted, keys: Iterable[str]) -> dict[str, StoreError]:
        """Read what the names of these keys hold into the replica; return those that cannot be read, with why."""
        denied: dict[str, StoreError] = {}
        for batch in _batches(keys):
            with self._lock:
                holding = fetch(session, self._names, batch)
                changed: dict[str, str | None] = {}
                for key, found in holding.found.items():
                    if key not in holding.denied and not (isinstance(found, str) and not wanted.covers(key)):
                        changed |= self._contents.take(key, found)
                self._replica.update(changed)
                for key, kind in holding.others.items():
                    self._note_type(key, kind)
            denied |= holding.denied
        return denied

    # --- what is logged ----------------------------------------------------------------------------------------------

    def _note_type(self, key: str, kind: str) -> None:
        """Note, once per type, that a key is of one that has no keys here."""
        if kind not in self._seen_types and len(self._seen_types) < DRAINED:
            self._seen_types.add(kind)
            fields = {
                "key": key,
                "type": kind,
                "did": "leaves out keys of this type",
                "hint": "confpy reads strings and hashes",
            }
            self._notes.append(LogEvent("warning", "key.ignored", fields))

    def _note_notifications(self, sends: bool | None) -> None:
        with self._lock:
            if sends == self._notifies:
                return
            self._notifies = sends
            if sends is False:
                wanted = "K" + "".join(sorted(NOTIFICATIONS))
                reason, hint = (
                    "the server sends no notifications of all changes",
                    f"CONFIG SET notify-keyspace-events {wanted}",
                )
                self._notes.append(_unwatched(reason, hint, f"looks every {POLL:g} s"))
            elif sends is None:
                reason, hint = "the server does not say whether it sends notifications", "let the user call CONFIG GET"
                self._notes.append(_unwatched(reason, hint, f"looks every {POLL:g} s until the first one comes"))

    # --- following ---------------------------------------------------------------------------------------------------

    def watch(self, cursors: Mapping[str, int], identity: str = "") -> RedisStream:
        """Follow every prefix; returns when Redis has confirmed the subscriptions, or is known to send nothing."""
        stream = RedisStream(self, self._client, self._names, Wanted(cursors))
        try:
            stream.open()
            stream.follow(self._replica, cursors, identity)
            with self._lock:
                self._streams.add(stream)
        except BaseException:
            stream.close()
            raise
        if self._closed:  # it did not see the stream
            stream.close()
        stream.start()
        return stream

    def forget(self, stream: RedisStream) -> None:
        """A stream has ended."""
        with self._lock:
            self._streams.discard(stream)

    def close(self) -> None:
        """Abort every connection; waiting calls raise ``StoreError``, iterations end."""
        self._client.close()
        self._closed = True
        for stream in list(self._streams):
            stream.close()


class RedisStream:
    """Keeps the replica in step with some prefixes, on a thread of its own, and yields what is new."""

    def __init__(self, store: RedisStore, client: RedisClient, names: Names, wanted: Wanted) -> None:
        self._store = store
        self._client = client
        self._names = names
        self._wanted = wanted
        self._channel = f"__keyspace@{client.database}__:"
        self._subscribed: Session | None = None
        self._commands: Session | None = None
        self._polls = False
        self._sends: bool | None = None
        self._closed = threading.Event()
        self._random = random.Random()
        self._watch: ReplicaWatch | None = None
        self._replica: Replica | None = None

    def open(self) -> None:
        """Subscribe, where that is of use; raises ``StoreError``."""
        self._commands = self._client.call(self._checked, stays_open=True)
        if self._sends is not False:
            self._subscribed = self._client.call(self._subscribe, stays_open=True)
        self._polls = self._subscribed is None or self._sends is None

    def _checked(self, session: Session) -> Session:
        server = examine(session)
        self._store.check(server)
        self._sends = server.notifies
        return session

    def _subscribe(self, session: Session) -> Session:
        patterns = self._names.patterns(self._wanted.prefixes)
        above = [encoded(self._channel + self._names.name(key)) for key in sorted(self._wanted.above)]
        commands: list[tuple[str | bytes | int, ...]]
        commands = [("PSUBSCRIBE", encoded(self._channel + one)) for one in patterns]
        commands += [("SUBSCRIBE", name) for name in above]
        session.send(*commands)
        for _ in commands:
            session.receive()
        return session

    def follow(self, replica: Replica, cursors: Mapping[str, int], identity: str) -> None:
        """Begin at the cursors; raises ``WatchLost``."""
        self._replica = replica
        self._watch = replica.watch(cursors, identity)

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="confpy-redis", daemon=True).start()

    def __iter__(self) -> Iterator[Changes]:
        """Yield until ``close``; raises ``WatchLost`` or ``StoreError`` after the changes before it."""
        assert self._watch is not None
        return iter(self._watch)

    def _run(self) -> None:
        assert self._watch is not None
        assert self._replica is not None
        try:
            took = self._refresh()
            while not self._closed.is_set():
                if self._polls:
                    self._wait(max(POLL, SHARE * took))
                    took = self._refresh()
                else:
                    self._receive()
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream must not stop unnoticed
            failure = error if isinstance(error, ConfpyError) else bug(error)
            failure = failure if isinstance(failure, StoreError) else failure.copy(StoreError)
            self._replica.fail(self._watch, failure)

    def _refresh(self) -> float:
        began = time.monotonic()
        self._raise(self._store.refresh(self._session(), self._wanted))
        return time.monotonic() - began

    def _wait(self, seconds: float) -> None:
        """Wait before the next look; a notification shows that there is no need for one."""
        end = time.monotonic() + jittered(seconds, self._random)
        if self._subscribed is None:
            self._closed.wait(end - time.monotonic())
            return
        while not self._closed.wait(min(0.2, max(0.0, end - time.monotonic()))) and time.monotonic() < end:
            if self._subscribed.arrived():
                self._receive()
                self._polls = False
                return

    def _receive(self) -> None:
        """Take the notifications that have arrived, waiting if none has, and read what they are about."""
        assert self._subscribed is not None
        keys: set[str] = set()
        count = 0
        while count == 0 or (count < DRAINED and self._subscribed.arrived()):
            message = self._subscribed.receive(waits=True)
            count += 1
            if isinstance(message, list) and message and message[0] in (b"message", b"pmessage"):
                name = bulk(message[-2]).removeprefix(self._channel)
                key = self._names.key(name)
                if key is not None and key in self._wanted:
                    keys.add(key)
        if keys:
            denied = self._store.take(self._session(), self._wanted, keys)
            self._raise({key: error for key, error in denied.items() if self._wanted.covers(key)})

    def _raise(self, denied: Mapping[str, StoreError]) -> None:
        for key, error in denied.items():
            for prefix in self._wanted.of(key):
                raise _about(error, prefix)

    def _session(self) -> Session:
        """Return the connection for commands, a new one if the server has ended it: it may be idle for days."""
        session = self._commands
        if session is None or session.arrived():
            if session is not None:
                session.close()
            session = self._commands = self._client.call(self._checked, stays_open=True)
            if self._closed.is_set():
                session.close()
        return session

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        self._closed.set()
        if self._watch is not None:
            self._watch.close()
        for session in (self._subscribed, self._commands):
            if session is not None:
                session.close()
        self._store.forget(self)


def _about(error: StoreError, prefix: str) -> AccessDenied:
    return AccessDenied(error.message, hint=error.hint, prefix=prefix, **error.where)


def _batches(keys: Iterable[str]) -> Iterator[list[str]]:
    ordered = sorted(keys)
    return (ordered[start : start + BATCH] for start in range(0, len(ordered), BATCH))


def _unwatched(reason: str, hint: str, did: str) -> LogEvent:
    return LogEvent("warning", "store.unwatched", {"error": reason, "hint": hint, "did": did})
