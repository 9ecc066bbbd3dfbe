"""HAProxy's sockets (management guide, "Unix Socket commands" and "Master CLI").

Which answers mean success or failure, which workers the master has, and how its reload ended.
"""

from __future__ import annotations

import contextlib
import re
import socket
import time
from typing import Literal

from confpy.errors import ReloadError
from confpy.frozen import frozen
from confpy.system.subprocesses import TAIL, for_people

LONGEST_ANSWER = 64 << 10
"""Bytes of an answer that are read."""
LONGEST_SILENCE = 2e6
"""Seconds that a socket may wait for bytes: it accepts no limit of 2**31 milliseconds or more."""
LONGEST_LOOK = 2.0
"""Seconds that the master has for one answer: it gives none while it re-executes itself."""
QUIET = 2.0
"""Seconds after which a reload that has not begun is taken to have never reached the master."""
FIRST_PAUSE, LONGEST_PAUSE = 0.02, 0.2
"""Seconds between two checks."""
GOES_ON = "has not taken its new configuration, and goes on with the old one"


EMPTY_IS_DONE = frozenset({"add", "clear", "commit", "del", "disable", "enable", "set", "shutdown"})
"""Commands whose success has an empty answer."""
DONE = re.compile(
    "Success=1|(IP|port) changed from|no need to change|nothing changed|New server registered|Server deleted"
    "|New version created"
)
"""How an answer begins that means success. Like ``REFUSED``, tested with 2.6 and 3.0."""
REFUSED = re.compile(
    r"Success=0|Unknown |Permission denied|No such |No ongoing transaction|Already exists|(Key|entry) not found"
    r"|Invalid |Missing |Malformed |Requires? |Empty |Can't |Cannot |Unable to |Failed to |usage:|Error|\[ALERT\]"
    r"|Version number out of range|(Absolute|Relative) weight can only|.{0,60}\bexpects?\b|.*\bfailed because\b"
    r"|.*\bnot (configured|enabled) on this server",
    re.IGNORECASE,
)
"""How a line of an answer begins that means failure."""
ADDRESSEE = re.compile(r"\s*(@\S+\s+)?(\S*)")
"""A command, which on the master's socket may begin with the process that it is for."""


def classify(line: str, answer: str) -> Literal["done", "refused", "unknown"]:
    """Return what an answer to a line means. Pure."""
    words = {match[2] for command in re.split(r"(?<!\\);", line) if (match := ADDRESSEE.match(command))}
    lines = [one.strip() for one in answer.splitlines() if one.strip()]
    # What `show` prints may begin like anything.
    if any(map(REFUSED.match, lines[:1] if "show" in words else lines)):
        return "refused"
    if not lines:
        return "done" if words <= EMPTY_IS_DONE else "unknown"
    # From 2.7 on, the master adds what was logged.
    return "done" if lines[0] == "Success=1" or all(map(DONE.match, lines)) else "unknown"


@frozen
class Master:
    """A line of ``show proc``, and the workers below it."""

    process: int
    reloads: int
    """How often it has reloaded."""
    failed: int | None
    """How many of the last reloads failed in a row; None: HAProxy before 2.5 does not report it."""
    workers: frozenset[int]
    """Those of the newest reload, without older ones that finish their connections."""


def send(path: str, line: str, timeout: float) -> str:
    """Send a line to a Unix socket, and return the answer, read to its end; raises ``OSError``.

    ``timeout`` bounds the exchange as a whole, in seconds.
    """
    until = time.monotonic() + timeout
    answer = b""
    with connect(path, timeout) as stream:
        stream.sendall(f"{line}\n".encode())
        # A master that re-executes itself closes the connection in one way or another.
        with contextlib.suppress(ConnectionError):
            stream.shutdown(socket.SHUT_WR)
            while len(answer) < LONGEST_ANSWER and (part := stream.recv(4096)):
                answer += part
                stream.settimeout(min(max(until - time.monotonic(), 0.001), LONGEST_SILENCE))
    return for_people(answer)


def not_sent(error: OSError) -> ReloadError:
    """Return the error of a reload that could not be sent, or was not answered in time."""
    if isinstance(error, TimeoutError):
        hint = "raise reload_cmd_timeout if it needs longer"
        return ReloadError("the reload was not answered within its time", hint=hint)
    return ReloadError(f"the reload could not be sent: {error.strerror or error}", hint="is the program running?")


