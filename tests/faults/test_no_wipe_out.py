"""A store that has lost its keys, or seems to, empties no file before it is sure; a new one never does by itself."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, Program, pass_time, shows
from tests.e2e.running import environment, read_events, run_once
from tests.servers.consul import Consul
from tests.servers.etcd import Etcd
from tests.servers.faulty import HidingProxy
from tests.waiting import wait_until

LIST = '{% for key, value in gets("/app/*") %}{{ key }}={{ value }}\n{% endfor %}'
SECRET = "5ecret"


@dataclass
class Store:
    """A real store with three keys, behind a proxy that can hide them."""

    server: Etcd | Consul
    proxy: HidingProxy
    installation: Installation
    put: Callable[[str, str], object]
    wipe: Callable[[], object]
    replace: Callable[[], object]

    def start(self, *flags: str):
        return self.installation.start(*(flags or ("-watch", "-resync", "1s")))

    def accept(self, resource: str) -> subprocess.CompletedProcess[str]:
        return accept(self.installation, resource)


@pytest.fixture(params=["etcdv3", "consul"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    server: Etcd | Consul = Etcd() if request.param == "etcdv3" else Consul()
    with server, HidingProxy(server.port) as proxy:
        installation = Installation(tmp_path, "-backend", request.param, "-node", proxy.endpoint)
        if isinstance(server, Etcd):
            put: Callable[[str, str], object] = server.put
            found = Store(server, proxy, installation, put, lambda: server.delete("/app/", prefix=True), server.replace)
        else:
            found = Store(
                server, proxy, installation, lambda key, value: server.put(key.lstrip("/"), value),
                lambda: server.delete("app/", prefix=True), lambda: renew(server),
            )  # fmt: skip
        for name in "abc":
            found.put(f"/app/{name}", SECRET)
        yield found


def renew(consul: Consul) -> None:
    """Start a new and empty Consul at the same address."""
    consul.kill()
    shutil.rmtree(consul.folder / "data")
    consul.start()


FULL = f"/app/a={SECRET}\n/app/b={SECRET}\n/app/c={SECRET}\n"


def furnish(store: Store, program: Program, grace: str, **more: str) -> Path:
    keys = {"keys": "['/app']", "shrink_grace": f"'{grace}'", "reload_cmd": program.failing(0), **more}
    return store.installation.add("web", LIST, **keys)


def test_an_answer_without_keys_changes_nothing_and_is_over_with_the_next(store, tmp_path):
    program = Program(tmp_path)
    dest = furnish(store, program, "3s")
    with store.start() as confpy:
        shows(dest, FULL)
        wait_until(lambda: program.count == 1, what="the first reload")
        before = dest.stat()
        store.proxy.hides = True
        confpy.process.send_signal(signal.SIGHUP)
        store.put("/app/a", SECRET)  # Consul's questions are answered when there is something new
        doubted = confpy.says("keys.suspect", resource="web", seconds=60)
        assert doubted["reason"] == "all of its 3 keys are gone"
        assert "confpy accept web" in doubted["hint"]
        store.proxy.hides = False
        confpy.says("keys.returned", resource="web", seconds=60)
        pass_time(1)
        assert dest.read_text() == FULL
        assert (dest.stat().st_ino, dest.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        store.put("/app/d", "1")
        shows(dest, FULL + "/app/d=1\n")
        assert SECRET not in str(confpy.events)
    assert program.count == 2


def test_keys_that_are_gone_for_good_are_delivered_after_the_grace(store, tmp_path):
    program = Program(tmp_path)
    dest = furnish(store, program, "2s")
    with store.start() as confpy:
        shows(dest, FULL)
        store.wipe()
        doubted = confpy.says("keys.suspect", resource="web", seconds=60)
        assert dest.read_text() == FULL
        believed = confpy.says("keys.confirmed", resource="web", keys=0, seconds=60)
        assert (believed["timestamp"] > doubted["timestamp"], believed["level"]) == (True, "warning")
        shows(dest, "")


def test_a_new_and_empty_store_empties_nothing_until_a_person_says_so(store, tmp_path):
    program = Program(tmp_path)
    dest = furnish(store, program, "1s")
    with store.start() as confpy:
        shows(dest, FULL)
        confpy.says("resource.changed")
        # A new Consul is recognised by its index alone: that of the old one has to be one of a Consul that was used.
        for number in range(100):
            store.put("/other", str(number))
        store.put("/app/c", SECRET + SECRET)
        confpy.says("resource.changed")
        store.replace()
        confpy.says("store.replaced", seconds=90)
        confpy.says("keys.suspect", resource="web", did="keeps the target", seconds=60)
        pass_time(4)
        assert dest.read_text().count(SECRET) == 4
        accepted = store.accept("web")
        assert accepted.returncode == 0, accepted.stderr
        confpy.says("keys.confirmed", resource="web", reason="a person accepted it")
        shows(dest, "")
        assert read_events(accepted.stderr)[-1]["event"] == "keys.accepted"
    again = store.accept("web")
    assert again.returncode == 2
    assert "nothing is held back" in read_events(again.stderr)[-1]["hint"]


def test_keys_that_went_while_confpy_was_down_are_doubted_by_the_next_start(store, tmp_path):
    dest = furnish(store, Program(tmp_path), "2s")
    with store.start() as confpy:
        shows(dest, FULL)
        confpy.says("resource.changed")
    store.wipe()
    with store.start() as confpy:
        confpy.says("keys.suspect", resource="web")
        assert dest.read_text() == FULL
        confpy.says("keys.confirmed", resource="web", seconds=60)
        shows(dest, "")


def test_the_last_key_of_all_is_doubted_after_a_restart_and_believed_from_the_stream(etcd, tmp_path):
    installation = Installation(tmp_path, "-backend", "etcdv3", "-node", etcd.endpoint)
    etcd.put("/app/a", "1")
    dest = installation.add("web", LIST, keys="['/app']", shrink_grace="'1m'")
    assert installation.once().code == 0
    etcd.delete("/app/a")
    with installation.start() as confpy:
        confpy.says("keys.suspect", reason="its only key is gone")
        etcd.put("/app/a", "2")
        confpy.says("keys.returned")
        shows(dest, "/app/a=2\n")
        etcd.delete("/app/a")
        shows(dest, "", seconds=30)


def test_one_shot_waits_the_grace_out_or_ends_with_3(store, tmp_path):
    program = Program(tmp_path)
    dest = furnish(store, program, "2s")
    assert store.installation.once().code == 0
    store.wipe()
    short = store.installation.once("-timeout", "1s")
    assert short.code == 3
    assert "confpy accept web" in short.find("resource.failed", resource="web")["hint"]
    assert (dest.read_text(), program.count) == (FULL, 1)
    long = store.installation.once("-timeout", "30s")
    assert long.code == 0, long.events
    assert long.find("keys.confirmed")
    assert (dest.read_text(), program.count) == ("", 2)


def test_one_shot_takes_a_persons_word(store, tmp_path):
    dest = furnish(store, Program(tmp_path), "1h")
    assert store.installation.once().code == 0
    store.wipe()
    assert store.installation.once().code == 3
    assert store.accept("web").returncode == 0
    assert store.installation.once().code == 0
    assert dest.read_text() == ""


def test_a_new_and_empty_store_while_confpy_was_down_waits_for_a_person(store, tmp_path):
    # A new Consul is recognised by its index alone: that of the old one has to be one of a Consul that was used.
    for number in range(100):
        store.put("/app/c", str(number))
    dest = furnish(store, Program(tmp_path), "1s")
    assert store.installation.once().code == 0
    before = dest.read_text()
    store.replace()
    ended = store.installation.once("-timeout", "20s")
    assert ended.code == 3
    assert ended.find("store.replaced")
    assert dest.read_text() == before != ""


# --- the rest of the rules, over a file of keys --------------------------------------------------------------------

THREE = "app: {web: {a: 1, b: 2, c: 3}}"
KEYS = '{{ ls("/app/web") | join(",") }}\n'
ANY_KEYS = '{% for key, _ in gets("/app/*/*") %}{{ "," if loop.index0 }}{{ base(key) }}{% endfor %}\n'
"""The same for keys that may be those of another service: what it lists is not outside of them by its form."""


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    found = Installation(tmp_path)
    found.write(THREE)
    return found


def test_an_emptied_file_of_keys_is_doubted_too(installation):
    dest = installation.add("web", KEYS, shrink_grace="'1s'")
    with installation.start() as confpy:
        shows(dest, "a,b,c\n")
        installation.write("")
        confpy.says("keys.suspect", resource="web")
        assert dest.read_text() == "a,b,c\n"
        confpy.says("keys.confirmed", resource="web")
        shows(dest, "\n")


@pytest.mark.parametrize(
    ("more", "keys", "reason"),
    [
        ({"min_keys": "2"}, "app: {web: {a: 1}}", "it has 1 keys, fewer than min_keys (2)"),
        ({"max_shrink": "0.5"}, "app: {web: {a: 1}}", "2 of its 3 keys are gone, more than max_shrink (0.5)"),
    ],
    ids=["min_keys", "max_shrink"],
)
def test_too_few_keys_are_kept_until_another_read_or_until_they_are_back(installation, more, keys, reason):
    keeps = installation.add("keeps", KEYS, keys="['/app/web']", on_shrink="'keep'", **more)
    confirms = installation.add("confirms", KEYS, keys="['/app/web']", shrink_grace="'1s'", **more)
    renders = installation.add("renders", KEYS, keys="['/app/web']", on_shrink="'render'", **more)
    with installation.start() as confpy:
        for dest in (keeps, confirms, renders):
            shows(dest, "a,b,c\n")
        installation.write(keys)
        assert confpy.says("keys.suspect", resource="confirms")["reason"] == reason
        shows(renders, "a\n")
        shows(confirms, "a\n")
        assert keeps.read_text() == "a,b,c\n"
        installation.write("app: {web: {a: 1, b: 2, d: 4}}")
        confpy.says("keys.returned", resource="keeps")
        shows(keeps, "a,b,d\n")


def test_a_group_waits_as_a_whole_and_costs_nothing_meanwhile(installation):
    installation.write("app: {web: {a: 1, b: 2}, other: x}")
    web = installation.add("web", KEYS, group="'lb'", on_shrink="'keep'")
    other = installation.add("other", group="'lb'")
    with installation.start() as confpy:
        shows(other, "x\n")
        installation.write("app: {other: y}")
        confpy.says("keys.suspect", resource="web")
        before = processor(confpy.process.pid)
        pass_time(3)
        assert processor(confpy.process.pid) - before < 0.5
        assert (web.read_text(), other.read_text()) == ("a,b\n", "x\n")
        installation.write("app: {web: {c: 1}, other: z}")
        shows(web, "c\n")
        shows(other, "z\n")


def processor(pid: int) -> float:
    """Seconds of processor time so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def test_an_edit_of_the_resource_is_no_word_that_the_keys_may_go(installation):
    dest = installation.add("web", KEYS, on_shrink="'keep'")
    with installation.start() as confpy:
        shows(dest, "a,b,c\n")
        installation.write("")
        confpy.says("keys.suspect", resource="web")
        installation.add("web", KEYS, on_shrink="'keep'", mode="'0600'")
        confpy.says("resource.edited", resource="web")
        pass_time(1)
        assert dest.read_text() == "a,b,c\n"
        installation.add("web", KEYS, on_shrink="'render'")
        shows(dest, "\n")


