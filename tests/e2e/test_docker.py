"""The engine on which other tests run containers: it is reached, reaches the tests' servers, and leaves nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from tests.run_as_user import needs
from tests.servers.docker import Docker, busybox_root, no_docker
from tests.servers.traffic import ask


def lines(*command: str) -> list[str]:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.splitlines()


def rules() -> list[str]:
    return [*lines("iptables", "-S"), *lines("iptables", "-t", "nat", "-S")]


def command_lines() -> Iterator[bytes]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes()


def traces(engine: Docker) -> set[str]:
    """Return the kinds of things that the machine has of an engine."""
    mounts = Path("/proc/self/mountinfo").read_text()
    found = {
        "interface": any(engine.label in line for line in lines("ip", "-o", "link")),
        "mount": engine.folder.name in mounts,
        "control group": bool(engine.control_groups()),
        "process": any(engine.folder.name.encode() in line for line in command_lines()),
        "folder": engine.folder.exists(),
    }
    return {kind for kind, there in found.items() if there}


def test_an_engine_runs_a_published_container_and_is_gone_without_a_trace(tmp_path):
    needs(no_docker())
    before = rules()
    with Docker() as engine:
        page = busybox_root(tmp_path / "root") / "www" / "index.html"
        page.parent.mkdir()
        page.write_text("from a container")
        engine.import_image("web", tmp_path / "root", 'CMD ["httpd", "-f", "-h", "/www"]')
        engine.call("run", "--detach", "--name=web", f"--publish={engine.address}:8080:80", "web")
        assert ask(8080, address=engine.address) == (200, "from a container")
        assert traces(engine) == {"interface", "control group", "process", "folder"}
    assert traces(engine) == set()
    assert rules() == before
