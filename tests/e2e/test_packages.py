"""The packages that ``scripts/package`` builds, installed as a user would install them, and used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from confpy import __version__
from tests.e2e.running import ROOT

KIB = 1024


@pytest.fixture(scope="module")
def packages(tmp_path_factory) -> Path:
    """A folder with the wheel, the zipapp and the Debian package."""
    out = tmp_path_factory.mktemp("packages")
    command = [sys.executable, "build.py", "wheel", "zipapp", "deb", "--out", str(out)]
    subprocess.run(command, cwd=ROOT / "packaging", check=True, capture_output=True, timeout=300)
    return out


@pytest.fixture
def confdir(tmp_path) -> Path:
    for name, text in {
        "conf.d/web.toml": f'[template]\nsrc = "web.j2"\ndest = "{tmp_path}/web.conf"\nkeys = ["/web"]\n',
        "templates/web.j2": "listen {{ getv('/web/port') }}\n",
    }.items():
        path = tmp_path / "confdir" / name
        path.parent.mkdir(parents=True)
        path.write_text(text)
    return tmp_path / "confdir"


def run(*command: str | Path, env: dict[str, str] | None = None) -> str:
    """Run a command in an environment without a trace of this one; return what it prints."""
    clean = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **(env or {})}
    ended = subprocess.run(command, env=clean, cwd="/", capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def delivers(confpy: list[str | Path], confdir: Path) -> bool:
    """Say whether this command renders a file from the environment."""
    state = ("-state-dir", confdir.parent / "state", "-cache-dir", confdir.parent / "cache")
    run(*confpy, "-onetime", "-backend", "env", "-confdir", confdir, *state, env={"WEB_PORT": "8080"})
    return (confdir.parent / "web.conf").read_text() == "listen 8080\n"


def test_pip_installs_the_wheel_into_an_empty_environment(packages, tmp_path, confdir):
    (wheel,) = packages.glob("*.whl")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    environment = {name: value for name, value in os.environ.items() if name.lower().startswith(("pip_", "http"))}
    run(tmp_path / "venv/bin/pip", "install", "--quiet", wheel, env={**environment, "HOME": os.environ["HOME"]})
    assert run(tmp_path / "venv/bin/confpy", "version") == f"confpy {__version__}\n"
    assert delivers([tmp_path / "venv/bin/confpy"], confdir)


def test_the_zipapp_needs_nothing_but_python(packages, confdir):
    assert (packages / "confpy.pyz").stat().st_size < 6 * KIB * KIB
    # Isolated, and without the folders of installed packages.
    python = [sys.executable, "-IS"]
    assert delivers([*python, packages / "confpy.pyz"], confdir)
    run(*python, packages / "confpy.pyz", "init", "haproxy", confdir.parent / "new")
    run(*python, packages / "confpy.pyz", "check", "-confdir", confdir.parent / "new")
    loaded = "import sys; sys.path.insert(0, sys.argv[1]); import etcd3gw, consul, watchdog.observers, yaml, structlog"
    run(*python, "-c", loaded, packages / "confpy.pyz")


@pytest.fixture
def root(tmp_path):
    """A root of its own over this machine's: what is installed into it is gone afterwards."""
    if os.getuid() or not shutil.which("dpkg"):
        pytest.skip("only root can install a Debian package")
    return Root(tmp_path)


class Root:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def run(self, script: str) -> str:
        """Run a script as root of a Debian whose changes last as long as it."""
        layers = self._folder / "layers"
        layers.mkdir(exist_ok=True)
        mounts = (
            f"mount -t tmpfs tmpfs {layers}; mkdir {layers}/upper {layers}/work {layers}/root; "
            # What this machine has of confpy is not there: a device 0:0 hides it (kernel, overlayfs.rst, "whiteouts").
            f"mkdir -p {layers}/upper/var/lib {layers}/upper/var/cache; "
            f"for one in lib cache; do mknod {layers}/upper/var/$one/confpy c 0 0; done; "
            f"mount -t overlay overlay -o lowerdir=/,upperdir={layers}/upper,workdir={layers}/work {layers}/root; "
            f"mount -t proc proc {layers}/root/proc; mount --bind /dev {layers}/root/dev; "
            f"mount --bind {self._folder} {layers}/root/mnt; "
        )
        quiet = "export DEBIAN_FRONTEND=noninteractive; "
        command = f"set -eu; {mounts} exec chroot {layers}/root /bin/sh -euc '{quiet}{script}'"
        return run("unshare", "--mount", "--pid", "--fork", "/bin/sh", "-c", command)


def test_the_debian_package_is_installed_upgraded_removed_and_purged_without_a_trace(packages, tmp_path, root):
    (deb,) = packages.glob("*.deb")
    shutil.copy(deb, tmp_path / "confpy.deb")
    said = root.run(
        """
        # By name: other programs of the machine change these folders, too.
        list() { find /etc /usr /lib /var -xdev -path "*confpy*" -not -path "/var/lib/dpkg/*" | sort; }
        mkdir -p /etc/confd/conf.d /etc/confd/templates
        printf "%s\\n" "[template]" "src = \\"b.tmpl\\"" "dest = \\"/tmp/b\\"" > /etc/confd/conf.d/b.toml
        echo text of confd > /etc/confd/templates/b.tmpl
        list > /tmp/before
        dpkg -i /mnt/confpy.deb > /tmp/dpkg 2>&1 || { cat /tmp/dpkg; exit 1; }
        grep -c "/etc/confd has resources" /tmp/dpkg
        confpy version
        confpy init nginx /tmp/new > /dev/null
        confpy check -confdir /tmp/new
        find /usr/lib/confpy/confpy -name "daemon*.pyc" | wc -l
        printf "%s\\n" "[template]" "src = \\"a.j2\\"" "dest = \\"/tmp/a\\"" > /etc/confpy/conf.d/a.toml
        echo text > /etc/confpy/templates/a.j2
        confpy -onetime -backend env
        cat /tmp/a
        echo "backend = \\"env\\"" >> /etc/confpy/confpy.toml
        dpkg --force-confdef --force-confold -i /mnt/confpy.deb > /tmp/dpkg 2>&1
        tail -n 1 /etc/confpy/confpy.toml
        echo "confdir = \\"/etc/confd\\"" >> /etc/confpy/confpy.toml
        confpy -onetime
        cat /tmp/b
        man -w confpy > /dev/null || test ! -e /usr/bin/man
        dpkg --remove confpy > /tmp/dpkg 2>&1
        test -e /etc/confpy/confpy.toml
        test ! -e /usr/lib/confpy
        rm /etc/confpy/conf.d/a.toml /etc/confpy/templates/a.j2
        dpkg --purge confpy > /tmp/dpkg 2>&1
        list > /tmp/after
        diff /tmp/before /tmp/after
        """
    )
    checked = "1 resource checked: no mistakes found"
    assert said.splitlines() == ["1", f"confpy {__version__}", checked, "1", "text", 'backend = "env"', "text of confd"]
