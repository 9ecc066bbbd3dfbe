"""Containers that register themselves, told from the unit files of ``examples/``: Apache follows all that happens.

The commands are the files' own, on a real Docker; etcd is one of today, and one with the keys of v2, as fleet had it.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests import unit_files
from tests.e2e.examples import EXAMPLES
from tests.e2e.installation import pass_time
from tests.e2e.machine import Machine
from tests.e2e.running import ROOT, Confpy, in_path, run_once
from tests.servers.docker import Docker, busybox_root
from tests.servers.etcd import Etcd, Etcd2
from tests.servers.ports import free_ports
from tests.servers.traffic import ask
from tests.unit.test_coreos_examples import files, units
from tests.waiting import wait_until

APACHE = next(example for example in EXAMPLES if example.name == "apache")
SERVES = "trap exit TERM; hostname > /www/index.html; httpd -f -h /www & wait"
TTL = 3


@dataclass(frozen=True)
class World:
    """One way of registering containers: unit files, the store they use, and how its things are called."""

    folder: str
    unit: str
    sidekick: str
    image: str
    container: str
    """Of a container on port ``@``, which is also its key."""
    backend: str
    etcd: type[Etcd]
    environment: dict[str, str]
    """What programs of this world find set."""
    files: Callable[[str], dict[str, str]]
    """What the units read of a machine with this address."""

    def units(self) -> dict[str, str]:
        """Return the units; what only fleet reads is left out."""
        folder = ROOT / "examples" / self.folder
        paths = [folder / name for name in (self.unit, self.sidekick)]
        return {path.name: path.read_text().partition("[X-Fleet]")[0] for path in paths}

    def put(self, etcd: Etcd, key: str, value: str) -> None:
        """Set a key as the people of this world do."""
        _ = etcd.set(key, value) if isinstance(etcd, Etcd2) else etcd.put(key, value)

    def expires(self, etcd: Etcd, key: str) -> bool:
        """Whether a key has a TTL."""
        if isinstance(etcd, Etcd2):
            return "ttl" in etcd.request("GET", f"/keys{key}")["node"]
        found = etcd.ask("kv/range", {"key": base64.b64encode(key.encode()).decode()}).get("kvs", [])
        return any(int(one.get("lease", 0)) for one in found)


SYSTEMD = World(
    "systemd", "web@.service", "web-register@.service", "example/web", "web-@", "etcdv3", Etcd, {},
    lambda address: {"/etc/default/web": f"ADDRESS={address}\nIMAGE=example/web\nTTL={TTL}\nDRAIN=0\n"},
)  # fmt: skip
FLEET = World(
    "coreos", "sample.application.1@.service", "sample.application.1-register@.service", "sample/application",
    "sample.application.1.@", "etcdv2", Etcd2, {"ETCDCTL_API": "2"},
    lambda address: {"/etc/environment": f"COREOS_PRIVATE_IPV4={address}\nTTL={TTL}\n"},
)  # fmt: skip


class Site:
    """A machine with containers, and Apache before them, which confpy keeps in step with etcd."""

    def __init__(self, world: World, docker: Docker, etcd: Etcd, folder: Path, stack: ExitStack) -> None:
        self.world, self.docker, self.etcd = world, docker, etcd
        self.ports = free_ports(2)
        port = free_ports(1)[0]
        world.put(etcd, "/services/web/port", str(port))
        flags = ["-backend", world.backend, "-node", etcd.endpoint, "-confdir", str(APACHE.move(folder))]
        environment = APACHE.environment(folder)
        assert run_once("-no-reload", *flags, folder=folder, more=environment).code == 0
        self.proxy = stack.enter_context(APACHE.serve(folder, port))
        self.confpy = stack.enter_context(Confpy("-watch", *flags, folder=folder, more=environment))
        self.folder = folder
        self.target = APACHE.target(folder)
        self.journal = folder / "journal"
        self.machine = self.start_machine()

    def start_machine(self) -> Machine:
        confpy = self.folder / "bin" / "confpy"
        if not confpy.exists():
            in_path(self.folder)
        variables = {
            "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "ETCDCTL_ENDPOINTS": self.etcd.endpoint,
            **self.docker.environment, **self.world.environment,
        }  # fmt: skip
        programs = dict.fromkeys(("/usr/bin/confpy", "/opt/confpy/confpy"), str(confpy))
        return Machine(self.world.units(), self.world.files(self.docker.address), variables, self.journal, programs)

    def unit(self, port: int) -> str:
        return self.world.unit.replace("@.", f"@{port}.")

    def sidekick(self, port: int) -> str:
        return self.world.sidekick.replace("@.", f"@{port}.")

    def container(self, port: int) -> str:
        return self.world.container.replace("@", str(port))

    def names(self, *ports: int) -> None:
        """Return when Apache's configuration names the containers on these ports and no others."""
        expected = {f"{self.docker.address}:{port}" for port in ports}

        def so() -> bool:
            return set(re.findall(r'BalancerMember "http://(\S+)"', self.target.read_text())) == expected

        wait_until(so, what=f"the configuration names {expected}")

    def follows(self, *ports: int) -> None:
        """Return when Apache's configuration names these and no others, and each of them answers through Apache."""
        self.names(*ports)
        answers = {(200, self._hostname(port)) for port in ports} or {(503, "")}
        seen: set[tuple[int, str]] = set()

        def all_answer() -> bool:
            status, body = ask(self.proxy.port)
            seen.add((status, body.strip() if status == 200 else ""))
            return seen >= answers

        wait_until(all_answer, what=f"{answers} answer, not {seen}")

    def _hostname(self, port: int) -> str:
        """Return how a container is called, by itself: when it runs, which is after its registration."""
        hostname = ("exec", self.container(port), "hostname")
        wait_until(lambda: self.docker.call(*hostname, check=False).returncode == 0, what=f"{hostname}")
        return self.docker.call(*hostname).stdout.strip()


