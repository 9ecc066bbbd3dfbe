"""The examples, moved into a test's folder: the same files, with other paths in them and nothing else changed."""

from __future__ import annotations

import getpass
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.running import ROOT
from tests.servers.apache import Apache
from tests.servers.etcd import Etcd
from tests.servers.haproxy import HAProxy
from tests.servers.nginx import Nginx
from tests.servers.program import Program, find


@dataclass(frozen=True)
class Example:
    """One example, and how its program is run on the file that it makes."""

    name: str
    dest: str
    moves: Mapping[str, str]
    """What its files say → what they say in a test; ``@`` is the test's folder."""
    serve: Callable[[Path, int], Program]
    """Run the program in the test's folder, on this port."""
    setting: str
    """A setting that goes to the program as it stands."""
    complaint: str
    """What the program's own check says to the value ``abc`` of it."""
    good: str

    def target(self, folder: Path) -> Path:
        return folder / Path(self.dest).name

    def move(self, folder: Path, source: Path | None = None) -> Path:
        """Write its files into ``folder`` with other paths; return their confdir.

        ``source``: where they are, if not in the example.
        """
        confdir = folder / "confdir"
        left = set(self.moves)
        base = source or ROOT / "examples" / self.name
        for file in filter(Path.is_file, base.glob("*/*")):
            text = file.read_text()
            for old, new in self.moves.items():
                if old in text:
                    left.discard(old)
                    text = text.replace(old, new.replace("@", str(folder)))
            copy = confdir / file.relative_to(base)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(text)
        assert not left, f"the example no longer says {left}"
        return confdir

    def environment(self, folder: Path) -> dict[str, str]:
        """Keep Debian's apachectl, which makes folders for all of Apache, in the test's folder."""
        return {
            "APACHE_ENVVARS": "/dev/null",
            "APACHE_RUN_DIR": f"{folder}/run",
            "APACHE_LOCK_DIR": f"{folder}/lock",
            "APACHE_RUN_USER": getpass.getuser(),
        }


AS_ROOT = os.geteuid() == 0

EXAMPLES = [
    Example(
        "haproxy",
        dest="/etc/haproxy/haproxy.cfg",
        moves={
            "/etc/haproxy/": "@/",
            "/run/haproxy-master.sock": "@/master.sock",
            "/run/haproxy-admin.sock": "@/admin.sock",
            **({} if AS_ROOT else {"    user haproxy\n    group haproxy\n": ""}),
        },
        serve=lambda folder, port: HAProxy(
            folder / "haproxy.cfg", pidfile=folder / "haproxy.pid", socket=folder / "master.sock", port=port
        ),
        setting="maxconn",
        complaint="failed to parse 'abc' as type 'integer'",
        good="300",
    ),
    Example(
        "nginx",
        dest="/etc/nginx/nginx.conf",
        moves={
            "/etc/nginx/": "@/",
            "/run/nginx.pid": "@/nginx.pid",
            "/var/log/nginx/error.log": "@/error.log",
            "http {\n": "http {\n"
            + "".join(
                f"    {kind}_temp_path @/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
            ),
        },
        serve=lambda folder, port: Nginx(folder / "nginx.conf", port=port),
        setting="connections",
        complaint='invalid number "abc"',
        good="300",
    ),
    Example(
        "apache",
        dest="/etc/apache2/apache2.conf",
        moves={
            "/etc/apache2/": "@/",
            "/run/apache2/apache2.pid": "@/apache2.pid",
            "/run/apache2": "@/run",
            "/var/log/apache2/error.log": "@/error.log",
        },
        serve=lambda folder, port: Apache(folder / "apache2.conf", port=port),
        setting="timeout",
        complaint="Proxy Timeout must be at least 1 second",
        good="20",
    ),
]

HAPROXY = next(example for example in EXAMPLES if example.name == "haproxy")


def etcdctl(etcd: Etcd, *words: str) -> None:
    """Run the command that the README of an example shows."""
    subprocess.run(
        [find("etcdctl"), f"--endpoints={etcd.endpoint}", *words],
        env={**os.environ, "ETCDCTL_API": "3"}, check=True, capture_output=True, timeout=30,
    )  # fmt: skip
