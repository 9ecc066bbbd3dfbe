"""The etcd v2 store against a real etcd: what it reads, what it follows, and what goes wrong on the way."""

from __future__ import annotations

import gc
import os
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import Request, urlopen

import pytest

from confpy.errors import StoreError, WatchLost
from confpy.keys.tree import KeyTree
from confpy.stores.etcd import v2 as etcd2_module
from tests.servers.authority import Authority
from tests.servers.etcd import Etcd2
from tests.servers.proxy import FaultProxy
from tests.stores.contract import following
from tests.waiting import wait_until


def first(stream, *, seconds=20):
    """Return what the stream brings first."""
    timer = threading.Timer(seconds, stream.close)
    timer.start()
    try:
        return next(iter(stream))
    finally:
        timer.cancel()


def read(store, prefix):
    return store.read([prefix]).listings[prefix]


# --- reading ---------------------------------------------------------------------------------------------------------


def test_hidden_keys_are_read_only_by_who_asks_for_them(etcd2, etcd2_store):
    etcd2.set("/a/x", "1")
    etcd2.set("/a/_h/y", "2")
    listings = etcd2_store(etcd2.endpoint).read(["/a", "/a/_h", "/a/_h/y"]).listings
    assert [dict(one.keys) for one in listings.values()] == [{"/a/x": "1"}, {"/a/_h/y": "2"}, {"/a/_h/y": "2"}]


def test_an_empty_folder_and_a_missing_one_are_distinguished(etcd2, etcd2_store):
    etcd2.make("/a/empty")
    listings = etcd2_store(etcd2.endpoint).read(["/a/empty", "/a/none", "/a"]).listings
    assert [set(one.folders) for one in listings.values()] == [{"/a/empty"}, set(), {"/a/empty"}]


def test_a_thousand_prefixes_take_a_small_number_of_requests(etcd2, etcd2_store):
    for number in range(1000):
        etcd2.set(f"/services/{number}/a", "1")
    with FaultProxy(etcd2.port) as proxy:
        store = etcd2_store(proxy.endpoint)
        prefixes = [f"/services/{number}" for number in range(1000)]
        snapshot = store.read([*prefixes, "/config"])
        assert sum(len(one.keys) for one in snapshot.listings.values()) == 1000
        stream = store.watch({prefix: one.revision for prefix, one in snapshot.listings.items()}, snapshot.identity)
        assert sum("quorum=true" in request for request in proxy.requests) == 2
        assert sum("wait=true" in request for request in proxy.requests) == 2
        etcd2.set("/services/7/b", "2")
        changes = first(stream)
        assert (changes.prefix, [value for _, value in changes.keys.values()]) == ("/services/7", ["2"])


def test_a_folder_too_large_to_hold_is_the_error_of_who_asked_for_it(etcd2, etcd2_store, monkeypatch):
    etcd2.set("/big/1", "x" * 100_000)
    etcd2.set("/small/1", "x")
    monkeypatch.setattr(etcd2_module, "ANSWER_BYTES", 50_000)
    listings = etcd2_store(etcd2.endpoint).read(["/big", "/small"]).listings
    assert "larger" in str(listings["/big"].error)
    assert listings["/small"].keys == {"/small/1": "x"}


# --- following -------------------------------------------------------------------------------------------------------


def test_hidden_keys_are_not_brought_by_a_wait_for_a_past_index(etcd2, etcd2_store):
    store = etcd2_store(etcd2.endpoint)
    cursor = etcd2.set("/a/x", "1")
    etcd2.set("/a/_h/y", "2")
    etcd2.set("/a/z", "3")
    assert set(first(store.watch({"/a": cursor})).keys) == {"/a/z"}


@pytest.mark.parametrize("prefix", ["/top/mid", "/top/mid/low", "/top"])
def test_a_folder_that_expires_takes_what_it_held_also_above_the_prefix(etcd2, etcd2_store, prefix):
    etcd2.make("/top/mid", ttl=1)
    etcd2.set("/top/mid/low/x", "1")
    etcd2.set("/top/other", "2")
    store = etcd2_store(etcd2.endpoint)
    with following(store, store.read([prefix])) as seen:
        seen.wait_for({"/top/other": "2"} if prefix == "/top" else {})


