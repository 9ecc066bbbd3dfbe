"""The server for the status: HTTP on one thread, with bounds for whoever connects.

One request per connection. What takes part is bounded: connections, the bytes of a head, the time for a head, for the
answer and for the client to read it. Where there are too many connections, the oldest that has not asked for anything
yet makes way, so that those who open connections and send nothing keep out nobody else.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator

from confpy.errors import ConfpyError, bug
from confpy.frozen import define
from confpy.status.listening import Listener
from confpy.status.request import HEAD_BYTES, Refused, Request, head_end, parse
from confpy.status.response import Response, text

CONNECTIONS = 64
HEAD_SECONDS = 5.0
ANSWER_SECONDS = 10.0
SEND_SECONDS = 10.0
LINGER_SECONDS = 1.0
"""For the client to end the connection: to close it before what it has sent is read would lose the answer."""
RETRY_SECONDS = 1.0
"""After which a new connection is accepted where the process has no file descriptor left."""
CHUNK = 64 << 10

Reply = Callable[[Response], None]
Answer = Callable[[Request, Reply], None]
"""Answers a request, now or later; called on the server's thread, which ``reply`` may be called from, too."""


@define
class _Connection:
    socket: socket.socket
    deadline: float
    received: bytearray
    request: Request | None = None
    is_waiting: bool = False
    """Its answer is to come."""
    sending: memoryview = memoryview(b"")
    is_lingering: bool = False


