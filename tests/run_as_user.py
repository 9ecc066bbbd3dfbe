"""Run a function in a child process: as a user who is not root, or where it may mount what it likes.

Where the machine does not allow that (a chroot, an unprivileged container) a test that needs it is skipped; CI insists.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import tempfile
import traceback
from collections.abc import Callable
from functools import cache
from typing import Generic, TypeVar

import pytest

Result = TypeVar("Result")

NOBODY, EXTRA_GROUP = 65534, 54321
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_PRIVATE = 0x4000, 1 << 18


class NotAllowedHere(Exception):
    """The machine does not allow what a test needs."""


class Child(Generic[Result]):
    """A process that runs one function; what it needs must be imported before."""

    def __init__(self, function: Callable[[], Result], prepare: Callable[[], None] = lambda: None) -> None:
        reader, writer = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            try:
                prepare()
                answer = (None, "", function())
            except NotAllowedHere as error:
                answer = (None, str(error), None)
            except BaseException:  # noqa: BLE001 - the parent tells it
                answer = (traceback.format_exc(), "", None)
            with os.fdopen(writer, "wb") as file:
                pickle.dump(answer, file)
            os._exit(0)
        os.close(writer)
        self._reader = reader

    def result(self) -> Result:
        """Return what the function returned; fail where it failed, skip the test where it cannot be done here."""
        with os.fdopen(self._reader, "rb") as file:
            written = file.read()
        _, status = os.waitpid(self._process, 0)
        assert written, f"the child ended with {status}"
        failed, refusal, result = pickle.loads(written)
        assert failed is None, failed
        needs(refusal)
        return result


def as_nobody(function: Callable[[], Result]) -> Result:
    """Run a function as a user who is not root."""
    return Child(function, _become_nobody).result()


def needs(refusal: str) -> None:
    """Skip the test where the machine refuses what it needs; fail in CI, which insists on all tests."""
    if refusal and os.environ.get("CI"):
        pytest.fail(f"{refusal}, and CI insists on all tests", pytrace=False)
    if refusal:
        pytest.skip(refusal)


@cache
def no_mounts() -> str:
    """Say why nothing can be mounted here, empty where it can."""
    with tempfile.TemporaryDirectory() as folder:

        def mount() -> None:
            if ctypes.CDLL(None, use_errno=True).mount(b"none", os.fsencode(folder), b"tmpfs", 0, None):
                raise OSError(ctypes.get_errno(), "mount")

        try:
            Child(mount, _leave_mounts).result()
        except AssertionError as error:
            return f"mounts are not allowed here ({str(error).strip().rpartition(chr(10))[2]})"
    return ""


@cache
def refused(*command: str) -> str:
    """Say that a command cannot be run here, empty where it can: one that makes a namespace and does nothing."""
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"namespaces are not allowed here ({ran.stderr.strip()[:200]})" if ran.returncode else ""


def with_mounts(function: Callable[[], Result]) -> Result:
    """Run a function as root (of a user namespace at least) whose mounts nobody else sees."""
    needs(no_mounts())
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
