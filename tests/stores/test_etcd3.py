"""The etcd v3 store against a real etcd: what it reads, asks and follows."""

from __future__ import annotations

import gc
import os
import threading
import time
from contextlib import contextmanager

import pytest

from confpy.errors import StoreError, UsageError, WatchLost
from confpy.stores.etcd import v3 as etcd3_module
from confpy.stores.etcd import v3_gateway
from confpy.stores.etcd import v3_reading as etcd3_reading
from tests.servers.authority import Authority
from tests.servers.etcd import Etcd
from tests.servers.faulty import Endless
from tests.servers.ports import free_port
from tests.servers.web import Backend
from tests.waiting import wait_until

BINARY = bytes(range(256))
SERVICES = [f"/services/{number:04}" for number in range(1000)]


def collect(stream, count, *, seconds=20):
    """Read changes until they hold ``count`` keys (several changes of one key in one go are one); close on time-out."""
    timer = threading.Timer(seconds, stream.close)
    timer.start()
    got, keys = [], {}
    try:
        for changes in stream:
            got.append(changes)
            keys.update({(changes.prefix, key): value for key, value in changes.keys.items()})
            if len(keys) >= count:
                return got
    finally:
        timer.cancel()
    raise AssertionError(f"only {len(keys)} of {count} keys changed: {sorted(keys)[:20]}")


def merged(changes):
    """The last word on each key."""
    out = {}
    for one in changes:
        out.update({key: value for key, (_, value) in one.keys.items()})
    return out


# --- reading ---------------------------------------------------------------------------------------------------------


def test_a_thousand_prefixes_side_by_side_are_two_reads_and_one_stream(etcd, proxy, etcd_store):
    etcd.put_all({f"{service}/a": service for service in SERVICES})
    store = etcd_store(proxy.endpoint)
    snapshot = store.read(SERVICES, ["/services"])
    assert proxy.count("kv/txn") == 2
    assert all(dict(snapshot.listings[service].keys) == {f"{service}/a": service} for service in SERVICES)
    assert {listing.revision for listing in snapshot.listings.values()} == {etcd.revision()}
    assert snapshot.counts == {"/services": 1000}

    stream = store.watch(
        {service: listing.revision for service, listing in snapshot.listings.items()}, snapshot.identity
    )
    assert proxy.count("/watch") == 1
    etcd.put_all({f"{service}/a": "new" for service in SERVICES})
    assert merged(collect(stream, 1000)) == {f"{service}/a": "new" for service in SERVICES}
    assert (proxy.count("kv/txn"), proxy.count("/watch"), len(proxy.requests)) == (2, 1, 4)  # and one GET /version


def test_one_common_prefix_is_one_read_and_one_stream(etcd, proxy, etcd_store):
    etcd.put_all({f"{service}/a": service for service in SERVICES})
    store = etcd_store(proxy.endpoint)
    snapshot = store.read(["/services"])
    stream = store.watch({"/services": snapshot.listings["/services"].revision}, snapshot.identity)
    stream.close()
    assert len(snapshot.listings["/services"].keys) == 1000
    assert (proxy.count("kv/txn"), proxy.count("/watch")) == (1, 1)


def test_a_prefix_is_cut_at_a_slash(etcd, etcd_store):
    keys = ["/a/b", "/a/b/c", "/a/b-x", "/a/b.y", "/a/b c", "/a/b0", "/a/bc", "/a", "/a/b/", "/a/b//d", "a/b"]
    etcd.put_all(dict.fromkeys(keys, "v"))
    store = etcd_store(etcd.endpoint)
    listings = store.read(["/a/b", "a/b", "/", "/none"]).listings
    assert set(listings["/a/b"].keys) == {"/a/b", "/a/b/c", "/a/b/", "/a/b//d"}
    assert set(listings["a/b"].keys) == {"a/b"}
    assert set(listings["/"].keys) == set(keys)
    assert dict(listings["/none"].keys) == {}


