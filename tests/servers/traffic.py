"""Requests that never stop: what a proxy answers while it is reloaded, and whether it ever fails to."""

from __future__ import annotations

import http.client
import threading
from collections import Counter
from types import TracebackType
from typing import Self


class Traffic:
    """Two threads that ask a port of the loopback over and over, each time on a new connection.

    ``answers`` counts the bodies of the 200s since the last ``forget``; ``failures`` holds everything else, for ever.
    """

    def __init__(self, port: int, threads: int = 2) -> None:
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._port = port
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, name=f"traffic {number}") for number in range(threads)]

    def forget(self) -> None:
        """Count the answers anew."""
        self.answers = Counter()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._ended.wait(0.002):
            # The counter of this moment: an answer to a question from before `forget` is not counted after it.
            answers = self.answers
            status, body = ask(self._port)
            if status == 200:
                answers[body] += 1
            else:
                self.failures.append(f"{status} {body[:200]}")


def ask(port: int, *, address: str = "127.0.0.1", path: str = "/") -> tuple[int, str]:
    """Send one request; return the status (0 where there was no answer) and the body or the reason."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        response = connection.getresponse()
        return response.status, response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return 0, repr(error)
    finally:
        connection.close()
