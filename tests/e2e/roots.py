"""Clean Debian roots, as on a machine on which nothing was installed: made once by mmdebstrap, then shared by tests.

    with Root(tmp_path) as root:
        root.take(deb)
        root.run("apt-get install -y ./confpy_0.1.0_all.deb")

Only root can make and enter them: ``needs_roots()`` skips a test elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.e2e.running import ROOT
from tests.run_as_user import needs, no_mounts, refused

CACHE = ROOT / ".cache" / "roots"
PACKAGES = ("ca-certificates", "pipx", "python3")
"""What the roots have beside Debian's essential packages: Python, and the tool that installs its programs."""
OF_PIP = ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST", "PIP_CERT", "PIP_DEFAULT_TIMEOUT")
PIP_CONF = ("/etc/pip.conf", "~/.config/pip/pip.conf", "~/.pip/pip.conf")
"""Where this machine says from which index pip installs; programs in a root use the same."""


def needs_roots() -> None:
    """Skip the test where no root can be made or entered; fail in CI."""
    if os.getuid():
        needs("only root can make a root")
    needs(no_mounts() or refused("unshare", "--mount", "--pid", "--fork", "true"))


def base(*packages: str, release: str = "bookworm") -> Path:
    """Return the folder of a minimal Debian with these packages (else ``PACKAGES``); nobody may change it.

    The first call makes it, from the mirror that this machine's apt uses, which takes a minute.
    """
    packages = tuple(sorted(packages or PACKAGES))
    folder = CACHE / "+".join((release, *packages))
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _make(folder, release, packages)
    return folder


class Root:
    """A clean Debian in namespaces of its own: what is changed and started there is gone afterwards.

    It shares this machine's network. Use it as a context.
    """

    def __init__(self, folder: Path, lower: Path | None = None) -> None:
        self._mounted = folder / "root"
        self._lower = lower or base()
        self._keeper: subprocess.Popen[str] | None = None
        self._started: list[subprocess.Popen[str]] = []

    @property
    def path(self) -> Path:
        """Its root directory as seen from here; absolute symbolic links in it lead outside."""
        assert self._keeper
        return Path(f"/proc/{self._keeper.pid}/root{self._mounted}")

    def __enter__(self) -> Self:
        here = self._mounted
        here.mkdir()
        script = (
            f"set -eu; mount -t tmpfs tmpfs {here}; mkdir {here}/upper {here}/work {here}/root; "
            f"layers=lowerdir={self._lower},upperdir={here}/upper,workdir={here}/work; "
            f"mount -t overlay overlay -o $layers {here}/root; "
            f"mount --move {here}/root /mnt; mount --move /mnt {here}; "
            f"mount -t proc proc {here}/proc; mount --bind /dev {here}/dev; mount -t tmpfs tmpfs {here}/run; "
            # Until this end of the pipe is closed, even if these tests are killed; then all processes in it are, too.
            "echo mounted; exec cat"
        )
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-c", script]
        self._keeper = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._keeper.stdout
        assert self._keeper.stdout.readline() == "mounted\n"
        self.take(Path("/etc/resolv.conf"), "etc")
        self.take(Path("/etc/ssl/certs/ca-certificates.crt"), "etc/ssl/certs")
        for name in PIP_CONF:
            if (path := Path(name).expanduser()).exists():
                self.take(path, "etc")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._keeper
        self._keeper.kill()
        for process in (self._keeper, *self._started):
            process.communicate()

    def take(self, source: Path, folder: str = "root") -> None:
        """Copy a file or folder of this machine into a folder there; by default the one in which commands run."""
        if source.is_dir():
            shutil.copytree(source, self.path / folder / source.name, symlinks=True)
        else:
            shutil.copy(source, self.path / folder)

    def command(self, script: str) -> list[str]:
        """Return the command that runs a script there, as root in ``/root``."""
        assert self._keeper
        namespaces = f"/proc/{self._keeper.pid}/ns"
        entered = ("nsenter", f"--mount={namespaces}/mnt", f"--pid={namespaces}/pid_for_children")
        return [*entered, "chroot", str(self._mounted), "/bin/sh", "-euc", f"cd /root\n{script}"]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the environment of a login there, with what pip needs, and ``more``."""
        own = {"HOME": "/root", "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive", "TERM": "dumb"}
        path = {"PATH": "/root/.local/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        network = {name: value for name, value in os.environ.items() if name in OF_PIP or name.endswith("_proxy")}
        return {**own, **path, **network, **(more or {})}

    def run(self, script: str, more: Mapping[str, str] | None = None, *, seconds: float = 120) -> str:
        """Run a script there, with more variables; return its stdout, and fail with its output if it fails."""
        how = {"capture_output": True, "text": True, "timeout": seconds}
        ended = subprocess.run(self.command(script), env=self.environment(more), check=False, **how)
        assert ended.returncode == 0, f"{script}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def start(self, script: str, more: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Start a script there, with stdout and stderr in one pipe; it ends with the root at the latest."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        process = subprocess.Popen(self.command(script), env=self.environment(more), text=True, **pipes)
        self._started.append(process)
        return process


def _make(folder: Path, release: str, packages: tuple[str, ...]) -> None:
    made = folder.with_name(f"{folder.name}.new")
    shutil.rmtree(made, ignore_errors=True)
    included = f"--include={','.join(packages)}"
    with tempfile.TemporaryDirectory() as memory:
        # In memory first: dpkg syncs each file, which takes twice as long on a disk.
        script = (
            f"mount -t tmpfs tmpfs {memory}; "
            f"mmdebstrap --variant=minbase {included} {release} {memory}/root {_mirror()}; cp -a {memory}/root {made}"
        )
        command = ["unshare", "--mount", "/bin/sh", "-euc", script]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ended.returncode == 0, f"mmdebstrap failed:\n{ended.stdout[-2000:]}{ended.stderr[-2000:]}"
    made.rename(folder)


def _mirror() -> str:
    """Return the address of the mirror that this machine's apt uses."""
    filters = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", *filters]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
    assert found, "apt has no lists of Debian packages: apt-get update"
    return found[0]
