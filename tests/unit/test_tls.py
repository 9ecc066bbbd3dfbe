"""Whom TLS trusts: by which name, from which files, and what happens when these change under a running confpy."""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
from contextlib import closing, contextmanager

import pytest

from confpy.errors import StoreError, UsageError
from confpy.http.addresses import Node
from confpy.http.body import read_body
from confpy.http.endpoints import Endpoints
from confpy.http.tls import Trust
from tests.servers.authority import Authority
from tests.servers.web import Backend


@pytest.fixture(scope="module")
def authorities(tmp_path_factory):
    """Two authorities that do not know each other."""
    folder = tmp_path_factory.mktemp("tls")
    return Authority(folder / "one"), Authority(folder / "two")


def server_tls(authority, *also, name="db.example", clients=None):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.load_cert_chain(*authority.issue(name, *also))
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    return context


@contextmanager
def conversation(server, **options):
    """Return what asks the server, each time on a new connection."""
    options = {key: str(value) if isinstance(value, os.PathLike) else value for key, value in options.items()}
    node = Node("https", "127.0.0.1", server.port)

    def call(connection):
        with connection.bounded():
            return read_body(connection.get("/"), 1000).decode()

    trust = Trust(**options)
    with closing(Endpoints("test", [node], trust=trust, connect_timeout=5.0, read_timeout=5.0)) as endpoints:
        yield lambda: endpoints.with_failover(call)


def replace(path, by):
    """Put a copy of a file in the place of another, as tools that renew certificates do."""
    beside = path.with_suffix(".new")
    shutil.copy(by, beside)
    beside.rename(path)


# --- names -----------------------------------------------------------------------------------------------------------


def test_the_server_name_is_what_the_certificate_must_say_and_what_is_asked_for(authorities):
    one, _ = authorities
    asked = []
    tls = server_tls(one)
    tls.sni_callback = lambda _, name, __: asked.append(name)
    with Backend("here", tls) as server:
        with conversation(server, ca=one.ca, server_name="db.example") as talk:
            assert talk() == "here"
        assert asked == ["db.example"]
        with conversation(server, ca=one.ca) as talk, pytest.raises(StoreError, match=r"not trusted.*127"):
            talk()
        with conversation(server, ca=one.ca, server_name="other") as talk, pytest.raises(StoreError, match=r"'other'"):
            talk()
        with conversation(server, insecure=True, server_name="other") as talk:
            assert talk() == "here"


@pytest.mark.parametrize("name", [".example", "a..b", "two words", "line\nbreak", "x" * 64])
def test_a_server_name_that_no_host_has_is_refused(name):
    with pytest.raises(UsageError, match="not the name of a host"):
        Trust(server_name=name)


# --- files that change -----------------------------------------------------------------------------------------------


# --- the system's authorities ----------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """An OpenSSL that was built for a system which has its CAs in another place."""
    found = ssl.get_default_verify_paths()._replace(cafile=None, openssl_capath=str(tmp_path))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: found)
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("elsewhere")
def test_the_systems_authorities_are_found_where_openssl_does_not_look(authorities, monkeypatch, tmp_path):
    one, _ = authorities
    monkeypatch.setattr("confpy.http.tls.BUNDLES", (str(tmp_path / "missing"), str(one.ca)))
    with Backend("here", server_tls(one)) as server, conversation(server, server_name="db.example") as talk:
        assert talk() == "here"


@pytest.mark.usefixtures("elsewhere")
def test_a_system_without_authorities_trusts_those_of_certifi(monkeypatch):
    monkeypatch.setattr("confpy.http.tls.BUNDLES", ())
    assert Trust().context().cert_store_stats()["x509_ca"] > 50


@pytest.mark.usefixtures("elsewhere")
def test_a_variable_for_openssl_decides_alone(authorities, monkeypatch, tmp_path):
    one, _ = authorities
    monkeypatch.setattr("confpy.http.tls.BUNDLES", (str(one.ca),))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing"))
    assert Trust().context().cert_store_stats()["x509_ca"] == 0


