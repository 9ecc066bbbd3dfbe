"""The processes that a reload's signal is for, found in /proc with all the care that a number asks for."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
from collections.abc import Iterable

from confpy.errors import ReloadError
from confpy.frozen import frozen
from confpy.reload.actions import SignalReload

LONGEST_PIDFILE = 4096
OF_OTHERS = "belongs to another group than may write to the file"


@frozen
class Process:
    """One that lives in the PID namespace of /proc, or below it."""

    number: int
    parent: int
    user: int
    group: int
    """The real ones: who started it."""
    names: frozenset[str]
    """The name that the kernel keeps (15 bytes of it), and that of the file that it was called by."""
    arguments: bytes
    nested: bool
    """It is in a namespace below: another container's."""


@frozen
class Pidfile:
    """The number of a process, and who can have written it."""

    number: int
    owner: int
    group: int | None
    """The group that may write to it as well; None: it may not."""


def signal_processes(by: SignalReload) -> None:
    """Send a signal to the process of a pidfile, or to all masters of a name; raises ``ReloadError``."""
    ours = own()
    chosen = [_of_pidfile(by, ours)] if by.pidfile else masters(living(), by.process, ours)
    if not chosen:
        hint = "is it running? confpy sees the processes of its own container"
        raise ReloadError(f"no process is called {by.process}", hint=hint)
    for process in chosen:
        try:
            os.kill(process.number, signal.Signals[f"SIG{by.signal}"])
        except ProcessLookupError:
            raise ReloadError(f"the process {process.number} has just ended") from None
        except PermissionError:
            hint = "run confpy as its user, or with CAP_KILL"
            raise ReloadError(f"the process {process.number} may not be signalled by us", hint=hint) from None


def masters(living: Iterable[Process], name: str, ours: Process) -> list[Process]:
    """Return the processes of a name that are not children of another such: not the workers of a master. Pure."""
    named = {it.number: it for it in living if name in it.names and not it.nested and not is_ours(it, ours)}
    return [it for it in named.values() if it.parent not in named]


def is_ours(process: Process, ours: Process) -> bool:
    """Say whether a process is confpy itself, or the parent that confpy has as PID 1. Pure."""
    return process.number == ours.number or (process.number == ours.parent and process.arguments == ours.arguments)


def objection(by: SignalReload, process: Process | None, file: Pidfile, ours: Process) -> str:
    """Say why the process of a pidfile gets no signal; empty: it does. Pure."""
    if process is None or process.nested:
        return "is not there"
    if is_ours(process, ours):
        return "is confpy itself"
    if by.process and by.process not in process.names:
        return f"is not called {by.process}"
    # Else whoever may write to the file could have us signal any process.
    if file.owner not in {0, ours.user, process.user}:
        return "belongs to somebody else than the file"
    if file.group not in {None, 0, ours.group, process.group}:
        return OF_OTHERS
    return ""


def _of_pidfile(by: SignalReload, ours: Process) -> Process:
    file = _read_pidfile(by.pidfile)
    process = look(file.number)
    reason = objection(by, process, file, ours)
    if process is None or reason:
        hint = "is the program running? the file may be of an earlier run"
        if reason == OF_OTHERS:
            hint = "let none but its owner write to the file (chmod g-w)"
        raise ReloadError(f"the process {file.number} of the pidfile {reason}", hint=hint, file=by.pidfile)
    return process


def _read_pidfile(path: str) -> Pidfile:
    """Return the number in the first line, and whose it is; raises ``ReloadError`` for what anybody can have put there.

    The users and groups of folders do not matter: what they put there is a file of their own.
    """
    # A link is not followed: whoever may place one would choose a file of root's, and with it the process.
    try:
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK | os.O_NOFOLLOW)) as file:
            status = os.fstat(file.fileno())
            first = file.read(LONGEST_PIDFILE).split(b"\n")[0] if stat.S_ISREG(status.st_mode) else b""
        folder = os.stat(os.path.dirname(os.path.abspath(path)))
    except OSError as error:
        hint = "name the file itself: it is a link" if error.errno == errno.ELOOP else "is the program running?"
        raise ReloadError(f"the pidfile cannot be read: {error.strerror}", hint=hint, file=path) from None
    if status.st_mode & stat.S_IWOTH:
        hint = "let none but its owner write to it (chmod go-w), or name the program by reload_process alone"
        raise ReloadError("the pidfile is not believed: anybody may write to it", hint=hint, file=path)
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        hint = "take the right to write to its folder from others (chmod o-w), or set its sticky bit (chmod +t)"
        raise ReloadError("the pidfile is not believed: anybody may put another in its place", hint=hint, file=path)
    try:
        number = int(first)
    except ValueError:
        number = 0
    if number <= 0:  # 0 and what is below stand for groups of processes
        raise ReloadError("the pidfile holds no number of a process", file=path)
    return Pidfile(number, status.st_uid, status.st_gid if status.st_mode & stat.S_IWGRP else None)


def own() -> Process:
    """Return confpy itself; raises ``ReloadError`` where /proc is that of others."""
    with contextlib.suppress(OSError):
        ours = look(os.getpid())
        if ours is not None and os.readlink("/proc/self") == str(ours.number):
            return ours
    hint = "mount the /proc of confpy's own container"
    raise ReloadError("/proc does not show the processes that confpy could signal", hint=hint)


def living() -> Iterable[Process]:
    """Return all processes that /proc shows."""
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return (process for process in found if process is not None)


def look(number: int) -> Process | None:
    """Return a process that lives, None where there is none: a zombie does not, and a thread is none."""
    try:
        with open(f"/proc/{number}/status", errors="surrogateescape") as file:
            told = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        with open(f"/proc/{number}/cmdline", "rb") as file:
            arguments = file.read()
    except OSError:
        return None
    if told["State"][0] in "ZX" or int(told["Tgid"]) != number:
        return None
    called = os.path.basename(os.fsdecode(arguments.partition(b"\0")[0]))
    return Process(
        number,
        parent=int(told["PPid"]),
        user=int(told["Uid"].split()[0]),
        group=int(told["Gid"].split()[0]),
        names=frozenset({told["Name"], called}),
        arguments=arguments,
        nested=len(told.get("NSpid", "").split()) > 1,
    )
