"""The threads of the daemon: for jobs and streams. They post messages to the inbox.

None of them touches the agent's state. They end with the process: what they leave half done is recovered at the next
start.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Mapping
from queue import Empty, SimpleQueue
from typing import NamedTuple

from confpy.daemon.jobs import Failed, Job, store_error
from confpy.errors import ConfpyError, StoreError, WatchLost, bug, forget_frames
from confpy.frozen import NOTHING, define
from confpy.messages import Changed, Lost, Message, Opened, Watch
from confpy.stores import OpenStore, WatchStream

UNREAD = 256
"""Messages of streams that may wait in the inbox; beyond that the streams wait, and the server with them."""
IDLE = 100.0
"""Seconds that a thread without a job waits for the next one: longer than from one resync to the next."""
MOST_IDLE = 1
"""Threads that wait for a job at the same time; others end with their job. One is enough for changes that come one
after the other, and after a burst there are no more threads than before."""


class _Task(NamedTuple):
    """A job with what ``Ports.start`` takes for it."""

    name: str
    job: Job
    failed: Failed

    def run(self) -> Message | None:
        """Return the message of the job. One that fails with a bug is answered as well."""
        try:
            return self.job()
        except ConfpyError as error:
            forget_frames(error)
            return self.failed(error)
        except Exception as error:  # noqa: BLE001 - a bug in one job is reported, and stops no other
            return self.failed(bug(error))


class Workers:
    """The threads that run jobs: each job has one of its own while it runs, so that none waits for another.

    A thread whose job is done stays for a while: to start one takes as long as a small delivery.
    """

    def __init__(self, post: Callable[[Message], None]) -> None:
        self._post = post
        self._idle: list[SimpleQueue[_Task | None]] = []
        """Of each thread that waits for its next job, where it waits for it; None ends it."""
        self._closed = False

    def start(self, name: str, job: Job, failed: Failed) -> None:
        """Run a job, as ``Ports.start``. Called by the main thread only."""
        task = _Task(name, job, failed)
        try:
            self._idle.pop().put(task)
        except IndexError:
            self._start_thread(task)

    def close(self) -> None:
        """End the threads that wait for a job; the others end with theirs."""
        self._closed = True
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().put(None)

    def _start_thread(self, task: _Task) -> None:
        try:
            threading.Thread(target=self._work, args=(task,), name=f"confpy-{task.name}", daemon=True).start()
        except RuntimeError:
            hint = "raise the limit of threads (ulimit -u, TasksMax, pids.max), or give it memory"
            message = task.failed(ConfpyError("no thread can be started", hint=hint))
            if message is not None:
                self._post(message)

    def _work(self, task: _Task | None) -> None:
        thread, jobs = threading.current_thread(), SimpleQueue[_Task | None]()
        while task is not None:
            thread.name = f"confpy-{task.name}"
            message = task.run()
            # Before the message is posted: the agent may answer it with the next job.
            stays = self._offer(jobs)
            if message is not None:
                self._post(message)
            # Nothing of a job, which may have read a whole store, is held while the thread waits.
            task = message = None
            if stays:
                thread.name = "confpy-idle"
                task = self._next(jobs)

    def _offer(self, jobs: SimpleQueue[_Task | None]) -> bool:
        """Let a thread be given the next job; returns False if it is to end, since enough others wait."""
        self._idle.append(jobs)
        if self._closed:
            self.close()
        elif len(self._idle) > MOST_IDLE:
            with contextlib.suppress(ValueError):  # the main thread has taken it in this moment
                self._idle.remove(jobs)
                return False
        return True

    def _next(self, jobs: SimpleQueue[_Task | None]) -> _Task | None:
        """Return the next job of a thread; None if it is to end."""
        try:
            return jobs.get(timeout=IDLE)
        except Empty:
            pass
        try:
            self._idle.remove(jobs)
        except ValueError:  # the main thread has taken it in this moment, and its job is on the way
            return jobs.get()
        return None


@define
class _Handle:
    """Shared by the main thread and a stream's thread: each writes its own field, then reads the other's."""

    stream: WatchStream | None = None
    closed: bool = False


class Streams:
    """The streams of the stores, as ``Ports.streams``. Called by the main thread only."""

    def __init__(
        self,
        store: OpenStore,
        post: Callable[[Message], None],
        start: Callable[[str, Job, Failed], None],
        mounted: Mapping[str, OpenStore] = NOTHING,
    ) -> None:
        """``mounted``: further stores, by where they are mounted."""
        self._store = store
        self._mounted = mounted
        self._post = post
        self._start = start
        self._room = threading.BoundedSemaphore(UNREAD)
        self._handles: dict[int, _Handle] = {}

    def __len__(self) -> int:
        """How many there are."""
        return len(self._handles)

    def open(self, action: Watch) -> None:
        handle = self._handles[action.stream] = _Handle()
        store = self._mounted[action.store] if action.store else self._store

        def follow() -> Message:
            try:
                handle.stream = store.watch(action.cursors, action.identity)
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
