"""The history of a confdir: its last deliveries, and the previous contents of targets. For people and ``confpy undo``.

It lies in a folder of its own in the state folder: a file of lines, as in a ledger, and one file per previous content.
A content is kept as a second name of the old file where that is possible, which costs one system call; otherwise it is
written when the history is. Nothing of it is flushed to disk, and no failure of it is one of a delivery.
"""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache
from typing import Any

from confpy.errors import UsageError
from confpy.events import LogEvent
from confpy.frozen import fields, replace, values
from confpy.history.records import HistoryEntry, Previous, ReloadEnd
from confpy.ledger.file import set_aside
from confpy.ledger.formats import Entry, read_lines, write_line
from confpy.system.disk import Disk
from confpy.system.ownership import require_private
from confpy.target.look import digest

FOLDER = "history"
"""The folder in the state folder."""
LOG = "deliveries.log"
HEAD: Entry = {"history": 1}
"""The first line: the version of the format."""
KEPT = r"(?P<of>[0-9a-f]{16})-[0-9a-f]{16}-(?P<size>[0-9a-f]+)"
"""The name of a file with a previous content: whose it is, when it was kept, its size."""
MOST_BYTES = 64 << 20
"""Of all previous contents together."""
LARGE = 1 << 20
"""Bytes of the file of deliveries above which it is written anew without those that are too old."""
MOST_ENTRIES = 20_000
"""Entries that are left then, the newest."""
ENTRY_FIELDS = (*HistoryEntry.__annotations__,)
PREVIOUS_FIELDS = (*Previous.__annotations__,)[:-1]
"""All but the content. The order of fields is part of the format: new ones come last."""
PATIENCE = 1.0
"""Seconds to wait for another confpy that writes it."""