def test_a_ca_file_that_changes_counts_from_the_next_connection_on(authorities, tmp_path):
    one, two = authorities
    ca = tmp_path / "ca.pem"
    shutil.copy(one.ca, ca)
    with Backend("here", server_tls(two, "IP:127.0.0.1")) as server, conversation(server, ca=ca) as talk:
        with pytest.raises(StoreError, match="not trusted"):
            talk()
        replace(ca, two.ca)
        assert talk() == "here"
        replace(ca, one.ca)
        with pytest.raises(StoreError, match="not trusted"):
            talk()


def test_a_clients_certificate_that_changes_is_shown_from_the_next_connection_on(authorities, tmp_path):
    one, two = authorities
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path, source in zip((cert, key), two.issue("stranger"), strict=True):
        shutil.copy(source, path)
    tls = server_tls(one, "IP:127.0.0.1", clients=one.ca)
    with Backend("here", tls) as server, conversation(server, ca=one.ca, cert=cert, key=key) as talk:
        with pytest.raises(StoreError, match=r"certificate|broken"):
            talk()
        friend = one.issue("friend")
        replace(cert, friend[0])
        with pytest.raises(StoreError, match=r"before they changed: the client certificate cannot be used.*MISMATCH"):
            talk()
        replace(key, friend[1])
        assert talk() == "here"


@pytest.mark.parametrize("how", ["gone", "half", "empty"])
def test_a_file_that_is_gone_or_half_written_changes_nothing(authorities, tmp_path, how):
    one, two = authorities
    ca = tmp_path / "ca.pem"
    shutil.copy(one.ca, ca)
    with (
        Backend("here", server_tls(one, "IP:127.0.0.1")) as server,
        Backend("there", server_tls(two, "IP:127.0.0.1")) as stranger,
        conversation(server, ca=ca) as talk,
        conversation(stranger, ca=ca) as talk_to_stranger,
    ):
        if how == "gone":
            ca.unlink()
        else:
            ca.write_bytes(two.ca.read_bytes()[:200] if how == "half" else b"")
        assert talk() == "here"
        with pytest.raises(StoreError, match=r"not trusted.*before they changed: the CA file cannot be used"):
            talk_to_stranger()
        shutil.copy(two.ca, ca)
        assert talk_to_stranger() == "there"


# --- files that are wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("held", "reason"),
    [
        ("nothing", "it is empty"),
        ("der", "it is DER, not PEM"),
        ("key", "it holds a key, no certificate"),
        ("text", "it holds no certificate"),
        ("half", "its certificate is broken"),
        ("folder", "it is not a regular file"),
        ("fifo", "it is not a regular file"),
        ("none", "No such file or directory"),
    ],
)
def test_a_ca_file_without_a_certificate_is_one_clear_error_at_once(authorities, tmp_path, held, reason):
    one, _ = authorities
    ca = tmp_path / "wrong.pem"
    if held == "der":
        subprocess.run(["openssl", "x509", "-in", str(one.ca), "-outform", "der", "-out", str(ca)], check=True)
    elif held == "folder":
        ca.mkdir()
    elif held == "fifo":
        os.mkfifo(ca)
    elif held != "none":
        whole = one.ca.read_bytes()
        key = (one.folder / "ca.key").read_bytes()
        ca.write_bytes({"nothing": b"\n", "key": key, "text": b"no certificate", "half": whole[:200]}[held])
    with pytest.raises(UsageError, match=reason) as caught:
        Trust(ca=str(ca))
    assert str(caught.value).startswith("the CA file cannot be used: ")
    assert str(ca) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_clients_certificate_that_cannot_be_used_is_named(authorities, tmp_path):
    one, _ = authorities
    cert, _ = one.issue("client")
    with pytest.raises(UsageError, match=r"client certificate .*No such file.*none\.pem"):
        Trust(cert=str(tmp_path / "none.pem"))
    with pytest.raises(UsageError, match="client certificate cannot be used"):
        Trust(cert=str(cert), key=str(one.folder / "ca.key"))
    with pytest.raises(UsageError, match="without its certificate"):
        Trust(key=str(cert))
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match="not a regular file"):
        Trust(cert=str(tmp_path / "fifo"))


def test_an_encrypted_key_is_refused_and_asks_nobody_for_its_passphrase(tmp_path):
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:secret", "-subj", "/CN=x"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    with pytest.raises(UsageError, match="client certificate cannot be used"):
        Trust(cert=str(cert), key=str(key))
