"""A whole confpy on a real Redis, or a real ZooKeeper, and what happens to it: changes arrive, all good stays."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.installation import Installation, shows
from tests.servers.proxy import FaultProxy
from tests.servers.redis import Redis
from tests.servers.zookeeper import ZooKeeper

LIST = '{% for key, value in gets("/app/*") %}{{ key }}={{ value }}\n{% endfor %}'


@pytest.fixture(params=[Redis, ZooKeeper], ids=["redis", "zookeeper"])
def server(request: pytest.FixtureRequest) -> Iterator[Redis | ZooKeeper]:
    with request.param(**({"appendonly": "yes", "appendfsync": "always"} if request.param is Redis else {})) as one:
        one.put("/app/a", "1")
        yield one


def test_faults_of_server_and_network_make_changes_late_and_never_wrong(
    server: Redis | ZooKeeper, tmp_path: Path
) -> None:
    with FaultProxy(server.port) as proxy:
        installation = Installation(tmp_path, "-backend", server.name, "-node", f"127.0.0.1:{proxy.port}")
        dest = installation.add("web", LIST, keys="['/app']")
        flags = ("-watch", "-resync", "2s", "-read-timeout", "2s", "-connect-timeout", "2s")
        with installation.start(*flags) as confpy:
            shows(dest, "/app/a=1\n", seconds=60)
            for number, fault in enumerate(("reset", "half_close", "black_hole", "refuse", "freeze", "restart"), 2):
                if fault == "restart":
                    server.restart()
                else:
                    getattr(server if fault == "freeze" else proxy, fault)()
                if fault in ("black_hole", "refuse", "freeze"):
                    confpy.says("store.lost", seconds=60)
                if fault == "freeze":
                    server.thaw()
                proxy.heal()
                server.put("/app/a", str(number))
                shows(dest, f"/app/a={number}\n", seconds=90)
    assert not [event for event in confpy.events if "a bug in confpy" in str(event) or "Traceback" in str(event)]


def test_a_new_and_empty_server_empties_nothing_until_a_person_says_so(
    server: Redis | ZooKeeper, tmp_path: Path
) -> None:
    for number in range(200):  # a ZooKeeper is recognised by its transactions alone
        server.put("/app/a", str(number))
    installation = Installation(tmp_path, "-backend", server.name, "-node", server.endpoint)
    dest = installation.add("web", LIST, keys="['/app']", shrink_grace="'1s'")
    with installation.start("-watch", "-resync", "1s") as confpy:
        shows(dest, "/app/a=199\n", seconds=60)
        server.replace()
        confpy.says("store.replaced", seconds=90)
        confpy.says("keys.suspect", resource="web", did="keeps the target", seconds=60)
    ended = installation.once("-timeout", "3s")
    assert ended.code == 3
    assert dest.read_text() == "/app/a=199\n"
    server.put("/app/b", "1")
    assert installation.once("-timeout", "30s").code == 0
    assert dest.read_text() == "/app/b=1\n"


def test_a_denied_node_and_a_key_of_another_type_have_their_line_and_cost_no_other_resource(
    server: Redis | ZooKeeper, tmp_path: Path
) -> None:
    server.put("/app/shut/x", "5ecret")
    server.put("/ok/x", "2")
    where = ["-backend", server.name, "-node", server.endpoint]
    if isinstance(server, Redis):
        server.allow("reader", "~/ok/*", "allchannels", "+@read", "+@pubsub", "+info", "+config|get", "+select")
        server.do("RPUSH", "/ok/list", "5ecret")
        where += ["-username", "reader", "-password", "test-password"]
    else:
        from kazoo.security import make_digest_acl

        server.at.set_acls("/app/shut", [make_digest_acl("owner", "5ecret", all=True)])
    installation = Installation(tmp_path, *where)
    web = installation.add("web", LIST, keys="['/app']")
    ok = installation.add("ok", '{{ getv("/ok/x") }}\n', keys="['/ok']")
    ended = installation.once()
    assert ended.code == 3
    assert (ok.read_text(), web.exists()) == ("2\n", False)
    denied = ended.find("prefix.denied")
    assert denied["prefix"] == "/app"
    assert "permission denied" in denied["error"]
    if isinstance(server, Redis):
        ignored = ended.find("key.ignored")
        assert (ignored["key"], ignored["type"]) == ("/ok/list", "list")
    assert "5ecret" not in str(ended.events)


def test_a_missing_library_is_one_line_that_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    for module in ("redis", "kazoo"):
        (tmp_path / "site" / f"{module}.py").write_text(f"raise ModuleNotFoundError('none', name='{module}')\n")
    from tests.e2e.running import ROOT, run_once

    for store, library in (("redis", "redis"), ("zookeeper", "kazoo")):
        installation = Installation(tmp_path, "-backend", store)
        installation.add("web")
        ended = run_once(*installation.where, folder=tmp_path, more={"PYTHONPATH": f"{tmp_path}/site:{ROOT}"})
        assert ended.code == 2
        (line,) = [event for event in ended.events if event["level"] == "error"]
        assert f"the store '{store}' needs the Python package '{library}'" in line["error"]
        assert line["hint"] == f"pip install 'confpy[{store}]'"