@pytest.fixture(params=[SYSTEMD, FLEET], ids=["units of systemd, etcd v3", "units of fleet, etcd v2"])
def site(request: pytest.FixtureRequest, docker: Docker, tmp_path: Path) -> Iterator[Site]:
    world: World = request.param
    root = busybox_root(tmp_path / "root")
    (root / "www").mkdir()
    docker.import_image(world.image, root, f'CMD ["sh", "-c", "{SERVES}"]')
    with world.etcd() as etcd, ExitStack() as stack:
        site = Site(world, docker, etcd, tmp_path, stack)
        try:
            yield site
            assert site.confpy.stop() == 0
        finally:
            site.machine.shut_down()


def test_apache_follows_containers_that_start_stop_crash_and_lose_their_machine(site: Site) -> None:
    first, second = site.ports
    machine = site.machine
    site.follows()

    # Start, stop, start again.
    machine.start(site.unit(first))
    site.follows(first)
    machine.start(site.unit(second))
    site.follows(first, second)
    machine.stop(site.unit(second))
    site.follows(first)
    assert machine.commands[-1][:2] == (site.unit(second), "ExecStopPost")
    assert machine.failures == []

    # A container that dies takes its key with it, with nobody who asks.
    machine.start(site.unit(second))
    site.follows(first, second)
    site.docker.call("kill", site.container(second))
    site.names(first)
    if site.world is SYSTEMD:  # a Restart= of its unit starts it again
        site.follows(first, second)
    assert machine.failures == []


def test_the_key_of_a_machine_that_lost_its_power_goes_with_its_ttl(site: Site) -> None:
    (port, _) = site.ports
    machine = site.machine
    machine.enable(site.sidekick(port))
    machine.start(site.unit(port))
    machine.start(site.sidekick(port))
    site.follows(port)
    delivered = site.target.stat().st_mtime_ns
    wait_until(
        lambda: site.world.expires(site.etcd, f"/services/web/backends/{site.container(port)}"),
        what="the key has a TTL",
    )
    pass_time(TTL + 1)
    assert site.target.stat().st_mtime_ns == delivered, "the key was kept alive"
    commands = list(machine.commands)
    machine.lose_power()
    # Docker's own client has ended as well, and may be about to remove it.
    site.docker.call("rm", "--force", site.container(port), check=False)
    inspect = ("inspect", site.container(port))
    wait_until(lambda: site.docker.call(*inspect, check=False).returncode != 0, what="the container is gone")
    site.follows()
    assert machine.commands == commands, "nothing was run that could have removed the key"

    # It comes back with the machine; what was left of the container is no hindrance.
    site.docker.call("create", f"--name={site.container(port)}", site.world.image)
    site.machine = site.start_machine()
    site.machine.start(site.unit(port))
    site.follows(port)
    assert site.machine.failures == []


@pytest.mark.parametrize(
    ("data", "unit", "world"),
    [("cloud-config.yaml", "cloud-confpy.service", FLEET), ("flatcar.bu", "flatcar-confpy.service", SYSTEMD)],
    ids=["CoreOS", "Flatcar"],
)
def test_a_machine_that_is_set_up_so_reloads_apache_in_its_container(data, unit, world, docker, tmp_path):
    # What the unit runs: the flags that follow the image's name, and what the container gets to see.
    (line,) = [value for name, value in unit_files.read(units()[unit])["Service"] if name == "ExecStart"]
    words = unit_files.command(line, {}, {}).words
    image = len(words) - words[::-1].index("confpy")
    volumes = {words[number + 1].split(":")[1] for number, word in enumerate(words) if word == "--volume"}
    assert volumes == {"/etc/confpy", "/var/lib/confpy", "/srv/apache", "/var/run/docker.sock"}

    # Its files, with other paths in them.
    confdir, target = tmp_path / "confpy", tmp_path / "backends.conf"
    moves = {"/srv/apache/backends.conf": target, "/var/run/docker.sock": docker.socket, "/containers/apache/": None}
    for path, content in files(data).items():
        file = confdir / Path(path).relative_to("/etc/confpy")
        file.parent.mkdir(parents=True, exist_ok=True)
        for old, new in moves.items():
            assert old in content or not path.endswith(".toml"), old
            content = content.replace(old, str(new or old))  # noqa: PLW2901 - replaced step by step
        file.write_text(content)

    docker.import_image("example/apache", busybox_root(tmp_path / "root"))
    reloads = "trap 'echo reloaded' USR1; while :; do sleep 0.1; done"
    docker.call("run", "--detach", "--name=apache", "example/apache", "sh", "-c", reloads)
    try:
        with world.etcd() as etcd:
            world.put(etcd, "/services/web/backends/a", "10.0.0.1:80")
            flags = [etcd.endpoint if word.startswith("http://") else word for word in words[image:]]
            with Confpy(*flags, "-confdir", str(confdir), folder=tmp_path) as confpy:
                confpy.says("resource.changed", reloaded=True)
                assert 'BalancerMember "http://10.0.0.1:80"' in target.read_text()
                wait_until(lambda: docker.call("logs", "apache").stdout == "reloaded\n", what="it was reloaded")
                assert confpy.stop() == 0
    finally:
        docker.call("rm", "--force", "apache")