@pytest.mark.parametrize("late", [False, True], ids=["live", "from the history"])
def test_a_folder_removed_above_the_prefix_takes_all_with_it(etcd2, etcd2_store, late):
    etcd2.set("/top/mid/low/x", "1")
    etcd2.set("/top/middle/x", "2")
    store = etcd2_store(etcd2.endpoint)
    snapshot = store.read(["/top/mid/low", "/top/middle"])
    if late:
        etcd2.remove("/top/mid", recursive=True)
    with following(store, snapshot) as seen:
        if not late:
            etcd2.remove("/top/mid", recursive=True)
        seen.wait_for({"/top/middle/x": "2"})


def test_a_key_that_expires_is_gone_and_its_folder_is_empty(etcd2, etcd2_store):
    etcd2.set("/a/x", "1", ttl=1)
    store = etcd2_store(etcd2.endpoint)
    listing = read(store, "/a")
    changes = first(store.watch({"/a": listing.revision}))
    assert [value for _, value in changes.keys.values()] == [None]
    assert set(changes.folders) == {"/a"}


def test_a_leaf_becomes_a_folder_and_a_leaf_again(etcd2, etcd2_store):
    etcd2.set("/a/x", "leaf")
    store = etcd2_store(etcd2.endpoint)
    with following(store, store.read(["/a"])) as seen:
        etcd2.make("/a/x")
        etcd2.set("/a/x/y", "below")
        seen.wait_for({"/a/x/y": "below"})
        etcd2.remove("/a/x", recursive=True)
        etcd2.set("/a/x", "leaf again")
        seen.wait_for({"/a/x": "leaf again"})


@pytest.mark.parametrize("how", [{"value": "1"}, {"refresh": "true"}])
def test_a_ttl_that_is_refreshed_changes_nothing(etcd2, etcd2_store, how):
    etcd2.set("/a/x", "1", ttl=100)
    store = etcd2_store(etcd2.endpoint)
    listing = read(store, "/a")
    tree = KeyTree()
    tree.replace("/a", listing.keys)
    with following(store, store.read(["/a"])) as seen:
        etcd2.request("PUT", "/keys/a/x", ttl=100, prevExist="true", **how)
        etcd2.set("/a/last", "2")
        seen.wait_for({"/a/x": "1", "/a/last": "2"})
    changed = {key for one in seen.changes for key, (_, value) in one.keys.items() if tree.set(key, value)}
    assert changed == {"/a/last"}


def test_a_wait_outlives_more_changes_of_others_than_etcd_remembers(etcd2, etcd2_store):
    store = etcd2_store(etcd2.endpoint)
    with following(store, store.read(["/a"])) as seen:
        for number in range(1_100):
            etcd2.set("/other", str(number))
        etcd2.set("/a/x", "1")
        seen.wait_for({"/a/x": "1"})


def test_a_past_that_etcd_has_forgotten_means_to_read_again_and_then_nothing_is_lost(etcd2, etcd2_store):
    store = etcd2_store(etcd2.endpoint)
    cursor = read(store, "/a").revision
    for number in range(1_100):
        etcd2.set("/other", str(number))
    with pytest.raises(WatchLost, match="forgotten"):
        store.watch({"/a": cursor})
    with following(store, store.read(["/a"])) as seen:
        etcd2.set("/a/x", "1")
        seen.wait_for({"/a/x": "1"})


def test_a_restart_ends_the_stream_and_its_cursor_goes_on(etcd2, etcd2_store):
    store = etcd2_store(etcd2.endpoint)
    cursor = etcd2.set("/a/x", "1")
    identity = store.read(["/a"]).identity
    stream = store.watch({"/a": cursor}, identity)
    etcd2.kill()
    with pytest.raises(StoreError) as caught:
        first(stream)
    assert not isinstance(caught.value, WatchLost)
    with pytest.raises(StoreError, match="connection refused"):
        store.read(["/a"])
    etcd2.start()
    index = wait_until(lambda: etcd2.set("/a/x", "2"), what="etcd takes a write")
    assert first(store.watch({"/a": cursor}, identity)).keys == {"/a/x": (index, "2")}


