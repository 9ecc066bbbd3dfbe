"""Whether nginx, Apache or HAProxy has taken its new configuration: what `verify = "nginx"` checks.

None of them answers a signal. /proc shows the outcome, and every user may read it: a successful reload starts new
workers below the same master. HAProxy's master is asked on its socket instead, if it has one that confpy may use.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Mapping
from typing import Literal

from confpy.errors import ReloadError
from confpy.frozen import frozen
from confpy.reload import haproxy
from confpy.reload.processes import Process, living, masters, own

QUIET = 2.0
"""Seconds after which a master that waits for signals, and has started no new worker, is taken to have not reloaded."""
STAYS = 2.0
"""Seconds after which new workers beside old ones, which may finish their connections for long, count as started."""


@frozen
class Kind:
    """How the processes of a program look."""

    names: tuple[str, ...]
    master: bytes = b""
    """Part of the arguments of a master."""
    worker: bytes = b""
    leaving: bytes = b""
    """Part of those of a worker that takes no more requests; empty: it looks like the others."""
    signal: int = 0
    """The signal that reloads it, and that its master blocks while it reloads; 0: it blocks none."""
    alone: bool = False
    """It may run without a master, as one process, and is reloaded by another in its place."""


KINDS: Mapping[str, Kind] = {
    # openresty and angie name their processes as nginx does, angie by its own name.
    "nginx": Kind(("nginx", "openresty", "angie"), b": master process", b": worker process", b"shutting down", 1),
    "apache": Kind(("apache2", "httpd")),
    "haproxy": Kind(("haproxy",), signal=12, alone=True),
}


@frozen
class Seen:
    """A master."""

    workers: frozenset[int]
    leaving: frozenset[int] = frozenset()
    """Those of its workers that take no more requests."""
    waits: bool = False
    """It waits for the signal that reloads it: it is not reloading."""


def begin(program: str, socket: str, pidfile: str, timeout: float) -> Callable[[float], None]:
    """Look at a program before it is reloaded. Returns what waits, so many seconds, until it has reloaded.

    That raises ``ReloadError`` if it has not. ``socket``, ``pidfile``: of its master, if known. ``timeout``: seconds
    for this look.
    """
    if program == "haproxy" and (path := socket or _socket(pidfile)):
        try:
            master = haproxy.look(path, min(timeout, haproxy.LONGEST_LOOK))
        except PermissionError:
            # A socket that was only discovered is optional: the processes show the outcome, too.
            if socket:
                return lambda timeout: haproxy.await_reload(path, None, timeout)
        except OSError:
            return lambda timeout: haproxy.await_reload(path, None, timeout)
        else:
            return lambda timeout: haproxy.await_reload(path, master, timeout)
    before = look(program, pidfile)
    return lambda timeout: _await(program, pidfile, before, timeout)


def state(
    before: Mapping[int, Seen], now: Mapping[int, Seen], kind: Kind
) -> Literal["taken", "new workers", "unchanged", "busy", "gone"]:
    """Return how far a reload is: of one of the masters, if there are several. Pure."""
    new = False
    for number, master in now.items():
        old = before[number].workers if number in before else frozenset()
        started, serving = master.workers - master.leaving - old, (master.workers - master.leaving) & old
        if started and not serving:
            return "taken"
        new = new or bool(started)
    if not now:
        return "gone"
    waits = kind.signal == 0 or all(master.waits for master in now.values())
    if new:
        # An old worker of nginx soon shows that it is shutting down. If none does, the new one replaces a crashed
        # one, with the old configuration.
        return "new workers" if waits and not kind.leaving else "busy"
    return "unchanged" if waits and kind.signal else "busy"


def _await(program: str, pidfile: str, before: Mapping[int, Seen], timeout: float) -> None:
    began = since = time.monotonic()
    last = ""
    pause = haproxy.FIRST_PAUSE
    while True:
        reached = state(before, look(program, pidfile), KINDS[program])
        now = time.monotonic()
        if reached != last:
            last, since = reached, now
        if reached == "taken" or (reached == "new workers" and now - since >= STAYS):
            return
        log = "its error log says why"
        if reached == "gone" and now - since >= QUIET:
            if before:
                raise ReloadError(f"{program} has ended instead of taking its new configuration", hint=log)
            hint = "is it running? confpy sees the processes of its own container"
            raise ReloadError(f"no {program} is there that could have taken its new configuration", hint=hint)
        if reached == "unchanged" and now - since >= QUIET:
            raise ReloadError(f"{program} {haproxy.GOES_ON}", hint=log)
        if now - began >= timeout:
            hint = f"{log}; raise reload_cmd_timeout if it needs longer"
            raise ReloadError(f"{program} has not taken its new configuration within {timeout:g} s", hint=hint)
        time.sleep(min(pause, began + timeout - now))
        pause = min(pause * 1.5, haproxy.LONGEST_PAUSE)


def look(program: str, pidfile: str = "") -> dict[int, Seen]:
    """Return the masters of a program by process ID; raises ``ReloadError`` if /proc is not confpy's."""
    kind = KINDS[program]
    found: dict[int, Seen] = {}
    for master, children in _masters(program, pidfile):
        workers = [it for it in children if kind.worker in it.arguments]
        checks = b"-c" in master.arguments.split(b"\0")[1:] and not workers
        if kind.master not in master.arguments or checks:
            continue  # `nginx -s reload` and `haproxy -c`, while they run
        numbers = {it.number for it in workers}
        if not numbers and kind.alone:
            numbers = {master.number}
        found[master.number] = Seen(
            frozenset(numbers),
            frozenset(it.number for it in workers if kind.leaving and kind.leaving in it.arguments),
            _waits(master.number, kind.signal) if kind.signal else False,
        )
    return found


def _masters(program: str, pidfile: str) -> list[tuple[Process, list[Process]]]:
    """Return the masters with their children of the same name: all of them, or that of the pidfile."""
    everybody = tuple(living())
    confpy = own()
    only = _number(pidfile) if pidfile else None
    return [
        (master, [it for it in everybody if it.parent == master.number and name in it.names])
        for name in KINDS[program].names
        for master in masters(everybody, name, confpy)
        if only is None or master.number == only
    ]


def _number(pidfile: str) -> int:
    """Return the process ID in the first line of a file; 0 if there is none, as while the program does not run.

    Raises ``ReloadError`` for a file that confpy may not read.
    """
    try:
        with open(pidfile, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            return int(file.read(64).split(b"\n")[0])
    except PermissionError as error:
        hint = "let confpy's user read it, or name the program alone"
        raise ReloadError(f"the pidfile cannot be read: {error.strerror}", hint=hint, file=pidfile) from None
    except (OSError, ValueError):
        return 0


def _waits(process: int, signal: int) -> bool:
    """Return whether a process would take a signal at once, and has none pending; False if that is not known."""
    try:
        with open(f"/proc/{process}/status", errors="surrogateescape") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        masks = [int(status[name], 16) for name in ("SigPnd", "ShdPnd", "SigBlk")]
    except (OSError, LookupError, ValueError):
        return False
    return not any(mask >> (signal - 1) & 1 for mask in masks)


def _socket(pidfile: str) -> str:
    """Return the socket that the one HAProxy master was started with; empty: none, or not known."""
    paths = set()
    for master, _ in _masters("haproxy", pidfile):
        for option, value in itertools.pairwise(master.arguments.split(b"\0")):
            if option == b"-S":
                paths.add(os.fsdecode(value.split(b",")[0].removeprefix(b"unix@")))
    path = paths.pop() if len(paths) == 1 else ""
    return path if path.startswith("/") else ""
