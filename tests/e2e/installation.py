"""A confdir that tests fill: resources, their templates and commands, and where their keys come from."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from tests.e2e.running import Confpy, Ended, run_once
from tests.waiting import wait_until


class Installation:
    """A confdir over a file of keys, or over the store that ``where`` names; resources print ``/app/<name>``."""

    def __init__(self, folder: Path, *where: str) -> None:
        self.folder = folder
        self.confdir = folder / "confd"
        self.keys = folder / "keys.yaml"
        self.where = (*(where or ("-backend", "file", "-file", str(self.keys))), "-confdir", str(self.confdir))
        self.write("")

    def write(self, keys: str) -> None:
        """Replace the file of keys as editors do."""
        new = self.folder / "keys.new"
        new.write_text(keys)
        new.replace(self.keys)

    def add(self, name: str, template: str = "", **more: str) -> Path:
        """Write a resource, its keys as TOML, and its template; returns its target."""
        for folder in ("conf.d", "templates"):
            (self.confdir / folder).mkdir(parents=True, exist_ok=True)
        text = template or f'{{{{ getv("/app/{name}", "none") }}}}\n'
        (self.confdir / "templates" / f"{name}.j2").write_text(text)
        dest = self.folder / name
        keys = {"src": f"'{name}.j2'", "dest": f"'{dest}'", "keys": f"['/app/{name}']", **more}
        lines = [f"{key} = {value}" for key, value in keys.items()]
        new = self.confdir / f"{name}.new"
        new.write_text("\n".join(["[template]", *lines, ""]))
        new.replace(self.confdir / "conf.d" / f"{name}.toml")
        return dest

    def start(self, *flags: str, more: Mapping[str, str] | None = None) -> Confpy:
        return Confpy(*self.where, *(flags or ("-watch",)), folder=self.folder, more=more)

    def once(self, *flags: str) -> Ended:
        return run_once(*self.where, *flags, folder=self.folder)

    def ledgers(self) -> list[Path]:
        return list((self.folder / "state").rglob("ledger-*"))


class Program:
    """A command that records each run, fails as often as it should, and can be watched."""

    def __init__(self, folder: Path, name: str = "runs") -> None:
        self.runs = folder / name
        self._gate = folder / f"{name}.gate"

    def failing(self, times: int) -> str:
        """Return a command that fails so many times and then works, as TOML."""
        return f"'echo x >> {self.runs}; test $(wc -l < {self.runs}) -gt {times}'"

    def closed(self) -> str:
        """Return a command that fails until ``open``, as TOML."""
        return f"'echo x >> {self.runs}; test -e {self._gate}'"

    def open(self) -> None:
        self._gate.touch()

    @property
    def count(self) -> int:
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0


def pass_time(seconds: float) -> None:
    """Return when so much time is over: for what must not happen within it."""
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, seconds=seconds + 10, what=f"{seconds} s are over")


def shows(dest: Path, text: str, *, seconds: float = 20) -> None:
    wait_until(lambda: dest.exists() and dest.read_text() == text, seconds=seconds, what=f"{text!r} in {dest.name}")