def test_a_key_without_a_leading_slash_is_looked_for_in_both_spellings(etcd_store, etcd):
    store = etcd_store(etcd.endpoint)
    assert store.prefixes("/a/b") == ("/a/b",)
    assert store.prefixes("a/b") == ("/a/b", "a/b")
    assert store.prefixes("/") == ("/",)


def test_keys_and_values_of_any_bytes_come_back_as_they_are(etcd, etcd_store):
    pairs = {"/k/日本語": "wörld".encode(), b"/k/\xff\xfe": BINARY, "/k/empty": b"", "/k/lines": b"a\nb\r\n\0"}
    etcd.put_all(pairs)
    store = etcd_store(etcd.endpoint)
    listing = store.read(["/k"]).listings["/k"]
    decoded = {
        (key if isinstance(key, bytes) else key.encode()).decode("utf-8", "surrogateescape"): value.decode(
            "utf-8", "surrogateescape"
        )
        for key, value in pairs.items()
    }
    assert dict(listing.keys) == decoded
    stream = store.watch({"/k": listing.revision})
    etcd.put(b"/k/\xff\xfe", BINARY[::-1])
    etcd.put("/k/日本語/é", BINARY)
    assert merged(collect(stream, 2)) == {
        "/k/\udcff\udcfe": BINARY[::-1].decode("utf-8", "surrogateescape"),
        "/k/日本語/é": BINARY.decode("utf-8", "surrogateescape"),
    }


def test_pages_hold_one_revision_while_others_write(etcd, etcd_store, monkeypatch):
    etcd.put_all({f"/p/{number:04}": "x" * 2000 for number in range(500)})
    before = etcd.revision()
    store = etcd_store(etcd.endpoint)
    done = threading.Event()

    def write():
        while not done.is_set():
            etcd.transact({f"/p/{number:04}": "new" for number in range(100)})

    writer = threading.Thread(target=write)
    writer.start()
    try:
        wait_until(lambda: etcd.revision() > before, what="the writer writes")
        with monkeypatch.context() as patch:
            patch.setattr(v3_gateway, "ANSWER_BYTES", 100_000)
            listing = store.read(["/p"]).listings["/p"]
    finally:
        done.set()
        writer.join()
    assert len(listing.keys) == 500
    assert [value for key, value in listing.keys.items() if key < "/p/0100"] == ["new"] * 100
    stream = store.watch({"/p": listing.revision})
    last = etcd.put("/p/0000", "last")
    for changes in stream:
        assert changes.revision > listing.revision
        if changes.revision == last:
            break


def test_large_values_are_read_in_pages_that_stay_small(etcd, proxy, etcd_store):
    value = "x" * 1_000_000
    for number in range(40):
        etcd.put(f"/big/{number}", value)
    store = etcd_store(proxy.endpoint, read_timeout=30.0)
    listing = store.read(["/big"]).listings["/big"]
    assert all(found == value for found in listing.keys.values())
    assert len(listing.keys) == 40
    assert 10 <= proxy.count("kv/txn") <= 20
    before = proxy.count("kv/txn")
    store.read(["/big"])  # the sizes are known now: nothing is read in vain
    assert proxy.count("kv/txn") - before <= 14


def test_a_read_whose_history_is_compacted_under_it_begins_again(etcd, etcd_store, monkeypatch):
    etcd.put_all({f"/p/{number}": "v" for number in range(300)})
    store = etcd_store(etcd.endpoint)
    fetch, compacted = v3_gateway.Gateway.fetch, []

    def fetch_and_compact_once(gateway, path, body):
        result = fetch(gateway, path, body)
        if not compacted:
            etcd.put("/p/0", "new")
            compacted.append(etcd.compact())
        return result

    monkeypatch.setattr(v3_gateway.Gateway, "fetch", fetch_and_compact_once)
    snapshot = store.read([f"/p/{number}" for number in range(300)])
    assert compacted
    assert snapshot.listings["/p/0"].keys == {"/p/0": "new"}
    assert {listing.revision for listing in snapshot.listings.values()} == set(compacted)


# --- asking ----------------------------------------------------------------------------------------------------------


