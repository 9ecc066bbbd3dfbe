"""The lines that reload a program over its Unix socket, and what the answers to them mean."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from confpy.errors import ReloadError
from confpy.reload import haproxy
from confpy.system.subprocesses import TAIL

RELOAD = "reload"
"""The command that reloads HAProxy's master; before 2.7 it gives no answer."""


def send_lines(path: str, lines: Sequence[str], expect: str, timeout: float, *, asks_master: bool) -> str | None:
    """Send lines to a Unix socket; returns an answer of unknown meaning, None if all have succeeded.

    ``expect``: the regular expression that each answer has to match, empty for what is known of HAProxy's answers.
    ``timeout``: seconds, for all lines. ``asks_master``: if HAProxy's master does not answer its reload, ask it how
    that ended. Raises ``ReloadError``.
    """
    until = time.monotonic() + timeout
    unsure: str | None = None
    for number, line in enumerate(lines, 1):
        asks = asks_master and line == RELOAD and not expect
        before = _master(path, until) if asks else None
        try:
            answer = haproxy.send(path, line, _left(until))
        except OSError as error:
            raise haproxy.not_sent(error) from None
        which = f"line {number} of the reload" if len(lines) > 1 else "the reload"
        output = {"output": answer[-TAIL:]} if answer else {}
        if expect:
            if not re.search(expect, answer):
                hint = "the regular expression in reload_socket_expect is not found in the answer"
                raise ReloadError(f"{which} was not answered as expected", hint=hint, **output)
            continue
        outcome = haproxy.classify(line, answer)
        if outcome == "refused":
            raise ReloadError(f"{which} was refused", **output)
        if outcome == "unknown" and before is not None and not answer:
            haproxy.await_reload(path, before, _left(until))
        elif outcome == "unknown" and unsure is None:
            unsure = answer
    return unsure


def _master(path: str, until: float) -> haproxy.Master | None:
    """Return the state of HAProxy's master before it reloads; None if something else answers, or nothing."""
    try:
        return haproxy.look(path, min(_left(until), haproxy.LONGEST_LOOK))
    except OSError:
        return None


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)
