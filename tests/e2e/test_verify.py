"""A reload that a program did not take has failed: real nginx, Apache and HAProxy, and what keeps them from it."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from confpy.reload.verify import look
from tests.e2e.installation import Installation
from tests.e2e.running import Ended
from tests.run_as_user import as_nobody
from tests.servers.apache import Apache
from tests.servers.authority import Authority
from tests.servers.haproxy import HAProxy
from tests.servers.nginx import Nginx
from tests.servers.ports import free_port
from tests.servers.program import Program
from tests.servers.traffic import ask

NGINX = """\
pid {folder}/pid;
error_log {folder}/error.log;
{module}
worker_processes 2;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
    uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
    server {{
        listen 127.0.0.1:{port};
        {other}
        {certificate}
        location / {{ return 200 "{text}"; }}
    }}
}}
"""
APACHE = """\
ServerRoot "/usr/lib/apache2"
ServerName localhost
DefaultRuntimeDir "{folder}/run"
PidFile "{folder}/pid"
ErrorLog "{folder}/error.log"
{user}
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule alias_module modules/mod_alias.so
LoadModule socache_shmcb_module modules/mod_socache_shmcb.so
LoadModule ssl_module modules/mod_ssl.so
{module}
Listen 127.0.0.1:{port}
{other}
{certificate}
RedirectMatch 404 "/{text}"
"""
HAPROXY = """\
global
    maxconn 100
defaults
    mode http
    timeout connect 2s
    timeout client 5s
    timeout server 5s
{module}
frontend a
    bind 127.0.0.1:{port}
    {other}
    {certificate}
    http-request return status 200 content-type text/plain string {text}
