"""The file store: its settings."""

from __future__ import annotations

from typing import Literal

from confpy.config.kinds import LIST, TEXT, choice
from confpy.config.options import StoreOptions, rows, setting

GROUP = "The file store"
"""The heading of its settings."""


@rows
class FileSettings:
    """What the file store reads."""

    files: tuple[str, ...] = setting(
        GROUP,
        (),
        LIST._replace(metavar="PATH"),
        "A file or folder to read. May be repeated, or comma-separated.",
        flag="file",
        keys=("file", "files"),
    )
    filter: str = setting(GROUP, "*", TEXT._replace(metavar="GLOB"), "Which files in a folder to read.")
    file_format: Literal["auto", "document", "plain"] = setting(
        GROUP,
        "auto",
        choice("auto", "document", "plain"),
        "Whether files are documents or have one plain value each; auto: by their names and contents.",
    )


FILE = StoreOptions("file", "confpy.stores.file:FileStore")
