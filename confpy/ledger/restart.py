"""What a start does about the ledgers of processes that are gone: it reads them, and puts back what was cut off."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress

from confpy.errors import TargetTorn
from confpy.events import LogEvent
from confpy.frozen import replace
from confpy.ledger.book import Book, MissingRecordError
from confpy.ledger.file import AdoptedFile, set_aside, sync_folders
from confpy.ledger.formats import read_lines
from confpy.ledger.records import GroupChange, read_old_files
from confpy.ledger.recovery import RecoveryPlan, end, plan, prune, rollback_of
from confpy.system.disk import Disk
from confpy.target.look import digest_at
from confpy.target.replace import old_paths, put_back, remove_old


class Restart:
    """One start. What people should know of is in ``notes``."""

    def __init__(self, folder: str, disk: Disk, number: Callable[[], int], wall: Callable[[], float]) -> None:
        """``number``: returns the next number of a record; ``wall``: seconds since 1970."""
        self.notes: list[LogEvent] = []
        self._folder = folder
        self._disk = disk
        self._number = number
        self._wall = wall

    def merge(self, own: Book, files: Sequence[AdoptedFile]) -> Book:
        """Return one book of all that the files say, its records numbered anew."""
        merged = Book()
        for book in sorted([own, *map(self._read, files)], key=lambda book: book.at):
            merged.take(book, self._number)
        return merged

    def _read(self, file: AdoptedFile) -> Book:
        book = Book()
        for entry in read_lines(file.content):
            if "ledger" in entry:
                continue
            try:
                book.apply(entry)
            except MissingRecordError:
                pass
            except (LookupError, TypeError, ValueError, AttributeError) as error:
                file.problems.append(f"an entry ({str(entry.get('op'))[:20]!r}): {type(error).__name__}")
        if book.ignored:
            file.problems.append(f"the fields {', '.join(map(repr, sorted(book.ignored)))[:100]}")
        if file.problems:
            fields = {"error": f"not understood: {file.problems[0]}", "file": set_aside(file.path)}
            self._warn({**fields, "record": "ledger"})
        return book

    def _warn(self, fields: dict[str, object]) -> None:
        self.notes.append(LogEvent("warning", "state.quarantined", fields))

    def settle(self, book: Book, paths: Sequence[str]) -> list[RecoveryPlan]:
        """End the open records of a book, as far as that takes no change of a target; returns what is to be put back.

        Whatever is put back is a record of its own before it is done: it may be cut off, too, and the programs may have
        read what is there now.
        """
        found = {path: digest_at(path, self._disk) for path in paths}
        plans = []
        for one in [*plan(book, found, self._find_old_files(book, found))]:
            self._note(one)
            record, is_rollback = one.record, one.record.is_rollback
            found.update((it.change.path, it.change.new if is_rollback else it.change.old) for it in one.steps)
            if not one.missing and not (is_rollback and one.steps):
                end(book, record, found)
            elif one.missing and not is_rollback:
                # The record stays open; what it did deliver has its key counts all the same.
                delivered = tuple(it for it in record.changes if found[it.path] == it.new)
                book.count(replace(record, groups=(GroupChange("", delivered),)))
            if one.steps and not is_rollback:
                one = rollback_of(one, self._number(), self._wall())  # noqa: PLW2901 - what is done about it
                book.records[one.record.number] = one.record
            if one.steps:
                plans.append(one)
        prune(book, found)
        for reload, resources in book.unknown():
            fields = {"error": f"a reload is not understood: {reload.problem}", "resource": ", ".join(resources)}
            hint = "it stays owed, for the version of confpy that recorded it"
            self._warn({**fields, "command": reload.key, "record": "ledger", "hint": hint})
        return plans

    def _find_old_files(self, book: Book, found: dict[str, str | None]) -> dict[str, str]:
        """Return mark → path of the old files of open records, and flush to disk what the targets have."""
        old_files: dict[str, str] = {}
        folders = set()
        for record in book.records.values():
            for change in () if record.done else record.changes:
                wanted = change.new if record.is_rollback else change.old
                for place in old_paths(change.path, change.mark, self._folder) if change.mark else ():
                    link = wanted is None and self._disk.read_link(place) is not None
                    if link or (wanted is not None and digest_at(place, self._disk) == wanted):
                        old_files[change.mark] = place
                folders.add(os.path.dirname(change.path))
                with suppress(OSError):
                    if change.in_place and found[change.path]:
                        self._sync(change.path)
        sync_folders(folders, self._disk)
        return old_files

    def remove_old_files(self, book: Book, files: Sequence[AdoptedFile]) -> None:
        """Remove the old files of what is over, durably, before the ledgers that name them go."""
        marks = book.marks()
        # Also those that were removed already: a power cut may have brought them back.
        over = [old for file in files for old in read_old_files(file.content) if old[1] not in marks]
        for path, mark in dict.fromkeys(over):
            remove_old(path, mark, self._disk, self._folder)
        sync_folders({self._folder, *(os.path.dirname(path) for path, _ in over)} if over else (), self._disk)

    def put_back(self, one: RecoveryPlan) -> bool:
        """Carry out a plan; returns whether everything is back."""
        whole = not one.missing
        for step in one.steps:
            change = step.change
            try:
                if step.old and change.in_place:
                    self._sync(step.old)
                put_back(change.path, step.old, self._disk, in_place=change.in_place)
            except OSError as error:
                whole = False
                self._note_torn(change.resource, change.dest, error.strerror or str(error))
        sync_folders({os.path.dirname(step.change.path) for step in one.steps}, self._disk)
        for step in one.steps if whole else ():
            remove_old(step.change.path, step.change.mark, self._disk, self._folder)
        return whole

    def _sync(self, path: str) -> None:
        """Flush a file and its name to disk: the process that wrote it may have died before that."""
        descriptor = self._disk.open_existing(path)
        try:
            self._disk.sync(descriptor)
        finally:
            self._disk.close(descriptor)
        self._disk.sync_folder(os.path.dirname(path))

    def _note(self, one: RecoveryPlan) -> None:
        for change in one.missing:
            self._note_torn(change.resource, change.dest, "the old file is gone")
        if one.steps:
            names = ", ".join(dict.fromkeys(step.change.resource for step in one.steps))
            did = "brought the rollback to its end" if one.record.is_rollback else "put the old files back"
            self.notes.append(LogEvent("warning", "delivery.recovered", {"resource": names, "did": did}))

    def _note_torn(self, resource: str, dest: str, reason: str) -> None:
        error = TargetTorn(f"the target is torn: {reason}", resource=resource, target=dest)
        self.notes.append(LogEvent("error", "delivery.torn", error.fields()))