def test_variables_that_are_gone_are_believed_at_once(tmp_path):
    installation = Installation(tmp_path, "-backend", "env")
    dest = installation.add("web")

    assert run_once(*installation.where, folder=tmp_path, more={"APP_WEB": "1"}).code == 0
    assert dest.read_text() == "1\n"
    assert installation.once("-timeout", "5s").code == 0
    assert dest.read_text() == "none\n"


def test_a_run_over_variables_that_owes_nothing_leaves_nothing(tmp_path):
    installation = Installation(tmp_path, "-backend", "env")
    installation.add("web")
    assert installation.once().code == 0
    assert installation.ledgers() == []


# --- what a person edited --------------------------------------------------------------------------------------------


def test_an_edit_to_keys_of_which_there_are_fewer_is_delivered_at_once(installation):
    dest = installation.add("web", KEYS, keys="['/app/web']", max_shrink="0.1")
    assert installation.once().code == 0
    installation.add("web", KEYS, keys="['/app/web/a']", max_shrink="0.1")
    ended = installation.once("-timeout", "5s")
    assert (ended.code, dest.read_text()) == (0, "a\n"), ended.events
    assert not [one for one in ended.events if one["event"] == "keys.suspect"]


@pytest.mark.parametrize(
    ("edit", "key", "line"),
    [
        ({"keys": "['/app/wbe']"}, "keys", 4),
        ({"keys": "[]"}, "keys", 4),
        ({"keys": "['/app/web']", "prefix": "'/prod'"}, "prefix", 5),
    ],
    ids=["keys", "no keys", "prefix"],
)
def test_an_edit_to_no_key_at_all_fails_at_once_names_its_line_and_waits_for_a_person(installation, edit, key, line):
    dest = installation.add("web", ANY_KEYS, keys="['/app/web']", shrink_grace="'1s'")
    assert installation.once().code == 0
    installation.add("web", ANY_KEYS, **edit, shrink_grace="'1s'")
    for _ in range(2):
        ended = installation.once("-timeout", "20s")
        assert ended.code == 3
        failed = ended.find("resource.failed")
        assert (failed["file"], failed["key"]) == (str(installation.confdir / "conf.d" / "web.toml"), key)
        assert failed["line"] == line
        assert "3 keys at or below /app/web" in failed["error"]
        assert dest.read_text() == "a,b,c\n"
    assert accept(installation, "web").returncode == 0
    assert installation.once().code == 0
    assert dest.read_text() == "\n"
    assert installation.once().code == 0


