"""Pages of the manual as data: their blocks of code, and whether what a command prints is what the page shows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/README.md")])
TYPED = {
    ROOT / "README.md": "tests/e2e/test_readme.py",
    ROOT / "docs" / "installing.md": "tests/e2e/test_installing.py",
    ROOT / "docs" / "releasing.md": "tests/e2e/test_releasing.py",
    ROOT / "docs" / "tutorial.md": "tests/e2e/test_tutorial.py",
    ROOT / "docs" / "troubleshooting.md": "tests/e2e/test_troubleshooting.py",
    **dict.fromkeys(ROOT.glob("docs/howto/*.md"), "tests/e2e/test_howtos.py"),
}
"""Pages whose commands a test types, one after the other → that test."""

_FENCE = re.compile(r"^( *)```([^\n`]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_MARKER = re.compile(r"<!-- not run: ([^>]+?) -->\n*\Z")
_VARYING = (
    (r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z?", "TIME"),
    (r"\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{8,64}\b", "HASH"),
    (r"\bPID \d+", "PID N"),
    (r"\b\d+(\.\d+)? (s|min|h|days?)\b", "N s"),
    (r"\b(took|retry_in|attempt|revision)=[\d.]+", r"\1=N"),
    (r"(?<=\s)\d+\.\d{3}(?=\s)", "SECONDS"),
)


class Block(NamedTuple):
    """A block of code of a page."""

    page: Path
    line: int
    """Where it begins, from 1."""
    info: str
    """What stands behind the three backticks; its first word is the language."""
    text: str
    unrun: str
    """Why it is not run, if the page says so: ``<!-- not run: REASON -->`` above it."""

    @property
    def language(self) -> str:
        return self.info.partition(" ")[0]

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


class Typed(NamedTuple):
    """A command of a block ``console``, and what it is to print."""

    command: str
    shown: tuple[str, ...]


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        marker = _MARKER.search(text, 0, fence.start())
        content = re.sub(f"^{fence[1]}", "", fence[3], flags=re.MULTILINE)
        line = text.count("\n", 0, fence.start()) + 1
        found.append(Block(page, line, fence[2], content, marker[1] if marker else ""))
    return found


def typed(text: str) -> Iterator[Typed]:
    r"""Yield the commands of a block ``console``: after ``$``, with the lines after a ``\`` at the end of a line."""
    command, shown, goes_on, ends_at = "", [], False, ""
    for line in text.splitlines():
        if goes_on or ends_at:
            command += f"\n{line.removeprefix('> ')}"
            ends_at = "" if line.removeprefix("> ") == ends_at else ends_at
            goes_on = not ends_at and line.endswith("\\")
        elif line.startswith("$ "):
            if command:
                yield Typed(command, tuple(shown))
            command, shown = line[2:], []
            goes_on = line.endswith("\\")
            document = re.search(r"<< *'?(\w+)'?", line)
            ends_at = document[1] if document else ""
        else:
            shown.append(line)
    if command:
        yield Typed(command, tuple(shown))


def steady(line: str) -> str:
    """Return a line without what differs from run to run, and with one space where there are more."""
    for pattern, word in _VARYING:
        line = re.sub(pattern, word, line)
    return " ".join(line.split())


def shows(page: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether a page shows what was printed: ``…`` stands for any text, alone in a line for any lines."""
    patterns = []
    for line in page:
        if line.strip() == "…":
            patterns.append(r"(?:[^\n]*\n)*?")
        else:
            parts = (re.escape(steady(part)) for part in line.split("…"))
            patterns.append(" ?[^\n]*? ?".join(parts) + "\n")
    return bool(re.fullmatch("".join(patterns), "".join(f"{steady(line)}\n" for line in printed)))
