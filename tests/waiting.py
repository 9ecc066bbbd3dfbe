"""Wait for a condition with a deadline: the only way that tests let time pass."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_until(condition: Callable[[], Result], *, seconds: float = 30.0, what: str = "the condition") -> Result:
    """Return the first true result of ``condition``; fail after ``seconds``, saying what was waited for.

    They are many, since a busy machine takes its time: only a test that fails waits for them.
    """
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:g} s still not so: {what}")
        time.sleep(0.01)