def test_an_edit_to_no_key_at_all_is_over_with_the_next_edit(installation):
    dest = installation.add("web", ANY_KEYS, keys="['/app/web']", shrink_grace="'1s'")
    with installation.start() as confpy:
        shows(dest, "a,b,c\n")
        installation.add("web", ANY_KEYS, keys="['/app/wbe']", shrink_grace="'1s'")
        doubted = confpy.says("keys.suspect", resource="web")
        assert (doubted["key"], doubted["line"]) == ("keys", 4)
        assert "confpy accept web" in doubted["hint"]
        pass_time(3)
        assert dest.read_text() == "a,b,c\n"
        installation.add("web", ANY_KEYS, keys="['/app/web/b']", shrink_grace="'1s'")
        shows(dest, "b\n")
        installation.add("web", ANY_KEYS, keys="['/app/wbe']", on_shrink="'render'")
        shows(dest, "\n")


def test_a_prefix_on_the_command_line_is_an_edit_too(installation):
    dest = installation.add("web", '{{ gets("/web/*") | length }}\n', keys="['/web']", prefix="'/app'")
    assert installation.once().code == 0
    ended = installation.once("-prefix", "/apq", "-timeout", "5s")
    assert (ended.code, dest.read_text()) == (3, "3\n")
    assert "-prefix" in ended.find("resource.failed")["hint"]