def test_another_cluster_and_an_older_one_mean_to_read_again(etcd2, etcd2_store):
    store = etcd2_store(etcd2.endpoint)
    backup = etcd2.backup()
    for number in range(20):  # a start makes some changes of its own
        cursor = etcd2.set("/a/x", str(number))
    identity = store.read(["/a"]).identity
    etcd2.restore(backup)
    with pytest.raises(WatchLost, match="backup"):
        store.watch({"/a": cursor}, identity)
    etcd2.replace()
    with pytest.raises(WatchLost, match="another etcd cluster"):
        store.watch({"/a": 1}, identity)


def test_a_change_is_reported_within_a_moment(etcd2, etcd2_store):
    store = etcd2_store(etcd2.endpoint)
    with following(store, store.read(["/a"])) as seen:
        began = time.monotonic()
        etcd2.set("/a/x", "1")
        seen.wait_for({"/a/x": "1"})
        assert time.monotonic() - began < 1


# --- nodes -----------------------------------------------------------------------------------------------------------


class Redirecting:
    """A server that answers every GET with a redirect, as a member of etcd 0.4 that is not the leader does."""

    def __init__(self, location, status=307):
        requests = self.requests = []

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.path)
                self.send_response(status)
                self.send_header("Location", location + self.path)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_followed_in_reads_and_waits(etcd2, etcd2_store, status):
    etcd2.set("/a/x", "1")
    with Redirecting(etcd2.endpoint, status) as other:
        store = etcd2_store(other.endpoint)
        listing = read(store, "/a")
        assert listing.keys == {"/a/x": "1"}
        with following(store, store.read(["/a"])) as seen:
            for number in range(5):
                etcd2.set("/a/x", str(number))
            seen.wait_for({"/a/x": "4"})
        assert len(other.requests) == 3, "one for each conversation"


def test_redirects_end(etcd2_store):
    with Redirecting("") as other, pytest.raises(StoreError, match="redirects more than"):
        etcd2_store(other.endpoint).read(["/a"])
    with Redirecting("https://127.0.0.1:1") as other, pytest.raises(StoreError, match="redirects to https"):
        etcd2_store(other.endpoint).read(["/a"])


def test_a_node_needs_no_scheme_and_one_that_is_down_is_passed_over(etcd2, etcd2_store):
    etcd2.set("/a/x", "1")
    for _ in range(4):
        store = etcd2_store("127.0.0.1:1", f"127.0.0.1:{etcd2.port}")
        assert read(store, "/a").keys == {"/a/x": "1"}


def test_without_nodes_todays_port_of_etcd_is_tried_and_then_that_of_its_first_years(etcd2_store):
    for _ in range(10):
        assert [node.url for node in etcd2_store()._endpoints] == ["http://127.0.0.1:2379", "http://127.0.0.1:4001"]


def test_an_etcd_without_the_api_is_reported_as_that(etcd, etcd2_store):
    with pytest.raises(StoreError, match="--enable-v2"):
        etcd2_store(etcd.endpoint).read(["/a"])


def test_a_refused_prefix_stops_only_itself(etcd2, etcd2_store):
    for key in ("/open/x", "/shut/x"):
        etcd2.set(key, "1")
    etcd2.guard("/open")
    store = etcd2_store(etcd2.endpoint)
    listings = store.read(["/open", "/shut"]).listings
    assert listings["/open"].keys == {"/open/x": "1"}
    assert "refuses" in str(listings["/shut"].error)


def test_a_user_reads_and_follows_what_it_may_and_a_wrong_password_is_refused(etcd2, etcd2_store, tmp_path):
    etcd2.set("/shut/x", "1")
    etcd2.guard("/open")
    (tmp_path / "password").write_text("root\n")
    login = {"basic_auth": True, "username": "root"}
    store = etcd2_store(etcd2.endpoint, password_file=str(tmp_path / "password"), **login)
    with following(store, store.read(["/shut"])) as seen:
        etcd2.set("/shut/x", "2")
        seen.wait_for({"/shut/x": "2"})
    refused = read(etcd2_store(etcd2.endpoint, password="wrong", **login), "/shut").error
    assert "refuses" in str(refused)
    assert "wrong" not in str(refused)


def test_a_login_is_shown_to_no_server_but_the_nodes(etcd2, etcd2_store):
    etcd2.set("/shut/x", "1")
    etcd2.guard("/open")
    login = {"basic_auth": True, "username": "root", "password": "root"}
    with Redirecting(etcd2.endpoint) as other:
        assert "refuses" in str(read(etcd2_store(other.endpoint, **login), "/shut").error)
        for _ in range(4):  # whichever of them is asked first
            assert read(etcd2_store(other.endpoint, etcd2.endpoint, **login), "/shut").keys == {"/shut/x": "1"}


