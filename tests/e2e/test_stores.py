"""One example, every store: the same ``examples/haproxy``; only flags say where the keys are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.e2e.examples import HAPROXY
from tests.e2e.running import Confpy, run_once
from tests.servers.consul import Consul
from tests.servers.etcd import Etcd2
from tests.servers.ports import free_port
from tests.servers.traffic import Traffic
from tests.servers.web import Backend
from tests.waiting import wait_until


@dataclass(frozen=True)
class Place:
    """Where keys live: the flags that say so, and how one puts a key there."""

    flags: tuple[str, ...]
    put: Callable[[str, str], object]
    environment: dict[str, str] = field(default_factory=dict)
    watches: bool = True


@contextmanager
def etcd(backend: str, *, by_v2: bool) -> Iterator[Place]:
    with Etcd2() as server:
        yield Place(("-backend", backend, "-node", server.endpoint), server.set if by_v2 else server.put)


@contextmanager
def consul() -> Iterator[Place]:
    with Consul() as server:
        yield Place(("-backend", "consul", "-node", server.endpoint), lambda key, value: server.put(key[1:], value))


@contextmanager
def document(folder: Path) -> Iterator[Place]:
    keys: dict[str, str] = {}
    file = folder / "keys.json"

    def put(key: str, value: str) -> None:
        keys[key] = value
        file.with_suffix(".new").write_text(json.dumps(keys))
        file.with_suffix(".new").rename(file)

    yield Place(("-backend", "file", "-file", str(file)), put)


@contextmanager
def variables() -> Iterator[Place]:
    found: dict[str, str] = {}

    def put(key: str, value: str) -> None:
        found[key[1:].upper().replace("/", "_")] = value

    yield Place(("-backend", "env"), put, found, watches=False)


PLACES: dict[str, Callable[[Path], AbstractContextManager[Place]]] = {
    "etcdv2": lambda _: etcd("etcdv2", by_v2=True),
    "etcdv3": lambda _: etcd("etcdv3", by_v2=False),
    "etcd with keys of v2": lambda _: etcd("etcd", by_v2=True),
    "etcd with keys of v3": lambda _: etcd("etcd", by_v2=False),
    "consul": lambda _: consul(),
    "file": document,
    "env": lambda _: variables(),
}


@pytest.mark.parametrize("name", PLACES)
def test_the_same_example_follows_backends_on_every_store_and_no_request_fails(name, tmp_path):
    port = free_port()
    with PLACES[name](tmp_path) as place, Backend("a") as a, Backend("b") as b:
        place.put("/services/web/port", str(port))
        place.put("/services/web/backends/a", a.address)
        flags = [*place.flags, "-confdir", str(HAPROXY.move(tmp_path))]
        environment = place.environment
        ended = run_once("-no-reload", *flags, folder=tmp_path, more=environment)
        assert ended.code == 0, ended.events
        with HAPROXY.serve(tmp_path, port), Traffic(port) as traffic, ExitStack() as stack:
            wait_until(lambda: traffic.answers["a"], what="a answers")
            if place.watches:
                confpy = stack.enter_context(Confpy("-watch", *flags, folder=tmp_path, more=environment))
                confpy.says("confpy.started")
            place.put("/services/web/backends/b", b.address)
            if not place.watches:  # another container starts, with another variable
                assert run_once(*flags, folder=tmp_path, more=environment).code == 0
            wait_until(lambda: traffic.answers["a"] and traffic.answers["b"], what="a and b answer")
        assert traffic.failures == []


def test_the_same_keys_make_the_same_file_on_every_store(tmp_path):
    flags = ["-confdir", str(HAPROXY.move(tmp_path)), "-log-level", "debug"]
    outcomes = {}
    for number, (name, open_place) in enumerate(PLACES.items()):
        with open_place(tmp_path) as place:
            place.put("/services/web/maxconn", "300")
            place.put("/services/web/backends/a", "10.0.0.1:80")
            place.put("/services/web/backends/b", "[2001:db8::1]:80")
            state = {"CONFPY_STATE_DIR": str(tmp_path / f"state{number}")}
            ended = run_once("-no-reload", *place.flags, *flags, folder=tmp_path, more={**place.environment, **state})
            assert ended.code == 0, ended.events
            outcomes[name] = ended.find("resource.unchanged" if outcomes else "resource.changed")["resource"]
    assert outcomes == dict.fromkeys(PLACES, "haproxy")
    assert "server b [2001:db8::1]:80" in HAPROXY.target(tmp_path).read_text()


def test_secrets_of_one_value_a_file_are_followed_and_a_bad_one_stops_only_its_reader(tmp_path: Path) -> None:
    for name in ("conf.d", "templates", "secrets"):
        (tmp_path / name).mkdir()
    for name in ("good", "bad"):
        (tmp_path / "templates" / f"{name}.j2").write_text(f"{{{{ getv('/{name}') }}}}")
        (tmp_path / "conf.d" / f"{name}.toml").write_text(
            f'[template]\nsrc = "{name}.j2"\ndest = "{tmp_path / name}"\nkeys = ["/{name}"]\n'
        )
    (tmp_path / "secrets" / "good").write_text("first\n")
    (tmp_path / "secrets" / "bad").write_bytes(b"s3cret\0")
    flags = ("-backend", "file", "-file", str(tmp_path / "secrets"), "-file-format", "plain", "-confdir", str(tmp_path))
    ended = run_once(*flags, folder=tmp_path)
    assert ended.code == 3
    refused = ended.find("prefix.denied", resource="bad")
    assert refused["file"] == str(tmp_path / "secrets" / "bad")
    assert (tmp_path / "good").read_text() == "first"
    assert not (tmp_path / "bad").exists()
    with Confpy("-watch", *flags, folder=tmp_path) as confpy:
        confpy.says("prefix.denied", resource="bad")
        (tmp_path / "secrets" / "bad").write_text("s3cret\n")
        (tmp_path / "secrets" / "good").write_text("second\n")
        wait_until(lambda: (tmp_path / "good").read_text() == "second", seconds=30)
        wait_until(lambda: (tmp_path / "bad").exists() and (tmp_path / "bad").read_text() == "s3cret", seconds=60)
    assert "s3cret" not in ended.log + str(confpy.events)
