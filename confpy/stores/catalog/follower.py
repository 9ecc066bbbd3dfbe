"""What keeps the catalogue up to date while something follows it: blocking queries, on a handful of connections.

A few services have a blocking query each, which the agent answers from its own copy. For more than that, or for all,
two queries tell that something changed: the list of all services, and that of all checks that do not pass. Then the
services that these say to be different are asked about. Neither list shows a service that was registered again with
another port, or a further instance of one: so whenever the first one moved, there is a *sweep* as well. It looks at
what each node has, one after the other, or if there are more nodes than services, asks about each service.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from confpy.clock import NEVER, jittered
from confpy.errors import ConfpyError, StoreError, bug
from confpy.stores.catalog.api import Api, Names
from confpy.stores.catalog.instances import can_be_asked
from confpy.stores.catalog.reader import Reader

FEW = 12
"""The most services that have a blocking query each. With a read, a poll and the opening of the next stream beside
them, there are never more than 16 connections: Consul refuses a client that has many."""
WORKERS = 6
"""How many services are asked about at the same time if there are more."""
WAIT = 20.0
"""Seconds that a query waits for a change of a service: so late does an agent that lost its servers show."""
LONG_WAIT = 60.0
"""The same for the two lists. The leader answers them."""
TOUCHED_WAIT = 1.0
"""Seconds for which the agent may be behind the servers when a service is known to have changed."""
TRIES = 3
"""How many times in a row that is tried."""
PAUSES = 0.1, 0.5
"""Seconds between two queries for a service if the first brought nothing new: at first, and when that goes on."""
SWEEP_RATE = 100.0
"""How many nodes a sweep looks at in a second, or services it asks about, at most."""


class _Work(NamedTuple):
    """Something to ask about."""

    name: str
    """A service; of a sweep by nodes, a node."""
    is_node: bool = False
    wait: float = 0.0
    """Seconds to wait for a change."""
    reached: int = 0
    """The index that it is known to have reached."""
    tries: int = 0
    """How many times it was asked about for that already."""


class Follower:
    """The threads that follow some services, or all."""

    def __init__(
        self,
        reader: Reader,
        connect: Callable[[], Api],
        names: frozenset[str] | None,
        fail: Callable[[Follower, StoreError], None],
    ) -> None:
        """``names``: the services to follow; None: all. ``fail`` is called when a query failed, from its thread."""
        self.names = names
        self._reader = reader
        self._connect = connect
        self._fail = fail
        self._random = random.Random()
        self._changed = threading.Condition()
        self._apis: set[Api] = set()
        self._closed = threading.Event()
        self._touched: dict[str, _Work] = {}
        """Services to be asked about next."""
        self._sweep: list[_Work] = []
        self._next_sweep: list[_Work] = []
        self._swept_at = -NEVER
        self._busy: set[str] = set()

    @property
    def is_few(self) -> bool:
        return self.names is not None and len(self.names) <= FEW

    def start(self) -> None:
        """Start the threads."""
        if self.is_few:
            for name in sorted(self.names or ()):
                self._start(lambda api, name=name: self._follow_one(api, name))  # type: ignore[misc]
            return
        self._start(self._follow_names)
        self._start(self._follow_checks)
        for _ in range(WORKERS):
            self._start(self._serve)

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        with self._changed:
            self._closed.set()
            self._changed.notify_all()
            apis = list(self._apis)
        for api in apis:
            api.close()

    def _start(self, follow: Callable[[Api], None]) -> None:
        threading.Thread(target=self._run, args=[follow], name="confpy-catalog", daemon=True).start()

    def _run(self, follow: Callable[[Api], None]) -> None:
        api = None
        try:
            api = self._connect()
            with self._changed:
                self._apis.add(api)
            follow(api)
        except Exception as error:  # noqa: BLE001 - whatever it is, the streams must not stop unnoticed
            failure = error if isinstance(error, ConfpyError) else bug(error)
            if not self._closed.is_set():
                self._fail(self, failure if isinstance(failure, StoreError) else failure.copy(StoreError))
        finally:
            if api is not None:
                api.close()
                with self._changed:
                    self._apis.discard(api)

    # --- a query for each service ------------------------------------------------------------------------------------

    def _follow_one(self, api: Api, name: str) -> None:
        shortest, longest = PAUSES
        pause = 0.0
        while not self._closed.is_set():
            began = time.monotonic()
            is_new = self._reader.ask(api, name, wait=jittered(WAIT, self._random))
            # The index moves for other reasons, too: queries without a pause would never end.
            is_idle = is_new or time.monotonic() - began > longest
            pause = 0.0 if is_idle else min(max(2 * pause, shortest), longest)
            self._closed.wait(jittered(pause, self._random))

    # --- two lists that tell what to ask about -----------------------------------------------------------------------

    def _follow_names(self, api: Api) -> None:
        index = since = self._reader.names.index if self._reader.names is not None else 0
        pause = 0.0
        while not self._closed.is_set():
            began, wait = time.monotonic(), jittered(LONG_WAIT, self._random)
            names = api.names(since, wait)
            if names.index < index:
                self._reader.distrust_copies()
            touched = self._works(dict.fromkeys(self._reader.take_names(names), 0))
            self._reader.say_unaskable(work.name for work in touched if not can_be_asked(work.name))
            self._reader.forget_gone()
            self._put(touched)
            if names.index != index:
                self._begin_sweep(api, names)
            since, index = _next_index(since, names.index, time.monotonic() - began < wait / 2), names.index
            pause = self._pause(pause, len(names.tags), is_new=bool(touched))

    def _follow_checks(self, api: Api) -> None:
        since, pause = 0, 0.0
        while not self._closed.is_set():
            began, wait = time.monotonic(), jittered(LONG_WAIT, self._random)
            unwell = api.unwell(since, wait)
            touched = self._works(dict.fromkeys(self._reader.take_unwell(unwell), 0))
            self._put(touched)
            since = _next_index(since, unwell.index, time.monotonic() - began < wait / 2)
            names = self._reader.names
            pause = self._pause(pause, len(names.tags) if names is not None else 0, is_new=bool(touched))

    def _pause(self, before: float, services: int, *, is_new: bool) -> float:
        """Wait between two queries of a list, longer where that is large or moves for others; returns how long."""
        least = min(max(services / 5000, 0.1), 1.0)
        most = min(max(services / 1000, 0.5), 10.0)
        pause = least if is_new else min(max(2 * before, least), most)
        self._closed.wait(jittered(pause, self._random))
        return pause

    def _chosen(self, names: Iterable[str]) -> list[str]:
        return [name for name in names if self.names is None or name in self.names]

    def _works(self, touched: Mapping[str, int]) -> list[_Work]:
        """Return what to ask about services, of which each has reached an index."""
        return [_Work(name, wait=TOUCHED_WAIT, reached=touched[name]) for name in self._chosen(touched)]

    # --- asking about services ---------------------------------------------------------------------------------------

    def _put(self, services: Iterable[_Work]) -> None:
        with self._changed:
            self._touched |= {work.name: work for work in services}
            self._changed.notify_all()

    def _begin_sweep(self, api: Api, names: Names) -> None:
        """Look at every node or service, after the sweep that is under way."""
        followed = self._chosen(names.tags)
        nodes = api.nodes()
        self._put(self._works(dict.fromkeys(self._reader.take_nodes(nodes), 0)))
        by_node = len(nodes) <= len(followed) and all(map(can_be_asked, nodes))
        sweep = [_Work(name, is_node=by_node) for name in (nodes if by_node else followed)]
        with self._changed:
            self._next_sweep = sweep
            self._changed.notify_all()

    def _serve(self, api: Api) -> None:
        while (work := self._next()) is not None:
            if work.is_node:
                self._put(self._works(self._reader.differing_on(work.name, api.node(work.name))))
                continue
            try:
                self._reader.ask(api, work.name, wait=work.wait)
            finally:
                with self._changed:
                    self._busy.discard(work.name)
            if work.tries < TRIES and self._reader.is_behind(work.name, work.reached):
                with self._changed:
                    again = work._replace(wait=TOUCHED_WAIT, tries=work.tries + 1)
                    self._touched.setdefault(work.name, again)
                    self._changed.notify()

    def _next(self) -> _Work | None:
        """Return what to ask about; waits for it, and returns None at the end."""
        with self._changed:
            while not self._closed.is_set():
                touched = next((name for name in self._touched if name not in self._busy), None)
                if touched is not None:
                    self._busy.add(touched)
                    return self._touched.pop(touched)
                if not self._sweep:
                    self._sweep, self._next_sweep = self._next_sweep, []
                now = time.monotonic()
                due = self._swept_at + 1 / SWEEP_RATE if self._sweep else NEVER
                if now >= due:
                    self._swept_at = now
                    work = self._sweep.pop()
                    if not work.is_node and work.name in self._busy:
                        continue  # it is being asked about
                    if not work.is_node:
                        self._busy.add(work.name)
                    return work
                self._changed.wait(None if due == NEVER else due - now)
        return None


def _next_index(asked: int, answered: int, early: bool) -> int:
    """Return the index to wait from next; 0 for an answer at once.

    Servers that are restored from a snapshot end a query at once, with their previous content; one that went on from
    there would wait for an index that they do not reach.
    """
    return 0 if early and answered == asked else answered
