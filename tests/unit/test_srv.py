"""Nodes out of DNS: which records are asked for, what their answers mean, and what is said where there is none."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import closing

import pytest

from confpy.config.settings import Settings
from confpy.config.stores.etcd import ETCD
from confpy.errors import AccessDenied, StoreError, UsageError
from confpy.http.endpoints import ROTATION_INTERVAL, Endpoints
from confpy.http.srv import Record, find
from confpy.stores.network import open_endpoints, srv_records
from tests.servers.dns import Dns
from tests.waiting import wait_until

DB = (Record("_etcd._tcp.example.com", "http"),)


@pytest.fixture
def dns(monkeypatch):
    with Dns() as server:
        monkeypatch.setattr("dns.resolver.Resolver", server.resolver)
        yield server


def urls(found):
    return [node.url for node in found]


# --- which record ----------------------------------------------------------------------------------------------------


def test_a_domain_stands_for_the_record_of_the_store():
    settings = Settings(backend="consul", srv_domain="example.com")
    assert srv_records(settings, "http") == (Record("_consul._tcp.example.com", "http"),)


@pytest.mark.parametrize("backend", ["etcd", "etcdv2", "etcdv3"])
def test_a_domain_stands_for_the_records_of_etcds_own_tools_too(backend):
    assert srv_records(Settings(backend=backend, srv_domain="example.com"), "http") == (
        Record(f"_{backend}._tcp.example.com", "http"),
        Record("_etcd-client-ssl._tcp.example.com", "https"),
        Record("_etcd-client._tcp.example.com", "http"),
    )


def test_a_named_record_is_the_only_one():
    settings = Settings(srv_domain="example.com", srv_record="_db._tcp.example.org.")
    assert srv_records(settings, "https") == (Record("_db._tcp.example.org.", "https"),)
    assert srv_records(Settings(srv_record="_etcd-client-ssl._tcp.x"), "http")[0].scheme == "https"


@pytest.mark.parametrize("name", ["_etcd..example.com", "a" * 64 + ".example.com", ".example.com"])
def test_a_name_that_dns_cannot_hold_is_refused_at_once(name):
    with pytest.raises(UsageError, match="not the name of an SRV record"):
        open_endpoints("etcd", ETCD, Settings(srv_record=name))


# --- what DNS says ---------------------------------------------------------------------------------------------------


def test_lower_priorities_come_first_with_the_port_of_the_record(dns):
    dns.records["_etcd._tcp.example.com."] = ["20 0 4001 c.example.", "10 0 2379 a.example."]
    assert urls(find(DB, 5)) == ["http://a.example:2379", "http://c.example:4001"]


def test_within_a_priority_the_weights_decide_how_often_a_node_is_first(dns):
    dns.records["_etcd._tcp.example.com."] = ["1 90 1 often.", "1 10 1 seldom."]
    first = Counter(find(DB, 5)[0].host for _ in range(100))
    assert 60 < first["often"] < 100


def test_the_first_record_that_exists_counts(dns):
    dns.records["_etcd-client-ssl._tcp.example.com."] = ["0 0 2379 a.example."]
    dns.records["_etcd-client._tcp.example.com."] = ["0 0 2379 b.example."]
    found = find(srv_records(Settings(srv_domain="example.com"), "http"), 5)
    assert urls(found) == ["https://a.example:2379"]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [(None, "does not exist"), ([], "does not exist"), (["0 0 0 ."], "says that there is no such service")],
)
def test_a_record_without_nodes_is_one_clear_error(dns, entries, reason):
    if entries is not None:
        dns.records["_etcd._tcp.example.com."] = entries
    with pytest.raises(StoreError, match=rf"^the SRV record _etcd\._tcp\.example\.com {reason}.*spelled right"):
        find(DB, 5)


def test_all_the_records_that_were_looked_for_are_named(dns):
    with pytest.raises(StoreError) as caught:
        find(srv_records(Settings(backend="etcdv3", srv_domain="example.com"), "http"), 5)
    assert str(caught.value).startswith(
        "none of the SRV records _etcdv3._tcp.example.com, _etcd-client-ssl._tcp.example.com, "
        "_etcd-client._tcp.example.com exists; "
    )
    assert len(dns.asked) == 3


def test_a_name_server_that_fails_or_is_silent_is_no_missing_record(dns):
    dns.failing = True
    with pytest.raises(StoreError, match=r"_etcd\._tcp\.example\.com is one that no name server could answer for"):
        find(DB, 5)
    dns.silent = True
    began = time.monotonic()
    with pytest.raises(StoreError, match=r"_etcd\._tcp\.example\.com could not be looked up within 0\.3 s"):
        find(DB, 0.3)
    assert time.monotonic() - began < 2


def test_a_target_that_is_no_host_is_refused(dns):
    dns.records["_etcd._tcp.example.com."] = ["0 0 1 a/b.example."]
    with pytest.raises(StoreError, match=r"_etcd\._tcp\.example\.com: .* is not the address of a node"):
        find(DB, 5)


# --- when DNS is asked -----------------------------------------------------------------------------------------------


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def store(dns):
    """Nodes whose record is served, and a clock of theirs."""
    dns.records["_etcd._tcp.example.com."] = ["1 0 1 a.", "2 0 1 b."]
    clock = Clock()
    made = Endpoints(
        "test", (), trust=None, connect_timeout=9.0, read_timeout=1.0, find=lambda: find(DB, 1.5), clock=clock
    )
    with closing(made):
        made.clock = clock
        yield made


def answering(*hosts):
    def call(connection):
        if connection.node.host not in hosts:
            raise StoreError("down")
        return connection.node.host

    return call


def test_dns_is_asked_at_first_use_and_not_again_while_a_node_works(dns, store):
    assert dns.asked == []
    assert store.with_failover(answering("a")) == "a"
    assert store.with_failover(answering("b")) == "b"
    assert store.with_failover(answering("a", "b")) == "b"
    assert len(dns.asked) == 1


def test_the_node_that_answered_last_is_known_also_by_an_answer_that_is_an_error(store):
    assert store.node == ""
    store.with_failover(answering("b"))
    assert store.node.endswith("//b:1")

    def denying(connection):
        answering("a")(connection)
        raise AccessDenied("denied")

    with pytest.raises(AccessDenied):
        store.with_failover(denying)
    assert store.node.endswith("//a:1")
    with pytest.raises(StoreError, match="none of 2 nodes"):
        store.with_failover(answering())
    assert store.node == "", "none works any more"


def test_dns_is_asked_again_when_no_node_works(dns, store):
    store.with_failover(answering("a"))
    dns.records["_etcd._tcp.example.com."] = ["1 0 1 c."]
    with pytest.raises(StoreError, match="none of 2 nodes"):
        store.with_failover(answering("c"))
    assert store.with_failover(answering("c")) == "c"
    assert len(dns.asked) == 2


def test_the_nodes_stay_where_dns_does_not_answer_and_the_error_says_so(dns, store):
    store.with_failover(answering("a"))
    dns.failing = True
    with pytest.raises(StoreError, match="none of 2 nodes"):
        store.with_failover(answering())
    with pytest.raises(StoreError, match=r"may be the wrong ones: the SRV record _etcd\._tcp\.example\.com is one"):
        store.with_failover(answering())
    assert store.with_failover(answering("b")) == "b"
    asked = len(dns.asked)
    assert store.with_failover(answering("b")) == "b"
    assert len(dns.asked) == asked


def test_dns_is_asked_again_after_long_use(dns, store):
    assert store.with_failover(answering("b")) == "b"
    store.clock.now += ROTATION_INTERVAL + 1
    assert store.with_failover(answering("a", "b")) == "a"
    assert len(dns.asked) == 2


def test_without_an_answer_there_are_no_nodes_and_each_use_asks(dns, store):
    dns.failing = True
    for _ in range(2):
        with pytest.raises(StoreError, match=r"^test: the SRV record _etcd\._tcp\.example\.com"):
            store.with_failover(answering("a"))
    dns.failing = False
    assert store.with_failover(answering("a")) == "a"


def test_closing_wakes_who_waits_for_dns(dns, store):
    dns.silent = True
    failures = []

    def use():
        try:
            store.with_failover(answering("a"))
        except StoreError as error:
            failures.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    wait_until(lambda: dns.asked, what="DNS was asked")
    began = time.monotonic()
    store.close()
    thread.join(5)
    assert time.monotonic() - began < 1
    assert "closed" in str(failures)
    with pytest.raises(StoreError, match="closed"):
        store.with_failover(answering("a"))


def test_the_settings_name_nodes_by_dns_in_place_of_addresses(dns):
    dns.records["_etcd-client-ssl._tcp.example.com."] = ["0 0 2379 a.example."]
    settings = Settings(srv_domain="example.com", nodes=("ignored:1",), server_name="db.example")
    with closing(open_endpoints("etcd", ETCD, settings)) as store:
        assert dns.asked == []
        assert store.with_failover(lambda connection: connection.node.url) == "https://a.example:2379"
        assert store.trust.server_name == "db.example"
