"""The stories of docs/troubleshooting.md: each is made to happen, and what the page shows is what the commands print.

``python -m tests.e2e.test_troubleshooting`` prints what they print now.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.running import ROOT, in_path
from tests.pages import Block, Typed, blocks, shows, typed
from tests.servers.etcd import Etcd
from tests.waiting import wait_until

PAGE = ROOT / "docs" / "troubleshooting.md"
TEXT = PAGE.read_text(encoding="utf-8")
TITLES = re.findall(r"^## \d+\. (.+)$", TEXT, re.MULTILINE)
SECONDS = 30.0
LOOKS = re.compile(r"confpy (status|history|why|keys|check|diff)|cat |tail |grep ")
"""Commands that only look: they are repeated until they show what the page does."""


class Host:
    """A machine as the page describes it, in a folder: its paths stand for those of the page."""

    def __init__(self, folder: Path, etcd: Etcd) -> None:
        self.folder = folder
        self.etcd = etcd
        self.moved = {
            "/etc/confpy": str(folder / "confpy"),
            "/etc/haproxy": str(folder / "haproxy"),
            "http://127.0.0.1:2379": etcd.endpoint,
        }
        self.home = folder / "home"
        for name in ("confpy/conf.d", "confpy/templates", "haproxy", "home"):
            (folder / name).mkdir(parents=True)
        self.environment = in_path(
            folder,
            {
                "ETCDCTL_API": "3",
                "ETCDCTL_ENDPOINTS": etcd.endpoint,
                "CONFPY_CONFDIR": self.moved["/etc/confpy"],
                "TZ": "UTC",
            },
        )
        self.command("systemctl", f'case "$*" in "reload haproxy") test ! -e {self.home}/stopped ;; *) exit 1 ;; esac')
        for block in blocks(PAGE):
            if block.text.startswith("# /etc/"):
                self.write(block.text.partition("\n")[0][2:], block.text)
        self.code = 0
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self, name: str, text: str) -> None:
        path = self.folder / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

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
        self.file(path).write_text(self.here(text))

    def edit(self, path: str, old: str, new: str) -> None:
        text = self.file(path).read_text()
        assert old in text
        self.file(path).write_text(text.replace(old, new))

    def put(self, key: str, value: str) -> None:
        self.etcd.put(f"/services/web/{key}", value)

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

    def run(self, command: str) -> list[str]:
        """Type a command; return what it prints, with the paths of the page."""
        if command == "echo $?":
            return [str(self.code)]
        ran = subprocess.run(
            ["/bin/sh", "-c", self.here(command)],
            cwd=self.home, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
        self.code = ran.returncode
        return self.there(ran.stdout).splitlines()

    def follow(self, one: Typed, seconds: float = SECONDS) -> list[str]:
        """Type a command of the page; return what it prints in the end, which should be what the page shows."""
        printed: list[str] = []

        def so() -> bool:
            printed[:] = self.run(one.command)
            return shows(one.shown, printed) or not LOOKS.match(one.command)

        with suppress(AssertionError):
            wait_until(so, seconds=seconds)
        return printed


@contextmanager
def host(folder: Path) -> Iterator[Host]:
    with Etcd() as etcd:
        found = Host(folder, etcd)
        try:
            found.put("backends/a", "10.0.0.1:80")
            found.put("backends/b", "10.0.0.2:80")
            yield found
        finally:
            found.stop()


# --- what has happened before somebody asks --------------------------------------------------------------------------


def check_fails(host: Host) -> None:
    host.start()
    host.put("balance", "fastest")


def reload_fails(host: Host) -> None:
    host.start()
    (host.home / "stopped").touch()
    host.put("backends/c", "10.0.0.3:80")
    host.waits_for("reload.failed")


def backend_is_missing(host: Host) -> None:
    host.start()
    host.put("backends/c", "10.0.0.3:80800")


def key_is_elsewhere(host: Host) -> None:
    host.edit("/etc/confpy/templates/haproxy.cfg.j2", '"/services/web/maxconn"', '"/defaults/maxconn"')
    host.etcd.put("/defaults/maxconn", "500")
    host.start()


def line_of_unknown_origin(host: Host) -> None:
    host.start()


def keys_vanish(host: Host) -> None:
    host.start()
    host.etcd.replace()
    host.waits_for("keys.suspect")


def edited_by_hand(host: Host) -> None:
    host.start()
    host.edit("/etc/haproxy/haproxy.cfg", "maxconn 2000", "maxconn 9000")
    host.run("confpy reload")  # else it is found within a minute
    host.waits_for("target.drifted")


def bad_change(host: Host) -> None:
    host.start()
    host.waits_for("reloaded=true")
    host.put("maxconn", "10")
    host.waits_for("changed=/services/web/maxconn")


def store_is_away(host: Host) -> None:
    host.start()
    host.etcd.kill()
    host.waits_for("watch.lost")
    host.run("confpy reload")  # else it is asked within a minute
    host.waits_for("store.lost")


def broken_edit(host: Host) -> None:
    host.start()
    host.edit("/etc/confpy/conf.d/haproxy.toml", "check_cmd =", "chekc_cmd =")
    host.edit("/etc/confpy/conf.d/haproxy.toml", 'keys = ["/services/web"]', 'keys = "/services/web')
    host.waits_for("resource.invalid")


CAUSES: tuple[Callable[[Host], None], ...] = (
    check_fails, reload_fails, backend_is_missing, key_is_elsewhere, line_of_unknown_origin,
    keys_vanish, edited_by_hand, bad_change, store_is_away, broken_edit,
)  # fmt: skip


def story(number: int) -> list[Block]:
    """Return the blocks of a story."""
    starts = [TEXT.count("\n", 0, found.start()) for found in re.finditer(r"^## ", TEXT, re.MULTILINE)]
    starts.append(TEXT.count("\n") + 1)
    first = next(place for place in starts if f"## {number}. " in TEXT.splitlines()[place])
    last = starts[starts.index(first) + 1]
    return [block for block in blocks(PAGE) if first < block.line <= last]


def test_there_are_ten_stories() -> None:
    assert len(TITLES) == len(CAUSES) == 10
    assert all(any(block.language == "console" for block in story(number + 1)) for number in range(10))


@pytest.mark.parametrize("number", range(1, 11), ids=lambda number: CAUSES[number - 1].__name__)
def test_what_the_page_shows_is_what_the_commands_print(number: int, tmp_path: Path) -> None:
    with host(tmp_path) as found:
        CAUSES[number - 1](found)
        for block in story(number):
            if block.language == "text":
                for line in block.text.splitlines():
                    wait_until(lambda line=line: found.has_logged(line), what=f"{line} in {found.log.read_text()}")
            elif block.language == "console":
                for one in typed(block.text):
                    printed = found.follow(one)
                    assert shows(one.shown, printed), f"{block.place}: $ {one.command}\n" + "\n".join(printed)


def main() -> None:
    for number in map(int, sys.argv[1:] or range(1, 11)):
        with tempfile.TemporaryDirectory() as folder, host(Path(folder)) as found:
            CAUSES[number - 1](found)
            parts = [f"\n=== {number}. {TITLES[number - 1]}"]
            for block in story(number):
                for one in typed(block.text) if block.language == "console" else ():
                    parts += [f"$ {one.command}", *found.follow(one, seconds=2.0)]
            parts += ["--- log", found.there(found.log.read_text())]
        sys.stdout.write("\n".join(parts))


if __name__ == "__main__":
    main()
