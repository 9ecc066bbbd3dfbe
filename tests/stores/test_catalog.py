"""Consul's catalogue on a real server: what it asks, what it follows, and what it believes."""

from __future__ import annotations

import json
import time
from contextlib import ExitStack, closing

import pytest

from confpy.config.settings import Settings
from confpy.errors import AccessDenied, StoreError
from confpy.stores.catalog.store import CatalogStore
from confpy.stores.mounted import MountedStore
from tests.servers.consul import Consul
from tests.servers.proxy import FaultProxy
from tests.servers.web import Backend
from tests.stores.contract import following
from tests.waiting import wait_until

MANY = 500


@pytest.fixture(scope="module")
def server():
    """One for most tests here, since it takes seconds to start."""
    with Consul() as found:
        yield found


@pytest.fixture
def consul(server):
    yield server
    server.write_services()
    for instance in server.ask("GET", "agent/services")[0]:
        server.deregister(instance)
    server.clear_catalogue()


@pytest.fixture
def consul_proxy(server):
    with FaultProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
def catalog():
    """Opens stores that follow, with ``address`` for a value; they are closed after the test."""
    with ExitStack() as stack:

        def opened(*nodes, **settings):
            settings = {
                "watch": True,
                "service_value": "address",
                "connect_timeout": 2.0,
                "read_timeout": 5.0,
                **settings,
            }
            return stack.enter_context(closing(CatalogStore.open(Settings(nodes=nodes, **settings))))

        yield opened


def ttl(check, status="passing"):
    return {"CheckID": check, "TTL": "1h", "Status": status}


def brings(seen, key, value):
    wait_until(lambda: seen.keys().get(key) == value or seen.error, what=f"{key} is {value}")
    assert seen.error is None


def read_services(proxy, since):
    """The services that were asked about since so many requests."""
    paths = [request.split()[1].partition("?")[0] for request in list(proxy.requests)[since:]]
    return [path.rpartition("/")[2] for path in paths if path.startswith("/v1/health/service/")]


def test_five_hundred_services_are_followed_on_few_connections_and_only_what_changed_is_read_again(
    consul, consul_proxy, catalog
):
    consul.catalogue({(f"s{n:03}", f"i{n:03}"): {"Port": 80} for n in range(MANY)}, node="outside")
    consul.register("web", "w1", Port=8080, Address="10.0.0.1", Check=ttl("c1"))
    store = catalog(consul_proxy.endpoint)
    snapshot = store.read(["/"])
    assert len(snapshot.listings["/"].keys) == MANY + 2
    most = 0

    def changed(change, key, value, *services):
        nonlocal most
        before = len(consul_proxy.requests)
        change()
        brings(seen, key, value)
        wait_until(lambda: store.poll(["/"]), what="the store answers")
        most = max(most, consul_proxy.open_connections())
        assert set(read_services(consul_proxy, before)) == set(services)

    with following(store, snapshot) as seen:
        wait_until(lambda: "index=" in "".join(consul_proxy.requests), what="the lists are followed")
        outside = {"node": "outside"}
        for _ in range(2):
            changed(lambda: consul.set_check("c1", "fail"), "/web/w1", None, "web")
            changed(lambda: consul.set_check("c1", "pass"), "/web/w1", "10.0.0.1:8080", "web")
        changed(
            lambda: consul.catalogue({("s007", "i007"): {"Port": 81}}, **outside), "/s007/i007", "192.0.2.1:81", "s007"
        )
        changed(lambda: consul.catalogue({("s008", "j"): {"Port": 82}}, **outside), "/s008/j", "192.0.2.1:82", "s008")
        changed(lambda: consul.catalogue({("s009", "i009"): None}, **outside), "/s009/i009", None, "s009")
        changed(lambda: consul.catalogue({("new", "n"): {"Port": 1}}, **outside), "/new/n", "192.0.2.1:1", "new")
    assert most <= 16


@pytest.mark.parametrize(("named", "node"), [(13, "outside"), (100, "")])
def test_named_services_beyond_those_with_a_query_each_are_followed_alone(consul, consul_proxy, catalog, named, node):
    """Without a ``node``, there are more nodes than services: then a registration means to ask about each of these."""
    asked = 1 if node else named
    consul.catalogue({(f"s{n:03}", f"i{n:03}"): {"Port": 80} for n in range(named + 20)}, node=node)
    names = {f"s{n:03}" for n in range(named)}
    store = catalog(consul_proxy.endpoint, services=tuple(names))
    snapshot = store.read(["/"])
    assert len(snapshot.listings["/"].keys) == named
    with following(store, snapshot) as seen:
        wait_until(lambda: "index=" in "".join(consul_proxy.requests), what="the lists are followed")
        before = len(consul_proxy.requests)
        consul.catalogue({(f"s{named:03}", "other"): {"Port": 80}, ("s001", "i001"): {"Port": 81}}, node=node)
        brings(seen, "/s001/i001", "192.0.2.1:81")
        wait_until(
            lambda: len(read_services(consul_proxy, before)) >= asked, what="all were asked about that should be"
        )
        assert set(read_services(consul_proxy, before)) == ({"s001"} if asked == 1 else names)
        assert consul_proxy.open_connections() <= 16


