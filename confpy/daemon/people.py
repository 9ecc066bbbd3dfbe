"""What a person asks of a running confpy over its control socket that ends in an ``Answer`` of the agent."""

from __future__ import annotations

import queue
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from confpy.errors import UsageError
from confpy.history.records import Accept, Answer, Undo
from confpy.messages import Message
from confpy.status.protocol import LONGEST_WAIT, Request


class PeoplesRequests:
    """Posts requests to the agent, and passes its answers on to the threads that wait for them."""

    def __init__(self, post: Callable[[Message], None]) -> None:
        self._post = post
        self._numbers = count(1)
        self._waiting: dict[int, queue.SimpleQueue[Answer]] = {}

    def requests(self) -> dict[str, Request]:
        return {"undo": Request(self._undo), "accept": Request(self._accept)}

    def take(self, answer: Answer) -> None:
        """Pass an answer on; called by the main thread. Nobody may wait any more."""
        if (waiting := self._waiting.get(answer.request)) is not None:
            waiting.put(answer)

    def _undo(self, arguments: Mapping[str, Any]) -> object:
        """Put back the file before the last delivery of ``target``; waits so many seconds (``wait``) for the end."""
        target, seconds = arguments.get("target"), arguments.get("wait", 0)
        if not isinstance(target, str) or not target:
            raise UsageError("undo needs a target")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_WAIT:
            raise UsageError(f"wait is not a number of seconds from 0 to {LONGEST_WAIT:g}")
        number = next(self._numbers)
        answers = self._waiting[number] = queue.SimpleQueue()
        try:
            self._post(Undo(number, target))
            answer = answers.get(timeout=seconds)
        except queue.Empty:
            return {"is_over": False, "resources": []}
        finally:
            del self._waiting[number]
        if answer.error is not None:
            raise answer.error
        return {"is_over": True, "resources": list(answer.resources)}

    def _accept(self, arguments: Mapping[str, Any]) -> object:
        """Look now at what was accepted of ``resource``."""
        resource = arguments.get("resource")
        if not isinstance(resource, str):
            raise UsageError("accept needs a resource")
        self._post(Accept(resource))
        return {}
