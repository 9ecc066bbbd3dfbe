"""The etcd v3 store on an etcd that knows users: how it logs in, and what a role lets it read."""

from __future__ import annotations

import subprocess
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from confpy.errors import AccessDenied, StoreError, UsageError
from confpy.keys.snapshot import Invalidated
from confpy.stores.etcd import v3 as etcd3_module
from tests.servers.etcd import Etcd, EtcdSaysNo, cluster
from tests.servers.proxy import FaultProxy
from tests.stores.contract import RefusalContract, following
from tests.waiting import wait_until

PASSWORD = "correct horse"
LOGIN = {"username": "web", "password": PASSWORD}


def below(path):
    """What ``etcdctl role grant-permission ROLE read --prefix PATH/`` grants."""
    return (f"{path}/", f"{path}0")


@pytest.fixture
def guarded(etcd):
    """An etcd with the user ``web``, who may read ``/a`` with its neighbours, and nothing else."""
    etcd.put_all({"/a/x": "1", "/b/x": "1", "/c": "leaf"})
    etcd.add_user("web", PASSWORD, ("/a", "/b"))
    etcd.enable_auth()
    return etcd


@contextmanager
def guarded_by(*arguments):
    with Etcd(*arguments) as server, FaultProxy(server.port) as proxy:
        server.put("/a/x", "1")
        server.add_user("web", PASSWORD, ("/a", "/b"))
        server.enable_auth()
        yield server, proxy


# --- logging in ------------------------------------------------------------------------------------------------------


def test_a_user_reads_asks_and_follows_after_one_login(guarded, proxy, etcd_store):
    store = etcd_store(proxy.endpoint, **LOGIN)
    snapshot = store.read(["/a"])
    assert store.poll(["/a"]).counts == {"/a": 1}
    with following(store, snapshot) as seen:
        guarded.put("/a/y", "2")
        seen.wait_for({"/a/x": "1", "/a/y": "2"})
    assert proxy.count("auth/authenticate") == 1


def test_a_user_whom_nobody_asks_for_is_no_error_and_logs_in_once_users_are_needed(etcd, proxy, etcd_store):
    etcd.put("/a/x", "1")
    store = etcd_store(proxy.endpoint, **LOGIN)
    stream = store.watch({"/a": store.read(["/a"]).listings["/a"].revision})
    assert proxy.count("auth/authenticate") == 0
    etcd.add_user("web", PASSWORD, ("/a", "/b"))
    etcd.enable_auth()
    assert store.read(["/a"]).listings["/a"].keys == {"/a/x": "1"}
    assert store.poll(["/a"]).counts == {"/a": 1}
    assert proxy.count("auth/authenticate") == 1
    stream.close()


def test_a_restart_costs_one_more_login_and_nothing_else(guarded, proxy, etcd_store):
    store = etcd_store(proxy.endpoint, **LOGIN)
    snapshot = store.read(["/a"])
    guarded.restart()
    stream = store.watch({"/a": snapshot.listings["/a"].revision}, snapshot.identity)
    revision = guarded.put("/a/x", "2")
    assert next(iter(stream)).revision == revision
    stream.close()
    assert store.read(["/a"]).listings["/a"].keys == {"/a/x": "2"}
    assert proxy.count("auth/authenticate") <= 2  # etcd may find its tokens again in its log


def test_a_token_that_expired_is_renewed_and_the_stream_goes_on_without(etcd_store):
    with guarded_by("--auth-token-ttl=1", "--logger=zap", "--log-level=debug") as (server, proxy):
        store = etcd_store(proxy.endpoint, **LOGIN)
        with following(store, store.read(["/a"])) as seen:
            log = server.folder / "log"
            wait_until(lambda: b"deleted a simple token" in log.read_bytes(), what="etcd has forgotten the token")
            server.put("/a/x", "2")
            seen.wait_for({"/a/x": "2"})
            assert store.read(["/a"]).listings["/a"].keys == {"/a/x": "2"}
        assert proxy.count("auth/authenticate") == 2


def test_a_token_is_good_on_every_member_of_a_cluster(etcd_store):
    with cluster(Etcd) as members:
        members[0].put("/a/x", "1")
        members[0].add_user("web", PASSWORD, ("/a", "/b"))
        members[0].enable_auth()
        store = etcd_store(*(member.endpoint for member in members), **LOGIN)
        stream = store.watch({"/a": store.read(["/a"]).listings["/a"].revision})
        token, node = store._login.token, stream._stream.node.url
        next(member for member in members if member.endpoint == node).kill()
        assert wait_until(partial(readable, store, "/a"), seconds=30, what="the two that live have a leader")
        assert store._login.token == token


