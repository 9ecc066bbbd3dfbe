"""Calls on threads of their own, for tests that let something else happen meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class Call(Generic[Result]):
    """A call that is under way: what it returned or raised, and when."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self.result: Result | None = None
        self.error: Exception | None = None
        self.ended = 0.0
        """Monotonic seconds."""
        self._call = call
        self._thread = threading.Thread(target=self._run, name="test-call", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except Exception as error:  # noqa: BLE001 - whatever it is, the test looks at it
            self.error = error
        self.ended = time.monotonic()

    def end(self, seconds: float = 10.0) -> None:
        """Wait for its end; fail where it does not come."""
        self._thread.join(seconds)
        assert not self._thread.is_alive(), f"the call goes on after {seconds:g} s"
