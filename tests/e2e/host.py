"""A machine as a page of the manual describes it, in a folder of a test: whoever types what the page says sees it."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tests.e2e.running import in_path
from tests.pages import Block, Typed, shows, typed
from tests.servers.etcd import Etcd
from tests.waiting import wait_until

SECONDS = 30.0
LOOKS = re.compile(r"confpy (status|history|why|keys|check|diff)|cat |tail |grep |curl |etcdctl get")
"""Commands that only look: they are repeated until they show what the page does."""
MOVES = {"/etc/confpy": "confpy", "/etc/confd": "confd", "/etc/haproxy": "haproxy", "/usr/local/bin": "bin"}
"""Path of a page → path below the folder of the test."""


class Host:
    """Commands run in ``home``, with the paths of the test in place of the page's, and the other way round."""

    def __init__(self, folder: Path, etcd: Etcd, more: Mapping[str, str] | None = None) -> None:
        """``more`` are variables."""
        self.folder = folder
        self.etcd = etcd
        self.home = folder / "home"
        self.log = folder / "log"
        self.code = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.moved = {path: str(folder / name) for path, name in MOVES.items()}
        self.moved["http://127.0.0.1:2379"] = etcd.endpoint
        for name in ("confpy/conf.d", "confpy/templates", "haproxy", "home"):
            (folder / name).mkdir(parents=True)
        own = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": etcd.endpoint, "TZ": "UTC", "HOME": str(self.home)}
        self.environment = in_path(folder, {**own, "CONFPY_CONFDIR": str(folder / "confpy"), **(more or {})})

    # --- its files ---------------------------------------------------------------------------------------------------

    def here(self, text: str) -> str:
        for old, new in self.moved.items():
            text = text.replace(old, new)
        return text

    def there(self, text: str) -> str:
        for old, new in self.moved.items():
            text = text.replace(new, old)
        return text

    def file(self, path: str) -> Path:
        return Path(self.here(path))

    def write(self, path: str, text: str) -> None:
        self.file(path).parent.mkdir(parents=True, exist_ok=True)
        self.file(path).write_text(self.here(text))

    def write_all(self, blocks: Iterable[Block]) -> None:
        """Write the blocks that begin with ``# /path``: such files are there from the beginning."""
        for block in blocks:
            if block.text.startswith("# /") and block.language != "console":
                first, _, rest = block.text.partition("\n")
                self.write(first[2:], rest if block.language == "go" else block.text)

    def edit(self, path: str, old: str, new: str) -> None:
        text = self.file(path).read_text()
        assert old in text
        self.file(path).write_text(text.replace(old, new))

    def command(self, name: str, text: str) -> None:
        """Put a command into its path."""
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    # --- its confpy --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(["confpy"], cwd=self.home, env=self.environment, stderr=log)
        self.waits_for("confpy.ready")

    def waits_for(self, words: str) -> None:
        wait_until(lambda: words in self.log.read_text(), seconds=SECONDS, what=words)

    def has_logged(self, line: str) -> bool:
        return any(shows([line], [one]) for one in self.there(self.log.read_text()).splitlines())

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(SECONDS)

    # --- who types ---------------------------------------------------------------------------------------------------

    def run(self, command: str) -> list[str]:
        """Type a command; return what it prints, with the paths of the page."""
        if command == "echo $?":
            return [str(self.code)]
        with tempfile.TemporaryFile() as output:  # no pipe: what runs in the background would hold it open
            ran = subprocess.run(
                ["/bin/sh", "-c", self.here(command)],
                cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                timeout=SECONDS, check=False,
            )  # fmt: skip
            output.seek(0)
            printed = output.read().decode()
        self.code = ran.returncode
        if command.startswith("confpy init "):
            for resource in (*self.folder.glob("confpy/conf.d/*.toml"), *self.home.glob("**/conf.d/*.toml")):
                resource.write_text(self.here(resource.read_text()))
        return self.there(printed).splitlines()

    def follow(self, one: Typed, seconds: float = SECONDS) -> list[str]:
        """Type a command of the page; return what it prints in the end, which should be what the page shows."""
        printed: list[str] = []

        def so() -> bool:
            printed[:] = self.run(one.command)
            return shows(one.shown, printed) or not LOOKS.match(one.command)

        with suppress(AssertionError):
            wait_until(so, seconds=seconds)
        return printed

    def expect(self, block: Block) -> None:
        """Type a block ``console``; fail where something else is printed than the page shows."""
        for one in typed(block.text):
            printed = self.follow(one)
            assert shows(one.shown, printed), f"{block.place}: $ {one.command}\n" + "\n".join(printed)
