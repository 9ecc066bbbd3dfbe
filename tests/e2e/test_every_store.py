"""One confdir over each store that confd has and confpy has too, one after the other, with one state folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.e2e.running import run_once
from tests.servers.consul import Consul
from tests.servers.etcd import Etcd, Etcd2
from tests.servers.redis import Redis
from tests.servers.zookeeper import ZooKeeper

KEYS = {
    "/title": "shop",
    "/db/host": "192.0.2.7",
    "/db/secret": "p@s$W0rd",
    "/db/port": "5432",
    "/pool/one": "192.0.2.1:80",
    "/pool/two": "192.0.2.2:80",
}
NESTED = {"/deep/east/one": "192.0.2.1:80", "/deep/west/two": "192.0.2.2:80"}
"""In the stores that have folders; the others lack them altogether."""

RESOURCES = {
    "db": (
        ["/db/host", "/db/secret", "/db/port"],
        '{{ getv "/db/host" }}:{{ getv "/db/port" }} {{ getv "/db/secret" }} {{ getenv "WHO" }}\n',
        "192.0.2.7:5432 p@s$W0rd me\n",
    ),
    "many": (["/db/host", "/db/port"] * 100, '{{ getv "/db/port" }}\n', "5432\n"),
    "title": (
        ["/title"],
        '{{ if exists "/title" }}{{ getv "/title" }}{{ end }}{{ if exists "/none" }}no{{ end }}\n',
        "shop\n",
    ),
    "pool": (
        ["/pool"],
        '{{ range gets "/pool/*" }}server {{ base .Key }} {{ .Value }}\n{{ end }}',
        "server one 192.0.2.1:80\nserver two 192.0.2.2:80\n",
    ),
    "deep": (["/deep"], 'zones:{{ range gets "/deep/*" }} {{ .Key }}{{ end }}\n', "zones:\n"),
}


def yaml(keys: dict[str, str]) -> str:
    return "".join(f'{key[1:]}: "{value}"\n' for key, value in keys.items())


def confdir_in(folder: Path) -> Path:
    """Make the confdir, whose targets are in the folder."""
    for name in ("conf.d", "templates"):
        (folder / name).mkdir(parents=True)
    for name, (keys, template, _) in RESOURCES.items():
        (folder / "templates" / f"{name}.tmpl").write_text(template)
        (folder / "conf.d" / f"{name}.toml").write_text(
            f'[template]\nmode = "0644"\nsrc = "{name}.tmpl"\ndest = "{folder}/{name}"\nkeys = {keys}\n'
        )
    return folder


def test_one_confdir_is_rendered_from_each_store_after_the_other_whether_its_targets_stay_or_not(
    tmp_path: Path,
) -> None:
    stays, removed = (confdir_in(tmp_path / name) for name in ("stays", "removed"))
    (tmp_path / "1.yaml").write_text(yaml(KEYS))
    (tmp_path / "2.yaml").write_text(yaml(NESTED))
    with ExitStack() as stack:
        starts: dict[str, Callable[[], list[str]]] = {}

        def etcd2() -> list[str]:
            server = stack.enter_context(Etcd2())
            for key, value in {**KEYS, **NESTED}.items():
                server.set(key, value)
            return ["etcdv2", "--node", server.endpoint, "--watch"]

        def etcd3() -> list[str]:
            server = stack.enter_context(Etcd())
            server.put_all(KEYS)
            return ["etcdv3", "--node", server.endpoint, "--watch"]

        def consul() -> list[str]:
            server = stack.enter_context(Consul())
            server.transact({key[1:]: value for key, value in {**KEYS, **NESTED}.items()})
            return ["consul", "--node", f"127.0.0.1:{server.port}"]

        def redis() -> list[str]:
            server = stack.enter_context(Redis())
            server.update({key: value for key, value in KEYS.items() if not key.startswith("/pool")})
            server.do("HSET", "/pool", "one", KEYS["/pool/one"], "two", KEYS["/pool/two"])
            return ["redis", "--node", f"127.0.0.1:{server.port}/0"]

        def zookeeper() -> list[str]:
            server = stack.enter_context(ZooKeeper())
            server.update({**KEYS, **NESTED})
            return ["zookeeper", "--node", f"127.0.0.1:{server.port}", "-watch"]

        starts["env"] = lambda: ["env"]
        starts["file"] = lambda: ["file", "--file", f"{tmp_path}/1.yaml", "--file", f"{tmp_path}/2.yaml", "--watch"]
        starts |= {"etcdv2": etcd2, "etcdv3": etcd3, "consul": consul, "redis": redis, "zookeeper": zookeeper}
        for name, start in starts.items():
            variables = {key[1:].replace("/", "_").upper(): value for key, value in KEYS.items() if name == "env"}
            where = start()
            for folder in (stays, removed):
                flags = ("--log-level", "debug", "--interval", "5", "--confdir", str(folder), "--backend", *where)
                ended = run_once(*flags, folder=folder, more={"WHO": "me", **variables})
                assert ended.code == 0, (name, ended.events)
                for resource, (_, _, expected) in RESOURCES.items():
                    target = folder / resource
                    assert (name, resource, target.read_text()) == (name, resource, expected)
                    if folder is removed:
                        target.unlink()
