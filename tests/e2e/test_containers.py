"""HAProxy follows the containers of a real Docker and a real Podman, by ``examples/docker`` as it stands.

The engines have networks of their own, so that confpy and HAProxy reach their containers by published ports.
"""

from __future__ import annotations

import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.running import ROOT, Confpy, run_once
from tests.run_as_user import needs
from tests.servers.docker import Docker, Podman, busybox_root, no_docker
from tests.servers.haproxy import HAProxy
from tests.servers.ports import free_port
from tests.servers.socket_proxy import SocketProxy
from tests.servers.traffic import ask
from tests.waiting import wait_until

LONG = 60.0
"""Seconds that a busy machine may take."""


@pytest.fixture(scope="module", params=[Docker, Podman], ids=["docker", "podman"])
def shared(request, tmp_path_factory):
    """One engine of each kind, with an image for web servers."""
    needs(no_docker())
    with request.param(again=True) as engine:
        engine.import_image("follow", busybox_root(tmp_path_factory.mktemp("image") / "root"))
        yield engine


@pytest.fixture
def engine(shared):
    yield shared
    ids = shared.call("ps", "--all", "--quiet").stdout.split()
    if ids:
        shared.call("rm", "--force", *ids)


def run(engine, name, *more, service="web", publish=True):
    """Start a web server that is called ``name``."""
    published = [f"--publish={engine.address}:{free_port()}:80"] if publish else []
    page = f"echo -n {name} > /tmp/index.html; exec httpd -f -p 80 -h /tmp"
    labels = [f"--label=confpy.service={service}", "--label=confpy.port=80"]
    flags = ["--detach", "--stop-signal=KILL", f"--name={name}", *engine.limits, *labels, *published, *more]
    return engine.call("run", *flags, "follow", "sh", "-c", page).stdout.strip()


class Site:
    """The example in a test's folder, on its own port."""

    def __init__(self, folder: Path, engine: Docker, node: str) -> None:
        self.port = free_port()
        self.config = folder / "haproxy.cfg"
        self.master = folder / "master.sock"
        self.folder = folder
        moves = {
            "/etc/haproxy/": f"{folder}/",
            "/run/haproxy-": f"{folder}/",
            "bind :8080": f"bind 127.0.0.1:{self.port}",
        }
        for source in (ROOT / "examples" / "docker").glob("[ct]*/haproxy.[tc][of][mg]*"):
            text = source.read_text()
            for old, new in moves.items():
                text = text.replace(old, new)
            copy = folder / "confdir" / source.parent.name / source.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
        self.flags = ["-confdir", str(folder / "confdir"), "-backend", "docker", "-docker-published"]
        self.flags += ["-node", node or f"unix://{engine.socket}", "-read-timeout", "3s", "-resync", "3s"]

    def servers(self) -> set[str]:
        """Return the names of the servers in HAProxy's file."""
        lines = self.config.read_text().splitlines()
        return {line.split()[1] for line in lines if line.strip().startswith("server ")}

    def has(self, *names: str) -> None:
        wait_until(lambda: self.servers() == set(names), seconds=LONG, what=f"HAProxy's file has {names}")

    def answers(self, *names: str) -> None:
        """Wait until each of these, and none else, has answered."""

        def answered():
            return {ask(self.port)[1] for _ in range(2 * len(names) + 1)} == set(names)

        wait_until(answered, seconds=LONG, what=f"{names} answer")


@contextmanager
def followed(folder, engine, node=""):
    """HAProxy and confpy on an engine."""
    site = Site(folder, engine, node)
    first = run_once("-no-reload", *site.flags, folder=folder)
    assert first.code == 0, first.log
    with (
        HAProxy(site.config, pidfile=folder / "haproxy.pid", socket=site.master, port=site.port),
        Confpy("-watch", *site.flags, folder=folder) as confpy,
    ):
        yield site, confpy


# Docker's is behind a proxy that allows what confpy needs and nothing else, and speaks new versions only.
def test_haproxy_follows_containers_that_start_stop_die_are_renamed_and_change_networks(engine, tmp_path):
    run(engine, "one")
    engine.call("network", "create", "other", check=False)
    with (
        SocketProxy(engine.socket, "1.41") as proxy,
        followed(tmp_path, engine, proxy.endpoint if engine.name == "docker" else "") as (site, confpy),
    ):
        site.answers("one")
        run(engine, "two")
        site.answers("one", "two")
        run(engine, "bad", service="a/b", publish=False)
        confpy.says("container.left_out", container="bad", seconds=LONG)
        run(engine, "sick", "--health-cmd=false", "--health-interval=1s", "--health-retries=1", publish=False)
        # Podman has systemd run its checks, and there is none here.
        expected = f'health = "{"unhealthy" if engine.name == "docker" else "starting"}"'
        health = ["keys", "/containers/sick/health", "-values", *site.flags]
        wait_until(lambda: expected in keys_of(health, tmp_path), seconds=LONG, what="its health is known")
        assert site.servers() == {"one", "two"}
        engine.call("stop", "two")
        site.answers("one")
        engine.call("start", "two")
        site.has("one", "two")
        engine.call("rename", "two", "three")
        site.has("one", "three")
        engine.call("pause", "three")
        site.has("one")
        engine.call("unpause", "three")
        site.has("one", "three")
        engine.call("network", "connect", "other", "three")
        keys = ["keys", "/containers/three/networks", *site.flags]
        wait_until(lambda: "/other/ip" in keys_of(keys, tmp_path), seconds=LONG, what="the network is there")
        engine.call("network", "disconnect", "other", "three")
        wait_until(lambda: "/other/ip" not in keys_of(keys, tmp_path), seconds=LONG, what="the network is gone")
        engine.call("exec", "three", "kill", "-9", "1", check=False)
        engine.call("kill", "three")
        site.answers("one")
        assert [event["container"] for event in confpy.events if event["event"] == "container.left_out"] == ["bad"]
        assert proxy.refused == []
        assert proxy.passed == ({"/_ping", "/events", "/containers/json"} if engine.name == "docker" else set())


def keys_of(arguments, folder):
    from tests.e2e.running import command, environment

    ended = subprocess.run(
        [*command(), *arguments],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return ended.stdout


def test_an_engine_that_freezes_ends_and_comes_back_leaves_the_file_as_it_was_and_is_followed_again(engine, tmp_path):
    run(engine, "one", "--restart=always")
    with followed(tmp_path, engine) as (site, confpy):
        site.answers("one")
        engine.signal_daemon(signal.SIGSTOP)
        try:
            confpy.says("store.lost", seconds=LONG)
            assert site.servers() == {"one"}
        finally:
            engine.signal_daemon(signal.SIGCONT)
        confpy.says("store.recovered", seconds=LONG)
        run(engine, "two")
        site.answers("one", "two")
        # As a crash of it: Docker's containers are ended by the next one, Podman's live on.
        engine.signal_daemon(signal.SIGKILL)
        confpy.says("watch.lost", seconds=LONG)
        run_when_back(engine, "three")
        wait_until(lambda: {"one", "three"} <= site.servers(), seconds=LONG, what="all that run are followed again")


def run_when_back(engine, name):
    wait_until(lambda: engine.call("version", check=False).returncode == 0, seconds=LONG, what="the engine is back")
    run(engine, name)
