"""Blocking queries that follow Consul: each on a thread of its own."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from confpy.clock import jittered
from confpy.errors import AccessDenied, ConfpyError, StoreError, WatchLost, bug
from confpy.http.body import TooLarge
from confpy.keys.snapshot import Changes
from confpy.stores.consul.api import Api
from confpy.stores.consul.wire import QUERIES, BlockingQuery

WAIT = 60.0
"""Seconds that a query waits for a change. Consul counts the connection of an abandoned query until they are over, and
rejects an address that has 200 (``http_max_conns_per_client``)."""
TURN = 2.0
"""The same if several queries share a thread and take turns."""
PACE = 1.1
"""Seconds from one query to the next, give or take a tenth, if the first brought nothing new."""


class ConsulStream:
    """Changes from blocking queries, each on a thread of its own; merged until they are taken."""

    def __init__(
        self,
        queries: Sequence[BlockingQuery],
        connect: Callable[[], Api],
        record: Callable[[str, int, Sequence[Changes]], None],
        deny: Callable[[str, Iterable[str], StoreError], None],
        ended: Callable[[ConsulStream], None],
    ) -> None:
        self._turns = [queries[number::QUERIES] for number in range(min(QUERIES, len(queries)))]
        self._connect = connect
        self._record = record
        self._deny = deny
        self._ended = ended
        self._random = random.Random()
        self._changed = threading.Condition()
        self._pending: dict[str, Changes] = {}
        self._apis: set[Api] = set()
        self._failure: StoreError | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Start the threads."""
        for number, turns in enumerate(self._turns):
            threading.Thread(target=self._follow, args=[turns], name=f"confpy-consul-{number}", daemon=True).start()

    def __iter__(self) -> Iterator[Changes]:
        """Yield until ``close``; raises ``WatchLost`` or ``StoreError`` after the changes before it."""
        while True:
            with self._changed:
                while not (self._pending or self._failure or self._closed.is_set()):
                    self._changed.wait()
                if self._closed.is_set():
                    return
                pending, self._pending = self._pending, {}
                failure = self._failure
            yield from pending.values()
            if failure is not None and not pending:
                self.close()
                raise failure

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
            apis = list(self._apis)
        for api in apis:
            api.close()
        self._ended(self)

    def _follow(self, turns: Sequence[BlockingQuery]) -> None:
        api = None
        try:
            api = self._connect()
            with self._changed:
                self._apis.add(api)
            while not self._closed.is_set():
                for blocking in turns:
                    self._query(api, blocking, WAIT if len(turns) == 1 else TURN)
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream must not stop unnoticed
            failure = error if isinstance(error, ConfpyError) else bug(error)
            self.fail(failure if isinstance(failure, StoreError) else failure.copy(StoreError))
        finally:
            if api is not None:
                api.close()
                with self._changed:
                    self._apis.discard(api)

    def _query(self, api: Api, blocking: BlockingQuery, wait: float) -> None:
        began = time.monotonic()
        since, wait = blocking.since, jittered(wait, self._random)
        try:
            answer = api.follow(blocking.query, since, wait, blocking.last)
        except (AccessDenied, TooLarge) as error:
            self._deny(blocking.query, blocking.prefixes, error)
            raise error.copy(WatchLost) from error
        news = blocking.take(answer, early=since > 0 and time.monotonic() - began < wait / 2)
        self._record(blocking.query, answer.at, news)
        with self._changed:
            for changes in news:
                before = self._pending.get(changes.prefix)
                keys = {**before.keys, **changes.keys} if before else changes.keys
                self._pending[changes.prefix] = Changes(changes.prefix, changes.revision, keys)
            self._changed.notify_all()
        if not news:
            # The index moves for other keys, too: queries without a pause would never end.
            self._closed.wait(max(0.0, began + jittered(PACE, self._random) - time.monotonic()))

    def fail(self, error: StoreError) -> None:
        """Let the iteration raise ``error`` after the changes before it."""
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()
