"""What mkdocs is to do with pages that are written for a checkout: links to folders, and drawings in Mermaid."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MERMAID = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"(?<!!)\[([^][]*)\]\((?!https?:|#)([^)#\s]+)(#[^)\s]+)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: object) -> str:
    """Return the text of a page for the site."""
    here = (ROOT / page.file.src_path).parent
    return LINK.sub(lambda link: _link(link, here), MERMAID.sub(_table, markdown))


def _link(link: re.Match[str], here: Path) -> str:
    """Link to the page of a folder instead of the folder; leave out a link to a file that is no part of the site."""
    text, path, anchor = link[1], link[2], link[3] or ""
    target = (here / path).resolve()
    if target.is_dir():
        return f"[{text}]({path.rstrip('/')}/README.md)" if (target / "README.md").is_file() else text
    return f"[{text}]({path}{anchor})"


def _table(drawing: re.Match[str]) -> str:
    """Return the arrows of a drawing as a table: Mermaid would be loaded from elsewhere."""
    names = dict(re.findall(r'^ +(\w+)[(\[]"([^"]+)"', drawing[1], re.MULTILINE))
    arrows: dict[str, list[str]] = {}
    for one, other in re.findall(r"^ +(\w+) --> (\w+)$", drawing[1], re.MULTILINE):
        arrows.setdefault(names[one], []).append(f"`{names[other]}`")
    rows = [f"| `{one}` | {', '.join(others)} |" for one, others in arrows.items()]
    return "\n".join(["| | imports |", "|---|---|", *rows])
