"""Maps, ACL files and certificates that a running HAProxy has read: their targets are followed without a reload."""

from __future__ import annotations

import json
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.running import Ended, run_once
from tests.servers.haproxy import haproxies
from tests.servers.ports import free_ports
from tests.servers.runtime import CONFIG, RuntimeProxy
from tests.servers.traffic import ask
from tests.waiting import wait_until

RESOURCE = """[template]
src = "{name}.j2"
dest = "{folder}/{name}"
keys = ["/"]
group = "lb"
mode = "0600"
reload_haproxy = "unix:{admin}"
reload_socket = "unix:{master} reload"
verify = "haproxy"
"""
FRONTEND = """http-request return status 200 content-type text/plain lf-string %[src,map_ip({folder}/who.map,nobody)] \
if {{ src -f {folder}/known.acl }}
    http-request return status 403
    bind 127.0.0.1:{tls} ssl crt {folder}/site.pem"""


def certificate(name: str) -> str:
    """Return a self-signed certificate with its key."""
    made = subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", f"/CN={name}", "-keyout", "-", "-out", "-"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return made.stdout


class Site:
    """A HAProxy with a map, a list and a certificate."""

    def __init__(self, folder: Path, version: str) -> None:
        self.folder = folder
        self.port, self.tls = free_ports(2)
        self.proxy = RuntimeProxy(folder, self.port, version)
        self.sockets = folder / "sockets"
        self.sockets.mkdir()
        self.proxy.admin = self.sockets / "admin.sock"
        for name in ("conf.d", "templates"):
            (folder / name).mkdir()
        frontend = FRONTEND.format(folder=folder, tls=self.tls)
        text = CONFIG.format(
            folder=self.sockets, port=self.port, level="admin", global_="", bind="", frontend=frontend, backend=""
        )
        texts = {"haproxy.cfg": text}
        texts |= {name: f'{{{{ getv("/{name}") }}}}\n' for name in ("who.map", "known.acl", "site.pem")}
        for name, template in texts.items():
            resource = RESOURCE.format(name=name, folder=folder, admin=self.proxy.admin, master=self.proxy.master)
            (folder / "conf.d" / f"{name}.toml").write_text(resource)
            (folder / "templates" / f"{name}.j2").write_text(template)
        self.keys = {"who.map": "127.0.0.1 me", "known.acl": "127.0.0.1", "site.pem": certificate("first").strip()}

    def once(self, *flags: str, **keys: str) -> Ended:
        self.keys |= {name.replace("_", "."): value for name, value in keys.items()}
        (self.folder / "keys.json").write_text(json.dumps(self.keys))
        where = ("-backend", "file", "-file", str(self.folder / "keys.json"), "-confdir", str(self.folder))
        return run_once(*where, *flags, folder=self.folder)

    def served_certificate(self) -> str:
        """Return the certificate that a client is shown."""
        with socket.create_connection(("127.0.0.1", self.tls), timeout=5) as stream:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(stream) as tls:
                return ssl.DER_cert_to_PEM_cert(tls.getpeercert(binary_form=True) or b"")


@pytest.fixture(params=sorted(haproxies()))
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    found = Site(tmp_path, request.param)
    assert found.once("-no-reload").code == 0
    found.proxy.start()
    ended = found.once(who_map="127.0.0.1 you")
    assert ended.code == 0, ended.events
    yield found
    found.proxy.stop()


def test_a_map_an_acl_file_and_a_certificate_are_followed(site):
    wait_until(lambda: ask(site.port) == (200, "you"), what="the map that was read")
    worker = site.proxy.worker()
    ended = site.once(who_map="127.0.0.0/8 somebody\n10.0.0.0/8 else")
    assert "reload.avoided" in ended.names, ended.events
    assert ask(site.port) == (200, "somebody")
    ended = site.once(known_acl="10.0.0.1")
    assert "reload.avoided" in ended.names, ended.events
    assert ask(site.port)[0] == 403
    pem = certificate("second").strip()
    ended = site.once(site_pem=pem)
    assert "reload.avoided" in ended.names, ended.events
    wait_until(lambda: site.served_certificate().strip() in pem, what="the new certificate is served")
    assert site.proxy.worker() == worker


def test_no_key_of_a_certificate_is_logged_or_kept(site):
    pem = certificate("second").strip()
    ended = site.once("-log-level", "debug", site_pem=pem)
    secret = pem.partition("PRIVATE KEY-----\n")[2][:40]
    assert len(secret) == 40
    assert secret not in ended.log
    kept = [path for path in (site.folder / "state").rglob("haproxy/*") if path.is_file()]
    assert kept
    assert not any(secret.encode() in path.read_bytes() for path in kept)


def test_a_key_is_not_sent_where_others_may_put_a_socket(site):
    worker = site.proxy.worker()
    site.sockets.chmod(0o777)
    ended = site.once(site_pem=certificate("third").strip())
    site.sockets.chmod(0o700)
    assert ended.code == 0, ended.events
    assert "no key is sent there" in ended.find("reload.needed")["why"]
    wait_until(lambda: site.proxy.answers() and site.proxy.worker() not in {0, worker}, what="a new worker")
