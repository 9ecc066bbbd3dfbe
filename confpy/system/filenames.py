"""Which entries of a folder confpy does not read because of their names. Pure."""

from __future__ import annotations

import re

STAGE_MARK = ".confpy-"
"""Part of the name of every file that confpy stages or backs up; the leading dot hides them from ``include *.conf``."""

_STAGE_NAME = re.compile(r"\.(.+)" + re.escape(STAGE_MARK) + "[0-9a-f]{8}", re.DOTALL)
_SKIPPED = re.compile(r"\.\.|\.#|\._|\..*" + re.escape(STAGE_MARK), re.DOTALL)


def is_skipped(name: str, *, folder: bool = False) -> bool:
    """Return whether an entry is not the user's own file, and is skipped.

    Skipped are ``..*`` (versions of a ConfigMap that Kubernetes mounts), ``.#*`` (locks of Emacs), ``._*`` (macOS) and
    the files that confpy stages; of folders ``..*`` and ``.git``. Every other hidden file or folder is read.
    """
    if folder:
        return name.startswith("..") or name == ".git"
    return bool(_SKIPPED.match(name))


def staged_for(name: str) -> str | None:
    """Return the name of the file that a stage file is to replace, None for any other file."""
    match = _STAGE_NAME.fullmatch(name)
    return match[1] if match else None
