"""The manual as a site: it builds without a warning, each link leads somewhere, nothing is loaded from elsewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.running import ROOT

PARTS = (
    "*.md",
    "docs",
    "examples",
    "scripts",
    "confpy/examples",
    "confpy/deployments",
    "tests/golden/README.md",
    "mkdocs.yml",
    "LICENSE",
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of what the site is made of."""
    for part in PARTS:
        for path in ROOT.glob(part):
            made = tmp_path / path.relative_to(ROOT)
            made.parent.mkdir(parents=True, exist_ok=True)
            _ = shutil.copytree(path, made, symlinks=True) if path.is_dir() else shutil.copy(path, made)
    return tmp_path


def build(source: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, source / "scripts" / "docs_site.py"],
        cwd=source, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip


def test_the_site_builds_with_every_page_and_a_search_that_finds_them(source: Path) -> None:
    built = build(source)
    assert built.returncode == 0, built.stdout + built.stderr
    site = source / "build" / "site"
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/README.md")]
    for page in pages:
        made = site / page.relative_to(ROOT).with_suffix(".html")
        assert made.exists() or made.with_name("index.html").exists(), page
    index = json.loads((site / "search" / "search_index.json").read_text())
    assert any("min_reload_interval" in entry["text"] for entry in index["docs"])
    assert "unpkg.com" not in (site / "docs" / "architecture.html").read_text()


@pytest.mark.parametrize(
    ("added", "said"),
    [
        ("[x](nowhere.md)", "nowhere.md"),
        ("[x](settings.md#nowhere)", "nowhere"),
        ('<img src="https://example.com/x.png">', "https://example.com/x.png"),
    ],
    ids=["a page", "a heading", "an image from elsewhere"],
)
def test_a_broken_link_and_what_is_loaded_from_elsewhere_fail_the_build(source: Path, added: str, said: str) -> None:
    # The whole manual takes long: one page with its neighbour is enough.
    for page in source.glob("docs/**/*.md"):
        if page.name not in {"why.md", "settings.md"}:
            page.unlink()
    shutil.rmtree(source / "examples")
    for page in source.glob("*.md"):
        page.write_text("# Page\n")
    (source / "docs" / "settings.md").write_text("# Settings\n")
    (source / "docs" / "why.md").write_text(f"# Why\n\n{added}\n")
    (source / "mkdocs.yml").write_text((source / "mkdocs.yml").read_text().partition("\nnav:")[0])
    failed = build(source)
    assert failed.returncode != 0
    assert said in failed.stdout + failed.stderr
