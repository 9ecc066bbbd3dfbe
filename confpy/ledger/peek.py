"""What the ledgers of a state folder say is ours, without taking anything over: for runs that change nothing (noop)."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from itertools import count

from confpy.candidates import OwnedFile
from confpy.ledger.book import Book
from confpy.ledger.file import ENDING, NAME
from confpy.ledger.formats import read_lines
from confpy.ledger.recovery import end
from confpy.system.disk import Disk
from confpy.target.look import digest_at


def owned_files(folder: str, root: str, disk: Disk) -> tuple[OwnedFile, ...]:
    """Return the files that were made of items (``for_each``), as far as the ledgers can be read and understood.

    ``root``: as in ``Ledger``. What a delivery under way has done so far is judged by the contents, as a start does.
    """
    merged, numbers = Book(), count(1)
    books: list[Book] = []
    names: Iterable[str] = ()
    with suppress(OSError):  # nothing was ever delivered, or it may not be read
        names = disk.names(folder) if folder else ()
    for name in names:
        if name.startswith(NAME) and name.endswith(ENDING):
            with suppress(OSError):
                books.append(_read(disk.read(os.path.join(folder, name))))
    for book in sorted(books, key=lambda book: book.at):
        merged.take(book, lambda: next(numbers))
    for record in merged.in_order():
        changes = [*record.changes]
        if not record.done and any(change.of for change in changes):
            end(merged, record, {change.path: digest_at(change.path, disk) for change in changes})
    return merged.owned_in(root)


def _read(content: bytes) -> Book:
    book = Book()
    for entry in read_lines(content):
        with suppress(LookupError, TypeError, ValueError, AttributeError):
            book.apply(entry)
    return book
