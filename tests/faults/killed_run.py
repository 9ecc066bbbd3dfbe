"""Run one confpy that is killed (SIGKILL, by itself) before its N-th step on the disk.

    python -m tests.faults.killed_run N FLAG ...

Ends as confpy does where it takes fewer than N steps.
"""

from __future__ import annotations

import os
import signal
import sys

from confpy.cli import spell
from confpy.commands.flags import parse
from confpy.config.sources import load_settings
from confpy.daemon.daemon import Daemon
from confpy.log import Log
from confpy.stores import open_store
from confpy.stores.tree import Stores
from confpy.system.disk import Disk


class KillingDisk(Disk):
    """A disk with which the process dies at a given step."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def __getattribute__(self, name: str):
        found = super().__getattribute__(name)
        if callable(found):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return found


def main() -> int:
    settings, _ = load_settings(parse(spell(sys.argv[2:]).flags), os.environ)
    store = open_store(settings.backend, settings)
    log = Log(settings.log_level, settings.log_format)
    return Daemon(settings, Stores(store), log, disk=KillingDisk(int(sys.argv[1]))).run()


if __name__ == "__main__":
    sys.exit(main())
