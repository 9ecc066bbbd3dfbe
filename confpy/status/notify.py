"""The notification protocol of systemd, sd_notify(3): datagrams of variables to the socket of ``NOTIFY_SOCKET``.

Imported only where a service manager has set that variable.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping

PATIENCE = 0.2
"""Seconds that a datagram waits for a full queue of the manager: it is sent by the owner of all state."""
STATES = ("READY", "RELOADING", "STOPPING")
MOST_UNSENT = 8
"""Changes of state that wait for a manager that takes nothing; words and signs of life do not wait."""
LONGEST_STATUS = 400
"""Characters of the words for ``STATUS``."""


class Notifier:
    """The socket of the service manager."""

    def __init__(self, address: str, sender: int | None = None) -> None:
        """``address``: as in the variable. ``sender``: the process that the datagrams are to come from; None: this."""
        # An abstract socket has a NUL where the variable has an "@".
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._sender = sender
        self._unsent: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)

    @classmethod
    def of(cls, environ: Mapping[str, str]) -> Notifier | None:
        """Return the notifier of an environment; None where there is no manager, or one that is reached otherwise.

        As PID 1, confpy works in a child. A manager takes notifications from a unit's main process, which is PID 1: so
        the child sends them in its name, where the kernel allows that (``CAP_SYS_ADMIN``).
        """
        address = environ.get("NOTIFY_SOCKET", "")
        if address[:1] not in {"/", "@"} or len(address) < 2:
            return None
        return cls(address, 1 if os.getppid() == 1 and _leads_namespace() else None)

    def send(self, *variables: str) -> bool:
        """Send variables such as ``READY=1`` in one datagram; returns False if they are still to be sent.

        Raises nothing. A change of state that the manager does not take now is sent before the next datagram.
        """
        if variables:
            self._unsent.append("\n".join(variables))
        while self._unsent:
            try:
                self._send(self._unsent[0].encode("utf-8", "replace"))
            except OSError:
                older = [one for one in self._unsent[:-1] if one.startswith(STATES)]
                self._unsent[:-1] = older[-MOST_UNSENT:]
                return False
            del self._unsent[0]
        return True

    def _send(self, datagram: bytes) -> None:
        if self._sender is not None:
            credentials = struct.pack("3i", self._sender, os.getuid(), os.getgid())
            try:
                self._socket.sendmsg(
                    [datagram], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)], 0, self._address
                )
            except PermissionError:
                self._sender = None  # the unit has to say NotifyAccess=all
            else:
                return
        self._socket.sendto(datagram, self._address)

    def close(self) -> None:
        self._socket.close()


def watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Return the seconds within which the manager wants to hear of confpy; 0: it does not watch confpy."""
    try:
        seconds = int(environ.get("WATCHDOG_USEC", "")) / 1e6
        watched = int(environ.get("WATCHDOG_PID") or os.getpid())
    except ValueError:
        return 0.0
    ours = {os.getpid()} | ({1} if os.getppid() == 1 and _leads_namespace() else set())
    return max(0.0, seconds) if watched in ours else 0.0


def _leads_namespace() -> bool:
    """Return whether PID 1 is the confpy that this one was forked from, and not the machine's init."""
    try:
        with open("/proc/1/cmdline", "rb") as first, open("/proc/self/cmdline", "rb") as own:
            return first.read() == own.read()
    except OSError:
        return False


def in_words(text: str) -> str:
    """Return text as the value of ``STATUS``: one line, and nothing that a terminal would act on."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown if len(shown) <= LONGEST_STATUS else f"{shown[: LONGEST_STATUS - 1]}…"
