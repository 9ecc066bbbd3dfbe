"""The stories of docs/troubleshooting.md: each is made to happen, and what the page shows is what the commands print.

``python -m tests.e2e.test_troubleshooting`` prints what they print now.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.host import Host
from tests.e2e.running import ROOT
from tests.pages import Block, blocks, typed
from tests.servers.etcd import Etcd
from tests.waiting import wait_until

PAGE = ROOT / "docs" / "troubleshooting.md"
TEXT = PAGE.read_text(encoding="utf-8")
TITLES = re.findall(r"^## \d+\. (.+)$", TEXT, re.MULTILINE)


def put(host: Host, key: str, value: str) -> None:
    host.etcd.put(f"/services/web/{key}", value)


@contextmanager
def host(folder: Path) -> Iterator[Host]:
    with Etcd() as etcd:
        found = Host(folder, etcd)
        found.command("systemctl", f'test "$*" = "reload haproxy" && test ! -e {found.home}/stopped')
        found.write_all(blocks(PAGE))
        try:
            put(found, "backends/a", "10.0.0.1:80")
            put(found, "backends/b", "10.0.0.2:80")
            yield found
        finally:
            found.stop()


# --- what has happened before somebody asks --------------------------------------------------------------------------


def check_fails(host: Host) -> None:
    host.start()
    put(host, "balance", "fastest")


def reload_fails(host: Host) -> None:
    host.start()
    (host.home / "stopped").touch()
    put(host, "backends/c", "10.0.0.3:80")
    host.waits_for("reload.failed")


def backend_is_missing(host: Host) -> None:
    host.start()
    put(host, "backends/c", "10.0.0.3:80800")


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
    put(host, "maxconn", "10")
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
                found.expect(block)


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