def readable(store, prefix):
    """Whether it can be read now."""
    with suppress(StoreError):
        return bool(store.read([prefix]).listings[prefix].keys)
    return False


def test_signed_tokens_are_renewed_when_they_expire_and_when_the_users_change(tmp_path, etcd_store):
    for command in (["genrsa", "-out", "key.pem", "2048"], ["rsa", "-in", "key.pem", "-pubout", "-out", "pub.pem"]):
        subprocess.run(["openssl", *command], cwd=tmp_path, check=True, capture_output=True)
    jwt = f"jwt,pub-key={tmp_path}/pub.pem,priv-key={tmp_path}/key.pem,sign-method=RS256,ttl="
    with guarded_by(f"--auth-token={jwt}1h") as (server, proxy):
        store = etcd_store(proxy.endpoint, **LOGIN)
        store.read(["/a"])
        server.grant("web", *below("/z"))
        assert store.read(["/a", "/z"]).listings["/z"].error is None
        assert proxy.count("auth/authenticate") == 2
    with guarded_by(f"--auth-token={jwt}3s") as (_, proxy):
        store = etcd_store(proxy.endpoint, **LOGIN)
        wait_until(
            lambda: store.read(["/a"]).listings["/a"].keys and proxy.count("auth/authenticate") == 2,
            what="a read needs a new token",
        )


def test_the_password_file_is_read_anew_for_each_login(guarded, etcd_store, tmp_path):
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    store = etcd_store(guarded.endpoint, username="web", password_file=str(file))
    store.read(["/a"])
    guarded.ask("auth/user/changepw", {"name": "web", "password": "another"})
    with pytest.raises(StoreError, match="password is wrong"):
        store.read(["/a"])
    file.write_text("another")
    assert store.read(["/a"]).listings["/a"].keys
    file.unlink()
    assert store.read(["/a"]).listings["/a"].keys
    guarded.ask("auth/user/changepw", {"name": "web", "password": "a third"})
    with pytest.raises(StoreError, match=str(file)):
        store.read(["/a"])


@pytest.mark.parametrize("wrong", [{"password": "mistyped"}, {"username": "nobody"}, {"password": None}])
def test_a_wrong_login_is_one_line_and_one_try_whatever_the_number_of_nodes(guarded, proxy, etcd_store, wrong):
    login = {**LOGIN, **wrong}
    store = etcd_store(proxy.endpoint, f"http://localhost:{proxy.port}", **login)
    with pytest.raises(StoreError) as caught:
        store.read(["/a"])
    assert proxy.count("auth/authenticate") == 1
    said = str(caught.value)
    assert "etcd does not know the user, or the password is wrong" in said
    assert f"user={login['username']}" in said
    assert f":{proxy.port}" in said
    assert str(login["password"]) not in said
    for ask in (lambda: store.poll(["/a"]), lambda: store.watch({"/a": 1})):
        with pytest.raises(AccessDenied, match="password is wrong"):
            ask()
    assert proxy.count("auth/authenticate") == 3


def test_a_user_that_is_missing_is_said_so(guarded, etcd_store):
    for ask in (lambda store: store.read(["/a"]), lambda store: store.watch({"/a": 1})):
        with pytest.raises(StoreError, match=r"user name is empty|denied") as caught:
            ask(etcd_store(guarded.endpoint))
        assert "give username and password_file" in str(caught.value)
    with pytest.raises(UsageError, match="without a user"):
        etcd_store(guarded.endpoint, basic_auth=True)


def test_no_token_and_no_password_stands_in_an_error(guarded, proxy, etcd_store):
    store = etcd_store(proxy.endpoint, **LOGIN)
    store.read(["/a"])
    token = store._login.token
    assert token
    errors = [store.read(["/b"]).listings["/b"].error]
    for break_it in (proxy.refuse, guarded.kill):
        break_it()
        with pytest.raises(StoreError) as caught:
            store.read(["/a"])
        errors.append(caught.value)
        proxy.heal()
    for error in errors:
        assert token not in repr(error.fields())
        assert PASSWORD not in repr(error.fields())


# --- what a role may read --------------------------------------------------------------------------------------------


