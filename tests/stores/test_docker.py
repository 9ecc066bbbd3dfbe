"""The store of containers on a small server that speaks as an engine: what is asked, when, and what races do.

Nothing can be put into this store, so that of the contract it has what is about closing; ``tests/e2e/test_containers``
has real engines.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import socket
import ssl
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from confpy.config.settings import Settings
from confpy.errors import StoreError, UsageError, WatchLost
from confpy.stores.docker.store import HISTORY, DockerStore
from tests.background import Call
from tests.run_as_user import as_nobody
from tests.servers.authority import Authority
from tests.servers.engine import Engine, container
from tests.servers.proxy import FaultProxy
from tests.stores.contract import NetworkClosingContract, following, threads_and_descriptors
from tests.waiting import wait_until


@pytest.fixture
def engine():
    with Engine() as server:
        yield server


def web(name, number, **more):
    return container(name, number, **{"labels": {"confpy.service": "web", "confpy.port": "80"}, **more})


def opened(engine, **settings):
    endpoint = engine if isinstance(engine, str) else engine.endpoint
    given = {"nodes": (endpoint,), "watch": True, "connect_timeout": 2.0, "read_timeout": 5.0, **settings}
    return closing(DockerStore.open(Settings(backend="docker", **given)))


@contextmanager
def followed(engine, prefix="/web", **settings):
    with opened(engine, **settings) as store, following(store, store.read([prefix])) as seen:
        yield seen


class TestClosing(NetworkClosingContract):
    store = DockerStore

    @pytest.fixture(autouse=True)
    def _server(self, engine):
        self.server = engine

    def fill(self):
        self.server.add(web("a", 1, labels={"text": "x" * 10_000}))


def test_five_hundred_containers_take_three_requests_and_one_stream(engine):
    engine.add(*(web(f"web{n}", n) for n in range(500)))
    with followed(engine, "/") as seen:
        assert seen.trees["/"].count("/web") == 500
        names = [request.partition("?")[0] for request in engine.requests]
        assert names == ["/_ping", "/v1.41/events", "/v1.41/containers/json"]


def test_a_read_that_nothing_follows_opens_no_stream(engine):
    for settings in ({"watch": False}, {"onetime": True}):
        with opened(engine, **settings) as store:
            store.read(["/"])
    assert engine.count("events") == 0


def test_a_start_costs_one_request_about_that_container(engine):
    engine.add(web("web1", 1))
    with followed(engine) as seen:
        asked = len(engine.requests)
        new = web("web2", 2)
        engine.add(new)
        engine.emit(new, "start")
        seen.wait_for({"/web/web1": "172.17.0.3:80", "/web/web2": "172.17.0.4:80"})
        assert new["Id"] in engine.requests[asked]
        assert web("web1", 1)["Id"] not in engine.requests[asked]


def test_a_burst_of_fifty_shares_requests(engine):
    with followed(engine) as seen:
        asked = len(engine.requests)
        for n in range(50):
            new = web(f"web{n}", n)
            engine.add(new)
            engine.emit(new, "create")
            engine.emit(new, "start")
        seen.wait_for({f"/web/web{n}": f"172.17.0.{n + 2}:80" for n in range(50)})
        assert len(engine.requests) - asked < 25


def test_what_ends_is_gone_at_once_though_the_list_still_has_it_and_comes_back_when_it_is_started(engine):
    item = web("web1", 1)
    engine.add(item)
    with followed(engine) as seen:
        engine.emit(item, "die", at=time.time() + 2)
        seen.wait_for({})
        engine.emit(item, "start")
        seen.wait_for({"/web/web1": "172.17.0.3:80"})


def test_an_end_from_before_the_list_is_no_news(engine):
    item, other = web("web1", 1), web("web2", 2)
    engine.headers["Date"] = "Sun, 29 Nov 2026 10:53:02 GMT"
    engine.add(item)
    with followed(engine) as seen:
        engine.emit(item, "die", at=1795949581.0)
        engine.add(other)
        engine.emit(other, "start")
        seen.wait_for({"/web/web1": "172.17.0.3:80", "/web/web2": "172.17.0.4:80"})


def test_what_the_list_shows_a_little_after_the_event_is_seen(engine):
    item = web("web1", 1)
    engine.add(item)
    with followed(engine) as seen:
        asked = len(engine.requests)
        engine.emit(item, "pause")
        wait_until(lambda: len(engine.requests) > asked, what="the event is answered with a request")
        item["State"] = "paused"
        seen.wait_for({})


def test_a_change_between_read_and_watch_is_seen(engine):
    with opened(engine) as store:
        snapshot = store.read(["/web"])
        new = web("web1", 1)
        engine.add(new)
        engine.emit(new, "start")
        with following(store, snapshot) as seen:
            seen.wait_for({"/web/web1": "172.17.0.3:80"})


def test_the_head_of_the_stream_may_come_with_the_first_event(engine):
    engine.shows_events_late = True
    with followed(engine) as seen:
        new = web("web1", 1)
        engine.add(new)
        engine.emit(new, "start")
        seen.wait_for({"/web/web1": "172.17.0.3:80"})


def test_podman_is_asked_for_health_by_three_filters(engine):
    engine.headers["Libpod-Api-Version"] = "4.3.1"
    engine.add({**web("web1", 1), "health": "unhealthy"}, {**web("web2", 2), "health": "healthy"}, web("web3", 3))
    with opened(engine, watch=False) as store:
        keys = store.read(["/"]).listings["/"].keys
    found = {key: value for key, value in keys.items() if key.endswith("health")}
    assert [value for _, value in sorted(found.items())] == ["unhealthy", "healthy", "none"]
    assert {key for key in keys if key.startswith("/web/")} == {"/web/web2", "/web/web3"}
    assert engine.count("health") == 3


def test_podman_without_health_checks_is_asked_once(engine):
    engine.headers["Libpod-Api-Version"] = "4.3.1"
    engine.add(web("web1", 1))
    with opened(engine, watch=False) as store:
        assert store.read(["/web"]).listings["/web"].keys == {"/web/web1": "172.17.0.3:80"}
    assert engine.count("health") == 1


def test_environments_are_read_once_for_each_container_if_they_are_wanted(engine):
    item = web("web1", 1)
    engine.add(item)
    engine.variables[item["Id"]] = ["A=1=2", "PEM=two\nlines"]
    with opened(engine, docker_env=True) as store:
        for _ in range(2):
            keys = store.read(["/containers/web1/env"]).listings["/containers/web1/env"].keys
            assert keys == {"/containers/web1/env/A": "1=2", "/containers/web1/env/PEM": "two\nlines"}
    assert engine.count(f"{item['Id']}/json") == 1


def test_no_environment_is_asked_for_by_default(engine):
    engine.add(web("web1", 1))
    with opened(engine) as store:
        assert not [key for key in store.read(["/"]).listings["/"].keys if "/env" in key]
    assert engine.count(f"{1:064x}") == 0


# --- which version ---------------------------------------------------------------------------------------------------


def test_a_proxy_that_answers_new_versions_only_is_asked_for_those(engine):
    engine.headers["Api-Version"], engine.oldest = "1.52", 44
    with followed(engine, "/"):
        assert engine.count("/v1.52/") == 2


def test_an_engine_that_speaks_no_version_so_old_is_asked_for_its_own(engine):
    engine.headers["Api-Version"], engine.oldest = "1.70", 60
    engine.add(web("web1", 1))
    with opened(engine, watch=False) as store:
        assert store.read(["/web"]).listings["/web"].keys == {"/web/web1": "172.17.0.3:80"}
        store.read(["/web"])
    assert (engine.count("/v1.52/"), engine.count("/v1.70/")) == (1, 2)


def test_an_engine_whose_ping_says_no_version_is_asked_for_it(engine):
    engine.headers.clear()
    with opened(engine, watch=False) as store:
        store.read(["/"])
    assert engine.requests == ["/_ping", "/version", "/v1.41/containers/json"]


def test_a_stream_of_a_newer_generation_is_followed(engine):
    engine.headers["Api-Version"], engine.oldest = "1.70", 60
    with followed(engine) as seen:
        new = web("web1", 1)
        engine.add(new)
        engine.emit(new, "start")
        seen.wait_for({"/web/web1": "172.17.0.3:80"})


# --- losses ----------------------------------------------------------------------------------------------------------


def test_a_stream_that_ends_says_so_and_the_next_one_brings_what_happened_meanwhile(engine):
    old, new = web("web1", 1), web("web2", 2)
    engine.add(old)
    with opened(engine) as store:
        snapshot = store.read(["/web"])
        with following(store, snapshot) as seen:
            engine.end_streams()
            wait_until(lambda: not seen.thread.is_alive(), what="the stream ends")
            assert "the engine ended the stream" in str(seen.error)
        del engine.containers[old["Id"]]
        engine.add(new)
        with following(store, snapshot) as again:
            again.wait_for({"/web/web2": "172.17.0.4:80"})


def test_what_no_event_has_told_of_is_found_by_the_next_poll_and_left_to_the_stream(engine):
    with opened(engine) as store, following(store, store.read(["/web"])) as seen:
        assert store.poll(["/web"]).newest == {"/web": 0}
        engine.add(web("web1", 1))
        status = store.poll(["/web", "/other"])
        assert status.newest["/web"] == status.revision > seen.store.read(["/other"]).listings["/other"].revision - 2
        assert status.newest["/other"] == 0
        assert status.counts == {"/web": 1, "/other": 0}


def test_an_older_answer_never_replaces_a_newer_one(engine, monkeypatch):
    """A list is under way while a container starts; its answer, from before that, is applied first."""
    new = web("web1", 1)
    under_way, go_on = threading.Event(), threading.Event()
    answer = Engine._answer

    def slow(self, path):
        found = answer(self, path)
        if path.endswith("/containers/json") and armed:
            armed.clear()
            under_way.set()
            go_on.wait(10)
        return found

    armed = []
    monkeypatch.setattr(Engine, "_answer", slow)
    with followed(engine) as seen:
        armed.append(True)
        reading = Call(lambda: seen.store.read(["/web"]))
        assert under_way.wait(10)
        engine.add(new)
        engine.emit(new, "start")
        go_on.set()
        reading.end()
        seen.wait_for({"/web/web1": "172.17.0.3:80"})


def test_a_cursor_beyond_the_history_means_to_read_again(engine):
    item = web("web1", 1)
    engine.add(item)
    with opened(engine, watch=False) as store:
        snapshot = store.read(["/web"])
        for n in range(HISTORY + 2):
            item["State"] = "paused" if n % 2 else "running"
            item["Image"] = str(n)
            store.read(["/web"])
        with pytest.raises(WatchLost):
            store.watch({"/web": snapshot.listings["/web"].revision})


def test_two_streams_share_the_engines_and_the_last_one_ends_it(engine):
    with opened(engine) as store:
        snapshot = store.read(["/web"])
        with following(store, snapshot) as first, following(store, snapshot) as second:
            new = web("web1", 1)
            engine.add(new)
            engine.emit(new, "start")
            for seen in (first, second):
                seen.wait_for({"/web/web1": "172.17.0.3:80"})
        assert engine.count("events") == 1
        with following(store, store.read(["/web"])):
            assert engine.count("events") == 2


def test_nothing_is_left_after_many_opens(engine):
    def use():
        with followed(engine):
            pass

    for _ in range(5):
        use()
    before = threads_and_descriptors()
    for _ in range(100):
        use()
    wait_until(lambda: threads_and_descriptors() <= before, what=f"{before} threads and descriptors again")


# --- what is wrong ---------------------------------------------------------------------------------------------------


def test_a_bad_label_of_a_container_that_starts_is_logged_with_the_next_read(engine):
    with opened(engine) as store, following(store, store.read(["/web"])) as seen:
        notes = []
        read = store.read
        store.read = lambda prefixes: [snapshot := read(prefixes), notes.extend(snapshot.notes)][0]
        bad = container("bad", 1, labels={"confpy.service": "a/b"})
        engine.add(bad)
        engine.emit(bad, "start")
        wait_until(lambda: notes, what="a line about it")
        assert notes[0].fields["container"] == "bad"
        assert seen.keys() == {}


@pytest.mark.parametrize(
    ("status", "said", "expected"),
    [
        (403, "no", "GET /v1.41/containers/json is refused (HTTP 403)"),
        (500, json.dumps({"message": "the daemon is on fire"}), "the engine says: the daemon is on fire"),
        (404, "<html>", "it answers GET /v1.41/containers/json with HTTP 404, not as an engine does"),
        (200, "{}", "it answers, but not as an engine does"),
        (200, '[{"Id": 1, "Ports": 7}]', "it answers, but not as an engine does"),
        (200, "[" * 100_000, "it answers, but not as an engine does"),
    ],
)
def test_an_answer_that_is_none_is_an_error_that_says_what_to_do(engine, monkeypatch, status, said, expected):
    answer = Engine._answer

    def other(self, path):
        return (status, said) if path.endswith("containers/json") else answer(self, path)

    monkeypatch.setattr(Engine, "_answer", other)
    monkeypatch.setattr("tests.servers.engine.json.dumps", lambda value: value if isinstance(value, str) else "OK")
    with opened(engine, watch=False) as store, pytest.raises(StoreError) as caught:
        store.read(["/"])
    assert expected in str(caught.value)
    assert caught.value.hint or status == 500


def test_a_stream_that_a_proxy_refuses_is_an_error(engine, monkeypatch):
    monkeypatch.setattr(Engine, "_stream", lambda _, handler: handler.send_error(403))
    with opened(engine) as store:
        snapshot = store.read(["/web"])
        with following(store, snapshot) as seen:
            wait_until(lambda: seen.error is not None, what="the stream fails")
            assert "GET /v1.41/events is refused (HTTP 403)" in str(seen.error)


def test_an_engine_that_freezes_is_an_error_within_the_timeout_and_goes_on_later(engine):
    with FaultProxy(engine.port) as proxy, opened(proxy.endpoint, read_timeout=1.0) as store:
        snapshot = store.read(["/web"])
        with following(store, snapshot) as seen:
            proxy.black_hole()
            with pytest.raises(StoreError, match="no answer within 1 s"):
                store.poll(["/web"])
            new = web("web1", 1)
            engine.add(new)
            engine.emit(new, "start")
            proxy.heal()
            seen.wait_for({"/web/web1": "172.17.0.3:80"})


def test_a_broken_connection_of_events_is_an_error_and_can_be_resumed(engine):
    with FaultProxy(engine.port) as proxy, opened(proxy.endpoint) as store:
        snapshot = store.read(["/web"])
        with following(store, snapshot) as seen:
            proxy.reset()
            wait_until(lambda: seen.error is not None, what="the stream fails")
        engine.add(web("web1", 1))
        with following(store, snapshot) as seen:
            seen.wait_for({"/web/web1": "172.17.0.3:80"})


def test_an_engine_is_reached_by_tls_with_a_certificate(tmp_path):
    authority = Authority(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(*authority.issue("engine", "IP:127.0.0.1"))
    with Engine(tls=context) as engine:
        at = f"tcp://127.0.0.1:{engine.port}"
        engine.add(web("web1", 1))
        with followed(at, **authority.shown(authority.issue("confpy"))) as seen:
            seen.wait_for({"/web/web1": "172.17.0.3:80"})
        with opened(at, **authority.shown()) as store, pytest.raises(StoreError, match=r"certificate|TLS|broken"):
            store.read(["/"])


@contextmanager
def folder_of_sockets():
    """A folder that every user may enter, unlike those that pytest makes."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def reason(path):
    with opened(f"unix://{path}", watch=False) as store, pytest.raises(StoreError) as caught:
        store.read(["/"])
    return str(caught.value)