class History:
    """The history of one confdir, for the threads of one confpy. Without a folder it keeps nothing."""

    def __init__(
        self,
        state: str = "",
        disk: Disk | None = None,
        *,
        most: int = 10,
        guard: AbstractContextManager[object] | None = None,
        log: Callable[[LogEvent], object] = lambda _: None,
    ) -> None:
        """``state``: the state folder; ``most``: deliveries of each target; ``guard``: keeps threads apart."""
        self.folder = os.path.join(state, FOLDER) if state and most else ""
        self.path = os.path.join(self.folder, LOG)
        """The file of deliveries."""
        self._start = self.folder + os.sep
        self._disk = disk or Disk()
        self._most = most
        self._guard = guard or nullcontext()
        self._log = log
        self._kept: dict[str, deque[str]] | None = None
        """Of each path, the names of its previous contents, the oldest first; None: not looked at yet."""
        self._size = 0
        """Bytes of all of them."""
        self._shortest = 0
        """Bytes of the file of deliveries when it was last written anew."""
        self._is_known = False
        """That file is one of this version."""
        self._has_failed = False

    # --- while a delivery goes on: any thread ------------------------------------------------------------------------

    def keep(self, path: str, size: int) -> str:
        """Give a file that is about to be replaced a second name; returns it, empty where that is not possible."""
        if size > MOST_BYTES:
            return ""
        name = self._name(path, size)
        for _ in range(2):
            try:
                self._disk.link(path, self._start + name)
            except FileNotFoundError:
                try:
                    self._make_folder()
                except OSError:
                    return ""
            except OSError:  # another file system, or one without links; another user's file
                return ""
            else:
                return name
        return ""

    def _name(self, path: str, size: int) -> str:
        return f"{_of(path)}-{self._disk.clock():016x}-{size:x}"

    def discard(self, name: str) -> None:
        """Remove a content that was kept for a delivery which did not come to be."""
        self._disk.discard(self._start + name)

    # --- afterwards: a job -------------------------------------------------------------------------------------------

    def write(self, entries: Iterable[HistoryEntry], reloads: Iterable[ReloadEnd] = ()) -> None:
        """Add entries, and how reloads of earlier ones ended. A failure is logged once."""
        if not self.folder:
            return
        with self._guard:
            try:
                self._write([*entries], [*reloads])
            except OSError as error:
                if not self._has_failed:
                    self._has_failed = True
                    hint = "deliveries go on; confpy undo may lack the last ones"
                    shown = {"error": error.strerror or str(error), "folder": self.folder, "record": "history"}
                    self._log(LogEvent("warning", "state.not_saved", {**shown, "hint": hint}))

    def _write(self, entries: list[HistoryEntry], reloads: list[ReloadEnd]) -> None:
        self._make_folder()
        kept = self._look()
        written = [self._write_content(entry) for entry in entries]
        lines = [write_line(_to_json(entry)) for entry in written]
        lines += (write_line({"op": "reloaded", **_lean(reload)}) for reload in reloads)
        self._append(b"".join(lines))
        for entry in written:
            if (previous := entry.previous) is not None:
                self._limit(kept, entry, previous)
        if self._size > MOST_BYTES:
            self._forget_oldest(kept)

    def _write_content(self, entry: HistoryEntry) -> HistoryEntry:
        """Write a previous content that could not be linked; returns the entry that names the file."""
        previous = entry.previous
        if previous is None or previous.content is None:
            return entry
        name = ""
        with suppress(OSError):
            if len(previous.content) <= MOST_BYTES:
                found = self._name(previous.path, len(previous.content))
                self._disk.write_file(self._start + found, previous.content, durable=False)
                name = found
        return replace(entry, previous=replace(previous, kept=name, content=None))

    def _append(self, lines: bytes) -> None:
        disk = self._disk
        if not self._is_known:
            self._set_aside_unknown()
        for _ in range(2):
            try:
                descriptor = disk.open_existing(self.path)
            except FileNotFoundError:
                disk.write_file(self.path, write_line(HEAD) + lines, durable=False)
                return
            try:
                disk.lock(descriptor, (0,), PATIENCE)
                status = disk.fstat(descriptor)
                if disk.lstat(self.path).st_ino != status.st_ino:
                    continue  # another confpy has just written it anew
                # What was written last may be torn.
                disk.truncate(descriptor, status.st_size)
                disk.write(descriptor, b"\n" + lines)
                if status.st_size + len(lines) > max(LARGE, 2 * self._shortest):
                    self._shorten()
            finally:
                disk.close(descriptor)
            return

    def _shorten(self) -> None:
        """Write the file of deliveries anew, without those that are too old."""
        content = shorten(self._disk.read(self.path), self._most)
        self._disk.write_file(self.path, content, durable=False)
        self._shortest = len(content)

    def _set_aside_unknown(self) -> None:
        """Set aside a file that is torn from its beginning, or of another version."""
        self._is_known = True
        if self._disk.find(self.path) is None:
            return
        if not self._is_readable(self._disk.read(self.path)):
            aside = set_aside(self.path)
            self._disk.rename(self.path, aside)
            error = "it is torn, or was written by another version of confpy"
            shown = {"error": error, "file": aside, "record": "history"}
            self._log(LogEvent("warning", "state.quarantined", shown))

    @staticmethod
    def _is_readable(content: bytes) -> bool:
        return content.startswith(write_line(HEAD))

    def _make_folder(self) -> None:
        """Make the folder; raises ``OSError`` where another user could change what is there."""
        if self._kept is None:
            self._disk.make_folder(self.folder)
            require_private(self.folder, self._disk, volumes=True)

    # --- how much is kept --------------------------------------------------------------------------------------------

    def _look(self) -> dict[str, deque[str]]:
        """Return what is kept of each path."""
        if self._kept is None:
            self._kept, self._size = {}, 0
            for name in sorted(self._disk.names(self.folder)):
                if (found := re.fullmatch(KEPT, name)) is not None:
                    self._kept.setdefault(found["of"], deque()).append(name)
                    self._size += int(found["size"], 16)
        return self._kept

    def _limit(self, kept: dict[str, deque[str]], entry: HistoryEntry, previous: Previous) -> None:
        """Take a content that is kept now, and forget those of its target that are too many."""
        of = previous.kept[:16] or _of(previous.path)
        names = kept.setdefault(of, deque())
        if previous.kept and previous.kept not in names:
            names.append(previous.kept)
            self._size += _size(previous.kept)
        while len(names) > (self._most if entry.keeps else 0):
            self._forget(names.popleft())
        if not names:
            del kept[of]

    def _forget_oldest(self, kept: dict[str, deque[str]]) -> None:
        """Forget the oldest of all, until there is room again for some."""
        for name in sorted((name for names in kept.values() for name in names), key=lambda name: name.split("-")[1]):
            if self._size <= MOST_BYTES * 7 // 8:
                break
            kept[name[:16]].remove(name)
            self._forget(name)

    def _forget(self, name: str) -> None:
        self._size -= _size(name)
        self.discard(name)

    # --- reading -----------------------------------------------------------------------------------------------------

    def read(self) -> list[HistoryEntry]:
        """Return the last deliveries of all targets, the oldest first; raises ``OSError``."""
        with self._guard:
            return self._read() if self.folder else []

    def _read(self) -> list[HistoryEntry]:
        if self._disk.find(self.path) is None:
            return []
        content = self._disk.read(self.path)
        return read(content, self._most) if self._is_readable(content) else []

    def content(self, previous: Previous) -> bytes:
        """Return a previous content; raises ``UsageError`` if it is not there, or is not what it was."""
        found = self.find_content(previous)
        if found is None:
            raise UsageError("its previous content is not kept", hint=_NOT_KEPT, target=previous.path)
        if previous.digest and digest(found).hex() != previous.digest:
            hint = "a program wrote to the old file after it had been replaced; nothing was changed"
            raise UsageError("its previous content is not what it was", hint=hint, target=previous.path)
        return found

    def find_content(self, previous: Previous) -> bytes | None:
        """Return a previous content, unverified; None if it is not there."""
        if previous.content is not None:
            return previous.content
        if not re.fullmatch(KEPT, previous.kept):
            return None
        path = os.path.join(self.folder, previous.kept)
        try:
            status = self._disk.find(path)
            return self._disk.read(path) if status is not None and stat.S_ISREG(status.st_mode) else None
        except OSError:
            return None