class TestEtcd3Refusals(RefusalContract):
    @pytest.fixture(autouse=True)
    def _server(self, etcd, etcd_store):
        self.server, self.opened = etcd, etcd_store

    def open_without(self, prefix):
        self.server.add_user("web", PASSWORD, ("/", prefix), (f"{prefix}0", "\0"))
        self.server.enable_auth()
        return self.opened(self.server.endpoint, **LOGIN)

    def write(self, keys):
        self.server.put_all(keys)


@pytest.mark.parametrize(
    ("granted", "read"),
    [
        ([("/a", "/b")], {"/a": ["/a", "/a/x"]}),  # --prefix /a
        ([below("/a")], {"/a": ["/a/x"]}),  # --prefix /a/
        ([("/a", ""), below("/a")], {"/a": ["/a", "/a/x"]}),
        ([("/a", "/a/m"), ("/a/m", "/a0")], {"/a": ["/a", "/a/x"]}),
        ([("/", "0")], {"/a": ["/a", "/a/x"], "/": ["/a", "/a/x", "/ab", "/b/x", "/c"]}),  # --prefix /
        ([("\0", "\0")], {"/": ["/a", "/a/x", "/ab", "/b/x", "/c", "slashless"], "/none": []}),  # --prefix ""
        ([("/b", "\0")], {"/b": ["/b/x"], "/c": ["/c"]}),  # --from-key /b
        ([("/c", "")], {"/c": ["/c"]}),
        ([below("/none")], {"/none": []}),
    ],
)  # fmt: skip
def test_what_people_grant_is_what_can_be_read_and_followed(etcd, etcd_store, granted, read):
    etcd.put_all(dict.fromkeys(["/a", "/a/x", "/ab", "/b/x", "/c", "slashless"], "1"))
    etcd.add_user("web", PASSWORD, *granted)
    etcd.enable_auth()
    store = etcd_store(etcd.endpoint, **LOGIN)
    snapshot = store.read([*read, "/d"])
    everything = granted == [("\0", "\0")] or "/" in read or granted[0][1] == "\0"
    assert isinstance(snapshot.listings["/d"].error, AccessDenied) != everything
    assert {prefix: sorted(snapshot.listings[prefix].keys) for prefix in read} == read
    status = store.poll(list(read))
    assert status.counts == {prefix: len(keys) for prefix, keys in read.items()}
    assert status.newest == {prefix: 2 if keys else 0 for prefix, keys in read.items()}
    stream = store.watch({prefix: snapshot.listings[prefix].revision for prefix in read}, snapshot.identity)
    last = {prefix: keys[-1] for prefix, keys in read.items() if keys}
    etcd.put_all(dict.fromkeys(last.values(), "2"))
    reported = iter(stream)
    assert {key for _ in set(last) for key in next(reported).keys} == set(last.values())
    stream.close()


def test_a_prefix_whose_key_alone_is_granted_is_refused_unless_it_is_one(etcd, etcd_store):
    """Who forgets ``--prefix`` gets that error, and does not see an empty tree."""
    etcd.put("/a/x", "1")
    etcd.add_user("web", PASSWORD, ("/a", ""))
    etcd.enable_auth()
    listing = etcd_store(etcd.endpoint, **LOGIN).read(["/a"]).listings["/a"]
    assert "grant-permission web read --prefix /a/" in str(listing.error)


def test_a_key_that_is_granted_apart_from_what_is_below_it_is_read_again_when_it_changes(etcd, etcd_store):
    etcd.put_all({"/a": "1", "/a/x": "1"})
    etcd.add_user("web", PASSWORD, ("/a", ""), below("/a"))
    etcd.enable_auth()
    store = etcd_store(etcd.endpoint, **LOGIN)
    with following(store, store.read(["/a"])) as seen:
        etcd.put("/a/x", "2")
        seen.wait_for({"/a": "1", "/a/x": "2"})
        etcd.put("/a", "2")
        seen.wait_for({"/a": "2", "/a/x": "2"})
    stream = store.watch({"/a": etcd.revision()})
    etcd.delete("/a")
    assert next(iter(stream)) == Invalidated()
    stream.close()


def test_a_refused_prefix_leaves_the_others_alone_and_says_what_to_do(guarded, etcd_store):
    snapshot = etcd_store(guarded.endpoint, **LOGIN).read(["/a", "/b"], ["/c", "/a/deep"])
    assert snapshot.listings["/a"].keys == {"/a/x": "1"}
    assert snapshot.counts == {"/a/deep": 0}
    error = snapshot.listings["/b"].error
    assert isinstance(error, AccessDenied)
    assert str(error) == (
        "etcd refuses: the user web may not read it (prefix=/b); "
        "grant it: etcdctl role grant-permission web read --prefix /b/"
    )


