"""What is said on the control socket: one line of JSON in each direction, then the connection ends. Pure.

A request is ``{"version": 1, "request": "status", …}`` with its arguments beside these two. The answer is ``{"version":
1, "answer": …}``, or ``{"version": 1, "error": {"error": …, "hint": …}, "code": 2}`` with the exit code of the command.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

from confpy.errors import ConfpyError, UsageError, bug

VERSION = 1
REQUEST_BYTES = 64 << 10
ANSWER_BYTES = 256 << 20
"""Of the longest answer that is read: a status of ten thousand resources has five million."""
NO_DAEMON = 12
"""The exit code where no confpy answers."""
NOT_WELL = 11
"""And where one does, and is not well."""

LONGEST_WAIT = 3600.0
"""Seconds that a request may wait for what it asks for."""

Arguments: TypeAlias = Mapping[str, Any]


class Request(NamedTuple):
    """One kind of request."""

    answer: Callable[[Arguments], object]
    """Returns what JSON takes; raises ``ConfpyError``. Called on a thread of its own, with what came over the socket:
    it checks each argument."""
    changes: bool = True
    """It may change something: only root and the user that confpy runs as may send it."""


def write_request(name: str, arguments: Arguments) -> bytes:
    """Return the line of a request."""
    return json.dumps({**arguments, "version": VERSION, "request": name}).encode() + b"\n"


def answer_line(line: bytes, requests: Mapping[str, Request], *, is_trusted: bool) -> bytes:
    """Return the line that answers a request. ``is_trusted``: it comes from root or from our user."""
    try:
        name, arguments = _read_request(line)
        request = _allowed(name, requests, is_trusted=is_trusted)
        answer: dict[str, object] = {"answer": request.answer(arguments)}
    except ConfpyError as error:
        answer = _failed(error)
    except Exception as error:  # noqa: BLE001 - a bug is reported to who asked, and stops nothing
        answer = _failed(bug(error))
    return json.dumps({"version": VERSION, **answer}).encode() + b"\n"


def read_answer(line: bytes) -> Any:
    """Return what was answered; raises ``Refused`` where it was an error."""
    try:
        found = json.loads(line)
        if "answer" in found:
            return found["answer"]
        error, code = found["error"], int(found["code"])
        raise Refused({str(name): value for name, value in error.items()}, code)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise ConfpyError("what answers on the control socket is no confpy") from None


class Refused(ConfpyError):
    """The running confpy has answered with an error."""

    def __init__(self, fields: Mapping[str, Any], code: int) -> None:
        where = {name: value for name, value in fields.items() if name not in {"error", "hint"}}
        super().__init__(str(fields.get("error", "")), hint=str(fields.get("hint", "")), **where)
        # As the running confpy has it: mypy knows the attribute as one of the class.
        self.exit_code = code  # type: ignore[misc]


def _read_request(line: bytes) -> tuple[str, Arguments]:
    try:
        found = json.loads(line)
        version, name = found.pop("version"), found.pop("request")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UsageError("the request is not one line of JSON with version and request") from None
    if version != VERSION or not isinstance(name, str):
        raise UsageError(f"the running confpy speaks version {VERSION} on its control socket")
    return name, found


def _allowed(name: str, requests: Mapping[str, Request], *, is_trusted: bool) -> Request:
    if name not in requests:
        raise UsageError(f"the running confpy knows no request {name[:40]!r}", hint="is it an older version?")
    if requests[name].changes and not is_trusted:
        raise UsageError("only root and the user that confpy runs as may ask for this")
    return requests[name]


def _failed(error: ConfpyError) -> dict[str, object]:
    return {"error": error.fields(), "code": error.exit_code}