def test_a_few_services_have_a_cached_query_each(consul, consul_proxy, catalog):
    for n in range(12):
        consul.register(f"s{n}", Port=n + 1)
    store = catalog(consul_proxy.endpoint)
    prefixes = [f"/s{n}" for n in range(12)]
    with following(store, store.read(prefixes)) as seen:
        wait_until(lambda: sum("index=" in one for one in list(consul_proxy.requests)) >= 12, what="all are followed")
        assert all("cached=" in one for one in consul_proxy.requests if "index=" in one)
        assert consul_proxy.open_connections() <= 16
        consul.deregister("s7")
        brings(seen, "/s7/s7", None)


def test_what_a_service_file_an_api_call_and_another_node_register_is_followed_by_its_health(consul, catalog, tmp_path):
    with Backend("up") as backend:
        consul.write_services(
            {"name": "web", "id": "file", "port": backend.port, "tags": ["Prod"],
             "check": {"id": "http", "http": f"http://{backend.address}/", "interval": "1s", "timeout": "1s"}},
        )  # fmt: skip
        consul.register("web", "api", Port=81, Tags=["test"], Check=ttl("ttl"))
        consul.register("web", "warned", Port=82, Check=ttl("w", "warning"))
        consul.catalogue({("web", "other/node"): {"Port": 83}})
        store = catalog(consul.endpoint, service_status="warning", service_value="json")
        wait_until(lambda: "/web/file" in store.read(["/web"]).listings["/web"].keys, what="the check passes")
        with following(store, store.read(["/web"])) as seen:
            values = {key: json.loads(value) for key, value in seen.keys().items()}
            assert {key: (value["port"], value["status"]) for key, value in values.items()} == {
                "/web/file": (backend.port, "passing"),
                "/web/api": (81, "passing"),
                "/web/warned": (82, "warning"),
                "/web/other%2Fnode": (83, "passing"),
            }
            assert values["/web/file"]["address"] == "127.0.0.1"
            backend.stop()
            brings(seen, "/web/file", None)
        tagged = catalog(consul.endpoint, service_tags=("prod",), service_status="any")
        assert set(tagged.read(["/"]).listings["/"].keys) == {"/web/file"}
        consul.set_maintenance("api")
        everything = catalog(consul.endpoint, service_status="any", service_value="json")
        values = everything.read(["/web"]).listings["/web"].keys
        assert json.loads(values["/web/api"])["status"] == "maintenance"


def test_a_node_that_fails_takes_all_its_instances_with_it(consul, catalog):
    consul.catalogue({("web", "w"): {"Port": 80}, ("db", "d"): {"Port": 81}}, node="outside")
    store = catalog(consul.endpoint)
    with following(store, store.read(["/"])) as seen:
        check = {"Node": "outside", "CheckID": "serfHealth", "Name": "alive", "Status": "critical"}
        for status, there in (("critical", set()), ("passing", {"/web/w", "/db/d"})):
            body = {"Node": "outside", "Address": "192.0.2.1", "Check": {**check, "Status": status}}
            consul.ask("PUT", "catalog/register", json.dumps(body).encode())
            wait_until(lambda there=there: {"/web/w", "/db/d"} & {*seen.keys()} == there, what=status)


def test_another_address_of_a_node_is_found_by_a_poll(consul, catalog):
    consul.catalogue({(f"s{n}", f"i{n}"): {"Port": 80} for n in range(20)}, node="outside")
    store = catalog(consul.endpoint)
    with following(store, store.read(["/"])) as seen:
        consul.ask("PUT", "catalog/register", b'{"Node": "outside", "Address": "192.0.2.9"}')
        assert store.poll(["/"]) is not None
        brings(seen, "/s7/i7", "192.0.2.9:80")


@pytest.mark.parametrize("prefix", ["/web", "/"])
def test_servers_that_were_restored_are_followed_from_what_they_have_whatever_the_agent_remembers(
    consul, catalog, monkeypatch, prefix
):
    monkeypatch.setattr("confpy.stores.catalog.follower.WAIT", 1.0)
    consul.catalogue({("web", "old"): {"Port": 80}})
    snapshot = consul.snapshot()
    consul.catalogue({("web", "old"): None, ("web", "new"): {"Port": 81}})
    store = catalog(consul.endpoint)
    with following(store, store.read([prefix])) as seen:
        brings(seen, "/web/new", "192.0.2.1:81")
        store.read([prefix])
        consul.restore_snapshot(snapshot)
        if prefix == "/web":
            store.poll([prefix])
        brings(seen, "/web/old", "192.0.2.1:80")
        brings(seen, "/web/new", None)
        asked = time.monotonic()
        wait_until(lambda: time.monotonic() > asked + 1.2, what="a query that waited has ended")
        assert seen.keys().get("/web/new") is None
        consul.catalogue({("web", "newest"): {"Port": 82}})
        brings(seen, "/web/newest", "192.0.2.1:82")


