"""Registered keys on real servers: the contract, and what each store does in its own way."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

from confpy.config.settings import Settings
from confpy.errors import StoreError, UsageError
from confpy.frozen import replace
from confpy.registration.values import Entry
from confpy.stores.redis.reading import VALUE_BYTES
from confpy.stores.redis.registrar import OWNERS
from confpy.stores.registering import open_registrar
from tests.servers.consul import Consul, ConsulSaysNo
from tests.servers.etcd import Etcd, Etcd2, EtcdSaysNo, versions
from tests.servers.proxy import FaultProxy
from tests.servers.redis import Redis
from tests.servers.zookeeper import ZooKeeper
from tests.stores.registrar_contract import KeyContract, RegistrarContract
from tests.waiting import wait_until


@pytest.fixture(scope="module", params=versions().values(), ids=[f"etcd {version}" for version in versions()])
def etcd3_server(request):
    with Etcd(binary=request.param) as server:
        yield server


@pytest.fixture(scope="module")
def etcd2_server():
    with Etcd2() as server:
        yield server


@pytest.fixture(scope="module")
def consul_server():
    with Consul() as server:
        yield server


class TestEtcd3(KeyContract):
    backend = "etcdv3"
    largest = 3 << 19

    @pytest.fixture(autouse=True)
    def _server(self, etcd3_server):
        self.server = etcd3_server

    def endpoint(self):
        return self.server.endpoint

    def get(self, key):
        return self.server.get(key)

    def put(self, key, value):
        self.server.put(key, value)

    def lease(self, key):
        found = self.server.ask("kv/range", {"key": base64.b64encode(key.encode()).decode()})
        return found["kvs"][0].get("lease")

    def lose(self, key):
        self.server.ask("lease/revoke" if self.server._api == "/v3/" else "kv/lease/revoke", {"ID": self.lease(key)})

    def test_a_request_that_etcd_finds_too_large_is_an_error_that_names_its_limit(self):
        registrar = self.open(b"x" * self.largest)
        with pytest.raises(StoreError, match="too large") as caught:
            registrar.claim(takes_over=True)
        assert "--max-request-bytes" in caught.value.hint

    def test_a_key_is_bound_to_one_lease_however_often_it_is_put(self):
        registrar = self.open()
        registrar.claim(takes_over=True)
        lease = self.lease(self.key)
        assert lease
        self.server.delete(self.key)
        assert [registrar.refresh(), registrar.claim(takes_over=False)] == ["free", "held"]
        assert self.lease(self.key) == lease

    def test_any_bytes_are_a_value(self):
        registrar = self.open(bytes(range(256)))
        registrar.claim(takes_over=True)
        assert self.get(self.key) == bytes(range(256))


def test_etcd_of_either_api_is_that_which_it_has(etcd2_server, tmp_path):
    with Etcd() as server:
        for endpoint in (server.endpoint, etcd2_server.endpoint):
            settings = Settings(backend="etcd", nodes=(endpoint,), state_dir=str(tmp_path))
            registrar = open_registrar(settings, Entry("/services/either", b"1", 30.0))
            assert [registrar.claim(takes_over=True), registrar.refresh()] == ["held", "held"]
        assert server.get("/services/either") == b"1"


class TestEtcd2(KeyContract):
    backend = "etcdv2"
    largest = 10 << 20

    @pytest.fixture(autouse=True)
    def _server(self, etcd2_server):
        self.server = etcd2_server

    def endpoint(self):
        return self.server.endpoint

    def node(self, key):
        try:
            return self.server.request("GET", f"/keys{key}")["node"]
        except EtcdSaysNo:
            return None

    def get(self, key):
        node = self.node(key)
        return None if node is None else node["value"].encode()

    def put(self, key, value):
        self.server.set(key, value.decode())

    def lose(self, key):
        self.server.remove(key)

    def test_a_renewal_is_no_change_for_those_who_watch(self):
        registrar = self.open()
        registrar.claim(takes_over=True)
        at = int(self.node(self.key)["modifiedIndex"])
        registrar.refresh()
        assert self.node(self.key)["ttl"] in (29, 30)
        self.put(self.key, b"x")
        event = self.server.request("GET", f"/keys{self.key}?wait=true&waitIndex={at + 1}")
        assert event["node"]["value"] == "x"

    def test_a_renewal_whose_answer_was_lost_is_no_other_owner(self):
        registrar = self.open()
        registrar.claim(takes_over=True)
        twin = self.open()
        twin._index = registrar._index
        assert twin.refresh() == "held"  # the server has carried it out
        registrar._is_unsure = True  # and we did not hear of it
        assert [registrar.refresh(), registrar.release(), self.get(self.key)] == ["held", "free", None]

    def test_bytes_that_are_no_text_are_refused(self):
        with pytest.raises(UsageError, match="not text in UTF-8"):
            self.open(b"\xff")


class _OnConsul(RegistrarContract):
    backend = "consul"

    @pytest.fixture(autouse=True)
    def _server(self, consul_server):
        self.server = consul_server

    def endpoint(self):
        return self.server.endpoint


class TestConsul(_OnConsul, KeyContract):
    largest = 512 << 10

    def pair(self, key):
        try:
            return self.server.ask("GET", f"kv{quote(key)}")[0][0]
        except ConsulSaysNo:
            return None

    def get(self, key):
        pair = self.pair(key)
        return None if pair is None else base64.b64decode(pair["Value"] or "")

    def put(self, key, value):
        self.server.put(key.lstrip("/"), value)

    def lose(self, key):
        self.server.ask("PUT", f"session/destroy/{self.pair(key)['Session']}")

    def test_a_session_has_half_of_the_ttl_since_consul_doubles_it_and_no_less_than_it_takes(self):
        for ttl, expected in ((60.0, "30s"), (5.0, "10s")):
            registrar = self.open(ttl=ttl)
            registrar.claim(takes_over=True)
            (session,), _ = self.server.ask("GET", f"session/info/{self.pair(self.key)['Session']}")
            assert (session["TTL"], session["Behavior"]) == (expected, "delete")
            registrar.release()

    def test_the_end_of_our_session_does_not_take_along_what_somebody_else_has_put(self):
        registrar = self.open()
        registrar.claim(takes_over=True)
        session = self.pair(self.key)["Session"]
        self.put(self.key, b"x")
        assert self.pair(self.key)["Session"] == session, "a plain put leaves the lock"
        assert registrar.refresh() == "taken"
        self.server.ask("PUT", f"session/destroy/{session}")
        assert self.get(self.key) == b"x"

    def test_the_end_leaves_no_session(self):
        registrar = self.open()
        registrar.claim(takes_over=True)
        session = self.pair(self.key)["Session"]
        registrar.release()
        assert self.server.ask("GET", f"session/info/{session}")[0] == []


def test_the_token_is_confpys_own_and_one_that_may_not_write_is_said(monkeypatch):
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "00000000-ffff-ffff-ffff-000000000000")
    with Consul(acl=True) as server:
        settings = Settings(backend="consul", nodes=(server.endpoint,))
        entry = Entry("/services/a", b"1", 30.0)
        registrar = open_registrar(replace(settings, auth_token=server.token), entry)
        assert [registrar.claim(takes_over=True), registrar.refresh()] == ["held", "held"]
        with pytest.raises(StoreError) as caught:
            open_registrar(settings, entry).claim(takes_over=True)
        assert "key write and session write" in caught.value.hint


@pytest.fixture(scope="module")
def redis_server():
    with Redis() as server:
        yield server


class TestRedis(KeyContract):
    backend = "redis"
    largest = VALUE_BYTES

    @pytest.fixture(autouse=True)
    def _server(self, redis_server):
        self.server = redis_server

    def endpoint(self):
        return self.server.endpoint

    def get(self, key):
        return self.server.client.get(key)

    def put(self, key, value):
        self.server.client.set(key, value)

    def lose(self, key):
        self.server.client.delete(key, f"{OWNERS}{key}")

    def test_the_key_and_what_says_whose_it_is_live_as_long_and_go_together(self):
        registrar = self.open(ttl=30.0)
        registrar.claim(takes_over=True)
        names = [self.key, f"{OWNERS}{self.key}"]
        assert all(29_000 < self.server.client.pttl(name) <= 30_000 for name in names)
        for name in names:
            self.server.client.pexpire(name, 1000)
        registrar.refresh()
        assert all(self.server.client.pttl(name) > 29_000 for name in names)
        registrar.release()
        assert self.server.client.exists(*names) == 0

    def test_another_separator_stands_between_the_parts_of_the_name(self):
        registrar = self.open(separator=":")
        registrar.claim(takes_over=True)
        assert self.get(self.key[1:].replace("/", ":")) == self.values[0]
        registrar.release()

    def test_a_hash_is_not_overwritten(self):
        self.server.client.hset(self.key, "field", "1")
        with pytest.raises(StoreError, match="not a string"):
            self.open().claim(takes_over=True)
        assert self.server.client.hgetall(self.key) == {b"field": b"1"}


@pytest.fixture(scope="module")
def zookeeper_server():
    with ZooKeeper() as server:
        yield server


class TestZooKeeper(KeyContract):
    backend = "zookeeper"
    largest = (1 << 20) - 1

    @pytest.fixture(autouse=True)
    def _server(self, zookeeper_server):
        self.server = zookeeper_server

    def endpoint(self):
        return self.server.endpoint

    def get(self, key):
        try:
            return self.server.at.get(key)[0]
        except NoNodeError:
            return None

    def put(self, key, value):
        """As somebody else does who wants the node for himself."""
        if self.server.at.exists(key):
            self.server.at.delete(key)
        self.server.at.create(key, value, makepath=True)

    def lose(self, key):
        self.server.at.delete(key)

    def test_a_node_that_somebody_else_writes_to_is_his(self):
        registrar = self.open()
        registrar.claim(takes_over=True)
        self.server.at.set(self.key, b"x")
        assert [registrar.refresh(), registrar.release(), self.get(self.key)] == ["taken", "taken", b"x"]

    def test_a_session_that_the_server_ended_is_replaced_and_its_node_with_it(self, monkeypatch):
        with FaultProxy(self.server.port) as proxy:
            monkeypatch.setattr(self, "endpoint", lambda: f"127.0.0.1:{proxy.port}")
            registrar = self.open()
            registrar.claim(takes_over=True)
            first = registrar._session
            proxy.refuse()
            # Who has the id and the password of a session may end it, while its owner is not there to take it back.
            twin = KazooClient(f"127.0.0.1:{self.server.port}", client_id=first.kazoo.client_id)
            twin.start(60)
            twin.stop()
            twin.close()
            proxy.heal()
            wait_until(lambda: first.has_ended, what="the session has ended")
            held = [registrar.refresh(), registrar.claim(takes_over=False), registrar.refresh()]
            assert held == ["free", "held", "held"]
            assert self.get(self.key) == self.values[0]
            registrar.close()

    def test_a_key_with_keys_below_it_cannot_be_replaced_by_one_with_a_ttl(self):
        self.server.at.create(f"{self.key}/below", b"1", makepath=True)
        with pytest.raises(StoreError, match="keys below"):
            self.open().claim(takes_over=True)


class TestConsulService(_OnConsul):
    as_service = True

    def service(self, key):
        identity = key.rpartition("/")[2]
        return self.server.ask("GET", "agent/services")[0].get(identity)

    def get(self, key):
        found = self.service(key)
        return None if found is None else f"{found['Address']}:{found['Port']}".encode()

    def put(self, key, value):
        host, _, port = value.decode().partition(":")
        body = {"Name": "web", "ID": key.rpartition("/")[2], "Address": host, "Port": int(port)}
        self.server._request("PUT", "agent/service/register", json.dumps(body).encode())

    def lose(self, key):
        self.server._request("PUT", f"agent/service/deregister/{key.rpartition('/')[2]}")

    def test_without_a_ttl_the_value_tells_what_is_ours(self):
        """Of a service, the mark in its ``meta`` tells it, with or without a TTL."""
        registrar = self.open(ttl=None)
        assert [registrar.claim(takes_over=True), registrar.refresh()] == ["held", "held"]
        self.put(self.key, self.values[0])
        assert [registrar.refresh(), registrar.release(), self.get(self.key)] == ["taken", "taken", self.values[0]]

    def test_it_has_a_check_that_is_passed_until_the_ttl_ends(self):
        registrar = self.open(ttl=20.0)
        registrar.claim(takes_over=True)
        registrar.refresh()
        checks, _ = self.server.ask("GET", "agent/checks")
        check = checks[f"service:{self.key.rpartition('/')[2]}"]
        assert (check["Type"], check["Status"]) == ("ttl", "passing")

    @pytest.mark.parametrize("value", [b"10.0.0.1", b":80", b"a:0", b"a:65536", b"a:x"])
    def test_a_value_that_is_no_address_is_refused(self, value):
        with pytest.raises(UsageError, match="not HOST:PORT"):
            self.open(value)

    @pytest.mark.parametrize("key", ["/web", "/a/b/c"])
    def test_a_key_that_names_no_service_is_refused(self, key):
        with pytest.raises(UsageError, match="does not name a service"):
            self.open(key=key)


def test_a_store_that_cannot_be_written_is_refused_and_those_that_can_are_named():
    with pytest.raises(UsageError, match="cannot be registered in the store 'env'") as caught:
        open_registrar(Settings(backend="env"), Entry("/a", b"1"))
    assert "etcdv3" in caught.value.hint
