"""The image that the Dockerfile builds, run by a real Docker: alone, and beside HAProxy in a container of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from confpy import __version__
from tests.e2e.roots import base, needs_roots
from tests.e2e.running import ROOT
from tests.servers.docker import Docker
from tests.servers.images import HAPROXY_TEMPLATE, added_size, root_with
from tests.servers.traffic import ask
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(400)  # with a root and an image to make

MIB = 1024 * 1024
BASE = "python:3.11-slim"
LEFT_OUT = ("./usr/share/doc", "./usr/share/man", "./usr/share/locale", "./var/lib/apt/lists", "./var/cache", "./dev")
"""What a slim image has not; each layer of these tests is a copy of the whole root."""
CONSTRAINED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=10001:10001")

RESOURCE = """
[template]
src = "haproxy.cfg.j2"
dest = "/etc/haproxy/haproxy.cfg"
keys = ["/web"]
reload_socket = "unix:/etc/haproxy/master.sock reload"
"""


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    """A folder with the wheels of what an installation of confpy asks for, for the Python of the base."""
    folder = tmp_path_factory.mktemp("wheels")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    options = ("--quiet", "--only-binary=:all:", "--python-version=3.11", f"--dest={folder}")
    subprocess.run([sys.executable, "-m", "pip", "download", *options, *wanted], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def image(docker, wheels, tmp_path_factory) -> str:
    """The image ``confpy``, built on a Debian with Python under the name of the real base."""
    needs_roots()
    folder = tmp_path_factory.mktemp("image")
    root = folder / "base.tar"
    excluded = [f"--exclude={path}/*" for path in LEFT_OUT]
    subprocess.run(["tar", "-C", base(), *excluded, "-cf", root, "."], check=True, timeout=100)
    docker.import_image(BASE, root, 'CMD ["python3"]')
    context = folder / "context"
    shutil.copytree(ROOT / "confpy", context / "confpy", ignore=shutil.ignore_patterns("__pycache__"))
    for name in (".dockerignore", "Dockerfile", "LICENSE", "README.md", "pyproject.toml"):
        shutil.copy(ROOT / name, context)
    shutil.copytree(wheels, context / "dist" / "wheels")
    settings = {
        "PYTHON": BASE.partition(":")[2],
        "VERSION": __version__,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": "dist/wheels",
    }
    arguments = [f"--build-arg={name}={value}" for name, value in settings.items()]
    docker.call("build", "--tag=confpy", *arguments, str(context), timeout=300)
    return "confpy"


def inspect(docker: Docker, name: str) -> Any:
    return json.loads(docker.call("inspect", name).stdout)[0]


def test_the_image_says_what_it_is_and_adds_less_than_25_mib_to_its_base(docker, image, tmp_path):
    config = inspect(docker, image)["Config"]
    assert config["Labels"]["org.opencontainers.image.version"] == __version__
    assert (config["User"], config["StopSignal"]) == ("10001:10001", "SIGTERM")
    assert docker.call("run", "--rm", image, "version").stdout == f"confpy {__version__}\n"
    assert added_size(docker, image, BASE, tmp_path) < 25 * MIB


def test_the_image_has_bytecode_of_all_its_modules_and_trusts_the_usual_authorities(docker, image):
    script = (
        "import importlib.util, pathlib, ssl\n"
        "sources = [path for path in pathlib.Path('/opt/confpy').rglob('*.py')]\n"
        "bare = [path for path in sources if not pathlib.Path(importlib.util.cache_from_source(path)).exists()]\n"
        "print(len(sources) > 500, bare, len(ssl.create_default_context().get_ca_certs()) > 50)\n"
    )
    python = ("--rm", "--entrypoint=/opt/confpy/bin/python", image)
    assert docker.call("run", *python, "-c", script).stdout == "True [] True\n"


def container(docker: Docker, *options: str) -> str:
    """Start a container in the background, return its name; those of a test are removed with the engine."""
    return docker.call("run", "--detach", *CONSTRAINED, *options).stdout.strip()


def log(docker: Docker, name: str) -> str:
    ended = docker.call("logs", name)
    return ended.stdout + ended.stderr


def owned(path: Path) -> Path:
    """Make a folder for the user of the image."""
    path.mkdir()
    shutil.chown(path, 10001, 10001)
    return path


def test_beside_haproxy_in_a_container_of_its_own_the_image_follows_etcd_and_reloads_it(docker, image, etcd, tmp_path):
    docker.import_image("haproxy:2.6", root_with(tmp_path / "haproxy", "haproxy"))
    confdir = tmp_path / "confdir"
    for name, text in {"conf.d/haproxy.toml": RESOURCE, "templates/haproxy.cfg.j2": HAPROXY_TEMPLATE}.items():
        (confdir / name).parent.mkdir(parents=True)
        (confdir / name).write_text(text)
    shared = owned(tmp_path / "shared")
    etcd.put("/web/text", "first")
    node = f"http://{docker.relay(etcd.port)}"
    options = (
        f"--volume={confdir}:/etc/confpy:ro", f"--volume={shared}:/etc/haproxy", "--health-interval=1s",
        "--tmpfs=/run/confpy:uid=10001,mode=0700",
    )  # fmt: skip
    confpy = container(docker, *options, image, "-watch", "-backend=etcdv3", f"-node={node}")
    wait_until((shared / "haproxy.cfg").exists, what="the first delivery")
    assert docker.call("exec", confpy, "cat", "/proc/1/comm").stdout == "confpy\n"
    haproxy = container(
        docker, f"--volume={shared}:/etc/haproxy", f"--publish={docker.address}::8080", "haproxy:2.6",
        "haproxy", "-W", "-db", "-S", "/etc/haproxy/master.sock", "-f", "/etc/haproxy/haproxy.cfg",
    )  # fmt: skip
    port = int(docker.call("port", haproxy, "8080").stdout.rpartition(":")[2])
    wait_until(lambda: ask(port, address=docker.address) == (200, "first"), what="HAProxy answers")
    wait_until(lambda: inspect(docker, confpy)["State"]["Health"]["Status"] == "healthy", what="it is healthy")
    etcd.put("/web/text", "second")
    wait_until(lambda: ask(port, address=docker.address) == (200, "second"), what=log(docker, confpy))
    docker.call("stop", confpy)
    assert inspect(docker, confpy)["State"]["ExitCode"] == 0
    assert (shared / "haproxy.cfg").stat().st_uid == 10001


def test_the_image_ends_with_the_exit_code_and_by_the_signals_that_the_manual_names(docker, image, tmp_path):
    assert docker.call("run", "--rm", *CONSTRAINED, image, "-no-such-flag", check=False).returncode == 2
    empty = ("--tmpfs=/etc/confpy/conf.d", image, "-watch", "-backend=env", "-interval=1")
    for signal in ("TERM", "INT", "QUIT"):
        name = container(docker, *empty)
        wait_until(lambda name=name: "confpy.started" in log(docker, name), what=log(docker, name))
        docker.call("kill", f"--signal={signal}", name)
        assert docker.call("wait", name).stdout == "0\n"