def test_an_ask_agrees_with_a_read_and_is_small(etcd, proxy, etcd_store):
    etcd.put_all({f"/a/{number}": "x" * 500 for number in range(2000)})
    etcd.put("/a-neighbour", "v")
    etcd.put("/b", "v")
    store = etcd_store(proxy.endpoint)
    snapshot = store.read(["/a", "/b", "/none", "/"])
    read = proxy.bytes_down
    status = store.poll(["/a", "/b", "/none", "/"])
    assert proxy.bytes_down - read < 3000
    assert status.identity == snapshot.identity
    assert status.revision == etcd.revision()
    assert status.counts == {prefix: len(listing.keys) for prefix, listing in snapshot.listings.items()}
    assert status.newest["/none"] == 0
    assert status.newest["/b"] == status.newest["/"] == status.revision
    assert status.newest["/a"] == status.revision - 2


def test_an_ask_of_a_store_at_rest_costs_the_same_for_one_prefix_and_for_many(etcd, proxy, etcd_store):
    prefixes = [f"/a/{number:03}" for number in range(300)]
    etcd.put_all({f"{prefix}/k": "v" for prefix in prefixes})
    store = etcd_store(proxy.endpoint)
    first = store.poll(prefixes)
    asked, received = len(proxy.requests), proxy.bytes_down
    assert store.poll(prefixes) == first
    assert len(proxy.requests) - asked == 1
    assert proxy.bytes_down - received < 1000
    assert len(store.poll(prefixes[:2]).counts) == 2, "that is another question"
    etcd.delete("/a/007/k")
    assert store.poll(prefixes).counts == first.counts | {"/a/007": 0}


def test_an_ask_betrays_a_deletion_by_its_count(etcd, etcd_store):
    etcd.put_all({"/a/1": "v", "/a/2": "v"})
    store = etcd_store(etcd.endpoint)
    before = store.poll(["/a"])
    etcd.delete("/a/1")
    after = store.poll(["/a"])
    assert (before.counts, after.counts) == ({"/a": 2}, {"/a": 1})
    assert after.newest == before.newest
    assert after.revision > before.revision


# --- following -------------------------------------------------------------------------------------------------------


def test_what_changed_between_read_and_watch_comes_first(etcd, etcd_store):
    store = etcd_store(etcd.endpoint)
    snapshot = store.read(["/a"])
    revision = etcd.put("/a/x", "1")
    stream = store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity)
    (changes,) = collect(stream, 1)
    assert (changes.prefix, changes.revision, dict(changes.keys)) == ("/a", revision, {"/a/x": (revision, "1")})


def test_a_deletion_and_the_end_of_a_lease_are_reported(etcd, etcd_store):
    etcd.put("/a/x", "1")
    lease = etcd.ask("lease/grant", {"TTL": "1"})["ID"]
    etcd.ask("kv/put", {"key": "L2EveQ==", "value": "MQ==", "lease": lease})  # /a/y
    store = etcd_store(etcd.endpoint)
    stream = store.watch({"/a": etcd.revision()})
    etcd.delete("/a/x")
    assert merged(collect(stream, 2)) == {"/a/x": None, "/a/y": None}


def test_a_burst_comes_whole_in_a_small_number_of_changes(etcd, etcd_store):
    store = etcd_store(etcd.endpoint)
    stream = store.watch({"/a": etcd.revision()})
    last = etcd.put_all([(f"/a/{number % 500}", str(number)) for number in range(20_000)][:20_000])
    wait_until(stream._stream.arrived, what="the burst begins to arrive")
    got, changes = [], iter(stream)
    while not got or got[-1].revision < last:
        got.append(next(changes))
    assert merged(got) == {f"/a/{number % 500}": str(number) for number in range(19_500, 20_000)}
    assert [one.revision for one in got] == sorted(one.revision for one in got)