def connect(path: str, timeout: float) -> socket.socket:
    """Return a connection to a Unix socket; raises ``OSError``."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(min(timeout, LONGEST_SILENCE))
    try:
        stream.connect(path)
    except BaseException:
        stream.close()
        raise
    return stream


def look(path: str, timeout: float) -> Master:
    """Ask the master for its processes; raises ``OSError``, also if the answer is not that of a master."""
    master = read_processes(send(path, "show proc", timeout))
    if master is None:
        raise OSError("this is not the answer of a HAProxy master")
    return master


def read_processes(answer: str) -> Master | None:
    """Return the master of an answer to ``show proc``; None if it is no such answer. Pure."""
    lines = answer.splitlines()
    columns = re.findall(r"<([^>]+)>", lines[0]) if lines else []
    if "reloads" not in columns:
        return None
    reloads = columns.index("reloads")
    master: list[str] = []
    failed: int | None = None
    workers: set[int] = set()
    part = ""
    for line in lines[1:]:
        if line.startswith("#"):
            part = line[1:].strip()
            continue
        if found := re.search(r"\[failed: (\d+)\]", line):
            failed = int(found[1])
        words = re.sub(r"\[[^]]*\]", "", line).split()
        if len(words) <= reloads or not words[0].isdecimal() or not words[reloads].isdecimal():
            continue
        if words[1] == "master":
            master = words
        elif part == "workers":
            workers.add(int(words[0]))
    return Master(int(master[0]), int(master[reloads]), failed, frozenset(workers)) if master else None


def stage(before: Master | None, now: Master) -> Literal["not begun", "failed", "loading"] | frozenset[int]:
    """Return how far a reload is, or the new workers, of which one has to answer yet. Pure.

    ``before``: the master before the reload; None if it did not answer.
    """
    if before is not None and (now.process, now.reloads) == (before.process, before.reloads):
        return "not begun"
    if now.failed:
        return "failed"
    new = now.workers - (before.workers if before is not None else frozenset())
    if new:
        return new
    # It answers again when it has re-executed itself, or has given up.
    return "failed" if now.failed is None else "loading"


def await_reload(path: str, before: Master | None, timeout: float) -> None:
    """Wait until the master has reloaded and a new worker of it answers; raises ``ReloadError`` if it has not.

    To be called after the reload was sent. ``timeout``: seconds.
    """
    until = time.monotonic() + timeout
    idle_since: float | None = None
    pause = FIRST_PAUSE
    while True:
        reason = f"has not taken its new configuration within {timeout:g} s"
        hint = "raise reload_cmd_timeout if it needs longer"
        try:
            how = _ask(path, before, min(max(until - time.monotonic(), 0.001), LONGEST_LOOK))
        except TimeoutError:
            how = "loading"
        except OSError as error:
            how = "loading"
            reason = f"cannot be asked on its socket: {error.strerror or error}"
            hint = "is it running, as a master with this socket (-S), and may confpy's user connect to it?"
        now = time.monotonic()
        if how == "loaded":
            return
        if how == "failed":
            raise ReloadError(f"haproxy {GOES_ON}", **_alerts(path))
        if how == "not begun":
            idle_since = now if idle_since is None else idle_since
            if now - idle_since >= QUIET:
                hint = "does the reload reach the master that has this socket?"
                raise ReloadError("haproxy got no reload, and goes on as it was", hint=hint, file=path)
        if now + pause >= until:
            raise ReloadError(f"haproxy {reason}", hint=hint, file=path)
        time.sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE)


def _ask(path: str, before: Master | None, timeout: float) -> Literal["not begun", "failed", "loading", "loaded"]:
    how = stage(before, look(path, timeout))
    if isinstance(how, frozenset):
        return "loaded" if any(_answers(path, worker, timeout) for worker in how) else "loading"
    return how


def _answers(path: str, worker: int, timeout: float) -> bool:
    """Return whether a worker has started: from HAProxy 3.1 on it is listed before, and may still fail."""
    return send(path, f"@!{worker} show info", timeout).startswith("Name:")


def _alerts(path: str) -> dict[str, str]:
    """Return why the last start failed, if the master reports it: from 2.7 on."""
    with contextlib.suppress(OSError):
        said = send(path, "show startup-logs", LONGEST_LOOK).splitlines()
        if alerts := [line for line in said if line.startswith("[ALERT]")]:
            return {"output": "\n".join(alerts)[-TAIL:]}
    return {}
