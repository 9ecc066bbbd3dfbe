"""The command ``confpy``, and ``python -m confpy``."""

import gc
import sys


def main() -> int:
    """Run confpy, and return its exit code."""
    # Start-up makes many objects and hardly any garbage; looking for it took an eighth of a one-shot run. A daemon
    # turns it on again when it has started.
    gc.disable()
    from confpy.cli import main as confpy

    return confpy()


if __name__ == "__main__":
    sys.exit(main())
