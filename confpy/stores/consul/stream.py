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
from confpy.stores.consul.wire import QUERIES, Following

WAIT = 60.0
"""Seconds that a query waits for a change. Consul counts the connection of an abandoned query until they are over, and
rejects an address that has 200 (``http_max_conns_per_client``)."""
TURN = 2.0
"""The same where several queries have to take turns."""
PACE = 1.1
"""Seconds from one query to the next, give or take a tenth, if the first brought nothing new."""


class ConsulStream:
    """Changes as the queries bring them: each on a thread of its own, put together while nobody takes them."""

    def __init__(
        self,
        followings: Sequence[Following],
        connect: Callable[[], Api],
        note: Callable[[str, int, Sequence[Changes]], None],
        deny: Callable[[str, Iterable[str], StoreError], None],
        ended: Callable[[ConsulStream], None],
    ) -> None:
        self._turns = [followings[number::QUERIES] for number in range(min(QUERIES, len(followings)))]
        self._connect = connect
        self._note = note
        self._deny = deny
        self._ended = ended
        self._random = random.Random()
        self._news = threading.Condition()
        self._pending: dict[str, Changes] = {}
        self._apis: set[Api] = set()
        self._failure: StoreError | None = None
        self._closed = threading.Event()

    def start(self) -> None:
        """Begin to ask."""
        for number, turns in enumerate(self._turns):
            threading.Thread(target=self._follow, args=[turns], name=f"confpy-consul-{number}", daemon=True).start()

    def __iter__(self) -> Iterator[Changes]:
        """Yield until ``close``; raises ``WatchLost`` or ``StoreError`` after what came before it."""
        while True:
            with self._news:
                while not (self._pending or self._failure or self._closed.is_set()):
                    self._news.wait()
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
        with self._news:
            self._closed.set()
            self._news.notify_all()
            apis = list(self._apis)
        for api in apis:
            api.close()
        self._ended(self)

    def _follow(self, turns: Sequence[Following]) -> None:
        api = None
        try:
            api = self._connect()
            with self._news:
                self._apis.add(api)
            while not self._closed.is_set():
                for following in turns:
                    self._ask(api, following, WAIT if len(turns) == 1 else TURN)
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream does not stand still unseen
            told = error if isinstance(error, ConfpyError) else bug(error)
            self.fail(told if isinstance(told, StoreError) else told.copy(StoreError))
        finally:
            if api is not None:
                api.close()
                with self._news:
                    self._apis.discard(api)

    def _ask(self, api: Api, following: Following, wait: float) -> None:
        began = time.monotonic()
        since, wait = following.since, jittered(wait, self._random)
        try:
            answer = api.ask(following.query, since, wait)
        except (AccessDenied, TooLarge) as error:
            self._deny(following.query, following.prefixes, error)
            raise error.copy(WatchLost) from error
        news = following.take(answer, early=since > 0 and time.monotonic() - began < wait / 2)
        self._note(following.query, answer.at, news)
        with self._news:
            for changes in news:
                before = self._pending.get(changes.prefix)
                keys = {**before.keys, **changes.keys} if before else changes.keys
                self._pending[changes.prefix] = Changes(changes.prefix, changes.revision, keys)
            self._news.notify_all()
        if not news:
            # The index moves for keys of others, too. It must not make us ask without end.
            self._closed.wait(max(0.0, began + jittered(PACE, self._random) - time.monotonic()))

    def fail(self, error: StoreError) -> None:
        """Let the iteration raise ``error`` after what came before it."""
        with self._news:
            self._failure = self._failure or error
            self._news.notify_all()
