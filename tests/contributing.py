"""The worked examples of CONTRIBUTING.md: one diff each, every one on top of those before it.

When one does not apply any more, ``python -m tests.contributing FOLDER`` refreshes them all: it makes a git repository
of the tree in FOLDER and commits one example after another. If a hunk does not fit, it stops and leaves the hunk in a
``.rej`` file: put it in by hand, and run the same command again. After the last one it writes the diffs back.
To change an example by hand, empty its diff in CONTRIBUTING.md first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
BLOCK = re.compile(r"^### (?P<title>[^\n]+)\n(?:(?!#).*\n)*?```diff\n(?P<diff>(?:.*\n)*?)```$", re.MULTILINE)
COPIED = (
    ".gitignore", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md", "SECURITY.md", "conf.d", "confpy", "docs",
    "examples", "pyproject.toml", "mkdocs.yml", "scripts", "tests",
)  # fmt: skip


class Example(NamedTuple):
    title: str
    diff: str

    @property
    def files(self) -> list[str]:
        """The files that it touches, new ones included."""
        return re.findall(r"^\+\+\+ b/(.+)$", self.diff, re.MULTILINE)


def examples() -> list[Example]:
    """Return the examples, in the order of the page."""
    return [Example(found["title"], found["diff"]) for found in BLOCK.finditer(PAGE.read_text(encoding="utf-8"))]


def copy_tree(folder: Path, names: Iterable[str] = COPIED) -> None:
    """Copy files and folders of the tree, compiled modules included: nothing need be compiled again."""
    for name in names:
        source, copy = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, copy, symlinks=True)
        elif source.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)


def git(folder: Path, *arguments: str, given: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run git in a folder, which it takes for no part of a repository above it."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    return subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**variables, "GIT_CEILING_DIRECTORIES": str(folder.parent)},
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=check,
    )


def apply(example: Example, folder: Path) -> str:
    """Apply an example to a copy of the tree; returns why it does not fit, empty if it does."""
    return git(folder, "apply", "--verbose", "-", given=example.diff, check=False).stderr.partition("error: ")[2]


def _commit(folder: Path, message: str) -> None:
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=confpy", "-c", "user.email=confpy@localhost", "commit", "--quiet", "-m", message)


def _refresh(folder: Path) -> None:
    if not folder.exists():
        copy_tree(folder)
        git(folder, "init", "--quiet")
        _commit(folder, "the tree")
    written = examples()
    if git(folder, "status", "--porcelain").stdout:
        _commit(folder, written[_done(folder)].title)
    for example in written[_done(folder) :]:
        if not example.diff or git(folder, "apply", "--reject", "-", given=example.diff, check=False).returncode:
            sys.exit(f"{example.title}: finish it in {folder}, remove the .rej files, and run this again")
        _commit(folder, example.title)
    last = int(git(folder, "rev-list", "--count", "HEAD").stdout) - 1
    diffs = iter([_diff(folder, f"HEAD~{last - number}") for number in range(1, last + 1)])
    page = BLOCK.sub(lambda found: f"{found[0][: -len(found['diff']) - 3]}{next(diffs)}```", PAGE.read_text("utf-8"))
    PAGE.write_text(page, encoding="utf-8")


def _done(folder: Path) -> int:
    return int(git(folder, "rev-list", "--count", "HEAD").stdout) - 1


def _diff(folder: Path, commit: str) -> str:
    """Return what a commit changes, without the lines that only git reads."""
    # One line of context: the more there are, the sooner a change next to them makes the example stale.
    shown = git(folder, "show", "--format=", "--unified=1", commit).stdout
    lines = re.sub(r"^(diff --git|index|new file mode) .*\n", "", shown, flags=re.MULTILINE)
    return re.sub(r"^ $", "", lines, flags=re.MULTILINE)


if __name__ == "__main__":
    _refresh(Path(sys.argv[1]).resolve())
