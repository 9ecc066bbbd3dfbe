"""CHANGELOG.md as data: ``python packaging/changelog.py VERSION`` prints what it says of a version."""

from __future__ import annotations

import re
import sys
from pathlib import Path

KINDS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
"""Those of https://keepachangelog.com/en/1.1.0/, in this order here."""
PAGE = Path(__file__).resolve().parent.parent / "CHANGELOG.md"
_VERSION = re.compile(r"## (\d+\.\d+\.\d+) - \d{4}-\d\d-\d\d")


def sections(text: str) -> dict[str, str]:
    """Return what a changelog says of each version, the newest first; raises ``ValueError`` if it breaks the format."""
    found: dict[str, str] = {}
    _, *parts = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    for part in parts:
        heading, _, about = part.partition("\n")
        dated = _VERSION.fullmatch(heading)
        if not dated and (heading != "## Unreleased" or found):
            raise ValueError(f"{heading!r} is neither '## VERSION - DATE' nor, as the first, '## Unreleased'")
        version = dated[1] if dated else "Unreleased"
        kinds = re.findall(r"^### (.*)\n", about, re.MULTILINE)
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise ValueError(f"{version}: there is no kind {unknown[0]!r} of changes, only {', '.join(KINDS)}")
        if kinds != sorted(kinds, key=KINDS.index) or len(set(kinds)) < len(kinds):
            raise ValueError(f"{version}: the kinds of changes are in this order, each once: {', '.join(KINDS)}")
        if empty := re.findall(r"^### (.*)\n(?=\s*(?:### |\Z))", about, re.MULTILINE):
            raise ValueError(f"{version}: nothing is said to be {empty[0]}")
        if version in found:
            raise ValueError(f"{version} has two sections")
        found[version] = about.strip()
    numbers = [tuple(map(int, version.split("."))) for version in found if version != "Unreleased"]
    if numbers != sorted(numbers, reverse=True):
        raise ValueError("the newest version is not the first")
    return found


def main() -> None:
    (version,) = sys.argv[1:]
    if not (about := sections(PAGE.read_text(encoding="utf-8")).get(version)):
        sys.exit(f"CHANGELOG.md says nothing of {version}")
    print(about)


if __name__ == "__main__":
    main()
