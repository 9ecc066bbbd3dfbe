"""The command ``confpy``, and ``python -m confpy``."""

import gc
import os
import sys

from confpy.daemon.startup import hold_signals


def main() -> int:
    """Run confpy, and return its exit code."""
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

    return confpy()


if __name__ == "__main__":
    sys.exit(main())