def test_what_has_come_is_put_together_and_a_lone_change_waits_for_nothing(etcd, etcd_store):
    store = etcd_store(etcd.endpoint)
    stream = store.watch({"/a": etcd.revision(), "/b": etcd.revision()})
    changes = iter(stream)
    etcd.put("/a/lone", "1")
    began = time.monotonic()
    assert next(changes).keys.keys() == {"/a/lone"}
    assert time.monotonic() - began < 1
    for number in range(100):
        etcd.put(f"/a/{number}", "1")
        etcd.put(f"/b/{number}", "1")
    wait_until(stream._stream.arrived, what="they arrive")
    got = collect(stream, 200)
    assert len(got) < 100


def test_events_of_twenty_megabytes_come_in_parts_and_leave_as_one(etcd, etcd_store):
    store = etcd_store(etcd.endpoint)
    cursor = etcd.revision()
    value = "x" * 1_000_000
    for number in range(20):
        etcd.put(f"/big/{number}", value)
    stream = store.watch({"/big": cursor})
    got = collect(stream, 20)
    assert all(found == value for found in merged(got).values())


def test_a_compacted_cursor_means_to_read_again(etcd, etcd_store):
    store = etcd_store(etcd.endpoint)
    cursor = etcd.revision()
    for number in range(5):
        etcd.put("/a/x", str(number))
    etcd.compact()
    with pytest.raises(WatchLost, match="compacted"):
        list(store.watch({"/a": cursor}))
    snapshot = store.read(["/a"])
    stream = store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity)
    etcd.put("/a/x", "next")
    assert merged(collect(stream, 1)) == {"/a/x": "next"}


def test_a_store_restored_from_a_backup_means_to_read_again(etcd, etcd_store):
    backup = etcd.backup()
    for number in range(5):
        etcd.put("/a/x", str(number))
    store = etcd_store(etcd.endpoint)
    snapshot = store.read(["/a"])
    etcd.restore(backup)
    with pytest.raises(WatchLost, match="backup"):
        store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity)


def test_another_cluster_at_the_address_means_to_read_again(etcd, etcd_store):
    store = etcd_store(etcd.endpoint)
    snapshot = store.read(["/a"])
    etcd.replace()
    with pytest.raises(WatchLost, match="another etcd cluster"):
        store.watch({"/a": 0}, snapshot.identity)


def test_a_denied_prefix_is_said_to_be_denied(etcd, etcd_store):
    etcd.put("/a/x", "1")
    etcd.ask("auth/user/add", {"name": "root", "password": "root"})
    etcd.ask("auth/user/grant", {"user": "root", "role": "root"})
    etcd.ask("auth/enable", {})
    with pytest.raises(StoreError) as caught:
        etcd_store(etcd.endpoint).read(["/a"])
    assert "user name is empty" in str(caught.value)


# --- TLS -------------------------------------------------------------------------------------------------------------


@contextmanager
def tls(authority, cert_and_key, *arguments):
    """An etcd that speaks TLS with this certificate."""
    cert, key = cert_and_key
    with Etcd(f"--cert-file={cert}", f"--key-file={key}", *arguments, scheme="https") as server:
        yield server


def mutual(authority):
    """The arguments of an etcd that wants a certificate to be shown."""
    return f"--trusted-ca-file={authority.ca}", "--client-cert-auth"


@pytest.fixture
def tls_etcd(authority):
    with tls(authority, authority.issue("server", "IP:127.0.0.1")) as server:
        yield server


def test_tls_reads_and_follows_with_the_named_ca(tls_etcd, authority, etcd_store):
    store = etcd_store(f"127.0.0.1:{tls_etcd.port}", **authority.shown())
    snapshot = store.read(["/a"])
    stream = store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity)
    closer = threading.Timer(0.2, stream.close)
    closer.start()
    began = time.monotonic()
    assert list(stream) == []
    assert time.monotonic() - began < 1.2


def test_tls_trusts_nobody_it_was_not_given(tls_etcd, etcd_store, tmp_path):
    for trusted in ({}, Authority(tmp_path / "another").shown()):
        with pytest.raises(StoreError, match=r"not trusted.*client_ca_keys"):
            etcd_store(tls_etcd.endpoint, **trusted).read(["/a"])
    assert etcd_store(tls_etcd.endpoint, client_insecure=True).read(["/a"]).identity


