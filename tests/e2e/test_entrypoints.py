"""First steps that the manual shows, run as an entrypoint runs them: by ``sh -e``, on real servers that run not yet."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.e2e.examples import EXAMPLES, HAPROXY, Example, etcdctl
from tests.e2e.running import ROOT, in_path
from tests.e2e.test_readme import BLOCK
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port
from tests.servers.traffic import ask
from tests.servers.web import Backend
from tests.waiting import wait_until

STARTS = {
    "haproxy": {"/run/haproxy.pid": "@/haproxy.pid"},
    "nginx": {"\nnginx\n": "\nnginx -c @/nginx.conf\n"},
    # Where Debian's apachectl looks for the configuration stands in its environment.
    "apache": {},
}
"""Example → what its commands say beside the paths that move."""


@contextmanager
def entrypoint(script: str, example: Example, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a script, and end it with all that it has started, daemons too."""
    path = folder / "entrypoint.sh"
    path.write_text(script)
    more = {**example.environment(folder), "APACHE_ARGUMENTS": f"-f {folder}/apache2.conf"}
    with (folder / "entrypoint.log").open("wb") as log:
        process = subprocess.Popen(
            ["/bin/sh", "-e", path], cwd=folder, env=in_path(folder, more), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        for name in ("haproxy.pid", "nginx.pid", "apache2.pid"):
            with suppress(OSError, ValueError):
                os.kill(int((folder / name).read_text()), signal.SIGTERM)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(15)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def moved(script: str, example: Example, folder: Path, etcd: Etcd) -> str:
    """Return commands of the manual with the paths and addresses of a test."""
    for old, new in {
        **{old: new for old, new in example.moves.items() if old.startswith("/")},
        **STARTS[example.name],
        f"examples/{example.name}": "@/confdir",
        "http://127.0.0.1:2379": etcd.endpoint,
    }.items():
        script = script.replace(old, new.replace("@", str(folder)))
    return script


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_the_first_steps_of_an_example_start_its_program_and_follow(example, etcd, tmp_path):
    readme = (ROOT / "examples" / example.name / "README.md").read_text()
    steps = next(text for kind, text in BLOCK.findall(readme) if kind == "sh")
    port = free_port()
    etcdctl(etcd, "put", "/services/web/port", str(port))
    example.move(tmp_path)
    with (
        Backend("a") as a,
        Backend("b") as b,
        entrypoint(moved(steps, example, tmp_path, etcd), example, tmp_path) as running,
    ):
        log = tmp_path / "entrypoint.log"

        def answers(name: str) -> bool:
            assert running.poll() is None, f"the steps ended with {running.returncode}:\n{log.read_text()}"
            return ask(port) == (200, name)

        # Its program has started on the first file; confpy follows, and reloads it.
        etcdctl(etcd, "put", "/services/web/backends/a", a.address)
        wait_until(lambda: answers("a"), seconds=60, what="a answers")
        etcdctl(etcd, "put", "/services/web/backends/b", b.address)
        wait_until(lambda: answers("b"), seconds=60, what="b answers, too")
        assert "reload.failed" not in log.read_text()


def test_the_entrypoint_of_the_manual_waits_for_the_store_and_starts_the_program(tmp_path):
    manual = (ROOT / "docs" / "exit-codes.md").read_text()
    script = next(text for kind, text in BLOCK.findall(manual) if kind == "sh" and text.startswith("until confpy"))
    assert "sleep 5" in script
    port = free_port()
    confdir = HAPROXY.move(tmp_path)
    log = tmp_path / "entrypoint.log"
    with Etcd() as etcd:
        etcdctl(etcd, "put", "/services/web/port", str(port))
        etcd.kill()
        script = moved(script, HAPROXY, tmp_path, etcd).replace("sleep 5", "sleep 0.2")
        script = script.replace("confpy -onetime", f"confpy -onetime -confdir {shlex.quote(str(confdir))}")
        with entrypoint(f"ETCD={shlex.quote(etcd.endpoint)}\n{script}", HAPROXY, tmp_path) as running:
            wait_until(lambda: " error " in log.read_text(), seconds=60, what="it waits for the store")
            etcd.start()

            def answers() -> bool:
                assert running.poll() is None, f"it ended with {running.returncode}:\n{log.read_text()}"
                return ask(port)[0] == 503

            wait_until(answers, seconds=60, what="HAProxy answers")