def test_names_that_consul_cannot_be_asked_about_are_left_out_and_named_once(consul, catalog):
    body = {"Node": "outside", "Address": "192.0.2.1"}
    for name in ("..", "line\nend", "a/b"):
        service = {"Service": name, "ID": f"{name} 1", "Port": 80}
        consul.ask("PUT", "catalog/register", json.dumps({**body, "Service": service}).encode())
    store = catalog(consul.endpoint)
    snapshot = store.read(["/"])
    assert {key for key in snapshot.listings["/"].keys if "consul" not in key} == {"/a%2Fb/a%2Fb 1"}
    assert {(note.event, note.fields["service"]) for note in snapshot.notes} == {
        ("service.left_out", "%2E%2E"), ("service.left_out", "line%0Aend"),
    }  # fmt: skip
    assert store.read(["/"]).notes == ()


def test_an_instance_that_is_left_out_is_named_while_it_is_followed_also_where_the_catalogue_is_mounted(
    consul, catalog
):
    consul.register("web", "good", Port=80, Address="10.0.0.1")
    store = MountedStore(catalog(consul.endpoint), "/catalog")
    with following(store, store.read(["/catalog/web"])) as seen:
        assert seen.keys() == {"/catalog/web/good": "10.0.0.1:80"}
        consul.register("web", "bad", Port=80, Address="10.0.0.1 backup")
        wait_until(lambda: any(changes.notes for changes in seen.changes), what="it is named")
        (note,) = [note for changes in seen.changes for note in changes.notes]
        assert note.event == "instance.left_out"
        assert (note.fields["service"], note.fields["instance"]) == ("web", "bad")
        assert seen.keys() == {"/catalog/web/good": "10.0.0.1:80"}


def test_a_token_sees_what_it_may_and_another_one_is_taken_at_once(catalog, tmp_path):
    with Consul(acl=True) as consul:
        consul.catalogue({("web", "w"): {"Port": 80}, ("db", "d"): {"Port": 81}})
        rules = '{service} "web" {read} {service} "{}" {read} node_prefix "" {read}'
        rules = rules.replace("{service}", "service").replace("{read}", '{{ policy = "read" }}')
        file = tmp_path / "token"
        file.write_text(consul.grant(rules.format("none")))
        store = catalog(consul.endpoint, auth_token_file=str(file))
        assert set(store.read(["/"]).listings["/"].keys) == {"/web/w"}
        file.write_text(consul.grant(rules.format("db")))
        assert store.poll(["/"]) is None
        assert set(store.read(["/"]).listings["/"].keys) == {"/web/w", "/db/d"}
        file.write_text(consul.grant(""))
        listing = store.read(["/web"]).listings["/web"]
        assert isinstance(listing.error, AccessDenied)
        assert "since the token changed" in str(listing.error)
        with pytest.raises(StoreError, match="does not know the token"):
            catalog(consul.endpoint, auth_token="00000000-dead-beef-dead-000000000000").read(["/web"])


def test_an_agent_without_servers_answers_from_its_cache_and_that_is_an_error_when_it_is_old(catalog, monkeypatch):
    monkeypatch.setattr("confpy.stores.catalog.api.STALE_AFTER", 0)
    with (
        Consul() as server,
        Consul(server=False, bootstrap_expect=0, node_name="c", retry_join=[server.gossip]) as agent,
    ):
        agent.register("web", Port=80)
        store = catalog(agent.endpoint)
        wait_until(lambda: store.read(["/web"]).listings["/web"].keys, what="the agent has told the server")
        store.read(["/web"])
        server.kill()

        def refused():
            try:
                store.read(["/web"])
            except StoreError as error:
                return str(error)
            return ""

        assert "does it reach Consul's servers?" in wait_until(refused, what="the cached answer is old")
        with pytest.raises(StoreError):
            store.poll(["/web"])


def test_a_namespace_and_a_partition_are_asked_for(consul, consul_proxy, catalog):
    with pytest.raises(StoreError, match="no namespaces"):
        catalog(consul_proxy.endpoint, datacenter="dc1", namespace="team", partition="x y").read(["/web"])
    assert consul_proxy.requests == ["GET /v1/health/service/web?dc=dc1&ns=team&partition=x+y"]
