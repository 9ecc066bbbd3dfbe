"""The pages of docs/howto do what they say: their commands are typed, and print what stands there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.host import Host
from tests.e2e.running import ROOT
from tests.pages import blocks
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port

HOWTOS = sorted((ROOT / "docs" / "howto").glob("*.md"))


def prepare(page: str, host: Host) -> None:
    """What was there before the page begins."""
    host.etcd.put("/services/web/backends/a", "10.0.0.1:80")
    if page == "sidecar":
        port = free_port()
        host.moved["127.0.0.1:8080"] = f"127.0.0.1:{port}"
        host.etcd.put("/services/web/port", str(port))
    if page == "systemd":
        # The page works in /etc, where the first delivery makes what is missing.
        (host.folder / "confpy" / "conf.d").rmdir()
        (host.folder / "confpy" / "templates").rmdir()
    if page == "migrate-from-confd":
        for path in ("confpy/conf.d", "confpy/templates", "confpy"):
            (host.folder / path).rmdir()
        target = "listen web\n    bind :80\n    server a 10.0.0.1:80\n"
        host.write("/etc/haproxy/haproxy.cfg", target)


@pytest.mark.parametrize("page", HOWTOS, ids=lambda page: page.stem)
def test_the_commands_of_a_how_to_print_what_it_shows(page: Path, etcd: Etcd, tmp_path: Path) -> None:
    host = Host(tmp_path, etcd)
    prepare(page.stem, host)
    found = blocks(page)
    host.write_all(found)
    try:
        for block in found:
            if block.language == "console":
                host.expect(block)
    finally:
        host.run('test ! -e pid || kill "$(cat pid)"')
