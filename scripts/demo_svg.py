"""Draw what scripts/demo prints as an animated SVG: docs/images/demo.svg, the first picture of the README.

`scripts/docs svg` runs the demo and draws it anew; a test holds that the text of the picture is what the demo prints.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "demo.svg"
TITLE = "What ./scripts/demo prints: containers come and go, HAProxy follows, and a bad value is refused."
COLUMNS, ROWS = 104, 17
SECONDS = 4.0
"""How long each frame is shown."""
SHORT = 3
"""A chapter of fewer lines stands below the one before it."""
FIRST_PORT = 8080
LOG_LINES = 3
"""How many lines a wrapped line of the log may have."""
WIDTH, HEIGHT, MARGIN = 7.25, 18, 14
"""Pixels: of a character, of a line, around all of them."""
COLOURS = {"bold": "#ffffff", "typed": "#7fdbca", "log": "#8a97a8", "new": "#8fd486", "old": "#f08a8a", "": "#d6deeb"}


class Line(NamedTuple):
    """One line of the picture."""

    text: str
    style: str


def record() -> str:
    """Run the demo, and return what it prints: no line of the log is wrapped."""
    ran = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "demo.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "10000", "NO_COLOR": "1"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    return ran.stdout


def steady(text: str) -> str:
    """Replace what differs from run to run: times, ports, process numbers, folders and digests."""
    ports: dict[str, str] = {}

    def port(found: re.Match[str]) -> str:
        number = ports.setdefault(found[2], str(FIRST_PORT + len(ports)))
        return f"{found[1]}{number}"

    text = re.sub(r"\b(127\.0\.0\.1:'?)(\d+)", port, text)
    for pattern, replacement in (
        (r"\d{4}-\d\d-\d\dT[\d:]+Z", "2026-01-01T12:00:00Z"),
        (r"/\S*?/confpy-demo-\w+", "/srv/demo"),
        (r"(\.confpy-)[0-9a-f]{8}", r"\1c5d1f0a2"),
        (r"\b(old|new)=[0-9a-f]{16}", r"\1=…"),
        (r"took=[\d.]+", "took=0.1"),
        (r"retry_in=[\d.]+", "retry_in=1.0"),
        (r"revision=\d+", "revision=…"),
        (r"(command|output)=\"(?:\\.|[^\"\\])*\"", r"\1=…"),
        (r"confdir=\S+", "confdir=."),
        (r"Done in [\d.]+ s", "Done in 2 s"),
    ):
        text = re.sub(pattern, replacement, text)
    return text


def style(line: str) -> str:
    if line.startswith("$ "):
        return "typed"
    if line.startswith("  confpy: "):
        return "log"
    if line.startswith("    +"):
        return "new"
    if line.startswith("    -"):
        return "old"
    return "" if line.startswith(" ") else "bold"


def shortened(text: str) -> list[Line]:
    """Return the lines for the picture. Of the log, info is left out but what was delivered, and long lines are cut."""
    lines = []
    for line in text.splitlines():
        kind = style(line)
        if kind == "log":
            if re.search(r" info (?!resource\.changed)", line):
                continue
            wrapped = textwrap.wrap(line.strip(), COLUMNS, initial_indent="  ", subsequent_indent="    ")
            if len(wrapped) > LOG_LINES:
                wrapped = [*wrapped[: LOG_LINES - 1], f"{wrapped[LOG_LINES - 1][: COLUMNS - 2]} …"]
            lines += [Line(part, kind) for part in wrapped]
        else:
            lines.append(Line(line[:COLUMNS], kind))
    return lines


def frames(lines: Sequence[Line]) -> list[list[Line]]:
    """Return what is shown at once: a chapter, or a part of one that is longer than the window.

    Together they have all lines but the empty ones between chapters.
    """
    chapters: list[list[Line]] = [[]]
    for line in lines:
        if not line.text:
            chapters.append([])
        else:
            chapters[-1].append(line)
    shown: list[list[Line]] = []
    for chapter in chapters:
        if shown and len(chapter) < SHORT:
            shown[-1] += [Line("", ""), *chapter]
        else:
            shown += [chapter[row : row + ROWS] for row in range(0, len(chapter), ROWS)]
    return shown


def draw(shown: Sequence[Sequence[Line]]) -> str:
    """Return the SVG. Without animation the first frame is seen."""
    width, height = round(COLUMNS * WIDTH + 2 * MARGIN), ROWS * HEIGHT + 2 * MARGIN
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    total = SECONDS * len(shown)
    share = 100 / len(shown)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-labelledby="title">',
        f'<title id="title">{TITLE}</title>',
        "<style>",
        "text{font:12px/1 ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace;white-space:pre}",
        *(f".{name or 'plain'}{{fill:{colour}}}" for name, colour in COLOURS.items()),
        ".bold{font-weight:bold}",
        f".frame{{opacity:0;animation:show {total:g}s linear infinite}}",
        ".frame:first-of-type{opacity:1}",
        f"@keyframes show{{0%,{share - 0.01:.2f}%{{opacity:1}}{share:.2f}%,100%{{opacity:0}}}}",
        "@media (prefers-reduced-motion:reduce){.frame{animation:none}}",
        "</style>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#011627"/>',
    ]
    for number, frame in enumerate(shown):
        parts.append(f'<g class="frame" style="animation-delay:{number * SECONDS - (total if number else 0):g}s">')
        for row, line in enumerate(frame):
            y = MARGIN + HEIGHT * row + 13
            parts.append(
                f'<text x="{MARGIN}" y="{y}" class="{line.style or "plain"}" xml:space="preserve">'
                f"{escape(line.text, quote=False)}</text>"
            )
        parts.append("</g>")
    return "\n".join([*parts, "</svg>", ""])


def main() -> None:
    PICTURE.write_text(draw(frames(shortened(steady(record())))), encoding="utf-8")
    print(f"wrote {PICTURE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