def test_a_user_without_a_role_gets_that_error(etcd, etcd_store):
    etcd.ask("auth/user/add", {"name": "web", "password": PASSWORD})
    etcd.enable_auth()
    snapshot = etcd_store(etcd.endpoint, **LOGIN).read(["/a", "/b"])
    assert snapshot.identity
    for prefix in ("/a", "/b"):
        assert "has no role" in str(snapshot.listings[prefix].error)
        assert "etcdctl user grant-role web" in str(snapshot.listings[prefix].error)


def test_a_refused_one_among_a_thousand_prefixes_costs_three_requests_and_then_none(guarded, proxy, etcd_store):
    prefixes = [f"/a/{number:03}" for number in range(999)] + ["/b"]
    store = etcd_store(proxy.endpoint, **LOGIN)
    store.read(prefixes[:1])
    before = len(proxy.requests)
    assert store.read(prefixes).listings["/b"].error
    assert len(proxy.requests) - before == 2 + 3  # what was refused, the user's roles, and what the one role may read
    before = len(proxy.requests)
    assert store.read(prefixes).listings["/b"].error
    assert len(proxy.requests) - before == 2
    before = len(proxy.requests)
    assert "/b" not in store.poll(prefixes).newest
    assert len(proxy.requests) - before == 16


def test_who_may_read_each_of_many_prefixes_and_nothing_beside_them_reads_them_all(etcd, proxy, etcd_store):
    prefixes = [f"/a/{number:03}" for number in range(200)]
    etcd.put_all({f"{prefix}/x": prefix for prefix in prefixes})
    etcd.add_user("web", PASSWORD)
    for prefix in prefixes:
        etcd.grant("web", *below(prefix))
    etcd.enable_auth()
    listings = etcd_store(proxy.endpoint, **LOGIN).read(prefixes).listings
    assert {key: value for one in listings.values() for key, value in one.keys.items()} == {
        f"{prefix}/x": prefix for prefix in prefixes
    }
    assert not any(listing.error for listing in listings.values())


def test_a_prefix_that_is_granted_later_is_seen_by_a_read_after_a_while(guarded, etcd_store, monkeypatch):
    store = etcd_store(guarded.endpoint, **LOGIN)
    assert store.read(["/a", "/b"]).listings["/b"].error
    guarded.grant("web", *below("/b"))
    monkeypatch.setattr(etcd3_module, "DENIED_FOR", 0.0)
    snapshot = store.read(["/a", "/b"])
    assert snapshot.listings["/b"].keys == {"/b/x": "1"}
    assert store.poll(["/a", "/b"]).counts == {"/a": 1, "/b": 1}
    store.watch({"/a": 1, "/b": 1}).close()


def test_a_prefix_that_is_taken_away_is_refused_and_not_empty(guarded, etcd_store):
    store = etcd_store(guarded.endpoint, **LOGIN)
    store.read(["/a"])
    guarded.grant("web", "/z")
    guarded.revoke("web", "/a", "/b")
    assert store.poll(["/a"]).counts == {}
    assert isinstance(store.read(["/a"]).listings["/a"].error, AccessDenied)
    with pytest.raises(AccessDenied) as caught:
        store.watch({"/a": 1})
    assert caught.value.where["prefix"] == "/a"


def test_a_stream_that_is_asked_for_a_refused_prefix_names_it(guarded, etcd_store):
    store = etcd_store(guarded.endpoint, **LOGIN)
    cursor = store.read(["/a"]).listings["/a"].revision
    with pytest.raises(AccessDenied) as caught:
        store.watch({"/a": cursor, "/b": cursor})
    assert caught.value.where["prefix"] == "/b"
    stream = store.watch({"/a": cursor})
    revision = guarded.put("/a/x", "2")
    assert next(iter(stream)).revision == revision
    stream.close()


def test_etcd_refuses_a_range_and_never_hides_what_is_in_it(guarded):
    """Why an empty answer after a new login needs no doubt."""
    token = guarded.log_in("web", PASSWORD)
    guarded._token = token
    guarded._guarded = False
    with pytest.raises(EtcdSaysNo, match=r"denied|empty"):
        guarded.revision()
