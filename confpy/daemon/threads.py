"""The threads of the daemon: one for each job and each stream. What they bring is posted to the owner's inbox.

None of them touches what the owner holds. They die with the process: what must not be left half done is recovered at
the next start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from confpy.daemon.jobs import Failed, Job, store_error
from confpy.errors import ConfpyError, StoreError, WatchLost, bug
from confpy.messages import Changed, Lost, Message, Opened, Watch
from confpy.stores import Store, WatchStream

UNREAD = 256
"""Deliveries of streams that may wait in the inbox; then the streams wait, and the server with them."""


def start(post: Callable[[Message], None], name: str, job: Job, failed: Failed) -> None:
    """Run a job on a thread, as ``Ports.start``. A bug in it stays inside, and is reported: its answer is awaited."""

    def work() -> None:
        try:
            message = job()
        except ConfpyError as error:
            message = failed(error)
        except Exception as error:  # noqa: BLE001 - a bug stays inside its job, and is reported
            message = failed(bug(error))
        if message is not None:
            post(message)

    try:
        threading.Thread(target=work, name=f"confpy-{name}", daemon=True).start()
    except RuntimeError:
        hint = "raise the limit of threads (ulimit -u, TasksMax, pids.max), or give it memory"
        message = failed(ConfpyError("no thread can be started", hint=hint))
        if message is not None:
            post(message)


@dataclass(slots=True)
class _Handle:
    """What the owner and a stream's thread share: each writes its own field, then reads the other's."""

    stream: WatchStream | None = None
    closed: bool = False


class Streams:
    """The streams of a store. As ``Ports.streams``: for the owner's thread."""

    def __init__(
        self, store: Store, post: Callable[[Message], None], start: Callable[[str, Job, Failed], None]
    ) -> None:
        self._store = store
        self._post = post
        self._start = start
        self._room = threading.BoundedSemaphore(UNREAD)
        self._handles: dict[int, _Handle] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._handles)

    def open(self, action: Watch) -> None:
        handle = self._handles[action.stream] = _Handle()

        def follow() -> Message:
            try:
                handle.stream = self._store.watch(action.cursors, action.identity)
                if not handle.closed:
                    self._post(Opened(action.stream))
                    for changes in handle.stream:
                        self._room.acquire()
                        self._post(Changed(action.stream, changes))
                raise StoreError("the stream ended")
            finally:
                if handle.stream is not None:
                    handle.stream.close()

        self._start(
            f"watch-{action.stream}",
            follow,
            lambda error: Lost(action.stream, store_error(error), isinstance(error, WatchLost)),
        )

    def close(self, stream: int) -> None:
        handle = self._handles.pop(stream, None)
        if handle is None:  # it has ended by itself
            return
        handle.closed = True
        if handle.stream is not None:
            handle.stream.close()

    def note_taken(self, messages: Iterable[Message]) -> None:
        """The agent has taken these: streams may go on, and those that are lost are over."""
        for message in messages:
            if isinstance(message, Changed):
                self._room.release()
            elif isinstance(message, Lost):
                self._handles.pop(message.stream, None)