class StatusServer:
    """Answers requests on a thread of its own, until ``close``."""

    def __init__(
        self,
        listener: Listener,
        answer: Answer,
        hosts: frozenset[str] | None,
        *,
        tick: Callable[[float], float],
        failed: Callable[[ConfpyError], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``hosts`` as ``parse`` takes it; ``failed`` is told of bugs.

        ``tick`` is called with the monotonic time whenever something happened, on the server's thread, and returns when
        it is to be called at the latest.
        """
        self._listener = listener
        self._answer = answer
        self._hosts = hosts
        self._tick = tick
        self._failed = failed
        self._clock = clock
        self._connections: dict[int, _Connection] = {}
        """By file descriptor, the oldest first."""
        self._accepts_at = 0.0
        """When new connections are accepted again; 0: they are."""
        self._wakes, self._waker = socket.socketpair()
        self._wakes.setblocking(False)
        self._waker.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._wakes, selectors.EVENT_READ)
        self._selector.register(listener.socket, selectors.EVENT_READ)
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="confpy-status", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Have ``tick`` called; any thread may ask for it."""
        with contextlib.suppress(OSError):  # it is full: the thread is about to wake up
            self._waker.send(b"\0")

    def close(self) -> None:
        """Stop listening, and end all connections."""
        self._closed = True
        self.wake()
        if self._thread.is_alive():
            self._thread.join(1.0)
        self._waker.close()
        self._listener.close()

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not self._closed:
                try:
                    self._turn()
                except Exception as error:  # noqa: BLE001 - a bug ends neither the server nor the daemon
                    self._drop_all()
                    self._failed(bug(error))
                    self._selector.select(RETRY_SECONDS)
        finally:
            self._drop_all()
            self._selector.close()
            self._wakes.close()

    def _turn(self) -> None:
        """Wait for what comes next, and take it."""
        now = self._clock()
        moment = min(self._tick(now), *self._moments())
        for key, _ in self._selector.select(max(0.0, moment - now)):
            if key.fileobj is self._wakes:
                with contextlib.suppress(OSError):
                    self._wakes.recv(CHUNK)
            elif key.fileobj is self._listener.socket:
                self._accept()
            elif (connection := self._connections.get(key.fd)) is not None:
                self._go_on(connection)
        now = self._clock()
        for connection in [one for one in self._connections.values() if one.deadline <= now]:
            self._drop(connection)
        if self._accepts_at and self._accepts_at <= now:
            self._accepts_at = 0.0
            self._selector.register(self._listener.socket, selectors.EVENT_READ)

    def _moments(self) -> Iterator[float]:
        yield self._clock() + 3600.0
        if self._accepts_at:
            yield self._accepts_at
        yield from (connection.deadline for connection in self._connections.values())

    def _accept(self) -> None:
        """Take the connections that wait; those that come while it does, later."""
        for _ in range(CONNECTIONS):
            try:
                accepted, _ = self._listener.socket.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError:  # no descriptor, or no memory
                self._selector.unregister(self._listener.socket)
                self._accepts_at = self._clock() + RETRY_SECONDS
                return
            self._add(accepted)

    def _add(self, accepted: socket.socket) -> None:
        accepted.setblocking(False)
        if len(self._connections) >= CONNECTIONS:
            self._drop(self._least_useful())
        self._connections[accepted.fileno()] = _Connection(accepted, self._clock() + HEAD_SECONDS, bytearray())
        self._selector.register(accepted, selectors.EVENT_READ)

    def _least_useful(self) -> _Connection:
        """Return the connection that makes way: the oldest that has not asked yet, else the oldest."""
        connections = self._connections.values()
        asking = (one for one in connections if one.request is None and not one.sending)
        return next(asking, None) or next(iter(connections))

    def _go_on(self, connection: _Connection) -> None:
        try:
            if connection.sending:
                self._send(connection)
            else:
                self._receive(connection)
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self._drop(connection)

    def _receive(self, connection: _Connection) -> None:
        received = connection.socket.recv(CHUNK)
        if not received:
            self._drop(connection)
            return
        if connection.is_lingering:
            return  # what follows the head means nothing
        searched = len(connection.received)
        connection.received += received
        end = head_end(connection.received, searched)
        if end < 0 and len(connection.received) < HEAD_BYTES:
            return
        head = bytes(connection.received[:end])
        connection.received.clear()
        if end < 0 or end > HEAD_BYTES:
            self._reply(connection, text(431, "the head of the request is too long\n"))
        else:
            self._take(connection, head)

    def _take(self, connection: _Connection, head: bytes) -> None:
        connection.is_waiting = True
        connection.deadline = self._clock() + ANSWER_SECONDS
        try:
            connection.request = parse(head, self._hosts)
            self._answer(connection.request, lambda response: self._reply(connection, response))
        except Refused as refused:
            self._reply(connection, text(refused.code, f"{refused.reason}\n"))
        except Exception as error:  # noqa: BLE001 - a bug in one answer ends neither the server nor the daemon
            self._failed(bug(error))
            self._reply(connection, text(500, "a bug in confpy: see its log\n"))
        if connection.is_waiting:
            self._selector.unregister(connection.socket)

    def _reply(self, connection: _Connection, response: Response) -> None:
        """Send an answer; nothing where the connection is gone by now."""
        if connection.socket.fileno() not in self._connections:
            return
        connection.is_waiting = False
        is_head = connection.request is not None and connection.request.is_head
        connection.sending = memoryview(response.encode(is_head=is_head))
        connection.deadline = self._clock() + SEND_SECONDS
        self._expect(connection, selectors.EVENT_WRITE)

    def _send(self, connection: _Connection) -> None:
        sent = connection.socket.send(connection.sending)
        connection.sending = connection.sending[sent:]
        if not connection.sending:
            connection.is_lingering = True
            connection.deadline = self._clock() + LINGER_SECONDS
            connection.socket.shutdown(socket.SHUT_WR)
            self._expect(connection, selectors.EVENT_READ)

    def _expect(self, connection: _Connection, events: int) -> None:
        try:
            self._selector.modify(connection.socket, events)
        except KeyError:
            self._selector.register(connection.socket, events)

    def _drop_all(self) -> None:
        for connection in list(self._connections.values()):
            self._drop(connection)

    def _drop(self, connection: _Connection) -> None:
        self._connections.pop(connection.socket.fileno(), None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(connection.socket)
        connection.socket.close()