"""


@dataclass
class Site:
    """A program that serves what its configuration, the target of a resource, says; it is reloaded without a check."""

    installation: Installation
    kind: str
    way: str
    port: int = field(default_factory=free_port)

    @property
    def folder(self) -> Path:
        return self.installation.folder

    def text(self, text: str, *, port: int = 0, module: str = "", certificate: str = "", other: str = "") -> str:
        form = {"nginx": NGINX, "apache": APACHE, "haproxy": HAPROXY}[self.kind]
        return form.format(
            text=text, port=port or self.port, module=module, certificate=certificate, other=other,
            folder=self.folder, user="User www-data\nGroup www-data" if os.geteuid() == 0 else "",
        )  # fmt: skip

    def deliver(self, text: str, **more: str) -> Ended:
        pid = self.folder / "pid"
        tells = f"'{self.kind}'"
        ways = {
            "nginx by command": {"reload_cmd": f"'nginx -s reload -c {self.config}'", "verify": f"'nginx {pid}'"},
            "nginx by signal": {"reload_signal": "'HUP'", "reload_pidfile": f"'{pid}'", "verify": tells},
            "apache by command": {
                "reload_cmd": f"'apache2 -f {self.config} -k graceful'", "verify": f"'apache {pid}'"
            },
            "apache by signal": {"reload_signal": "'USR1'", "reload_pidfile": f"'{pid}'", "verify": tells},
            "haproxy by socket": {"reload_socket": f"'unix:{self.folder}/master.sock reload'", "verify": tells},
            "haproxy by signal": {"reload_signal": "'USR2'", "reload_pidfile": f"'{pid}'", "verify": tells},
            "haproxy without a socket": {
                "reload_cmd": f"""'kill -USR2 "$(cat {pid})"'""", "verify": f"'haproxy {pid}'"
            },
        }  # fmt: skip
        self.installation.add("program.conf", f"{{% raw %}}{text}{{% endraw %}}", **{**ways[self.way], **more})
        return self.installation.once()

    @property
    def config(self) -> Path:
        return self.folder / "program.conf"

    def program(self) -> Program:
        match self.kind:
            case "nginx":
                return Nginx(self.config, port=self.port)
            case "apache":
                return Apache(self.config, port=self.port)
            case _:
                sock = None if self.way == "haproxy without a socket" else self.folder / "master.sock"
                return HAProxy(self.config, pidfile=self.folder / "pid", socket=sock, port=self.port)

    def fault(self, name: str, stack: ExitStack) -> dict[str, str]:
        """Return what the configuration says where this is wrong."""
        if name == "port taken":
            taken = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
            also = {"nginx": f"listen 127.0.0.1:{taken};", "apache": f"Listen 127.0.0.1:{taken}"}
            return {"other": also.get(self.kind, f"bind 127.0.0.1:{taken}")}
        if name == "certificate gone":
            certificate, key = Authority(self.folder / "ca").issue("localhost")
            certificate.unlink()
            extra = free_port()
            lines = {
                "nginx": f"listen 127.0.0.1:{extra} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};",
                "apache": f"Listen 127.0.0.1:{extra}\n<VirtualHost 127.0.0.1:{extra}>\nSSLEngine on\n"
                f"SSLCertificateFile {certificate}\nSSLCertificateKeyFile {key}\n</VirtualHost>",
            }
            return {"certificate": lines.get(self.kind, f"bind 127.0.0.1:{extra} ssl crt {certificate}")}
        lines = {
            "nginx": f"load_module {self.folder}/missing.so;",
            "apache": "LoadModule missing_module modules/mod_missing.so",
        }
        return {"module": lines.get(self.kind, f"    errorfile 500 {self.folder}/missing.http")}


WAYS = [
    "nginx by command", "nginx by signal", "apache by command", "apache by signal",
    "haproxy by socket", "haproxy by signal", "haproxy without a socket",
]  # fmt: skip


@pytest.fixture(params=WAYS)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Site:
    way: str = request.param
    (tmp_path / "run").mkdir()
    tmp_path.chmod(0o755)
    return Site(Installation(tmp_path), way.partition(" ")[0], way)


def serves(site: Site, text: str) -> bool:
    status, body = ask(site.port)
    return status == 404 and text in body if site.kind == "apache" else (status, body) == (200, text)


def test_a_reload_that_is_taken_is_done(site):
    site.config.write_text(site.text("one"))
    with site.program(), socket.create_connection(("127.0.0.1", site.port)):  # that holds an old worker for a while
        ended = site.deliver(site.text("two"))
        assert ended.code == 0, ended.events
        assert ended.find("resource.changed")["reloaded"] is True
        if site.kind != "apache":
            assert ask(site.port) == (200, "two")


@pytest.mark.parametrize("fault", ["port taken", "certificate gone", "module missing"])
def test_a_reload_that_is_not_taken_has_failed_and_is_made_up_for(site, fault):
    site.config.write_text(site.text("one"))
    with ExitStack() as stack, site.program():
        ended = site.deliver(site.text("two", **site.fault(fault, stack)))
        assert ended.code == 7, ended.events
        failed = ended.find("reload.failed")
        assert failed["did"] == "the reload stays owed, for the next start"
        # What the program's own command, or HAProxy's master, has said is as good.
        assert failed["error"] == FAILURES[site.kind] or failed["error"].startswith("the reload "), failed
        if site.kind != "apache":
            assert ask(site.port) == (200, "one")
            mended = site.deliver(site.text("three"))
            assert mended.code == 0, mended.events
            assert ask(site.port) == (200, "three")


@pytest.mark.parametrize("site", [way for way in WAYS if way != "apache by command"], indirect=True)  # that starts one
def test_where_no_program_runs_the_reload_is_owed_and_said(site):
    site.config.write_text(site.text("one"))
    ended = site.deliver(site.text("two"))
    assert ended.code == 7, ended.events
    failed = ended.find("reload.failed", did="the reload stays owed, for the next start")
    assert "running" in failed.get("hint", "") or failed["error"].startswith("the reload exited with ")
    with site.program():
        assert site.deliver(site.text("two")).code == 0


@pytest.mark.parametrize("site", ["nginx by command", "haproxy without a socket"], indirect=True)
def test_a_program_that_was_not_told_has_taken_nothing(site):
    site.config.write_text(site.text("one"))
    with site.program():
        ended = site.deliver(site.text("two"), reload_cmd="'true'")
        assert ended.code == 7, ended.events
        assert ended.find("reload.failed")["error"] == FAILURES[site.kind]


def test_a_haproxy_master_that_was_not_told_has_taken_nothing(tmp_path):
    site = Site(Installation(tmp_path), "haproxy", "haproxy by socket")
    site.config.write_text(site.text("one"))
    with site.program():
        site.way = "haproxy without a socket"
        ended = site.deliver(site.text("two"), reload_cmd="'true'", verify=f"'haproxy unix:{tmp_path}/master.sock'")
        assert ended.code == 7, ended.events
        assert ended.find("reload.failed")["error"] == "haproxy got no reload, and goes on as it was"


def test_a_user_who_is_not_root_sees_what_tells(tmp_path):
    site = Site(Installation(tmp_path), "nginx", "nginx by command")
    site.config.write_text(site.text("one"))
    with site.program() as program:
        number = program.process.pid
        seen = look("nginx", str(tmp_path / "pid"))
        assert seen.keys() == {number}
        assert (len(seen[number].workers), seen[number].waits) == (2, True)
        assert as_nobody(lambda: look("nginx"))[number] == seen[number]


FAILURES = {
    "nginx": "nginx has not taken its new configuration, and goes on with the old one",
    "apache": "apache has ended instead of taking its new configuration",
    "haproxy": "haproxy has not taken its new configuration, and goes on with the old one",
}
