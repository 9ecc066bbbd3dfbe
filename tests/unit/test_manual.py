"""The manual agrees with itself and with the program: links, and the messages that it explains."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import confpy

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])
EXPLAINED = {
    "docs/delivery.md": ("## Messages", r"^\| (`.*?) \| "),
    "docs/stores/etcdv2.md": ("## Troubleshooting", r"^- (`[^`]+ [^`]+`.*?): "),
    "docs/stores/etcdv3.md": ("## Troubleshooting", r"^- (`[^`]+ [^`]+`.*?): "),
}
"""Page → the section that explains messages, and where in a line of it they are."""
VARYING = re.compile(r"…|\b(?:the check|N|A|G|U:G|SIGNAL|json|\d+ \wB|\d+ s)\b")
"""What differs from one message to another."""


def prose(page: Path) -> str:
    """Return a page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(page):
    broken = []
    for link in re.findall(r"\[[^][]{2,}\]\((?!https?:)([^)]+)\)", prose(page)):
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def texts() -> str:
    """Return all strings of the source, one per line."""
    trees = [ast.parse(path.read_bytes()) for path in Path(confpy.__file__).parent.rglob("*.py")]
    constants = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return "\n".join(node.value for node in constants if isinstance(node.value, str))


@pytest.mark.parametrize("name", EXPLAINED)
def test_the_messages_that_the_manual_explains_are_those_of_the_program(name):
    heading, place = EXPLAINED[name]
    section = (ROOT / name).read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
    messages = [
        message
        for cell in re.findall(place, section, re.MULTILINE | re.DOTALL)
        for message in re.findall(r"`([^`]+)`", cell)
    ]
    assert messages
    source = texts()
    parts = [part.strip(" :()") for message in messages for part in VARYING.split(message)]
    assert [part for part in parts if part and part not in source] == []


def test_every_page_is_in_the_menu_of_the_site():
    menu = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    named = {str(page.relative_to(ROOT)) for page in [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/howto/*.md")]}
    named |= {str(page.relative_to(ROOT)) for page in ROOT.glob("examples/*/README.md")}
    assert {name for name in named if f": {name}\n" not in menu} == set()
