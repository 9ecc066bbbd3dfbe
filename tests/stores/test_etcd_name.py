"""The name ``etcd`` against real servers: which API it takes, when, and what it does until then."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack, closing, contextmanager

import pytest

from confpy.config.settings import Settings
from confpy.config.stores.etcd import ETCD
from confpy.errors import StoreError
from confpy.keys.snapshot import Invalidated
from confpy.stores import open_store
from confpy.stores.etcd import auto as etcd_module
from tests.servers.etcd import Etcd2
from tests.servers.ports import free_port
from tests.servers.proxy import FaultProxy
from tests.stores.contract import WatchContract
from tests.waiting import wait_until

BOTH = "etcdv2 or etcdv3"


@pytest.fixture
def start(tmp_path):
    """Starts the store anew, on the same state: ``start(*nodes, **settings)``."""
    with ExitStack() as stack:

        def opened(*nodes, **settings):
            settings = {"connect_timeout": 2.0, "read_timeout": 5.0, "state_dir": str(tmp_path / "state"), **settings}
            return stack.enter_context(closing(open_store("etcd", Settings(nodes=nodes, **settings))))

        yield opened


class WithoutGateway(Etcd2):
    """An etcd that does not speak v3 over HTTP."""

    def _answers(self):
        return self._listens()


def reported(snapshot):
    """Level, event and store of each note."""
    return [(note.level, note.event, note.fields.get("store")) for note in snapshot.notes]


def keys(snapshot):
    return {key: value for listing in snapshot.listings.values() for key, value in listing.keys.items()}


@contextmanager
def followed(store, snapshot):
    """What a stream brings, as it comes."""
    stream = store.watch({prefix: one.revision for prefix, one in snapshot.listings.items()}, snapshot.identity)
    changes = []

    def follow():
        for one in stream:
            changes.append(one)  # noqa: PERF402 - one by one, while others look

    thread = threading.Thread(target=follow)
    thread.start()
    try:
        yield changes
    finally:
        stream.close()
        thread.join(5)
        assert not thread.is_alive()


# --- choosing --------------------------------------------------------------------------------------------------------


def test_the_api_that_holds_keys_is_chosen_and_logged(etcd2, start, tmp_path):
    etcd2.put("/a/x", "3")
    etcd2.set("/other", "2")
    snapshot = start(etcd2.endpoint).read(["/a"])
    assert (keys(snapshot), snapshot.on_missing) == ({"/a/x": "3"}, "empty")
    assert reported(snapshot) == [("info", "store.chosen", "etcdv3")]
    snapshot = start(etcd2.endpoint, state_dir=str(tmp_path / "new")).read(["/other"])
    assert (keys(snapshot), snapshot.on_missing) == ({"/other": "2"}, "error")
    assert reported(snapshot) == [("info", "store.chosen", "etcdv2")]


def test_of_two_with_keys_it_is_v2_and_the_warning_names_the_other(etcd2, start):
    etcd2.put("/a/x", "3")
    etcd2.set("/a/x", "2")
    store = start(etcd2.endpoint)
    snapshot = store.read(["/a"])
    assert keys(snapshot) == {"/a/x": "2"}
    assert reported(snapshot) == [("warning", "store.chosen", "etcdv2")]
    assert "etcdv3" in snapshot.notes[0].fields["hint"]
    assert reported(store.read(["/a"])) == []


def test_an_empty_folder_of_v2_holds_no_keys(etcd2, start):
    etcd2.make("/a")
    etcd2.put("/a/x", "3")
    assert reported(start(etcd2.endpoint).read(["/a"])) == [("info", "store.chosen", "etcdv3")]


def test_an_api_that_is_off_is_an_answer(etcd, start):
    etcd.put("/a/x", "3")
    assert reported(start(etcd.endpoint).read(["/a"])) == [("info", "store.chosen", "etcdv3")]


def test_without_the_gateway_of_v3_it_is_v2(start):
    with WithoutGateway("--enable-grpc-gateway=false") as server:
        store = start(server.endpoint)
        assert reported(store.read(["/a"])) == [("info", "store.undecided", None)]
        server.set("/a/x", "2")
        assert reported(store.read(["/a"])) == [("info", "store.chosen", "etcdv2")]


def test_nothing_is_decided_by_a_node_that_is_down_and_the_others_are_asked(etcd2, start):
    store = start("127.0.0.1:1")
    with pytest.raises(StoreError, match="connection refused"):
        store.read(["/a"])
    etcd2.put("/a/x", "3")
    assert reported(start("127.0.0.1:1", etcd2.endpoint).read(["/a"])) == [("info", "store.chosen", "etcdv3")]


def test_an_api_that_refuses_decides_nothing(etcd2, start):
    etcd2.put("/a/x", "3")
    etcd2.guard("/open")
    with pytest.raises(StoreError, match="etcdv2 does not tell whether it holds /a: etcd refuses") as caught:
        start(etcd2.endpoint).read(["/a"])
    assert caught.value.hint.endswith(BOTH)


def test_a_server_of_another_kind_is_an_error(consul, start):
    with pytest.raises(StoreError, match="not as etcd"):
        start(f"127.0.0.1:{consul.port}").read(["/a"])


# --- while nothing is decided ----------------------------------------------------------------------------------------


def test_until_one_holds_keys_both_are_asked_and_that_is_logged_once(etcd2, start):
    with FaultProxy(etcd2.port) as proxy:
        store = start(proxy.endpoint)
        snapshot = store.read(["/a", "/b"])
        assert (keys(snapshot), snapshot.on_missing, snapshot.identity) == ({}, None, "")
        assert reported(snapshot) == [("info", "store.undecided", None)]
        assert store.poll(["/a"]) is None
        asked = len(proxy.requests)
        assert reported(store.read(["/a", "/b"])) == []
        assert any("/v2/keys/a" in request for request in proxy.requests[asked:])
        assert any("kv/txn" in request for request in proxy.requests[asked:])


@pytest.mark.parametrize("api", ["etcdv2", "etcdv3"])
def test_a_stream_asks_for_reads_until_there_is_a_choice_and_then_misses_nothing(etcd2, start, monkeypatch, api):
    monkeypatch.setattr(etcd_module, "POLL", 0.1)
    write = etcd2.set if api == "etcdv2" else etcd2.put
    store = start(etcd2.endpoint)
    with followed(store, store.read(["/a", "/b"])) as changes:
        wait_until(lambda: len(changes) > 2, what="it asks for reads")
        assert all(isinstance(one, Invalidated) for one in changes)
        write("/a/x", "1")
        snapshot = store.read(["/a", "/b"])
        assert reported(snapshot) == [("info", "store.chosen", api)]
        write("/b/y", "2")
        wait_until(lambda: not isinstance(changes[-1], Invalidated), what="a change")
        revision = snapshot.listings["/b"].revision
        assert [value for _, value in changes[-1].keys.values()] == ["2"]
        assert changes[-1].revision > revision


def test_a_stream_asks_for_no_reads_while_they_fail(etcd2, start, monkeypatch):
    monkeypatch.setattr(etcd_module, "POLL", 0.1)
    store = start(etcd2.endpoint)
    with followed(store, store.read(["/a"])) as changes:
        wait_until(lambda: changes, what="it asks for a read")
        etcd2.kill()
        with pytest.raises(StoreError):
            store.read(["/a"])
        asked = len(changes)
        time.sleep(0.5)
        assert len(changes) <= asked + 1


def test_closing_the_store_or_the_stream_ends_it_within_a_second(etcd2, start):
    store = start(etcd2.endpoint)
    snapshot = store.read(["/a"])
    with followed(store, snapshot):
        pass
    with followed(store, snapshot):
        began = time.monotonic()
        store.close()
    assert time.monotonic() - began < 1


# --- what is stored --------------------------------------------------------------------------------------------------


def test_a_later_start_keeps_the_choice_and_warns_where_it_would_be_another(etcd2, start):
    etcd2.put("/a/x", "3")
    start(etcd2.endpoint).read(["/a"])
    assert reported(start(etcd2.endpoint).read(["/a"])) == []
    etcd2.delete("/a/x")
    snapshot = start(etcd2.endpoint).read(["/a"])
    assert (reported(snapshot), snapshot.on_missing) == ([], "empty")
    etcd2.set("/a/x", "2")
    snapshot = start(etcd2.endpoint).read(["/a"])
    assert (reported(snapshot), keys(snapshot)) == ([("warning", "store.chosen", "etcdv3")], {})
    assert snapshot.notes[0].fields["hint"].endswith("etcdv3 or etcdv2")


def test_a_choice_of_v2_stays_where_v3_holds_keys_since(etcd2, start):
    etcd2.set("/a/x", "2")
    start(etcd2.endpoint).read(["/a"])
    etcd2.put("/a/x", "3")
    assert reported(start(etcd2.endpoint).read(["/a"])) == []
    etcd2.remove("/a/x")
    snapshot = start(etcd2.endpoint).read(["/a"])
    assert (reported(snapshot), keys(snapshot)) == ([("warning", "store.chosen", "etcdv2")], {})


def test_a_stored_choice_that_cannot_be_read_is_an_error_and_not_another_choice(etcd2, etcd, start):
    etcd2.set("/a/x", "2")
    start(etcd2.endpoint).read(["/a"])
    etcd.put("/a/x", "3")
    with pytest.raises(StoreError, match="no API v2") as caught:
        start(etcd.endpoint).read(["/a"])
    assert "etcdv3" in caught.value.hint


def test_nothing_is_stored_by_a_trial_and_a_strange_record_decides_nothing(etcd2, start, tmp_path):
    etcd2.put("/a/x", "3")
    for _ in range(2):
        assert reported(start(etcd2.endpoint, noop=True).read(["/a"])) == [("info", "store.chosen", "etcdv3")]
    assert not (tmp_path / "state").exists()
    start(etcd2.endpoint).read(["/a"])
    (record,) = (tmp_path / "state").rglob("*.json")
    record.write_text(record.read_text().replace("etcdv3", "etcdv9"))
    assert reported(start(etcd2.endpoint).read(["/a"])) == [("info", "store.chosen", "etcdv3")]


def test_where_the_choice_cannot_be_stored_it_is_made_all_the_same(etcd2, start, tmp_path):
    etcd2.put("/a/x", "3")
    (tmp_path / "file").touch()
    snapshot = start(etcd2.endpoint, state_dir=str(tmp_path / "file")).read(["/a"])
    assert keys(snapshot) == {"/a/x": "3"}
    assert reported(snapshot) == [("info", "store.chosen", "etcdv3"), ("warning", "state.not_saved", None)]


# --- what is common to both ------------------------------------------------------------------------------------------


def test_a_key_without_a_slash_is_for_v3_and_no_trouble_for_v2(etcd2, start, tmp_path):
    store = start(etcd2.endpoint)
    prefixes = store.prefixes("service/pg")
    assert prefixes == ("/service/pg", "service/pg")
    etcd2.put("service/pg/x", "3")
    assert keys(store.read(prefixes)) == {"service/pg/x": "3"}
    etcd2.set("/service/pg/y", "2")
    store = start(etcd2.endpoint, state_dir=str(tmp_path / "new"))
    snapshot = store.read(prefixes)
    assert keys(snapshot) == {"/service/pg/y": "2"}
    with followed(store, snapshot) as changes:
        etcd2.set("/service/pg/z", "2")
        wait_until(lambda: changes, what="a change")
        assert set(changes[0].keys) == {"/service/pg/z"}


class TestEtcdStore(WatchContract):
    """The contract, from before the choice to after it."""

    beside = 512

    @pytest.fixture(autouse=True)
    def _server(self, etcd2, tmp_path, monkeypatch):
        monkeypatch.setattr(etcd_module, "POLL", 0.1)
        self.server, self.state = etcd2, str(tmp_path)

    def open(self):
        return open_store("etcd", Settings(nodes=(self.server.endpoint,), state_dir=self.state))

    def write(self, keys):
        self.server.put_all({key: value for key, value in keys.items() if value is not None})
        for key in (key for key, value in keys.items() if value is None):
            self.server.delete(key)


def test_a_default_store_that_is_away_names_no_api_but_the_flags(tmp_path, monkeypatch):
    monkeypatch.setattr(etcd_module, "ETCD", ETCD._replace(nodes=(f"127.0.0.1:{free_port()}",)))
    for origins, flags in ({"backend": "default"}, "neither -backend nor -node"), ({"backend": "flag"}, "no -node"):
        settings = Settings(state_dir=str(tmp_path), connect_timeout=2.0, origins=origins)
        with closing(open_store("etcd", settings)) as store, pytest.raises(StoreError) as caught:
            store.read(["/a"])
        assert str(caught.value).startswith("etcd: connection refused")
        assert "v2" not in str(caught.value)
        assert "4001" not in str(caught.value)
        assert caught.value.hint.startswith(flags)


def test_a_named_store_that_is_away_keeps_the_hint_of_its_node(start):
    with pytest.raises(StoreError, match=r"^etcd: connection refused") as caught:
        start(f"127.0.0.1:{free_port()}").read(["/a"])
    assert "-node" not in caught.value.hint
