"""docs/tutorial.md, typed into a clean Debian by somebody who has only this page: it is followed to its end."""

from __future__ import annotations

import re
import selectors
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.roots import Root, needs_roots
from tests.e2e.running import ROOT
from tests.pages import Typed, blocks, shows, typed
from tests.servers.docker import Docker, busybox_root
from tests.servers.program import find

PAGE = ROOT / "docs" / "tutorial.md"
SECONDS = 30.0
"""How long what a page shows may take to come."""
INSTALLS = re.compile(r"apt-get |pipx ")
"""Commands that need the network of this machine; all others run in one of their own, with that of the containers."""
ENGINE = "apt-get install -y docker.io"
"""This one is not typed: the engine runs beside the root, and its client was put there; to load both takes minutes."""
LOOKS = re.compile(r"confpy (status|why)|curl |grep |etcdctl (get|endpoint)|for request")
"""Commands that only look: they are repeated until they show what the page does."""
END = "-- end of a command --"


class Shell:
    """The one shell of somebody who types."""

    def __init__(self, root: Root, network: int) -> None:
        within = ["nsenter", f"--net=/proc/{network}/ns/net"]
        self.root = root
        self.process = subprocess.Popen(
            [*within, *root.command("exec bash 2>&1")],
            env=root.environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        self.rest = b""

    def type(self, command: str, seconds: float = 120.0) -> list[str]:
        """Type a command; return what it prints, when it has ended."""
        if command == ENGINE:
            return []
        if INSTALLS.match(command):
            folder = self._in_shell("pwd", 10.0)[0]
            return self.root.run(f"cd {folder}; exec 2>&1; {command}", seconds=600.0).splitlines()
        return self._in_shell(command, seconds)

    def _in_shell(self, command: str, seconds: float) -> list[str]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(f"{command}\necho; echo '{END}'\n".encode())
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while f"\n{END}\n".encode() not in self.rest:
                assert selector.select(max(0.0, deadline - time.monotonic())), f"$ {command}\n{self.rest.decode()}"
                part = self.process.stdout.read(65536)
                assert part, f"$ {command}\nThe shell has ended:\n{self.rest.decode()}"
                self.rest += part
        printed, _, self.rest = self.rest.partition(f"\n{END}\n".encode())
        return printed.decode().splitlines()

    def follow(self, one: Typed) -> list[str]:
        """Type a command of the page, again and again if it only looks; return what it printed in the end."""
        deadline = time.monotonic() + SECONDS
        while True:
            printed = self.type(one.command)
            if shows(one.shown, printed) or not LOOKS.match(one.command) or time.monotonic() > deadline:
                return printed
            time.sleep(0.2)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def machine(folder: Path, docker: Docker) -> Iterator[Shell]:
    """A clean Debian with a checkout; no services are started when packages are installed, as in a container."""
    docker.import_image("busybox", busybox_root(folder / "busybox"), 'CMD ["sh"]')
    assert docker.process is not None
    (engine,) = Path(f"/proc/{docker.process.pid}/task/{docker.process.pid}/children").read_text().split()
    with Root(folder) as root:
        checkout(root.path / "root" / "confpy")
        root.run(
            "printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod +x /usr/sbin/policy-rc.d; "
            "echo 'APT::Install-Recommends false;' > /etc/apt/apt.conf.d/small; "
            "touch /run/docker.sock; mkdir /run/lock; "
            "echo 127.0.0.1 localhost $(hostname) > /etc/hosts"
        )
        shutil.copy(find("docker"), root.path / "usr/bin/docker")
        keeper = root.command("")[1].removeprefix("--mount=")
        socket = str(root._mounted / "run/docker.sock")
        subprocess.run(["nsenter", f"--mount={keeper}", "mount", "--bind", docker.socket, socket], check=True)
        shell = Shell(root, int(engine))
        try:
            shell.type("cd confpy")
            yield shell
        finally:
            shell.close()


def checkout(folder: Path) -> None:
    """Copy what git knows of this checkout."""
    listed = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split("\0"):
        if name and (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name, follow_symlinks=False)


@pytest.mark.timeout(600)
def test_the_tutorial_is_followed_to_its_end_in_a_clean_root(tmp_path: Path, docker: Docker) -> None:
    needs_roots()
    with machine(tmp_path, docker) as shell:
        for block in blocks(PAGE):
            assert block.language == "console", block.place
            for one in typed(block.text):
                printed = shell.follow(one)
                assert shows(one.shown, printed), f"{block.place}: $ {one.command}\n" + "\n".join(printed)
        left = shell.type("ls -A /root /etc/confpy /run/confpy 2>&1; docker ps -q")
        assert "first" not in left
