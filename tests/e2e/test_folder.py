"""The self-contained folder, where there is no Python: in a root with a C library alone, and in an image of HAProxy."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from confpy import __version__
from tests.e2e import folders
from tests.e2e.running import ROOT
from tests.run_as_user import needs
from tests.servers.images import HAPROXY_TEMPLATE, root_with
from tests.servers.ports import free_port
from tests.servers.program import find
from tests.servers.traffic import ask
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(900)  # its Python is built, where the build in the background has not ended

MIB = 1024 * 1024
IMPORT_ALL = """
import importlib, pkgutil, sys
import confpy, consul, ctypes, dns.resolver, etcd3gw, jinja2, prometheus_client, ssl, structlog, yaml
import watchdog.observers
extras = ("confpy.stores.redis.", "confpy.stores.zookeeper.")  # their libraries are not in the folder
for module in pkgutil.walk_packages(confpy.__path__, "confpy."):
    if not (module.name.endswith("__main__") or module.name.startswith(extras)):
        importlib.import_module(module.name)
print(sys.path, len(sys.modules) > 300)
"""
PAGE = """
[template]
src = "page.j2"
dest = "/www/index.html"
keys = ["/web"]
"""
HAPROXY = """
[template]
src = "haproxy.cfg.j2"
dest = "/etc/haproxy/haproxy.cfg"
keys = ["/web"]
check_cmd = "haproxy -c -f {{.src}}"
reload_signal = "USR2"
verify = "haproxy"
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """The archive with the folder."""
    needs(folders.missing())
    return folders.build(tmp_path_factory.mktemp("archive"))


@pytest.fixture
def root(archive, tmp_path) -> Path:
    """A root with a shell, a C library, and the folder in a place of its own; nobody has mounted /proc."""
    if os.geteuid():
        pytest.skip("only root can enter another root")
    folder = root_with(tmp_path / "root")
    with tarfile.open(archive) as packed:
        packed.extractall(folder / "opt", filter="tar")
    (folder / "bin" / "confpy").symlink_to("/opt/confpy/bin/confpy")
    return folder


def put(confdir: Path, resource: str, template: str, text: str) -> None:
    for path, written in ((confdir / "conf.d" / "web.toml", resource), (confdir / "templates" / template, text)):
        path.parent.mkdir(parents=True)
        path.write_text(written)


def run(root: Path, *command: str, **variables: str) -> str:
    """Run a command in the root, with these variables and none else; return what it prints."""
    ended = subprocess.run(
        [find("chroot"), root, *command], env=variables, capture_output=True, text=True, timeout=100, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_the_folder_is_smaller_than_40_mib_and_needs_nothing_but_a_c_library(archive, root):
    assert archive.stat().st_size < 40 * MIB
    # Variables for Python, and what lies in the folder where it is called, change nothing.
    hostile = {"PYTHONHOME": "/nowhere", "PYTHONPATH": "/tmp"}
    (root / "tmp" / "confpy.py").write_text("raise SystemExit(99)")
    assert run(root, "/bin/confpy", "version", **hostile) == f"confpy {__version__}\n"
    assert run(root, "/bin/sh", "-c", "cd /tmp && confpy version", PATH="/bin") == f"confpy {__version__}\n"
    shutil.move(root / "opt" / "confpy", root / "moved")
    python = ("/moved/bin/python", "-c", IMPORT_ALL)
    assert run(root, *python, **hostile) == "['/moved/lib'] True\n"
    trusted = "from confpy.http.tls import Trust; print(Trust().context().cert_store_stats()['x509_ca'] > 50)"
    assert run(root, "/moved/bin/python", "-c", trusted) == "True\n"
    put(root / "etc" / "confpy", PAGE, "page.j2", "{{ getv('/web/text') }} é")
    (root / "www").mkdir()
    run(root, "/moved/bin/confpy", "-onetime", "-backend=env", WEB_TEXT="once")
    assert (root / "www" / "index.html").read_text() == "once é"
    assert [path for path in (root / "moved").rglob("*") if path.suffix == ".py"] == []


def test_a_daemon_in_the_folder_follows_etcd_and_runs_a_program(root, etcd):
    put(root / "etc" / "confpy", PAGE, "page.j2", "{{ getv('/web/text') }}")
    (root / "www").mkdir()
    etcd.put("/web/text", "first")
    port = free_port()
    program = ("/bin/httpd", "-f", "-p", f"127.0.0.1:{port}", "-h", "/www")
    watching = ("/bin/confpy", "-watch", "-backend=etcdv3", f"-node=http://127.0.0.1:{etcd.port}", "-exec", *program)
    with (root / "log").open("w") as log:
        confpy = subprocess.Popen([find("chroot"), root, *watching], env={"PATH": "/bin"}, stdout=log, stderr=log)
    try:
        wait_until(
            lambda: confpy.poll() is not None or ask(port) == (200, "first"), what="the program serves the target"
        )
        etcd.put("/web/text", "second")
        wait_until(lambda: confpy.poll() is not None or ask(port) == (200, "second"), what="the target follows")
        assert confpy.poll() is None, (root / "log").read_text()
        assert "1 resource: 1 current" in run(root, "/bin/confpy", "status")
    finally:
        confpy.terminate()
        code = confpy.wait(30)
    assert code == 0, (root / "log").read_text()


def test_copied_into_an_image_of_haproxy_as_the_example_does_confpy_runs_and_reloads_it(
    docker, archive, etcd, tmp_path
):
    docker.call("import", str(archive), "confpy-folder:glibc")
    haproxy = root_with(tmp_path / "haproxy", "haproxy")
    with (haproxy / "etc" / "passwd").open("a") as users:
        users.write("haproxy:x:99:99::/var/empty:/bin/sh\n")
    docker.import_image("haproxy:3.0", haproxy)
    put(tmp_path / "confdir", HAPROXY, "haproxy.cfg.j2", HAPROXY_TEMPLATE)
    example = ROOT / "examples" / "images" / "haproxy.Dockerfile"
    docker.call("build", "--tag=web", f"--file={example}", str(tmp_path / "confdir"), timeout=300)
    node = f"http://{docker.relay(etcd.port)}"
    command = (
        "-watch",
        "-backend=etcdv3",
        f"-node={node}",
        "-exec",
        "haproxy",
        "-W",
        "-db",
        "-f",
        "/etc/haproxy/haproxy.cfg",
    )
    name = docker.call("run", "--detach", f"--publish={docker.address}::8080", "web", *command).stdout.strip()
    published = docker.call("port", name, "8080", check=False).stdout
    assert published, docker.call("logs", name).stderr
    port = int(published.rpartition(":")[2])
    for text in ("first", "second"):
        etcd.put("/web/text", text)
        try:
            wait_until(lambda text=text: ask(port, address=docker.address) == (200, text), what=f"it answers {text}")
        except AssertionError as error:
            raise AssertionError(docker.call("logs", name).stderr) from error
    docker.call("exec", name, "confpy", "status")
    docker.call("stop", name)
    assert docker.call("wait", name).stdout == "0\n"