def test_a_refused_wait_is_an_error_and_a_refused_folder_above_is_passed_by(etcd2, etcd2_store):
    for number in range(20):
        etcd2.set(f"/s/{number}/x", "1")
    etcd2.guard(*(f"/s/{number}" for number in range(20)))
    store = etcd2_store(etcd2.endpoint)
    cursor = read(store, "/s/1").revision
    with pytest.raises(StoreError, match="refuses"):
        store.watch({"/shut": cursor})
    stream = store.watch({f"/s/{number}": cursor for number in range(20)})
    etcd2.set("/s/7/x", "2")
    assert set(first(stream).keys) == {"/s/7/x"}


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(authority):
    """An etcd that shows a certificate, and lets in only who has one of the same authority."""
    cert, key = authority.issue("etcd", "IP:127.0.0.1")
    files = (f"--cert-file={cert}", f"--key-file={key}", f"--trusted-ca-file={authority.ca}", "--client-cert-auth")
    with Etcd2(*files, scheme="https") as server:
        yield server


@pytest.fixture
def shown(authority):
    return authority.shown(authority.issue("confpy"))


def test_certificates_let_in_who_has_the_right_ones(guarded, shown, etcd2_store):
    def put(value):
        context = ssl.create_default_context(cafile=shown["client_ca_keys"])
        context.load_cert_chain(shown["client_cert"], shown["client_key"])
        url = f"{guarded.endpoint}/v2/keys/a/x?value={value}"
        urlopen(Request(url, method="PUT"), context=context, timeout=10).close()

    put("1")
    store = etcd2_store(f"127.0.0.1:{guarded.port}", **shown)
    with following(store, store.read(["/a"])) as seen:
        seen.wait_for({"/a/x": "1"})
        put("2")
        seen.wait_for({"/a/x": "2"})


@pytest.mark.parametrize(
    ("without", "says"),
    [
        (("client_ca_keys",), "its certificate is not trusted"),
        (("client_cert", "client_key"), "it refused our certificate"),
        (("client_ca_keys", "client_cert", "client_key"), "https://"),
    ],
    ids=["no authority", "no certificate", "no TLS"],
)
def test_certificates_keep_out_everybody_else_and_the_error_says_why(guarded, shown, etcd2_store, without, says):
    given = {name: path for name, path in shown.items() if name not in without}
    store = etcd2_store(f"127.0.0.1:{guarded.port}", **given)
    with pytest.raises(StoreError, match=says) as caught:
        store.read(["/a"])
    assert str(guarded.port) in str(caught.value)
    assert caught.value.hint


def test_the_ca_of_somebody_else_is_no_reason_to_trust(guarded, shown, etcd2_store, tmp_path):
    other = Authority(tmp_path / "other").shown()
    with pytest.raises(StoreError, match="its certificate is not trusted"):
        etcd2_store(guarded.endpoint, **shown | other).read(["/a"])


# --- bounds ----------------------------------------------------------------------------------------------------------


def test_a_server_that_drips_cannot_hold_up_a_read_or_a_wait(etcd2, etcd2_store):
    etcd2.set("/a/x", "x" * 1000)
    with FaultProxy(etcd2.port) as proxy:
        store = etcd2_store(proxy.endpoint, read_timeout=1.0)
        cursor = read(store, "/a").revision
        proxy.drip(1)
        for ask in (lambda: store.read(["/a"]), lambda: store.watch({"/a": cursor})):
            began = time.monotonic()
            with pytest.raises(StoreError, match="no answer within 1 s"):
                ask()
            assert time.monotonic() - began < 3


def test_a_read_of_many_prefixes_is_bounded_as_a_whole(etcd2, etcd2_store):
    prefixes = [f"/{number}" for number in range(20)]
    for prefix in prefixes:
        etcd2.set(prefix, "x" * 100)
    with FaultProxy(etcd2.port) as proxy:
        store = etcd2_store(proxy.endpoint, read_timeout=0.6)
        store.read(prefixes)
        proxy.drip(500, head=False)  # each answer comes in time
        assert store.read(prefixes[:2]).listings
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"no answer within 3\.6 s"):
            store.read(prefixes)
        assert time.monotonic() - began < 6