def test_another_kind_of_store_is_a_persons_word_where_it_has_keys(tmp_path, etcd, consul):
    """As confd's own integration scripts do: one confdir, one backend after another."""
    etcd.put_all({"/app/web/a": "1", "/app/web/b": "2", "/app/other": "x"})
    consul.put("app/other", "y")
    installation = Installation(tmp_path)
    web, other = installation.add("web", KEYS, keys="['/app/web']"), installation.add("other")
    stores = {
        "etcdv3": ("-backend", "etcdv3", "-node", etcd.endpoint),
        "etcd": ("-backend", "etcd", "-node", etcd.endpoint),
        "consul": ("-backend", "consul", "-node", consul.endpoint),
        "env": ("-backend", "env"),
    }

    def once(store: str, **variables: str):
        return run_once(
            *stores[store], "-confdir", str(installation.confdir), "-timeout", "5s", folder=tmp_path, more=variables
        )

    for store in ("etcd", "etcdv3"):
        assert once(store).code == 0, store
        assert web.read_text() == "a,b\n"
    assert once("consul").code == 0, "it holds a key of another resource"
    assert (web.read_text(), other.read_text()) == ("\n", "y\n")
    assert once("etcdv3").code == 0
    assert web.read_text() == "a,b\n"
    # A store without any key is more likely a wrong one.
    ended = once("env")
    assert ended.code == 3
    assert web.read_text() == "a,b\n"
    assert "-backend" in ended.find("resource.failed", resource="web")["hint"]
    assert once("env", APP_OTHER="z").code == 0
    assert (web.read_text(), other.read_text()) == ("\n", "z\n")
    assert once("env", APP_OTHER="z").code == 0
    # What each kind of store had is still known.
    etcd.delete("/app/web/", prefix=True)
    ended = once("etcdv3")
    assert ended.code == 3
    assert "all of its 2 keys are gone" in ended.find("resource.failed", resource="web")["error"]


def test_the_counts_of_one_root_do_not_speak_for_another(installation, tmp_path):
    installation.add("web", KEYS, keys="['/app/web']", dest="'/web'", mkdir="true")
    assert installation.once("-root", str(tmp_path / "one")).code == 0
    installation.write("app: {other: 1}")
    ended = installation.once("-root", str(tmp_path / "two"), "-timeout", "5s")
    assert ended.code == 0, ended.events
    assert (tmp_path / "two" / "web").read_text() == "\n"
    ended = installation.once("-root", str(tmp_path / "one"), "-timeout", "5s")
    assert (ended.code, (tmp_path / "one" / "web").read_text()) == (3, "a,b,c\n")
    doubted = ended.find("keys.suspect")
    assert doubted["did"] == "keeps the target, and fails: shrink_grace is 30 s, -timeout 5 s"


def test_a_store_that_was_never_read_is_not_said_to_have_kept_anything(tmp_path):
    installation = Installation(tmp_path, "-backend", "etcdv3", "-node", "http://127.0.0.1:1")
    installation.add("web")
    ended = installation.once("-timeout", "2s")
    assert ended.code == 3
    assert ended.find("store.lost")["did"] == "has no keys yet"


def accept(installation: Installation, resource: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "confpy", "accept", resource, "-log-format", "json", *installation.where]
    return subprocess.run(
        command, env=environment(installation.folder), capture_output=True, text=True, timeout=30, check=False
    )
