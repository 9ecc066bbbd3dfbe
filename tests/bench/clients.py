"""Fast clients of the stores, on one connection each, and the barest reader of a stream: the floor of a latency."""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import socket
import statistics
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import quote


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


class Delay(NamedTuple):
    """Seconds since a put was sent: until what was waited for, and until the answer to the put."""

    total: float
    put: float


def less_the_put(delays: Sequence[Delay]) -> float:
    """Return the latency of changes: the median, less that of the puts. Below zero where a line overtakes the answer.

    Of each by itself, since the answer may come late where the daemon is served first.
    """
    return statistics.median(one.total for one in delays) - statistics.median(one.put for one in delays)


class Keys(ABC):
    """Writes keys, on one connection. Names are those of etcd, ``/svc/a``, for Consul too."""

    most = 1
    """How many keys fit into one transaction."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    @abstractmethod
    def put(self, key: str, value: str) -> None: ...

    @abstractmethod
    def transact(self, keys: Mapping[str, str]) -> None:
        """Write up to ``most`` keys in one transaction."""

    def put_all(self, keys: Mapping[str, str]) -> None:
        """Write any number of keys, in as few transactions as there can be."""
        pairs = iter(keys.items())
        while some := dict(itertools.islice(pairs, self.most)):
            self.transact(some)

    def _ask(self, method: str, path: str, body: bytes) -> bytes:
        self._connection.request(method, path, body)
        response = self._connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise AssertionError(f"{path}: {response.status} {answer[:200]!r}")
        return answer

    def close(self) -> None:
        self._connection.close()


class EtcdKeys(Keys):
    """Writes keys of etcd v3 through its JSON gateway."""

    most = 100

    def put(self, key: str, value: str) -> None:
        self._ask("POST", "/v3/kv/put", json.dumps({"key": _base64(key), "value": _base64(value)}).encode())

    def transact(self, keys: Mapping[str, str]) -> None:
        puts = [{"request_put": {"key": _base64(key), "value": _base64(value)}} for key, value in keys.items()]
        self._ask("POST", "/v3/kv/txn", json.dumps({"success": puts}).encode())


class ConsulKeys(Keys):
    """Writes keys of Consul, whose names lack the leading slash."""

    most = 64

    def put(self, key: str, value: str) -> None:
        self._ask("PUT", f"/v1/kv/{quote(key.lstrip('/'))}", value.encode())

    def transact(self, keys: Mapping[str, str]) -> None:
        operations = [
            {"KV": {"Verb": "set", "Key": key.lstrip("/"), "Value": _base64(value)}} for key, value in keys.items()
        ]
        self._ask("PUT", "/v1/txn", json.dumps(operations).encode())


class StreamReader:
    """Reads the stream of changes below a prefix of etcd v3, and does nothing with it but note when a line came."""

    def __init__(self, port: int, prefix: str) -> None:
        end = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        create = {"create_request": {"key": _base64(prefix), "range_end": _base64(end)}}
        body = json.dumps(create)
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._socket.sendall(
            f"POST /v3/watch HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        self._came: tuple[float, str] = (0.0, "")
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="stream reader", daemon=True)
        self._thread.start()
        self.wait("created", 10)

    def _read(self) -> None:
        rest = b""
        while True:
            try:
                got = self._socket.recv(65536)
            except OSError:
                return
            now = time.perf_counter()
            if not got:
                return
            *lines, rest = (rest + got).split(b"\n")
            for line in lines:
                if line.startswith(b"{"):
                    with self._changed:
                        self._came = now, line.decode()
                        self._changed.notify()

    def wait(self, text: str, seconds: float) -> float:
        """Return when the last line came, as soon as it holds ``text``."""
        with self._changed:
            assert self._changed.wait_for(lambda: text in self._came[1], seconds), f"no line with {text}"
            return self._came[0]

    def change(self, keys: Keys, key: str, value: str) -> Delay:
        """Put a key; return when the line about it was here."""
        began = time.perf_counter()
        keys.put(key, value)
        put = time.perf_counter()
        return Delay(self.wait(_base64(value), 10) - began, put - began)

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
