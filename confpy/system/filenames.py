"""Which entries of a folder confpy does not read because of their names. Pure."""

from __future__ import annotations

import re

STAGE_MARK = ".confpy-"
"""Part of the name of every file that confpy stages or backs up; the leading dot hides them from ``include *.conf``."""

_STAGE_NAME = re.compile(r"\.(.+)" + re.escape(STAGE_MARK) + "[0-9a-f]{8}", re.DOTALL)
_LEFT_OUT = re.compile(r"\.\.|\.#|\._|\..*" + re.escape(STAGE_MARK), re.DOTALL)


def is_left_out(name: str, *, folder: bool = False) -> bool:
    """Say whether an entry is not the user's own file.

    Left out are ``..*`` (versions of a ConfigMap that Kubernetes mounts), ``.#*`` (locks of Emacs), ``._*`` (macOS) and
    the files that confpy stages; of folders ``..*`` and ``.git``. Every other hidden file or folder counts.
    """
    if folder:
        return name.startswith("..") or name == ".git"
    return bool(_LEFT_OUT.match(name))


def staged_for(name: str) -> str | None:
    """Return the name of the file that a stage file stands for, None for another file."""
    match = _STAGE_NAME.fullmatch(name)
    return match[1] if match else None
