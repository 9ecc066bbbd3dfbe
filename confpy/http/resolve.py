"""Questions to DNS that can be left behind: ``getaddrinfo`` cannot be stopped."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TypeVar

Result = TypeVar("Result")


def ask_apart(question: Callable[[], Result]) -> Future[Result]:
    """Ask on a thread of its own. Whoever waits for the answer is woken by ``cancel``; the thread ends when it can."""
    answer: Future[Result] = Future()

    def ask() -> None:
        with suppress(InvalidStateError):  # nobody waits any more
            try:
                answer.set_result(question())
            except InvalidStateError:
                raise
            except BaseException as error:  # noqa: BLE001 - it is raised where the answer is waited for
                answer.set_exception(error)

    threading.Thread(target=ask, name="confpy-lookup", daemon=True).start()
    return answer
