"""``examples/nginx/vhosts`` as written: virtual hosts come and go in a real nginx, and a bad one stops no other."""

from __future__ import annotations

import http.client
from pathlib import Path

import pytest

from tests.e2e.examples import etcdctl
from tests.e2e.running import ROOT, Confpy, run_once
from tests.servers.etcd import Etcd
from tests.servers.nginx import Nginx
from tests.servers.ports import free_port
from tests.servers.web import Backend
from tests.waiting import wait_until

EXAMPLE = ROOT / "examples" / "nginx" / "vhosts"


def _move(folder: Path, port: int) -> Path:
    """Write the example with paths in a folder, and the nginx.conf that it expects; return its confdir."""
    moves = {
        "/etc/nginx/conf.d/": f"{folder}/hosts/",
        "nginx -t -q": f"nginx -t -q -c {folder}/nginx.conf",
        "nginx -s reload": f"nginx -s reload -c {folder}/nginx.conf",
        "/run/nginx.pid": f"{folder}/nginx.pid",
        '"80"': f'"127.0.0.1:{port}"',
    }
    for name in ("conf.d/vhosts.toml", "templates/vhost.conf.j2"):
        text = (EXAMPLE / name).read_text()
        for old, new in moves.items():
            text = text.replace(old, new)
        copy = folder / "confdir" / name
        copy.parent.mkdir(parents=True)
        copy.write_text(text)
    (folder / "hosts").mkdir()
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"  {kind}_temp_path {folder}/{kind};\n" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"pid {folder}/nginx.pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log off;\n{paths}"
        f"  server {{ listen 127.0.0.1:{port} default_server; location / {{ return 404 none; }} }}\n"
        f"  include {folder}/hosts/*.conf; }}\n"
    )
    return folder / "confdir"


def _answer(port: int, host: str) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", "/", headers={"Host": host})
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def test_virtual_hosts_follow_their_keys_and_a_bad_one_stops_no_other(etcd: Etcd, tmp_path: Path) -> None:
    port = free_port()
    flags = ["-backend", "etcdv3", "-node", etcd.endpoint, "-confdir", str(_move(tmp_path, port))]
    with Backend("shop") as shop, Backend("blog") as blog:
        etcdctl(etcd, "put", "/vhosts/shop/server_name", "shop.example.com")
        etcdctl(etcd, "put", "/vhosts/shop/backends/shop-1", shop.address)
        assert run_once("-no-reload", *flags, folder=tmp_path).code == 0
        with Nginx(tmp_path / "nginx.conf", port=port), Confpy("-watch", *flags, folder=tmp_path) as confpy:
            confpy.says("confpy.ready")
            assert _answer(port, "shop.example.com") == "shop"
            etcdctl(etcd, "put", "/vhosts/blog/backends/blog-1", blog.address)
            wait_until(lambda: _answer(port, "blog") == "blog", what="the new host has its name", seconds=60)
            etcdctl(etcd, "put", "/vhosts/shop/port", "no port")
            confpy.says("resource.failed", resource="vhosts:shop")
            etcdctl(etcd, "put", "/vhosts/blog/server_name", "blog.example.com")
            wait_until(lambda: _answer(port, "blog.example.com") == "blog", what="the good one follows", seconds=60)
            assert _answer(port, "shop.example.com") == "shop"
            etcdctl(etcd, "del", "--prefix", "/vhosts/blog/")
            names = {"shop.conf"}
            wait_until(lambda: {path.name for path in (tmp_path / "hosts").iterdir()} == names, what="its file is gone")
            wait_until(lambda: _answer(port, "blog.example.com") == "none", what="nginx has it no more", seconds=60)


@pytest.mark.parametrize("words", [("check", "-confdir", EXAMPLE), ("test", EXAMPLE / "tests")])
def test_the_example_passes_its_checks_and_its_own_tests(words: tuple[object, ...], tmp_path: Path) -> None:
    assert run_once(*map(str, words), folder=tmp_path).code == 0
