"""Where the control socket of a running confpy is: in a runtime folder, named by a hash of the confdir."""

from __future__ import annotations

import os
from collections.abc import Mapping
from hashlib import sha256

RUNTIME = "/run/confpy"
LONGEST = 107
"""Bytes of a socket's path: ``sun_path`` has 108, with the zero at the end (unix(7))."""
ENDING = ".sock"


def folders(environ: Mapping[str, str], state: str) -> list[str]:
    """Return the folders in which the socket may be, the first that can be used first.

    ``state``: the state folder of the confdir. systemd sets ``RUNTIME_DIRECTORY``, for several folders with colons
    between them (systemd.exec(5)).
    """
    found = [environ.get("RUNTIME_DIRECTORY", "").partition(":")[0], RUNTIME]
    if user := environ.get("XDG_RUNTIME_DIR"):
        found.append(os.path.join(user, "confpy"))
    return list(dict.fromkeys(one for one in (*found, state) if os.path.isabs(one)))


def socket_name(confdir: str) -> str:
    """Return the name of the socket for a confdir."""
    return sha256(os.fsencode(os.path.realpath(confdir))).hexdigest()[:16] + ENDING


def sockets(environ: Mapping[str, str], state_dir: str) -> list[str]:
    """Return the paths of all sockets that are there. ``state_dir``: the folder of all state folders."""
    found = []
    for folder in folders(environ, ""):
        found += [os.path.join(folder, name) for name in _names(folder) if name.endswith(ENDING)]
    for below in _names(state_dir):
        folder = os.path.join(state_dir, below)
        found += [os.path.join(folder, name) for name in _names(folder) if name.endswith(ENDING)]
    return list(dict.fromkeys(one for one in found if not os.path.basename(one).startswith(".")))


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []
