"""What a ledger records of deliveries, and how its entries are written. Pure.

A record is one batch: what it was about to do to which targets, and how far it is known to have come.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confpy.candidates import OwnedFile
from confpy.frozen import fields, frozen, is_frozen
from confpy.ledger.formats import Entry, read_lines
from confpy.messages import Counted
from confpy.reload.spec import LastRun, Rejection, ReloadSpec, UnknownReload, read_spec

GROUP_FIELDS = frozenset({"name", "changes", "swap", "rollback"})


@frozen
class Change:
    """One target that is to become new."""

    resource: str
    dest: str
    path: str
    """The file itself, links followed."""
    old: str | None
    """SHA-256 of the content, in hexadecimal digits; None: no file."""
    new: str | None
    keys: int = 0
    """How many keys the resource had."""
    mark: str = ""
    """Part of the name of the file that has the old content; empty: there is none."""
    key: str = ""
    """The key of the reload that its program needs; empty: none."""
    in_place: bool = False
    """It is overwritten in place, and may be found torn."""
    cleared: bool = False
    """That reload is no longer owed."""
    of: str = ""
    """The resource with ``for_each`` that it is an item of; empty: it is none."""
    item: str = ""
    """The item's name."""
    ours: bool = False
    """What the target was before is what was delivered of this item; of a rollback: what is put back."""

    @property
    def owes(self) -> str:
        """The key of the reload that is owed; empty: none."""
        return "" if self.cleared else self.key


@frozen
class GroupChange:
    """One group of a record: changed as a whole or not at all."""

    name: str
    changes: tuple[Change, ...]
    swap: bool = False
    """It is swapped in before its check: right only once that has passed."""
    rollback: bool = False
    """Its old files stay until its reloads have succeeded."""


@frozen
class Record:
    """One batch: what it was about to do, and how far that is known to have come."""

    number: int
    at: float
    """Wall clock: what orders the records of different processes."""
    groups: tuple[GroupChange, ...]
    reloads: tuple[ReloadSpec | UnknownReload, ...] = ()
    """Those that its changes owe, which name them by their keys."""
    is_rollback: bool = False
    """It puts back what a reload did not take; if it is cut off, the next start finishes it."""
    replaces: tuple[tuple[int, str], ...] = ()
    """The group changes (record and group) that it undoes."""
    check_passed: tuple[str, ...] = ()
    """Groups that were swapped in, and whose check has passed."""
    done: bool = False
    backend: str = ""
    """The kind of store that the keys came from; empty: an earlier version did not record it."""
    root: str = ""
    """The tree that it was delivered into; empty: that of the system."""
    reads: tuple[tuple[str, str, tuple[str, ...]], ...] = ()
    """Of each resource its ``strip`` and what it ``reads``."""

    @property
    def changes(self) -> Iterator[Change]:
        return (change for group in self.groups for change in group.changes)


# --- JSON ------------------------------------------------------------------------------------------------------------


def write_record(record: Record) -> Entry:
    return {"op": "begin", **_lean(record)}


def _lean(value: Any) -> Any:
    """Leave out what reads the same without it: most of a record of a thousand changes."""
    if is_frozen(value):
        if isinstance(value, ReloadSpec | UnknownReload):
            return value.to_json()
        return {name: _lean(it) for name, it in fields(value).items() if it or it is None}
    return [_lean(it) for it in value] if isinstance(value, list | tuple) else value


def read_record(entry: Entry, ignored: set[str] | None = None) -> Record:
    """Return the record that an entry holds; raises ``LookupError``, ``TypeError`` or ``ValueError``.

    Fields that are not known are added to ``ignored``: a version that needs them read has another number.
    """
    ignored = set() if ignored is None else ignored
    values = _known(Record, entry, ignored)
    ignored.discard("op")
    return Record(
        **{
            **values,
            "number": int(entry["number"]),
            "at": float(entry.get("at", 0.0)),
            "groups": tuple(_read_group(group, ignored) for group in entry.get("groups", ())),
            "reloads": tuple(read_spec(written) for written in entry.get("reloads", ())),
            "replaces": tuple((number, group) for number, group in entry.get("replaces", ())),
            "check_passed": tuple(entry.get("check_passed", ())),
            "reads": tuple((name, strip, tuple(prefixes)) for name, strip, prefixes in entry.get("reads", ())),
        }
    )


def _read_group(written: Mapping[str, Any], ignored: set[str]) -> GroupChange:
    if not written.keys() <= GROUP_FIELDS:
        ignored.update(written.keys() - GROUP_FIELDS)
    found = written.get("changes", ())
    try:
        changes = tuple([Change(**change) for change in found])
    except TypeError:
        changes = tuple(Change(**_known(Change, change, ignored)) for change in found)
    return GroupChange(written.get("name", ""), changes, written.get("swap", False), written.get("rollback", False))


def _known(cls: type[Any], written: Mapping[str, Any], ignored: set[str]) -> Mapping[str, Any]:
    known: Collection[str] = cls.__slots__
    ignored.update(name for name in written if name not in known)
    return {name: it for name, it in written.items() if name in known}


def read_old_files(content: bytes) -> Iterator[tuple[str, str]]:
    """Yield path and mark of each old file that a ledger names, including those that are no longer needed."""
    for entry in read_lines(content):
        with suppress(LookupError, TypeError, ValueError, AttributeError):
            if entry["op"] == "begin":
                yield from ((change.path, change.mark) for change in read_record(entry).changes if change.mark)
            elif entry["op"] == "in place":
                yield entry["path"], entry["mark"]


def write_counts(counts: Mapping[str, Counted], root: str, backend: str, store: tuple[str, int], at: float) -> Entry:
    """Return an entry of key counts. ``store``: its identity and revision; ``at``: wall clock."""
    entry: Entry = {"op": "counted", "at": at, "counts": {name: counted.keys for name, counted in counts.items()}}
    entry["identity"], entry["revision"] = store
    reads = {name: (it.strip, it.prefixes) for name, it in counts.items() if it.prefixes is not None}
    more = {"root": root, "backend": backend, "reads": reads}
    return entry | {name: it for name, it in more.items() if it}


def read_count(keys: int, backend: str, read: Sequence[Any] | None) -> Counted:
    """Return a count of an entry; ``read``: as ``write_counts`` and ``Record.reads`` have it."""
    strip, prefixes = read if read is not None else ("", None)
    return Counted(keys, backend, None if prefixes is None else tuple(prefixes), strip)


def write_owned(files: Iterable[OwnedFile], dests: Iterable[str], root: str) -> Entry:
    """Return an entry of files that were made of items, and of targets (``dests``) that are ours no more."""
    entry: Entry = {"op": "owned", "files": [fields(one) for one in files], "dests": list(dests)}
    return entry | ({"root": root} if root else {})


def read_owned(written: Mapping[str, Any]) -> OwnedFile:
    names = ("resource", "of", "item", "dest", "path", "digest")
    return OwnedFile(*(str(written[name]) for name in names))


def write_run(key: str, run: LastRun) -> Entry:
    return {"op": "run", "key": key, **fields(run)}


def write_rejections(rejections: Mapping[str, Rejection | None]) -> Entry:
    written = {name: None if one is None else fields(one) for name, one in rejections.items()}
    return {"op": "rejected", "rejections": written}


def read_rejection(written: Mapping[str, Any]) -> Rejection:
    return Rejection(**{**written, "at": float(written["at"]), "times": int(written["times"])})