_NOT_KEPT = "see history (how many are kept), sensitive and undo; 64 MiB of all targets together are kept at most"


def read(content: bytes, most: int) -> list[HistoryEntry]:
    """Return the entries of a file of deliveries, the oldest first; of each target so many. Torn lines are dropped."""
    entries: dict[tuple[str, str], HistoryEntry] = {}
    for line in read_lines(content):
        with suppress(LookupError, TypeError, ValueError, AttributeError):
            if line.get("op") == "delivered":
                entry = _from_json(line)
                entries[entry.delivery, entry.resource] = entry
            elif line.get("op") == "reloaded":
                _take_reload(entries, line)
    return _newest(entries.values(), most)


def shorten(content: bytes, most: int) -> bytes:
    """Return a file of deliveries without what ``read`` makes nothing of.

    Lines are taken as they are, one at a time: their entries together would take many times the size of the file.
    """
    lines: list[tuple[bytes, set[tuple[str, str]] | None]] = []
    counts: dict[str, int] = {}
    found: set[tuple[str, str]] = set()
    for text in reversed(content.split(b"\n")):
        line = next(read_lines(text), {})
        with suppress(LookupError, TypeError, ValueError, AttributeError):
            if line.get("op") == "reloaded":
                lines.append((text, {(str(delivery), str(name)) for delivery, name in line["of"]}))
            elif line.get("op") == "delivered" and len(found) < MOST_ENTRIES:
                line = _named(line)
                target = line["target"]
                counts[target] = counts.get(target, 0) + 1
                if counts[target] <= most:
                    found.add((line["delivery"], line["resource"]))
                    lines.append((text, None))
    wanted = (text for text, of in reversed(lines) if of is None or not found.isdisjoint(of))
    return b"".join([write_line(HEAD), *(text + b"\n" for text in wanted)])


def _take_reload(entries: dict[tuple[str, str], HistoryEntry], line: Entry) -> None:
    for delivery, resource in line["of"]:
        if (entry := entries.get((delivery, resource))) is not None:
            ended = "avoided" if line.get("avoided") else "succeeded"
            how, took = str(line.get("error", "")) or ended, float(line.get("took", 0.0))
            entries[delivery, resource] = replace(entry, reload=how, reload_took=took)


def _newest(entries: Collection[HistoryEntry], most: int) -> list[HistoryEntry]:
    """Return the newest entries of each target, in their order."""
    found: list[HistoryEntry] = []
    counts: dict[str, int] = {}
    for entry in reversed([*entries][-MOST_ENTRIES:]):
        counts[entry.target] = counts.get(entry.target, 0) + 1
        if counts[entry.target] <= most:
            found.append(entry)
    found.reverse()
    return found


def _lean(reload: ReloadEnd) -> Entry:
    """Leave out what most do not have."""
    return {name: value for name, value in fields(reload).items() if value or name != "avoided"}


def _to_json(entry: HistoryEntry) -> Entry:
    # Without names: to write them takes as long as to write what they name, for each delivery.
    written = fields(entry)
    if entry.previous is not None:
        written["previous"] = values(entry.previous)[: len(PREVIOUS_FIELDS)]
    return {"op": "delivered", "values": [*written.values()]}


def _named(written: Entry) -> Entry:
    """Return the values of an entry by name, as those of earlier versions are written."""
    return dict(zip(ENTRY_FIELDS, written["values"], strict=False)) if "values" in written else written


def _from_json(written: Entry) -> HistoryEntry:
    written = _named(written)
    found = {name: it for name, it in written.items() if name in ENTRY_FIELDS}
    found["at"] = float(written["at"])
    for name in ("delivery", "group", "resource", "target"):
        found[name] = str(written[name])
    found["new"] = str(written.get("new", ""))
    previous = written.get("previous")
    found["previous"] = None if previous is None else _previous(previous)
    found["keys"] = tuple(map(str, written.get("keys", ())))
    found["undoes"] = tuple(map(str, written.get("undoes", ())))
    return HistoryEntry(**found)


def _previous(written: Any) -> Previous:
    named = dict(zip(PREVIOUS_FIELDS, written, strict=False)) if isinstance(written, list) else written
    known = {name: it for name, it in named.items() if name in PREVIOUS_FIELDS}
    return Previous(**{"digest": "", **known})


@lru_cache(maxsize=1024)
def _of(path: str) -> str:
    """Return what names a path in the names of its previous contents."""
    return digest(os.fsencode(path)).hex()[:16]


def _size(name: str) -> int:
    return int(name.rpartition("-")[2], 16)


def entries_of(entries: Sequence[HistoryEntry], target: str) -> list[HistoryEntry]:
    """Return the entries of a target, which is named by its path or by its resource."""
    return [entry for entry in entries if target in (entry.target, entry.resource)]
