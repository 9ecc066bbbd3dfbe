"""Build the manual as a site: the README, docs/ and examples/ are copied to build/site-source, and mkdocs renders them.

``scripts/docs`` calls this. It fails at the first broken link, also one to a heading, and if a page would load
something from elsewhere.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE, SITE = ROOT / "build" / "site-source", ROOT / "build" / "site"
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
LOADED = re.compile(r"""<(?:script|img|iframe|source|link)\b[^>]*?\b(?:src|href)=["']?((?:https?:)?//[^"' >]+)[^>]*>""")


def pages() -> list[Path]:
    """Return all pages of the manual."""
    return [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("examples/**/README.md"),
        ROOT / "tests" / "golden" / "README.md",
    ]


def copy() -> None:
    """Copy the pages, and the files that they link to, to ``SOURCE``."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    for page in pages():
        text = page.read_text(encoding="utf-8")
        # The names as they are linked: examples/*/conf.d is a link itself.
        for name in {page, *(Path(os.path.normpath(page.parent / link)) for link in LINK.findall(text))}:
            if name.is_file() and name.is_relative_to(ROOT):
                made = SOURCE / name.relative_to(ROOT)
                made.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(name, made)


def loaded_from_elsewhere() -> Iterator[str]:
    """Yield what a browser would fetch from another machine."""
    for page in SITE.rglob("*.html"):
        for found in LOADED.finditer(page.read_text(encoding="utf-8")):
            if 'rel="canonical"' not in found[0]:
                yield f"{page.relative_to(SITE)}: {found[1]}"


def main() -> int:
    copy()
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--clean", "-f", str(ROOT / "mkdocs.yml")],
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, check=False, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    print("".join(line for line in ended.stderr.splitlines(keepends=True) if not line.startswith("INFO")), end="")
    if ended.returncode:
        return ended.returncode
    if found := [*loaded_from_elsewhere()]:
        print("\n".join(found), file=sys.stderr)
        return 1
    print(f"built {SITE.relative_to(ROOT)}: {sum(1 for _ in SITE.rglob('*.html'))} pages")
    return 0


if __name__ == "__main__":
    sys.exit(main())
