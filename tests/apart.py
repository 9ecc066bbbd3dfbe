"""Run a function in a child process: as a user who is not root, or where it may mount what it likes."""

from __future__ import annotations

import ctypes
import os
import pickle
import traceback
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")

NOBODY, EXTRA_GROUP = 65534, 54321
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18


class Child(Generic[Result]):
    """A process that runs one function; what it needs must be imported before."""

    def __init__(self, function: Callable[[], Result], prepare: Callable[[], None] = lambda: None) -> None:
        reader, writer = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            try:
                prepare()
                answer = (None, function())
            except BaseException:  # noqa: BLE001 - the parent tells it
                answer = (traceback.format_exc(), None)
            with os.fdopen(writer, "wb") as file:
                pickle.dump(answer, file)
            os._exit(0)
        os.close(writer)
        self._reader = reader

    def result(self) -> Result:
        """Return what the function returned; fail where it failed."""
        with os.fdopen(self._reader, "rb") as file:
            told = file.read()
        _, status = os.waitpid(self._process, 0)
        assert told, f"the child ended with {status}"
        failed, result = pickle.loads(told)
        assert failed is None, failed
        return result


def as_nobody(function: Callable[[], Result]) -> Result:
    """Run a function as a user who is not root."""
    return Child(function, _become_nobody).result()


def with_mounts(function: Callable[[], Result]) -> Result:
    """Run a function as root (of a user namespace at least) whose mounts nobody else sees."""
    return Child(function, _leave_mounts).result()


def _become_nobody() -> None:
    if os.geteuid() == 0:
        os.setgroups([EXTRA_GROUP])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)


def _leave_mounts() -> None:
    library = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.geteuid(), os.getegid()
    if library.unshare(CLONE_NEWNS | (CLONE_NEWUSER if uid else 0)):
        raise OSError(ctypes.get_errno(), "unshare")
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    if library.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
        raise OSError(ctypes.get_errno(), "mount")