def test_tls_expects_the_server_name_that_is_set(authority, etcd_store):
    with tls(authority, authority.issue("etcd.example")) as server:
        with pytest.raises(StoreError, match=r"not valid for '127\.0\.0\.1'"):
            etcd_store(server.endpoint, **authority.shown()).read(["/a"])
        assert etcd_store(server.endpoint, **authority.shown(), server_name="etcd.example").read(["/a"]).identity


def test_tls_shows_the_clients_certificate(authority, etcd_store, tmp_path):
    client = authority.issue("client", uses="clientAuth")
    with tls(authority, authority.issue("server", "IP:127.0.0.1"), *mutual(authority)) as server:
        assert etcd_store(server.endpoint, **authority.shown(client)).read(["/a"]).identity
        foreign = Authority(tmp_path / "another").issue("client")
        for refused in ((), foreign, authority.issue("server", uses="serverAuth")):
            with pytest.raises(StoreError, match=r"certificate|broken"):
                etcd_store(server.endpoint, **authority.shown(refused)).read(["/a"])


def test_a_gateway_whose_certificate_is_not_for_clients_is_named_as_the_reason(authority, etcd_store):
    client = authority.issue("client")
    own = authority.issue("server", "IP:127.0.0.1", uses="serverAuth")
    with tls(authority, own, *mutual(authority)) as server:
        store = etcd_store(server.endpoint, **authority.shown(client))
        for ask in (lambda: store.read(["/a"]), lambda: store.poll(["/a"]), lambda: store.watch({"/a": 1})):
            with pytest.raises(StoreError, match=r"cannot reach its own etcd.*extendedKeyUsage clientAuth"):
                ask()


def test_a_client_certificate_is_no_login_and_it_is_said_so(authority, etcd_store):
    cert, key = authority.issue("server", "IP:127.0.0.1")
    with Etcd() as server:
        server.add_user("web", "secret", ("/", "0"))
        server.enable_auth()
        server.kill()
        server.scheme, server.endpoint = "https", server.endpoint.replace("http:", "https:")
        server.arguments = (f"--cert-file={cert}", f"--key-file={key}", *mutual(authority))
        (server.folder / "log").unlink()  # from here on it tells when it listens
        server.start()
        login = {"username": "web", "password": "secret"}
        named, nameless = authority.issue("web"), authority.issue("nameless", field="O")
        with pytest.raises(StoreError, match=r"takes no client certificate with a common name.*show one without"):
            etcd_store(server.endpoint, **authority.shown(named), **login).read(["/a"])
        with pytest.raises(StoreError, match=r"user name is empty.*a client certificate is no login"):
            etcd_store(server.endpoint, **authority.shown(nameless)).read(["/a"])
        assert etcd_store(server.endpoint, **authority.shown(nameless), **login).read(["/a"]).identity


def test_nodes_may_have_addresses_of_ip_6(etcd_store):
    server = Etcd(started=False)
    server.arguments = (f"--listen-client-urls={server.endpoint},http://[::1]:{server.port}",)
    with server:
        server.start()
        server.put("/a/x", "1")
        for address in (f"[::1]:{server.port}", f"http://[::1]:{server.port}"):
            store = etcd_store(address)
            snapshot = store.read(["/a"])
            assert snapshot.listings["/a"].keys == {"/a/x": "1"}
            store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity).close()


# --- bad input -------------------------------------------------------------------------------------------------------