def test_an_event_that_drips_ends_the_wait_and_comes_with_the_next_one(etcd2, etcd2_store):
    with FaultProxy(etcd2.port) as proxy:
        store = etcd2_store(proxy.endpoint, read_timeout=1.0)
        cursor = etcd2.set("/a/x", "1")
        stream = store.watch({"/a": cursor})
        proxy.drip(1)
        began = time.monotonic()
        index = etcd2.set("/a/x", "2")
        with pytest.raises(StoreError, match="no answer within 1 s"):
            first(stream)
        assert time.monotonic() - began < 5
        proxy.heal()
        assert first(store.watch({"/a": cursor})).keys == {"/a/x": (index, "2")}


def test_a_wait_has_no_deadline_while_nothing_happens(etcd2, etcd2_store):
    store = etcd2_store(etcd2.endpoint, read_timeout=0.3)
    with following(store, store.read(["/a"])) as seen:
        time.sleep(1)  # the silence is what is tested
        etcd2.set("/a/x", "1")
        seen.wait_for({"/a/x": "1"})


# --- a bad network ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [lambda proxy: proxy.split(1), lambda proxy: proxy.merge()], ids=["split", "merged"])
def test_answers_cut_and_put_together_anyhow_are_understood(etcd2, etcd2_store, how):
    etcd2.set("/a/x", "ż" * 50)
    with FaultProxy(etcd2.port) as proxy:
        how(proxy)
        store = etcd2_store(proxy.endpoint)
        with following(store, store.read(["/a"])) as seen:
            for number in range(5):
                etcd2.set("/a/y", f"{number}ż")
            seen.wait_for({"/a/x": "ż" * 50, "/a/y": "4ż"})


@pytest.mark.parametrize(
    "break_off",
    [
        FaultProxy.reset,
        FaultProxy.half_close,
        lambda proxy: proxy.inject(b"0\r\n\r\n"),
        lambda proxy: proxy.inject(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
        lambda proxy: proxy.inject(b"2\r\n{}\r\n0\r\n\r\n"),
        lambda proxy: proxy.inject(b'2c\r\n{"errorCode":300,"message":"Raft","index":7}\r\n0\r\n\r\n'),
    ],
    ids=["reset", "half closed", "an empty answer", "another answer", "no event", "an error"],
)
def test_a_wait_that_breaks_off_is_resumed_from_where_it_was(etcd2, etcd2_store, break_off):
    with FaultProxy(etcd2.port) as proxy:
        store = etcd2_store(proxy.endpoint)
        cursor = etcd2.set("/a/x", "1")
        stream = store.watch({"/a": cursor})
        break_off(proxy)
        with pytest.raises(StoreError) as caught:
            first(stream)
        assert not isinstance(caught.value, WatchLost)
        index = etcd2.set("/a/x", "2")
        assert first(store.watch({"/a": cursor})).keys == {"/a/x": (index, "2")}


def test_a_server_that_is_stopped_is_reported_and_its_wait_goes_on_with_it(etcd2, etcd2_store):
    etcd2.set("/a/x", "1")
    store = etcd2_store(etcd2.endpoint, read_timeout=1.0)
    with following(store, store.read(["/a"])) as seen:
        etcd2.freeze()
        try:
            with pytest.raises(StoreError, match="no answer within 1 s"):
                store.read(["/a"])
        finally:
            etcd2.thaw()
        etcd2.set("/a/x", "2")
        seen.wait_for({"/a/x": "2"})


# --- nothing stays ---------------------------------------------------------------------------------------------------


def test_nothing_of_a_store_stays_behind(etcd2, etcd2_store):
    store = etcd2_store(etcd2.endpoint)
    revision = read(store, "/a").revision
    gc.collect()  # of what other tests left
    threads, sockets = threading.active_count(), len(os.listdir("/proc/self/fd"))
    for number in range(200):
        read(store, "/a")
        stream = store.watch({"/a": revision, "/b": revision})
        if number % 2:
            with following(store, store.read(["/a"])):
                pass
        stream.close()
    wait_until(lambda: threading.active_count() <= threads, what="the threads end")
    assert len(os.listdir("/proc/self/fd")) <= sockets
