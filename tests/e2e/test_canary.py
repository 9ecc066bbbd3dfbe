"""A secret in a key, a password and a token is found nowhere: in no output, log, endpoint, and file but those meant.

The commands come from the table, and the paths from the server's: who adds one adds here what it is called with.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from confpy.commands import COMMANDS
from confpy.ledger.folder import folder_name
from confpy.status import places
from confpy.status.endpoints import Endpoints
from confpy.status.protocol import write_request
from tests.e2e.running import Confpy, environment
from tests.servers.etcd import Etcd
from tests.servers.ports import free_port

VALUE, PASSWORD, TOKEN = "canary-of-a-key", "canary-of-a-password", "canary-of-a-token"
SECRETS = (VALUE, PASSWORD, TOKEN)

CALLS: dict[str, list[list[str]]] = {
    "accept": [["web"], ["nothing"]],
    "check": [[], ["-connect"], ["-host", "-json"], ["-format", "github"]],
    "completion": [["bash"], ["zsh"], ["fish"]],
    "convert": [["{confdir}/templates/go.tmpl", "{out}"], ["{confdir}/templates/go.tmpl", "{out}2", "-verify"]],
    "deregister": [["/plain", "2"], ["/secret/value", VALUE], ["/secret/value"]],
    "diff": [[], ["-json"], ["-exit-code"]],
    "help": [[], ["status"]],
    "history": [[], ["-json"], ["web"], ["web", "-json"]],
    "init": [["haproxy", "{out}3"]],
    "keys": [[], ["-json"], ["/secret"]],
    "register": [["/secret/other", VALUE], ["/plain/a", VALUE, "-as-service"], ["/secret/other", VALUE, "-ttl", "x"]],
    "reload": [[], ["-wait"]],
    "render": [["broken"], ["unreadable.j2"]],
    "status": [[], ["-json"], ["-diff"]],
    "test": [["{confdir}/templates"]],
    "undo": [["web"], ["plain"], ["/nowhere"]],
    "version": [[]],
    "why": [["/secret/value"], ["web"], ["web:1"], ["/secret/value", "-json"], ["broken"], ["{confdir}/web.cfg:1"]],
}
"""Command → what it is called with. ``render`` prints contents, and -values values: that is what they are for."""
RESOURCES = {
    "web": ("web.j2", "web.cfg", 'check_cmd = "cat {{.src}}"', 'reload_cmd = "cat CONFDIR/web.cfg"'),
    "checked": ("web.j2", "checked.cfg", 'check_cmd = "cat {{.src}}; exit 1"'),
    "reloaded": ("web.j2", "reloaded.cfg", 'reload_cmd = "cat CONFDIR/reloaded.cfg; exit 1"'),
    "formatted": ("web.j2", "formatted.cfg", 'output_format = "json"'),
    "broken": ("broken.j2", "broken.cfg"),
    "typed": ("typed.j2", "typed.cfg"),
    "go": ("go.tmpl", "go.cfg"),
    "undoable": ("web.j2", "undoable.cfg", "undo = true"),
    "asking": ("asking.j2", "asking.cfg"),
    "including": ("including.j2", "including.cfg"),
    "listing": ("listing.j2", "listing.cfg"),
    "misplaced": ("web.j2", "missing/folder/x.cfg"),
}
"""Sensitive resources: one that is delivered, and one for each way to fail with a value at hand."""
TEMPLATES = {
    "web.j2": "password {{ getv('/secret/value') }}\n",
    "broken.j2": "{{ getv('/secret/value') + 1 }}\n",
    "typed.j2": "{{ getv('/secret/value') | int(base='x') }}{{ json(getv('/secret/value')) }}\n",
    "go.tmpl": '{{atoi (getv "/secret/value")}}\n',
    "asking.j2": "{% set it = getv('/secret/value') %}{{ lookupIP(it ~ '.invalid') }}{{ file_exists('/tmp/' ~ it) }}\n",
    "including.j2": "{% include 'parts/' ~ getv('/secret/value') %}\n",
    "listing.j2": "{% include ['none', getv('/secret/value')] %}\n",
    "unreadable.j2": "{{ getv('/secret/value') | no_filter }}\n",
}


def test_each_command_has_its_calls():
    assert set(COMMANDS) <= set(CALLS), "say here with what a new command is called"


@pytest.fixture(scope="module")
def etcd():
    with Etcd() as server:
        server.put_all({"/secret/value": VALUE, "/plain": "1"})
        server.add_user("web", PASSWORD, ("/", "0"))
        server.enable_auth()
        yield server


def make_confdir(folder):
    (folder / "conf.d").mkdir()
    (folder / "templates").mkdir()
    for name, text in TEMPLATES.items():
        (folder / "templates" / name).write_text(text)
    for name, (src, dest, *more) in RESOURCES.items():
        lines = [f'src = "{src}"', f'dest = "CONFDIR/{dest}"', 'keys = ["/secret"]', "sensitive = true", *more]
        text = "\n".join(["[template]", *lines, ""]).replace("CONFDIR", str(folder))
        (folder / "conf.d" / f"{name}.toml").write_text(text)
    return folder


def flags_of(confdir, etcd):
    store = ["-backend", "etcdv3", "-node", etcd.endpoint]
    return ["-confdir", str(confdir), *store, "-log-level", "debug", "-timeout", "30s"]


def variables(confdir):
    own = {"CONFPY_PASSWORD": PASSWORD, "CONFPY_USERNAME": "web", "CONFPY_AUTH_TOKEN": TOKEN}
    return {**environment(confdir, own), "CONFPY_BASIC_AUTH": ""}


def is_clean(text: str | bytes, where: object) -> None:
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape")
    found = [secret for secret in SECRETS if secret.encode() in data]
    assert not found, f"{found} in {where}"


def call(confdir, flags, command, arguments):
    filled = [one.format(confdir=confdir, out=confdir / "out") for one in arguments]
    ended = subprocess.run(
        [sys.executable, "-m", "confpy", *([command] if command else []), *filled, *flags], env=variables(confdir),
        cwd=confdir, stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False,
    )  # fmt: skip
    assert b"Traceback" not in ended.stderr, ended.stderr
    assert b"unknown flag" not in ended.stderr, ended.stderr
    is_clean(ended.stdout + ended.stderr, (command, arguments))
    return ended


def call_with_all(confdir, flags, command):
    """Call a command with all that is said of it above."""
    for arguments in CALLS[command]:
        own = {one.name for one in COMMANDS[command].flags}
        if all(one.removeprefix("-") in own for one in arguments if one.startswith("-") and one != "-format"):
            call(confdir, flags, command, arguments)


MEANT = {"web.cfg", "undoable.cfg", "reloaded.cfg", "asking.cfg"}
"""Targets that are delivered."""


def files_are_clean(confdir: Path) -> None:
    """No file that confpy has written has a secret but the targets, the cached keys, and what was to be kept."""
    seen = 0
    for path in confdir.rglob("*"):
        if not path.is_file() or path.is_symlink() or path.name in MEANT:
            continue
        content, seen = path.read_bytes(), seen + 1
        if path.name == "keys.json":
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert PASSWORD.encode() not in content
            assert TOKEN.encode() not in content
            continue
        if path.parent.name == "history" and VALUE.encode() in content:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            continue
        is_clean(content, path)
    assert seen > 5


@pytest.fixture(scope="module")
def at_rest(tmp_path_factory, etcd):
    """A confdir that one-shots have delivered, and its flags."""
    confdir = make_confdir(tmp_path_factory.mktemp("at-rest"))
    flags = flags_of(confdir, etcd)
    for form in ("json", "text"):
        call(confdir, [*flags, "-log-format", form, "-report", str(confdir / "report.json")], "", ["-onetime"])
    call(confdir, flags, "", ["-onetime", "-noop"])
    assert VALUE in (confdir / "web.cfg").read_text()
    yield confdir, flags
    files_are_clean(confdir)


def test_who_asks_for_the_value_gets_it(at_rest):
    confdir, flags = at_rest
    line = [sys.executable, "-m", "confpy", "keys", "-values", *flags]
    shown = subprocess.run(line, env=variables(confdir), capture_output=True, text=True, timeout=60, check=True)
    assert VALUE in shown.stdout, "else the other tests would look for nothing"


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_where_no_daemon_runs(at_rest, command):
    call_with_all(*at_rest, command)


@pytest.fixture(scope="module")
def running(tmp_path_factory, etcd):
    """A confdir with a daemon, and its flags."""
    confdir = make_confdir(tmp_path_factory.mktemp("running"))
    flags = flags_of(confdir, etcd)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.bind(str(confdir / "notify"))
        notify.setblocking(False)
        own = {**variables(confdir), "NOTIFY_SOCKET": str(confdir / "notify")}
        with Confpy("-watch", *flags, "-status-addr", f"unix:{confdir}/s", folder=confdir, more=own) as confpy:
            confpy.says("resource.changed", resource="web")
            yield confdir, flags
        is_clean(json.dumps(confpy.events), "the log")
        with contextlib.suppress(BlockingIOError):
            while True:
                is_clean(notify.recv(1 << 16), "a notification")
    files_are_clean(confdir)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_beside_a_daemon(running, command):
    call_with_all(*running, command)


def test_each_request_on_the_control_socket(running):
    confdir, _ = running
    for request in ("status", "reload", "undo", "accept", "nothing"):
        for arguments in ({}, {"target": "web", "wait": 5}, {"resource": "web"}):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(30)
                connection.connect(control_socket(confdir))
                connection.sendall(write_request(request, arguments))
                is_clean(connection.recv(1 << 22), (request, arguments))


def test_each_path_on_a_unix_socket(running):
    confdir, _ = running
    ask_all(f"{confdir}/s")


def test_each_path_over_tcp(tmp_path, etcd):
    confdir, port = make_confdir(tmp_path), free_port()
    address = ("-status-addr", f"127.0.0.1:{port}")
    with Confpy("-watch", *flags_of(confdir, etcd), *address, folder=confdir, more=variables(confdir)) as confpy:
        confpy.says("resource.changed", resource="web")
        ask_all(port)
    is_clean(json.dumps(confpy.events), "the log")


def ask_all(address):
    for path in endpoint_paths():
        for method in ("GET", "HEAD", "POST"):
            is_clean(ask(address, path, method), (method, path))


def test_a_store_that_denies_or_does_not_answer(tmp_path, etcd):
    confdir = make_confdir(tmp_path)
    away = ["-confdir", str(confdir), "-log-level", "debug", "-timeout", "3s"]
    for backend, node in (
        ("consul", "http://127.0.0.1:1"),
        ("etcdv3", "http://127.0.0.1:1"),
        ("etcdv2", etcd.endpoint),
    ):
        call(confdir, [*away, "-backend", backend, "-node", node], "", ["-onetime"])
        call(confdir, [*away, "-backend", backend, "-node", node], "keys", [])
    wrong = {**variables(confdir), "CONFPY_USERNAME": "root"}
    ended = subprocess.run(
        [sys.executable, "-m", "confpy", "-onetime", *away, "-backend", "etcdv3", "-node", etcd.endpoint], env=wrong,
        cwd=confdir, capture_output=True, timeout=60, check=False,
    )  # fmt: skip
    assert ended.returncode == 3
    is_clean(ended.stdout + ended.stderr, "a wrong password")


def ask(address, path, method="GET"):
    if isinstance(address, str):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(20)
            connection.connect(address)
            connection.sendall(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            parts = []
            while part := connection.recv(1 << 16):
                parts.append(part)
            return b"".join(parts)
    connection = http.client.HTTPConnection("127.0.0.1", address, timeout=20)
    connection.request(method, path)
    response = connection.getresponse()
    return str(response.headers).encode() + response.read()


def endpoint_paths() -> list[str]:
    found = Endpoints(None, shows_content=True, max_stale=0.0)._table  # type: ignore[arg-type]
    return [*found, "/readyz?strict", "/nothing", "/status?x=1"]


def control_socket(confdir) -> str:
    state = str(confdir / "state" / folder_name(str(confdir)))
    name = places.socket_name(str(confdir))
    candidates = [os.path.join(folder, name) for folder in places.folders(environment(confdir), state)]
    return next(path for path in candidates if os.path.exists(path))