def test_a_socket_that_may_not_be_used_is_one_line_that_says_whose_it_is():
    with folder_of_sockets() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = folder / "docker.sock"
        listener.bind(str(path))
        path.chmod(0o660)
        listener.listen()
        said = as_nobody(lambda: reason(path))
    owner, group = pwd.getpwuid(os.geteuid()).pw_name, grp.getgrgid(os.getegid()).gr_name
    assert f"the socket {path} may not be used: permission denied" in said
    assert f"(it belongs to user {owner}, group {group}, mode 0660)" in said
    assert "with a group, that may write to the socket" in said


def test_a_socket_that_is_not_there_or_that_nobody_serves_is_said():
    with folder_of_sockets() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = folder / "docker.sock"
        assert f"there is no socket {path}" in reason(path)
        listener.bind(str(path))
        assert f"nobody listens at the socket {path}" in reason(path)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"nodes": ("unix:///a", "unix:///b")}, "2 nodes are given"),
        ({"nodes": ("ssh://me@host",)}, "is not an address that confpy can connect to"),
        ({"nodes": ("unix:relative",)}, "is not the address of a Unix socket"),
        ({"nodes": ("unix:///" + "x" * 108,)}, "is longer than 107 bytes"),
        ({"nodes": ("tcp://a:b",)}, "is not the address of a node"),
        ({"srv_domain": "example.com"}, "an engine is not named by SRV records"),
        ({"nodes": ("tcp://a:1",), "client_cert": "/none"}, "the client certificate cannot be used"),
    ],
)
def test_settings_that_name_no_engine_are_refused(settings, expected):
    with pytest.raises(UsageError) as caught:
        DockerStore.open(Settings(backend="docker", **settings))
    assert expected in str(caught.value)


def test_addresses_are_written_as_dockers_client_takes_them(tmp_path):
    authority = Authority(tmp_path)
    tls = {"client_ca_keys": authority.ca}

    def node(address, **settings):
        with opened(address, **settings) as store:
            (found,) = store._endpoints
            return found.url

    assert node("unix:///run/docker.sock") == "unix:///run/docker.sock"
    assert node("/run/docker.sock", **tls) == "unix:///run/docker.sock"
    assert node("tcp://engine") == "http://engine:2375"
    assert node("tcp://engine", **tls) == "https://engine:2376"
    assert node("tcp://engine:1", scheme="https") == "https://engine:1"
