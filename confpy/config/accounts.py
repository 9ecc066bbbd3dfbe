"""The owner, group and mode that a resource sets for its target."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any, cast

from confpy.config.kinds import LAST_ID
from confpy.errors import ConfpyError, UsageError

WRITTEN_MODE = r"(?mi)^[ \t]*[\"']?mode[\"']?[ \t]*=[ \t]*(0o?)?(\d{1,4})\b"
"""A mode that was written as a number: the text distinguishes 0644, 0o644 and 644, the parsed integer does not."""


def delivered_with(given: dict[str, Any], strict: bool) -> str:
    """Remove ``group`` from the options, and return it, if it names a group of resources.

    Beside an ``owner``, or if the machine has a group of users of that name, it means that one: as in many of confd's
    files (``docs/decisions/0005-group-has-two-meanings.md``).
    """
    name: str = given.get("group", "")
    if not name or name.isdecimal() or strict or given.get("owner") or given.get("uid") is not None:
        return ""
    import grp  # most resources name none

    with contextlib.suppress(KeyError, ValueError, OSError):
        grp.getgrnam(name)
        return ""
    return str(given.pop("group"))


def account(given: Mapping[str, Any], number: str, name: str, strict: bool, warnings: list[ConfpyError]) -> int | None:
    """Return the ID of the user or group that shall own the target: as a number, or by its name on this machine.

    An unknown name is a warning, since files are often written for another image; with ``strict`` it is a
    ``UsageError``.
    """
    wanted: str = given.get(name, "")
    if given.get(number) is not None or not wanted:
        return cast("int | None", given.get(number))
    import grp
    import pwd

    try:
        return pwd.getpwnam(wanted).pw_uid if name == "owner" else grp.getgrnam(wanted).gr_gid
    except (KeyError, ValueError, OSError):
        if wanted.isascii() and wanted.isdecimal() and int(wanted) <= LAST_ID:
            return int(wanted)
        unknown = UsageError(f"{name} is not known on this machine: {wanted!r}", key=name)
        if strict:
            unknown.hint = "create it, or remove strict_owner"
            raise unknown from None
        unknown.hint = f"going on without it; create it, or remove {name}"
        warnings.append(unknown)
        return None


def written_mode(content: str) -> tuple[int, str]:
    """Return the line of a file with a mode that was written as a number, and the hint: how to write it.

    0 if there is none.
    """
    written = re.search(WRITTEN_MODE, content)
    return content.count("\n", 0, written.start(2)) + 1 if written else 0, _mode_hint(written)


def _mode_hint(written: re.Match[str] | None) -> str:
    octal, digits = written.groups() if written else ("0", "644")
    if not octal and not (re.fullmatch("[0-7]+", digits) and is_sensible(int(digits, 8))):
        digits = f"{int(digits):o}"
    return f'write mode = "{digits:0>4}"'


def is_sensible(mode: int) -> bool:
    """Return whether others may do no more than the group, and the group no more than the owner."""
    owner, group, others = mode >> 6 & 7, mode >> 3 & 7, mode & 7
    return group | owner == owner and others | group == group
