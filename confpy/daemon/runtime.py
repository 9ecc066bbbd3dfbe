"""What running programs are told of changes with: the real sockets, clocks and records. Imported on use."""

from __future__ import annotations

import os
import time

from confpy.ledger.expiry import HAPROXY
from confpy.ledger.ledger import Ledger
from confpy.reload.runtime_ports import RuntimePorts
from confpy.reload.runtime_socket import Sockets
from confpy.reload.taken import TakenFolder
from confpy.system.disk import Disk


def runtime_ports(disk: Disk, ledger: Ledger) -> RuntimePorts:
    """Return the ports of a process; without a state folder what was taken is known for its life only."""
    taken = TakenFolder(os.path.join(ledger.folder, HAPROXY) if ledger.folder else "", disk)
    return RuntimePorts(disk, Sockets(), taken, _seconds, time.time, time.sleep, ledger.locked)


def _seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
