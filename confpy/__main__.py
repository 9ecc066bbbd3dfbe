"""The command ``confpy``, and ``python -m confpy``."""

import atexit
import contextlib
import gc
import os
import sys

from confpy.daemon.startup import hold_signals


def main() -> int:
    """Run confpy. Ends the process, or returns its exit code."""
    hold_signals()
    # Start-up makes many objects and hardly any garbage; looking for it took an eighth of a one-shot run. A daemon
    # turns it on again when it has started.
    gc.disable()
    if os.getpid() == 1:
        from confpy.daemon.pid1 import stand_by

        code = stand_by()
        if code is not None:
            return code
    from confpy.cli import main as confpy

    code = confpy()
    if sys.gettrace() is None and sys.getprofile() is None:
        end(code)
    return code


def end(code: int) -> None:
    """End the process with this exit code; returns if something on stdout could not be written.

    All is written and closed. Python would go on to take each module and object apart: an eighth of a one-shot run, and
    seconds where there are a hundred thousand keys.
    """
    atexit._run_exitfuncs()  # noqa: SLF001  # there is no other way to run them
    with contextlib.suppress(OSError, ValueError):
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
