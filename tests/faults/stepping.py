"""Run a function in a child process that is killed after its N-th system call."""

from __future__ import annotations

import ctypes
import os
import signal
import traceback
from collections.abc import Callable

TRACE_ME, SYSCALL, SET_OPTIONS = 0, 24, 0x4200
MARK_SYSCALLS, DIE_WITH_US = 0x1, 0x100000

_library = ctypes.CDLL(None, use_errno=True)
_library.ptrace.argtypes = (ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p)
_library.ptrace.restype = ctypes.c_long


def killed_after(calls: int, function: Callable[[], object]) -> bool:
    """Run ``function`` up to the end of so many system calls. False where it came to its own end before."""
    child = os.fork()
    if child == 0:
        try:
            _ptrace(TRACE_ME, 0, 0)
            os.kill(os.getpid(), signal.SIGSTOP)
            function()
        except BaseException:  # noqa: BLE001 - the parent sees the code
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSTOPPED(status)
    _ptrace(SET_OPTIONS, child, MARK_SYSCALLS | DIE_WITH_US)
    left, entered, passed_on = calls, False, 0
    while True:
        _ptrace(SYSCALL, child, passed_on)
        _, status = os.waitpid(child, 0)
        if not os.WIFSTOPPED(status):
            assert os.waitstatus_to_exitcode(status) == 0, "the function failed by itself"
            return False
        number = os.WSTOPSIG(status)
        passed_on = 0
        if number != signal.SIGTRAP | 0x80:
            passed_on = number
            continue
        entered = not entered
        if not entered:
            left -= 1
            if left == 0:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return True


def _ptrace(request: int, child: int, value: int) -> None:
    if _library.ptrace(request, child, None, value) < 0:
        raise OSError(ctypes.get_errno(), "ptrace")