def test_http_to_a_tls_port_and_tls_to_a_plain_one_are_distinguished(tls_etcd, etcd, etcd_store):
    with pytest.raises(StoreError, match="https://"):
        etcd_store(f"http://127.0.0.1:{tls_etcd.port}").read(["/a"])
    with pytest.raises(StoreError, match="http://"):
        etcd_store(f"https://127.0.0.1:{etcd.port}").read(["/a"])


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ftp://127.0.0.1:{port}", "is not the address of a node"),
        ("http://127.0.0.1:{port}/v3", "is not the address of a node"),
        ("http://127.0.0.1:99999", "is not the address of a node"),
        ("http://root:secret@127.0.0.1:{port}", "holds a user or a password"),
    ],
)
def test_an_address_that_is_none_is_a_usage_error(etcd_store, address, said):
    with pytest.raises(UsageError, match=said) as caught:
        etcd_store(address.format(port=2379))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://127.0.0.1:{peer_port}", "not as etcd v3 does"),
        ("http://127.0.0.1:{closed}", "connection refused"),
        ("http://nowhere.invalid:{port}", "the name nowhere.invalid is not known"),
        ("https://127.0.0.1:{port}", "http://"),
    ],
)
def test_an_address_without_an_etcd_is_one_line_that_names_it(etcd, etcd_store, address, said):
    address = address.format(port=etcd.port, peer_port=etcd.peer_port, closed=free_port())
    is_refused(etcd_store(address), address, said)


def test_a_consul_is_not_taken_for_an_etcd(consul, etcd_store):
    address = f"http://127.0.0.1:{consul.port}"
    is_refused(etcd_store(address), address, "not as etcd v3 does")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("[" * 60_000, "not as etcd v3 does"),
        ('{"etcdserver": "3.5.0", "more": "' + "x" * 2_000_000 + '"}', "an answer is larger than 1 MB"),
    ],
)
def test_a_version_that_is_none_is_one_line_that_names_its_address(etcd_store, version, said):
    with Backend(version) as server:
        is_refused(etcd_store(server.address), server.address, said)


@pytest.mark.parametrize(("keys", "size"), [(100, 20_000), (20_000, 0)])
def test_a_store_that_always_has_more_fills_no_memory(etcd_store, monkeypatch, keys, size):
    monkeypatch.setattr(etcd3_reading, "READ_BYTES", 20 << 20)
    with Endless("/a", keys=keys, size=size) as server:
        with pytest.raises(StoreError, match=r"what is to be read is larger than 20 MB.*most keys are below /a:"):
            etcd_store(server.endpoint).read(["/a"])
        assert 3 < server.pages < 12


def test_a_store_that_has_a_little_more_again_and_again_is_not_read_for_ever(etcd_store, monkeypatch):
    monkeypatch.setattr(etcd3_module, "READ_TIMES", 1)
    with Endless("/a", keys=1, size=0) as server:
        began = time.monotonic()
        with pytest.raises(StoreError, match=r"not all was read within 2 s.*let resources name fewer keys"):
            etcd_store(server.endpoint, read_timeout=2).read(["/a"])
        assert time.monotonic() - began < 10
        assert server.pages > 1


def test_an_etcd_without_its_gateway_is_distinguished_from_one_with_it(etcd_store):
    class Gatewayless(Etcd):
        def _answers(self):
            return self._listens()

    with Gatewayless("--enable-grpc-gateway=false") as server:
        is_refused(etcd_store(server.endpoint), server.endpoint, "is its JSON gateway on")


def is_refused(store, address, said):
    """Every call fails with one line that names the address."""
    for ask in (lambda: store.read(["/a"]), lambda: store.poll(["/a"]), lambda: store.watch({"/a": 1})):
        with pytest.raises(StoreError) as caught:
            ask()
        line = str(caught.value)
        assert said in line
        assert address in line
        assert "\n" not in line
        assert caught.value.exit_code == 3


def test_nothing_of_a_store_stays_behind(etcd, etcd_store):
    store = etcd_store(etcd.endpoint)
    store.read(["/a"])
    gc.collect()  # of what other tests left
    threads, sockets = lasting_threads(), len(os.listdir("/proc/self/fd"))
    for _ in range(200):
        revision = store.read(["/a"]).listings["/a"].revision
        store.poll(["/a"])
        store.watch({"/a": revision}).close()
    assert lasting_threads() == threads
    assert len(os.listdir("/proc/self/fd")) == sockets


def lasting_threads():
    """All but the thread of the deadlines, which ends by itself once there are none."""
    return {thread.name for thread in threading.enumerate()} - {"confpy-deadlines"}
