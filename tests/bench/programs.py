"""The programs that are measured: this confpy, another checkout of it, confd, consul-template."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
BEFORE = "before"
"""What the other checkout is called."""
Kind = Literal["confpy", "confd", "consul-template"]


@dataclass(frozen=True, slots=True)
class Program:
    """``name`` is what its figures are called by; ``root`` the checkout of a confpy."""

    name: str
    kind: Kind
    command: tuple[str, ...]
    root: str = ""

    def environment(self, folder: Path) -> dict[str, str]:
        """Return its environment, with all that it stores in ``folder``."""
        own = {"CONFPY_CACHE_DIR": str(folder / "cache"), "CONFPY_STATE_DIR": str(folder / "state")}
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("CONFPY_", "CONFD_", "ETCDCTL_", "CONSUL_", "VAULT_", "PYTHON"))
        }
        return {**inherited, **own, **({"PYTHONPATH": self.root} if self.root else {})}

    def version(self) -> str:
        flag = "version" if self.kind == "confpy" else "-version"
        ended = subprocess.run(
            [*self.command, flag], env=self.environment(Path("/nonexistent")), cwd="/", capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        said = (ended.stdout + ended.stderr).strip().partition("\n")[0]
        return f"{said} ({commit(self.root)})" if self.root else said


def commit(root: str) -> str:
    """Return the commit of a checkout, with ``+`` where it was changed."""
    said = subprocess.run(
        ["git", "-C", root, "describe", "--always", "--abbrev=12", "--dirty=+"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return said.stdout.strip() or "unknown"


def confpy(name: str = "confpy", root: Path = ROOT) -> Program:
    """Return the confpy of a checkout, compiled, with the Python of its .venv where it has one."""
    compileall.compile_dir(root / "confpy", quiet=2)
    own = root / ".venv" / "bin" / "python"
    python = str(own) if own.exists() else sys.executable
    return Program(name, "confpy", (python, "-m", "confpy"), str(root))


def peers(named: Sequence[str], other: str | None) -> list[Program]:
    """Return the programs of ``--peer NAME=PATH`` and ``--compare PATH``; raises ``ValueError``."""
    found = [confpy(BEFORE, Path(other).resolve())] if other else []
    for text in named:
        name, _, path = text.partition("=")
        if name not in ("confd", "consul-template") or not os.access(path, os.X_OK):
            raise ValueError(f"--peer {text}: should be confd=PATH or consul-template=PATH of a program")
        found.append(Program(name, name, (str(Path(path).resolve()),)))  # type: ignore[arg-type]
    return found
