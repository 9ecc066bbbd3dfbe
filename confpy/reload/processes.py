"""The processes that a reload signals, found in /proc: a process ID alone does not prove which program it is."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import stat
from collections.abc import Iterable

from confpy.errors import ReloadError
from confpy.frozen import frozen

LONGEST_PIDFILE = 4096
OF_OTHERS = "belongs to another group than may write to the file"


@frozen
class Process:
    """A live process in the PID namespace of /proc, or below it."""

    number: int
    parent: int
    user: int
    group: int
    """Real IDs: who started it."""
    names: frozenset[str]
    """The name that the kernel has (15 bytes of it), and that of the file that was executed."""
    arguments: bytes
    nested: bool
    """It is in a namespace below: another container's."""


@frozen
class Pidfile:
    """A process ID, and who can have written it."""

    number: int
    owner: int
    group: int | None
    """The group that may write to it as well; None: it may not."""


def send_signal(name: str, pidfile: str, program: str) -> None:
    """Send a signal (``HUP``) to the process of a pidfile, or without one to all masters of a program's name.

    Raises ``ReloadError``.
    """
    confpy = own()
    chosen = [_of_pidfile(pidfile, program, confpy)] if pidfile else masters(living(), program, confpy)
    if not chosen:
        hint = "is it running? confpy sees the processes of its own container"
        raise ReloadError(f"no process is called {program}", hint=hint)
    for process in chosen:
        try:
            os.kill(process.number, signal.Signals[f"SIG{name}"])
        except ProcessLookupError:
            raise ReloadError(f"the process {process.number} has just ended") from None
        except PermissionError:
            hint = "run confpy as its user, or with CAP_KILL"
            raise ReloadError(f"the process {process.number} may not be signalled by us", hint=hint) from None


def masters(living: Iterable[Process], name: str, confpy: Process) -> list[Process]:
    """Return the processes of a name that are not children of another such: not the workers of a master. Pure."""
    named = {it.number: it for it in living if name in it.names and not it.nested and not is_confpy(it, confpy)}
    return [it for it in named.values() if it.parent not in named]


def is_confpy(process: Process, confpy: Process) -> bool:
    """Return whether a process is confpy itself, or the parent that confpy has as PID 1. Pure."""
    return process.number == confpy.number or (
        process.number == confpy.parent and process.arguments == confpy.arguments
    )


def objection(program: str, process: Process | None, file: Pidfile, confpy: Process) -> str:
    """Return why the process of a pidfile gets no signal; empty: it does. Pure.

    ``program``: the name that it has to have, empty for any.
    """
    if process is None or process.nested:
        return "is not there"
    if is_confpy(process, confpy):
        return "is confpy itself"
    if program and program not in process.names:
        return f"is not called {program}"
    # Otherwise whoever may write to the file could make confpy signal any process.
    if file.owner not in {0, confpy.user, process.user}:
        return "belongs to somebody else than the file"
    if file.group not in {None, 0, confpy.group, process.group}:
        return OF_OTHERS
    return ""


def _of_pidfile(path: str, program: str, confpy: Process) -> Process:
    file = _read_pidfile(path)
    process = look(file.number)
    reason = objection(program, process, file, confpy)
    if process is None or reason:
        hint = "is the program running? the file may be of an earlier run"
        if reason == OF_OTHERS:
            hint = "let none but its owner write to the file (chmod g-w)"
        raise ReloadError(f"the process {file.number} of the pidfile {reason}", hint=hint, file=path)
    return process


def _read_pidfile(path: str) -> Pidfile:
    """Return the process ID in the first line, and its owner; raises ``ReloadError`` for a file that anyone may write.

    The owner and group of its folder do not matter: a file that they place there is theirs.
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
    if number <= 0:  # 0 and negative numbers stand for process groups
        raise ReloadError("the pidfile holds no number of a process", file=path)
    return Pidfile(number, status.st_uid, status.st_gid if status.st_mode & stat.S_IWGRP else None)


def own() -> Process:
    """Return confpy itself; raises ``ReloadError`` if /proc is that of another PID namespace."""
    with contextlib.suppress(OSError):
        found = look(os.getpid())
        if found is not None and os.readlink("/proc/self") == str(found.number):
            return found
    hint = "mount the /proc of confpy's own container"
    raise ReloadError("/proc does not show the processes that confpy could signal", hint=hint)


def living() -> Iterable[Process]:
    """Return all processes that /proc shows."""
    found = (look(int(name)) for name in os.listdir("/proc") if name.isdecimal())
    return (process for process in found if process is not None)


def look(number: int) -> Process | None:
    """Return a live process; None if there is none: a zombie is not alive, and a thread is no process."""
    try:
        with open(f"/proc/{number}/status", errors="surrogateescape") as file:
            status = dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)
        with open(f"/proc/{number}/cmdline", "rb") as file:
            arguments = file.read()
    except OSError:
        return None
    if status["State"][0] in "ZX" or int(status["Tgid"]) != number:
        return None
    called = os.path.basename(os.fsdecode(arguments.partition(b"\0")[0]))
    return Process(
        number,
        parent=int(status["PPid"]),
        user=int(status["Uid"].split()[0]),
        group=int(status["Gid"].split()[0]),
        names=frozenset({status["Name"], called}),
        arguments=arguments,
        nested=len(status.get("NSpid", "").split()) > 1,
    )
