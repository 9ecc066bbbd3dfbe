"""The state folder of a confdir: records by name that survive a restart.

A record is whole at every moment: it is written beside its place, flushed to disk, and renamed. A file that is not a
record of confpy's is set aside. If nothing can be saved, that is logged once per record, and confpy goes on.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import Any, TypeAlias

from confpy.config.settings import STATE_DIR, Settings
from confpy.events import LogEvent
from confpy.system.disk import Disk
from confpy.system.ownership import require_private

Record: TypeAlias = dict[str, Any]

FORMAT = 1
LARGEST = 64 << 20
"""Bytes of a file that may be a record; confpy writes no larger one."""
_LONGEST_NAME = 200
_PLAIN = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.")


class StateFolder:
    """The records of one confdir. For one thread at a time."""

    def __init__(self, path: str, log: Callable[[LogEvent], object], disk: Disk | None = None) -> None:
        """``path`` is not touched yet. ``log`` takes warnings."""
        self.path = path
        self._log = log
        self._disk = disk or Disk()
        self._logged: set[str] = set()

    @classmethod
    def of(cls, settings: Settings, log: Callable[[LogEvent], object]) -> StateFolder:
        """Return the folder of the settings' confdir."""
        name = folder_name(os.path.realpath(settings.confdir))
        return cls(os.path.join(settings.state_dir or STATE_DIR, name), log)

    @property
    def unusable(self) -> bool:
        """Whether it could not be read or written, which was logged."""
        return bool(self._logged)

    def read(self, name: str) -> Record | None:
        """Return the record as it was written last; None if there is none that can be used."""
        try:
            if self._disk.stat(self._path(name)) is None:
                return None
            self._require_private()
            path = self._path(name)
            try:
                return _record(self._content(path))
            except ValueError as error:
                aside = path + ".set-aside"
                self._disk.rename(path, aside)
                self._log(
                    LogEvent("warning", "state.quarantined", {"error": str(error), "file": aside, "record": name})
                )
        except OSError as error:
            self._unusable(name, error)
        return None

    def write(self, name: str, record: Mapping[str, Any]) -> bool:
        """Save a record (what JSON can hold; strings may have surrogates) in place of the previous one.

        Returns whether it is flushed to disk.
        """
        content = json.dumps({"format": FORMAT, "record": record}, separators=(",", ":")).encode()
        try:
            self._disk.make_folder(self.path)
            self._require_private()
            self._disk.write_file(self._path(name), content, stage=os.path.join(self.path, f".{name}.stage"))
        except OSError as error:
            self._unusable(name, error)
            return False
        return True

    def remove(self, name: str) -> None:
        """Remove a record, if there is one."""
        try:
            if self._disk.stat(self._path(name)) is not None:
                self._disk.remove(self._path(name))
        except OSError as error:
            self._unusable(name, error)

    def names(self, prefix: str) -> list[str]:
        """Return the names of the records that begin so."""
        try:
            found = self._disk.names(self.path)
        except OSError:
            return []
        return sorted(one.removesuffix(".json") for one in found if one.startswith(prefix) and one.endswith(".json"))

    def _content(self, path: str) -> bytes:
        found = self._disk.stat(path)
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_size > LARGEST:
            raise ValueError("it is not a file of confpy's")
        return self._disk.read(path)

    def _require_private(self) -> None:
        # From now on by its path without links: somebody might change where one of them leads.
        self.path = require_private(self.path, self._disk, volumes=True)

    def _path(self, name: str) -> str:
        return os.path.join(self.path, name + ".json")

    def _unusable(self, name: str, error: OSError) -> None:
        if name not in self._logged:
            self._logged.add(name)
            hint = "name a folder that confpy may write to (state_dir)"
            fields = {"error": error.strerror or str(error), "folder": self.path, "record": name, "hint": hint}
            self._log(LogEvent("warning", "state.not_saved", fields))


def folder_name(confdir: str) -> str:
    """Return a file name that is unique to an absolute path, escaped as by systemd-escape; a long one is shortened."""
    data = os.fsencode(confdir.strip("/")) or b"/"
    escaped = "".join(
        "-" if byte == 0x2F else chr(byte) if byte in _PLAIN and (at or byte != 0x2E) else f"\\x{byte:02x}"
        for at, byte in enumerate(data)
    )
    if len(escaped) <= _LONGEST_NAME:
        return escaped
    return f"{escaped[: _LONGEST_NAME - 33]}~{sha256(data).hexdigest()[:32]}"


def confdir_of(name: str) -> str | None:
    """Return the absolute path that ``folder_name`` made a name of; None for a name that was shortened.

    Raises ``ValueError`` for any other name.
    """
    if "~" in name:
        return None
    unescaped = re.sub(
        rb"\\x([0-9a-f]{2})|-", lambda at: bytes.fromhex(at[1].decode()) if at[1] else b"/", os.fsencode(name)
    )
    confdir = "/" + os.fsdecode(unescaped).strip("/")
    if folder_name(confdir) != name:
        raise ValueError(f"{name!r} is not the name of a state folder")
    return confdir


def _record(content: bytes) -> Record:
    """Return the record that a file holds; raises ``ValueError``."""
    try:
        found = json.loads(content)
        version, record = found["format"], found["record"]
    except (LookupError, TypeError, ValueError, RecursionError):
        raise ValueError("it is not a record of confpy's, or a torn one") from None
    if version != FORMAT or not isinstance(record, dict):
        raise ValueError(f"its format ({str(version)[:20]}) is not known to this confpy")
    return record
