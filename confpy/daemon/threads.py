"""The threads of the daemon: one per job and per stream. They post messages to the inbox.

None of them touches the agent's state. They end with the process: what they leave half done is recovered at the next
start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from confpy.daemon.jobs import Failed, Job, store_error
from confpy.errors import ConfpyError, StoreError, WatchLost, bug
from confpy.frozen import define
from confpy.messages import Changed, Lost, Message, Opened, Watch
from confpy.stores import Store, WatchStream

UNREAD = 256
"""Messages of streams that may wait in the inbox; beyond that the streams wait, and the server with them."""


def start(post: Callable[[Message], None], name: str, job: Job, failed: Failed) -> None:
    """Run a job on a thread of its own, as ``Ports.start``. A job that fails with a bug is answered as well."""

    def work() -> None:
        try:
            message = job()
        except ConfpyError as error:
            message = failed(error)
        except Exception as error:  # noqa: BLE001 - a bug in one job is reported, and stops no other
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


@define
class _Handle:
    """Shared by the main thread and a stream's thread: each writes its own field, then reads the other's."""

    stream: WatchStream | None = None
    closed: bool = False


class Streams:
    """The streams of a store, as ``Ports.streams``. Called by the main thread only."""

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
        """Account for messages that the agent has taken: their streams may go on, or have ended."""
        for message in messages:
            if isinstance(message, Changed):
                self._room.release()
            elif isinstance(message, Lost):
                self._handles.pop(message.stream, None)
