"""Following an engine: one thread reads its events, another one reads again what they are about.

The first one is always ready, since Docker drops events that nobody takes in time. What an event is about is read at
once, and twice more a little later: Docker announces that a container ended, was paused or was connected to a network
before its list has it. Changes that come in a burst share a request.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from confpy.errors import StoreError
from confpy.http.body import Lines
from confpy.stores.docker.api import Events, as_store_error
from confpy.stores.docker.wire import Event, event

AGAIN = (0.1, 2.0)
"""Seconds after an event at which what it is about is read again."""
PACE = 0.05
"""The least number of seconds between two requests; and no less than the previous one took."""
TOGETHER = 0.02
"""Seconds that a read may come early to share the request of another one."""
MOST_IDS = 64
"""Containers that are asked for by their ids; where there are more, all are read."""
LINE_BYTES = 1 << 20
"""The longest line of an event: it has all labels of its container."""
ENDED = frozenset({"die", "died"})


class Following:
    """The events of an engine, until they end or ``close``."""

    def __init__(
        self,
        events: Events,
        refresh: Callable[[Collection[str] | None], None],
        bury: Callable[[Event], None],
        ended: Callable[[Following], None],
    ) -> None:
        """``refresh`` reads the containers with some ids, or all; ``bury`` takes it that one has ended."""
        self.failure: StoreError | None = None
        """Why it ended."""
        self._events = events
        self._refresh = refresh
        self._bury = bury
        self._ended = ended
        self._changed = threading.Condition()
        self._due: dict[str, tuple[float, float, int]] = {}
        """Id → when to read it next; when the event came; how often it was read since."""
        self._closed = False

    def start(self) -> None:
        """Start the threads."""
        for name, work in (("events", self._listen), ("reads", self._read)):
            threading.Thread(target=self._run, args=[work], name=f"confpy-docker-{name}", daemon=True).start()

    @property
    def is_over(self) -> bool:
        """Whether it brings nothing any more."""
        return self._closed or self.failure is not None

    def close(self) -> None:
        """End it. Any thread, any number of times."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._events.close()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, the stream must not stop unnoticed
            failure = as_store_error(error)
            with self._changed:
                if not self._closed:
                    self.failure = self.failure or failure
                self._changed.notify_all()
        self._events.close()
        self._ended(self)

    def _listen(self) -> None:
        stream, lines = self._events.open(), Lines(LINE_BYTES)
        while (data := stream.read()) is not None:
            found = [one for one in map(event, lines.feed(data)) if one is not None]
            # Of several about one container only the last one says how it is now.
            for one in {one.container: one for one in found}.values():
                self._bury(one)
            if found:
                now = time.monotonic()
                with self._changed:
                    self._due |= {one.container: (now, now, 0) for one in found}
                    self._changed.notify_all()
        raise StoreError("the engine ended the stream of events", hint="does it run, or was it restarted?")

    def _read(self) -> None:
        not_before = 0.0
        while (ids := self._next(not_before)) is not None:
            began = time.monotonic()
            if ids:
                self._refresh(ids if len(ids) <= MOST_IDS else None)
            now = time.monotonic()
            not_before = now + max(PACE, now - began)

    def _next(self, not_before: float) -> list[str] | None:
        """Wait until containers are to be read; return their ids, None at the end."""
        with self._changed:
            while not self.is_over:
                now = time.monotonic()
                at = max(not_before, min((due for due, _, _ in self._due.values()), default=now + 3600))
                if now >= at:
                    return self._take(now)
                self._changed.wait(at - now)
        return None

    def _take(self, now: float) -> list[str]:
        """Return the ids that are due, and note when they are read again."""
        ids = [one for one, (due, _, _) in self._due.items() if due <= now + TOGETHER]
        for one in ids:
            _, came, times = self._due.pop(one)
            if times < len(AGAIN):
                self._due[one] = max(came + AGAIN[times], now + TOGETHER), came, times + 1
        return ids
