"""The licences of confpy's libraries, as their metadata has them, and as a Debian package states them."""

from __future__ import annotations

import email
import re
import sys
import tempfile
import zipfile
from email.message import Message
from pathlib import Path
from typing import NamedTuple

COMMON = {"Apache-2.0": "Apache License 2.0", "MPL-2.0": "Mozilla Public License 2.0"}
"""Licences that each Debian has in /usr/share/common-licenses; packages name that file (Debian policy, 12.5)."""
OTHER_NAMES = {"BSD License": "BSD-3-Clause", "MIT License": "MIT"}
"""Names in the classifiers of libraries that state no SPDX expression."""


class Licence(NamedTuple):
    """A library with its licence."""

    name: str
    version: str
    author: str
    expression: str
    """SPDX (https://spdx.org/licenses/)."""
    modules: tuple[str, ...]
    """The packages and modules of the folder that are its own."""
    texts: tuple[str, ...]
    """Licences first, then notices that come along with them."""


def collect(libraries: Path) -> list[Licence]:
    """Return the licence of each distribution in a folder, by name; raises ``ValueError`` if one has none."""
    return [_licence(metadata) for metadata in sorted(libraries.glob("*.dist-info/METADATA"))]


def copyright_file(libraries: Path, folder: str, own: str) -> str:
    """Return a machine-readable copyright file.

    https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/. ``folder`` is where the libraries are installed,
    ``own`` is confpy's licence.
    """
    lines = [
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/",
        "Upstream-Name: confpy",
        "",
        "Files: *",
        *_field("Copyright", _owners(own)),
        "License: MIT",
        *_indented(own),
    ]
    for one in collect(libraries):
        if one.name == "confpy":
            continue
        common = [name for name in COMMON if name in one.expression]
        texts = [text for text in one.texts if not (common and _is_common(text))]
        said = [f"On Debian systems, the {COMMON[name]} is in /usr/share/common-licenses/{name}." for name in common]
        lines += [
            "",
            *_field("Files", [f"{folder}/{module}" for module in one.modules]),
            *_field("Copyright", _owners("\n".join(one.texts)) or [f"the authors of {one.name}: {one.author}"]),
            f"License: {one.expression.replace(' OR ', ' or ').replace(' AND ', ' and ')}",
            *_indented("\n\n".join([*said, *texts])),
        ]
    return "\n".join(lines) + "\n"


def _licence(metadata: Path) -> Licence:
    said = email.message_from_string(metadata.read_text(encoding="utf-8"))
    name, folder = said["Name"], metadata.parent
    found = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    licences = [path for path in found if path.name.upper().startswith(("LICEN", "COPY"))]
    notices = [path for path in found if path.name.upper().startswith("NOTICE")]
    if not licences:
        raise ValueError(f"{name} has no licence in {folder.name}")
    texts = tuple(path.read_text(encoding="utf-8", errors="replace").strip() for path in (*licences, *notices))
    author = said["Author"] or re.sub(r" *<[^>]*>", "", said["Author-email"] or "") or name
    return Licence(name, said["Version"], author.strip('"'), _expression(said), _modules(folder), texts)


def _expression(said: Message) -> str:
    if stated := said["License-Expression"] or said["License"]:
        return str(stated)
    named = [one.rpartition(" :: ")[2] for one in said.get_all("Classifier", ()) if one.startswith("License ::")]
    if not named:
        raise ValueError(f"{said['Name']} does not state its licence")
    return OTHER_NAMES.get(named[0], named[0])


def _modules(folder: Path) -> tuple[str, ...]:
    """Return the top folders and files that the distribution has installed beside its metadata."""
    record = folder / "RECORD"
    lines = record.read_text().splitlines() if record.exists() else ()
    tops = {line.partition(",")[0].partition("/")[0] for line in lines}
    present = sorted(name for name in tops - {folder.name, "..", "__pycache__"} if (folder.parent / name).exists())
    return (*(f"{name}/*" if (folder.parent / name).is_dir() else name for name in present), f"{folder.name}/*")


def _owners(text: str) -> list[str]:
    """Return the lines that say whose a text is."""
    lines = re.findall(r"^\W*(?:Copyright|\(c\)) .*\d{4}.*$", text, re.MULTILINE | re.IGNORECASE)
    return list(dict.fromkeys(re.sub(r"^\W*copyright *(\(c\)|©)? *", "", line, flags=re.IGNORECASE) for line in lines))


def _is_common(text: str) -> bool:
    return "Apache License" in text and "Version 2.0, January 2004" in text and len(text) > 9000


def _field(name: str, values: list[str]) -> list[str]:
    first, *more = values
    return [f"{name}: {first}", *(f" {value}" for value in more)]


def _indented(text: str) -> list[str]:
    return [f" {line}".rstrip() if line.strip() else " ." for line in text.strip().splitlines()]


def main() -> None:
    """Print the licence of each library in a zipapp or a folder of libraries; fail if one has none."""
    path = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as name:
        if path.is_file():
            with zipfile.ZipFile(path) as archive:
                archive.extractall(name, (one for one in archive.namelist() if ".dist-info/" in one))
            path = Path(name)
        for one in collect(path):
            print(f"{one.name} {one.version}: {one.expression}")


if __name__ == "__main__":
    main()
