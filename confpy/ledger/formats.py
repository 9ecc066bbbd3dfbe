"""The entries of a ledger as lines: checksums, versions, and what earlier versions wrote. Pure."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

Entry: TypeAlias = dict[str, Any]
FORMAT = 2
"""Version of the entries that are written."""
READABLE = frozenset({1, FORMAT})
"""Versions that are read; a ledger of another one is set aside."""
HEAD: Entry = {"ledger": FORMAT}
"""The first line of a ledger."""
_ENCODER = json.JSONEncoder(separators=(",", ":"))
"""``json.dumps`` makes one for each call."""


def write_line(entry: Entry) -> bytes:
    """Return an entry as one line: a checksum, then JSON."""
    text = _ENCODER.encode(entry).encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def read_lines(content: bytes) -> Iterator[Entry]:
    """Yield the entries of a ledger, the head included, as the current version has them.

    Torn lines, at the end or where a disk was full, are dropped.
    """
    version: object = FORMAT
    for line in content.split(b"\n"):
        checksum, _, text = line.partition(b" ")
        try:
            entry = json.loads(text) if int(checksum, 16) == zlib.crc32(text) else None
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict):
            version = entry.get("ledger", version)
            yield upgrade(entry) if version == 1 else entry


# --- version 1 -------------------------------------------------------------------------------------------------------

RECORD = {
    "deeds": "groups",
    "debts": "reloads",
    "restores": "is_rollback",
    "instead": "replaces",
    "passed": "check_passed",
}
GROUP_IDS = {"failed", "groups", "instead", "passed"}
OPERATIONS = {"paid": "cleared", "passed": "checked"}
KINDS = {"signal": "signal", "url": "http", "line": "socket", "program": "program"}
"""A field that only one kind of action or verifier has → that kind."""


def upgrade(entry: Entry) -> Entry:
    """Return an entry of version 1 as the current version has it; what is malformed stays so."""
    entry = {**entry, **{name: _group_ids(entry[name]) for name in GROUP_IDS & entry.keys()}}
    operation = entry.get("op")
    if operation != "begin":
        return {**entry, "op": OPERATIONS[operation]} if operation in OPERATIONS else entry
    record = {RECORD.get(name, name): it for name, it in entry.items()}
    for group in _tables(record, "groups"):
        if "group" in group:
            group["name"] = _group_ids(group.pop("group"))
        for change in _tables(group, "changes"):
            if "paid" in change:
                change["cleared"] = change.pop("paid")
    for reload in _tables(record, "reloads"):
        if "command" in reload:
            reload["action"] = _with_kind(reload.pop("command"))
        if (verify := reload.pop("verify", None)) is not None:
            reload["verifier"] = _with_kind(verify)
    return record


def _tables(holder: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    found = holder.get(name)
    return [it for it in found if isinstance(it, dict)] if isinstance(found, list) else []


def _group_ids(written: object) -> object:
    """Return the ids of groups where there were names, in lists or alone: a resource in no group had its target's."""
    if isinstance(written, list):
        return [_group_ids(one) for one in written]
    return (
        f"{'target' if written.startswith('/') else 'group'} {written}"
        if written and isinstance(written, str)
        else written
    )


def _with_kind(written: object) -> dict[str, Any]:
    """Return an action or a verifier with its kind: a string or a list is a command, the fields show the others."""
    if not isinstance(written, dict):
        return {"kind": "command", "command": written}
    return {"kind": next((kind for name, kind in KINDS.items() if name in written), ""), **written}
